//! Streams, queues, caches, and who is connected.

use serde::Serialize;

use super::{Address, Deletion, Fact, Fresh, Level, Listing, Series, Share, State, page};

/// A stream in the list.
#[derive(Clone, Debug, Serialize)]
pub struct StreamRow {
    /// Which.
    pub address: Address,
    /// How it is.
    pub state: State,
    /// Of one that is deleted: time until its data may go, milliseconds.
    pub purge_in_ms: Option<u64>,
    /// Whether it survives a crash.
    pub durable: bool,
    /// Partitions it has.
    pub partitions: u32,
    /// Records there are (durable, when the stream is).
    pub records: u64,
    /// Bytes of them (durable, when the stream is).
    pub size_bytes: u64,
    /// Records in, a second (live).
    pub in_per_s: f64,
    /// Records out to subscriptions, a second (live).
    pub out_per_s: f64,
    /// Subscriptions (live).
    pub subscriptions: u64,
}

/// Streams there are.
#[derive(Clone, Debug, Serialize)]
pub struct Streams {
    /// How the list was asked for.
    pub list: Listing,
    /// The streams.
    pub rows: Vec<StreamRow>,
    /// What the numbers are worth.
    pub fresh: Fresh,
}

page!(Streams, "streams.html", "streams", live: true, |_page| "Streams");

/// One partition of a stream.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionRow {
    /// Its number.
    pub partition: u32,
    /// Broker that leads it.
    pub broker: String,
    /// Core of that broker.
    pub core: u16,
    /// Oldest offset there is (durable, when the stream is).
    pub first_offset: u64,
    /// End of what is committed (durable, when the stream is).
    pub watermark: u64,
    /// Bytes of it (durable, when the stream is).
    pub size_bytes: u64,
    /// Records in, a second (live).
    pub in_per_s: f64,
    /// Append sessions open (live).
    pub append_sessions: u64,
    /// Subscriptions (live).
    pub subscriptions: u64,
    /// How it is.
    pub state: State,
}

/// A subscription to a stream. It ends with its connection.
#[derive(Clone, Debug, Serialize)]
pub struct SubscriptionRow {
    /// Number of the session.
    pub session: String,
    /// Who.
    pub principal: String,
    /// Partition it reads.
    pub partition: u32,
    /// Next offset it is sent.
    pub offset: u64,
    /// Records it has not been sent.
    pub lag_records: u64,
    /// Records it may be sent before it grants more.
    pub credit_records: Option<u64>,
}

/// A cursor: a place kept for a reader, partition by partition.
#[derive(Clone, Debug, Serialize)]
pub struct CursorRow {
    /// What it is called.
    pub name: String,
    /// Partition.
    pub partition: u32,
    /// Offset it names.
    pub offset: u64,
    /// Records behind it.
    pub lag_records: u64,
}

/// A record as people look at it. Text that is not UTF-8 is shown as hexadecimal by
/// whoever fills this.
#[derive(Clone, Debug, Serialize)]
pub struct RecordRow {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
    /// When it was taken, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Key, cut.
    pub key: String,
    /// Headers as `name=value`, cut.
    pub headers: Vec<String>,
    /// Value, cut.
    pub value: String,
    /// Bytes of the whole value.
    pub value_bytes: u64,
}

/// One stream.
#[derive(Clone, Debug, Serialize)]
pub struct Stream {
    /// Which.
    pub address: Address,
    /// How it is.
    pub state: State,
    /// Whether it survives a crash.
    pub durable: bool,
    /// That it is deleted, if it is.
    pub deletion: Option<Deletion>,
    /// Why some of this could not be asked; empty when all of it was.
    pub problem: String,
    /// What it was declared to be.
    pub spec: Vec<Fact>,
    /// What the declaration is worth.
    pub spec_fresh: Fresh,
    /// Records in, a second, lately.
    pub in_per_s: Series,
    /// Records out, a second, lately.
    pub out_per_s: Series,
    /// What both are worth.
    pub traffic_fresh: Fresh,
    /// Its partitions that are open here.
    pub partitions: Vec<PartitionRow>,
    /// How many there are in all.
    pub partitions_total: u64,
    /// What the numbers of the partitions are worth.
    pub fresh: Fresh,
    /// Who reads it, slowest first.
    pub subscriptions: Vec<SubscriptionRow>,
    /// How many there are in all.
    pub subscriptions_total: u64,
    /// What the subscriptions are worth.
    pub subscriptions_fresh: Fresh,
    /// Places kept for readers.
    pub cursors: Vec<CursorRow>,
    /// How many there are in all.
    pub cursors_total: u64,
    /// What the cursors are worth.
    pub cursors_fresh: Fresh,
    /// Newest records, newest first.
    pub newest: Vec<RecordRow>,
    /// What they are worth.
    pub newest_fresh: Fresh,
}

