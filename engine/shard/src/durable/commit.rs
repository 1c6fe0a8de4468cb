//! From a change to its commit: what a partition wants written is admitted,
//! appended, and shown when the log has it.

use pinion_commitlog::{AdmitError, Lsn, RECORD_OVERHEAD, RecordHead, RecordIn};
use pinion_domains::op::Op;
use pinion_types::{ErrorCode, FactId, Monotonic, PartitionId, Refusal, ResourceId};

use super::{LogSlot, Ticket};
use crate::shard::{Kind, Shard, Slot};

/// Bytes the timers of a queue may write in one call, roughly. While the log has
/// no room for them they wait.
const TIMER_OPS_BYTES: usize = 64 << 10;

/// How long the timers of a partition wait when its log has no room.
const TIMERS_WAIT: core::time::Duration = core::time::Duration::from_secs(1);

/// Bytes an op adds to what its partition is asked to take: a block's header, a
/// producer, a message's fields. More than any op has.
const OP_OVERHEAD: usize = 256;

/// How long an append that found the log's backlog full should wait.
const BACKLOG_RETRY_MS: u32 = 5;

impl Shard {
    /// Appends what the partition at `slot` has to write. What it gives must
    /// be committed before the change may be acknowledged; `None` when there
    /// was nothing to write.
    pub fn take_ops(&mut self, now: Monotonic, slot: Slot) -> Option<Ticket> {
        let owned = &mut self.partitions[slot.index()];
        if owned.fenced {
            // A log that failed would only keep it in memory.
            return None;
        }
        let Some(id) = owned.log else {
            if let Kind::Queue(queue) = &mut owned.kind {
                while queue.poll_op().is_some() {
                    queue.commit_next();
                }
            }
            return None;
        };
        let at = *self.logs.by_id.get(&id)?;
        let logs = &mut self.logs;
        let LogSlot { log, owners, .. } = &mut logs.slots[at];
        let key = owned.key;
        let mut ticket = None;
        if let Kind::Stream(stream) = &mut owned.kind {
            while let Some(op) = stream.poll_single() {
                let (resource, partition) = key;
                let record = RecordIn {
                    head: RecordHead {
                        resource,
                        partition,
                        kind: op.kind,
                        first: op.first,
                        count: op.count,
                        epoch: 0,
                        timestamp: op.timestamp,
                    },
                    ext: &[op.ext],
                    body: &[op.body],
                    retain: false,
                };
                let lsn = log.append(now, &[record]).last;
                owners.push_back((lsn, slot));
                ticket = Some(Ticket { log: id, lsn });
            }
        }
        while let Some(op) = owned.kind.poll_op() {
            let more = op.more;
            logs.ops.push(op);
            if more {
                continue;
            }
            let appended = match logs.ops.as_slice() {
                [op] => log.append(now, &[record(key, op, &[&op.ext], &[&op.body])]),
                ops => {
                    // The commit of an append session: rare and large.
                    let parts: Vec<_> = ops
                        .iter()
                        .map(|op| ([&op.ext[..]], [&op.body[..]]))
                        .collect();
                    let records: Vec<_> = ops
                        .iter()
                        .zip(&parts)
                        .map(|(op, (ext, body))| record(key, op, ext, body))
                        .collect();
                    log.append(now, &records)
                }
            };
            let places = log.appended_locations();
            for ((lsn, op), place) in (appended.first.0..).zip(logs.ops.drain(..)).zip(places) {
                owners.push_back((Lsn(lsn), slot));
                if op.retain
                    && let Kind::Queue(queue) = &mut owned.kind
                {
                    queue.op_appended(*place);
                }
            }
            ticket = Some(Ticket {
                log: id,
                lsn: appended.last,
            });
        }
        assert!(logs.ops.is_empty(), "an atomic group is queued whole");
        ticket
    }

    /// Every record up to `lsn` is durable: its partition may show it.
    pub(super) fn commit(&mut self, at: usize, lsn: Lsn) {
        while let Some(&(next, slot)) = self.logs.slots[at].owners.front() {
            if next > lsn {
                break;
            }
            self.logs.slots[at].owners.pop_front();
            self.touch(slot);
            match &mut self.partitions[slot.index()].kind {
                Kind::Stream(stream) => stream.commit_next(),
                Kind::Queue(queue) => queue.commit_next(),
                Kind::Cache(_) => unreachable!("a cache writes nothing"),
            }
        }
    }

    /// Whether `bytes` more may be written for the partition at `slot`.
    /// `essential` changes free space and pass while the disk is full.
    ///
    /// # Errors
    /// `LogBacklogged`, `ReadOnly`, `PartitionFenced`; nothing happened.
    pub fn admit(&self, slot: Slot, bytes: usize, essential: bool) -> Result<(), Refusal> {
        let owned = &self.partitions[slot.index()];
        let Some(id) = owned.log else {
            return Ok(());
        };
        if owned.fenced {
            return Err(ErrorCode::PartitionFenced.into());
        }
        let log = &self.logs.slots[self.logs.by_id[&id]];
        if log.sealed {
            return Err(ErrorCode::Draining.into());
        }
        let bytes = bytes + RECORD_OVERHEAD + OP_OVERHEAD;
        log.log
            .admit(bytes, essential)
            .map_err(|error| match error {
                AdmitError::Backlogged { limit } => Refusal::new(ErrorCode::LogBacklogged)
                    .with(FactId::Limit, limit as u64)
                    .after_ms(BACKLOG_RETRY_MS),
                AdmitError::ReadOnly => ErrorCode::ReadOnly.into(),
                AdmitError::Failed => ErrorCode::PartitionFenced.into(),
                AdmitError::TooLarge { bytes, limit } => Refusal::new(ErrorCode::FrameTooLarge)
                    .with(FactId::Actual, bytes as u64)
                    .with(FactId::Limit, limit as u64),
            })
    }

    /// When the timers of a partition have to wait, because what they change
    /// could not be written: until then.
    pub(crate) fn timers_wait(&self, now: Monotonic, slot: Slot) -> Option<Monotonic> {
        let owned = &self.partitions[slot.index()];
        let writes = matches!(owned.kind, Kind::Queue(_)) && owned.log.is_some();
        (writes && self.admit(slot, TIMER_OPS_BYTES, true).is_err()).then(|| now + TIMERS_WAIT)
    }

    /// What everything appended so far for the log of `slot` waits for; `None`
    /// when all of it is committed, or there is no log.
    #[must_use]
    pub fn behind(&self, slot: Slot) -> Option<Ticket> {
        let id = self.partitions[slot.index()].log?;
        let log = &self.logs.slots[*self.logs.by_id.get(&id)?].log;
        (log.committed() < log.appended()).then(|| Ticket {
            log: id,
            lsn: log.appended(),
        })
    }

    /// As [`Shard::behind`], when changes of this partition itself wait.
    #[must_use]
    pub fn unsettled(&self, slot: Slot) -> Option<Ticket> {
        match &self.partitions[slot.index()].kind {
            Kind::Queue(queue) if queue.committed() < queue.numbered() => self.behind(slot),
            _ => None,
        }
    }
}

fn record<'a>(
    (resource, partition): (ResourceId, PartitionId),
    op: &Op,
    ext: &'a [&'a [u8]],
    body: &'a [&'a [u8]],
) -> RecordIn<'a> {
    RecordIn {
        head: RecordHead {
            resource,
            partition,
            kind: op.kind,
            first: op.first,
            count: op.count,
            epoch: 0,
            timestamp: op.timestamp,
        },
        ext,
        body,
        retain: op.retain,
    }
}
