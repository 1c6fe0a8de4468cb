//! Documents of identity providers, from real listeners on loopback that behave badly.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pinion_admin_api::idp::{Fetcher, RootsError, exchanges, roots};
use pinion_auth::address::Range;
use pinion_auth::exchange::Issuer;
use pinion_auth::jwks_cache::FetchFailure;
use pinion_auth::provider::Url;
use pinion_auth::{AuthError, upstream::Upstream};
use pinion_metadata::identity::{self, Algorithm, KeySource};
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::host::OPERATOR;
use crate::support::browser::Browser;
use crate::support::oidc::{Provider, Signer, now_s};
use crate::support::{run, town};

#[test]
fn how_exchanges_went_is_shown_beside_their_provider() {
    town::tell(|town| async move {
        town.found("acme").await.is(201);
        let mut browser = Browser::of(&town.ops, OPERATOR).await;
        let page = "/ui/tenants/acme/providers";
        let numbers = |given: u64, refused: u64| {
            format!("<td class=\"n\">{given}</td><td class=\"n\">{refused}</td>")
        };
        let shown = browser.get(page).await.is(200);
        shown.has(&format!("{}<td>none</td>", numbers(0, 0)));
        let good = town.upstream("ana", &[]);
        town.exchange("acme", &good, json!({})).await.is(200);
        town.exchange("acme", &good, json!({})).await.is(200);
        browser.get(page).await.has(&numbers(2, 0));
        // Whoever shows it is told one thing, those who look after the tenant what it is.
        let issuer = town.provider.issuer();
        let other = town.signer.token(&issuer, "other", "ana", &[]);
        town.exchange("acme", &other, json!({})).await.is(401);
        let why = AuthError::WrongAudience.to_string();
        browser.get(page).await.has(&numbers(2, 1)).has(&why);
        // Nobody who comes without rights has a token, and the provider is not to blame.
        let nobody = town.upstream("nobody", &[]);
        town.exchange("acme", &nobody, json!({})).await.is(403);
        browser.get(page).await.has(&numbers(2, 2));
        // What names none of the tenant's providers counts for none of them.
        let elsewhere = town.signer.token("https://x.example", "pinion", "ana", &[]);
        town.exchange("acme", &elsewhere, json!({})).await.is(401);
        town.exchange("acme", "garbage", json!({})).await.is(401);
        browser.get(page).await.has(&numbers(2, 2));
    });
}

#[test]
fn a_token_that_is_given_has_a_row_without_it_and_what_follows_is_counted() {
    town::tell(|town| async move {
        town.found("acme").await.is(201);
        let good = town.upstream("ana", &[]);
        let given = town.exchange("acme", &good, json!({})).await.is(200);
        let of_gifts = "/v1/audit?action=token.exchange";
        let rows = town.ops.get(of_gifts).await.is(200).body["rows"].clone();
        let row = &rows[0];
        assert_eq!(row["principal"], "acme/p:ana");
        assert_eq!(row["tenant"], "acme");
        assert_eq!(row["result"], "done");
        let issuer = format!("issuer:{}", town.provider.issuer());
        assert_eq!(row["target"], issuer.as_str());
        let remote = row["remote"].as_str().unwrap();
        assert!(remote.starts_with("127.0.0.1:"), "{remote}");
        let ours = given.body["access_token"].as_str().unwrap();
        for token in [ours, &good] {
            for part in token.split('.') {
                assert!(!rows.to_string().contains(part), "{rows}");
            }
        }
        for _ in 0..20 {
            town.exchange("acme", &good, json!({})).await.is(200);
        }
        // Nobody who gets none has such a row.
        let nobody = town.upstream("nobody", &[]);
        town.exchange("acme", &nobody, json!({})).await.is(403);
        let rows = town.ops.get(of_gifts).await.is(200).body["rows"].clone();
        assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    });
}

/// What a document may have in these tests.
const LIMIT: usize = 1_000;
/// Long enough for whatever answers at all.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn loopback() -> Vec<Range> {
    ["127.0.0.0/8", "::1/128"]
        .map(|text| Range::parse(text).unwrap())
        .to_vec()
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn by(patience: Duration) -> Instant {
    Instant::now() + patience
}

