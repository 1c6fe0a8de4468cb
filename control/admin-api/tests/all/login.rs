//! Logging in to the dashboard with an identity provider that is on loopback, and everything
//! that lets nobody in.

use core::time::Duration;
use std::time::Instant;

use pinion_admin_api::idp::Fetcher;
use pinion_admin_api::{ApiConfig, OidcLogin, Rate, redirect_at};
use pinion_auth::jwks_cache::{FETCH_WAIT, FetchFailure};
use pinion_auth::login::{Client as Known, TokenRequest};
use pinion_auth::provider::Url;
use rustls::RootCertStore;
use serde_json::{Value, json};

use crate::http::{config, tell_with};
use crate::idp::loopback;
use crate::support::browser::{Browser, Page, encoded};
use crate::support::oidc::{Provider, Signer, Twist, now_s, pairs};
use crate::support::town::{Town, issuing};

const START: &str = "/ui/login/oidc/corp";
const BACK: &str = "/ui/login/oidc/callback";
const PUBLIC: &str = "http://localhost";
const SECRET_OF_CLIENT: &str = "only the provider has this";

/// Tells a story in which `acme` has a provider, and its people log in with that.
fn tell<F: Future<Output = ()>>(story: impl FnOnce(Town) -> F) {
    tell_with_rate(config().strangers, story);
}

fn tell_with_rate<F: Future<Output = ()>>(strangers: Rate, story: impl FnOnce(Town) -> F) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let login = |id: &str, tenant: &str, secret| {
        let redirect = redirect_at(PUBLIC).unwrap();
        OidcLogin {
            id: id.into(),
            label: "<Corp>".into(),
            tenant: tenant.into(),
            issuer: issuer.as_str().into(),
            client: Known::new("pinion", secret, &["openid"], redirect).unwrap(),
        }
    };
    let (api, driver) = issuing();
    let api = ApiConfig {
        logins: Box::new([
            login("corp", "acme", Some(SECRET_OF_CLIENT)),
            login("other", "nobody", None),
        ]),
        strangers,
        ..api
    };
    let first_days = api
        .bootstrap
        .as_ref()
        .unwrap()
        .listener
        .local_addr()
        .unwrap();
    tell_with(api, |ops, plane| async move {
        tokio::spawn(driver.run());
        let signer = Signer::new(1);
        let provider = Provider::on(listener, &signer);
        let town = Town {
            ops,
            plane,
            first_days,
            provider,
            signer,
        };
        town.found("acme").await.is(201);
        // What may be exchanged besides is no reason to let anybody in here.
        let mut rules = town.issuer();
        rules["audiences"] = json!(["pinion", "another"]);
        let issuers = "/v1/tenants/acme/idp-issuers";
        let put = town.ops.post(issuers, rules).await;
        assert!((200..300).contains(&put.status), "{put:?}");
        // Who manages a tenant does not yet look at it.
        let looks =
            json!([{ "subject": "p:ana", "action": "admin:read", "object": "tenant:acme" }]);
        let policies = "/v1/tenants/acme/rbac/policies";
        let added = town.ops.post(policies, json!({ "policies": looks })).await;
        added.is(201);
        story(town).await;
    });
}

/// Goes to the provider and logs in there: the query that the browser is sent back with.
async fn go(town: &Town, browser: &mut Browser, start: &str) -> String {
    let away = browser.get(start).await.is(303);
    let (place, query) = town.provider.log_in(away.header("location"));
    assert_eq!(place, format!("{PUBLIC}{BACK}"));
    query
}

async fn come_back(browser: &mut Browser, query: &str) -> Page {
    browser.get(&format!("{BACK}?{query}")).await
}

#[track_caller]
fn is_out(browser: &Browser, page: &Page, status: u16, says: &str) {
    assert_eq!(page.status, status, "{page:#?}");
    page.has(says);
    assert!(!browser.cookies.contains_key("pinion"), "{page:#?}");
}

