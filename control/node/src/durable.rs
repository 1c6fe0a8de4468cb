//! Answers that wait for the disk, and the logs of a core.
//!
//! A request that changes something durable is decided and appended at once;
//! its answer is encoded at once, too, and held until the log has committed the
//! change. Logs commit in order, so the answers of a log are one queue.

use std::collections::VecDeque;

use pinion_commitlog::{DiskDone, Files, LogConfig, LogId, LogStats, Lsn, RecoverError};
use pinion_shard::{OpenedLog, Ticket};
use pinion_types::{ErrorCode, FixedMap, PartitionId, ResourceId};
use pinion_wire::message::Reply;

use crate::core::{Core, answer};
use crate::mail::Origin;

/// Answered bytes a queue of held answers keeps before it moves what follows to
/// the front. Larger moves less often and holds more memory.
const ANSWERED_BYTES_MAX: usize = 256 << 10;

#[derive(Clone, Copy, Debug)]
struct HeldAnswer {
    lsn: Lsn,
    origin: Origin,
    len: u32,
}

/// The answers of one log, in the order of its records.
#[derive(Debug, Default)]
struct HeldByLog {
    answers: VecDeque<HeldAnswer>,
    /// Their frames, end to end; `answered` bytes of them are gone.
    frames: Vec<u8>,
    answered: usize,
}

impl HeldByLog {
    fn push(&mut self, lsn: Lsn, origin: Origin, frame: &[u8]) {
        debug_assert!(
            self.answers.back().is_none_or(|last| last.lsn <= lsn),
            "answers are held in the order of their records"
        );
        let len = u32::try_from(frame.len()).expect("a frame fits u32");
        self.answers.push_back(HeldAnswer { lsn, origin, len });
        self.frames.extend_from_slice(frame);
    }

    fn pop(&mut self, lsn: Lsn) -> Option<(Origin, core::ops::Range<usize>)> {
        let next = *self.answers.front()?;
        if next.lsn > lsn {
            return None;
        }
        self.answers.pop_front();
        let start = self.answered;
        self.answered += next.len as usize;
        Some((next.origin, start..self.answered))
    }

    fn sweep(&mut self) {
        if self.answers.is_empty() {
            self.frames.clear();
            self.answered = 0;
        } else if self.answered > ANSWERED_BYTES_MAX {
            self.frames.drain(..self.answered);
            self.answered = 0;
        }
    }
}

/// Every answer of this core that waits for the disk.
#[derive(Debug, Default)]
pub(crate) struct Held {
    logs: FixedMap<LogId, HeldByLog>,
}

impl Core {
    /// Opens a log of this core before it serves: what it holds becomes
    /// partitions again. Every resource must have been told with
    /// [`Declared`](crate::mail::CoreMail::Declared) before, and which are deleted with
    /// [`Closed`](crate::mail::CoreMail::Closed). Blocks while it reads.
    ///
    /// # Errors
    /// [`RecoverError`]; the core is then not to be used.
    pub fn open_log(
        &mut self,
        files: &mut dyn Files,
        config: LogConfig,
    ) -> Result<OpenedLog, RecoverError> {
        let by_id: FixedMap<ResourceId, _> = self
            .map
            .iter()
            .chain(self.map.closed())
            .map(|resource| (resource.id, std::sync::Arc::clone(resource)))
            .collect();
        let find = |id: ResourceId, partition: PartitionId| {
            let resource = by_id.get(&id)?;
            resource.owner(partition)?;
            Self::partition_spec(resource)
        };
        let opened = self
            .shard
            .open_log(files, config, self.now, self.wall, &find)?;
        for resource in self.map.closed() {
            self.shard.close_resource(resource.id, resource.spec.shards);
        }
        Ok(opened)
    }

    /// The disk has finished a request of [`Output::Disk`](crate::Output::Disk).
    pub fn handle_disk_done(&mut self, done: DiskDone) {
        self.shard.handle_disk_done(self.now, done);
    }

    /// What each log of this core has counted.
    pub fn log_stats(&self) -> impl Iterator<Item = (LogId, LogStats)> + '_ {
        self.shard.log_stats()
    }

    /// Keeps an answer until the disk has what it says.
    pub(crate) fn hold(&mut self, ticket: Ticket, origin: Origin, frame: &[u8]) {
        self.held
            .logs
            .entry(ticket.log)
            .or_default()
            .push(ticket.lsn, origin, frame);
    }

    /// The disk has everything up to `ticket`: who waits for it is answered.
    pub(crate) fn answer_committed(&mut self, ticket: Ticket) {
        self.purges_committed(ticket);
        let Some(held) = self.held.logs.get_mut(&ticket.log) else {
            return;
        };
        let mut held = core::mem::take(held);
        while let Some((origin, frame)) = held.pop(ticket.lsn) {
            self.answer_late(origin, &held.frames[frame]);
        }
        held.sweep();
        self.held.logs.insert(ticket.log, held);
    }

    /// Nobody knows what the disk has of what was not committed.
    pub(crate) fn answer_failed(&mut self, log: LogId) {
        self.stats.logs_failed += 1;
        let Some(mut held) = self.held.logs.remove(&log) else {
            return;
        };
        let mut frame = Vec::new();
        while let Some((origin, _)) = held.pop(Lsn(u64::MAX)) {
            frame.clear();
            let refusal = ErrorCode::DurabilityFailed.into();
            answer(&mut frame, origin.correlation, &Reply::Error(refusal));
            self.answer_late(origin, &frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_types::{CoreId, SessionId};

    #[test]
    fn answers_come_out_in_order_and_only_when_their_record_is_committed() {
        let mut held = HeldByLog::default();
        let origin = |correlation| Origin {
            session: SessionId {
                core: CoreId(0),
                token: 1,
            },
            stream: 0,
            correlation,
        };
        for (lsn, frame) in [(1, &b"one"[..]), (1, b"uno"), (3, b"three"), (4, b"four")] {
            held.push(Lsn(lsn), origin(u32::try_from(lsn).expect("small")), frame);
        }
        let mut out = Vec::new();
        while let Some((origin, range)) = held.pop(Lsn(3)) {
            out.push((origin.correlation, held.frames[range].to_vec()));
        }
        assert_eq!(
            out,
            [
                (1, b"one".to_vec()),
                (1, b"uno".to_vec()),
                (3, b"three".to_vec())
            ]
        );
        held.sweep();
        held.push(Lsn(9), origin(9), b"nine");
        let (_, range) = held.pop(Lsn(4)).expect("the fourth");
        assert_eq!(&held.frames[range], b"four");
        assert!(held.pop(Lsn(8)).is_none());
        let (_, range) = held.pop(Lsn(9)).expect("the ninth");
        assert_eq!(&held.frames[range], b"nine");
        held.sweep();
        assert_eq!((held.frames.len(), held.answered), (0, 0));
    }
}
