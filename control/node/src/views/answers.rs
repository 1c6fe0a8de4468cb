//! How a core answers those who look into it.

use std::collections::VecDeque;

use pinion_session::{CloseCode, Phase};
use pinion_types::route::partition_of;
use pinion_types::{
    CoreId, ErrorCode, FactId, Monotonic, PartitionId, Refusal, ResourceId, ResourceKind,
    SessionId, SubscriptionId,
};
use pinion_wire::frame::{Split, split};
use pinion_wire::message::{Reply, Request};

use super::{
    CoreFacts, HOLDERS_PER_PAGE, LOOKS_PER_PAGE, LogFacts, NODE, PARTITIONS_PER_PAGE,
    PARTITIONS_PER_TURN, Page, PartitionDetail, PartitionFacts, PartitionKey, PartitionPage,
    PumpFacts, QUESTIONS_WAITING_MAX, Question, SESSIONS_PER_PAGE, SUBSCRIPTIONS_PER_PAGE,
    SessionFacts, SubscriptionFacts, View,
};
use crate::connection::Connection;
use crate::core::{Core, answer};
use crate::execute::{Executed, Target};
use crate::mail::{ControlMail, Origin};
use crate::requests::{Place, target};

// No data core has the number that stands for the node itself.
const _: () = assert!(pinion_types::limits::DATA_CORES_MAX < NODE.0);

const NANOS_PER_MS: u64 = 1_000_000;

/// Questions that are not answered.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// For their turn.
    waiting: VecDeque<(u64, Box<Question>)>,
    /// What is being told, a part in each turn.
    telling: Option<Telling>,
    /// Requests that wait for something else, such as the disk.
    deferred: usize,
}

/// A page of partitions that is not whole.
#[derive(Debug)]
struct Telling {
    id: u64,
    of: Asked,
    page: PartitionPage,
    /// Its first place, and the next to be looked at.
    first: usize,
    place: usize,
    /// What counts for [`LOOKS_PER_PAGE`].
    looks: u64,
}

/// Which partitions a page is about.
#[derive(Debug)]
enum Asked {
    /// Those that are open, of one kind or of all.
    Open(Option<ResourceKind>),
    /// These.
    Named(Box<[PartitionKey]>),
}

impl Telling {
    fn new(core: CoreId, id: u64, of: Asked, first: usize) -> Self {
        let partitions = match &of {
            Asked::Open(_) => PARTITIONS_PER_PAGE,
            Asked::Named(keys) => keys.len(),
        };
        Self {
            id,
            page: PartitionPage::new(core, partitions),
            of,
            first,
            place: first,
            looks: 0,
        }
    }

    /// How many more places may be looked at, of `places` that there are.
    fn left(&self, places: usize) -> usize {
        if self.looks >= LOOKS_PER_PAGE {
            return 0;
        }
        let end = places.min(self.first + PARTITIONS_PER_PAGE);
        end.saturating_sub(self.place)
    }
}

impl Core {
    /// Somebody looks in. It is answered at the end of a turn.
    pub(crate) fn handle_question(&mut self, id: u64, question: Box<Question>) {
        let Questions {
            waiting,
            telling,
            deferred,
        } = &self.questions;
        let unanswered = waiting.len() + usize::from(telling.is_some()) + deferred;
        if unanswered >= QUESTIONS_WAITING_MAX {
            let limit = QUESTIONS_WAITING_MAX as u64;
            let busy = Refusal::new(ErrorCode::Busy).with(FactId::Limit, limit);
            self.view(id, View::Refused(busy));
            return;
        }
        self.questions.waiting.push_back((id, question));
    }

    /// Whether a question waits for its turn.
    pub(crate) fn questions_wait(&self) -> bool {
        !self.questions.waiting.is_empty() || self.questions.telling.is_some()
    }

    /// One question in a turn, or a part of one, so that no turn is longer than that.
    pub(crate) fn take_question(&mut self) {
        if let Some(telling) = self.questions.telling.take() {
            self.tell_on(telling);
            return;
        }
        let Some((id, question)) = self.questions.waiting.pop_front() else {
            return;
        };
        let view = match *question {
            Question::Core => View::Core(Box::new(self.core_facts())),
            Question::Partitions { after, kind } => {
                let (of, first) = (Asked::Open(kind), first_after(after));
                self.tell_on(Telling::new(self.config.core, id, of, first));
                return;
            }
            Question::PartitionsOf { keys } => {
                self.tell_on(Telling::new(self.config.core, id, Asked::Named(keys), 0));
                return;
            }
            Question::Sessions { after } => View::Sessions(self.session_page(after)),
            Question::Subscriptions { after, resource } => {
                View::Subscriptions(self.subscription_page(after, resource))
            }
            Question::Holders { of, group, ids } => {
                let ids = &ids[..ids.len().min(HOLDERS_PER_PAGE)];
                View::Holders(self.shard.holders(of, group.as_bytes(), ids))
            }
            Question::CloseSession { session } => View::Done(self.close_session(session)),
            Question::EndSubscription {
                session,
                subscription,
            } => View::Done(self.end_by_operator(session, subscription)),
            Question::Request {
                resource,
                partition,
                frame,
            } => match self.run_for_node(id, resource, partition, &frame) {
                Ok(Some(reply)) => View::Reply(reply),
                Ok(None) => {
                    self.questions.deferred += 1;
                    return;
                }
                Err(refusal) => View::Refused(refusal),
            },
        };
        self.view(id, view);
    }

