//! One segmented, append-only commit log, as a pure state machine.
//!
//! It decides what is written where, what is durable, what may be read and
//! what may be deleted; it never touches a file, a clock or a thread, and never
//! looks into a record: [`RecordHead`] is all it reads. Requests to the disk come
//! out as [`DiskRequest`]s and completions go in as [`DiskDone`]s.
//!
//! Start reading at [`disk`], the vocabulary between the log and whoever moves
//! its bytes, then [`Log`], then [`recover`]. The bytes themselves are in
//! [`mod@format`] and in `docs/storage-format.md`.

#![forbid(unsafe_code)]

mod checkpoint;
mod compact;
pub mod config;
pub mod disk;
mod events;
mod files;
pub mod format;
mod ids;
mod index;
pub mod inspect;
mod log;
mod owner;
mod pin;
mod reads;
mod recover;
mod scan;
mod segments;
mod walk;

pub use config::{AdmitError, LogConfig, ReadRefused};
pub use disk::{
    BLOCK, Background, BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, Files, OpId,
};
pub use events::{
    Damage, DamageKind, DamagedPartitions, GROUP_SIZES, LogEvent, LogState, LogStats, ReadError,
    RecordBytes, RecoverError, RecoveryReport, StreamChunk, Torn,
};
pub use ids::{Location, LogId, Lsn, RecordHead};
pub use log::{Appended, CONTROL, Log, RECORD_OVERHEAD, RecordIn, SEGMENT_REMOVED};
pub use pin::{PinLimits, PinRefused, Pinned, PinnedFile};
pub use recover::{Recovered, Replay, recover};
