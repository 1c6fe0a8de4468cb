//! The golden bytes of `vectors/`, derived from `docs/metadata-format.md` by a
//! script that shares nothing with this crate: written and read as they say.

use pinion_metadata::TenantNumber;
use pinion_metadata::broker::{BrokerFacts, Label};
use pinion_metadata::command::{
    AddGroupings, AddMember, AddPolicies, BatchItem, BrokerDown, ConfirmPurged, CreateApiKey,
    CreateKeys, CreateNamespace, CreateTenant, Declare, Delete, DeleteFacts, DeleteRules, IfExists,
    Import, Imported, InitializeTenant, NamedIssuer, PutIssuer, Rebalance, RegisterBroker,
    ReplaceMember, Revoke, RotateKeys, SetDraining, SetMemberRole, TransferLeadership,
    UpdateNamespace, UpdateResource, UpdateSettings, UpdateTenant,
};
use pinion_metadata::identity::{
    Algorithm, ApiKey, Issuer, KeySource, NewKeys, Revoked, StoredKey,
};
use pinion_metadata::member::MemberRole;
use pinion_metadata::resource::{AckPolicy, QueueSpec, ResourceSpec, Strategy};
use pinion_metadata::tenant::{Encryption, NamespaceQuotas, TenantQuotas};
use pinion_metadata::{
    ActionPattern, BrokerNumber, Command, Envelope, Expect, Grouping, MemberNumber, MetaVersion,
    Metadata, ObjectKey, Policy, PolicyObject, RowId, Subject,
};
use pinion_types::{ResourceId, ResourceKind, WallMs};
use serde_json::Value;

use crate::support::{
    FREE, OPEN, QUEUE, SPEC, create_namespace, create_tenant, declare, delete, envelope, facts,
    register, seat, update_resource, update_tenant,
};

const FILES: [&str; 3] = ["commands", "snapshots", "refused"];

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Each line is bytes, a space, and what they are; `00*440` is a byte and how
/// often.
fn bytes_of(lines: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines.as_array().unwrap() {
        let (hex, _) = line.as_str().unwrap().split_once(' ').unwrap();
        let (hex, count) = match hex.split_once('*') {
            Some((hex, count)) => (hex, count.parse().unwrap()),
            None => (hex, 1),
        };
        for _ in 0..count {
            let digits = hex.as_bytes().chunks(2);
            bytes.extend(
                digits
                    .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()),
            );
        }
    }
    bytes
}

/// Where they part is easier to read than all of them.
#[track_caller]
fn same_bytes(name: &str, found: &[u8], expected: &[u8]) {
    let part = found.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(part, None, "{name}: the first other byte");
    assert_eq!(found.len(), expected.len(), "{name}");
}

/// The number that the script has for its requests.
fn request() -> u128 {
    u128::from_le_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()))
}

fn sent(command: Command) -> Envelope {
    Envelope {
        stamp: WallMs(1_700_000_000_000),
        ..envelope(command)
    }
}

/// The script's stream of two shards.
fn stream() -> Declare {
    Declare {
        spec: ResourceSpec {
            shards: 2,
            durable: true,
            overflow: 1,
            retention_ms: 604_800_000,
            retention_bytes: 1 << 30,
            replication_factor: 3,
            ack: AckPolicy::Quorum,
            ..SPEC
        },
        seats: Box::new([seat(1, &[2, 3], 0), seat(2, &[1, 3], 1)]),
        create_namespace: true,
        ..declare(ResourceKind::Stream, "acme", "pay", "eu/orders")
    }
}

fn orders(namespace: &str) -> ObjectKey {
    ObjectKey::resource(ResourceKind::Stream, "acme", namespace, "eu/orders")
}

fn lead(namespace: &str) -> Command {
    Command::TransferLeadership(TransferLeadership {
        key: orders(namespace),
        shard: 1,
        to: BrokerNumber(3),
    })
}

fn objects(texts: &[&str]) -> Box<[PolicyObject]> {
    let parse = |text: &&str| PolicyObject::parse(text).unwrap();
    texts.iter().map(parse).collect()
}

