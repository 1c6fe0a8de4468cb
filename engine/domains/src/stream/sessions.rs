//! Append sessions: records staged aside, then appended at once or not at all.

use core::time::Duration;
use std::collections::BTreeMap;

use pinion_types::Monotonic;
use pinion_types::limits::{STAGED_BYTES_MAX, STAGED_RECORDS_MAX};

use super::error::SessionError;

/// How long a session may do nothing before it is aborted. Longer lets a lost
/// owner keep an exclusive session (and its staged bytes) for longer.
pub const SESSION_IDLE: Duration = Duration::from_secs(30);

/// A commit is cut into blocks of about this size, so that it fits delivery
/// frames and the ring's chunks. Smaller pays more block headers.
const COMMIT_BLOCK_BYTES: usize = 24 << 10;

/// Staged records, in the blocks they will become.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    bytes: Vec<u8>,
    /// `(records, bytes)` of each block to be.
    blocks: Vec<(u32, usize)>,
    pub(crate) records: u32,
}

impl Staged {
    /// The blocks to be, each `(records, encoded records)`.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut at = 0;
        self.blocks.iter().map(move |(count, len)| {
            let bytes = &self.bytes[at..at + len];
            at += len;
            (*count, bytes)
        })
    }

    fn push(&mut self, count: u32, records: &[u8]) {
        self.bytes.extend_from_slice(records);
        self.records += count;
        match self.blocks.last_mut() {
            Some((c, len)) if *len + records.len() <= COMMIT_BLOCK_BYTES => {
                *c += count;
                *len += records.len();
            }
            _ => self.blocks.push((count, records.len())),
        }
    }
}

#[derive(Debug)]
struct Session {
    owner: u64,
    exclusive: bool,
    staged: Staged,
    used_at: Monotonic,
}

/// The append sessions of one partition. Owned by the partition's core.
#[derive(Debug)]
pub(crate) struct Sessions {
    by_id: BTreeMap<u64, Session>,
    next_id: u64,
    max: u32,
    records_max: u64,
    bytes_max: u64,
}

impl Sessions {
    /// A commit may not need more than this of memory.
    pub(crate) fn new(max: u32, bytes_max: u64, records_max: u32) -> Self {
        Self {
            by_id: BTreeMap::new(),
            next_id: 1,
            max,
            records_max: u64::from(STAGED_RECORDS_MAX.min(records_max)),
            bytes_max: u64::from(STAGED_BYTES_MAX).min(bytes_max),
        }
    }

    pub(crate) fn begin(
        &mut self,
        now: Monotonic,
        owner: u64,
        exclusive: bool,
    ) -> Result<u64, SessionError> {
        if exclusive && self.by_id.values().any(|s| s.exclusive) {
            return Err(SessionError::Active);
        }
        if self.by_id.len() >= self.max as usize {
            return Err(SessionError::TooMany { limit: self.max });
        }
        let id = self.next_id;
        self.next_id += 1;
        self.by_id.insert(
            id,
            Session {
                owner,
                exclusive,
                staged: Staged::default(),
                used_at: now,
            },
        );
        Ok(id)
    }

    /// Adds checked records; gives what is staged now.
    pub(crate) fn stage(
        &mut self,
        now: Monotonic,
        owner: u64,
        id: u64,
        count: u32,
        records: &[u8],
    ) -> Result<(u32, u64), SessionError> {
        let (records_max, bytes_max) = (self.records_max, self.bytes_max);
        let session = self.owned(owner, id)?;
        let total = u64::from(session.staged.records) + u64::from(count);
        if total > records_max {
            return Err(SessionError::TooManyRecords {
                records: total,
                limit: records_max,
            });
        }
        let bytes = (session.staged.bytes.len() + records.len()) as u64;
        if bytes > bytes_max {
            return Err(SessionError::TooManyBytes {
                bytes,
                limit: bytes_max,
            });
        }
        session.used_at = now;
        session.staged.push(count, records);
        Ok((session.staged.records, bytes))
    }

    /// What a session has staged.
    pub(crate) fn staged(
        &mut self,
        now: Monotonic,
        owner: u64,
        id: u64,
    ) -> Result<&Staged, SessionError> {
        let session = self.owned(owner, id)?;
        session.used_at = now;
        Ok(&session.staged)
    }

    pub(crate) fn check(&mut self, owner: u64, id: u64) -> Result<(), SessionError> {
        self.owned(owner, id).map(|_| ())
    }

    pub(crate) fn remove(&mut self, owner: u64, id: u64) -> Result<(), SessionError> {
        self.owned(owner, id)?;
        self.by_id.remove(&id);
        Ok(())
    }

    pub(crate) fn abort_owner(&mut self, owner: u64) {
        self.by_id.retain(|_, session| session.owner != owner);
    }

    pub(crate) fn expire(&mut self, now: Monotonic) {
        self.by_id
            .retain(|_, session| session.used_at + SESSION_IDLE > now);
    }

    /// A scan of at most `sessions_max` entries.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.by_id.values().map(|s| s.used_at + SESSION_IDLE).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// A session of someone else is unknown, so that ids leak nothing.
    fn owned(&mut self, owner: u64, id: u64) -> Result<&mut Session, SessionError> {
        self.by_id
            .get_mut(&id)
            .filter(|session| session.owner == owner)
            .ok_or(SessionError::Unknown)
    }
}
