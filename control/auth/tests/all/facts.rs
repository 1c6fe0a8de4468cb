//! From commands to verdicts: what the metadata says of a tenant is what the table goes by.

use std::sync::Arc;

use pinion_auth::access::Permissions;
use pinion_auth::api_key::ApiKey;
use pinion_auth::compile::{CredentialTable, Credentials, Known, TableBuilder, TenantFacts};
use pinion_auth::exchange::Issuer;
use pinion_auth::keyring::{RETIRED_KEPT_MS, StoredKey};
use pinion_auth::provider::UrlError;
use pinion_auth::seal::MasterKey;
use pinion_auth::token::{Claims, Jti, Realm};
use pinion_auth::{AuthError, TenantId};
use pinion_metadata::command::{
    AddGroupings, AddPolicies, CreateApiKey, Delete, DeleteFacts, InitializeTenant, Revoke,
    RotateKeys,
};
use pinion_metadata::identity::{self, Algorithm, KeySource, NewKeys, Revoked};
use pinion_metadata::{
    ActionPattern, BrokerNumber, Change, Command, Envelope, Expect, Grouping, Metadata, ObjectKey,
    Policy, PolicyObject, Subject,
};
use pinion_types::{ResourceKind, ResourceName, WallMs};

const NOW: WallMs = WallMs(1_800_000_000_000);
const CLUSTER: [u8; 16] = [0xc1; 16];
/// The number of the first tenant that is made: `default` is 1.
const T1: TenantId = TenantId(2);

