//! Every path of the dashboard, and every action from it, by everybody in a browser: logged
//! in where they can be.
//!
//! Paths are those that the dashboard finds its way by; one without a row fails, as does a
//! row without a path, and an action without one.

use std::collections::BTreeMap;

use pinion_admin_api::dashboard_paths;
use pinion_admin_ui::model::Operation;
use serde_json::json;

use super::everybody;
use crate::domains::{CLIENT, Place, tell};
use crate::http::Client;
use crate::roles::believe;
use crate::support::browser::{Browser, encoded};

/// In the columns of the table of routes. 1 is the way to the login, or that there is no
/// session; 3 and 4 are 403 and 404. Who has `admin:read` nowhere cannot log in.
const TABLE: &[(&str, &str)] = &[
    ("GET /ui/login", "yyyyyyyyyyyyyy"),
    ("POST /ui/login", "113y3333333yyy"),
    // There is no provider of that id, and nobody is on the way back from one.
    ("GET /ui/login/oidc/{id}", "44444444444444"),
    ("GET /ui/login/oidc/callback", "33333333333333"),
    ("POST /ui/logout", "111y1111111yyy"),
    ("POST /ui/theme", "111y1111111yyy"),
    ("GET /ui/confirm", "111y1111111yyy"),
    ("POST /ui/do", "111y1111111yyy"),
    ("GET /ui/live", "111y1111111yyy"),
    ("GET /assets/{*file}", "yyyyyyyyyyyyyy"),
    ("GET /", "111y1111111yyy"),
    ("GET /ui/streams", "111y1111111yyy"),
    (
        "GET /ui/streams/{tenant}/{namespace}/{*name}",
        "11141111111yyy",
    ),
    ("GET /ui/queues", "111y1111111yyy"),
    (
        "GET /ui/queues/{tenant}/{namespace}/{*name}",
        "11141111111yyy",
    ),
    (
        "GET /ui/in-flight/{tenant}/{namespace}/{*name}",
        "11141111111yyy",
    ),
    (
        "GET /ui/dead-letters/{tenant}/{namespace}/{*name}",
        "11141111111yyy",
    ),
    ("GET /ui/caches", "111y1111111yyy"),
    (
        "GET /ui/caches/{tenant}/{namespace}/{*name}",
        "11141111111yyy",
    ),
    ("GET /ui/sessions", "111y1111111yyy"),
    ("GET /ui/placement", "111y1111111yyy"),
    ("GET /ui/storage", "1113111111133y"),
    ("GET /ui/raft", "1113111111133y"),
    ("GET /ui/tenants", "111y1111111yyy"),
    ("GET /ui/tenants/{tenant}/namespaces", "11141111111yyy"),
    ("GET /ui/tenants/{tenant}/access", "111411111113yy"),
    ("GET /ui/tenants/{tenant}/providers", "111411111113yy"),
    ("GET /ui/tenants/{tenant}/keys", "111411111113yy"),
    ("GET /ui/audit", "111y11111113yy"),
    ("GET /ui/metrics", "1113111111133y"),
    ("GET /ui/latency", "1113111111133y"),
    ("GET /ui/about", "111y1111111yyy"),
];

