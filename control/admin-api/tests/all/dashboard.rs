//! The dashboard: who is let in, what they see, and what is done from it.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::BodyExt;
use pinion_admin_api::limits::LIVE_STREAMS_MAX;
use pinion_admin_api::{ApiConfig, Rate};
use pinion_admin_ui::assets::SECURITY_HEADERS;
use pinion_admin_ui::model::{Operation, PAGE_BYTES_MAX, ROWS_MAX};
use pinion_auth::access::AccessTable;
use serde_json::json;

use crate::host::{OPERATOR, PLAIN, entry};
use crate::http::{config, tell, tell_with, tell_with_access};
use crate::roles::{ROLES, believe, furnish, key, role};
use crate::support::browser::{Browser, encoded, kept, rows};

/// Pages of the control plane, and what each of them says when [`furnish`] was there.
const PAGES: &[(&str, &str)] = &[
    ("/", "All is well"),
    ("/ui/placement", "orders"),
    ("/ui/raft", "leads"),
    ("/ui/tenants", "acme"),
    ("/ui/tenants/acme/namespaces", "pay"),
    ("/ui/tenants/acme/access", "No policy"),
    ("/ui/tenants/acme/providers", "https://idp.example"),
    ("/ui/tenants/acme/keys", "current"),
    ("/ui/audit", "create_tenant"),
    ("/ui/about", "Metadata version"),
];

/// The key of somebody who may do everything in `acme`.
async fn key_of(plane: &pinion_admin_api::PlaneHandle, name: &str) -> String {
    let role = ROLES.iter().find(|role| role.name == name).unwrap();
    key(plane, 77, role).await
}

#[test]
fn who_is_not_logged_in_is_shown_the_way_in_and_nothing_else() {
    tell(|ops, _| async move {
        let mut browser = Browser::new(&ops);
        let first = browser.get("/").await.is(303);
        assert_eq!(first.header("location"), "/ui/login");
        let page = browser.get("/ui/tenants?q=a+b").await.is(303);
        let way = "/ui/login?next=/ui/tenants%3Fq%3Da%2Bb";
        assert_eq!(page.header("location"), way);
        let form = browser.get(way).await.is(200);
        assert_eq!(form.field("next"), "/ui/tenants?q=a+b");
        // Where nobody would see a form, a status.
        for (method, path) in [
            ("GET", "/ui/live?path=/"),
            ("POST", "/ui/do"),
            ("POST", "/ui/logout"),
            ("POST", "/ui/theme"),
        ] {
            let body = (method == "POST").then(String::new);
            browser.send(method, path, body, &[]).await.is(401);
        }
        // An address elsewhere is nobody's way back.
        for next in ["//example.com", "https://example.com", "/ui/do"] {
            let form = browser.get(&format!("/ui/login?next={next}")).await;
            assert_eq!(form.is(200).field("next"), "", "{next}");
        }
        // What they were refused before takes no row from a login.
        ops.showing("a guess").get("/v1/raft").await.is(401);
        ops.showing(PLAIN).get("/v1/raft").await.is(403);
        for (token, status, says) in [
            ("a guess", 401, "opens nothing"),
            ("", 401, "opens nothing"),
            (PLAIN, 403, "needs admin:read"),
        ] {
            let page = browser.log_in(token).await.is(status);
            page.has(says);
            assert!(!browser.cookies.contains_key("pinion"), "{token}");
        }
        // Whoever guessed is in the audit log, once, and so is whoever may not.
        let rows = ops.get("/v1/audit?action=login").await.is(200);
        let rows = rows.body["rows"].as_array().unwrap();
        let codes: Vec<_> = rows.iter().map(|row| row["code"].as_str()).collect();
        assert_eq!(codes, [Some("401"), Some("403")]);
    });
}

