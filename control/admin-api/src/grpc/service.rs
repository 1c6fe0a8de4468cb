//! The calls. One that asks or changes something is a request of the HTTP interface, made on
//! the same router: what it takes, how often, and what is recorded of it are the same by
//! construction. What is long, a snapshot and a watch, is made here of the objects themselves.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, IF_MATCH, ORIGIN, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request as HttpRequest};
use core::fmt::Write as _;
use core::pin::Pin;
use core::task::{Context, Poll};
use http_body_util::{BodyExt as _, Limited};
use pinion_metadata::{MetaVersion, Object, ObjectKey};
use pinion_plane::{Answer, Consistency, PlaneError, Query};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tower::ServiceExt as _;

use super::json::{self, bad};
use super::proto::admin_server::Admin;
use super::status::{detailed, status};
use super::{form, proto};
use crate::Api;
use crate::access::Who;
use crate::call::{Certified, LetIn, Peer, Remote, X_REQUEST_ID, refuse, request_id};
use crate::error::Failure;
use crate::limits::PLANE_WAIT;
use crate::routes::routes;
use crate::still::Still;

/// Updates made ahead of what a client has taken. What it is behind beyond them waits in the
/// plane's history.
const UPDATES_AHEAD: usize = 16;

/// Longest answer of a route that is made a message: a page of the longest rows.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The header in which routes say which version of the metadata a write left.
const X_VERSION: HeaderName = HeaderName::from_static("x-pinion-version");

/// The service `pinion.admin.v1.Admin`.
pub(crate) struct Calls {
    pub(crate) api: Arc<Api>,
    /// The routes of the HTTP interface.
    pub(crate) router: Router,
}

/// What a route answered.
struct Done {
    body: Value,
    /// Of the metadata.
    version: u64,
}

impl Calls {
    /// Asks the HTTP interface, on behalf of who calls.
    async fn ask<T>(
        &self,
        call: &Request<T>,
        method: Method,
        path: String,
        body: Option<Value>,
    ) -> Result<Done, Status> {
        let mut request = HttpRequest::builder().method(method).uri(path);
        let metadata = call.metadata().clone().into_headers();
        for name in [AUTHORIZATION, COOKIE, ORIGIN, IF_MATCH, X_REQUEST_ID] {
            // All of them, so that two of what there may be one of are refused there, too.
            for value in metadata.get_all(&name) {
                request = request.header(&name, value);
            }
        }
        if let Some(Remote(remote)) = call.extensions().get::<Remote>() {
            request = request.extension(Remote(*remote));
        }
        if let Some(certified) = call.extensions().get::<Certified>() {
            request = request.extension(certified.clone());
        }
        // Counted once, by the head of the call.
        if let Some(let_in) = call.extensions().get::<LetIn>() {
            request = request.extension(let_in.clone());
        }
        let body = match body {
            None => Body::empty(),
            Some(body) => {
                let json = HeaderValue::from_static("application/json");
                request = request.header(CONTENT_TYPE, json);
                Body::from(body.to_string())
            }
        };
        let request = request
            .body(body)
            .map_err(|_| bad("bad_request", "the call cannot be made a request"))?;
        let Ok(answer) = self.router.clone().oneshot(request).await;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|_| Status::internal("an answer that is too long"))?;
        let body = body.to_bytes();
        let body = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body)
                .map_err(|_| Status::internal("an answer that is no JSON"))?,
        };
        if !head.status.is_success() {
            let word = body["code"].as_str().unwrap_or_default();
            let message = body["message"].as_str().unwrap_or_default();
            let retry_s = head
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok());
            let retry_ms = retry_s.and_then(|text| text.parse::<u64>().ok());
            let retry_ms = retry_ms.map(|seconds| seconds.saturating_mul(1_000));
            let refused = status(head.status, word, message);
            return Err(detailed(refused, &body["details"], retry_ms));
        }
        let version = head
            .headers
            .get(X_VERSION)
            .and_then(|value| value.to_str().ok());
        Ok(Done {
            body,
            version: version
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
        })
    }

    /// Lets in who calls something that is not made a request, by the route that is the same.
    async fn let_in(&self, rpc: &'static str, called: &Called) -> Result<(), Status> {
        let Some(route) = routes().find(|route| route.rpc == Some(rpc)) else {
            return Err(Status::unimplemented("there is no such route"));
        };
        let (number, _) = request_id(&called.headers)?;
        let who = &called.who;
        match who.check_need(route.need, |_| "") {
            Ok(()) => Ok(()),
            Err(failure) => Err(refuse(&self.api, route, who, number, failure).await.into()),
        }
    }
}

