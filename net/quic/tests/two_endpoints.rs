//! A client and a server in one process, joined by a wire in virtual time.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use pinion_quic::{
    CloseReason, ConnId, ConnectError, CorePlace, Endpoint, Event, PathMeta, ReadOutcome, Steering,
    StreamId, WriteOutcome,
};

const SOON: Duration = Duration::from_secs(5);

fn pair() -> (Sim, pinion_quic::ClientConfig) {
    let identity = identity();
    let config = client_config(&identity);
    (
        Sim::with_server(lan(), |config| config, &identity, 1),
        config,
    )
}

#[test]
fn request_and_reply_travel_on_one_bidirectional_stream() {
    let (mut sim, config) = pair();
    let (client, _) = sim.connected(1, &config);
    let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
    assert_eq!(
        sim.nodes[1].endpoint.write(client, stream, b"ping"),
        WriteOutcome::Written(4)
    );
    let mut reply = Vec::new();
    sim.run_until(SOON, &mut |sim, node, event| match event {
        Event::StreamOpened {
            conn,
            stream,
            bidi,
            early,
        } if node == SERVER => {
            assert!(*bidi && !*early);
            assert_eq!(
                sim.server().read(*conn, *stream),
                ReadOutcome::Chunk(Bytes::from_static(b"ping"))
            );
            assert_eq!(sim.server().read(*conn, *stream), ReadOutcome::Blocked);
            let mut chunks = [Bytes::from_static(b"po"), Bytes::from_static(b"ng")];
            assert_eq!(
                sim.server().write_chunks(*conn, *stream, &mut chunks),
                WriteOutcome::Written(4)
            );
            assert!(
                chunks.iter().all(Bytes::is_empty),
                "taken chunks are left empty"
            );
            false
        }
        Event::Readable { conn, stream } if node == 1 => {
            drain(&mut sim.nodes[1].endpoint, *conn, *stream, &mut reply);
            true
        }
        _ => false,
    });
    assert_eq!(reply, b"pong");
    let connected = sim.nodes[1]
        .events
        .iter()
        .find(|event| matches!(event, Event::Connected { .. }))
        .unwrap();
    assert!(
        matches!(connected, Event::Connected { alpn, early: false, .. } if alpn.as_ref() == b"pinion/1")
    );
    let stats = sim.server().stats();
    assert_eq!(
        (stats.connections, stats.handshakes, stats.accepted),
        (1, 0, 1)
    );
}

#[test]
fn server_delivers_on_streams_it_opens() {
    let (mut sim, config) = pair();
    let (_, server) = sim.connected(1, &config);
    let stream = sim.server().open_uni(server).unwrap();
    sim.server().write(server, stream, b"delivery");
    sim.server().finish(server, stream).unwrap();
    let mut got = Vec::new();
    sim.run_until(SOON, &mut |sim, node, event| match event {
        Event::StreamOpened {
            conn,
            stream,
            bidi: false,
            ..
        } if node == 1 => {
            assert!(drain(&mut sim.nodes[1].endpoint, *conn, *stream, &mut got));
            assert_eq!(
                sim.nodes[1].endpoint.write(*conn, *stream, b"x"),
                WriteOutcome::Gone,
                "not ours to write"
            );
            false
        }
        Event::StreamFinished {
            stream: finished, ..
        } if node == SERVER => *finished == stream,
        _ => false,
    });
    assert_eq!(got, b"delivery");
}

#[test]
fn limits_on_streams_are_those_of_the_protocol() {
    let (mut sim, config) = pair();
    let (client, server) = sim.connected(1, &config);
    let endpoint = &mut sim.nodes[1].endpoint;
    assert_eq!(
        endpoint.open_uni(client),
        None,
        "clients open no unidirectional streams"
    );
    for _ in 0..16 {
        assert!(endpoint.open_bi(client).is_some());
    }
    assert_eq!(endpoint.open_bi(client), None, "sixteen request streams");
    assert_eq!(
        sim.server().open_bi(server),
        None,
        "servers open no request streams"
    );
}

