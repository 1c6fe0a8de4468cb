//! The table of credentials: who is let in, and who is not any more.

use std::sync::Arc;

use pinion_auth::access::{AccessTable, Part, Permissions};
use pinion_auth::api_key::ApiKey;
use pinion_auth::compile::{
    API_KEYS_MAX, ApiKeyFacts, CredentialTable, Credentials, Known, NotHeld, Proof, TableBuilder,
    TenantFacts,
};
use pinion_auth::keyring::{Keyring, RETIRED_KEPT_MS, StoredKey};
use pinion_auth::policies::Policies;
use pinion_auth::seal::MasterKey;
use pinion_auth::spiffe::SpiffeId;
use pinion_auth::token::{Claims, Jti, Realm, SKEW_MS};
use pinion_auth::upstream::Upstream;
use pinion_auth::{AuthError, TenantId};
use pinion_metadata::{ActionPattern, PolicyObject, Subject};
use pinion_types::{ResourceKind, ResourceName, WallMs};

const NOW: WallMs = WallMs(1_800_000_000_000);

fn later(ms: u64) -> WallMs {
    WallMs(NOW.0 + ms)
}

/// A cluster with its builder; keys of tenants are numbered.
struct Cluster {
    realm: Realm,
    master: MasterKey,
    builder: TableBuilder,
    table: Arc<CredentialTable>,
}

impl Cluster {
    fn new() -> Self {
        let realm = Realm::of(&[0xc1; 16]);
        let domains = [
            ("cluster.local", "t2"),
            ("cluster.local", "t1"),
            ("b", "t1"),
        ];
        let domains = domains.map(|(domain, tenant)| (domain.into(), tenant.into()));
        let mut builder = TableBuilder::new(realm.clone(), domains.into());
        Self {
            master: MasterKey::new(&[0; 32]),
            table: builder.poll_table().expect("the first table"),
            builder,
            realm,
        }
    }

    /// Key `number` of a tenant.
    fn key(&self, tenant: &TenantFacts, number: u8) -> StoredKey {
        let mut seed = [number; 32];
        seed[..8].copy_from_slice(&tenant.id.0.to_le_bytes());
        StoredKey::fresh(&self.master, tenant.id, &seed, [number; 12])
    }

    /// A tenant that signs with its key 1 and next with its key 2.
    fn tenant(&self, id: u64, name: &str) -> TenantFacts {
        let mut facts = TenantFacts {
            id: TenantId(id),
            name: name.into(),
            keys: None,
            api_keys: Vec::new(),
            revoked_tokens: Vec::new(),
            revoked_subjects: Vec::new(),
            policies: Policies::new(name),
        };
        facts.keys = Some(Keyring {
            current: self.key(&facts, 1),
            next: self.key(&facts, 2),
            previous: None,
        });
        facts
    }

    fn take(&mut self, facts: &TenantFacts) {
        self.builder.handle_tenant(facts.clone()).unwrap();
        self.table = self.builder.poll_table().expect("a change");
        assert!(self.builder.poll_table().is_none(), "handed out once");
    }

    /// A token of the tenant, signed with its key `number`.
    fn token(&self, tenant: &TenantFacts, number: u8, said: &Claims) -> String {
        let key = self.key(tenant, number).open(&self.master, tenant.id);
        key.unwrap().issue(&self.realm, said).unwrap()
    }

    fn admit(&self, wall: WallMs, bearer: &str) -> Result<Known, AuthError> {
        let shown = Credentials {
            bearer: bearer.as_bytes(),
            workload: None,
        };
        self.table.admit(wall, shown)
    }

    fn admit_workload(&self, id: &SpiffeId) -> Result<Known, AuthError> {
        let shown = Credentials {
            bearer: b"",
            workload: Some(id),
        };
        self.table.admit(NOW, shown)
    }
}

fn ana(tenant: &str) -> Claims {
    Claims {
        subject: "p:ana".into(),
        tenant: tenant.into(),
        issued: NOW,
        expires: later(900_000),
        jti: Jti([7; 16]),
        permissions: [format!("cache.read:cache:{tenant}/*").into()].into(),
    }
}

