//! What a node costs while nothing happens: processor time, memory, and memory
//! per idle connection.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use pinion_cli::bench::machine::ProcessUse;
use pinion_cli::bench::measure::BenchError;
use pinion_client::native::{LinkId, NativeClient, NativeConfig};
use serde::Serialize;

use crate::links::census;
use crate::server::{Node, Server};
use crate::suite::node_config;
use crate::turns::{GENERATOR_CPU, SERVER_CPU};

/// Most processor share of an idle node, per core.
pub const IDLE_CPU_MAX: f64 = 0.01;
/// Most resident memory of an idle node.
pub const IDLE_RSS_MAX: u64 = 64 << 20;
/// Most memory per idle connection.
pub const CONNECTION_BYTES_MAX: f64 = 48.0 * 1024.0;

/// Connections of one client socket. A node limits how fast one address prefix
/// may connect, so the clients sit on addresses of different prefixes.
const PER_ADDRESS: usize = 250;

/// Handshakes under way at once: below the number that turns on Retry.
const HANDSHAKES: usize = 64;

/// Longest time to establish all connections.
const CONNECT_MAX: Duration = Duration::from_secs(120);

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Idle {
    /// Processor share without any connection.
    pub cpu_share: f64,
    /// Resident bytes without any connection.
    pub rss_bytes: u64,
    /// Connections established for the second part.
    pub connections: usize,
    /// Attempts that had to be repeated.
    pub repeated: usize,
    /// Resident bytes with them.
    pub rss_connected: u64,
    /// Growth of resident memory per connection.
    pub bytes_per_connection: f64,
    /// Processor share with them (keep-alives only).
    pub cpu_share_connected: f64,
}

/// Measures a fresh node for `watch`, then again with `connections`.
///
/// # Errors
/// The node does not start, or does not take the connections.
#[allow(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
pub fn measure(
    node: &Node,
    dir: &Path,
    connections: usize,
    watch: Duration,
) -> Result<Idle, BenchError> {
    let server = node
        .start(SERVER_CPU, dir)
        .map_err(BenchError::io("starting the node"))?;
    // Start-up work (probes, key generation) is over when the processor is quiet.
    let before = settle(&server)?;
    std::thread::sleep(watch);
    let after = usage(&server)?;
    let mut idle = Idle {
        cpu_share: (after.cpu_seconds - before.cpu_seconds) / watch.as_secs_f64(),
        rss_bytes: after.rss_bytes,
        ..Idle::default()
    };
    let mut crowd = Crowd::new(&server, dir, connections)?;
    crowd.connect_all()?;
    crowd.attend(Duration::from_secs(3))?;
    let before = usage(&server)?;
    let started = Instant::now();
    crowd.attend(watch)?;
    let after = usage(&server)?;
    idle.cpu_share_connected =
        (after.cpu_seconds - before.cpu_seconds) / started.elapsed().as_secs_f64();
    idle.connections = crowd.ready();
    idle.repeated = crowd.repeated;
    idle.rss_connected = after.rss_bytes;
    let grown = after.rss_bytes.saturating_sub(idle.rss_bytes);
    idle.bytes_per_connection = grown as f64 / idle.connections.max(1) as f64;
    Ok(idle)
}

fn usage(server: &Server) -> Result<ProcessUse, BenchError> {
    ProcessUse::of(server.pid()).ok_or(BenchError::Closed { peer: "the node" })
}

/// Waits until the node has used no processor time for half a second.
fn settle(server: &Server) -> Result<ProcessUse, BenchError> {
    let mut last = usage(server)?;
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(500));
        let now = usage(server)?;
        if now.cpu_seconds - last.cpu_seconds < 0.011 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Many connections that say nothing.
struct Crowd {
    members: Vec<Member>,
    repeated: usize,
}

struct Member {
    client: NativeClient,
    wanted: usize,
    links: Vec<LinkId>,
    ready: usize,
}