page!(Stream, "stream.html", "streams", live: true, |page| page.address.name.as_str());

/// A queue in the list.
#[derive(Clone, Debug, Serialize)]
pub struct QueueRow {
    /// Which.
    pub address: Address,
    /// How it is.
    pub state: State,
    /// Of one that is deleted: time until its data may go, milliseconds.
    pub purge_in_ms: Option<u64>,
    /// Whether it survives a crash.
    pub durable: bool,
    /// Messages to be taken (durable, when the queue is).
    pub ready: u64,
    /// Messages kept back until a time (durable, when the queue is).
    pub delayed: u64,
    /// Messages somebody has reserved (live).
    pub in_flight: u64,
    /// Dead letters (durable, when the queue is).
    pub dead: u64,
    /// Age of the oldest message that is ready, milliseconds.
    pub oldest_ms: Option<u64>,
    /// Messages put, a second (live).
    pub put_per_s: f64,
    /// Messages acknowledged, a second (live).
    pub ack_per_s: f64,
}

/// Queues there are.
#[derive(Clone, Debug, Serialize)]
pub struct Queues {
    /// How the list was asked for.
    pub list: Listing,
    /// The queues.
    pub rows: Vec<QueueRow>,
    /// What the numbers are worth.
    pub fresh: Fresh,
}

page!(Queues, "queues.html", "queues", live: true, |_page| "Queues");

/// A consumer group of a queue.
#[derive(Clone, Debug, Serialize)]
pub struct GroupRow {
    /// What it is called; empty for the default group.
    pub name: String,
    /// Messages to be taken.
    pub ready: u64,
    /// Messages kept back.
    pub delayed: u64,
    /// Messages reserved.
    pub in_flight: u64,
    /// Most that may be reserved.
    pub in_flight_max: u64,
    /// Dead letters.
    pub dead: u64,
    /// Consumers connected.
    pub consumers: u64,
    /// Age of the oldest message that is ready, milliseconds.
    pub oldest_ms: Option<u64>,
}

/// One reason why nothing is delivered, or that all is well.
#[derive(Clone, Debug, Serialize)]
pub struct WhyRow {
    /// Group it holds for; empty for the default group.
    pub group: String,
    /// How bad.
    pub level: Level,
    /// Stable word of the reason.
    pub code: String,
    /// In a sentence.
    pub text: String,
    /// Numbers that come with it.
    pub facts: Vec<Fact>,
    /// What to do about it.
    pub advice: String,
}

/// One queue.
#[derive(Clone, Debug, Serialize)]
pub struct Queue {
    /// Which.
    pub address: Address,
    /// How it is.
    pub state: State,
    /// Whether it survives a crash.
    pub durable: bool,
    /// That it is deleted, if it is.
    pub deletion: Option<Deletion>,
    /// Why some of this could not be asked; empty when all of it was.
    pub problem: String,
    /// Messages by state, in the order ready, delayed, in flight, dead.
    pub counts: Vec<Share>,
    /// What the counts and the rates are worth.
    pub counts_fresh: Fresh,
    /// Messages put, a second, lately.
    pub put_per_s: Series,
    /// Messages acknowledged, a second, lately.
    pub ack_per_s: Series,
    /// Why nothing is delivered.
    pub why: Vec<WhyRow>,
    /// What the reasons are worth.
    pub why_fresh: Fresh,
    /// Its groups.
    pub groups: Vec<GroupRow>,
    /// What the numbers of the groups are worth.
    pub groups_fresh: Fresh,
    /// What it was declared to be.
    pub spec: Vec<Fact>,
    /// What the declaration is worth.
    pub spec_fresh: Fresh,
}

page!(Queue, "queue.html", "queues", live: true, |page| page.address.name.as_str());

/// A message that somebody has reserved.
#[derive(Clone, Debug, Serialize)]
pub struct InFlightRow {
    /// Number of the message.
    pub message: String,
    /// Group.
    pub group: String,
    /// How often it was delivered, this time included.
    pub attempt: u32,
    /// When it was put, milliseconds since 1970.
    pub put_unix_ms: u64,
    /// How long the lease still runs, milliseconds.
    pub expires_in_ms: u64,
    /// Why it failed before.
    pub last_error: String,
    /// Bytes of the whole message.
    pub size_bytes: u64,
}

/// Messages that somebody has reserved.
#[derive(Clone, Debug, Serialize)]
pub struct InFlight {
    /// Of which queue.
    pub address: Address,
    /// How the list was asked for.
    pub list: Listing,
    /// The messages, in the order they were put.
    pub rows: Vec<InFlightRow>,
    /// What they are worth.
    pub fresh: Fresh,
}

page!(InFlight, "in_flight.html", "queues", live: false, |page| format!("{}: in flight", page.address.name));

