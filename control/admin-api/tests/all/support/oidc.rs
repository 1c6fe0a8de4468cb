//! An identity provider on loopback: a discovery document, a key set, tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// What signs a provider's tokens.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    kid: String,
}

impl Signer {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            pair: Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap(),
            kid: format!("key-{number}"),
        }
    }

    /// Under another's name.
    pub(crate) fn named(mut self, other: &Self) -> Self {
        self.kid.clone_from(&other.kid);
        self
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": self.kid, "x": x})
    }

    /// Any claims under any header.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "JWT", "kid": self.kid})
    }

    pub(crate) fn token(&self, issuer: &str, audience: &str, who: &str, groups: &[&str]) -> String {
        let (from, until) = (now_s(), now_s() + 300);
        let claims = json!({"iss": issuer, "aud": audience, "sub": who, "groups": groups,
            "iat": from, "exp": until});
        self.sign(&self.header(), &claims)
    }

    /// Of somebody, with an end.
    pub(crate) fn token_until(&self, issuer: &str, until: u64) -> String {
        let claims = json!({"iss": issuer, "aud": "pinion", "sub": "ana", "exp": until});
        self.sign(&self.header(), &claims)
    }
}

/// A provider that answers until the test ends.
pub(crate) struct Provider {
    port: u16,
    asked: Arc<AtomicUsize>,
    /// 0, or the status that everything is answered with.
    failing: Arc<AtomicU16>,
}

impl Provider {
    pub(crate) async fn start(signer: &Signer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Self {
            port: listener.local_addr().unwrap().port(),
            asked: Arc::default(),
            failing: Arc::default(),
        };
        let (asked, failing) = (Arc::clone(&provider.asked), Arc::clone(&provider.failing));
        let (keys, issuer) = (json!({"keys": [signer.jwk()]}), provider.issuer());
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if socket.read_exact(&mut byte).await.is_err() {
                        break;
                    }
                    head.push(byte[0]);
                }
                asked.fetch_add(1, Ordering::Relaxed);
                let status = match failing.load(Ordering::Relaxed) {
                    0 => 200,
                    status => status,
                };
                let body = if head.starts_with(b"GET /.well-known/openid-configuration ") {
                    json!({"issuer": issuer, "jwks_uri": format!("{issuer}/jwks")})
                } else {
                    keys.clone()
                };
                let body = body.to_string();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        provider
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Requests that came.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Answers everything with this status from now on.
    pub(crate) fn fail(&self, status: u16) {
        self.failing.store(status, Ordering::Relaxed);
    }
}
