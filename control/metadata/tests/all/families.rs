//! Any sequence of commands of every family: what holds of the state holds after each, a
//! command that is refused changed nothing, and a replica that read its commands from bytes,
//! or itself from a snapshot, has the same.

use std::collections::BTreeSet;

use pinion_metadata::broker::Capacity;
use pinion_metadata::command::{
    AddGroupings, AddMember, AddPolicies, BatchItem, BrokerDown, ConfirmPurged, CreateApiKey,
    CreateKeys, Declare, DeleteRules, Import, Imported, InitializeTenant, NamedIssuer, PutIssuer,
    Rebalance, RegisterBroker, ReplaceMember, Revoke, RotateKeys, SetDraining, SetMemberRole,
    TransferLeadership, UpdateSettings,
};
use pinion_metadata::identity::{
    Algorithm, ApiKey, Issuer, KeySource, NewKeys, Revoked, StoredKey,
};
use pinion_metadata::member::MemberRole;
use pinion_metadata::resource::Strategy as Placing;
use pinion_metadata::tenant::{NamespaceQuotas, TenantQuotas};
use pinion_metadata::{
    ActionPattern, BrokerNumber, Command, Envelope, Expect, Grouping, MemberNumber, MetaVersion,
    Metadata, ObjectKey, Policy, PolicyObject, RowId, Subject, TenantNumber,
};
use pinion_types::{ResourceId, ResourceKind, WallMs};
use proptest::prelude::*;

use crate::support::{
    CLUSTER, FREE, OPEN, QUEUE, SPEC, create_namespace, create_tenant, declare, delete, facts,
    seat, update_namespace, update_resource, update_tenant,
};

const ISSUER: &str = "https://login.example.com";
const KINDS: [ResourceKind; 3] = [
    ResourceKind::Stream,
    ResourceKind::Queue,
    ResourceKind::Cache,
];

/// Numbers out of a seed (xorshift64*), and the keys that there are.
struct Rng(u64, Vec<ObjectKey>);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.below(of.len() as u64);
        of[usize::try_from(at).unwrap()]
    }

    /// A key that there is, if one is found that will do.
    fn existing(&mut self, of: impl Fn(&ObjectKey) -> bool) -> Option<ObjectKey> {
        let keys: Vec<ObjectKey> = self.1.iter().filter(|key| of(key)).cloned().collect();
        if keys.is_empty() || self.below(3) == 0 {
            return None;
        }
        let at = self.below(keys.len() as u64);
        keys.get(usize::try_from(at).unwrap()).cloned()
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.below(5)).unwrap()
    }
}

fn tenant(rng: &mut Rng) -> &'static str {
    rng.pick(&["default", "default", "default", "a", "a", "b", "tenant-7"])
}

fn namespace(rng: &mut Rng) -> &'static str {
    rng.pick(&["n", "n", "m"])
}

fn broker(rng: &mut Rng) -> &'static str {
    rng.pick(&["b1", "b2", "b2", "b3"])
}

fn resource(rng: &mut Rng) -> ObjectKey {
    let is = |key: &ObjectKey| matches!(key, ObjectKey::Resource { .. });
    if let Some(key) = rng.existing(is) {
        return key;
    }
    let kind = rng.pick(&[KINDS[0], KINDS[0], KINDS[0], KINDS[1], KINDS[2]]);
    ObjectKey::resource(kind, tenant(rng), namespace(rng), rng.pick(&["x", "y/z"]))
}

fn buried(rng: &mut Rng) -> ResourceId {
    match rng.existing(|key| matches!(key, ObjectKey::Tombstone(_))) {
        Some(ObjectKey::Tombstone(id)) => id,
        _ => ResourceId(rng.below(8)),
    }
}

fn deletable(rng: &mut Rng) -> ObjectKey {
    match rng.below(5) {
        0 => ObjectKey::tenant(tenant(rng)),
        1 => ObjectKey::namespace(tenant(rng), namespace(rng)),
        _ => resource(rng),
    }
}

