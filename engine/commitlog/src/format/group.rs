//! A group: all records of one write, whole or not at all.
//!
//! [`check_group`] tells four states apart. Because segments are zero before
//! their one write and a sector is written whole or not at all, what a crash
//! leaves of a group is the group with some of its sectors zero. So the header
//! says how many of its sectors were zero when it was written: more of them are
//! zero → some were never written ([`Torn`](GroupVerdict::Torn)); not more → all
//! were written, and what is wrong changed afterwards
//! ([`Damaged`](GroupVerdict::Damaged)). A torn tail may be cut, damage never.

use pinion_types::{PartitionId, ResourceId};

use super::footer::{FooterFacts, decode_head};
use super::record::{RecordHeader, RecordView, check_body};
use super::segment::SegmentKey;
use super::{
    FormatError, GROUP_BYTES_MAX, RECORD_HEADER, SECTOR, Structure, is_blank, must_be_zero, put,
    round_up, salted_crc, saturated, short, u32_at, u64_at, weight_up_to_two,
};
use crate::{BLOCK, Lsn};

/// Bytes of a group's header.
pub const GROUP_HEADER: usize = 64;

/// The bytes behind the last record. They keep the last sector from being nearly
/// zero, where one flipped bit and a lost sector would look alike.
pub const GROUP_TAIL: [u8; 8] = *b"pingrend";

const MAGIC: [u8; 4] = *b"PGRP";
const WHAT: Structure = Structure::Group;
// `as` in a constant is checked by the assertion.
#[allow(clippy::cast_possible_truncation)]
const BLOCK_U32: u32 = BLOCK as u32;
const _: () = assert!(BLOCK_U32 as usize == BLOCK);
const LEAST: usize = GROUP_HEADER + RECORD_HEADER + GROUP_TAIL.len();

/// What the next group continues. Every group carries the checksum of the one
/// before, so that none can be missing or exchanged unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Sequence of the next group; dense from 1 within a log.
    pub sequence: u64,
    /// Number of its first record; dense from 1.
    pub lsn: Lsn,
    /// Header checksum of the group before; 0 for the first of a log.
    pub previous_crc: u32,
}

impl Chain {
    /// What the first group of a new log continues.
    pub const START: Self = Self {
        sequence: 1,
        lsn: Lsn(1),
        previous_crc: 0,
    };
}

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// Bytes of header, records and tail, without the padding to a block.
    pub bytes: u32,
    /// Records in it, at least 1.
    pub records: u32,
    /// How many of its sectors were zero when it was written.
    pub zero_sectors: u32,
    /// How many had one single bit set: these a flip can make zero.
    pub light_sectors: u32,
    /// Byte of the segment where it starts.
    pub offset: u32,
    /// What it continues: its own sequence, its first record, its predecessor.
    pub chain: Chain,
    /// CRC-32C of the checksums of its record headers, in order.
    pub records_crc: u32,
    /// Its own checksum, which the next group carries.
    pub crc: u32,
}

impl GroupHeader {
    /// Bytes that it takes in the segment.
    #[must_use]
    pub const fn extent(&self) -> u32 {
        self.bytes.next_multiple_of(BLOCK_U32)
    }

