//! A log's files for people: what is in them, whether all of it holds, and every
//! record. Nothing is changed, nothing is printed, and nothing is believed that
//! a start of the node would not believe.
//!
//! [`list`] gives the facts of headers and footers, [`verify`] reads everything
//! and names each fault by file and byte, [`dump`] gives the records one by one.
//! All of them read a group at a time, whatever the length of the log.

mod scan;
mod verify;

use std::collections::VecDeque;

use pinion_types::{PartitionId, ResourceId};

use crate::disk::{BLOCK, DiskError, FileId, Files};
use crate::format::{
    CheckpointHeader, CheckpointTrailer, FooterFacts, FormatError, RecordFlags, SegmentHeader,
    Structure, decode_trailer,
};
use crate::{Location, LogId, Lsn, RecordHead};
use scan::{Reader, Scan};

pub use verify::{VerifyReport, verify};

/// Something about a file that a person may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: FileId,
    /// Byte in it.
    pub offset: u64,
    /// Bytes concerned; 0 when unknown.
    pub len: u64,
    /// What it is.
    pub fault: Fault,
    /// Whose records are harmed: none with an empty list, anybody's with `None`.
    pub partitions: Option<Vec<(ResourceId, PartitionId)>>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// What a crash or a full disk leaves; the next start clears it away.
    Note,
    /// Derived data is harmed; the next start makes it again from the records.
    Derived,
    /// Committed data cannot be read.
    Loss,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A prepared segment that no record was written to.
    #[error("prepared and not yet used")]
    Unused,
    /// The last write before a crash: some of its sectors were never written.
    /// Nobody was told that it is durable.
    #[error("a torn write at the end of the log, {missing} sectors of it missing")]
    Torn {
        /// Sectors that were never written.
        missing: u32,
    },
    /// A checkpoint that was not completed.
    #[error("an unfinished checkpoint")]
    Unfinished,
    /// A footer that is missing or wrong.
    #[error("no usable footer: {0}")]
    Footer(FormatError),
    /// A checkpoint that was complete and changed.
    #[error("the checkpoint does not hold: {0}")]
    Checkpoint(FormatError),
    /// The segment's header is not what was written: nothing in it can be
    /// verified.
    #[error("the segment's header does not hold: {0}")]
    Header(FormatError),
    /// A group, or records in it, are not what was written.
    #[error("damaged: {0}")]
    Damaged(FormatError),
    /// A group is missing, though one that was written after it is there.
    #[error("a group is missing here; the next one is at byte {next}")]
    Missing {
        /// Where the next group is.
        next: u64,
    },
    /// The groups do not reach to where the footer says that they end.
    #[error("the groups end here, {missing} bytes early")]
    Shortened {
        /// Bytes up to the footer.
        missing: u64,
    },
    /// A group or segment that does not continue the one before.
    #[error("does not continue what is before it: {0}")]
    Chain(FormatError),
    /// The file is gone, and no record says that it was removed.
    #[error("the file vanished")]
    Vanished,
    /// A file of another data directory.
    #[error("belongs to another store")]
    ForeignStore {
        /// The store it names.
        found: [u8; 16],
    },
    /// A file that was renamed.
    #[error("says that it is file {number} of log {log}")]
    Misplaced {
        /// The log it names.
        log: u16,
        /// The number it names.
        number: u64,
    },
    /// The disk did not read it.
    #[error("cannot be read: {0}")]
    Unreadable(DiskError),
}

impl Fault {
    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Unused | Self::Torn { .. } | Self::Unfinished => Severity::Note,
            Self::Footer(_) | Self::Checkpoint(_) => Severity::Derived,
            _ => Severity::Loss,
        }
    }
}

/// A log's folder.
#[derive(Clone, Debug)]
pub struct LogInfo {
    /// Its segments by number.
    pub segments: Vec<SegmentInfo>,
    /// Its checkpoints by number.
    pub checkpoints: Vec<CheckpointInfo>,
    /// Names that no log gives.
    pub foreign: Vec<String>,
}