#[test]
fn every_answer_says_what_a_browser_may_do_with_it() {
    tell(|ops, _| async move {
        let mut stranger = Browser::new(&ops);
        let mut browser = Browser::of(&ops, OPERATOR).await;
        let mut answers = Vec::new();
        for path in ["/", "/ui/login", "/ui/nowhere", "/assets/pinion.css", "/ui"] {
            answers.push(stranger.get(path).await);
            answers.push(browser.get(path).await);
        }
        answers.push(browser.send("DELETE", "/ui/tenants", None, &[]).await);
        answers.push(browser.post("/ui/do", &[]).await);
        for answer in &answers {
            for (name, value) in SECURITY_HEADERS {
                assert_eq!(answer.header(name), value, "{answer:#?}");
            }
        }
        let style = browser.get("/assets/pinion.css").await.is(200);
        assert_eq!(style.header("content-type"), "text/css; charset=utf-8");
        assert_eq!(style.header("cache-control"), "no-cache");
        let tag = style.header("etag").to_owned();
        let known = [("if-none-match", &*tag)];
        let same = browser
            .send("GET", "/assets/pinion.css", None, &known)
            .await;
        let same = same.is(304);
        assert!(same.html.is_empty());
        assert_eq!(same.header("etag"), tag);
        let older = [("if-none-match", "\"x\"")];
        let other = browser
            .send("GET", "/assets/pinion.css", None, &older)
            .await;
        other.is(200);
        // Packed it is another file, with a tag of its own.
        let packs = ("accept-encoding", "gzip, br");
        let packed = browser
            .send("GET", "/assets/pinion.css", None, &[packs])
            .await;
        let packed = packed.is(200);
        assert_eq!(packed.header("content-encoding"), "gzip");
        assert_eq!(packed.header("vary"), "accept-encoding");
        let packed_tag = packed.header("etag").to_owned();
        assert_ne!(packed_tag, tag);
        let known = [packs, ("if-none-match", &*packed_tag)];
        let same = browser
            .send("GET", "/assets/pinion.css", None, &known)
            .await;
        same.is(304);
        // A page holds the token of its session and is not packed.
        let page = browser.send("GET", "/ui/login", None, &[packs]).await;
        assert!(page.header("content-encoding").is_empty());
        for path in [
            "/assets/../Cargo.toml",
            "/assets/%2e%2e/Cargo.toml",
            "/assets/..%2fpinion.css",
            "/assets//pinion.css",
            "/assets/pinion.css/",
            "/ui/../v1/tenants",
        ] {
            let answer = browser.get(path).await.is(404);
            assert!(answer.html.contains("no such page"), "{path}");
        }
        // Dots are names here, which nothing has.
        browser.get("/ui/streams/../../etc/passwd").await.is(404);
        browser.get("/ui/tenants/%ff/keys").await.is(400);
        let long = format!("/ui/tenants?q={}", "x".repeat(3_000));
        browser.get(&long).await.is(414);
        for (method, path, allowed) in [
            ("POST", "/ui/tenants", "GET, HEAD"),
            ("PUT", "/", "GET, HEAD"),
            ("GET", "/ui/do", "POST"),
            ("GET", "/ui/logout", "POST"),
            ("DELETE", "/ui/login", "GET, HEAD, POST"),
            ("POST", "/assets/pinion.css", "GET, HEAD"),
            ("POST", "/ui/live", "GET, HEAD"),
        ] {
            let wrong = browser.send(method, path, None, &[]).await.is(405);
            assert_eq!(wrong.header("allow"), allowed, "{method} {path}");
        }
    });
}

#[test]
fn whoever_is_logged_in_sees_the_pages_until_they_log_out() {
    tell(|ops, plane| async move {
        furnish(&ops).await;
        believe(&ops, &plane).await;
        let mut browser = Browser::new(&ops);
        let page = browser.log_in(OPERATOR).await.is(303);
        assert_eq!(page.header("location"), "/");
        let cookies: Vec<&str> = page
            .headers
            .get_all("set-cookie")
            .iter()
            .map(|line| line.to_str().unwrap())
            .collect();
        let session = cookies.iter().find(|line| line.starts_with("pinion="));
        let session = session.unwrap();
        assert!(session.ends_with("; Path=/; HttpOnly; SameSite=Strict"));
        for (path, says) in PAGES {
            let begun = Instant::now();
            let page = browser.get(path).await.is(200);
            let took = begun.elapsed();
            page.has(says).has("config:ops");
            assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
            assert_eq!(page.header("cache-control"), "no-store");
            assert!(page.html.len() <= PAGE_BYTES_MAX, "{path}");
            // Loose: it is a debug build, on a machine that may be busy.
            assert!(took < Duration::from_secs(2), "{path}: {took:?}");
            let told = page.header("server-timing").strip_prefix("page;dur=");
            let told: f64 = told.unwrap().parse().unwrap();
            assert!(
                told > 0.0 && told < took.as_secs_f64() * 1e3,
                "{path}: {told}"
            );
            println!("{path}: {took:?}, {} bytes", page.html.len());
        }
        browser.get("/ui/tenants/nobody/keys").await.is(404);
        // A new session has a new number, and ends the one before.
        let before = browser.stolen();
        browser.log_in(OPERATOR).await.is(303);
        assert_ne!(before.cookies["pinion"], browser.cookies["pinion"]);
        let mut before = before;
        let over = before.get("/ui/tenants").await.is(303);
        assert!(!over.headers.contains_key("server-timing"));
        assert!(over.header("location").contains("problem=expired"));
        // What is stolen is of no use after the way out.
        let mut stolen = browser.stolen();
        let csrf = browser.get("/").await.field("csrf");
        let out = browser.post("/ui/logout", &[("csrf", &csrf)]).await.is(303);
        assert_eq!(out.header("location"), "/ui/login");
        assert!(!browser.cookies.contains_key("pinion"));
        stolen.get("/ui/tenants").await.is(303);
        stolen.get("/ui/live?path=/").await.is(401);
        for cookie in ["", "x", &"A".repeat(43), &"A".repeat(4_000)] {
            let mut guess = Browser::new(&ops);
            guess.cookies.insert("pinion".into(), cookie.into());
            guess.get("/").await.is(303);
        }
    });
}

