//! Where a partition's records lie: runs per segment, and per partition the
//! runs in the order of their offsets.
//!
//! A *run* is a range of offsets of one partition that lies in one segment in
//! ascending order. Records taken by the partition make one run per segment;
//! records rewritten forward make runs of their own. What is kept per run here
//! is its summary; the entries inside a run stay in memory while the segment
//! has no footer and are read from the footer afterwards.

use pinion_types::{FixedMap, PartitionId, ResourceId, WallMs};

use crate::config::INDEX_EVERY_BYTES;
use crate::disk::{BLOCK, BlockBuf};
use crate::format::{Chain, FooterWriter, IndexEntry, RecordFlags, Summary};
use crate::segments::{Segment, Segments};
use crate::{Lsn, RecordHead};

/// A partition's name.
pub(crate) type Key = (ResourceId, PartitionId);

/// Summary of a range of offsets of one partition in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) resource: ResourceId,
    pub(crate) partition: PartitionId,
    /// Rewritten forward: lies in a younger segment than its neighbours.
    pub(crate) carried: bool,
    pub(crate) first: u64,
    /// One past its last offset.
    pub(crate) end: u64,
    /// One past the last offset that readers are sent here for: copies that are
    /// not durable yet still have their original.
    pub(crate) readable: u64,
    /// Of all its records the latest.
    pub(crate) last_timestamp: WallMs,
    /// Bytes of its records, headers included.
    pub(crate) bytes: u32,
    /// Of them, those not released; estimated by offsets inside the run.
    pub(crate) live: u32,
    /// Its entries in the footer; meaningless before there is one.
    pub(crate) entries_start: u32,
    pub(crate) entries_len: u32,
    pub(crate) entries_crc: u32,
}

impl Run {
    /// What a footer says of it; `None` for records without offsets.
    pub(crate) fn from_summary(summary: &Summary) -> Option<Self> {
        let bytes = u32::try_from(summary.bytes).unwrap_or(u32::MAX);
        (summary.index_count > 0).then_some(Self {
            resource: summary.resource,
            partition: summary.partition,
            carried: summary.carried,
            first: summary.first,
            readable: u64::MAX,
            end: summary.end,
            last_timestamp: WallMs(summary.last_timestamp),
            bytes,
            live: bytes,
            entries_start: summary.index_first,
            entries_len: summary.index_count,
            entries_crc: summary.index_crc,
        })
    }

    pub(crate) fn key(&self) -> Key {
        (self.resource, self.partition)
    }

    /// Bytes of it at and after `first`.
    pub(crate) fn bytes_from(&self, first: u64) -> u32 {
        if first <= self.first {
            return self.bytes;
        }
        if first >= self.end {
            return 0;
        }
        let (left, all) = (self.end - first, self.end - self.first);
        let part = u128::from(self.bytes) * u128::from(left) / u128::from(all);
        u32::try_from(part).unwrap_or(self.bytes)
    }
}

/// An entry of a segment without a footer, linked to the run's one before.
#[derive(Clone, Copy, Debug)]
struct Link {
    entry: IndexEntry,
    last_timestamp: WallMs,
    bytes: u32,
    before: u32,
}

const NONE: u32 = u32::MAX;

/// Links per piece of an [`OpenIndex`]: an index grows by small allocations
/// and never moves what it has.
const PIECE: usize = 2048;

#[derive(Clone, Copy, Debug)]
struct OpenRun {
    last: u32,
    entries: u32,
    /// Block of the group whose records touched it last.
    group: u32,
    records: u32,
    first_timestamp: WallMs,
}

/// Records of a partition that do not live by offset.
#[derive(Clone, Copy, Debug)]
struct Others {
    records: u32,
    retained: u32,
    bytes: u64,
    first_timestamp: WallMs,
    last_timestamp: WallMs,
}

/// Entries of a segment that has no durable footer.
#[derive(Debug, Default)]
pub(crate) struct OpenIndex {
    runs: Vec<OpenRun>,
    links: Vec<Vec<Link>>,
    count: u32,
    /// Runs with records in the group being built.
    touched: Vec<u32>,
    /// Rewritten runs of this segment, by partition; the newest of each.
    pub(crate) carried: FixedMap<Key, u32>,
    others: FixedMap<Key, Others>,
}

