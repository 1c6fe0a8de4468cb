//! What somebody may do: actions on objects.
//!
//! Policies, what is left of them in a token, and what a request needs all speak of an
//! [`Action`] on a [`PolicyObject`]. A right reaches whatever its object covers; who may
//! manage a namespace or a tenant may manage what is in it.

use core::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use pinion_metadata::{Action, ActionPattern, Part, PolicyObject, ScopeKind};
use pinion_types::{ResourceKind, ResourceName};

use crate::access::Permissions;
use crate::error::AuthError;

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u32);

const _: () = assert!(Action::ALL.len() <= 32);

impl Actions {
    /// None.
    pub const NONE: Self = Self(0);

    /// Those that a pattern names.
    #[must_use]
    pub fn of(pattern: ActionPattern) -> Self {
        let named = Action::ALL.iter().filter(|one| pattern.includes(**one));
        named.fold(Self::NONE, |set, one| set.and(Self::one(*one)))
    }

    const fn one(action: Action) -> Self {
        Self(1 << action as u32)
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn contain(self, action: Action) -> bool {
        self.0 & Self::one(action).0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn in_both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What comes with them besides.
    const fn implied(self) -> Self {
        if self.contain(Action::TenantManage) {
            OF_NAMESPACE.and(Self::one(Action::NsManage))
        } else if self.contain(Action::NsManage) {
            OF_NAMESPACE
        } else {
            Self::NONE
        }
    }

    const fn in_full(self) -> Self {
        self.and(self.implied())
    }

    /// In the order of [`Action::ALL`].
    fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL
            .iter()
            .copied()
            .filter(move |one| self.contain(*one))
    }
}

/// What a namespace is managed by, besides itself: whatever makes, changes and deletes the
/// things in it.
const OF_NAMESPACE: Actions = Actions::one(Action::StreamManage)
    .and(Actions::one(Action::QueueManage))
    .and(Actions::one(Action::CacheManage))
    .and(Actions::one(Action::ScheduleManage))
    .and(Actions::one(Action::FlagManage));

/// What is asked for, of what somebody may do.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// These actions; `None` is each.
    pub actions: Option<Actions>,
    /// On these objects; `None` is each. Whoever takes them from a request bounds them:
    /// narrowing costs each right once for each of them.
    pub objects: Option<Vec<PolicyObject>>,
}

/// Actions on each object, at least one. An object is as long as its names, and one policy on
/// a role is held by everybody who has that role: the object is kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held(BTreeMap<Arc<PolicyObject>, Actions>);

impl Held {
    pub(crate) fn add(&mut self, actions: Actions, object: Arc<PolicyObject>) {
        if actions != Actions::NONE {
            let on = self.0.entry(object).or_default();
            *on = on.and(actions);
        }
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        for (object, actions) in &other.0 {
            self.add(*actions, Arc::clone(object));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn on(&self, object: &PolicyObject) -> Actions {
        self.0.get(object).copied().unwrap_or_default()
    }

    /// Whether the first object that is not before `least` has a part in common with `object`.
    fn meets(&self, least: &PolicyObject, object: &PolicyObject) -> bool {
        let mut from = self.0.range::<PolicyObject, _>(least..);
        let first = from.next();
        first.is_some_and(|(first, _)| first.intersect(object).is_some())
    }
}

/// Rights of one somebody. Deny unless listed.
///
/// They are in two parts: what was given to somebody itself, and what the roles bring that it
/// has. Whoever has the same roles shares the second, however much it is.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    own: Arc<Held>,
    of_roles: Arc<Held>,
}

impl PartialEq for Rights {
    /// Whether they are the same, however they are parted.
    fn eq(&self, other: &Self) -> bool {
        self.entries().eq(other.entries())
    }
}

impl Eq for Rights {}

impl Rights {
    pub(crate) fn in_parts(own: Arc<Held>, of_roles: Arc<Held>) -> Self {
        Self { own, of_roles }
    }

