//! From a request of a connection to the core that owns what it is about.

use std::sync::Arc;

use pinion_session::CloseCode;
use pinion_types::block::FRAME_HEADER_BYTES;
use pinion_types::limits::HANDLES_MAX;
use pinion_types::route::partition_of;
use pinion_types::{
    CoreId, ErrorCode, FactId, PartitionId, Refusal, ResourceKind, ResourceName, SubscriptionId,
};
use pinion_wire::frame::FrameHeader;
use pinion_wire::message::{
    self, CacheWatch, Credit, Handle, Open, QueueSubscribe, Reply, Request, Subscribe, Unsubscribe,
};
use pinion_wire::opcode::{self, Permission};
use pinion_wire::reply;

use crate::access::Permissions;
use crate::connection::{APPEND_SESSIONS_MAX, Append, HandleEntry, Provisional, Subscription};
use crate::core::{Core, answer, left_for};
use crate::deliveries::encode;
use crate::execute::{Executed, Target, request_is_silent};
use crate::mail::{ControlMail, CoreMail, LANE_BYTES_HIGH, Origin};
use crate::map::Resource;
use crate::quota_meters::records_of;

/// Where in a resource a request goes.
pub(crate) enum Place<'a> {
    Partition(PartitionId),
    Key(&'a [u8]),
}

/// Where a request goes that is not for this core.
struct Elsewhere {
    owner: CoreId,
    resource: Arc<Resource>,
    partition: PartitionId,
    number: u64,
}

impl Core {
    /// Runs a request here or sends it to the core that can.
    pub(crate) fn dispatch(
        &mut self,
        conn: u64,
        origin: Origin,
        body: &[u8],
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        match request {
            Request::Ping(ping) => {
                pong(out, origin.correlation, ping.payload);
                Ok(Executed::Replied)
            }
            Request::Open(open) => self.open(conn, origin, open, out),
            Request::Hello(_) | Request::Credit(_) => unreachable!("looked at before"),
            Request::Unsubscribe(unsubscribe) => {
                self.unsubscribe(conn, origin, unsubscribe, body, out)
            }
            Request::AppendStage(stage) => {
                self.with_append(conn, origin, stage.session, false, body, request, out)
            }
            Request::AppendCommit(commit) => {
                self.with_append(conn, origin, commit.session, true, body, request, out)
            }
            Request::AppendRollback(rollback) => {
                self.with_append(conn, origin, rollback.session, true, body, request, out)
            }
            _ => self.with_handle(conn, origin, body, request, out),
        }
    }

    /// A request about a resource the connection has opened.
    fn with_handle(
        &mut self,
        conn: u64,
        origin: Origin,
        body: &[u8],
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let (handle, kind, place) = target(request).ok_or(ErrorCode::UnknownOpcode)?;
        let here = self.config.core;
        let connection = self.connection(conn).expect("the caller found it");
        let entry = connection
            .handles
            .get(handle.0 as usize)
            .ok_or(ErrorCode::BadHandle)?;
        // The single line where authorisation happens.
        if !entry.permissions.allow(request.needs()) {
            return Err(entry.refusal());
        }
        let resource = &entry.resource;
        if resource.kind != kind {
            return Err(ErrorCode::WrongKind.into());
        }
        let partition = match place {
            Place::Partition(partition) => partition,
            Place::Key(key) => partition_of(key, resource.spec.shards),
        };
        let owner = resource.owner(partition).ok_or_else(|| {
            Refusal::new(ErrorCode::WrongPartition)
                .with(FactId::Limit, u64::from(resource.spec.shards))
        })?;
        let target = entry.slots[usize::from(partition.0)]
            .map(|slot| Target::new(resource, partition, slot));
        if entry.metered && records_of(request).is_some() {
            let resource = Arc::clone(resource);
            self.charge(&resource, request)?;
        }

        let (number, provisional) = match request {
            Request::Subscribe(Subscribe { subscription, .. })
            | Request::CacheWatch(CacheWatch { subscription, .. })
            | Request::QueueSubscribe(QueueSubscribe { subscription, .. }) => {
                let needs = request.needs();
                let number = self.admit_subscription(conn, *subscription, owner, handle, needs)?;
                (number, Some(Provisional::Subscription(*subscription)))
            }
            Request::AppendBegin(_) => {
                let number = self.admit_append(conn, handle, partition)?;
                (number, Some(Provisional::Append(number)))
            }
            _ => (0, None),
        };
        let result = if owner == here {
            let target = match target {
                Some(target) => Ok(target),
                None => self.find_target(conn, handle, partition),
            };
            target.and_then(|target| self.execute(origin, target, number, request, out))
        } else {
            let connection = self.connection(conn).expect("the caller found it");
            let resource = Arc::clone(&connection.handles[handle.0 as usize].resource);
            let to = Elsewhere {
                owner,
                resource,
                partition,
                number,
            };
            self.forward(conn, origin, to, body, request)
        };
        self.decide_or_wait(conn, origin, provisional, &result);
        result
    }