fn stored(byte: u64) -> StoredKey {
    let byte = u8::try_from(byte).unwrap();
    StoredKey {
        public: [byte; 32],
        sealed: [byte; 68],
    }
}

fn new_keys(rng: &mut Rng) -> NewKeys {
    NewKeys {
        current: stored(rng.below(9)),
        next: stored(rng.below(9)),
        rotate_every_ms: rng.pick(&[0, 1, 10_000_000]),
    }
}

fn issuer(rng: &mut Rng) -> Issuer {
    Issuer {
        audiences: Box::new(["api://pinion".into()]),
        keys: KeySource::Jwks(format!("{ISSUER}/{}", rng.below(3)).into()),
        algorithms: Box::new([Algorithm::Es256]),
        subject_claim: "sub".into(),
        groups_claim: None,
        clock_skew_s: 60,
    }
}

fn scope(rng: &mut Rng) -> Box<[PolicyObject]> {
    let text = rng.pick(&[
        "cluster",
        "cluster",
        "tenant:a",
        "tenant:default",
        "namespace:a/n",
    ]);
    Box::new([PolicyObject::parse(text).unwrap()])
}

fn quotas(rng: &mut Rng) -> TenantQuotas {
    TenantQuotas {
        max_namespaces: rng.below(3),
        max_streams: rng.below(4),
        ..FREE
    }
}

fn of_tenants(rng: &mut Rng) -> Command {
    let name = tenant(rng);
    match rng.below(4) {
        0 => create_tenant(name, quotas(rng)),
        1 => {
            let mut update = update_tenant(name);
            update.quotas = rng.coin().then(|| quotas(rng));
            update.description = Some(format!("{}", rng.below(3)).into());
            Command::UpdateTenant(update)
        }
        2 => {
            let max_streams = rng.below(3);
            let quotas = NamespaceQuotas {
                max_streams,
                ..OPEN
            };
            create_namespace(name, namespace(rng), quotas)
        }
        _ => {
            let mut update = update_namespace(name, namespace(rng));
            let max_streams = rng.below(4);
            update.quotas = Some(NamespaceQuotas {
                max_streams,
                ..OPEN
            });
            Command::UpdateNamespace(update)
        }
    }
}

fn of_resources(rng: &mut Rng) -> Command {
    let key = resource(rng);
    let ObjectKey::Resource {
        kind,
        tenant,
        namespace,
        name,
    } = key.clone()
    else {
        unreachable!();
    };
    match rng.below(7) {
        0..3 => {
            let shards = 1 + rng.below(2);
            let seats = (0..shards)
                .map(|_| seat(1 + rng.small() / 2, &[], 0))
                .collect();
            let mut spec = SPEC;
            spec.shards = u16::try_from(shards).unwrap();
            spec.durable = kind != ResourceKind::Cache && rng.coin();
            spec.queue = (kind == ResourceKind::Queue).then_some(QUEUE);
            Command::Declare(Declare {
                spec,
                seats,
                create_namespace: rng.coin(),
                ..declare(kind, &tenant, &namespace, &name)
            })
        }
        3 => {
            let mut update = update_resource(kind, &tenant, &namespace, &name);
            update.retention_ms = Some(rng.below(3));
            Command::UpdateResource(update)
        }
        4 => Command::Rebalance(Rebalance {
            key,
            strategy: rng.pick(&[
                Placing::Balanced,
                Placing::MinimizeMovement,
                Placing::LocalityAware,
            ]),
        }),
        5 => Command::CancelPlan(key),
        _ => Command::TransferLeadership(TransferLeadership {
            key,
            shard: 0,
            to: BrokerNumber(rng.small()),
        }),
    }
}

