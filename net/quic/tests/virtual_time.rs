//! No 25 ms quantum: large requests and large replies never wait for the peer's
//! delayed ACK. Shown in virtual time, where the clock moves only to the next packet
//! or the next timer, so a wait for a timer cannot hide.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use pinion_quic::{ClientConfig, Event, ServerConfig, StreamId, WriteOutcome, transport};
use quinn_proto::TransportConfig;
use quinn_proto::congestion::CubicConfig;

/// Longest single move of the clock that is still no wait: well above any link
/// latency here, well below the 25 ms of RFC 9000 §18.2.
const QUANTUM: Duration = Duration::from_millis(5);

struct Report {
    took: Duration,
    /// Moves of the clock to a timer that acknowledges or repeats something, while
    /// nothing was on the wire: nobody but that timer could end the wait.
    stalls: Vec<Advance>,
    longest: Duration,
    fired: BTreeMap<String, u32>,
    /// Packets either side took for lost, though the wire loses none.
    lost: u64,
}

impl Report {
    fn clean(&self) -> bool {
        self.stalls.is_empty() && self.longest < QUANTUM && self.lost == 0
    }
}

struct Setup {
    link: Link,
    mtu_max: u16,
    server: Arc<TransportConfig>,
    client: Arc<TransportConfig>,
}

impl Setup {
    fn shipped(link: Link, mtu_max: u16) -> Self {
        Self {
            link,
            mtu_max,
            server: Arc::new(transport::server(mtu_max)),
            client: Arc::new(transport::client(mtu_max)),
        }
    }

    /// The shipped configuration with something changed on both sides.
    fn spoilt(link: Link, mtu_max: u16, spoil: impl Fn(&mut TransportConfig)) -> Self {
        let (mut server, mut client) = (transport::server(mtu_max), transport::client(mtu_max));
        spoil(&mut server);
        spoil(&mut client);
        Self {
            link,
            mtu_max,
            server: Arc::new(server),
            client: Arc::new(client),
        }
    }

    fn sim(&self) -> (Sim, ClientConfig) {
        let identity = identity();
        let server = Arc::clone(&self.server);
        let mtu_max = self.mtu_max;
        let prepare = move |config: ServerConfig| {
            let mut config = config.with_mtu_max(mtu_max);
            config.transport = server;
            config
        };
        let sim = Sim::with_server(self.link, prepare, &identity, 1);
        let client = client_config(&identity)
            .with_mtu_max(mtu_max)
            .with_transport(Arc::clone(&self.client));
        (sim, client)
    }
}

/// Sends `bytes` client → server and then `bytes` back, on one stream.
fn there_and_back(setup: &Setup, bytes: usize, warm: bool) -> Report {
    let _log = record_timers();
    let (mut sim, config) = setup.sim();
    let (client, server) = sim.connected(1, &config);
    let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
    if warm {
        exchange(&mut sim, client, stream, 1 << 20);
        sim.run_for(Duration::from_secs(1));
        sim.advances.clear();
    }
    let begun = if warm { sim.now } else { sim.start };
    exchange(&mut sim, client, stream, bytes);

    let lost = [(1, client), (SERVER, server)].map(|(node, conn)| {
        sim.nodes[node]
            .endpoint
            .connection_stats(conn)
            .unwrap()
            .path
            .lost_packets
    });
    report(&sim, begun, lost.iter().sum())
}

fn report(sim: &Sim, begun: std::time::Instant, lost: u64) -> Report {
    let mut fired = BTreeMap::new();
    for timer in sim.advances.iter().flat_map(|advance| &advance.fired) {
        *fired.entry(timer.clone()).or_insert(0) += 1;
    }
    let waits = |advance: &&Advance| {
        let names = ["MaxAckDelay", "LossDetection"];
        advance.to_timer
            && advance.link_idle
            && advance
                .fired
                .iter()
                .any(|timer| names.contains(&timer.as_str()))
    };
    Report {
        lost,
        took: sim.now - begun,
        stalls: sim.advances.iter().filter(waits).cloned().collect(),
        longest: sim
            .advances
            .iter()
            .map(|advance| advance.by)
            .max()
            .unwrap_or_default(),
        fired,
    }
}

