//! The same through gRPC: what is done, and what is refused with which code and word.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use pinion_admin_api::grpc::proto::admin_client::AdminClient;
use pinion_admin_api::grpc::proto::metadata_update::Payload;
use pinion_admin_api::grpc::proto::{self, UpdateType};
use pinion_admin_api::grpc::{ERROR_CODE, ERROR_DETAILS, RETRY};
use pinion_admin_api::limits::ASK_BYTES_MAX;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::host::{CLUSTER, OPERATOR, PLAIN};
use crate::http::{Client, config, tell, tell_with, tell_with_access};
use crate::identity::bad_tokens;
use crate::roles::furnish;
use crate::support::town;

/// For what comes at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who calls.
#[derive(Clone)]
struct Caller {
    admin: AdminClient<Channel>,
    channel: Channel,
    bearer: Option<String>,
}

impl Caller {
    async fn new(client: &Client) -> Self {
        let address = format!("http://{}", client.address);
        let channel = Endpoint::from_shared(address).unwrap().connect().await;
        let channel = channel.unwrap();
        Self {
            admin: AdminClient::new(channel.clone()),
            channel,
            bearer: client.bearer.clone(),
        }
    }

    fn showing(&self, bearer: &str) -> Self {
        let bearer = Some(bearer.to_owned());
        Self {
            bearer,
            ..self.clone()
        }
    }