#[test]
fn whoever_a_provider_lets_in_is_in_with_the_rights_of_an_exchange() {
    tell(|town| async move {
        let mut browser = Browser::new(&town.ops);
        let form = browser.get("/ui/login?next=/ui/tenants%3Fq%3Dac").await;
        let form = form.is(200);
        let link = format!("href=\"{START}?next=%2Fui%2Ftenants%3Fq%3Dac\"");
        form.has(&link).has("Log in with &lt;Corp&gt;");
        let start = format!("{START}?next=/ui/tenants%3Fq%3Dac");
        let away = browser.get(&start).await.is(303);
        assert_eq!(away.header("cache-control"), "no-store");
        let cookie = away.header("set-cookie").to_owned();
        assert!(cookie.starts_with("pinion-oidc="), "{cookie}");
        let rules = "; Path=/; HttpOnly; SameSite=Lax; Max-Age=600";
        assert!(cookie.ends_with(rules), "{cookie}");
        let sent = away.header("location").to_owned();
        let (_, query) = town.provider.log_in(&sent);

        let welcome = come_back(&mut browser, &query).await.is(200);
        // A page and not a redirect: what a redirect from elsewhere leads to is asked for
        // without a strict cookie.
        welcome.has("http-equiv=\"refresh\" content=\"0; url=/ui/tenants?q=ac\"");
        assert_eq!(welcome.header("cache-control"), "no-store");
        assert!(!welcome.html.contains("code"), "{welcome:#?}");
        let set: Vec<&str> = welcome
            .headers
            .get_all("set-cookie")
            .iter()
            .map(|line| line.to_str().unwrap())
            .collect();
        let session = set.iter().find(|line| line.starts_with("pinion="));
        assert!(
            session
                .unwrap()
                .ends_with("; Path=/; HttpOnly; SameSite=Strict")
        );
        assert!(
            !browser.cookies.contains_key("pinion-oidc"),
            "it is used up"
        );
        let page = browser.get("/ui/tenants").await.is(200);
        page.has("acme/p:ana").has("/ui/tenants/acme/namespaces");
        browser.get("/ui/raft").await.is(403);

        // The secret went to the provider in a header, with what proves whose code it is.
        let shown = town.provider.shown();
        let (head, form) = shown.split_once("\r\n\r\n").unwrap();
        let basic = "basic cGluaW9uOm9ubHklMjB0aGUlMjBwcm92aWRlciUyMGhhcyUyMHRoaXM=";
        assert!(
            head.to_lowercase().contains(&basic.to_lowercase()),
            "{head}"
        );
        let form = pairs(form);
        assert!(form["code_verifier"].len() >= 43 && !sent.contains(&form["code_verifier"]));
        let rows = town.ops.get("/v1/audit?action=login").await.is(200);
        let rows = rows.body["rows"].as_array().unwrap().clone();
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0]["principal"], "acme/p:ana", "{rows:?}");

        // What is said of her ends it, as it ends her tokens.
        let revoke = json!({ "subject": "p:ana" });
        let revoked = town
            .ops
            .post("/v1/tenants/acme/tokens/revoke", revoke)
            .await;
        revoked.is(204);
        let over = browser.get("/ui/tenants").await.is(303);
        assert!(over.header("location").contains("problem=expired"));
    });
}

#[test]
fn a_login_ends_the_session_before_it_and_logging_out_ends_it() {
    tell(|town| async move {
        let mut browser = Browser::new(&town.ops);
        let query = go(&town, &mut browser, START).await;
        come_back(&mut browser, &query).await.is(200);
        let mut before = browser.stolen();
        let query = go(&town, &mut browser, START).await;
        // As a browser does: it comes from elsewhere, and shows no strict cookie.
        browser.cookies.remove("pinion");
        come_back(&mut browser, &query).await.is(200);
        before.get("/ui/tenants").await.is(303);
        let page = browser.get("/ui/tenants").await.is(200);
        let csrf = page.field("csrf");
        browser.post("/ui/logout", &[("csrf", &csrf)]).await.is(303);
        browser.get("/ui/tenants").await.is(303);
    });
}

