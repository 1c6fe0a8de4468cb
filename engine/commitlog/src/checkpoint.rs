//! Checkpoints: the owner gives the state of every partition, the log writes
//! them down and remembers which records a restart still needs.
//!
//! The trailer is written last, when all else of the file and every record that
//! a state has in it are durable: with a trailer, a checkpoint is true. The two
//! newest are kept, and no record that the older one's replay needs is removed,
//! so that one damaged checkpoint loses nothing.

use std::collections::VecDeque;

use pinion_types::{Monotonic, PartitionId, ResourceId};

use crate::Lsn;
use crate::config::CHECKPOINT_RETRY;
use crate::disk::{Background, BlockBuf, DiskError, DiskRequest, FileId};
use crate::events::LogEvent;
use crate::format::{CheckpointHeader, CheckpointWriter, SegmentRef};
use crate::log::{Log, Phase, Work};
use crate::segments::{FileState, Removal};

/// Bytes of a checkpoint that go to the disk at once. Larger makes fewer writes
/// and holds up the log's own for longer.
const PIECE_BYTES: usize = 256 << 10;

/// Checkpoints kept.
const KEPT: usize = 2;

/// A checkpoint being written.
#[derive(Debug)]
struct Writing {
    number: u64,
    /// Until the owner has given everything.
    writer: Option<CheckpointWriter>,
    /// Pieces in their order; the trailer is the last one.
    pieces: VecDeque<(u64, BlockBuf)>,
    made: bool,
    busy: bool,
    replay_from: Lsn,
    /// The last record that a state has in it.
    as_of: Lsn,
    segments: Vec<SegmentRef>,
}

/// Which checkpoints there are.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// Durable ones with the first record that each one's replay needs, oldest
    /// first.
    pub(crate) durable: VecDeque<(u64, Lsn)>,
    pub(crate) next_number: u64,
    writing: Option<Writing>,
    /// The owner was told that one is wanted.
    wanted: bool,
    /// Bytes of records appended since the last one was begun.
    pub(crate) written: u64,
    pub(crate) retry_at: Option<Monotonic>,
    /// Files to be removed.
    pub(crate) old: VecDeque<u64>,
}

impl Checkpoints {
    /// The first record that a restart may need; `None` while every one is
    /// needed, because there are fewer than two checkpoints.
    pub(crate) fn floor(&self) -> Option<Lsn> {
        (self.durable.len() >= KEPT).then(|| self.durable[0].1)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.writing.is_none()
    }
}

impl Log {
    /// Begins a checkpoint; a state given to it is that of a partition with
    /// everything appended so far or later. Gives its number. One that was not
    /// ended is dropped.
    pub fn checkpoint_begin(&mut self) -> u64 {
        self.drop_checkpoint();
        let number = self.checkpoints.next_number.max(1);
        self.checkpoints.next_number = number + 1;
        self.checkpoints.written = 0;
        self.checkpoints.wanted = false;
        let segments = self
            .segments
            .iter()
            .filter(|segment| segment.removal == Removal::No && segment.file >= FileState::Open)
            .map(|segment| SegmentRef {
                number: segment.key.number,
                salt: segment.key.salt,
                first_lsn: segment.chain.lsn.0,
            })
            .collect();
        let header = CheckpointHeader {
            store: self.config.store,
            log: self.config.log,
            number,
            salt: self.files.salts.next(),
            created: self.config.started,
        };
        self.checkpoints.writing = Some(Writing {
            number,
            writer: Some(CheckpointWriter::new(header)),
            pieces: VecDeque::new(),
            made: false,
            busy: false,
            replay_from: Lsn(self.appended().0 + 1),
            as_of: self.appended(),
            segments,
        });
        self.pump_checkpoint(Monotonic::ZERO);
        number
    }

    /// Bytes of the checkpoint that wait for the disk: an owner that spreads its
    /// states over turns waits while this is large.
    #[must_use]
    pub fn checkpoint_pending(&self) -> usize {
        self.checkpoints.writing.as_ref().map_or(0, |writing| {
            writing.writer.as_ref().map_or(0, CheckpointWriter::pending)
                + writing
                    .pieces
                    .iter()
                    .map(|(_, piece)| piece.len())
                    .sum::<usize>()
        })
    }

    /// Adds the state of a partition with every record up to `as_of` in it.
    /// Without a checkpoint begun, or when its disk failed, nothing happens.
    pub fn checkpoint_add(
        &mut self,
        resource: ResourceId,
        partition: PartitionId,
        domain: u8,
        as_of: Lsn,
        state: &[u8],
    ) {
        let Some(writing) = &mut self.checkpoints.writing else {
            return;
        };
        let Some(writer) = &mut writing.writer else {
            return;
        };
        if writer
            .add((resource, partition), domain, as_of, state)
            .is_err()
        {
            // Too much for the format: without it the log replays from before.
            self.drop_checkpoint();
            return;
        }
        writing.as_of = writing.as_of.max(as_of);
        writing.replay_from = writing.replay_from.min(Lsn(as_of.0 + 1));
        if let Some(piece) = writer.poll_write(PIECE_BYTES) {
            writing.pieces.push_back(piece);
        }
        self.pump_checkpoint(Monotonic::ZERO);
    }

