//! A client program: it connects, opens its resource, does its one kind of
//! work, and tells the truth-keeper what it was told.

mod appender;
mod inspector;
mod producer;
mod reading;
mod subscriber;
mod tenant;
mod undertaker;
mod worker;

use core::fmt;

use pinion_simkit::SimRng;
use pinion_types::block::Record;
use pinion_types::{ErrorCode, PartitionId, Refusal, ResourceKind, SubscriptionId, WallMs};
use pinion_wire::message::{Durability, Handle, Hello, MAGIC, Open, Reply, Request, Spec};

use super::client::{Answer, Client, Got};
use super::truth::{GroupName, PlayerId, Truth, headers_of};
use crate::{Violation, promise};

pub(crate) use appender::Appender;
pub(crate) use inspector::{Inspector, Report};
pub(crate) use producer::{Habits, Producer};
pub(crate) use reading::{Bookmark, Reader};
pub(crate) use subscriber::Subscriber;
pub(crate) use tenant::{TENANT, Tenant};
pub(crate) use undertaker::{Manner, Undertaker};
pub(crate) use worker::Worker;

/// The token that every player shows.
pub(crate) const TOKEN: &[u8] = b"player";
/// Namespace of every resource.
const NAMESPACE: &str = "sim";

/// What there is to work with.
#[derive(Clone, Debug)]
pub(crate) struct ResourcePlan {
    pub(crate) kind: ResourceKind,
    pub(crate) name: String,
    pub(crate) spec: Spec,
    /// Consumer groups of a queue.
    pub(crate) groups: Vec<GroupName>,
    /// Some messages have a delay or a time to live.
    pub(crate) timed: bool,
    /// Keys that messages of a queue have; 0 is none.
    pub(crate) keys: u8,
    /// One more group of a queue comes and goes.
    pub(crate) tenant: bool,
}

/// Where the world's clocks stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    /// Nanoseconds since the world began.
    pub(crate) world: u64,
    pub(crate) wall: WallMs,
    /// How often somebody has set the wall clock.
    pub(crate) jumps: u64,
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
#[derive(Debug)]
pub(crate) enum Role {
    Producer(Producer),
    Subscriber(Subscriber),
    Reader(Reader),
    Bookmark(Bookmark),
    Worker(Worker),
    Tenant(Tenant),
    Undertaker(Undertaker),
    Appender(Appender),
    Inspector(Inspector),
}

impl Role {
    const fn name(&self) -> &'static str {
        match self {
            Self::Producer(_) => "producer",
            Self::Subscriber(_) => "subscriber",
            Self::Reader(_) => "reader",
            Self::Bookmark(_) => "bookmark",
            Self::Worker(_) => "worker",
            Self::Tenant(_) => "tenant",
            Self::Undertaker(_) => "undertaker",
            Self::Appender(_) => "appender",
            Self::Inspector(_) => "inspector",
        }
    }
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

    /// Bytes it takes of a delivery stream before it must be asked again.
    pub(crate) fn window(&self) -> Option<usize> {
        match &self.role {
            Role::Subscriber(subscriber) => subscriber.window(),
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
            Role::Producer(producer) => producer.lost(),
            Role::Subscriber(subscriber) => subscriber.lost(),
            Role::Reader(reader) => reader.lost(),
            Role::Bookmark(bookmark) => bookmark.lost(),
            Role::Worker(worker) => {
                worker.lost();
                let key = (self.resource, self.partition);
                truth.queue(key).consumer_gone(self.id);
            }
            Role::Tenant(tenant) => {
                tenant.lost(self.id, (self.resource, self.partition), truth);
            }
            Role::Undertaker(undertaker) => undertaker.lost(),
            Role::Appender(appender) => {
                appender.lost((self.resource, self.partition), self.id, truth);
            }
            Role::Inspector(inspector) => inspector.lost(),
        }
    }

    /// Who it is, for the reader of a failure.
    pub(crate) fn title(&self) -> String {
        let (id, name) = (self.id, self.role.name());
        format!("{name} {id} of {}/{}", self.resource, self.partition)
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
            Role::Producer(producer) => producer.is_done(),
            Role::Undertaker(undertaker) => undertaker.is_done(),
            Role::Tenant(tenant) => tenant.is_done(),
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
        plan: &[ResourcePlan],
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
            Role::Producer(producer) => {
                let plan = &plan[self.resource];
                producer.act(client, rng, time, (place, plan), more, truth);
            }
            Role::Subscriber(subscriber) => subscriber.act(client, rng, time, place, truth),
            Role::Reader(reader) if more => reader.act(client, rng, place, truth),
            Role::Bookmark(bookmark) if more => bookmark.act(client, rng, place, truth),
            Role::Worker(worker) => worker.act(client, rng, time, place, more, truth),
            Role::Tenant(tenant) => tenant.act(client, rng, time, place, more, truth),
            Role::Undertaker(undertaker) => undertaker.act(client, rng, place, more, truth),
            Role::Appender(appender) => appender.act(client, rng, time, place, more, truth),
            Role::Inspector(inspector) => inspector.act(client, place, truth),
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
            truth.counts.backlogged += u64::from(refusal.code == ErrorCode::Backlogged);
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
            Role::Producer(producer) => producer.answered(number, &reply, time.world, key, truth),
            Role::Subscriber(subscriber) => subscriber.answered(number, &reply, key, truth),
            Role::Reader(reader) => reader.answered(number, &reply, key, truth),
            Role::Bookmark(bookmark) => bookmark.answered(number, &reply, key, me, truth),
            Role::Worker(worker) => worker.answered(number, &reply, time, key, me, truth),
            Role::Tenant(tenant) => tenant.answered(number, &reply, time, key, me, truth),
            Role::Undertaker(undertaker) => undertaker.answered(number, &reply, time, key, truth),
            Role::Appender(appender) => {
                appender.answered(number, &reply, time.world, (key, me), truth)
            }
            Role::Inspector(inspector) => {
                inspector.answered(number, &reply, key, &plan[self.resource], truth)
            }
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
            (Role::Worker(worker), Got::End(_) | Got::Fin) => {
                worker.ended();
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
fn record_of(value: u64, key: Option<u8>, len: usize, out: &mut Vec<u8>) {
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.resize(8 + len, value.to_le_bytes()[0] ^ 0x5a);
    let record = Record {
        key: key.as_slice(),
        headers: &headers_of(value),
        value: &bytes,
    };
    record.encode(out).expect("a player's records are small");
}

/// The key of a value's record, of `keys` there are.
fn key_of(value: u64, keys: u8) -> u8 {
    let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    u8::try_from(mixed % u64::from(keys.max(1))).expect("below keys")
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
    reached(durability, false)
}

/// What was acknowledged is as durable as its resource is.
fn reached(durability: Durability, in_memory: bool) -> Result<(), Violation> {
    let promised = if in_memory {
        Durability::Memory
    } else {
        Durability::Disk
    };
    promise!(
        durability == promised,
        "{promised:?} is promised, acknowledged with {durability:?}"
    );
    Ok(())
}
