//! What administrators do, through HTTP, from one end to the other.

use std::collections::BTreeSet;

use http_body_util::BodyExt;
use pinion_admin_api::limits::BODY_BYTES_MAX;
use pinion_metadata::command::UpdateSettings;
use pinion_metadata::{Command, Expect};
use pinion_plane::Answer;
use serde_json::json;

use crate::front::ana;
use crate::host::{PATIENCE, PLAIN};
use crate::http::{Client, PROBLEM_MEMBERS, tell};
use crate::roles::furnish;
use crate::schema;

/// A broker that takes things.
pub(crate) async fn broker(ops: &Client, name: &str) {
    let body = json!({
        "name": name,
        "address": "localhost:4433",
        "capacity": { "max_shards": 1000, "max_connections": 1000 },
        "incarnation": "7",
    });
    ops.post("/v1/brokers", body).await.is(201);
}

#[test]
fn what_is_empty_lists_nothing_and_what_is_not_there_is_not_found() {
    tell(|ops, _| async move {
        let body = json!({ "name": "acme" });
        ops.post("/v1/tenants", body).await.is(201);
        let listed = ops.get("/v1/tenants/acme/namespaces").await.is(200);
        assert_eq!(listed.body["namespaces"], json!([]));
        for path in [
            "/v1/tenants/nobody/namespaces",
            "/v1/tenants/acme/namespaces/nowhere/streams",
        ] {
            ops.get(path).await.refused(404, "not_found");
        }
    });
}