#[test]
fn light_and_dark_are_kept_in_a_cookie() {
    tell(|ops, _| async move {
        let mut browser = Browser::of(&ops, OPERATOR).await;
        let csrf = browser.get("/ui/tenants?q=a").await.field("csrf");
        let back = "/ui/tenants?q=a";
        let fields = [("csrf", &*csrf), ("theme", "dark"), ("back", back)];
        let page = browser.post("/ui/theme", &fields).await.is(303);
        assert_eq!(page.header("location"), back);
        browser.get("/").await.is(200).has("data-theme=\"dark\"");
        let fields = [("csrf", &*csrf), ("theme", "pink")];
        browser.post("/ui/theme", &fields).await.is(400);
        let fields = [("csrf", &*csrf), ("theme", "auto"), ("back", "//x")];
        let page = browser.post("/ui/theme", &fields).await.is(303);
        assert_eq!(page.header("location"), "/");
        assert!(!browser.get("/").await.html.contains("data-theme="));
    });
}

#[test]
fn forms_that_no_page_of_the_session_sent_do_nothing() {
    tell(|ops, _| async move {
        furnish(&ops).await;
        let mut browser = Browser::of(&ops, OPERATOR).await;
        let mut other = Browser::of(&ops, OPERATOR).await;
        let foreign = other.get("/").await.field("csrf");
        let query = "operation=delete_tenant&target=other";
        let form = browser.confirm(query).await.is(200);
        let own = form.field("csrf");
        let number = form.field("request_id");
        let (origin, elsewhere) = (browser.origin(), "https://example.com".to_owned());
        let ours = ("origin", &*origin);
        for (csrf, headers) in [
            ("", &[ours][..]),
            ("AAAA", &[ours]),
            (&*foreign, &[ours]),
            (&own[1..], &[ours]),
            (&own, &[]),
            (&own, &[("origin", &*elsewhere)]),
            (&own, &[("origin", "null")]),
            (&own, &[ours, ("sec-fetch-site", "cross-site")]),
            (&own, &[("sec-fetch-site", "same-site")]),
        ] {
            let fields = [
                ("csrf", csrf),
                ("operation", "delete_tenant"),
                ("target", "other"),
                ("typed", "other"),
                ("force", "yes"),
                ("request_id", &number),
            ];
            let refused = browser.post_from("/ui/do", &fields, headers).await;
            refused.is(403).has("Nothing was done");
            let fields = [("csrf", csrf)];
            let out = browser.post_from("/ui/logout", &fields, headers).await;
            out.is(403);
        }
        // Another session has not seen the page, whatever it knows of it.
        let fields = [
            ("csrf", &*foreign),
            ("operation", "delete_tenant"),
            ("target", "other"),
            ("typed", "other"),
            ("request_id", &number),
        ];
        other.post("/ui/do", &fields).await.is(409);
        ops.get("/v1/tenants/other").await.is(200);
        browser.get("/").await.is(200);
        // A login form is of the browser that it was shown to.
        let form = Browser::new(&ops).get("/ui/login").await;
        let mut victim = Browser::new(&ops);
        victim.get("/ui/login").await.is(200);
        let csrf = form.field("csrf");
        let fields = [("csrf", &*csrf), ("token", OPERATOR)];
        victim.post("/ui/login", &fields).await.is(200);
        assert!(!victim.cookies.contains_key("pinion"));
        // What is no form is not read as one.
        let body = Some(format!("csrf={own}"));
        let json = [ours, ("content-type", "application/json")];
        let client = browser.asking();
        let client = json
            .iter()
            .fold(client, |one, (name, value)| one.with(name, *value));
        let refused = client.raw("POST", "/ui/logout", body).await;
        assert_eq!(refused.status, 415);
        let large = format!("csrf={own}&token={}", "x".repeat(100_000));
        let refused = browser
            .send("POST", "/ui/logout", Some(large), &[ours])
            .await;
        refused.is(413);
        let twice = format!("csrf={own}&csrf={own}");
        let refused = browser
            .send("POST", "/ui/logout", Some(twice), &[ours])
            .await;
        refused.is(400);
    });
}

