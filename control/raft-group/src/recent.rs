//! How long something took the last times.

use core::time::Duration;
use std::collections::VecDeque;

use crate::limits::{FLUSHES_KEPT, FLUSHES_MIN};

/// The last [`FLUSHES_KEPT`] durations of something.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// Oldest first.
    kept: VecDeque<Duration>,
}

impl Recent {
    /// It took so long. The oldest is forgotten for it when there are enough.
    pub fn note(&mut self, took: Duration) {
        if self.kept.len() == FLUSHES_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(took);
    }

    /// The middle one; `None` when there are fewer than [`FLUSHES_MIN`].
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        if self.kept.len() < FLUSHES_MIN {
            return None;
        }
        let mut sorted: Vec<Duration> = self.kept.iter().copied().collect();
        sorted.sort_unstable();
        Some(sorted[sorted.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_last_ones() {
        let mut recent = Recent::default();
        for _ in 1..FLUSHES_MIN {
            recent.note(Duration::from_secs(1));
        }
        assert_eq!(recent.median(), None, "too few to say");
        recent.note(Duration::from_secs(1));
        assert_eq!(recent.median(), Some(Duration::from_secs(1)));
        for second in 0..FLUSHES_KEPT as u64 {
            recent.note(Duration::from_secs(second));
        }
        let middle = FLUSHES_KEPT as u64 / 2;
        assert_eq!(recent.median(), Some(Duration::from_secs(middle)));
        assert_eq!(recent.kept.len(), FLUSHES_KEPT);
    }
}
