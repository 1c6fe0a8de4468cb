//! Policies and groupings: who may do what, and who has which role.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::ActionPattern;
use crate::error::MetaError;
use crate::limits::ROLE_DEPTH_MAX;
use crate::name;
use crate::object::{Body, Object};
use crate::policy::PolicyObject;
use crate::subject::{Subject, SubjectOf};

/// Allows a subject something. One tenant has no policy twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policy {
    /// Who.
    pub subject: Subject,
    /// May do what.
    pub action: ActionPattern,
    /// To what; in the policy's tenant.
    pub object: PolicyObject,
}

/// Gives a subject a role, with every policy that the role has and every role
/// that it was given. One tenant has no grouping twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grouping {
    /// Who; a role too, which then is this role and more.
    pub member: Subject,
    /// Has which role: one segment, as in `role:{segment}`.
    pub role: Box<str>,
}

impl Policy {
    /// Refused when it reaches out of its tenant.
    pub(crate) fn check(&self, tenant: &str) -> Result<(), MetaError> {
        check_inside(tenant, &self.object)
    }
}

impl Grouping {
    pub(crate) fn check(&self) -> Result<(), MetaError> {
        name::role(&self.role)
    }
}

/// Refused when an object is not in a tenant.
pub(crate) fn check_inside(tenant: &str, object: &PolicyObject) -> Result<(), MetaError> {
    if object.tenant() == Some(tenant) {
        return Ok(());
    }
    Err(MetaError::OutsideTenant {
        object: object.clone(),
    })
}

/// Which role of a tenant was given which other roles.
#[derive(Default)]
pub(crate) struct Roles<'a> {
    given: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Roles<'a> {
    /// Of the groupings among `objects`.
    pub(crate) fn of(objects: impl Iterator<Item = &'a Object>) -> Self {
        let mut roles = Self::default();
        for object in objects {
            if let Body::Grouping(grouping) = &object.body
                && let SubjectOf::Role(member) = grouping.member.of()
            {
                roles
                    .given
                    .entry(member)
                    .or_default()
                    .insert(&grouping.role);
            }
        }
        roles
    }

    /// Refused when a role leads to itself, or over too many others.
    pub(crate) fn check(&self) -> Result<(), MetaError> {
        // How many roles are on the longest way from each. A round finds ways that
        // are one longer; a way that never ends is too long as well.
        let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
        for _ in 0..=ROLE_DEPTH_MAX {
            for (role, given) in &self.given {
                let longest = given.iter().map(|other| ways.get(other).unwrap_or(&1));
                let way = 1 + longest.max().unwrap_or(&0);
                if way > ROLE_DEPTH_MAX {
                    return Err(MetaError::RoleCycle {
                        role: (*role).into(),
                        limit: ROLE_DEPTH_MAX,
                    });
                }
                ways.insert(role, way);
            }
        }
        Ok(())
    }

    /// A role and all that come with it.
    pub(crate) fn with(&self, role: &'a str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::from([role]);
        let mut next = vec![role];
        while let Some(role) = next.pop() {
            for other in self.given.get(role).into_iter().flatten() {
                if found.insert(other) {
                    next.push(other);
                }
            }
        }
        found
    }
}