/// A segment.
#[derive(Clone, Debug)]
pub struct SegmentInfo {
    /// Its file.
    pub file: FileId,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// What its first block says.
    pub header: Result<SegmentHeader, Fault>,
    /// What its last block says; an error in the segment in use, and after a
    /// crash.
    pub footer: Result<FooterFacts, FormatError>,
    /// Groups in it: what the footer says, else counted.
    pub groups: u64,
    /// Records in it: what the footer says, else counted.
    pub records: u64,
    /// Byte behind the last group.
    pub end: u64,
    /// Number of its last record; the one before its first without records.
    pub last_lsn: Lsn,
}

/// A checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointInfo {
    /// Its file.
    pub file: FileId,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// What its first block says.
    pub header: Result<CheckpointHeader, Fault>,
    /// What its last block says; an error when it is not done.
    pub trailer: Result<CheckpointTrailer, Fault>,
}

/// The facts of every file of `log`. Reads headers and footers; the groups only
/// of segments without a footer.
///
/// # Errors
/// The folder cannot be listed. What cannot be read of a file is in its entry.
pub fn list(files: &mut dyn Files, log: LogId) -> Result<LogInfo, DiskError> {
    let folder = Folder::read(files, log)?;
    let segments = 0..folder.segments.len();
    let segments = segments.map(|at| segment_info(files, &folder.segments[at..]));
    let segments = segments.collect();
    let checkpoints = folder.checkpoints.iter();
    let checkpoints = checkpoints.map(|(file, len)| checkpoint_info(files, *file, *len));
    Ok(LogInfo {
        segments,
        checkpoints: checkpoints.collect(),
        foreign: folder.foreign,
    })
}

/// Names and lengths, in order.
struct Folder {
    segments: Vec<(FileId, u64)>,
    checkpoints: Vec<(FileId, u64)>,
    foreign: Vec<String>,
}

impl Folder {
    fn read(files: &mut dyn Files, log: LogId) -> Result<Self, DiskError> {
        let (mut named, mut foreign) = files.list(log)?;
        named.sort_unstable();
        foreign.sort_unstable();
        let (segments, checkpoints) = named
            .into_iter()
            .partition(|(file, _)| matches!(file, FileId::Segment { .. }));
        Ok(Self {
            segments,
            checkpoints,
            foreign,
        })
    }
}

const fn number_of(file: FileId) -> u64 {
    match file {
        FileId::Segment { number, .. } | FileId::Checkpoint { number, .. } => number,
    }
}

/// The header of a segment, when the file is the one it says.
fn segment_header(files: &mut dyn Files, file: FileId, len: u64) -> Result<SegmentHeader, Fault> {
    let block = first_block(files, file, len)?;
    let header = match SegmentHeader::decode(&block) {
        Ok(header) => header,
        // Without a header and without a group it was made and never used, or
        // was being made when the machine stopped.
        Err(FormatError::Blank { .. } | FormatError::Short { found: 0, .. })
            if !has_group(files, file, len).map_err(Fault::Unreadable)? =>
        {
            return Err(Fault::Unused);
        }
        Err(error) => return Err(Fault::Header(error)),
    };
    in_its_place(file, header.log, header.number)?;
    Ok(header)
}

/// Whether anything was written behind the first block.
fn has_group(files: &mut dyn Files, file: FileId, len: u64) -> Result<bool, DiskError> {
    let mut reader = Reader::new(files, file, len);
    let group = reader.bytes(BLOCK as u64, BLOCK)?;
    Ok(group.iter().any(|byte| *byte != 0))
}

/// The header of the first of `segments`, which are all from there on. Only the
/// newest may be unused: what another continues was used, and is lost.
fn header_of_first(
    files: &mut dyn Files,
    segments: &[(FileId, u64)],
) -> Result<SegmentHeader, Fault> {
    let [(file, len), later @ ..] = segments else {
        unreachable!("asked for a segment there is");
    };
    match segment_header(files, *file, *len) {
        Err(Fault::Unused)
            if later
                .iter()
                .any(|(file, len)| segment_header(files, *file, *len) != Err(Fault::Unused)) =>
        {
            Err(Fault::Header(FormatError::Blank {
                what: Structure::SegmentHeader,
            }))
        }
        header => header,
    }
}

