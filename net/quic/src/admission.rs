//! Who may begin a handshake (R22). Pure: facts and `now` in, a verdict out.
//!
//! In order, the first that applies:
//! 1. draining, or `connections_max` reached → **refuse** (a small, clear answer);
//! 2. the address has not proved itself, and either `retry_above` handshakes are
//!    under way or its prefix used up its unproven allowance → **Retry**: stateless,
//!    smaller than the Initial, and a spoofed source never sees it;
//! 3. the address has proved itself but its prefix used up its proven allowance →
//!    **refuse**;
//! 4. `handshakes_max` handshakes are under way → **ignore**: no answer costs least,
//!    and the client's own retransmission tries again when there is room.
//!
//! A prefix has two allowances so that a flood with forged sources, which can only
//! ever spend the unproven one, does not lock out the real clients behind that prefix.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How much one endpoint (one core) takes on.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections in any state. Each idle one costs at most 48 KiB (R24;
    /// 22 KiB measured), so 16,384 stay under 768 MiB; derive it from the memory budget.
    pub connections_max: usize,
    /// Most handshakes under way, hard. Each costs an ECDSA signature and about
    /// 27 KiB; higher lets a flood take more of the core.
    pub handshakes_max: usize,
    /// Handshakes under way above which unproven addresses must answer a Retry.
    /// Lower costs honest clients a round trip sooner; higher lets forged sources
    /// occupy more handshakes.
    pub retry_above: usize,
    /// A handshake that takes longer is given up. Two lost flights fit in 10 s;
    /// longer lets silent peers hold handshake places.
    pub handshake_timeout: Duration,
    /// Handshakes a prefix may begin at once before its rate applies. Large enough
    /// for an office or a rack that reconnects together.
    pub prefix_burst: u32,
    /// Handshakes a second a prefix may begin after its burst is spent.
    pub prefix_rate: u32,
    /// Prefixes remembered at once (32 bytes each, allocated once). When more are
    /// active the fullest allowance nearby is forgotten, which forgets least.
    pub prefixes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            handshakes_max: 1024,
            retry_above: 128,
            handshake_timeout: Duration::from_secs(10),
            prefix_burst: 512,
            prefix_rate: 256,
            prefixes_max: 4096,
        }
    }
}

/// What to do with a client's first Initial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Retry,
    Refuse(Refusal),
    Ignore,
}

/// Why a connection attempt was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Draining,
    Full,
    Prefix,
}

/// What is known about an attempt when the verdict is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) ip: IpAddr,
    /// The address came back with a Retry or NEW_TOKEN token (RFC 9000 §8.1).
    pub(crate) proven: bool,
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
}

/// Admission state of one core.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    refuse_new: bool,
    prefixes: Prefixes,
}

