//! Every route, asked by everybody: what each of them is answered.
//!
//! The table is written by hand from what the routes promise, and shares nothing with the
//! code that decides. A route without a row fails, as does a row without a route. Calls of
//! gRPC, the dashboard and first days have tables of the same columns.

mod calls;
mod dashboard;
mod first_day;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pinion_admin_api::{PlaneHandle, Route, Verb, routes};
use pinion_plane::{Answer, AuditQuery, AuditResult};
use serde_json::{Value, json};

use crate::host::{Host, PATIENCE, PLAIN, with};
use crate::http::{Answered, Client, tell};
use crate::roles::{ISSUER_PART, ROLES, believe, furnish, key, role};
use crate::schema::{self, wrong};

/// In the order of columns: nobody, a guess, a token for data, another tenant's
/// administrator, a subscriber of one stream, a viewer of rules, who manages streams,
/// queues, caches, the namespace, the tenant, who may see what runs in the tenant, who may
/// do everything in it, an operator. 1, 3 and 4 are 401, 403 and 404; y is let in.
const TABLE: &[(&str, &str)] = &[
    ("GET /healthz", "yyyyyyyyyyyyyy"),
    ("GET /livez", "yyyyyyyyyyyyyy"),
    ("GET /readyz", "yyyyyyyyyyyyyy"),
    ("GET /startupz", "yyyyyyyyyyyyyy"),
    ("GET /health", "yyyyyyyyyyyyyy"),
    ("GET /metrics", "1133333333333y"),
    ("GET /v1/openapi.json", "yyyyyyyyyyyyyy"),
    ("GET /v1/docs", "yyyyyyyyyyyyyy"),
    ("GET /v1/tenants", "11yyyyyyyyyyyy"),
    ("POST /v1/tenants", "1133333333333y"),
    ("GET /v1/tenants/{t}", "1144yyyyyyyyyy"),
    ("PATCH /v1/tenants/{t}", "1144333333y3yy"),
    ("DELETE /v1/tenants/{t}", "1144333333333y"),
    ("POST /v1/tenants/{t}/undelete", "1144333333333y"),
    ("GET /v1/tenants/{t}/namespaces", "1144yyyyyyyyyy"),
    ("POST /v1/tenants/{t}/namespaces", "114433333yy3yy"),
    ("GET /v1/tenants/{t}/namespaces/{ns}", "1144yyyyyyyyyy"),
    ("PATCH /v1/tenants/{t}/namespaces/{ns}", "114433333yy3yy"),
    ("DELETE /v1/tenants/{t}/namespaces/{ns}", "114433333yy3yy"),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/undelete",
        "114433333yy3yy",
    ),
    (
        "GET /v1/tenants/{t}/namespaces/{ns}/streams",
        "1144yyyyyyyyyy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/streams",
        "114433y33yy3yy",
    ),
    (
        "GET /v1/tenants/{t}/namespaces/{ns}/streams/{r}",
        "1144yyy44yyyyy",
    ),
    (
        "PATCH /v1/tenants/{t}/namespaces/{ns}/streams/{r}",
        "114433y33yy3yy",
    ),
    (
        "DELETE /v1/tenants/{t}/namespaces/{ns}/streams/{r}",
        "114433y33yy3yy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/streams/{r}/undelete",
        "114433y33yy3yy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/streams/{r}/rebalance",
        "114433y33yy3yy",
    ),
    (
        "DELETE /v1/tenants/{t}/namespaces/{ns}/streams/{r}/rebalance",
        "114433y33yy3yy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/streams/{r}/shards/{n}/transfer-leadership",
        "114433y33yy3yy",
    ),
    (
        "GET /v1/tenants/{t}/namespaces/{ns}/queues",
        "1144yyyyyyyyyy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/queues",
        "1144333y3yy3yy",
    ),
    (
        "GET /v1/tenants/{t}/namespaces/{ns}/queues/{r}",
        "11444y4y4yyyyy",
    ),
    (
        "PATCH /v1/tenants/{t}/namespaces/{ns}/queues/{r}",
        "1144333y3yy3yy",
    ),
    (
        "DELETE /v1/tenants/{t}/namespaces/{ns}/queues/{r}",
        "1144333y3yy3yy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/queues/{r}/undelete",
        "1144333y3yy3yy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/queues/{r}/rebalance",
        "1144333y3yy3yy",
    ),
    (
        "DELETE /v1/tenants/{t}/namespaces/{ns}/queues/{r}/rebalance",
        "1144333y3yy3yy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/queues/{r}/shards/{n}/transfer-leadership",
        "1144333y3yy3yy",
    ),
    (
        "GET /v1/tenants/{t}/namespaces/{ns}/caches",
        "1144yyyyyyyyyy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/caches",
        "11443333yyy3yy",
    ),
    (
        "GET /v1/tenants/{t}/namespaces/{ns}/caches/{r}",
        "11444y44yyyyyy",
    ),
    (
        "PATCH /v1/tenants/{t}/namespaces/{ns}/caches/{r}",
        "11443333yyy3yy",
    ),
    (
        "DELETE /v1/tenants/{t}/namespaces/{ns}/caches/{r}",
        "11443333yyy3yy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/caches/{r}/undelete",
        "11443333yyy3yy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/caches/{r}/rebalance",
        "11443333yyy3yy",
    ),
    (
        "DELETE /v1/tenants/{t}/namespaces/{ns}/caches/{r}/rebalance",
        "11443333yyy3yy",
    ),
    (
        "POST /v1/tenants/{t}/namespaces/{ns}/caches/{r}/shards/{n}/transfer-leadership",
        "11443333yyy3yy",
    ),
    ("GET /v1/placements", "11yyyyyyyyyyyy"),
    ("GET /v1/brokers", "1133333333333y"),
    ("POST /v1/brokers", "1133333333333y"),
    ("GET /v1/brokers/{b}", "1133333333333y"),
    ("POST /v1/brokers/{b}/drain", "1133333333333y"),
    ("POST /v1/brokers/{b}/activate", "1133333333333y"),
    ("POST /v1/brokers/{b}/health", "1133333333333y"),
    ("DELETE /v1/brokers/{b}", "1133333333333y"),
    ("GET /v1/metadata/snapshot", "1133333333333y"),
    ("GET /v1/metadata/watch", "1133333333333y"),
    ("POST /v1/apply", "114433333yy3yy"),
    ("GET /v1/audit", "1133333333333y"),
    ("GET /v1/raft", "1133333333333y"),
    ("POST /v1/raft/transfer-leadership", "1133333333333y"),
    ("DELETE /v1/raft/members/{m}", "1133333333333y"),
    ("POST /v1/backup", "1133333333333y"),
    ("GET /v1/system/info", "11yyyyyyyyyyyy"),
    ("POST /v1/tenants/{t}/token/exchange", "1yyyyyyyyyyyyy"),
    (
        "GET /v1/tenants/{t}/.well-known/jwks.json",
        "yyyyyyyyyyyyyy",
    ),
    ("POST /v1/tenants/{t}/keys/rotate", "1144333333y3yy"),
    ("POST /v1/tenants/{t}/tokens/revoke", "1144333333y3yy"),
    ("GET /v1/tenants/{t}/idp-issuers", "1144333333y3yy"),
    ("POST /v1/tenants/{t}/idp-issuers", "1144333333y3yy"),
    ("GET /v1/tenants/{t}/idp-issuers/{iss}", "1144333333y3yy"),
    ("DELETE /v1/tenants/{t}/idp-issuers/{iss}", "1144333333y3yy"),
    ("GET /v1/tenants/{t}/rbac/policies", "11443y333333yy"),
    ("POST /v1/tenants/{t}/rbac/policies", "114433333333yy"),
    ("DELETE /v1/tenants/{t}/rbac/policies", "114433333333yy"),
    (
        "DELETE /v1/tenants/{t}/rbac/policies/{id}",
        "114433333333yy",
    ),
    ("GET /v1/tenants/{t}/rbac/groupings", "11443y333333yy"),
    ("POST /v1/tenants/{t}/rbac/groupings", "114433333333yy"),
    ("DELETE /v1/tenants/{t}/rbac/groupings", "114433333333yy"),
    (
        "DELETE /v1/tenants/{t}/rbac/groupings/{id}",
        "114433333333yy",
    ),
    ("GET /v1/tenants/{t}/api-keys", "1144333333y3yy"),
    ("POST /v1/tenants/{t}/api-keys", "114433333333yy"),
    ("DELETE /v1/tenants/{t}/api-keys/{id}", "1144333333y3yy"),
    ("GET /api/v1/stats", "113y3333333yyy"),
    ("GET /api/v1/topology", "1133333333333y"),
    ("GET /api/v1/storage", "1133333333333y"),
    ("GET /api/v1/troubleshooting", "113y3333333yyy"),
    ("GET /api/v1/search", "113y3333333yyy"),
    ("GET /api/v1/sessions", "113y3333333yyy"),
    ("POST /api/v1/sessions/{s}/close", "113y33333333yy"),
    (
        "POST /api/v1/sessions/{s}/subscriptions/{id}/end",
        "113y33333333yy",
    ),
    ("GET /api/v1/stream/stats", "113y3333333yyy"),
    ("GET /api/v1/stream/streams", "113y3333333yyy"),
    ("GET /api/v1/stream/realms", "113y3333333yyy"),
    ("GET /api/v1/stream/realms/{t}/areas", "11443333333yyy"),
    (
        "GET /api/v1/stream/realms/{t}/areas/{ns}/resources",
        "11443333333yyy",
    ),
    (
        "GET /api/v1/stream/realms/{t}/areas/{ns}/resources/{r}",
        "11443333333yyy",
    ),
    ("GET /api/v1/queue/stats", "113y3333333yyy"),
    ("GET /api/v1/queue/queues", "113y3333333yyy"),
    ("GET /api/v1/queue/realms", "113y3333333yyy"),
    ("GET /api/v1/queue/realms/{t}/areas", "11443333333yyy"),
    (
        "GET /api/v1/queue/realms/{t}/areas/{ns}/resources",
        "11443333333yyy",
    ),
    (
        "GET /api/v1/queue/realms/{t}/areas/{ns}/resources/{r}",
        "11443333333yyy",
    ),
    ("GET /api/v1/cache/stats", "113y3333333yyy"),
    ("GET /api/v1/cache/caches", "113y3333333yyy"),
    ("GET /api/v1/cache/realms", "113y3333333yyy"),
    ("GET /api/v1/cache/realms/{t}/areas", "11443333333yyy"),
    (
        "GET /api/v1/cache/realms/{t}/areas/{ns}/resources",
        "11443333333yyy",
    ),
    (
        "GET /api/v1/cache/realms/{t}/areas/{ns}/resources/{r}",
        "11443333333yyy",
    ),
    ("GET /api/v1/queue/inflight", "113y3333333yyy"),
    (
        "GET /api/v1/stream/realms/{t}/areas/{ns}/resources/{r}/subscriptions",
        "11443333333yyy",
    ),
    (
        "GET /api/v1/stream/realms/{t}/areas/{ns}/resources/{r}/cursors",
        "11443333333yyy",
    ),
    (
        "GET /api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/groups",
        "11443333333yyy",
    ),
    (
        "GET /api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/why",
        "11443333333yyy",
    ),
    (
        "GET /api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/inflight",
        "11443333333yyy",
    ),
    (
        "GET /api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/dead-letters",
        "11443333333yyy",
    ),
    (
        "POST /api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/dead-letters/{id}/replay",
        "114433333333yy",
    ),
    (
        "DELETE /api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/dead-letters/{id}",
        "114433333333yy",
    ),
    (
        "POST /api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/dead-letters/replay",
        "114433333333yy",
    ),
    (
        "DELETE /api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/dead-letters",
        "114433333333yy",
    ),
];

