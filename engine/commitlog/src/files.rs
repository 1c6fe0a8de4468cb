//! Files come and go: the next segment is made before it is needed, a full one
//! is cut to its groups and gets its footer, one with nothing alive is removed.
//!
//! The order of these steps is what a crash between any two of them relies on:
//! a footer follows the last durable group; a removal is announced in the log
//! and durable there before the file goes; a file that failed to be made is
//! removed before it is made again.

use std::collections::VecDeque;

use pinion_types::Monotonic;

use crate::config::SPARE_AT_PERCENT;
use crate::disk::{BLOCK, Background, DiskError, DiskOutput, DiskRequest, FileId};
use crate::events::LogEvent;
use crate::format::decode_trailer;
use crate::log::{Log, Phase, RETRY, SEGMENT_REMOVED, Work};
use crate::segments::{FileState, Removal};
use crate::{Lsn, index};

/// Room below which a full disk makes the log read-only, beside the reserve:
/// what a small append and the log's own records take.
const READ_ONLY_BELOW: u64 = (64 << 10) + 4 * BLOCK as u64;

/// Files being removed at a time. More would fill the disk's queue when a long
/// history goes at once; fewer make that take longer.
const REMOVALS_MAX: usize = 64;

/// What a request about a file is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FileWork {
    /// Remove what a failed making left.
    Unmake(u64),
    /// Make a segment.
    Make(u64),
    /// Cut a segment behind its last group.
    Cut(u64),
    /// Write its footer.
    Footer(u64),
    /// Remove it.
    Remove(u64),
}

/// Numbers for salts: SplitMix64 (Steele, Lea, Flood: Fast Splittable
/// Pseudorandom Number Generators, 2014).
#[derive(Debug)]
pub(crate) struct Salts(u64);

impl Salts {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Where the work on files is.
#[derive(Debug)]
pub(crate) struct FilesState {
    pub(crate) salts: Salts,
    /// A file made ahead, not yet a segment of the log.
    pub(crate) spare: Option<(u64, Background)>,
    /// Being made.
    making: Option<u64>,
    /// How, once the disk was asked.
    background: Background,
    /// Bytes of a usual group lately.
    usual_group: u32,
    /// Something of these names may be there and must go before they are made.
    pub(crate) leftovers: Vec<u64>,
    /// Why the last file could not be made.
    pub(crate) refused: Option<DiskError>,
    pub(crate) read_only: bool,
    /// When making is tried again.
    pub(crate) make_at: Option<Monotonic>,
    /// When sealing and removing are tried again.
    pub(crate) retry_at: Option<Monotonic>,
    /// A torn segment: nothing follows it before it is cut.
    pub(crate) cutting: Option<u64>,
    /// Segments that wait for their footer, oldest first.
    pub(crate) to_seal: VecDeque<u64>,
    sealing: bool,
    /// Removals whose records are not durable yet.
    announced: VecDeque<(Lsn, u64)>,
    /// Removals that may be done.
    pub(crate) due: VecDeque<u64>,
    /// Removals the disk was asked for.
    removing: usize,
}

impl FilesState {
    pub(crate) fn new(salts: Salts) -> Self {
        Self {
            salts,
            spare: None,
            making: None,
            background: Background::Written,
            usual_group: 0,
            leftovers: Vec::new(),
            refused: None,
            read_only: false,
            make_at: None,
            retry_at: None,
            cutting: None,
            to_seal: VecDeque::new(),
            sealing: false,
            announced: VecDeque::new(),
            due: VecDeque::new(),
            removing: 0,
        }
    }
}

impl Log {
    fn segment_file(&self, number: u64) -> FileId {
        FileId::Segment {
            log: self.config.log,
            number,
        }
    }

    /// Asks for whatever is to be done about files now.
    pub(crate) fn pump_files(&mut self) {
        if self.phase == Phase::Failed {
            return;
        }
        self.pump_making();
        self.pump_sealing();
        self.pump_removals();
        self.note_read_only();
    }

    fn pump_making(&mut self) {
        if self.files.making.is_some() || self.files.make_at.is_some() {
            return;
        }
        let Some(number) = self.wanted() else {
            return;
        };
        self.files.making = Some(number);
        let file = self.segment_file(number);
        if self.files.leftovers.contains(&number) {
            let op = self.op(Work::File(FileWork::Unmake(number)));
            self.request(DiskRequest::Remove { op, file });
        } else {
            let op = self.op(Work::File(FileWork::Make(number)));
            let len = self.config.segment_bytes;
            let background = if self.files.usual_group >= self.config.bulk_group_bytes {
                Background::Reserved
            } else {
                Background::Written
            };
            self.files.background = background;
            self.request(DiskRequest::Create {
                op,
                file,
                len,
                background,
            });
        }
    }