impl Admission {
    pub(crate) fn new(limits: Limits, key: [u8; 32]) -> Self {
        let prefixes = Prefixes::new(&limits, key);
        Self {
            limits,
            refuse_new: false,
            prefixes,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn refuse_new(&mut self, refuse: bool) {
        self.refuse_new = refuse;
    }

    pub(crate) fn judge(&mut self, now: Instant, attempt: Attempt) -> Verdict {
        if self.refuse_new {
            return Verdict::Refuse(Refusal::Draining);
        }
        if attempt.connections >= self.limits.connections_max {
            return Verdict::Refuse(Refusal::Full);
        }
        if !attempt.proven && attempt.handshakes >= self.limits.retry_above {
            return Verdict::Retry;
        }
        // Checked before the allowance is spent: an ignored attempt costs nothing.
        if attempt.handshakes >= self.limits.handshakes_max {
            return Verdict::Ignore;
        }
        // A loopback source cannot be forged from outside the machine.
        if attempt.ip.is_loopback() || self.prefixes.spend(now, attempt.ip, attempt.proven) {
            return Verdict::Accept;
        }
        if attempt.proven {
            Verdict::Refuse(Refusal::Prefix)
        } else {
            Verdict::Retry
        }
    }
}

/// Entries that share one place in the table. Four make a lookup one cache line pair.
const WAYS: usize = 4;

/// Allowances are counted in thousandths so that slow rates refill smoothly.
const MILLI: u32 = 1000;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Zero = empty; otherwise a keyed hash of the prefix, so the table neither
    /// stores addresses nor can be aimed at.
    tag: u64,
    milli: [u32; 2],
    /// Milliseconds since `origin` when the allowances were last filled.
    filled_ms: u64,
}

/// Token buckets by /24 (IPv4) or /56 (IPv6), in a fixed table.
#[derive(Debug)]
struct Prefixes {
    key: [u8; 32],
    entries: Vec<Entry>,
    burst_milli: u32,
    rate: u32,
    origin: Option<Instant>,
}

impl Prefixes {
    fn new(limits: &Limits, key: [u8; 32]) -> Self {
        let sets = limits.prefixes_max.div_ceil(WAYS).max(1);
        let empty = Entry {
            tag: 0,
            milli: [0; 2],
            filled_ms: 0,
        };
        Self {
            key,
            entries: vec![empty; sets * WAYS],
            burst_milli: u32::try_from(u64::from(limits.prefix_burst) * u64::from(MILLI))
                .unwrap_or(u32::MAX),
            rate: limits.prefix_rate,
            origin: None,
        }
    }

    /// Takes one from the allowance of `ip`'s prefix; false when none is left.
    fn spend(&mut self, now: Instant, ip: IpAddr, proven: bool) -> bool {
        let origin = *self.origin.get_or_insert(now);
        let now_ms =
            u64::try_from(now.saturating_duration_since(origin).as_millis()).unwrap_or(u64::MAX);
        let tag = self.tag(ip);
        let sets = self.entries.len() / WAYS;
        let first = usize::try_from(tag % sets as u64).expect("less than a length") * WAYS;
        let (burst, rate) = (self.burst_milli, self.rate);
        let set = &mut self.entries[first..first + WAYS];

        let entry = match set.iter().position(|entry| entry.tag == tag) {
            Some(found) => &mut set[found],
            None => {
                // An empty place first, otherwise the prefix that spent least.
                let victim = set
                    .iter_mut()
                    .max_by_key(|entry| {
                        (
                            entry.tag == 0,
                            u64::from(entry.milli[0]) + u64::from(entry.milli[1]),
                        )
                    })
                    .expect("a set has ways");
                *victim = Entry {
                    tag,
                    milli: [burst; 2],
                    filled_ms: now_ms,
                };
                victim
            }
        };
        let gained = now_ms
            .saturating_sub(entry.filled_ms)
            .saturating_mul(u64::from(rate));
        entry.filled_ms = now_ms;
        for allowance in &mut entry.milli {
            let filled = u64::from(*allowance)
                .saturating_add(gained)
                .min(u64::from(burst));
            *allowance = u32::try_from(filled).expect("capped at the burst");
        }
        let allowance = &mut entry.milli[usize::from(proven)];
        match allowance.checked_sub(MILLI) {
            Some(left) => {
                *allowance = left;
                true
            }
            None => false,
        }
    }

    fn tag(&self, ip: IpAddr) -> u64 {
        // SipHash under a secret prefix: collisions cannot be computed from outside.
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.key);
        match ip.to_canonical() {
            IpAddr::V4(v4) => hasher.write(&v4.octets()[..3]),
            IpAddr::V6(v6) => hasher.write(&v6.octets()[..7]),
        }
        hasher.finish().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(ip: &str, proven: bool, handshakes: usize) -> Attempt {
        Attempt {
            ip: ip.parse().expect("test address"),
            proven,
            connections: 0,
            handshakes,
        }
    }

    fn small() -> Limits {
        Limits {
            prefix_burst: 3,
            prefix_rate: 2,
            prefixes_max: 8,
            handshakes_max: 10,
            retry_above: 5,
            ..Limits::default()
        }
    }

