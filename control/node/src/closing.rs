//! Resources that are deleted: told that they serve nobody, that they do again, or
//! that they are gone for good.

use std::sync::Arc;
use std::time::Duration;

use pinion_shard::{Slot, Ticket};
use pinion_types::limits::SHARDS_MAX;
use pinion_types::{Epoch, ErrorCode, Monotonic, ResourceId};

use crate::access::Permissions;
use crate::core::Core;
use crate::mail::ControlMail;
use crate::map::Resource;

/// How long a purge waits that found no room in its log. Room comes when the disk
/// has caught up, or when people have made some.
const PURGE_RETRY: Duration = Duration::from_secs(1);

/// Purges that are not done yet; as many as were asked for, each once.
#[derive(Debug, Default)]
pub(crate) struct Purges {
    /// Written, and in which logs not durable yet.
    written: Vec<(ResourceId, Vec<Ticket>)>,
    /// Those whose log took nothing, with their shards.
    refused: Vec<(ResourceId, u16)>,
    retry: Option<Monotonic>,
}

impl Purges {
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.retry
    }
}

impl Core {
    /// A resource is deleted, and that may be taken back.
    pub(crate) fn handle_deleted(&mut self, epoch: Epoch, id: ResourceId) {
        let Some(resource) = self.map.remove(epoch, id) else {
            return;
        };
        self.close_handles(id);
        self.shard.close_resource(id, resource.spec.shards);
    }

    /// Open handles of the resource allow nothing from now on.
    fn close_handles(&mut self, id: ResourceId) {
        for connection in self.connections.iter_mut().flatten() {
            for handle in &mut connection.handles {
                if handle.resource.id == id {
                    handle.closed = true;
                    handle.permissions = Permissions::NONE;
                }
            }
        }
    }

    /// The deletion was taken back: handles of before hold again.
    pub(crate) fn handle_undeleted(&mut self, epoch: Epoch, resource: Arc<Resource>) {
        self.shard
            .reopen_resource(resource.id, resource.spec.shards);
        let newest = self.judging.newest();
        for connection in self.connections.iter_mut().flatten() {
            let Some(caller) = connection.caller.as_ref() else {
                continue;
            };
            // The table may not know somebody whom it has not judged, or who is leaving.
            let is_judged = connection.judged == newest && connection.leaving.is_none();
            for handle in &mut connection.handles {
                if handle.resource.id == resource.id {
                    handle.closed = false;
                    handle.permissions = match is_judged {
                        true => self.access.allowed(caller, resource.kind, &resource.name),
                        false => Permissions::NONE,
                    };
                    if !is_judged {
                        connection.basis = None;
                    }
                }
            }
        }
        self.map.insert(epoch, resource);
    }

    /// A resource is gone for good.
    pub(crate) fn handle_purge(&mut self, epoch: Epoch, id: ResourceId) {
        let known = self.map.purge(epoch, id);
        self.barred.remove(&id);
        self.close_handles(id);
        let written = self.purges.written.iter().any(|(one, _)| *one == id);
        let refused = self.purges.refused.iter().any(|(one, _)| *one == id);
        if !written && !refused {
            // A log may hold a resource that nobody declares.
            let shards = known.map_or(SHARDS_MAX, |resource| resource.spec.shards);
            self.purge(id, shards);
        }
    }

    fn purge(&mut self, id: ResourceId, shards: u16) {
        let (now, wall) = (self.now, self.wall);
        let slots: Vec<Slot> = self.shard.slots_of(id, shards).collect();
        match self.shard.purge_resource(now, wall, id, shards) {
            Ok(tickets) => {
                for slot in slots {
                    self.refuse_fetches(slot, ErrorCode::ResourceClosed);
                }
                if tickets.is_empty() {
                    self.purged(id);
                } else {
                    self.purges.written.push((id, tickets));
                }
            }
            Err(_) => {
                self.purges.refused.push((id, shards));
                self.purges.retry.get_or_insert(now + PURGE_RETRY);
            }
        }
    }

    /// Tries those again that found no room.
    pub(crate) fn purge_again(&mut self) {
        if self.purges.retry.is_none_or(|due| due > self.now) {
            return;
        }
        self.purges.retry = None;
        for (id, shards) in core::mem::take(&mut self.purges.refused) {
            self.purge(id, shards);
        }
    }

    /// A log has everything up to `ticket`.
    pub(crate) fn purges_committed(&mut self, ticket: Ticket) {
        if self.purges.written.is_empty() {
            return;
        }
        for (_, tickets) in &mut self.purges.written {
            tickets.retain(|one| one.log != ticket.log || one.lsn > ticket.lsn);
        }
        let done: Vec<ResourceId> = self
            .purges
            .written
            .extract_if(.., |(_, tickets)| tickets.is_empty())
            .map(|(id, _)| id)
            .collect();
        for id in done {
            self.purged(id);
        }
    }

    fn purged(&mut self, resource: ResourceId) {
        let core = self.config.core;
        self.control
            .push_back(ControlMail::Purged { core, resource });
    }
}
