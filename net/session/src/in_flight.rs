//! Requests of one connection that are owed a reply from elsewhere or later.

use pinion_types::FixedMap;
use pinion_types::limits::IN_FLIGHT_MAX;

/// Correlation ids of the requests that were not answered at once. A request
/// answered in the same call never enters, so the fast path pays one lookup
/// in an empty set.
///
/// With each goes a word of its owner's, who gets it back with the answer.
#[derive(Debug, Default)]
pub struct InFlight {
    open: FixedMap<u32, u64>,
}

/// Whether a request may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go on.
    Admitted,
    /// The same correlation id awaits a reply.
    Duplicate,
    /// [`IN_FLIGHT_MAX`] requests await replies.
    Full,
}

impl InFlight {
    /// Looks at a request before it runs.
    #[must_use]
    pub fn admit(&self, correlation: u32) -> Admission {
        if self.open.is_empty() {
            Admission::Admitted
        } else if self.open.contains_key(&correlation) {
            Admission::Duplicate
        } else if self.open.len() >= IN_FLIGHT_MAX as usize {
            Admission::Full
        } else {
            Admission::Admitted
        }
    }

    /// The request will be answered later; `mark` is given back then.
    pub fn defer(&mut self, correlation: u32, mark: u64) {
        let before = self.open.insert(correlation, mark);
        assert!(
            before.is_none(),
            "correlation {correlation} was admitted twice"
        );
    }

    /// The answer is here: the mark of its request, or `None` when nobody waits for it.
    pub fn settle(&mut self, correlation: u32) -> Option<u64> {
        self.open.remove(&correlation)
    }

    /// How many await replies.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_told_apart_until_the_first_is_answered() {
        let mut table = InFlight::default();
        table.defer(7, 70);
        assert_eq!(table.admit(7), Admission::Duplicate);
        assert_eq!(table.admit(8), Admission::Admitted);
        assert_eq!(table.settle(7), Some(70));
        assert_eq!(table.settle(7), None);
        assert_eq!(table.admit(7), Admission::Admitted);
    }

    #[test]
    fn the_table_has_an_end() {
        let mut table = InFlight::default();
        for id in 0..IN_FLIGHT_MAX {
            assert_eq!(table.admit(id), Admission::Admitted);
            table.defer(id, 0);
        }
        assert_eq!(table.admit(IN_FLIGHT_MAX), Admission::Full);
        table.settle(3);
        assert_eq!(table.admit(IN_FLIGHT_MAX), Admission::Admitted);
    }
}
