//! 0-RTT: a resuming client's first words are heard before the handshake completes,
//! and are marked for as long as their stream lives.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use pinion_quic::{CloseReason, Event, WriteOutcome};

const SOON: Duration = Duration::from_secs(5);

/// A simulation whose client holds session tickets from an earlier connection.
fn resumable() -> (Sim, pinion_quic::ClientConfig, Identity) {
    let identity = identity();
    let config = client_config(&identity);
    let mut sim = Sim::with_server(lan(), |config| config, &identity, 2);
    let (client, _) = sim.connected(1, &config);
    assert!(
        !sim.nodes[1].endpoint.has_early_data(client),
        "nothing to resume the first time"
    );
    sim.run_for(Duration::from_secs(1));
    let now = sim.now;
    sim.nodes[1].endpoint.close(now, client, 0, b"");
    sim.run_for(SOON);
    for node in &mut sim.nodes {
        node.events.clear();
    }
    (sim, config, identity)
}

#[test]
fn stream_opened_by_early_data_is_early_and_a_later_one_is_not() {
    let (mut sim, config, _identity) = resumable();
    let client = sim.connect(1, &config);
    assert!(sim.nodes[1].endpoint.has_early_data(client));
    let early = sim.nodes[1].endpoint.open_bi(client).unwrap();
    assert_eq!(
        sim.nodes[1].endpoint.write(client, early, b"get k"),
        WriteOutcome::Written(5)
    );
    let mut late = None;
    sim.run_until(SOON, &mut |sim, node, event| {
        if node == 1 && matches!(event, Event::Connected { .. }) {
            // More on the early stream, and a new stream, both after the handshake.
            sim.nodes[1].endpoint.write(client, early, b"set k");
            late = sim.nodes[1].endpoint.open_bi(client);
            sim.nodes[1].endpoint.write(client, late.unwrap(), b"set k");
        }
        node == SERVER
            && matches!(event, Event::StreamOpened { stream, .. } if Some(*stream) == late)
    });
    assert!(sim.nodes[1].endpoint.early_data_accepted(client));
    let story = sim.nodes[SERVER]
        .events
        .iter()
        .map(|event| match event {
            Event::Connected { early, alpn, .. } => {
                format!("connected early={early} {}", String::from_utf8_lossy(alpn))
            }
            Event::Confirmed { .. } => "confirmed".into(),
            Event::StreamOpened { stream, early, .. } => {
                format!("stream {} early={early}", stream.0)
            }
            Event::Readable { stream, .. } => format!("readable {}", stream.0),
            other => format!("{other:?}"),
        })
        .collect::<Vec<_>>();
    let expected = [
        "connected early=true pinion/1",
        "stream 0 early=true",
        "confirmed",
        "stream 4 early=false",
        "readable 0",
    ];
    assert_eq!(
        story
            .iter()
            .filter(|line| expected.contains(&line.as_str()))
            .collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>(),
        "{story:?}"
    );
    assert_eq!(sim.server().stats().streams_early, 1);
}

#[test]
fn replayed_first_flight_opens_no_stream() {
    let (mut sim, config, _identity) = resumable();
    let taken: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let (tape, client_addr) = (Rc::clone(&taken), sim.nodes[1].addr);
    let mut answered = false;
    sim.filter = Box::new(move |packet| {
        // The attacker records what the client says before the server answers.
        answered |= packet.to == client_addr;
        if packet.from == client_addr && !answered {
            tape.borrow_mut().push(packet.data.clone());
        }
        true
    });
    let client = sim.connect(1, &config);
    let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
    sim.nodes[1].endpoint.write(client, stream, b"set k");
    sim.run_until(SOON, &mut |_, node, event| {
        node == SERVER && matches!(event, Event::Confirmed { .. })
    });
    let now = sim.now;
    sim.nodes[1].endpoint.close(now, client, 0, b"");
    sim.run_for(Duration::from_secs(10));
    assert_eq!(sim.server().stats().streams_early, 1);
    assert_eq!(sim.server().stats().connections, 0);

    let attacker: SocketAddr = "203.0.113.9:9".parse().unwrap();
    let server = sim.nodes[SERVER].addr;
    let accepted = sim.server().stats().accepted;
    for datagram in taken.take() {
        sim.inject(attacker, server, datagram);
    }
    sim.run_for(Duration::from_secs(1));
    let stats = sim.server().stats();
    assert_eq!(
        stats.accepted,
        accepted + 1,
        "the replay was taken for a connection attempt"
    );
    assert_eq!(
        stats.streams_early, 1,
        "its session was used before, so its early data is not read"
    );
}

#[test]
fn early_stream_of_a_handshake_that_never_completes_ends_with_its_connection() {
    let (mut sim, config, _identity) = resumable();
    let client_addr = sim.nodes[1].addr;
    // The server's answers never arrive, as for someone who replays blindly.
    sim.filter = Box::new(move |packet| packet.to != client_addr);
    let client = sim.connect(1, &config);
    let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
    sim.nodes[1].endpoint.write(client, stream, b"set k");
    sim.run_for(Duration::from_secs(15));
    let events = &sim.nodes[SERVER].events;
    assert!(matches!(events[0], Event::Connected { early: true, .. }));
    assert!(matches!(events[1], Event::StreamOpened { early: true, .. }));
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Confirmed { .. }))
    );
    let closed = events.iter().find_map(|event| match event {
        Event::Closed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(closed, Some(CloseReason::HandshakeTimeout));
    // The client's retransmissions begin anew, but its session is used up.
    sim.run_for(Duration::from_secs(60));
    let stats = sim.server().stats();
    assert_eq!(
        (stats.handshakes, stats.connections, stats.streams_early),
        (0, 0, 1)
    );
}

#[test]
fn server_that_forgot_the_session_refuses_early_data_and_the_client_learns_it() {
    let (mut sim, config, identity) = resumable();
    // The node restarted: same certificate, no sessions.
    let mut forgetful = (*identity.server).clone();
    forgetful.session_storage = rustls::server::ServerSessionMemoryCache::new(16);
    let mut server = server_config(&identity, sim.start);
    server.tls = std::sync::Arc::new(forgetful);
    sim.nodes[SERVER].endpoint =
        pinion_quic::Endpoint::server(&server, one_core(), [9; 32]).unwrap();
    let client = sim.connect(1, &config);
    let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
    sim.nodes[1].endpoint.write(client, stream, b"get k");
    sim.run_until(SOON, &mut |_, node, event| {
        node == 1 && matches!(event, Event::Connected { .. })
    });
    assert!(!sim.nodes[1].endpoint.early_data_accepted(client));
    assert_eq!(
        sim.nodes[1].endpoint.write(client, stream, b"more"),
        WriteOutcome::Gone
    );
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.server().stats().streams_early, 0);
    assert!(
        sim.nodes[1].endpoint.open_bi(client).is_some(),
        "and it can simply ask again"
    );
}