    /// The file to be made next: one that records wait for, or one ahead.
    fn wanted(&self) -> Option<u64> {
        let planned = self
            .segments
            .iter()
            .rev()
            .take_while(|segment| segment.file == FileState::Planned)
            .last();
        if let Some(segment) = planned {
            return Some(segment.key.number);
        }
        let active = self.active();
        let used = u64::from(active.end) * 100;
        (self.phase == Phase::Running
            && self.files.spare.is_none()
            && active.file == FileState::Open
            && (used >= self.config.segment_bytes * SPARE_AT_PERCENT || self.is_misplaced()))
        .then_some(self.cursor + 1)
    }

    /// A group of so many bytes was closed.
    pub(crate) fn note_group(&mut self, bytes: u32) {
        let usual = self.files.usual_group;
        self.files.usual_group = usual - usual / 8 + bytes / 8;
    }

    /// Whether small groups go to a segment that was reserved for bulk.
    fn is_misplaced(&self) -> bool {
        self.active().background == Background::Reserved
            && self.files.usual_group < self.config.bulk_group_bytes / 2
    }

    /// Whether the active segment is left for the next one although it has room.
    pub(crate) fn leaves_early(&self) -> bool {
        self.files.spare.is_some() && self.is_misplaced()
    }

    fn pump_sealing(&mut self) {
        if self.files.sealing || self.files.retry_at.is_some() {
            return;
        }
        let Some(&number) = self.files.to_seal.front() else {
            return;
        };
        let segment = self
            .segments
            .get(number)
            .expect("a segment to be sealed is known");
        if segment.file != FileState::Open || segment.durable != segment.end {
            return;
        }
        self.files.sealing = true;
        let (file, len) = (self.segment_file(number), segment.end.into());
        let op = self.op(Work::File(FileWork::Cut(number)));
        self.request(DiskRequest::Truncate { op, file, len });
    }

    fn write_footer(&mut self, number: u64) {
        let file = self.segment_file(number);
        let segment = self.segments.get_mut(number).expect("it is being sealed");
        let data = index::footer(segment);
        let offset = segment.end.into();
        let op = self.op(Work::File(FileWork::Footer(number)));
        self.request(DiskRequest::Write {
            op,
            file,
            offset,
            data,
        });
    }

    fn pump_removals(&mut self) {
        self.limit_pin();
        if self.files.retry_at.is_some() {
            return;
        }
        for _ in 0..self.files.due.len() {
            if self.files.removing >= REMOVALS_MAX {
                return;
            }
            let Some(number) = self.files.due.pop_front() else {
                return;
            };
            // A read of it is under way, or a copy: the file goes after it.
            let pinned = self.pin.as_ref().is_some_and(|pin| pin.has_segment(number));
            let read = self.segments.get(number);
            if pinned || read.is_some_and(|segment| segment.reads > 0) {
                self.files.due.push_back(number);
                continue;
            }
            if let Some(segment) = self.segments.get_mut(number) {
                segment.removal = Removal::Asked;
            }
            let file = self.segment_file(number);
            self.files.removing += 1;
            let op = self.op(Work::File(FileWork::Remove(number)));
            self.request(DiskRequest::Remove { op, file });
        }
    }

    /// A request about a file is over.
    pub(crate) fn file_done(
        &mut self,
        now: Monotonic,
        work: FileWork,
        result: Result<DiskOutput, DiskError>,
    ) {
        let gone = matches!(result, Err(DiskError::Missing));
        if let FileWork::Remove(_) = work {
            self.files.removing -= 1;
        }
        match (work, result) {
            (FileWork::Unmake(number), result) => {
                self.files.making = None;
                match result {
                    Err(error) if !gone => self.refused(now, number, error),
                    _ => self.files.leftovers.retain(|&left| left != number),
                }
            }
            (FileWork::Make(number), Ok(_)) => {
                self.files.making = None;
                self.files.refused = None;
                let background = self.files.background;
                match self.segments.get_mut(number) {
                    Some(segment) => {
                        segment.file = FileState::Made;
                        segment.background = background;
                    }
                    None => self.files.spare = Some((number, background)),
                }
            }
            (FileWork::Make(number), Err(error)) => {
                self.files.making = None;
                self.refused(now, number, error);
            }
            (FileWork::Cut(number), Ok(_)) => {
                if self.files.cutting == Some(number) {
                    self.files.cutting = None;
                }
                self.write_footer(number);
            }
            (FileWork::Footer(number), Ok(output)) => {
                self.stats.writes += 1;
                self.files.sealing = false;
                self.files.to_seal.pop_front();
                self.sealed(number, output);
            }
            (FileWork::Cut(_) | FileWork::Footer(_), Err(DiskError::Full)) => {
                // A footer can be written again, with the same bytes, at any time.
                self.files.sealing = false;
                self.files.retry_at = Some(now + RETRY);
            }
            // A disk that cannot write a footer cannot be trusted with groups.
            (FileWork::Cut(_) | FileWork::Footer(_), Err(error)) => self.fail(error),
            (FileWork::Remove(number), Err(_)) if !gone => {
                self.files.due.push_back(number);
                self.files.retry_at = Some(now + RETRY);
            }
            (FileWork::Remove(number), _) => {
                self.segments.remove(number);
                self.stats.removed += 1;
                // Room may have come back.
                self.files.make_at = None;
            }
        }
        self.pump_files();
    }

