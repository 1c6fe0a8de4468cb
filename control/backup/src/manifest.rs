//! The first entry of an archive: whose backup it is, and what follows.

use serde::{Deserialize, Serialize};

use crate::path::Place;
use crate::{hex, unhex16};

/// The format of archives.
pub const FORMAT: u32 = 1;

/// Largest manifest, in bytes: about 600,000 files. A longer one is refused before
/// anything is allocated for it.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Largest file, in bytes. A checkpoint is bounded by its states; a segment is far smaller.
const FILE_BYTES_MAX: u64 = 1 << 50;

/// Bytes of all files together: no disk has so many, and with what a tar puts around each
/// of them they are still a number.
const BYTES_MAX: u64 = 1 << 60;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The release that made it.
    pub pinion: String,
    /// The node.
    pub node: String,
    /// Identity of its data directory, 32 hexadecimal digits.
    pub store: String,
    /// When that was made, in milliseconds since 1970.
    pub store_created_ms: u64,
    /// When the backup began. What was acknowledged before is in it.
    pub begun_ms: u64,
    /// Keys and tokens of the node are in it.
    pub secrets: bool,
    /// What the metadata is as of.
    pub metadata: Metadata,
    /// Every log of the node, the audit log last.
    pub logs: Vec<LogEntry>,
    /// Every file that follows, in this order.
    pub files: Vec<FileEntry>,
}

/// Which state of the metadata is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The cluster, 32 hexadecimal digits.
    pub cluster: String,
    /// The node's member of the group.
    pub member: u64,
    /// The last entry of the group's log that the restored one goes on behind.
    pub index: u64,
    /// The term to go on from.
    pub term: u64,
    /// Of the metadata.
    pub version: u64,
}

/// One log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    /// Its number.
    pub log: u16,
    /// Its last record in the backup.
    pub upto: u64,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its path below the data directory.
    pub path: String,
    /// Its length.
    pub bytes: u64,
}

/// Why a manifest cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A later release made it.
    #[error(
        "the backup has format {found}, this release knows up to {FORMAT}; use the later release"
    )]
    Future {
        /// What it says.
        found: u32,
    },
    /// It is no manifest, or one with fields that the format does not have.
    #[error("the manifest cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A field cannot be as it is.
    #[error("the manifest's {field} is not what a node writes")]
    Field {
        /// Which.
        field: &'static str,
    },
    /// A path that no data directory has.
    #[error("the manifest names '{path}', which is no file of a data directory")]
    Path {
        /// As it stands there, made printable.
        path: String,
    },
    /// A file is there twice, or out of order.
    #[error("the manifest names '{path}' twice, or a log that it does not list")]
    Twice {
        /// Which.
        path: String,
    },
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: u32,
}