/// A listener of plain HTTP that gives each connection the same bytes, one piece after the
/// other, with a pause between them.
struct Listener {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Listener {
    async fn new(pieces: Vec<Vec<u8>>, pause: Duration, close: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let pieces = pieces.clone();
                tokio::spawn(async move {
                    let mut head = vec![0; 4096];
                    let _ = socket.read(&mut head).await;
                    for piece in pieces {
                        if socket.write_all(&piece).await.is_err() {
                            return;
                        }
                        tokio::time::sleep(pause).await;
                    }
                    if !close {
                        // Until the other side has had enough.
                        let _ = socket.read(&mut head).await;
                    }
                });
            }
        });
        Self { port, asked }
    }

    async fn saying(answer: &str) -> Self {
        Self::new(vec![answer.into()], Duration::ZERO, true).await
    }

    fn url(&self) -> Url {
        url(&format!("http://127.0.0.1:{}/keys?a=b", self.port))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn open() -> Fetcher {
    Fetcher::new(RootCertStore::empty(), loopback())
}

async fn get(listener: &Listener) -> Result<Vec<u8>, FetchFailure> {
    open().fetch(&listener.url(), LIMIT, by(PATIENCE)).await
}

#[test]
fn a_document_is_fetched_whole() {
    run(async {
        let length = Listener::saying("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{a:b}").await;
        assert_eq!(get(&length).await, Ok(b"{a:b}".to_vec()));
        let chunks = Listener::saying(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        )
        .await;
        assert_eq!(get(&chunks).await, Ok(b"abc".to_vec()));
        let until_closed = Listener::saying("HTTP/1.0 200 OK\r\n\r\nabcd").await;
        assert_eq!(get(&until_closed).await, Ok(b"abcd".to_vec()));
        let by_name = url(&format!("http://localhost:{}/keys", until_closed.port));
        let fetched = open().fetch(&by_name, LIMIT, by(PATIENCE)).await;
        assert_eq!(fetched, Ok(b"abcd".to_vec()));
    });
}

#[test]
fn an_address_inside_is_not_asked() {
    run(async {
        let listener = Listener::saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let closed = Fetcher::new(RootCertStore::empty(), Vec::new());
        let here = format!("http://127.0.0.1:{}/", listener.port);
        let by_name = format!("http://localhost:{}/", listener.port);
        for place in [
            &*here,
            &*by_name,
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:127.0.0.1]/",
            "https://10.0.0.1/",
        ] {
            let fetched = closed.fetch(&url(place), LIMIT, by(PATIENCE)).await;
            let refused = matches!(fetched, Err(FetchFailure::Address(_)));
            assert!(refused, "{place}: {fetched:?}");
        }
        assert_eq!(listener.asked(), 0);
    });
}

#[test]
fn a_redirect_leads_nowhere() {
    run(async {
        let other = Listener::saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        for status in [301, 302, 303, 307, 308] {
            let answer = format!(
                "HTTP/1.1 {status} Elsewhere\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
                other.url()
            );
            let listener = Listener::saying(&answer).await;
            assert_eq!(get(&listener).await, Err(FetchFailure::Redirect));
        }
        assert_eq!(other.asked(), 0);
    });
}

#[test]
fn what_is_no_document_is_named() {
    run(async {
        let many: String = (0..100).map(|at| format!("x-{at}: y\r\n")).collect();
        let long = "y".repeat(20_000);
        for (answer, failure) in [
            ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), FetchFailure::Http),
            ("\0\x16\x03\x01".to_owned(), FetchFailure::Http),
            (String::new(), FetchFailure::Http),
            ("HTTP/1.1 200 OK\r\nContent-".to_owned(), FetchFailure::Http),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".to_owned(),
                FetchFailure::Http,
            ),
            (format!("HTTP/1.1 200 OK\r\n{many}\r\n"), FetchFailure::Http),
            (
                format!("HTTP/1.1 200 OK\r\nx: {long}\r\n\r\n"),
                FetchFailure::Http,
            ),
            (
                "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
                FetchFailure::Status { status: 404 },
            ),
            (
                "HTTP/1.1 204 Nothing\r\n\r\n".to_owned(),
                FetchFailure::Status { status: 204 },
            ),
        ] {
            let listener = Listener::saying(&answer).await;
            let fetched = get(&listener).await;
            assert_eq!(fetched, Err(failure), "{}", &answer[..answer.len().min(60)]);
        }
        // Nobody listens at a port that was just given back.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = format!("http://{}/", gone.local_addr().unwrap());
        drop(gone);
        let fetched = open().fetch(&url(&place), LIMIT, by(PATIENCE)).await;
        assert_eq!(fetched, Err(FetchFailure::Connect));
    });
}

