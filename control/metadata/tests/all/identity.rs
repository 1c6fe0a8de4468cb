//! Who is believed, and for how long.

use pinion_metadata::command::{
    AddPolicies, BatchItem, CreateApiKey, CreateKeys, InitializeTenant, NamedIssuer, PutIssuer,
    Revoke, RotateKeys,
};
use pinion_metadata::identity::{
    Algorithm, ApiKey, Issuer, KeySource, NewKeys, Revoked, SigningKeys, StoredKey,
};
use pinion_metadata::limits::{
    API_KEYS_PER_TENANT_MAX, BATCH_COMMANDS_MAX, ISSUERS_PER_TENANT_MAX, RETIRED_KEPT_MS,
    REVOCATIONS_PER_TENANT_MAX, ROWS_MAX, TOKEN_SKEW_MS, TREE_MAX,
};
use pinion_metadata::{
    Action, ActionPattern, Body, ChangeKind, Command, Duty, Envelope, Expect, MetaCode, MetaError,
    ObjectKey, Policy, PolicyObject, RowId, Subject,
};
use pinion_types::WallMs;

use crate::support::{FREE, Replica, create_tenant, delete, envelope, object};

const ISSUER: &str = "https://login.example.com/acme/v2.0";
const MONTH: u64 = 30 * 24 * 3600 * 1000;

fn rules() -> Issuer {
    Issuer {
        audiences: Box::new(["api://pinion".into()]),
        keys: KeySource::Discovery(format!("{ISSUER}/.well-known/openid-configuration").into()),
        algorithms: Box::new([Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa]),
        subject_claim: "sub".into(),
        groups_claim: None,
        clock_skew_s: 60,
    }
}

fn put(issuer: &str, rules: Issuer) -> Command {
    Command::PutIssuer(PutIssuer {
        tenant: "acme".into(),
        issuer: issuer.into(),
        rules,
    })
}

fn api_key(name: &str) -> ApiKey {
    ApiKey {
        name: name.into(),
        prefix: *b"dead0001",
        digest: [7; 32],
        subject: Subject::parse("p:ci").unwrap(),
        expires: None,
    }
}

fn create(key: ApiKey) -> Command {
    Command::CreateApiKey(CreateApiKey {
        tenant: "acme".into(),
        scope: Box::new([PolicyObject::Tenant("acme".into())]),
        key,
    })
}

fn stored(byte: u8) -> StoredKey {
    StoredKey {
        public: [byte; 32],
        sealed: [byte; 68],
    }
}

fn new_keys() -> NewKeys {
    NewKeys {
        current: stored(1),
        next: stored(2),
        rotate_every_ms: MONTH,
    }
}

fn create_keys(keys: NewKeys) -> Command {
    let tenant = "acme".into();
    Command::CreateKeys(CreateKeys { tenant, keys })
}

fn rotate(byte: u8) -> Command {
    Command::RotateKeys(RotateKeys {
        tenant: "acme".into(),
        next: stored(byte),
    })
}

fn revoke(what: &Revoked, at: u64) -> Command {
    Command::Revoke(Revoke {
        tenant: "acme".into(),
        what: what.clone(),
        at: WallMs(at),
    })
}

fn ana() -> Revoked {
    Revoked::Subject(Subject::parse("p:ana").unwrap())
}

fn initialize(tenant: &str) -> InitializeTenant {
    InitializeTenant {
        tenant: tenant.into(),
        display_name: "ACME".into(),
        issuers: Box::new([NamedIssuer {
            issuer: ISSUER.into(),
            rules: rules(),
        }]),
        admins: Box::new(["p:ana", "g:staff"].map(|text| Subject::parse(text).unwrap())),
        keys: new_keys(),
    }
}

fn at(ms: u64, command: Command) -> Envelope {
    Envelope {
        stamp: WallMs(ms),
        ..envelope(command)
    }
}

fn acme() -> Replica {
    let mut replica = Replica::new();
    replica.done(create_tenant("acme", FREE));
    replica
}

fn keys(replica: &Replica) -> &SigningKeys {
    match &replica.get(&ObjectKey::signing_keys("acme")).body {
        Body::SigningKeys(keys) => keys,
        other => panic!("{other:?}"),
    }
}

