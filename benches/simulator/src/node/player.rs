//! A client program: it connects, opens its resource, does its one kind of
//! work, and tells the truth-keeper what it was told.

use core::fmt;
use std::collections::{BTreeMap, VecDeque};

use pinion_simkit::SimRng;
use pinion_types::block::Record;
use pinion_types::{
    ErrorCode, Offset, Outcome, PartitionId, ProducerId, Refusal, ResourceKind, Sequence,
    SubscriptionId, WallMs,
};
use pinion_wire::message::{
    Ack, Credit, CursorCommit, CursorGet, DeadSelect, Durability, Fetch, Filter, Handle, Hello,
    MAGIC, Open, Publish, QueueAck, QueueDeadList, QueueExtend, QueueMessages, QueueNack, QueuePut,
    QueueRelease, QueueSubscribe, QueueTake, Reply, Request, Spec, Start, Subscribe, Token,
    TokenList,
};

use super::client::{Answer, Client, Got, Message};
use super::truth::{PlayerId, Reservation, Truth, value_of};
use crate::{Violation, promise};

/// The token that every player shows.
pub(crate) const TOKEN: &[u8] = b"player";
/// Namespace of every resource.
const NAMESPACE: &str = "sim";
/// Batches a producer has on the way.
const UNANSWERED_MAX: usize = 6;
/// Messages a worker holds.
const HELD_MAX: usize = 12;
/// Reservations end this much earlier for the oracle than for the client: the
/// client counts from when it heard of them.
const LEASE_SLACK: u64 = 2_000_000_000;
/// A queue that gave nothing for so long has nothing: delays and backoffs are
/// shorter.
const DRY_AFTER: u64 = 60_000_000_000;

/// What there is to work with.
#[derive(Clone, Debug)]
pub(crate) struct ResourcePlan {
    pub(crate) kind: ResourceKind,
    pub(crate) name: String,
    pub(crate) spec: Spec,
}

/// Where the world's clocks stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    /// Nanoseconds since the world began.
    pub(crate) world: u64,
    pub(crate) wall: WallMs,
}

#[derive(Debug, Default)]
enum Session {
    #[default]
    Off,
    Hello(u32),
    Open(u32),
    Ready(Handle),
    /// The node refuses it for good, such as when it drains.
    Refused,
}

#[derive(Clone, Debug)]
struct Batch {
    first: u64,
    count: u64,
    asked: Option<u32>,
}

/// Publishes or puts, each value once, however often it must try.
#[derive(Debug)]
pub(crate) struct Producer {
    id: u64,
    next: u64,
    batches: VecDeque<Batch>,
    puts: bool,
    body_max: usize,
}

/// Reads a partition from its beginning on and never skips.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    next: Option<u64>,
    subscription: Option<u32>,
    used: u32,
    window: Option<usize>,
    asked: Option<u32>,
}

/// Reads ranges at random; what was acknowledged before must be there.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    asked: BTreeMap<u32, (u64, u64)>,
}

/// Keeps a named cursor.
#[derive(Debug, Default)]
pub(crate) struct Bookmark {
    commits: BTreeMap<u32, u64>,
    gets: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Held {
    id: u64,
    token: Token,
    attempt: u16,
}

#[derive(Debug)]
enum Settling {
    Ack(Vec<Held>),
    Nack(Vec<Held>),
    /// With the time at which it was asked.
    Extend(Vec<Held>, u64),
    Other,
}

/// Takes messages and does all a consumer can do with them.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    /// Is given messages instead of asking for them.
    pub(crate) pushed: bool,
    /// At the end: takes and acknowledges everything.
    pub(crate) sweeping: bool,
    lease_ms: u32,
    held: VecDeque<Held>,
    takes: BTreeMap<u32, u64>,
    settling: BTreeMap<u32, Settling>,
    subscribed: bool,
    retired: bool,
    /// When a take last gave something, and last gave nothing.
    some_at: u64,
    none_at: u64,
}