fn policies() -> Command {
    let policy = |subject: &str, action, object| Policy {
        subject: Subject::parse(subject).unwrap(),
        action: ActionPattern::parse(action).unwrap(),
        object: PolicyObject::parse(object).unwrap(),
    };
    Command::AddPolicies(AddPolicies {
        tenant: "acme".into(),
        scope: objects(&["namespace:acme/a", "stream:acme/*"]),
        policies: Box::new([
            policy("role:reader", "stream.*", "stream:acme/a/eu/*"),
            policy("g:staff", "*", "namespace:acme/a"),
        ]),
    })
}

fn groupings() -> Command {
    Command::AddGroupings(AddGroupings {
        tenant: "acme".into(),
        scope: objects(&["tenant:acme"]),
        groupings: Box::new([Grouping {
            member: Subject::parse("p:ana@example.com").unwrap(),
            role: "reader".into(),
        }]),
    })
}

fn rules(scope: &[&str], ids: Box<[RowId]>) -> DeleteRules {
    DeleteRules {
        tenant: "acme".into(),
        scope: objects(scope),
        ids,
    }
}

fn imported() -> Command {
    let one = |id, tenant, kind, name: &str, spec, logs: &[u16]| Imported {
        id: ResourceId(id),
        tenant: TenantNumber(tenant),
        kind,
        namespace: "pay".into(),
        name: name.into(),
        spec,
        logs: logs.into(),
    };
    Command::Import(Import {
        broker: BrokerNumber(1),
        from: ResourceId(3),
        upto: ResourceId(9),
        next: ResourceId(1 << 40),
        resources: Box::new([
            one(
                4,
                1,
                ResourceKind::Stream,
                "eu/orders",
                stream().spec,
                &[0, 1],
            ),
            one(7, 1 << 40, ResourceKind::Cache, "hot", SPEC, &[5]),
        ]),
    })
}

fn counted() -> [u8; 16] {
    std::array::from_fn(|at| u8::try_from(at).unwrap())
}

fn join(broker: u32, address: &str, store: [u8; 16]) -> Command {
    Command::AddMember(AddMember {
        broker: BrokerNumber(broker),
        observer: false,
        address: address.into(),
        store,
    })
}

fn observe() -> Command {
    Command::AddMember(AddMember {
        broker: BrokerNumber(3),
        observer: true,
        address: "[::1]:7420".into(),
        store: [0; 16],
    })
}

fn replace(member: u64) -> Command {
    Command::ReplaceMember(ReplaceMember {
        member: MemberNumber(member),
        address: "node-1:7420".into(),
        store: counted(),
    })
}

fn votes(member: u64) -> Command {
    Command::SetMemberRole(SetMemberRole {
        member: MemberNumber(member),
        role: MemberRole::Voter,
    })
}

fn settings() -> Command {
    Command::UpdateSettings(UpdateSettings {
        heartbeat_ms: Some(1_000),
        missed: Some(5),
        grace_ms: Some(86_400_000),
        token_life_s: Some(600),
    })
}

const ISSUER_URL: &str = "https://login.example.com/acme/v2.0";

fn issuer_rules() -> Issuer {
    Issuer {
        audiences: Box::new(["api://pinion".into()]),
        keys: KeySource::Jwks("https://keys.example.com/".into()),
        algorithms: Box::new([Algorithm::Rs256, Algorithm::EdDsa]),
        subject_claim: "sub".into(),
        groups_claim: None,
        clock_skew_s: 60,
    }
}

fn with_groups() -> Issuer {
    Issuer {
        audiences: Box::new(["a".into(), "b".into()]),
        keys: KeySource::Discovery("https://d.example.com/x".into()),
        algorithms: Box::new([Algorithm::Es256]),
        groups_claim: Some("groups".into()),
        clock_skew_s: 300,
        ..issuer_rules()
    }
}

fn put(rules: Issuer) -> Command {
    Command::PutIssuer(PutIssuer {
        tenant: "acme".into(),
        issuer: ISSUER_URL.into(),
        rules,
    })
}