/// What is known of who calls.
struct Called {
    headers: HeaderMap,
    peer: Peer,
    who: Who,
}

impl Called {
    fn of<T>(call: &Request<T>) -> Self {
        let peer = Peer::of(call.extensions());
        let who = match call.extensions().get::<LetIn>() {
            Some(LetIn(who)) => who.clone(),
            // Whom no gate let in may nothing.
            None => Who::nobody(peer.remote),
        };
        Self {
            headers: call.metadata().clone().into_headers(),
            peer,
            who,
        }
    }
}

/// One part of a path: everything but what is certainly no delimiter is escaped.
fn part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                part.push(char::from(byte));
            }
            // A dot, too: `..` is no part that is passed on.
            _ => {
                let _ = write!(part, "%{byte:02X}");
            }
        }
    }
    part
}

fn streams(tenant: &str, namespace: &str) -> Result<String, Status> {
    // An empty part would be another path.
    if tenant.is_empty() || namespace.is_empty() {
        return Err(bad("bad_name", "tenant_id and namespace are needed"));
    }
    let (tenant, namespace) = (part(tenant), part(namespace));
    Ok(format!(
        "/v1/tenants/{tenant}/namespaces/{namespace}/streams"
    ))
}

fn stream(tenant: &str, namespace: &str, name: &str) -> Result<String, Status> {
    if name.is_empty() {
        return Err(bad("bad_name", "the name of the stream is needed"));
    }
    Ok(format!("{}/{}", streams(tenant, namespace)?, part(name)))
}

#[tonic::async_trait]
impl Admin for Calls {
    async fn create_stream(
        &self,
        call: Request<proto::CreateStreamRequest>,
    ) -> Result<Response<proto::CreateStreamResponse>, Status> {
        let of = call.get_ref();
        let path = streams(&of.tenant_id, &of.namespace)?;
        let spec = json::spec_body(&of.spec.unwrap_or_default())?;
        let body = json!({ "name": of.stream, "spec": spec });
        let done = self.ask(&call, Method::POST, path, Some(body)).await?;
        Ok(Response::new(proto::CreateStreamResponse {
            stream: Some(json::stream(&done.body)),
            version: done.version,
        }))
    }

    async fn delete_stream(
        &self,
        call: Request<proto::DeleteStreamRequest>,
    ) -> Result<Response<proto::DeleteStreamResponse>, Status> {
        let of = call.get_ref();
        let mut path = stream(&of.tenant_id, &of.namespace, &of.stream)?;
        if of.force {
            path.push_str("?force=true");
        }
        let done = self.ask(&call, Method::DELETE, path, None).await?;
        Ok(Response::new(proto::DeleteStreamResponse {
            version: done.version,
        }))
    }

    async fn list_streams(
        &self,
        call: Request<proto::ListStreamsRequest>,
    ) -> Result<Response<proto::ListStreamsResponse>, Status> {
        let of = call.get_ref();
        let mut path = streams(&of.tenant_id, &of.namespace)?;
        let size = (of.page_size != 0).then(|| of.page_size.to_string());
        let size = size.unwrap_or_default();
        let mut before = '?';
        for (name, value) in [
            ("filter", &of.filter),
            ("page_size", &size),
            ("page_token", &of.page_token),
        ] {
            if !value.is_empty() {
                let _ = write!(path, "{before}{name}={}", part(value));
                before = '&';
            }
        }
        let done = self.ask(&call, Method::GET, path, None).await?;
        Ok(Response::new(proto::ListStreamsResponse {
            streams: json::rows(&done.body["streams"])
                .map(json::stream)
                .collect(),
            next_page_token: json::next_page(&done.body),
            version: done.version,
        }))
    }

