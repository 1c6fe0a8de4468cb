//! A bounded run of the fuzz harness, and the systematic part of bad input: every
//! truncation and every flipped byte of a real first packet.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "../fuzz/harness.rs"]
#[allow(clippy::cast_possible_truncation, unreachable_pub)]
mod harness;

use std::time::Duration;

use common::*;
use pinion_quic::{Endpoint, Limits};
use rand::{Rng, SeedableRng, rngs::StdRng};

#[test]
fn random_scripts_break_no_promise() {
    let runs: u64 = std::env::var("PINION_FUZZ_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(5_000);
    for seed in 0..runs {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut script = vec![0; 1 + rng.next_u32() as usize % 3_000];
        rng.fill_bytes(&mut script);
        // Half of the scripts begin with an honest handshake, to get past it.
        if seed % 2 == 0 {
            let begin = [4, 5, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            script.splice(..0, begin);
        }
        let outcome = std::panic::catch_unwind(|| harness::run(&script));
        assert!(outcome.is_ok(), "seed {seed}");
    }
    for seed in std::fs::read_dir(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fuzz/corpus/datagrams"
    ))
    .unwrap()
    {
        harness::run(&std::fs::read(seed.unwrap().path()).unwrap());
    }
    println!("fuzz executions (quic datagrams): {runs}");
}

#[test]
fn harness_gets_past_the_handshake() {
    // Connect; four clean turns (a zero for each datagram); open a stream, 5 bytes; deliver.
    let mut script = vec![4, 5, 4];
    script.extend_from_slice(&[0; 60]);
    let clean = 60;
    for datagrams in 1..=clean {
        let mut script = script[..3 + datagrams].to_vec();
        script.extend_from_slice(&[
            6, 0, 0, 5, b'h', b'e', b'l', b'l', b'o', 5, 5, 7, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        if harness::run(&script).stream_bytes == 5 {
            return;
        }
    }
    panic!("no honest script brought a byte to a stream");
}

#[test]
fn every_truncation_and_every_flipped_byte_of_a_first_packet_leaves_others_alone() {
    let identity = identity();
    let config = client_config(&identity);
    let limits = Limits {
        retry_above: 50,
        handshakes_max: 100,
        ..Limits::default()
    };
    let mut sim = Sim::with_server(lan(), tight(limits), &identity, 1);
    let (_, server) = sim.connected(1, &config);
    let mut stranger = Endpoint::client([8; 32]).unwrap();
    let to = sim.nodes[SERVER].addr;
    stranger
        .connect(sim.now, &config, to, "localhost", None)
        .unwrap();
    let mut packet = Vec::new();
    stranger.poll_transmit(sim.now, 1, &mut packet).unwrap();

    let from = "203.0.113.5:9".parse().unwrap();
    for len in 0..packet.len() {
        sim.inject(from, to, packet[..len].to_vec());
    }
    for at in 0..packet.len() {
        let mut flipped = packet.clone();
        flipped[at] ^= 0x5b;
        sim.inject(from, to, flipped);
    }
    sim.run_for(Duration::from_millis(100));
    let stats = sim.server().stats();
    assert_eq!(
        stats.datagrams_received,
        stats.datagrams_received.max(2 * packet.len() as u64)
    );
    assert!(stats.handshakes <= 100, "{stats:?}");
    assert!(
        sim.server().rtt(server).is_some(),
        "the established connection is still there"
    );
    sim.run_for(Duration::from_secs(20));
    assert_eq!(sim.server().stats().connections, 1);
}

#[test]
fn wrong_versions_are_negotiated_only_for_full_sized_packets() {
    let identity = identity();
    let mut sim = Sim::with_server(lan(), |config| config, &identity, 0);
    let to = sim.nodes[SERVER].addr;
    let from = "203.0.113.5:9".parse().unwrap();
    let mut packet = vec![0xc0, 0xfa, 0xce, 0xb0, 0x0c, 8];
    packet.extend_from_slice(&[0x22; 8]);
    packet.push(8);
    packet.resize(1199, 0x22);
    sim.inject(from, to, packet.clone());
    sim.run_for(Duration::from_millis(1));
    assert_eq!(
        (
            sim.nodes[SERVER].sent_bytes,
            sim.server().stats().stateless_responses
        ),
        (0, 0)
    );
    packet.push(0x22);
    sim.inject(from, to, packet);
    sim.run_for(Duration::from_millis(1));
    assert_eq!(sim.server().stats().stateless_responses, 1);
    assert!((1..1200).contains(&sim.nodes[SERVER].sent_bytes));
}

#[test]
fn packets_of_unknown_connections_are_answered_by_rare_small_resets() {
    let identity = identity();
    let mut sim = Sim::with_server(lan(), |config| config, &identity, 0);
    let to = sim.nodes[SERVER].addr;
    for n in 0..1000u16 {
        let mut packet = vec![0x43; 300];
        packet[1..3].copy_from_slice(&n.to_be_bytes());
        sim.inject("203.0.113.5:9".parse().unwrap(), to, packet);
    }
    sim.run_for(Duration::from_millis(1));
    assert_eq!(
        sim.nodes[SERVER].sent_datagrams, 1,
        "one in twenty milliseconds"
    );
    assert!(sim.nodes[SERVER].sent_bytes < 300);
}
