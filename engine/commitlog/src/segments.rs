//! The segments of a log: what each is, what in it is alive, what may go.

use std::collections::VecDeque;

use crate::config::COMPACT_LIVE_PERCENT_MAX;
use crate::disk::{Background, UNIT};
use crate::format::{Chain, SegmentKey};
use crate::index::{OpenIndex, Place, Run};
use crate::{Location, Lsn};

/// How far a segment's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileState {
    /// Records are meant for it; the file does not exist.
    Planned,
    /// The file is there, all zero.
    Made,
    /// Its header is durable: groups may be written.
    Open,
    /// Its footer is durable, or it is damaged and will never have one.
    Closed,
}

/// How far a segment is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It stays.
    No,
    /// The record that announces it is appended.
    Announced,
    /// That record is committed: the file may go once nobody reads it.
    Due,
    /// The disk was asked.
    Asked,
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) key: SegmentKey,
    /// What its first group continues.
    pub(crate) chain: Chain,
    pub(crate) file: FileState,
    /// How its file was made; of a segment of an earlier start, of no interest.
    pub(crate) background: Background,
    /// Bytes of header and groups, appended; whole blocks.
    pub(crate) end: u32,
    /// Of them, the durable ones.
    pub(crate) durable: u32,
    /// Number of its last record; the one before its first while it has none.
    pub(crate) last_lsn: Lsn,
    /// Sequence of its last group; the one before its first while it has none.
    pub(crate) last_group: u64,
    /// Checksum of its last group, or what its first one continues.
    pub(crate) last_crc: u32,
    pub(crate) runs: Vec<Run>,
    /// Entries of the runs, until the footer is durable.
    pub(crate) index: Option<Box<OpenIndex>>,
    /// Byte of the footer's index entries in the file, with a footer.
    pub(crate) entries_at: u64,
    /// Bytes of the file.
    pub(crate) file_bytes: u64,
    /// Bytes of records that live by offset and are not released.
    pub(crate) stream_live: u64,
    /// Bodies that live until they are released.
    pub(crate) retained: LiveMap,
    /// Reads in flight or planned.
    pub(crate) reads: u32,
    pub(crate) removal: Removal,
    /// Something in it is damaged: it is neither rewritten nor removed, so that
    /// people can look at it.
    pub(crate) damaged: bool,
}

impl Segment {
    pub(crate) fn new(key: SegmentKey, chain: Chain, segment_bytes: u64) -> Self {
        Self {
            key,
            chain,
            file: FileState::Planned,
            background: Background::Written,
            end: UNIT,
            durable: UNIT,
            last_lsn: Lsn(chain.lsn.0 - 1),
            last_group: chain.sequence - 1,
            last_crc: chain.previous_crc,
            runs: Vec::new(),
            index: Some(Box::default()),
            entries_at: 0,
            file_bytes: segment_bytes,
            stream_live: 0,
            retained: LiveMap::default(),
            reads: 0,
            removal: Removal::No,
            damaged: false,
        }
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.stream_live + self.retained.bytes
    }

    /// Whether it can go as a whole, given that records from `replay_from` on
    /// are needed for a restart.
    pub(crate) fn removable(&self, replay_from: Lsn) -> bool {
        self.past(replay_from) && self.live_bytes() == 0
    }

    /// Whether little enough of it is alive to be worth rewriting.
    pub(crate) fn worth_compacting(&self, replay_from: Lsn) -> bool {
        self.past(replay_from)
            && self.live_bytes() * 100 <= u64::from(self.end) * COMPACT_LIVE_PERCENT_MAX
    }

    fn past(&self, replay_from: Lsn) -> bool {
        self.file == FileState::Closed
            && !self.damaged
            && self.removal == Removal::No
            && self.last_lsn < replay_from
    }
}

/// Every segment by its number. Owned by the log's core.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Number of the first slot.
    base: u64,
    slots: VecDeque<Option<Box<Segment>>>,
    /// How many slots are in use.
    len: usize,
    /// Some segment has nothing alive any more.
    pub(crate) emptied: bool,
}

