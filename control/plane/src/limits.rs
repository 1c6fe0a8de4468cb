//! Every number that bounds a plane. Settings cannot raise them.

use core::time::Duration;

use pinion_metadata::limits::RETIRED_KEPT_MS;

/// Requests that are not answered yet, of every kind. As many proposals as the
/// group takes; more would only wait for them.
pub const REQUESTS_MAX: usize = 4096;

/// Bytes of commands that wait for somebody to lead. Beyond it they are refused,
/// so that a group without a leader costs a bounded amount of memory.
pub const WAITING_BYTES_MAX: usize = 16 << 20;

/// What a caller is told to wait before it asks again when nobody leads: about
/// an election.
pub const LEADER_RETRY_MS: u32 = 500;

/// Those who follow the changes. Each costs a position and a credit; what one
/// has not taken is kept for all together.
pub const WATCHERS_MAX: usize = 1024;

/// Changes that a watcher may be given before it gives more credit. Larger lets one
/// that reads slowly hold more of them on their way to it.
pub const WATCH_CREDIT_MAX: u32 = 4096;

/// Changes kept to be shared by those who have not taken them yet. One that is
/// further behind is served from the metadata's history, and shares nothing.
pub const WATCH_SHARED_MAX: usize = 1024;

/// Commands that a leader proposes of its own accord at a time; the next when
/// these are done, so that they never crowd out what clients ask.
pub const DUTIES_AT_ONCE: usize = 64;

/// Pause after a duty that was refused.
pub const DUTY_RETRY: Duration = Duration::from_secs(1);

/// Longest pause before a leader looks again whether something is due, because
/// the wall clock may have been set meanwhile.
pub const DUTY_LOOK: Duration = Duration::from_secs(60);

/// Members of which this node knows only what they said themselves. As many as there may be
/// in all: beyond it somebody makes them up.
pub const NAMES_HEARD_MAX: usize = 72;

/// Bytes of the registration that a node which wants to join sends along: the largest that
/// the metadata takes, with its head.
pub const REGISTRATION_BYTES_MAX: usize = 16 << 10;

/// Between two questions of a node that is nobody to each of the others. Shorter forms a
/// cluster sooner after its last node was started.
pub const MEET_EVERY: Duration = Duration::from_millis(500);

/// How long it counts what another said of itself. Longer lets a node begin a cluster with
/// one that was started anew on another disk meanwhile.
pub const MEET_FRESH: Duration = Duration::from_secs(2);

/// Nodes that are no members and ask, which this node keeps connected to, and for how long
/// after they last asked: their answers must reach them.
pub const GUESTS_MAX: usize = 16;
/// See [`GUESTS_MAX`].
pub const GUEST_FOR: Duration = Duration::from_secs(10);

/// Between two looks of a leader whether a member that is to vote has caught up.
pub const MEMBERS_LOOK: Duration = Duration::from_millis(250);

/// How late a leader may look for brokers that it misses before it takes it that it stood
/// still itself: then all of them have their whole time again.
pub const BEATS_LATE: Duration = Duration::from_secs(1);

/// After a broker was found to be missed, when it is looked at again.
pub const BEATS_LOOK: Duration = Duration::from_secs(1);

/// How long a node waits for its registration before it asks for it anew, and how long one
/// that the metadata knows already waits for it before it serves.
pub const REGISTER_RETRY: Duration = Duration::from_secs(2);

/// How often a node says what tenants use on it, while that changes, and how long what it
/// hears is gathered before it is added up. Shorter divides a quota among nodes sooner by
/// what is asked where, and costs each of them a message to every other.
pub const USE_EVERY: Duration = Duration::from_millis(250);

/// How often it says so although nothing has changed: what was lost with a connection is
/// known again after that.
pub const USE_REPEAT: Duration = Duration::from_secs(5);

/// Rows of one message about what is used: tenants, and namespaces with a quota of their own.
pub const USE_ROWS_MAX: usize = 1_024;