/// Lists the dead letters, at the end.
#[derive(Debug, Default)]
pub(crate) struct Undertaker {
    asked: Option<u32>,
    from: u64,
    pub(crate) done: bool,
}

#[derive(Debug)]
pub(crate) enum Role {
    Producer(Producer),
    Subscriber(Subscriber),
    Reader(Reader),
    Bookmark(Bookmark),
    Worker(Worker),
    Undertaker(Undertaker),
}

#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) id: PlayerId,
    /// Index of its resource in the world's plan.
    pub(crate) resource: usize,
    pub(crate) partition: u16,
    pub(crate) role: Role,
    session: Session,
    /// What it was refused last, for the reader of a failure.
    refused: Option<Refusal>,
}

impl fmt::Display for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, session) = (self.id, &self.session);
        write!(f, "player {id}, {session:?}, refused {:?}", self.refused)
    }
}

impl Player {
    pub(crate) fn new(id: PlayerId, resource: usize, partition: u16, role: Role) -> Self {
        Self {
            id,
            resource,
            partition,
            role,
            session: Session::Off,
            refused: None,
        }
    }

    pub(crate) fn producer(id: PlayerId, puts: bool, body_max: usize) -> Role {
        Role::Producer(Producer {
            id: 1 + id as u64,
            next: 0,
            batches: VecDeque::new(),
            puts,
            body_max,
        })
    }

    pub(crate) fn subscriber(rng: &mut SimRng) -> Role {
        Role::Subscriber(Subscriber {
            window: rng.one_in(3).then(|| rng.index(2_000)),
            ..Subscriber::default()
        })
    }

    pub(crate) fn worker(rng: &mut SimRng) -> Role {
        Role::Worker(Worker {
            pushed: rng.one_in(3),
            lease_ms: 5_000 + u32::try_from(rng.below(20_000)).expect("small"),
            ..Worker::default()
        })
    }

    /// One that takes and acknowledges all there is.
    pub(crate) fn sweeper() -> Role {
        Role::Worker(Worker {
            sweeping: true,
            lease_ms: 600_000,
            ..Worker::default()
        })
    }

    /// Bytes it takes of a delivery stream before it must be asked again.
    pub(crate) fn window(&self) -> Option<usize> {
        match &self.role {
            Role::Subscriber(subscriber) => subscriber.window,
            _ => None,
        }
    }

    /// A connection is there: it says HELLO.
    pub(crate) fn connected(&mut self, client: &mut Client) {
        let hello = Hello {
            magic: MAGIC,
            version_min: 1,
            version_max: 1,
            capabilities: 0,
            token: TOKEN,
            client_name: "player",
        };
        self.session = Session::Hello(client.send(&Request::Hello(hello)));
    }

    /// The connection is gone, and with it everything that was on its way.
    pub(crate) fn lost(&mut self, truth: &mut Truth) {
        self.session = Session::Off;
        match &mut self.role {
            Role::Producer(producer) => {
                for batch in &mut producer.batches {
                    batch.asked = None;
                }
            }
            Role::Subscriber(subscriber) => {
                subscriber.subscription = None;
                subscriber.asked = None;
            }
            Role::Reader(reader) => reader.asked.clear(),
            Role::Bookmark(bookmark) => {
                bookmark.commits.clear();
                bookmark.gets.clear();
            }
            Role::Worker(worker) => {
                worker.held.clear();
                worker.takes.clear();
                worker.settling.clear();
                worker.subscribed = false;
                let queue = truth.queues.entry((self.resource, self.partition));
                queue.or_default().consumer_gone(self.id);
            }
            Role::Undertaker(undertaker) => undertaker.asked = None,
        }
    }

