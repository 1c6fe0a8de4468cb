//! What administrators do, through HTTP, from one end to the other.

use serde_json::json;

use crate::http::{Client, tell};

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
        let plain = ops.showing(crate::host::PLAIN);
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