#[test]
fn a_token_lets_its_subject_into_its_tenant_until_it_is_over() {
    let mut cluster = Cluster::new();
    let t1 = cluster.tenant(1, "t1");
    let token = cluster.token(&t1, 1, &ana("t1"));
    assert_eq!(cluster.admit(NOW, &token), Err(AuthError::UnknownKey));
    cluster.take(&t1);

    let mut known = cluster.admit(NOW, &token).unwrap();
    assert_eq!(known.tenant, TenantId(1));
    assert_eq!(&*known.subject, "p:ana");
    assert_eq!(known.rights.texts(), ana("t1").permissions);

    let end = cluster.table.over_at(&known).unwrap();
    assert_eq!(end, later(900_000 + SKEW_MS));
    let over = Err(AuthError::Expired { at: later(900_000) });
    assert_eq!(
        cluster.table.still_valid(WallMs(end.0 - 1), &mut known),
        Ok(())
    );
    assert_eq!(cluster.table.still_valid(end, &mut known), over);
    assert!(cluster.admit(WallMs(end.0 - 1), &token).is_ok());
    assert_eq!(cluster.admit(end, &token).map(|_| ()), over);
}

#[test]
fn a_key_of_one_tenant_says_nothing_in_another() {
    let mut cluster = Cluster::new();
    let (t1, t2) = (cluster.tenant(1, "t1"), cluster.tenant(2, "t2"));
    cluster.take(&t1);
    cluster.take(&t2);
    // The administrator of t1 has its keys and writes what he likes.
    let token = cluster.token(&t1, 1, &ana("t2"));
    assert_eq!(cluster.admit(NOW, &token), Err(AuthError::WrongTenant));
    let token = cluster.token(&t2, 1, &ana("t2"));
    assert_eq!(cluster.admit(NOW, &token).unwrap().tenant, TenantId(2));

    // A realm of another cluster, with the same keys.
    let mut other = Cluster::new();
    other.realm = Realm::of(&[0xc2; 16]);
    let token = other.token(&t1, 1, &ana("t1"));
    assert_eq!(cluster.admit(NOW, &token), Err(AuthError::WrongIssuer));
}

#[test]
fn a_rotation_lets_the_tokens_of_the_old_key_live_out_and_takes_those_of_the_new() {
    let mut cluster = Cluster::new();
    let mut t1 = cluster.tenant(1, "t1");
    cluster.take(&t1);
    let old = cluster.token(&t1, 1, &ana("t1"));
    // A node that heard of the rotation earlier already signs with the next key.
    let new = cluster.token(&t1, 2, &ana("t1"));
    let mut known = cluster.admit(NOW, &old).unwrap();
    assert!(cluster.admit(NOW, &new).is_ok());

    t1.keys = Some(Keyring {
        current: cluster.key(&t1, 2),
        next: cluster.key(&t1, 3),
        previous: Some((cluster.key(&t1, 1), later(RETIRED_KEPT_MS))),
    });
    cluster.take(&t1);
    assert!(cluster.admit(NOW, &new).is_ok());
    assert!(cluster.admit(NOW, &old).is_ok());
    assert_eq!(cluster.table.still_valid(NOW, &mut known), Ok(()));
    let gone = Err(AuthError::UnknownKey);
    let after = later(RETIRED_KEPT_MS);
    assert_eq!(cluster.admit(after, &old).map(|_| ()), gone);
    assert_eq!(cluster.table.still_valid(after, &mut known), gone);

    // A second rotation at once is how everything issued before is ended.
    t1.keys = Some(Keyring {
        current: cluster.key(&t1, 3),
        next: cluster.key(&t1, 4),
        previous: Some((cluster.key(&t1, 2), later(RETIRED_KEPT_MS))),
    });
    cluster.take(&t1);
    assert_eq!(cluster.admit(NOW, &old).map(|_| ()), gone);
    assert_eq!(cluster.table.still_valid(NOW, &mut known), gone);
    assert!(cluster.admit(NOW, &new).is_ok());
}