    /// Whether the node wants nothing more of it.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.session, Session::Refused)
    }

    /// Whether its partition was closed, since it was last asked.
    pub(crate) fn met_a_fence(&mut self) -> bool {
        let fenced = |refusal: &Refusal| refusal.code == ErrorCode::PartitionFenced;
        self.refused.take_if(|refusal| fenced(refusal)).is_some()
    }

    /// Whether everything it wanted to say is said and answered.
    pub(crate) fn is_done(&self) -> bool {
        match &self.role {
            Role::Producer(producer) => producer.batches.is_empty(),
            Role::Undertaker(undertaker) => undertaker.done,
            _ => true,
        }
    }

    // ---- doing -------------------------------------------------------------

    /// Does one thing. With `more` false it only finishes what it began.
    pub(crate) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        time: Time,
        more: bool,
        truth: &mut Truth,
    ) {
        let Session::Ready(handle) = self.session else {
            return;
        };
        let place = Place {
            handle,
            partition: PartitionId(self.partition),
            key: (self.resource, self.partition),
            player: self.id,
        };
        match &mut self.role {
            Role::Producer(producer) => producer.act(client, rng, place, more, truth),
            Role::Subscriber(subscriber) => subscriber.act(client, rng, place),
            Role::Reader(reader) if more => reader.act(client, rng, place, truth),
            Role::Bookmark(bookmark) if more => bookmark.act(client, rng, place, truth),
            Role::Worker(worker) => worker.act(client, rng, time, place, more, truth),
            Role::Undertaker(undertaker) => undertaker.act(client, place),
            Role::Reader(_) | Role::Bookmark(_) => {}
        }
    }

    // ---- hearing -----------------------------------------------------------

    /// An answer came.
    pub(crate) fn answered(
        &mut self,
        client: &mut Client,
        answer: &Answer,
        time: Time,
        plan: &[ResourcePlan],
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let reply = answer.reply()?;
        match (&self.session, &reply) {
            (Session::Hello(asked), Reply::Welcome(_)) if *asked == answer.correlation => {
                let plan = &plan[self.resource];
                let open = Open {
                    kind: plan.kind,
                    namespace: NAMESPACE,
                    name: &plan.name,
                    spec: Some(plan.spec),
                };
                self.session = Session::Open(client.send(&Request::Open(open)));
                return Ok(());
            }
            (Session::Open(asked), Reply::Opened(opened)) if *asked == answer.correlation => {
                self.session = Session::Ready(opened.handle);
                return Ok(());
            }
            (Session::Ready(_), _) => {}
            (_, Reply::Error(_)) => {
                truth.counts.refused += 1;
                self.session = Session::Refused;
                return Ok(());
            }
            (session, reply) => {
                return Err(Violation::new(format!("{reply:?} to {session:?}")));
            }
        }
        if let Some(refusal) = answer.refusal() {
            truth.counts.refused += 1;
            self.refused = Some(refusal);
            let known = !matches!(
                refusal.code,
                ErrorCode::Malformed | ErrorCode::BadBatch | ErrorCode::UnknownOpcode
            );
            promise!(known, "player {} was told {:?}", self.id, self.refused);
        }
        let key = (self.resource, self.partition);
        let me = self.id;
        let number = answer.correlation;
        match &mut self.role {
            Role::Producer(producer) => producer.answered(number, &reply, key, truth),
            Role::Subscriber(subscriber) => {
                subscriber.answered(number, &reply);
                Ok(())
            }
            Role::Reader(reader) => reader.answered(number, &reply, key, truth),
            Role::Bookmark(bookmark) => bookmark.answered(number, &reply, key, me, truth),
            Role::Worker(worker) => worker.answered(number, &reply, time, key, me, truth),
            Role::Undertaker(undertaker) => undertaker.answered(number, &reply, key, truth),
        }
    }

    /// Something was delivered on a subscription.
    pub(crate) fn delivered(
        &mut self,
        subscription: SubscriptionId,
        got: Got,
        time: Time,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let key = (self.resource, self.partition);
        match (&mut self.role, got) {
            (Role::Subscriber(subscriber), got) => {
                subscriber.delivered(subscription, &got, key, truth)
            }
            (Role::Worker(worker), Got::Message(message)) => {
                let since = time.world;
                worker.hold(&message, since, time, key, self.id, truth)
            }
            (Role::Worker(worker), Got::End | Got::Fin) => {
                worker.subscribed = false;
                Ok(())
            }
            (role, got) => Err(Violation::new(format!("{got:?} for {role:?}"))),
        }
    }
}