#[test]
fn a_login_is_of_one_browser_and_comes_back_once() {
    tell(|town| async move {
        const STALE: &str = "begun elsewhere, or is over";
        let mut browser = Browser::new(&town.ops);
        let query = go(&town, &mut browser, START).await;
        let (_, state) = query.split_once("&state=").unwrap();
        // Somebody else's browser: without a cookie, with that of a login of its own, and
        // with one that is no number of ours.
        let mut other = Browser::new(&town.ops);
        let page = come_back(&mut other, &query).await;
        is_out(&other, &page, 403, STALE);
        let others = go(&town, &mut other, START).await;
        let page = come_back(&mut other, &query).await;
        is_out(&other, &page, 403, STALE);
        let mut guess = Browser::new(&town.ops);
        guess.cookies.insert("pinion-oidc".into(), "x".into());
        let page = come_back(&mut guess, &query).await;
        is_out(&guess, &page, 403, STALE);
        // The right browser with another state: none, that of another login, a guess.
        let (_, theirs) = others.split_once("&state=").unwrap();
        let cut = &state[..state.len() - 1];
        for wrong in ["", theirs, cut, "x"] {
            let page = come_back(&mut browser, &format!("code=c&state={wrong}")).await;
            is_out(&browser, &page, 403, STALE);
        }
        // None of that ended what is under way, and no code was shown to anybody.
        assert_eq!(town.provider.shown(), "");
        let kept = browser.stolen();
        come_back(&mut browser, &query).await.is(200);
        browser.get("/ui/tenants").await.is(200);
        // The same once more, with the cookie of before.
        let mut again = kept;
        let page = come_back(&mut again, &query).await;
        is_out(&again, &page, 403, STALE);
        // A second login takes the place of the first in its browser.
        let first = go(&town, &mut other, START).await;
        let second = go(&town, &mut other, START).await;
        let page = come_back(&mut other, &first).await;
        is_out(&other, &page, 403, STALE);
        come_back(&mut other, &second).await.is(200);
    });
}

#[test]
fn a_code_is_of_use_once_and_to_whoever_began_the_login() {
    tell(|town| async move {
        let mut browser = Browser::new(&town.ops);
        let used = go(&town, &mut browser, START).await;
        come_back(&mut browser, &used).await.is(200);
        let (used, _) = used.split_once('&').unwrap();
        // A code that was used, and one of another browser's login, under a state of ours.
        let mut other = Browser::new(&town.ops);
        let stolen = go(&town, &mut other, START).await;
        let (stolen, _) = stolen.split_once('&').unwrap();
        // One that is as long as those of large providers gets as far as theirs.
        let long = format!("code={}", "c".repeat(3_000));
        for code in [used, stolen, &long] {
            let mut thief = Browser::new(&town.ops);
            let own = go(&town, &mut thief, START).await;
            let (_, state) = own.split_once('&').unwrap();
            let page = come_back(&mut thief, &format!("{code}&{state}")).await;
            is_out(&thief, &page, 502, "the token endpoint: status 400");
        }
        // Without its verifier a code is of no use to anybody.
        let query = go(&town, &mut other, START).await;
        let code = &pairs(&query)["code"];
        let redirect = encoded(&format!("{PUBLIC}{BACK}"));
        let request = TokenRequest {
            body: format!(
                "grant_type=authorization_code&code={}&redirect_uri={redirect}",
                encoded(code)
            ),
            authorization: None,
        };
        let fetcher = Fetcher::new(RootCertStore::empty(), loopback());
        let endpoint = Url::parse(&format!("{}/token", town.provider.issuer())).unwrap();
        let soon = tokio::time::Instant::now() + Duration::from_secs(20);
        let answer = fetcher.post(&endpoint, request, 1_000, soon).await;
        assert_eq!(answer, Err(FetchFailure::Status { status: 400 }));
    });
}