impl OpenIndex {
    fn note_other(&mut self, head: &RecordHead, retained: bool, bytes: u32) {
        let time = head.timestamp;
        let others = self
            .others
            .entry((head.resource, head.partition))
            .or_insert(Others {
                records: 0,
                retained: 0,
                bytes: 0,
                first_timestamp: time,
                last_timestamp: time,
            });
        others.records += 1;
        others.retained += u32::from(retained);
        others.bytes += u64::from(bytes);
        others.first_timestamp = others.first_timestamp.min(time);
        others.last_timestamp = others.last_timestamp.max(time);
    }

    fn link(&self, at: u32) -> &Link {
        let at = at as usize;
        &self.links[at / PIECE][at % PIECE]
    }

    fn link_mut(&mut self, at: u32) -> &mut Link {
        let at = at as usize;
        &mut self.links[at / PIECE][at % PIECE]
    }

    /// Notes a record of run `run` in the group at `group_block`.
    pub(crate) fn note(
        &mut self,
        run: u32,
        first: u64,
        timestamp: WallMs,
        bytes: u32,
        group_block: u32,
    ) {
        if run as usize >= self.runs.len() {
            debug_assert_eq!(
                run as usize,
                self.runs.len(),
                "runs are noted in their order"
            );
            self.runs.push(OpenRun {
                last: NONE,
                entries: 0,
                group: NONE,
                records: 0,
                first_timestamp: timestamp,
            });
        }
        let open = self.runs[run as usize];
        if open.group != group_block {
            self.touched.push(run);
            self.runs[run as usize].group = group_block;
            let near = open.last != NONE
                && u64::from(group_block - self.link(open.last).entry.block) * (BLOCK as u64)
                    < u64::from(INDEX_EVERY_BYTES);
            if !near {
                let link = Link {
                    entry: IndexEntry {
                        first,
                        timestamp: timestamp.0,
                        block: group_block,
                        blocks: 0,
                    },
                    last_timestamp: timestamp,
                    bytes: 0,
                    before: open.last,
                };
                if (self.count as usize).is_multiple_of(PIECE) {
                    // A fresh piece: the index of a long segment grows.
                    self.links.push(Vec::with_capacity(PIECE));
                }
                let piece = self.links.last_mut().expect("a piece was made for it");
                piece.push(link);
                let open = &mut self.runs[run as usize];
                open.last = self.count;
                open.entries += 1;
                self.count += 1;
            }
        }
        let open = &mut self.runs[run as usize];
        open.records += 1;
        open.first_timestamp = open.first_timestamp.min(timestamp);
        let last = open.last;
        let link = self.link_mut(last);
        link.last_timestamp = link.last_timestamp.max(timestamp);
        link.bytes = link.bytes.saturating_add(bytes);
    }

    /// The group being built ends before `end_block`: its runs' entries reach
    /// at least there.
    pub(crate) fn close_group(&mut self, end_block: u32) {
        let mut touched = core::mem::take(&mut self.touched);
        for run in touched.drain(..) {
            let last = self.runs[run as usize].last;
            let entry = &mut self.link_mut(last).entry;
            entry.blocks = end_block - entry.block;
        }
        self.touched = touched;
    }

    /// The run's entries, newest first.
    fn links_of(&self, run: u32) -> impl Iterator<Item = &Link> {
        let mut at = self.runs.get(run as usize).map_or(NONE, |open| open.last);
        core::iter::from_fn(move || {
            (at != NONE).then(|| {
                let link = self.link(at);
                at = link.before;
                link
            })
        })
    }

