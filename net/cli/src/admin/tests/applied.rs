//! Files that are applied.

use super::{Server, json, reply_of, run};

const SHOP: &str = "# The shop
apiVersion: pinion.io/v1
kind: Namespace
metadata:
  name: shop
spec:
  description: Everything that is sold
---
apiVersion: pinion.io/v1
kind: Stream
metadata: {name: orders, namespace: shop}
spec:
  durability: durable
  retention: {time: 7d}
";

const RESULTS: &str = r#"200 {"version":9,"results":[{"key":"namespace/acme/shop","action":"created","diff":[]},{"key":"stream/acme/shop/orders","action":"updated","diff":[{"field":"spec.retention_ms","from":0,"to":604800000}]}]}"#;

#[tokio::test]
async fn all_documents_of_all_files_are_one_request() {
    let server = Server::start(vec![reply_of(RESULTS), reply_of(RESULTS)]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let (one, two) = (dir.path().join("one.yaml"), dir.path().join("two.yaml"));
    std::fs::write(&one, SHOP).expect("written");
    let cache = "apiVersion: pinion.io/v1\nkind: Cache\nmetadata: {name: s, namespace: shop, tenant: other}\n";
    std::fs::write(&two, cache).expect("written");
    let files = format!("-f {} -f {}", one.display(), two.display());
    let (out, failure) = run(
        &server,
        &format!("pinion admin apply {files} --tenant acme --dry-run"),
    )
    .await;
    assert_eq!(failure, None);
    assert_eq!(
        out,
        "+ namespace/acme/shop\n~ stream/acme/shop/orders\n    ~ spec.retention_ms: no limit -> 7d\n2 objects: 1 would be created, 1 updated, 0 unchanged\n"
    );
    let asked = &server.asked()[0];
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/v1/apply?dry_run=true")
    );
    assert_eq!(
        asked.body,
        Some(json(
            r#"{"objects":[
                {"apiVersion":"pinion.io/v1","kind":"Namespace","metadata":{"name":"shop","tenant":"acme"},"spec":{"description":"Everything that is sold"}},
                {"apiVersion":"pinion.io/v1","kind":"Stream","metadata":{"name":"orders","namespace":"shop","tenant":"acme"},"spec":{"durability":"durable","retention_ms":604800000}},
                {"apiVersion":"pinion.io/v1","kind":"Cache","metadata":{"name":"s","namespace":"shop","tenant":"other"},"spec":{}}
            ]}"#
        ))
    );
    let (_, failure) = run(&server, &format!("pinion admin apply {files}")).await;
    assert_eq!(failure, None);
    assert_eq!(server.asked()[1].target, "/v1/apply");
}

#[tokio::test]
async fn a_file_that_is_wrong_is_asked_of_nobody() {
    let server = Server::start(Vec::new()).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("shop.yaml");
    let name = file.display().to_string();
    let many = "---\napiVersion: pinion.io/v1\nkind: Tenant\nmetadata: {name: a}\n".repeat(256);
    for (text, why) in [
        (
            SHOP.replace("7d", "7"),
            format!(
                "{name}:14: document 2: `retention.time`: expected a time with its unit, like 7d, or none, not 7"
            ),
        ),
        (
            SHOP.replace("retention", "retain"),
            format!(
                "{name}:14: document 2: unknown field `spec.retain`; a Stream has shards, replication_factor, max_record_bytes, ring_bytes, durability, ack_policy, retention, overflow"
            ),
        ),
        (
            "# nothing\n".to_owned(),
            "the files declare nothing".to_owned(),
        ),
        (
            many,
            "257 objects, at most 256 are done all or none: apply them in parts".to_owned(),
        ),
    ] {
        std::fs::write(&file, &text).expect("written");
        let more = dir.path().join("more.yaml");
        std::fs::write(
            &more,
            "apiVersion: pinion.io/v1\nkind: Tenant\nmetadata: {name: z}\n",
        )
        .expect("written");
        let with = if why.starts_with("257") {
            format!(" {}", more.display())
        } else {
            String::new()
        };
        let (_, failure) = run(&server, &format!("pinion admin apply -f {name}{with}")).await;
        assert_eq!(failure.as_deref(), Some(why.as_str()));
    }
    let large = vec![b' '; (1 << 20) + 1];
    std::fs::write(&file, large).expect("written");
    let (_, failure) = run(&server, &format!("pinion admin apply -f {name}")).await;
    assert_eq!(failure, Some(format!("{name} has more than 1048576 bytes")));
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn an_object_that_the_node_refuses_is_named_by_its_place() {
    let refusal = r#"409 {"code":"immutable_field","message":"shards cannot be changed","details":{"at":1,"field":"shards"}}"#;
    let server = Server::start(vec![reply_of(refusal)]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("shop.yaml");
    std::fs::write(&file, SHOP).expect("written");
    let (_, failure) = run(
        &server,
        &format!("pinion admin apply -f {}", file.display()),
    )
    .await;
    assert_eq!(
        failure,
        Some(format!(
            "{}:9: document 2: shards cannot be changed (immutable_field)",
            file.display()
        ))
    );
}