fn exchange(sim: &mut Sim, client: pinion_quic::ConnId, stream: StreamId, bytes: usize) {
    let data = vec![0x5a; bytes];
    // Bytes still to write and bytes still to read, by node.
    let mut to_write = [0, bytes];
    let mut to_read = [bytes, bytes];
    let mut server = None;
    write(
        &mut sim.nodes[1].endpoint,
        client,
        stream,
        &data,
        &mut to_write[1],
    );
    // Nothing tells a server of a stream that it knows already and that is empty.
    sim.run_until(Duration::from_secs(30), &mut |sim, node, event| {
        let conn = match event {
            Event::StreamOpened { conn, .. }
            | Event::Readable { conn, .. }
            | Event::Writable { conn, .. } => *conn,
            _ => return false,
        };
        if node == SERVER {
            server = Some(conn);
        }
        let endpoint = &mut sim.nodes[node].endpoint;
        let mut got = Vec::new();
        drain(endpoint, conn, stream, &mut got);
        to_read[node] -= got.len();
        if node == SERVER && !got.is_empty() && to_read[SERVER] == 0 {
            to_write[SERVER] = bytes;
        }
        write(endpoint, conn, stream, &data, &mut to_write[node]);
        to_read == [0, 0]
    });
    assert!(server.is_some());
}

fn write(
    endpoint: &mut pinion_quic::Endpoint,
    conn: pinion_quic::ConnId,
    stream: StreamId,
    data: &[u8],
    left: &mut usize,
) {
    while *left > 0 {
        match endpoint.write(conn, stream, &data[..*left]) {
            WriteOutcome::Written(taken) => *left -= taken,
            WriteOutcome::Blocked => break,
            other => panic!("unexpected {other:?}"),
        }
    }
}

const LINKS: [(&str, Link); 4] = [
    (
        "100 us, unlimited",
        Link {
            latency: Duration::from_micros(100),
            bandwidth: None,
        },
    ),
    (
        "100 us, 1 Gbit/s",
        Link {
            latency: Duration::from_micros(100),
            bandwidth: Some(1_000_000_000),
        },
    ),
    (
        "10 us, 10 Gbit/s",
        Link {
            latency: Duration::from_micros(10),
            bandwidth: Some(10_000_000_000),
        },
    ),
    (
        "2 ms, 1 Gbit/s",
        Link {
            latency: Duration::from_millis(2),
            bandwidth: Some(1_000_000_000),
        },
    ),
];

// The last sizes make one packet, two, three and odd tails of larger counts.
const SIZES: [usize; 9] = [
    64 << 10,
    1 << 20,
    3 << 20,
    1,
    1_300,
    2_600,
    3_901,
    13_001,
    (1 << 20) + 1_351,
];

fn shipped_configuration_never_waits(mtu_max: u16) {
    for (name, link) in LINKS {
        for bytes in SIZES {
            for warm in [false, true] {
                let report = there_and_back(&Setup::shipped(link, mtu_max), bytes, warm);
                let what = format!(
                    "mtu {mtu_max}, {name}, {bytes} B, warm {warm}: took {:?}, longest {:?}, fired {:?}",
                    report.took, report.longest, report.fired
                );
                println!("{what}");
                assert!(report.clean(), "{what}\nstalls {:#?}", report.stalls);
                // Wire time both ways, twice over for headers and pacing, and sixty
                // round trips for the handshake and the window's growth.
                let wire = link
                    .bandwidth
                    .map_or(0.0, |bits| 2.0 * bytes as f64 * 8.0 / bits as f64);
                let bound = link.latency * 120
                    + Duration::from_secs_f64(2.0 * wire)
                    + Duration::from_millis(1);
                assert!(report.took < bound, "{what}: bound {bound:?}");
            }
        }
    }
}

#[test]
fn ethernet_sized_transfers_never_wait_for_a_delayed_ack() {
    shipped_configuration_never_waits(transport::MTU_ETHERNET);
}

#[test]
fn jumbo_transfers_never_wait_for_a_delayed_ack() {
    shipped_configuration_never_waits(transport::MTU_JUMBO);
}

#[test]
fn window_of_one_packet_without_ack_frequency_is_caught() {
    let setup = Setup::spoilt(lan(), transport::MTU_ETHERNET, |config| {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(2 * 1200);
        config
            .congestion_controller_factory(Arc::new(cubic))
            .ack_frequency_config(None);
    });
    let report = there_and_back(&setup, 1 << 20, false);
    println!(
        "one-packet window: took {:?}, longest {:?}, fired {:?}",
        report.took, report.longest, report.fired
    );
    assert_eq!(
        report.longest,
        Duration::from_millis(25),
        "the delayed ACK itself"
    );
    assert!(
        report
            .stalls
            .iter()
            .any(|stall| stall.fired == ["MaxAckDelay"])
    );
}

