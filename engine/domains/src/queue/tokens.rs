//! Tokens of reservations, and what is remembered of those that were acked.

use core::hash::Hasher;
use std::collections::VecDeque;

use pinion_types::{FixedSet, Monotonic};
use siphasher::sip::SipHasher13;

use super::config::DONE_REMEMBERED_MS;

/// Proves a reservation: its row, which of the row's reservations it is, and a
/// tag that cannot be guessed. Valid for that reservation only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    pub(super) slot: u32,
    pub(super) generation: u32,
    pub(super) tag: u64,
}

impl Token {
    /// As it travels.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..4].copy_from_slice(&self.slot.to_le_bytes());
        out[4..8].copy_from_slice(&self.generation.to_le_bytes());
        out[8..].copy_from_slice(&self.tag.to_le_bytes());
        out
    }

    /// Any 16 bytes are a token; most are an invalid one.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let (slot, rest) = bytes.split_at(4);
        let (generation, tag) = rest.split_at(4);
        Self {
            slot: u32::from_le_bytes(slot.try_into().expect("4 bytes")),
            generation: u32::from_le_bytes(generation.try_into().expect("4 bytes")),
            tag: u64::from_le_bytes(tag.try_into().expect("8 bytes")),
        }
    }

    pub(super) fn sign(secret: &SipHasher13, slot: u32, generation: u32) -> Self {
        Self {
            slot,
            generation,
            tag: Self::tag(secret, slot, generation),
        }
    }

    pub(super) fn is_genuine(&self, secret: &SipHasher13) -> bool {
        self.tag == Self::tag(secret, self.slot, self.generation)
    }

    fn tag(secret: &SipHasher13, slot: u32, generation: u32) -> u64 {
        let mut hasher = *secret;
        hasher.write_u64(u64::from(slot) << 32 | u64::from(generation));
        hasher.finish()
    }
}

/// Tags of tokens acked in the last five minutes, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct DoneAcks {
    order: VecDeque<(u64, Monotonic)>,
    tags: FixedSet<u64>,
}

impl DoneAcks {
    pub(super) fn insert(&mut self, now: Monotonic, tag: u64, max: u32) {
        self.expire(now);
        while self.order.len() >= max as usize {
            let Some((oldest, _)) = self.order.pop_front() else {
                return;
            };
            self.tags.remove(&oldest);
        }
        if self.tags.insert(tag) {
            self.order.push_back((tag, now));
        }
    }

    pub(super) fn contains(&mut self, now: Monotonic, tag: u64) -> bool {
        self.expire(now);
        self.tags.contains(&tag)
    }

    fn expire(&mut self, now: Monotonic) {
        while let Some((tag, at)) = self.order.front()
            && now.since(*at).as_millis() > u128::from(DONE_REMEMBERED_MS)
        {
            self.tags.remove(tag);
            self.order.pop_front();
        }
    }

    /// Remembered for five more minutes from `now`: after a restart nobody
    /// knows how long ago it was.
    pub(super) fn renew(&mut self, now: Monotonic) {
        for (_, at) in &mut self.order {
            *at = now;
        }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.order.iter().map(|(tag, _)| *tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_bytes_and_another_is_not_genuine() {
        let secret = SipHasher13::new_with_keys(1, 2);
        let token = Token::sign(&secret, 3, 4);
        assert_eq!(Token::from_bytes(token.to_bytes()), token);
        assert!(token.is_genuine(&secret));
        for forged in [
            Token { slot: 4, ..token },
            Token {
                generation: 5,
                ..token
            },
            Token { tag: 0, ..token },
        ] {
            assert!(!forged.is_genuine(&secret));
        }
        assert!(!token.is_genuine(&SipHasher13::new_with_keys(1, 3)));
    }

    #[test]
    fn an_ack_is_remembered_for_five_minutes_and_within_its_bound() {
        let mut done = DoneAcks::default();
        done.insert(Monotonic::ZERO, 1, 2);
        done.insert(Monotonic::ZERO, 2, 2);
        done.insert(Monotonic::ZERO, 3, 2);
        assert!(!done.contains(Monotonic::ZERO, 1));
        assert!(done.contains(Monotonic::from_millis(300_000), 3));
        assert!(!done.contains(Monotonic::from_millis(300_001), 3));
    }
}