#[test]
fn a_document_that_is_too_long_is_not_read_to_its_end() {
    run(async {
        let too_large = Err(FetchFailure::TooLarge { limit: LIMIT });
        let announced = "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n";
        let announced = vec![announced.into()];
        let listener = Listener::new(announced, Duration::ZERO, false).await;
        assert_eq!(get(&listener).await, too_large);

        let mut endless = vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()];
        endless.extend((0..1_000).map(|_| [&b"ff\r\n"[..], &[b'x'; 255], b"\r\n"].concat()));
        let listener = Listener::new(endless, Duration::ZERO, false).await;
        assert_eq!(get(&listener).await, too_large);
        // To the byte.
        let fits = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}",
            "x".repeat(1_000)
        );
        let listener = Listener::saying(&fits).await;
        assert_eq!(get(&listener).await.map(|body| body.len()), Ok(LIMIT));
    });
}

#[test]
fn nobody_is_waited_for_beyond_the_deadline() {
    run(async {
        let short = Duration::from_millis(200);
        let hangs = Listener::new(Vec::new(), Duration::ZERO, false).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n".to_vec();
        let mut drips = vec![head];
        drips.extend((0..900).map(|_| vec![b'x']));
        let drips = Listener::new(drips, Duration::from_millis(10), false).await;
        for listener in [hangs, drips] {
            let fetched = open().fetch(&listener.url(), LIMIT, by(short)).await;
            assert_eq!(fetched, Err(FetchFailure::Timeout));
            assert_eq!(listener.asked(), 1);
        }
    });
}

/// An authority, and what it gave the server.
struct Authority {
    roots: RootCertStore,
    pem: String,
    server: Arc<rustls::ServerConfig>,
}

fn authority(server_name: &str) -> Authority {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let ca_cert = ca.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::from_params(&ca, &key);
    let node_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let node = rcgen::CertificateParams::new(vec![server_name.to_owned()]).unwrap();
    let node = node.signed_by(&node_key, &issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca_cert.der().clone()).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(node_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![node.der().clone()], private)
        .unwrap();
    Authority {
        roots,
        pem: ca_cert.pem(),
        server: Arc::new(server),
    }
}

/// A listener of HTTPS that says one thing.
async fn secure(authority: &Authority) -> u16 {
    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S) {
        let mut head = vec![0; 4096];
        let _ = socket.read(&mut head).await;
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let _ = socket.write_all(whole).await;
        let _ = socket.shutdown().await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::clone(&authority.server));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(socket) = acceptor.accept(socket).await {
                answer(socket).await;
            }
        }
    });
    port
}

#[test]
fn who_is_not_vouched_for_is_not_believed() {
    run(async {
        let ours = authority("localhost");
        let others = authority("localhost");
        let other_name = authority("idp.example.com");
        let fetch = async |trusted: &Authority, port: u16, secure: bool| {
            let fetcher = Fetcher::new(trusted.roots.clone(), loopback());
            let scheme = if secure { "https" } else { "http" };
            let place = url(&format!("{scheme}://localhost:{port}/"));
            fetcher.fetch(&place, LIMIT, by(PATIENCE)).await
        };
        let port = secure(&ours).await;
        assert_eq!(fetch(&ours, port, true).await, Ok(b"ok".to_vec()));
        assert_eq!(fetch(&others, port, true).await, Err(FetchFailure::Tls));
        // Neither side speaks what the other does.
        assert_eq!(fetch(&ours, port, false).await, Err(FetchFailure::Http));
        let plain = Listener::saying("HTTP/1.1 200 OK\r\n\r\n").await;
        let fetched = fetch(&ours, plain.port, true).await;
        assert_eq!(fetched, Err(FetchFailure::Tls));
        let port = secure(&other_name).await;
        let fetched = fetch(&other_name, port, true).await;
        assert_eq!(fetched, Err(FetchFailure::Tls));
    });
}