    /// The run's entries from the one that holds `from` on, oldest first, at
    /// most `max` of them.
    pub(crate) fn entries_from(&self, run: u32, from: u64, max: usize) -> Vec<IndexEntry> {
        // A read of the disk is planned, so an allocation is small beside it.
        let mut found = std::collections::VecDeque::with_capacity(max.min(16));
        for link in self.links_of(run) {
            if found.len() == max {
                found.pop_back();
            }
            found.push_front(link.entry);
            if link.entry.first <= from {
                break;
            }
        }
        found.into()
    }

    /// First offset of the oldest entry with a record at `time` or later.
    fn seek_time(&self, run: u32, time: WallMs) -> Option<u64> {
        let mut found = None;
        for link in self.links_of(run) {
            if link.last_timestamp >= time {
                found = Some(link.entry.first);
            }
        }
        found
    }

    /// First offset of the oldest entry that is not wholly older than `before`.
    fn expired(&self, run: u32, end: u64, before: WallMs) -> u64 {
        let mut first_kept = end;
        for link in self.links_of(run) {
            if link.last_timestamp >= before {
                first_kept = link.entry.first;
            }
        }
        first_kept
    }

    /// Smallest entry boundary after which at most `max_bytes` stay.
    fn over_size(&self, run: u32, end: u64, max_bytes: u64) -> u64 {
        let mut kept = 0;
        let mut first = end;
        for link in self.links_of(run) {
            kept += u64::from(link.bytes);
            if kept > max_bytes {
                break;
            }
            first = link.entry.first;
        }
        first
    }
}

/// A run by its segment and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) run: u32,
}

impl Place {
    pub(crate) fn new(segment: u64, run: usize) -> Self {
        Self {
            segment: u32::try_from(segment).expect("a log has fewer than 2^32 segments"),
            run: u32::try_from(run).expect("a segment has fewer than 2^32 runs"),
        }
    }
}

/// Runs of a partition in the order of their offsets. Most partitions of a node
/// with very many are idle and have one.
#[derive(Debug, Default)]
pub(crate) enum Places {
    #[default]
    Empty,
    One(Place),
    // A vector in place would make every partition 8 bytes larger.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<Place>>),
}

impl Places {
    pub(crate) fn as_slice(&self) -> &[Place] {
        match self {
            Self::Empty => &[],
            Self::One(place) => core::slice::from_ref(place),
            Self::Many(places) => places,
        }
    }

    pub(crate) fn push(&mut self, place: Place) {
        match self {
            Self::Empty => *self = Self::One(place),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, place])),
            Self::Many(places) => places.push(place),
        }
    }

    fn set(&mut self, places: Vec<Place>) {
        *self = match places.len() {
            0 => Self::Empty,
            1 => Self::One(places[0]),
            _ => Self::Many(Box::new(places)),
        };
    }

    fn remove_front(&mut self) {
        match self {
            Self::Empty => {}
            Self::One(_) => *self = Self::Empty,
            Self::Many(places) => {
                places.remove(0);
                if let [only] = places[..] {
                    *self = Self::One(only);
                }
            }
        }
    }
}

/// What the log knows of a partition with records that live by offset.
#[derive(Debug, Default)]
pub(crate) struct PartitionIndex {
    /// Everything below is released.
    pub(crate) first: u64,
    pub(crate) places: Places,
}

// With its key of 16 bytes a partition takes 40 bytes of a table that is at
// least 7/16 full: below 100 bytes for each of 100,000 idle ones.
const _: () = assert!(size_of::<PartitionIndex>() <= 24);
const _: () = assert!(size_of::<Run>() <= 64);

/// Every partition with records that live by offset.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    map: FixedMap<Key, PartitionIndex>,
}

impl Partitions {
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn get(&self, key: Key) -> Option<&PartitionIndex> {
        self.map.get(&key)
    }

