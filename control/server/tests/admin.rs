//! The administrators' door of a real node: what is made there, the data plane has,
//! and the other way round.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pinion_client::{
    Client, ErrorCode, FetchOptions, PartitionId, Record, Stream, StreamSpec, SubscribeOptions,
};
use serde_json::{Value, json};
use support::process::{Home, Node};
use support::run;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

const CONFIG: &str = "
data_cores = [0]
[storage]
segment_bytes = 4194304
";

/// One request over one connection; gives status and body.
fn ask(node: &Node, token: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let mut stream = TcpStream::connect(node.address).unwrap();
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// Cores are asked for the first time when the door opens: until they have answered the
/// node is not ready.
fn await_ready(node: &Node) {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let (status, said) = ask(node, "", "GET", "/startupz", None);
        if status == 200 {
            break;
        }
        assert!(Instant::now() < patience, "{said}");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ask(node, "", "GET", "/readyz", None).0, 200);
}

const STREAMS: &str = "/v1/tenants/default/namespaces/shop/streams";

#[test]
fn what_administrators_make_the_data_plane_has_and_the_other_way_round() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let node = home.start(&[]);
    let token = node.token();
    await_ready(&node);
    let (status, started) = ask(&node, "", "GET", "/startupz", None);
    assert_eq!((status, &started["status"]), (200, &json!("started")));
    assert!(started["startup_time_seconds"].as_f64().unwrap() < 60.0);

    let namespace = json!({"name": "shop"});
    let namespaces = "/v1/tenants/default/namespaces";
    let (status, answer) = ask(&node, &token, "POST", namespaces, Some(&namespace));
    assert_eq!(status, 201, "{answer}");
    let stream = json!({"name": "orders", "spec": {"shards": 2, "durability": "durable"}});
    let (status, answer) = ask(&node, &token, "POST", STREAMS, Some(&stream));
    assert_eq!(status, 201, "{answer}");
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let orders = client.stream("shop/orders").await.unwrap();
        assert_eq!(orders.shards(), 2, "as it was made there");
        let publisher = orders.publisher(Default::default());
        let ticket = publisher.publish(Record::new("one")).await.unwrap();
        ticket.await.unwrap();
        client
            .open_stream_with("shop/new", StreamSpec::durable(1))
            .await
            .unwrap();
        client.close().await;
    });
    // Who made it there is told as who made it here.
    let (status, answer) = ask(&node, &token, "GET", "/v1/audit", None);
    assert_eq!(status, 200, "{answer}");
    let rows = answer["rows"].as_array().unwrap();
    let who_made = |name: &str| {
        let of = |row: &&Value| row["action"] == "declare" && row.to_string().contains(name);
        let row = rows.iter().find(of);
        let row = row.unwrap_or_else(|| panic!("{name}: {answer:#}"));
        assert!(
            row["remote"].as_str().unwrap().starts_with("127.0.0.1:"),
            "{row}"
        );
        row["principal"].as_str().unwrap().to_owned()
    };
    assert_eq!(who_made("shop/new"), "config:dev-admin");
    assert_eq!(who_made("shop/orders"), "config:dev-admin");

    let (status, answer) = ask(&node, &token, "GET", &format!("{STREAMS}/new"), None);
    assert_eq!(
        (status, &answer["spec"]["shards"]),
        (200, &json!(1)),
        "{answer}"
    );
    assert_eq!(node.stop().code, 0);

    // All of it is there after a start, and who has no right is told so.
    let node = home.start(&[]);
    let (_, answer) = ask(&node, &token, "GET", STREAMS, None);
    let names: Vec<&str> = answer["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["new", "orders"]);
    let client = std::fs::read_to_string(home.data.join("dev/client.token")).unwrap();
    let (status, _) = ask(&node, client.trim(), "POST", STREAMS, Some(&stream));
    assert!([403, 404].contains(&status), "{status}");
    let (status, _) = ask(&node, "nobody", "GET", STREAMS, None);
    assert_eq!(status, 401);
    assert_eq!(node.stop().code, 0);
}

