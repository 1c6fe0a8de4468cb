//! Every number that bounds the admin API. Settings cannot raise them.

use core::time::Duration;

/// Things that handlers ask of the plane and that it has not looked at yet. Beyond it
/// they are told to come back, so that a flood costs a bounded amount of memory and
/// no more than a turn's delay.
pub const ASKS_MAX: usize = 1_024;

/// Asks taken in one turn of the plane. More makes turns longer, and with them the
/// pause between two heartbeats of a leader; fewer makes more turns of one flood.
pub const ASKS_PER_TURN: usize = 256;

/// Questions to the data cores that are not in a core's lane yet. More lets more people
/// look at once, fewer tells them sooner to come back.
pub const QUESTIONS_MAX: usize = 256;

/// How long a data core may take for one question.
pub const QUESTION_WAIT: Duration = Duration::from_secs(2);

/// How old what is gathered from the data cores may be when somebody asks for it. Longer
/// costs the cores less where many look, shorter shows what is newer.
pub const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// How old it may become while somebody looks: it is gathered anew then, so that it is never
/// older than [`SNAPSHOT_EVERY`] and nobody but the first waits for the cores. What lies
/// between the two is what a gathering may take.
pub const SNAPSHOT_ANEW: Duration = Duration::from_millis(750);

/// For how long after somebody looked it is gathered before it is asked for. Longer keeps
/// more people from waiting, and the cores busy for more that nobody sees.
pub const LOOKED_LATELY: Duration = Duration::from_secs(5);

/// Partitions that cores are asked for by name, for one page of a list: more than that, and
/// everything is gathered. More lets longer pages not wait for what is not on them.
pub const PARTITIONS_NAMED_MAX: usize = 2_048;

/// How often each data core is asked how it is.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Answers to that which are kept of each core: five minutes lie between the first and the
/// last.
pub const HISTORY_SAMPLES: usize = 301;

/// Changes on their way to one watcher. Larger lets one that reads slowly hold more of
/// them; smaller makes one that reads fast wait for the plane's next turn more often.
pub const WATCH_AHEAD: u32 = 128;

/// Connections at a time. Each costs a task and at most its headers and one body.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Connections at a time from one address, so that one client cannot have all. Of IPv6 one
/// network of 64 bits is one address, as for the rates.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 128;

/// Pause after the process could not take a connection: it has no descriptor for one, and
/// asking at once would only spend the processor.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection may wait with its first byte, which says what it speaks.
pub const FIRST_BYTE_WAIT: Duration = Duration::from_secs(5);

/// How long a TLS handshake, or the head of a request, may take.
pub const HEADER_WAIT: Duration = Duration::from_secs(10);

/// Bytes of the head of a request.
pub const HEADER_BYTES_MAX: usize = 16 << 10;

/// Headers of a request.
pub const HEADERS_MAX: usize = 64;

/// Bytes of a body: what fits one command of the metadata, in JSON.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Bytes of a body that anybody may send: what an exchange asks for at most, 64 actions and 64
/// objects of the longest names. The provider's token is in a header.
pub const PUBLIC_BODY_BYTES_MAX: usize = 32 << 10;

/// Bytes of a message of gRPC to a service that answers what there is, health and reflection:
/// the name of a service or of a file. Larger lets who has no credential send more for nothing.
pub const ASK_BYTES_MAX: usize = 4 << 10;

/// Bytes of a form of the dashboard: the longest token, percent-encoded.
pub const FORM_BYTES_MAX: usize = 52 << 10;

/// How long a body may take, however it drips.
pub const BODY_WAIT: Duration = Duration::from_secs(15);

/// How long the plane may take for one request. A client that waits longer than this
/// and the body's time hears of it.
pub const PLANE_WAIT: Duration = Duration::from_secs(5);

/// Resources with series of their own in the metrics, the most active first. Each has up
/// to ten: more tell more, and whoever reads them keeps all that ever were there.
pub const RESOURCES_TOLD_MAX: usize = 200;

/// How often the machine is looked at, however often somebody asks.
pub const HOST_LOOK_EVERY: Duration = Duration::from_secs(1);

