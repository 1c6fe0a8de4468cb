//! The log: what is appended, what is durable, what goes to the disk next.
//!
//! Records are appended to an *open* group whose place is known from its first
//! record on. The group is closed when the disk is free or when it is full, and
//! one closed group is written at a time; what arrives meanwhile is the next
//! group. Read [`Log::append`], `pump` and [`Log::handle_done`] first; the files
//! beside this one hold what goes on behind: `files` (segments made, sealed,
//! removed), `reads`, `compact`, `checkpoint`.

use core::time::Duration;
use std::collections::VecDeque;

use pinion_types::{FixedMap, Monotonic, PartitionId, ResourceId, WallMs};

use crate::checkpoint::Checkpoints;
use crate::compact::Compaction;
use crate::config::{AdmitError, LogConfig};
use crate::disk::{
    BLOCK, BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, OpId, UNIT,
};
use crate::events::{Damage, LogEvent, LogStats, group_size};
use crate::files::FileWork;
use crate::format::{
    Chain, GROUP_HEADER, GROUP_TAIL, GroupWriter, RECORD_HEADER, RecordFlags, SegmentHeader,
    SegmentKey,
};
use crate::index::{Partitions, Place};
use crate::pin::Pin;
use crate::reads::Reads;
use crate::segments::{FileState, Segment, Segments};
use crate::{Location, Lsn, RecordHead};

/// Resource of the log's own records; no client's resource has this number.
pub const CONTROL: ResourceId = ResourceId(0);

/// Kind of a control record: the segment whose number is in `first` is removed.
pub const SEGMENT_REMOVED: u8 = 1;

/// Room kept for control records when the disk is full: announcing a removal
/// needs a block, and only removals give room back.
const CONTROL_RESERVE: u64 = 64 << 10;

/// Buffers kept for the next groups: one is filled while one is written.
const BUFFERS_KEPT: usize = 2;

/// Bytes that a record takes in a group, at most, beside its extension and body:
/// what [`Log::admit`] is asked for is the sum of all three.
pub const RECORD_OVERHEAD: usize = RECORD_HEADER + 7;

/// A record to be appended.
#[derive(Clone, Copy, Debug)]
pub struct RecordIn<'a> {
    /// What it says of itself.
    pub head: RecordHead,
    /// The domain's extension, in parts; at most 65,535 bytes in all.
    pub ext: &'a [&'a [u8]],
    /// The body, in parts.
    pub body: &'a [&'a [u8]],
    /// The body must stay readable by its [`Location`] until it is released.
    /// Without it, a record with a `count` lives by its offsets until
    /// [`Log::release_stream`], and one without is needed for replay only.
    pub retain: bool,
}

/// What was appended. The places of all its records:
/// [`Log::appended_locations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Number of the first record.
    pub first: Lsn,
    /// Number of the last record.
    pub last: Lsn,
    /// Where the first record will lie.
    pub first_location: Location,
}

/// A retained body on its way to another place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) head: RecordHead,
    pub(crate) from: Location,
    pub(crate) to: Location,
}

#[derive(Debug)]
struct OpenGroup {
    writer: GroupWriter,
    bytes: usize,
    moves: Vec<Move>,
}

/// A group that waits for the disk or is being written.
#[derive(Debug)]
struct ClosedGroup {
    segment: u64,
    offset: u32,
    end: u32,
    last: Lsn,
    bytes: usize,
    moves: Vec<Move>,
    /// Empty while the disk has it.
    buffer: Option<BlockBuf>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// The oldest closed group.
    Group,
    /// Header of a segment.
    Header(u64),
    /// Files made, cut, sealed, removed.
    File(FileWork),
    /// Part of a checkpoint.
    Checkpoint(u64),
    /// A checkpoint that is not needed any more.
    OldCheckpoint,
    /// For a read.
    Read(u64),
    /// For the compaction.
    Compact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Sealing,
    Sealed,
    Failed,
}

/// One log. Owned by one data core.
#[derive(Debug)]
pub struct Log {
    pub(crate) config: LogConfig,
    pub(crate) phase: Phase,
    /// The owner has told what is alive.
    pub(crate) told: bool,
    pub(crate) segments: Segments,
    pub(crate) partitions: Partitions,

    /// What the next group to be begun continues.
    pub(crate) next: Chain,
    pub(crate) appended: Lsn,
    pub(crate) committed: Lsn,
    /// Segment that is appended to.
    pub(crate) cursor: u64,
    open: Option<OpenGroup>,
    closed: VecDeque<ClosedGroup>,
    /// Whether a group or a header is being written: one at a time.
    writing: bool,
    pub(crate) pending_bytes: usize,
    locations: Vec<Location>,
    buffers: Vec<BlockBuf>,