#[test]
fn a_revoked_token_is_out_and_so_are_all_of_a_subject_from_before() {
    let mut cluster = Cluster::new();
    let mut t1 = cluster.tenant(1, "t1");
    cluster.take(&t1);
    let mut second = ana("t1");
    second.jti = Jti([8; 16]);
    second.issued = later(1000);
    let (first, second) = (
        cluster.token(&t1, 1, &ana("t1")),
        cluster.token(&t1, 1, &second),
    );
    let at = later(2000);
    let (one, two) = (cluster.admit(at, &first), cluster.admit(at, &second));
    let (one, two) = (one.unwrap(), two.unwrap());
    let judge = |cluster: &Cluster, token: &str, known: &Known| {
        let admitted = cluster.admit(at, token).map(|_| ());
        assert_eq!(admitted, cluster.table.still_valid(at, &mut known.clone()));
        admitted
    };

    t1.revoked_tokens = vec![Jti([7; 16])];
    cluster.take(&t1);
    assert_eq!(judge(&cluster, &first, &one), Err(AuthError::Revoked));
    assert_eq!(judge(&cluster, &second, &two), Ok(()));

    t1.revoked_tokens.clear();
    t1.revoked_subjects = vec![("p:ana".into(), later(1000)), ("p:bo".into(), later(9000))];
    cluster.take(&t1);
    assert_eq!(judge(&cluster, &first, &one), Err(AuthError::Revoked));
    assert_eq!(judge(&cluster, &second, &two), Ok(()));
    t1.revoked_subjects = vec![("p:ana".into(), later(1001))];
    cluster.take(&t1);
    assert_eq!(judge(&cluster, &second, &two), Err(AuthError::Revoked));

    cluster.builder.handle_removed("t1");
    cluster.table = cluster.builder.poll_table().unwrap();
    assert_eq!(judge(&cluster, &first, &one), Err(AuthError::UnknownKey));
}

#[test]
fn an_api_key_lets_its_subject_in_until_it_is_taken_away_or_over() {
    let mut cluster = Cluster::new();
    let mut t1 = cluster.tenant(1, "t1");
    let (kept, text) = ApiKey::mint([1; 4], &[2; 32]);
    let (other, lasting) = ApiKey::mint([3; 4], &[4; 32]);
    let facts = |key: ApiKey, expires| ApiKeyFacts {
        digest: key.digest,
        subject: "p:robot".into(),
        expires,
    };
    t1.api_keys = vec![facts(kept, Some(later(5000))), facts(other, None)];
    cluster.take(&t1);
    let mut known = cluster.admit(NOW, &text).unwrap();
    assert_eq!((known.tenant, &*known.subject), (TenantId(1), "p:robot"));
    assert_eq!(known.proof, Proof::ApiKey(kept.digest));

    // Its end is ours to say, so no skew is allowed for.
    let end = cluster.table.over_at(&known).unwrap();
    assert_eq!(end, later(5000));
    let over = Err(AuthError::Expired { at: end });
    assert_eq!(cluster.table.still_valid(later(4999), &mut known), Ok(()));
    assert_eq!(cluster.table.still_valid(end, &mut known), over);
    assert_eq!(cluster.admit(end, &text).map(|_| ()), over);
    let forever = cluster.admit(WallMs(u64::MAX), &lasting).unwrap();
    assert_eq!(cluster.table.over_at(&forever), None);

    let (_, stranger) = ApiKey::mint([1; 4], &[9; 32]);
    assert_eq!(cluster.admit(NOW, &stranger), Err(AuthError::UnknownKey));
    let cut = cluster.admit(NOW, &text[..text.len() - 1]).unwrap_err();
    assert!(matches!(cut, AuthError::Malformed { .. }), "{cut}");

    // Given to somebody else: whoever came with it before is not that.
    t1.api_keys[0].subject = "p:other".into();
    cluster.take(&t1);
    let gone = Err(AuthError::UnknownKey);
    assert_eq!(cluster.table.still_valid(NOW, &mut known), gone);
    t1.api_keys.remove(0);
    cluster.take(&t1);
    assert_eq!(cluster.table.still_valid(NOW, &mut known), gone);
    assert_eq!(cluster.admit(NOW, &text).map(|_| ()), gone);
    assert!(cluster.admit(NOW, &lasting).is_ok());
}