    /// The answer to a request that had to wait.
    pub(crate) fn answer_question(&mut self, id: u64, view: View) {
        debug_assert!(self.questions.deferred > 0, "answered twice: {id}");
        self.questions.deferred = self.questions.deferred.saturating_sub(1);
        self.view(id, view);
    }

    fn view(&mut self, id: u64, view: View) {
        self.control.push_back(ControlMail::View {
            core: self.config.core,
            id,
            view: Box::new(view),
        });
    }

    fn core_facts(&self) -> CoreFacts {
        let (mails_waiting, mail_bytes) = self.mails.depth();
        let logs = self.shard.log_stats();
        CoreFacts {
            core: self.config.core,
            stats: self.stats,
            tally: Box::new(self.tally().clone()),
            connections: self.open as u64,
            held_bytes: self.held_bytes as u64,
            epoch: self.map.epoch(),
            resources: self.map.len() as u64,
            partitions: self.shard.partitions() as u64,
            subscriptions: self.shard.subscriptions() as u64,
            barred: self.barred.len() as u64,
            mails_waiting: mails_waiting as u64,
            mail_bytes: mail_bytes as u64,
            control_waiting: self.control.len() as u64,
            questions_waiting: self.questions.waiting.len() as u64,
            fetches_waiting: self.fetches.len() as u64,
            looks_waiting: self.looks.len() as u64,
            retired: *self.shard.retired(),
            logs: logs.map(|(log, stats)| LogFacts { log, stats }).collect(),
            pump: PumpFacts::default(),
        }
    }

    /// The next part of a page, and the page when that was the last.
    fn tell_on(&mut self, mut telling: Telling) {
        let core = self.config.core;
        let places = match &telling.of {
            Asked::Open(_) => self.shard.partitions(),
            Asked::Named(keys) => keys.len(),
        };
        for _ in 0..PARTITIONS_PER_TURN {
            if telling.left(places) == 0 {
                break;
            }
            let facts = match &telling.of {
                Asked::Open(kind) => self.shard.partition_facts(telling.place, *kind),
                Asked::Named(keys) => {
                    let (resource, partition) = keys[telling.place];
                    self.shard.facts_of(resource, partition)
                }
            };
            if let Some(facts) = facts {
                telling.looks += match &facts.detail {
                    PartitionDetail::Stream(stream) => stream.subscriptions.into(),
                    PartitionDetail::Queue(queue) => queue.counts.groups,
                    PartitionDetail::Cache(_) => 0,
                };
                telling.page.push(&PartitionFacts {
                    core,
                    resource: facts.resource,
                    partition: facts.partition,
                    log: facts.log,
                    standing: facts.standing,
                    fenced: facts.fenced,
                    read_only: facts.read_only,
                    bytes: facts.bytes,
                    durable_bytes: facts.durable_bytes,
                    detail: facts.detail,
                });
            }
            telling.place += 1;
        }
        if telling.left(places) > 0 {
            self.questions.telling = Some(telling);
            return;
        }
        let Telling {
            id,
            mut page,
            place,
            ..
        } = telling;
        page.next = last_before(place, places);
        self.view(id, View::Partitions(page));
    }

    fn session_page(&self, after: Option<u32>) -> Page<SessionFacts> {
        let places = self.connections.len();
        let first = first_after(after).min(places);
        let end = (first + SESSIONS_PER_PAGE).min(places);
        let some = self.connections[first..end].iter().flatten();
        page(
            some.map(|one| self.session_facts(one)).collect(),
            end,
            places,
        )
    }

    fn session_facts(&self, connection: &Connection) -> SessionFacts {
        let counts = &connection.counts;
        let caller = connection.caller.as_ref();
        let in_flight = connection.session.in_flight.len();
        let answered = counts.received.saturating_sub(counts.unanswered);
        let answered = answered.saturating_sub(in_flight as u64);
        let phase = connection.session.phase;
        SessionFacts {
            core: self.config.core,
            session: connection.id.token,
            tenant: caller.map(|caller| caller.tenant()),
            principal: caller
                .map_or("", |caller| self.access.name_of(caller))
                .into(),
            remote: None,
            connected_ms: self.ms_since(counts.connected_at),
            idle_ms: self.ms_since(counts.heard_at),
            received: counts.received,
            sent: answered + counts.delivered,
            in_flight: small(in_flight),
            subscriptions: small(connection.subscriptions.len()),
            append_sessions: small(connection.appends.len()),
            handles: small(connection.handles.len()),
            expires: caller.and_then(|caller| self.access.over_at(caller)),
            leaving: connection.leaving.is_some() || matches!(phase, Phase::Closing(_)),
        }
    }

