//! Logins by authorization code: what is sent, what is taken back, and what an ID token must
//! be besides.

use std::sync::Arc;

use pinion_auth::AuthError;
use pinion_auth::exchange::{ANSWER_WAIT, Exchange, ExchangeId, Issuer};
use pinion_auth::jwks_cache::{DISCOVERY_FRESH, FetchFailure};
use pinion_auth::login::{
    Brought, CODE_BYTES_MAX, Client, ClientError, NotLoggedIn, SAID_CHARS_MAX,
    TOKEN_ANSWER_BYTES_MAX, id_token, returned,
};
use pinion_auth::provider::{Endpoints, Source, Url, discovered};
use pinion_auth::upstream::IssuerRules;
use pinion_types::{Monotonic, WallMs};
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example/a";
const DISCOVERY: &str = "https://id.example/a/.well-known/openid-configuration";

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn document() -> Value {
    json!({
        "issuer": ISSUER,
        "jwks_uri": "https://keys.example/a",
        "authorization_endpoint": "https://id.example/a/login?hint=x",
        "token_endpoint": "https://id.example/a/token",
    })
}

fn endpoints(document: &Value) -> Result<Endpoints, &'static str> {
    let text = document.to_string();
    let found = discovered(text.as_bytes(), ISSUER, &url(DISCOVERY));
    found.expect("good for its keys").login
}

fn client(secret: Option<&str>) -> Client {
    let redirect = url("https://pinion.example/ui/login/oidc/callback");
    Client::new("pinion board", secret, &["openid", "email"], redirect).unwrap()
}

#[test]
fn a_browser_is_sent_with_the_digest_of_what_only_we_know() {
    let found = endpoints(&document()).unwrap();
    // The verifier of RFC 7636 appendix B, and its challenge.
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let sent = client(None).authorization_url(&found, "a state", "a&nonce", verifier);
    assert_eq!(
        sent,
        "https://id.example/a/login?hint=x&response_type=code&client_id=pinion%20board\
         &redirect_uri=https%3A%2F%2Fpinion.example%2Fui%2Flogin%2Foidc%2Fcallback\
         &scope=openid%20email&state=a%20state&nonce=a%26nonce\
         &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
    );
}

#[test]
fn a_code_is_sent_with_its_verifier_and_the_secret_in_no_log() {
    let public = client(None).token_request("a/code", "v");
    assert_eq!(
        public.body,
        "grant_type=authorization_code&code=a%2Fcode\
         &redirect_uri=https%3A%2F%2Fpinion.example%2Fui%2Flogin%2Foidc%2Fcallback\
         &code_verifier=v&client_id=pinion%20board"
    );
    assert_eq!(public.authorization, None);
    let known = client(Some("se:cret+"));
    let request = known.token_request("a/code", "v");
    assert!(!request.body.contains("client_id"));
    // base64 of `pinion%20board:se%3Acret%2B`
    let basic = "Basic cGluaW9uJTIwYm9hcmQ6c2UlM0FjcmV0JTJC";
    assert_eq!(request.authorization.as_deref(), Some(basic));
    let told = format!("{known:?} {request:?}");
    assert!(!told.contains("cret") && !told.contains("cGlu"), "{told}");
}

#[test]
fn a_client_is_taken_as_the_standard_writes_it() {
    let redirect = || url("https://pinion.example/");
    let made = |id: &str, secret: Option<&str>, scopes: &[&str]| {
        Client::new(id, secret, scopes, redirect()).map(|client| client.id().to_owned())
    };
    assert_eq!(made("a", Some("b"), &["openid"]), Ok("a".to_owned()));
    let long = "x".repeat(2_000);
    for id in ["", "a\n", "ä", &long] {
        assert_eq!(made(id, None, &["openid"]), Err(ClientError::Id));
    }
    for secret in ["", "a\n", &long] {
        assert_eq!(
            made("a", Some(secret), &["openid"]),
            Err(ClientError::Secret)
        );
    }
    for scope in ["", "a b", "a\"", "a\\", &long] {
        assert_eq!(made("a", None, &["openid", scope]), Err(ClientError::Scope));
    }
    assert_eq!(made("a", None, &["openid"; 17]), Err(ClientError::Scope));
    assert_eq!(made("a", None, &["email"]), Err(ClientError::NotOpenId));
}