#[derive(Clone, Copy)]
struct Place {
    handle: Handle,
    partition: PartitionId,
    key: (usize, u16),
    player: PlayerId,
}

/// A value as the bytes of a record: the number, and bytes that follow from it.
fn record_of(value: u64, len: usize, out: &mut Vec<u8>) {
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.resize(8 + len, value.to_le_bytes()[0] ^ 0x5a);
    let record = Record {
        key: b"",
        headers: b"",
        value: &bytes,
    };
    record.encode(out).expect("a player's records are small");
}

/// How long a value's record is: the same at every try.
fn len_of(value: u64, max: usize) -> usize {
    let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let max = if mixed.is_multiple_of(16) {
        max
    } else {
        max / 16
    };
    usize::try_from(mixed).unwrap_or(0) % (max + 1)
}

/// The value that a record's bytes are of, all of them right.
pub(crate) fn value_in(bytes: &[u8]) -> Result<u64, Violation> {
    let (number, filler) = bytes
        .split_first_chunk()
        .ok_or_else(|| Violation::new(format!("a value of {} bytes", bytes.len())))?;
    let value = u64::from_le_bytes(*number);
    let fill = number[0] ^ 0x5a;
    promise!(
        filler.iter().all(|byte| *byte == fill),
        "the bytes of {value:x} are not what was sent"
    );
    Ok(value)
}

fn disk(durability: Durability) -> Result<(), Violation> {
    promise!(
        durability == Durability::Disk,
        "a durable resource acknowledged with {durability:?}"
    );
    Ok(())
}

impl Producer {
    fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        place: Place,
        more: bool,
        truth: &mut Truth,
    ) {
        if more && self.batches.len() < UNANSWERED_MAX {
            let count = if rng.one_in(4) { rng.between(2, 8) } else { 1 };
            for number in self.next..self.next + count {
                let value = value_of(self.id, number);
                if self.puts {
                    truth.queues.entry(place.key).or_default().tried(value);
                } else {
                    truth.streams.entry(place.key).or_default().tried(value);
                }
            }
            self.batches.push_back(Batch {
                first: self.next,
                count,
                asked: None,
            });
            self.next += count;
        }
        // In order: what follows a batch that is not on its way waits.
        if let Some(index) = self.batches.iter().position(|b| b.asked.is_none()) {
            let again = self.batches.iter().skip(index).any(|b| b.asked.is_some());
            if !again {
                self.send(client, index, place);
            }
        }
    }

    fn send(&mut self, client: &mut Client, index: usize, place: Place) {
        let batch = &mut self.batches[index];
        let mut records = Vec::new();
        for number in batch.first..batch.first + batch.count {
            let value = value_of(self.id, number);
            record_of(value, len_of(value, self.body_max), &mut records);
        }
        let producer = Some((ProducerId(self.id), Sequence(batch.first)));
        let record_count = u32::try_from(batch.count).expect("a batch is small");
        let Place {
            handle, partition, ..
        } = place;
        let asked = if self.puts {
            client.send(&Request::QueuePut(QueuePut {
                handle,
                partition,
                producer,
                delay_ms: 0,
                ttl_ms: 0,
                record_count,
                records: &records,
            }))
        } else {
            client.send(&Request::Publish(Publish {
                handle,
                partition,
                ack: Ack::Leader,
                producer,
                expected_offset: None,
                record_count,
                records: &records,
            }))
        };
        batch.asked = Some(asked);
    }

    fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let Some(index) = self.batches.iter().position(|b| b.asked == Some(number)) else {
            return Err(Violation::new(format!("{reply:?} to nothing")));
        };
        let (first, count) = (self.batches[index].first, self.batches[index].count);
        let stored = match reply {
            Reply::Published(published) => {
                disk(published.durability)?;
                (published.first_offset.0, published.record_count)
            }
            Reply::Enqueued(enqueued) => {
                disk(enqueued.durability)?;
                (enqueued.first_id, enqueued.message_count)
            }
            // Not done, or nobody knows: tried again, and stored once all the same.
            _ => {
                self.batches[index].asked = None;
                return Ok(());
            }
        };
        promise!(
            u64::from(stored.1) == count,
            "{} records of {count} were stored",
            stored.1
        );
        for step in 0..count {
            let value = value_of(self.id, first + step);
            if self.puts {
                truth.counts.put += 1;
                truth
                    .queues
                    .entry(key)
                    .or_default()
                    .put(stored.0 + step, value)?;
            } else {
                truth.counts.published += 1;
                truth
                    .streams
                    .entry(key)
                    .or_default()
                    .known(stored.0 + step, value)?;
            }
        }
        self.batches.remove(index);
        Ok(())
    }
}

