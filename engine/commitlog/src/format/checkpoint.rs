//! A checkpoint: the state of every partition at some record, so that replay
//! starts there.
//!
//! Header block, states, directory (an rkyv archive, checked before it is used),
//! trailer block. It counts only with its trailer, which is written last.

use core::ops::Range;

use pinion_types::{PartitionId, ResourceId, WallMs};
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::{
    CHECKPOINT_ENTRIES_MAX, CHECKPOINT_SEGMENTS_MAX, CHECKPOINT_STATE_MAX, FormatError, SECTOR,
    Structure, open_block, put, round_up, salted_crc, seal_sector, u16_at, u32_at, u64_at,
};
use crate::{BLOCK, BlockBuf, LogId, Lsn};

/// States start at multiples of this, as archives in them want it.
pub const STATE_ALIGN: usize = 16;

const HEADER_MAGIC: [u8; 8] = *b"PINIONCK";
const HEADER_USED: usize = 58;
const TRAILER_MAGIC: [u8; 8] = *b"PINIONCT";
const TRAILER_USED: usize = 64;

/// What a checkpoint says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointHeader {
    /// The store it belongs to; a file of another one is refused by the reader.
    pub store: [u8; 16],
    /// The log it belongs to.
    pub log: LogId,
    /// Counted from 1 in the log, never reused.
    pub number: u64,
    /// Random, of this checkpoint alone.
    pub salt: u64,
    /// When it was begun, for people only.
    pub created: WallMs,
}

impl CheckpointHeader {
    /// The block.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let sector = block
            .first_chunk_mut::<SECTOR>()
            .expect("a block has sectors");
        put(sector, 16, &self.store);
        put(sector, 32, &self.salt.to_le_bytes());
        put(sector, 40, &self.number.to_le_bytes());
        put(sector, 48, &self.created.0.to_le_bytes());
        put(sector, 56, &self.log.0.to_le_bytes());
        seal_sector(sector, HEADER_MAGIC, None);
        block
    }

    /// Reads the first block of a checkpoint.
    ///
    /// # Errors
    /// Never written, damage, a foreign file, another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let what = Structure::CheckpointHeader;
        let sector = open_block(bytes, what, HEADER_MAGIC, None, HEADER_USED)?;
        Ok(Self {
            store: *sector[16..].first_chunk().expect("16 bytes"),
            salt: u64_at(sector, 32),
            number: u64_at(sector, 40),
            created: WallMs(u64_at(sector, 48)),
            log: LogId(u16_at(sector, 56)),
        })
    }
}

/// The last block of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointTrailer {
    /// The first record that replay needs; each partition's own state says from
    /// where on it does.
    pub replay_from: Lsn,
    /// Byte of the file where the directory starts.
    pub directory_at: u64,
    /// Its bytes.
    pub directory_len: u32,
    /// CRC-32C of it.
    pub directory_crc: u32,
    /// States in it.
    pub entries: u32,
    /// Segments in it.
    pub segments: u32,
}

impl CheckpointTrailer {
    /// Bytes of the file that hold the directory.
    #[must_use]
    pub const fn directory(&self) -> Range<u64> {
        self.directory_at..self.directory_at + self.directory_len as u64
    }

    /// Length of the file.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.directory().end.next_multiple_of(BLOCK as u64) + BLOCK as u64
    }

    fn encode(&self, header: &CheckpointHeader) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let sector = block
            .first_chunk_mut::<SECTOR>()
            .expect("a block has sectors");
        put(sector, 16, &header.number.to_le_bytes());
        put(sector, 24, &self.replay_from.0.to_le_bytes());
        put(sector, 32, &self.directory_at.to_le_bytes());
        put(sector, 40, &self.directory_len.to_le_bytes());
        put(sector, 44, &self.directory_crc.to_le_bytes());
        put(sector, 48, &self.entries.to_le_bytes());
        put(sector, 52, &self.segments.to_le_bytes());
        put(sector, 56, &self.end().to_le_bytes());
        seal_sector(sector, TRAILER_MAGIC, Some(header.salt));
        block
    }

    /// Reads the last block of the checkpoint of `header`, whose file has
    /// `file_len` bytes.
    ///
    /// # Errors
    /// Anything else than its trailer: the checkpoint is not done, or damaged.
    pub fn decode(
        header: &CheckpointHeader,
        file_len: u64,
        bytes: &[u8],
    ) -> Result<Self, FormatError> {
        let what = Structure::CheckpointTrailer;
        let sector = open_block(bytes, what, TRAILER_MAGIC, Some(header.salt), TRAILER_USED)?;
        let trailer = Self {
            replay_from: Lsn(u64_at(sector, 24)),
            directory_at: u64_at(sector, 32),
            directory_len: u32_at(sector, 40),
            directory_crc: u32_at(sector, 44),
            entries: u32_at(sector, 48),
            segments: u32_at(sector, 52),
        };
        // Before anything is added to it.
        if trailer.directory_at > file_len || trailer.directory_at < BLOCK as u64 {
            return Err(FormatError::Limit {
                what,
                field: "place of the directory",
                value: trailer.directory_at,
                limit: file_len,
            });
        }
        for (field, found, expected) in [
            ("number", u64_at(sector, 16), header.number),
            ("length", u64_at(sector, 56), trailer.end()),
            ("end of the file", file_len, trailer.end()),
        ] {
            if found != expected {
                return Err(FormatError::Mismatch {
                    what,
                    field,
                    found,
                    expected,
                });
            }
        }
        Ok(trailer)
    }
}

