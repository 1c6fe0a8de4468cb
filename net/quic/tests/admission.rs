//! Floods meet Retry, caps and silence; those who were there first do not notice (R22).
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use pinion_quic::{
    CloseReason, ConnId, Endpoint, Event, Limits, StreamId, WriteOutcome, transport,
};

const SOON: Duration = Duration::from_secs(5);

/// First flights of `count` strangers, each from another network.
fn strangers(
    config: &pinion_quic::ClientConfig,
    sim: &Sim,
    count: u32,
) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut endpoint = Endpoint::client([77; 32]).unwrap();
    let to = sim.nodes[SERVER].addr;
    let mut buf = Vec::new();
    (0..count)
        .map(|n| {
            let [_, a, b, c] = n.to_be_bytes();
            endpoint
                .connect(sim.now, config, to, "localhost", None)
                .unwrap();
            endpoint.poll_transmit(sim.now, 1, &mut buf).unwrap();
            (SocketAddr::from(([10 + a, b, c, 1], 4000)), buf.clone())
        })
        .collect()
}

fn ping(sim: &mut Sim, client: ConnId, stream: StreamId) -> Duration {
    let before = sim.now;
    assert_eq!(
        sim.nodes[1].endpoint.write(client, stream, b"ping"),
        WriteOutcome::Written(4)
    );
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    sim.run_until(SOON, &mut |sim, node, event| {
        let (Event::StreamOpened { conn, stream, .. } | Event::Readable { conn, stream }) = event
        else {
            return false;
        };
        let heard = if node == SERVER {
            &mut asked
        } else {
            &mut answered
        };
        drain(&mut sim.nodes[node].endpoint, *conn, *stream, heard);
        if node == SERVER {
            sim.server().write(*conn, *stream, b"pong");
        }
        answered == b"pong"
    });
    sim.now - before
}

#[test]
fn flood_of_initials_turns_retry_on_and_an_established_client_does_not_notice() {
    let identity = identity();
    let config = client_config(&identity);
    let limits = Limits {
        retry_above: 20,
        handshakes_max: 40,
        ..Limits::default()
    };
    let mut sim = Sim::with_server(lan(), tight(limits), &identity, 1);
    let (client, _) = sim.connected(1, &config);
    let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
    let calm = ping(&mut sim, client, stream);

    let (server, sent_before) = (sim.nodes[SERVER].addr, sim.nodes[SERVER].sent_bytes);
    let flood = strangers(&config, &sim, 2_000);
    let flood_bytes = flood.iter().map(|(_, data)| data.len() as u64).sum::<u64>();
    for (burst, part) in flood.chunks(100).enumerate() {
        for (from, data) in part {
            sim.inject(*from, server, data.clone());
        }
        assert_eq!(ping(&mut sim, client, stream), calm, "burst {burst}");
        let stats = sim.server().stats();
        assert!(
            stats.handshakes <= 20 && stats.connections <= 21,
            "{stats:?}"
        );
    }
    let stats = sim.server().stats();
    assert_eq!(stats.accepted, 1 + 20);
    assert_eq!(stats.retries_sent, 2_000 - 20);
    assert_eq!(stats.responses_dropped, 0);
    assert!(sim.nodes[SERVER].sent_bytes - sent_before <= 3 * flood_bytes);

    // The strangers never answer: their handshakes are given up, their places freed.
    sim.run_for(Duration::from_secs(20));
    let stats = sim.server().stats();
    assert_eq!(
        (
            stats.connections,
            stats.handshakes,
            stats.handshakes_timed_out
        ),
        (1, 0, 20)
    );
    assert_eq!(ping(&mut sim, client, stream), calm);
}