#[test]
fn the_operators_file_of_authorities_is_taken_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write(&authority("a").pem);
    assert_eq!(roots(Some(&path)).unwrap().len(), 1);
    let missing = folder.path().join("none.pem");
    assert!(matches!(
        roots(Some(&missing)),
        Err(RootsError::File { .. })
    ));
    write("");
    assert!(matches!(roots(Some(&path)), Err(RootsError::Empty { .. })));
    let half = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    write(&(authority("a").pem + half));
    assert!(matches!(roots(Some(&path)), Err(RootsError::Empty { .. })));
    write("-----BEGIN CERTIFICATE-----\n!\n");
    assert!(matches!(roots(Some(&path)), Err(RootsError::Pem { .. })));
}

fn issuer_of(provider: &Provider) -> Arc<Issuer> {
    let rules = identity::Issuer {
        audiences: Box::new(["pinion".into()]),
        keys: KeySource::Discovery(
            format!("{}/.well-known/openid-configuration", provider.issuer()).into(),
        ),
        algorithms: Box::new([Algorithm::EdDsa]),
        subject_claim: "sub".into(),
        groups_claim: Some("groups".into()),
        clock_skew_s: 5,
    };
    Arc::new(Issuer::of(&provider.issuer(), &rules).unwrap())
}

#[test]
fn a_token_of_a_provider_is_believed_by_the_keys_that_it_publishes() {
    run(async {
        let signer = Signer::new(1);
        let provider = Provider::start(&signer).await;
        let (exchanges, driver) = exchanges(open());
        let driver = tokio::spawn(driver.run());
        let issuers = [issuer_of(&provider)];
        let token = signer.token(&provider.issuer(), "pinion", "ana", &["dev"]);
        for _ in 0..3 {
            let upstream = exchanges.upstream(token.as_bytes(), &issuers).await;
            let Ok(Upstream {
                subject, groups, ..
            }) = upstream
            else {
                panic!("{upstream:?}");
            };
            assert_eq!((&*subject, groups.len()), ("ana", 1));
        }
        // The discovery document and the keys, once each.
        assert_eq!(provider.asked(), 2);

        let forged = Signer::new(2).named(&signer);
        let forged = forged.token(&provider.issuer(), "pinion", "ana", &[]);
        let refused = exchanges.upstream(forged.as_bytes(), &issuers).await;
        assert_eq!(refused, Err(AuthError::BadSignature));
        let elsewhere = signer.token(&provider.issuer(), "other", "ana", &[]);
        let refused = exchanges.upstream(elsewhere.as_bytes(), &issuers).await;
        assert_eq!(refused, Err(AuthError::WrongAudience));
        let late = signer.token_until(&provider.issuer(), now_s() - 60);
        let refused = exchanges.upstream(late.as_bytes(), &issuers).await;
        assert!(matches!(refused, Err(AuthError::Expired { .. })));
        let stranger = signer.token("https://elsewhere.example", "pinion", "ana", &[]);
        let refused = exchanges.upstream(stranger.as_bytes(), &issuers).await;
        assert_eq!(refused, Err(AuthError::WrongIssuer));
        assert_eq!(provider.asked(), 2);

        drop(exchanges);
        driver.await.unwrap();
    });
}

#[test]
fn a_provider_that_gives_no_keys_is_named_as_the_reason() {
    run(async {
        let signer = Signer::new(1);
        let provider = Provider::start(&signer).await;
        let token = signer.token(&provider.issuer(), "pinion", "ana", &[]);
        let issuers = [issuer_of(&provider)];
        let why = async |fetcher: Fetcher| {
            let (exchanges, driver) = exchanges(fetcher);
            let driver = tokio::spawn(driver.run());
            let refused = exchanges.upstream(token.as_bytes(), &issuers).await;
            drop(exchanges);
            driver.await.unwrap();
            match refused {
                Err(AuthError::IssuerUnavailable { why, .. }) => why,
                other => panic!("{other:?}"),
            }
        };
        let closed = Fetcher::new(RootCertStore::empty(), Vec::new());
        assert!(matches!(why(closed).await, FetchFailure::Address(_)));
        assert_eq!(provider.asked(), 0);
        provider.fail(503);
        assert_eq!(why(open()).await, FetchFailure::Status { status: 503 });
        provider.fail(302);
        assert_eq!(why(open()).await, FetchFailure::Redirect);
    });
}
