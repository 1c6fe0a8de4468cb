//! An identity provider on loopback: a discovery document, a key set, tokens, logins.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::browser::encoded;

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// What signs a provider's tokens.
#[derive(Clone)]
pub(crate) struct Signer {
    pair: Arc<Ed25519KeyPair>,
    kid: String,
}

impl Signer {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            pair: Arc::new(Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap()),
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

/// What the provider does otherwise than it should when it is shown a code.
pub(crate) enum Twist {
    /// A claim of the ID token is this; null is none.
    Claim(&'static str, Value),
    /// Both of these.
    Claims([(&'static str, Value); 2]),
    /// Another key signs.
    Signer(Signer),
    /// These bytes are all that it answers.
    Says(String),
    /// It answers nothing.
    Hangs,
}

/// Somebody logged in, and their browser was sent back with a code.
struct Login {
    client: String,
    redirect: String,
    nonce: String,
    challenge: String,
}

#[derive(Default)]
struct State {
    asked: AtomicUsize,
    /// 0, or the status that everything is answered with.
    failing: AtomicU16,
    codes: AtomicUsize,
    logins: Mutex<BTreeMap<String, Login>>,
    twist: Mutex<Option<Twist>>,
    /// What the discovery document says besides.
    says: Mutex<BTreeMap<&'static str, Value>>,
    /// What came to the token endpoint last, with its head.
    shown: Mutex<String>,
}

/// A provider that answers until the test ends.
pub(crate) struct Provider {
    port: u16,
    state: Arc<State>,
}

impl Provider {
    pub(crate) async fn start(signer: &Signer) -> Self {
        Self::on(std::net::TcpListener::bind("127.0.0.1:0").unwrap(), signer)
    }

    /// On a listener whose address is known already.
    pub(crate) fn on(listener: std::net::TcpListener, signer: &Signer) -> Self {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let provider = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::default(),
        };
        let (state, signer) = (Arc::clone(&provider.state), signer.clone());
        let issuer = provider.issuer();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (state, signer) = (Arc::clone(&state), signer.clone());
                let issuer = issuer.clone();
                tokio::spawn(async move { serve(socket, &state, &signer, &issuer).await });
            }
        });
        provider
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Requests that came.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }

    /// Answers everything with this status from now on.
    pub(crate) fn fail(&self, status: u16) {
        self.state.failing.store(status, Ordering::Relaxed);
    }

    /// Says this in its discovery document from now on.
    pub(crate) fn say(&self, name: &'static str, value: Value) {
        self.state.says.lock().unwrap().insert(name, value);
    }

    /// Does this for the next code.
    pub(crate) fn twist(&self, twist: Twist) {
        *self.state.twist.lock().unwrap() = Some(twist);
    }

    /// What came to the token endpoint last.
    pub(crate) fn shown(&self) -> String {
        self.state.shown.lock().unwrap().clone()
    }

    /// What `ana` does in a browser that was sent to this address: she logs in. Where the
    /// browser is sent back to, and the query that it takes along.
    pub(crate) fn log_in(&self, sent: &str) -> (String, String) {
        let (place, query) = sent.split_once('?').unwrap();
        assert_eq!(place, format!("{}/login", self.issuer()));
        let said = pairs(query);
        assert_eq!(said["response_type"], "code");
        assert_eq!(said["code_challenge_method"], "S256");
        assert!(said["scope"].split(' ').any(|scope| scope == "openid"));
        let code = self.state.codes.fetch_add(1, Ordering::Relaxed);
        let code = format!("code/{code}");
        let login = Login {
            client: said["client_id"].clone(),
            redirect: said["redirect_uri"].clone(),
            nonce: said["nonce"].clone(),
            challenge: said["code_challenge"].clone(),
        };
        self.state
            .logins
            .lock()
            .unwrap()
            .insert(code.clone(), login);
        let query = format!("code={}&state={}", encoded(&code), encoded(&said["state"]));
        (said["redirect_uri"].clone(), query)
    }
}

/// The fields of a form or a query.
pub(crate) fn pairs(text: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    let digits = std::str::from_utf8(&digits).unwrap().to_owned();
                    u8::from_str_radix(&digits, 16).unwrap()
                }
                byte => byte,
            });
        }
        String::from_utf8(bytes).unwrap()
    };
    let pairs = text.split('&').map(|pair| pair.split_once('=').unwrap());
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

async fn serve(mut socket: TcpStream, state: &State, signer: &Signer, issuer: &str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if socket.read_exact(&mut byte).await.is_err() {
            break;
        }
        head.push(byte[0]);
    }
    state.asked.fetch_add(1, Ordering::Relaxed);
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<usize>().unwrap())
    });
    let mut form = vec![0; length.unwrap_or_default()];
    let _ = socket.read_exact(&mut form).await;
    let mut status = match state.failing.load(Ordering::Relaxed) {
        0 => 200,
        status => status,
    };
    let body = if head.starts_with("GET /.well-known/openid-configuration ") {
        let mut document = json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/jwks"),
            "authorization_endpoint": format!("{issuer}/login"),
            "token_endpoint": format!("{issuer}/token"),
        });
        for (name, value) in &*state.says.lock().unwrap() {
            document[*name] = value.clone();
        }
        document
    } else if head.starts_with("POST /token ") {
        let form = String::from_utf8(form).unwrap();
        *state.shown.lock().unwrap() = format!("{head}{form}");
        let twist = state.twist.lock().unwrap().take();
        match twist {
            Some(Twist::Hangs) => {
                // Until the other side has had enough.
                let _ = socket.read(&mut [0]).await;
                return;
            }
            Some(Twist::Says(text)) => {
                let _ = socket.write_all(text.as_bytes()).await;
                return;
            }
            twist => match redeem(state, signer, issuer, &pairs(&form), twist) {
                Some(answer) => answer,
                None => {
                    status = 400;
                    json!({"error": "invalid_grant"})
                }
            },
        }
    } else {
        json!({"keys": [signer.jwk()]})
    };
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = socket.write_all(answer.as_bytes()).await;
}

/// Tokens for a code that is shown once, by whoever began the login (RFC 7636 §4.6).
fn redeem(
    state: &State,
    signer: &Signer,
    issuer: &str,
    form: &BTreeMap<String, String>,
    twist: Option<Twist>,
) -> Option<Value> {
    let login = state.logins.lock().unwrap().remove(form.get("code")?)?;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(form.get("code_verifier")?));
    let good = form.get("grant_type")? == "authorization_code"
        && *form.get("redirect_uri")? == login.redirect
        && challenge == login.challenge;
    if !good {
        return None;
    }
    let (from, until) = (now_s(), now_s() + 300);
    let mut claims = json!({"iss": issuer, "aud": login.client, "sub": "ana",
        "nonce": login.nonce, "iat": from, "exp": until});
    let mut set = |name: &str, value: Value| match value {
        Value::Null => {
            claims.as_object_mut().unwrap().remove(name);
        }
        value => claims[name] = value,
    };
    let mut signer = signer.clone();
    match twist {
        Some(Twist::Claim(name, value)) => set(name, value),
        Some(Twist::Claims(all)) => all.into_iter().for_each(|(name, value)| set(name, value)),
        Some(Twist::Signer(other)) => signer = other.named(&signer),
        _ => {}
    }
    let token = signer.sign(&signer.header(), &claims);
    Some(json!({"token_type": "Bearer", "access_token": "a", "id_token": token}))
}
