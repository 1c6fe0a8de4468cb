//! Policies and groupings: what may be granted, by whom, and what comes of it.

use std::collections::BTreeSet;

use pinion_metadata::command::{AddGroupings, AddPolicies, CreateApiKey, DeleteRules};
use pinion_metadata::identity::ApiKey;
use pinion_metadata::limits::{ROWS_MAX, SCOPE_MAX};
use pinion_metadata::tenant::TenantQuotas;
use pinion_metadata::{
    ActionPattern, Applied, Body, Command, Filter, Grouping, ListQuery, MetaCode, MetaError,
    ObjectKey, ObjectKind, Outcome, Policy, PolicyObject, RowId, Subject, SubjectOf,
};
use pinion_types::WallMs;
use proptest::prelude::*;

use crate::support::{FREE, Replica, create_tenant, delete, envelope, update_tenant};

fn objects(texts: &[&str]) -> Box<[PolicyObject]> {
    let parse = |text: &&str| PolicyObject::parse(text).unwrap();
    texts.iter().map(parse).collect()
}

fn policy(subject: &str, action: &str, object: &str) -> Policy {
    Policy {
        subject: Subject::parse(subject).unwrap(),
        action: ActionPattern::parse(action).unwrap(),
        object: PolicyObject::parse(object).unwrap(),
    }
}

fn allow(scope: &[&str], policies: &[Policy]) -> Command {
    Command::AddPolicies(AddPolicies {
        tenant: "acme".into(),
        scope: objects(scope),
        policies: policies.into(),
    })
}

fn grouping(member: &str, role: &str) -> Grouping {
    Grouping {
        member: Subject::parse(member).unwrap(),
        role: role.into(),
    }
}

fn give(scope: &[&str], groupings: &[Grouping]) -> Command {
    Command::AddGroupings(AddGroupings {
        tenant: "acme".into(),
        scope: objects(scope),
        groupings: groupings.into(),
    })
}

fn key_for(scope: &[&str], subject: &str) -> Command {
    Command::CreateApiKey(CreateApiKey {
        tenant: "acme".into(),
        scope: objects(scope),
        key: ApiKey {
            name: "ci".into(),
            prefix: *b"dead0001",
            digest: [7; 32],
            subject: Subject::parse(subject).unwrap(),
            expires: None,
        },
    })
}

fn rules(scope: &[&str], ids: &[RowId]) -> DeleteRules {
    DeleteRules {
        tenant: "acme".into(),
        scope: objects(scope),
        ids: ids.into(),
    }
}

