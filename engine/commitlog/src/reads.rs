//! Reads: planned from the index, bounded in number and size, verified record
//! by record before anything is given out.
//!
//! The index is a hint. When a record is not where it says, the whole segment
//! is walked before its loss is reported.

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_types::{FixedMap, Offset};

use crate::config::{READ_BYTES_MAX, READS_QUEUED_MAX, ReadRefused};
use crate::disk::{BLOCK, BlockBuf, DiskError, DiskOutput, DiskRequest, FileId, UNIT};
use crate::events::{LogEvent, ReadError, RecordBytes, StreamChunk};
use crate::format::{INDEX_ENTRY, IndexEntry, decode_entries, decode_record};
use crate::index::{Key, Place};
use crate::log::{Log, Work};
use crate::walk::{Step, Walk};
use crate::{Location, RecordHead};

/// Index entries of sealed runs kept in memory, in runs. A run of a segment of
/// 64 MiB has at most 1,024 entries of 24 bytes.
const INDEX_CACHE_RUNS: usize = 32;

/// Blocks between two entries that are read along rather than read twice.
const GAP_BLOCKS: u32 = 16;

/// Entries looked at for one read of a segment whose index is in memory.
const ENTRIES_PER_READ: usize = 64;

/// Places remembered at which reads ended inside a group. An index leads to a
/// group's start; a reader that goes on where its last read ended would walk a
/// large group's beginning each time. More than this many readers at once and
/// the oldest walk again.
const ENDS_MAX: usize = 64;

#[derive(Debug)]
enum Task {
    Record {
        at: Location,
    },
    Stream {
        key: Key,
        from: u64,
        max_bytes: u32,
        stage: Stage,
    },
}

#[derive(Debug)]
enum Stage {
    /// Not looked at yet.
    New,
    /// The run's entries are being read.
    Index { place: Place, skip: usize },
    /// Records are being read.
    Data(Data),
}

#[derive(Debug)]
struct Data {
    walk: Walk,
    /// The walk ends here.
    limit: u32,
    /// Records may follow that are not durable yet.
    open_ended: bool,
    /// The whole segment is walked.
    everything: bool,
    /// Least bytes the next step needs, from [`Walk::resume`] on.
    need: u32,
    out: Vec<u8>,
    first: u64,
    /// Offset that comes next.
    next: u64,
}

#[derive(Debug)]
struct Job {
    token: u64,
    /// Segment that must not go meanwhile.
    segment: Option<u64>,
    task: Task,
}

/// Reads waiting and in flight.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    jobs: FixedMap<u64, Job>,
    waiting: VecDeque<u64>,
    in_flight: usize,
    last: u64,
    cache: VecDeque<(Place, Vec<IndexEntry>)>,
    ends: VecDeque<End>,
}

/// Where a read ended, as a hint for the one that goes on there.
#[derive(Debug)]
struct End {
    key: Key,
    /// Offset that comes next.
    next: u64,
    walk: Walk,
}

impl Reads {
    pub(crate) fn pending(&self) -> usize {
        self.jobs.len()
    }

    fn cached(&mut self, place: Place) -> Option<&[IndexEntry]> {
        let at = self.cache.iter().position(|(cached, _)| *cached == place)?;
        if at > 0 {
            let hit = self.cache.remove(at)?;
            self.cache.push_front(hit);
        }
        self.cache.front().map(|(_, entries)| entries.as_slice())
    }

    fn keep(&mut self, place: Place, entries: Vec<IndexEntry>) {
        self.cache.truncate(INDEX_CACHE_RUNS - 1);
        self.cache.push_front((place, entries));
    }

    fn ended(&mut self, key: Key, next: u64, walk: Walk) {
        self.ends.truncate(ENDS_MAX - 1);
        self.ends.push_front(End { key, next, walk });
    }

