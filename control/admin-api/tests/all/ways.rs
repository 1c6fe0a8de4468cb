//! Ways in: TLS, HTTP/2, a node that is not ready, an API that ends.

use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pinion_admin_api::{
    ApiConfig, Cleartext, PlaneHandle, Route, front, node_front, routes, serve,
};
use pinion_auth::access::AccessTable;
use pinion_types::{CoreId, ResourceId};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cores::{Said, play, stream};
use crate::host::OPERATOR;
use crate::http::{Client, config, tell, tell_with};
use crate::roles::{ROLES, furnish, key};
use crate::support::browser::Browser;

/// A certificate of its own, and a client that believes it.
fn certificate() -> (Arc<rustls::ServerConfig>, rustls::ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), client)
}

async fn connect(
    client: &Client,
    config: &rustls::ClientConfig,
    protocol: &[u8],
) -> TlsStream<TcpStream> {
    let mut config = config.clone();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(client.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

fn request(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://localhost{path}"))
        .header("host", "localhost")
        .header("authorization", format!("Bearer {OPERATOR}"))
        .body(Full::default())
        .unwrap()
}

#[test]
fn tls_lets_in_both_versions_of_http_and_nothing_else() {
    let (server, trusting) = certificate();
    let config = ApiConfig {
        tls: Some(server),
        cleartext: Cleartext::Never,
        ..config()
    };
    tell_with(config, |ops, _| async move {
        let io = TokioIo::new(connect(&ops, &trusting, b"http/1.1").await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        // One connection, several requests.
        for _ in 0..3 {
            let answered = sender.send_request(request("/v1/tenants")).await.unwrap();
            assert_eq!(answered.status(), 200);
            answered.into_body().collect().await.unwrap();
            sender.ready().await.unwrap();
        }
        let io = TokioIo::new(connect(&ops, &trusting, b"h2").await);
        let executor = TokioExecutor::new();
        let (sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .unwrap();
        tokio::spawn(connection);
        let asked = (0..20).map(|_| sender.clone().send_request(request("/v1/system/info")));
        for answered in asked.collect::<Vec<_>>() {
            assert_eq!(answered.await.unwrap().status(), 200);
        }
        // Within TLS what is no HTTP is hung up on, too.
        let mut garbage = connect(&ops, &trusting, b"http/1.1").await;
        garbage.write_all(&[0x16, 1, 2, 3]).await.unwrap();
        let mut answer = Vec::new();
        let _ = garbage.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
    });
}

#[test]
fn over_tls_a_session_is_for_this_host_alone() {
    let (server, trusting) = certificate();
    let config = ApiConfig {
        tls: Some(server),
        cleartext: Cleartext::Never,
        ..config()
    };
    tell_with(config, |ops, _| async move {
        let io = TokioIo::new(connect(&ops, &trusting, b"h2").await);
        let executor = TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .unwrap();
        tokio::spawn(connection);
        let url = "https://localhost/ui/login";
        let form = Request::get(url).body(Full::<Bytes>::default());
        let form = form.unwrap();
        let form = sender.send_request(form).await.unwrap();
        let cookie = form.headers()["set-cookie"].to_str().unwrap().to_owned();
        let (cookie, attributes) = cookie.split_once(';').unwrap();
        assert!(cookie.starts_with("__Host-pinion-login="), "{cookie}");
        assert!(attributes.contains("; Secure"), "{attributes}");
        let page = form.into_body().collect().await.unwrap().to_bytes();
        let page = String::from_utf8(page.to_vec()).unwrap();
        let (_, token) = page.split_once("name=\"csrf\" value=\"").unwrap();
        let (token, _) = token.split_once('"').unwrap();
        let token_of = OPERATOR.replace(' ', "+").replace('\'', "%27");
        let send = |origin: &'static str| {
            let body = format!("csrf={token}&token={token_of}");
            Request::post(url)
                .header("cookie", cookie)
                .header("origin", origin)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Full::from(body))
                .unwrap()
        };
        // The same host without TLS is somebody else.
        let cleartext = sender.send_request(send("http://localhost")).await.unwrap();
        assert_eq!(cleartext.status(), 403);
        let done = sender
            .send_request(send("https://localhost"))
            .await
            .unwrap();
        assert_eq!(done.status(), 303);
        let cookies = done.headers().get_all("set-cookie").iter();
        let cookies: Vec<&str> = cookies.map(|line| line.to_str().unwrap()).collect();
        let session = cookies
            .iter()
            .find(|line| line.starts_with("__Host-pinion="));
        let end = "; Path=/; HttpOnly; SameSite=Strict; Secure";
        assert!(session.unwrap().ends_with(end), "{cookies:?}");
    });
}

#[test]
fn a_node_without_a_plane_says_on_every_route_that_it_is_not_ready() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = config();
        let client = Client::new(config.listener.local_addr().unwrap());
        let table = AccessTable::new([crate::host::entry(OPERATOR, "ops")]);
        let digest = pinion_auth::access::TokenDigest::of(OPERATOR.as_bytes());
        let access = watch::channel(Arc::new(table.with_operators([digest]))).1;
        let (plane, owner): (PlaneHandle, _) = front();
        drop(owner);
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(config, plane, access, async {
            let _ = stopped.await;
        }));
        client.get("/healthz").await.is(200);
        let ready = client.get("/readyz").await.is(503);
        assert_eq!(ready.body["status"], "not_ready");
        assert_eq!(ready.body["checks"]["control_plane"], "not_ready");
        let mut asked = 0;
        let asks =
            |route: &&Route| route.path.starts_with("/v1/") || route.path.starts_with("/api/");
        for route in routes().filter(asks) {
            let path = route.path.replace(['{', '}'], "");
            let path = path.replace("/n/", "/0/").replace("/s/", "/0.1/");
            let body = route.body.map(|_| "{}".to_owned());
            let answered = client.raw(route.method.text(), &path, body).await;
            assert_ne!(answered.status, 500, "{} {answered:?}", route.path);
            asked += usize::from(answered.status == 503);
        }
        assert!(asked > 60, "{asked} said so");
        // People are let in to see what is wrong.
        let mut browser = Browser::of(&client, OPERATOR).await;
        let first = browser.get("/").await.is(200);
        first.has("The control plane does not answer");
        browser.get("/ui/raft").await.is(503);
        browser.confirm("drain_broker=one").await.is(503);
        // A refusal that cannot be recorded is answered as that.
        Browser::new(&client).log_in("a guess").await.is(503);
        let guess = client.showing("a guess").get("/v1/tenants").await;
        guess.refused(503, "not_ready");
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    });
}

