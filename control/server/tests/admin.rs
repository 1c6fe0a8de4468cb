//! The administrators' door of a real node: what is made there, the data plane has,
//! and the other way round.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use pinion_client::{Client, Record, StreamSpec};
use serde_json::{Value, json};
use support::process::{Home, Node};
use support::run;

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

const STREAMS: &str = "/v1/tenants/default/namespaces/shop/streams";

#[test]
fn what_administrators_make_the_data_plane_has_and_the_other_way_round() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    let node = home.start(&[]);
    let token = node.token();
    assert_eq!(ask(&node, "", "GET", "/readyz", None).0, 200);

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
