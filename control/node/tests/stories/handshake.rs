//! HELLO, and that nothing comes before it.

use pinion_node::HELLO_WAIT;
use pinion_session::CloseCode;
use pinion_types::{ErrorCode, FactId, ResourceKind};
use pinion_wire::message::{Hello, MAGIC, Open, Reply, Request};
use pinion_wire::opcode::{self, REQUESTS};

use super::Scene;
use crate::harness::{ADMIN, World};

fn hello(token: &[u8]) -> Hello<'_> {
    Hello {
        magic: MAGIC,
        version_min: 1,
        version_max: 1,
        capabilities: 0,
        token,
        client_name: "test",
    }
}

#[track_caller]
fn refused_hello(hello: Hello<'_>, code: ErrorCode, close: CloseCode) -> pinion_types::Refusal {
    let mut w = World::one();
    let id = w.connect(0);
    let refusal = w.refused(id, &Request::Hello(hello));
    assert_eq!((refusal.code, w.closed(id)), (code, Some(close)));
    assert_eq!(w.cores[0].connections(), 0);
    refusal
}

#[test]
fn a_good_token_is_welcomed_with_what_a_client_needs() {
    let mut w = World::two();
    let id = w.connect(1);
    let answer = w.hello(id, ADMIN);
    let Reply::Welcome(welcome) = answer.reply() else {
        panic!("{answer:?}")
    };
    assert_eq!((welcome.core, welcome.data_cores), (1, 2));
    assert_eq!((welcome.steering_k0, welcome.steering_k1), (5, 7));
    assert_eq!((welcome.node_id, welcome.server_time), (77, w.wall));
    assert_eq!((w.stats().sessions, w.closed(id)), (1, None));
}

#[test]
fn a_missing_or_wrong_token_is_told_and_closed() {
    for token in [&b""[..], b"wrong", b"admin ", b"Admin"] {
        let close = CloseCode::Unauthenticated;
        refused_hello(hello(token), ErrorCode::Unauthenticated, close);
    }
}

#[test]
fn other_magic_versions_and_capabilities_are_refused_with_facts() {
    let protocol = CloseCode::Protocol;
    let mut other = hello(ADMIN);
    other.magic = *b"HTTP";
    refused_hello(other, ErrorCode::Malformed, protocol);
    let mut newer = hello(ADMIN);
    (newer.version_min, newer.version_max) = (2, 9);
    let refusal = refused_hello(newer, ErrorCode::UnsupportedVersion, protocol);
    assert_eq!(refusal.fact(FactId::Max), Some(1));
    let mut greedy = hello(ADMIN);
    greedy.capabilities = 1 << 63;
    let refusal = refused_hello(greedy, ErrorCode::UnknownBits, protocol);
    assert_eq!(refusal.fact(FactId::Actual), Some(1 << 63));
}

#[test]
fn nothing_after_a_refused_hello_is_looked_at() {
    let mut w = World::one();
    let id = w.connect(0);
    let mut bytes = Vec::new();
    Request::Hello(hello(b"wrong"))
        .encode(1, &mut bytes)
        .unwrap();
    let open = Open {
        kind: ResourceKind::Stream,
        namespace: "n",
        name: "s",
        spec: None,
    };
    Request::Hello(hello(ADMIN)).encode(2, &mut bytes).unwrap();
    Request::Open(open).encode(3, &mut bytes).unwrap();
    let stream = w.clients[id].first_stream();
    // In one piece and byte by byte.
    w.send_bytes(id, stream, &bytes);
    for byte in &bytes {
        w.send_bytes(id, stream, &[*byte]);
    }
    w.settle();
    let replies = w.clients[id].replies();
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert_eq!(replies[0].code(), Some(ErrorCode::Unauthenticated));
    assert_eq!(w.closed(id), Some(CloseCode::Unauthenticated));
    assert_eq!((w.stats().requests, w.stats().sessions), (1, 0));
}

#[test]
fn no_request_precedes_hello() {
    let mut w = World::one();
    let scene = Scene::new(&mut w, 0, ADMIN, false);
    for entry in REQUESTS.iter().filter(|e| e.opcode != opcode::HELLO) {
        let id = w.connect(0);
        let stream = w.clients[id].first_stream();
        let before = w.stats();
        w.send_bytes(id, stream, &scene.sample(entry.opcode, 9));
        w.settle();
        let replies = w.clients[id].replies();
        assert_eq!(replies.len(), 1, "{}", entry.name);
        assert_eq!(replies[0].code(), Some(ErrorCode::WrongOrder));
        assert_eq!(w.closed(id), Some(CloseCode::Protocol), "{}", entry.name);
        assert_eq!(w.stats().published, before.published);
    }
}

#[test]
fn a_second_hello_ends_the_connection() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    w.assert_refused(id, &Request::Hello(hello(ADMIN)), ErrorCode::WrongOrder);
    assert_eq!(w.closed(id), Some(CloseCode::Protocol));
}

#[test]
fn bytes_that_keep_coming_after_the_end_are_dropped() {
    let mut w = World::one();
    let id = w.connect(0);
    let stream = w.clients[id].first_stream();
    for part in [&b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"[..]; 3] {
        w.send_bytes(id, stream, part);
    }
    w.settle();
    assert_eq!(w.closed(id), Some(CloseCode::Protocol));
    assert_eq!(w.cores[0].held_bytes(), 0);
}

#[test]
fn who_says_nothing_is_closed_after_a_while_and_others_stay() {
    let mut w = World::one();
    let good = w.client(0, ADMIN);
    let silent: Vec<_> = (0..1000).map(|_| w.connect(0)).collect();
    w.settle();
    w.advance(HELLO_WAIT / 2);
    let late = w.connect(0);
    assert_eq!(w.cores[0].connections(), 1002);
    w.advance(HELLO_WAIT / 2);
    for id in silent {
        assert_eq!(w.closed(id), Some(CloseCode::Unauthenticated));
    }
    assert_eq!((w.closed(good), w.closed(late)), (None, None));
    w.hello(late, ADMIN);
    w.advance(HELLO_WAIT);
    assert_eq!(w.cores[0].connections(), 2);
    assert_eq!(w.cores[0].next_deadline(), None);
}

#[test]
fn nobody_without_a_token_holds_more_than_a_hello() {
    let mut w = World::one();
    let good = w.client(0, ADMIN);
    let id = w.connect(0);
    let stream = w.clients[id].first_stream();
    let mut head = 1_000_000_u32.to_le_bytes().to_vec();
    head.extend_from_slice(&[opcode::HELLO, 0, 0, 0, 1, 0, 0, 0]);
    w.send_bytes(id, stream, &head);
    for _ in 0..100 {
        w.send_bytes(id, stream, &[0; 1200]);
        w.settle();
        assert!(w.cores[0].held_bytes() < 6000);
    }
    assert_eq!(w.closed(id), Some(CloseCode::Protocol));
    assert_eq!(w.closed(good), None);
    // The longest HELLO is fine, however it is cut.
    let id = w.connect(0);
    let stream = w.clients[id].first_stream();
    let mut bytes = Vec::new();
    let token = [7; 4096];
    let mut longest = hello(&token);
    let name = "x".repeat(255);
    longest.client_name = &name;
    Request::Hello(longest).encode(1, &mut bytes).unwrap();
    for part in bytes.chunks(100) {
        w.send_bytes(id, stream, part);
    }
    w.settle();
    assert_eq!(w.closed(id), Some(CloseCode::Unauthenticated));
}