    fn end_at(&mut self, key: Key, next: u64) -> Option<Walk> {
        let at = |end: &End| end.key == key && end.next == next;
        let found = self.ends.iter().position(at)?;
        self.ends.remove(found).map(|end| end.walk)
    }
}

type Answer = Result<StreamChunk, ReadError>;

/// What a job does next.
enum Next {
    Read { offset: u64, len: u32 },
    Stream(Answer),
    Record(Result<RecordBytes, ReadError>),
}

fn nothing(from: u64) -> Answer {
    Ok(StreamChunk {
        bytes: Bytes::new(),
        first: Offset(from),
        end: Offset(from),
    })
}

impl Log {
    pub(crate) fn queue_stream_read(
        &mut self,
        token: u64,
        key: Key,
        from: u64,
        max_bytes: u32,
    ) -> Result<(), ReadRefused> {
        let max_bytes = max_bytes.max(1);
        self.queue_read(
            token,
            Task::Stream {
                key,
                from,
                max_bytes,
                stage: Stage::New,
            },
        )
    }

    pub(crate) fn queue_record_read(
        &mut self,
        token: u64,
        at: Location,
    ) -> Result<(), ReadRefused> {
        if let Some(segment) = self.segments.get(at.segment)
            && u64::from(at.offset) + u64::from(at.len) > u64::from(segment.durable)
        {
            return Err(ReadRefused::NotCommitted);
        }
        self.queue_read(token, Task::Record { at })
    }

    fn queue_read(&mut self, token: u64, task: Task) -> Result<(), ReadRefused> {
        if self.reads.jobs.len() >= READS_QUEUED_MAX + self.config.reads_in_flight_max {
            return Err(ReadRefused::Full {
                limit: READS_QUEUED_MAX,
            });
        }
        self.reads.last += 1;
        let id = self.reads.last;
        self.reads.jobs.insert(
            id,
            Job {
                token,
                segment: None,
                task,
            },
        );
        self.reads.waiting.push_back(id);
        self.pump_reads();
        Ok(())
    }

    pub(crate) fn pump_reads(&mut self) {
        while self.reads.in_flight < self.config.reads_in_flight_max.max(1) {
            let Some(id) = self.reads.waiting.pop_front() else {
                return;
            };
            let job = self
                .reads
                .jobs
                .remove(&id)
                .expect("a waiting read is known");
            self.reads.in_flight += 1;
            self.begin_read(id, job);
        }
    }

    fn begin_read(&mut self, id: u64, mut job: Job) {
        let (next, segment) = match &mut job.task {
            Task::Record { at } => {
                let start = at.offset / UNIT * UNIT;
                let end = (at.offset + at.len).next_multiple_of(UNIT);
                let next = if self.segments.get(at.segment).is_some() {
                    Next::Read {
                        offset: start.into(),
                        len: end - start,
                    }
                } else {
                    Next::Record(Err(ReadError::Trimmed { first: Offset(0) }))
                };
                (next, at.segment)
            }
            Task::Stream {
                key,
                from,
                max_bytes,
                stage,
            } => match self.plan(*key, *from, *max_bytes, stage) {
                Ok((next, segment)) => (next, segment),
                Err(answer) => (Next::Stream(answer), u64::MAX),
            },
        };
        if let Some(segment) = self.segments.get_mut(segment) {
            segment.reads += 1;
            job.segment = Some(segment.key.number);
        }
        self.follow(id, job, next);
    }