/// Where the state of one partition lies in a checkpoint, and what it covers.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateEntry {
    /// Whose state.
    pub resource: u64,
    /// The last record in it; 0 for none.
    pub as_of: u64,
    /// Byte of the file where it starts.
    pub at: u64,
    /// Its bytes.
    pub len: u32,
    /// CRC-32C of the salt, `at` and the state.
    pub crc: u32,
    /// Which partition of the resource.
    pub partition: u16,
    /// Which kind of domain wrote it.
    pub domain: u8,
}

impl StateEntry {
    /// Whose state.
    #[must_use]
    pub const fn name(&self) -> (ResourceId, PartitionId) {
        (ResourceId(self.resource), PartitionId(self.partition))
    }

    /// Whether `state` is what was written.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, header: &CheckpointHeader, state: &[u8]) -> Result<(), FormatError> {
        let what = Structure::CheckpointState;
        if state.len() != self.len as usize {
            return Err(super::short(what, self.len as usize, state.len()));
        }
        let computed = state_crc(header.salt, self.at, state);
        if computed == self.crc {
            return Ok(());
        }
        Err(FormatError::Checksum {
            what,
            stored: self.crc,
            computed,
        })
    }
}

fn state_crc(salt: u64, at: u64, state: &[u8]) -> u32 {
    salted_crc(salt, &[&at.to_le_bytes(), state])
}

/// A segment that existed when the checkpoint was made: one that is missing
/// since, with no record of its removal, was lost.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    /// Its number.
    pub number: u64,
    /// Its salt, so that another file under its name is noticed.
    pub salt: u64,
    /// Its first record.
    pub first_lsn: u64,
}

/// What a checkpoint holds.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Every state, in the order of adding.
    pub entries: Vec<StateEntry>,
    /// Every segment, in order.
    pub segments: Vec<SegmentRef>,
}

impl Directory {
    /// Reads the directory: `bytes` are [`CheckpointTrailer::directory`] of the
    /// file. What it allocates is bounded by their length.
    ///
    /// # Errors
    /// Other bytes, or an archive that contradicts itself or the trailer.
    pub fn decode(trailer: &CheckpointTrailer, bytes: &[u8]) -> Result<Self, FormatError> {
        let what = Structure::CheckpointDirectory;
        if bytes.len() != trailer.directory_len as usize {
            return Err(super::short(
                what,
                trailer.directory_len as usize,
                bytes.len(),
            ));
        }
        let computed = crc32c::crc32c(bytes);
        if computed != trailer.directory_crc {
            return Err(FormatError::Checksum {
                what,
                stored: trailer.directory_crc,
                computed,
            });
        }
        // An archive is read in place and must be aligned for that; the bytes of
        // a file buffer need not be.
        let mut aligned = AlignedVec::<STATE_ALIGN>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        let archive = |_: Error| FormatError::Archive { what };
        let archived = rkyv::access::<ArchivedDirectory, Error>(&aligned).map_err(archive)?;
        let directory = rkyv::deserialize::<Self, Error>(archived).map_err(archive)?;
        directory.check(trailer)?;
        Ok(directory)
    }

    fn check(&self, trailer: &CheckpointTrailer) -> Result<(), FormatError> {
        let what = Structure::CheckpointDirectory;
        for (field, found, expected) in [
            ("states", self.entries.len(), trailer.entries),
            ("segments", self.segments.len(), trailer.segments),
        ] {
            if found as u64 != u64::from(expected) {
                return Err(FormatError::Mismatch {
                    what,
                    field,
                    found: found as u64,
                    expected: expected.into(),
                });
            }
        }
        let mut at = BLOCK as u64;
        for entry in &self.entries {
            let end = entry.at.saturating_add(entry.len.into());
            if entry.at < at || end > trailer.directory_at {
                return Err(FormatError::Limit {
                    what,
                    field: "end of a state",
                    value: end,
                    limit: trailer.directory_at,
                });
            }
            at = end;
        }
        Ok(())
    }
}

