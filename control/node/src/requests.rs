//! From a request of a connection to the core that owns what it is about.

use std::sync::Arc;

use pinion_session::Frame;
use pinion_shard::Slot;
use pinion_types::limits::HANDLES_MAX;
use pinion_types::route::partition_of;
use pinion_types::{
    CoreId, ErrorCode, FactId, PartitionId, Refusal, ResourceKind, ResourceName, SubscriptionId,
};
use pinion_wire::message::{self, Credit, Handle, Open, Reply, Request, Unsubscribe};
use pinion_wire::reply;

use crate::access::Permissions;
use crate::connection::{APPEND_SESSIONS_MAX, Append, HandleEntry, Provisional, Subscription};
use crate::core::{Core, MAILS_WAITING_MAX, answer};
use crate::deliveries::encode;
use crate::execute::{Executed, Target};
use crate::mail::{ControlMail, CoreMail, Origin};
use crate::map::Resource;

/// Where in a resource a request goes.
pub(crate) enum Place<'a> {
    Partition(PartitionId),
    Key(&'a [u8]),
}

impl Core {
    /// Runs a request here or sends it to the core that can.
    pub(crate) fn dispatch(
        &mut self,
        conn: u64,
        origin: Origin,
        frame: &Frame<'_>,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        match request {
            Request::Ping(ping) => {
                answer(out, origin.correlation, &Reply::Pong(*ping));
                Ok(Executed::Replied)
            }
            Request::Open(open) => self.open(conn, origin, open, out),
            Request::Credit(credit) => {
                self.credit(conn, credit);
                Ok(Executed::Silent)
            }
            Request::Unsubscribe(unsubscribe) => {
                self.unsubscribe(conn, origin, unsubscribe, frame, out)
            }
            Request::AppendStage(stage) => {
                self.with_append(conn, origin, stage.session, false, frame, request, out)
            }
            Request::AppendCommit(commit) => {
                self.with_append(conn, origin, commit.session, true, frame, request, out)
            }
            Request::AppendRollback(rollback) => {
                self.with_append(conn, origin, rollback.session, true, frame, request, out)
            }
            _ => self.with_handle(conn, origin, frame, request, out),
        }
    }

    /// A request about a resource the connection has opened.
    fn with_handle(
        &mut self,
        conn: u64,
        origin: Origin,
        frame: &Frame<'_>,
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
            return Err(ErrorCode::Forbidden.into());
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
        let slot = entry.slots[usize::from(partition.0)];
        let shards = resource.spec.shards;

        let mut append = 0;
        match request {
            Request::Subscribe(subscribe) => {
                self.admit_subscription(conn, subscribe.subscription, owner, handle)?;
            }
            Request::CacheWatch(watch) => {
                self.admit_subscription(conn, watch.subscription, owner, handle)?;
            }
            Request::AppendBegin(_) => append = self.admit_append(conn, handle, partition)?,
            _ => {}
        }
        let result = if owner == here {
            let slot = match slot {
                Some(slot) => Ok(slot),
                None => self.find_slot(conn, handle, partition),
            };
            slot.and_then(|slot| {
                let target = Target {
                    slot,
                    partition,
                    shards,
                };
                self.execute(origin, target, append, request, out)
            })
        } else {
            let connection = self.connection(conn).expect("the caller found it");
            let resource = Arc::clone(&connection.handles[handle.0 as usize].resource);
            self.forward(conn, origin, owner, resource, append, frame)
        };
        let provisional = match request {
            Request::Subscribe(subscribe) => Provisional::Subscription(subscribe.subscription),
            Request::CacheWatch(watch) => Provisional::Subscription(watch.subscription),
            Request::AppendBegin(_) => Provisional::Append(append),
            _ => return result,
        };
        match result {
            Ok(Executed::Deferred) => {
                let connection = self.connection(conn).expect("the caller found it");
                connection
                    .provisional
                    .insert(origin.correlation, provisional);
            }
            Ok(Executed::Replied | Executed::Silent) => {}
            Err(_) => self.undo(conn, &provisional),
        }
        result
    }

    fn find_slot(
        &mut self,
        conn: u64,
        handle: Handle,
        partition: PartitionId,
    ) -> Result<Slot, Refusal> {
        let connection = self.connection(conn).expect("the caller found it");
        let resource = Arc::clone(&connection.handles[handle.0 as usize].resource);
        let slot = self.slot_of(&resource, partition)?;
        let connection = self.connection(conn).expect("the caller found it");
        connection.handles[handle.0 as usize].slots[usize::from(partition.0)] = Some(slot);
        Ok(slot)
    }

    /// Sends the request to the core that owns the partition. The body is
    /// copied: it leaves the connection's buffers. Clients that aim well never
    /// come here.
    fn forward(
        &mut self,
        conn: u64,
        origin: Origin,
        owner: CoreId,
        resource: Arc<Resource>,
        append: u64,
        frame: &Frame<'_>,
    ) -> Result<Executed, Refusal> {
        if self.mails.len() >= MAILS_WAITING_MAX {
            return Err(Refusal::new(ErrorCode::Busy).with(FactId::Limit, MAILS_WAITING_MAX as u64));
        }
        self.stats.wrong_shard += 1;
        let connection = self.connection(conn).expect("the caller found it");
        connection.went_elsewhere = true;
        self.post(
            owner,
            CoreMail::Request {
                origin,
                resource,
                append,
                opcode: frame.header.opcode,
                body: frame.body.into(),
            },
        );
        Ok(Executed::Deferred)
    }

    fn admit_subscription(
        &mut self,
        conn: u64,
        id: SubscriptionId,
        owner: CoreId,
        handle: Handle,
    ) -> Result<(), Refusal> {
        let connection = self.connection(conn).expect("the caller found it");
        connection.session.subscribe(id)?;
        let resource = Arc::clone(&connection.handles[handle.0 as usize].resource);
        connection.subscriptions.insert(
            id,
            Subscription {
                resource,
                core: owner,
                queued: false,
                blocked: false,
            },
        );
        let head = encode(&message::Delivery::Head(id));
        connection.session.deliver(id, head, 0);
        Ok(())
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
        let append = connection.next_append;
        connection.next_append += 1;
        let resource = Arc::clone(&connection.handles[handle.0 as usize].resource);
        connection.appends.insert(
            append,
            Append {
                handle,
                resource,
                partition,
            },
        );
        Ok(append)
    }

    /// A subscription or append session that was admitted here was refused
    /// where its partition lives.
    pub(crate) fn undo(&mut self, conn: u64, provisional: &Provisional) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        match provisional {
            Provisional::Subscription(id) => {
                connection.session.drop_subscription(*id);
                connection.subscriptions.remove(id);
            }
            Provisional::Append(append) => {
                connection.appends.remove(append);
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
        frame: &Frame<'_>,
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
        if !connection.handles[handle.0 as usize]
            .permissions
            .allow(request.needs())
        {
            return Err(ErrorCode::Forbidden.into());
        }
        if last {
            connection.appends.remove(&append);
        }
        let owner = resource
            .owner(partition)
            .expect("checked when the session began");
        if owner == self.config.core {
            let target = Target {
                slot: self.slot_of(&resource, partition)?,
                partition,
                shards: resource.spec.shards,
            };
            self.execute(origin, target, append, request, out)
        } else {
            self.forward(conn, origin, owner, resource, append, frame)
        }
    }

    /// Grants for an unknown subscription are ignored: the grant may cross the
    /// end of the subscription.
    fn credit(&mut self, conn: u64, credit: &Credit) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        let Some(subscription) = connection.subscriptions.get(&credit.subscription) else {
            return;
        };
        let (session, owner) = (connection.id, subscription.core);
        if owner == self.config.core {
            self.shard
                .credit(session, credit.subscription, credit.records, credit.bytes);
        } else {
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
        frame: &Frame<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let id = unsubscribe.subscription;
        let connection = self.connection(conn).expect("the caller found it");
        let subscription = connection
            .subscriptions
            .get(&id)
            .ok_or(ErrorCode::UnknownSubscription)?;
        let owner = subscription.core;
        let resource = Arc::clone(&subscription.resource);
        if owner == self.config.core {
            self.end_subscription(origin, id, out)
        } else {
            self.forward(conn, origin, owner, resource, 0, frame)
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
        let identity = connection.identity.expect("a ready session has one");
        let permissions = self
            .access
            .permissions(identity.principal, open.kind, &name);
        if permissions == Permissions::NONE || !permissions.allow(Request::Open(*open).needs()) {
            return Err(ErrorCode::Forbidden.into());
        }
        let known = self.map.find(identity.tenant, open.kind, &name);
        if let (Some(resource), None) = (known, open.spec) {
            let resource = Arc::clone(resource);
            self.opened(conn, origin.correlation, resource, out)?;
            return Ok(Executed::Replied);
        }
        if open.spec.is_none() && !self.config.create_on_first_use {
            return Err(ErrorCode::NotFound.into());
        }
        self.control.push_back(ControlMail::Declare {
            origin,
            tenant: identity.tenant,
            kind: open.kind,
            name,
            spec: open.spec,
        });
        Ok(Executed::Deferred)
    }

    /// The control thread has found or created a resource.
    pub(crate) fn handle_declared(
        &mut self,
        origin: Origin,
        result: Result<Arc<Resource>, Refusal>,
    ) {
        let mut frame = Vec::new();
        let opened = result.and_then(|resource| {
            self.opened(
                origin.session.token,
                origin.correlation,
                resource,
                &mut frame,
            )
        });
        if let Err(refusal) = opened {
            frame.clear();
            answer(&mut frame, origin.correlation, &Reply::Error(refusal));
        }
        self.handle_late_reply(origin, &frame);
    }

    fn opened(
        &mut self,
        conn: u64,
        correlation: u32,
        resource: Arc<Resource>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let access = Arc::clone(&self.access);
        let epoch = self.map.epoch();
        let Some(connection) = self.connection(conn) else {
            return Ok(());
        };
        let identity = connection.identity.expect("a ready session has one");
        let permissions = access.permissions(identity.principal, resource.kind, &resource.name);
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
                    resource: Arc::clone(&resource),
                    permissions,
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

/// Where in its resource a request goes.
pub(crate) fn place<'a>(request: &Request<'a>) -> Option<Place<'a>> {
    target(request).map(|(_, _, place)| place)
}

/// The resource a request is about and where in it; `None` for requests that
/// are not about a resource.
fn target<'a>(request: &Request<'a>) -> Option<(Handle, ResourceKind, Place<'a>)> {
    use Place::{Key, Partition};
    use ResourceKind::{Cache, Stream};
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