#[test]
fn a_workload_is_of_the_tenant_that_its_trust_domain_is_given_to() {
    let mut cluster = Cluster::new();
    let (mut t1, t2) = (cluster.tenant(1, "t1"), cluster.tenant(2, "t2"));
    let id = |text| SpiffeId::parse(text).unwrap();
    let orders = id("spiffe://cluster.local/ns/shop/sa/orders");
    let nobody = Err(AuthError::WrongIssuer);
    assert_eq!(cluster.admit_workload(&orders), nobody);
    cluster.take(&t1);
    assert_eq!(cluster.admit_workload(&orders), nobody);
    cluster.take(&t2);
    let mut known = cluster.admit_workload(&orders).unwrap();
    assert_eq!(
        (known.tenant, &*known.subject),
        (TenantId(2), orders.text())
    );
    assert_eq!(known.proof, Proof::Workload(orders.clone()));
    assert_eq!(cluster.table.over_at(&known), None);
    assert_eq!(cluster.table.still_valid(NOW, &mut known), Ok(()));
    let mut other = cluster.admit_workload(&id("spiffe://b/x")).unwrap();
    assert_eq!(other.tenant, TenantId(1));
    assert_eq!(cluster.admit_workload(&id("spiffe://c/x")), nobody);

    // A bearer that is shown besides is what counts, also when it is wrong.
    let (kept, text) = ApiKey::mint([1; 4], &[2; 32]);
    t1.api_keys = vec![ApiKeyFacts {
        digest: kept.digest,
        subject: "p:robot".into(),
        expires: None,
    }];
    cluster.take(&t1);
    let both = |bearer| {
        let workload = Some(&orders);
        cluster.table.admit(NOW, Credentials { bearer, workload })
    };
    assert_eq!(&*both(text.as_bytes()).unwrap().subject, "p:robot");
    assert_eq!(both(b"wrong"), Err(AuthError::UnknownKey));

    cluster.builder.handle_removed("t2");
    cluster.table = cluster.builder.poll_table().unwrap();
    let gone = Err(AuthError::UnknownKey);
    assert_eq!(cluster.table.still_valid(NOW, &mut known), gone);
    assert_eq!(cluster.admit_workload(&orders), nobody);
    assert_eq!(cluster.table.still_valid(NOW, &mut other), Ok(()));
}

/// A policy of a tenant.
fn allow(facts: &mut TenantFacts, subject: &str, action: &str, object: &str) {
    facts.policies.allow(
        &Subject::parse(subject).unwrap(),
        ActionPattern::parse(action).unwrap(),
        &PolicyObject::parse(object).unwrap(),
    );
}

#[test]
fn a_credential_may_what_its_subject_may_and_a_token_what_it_says() {
    let mut cluster = Cluster::new();
    let mut t2 = cluster.tenant(2, "t2");
    let (kept, robot) = ApiKey::mint([1; 4], &[2; 32]);
    t2.api_keys = vec![ApiKeyFacts {
        digest: kept.digest,
        subject: "p:robot".into(),
        expires: None,
    }];
    let orders = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/orders").unwrap();
    allow(&mut t2, "p:robot", "queue.consume", "queue:t2/n/*");
    allow(&mut t2, "role:shop", "stream.publish", "stream:t2/n/orders");
    allow(&mut t2, "p:ana", "*", "tenant:t2");
    allow(&mut t2, "g:dev", "cache.write", "cache:t2/*");
    let subject = Subject::parse(orders.text()).unwrap();
    t2.policies.give(&subject, "shop");
    cluster.take(&t2);

    let name = |text| ResourceName::parse(text).unwrap();
    let may = |cluster: &Cluster, known: &Known, kind, text| {
        cluster.table.permissions(known, kind, &name(text))
    };
    let consume = Permissions::READ.and(Permissions::CONSUME);
    let mut robot = cluster.admit(NOW, &robot).unwrap();
    let mut orders = cluster.admit_workload(&orders).unwrap();
    let mut token = cluster
        .admit(NOW, &cluster.token(&t2, 1, &ana("t2")))
        .unwrap();
    for (known, kind, text, expected) in [
        (&robot, ResourceKind::Queue, "n/jobs", consume),
        (&robot, ResourceKind::Queue, "m/jobs", Permissions::NONE),
        (&robot, ResourceKind::Stream, "n/jobs", Permissions::NONE),
        (&orders, ResourceKind::Stream, "n/orders", Permissions::PUT),
        (&orders, ResourceKind::Stream, "n/x", Permissions::NONE),
        // What its subject may besides is not in the token.
        (&token, ResourceKind::Cache, "n/x", Permissions::READ),
        (&token, ResourceKind::Stream, "n/x", Permissions::NONE),
    ] {
        let who = &known.subject;
        assert_eq!(may(&cluster, known, kind, text), expected, "{who} {text}");
    }

    // With the next table there are no policies any more.
    t2.policies = Policies::new("t2");
    cluster.take(&t2);
    for known in [&mut robot, &mut orders, &mut token] {
        assert_eq!(cluster.table.still_valid(NOW, known), Ok(()));
    }
    assert!(robot.rights.is_empty() && orders.rights.is_empty());
    assert_eq!(token.rights.texts(), ana("t2").permissions);
    cluster.builder.handle_removed("t2");
    cluster.table = cluster.builder.poll_table().unwrap();
    let gone = may(&cluster, &token, ResourceKind::Cache, "n/x");
    assert_eq!(gone, Permissions::NONE);
}

