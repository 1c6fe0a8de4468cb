//! Things that will happen, and the choice among those that may happen now.

use pinion_types::Monotonic;

use crate::SimRng;

/// A seeded scheduler: what is due happens in an order of the seed's.
#[derive(Clone, Debug)]
pub struct Agenda<T> {
    entries: Vec<(Monotonic, T)>,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<T> Agenda<T> {
    /// Something happens at `at` or later.
    pub fn push(&mut self, at: Monotonic, what: T) {
        self.entries.push((at, what));
    }

    /// One of the things that are due, any of them.
    pub fn pop(&mut self, now: Monotonic, rng: &mut SimRng) -> Option<T> {
        let due = self.entries.iter().filter(|(at, _)| *at <= now).count();
        if due == 0 {
            return None;
        }
        let chosen = rng.index(due);
        let mut ready = self.entries.iter().enumerate();
        let (index, _) = ready
            .by_ref()
            .filter(|(_, (at, _))| *at <= now)
            .nth(chosen)
            .expect("chosen among those that are due");
        Some(self.entries.remove(index).1)
    }

    /// When the next thing is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.entries.iter().map(|(at, _)| *at).min()
    }

    /// How many things will happen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing will.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Everything that will happen, in the order in which it was said.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, what)| what)
    }

    /// Nothing of it happens any more; gives what would have, in the order in
    /// which it was said.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.entries.drain(..).map(|(_, what)| what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_due_happens_and_its_order_is_the_seeds() {
        let order = |seed| {
            let mut rng = SimRng::new(seed);
            let mut agenda = Agenda::default();
            for (at, what) in [(5, 'a'), (5, 'b'), (5, 'c'), (9, 'd')] {
                agenda.push(Monotonic(at), what);
            }
            assert_eq!(agenda.next_deadline(), Some(Monotonic(5)));
            assert_eq!(agenda.pop(Monotonic(4), &mut rng), None);
            let mut got: String = (0..3)
                .filter_map(|_| agenda.pop(Monotonic(5), &mut rng))
                .collect();
            assert_eq!(agenda.pop(Monotonic(8), &mut rng), None, "d is not due");
            got.extend(agenda.pop(Monotonic(9), &mut rng));
            assert!(agenda.is_empty());
            got
        };
        assert_eq!(order(1), order(1));
        let orders: std::collections::BTreeSet<String> = (0..50).map(order).collect();
        assert_eq!(orders.len(), 6, "every order of a, b and c: {orders:?}");
        assert!(orders.iter().all(|order| order.ends_with('d')));
    }
}