    /// The first request for a stream's records, and the segment it is about.
    fn plan(
        &mut self,
        key: Key,
        from: u64,
        max_bytes: u32,
        stage: &mut Stage,
    ) -> Result<(Next, u64), Answer> {
        let Some(partition) = self.partitions.get(key) else {
            return Err(nothing(from));
        };
        if from < partition.first {
            return Err(Err(ReadError::Trimmed {
                first: Offset(partition.first),
            }));
        }
        let Some(place) = self.partitions.find(&self.segments, key, from) else {
            return Err(nothing(from));
        };
        let number = u64::from(place.segment);
        let run = *self.segments.run(place).expect("it was just found");
        if run.first > from {
            // Offsets are dense: what lay before is lost.
            return Err(Err(ReadError::Damaged {
                segment: number,
                offset: 0,
            }));
        }
        let next = if let Some(index) = self.segments.open_index(place.segment) {
            let entries = index.entries_from(place.run, from, ENTRIES_PER_READ);
            self.plan_data(key, place, &entries, from, max_bytes, stage)
        } else if let Some(entries) = self.reads.cached(place) {
            let entries = window(entries, from).to_vec();
            self.plan_data(key, place, &entries, from, max_bytes, stage)
        } else {
            let segment = self.segments.get(number).expect("its run was just found");
            let start = segment.entries_at + u64::from(run.entries_start) * INDEX_ENTRY as u64;
            let end = start + u64::from(run.entries_len) * INDEX_ENTRY as u64;
            let offset = start / BLOCK as u64 * BLOCK as u64;
            let len = (end - offset).next_multiple_of(BLOCK as u64);
            let skip = usize::try_from(start - offset).expect("less than a block");
            *stage = Stage::Index { place, skip };
            Next::Read {
                offset,
                len: u32::try_from(len).expect("an index is below 4 GiB"),
            }
        };
        Ok((next, number))
    }

    /// Reads the records from the entry on that holds `from`.
    fn plan_data(
        &mut self,
        key: Key,
        place: Place,
        entries: &[IndexEntry],
        from: u64,
        max_bytes: u32,
        stage: &mut Stage,
    ) -> Next {
        let ended = self.reads.end_at(key, from);
        let segment = self
            .segments
            .get(place.segment.into())
            .expect("it is being read");
        let Some(first) = entries.first() else {
            return self.plan_walk(place, from, max_bytes, stage);
        };
        let start = first.block;
        let mut end = first.block.saturating_add(first.blocks);
        for entry in &entries[1..] {
            let bytes = (end - start).saturating_mul(UNIT);
            if entry.block > end.saturating_add(GAP_BLOCKS) || bytes >= READ_BYTES_MAX {
                break;
            }
            end = end.max(entry.block.saturating_add(entry.blocks));
        }
        let durable = segment.durable / UNIT;
        if start >= durable || start == 0 {
            if start == 0 {
                return self.plan_walk(place, from, max_bytes, stage);
            }
            return Next::Stream(nothing(from));
        }
        let limit = end.min(durable) * UNIT;
        let known = ended.filter(|walk| {
            walk.key == segment.key && (start * UNIT..limit).contains(&walk.position())
        });
        let data = Data {
            walk: known.unwrap_or_else(|| Walk::new(segment.key, start * UNIT)),
            limit,
            open_ended: end > durable || self.has_pending(segment),
            everything: false,
            need: UNIT,
            out: Vec::new(),
            first: from,
            next: from,
        };
        let next = data.read(max_bytes);
        *stage = Stage::Data(data);
        next
    }

    /// Reads the whole segment for want of a true index.
    fn plan_walk(&self, place: Place, from: u64, max_bytes: u32, stage: &mut Stage) -> Next {
        let segment = self
            .segments
            .get(place.segment.into())
            .expect("it is being read");
        let data = Data {
            walk: Walk::new(segment.key, UNIT),
            limit: segment.durable,
            open_ended: self.has_pending(segment),
            everything: true,
            need: UNIT,
            out: Vec::new(),
            first: from,
            next: from,
        };
        let next = data.read(max_bytes);
        *stage = Stage::Data(data);
        next
    }