#[test]
fn what_is_done_is_shown_first_done_once_and_recorded() {
    tell(|ops, _| async move {
        furnish(&ops).await;
        let mut browser = Browser::of(&ops, OPERATOR).await;
        let form = browser
            .confirm("operation=delete_tenant&target=other")
            .await;
        let form = form.is(200);
        form.has("Delete tenant?")
            .has("tenant/other")
            .has("Namespaces");
        ops.get("/v1/tenants/other").await.is(200);
        let wrong = browser.perform(&form, &[("typed", "othr")]).await.is(400);
        wrong.has("is not the name of the target");
        // The first page's number was used: the one that was shown then has another.
        let used = browser.perform(&form, &[("typed", "other")]).await.is(409);
        used.has("Nothing was done now");
        let bad = [("typed", "other"), ("force", "perhaps")];
        let bad = browser.perform(&wrong, &bad).await.is(400);
        bad.has("was not understood");
        let done = browser.perform(&bad, &[("typed", "other"), ("force", "yes")]);
        let done = done.await.is(303);
        assert_eq!(done.header("location"), "/ui/tenants");
        let list = browser.get("/ui/tenants").await.is(200);
        list.has("Tenant other is deleted").has("can be taken back");
        let list = browser.get("/ui/tenants").await.is(200);
        assert!(!list.html.contains("Tenant other is deleted"), "once");
        browser.perform(&bad, &[("typed", "other")]).await.is(409);
        // Until its grace is over it can be taken back.
        let deleted = browser.get("/ui/tenants/other/namespaces").await.is(200);
        deleted.has("Take back tenant…").has("Take back…");
        let form = browser.confirm("operation=restore_tenant&target=other");
        let form = form.await.is(200);
        browser.perform(&form, &[]).await.is(303);
        let back = browser.get("/ui/tenants/other/namespaces").await.is(200);
        back.has("Tenant other is there again")
            .has("Delete tenant…");
        ops.get("/v1/tenants/other/namespaces/pay").await.is(200);
        let row = "/ui/audit?operation=delete&q=tenant/other";
        let rows = browser.get(row).await.is(200);
        rows.has("<td><code>delete</code></td>")
            .has("config:ops")
            .has("127.0.0.1:");
        assert_eq!(rows.html.matches("tenant/other</td>").count(), 1);
        // A refusal is told, and leaves everything as it was.
        let form = browser.confirm("delete_tenant=acme").await.is(200);
        let none = [("typed", "acme"), ("force", "no")];
        browser.perform(&form, &none).await.is(303);
        browser.get("/ui/tenants").await.has("Nothing was done: ");
        ops.get("/v1/tenants/acme").await.is(200);
        // What is gone, unknown, or asked for twice is no action.
        for (query, status) in [
            ("operation=restore_tenant&target=other", 404),
            ("operation=delete_tenant&target=nobody", 404),
            ("operation=delete_everything&target=x", 400),
            ("operation=delete_tenant", 400),
            ("delete_tenant=acme&delete_namespace=pay", 400),
            ("", 400),
        ] {
            browser.confirm(query).await.is(status);
        }
    });
}

#[test]
fn the_audit_log_is_read_from_its_end() {
    tell(|ops, _| async move {
        for number in 0..120 {
            let tenant = json!({ "name": format!("t{number:03}") });
            ops.post("/v1/tenants", tenant).await.is(201);
        }
        let mut browser = Browser::of(&ops, OPERATOR).await;
        let made = "/ui/audit?operation=create_tenant&q=tenant/t";
        let newest = browser.get(made).await.is(200);
        // The first part has as many rows as a page may have.
        let last = format!("tenant/t{:03}", 120 - ROWS_MAX);
        let beyond = format!("tenant/t{:03}", 119 - ROWS_MAX);
        newest.has("tenant/t119").has(&last);
        assert!(!newest.html.contains(&beyond));
        let first = newest.html.find("tenant/t119");
        assert!(first < newest.html.find("tenant/t118"), "newest first");
        let (_, next) = newest.html.split_once("rel=\"next\" href=\"").unwrap();
        let (next, _) = next.split_once('"').unwrap();
        let next = format!("/ui/audit{}", next.replace("&amp;", "&"));
        let older = browser.get(&next).await.is(200);
        older.has(&beyond).has("tenant/t000");
        assert!(!older.html.contains(&last));
        let none = browser.get("/ui/audit?result=denied&from=2026-02-30").await;
        none.has("a day is written as 2026-01-31").has("No row");
        let future = browser.get("/ui/audit?from=2999-01-01").await;
        future.is(200).has("No row");
    });
}

#[test]
fn a_target_that_has_changed_is_shown_again() {
    tell(|ops, _| async move {
        furnish(&ops).await;
        let mut browser = Browser::of(&ops, OPERATOR).await;
        let query = "operation=delete_namespace&target=pay&tenant=other";
        let form = browser.confirm(query).await.is(200);
        let path = "/v1/tenants/other/namespaces/pay";
        let patch = json!({ "description": "changed" });
        ops.patch(path, patch).await.is(200);
        let again = browser.perform(&form, &[("typed", "pay")]).await.is(409);
        again.has("has changed meanwhile");
        ops.get(path).await.is(200);
        browser.perform(&again, &[("typed", "pay")]).await.is(303);
        let gone = ops.get(path).await.is(200);
        assert_eq!(gone.body["state"], "deleting");
    });
}

