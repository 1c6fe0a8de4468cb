//! Every number that bounds a group. Settings cannot raise them.

use core::time::Duration;

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
/// leader takes no proposals, and a follower no entries. It is well above what two
/// snapshots lie apart, so that it is met when a disk fails and never otherwise.
pub const ENTRIES_BYTES_MAX: u64 = 64 << 20;

/// Bytes of the machine in a snapshot: one state of a checkpoint, and memory
/// several times over while it is made.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

/// Bytes of the body of a frame between members: the largest entry fits, with what
/// is around it.
pub const PEER_BODY_MAX: usize = (1 << 20) + (64 << 10);

/// Bytes of the context of a Raft message: whose read it is, or why a vote is asked.
pub const PEER_CONTEXT_MAX: usize = 64;

/// Unit of a member's time. Longer makes elections slower, shorter wakes a member at
/// rest more often.
pub const TICK: Duration = Duration::from_millis(50);

/// Ticks between two words of a leader.
pub const HEARTBEAT_TICKS: usize = 2;

/// Ticks without a majority's answer after which a leader steps down, and without a
/// leader's word after which a member would vote for another. It must bear some lost
/// words and a slow disk's hiccup.
pub const ELECTION_TICKS: usize = 10;

/// Ticks by which each voter, in the order of their numbers, waits longer than the one
/// before it until it asks to be elected. Elections are tied by chance nowhere; two
/// ticks are longer than a message and a flush on a healthy machine.
pub const ELECTION_STEP_TICKS: usize = 2;

/// Ticks that are made up for after a pause. A process that stood still for seconds
/// first hears what came meanwhile.
pub const TICKS_AT_ONCE: u32 = 3;

/// Bytes of entries in a message, unless one entry has more.
pub const MESSAGE_BYTES_MAX: u64 = 256 << 10;

/// Appends to a member that it has not answered. With [`MESSAGE_BYTES_MAX`] it bounds
/// what a slow member holds in memory.
pub const MESSAGES_IN_FLIGHT_MAX: usize = 64;

/// Writes that a member's disk has not finished, and answers that wait for the last of them,
/// beyond which it takes no entries. It is well above what a leader has in flight, so that it
/// is met when a disk hangs and never otherwise.
pub const UNFLUSHED_MAX: usize = 1024;

/// Entries by which a member may be behind and still be given the lead.
pub const TRANSFER_LAG_MAX: u64 = 64;

/// A flush that takes longer is slow. Metadata waits for it, and the group's own
/// clock is not far from it.
pub const SLOW_FLUSH: Duration = Duration::from_millis(100);

/// Flushes whose durations are remembered, and how many of them it takes to say
/// anything.
pub const FLUSHES_KEPT: usize = 32;
/// See [`FLUSHES_KEPT`].
pub const FLUSHES_MIN: usize = 8;

/// Time after which one flush alone makes a leader give the lead away. Shorter does it
/// for a hiccup, longer holds up everyone who waits for an answer.
pub const HAND_OVER_AFTER: Duration = Duration::from_secs(1);

/// Time between two attempts of a leader to give the lead away because its disk is
/// slow: when all disks are, the lead must not go round all the time.
pub const HAND_OVER_EVERY: Duration = Duration::from_secs(10);

/// Time for which a disk that was slow is taken for slow.
pub const SLOW_FOR: Duration = Duration::from_secs(30);

/// Ticks by which a member with a slow disk waits longer until it asks to be elected.
/// It must be longer than an election among the others, and short enough for a group
/// that has nobody else.
pub const SLOW_ELECTION_TICKS: usize = 100;

/// Bytes of a snapshot in one frame. Larger holds up what else goes to the member.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Chunks under way to one member.
pub const CHUNK_WINDOW: usize = 4;

/// Bytes of a snapshot as it is sent: the machine, and who the members are.
pub const STATE_BYTES_MAX: usize = SNAPSHOT_BYTES_MAX + 1024;

/// Time without an answer after which chunks are sent again.
pub const TRANSFER_RETRY: Duration = Duration::from_secs(1);

/// Time without progress after which a transfer is given up; raft-rs begins another
/// when it hears from the member.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads that wait. Beyond it they are refused.
pub const READS_MAX: usize = 4096;

/// Questions for which an answer is awaited; reads that come meanwhile share the next.
/// More costs a round of messages each.
pub const READ_ROUNDS_MAX: usize = 4;

/// Time after which a question is asked again.
pub const READ_RETRY: Duration = Duration::from_millis(250);

/// Time after which a read is given up.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Members that vote. More make a commit wait for more disks and tolerate little
/// more.
pub const VOTERS_MAX: usize = 7;

/// Members that only listen: 64 that always do, and as many as ever vote, since one that takes
/// a voter's place listens first.
pub const LEARNERS_MAX: usize = 64 + VOTERS_MAX;

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
const _: () = assert!(ENTRY_BYTES_MAX + 1024 < PEER_BODY_MAX);
// What is slow is not yet so slow that the lead is given away for one flush.
const _: () = assert!(SLOW_FLUSH.as_millis() < HAND_OVER_AFTER.as_millis());
const _: () = assert!(FLUSHES_MIN <= FLUSHES_KEPT);
// Others have time for two elections before one with a slow disk asks.
const _: () =
    assert!(SLOW_ELECTION_TICKS >= 2 * (ELECTION_TICKS + 1 + VOTERS_MAX * ELECTION_STEP_TICKS));
const _: () = assert!(CHUNK_BYTES + 1024 < PEER_BODY_MAX);
const _: () = assert!(8 * (VOTERS_MAX + LEARNERS_MAX) + 64 < STATE_BYTES_MAX - SNAPSHOT_BYTES_MAX);
const _: () = assert!(MESSAGES_IN_FLIGHT_MAX < UNFLUSHED_MAX / 4);
// Words of a leader may be lost and nobody asks for another.
const _: () = assert!(3 * HEARTBEAT_TICKS < ELECTION_TICKS);
// Snapshots come long before the memory for entries is used up.
const _: () =
    assert!(2 * SNAPSHOT_EVERY_BYTES + TAIL_BYTES + PROPOSALS_BYTES_MAX < ENTRIES_BYTES_MAX);