#[test]
fn a_token_that_was_not_made_for_this_login_lets_nobody_in() {
    tell(|town| async move {
        let audience = "issued for another audience";
        let now = now_s();
        let claims = |a, b| Twist::Claims([a, b]);
        for (twist, says) in [
            (
                Twist::Claim("nonce", json!("another")),
                "made for another login",
            ),
            (Twist::Claim("nonce", Value::Null), "made for another login"),
            (Twist::Claim("aud", json!("stranger")), audience),
            // Good for an exchange, and not for us.
            (Twist::Claim("aud", json!("another")), audience),
            (Twist::Claim("aud", json!(["pinion", "another"])), audience),
            (Twist::Claim("azp", json!("another")), audience),
            (
                claims(
                    ("aud", json!(["pinion", "stranger"])),
                    ("azp", json!("pinion")),
                ),
                audience,
            ),
            (
                claims(("exp", json!(now - 4_000)), ("iat", json!(now - 5_000))),
                "expired at",
            ),
            (Twist::Claim("exp", Value::Null), "exp is missing"),
            (Twist::Claim("iat", Value::Null), "iat is missing"),
            (Twist::Claim("iat", json!(now + 4_000)), "not valid before"),
            (
                Twist::Claim("iss", json!("https://other.example")),
                "issued by somebody else",
            ),
            (Twist::Claim("sub", json!("a\nb")), "unprintable"),
            (Twist::Signer(Signer::new(9)), "the signature does not fit"),
        ] {
            let mut browser = Browser::new(&town.ops);
            let query = go(&town, &mut browser, START).await;
            town.provider.twist(twist);
            let page = come_back(&mut browser, &query).await;
            is_out(&browser, &page, 502, says);
        }
        // The first has its row, the others of this address are counted.
        let rows = town.ops.get("/v1/audit?action=login").await.is(200);
        let rows = rows.body["rows"].as_array().unwrap().clone();
        assert_eq!(rows.len(), 1);
        assert!(rows.iter().all(|row| row["code"] == "401"), "{rows:?}");
        // Of several audiences the token says that it is ours.
        let mut browser = Browser::new(&town.ops);
        let query = go(&town, &mut browser, START).await;
        let several = ("aud", json!(["another", "pinion"]));
        town.provider
            .twist(claims(several, ("azp", json!("pinion"))));
        come_back(&mut browser, &query).await.is(200);
    });
}

