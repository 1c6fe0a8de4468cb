//! Brokers, shards, members, and what the cluster tells of itself.

use super::{Reply, Server, check, reply_of, run};

#[tokio::test]
async fn brokers() {
    check(r#"
        $ pinion admin broker register b1 --address b1.example:8080 --region eu --zone eu-1 --label rack=r1 --label ssd=yes --max-shards 100 --max-connections 1000 --memory-per-core 1GiB --incarnation 18446744073709551615
        > POST /v1/brokers {"name":"b1","address":"b1.example:8080","region":"eu","zone":"eu-1","labels":{"rack":"r1","ssd":"yes"},"capacity":{"max_shards":100,"max_connections":1000,"memory_per_core":1073741824},"incarnation":"18446744073709551615"}
        < 201 @4 {}
        broker b1: registered, version 4
    "#).await;
    check(r#"
        $ pinion admin broker list
        > GET /v1/brokers?page_size=1000
        < 200 {"brokers":[{"name":"b1","status":"active","address":"b1:8080","region":"eu","zone":"","load":{"shards_led":3,"shard_copies":1},"capacity":{"max_shards":100},"version":4}]}
        NAME                  STATUS    ADDRESS                   REGION      ZONE         LEADS  COPIES     MAX     VERSION
        b1                    active    b1:8080                   eu          -                3       1     100           4
    "#).await;
    check(
        r#"
        $ pinion admin broker get b1
        > GET /v1/brokers/b1
        < 200 @4 {"name":"b1"}
        name  b1
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin broker drain b1
        > POST /v1/brokers/b1/drain
        < 202 @5 {}
        broker b1: draining, version 5
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin broker activate b1
        > POST /v1/brokers/b1/activate
        < 200 @6 {}
        broker b1: active, version 6
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin broker remove b1 --yes
        > DELETE /v1/brokers/b1
        < 204
        broker b1: removed
    "#,
    )
    .await;
}

#[tokio::test]
async fn shards() {
    check(r#"
        $ pinion admin shard list --tenant acme --namespace pay --kind stream --broker b2
        > GET /v1/placements?tenant=acme&namespace=pay&kind=stream&page_size=1000
        < 200 {"placements":[{"resource":"stream/acme/pay/orders","shards":[{"shard":0,"leader":"b1","replicas":["b2","b3"],"epoch":1},{"shard":1,"leader":"b2","replicas":[],"epoch":4},{"shard":2,"leader":"b3","replicas":["b1"],"epoch":1}]}],"next_page_token":"t"}
        > GET /v1/placements?tenant=acme&namespace=pay&kind=stream&page_size=1000&page_token=t
        < 200 {"placements":[]}
        RESOURCE                              SHARD  LEADER          REPLICAS              EPOCH
        stream/acme/pay/orders                    0  b1              b2,b3                     1
        stream/acme/pay/orders                    1  b2              -                         4
    "#).await;
    check(
        r#"
        $ pinion admin shard list
        > GET /v1/placements?page_size=1000
        < 200 {"placements":[]}
        none
    "#,
    )
    .await;
    check(r#"
        $ pinion admin shard rebalance pay/orders --strategy minimize-movement --dry-run
        > POST /v1/tenants/default/namespaces/pay/streams/orders/rebalance?dry_run=true {"strategy":"minimize_movement"}
        < 200 {"moves":[{"shard":1,"from":"b1","to":"b2","status":"pending"}]}
        SHARD  FROM              TO                STATUS
            1  b1                b2                pending
    "#).await;
    check(
        r#"
        $ pinion admin shard rebalance jobs/mail --kind queue
        > POST /v1/tenants/default/namespaces/jobs/queues/mail/rebalance {"strategy":"balanced"}
        < 202 @9 {"moves":[]}
        queue jobs/mail: nothing is to move
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin shard rebalance pay/orders --cancel
        > DELETE /v1/tenants/default/namespaces/pay/streams/orders/rebalance
        < 412 {"code":"no_plan","message":"there is no plan"}
        ! there is no plan (no_plan)
    "#,
    )
    .await;
    check(r#"
        $ pinion admin shard transfer pay/eu/orders 3 --to b2 --kind cache
        > POST /v1/tenants/default/namespaces/pay/caches/eu%2Forders/shards/3/transfer-leadership {"target_broker":"b2"}
        < 202 @9 {"moves":[{"shard":3,"from":"b1","to":"b2","status":"pending"}]}
        SHARD  FROM              TO                STATUS
            3  b1                b2                pending
    "#).await;
}

#[tokio::test]
async fn members_and_what_a_node_says_of_itself() {
    check(
        r#"
        $ pinion admin raft status
        > GET /v1/raft
        < 200 {"leader":1,"peers":[{"member":2,"lag":0}]}
        leader  1
        peers
          - lag     0
            member  2
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin raft transfer b2
        > POST /v1/raft/transfer-leadership {"to":"b2"}
        < 202 {}
        leadership of b2: asked for
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin raft remove 4 --yes
        > DELETE /v1/raft/members/4
        < 202 @4 {}
        member 4: removed, version 4
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin system
        > GET /v1/system/info
        < 200 {"release":"0.1.0","version":7,"ready":true}
        ready    true
        release  0.1.0
        version  7
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin snapshot
        > GET /v1/metadata/snapshot
        < 200 {"version":7, "objects":[]}
        {"version":7, "objects":[]}
    "#,
    )
    .await;
    check(r#"
        $ pinion admin audit --tenant acme --principal p:ana --action create_tenant --from 2026-01-02T03:04:05Z --limit 1
        > GET /v1/audit?tenant=acme&principal=p%3Aana&action=create_tenant&from=2026-01-02T03%3A04%3A05Z&limit=1
        < 200 {"rows":[{"at":"2026-01-02T03:04:06Z","principal":"p:ana","action":"create_tenant","result":"refused","code":"exists","version":9,"target":"tenant/acme"}],"next_page_token":"9"}
        TIME                      PRINCIPAL                 ACTION                RESULT    CODE               VERSION  TARGET
        2026-01-02T03:04:06Z      p:ana                     create_tenant         refused   exists                   9  tenant/acme
    "#).await;
    check(r#"
        $ pinion admin audit --all-nodes
        > GET /v1/audit?node=all&limit=1000
        < 200 {"node":"n1","rows":[{"node":"n2","at":"2026-01-02T03:04:06Z","principal":"","action":"GET /v1/raft","result":"denied","code":"401","version":9,"target":""}],"next_page_token":"n1:4,n2:1","silent":[{"node":"n3","code":"unreachable"}]}
        > GET /v1/audit?node=all&limit=1000&page_token=n1%3A4%2Cn2%3A1
        < 200 {"node":"n1","rows":[{"node":"n1","at":"2026-01-02T03:04:07Z","principal":"p:ana","action":"create_tenant","result":"done","version":10,"target":"tenant/acme"}],"next_page_token":null,"silent":[]}
        TIME                      NODE          PRINCIPAL                 ACTION                RESULT    CODE               VERSION  TARGET
        2026-01-02T03:04:06Z      n2            -                         GET /v1/raft          denied    401                      9  -
        2026-01-02T03:04:07Z      n1            p:ana                     create_tenant         done      -                       10  tenant/acme
    "#).await;
}

#[tokio::test]
async fn a_watch_goes_on_where_a_lost_stream_ended() {
    let change = |version: u64| {
        format!(
            "event: change\nid: {version}\ndata: {{\"version\":{version},\"type\":\"create\",\"kind\":\"tenant\",\"key\":\"tenant/t{version}\",\"object\":{{}}}}\n\n"
        )
    };
    let stream = |versions: &[u64]| Reply {
        status: 200,
        headers: vec![("content-type", "text/event-stream".to_owned())],
        body: ":\n\n".to_owned() + &versions.iter().map(|v| change(*v)).collect::<String>(),
        ..Reply::default()
    };
    let info = || reply_of(r#"200 {"cluster_id":"00ff","version":7}"#);
    let server = Server::start(vec![
        info(),
        stream(&[8, 9]),
        stream(&[]),
        stream(&[10, 11]),
    ])
    .await;
    let (out, failure) = run(&server, "pinion admin watch --count 3").await;
    assert_eq!(failure, None);
    assert_eq!(
        out,
        "   VERSION  CHANGE  KEY\n         8  create  tenant/t8\n         9  create  tenant/t9\n        10  create  tenant/t10\n"
    );
    let asked: Vec<_> = server.asked().into_iter().map(|one| one.target).collect();
    assert_eq!(
        asked,
        [
            "/v1/system/info",
            "/v1/metadata/watch?from_version=7&cluster_id=00ff",
            "/v1/metadata/watch?from_version=9&cluster_id=00ff",
            "/v1/metadata/watch?from_version=9&cluster_id=00ff",
        ]
    );

    let server = Server::start(vec![info(), stream(&[4, 6])]).await;
    let (out, failure) = run(&server, "pinion admin watch --from 3 --json").await;
    assert_eq!(out.lines().count(), 1, "{out}");
    assert_eq!(failure.as_deref(), Some("after version 4 the node sent 6"));

    let gone = Reply {
        status: 200,
        body: "event: resnapshot_required\ndata: {\"oldest_version\":5,\"newest_version\":9}\n\n"
            .to_owned(),
        ..Reply::default()
    };
    let server = Server::start(vec![info(), gone]).await;
    let (_, failure) = run(&server, "pinion admin watch --from 3").await;
    assert_eq!(
        failure.as_deref(),
        Some(
            "changes after version 3 are not kept any more, or not of this cluster (resnapshot_required); newest_version 9; oldest_version 5"
        )
    );
}

#[tokio::test]
async fn who_waits_asks_every_broker_that_is_up_itself() {
    let slow = Server::start(vec![
        reply_of(r#"200 {"version":11}"#),
        reply_of(r#"200 {"version":12}"#),
    ])
    .await;
    let brokers = format!(
        r#"200 {{"brokers":[{{"name":"a","status":"active","address":"{}"}},{{"name":"b","status":"down","address":"127.0.0.1:1"}}]}}"#,
        slow.address
    );
    let server = Server::start(vec![reply_of("201 @12 {}"), reply_of(&brokers)]).await;
    let (out, failure) = run(&server, "pinion admin tenant create acme --wait").await;
    assert_eq!(
        (out.as_str(), failure),
        ("tenant acme: created, version 12\n", None)
    );
    assert_eq!(slow.asked().len(), 2);

    let behind = Server::start(
        (0..1000)
            .map(|_| reply_of(r#"200 {"version":11}"#))
            .collect(),
    )
    .await;
    let brokers = format!(
        r#"200 {{"brokers":[{{"name":"a","status":"draining","address":"{}"}}]}}"#,
        behind.address
    );
    let server = Server::start(vec![reply_of("201 @12 {}"), reply_of(&brokers)]).await;
    let (_, failure) = run(&server, "pinion admin tenant create acme --wait=200ms").await;
    let failure = failure.expect("behind");
    assert!(
        failure.starts_with("it is done as version 12, and broker a at 127.0.0.1:"),
        "{failure}"
    );
}
