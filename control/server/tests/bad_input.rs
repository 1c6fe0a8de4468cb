//! What a hostile or broken client does to a real node, measured on the others:
//! a witness publishes, reads and pings all the while, and must not notice.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pinion_client::{Client, Event, PublisherOptions, Record, StartFrom, SubscribeOptions};
use pinion_types::ResourceKind;
use pinion_types::{CoreId, ErrorCode};
use pinion_wire::Reply;
use pinion_wire::message::{CacheGet, CacheSet, Condition, Handle, Open, Ping, Request};
use support::{Raw, Server, endpoint, run};

/// Resident memory a node may grow by under any of these tests. The ring and
/// cache of the witness are a few megabytes of it.
const RSS_GROWTH_MAX: u64 = 256 << 20;

/// A client that minds its own business until told to stop.
struct Witness {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Witness {
    fn start(server: &Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let config = server.client_config();
        let flag = Arc::clone(&stop);
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            run(async {
                let client = Client::connect(config).await.unwrap();
                let stream = client.stream("witness/records").await.unwrap();
                let publisher = stream.publisher(PublisherOptions::default());
                let mut subscription = stream
                    .subscribe(SubscribeOptions {
                        start: StartFrom::Latest,
                        ..SubscribeOptions::default()
                    })
                    .await
                    .unwrap();
                let cache = client.cache("witness/values").await.unwrap();
                let mut seen = 0_u64;
                ready.send(()).unwrap();
                while !flag.load(Ordering::Relaxed) {
                    let value = seen.to_le_bytes();
                    publisher
                        .publish(Record::new(value.to_vec()).key("k"))
                        .await
                        .unwrap()
                        .await
                        .expect("every publish is acknowledged");
                    match subscription.next().await.unwrap().unwrap() {
                        Event::Record(record) => {
                            assert_eq!(record.offset.0, seen, "no gap, no repeat");
                            assert_eq!(&record.value[..], value);
                        }
                        other => panic!("unexpected {other:?}"),
                    }
                    cache.set("k", value).await.unwrap();
                    assert_eq!(&cache.get("k").await.unwrap().unwrap().value[..], value);
                    client.ping(CoreId(0)).await.unwrap();
                    seen += 1;
                }
                let stats = client.stats();
                assert_eq!((stats.reconnects, stats.timeouts), (0, 0), "{stats:?}");
                client.close().await;
                seen
            })
        });
        started.recv().unwrap();
        Self { stop, thread }
    }

    /// Ends it; gives how many rounds it went.
    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the witness noticed something")
    }
}

/// Runs `mischief` beside a witness and holds the node to its bounds.
fn beside_a_witness(flags: &[&str], mischief: impl FnOnce(&Server)) {
    let server = Server::dev(flags);
    let before = server.rss();
    let witness = Witness::start(&server);
    mischief(&server);
    let grown = server.rss().saturating_sub(before);
    let rounds = witness.finish();
    assert!(rounds > 0);
    assert!(grown < RSS_GROWTH_MAX, "grown by {} MiB", grown >> 20);
    let (code, said) = server.stop();
    assert_eq!(code, 0, "{said}");
    eprintln!("witness rounds: {rounds}, grown by {} KiB", grown >> 10);
}

#[test]
fn a_thousand_connections_that_say_nothing_cost_the_others_nothing() {
    beside_a_witness(&[], |server| {
        run(async {
            let endpoint = endpoint(server);
            let mut silent = Vec::new();
            for _ in 0..1_000 {
                let connecting = endpoint.connect(server.address, "localhost").unwrap();
                silent.push(connecting.await.unwrap());
            }
            assert!(silent.iter().all(|c| c.close_reason().is_none()));
        });
    });
}

#[test]
fn a_client_that_never_reads_is_held_back_alone() {
    beside_a_witness(&[], |server| {
        let token = server.admin_token();
        run(async {
            let endpoint = endpoint(server);
            let mut raw = Raw::connect(&endpoint, server.address).await;
            raw.hello(&token).await;
            raw.request(
                2,
                &Request::Open(Open {
                    kind: ResourceKind::Cache,
                    namespace: "bad",
                    name: "reader",
                    spec: None,
                }),
            )
            .await;
            let handle = raw
                .reply(|_, reply| match reply {
                    Reply::Opened(opened) => opened.handle,
                    other => panic!("not opened: {other:?}"),
                })
                .await;
            let value = vec![7_u8; 256 << 10];
            raw.request(
                3,
                &Request::CacheSet(CacheSet {
                    handle,
                    condition: Condition::Always,
                    ttl_ms: 0,
                    key: b"large",
                    value: &value,
                }),
            )
            .await;
            raw.reply(|_, reply| assert!(matches!(reply, Reply::CacheStored(_))))
                .await;
            // Asks for 16 GiB and reads none of it. The writes stop being taken
            // once the node has stopped looking at requests; that is the point.
            let mut asked = 0_u32;
            loop {
                let mut out = Vec::new();
                for _ in 0..64 {
                    asked += 1;
                    Request::CacheGet(CacheGet {
                        handle,
                        key: b"large",
                    })
                    .encode(100 + asked, &mut out)
                    .unwrap();
                }
                let write = raw.send.write_all(&out);
                match tokio::time::timeout(Duration::from_secs(2), write).await {
                    Ok(written) => written.unwrap(),
                    Err(_) => break,
                }
                if asked >= 65_536 {
                    break;
                }
            }
            assert!(raw.connection.close_reason().is_none());
        });
    });
}

