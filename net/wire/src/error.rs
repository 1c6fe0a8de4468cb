//! Why bytes are not a message, and why a message has no bytes.

use pinion_types::{ErrorCode, FactId, Refusal};

/// Why bytes are not a frame or not the message its opcode names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The header announces a longer frame than either side may send.
    #[error("a frame of {length} bytes, the most is {limit}")]
    FrameTooLarge {
        /// Announced length.
        length: u32,
        /// The most allowed.
        limit: u32,
    },
    /// The zero field of the header is not zero.
    #[error("the header's zero field holds {value:#06x}")]
    HeaderNotZero {
        /// What it holds.
        value: u16,
    },
    /// A header flag this version does not know. It could change what the body
    /// means, so nothing after it can be trusted.
    #[error("unknown header flags {bits:#04x}")]
    UnknownFlags {
        /// The bits that are not known.
        bits: u8,
    },
    /// No message of this direction has the opcode.
    #[error("unknown opcode {opcode:#04x}")]
    UnknownOpcode {
        /// The opcode.
        opcode: u8,
    },
    /// The body ends inside a field.
    #[error("the body ends inside {field}")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// The body goes on after the last field.
    #[error("{bytes} bytes follow the last field")]
    Trailing {
        /// How many bytes follow.
        bytes: usize,
    },
    /// A number outside what the field may hold.
    #[error("{field} is {actual}, allowed is {min} to {max}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it holds.
        actual: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// A cache key or value, or a record key, over its limit.
    #[error("{field} has {len} bytes, the most is {limit}")]
    ValueTooLarge {
        /// The field.
        field: &'static str,
        /// Its length.
        len: u64,
        /// The most allowed.
        limit: u64,
    },
    /// A bit within a body that this version does not know.
    #[error("{field} has unknown bits {bits:#x}")]
    UnknownBits {
        /// The field.
        field: &'static str,
        /// The bits that are not known.
        bits: u64,
    },
    /// A text field that is not UTF-8.
    #[error("{field} is not UTF-8")]
    NotText {
        /// The field.
        field: &'static str,
    },
    /// Lengths inside a record contradict each other.
    #[error("the lengths inside {field} contradict each other")]
    Inconsistent {
        /// The field.
        field: &'static str,
    },
}

impl DecodeError {
    /// The stable code an Error reply or a close names.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::FrameTooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::HeaderNotZero { .. }
            | Self::Truncated { .. }
            | Self::Trailing { .. }
            | Self::Inconsistent { .. } => ErrorCode::Malformed,
            Self::UnknownFlags { .. } | Self::UnknownBits { .. } => ErrorCode::UnknownBits,
            Self::UnknownOpcode { .. } => ErrorCode::UnknownOpcode,
            Self::OutOfRange { .. } | Self::NotText { .. } => ErrorCode::BadArgument,
            Self::ValueTooLarge { .. } => ErrorCode::ValueTooLarge,
        }
    }

    /// Whether the connection must be closed. Otherwise the frame is answered
    /// with an Error reply and the conversation goes on.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::FrameTooLarge { .. }
            | Self::HeaderNotZero { .. }
            | Self::UnknownFlags { .. }
            | Self::Truncated { .. }
            | Self::Trailing { .. }
            | Self::Inconsistent { .. } => true,
            Self::UnknownOpcode { .. }
            | Self::OutOfRange { .. }
            | Self::ValueTooLarge { .. }
            | Self::UnknownBits { .. }
            | Self::NotText { .. } => false,
        }
    }

    /// The Error reply that says it, with its facts.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        let refusal = Refusal::new(self.code());
        match *self {
            Self::FrameTooLarge { length, limit } => refusal
                .with(FactId::Limit, limit as u64)
                .with(FactId::Actual, length as u64),
            Self::UnknownFlags { bits } => refusal.with(FactId::Actual, bits as u64),
            Self::UnknownBits { bits, .. } => refusal.with(FactId::Actual, bits),
            Self::UnknownOpcode { opcode } => refusal.with(FactId::Actual, opcode as u64),
            Self::OutOfRange {
                actual, min, max, ..
            } => {
                // Facts of BadArgument: the bound that was crossed.
                let limit = if actual < min { min } else { max };
                refusal
                    .with(FactId::Actual, actual)
                    .with(FactId::Limit, limit)
            }
            Self::ValueTooLarge { limit, .. } => refusal.with(FactId::Limit, limit),
            Self::HeaderNotZero { .. }
            | Self::Truncated { .. }
            | Self::Trailing { .. }
            | Self::NotText { .. }
            | Self::Inconsistent { .. } => refusal,
        }
    }
}

/// Why a message was not encoded. The output is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A field is longer than its length field or its limit allows.
    #[error("{field} has {len} bytes or items, the most is {limit}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its length.
        len: u64,
        /// The most allowed.
        limit: u64,
    },
    /// A number outside what the field may hold, or a choice the message does
    /// not allow (a lease condition on a delete).
    #[error("{field} is {actual}, allowed is {min} to {max}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it holds.
        actual: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// The frame would be longer than `limit`.
    #[error("a frame of {len} bytes, the most is {limit}")]
    FrameTooLarge {
        /// What its length would be.
        len: u64,
        /// The most allowed.
        limit: u64,
    },
}