    pub(crate) fn read_done(&mut self, id: u64, result: Result<DiskOutput, DiskError>) {
        let mut job = self
            .reads
            .jobs
            .remove(&id)
            .expect("a read in flight is known");
        self.stats.reads += 1;
        let data = match result {
            Ok(DiskOutput::Data(data)) => Ok(data),
            Ok(_) => Ok(BlockBuf::zeroed(0)),
            Err(error) => Err(ReadError::Disk(error)),
        };
        let next = match (&mut job.task, data) {
            (Task::Record { .. }, Err(error)) => Next::Record(Err(error)),
            (Task::Stream { .. }, Err(error)) => Next::Stream(Err(error)),
            (Task::Record { at }, Ok(data)) => {
                self.stats.read_bytes += data.len() as u64;
                Next::Record(self.verify(*at, &data))
            }
            (
                Task::Stream {
                    key,
                    from,
                    max_bytes,
                    stage,
                },
                Ok(data),
            ) => {
                self.stats.read_bytes += data.len() as u64;
                self.stream_data(*key, *from, *max_bytes, stage, &data)
            }
        };
        self.follow(id, job, next);
        self.pump_reads();
    }

    fn stream_data(
        &mut self,
        key: Key,
        from: u64,
        max_bytes: u32,
        stage: &mut Stage,
        data: &BlockBuf,
    ) -> Next {
        match stage {
            Stage::New => Next::Stream(nothing(from)),
            Stage::Index { place, skip } => {
                let place = *place;
                let Some(run) = self.segments.run(place) else {
                    return Next::Stream(Err(ReadError::Trimmed {
                        first: Offset(from),
                    }));
                };
                let end = *skip + run.entries_len as usize * INDEX_ENTRY;
                let bytes = data.as_slice().get(*skip..end).unwrap_or_default();
                let Ok(entries) = decode_entries(run.entries_crc, bytes) else {
                    return self.plan_walk(place, from, max_bytes, stage);
                };
                // One allocation beside a read of the disk.
                let entries: Vec<IndexEntry> = entries.collect();
                let window = window(&entries, from).to_vec();
                self.reads.keep(place, entries);
                self.plan_data(key, place, &window, from, max_bytes, stage)
            }
            Stage::Data(reading) => {
                let segment = reading.walk.key.number;
                if let Some(next) = reading.take(key, max_bytes, data) {
                    if matches!(next, Next::Stream(Ok(_))) {
                        self.reads.ended(key, reading.next, reading.walk);
                    }
                    return next;
                }
                // The index was wrong, or what it led to is lost.
                let run = self.partitions.find(&self.segments, key, from);
                match run.filter(|place| u64::from(place.segment) == segment) {
                    Some(place) if !reading.everything => {
                        self.plan_walk(place, from, max_bytes, stage)
                    }
                    _ => {
                        let offset = reading.walk.position().into();
                        Next::Stream(Err(ReadError::Damaged { segment, offset }))
                    }
                }
            }
        }
    }

    fn verify(&self, at: Location, data: &BlockBuf) -> Result<RecordBytes, ReadError> {
        let damaged = ReadError::Damaged {
            segment: at.segment,
            offset: at.offset.into(),
        };
        let segment = self.segments.get(at.segment).ok_or(damaged)?;
        let bytes = data
            .as_slice()
            .get((at.offset % UNIT) as usize..)
            .unwrap_or_default();
        let record = decode_record(segment.key, at.offset, bytes).map_err(|_| damaged)?;
        if record.location(at.segment) != at {
            return Err(damaged);
        }
        Ok(RecordBytes {
            head: record.head,
            ext: Bytes::copy_from_slice(record.ext),
            body: Bytes::copy_from_slice(record.body),
        })
    }

    fn follow(&mut self, id: u64, job: Job, next: Next) {
        let token = job.token;
        let event = match next {
            Next::Read { offset, len } => {
                let number = job.segment.expect("what is read is known");
                self.reads.jobs.insert(id, job);
                let op = self.op(Work::Read(id));
                let file = FileId::Segment {
                    log: self.config.log,
                    number,
                };
                return self.request(DiskRequest::Read {
                    op,
                    file,
                    offset,
                    len,
                });
            }
            Next::Stream(result) => LogEvent::StreamRead { token, result },
            Next::Record(result) => LogEvent::RecordRead { token, result },
        };
        self.reads.in_flight -= 1;
        if let Some(segment) = job.segment.and_then(|number| self.segments.get_mut(number)) {
            segment.reads -= 1;
        }
        self.events.push_back(event);
    }
}

