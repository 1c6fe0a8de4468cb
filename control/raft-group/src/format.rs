//! The bodies of the group's records and the states of its checkpoints, as
//! `docs/raft-format.md` says: numbers are little-endian, bytes that mean nothing
//! are zero, and whatever is not so is refused.
//!
//! Checksums, places and order are the commit log's matter. That these bytes are
//! what some release wrote is known here; what they say is still checked.

use pinion_types::{PartitionId, ResourceId};

use crate::limits::{COMMAND_BYTES_MAX, ENTRY_BYTES_MAX, LEARNERS_MAX, VOTERS_MAX};

/// Resource of everything that the group writes; 0 is the log's own.
pub const RESOURCE: ResourceId = ResourceId(1);

/// Kind of a record: one entry.
pub const KIND_ENTRY: u8 = 210;
/// Kind of a record: term, vote and commit.
pub const KIND_HARD: u8 = 211;

/// Partition and domain of the state that holds members and machine.
pub const STATE_SNAPSHOT: (PartitionId, u8) = (PartitionId(0), 210);
/// Partition and domain of the state that holds vote and entries.
pub const STATE_TAIL: (PartitionId, u8) = (PartitionId(1), 211);

/// The one version of every body and state here.
const VERSION: u8 = 1;
/// Type of an entry: a command, or the empty entry of a new leader.
const TYPE_NORMAL: u8 = 0;
/// Type of an entry: another membership.
const TYPE_MEMBERS: u8 = 1;

/// Indexes and terms above it are not believed: a million of them a second take longer
/// than 250,000 years to get there, and sums with them cannot overflow.
pub(crate) const NUMBER_MAX: u64 = u64::MAX >> 1;

const ENTRY_HEAD: usize = 32;
const HARD_LEN: usize = 48;
const CHANGE_LEN: usize = 16;
const SNAPSHOT_HEAD: usize = 56;
const TAIL_HEAD: usize = 56;

/// A member of a group. Never 0, and never used again when it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// Who proposed a command, and which one of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId {
    /// The member.
    pub member: MemberId,
    /// Chosen by the member; different for each of its proposals.
    pub number: u64,
}

/// One step from one membership to another. There is never more than one under way, so
/// that any two majorities share a member (Raft thesis §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member that only listens.
    AddLearner(MemberId),
    /// One that listens votes from now on.
    Promote(MemberId),
    /// A member is gone for good.
    Remove(MemberId),
}

impl MemberChange {
    /// Whom it concerns.
    #[must_use]
    pub const fn member(self) -> MemberId {
        match self {
            Self::AddLearner(member) | Self::Promote(member) | Self::Remove(member) => member,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn encode(self) -> [u8; CHANGE_LEN] {
        let mut bytes = [0; CHANGE_LEN];
        bytes[0] = match self {
            Self::AddLearner(_) => 1,
            Self::Promote(_) => 2,
            Self::Remove(_) => 3,
        };
        bytes[8..].copy_from_slice(&self.member().0.to_le_bytes());
        bytes
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let [kind] = reader.take()?;
        reader.zero::<7>()?;
        let member = MemberId(reader.number()?);
        reader.end(bytes)?;
        if member.0 == 0 {
            return Err(FormatError::Field { name: "member" });
        }
        match kind {
            1 => Ok(Self::AddLearner(member)),
            2 => Ok(Self::Promote(member)),
            3 => Ok(Self::Remove(member)),
            _ => Err(FormatError::Field { name: "change" }),
        }
    }
}

/// Why bytes are not what this release writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It ends before it should.
    #[error("{found} bytes where {needed} are needed")]
    Short {
        /// Bytes that it must have.
        needed: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// It does not end where it should.
    #[error("{found} bytes where {limit} is the most")]
    Long {
        /// Bytes that it may have.
        limit: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// Another release wrote it.
    #[error("version {found}; this release knows {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// A field says what it cannot say.
    #[error("the field `{name}` cannot be so")]
    Field {
        /// Which.
        name: &'static str,
    },
}

/// Body of an entry. Its index is the record's `first`, or its place in the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryBody<'a> {
    /// Term of the leader that took it.
    pub term: u64,
    /// Whose command it is; `None` for the empty entry of a new leader.
    pub proposal: Option<ProposalId>,
    /// Whether it changes who the members are.
    pub members: bool,
    /// The command, or an encoded [`MemberChange`]; empty without a proposal.
    pub data: &'a [u8],
}

impl<'a> EntryBody<'a> {
    /// The bytes before the command.
    #[must_use]
    pub fn head(&self) -> [u8; ENTRY_HEAD] {
        let (member, number) = self.proposal.map_or((0, 0), |id| (id.member.0, id.number));
        let mut head = [0; ENTRY_HEAD];
        head[0] = VERSION;
        head[1] = if self.members {
            TYPE_MEMBERS
        } else {
            TYPE_NORMAL
        };
        head[8..16].copy_from_slice(&self.term.to_le_bytes());
        head[16..24].copy_from_slice(&member.to_le_bytes());
        head[24..32].copy_from_slice(&number.to_le_bytes());
        head
    }

    /// Reads a body.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(body: &'a [u8]) -> Result<Self, FormatError> {
        if body.len() > ENTRY_BYTES_MAX {
            return Err(too_long(ENTRY_BYTES_MAX, body));
        }
        let mut reader = Reader::begin(body, ENTRY_HEAD)?;
        let members = match reader.take()? {
            [TYPE_NORMAL] => false,
            [TYPE_MEMBERS] => true,
            _ => return Err(FormatError::Field { name: "type" }),
        };
        reader.zero::<6>()?;
        let term = reader.number()?;
        if term == 0 || term > NUMBER_MAX {
            return Err(FormatError::Field { name: "term" });
        }
        let (member, number) = (reader.number()?, reader.number()?);
        let data = reader.rest;
        if data.len() > COMMAND_BYTES_MAX {
            return Err(too_long(COMMAND_BYTES_MAX, data));
        }
        let proposal = (member != 0).then_some(ProposalId {
            member: MemberId(member),
            number,
        });
        if proposal.is_none() && number != 0 {
            return Err(FormatError::Field { name: "number" });
        }
        if proposal.is_none() && !data.is_empty() {
            return Err(FormatError::Field { name: "command" });
        }
        if members {
            MemberChange::decode(data)?;
        }
        Ok(Self {
            term,
            proposal,
            members,
            data,
        })
    }
}

/// What a member has promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardBody {
    /// The newest term that it knows.
    pub term: u64,
    /// Whom it gave its vote in that term; 0 for nobody.
    pub vote: u64,
    /// Everything up to here is decided.
    pub commit: u64,
}

