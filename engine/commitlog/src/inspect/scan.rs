//! Going from group to group through a segment, past what is harmed.

use super::{Fault, Finding};
use crate::disk::{BLOCK, DiskError, FileId, Files};
use crate::format::{
    Chain, DamagedRecord, FooterFacts, FormatError, GROUP_HEADER, Group, GroupHeader, GroupVerdict,
    SegmentHeader, SegmentKey, Structure, check_group,
};

/// Bytes read at once; a longer group is read in one piece.
const READ_BYTES: usize = 1 << 20;

/// A part of a file in memory.
#[derive(Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    /// Byte of the file where it starts.
    at: u64,
}

/// Reads one file, ahead of what is asked for.
pub(super) struct Reader<'f> {
    files: &'f mut dyn Files,
    file: FileId,
    len: u64,
    window: Window,
}

impl<'f> Reader<'f> {
    pub(super) fn new(files: &'f mut dyn Files, file: FileId, len: u64) -> Self {
        Self {
            files,
            file,
            len,
            window: Window::default(),
        }
    }

    /// The bytes from `offset` on, fewer than `len` only at the end of the file.
    /// The callers ask for at most a group or a footer.
    pub(super) fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8], DiskError> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(left);
        let window = &mut self.window;
        let held = window.at + window.bytes.len() as u64;
        if offset < window.at || offset + len as u64 > held {
            window.at = offset;
            window.bytes.resize(len.max(READ_BYTES).min(left), 0);
            let mut read = 0;
            while read < window.bytes.len() {
                let into = &mut window.bytes[read..];
                match self.files.read(self.file, offset + read as u64, into)? {
                    0 => break,
                    more => read += more,
                }
            }
            window.bytes.truncate(read);
        }
        let from = usize::try_from(offset - self.window.at).expect("it is in the window");
        let to = (from + len).min(self.window.bytes.len());
        Ok(&self.window.bytes[from..to])
    }
}

/// One step of a scan.
pub(super) struct Step<'a> {
    /// What is wrong here.
    pub(super) finding: Option<Finding>,
    /// A group whose record headers hold.
    pub(super) group: Option<Group<'a>>,
    /// Its records whose bodies do not.
    pub(super) harmed: Vec<DamagedRecord>,
}

/// Where a scan is; a scan can rest between its steps.
#[derive(Clone, Copy)]
pub(super) struct State {
    key: SegmentKey,
    at: u64,
    /// What comes next; unknown behind a harmed header.
    chain: Option<Chain>,
    /// Where the groups end, with a footer.
    footer: Option<FooterFacts>,
    done: bool,
}

/// The groups of a segment, in order.
pub(super) struct Scan<'f> {
    reader: Reader<'f>,
    state: State,
}

impl<'f> Scan<'f> {
    pub(super) fn new(
        reader: Reader<'f>,
        header: &SegmentHeader,
        footer: Option<FooterFacts>,
    ) -> Self {
        let state = State {
            key: header.key(),
            at: BLOCK as u64,
            chain: Some(header.chain),
            footer,
            done: false,
        };
        Self { reader, state }
    }

    pub(super) fn park(self) -> (State, Window) {
        (self.state, self.reader.window)
    }

    pub(super) fn resume(
        files: &'f mut dyn Files,
        file: FileId,
        len: u64,
        state: State,
        window: Window,
    ) -> Self {
        let reader = Reader {
            files,
            file,
            len,
            window,
        };
        Self { reader, state }
    }

    /// Byte behind the last group that was found.
    pub(super) fn end(&self) -> u64 {
        self.state.at
    }

    /// What the next segment must continue, when it is known.
    pub(super) fn chain(&self) -> Option<Chain> {
        self.state.chain
    }

    /// Where groups can be.
    fn limit(&self) -> u64 {
        match &self.state.footer {
            Some(facts) => facts.offset.into(),
            None => self.reader.len,
        }
    }