    /// Byte of the segment behind it, where the next group starts.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.offset + self.extent()
    }

    /// Number of its last record.
    #[must_use]
    pub const fn last_lsn(&self) -> Lsn {
        Lsn(self.chain.lsn.0 + self.records as u64 - 1)
    }

    /// What the group after it continues.
    #[must_use]
    pub const fn next(&self) -> Chain {
        Chain {
            sequence: self.chain.sequence + 1,
            lsn: Lsn(self.chain.lsn.0 + self.records as u64),
            previous_crc: self.crc,
        }
    }

    /// Whether it is the group that must come next.
    ///
    /// # Errors
    /// Which of sequence, record number and predecessor is another.
    pub fn follows(&self, expected: &Chain) -> Result<(), FormatError> {
        for (field, found, expected) in [
            ("sequence", self.chain.sequence, expected.sequence),
            ("first record", self.chain.lsn.0, expected.lsn.0),
            (
                "checksum of the previous group",
                self.chain.previous_crc.into(),
                expected.previous_crc.into(),
            ),
        ] {
            mismatch(field, found, expected)?;
        }
        Ok(())
    }

    /// Its bytes, and the checksum in them.
    pub(super) fn encode(&self, key: SegmentKey) -> ([u8; GROUP_HEADER], u32) {
        let mut bytes = [0; GROUP_HEADER];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 4, &self.bytes.to_le_bytes());
        put(&mut bytes, 8, &self.records.to_le_bytes());
        put(&mut bytes, 12, &self.zero_sectors.to_le_bytes());
        put(&mut bytes, 16, &self.light_sectors.to_le_bytes());
        put(&mut bytes, 20, &self.offset.to_le_bytes());
        put(&mut bytes, 24, &key.number.to_le_bytes());
        put(&mut bytes, 32, &self.chain.sequence.to_le_bytes());
        put(&mut bytes, 40, &self.chain.lsn.0.to_le_bytes());
        put(&mut bytes, 48, &self.chain.previous_crc.to_le_bytes());
        put(&mut bytes, 52, &self.records_crc.to_le_bytes());
        let crc = salted_crc(key.salt, &[&bytes[..60]]);
        put(&mut bytes, 60, &crc.to_le_bytes());
        (bytes, crc)
    }

    /// Reads the header of a group at byte `offset` of its segment. What is
    /// behind it is not looked at; recovery searches with this for groups behind
    /// damage, which is safe because a client's bytes never pass.
    ///
    /// # Errors
    /// Other bytes, a group of another place, unknown flags, impossible lengths.
    pub fn decode(bytes: &[u8], key: SegmentKey, offset: u32) -> Result<Self, FormatError> {
        let Some(bytes) = bytes.first_chunk::<GROUP_HEADER>() else {
            return Err(short(WHAT, GROUP_HEADER, bytes.len()));
        };
        if bytes[..4] != MAGIC {
            if bytes.iter().all(|byte| *byte == 0) {
                return Err(FormatError::Blank { what: WHAT });
            }
            return Err(FormatError::Magic {
                what: WHAT,
                found: u32_at(bytes, 0).into(),
            });
        }
        let (stored, computed) = (u32_at(bytes, 60), salted_crc(key.salt, &[&bytes[..60]]));
        if stored != computed {
            return Err(FormatError::Checksum {
                what: WHAT,
                stored,
                computed,
            });
        }
        let flags = u32_at(bytes, 56);
        if flags != 0 {
            return Err(FormatError::Flags { what: WHAT, flags });
        }
        mismatch("segment", u64_at(bytes, 24), key.number)?;
        mismatch("offset", u32_at(bytes, 20).into(), offset.into())?;
        let header = Self {
            bytes: u32_at(bytes, 4),
            records: u32_at(bytes, 8),
            zero_sectors: u32_at(bytes, 12),
            light_sectors: u32_at(bytes, 16),
            offset,
            chain: Chain {
                sequence: u64_at(bytes, 32),
                lsn: Lsn(u64_at(bytes, 40)),
                previous_crc: u32_at(bytes, 48),
            },
            records_crc: u32_at(bytes, 52),
            crc: stored,
        };
        header.check_limits()?;
        Ok(header)
    }

    fn check_limits(&self) -> Result<(), FormatError> {
        let len = self.bytes as usize;
        if len < LEAST {
            return Err(short(WHAT, LEAST, len));
        }
        let records_max = (len - GROUP_HEADER - GROUP_TAIL.len()) / RECORD_HEADER;
        let sectors = round_up(len, BLOCK) / SECTOR;
        for (field, value, limit) in [
            ("length", len as u64, GROUP_BYTES_MAX as u64),
            ("count of records", self.records.into(), records_max as u64),
            ("zero sectors", self.zero_sectors.into(), sectors as u64),
            ("light sectors", self.light_sectors.into(), sectors as u64),
            // So that neither can overflow when it is counted on.
            ("sequence", self.chain.sequence, u64::MAX / 2),
            ("first record", self.chain.lsn.0, u64::MAX / 2),
        ] {
            if value > limit {
                return Err(FormatError::Limit {
                    what: WHAT,
                    field,
                    value,
                    limit,
                });
            }
        }
        if self.records == 0 {
            return mismatch("count of records", 0, 1);
        }
        Ok(())
    }
}