    /// What hangs on the result of a request is settled now, or when its answer
    /// comes from elsewhere.
    fn decide_or_wait(
        &mut self,
        conn: u64,
        origin: Origin,
        provisional: Option<Provisional>,
        result: &Result<Executed, Refusal>,
    ) {
        let Some(provisional) = provisional else {
            return;
        };
        match result {
            Ok(Executed::Deferred | Executed::Held(_)) => {
                let connection = self.connection(conn).expect("the caller found it");
                connection
                    .provisional
                    .insert(origin.correlation, provisional);
            }
            Ok(Executed::Replied | Executed::Silent) => self.settle(conn, provisional, None),
            Err(refusal) => self.settle(conn, provisional, Some(refusal.code as u16)),
        }
    }

    fn find_target(
        &mut self,
        conn: u64,
        handle: Handle,
        partition: PartitionId,
    ) -> Result<Target, Refusal> {
        let connection = self.connection(conn).expect("the caller found it");
        let resource = Arc::clone(&connection.handles[handle.0 as usize].resource);
        let slot = self.slot_of(&resource, partition)?;
        let connection = self.connection(conn).expect("the caller found it");
        connection.handles[handle.0 as usize].slots[usize::from(partition.0)] = Some(slot);
        Ok(Target::new(&resource, partition, slot))
    }

    /// Sends the request to the core that owns the partition. The body is
    /// copied: it leaves the connection's buffers. Clients that aim well never
    /// come here.
    fn forward(
        &mut self,
        conn: u64,
        origin: Origin,
        to: Elsewhere,
        body: &[u8],
        request: &Request<'_>,
    ) -> Result<Executed, Refusal> {
        if self.is_lost(to.owner) {
            return Err(Self::refuse_lost(to.owner));
        }
        if self.mails.is_high(to.owner) {
            return Err(Refusal::new(ErrorCode::Busy).with(FactId::Limit, LANE_BYTES_HIGH as u64));
        }
        self.stats.wrong_shard += 1;
        let connection = self.connection(conn).expect("the caller found it");
        connection.went_elsewhere = true;
        let executed = if request_is_silent(request) {
            // Its correlation id may be in use again at once, but a refusal
            // still has to find the stream open.
            if let Some(state) = connection.session.stream(origin.stream) {
                state.owed += 1;
            }
            Executed::Silent
        } else {
            let (correlation, stream) = (origin.correlation, origin.stream);
            connection.forwarded.sent(correlation, to.owner, stream);
            Executed::Deferred
        };
        self.post(
            to.owner,
            CoreMail::Request {
                origin,
                resource: to.resource,
                partition: to.partition,
                number: to.number,
                opcode: request.opcode(),
                body: body.into(),
            },
        );
        Ok(executed)
    }