impl Segments {
    pub(crate) fn new() -> Self {
        Self {
            base: 1,
            slots: VecDeque::new(),
            len: 0,
            emptied: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Segment> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.slots.get(at)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Segment> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.slots.get_mut(at)?.as_deref_mut()
    }

    /// Adds the segment with the highest number so far.
    pub(crate) fn push(&mut self, segment: Segment) {
        let number = segment.key.number;
        if self.slots.is_empty() {
            self.base = number;
        }
        assert!(
            number >= self.base + self.slots.len() as u64,
            "segment {number} comes after {} others from {}",
            self.slots.len(),
            self.base
        );
        while self.base + (self.slots.len() as u64) < number {
            self.slots.push_back(None);
        }
        self.slots.push_back(Some(Box::new(segment)));
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<Box<Segment>> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        let gone = self.slots.get_mut(at)?.take();
        self.len -= usize::from(gone.is_some());
        while self.slots.front().is_some_and(Option::is_none) {
            self.slots.pop_front();
            self.base += 1;
        }
        gone
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    /// Whether it has the highest number.
    pub(crate) fn is_newest(&self, number: u32) -> bool {
        self.base + self.slots.len() as u64 == u64::from(number) + 1
    }

    pub(crate) fn run(&self, place: Place) -> Option<&Run> {
        self.get(place.segment.into())?.runs.get(place.run as usize)
    }

    pub(crate) fn open_index(&self, number: u32) -> Option<&OpenIndex> {
        self.get(number.into())?.index.as_deref()
    }

    /// Every record of the run is durable: readers may be sent to all of it.
    pub(crate) fn set_readable(&mut self, place: Place) {
        if let Some(segment) = self.get_mut(place.segment.into())
            && let Some(run) = segment.runs.get_mut(place.run as usize)
        {
            run.readable = run.end;
        }
    }

    /// `live` bytes of the run are not released.
    pub(crate) fn set_run_live(&mut self, place: Place, live: u32) {
        let Some(segment) = self.get_mut(place.segment.into()) else {
            return;
        };
        let Some(run) = segment.runs.get_mut(place.run as usize) else {
            return;
        };
        segment.stream_live = segment.stream_live - u64::from(run.live) + u64::from(live);
        run.live = live;
        let empty = segment.live_bytes() == 0;
        self.emptied |= empty;
    }

    /// The body at `at` is needed until it is released; whether it was not
    /// needed before. A place in a segment that is gone is nobody's.
    pub(crate) fn retain(&mut self, at: Location) -> bool {
        self.get_mut(at.segment)
            .is_some_and(|segment| segment.retained.set(at))
    }

    /// The body at `at` is not needed any more; whether it was.
    pub(crate) fn release(&mut self, at: Location) -> bool {
        let Some(segment) = self.get_mut(at.segment) else {
            return false;
        };
        let was = segment.retained.clear(at);
        let empty = segment.live_bytes() == 0;
        self.emptied |= was && empty;
        was
    }
}

/// Two records never begin in the same 64 bytes: a header alone is as long.
const GRAIN: usize = crate::format::RECORD_HEADER;

/// Bits of one page: 256 KiB of log.
const PAGE_BITS: usize = 4096;

type Page = [u64; PAGE_BITS / 64];

/// Which records of a segment are needed until they are released: one bit per
/// 64 bytes, in pages that exist while a bit of theirs is set.
#[derive(Debug, Default)]
pub(crate) struct LiveMap {
    pages: Vec<Option<Box<(u16, Page)>>>,
    /// How many are needed.
    pub(crate) count: u32,
    /// Bytes of their records.
    pub(crate) bytes: u64,
}

impl LiveMap {
    fn place(offset: u32) -> (usize, usize, u64) {
        let grain = offset as usize / GRAIN;
        let bit = grain % PAGE_BITS;
        (grain / PAGE_BITS, bit / 64, 1 << (bit % 64))
    }

    pub(crate) fn has(&self, offset: u32) -> bool {
        let (page, word, bit) = Self::place(offset);
        self.pages
            .get(page)
            .and_then(Option::as_deref)
            .is_some_and(|(_, bits)| bits[word] & bit != 0)
    }

    fn set(&mut self, at: Location) -> bool {
        let (page, word, bit) = Self::place(at.offset);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new((0, [0; PAGE_BITS / 64])));
        if page.1[word] & bit != 0 {
            return false;
        }
        page.1[word] |= bit;
        page.0 += 1;
        self.count += 1;
        self.bytes += u64::from(at.len);
        true
    }

    fn clear(&mut self, at: Location) -> bool {
        let (page, word, bit) = Self::place(at.offset);
        let Some(slot) = self.pages.get_mut(page) else {
            return false;
        };
        let Some(bits) = slot
            .as_deref_mut()
            .filter(|(_, bits)| bits[word] & bit != 0)
        else {
            return false;
        };
        bits.1[word] &= !bit;
        bits.0 -= 1;
        if bits.0 == 0 {
            *slot = None;
        }
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(at.len.into());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u32) -> Location {
        Location {
            segment: 1,
            offset,
            len: 100,
        }
    }

    #[test]
    fn a_body_is_needed_from_its_retention_to_its_release_and_counted_once() {
        let mut map = LiveMap::default();
        for offset in [4160, 4224, 1 << 20, (64 << 20) - 64] {
            assert!(map.set(at(offset)));
            assert!(!map.set(at(offset)), "twice is once");
        }
        assert_eq!((map.count, map.bytes), (4, 400));
        assert!(map.clear(at(4224)) && !map.clear(at(4224)));
        assert!(map.has(4160) && !map.has(4224) && map.has(1 << 20));
        for offset in [4160, 1 << 20, (64 << 20) - 64] {
            assert!(map.clear(at(offset)));
        }
        assert_eq!((map.count, map.bytes), (0, 0));
        assert!(
            map.pages.iter().all(Option::is_none),
            "no page stays for nothing"
        );
    }

    #[test]
    fn numbers_find_their_segment_also_when_others_are_gone() {
        let mut segments = Segments::new();
        let chain = Chain {
            sequence: 1,
            lsn: Lsn(1),
            previous_crc: 0,
        };
        for number in [4, 5, 8, 9] {
            segments.push(Segment::new(SegmentKey { number, salt: 0 }, chain, 1 << 20));
        }
        assert!(segments.remove(4).is_some() && segments.remove(4).is_none());
        assert!(segments.remove(8).is_some());
        let numbers: Vec<_> = segments.iter().map(|segment| segment.key.number).collect();
        assert_eq!((numbers, segments.len()), (vec![5, 9], 2));
        assert!(segments.get(3).is_none() && segments.get(8).is_none());
        assert!(segments.get(9).is_some() && segments.is_newest(9));
    }
}