fn ids(applied: &Applied) -> Vec<RowId> {
    match &applied.result {
        Ok(Outcome::Rows(ids)) => ids.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Anything in the tenant.
const ALL: &[&str] = &["tenant:acme"];

fn acme() -> Replica {
    let mut replica = Replica::new();
    replica.done(create_tenant("acme", FREE));
    replica.done(create_tenant("other", FREE));
    replica
}

#[test]
fn a_policy_is_there_once() {
    let mut replica = acme();
    let read = policy("p:ana", "stream.subscribe", "stream:acme/pay/*");
    let write = policy("p:ana", "stream.publish", "stream:acme/pay/*");
    let made = replica.done(allow(ALL, &[read.clone(), write.clone(), read]));
    assert_eq!(ids(&made), [RowId(1), RowId(2), RowId(1)]);
    assert_eq!(made.changes.len(), 2);
    let again = replica.done(allow(ALL, std::slice::from_ref(&write)));
    assert_eq!(ids(&again), [RowId(2)]);
    assert!(again.changes.is_empty());
    replica.restart();
    assert_eq!(
        replica.get(&ObjectKey::policy("acme", RowId(2))).body,
        Body::Policy(write.clone())
    );

    // What was deleted is another when it comes again.
    replica.done(Command::DeletePolicies(rules(ALL, &[RowId(2)])));
    let new = replica.done(allow(ALL, &[write]));
    assert_eq!(ids(&new), [RowId(3)]);
    let member = grouping("p:ana", "reader");
    let made = replica.done(give(ALL, &[member.clone(), member.clone()]));
    assert_eq!(ids(&made), [RowId(4), RowId(4)]);
    let again = replica.done(give(ALL, &[member]));
    assert!(again.changes.is_empty());
    let query = ListQuery {
        kind: ObjectKind::Policy,
        under: Some(ObjectKey::tenant("acme")),
        filter: Filter::All,
        deleted: false,
        limit: 10,
        after: None,
    };
    assert_eq!(replica.state.list(&query).items.len(), 2);
}

#[test]
fn a_policy_stays_in_its_tenant() {
    let mut replica = acme();
    for object in ["cluster", "tenant:other", "stream:other/n/x"] {
        let row = policy("p:ana", "*", object);
        replica.refused(allow(&["cluster"], &[row]), MetaCode::OutsideTenant);
    }
    let row = policy("p:ana", "*", "tenant:acme");
    replica.done(allow(&["cluster"], &[row]));
}

#[test]
fn nobody_grants_beyond_the_own_scope() {
    let mut replica = acme();
    let grant = |object| [policy("p:ana", "stream.publish", object)];
    for (scope, object, inside) in [
        (&[][..], "stream:acme/pay/x", false),
        (&["namespace:acme/pay"], "stream:acme/pay/x", true),
        (&["namespace:acme/pay"], "stream:acme/log/x", false),
        (&["namespace:acme/pay"], "stream:acme/*", false),
        (&["namespace:acme/pay"], "namespace:acme/*", false),
        (&["namespace:acme/*"], "tenant:acme", false),
        (&["tenant:other"], "stream:acme/pay/x", false),
        (&["stream:acme/pay/eu/*"], "stream:acme/pay/eu/orders", true),
        (&["stream:acme/pay/eu/*"], "stream:acme/pay/*", false),
        (&["queue:acme/*"], "stream:acme/pay/x", false),
        (
            &["queue:acme/*", "stream:acme/*"],
            "stream:acme/pay/y",
            true,
        ),
    ] {
        let command = allow(scope, &grant(object));
        if inside {
            let made = ids(&replica.done(command));
            let elsewhere = rules(&["namespace:acme/else"], &made);
            replica.refused(Command::DeletePolicies(elsewhere), MetaCode::OutsideScope);
            replica.done(Command::DeletePolicies(rules(scope, &made)));
        } else {
            replica.refused(command, MetaCode::OutsideScope);
        }
    }
}

#[test]
fn a_role_is_given_by_who_may_grant_all_that_it_has() {
    let mut replica = acme();
    replica.done(allow(
        ALL,
        &[
            policy("role:reader", "stream.subscribe", "stream:acme/pay/*"),
            policy("role:boss", "stream.*", "stream:acme/*"),
        ],
    ));
    replica.done(give(ALL, &[grouping("role:chief", "boss")]));
    replica.done(allow(
        ALL,
        &[policy("role:chief", "ns.manage", "namespace:acme/pay")],
    ));
    let pay = &["namespace:acme/pay"];
    let one = |role| [grouping("p:bo", role)];
    replica.refused(give(pay, &one("boss")), MetaCode::OutsideScope);
    // What it was given counts too.
    replica.refused(give(pay, &one("chief")), MetaCode::OutsideScope);
    // Nobody knows what this one will have.
    replica.refused(give(pay, &one("new")), MetaCode::OutsideScope);
    // Nor is it given by a detour.
    let detour = [grouping("role:reader", "boss"), grouping("p:bo", "reader")];
    replica.refused(give(pay, &detour), MetaCode::OutsideScope);
    let given = ids(&replica.done(give(pay, &one("reader"))));
    let boss = ids(&replica.done(give(ALL, &one("boss"))));
    let take = |scope, ids: &[RowId]| Command::DeleteGroupings(rules(scope, ids));
    replica.refused(take(pay, &boss), MetaCode::OutsideScope);
    replica.done(take(pay, &given));
    replica.refused(take(ALL, &given), MetaCode::NotFound);
    replica.done(take(ALL, &boss));
}

#[test]
fn a_key_is_made_by_who_may_grant_all_that_its_subject_may() {
    let mut replica = acme();
    replica.done(allow(
        ALL,
        &[
            policy("role:reader", "stream.subscribe", "stream:acme/pay/*"),
            policy("role:boss", "stream.*", "stream:acme/*"),
            policy("p:own", "stream.publish", "stream:acme/pay/x"),
            policy("p:both", "stream.publish", "stream:acme/pay/x"),
            policy("p:wide", "stream.publish", "stream:acme/log/x"),
            policy("spiffe://a/b", "*", "tenant:acme"),
        ],
    ));
    replica.done(give(
        ALL,
        &[
            grouping("role:chief", "boss"),
            grouping("p:given", "reader"),
            grouping("p:both", "chief"),
            grouping("g:staff", "new"),
        ],
    ));
    let pay = &["namespace:acme/pay"][..];
    for (scope, subject, inside) in [
        (pay, "role:reader", true),
        (pay, "role:boss", false),
        (pay, "role:chief", false),
        (pay, "role:new", false),
        (pay, "p:own", true),
        (pay, "p:given", true),
        (pay, "p:wide", false),
        // By its own policy it would be.
        (pay, "p:both", false),
        (pay, "g:staff", false),
        (pay, "spiffe://a/b", false),
        // Nobody knows what this one will have.
        (pay, "p:new", false),
        (&["stream:acme/log/*", "queue:acme/*"], "p:wide", true),
        (&[], "p:own", false),
        (&["tenant:other"], "p:own", false),
        (ALL, "role:chief", true),
        (ALL, "p:new", true),
        (ALL, "spiffe://a/b", true),
    ] {
        let command = key_for(scope, subject);
        if inside {
            replica.done(command);
        } else {
            replica.refused(command, MetaCode::OutsideScope);
        }
    }
    let wide = vec![pay[0]; SCOPE_MAX + 1];
    replica.refused(key_for(&wide, "p:own"), MetaCode::BadSpec);
}

#[test]
fn roles_lead_to_an_end_soon() {
    let mut replica = acme();
    let chain = |names: &[&str]| -> Vec<Grouping> {
        let pair = |pair: &[&str]| grouping(&format!("role:{}", pair[0]), pair[1]);
        names.windows(2).map(pair).collect()
    };
    for cycle in [&["a", "a"][..], &["a", "b", "a"], &["a", "b", "c", "a"]] {
        replica.refused(give(ALL, &chain(cycle)), MetaCode::RoleCycle);
    }
    replica.refused(
        give(ALL, &chain(&["a", "b", "c", "d", "e"])),
        MetaCode::RoleCycle,
    );
    replica.done(give(ALL, &chain(&["a", "b", "c", "d"])));
    // A person is no role and begins nothing.
    replica.done(give(ALL, &[grouping("p:ana", "a")]));
    for more in [["z", "a"], ["d", "e"], ["d", "a"]] {
        replica.refused(give(ALL, &chain(&more)), MetaCode::RoleCycle);
    }
    replica.done(give(ALL, &chain(&["x", "c"])));
    let long: Vec<String> = (0..=ROWS_MAX).map(|at| format!("r{at}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    replica.refused(give(ALL, &chain(&long)), MetaCode::RoleCycle);
    replica.refused(give(ALL, &[grouping("p:x", "a/b")]), MetaCode::BadName);
}

#[test]
fn policies_and_groupings_share_a_quota() {
    let mut replica = acme();
    let with = |max_policies| {
        let quotas = TenantQuotas {
            max_policies,
            ..FREE
        };
        let mut update = update_tenant("acme");
        update.quotas = Some(quotas);
        Command::UpdateTenant(update)
    };
    replica.done(with(2));
    let rows = ["stream:acme/a/*", "stream:acme/b/*", "stream:acme/c/*"]
        .map(|object| policy("role:r", "stream.*", object));
    replica.refused(allow(ALL, &rows), MetaCode::QuotaExceeded);
    replica.done(allow(ALL, &rows[..1]));
    replica.done(give(ALL, &[grouping("p:ana", "r")]));
    replica.refused(allow(ALL, &rows[1..2]), MetaCode::QuotaExceeded);
    replica.refused(give(ALL, &[grouping("p:bo", "r")]), MetaCode::QuotaExceeded);
    replica.refused(with(1), MetaCode::QuotaBelowUse);
    replica.done(Command::DeletePolicies(rules(ALL, &[RowId(1)])));
    replica.done(with(1));
}

#[test]
fn rules_go_with_their_tenant() {
    let mut replica = acme();
    replica.done(allow(ALL, &[policy("role:r", "*", "tenant:acme")]));
    replica.done(give(ALL, &[grouping("p:ana", "r")]));
    let tenant = ObjectKey::tenant("acme");
    replica.done(delete(&tenant, false, 1_000));
    let new = allow(ALL, &[policy("role:s", "*", "tenant:acme")]);
    replica.refused(new, MetaCode::Deleting);
    replica.done(Command::Undelete(tenant.clone()));
    assert_eq!(replica.state.tenant_usage("acme").policies, 2);

    replica.done(delete(&tenant, true, 0));
    assert_eq!(replica.state.due(WallMs(1_000), 10).len(), 1);
    let gone = replica.done(Command::Purge(tenant));
    assert_eq!(gone.changes.len(), 3);
    assert_eq!(replica.state.cluster_usage().policies, 0);
    replica.restart();
}

#[test]
fn a_change_of_rules_has_its_bounds() {
    let mut replica = acme();
    let many = |count| -> Vec<Policy> {
        let row = |at| policy(&format!("p:{at}"), "*", "tenant:acme");
        (0..count).map(row).collect()
    };
    replica.done(allow(ALL, &many(ROWS_MAX)));
    for count in [0, ROWS_MAX + 1] {
        replica.refused(allow(ALL, &many(count)), MetaCode::BadSpec);
    }
    replica.refused(give(ALL, &[]), MetaCode::BadSpec);
    replica.refused(Command::DeletePolicies(rules(ALL, &[])), MetaCode::BadSpec);
    let wide = vec!["tenant:acme"; SCOPE_MAX + 1];
    replica.refused(allow(&wide, &many(1)), MetaCode::BadSpec);
    let twice = rules(ALL, &[RowId(1), RowId(1)]);
    let applied = replica.apply(&envelope(Command::DeletePolicies(twice)));
    let missing = MetaError::NotFound(ObjectKey::policy("acme", RowId(1)));
    assert_eq!(applied.result, Err(missing), "and the first is not gone");
    replica.get(&ObjectKey::policy("acme", RowId(1)));
}

/// What each subject may do in the end, roles and all.
fn allowed(replica: &Replica) -> BTreeSet<(String, Policy)> {
    let objects = || replica.state.objects();
    let mut has: BTreeSet<(String, String)> = BTreeSet::new();
    for object in objects() {
        match &object.body {
            Body::Policy(policy) => {
                let subject = policy.subject.to_string();
                has.insert((subject.clone(), subject));
            }
            Body::Grouping(grouping) => {
                let (member, role) = (
                    grouping.member.to_string(),
                    format!("role:{}", grouping.role),
                );
                has.insert((member.clone(), member.clone()));
                has.insert((role.clone(), role.clone()));
                has.insert((member, role));
            }
            _ => {}
        }
    }
    loop {
        let mut more = has.clone();
        for (member, role) in &has {
            let given = has.iter().filter(|(of, _)| of == role);
            more.extend(given.map(|(_, other)| (member.clone(), other.clone())));
        }
        if more == has {
            break;
        }
        has = more;
    }
    let mut allowed = BTreeSet::new();
    for object in objects() {
        if let Body::Policy(policy) = &object.body {
            let subject = policy.subject.to_string();
            let members = has.iter().filter(|(_, has)| *has == subject);
            allowed.extend(members.map(|(member, _)| (member.clone(), policy.clone())));
        }
    }
    allowed
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let object = prop_oneof![
        Just("tenant:acme"),
        Just("namespace:acme/pay"),
        Just("stream:acme/pay/x"),
        Just("stream:acme/pay/*"),
        Just("stream:acme/log/x"),
        Just("stream:acme/*"),
    ];
    (subject(), object).prop_map(|(subject, object)| policy(subject, "stream.publish", object))
}

fn subject() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("p:a"),
        Just("g:b"),
        Just("role:r"),
        Just("role:s"),
        Just("role:t")
    ]
}

fn any_grouping() -> impl Strategy<Value = Grouping> {
    let role = prop_oneof![Just("r"), Just("s"), Just("t")];
    (subject(), role).prop_map(|(member, role)| grouping(member, role))
}

#[derive(Clone, Debug)]
enum Step {
    Allow(Vec<Policy>),
    Give(Vec<Grouping>),
    Take(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(any_policy(), 1..3).prop_map(Step::Allow),
        prop::collection::vec(any_grouping(), 1..3).prop_map(Step::Give),
        (0..20_usize).prop_map(Step::Take),
    ]
}

proptest! {
    /// Whatever is there, and whatever somebody of a narrow scope tries: nobody
    /// comes to anything outside of that scope, nor loses it.
    #[test]
    fn no_detour_leads_out_of_a_scope(
        script in prop::collection::vec((steps(), any::<bool>()), 1..25),
        scope in prop_oneof![
            Just(&["namespace:acme/pay"][..]),
            Just(&["stream:acme/pay/x", "stream:acme/log/x"][..]),
        ],
    ) {
        let mut replica = acme();
        let wide = objects(scope);
        for (step, by_admin) in script {
            let scope = if by_admin { ALL } else { scope };
            let before = allowed(&replica);
            let command = match step {
                Step::Allow(rows) => allow(scope, &rows),
                Step::Give(rows) => give(scope, &rows),
                Step::Take(at) => {
                    let rows: Vec<_> = replica.state.objects().map(|object| &object.meta.key).collect();
                    match rows.get(at).copied() {
                        Some(ObjectKey::Policy { id, .. }) => Command::DeletePolicies(rules(scope, &[*id])),
                        Some(ObjectKey::Grouping { id, .. }) => Command::DeleteGroupings(rules(scope, &[*id])),
                        _ => continue,
                    }
                }
            };
            replica.apply(&envelope(command));
            if by_admin {
                continue;
            }
            for (who, policy) in allowed(&replica).symmetric_difference(&before) {
                let inside = wide.iter().any(|wide| wide.covers(&policy.object));
                prop_assert!(inside, "{who}: {policy:?}");
            }
        }
        for object in replica.state.objects() {
            if let Body::Grouping(grouping) = &object.body {
                let itself = SubjectOf::Role(&grouping.role);
                prop_assert!(grouping.member.of() != itself);
            }
        }
    }
}