    fn admit_subscription(
        &mut self,
        conn: u64,
        id: SubscriptionId,
        owner: CoreId,
        handle: Handle,
        needs: Permission,
    ) -> Result<u64, Refusal> {
        let connection = self.connection(conn).expect("the caller found it");
        connection.session.subscribe(id)?;
        let resource = Arc::clone(&connection.handles[handle.0 as usize].resource);
        let number = connection.take_number();
        connection.subscriptions.insert(
            id,
            Subscription {
                resource,
                core: owner,
                number,
                needs,
                queued: false,
                blocked: false,
                withdrawn: None,
            },
        );
        let head = encode(&message::Delivery::Head(id));
        connection.session.deliver(id, head, 0);
        Ok(number)
    }

    fn admit_append(
        &mut self,
        conn: u64,
        handle: Handle,
        partition: PartitionId,
    ) -> Result<u64, Refusal> {
        let connection = self.connection(conn).expect("the caller found it");
        if connection.appends.len() >= APPEND_SESSIONS_MAX {
            return Err(Refusal::new(ErrorCode::LimitReached)
                .with(FactId::Limit, APPEND_SESSIONS_MAX as u64));
        }
        let number = connection.take_number();
        let resource = Arc::clone(&connection.handles[handle.0 as usize].resource);
        connection.appends.insert(
            number,
            Append {
                handle,
                resource,
                partition,
            },
        );
        Ok(number)
    }