    async fn rebalance_shards(
        &self,
        call: Request<proto::RebalanceShardsRequest>,
    ) -> Result<Response<proto::RebalanceShardsResponse>, Status> {
        let of = call.get_ref();
        let mut path = stream(&of.tenant_id, &of.namespace, &of.stream)?;
        path.push_str("/rebalance");
        if of.dry_run {
            path.push_str("?dry_run=true");
        }
        let body = json!({ "strategy": json::strategy(of.strategy)? });
        let dry_run = of.dry_run;
        let done = self.ask(&call, Method::POST, path, Some(body)).await?;
        let pending = done.body["status"].as_str() == Some("pending");
        let status = match (dry_run, pending) {
            (true, _) => proto::RebalanceStatus::RebalanceDryRun,
            (false, true) => proto::RebalanceStatus::RebalancePending,
            (false, false) => proto::RebalanceStatus::RebalanceNotNeeded,
        };
        Ok(Response::new(proto::RebalanceShardsResponse {
            moves: json::moves(&done.body),
            status: status.into(),
        }))
    }

    async fn transfer_shard_leadership(
        &self,
        call: Request<proto::TransferShardLeadershipRequest>,
    ) -> Result<Response<proto::TransferShardLeadershipResponse>, Status> {
        let of = call.get_ref();
        let parts: Vec<&str> = of.stream_id.splitn(3, '/').collect();
        let &[tenant, namespace, name] = &parts[..] else {
            return Err(bad(
                "bad_name",
                "stream_id is the tenant, the namespace and the stream, with / between them",
            ));
        };
        let path = format!(
            "{}/shards/{}/transfer-leadership",
            stream(tenant, namespace, name)?,
            of.shard_id
        );
        let body = json!({ "target_broker": of.target_broker });
        let done = self.ask(&call, Method::POST, path, Some(body)).await?;
        Ok(Response::new(proto::TransferShardLeadershipResponse {
            moves: json::moves(&done.body),
            version: done.version,
        }))
    }

    async fn register_broker(
        &self,
        call: Request<proto::RegisterBrokerRequest>,
    ) -> Result<Response<proto::RegisterBrokerResponse>, Status> {
        if matches!(&*call.get_ref().broker_id, "" | "auto") {
            return Err(bad(
                "bad_name",
                "a broker that is called auto has to fill in its name itself",
            ));
        }
        let body = json::register_body(call.get_ref());
        let path = "/v1/brokers".to_owned();
        let done = self.ask(&call, Method::POST, path, Some(body)).await?;
        Ok(Response::new(proto::RegisterBrokerResponse {
            broker: Some(json::broker(&done.body)),
            version: done.version,
        }))
    }

    async fn report_health(
        &self,
        call: Request<proto::ReportHealthRequest>,
    ) -> Result<Response<proto::ReportHealthResponse>, Status> {
        let of = call.get_ref();
        if of.broker_id.is_empty() {
            return Err(bad("bad_name", "the name of the broker is needed"));
        }
        let path = format!("/v1/brokers/{}/health", part(&of.broker_id));
        let body = json::health_body(of);
        let done = self.ask(&call, Method::POST, path, Some(body)).await?;
        Ok(Response::new(json::health(&done.body)))
    }