    /// The next group, or what is wrong; `None` at the end. The end of a log is
    /// where no valid group follows.
    pub(super) fn step(&mut self) -> Result<Option<Step<'_>>, DiskError> {
        if self.state.done {
            return Ok(None);
        }
        let offset = self.state.at;
        if offset >= self.limit() {
            return Ok(self.at_the_end());
        }
        let key = self.state.key;
        let Ok(place) = u32::try_from(offset) else {
            // Beyond the longest segment there is nothing to be read.
            self.state.done = true;
            return Ok(None);
        };
        let first = self.reader.bytes(offset, GROUP_HEADER)?;
        let need = match GroupHeader::decode(first, key, place) {
            Ok(header) => header.extent() as usize,
            Err(_) => BLOCK,
        };
        let verdict = check_group(key, place, self.reader.bytes(offset, need)?);
        let (finding, header, harmed) = match verdict {
            GroupVerdict::Whole(group) => {
                let header = group.header;
                (self.passed(&header), Some(header), Vec::new())
            }
            GroupVerdict::Damaged { damage, group } => {
                let group = group.map(|group| group.header);
                let finding = self.damaged(&damage.error, damage.at.into(), damage.header);
                self.behind(damage.header)?;
                let harmed = damage.records.clone().unwrap_or_default();
                let partitions = damage.records.map(|records| {
                    let mut names: Vec<_> = records
                        .iter()
                        .map(|record| (record.resource, record.partition))
                        .collect();
                    names.sort_unstable();
                    names.dedup();
                    names
                });
                let finding = Finding {
                    partitions,
                    ..finding
                };
                (Some(finding), group, harmed)
            }
            GroupVerdict::Footer(_) => {
                self.state.done = true;
                return Ok(None);
            }
            GroupVerdict::Empty => {
                let finding = self.gap(Fault::Unused)?;
                return Ok(finding.map(Step::only));
            }
            GroupVerdict::Torn { missing, .. } => {
                let finding = self.gap(Fault::Torn { missing })?;
                return Ok(finding.map(Step::only));
            }
            GroupVerdict::Incomplete { extent } => {
                self.state.done = true;
                self.state.chain = None;
                let error = FormatError::Short {
                    what: Structure::Group,
                    needed: extent.into(),
                    found: self.reader.len - offset,
                };
                return Ok(Some(Step::only(self.damaged(&error, offset, None))));
            }
        };
        let group = match header {
            Some(header) => {
                let bytes = self.reader.bytes(offset, header.extent() as usize)?;
                Some(Group::checked_before(header, bytes))
            }
            None => None,
        };
        Ok(Some(Step {
            finding,
            group,
            harmed,
        }))
    }

    /// A whole group: is it the one that must come?
    fn passed(&mut self, header: &GroupHeader) -> Option<Finding> {
        let broken = self
            .state
            .chain
            .and_then(|chain| header.follows(&chain).err());
        self.state.chain = Some(header.next());
        self.state.at = header.end().into();
        broken.map(|error| Finding {
            file: self.reader.file,
            offset: header.offset.into(),
            len: header.extent().into(),
            fault: Fault::Chain(error),
            partitions: None,
        })
    }

    /// Goes on behind a harmed group.
    fn behind(&mut self, header: Option<GroupHeader>) -> Result<(), DiskError> {
        self.state.chain = header.map(|header| header.next());
        match header {
            Some(header) => self.state.at = header.end().into(),
            None => match self.find_group(self.state.at + BLOCK as u64)? {
                Some(next) => self.state.at = next,
                None => self.state.done = true,
            },
        }
        Ok(())
    }

    /// No group here, or a torn one: the end, unless one follows.
    fn gap(&mut self, fault: Fault) -> Result<Option<Finding>, DiskError> {
        let offset = self.state.at;
        let next = self.find_group(offset + BLOCK as u64)?;
        let (len, fault) = match (next, self.state.footer) {
            (Some(next), _) => (next - offset, Fault::Missing { next }),
            (None, Some(facts)) => {
                let missing = u64::from(facts.offset) - offset;
                (missing, Fault::Shortened { missing })
            }
            (None, None) => {
                self.state.done = true;
                let torn = matches!(fault, Fault::Torn { .. });
                return Ok(torn.then(|| Finding {
                    file: self.reader.file,
                    offset,
                    len: 0,
                    fault,
                    partitions: Some(Vec::new()),
                }));
            }
        };
        self.state.chain = None;
        match next {
            Some(next) => self.state.at = next,
            None => self.state.done = true,
        }
        Ok(Some(Finding {
            file: self.reader.file,
            offset,
            len,
            fault,
            partitions: None,
        }))
    }

    /// The first valid header of a group at a block from `from` on.
    fn find_group(&mut self, from: u64) -> Result<Option<u64>, DiskError> {
        let (mut at, limit) = (from, self.limit());
        while at < limit {
            let Ok(place) = u32::try_from(at) else {
                break;
            };
            let key = self.state.key;
            let bytes = self.reader.bytes(at, GROUP_HEADER)?;
            if GroupHeader::decode(bytes, key, place).is_ok() {
                return Ok(Some(at));
            }
            at += BLOCK as u64;
        }
        Ok(None)
    }

    /// All groups were read: do they end in what the footer says?
    fn at_the_end(&mut self) -> Option<Step<'static>> {
        self.state.done = true;
        let (facts, chain) = (self.state.footer?, self.state.chain?);
        (facts.next != chain).then(|| {
            let error = FormatError::Mismatch {
                what: Structure::FooterTrailer,
                field: "next group",
                found: facts.next.sequence,
                expected: chain.sequence,
            };
            Step::only(Finding {
                file: self.reader.file,
                offset: facts.offset.into(),
                len: facts.bytes(),
                fault: Fault::Footer(error),
                partitions: Some(Vec::new()),
            })
        })
    }

    fn damaged(&self, error: &FormatError, at: u64, header: Option<GroupHeader>) -> Finding {
        Finding {
            file: self.reader.file,
            offset: at,
            len: header.map_or(0, |header| u64::from(header.end()) - at),
            fault: Fault::Damaged(*error),
            partitions: None,
        }
    }
}

impl Step<'static> {
    fn only(finding: Finding) -> Self {
        Self {
            finding: Some(finding),
            group: None,
            harmed: Vec::new(),
        }
    }
}
