//! Keeps one partition of a subscription, watch or consumer alive across
//! connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pinion_types::{Offset, PartitionId, Refusal, RetryClass, SubscriptionId};
use pinion_wire::message::{
    CacheWatch, Credit, FilterBuf, Lag, Overflow, QueueSubscribe, Start, Subscribe, Subscribed,
    Unsubscribe,
};
use pinion_wire::{Delivery, Reply, Request};
use tokio::sync::{mpsc, oneshot};

use crate::codec;
use crate::credit::CreditAccount;
use crate::error::{ConnectError, ProtocolError, RequestError, SubscribeError};
use crate::link::{DeliveryStream, Lane, Link};
use crate::node::Node;
use crate::pace::Backoff;
use crate::queue::{Keeper, Message};
use crate::record::BlockWalk;
use crate::resource::{AttemptError, Resource, not_sent};
use crate::stats::add;

/// How long the goodbye to the node may take.
const UNSUBSCRIBE_WAIT: Duration = Duration::from_secs(2);

/// What a driver tells the application's end of the subscription.
#[derive(Debug)]
pub(crate) enum Item {
    Block(BlockWalk, Arc<CreditLine>),
    Lag(PartitionId, Lag),
    /// An EVENTS frame, checked.
    Changes(PartitionId, crate::frames::Frame, Arc<CreditLine>),
    /// Messages reserved for a consumer, kept so from here on.
    Messages(Vec<Message>, Arc<CreditLine>),
    Reset(PartitionId, Offset),
    Reconnected(PartitionId, bool),
    Failed(SubscribeError),
}

/// What is asked of the node.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Records {
        start: Start,
        overflow: Option<Overflow>,
        backlog_max: u32,
        filter: FilterBuf,
    },
    Changes {
        key: Bytes,
        prefix: bool,
        with_values: bool,
    },
    Messages {
        keeper: Arc<Keeper>,
        lease_ms: u32,
        in_flight_max: u32,
    },
}

/// Where the application gives credit back.
#[derive(Debug)]
pub(crate) struct CreditLine {
    link: Arc<Link>,
    subscription: SubscriptionId,
    account: Mutex<CreditAccount>,
}

impl CreditLine {
    /// The application took so much; grants when it is time to.
    pub(crate) fn consumed(&self, records: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("a frame is far below 4 GiB");
        let grant = {
            let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
            account.consume(records, bytes)
        };
        if let Some(grant) = grant {
            let credit = codec::encode(&Request::Credit(Credit {
                subscription: self.subscription,
                records: grant.records,
                bytes: grant.bytes,
            }));
            self.link.control(credit.expect("three numbers always fit"));
        }
    }
}

/// One partition of a subscription or watch.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) node: Arc<Node>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) partition: PartitionId,
    pub(crate) source: Source,
    pub(crate) credit_records: u32,
    pub(crate) credit_bytes: u32,
    pub(crate) items: mpsc::Sender<Item>,
    /// The node this partition's offsets belong to, and the next of them.
    position: Option<(u64, Offset)>,
}

/// A subscription that stands.
struct Session {
    link: Arc<Link>,
    stream: Arriving,
    credit: Arc<CreditLine>,
    /// Set when the connection is lost, and every reservation with it.
    gone: Arc<AtomicBool>,
}

/// The node opens the stream of a subscription when it likes; on the way it may
/// even overtake SUBSCRIBED.
enum Arriving {
    Expected(oneshot::Receiver<DeliveryStream>),
    Here(DeliveryStream),
}

impl Arriving {
    /// The next frame; `None` at the end of the stream or with the connection.
    /// Cancel-safe.
    async fn next_frame(&mut self) -> Option<crate::frames::Frame> {
        if let Self::Expected(receiver) = self {
            *self = Self::Here(receiver.await.ok()?);
        }
        match self {
            Self::Here(stream) => stream.next_frame().await.ok()?,
            Self::Expected(_) => None,
        }
    }

    fn stop(&mut self) {
        if let Self::Here(stream) = self {
            stream.stop();
        }
    }
}

/// Why a session is over.
enum Over {
    /// The application is gone.
    Dropped,
    /// To be established again, after this long.
    Again(Duration),
    /// For good.
    Failed(SubscribeError),
}

