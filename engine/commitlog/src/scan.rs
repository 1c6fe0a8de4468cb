//! The walk of recovery through one segment after the other.
//!
//! A group that does not pass is one of three things. Nothing follows the last
//! whole group of the newest segment and sectors are missing: a crash cut the
//! write short, and it is forgotten. Everything else is damage: it is reported
//! with whose records are lost, when that can be told, and the walk goes on at
//! the next sound group.

use pinion_types::FixedMap;

use crate::disk::{BLOCK, FileId, Files, UNIT};
use crate::events::{Damage, DamageKind, DamagedPartitions, RecoverError, RecoveryReport, Torn};
use crate::format::{
    Chain, Group, GroupDamage, GroupHeader, GroupVerdict, RecordView, SegmentHeader, SegmentKey,
    check_group, decode_footer, decode_trailer,
};
use crate::index::{Key, Partitions, Run};
use crate::log::{CONTROL, SEGMENT_REMOVED};
use crate::recover::{Replay, read, visit_damage};
use crate::segments::{FileState, Segment, Segments};
use crate::{LogId, Lsn, index};

/// Bytes of a segment read at once.
const AT_ONCE: usize = 1 << 20;

static ZERO: [u8; BLOCK] = [0; BLOCK];

/// Partitions named by one damage; with more it concerns all.
const NAMED_MAX: usize = 4096;

/// Bytes of the segment being read.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    at: u32,
    file_bytes: u32,
}

impl Window {
    /// At least `len` bytes from `at` on, fewer at the end of the file.
    fn get(
        &mut self,
        files: &mut dyn Files,
        file: FileId,
        at: u32,
        len: usize,
    ) -> Result<&[u8], RecoverError> {
        let end = u64::from(at) + len as u64;
        if at < self.at || end > u64::from(self.at) + self.bytes.len() as u64 {
            let left = self.file_bytes.saturating_sub(at) as usize;
            let size = len.max(AT_ONCE).min(left);
            if size > self.bytes.capacity() {
                self.bytes = vec![0; size];
            }
            self.bytes.resize(size, 0);
            let got = read(files, file, at.into(), &mut self.bytes)?;
            self.bytes.truncate(got);
            self.at = at;
        }
        Ok(self
            .bytes
            .get((at - self.at) as usize..)
            .unwrap_or_default())
    }
}

/// What the walk found.
pub(crate) struct Found<'a> {
    pub(crate) segments: Segments,
    pub(crate) partitions: Partitions,
    pub(crate) report: RecoveryReport,
    /// Segments whose removal was announced.
    pub(crate) removed: Vec<u64>,
    /// Segments without a footer, oldest first.
    pub(crate) to_seal: Vec<u64>,
    /// The newest one, when something behind its groups must go first.
    pub(crate) cut: Option<u64>,
    /// Records behind the last known one may exist.
    pub(crate) end_unknown: bool,
    pub(crate) visit: &'a mut dyn FnMut(Replay<'_>),
}