/// Such messages that say together what is used on a node: there is a row for every tenant
/// that there may be, and for some thousands of namespaces. What is beyond counts on its own
/// node alone.
pub const USE_PARTS_MAX: u16 = 16;

/// How long a node goes on waiting for what became of its commands after it cannot reach the
/// node that it sent them to, or after another leads. What that one had decided is mostly
/// known by then; longer answers later, shorter says of more commands that nobody knows.
pub const UNCERTAIN_WAIT: Duration = Duration::from_millis(500);

/// Pause before a command is sent again to a leader to which there is no connection now.
pub const FORWARD_RETRY: Duration = Duration::from_millis(100);

/// By how much more than the monotonic clock a wall clock goes between two turns when somebody
/// sets it; less may be a processor that was away between two readings.
pub const CLOCK_JUMP_MS: u64 = 2_000;

/// How long a wall clock is not believed that was set forward: no revocation from before is
/// about a token then. Shorter gives tokens back that were revoked; longer keeps rows.
pub const CLOCK_DOUBT: Duration = Duration::from_millis(RETIRED_KEPT_MS);

/// How far the wall clock may be behind the stamps before people are told.
pub const CLOCK_BEHIND_MS: u64 = 1_000;

/// Rows of one page of the audit log. Bounds the answer of one request.
pub const AUDIT_PAGE_MAX: usize = 1_000;

/// Bytes of rows that a query looks at before it answers with what it has; the next page
/// goes on there. Larger answers rare rows in fewer pages, each of which takes longer.
pub const AUDIT_SCAN_BYTES_MAX: u64 = 8 << 20;

/// Bytes that a query reads at once.
pub const AUDIT_READ_BYTES: u32 = 256 << 10;

/// Queries of the audit log at a time: each holds a page and a read.
pub const AUDIT_QUERIES_MAX: usize = 16;

/// Queries of the audit logs of all nodes at a time: each holds a page of every node.
pub const AUDIT_GATHERS_MAX: usize = 4;

/// Bytes of rows in an answer to another node. As much as of a snapshot: what else waits for
/// the same connection waits no longer for this.
pub const AUDIT_SAID_BYTES_MAX: usize = 256 << 10;

/// How long other nodes have to answer a query of all nodes. Longer waits longer for those
/// that are gone and not known to be, shorter leaves out some whose disk is busy.
pub const AUDIT_NODE_WAIT: Duration = Duration::from_secs(1);

/// How long rows of commands wait for others: a flush for each command would hold up the
/// flush of the next one, because both go to one disk. Longer spares more flushes, and
/// loses the addresses of more requests when a node crashes.
pub const AUDIT_GATHER: Duration = Duration::from_millis(50);

/// Bytes of rows that wait for others. Those of a turn with many commands go together.
pub const AUDIT_GATHER_BYTES_MAX: usize = 256 << 10;

/// Pause between two looks for rows that are too old or too many. Shorter wakes an idle
/// node more often; longer keeps more rows for a while.
pub const AUDIT_TRIM_EVERY: Duration = Duration::from_secs(3600);

// The group refuses what the plane lets in only when bytes are too many.
const _: () = assert!(REQUESTS_MAX <= pinion_raft_group::limits::PROPOSALS_MAX);
// What waits is proposed at once when somebody leads.
const _: () = assert!(WAITING_BYTES_MAX as u64 <= pinion_raft_group::limits::PROPOSALS_BYTES_MAX);
// A command of the metadata is one of the group.
const _: () = assert!(
    pinion_metadata::limits::COMMAND_BYTES_MAX <= pinion_raft_group::limits::COMMAND_BYTES_MAX
);
const _: () = assert!(
    pinion_metadata::limits::SNAPSHOT_BYTES_MAX <= pinion_raft_group::limits::SNAPSHOT_BYTES_MAX
);