fn machine() -> Command {
    Command::CreateApiKey(CreateApiKey {
        tenant: "acme".into(),
        scope: objects(&["tenant:acme"]),
        key: ApiKey {
            name: "ci".into(),
            prefix: *b"dead0001",
            digest: [7; 32],
            subject: Subject::parse("p:ci").unwrap(),
            expires: Some(WallMs(1_800_000_000_000)),
        },
    })
}

fn signing(byte: u8) -> StoredKey {
    StoredKey {
        public: [byte; 32],
        sealed: [byte + 128; 68],
    }
}

fn new_keys() -> NewKeys {
    NewKeys {
        current: signing(1),
        next: signing(2),
        rotate_every_ms: 2_592_000_000,
    }
}

fn next_key() -> Command {
    Command::RotateKeys(RotateKeys {
        tenant: "acme".into(),
        next: signing(3),
    })
}

fn revoke_token() -> Command {
    Command::Revoke(Revoke {
        tenant: "acme".into(),
        what: Revoked::Token(request().to_le_bytes()),
        at: WallMs(1_700_000_900_000),
    })
}

fn revoke_subject() -> Command {
    Command::Revoke(Revoke {
        tenant: "acme".into(),
        what: Revoked::Subject(Subject::parse("p:ana").unwrap()),
        at: WallMs(1_700_000_000_000),
    })
}

fn first_day() -> Command {
    Command::InitializeTenant(InitializeTenant {
        tenant: "acme".into(),
        display_name: "New".into(),
        issuers: Box::new([NamedIssuer {
            issuer: ISSUER_URL.into(),
            rules: issuer_rules(),
        }]),
        admins: Box::new([Subject::parse("spiffe://x/ns/a/sa/b").unwrap()]),
        keys: new_keys(),
    })
}

fn facts_of_two() -> BrokerFacts {
    let label = |name: &str, value: &str| Label {
        name: name.into(),
        value: value.into(),
    };
    BrokerFacts {
        address: "[::1]:7420".into(),
        labels: Box::new([label("disk", "nvme"), label("rack", "")]),
        ..facts("eu", "eu-1")
    }
}

fn drain(name: &str) -> Command {
    Command::SetDraining(SetDraining {
        name: name.into(),
        draining: true,
    })
}

fn missed(name: &str) -> Command {
    Command::BrokerDown(BrokerDown {
        name: name.into(),
        incarnation: 1 << 63,
    })
}