/// What a row of revocation says: issued before, until.
fn revoked(replica: &Replica, what: &Revoked) -> (Option<WallMs>, WallMs) {
    let key = ObjectKey::revocation("acme", what.clone());
    match &replica.get(&key).body {
        Body::Revocation(row) => (row.issued_before, row.until),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_identity_provider_is_made_changed_and_removed() {
    let mut replica = acme();
    let key = ObjectKey::issuer("acme", ISSUER);
    let made = replica.done(put(ISSUER, rules()));
    assert_eq!(made.changes[0].kind, ChangeKind::Create);
    assert_eq!(object(&made).body, Body::Issuer(rules()));
    assert!(replica.done(put(ISSUER, rules())).changes.is_empty());
    let other = Issuer {
        keys: KeySource::Jwks("https://keys.example.com/".into()),
        ..rules()
    };
    let changed = replica.done(put(ISSUER, other.clone()));
    assert_eq!(object(&changed).body, Body::Issuer(other));
    replica.restart();
    replica.done(Command::Remove(key.clone()));
    replica.refused(Command::Remove(key), MetaCode::NotFound);
    let tenant = Command::Remove(ObjectKey::tenant("acme"));
    replica.refused(tenant, MetaCode::NotDeletable);
}

#[test]
fn an_identity_provider_is_checked_field_by_field() {
    let mut replica = acme();
    let jwks = |url: &str| KeySource::Jwks(url.into());
    let long = "a".repeat(257);
    for (issuer, code) in [
        ("login.example.com", MetaCode::BadUrl),
        ("https://login.example.com/?x", MetaCode::BadUrl),
        ("https://login.example.com/#x", MetaCode::BadUrl),
        (&format!("https://{}", "a".repeat(505)), MetaCode::BadUrl),
    ] {
        replica.refused(put(issuer, rules()), code);
    }
    for (rules, code) in [
        (
            Issuer {
                audiences: Box::default(),
                ..rules()
            },
            MetaCode::BadSpec,
        ),
        (
            Issuer {
                audiences: vec!["a".into(); 17].into(),
                ..rules()
            },
            MetaCode::BadSpec,
        ),
        (
            Issuer {
                audiences: Box::new([long.as_str().into()]),
                ..rules()
            },
            MetaCode::BadSpec,
        ),
        (
            Issuer {
                audiences: Box::new(["a\n".into()]),
                ..rules()
            },
            MetaCode::BadText,
        ),
        (
            Issuer {
                keys: jwks("ftp://x"),
                ..rules()
            },
            MetaCode::BadUrl,
        ),
        (
            Issuer {
                keys: jwks(&format!("https://{}", "a".repeat(1_017))),
                ..rules()
            },
            MetaCode::BadUrl,
        ),
        (
            Issuer {
                algorithms: Box::default(),
                ..rules()
            },
            MetaCode::BadAlgorithms,
        ),
        (
            Issuer {
                algorithms: Box::new([Algorithm::EdDsa, Algorithm::Rs256]),
                ..rules()
            },
            MetaCode::BadAlgorithms,
        ),
        (
            Issuer {
                algorithms: Box::new([Algorithm::EdDsa; 2]),
                ..rules()
            },
            MetaCode::BadAlgorithms,
        ),
        (
            Issuer {
                subject_claim: "".into(),
                ..rules()
            },
            MetaCode::BadSpec,
        ),
        (
            Issuer {
                groups_claim: Some("".into()),
                ..rules()
            },
            MetaCode::BadSpec,
        ),
        (
            Issuer {
                clock_skew_s: 301,
                ..rules()
            },
            MetaCode::BadSpec,
        ),
    ] {
        replica.refused(put(ISSUER, rules), code);
    }
    for number in 0..ISSUERS_PER_TENANT_MAX {
        replica.done(put(&format!("https://a{number}"), rules()));
    }
    replica.refused(put(ISSUER, rules()), MetaCode::LimitReached);
    let same = Issuer {
        clock_skew_s: 0,
        ..rules()
    };
    replica.done(put("https://a0", same));
}

#[test]
fn an_api_key_is_made_and_removed() {
    let mut replica = acme();
    let made = replica.done(create(api_key("ci")));
    let key = ObjectKey::api_key("acme", RowId(1));
    assert_eq!(object(&made).meta.key, key);
    assert_eq!(object(&made).body, Body::ApiKey(api_key("ci")));
    let second = replica.done(create(api_key("ci")));
    assert_eq!(
        object(&second).meta.key,
        ObjectKey::api_key("acme", RowId(2))
    );
    replica.done(Command::Remove(key));
    replica.restart();
    replica.refused(create(api_key("")), MetaCode::BadSpec);
    let prefix = ApiKey {
        prefix: *b"deadbee\x1b",
        ..api_key("ci")
    };
    replica.refused(create(prefix), MetaCode::BadText);
    for _ in 1..API_KEYS_PER_TENANT_MAX {
        let index = replica.state.applied_index() + 1;
        let applied = replica.state.apply(index, &envelope(create(api_key("ci"))));
        assert!(applied.result.is_ok());
    }
    replica.refused(create(api_key("ci")), MetaCode::LimitReached);
}

#[test]
fn the_next_key_signs_and_the_last_one_counts_for_a_while() {
    let mut replica = acme();
    replica.refused(rotate(3), MetaCode::NotFound);
    replica.done(create_keys(new_keys()));
    replica.refused(create_keys(new_keys()), MetaCode::Exists);
    let version = replica.get(&ObjectKey::signing_keys("acme")).meta.version;
    let due = WallMs(1_000 + MONTH);
    assert_eq!(replica.state.next_due(), Some(due));
    let tenant = "acme".into();
    assert_eq!(
        replica.state.due(due, 9),
        [Duty::RotateKeys { tenant, version }]
    );

    let done = replica.apply(&at(due.0, rotate(3)));
    assert!(done.result.is_ok());
    let now = keys(&replica);
    assert_eq!((now.current, now.next), (stored(2), stored(3)));
    let previous = now.previous.unwrap();
    assert_eq!(previous.key, stored(1));
    assert_eq!(previous.until, WallMs(due.0 + RETIRED_KEPT_MS));
    assert_eq!(now.rotated, due);
    replica.restart();
    assert_eq!(replica.state.next_due(), Some(WallMs(due.0 + MONTH)));
    // Proposed again, it does nothing.
    assert!(replica.apply(&at(due.0 + 1, rotate(3))).changes.is_empty());
    let expected = Envelope {
        expect: Expect::Version(version),
        ..at(due.0 + 1, rotate(4))
    };
    let twice = replica.apply(&expected).result.unwrap_err();
    assert_eq!(twice.code(), MetaCode::VersionConflict);

    // Keys that never change, and ones that would change too soon.
    let mut other = Replica::new();
    other.done(create_tenant("acme", FREE));
    let every = |rotate_every_ms| NewKeys {
        rotate_every_ms,
        ..new_keys()
    };
    other.refused(create_keys(every(RETIRED_KEPT_MS - 1)), MetaCode::BadSpec);
    other.done(create_keys(every(0)));
    assert_eq!(other.state.next_due(), None);
}

#[test]
fn what_is_revoked_stays_so_until_it_is_over_anyway() {
    let mut replica = acme();
    let token = Revoked::Token([5; 16]);
    replica.done(revoke(&token, 2_000));
    assert_eq!(revoked(&replica, &token), (None, WallMs(32_000)));
    let soon = Revoked::Token([4; 16]);
    replica.done(revoke(&soon, 400));
    assert_eq!(revoked(&replica, &soon).1, WallMs(30_400));
    // Nobody makes a row that stays.
    let far = Revoked::Token([6; 16]);
    replica.done(revoke(&far, u64::MAX));
    assert_eq!(revoked(&replica, &far).1, WallMs(1_000 + RETIRED_KEPT_MS));

    replica.done(revoke(&ana(), 900));
    assert_eq!(revoked(&replica, &ana()).0, Some(WallMs(900)));
    assert!(replica.done(revoke(&ana(), 800)).changes.is_empty());
    replica.done(revoke(&ana(), 99_000));
    assert_eq!(
        revoked(&replica, &ana()).0,
        Some(WallMs(1_000)),
        "and not the future"
    );

    let purge = Command::Purge(ObjectKey::revocation("acme", soon.clone()));
    replica.refused(purge, MetaCode::TooEarly);
    replica.restart();
    let over = replica.state.next_spent().unwrap();
    assert_eq!(over, revoked(&replica, &soon).1);
    assert_eq!(replica.state.spent(over, 9).len(), 1);
    // What is due by stamps is apart from it.
    assert_eq!(replica.state.next_due(), None);
    let over = WallMs(1_000 + RETIRED_KEPT_MS);
    for duty in replica.state.spent(over, 9) {
        let Duty::Purge(key) = duty else {
            panic!("{duty:?}");
        };
        assert!(
            replica
                .apply(&at(over.0, Command::Purge(key)))
                .result
                .is_ok()
        );
    }
    assert_eq!(replica.state.next_spent(), None);
    assert_eq!(replica.state.cluster_usage().revocations, 0);
}

#[test]
fn a_tenant_has_one_first_day() {
    let mut replica = Replica::new();
    let made = replica.done(Command::InitializeTenant(initialize("acme")));
    assert_eq!(object(&made).meta.key, ObjectKey::tenant("acme"));
    assert_eq!(keys(&replica).current, stored(1));
    replica.get(&ObjectKey::issuer("acme", ISSUER));
    replica.get(&ObjectKey::bootstrap("acme"));
    let mut allowed = Vec::new();
    let mut admins = Vec::new();
    for object in replica.state.objects() {
        match &object.body {
            Body::Policy(Policy {
                subject,
                action,
                object,
            }) => {
                assert_eq!(
                    (subject.as_str(), &*object.to_string()),
                    ("role:admin", "tenant:acme")
                );
                allowed.push(action.to_string());
            }
            Body::Grouping(grouping) => {
                assert_eq!(&*grouping.role, "admin");
                admins.push(grouping.member.to_string());
            }
            _ => {}
        }
    }
    assert_eq!(admins, ["p:ana", "g:staff"]);
    for action in [
        "tenant.manage",
        "ns.manage",
        "rbac.*",
        "stream.manage",
        "queue.manage",
        "cache.manage",
    ] {
        assert!(allowed.iter().any(|text| text == action), "{action}");
    }
    assert!(
        !allowed
            .iter()
            .any(|text| text == "*" || text.starts_with("admin"))
    );

    let again = || Command::InitializeTenant(initialize("acme"));
    replica.refused(again(), MetaCode::AlreadyInitialized);
    // Not even when the tenant is gone.
    let tenant = ObjectKey::tenant("acme");
    replica.done(delete(&tenant, true, 0));
    replica.refused(again(), MetaCode::AlreadyInitialized);
    let gone = replica.done(Command::Purge(tenant));
    assert_eq!(
        gone.changes.len(),
        13,
        "tenant, issuer, keys, 8 policies, 2 groupings"
    );
    replica.restart();
    replica.refused(again(), MetaCode::AlreadyInitialized);
}

#[test]
fn a_first_day_is_done_whole_or_not_at_all() {
    let mut replica = Replica::new();
    let mut bad = initialize("acme");
    bad.issuers[0].rules.clock_skew_s = 999;
    let bad = Command::InitializeTenant(bad);
    replica.refused(bad, MetaCode::BadSpec);
    let nobody = InitializeTenant {
        admins: Box::default(),
        ..initialize("acme")
    };
    replica.refused(Command::InitializeTenant(nobody), MetaCode::BadSpec);

    // A tenant that there is keeps what it has.
    replica.done(create_tenant("acme", FREE));
    replica.done(create_keys(NewKeys {
        current: stored(9),
        ..new_keys()
    }));
    replica.done(Command::InitializeTenant(initialize("acme")));
    assert_eq!(keys(&replica).current, stored(9));
    let Body::Tenant(tenant) = &replica.get(&ObjectKey::tenant("acme")).body else {
        panic!("no tenant");
    };
    assert_eq!(&*tenant.display_name, "");
    replica.done(delete(&ObjectKey::tenant("default"), true, 1_000));
    let deleted = Command::InitializeTenant(initialize("default"));
    replica.refused(deleted, MetaCode::Deleting);
}

#[test]
fn nothing_is_made_in_a_tenant_that_is_deleted() {
    let mut replica = acme();
    replica.done(create_keys(new_keys()));
    replica.done(delete(&ObjectKey::tenant("acme"), true, 1_000));
    replica.refused(put(ISSUER, rules()), MetaCode::Deleting);
    replica.refused(create(api_key("ci")), MetaCode::Deleting);
    replica.refused(revoke(&ana(), 1), MetaCode::Deleting);
    // It may come back, with keys that are not too old.
    replica.done(rotate(3));
}

/// Applies without a look at the whole state, which takes its time when there is much.
#[track_caller]
fn apply_quickly(replica: &mut Replica, command: Command) {
    let index = replica.state.applied_index() + 1;
    let applied = replica.state.apply(index, &envelope(command));
    assert!(applied.result.is_ok(), "{:?}", applied.result);
}

/// As many revocations of tokens of `acme`, from this number on.
fn revoke_many(replica: &mut Replica, from: u128, count: usize) {
    let one = |jti: u128| BatchItem {
        expect: Expect::Any,
        command: revoke(&Revoked::Token(jti.to_be_bytes()), 1),
    };
    let all: Vec<u128> = (from..).take(count).collect();
    for some in all.chunks(BATCH_COMMANDS_MAX) {
        let batch = some.iter().copied().map(one).collect();
        apply_quickly(replica, Command::Batch(batch));
    }
}

#[test]
fn a_tenant_that_revokes_all_it_may_leaves_room_to_others() {
    let mut replica = acme();
    replica.done(create_tenant("other", FREE));
    let most = usize::try_from(REVOCATIONS_PER_TENANT_MAX).unwrap();
    revoke_many(&mut replica, 1, most);
    let more = revoke(&ana(), 1);
    match replica.apply(&envelope(more.clone())).result {
        Err(MetaError::LimitReached { what, limit }) => {
            assert_eq!(what, "revocations of a tenant");
            assert_eq!(limit, REVOCATIONS_PER_TENANT_MAX);
        }
        other => panic!("{other:?}"),
    }
    // What is revoked already may be said again.
    replica.done(revoke(&Revoked::Token(1_u128.to_be_bytes()), 2));
    replica.done(Command::Revoke(Revoke {
        tenant: "other".into(),
        what: ana(),
        at: WallMs(1),
    }));
    replica.restart();
    replica.refused(more.clone(), MetaCode::LimitReached);

    // With the first that is over there is room for one.
    let over = WallMs(1 + TOKEN_SKEW_MS);
    let [Duty::Purge(first)] = &replica.state.spent(over, 1)[..] else {
        panic!("{:?}", replica.state.spent(over, 1));
    };
    let purge = at(over.0, Command::Purge(first.clone()));
    assert!(replica.apply(&purge).result.is_ok());
    replica.done(more);
    let another = revoke(&Revoked::Token([9; 16]), 1);
    replica.refused(another, MetaCode::LimitReached);
}

/// A tenant with more to it than one command may touch goes in several.
#[test]
fn a_tenant_with_much_to_it_goes_in_pieces() {
    let mut replica = acme();
    let revocations = usize::try_from(REVOCATIONS_PER_TENANT_MAX).unwrap();
    revoke_many(&mut replica, 1, revocations);
    let policies = TREE_MAX + 1 - revocations;
    let all: Vec<usize> = (0..policies).collect();
    for some in all.chunks(ROWS_MAX) {
        let policy = |number: &usize| Policy {
            subject: Subject::parse(&format!("role:r{number}")).unwrap(),
            action: ActionPattern::One(Action::NsManage),
            object: PolicyObject::Tenant("acme".into()),
        };
        let add = AddPolicies {
            tenant: "acme".into(),
            scope: Box::new([PolicyObject::Tenant("acme".into())]),
            policies: some.iter().map(policy).collect(),
        };
        apply_quickly(&mut replica, Command::AddPolicies(add));
    }
    let tenant = ObjectKey::tenant("acme");
    replica.done(delete(&tenant, true, 0));
    let purge = [Duty::Purge(tenant.clone())];
    for left in [TREE_MAX, 2] {
        assert_eq!(replica.state.due(WallMs(1_000), 9), purge);
        let gone = replica.done(Command::Purge(tenant.clone()));
        assert_eq!(gone.changes.len(), left);
    }
    assert!(replica.state.due(WallMs(1_000), 9).is_empty());
}