#[test]
fn a_reader_that_has_enough_finds_the_rest_later() {
    let (mut sim, config) = pair();
    let (client, _) = sim.connected(1, &config);
    let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
    let data: Vec<u8> = (0..6000_u32).map(|at| at.to_le_bytes()[0]).collect();
    assert_eq!(
        sim.nodes[1].endpoint.write(client, stream, &data),
        WriteOutcome::Written(data.len())
    );
    let mut opened = None;
    sim.run_until(SOON, &mut |_, node, event| {
        if let Event::StreamOpened { conn, stream, .. } = event
            && node == SERVER
        {
            opened = Some((*conn, *stream));
        }
        opened.is_some()
    });
    sim.run_for(Duration::from_millis(100));
    let (conn, stream) = opened.expect("it was announced");
    let mut taken = Vec::new();
    let mut take = |end: usize| {
        sim.server().read_while(conn, stream, |chunk| {
            taken.push(chunk);
            taken.len() != end
        })
    };
    let more = ReadOutcome::Chunk(Bytes::new());
    assert_eq!(take(1), more);
    assert_eq!(take(3), more);
    assert_eq!(take(0), ReadOutcome::Blocked);
    assert!(taken.len() > 3, "several datagrams");
    assert_eq!(taken.concat(), data);
}

/// A stream the client opened and the server has begun to read.
fn begun(sim: &mut Sim, client: ConnId) -> StreamId {
    let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
    sim.nodes[1].endpoint.write(client, stream, b"begun");
    sim.run_until(SOON, &mut |sim, node, event| match event {
        Event::StreamOpened { conn, stream, .. } if node == SERVER => {
            let begun = ReadOutcome::Chunk(Bytes::from_static(b"begun"));
            assert_eq!(sim.server().read(*conn, *stream), begun);
            true
        }
        _ => false,
    });
    stream
}

#[test]
fn reset_reaches_the_reader_with_its_code() {
    let (mut sim, config) = pair();
    let (client, server) = sim.connected(1, &config);
    let stream = begun(&mut sim, client);
    sim.nodes[1].endpoint.reset(client, stream, 7).unwrap();
    let told = Event::StreamReset {
        conn: server,
        stream,
        code: 7,
    };
    sim.run_until(SOON, &mut |_, node, event| node == SERVER && *event == told);
    assert_eq!(sim.server().read(server, stream), ReadOutcome::Gone);
    assert_eq!(
        sim.server().write(server, stream, b"x"),
        WriteOutcome::Written(1),
        "its half lives on"
    );
}

#[test]
fn stop_reaches_the_writer_with_its_code() {
    let (mut sim, config) = pair();
    let (client, server) = sim.connected(1, &config);
    let stream = begun(&mut sim, client);
    sim.server().stop(server, stream, 9).unwrap();
    let told = Event::StreamStopped {
        conn: client,
        stream,
        code: 9,
    };
    sim.run_until(SOON, &mut |_, node, event| node == 1 && *event == told);
    assert_eq!(
        sim.nodes[1].endpoint.write(client, stream, b"x"),
        WriteOutcome::Stopped(9)
    );
    assert_eq!(sim.server().read(server, stream), ReadOutcome::Gone);
}

#[test]
fn nothing_panics_on_ids_that_were_never_given_out() {
    let (mut sim, config) = pair();
    let (client, server) = sim.connected(1, &config);
    let strangers = [
        ConnId {
            slot: 99,
            generation: 0,
        },
        ConnId {
            slot: 0,
            generation: 99,
        },
    ];
    for (node, conn) in [
        (1, client),
        (SERVER, server),
        (1, strangers[0]),
        (1, strangers[1]),
    ] {
        let endpoint = &mut sim.nodes[node].endpoint;
        // Streams within the limits a peer was given are known, if empty; these
        // are beyond them, or can never exist.
        let never = [
            64,
            68,
            1,
            2,
            20_003,
            1 << 61,
            (1 << 62) - 1,
            1 << 62,
            u64::MAX,
        ];
        for stream in never.map(StreamId) {
            assert_eq!(endpoint.read(conn, stream), ReadOutcome::Gone);
            assert_eq!(endpoint.write(conn, stream, b"x"), WriteOutcome::Gone);
            assert!(endpoint.finish(conn, stream).is_err());
            assert!(endpoint.reset(conn, stream, 1).is_err());
            assert!(endpoint.stop(conn, stream, 1).is_err());
            assert!(endpoint.set_priority(conn, stream, 1).is_err());
        }
    }
}