    /// Notes a record of `len` bytes in segment `number`, in the group that
    /// begins at `group_block`; gives its run when it lives by offset.
    pub(crate) fn note(
        &mut self,
        segments: &mut Segments,
        number: u64,
        head: &RecordHead,
        flags: RecordFlags,
        len: u32,
        group_block: u32,
    ) -> Option<Place> {
        let segment = segments
            .get_mut(number)
            .expect("records go to a known segment");
        let index = segment
            .index
            .as_mut()
            .expect("a segment being written has its index");
        let by_offset = head.count > 0 && !flags.retained && head.resource != crate::log::CONTROL;
        if !by_offset {
            index.note_other(head, flags.retained, len);
            return None;
        }
        let key = (head.resource, head.partition);
        let (first, timestamp) = (head.first, head.timestamp);
        let end = first.saturating_add(head.count.into());
        let known = if flags.carried {
            index.carried.get(&key).copied()
        } else {
            let partition = self.map.entry(key).or_default();
            partition.places.as_slice().last().and_then(|last| {
                (u64::from(last.segment) == number && !segment.runs[last.run as usize].carried)
                    .then_some(last.run)
            })
        };
        let extends = known.filter(|&run| segment.runs[run as usize].end == first);
        let run = if let Some(run) = extends {
            run
        } else {
            let run = u32::try_from(segment.runs.len()).expect("fewer than 2^32 runs");
            segment.runs.push(Run {
                resource: head.resource,
                partition: head.partition,
                carried: flags.carried,
                first,
                end,
                readable: if flags.carried { first } else { u64::MAX },
                last_timestamp: timestamp,
                bytes: 0,
                live: 0,
                entries_start: 0,
                entries_len: 0,
                entries_crc: 0,
            });
            if flags.carried {
                index.carried.insert(key, run);
            } else {
                let place = Place::new(number, run as usize);
                self.map.entry(key).or_default().places.push(place);
            }
            run
        };
        let summary = &mut segment.runs[run as usize];
        summary.end = end;
        summary.last_timestamp = summary.last_timestamp.max(timestamp);
        summary.bytes = summary.bytes.saturating_add(len);
        summary.live = summary.live.saturating_add(len);
        segment.stream_live += u64::from(len);
        index.note(run, first, timestamp, len, group_block);
        Some(Place::new(number, run as usize))
    }

    /// Takes the runs of a sealed segment, at start. Segments come in their
    /// order; [`Self::settle`] follows once.
    pub(crate) fn adopt(&mut self, number: u64, runs: &[Run], which: impl Fn(&Run) -> bool) {
        for (at, run) in runs.iter().enumerate().filter(|(_, run)| which(run)) {
            let partition = self.map.entry(run.key()).or_default();
            partition.places.push(Place::new(number, at));
        }
    }

    /// Orders what [`Self::adopt`] gathered: runs rewritten forward go where
    /// their offsets belong, and a run that others cover counts as dead.
    pub(crate) fn settle(&mut self, segments: &mut Segments) {
        for partition in self.map.values_mut() {
            let places = partition.places.as_slice();
            let ordered = places.windows(2).all(|pair| {
                match (segments.run(pair[0]), segments.run(pair[1])) {
                    (Some(a), Some(b)) => a.end <= b.first,
                    _ => false,
                }
            });
            if !ordered {
                let all = places.to_vec();
                let cover = cover(segments, all.clone());
                for place in all {
                    if !cover.contains(&place) {
                        segments.set_run_live(place, 0);
                    }
                }
                partition.places.set(cover);
            }
            if let Some(first) = partition
                .places
                .as_slice()
                .first()
                .and_then(|&place| segments.run(place))
            {
                partition.first = first.first;
            }
        }
    }

    /// Everything of the partition below `first` may go.
    pub(crate) fn release(&mut self, segments: &mut Segments, key: Key, first: u64) {
        let Some(partition) = self.map.get_mut(&key) else {
            return;
        };
        if first <= partition.first {
            return;
        }
        partition.first = first;
        while let Some(&place) = partition.places.as_slice().first() {
            let Some(run) = segments.run(place) else {
                // Its segment was removed meanwhile.
                partition.places.remove_front();
                continue;
            };
            if run.end > first {
                let live = run.bytes_from(first);
                segments.set_run_live(place, live);
                break;
            }
            segments.set_run_live(place, 0);
            // The newest run stays while its segment grows: it is what the next
            // record continues.
            if partition.places.as_slice().len() == 1 && segments.is_newest(place.segment) {
                break;
            }
            partition.places.remove_front();
        }
    }