/// What the vector of this name says.
fn command(name: &str) -> Envelope {
    let quotas = TenantQuotas {
        max_namespaces: 1,
        max_streams: 2,
        max_publish_rate: 3,
        max_storage_bytes: 4,
        max_connections: 5,
        max_cache_memory_bytes: 6,
        max_policies: 7,
    };
    let key = |key_id: &str, rotation_period_ms| Encryption {
        key_id: key_id.into(),
        rotation_period_ms,
    };
    match name {
        "nothing" => Envelope {
            principal: "".into(),
            ..sent(Command::Noop)
        },
        "a tenant with everything" => Envelope {
            request: request(),
            origin: BrokerNumber(3),
            expect: Expect::Absent,
            ..sent(Command::CreateTenant(CreateTenant {
                name: "acme".into(),
                display_name: "ACME Corporation".into(),
                description: "Grüße".into(),
                quotas,
                encryption: Some(key("key-1", 7_776_000_000)),
            }))
        },
        "a tenant with nothing" => sent(create_tenant("t", FREE)),
        "a tenant without its key" => Envelope {
            expect: Expect::Version(MetaVersion(42)),
            ..sent(Command::UpdateTenant(UpdateTenant {
                encryption: Some(None),
                ..update_tenant("acme")
            }))
        },
        "a tenant changed all over" => sent(Command::UpdateTenant(UpdateTenant {
            name: "acme".into(),
            display_name: Some("A".into()),
            description: Some("".into()),
            quotas: Some(TenantQuotas {
                max_streams: 9,
                ..FREE
            }),
            encryption: Some(Some(key("k", 0))),
        })),
        "a namespace" => sent(Command::CreateNamespace(CreateNamespace {
            tenant: "acme".into(),
            name: "Pay.1".into(),
            description: "payments".into(),
            quotas: NamespaceQuotas {
                max_streams: 500,
                max_publish_rate: 50_000,
            },
        })),
        "a namespace changed" => sent(Command::UpdateNamespace(UpdateNamespace {
            tenant: "acme".into(),
            name: "Pay.1".into(),
            description: None,
            quotas: Some(NamespaceQuotas {
                max_streams: 5,
                ..OPEN
            }),
        })),
        "a stream of two shards" => sent(Command::Declare(stream())),
        "a queue on one broker" => sent(Command::Declare(Declare {
            spec: ResourceSpec {
                queue: Some(QUEUE),
                ..SPEC
            },
            seats: Box::new([seat(7, &[], 65_533)]),
            pinned: Some(BrokerNumber(7)),
            if_exists: IfExists::Refuse,
            ..declare(ResourceKind::Queue, "default", "n", "q")
        })),
        "a stream kept longer" => sent(Command::UpdateResource(UpdateResource {
            overflow: Some(4),
            max_record_bytes: Some(65_536),
            retention_ms: Some(1),
            retention_bytes: Some(2),
            ..update_resource(ResourceKind::Stream, "acme", "pay", "eu/orders")
        })),
        "a queue that gives up later" => sent(Command::UpdateResource(UpdateResource {
            queue: Some(QueueSpec {
                max_attempts: 50,
                ..QUEUE
            }),
            ..update_resource(ResourceKind::Queue, "default", "n", "q")
        })),
        "a plan" => sent(Command::Rebalance(Rebalance {
            key: orders("pay"),
            strategy: Strategy::LocalityAware,
        })),
        "a plan that is not wanted any more" => sent(Command::CancelPlan(orders("pay"))),
        "another leader" => sent(lead("pay")),
        "a deletion by force" => sent(Command::Delete(Delete {
            key: ObjectKey::namespace("acme", "pay"),
            force: true,
            grace_ms: 0,
            facts: DeleteFacts {
                subscribers: 3,
                durable_bytes: 1 << 40,
            },
        })),
        "a deletion taken back" => sent(Command::Undelete(orders("pay"))),
        "an end" => sent(Command::Purge(ObjectKey::tenant("acme"))),
        "data that is gone" => sent(Command::ConfirmPurged(ConfirmPurged {
            broker: BrokerNumber(7),
            resources: [1, 1 << 40].map(ResourceId).into(),
        })),
        "data that nobody waits for" => sent(Command::ForgetTombstone(ResourceId(5))),
        "resources from before" => sent(imported()),
        "no more resources from before" => sent(Command::Import(Import {
            broker: BrokerNumber(1),
            from: ResourceId(0),
            upto: ResourceId(1),
            next: ResourceId(1),
            resources: Box::default(),
        })),
        "a broker that is new" => sent(register("b1", 1)),
        "a broker in a new life" => sent(Command::RegisterBroker(RegisterBroker {
            name: "b2".into(),
            facts: facts_of_two(),
            incarnation: 1 << 63,
            gone: Some(7),
        })),
        "a broker that drains" => sent(drain("b2")),
        "a broker that was missed" => sent(missed("b2")),
        "a broker that is gone" => sent(Command::RemoveBroker("b2".into())),
        "a member that will vote" => sent(join(1, "node-1:7420", counted())),
        "a member that never votes" => sent(observe()),
        "a member that lost its disk" => sent(replace(1 << 40)),
        "a member that votes" => sent(votes(1)),
        "a member that is none any more" => sent(Command::RemoveMember(MemberNumber(2))),
        "settings" => sent(settings()),
        "settings that stay" => sent(Command::UpdateSettings(UpdateSettings {
            heartbeat_ms: None,
            missed: None,
            grace_ms: None,
            token_life_s: None,
        })),
        "policies" => sent(policies()),
        "policies that are not wanted any more" => {
            let ids = Box::new([RowId(2), RowId(1 << 40)]);
            sent(Command::DeletePolicies(rules(&["cluster"], ids)))
        }
        "groupings" => sent(groupings()),
        "groupings that are not wanted any more" => {
            sent(Command::DeleteGroupings(rules(&[], Box::new([RowId(3)]))))
        }
        "an identity provider" => sent(put(issuer_rules())),
        "an identity provider with groups" => sent(put(with_groups())),
        "an API key" => sent(machine()),
        "an API key that is not wanted any more" => {
            sent(Command::Remove(ObjectKey::api_key("acme", RowId(7))))
        }
        "an identity provider that is not believed any more" => {
            sent(Command::Remove(ObjectKey::issuer("acme", ISSUER_URL)))
        }
        "the first keys of a tenant" => sent(Command::CreateKeys(CreateKeys {
            tenant: "acme".into(),
            keys: new_keys(),
        })),
        "the next key of a tenant" => sent(next_key()),
        "a token that counts no more" => sent(revoke_token()),
        "a subject whose tokens count no more" => sent(revoke_subject()),
        "a first day" => sent(first_day()),
        "a batch of two" => sent(Command::Batch(Box::new([
            BatchItem {
                expect: Expect::Absent,
                command: create_namespace("acme", "n", OPEN),
            },
            BatchItem {
                expect: Expect::Any,
                command: Command::Noop,
            },
        ]))),
        _ => panic!("no meaning of the vector `{name}`"),
    }
}