#[test]
fn a_token_is_issued_for_what_somebody_and_its_groups_may() {
    let mut cluster = Cluster::new();
    let mut t1 = cluster.tenant(1, "t1");
    allow(&mut t1, "p:ana", "stream.*", "stream:t1/n/*");
    allow(&mut t1, "g:dev", "cache.read", "cache:t1/*");
    allow(&mut t1, "g:ops", "tenant.manage", "tenant:t1");
    // Nothing that a tenant writes reaches another.
    allow(&mut t1, "p:ana", "cache.write", "cache:t2/*");
    cluster.take(&t1);
    let ana = Upstream {
        subject: "ana".into(),
        groups: vec!["dev".into(), "p:bo".into()],
        expires: later(1000),
    };
    let rights = cluster.table.rights(TenantId(1), &ana);
    let expected = [
        "cache.read:cache:t1/*",
        "stream.publish:stream:t1/n/*",
        "stream.subscribe:stream:t1/n/*",
        "stream.manage:stream:t1/n/*",
    ];
    let mut texts = rights.texts();
    texts.sort_unstable();
    let mut sorted: [Box<str>; 4] = expected.map(Box::from);
    sorted.sort_unstable();
    assert_eq!(*texts, sorted);
    assert!(cluster.table.rights(TenantId(2), &ana).is_empty());
}

#[test]
fn a_token_with_a_permission_that_is_none_of_its_tenants_is_refused() {
    let mut cluster = Cluster::new();
    let t1 = cluster.tenant(1, "t1");
    cluster.take(&t1);
    let mut said = ana("t1");
    said.permissions = ["cache.read:cache:t2/*".into()].into();
    let token = cluster.token(&t1, 1, &said);
    assert_eq!(cluster.admit(NOW, &token), Err(AuthError::WrongTenant));
    said.permissions = ["cache.burn:cache:t1/*".into()].into();
    let token = cluster.token(&t1, 1, &said);
    let why = cluster.admit(NOW, &token).unwrap_err();
    assert!(matches!(why, AuthError::Malformed { .. }), "{why}");
}

#[test]
fn what_is_neither_token_nor_api_key_is_nobody_here() {
    let mut cluster = Cluster::new();
    let t1 = cluster.tenant(1, "t1");
    cluster.take(&t1);
    assert_eq!(cluster.admit(NOW, ""), Err(AuthError::Missing));
    for bearer in ["pinion_00", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
        assert_eq!(cluster.admit(NOW, bearer), Err(AuthError::UnknownKey));
    }
    let token = cluster.token(&t1, 1, &ana("t1"));
    let cut = cluster.admit(NOW, &token[..90]).unwrap_err();
    assert!(matches!(cut, AuthError::Malformed { .. }), "{cut}");
}