#[test]
fn every_action_of_control_does_what_its_route_does() {
    tell(|ops, plane| async move {
        furnish(&ops).await;
        believe(&ops, &plane).await;
        let mut browser = Browser::of(&ops, OPERATOR).await;
        let policy = "target=g:ops&tenant=acme&action=stream.publish&object=stream:acme/pay/*";
        let grouping = json!({ "groupings": [{ "member": "p:ana", "role": "boss" }] });
        let groupings = "/v1/tenants/acme/rbac/groupings";
        ops.post(groupings, grouping).await.is(201);
        let made = json!({ "name": "ci", "subject": "p:ci" });
        let made = ops.post("/v1/tenants/acme/api-keys", made).await.is(201);
        let prefix = made.body["prefix"].as_str().unwrap();
        let revoke = format!("operation=revoke_api_key&target=ci&tenant=acme&prefix={prefix}");
        for (query, written, back, says) in [
            (
                &*format!("operation=add_policy&{policy}"),
                &[][..],
                "/ui/tenants/acme/access",
                "g:ops may stream.publish",
            ),
            (
                &*format!("operation=remove_policy&{policy}"),
                &[],
                "/ui/tenants/acme/access",
                "is removed",
            ),
            (
                "operation=remove_grouping&target=p:ana&tenant=acme&role=boss",
                &[],
                "/ui/tenants/acme/access",
                "has the role boss no more",
            ),
            (
                "operation=remove_provider&target=https://idp.example&tenant=acme",
                &[("typed", "https://idp.example")],
                "/ui/tenants/acme/providers",
                "is believed no more",
            ),
            (
                &*revoke,
                &[("typed", "ci")],
                "/ui/tenants/acme/keys",
                "The key ci counts no more",
            ),
            (
                "operation=drain_broker&target=one",
                &[],
                "/ui/placement",
                "Broker one is draining",
            ),
            (
                "operation=activate_broker&target=one",
                &[],
                "/ui/placement",
                "is in use again",
            ),
            (
                "operation=rebalance_stream&target=pay/orders&tenant=acme",
                &[("strategy", "minimize_movement")],
                "",
                "",
            ),
            (
                "operation=delete_queue&target=pay/jobs&tenant=acme",
                &[("typed", "pay/jobs")],
                "",
                "",
            ),
            (
                "operation=delete_stream&target=pay/refunds&tenant=acme",
                &[("typed", "pay/refunds")],
                "",
                "",
            ),
        ] {
            let form = browser.confirm(query).await.is(200);
            let done = browser.perform(&form, written).await.is(303);
            if !back.is_empty() {
                assert_eq!(done.header("location"), back);
            }
            // Said on whichever page comes next.
            let next = browser.get("/ui/about").await;
            next.has(says);
            assert!(
                !next.html.contains("Nothing was done"),
                "{query}: {next:#?}"
            );
        }
        let keys = ops.get("/v1/tenants/acme/api-keys").await.is(200);
        assert_eq!(keys.body["api_keys"], json!([]));
        let queue = "/v1/tenants/acme/namespaces/pay/queues/jobs";
        let queue = ops.get(queue).await.is(200);
        assert_eq!(queue.body["state"], "deleting");
        // The lead is given away by whoever has it, to somebody who is there.
        let query = "operation=transfer_raft_leader&target=nobody";
        let form = browser.confirm(query).await.is(200);
        browser.perform(&form, &[]).await.is(303);
        browser.get("/ui/raft").await.has("Nothing was done: ");
    });
}