/// A dead letter.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetterRow {
    /// Number of the message.
    pub message: String,
    /// Group it is dead for.
    pub group: String,
    /// When it became one, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// When it was put, milliseconds since 1970.
    pub put_unix_ms: u64,
    /// Attempts it had.
    pub attempts: u32,
    /// Stable word for why.
    pub reason: String,
    /// What the last consumer said.
    pub last_error: String,
    /// The beginning of the message.
    pub preview: String,
    /// Bytes of the whole message.
    pub size_bytes: u64,
}

/// Dead letters of a queue.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetters {
    /// Of which queue.
    pub address: Address,
    /// How the list was asked for; `search` is the beginning of the error.
    pub list: Listing,
    /// The letters, newest first.
    pub rows: Vec<DeadLetterRow>,
    /// What they are worth.
    pub fresh: Fresh,
}

page!(DeadLetters, "dead_letters.html", "queues", live: false, |page| format!("{}: dead letters", page.address.name));

/// A cache in the list.
#[derive(Clone, Debug, Serialize)]
pub struct CacheRow {
    /// Which.
    pub address: Address,
    /// How it is.
    pub state: State,
    /// Of one that is deleted: time until its data may go, milliseconds.
    pub purge_in_ms: Option<u64>,
    /// Entries.
    pub entries: u64,
    /// Bytes they take, overhead included.
    pub used_bytes: u64,
    /// Most they may take.
    pub budget_bytes: u64,
    /// Gets that found something, in thousandths of the last minute.
    pub hit_permille: Option<u64>,
    /// Gets a second.
    pub get_per_s: f64,
    /// Sets a second.
    pub set_per_s: f64,
    /// Entries put out for room, a second.
    pub evicted_per_s: f64,
}

/// Caches there are.
#[derive(Clone, Debug, Serialize)]
pub struct Caches {
    /// How the list was asked for.
    pub list: Listing,
    /// The caches.
    pub rows: Vec<CacheRow>,
    /// What the numbers are worth.
    pub fresh: Fresh,
}

page!(Caches, "caches.html", "caches", live: true, |_page| "Caches");

/// One partition of a cache.
#[derive(Clone, Debug, Serialize)]
pub struct CachePartitionRow {
    /// Its number.
    pub partition: u32,
    /// Core that owns it.
    pub core: u16,
    /// Entries.
    pub entries: u64,
    /// Bytes they take.
    pub used_bytes: u64,
    /// Most they may take.
    pub budget_bytes: u64,
    /// Gets that found something, in thousandths.
    pub hit_permille: Option<u64>,
    /// Entries put out for room, a second.
    pub evicted_per_s: f64,
    /// Entries whose time was over, a second.
    pub expired_per_s: f64,
    /// Watches.
    pub watches: u64,
}

/// One cache.
#[derive(Clone, Debug, Serialize)]
pub struct Cache {
    /// Which.
    pub address: Address,
    /// How it is.
    pub state: State,
    /// That it is deleted, if it is.
    pub deletion: Option<Deletion>,
    /// Bytes by what they are for, of the budget.
    pub memory: Vec<Share>,
    /// Most it may take.
    pub budget_bytes: u64,
    /// Hit ratio in percent, lately.
    pub hit_percent: Series,
    /// Gets a second, lately.
    pub get_per_s: Series,
    /// Its partitions that are open here.
    pub partitions: Vec<CachePartitionRow>,
    /// How many there are in all.
    pub partitions_total: u64,
    /// What the numbers are worth.
    pub fresh: Fresh,
    /// What it was declared to be.
    pub spec: Vec<Fact>,
    /// What the declaration is worth.
    pub spec_fresh: Fresh,
}

page!(Cache, "cache.html", "caches", live: true, |page| page.address.name.as_str());

/// One connection.
#[derive(Clone, Debug, Serialize)]
pub struct SessionRow {
    /// Its number.
    pub session: String,
    /// Who.
    pub principal: String,
    /// Whose.
    pub tenant: String,
    /// Where from.
    pub remote: String,
    /// `quic`, `websocket` or `tcp`.
    pub transport: String,
    /// Core it lives on.
    pub core: u16,
    /// How long it has been connected, milliseconds.
    pub connected_ms: u64,
    /// How long it has said nothing, milliseconds.
    pub idle_ms: u64,
    /// Messages from it.
    pub received: u64,
    /// Messages to it.
    pub sent: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Subscriptions.
    pub subscriptions: u64,
}

/// Who is connected.
#[derive(Clone, Debug, Serialize)]
pub struct Sessions {
    /// How the list was asked for.
    pub list: Listing,
    /// The sessions.
    pub rows: Vec<SessionRow>,
    /// What the numbers are worth.
    pub fresh: Fresh,
}

page!(Sessions, "sessions.html", "sessions", live: true, |_page| "Sessions");