#[test]
fn a_tenant_is_made_changed_deleted_and_taken_back() {
    tell(|ops, _| async move {
        let body = json!({
            "name": "acme",
            "display_name": "Acme Corp",
            "quotas": { "max_streams": 10 },
            "encryption": { "key_id": "k1", "rotation_period_ms": 1000 },
        });
        let made = ops.post("/v1/tenants", body.clone()).await.is(201);
        assert_eq!(made.body["quotas"]["max_streams"], 10);
        assert_eq!(made.body["state"], "active");
        let tag = made.etag();
        assert_eq!(tag, format!("\"{}\"", made.body["version"]));
        ops.post("/v1/tenants", body).await.refused(409, "exists");

        let got = ops.get("/v1/tenants/acme").await.is(200);
        assert_eq!(got.body, made.body);
        assert_eq!(got.etag(), tag);

        // What is not named stays; null takes away.
        let patch = json!({ "quotas": { "max_namespaces": 3 }, "encryption": null });
        let acme = "/v1/tenants/acme";
        let changed = ops.with("if-match", &tag).patch(acme, patch).await.is(200);
        assert_eq!(changed.body["quotas"]["max_streams"], 10);
        assert_eq!(changed.body["quotas"]["max_namespaces"], 3);
        assert!(changed.body["encryption"].is_null());
        assert_eq!(changed.body["display_name"], "Acme Corp");
        let stale = ops.with("if-match", &tag).patch(acme, json!({})).await;
        stale.refused(412, "version_conflict");

        let deleted = ops.delete(acme).await.is(202);
        assert_eq!(deleted.body["state"], "deleting");
        assert!(deleted.body["deleting"]["purge_at"].is_string());
        let listed = ops.get("/v1/tenants").await.is(200);
        let names = |listed: &serde_json::Value| {
            let rows = listed["tenants"].as_array().unwrap().clone();
            rows.into_iter()
                .map(|row| row["name"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&listed.body), ["default"]);
        let listed = ops.get("/v1/tenants?deleted=true").await.is(200);
        assert_eq!(names(&listed.body), ["acme", "default"]);
        let back = ops.act("/v1/tenants/acme/undelete").await.is(200);
        assert_eq!(back.body["state"], "active");
    });
}

#[test]
fn two_changes_of_one_object_at_once_are_both_done() {
    tell(|ops, _| async move {
        let body = json!({ "name": "acme", "quotas": { "max_streams": 10 } });
        ops.post("/v1/tenants", body).await.is(201);
        let acme = "/v1/tenants/acme";
        for number in 0..5 {
            let name = format!("Acme {number}");
            // Each is made of what the tenant was before the other.
            let (one, other) = tokio::join!(
                ops.patch(acme, json!({ "display_name": name })),
                ops.patch(acme, json!({ "quotas": { "max_namespaces": number + 1 } })),
            );
            one.is(200);
            other.is(200);
            let is = ops.get(acme).await.is(200);
            assert_eq!(is.body["display_name"], name.as_str());
            assert_eq!(is.body["quotas"]["max_namespaces"], number + 1);
            assert_eq!(is.body["quotas"]["max_streams"], 10);
        }
    });
}

#[test]
fn streams_queues_and_caches_are_made_where_there_is_a_broker() {
    tell(|ops, _| async move {
        ops.post("/v1/tenants", json!({ "name": "acme" }))
            .await
            .is(201);
        let namespaces = "/v1/tenants/acme/namespaces";
        ops.post(namespaces, json!({ "name": "pay" })).await.is(201);
        let streams = "/v1/tenants/acme/namespaces/pay/streams";
        let body = json!({
            "name": "eu/orders",
            "spec": { "shards": 3, "durability": "durable", "retention_bytes": 1 << 20 },
        });
        // The node itself is a broker.
        ops.act("/v1/brokers/n1/drain").await.is(202);
        let none = ops.post(streams, body.clone()).await;
        none.refused(412, "no_broker");
        broker(&ops, "one").await;
        let made = ops.post(streams, body.clone()).await.is(201);
        assert_eq!(made.body["kind"], "stream");
        assert_eq!(made.body["spec"]["durability"], "durable");
        assert_eq!(made.body["spec"]["ack_policy"], "leader");
        let shards = made.body["placement"]["shards"].as_array().unwrap();
        assert!(shards.iter().all(|shard| shard["leader"] == "one"));
        assert_eq!(shards.len(), 3);
        ops.post(streams, body).await.refused(409, "exists");

        let one = format!("{streams}/eu%2Forders");
        let got = ops.get(&one).await.is(200);
        assert_eq!(got.body, made.body);
        let changed = ops
            .patch(&one, json!({ "spec": { "retention_ms": 5 } }))
            .await
            .is(200);
        assert_eq!(changed.body["spec"]["retention_ms"], 5);
        let other = json!({ "spec": { "shards": 4 } });
        ops.patch(&one, other).await.refused(409, "immutable_field");
        let same = json!({ "spec": { "shards": 3 } });
        ops.patch(&one, same).await.is(200);

        for (kind, spec) in [
            ("queues", json!({ "queue": { "max_attempts": 9 } })),
            ("caches", json!({ "ring_bytes": 1 << 20 })),
        ] {
            let path = format!("{namespaces}/pay/{kind}");
            let body = json!({ "name": "x", "spec": spec, "placement": { "pinned": "one" } });
            let made = ops.post(&path, body).await.is(201);
            assert_eq!(made.body["placement"]["pinned"], "one");
            let listed = ops.get(&path).await.is(200);
            assert_eq!(listed.body[kind].as_array().unwrap().len(), 1);
        }
        let missing = json!({ "name": "y", "placement": { "pinned": "two" } });
        ops.post(streams, missing).await.refused(404, "not_found");
        let wild = json!({ "name": "y", "spec": { "shards": 65535 } });
        ops.post(streams, wild).await.refused(400, "bad_spec");
        let queue = json!({ "name": "y", "spec": { "queue": {} } });
        ops.post(streams, queue).await.refused(400, "bad_spec");

        ops.delete("/v1/tenants/acme")
            .await
            .refused(412, "not_empty");
        ops.act("/v1/brokers/n1/activate").await.is(200);
        let here = json!({ "name": "here", "placement": { "pinned": "n1" } });
        ops.post(streams, here).await.is(201);
        let one = format!("{streams}/here");
        ops.delete(&one).await.is(202);
        ops.get(&one).await.is(200);
        ops.act(&format!("{one}/undelete")).await.is(200);
        let now = format!("{one}?grace_ms=0");
        ops.delete(&now).await.refused(412, "grace_required");
        ops.delete(&format!("{now}&force=true")).await.is(202);
    });
}

#[test]
fn a_repeat_under_one_request_id_is_done_once() {
    tell(|ops, _| async move {
        let once = ops.with("x-request-id", "c0ffee");
        let body = json!({ "name": "acme" });
        let first = once.post("/v1/tenants", body.clone()).await.is(201);
        assert_eq!(first.header("x-request-id"), "c0ffee");
        let again = once.post("/v1/tenants", body.clone()).await.is(201);
        assert_eq!(again.header("x-pinion-repeat"), "true");
        assert_eq!(again.body, first.body);
        let other = ops.with("x-request-id", "c0ffef");
        other.post("/v1/tenants", body).await.refused(409, "exists");
    });
}

#[test]
fn only_an_operator_runs_the_cluster() {
    tell(|ops, _| async move {
        let nobody = ops.showing_nothing().get("/v1/tenants").await;
        let nobody = nobody.refused(401, "unauthenticated");
        assert_eq!(nobody.header("www-authenticate"), "Bearer");
        let guess = ops.showing("a guess").get("/v1/brokers").await;
        guess.refused(401, "unauthenticated");
        // It may do everything with data of its tenant, and nothing here.
        let plain = ops.showing(PLAIN);
        plain.get("/v1/brokers").await.refused(403, "forbidden");
        plain
            .get("/v1/tenants/default")
            .await
            .refused(404, "not_found");
        let listed = plain.get("/v1/tenants").await.is(200);
        assert_eq!(listed.body["tenants"], json!([]));
        ops.get("/v1/brokers").await.is(200);
    });
}

#[test]
fn objects_are_made_as_they_are_told_all_or_none_and_once() {
    tell(|ops, _| async move {
        broker(&ops, "one").await;
        let object = |kind: &str, named: serde_json::Value, spec: serde_json::Value| json!({ "apiVersion": "pinion.io/v1", "kind": kind, "metadata": named, "spec": spec });
        let stream = json!({ "name": "orders", "namespace": "shop", "tenant": "acme" });
        let shop = json!({ "name": "shop", "tenant": "acme" });
        let objects = |description: &str, retention: u64| {
            json!({ "objects": [
                object("Stream", stream.clone(), json!({ "shards": 2, "retention_ms": retention })),
                object("Namespace", shop.clone(), json!({ "description": description })),
                object("Tenant", json!({ "name": "acme" }), json!({ "quotas": { "max_streams": 5 } })),
            ] })
        };
        let actions = |answered: &serde_json::Value| {
            let rows = answered["results"].as_array().unwrap().clone();
            rows.into_iter()
                .map(|row| row["action"].clone())
                .collect::<Vec<_>>()
        };
        let tried = ops
            .post("/v1/apply?dry_run=true", objects("a", 7))
            .await
            .is(200);
        assert_eq!(
            actions(&tried.body),
            ["created"; 3],
            "in the order of the request"
        );
        ops.get("/v1/tenants/acme").await.refused(404, "not_found");
        let made = ops.post("/v1/apply", objects("a", 7)).await.is(200);
        assert_eq!(actions(&made.body), ["created"; 3]);
        let again = ops.post("/v1/apply", objects("a", 7)).await.is(200);
        assert_eq!(actions(&again.body), ["unchanged"; 3]);
        assert_eq!(again.body["version"], made.body["version"]);
        let changed = ops.post("/v1/apply", objects("a", 9)).await.is(200);
        assert_eq!(
            actions(&changed.body),
            ["updated", "unchanged", "unchanged"]
        );
        assert_eq!(
            changed.body["results"][0]["diff"],
            json!([{ "field": "spec.retention_ms", "from": 7, "to": 9 }])
        );

        // One that is refused, and which: none is done.
        let refused = json!({ "objects": [
            object("Namespace", shop.clone(), json!({ "description": "b" })),
            object("Namespace", json!({ "name": "a b", "tenant": "acme" }), json!({})),
        ] });
        let refused = ops.post("/v1/apply", refused).await;
        assert_eq!(refused.body["details"]["at"], 1, "{refused:?}");
        assert_eq!(refused.status, 400);
        let shop_is = ops.get("/v1/tenants/acme/namespaces/shop").await.is(200);
        assert_eq!(shop_is.body["description"], "a");
        // A bridge is not taken to be remembered, and what comes with it is not done either.
        let bridge = json!({ "source_region": "eu", "target_region": "us" });
        let bridged = json!({ "objects": [
            object("Namespace", shop.clone(), json!({ "description": "b" })),
            object("Bridge", json!({ "name": "eu-to-us" }), bridge),
        ] });
        let refused = ops.post("/v1/apply", bridged).await;
        assert_eq!(refused.body["details"]["at"], 1, "{refused:?}");
        let told = refused.body["message"].as_str().unwrap_or_default();
        assert!(told.contains("bridges"), "{refused:?}");
        refused.refused(400, "unsupported_kind");
        let shop_is = ops.get("/v1/tenants/acme/namespaces/shop").await.is(200);
        assert_eq!(shop_is.body["description"], "a");
        for (wrong, code) in [
            (
                object("Lake", json!({ "name": "x" }), json!({})),
                "unsupported_kind",
            ),
            (
                object("Tenant", json!({ "name": "x" }), json!({ "quota": 1 })),
                "unknown_field",
            ),
            (
                object("Tenant", json!({ "name": "x", "tenant": "y" }), json!({})),
                "bad_body",
            ),
            (
                object("Stream", json!({ "name": "x" }), json!({})),
                "bad_body",
            ),
            (
                object("Stream", stream.clone(), json!({ "shards": 9 })),
                "immutable_field",
            ),
        ] {
            let answered = ops.post("/v1/apply", json!({ "objects": [wrong] })).await;
            assert_eq!(answered.body["code"], code, "{answered:?}");
            assert_eq!(
                answered.body["details"]["at"].as_u64(),
                Some(0),
                "{answered:?}"
            );
        }
        let facts = json!({ "zone": "z2", "labels": { "rack": "r1" } });
        let body = json!({ "objects": [object("Broker", json!({ "name": "one" }), facts)] });
        let zoned = ops.post("/v1/apply", body).await.is(200);
        assert_eq!(actions(&zoned.body), ["updated"]);
        let one = ops.get("/v1/brokers/one").await.is(200);
        assert_eq!(one.body["zone"], "z2");
        assert_eq!(one.body["capacity"]["max_shards"], 1000, "it stays");
    });
}

#[test]
fn brokers_drain_and_go_and_plans_say_where_shards_would_go() {
    tell(|ops, _| async move {
        ops.act("/v1/brokers/n1/drain").await.is(202);
        broker(&ops, "one").await;
        broker(&ops, "two").await;
        let spaces = "/v1/tenants/default/namespaces";
        ops.post(spaces, json!({ "name": "n" })).await.is(201);
        let streams = format!("{spaces}/n/streams");
        let body = json!({ "name": "s", "spec": { "shards": 4 } });
        ops.post(&streams, body).await.is(201);
        ops.act("/v1/brokers/two/drain").await.is(202);
        let rebalance = format!("{streams}/s/rebalance");
        let strategy = json!({ "strategy": "minimize_movement" });
        let tried = format!("{rebalance}?dry_run=true");
        let tried = ops.post(&tried, strategy.clone()).await.is(200);
        let moves = tried.body["moves"].as_array().unwrap();
        assert!(!moves.is_empty() && moves.iter().all(|one| one["to"] == "one"));
        ops.delete(&rebalance).await.refused(404, "no_plan");
        let planned = ops.post(&rebalance, strategy.clone()).await.is(202);
        assert_eq!(planned.body["status"], "pending");
        assert_eq!(planned.body["moves"].as_array().unwrap().len(), moves.len());
        ops.post(&rebalance, strategy)
            .await
            .refused(409, "plan_pending");
        ops.delete(&rebalance).await.is(200);
        let transfer = format!("{streams}/s/shards/0/transfer-leadership");
        let to = json!({ "target_broker": "two" });
        ops.post(&transfer, to)
            .await
            .refused(412, "broker_unavailable");
        let far = format!("{streams}/s/shards/x/transfer-leadership");
        ops.post(&far, json!({ "target_broker": "one" }))
            .await
            .refused(400, "bad_path");

        let placements = ops.get("/v1/placements?kind=stream").await.is(200);
        assert_eq!(
            placements.body["placements"][0]["resource"],
            "stream/default/n/s"
        );
        ops.delete("/v1/brokers/two")
            .await
            .refused(412, "still_leading");
        ops.delete("/v1/brokers/one")
            .await
            .refused(412, "still_active");
        broker(&ops, "three").await;
        ops.act("/v1/brokers/three/drain").await.is(202);
        ops.delete("/v1/brokers/three").await.is(204);
        ops.get("/v1/brokers/three").await.refused(404, "not_found");
        ops.act("/v1/brokers/two/activate").await.is(200);
        let listed = ops.get("/v1/brokers").await.is(200);
        let brokers = listed.body["brokers"].as_array().unwrap();
        let led = brokers
            .iter()
            .map(|one| one["load"]["shards_led"].as_u64().unwrap());
        assert_eq!(led.sum::<u64>(), 4);
    });
}

#[test]
fn answers_are_what_the_document_tells() {
    tell(|ops, _| async move {
        let document = ops.get("/v1/openapi.json").await.is(200).body;
        furnish(&ops).await;
        let streams = "/v1/tenants/acme/namespaces/pay/streams/orders";
        let checked =
            async |method: &str, path: &str, template: &str, body: Option<serde_json::Value>| {
                let answered = ops
                    .raw(method, path, body.map(|body| body.to_string()))
                    .await;
                let schema = schema::of(&document, (method, template), &answered);
                let wrong = schema::wrong(&document, schema, &answered.body, template);
                assert_eq!(wrong, None, "{answered:#?}");
                answered
            };
        let one = "/v1/tenants/{t}/namespaces/{ns}/streams/{r}";
        let rebalance = json!({ "strategy": "balanced" });
        checked(
            "PATCH",
            streams,
            one,
            Some(json!({ "spec": { "retention_ms": 3 } })),
        )
        .await
        .is(200);
        let path = format!("{streams}/rebalance");
        checked("POST", &path, &format!("{one}/rebalance"), Some(rebalance))
            .await
            .is(202);
        checked("DELETE", streams, one, None).await.is(202);
        checked("GET", streams, one, None).await.is(200);
        checked("GET", "/v1/tenants/acme", "/v1/tenants/{t}", None)
            .await
            .is(200);
        checked(
            "DELETE",
            "/v1/tenants/acme?force=true",
            "/v1/tenants/{t}",
            None,
        )
        .await
        .is(202);
        checked(
            "POST",
            "/v1/tenants/acme/undelete",
            "/v1/tenants/{t}/undelete",
            None,
        )
        .await
        .is(200);
        let applied = json!({ "objects": [{
            "apiVersion": "pinion.io/v1",
            "kind": "Tenant",
            "metadata": { "name": "acme" },
            "spec": { "description": "x" },
        }] });
        checked("POST", "/v1/apply", "/v1/apply", Some(applied))
            .await
            .is(200);
        checked("GET", "/v1/audit", "/v1/audit", None).await.is(200);
        let all = "/v1/audit?node=all";
        let all = checked("GET", all, "/v1/audit", None).await.is(200);
        assert_eq!(all.body["silent"], json!([]));
        let page = ops.send("GET", "/v1/docs", None).await;
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    });
}

#[test]
fn a_refusal_is_problem_details_that_the_node_itself_explains() {
    tell(|ops, _| async move {
        let document = ops.get("/v1/openapi.json").await.is(200).body;
        let told = &document["components"]["schemas"]["Error"];
        let members = told["required"].as_array().unwrap().iter();
        let members: BTreeSet<&str> = members.map(|name| name.as_str().unwrap()).collect();
        assert_eq!(members, PROBLEM_MEMBERS.into());
        let fields = told["properties"].as_object().unwrap().keys();
        let fields: BTreeSet<&str> = fields.map(|name| &**name).collect();
        assert_eq!(fields, members);
        let page = ops.send("GET", "/v1/docs", None).await.into_body();
        let page = page.collect().await.unwrap().to_bytes();
        let page = std::str::from_utf8(&page).unwrap();
        // Its script gives each word of the document a row that a type leads to.
        assert!(page.contains("Object.entries(api[\"x-pinion-errors\"])"));
        assert!(page.contains("`error-${code}`"));

        furnish(&ops).await;
        let name = |name: &str| Some(json!({ "name": name }).to_string());
        let large = format!("\"{}\"", "x".repeat(BODY_BYTES_MAX));
        let never = ops.with("if-match", "\"999999999\"");
        let text = ops.with("content-type", "text/plain");
        let (tenants, acme) = ("/v1/tenants", "/v1/tenants/acme");
        let patch = Some(json!({ "description": "x" }).to_string());
        for (client, method, path, template, body, status) in [
            (&ops, "POST", tenants, tenants, name("A"), 400),
            (&ops.showing_nothing(), "GET", tenants, tenants, None, 401),
            (
                &ops.showing(PLAIN),
                "POST",
                tenants,
                tenants,
                name("a"),
                403,
            ),
            (
                &ops,
                "GET",
                "/v1/tenants/none",
                "/v1/tenants/{t}",
                None,
                404,
            ),
            (&ops, "POST", tenants, tenants, name("acme"), 409),
            (&never, "PATCH", acme, "/v1/tenants/{t}", patch, 412),
            (&ops, "POST", tenants, tenants, Some(large), 413),
            (&text, "POST", tenants, tenants, name("a"), 415),
            (&ops, "POST", "/v1/backup", "/v1/backup", None, 428),
        ] {
            let refused = client.raw(method, path, body).await.is(status);
            refused.is_problem();
            let schema = schema::of(&document, (method, template), &refused);
            let wrong = schema::wrong(&document, schema, &refused.body, template);
            assert_eq!(wrong, None, "{refused:#?}");
            let code = refused.body["code"].as_str().unwrap();
            let title = &document["x-pinion-errors"][code];
            assert_eq!(*title, refused.body["title"], "{refused:#?}");
        }
    });
}

#[test]
fn rows_of_all_nodes_are_walked_by_a_token_that_says_where_each_goes_on() {
    tell(|ops, _| async move {
        for name in ["a", "b", "c"] {
            ops.post("/v1/tenants", json!({ "name": name }))
                .await
                .is(201);
        }
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/audit?node=all&action=create_tenant&limit=2{token}");
            let page = ops.get(&path).await.is(200).body;
            assert_eq!(page["silent"], json!([]));
            for row in page["rows"].as_array().unwrap() {
                assert_eq!(row["node"], "n1");
                found.push(row["target"].as_str().unwrap().to_owned());
            }
            let Some(next) = page["next_page_token"].as_str() else {
                break;
            };
            assert!(next.starts_with("n1:"), "{next}");
            token = format!("&page_token={next}");
        }
        assert_eq!(found, ["tenant/a", "tenant/b", "tenant/c"]);
        // Of one node a row has no node, and nobody is silent.
        let page = ops.get("/v1/audit?limit=1").await.is(200).body;
        assert_eq!(
            (page.get("silent"), page["rows"][0].get("node")),
            (None, None)
        );
        for wrong in ["node=n1", "node=all&page_token=7", "page_token=n1:7"] {
            let refused = ops.get(&format!("/v1/audit?{wrong}")).await;
            refused.refused(400, "bad_parameter");
        }
    });
}

