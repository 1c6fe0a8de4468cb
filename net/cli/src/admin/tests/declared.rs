//! Tenants, namespaces, streams, queues and caches.

use super::{Server, check, json, run};

#[tokio::test]
async fn tenants() {
    check(r#"
        $ pinion admin tenant create acme --display-name 'Acme Corp' --max-streams 1_000 --max-storage 1TB --key-id k1 --key-rotation 90d
        > POST /v1/tenants {"name":"acme","display_name":"Acme Corp","quotas":{"max_streams":1000,"max_storage_bytes":1000000000000},"encryption":{"key_id":"k1","rotation_period_ms":7776000000}}
        < 201 @7 {"name":"acme"}
        tenant acme: created, version 7
    "#).await;
    check(
        r#"
        $ pinion admin tenant update acme --max-streams none --if-version 7
        > PATCH /v1/tenants/acme {"quotas":{"max_streams":0}}
        < 200 @8 {"name":"acme"}
        tenant acme: updated, version 8
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin tenant get acme
        > GET /v1/tenants/acme
        < 200 @8 {"name":"acme","quotas":{"max_streams":0,"max_storage_bytes":1073741824}}
        name  acme
        quotas
          max_storage_bytes  1 GiB
          max_streams        no limit
    "#,
    )
    .await;
    check(r#"
        $ pinion admin tenant list
        > GET /v1/tenants?page_size=1000
        < 200 {"tenants":[{"name":"acme","state":"active","quotas":{"max_streams":1000,"max_storage_bytes":0},"version":7}],"next_page_token":"x y"}
        > GET /v1/tenants?page_size=1000&page_token=x%20y
        < 200 {"tenants":[{"name":"bolt","display_name":"Bolt"}],"next_page_token":null}
        NAME                  STATE     STREAMS MAX    RATE MAX  STORAGE MAX     VERSION  DISPLAY NAME
        acme                  active           1000           -            -           7  -
        bolt                  -                   -           -            -           -  Bolt
    "#).await;
    check(
        r#"
        $ pinion admin tenant delete acme --yes --force --grace 1h
        > DELETE /v1/tenants/acme?force=true&grace_ms=3600000
        < 202 @9 {"name":"acme"}
        tenant acme: deleted, version 9
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin tenant undelete acme
        > POST /v1/tenants/acme/undelete
        < 200 @10 {"name":"acme"}
        tenant acme: undeleted, version 10
    "#,
    )
    .await;
}

#[tokio::test]
async fn namespaces() {
    check(r#"
        $ pinion admin namespace create payments --tenant acme --description 'What is paid' --max-publish-rate 50000
        > POST /v1/tenants/acme/namespaces {"name":"payments","description":"What is paid","quotas":{"max_publish_rate":50000}}
        < 201 @3 {"name":"payments"}
        namespace acme/payments: created, version 3
    "#).await;
    check(
        r#"
        $ pinion admin ns update payments --description x
        > PATCH /v1/tenants/default/namespaces/payments {"description":"x"}
        < 200 @4 {"name":"payments"}
        namespace default/payments: updated, version 4
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin namespace get payments --json
        > GET /v1/tenants/default/namespaces/payments
        < 200 @4 {"name":"payments"}
        {"name":"payments"}
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin namespace list --filter pay --limit 1 --stale
        > GET /v1/tenants/default/namespaces?filter=pay&consistency=stale&page_size=1
        < 200 {"namespaces":[{"name":"payments","version":3},{"name":"more"}],"next_page_token":"t"}
        NAME                  STATE     STREAMS MAX    RATE MAX     VERSION  DESCRIPTION
        payments              -                   -           -           3  -
    "#,
    )
    .await;
    check(r#"
        $ pinion admin namespace delete payments --yes
        > DELETE /v1/tenants/default/namespaces/payments
        < 412 {"code":"not_empty","message":"it has 3 resources","details":{"count":3,"key":"namespace/default/payments"},"request_id":"r"}
        ! it has 3 resources (not_empty); key namespace/default/payments
    "#).await;
    check(
        r#"
        $ pinion admin namespace undelete payments
        > POST /v1/tenants/default/namespaces/payments/undelete
        < 200 @10 {}
        namespace default/payments: undeleted, version 10
    "#,
    )
    .await;
}

#[tokio::test]
async fn streams() {
    check(r#"
        $ pinion admin stream create payments/eu/orders --durable --partitions 8 --replicas 3 --ack quorum --retention 7d --retention-bytes 100GB --ring-bytes 16MiB --max-record-bytes 64KiB --overflow drop-oldest --pinned b1
        > POST /v1/tenants/default/namespaces/payments/streams {"name":"eu/orders","spec":{"durability":"durable","shards":8,"replication_factor":3,"ack_policy":"quorum","retention_ms":604800000,"retention_bytes":100000000000,"ring_bytes":16777216,"max_record_bytes":65536,"overflow":"drop_oldest"},"placement":{"pinned":"b1"}}
        < 201 @5 {"name":"eu/orders","notes":["replicas are placed and not yet filled"]}
        stream payments/eu/orders: created, version 5
          note: replicas are placed and not yet filled
    "#).await;
    check(
        r#"
        $ pinion admin stream get payments/eu/orders
        > GET /v1/tenants/default/namespaces/payments/streams/eu%2Forders
        < 200 @5 {"name":"eu/orders","spec":{"shards":8}}
        name  eu/orders
        spec
          shards  8
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin stream update payments/orders --retention none --if-version 5
        > PATCH /v1/tenants/default/namespaces/payments/streams/orders {"spec":{"retention_ms":0}}
        < 200 @6 {}
        stream payments/orders: updated, version 6
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin stream list payments
        > GET /v1/tenants/default/namespaces/payments/streams?page_size=1000
        < 200 {"streams":[]}
        none
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin stream delete payments/orders --yes
        > DELETE /v1/tenants/default/namespaces/payments/streams/orders
        < 202 {}
        stream payments/orders: deleted
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin stream undelete payments/orders
        > POST /v1/tenants/default/namespaces/payments/streams/orders/undelete
        < 200 @8 {}
        stream payments/orders: undeleted, version 8
    "#,
    )
    .await;
}

#[tokio::test]
async fn a_list_without_a_namespace_goes_through_all_of_them() {
    check(
        r#"
        $ pinion admin stream list --limit 2 --json
        > GET /v1/tenants/default/namespaces?page_size=1000
        < 200 {"namespaces":[{"name":"a"},{"name":"b"},{"name":"c"}]}
        > GET /v1/tenants/default/namespaces/a/streams?page_size=2
        < 200 {"streams":[{"name":"x"}]}
        > GET /v1/tenants/default/namespaces/b/streams?page_size=1
        < 200 {"streams":[{"name":"y"}],"next_page_token":"more"}
        {"name":"x","namespace":"a"}
        {"name":"y","namespace":"b"}
    "#,
    )
    .await;
}

#[tokio::test]
async fn queues_and_caches() {
    check(r#"
        $ pinion admin queue create jobs/mail --partitions 2 --lease 30s --max-attempts 5 --ordered-by-key --drop-expired --max-in-flight 100 --consumer-in-flight 10 --backoff-min 1s --backoff-max 1m --max-messages 1000 --redeliveries 50
        > POST /v1/tenants/default/namespaces/jobs/queues {"name":"mail","spec":{"durability":"durable","shards":2,"queue":{"ordered_by_key":true,"visibility_ms":30000,"max_attempts":5,"drop_expired":true,"max_in_flight":100,"consumer_in_flight":10,"backoff_min_ms":1000,"backoff_max_ms":60000,"messages_max":1000,"redeliveries_per_s":50}}}
        < 201 @5 {}
        queue jobs/mail: created, version 5
    "#).await;
    check(r#"
        $ pinion admin queue update jobs/mail --drop-expired=false
        > PATCH /v1/tenants/default/namespaces/jobs/queues/mail {"spec":{"queue":{"drop_expired":false}}}
        < 200 @6 {}
        queue jobs/mail: updated, version 6
    "#).await;
    check(r#"
        $ pinion admin cache create users/sessions --tenant acme --ring-bytes 1GiB
        > POST /v1/tenants/acme/namespaces/users/caches {"name":"sessions","spec":{"ring_bytes":1073741824}}
        < 201 @7 {}
        cache users/sessions: created, version 7
    "#).await;
    check(
        r#"
        $ pinion admin cache list users
        > GET /v1/tenants/default/namespaces/users/caches?page_size=1000
        < 200 {"caches":[{"name":"sessions","spec":{"shards":4,"ring_bytes":1048576}}]}
        NAMESPACE       NAME                  STATE     PARTITIONS  MEMORY EACH     VERSION
        users           sessions              -                  4        1 MiB           -
    "#,
    )
    .await;
}

#[tokio::test]
async fn nothing_is_deleted_and_nothing_is_asked_without_being_told_to() {
    let server = Server::start(Vec::new()).await;
    for (line, why) in [
        (
            "pinion admin tenant delete acme",
            "Delete tenant acme? Say so with --yes",
        ),
        (
            "pinion admin stream delete a/b --grace none",
            "Delete stream a/b for good, with its data? Say so with --yes",
        ),
        (
            "pinion admin stream update a/b",
            "nothing to change: name at least one option, see --help",
        ),
    ] {
        assert_eq!(run(&server, line).await.1.as_deref(), Some(why), "{line}");
    }
    for line in [
        "pinion admin stream get orders",
        "pinion admin tenant get a/b",
        "pinion admin tenant create ../x",
        "pinion admin tenant create acme --max-storage 1.5TB",
        "pinion admin stream create a/b --retention 7",
        "pinion admin stream list --tenant a%b",
        "pinion admin tenant list --request-id 12",
    ] {
        let failure = run(&server, line).await.1.unwrap_or_default();
        assert!(failure.starts_with("error: "), "{line}: {failure}");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_change_of_a_version_says_which() {
    let server = Server::start(vec![
        super::reply_of("200 @8 {}"),
        super::reply_of("202 {}"),
    ])
    .await;
    run(
        &server,
        "pinion admin tenant update acme --max-streams 3 --if-version 7",
    )
    .await;
    run(
        &server,
        "pinion admin tenant delete acme --yes --if-version 8",
    )
    .await;
    let asked = server.asked();
    assert_eq!(asked[0].header("if-match"), Some("\"7\""));
    assert_eq!(asked[1].header("if-match"), Some("\"8\""));
    let token = format!("Bearer {}", super::TOKEN);
    assert_eq!(asked[0].header("authorization"), Some(token.as_str()));
    assert_eq!(asked[0].body, Some(json(r#"{"quotas":{"max_streams":3}}"#)));
}
