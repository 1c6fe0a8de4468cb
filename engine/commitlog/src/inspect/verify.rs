//! Reads everything of a log and names what does not hold.

use std::collections::BTreeSet;

use super::scan::{Reader, Scan};
use super::{
    Fault, Finding, Folder, Severity, checkpoint_header, checkpoint_trailer, header_of_first,
    number_of, segment_header, trailer, whole_file,
};
use crate::disk::{BLOCK, DiskError, FileId, Files};
use crate::format::{
    Chain, CheckpointHeader, CheckpointTrailer, Directory, FooterFacts, FormatError, SegmentHeader,
    Structure, decode_footer,
};
use crate::{CONTROL, LogId, SEGMENT_REMOVED};

/// What was read, and how much of it was not as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments with a sound header.
    pub segments: u64,
    /// Groups whose record headers hold.
    pub groups: u64,
    /// Records in them that hold.
    pub records: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Checkpoints that hold.
    pub checkpoints: u64,
    /// States in them.
    pub states: u64,
    /// Findings of [`Severity::Note`].
    pub notes: u64,
    /// Findings of [`Severity::Derived`].
    pub derived: u64,
    /// Findings of [`Severity::Loss`].
    pub losses: u64,
}

/// Verifies every byte of `log` that is ever used, and gives each fault to
/// `found`, in the order of the files. `store` is what the data directory says
/// it is; without it the first file's counts.
///
/// # Errors
/// The folder cannot be listed. A file that cannot be read is a finding.
pub fn verify(
    files: &mut dyn Files,
    log: LogId,
    store: Option<[u8; 16]>,
    found: &mut dyn FnMut(Finding),
) -> Result<VerifyReport, DiskError> {
    let folder = Folder::read(files, log)?;
    let mut verify = Verify {
        log,
        store,
        found,
        report: VerifyReport::default(),
        removed: BTreeSet::new(),
        listed: Vec::new(),
    };
    for (file, len) in folder.segments.iter().chain(&folder.checkpoints) {
        verify.report.bytes += len;
        debug_assert_eq!(file.log(), log, "the folder is that of one log");
    }
    verify.segments(files, &folder);
    for (file, len) in &folder.checkpoints {
        verify.checkpoint(files, *file, *len);
    }
    verify.vanished(&folder);
    Ok(verify.report)
}

struct Verify<'a> {
    log: LogId,
    store: Option<[u8; 16]>,
    found: &'a mut dyn FnMut(Finding),
    report: VerifyReport,
    /// Segments that a record says were removed.
    removed: BTreeSet<u64>,
    /// Segments in the newest checkpoint.
    listed: Vec<u64>,
}

