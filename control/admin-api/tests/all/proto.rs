//! The messages are those that were agreed on, and what is generated is of this proto.

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use sha2::{Digest as _, Sha256};

const PROTO: &str = include_str!("../../proto/pinion/admin/v1/admin.proto");
const GENERATED: &str = include_str!("../../src/grpc/generated.rs");

fn file() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(pinion_admin_api::grpc::DESCRIPTORS).unwrap();
    let ours = |file: &FileDescriptorProto| file.package() == "pinion.admin.v1";
    set.file.into_iter().find(ours).unwrap()
}

#[test]
fn what_is_generated_is_of_this_proto() {
    let digest = Sha256::digest(PROTO);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let first = GENERATED.lines().next().unwrap();
    let expected = format!("// pinion/admin/v1/admin.proto {digest}");
    assert_eq!(first, expected, "run control/admin-api/codegen");
    let file = file();
    for message in &file.message_type {
        let start = format!("message {} {{", message.name());
        assert!(PROTO.contains(&start), "{start}");
        let generated = format!("pub struct {} {{", message.name());
        assert!(GENERATED.contains(&generated), "{generated}");
    }
    let messages = PROTO.matches("\nmessage ").count();
    assert_eq!(messages, file.message_type.len());
}

/// `name number type`, with `repeated`; a field of a message or an enumeration is of the
/// type of that name.
fn fields(message: &DescriptorProto) -> Vec<String> {
    let field = |field: &prost_types::FieldDescriptorProto| {
        let own = || field.type_name().rsplit('.').next().unwrap().to_owned();
        let kind = match field.r#type() {
            Type::Message | Type::Enum => own(),
            Type::String => "string".into(),
            Type::Bool => "bool".into(),
            Type::Uint32 => "uint32".into(),
            Type::Uint64 => "uint64".into(),
            Type::Int64 => "int64".into(),
            Type::Bytes => "bytes".into(),
            other => panic!("{other:?}"),
        };
        let repeated = if field.label() == Label::Repeated {
            "repeated "
        } else {
            ""
        };
        format!("{repeated}{kind} {} = {}", field.name(), field.number())
    };
    message.field.iter().map(field).collect()
}

/// As the design of the interface has them: their numbers below 100 are for ever.
const AGREED: &str = "
    CreateStreamRequest: string tenant_id = 1; string namespace = 2; string stream = 3; StreamSpec spec = 4
    StreamSpec: uint32 shards = 1; RetentionPolicy retention = 2; Durability durability = 3; uint32 replication_factor = 4; AckPolicy ack_policy = 5
    DeleteStreamRequest: string tenant_id = 1; string namespace = 2; string stream = 3; bool force = 4
    ListStreamsRequest: string tenant_id = 1; string namespace = 2; string filter = 3; uint32 page_size = 4; string page_token = 5
    ListStreamsResponse: repeated StreamInfo streams = 1; string next_page_token = 2
    StreamInfo: string name = 1; StreamSpec spec = 2; StreamMetrics metrics = 3
    RebalanceShardsRequest: string tenant_id = 1; string namespace = 2; string stream = 3; RebalanceStrategy strategy = 4
    RebalanceShardsResponse: repeated ShardMove moves = 1; RebalanceStatus status = 2
    ShardMove: uint32 shard_id = 1; string from_broker = 2; string to_broker = 3; MoveStatus status = 4
    TransferShardLeadershipRequest: string stream_id = 1; uint32 shard_id = 2; string target_broker = 3
    RegisterBrokerRequest: string broker_id = 1; string address = 2; BrokerCapacity capacity = 3; repeated MetadataEntry metadata = 4
    ReportHealthRequest: string broker_id = 1; HealthStatus status = 2; BrokerMetrics metrics = 3; repeated ShardStatus shard_status = 4
    HealthStatus: bool healthy = 1; string message = 2; int64 uptime_seconds = 3
    GetSnapshotRequest: uint64 version = 1
    GetSnapshotResponse: uint64 version = 1; Metadata metadata = 2
    Metadata: repeated Tenant tenants = 1; repeated Namespace namespaces = 2; repeated Stream streams = 3; repeated ShardPlacement placements = 4; repeated Broker brokers = 5
    WatchUpdatesRequest: uint64 from_version = 1
    MetadataUpdate: uint64 version = 1; UpdateType type = 2; Tenant tenant = 3; Namespace namespace = 4; Stream stream = 5; ShardPlacement placement = 6; Broker broker = 7
";

#[test]
fn agreed_messages_have_their_fields_and_numbers_and_what_was_added_is_beyond_99() {
    let file = file();
    for line in AGREED
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (name, agreed) = line.split_once(": ").unwrap();
        let message = file.message_type.iter().find(|one| one.name() == name);
        let fields = fields(message.unwrap_or_else(|| panic!("{name}")));
        let agreed: Vec<_> = agreed.split("; ").map(str::to_owned).collect();
        let (old, added) = fields.split_at(agreed.len());
        assert_eq!(old, agreed, "{name}");
        for field in added {
            let number: u32 = field.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(number >= 100, "{name}: {field}");
        }
    }
    let values = |name: &str| -> Vec<String> {
        let of = file.enum_type.iter().find(|one| one.name() == name);
        let values = of.unwrap().value.iter();
        values
            .map(|one| format!("{} = {}", one.name(), one.number()))
            .collect()
    };
    assert_eq!(
        values("RebalanceStrategy"),
        [
            "BALANCED = 0",
            "MINIMIZE_MOVEMENT = 1",
            "LOCALITY_AWARE = 2"
        ]
    );
    assert_eq!(
        values("UpdateType"),
        ["CREATE = 0", "UPDATE = 1", "DELETE = 2"]
    );
}

#[test]
fn every_agreed_call_is_there() {
    let file = file();
    let calls: Vec<_> = file.service[0]
        .method
        .iter()
        .map(|one| one.name())
        .collect();
    assert_eq!(
        calls,
        [
            "CreateStream",
            "DeleteStream",
            "ListStreams",
            "RebalanceShards",
            "TransferShardLeadership",
            "RegisterBroker",
            "ReportHealth",
            "GetSnapshot",
            "WatchUpdates"
        ]
    );
    let streams: Vec<bool> = file.service[0]
        .method
        .iter()
        .map(|one| one.server_streaming())
        .collect();
    assert_eq!(streams.iter().filter(|one| **one).count(), 1);
    assert!(streams[8]);
}