#[test]
fn a_tcp_port_in_use_is_said_so() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = other.local_addr().unwrap().to_string();
    let home = Home::new(dir.path(), CONFIG, &["--listen", &listen]);
    let ended = home.refused();
    assert_eq!(ended.code, 1, "{}", ended.said);
    for word in [
        &format!("TCP {listen} is in use")[..],
        "ss -ltnp",
        "admin.enabled",
    ] {
        assert!(
            ended.said.contains(word),
            "{word} is missing in {}",
            ended.said
        );
    }
    // Without the door the port need not be free.
    let config = format!("{CONFIG}\n[admin]\nenabled = false\n");
    let home = Home::new(dir.path(), &config, &["--listen", &listen]);
    let mut node = home.start(&[]);
    assert!(!node.said().contains("HTTP"), "{}", node.said());
    assert_eq!(node.stop().code, 0);
}

#[test]
fn what_is_changed_there_holds_at_once_and_what_is_in_use_is_not_deleted() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let node = home.start(&[]);
    let token = node.token();
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let stream = client
            .open_stream_with("shop/orders", StreamSpec::durable(1))
            .await
            .unwrap();
        let orders = format!("{STREAMS}/orders");
        let delete = |how: &str| {
            let path = format!("{orders}{how}");
            ask(&node, &token, "DELETE", &path, None)
        };
        // A subscriber stands against it, then what there is of it on the disk.
        let subscription = stream.subscribe(SubscribeOptions::default()).await.unwrap();
        let (status, answer) = delete("");
        assert_eq!((status, &answer["code"]), (412, &json!("has_subscribers")));
        drop(subscription);
        publish(&stream).await.unwrap();
        until("has data alone", async || {
            let (status, answer) = delete("");
            assert_eq!(status, 412, "{answer}");
            answer["code"] == "has_data"
        })
        .await;
        until("metrics are shown", async || {
            let (_, shown) = ask(&node, &token, "GET", &orders, None);
            shown["metrics"]["records"] == 1
        })
        .await;

        // A record that was short enough is too long as soon as every core has heard.
        let less = json!({"spec": {"max_record_bytes": 64}});
        let long = Record::new(vec![7; 100]);
        let publisher = stream.publisher(Default::default());
        let sent = publisher.publish(long.clone()).await.unwrap().await;
        assert!(sent.is_ok(), "{sent:?}");
        let (status, answer) = ask(&node, &token, "PATCH", &orders, Some(&less));
        assert_eq!(status, 200, "{answer}");
        until("long records are refused", async || {
            let refused = match publisher.publish(long.clone()).await {
                Ok(ticket) => ticket.await.err().and_then(|error| error.code()),
                Err(error) => error.code(),
            };
            assert!(matches!(refused, None | Some(ErrorCode::RecordTooLarge)));
            refused.is_some()
        })
        .await;
        let (status, answer) = delete("?force=true");
        assert_eq!(status, 202, "{answer}");
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);
}

/// Publishes one record; the code of the refusal otherwise.
async fn publish(stream: &Stream) -> Result<(), ErrorCode> {
    let publisher = stream.publisher(Default::default());
    let ticket = publisher.publish(Record::new("one")).await.unwrap();
    match ticket.await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.code().unwrap_or_else(|| panic!("no answer: {error}"))),
    }
}

/// Records of the only partition.
async fn records(stream: &Stream) -> usize {
    let page = stream.fetch(PartitionId(0), FetchOptions::default()).await;
    page.unwrap().records.len()
}