/// The path of something that there is.
pub(crate) fn path(route: &Route) -> String {
    filled(route.path)
}

/// The same of a template of which some parts may be filled in already.
pub(crate) fn filled(template: &str) -> String {
    let resource = match template {
        path if path.contains("/queue") => "jobs",
        path if path.contains("/cache") => "hot",
        _ => "orders",
    };
    let path = template.replace("{t}", "acme").replace("{ns}", "pay");
    let path = path.replace("{r}", resource).replace("{n}", "0");
    let path = path.replace("{b}", "one").replace("{iss}", ISSUER_PART);
    // No number of a row: who may is told that, and changes nothing.
    let path = path.replace("{id}", "x").replace("{m}", "1");
    let path = path.replace("{s}", "x");
    match template {
        "/v1/apply" => format!("{path}?dry_run=true"),
        _ => path,
    }
}

/// A body that is right, where there is one.
pub(crate) fn body(route: &Route) -> Option<Value> {
    let body = match route.body? {
        "TenantCreate" => json!({ "name": "acme" }),
        "NamespaceCreate" => json!({ "name": "pay" }),
        "ResourceCreate" => {
            json!({ "name": if path(route).contains("streams") { "orders" } else { "x" } })
        }
        "ResourcePatch" => json!({ "spec": {} }),
        "RebalanceRequest" => json!({ "strategy": "balanced" }),
        "TransferRequest" => json!({ "target_broker": "one" }),
        "BrokerRegister" => json!({
            "name": "one",
            "address": "localhost:4433",
            "capacity": { "max_shards": 1, "max_connections": 1 },
        }),
        // The one that leads, which is let through and changes nothing.
        "LeaderTransfer" => json!({ "to": "n1" }),
        "ApplyRequest" => json!({ "objects": [{
            "apiVersion": "pinion.io/v1",
            "kind": "Namespace",
            "metadata": { "name": "pay", "tenant": "acme" },
        }] }),
        _ => json!({}),
    };
    Some(body)
}

