//! Three real nodes on loopback are one cluster: whatever happens to one of them, the
//! others go on deciding, and it comes back.
//!
//! `PINION_CLUSTER_KILLS` says how often the leader is killed.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pinion_client::{
    Client, ClientConfig, ConnectError, ErrorCode, PublisherOptions, Record, StreamSpec,
};
use support::metered::Metered;
use support::process::{Home, Node};

const NODES: usize = 3;

/// Longest anything may take of a cluster in which two nodes live. An election takes
/// about a second; the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at what no event tells: what another process does.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

struct Cluster {
    homes: Vec<Home>,
    nodes: Vec<Option<Node>>,
    /// Streams declared so far, which gives the next its name.
    declared: usize,
    _dir: tempfile::TempDir,
}

fn pinion(dir: &Path, words: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_pinion"))
        .current_dir(dir)
        .args(words.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{words}: {output:?}");
}

/// Ports that nobody has now, for UDP and TCP. They are none that the kernel gives to
/// whoever asks for any: a node that is killed and started again wants its own back.
fn ports() -> Vec<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let given: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    // Another run on this machine begins elsewhere.
    let first = u16::try_from(std::process::id() % u32::from(given / 2)).unwrap();
    let is_free = |port: &u16| {
        let address = ("127.0.0.1", *port);
        UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
    };
    let ports = (given / 2 + first..given).chain(given / 2..given);
    let ports: Vec<u16> = ports.filter(is_free).take(NODES).collect();
    assert_eq!(ports.len(), NODES, "no free port below {given}");
    ports
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        pinion(dir.path(), "cert ca --cluster test");
        let ports = ports();
        let initial: Vec<String> = (0..NODES)
            .map(|at| format!("\"n{at}=127.0.0.1:{}\"", ports[at]))
            .collect();
        let homes = (0..NODES)
            .map(|at| {
                pinion(dir.path(), &format!("cert node n{at} --cluster test"));
                let home = dir.path().join(format!("n{at}"));
                std::fs::create_dir(&home).unwrap();
                let pki = dir.path().join("pki");
                let config = format!(
                    "[storage]\nsegment_bytes = 4194304\n\
                     [cluster]\nname = \"test\"\nnode = \"n{at}\"\ninitial = [{}]\n\
                     ca = {:?}\ncert = {:?}\nkey = {:?}\n",
                    initial.join(", "),
                    pki.join("ca.pem"),
                    pki.join(format!("n{at}.pem")),
                    pki.join(format!("n{at}.key")),
                );
                let listen = format!("127.0.0.1:{}", ports[at]);
                let flags = [
                    "--listen",
                    &listen,
                    "--data-cores",
                    "0",
                    "--control-core",
                    "0",
                ];
                Home::new(&home, &config, &flags).with_log("warn,pinion::control=info")
            })
            .collect();
        let mut cluster = Self {
            homes,
            nodes: (0..NODES).map(|_| None).collect(),
            declared: 0,
            _dir: dir,
        };
        // A node serves once the cluster has begun, and that takes all of them.
        let nodes: Vec<Node> = thread::scope(|scope| {
            let starts: Vec<_> = cluster
                .homes
                .iter()
                .map(|home| scope.spawn(|| home.start(&[])))
                .collect();
            starts.into_iter().map(|one| one.join().unwrap()).collect()
        });
        cluster.nodes = nodes.into_iter().map(Some).collect();
        cluster
    }

    fn node(&mut self, at: usize) -> &mut Node {
        self.nodes[at].as_mut().unwrap()
    }

    /// Whom a node takes for the leader.
    fn leader_seen_by(&mut self, at: usize) -> Option<usize> {
        let said = self.node(at).said();
        let last = said.lines().rfind(|line| line.contains("who leads"))?;
        let (_, name) = last.split_once("leader=\"n")?;
        name.get(..1)?.parse().ok()
    }

    /// Who leads, when all of `nodes` say the same.
    fn leader_of(&mut self, nodes: &[usize]) -> usize {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen: Vec<_> = nodes.iter().map(|at| self.leader_seen_by(*at)).collect();
            if let Some(leader) = seen[0]
                && nodes.contains(&leader)
                && seen.iter().all(|one| *one == Some(leader))
            {
                return leader;
            }
            assert!(Instant::now() < until, "who leads? {seen:?} of {nodes:?}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Declares another stream through a node; gives how long it took from now until one
    /// was declared.
    fn declare(&mut self, at: usize) -> Duration {
        self.declared += 1;
        let (began, name) = (Instant::now(), format!("test/s{}", self.declared));
        let config = self.node(at).client_config();
        support::run(async {
            let client = Client::connect(config).await.unwrap();
            // Until there is a leader, a declaration is refused, or nobody knows.
            while let Err(error) = client.open_stream_with(&name, StreamSpec::durable(1)).await {
                assert!(began.elapsed() < PATIENCE, "not declared: {error:?}");
            }
            client.close().await;
        });
        began.elapsed()
    }

    fn kill(&mut self, at: usize) {
        self.nodes[at].take().unwrap().kill();
    }

    fn start(&mut self, at: usize) {
        self.nodes[at] = Some(self.homes[at].start(&[]));
    }

    fn signal(&mut self, at: usize, signal: &str) {
        let pid = self.node(at).pid().to_string();
        let done = Command::new("kill").args([signal, &pid]).status();
        assert!(done.unwrap().success());
    }

    /// Publishes at a node without a pause until it is told to end.
    fn publish(&mut self, at: usize) -> Load {
        let config = self.node(at).client_config();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = Client::connect(config).await.unwrap();
                let name = format!("load/n{at}");
                let stream = client.open_stream_with(&name, StreamSpec::durable(1));
                let publisher = stream.await.unwrap().publisher(PublisherOptions::default());
                let (mut records, mut slowest) = (0, Duration::ZERO);
                while !stopped.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let record = Record::new(vec![7; 100]);
                    publisher.publish(record).await.unwrap().await.unwrap();
                    slowest = slowest.max(began.elapsed());
                    records += 1;
                }
                client.close().await;
                (records, slowest)
            })
        });
        Load { stop, thread }
    }
}