/// Actions, by whether their confirm page is shown: who may not do it sees none. With the
/// query that each is asked for by; `{…}` is what the story has made.
const ACTIONS: &[(Operation, &str, &str)] = &[
    (
        Operation::ReplayDeadLetter,
        "target=0/{letter}&queue=pay/eu/jobs&tenant=acme",
        WITHIN,
    ),
    (
        Operation::PurgeDeadLetter,
        "target=0/{letter}&queue=pay/eu/jobs&tenant=acme",
        WITHIN,
    ),
    (
        Operation::RedriveDeadLetters,
        "target=pay/eu/jobs&tenant=acme",
        WITHIN,
    ),
    (Operation::CloseSession, "target=0.0&tenant=acme", WITHIN),
    // No route does that yet.
    (
        Operation::DeleteCursor,
        "target=x&tenant=acme",
        "11141111111444",
    ),
    (
        Operation::DeleteStream,
        "target=pay/orders&tenant=acme",
        WITHIN,
    ),
    (
        Operation::DeleteQueue,
        "target=pay/eu/jobs&tenant=acme",
        WITHIN,
    ),
    (Operation::DeleteCache, "target=pay/hot&tenant=acme", WITHIN),
    (
        Operation::RebalanceStream,
        "target=pay/orders&tenant=acme",
        WITHIN,
    ),
    (
        Operation::TransferLeadership,
        "target=pay/orders&tenant=acme&partition=0",
        WITHIN,
    ),
    (Operation::DrainBroker, "target=n1", OPERATORS),
    (Operation::ActivateBroker, "target=n1", OPERATORS),
    (Operation::TransferRaftLeader, "target=n1", OPERATORS),
    // Whose tenant it is sees it, and may not end it.
    (Operation::DeleteTenant, "target=acme", "1114111111133y"),
    (Operation::DeleteNamespace, "target=pay&tenant=acme", WITHIN),
    (Operation::RestoreTenant, "target=late", "1114111111144y"),
    (
        Operation::RestoreNamespace,
        "target=old&tenant=acme",
        WITHIN,
    ),
    (
        Operation::RestoreStream,
        "target=pay/old&tenant=acme",
        WITHIN,
    ),
    (
        Operation::RestoreQueue,
        "target=pay/old&tenant=acme",
        WITHIN,
    ),
    (
        Operation::RestoreCache,
        "target=pay/old&tenant=acme",
        WITHIN,
    ),
    (
        Operation::AddPolicy,
        "target=p:ana&tenant=acme&action=stream.publish&object=stream:acme/pay/*",
        WITHIN,
    ),
    (
        Operation::RemovePolicy,
        "target=p:viewer&tenant=acme&action=rbac.view&object=tenant:acme",
        WITHIN,
    ),
    (
        Operation::RemoveGrouping,
        "target=p:ana&tenant=acme&role=boss",
        WITHIN,
    ),
    (
        Operation::RemoveProvider,
        "target=https://idp.example&tenant=acme",
        WITHIN,
    ),
    (Operation::RotateSigningKeys, "target=acme", WITHIN),
    (
        Operation::RevokeApiKey,
        "target=ci&tenant=acme&prefix={prefix}",
        WITHIN,
    ),
];

/// What is inside a tenant: who may do everything there, and operators.
const WITHIN: &str = "111411111113yy";
/// What is the cluster's.
const OPERATORS: &str = "1113111111133y";

/// Somebody in front of a browser.
struct Visitor {
    who: &'static str,
    client: Client,
    browser: Browser,
    /// The token of their forms, if they are logged in.
    csrf: Option<String>,
}

impl Visitor {
    async fn of(who: &'static str, client: &Client) -> Self {
        let mut browser = Browser::new(client);
        let shown = client.bearer.as_deref().unwrap_or_default();
        let csrf = match browser.log_in(shown).await.status {
            303 => Some(browser.get("/ui/about").await.is(200).field("csrf")),
            _ => None,
        };
        Self {
            who,
            client: client.clone(),
            browser,
            csrf,
        }
    }

    /// The verdict on a request, and its status. No body is waited for: one does not end.
    async fn ask(&self, method: &str, path: &str) -> (char, u16) {
        let asking = self.browser.asking();
        let csrf = encoded(self.csrf.as_deref().unwrap_or_default());
        let answered = match method {
            "POST" => {
                let form = "application/x-www-form-urlencoded";
                let asking = asking.with("content-type", form);
                let asking = asking.with("origin", self.browser.origin());
                let fields = format!("csrf={csrf}&theme=dark&request_id=1");
                asking.send(method, path, Some(fields)).await
            }
            _ => asking.send(method, path, None).await,
        };
        let status = answered.status().as_u16();
        let to = answered.headers().get("location");
        let to = to.map_or("", |to| to.to_str().unwrap());
        let verdict = match status {
            401 => '1',
            // What is sent by who has no session is 401, not this.
            303 if method == "GET" && to.starts_with("/ui/login") => '1',
            403 => '3',
            404 => '4',
            _ => 'y',
        };
        (verdict, status)
    }
}

/// The path of something that there is.
fn filled(template: &str) -> String {
    let name = match template {
        path if path.contains("/streams/") => "orders",
        path if path.contains("/caches/") => "hot",
        _ => "eu/jobs",
    };
    let path = template
        .replace("{tenant}", "acme")
        .replace("{namespace}", "pay")
        .replace("{*name}", name)
        .replace("{*file}", "pinion.css")
        .replace("{id}", "nobody");
    match template {
        "/ui/live" => format!("{path}?path=/ui/about"),
        _ => path,
    }
}

async fn visitors(place: &Place) -> Vec<Visitor> {
    let mut all = Vec::new();
    for (who, client) in everybody(&place.ops, &place.plane).await {
        all.push(Visitor::of(who, &client).await);
    }
    all
}