/// Who asks, in the order of columns, with what they show.
async fn everybody(ops: &Client, plane: &PlaneHandle) -> Vec<(&'static str, Client)> {
    let mut all = vec![
        ("nobody", ops.showing_nothing()),
        ("a guess", ops.showing("pinion_key_00000000_ffff")),
        ("a token for data", ops.showing(PLAIN)),
    ];
    for (number, role) in (1..).zip(ROLES) {
        all.push((role.name, ops.showing(key(plane, number, role).await)));
    }
    all.push(("an operator", ops.clone()));
    all
}

async fn ask(client: &Client, route: &Route) -> Answered {
    // Whoever is let in changes nothing: no object has this version.
    let client = match route.method {
        Verb::Get => client.clone(),
        _ => client.with("if-match", "\"999999999\""),
    };
    let body = body(route).map(|body| body.to_string());
    let method = route.method.text();
    client.raw(method, &path(route), body).await
}

/// Fails unless the answer is one that the document tells of.
fn told(document: &Value, route: &Route, answered: &Answered) {
    let schema = schema::of(document, (route.method.text(), route.path), answered);
    if schema.is_object() {
        let wrong = wrong(document, schema, &answered.body, route.path);
        assert_eq!(wrong, None, "{answered:#?}");
    }
}

#[test]
fn every_route_answers_everybody_as_the_table_says() {
    let table: BTreeMap<&str, &str> = TABLE.iter().copied().collect();
    assert_eq!(table.len(), TABLE.len(), "each route once");
    let left = OnceLock::new();
    let leave = &left;
    let host = tell(|ops, plane| async move {
        furnish(&ops).await;
        believe(&ops, &plane).await;
        let everybody = everybody(&ops, &plane).await;
        let before = ops.get("/v1/system/info").await.is(200).body["version"].clone();
        let document = ops.get("/v1/openapi.json").await.is(200).body;
        let (mut rows, mut refused, mut routes_asked) = (0, 0, 0);
        for route in routes() {
            let name = format!("{} {}", route.method.text(), route.path);
            let row = table.get(name.as_str());
            let row = row.unwrap_or_else(|| panic!("{name} has no row in the table"));
            assert_eq!(row.len(), everybody.len(), "{name}");
            for ((who, client), expected) in everybody.iter().zip(row.chars()) {
                let answered = ask(client, route).await;
                told(&document, route, &answered);
                let status = answered.status;
                let verdict = match status {
                    401 => '1',
                    403 => '3',
                    404 => '4',
                    _ => 'y',
                };
                assert_eq!(verdict, expected, "{name} asked by {who}: {status}");
                rows += 1;
                refused += usize::from(verdict != 'y');
            }
            routes_asked += 1;
        }
        assert_eq!(routes_asked, TABLE.len(), "a row without a route");
        println!("authorisation matrix: {rows} rows ({routes_asked} routes), {refused} refused");
        let after = ops.get("/v1/system/info").await.is(200).body["version"].clone();
        assert_eq!(before, after, "nothing was changed");
        let (rows, told) = denied(&plane).await;
        // Those who show nothing that counts come from one address.
        assert_eq!(
            (rows, told),
            (ROLES.len() + 2, ROLES.len() + 2),
            "the first of each"
        );
        leave.set((plane, refused)).unwrap();
    });
    each_is_told(host, &left);
}

