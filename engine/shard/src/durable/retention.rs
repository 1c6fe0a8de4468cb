//! Retention: what is too old or too much is trimmed, and the log learns what is
//! dead.

use pinion_types::{Monotonic, WallMs};

use crate::shard::{Kind, Shard, Slot, Standing};

/// How often retention is looked at.
const RETENTION_EVERY: core::time::Duration = core::time::Duration::from_secs(1);

/// Partitions whose retention is looked at each time; the others follow.
const RETENTION_PARTITIONS_PER_TICK: usize = 4096;

impl Shard {
    /// A partition with retention exists.
    pub(crate) fn watch_retention(&mut self) {
        self.logs.retention_due.get_or_insert(Monotonic::ZERO);
    }

    pub(super) fn retention_timeout(&mut self, now: Monotonic, wall: WallMs) {
        if self.logs.retention_due.is_some_and(|due| due <= now) {
            self.logs.retention_due = Some(now + RETENTION_EVERY);
            self.enforce_retention(now, wall);
        }
    }

    fn enforce_retention(&mut self, now: Monotonic, wall: WallMs) {
        let total = self.partitions.len();
        for _ in 0..total.min(RETENTION_PARTITIONS_PER_TICK) {
            let slot = Slot::from_index(self.logs.retention_next as usize % total);
            self.logs.retention_next = (self.logs.retention_next + 1)
                % u32::try_from(total).expect("bounded by PARTITIONS_MAX");
            let owned = &self.partitions[slot.index()];
            if owned.standing != Standing::Served {
                continue;
            }
            let Some(at) = owned.log.and_then(|id| self.logs.index(id)) else {
                continue;
            };
            let (resource, partition) = owned.key;
            let (ms, bytes) = owned.retention;
            let log = &self.logs.slots[at].log;
            let old = ms.and_then(|ms| {
                let before = WallMs(wall.0.saturating_sub(ms));
                log.expired(resource, partition, before)
            });
            let over = bytes.and_then(|max| log.over_size(resource, partition, max));
            let Some(first) = old.max(over) else {
                continue;
            };
            // It frees space; when even that finds no room, the next tick tries again.
            if self.admit(slot, 0, true).is_err() {
                continue;
            }
            let stream = self.stream(slot);
            if first > stream.first_available() {
                stream.trim(first, wall);
                self.take_ops(now, slot);
            }
        }
    }

    /// The partition's first record moved: what lies before it is dead.
    pub(crate) fn tell_first(&mut self, slot: Slot) {
        let owned = &mut self.partitions[slot.index()];
        let Kind::Stream(stream) = &owned.kind else {
            return;
        };
        let first = stream.committed_first();
        if first == owned.told_first {
            return;
        }
        owned.told_first = first;
        if let Some(at) = owned.log.and_then(|id| self.logs.index(id)) {
            let (resource, partition) = owned.key;
            self.logs.slots[at]
                .log
                .release_stream(resource, partition, first);
        }
    }
}
