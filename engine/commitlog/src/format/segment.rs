//! The first block of a segment: whose it is, where it continues, and its salt.

use pinion_types::WallMs;

use super::group::Chain;
use super::{
    FormatError, SECTOR, SEGMENT_BYTES_MAX, Structure, open_block, put, seal_sector, u16_at,
    u32_at, u64_at,
};
use crate::{BLOCK, LogId, Lsn};

const MAGIC: [u8; 8] = *b"PINIONSG";
const USED: usize = 86;
const WHAT: Structure = Structure::SegmentHeader;

/// What every checksum in a segment is seeded with, so that a block that belongs
/// elsewhere, or that a client made up, never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentKey {
    /// Number of the segment.
    pub number: u64,
    /// Random, of this segment alone.
    pub salt: u64,
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store it belongs to; a file of another one is refused by the reader.
    pub store: [u8; 16],
    /// The log it belongs to.
    pub log: LogId,
    /// Counted from 1 in the log, never reused.
    pub number: u64,
    /// Random, of this segment alone.
    pub salt: u64,
    /// What its first group continues: sequence, record number, checksum of the
    /// last group of the segment before.
    pub chain: Chain,
    /// Its length when it was made, in bytes; a multiple of [`BLOCK`].
    pub segment_bytes: u64,
    /// When it was made, for people only.
    pub created: WallMs,
}

impl SegmentHeader {
    /// What the checksums in this segment are seeded with.
    #[must_use]
    pub const fn key(&self) -> SegmentKey {
        SegmentKey {
            number: self.number,
            salt: self.salt,
        }
    }

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
        put(sector, 48, &self.chain.lsn.0.to_le_bytes());
        put(sector, 56, &self.chain.sequence.to_le_bytes());
        put(sector, 64, &self.segment_bytes.to_le_bytes());
        put(sector, 72, &self.created.0.to_le_bytes());
        put(sector, 80, &self.chain.previous_crc.to_le_bytes());
        put(sector, 84, &self.log.0.to_le_bytes());
        seal_sector(sector, MAGIC, None);
        block
    }

    /// Reads the first block of a segment.
    ///
    /// # Errors
    /// [`FormatError::Blank`] when the block was never written: the segment was
    /// made and not yet used. Anything else is damage, a foreign file or another
    /// version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let sector = open_block(bytes, WHAT, MAGIC, None, USED)?;
        let header = Self {
            store: *sector[16..].first_chunk().expect("16 bytes"),
            salt: u64_at(sector, 32),
            number: u64_at(sector, 40),
            chain: Chain {
                lsn: Lsn(u64_at(sector, 48)),
                sequence: u64_at(sector, 56),
                previous_crc: u32_at(sector, 80),
            },
            segment_bytes: u64_at(sector, 64),
            created: WallMs(u64_at(sector, 72)),
            log: LogId(u16_at(sector, 84)),
        };
        if header.segment_bytes > SEGMENT_BYTES_MAX {
            return Err(FormatError::Limit {
                what: WHAT,
                field: "segment_bytes",
                value: header.segment_bytes,
                limit: SEGMENT_BYTES_MAX,
            });
        }
        for (field, found) in [
            ("number", header.number),
            ("first record", header.chain.lsn.0),
            ("first group", header.chain.sequence),
        ] {
            if found == 0 {
                return Err(FormatError::Mismatch {
                    what: WHAT,
                    field,
                    found,
                    expected: 1,
                });
            }
        }
        Ok(header)
    }
}