    /// The partition has decided about something that was noted here before;
    /// `refused` is the code of its refusal.
    pub(crate) fn settle(&mut self, conn: u64, provisional: Provisional, refused: Option<u16>) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        match (provisional, refused) {
            // Its stream opens at once, so that the client can stop it.
            (Provisional::Subscription(id), None) => connection.mark_ready(id),
            (Provisional::Subscription(id), Some(_)) => {
                connection.session.drop_subscription(id);
                connection.subscriptions.remove(&id);
            }
            (Provisional::Append(_), None) => {}
            (Provisional::Append(append), Some(_)) => {
                connection.appends.remove(&append);
            }
            (Provisional::AppendUse { append, last }, refused) => {
                if refused.map_or(last, |code| code == ErrorCode::SessionUnknown as u16) {
                    connection.appends.remove(&append);
                }
            }
        }
    }

    /// A request about an append session; `last` when the session ends with it.
    #[allow(clippy::too_many_arguments)] // one request's facts, used once each
    fn with_append(
        &mut self,
        conn: u64,
        origin: Origin,
        append: u64,
        last: bool,
        body: &[u8],
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let connection = self.connection(conn).expect("the caller found it");
        let known = connection
            .appends
            .get(&append)
            .ok_or(ErrorCode::SessionUnknown)?;
        let (handle, partition) = (known.handle, known.partition);
        let resource = Arc::clone(&known.resource);
        // The grants may have changed since the session began.
        let entry = &connection.handles[handle.0 as usize];
        if !entry.permissions.allow(request.needs()) {
            return Err(entry.refusal());
        }
        if entry.metered {
            self.charge(&resource, request)?;
        }
        let owner = resource
            .owner(partition)
            .expect("checked when the session began");
        let result = if owner == self.config.core {
            self.slot_of(&resource, partition).and_then(|slot| {
                let target = Target::new(&resource, partition, slot);
                self.execute(origin, target, append, request, out)
            })
        } else {
            let to = Elsewhere {
                owner,
                resource,
                partition,
                number: append,
            };
            self.forward(conn, origin, to, body, request)
        };
        let provisional = Provisional::AppendUse { append, last };
        self.decide_or_wait(conn, origin, Some(provisional), &result);
        result
    }

    /// Grants for an unknown subscription are ignored: the grant may cross the
    /// end of the subscription.
    pub(crate) fn credit(&mut self, conn: u64, credit: &Credit) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        connection.counts.unanswered += 1;
        let Some(subscription) = connection.subscriptions.get(&credit.subscription) else {
            return;
        };
        let (session, owner) = (connection.id, subscription.core);
        if owner == self.config.core {
            self.shard
                .credit(session, credit.subscription, credit.records, credit.bytes);
        } else if self.mails.is_high(owner) {
            // A grant cannot be refused, and one that is lost would stop the
            // subscription for good.
            self.close(conn, CloseCode::Limit);
        } else if !self.is_draining() {
            self.post(
                owner,
                CoreMail::Credit {
                    session,
                    subscription: credit.subscription,
                    records: credit.records,
                    bytes: credit.bytes,
                },
            );
        }
    }

    fn unsubscribe(
        &mut self,
        conn: u64,
        origin: Origin,
        unsubscribe: &Unsubscribe,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let id = unsubscribe.subscription;
        let connection = self.connection(conn).expect("the caller found it");
        let subscription = connection
            .subscriptions
            .get(&id)
            .ok_or(ErrorCode::UnknownSubscription)?;
        let to = Elsewhere {
            owner: subscription.core,
            resource: Arc::clone(&subscription.resource),
            partition: PartitionId(0),
            number: subscription.number,
        };
        if to.owner == self.config.core {
            self.end_subscription(origin, id, out)
        } else {
            let request = Request::Unsubscribe(*unsubscribe);
            self.forward(conn, origin, to, body, &request)
        }
    }

    fn open(
        &mut self,
        conn: u64,
        origin: Origin,
        open: &Open<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let name = ResourceName::new(open.namespace, open.name)
            .map_err(|_| Refusal::new(ErrorCode::BadName))?;
        let connection = self.connection(conn).expect("the caller found it");
        let caller = connection.caller.clone().expect("a ready session has one");
        let permissions = self.access.allowed(&caller, open.kind, &name);
        if permissions == Permissions::NONE || !permissions.allow(Request::Open(*open).needs()) {
            return Err(ErrorCode::Forbidden.into());
        }
        let known = self.map.find(caller.tenant(), open.kind, &name);
        if let (Some(resource), None) = (known, open.spec) {
            let resource = Arc::clone(resource);
            self.opened(conn, origin.correlation, &resource, out)?;
            return Ok(Executed::Replied);
        }
        if open.spec.is_none() && !self.config.create_on_first_use {
            return Err(ErrorCode::NotFound.into());
        }
        let gone = |_| Refusal::new(ErrorCode::Unauthenticated);
        let who = self.access.audited(&caller).map_err(gone)?;
        self.control.push_back(ControlMail::Declare {
            origin,
            tenant: caller.tenant(),
            kind: open.kind,
            name,
            spec: open.spec,
            who,
            remote: None,
        });
        Ok(Executed::Deferred)
    }

    /// The control thread has found or created a resource.
    pub(crate) fn handle_declared(
        &mut self,
        origin: Origin,
        result: Result<Arc<Resource>, Refusal>,
    ) {
        self.judge_if_behind(origin.session.token);
        let mut frame = Vec::new();
        let opened = result.and_then(|resource| {
            self.opened(
                origin.session.token,
                origin.correlation,
                &resource,
                &mut frame,
            )
        });
        if let Err(refusal) = opened {
            frame.clear();
            answer(&mut frame, origin.correlation, &Reply::Error(refusal));
        }
        self.handle_late_reply(origin, &frame, true);
    }

    fn opened(
        &mut self,
        conn: u64,
        correlation: u32,
        resource: &Arc<Resource>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let access = Arc::clone(&self.access);
        let epoch = self.map.epoch();
        let metered = self.quotas.concern(resource.tenant, &resource.name);
        let takes = self.map.takes(resource.id);
        let Some(connection) = self.connection(conn) else {
            return Ok(());
        };
        if let Some(code) = connection.leaving {
            // The table may not know it any more.
            return Err(left_for(code).into());
        }
        let caller = connection.caller.as_ref().expect("a ready session has one");
        let permissions = access.allowed(caller, resource.kind, &resource.name);
        if !takes {
            // Deleted while the control thread was asked.
            return Err(ErrorCode::ResourceClosed.into());
        }
        if permissions == Permissions::NONE {
            // Revoked while the control thread was asked.
            return Err(ErrorCode::Forbidden.into());
        }
        // Opening again gives the same handle: a client that reopens in a loop
        // does not use up its handles.
        let known = connection
            .handles
            .iter()
            .position(|entry| entry.resource.id == resource.id);
        let index = match known {
            Some(index) => index,
            None if connection.handles.len() >= HANDLES_MAX as usize => {
                return Err(Refusal::new(ErrorCode::LimitReached)
                    .with(FactId::Limit, u64::from(HANDLES_MAX)));
            }
            None => {
                let slots = vec![None; usize::from(resource.spec.shards)].into();
                connection.handles.push(HandleEntry {
                    resource: Arc::clone(resource),
                    permissions,
                    metered,
                    closed: false,
                    slots,
                });
                connection.handles.len() - 1
            }
        };
        let handle = Handle(u32::try_from(index).expect("bounded by HANDLES_MAX"));
        reply::opened(
            out,
            correlation,
            handle,
            resource.id,
            epoch,
            resource.spec,
            |partition| resource.cores[usize::from(partition)].0,
        )
        .expect("a declared specification is valid");
        Ok(())
    }
}