#[test]
fn a_provider_that_does_not_do_as_it_should_lets_nobody_in() {
    tell(|town| async move {
        let answer = |body: &str| {
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let elsewhere = format!(
            "HTTP/1.1 307 X\r\nLocation: {}/token\r\nContent-Length: 0\r\n\r\n",
            town.provider.issuer()
        );
        for (text, says) in [
            (elsewhere, "a redirect, and none is followed"),
            ("\0\x16\x03\x01".to_owned(), "the answer is not HTTP"),
            (answer("<html>"), "not a JSON object"),
            (answer("{}"), "token_type is not Bearer"),
            (answer(r#"{"token_type":"Bearer"}"#), "id_token is not text"),
            (
                answer(r#"{"token_type":"Bearer","id_token":"a.b"}"#),
                "its ID token: malformed",
            ),
            (answer(&"x".repeat(70_000)), "longer than 65536 bytes"),
            (
                "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".to_owned(),
                "status 500",
            ),
        ] {
            let mut browser = Browser::new(&town.ops);
            let query = go(&town, &mut browser, START).await;
            town.provider.twist(Twist::Says(text));
            let page = come_back(&mut browser, &query).await;
            is_out(&browser, &page, 502, says);
        }
        let mut browser = Browser::new(&town.ops);
        let query = go(&town, &mut browser, START).await;
        town.provider.twist(Twist::Hangs);
        let begun = Instant::now();
        let page = come_back(&mut browser, &query).await;
        is_out(&browser, &page, 502, "it took too long");
        assert!(begun.elapsed() >= FETCH_WAIT);
        // There is neither a code nor an error in this.
        let query = go(&town, &mut browser, START).await;
        let (_, state) = query.split_once('&').unwrap();
        let page = come_back(&mut browser, state).await;
        is_out(&browser, &page, 502, "the answer has no code");
        let long = format!("code={}&{state}", "c".repeat(9_000));
        come_back(&mut browser, &long).await.is(414);
        come_back(&mut browser, &format!("{state}&{state}"))
            .await
            .is(400);
    });
}

#[test]
fn what_a_provider_says_of_a_refusal_is_shown_as_text_and_only_after_a_login_of_ours() {
    tell(|town| async move {
        let word = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}";
        let error = format!("error=access_denied&error_description={}", encoded(word));
        let mut browser = Browser::new(&town.ops);
        let query = go(&town, &mut browser, &format!("{START}?next=/ui/tenants")).await;
        let (_, state) = query.split_once('&').unwrap();
        // A link that anybody can write says nothing on a page of ours.
        let mut stranger = Browser::new(&town.ops);
        for query in [error.clone(), format!("{error}&{state}")] {
            let page = come_back(&mut stranger, &query).await;
            is_out(&stranger, &page, 403, "begun elsewhere");
            assert!(!page.html.contains("access_denied") && !page.html.contains("script>alert"));
        }
        let page = come_back(&mut browser, &format!("{error}&{state}")).await;
        is_out(
            &browser,
            &page,
            401,
            "access_denied: &lt;script&gt;alert(1)",
        );
        assert!(!page.html.contains("<script>") && !page.html.contains("<img src=x"));
        assert_eq!(
            page.field("next"),
            "/ui/tenants",
            "the way goes on from here"
        );
        assert_eq!(town.provider.shown(), "", "no code was shown to anybody");
    });
}

#[test]
fn an_answer_of_another_provider_is_not_shown_to_this_one() {
    tell(|town| async move {
        let issuer = encoded(&town.provider.issuer());
        let name = "authorization_response_iss_parameter_supported";
        town.provider.say(name, json!(true));
        for (iss, good) in [
            (String::new(), false),
            ("&iss=https%3A%2F%2Fevil.example".to_owned(), false),
            (format!("&iss={issuer}%2F"), false),
            (format!("&iss={issuer}"), true),
        ] {
            let mut browser = Browser::new(&town.ops);
            let query = go(&town, &mut browser, START).await;
            let page = come_back(&mut browser, &format!("{query}{iss}")).await;
            if good {
                page.is(200);
                continue;
            }
            is_out(&browser, &page, 502, "another issuer");
            assert_eq!(town.provider.shown(), "", "the code went nowhere");
        }
    });
}

#[test]
fn nobody_is_sent_away_by_others_or_ends_up_elsewhere() {
    tell(|town| async move {
        let mut browser = Browser::new(&town.ops);
        for next in [
            "//evil.example",
            "https://evil.example/",
            "/\\evil.example",
            "/ui/do",
        ] {
            let start = format!("{START}?next={}", encoded(next));
            let query = go(&town, &mut browser, &start).await;
            let page = come_back(&mut browser, &query).await.is(200);
            page.has("content=\"0; url=/\"");
        }
        // Where browsers come back to is what was configured, whatever host they ask for.
        let host = [
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "https"),
        ];
        let away = browser.send("GET", START, None, &host).await.is(303);
        let sent = pairs(away.header("location").split_once('?').unwrap().1);
        assert_eq!(sent["redirect_uri"], format!("{PUBLIC}{BACK}"));
        let mut fresh = Browser::new(&town.ops);
        for site in ["cross-site", "same-site", "?"] {
            let from = [("sec-fetch-site", site)];
            let page = fresh.send("GET", START, None, &from).await.is(303);
            assert_eq!(page.header("location"), "/ui/login", "{site}");
            assert!(!fresh.cookies.contains_key("pinion-oidc"), "{site}");
        }
        for site in ["same-origin", "none"] {
            let from = [("sec-fetch-site", site)];
            let page = fresh.send("GET", START, None, &from).await.is(303);
            assert!(page.header("location").starts_with("http://127.0.0.1"));
        }
        for (method, path) in [
            ("POST", START),
            ("HEAD", START),
            ("HEAD", BACK),
            ("POST", BACK),
        ] {
            let wrong = fresh.send(method, path, None, &[]).await.is(405);
            assert_eq!(wrong.header("allow"), "GET", "{method} {path}");
        }
        for path in [
            "/ui/login/oidc",
            "/ui/login/oidc/",
            "/ui/login/oidc/x",
            "/ui/login/oidcorp",
        ] {
            fresh.get(path).await.is(404);
        }
    });
}

#[test]
fn whom_the_tenant_gives_nothing_or_does_not_believe_is_not_let_in() {
    tell(|town| async move {
        let mut browser = Browser::new(&town.ops);
        // Of a tenant that is not there.
        let page = browser.get("/ui/login/oidc/other").await;
        is_out(&browser, &page, 502, "nobody does not believe it");
        // Somebody without any right, and one with none to look here.
        let query = go(&town, &mut browser, START).await;
        town.provider.twist(Twist::Claim("sub", json!("bo")));
        let page = come_back(&mut browser, &query).await;
        is_out(&browser, &page, 403, "may not see the dashboard");
        let policies = "/v1/tenants/acme/rbac/policies";
        let rows =
            json!([{ "subject": "p:bo", "action": "stream.*", "object": "namespace:acme/pay" }]);
        town.ops
            .post(policies, json!({ "policies": rows }))
            .await
            .is(201);
        let query = go(&town, &mut browser, START).await;
        town.provider.twist(Twist::Claim("sub", json!("bo")));
        let page = come_back(&mut browser, &query).await;
        is_out(&browser, &page, 403, "may not see the dashboard");
        let rows = town.ops.get("/v1/audit?action=login").await.is(200);
        let rows = rows.body["rows"].as_array().unwrap().iter();
        let told = |row: &Value| (row["principal"].clone(), row["code"].clone());
        let mut rows: Vec<String> = rows.map(|row| format!("{:?}", told(row))).collect();
        rows.sort_unstable();
        let who = |name: &str, code: &str| format!("{:?}", (json!(name), json!(code)));
        let bo = who("acme/p:bo", "403");
        // That of the second time is counted.
        assert_eq!(rows, [who("", "401"), bo]);
        // The tenant believes it no more while somebody is away.
        let query = go(&town, &mut browser, START).await;
        let name = encoded(&town.provider.issuer());
        let issuer = format!("/v1/tenants/acme/idp-issuers/{name}");
        let deleted = town.ops.delete(&issuer).await;
        assert!((200..300).contains(&deleted.status), "{deleted:?}");
        let page = come_back(&mut browser, &query).await;
        is_out(&browser, &page, 502, "acme does not believe it");
        let page = browser.get(START).await;
        is_out(&browser, &page, 502, "acme does not believe it");
        // Its keys alone do not say how to log in.
        let mut rules = town.issuer();
        rules["jwks_url"] = json!(format!("{}/jwks", town.provider.issuer()));
        town.ops
            .post("/v1/tenants/acme/idp-issuers", rules)
            .await
            .is(201);
        let page = browser.get(START).await;
        is_out(&browser, &page, 502, "discovery_url");
    });
}

#[test]
fn a_provider_that_cannot_be_asked_is_named_on_the_login_page() {
    tell(|town| async move {
        town.provider.fail(503);
        let mut browser = Browser::new(&town.ops);
        let page = browser.get(START).await;
        is_out(&browser, &page, 502, "status 503");
        page.has("or use a token").has("name=\"token\"");
        assert!(!browser.cookies.contains_key("pinion-oidc"));
        let rows = town.ops.get("/v1/audit?action=login").await.is(200);
        assert_eq!(rows.body["rows"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn who_begins_logins_too_often_waits() {
    let rate = Rate {
        per_second: 1,
        burst: 4,
    };
    tell_with_rate(rate, |town| async move {
        let mut browser = Browser::new(&town.ops);
        let query = go(&town, &mut browser, START).await;
        let mut limited = 0;
        for _ in 0..8 {
            let page = browser.get(START).await;
            limited += usize::from(page.status == 429);
        }
        assert!(limited >= 3, "{limited}");
        come_back(&mut browser, &query).await.is(429);
    });
}