/// Builds a checkpoint piece by piece: what [`poll_write`] and [`finish`] give
/// is written in that order. The file starts empty and grows.
///
/// [`poll_write`]: CheckpointWriter::poll_write
/// [`finish`]: CheckpointWriter::finish
#[derive(Debug)]
pub struct CheckpointWriter {
    header: CheckpointHeader,
    /// What was not handed out yet.
    pending: Vec<u8>,
    /// Byte of the file where it belongs; a multiple of a block.
    at: u64,
    entries: Vec<StateEntry>,
}

impl CheckpointWriter {
    /// A checkpoint without states.
    #[must_use]
    pub fn new(header: CheckpointHeader) -> Self {
        Self {
            header,
            pending: header.encode().to_vec(),
            at: 0,
            entries: Vec::new(),
        }
    }

    /// Bytes that wait to be handed out.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Appends the state of a partition.
    ///
    /// # Errors
    /// [`FormatError::Limit`]; the checkpoint is as before.
    pub fn add(
        &mut self,
        (resource, partition): (ResourceId, PartitionId),
        domain: u8,
        as_of: Lsn,
        state: &[u8],
    ) -> Result<(), FormatError> {
        for (field, value, limit) in [
            ("length of a state", state.len(), CHECKPOINT_STATE_MAX),
            ("states", self.entries.len() + 1, CHECKPOINT_ENTRIES_MAX),
        ] {
            if value > limit {
                return Err(FormatError::Limit {
                    what: Structure::CheckpointDirectory,
                    field,
                    value: value as u64,
                    limit: limit as u64,
                });
            }
        }
        self.pad(STATE_ALIGN);
        let at = self.at + self.pending.len() as u64;
        self.entries.push(StateEntry {
            resource: resource.0,
            as_of: as_of.0,
            at,
            len: super::saturated(state.len()),
            crc: state_crc(self.header.salt, at, state),
            partition: partition.0,
            domain,
        });
        self.pending.extend_from_slice(state);
        Ok(())
    }

    /// The next piece of the file and where it belongs, once at least `least`
    /// bytes are there.
    pub fn poll_write(&mut self, least: usize) -> Option<(u64, BlockBuf)> {
        let len = self.pending.len() / BLOCK * BLOCK;
        if len == 0 || len < least {
            return None;
        }
        let mut piece = BlockBuf::zeroed(len);
        piece.as_mut_slice().copy_from_slice(&self.pending[..len]);
        self.pending.drain(..len);
        let at = self.at;
        self.at += len as u64;
        Some((at, piece))
    }

    /// The rest of the file but the trailer, and the trailer, each with its
    /// place. The trailer is written when all else is durable.
    ///
    /// # Errors
    /// [`FormatError::Limit`] with too many segments.
    pub fn finish(
        mut self,
        replay_from: Lsn,
        segments: &[SegmentRef],
    ) -> Result<[(u64, BlockBuf); 2], FormatError> {
        let what = Structure::CheckpointDirectory;
        if segments.len() > CHECKPOINT_SEGMENTS_MAX {
            return Err(FormatError::Limit {
                what,
                field: "segments",
                value: segments.len() as u64,
                limit: CHECKPOINT_SEGMENTS_MAX as u64,
            });
        }
        let directory = Directory {
            entries: core::mem::take(&mut self.entries),
            segments: segments.to_vec(),
        };
        let archive =
            rkyv::to_bytes::<Error>(&directory).map_err(|_| FormatError::Archive { what })?;
        self.pad(STATE_ALIGN);
        let trailer = CheckpointTrailer {
            replay_from,
            directory_at: self.at + self.pending.len() as u64,
            directory_len: super::saturated(archive.len()),
            directory_crc: crc32c::crc32c(&archive),
            entries: super::saturated(directory.entries.len()),
            segments: super::saturated(directory.segments.len()),
        };
        self.pending.extend_from_slice(&archive);
        self.pad(BLOCK);
        let rest = self.poll_write(0).expect("a directory has bytes");
        let mut block = BlockBuf::zeroed(BLOCK);
        block
            .as_mut_slice()
            .copy_from_slice(&trailer.encode(&self.header));
        Ok([rest, (self.at, block)])
    }

    fn pad(&mut self, unit: usize) {
        self.pending.resize(round_up(self.pending.len(), unit), 0);
    }
}
