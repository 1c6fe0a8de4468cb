//! Every number that bounds a group. Settings cannot raise them.

/// Bytes of a command. It must fit one entry, one record and one frame between
/// members; larger also holds up every smaller one behind it.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;

/// Bytes of an entry's body in the log: the command and what says whose it is.
pub const ENTRY_BYTES_MAX: usize = COMMAND_BYTES_MAX + 4096;

/// Proposals of this member that are not applied yet. Beyond it they are refused.
pub const PROPOSALS_MAX: usize = 4096;

/// Bytes of these. Larger lets a slow disk hold more memory.
pub const PROPOSALS_BYTES_MAX: u64 = 16 << 20;

/// Bytes of entries in memory, when snapshots do not become durable; beyond it a
/// leader takes no proposals. It is well above what two snapshots lie apart, so
/// that it is met when a disk fails and never otherwise.
pub const ENTRIES_BYTES_MAX: u64 = 64 << 20;

/// Bytes of the machine in a snapshot: one state of a checkpoint, and memory
/// several times over while it is made.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

/// Members that vote. More make a commit wait for more disks and tolerate little
/// more.
pub const VOTERS_MAX: usize = 7;

/// Members that only listen.
pub const LEARNERS_MAX: usize = 64;

/// Bytes of a segment, unless the settings say otherwise.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// Bytes of the smallest segment: it holds the largest append.
pub const SEGMENT_BYTES_MIN: u64 = 2 << 20;

/// Bytes of entries that go to the log as one append; what is more goes as
/// several. An append has this much and the entry that crosses it, at most.
pub const APPEND_BYTES_MAX: usize = 512 << 10;

/// Bytes of entries that are given to the machine in one step. Larger makes fewer
/// steps and holds up what else the member must do.
pub const APPLY_BYTES_MAX: u64 = 1 << 20;

/// Applied bytes between two snapshots: what a start reads beside the snapshot.
pub const SNAPSHOT_EVERY_BYTES: u64 = 8 << 20;

/// Entries between two snapshots. An entry costs some hundred bytes of memory
/// however short it is.
pub const SNAPSHOT_EVERY_ENTRIES: u64 = 16_384;

/// Entries kept before a snapshot.
pub const TAIL_ENTRIES: u64 = 4096;

/// Bytes of these.
pub const TAIL_BYTES: u64 = 4 << 20;

// One append fits any segment, with headers and what is beside the entries.
const _: () = assert!((APPEND_BYTES_MAX + ENTRY_BYTES_MAX) as u64 + (64 << 10) < SEGMENT_BYTES_MIN);
const _: () = assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES);
// Snapshots come long before the memory for entries is used up.
const _: () =
    assert!(2 * SNAPSHOT_EVERY_BYTES + TAIL_BYTES + PROPOSALS_BYTES_MAX < ENTRIES_BYTES_MAX);