impl Crowd {
    fn new(server: &Server, dir: &Path, connections: usize) -> Result<Self, BenchError> {
        let mut members = Vec::new();
        let mut left = connections;
        while left > 0 {
            let wanted = left.min(PER_ADDRESS);
            left -= wanted;
            let third = u8::try_from(members.len() % 250).unwrap_or(0);
            let second = u8::try_from(members.len() / 250).unwrap_or(0);
            let local = SocketAddr::from((Ipv4Addr::new(127, second, third, 1), 0));
            let config: NativeConfig = node_config(server, dir)?.local(local);
            members.push(Member {
                client: NativeClient::new(config)?,
                wanted,
                links: Vec::new(),
                ready: 0,
            });
        }
        Ok(Self {
            members,
            repeated: 0,
        })
    }

    fn ready(&self) -> usize {
        self.members.iter().map(|m| m.ready).sum()
    }

    fn connect_all(&mut self) -> Result<(), BenchError> {
        let started = Instant::now();
        for member in &mut self.members {
            self.repeated += member.connect_all(started)?;
        }
        Ok(())
    }

    /// Answers keep-alives for `time`, sleeping in between.
    fn attend(&mut self, time: Duration) -> Result<(), BenchError> {
        let started = Instant::now();
        while started.elapsed() < time {
            for member in &mut self.members {
                member.turn()?;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        for member in &mut self.members {
            member.count()?;
        }
        Ok(())
    }
}

impl Member {
    fn turn(&mut self) -> Result<(), BenchError> {
        let now = Instant::now();
        while self.client.poll(now, |_| {})? {}
        self.client.flush(now)?;
        Ok(())
    }

    /// Counts the connections that live and forgets the others. Gives back how
    /// many are under way and how many were given up.
    fn count(&mut self) -> Result<(usize, usize), BenchError> {
        let census = census(&self.client, &mut self.links)?;
        self.ready = census.ready;
        Ok((census.pending, census.gone))
    }

    /// Connects until `wanted` are ready; gives back how many had to be repeated.
    fn connect_all(&mut self, started: Instant) -> Result<usize, BenchError> {
        let mut repeated = 0;
        loop {
            let (pending, failed) = self.count()?;
            repeated += failed;
            if self.ready >= self.wanted {
                return Ok(repeated);
            }
            if started.elapsed() > CONNECT_MAX {
                return Err(BenchError::Silence {
                    waited: started.elapsed(),
                    in_flight: (self.wanted - self.ready) as u64,
                });
            }
            let room = HANDSHAKES.saturating_sub(pending);
            let missing = self.wanted - self.ready - pending;
            for _ in 0..room.min(missing) {
                self.links.push(self.client.begin_connect(None)?);
            }
            self.turn()?;
            self.client.wait(Duration::from_millis(5))?;
        }
    }
}

impl Idle {
    /// The findings as Markdown.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
    pub fn markdown(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let verdict = |held: bool| if held { "held" } else { "**missed**" };
        let mut out = String::from("### Idle\n\n| what | found | wanted | |\n|---|---|---|---|\n");
        let rows = [
            (
                "processor share of an idle node".to_owned(),
                format!("{:.2} %", self.cpu_share * 100.0),
                format!("≤ {} %", IDLE_CPU_MAX * 100.0),
                verdict(self.cpu_share <= IDLE_CPU_MAX),
            ),
            (
                "resident memory of an idle node".to_owned(),
                format!("{:.1} MiB", mib(self.rss_bytes)),
                format!("≤ {} MiB", IDLE_RSS_MAX >> 20),
                verdict(self.rss_bytes <= IDLE_RSS_MAX),
            ),
            (
                format!(
                    "memory per connection, {} idle QUIC connections",
                    self.connections
                ),
                format!("{:.1} KiB", self.bytes_per_connection / 1024.0),
                format!("≤ {} KiB", CONNECTION_BYTES_MAX / 1024.0),
                verdict(self.bytes_per_connection <= CONNECTION_BYTES_MAX),
            ),
            (
                "processor share with them".to_owned(),
                format!("{:.2} %", self.cpu_share_connected * 100.0),
                String::new(),
                "",
            ),
        ];
        for (what, found, wanted, held) in rows {
            let _ = writeln!(out, "| {what} | {found} | {wanted} | {held} |");
        }
        let _ = writeln!(
            out,
            "\nServer on CPU {SERVER_CPU}, generator on CPU {GENERATOR_CPU}; {} attempts were repeated.",
            self.repeated
        );
        out
    }
}