    /// The partition is gone with all its records.
    pub(crate) fn forget(&mut self, segments: &mut Segments, key: Key) {
        let Some(partition) = self.map.remove(&key) else {
            return;
        };
        for &place in partition.places.as_slice() {
            segments.set_run_live(place, 0);
        }
    }

    /// The runs `copies` now hold what segment `from` held of the partition.
    pub(crate) fn moved(&mut self, segments: &mut Segments, key: Key, from: u64, copies: &[Place]) {
        let Some(partition) = self.map.get_mut(&key) else {
            // Forgotten while it was copied.
            for &copy in copies {
                segments.set_run_live(copy, 0);
            }
            return;
        };
        let mut all: Vec<Place> = Vec::with_capacity(partition.places.as_slice().len() + 2);
        for &place in partition.places.as_slice() {
            if u64::from(place.segment) == from {
                segments.set_run_live(place, 0);
            } else if segments.run(place).is_some() {
                all.push(place);
            }
        }
        for &copy in copies {
            segments.set_readable(copy);
            if !all.contains(&copy) {
                all.push(copy);
            }
        }
        let places = cover(segments, all.clone());
        for &place in &all {
            let live = segments.run(place).map_or(0, |run| {
                if places.contains(&place) {
                    run.bytes_from(partition.first)
                } else {
                    0
                }
            });
            segments.set_run_live(place, live);
        }
        partition.places.set(places);
    }

    /// The run that holds `from`, or the first one after it.
    pub(crate) fn find(&self, segments: &Segments, key: Key, from: u64) -> Option<Place> {
        let places = self.map.get(&key)?.places.as_slice();
        // A removed segment's runs were all released: they count as before.
        let before = places.partition_point(|&place| {
            segments
                .run(place)
                .is_none_or(|run| run.end.min(run.readable) <= from)
        });
        places.get(before).copied()
    }

    /// Bytes of the partition's records that are not released.
    pub(crate) fn bytes(&self, segments: &Segments, key: Key) -> u64 {
        self.live_runs(segments, key)
            .map(|(_, run)| u64::from(run.live))
            .sum()
    }

    fn live_runs<'a>(
        &'a self,
        segments: &'a Segments,
        key: Key,
    ) -> impl DoubleEndedIterator<Item = (Place, &'a Run)> {
        self.map
            .get(&key)
            .map_or(&[][..], |partition| partition.places.as_slice())
            .iter()
            .filter_map(|&place| Some((place, segments.run(place)?)))
    }

    /// An offset at or before the first record of `time` or later.
    pub(crate) fn seek_time(&self, segments: &Segments, key: Key, time: WallMs) -> Option<u64> {
        let first = self.map.get(&key)?.first;
        for (place, run) in self.live_runs(segments, key) {
            if run.last_timestamp >= time && run.end > first {
                let inside = segments
                    .open_index(place.segment)
                    .and_then(|index| index.seek_time(place.run, time));
                return Some(inside.unwrap_or(run.first).max(first));
            }
        }
        None
    }

    /// Where `first` may move when everything older than `before` goes.
    pub(crate) fn expired(&self, segments: &Segments, key: Key, before: WallMs) -> Option<u64> {
        let released = self.map.get(&key)?.first;
        let mut found = None;
        for (place, run) in self.live_runs(segments, key) {
            if run.last_timestamp < before {
                found = Some(run.end);
                continue;
            }
            if let Some(index) = segments.open_index(place.segment) {
                found = Some(index.expired(place.run, run.end, before));
            }
            break;
        }
        found.filter(|&first| first > released)
    }

    /// Where `first` must move so that about `max_bytes` stay, never more at
    /// the index's granularity; inside a segment with a footer the place is
    /// estimated from the run's bytes.
    pub(crate) fn over_size(&self, segments: &Segments, key: Key, max_bytes: u64) -> Option<u64> {
        let released = self.map.get(&key)?.first;
        let mut kept = 0;
        for (place, run) in self.live_runs(segments, key).rev() {
            if kept + u64::from(run.live) <= max_bytes {
                kept += u64::from(run.live);
                continue;
            }
            let left = max_bytes - kept;
            let first = if let Some(index) = segments.open_index(place.segment) {
                index.over_size(place.run, run.end, left)
            } else {
                let offsets = u128::from(run.end - run.first) * u128::from(left)
                    / u128::from(run.bytes.max(1));
                run.end
                    .saturating_sub(u64::try_from(offsets).unwrap_or(u64::MAX))
                    .max(run.first)
            };
            return Some(first).filter(|&first| first > released);
        }
        None
    }
}