#[test]
fn what_is_read_and_what_has_data_is_not_deleted_unless_forced() {
    let (cores, front) = node_front(2);
    let config = ApiConfig { cores, ..config() };
    tell_with(config, |ops, _| async move {
        let said = Said::default();
        tokio::spawn(play(front, said.clone()));
        furnish(&ops).await;
        let orders = "/v1/tenants/acme/namespaces/pay/streams/orders";
        let is = ops.get(orders).await.is(200);
        assert!(is.body["metrics"].is_null());
        let id = ResourceId(is.body["id"].as_u64().unwrap());
        let has = |subscribers, durable_bytes| {
            let of = |core| stream(id, core, subscribers, durable_bytes);
            said.set(vec![of(0), of(1)]);
        };
        has(2, 0);
        // What a deletion goes by is never from before, and is what a page shows then.
        let refused = ops.delete(orders).await.refused(412, "has_subscribers");
        assert_eq!(refused.body["details"]["subscribers"], 4);
        let is = ops.get(orders).await.is(200);
        assert_eq!(is.body["metrics"]["subscribers"], 4);
        assert_eq!(is.body["metrics"]["records"], 6);
        has(0, 77);
        let refused = ops.delete(orders).await.refused(412, "has_data");
        assert_eq!(refused.body["details"]["durable_bytes"], 154);
        // Who is not heard may have anything.
        said.lose(CoreId(1));
        has(0, 0);
        ops.delete(orders).await.refused(503, "core_silent");
        ops.delete(&format!("{orders}?force")).await.is(202);
    });
}

#[test]
fn what_another_broker_serves_is_deleted_there_or_with_force() {
    let (cores, front) = node_front(2);
    let config = ApiConfig { cores, ..config() };
    tell_with(config, |ops, _| async move {
        tokio::spawn(play(front, Said::default()));
        furnish(&ops).await;
        // So many shards are not all of them put on the larger of the two.
        for (plural, name, shards, placement, brokers) in [
            (
                "streams",
                "there",
                2,
                json!({ "pinned": "one" }),
                json!(null),
            ),
            (
                "queues",
                "there",
                2,
                json!({ "pinned": "one" }),
                json!(null),
            ),
            (
                "caches",
                "there",
                2,
                json!({ "pinned": "one" }),
                json!(null),
            ),
            ("streams", "both", 256, json!({}), json!(["n1", "one"])),
        ] {
            let all = format!("/v1/tenants/acme/namespaces/pay/{plural}");
            let body =
                json!({ "name": name, "spec": { "shards": shards }, "placement": placement });
            ops.post(&all, body).await.is(201);
            let path = format!("{all}/{name}");
            // The cores of this node say that there is nothing, and do not know.
            let refused = ops.delete(&path).await.refused(421, "elsewhere");
            assert_eq!(refused.body["details"]["broker"], "one", "{plural}");
            assert_eq!(refused.body["details"]["brokers"], brokers, "{plural}");
            ops.get(&path).await.is(200);
            ops.delete(&format!("{path}?force")).await.is(202);
        }
        let here = "/v1/tenants/acme/namespaces/pay/streams/orders";
        ops.delete(here).await.is(202);
    });
}

#[test]
fn quotas_are_for_operators_and_reads_may_be_stale_when_they_say_so() {
    tell(|ops, plane| async move {
        furnish(&ops).await;
        let at = ROLES.iter().position(|role| role.name == "tenant").unwrap();
        let manager = ops.showing(key(&plane, 9, &ROLES[at]).await);
        let acme = "/v1/tenants/acme";
        let text = json!({ "description": "ours" });
        manager.patch(acme, text).await.is(200);
        let quotas = json!({ "quotas": { "max_streams": 0 } });
        manager
            .patch(acme, quotas.clone())
            .await
            .refused(403, "forbidden");
        let applied = |spec| {
            json!({ "objects": [{
                "apiVersion": "pinion.io/v1", "kind": "Tenant",
                "metadata": { "name": "acme" }, "spec": spec,
            }] })
        };
        let refused = manager.post("/v1/apply", applied(quotas.clone())).await;
        refused.refused(403, "forbidden");
        let text = applied(json!({ "description": "all ours" }));
        manager.post("/v1/apply", text).await.is(200);
        ops.patch(acme, quotas).await.is(200);
        let stale = ops.get("/v1/tenants/acme?consistency=stale").await.is(200);
        let version = stale.header("x-pinion-version").to_owned();
        assert_eq!(stale.header("x-pinion-stale"), format!("version={version}"));
        let fresh = ops
            .get("/v1/tenants/acme?consistency=linearizable")
            .await
            .is(200);
        assert!(fresh.headers.get("x-pinion-stale").is_none());
    });
}