/// The entries from the one that holds `from` on.
fn window(entries: &[IndexEntry], from: u64) -> &[IndexEntry] {
    let after = entries.partition_point(|entry| entry.first <= from);
    let start = after.saturating_sub(1);
    &entries[start..entries.len().min(start + ENTRIES_PER_READ)]
}

impl Data {
    /// The next request.
    fn read(&self, max_bytes: u32) -> Next {
        let offset = self.walk.resume();
        // A block at each end. Headers come on top of the bodies asked for: the
        // answer is a little less than was asked for rather than the disk's
        // bytes read twice.
        let want = max_bytes.saturating_add(2 * UNIT);
        let len = if self.everything {
            READ_BYTES_MAX
        } else {
            want.min(READ_BYTES_MAX)
        };
        let needed = (self.walk.position() - offset).saturating_add(self.need);
        let len = len.max(needed).next_multiple_of(UNIT);
        Next::Read {
            offset: offset.into(),
            len: len.min(self.limit - offset).max(UNIT),
        }
    }

    fn answer(&mut self) -> Next {
        Next::Stream(Ok(StreamChunk {
            bytes: core::mem::take(&mut self.out).into(),
            first: Offset(self.first),
            end: Offset(self.next),
        }))
    }

    /// Takes records out of what was read; `None` when the wanted one is not
    /// where it should be.
    fn take(&mut self, key: Key, max_bytes: u32, data: &BlockBuf) -> Option<Next> {
        let start = self.walk.resume();
        let bytes = data.as_slice();
        loop {
            let position = self.walk.position();
            if position >= self.limit {
                return match (self.out.is_empty(), self.open_ended) {
                    (false, _) => Some(self.answer()),
                    (true, true) => Some(Next::Stream(nothing(self.next))),
                    (true, false) => None,
                };
            }
            let wanted = |head: &RecordHead, retained: bool, next: u64| {
                (head.resource, head.partition) == key
                    && !retained
                    && head.first <= next
                    && next - head.first < u64::from(head.count)
            };
            match self.walk.step(start, bytes) {
                Step::Record(record) => {
                    if !wanted(&record.head, record.flags.retained, self.next) {
                        continue;
                    }
                    if self.out.is_empty() {
                        self.first = record.head.first;
                        self.out.reserve((max_bytes as usize).min(bytes.len()));
                    }
                    self.out.extend_from_slice(record.body);
                    self.next = record.head.first + u64::from(record.head.count);
                    if self.out.len() >= max_bytes as usize {
                        return Some(self.answer());
                    }
                }
                Step::DamagedBody(position, header) => {
                    if !wanted(&header.head, header.flags.retained, self.next) {
                        continue;
                    }
                    if !self.out.is_empty() {
                        return Some(self.answer());
                    }
                    let (segment, offset) = (self.walk.key.number, position.into());
                    return Some(Next::Stream(Err(ReadError::Damaged { segment, offset })));
                }
                Step::More(need) => {
                    let have = bytes.len() as u64 + u64::from(start);
                    let missing = u64::from(self.walk.position()) + u64::from(need) > have;
                    // The disk gave less than asked for: the file is too short.
                    let stuck = self.walk.resume() == start
                        && self.need >= need
                        && missing
                        && have < u64::from(start) + u64::from(need);
                    if !self.out.is_empty() {
                        return Some(self.answer());
                    }
                    if !missing || stuck || bytes.is_empty() {
                        return None;
                    }
                    self.need = need;
                    return Some(self.read(max_bytes));
                }
                Step::Damaged => {
                    return (!self.out.is_empty()).then(|| self.answer());
                }
            }
        }
    }
}