#[test]
fn honest_client_answers_a_retry_and_gets_in() {
    let identity = identity();
    let config = client_config(&identity);
    let mut sim = Sim::with_server(
        lan(),
        tight(Limits {
            retry_above: 0,
            ..Limits::default()
        }),
        &identity,
        1,
    );
    let (client, _) = sim.connected(1, &config);
    assert_eq!(
        (
            sim.server().stats().retries_sent,
            sim.server().stats().accepted
        ),
        (1, 1)
    );

    // It was given a token for next time, and is asked for no second proof.
    sim.run_for(Duration::from_secs(1));
    let now = sim.now;
    sim.nodes[1].endpoint.close(now, client, 0, b"");
    sim.run_for(SOON);
    sim.connected(1, &config);
    assert_eq!(
        (
            sim.server().stats().retries_sent,
            sim.server().stats().accepted
        ),
        (1, 2)
    );
}

/// A server that sends everyone a Retry, and its client's second Initial, the one with
/// the token, caught on its way.
fn caught_answer_to_a_retry() -> (Sim, Vec<u8>) {
    let identity = identity();
    let config = client_config(&identity);
    let always = Limits {
        retry_above: 0,
        ..Limits::default()
    };
    let mut sim = Sim::with_server(lan(), tight(always), &identity, 1);
    let client_addr = sim.nodes[1].addr;
    let caught = Rc::new(RefCell::new(None));
    let tape = Rc::clone(&caught);
    let mut said = 0;
    sim.filter = Box::new(move |packet| {
        said += u32::from(packet.from == client_addr);
        if said == 2 {
            *tape.borrow_mut() = Some(packet.data.clone());
        }
        said < 2
    });
    sim.connect(1, &config);
    sim.run_for(Duration::from_millis(1));
    let second = caught.take().expect("the Retry was answered");
    (sim, second)
}

#[test]
fn retry_token_is_no_use_to_another_address() {
    let (mut sim, second) = caught_answer_to_a_retry();
    let (client_addr, server) = (sim.nodes[1].addr, sim.nodes[SERVER].addr);
    sim.inject("203.0.113.3:7".parse().unwrap(), server, second.clone());
    sim.run_for(Duration::from_millis(1));
    let stats = sim.server().stats();
    assert_eq!(
        (stats.accepted, stats.stateless_responses),
        (0, 1),
        "INVALID_TOKEN, {stats:?}"
    );

    sim.inject(client_addr, server, second);
    sim.run_for(Duration::from_millis(1));
    assert_eq!(
        sim.server().stats().accepted,
        1,
        "from its own address it is good"
    );
}

#[test]
fn retry_token_is_good_for_fifteen_seconds() {
    let (mut sim, second) = caught_answer_to_a_retry();
    let (client_addr, server) = (sim.nodes[1].addr, sim.nodes[SERVER].addr);
    sim.run_for(pinion_quic::RETRY_TOKEN_LIFETIME + Duration::from_secs(1));
    sim.inject(client_addr, server, second);
    sim.run_for(Duration::from_millis(1));
    let stats = sim.server().stats();
    assert_eq!(
        (stats.accepted, stats.stateless_responses),
        (0, 1),
        "{stats:?}"
    );
}

#[test]
fn hard_cap_on_handshakes_holds_even_for_proven_addresses() {
    let identity = identity();
    let config = client_config(&identity);
    let limits = Limits {
        retry_above: 0,
        handshakes_max: 10,
        ..Limits::default()
    };
    let mut sim = Sim::with_server(lan(), tight(limits), &identity, 30);
    // Everyone answers the Retry (packet type 3) and then hears nothing more.
    let server = sim.nodes[SERVER].addr;
    sim.filter = Box::new(move |packet| packet.from != server || packet.data[0] & 0xf0 == 0xf0);
    for node in 1..=30 {
        sim.connect(node, &config);
    }
    sim.run_for(Duration::from_millis(500));
    let stats = sim.server().stats();
    assert_eq!((stats.handshakes, stats.accepted), (10, 10));
    assert!(stats.ignored_handshakes >= 20, "{stats:?}");
    sim.filter = Box::new(|_| true);
    sim.run_for(Duration::from_secs(15));
    let connected = sim.nodes[1..]
        .iter()
        .filter(|node| {
            node.events
                .iter()
                .any(|event| matches!(event, Event::Connected { .. }))
        })
        .count();
    assert_eq!(
        connected, 30,
        "their own retransmissions bring all of them in when there is room"
    );
}