    ops: u64,
    pub(crate) work: FixedMap<OpId, Work>,
    urgent: VecDeque<DiskRequest>,
    background: VecDeque<DiskRequest>,
    pub(crate) events: VecDeque<LogEvent>,

    pub(crate) files: crate::files::FilesState,
    pub(crate) reads: Reads,
    pub(crate) compaction: Compaction,
    pub(crate) checkpoints: Checkpoints,
    /// Somebody copies the log.
    pub(crate) pin: Option<Pin>,
    pub(crate) stats: LogStats,
}

// ------------------------------------------------------------------ appending

impl Log {
    /// Whether records of `bytes` in all (extension, body and
    /// [`RECORD_OVERHEAD`] each) may be appended now. An `essential` append frees
    /// space: it passes on a full disk while the reserve lasts.
    ///
    /// # Errors
    /// Why not; nothing happened.
    pub fn admit(&self, bytes: usize, essential: bool) -> Result<(), AdmitError> {
        if self.phase != Phase::Running {
            return Err(AdmitError::Failed);
        }
        let limit = self.append_bytes_max();
        if bytes > limit {
            return Err(AdmitError::TooLarge { bytes, limit });
        }
        if self.pending_bytes + bytes > self.config.backlog_bytes_max && self.pending_bytes > 0 {
            let limit = self.config.backlog_bytes_max;
            return Err(AdmitError::Backlogged { limit });
        }
        if let Some(room) = self.room_left() {
            let kept = if essential {
                0
            } else {
                self.config.reserve_bytes
            };
            // A group of its own: its header and the padding to a block.
            let needed = (bytes + 2 * BLOCK) as u64 + kept + CONTROL_RESERVE;
            if room < needed {
                return Err(AdmitError::ReadOnly);
            }
        }
        Ok(())
    }

    /// Bytes of the largest append: a group that fills a segment, or the
    /// format's limit.
    fn append_bytes_max(&self) -> usize {
        let segment = usize::try_from(self.config.segment_bytes).unwrap_or(usize::MAX);
        (segment - BLOCK).min(crate::format::GROUP_BYTES_MAX) - GROUP_HEADER - GROUP_TAIL.len()
    }

