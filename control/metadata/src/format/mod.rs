//! Commands and snapshots as bytes: `docs/metadata-format.md`.
//!
//! A header, then an archive of the plain structs in [`v1`] and
//! [`commands`]. The structs that
//! the rest of the crate works with are others, so that changing code does not
//! change bytes.

mod commands;
mod mirror;
mod v1;

use rkyv::Archive;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use xxhash_rust::xxh64::xxh64;

use crate::command::Envelope;
use crate::error::MetaError;
use crate::ids::MetaVersion;
use crate::invariants::Broken;
use crate::limits::{BROKER_NUMBERS_MAX, COMMAND_BYTES_MAX, COUNT_MAX, SNAPSHOT_BYTES_MAX};
use crate::object::{KeyError, Object};
use crate::policy::ObjectError;
use crate::requests::Row;
use crate::state::{Head, Metadata, SnapshotSource};
use crate::subject::SubjectError;
use mirror::Mirror;

/// Bytes before the archive.
pub const HEADER_BYTES: usize = 32;

const COMMAND_MAGIC: u32 = u32::from_le_bytes(*b"PMC1");
const SNAPSHOT_MAGIC: u32 = u32::from_le_bytes(*b"PMS1");
const VERSION: u16 = 1;

/// Why bytes are no command or no snapshot. Nothing was kept of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Fewer bytes than a header.
    #[error("{found} bytes are no header")]
    Short {
        /// How many there are.
        found: usize,
    },
    /// Not what was asked for.
    #[error("magic 0x{found:08x}, expected 0x{expected:08x}")]
    Magic {
        /// What is there.
        found: u32,
        /// What it should be.
        expected: u32,
    },
    /// The header is damaged.
    #[error("the header's checksum is 0x{stored:08x}, its bytes give 0x{computed:08x}")]
    HeaderChecksum {
        /// What the header says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Written by another release.
    #[error("version {found}, this release reads {known}")]
    Version {
        /// Of the bytes.
        found: u16,
        /// Of this release.
        known: u16,
    },
    /// A flag that this release does not know.
    #[error("flags 0x{found:04x} are not known")]
    Flags {
        /// All flags that are set.
        found: u16,
    },
    /// Longer than one may be.
    #[error("{bytes} bytes, the most is {limit}")]
    TooLarge {
        /// What the header says, with the header.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// Cut short, or followed by something.
    #[error("the header speaks of {stated} bytes after it, there are {found}")]
    Length {
        /// What the header says.
        stated: u64,
        /// What is there.
        found: u64,
    },
    /// The archive is damaged.
    #[error("the archive's checksum is 0x{stored:08x}, its bytes give 0x{computed:08x}")]
    Checksum {
        /// What the header says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The archive contradicts itself.
    #[error("the archive of {what} contradicts itself")]
    Archive {
        /// Of what.
        what: &'static str,
    },
    /// A field holds what it cannot.
    #[error("{field} holds {value}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A key breaks the grammar.
    #[error("a key: {0}")]
    Key(#[from] KeyError),
    /// A subject is none.
    #[error("a subject: {0}")]
    Subject(#[from] SubjectError),
    /// An object of a policy is none.
    #[error("an object of a policy: {0}")]
    Object(#[from] ObjectError),
    /// An action is none.
    #[error("an action is not known")]
    Action,
    /// The objects are not in the order of their keys.
    #[error("the objects are not in the order of their keys")]
    Order,
    /// The snapshot is of a state that cannot be.
    #[error("{0}")]
    Broken(#[from] Broken),
}

// ---------------------------------------------------------------------- header

/// Puts the header before `archive`.
fn seal(magic: u32, meta: u64, archive: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + archive.len());
    out.extend(magic.to_le_bytes());
    out.extend(VERSION.to_le_bytes());
    out.extend(0_u16.to_le_bytes());
    out.extend((archive.len() as u64).to_le_bytes());
    out.extend(meta.to_le_bytes());
    out.extend(crc32c::crc32c(archive).to_le_bytes());
    out.extend(crc32c::crc32c(&out).to_le_bytes());
    out.extend(archive);
    out
}

/// The archive behind a header, and the header's `meta`.
fn open(magic: u32, limit: usize, bytes: &[u8]) -> Result<(u64, &[u8]), FormatError> {
    let Some((header, archive)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(FormatError::Short { found: bytes.len() });
    };
    let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    // The magic first: of a file of another kind, the checksum says nothing.
    let found = u32_at(0);
    if found != magic {
        return Err(FormatError::Magic {
            found,
            expected: magic,
        });
    }
    let (stored, computed) = (u32_at(28), crc32c::crc32c(&header[..28]));
    if stored != computed {
        return Err(FormatError::HeaderChecksum { stored, computed });
    }
    let found = u16_at(4);
    if found != VERSION {
        return Err(FormatError::Version {
            found,
            known: VERSION,
        });
    }
    let found = u16_at(6);
    if found != 0 {
        return Err(FormatError::Flags { found });
    }
    let stated = u64_at(8);
    let (whole, limit) = (stated.saturating_add(HEADER_BYTES as u64), limit as u64);
    if whole > limit {
        return Err(FormatError::TooLarge {
            bytes: whole,
            limit,
        });
    }
    let found = archive.len() as u64;
    if stated != found {
        return Err(FormatError::Length { stated, found });
    }
    let (stored, computed) = (u32_at(24), crc32c::crc32c(archive));
    if stored != computed {
        return Err(FormatError::Checksum { stored, computed });
    }
    Ok((u64_at(16), archive))
}

// --------------------------------------------------------------------- archives

fn to_archive<T>(plain: &T) -> AlignedVec
where
    T: for<'a> rkyv::Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>,
{
    rkyv::to_bytes::<Error>(plain).expect("memory is all it needs")
}

/// What it allocates is bounded by the length of `bytes`: no two parts of an
/// archive may overlap, and nothing in it is larger in memory than there.
fn from_archive<T>(what: &'static str, bytes: &[u8]) -> Result<T, FormatError>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, Error>>
        + rkyv::Deserialize<T, HighDeserializer<Error>>,
{
    // Read in place, so aligned; bytes from a log or a peer need not be.
    let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    rkyv::from_bytes::<T, Error>(&aligned).map_err(|_| FormatError::Archive { what })
}

/// The archive of one object, for its hash and its size.
pub(crate) fn object_archive(object: &Object) -> AlignedVec {
    let plain: v1::Stored = object.store();
    to_archive(&plain)
}

pub(crate) fn row_digest(row: &Row) -> u64 {
    let plain: v1::Request = row.store();
    xxh64(&to_archive(&plain), 0)
}

// --------------------------------------------------------------------- commands

impl Envelope {
    /// The envelope as an entry of the replicated log.
    ///
    /// # Errors
    /// [`MetaError::TooLarge`]; [`MetaError::BadBatch`], [`MetaError::BadName`],
    /// [`MetaError::BadUrl`], which nobody could read.
    pub fn encode(&self) -> Result<Vec<u8>, MetaError> {
        self.command.check_batch()?;
        self.command.check_keys()?;
        let plain: commands::Sent = self.store();
        let bytes = seal(COMMAND_MAGIC, 0, &to_archive(&plain));
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(MetaError::TooLarge {
                bytes: bytes.len(),
                limit: COMMAND_BYTES_MAX,
            });
        }
        Ok(bytes)
    }

    /// Reads what [`encode`](Self::encode) wrote. Grammar and ranges are left to
    /// [`Metadata::apply`], which answers the one who asked.
    ///
    /// # Errors
    /// Anything else than one whole envelope of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (meta, archive) = open(COMMAND_MAGIC, COMMAND_BYTES_MAX, bytes)?;
        if meta != 0 {
            return Err(FormatError::Field {
                field: "meta",
                value: meta,
            });
        }
        let plain: commands::Sent = from_archive("an envelope", archive)?;
        Self::load(plain)
    }
}

// -------------------------------------------------------------------- snapshots

impl SnapshotSource {
    /// The snapshot as bytes. Equal states give equal bytes.
    ///
    /// # Panics
    /// When they are more than [`SNAPSHOT_BYTES_MAX`]: the limits of the state
    /// do not let it come so far.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let archive = to_archive(&self.store());
        let bytes = seal(SNAPSHOT_MAGIC, self.version().0, &archive);
        assert!(
            bytes.len() <= SNAPSHOT_BYTES_MAX,
            "a snapshot of {} bytes",
            bytes.len()
        );
        bytes
    }

    fn store(&self) -> v1::Snapshot {
        v1::Snapshot {
            cluster: self.head.cluster,
            version: self.head.version.0,
            index: self.head.index,
            stamp: self.head.stamp.0,
            counters: self.head.counters.store(),
            objects: self.objects.iter().map(|object| object.store()).collect(),
            requests: self.rows.iter().map(|row| (**row).store()).collect(),
        }
    }
}

impl Metadata {
    /// The state that a snapshot is of.
    ///
    /// # Errors
    /// Anything else than one whole snapshot of a known version, of a state that
    /// can be.
    pub fn restore(bytes: &[u8]) -> Result<Self, FormatError> {
        let (meta, archive) = open(SNAPSHOT_MAGIC, SNAPSHOT_BYTES_MAX, bytes)?;
        let snapshot: v1::Snapshot = from_archive("a snapshot", archive)?;
        if meta != snapshot.version {
            return Err(FormatError::Field {
                field: "meta",
                value: meta,
            });
        }
        for (field, value) in [
            ("version", snapshot.version),
            ("index", snapshot.index),
            ("next tenant", snapshot.counters.tenant),
            ("next resource", snapshot.counters.resource),
            ("next row", snapshot.counters.row),
            ("next member", snapshot.counters.member),
            ("imported", snapshot.counters.imported),
        ] {
            if value > COUNT_MAX {
                return Err(FormatError::Field { field, value });
            }
        }
        let value = snapshot.counters.broker.into();
        if value > BROKER_NUMBERS_MAX + 1 {
            let field = "next broker";
            return Err(FormatError::Field { field, value });
        }
        let objects: Box<[Object]> = Mirror::load(snapshot.objects)?;
        if !objects.is_sorted_by(|a, b| a.meta.key < b.meta.key) {
            return Err(FormatError::Order);
        }
        let rows: Box<[Row]> = Mirror::load(snapshot.requests)?;
        let head = Head {
            cluster: snapshot.cluster,
            version: MetaVersion(snapshot.version),
            index: snapshot.index,
            stamp: Mirror::load(snapshot.stamp)?,
            counters: Mirror::load(snapshot.counters)?,
        };
        let state = Self::assemble(head, objects, rows);
        state.check()?;
        Ok(state)
    }
}