impl Manifest {
    /// As it stands in an archive.
    ///
    /// # Panics
    /// Never: it is plain data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data");
        bytes.push(b'\n');
        bytes
    }

    /// Reads one and checks everything that it says by itself.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        // First, so that a later release is named instead of a field of its.
        let OnlyFormat { format } = serde_json::from_slice(bytes)?;
        if format > FORMAT {
            return Err(ManifestError::Future { found: format });
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The identity of the data directory.
    #[must_use]
    pub fn store(&self) -> Option<[u8; 16]> {
        unhex16(&self.store)
    }

    /// The identity of the cluster.
    #[must_use]
    pub fn cluster(&self) -> Option<[u8; 16]> {
        unhex16(&self.metadata.cluster)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    fn check(&self) -> Result<(), ManifestError> {
        let field = |right: bool, field| {
            if right {
                return Ok(());
            }
            Err(ManifestError::Field { field })
        };
        field(self.format == FORMAT, "format")?;
        field(self.store().is_some(), "store")?;
        field(self.cluster().is_some(), "metadata.cluster")?;
        let of = &self.metadata;
        field(of.member > 0, "metadata.member")?;
        field(of.index > 0 && of.term > 0, "metadata.index")?;
        field(of.index < 1 << 63 && of.term < 1 << 63, "metadata.index")?;
        let ascending = self.logs.windows(2).all(|two| two[0].log < two[1].log);
        field(ascending, "logs")?;
        let mut paths = std::collections::BTreeSet::new();
        let mut has_metadata = false;
        for file in &self.files {
            let Some(place) = Place::of(&file.path) else {
                let path = file.path.escape_debug().to_string();
                return Err(ManifestError::Path { path });
            };
            field(file.bytes <= FILE_BYTES_MAX, "files.bytes")?;
            let listed = match place {
                // They ascend, which is known by now.
                Place::Log(log) => self.logs.binary_search_by_key(&log, |one| one.log).is_ok(),
                Place::Metadata => {
                    has_metadata = true;
                    true
                }
                Place::Secret | Place::Public => self.secrets,
            };
            if !paths.insert(&file.path) || !listed {
                let path = file.path.clone();
                return Err(ManifestError::Twice { path });
            }
        }
        field(has_metadata, "files")?;
        field(self.bytes() <= BYTES_MAX, "files.bytes")
    }

    /// One that a test can change.
    #[doc(hidden)]
    #[must_use]
    pub fn example() -> Self {
        let file = |path: &str, bytes| FileEntry {
            path: path.to_owned(),
            bytes,
        };
        Self {
            format: FORMAT,
            pinion: "0.1.0".to_owned(),
            node: "node-1".to_owned(),
            store: hex(&[7; 16]),
            store_created_ms: 1_700_000_000_000,
            begun_ms: 1_700_000_000_123,
            secrets: false,
            metadata: Metadata {
                cluster: hex(b"a test's cluster"),
                member: 1,
                index: 42,
                term: 3,
                version: 40,
            },
            logs: vec![
                LogEntry { log: 0, upto: 9 },
                LogEntry {
                    log: 65_533,
                    upto: 4,
                },
            ],
            files: vec![
                file("log-0000/00000000000000000001.segment", 8_192),
                file("log-0000/00000000000000000001.checkpoint", 3),
                file("control/log-65533/00000000000000000001.segment", 4_096),
                file("control/metadata", 0),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(change: impl FnOnce(&mut Manifest)) -> String {
        let mut manifest = Manifest::example();
        change(&mut manifest);
        Manifest::decode(&manifest.encode())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_believed() {
        let good = Manifest::example();
        assert_eq!(Manifest::decode(&good.encode()).unwrap(), good);
        assert!(refused(|one| one.format = 2).contains("format 2"));
        assert!(refused(|one| one.format = 0).contains("format"));
        assert!(refused(|one| one.store = "7".into()).contains("store"));
        assert!(refused(|one| one.store = "G".repeat(32)).contains("store"));
        assert!(refused(|one| one.metadata.cluster.pop().map_or((), drop)).contains("cluster"));
        assert!(refused(|one| one.metadata.member = 0).contains("member"));
        assert!(refused(|one| one.metadata.term = 1 << 63).contains("index"));
        assert!(refused(|one| one.logs.reverse()).contains("logs"));
        assert!(refused(|one| one.files[0].path = "../x".into()).contains("'../x'"));
        assert!(refused(|one| one.files[0].path = "a\n\u{1b}[2J".into()).contains("\\n\\u{1b}"));
        assert!(
            refused(|one| one.files[0].path = "log-0001/00000000000000000001.segment".into())
                .contains("does not list")
        );
        assert!(refused(|one| one.files[1] = one.files[0].clone()).contains("twice"));
        assert!(refused(|one| drop(one.files.pop())).contains("files"));
        assert!(refused(|one| one.files[0].bytes = u64::MAX).contains("files.bytes"));
        let secret = FileEntry {
            path: "tls/node.key".into(),
            bytes: 1,
        };
        assert!(refused(|one| one.files.push(secret)).contains("tls/node.key"));
    }

    #[test]
    fn numbers_and_fields_that_no_node_writes_are_refused_wherever_they_stand() {
        let text = String::from_utf8(Manifest::example().encode()).unwrap();
        let error = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            let changed = text.replacen(from, to, 1);
            Manifest::decode(changed.as_bytes())
                .unwrap_err()
                .to_string()
        };
        let bytes = "\"bytes\": 8192";
        for (to, says) in [
            ("\"bytes\": 18446744073709551616", "invalid type"),
            ("\"bytes\": -1", "invalid value"),
            ("\"bytes\": 1.5", "invalid type"),
            ("\"bytes\": \"8192\"", "invalid type"),
            ("\"bytes\": null", "invalid type"),
            ("\"bytes\": 8192, \"bytes\": 1", "duplicate field"),
            ("\"bytes\": 8192, \"mode\": 493", "unknown field `mode`"),
            ("\"bytes\": 1125899906842625", "files.bytes"),
        ] {
            let error = error(bytes, to);
            assert!(error.contains(says), "{to}: {error}");
        }
        for (from, to, says) in [
            ("\"log\": 0", "\"log\": 65536", "invalid value"),
            ("\"log\": 0", "\"log\": 65533", "logs"),
            (
                "\"upto\": 9",
                "\"upto\": 9, \"from\": 1",
                "unknown field `from`",
            ),
            (
                "\"version\": 40",
                "\"version\": 40, \"x\": 1",
                "unknown field `x`",
            ),
            ("\"format\": 1", "\"format\": 4294967296", "invalid value"),
            ("\"secrets\": false", "\"secrets\": 0", "invalid type"),
        ] {
            let error = error(from, to);
            assert!(error.contains(says), "{to}: {error}");
        }
        // Each may be there; together they are more than any disk has.
        let many = refused(|one| {
            let log = LogEntry { log: 1, upto: 1 };
            one.logs.insert(1, log);
            one.files.extend((0..2_000).map(|number| FileEntry {
                path: format!("log-0001/{number:020}.segment"),
                bytes: FILE_BYTES_MAX,
            }));
        });
        assert!(many.contains("files.bytes"), "{many}");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Manifest::decode(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_manifest_that_is_cut_off_anywhere_is_refused() {
        let encoded = Manifest::example().encode();
        let whole = encoded.trim_ascii_end().len();
        for end in 0..whole {
            assert!(Manifest::decode(&encoded[..end]).is_err(), "{end}");
        }
        assert!(Manifest::decode(&encoded[..whole]).is_ok());
    }

    #[test]
    fn fields_that_the_format_does_not_have_are_refused_and_a_later_format_is_named() {
        let text = String::from_utf8(Manifest::example().encode()).unwrap();
        let more = text.replacen('{', "{\"colour\": 1,", 1);
        let error = Manifest::decode(more.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("unknown field `colour`"), "{error}");
        // It may have anything in it.
        let error = Manifest::decode(b"{\"format\": 9, \"colour\": 1}").unwrap_err();
        assert!(matches!(error, ManifestError::Future { found: 9 }));
        for broken in [&b""[..], b"{", b"[]", b"\xff", b"{\"format\": -1}"] {
            assert!(matches!(
                Manifest::decode(broken).unwrap_err(),
                ManifestError::Json(_)
            ));
        }
    }

    /// The bytes in `docs/backup-format.md`, written by hand.
    #[test]
    fn the_example_in_the_document_is_what_is_written() {
        let page = include_str!("../../../docs/backup-format.md");
        let begin = page.find("```json\n").unwrap() + 8;
        let end = begin + page[begin..].find("```").unwrap();
        assert_eq!(Manifest::example().encode(), page.as_bytes()[begin..end]);
    }
}
