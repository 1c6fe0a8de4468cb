//! Who asks, and whether they may: the one place where an administrator's request is
//! let in or refused.

use core::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE, ORIGIN};
use pinion_auth::AuthError;
pub(crate) use pinion_auth::access::bounded;
use pinion_auth::access::{AccessTable, Caller};
use pinion_auth::compile::Credentials;
use pinion_auth::rights::{Actions, Rights};
use pinion_metadata::limits::SCOPE_MAX;
use pinion_metadata::{Action, ActionPattern, Part, PolicyObject};
use pinion_types::WallMs;

use crate::call::Peer;
use crate::error::Failure;
use crate::limits::BEARER_BYTES_MAX;
use crate::routes::{Need, ObjectOf};

/// Whose things somebody may see, or change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Everybody's.
    All,
    /// Those of one tenant.
    Tenant(Box<str>),
}

impl Reach {
    /// Whether a tenant's things are within it.
    pub(crate) fn covers(&self, tenant: &str) -> bool {
        match self {
            Self::All => true,
            Self::Tenant(own) => **own == *tenant,
        }
    }

    /// The tenant, if it is one.
    pub(crate) fn tenant(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Tenant(own) => Some(own),
        }
    }
}

/// Somebody who asks.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    /// For the audit log, and what request ids belong to. No two who are not the same
    /// have the same; empty of somebody who showed nothing.
    pub(crate) principal: Box<str>,
    /// The tenant whose credential was shown; none of an operator's.
    pub(crate) tenant: Option<Box<str>>,
    pub(crate) rights: Arc<Rights>,
    pub(crate) remote: Option<SocketAddr>,
}

impl Who {
    /// Somebody who showed nothing.
    pub(crate) fn nobody(remote: Option<SocketAddr>) -> Self {
        Self {
            principal: Box::default(),
            tenant: None,
            rights: Arc::default(),
            remote,
        }
    }

    /// Whoever holds the credential of these headers.
    pub(crate) fn of(
        table: &AccessTable,
        headers: &HeaderMap,
        peer: &Peer,
        wall: WallMs,
    ) -> Result<Self, AuthError> {
        let shown = match &peer.workload {
            Some(workload) if counts_alone(headers) => Credentials {
                bearer: b"",
                workload: Some(workload),
            },
            _ => Credentials {
                bearer: bearer(headers)?,
                workload: None,
            },
        };
        Self::holding(table, &table.admit(wall, shown)?, peer.remote)
    }

    /// Whoever this table let in.
    pub(crate) fn holding(
        table: &AccessTable,
        caller: &Caller,
        remote: Option<SocketAddr>,
    ) -> Result<Self, AuthError> {
        let tenant = table.tenant_name(caller);
        let rights = match caller {
            _ if table.is_operator(caller) => operator(),
            // Its grants are for the data plane.
            Caller::Configured { .. } => Arc::default(),
            Caller::Known(known) => known.rights.clone(),
        };
        Ok(Self {
            principal: table.audited(caller)?,
            tenant: tenant.map(Into::into),
            rights,
            remote,
        })
    }

    /// Whether they may do this there. Who may change the state of something may see it.
    pub(crate) fn may(&self, action: Action, object: &PolicyObject) -> bool {
        self.rights.allow(action, object)
            || (action == Action::AdminRead && self.rights.allow(Action::AdminWrite, object))
            || self
                .rights
                .allow(Action::AdminWrite, &PolicyObject::Cluster)
    }

    /// How far an action reaches that is not on any one object.
    pub(crate) fn reach(&self, action: Action) -> Result<Reach, Failure> {
        if self.may(action, &PolicyObject::Cluster) {
            return Ok(Reach::All);
        }
        let own = self.tenant.as_ref();
        let own = own.filter(|own| self.may(action, &PolicyObject::Tenant((*own).clone())));
        match own {
            Some(own) => Ok(Reach::Tenant(own.clone())),
            None => Err(Failure::forbidden(action.text(), &PolicyObject::Cluster)),
        }
    }

    /// Whether they may see all of the cluster.
    pub(crate) fn sees_all(&self) -> bool {
        self.may(Action::AdminRead, &PolicyObject::Cluster)
    }