/// Asks until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < SEEN_WITHIN, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Longest a change may take to come to the data cores.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn what_is_deleted_serves_nobody_comes_back_whole_and_is_gone_when_it_is_purged() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let node = home.start(&[]);
    let token = node.token();
    let spec = StreamSpec::durable(1);
    let the_stream = format!("{STREAMS}/orders");
    let has_tombstones = |node: &Node| {
        let (status, answer) = ask(node, &token, "GET", "/v1/metadata/snapshot", None);
        assert_eq!(status, 200);
        answer.to_string().contains("tombstone/")
    };
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let orders = client.open_stream_with("shop/orders", spec).await.unwrap();
        publish(&orders).await.unwrap();
        let (status, answer) = ask(
            &node,
            &token,
            "DELETE",
            &format!("{the_stream}?force"),
            None,
        );
        assert!([200, 202, 204].contains(&status), "{status} {answer}");
        until("closed", async || {
            publish(&orders).await == Err(ErrorCode::ResourceClosed)
        })
        .await;
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);

    // It stays closed over a start, and comes back with what it had.
    let node = home.start(&[]);
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let closed = client.open_stream_with("shop/orders", spec).await;
        assert_eq!(closed.unwrap_err().code(), Some(ErrorCode::ResourceClosed));
        let undelete = format!("{the_stream}/undelete");
        let (status, answer) = ask(&node, &token, "POST", &undelete, None);
        assert_eq!(status, 200, "{answer}");
        let orders = client.open_stream_with("shop/orders", spec).await.unwrap();
        // It was answered when it was decided; a core may hear of it a moment later.
        until("reopened", async || {
            let page = orders.fetch(PartitionId(0), FetchOptions::default());
            page.await.is_ok_and(|page| page.records.len() == 1)
        })
        .await;
        publish(&orders).await.unwrap();

        let now = format!("{the_stream}?force&grace_ms=0");
        let (status, answer) = ask(&node, &token, "DELETE", &now, None);
        assert!([200, 202, 204].contains(&status), "{status} {answer}");
        until("purged", async || {
            ask(&node, &token, "GET", &the_stream, None).0 == 404 && !has_tombstones(&node)
        })
        .await;
        client.close().await;
        // The name is free, and what it had is gone.
        let client = Client::connect(node.client_config()).await.unwrap();
        let anew = client.open_stream_with("shop/orders", spec).await.unwrap();
        assert_eq!(records(&anew).await, 0);
        publish(&anew).await.unwrap();
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);
    let node = home.start(&[]);
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let anew = client.open_stream_with("shop/orders", spec).await.unwrap();
        assert_eq!(records(&anew).await, 1, "its own, and no other");
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);
}

#[test]
fn what_no_node_has_the_memory_for_is_not_declared() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let node = home.start(&[]);
    let token = node.token();
    await_ready(&node);
    let namespace = json!({"name": "shop"});
    let namespaces = "/v1/tenants/default/namespaces";
    let (status, answer) = ask(&node, &token, "POST", namespaces, Some(&namespace));
    assert_eq!(status, 201, "{answer}");
    let spec = json!({"shards": 1, "ring_bytes": 1_u64 << 44});
    for kind in ["streams", "queues", "caches"] {
        let path = format!("/v1/tenants/default/namespaces/shop/{kind}");
        let huge = json!({"name": "huge", "spec": spec});
        let (status, answer) = ask(&node, &token, "POST", &path, Some(&huge));
        assert_eq!((status, &answer["code"]), (409, &json!("no_memory")));
    }
    let object = json!({
        "apiVersion": "pinion.io/v1",
        "kind": "Stream",
        "metadata": {"tenant": "default", "namespace": "shop", "name": "huge"},
        "spec": spec,
    });
    let objects = json!({"objects": [object]});
    let (status, answer) = ask(&node, &token, "POST", "/v1/apply", Some(&objects));
    assert_eq!(status, 409, "{answer}");
    // Clients are served as before.
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let spec = StreamSpec::durable(1);
        let orders = client.open_stream_with("shop/orders", spec).await.unwrap();
        publish(&orders).await.unwrap();
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);
}