/// Of runs that may overlap, those that together cover the most offsets, in
/// order; where two begin alike the longer one, then the older segment.
fn cover(segments: &Segments, mut places: Vec<Place>) -> Vec<Place> {
    let ends = |place: Place| {
        segments
            .run(place)
            .map_or((0, 0), |run| (run.first, run.end))
    };
    places.sort_by_key(|&place| {
        let (first, end) = ends(place);
        (first, core::cmp::Reverse(end), place.segment)
    });
    let mut chosen: Vec<Place> = Vec::with_capacity(places.len());
    for place in places {
        let (first, end) = ends(place);
        let covered = chosen.last().map_or(0, |&last| ends(last).1);
        if end <= covered {
            continue;
        }
        // The one before the last may reach this one: then the last is not needed.
        if chosen.len() >= 2 && first <= ends(chosen[chosen.len() - 2]).1 {
            chosen.pop();
        }
        chosen.push(place);
    }
    chosen
}

/// The footer of a segment whose groups are all durable; its runs learn where
/// their entries lie.
pub(crate) fn footer(segment: &mut Segment) -> BlockBuf {
    let index = segment
        .index
        .as_deref()
        .expect("a segment without a footer has its index");
    let runs = &mut segment.runs;
    let mut order: Vec<(Key, Option<u32>)> = Vec::with_capacity(runs.len() + index.others.len());
    for (at, run) in (0u32..).zip(runs.iter()) {
        order.push((run.key(), Some(at)));
    }
    order.extend(index.others.keys().map(|&key| (key, None)));
    order.sort_unstable();
    let mut writer = FooterWriter::new();
    let mut newest_first = Vec::new();
    for (key, at) in order {
        let mut summary = Summary {
            resource: key.0,
            partition: key.1,
            first: 0,
            end: 0,
            first_timestamp: 0,
            last_timestamp: 0,
            bytes: 0,
            records: 0,
            retained: 0,
            index_first: 0,
            index_count: 0,
            index_crc: 0,
            carried: false,
        };
        let Some(at) = at else {
            let others = index.others[&key];
            summary.first_timestamp = others.first_timestamp.0;
            summary.last_timestamp = others.last_timestamp.0;
            summary.bytes = others.bytes;
            summary.records = others.records;
            summary.retained = others.retained;
            writer.partition(&summary);
            continue;
        };
        newest_first.clear();
        newest_first.extend(index.links_of(at).map(|link| link.entry));
        for entry in newest_first.iter().rev() {
            writer.entry(entry);
        }
        let run = &mut runs[at as usize];
        let open = index.runs[at as usize];
        summary.first = run.first;
        summary.end = run.end;
        summary.first_timestamp = open.first_timestamp.0;
        summary.last_timestamp = run.last_timestamp.0;
        summary.bytes = run.bytes.into();
        summary.records = open.records;
        summary.carried = run.carried;
        let summary = writer.partition(&summary);
        run.entries_start = summary.index_first;
        run.entries_len = summary.index_count;
        run.entries_crc = summary.index_crc;
    }
    let chain = segment.chain;
    let groups = u32::try_from(segment.last_group + 1 - chain.sequence)
        .expect("a segment has fewer than 2^32 groups");
    let next = Chain {
        sequence: segment.last_group + 1,
        lsn: Lsn(segment.last_lsn.0 + 1),
        previous_crc: segment.last_crc,
    };
    writer.finish(segment.key, segment.end, next, groups)
}