impl HardBody {
    /// The bytes. `after` is index and term of the entry before those that are written
    /// with it, or of the last entry when there are none: it says which history they
    /// continue.
    #[must_use]
    pub fn encode(&self, after: (u64, u64)) -> [u8; HARD_LEN] {
        let mut body = [0; HARD_LEN];
        body[0] = VERSION;
        body[8..32].copy_from_slice(&self.fields());
        body[32..40].copy_from_slice(&after.0.to_le_bytes());
        body[40..].copy_from_slice(&after.1.to_le_bytes());
        body
    }

    fn fields(&self) -> [u8; 24] {
        let mut fields = [0; 24];
        fields[..8].copy_from_slice(&self.term.to_le_bytes());
        fields[8..16].copy_from_slice(&self.vote.to_le_bytes());
        fields[16..].copy_from_slice(&self.commit.to_le_bytes());
        fields
    }

    /// Reads a body.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(body: &[u8]) -> Result<(Self, (u64, u64)), FormatError> {
        let mut reader = Reader::begin(body, HARD_LEN)?;
        reader.zero::<7>()?;
        let hard = Self::read(&mut reader)?;
        let after = (reader.number()?, reader.number()?);
        reader.end(body)?;
        if after.0 > NUMBER_MAX || after.1 > hard.term || (after.0 == 0) != (after.1 == 0) {
            return Err(FormatError::Field { name: "after" });
        }
        Ok((hard, after))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let hard = Self {
            term: reader.number()?,
            vote: reader.number()?,
            commit: reader.number()?,
        };
        if hard.term > NUMBER_MAX {
            return Err(FormatError::Field { name: "term" });
        }
        Ok(hard)
    }
}

/// Members and machine as of one entry: the first state of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotState<'a> {
    /// Which cluster.
    pub cluster: [u8; 16],
    /// Whose checkpoint it is.
    pub member: MemberId,
    /// The last entry in it; 0 in a member that waits for its first snapshot.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Who votes, ascending.
    pub voters: Vec<u64>,
    /// Who only listens, ascending.
    pub learners: Vec<u64>,
    /// The machine, as its owner encoded it.
    pub machine: &'a [u8],
}

impl<'a> SnapshotState<'a> {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let ids = self.voters.len() + self.learners.len();
        let mut out = Vec::with_capacity(SNAPSHOT_HEAD + 8 * ids + self.machine.len());
        out.extend([VERSION, 0, 0, 0, 0, 0, 0, 0]);
        out.extend(self.cluster);
        out.extend(self.member.0.to_le_bytes());
        out.extend(self.index.to_le_bytes());
        out.extend(self.term.to_le_bytes());
        out.extend(count(self.voters.len()));
        out.extend(count(self.learners.len()));
        for id in self.voters.iter().chain(&self.learners) {
            out.extend(id.to_le_bytes());
        }
        out.extend(self.machine);
        out
    }

    /// Reads a state.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(state: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::begin(state, SNAPSHOT_HEAD)?;
        reader.zero::<7>()?;
        let cluster = reader.take()?;
        let [member, index, term] = [reader.number()?, reader.number()?, reader.number()?];
        let [voters, learners] = [reader.count()?, reader.count()?];
        if member == 0 {
            return Err(FormatError::Field { name: "member" });
        }
        // One that waits for its first snapshot has neither entry nor members.
        if index > NUMBER_MAX || (index == 0) != (term == 0) {
            return Err(FormatError::Field { name: "index" });
        }
        let voters = reader.ids("voters", voters, VOTERS_MAX)?;
        let learners = reader.ids("learners", learners, LEARNERS_MAX)?;
        if voters.is_empty() != (index == 0) {
            return Err(FormatError::Field { name: "voters" });
        }
        if index == 0 && !(learners.is_empty() && reader.rest.is_empty()) {
            return Err(FormatError::Field { name: "machine" });
        }
        if learners.iter().any(|id| voters.contains(id)) {
            return Err(FormatError::Field { name: "learners" });
        }
        Ok(Self {
            cluster,
            member: MemberId(member),
            index,
            term,
            voters,
            learners,
            machine: reader.rest,
        })
    }
}