fn subject(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

fn object(text: &str) -> PolicyObject {
    PolicyObject::parse(text).unwrap()
}

/// A cluster of one node, whose table follows its metadata.
struct World {
    metadata: Metadata,
    master: MasterKey,
    builder: TableBuilder,
    table: Arc<CredentialTable>,
}

impl World {
    /// With a tenant `t1` that signs with its key 1.
    fn new() -> Self {
        let mut builder = TableBuilder::new(Realm::of(&CLUSTER), Vec::new());
        let mut world = Self {
            metadata: Metadata::genesis(CLUSTER),
            master: MasterKey::new(&[0; 32]),
            table: builder.poll_table().unwrap(),
            builder,
        };
        let keys = NewKeys {
            current: world.stored(1),
            next: world.stored(2),
            rotate_every_ms: 0,
        };
        world.done(Command::InitializeTenant(InitializeTenant {
            tenant: "t1".into(),
            display_name: "".into(),
            issuers: Box::default(),
            admins: [subject("p:root")].into(),
            keys,
        }));
        world
    }

    fn key(&self, number: u8) -> StoredKey {
        StoredKey::fresh(&self.master, T1, &[number; 32], [number; 12])
    }

    fn stored(&self, number: u8) -> identity::StoredKey {
        let key = self.key(number);
        identity::StoredKey {
            public: key.public,
            sealed: *key.sealed.bytes(),
        }
    }

    /// Applies a command; the table follows.
    fn done(&mut self, command: Command) -> Vec<Change> {
        let envelope = Envelope {
            stamp: NOW,
            request: 0,
            principal: "p:root".into(),
            origin: BrokerNumber(0),
            expect: Expect::Any,
            command,
        };
        let index = self.metadata.applied_index() + 1;
        let applied = self.metadata.apply(index, &envelope);
        assert!(applied.result.is_ok(), "{:?}", applied.result);
        self.builder
            .handle_changes(&self.metadata, &applied.changes)
            .unwrap();
        if let Some(table) = self.builder.poll_table() {
            self.table = table;
        }
        applied.changes.to_vec()
    }

    fn allow(&mut self, who: &str, action: &str, on: &str) {
        let policy = Policy {
            subject: subject(who),
            action: ActionPattern::parse(action).unwrap(),
            object: object(on),
        };
        self.done(Command::AddPolicies(AddPolicies {
            tenant: "t1".into(),
            scope: [object("tenant:t1")].into(),
            policies: [policy].into(),
        }));
    }

    fn token(&self, key: u8, jti: u8, issued: WallMs) -> String {
        let said = Claims {
            subject: "p:ana".into(),
            tenant: "t1".into(),
            issued,
            expires: WallMs(issued.0 + 900_000),
            jti: Jti([jti; 16]),
            permissions: Box::default(),
        };
        let key = self.key(key).open(&self.master, T1).unwrap();
        key.issue(&Realm::of(&CLUSTER), &said).unwrap()
    }

    fn admit(&self, bearer: &str) -> Result<Known, AuthError> {
        let shown = Credentials {
            bearer: bearer.as_bytes(),
            workload: None,
        };
        self.table.admit(NOW, shown)
    }
}

#[test]
fn a_tenant_is_known_from_its_first_day_until_it_is_deleted() {
    let mut world = World::new();
    let token = world.token(1, 1, NOW);
    assert_eq!(world.admit(&token).unwrap().tenant, T1);
    world.done(Command::Delete(Delete {
        key: ObjectKey::tenant("t1"),
        force: true,
        grace_ms: 1000,
        facts: DeleteFacts::default(),
    }));
    assert_eq!(world.admit(&token), Err(AuthError::UnknownKey));
    world.done(Command::Undelete(ObjectKey::tenant("t1")));
    assert!(world.admit(&token).is_ok());
}

#[test]
fn api_keys_have_the_rights_of_their_subjects_by_policies_and_roles() {
    let mut world = World::new();
    let (kept, text) = ApiKey::mint([1; 4], &[2; 32]);
    assert_eq!(world.admit(&text), Err(AuthError::UnknownKey));
    let changes = world.done(Command::CreateApiKey(CreateApiKey {
        tenant: "t1".into(),
        scope: [object("tenant:t1")].into(),
        key: identity::ApiKey {
            name: "robot".into(),
            prefix: kept.prefix,
            digest: kept.digest.0,
            subject: subject("p:robot"),
            expires: Some(WallMs(NOW.0 + 1)),
        },
    }));
    let known = world.admit(&text).unwrap();
    assert!(known.rights.is_empty());
    assert_eq!(world.table.over_at(&known), Some(WallMs(NOW.0 + 1)));
    world.allow("role:reader", "cache.read", "cache:t1/*");
    world.done(Command::AddGroupings(AddGroupings {
        tenant: "t1".into(),
        scope: [object("tenant:t1")].into(),
        groupings: [Grouping {
            member: subject("p:robot"),
            role: "reader".into(),
        }]
        .into(),
    }));
    world.allow("p:robot", "cache.write", "cache:t1/n/x");
    let known = world.admit(&text).unwrap();
    let may = |name| {
        let name = ResourceName::parse(name).unwrap();
        world.table.permissions(&known, ResourceKind::Cache, &name)
    };
    assert_eq!(may("n/y"), Permissions::READ);
    assert_eq!(may("n/x"), Permissions::READ.and(Permissions::PUT));
    world.done(Command::Remove(changes[0].key.clone()));
    assert_eq!(world.admit(&text), Err(AuthError::UnknownKey));
}

#[test]
fn rotations_and_revocations_reach_the_table() {
    let mut world = World::new();
    let [one, two] = [1, 2].map(|jti| world.token(1, jti, NOW));
    world.done(Command::Revoke(Revoke {
        tenant: "t1".into(),
        what: Revoked::Token([1; 16]),
        at: WallMs(NOW.0 + 900_000),
    }));
    assert_eq!(world.admit(&one), Err(AuthError::Revoked));
    assert!(world.admit(&two).is_ok());
    let earlier = world.token(1, 3, WallMs(NOW.0 - 1000));
    world.done(Command::Revoke(Revoke {
        tenant: "t1".into(),
        what: Revoked::Subject(subject("p:ana")),
        at: NOW,
    }));
    assert_eq!(world.admit(&earlier), Err(AuthError::Revoked));
    assert!(world.admit(&two).is_ok());

    for next in [3, 4] {
        assert!(world.admit(&two).is_ok());
        let next = world.stored(next);
        world.done(Command::RotateKeys(RotateKeys {
            tenant: "t1".into(),
            next,
        }));
    }
    assert_eq!(world.admit(&two), Err(AuthError::UnknownKey));
    let facts = TenantFacts::of(&world.metadata, "t1").unwrap();
    let ring = facts.keys.unwrap();
    assert_eq!((ring.current, ring.next), (world.key(3), world.key(4)));
    let until = WallMs(NOW.0 + RETIRED_KEPT_MS);
    assert_eq!(ring.previous, Some((world.key(2), until)));
}

#[test]
fn whoever_begins_with_all_ends_where_whoever_followed_does() {
    let mut world = World::new();
    let token = world.token(1, 1, NOW);
    let mut late = TableBuilder::new(Realm::of(&CLUSTER), Vec::new());
    late.handle_all(&world.metadata).unwrap();
    let shown = Credentials {
        bearer: token.as_bytes(),
        workload: None,
    };
    let table = late.poll_table().unwrap();
    assert_eq!(table.admit(NOW, shown), world.admit(&token));
    // What is not there any more goes, also when only all is looked at.
    world.done(Command::Delete(Delete {
        key: ObjectKey::tenant("t1"),
        force: true,
        grace_ms: 1000,
        facts: DeleteFacts::default(),
    }));
    late.handle_all(&world.metadata).unwrap();
    let table = late.poll_table().unwrap();
    assert_eq!(table.admit(NOW, shown), Err(AuthError::UnknownKey));
    assert!(TenantFacts::of(&world.metadata, "nobody").is_none());
}

#[test]
fn a_change_that_is_about_no_credential_makes_no_table() {
    let mut world = World::new();
    let create = pinion_metadata::command::CreateNamespace {
        tenant: "t1".into(),
        name: "n".into(),
        description: "".into(),
        quotas: pinion_metadata::tenant::NamespaceQuotas::default(),
    };
    let before = Arc::clone(&world.table);
    world.done(Command::CreateNamespace(create));
    assert!(Arc::ptr_eq(&before, &world.table));
}

#[test]
fn an_issuer_of_the_metadata_is_one_whose_keys_are_at_a_url() {
    let issuer = |keys| identity::Issuer {
        audiences: ["pinion".into()].into(),
        keys,
        algorithms: Algorithm::ALL.into(),
        subject_claim: "sub".into(),
        groups_claim: None,
        clock_skew_s: 60,
    };
    let at = |url: &str| issuer(KeySource::Jwks(url.into()));
    let name = "https://id.example/a";
    assert!(Issuer::of(name, &at("https://id.example/keys")).is_ok());
    let discovery = KeySource::Discovery("https://id.example/d".into());
    assert!(Issuer::of(name, &issuer(discovery)).is_ok());
    let refused = Issuer::of(name, &at("https://2130706433/keys")).unwrap_err();
    assert_eq!(refused, UrlError::Host);
}