    async fn get_snapshot(
        &self,
        call: Request<proto::GetSnapshotRequest>,
    ) -> Result<Response<proto::GetSnapshotResponse>, Status> {
        self.let_in("GetSnapshot", &Called::of(&call)).await?;
        let wanted = call.get_ref().version;
        let plane = &self.api.plane;
        // What is looked at next holds everything that was answered before this was asked.
        let settings = Query::Get(ObjectKey::Settings);
        let read = plane.read(settings, Consistency::Linearizable, PLANE_WAIT);
        if let Answer::Refused(error) = read.await {
            return Err(Failure::from(error).into());
        }
        let looked = plane.look(|metadata| {
            let objects: Vec<Arc<Object>> = metadata.objects().cloned().collect();
            (metadata.cluster(), metadata.version(), objects)
        });
        let looked = looked.await.map_err(Failure::from)?;
        let (cluster, version, objects) =
            looked.ok_or_else(|| Failure::from(PlaneError::NotReady))?;
        if wanted != 0 && wanted != version.0 {
            let message = "that version is not there any more, or not yet";
            let refused = status(axum::http::StatusCode::GONE, "resnapshot_required", message);
            return Err(detailed(
                refused,
                &json!({ "newest_version": version.0 }),
                None,
            ));
        }
        // Where it holds up nobody: it is as long as everything there is.
        let made = tokio::task::spawn_blocking(move || {
            let mut metadata = proto::Metadata::default();
            objects
                .iter()
                .for_each(|object| form::add(&mut metadata, object));
            proto::GetSnapshotResponse {
                version: version.0,
                metadata: Some(metadata),
                cluster_id: cluster.to_vec(),
            }
        });
        let made = made
            .await
            .map_err(|_| Status::internal("no snapshot was made"))?;
        Ok(Response::new(made))
    }

    type WatchUpdatesStream = Updates;

    async fn watch_updates(
        &self,
        call: Request<proto::WatchUpdatesRequest>,
    ) -> Result<Response<Updates>, Status> {
        let called = Called::of(&call);
        self.let_in("WatchUpdates", &called).await?;
        let of = call.into_inner();
        let cluster = match &*of.cluster_id {
            [] => None,
            bytes => Some(
                bytes
                    .try_into()
                    .map_err(|_| bad("bad_spec", "cluster_id has 16 bytes, or is left out"))?,
            ),
        };
        let changes = self
            .api
            .plane
            .watch(cluster, MetaVersion(of.from_version))
            .await;
        let mut changes = changes.map_err(Failure::from)?;
        let (sender, updates) = mpsc::channel(UPDATES_AHEAD);
        let mut stopping = self.api.stopping.clone();
        let mut still = Still::new(&self.api, "WatchUpdates", called.headers, called.peer);
        tokio::spawn(async move {
            let end = async {
                loop {
                    let next = tokio::select! {
                        next = changes.next() => next,
                        failure = still.over() => return Err(failure),
                        _ = stopping.wait_for(|stop| *stop) => {
                            return Err(Failure::from(PlaneError::NotReady));
                        }
                        () = sender.closed() => return Ok(()),
                    };
                    let Some(change) = next.transpose()? else {
                        return Err(PlaneError::NotReady.into());
                    };
                    if sender.send(Ok(form::update(&change.change))).await.is_err() {
                        return Ok(());
                    }
                }
            };
            let ended: Result<(), Failure> = end.await;
            if let Err(failure) = ended {
                let _ = sender.send(Err(failure.into())).await;
            }
        });
        Ok(Response::new(Updates(updates)))
    }
}

/// What a watch gives. Dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Updates(mpsc::Receiver<Result<proto::MetadataUpdate, Status>>);

impl Stream for Updates {
    type Item = Result<proto::MetadataUpdate, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_name_gets_out_of_its_part_of_a_path() {
        assert_eq!(part("orders-1_a~"), "orders-1_a~");
        assert_eq!(part("eu/orders"), "eu%2Forders");
        assert_eq!(part("../x?y#z"), "%2E%2E%2Fx%3Fy%23z");
        assert_eq!(part("ä%"), "%C3%A4%25");
        assert!(stream("t", "n", "").is_err() && streams("", "n").is_err());
        assert!(streams("t", "").is_err());
    }
}
