//! An idle connection costs the server at most 48 KiB (R24), a flood a bounded amount.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::alloc::System;
use std::time::Duration;

use common::*;
use pinion_quic::{Endpoint, Event, Limits, WriteOutcome};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Live heap bytes of this process. Tests here run in one function, so nothing else
/// allocates meanwhile.
fn live() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.cast_signed() - stats.bytes_deallocated.cast_signed()
}

const IDLE_BYTES_MAX: isize = 48 * 1024;

#[test]
fn memory_stays_within_its_bounds() {
    idle_connections();
    flood();
}

fn idle_connections() {
    const CONNECTIONS: u32 = 200;
    for worked in [false, true] {
        let identity = identity();
        let mut sim = Sim::with_server(lan(), |config| config, &identity, 0);
        let before = live();
        {
            let config = client_config(&identity);
            let node = sim.add(Endpoint::client([9; 32]).unwrap(), "198.51.100.1:5000");
            for _ in 0..CONNECTIONS {
                let (client, _) = sim.connected(node, &config);
                if !worked {
                    continue;
                }
                // A busy minute before it falls idle: 64 KiB each way.
                let stream = sim.nodes[node].endpoint.open_bi(client).unwrap();
                let data = vec![7; 64 * 1024];
                assert_eq!(
                    sim.nodes[node].endpoint.write(client, stream, &data),
                    WriteOutcome::Written(data.len())
                );
                let mut heard = [0, 0];
                sim.run_until(Duration::from_secs(5), &mut |sim, at, event| {
                    if let Event::StreamOpened { conn, stream, .. }
                    | Event::Readable { conn, stream } = event
                    {
                        let mut got = Vec::new();
                        drain(&mut sim.nodes[at].endpoint, *conn, *stream, &mut got);
                        heard[at] += got.len();
                        if at == SERVER {
                            sim.server().write(*conn, *stream, &got);
                        }
                    }
                    heard[1] == data.len()
                });
            }
            sim.run_for(Duration::from_secs(25));
            assert_eq!(sim.server().stats().connections, 200);
            // Only the server's side stays.
            sim.nodes.remove(node);
        }
        sim.nodes[SERVER].events = Vec::new();
        sim.advances = Vec::new();
        let each = (live() - before) / CONNECTIONS.cast_signed() as isize;
        println!("idle connection, server side, worked before: {worked}: {each} bytes");
        assert!(
            each > 2_000,
            "the measurement must see the connection: {each}"
        );
        assert!(
            each <= IDLE_BYTES_MAX,
            "{each} bytes an idle connection, limit {IDLE_BYTES_MAX}"
        );
    }
}

fn flood() {
    let identity = identity();
    let config = client_config(&identity);
    let limits = Limits {
        retry_above: 32,
        handshakes_max: 64,
        ..Limits::default()
    };
    let mut sim = Sim::with_server(lan(), tight(limits), &identity, 0);
    let to = sim.nodes[SERVER].addr;
    let mut first_flights = Vec::new();
    {
        let mut attacker = Endpoint::client([7; 32]).unwrap();
        let mut buf = Vec::new();
        for _ in 0..1_000 {
            attacker
                .connect(sim.now, &config, to, "localhost", None)
                .unwrap();
            attacker.poll_transmit(sim.now, 1, &mut buf).unwrap();
            first_flights.push(buf.clone());
        }
    }
    let before = live();
    for round in 0..3u8 {
        for (n, data) in first_flights.iter().enumerate() {
            let [a, b] = u16::try_from(n).unwrap().to_be_bytes();
            sim.inject(
                std::net::SocketAddr::from(([20 + round, a, b, 1], 4000)),
                to,
                data.clone(),
            );
            if n % 100 == 99 {
                sim.run_for(Duration::from_millis(1));
            }
        }
    }
    sim.advances = Vec::new();
    let grown = live() - before;
    println!(
        "flood of 3000 first flights: {grown} bytes, {:?}",
        sim.server().stats()
    );
    assert!(sim.server().stats().handshakes <= 32);
    assert!(
        grown < 64 * 64 * 1024,
        "64 KiB for each handshake allowed: {grown}"
    );
}
