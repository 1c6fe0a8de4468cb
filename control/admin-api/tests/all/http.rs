//! A client of the admin API, on loopback, and a node's API for it to speak to.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use pinion_admin_api::{ApiConfig, Cleartext, PlaneHandle, Rate, serve};
use pinion_auth::access::AccessTable;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use crate::host::{Host, OPERATOR, with};

/// As many requests as come.
pub(crate) const UNLIMITED: Rate = Rate {
    per_second: 0,
    burst: 1,
};

/// Paths that answer 503 with what was asked for.
const PROBES: [&str; 5] = ["/healthz", "/livez", "/readyz", "/startupz", "/health"];

/// What a refusal has, and nothing else.
pub(crate) const PROBLEM_MEMBERS: [&str; 8] = [
    "code",
    "detail",
    "details",
    "message",
    "request_id",
    "status",
    "title",
    "type",
];

/// Somebody who asks.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// What it shows, if anything.
    pub(crate) bearer: Option<String>,
    /// Headers besides.
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// What it was answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    /// Null when there is none, or it is no JSON.
    pub(crate) body: Value,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            bearer: Some(OPERATOR.to_owned()),
            headers: Vec::new(),
        }
    }

    pub(crate) fn with(&self, name: &'static str, value: impl Into<String>) -> Self {
        let mut client = self.clone();
        client.headers.push((name, value.into()));
        client
    }

    pub(crate) fn showing(&self, bearer: impl Into<String>) -> Self {
        let mut client = self.clone();
        client.bearer = Some(bearer.into());
        client
    }

    pub(crate) fn showing_nothing(&self) -> Self {
        let mut client = self.clone();
        client.bearer = None;
        client
    }

    /// Asks, and gives the answer with what is still to come of it.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(path)
            .header("host", "localhost");
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if body.is_some() && !self.headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        sender
            .send_request(request.body(body).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn raw(&self, method: &str, path: &str, body: Option<String>) -> Answered {
        let response = self.send(method, path, body).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let answered = Answered {
            status: head.status.as_u16(),
            headers: head.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        };
        // Probes answer with what they were asked for, and the dashboard with a page.
        let is_page = path == "/" || path.starts_with("/ui");
        let is_probe = PROBES.contains(&path) && answered.body["code"].is_null();
        if answered.status >= 400 && !is_page && !is_probe {
            answered.is_problem();
        }
        answered
    }

    pub(crate) async fn get(&self, path: &str) -> Answered {
        self.raw("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answered {
        self.raw("POST", path, Some(body.to_string())).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answered {
        self.raw("PATCH", path, Some(body.to_string())).await
    }

    /// A POST without a body.
    pub(crate) async fn act(&self, path: &str) -> Answered {
        self.raw("POST", path, None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answered {
        self.raw("DELETE", path, None).await
    }
}

impl Answered {
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// A refusal with this word.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        assert_eq!(self.body["code"], code, "{self:#?}");
        self.is_problem();
        self
    }

    /// It has the form that all refusals have: problem details (RFC 9457), with what they
    /// are as fields besides.
    #[track_caller]
    pub(crate) fn is_problem(&self) {
        let kind = self.header("content-type");
        assert_eq!(kind, "application/problem+json", "{self:#?}");
        let body = &self.body;
        let members = body.as_object().unwrap().keys().map(|key| &**key);
        let members: BTreeSet<&str> = members.collect();
        assert_eq!(members, PROBLEM_MEMBERS.into(), "{self:#?}");
        let text = |name: &str| {
            let text = body[name].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{name}: {self:#?}");
            text
        };
        assert_eq!(body["status"], self.status, "{self:#?}");
        assert_eq!(
            text("type"),
            format!("/v1/docs#error-{}", text("code")),
            "{self:#?}"
        );
        assert_eq!(text("detail"), text("message"), "{self:#?}");
        assert_ne!(text("title"), "Refused", "{self:#?}");
        assert!(body["details"].is_object(), "{self:#?}");
        text("request_id");
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .unwrap_or_else(|| panic!("no {name}: {self:#?}"))
            .to_str()
            .unwrap()
    }

    pub(crate) fn etag(&self) -> String {
        self.header("etag").to_owned()
    }
}

/// How a test's API is set up: without limits of rate, and in cleartext.
pub(crate) fn config() -> ApiConfig {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    ApiConfig {
        node: "n1".into(),
        cleartext: Cleartext::Loopback,
        reads: UNLIMITED,
        writes: UNLIMITED,
        scrapes: UNLIMITED,
        strangers: UNLIMITED,
        ..ApiConfig::new(listener)
    }
}

/// Tells a story against a node's API.
pub(crate) fn tell<F: Future<Output = ()>>(story: impl FnOnce(Client, PlaneHandle) -> F) -> Host {
    tell_with(config(), story)
}

pub(crate) fn tell_with<F: Future<Output = ()>>(
    config: ApiConfig,
    story: impl FnOnce(Client, PlaneHandle) -> F,
) -> Host {
    let (plane, host) = Host::new();
    let access = host.access();
    tell_of(config, (plane, host), access, story)
}

/// The same, where the story says who may do what from its beginning on.
pub(crate) fn tell_with_access<F: Future<Output = ()>>(
    config: ApiConfig,
    story: impl FnOnce(Client, watch::Sender<Arc<AccessTable>>) -> F,
) -> Host {
    let (plane, host) = Host::new();
    let first = host.access().borrow().clone();
    let (tables, access) = watch::channel(first);
    tell_of(config, (plane, host), access, |client, _| {
        story(client, tables)
    })
}

/// The same of a plane that there is.
pub(crate) fn tell_of<F: Future<Output = ()>>(
    config: ApiConfig,
    (plane, host): (PlaneHandle, Host),
    access: watch::Receiver<Arc<AccessTable>>,
    story: impl FnOnce(Client, PlaneHandle) -> F,
) -> Host {
    with(host, || async move {
        let client = Client::new(config.listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(config, plane.clone(), access, async {
            let _ = stopped.await;
        }));
        tokio::time::timeout(Duration::from_secs(60), story(client, plane))
            .await
            .expect("a story ends");
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), served)
            .await
            .expect("it ends when it is told to")
            .unwrap()
            .unwrap();
    })
}