#[test]
fn a_broker_that_says_that_it_lives_is_up_and_one_that_is_silent_is_down() {
    tell(|ops, plane| async move {
        let settings = UpdateSettings {
            heartbeat_ms: Some(200),
            missed: Some(5),
            grace_ms: None,
            token_life_s: None,
        };
        let command = Command::UpdateSettings(settings);
        let set = plane.write(ana(), Expect::Any, command, PATIENCE).await;
        assert!(matches!(set, Answer::Written { .. }), "{set:?}");
        broker(&ops, "one").await;
        broker(&ops, "two").await;
        let health = |name: &str| format!("/v1/brokers/{name}/health");
        let lives = json!({ "incarnation": "7" });
        let other = json!({ "incarnation": "8" });
        let other = ops.post(&health("one"), other).await;
        other.refused(409, "other_incarnation");
        let nobody = ops.post(&health("nobody"), lives.clone()).await;
        nobody.refused(404, "not_found");
        // One that is not well says so, and is not counted.
        let unwell = json!({ "incarnation": "7", "healthy": false });
        loop {
            let told = ops.post(&health("one"), lives.clone()).await.is(200);
            assert_eq!(told.body, json!({ "next_ms": 200, "status": "active" }));
            let two = ops.post(&health("two"), unwell.clone()).await.is(200);
            if two.body["status"] == "down" {
                break;
            }
        }
        let late = ops.post(&health("two"), lives.clone()).await;
        late.refused(412, "broker_unavailable");
        let again = json!({
            "name": "two",
            "address": "localhost:4433",
            "capacity": { "max_shards": 1, "max_connections": 1 },
            "incarnation": "7",
        });
        ops.post("/v1/brokers", again).await.is(200);
        let told = ops.post(&health("two"), lives).await.is(200);
        assert_eq!(told.body["status"], "active");
    });
}