#[test]
fn a_node_with_less_memory_than_it_promised_starts_and_names_what_has_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let of = |mib: u64| format!("memory_bytes = {}\n{CONFIG}", mib << 20);
    let home = Home::new(dir.path(), &of(256), &[]);
    let node = home.start(&[]);
    let token = node.token();
    await_ready(&node);
    let namespace = json!({"name": "shop"});
    let namespaces = "/v1/tenants/default/namespaces";
    let (status, answer) = ask(&node, &token, "POST", namespaces, Some(&namespace));
    assert_eq!(status, 201, "{answer}");
    let large = json!({"name": "large", "spec": {"shards": 1, "ring_bytes": 128 << 20}});
    let (status, answer) = ask(&node, &token, "POST", STREAMS, Some(&large));
    assert_eq!(status, 201, "{answer}");
    let spec = StreamSpec::durable(1);
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let orders = client.open_stream_with("shop/orders", spec).await.unwrap();
        publish(&orders).await.unwrap();
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);

    let home = Home::new(dir.path(), &of(64), &[]);
    let mut node = home.start(&[]);
    let said = node.said();
    assert!(said.contains("promised more memory than it has"), "{said}");
    assert!(said.contains("shop/large"), "{said}");
    await_ready(&node);
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        for name in ["shop/orders", "shop/large"] {
            publish(&client.stream(name).await.unwrap()).await.unwrap();
        }
        let orders = client.stream("shop/orders").await.unwrap();
        assert_eq!(records(&orders).await, 2, "and what it had");
        let full = client.open_stream_with("shop/more", spec).await;
        assert_eq!(full.unwrap_err().code(), Some(ErrorCode::LimitReached));
        let now = format!("{STREAMS}/large?force&grace_ms=0");
        let (status, answer) = ask(&node, &token, "DELETE", &now, None);
        assert!([200, 202, 204].contains(&status), "{status} {answer}");
        until("room", async || {
            client.open_stream_with("shop/more", spec).await.is_ok()
        })
        .await;
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);
}

/// Connections of administrators that never finish their request, by each of four addresses.
const DRIPPING: usize = 125;

#[test]
fn five_hundred_administrators_that_drip_hold_up_no_client() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let node = home.start(&[]);
    await_ready(&node);
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let spec = StreamSpec::durable(1);
        let stream = client.open_stream_with("shop/orders", spec).await.unwrap();
        publish(&stream).await.unwrap();
        let mut slow = Vec::new();
        for address in 2..=5 {
            for _ in 0..DRIPPING {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 0, address], 0).into()).unwrap();
                let mut one = socket.connect(node.address).await.unwrap();
                let head = b"POST /ui/login HTTP/1.1\r\nhost: x\r\n";
                one.write_all(head).await.unwrap();
                slow.push(one);
            }
        }
        let began = Instant::now();
        for number in 0..200 {
            publish(&stream).await.unwrap();
            let one = &mut slow[number * 2];
            one.write_all(b"x: y\r\n").await.unwrap();
        }
        // Loose: it is a debug build, on a machine that may be busy. A head may take 10 s,
        // so all of them were there meanwhile.
        let took = began.elapsed();
        assert!(took < Duration::from_secs(8), "{took:?}");
        let waits = |one: &&tokio::net::TcpStream| {
            let read = one.try_read(&mut [0]);
            read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        assert_eq!(slow.iter().filter(waits).count(), 4 * DRIPPING);
        println!("200 durable records beside them, one after the other: {took:?}");
        assert_eq!(records(&stream).await, 201, "each of them once");
        client.close().await;
    });
    assert_eq!(ask(&node, "", "GET", "/readyz", None).0, 200);
    assert_eq!(node.stop().code, 0);
}

#[test]
fn a_quota_of_a_tenant_holds_on_the_data_plane() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let node = home.start(&[]);
    // A second's worth may be used at once, so half of what follows has to wait.
    let quota = json!({"quotas": {"max_publish_rate": 20}});
    let tenant = "/v1/tenants/default";
    let (status, answer) = ask(&node, &node.token(), "PATCH", tenant, Some(&quota));
    assert_eq!(status, 200, "{answer}");
    run(async {
        let client = Client::connect(node.client_config()).await.unwrap();
        let stream = client.stream("shop/light").await.unwrap();
        let began = Instant::now();
        let mut refused = false;
        for _ in 0..60 {
            // The client waits and tries again for as long as its budget lasts.
            if let Err(code) = publish(&stream).await {
                assert_eq!(code, ErrorCode::QuotaExceeded);
                refused = true;
                break;
            }
        }
        let took = began.elapsed();
        assert!(refused || took >= Duration::from_secs(1), "{took:?}");
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);
}