#[test]
fn noise_and_replayed_handshakes_reach_nobody() {
    beside_a_witness(&[], |server| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        // A real first flight, caught on a socket of ours and sent again and
        // again, whole and with a byte changed.
        let trap = UdpSocket::bind("127.0.0.1:0").unwrap();
        trap.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let initial = run(async {
            let endpoint = endpoint(server);
            let trapped = trap.local_addr().unwrap();
            let connecting = endpoint.connect(trapped, "localhost").unwrap();
            let caught = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; 2048];
                let len = trap.recv(&mut bytes).unwrap();
                bytes.truncate(len);
                bytes
            });
            let bytes = caught.await.unwrap();
            drop(connecting);
            bytes
        });
        for round in 0..20_000_usize {
            let datagram = match round % 4 {
                0 => initial.clone(),
                1 => {
                    let mut changed = initial.clone();
                    let at = usize::try_from(random()).unwrap() % changed.len();
                    changed[at] ^= 1 << (random() % 8);
                    changed
                }
                2 => initial[..usize::try_from(random()).unwrap() % initial.len()].to_vec(),
                _ => (0..random() % 1400)
                    .map(|_| random().to_le_bytes()[0])
                    .collect(),
            };
            // A full buffer drops datagrams; so does any network.
            let _ = socket.send_to(&datagram, server.address);
        }
    });
}

#[test]
fn frames_that_make_no_sense_end_their_own_connection_only() {
    beside_a_witness(&[], |server| {
        let token = server.admin_token();
        run(async {
            let endpoint = endpoint(server);
            let mut ping = Vec::new();
            Request::Ping(Ping { payload: b"p" })
                .encode(9, &mut ping)
                .unwrap();
            // Before HELLO nothing else is looked at.
            let mut raw = Raw::connect(&endpoint, server.address).await;
            raw.send.write_all(&ping).await.unwrap();
            closed_with(&raw, 1).await;
            // A wrong token says so, by reply or by close code.
            let mut raw = Raw::connect(&endpoint, server.address).await;
            raw.request(
                1,
                &Request::Hello(pinion_wire::message::Hello {
                    magic: pinion_wire::message::MAGIC,
                    version_min: 1,
                    version_max: 1,
                    capabilities: 0,
                    token: b"pinion_wrong",
                    client_name: "raw",
                }),
            )
            .await;
            closed_with(&raw, 2).await;
            // Every length field value that cannot be, on a fresh connection each.
            for length in [u32::MAX, 1 << 31, (1 << 20) + 4097] {
                let mut raw = Raw::connect(&endpoint, server.address).await;
                raw.hello(&token).await;
                let mut bad = ping.clone();
                bad[..4].copy_from_slice(&length.to_le_bytes());
                raw.send.write_all(&bad).await.unwrap();
                closed_with(&raw, 1).await;
            }
            // An unknown opcode is answered; the connection lives.
            let mut raw = Raw::connect(&endpoint, server.address).await;
            raw.hello(&token).await;
            let mut unknown = ping.clone();
            unknown[4] = 0x7f;
            raw.send.write_all(&unknown).await.unwrap();
            let code = raw
                .reply(|_, reply| match reply {
                    Reply::Error(refusal) => refusal.code,
                    other => panic!("taken: {other:?}"),
                })
                .await;
            assert_eq!(code, ErrorCode::UnknownOpcode);
            // A handle nobody gave.
            raw.request(
                10,
                &Request::CacheGet(CacheGet {
                    handle: Handle(77),
                    key: b"k",
                }),
            )
            .await;
            let code = raw
                .reply(|_, reply| match reply {
                    Reply::Error(refusal) => refusal.code,
                    other => panic!("taken: {other:?}"),
                })
                .await;
            assert_eq!(code, ErrorCode::BadHandle);
            raw.send.write_all(&ping).await.unwrap();
            raw.reply(|_, reply| assert!(matches!(reply, Reply::Pong(_))))
                .await;
        });
    });
}

/// Waits until the node has closed the connection, and checks its code.
async fn closed_with(raw: &Raw, code: u32) {
    match raw.connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            assert_eq!(close.error_code, quinn::VarInt::from_u32(code));
        }
        other => panic!("closed otherwise: {other}"),
    }
}