#[test]
fn full_and_draining_endpoints_refuse_at_once_and_keep_what_they_have() {
    let identity = identity();
    let config = client_config(&identity);
    let mut sim = Sim::with_server(
        lan(),
        tight(Limits {
            connections_max: 1,
            ..Limits::default()
        }),
        &identity,
        3,
    );
    let (first, _) = sim.connected(1, &config);
    let stream = sim.nodes[1].endpoint.open_bi(first).unwrap();
    let refused = |events: &[Event]| {
        events.iter().any(|event| {
            matches!(
                event,
                Event::Closed {
                    reason: CloseReason::PeerTransport { code: 2, .. },
                    ..
                }
            )
        })
    };
    let before = sim.now;
    sim.connect(2, &config);
    sim.run_until(SOON, &mut |_, node, event| {
        node == 2 && matches!(event, Event::Closed { .. })
    });
    assert!(refused(&sim.nodes[2].events) && sim.now - before < Duration::from_millis(1));
    sim.server().refuse_new(true);
    sim.connect(3, &config);
    sim.run_until(SOON, &mut |_, node, event| {
        node == 3 && matches!(event, Event::Closed { .. })
    });
    assert!(refused(&sim.nodes[3].events));
    let stats = sim.server().stats();
    assert_eq!(
        (
            stats.refused_full,
            stats.refused_draining,
            stats.connections
        ),
        (1, 1, 1)
    );
    ping(&mut sim, first, stream);
}

/// Sends one first flight, lets the client say nothing more, and counts bytes.
fn bytes_to_an_unproven_address(min_mtu: u16) -> (u64, u64) {
    let identity = identity_of(6);
    let mut client = transport::client(transport::MTU_ETHERNET);
    client.min_mtu(min_mtu).initial_mtu(min_mtu);
    let config = client_config(&identity).with_transport(Arc::new(client));
    let mut sim = Sim::with_server(lan(), |config| config, &identity, 1);
    let client_addr = sim.nodes[1].addr;
    let mut said = 0;
    let tally = Rc::new(RefCell::new((0u64, 0u64)));
    let shared = Rc::clone(&tally);
    sim.filter = Box::new(move |packet| {
        if packet.from == client_addr {
            said += 1;
            if said > 1 {
                return false;
            }
            shared.borrow_mut().0 += packet.data.len() as u64;
        } else {
            shared.borrow_mut().1 += packet.data.len() as u64;
        }
        true
    });
    sim.connect(1, &config);
    sim.run_for(Duration::from_secs(40));
    *tally.borrow()
}

#[test]
fn unproven_address_is_never_sent_more_than_three_times_its_bytes() {
    for min_mtu in [1200, 1250, 1399, 1452] {
        let (heard, sent) = bytes_to_an_unproven_address(min_mtu);
        assert_eq!(heard, u64::from(min_mtu));
        assert!(sent <= 3 * heard, "{sent} bytes for {heard}");
        assert!(
            sent >= 2 * heard,
            "the certificate chain is long enough to reach the limit: {sent} for {heard}"
        );
    }
}

#[test]
fn handshake_with_a_long_certificate_chain_completes_within_the_limit() {
    let identity = identity_of(6);
    let config = client_config(&identity);
    let mut sim = Sim::with_server(lan(), |config| config, &identity, 1);
    sim.connected(1, &config);
    assert!(
        sim.elapsed() < Duration::from_millis(10),
        "{:?}",
        sim.elapsed()
    );
}