    fn showing_nothing(&self) -> Self {
        let bearer = None;
        Self {
            bearer,
            ..self.clone()
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            let value = AsciiMetadataValue::try_from(format!("Bearer {bearer}")).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    async fn list(&self, tenant: &str) -> Result<proto::ListStreamsResponse, Status> {
        let request = self.request(proto::ListStreamsRequest {
            tenant_id: tenant.into(),
            namespace: "pay".into(),
            ..Default::default()
        });
        let answer = self.admin.clone().list_streams(request).await?;
        Ok(answer.into_inner())
    }

    async fn create(&self, tenant: &str, stream: &str) -> Result<u64, Status> {
        let request = self.request(create(tenant, stream));
        let answer = self.admin.clone().create_stream(request).await?;
        Ok(answer.into_inner().version)
    }

    async fn watch(&self, from: u64) -> Result<Streaming<proto::MetadataUpdate>, Status> {
        let request = self.request(proto::WatchUpdatesRequest {
            from_version: from,
            cluster_id: Vec::new(),
        });
        let answer = self.admin.clone().watch_updates(request).await?;
        Ok(answer.into_inner())
    }

    async fn snapshot(&self, version: u64) -> Result<proto::GetSnapshotResponse, Status> {
        let request = self.request(proto::GetSnapshotRequest { version });
        let answer = self.admin.clone().get_snapshot(request).await?;
        Ok(answer.into_inner())
    }
}

fn create(tenant: &str, stream: &str) -> proto::CreateStreamRequest {
    proto::CreateStreamRequest {
        tenant_id: tenant.into(),
        namespace: "pay".into(),
        stream: stream.into(),
        spec: None,
    }
}

fn word(status: &Status) -> &str {
    let code = status.metadata().get(ERROR_CODE);
    code.map_or("", |code| code.to_str().unwrap())
}

fn details(status: &Status) -> Value {
    let details = status.metadata().get_bin(ERROR_DETAILS).unwrap();
    serde_json::from_slice(&details.to_bytes().unwrap()).unwrap()
}

#[track_caller]
fn refused<T: core::fmt::Debug>(answer: Result<T, Status>, code: Code, expected: &str) -> Status {
    let status = answer.expect_err("it is refused");
    assert_eq!(
        (status.code(), word(&status)),
        (code, expected),
        "{status:?}"
    );
    status
}

async fn next(
    updates: &mut Streaming<proto::MetadataUpdate>,
) -> Result<proto::MetadataUpdate, Status> {
    let next = tokio::time::timeout(PATIENCE, updates.message()).await;
    next.expect("an update comes")
        .map(|update| update.expect("it goes on"))
}

#[test]
fn every_call_does_what_its_route_does() {
    tell(|ops, _| async move {
        let caller = Caller::new(&ops).await;
        let mut admin = caller.admin.clone();
        let capacity = proto::BrokerCapacity {
            max_shards: 100,
            max_connections: 100,
            ..Default::default()
        };
        for (name, zone) in [("one", "a"), ("two", "b")] {
            let register = caller.request(proto::RegisterBrokerRequest {
                broker_id: name.into(),
                address: "localhost:4433".into(),
                capacity: Some(capacity),
                metadata: [("rack".to_owned(), "7".to_owned())].into(),
                region: "eu".into(),
                availability_zone: zone.into(),
                incarnation: u64::MAX,
            });
            let registered = admin.register_broker(register).await.unwrap().into_inner();
            let broker = registered.broker.unwrap();
            assert_eq!((&*broker.name, &*broker.availability_zone), (name, zone));
            assert_eq!(
                (broker.incarnation, broker.status()),
                (u64::MAX, proto::BrokerStatus::Active)
            );
            assert_eq!(broker.capacity.unwrap().cores, 1);
            assert_eq!(broker.labels["rack"], "7");
            assert!(registered.version >= broker.version && broker.version > 0);
        }
        let report = |broker: &str, incarnation| {
            caller.request(proto::ReportHealthRequest {
                broker_id: broker.into(),
                status: Some(proto::HealthStatus {
                    healthy: true,
                    message: String::new(),
                    uptime_seconds: 1,
                }),
                metrics: None,
                shard_status: Vec::new(),
                incarnation,
            })
        };
        let told = admin.report_health(report("one", u64::MAX)).await.unwrap();
        let told = told.into_inner();
        assert_eq!(
            (told.next_ms, told.status()),
            (5_000, proto::BrokerStatus::Active)
        );
        let another = admin.report_health(report("one", 7)).await;
        refused(another, Code::Aborted, "other_incarnation");
        let nobody = admin.report_health(report("three", 7)).await;
        refused(nobody, Code::NotFound, "not_found");
        ops.post("/v1/tenants", json!({ "name": "acme" }))
            .await
            .is(201);
        let namespaces = "/v1/tenants/acme/namespaces";
        ops.post(namespaces, json!({ "name": "pay" })).await.is(201);

        let before = caller.snapshot(0).await.unwrap();
        assert_eq!(before.cluster_id, CLUSTER);
        let known = before.metadata.unwrap();
        // With the node itself.
        assert_eq!((known.tenants.len(), known.brokers.len()), (2, 3));
        assert_eq!(known.namespaces[0].tenant_id, "acme");
        let mut updates = caller.watch(before.version).await.unwrap();

        let spec = proto::StreamSpec {
            shards: 4,
            retention: Some(proto::RetentionPolicy {
                time_ms: 1000,
                size_bytes: 1 << 20,
            }),
            durability: proto::Durability::Durable.into(),
            replication_factor: 2,
            ack_policy: proto::AckPolicy::Quorum.into(),
            overflow: proto::Overflow::Block.into(),
            max_record_bytes: 1000,
            ring_bytes: 0,
        };
        let request = proto::CreateStreamRequest {
            spec: Some(spec),
            ..create("acme", "eu/orders")
        };
        let created = admin.create_stream(caller.request(request)).await.unwrap();
        let created = created.into_inner();
        let stream = created.stream.unwrap();
        let is = stream.spec.unwrap();
        assert!(is.ring_bytes > 0, "filled in");
        assert_eq!(
            proto::StreamSpec {
                ring_bytes: 0,
                ..is
            },
            spec
        );
        assert_eq!(&*stream.name, "eu/orders");

        // The stream and its placement, one version each.
        let made = next(&mut updates).await.unwrap();
        assert_eq!(
            (made.version, made.r#type()),
            (before.version + 1, UpdateType::Create)
        );
        let Some(Payload::Stream(told)) = made.payload else {
            panic!("{made:?}");
        };
        assert_eq!((&*told.name, told.spec), ("eu/orders", Some(is)));
        let placed = next(&mut updates).await.unwrap();
        assert_eq!(placed.version, created.version);
        let Some(Payload::Placement(placement)) = placed.payload else {
            panic!("{placed:?}");
        };
        assert_eq!(placement.placements.len(), 4);

        let one = caller.request(proto::ListStreamsRequest {
            tenant_id: "acme".into(),
            namespace: "pay".into(),
            filter: "name^=eu".into(),
            page_size: 1,
            page_token: String::new(),
        });
        caller.create("acme", "eu/refunds").await.unwrap();
        let page = admin.list_streams(one).await.unwrap().into_inner();
        assert_eq!(page.streams.len(), 1);
        let rest = caller.request(proto::ListStreamsRequest {
            tenant_id: "acme".into(),
            namespace: "pay".into(),
            page_token: page.next_page_token,
            ..Default::default()
        });
        let rest = admin.list_streams(rest).await.unwrap().into_inner();
        assert_eq!(
            (&*rest.streams[0].name, &*rest.next_page_token),
            ("eu/refunds", "")
        );

        let copy = placement.placements[0].replicas[0];
        let target = known.brokers.iter().find(|one| one.number == copy);
        let target = &*target.unwrap().name;
        let transfer = caller.request(proto::TransferShardLeadershipRequest {
            stream_id: "acme/pay/eu/orders".into(),
            shard_id: 0,
            target_broker: target.into(),
        });
        let transfer = admin.transfer_shard_leadership(transfer).await.unwrap();
        let moves = transfer.into_inner().moves;
        assert_eq!((moves.len(), &*moves[0].to_broker), (1, target));
        let rebalance = |dry_run| {
            caller.request(proto::RebalanceShardsRequest {
                tenant_id: "acme".into(),
                namespace: "pay".into(),
                stream: "eu/refunds".into(),
                strategy: proto::RebalanceStrategy::MinimizeMovement.into(),
                dry_run,
            })
        };
        let tried = admin
            .rebalance_shards(rebalance(true))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(tried.status(), proto::RebalanceStatus::RebalanceDryRun);
        let done = admin
            .rebalance_shards(rebalance(false))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (done.moves.len(), done.status()),
            (0, proto::RebalanceStatus::RebalanceNotNeeded)
        );

        let delete = caller.request(proto::DeleteStreamRequest {
            tenant_id: "acme".into(),
            namespace: "pay".into(),
            stream: "eu/orders".into(),
            force: true,
        });
        let deleted = admin.delete_stream(delete).await.unwrap().into_inner();
        let names: Vec<_> = caller
            .list("acme")
            .await
            .unwrap()
            .streams
            .into_iter()
            .map(|stream| stream.name)
            .collect();
        assert_eq!(names, ["eu/refunds"]);
        // Every version up to the last one, each once.
        let (mut version, mut gone) = (created.version, None);
        while version < deleted.version {
            let update = next(&mut updates).await.unwrap();
            version += 1;
            assert_eq!(update.version, version);
            match update.payload {
                Some(Payload::Stream(stream)) if stream.name == "eu/orders" => gone = Some(stream),
                _ => {}
            }
        }
        assert!(gone.unwrap().purge_at_ms > 0);
        let now = caller.snapshot(deleted.version).await.unwrap();
        assert_eq!(now.metadata.unwrap().streams.len(), 2);
    });
}

#[test]
fn what_is_refused_has_a_code_and_a_word() {
    tell(|ops, _| async move {
        furnish(&ops).await;
        let caller = Caller::new(&ops).await;
        let mut admin = caller.admin.clone();
        refused(
            caller.create("acme", "orders").await,
            Code::AlreadyExists,
            "exists",
        );
        refused(
            caller.create("nobody", "orders").await,
            Code::NotFound,
            "not_found",
        );
        refused(
            caller.create("acme", "").await,
            Code::InvalidArgument,
            "bad_name",
        );
        refused(
            caller.create("", "x").await,
            Code::InvalidArgument,
            "bad_name",
        );
        refused(
            caller.create("acme/namespaces", "x").await,
            Code::InvalidArgument,
            "bad_name",
        );
        refused(
            caller.create("..", "x").await,
            Code::InvalidArgument,
            "bad_name",
        );
        let with = |spec: proto::StreamSpec| {
            caller.request(proto::CreateStreamRequest {
                spec: Some(spec),
                ..create("acme", "new")
            })
        };
        for spec in [
            proto::StreamSpec {
                durability: 9,
                ..Default::default()
            },
            proto::StreamSpec {
                overflow: -1,
                ..Default::default()
            },
            proto::StreamSpec {
                replication_factor: 8,
                ..Default::default()
            },
        ] {
            let answer = admin.create_stream(with(spec)).await;
            refused(answer, Code::InvalidArgument, "bad_spec");
        }
        let many = proto::StreamSpec {
            shards: 1 << 20,
            ..Default::default()
        };
        let status = admin.create_stream(with(many)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);

        for name in ["", "auto"] {
            let register = caller.request(proto::RegisterBrokerRequest {
                broker_id: name.into(),
                ..Default::default()
            });
            refused(
                admin.register_broker(register).await,
                Code::InvalidArgument,
                "bad_name",
            );
        }
        let rebalance = caller.request(proto::RebalanceShardsRequest {
            tenant_id: "acme".into(),
            namespace: "pay".into(),
            stream: "orders".into(),
            strategy: 7,
            dry_run: false,
        });
        refused(
            admin.rebalance_shards(rebalance).await,
            Code::InvalidArgument,
            "bad_spec",
        );
        let transfer = |stream: &str, shard| {
            caller.request(proto::TransferShardLeadershipRequest {
                stream_id: stream.into(),
                shard_id: shard,
                target_broker: "one".into(),
            })
        };
        let answer = admin
            .transfer_shard_leadership(transfer("acme/pay", 0))
            .await;
        refused(answer, Code::InvalidArgument, "bad_name");
        let answer = admin
            .transfer_shard_leadership(transfer("acme/pay/orders", 70_000))
            .await;
        refused(answer, Code::InvalidArgument, "bad_path");

        // Versions that are not there, and clusters that are others.
        let version = caller.list("acme").await.unwrap().version;
        let status = refused(
            caller.watch(version + 100).await,
            Code::FailedPrecondition,
            "resnapshot_required",
        );
        assert_eq!(details(&status)["newest_version"], version);
        refused(
            caller.snapshot(version + 1).await,
            Code::FailedPrecondition,
            "resnapshot_required",
        );
        let other = caller.request(proto::WatchUpdatesRequest {
            from_version: version,
            cluster_id: vec![1; 16],
        });
        refused(
            admin.watch_updates(other).await,
            Code::FailedPrecondition,
            "resnapshot_required",
        );
        let short = caller.request(proto::WatchUpdatesRequest {
            from_version: version,
            cluster_id: vec![1; 15],
        });
        refused(
            admin.watch_updates(short).await,
            Code::InvalidArgument,
            "bad_spec",
        );

        // A message that is too large is not read to its end.
        let huge = "x".repeat(2 << 20);
        let status = caller.create("acme", &huge).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    });
}

#[test]
fn headers_of_a_call_are_those_of_its_route() {
    tell(|ops, _| async move {
        furnish(&ops).await;
        let caller = Caller::new(&ops).await;
        let mut admin = caller.admin.clone();
        let numbered = |stream: &str, number: &'static str| {
            let mut request = caller.request(create("acme", stream));
            let number = AsciiMetadataValue::from_static(number);
            request.metadata_mut().insert("x-request-id", number);
            request
        };
        let first = admin.create_stream(numbered("once", "ab12")).await.unwrap();
        let again = admin.create_stream(numbered("once", "ab12")).await.unwrap();
        assert_eq!(first.into_inner().version, again.into_inner().version);
        let answer = admin.create_stream(numbered("other", "xyz")).await;
        refused(answer, Code::InvalidArgument, "bad_request_id");

        let delete = |tag: &'static str| {
            let mut request = caller.request(proto::DeleteStreamRequest {
                tenant_id: "acme".into(),
                namespace: "pay".into(),
                stream: "orders".into(),
                force: false,
            });
            let tag = AsciiMetadataValue::from_static(tag);
            request.metadata_mut().insert("if-match", tag);
            request
        };
        let answer = admin.delete_stream(delete("\"1\"")).await;
        refused(answer, Code::FailedPrecondition, "version_conflict");
        admin.delete_stream(delete("*")).await.unwrap();
        // Two bearers are none.
        let mut twice = caller.request(create("acme", "new"));
        let bearer = AsciiMetadataValue::try_from(format!("Bearer {OPERATOR}")).unwrap();
        twice.metadata_mut().append("authorization", bearer);
        refused(
            admin.create_stream(twice).await,
            Code::Unauthenticated,
            "unauthenticated",
        );
    });
}