fn import(rng: &mut Rng) -> Command {
    let (from, next) = (rng.below(2), 4);
    let one = |id| Imported {
        id: ResourceId(id),
        tenant: TenantNumber(rng.pick(&[1, 7])),
        kind: ResourceKind::Stream,
        namespace: "old".into(),
        name: format!("r{id}").into(),
        spec: SPEC,
        logs: [0].into(),
    };
    Command::Import(Import {
        broker: BrokerNumber(1),
        from: ResourceId(from),
        upto: ResourceId(next),
        next: ResourceId(next),
        resources: (from.max(1)..next).map(one).collect(),
    })
}

fn of_deletion(rng: &mut Rng) -> Command {
    match rng.below(8) {
        0..3 => delete(&deletable(rng), rng.below(4) > 0, rng.pick(&[0, 50, 500])),
        3 => Command::Undelete(deletable(rng)),
        4 | 5 => Command::Purge(deletable(rng)),
        6 => Command::ConfirmPurged(ConfirmPurged {
            broker: BrokerNumber(rng.small()),
            resources: (3..8).map(ResourceId).collect(),
        }),
        _ => Command::ForgetTombstone(buried(rng)),
    }
}

fn of_brokers(rng: &mut Rng) -> Command {
    let name: Box<str> = broker(rng).into();
    let incarnation = 1 + rng.below(3);
    match rng.below(6) {
        0..3 => {
            let mut facts = facts("eu", rng.pick(&["a", "b"]));
            facts.capacity = Capacity {
                max_shards: 1 + 3 * rng.small(),
                ..facts.capacity
            };
            let gone = rng.coin().then(|| 1 + rng.below(3));
            Command::RegisterBroker(RegisterBroker {
                name,
                facts,
                incarnation,
                gone,
            })
        }
        3 => Command::SetDraining(SetDraining {
            name,
            draining: rng.coin(),
        }),
        4 => Command::BrokerDown(BrokerDown { name, incarnation }),
        _ => Command::RemoveBroker(name),
    }
}

fn of_members(rng: &mut Rng) -> Command {
    let member = MemberNumber(rng.below(4));
    let (address, store) = ("n:1".into(), [3; 16]);
    match rng.below(4) {
        0 => Command::AddMember(AddMember {
            broker: BrokerNumber(1 + rng.small() / 2),
            observer: rng.coin(),
            address,
            store,
        }),
        1 => Command::ReplaceMember(ReplaceMember {
            member,
            address,
            store,
        }),
        2 => Command::SetMemberRole(SetMemberRole {
            member,
            role: rng.pick(&[MemberRole::Joining, MemberRole::Voter, MemberRole::Observer]),
        }),
        _ => Command::RemoveMember(member),
    }
}

fn of_rules(rng: &mut Rng) -> Command {
    let of = rng.pick(&["a", "default"]);
    let (tenant, scope) = (of.into(), scope(rng));
    match rng.below(4) {
        0 => Command::AddPolicies(AddPolicies {
            tenant,
            scope,
            policies: Box::new([Policy {
                subject: Subject::parse(rng.pick(&["role:r", "role:s", "p:ana"])).unwrap(),
                action: ActionPattern::parse(rng.pick(&["stream.*", "*"])).unwrap(),
                object: PolicyObject::parse(rng.pick(&["stream:a/n/x", "tenant:a"])).unwrap(),
            }]),
        }),
        1 => Command::AddGroupings(AddGroupings {
            tenant,
            scope,
            groupings: Box::new([Grouping {
                member: Subject::parse(rng.pick(&["role:r", "role:s", "p:ana"])).unwrap(),
                role: rng.pick(&["r", "s"]).into(),
            }]),
        }),
        more => {
            let rules = DeleteRules {
                tenant,
                scope,
                ids: Box::new([RowId(rng.below(12))]),
            };
            match more {
                2 => Command::DeletePolicies(rules),
                _ => Command::DeleteGroupings(rules),
            }
        }
    }
}

