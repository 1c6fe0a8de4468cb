//! Every method of every service of gRPC, called by everybody.
//!
//! Methods are those of the descriptors that the services are served with; a method without a
//! row fails, as does a row without a method.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pinion_admin_api::grpc::{Service, proto};
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::{each_is_told, everybody};
use crate::http::{Client, tell};
use crate::roles::{believe, furnish};

/// In the columns of the table of routes. 1, 3 and 4 are UNAUTHENTICATED, PERMISSION_DENIED
/// and NOT_FOUND.
const TABLE: &[(&str, &str)] = &[
    ("pinion.admin.v1.Admin/CreateStream", "114433y33yy3yy"),
    ("pinion.admin.v1.Admin/DeleteStream", "114433y33yy3yy"),
    ("pinion.admin.v1.Admin/ListStreams", "1144yyyyyyyyyy"),
    ("pinion.admin.v1.Admin/RebalanceShards", "114433y33yy3yy"),
    (
        "pinion.admin.v1.Admin/TransferShardLeadership",
        "114433y33yy3yy",
    ),
    ("pinion.admin.v1.Admin/RegisterBroker", "1133333333333y"),
    ("pinion.admin.v1.Admin/ReportHealth", "1133333333333y"),
    ("pinion.admin.v1.Admin/GetSnapshot", "1133333333333y"),
    ("pinion.admin.v1.Admin/WatchUpdates", "1133333333333y"),
    ("grpc.health.v1.Health/Check", "yyyyyyyyyyyyyy"),
    // A stream is kept open for whoever has some credential.
    ("grpc.health.v1.Health/Watch", "11yyyyyyyyyyyy"),
    (
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "11yyyyyyyyyyyy",
    ),
];

/// The methods of a service, as its descriptors have them.
fn methods(service: Service) -> Vec<String> {
    let set = FileDescriptorSet::decode(service.descriptors()).unwrap();
    let mut all = Vec::new();
    for file in &set.file {
        for one in &file.service {
            let name = format!("{}.{}", file.package(), one.name());
            if name == service.name() {
                all.extend(one.method.iter().map(|method| method.name().to_owned()));
            }
        }
    }
    assert!(!all.is_empty(), "{service:?} is in none of its descriptors");
    all
}

/// A message that is right, about what there is.
fn message(method: &str) -> Vec<u8> {
    let (tenant_id, namespace, stream) = ("acme".into(), "pay".into(), "orders".into());
    match method {
        "CreateStream" => proto::CreateStreamRequest {
            tenant_id,
            namespace,
            stream,
            ..Default::default()
        }
        .encode_to_vec(),
        "DeleteStream" => proto::DeleteStreamRequest {
            tenant_id,
            namespace,
            stream,
            ..Default::default()
        }
        .encode_to_vec(),
        "ListStreams" => proto::ListStreamsRequest {
            tenant_id,
            namespace,
            ..Default::default()
        }
        .encode_to_vec(),
        "RebalanceShards" => proto::RebalanceShardsRequest {
            tenant_id,
            namespace,
            stream,
            ..Default::default()
        }
        .encode_to_vec(),
        "TransferShardLeadership" => proto::TransferShardLeadershipRequest {
            stream_id: "acme/pay/orders".into(),
            shard_id: 0,
            target_broker: "one".into(),
        }
        .encode_to_vec(),
        "RegisterBroker" => proto::RegisterBrokerRequest {
            broker_id: "one".into(),
            address: "localhost:4433".into(),
            capacity: Some(proto::BrokerCapacity {
                max_shards: 1,
                max_connections: 1,
                ..Default::default()
            }),
            ..Default::default()
        }
        .encode_to_vec(),
        "ReportHealth" => proto::ReportHealthRequest {
            broker_id: "one".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetSnapshot" => proto::GetSnapshotRequest::default().encode_to_vec(),
        "WatchUpdates" => proto::WatchUpdatesRequest::default().encode_to_vec(),
        "Check" | "Watch" => HealthCheckRequest::default().encode_to_vec(),
        "ServerReflectionInfo" => ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        }
        .encode_to_vec(),
        other => panic!("what is {other} called with?"),
    }
}

/// Calls with one message: the status, or that it is answered with a message.
async fn call(client: &Client, path: &str, message: &[u8]) -> Code {
    let stream = TcpStream::connect(client.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::post(format!("http://{}/{path}", client.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        // Whoever is let in changes nothing: no object has this version.
        .header("if-match", "\"999999999\"");
    if let Some(bearer) = &client.bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    // Not compressed, and so many bytes.
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(message);
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let (head, mut body) = sender.send_request(request).await.unwrap().into_parts();
    assert_eq!(head.status, 200, "{path}");
    let mut status = head.headers.get("grpc-status").cloned();
    while status.is_none() {
        // What comes after a first message is not waited for: a watch does not end.
        let frame = body.frame().await.unwrap().unwrap();
        match frame.into_trailers() {
            Ok(trailers) => status = trailers.get("grpc-status").cloned(),
            Err(_) => break,
        }
    }
    connection.abort();
    let number = status.map(|status| status.to_str().unwrap().parse().unwrap());
    number.map_or(Code::Ok, Code::from_i32)
}

#[test]
fn every_call_answers_everybody_as_the_table_says() {
    let mut table: BTreeMap<&str, &str> = TABLE.iter().copied().collect();
    assert_eq!(table.len(), TABLE.len(), "each method once");
    let left = OnceLock::new();
    let leave = &left;
    let host = tell(|ops, plane| async move {
        furnish(&ops).await;
        believe(&ops, &plane).await;
        let everybody = everybody(&ops, &plane).await;
        let before = ops.get("/v1/system/info").await.is(200).body["version"].clone();
        let (mut rows, mut refused, mut recorded) = (0, 0, 0);
        for service in Service::ALL {
            for method in methods(service) {
                let path = format!("{}/{method}", service.name());
                let row = table.remove(path.as_str());
                let row = row.unwrap_or_else(|| panic!("{path} has no row in the table"));
                assert_eq!(row.len(), everybody.len(), "{path}");
                for ((who, client), expected) in everybody.iter().zip(row.chars()) {
                    let code = call(client, &path, &message(&method)).await;
                    assert_ne!(code, Code::Unimplemented, "{path} is not served");
                    let verdict = match code {
                        Code::Unauthenticated => '1',
                        Code::PermissionDenied => '3',
                        Code::NotFound => '4',
                        _ => 'y',
                    };
                    assert_eq!(verdict, expected, "{path} called by {who}: {code:?}");
                    rows += 1;
                    refused += usize::from(verdict != 'y');
                    // Those of others' services touch nothing.
                    let is_ours = service == Service::Admin;
                    recorded += usize::from(verdict != 'y' && is_ours);
                }
            }
        }
        assert!(table.is_empty(), "rows without a method: {table:?}");
        println!("authorisation matrix: {rows} rows of calls, {refused} refused");
        let after = ops.get("/v1/system/info").await.is(200).body["version"].clone();
        assert_eq!(before, after, "nothing was changed");
        leave.set((plane, recorded)).unwrap();
    });
    each_is_told(host, &left);
}
