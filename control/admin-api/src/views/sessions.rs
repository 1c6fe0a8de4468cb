//! Who is connected.

use core::fmt;

use pinion_metadata::TenantNumber;
use pinion_node::views::{Question, SessionFacts, View};
use pinion_types::{CoreId, WallMs};
use serde::{Serialize, Serializer};
use tokio::sync::Mutex;
use utoipa::ToSchema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catalog::Catalog;
use super::{At, Listed, Paging, ask};
use crate::Api;
use crate::access::{Reach, Who};
use crate::error::Failure;

/// Oldest list of connections that is given out.
const ROSTER_AGE_MAX: Duration = Duration::from_secs(1);

/// Names a connection of this node: the number of its core and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId {
    pub(crate) core: CoreId,
    pub(crate) number: u64,
}

impl SessionId {
    pub(crate) fn of(id: pinion_types::SessionId) -> Self {
        Self {
            core: id.core,
            number: id.token,
        }
    }

    /// As it is shown, and no other spelling of it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (core, number) = text.split_once('.')?;
        let id = Self {
            core: CoreId(core.parse().ok()?),
            number: number.parse().ok()?,
        };
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.core.0, self.number)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One connection.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SessionRow {
    /// The number of its core and its number there; no later one has it.
    #[schema(value_type = String)]
    pub(crate) session_id: SessionId,
    /// The tenant of its credential; null before HELLO.
    pub(crate) realm: Option<String>,
    /// For whom its credential speaks.
    pub(crate) principal: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) connected_at: At,
    pub(crate) idle_seconds: u64,
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    /// `quic`
    pub(crate) transport: &'static str,
    pub(crate) remote_addr: Option<String>,
    pub(crate) core: u16,
    /// Requests that wait for their answer.
    pub(crate) in_flight: u32,
    /// Subscriptions and watches.
    pub(crate) subscriptions: u32,
    /// When its credential is over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) expires_at: Option<At>,
    /// It is on its way out and may ask for nothing more.
    pub(crate) leaving: bool,
}

/// Everybody who is connected, for as long as it is new.
#[derive(Debug, Default)]
pub(crate) struct Roster(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    all: Arc<Vec<SessionFacts>>,
    taken: Instant,
    at: WallMs,
}

impl Roster {
    /// All connections, by core and number, at most a second old. Who asks while they are
    /// gathered waits for the same.
    async fn all(&self, api: &Api) -> Result<(Arc<Vec<SessionFacts>>, At), Failure> {
        let mut kept = self.0.lock().await;
        if let Some(kept) = &*kept
            && kept.taken.elapsed() < ROSTER_AGE_MAX
        {
            return Ok((kept.all.clone(), At(kept.at)));
        }
        let at = crate::wall();
        let mut all = Vec::new();
        for core in 0..api.observer.cores().cores() {
            of_core(api, CoreId(core), &mut all).await?;
        }
        all.sort_by_key(|one| (one.core, one.session));
        let all = Arc::new(all);
        *kept = Some(Kept {
            all: all.clone(),
            taken: Instant::now(),
            at,
        });
        Ok((all, At(at)))
    }

    /// Somebody was closed: the next list is a new one.
    async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

async fn of_core(api: &Api, core: CoreId, all: &mut Vec<SessionFacts>) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let View::Sessions(page) = ask::question(api, core, Question::Sessions { after }).await?
        else {
            return Err(ask::strange());
        };
        all.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

fn tenant<'a>(catalog: &'a Catalog, facts: &SessionFacts) -> Option<&'a str> {
    catalog.tenant(TenantNumber(facts.tenant?.0))
}

fn ago(now: At, ms: u64) -> At {
    At(WallMs(now.0.0.saturating_sub(ms)))
}

fn row(catalog: &Catalog, facts: &SessionFacts, at: At) -> SessionRow {
    SessionRow {
        session_id: SessionId {
            core: facts.core,
            number: facts.session,
        },
        realm: tenant(catalog, facts).map(str::to_owned),
        principal: facts.principal.to_string(),
        connected_at: ago(at, facts.connected_ms),
        idle_seconds: facts.idle_ms / 1_000,
        messages_received: facts.received,
        messages_sent: facts.sent,
        transport: "quic",
        remote_addr: facts.remote.map(|remote| remote.to_string()),
        core: facts.core.0,
        in_flight: facts.in_flight,
        subscriptions: facts.subscriptions,
        expires_at: facts.expires.map(At),
        leaving: facts.leaving,
    }
}

/// Whether a connection is within somebody's reach. One before HELLO is nobody's yet.
fn is_within(reach: &Reach, catalog: &Catalog, facts: &SessionFacts) -> bool {
    match tenant(catalog, facts) {
        Some(tenant) => reach.covers(tenant),
        None => *reach == Reach::All,
    }
}