fn of_identity(rng: &mut Rng) -> Command {
    let of = tenant(rng);
    let tenant = of.into();
    match rng.below(8) {
        0 => Command::PutIssuer(PutIssuer {
            tenant,
            issuer: ISSUER.into(),
            rules: issuer(rng),
        }),
        1 => Command::CreateApiKey(CreateApiKey {
            tenant,
            scope: Box::new([PolicyObject::Tenant(of.into())]),
            key: ApiKey {
                name: "ci".into(),
                prefix: *b"dead0001",
                digest: [7; 32],
                subject: Subject::parse("p:ci").unwrap(),
                expires: rng.coin().then_some(WallMs(9)),
            },
        }),
        2 => Command::Remove(ObjectKey::issuer(of, ISSUER)),
        3 => Command::Remove(ObjectKey::api_key(of, RowId(rng.below(12)))),
        4 => Command::CreateKeys(CreateKeys {
            tenant,
            keys: new_keys(rng),
        }),
        5 => Command::RotateKeys(RotateKeys {
            tenant,
            next: stored(rng.below(9)),
        }),
        6 => Command::Revoke(Revoke {
            tenant,
            what: match rng.coin() {
                true => Revoked::Token([1; 16]),
                false => Revoked::Subject(Subject::parse("p:ana").unwrap()),
            },
            at: WallMs(rng.below(200)),
        }),
        _ => Command::InitializeTenant(InitializeTenant {
            tenant,
            display_name: "".into(),
            issuers: Box::new([NamedIssuer {
                issuer: ISSUER.into(),
                rules: issuer(rng),
            }]),
            admins: Box::new([Subject::parse("p:ana").unwrap()]),
            keys: new_keys(rng),
        }),
    }
}

fn one(rng: &mut Rng) -> Command {
    match rng.below(22) {
        0..3 => of_tenants(rng),
        3..8 => of_resources(rng),
        8..11 => of_deletion(rng),
        11..14 => of_brokers(rng),
        14 => of_members(rng),
        15 | 16 => of_rules(rng),
        17 | 18 => of_identity(rng),
        19 | 20 => of_members(rng),
        _ => match rng.below(3) {
            0 => Command::Noop,
            1 => import(rng),
            _ => Command::UpdateSettings(UpdateSettings {
                heartbeat_ms: Some(100 * rng.small()),
                missed: None,
                grace_ms: Some(rng.below(3)),
                token_life_s: None,
            }),
        },
    }
}

fn any_command(rng: &mut Rng) -> Command {
    if rng.below(12) > 0 {
        return one(rng);
    }
    let items = (0..=rng.below(3)).map(|_| BatchItem {
        expect: Expect::Any,
        command: one(rng),
    });
    Command::Batch(items.collect())
}

fn name(command: &Command) -> String {
    let text = format!("{command:?}");
    text.split(['(', ' ']).next().unwrap().to_owned()
}

/// What most other commands need.
fn first(index: u64, seed: u64) -> Option<Command> {
    let register = |name: &str| {
        let mut facts = facts("eu", "a");
        facts.capacity.max_shards = 9;
        Command::RegisterBroker(RegisterBroker {
            name: name.into(),
            facts,
            incarnation: 1,
            gone: None,
        })
    };
    match index {
        1 => Some(register("b1")),
        2 => Some(register("b2")),
        3 => Some(create_tenant("a", FREE)),
        5 if seed & 6 == 0 => Some(import(&mut Rng(seed | 1, Vec::new()))),
        4 => Some(create_namespace("default", "n", OPEN)),
        _ => None,
    }
}