pub(crate) struct Scan<'a> {
    files: &'a mut dyn Files,
    log: LogId,
    found: Found<'a>,
    replay_from: Lsn,
    as_of: FixedMap<Key, Lsn>,
    /// What the next group must continue; `None` when that is not known.
    chain: Option<Chain>,
    /// The newest chain ever known.
    last_chain: Option<Chain>,
    missing: Vec<u64>,
    window: Window,
    /// The segment being walked has damage.
    harmed: bool,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(
        files: &'a mut dyn Files,
        log: LogId,
        report: RecoveryReport,
        replay_from: Lsn,
        as_of: FixedMap<Key, Lsn>,
        visit: &'a mut dyn FnMut(Replay<'_>),
    ) -> Self {
        Self {
            files,
            log,
            found: Found {
                segments: Segments::new(),
                partitions: Partitions::default(),
                report,
                removed: Vec::new(),
                to_seal: Vec::new(),
                cut: None,
                end_unknown: false,
                visit,
            },
            replay_from,
            as_of,
            chain: None,
            last_chain: None,
            missing: Vec::new(),
            window: Window::default(),
            harmed: false,
        }
    }

    pub(crate) fn damage(&mut self, damage: Damage) {
        self.harmed = true;
        self.chain = None;
        visit_damage(&mut self.found.report, damage, self.found.visit);
    }

    /// The next segment does not continue the one before: those between them are
    /// gone for good reason.
    pub(crate) fn gap(&mut self) {
        self.chain = None;
    }

    /// A segment that must be there is not.
    pub(crate) fn missing(&mut self, number: u64) {
        self.chain = None;
        self.found.end_unknown = true;
        self.missing.push(number);
    }

    /// A segment's header is damaged, and everything in it with that.
    pub(crate) fn headless(&mut self, damage: Damage) {
        self.found.end_unknown = true;
        self.damage(damage);
    }

    /// Everything was walked.
    pub(crate) fn finish(mut self) -> (Found<'a>, Option<Chain>) {
        for number in core::mem::take(&mut self.missing) {
            if !self.found.removed.contains(&number) {
                self.damage(Damage {
                    segment: number,
                    offset: 0,
                    len: 0,
                    kind: DamageKind::Vanished,
                    partitions: DamagedPartitions::All,
                });
            }
        }
        (self.found, self.last_chain)
    }

    /// Walks the segment of `header`, whose file has `len` bytes. `limit` is what
    /// the next segment continues, `newest` says that there is none.
    pub(crate) fn segment(
        &mut self,
        header: &SegmentHeader,
        len: u64,
        limit: Option<Chain>,
        newest: bool,
    ) -> Result<(), RecoverError> {
        let number = header.number;
        self.harmed = false;
        if let Some(chain) = self.chain
            && chain != header.chain
        {
            self.harmed = true;
            let kind = DamageKind::Chain;
            self.damage_at(number, 0, 0, kind, DamagedPartitions::All);
        }
        self.chain = Some(header.chain);
        let key = header.key();
        let len = len.min(u64::from(u32::MAX) / 2);
        let facts = self.trailer(key, len)?;
        let mut segment = Segment::new(key, header.chain, len);
        if let Some(facts) = facts
            && facts.next.lsn <= self.replay_from
            && limit.is_none_or(|limit| limit == facts.next)
            && let Some(runs) = self.footer_runs(key, len, &facts)?
        {
            // Every record of it is in the states, and its footer says the rest.
            segment.end = facts.offset;
            segment.durable = facts.offset;
            segment.last_lsn = Lsn(facts.next.lsn.0 - 1);
            segment.last_group = facts.next.sequence - 1;
            segment.last_crc = facts.next.previous_crc;
            segment.entries_at = facts.entries_at(0, 0).start;
            segment.file = FileState::Closed;
            segment.index = None;
            segment.stream_live = runs.iter().map(|run| u64::from(run.live)).sum();
            self.found.partitions.adopt(number, &runs, |_| true);
            segment.runs = runs;
            self.found.segments.push(segment);
            self.reached(facts.next);
            return Ok(());
        }
        self.found.segments.push(segment);
        self.walk(key, len, limit, newest)?;
        self.close(number, len)
    }

    fn reached(&mut self, chain: Chain) {
        self.chain = Some(chain);
        self.last_chain = Some(chain);
        self.found.end_unknown = false;
    }

    fn file(&self, number: u64) -> FileId {
        FileId::Segment {
            log: self.log,
            number,
        }
    }

    fn trailer(
        &mut self,
        key: SegmentKey,
        len: u64,
    ) -> Result<Option<crate::format::FooterFacts>, RecoverError> {
        if len < 3 * BLOCK as u64 || !len.is_multiple_of(BLOCK as u64) {
            return Ok(None);
        }
        let mut block = vec![0; BLOCK];
        let file = self.file(key.number);
        read(self.files, file, len - BLOCK as u64, &mut block)?;
        Ok(decode_trailer(key, len, &block).ok())
    }

    fn footer_bytes(
        &mut self,
        number: u64,
        facts: &crate::format::FooterFacts,
    ) -> Result<Vec<u8>, RecoverError> {
        let mut bytes = vec![0; usize::try_from(facts.bytes()).unwrap_or(0)];
        let file = self.file(number);
        let got = read(self.files, file, facts.offset.into(), &mut bytes)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    fn footer_runs(
        &mut self,
        key: SegmentKey,
        len: u64,
        facts: &crate::format::FooterFacts,
    ) -> Result<Option<Vec<Run>>, RecoverError> {
        if facts.end() != len {
            return Ok(None);
        }
        let bytes = self.footer_bytes(key.number, facts)?;
        let footer = decode_footer(key, facts, &bytes).ok();
        Ok(footer.map(|footer| {
            footer
                .summaries()
                .filter_map(|summary| Run::from_summary(&summary))
                .collect()
        }))
    }

    /// Goes through the groups.
    fn walk(
        &mut self,
        key: SegmentKey,
        len: u64,
        limit: Option<Chain>,
        newest: bool,
    ) -> Result<(), RecoverError> {
        let number = key.number;
        let file = self.file(number);
        let len = u32::try_from(len).expect("it was bounded before");
        let mut at = UNIT;
        let mut want = BLOCK;
        let mut window = core::mem::take(&mut self.window);
        window.bytes.clear();
        window.file_bytes = len;
        let whole_segment_read = loop {
            if let (Some(limit), Some(chain)) = (limit, self.chain)
                && chain.sequence >= limit.sequence
            {
                break true;
            }
            let bytes = if at < len {
                window.get(self.files, file, at, want)?
            } else {
                &[]
            };
            if bytes.is_empty() {
                break false;
            }
            match check_group(key, at, bytes) {
                GroupVerdict::Whole(group) => {
                    self.whole(number, &group);
                    at = group.header.end();
                    want = BLOCK;
                }
                GroupVerdict::Incomplete { extent } if want < extent as usize => {
                    want = extent as usize;
                }
                GroupVerdict::Footer(_) => break false,
                GroupVerdict::Empty => {
                    let Some(next) = self.search(&mut window, key, at + UNIT, len)? else {
                        if newest {
                            self.note_torn(&mut window, number, at, len)?;
                        }
                        break false;
                    };
                    self.lost(number, at, next - at);
                    at = next;
                }
                GroupVerdict::Torn { header, .. } if newest => {
                    match self.search(&mut window, key, at + UNIT, len)? {
                        None => {
                            self.note_torn(&mut window, number, at, len)?;
                            break false;
                        }
                        Some(next) => {
                            self.lost(number, at, header.extent());
                            at = next;
                        }
                    }
                }
                GroupVerdict::Torn { header, .. } => {
                    self.lost(number, at, header.extent());
                    self.reached(header.next());
                    at = header.end();
                }
                GroupVerdict::Damaged { damage, group } => {
                    self.harmed_group(number, &damage, group.as_ref());
                    want = BLOCK;
                    if let Some(header) = damage.header {
                        self.reached(header.next());
                        at = header.end();
                        continue;
                    }
                    match self.search(&mut window, key, at + UNIT, len)? {
                        Some(next) => at = next,
                        None => {
                            self.found.end_unknown |= newest;
                            break false;
                        }
                    }
                }
                GroupVerdict::Incomplete { extent } => {
                    // The file ends inside a group.
                    self.lost(number, at, extent);
                    self.found.end_unknown |= newest;
                    break false;
                }
            }
        };
        self.window = window;
        if let (Some(limit), false) = (limit, whole_segment_read) {
            if !self.harmed {
                let kind = DamageKind::Shortened;
                self.damage_at(number, at.into(), 0, kind, DamagedPartitions::All);
            }
            self.chain = Some(limit);
        }
        if let (Some(limit), Some(chain)) = (limit, self.chain) {
            if chain != limit && !self.harmed {
                let kind = DamageKind::Chain;
                self.damage_at(number, at.into(), 0, kind, DamagedPartitions::All);
            }
            self.reached(limit);
        }
        Ok(())
    }

    /// The next place from `at` on where a group of this segment begins.
    fn search(
        &mut self,
        window: &mut Window,
        key: SegmentKey,
        mut at: u32,
        len: u32,
    ) -> Result<Option<u32>, RecoverError> {
        let file = self.file(key.number);
        while at < len {
            let bytes = window.get(self.files, file, at, BLOCK)?;
            if bytes.is_empty() {
                break;
            }
            for (place, block) in (at..len).step_by(BLOCK).zip(bytes.chunks(BLOCK)) {
                if GroupHeader::decode(block, key, place).is_ok() {
                    return Ok(Some(place));
                }
                at = place + UNIT;
            }
        }
        Ok(None)
    }

    /// What a crash left behind the last group of the newest segment.
    fn note_torn(
        &mut self,
        window: &mut Window,
        segment: u64,
        from: u32,
        len: u32,
    ) -> Result<(), RecoverError> {
        let file = self.file(segment);
        let (mut at, mut end) = (from, from);
        while at < len {
            let bytes = window.get(self.files, file, at, BLOCK)?;
            if bytes.is_empty() {
                break;
            }
            let blocks = (at..).step_by(BLOCK).zip(bytes.chunks(BLOCK));
            // Most of it is zero: compared block by block, looked into at the end.
            if let Some((place, block)) = blocks
                .filter(|(_, block)| **block != ZERO[..block.len()])
                .last()
                && let Some(last) = block.iter().rposition(|byte| *byte != 0)
            {
                end = place.saturating_add(u32::try_from(last + 1).unwrap_or(u32::MAX));
            }
            at = at.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        if end > from {
            let (offset, bytes) = (from.into(), u64::from(end - from));
            self.found.report.torn = Some(Torn {
                segment,
                offset,
                bytes,
            });
        }
        Ok(())
    }

    fn whole(&mut self, number: u64, group: &Group<'_>) {
        let header = &group.header;
        if let Some(chain) = self.chain
            && header.follows(&chain).is_err()
        {
            let (at, len) = (header.offset.into(), header.extent().into());
            self.damage_at(number, at, len, DamageKind::Chain, DamagedPartitions::All);
        }
        for record in group.records() {
            self.record(number, header.offset, &record);
        }
        self.passed(number, header);
    }

    fn passed(&mut self, number: u64, header: &GroupHeader) {
        self.found.report.bytes_replayed += u64::from(header.extent());
        let segment = self
            .found
            .segments
            .get_mut(number)
            .expect("it is being walked");
        segment.end = header.end();
        segment.durable = header.end();
        segment.last_lsn = header.last_lsn();
        segment.last_group = header.chain.sequence;
        segment.last_crc = header.crc;
        if let Some(index) = &mut segment.index {
            index.close_group(header.end() / UNIT);
        }
        self.reached(header.next());
    }

    fn record(&mut self, number: u64, group_at: u32, record: &RecordView<'_>) {
        let head = record.head;
        let at = record.location(number);
        self.found.partitions.note(
            &mut self.found.segments,
            number,
            &head,
            record.flags,
            at.len,
            group_at / UNIT,
        );
        if head.resource == CONTROL {
            if head.kind == SEGMENT_REMOVED {
                self.found.removed.push(head.first);
            }
            return;
        }
        let key = (head.resource, head.partition);
        let covered = self
            .as_of
            .get(&key)
            .copied()
            .unwrap_or(Lsn(self.replay_from.0 - 1));
        if record.lsn <= covered || record.lsn < self.replay_from {
            return;
        }
        self.found.report.records_replayed += 1;
        (self.found.visit)(Replay::Record {
            lsn: record.lsn,
            at,
            head,
            carried: record.flags.carried,
            ext: record.ext,
            body: record.body,
        });
    }

    /// A group of which something is sound.
    fn harmed_group(&mut self, number: u64, damage: &GroupDamage, group: Option<&Group<'_>>) {
        let partitions = match &damage.records {
            Some(records) => {
                let mut names: Vec<Key> = records
                    .iter()
                    .map(|record| (record.resource, record.partition))
                    .collect();
                names.sort_unstable();
                names.dedup();
                if names.len() > NAMED_MAX || names.iter().any(|name| name.0 == CONTROL) {
                    DamagedPartitions::All
                } else {
                    DamagedPartitions::Some(names)
                }
            }
            None => DamagedPartitions::All,
        };
        let len = damage.header.map_or(0, |header| header.extent());
        let kind = DamageKind::Group;
        self.damage_at(number, damage.at.into(), len.into(), kind, partitions);
        let (Some(group), Some(harmed)) = (group, &damage.records) else {
            return;
        };
        for record in group.records() {
            if harmed.iter().all(|harm| harm.position != record.position) {
                self.record(number, group.header.offset, &record);
            }
        }
        self.passed(number, &group.header);
    }

    /// A group that was written and is not there.
    fn lost(&mut self, number: u64, at: u32, len: u32) {
        let kind = DamageKind::Group;
        self.damage_at(number, at.into(), len.into(), kind, DamagedPartitions::All);
    }

    fn damage_at(
        &mut self,
        segment: u64,
        offset: u64,
        len: u64,
        kind: DamageKind,
        partitions: DamagedPartitions,
    ) {
        self.damage(Damage {
            segment,
            offset,
            len,
            kind,
            partitions,
        });
    }

    /// The segment was walked: its footer is right, or must be written.
    fn close(&mut self, number: u64, len: u64) -> Result<(), RecoverError> {
        let harmed = self.harmed;
        let segment = self
            .found
            .segments
            .get_mut(number)
            .expect("it was just walked");
        for run in &mut segment.runs {
            run.readable = u64::MAX;
        }
        let carried = segment.runs.clone();
        self.found
            .partitions
            .adopt(number, &carried, |run| run.carried);
        if harmed {
            // Neither cut nor sealed nor removed: people may want to look.
            let segment = self
                .found
                .segments
                .get_mut(number)
                .expect("it was just walked");
            segment.file = FileState::Closed;
            segment.damaged = true;
            return Ok(());
        }
        let expected = index::footer(segment);
        let end = segment.end;
        let key = segment.key;
        if let Some(facts) = self.trailer(key, len)?
            && facts.offset == end
            && self.footer_bytes(number, &facts)? == expected.as_slice()
        {
            let segment = self
                .found
                .segments
                .get_mut(number)
                .expect("it was just walked");
            segment.file = FileState::Closed;
            segment.index = None;
            segment.entries_at = facts.entries_at(0, 0).start;
            return Ok(());
        }
        let segment = self
            .found
            .segments
            .get_mut(number)
            .expect("it was just walked");
        segment.file = FileState::Open;
        self.found.to_seal.push(number);
        self.found.report.footers_rebuilt.push(number);
        // Nothing may follow a segment that has more behind its groups than its
        // footer; a sealed one is cut by then.
        self.found.cut = Some(number);
        Ok(())
    }
}