/// What lies at a place where a group may start.
#[derive(Clone, Debug)]
pub enum GroupVerdict<'a> {
    /// Its first sector was never written: the log ends here, unless valid
    /// groups follow.
    Empty,
    /// A group, every byte of it verified.
    Whole(Group<'a>),
    /// A footer starts here: the segment was being sealed, no group follows.
    Footer(FooterFacts),
    /// Some sectors were never written: the write was not done when the machine
    /// stopped, so nothing of it was promised to anybody, and it may be cut,
    /// unless valid groups follow.
    Torn {
        /// Of what was being written.
        header: GroupHeader,
        /// Sectors that are zero and were not, at least 1.
        missing: u32,
    },
    /// Everything was written and is not what it was. Never to be cut.
    Damaged {
        /// What is harmed.
        damage: GroupDamage,
        /// The group, when the headers of all its records are sound: records
        /// that are not in [`GroupDamage::records`] are verified.
        group: Option<Group<'a>>,
    },
    /// The bytes end before the group does: call again with `extent` bytes. At
    /// the end of a file it is damage: groups never reach beyond.
    Incomplete {
        /// Bytes that it takes.
        extent: u32,
    },
}

/// What is harmed in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDamage {
    /// The group's header, when it is sound: the next group is looked for at its
    /// end, else at every block that follows.
    pub header: Option<GroupHeader>,
    /// Byte of the segment where the first harm was found.
    pub at: u32,
    /// What was found there.
    pub error: FormatError,
    /// Records with a harmed body; empty when only padding is harmed. `None` when
    /// headers are harmed too: whose records are lost is not known then.
    pub records: Option<Vec<DamagedRecord>>,
}

/// A record whose header is sound and whose body is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedRecord {
    /// Its number in the log.
    pub lsn: Lsn,
    /// Byte of its header in the segment.
    pub position: u32,
    /// Bytes of header, extension and body.
    pub len: u32,
    /// Whose record.
    pub resource: ResourceId,
    /// Which partition of it.
    pub partition: PartitionId,
}

/// A group in the bytes it was read from.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// Its header.
    pub header: GroupHeader,
    bytes: &'a [u8],
}

impl<'a> Group<'a> {
    /// `bytes` are those that [`check_group`] read `header` from and passed.
    pub(crate) const fn checked_before(header: GroupHeader, bytes: &'a [u8]) -> Self {
        Self { header, bytes }
    }

    /// Its records, in order. They were verified by [`check_group`] and are only
    /// taken apart here.
    #[must_use]
    pub const fn records(&self) -> Records<'a> {
        Records {
            bytes: self.bytes,
            offset: self.header.offset,
            at: GROUP_HEADER,
            left: self.header.records,
        }
    }
}

/// The records of a group.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    offset: u32,
    at: usize,
    left: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordView<'a>;

    fn next(&mut self) -> Option<RecordView<'a>> {
        self.left = self.left.checked_sub(1)?;
        let bytes = &self.bytes[self.at..];
        let header = RecordHeader::parse(bytes.first_chunk().expect("the group was checked"));
        let position = self.offset + saturated(self.at);
        self.at += header.stride();
        Some(RecordView::new(&header, position, bytes))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// Reads and verifies what lies at byte `offset` of a segment, where `bytes`
/// begin. The links to the group before are the caller's to compare
/// ([`GroupHeader::follows`]).
#[must_use]
pub fn check_group(key: SegmentKey, offset: u32, bytes: &[u8]) -> GroupVerdict<'_> {
    let Some(first) = bytes.first_chunk::<SECTOR>() else {
        return GroupVerdict::Incomplete {
            extent: saturated(BLOCK),
        };
    };
    // One set bit where a header of many would be: a flip in the zero background.
    if is_blank(first) {
        return GroupVerdict::Empty;
    }
    let header = match GroupHeader::decode(first, key, offset) {
        Ok(header) => header,
        Err(error) => {
            return match decode_head(key, offset, first) {
                Ok(facts) => GroupVerdict::Footer(facts),
                Err(_) => GroupVerdict::Damaged {
                    damage: GroupDamage {
                        header: None,
                        at: offset,
                        error,
                        records: None,
                    },
                    group: None,
                },
            };
        }
    };
    let Some(bytes) = bytes.get(..header.extent() as usize) else {
        return GroupVerdict::Incomplete {
            extent: header.extent(),
        };
    };
    let Some(harm) = Walk::through(key, &header, bytes) else {
        return GroupVerdict::Whole(Group { header, bytes });
    };

    let (zero, light) = count_sectors(bytes);
    let more_zero = zero.saturating_sub(header.zero_sectors);
    // A flipped bit makes a sector zero only when it was the sector's single one,
    // and then there is one light sector less. Such a sector may be lost or
    // flipped, nobody can tell: it is called damage, which loses nothing.
    let flipped = header.light_sectors.saturating_sub(light);
    if more_zero > flipped {
        return GroupVerdict::Torn {
            header,
            missing: more_zero,
        };
    }
    let group = harm.records.is_some().then_some(Group { header, bytes });
    GroupVerdict::Damaged {
        damage: GroupDamage {
            header: Some(header),
            at: offset + saturated(harm.at),
            error: harm.error,
            records: harm.records,
        },
        group,
    }
}