#[test]
fn bearers_that_prove_nothing_open_no_call() {
    town::tell(|town| async move {
        town.found("acme").await.is(201);
        town.found("other").await.is(201);
        let ops = Caller::new(&town.ops).await;
        let ana = ops.showing(&town.token("acme", "ana").await);
        refused(ana.list("acme").await, Code::NotFound, "not_found");
        let namespaces = "/v1/tenants/acme/namespaces";
        let made = town.ops.post(namespaces, json!({ "name": "pay" })).await;
        made.is(201);
        ana.list("acme").await.unwrap();
        let mut bad = bad_tokens(&town, "acme").await;
        bad.push(("nothing", String::new()));
        for (what, token) in bad {
            let guess = ops.showing(&token);
            for status in [
                guess.list("acme").await.unwrap_err(),
                guess.create("acme", "x").await.unwrap_err(),
                guess.watch(0).await.unwrap_err(),
                guess.snapshot(0).await.unwrap_err(),
            ] {
                assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status:?}");
                assert_eq!(word(&status), "unauthenticated", "{what}");
            }
        }
        // What is another tenant's is not there; what takes an operator is refused.
        refused(ana.list("other").await, Code::NotFound, "not_found");
        refused(ana.create("other", "x").await, Code::NotFound, "not_found");
        refused(ana.snapshot(0).await, Code::PermissionDenied, "forbidden");
        refused(ana.watch(0).await, Code::PermissionDenied, "forbidden");
        let data = ops.showing(PLAIN);
        refused(data.snapshot(0).await, Code::PermissionDenied, "forbidden");
        refused(data.list("acme").await, Code::NotFound, "not_found");
    });
}