/// Fails unless rows tell of that many refusals once the API has ended: what it had counted
/// is written then.
fn each_is_told(host: Host, left: &OnceLock<(PlaneHandle, usize)>) {
    let (plane, refused) = left.get().expect("the story has ended");
    with(host, || async {
        let (rows, told) = denied(plane).await;
        assert_eq!(told, *refused, "each refusal is told of");
        assert!(rows <= 2 * (ROLES.len() + 2), "{rows} rows");
    });
}

/// Rows of the audit log about refusals before the plane heard of them, and how many of these
/// they tell of.
async fn denied(plane: &PlaneHandle) -> (usize, usize) {
    let (mut rows, mut told, mut first) = (0, 0, 0);
    loop {
        let query = AuditQuery {
            first,
            limit: 1_000,
            ..AuditQuery::default()
        };
        let Answer::Audit(page) = plane.audit(query, PATIENCE).await else {
            panic!("rows are read");
        };
        for (_, row) in &page.rows {
            if let AuditResult::Denied(401 | 403 | 429) = row.result {
                rows += 1;
                let count = row.target.strip_prefix("repeated=");
                let count = count.map(|count| count.split(' ').next().unwrap().parse());
                told += count.map_or(1, Result::unwrap);
            }
        }
        match page.next {
            Some(next) => first = next,
            None => return (rows, told),
        }
    }
}

