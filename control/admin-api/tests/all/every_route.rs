//! Every route, asked wrongly in every way there is: made from the table of routes, so that
//! one that comes later is asked, too. Each is refused for what is wrong with it, nothing is
//! changed, and nothing of the inside is told.

use std::collections::{BTreeMap, BTreeSet};

use pinion_admin_api::limits::BODY_BYTES_MAX;
use pinion_admin_api::{Route, Verb, routes};
use serde_json::{Value, json};

use crate::http::{Answered, Client, tell};
use crate::matrix::{body, filled, path};
use crate::roles::{believe, furnish};

/// Methods that a path may be asked with.
const METHODS: [&str; 8] = [
    "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND",
];

/// What a parameter cannot be, by its name.
const WRONG: &[(&str, &[&str])] = &[
    (
        "page_size",
        &["0", "1001", "-1", "1e3", "x", "", "99999999999999999999"],
    ),
    ("page_token", &["%25", "eA", "..%2f..%2fetc", "AAAA"]),
    ("limit", &["0", "1001", "-1", "x", ""]),
    ("offset", &["-1", "x", "1.5", "99999999999999999999"]),
    ("consistency", &["eventual", "STALE", ""]),
    ("deleted", &["perhaps", "1"]),
    ("force", &["perhaps", "yes"]),
    ("grace_ms", &["-1", "x", "99999999999999999999"]),
    ("from_version", &["-1", "x", ""]),
    ("family", &["x", "-1", "65536"]),
    ("resources", &["-1", "x"]),
    ("dry_run", &["perhaps"]),
    ("from", &["yesterday"]),
    ("to", &["2026-02-30"]),
];

/// What nothing is called, as one segment of a path.
const NOBODY: [&str; 9] = [
    "nobody",
    "..",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "%22%27%3B--",
    "%00",
    "%F0%9F%A6%80",
    "-1",
    "999999999999",
];

/// The route as an operator asks it who means it, on what there is, and who would change
/// nothing even if it were right: no object has this version.
fn client(ops: &Client, route: &Route) -> Client {
    match route.method {
        Verb::Get => ops.clone(),
        _ => ops
            .with("if-match", "\"999999999\"")
            .with("x-confirm", "true"),
    }
}

fn right_body(route: &Route) -> Option<String> {
    body(route).map(|body| body.to_string())
}

/// Fails where an answer tells of the inside, or could be read as a page.
#[track_caller]
fn tells_nothing(asked: &str, answered: &Answered) {
    let text = answered.body.to_string();
    for word in [
        "panicked",
        ".rs:",
        "/src/",
        "stack backtrace",
        "No such file",
    ] {
        assert!(!text.contains(word), "{asked}: {text}");
    }
    assert!(answered.status < 500, "{asked}: {answered:#?}");
    answered.is_problem();
}

/// Everything that the metadata has, but for brokers: those of these stories never say that
/// they live, and are down after a while whoever asks.
async fn state(ops: &Client) -> Vec<Value> {
    let snapshot = ops.get("/v1/metadata/snapshot").await.is(200);
    let mut objects = snapshot.body["objects"].as_array().unwrap().clone();
    objects.retain(|object| !object["key"].as_str().unwrap().starts_with("broker/"));
    assert!(!objects.is_empty());
    objects
}

/// A story at whose end everything is as it was.
fn unchanged<F: Future<Output = usize>>(story: impl FnOnce(Client) -> F) {
    tell(|ops, plane| async move {
        furnish(&ops).await;
        believe(&ops, &plane).await;
        let before = state(&ops).await;
        let asked = story(ops.clone()).await;
        println!("{asked} requests");
        assert!(asked >= 25, "{asked} requests");
        assert_eq!(state(&ops).await, before, "something was changed");
    });
}

#[test]
fn a_path_is_asked_by_its_methods_alone_and_says_which_those_are() {
    unchanged(|ops| async move {
        let mut paths: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for route in routes() {
            let of = path(route).split('?').next().unwrap().to_owned();
            paths.entry(of).or_default().insert(route.method.text());
        }
        let mut asked = 0;
        for (path, methods) in &paths {
            for method in METHODS.iter().filter(|method| !methods.contains(*method)) {
                let refused = ops.raw(method, path, None).await;
                let allow: BTreeSet<&str> = refused.header("allow").split(", ").collect();
                assert_eq!(allow, *methods, "{method} {path}");
                tells_nothing(path, &refused);
                refused.refused(405, "method_not_allowed");
                asked += 1;
            }
        }
        asked
    });
}