#[test]
fn refusals_of_calls_are_recorded_and_counted_as_those_of_routes() {
    let mut config = config();
    config.strangers.per_second = 1;
    config.strangers.burst = 2;
    tell_with(config, |ops, _| async move {
        let stranger = Caller::new(&ops).await.showing_nothing();
        let unknown = "unauthenticated";
        refused(stranger.list("acme").await, Code::Unauthenticated, unknown);
        refused(stranger.watch(0).await, Code::Unauthenticated, unknown);
        // A service that has no routes is counted with them.
        let mut health = HealthClient::new(stranger.channel.clone());
        let status = health
            .check(HealthCheckRequest::default())
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), word(&status)),
            (Code::ResourceExhausted, "rate_limited")
        );
        assert!(status.metadata().contains_key(RETRY), "{status:?}");
        let rows = ops.get("/v1/audit?limit=1000").await.is(200);
        let denied = rows.body["rows"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["result"] == "denied")
            .count();
        assert_eq!(denied, 1, "the second is counted: {rows:#?}");
    });
}

/// A message that does not come.
struct Silence;

impl hyper::body::Body for Silence {
    type Data = hyper::body::Bytes;
    type Error = core::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Poll::Pending
    }
}

/// The status of a call whose message does not come, or nothing where it is waited for.
async fn begin(client: &Client, method: &str) -> Option<Code> {
    let stream = TcpStream::connect(client.address).await.unwrap();
    let (executor, stream) = (TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let path = format!("http://{}/pinion.admin.v1.Admin/{method}", client.address);
    let mut request = hyper::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(bearer) = &client.bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let request = request.body(Silence).unwrap();
    // Long before whoever waits for the message gives up.
    let answer = tokio::time::timeout(Duration::from_secs(5), sender.send_request(request));
    let answer = answer.await.ok();
    connection.abort();
    let answer = answer?.unwrap();
    let status = answer.headers().get("grpc-status").unwrap();
    Some(Code::from_bytes(status.as_bytes()))
}

#[test]
fn who_shows_nothing_is_refused_before_their_message_comes() {
    let mut config = config();
    config.strangers.per_second = 1;
    config.strangers.burst = 2;
    tell_with(config, |ops, _| async move {
        let stranger = ops.showing_nothing();
        let guess = ops.showing("a guess");
        for (client, method, code) in [
            (&stranger, "CreateStream", Code::Unauthenticated),
            (&guess, "WatchUpdates", Code::Unauthenticated),
            // As the third of a stranger.
            (&stranger, "GetSnapshot", Code::ResourceExhausted),
        ] {
            assert_eq!(begin(client, method).await, Some(code), "{method}");
        }
        let rows = ops.get("/v1/audit?limit=1000").await.is(200);
        let mut rows = rows.body["rows"].as_array().unwrap().iter();
        let denied = rows.find(|row| row["result"] == "denied").unwrap();
        let route = "POST /v1/tenants/{t}/namespaces/{ns}/streams";
        assert_eq!(denied["action"], route);
    });
}

#[test]
fn a_call_is_counted_once() {
    let mut config = config();
    config.reads.per_second = 1;
    config.reads.burst = 3;
    tell_with(config, |ops, _| async move {
        let caller = Caller::new(&ops).await;
        refused(caller.list("acme").await, Code::NotFound, "not_found");
        caller.snapshot(0).await.unwrap();
        refused(caller.list("acme").await, Code::NotFound, "not_found");
        let often = caller.list("acme").await;
        refused(often, Code::ResourceExhausted, "rate_limited");
    });
}

#[test]
fn a_watch_ends_when_its_credential_does() {
    tell_with_access(config(), |ops, access| async move {
        let caller = Caller::new(&ops).await;
        let mut updates = caller.watch(0).await.unwrap();
        ops.post("/v1/tenants", json!({ "name": "new" }))
            .await
            .is(201);
        let update = next(&mut updates).await.unwrap();
        assert!(
            matches!(update.payload, Some(Payload::Tenant(_))),
            "{update:?}"
        );
        // The token is taken out of the configuration.
        access.send_replace(Arc::default());
        let status = next(&mut updates).await.unwrap_err();
        assert_eq!(
            (status.code(), word(&status)),
            (Code::Unauthenticated, "unauthenticated")
        );
    });
}

#[test]
fn health_and_reflection_tell_what_there_is() {
    tell(|ops, _| async move {
        let caller = Caller::new(&ops).await;
        let nobody = caller.showing_nothing();
        let mut health = HealthClient::new(caller.channel.clone());
        let check = |service: &str| HealthCheckRequest {
            service: service.into(),
        };
        for service in ["", "pinion.admin.v1.Admin"] {
            let answer = health.check(check(service)).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving);
        }
        let status = health.check(check("elsewhere")).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        // Of anybody no more is read than such a name takes.
        let long = "x".repeat(ASK_BYTES_MAX);
        let status = health.check(check(&long)).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange);
        let asked = ServerReflectionRequest {
            host: long,
            message_request: None,
        };
        let mut reflection = ServerReflectionClient::new(caller.channel.clone());
        let answers = reflection.server_reflection_info(caller.request(Once(Some(asked))));
        let answered = answers.await.unwrap().into_inner().message().await;
        assert!(!matches!(answered, Ok(Some(_))), "{answered:?}");
        let status = health.watch(nobody.request(check(""))).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        let mut watch = health
            .watch(caller.request(check("")))
            .await
            .unwrap()
            .into_inner();
        let told = watch.message().await.unwrap().unwrap();
        assert_eq!(told.status(), ServingStatus::Serving);
        drop(watch);

        let refused = reflect(&nobody, MessageRequest::ListServices(String::new())).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
        let services = reflect(&caller, MessageRequest::ListServices(String::new())).await;
        let Some(MessageResponse::ListServicesResponse(list)) = services.unwrap().message_response
        else {
            panic!("no list");
        };
        let names: Vec<_> = list.service.iter().map(|one| &*one.name).collect();
        for service in ["pinion.admin.v1.Admin", "grpc.health.v1.Health"] {
            assert!(names.contains(&service), "{names:?}");
        }
        let symbol = "pinion.admin.v1.Admin.WatchUpdates".to_owned();
        let file = reflect(&caller, MessageRequest::FileContainingSymbol(symbol)).await;
        let Some(MessageResponse::FileDescriptorResponse(file)) = file.unwrap().message_response
        else {
            panic!("no file");
        };
        assert_eq!(file.file_descriptor_proto.len(), 1);
    });
}

/// Asks one question of the reflection service.
async fn reflect(
    caller: &Caller,
    question: MessageRequest,
) -> Result<ServerReflectionResponse, Status> {
    let mut client = ServerReflectionClient::new(caller.channel.clone());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let asked = caller.request(Once(Some(request)));
    let mut answers = client.server_reflection_info(asked).await?.into_inner();
    Ok(answers.message().await?.expect("an answer"))
}

/// A stream of one message.
struct Once<T>(Option<T>);

impl<T: Unpin> tonic::codegen::tokio_stream::Stream for Once<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
        Poll::Ready(self.0.take())
    }
}
