//! Which core a datagram belongs to: one arithmetic, in Rust and in classic BPF.

/// Keys of the connection-id word. The word is obscured, not authenticated: an
/// onlooker cannot read the core off a connection id without the keys, and a
/// client that was given them can choose a core; nobody gains access by either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steering {
    /// Mixed in by exclusive or.
    pub k0: u32,
    /// Multiplier; must be odd, so that the mapping of words is a permutation.
    pub k1: u32,
}

impl Steering {
    /// Core of a connection whose id starts with `word` (big-endian), of `cores`.
    ///
    /// The high half of the product is scaled by `cores` (Lemire, "Fast random
    /// integer generation in an interval", 2019), so cores differ by at most one
    /// part in 65,536.
    #[must_use]
    pub fn core_of(&self, word: u32, cores: u32) -> u32 {
        ((((word ^ self.k0).wrapping_mul(self.k1)) >> 16) * cores) >> 16
    }

    /// The classic BPF program for a group of `cores` sockets in bind order.
    ///
    /// It runs on the UDP payload. QUIC puts the destination connection id of a
    /// long header at byte 6 (after flags, version and its length, RFC 9000
    /// §17.2) and of a short header at byte 1 (§17.3). A payload too short to
    /// hold the word ends the program with 0: core 0 gets it and drops it.
    pub(crate) fn program(&self, cores: u32) -> [libc::sock_filter; 11] {
        const LD_BYTE: u16 = 0x30; // BPF_LD  | BPF_B   | BPF_ABS
        const LD_WORD: u16 = 0x20; // BPF_LD  | BPF_W   | BPF_ABS
        const JSET: u16 = 0x45; //    BPF_JMP | BPF_JSET| BPF_K
        const JA: u16 = 0x05; //      BPF_JMP | BPF_JA
        const XOR: u16 = 0xa4; //     BPF_ALU | BPF_XOR | BPF_K
        const MUL: u16 = 0x24; //     BPF_ALU | BPF_MUL | BPF_K
        const RSH: u16 = 0x74; //     BPF_ALU | BPF_RSH | BPF_K
        const RET_A: u16 = 0x16; //   BPF_RET | BPF_A
        const fn op(code: u16, k: u32) -> libc::sock_filter {
            libc::sock_filter {
                code,
                jt: 0,
                jf: 0,
                k,
            }
        }
        [
            op(LD_BYTE, 0),
            libc::sock_filter {
                code: JSET,
                jt: 0,
                jf: 2,
                k: 0x80,
            },
            op(LD_WORD, 6),
            op(JA, 1),
            op(LD_WORD, 1),
            op(XOR, self.k0),
            op(MUL, self.k1),
            op(RSH, 16),
            op(MUL, cores),
            op(RSH, 16),
            op(RET_A, 0),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The part of the kernel's classic BPF machine which the program uses.
    fn run(program: &[libc::sock_filter], payload: &[u8]) -> u32 {
        let (mut a, mut pc) = (0_u32, 0_usize);
        loop {
            let op = program[pc];
            pc += 1;
            let at = op.k as usize;
            match op.code {
                0x30 => match payload.get(at) {
                    Some(byte) => a = u32::from(*byte),
                    None => return 0,
                },
                0x20 => match payload.get(at..at + 4) {
                    Some(word) => a = u32::from_be_bytes(word.try_into().unwrap()),
                    None => return 0,
                },
                0x45 => pc += usize::from(if a & op.k != 0 { op.jt } else { op.jf }),
                0x05 => pc += at,
                0xa4 => a ^= op.k,
                0x24 => a = a.wrapping_mul(op.k),
                0x74 => a >>= op.k,
                0x16 => return a,
                other => panic!("the kernel would refuse opcode {other:#x}"),
            }
        }
    }

    fn words() -> impl Iterator<Item = u32> {
        (0_u32..10_000).map(|i| i.wrapping_mul(0x9e37_79b9).rotate_left(7) ^ i)
    }

    const KEYS: Steering = Steering {
        k0: 0xdead_beef,
        k1: 0x0123_4567,
    };

    #[test]
    fn the_program_computes_what_rust_computes_for_both_header_forms() {
        for cores in [1, 2, 3, 7, 64, 4096] {
            let program = KEYS.program(cores);
            for word in words().take(1000) {
                let cid = word.to_be_bytes();
                let mut long = vec![0xc3, 0, 0, 0, 1, 8];
                long.extend_from_slice(&cid);
                let mut short = vec![0x43];
                short.extend_from_slice(&cid);
                let expected = KEYS.core_of(word, cores);
                assert!(expected < cores, "core {expected} of {cores}");
                assert_eq!(run(&program, &long), expected);
                assert_eq!(run(&program, &short), expected);
            }
        }
    }

    #[test]
    fn a_payload_too_short_for_a_word_goes_to_core_zero() {
        let program = KEYS.program(8);
        for payload in [&b""[..], b"\x43", b"\x43abc", b"\xc3\0\0\0\x01\x08abc"] {
            assert_eq!(run(&program, payload), 0);
        }
    }

    #[test]
    fn words_spread_evenly_over_the_cores() {
        let mut counts = [0_u32; 4];
        words().for_each(|word| counts[KEYS.core_of(word, 4) as usize] += 1);
        assert!(
            counts.iter().all(|count| (2300..=2700).contains(count)),
            "{counts:?}"
        );
    }
}
