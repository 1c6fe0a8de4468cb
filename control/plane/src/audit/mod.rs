//! The audit log: what was asked of the control plane, by whom, and what became of it.
//!
//! Every node keeps its own, in a log beside the group's. A command has its rows on every
//! node that applies it, once: after a restart commands are applied again, and those up to
//! the last one that has rows are passed over. The group's snapshot waits until the rows of
//! what is in it are durable, so that no command can be forgotten by both. So rows of
//! commands may wait for others before they go to the disk ([`AuditConfig::gather`]): the
//! next command finds the disk free. Nobody sees that they waited, because a query first
//! has them written. When rows cannot be written, nothing new is taken; what was decided
//! all the same leaves a row that says which are missing.

mod ask;
mod everywhere;
mod row;
mod search;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use pinion_commitlog::{
    Damage, DiskDone, DiskError, DiskRequest, Files, Log, LogConfig, LogEvent, LogId, LogState,
    LogStats, Lsn, PinLimits, PinRefused, Pinned, RECORD_OVERHEAD, RecordHead, RecordIn,
    RecoverError, RecoveryReport, Replay, recover,
};
use pinion_metadata::{BrokerNumber, MetaVersion};
use pinion_types::{Monotonic, Offset, PartitionId, ResourceId, WallMs};

use crate::limits::{AUDIT_GATHER, AUDIT_GATHER_BYTES_MAX, AUDIT_TRIM_EVERY};
use crate::names::PeerName;
use crate::request::RequestId;
use row::ROW_BYTES_MAX;
use search::Search;

pub use ask::{AuditAsk, AuditSaid, Said};
pub(crate) use everywhere::Gather;
pub use everywhere::{AuditEverywhere, AuditPages, AuditSilence};
pub(crate) use row::rows_of;
pub use row::{AuditResult, AuditRow, RowError};
pub use search::{AuditPage, AuditQuery};

/// The log of the rows, beside the group's.
pub const AUDIT_LOG: LogId = LogId(u16::MAX - 2);

/// The resource and partition that all rows are of; 0 is the log's own.
const RESOURCE: ResourceId = ResourceId(1);
const PARTITION: PartitionId = PartitionId(0);

/// The kind of a row's record, and the domain of the state in a checkpoint.
const KIND_ROW: u8 = 220;

/// The part of a segment that is kept for what makes room, and for rows of what was decided,
/// once the disk is full. A smaller part refuses other changes later and these sooner.
const RESERVE_SHARE: u64 = 2;

/// The part of a segment that is kept for rows of what was decided alone.
const DECIDED_SHARE: u64 = 8;

/// Settings of the audit log.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// Bytes of a segment: rows are removed by whole segments.
    pub segment_bytes: u64,
    /// Bytes of rows between two checkpoints: what a start reads.
    pub checkpoint_every_bytes: u64,
    /// How long a row is kept.
    pub keep: Duration,
    /// Bytes of rows that are kept.
    pub keep_bytes: u64,
    /// How long a row of a command may wait for others. Longer leaves the disk to commands
    /// more often; after a crash a row that waited is written again, without the address
    /// that its request came from.
    pub gather: Duration,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            checkpoint_every_bytes: 16 << 20,
            keep: Duration::from_secs(90 * 24 * 3600),
            keep_bytes: 256 << 20,
            gather: AUDIT_GATHER,
        }
    }
}

/// Why the audit log cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    /// The log itself.
    #[error("the audit log (log-65533): {0}")]
    Log(#[from] RecoverError),
    /// A record or a state is not what this release writes.
    #[error("record {lsn} of the audit log: {error}")]
    Record {
        /// Its number; of a state the one up to which it speaks.
        lsn: u64,
        /// What is wrong.
        error: RowError,
    },
}

/// Who waits for a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuditAsker {
    /// A request for rows of this node.
    Request(RequestId),
    /// A request for rows of all nodes: this one's part of them.
    Everywhere(RequestId),
    /// Another node, by its number of the question.
    Peer(PeerName, u64),
}