impl Driver {
    #[allow(
        clippy::too_many_arguments,
        reason = "one constructor, two callers, plain values"
    )]
    pub(crate) const fn new(
        node: Arc<Node>,
        resource: Arc<Resource>,
        partition: PartitionId,
        source: Source,
        (credit_records, credit_bytes): (u32, u32),
        items: mpsc::Sender<Item>,
    ) -> Self {
        Self {
            node,
            resource,
            partition,
            source,
            credit_records,
            credit_bytes,
            items,
            position: None,
        }
    }

    /// Runs until the application drops its end or the node ends it for good.
    /// `ready` learns whether the first attempt succeeded.
    pub(crate) async fn run(mut self, ready: oneshot::Sender<Result<(), RequestError>>) {
        let mut closed = self.node.closed();
        let items = self.items.clone();
        tokio::select! {
            () = self.keep_alive(ready) => {}
            // An error means that the node is gone, which is the same.
            _ = closed.wait_for(|closed| *closed) => {
                // An error means that the application is gone too.
                let _ = items.try_send(Item::Failed(RequestError::Closed.into()));
            }
        }
    }

    async fn keep_alive(&mut self, ready: oneshot::Sender<Result<(), RequestError>>) {
        let mut session = match self.first().await {
            Ok(session) => session,
            Err(error) => {
                // An error means that the application is gone.
                let _ = ready.send(Err(error));
                return;
            }
        };
        // As above; the first look at the channel will tell.
        let _ = ready.send(Ok(()));
        let mut backoff = Backoff::new(self.node.config.backoff);
        loop {
            let before = self.position;
            let over = self.read(&mut session).await;
            if self.position != before {
                backoff.reset();
            }
            let wait = match over {
                Over::Dropped => return self.unsubscribe(session).await,
                Over::Failed(error) => {
                    // An error means that the application is gone.
                    let _ = self.items.send(Item::Failed(error)).await;
                    return;
                }
                Over::Again(wait) => wait.max(backoff.next(self.node.random())),
            };
            session = match self.again(wait, &mut backoff).await {
                Ok(Some(session)) => session,
                Ok(None) => return,
                Err(error) => {
                    // An error means that the application is gone.
                    let _ = self.items.send(Item::Failed(error.into())).await;
                    return;
                }
            };
        }
    }

    /// The first session, within the time of a request.
    async fn first(&mut self) -> Result<Session, RequestError> {
        let after = self.node.config.request_timeout;
        self.node.budget_deposit();
        let attempts = async {
            let mut backoff = Backoff::new(self.node.config.backoff);
            loop {
                match self.establish().await {
                    Ok(session) => return Ok(session),
                    Err(error) => {
                        let wait = may_try_again(&error).ok_or_else(|| error.clone())?;
                        if !self.node.budget_withdraw() {
                            return Err(error);
                        }
                        tokio::time::sleep(wait.max(backoff.next(self.node.random()))).await;
                    }
                }
            }
        };
        tokio::time::timeout(after, attempts)
            .await
            .unwrap_or(Err(RequestError::TimedOut { after }))
    }

    /// Another session, however long the node is away; `None` when the
    /// application is gone.
    async fn again(
        &mut self,
        mut wait: Duration,
        backoff: &mut Backoff,
    ) -> Result<Option<Session>, RequestError> {
        let items = self.items.clone();
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = items.closed() => return Ok(None),
            }
            let node_before = self.position.map(|(node, _)| node);
            match self.establish().await {
                Ok(session) => {
                    let resumed = node_before.is_some_and(|before| {
                        before == session.link.welcome.node_id || self.is_durable()
                    });
                    let item = Item::Reconnected(self.partition, resumed);
                    if items.send(item).await.is_err() {
                        self.unsubscribe(session).await;
                        return Ok(None);
                    }
                    return Ok(Some(session));
                }
                Err(error) => {
                    let hint = may_try_again(&error).ok_or(error)?;
                    wait = hint.max(backoff.next(self.node.random()));
                }
            }
        }
    }

    /// Subscribes once. Not cancelled half way by the application's end: a
    /// subscription that stands is always known here, and ended from here.
    async fn establish(&mut self) -> Result<Session, RequestError> {
        let core = self.resource.core_of(self.partition)?;
        let link = self.node.link(core).await?;
        let handle = match self.resource.open_on(&link).await {
            Ok(handle) => handle,
            Err(AttemptError::NotAdmitted(error)) => return Err(error),
            Err(AttemptError::Unanswered(down)) => return Err(not_sent(&down)),
        };
        let start = self.start_on(link.welcome.node_id).await;
        let (id, delivery) = link.expect_delivery();
        let subscription = SubscriptionId(id);
        let request = match &self.source {
            Source::Records {
                overflow,
                backlog_max,
                filter,
                ..
            } => Request::Subscribe(Subscribe {
                handle,
                partition: self.partition,
                subscription,
                start,
                overflow: *overflow,
                backlog_max: *backlog_max,
                credit_records: self.credit_records,
                credit_bytes: self.credit_bytes,
                filter: filter.as_filter(),
            }),
            Source::Changes {
                key,
                prefix,
                with_values,
            } => Request::CacheWatch(CacheWatch {
                handle,
                partition: self.partition,
                subscription,
                prefix: *prefix,
                with_values: *with_values,
                credit_records: self.credit_records,
                credit_bytes: self.credit_bytes,
                key,
            }),
            Source::Messages {
                keeper,
                lease_ms,
                in_flight_max,
            } => Request::QueueSubscribe(QueueSubscribe {
                handle,
                partition: self.partition,
                subscription,
                lease_ms: *lease_ms,
                in_flight_max: *in_flight_max,
                credit_records: self.credit_records,
                credit_bytes: self.credit_bytes,
                group: keeper.group(),
            }),
        };
        let subscribed = match self.ask(&link, &request).await {
            Ok(subscribed) => subscribed,
            Err(error) => {
                link.forget_delivery(id);
                return Err(error);
            }
        };
        if self
            .position
            .is_none_or(|(node, _)| node != link.welcome.node_id)
        {
            self.position = Some((link.welcome.node_id, subscribed.next));
        }
        let account = CreditAccount::new(self.credit_records, self.credit_bytes);
        let credit = Arc::new(CreditLine {
            link: Arc::clone(&link),
            subscription,
            account: Mutex::new(account),
        });
        Ok(Session {
            link,
            stream: Arriving::Expected(delivery),
            credit,
            gone: Arc::default(),
        })
    }

    async fn ask(
        &self,
        link: &Arc<Link>,
        request: &Request<'_>,
    ) -> Result<Subscribed, RequestError> {
        let after = self.node.config.request_timeout;
        let frame = codec::encode(request)?;
        let exchange = async {
            let call = link.call(Lane::Requests, frame).await;
            let mut pending = call.map_err(|down| not_sent(&down))?;
            let frame = pending.reply().await.map_err(|down| not_sent(&down))?;
            match codec::reply(&frame)? {
                Reply::Subscribed(subscribed) => Ok(subscribed),
                Reply::Error(refusal) => {
                    if refusal.code == pinion_types::ErrorCode::BadHandle {
                        link.forget_handle(self.resource.id);
                    }
                    Err(RequestError::from_refusal(refusal))
                }
                _ => Err(codec::unexpected(&frame)),
            }
        };
        tokio::time::timeout(after, exchange)
            .await
            .unwrap_or(Err(RequestError::TimedOut { after }))
    }

    /// Where to begin on this node. Offsets of an ephemeral stream mean nothing
    /// on a node that restarted, which is said before anything of it is delivered.
    async fn start_on(&mut self, node_id: u64) -> Start {
        let Source::Records { start, .. } = &self.source else {
            return Start::Latest;
        };
        match self.position {
            None => *start,
            Some((node, next)) if node == node_id || self.is_durable() => Start::Offset(next),
            Some((_, void)) => {
                self.position = None;
                self.source_restarts();
                // An error means that the application is gone; the next send tells.
                let _ = self.items.send(Item::Reset(self.partition, void)).await;
                Start::Earliest
            }
        }
    }

    /// From now on a first attempt begins at the earliest record.
    const fn source_restarts(&mut self) {
        if let Source::Records { start, .. } = &mut self.source {
            *start = Start::Earliest;
        }
    }

    fn is_durable(&self) -> bool {
        self.resource
            .shape()
            .is_some_and(|shape| shape.spec.durability != 0)
    }

    /// Forwards what comes until the session is over.
    async fn read(&mut self, session: &mut Session) -> Over {
        loop {
            let frame = tokio::select! {
                biased;
                () = self.items.closed() => return Over::Dropped,
                frame = session.stream.next_frame() => frame,
            };
            let Some(frame) = frame else {
                // The connection or the stream was lost without a word.
                session.gone.store(true, Ordering::Relaxed);
                return Over::Again(Duration::ZERO);
            };
            add(&self.node.stats.frames_received, 1);
            let item = match codec::delivery(&frame) {
                Ok(Delivery::Records(header, records)) => {
                    let next = header
                        .first_offset
                        .0
                        .checked_add(u64::from(header.record_count));
                    let Some(next) = next else {
                        return malformed(frame.opcode);
                    };
                    self.advance(Offset(next));
                    add(
                        &self.node.stats.records_received,
                        u64::from(header.record_count),
                    );
                    let records = codec::share(&frame, records);
                    let walk = BlockWalk::new(self.partition, &header, records);
                    Item::Block(walk, Arc::clone(&session.credit))
                }
                Ok(Delivery::Lag(lag)) => {
                    self.advance(lag.to);
                    add(&self.node.stats.lags, 1);
                    Item::Lag(self.partition, lag)
                }
                Ok(Delivery::Events(_)) => {
                    Item::Changes(self.partition, frame, Arc::clone(&session.credit))
                }
                Ok(Delivery::Messages(messages)) => {
                    let Source::Messages { keeper, .. } = &self.source else {
                        return malformed(frame.opcode);
                    };
                    let count = u64::from(messages.messages.len());
                    add(&self.node.stats.records_received, count);
                    let messages = keeper.unpack(self.partition, &frame, messages, &session.gone);
                    Item::Messages(messages, Arc::clone(&session.credit))
                }
                Ok(Delivery::End(end)) => {
                    let Some(code) = end.error() else {
                        return Over::Dropped;
                    };
                    self.advance(end.next);
                    let refusal = Refusal::new(code);
                    return match may_try_again(&RequestError::from_refusal(refusal)) {
                        Some(wait) => Over::Again(wait),
                        None => Over::Failed(SubscribeError::Ended {
                            partition: self.partition,
                            refusal,
                            next: self.next_after(end.next).0,
                        }),
                    };
                }
                Ok(Delivery::Head(_)) | Err(_) => return malformed(frame.opcode),
            };
            if self.items.send(item).await.is_err() {
                return Over::Dropped;
            }
        }
    }

    /// Where to resume after an END that says `said`: it says 0 where the node does not know
    /// what came here.
    fn next_after(&self, said: Offset) -> Offset {
        match (&self.source, self.position) {
            (Source::Records { .. }, Some((_, position))) => position.max(said),
            _ => said,
        }
    }

    fn advance(&mut self, next: Offset) {
        if let Some((_, position)) = &mut self.position {
            *position = (*position).max(next);
        }
    }

    /// Ends the subscription on the node, so that it keeps nothing for us.
    async fn unsubscribe(&self, mut session: Session) {
        let reserved = matches!(self.source, Source::Messages { .. });
        if !reserved {
            session.stream.stop();
            session.link.forget_delivery(session.credit.subscription.0);
        }
        let request = Request::Unsubscribe(Unsubscribe {
            subscription: session.credit.subscription,
        });
        let goodbye = async {
            let frame = codec::encode(&request).ok()?;
            let mut pending = session.link.call(Lane::Requests, frame).await.ok()?;
            pending.reply().await.ok()?;
            // Messages on their way are reserved: they are taken to be given back.
            while let Some(frame) = session.stream.next_frame().await {
                match (codec::delivery(&frame), &self.source) {
                    (Ok(Delivery::Messages(messages)), Source::Messages { keeper, .. }) => {
                        drop(keeper.unpack(self.partition, &frame, messages, &session.gone));
                    }
                    (Ok(Delivery::End(_)) | Err(_), _) => break,
                    _ => {}
                }
            }
            Some(())
        };
        // Whatever the answer: the node forgets the subscription at the latest
        // with the connection.
        let _ = tokio::time::timeout(UNSUBSCRIBE_WAIT, goodbye).await;
        session.stream.stop();
        session.link.forget_delivery(session.credit.subscription.0);
    }
}