    fn ms_since(&self, then: Monotonic) -> u64 {
        self.now.0.saturating_sub(then.0) / NANOS_PER_MS
    }

    fn subscription_page(
        &self,
        after: Option<u32>,
        resource: Option<ResourceId>,
    ) -> Page<SubscriptionFacts> {
        let places = self.shard.subscription_places();
        let first = first_after(after).min(places);
        let end = (first + SUBSCRIPTIONS_PER_PAGE).min(places);
        let all = (first..end).filter_map(|place| self.shard.subscription_facts(place));
        let items = all.filter(|one| resource.is_none_or(|wanted| one.resource == wanted));
        page(items.collect(), end, places)
    }

    fn close_session(&mut self, conn: u64) -> bool {
        let Some(connection) = self.connection(conn) else {
            return false;
        };
        match connection.session.phase {
            Phase::Closing(_) => {}
            Phase::AwaitingHello => self.close(conn, CloseCode::Administrator),
            Phase::Ready if connection.leaving.is_some() => {}
            Phase::Ready => self.leave(conn, CloseCode::Administrator),
        }
        true
    }

    fn end_by_operator(&mut self, conn: u64, subscription: SubscriptionId) -> bool {
        let known = self
            .connection(conn)
            .is_some_and(|connection| connection.subscriptions.get(&subscription).is_some());
        if known {
            self.withdraw_subscription(conn, subscription, ErrorCode::EndedByOperator);
        }
        known
    }

    /// Runs a request as the node's own. `None`: the answer follows. What the partition
    /// refuses is an ERROR frame; what cannot be asked so is a refusal here.
    fn run_for_node(
        &mut self,
        id: u64,
        resource: ResourceId,
        partition: PartitionId,
        frame: &[u8],
    ) -> Result<Option<Vec<u8>>, Refusal> {
        if self.is_draining() {
            return Err(ErrorCode::Draining.into());
        }
        let (header, body) = match split(frame) {
            Ok(Split::Frame {
                header,
                body,
                consumed,
            }) if consumed == frame.len() => (header, body),
            Ok(_) => return Err(ErrorCode::Malformed.into()),
            Err(error) => return Err(error.refusal()),
        };
        let request = Request::decode(header.opcode, body).map_err(|error| error.refusal())?;
        if !leaves_nothing(&request) {
            return Err(ErrorCode::Unsupported.into());
        }
        let (_, kind, place) = target(&request).ok_or(ErrorCode::UnknownOpcode)?;
        let resource = self.map.by_id(resource).ok_or(ErrorCode::NotFound)?.clone();
        if resource.kind != kind {
            return Err(ErrorCode::WrongKind.into());
        }
        let named = match place {
            Place::Partition(partition) => partition,
            Place::Key(key) => partition_of(key, resource.spec.shards),
        };
        let here = resource.owner(partition) == Some(self.config.core);
        if named != partition || !here {
            return Err(ErrorCode::WrongPartition.into());
        }
        let origin = Origin {
            session: SessionId {
                core: NODE,
                token: id,
            },
            stream: 0,
            correlation: header.correlation,
        };
        let mut out = Vec::new();
        let result = self.slot_of(&resource, partition).and_then(|slot| {
            let target = Target::new(&resource, partition, slot);
            self.execute(origin, target, 0, &request, &mut out)
        });
        match result {
            Ok(Executed::Replied | Executed::Silent) => {}
            Ok(Executed::Deferred) => return Ok(None),
            Ok(Executed::Held(ticket)) => {
                self.hold(ticket, origin, &out);
                return Ok(None);
            }
            Err(refusal) => {
                out.clear();
                answer(&mut out, header.correlation, &Reply::Error(refusal));
            }
        }
        Ok(Some(out))
    }
}

/// Whether a request leaves nothing behind that belongs to who asked: whoever asks for
/// the node has no connection that could end.
const fn leaves_nothing(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Fetch(_)
            | Request::StreamInfo(_)
            | Request::CursorCommit(_)
            | Request::CursorGet(_)
            | Request::CursorList(_)
            | Request::CursorDelete(_)
            | Request::CacheGet(_)
            | Request::CacheDelete(_)
            | Request::CacheScan(_)
            | Request::CacheInfo(_)
            | Request::QueuePeek(_)
            | Request::QueueDeadList(_)
            | Request::QueueDeadReplay(_)
            | Request::QueueDeadPurge(_)
            | Request::QueueInfo(_)
            | Request::QueueWhy(_)
            | Request::QueueGroup(_)
    )
}

fn first_after(after: Option<u32>) -> usize {
    after.map_or(0, |after| after as usize + 1)
}

/// The page that ends before place `end` of `places`.
fn page<T>(items: Vec<T>, end: usize, places: usize) -> Page<T> {
    let next = last_before(end, places);
    Page { items, next }
}

/// The last place of a page that ends before `end`; none when nothing follows.
fn last_before(end: usize, places: usize) -> Option<u32> {
    let last = end.checked_sub(1).filter(|_| end < places);
    last.map(|last| u32::try_from(last).expect("places are bounded far below"))
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
