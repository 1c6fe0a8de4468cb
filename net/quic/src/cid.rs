//! Connection ids that name their core, and the arithmetic that reads it back.
//!
//! Every data core owns one socket of a `SO_REUSEPORT` group. The kernel runs a
//! classic-BPF program on each datagram, and that program, the forwarding lane
//! and this module must agree on one function, [`Steering::core_of_word`]:
//!
//! ```text
//! w    = the first four bytes of the destination connection id, big endian
//! core = ((((w ^ k0) * k1 mod 2^32) >> 16) * cores) >> 16        k1 odd, cores <= 4096
//! ```
//!
//! XOR with `k0` and multiplication by an odd `k1` are both bijections of the
//! 32-bit words, so uniformly random words give uniformly random cores and the
//! top sixteen bits of the product depend on every bit of the word.
//!
//! **Obscured, not authenticated.** The core is hidden from someone who merely
//! watches: two ids of one connection share nothing visible, because all eight
//! bytes are random and only a keyed function of four of them is constrained
//! (RFC 9000 §5.1 asks that ids not be linkable). The keys are handed to
//! authenticated clients so that they can aim at a core, and 32-bit arithmetic
//! that BPF can compute is no cipher: a determined observer can recover the keys.
//! What that buys an attacker is the choice of a core, which any client has by
//! design; admission limits are therefore per core, and nothing is ever trusted
//! because of the connection id it carries.

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Length of every connection id a server issues, and of a client's first
/// destination id (RFC 9000 §7.2 asks for at least eight bytes there). The
/// steering word uses four; the rest keeps ids unique and unguessable.
pub const CID_LEN: usize = 8;

/// Most cores one steering word can tell apart: with sixteen bits left after
/// the shift, 4096 cores still differ by at most 1/16 in their share.
pub const CORES_MAX: u16 = 4096;

/// Why a [`Steering`] was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SteeringError {
    /// Multiplication by an even number loses words: some core would get none.
    #[error("steering key k1 must be odd, got {k1:#x}")]
    EvenMultiplier {
        /// The refused key.
        k1: u32,
    },
    /// Zero cores, or more than [`CORES_MAX`].
    #[error("steering needs 1..={CORES_MAX} cores, got {cores}")]
    Cores {
        /// The refused count.
        cores: u16,
    },
    /// The core does not exist.
    #[error("core {core} is outside 0..{cores}")]
    Core {
        /// The refused core.
        core: u16,
        /// How many there are.
        cores: u16,
    },
}

/// The node-wide steering function: equal on every core, in the BPF program,
/// and in clients that choose their core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steering {
    k0: u32,
    k1: u32,
    cores: u16,
}

impl Steering {
    /// The function for these keys. `k1` must be odd and `cores` in
    /// `1..=CORES_MAX`.
    pub fn new(k0: u32, k1: u32, cores: u16) -> Result<Self, SteeringError> {
        if k1 & 1 == 0 {
            return Err(SteeringError::EvenMultiplier { k1 });
        }
        if cores == 0 || cores > CORES_MAX {
            return Err(SteeringError::Cores { cores });
        }
        Ok(Self { k0, k1, cores })
    }

    /// Keys drawn from `seed`, for a node that starts.
    pub fn from_seed(seed: [u8; 32], cores: u16) -> Result<Self, SteeringError> {
        let mut rng = StdRng::from_seed(seed);
        Self::new(rng.next_u32(), rng.next_u32() | 1, cores)
    }

    /// XOR key.
    pub fn k0(&self) -> u32 {
        self.k0
    }

    /// Odd multiplier.
    pub fn k1(&self) -> u32 {
        self.k1
    }

    /// How many data cores share the port.
    pub fn cores(&self) -> u16 {
        self.cores
    }

    /// The core that owns ids starting with `word` (big endian).
    #[inline]
    pub fn core_of_word(&self, word: u32) -> u16 {
        let mixed = (word ^ self.k0).wrapping_mul(self.k1) >> 16;
        let core = (mixed * u32::from(self.cores)) >> 16;
        #[allow(clippy::cast_possible_truncation)] // mixed < 2^16, so core < cores <= 4096
        let core = core as u16;
        core
    }

    /// The core that owns `cid`, or `None` when it is shorter than the word.
    #[inline]
    pub fn core_of_cid(&self, cid: &[u8]) -> Option<u16> {
        let word = cid.first_chunk::<4>()?;
        Some(self.core_of_word(u32::from_be_bytes(*word)))
    }

    /// The core that owns a UDP payload, read exactly as the BPF program reads
    /// it: a long header's destination id starts at byte 6, a short one's at
    /// byte 1 (RFC 8999 §5). `None` when the payload is too short to tell.
    #[inline]
    pub fn owner(&self, datagram: &[u8]) -> Option<u16> {
        let start = if datagram.first()? & 0x80 != 0 { 6 } else { 1 };
        self.core_of_cid(datagram.get(start..)?)
    }

    /// An id for `core`, by rejection sampling: random ids until one falls on
    /// the core, `cores` tries on average.
    ///
    /// # Panics
    /// When `core` is not below [`cores`](Self::cores): no id would ever fit.
    pub fn cid_for_core(&self, core: u16, random: &mut impl Rng) -> [u8; CID_LEN] {
        assert!(
            core < self.cores,
            "core {core} is outside 0..{}",
            self.cores
        );
        let mut cid = [0; CID_LEN];
        loop {
            random.fill_bytes(&mut cid);
            if self.core_of_cid(&cid) == Some(core) {
                return cid;
            }
        }
    }
}

