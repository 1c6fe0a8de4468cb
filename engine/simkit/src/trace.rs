//! What happened, as a running hash and the last few events.
//!
//! Two runs of one seed are the same exactly when their hashes are; the events
//! are for people who read a failure.

use core::fmt;
use std::collections::VecDeque;

use pinion_types::Monotonic;

/// Events kept for the reader of a failure; more costs memory only.
const EVENTS_KEPT: usize = 64;
/// Numbers kept with an event.
const FACTS: usize = 4;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number, from 1.
    pub number: u64,
    /// When, on the clock of the node it is about.
    pub at: Monotonic,
    /// What happened.
    pub what: &'static str,
    facts: [u64; FACTS],
    used: usize,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.at.0 / 1_000;
        write!(f, "#{:<7} {micros:>12} µs  {}", self.number, self.what)?;
        for fact in &self.facts[..self.used] {
            write!(f, " {fact}")?;
        }
        Ok(())
    }
}

/// The events of one run.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    last: VecDeque<Event>,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            // FNV-1a's offset basis.
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            last: VecDeque::with_capacity(EVENTS_KEPT),
        }
    }
}

impl Trace {
    /// Something happened. The hash takes every fact; of the first four the
    /// numbers are kept to be printed.
    pub fn note(&mut self, at: Monotonic, what: &'static str, facts: &[u64]) {
        self.events += 1;
        self.mix_bytes(what.as_bytes());
        self.mix(at.0);
        let mut kept = [0; FACTS];
        for (index, fact) in facts.iter().enumerate() {
            self.mix(*fact);
            if let Some(slot) = kept.get_mut(index) {
                *slot = *fact;
            }
        }
        if self.last.len() == EVENTS_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(Event {
            number: self.events,
            at,
            what,
            facts: kept,
            used: facts.len().min(FACTS),
        });
    }

    /// Takes bytes into the hash that no event shows, such as a reply's.
    pub fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn mix(&mut self, word: u64) {
        // FNV-1a over words, with a rotation so that the upper bits of a word
        // reach the lower ones of the hash.
        self.hash = (self.hash ^ word)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(29);
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last events, oldest first.
    pub fn last(&self) -> impl Iterator<Item = &Event> {
        self.last.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(events: &[(&'static str, &[u64])]) -> u64 {
        let mut trace = Trace::default();
        for (what, facts) in events {
            trace.note(Monotonic(1), what, facts);
        }
        trace.hash()
    }

    #[test]
    fn the_hash_tells_order_facts_and_words_apart() {
        let base = hash(&[("a", &[1, 2]), ("b", &[])]);
        assert_eq!(base, hash(&[("a", &[1, 2]), ("b", &[])]));
        for other in [
            hash(&[("b", &[]), ("a", &[1, 2])]),
            hash(&[("a", &[2, 1]), ("b", &[])]),
            hash(&[("a", &[1]), ("b", &[2])]),
            hash(&[("a", &[1, 2]), ("b", &[]), ("b", &[])]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn only_the_last_events_are_kept_and_all_are_counted() {
        let mut trace = Trace::default();
        for n in 0..200 {
            trace.note(Monotonic(n * 1_000), "step", &[n]);
        }
        assert_eq!(trace.events(), 200);
        let last: Vec<_> = trace.last().map(ToString::to_string).collect();
        assert_eq!(last.len(), EVENTS_KEPT);
        assert!(
            last[EVENTS_KEPT - 1].ends_with("199 µs  step 199"),
            "{last:?}"
        );
    }
}