impl Subscriber {
    /// The next offset it waits for.
    pub(crate) fn reached(&self) -> u64 {
        self.next.unwrap_or(0)
    }

    fn act(&mut self, client: &mut Client, rng: &mut SimRng, place: Place) {
        let Place {
            handle, partition, ..
        } = place;
        match self.subscription {
            None => {
                self.used += 1;
                self.subscription = Some(self.used);
                let start = self
                    .next
                    .map_or(Start::Earliest, |next| Start::Offset(Offset(next)));
                self.asked = Some(client.send(&Request::Subscribe(Subscribe {
                    handle,
                    partition,
                    subscription: SubscriptionId(self.used),
                    start,
                    overflow: None,
                    backlog_max: 0,
                    credit_records: 20,
                    credit_bytes: 1 << 16,
                    filter: Filter::everything(),
                })));
            }
            Some(subscription) => {
                let credit = Credit {
                    subscription: SubscriptionId(subscription),
                    records: u32::try_from(rng.below(30)).expect("small"),
                    bytes: 1 << 14,
                };
                client.send(&Request::Credit(credit));
            }
        }
    }

    fn answered(&mut self, number: u32, reply: &Reply<'_>) {
        if self.asked == Some(number) {
            self.asked = None;
            if matches!(reply, Reply::Error(_)) {
                self.subscription = None;
            }
        }
    }

    fn delivered(
        &mut self,
        subscription: SubscriptionId,
        got: &Got,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        if self.subscription != Some(subscription.0) {
            return Ok(());
        }
        match got {
            Got::Record { offset, value } => {
                let stream = truth.streams.entry(key).or_default();
                let next = self.next.unwrap_or(stream.first);
                promise!(
                    *offset == next,
                    "offset {offset} was delivered, {next} is next"
                );
                stream.known(*offset, value_in(value)?)?;
                truth.counts.delivered += 1;
                self.next = Some(offset + 1);
                Ok(())
            }
            Got::Lag(lag) => Err(Violation::new(format!(
                "a stream that keeps everything skipped something: {lag:?}"
            ))),
            Got::End | Got::Fin => {
                self.subscription = None;
                Ok(())
            }
            Got::Message(_) => Err(Violation::new("a message of a stream".to_owned())),
        }
    }
}