#[test]
fn what_a_confirm_page_says_of_the_audit_log_is_what_is_written() {
    // Beside data cores, in `pages`, and with a master key, in `identity`.
    const ELSEWHERE: [&str; 5] = [
        "replay_dead_letter",
        "purge_dead_letter",
        "redrive_dead_letters",
        "close_session",
        "rotate_signing_keys",
    ];
    tell(|ops, plane| async move {
        furnish(&ops).await;
        believe(&ops, &plane).await;
        let mut browser = Browser::of(&ops, OPERATOR).await;
        let grouping = json!({ "groupings": [{ "member": "p:ana", "role": "boss" }] });
        let groupings = "/v1/tenants/acme/rbac/groupings";
        ops.post(groupings, grouping).await.is(201);
        let made = json!({ "name": "ci", "subject": "p:ci" });
        let made = ops.post("/v1/tenants/acme/api-keys", made).await.is(201);
        let prefix = made.body["prefix"].as_str().unwrap();
        let policy = "&tenant=acme&action=stream.publish&object=stream:acme/pay/*";
        let key = format!("&tenant=acme&prefix={prefix}");
        let mut left: BTreeSet<&str> = Operation::ALL.iter().map(|one| one.word()).collect();
        left.retain(|word| !ELSEWHERE.contains(word));
        for (word, target, more) in [
            ("add_policy", "g:ops", policy),
            ("remove_policy", "g:ops", policy),
            ("remove_grouping", "p:ana", "&tenant=acme&role=boss"),
            ("remove_provider", "https://idp.example", "&tenant=acme"),
            ("revoke_api_key", "ci", &key),
            ("drain_broker", "one", ""),
            ("activate_broker", "one", ""),
            ("rebalance_stream", "pay/orders", "&tenant=acme"),
            (
                "transfer_leadership",
                "pay/orders",
                "&tenant=acme&partition=0",
            ),
            ("delete_stream", "pay/refunds", "&tenant=acme"),
            ("restore_stream", "pay/refunds", "&tenant=acme"),
            ("delete_queue", "pay/jobs", "&tenant=acme"),
            ("restore_queue", "pay/jobs", "&tenant=acme"),
            ("delete_cache", "pay/hot", "&tenant=acme"),
            ("restore_cache", "pay/hot", "&tenant=acme"),
            ("delete_namespace", "pay", "&tenant=other"),
            ("restore_namespace", "pay", "&tenant=other"),
            ("delete_tenant", "other", ""),
            ("restore_tenant", "other", ""),
            ("transfer_raft_leader", "nobody", ""),
        ] {
            let query = format!("operation={word}&target={target}{more}");
            let form = browser.confirm(&query).await.is(200);
            let promised = form.promised();
            let before = rows(&ops, &promised.0).await.len();
            let written = [("typed", target), ("force", "yes"), ("broker", "one")];
            browser.perform(&form, &written).await.is(303);
            println!("{word}: {promised:?}");
            kept(&ops, before, &promised).await;
            assert!(left.remove(word), "{word}");
        }
        // It says whose policies they are, too.
        let policies = "/v1/audit?action=add_policies";
        let policies = ops.get(policies).await.is(200).body;
        assert_eq!(policies["rows"][0]["tenant"], "acme");
        // Nobody can ask for this one yet.
        assert_eq!(left.into_iter().collect::<Vec<_>>(), ["delete_cursor"]);
        let cursor = "operation=delete_cursor&target=a&tenant=acme";
        browser.confirm(cursor).await.is(404);
    });
}

#[test]
fn a_tenants_administrator_sees_that_tenant_and_no_other() {
    tell(|ops, plane| async move {
        furnish(&ops).await;
        believe(&ops, &plane).await;
        let secret = key_of(&plane, "everything").await;
        let mut browser = Browser::of(&ops, &secret).await;
        let list = browser.get("/ui/tenants").await.is(200);
        list.has("/ui/tenants/acme/namespaces");
        assert!(!list.html.contains(">other<"), "{list:#?}");
        let map = browser.get("/ui/placement?tenant=other").await.is(200);
        map.has("orders");
        // Where brokers are is not a tenant's business.
        for address in ["n1:7420", "localhost:4433"] {
            assert!(!map.html.contains(address), "{map:#?}");
        }
        for page in ["namespaces", "access", "providers", "keys"] {
            let own = format!("/ui/tenants/acme/{page}");
            browser.get(&own).await.is(200);
            let others = format!("/ui/tenants/other/{page}");
            browser.get(&others).await.is(404);
        }
        browser.get("/ui/raft").await.is(403);
        let rows = browser.get("/ui/audit?tenant=other").await.is(200);
        assert!(!rows.html.contains("tenant/other"), "{rows:#?}");
        for (query, status) in [
            ("operation=delete_tenant&target=acme", 403),
            ("operation=delete_tenant&target=other", 404),
            ("operation=delete_namespace&target=pay&tenant=other", 404),
            ("operation=drain_broker&target=one", 403),
            ("operation=transfer_raft_leader&target=n1", 403),
            ("operation=rotate_signing_keys&target=other", 404),
        ] {
            browser.confirm(query).await.is(status);
        }
        let form = browser.confirm("operation=delete_cache&target=pay/hot&tenant=acme");
        let form = form.await.is(200);
        browser
            .perform(&form, &[("typed", "pay/hot")])
            .await
            .is(303);
        browser
            .get("/ui/about")
            .await
            .has("cache pay/hot is deleted");
        // Who manages streams alone has nothing to see here.
        let streams = key_of(&plane, "streams").await;
        Browser::new(&ops).log_in(&streams).await.is(403);
        // The first that was refused has its row, what followed is counted.
        let hers = "/v1/audit?principal=acme/p:everything";
        let rows = ops.get(hers).await.is(200);
        let rows = rows.body["rows"].as_array().unwrap().clone();
        let denied = rows.iter().filter(|row| row["result"] == "denied");
        let denied: Vec<_> = denied.map(|row| &row["action"]).collect();
        assert_eq!(denied, ["GET /ui/tenants/{tenant}/namespaces"]);
    });
}