#[test]
fn what_a_browser_brings_is_of_whom_it_was_sent_to() {
    let found = endpoints(&document()).unwrap();
    let mut names = document();
    names["authorization_response_iss_parameter_supported"] = true.into();
    let names = endpoints(&names).unwrap();
    let of = |issuer, code| Brought {
        code,
        issuer,
        ..Brought::default()
    };
    assert_eq!(returned(ISSUER, &found, of("", "c")), Ok("c"));
    assert_eq!(returned(ISSUER, &names, of(ISSUER, "c")), Ok("c"));
    let others = Err(NotLoggedIn::OtherIssuer);
    assert_eq!(
        returned(ISSUER, &found, of("https://id.example", "c")),
        others
    );
    assert_eq!(returned(ISSUER, &names, of("", "c")), others);
    let refused = Brought {
        error: "access_denied",
        ..of("https://id.example", "")
    };
    assert_eq!(returned(ISSUER, &found, refused), others, "an error, too");
    let none = Err(NotLoggedIn::NoCode);
    assert_eq!(returned(ISSUER, &found, of("", "")), none);
    let long = "c".repeat(CODE_BYTES_MAX + 1);
    assert_eq!(returned(ISSUER, &found, of("", &long)), none);
}

#[test]
fn what_a_provider_says_of_a_refusal_is_short_and_one_line() {
    let found = endpoints(&document()).unwrap();
    let description = format!("no\n\u{1b}[31m{}", "ä".repeat(1_000));
    let brought = Brought {
        code: "never with an error",
        error: "access_denied",
        description: &description,
        ..Brought::default()
    };
    let Err(NotLoggedIn::Refused { said }) = returned(ISSUER, &found, brought) else {
        panic!("it was refused");
    };
    assert!(said.starts_with("access_denied: no  [31mä"), "{said}");
    assert_eq!(said.chars().count(), SAID_CHARS_MAX);
}

