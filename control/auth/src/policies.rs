//! Who has which rights: a tenant's policies, the roles they are given to, and who has those.

use std::collections::BTreeSet;
use std::sync::Arc;

use pinion_metadata::{ActionPattern, PolicyObject, Subject};
use pinion_types::{FixedMap, FixedSet};

use crate::rights::{Actions, Held, Rights};

/// Most steps that the rights of a tenant's subjects are found in: one for each role that is
/// looked at, each role that it leads to, and each object that it is on.
///
/// Whoever has the same roles shares what they bring, so this is what the combinations of
/// roles cost that are in use; 25 times as much as a tenant has policies and groupings. An
/// object that is held takes about 25 bytes, so more would let a tenant fill more than 6 MB
/// on each node, and hold up its control core for longer than a tenth of a second at each of
/// its changes.
pub const RIGHTS_STEPS_MAX: usize = 250_000;

/// The policies and groupings of one tenant, arranged for asking what somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    tenant: Box<str>,
    /// What each subject was given itself.
    rights: FixedMap<Box<str>, Arc<Held>>,
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
        let object = Arc::new(object.clone());
        Arc::make_mut(rights).add(Actions::of(action), object);
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
        // Of one somebody, there is no more than the tenant has policies.
        let all = self.held(who, &mut usize::MAX.clone());
        Rights::in_parts(Arc::new(all.unwrap_or_default()), Arc::default())
    }

    /// What all of these subjects hold together, unless that takes more steps than there are.
    fn held<'a>(
        &'a self,
        who: impl IntoIterator<Item = &'a str>,
        steps: &mut usize,
    ) -> Option<Held> {
        let mut all = Held::default();
        let mut next: Vec<&str> = who.into_iter().collect();
        let mut seen: FixedSet<&str> = next.iter().copied().collect();
        while let Some(subject) = next.pop() {
            let own = self.rights.get(subject);
            let roles = self.roles.get(subject);
            let cost = 1 + own.map_or(0, |own| own.len()) + roles.map_or(0, Vec::len);
            // What is begun and does not fit leaves nothing for others: how far it went was
            // work, too.
            *steps = steps.checked_sub(cost).or_else(|| {
                *steps = 0;
                None
            })?;
            if let Some(own) = own {
                all.add_all(own);
            }
            for role in roles.into_iter().flatten() {
                // Metadata has no role that leads to itself; here nothing rests on that.
                if seen.insert(role) {
                    next.push(role);
                }
            }
        }
        Some(all)
    }

    /// What each of these subjects may do alone, without groups, as far as
    /// [`RIGHTS_STEPS_MAX`] goes: in the order of their texts, so that every node leaves out
    /// the same. Who is left out has no rights, also not those of its own policies: half of
    /// what somebody may do is no answer that anybody expects. Says how many were left out.
    ///
    /// Every subject times every policy is far more than either, so nothing of that size is
    /// made: what a subject was given itself is shared with these policies, and what its roles
    /// bring with all who have the same.
    pub(crate) fn of_each(
        &self,
        subjects: &BTreeSet<&str>,
    ) -> (FixedMap<Box<str>, Arc<Rights>>, usize) {
        let mut steps = RIGHTS_STEPS_MAX;
        let mut of_roles: FixedMap<BTreeSet<&str>, Arc<Held>> = FixedMap::default();
        let mut all = FixedMap::default();
        for subject in subjects.iter().copied() {
            let roles = self.roles.get(subject).into_iter().flatten();
            let roles: BTreeSet<&str> = roles.map(|role| &**role).collect();
            let shared = of_roles.get(&roles).cloned().or_else(|| {
                let held = Arc::new(self.held(roles.iter().copied(), &mut steps)?);
                of_roles.insert(roles, Arc::clone(&held));
                Some(held)
            });
            if let Some(shared) = shared {
                let own = self.rights.get(subject).cloned().unwrap_or_default();
                let rights = Rights::in_parts(own, shared);
                all.insert(subject.into(), Arc::new(rights));
            }
        }
        let left_out = subjects.len() - all.len();
        (all, left_out)
    }

    /// Subjects that a certificate of one of these trust domains may name and that were given
    /// something. Others are never asked for.
    pub(crate) fn workloads(&self, domains: &[Box<str>]) -> impl Iterator<Item = &str> {
        let given = self.rights.keys().chain(self.roles.keys());
        given.map(|one| &**one).filter(|one| {
            let domain = one
                .strip_prefix("spiffe://")
                .and_then(|rest| rest.split('/').next());
            domain.is_some_and(|domain| domains.iter().any(|known| **known == *domain))
        })
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
        let mut workloads: Vec<_> = policies.workloads(&["d".into(), "e".into()]).collect();
        workloads.sort_unstable();
        assert_eq!(workloads, ["spiffe://d/a", "spiffe://d/b"]);
        // A trust domain that is another's, or nobody's.
        assert_eq!(policies.workloads(&["e".into(), "d/a".into()]).count(), 0);
    }

    const MAY: ActionPattern = ActionPattern::One(Action::StreamPublish);

    fn named(kind: &str, number: usize) -> Subject {
        let text = format!("{kind}{number:05}");
        Subject::parse(&text).expect("a subject")
    }

    fn stream(number: usize) -> PolicyObject {
        PolicyObject::parse(&format!("stream:t/n/s{number:05}")).expect("an object")
    }

    fn of_workloads(policies: &Policies) -> (FixedMap<Box<str>, Arc<Rights>>, usize) {
        policies.of_each(&policies.workloads(&["d".into()]).collect())
    }

    #[test]
    fn a_role_of_many_policies_that_many_hold_is_there_once() {
        let mut policies = Policies::new("t");
        let role = Subject::parse("role:all").expect("a subject");
        for number in 0..5_000 {
            policies.allow(&role, MAY, &stream(number));
            policies.give(&named("spiffe://d/", number), "all");
            // One of their own does not part them.
            policies.allow(&named("spiffe://d/", number), MAY, &stream(90_000 + number));
        }
        let (rights, left_out) = of_workloads(&policies);
        assert_eq!((rights.len(), left_out), (5_000, 0));
        let mut places: Vec<_> = rights
            .values()
            .map(|one| Arc::as_ptr(one.of_roles()))
            .collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 1, "what the role brings is held once");
        for number in [0, 1, 2_500, 4_999] {
            let one = &rights[named("spiffe://d/", number).as_str()];
            for other in 0..5_000 {
                assert!(one.allow(Action::StreamPublish, &stream(other)));
                let own = one.allow(Action::StreamPublish, &stream(90_000 + other));
                assert_eq!(own, other == number);
            }
            assert!(!one.allow(Action::StreamSubscribe, &stream(0)));
        }
        let alone = policies.rights([named("spiffe://d/", 7).as_str()]);
        assert_eq!(alone, *rights[named("spiffe://d/", 7).as_str()]);
    }

    #[test]
    fn combinations_of_roles_end_at_the_limit_and_who_is_left_out_has_no_rights() {
        // Roles that lead to one another, so that each subject has another combination.
        let mut policies = Policies::new("t");
        const ROLES: usize = 3_000;
        for number in 0..ROLES {
            policies.allow(&named("role:", number), MAY, &stream(number));
            policies.give(&named("role:", number), &format!("{:05}", number + 1));
            policies.give(&named("spiffe://d/", number), &format!("{number:05}"));
        }
        // What it was given itself costs nothing; neither does what another has already.
        policies.allow(&named("spiffe://d/z", 1), MAY, &stream(1));
        policies.give(&named("spiffe://d/z", 2), "00000");
        policies.allow(&named("spiffe://d/z", 3), MAY, &stream(1));
        policies.give(&named("spiffe://d/z", 3), &format!("{:05}", ROLES - 1));
        let (rights, left_out) = of_workloads(&policies);
        // A role costs three: itself, its policy and what it leads to; the last leads to one
        // that there is not.
        let cost = |subject: usize| 3 * (ROLES - subject) + 1;
        let mut steps = 0;
        let fit = (0..ROLES).take_while(|one| {
            steps += cost(*one);
            steps <= RIGHTS_STEPS_MAX
        });
        let fit = fit.count();
        assert!(0 < fit && fit < ROLES, "the limit is in reach: {fit}");
        assert_eq!((rights.len(), left_out), (fit + 2, ROLES - fit + 1));
        let has = |subject: Subject| rights.contains_key(subject.as_str());
        assert!(has(named("spiffe://d/", 0)) && has(named("spiffe://d/", fit - 1)));
        assert!(!has(named("spiffe://d/", fit)) && !has(named("spiffe://d/", ROLES - 1)));
        assert!(has(named("spiffe://d/z", 1)) && has(named("spiffe://d/z", 2)));
        assert!(
            !has(named("spiffe://d/z", 3)),
            "all that it has, or nothing"
        );
        for (subject, rights) in &rights {
            assert_eq!(**rights, policies.rights([&**subject]), "{subject}");
        }
    }
}