    /// Adds actions on an object.
    pub fn add(&mut self, actions: Actions, object: PolicyObject) {
        Arc::make_mut(&mut self.own).add(actions, Arc::new(object));
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.0.is_empty() && self.of_roles.0.is_empty()
    }

    /// The part that roles bring, to see with whom it is shared.
    #[cfg(test)]
    pub(crate) fn of_roles(&self) -> &Arc<Held> {
        &self.of_roles
    }

    /// Each object once and in order, whichever part it is of.
    fn entries(&self) -> impl Iterator<Item = (&PolicyObject, Actions)> {
        let mut own = self.own.0.iter().peekable();
        let mut of_roles = self.of_roles.0.iter().peekable();
        core::iter::from_fn(move || {
            let first = match (own.peek(), of_roles.peek()) {
                (Some((mine, _)), Some((theirs, _))) => mine.cmp(theirs),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            let mine = first.is_le().then(|| own.next()).flatten();
            let theirs = first.is_ge().then(|| of_roles.next()).flatten();
            let (object, actions) = mine.or(theirs)?;
            let others = theirs.map_or(Actions::NONE, |(_, actions)| *actions);
            Some((&**object, actions.and(others)))
        })
    }

    /// Whether they hold that action on all of that object.
    #[must_use]
    pub fn allow(&self, action: Action, object: &PolicyObject) -> bool {
        self.on(object)
            .and(self.above(object))
            .in_full()
            .contain(action)
    }

    /// What they allow on one resource of the data plane.
    #[must_use]
    pub fn permissions(
        &self,
        tenant: &str,
        kind: ResourceKind,
        name: &ResourceName,
    ) -> Permissions {
        let object = PolicyObject::Resource {
            kind: kind.into(),
            tenant: tenant.into(),
            namespace: name.namespace().into(),
            name: Part::Exactly(name.name().into()),
        };
        let actions = self.on(&object).and(self.above(&object)).in_full();
        let bits = actions.iter().map(|one| permissions_of(one, kind));
        bits.fold(Permissions::NONE, Permissions::and)
    }

    /// The objects on which they hold that action itself: how far it reaches.
    pub fn objects(&self, action: Action) -> impl Iterator<Item = &PolicyObject> {
        let held = self.entries().filter(move |(_, on)| on.contain(action));
        held.map(|(object, _)| object)
    }

    /// Whether they hold anything on it, or on something that has a part in common with it.
    ///
    /// Lists ask this of each row, so it looks at a few places and not at every right.
    #[must_use]
    pub fn touch(&self, object: &PolicyObject) -> bool {
        let parts = [&self.own, &self.of_roles];
        let holds_from = |least: &PolicyObject| parts.iter().any(|part| part.meets(least, object));
        self.above(object) != Actions::NONE || runs(object).iter().any(holds_from)
    }

    fn on(&self, object: &PolicyObject) -> Actions {
        self.own.on(object).and(self.of_roles.on(object))
    }

    /// What they hold on what covers an object and is not it.
    fn above(&self, object: &PolicyObject) -> Actions {
        let above = wider(object).into_iter().map(|object| self.on(&object));
        above.fold(Actions::NONE, Actions::and)
    }

    /// What of them is wanted.
    #[must_use]
    pub fn narrow(&self, wanted: &Wanted) -> Self {
        let mut narrowed = Self::default();
        for (object, actions) in self.entries() {
            let actions = match wanted.actions {
                Some(only) => actions.in_full().in_both(only.in_full()),
                None => actions,
            };
            match &wanted.objects {
                None => narrowed.add(actions, object.clone()),
                Some(only) => {
                    for both in only.iter().filter_map(|one| object.intersect(one)) {
                        narrowed.add(actions, both);
                    }
                }
            }
        }
        narrowed
    }

    /// Their texts, `action:object` each, without those that others say already: for a token.
    #[must_use]
    pub fn texts(&self) -> Box<[Box<str>]> {
        let text = |(object, actions): (&PolicyObject, Actions)| {
            let said = self.above(object).in_full().and(actions.implied());
            let own = actions.without(said);
            let texts = own
                .iter()
                .map(move |action| format!("{action}:{object}").into());
            texts.collect::<Vec<Box<str>>>()
        };
        self.entries().flat_map(text).collect()
    }

    /// Reads the texts of a token of that tenant.
    ///
    /// # Errors
    /// [`AuthError::Malformed`] when one is not known here: a right that is left out would
    /// be missed without a word. [`AuthError::WrongTenant`] when one leads out of the tenant.
    pub fn parse(texts: &[Box<str>], tenant: &str) -> Result<Self, AuthError> {
        let mut rights = Self::default();
        for text in texts {
            let (action, object) = split(text).ok_or(AuthError::Malformed {
                what: "a permission is not an action and an object that are known here",
            })?;
            if object.tenant() != Some(tenant) {
                return Err(AuthError::WrongTenant);
            }
            rights.add(Actions::one(action), object);
        }
        Ok(rights)
    }
}

/// `action:object`. Both may hold colons, but no action is the beginning of another and a
/// colon, so at most one split is one.
fn split(text: &str) -> Option<(Action, PolicyObject)> {
    // No action has more than one colon, so nothing after the second is looked at.
    let mut colons = text.match_indices(':').take(2);
    colons.find_map(|(at, _)| {
        let action = Action::parse(&text[..at])?;
        Some((action, PolicyObject::parse(&text[at + 1..]).ok()?))
    })
}

/// Every object that covers this one and is not it.
fn wider(object: &PolicyObject) -> Vec<PolicyObject> {
    let mut all = Vec::new();
    let Some(tenant) = object.tenant() else {
        return all;
    };
    all.push(PolicyObject::Cluster);
    if matches!(object, PolicyObject::Tenant(_)) {
        return all;
    }
    all.push(PolicyObject::Tenant(tenant.into()));
    let of = |namespace| PolicyObject::Namespace {
        tenant: tenant.into(),
        namespace,
    };
    match object {
        PolicyObject::Namespace {
            namespace: Some(_), ..
        }
        | PolicyObject::Kind { .. } => all.push(of(None)),
        PolicyObject::Resource {
            kind,
            namespace,
            name,
            ..
        } => {
            all.extend([of(None), of(Some(namespace.clone()))]);
            all.push(PolicyObject::Kind {
                kind: *kind,
                tenant: tenant.into(),
            });
            let named = wider_names(name).into_iter();
            all.extend(named.map(|name| PolicyObject::Resource {
                kind: *kind,
                tenant: tenant.into(),
                namespace: namespace.clone(),
                name,
            }));
        }
        PolicyObject::Cluster
        | PolicyObject::Tenant(_)
        | PolicyObject::Namespace {
            namespace: None, ..
        } => {}
    }
    all
}

fn wider_names(name: &Part) -> Vec<Part> {
    let (path, whole) = match name {
        Part::Any => return Vec::new(),
        Part::Below(path) => (path, false),
        Part::Exactly(path) => (path, true),
    };
    let ends = path.match_indices('/').map(|(at, _)| at);
    let ends = ends.chain(whole.then_some(path.len()));
    let below = ends.map(|end| Part::Below(path[..end].into()));
    core::iter::once(Part::Any).chain(below).collect()
}

/// Where in the order of objects everything lies that has a part in common with this one and
/// does not cover it: the least that there could be of each run. All of a run has, or nothing.
fn runs(object: &PolicyObject) -> Vec<PolicyObject> {
    let mut all = vec![object.clone()];
    let Some(tenant) = object.tenant() else {
        // After it comes everything.
        return all;
    };
    let namespaces = PolicyObject::Namespace {
        tenant: tenant.into(),
        namespace: None,
    };
    let whole = |kind| PolicyObject::Kind {
        kind,
        tenant: tenant.into(),
    };
    let named = |kind, namespace: &str, name| PolicyObject::Resource {
        kind,
        tenant: tenant.into(),
        namespace: namespace.into(),
        name,
    };
    let kinds = || ScopeKind::ALL.iter().copied();
    // Nothing is before an empty name.
    let each_of = |namespace| {
        let runs = kinds().map(move |kind| [whole(kind), named(kind, namespace, Part::Any)]);
        runs.flatten()
    };
    match object {
        PolicyObject::Cluster => {}
        PolicyObject::Tenant(_)
        | PolicyObject::Namespace {
            namespace: None, ..
        } => {
            all.push(namespaces);
            all.extend(each_of(""));
        }
        // A kind of the tenant and the namespace meet.
        PolicyObject::Namespace {
            namespace: Some(namespace),
            ..
        } => {
            all.extend(each_of(namespace));
        }
        PolicyObject::Kind { kind, .. } => {
            all.extend([namespaces, named(*kind, "", Part::Any)]);
        }
        PolicyObject::Resource {
            kind,
            namespace,
            name: Part::Below(path),
            ..
        } => {
            // Names that go on after the path without a slash may come between.
            let below: Box<str> = format!("{path}/").into();
            let parts = [
                Part::Below(below.clone()),
                Part::Exactly(path.clone()),
                Part::Exactly(below),
            ];
            all.extend(parts.map(|part| named(*kind, namespace, part)));
        }
        PolicyObject::Resource { .. } => {}
    }
    all
}

/// What an action is on the data plane, for a resource of that kind.
fn permissions_of(action: Action, kind: ResourceKind) -> Permissions {
    match (kind, action) {
        (ResourceKind::Stream, Action::StreamSubscribe)
        | (ResourceKind::Cache, Action::CacheRead) => Permissions::READ,
        (ResourceKind::Queue, Action::QueueConsume) => Permissions::READ.and(Permissions::CONSUME),
        (ResourceKind::Stream, Action::StreamPublish)
        | (ResourceKind::Queue, Action::QueueProduce)
        | (ResourceKind::Cache, Action::CacheWrite) => Permissions::PUT,
        (ResourceKind::Stream, Action::StreamManage)
        | (ResourceKind::Queue, Action::QueueManage)
        | (ResourceKind::Cache, Action::CacheManage) => Permissions::ADMIN,
        _ => Permissions::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(text: &str) -> PolicyObject {
        PolicyObject::parse(text).expect(text)
    }

    fn actions(text: &str) -> Actions {
        let named = text.split(' ').filter(|word| !word.is_empty());
        let named = named.map(|word| Actions::of(ActionPattern::parse(word).expect(word)));
        named.fold(Actions::NONE, Actions::and)
    }

    fn rights(lines: &[(&str, &str)]) -> Rights {
        let mut rights = Rights::default();
        for (named, on) in lines {
            rights.add(actions(named), object(on));
        }
        rights
    }

    #[test]
    fn a_right_reaches_what_its_object_covers_and_nothing_else() {
        let rights = rights(&[
            ("stream.publish", "stream:t/n/a/*"),
            ("cache.*", "namespace:t/n"),
            ("rbac.view", "tenant:t"),
        ]);
        let may = |action, on| rights.allow(action, &object(on));
        assert!(may(Action::StreamPublish, "stream:t/n/a"));
        assert!(may(Action::StreamPublish, "stream:t/n/a/b/c"));
        assert!(may(Action::StreamPublish, "stream:t/n/a/b/*"));
        assert!(!may(Action::StreamPublish, "stream:t/n/ab"));
        assert!(!may(Action::StreamPublish, "stream:t/n/*"));
        assert!(!may(Action::StreamPublish, "queue:t/n/a"));
        assert!(!may(Action::StreamSubscribe, "stream:t/n/a"));
        assert!(may(Action::CacheWrite, "cache:t/n/x"));
        assert!(!may(Action::CacheWrite, "cache:t/m/x"));
        assert!(!may(Action::CacheWrite, "cache:t/*"));
        assert!(may(Action::RbacView, "namespace:t/m"));
        assert!(!may(Action::RbacView, "tenant:u"));
        assert!(!may(Action::RbacView, "cluster"));
    }

    #[test]
    fn who_manages_a_place_manages_what_is_in_it_and_reads_nothing() {
        let place = rights(&[("ns.manage", "namespace:t/n")]);
        assert!(place.allow(Action::QueueManage, &object("queue:t/n/q")));
        assert!(!place.allow(Action::QueueManage, &object("queue:t/m/q")));
        assert!(!place.allow(Action::TenantManage, &object("namespace:t/n")));
        let tenant = rights(&[("tenant.manage", "tenant:t")]);
        assert!(tenant.allow(Action::NsManage, &object("namespace:t/*")));
        assert!(tenant.allow(Action::CacheManage, &object("cache:t/n/c")));
        for rights in [place, tenant] {
            for action in Action::ALL.iter().copied() {
                let manages =
                    action.text().ends_with(".manage") && !action.text().starts_with("rbac");
                let may = rights.allow(action, &object("stream:t/n/s"));
                assert!(!may || manages, "{action}");
            }
        }
    }

    #[test]
    fn actions_are_what_the_data_plane_asks_for() {
        let name = ResourceName::parse("n/x").expect("a name");
        for (named, kind, expected) in [
            ("stream.publish", ResourceKind::Stream, Permissions::PUT),
            ("stream.subscribe", ResourceKind::Stream, Permissions::READ),
            ("stream.manage", ResourceKind::Stream, Permissions::ADMIN),
            ("stream.*", ResourceKind::Queue, Permissions::NONE),
            ("queue.produce", ResourceKind::Queue, Permissions::PUT),
            (
                "queue.consume",
                ResourceKind::Queue,
                Permissions::READ.and(Permissions::CONSUME),
            ),
            ("queue.manage", ResourceKind::Queue, Permissions::ADMIN),
            ("cache.read", ResourceKind::Cache, Permissions::READ),
            ("cache.write", ResourceKind::Cache, Permissions::PUT),
            ("cache.manage", ResourceKind::Cache, Permissions::ADMIN),
            ("ns.manage", ResourceKind::Cache, Permissions::ADMIN),
            ("tenant.manage", ResourceKind::Queue, Permissions::ADMIN),
            (
                "rbac.* admin:write",
                ResourceKind::Stream,
                Permissions::NONE,
            ),
            (
                "kv.* rpc.* lease.* flag.*",
                ResourceKind::Cache,
                Permissions::NONE,
            ),
            ("*", ResourceKind::Queue, Permissions::ALL),
        ] {
            let rights = rights(&[(named, "tenant:t")]);
            assert_eq!(rights.permissions("t", kind, &name), expected, "{named}");
            assert_eq!(rights.permissions("u", kind, &name), Permissions::NONE);
        }
    }

    #[test]
    fn an_action_reaches_the_objects_it_is_held_on() {
        let rights = rights(&[
            ("rbac.*", "namespace:t/n"),
            ("rbac.policy.manage", "stream:t/m/*"),
            ("tenant.manage", "tenant:t"),
        ]);
        let reach = |action| rights.objects(action).map(|one| one.to_string());
        let policies: Vec<_> = reach(Action::RbacPolicyManage).collect();
        assert_eq!(policies, ["namespace:t/n", "stream:t/m/*"]);
        let groupings: Vec<_> = reach(Action::RbacAssignmentManage).collect();
        assert_eq!(groupings, ["namespace:t/n"]);
        assert_eq!(reach(Action::StreamPublish).count(), 0);
    }

    #[test]
    fn a_token_says_each_right_once() {
        let rights = rights(&[
            ("stream.*", "namespace:t/n"),
            ("stream.publish cache.read", "stream:t/n/a"),
            ("stream.publish", "stream:t/n/a/*"),
            ("stream.publish", "stream:t/m/a"),
            ("ns.manage stream.manage queue.manage", "namespace:t/m"),
        ]);
        let texts = rights.texts();
        let expected = [
            "ns.manage:namespace:t/m",
            "stream.publish:namespace:t/n",
            "stream.subscribe:namespace:t/n",
            "stream.manage:namespace:t/n",
            "stream.publish:stream:t/m/a",
            "cache.read:stream:t/n/a",
        ];
        let expected: [Box<str>; 6] = expected.map(Box::from);
        assert_eq!(*texts, expected);
    }

    #[test]
    fn a_permission_that_is_not_known_is_refused_and_so_is_one_of_another_tenant() {
        let parse = |text: &str| Rights::parse(&[text.into()], "t");
        for text in ["admin:read:tenant:t", "stream.publish:stream:t/n/a/*"] {
            let rights = parse(text).expect(text);
            assert_eq!(rights.texts().concat(), text);
        }
        for text in [
            "",
            "stream.publish",
            "stream.publish:",
            "stream.*:stream:t/*",
            "*:tenant:t",
            "stream.fly:stream:t/n/a",
            "stream.publish:stream:t/n/a*",
            "stream.publish:realm:t",
            ":tenant:t",
            "admin:tenant:t",
            " stream.publish:tenant:t",
        ] {
            let why = parse(text).expect_err(text);
            assert!(matches!(why, AuthError::Malformed { .. }), "{text}: {why}");
        }
        for text in ["stream.publish:tenant:u", "admin:write:cluster"] {
            assert_eq!(parse(text), Err(AuthError::WrongTenant), "{text}");
        }
    }

    fn objects() -> impl Strategy<Value = PolicyObject> {
        let place = "[tu]/[nm]/(a|b|a/b|a/b/c|ab|a-|\\*|a/\\*|a-/\\*|a/b/\\*)";
        prop_oneof![
            Just("cluster".to_owned()),
            "tenant:[tu]",
            "namespace:[tu]/(n|m|\\*)",
            "(stream|queue):[tu]/\\*",
            ("(stream|queue)", place).prop_map(|(kind, place)| format!("{kind}:{place}")),
        ]
        .prop_map(|text| object(&text))
    }

    fn close() -> impl Strategy<Value = PolicyObject> {
        let name = "(a|a-|a-/b|a/b|a0|\\*|a/\\*|a-/\\*|a/b/\\*)";
        name.prop_map(|name| object(&format!("stream:t/n/{name}")))
    }

    fn some_actions() -> impl Strategy<Value = Actions> {
        let pattern = "(\\*|stream\\.\\*|stream\\.publish|stream\\.manage|queue\\.consume|ns\\.manage|tenant\\.manage)";
        prop::collection::vec(pattern, 1..3).prop_map(|all| actions(&all.join(" ")))
    }

    fn some_rights() -> impl Strategy<Value = Vec<(Actions, PolicyObject)>> {
        prop::collection::vec((some_actions(), objects()), 0..6)
    }

    fn in_parts(own: &[(Actions, PolicyObject)], of_roles: &[(Actions, PolicyObject)]) -> Rights {
        let part = |lines: &[(Actions, PolicyObject)]| {
            let mut held = Held::default();
            for (actions, object) in lines {
                held.add(*actions, Arc::new(object.clone()));
            }
            Arc::new(held)
        };
        Rights::in_parts(part(own), part(of_roles))
    }

    proptest! {
        /// The list of what covers an object is what metadata says of each pair.
        #[test]
        fn wider_is_what_covers(a in objects(), b in objects()) {
            let covers = b != a && b.covers(&a);
            prop_assert_eq!(wider(&a).contains(&b), covers, "{} above {}", b, a);
        }

        /// Asking the map is asking each line.
        #[test]
        fn rights_allow_what_one_of_them_allows(lines in some_rights(), asked in objects()) {
            let mut rights = Rights::default();
            for (actions, object) in &lines {
                rights.add(*actions, object.clone());
            }
            for action in Action::ALL.iter().copied() {
                let one = lines.iter().any(|(actions, object)| {
                    actions.in_full().contain(action) && object.covers(&asked)
                });
                prop_assert_eq!(rights.allow(action, &asked), one, "{} on {}", action, asked);
            }
        }

        /// Looking at a few places finds what looking at every right does, in whichever part
        /// it is.
        #[test]
        fn rights_touch_what_one_of_them_meets(
            own in some_rights(),
            of_roles in some_rights(),
            asked in objects(),
        ) {
            let rights = in_parts(&own, &of_roles);
            let one = own.iter().chain(&of_roles).any(|(_, object)| object.intersect(&asked).is_some());
            prop_assert_eq!(rights.touch(&asked), one, "{}", asked);
            let narrowed = rights.narrow(&Wanted { actions: None, objects: Some(vec![asked]) });
            prop_assert_eq!(!narrowed.is_empty(), one);
        }

        /// The same of names that lie close together, where what goes on after a path without
        /// a slash comes between it and what is below.
        #[test]
        fn rights_touch_what_is_below_a_path_whatever_comes_between(
            held in prop::collection::vec(close(), 1..5),
            asked in close(),
        ) {
            let mut rights = Rights::default();
            for object in &held {
                rights.add(actions("stream.publish"), object.clone());
            }
            let one = held.iter().any(|object| object.intersect(&asked).is_some());
            prop_assert_eq!(rights.touch(&asked), one, "{} of {:?}", asked, held);
        }

        /// In how many parts rights are is nobody's to see.
        #[test]
        fn rights_in_two_parts_are_the_rights_of_both(
            own in some_rights(),
            of_roles in some_rights(),
            asked in objects(),
        ) {
            let parted = in_parts(&own, &of_roles);
            let mut whole = Rights::default();
            for (actions, object) in own.into_iter().chain(of_roles) {
                whole.add(actions, object);
            }
            prop_assert_eq!(&parted, &whole);
            prop_assert_eq!(parted.texts(), whole.texts());
            prop_assert_eq!(parted.is_empty(), whole.is_empty());
            let wanted = Wanted { actions: None, objects: Some(vec![asked.clone()]) };
            prop_assert_eq!(parted.narrow(&wanted), whole.narrow(&wanted));
            for action in Action::ALL.iter().copied() {
                prop_assert!(parted.objects(action).eq(whole.objects(action)));
                prop_assert_eq!(parted.allow(action, &asked), whole.allow(action, &asked));
            }
        }

        /// What is narrowed allows what was allowed and is wanted; what a token says of
        /// rights is those rights.
        #[test]
        fn narrowed_rights_are_those_that_are_wanted(
            lines in some_rights(),
            only in prop::option::of(some_actions()),
            places in prop::option::of(prop::collection::vec(objects(), 0..3)),
            asked in objects(),
        ) {
            let mut rights = Rights::default();
            for (actions, object) in lines {
                rights.add(actions, object);
            }
            let wanted = Wanted { actions: only, objects: places };
            let narrowed = rights.narrow(&wanted);
            // Of one thing: what covers it in part does not say that it is allowed.
            let one_thing = matches!(asked, PolicyObject::Resource { name: Part::Exactly(_), .. });
            for action in Action::ALL.iter().copied().filter(|_| one_thing) {
                let here = wanted.objects.as_ref();
                let here = here.is_none_or(|all| all.iter().any(|one| one.covers(&asked)));
                let this = wanted.actions.is_none_or(|only| only.in_full().contain(action));
                let expected = rights.allow(action, &asked) && here && this;
                prop_assert_eq!(narrowed.allow(action, &asked), expected, "{} on {}", action, asked);
            }
            let mut again = Rights::default();
            for text in &rights.texts() {
                let (action, object) = split(text).expect("our own text");
                again.add(Actions::one(action), object);
            }
            for action in Action::ALL.iter().copied() {
                prop_assert_eq!(again.allow(action, &asked), rights.allow(action, &asked));
            }
            prop_assert!(again.texts() == rights.texts());
        }
    }
}
