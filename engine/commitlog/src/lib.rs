//! One segmented, append-only commit log, as a pure state machine.
//!
//! It decides what is written where, what is durable, what may be read and
//! what may be deleted; it never touches a file. Requests to the disk come out
//! as [`DiskRequest`]s and completions go in as [`DiskDone`]s. Start reading at
//! [`disk`], the vocabulary between the log and whoever moves its bytes.

#![forbid(unsafe_code)]

pub mod disk;
pub mod format;
mod ids;

pub use disk::{
    BLOCK, BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, Files, OpId,
};
pub use ids::{Location, LogId, Lsn, RecordHead};
