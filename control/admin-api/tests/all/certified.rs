//! Whoever shows a certificate is its id, and may what that may: the same by HTTP and by
//! gRPC. A certificate that another authority signed is turned away, and one of a domain
//! that is nobody's is as none.

use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use pinion_admin_api::grpc::proto::admin_client::AdminClient;
use pinion_admin_api::grpc::proto::{CreateStreamRequest, ListStreamsRequest};
use pinion_admin_api::{ApiConfig, Cleartext};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::service_fn;

use crate::host::OPERATOR_WORKLOAD;
use crate::http::{Client, config, tell_with};

const ORDERS: &str = "spiffe://cluster.local/ns/shop/sa/orders";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A client's certificate with that id, and its key.
fn certify(authority: &Authority, id: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id).unwrap())];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (certificate.der().clone(), key)
}

/// The node's side, for clients of that authority, and whom clients trust.
fn server(clients: &Authority) -> (Arc<rustls::ServerConfig>, rustls::RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut signers = rustls::RootCertStore::empty();
    signers.add(clients.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(signers)).allow_unauthenticated();
    let server = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (Arc::new(server), roots)
}

/// Somebody with a certificate, or none.
#[derive(Clone)]
struct Somebody {
    ops: Client,
    tls: rustls::ClientConfig,
}

impl Somebody {
    fn new(ops: &Client, roots: &rustls::RootCertStore, shown: Option<(&Authority, &str)>) -> Self {
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots.clone());
        let tls = match shown {
            Some((authority, id)) => {
                let (certificate, key) = certify(authority, id);
                tls.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => tls.with_no_client_auth(),
        };
        let ops = ops.clone();
        Self { ops, tls }
    }

    async fn connect(&self, protocol: &[u8]) -> io::Result<TlsStream<TcpStream>> {
        let mut tls = self.tls.clone();
        tls.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.ops.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await
    }

    /// A request by HTTP/1.1: the status, and the body.
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let io = TokioIo::new(self.connect(b"http/1.1").await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let answered = sender.send_request(request).await.unwrap();
        let status = answered.status().as_u16();
        let bytes = answered.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn rpc(&self) -> AdminClient<Channel> {
        let somebody = self.clone();
        let connect = service_fn(move |_| {
            let somebody = somebody.clone();
            async move { somebody.connect(b"h2").await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        AdminClient::new(endpoint.connect_with_connector(connect).await.unwrap())
    }

    async fn create(&self, stream: &str) -> Result<u64, Status> {
        let message = CreateStreamRequest {
            tenant_id: "default".into(),
            namespace: "shop".into(),
            stream: stream.into(),
            spec: None,
        };
        let answer = self.rpc().await.create_stream(message).await?;
        Ok(answer.into_inner().version)
    }

    async fn list(&self) -> Result<usize, Status> {
        let message = ListStreamsRequest {
            tenant_id: "default".into(),
            namespace: "shop".into(),
            ..Default::default()
        };
        let answer = self.rpc().await.list_streams(message).await?;
        Ok(answer.into_inner().streams.len())
    }
}

#[test]
fn a_certificate_acts_as_its_id_by_http_and_by_grpc_and_a_foreign_one_does_not() {
    let (ours, others) = (authority("ours"), authority("others"));
    let (tls, roots) = server(&ours);
    let config = ApiConfig {
        tls: Some(tls),
        cleartext: Cleartext::Loopback,
        ..config()
    };
    tell_with(config, |client, _| async move {
        // Whose the workloads of a domain are is known once their tenant is heard of.
        let described = json!({ "description": "of cluster.local" });
        client.patch("/v1/tenants/default", described).await.is(200);
        let of = |shown| Somebody::new(&client, &roots, shown);
        let ops = of(Some((&ours, OPERATOR_WORKLOAD)));
        let orders = of(Some((&ours, ORDERS)));
        let shop = Some(json!({ "name": "shop" }));
        let (status, made) = ops
            .ask("POST", "/v1/tenants/default/namespaces", shop)
            .await;
        assert_eq!(status, 201, "{made}");
        ops.create("orders").await.unwrap();

        // Known, and without any right: not even told that there is something.
        assert_eq!(orders.list().await.unwrap_err().code(), Code::NotFound);
        let path = "/v1/tenants/default/namespaces/shop/streams";
        let (status, refused) = orders.ask("GET", path, None).await;
        assert_eq!((status, &refused["code"]), (404, &json!("not_found")));
        let policy = json!({ "policies": [{
            "subject": ORDERS, "action": "stream.manage", "object": "stream:default/shop/*",
        }] });
        let policies = "/v1/tenants/default/rbac/policies";
        let (status, made) = ops.ask("POST", policies, Some(policy)).await;
        assert_eq!(status, 201, "{made}");
        // What it was given it may do, by either way, and nothing else.
        orders.create("more").await.unwrap();
        assert_eq!(orders.list().await.unwrap(), 2);
        let (status, listed) = orders.ask("GET", path, None).await;
        assert_eq!(status, 200, "{listed}");
        assert_eq!(listed["streams"].as_array().map(Vec::len), Some(2));
        let (status, refused) = orders.ask("GET", "/v1/brokers", None).await;
        assert_eq!((status, &refused["code"]), (403, &json!("forbidden")));
        // The log says who it was.
        let (_, rows) = ops.ask("GET", "/v1/audit?action=declare", None).await;
        let who = |row: &Value| row["principal"].as_str().unwrap().to_owned();
        let who: Vec<String> = rows["rows"].as_array().unwrap().iter().map(who).collect();
        assert_eq!(
            who,
            [OPERATOR_WORKLOAD, ORDERS].map(|id| format!("default/{id}"))
        );

        // No certificate, and one of a domain that is nobody's: no credential.
        for nobody in [of(None), of(Some((&ours, "spiffe://elsewhere/ops")))] {
            assert_eq!(
                nobody.list().await.unwrap_err().code(),
                Code::Unauthenticated
            );
            let (status, refused) = nobody.ask("GET", path, None).await;
            assert_eq!((status, &refused["code"]), (401, &json!("unauthenticated")));
        }
        // The operator's id, signed by somebody else: hung up on before any request.
        let foreign = of(Some((&others, OPERATOR_WORKLOAD)));
        for protocol in [&b"h2"[..], b"http/1.1"] {
            // The client is done with its handshake before its certificate is looked at.
            let mut stream = foreign.connect(protocol).await.unwrap();
            let mut answer = Vec::new();
            let refused = stream.read_to_end(&mut answer).await.unwrap_err();
            assert!(answer.is_empty(), "{answer:?}");
            assert!(refused.to_string().contains("UnknownCA"), "{refused}");
        }
    });
}
