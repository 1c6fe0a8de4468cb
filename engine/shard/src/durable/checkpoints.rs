//! Checkpoints: the states of a log's partitions, a few in each turn.

use super::{LogSlot, Logs};
use crate::shard::{Kind, Shard};

/// Partitions whose state goes into a checkpoint in one turn. More ends a
/// checkpoint sooner and makes its turns longer.
const CHECKPOINT_PARTITIONS_PER_TURN: usize = 256;

/// Bytes of states after which a turn adds no more to a checkpoint.
const CHECKPOINT_BYTES_PER_TURN: usize = 256 << 10;

/// Bytes of a checkpoint that may wait for the disk before more is added.
const CHECKPOINT_PENDING_MAX: usize = 4 << 20;

/// Domains of a checkpoint's states, as in `docs/storage-format.md`.
pub(super) const DOMAIN_STREAM: u8 = 1;
pub(super) const DOMAIN_QUEUE: u8 = 2;
/// The partition was purged; its state is empty.
pub(super) const DOMAIN_PURGED: u8 = 3;

impl Shard {
    /// A checkpoint begins, with the partitions of the log from the first on.
    pub(super) fn begin_checkpoint(&mut self, at: usize) {
        let slot = &mut self.logs.slots[at];
        slot.log.checkpoint_begin();
        slot.checkpoint = Some(0);
        slot.purged.in_checkpoint = slot.purged.keys.iter().copied().collect();
        // In an order that does not hang on a hash.
        slot.purged.in_checkpoint.sort_unstable();
    }

    /// Adds some partitions to the checkpoint being taken.
    pub(super) fn advance_checkpoint(&mut self, at: usize) {
        let Some(mut next) = self.logs.slots[at].checkpoint else {
            return;
        };
        let Logs { slots, state, .. } = &mut self.logs;
        let LogSlot {
            id, log, purged, ..
        } = &mut slots[at];
        if log.checkpoint_pending() > CHECKPOINT_PENDING_MAX {
            return;
        }
        let (mut taken, mut bytes) = (0, 0);
        while let Some(owned) = self.partitions.get(next as usize) {
            if taken == CHECKPOINT_PARTITIONS_PER_TURN || bytes >= CHECKPOINT_BYTES_PER_TURN {
                slots[at].checkpoint = Some(next);
                return;
            }
            next += 1;
            if owned.log != Some(*id) {
                continue;
            }
            state.clear();
            let (domain, as_of) = match &owned.kind {
                Kind::Stream(stream) => {
                    stream.snapshot(state);
                    (DOMAIN_STREAM, log.appended())
                }
                // Its state is that of what was committed.
                Kind::Queue(queue) => {
                    queue.snapshot(state);
                    (DOMAIN_QUEUE, log.committed())
                }
                Kind::Cache(_) => continue,
            };
            let (resource, partition) = owned.key;
            log.checkpoint_add(resource, partition, domain, as_of, state);
            taken += 1;
            bytes += state.len();
        }
        // Few, and 40 bytes each.
        for (resource, partition) in purged.in_checkpoint.drain(..) {
            log.checkpoint_add(resource, partition, DOMAIN_PURGED, log.appended(), &[]);
        }
        log.checkpoint_end();
        slots[at].checkpoint = None;
    }

    /// Whether a checkpoint waits for the next turn.
    pub(crate) fn logs_have_work(&self) -> bool {
        self.logs.slots.iter().any(|slot| slot.checkpoint.is_some())
    }
}