    #[test]
    fn pressure_turns_retry_on_for_unproven_addresses_only() {
        let (mut admission, now) = (Admission::new(small(), [1; 32]), Instant::now());
        assert_eq!(
            admission.judge(now, attempt("198.51.100.1", false, 4)),
            Verdict::Accept
        );
        assert_eq!(
            admission.judge(now, attempt("198.51.100.1", false, 5)),
            Verdict::Retry
        );
        assert_eq!(
            admission.judge(now, attempt("198.51.100.1", true, 5)),
            Verdict::Accept
        );
        assert_eq!(
            admission.judge(now, attempt("198.51.100.1", true, 10)),
            Verdict::Ignore
        );
    }

    #[test]
    fn forged_sources_cannot_spend_the_proven_allowance() {
        let (mut admission, now) = (Admission::new(small(), [1; 32]), Instant::now());
        for _ in 0..3 {
            assert_eq!(
                admission.judge(now, attempt("198.51.100.7", false, 0)),
                Verdict::Accept
            );
        }
        for _ in 0..1000 {
            assert_eq!(
                admission.judge(now, attempt("198.51.100.9", false, 0)),
                Verdict::Retry,
                "same /24"
            );
        }
        for _ in 0..3 {
            assert_eq!(
                admission.judge(now, attempt("198.51.100.8", true, 0)),
                Verdict::Accept
            );
        }
        assert_eq!(
            admission.judge(now, attempt("198.51.100.8", true, 0)),
            Verdict::Refuse(Refusal::Prefix)
        );
        assert_eq!(
            admission.judge(now, attempt("198.51.101.8", true, 0)),
            Verdict::Accept,
            "another /24"
        );
        let later = now + Duration::from_millis(500);
        assert_eq!(
            admission.judge(later, attempt("198.51.100.8", true, 0)),
            Verdict::Accept,
            "2/s: one is back"
        );
        assert_eq!(
            admission.judge(later, attempt("198.51.100.8", true, 0)),
            Verdict::Refuse(Refusal::Prefix)
        );
    }

    #[test]
    fn six_prefixes_are_fifty_six_bits() {
        let (mut admission, now) = (Admission::new(small(), [1; 32]), Instant::now());
        for host in 0..3 {
            assert_eq!(
                admission.judge(now, attempt(&format!("2001:db8:0:00{host}::1"), true, 0)),
                Verdict::Accept
            );
        }
        assert_eq!(
            admission.judge(now, attempt("2001:db8:0:ff::1", true, 0)),
            Verdict::Refuse(Refusal::Prefix)
        );
        assert_eq!(
            admission.judge(now, attempt("2001:db8:0:100::1", true, 0)),
            Verdict::Accept
        );
    }

    #[test]
    fn table_never_grows_and_keeps_the_worst_prefixes() {
        let (mut admission, now) = (Admission::new(small(), [1; 32]), Instant::now());
        let size = admission.prefixes.entries.capacity();
        for _ in 0..4 {
            admission.judge(now, attempt("203.0.113.1", true, 0));
        }
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                admission.judge(now, attempt(&format!("10.{a}.{b}.1"), true, 0));
            }
        }
        assert_eq!(admission.prefixes.entries.capacity(), size);
        assert_eq!(
            admission.judge(now, attempt("203.0.113.1", true, 0)),
            Verdict::Refuse(Refusal::Prefix)
        );
    }

    #[test]
    fn draining_and_full_come_first_and_loopback_is_not_metered() {
        let (mut admission, now) = (Admission::new(small(), [1; 32]), Instant::now());
        for _ in 0..100 {
            assert_eq!(
                admission.judge(now, attempt("127.0.0.1", false, 0)),
                Verdict::Accept
            );
        }
        let full = Attempt {
            connections: small().connections_max,
            ..attempt("127.0.0.1", true, 0)
        };
        assert_eq!(admission.judge(now, full), Verdict::Refuse(Refusal::Full));
        admission.refuse_new(true);
        assert_eq!(
            admission.judge(now, attempt("127.0.0.1", true, 0)),
            Verdict::Refuse(Refusal::Draining)
        );
    }
}