/// Sets a quota of the tenant that all clients are of.
fn allow(node: &Node, quota: &str, most: u64) {
    let mut stream = TcpStream::connect(node.address).unwrap();
    let body = format!("{{\"quotas\":{{\"{quota}\":{most}}}}}");
    let request = format!(
        "PATCH /v1/tenants/default HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        node.token(),
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Connects once more, again and again, until it is let in or refused as wanted.
async fn connects_until(config: &ClientConfig, wanted: bool) {
    let began = Instant::now();
    loop {
        let is_in = match Client::connect(config.clone()).await {
            Ok(client) => {
                client.close().await;
                true
            }
            // The connection may be closed for it before the answer is read.
            Err(ConnectError::Refused(refusal)) => {
                let over = [ErrorCode::QuotaExceeded, ErrorCode::LimitReached];
                assert!(over.contains(&refusal.code), "{refusal}");
                false
            }
            Err(error) => panic!("{error}"),
        };
        if is_in == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "let in: {is_in}, as ever");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Connections at two nodes use up what a third would let in.
fn a_quota_holds_over_all(cluster: &mut Cluster) {
    allow(cluster.node(0), "max_connections", 3);
    let configs: Vec<_> = (0..NODES)
        .map(|at| cluster.node(at).client_config())
        .collect();
    support::run(async {
        let mut clients = Vec::new();
        for at in [0, 0, 1] {
            clients.push(Client::connect(configs[at].clone()).await.unwrap());
        }
        connects_until(&configs[2], false).await;
        clients.pop().unwrap().close().await;
        connects_until(&configs[2], true).await;
        for client in clients {
            client.close().await;
        }
    });
    allow(cluster.node(1), "max_connections", 0);
}

/// Records a second of the tenant, over all nodes.
const RATE: u64 = 300;

/// How long is published at a time. Longer measures the rate better.
const METERED: Duration = Duration::from_secs(3);

/// Whether `let_in` records in `time` are as many as the rate gives out: no more than a
/// quarter beyond it, as the shares of the cores may be together, and what was saved up in a
/// quarter of a second; and no less than seven tenths, because a client that waits for what
/// a refusal asks comes a little late each time.
fn fits(let_in: u64, time: Duration) -> bool {
    let rate = RATE as f64;
    let (least, most) = (0.7 * time.as_secs_f64(), 1.25 * time.as_secs_f64() + 0.25);
    (least * rate..=most * rate).contains(&(let_in as f64))
}

/// What three nodes let in together is the rate, and so is what one of them does when
/// nothing is asked of the others.
fn a_rate_holds_over_all(cluster: &mut Cluster) {
    allow(cluster.node(2), "max_publish_rate", RATE);
    support::run(async {
        let streams = ["rate/n0", "rate/n1", "rate/n2"];
        let mut clients = Vec::new();
        for (at, stream) in streams.into_iter().enumerate() {
            let mut client = Metered::new(cluster.node(at), stream, RATE).await;
            client.use_up().await;
            clients.push(client);
        }
        let [one, two, three] = &mut clients[..] else {
            panic!("three nodes");
        };
        // The last node that heard of the quota may have let in what the others had not.
        for client in [&mut *one, &mut *two, &mut *three] {
            client.use_up().await;
        }
        let began = Instant::now();
        let told = tokio::join!(
            one.publish_for(METERED),
            two.publish_for(METERED),
            three.publish_for(METERED)
        );
        let (took, told) = (began.elapsed(), [told.0, told.1, told.2]);
        let let_in = told.iter().map(|one| one.let_in).sum();
        println!("three nodes at {RATE} a second let in {let_in} in {took:?}: {told:?}");
        assert!(fits(let_in, took), "{let_in} in {took:?}: {told:?}");
        assert!(
            told.iter().all(|one| one.let_in > 0 && one.refused > 0),
            "{told:?}"
        );
        // Alone it gets all of it, once the others have said that nobody asks there.
        let until = Instant::now() + PATIENCE / 2;
        loop {
            let began = Instant::now();
            let told = one.publish_for(Duration::from_secs(1)).await;
            let took = began.elapsed();
            if told.refused > 0 && fits(told.let_in, took) {
                println!("one of them lets in {} in {took:?}", told.let_in);
                break;
            }
            assert!(Instant::now() < until, "{told:?} in {took:?}");
        }
    });
    allow(cluster.node(0), "max_publish_rate", 0);
}

struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Duration)>,
}

impl Load {
    /// How many records were acknowledged, and how long the slowest took.
    fn end(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn three_nodes_share_quotas_and_outlive_killed_stopped_and_wiped_ones() {
    let mut cluster = Cluster::new();
    let kills = std::env::var("PINION_CLUSTER_KILLS")
        .ok()
        .map_or(2, |kills| kills.parse().unwrap());
    for at in 0..NODES {
        cluster.declare(at);
    }

    a_quota_holds_over_all(&mut cluster);
    a_rate_holds_over_all(&mut cluster);

    // Killed under load: the others decide, and nobody's data path notices.
    for _ in 0..kills {
        let leader = cluster.leader_of(&[0, 1, 2]);
        let others: Vec<usize> = (0..NODES).filter(|at| *at != leader).collect();
        let loads: Vec<Load> = others.iter().map(|at| cluster.publish(*at)).collect();
        cluster.kill(leader);
        let took = cluster.declare(others[0]);
        cluster.declare(others[1]);
        let told: Vec<_> = loads.into_iter().map(Load::end).collect();
        println!("killed n{leader}: declared after {took:?}; records, slowest: {told:?}");
        cluster.leader_of(&others);
        cluster.start(leader);
        cluster.declare(leader);
    }

    // Stopped: the others decide without it, and it follows when it goes on.
    let leader = cluster.leader_of(&[0, 1, 2]);
    let others: Vec<usize> = (0..NODES).filter(|at| *at != leader).collect();
    cluster.signal(leader, "-STOP");
    let took = cluster.declare(others[0]);
    println!("stopped n{leader}: declared after {took:?}");
    let next = cluster.leader_of(&others);
    assert_ne!(next, leader);
    cluster.signal(leader, "-CONT");
    cluster.declare(leader);

    // Wiped: it joins under its name once the others take the old one for gone.
    let wiped = leader;
    cluster.kill(wiped);
    std::fs::remove_dir_all(&cluster.homes[wiped].seen).unwrap();
    let began = Instant::now();
    cluster.start(wiped);
    println!(
        "wiped n{wiped}: it serves again after {:?}",
        began.elapsed()
    );
    cluster.declare(wiped);
    // Its vote counts: without another one the two of them decide.
    cluster.leader_of(&[0, 1, 2]);
    cluster.kill(next);
    let pair: Vec<usize> = (0..NODES).filter(|at| *at != next).collect();
    cluster.declare(pair[0]);
    cluster.declare(pair[1]);
}

#[test]
fn a_node_with_files_that_do_not_fit_says_which_and_why() {
    let dir = tempfile::tempdir().unwrap();
    pinion(dir.path(), "cert ca --cluster test");
    pinion(dir.path(), "cert node n1 --cluster test");
    let pki = dir.path().join("pki");
    let refused = |node: &str, cert: &str, initial: &str| {
        let config = format!(
            "[cluster]\nname = \"test\"\nnode = \"{node}\"\ninitial = [\"{initial}\"]\n\
             ca = {:?}\ncert = {:?}\nkey = {:?}\n",
            pki.join("ca.pem"),
            pki.join(cert),
            pki.join("n1.key"),
        );
        let ended = Home::new(dir.path(), &config, &[]).refused();
        assert_eq!(ended.code, 2, "{}", ended.said);
        ended.said
    };
    let said = refused("n1", "n9.pem", "n1=127.0.0.1:1");
    assert!(
        said.contains("n9.pem") && said.contains("`pinion cert`"),
        "{said}"
    );
    let said = refused("n2", "n1.pem", "n2=127.0.0.1:1");
    assert!(said.contains("spiffe://pinion/test/node/n2"), "{said}");
    let said = refused("n1", "n1.pem", "n1");
    assert!(said.contains("NODE=HOST:PORT"), "{said}");
}