#[test]
fn parameters_that_there_are_not_or_that_are_wrong_are_refused_by_name() {
    unchanged(|ops| async move {
        let mut asked = 0;
        for route in routes() {
            let (client, of) = (client(&ops, route), path(route));
            let base = of.split('?').next().unwrap();
            let ask = async |query: &str| {
                let of = format!("{base}?{query}");
                let answered = client
                    .raw(route.method.text(), &of, right_body(route))
                    .await;
                tells_nothing(&of, &answered);
                answered
            };
            ask("color=red").await.refused(400, "unknown_parameter");
            asked += 1;
            for name in route.query {
                let twice = ask(&format!("{name}=1&{name}=1")).await;
                assert_eq!(twice.body["details"]["parameter"], *name);
                twice.refused(400, "bad_parameter");
                ask(&format!("{name}=%f"))
                    .await
                    .refused(400, "bad_parameter");
                asked += 2;
                let wrong = WRONG.iter().find(|(known, _)| known == name);
                for value in wrong.map_or(&[][..], |(_, wrong)| *wrong) {
                    // What a route needs besides is there, and right.
                    let more = match route.path {
                        "/v1/audit" | "/v1/metadata/watch" => String::new(),
                        _ if route.query.contains(&"q") => "&q=x".to_owned(),
                        _ if *name != "family" && route.query.contains(&"family") => {
                            "&family=0".to_owned()
                        }
                        _ => String::new(),
                    };
                    let refused = ask(&format!("{name}={value}{more}")).await;
                    assert_eq!(
                        (refused.status, refused.body["code"].as_str()),
                        (400, Some("bad_parameter")),
                        "{} {base}?{name}={value}: {refused:#?}",
                        route.method.text()
                    );
                    asked += 1;
                }
            }
        }
        asked
    });
}

#[test]
fn what_there_is_not_is_not_found_whatever_it_is_called() {
    unchanged(|ops| async move {
        let mut asked = 0;
        for route in routes() {
            // Who needs no credential is told that there is nothing, too.
            let parts = route.path.split('/').filter(|part| part.starts_with('{'));
            for part in parts {
                for nobody in NOBODY {
                    let of = filled(&route.path.replace(part, nobody));
                    let sure = ops.with("x-confirm", "true");
                    let method = route.method.text();
                    let answered = sure.raw(method, &of, right_body(route)).await;
                    // An exchange is refused before it is looked whose it is: this node
                    // issues nothing.
                    let issues = route.path.ends_with("/token/exchange")
                        || route.path.ends_with("/keys/rotate");
                    if issues && answered.status == 503 {
                        continue;
                    }
                    tells_nothing(&of, &answered);
                    assert!(
                        [400, 404].contains(&answered.status),
                        "{method} {of}: {answered:#?}"
                    );
                    asked += 1;
                }
            }
        }
        asked
    });
}

#[test]
fn what_is_not_meant_is_not_done() {
    unchanged(|ops| async move {
        let mut asked = 0;
        for route in routes().filter(|route| route.confirm) {
            for values in [&[][..], &["false"], &["1"], &[""], &["true", "true"]] {
                let with = |client: Client, value: &&str| client.with("x-confirm", *value);
                let client = values.iter().fold(ops.clone(), with);
                let of = path(route);
                let refused = client
                    .raw(route.method.text(), &of, right_body(route))
                    .await;
                tells_nothing(&of, &refused);
                refused.refused(428, "confirmation_required");
                asked += 1;
            }
        }
        // Those that take what is another's connection, or everything there is.
        let confirmed: Vec<&str> = routes()
            .filter(|route| route.confirm)
            .map(|route| route.path)
            .collect();
        assert!(confirmed.contains(&"/v1/backup"), "{confirmed:?}");
        assert!(confirmed.contains(&"/api/v1/sessions/{s}/close"));
        asked
    });
}

#[test]
fn bodies_that_are_not_what_is_asked_for_are_refused_before_anything_is_done() {
    unchanged(|ops| async move {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let bodies = [
            "",
            "{",
            "null",
            "\"x\"",
            "{\"no_such_field\":1}",
            "{\"name\":{}}",
            "{\"name\":\"a\",\"name\":\"b\"}",
            "\u{feff}{}",
            &deep,
        ];
        let mut asked = 0;
        for route in routes().filter(|route| route.body.is_some()) {
            let (client, of) = (client(&ops, route), path(route));
            let method = route.method.text();
            for body in bodies {
                let answered = client.raw(method, &of, Some(body.to_owned())).await;
                // Who issues nothing says so whatever it is asked for.
                if answered.status == 503 && of.contains("/token/exchange") {
                    continue;
                }
                tells_nothing(&of, &answered);
                assert_eq!(answered.status, 400, "{of} {body:.40}: {answered:#?}");
                asked += 1;
            }
            let text = client.with("content-type", "text/plain");
            let refused = text.raw(method, &of, right_body(route)).await;
            tells_nothing(&of, &refused);
            refused.refused(415, "unsupported_media_type");
            let large = " ".repeat(BODY_BYTES_MAX + 1);
            let refused = client.raw(method, &of, Some(large)).await;
            tells_nothing(&of, &refused);
            refused.refused(413, "body_too_large");
            asked += 2;
        }
        asked
    });
}

#[test]
fn names_that_would_be_markup_are_no_names() {
    unchanged(|ops| async move {
        let mut asked = 0;
        for name in [
            "<script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "javascript:alert(1)",
            "a b",
            "a\u{202e}b",
            "../up",
            "a/../b",
            "{{7*7}}",
            "",
            ".",
            "..",
            "a\u{0}b",
            "é",
        ] {
            for path in [
                "/v1/tenants",
                "/v1/tenants/acme/namespaces",
                "/v1/tenants/acme/namespaces/pay/streams",
                "/v1/tenants/acme/namespaces/pay/queues",
                "/v1/tenants/acme/namespaces/pay/caches",
            ] {
                let refused = ops.post(path, json!({ "name": name })).await;
                tells_nothing(path, &refused);
                assert_eq!(refused.status, 400, "{path} {name:?}: {refused:#?}");
                asked += 1;
            }
        }
        asked
    });
}