/// Who is connected to this node: of a tenant, or of all that somebody may see; with
/// `search` only whose principal or address has that in it.
///
/// # Errors
/// They may see nobody; a core does not answer.
pub(crate) async fn list(
    api: &Api,
    who: &Who,
    (realm, search): (Option<&str>, Option<&str>),
    paging: Paging,
) -> Result<Listed<SessionRow>, Failure> {
    let reach = who.reach(pinion_metadata::Action::AdminRead)?;
    let catalog = api.shelf.catalog(&api.plane).await?;
    let (all, as_of) = api.roster.all(api).await?;
    let search = search.filter(|search| !search.is_empty());
    let wanted = |facts: &&SessionFacts| {
        is_within(&reach, &catalog, facts)
            && realm.is_none_or(|realm| tenant(&catalog, facts) == Some(realm))
            && search.is_none_or(|search| {
                let remote = facts.remote.map(|remote| remote.to_string());
                facts.principal.contains(search)
                    || remote.is_some_and(|remote| remote.contains(search))
            })
    };
    let found: Vec<&SessionFacts> = all.iter().filter(wanted).collect();
    let rows = paging.cut(&found).iter();
    Ok(Listed {
        rows: rows.map(|facts| row(&catalog, facts, as_of)).collect(),
        total: found.len(),
        as_of,
    })
}

/// How many connections each tenant has.
pub(super) async fn by_tenant(api: &Api) -> Result<BTreeMap<TenantNumber, u64>, Failure> {
    let (all, _) = api.roster.all(api).await?;
    let mut counted = BTreeMap::new();
    for tenant in all.iter().filter_map(|facts| facts.tenant) {
        *counted.entry(TenantNumber(tenant.0)).or_default() += 1;
    }
    Ok(counted)
}

/// How many connections have said who they are.
pub(super) async fn known(api: &Api) -> Result<u64, Failure> {
    let (all, _) = api.roster.all(api).await?;
    Ok(all.iter().filter(|one| one.tenant.is_some()).count() as u64)
}

/// One connection, as it is at this moment.
///
/// # Errors
/// 404 when there is none, or none within reach.
pub(crate) async fn one(
    api: &Api,
    reach: &Reach,
    id: SessionId,
) -> Result<(SessionRow, Option<Box<str>>), Failure> {
    let catalog = api.shelf.catalog(&api.plane).await?;
    let mut all = Vec::new();
    if id.core.0 < api.observer.cores().cores() {
        of_core(api, id.core, &mut all).await?;
    }
    let found = all.iter().find(|facts| facts.session == id.number);
    let found = found.filter(|facts| is_within(reach, &catalog, facts));
    let facts = found.ok_or_else(Failure::not_found)?;
    let at = At(crate::wall());
    Ok((
        row(&catalog, facts, at),
        tenant(&catalog, facts).map(Into::into),
    ))
}

/// For whom the credentials of these connections speak; those that are gone are not there.
/// Whoever asks has seen them in something that they may see.
pub(crate) async fn principals(
    api: &Api,
    wanted: BTreeSet<SessionId>,
) -> BTreeMap<SessionId, Box<str>> {
    let Ok((all, _)) = api.roster.all(api).await else {
        return BTreeMap::new();
    };
    let named = all.iter().map(|facts| {
        let id = SessionId {
            core: facts.core,
            number: facts.session,
        };
        (id, &facts.principal)
    });
    let found = named.filter(|(id, _)| wanted.contains(id));
    found.map(|(id, name)| (id, name.clone())).collect()
}

/// Ends a connection.
pub(super) async fn close(api: &Api, id: SessionId) -> Result<(), Failure> {
    let asked = Question::CloseSession { session: id.number };
    done(api, id.core, asked).await
}

/// Ends a subscription of a connection.
pub(super) async fn end(api: &Api, id: SessionId, subscription: u32) -> Result<(), Failure> {
    let asked = Question::EndSubscription {
        session: id.number,
        subscription: pinion_types::SubscriptionId(subscription),
    };
    done(api, id.core, asked).await
}

async fn done(api: &Api, core: CoreId, asked: Question) -> Result<(), Failure> {
    let view = ask::question(api, core, asked).await?;
    api.roster.forget().await;
    match view {
        View::Done(true) => Ok(()),
        View::Done(false) => Err(Failure::not_found()),
        _ => Err(ask::strange()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_name() {
        let id = SessionId {
            core: CoreId(2),
            number: u64::MAX,
        };
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        for wrong in [
            "", "2", "2.", ".7", "02.7", "2.+7", "2.7.1", "-1.7", "70000.1",
        ] {
            assert_eq!(SessionId::parse(wrong), None, "{wrong}");
        }
    }
}