    /// Everything was added. [`LogEvent::CheckpointDone`] follows when it is
    /// durable.
    pub fn checkpoint_end(&mut self) {
        let Some(writing) = &mut self.checkpoints.writing else {
            return;
        };
        let Some(writer) = writing.writer.take() else {
            return;
        };
        match writer.finish(writing.replay_from, &writing.segments) {
            Ok(pieces) => writing.pieces.extend(pieces),
            Err(_) => return self.drop_checkpoint(),
        }
        self.pump_checkpoint(Monotonic::ZERO);
    }

    pub(crate) fn want_checkpoint(&mut self) {
        let checkpoints = &mut self.checkpoints;
        let due = checkpoints.written >= self.config.checkpoint_every_bytes;
        if due
            && !checkpoints.wanted
            && checkpoints.retry_at.is_none()
            && checkpoints.writing.is_none()
            && self.phase == Phase::Running
        {
            checkpoints.wanted = true;
            self.events.push_back(LogEvent::CheckpointWanted);
        }
    }

    pub(crate) fn pump_checkpoint(&mut self, _now: Monotonic) {
        if self.phase == Phase::Failed {
            return;
        }
        let (log, committed) = (self.config.log, self.committed());
        let Some(writing) = &mut self.checkpoints.writing else {
            return;
        };
        if writing.busy {
            return;
        }
        let number = writing.number;
        let file = FileId::Checkpoint { log, number };
        if !writing.made {
            writing.busy = true;
            let op = self.op(Work::Checkpoint(number));
            self.request(DiskRequest::Create {
                op,
                file,
                len: 0,
                background: Background::Written,
            });
            return;
        }
        let is_trailer = writing.writer.is_none() && writing.pieces.len() == 1;
        // A state may hold records that are not durable yet; a trailer above
        // them would make true what a crash takes back.
        if is_trailer && writing.as_of > committed {
            return;
        }
        if let Some((offset, data)) = writing.pieces.pop_front() {
            writing.busy = true;
            let op = self.op(Work::Checkpoint(number));
            self.request(DiskRequest::Write {
                op,
                file,
                offset,
                data,
            });
        }
    }

    pub(crate) fn checkpoint_step_done(
        &mut self,
        now: Monotonic,
        number: u64,
        result: Result<(), DiskError>,
    ) {
        let writing = self.checkpoints.writing.as_mut();
        let Some(writing) = writing.filter(|writing| writing.number == number) else {
            // It was given up while the disk was at it.
            self.checkpoints.old.push_back(number);
            return self.remove_old_checkpoints();
        };
        writing.busy = false;
        if result.is_err() {
            // Nothing depends on it: the log replays from before, and another
            // one is wanted later, under another number.
            self.drop_checkpoint();
            self.checkpoints.retry_at = Some(now + CHECKPOINT_RETRY);
            self.checkpoints.written = self.config.checkpoint_every_bytes;
            return;
        }
        if writing.made {
            self.stats.writes += 1;
        }
        writing.made = true;
        if writing.writer.is_some() || !writing.pieces.is_empty() {
            self.pump_checkpoint(now);
            return;
        }
        let done = (writing.number, writing.replay_from);
        self.checkpoints.writing = None;
        self.checkpoints.durable.push_back(done);
        while self.checkpoints.durable.len() > KEPT {
            if let Some((number, _)) = self.checkpoints.durable.pop_front() {
                self.checkpoints.old.push_back(number);
            }
        }
        self.remove_old_checkpoints();
        self.stats.checkpoints += 1;
        self.segments.emptied = true;
        self.events.push_back(LogEvent::CheckpointDone);
    }

    /// Gives up a checkpoint that the owner has not ended: it never will.
    pub(crate) fn stop_collecting(&mut self) {
        let writing = self.checkpoints.writing.as_ref();
        if writing.is_some_and(|writing| writing.writer.is_some()) {
            self.drop_checkpoint();
        }
    }

    /// Gives up the checkpoint being written.
    fn drop_checkpoint(&mut self) {
        let Some(writing) = self.checkpoints.writing.take() else {
            return;
        };
        if writing.busy {
            // The disk is at it: the file is removed after that.
            return;
        }
        self.checkpoints.old.push_back(writing.number);
        self.remove_old_checkpoints();
    }

    pub(crate) fn remove_old_checkpoints(&mut self) {
        for _ in 0..self.checkpoints.old.len() {
            let Some(number) = self.checkpoints.old.pop_front() else {
                return;
            };
            // Somebody copies it: it goes after that.
            let pin = self.pin.as_ref();
            if pin.is_some_and(|pin| pin.has_checkpoint(number)) {
                self.checkpoints.old.push_back(number);
                continue;
            }
            let file = FileId::Checkpoint {
                log: self.config.log,
                number,
            };
            let op = self.op(Work::OldCheckpoint);
            self.request(DiskRequest::Remove { op, file });
        }
    }
}