#[test]
fn close_is_told_once_on_each_side_and_the_slot_is_reused_under_another_id() {
    let (mut sim, config) = pair();
    let (client, server) = sim.connected(1, &config);
    let now = sim.now;
    sim.server().close(now, server, 77, b"drain");
    sim.server().close(now, server, 78, b"again");
    assert_eq!(sim.server().open_uni(server), None, "gone at once");
    sim.run_for(SOON);
    let closed = |events: &[Event]| {
        events
            .iter()
            .filter_map(|event| match event {
                Event::Closed { reason, .. } => Some(reason.clone()),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(closed(&sim.nodes[SERVER].events), [CloseReason::Local]);
    assert_eq!(
        closed(&sim.nodes[1].events),
        [CloseReason::Peer {
            code: 77,
            reason: Bytes::from_static(b"drain")
        }]
    );
    assert!(sim.server().is_idle() && sim.nodes[1].endpoint.is_idle());
    assert_eq!(
        sim.server().next_deadline(),
        None,
        "nothing is left to wait for"
    );

    let (client_again, server_again) = sim.connected(1, &config);
    assert_eq!(client_again.slot, client.slot);
    assert_ne!(client_again.generation, client.generation);
    assert_ne!(server_again, server);
    assert_eq!(sim.server().read(server, StreamId(0)), ReadOutcome::Gone);
    assert_eq!(ConnId::from_u64(server_again.to_u64()), server_again);
}

#[test]
fn silent_client_is_kept_alive_and_a_dead_one_is_let_go() {
    let (mut sim, config) = pair();
    sim.connected(1, &config);
    sim.run_for(Duration::from_secs(300));
    assert_eq!(
        sim.server().stats().connections,
        1,
        "keep-alive holds the connection"
    );
    sim.filter = Box::new(|_| false);
    sim.run_for(Duration::from_secs(60));
    assert_eq!(sim.server().stats().connections, 0);
    let closed = Event::Closed {
        conn: ConnId {
            slot: 0,
            generation: 0,
        },
        reason: CloseReason::TimedOut,
    };
    assert!(sim.nodes[SERVER].events.contains(&closed) && sim.nodes[1].events.contains(&closed));
}

#[test]
fn same_seed_same_connection_ids_and_another_seed_others() {
    let identity = identity();
    let config = client_config(&identity);
    let first_flight = |seed: u8| {
        let now = std::time::Instant::now();
        let mut endpoint = Endpoint::client([seed; 32]).unwrap();
        endpoint
            .connect(
                now,
                &config,
                "192.0.2.1:1".parse().unwrap(),
                "localhost",
                None,
            )
            .unwrap();
        let mut buf = Vec::new();
        endpoint.poll_transmit(now, 1, &mut buf).unwrap();
        // Byte 5: length of the destination id; then the source id.
        buf[5..5 + 1 + 8 + 1 + 8].to_vec()
    };
    assert_eq!(first_flight(3), first_flight(3));
    assert_ne!(first_flight(3), first_flight(4));
}

#[test]
fn connection_aimed_at_a_core_lands_and_stays_there() {
    let identity = identity();
    let config = client_config(&identity);
    let mut sim = Sim::new(lan());
    let steering = Steering::from_seed([5; 32], 3).unwrap();
    let server = server_config(&identity, sim.start);
    let addr = "192.0.2.1:8080";
    let cores = (0..3u16)
        .map(|core| {
            let seed = [u8::try_from(core).unwrap() + 1; 32];
            sim.add(
                Endpoint::server(&server, CorePlace { steering, core }, seed).unwrap(),
                addr,
            )
        })
        .collect::<Vec<_>>();
    sim.steered = Some((addr.parse().unwrap(), cores));
    for core in 0..3u16 {
        let client = sim.add(
            Endpoint::client([50 + u8::try_from(core).unwrap(); 32]).unwrap(),
            &format!("198.51.100.{}:9", core + 1),
        );
        let now = sim.now;
        sim.nodes[client]
            .endpoint
            .connect(
                now,
                &config,
                addr.parse().unwrap(),
                "localhost",
                Some(CorePlace { steering, core }),
            )
            .unwrap();
        sim.run_until(SOON, &mut |_, node, event| {
            node == client && matches!(event, Event::Connected { .. })
        });
        sim.run_for(SOON);
        for (index, node) in sim.nodes[..3].iter().enumerate() {
            let stats = node.endpoint.stats();
            assert_eq!(
                stats.connections,
                usize::from(index <= usize::from(core)),
                "core {index}"
            );
            assert_eq!(stats.strays, 0, "core {index}");
        }
    }
    let now = sim.now;
    let wrong = sim.nodes[3].endpoint.connect(
        now,
        &config,
        addr.parse().unwrap(),
        "localhost",
        Some(CorePlace { steering, core: 3 }),
    );
    assert_eq!(wrong, Err(ConnectError::Core { core: 3, cores: 3 }));
}

#[test]
fn slow_connection_does_not_hold_back_the_others() {
    let identity = identity();
    let config = client_config(&identity);
    let mut sim = Sim::with_server(gigabit(), |config| config, &identity, 3);
    let ids = (1..=3)
        .map(|node| sim.connected(node, &config).1)
        .collect::<Vec<_>>();
    for conn in &ids {
        let stream = sim.server().open_uni(*conn).unwrap();
        sim.server().write(*conn, stream, &[0; 9000]);
    }
    // Take transmits by hand: each connection has several packets waiting.
    let (now, mut buf, mut order) = (sim.now, Vec::new(), Vec::new());
    while let Some(meta) = sim.server().poll_transmit(now, 2, &mut buf) {
        order.push(meta.destination);
    }
    assert!(order.len() >= 9);
    for turn in order[..9].chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort();
        turn.dedup();
        assert_eq!(turn.len(), 3, "every connection once per turn: {order:?}");
    }
}

#[test]
fn wrong_certificate_ends_the_handshake_on_both_sides() {
    let (mut sim, _) = pair();
    let stranger = client_config(&identity());
    sim.connect(1, &stranger);
    sim.run_for(Duration::from_secs(10));
    let reason = sim.nodes[1].events.iter().find_map(|event| match event {
        Event::Closed {
            reason: CloseReason::Transport { code, .. },
            ..
        } => Some(*code),
        _ => None,
    });
    assert!(
        reason.is_some_and(|code| code >= 0x100),
        "a TLS alert: {reason:?}"
    );
    assert!(
        sim.nodes[SERVER].events.is_empty(),
        "the server's side was never announced"
    );
    let stats = sim.server().stats();
    assert_eq!(
        (stats.connections, stats.handshakes, stats.handshakes_failed),
        (0, 0, 1)
    );
}

#[test]
fn idle_connections_ask_for_no_attention() {
    let identity = identity();
    let config = client_config(&identity);
    let mut sim = Sim::with_server(lan(), |config| config, &identity, 1);
    for _ in 0..300 {
        sim.connected(1, &config);
    }
    sim.run_for(Duration::from_secs(5));
    sim.advances.clear();
    sim.run_for(Duration::from_secs(4));
    assert_eq!(
        sim.advances.len(),
        0,
        "neither timers nor packets before the next keep-alive"
    );
    sim.run_for(Duration::from_secs(60));
    assert_eq!(sim.server().stats().connections, 300);
}

#[test]
fn endpoint_can_be_moved_to_the_thread_that_drives_it() {
    fn is_send<T: Send>() {}
    is_send::<Endpoint>();
    is_send::<pinion_quic::ServerConfig>();
    is_send::<pinion_quic::ClientConfig>();
}

#[test]
fn a_connection_closed_by_its_peer_is_silent_until_it_is_forgotten() {
    let (mut sim, config) = pair();
    let client_addr = sim.nodes[1].addr;
    let last = Rc::new(RefCell::new(Vec::new()));
    let heard = Rc::clone(&last);
    sim.filter = Box::new(move |packet| {
        if packet.from == client_addr {
            heard.borrow_mut().clone_from(&packet.data);
        }
        true
    });
    let (client, _) = sim.connected(1, &config);
    sim.run_for(SOON);
    let late = last.borrow().clone();
    let sent = sim.nodes[SERVER].sent_datagrams;
    let now = sim.now;
    sim.nodes[1].endpoint.close(now, client, 7, b"enough");
    sim.run_until(SOON, &mut |_, node, event| {
        node == SERVER && matches!(event, Event::Closed { .. })
    });
    let path = PathMeta {
        remote: client_addr,
        local_ip: None,
        ecn: None,
    };
    let mut buf = Vec::new();
    let mut say_again = |sim: &mut Sim| {
        let now = sim.now;
        let server = sim.server();
        server.handle_datagram(now, path, late[..].into());
        assert_eq!(server.poll_event(), None);
        server.poll_transmit(now, 1, &mut buf)
    };
    assert_eq!(say_again(&mut sim), None, "what is late is not answered");
    assert_eq!(sim.server().stats().connections, 1, "its ids are kept");
    sim.run_for(SOON);
    assert_eq!(sim.nodes[SERVER].sent_datagrams, sent, "not even a close");
    assert!(sim.server().is_idle());
    assert!(
        say_again(&mut sim).is_some(),
        "a reset: nobody knows it now"
    );
}
