//! The log of declarations of earlier releases: every resource of the node, in
//! the order of its declaration. It is read once, for the metadata, and never
//! written nor removed: an earlier release finds in it what it knew.

use std::path::Path;

use pinion_commitlog::{Files, LogConfig, LogId, RecoverError, Replay};
use pinion_node::declared::{Declared, DeclaredError};
use pinion_reactor::FileStore;

/// The log of declarations; beyond every number a data log may have.
pub(crate) const META_LOG: LogId = LogId(u16::MAX);

/// Its only kind of record.
pub(crate) const KIND_DECLARED: u8 = 200;

/// Its folder in a data directory.
const FOLDER: &str = "log-65535";

/// Bytes of its segments: some thousand declarations.
const SEGMENT_BYTES: u64 = 4 << 20;

/// Why the declarations cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetaError {
    #[error("the log of declarations (log-65535): {0}")]
    Recover(#[from] RecoverError),
    #[error("record {lsn} of the log of declarations: {source}")]
    Record { lsn: u64, source: DeclaredError },
    /// Without it nobody knows whose data the other logs hold (R37).
    #[error(
        "the log of declarations is damaged at byte {offset} of segment {segment}: \
         restore DIR/log-65535 from a backup; the data of the other logs is untouched"
    )]
    Damaged { segment: u64, offset: u64 },
}

/// What was declared in the log below `dir`, oldest first; nothing when there is
/// no such log. Nothing is changed.
///
/// # Errors
/// Something of it cannot be read: then nobody knows what is missing.
pub(crate) fn read(dir: &Path, store: [u8; 16]) -> Result<Vec<Declared>, MetaError> {
    if !dir.join(FOLDER).is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut failed = None;
    let config = LogConfig {
        segment_bytes: SEGMENT_BYTES,
        checkpoint_every_bytes: u64::MAX,
        log: META_LOG,
        store,
        ..LogConfig::default()
    };
    let mut files = FileStore::new(dir);
    let recovered =
        pinion_commitlog::recover(&mut files as &mut dyn Files, config, &mut |replay| {
            if let Replay::Record { lsn, body, .. } = replay {
                match Declared::decode(body) {
                    Ok(declared) => found.push(declared),
                    Err(source) => {
                        failed.get_or_insert(MetaError::Record { lsn: lsn.0, source });
                    }
                }
            }
        })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if let Some(damage) = recovered.report.damage.first() {
        return Err(MetaError::Damaged {
            segment: damage.segment,
            offset: damage.offset,
        });
    }
    Ok(found)
}
