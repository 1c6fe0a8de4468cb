//! Going from record to record through a segment's bytes as they arrive in
//! pieces. Headers and bodies are verified with the segment's salt and their
//! place; what does not pass is never given out.

use crate::disk::UNIT;
use crate::format::{
    FormatError, GROUP_HEADER, GROUP_TAIL, GroupHeader, RecordHeader, RecordView, SegmentKey,
    Structure, decode_record,
};

#[allow(clippy::cast_possible_truncation)] // 64 and 8 fit.
const HEADER: u32 = GROUP_HEADER as u32;
#[allow(clippy::cast_possible_truncation)]
const TAIL: u32 = GROUP_TAIL.len() as u32;

/// Where a walk is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    pub(crate) key: SegmentKey,
    /// Byte of the next record or group.
    pub(crate) at: u32,
    /// Records of the group not visited yet.
    left: u32,
    /// Byte behind the group, padding included.
    group_end: u32,
}

/// What the next step met.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A verified record.
    Record(RecordView<'a>),
    /// A record at this byte whose body is damaged, and whose it is.
    DamagedBody(u32, RecordHeader),
    /// The bytes end: read on from [`Walk::at`], at least so many bytes.
    More(u32),
    /// Neither a group nor a record is here.
    Damaged,
}

impl Walk {
    /// A walk from the group at byte `at` on.
    pub(crate) fn new(key: SegmentKey, at: u32) -> Self {
        Self {
            key,
            at,
            left: 0,
            group_end: at,
        }
    }

    /// Goes one record on. `bytes` begin at byte `start` of the segment, at or
    /// before [`Walk::at`].
    pub(crate) fn step<'a>(&mut self, start: u32, bytes: &'a [u8]) -> Step<'a> {
        if self.left == 0 {
            self.at = self.group_end;
            let rest = bytes.get((self.at - start) as usize..).unwrap_or_default();
            if rest.len() < GROUP_HEADER {
                return Step::More(UNIT);
            }
            let Ok(group) = GroupHeader::decode(rest, self.key, self.at) else {
                return Step::Damaged;
            };
            self.left = group.records;
            self.group_end = group.end();
            self.at += HEADER;
        }
        let rest = bytes.get((self.at - start) as usize..).unwrap_or_default();
        match decode_record(self.key, self.at, rest) {
            Ok(record) => {
                self.pass(record.location(0).len);
                Step::Record(record)
            }
            Err(FormatError::Short { needed, .. }) => {
                let needed = u32::try_from(needed).unwrap_or(u32::MAX);
                if self.at.saturating_add(needed) > self.group_end - TAIL {
                    return Step::Damaged;
                }
                Step::More(needed)
            }
            Err(FormatError::Checksum {
                what: Structure::Body,
                ..
            }) => match RecordHeader::decode(rest, self.key, self.at) {
                Ok(header) => {
                    let position = self.at;
                    self.pass(header.len);
                    Step::DamagedBody(position, header)
                }
                Err(_) => Step::Damaged,
            },
            Err(_) => Step::Damaged,
        }
    }

    fn pass(&mut self, len: u32) {
        self.at += len.next_multiple_of(8);
        self.left -= 1;
    }

    /// Byte at which a read must begin for the walk to go on.
    pub(crate) fn resume(&self) -> u32 {
        let at = if self.left == 0 {
            self.group_end
        } else {
            self.at
        };
        at / UNIT * UNIT
    }

    /// Where the next record or group is.
    pub(crate) fn position(&self) -> u32 {
        if self.left == 0 {
            self.group_end
        } else {
            self.at
        }
    }
}