#[test]
fn vectors_hold_for_commands() {
    for vector in vectors("commands") {
        let name = vector["name"].as_str().unwrap();
        let (bytes, meant) = (bytes_of(&vector["hex"]), command(name));
        same_bytes(name, &meant.encode().unwrap(), &bytes);
        assert_eq!(Envelope::decode(&bytes), Ok(meant), "{name}");
    }
}

/// The state of the vector of this name, come to by commands.
fn state(name: &str) -> Metadata {
    let mut state = Metadata::genesis(std::array::from_fn(|at| 16 + u8::try_from(at).unwrap()));
    if name == "before the first command" {
        return state;
    }
    assert_eq!(name, "with everything");
    let mut apply = |index, after: u64, request, principal: &str, command| {
        let applied = state.apply(
            index,
            &Envelope {
                stamp: WallMs(1_700_000_000_000 + after),
                request,
                principal: principal.into(),
                ..envelope(command)
            },
        );
        assert!(applied.result.is_ok(), "{applied:?}");
    };
    let two = TenantQuotas {
        max_namespaces: 2,
        max_streams: 10,
        ..FREE
    };
    let ten = NamespaceQuotas {
        max_streams: 10,
        ..OPEN
    };
    let second = Command::RegisterBroker(RegisterBroker {
        name: "b2".into(),
        facts: facts_of_two(),
        incarnation: 1 << 63,
        gone: None,
    });
    let brokers = [
        register("b1", 1),
        second,
        register("b3", 1),
        register("b4", 1),
    ];
    let item = |command| BatchItem {
        expect: Expect::Any,
        command,
    };
    let brokers = brokers.map(item);
    apply(1, 0, 0, "", Command::Batch(Box::new(brokers)));
    apply(3, 0, request(), "p:ana", create_tenant("acme", two));
    apply(4, 0, 0, "", create_namespace("acme", "a", ten));
    apply(5, 100, 0, "", create_namespace("acme", "b", OPEN));
    apply(6, 100, 0, "", create_namespace("default", "a", OPEN));
    let update = UpdateTenant {
        display_name: Some("ACME".into()),
        encryption: Some(Some(Encryption {
            key_id: "key-1".into(),
            rotation_period_ms: 0,
        })),
        ..update_tenant("acme")
    };
    apply(8, 500, 0, "", Command::UpdateTenant(update));
    let orders = Declare {
        namespace: "a".into(),
        ..stream()
    };
    apply(9, 600, 0, "", Command::Declare(orders));
    let jobs = Declare {
        spec: ResourceSpec {
            queue: Some(QUEUE),
            ..SPEC
        },
        seats: Box::new([seat(4, &[], 9)]),
        pinned: Some(BrokerNumber(4)),
        ..declare(ResourceKind::Queue, "acme", "a", "q")
    };
    apply(10, 600, 0, "", Command::Declare(jobs));
    apply(11, 600, request(), "p:bo", Command::Noop);
    let gone = Declare {
        namespace: "a".into(),
        name: "gone".into(),
        tenant: "default".into(),
        ..stream()
    };
    let key = ObjectKey::resource(ResourceKind::Stream, "default", "a", "gone");
    apply(12, 700, 0, "", Command::Declare(gone));
    apply(13, 800, 0, "", delete(&key, true, 100));
    apply(14, 900, 0, "", Command::Purge(key));
    let confirm = |broker| {
        Command::ConfirmPurged(ConfirmPurged {
            broker: BrokerNumber(broker),
            resources: Box::new([ResourceId(3)]),
        })
    };
    apply(15, 900, 0, "", confirm(1));
    apply(16, 900, 0, "", confirm(9));
    let fails = [drain("b2"), missed("b2")].map(item);
    apply(17, 950, 0, "", Command::Batch(Box::new(fails)));
    apply(18, 960, 0, "", lead("a"));
    let both = Box::new([policies(), groupings()].map(item));
    apply(19, 970, 0, "", Command::Batch(both));
    let week = 7 * 24 * 3600 * 1000;
    let home = ObjectKey::namespace("default", "a");
    apply(20, 980, 0, "", first_day());
    let identity = [
        put(with_groups()),
        machine(),
        next_key(),
        revoke_token(),
        revoke_subject(),
    ];
    let identity = Box::new(identity.map(item));
    apply(21, 990, 0, "", Command::Batch(identity));
    let members = [join(1, "old:1", [0; 16]), observe(), replace(1), votes(3)];
    let members = Box::new(members.map(item));
    apply(22, 995, 0, "", Command::Batch(members));
    apply(23, 1_000, 0, "", delete(&home, false, week));
    apply(24, 1_000, request().swap_bytes(), "p:bo", settings());
    state
}