    /// Appends `records` as one unit: after a crash all of them are there or
    /// none. The caller was admitted ([`Log::admit`]); when it was not, the
    /// records may never become durable. They go to the disk with
    /// [`Log::end_turn`] at the latest.
    ///
    /// # Panics
    /// When `records` is empty, or larger than `admit` allows.
    pub fn append(&mut self, _now: Monotonic, records: &[RecordIn<'_>]) -> Appended {
        assert!(!records.is_empty(), "an append has records");
        self.locations.clear();
        let mut payload = 0;
        for record in records {
            payload += total(record.ext) + total(record.body);
        }
        self.make_room(records.len(), payload);
        let mut first = None;
        for record in records {
            let flags = RecordFlags {
                carried: false,
                retained: record.retain,
            };
            let (lsn, location, _) = self.push(&record.head, flags, record.ext, record.body);
            first.get_or_insert((lsn, location));
            self.locations.push(location);
            if record.retain {
                self.segments.retain(location);
            }
        }
        let (first, first_location) = first.expect("an append has records");
        self.close_if_full();
        Appended {
            first,
            last: self.appended,
            first_location,
        }
    }

    /// Where the records of the last [`Log::append`] will lie, in their order.
    #[must_use]
    pub fn appended_locations(&self) -> &[Location] {
        &self.locations
    }

    /// A record of the log's own.
    pub(crate) fn append_control(&mut self, kind: u8, first: u64) -> Lsn {
        let head = RecordHead {
            resource: CONTROL,
            partition: PartitionId(0),
            kind,
            first,
            count: 0,
            epoch: 0,
            timestamp: WallMs(0),
        };
        self.make_room(1, 0);
        self.push(&head, RecordFlags::default(), &[], &[]).0
    }

    /// A verified record again, at a new place.
    pub(crate) fn append_carried(
        &mut self,
        head: &RecordHead,
        retained: Option<Location>,
        ext: &[u8],
        body: &[u8],
    ) -> (Lsn, Option<Place>) {
        self.make_room(1, ext.len() + body.len());
        let flags = RecordFlags {
            carried: true,
            retained: retained.is_some(),
        };
        let (lsn, to, place) = self.push(head, flags, &[ext], &[body]);
        if let Some(from) = retained {
            let open = self.open.as_mut().expect("a record was just pushed");
            open.moves.push(Move {
                head: *head,
                from,
                to,
            });
        }
        self.stats.carried += 1;
        self.close_if_full();
        (lsn, place)
    }

    /// Sees to it that the open group can take `count` records with `payload`
    /// bytes, in this segment or the next one.
    fn make_room(&mut self, count: usize, payload: usize) {
        let alone = GROUP_HEADER + GROUP_TAIL.len() + count * RECORD_OVERHEAD + payload;
        if let Some(open) = &self.open {
            let extent = open.writer.extent_with(count, payload);
            let end = u64::from(open.writer.offset()) + extent as u64;
            if extent <= self.config.group_bytes_max && end <= self.config.segment_bytes {
                return;
            }
            self.close();
        }
        let segment = self.active();
        let end = u64::from(segment.end) + alone.next_multiple_of(BLOCK) as u64;
        if end > self.config.segment_bytes || self.leaves_early() {
            self.roll();
        }
        let segment = self.active();
        let end = u64::from(segment.end) + alone as u64;
        assert!(
            end <= self.config.segment_bytes,
            "an admitted append fits a segment: {payload} bytes in {count} records"
        );
        let (key, offset) = (segment.key, segment.end);
        let buffer = self
            .buffers
            .pop()
            .unwrap_or_else(|| BlockBuf::zeroed(BLOCK));
        self.open = Some(OpenGroup {
            writer: GroupWriter::begin(buffer, key, offset, self.next),
            bytes: 0,
            moves: Vec::new(),
        });
    }

    fn push(
        &mut self,
        head: &RecordHead,
        flags: RecordFlags,
        ext: &[&[u8]],
        body: &[&[u8]],
    ) -> (Lsn, Location, Option<Place>) {
        let open = self.open.as_mut().expect("room was made");
        let pushed = open
            .writer
            .push(head, flags, ext, body)
            .expect("an admitted append fits the format's limits");
        let (lsn, location) = (pushed.lsn, pushed.location);
        let bytes = (location.len as usize).next_multiple_of(8);
        open.bytes += bytes;
        let group_block = open.writer.offset() / UNIT;
        self.pending_bytes += bytes;
        self.appended = lsn;
        self.stats.records += 1;
        self.stats.bytes += bytes as u64;
        self.checkpoints.written += bytes as u64;
        let place = self.partitions.note(
            &mut self.segments,
            self.cursor,
            head,
            flags,
            location.len,
            group_block,
        );
        (lsn, location, place)
    }

    fn close_if_full(&mut self) {
        let full = self
            .open
            .as_ref()
            .is_some_and(|open| open.writer.extent() >= self.config.group_bytes_max);
        if full {
            self.close();
            self.pump(false);
        }
    }

    /// The open group takes no more records.
    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let finished = open.writer.finish();
        let header = finished.header;
        self.next = header.next();
        let segment = self
            .segments
            .get_mut(self.cursor)
            .expect("the active segment is known");
        segment.end = header.end();
        segment.last_lsn = header.last_lsn();
        segment.last_group = header.chain.sequence;
        segment.last_crc = header.crc;
        let index = segment
            .index
            .as_mut()
            .expect("the active segment has its index");
        index.close_group(header.end() / UNIT);
        self.note_group(header.end() - header.offset);
        self.closed.push_back(ClosedGroup {
            segment: self.cursor,
            offset: header.offset,
            end: header.end(),
            last: header.last_lsn(),
            bytes: open.bytes,
            moves: open.moves,
            buffer: Some(finished.buffer),
        });
    }

    /// What follows goes to the next segment.
    fn roll(&mut self) {
        debug_assert!(self.open.is_none(), "a group lies in one segment");
        self.files.to_seal.push_back(self.cursor);
        let number = self.cursor + 1;
        let salt = self.files.salts.next();
        let key = SegmentKey { number, salt };
        let mut segment = Segment::new(key, self.next, self.config.segment_bytes);
        if let Some((spare, background)) = self.files.spare.take() {
            debug_assert_eq!(spare, number, "the spare is the next segment");
            segment.file = FileState::Made;
            segment.background = background;
        }
        self.segments.push(segment);
        self.cursor = number;
        self.pump_files();
    }

    /// Whether records are meant for the segment that are not durable yet.
    pub(crate) fn has_pending(&self, segment: &Segment) -> bool {
        segment.durable < segment.end || (segment.key.number == self.cursor && self.open.is_some())
    }

