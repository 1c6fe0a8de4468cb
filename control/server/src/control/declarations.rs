//! What clients of the data path declare: admitted by this node, decided by the
//! plane, told to the cores and then to who asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pinion_metadata::{Command, Expect};
use pinion_node::access::TenantId;
use pinion_node::mail::{CoreMail, Origin};
use pinion_node::map::{Admitted, Draft, Resource};
use pinion_plane::{Answer, Caller, PlaneError, Request, RequestId, Write};
use pinion_types::{ErrorCode, FactId, Refusal, ResourceKind, ResourceName};
use pinion_wire::message::Spec;

use super::convert;
use super::cores::Cores;
use super::driver::Driver;
use super::known::Known;

/// How long a declaration may take. Nobody is asked to wait longer for a leader
/// that does not come.
const DECLARE_PATIENCE: Duration = Duration::from_secs(5);

/// Clients that wait for a declaration at a time; more are told to come back.
const ASKERS_MAX: usize = 65_536;

/// What a client asks for.
pub(super) struct Wanted {
    pub(super) origin: Origin,
    pub(super) tenant: TenantId,
    pub(super) kind: ResourceKind,
    pub(super) name: ResourceName,
    pub(super) spec: Option<Spec>,
    pub(super) caller: Caller,
}

type Address = (TenantId, ResourceKind, ResourceName);

/// One that the plane has not answered yet.
struct Pending {
    draft: Draft,
    /// All who asked for it since.
    askers: Vec<Origin>,
}

/// The declarations under way.
#[derive(Default)]
pub(super) struct Declarations {
    pending: HashMap<RequestId, Pending>,
    by_address: HashMap<Address, RequestId>,
    askers: usize,
    /// The last request's number. The top bit is for others who ask the plane.
    last: u64,
}

impl Declarations {
    /// The next number of a request of the server's own.
    pub(super) fn next_id(&mut self) -> RequestId {
        self.last += 1;
        RequestId(self.last)
    }

    /// A client asks. Who can be told at once is.
    pub(super) fn ask(
        &mut self,
        wanted: Wanted,
        (known, driver, cores): (&mut Known, &mut Driver, &mut Cores),
    ) {
        let origin = wanted.origin;
        match self.try_ask(wanted, known, driver) {
            Ok(None) => {}
            Ok(Some(resource)) => tell(cores, origin, Ok(resource)),
            Err(refusal) => tell(cores, origin, Err(refusal)),
        }
    }

    /// `None`: it is answered later.
    fn try_ask(
        &mut self,
        wanted: Wanted,
        known: &mut Known,
        driver: &mut Driver,
    ) -> Result<Option<Arc<Resource>>, Refusal> {
        let Wanted {
            origin,
            tenant,
            kind,
            name,
            spec,
            caller,
        } = wanted;
        let address = (tenant, kind, name);
        if self.askers >= ASKERS_MAX {
            return Err(Refusal::new(ErrorCode::Busy).with(FactId::Limit, ASKERS_MAX as u64));
        }
        let under_way = self.by_address.get(&address);
        if let Some(pending) = under_way.and_then(|id| self.pending.get_mut(id)) {
            // The same asked by two at a time is one declaration.
            let same = match spec {
                Some(spec) => known.directory.complete(kind, spec)? == pending.draft.spec,
                None => true,
            };
            if !same {
                return Err(ErrorCode::SpecConflict.into());
            }
            pending.askers.push(origin);
            self.askers += 1;
            return Ok(None);
        }
        let here = known.directory.map().find(tenant, kind, &address.2);
        if here.is_none()
            && let Some(metadata) = driver.plane.metadata()
            && let Some(node) = known.elsewhere(metadata, (tenant, kind, &address.2))
        {
            return Err(convert::elsewhere(node));
        }
        let draft = match known.directory.admit(tenant, kind, &address.2, spec)? {
            Admitted::Exists(resource) => return Ok(Some(resource)),
            Admitted::New(draft) => draft,
        };
        let Some(name) = known.tenant(tenant) else {
            known.directory.settle(&draft);
            return Err(ErrorCode::NotFound.into());
        };
        let command = Command::Declare(convert::declare(&draft, name, known.broker));
        let id = self.next_id();
        let write = Write {
            caller,
            expect: Expect::Any,
            command,
            deadline: driver.now() + DECLARE_PATIENCE,
        };
        self.by_address.insert(address, id);
        let askers = vec![origin];
        self.askers += 1;
        self.pending.insert(id, Pending { draft, askers });
        driver.plane.handle_request(id, Request::Write(write));
        Ok(None)
    }

    /// The plane has answered; what the command changed is known already. Gives
    /// the answer back when it is to nobody here.
    pub(super) fn answered(
        &mut self,
        id: RequestId,
        answer: Answer,
        (known, driver, cores): (&mut Known, &Driver, &mut Cores),
    ) -> Option<Answer> {
        let Some(Pending { draft, askers }) = self.pending.remove(&id) else {
            return Some(answer);
        };
        self.askers -= askers.len();
        known.directory.settle(&draft);
        let full = driver.is_audit_full();
        let address = (draft.tenant, draft.kind, draft.name);
        let result = match answer {
            Answer::Refused(error) => Err(convert::refusal(&error, full)),
            _ => {
                let (tenant, kind, name) = &address;
                let map = known.directory.map();
                let found = map.find(*tenant, *kind, name).map(Arc::clone);
                found.ok_or_else(|| {
                    // Another node was first.
                    let metadata = driver.plane.metadata();
                    let of = (*tenant, *kind, name);
                    match metadata.and_then(|metadata| known.elsewhere(metadata, of)) {
                        Some(node) => convert::elsewhere(node),
                        None => convert::refusal(&PlaneError::NotReady, full),
                    }
                })
            }
        };
        match &result {
            Ok(resource) => {
                tracing::info!(kind = %resource.kind, name = %resource.name, "declared");
            }
            Err(refusal) => {
                tracing::debug!(kind = %address.1, name = %address.2, ?refusal, "not declared");
            }
        }
        self.by_address.remove(&address);
        for origin in askers {
            tell(cores, origin, result.clone());
        }
        None
    }
}

/// Whose name is on what the node does of its own accord.
pub(super) const PRINCIPAL: &str = "node";

/// Behind what the core was told of the resource, so that it knows the resource
/// when its client does.
fn tell(cores: &mut Cores, origin: Origin, result: Result<Arc<Resource>, Refusal>) {
    let core = origin.session.core;
    cores.tell(core, CoreMail::DeclareDone { origin, result });
}