/// A data core that has said nothing for so long is stuck: whoever runs the process is
/// told to end it. Shorter ends one that a slow disk of the machine's held up, longer
/// keeps clients of a dead one waiting.
pub const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Requests under way on one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 64;

/// How long a connection without a request under way stays.
pub const IDLE_WAIT: Duration = Duration::from_secs(75);

/// How long the kernel waits for a client to take what was written before it ends the
/// connection: one that reads nothing holds no answer for longer.
pub const UNREAD_WAIT: Duration = Duration::from_secs(60);

/// How long requests under way may take when the API ends.
pub const DRAIN_WAIT: Duration = Duration::from_secs(5);

/// Buckets of one rate; those beyond share one. A principal's costs some 400 bytes.
pub const RATED_MAX: usize = 16_384;

/// How long what somebody repeats is counted before it has a row of the audit log together.
/// Longer tells later how often somebody was refused; shorter lets more rows of one who is
/// refused over and over push out those of others.
pub const REPEATS_EVERY: Duration = Duration::from_secs(600);

/// Addresses, and principals, that are told apart among those who are refused: each has two
/// rows in [`REPEATS_EVERY`] at most, beyond it all share them. With all of them busy, and
/// [`REPEATS_LET_IN_MAX`] besides, that is some 500 rows and 150 KiB in ten minutes: the
/// 256 MiB that are kept where nobody says otherwise have those of more than ten days. More
/// tells more apart, and fills the log sooner.
pub const REPEATS_STRANGERS_MAX: usize = 64;
/// See [`REPEATS_STRANGERS_MAX`].
pub const REPEATS_KNOWN_MAX: usize = 64;

/// Principals that are told apart among those who get a token for that of their provider, or
/// log in.
pub const REPEATS_LET_IN_MAX: usize = 128;

/// Longest bearer in bytes: what an identity provider's token may have.
pub const BEARER_BYTES_MAX: usize = 16 << 10;

/// Objects of one page of a list where a request does not say.
pub const PAGE_DEFAULT: usize = 100;

/// How long one list may look for rows that its caller sees: as long as a read of the plane.
///
/// Of many rows a caller may see few, and all of them are looked at before a page is short or
/// the last. Longer lets who has many rights in a large tenant get an answer, and keeps a
/// thread of the API busier for them; shorter refuses them sooner.
pub const LIST_WAIT: Duration = PLANE_WAIT;

/// Rows of one page that is asked for by `limit` and `offset`.
pub const ROWS_MAX: usize = 1_000;

/// Longest filter of a list in bytes.
pub const FILTER_BYTES_MAX: usize = 256;

/// How often a watch says that it is there when nothing changes, so that whatever is
/// between does not take it for dead.
pub const WATCH_COMMENT_EVERY: Duration = Duration::from_secs(15);

/// Pages of the dashboard that are followed at a time. Each is drawn anew once in
/// [`LIVE_EVERY`], so more of them make everybody's turn on the control core longer.
pub const LIVE_STREAMS_MAX: usize = 32;

/// How often somebody who looks at a page is told what has changed on it.
pub const LIVE_EVERY: Duration = Duration::from_secs(1);

/// Pieces of an answer made ahead of what its client has taken.
pub const PIECES_AHEAD: usize = 4;

/// Bytes of one piece of a long answer.
pub const PIECE_BYTES: usize = 64 << 10;

// A watcher cannot be given more credit than the plane gives.
const _: () = assert!(WATCH_AHEAD <= pinion_plane::limits::WATCH_CREDIT_MAX);
// What was asked must fit what may be unanswered.
const _: () = assert!(ASKS_MAX <= pinion_plane::limits::REQUESTS_MAX);
// Every connection could watch.
const _: () = assert!(CONNECTIONS_MAX <= pinion_plane::limits::WATCHERS_MAX);
// What an exchange may ask for fits, each of it in quotes and with a comma and a space.
const _: () = assert!(
    64 * (64 + 4) + 64 * (pinion_types::name::ADDRESS_BYTES_MAX + 128 + 4) < PUBLIC_BODY_BYTES_MAX
);
// A token that is taken as a header is taken from a form.
const _: () = assert!(3 * BEARER_BYTES_MAX < FORM_BYTES_MAX);