/// What the audit log tells the plane.
#[derive(Debug)]
pub(crate) enum AuditEvent {
    /// A write failed: it takes no more rows.
    Failed(DiskError),
    /// The disk is full, or has room again.
    ReadOnly(bool),
    /// Rows cannot be read.
    Damaged(Damage),
    /// A query is answered; `None` when rows cannot be read.
    Found(AuditAsker, Option<AuditPage>),
    /// Everything is written.
    Sealed,
}

/// What is known of rows that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// They are on their way to the disk.
    Waiting,
    /// A crash does not take them away any more.
    Durable,
    /// The log failed before: they may be there, and nobody knows.
    Lost,
}

/// How far the rows are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    /// The row that comes next.
    next: u64,
    /// The last entry of the group that has rows, or is known to have none.
    index: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct AuditLog {
    log: Log,
    config: AuditConfig,
    place: Place,
    /// Entries, first and last, whose rows could not be written.
    missing: Option<(u64, u64)>,
    /// Who asked, for the row that says so.
    origin: BrokerNumber,
    searches: BTreeMap<u64, Search>,
    last_search: u64,
    /// Searches that wait until rows up to the given one are durable, oldest first.
    held: VecDeque<(Lsn, u64)>,
    /// Rows that wait for others, in their order.
    gathered: Vec<Rows>,
    /// Room that they take in the log.
    gathered_bytes: usize,
    /// When they go to the disk.
    flush_at: Option<Monotonic>,
    now: Monotonic,
    /// As of the last turn.
    wall: WallMs,
    /// When old rows are looked for next.
    trim_at: Monotonic,
    events: VecDeque<AuditEvent>,
}

/// Rows that are appended together: all of them or none, after a crash, too.
#[derive(Debug)]
struct Rows {
    bytes: Vec<u8>,
    /// Where each of them ends there, and its time.
    ends: Vec<(usize, WallMs)>,
}

impl Rows {
    fn of(rows: &[AuditRow]) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            row.encode(&mut bytes);
            ends.push((bytes.len(), row.at));
        }
        Self { bytes, ends }
    }

    /// What they take in the log.
    fn room(&self) -> usize {
        self.bytes.len() + self.ends.len() * RECORD_OVERHEAD
    }
}