#[test]
fn who_only_reads_learns_of_no_rule_no_key_and_no_row_of_the_audit_log() {
    tell(|ops, plane| async move {
        furnish(&ops).await;
        believe(&ops, &plane).await;
        let rule = |subject: &str, action: &str, object: &str| json!({ "policies": [{ "subject": subject, "action": action, "object": object }] });
        let policies = "/v1/tenants/acme/rbac/policies";
        let publishes = rule("p:ci", "stream.publish", "stream:acme/pay/*");
        ops.post(policies, publishes).await.is(201);
        let made = json!({ "name": "ci", "subject": "p:ci" });
        ops.post("/v1/tenants/acme/api-keys", made).await.is(201);
        let hot = "/v1/tenants/acme/namespaces/pay/caches/hot?force=true";
        ops.delete(hot).await.is(202);
        let rows = ops.get("/v1/audit?action=delete").await.is(200);
        let by = rows.body["rows"][0]["principal"].as_str().unwrap();
        assert!(!by.is_empty());
        let mut operator = Browser::of(&ops, OPERATOR).await;
        let mut reader = Browser::of(&ops, &key_of(&plane, "reader").await).await;
        let mut wrong = Vec::new();
        for page in ["tenants/acme/access", "tenants/acme/providers", "audit"] {
            let path = format!("/ui/{page}");
            operator.get(&path).await.is(200);
            if reader.get(&path).await.status != 403 {
                wrong.push(path);
            }
        }
        // What is asked about is not looked for.
        for (query, there) in [
            (
                "operation=remove_policy&target=p:ci&action=stream.publish&object=stream:acme/pay/*",
                200,
            ),
            (
                "operation=remove_policy&target=p:bo&action=stream.publish&object=stream:acme/pay/*",
                404,
            ),
            ("operation=remove_grouping&target=p:bo&role=boss", 404),
            ("operation=remove_provider&target=https://idp.example", 200),
            (
                "operation=remove_provider&target=https://other.example",
                404,
            ),
            ("operation=revoke_api_key&target=bo&prefix=0", 404),
        ] {
            let query = format!("{query}&tenant=acme");
            operator.confirm(&query).await.is(there);
            if reader.confirm(&query).await.status != 403 {
                wrong.push(query);
            }
        }
        // Who deleted something is in the audit log, and told from there.
        let deleted = "/ui/caches/acme/pay/hot";
        operator.get(deleted).await.is(200).has(by);
        let page = reader.get(deleted).await.is(200);
        page.has("Data goes from");
        if page.html.contains(by) {
            wrong.push(deleted.to_owned());
        }
        // Who manages a tenant sees its keys and its rows, and its rules only by another right.
        let manager = role("manager", "acme", "tenant.manage", "tenant:acme");
        let manager = key(&plane, 78, &manager).await;
        let reads = rule("p:manager", "admin:read", "tenant:acme");
        ops.post(policies, reads).await.is(201);
        let mut manager = Browser::of(&ops, &manager).await;
        manager.get("/ui/audit").await.is(200);
        let rules = "/ui/tenants/acme/access";
        if manager.get(rules).await.status != 403 {
            wrong.push(format!("{rules} by who manages"));
        }
        let keys = "/ui/tenants/acme/keys";
        operator.get(keys).await.is(200).has("stream.publish");
        let page = manager.get(keys).await.is(200);
        page.has("p:ci");
        if page.html.contains("stream.publish") {
            wrong.push(keys.to_owned());
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

#[test]
fn words_of_somebody_who_means_harm_stay_text() {
    tell(|ops, _| async move {
        furnish(&ops).await;
        let word = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}";
        let tenant = json!({ "description": word });
        ops.patch("/v1/tenants/acme", tenant).await.is(200);
        let namespace = json!({ "description": word });
        let path = "/v1/tenants/acme/namespaces/pay";
        ops.patch(path, namespace).await.is(200);
        let made = json!({ "name": word, "subject": "p:ci" });
        ops.post("/v1/tenants/acme/api-keys", made).await.is(201);
        let mut browser = Browser::of(&ops, OPERATOR).await;
        let encoded = encoded(word);
        for path in [
            "/ui/tenants".to_owned(),
            "/ui/tenants/acme/namespaces".to_owned(),
            "/ui/tenants/acme/keys".to_owned(),
            format!("/ui/tenants?q={encoded}"),
            format!("/ui/audit?q={encoded}&principal={encoded}&from={encoded}"),
            format!("/ui/placement?q={encoded}&tenant={encoded}&sort={encoded}"),
        ] {
            let page = browser.get(&path).await.is(200);
            page.has("&lt;script&gt;");
            assert!(!page.html.contains("<script>"), "{path}");
            assert!(!page.html.contains("<img src=x"), "{path}");
        }
        let query = format!("operation=delete_namespace&tenant=acme&target={encoded}");
        let page = browser.confirm(&query).await.is(404);
        assert!(!page.html.contains("<script>"));
        let page = browser.get(&format!("/ui/{encoded}")).await.is(404);
        assert!(!page.html.contains("<script>"));
        let page = browser.get(&format!("/ui/login?next={encoded}")).await;
        assert!(!page.html.contains("<script>"));
    });
}

/// The next event with data.
async fn event(body: &mut hyper::body::Incoming) -> Option<serde_json::Value> {
    let mut text = String::new();
    loop {
        let frame = body.frame().await?.unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        let data = text.lines().find_map(|line| line.strip_prefix("data: "));
        if let Some(data) = data
            && text.ends_with("\n\n")
        {
            return Some(serde_json::from_str(data).unwrap());
        }
    }
}

async fn follow(browser: &Browser, path: &str) -> hyper::Response<hyper::body::Incoming> {
    let path = format!("/ui/live?path={path}");
    browser.asking().send("GET", &path, None).await
}

#[test]
fn a_page_that_is_looked_at_is_told_what_has_changed() {
    tell(|ops, _| async move {
        let mut browser = Browser::of(&ops, OPERATOR).await;
        let page = browser.get("/ui/raft").await.is(200);
        page.has("data-live=\"version\"");
        ops.post("/v1/tenants", json!({ "name": "a" }))
            .await
            .is(201);
        // What has changed since the page was made is told, also that before the stream.
        let followed = follow(&browser, "/ui/raft").await;
        assert_eq!(followed.status(), 200);
        assert_eq!(followed.headers()["content-type"], "text/event-stream");
        let mut body = followed.into_body();
        let first = event(&mut body).await.unwrap();
        assert_eq!(first["stale"], false, "{first}");
        let version = first["set"]["version"].as_str().unwrap().to_owned();
        ops.post("/v1/tenants", json!({ "name": "b" }))
            .await
            .is(201);
        let mut second = event(&mut body).await.unwrap();
        while second["set"]["version"].is_null() {
            second = event(&mut body).await.unwrap();
        }
        assert_ne!(second["set"]["version"], version);
        // So many and no more, and nothing where there is no page.
        let mut others = Vec::new();
        for _ in 1..4 {
            let other = follow(&browser, "/ui/raft").await;
            assert_eq!(other.status(), 200);
            others.push(other);
        }
        assert_eq!(follow(&browser, "/ui/raft").await.status(), 429);
        for _ in 1..LIVE_STREAMS_MAX / 4 {
            let more = Browser::of(&ops, OPERATOR).await;
            for _ in 0..4 {
                let other = follow(&more, "/ui/raft").await;
                assert_eq!(other.status(), 200);
                others.push(other);
            }
        }
        let last = Browser::of(&ops, OPERATOR).await;
        assert_eq!(follow(&last, "/ui/raft").await.status(), 429);
        others.clear();
        assert_eq!(follow(&browser, "/ui/nowhere").await.status(), 404);
        // It ends with the session.
        let csrf = page.field("csrf");
        browser.post("/ui/logout", &[("csrf", &csrf)]).await.is(303);
        while event(&mut body).await.is_some() {}
    });
}

#[test]
fn a_session_ends_with_its_credential() {
    tell_with_access(config(), |ops, tables| async move {
        let mut browser = Browser::of(&ops, OPERATOR).await;
        browser.get("/ui/raft").await.is(200);
        let mut body = follow(&browser, "/ui/raft").await.into_body();
        // The operator's token is in the configuration no more.
        tables
            .send(Arc::new(AccessTable::new([entry(PLAIN, "data")])))
            .unwrap();
        while event(&mut body).await.is_some() {}
        let over = browser.get("/ui/raft").await.is(303);
        assert!(over.header("location").contains("problem=expired"));
        assert!(!browser.cookies.contains_key("pinion"));
    });
}

#[test]
fn who_guesses_too_often_waits() {
    let config = ApiConfig {
        strangers: Rate {
            per_second: 1,
            burst: 4,
        },
        ..config()
    };
    tell_with(config, |ops, _| async move {
        let mut browser = Browser::new(&ops);
        browser.log_in("a guess").await.is(401);
        browser.log_in("a guess").await.is(401);
        let form = browser.get("/ui/login").await.is(429);
        assert_eq!(form.header("retry-after"), "1");
        let fields = [("csrf", "x"), ("token", OPERATOR)];
        let limited = browser.post("/ui/login", &fields).await.is(429);
        limited.has("Too many tries");
    });
}