/// Sectors that are zero, and sectors with one bit set.
pub(super) fn count_sectors(bytes: &[u8]) -> (u32, u32) {
    let mut counts = (0, 0);
    for sector in bytes.as_chunks::<SECTOR>().0 {
        match weight_up_to_two(sector) {
            0 => counts.0 += 1,
            1 => counts.1 += 1,
            _ => {}
        }
    }
    counts
}

/// What is wrong behind a sound group header.
struct Harm {
    at: usize,
    error: FormatError,
    records: Option<Vec<DamagedRecord>>,
}

/// One pass over a group that collects what is wrong with it.
struct Walk {
    first: Option<(usize, FormatError)>,
    bodies: Vec<DamagedRecord>,
}

impl Walk {
    fn through(key: SegmentKey, header: &GroupHeader, bytes: &[u8]) -> Option<Harm> {
        let mut walk = Self {
            first: None,
            // Allocates with the first harm only.
            bodies: Vec::new(),
        };
        let headers_are_sound = walk.records(key, header, bytes);
        let Self { first, bodies } = walk;
        first.map(|(at, error)| Harm {
            at,
            error,
            records: headers_are_sound.then_some(bodies),
        })
    }

    fn note(&mut self, at: usize, error: FormatError) {
        self.first.get_or_insert((at, error));
    }

    /// Whether every header is sound, and with them the places of all records.
    fn records(&mut self, key: SegmentKey, header: &GroupHeader, bytes: &[u8]) -> bool {
        let end = header.bytes as usize - GROUP_TAIL.len();
        let mut at = GROUP_HEADER;
        let mut crcs = 0;
        for lsn in header.chain.lsn.0..=header.last_lsn().0 {
            match self.record(key, header, &bytes[..end], at, lsn) {
                Ok(stride) => {
                    crcs = crc32c::crc32c_append(crcs, &bytes[at + 60..at + 64]);
                    at += stride;
                }
                Err(error) => {
                    self.note(at, error);
                    return false;
                }
            }
        }
        for result in [
            mismatch("end of the records", at as u64, end as u64),
            if crcs == header.records_crc {
                Ok(())
            } else {
                Err(FormatError::Checksum {
                    what: WHAT,
                    stored: header.records_crc,
                    computed: crcs,
                })
            },
        ] {
            // With these wrong, sound headers are not the ones that were written.
            if let Err(error) = result {
                self.note(at, error);
                return false;
            }
        }
        if bytes[end..header.bytes as usize] != GROUP_TAIL {
            self.note(
                end,
                FormatError::Magic {
                    what: WHAT,
                    found: u64_at(bytes, end),
                },
            );
        }
        if let Err(error) = must_be_zero(WHAT, bytes, header.bytes as usize) {
            self.note(header.bytes as usize, error);
        }
        true
    }

    /// Checks the record at `at`; gives the bytes to the next one.
    fn record(
        &mut self,
        key: SegmentKey,
        group: &GroupHeader,
        bytes: &[u8],
        at: usize,
        lsn: u64,
    ) -> Result<usize, FormatError> {
        let position = group.offset + saturated(at);
        let bytes = bytes.get(at..).unwrap_or_default();
        let header = RecordHeader::decode(bytes, key, position)?;
        mismatch("record number", header.lsn.0, lsn)?;
        let stride = header.stride();
        if bytes.len() < stride {
            return Err(short(Structure::Body, stride, bytes.len()));
        }
        let len = header.len as usize;
        if let Err(error) = check_body(&header, bytes) {
            self.note(at + RECORD_HEADER, error);
            self.bodies.push(DamagedRecord {
                lsn: header.lsn,
                position,
                len: header.len,
                resource: header.head.resource,
                partition: header.head.partition,
            });
        }
        if let Err(error) = must_be_zero(Structure::Record, &bytes[..stride], len) {
            self.note(at + len, error);
        }
        Ok(stride)
    }
}

fn mismatch(field: &'static str, found: u64, expected: u64) -> Result<(), FormatError> {
    if found == expected {
        return Ok(());
    }
    Err(FormatError::Mismatch {
        what: WHAT,
        field,
        found,
        expected,
    })
}