#[test]
fn vectors_hold_for_snapshots() {
    for vector in vectors("snapshots") {
        let name = vector["name"].as_str().unwrap();
        let (bytes, state) = (bytes_of(&vector["hex"]), state(name));
        same_bytes(name, &state.snapshot().encode(), &bytes);
        let restored = Metadata::restore(&bytes).unwrap();
        assert_eq!(restored.state_hash(), state.state_hash(), "{name}");
        same_bytes(name, &restored.snapshot().encode(), &bytes);
    }
}

#[test]
fn vectors_of_what_is_refused_are_refused_for_what_they_say() {
    let mut wrong = Vec::new();
    for vector in vectors("refused") {
        let bytes = bytes_of(&vector["hex"]);
        let decoded = match vector["decode"].as_str().unwrap() {
            "command" => Envelope::decode(&bytes).map(drop),
            "snapshot" => Metadata::restore(&bytes).map(drop),
            other => panic!("{other}"),
        };
        let Err(error) = decoded else {
            panic!("{} was taken", vector["name"]);
        };
        // The variant, and of a contradiction which one.
        let found = format!("{error:?}");
        let found = found.split([' ', '{', ')']).next().unwrap();
        let found = match found.strip_prefix("Broken(") {
            Some(which) => format!("Broken.{}", which.split('(').next().unwrap()),
            None => found.split('(').next().unwrap().to_owned(),
        };
        if found != vector["error"] {
            wrong.push(format!("{}: {found}: {error}", vector["name"]));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn vectors_are_counted() {
    let count: usize = FILES.iter().map(|file| vectors(file).len()).sum();
    println!("vectors: {count}");
    assert!(count > 40);
}

/// The example at the end of the document is the vector `nothing`.
#[test]
fn the_example_of_the_document_holds() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metadata-format.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, example) = text.split_once("## 10. Example").unwrap();
    let lines = example.split("```").nth(1).unwrap().lines().skip(1);
    let bytes: Vec<u8> = lines
        .filter_map(|line| line.split_once("   "))
        .flat_map(|(bytes, _)| bytes.split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let vectors = vectors("commands");
    let nothing = vectors.iter().find(|vector| vector["name"] == "nothing");
    same_bytes("the example", &bytes, &bytes_of(&nothing.unwrap()["hex"]));
}