#[test]
fn an_answer_to_a_code_has_an_id_token_or_is_none() {
    let good = json!({"token_type": "bearer", "id_token": "t", "access_token": "a"});
    assert_eq!(id_token(good.to_string().as_bytes()), Ok("t".into()));
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(TOKEN_ANSWER_BYTES_MAX));
    for (answer, said) in [
        ("", "unique members"),
        ("[]", "unique members"),
        (
            r#"{"token_type":"Bearer","id_token":"a","id_token":"b"}"#,
            "unique members",
        ),
        (r#"{"id_token":"a"}"#, "token_type"),
        (r#"{"token_type":"mac","id_token":"a"}"#, "token_type"),
        (r#"{"token_type":"Bearer"}"#, "id_token"),
        (r#"{"token_type":"Bearer","id_token":7}"#, "id_token"),
        (&long, "longer than 64 KiB"),
    ] {
        let error = id_token(answer.as_bytes()).expect_err(said).to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_document_that_says_nothing_of_logins_is_still_good_for_its_keys() {
    for (name, value, said) in [
        (
            "authorization_endpoint",
            Value::Null,
            "authorization_endpoint",
        ),
        (
            "authorization_endpoint",
            json!("javascript:alert(1)"),
            "authorization_endpoint",
        ),
        (
            "authorization_endpoint",
            json!("http://id.example/"),
            "from https to http",
        ),
        ("token_endpoint", json!(7), "token_endpoint"),
        (
            "token_endpoint",
            json!("http://id.example/"),
            "from https to http",
        ),
        ("code_challenge_methods_supported", json!(["plain"]), "S256"),
    ] {
        let mut document = document();
        document[name] = value;
        let error = endpoints(&document).expect_err(said);
        assert!(error.contains(said), "{error}");
    }
    let mut document = document();
    document["code_challenge_methods_supported"] = json!(["plain", "S256"]);
    assert!(endpoints(&document).is_ok());
}

fn issuer(source: Source) -> Arc<Issuer> {
    let rules = IssuerRules {
        issuer: ISSUER.into(),
        audiences: ["pinion board".into()].into(),
        algorithms: [pinion_auth::jose::Algorithm::Es256].into_iter().collect(),
        subject_claim: "sub".into(),
        groups_claim: None,
        clock_skew_s: 60,
    };
    Arc::new(Issuer::new(rules, source))
}

#[test]
fn how_somebody_logs_in_is_found_out_once_for_all_and_believed_for_an_hour() {
    let issuer = issuer(Source::Discovery(url(DISCOVERY)));
    let mut exchange = Exchange::default();
    let (mut now, wall) = (Monotonic::from_millis(5), WallMs(0));
    let (text, keys) = (document().to_string(), json!({"keys": []}).to_string());
    for round in [1, 2] {
        for id in [10 * round, 10 * round + 1] {
            exchange.handle_way(now, ExchangeId(id), &issuer);
        }
        assert!(exchange.poll_way().is_none(), "it is being asked");
        let fetch = exchange.poll_fetch(now).expect("the document");
        assert_eq!(fetch.url.text(), DISCOVERY);
        assert!(exchange.poll_fetch(now).is_none(), "once for both");
        exchange.handle_fetched(now, wall, fetch.id, Ok(text.as_bytes()));
        let fetch = exchange.poll_fetch(now).expect("the keys");
        exchange.handle_fetched(now, wall, fetch.id, Ok(keys.as_bytes()));
        for id in [10 * round, 10 * round + 1] {
            let (of, found) = exchange.poll_way().expect("an answer for each");
            assert_eq!(of, ExchangeId(id));
            assert_eq!(found.unwrap().token.text(), "https://id.example/a/token");
        }
        exchange.handle_way(now, ExchangeId(7), &issuer);
        assert!(exchange.poll_way().is_some() && exchange.poll_fetch(now).is_none());
        now = now + DISCOVERY_FRESH;
    }
}

#[test]
fn who_cannot_be_told_how_to_log_in_is_told_why() {
    let unavailable = |answer: Option<(ExchangeId, Result<Endpoints, AuthError>)>| match answer {
        Some((_, Err(AuthError::IssuerUnavailable { why, .. }))) => why,
        other => panic!("{other:?}"),
    };
    let (now, wall) = (Monotonic::from_millis(5), WallMs(0));
    // Without a document there is nothing to be asked.
    let mut exchange = Exchange::default();
    let direct = issuer(Source::Keys(url("https://keys.example/a")));
    exchange.handle_way(now, ExchangeId(1), &direct);
    let why = unavailable(exchange.poll_way()).to_string();
    assert!(why.contains("discovery_url"), "{why}");
    assert!(exchange.poll_fetch(now).is_none());
    // One that does not answer, and is then not asked at once again.
    let issuer = issuer(Source::Discovery(url(DISCOVERY)));
    exchange.handle_way(now, ExchangeId(2), &issuer);
    let fetch = exchange.poll_fetch(now).unwrap();
    exchange.handle_fetched(now, wall, fetch.id, Err(FetchFailure::Connect));
    assert_eq!(unavailable(exchange.poll_way()), FetchFailure::Connect);
    exchange.handle_way(now, ExchangeId(3), &issuer);
    assert_eq!(unavailable(exchange.poll_way()), FetchFailure::Connect);
    assert!(exchange.poll_fetch(now).is_none());
    // One that hangs.
    let mut exchange = Exchange::default();
    exchange.handle_way(now, ExchangeId(4), &issuer);
    let late = now + ANSWER_WAIT;
    exchange.handle_timeout(late, wall);
    assert_eq!(unavailable(exchange.poll_way()), FetchFailure::Timeout);
    // One whose document is good for its keys alone.
    let mut exchange = Exchange::default();
    let mut document = document();
    document["token_endpoint"] = Value::Null;
    exchange.handle_way(now, ExchangeId(5), &issuer);
    for text in [document, json!({"keys": []})] {
        let fetch = exchange.poll_fetch(now).unwrap();
        exchange.handle_fetched(now, wall, fetch.id, Ok(text.to_string().as_bytes()));
    }
    let why = unavailable(exchange.poll_way()).to_string();
    assert!(why.contains("token_endpoint"), "{why}");
}