/// Lives through some commands; the names of those that were done.
fn live(seed: u64, commands: usize) -> BTreeSet<String> {
    let mut rng = Rng(seed | 1, Vec::new());
    let mut state = Metadata::genesis(CLUSTER);
    let mut other = Metadata::genesis(CLUSTER);
    let mut done = BTreeSet::new();
    for index in 1..=commands as u64 {
        rng.1 = state
            .objects()
            .map(|object| object.meta.key.clone())
            .collect();
        let expect = match rng.below(10) {
            0 => Expect::Absent,
            1 => Expect::Version(MetaVersion(rng.below(20))),
            _ => Expect::Any,
        };
        let envelope = Envelope {
            stamp: WallMs(index * 10),
            request: u128::from(rng.below(6)) * u128::from(rng.below(40)),
            principal: "p:ana".into(),
            origin: BrokerNumber(1),
            expect,
            command: first(index, seed).unwrap_or_else(|| any_command(&mut rng)),
        };
        let context = || format!("seed {seed}, entry {index}: {:?}", envelope.command);
        let bytes = envelope.encode().unwrap();
        let read = Envelope::decode(&bytes).unwrap();
        assert_eq!(read, envelope, "{}", context());
        let before = (rng.below(4) == 0).then(|| state.snapshot().encode());
        let applied = state.apply(index, &envelope);
        assert_eq!(applied.broken, None, "{}", context());
        if let Err(broken) = state.check() {
            panic!("{}: {broken}", context());
        }
        if applied.result.is_err() || applied.duplicate {
            assert!(applied.changes.is_empty(), "{}", context());
            // But for the entry and its stamp all is as before.
            if let Some(before) = before {
                let mut old = Metadata::restore(&before).unwrap();
                assert_eq!(old.version(), state.version(), "{}", context());
                assert!(old.objects().eq(state.objects()), "{}", context());
                old.apply(index, &envelope);
                assert_eq!(old.state_hash(), state.state_hash(), "{}", context());
            }
        } else {
            done.insert(name(&envelope.command));
            let from = state.version().0 - applied.changes.len() as u64;
            let versions = applied.changes.iter().map(|change| change.version.0);
            assert!(versions.eq(from + 1..=state.version().0), "{}", context());
            for change in &*applied.changes {
                // Of two changes of one object the later one is there.
                let last = applied.changes.iter().rfind(|one| one.key == change.key);
                let last = last.and_then(|change| change.object.as_ref());
                assert_eq!(state.get(&change.key), last, "{}", context());
            }
        }
        let again = other.apply(index, &read);
        assert_eq!(again.result, applied.result, "{}", context());
        if rng.below(8) == 0 {
            other = Metadata::restore(&other.snapshot().encode()).unwrap();
        }
        assert_eq!(other.state_hash(), state.state_hash(), "{}", context());
        assert_eq!(
            other.cluster_usage(),
            state.cluster_usage(),
            "{}",
            context()
        );
    }
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_asked_the_state_agrees_with_itself_and_with_every_replica(
        seed in any::<u64>(),
        commands in 1..120_usize,
    ) {
        live(seed, commands);
    }
}

#[test]
fn every_family_is_among_what_is_asked_and_done() {
    let mut done = BTreeSet::new();
    for seed in 1..=12 {
        done.extend(live(seed * 0x9e37_79b9, 150));
    }
    let expected = [
        "AddGroupings",
        "AddMember",
        "AddPolicies",
        "Batch",
        "BrokerDown",
        "CancelPlan",
        "ConfirmPurged",
        "CreateApiKey",
        "CreateKeys",
        "CreateNamespace",
        "CreateTenant",
        "Declare",
        "Delete",
        "DeletePolicies",
        "ForgetTombstone",
        "Import",
        "InitializeTenant",
        "Noop",
        "Purge",
        "PutIssuer",
        "Rebalance",
        "RegisterBroker",
        "Remove",
        "RemoveBroker",
        "RemoveMember",
        "ReplaceMember",
        "Revoke",
        "RotateKeys",
        "SetDraining",
        "SetMemberRole",
        "Undelete",
        "UpdateNamespace",
        "UpdateResource",
        "UpdateSettings",
        "UpdateTenant",
    ];
    let missing: Vec<_> = expected
        .iter()
        .filter(|name| !done.contains(**name))
        .collect();
    assert!(missing.is_empty(), "never done: {missing:?}");
}