impl AuditLog {
    /// Opens the log. `applied` is the last entry that the metadata holds at the start:
    /// rows of entries up to it will not be written any more.
    pub(crate) fn open(
        config: AuditConfig,
        (store, seed): ([u8; 16], u64),
        applied: u64,
        files: &mut dyn Files,
        wall: WallMs,
    ) -> Result<(Self, RecoveryReport), AuditOpenError> {
        let log_config = LogConfig {
            log: AUDIT_LOG,
            store,
            // Not the salts of the group's log.
            seed: seed ^ u64::from(AUDIT_LOG.0),
            segment_bytes: config.segment_bytes,
            checkpoint_every_bytes: config.checkpoint_every_bytes,
            // For rows of what was decided, and of what makes room.
            reserve_bytes: config.segment_bytes / RESERVE_SHARE,
            started: wall,
            ..LogConfig::default()
        };
        let mut place = Place::default();
        let mut failed = None;
        let recovered = recover(files, log_config, &mut |replay| {
            if failed.is_none() {
                failed = place.replay(&replay).err();
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let mut log = recovered.log;
        log.ready();
        let missing = (place.index < applied).then_some((place.index + 1, applied));
        let audit = Self {
            log,
            config,
            place,
            missing,
            origin: BrokerNumber(0),
            searches: BTreeMap::new(),
            last_search: 0,
            held: VecDeque::new(),
            gathered: Vec::new(),
            gathered_bytes: 0,
            flush_at: None,
            now: Monotonic::ZERO,
            wall,
            trim_at: Monotonic::ZERO,
            events: VecDeque::new(),
        };
        Ok((audit, recovered.report))
    }

    /// This node's broker is known from now on.
    pub(crate) fn set_origin(&mut self, origin: BrokerNumber) {
        self.origin = origin;
    }

    // --------------------------------------------------------------------- rows

    /// Whether there is room for the rows of what is asked now. What takes away, `essential`,
    /// leaves some for what was decided before.
    pub(crate) fn takes(&self, essential: bool) -> bool {
        let row = self.gathered_bytes + ROW_BYTES_MAX + RECORD_OVERHEAD;
        let decided = self.config.segment_bytes / DECIDED_SHARE;
        let decided = usize::try_from(decided).unwrap_or(usize::MAX);
        let room = if essential { row + decided } else { row };
        self.missing.is_none() && self.log.admit(room, essential).is_ok()
    }

    /// Takes the rows of the entry at `index`, unless it has them from a past life. What
    /// was decided takes the room that is kept for it.
    pub(crate) fn applied(&mut self, now: Monotonic, index: u64, rows: &[AuditRow]) {
        self.now = now;
        if index <= self.place.index {
            return;
        }
        self.place.index = index;
        let gather = self.config.gather;
        let written = self.write_missing() && self.write(rows, true, gather);
        if !written {
            let first = self.missing.map_or(index, |(first, _)| first);
            self.missing = Some((first, index));
        }
    }

    /// The metadata holds everything up to `index` from now on, and this node applied
    /// none of what is new in it.
    pub(crate) fn skipped(&mut self, index: u64) {
        if index > self.place.index {
            let first = self
                .missing
                .map_or(self.place.index + 1, |(first, _)| first);
            self.missing = Some((first, index));
            self.place.index = index;
        }
    }

    /// Writes the row of something that was refused before it became a command; whether
    /// it could.
    pub(crate) fn denied(&mut self, now: Monotonic, row: &AuditRow) -> bool {
        self.now = now;
        // It waits for nobody: no log would bring it back.
        self.write(core::slice::from_ref(row), false, Duration::ZERO)
    }

    /// Says which rows are missing, if any are; whether none is any more.
    fn write_missing(&mut self) -> bool {
        let Some((index, to)) = self.missing else {
            return true;
        };
        let row = AuditRow {
            at: self.wall,
            index,
            version: MetaVersion(0),
            request: 0,
            origin: self.origin,
            remote: None,
            result: AuditResult::Gap { to },
            principal: crate::duties::PRINCIPAL.into(),
            tenant: "".into(),
            operation: "audit".into(),
            target: "".into(),
        };
        let written = self.write(&[row], true, self.config.gather);
        if written {
            self.missing = None;
        }
        written
    }

    /// Takes rows, all or none; they go to the disk within `wait`. Whether there is room
    /// for them.
    fn write(&mut self, rows: &[AuditRow], essential: bool, wait: Duration) -> bool {
        let rows = Rows::of(rows);
        let room = rows.room();
        // What waits has room already. Together they may be more than one append takes,
        // although each is not.
        if self.gathered_bytes + room > AUDIT_GATHER_BYTES_MAX {
            self.flush();
        }
        let total = self.gathered_bytes + room;
        if self.log.admit(total, essential).is_err() {
            self.flush();
            if self.log.admit(room, essential).is_err() {
                return false;
            }
        }
        self.gathered_bytes += room;
        self.gathered.push(rows);
        let at = self.now + wait;
        self.flush_at = Some(self.flush_at.map_or(at, |flush| flush.min(at)));
        true
    }

    /// Appends what has waited.
    fn flush(&mut self) {
        self.flush_at = None;
        self.gathered_bytes = 0;
        let gathered = core::mem::take(&mut self.gathered);
        if self.failed() {
            // The next life finds what is not here in the group's log.
            return;
        }
        for rows in gathered {
            self.append(&rows);
        }
    }

    fn append(&mut self, rows: &Rows) {
        let begins = core::iter::once(0).chain(rows.ends.iter().map(|(end, _)| *end));
        let bodies: Vec<[&[u8]; 1]> = begins
            .zip(&rows.ends)
            .map(|(begin, (end, _))| [&rows.bytes[begin..*end]])
            .collect();
        let records: Vec<RecordIn<'_>> = rows
            .ends
            .iter()
            .zip(&bodies)
            .zip(self.place.next..)
            .map(|(((_, at), body), number)| RecordIn {
                head: RecordHead {
                    resource: RESOURCE,
                    partition: PARTITION,
                    kind: KIND_ROW,
                    first: number,
                    count: 1,
                    epoch: 0,
                    timestamp: *at,
                },
                ext: &[],
                body,
                retain: false,
            })
            .collect();
        self.log.append(self.now, &records);
        self.place.next += rows.ends.len() as u64;
    }

    /// The last row that was taken, to be compared with [`AuditLog::is_durable`]. It waits
    /// for others no more.
    pub(crate) fn appended(&mut self) -> Lsn {
        self.flush();
        self.log.appended()
    }

    /// Whether the rows up to there are durable, or never will be.
    pub(crate) fn is_durable(&self, lsn: Lsn) -> bool {
        self.kept(lsn) != Kept::Waiting
    }

    /// What is known of the rows up to there.
    pub(crate) fn kept(&self, lsn: Lsn) -> Kept {
        if self.log.committed() >= lsn {
            Kept::Durable
        } else if self.failed() {
            Kept::Lost
        } else {
            Kept::Waiting
        }
    }

    /// What its log has and did.
    pub(crate) fn stats(&self) -> LogStats {
        self.log.stats()
    }

    fn failed(&self) -> bool {
        self.log.stats().state == LogState::Failed
    }

    // ------------------------------------------------------------------ queries

    /// Looks for rows, among them all that were taken before. [`AuditEvent::Found`]
    /// answers; false when the log takes no more reads.
    pub(crate) fn search(&mut self, asker: AuditAsker, query: AuditQuery) -> bool {
        let rows = self.appended();
        self.last_search += 1;
        let token = self.last_search;
        let search = Search::new(asker, query, self.place.next);
        let is_writing = self.log.stats().state == LogState::Running && !self.is_durable(rows);
        // Without room for them they may be long in coming: what there is, is found.
        if is_writing {
            self.held.push_back((rows, token));
        } else if !self.read(token, &search) {
            return false;
        }
        self.searches.insert(token, search);
        true
    }

    /// Nobody waits for the query any more.
    pub(crate) fn forget(&mut self, asker: &AuditAsker) {
        self.searches.retain(|_, search| search.asker != *asker);
    }

    fn read(&mut self, token: u64, search: &Search) -> bool {
        let (from, bytes) = search.wants();
        self.log
            .read_stream(token, RESOURCE, PARTITION, Offset(from), bytes)
            .is_ok()
    }

    // -------------------------------------------------------------------- turns

    pub(crate) fn handle_timeout(&mut self, now: Monotonic) {
        self.now = now;
        self.log.handle_timeout(now);
    }

    pub(crate) fn handle_done(&mut self, now: Monotonic, done: DiskDone) {
        self.log.handle_done(now, done);
    }

    /// Everything that was asked goes to the disk; old rows go.
    pub(crate) fn end_turn(&mut self, now: Monotonic, wall: WallMs) {
        self.now = now;
        self.wall = wall;
        self.write_missing();
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush();
        }
        self.begin_held();
        if now >= self.trim_at {
            self.trim_at = now + AUDIT_TRIM_EVERY;
            self.trim();
        }
        self.log.end_turn(now);
        while let Some(event) = self.log.poll_event() {
            self.take(event);
        }
    }

    /// Searches whose rows are durable by now begin to read.
    fn begin_held(&mut self) {
        while let Some((rows, token)) = self.held.front().copied()
            && (self.is_durable(rows) || self.log.stats().state != LogState::Running)
        {
            self.held.pop_front();
            // Nobody may wait for it any more.
            let Some(search) = self.searches.remove(&token) else {
                continue;
            };
            if self.read(token, &search) {
                self.searches.insert(token, search);
            } else {
                self.events.push_back(AuditEvent::Found(search.asker, None));
            }
        }
    }

    fn trim(&mut self) {
        let keep = u64::try_from(self.config.keep.as_millis()).unwrap_or(u64::MAX);
        let before = WallMs(self.wall.0.saturating_sub(keep));
        let old = self.log.expired(RESOURCE, PARTITION, before);
        let over = self
            .log
            .over_size(RESOURCE, PARTITION, self.config.keep_bytes);
        // After a restart rows that had been released are found again, as far as their
        // segment is there, and released again here.
        if let Some(first) = old.max(over) {
            self.log.release_stream(RESOURCE, PARTITION, first);
        }
    }

    fn take(&mut self, event: LogEvent) {
        match event {
            LogEvent::Failed { error } => self.events.push_back(AuditEvent::Failed(error)),
            LogEvent::ReadOnly(full) => self.events.push_back(AuditEvent::ReadOnly(full)),
            LogEvent::Damaged(damage) => self.events.push_back(AuditEvent::Damaged(damage)),
            LogEvent::Sealed => self.events.push_back(AuditEvent::Sealed),
            LogEvent::CheckpointWanted => {
                // The state speaks of every row up to the last entry.
                self.flush();
                let as_of = self.log.appended();
                let state = self.place.encode();
                self.log.checkpoint_begin();
                self.log
                    .checkpoint_add(RESOURCE, PARTITION, KIND_ROW, as_of, &state);
                self.log.checkpoint_end();
            }
            LogEvent::StreamRead { token, result } => {
                let Some(mut search) = self.searches.remove(&token) else {
                    return;
                };
                let page = match search.handle_read(result) {
                    search::Step::More if self.read(token, &search) => {
                        self.searches.insert(token, search);
                        return;
                    }
                    search::Step::Done(page) => Some(page),
                    search::Step::More | search::Step::Lost => None,
                };
                self.events.push_back(AuditEvent::Found(search.asker, page));
            }
            LogEvent::Committed { .. }
            | LogEvent::RecordRead { .. }
            | LogEvent::Relocated { .. }
            | LogEvent::CheckpointDone => {}
        }
    }

    /// Holds the log still for a backup, as of its last durable row.
    pub(crate) fn pin(&mut self, limits: PinLimits) -> Result<Pinned, PinRefused> {
        self.log.pin(limits)
    }

    /// The backup is over.
    pub(crate) fn unpin(&mut self) {
        self.log.unpin();
    }

    pub(crate) fn seal(&mut self) {
        self.flush();
        self.log.seal();
    }

    pub(crate) fn poll_event(&mut self) -> Option<AuditEvent> {
        self.events.pop_front()
    }

    pub(crate) fn poll_request(&mut self) -> Option<DiskRequest> {
        self.log.poll_request()
    }

    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        // Without rows nothing grows old.
        let trim = (self.log.stream_bytes(RESOURCE, PARTITION) > 0).then_some(self.trim_at);
        let ours = [self.log.next_deadline(), trim, self.flush_at];
        ours.into_iter().flatten().min()
    }
}

impl Place {
    fn replay(&mut self, replay: &Replay<'_>) -> Result<(), AuditOpenError> {
        match *replay {
            Replay::State { as_of, state, .. } => {
                *self = Self::decode(state).map_err(|error| AuditOpenError::Record {
                    lsn: as_of.0,
                    error,
                })?;
            }
            Replay::Record {
                lsn, head, body, ..
            } => {
                let of_record = |error| AuditOpenError::Record { lsn: lsn.0, error };
                if head.kind != KIND_ROW || head.count != 1 {
                    return Err(of_record(RowError { field: "kind" }));
                }
                let (row, rest) = AuditRow::decode(body).map_err(of_record)?;
                if !rest.is_empty() {
                    return Err(of_record(RowError { field: "length" }));
                }
                let last = match row.result {
                    AuditResult::Gap { to } => to,
                    _ => row.index,
                };
                self.index = self.index.max(last);
                self.next = head.first + 1;
            }
            // The rows are lost and the report says so; the others are served.
            Replay::Damage(_) => {}
        }
        Ok(())
    }

    fn encode(self) -> [u8; 24] {
        let mut out = [0; 24];
        out[0] = 1;
        out[8..16].copy_from_slice(&self.next.to_le_bytes());
        out[16..].copy_from_slice(&self.index.to_le_bytes());
        out
    }

    fn decode(state: &[u8]) -> Result<Self, RowError> {
        let wrong = Err(RowError { field: "state" });
        let Ok(state) = <&[u8; 24]>::try_from(state) else {
            return wrong;
        };
        let (head, parts) = state.split_at(8);
        if head != [1, 0, 0, 0, 0, 0, 0, 0] {
            return wrong;
        }
        let mut parts = parts.as_chunks::<8>().0.iter();
        let mut part = || parts.next().map(|part| u64::from_le_bytes(*part));
        match (part(), part()) {
            (Some(next), Some(index)) => Ok(Self { next, index }),
            _ => wrong,
        }
    }
}