fn malformed(opcode: u8) -> Over {
    Over::Failed(RequestError::Protocol(ProtocolError::Malformed { opcode }).into())
}

/// How long to wait before subscribing again, if that may help.
fn may_try_again(error: &RequestError) -> Option<Duration> {
    match error {
        RequestError::NotConnected(ConnectError::CircuitOpen { retry_in, .. }) => Some(*retry_in),
        // A connection that broke after it stood is no verdict on the next one.
        RequestError::TimedOut { .. } | RequestError::OutcomeUnknown(_) => Some(Duration::ZERO),
        RequestError::NotConnected(error) => error.is_transient().then_some(Duration::ZERO),
        RequestError::Refused(refusal) => match refusal.retry {
            RetryClass::Retry | RetryClass::RetryAfter => {
                Some(Duration::from_millis(u64::from(refusal.retry_after_ms)))
            }
            RetryClass::Redirect | RetryClass::OutcomeUnknown => Some(Duration::ZERO),
            RetryClass::Fatal => {
                (refusal.code == pinion_types::ErrorCode::BadHandle).then_some(Duration::ZERO)
            }
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_types::ErrorCode;

    #[test]
    fn a_subscription_outlives_what_passes_and_ends_with_what_does_not() {
        let refused = |code| RequestError::from_refusal(Refusal::new(code));
        for code in [
            ErrorCode::Draining,
            ErrorCode::CoreLost,
            ErrorCode::Busy,
            ErrorCode::QuotaExceeded,
        ] {
            assert!(may_try_again(&refused(code)).is_some(), "{code:?}");
        }
        for code in [
            ErrorCode::SlowSubscriber,
            ErrorCode::Forbidden,
            ErrorCode::NotFound,
            ErrorCode::ResourceClosed,
            ErrorCode::EndedByOperator,
            ErrorCode::Unauthenticated,
        ] {
            assert!(may_try_again(&refused(code)).is_none(), "{code:?}");
        }
        assert!(may_try_again(&RequestError::Closed).is_none());
    }
}