#[test]
fn lists_show_what_the_caller_may_see_and_no_more() {
    tell(|ops, plane| async move {
        furnish(&ops).await;
        let find = |name: &str| ROLES.iter().position(|role| role.name == name).unwrap();
        let someone = async |name: &str| {
            let at = find(name);
            let number = u8::try_from(at).unwrap() + 1;
            ops.showing(key(&plane, number, &ROLES[at]).await)
        };
        let subscriber = someone("subscriber").await;
        let other = someone("other tenant").await;
        let queues = someone("queues").await;
        let names = async |client: &Client, path: &str, list: &str| {
            let answered = client.get(path).await.is(200);
            let rows = answered.body[list].as_array().unwrap().clone();
            let name = |row: Value| {
                row["name"]
                    .as_str()
                    .or(row["resource"].as_str())
                    .unwrap()
                    .to_owned()
            };
            rows.into_iter().map(name).collect::<Vec<String>>()
        };
        let streams = "/v1/tenants/acme/namespaces/pay/streams";
        assert_eq!(names(&ops, streams, "streams").await, ["orders", "refunds"]);
        assert_eq!(names(&subscriber, streams, "streams").await, ["orders"]);
        assert!(names(&queues, streams, "streams").await.is_empty());
        assert_eq!(names(&subscriber, "/v1/tenants", "tenants").await, ["acme"]);
        assert_eq!(names(&other, "/v1/tenants", "tenants").await, ["other"]);
        let placements = names(&subscriber, "/v1/placements", "placements").await;
        assert_eq!(placements, ["stream/acme/pay/orders"]);
        let of_acme = "/v1/placements?tenant=acme&kind=stream";
        assert!(names(&other, of_acme, "placements").await.is_empty());
        // Of no tenant is not of every tenant.
        let of_none = "/v1/placements?tenant=";
        let placements = names(&subscriber, of_none, "placements").await;
        assert_eq!(placements, ["stream/acme/pay/orders"]);
        let data = ops.showing(PLAIN);
        for path in ["/v1/placements", of_none, of_acme] {
            assert!(names(&data, path, "placements").await.is_empty(), "{path}");
        }
        assert_eq!(names(&ops, of_none, "placements").await.len(), 4);
        // Page by page it is the same.
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/placements?page_size=1&page_token={next}");
            let page = ops.get(&path).await.is(200);
            let rows = page.body["placements"].as_array().unwrap().clone();
            all.extend(
                rows.into_iter()
                    .map(|row| row["resource"].as_str().unwrap().to_owned()),
            );
            match page.body["next_page_token"].as_str() {
                Some(token) => next = token.to_owned(),
                None => break,
            }
        }
        all.sort();
        assert_eq!(
            all,
            [
                "cache/acme/pay/hot",
                "queue/acme/pay/jobs",
                "stream/acme/pay/orders",
                "stream/acme/pay/refunds"
            ]
        );
        // Whether there is such a tenant is not told, by any word of the answer.
        let there = other
            .get("/v1/tenants/acme")
            .await
            .refused(404, "not_found");
        let nowhere = other
            .get("/v1/tenants/nowhere")
            .await
            .refused(404, "not_found");
        assert_eq!(there.body["message"], nowhere.body["message"]);
        assert_eq!(there.body["details"], nowhere.body["details"]);
        let rows = async |tenant: &str| {
            let path = format!("/v1/placements?tenant={tenant}");
            other.get(&path).await.is(200).body
        };
        assert_eq!(rows("acme").await, rows("nowhere").await);
    });
}