fn checkpoint_header(
    files: &mut dyn Files,
    file: FileId,
    len: u64,
) -> Result<CheckpointHeader, Fault> {
    let block = first_block(files, file, len)?;
    let header = CheckpointHeader::decode(&block).map_err(|error| match error {
        FormatError::Blank { .. } | FormatError::Short { found: 0, .. } => Fault::Unfinished,
        error => Fault::Checkpoint(error),
    })?;
    in_its_place(file, header.log, header.number)?;
    Ok(header)
}

fn first_block(files: &mut dyn Files, file: FileId, len: u64) -> Result<Vec<u8>, Fault> {
    let mut reader = Reader::new(files, file, len);
    let block = reader.bytes(0, BLOCK).map_err(Fault::Unreadable)?;
    Ok(block.to_vec())
}

fn in_its_place(file: FileId, log: LogId, number: u64) -> Result<(), Fault> {
    if (file.log(), number_of(file)) == (log, number) {
        return Ok(());
    }
    Err(Fault::Misplaced { log: log.0, number })
}

/// The trailer in the last block of a segment's file.
fn trailer(
    reader: &mut Reader<'_>,
    header: &SegmentHeader,
    len: u64,
) -> Result<Result<FooterFacts, FormatError>, DiskError> {
    let last = reader.bytes(len.saturating_sub(BLOCK as u64), BLOCK)?;
    Ok(decode_trailer(header.key(), len, last))
}

fn segment_info(files: &mut dyn Files, from: &[(FileId, u64)]) -> SegmentInfo {
    let (file, file_bytes) = from[0];
    let blank = FormatError::Blank {
        what: Structure::FooterTrailer,
    };
    let mut info = SegmentInfo {
        file,
        file_bytes,
        header: header_of_first(files, from),
        footer: Err(blank),
        groups: 0,
        records: 0,
        end: 0,
        last_lsn: Lsn(0),
    };
    if let Ok(header) = info.header
        && let Err(error) = count(files, &header, &mut info)
    {
        info.header = Err(Fault::Unreadable(error));
    }
    info
}

/// From the footer, or else from the groups.
fn count(
    files: &mut dyn Files,
    header: &SegmentHeader,
    info: &mut SegmentInfo,
) -> Result<(), DiskError> {
    let mut reader = Reader::new(files, info.file, info.file_bytes);
    info.footer = trailer(&mut reader, header, info.file_bytes)?;
    if let Ok(facts) = info.footer {
        info.groups = facts.groups.into();
        info.records = facts.records.into();
        info.end = facts.offset.into();
        info.last_lsn = Lsn(facts.next.lsn.0 - 1);
        return Ok(());
    }
    let mut scan = Scan::new(reader, header, None);
    info.last_lsn = Lsn(header.chain.lsn.0 - 1);
    while let Some(step) = scan.step()? {
        if let Some(group) = step.group {
            info.groups += 1;
            info.records += u64::from(group.header.records);
            info.last_lsn = group.header.last_lsn();
        }
    }
    info.end = scan.end();
    Ok(())
}

fn checkpoint_info(files: &mut dyn Files, file: FileId, file_bytes: u64) -> CheckpointInfo {
    let header = checkpoint_header(files, file, file_bytes);
    let trailer = match &header {
        Ok(header) => checkpoint_trailer(files, header, file, file_bytes),
        Err(fault) => Err(*fault),
    };
    CheckpointInfo {
        file,
        file_bytes,
        header,
        trailer,
    }
}

fn checkpoint_trailer(
    files: &mut dyn Files,
    header: &CheckpointHeader,
    file: FileId,
    len: u64,
) -> Result<CheckpointTrailer, Fault> {
    let mut reader = Reader::new(files, file, len);
    let last = reader
        .bytes(len.saturating_sub(BLOCK as u64), BLOCK)
        .map_err(Fault::Unreadable)?;
    CheckpointTrailer::decode(header, len, last).map_err(|error| match error {
        // Its trailer is the last thing of it that is written, in one sector:
        // bytes that do not even start like one belong to a state, or to nothing.
        FormatError::Blank { .. } | FormatError::Magic { .. } | FormatError::Short { .. } => {
            Fault::Unfinished
        }
        error => Fault::Checkpoint(error),
    })
}

