//! Every bound of the metadata. Configuration cannot raise these: replicas with
//! other limits would decide differently.

/// Tenants of a cluster. Each costs every replica and every snapshot some
/// hundred bytes.
pub const TENANTS_MAX: u64 = 10_000;

/// Namespaces of a cluster, of all tenants together.
pub const NAMESPACES_MAX: u64 = 100_000;

/// Longest display name of a tenant in bytes; it stands in tables.
pub const DISPLAY_NAME_BYTES_MAX: usize = 256;

/// Longest free text, such as a description, in bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// Longest name of an encryption key in bytes.
pub const KEY_ID_BYTES_MAX: usize = 128;

/// Longest principal in bytes. One stands in every envelope and in every row
/// of the table of requests.
pub const PRINCIPAL_BYTES_MAX: usize = 256;

/// Requests whose outcome is remembered, oldest forgotten first. A client that
/// repeats a request after this many others may see it done twice. At the
/// longest principal they are 5 MiB of a snapshot.
pub const DUPLICATES_KEPT: usize = 16_384;

/// Largest command with its header. It must fit one entry of the replicated
/// log, one frame between peers and one record.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;

/// Largest snapshot with its header. It is built and read in memory.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

/// Bytes of all objects, each as it is archived. A command that would add more
/// is refused, because a snapshot could no longer be made.
pub const STATE_BYTES_MAX: u64 = 192 << 20;

/// Highest version, index, generation or number that a snapshot may speak of.
/// A node that makes one a nanosecond reaches it in a hundred years; a snapshot
/// that is beyond it was made up, and would make the next sum overflow.
pub const COUNT_MAX: u64 = 1 << 62;

// A command's own limits must leave room for a batch of them.
const _: () = assert!(
    DISPLAY_NAME_BYTES_MAX + TEXT_BYTES_MAX + KEY_ID_BYTES_MAX + PRINCIPAL_BYTES_MAX
        <= COMMAND_BYTES_MAX / 256
);
// All objects and all remembered requests must fit a snapshot, with room for its lists.
const _: () = assert!(
    STATE_BYTES_MAX + (DUPLICATES_KEPT * (PRINCIPAL_BYTES_MAX + 512)) as u64
        <= (SNAPSHOT_BYTES_MAX - (16 << 20)) as u64
);