    pub(crate) fn active(&self) -> &Segment {
        self.segments
            .get(self.cursor)
            .expect("the active segment is known")
    }

    /// Bytes that can still be written into prepared segments, when no more can
    /// be prepared; `None` while the disk gives room.
    pub(crate) fn room_left(&self) -> Option<u64> {
        self.files.refused?;
        let segment = self.active();
        if segment.file < FileState::Made {
            return Some(0);
        }
        let open = self
            .open
            .as_ref()
            .map_or(0, |open| open.writer.extent() as u64);
        Some(
            self.config
                .segment_bytes
                .saturating_sub(u64::from(segment.end) + open),
        )
    }
}

fn total(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

// -------------------------------------------------------------- turns and disk

impl Log {
    /// Ends a turn of the core: what was appended goes to the disk, if it is
    /// free; otherwise with the write after the one in flight.
    pub fn end_turn(&mut self, now: Monotonic) {
        self.background_work(now);
        self.pump(true);
    }

    /// The next thing the disk must do. Writes of groups come first.
    pub fn poll_request(&mut self) -> Option<DiskRequest> {
        self.urgent
            .pop_front()
            .or_else(|| self.background.pop_front())
    }

    /// A request is over.
    pub fn handle_done(&mut self, now: Monotonic, done: DiskDone) {
        let Some(work) = self.work.remove(&done.op) else {
            debug_assert!(false, "{:?} was not asked or is done already", done.op);
            return;
        };
        match work {
            Work::Group => self.group_done(now, done.result),
            Work::Header(number) => self.header_done(number, done.result.map(drop)),
            Work::File(file) => self.file_done(now, file, done.result),
            Work::Checkpoint(number) => {
                self.checkpoint_step_done(now, number, done.result.map(drop));
            }
            Work::OldCheckpoint => {}
            Work::Read(job) => self.read_done(job, done.result),
            Work::Compact => self.compact_read_done(now, done.result),
        }
        self.background_work(now);
        self.pump(true);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// When [`Log::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.phase == Phase::Failed {
            return None;
        }
        [
            self.files.make_at,
            self.files.retry_at,
            self.compaction.resume_at,
            self.checkpoints.retry_at,
            self.pin.as_ref().map(|pin| pin.limits.until),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The time has come.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        for at in [&mut self.files.make_at, &mut self.files.retry_at] {
            at.take_if(|at| *at <= now);
        }
        if self.compaction.resume_at.is_some_and(|at| at <= now) {
            self.compaction.resume_at = None;
        }
        if self.checkpoints.retry_at.is_some_and(|at| at <= now) {
            self.checkpoints.retry_at = None;
        }
        self.pin_timeout(now);
        self.background_work(now);
        self.pump(true);
    }

    fn background_work(&mut self, now: Monotonic) {
        if self.phase == Phase::Failed {
            return;
        }
        self.compact(now);
        self.collect();
        self.want_checkpoint();
        self.pump_files();
        self.finish_seal();
    }

    /// Gives the disk its next write. `flush` says that the open group need not
    /// wait for more company.
    pub(crate) fn pump(&mut self, flush: bool) {
        if self.writing || matches!(self.phase, Phase::Failed | Phase::Sealed) {
            return;
        }
        if self.closed.is_empty() && flush {
            self.close();
        }
        let Some(group) = self.closed.front_mut() else {
            return;
        };
        let number = group.segment;
        let segment = self
            .segments
            .get(number)
            .expect("a group's segment is known");
        let file = FileId::Segment {
            log: self.config.log,
            number,
        };
        match segment.file {
            FileState::Open => {
                let data = group.buffer.take().expect("a group is written once");
                let offset = group.offset.into();
                self.writing = true;
                let op = self.op(Work::Group);
                self.urgent.push_back(DiskRequest::Write {
                    op,
                    file,
                    offset,
                    data,
                });
            }
            // A torn tail is cut before the log goes on: otherwise it might look
            // like part of it after the next crash.
            FileState::Made if self.files.cutting.is_none() => {
                let header = SegmentHeader {
                    store: self.config.store,
                    log: self.config.log,
                    number,
                    salt: segment.key.salt,
                    chain: segment.chain,
                    segment_bytes: self.config.segment_bytes,
                    created: self.config.started,
                };
                let mut data = BlockBuf::zeroed(BLOCK);
                data.as_mut_slice().copy_from_slice(&header.encode());
                self.writing = true;
                let op = self.op(Work::Header(number));
                self.urgent.push_back(DiskRequest::Write {
                    op,
                    file,
                    offset: 0,
                    data,
                });
            }
            // The file is on its way.
            FileState::Made | FileState::Planned => {}
            FileState::Closed => unreachable!("a sealed segment takes no groups"),
        }
    }

    fn header_done(&mut self, number: u64, result: Result<(), DiskError>) {
        self.writing = false;
        match result {
            Ok(()) => {
                self.stats.writes += 1;
                let segment = self.segments.get_mut(number).expect("it is being opened");
                segment.file = FileState::Open;
            }
            Err(error) => self.fail(error),
        }
    }

    fn group_done(&mut self, now: Monotonic, result: Result<DiskOutput, DiskError>) {
        self.writing = false;
        if self.phase == Phase::Failed {
            return;
        }
        let buffer = match result {
            Ok(DiskOutput::Written(buffer)) => Some(buffer),
            Ok(_) => None,
            // After a failed write nobody knows what is on the disk, and a second
            // try could make an older failure look like success. So no second one.
            Err(error) => return self.fail(error),
        };
        let group = self.closed.pop_front().expect("a group was being written");
        if let Some(buffer) = buffer
            && self.buffers.len() < BUFFERS_KEPT
            && buffer.capacity() <= 2 * self.config.group_bytes_max
        {
            self.buffers.push(buffer);
        }
        let segment = self
            .segments
            .get_mut(group.segment)
            .expect("it is being written");
        segment.durable = group.end;
        self.pending_bytes -= group.bytes;
        let records = group.last.0 - self.committed.0;
        self.committed = group.last;
        self.stats.writes += 1;
        self.stats.groups += 1;
        self.stats.groups_by_records[group_size(records)] += 1;
        self.stats.committed_records += records;
        // The next write leaves before anything is done with this one.
        self.pump(true);
        self.events
            .push_back(LogEvent::Committed { lsn: group.last });
        for moved in group.moves {
            // Released while it was copied: then the copy is dead, too.
            if self.segments.release(moved.from) {
                self.segments.retain(moved.to);
                let Move { head, from, to } = moved;
                self.events
                    .push_back(LogEvent::Relocated { head, from, to });
            }
        }
        self.removals_committed();
        self.pump_checkpoint(now);
        self.pump_reads();
    }

    /// Nothing is written any more. What is appended and not committed is
    /// neither acknowledged nor denied.
    pub(crate) fn fail(&mut self, error: DiskError) {
        if self.phase == Phase::Failed {
            return;
        }
        self.phase = Phase::Failed;
        // Reads go on; a request that was not handed out yet never is.
        self.urgent.clear();
        self.background
            .retain(|request| matches!(request, DiskRequest::Read { .. }));
        self.events.push_back(LogEvent::Failed { error });
    }

    pub(crate) fn op(&mut self, work: Work) -> OpId {
        self.ops += 1;
        let op = OpId(self.ops);
        self.work.insert(op, work);
        op
    }

    pub(crate) fn request(&mut self, request: DiskRequest) {
        self.background.push_back(request);
    }

    pub(crate) fn report_damage(&mut self, damage: Damage) {
        if let Some(segment) = self.segments.get_mut(damage.segment) {
            segment.damaged = true;
        }
        self.events.push_back(LogEvent::Damaged(damage));
    }
}

impl Log {
    /// A log without records, or the one that recovery found, about to append
    /// behind everything in `segments`.
    pub(crate) fn assemble(
        config: LogConfig,
        segments: Segments,
        partitions: Partitions,
        next: Chain,
        cursor: u64,
        files: crate::files::FilesState,
        checkpoints: Checkpoints,
    ) -> Self {
        let last = Lsn(next.lsn.0 - 1);
        let mut log = Self {
            phase: Phase::Running,
            told: false,
            segments,
            partitions,
            next,
            appended: last,
            committed: last,
            cursor,
            open: None,
            closed: VecDeque::new(),
            writing: false,
            pending_bytes: 0,
            locations: Vec::new(),
            buffers: Vec::new(),
            ops: 0,
            work: FixedMap::default(),
            urgent: VecDeque::new(),
            background: VecDeque::new(),
            events: VecDeque::new(),
            files,
            reads: Reads::default(),
            compaction: Compaction::default(),
            checkpoints,
            pin: None,
            stats: LogStats::default(),
            config,
        };
        log.pump_files();
        log
    }

    /// Whether every appended record is durable.
    pub(crate) fn is_flushed(&self) -> bool {
        self.open.is_none() && self.closed.is_empty() && !self.writing
    }
}

/// Pause between two tries of whatever a full disk refused.
pub(crate) const RETRY: Duration = crate::config::CREATE_RETRY;