/// A record and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpedRecord {
    /// Its number in the log.
    pub lsn: Lsn,
    /// Where it lies.
    pub location: Location,
    /// Sequence of its group.
    pub group: u64,
    /// What is special about it.
    pub flags: RecordFlags,
    /// What it says of itself.
    pub head: RecordHead,
    /// The domain's extension.
    pub ext: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

/// The records of a log, in order, and between them what could not be read.
pub struct Dump<'f> {
    files: &'f mut dyn Files,
    /// Segments not begun.
    ahead: VecDeque<(FileId, u64)>,
    /// Where the current one goes on.
    current: Option<Position>,
    from: Lsn,
    ready: VecDeque<Result<DumpedRecord, Finding>>,
}

struct Position {
    file: FileId,
    len: u64,
    state: scan::State,
    window: scan::Window,
}

/// Every record of `log` from `from` on.
///
/// # Errors
/// The folder cannot be listed.
pub fn dump(files: &mut dyn Files, log: LogId, from: Lsn) -> Result<Dump<'_>, DiskError> {
    let mut ahead: VecDeque<_> = Folder::read(files, log)?.segments.into();
    // Whole segments before the first wanted record need not be read.
    while let Some((file, len)) = ahead.get(1).copied() {
        match segment_header(files, file, len) {
            Ok(next) if next.chain.lsn <= from => ahead.pop_front(),
            _ => break,
        };
    }
    Ok(Dump {
        files,
        ahead,
        current: None,
        from,
        ready: VecDeque::new(),
    })
}

impl Iterator for Dump<'_> {
    type Item = Result<DumpedRecord, Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            let Some(position) = self.current.take() else {
                if self.ahead.is_empty() {
                    return None;
                }
                let header = header_of_first(self.files, self.ahead.make_contiguous());
                let (file, len) = self.ahead.pop_front()?;
                match header.and_then(|header| self.open(file, len, header)) {
                    Ok(position) => self.current = Some(position),
                    Err(Fault::Unused) => {}
                    Err(fault) => return Some(Err(whole_file(file, fault))),
                }
                continue;
            };
            self.advance(position);
        }
    }
}

impl Dump<'_> {
    fn open(&mut self, file: FileId, len: u64, header: SegmentHeader) -> Result<Position, Fault> {
        let mut reader = Reader::new(self.files, file, len);
        let facts = trailer(&mut reader, &header, len).map_err(Fault::Unreadable)?;
        let (state, window) = Scan::new(reader, &header, facts.ok()).park();
        Ok(Position {
            file,
            len,
            state,
            window,
        })
    }

    /// Reads one group further.
    fn advance(&mut self, position: Position) {
        let Position {
            file,
            len,
            state,
            window,
        } = position;
        let mut scan = Scan::resume(self.files, file, len, state, window);
        let from = self.from;
        match scan.step() {
            Ok(None) => return,
            Err(error) => {
                let finding = whole_file(file, Fault::Unreadable(error));
                self.ready.push_back(Err(finding));
                return;
            }
            Ok(Some(step)) => {
                self.ready.extend(step.finding.map(Err));
                if let Some(group) = step.group {
                    let records = group.records().filter(|record| {
                        record.lsn >= from
                            && step.harmed.iter().all(|harmed| harmed.lsn != record.lsn)
                    });
                    self.ready.extend(records.map(|record| {
                        Ok(DumpedRecord {
                            lsn: record.lsn,
                            location: record.location(number_of(file)),
                            group: group.header.chain.sequence,
                            flags: record.flags,
                            head: record.head,
                            ext: record.ext.to_vec(),
                            body: record.body.to_vec(),
                        })
                    }));
                }
            }
        }
        let (state, window) = scan.park();
        self.current = Some(Position {
            file,
            len,
            state,
            window,
        });
    }
}

const fn whole_file(file: FileId, fault: Fault) -> Finding {
    Finding {
        file,
        offset: 0,
        len: 0,
        fault,
        partitions: None,
    }
}