#[test]
fn jumbo_packets_under_the_default_window_are_caught() {
    let setup = Setup::spoilt(lan(), transport::MTU_JUMBO, |config| {
        config
            .initial_mtu(transport::MTU_JUMBO)
            .congestion_controller_factory(Arc::new(CubicConfig::default()))
            .ack_frequency_config(None);
    });
    let report = there_and_back(&setup, 1 << 20, false);
    println!(
        "jumbo, default window: took {:?}, longest {:?}, fired {:?}",
        report.took, report.longest, report.fired
    );
    assert!(
        !report.clean(),
        "a lone 8952-byte packet under a 12,000-byte window waits for its ACK"
    );
}

#[test]
fn ack_frequency_bounds_even_a_window_of_one_packet() {
    // The second line of defence on its own: the same window as in
    // `window_of_one_packet_without_ack_frequency_is_caught`, with the extension.
    let setup = Setup::spoilt(lan(), transport::MTU_ETHERNET, |config| {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(2 * 1200);
        config.congestion_controller_factory(Arc::new(cubic));
    });
    let report = there_and_back(&setup, 1 << 20, false);
    println!(
        "one-packet window with ACK frequency: took {:?}, longest {:?}, fired {:?}",
        report.took, report.longest, report.fired
    );
    assert!(report.longest < QUANTUM);
}

/// An exchange on a connection whose window a burst of loss has pushed to its minimum.
fn after_heavy_loss(setup: &Setup) -> Report {
    let _log = record_timers();
    let (mut sim, config) = setup.sim();
    let (client, server) = sim.connected(1, &config);
    let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
    exchange(&mut sim, client, stream, 64 << 10);
    let mut dice = 1u32;
    sim.filter = Box::new(move |_| {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        dice >> 24 > 128 // half is lost
    });
    exchange(&mut sim, client, stream, 64 << 10);
    sim.filter = Box::new(|_| true);
    // What was lost last is repeated and acknowledged before the measurement begins.
    sim.run_for(Duration::from_secs(5));
    sim.advances.clear();
    let window = sim.nodes[1]
        .endpoint
        .connection_stats(client)
        .unwrap()
        .path
        .cwnd;
    assert!(window <= 4 * 1452, "the loss was heavy: {window}");
    let lost = |sim: &Sim| {
        [(1, client), (SERVER, server)]
            .map(|(node, conn)| {
                sim.nodes[node]
                    .endpoint
                    .connection_stats(conn)
                    .unwrap()
                    .path
                    .lost_packets
            })
            .iter()
            .sum::<u64>()
    };
    let (begun, lost_before) = (sim.now, lost(&sim));
    exchange(&mut sim, client, stream, 64 << 10);
    report(&sim, begun, lost(&sim) - lost_before)
}

#[test]
fn connection_battered_by_loss_does_not_fall_into_the_quantum() {
    // Losses of the bad time may be declared only now, so they are not counted here.
    let shipped = after_heavy_loss(&Setup::shipped(lan(), transport::MTU_ETHERNET));
    println!(
        "after loss: took {:?}, longest {:?}, fired {:?}",
        shipped.took, shipped.longest, shipped.fired
    );
    assert!(shipped.stalls.is_empty() && shipped.longest < QUANTUM);
}

#[test]
fn path_mtu_rises_to_what_was_configured() {
    for mtu_max in [1200, transport::MTU_ETHERNET, 4000, transport::MTU_JUMBO] {
        let setup = Setup::shipped(lan(), mtu_max);
        let (mut sim, config) = setup.sim();
        let (client, server) = sim.connected(1, &config);
        sim.run_for(Duration::from_secs(1));
        let found = sim.server().current_mtu(server).unwrap();
        // The search ends within 20 bytes of the bound.
        assert!(
            found <= mtu_max && found + 20 > mtu_max,
            "{found} of {mtu_max}"
        );
        let stream = sim.nodes[1].endpoint.open_bi(client).unwrap();
        exchange(&mut sim, client, stream, 1 << 20);
        for node in &sim.nodes {
            assert!(node.largest_datagram <= usize::from(mtu_max));
            assert!(node.largest_datagram + 20 > usize::from(mtu_max));
        }
    }
}