/// What a row is called, as the last part of its key.
fn called(row: &Value) -> String {
    // A key's name is for people.
    let names = match row["prefix"] {
        Value::Null => &["name", "resource", "issuer"][..],
        _ => &[],
    };
    let mut names = names.iter().filter_map(|field| row[*field].as_str());
    let name = names.next().map(ToOwned::to_owned);
    let name = name.or_else(|| row["id"].as_u64().map(|id| id.to_string()));
    name.unwrap_or_else(|| panic!("{row} has no name"))
}

#[test]
fn tokens_and_numbers_of_pages_tell_of_nothing_that_is_hidden() {
    tell(|ops, plane| async move {
        furnish(&ops).await;
        believe(&ops, &plane).await;
        // Before and behind what most may see.
        for name in ["alpha", "zeta"] {
            ops.post("/v1/tenants/acme/namespaces", json!({ "name": name }))
                .await
                .is(201);
        }
        let streams = "/v1/tenants/acme/namespaces/pay/streams";
        for name in ["a", "z"] {
            let body = json!({ "name": name, "placement": { "pinned": "n1" } });
            ops.post(streams, body).await.is(201);
        }
        let mut everybody = everybody(&ops, &plane).await;
        let clerk = role("clerk", "acme", "rbac.view", "namespace:acme/pay");
        let clerk = ops.showing(key(&plane, 99, &clerk).await);
        everybody.push(("a viewer of a part", clerk));
        // Rows of the audit log have numbers, and are for operators: its token is one.
        let lists = routes().filter(|route| route.query.contains(&"page_token"));
        let lists = lists.filter(|route| route.path != "/v1/audit");
        let mut paths: Vec<String> = lists.map(path).collect();
        assert!(paths.len() >= 9, "{paths:?}");
        for query in ["tenant=acme", "tenant=other", "tenant=", "kind=stream"] {
            paths.push(format!("/v1/placements?{query}"));
        }
        paths.push("/v1/placements?tenant=acme&namespace=pay".into());
        let (mut shown, mut pages) = (0, 0);
        for (who, client) in &everybody {
            for path in &paths {
                let all = client.get(path).await;
                if all.status != 200 {
                    continue;
                }
                let rows = |answered: &Answered| {
                    let mut lists = answered.body.as_object().unwrap().values();
                    let rows = lists.find_map(Value::as_array).unwrap();
                    rows.iter().map(called).collect::<Vec<String>>()
                };
                let (seen, mut left) = (rows(&all), rows(&all).into_iter());
                let more = if path.contains('?') { '&' } else { '?' };
                let mut next = String::new();
                loop {
                    let page = format!("{path}{more}page_size=1&page_token={next}");
                    let page = client.get(&page).await.is(200);
                    let row = left.next();
                    assert_eq!(rows(&page), Vec::from_iter(row.clone()), "{path} by {who}");
                    pages += 1;
                    let Some(token) = page.body["next_page_token"].as_str() else {
                        break;
                    };
                    let key = URL_SAFE_NO_PAD.decode(token).unwrap();
                    let key = String::from_utf8(key).unwrap();
                    let row = row.unwrap_or_else(|| panic!("{path} by {who}: behind {key}"));
                    assert!(key.ends_with(&format!("/{row}")), "{path} by {who}: {key}");
                    token.clone_into(&mut next);
                }
                assert_eq!(left.next(), None, "{path} by {who}");
                shown += seen.len();
            }
        }
        println!("{pages} pages with {shown} rows");
    });
}