impl Reader {
    fn act(&mut self, client: &mut Client, rng: &mut SimRng, place: Place, truth: &mut Truth) {
        if self.asked.len() > 3 {
            return;
        }
        let stream = truth.streams.entry(place.key).or_default();
        let (first, end) = (stream.first, stream.end());
        let from = rng.between(first, end.max(first));
        let asked = client.send(&Request::Fetch(Fetch {
            handle: place.handle,
            partition: place.partition,
            from: Offset(from),
            max_records: u32::try_from(rng.between(1, 40)).expect("small"),
            max_bytes: 1 << rng.between(6, 18),
            filter: Filter::everything(),
        }));
        self.asked.insert(asked, (from, end));
    }

    fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let Some((from, known_end)) = self.asked.remove(&number) else {
            return Err(Violation::new(format!("{reply:?} to nothing")));
        };
        let Reply::Fetched(fetched) = reply else {
            return Ok(());
        };
        promise!(
            fetched.end.0 >= known_end,
            "the end is {}, somebody knew of {known_end} before",
            fetched.end.0
        );
        let mut next = from;
        for block in fetched.blocks() {
            let (header, records) =
                block.map_err(|error| Violation::new(format!("not a block: {error:?}")))?;
            let offsets = header.first_offset.0..;
            for (offset, record) in offsets.zip(pinion_types::block::records(records)) {
                let record =
                    record.map_err(|error| Violation::new(format!("not a record: {error:?}")))?;
                let stream = truth.streams.entry(key).or_default();
                stream.known(offset, value_in(record.value)?)?;
                truth.counts.delivered += 1;
                promise!(offset == next, "fetched {offset}, {next} is next");
                next += 1;
            }
        }
        promise!(
            fetched.next.0 == next,
            "fetched up to {next}, told to go on at {}",
            fetched.next.0
        );
        promise!(
            next > from || from >= known_end,
            "nothing was fetched at {from} of {known_end}"
        );
        Ok(())
    }
}

impl Bookmark {
    fn act(&mut self, client: &mut Client, rng: &mut SimRng, place: Place, truth: &mut Truth) {
        let Place {
            handle,
            partition,
            key,
            player,
        } = place;
        let name = format!("bookmark-{player}");
        let cursor = truth.cursors.entry((key.0, key.1, player as u64));
        if rng.coin() {
            let end = truth.streams.entry(key).or_default().end();
            let offset = rng.below(end + 1);
            cursor.or_default().asked(offset);
            let asked = client.send(&Request::CursorCommit(CursorCommit {
                handle,
                partition,
                offset: Offset(offset),
                name: &name,
            }));
            self.commits.insert(asked, offset);
        } else if self.commits.is_empty() && self.gets.is_empty() {
            let asked = client.send(&Request::CursorGet(CursorGet {
                handle,
                partition,
                name: &name,
            }));
            self.gets.push(asked);
        }
    }

    fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        me: PlayerId,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let cursor = truth.cursors.entry((key.0, key.1, me as u64)).or_default();
        if let Some(offset) = self.commits.remove(&number) {
            if let Reply::Cursor(got) = reply {
                disk(got.durability)?;
                promise!(got.offset.0 == offset, "a cursor at {}", got.offset.0);
                cursor.acked(offset);
            }
            return Ok(());
        }
        self.gets.retain(|asked| *asked != number);
        match reply {
            Reply::Cursor(got) => cursor.read(Some(got.offset.0)),
            Reply::Error(refusal) if refusal.code == ErrorCode::CursorUnknown => cursor.read(None),
            _ => Ok(()),
        }
    }
}

impl Worker {
    /// One that wants nothing any more.
    pub(crate) fn retired() -> Self {
        Self {
            retired: true,
            ..Self::default()
        }
    }

    /// Whether nothing came for so long that nothing can come.
    pub(crate) fn is_dry(&self) -> bool {
        let idle = self.held.is_empty() && self.settling.is_empty();
        idle && self.none_at > self.some_at + DRY_AFTER
    }

    fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        time: Time,
        place: Place,
        more: bool,
        truth: &mut Truth,
    ) {
        if self.retired {
            return;
        }
        if self.some_at == 0 {
            self.some_at = time.world;
        }
        let Place {
            handle, partition, ..
        } = place;
        if self.pushed && !self.sweeping {
            if !self.subscribed && more {
                self.subscribed = true;
                client.send(&Request::QueueSubscribe(QueueSubscribe {
                    handle,
                    partition,
                    subscription: SubscriptionId(1),
                    lease_ms: self.lease_ms,
                    in_flight_max: 0,
                    credit_records: 4,
                    credit_bytes: 1 << 16,
                    group: "",
                }));
            } else if self.held.len() < HELD_MAX && more {
                let credit = Credit {
                    subscription: SubscriptionId(1),
                    records: 2,
                    bytes: 1 << 13,
                };
                client.send(&Request::Credit(credit));
            }
        } else if self.takes.is_empty() && self.held.len() < HELD_MAX && (more || self.sweeping) {
            let wait = if self.sweeping { 0 } else { rng.below(3_000) };
            let asked = client.send(&Request::QueueTake(QueueTake {
                handle,
                partition,
                max_messages: u32::try_from(rng.between(1, 5)).expect("small"),
                max_bytes: 1 << 16,
                wait_ms: u32::try_from(wait).expect("small"),
                lease_ms: self.lease_ms,
                group: "",
            }));
            self.takes.insert(asked, time.world);
        }
        if self.held.is_empty() {
            return;
        }
        let queue = truth.queues.entry(place.key).or_default();
        let choice = if self.sweeping { 0 } else { rng.below(14) };
        let count = 1 + rng.index(self.held.len());
        let some: Vec<Held> = match choice {
            0..=9 => self.held.drain(..count).collect(),
            _ => self.held.iter().take(count).cloned().collect(),
        };
        let mut scratch = Vec::new();
        let given = some.iter().map(|held| held.token);
        let tokens = TokenList::build(&mut scratch, given).expect("few tokens");
        match choice {
            0..=6 => {
                some.iter()
                    .for_each(|held| queue.ack_sent(held.id, place.player));
                let asked = client.send(&Request::QueueAck(QueueAck {
                    handle,
                    partition,
                    group: "",
                    tokens,
                }));
                self.settling.insert(asked, Settling::Ack(some));
            }
            7..=8 => {
                some.iter()
                    .for_each(|held| queue.nack_sent(held.id, place.player));
                let asked = client.send(&Request::QueueNack(QueueNack {
                    handle,
                    partition,
                    delay_ms: rng.coin().then(|| rng.below(5_000)),
                    error: "it did not work",
                    group: "",
                    tokens,
                }));
                self.settling.insert(asked, Settling::Nack(some));
            }
            9 => {
                some.iter()
                    .for_each(|held| queue.released(held.id, place.player));
                let asked = client.send(&Request::QueueRelease(QueueRelease {
                    handle,
                    partition,
                    group: "",
                    tokens,
                }));
                self.settling.insert(asked, Settling::Other);
            }
            10..=11 => {
                let asked = client.send(&Request::QueueExtend(QueueExtend {
                    handle,
                    partition,
                    lease_ms: self.lease_ms,
                    group: "",
                    tokens,
                }));
                let extend = Settling::Extend(some, time.world);
                self.settling.insert(asked, extend);
            }
            // Forgets them: their reservations run out.
            _ if rng.one_in(4) => self.held.clear(),
            _ => {}
        }
    }

    fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        time: Time,
        key: (usize, u16),
        me: PlayerId,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        if let Some(since) = self.takes.remove(&number) {
            if let Reply::Taken(taken) = reply {
                return self.took(taken, since, time, key, me, truth);
            }
            return Ok(());
        }
        let Some(settling) = self.settling.remove(&number) else {
            if matches!(reply, Reply::Error(_)) {
                self.subscribed = false;
            }
            return Ok(());
        };
        let queue = truth.queues.entry(key).or_default();
        let Reply::Settled(settled) = reply else {
            // Nothing happened, or nobody knows.
            let nothing = matches!(reply, Reply::Error(r) if r.outcome == Outcome::NotAdmitted);
            match settling {
                Settling::Ack(some) if nothing => {
                    some.iter().for_each(|held| queue.ack_refused(held.id, me));
                    self.held.extend(some);
                }
                Settling::Ack(some) => {
                    some.iter().for_each(|held| queue.ack_unknown(held.id, me));
                }
                _ => {}
            }
            return Ok(());
        };
        match settling {
            Settling::Ack(some) => {
                disk(settled.durability)?;
                for (held, result) in some.iter().zip(settled.results.iter()) {
                    match result {
                        None => {
                            queue.ack_done(held.id);
                            truth.counts.acked += 1;
                        }
                        Some(_) => queue.ack_refused(held.id, me),
                    }
                }
            }
            Settling::Nack(some) => {
                for (held, result) in some.iter().zip(settled.results.iter()) {
                    if result.is_none() {
                        queue.nack_done(held.id, held.attempt);
                    }
                }
            }
            Settling::Extend(some, since) => {
                let lease = u64::from(self.lease_ms) * 1_000_000;
                let until = (since + lease).saturating_sub(LEASE_SLACK);
                for (held, result) in some.iter().zip(settled.results.iter()) {
                    if result.is_none() {
                        queue.extended(held.id, me, until);
                    }
                }
            }
            Settling::Other => {}
        }
        Ok(())
    }

    fn took(
        &mut self,
        taken: &QueueMessages<'_>,
        since: u64,
        time: Time,
        key: (usize, u16),
        me: PlayerId,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let mut any = false;
        for message in taken.messages.iter() {
            any = true;
            let message = Message {
                id: message.id,
                token: message.token,
                attempt: message.attempt,
                lease_ms: taken.lease_ms,
                value: message.record.value.to_vec(),
            };
            self.hold(&message, since, time, key, me, truth)?;
        }
        if any {
            self.some_at = time.world;
        } else {
            self.none_at = time.world;
        }
        Ok(())
    }

    /// A message is this worker's until its reservation, which began after
    /// `since`, runs out.
    fn hold(
        &mut self,
        message: &Message,
        since: u64,
        time: Time,
        key: (usize, u16),
        me: PlayerId,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        truth.counts.taken += 1;
        let value = value_in(&message.value)?;
        let lease = u64::from(message.lease_ms) * 1_000_000;
        let given = Reservation {
            player: me,
            until: (since + lease).saturating_sub(LEASE_SLACK),
            attempt: message.attempt,
        };
        let queue = truth.queues.entry(key).or_default();
        queue.delivered(message.id, value, time.world, given)?;
        self.held.push_back(Held {
            id: message.id,
            token: message.token,
            attempt: message.attempt,
        });
        Ok(())
    }
}

impl Undertaker {
    fn act(&mut self, client: &mut Client, place: Place) {
        if self.done || self.asked.is_some() {
            return;
        }
        let asked = client.send(&Request::QueueDeadList(QueueDeadList {
            handle: place.handle,
            partition: place.partition,
            from: self.from,
            max_items: 16,
            max_bytes: 1 << 16,
            bodies: false,
            select: DeadSelect::default(),
            group: "",
        }));
        self.asked = Some(asked);
    }

    fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        if self.asked.take() != Some(number) {
            return Err(Violation::new(format!("{reply:?} to nothing")));
        }
        let Reply::DeadPage(page) = reply else {
            return Ok(());
        };
        for item in page.items.iter() {
            truth.counts.dead += 1;
            truth
                .queues
                .entry(key)
                .or_default()
                .dead(item.id, item.attempts)?;
        }
        self.from = page.next;
        self.done = page.next == 0;
        Ok(())
    }
}