    /// Whether they may know of it: they have some right on it, or in it.
    pub(crate) fn sees(&self, object: &PolicyObject) -> bool {
        self.sees_all() || self.rights.touch(object)
    }

    /// Refuses unless they may. What they may not know of is not there.
    pub(crate) fn check(&self, action: Action, object: &PolicyObject) -> Result<(), Failure> {
        if self.may(action, object) {
            return Ok(());
        }
        if let Some(tenant) = object.tenant()
            && !self.sees(&PolicyObject::Tenant(tenant.into()))
        {
            return Err(Failure::hidden());
        }
        Err(Failure::forbidden(action.text(), object))
    }

    /// Where they may do this in a place; refused when that is nowhere.
    ///
    /// The widest objects come first. Somebody who has it on more than a command takes may do
    /// it on those alone: to give it on more, give it on something wider.
    pub(crate) fn scope(
        &self,
        action: Action,
        place: &PolicyObject,
    ) -> Result<Box<[PolicyObject]>, Failure> {
        if self.may(action, place) {
            return Ok(Box::new([place.clone()]));
        }
        let inside = self.rights.objects(action).filter(|one| place.covers(one));
        let inside: Box<[PolicyObject]> = inside.take(SCOPE_MAX).cloned().collect();
        if inside.is_empty() {
            // Says why, as for any other right.
            self.check(action, place)?;
        }
        Ok(inside)
    }

    /// Refuses unless they may know of it.
    pub(crate) fn check_sees(&self, object: &PolicyObject) -> Result<(), Failure> {
        if self.sees(object) {
            Ok(())
        } else {
            Err(Failure::hidden())
        }
    }

    /// Refuses unless a route's need is met; `part` gives the parts of its path.
    pub(crate) fn check_need<'a>(
        &self,
        need: Need,
        part: impl Fn(&str) -> &'a str,
    ) -> Result<(), Failure> {
        let object = |of| object_of(of, &part);
        match need {
            Need::Public | Need::Credential | Need::EachObject => Ok(()),
            Need::Inside(of) => self.check_sees(&object(of)),
            Need::Reach(action) => self.reach(action).map(drop),
            Need::Somewhere(action, of) => self.scope(action, &object(of)).map(drop),
            Need::On(action, of) => {
                // What is for operators is said so to who may know of the tenant.
                if of == ObjectOf::Cluster && !part("t").is_empty() {
                    self.check_sees(&object(ObjectOf::Tenant))?;
                }
                self.check(action, &object(of))
            }
        }
    }

    /// Whose requests are counted together with theirs.
    pub(crate) fn bucket(&self) -> String {
        if self.principal.is_empty() {
            address(self.remote)
        } else {
            self.principal.to_string()
        }
    }
}

/// What an address is counted under: one of IPv6 is as many as its owner likes.
pub(crate) fn address(remote: Option<SocketAddr>) -> String {
    match remote.map(|remote| remote.ip().to_canonical()) {
        None => String::new(),
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// The object that a right must be on.
pub(crate) fn object_of<'a>(of: ObjectOf, part: &impl Fn(&str) -> &'a str) -> PolicyObject {
    match of {
        ObjectOf::Cluster => PolicyObject::Cluster,
        ObjectOf::Tenant => PolicyObject::Tenant(part("t").into()),
        ObjectOf::Namespace => namespace(part("t"), part("ns")),
        ObjectOf::Resource(kind) => PolicyObject::Resource {
            kind: kind.into(),
            tenant: part("t").into(),
            namespace: part("ns").into(),
            name: Part::Exactly(part("r").into()),
        },
    }
}

pub(crate) fn namespace(tenant: &str, namespace: &str) -> PolicyObject {
    PolicyObject::Namespace {
        tenant: tenant.into(),
        namespace: Some(namespace.into()),
    }
}

/// Whether a certificate says who asks: nothing else is shown, and no page asks. A browser
/// shows its owner's certificate with whatever a page of anybody's makes it send, and then
/// says whose page that was (RFC 6454 §7).
fn counts_alone(headers: &HeaderMap) -> bool {
    let others = [AUTHORIZATION, COOKIE, ORIGIN];
    !others.iter().any(|name| headers.contains_key(name))
}

/// The one bearer of the headers.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&[u8], AuthError> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let value = all.next().ok_or(AuthError::Missing)?;
    if all.next().is_some() {
        return Err(AuthError::Malformed {
            what: "more than one Authorization",
        });
    }
    let value = value.as_bytes();
    if value.len() > BEARER_BYTES_MAX {
        return Err(AuthError::TooLarge {
            limit: BEARER_BYTES_MAX,
        });
    }
    // The scheme is written in any case (RFC 9110 §11.1).
    let (scheme, bearer) = value.split_at_checked(7).ok_or(AuthError::Missing)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(AuthError::Missing);
    }
    Ok(bearer.trim_ascii())
}