/// Appends PONG, which gives back what came in a frame and so fits one. Beside
/// [`answer`], because a [`Reply`] goes through memory and this does not.
#[inline]
fn pong(out: &mut Vec<u8>, correlation: u32, payload: &[u8]) {
    let header = FrameHeader {
        length: u32::try_from(payload.len()).expect("it came in a frame"),
        opcode: opcode::PONG,
        flags: 0,
        correlation,
    };
    out.reserve(FRAME_HEADER_BYTES + payload.len());
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
}

/// The resource a request is about and where in it; `None` for requests that
/// are not about a resource.
pub(crate) fn target<'a>(request: &Request<'a>) -> Option<(Handle, ResourceKind, Place<'a>)> {
    use Place::{Key, Partition};
    use ResourceKind::{Cache, Queue, Stream};
    Some(match request {
        Request::Publish(r) => (r.handle, Stream, Partition(r.partition)),
        Request::Subscribe(r) => (r.handle, Stream, Partition(r.partition)),
        Request::Fetch(r) => (r.handle, Stream, Partition(r.partition)),
        Request::AppendBegin(r) => (r.handle, Stream, Partition(r.partition)),
        Request::StreamInfo(r) => (r.handle, Stream, Partition(r.partition)),
        Request::CacheGet(r) => (r.handle, Cache, Key(r.key)),
        Request::CacheSet(r) => (r.handle, Cache, Key(r.key)),
        Request::CacheDelete(r) => (r.handle, Cache, Key(r.key)),
        Request::CacheTouch(r) => (r.handle, Cache, Key(r.key)),
        Request::CacheIncr(r) => (r.handle, Cache, Key(r.key)),
        Request::CacheLease(r) => (r.handle, Cache, Key(r.key)),
        Request::CacheGetMany(r) => (r.handle, Cache, Partition(r.partition)),
        Request::CacheSetMany(r) => (r.handle, Cache, Partition(r.partition)),
        Request::CacheScan(r) => (r.handle, Cache, Partition(r.partition)),
        Request::CacheWatch(r) => (r.handle, Cache, Partition(r.partition)),
        Request::CacheInfo(r) => (r.handle, Cache, Partition(r.partition)),
        Request::CursorCommit(r) => (r.handle, Stream, Partition(r.partition)),
        Request::CursorGet(r) => (r.handle, Stream, Partition(r.partition)),
        Request::CursorList(r) => (r.handle, Stream, Partition(r.partition)),
        Request::CursorDelete(r) => (r.handle, Stream, Partition(r.partition)),
        Request::QueuePut(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueTake(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueAck(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueNack(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueExtend(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueRelease(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueuePeek(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueDeadList(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueDeadReplay(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueDeadPurge(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueInfo(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueWhy(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueSubscribe(r) => (r.handle, Queue, Partition(r.partition)),
        Request::QueueGroup(r) => (r.handle, Queue, Partition(r.partition)),
        Request::Hello(_)
        | Request::Ping(_)
        | Request::Open(_)
        | Request::Credit(_)
        | Request::Unsubscribe(_)
        | Request::AppendStage(_)
        | Request::AppendCommit(_)
        | Request::AppendRollback(_) => return None,
    })
}