/// Issues ids that all map to one core. Owned by that core's endpoint.
pub(crate) struct CoreCids {
    steering: Steering,
    core: u16,
    rng: StdRng,
}

impl CoreCids {
    pub(crate) fn new(
        steering: Steering,
        core: u16,
        seed: [u8; 32],
    ) -> Result<Self, SteeringError> {
        if core >= steering.cores {
            return Err(SteeringError::Core {
                core,
                cores: steering.cores,
            });
        }
        Ok(Self {
            steering,
            core,
            rng: StdRng::from_seed(seed),
        })
    }
}

impl ConnectionIdGenerator for CoreCids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.steering.cid_for_core(self.core, &mut self.rng))
    }

    // A short packet whose id belongs to another core cannot be ours: refuse it
    // before a stateless reset is computed, for the owner may know it well.
    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        if self.steering.core_of_cid(cid) == Some(self.core) {
            Ok(())
        } else {
            Err(InvalidCid)
        }
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    // No rotation by time: ids change with the path, which is what linkability
    // is about, and a rotation timer would wake ten thousand idle connections.
    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_a_core_issues_leads_back_to_it(k0: u32, k1: u32, cores in 1u16..=64, pick: u16, seed: [u8; 32]) {
            let steering = Steering::new(k0, k1 | 1, cores).unwrap();
            let core = pick % cores;
            let mut cids = CoreCids::new(steering, core, seed).unwrap();
            for _ in 0..8 {
                let cid = cids.generate_cid();
                prop_assert_eq!(cid.len(), CID_LEN);
                prop_assert_eq!(steering.core_of_cid(&cid), Some(core));
                prop_assert!(cids.validate(&cid).is_ok());
            }
        }

        #[test]
        fn both_header_forms_lead_to_the_same_core(k0: u32, k1: u32, cores in 1u16..=4096, cid: [u8; 8], rest: [u8; 20]) {
            let steering = Steering::new(k0, k1 | 1, cores).unwrap();
            let mut long = vec![0xc3, 0, 0, 0, 1, 8];
            long.extend_from_slice(&cid);
            long.extend_from_slice(&rest);
            let mut short = vec![0x43];
            short.extend_from_slice(&cid);
            short.extend_from_slice(&rest);
            prop_assert_eq!(steering.owner(&long), steering.core_of_cid(&cid));
            prop_assert_eq!(steering.owner(&short), steering.core_of_cid(&cid));
            prop_assert!(steering.owner(&long).unwrap() < cores);
        }

        #[test]
        fn random_words_spread_evenly(k0: u32, k1: u32, cores in 2u16..=16, seed: [u8; 32]) {
            let steering = Steering::new(k0, k1 | 1, cores).unwrap();
            let mut rng = StdRng::from_seed(seed);
            let mut hits = vec![0u32; usize::from(cores)];
            let draws = 2_000 * u32::from(cores);
            for _ in 0..draws {
                hits[usize::from(steering.core_of_word(rng.next_u32()))] += 1;
            }
            // Binomial with mean 2000 and deviation below 45: seven deviations.
            for (core, hit) in hits.iter().enumerate() {
                prop_assert!((1_685..=2_315).contains(hit), "core {} got {} of {}", core, hit, draws);
            }
        }
    }

    // Golden values for whoever computes the function elsewhere (BPF, another client):
    // 0x01020304 ^ 0x11111111 = 0x10131215; * 0x9e3779b1 = 0x..f93e6d85;
    // >> 16 = 0xf93e = 63806; 63806 * 6 = 382836; >> 16 = 5.
    #[test]
    fn arithmetic_is_the_published_one() {
        let steering = Steering::new(0x1111_1111, 0x9e37_79b1, 6).unwrap();
        let golden = [
            (0x0102_0304, 5),
            (0x0000_0000, 0),
            (0xffff_ffff, 2),
            (0x8000_0000, 3),
            (0xdead_beef, 2),
        ];
        for (word, core) in golden {
            assert_eq!(steering.core_of_word(word), core, "{word:#x}");
        }
        assert_eq!(steering.owner(&[0x40, 1, 2, 3, 4]), Some(5));
        assert_eq!(steering.owner(&[0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4]), Some(5));
    }

    #[test]
    fn too_short_a_datagram_has_no_owner() {
        let steering = Steering::new(1, 3, 4).unwrap();
        assert_eq!(steering.owner(&[]), None);
        assert_eq!(steering.owner(&[0x40, 1, 2, 3]), None);
        assert_eq!(steering.owner(&[0xc0, 0, 0, 0, 1, 8, 1, 2, 3]), None);
    }

    #[test]
    fn keys_that_cannot_steer_are_refused() {
        assert_eq!(
            Steering::new(0, 2, 1),
            Err(SteeringError::EvenMultiplier { k1: 2 })
        );
        assert_eq!(
            Steering::new(0, 1, 0),
            Err(SteeringError::Cores { cores: 0 })
        );
        assert_eq!(
            Steering::new(0, 1, 4097),
            Err(SteeringError::Cores { cores: 4097 })
        );
        let two = Steering::new(0, 1, 2).unwrap();
        assert_eq!(
            CoreCids::new(two, 2, [0; 32]).err(),
            Some(SteeringError::Core { core: 2, cores: 2 })
        );
    }
}