fn operator() -> Arc<Rights> {
    static RIGHTS: OnceLock<Arc<Rights>> = OnceLock::new();
    RIGHTS
        .get_or_init(|| {
            let mut rights = Rights::default();
            for action in [Action::AdminRead, Action::AdminWrite] {
                let actions = Actions::of(ActionPattern::One(action));
                rights.add(actions, PolicyObject::Cluster);
            }
            Arc::new(rights)
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn one_bearer_is_read_whatever_the_case_of_its_scheme() {
        let headers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            headers
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Ok(&b"abc"[..]));
        assert_eq!(bearer(&headers(&["bEARER  abc"])), Ok(&b"abc"[..]));
        assert_eq!(bearer(&headers(&[])), Err(AuthError::Missing));
        assert_eq!(bearer(&headers(&["Basic YTpi"])), Err(AuthError::Missing));
        assert_eq!(bearer(&headers(&["Bearer"])), Err(AuthError::Missing));
        assert!(bearer(&headers(&["Bearer a", "Bearer b"])).is_err());
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let of = |text: &str| address(Some(text.parse().expect("an address")));
        assert_eq!(of("[2001:db8:1:2::3]:1"), of("[2001:db8:1:2:ffff::4]:2"));
        assert_ne!(of("[2001:db8:1:2::3]:1"), of("[2001:db8:1:3::3]:1"));
        assert_eq!(of("[::ffff:10.0.0.1]:1"), of("10.0.0.1:2"));
        assert_ne!(of("10.0.0.1:1"), of("10.0.0.2:1"));
    }

    #[test]
    fn an_operator_may_everything_and_a_managing_right_its_own() {
        let who = |rights: Arc<Rights>| Who {
            rights,
            ..Who::nobody(None)
        };
        let acme = PolicyObject::Tenant("acme".into());
        let other = PolicyObject::Tenant("other".into());
        let ops = who(operator());
        assert!(ops.sees(&acme) && ops.may(Action::TenantManage, &acme));
        let mut rights = Rights::default();
        let manage = Actions::of(ActionPattern::One(Action::NsManage));
        rights.add(manage, namespace("acme", "pay"));
        let ana = who(Arc::new(rights));
        assert!(ana.sees(&acme) && !ana.sees(&other));
        assert!(
            ana.check(Action::NsManage, &namespace("acme", "pay"))
                .is_ok()
        );
        let status = |object| {
            ana.check(Action::NsManage, &object)
                .map_err(|e| e.status.as_u16())
        };
        assert_eq!(status(namespace("acme", "x")), Err(403));
        assert_eq!(
            status(namespace("other", "pay")),
            Err(404),
            "names do not leak"
        );
        assert_eq!(status(PolicyObject::Cluster), Err(403));
        assert!(ana.reach(Action::AdminRead).is_err());
        assert_eq!(ops.reach(Action::AdminWrite).ok(), Some(Reach::All));
        let mut rights = Rights::default();
        rights.add(Actions::of(ActionPattern::One(Action::AdminWrite)), acme);
        let bo = Who {
            tenant: Some("acme".into()),
            ..who(Arc::new(rights))
        };
        let own = Some(Reach::Tenant("acme".into()));
        assert_eq!(bo.reach(Action::AdminWrite).ok(), own);
        assert_eq!(bo.reach(Action::AdminRead).ok(), own, "write is read, too");
        assert!(own.is_some_and(|own| own.covers("acme") && !own.covers("other")));
    }
}