impl Verify<'_> {
    fn find(&mut self, finding: Finding) {
        match finding.fault.severity() {
            Severity::Note => self.report.notes += 1,
            Severity::Derived => self.report.derived += 1,
            Severity::Loss => self.report.losses += 1,
        }
        (self.found)(finding);
    }

    fn segments(&mut self, files: &mut dyn Files, folder: &Folder) {
        // Number of the segment before and what it leaves to be continued.
        let mut before: Option<(u64, Option<Chain>)> = None;
        for (at, (file, len)) in folder.segments.iter().enumerate() {
            let header = match header_of_first(files, &folder.segments[at..]) {
                Ok(header) => header,
                Err(fault) => {
                    self.find(whole_file(*file, fault));
                    before = None;
                    continue;
                }
            };
            self.report.segments += 1;
            self.store_is(*file, header.store);
            let expected =
                before.and_then(|(number, chain)| chain.filter(|_| number + 1 == header.number));
            if let Some(expected) = expected
                && expected != header.chain
            {
                self.find(whole_file(*file, Fault::Chain(broken(&header, &expected))));
            }
            let is_last = folder.segments[at + 1..]
                .iter()
                .all(|(file, len)| segment_header(files, *file, *len) == Err(Fault::Unused));
            let chain = self.segment(files, &header, *file, *len, is_last);
            before = Some((
                header.number,
                chain.unwrap_or_else(|error| {
                    self.find(whole_file(*file, Fault::Unreadable(error)));
                    None
                }),
            ));
        }
    }

    fn store_is(&mut self, file: FileId, found: [u8; 16]) {
        if *self.store.get_or_insert(found) != found {
            self.find(whole_file(file, Fault::ForeignStore { found }));
        }
    }

    /// Footer and groups of a segment; gives what the next one must continue.
    fn segment(
        &mut self,
        files: &mut dyn Files,
        header: &SegmentHeader,
        file: FileId,
        len: u64,
        is_last: bool,
    ) -> Result<Option<Chain>, DiskError> {
        let mut reader = Reader::new(files, file, len);
        let facts = match trailer(&mut reader, header, len)? {
            Ok(facts) => {
                self.footer(&mut reader, header, file, &facts)?;
                Some(facts)
            }
            Err(error) => {
                // The segment in use has none.
                if !is_last {
                    self.find(footer_fault(file, len, error));
                }
                None
            }
        };
        let mut scan = Scan::new(reader, header, facts);
        let mut groups = 0;
        while let Some(step) = scan.step()? {
            if let Some(group) = step.group {
                groups += 1;
                self.report.records += group.records().len() as u64 - step.harmed.len() as u64;
                for record in group.records() {
                    if (record.head.resource, record.head.kind) == (CONTROL, SEGMENT_REMOVED) {
                        self.removed.insert(record.head.first);
                    }
                }
            }
            if let Some(finding) = step.finding {
                self.find(finding);
            }
        }
        self.report.groups += groups;
        Ok(scan.chain())
    }

    fn footer(
        &mut self,
        reader: &mut Reader<'_>,
        header: &SegmentHeader,
        file: FileId,
        facts: &FooterFacts,
    ) -> Result<(), DiskError> {
        let len = usize::try_from(facts.bytes()).unwrap_or(usize::MAX);
        let bytes = reader.bytes(facts.offset.into(), len)?;
        if let Err(error) = decode_footer(header.key(), facts, bytes) {
            self.find(footer_fault(file, facts.offset.into(), error));
        }
        Ok(())
    }

    fn checkpoint(&mut self, files: &mut dyn Files, file: FileId, len: u64) {
        let read = checkpoint_header(files, file, len).and_then(|header| {
            let trailer = checkpoint_trailer(files, &header, file, len)?;
            let states = self.states(files, &header, &trailer, file, len)?;
            Ok((header, states))
        });
        match read {
            Ok((header, states)) => {
                self.store_is(file, header.store);
                self.report.checkpoints += 1;
                self.report.states += states;
            }
            Err(fault) => self.find(whole_file(file, fault)),
        }
    }

    fn states(
        &mut self,
        files: &mut dyn Files,
        header: &CheckpointHeader,
        trailer: &CheckpointTrailer,
        file: FileId,
        len: u64,
    ) -> Result<u64, Fault> {
        let mut reader = Reader::new(files, file, len);
        let at = trailer.directory();
        let bytes = reader
            .bytes(at.start, trailer.directory_len as usize)
            .map_err(Fault::Unreadable)?;
        let directory = Directory::decode(trailer, bytes).map_err(Fault::Checkpoint)?;
        let mut end = BLOCK as u64;
        for entry in &directory.entries {
            padding(&mut reader, end, entry.at)?;
            end = entry.at + u64::from(entry.len);
            let state = reader
                .bytes(entry.at, entry.len as usize)
                .map_err(Fault::Unreadable)?;
            entry.check(header, state).map_err(Fault::Checkpoint)?;
        }
        padding(&mut reader, end, at.start)?;
        padding(&mut reader, at.end, len - BLOCK as u64)?;
        // The newest comes last.
        self.listed = directory
            .segments
            .iter()
            .map(|segment| segment.number)
            .collect();
        Ok(directory.entries.len() as u64)
    }

    /// Segments that must be there and are not.
    fn vanished(&mut self, folder: &Folder) {
        let there: BTreeSet<u64> = folder
            .segments
            .iter()
            .map(|(file, _)| number_of(*file))
            .collect();
        let listed: BTreeSet<u64> = self.listed.iter().copied().collect();
        let newest_listed = listed.last().copied().unwrap_or(0);
        let (Some(&first), Some(&last)) = (there.first(), there.last()) else {
            for number in listed {
                self.gone(number);
            }
            return;
        };
        let mut missing: Vec<u64> = listed
            .iter()
            .copied()
            .filter(|number| !there.contains(number))
            .collect();
        // In a gap that no checkpoint speaks of: only a record explains it.
        let unspoken = (first..=last).filter(|number| *number > newest_listed);
        missing.extend(unspoken.filter(|number| !there.contains(number)));
        for number in missing {
            if !self.removed.contains(&number) {
                self.gone(number);
            }
        }
    }

    fn gone(&mut self, number: u64) {
        let log = self.log;
        self.find(whole_file(FileId::Segment { log, number }, Fault::Vanished));
    }
}

/// What lies between the parts of a checkpoint is zero. Nobody uses it; but
/// where it is not, a disk changes what it was given.
fn padding(reader: &mut Reader<'_>, from: u64, to: u64) -> Result<(), Fault> {
    let len = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let bytes = reader.bytes(from, len).map_err(Fault::Unreadable)?;
    match bytes.iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(at) => Err(Fault::Checkpoint(FormatError::NotZero {
            what: Structure::CheckpointDirectory,
            at: u32::try_from(from + at as u64).unwrap_or(u32::MAX),
        })),
    }
}

fn footer_fault(file: FileId, offset: u64, error: FormatError) -> Finding {
    Finding {
        file,
        offset,
        len: 0,
        fault: Fault::Footer(error),
        partitions: Some(Vec::new()),
    }
}

fn broken(header: &SegmentHeader, expected: &Chain) -> FormatError {
    let (field, found, expected) = if header.chain.lsn == expected.lsn {
        (
            "checksum of the previous group",
            header.chain.previous_crc.into(),
            expected.previous_crc.into(),
        )
    } else {
        ("first record", header.chain.lsn.0, expected.lsn.0)
    };
    FormatError::Mismatch {
        what: Structure::SegmentHeader,
        field,
        found,
        expected,
    }
}
