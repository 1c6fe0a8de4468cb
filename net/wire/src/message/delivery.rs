//! Frames on a stream the server opened for one subscription or watch.

use pinion_types::block::{BLOCK_HEADER_BYTES, BlockHeader, FRAME_HEADER_BYTES};
use pinion_types::limits::FRAME_BYTES_MAX;
use pinion_types::{ErrorCode, Offset, SubscriptionId};

use super::{CacheEvents, QueueMessages};
use crate::codec::{Reader, Writer, message, read_code, wire_enum};
use crate::error::{DecodeError, EncodeError};
use crate::{frame, opcode};

/// A frame on a server-opened stream. Its correlation id is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// First frame of the stream: whose it is.
    Head(SubscriptionId),
    /// One block of records, [`pinion_types::block`].
    Records(BlockHeader, &'a [u8]),
    /// Something was skipped.
    Lag(Lag),
    /// Changes of a cache.
    Events(CacheEvents<'a>),
    /// Messages reserved for a queue's subscription.
    Messages(QueueMessages<'a>),
    /// Last frame of the stream.
    End(End),
}

/// Bytes of a block's body before its records.
const BLOCK_BODY_HEAD: usize = BLOCK_HEADER_BYTES - FRAME_HEADER_BYTES;

impl<'a> Delivery<'a> {
    /// Reads the body of a frame. Nothing is allocated or copied; records are
    /// not walked.
    ///
    /// # Errors
    /// The body is not what the opcode says; the peer does not speak this protocol.
    pub fn decode(opcode: u8, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let from = &mut reader;
        let delivery = match opcode {
            opcode::STREAM_HEAD => Self::Head(from.fixed("subscription")?),
            opcode::RECORDS => {
                let (header, records) = read_block(from)?;
                Self::Records(header, records)
            }
            opcode::LAG => Self::Lag(Lag::read(from)?),
            opcode::EVENTS => Self::Events(CacheEvents::read(from)?),
            opcode::QUEUE_MESSAGES => Self::Messages(QueueMessages::read(from)?),
            opcode::END => Self::End(End::read(from)?),
            _ => return Err(DecodeError::UnknownOpcode { opcode }),
        };
        reader.end()?;
        Ok(delivery)
    }

    /// Appends the whole frame to `out`, with correlation 0.
    ///
    /// # Errors
    /// A field over its limit, or a block header that does not fit its records;
    /// `out` is unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        frame::append(out, self.opcode(), 0, |out| {
            let to = &mut Writer { out };
            match self {
                Self::Head(subscription) => {
                    to.put(*subscription);
                    Ok(())
                }
                Self::Records(header, records) => write_block(header, records, to),
                Self::Lag(body) => body.write(to),
                Self::Events(body) => body.write(to),
                Self::Messages(body) => body.write(to),
                Self::End(body) => body.write(to),
            }
        })
    }

    /// The opcode of this message.
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        match self {
            Self::Head(_) => opcode::STREAM_HEAD,
            Self::Records(..) => opcode::RECORDS,
            Self::Lag(_) => opcode::LAG,
            Self::Events(_) => opcode::EVENTS,
            Self::Messages(_) => opcode::QUEUE_MESSAGES,
            Self::End(_) => opcode::END,
        }
    }
}

fn read_block<'a>(reader: &mut Reader<'a>) -> Result<(BlockHeader, &'a [u8]), DecodeError> {
    let first_offset = reader.fixed("first_offset")?;
    let timestamp = reader.fixed("timestamp_ms")?;
    let record_count = reader.within("record_count", 1, u64::from(u32::MAX))?;
    let records = reader.rest("records")?;
    let too_large = DecodeError::FrameTooLarge {
        length: u32::MAX,
        limit: FRAME_BYTES_MAX,
    };
    let header = BlockHeader {
        first_offset,
        timestamp,
        record_count,
        records_bytes: u32::try_from(records.len()).map_err(|_| too_large)?,
    };
    Ok((header, records))
}

fn write_block(
    header: &BlockHeader,
    records: &[u8],
    writer: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    if header.records_bytes as usize != records.len() {
        return Err(EncodeError::OutOfRange {
            field: "records_bytes",
            actual: u64::from(header.records_bytes),
            min: records.len() as u64,
            max: records.len() as u64,
        });
    }
    let longest = FRAME_BYTES_MAX as usize - BLOCK_BODY_HEAD;
    if records.len() > longest {
        return Err(EncodeError::TooLarge {
            field: "records",
            len: records.len() as u64,
            limit: longest as u64,
        });
    }
    writer.put(header.first_offset);
    writer.put(header.timestamp);
    writer.within("record_count", header.record_count, 1, u64::from(u32::MAX))?;
    writer.rest("records", records)
}

wire_enum! {
    /// Why something was skipped.
    pub enum LagReason {
        /// The ring or retention went past the subscription.
        Retention = 1,
        /// `drop_oldest` acted on the backlog.
        DropOldest = 2,
        /// `drop_newest` acted on the backlog.
        DropNewest = 3,
        /// A watch's buffer was full.
        WatchBuffer = 4,
    }
}

message! {
    /// Offsets `from..to` (for a watch: versions) are skipped for this subscription.
    pub struct Lag {
        /// Why.
        pub reason: LagReason => fixed,
        /// First skipped.
        pub from: Offset => fixed,
        /// First not skipped.
        pub to: Offset => fixed,
        /// How many would have been delivered; 0 is unknown.
        pub count: u64 => fixed,
    }
}

/// Why the stream ends and where to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// An [`ErrorCode`], or 0 after UNSUBSCRIBE.
    pub code: u16,
    /// First offset (for a watch: version) that was not delivered; 0 where nobody knows, and
    /// for a queue.
    pub next: Offset,
}

impl End {
    /// The code, unless the client ended the subscription itself.
    #[must_use]
    pub const fn error(&self) -> Option<ErrorCode> {
        ErrorCode::from_u16(self.code)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = read_code(reader, "code")?;
        Ok(Self {
            code: code.map_or(0, |code| code as u16),
            next: reader.fixed("next")?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if self.code != 0 && self.error().is_none() {
            return Err(EncodeError::OutOfRange {
                field: "code",
                actual: u64::from(self.code),
                min: 0,
                max: ErrorCode::ALL.last().map_or(0, |code| *code as u64),
            });
        }
        writer.put(self.code);
        writer.fixed("next", self.next)
    }
}
