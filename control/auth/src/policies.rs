//! Who has which rights: a tenant's policies, the roles they are given to, and who has those.

use pinion_metadata::{ActionPattern, PolicyObject, Subject};
use pinion_types::{FixedMap, FixedSet};

use crate::rights::{Actions, Rights};

/// The policies and groupings of one tenant, arranged for asking what somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    tenant: Box<str>,
    /// What each subject was given itself.
    rights: FixedMap<Box<str>, Rights>,
    /// Roles that each subject was given, as subjects.
    roles: FixedMap<Box<str>, Vec<Box<str>>>,
}

impl Policies {
    /// None yet, of the tenant of that name.
    #[must_use]
    pub fn new(tenant: &str) -> Self {
        Self {
            tenant: tenant.into(),
            rights: FixedMap::default(),
            roles: FixedMap::default(),
        }
    }

    /// A policy: the subject may do this to that. One that leads out of the tenant is left
    /// out: metadata has none, and here nothing rests on that.
    pub fn allow(&mut self, subject: &Subject, action: ActionPattern, object: &PolicyObject) {
        if object.tenant() != Some(&*self.tenant) {
            return;
        }
        let rights = self.rights.entry(subject.as_str().into()).or_default();
        rights.add(Actions::of(action), object.clone());
    }

    /// A grouping: the member, be it a role itself, has the role of that name.
    pub fn give(&mut self, member: &Subject, role: &str) {
        let roles = self.roles.entry(member.as_str().into()).or_default();
        roles.push(format!("role:{role}").into());
    }

    /// Everything that somebody may do who is all of these subjects at once: its own policies,
    /// those of its groups, and those of every role that they lead to.
    #[must_use]
    pub fn rights<'a>(&'a self, who: impl IntoIterator<Item = &'a str>) -> Rights {
        let mut all = Rights::default();
        let mut next: Vec<&str> = who.into_iter().collect();
        let mut seen: FixedSet<&str> = next.iter().copied().collect();
        while let Some(subject) = next.pop() {
            if let Some(own) = self.rights.get(subject) {
                all.add_all(own);
            }
            for role in self.roles.get(subject).into_iter().flatten() {
                // Metadata has no role that leads to itself; here nothing rests on that.
                if seen.insert(role) {
                    next.push(role);
                }
            }
        }
        all
    }

    /// Subjects that a certificate may name and that were given something.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &str> {
        let given = self.rights.keys().chain(self.roles.keys());
        given
            .map(|one| &**one)
            .filter(|one| one.starts_with("spiffe://"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_metadata::Action;

    /// A tenant's rules, one a line: `subject may action object` or `subject has role`.
    fn policies(lines: &str) -> Policies {
        let subject = |text| Subject::parse(text).expect(text);
        let mut policies = Policies::new("t");
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                [who, "may", action, object] => policies.allow(
                    &subject(who),
                    ActionPattern::parse(action).expect(action),
                    &PolicyObject::parse(object).expect(object),
                ),
                [who, "has", role] => policies.give(&subject(who), role),
                _ => panic!("{line}"),
            }
        }
        policies
    }

    fn may(policies: &Policies, who: &[&str], action: Action, object: &str) -> bool {
        let object = PolicyObject::parse(object).expect(object);
        let rights = policies.rights(who.iter().copied());
        rights.allow(action, &object)
    }

    #[test]
    fn somebody_may_what_it_its_groups_and_their_roles_may() {
        let policies = policies(
            "p:ana may cache.read cache:t/n/a
             g:dev has writer
             role:writer may stream.publish stream:t/*
             role:writer has reader
             role:reader may stream.subscribe stream:t/*
             role:admin may tenant.manage tenant:t
             p:bo has admin",
        );
        let ana = ["p:ana", "g:dev", "g:nobody"];
        for (action, object) in [
            (Action::CacheRead, "cache:t/n/a"),
            (Action::StreamPublish, "stream:t/n/s"),
            (Action::StreamSubscribe, "stream:t/n/s"),
        ] {
            assert!(may(&policies, &ana, action, object), "{action} {object}");
            assert!(!may(&policies, &["p:eve"], action, object));
        }
        assert!(!may(&policies, &ana, Action::TenantManage, "tenant:t"));
        assert!(may(&policies, &["p:bo"], Action::TenantManage, "tenant:t"));
        assert!(!may(
            &policies,
            &["p:bo"],
            Action::StreamPublish,
            "stream:t/n/s"
        ));
        assert!(policies.rights([]).is_empty());
        assert!(policies.rights(["role:nobody"]).is_empty());
        // A group that is called like a person is not that person.
        assert!(policies.rights(["g:ana"]).is_empty());
    }

    #[test]
    fn a_ring_of_roles_ends_all_the_same() {
        let policies = policies(
            "role:a has b
             role:b has a
             role:b may cache.read cache:t/*
             p:ana has a
             p:ana has a",
        );
        assert!(may(&policies, &["p:ana"], Action::CacheRead, "cache:t/n/x"));
    }

    #[test]
    fn workloads_are_known_by_what_they_were_given() {
        let policies = policies(
            "spiffe://d/a may cache.read cache:t/*
             spiffe://d/b has reader
             p:ana has reader
             role:reader may cache.read cache:t/*",
        );
        let mut workloads: Vec<_> = policies.workloads().collect();
        workloads.sort_unstable();
        assert_eq!(workloads, ["spiffe://d/a", "spiffe://d/b"]);
    }
}
