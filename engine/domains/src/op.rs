//! What a durable partition asks to be written: one change, one record.
//!
//! A partition queues an [`Op`] for each change that must survive, in the
//! order of the changes. Its owner takes them with `poll_op`, appends each as
//! one record of the log, and calls `commit_next` once per record, in the same
//! order, when the log says it is durable; only then does the change show. An
//! ephemeral partition works the same way without a log: its owner calls
//! `commit_next` right after `poll_op`.
//!
//! After a restart the same records, in the same order, are folded into the
//! partition by its `replay`.

use bytes::Bytes;
use pinion_types::WallMs;

/// Record kinds, unique over all domains of a log. 0 is the log's own.
pub mod kind {
    /// A block of stream records.
    pub const STREAM_BLOCK: u8 = 1;
    /// The first offset of a stream moved.
    pub const STREAM_TRIM: u8 = 2;
    /// A named cursor of a stream moved or went.
    pub const STREAM_CURSOR: u8 = 3;
    /// First kind of the queue; `queue/ops.rs` lists them.
    pub const QUEUE_FIRST: u8 = 16;
    /// Last kind the queue may use.
    pub const QUEUE_LAST: u8 = 31;
    /// The partition is gone with all that came before; of every domain. Written and
    /// read by whoever owns the log, never seen by a partition.
    pub const RESOURCE_PURGED: u8 = 48;
}

/// One change of a partition, to be appended to the log as one record, or
/// applied at once when the resource is ephemeral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What it means to its domain; one of [`kind`].
    pub kind: u8,
    /// First offset (stream) or message id (queue) it is about, or 0.
    pub first: u64,
    /// Offsets or messages whose bodies it carries; 0 for a change of state.
    pub count: u32,
    /// Wall time at which the partition decided it.
    pub timestamp: WallMs,
    /// Small metadata of the domain, at most [`EXT_BYTES_MAX`] bytes.
    pub ext: Vec<u8>,
    /// Payload; shared, not copied.
    pub body: Bytes,
    /// The body must stay readable by its place in the log until released.
    /// The owner then reports the place with `op_appended`.
    pub retain: bool,
    /// It frees space, so it passes while the log is read-only.
    pub essential: bool,
    /// The next op belongs to the same atomic group: all of them or none.
    pub more: bool,
}

/// Longest `ext`; the log's record header counts it in 16 bits.
pub const EXT_BYTES_MAX: usize = u16::MAX as usize;

impl Op {
    /// Bytes it adds to a log beside the record's header and padding.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ext.len() + self.body.len()
    }

    /// Whether it carries neither metadata nor payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
