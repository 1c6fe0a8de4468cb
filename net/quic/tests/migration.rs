//! Clients change address mid-connection and lose nothing (R17).
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use pinion_quic::{Event, WriteOutcome};

#[test]
fn connection_survives_a_thousand_changes_of_port() {
    let identity = identity();
    let config = client_config(&identity);
    let mut sim = Sim::with_server(lan(), |config| config, &identity, 1);
    let (client, server) = sim.connected(1, &config);
    let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
    for change in 0..1000u16 {
        let addr = format!("198.51.100.1:{}", 10_000 + change).parse().unwrap();
        sim.nodes[1].addr = addr;
        assert_eq!(
            sim.nodes[1].endpoint.write(client, stream, b"ping"),
            WriteOutcome::Written(4)
        );
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        let before = sim.now;
        sim.run_until(Duration::from_secs(3), &mut |sim, node, event| {
            let (Event::StreamOpened { conn, stream, .. } | Event::Readable { conn, stream }) =
                event
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
        assert!(
            sim.now - before < Duration::from_millis(10),
            "change {change} cost {:?}",
            sim.now - before
        );
        assert_eq!(sim.server().remote(server), Some(addr));
    }
    let stats = sim.server().stats();
    assert_eq!((stats.connections, stats.accepted, stats.strays), (1, 1, 0));
}

#[test]
fn change_of_address_in_the_middle_of_a_large_transfer_loses_nothing() {
    let identity = identity();
    let config = client_config(&identity);
    let mut sim = Sim::with_server(gigabit(), |config| config, &identity, 1);
    let (client, server) = sim.connected(1, &config);
    let data = (0..2_000_000u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
        .collect::<Vec<u8>>();
    let stream = sim.server().open_uni(server).unwrap();
    let (mut written, mut got) = (0, Vec::new());
    let mut moved = false;
    if let WriteOutcome::Written(taken) = sim.server().write(server, stream, &data) {
        written = taken;
    }
    sim.run_until(Duration::from_secs(20), &mut |sim, node, event| {
        match event {
            Event::Writable { conn, stream } if node == SERVER => {
                while let WriteOutcome::Written(taken) =
                    sim.server().write(*conn, *stream, &data[written..])
                {
                    written += taken;
                    if written == data.len() {
                        break;
                    }
                }
            }
            Event::StreamOpened { conn, stream, .. } | Event::Readable { conn, stream }
                if node == 1 =>
            {
                drain(&mut sim.nodes[1].endpoint, *conn, *stream, &mut got);
                if got.len() > 500_000 && !std::mem::replace(&mut moved, true) {
                    sim.nodes[1].addr = "203.0.113.77:4711".parse().unwrap();
                    // Whatever is on its way to the old address is lost, as behind a NAT.
                    let mtu = sim.nodes[1].endpoint.current_mtu(client);
                    assert!(mtu.is_some());
                }
            }
            _ => {}
        }
        got.len() == data.len()
    });
    assert!(moved && got == data);
    assert_eq!(
        sim.server().remote(server),
        Some("203.0.113.77:4711".parse().unwrap())
    );
}