#[test]
fn a_name_that_is_given_to_another_tenant_ends_the_one_before() {
    let mut cluster = Cluster::new();
    let (first, second) = (cluster.tenant(1, "t"), cluster.tenant(2, "t"));
    cluster.take(&first);
    let mut known = cluster
        .admit(NOW, &cluster.token(&first, 1, &ana("t")))
        .unwrap();
    cluster.take(&second);
    let gone = Err(AuthError::UnknownKey);
    assert_eq!(cluster.table.still_valid(NOW, &mut known), gone);
    let token = cluster.token(&second, 1, &ana("t"));
    assert_eq!(cluster.admit(NOW, &token).unwrap().tenant, TenantId(2));
}

#[test]
fn a_change_of_one_tenant_leaves_an_older_table_and_the_other_tenants_alone() {
    let mut cluster = Cluster::new();
    let (mut t1, t2) = (cluster.tenant(1, "t1"), cluster.tenant(2, "t2"));
    let (kept, text) = ApiKey::mint([1; 4], &[2; 32]);
    t1.api_keys = vec![ApiKeyFacts {
        digest: kept.digest,
        subject: "p:robot".into(),
        expires: None,
    }];
    cluster.take(&t1);
    cluster.take(&t2);
    let older = cluster.table.clone();
    let of_t2 = cluster.token(&t2, 1, &ana("t2"));

    cluster.builder.handle_removed("t1");
    cluster.table = cluster.builder.poll_table().unwrap();
    assert!(cluster.admit(NOW, &text).is_err());
    assert!(cluster.admit(NOW, &of_t2).is_ok());
    let shown = Credentials {
        bearer: text.as_bytes(),
        workload: None,
    };
    assert!(older.admit(NOW, shown).is_ok());
    // Removing it once more, or one that never was, is no harm.
    cluster.builder.handle_removed("t1");
    cluster.builder.handle_removed("t9");
}

#[test]
fn a_key_that_two_tenants_claim_stays_with_the_first() {
    let mut cluster = Cluster::new();
    let (mut t1, mut t2) = (cluster.tenant(1, "t1"), cluster.tenant(2, "t2"));
    let (kept, text) = ApiKey::mint([1; 4], &[2; 32]);
    let robot = ApiKeyFacts {
        digest: kept.digest,
        subject: "p:robot".into(),
        expires: None,
    };
    t1.api_keys = vec![robot.clone()];
    t2.api_keys = vec![robot];
    t2.keys.clone_from(&t1.keys);
    cluster.take(&t1);
    cluster.take(&t2);
    assert_eq!(cluster.admit(NOW, &text).unwrap().tenant, TenantId(1));
    let token = cluster.token(&t1, 1, &ana("t1"));
    assert_eq!(cluster.admit(NOW, &token).unwrap().tenant, TenantId(1));
    // The second goes: the first stays.
    cluster.builder.handle_removed("t2");
    cluster.table = cluster.builder.poll_table().unwrap();
    assert_eq!(cluster.admit(NOW, &text).unwrap().tenant, TenantId(1));
    assert!(cluster.admit(NOW, &token).is_ok());
}

#[test]
fn the_table_is_bounded_and_who_does_not_fit_has_no_api_keys() {
    let mut cluster = Cluster::new();
    let mut t1 = cluster.tenant(1, "t1");
    let facts = |number: usize| {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&number.to_le_bytes());
        ApiKeyFacts {
            digest: ApiKey::mint([0; 4], &secret).0.digest,
            subject: "p:robot".into(),
            expires: None,
        }
    };
    t1.api_keys = (0..API_KEYS_MAX).map(facts).collect();
    cluster.take(&t1);
    // In place of what it had, not besides.
    t1.revoked_tokens.push(Jti([1; 16]));
    cluster.take(&t1);
    let mut t2 = cluster.tenant(2, "t2");
    let (last, text) = ApiKey::mint([9; 4], &[9; 32]);
    t2.api_keys = vec![ApiKeyFacts {
        digest: last.digest,
        ..facts(API_KEYS_MAX)
    }];
    let (tenant, keys) = (t2.id, API_KEYS_MAX + 1);
    let refused = cluster.builder.handle_tenant(t2.clone());
    assert_eq!(refused, Err(NotHeld::ApiKeys { tenant, keys }));
    cluster.table = cluster.builder.poll_table().unwrap();
    let token = cluster.token(&t2, 1, &ana("t2"));
    assert!(cluster.admit(NOW, &token).is_ok(), "all but its API keys");
    assert_eq!(cluster.admit(NOW, &text), Err(AuthError::UnknownKey));
    t1.api_keys.pop();
    cluster.take(&t1);
    cluster.take(&t2);
    assert!(cluster.admit(NOW, &text).is_ok());
}