#[test]
fn every_path_of_the_dashboard_answers_everybody_as_the_table_says() {
    let mut table: BTreeMap<&str, &str> = TABLE.iter().copied().collect();
    assert_eq!(table.len(), TABLE.len(), "each path once");
    tell(|place| async move {
        believe(&place.ops, &place.plane).await;
        let visitors = visitors(&place).await;
        let (mut rows, mut refused) = (0, 0);
        for (method, template) in dashboard_paths() {
            let name = format!("{method} {template}");
            let row = table.remove(name.as_str());
            let row = row.unwrap_or_else(|| panic!("{name} has no row in the table"));
            assert_eq!(row.len(), visitors.len(), "{name}");
            for (visitor, expected) in visitors.iter().zip(row.chars()) {
                let (verdict, status) = match name.as_str() {
                    "POST /ui/login" => {
                        let mut another = Browser::new(&visitor.client);
                        let shown = visitor.client.bearer.as_deref().unwrap_or_default();
                        let status = another.log_in(shown).await.status;
                        let verdict = match status {
                            401 => '1',
                            403 => '3',
                            303 => 'y',
                            other => panic!("{other}"),
                        };
                        (verdict, status)
                    }
                    // A session of its own, as nothing is left of it.
                    "POST /ui/logout" => {
                        let another = Visitor::of(visitor.who, &visitor.client).await;
                        another.ask(method, &filled(template)).await
                    }
                    _ => visitor.ask(method, &filled(template)).await,
                };
                let who = visitor.who;
                assert_eq!(verdict, expected, "{name} asked by {who}: {status}");
                assert!(status < 500, "{name} asked by {who}: {status}");
                rows += 1;
                refused += usize::from(verdict != 'y');
            }
        }
        assert!(table.is_empty(), "rows without a path: {table:?}");
        println!("authorisation matrix: {rows} rows of the dashboard, {refused} refused");
    });
}

/// What can be taken back, and whatever else actions are about: the letter and the prefix.
async fn furnish(place: &Place) -> (u64, String) {
    let ops = &place.ops;
    believe(ops, &place.plane).await;
    let namespaces = "/v1/tenants/acme/namespaces";
    ops.post("/v1/tenants", json!({ "name": "late" }))
        .await
        .is(201);
    ops.post(namespaces, json!({ "name": "old" })).await.is(201);
    ops.delete("/v1/tenants/late?force=true").await.is(202);
    let old = format!("{namespaces}/old?force=true");
    ops.delete(&old).await.is(202);
    for kind in ["streams", "queues", "caches"] {
        let path = format!("{namespaces}/pay/{kind}");
        let wanted = json!({
            "name": "old",
            "spec": { "durability": "ephemeral" },
            "placement": { "pinned": "n1" },
        });
        ops.post(&path, wanted).await.is(201);
        let old = format!("{path}/old?force=true");
        ops.delete(&old).await.is(202);
    }
    let groupings = json!({ "groupings": [{ "member": "p:ana", "role": "boss" }] });
    ops.post("/v1/tenants/acme/rbac/groupings", groupings)
        .await
        .is(201);
    let made = json!({ "name": "ci", "subject": "p:ci" });
    let made = ops.post("/v1/tenants/acme/api-keys", made).await.is(201);
    let prefix = made.body["prefix"].as_str().unwrap().to_owned();
    place.put(0, &["a", "b"]);
    let letter = place.kill(0, "boom");
    place.data.connect(0, CLIENT);
    (letter, prefix)
}

#[test]
fn every_action_is_shown_to_whom_the_table_says() {
    tell(|place| async move {
        let (letter, prefix) = furnish(&place).await;
        let visitors = visitors(&place).await;
        let version = async || {
            let info = place.ops.get("/v1/system/info").await.is(200);
            info.body["version"].clone()
        };
        let before = version().await;
        let (mut rows, mut refused) = (0, 0);
        for operation in Operation::ALL {
            let mut found = ACTIONS.iter().filter(|(of, ..)| *of == operation);
            let (_, query, row) = found
                .next()
                .unwrap_or_else(|| panic!("{operation:?} has no row in the table"));
            assert!(found.next().is_none(), "{operation:?} once");
            assert_eq!(row.len(), visitors.len(), "{operation:?}");
            let query = query
                .replace("{letter}", &letter.to_string())
                .replace("{prefix}", &prefix);
            let path = format!("/ui/confirm?operation={}&{query}", operation.word());
            for (visitor, expected) in visitors.iter().zip(row.chars()) {
                let (verdict, status) = visitor.ask("GET", &path).await;
                let who = visitor.who;
                assert_eq!(verdict, expected, "{path} asked by {who}: {status}");
                // Shown is the page, and not what is wrong with the query.
                assert!(verdict != 'y' || status == 200, "{path}: {status}");
                rows += 1;
                refused += usize::from(verdict != 'y');
            }
        }
        assert_eq!(ACTIONS.len(), Operation::ALL.len());
        println!("authorisation matrix: {rows} rows of actions, {refused} refused");
        assert_eq!(before, version().await, "nothing was changed");
    });
}
