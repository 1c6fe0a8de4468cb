//! Requests that await a reply on one connection.

/// Most entries; the low bits of a correlation id are an index into them.
const INDEX_BITS: u32 = 12;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

const _: () = assert!(1 << INDEX_BITS == pinion_types::limits::IN_FLIGHT_MAX);

/// Correlation ids and who waits for them.
///
/// An id is an index and a generation, so that a reply that comes twice, or to
/// nothing, is noticed rather than handed to the next request in the place. An
/// entry stays until its reply comes even when nobody waits any more: its id
/// must not be used again before that.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    limit: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    waiter: Option<T>,
}

impl<T> InFlight<T> {
    pub(crate) const fn new(limit: u32) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            limit: limit as usize,
        }
    }

    /// A fresh correlation id for `waiter`; never 0.
    ///
    /// # Panics
    /// When `limit` are in flight: the caller holds a permit for each.
    pub(crate) fn insert(&mut self, waiter: T) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            assert!(
                self.entries.len() < self.limit,
                "a permit stands for a free entry"
            );
            self.entries.push(Entry {
                generation: 0,
                waiter: None,
            });
            u32::try_from(self.entries.len() - 1).expect("limit is at most 4096")
        });
        let entry = &mut self.entries[index as usize];
        entry.generation = (entry.generation + 1) & (u32::MAX >> INDEX_BITS);
        if entry.generation == 0 {
            entry.generation = 1;
        }
        entry.waiter = Some(waiter);
        entry.generation << INDEX_BITS | index
    }

    /// Who waits for `correlation`, if it is in flight.
    pub(crate) fn remove(&mut self, correlation: u32) -> Option<T> {
        let index = correlation & INDEX_MASK;
        let entry = self.entries.get_mut(index as usize)?;
        if entry.generation != correlation >> INDEX_BITS {
            return None;
        }
        let waiter = entry.waiter.take()?;
        self.free.push(index);
        Some(waiter)
    }

    /// Everyone, when the connection is lost.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        self.free.clear();
        std::mem::take(&mut self.entries)
            .into_iter()
            .filter_map(|entry| entry.waiter)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_find_their_request_in_any_order_and_only_once() {
        let mut table = InFlight::new(3);
        let ids: Vec<u32> = ["a", "b", "c"].map(|name| table.insert(name)).to_vec();
        assert_eq!(table.remove(ids[1]), Some("b"));
        assert_eq!(table.remove(ids[1]), None);
        let again = table.insert("d");
        assert_ne!(again, ids[1], "the place is reused, the id is not");
        assert_eq!(table.remove(ids[1]), None);
        assert_eq!(table.remove(again), Some("d"));
        assert_eq!(table.remove(ids[2]), Some("c"));
        assert_eq!(table.drain(), ["a"]);
    }

    #[test]
    fn zero_and_ids_never_given_are_not_in_flight() {
        let mut table = InFlight::new(2);
        table.insert(());
        assert_eq!(table.remove(0), None);
        assert_eq!(table.remove(u32::MAX), None);
    }
}