/// What a member has promised, and the entries it holds: the second state of a
/// checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailState<'a> {
    /// Index and term of the entry before the first.
    pub before: (u64, u64),
    /// Term, vote and commit.
    pub hard: HardBody,
    /// The entries, without gaps.
    pub entries: Vec<EntryBody<'a>>,
}

impl<'a> TailState<'a> {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let bodies: usize = self.entries.iter().map(|e| ENTRY_HEAD + e.data.len()).sum();
        let mut out = Vec::with_capacity(TAIL_HEAD + 4 * self.entries.len() + bodies);
        out.extend([VERSION, 0, 0, 0, 0, 0, 0, 0]);
        out.extend(self.before.0.to_le_bytes());
        out.extend(self.before.1.to_le_bytes());
        out.extend(self.hard.fields());
        out.extend(count(self.entries.len()));
        out.extend([0; 4]);
        for entry in &self.entries {
            out.extend(count(ENTRY_HEAD + entry.data.len()));
            out.extend(entry.head());
            out.extend(entry.data);
        }
        out
    }

    /// Reads a state.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(state: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::begin(state, TAIL_HEAD)?;
        reader.zero::<7>()?;
        let before = (reader.number()?, reader.number()?);
        let hard = HardBody::read(&mut reader)?;
        let entries = reader.count()?;
        reader.zero::<4>()?;
        // Each has at least its length and its head.
        let needed = entries.saturating_mul(4 + ENTRY_HEAD);
        if needed > reader.rest.len() {
            let found = reader.rest.len();
            return Err(FormatError::Short { needed, found });
        }
        if before.0 > NUMBER_MAX {
            return Err(FormatError::Field { name: "before" });
        }
        let mut tail = Self {
            before,
            hard,
            entries: Vec::with_capacity(entries),
        };
        let mut term = before.1;
        for _ in 0..entries {
            let len = reader.count()?;
            let entry = EntryBody::decode(reader.bytes(len)?)?;
            // Terms never fall along a log (Raft §5.3).
            if entry.term < term {
                return Err(FormatError::Field { name: "term" });
            }
            term = entry.term;
            tail.entries.push(entry);
        }
        reader.end(state)?;
        Ok(tail)
    }
}

pub(crate) fn count(count: usize) -> [u8; 4] {
    u32::try_from(count)
        .expect("what is counted here is bounded far below")
        .to_le_bytes()
}

fn too_long(limit: usize, bytes: &[u8]) -> FormatError {
    let found = bytes.len();
    FormatError::Long { limit, found }
}

/// Takes fields off the front.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Behind the version.
    fn begin(bytes: &'a [u8], needed: usize) -> Result<Self, FormatError> {
        let found = bytes.len();
        match bytes {
            [version, ..] if *version != VERSION => Err(FormatError::Version { found: *version }),
            [_, rest @ ..] if found >= needed => Ok(Self { rest }),
            _ => Err(FormatError::Short { needed, found }),
        }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let short = FormatError::Short {
            needed: len,
            found: self.rest.len(),
        };
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut taken = [0; N];
        taken.copy_from_slice(self.bytes(N)?);
        Ok(taken)
    }

    pub(crate) fn zero<const N: usize>(&mut self) -> Result<(), FormatError> {
        if self.take::<N>()? == [0; N] {
            return Ok(());
        }
        Err(FormatError::Field { name: "zero" })
    }

    pub(crate) fn number(&mut self) -> Result<u64, FormatError> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn count(&mut self) -> Result<usize, FormatError> {
        let count = u32::from_le_bytes(self.take()?);
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn ids(
        &mut self,
        name: &'static str,
        count: usize,
        limit: usize,
    ) -> Result<Vec<u64>, FormatError> {
        if count > limit {
            return Err(FormatError::Field { name });
        }
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            let id = self.number()?;
            // Ascending, so that a set has one encoding; 0 is nobody.
            if id <= ids.last().copied().unwrap_or(0) {
                return Err(FormatError::Field { name });
            }
            ids.push(id);
        }
        Ok(ids)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn end(&self, whole: &[u8]) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(too_long(whole.len() - self.rest.len(), whole))
    }
}