#[test]
fn who_is_beyond_the_limit_of_rights_is_let_in_and_may_nothing() {
    const ROLES: usize = 1_500;
    let mut cluster = Cluster::new();
    let mut t2 = cluster.tenant(2, "t2");
    // Each role leads to the next, so that each workload has another combination of them.
    for number in 0..ROLES {
        let (role, next) = (format!("role:{number:04}"), format!("{:04}", number + 1));
        let workload = format!("spiffe://cluster.local/{number:04}");
        allow(&mut t2, &role, "cache.read", "cache:t2/*");
        t2.policies.give(&Subject::parse(&role).unwrap(), &next);
        t2.policies
            .give(&Subject::parse(&workload).unwrap(), &role["role:".len()..]);
    }
    // Of a trust domain that is another tenant's: nobody asks for their rights here.
    let mut only_others = cluster.tenant(2, "t2");
    for number in 0..ROLES {
        let (role, next) = (format!("role:{number:04}"), format!("{:04}", number + 1));
        let workload = format!("spiffe://b/{number:04}");
        only_others
            .policies
            .give(&Subject::parse(&role).unwrap(), &next);
        only_others
            .policies
            .give(&Subject::parse(&workload).unwrap(), &role["role:".len()..]);
    }
    assert_eq!(cluster.builder.handle_tenant(only_others), Ok(()));

    for _ in 0..2 {
        // Also when nothing changed: it is so still.
        let refused = cluster.builder.handle_tenant(t2.clone());
        let Err(NotHeld::Rights { tenant, subjects }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(tenant, t2.id);
        assert!(0 < subjects && subjects < ROLES, "{subjects}");
    }
    cluster.table = cluster.builder.poll_table().unwrap();
    for (number, expected) in [(0, Permissions::READ), (ROLES - 1, Permissions::NONE)] {
        let id = SpiffeId::parse(&format!("spiffe://cluster.local/{number:04}")).unwrap();
        let known = cluster.admit_workload(&id).unwrap();
        let name = ResourceName::parse("n/x").unwrap();
        let may = cluster
            .table
            .permissions(&known, ResourceKind::Cache, &name);
        assert_eq!(may, expected, "{number}");
    }
}

#[test]
fn what_says_the_same_stays_what_it_was_in_the_next_table() {
    let mut cluster = Cluster::new();
    let mut t1 = cluster.tenant(1, "t1");
    let t2 = cluster.tenant(2, "t2");
    cluster.take(&t1);
    cluster.take(&t2);
    let part = |cluster: &Cluster, tenant| {
        let table = AccessTable::default().with_credentials(Arc::clone(&cluster.table));
        table.basis(Part::Tenant(TenantId(tenant))).expect("known")
    };
    let before = [part(&cluster, 1), part(&cluster, 2)];
    // A snapshot says everything anew.
    for facts in [&t1, &t2] {
        cluster.builder.handle_tenant(facts.clone()).unwrap();
    }
    assert!(cluster.builder.poll_table().is_none());
    let changes: [fn(&mut TenantFacts); 5] = [
        |facts| facts.revoked_tokens.push(Jti([7; 16])),
        |facts| facts.revoked_subjects.push(("p:ana".into(), NOW)),
        |facts| {
            facts.api_keys.push(ApiKeyFacts {
                digest: ApiKey::mint([1; 4], &[1; 32]).0.digest,
                subject: "p:robot".into(),
                expires: None,
            });
        },
        |facts| facts.api_keys[0].expires = Some(NOW),
        |facts| facts.keys = None,
    ];
    let mut last = before[0].clone();
    for change in changes {
        change(&mut t1);
        cluster.take(&t1);
        assert_ne!(part(&cluster, 1), last);
        last = part(&cluster, 1);
        assert_eq!(part(&cluster, 2), before[1]);
    }
}