    fn refused(&mut self, now: Monotonic, number: u64, error: DiskError) {
        // It may have left a shorter file.
        if !self.files.leftovers.contains(&number) {
            self.files.leftovers.push(number);
        }
        self.files.refused = Some(error);
        self.files.make_at = Some(now + RETRY);
    }

    fn sealed(&mut self, number: u64, output: DiskOutput) {
        let segment = self.segments.get_mut(number).expect("it was being sealed");
        segment.file = FileState::Closed;
        segment.index = None;
        segment.runs.shrink_to_fit();
        if let DiskOutput::Written(footer) = output {
            let len = u64::from(segment.end) + footer.len() as u64;
            segment.file_bytes = len;
            let last = &footer.as_slice()[footer.len() - BLOCK..];
            let facts = decode_trailer(segment.key, len, last)
                .expect("the trailer was built for this place");
            segment.entries_at = facts.entries_at(0, 0).start;
        }
        self.segments.emptied = true;
    }

    /// Announces the removal of segments in which nothing is alive.
    pub(crate) fn collect(&mut self) {
        if !self.segments.emptied || !self.told || self.phase != Phase::Running {
            return;
        }
        let Some(floor) = self.checkpoints.floor() else {
            return;
        };
        self.segments.emptied = false;
        let victim = self.compaction.victim();
        let empty: Vec<u64> = self
            .segments
            .iter()
            .filter(|segment| segment.removable(floor) && Some(segment.key.number) != victim)
            .map(|segment| segment.key.number)
            .collect();
        for number in empty {
            if self.room_left().is_some_and(|room| room < 2 * BLOCK as u64) {
                // Announced once there is room for the announcement.
                self.segments.emptied = true;
                return;
            }
            let lsn = self.append_control(SEGMENT_REMOVED, number);
            let segment = self.segments.get_mut(number).expect("it was just listed");
            segment.removal = Removal::Announced;
            self.files.announced.push_back((lsn, number));
        }
    }

    /// Announcements may have become durable.
    pub(crate) fn removals_committed(&mut self) {
        while let Some(&(lsn, number)) = self.files.announced.front() {
            if lsn > self.committed() {
                break;
            }
            self.files.announced.pop_front();
            if let Some(segment) = self.segments.get_mut(number) {
                segment.removal = Removal::Due;
            }
            self.files.due.push_back(number);
        }
    }

    pub(crate) fn note_read_only(&mut self) {
        let below = READ_ONLY_BELOW + self.config.reserve_bytes;
        let read_only = self.room_left().is_some_and(|room| room < below);
        if read_only != self.files.read_only {
            self.files.read_only = read_only;
            self.events.push_back(LogEvent::ReadOnly(read_only));
        }
    }

    /// The last steps of [`Log::seal`].
    pub(crate) fn finish_seal(&mut self) {
        if self.phase != Phase::Sealing || !self.is_flushed() {
            return;
        }
        let active = self.active();
        let (number, file) = (active.key.number, active.file);
        if file == FileState::Open && !self.files.to_seal.contains(&number) {
            self.files.to_seal.push_back(number);
            self.pump_sealing();
        }
        let quiet = self.files.to_seal.is_empty()
            && self.files.due.is_empty()
            && self.files.making.is_none()
            && self.checkpoints.is_idle()
            // Of one that was given up, too: what the disk is at ends first.
            && !self.work.values().any(|work| matches!(work, Work::Checkpoint(_)));
        // A file that was made for an active segment without records, or ahead,
        // is left: the next start removes it.
        if quiet {
            self.phase = Phase::Sealed;
            self.events.push_back(LogEvent::Sealed);
        }
    }
}
