//! What hundreds of clients that drip cost the data plane and other administrators.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pinion_cli::bench::latency::Latency;
use pinion_cli::bench::measure::BenchError;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::beside::{self, Background, Count, Load};
use super::data::DataClient;
use super::pages::{CONTROL, browser};
use super::place::Place;
use super::{Found, Stage};

pub(super) const NOTE: &str = "500 connections from five addresses, since one may have 128. Every other one sends the head of a request, the rest a handshake \
     of TLS, a byte every 200 ms; one that the node ends is opened again. Meanwhile others ask for a page and for the control, \
     ten times a second each, over connections of their own. The same 500 that drip to a listener of the measuring program itself, \
     which reads and never answers, are the control: what they cost the data plane is what the machine takes.";

/// Connections, and addresses they come from.
const CONNECTIONS: usize = 500;
const ADDRESSES: usize = 5;

/// From one byte to the next of a connection.
const BYTE_EVERY: Duration = Duration::from_millis(200);

/// From one look of somebody else to the next.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const PAGE: &str = "/ui/streams";

/// What a connection begins with: the head of a request, or of a handshake. What follows
/// is the last byte of it again and again.
const HEAD: &[u8] = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slowly: a";
const HANDSHAKE: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 7];

pub(super) fn play(stage: &Stage<'_>, found: &mut Found) -> Result<(), BenchError> {
    let place = stage.start()?;
    stage.declare(&place, stage.sizes.few)?;
    let mut data = DataClient::new(place.config()?, false)?;
    let (page, control) = others(&place, stage.sizes.looks)?;
    let address = place.door.address;
    let dripping = begin(address)?;
    let (page_beside, control_beside) = others(&place, stage.sizes.looks)?;
    let open = dripping.end()?;
    for (what, latency) in [
        (PAGE, page),
        ("the same beside those that drip", page_beside),
        (CONTROL, control),
        ("the same beside those that drip", control_beside),
    ] {
        let took = latency.summary();
        found.told(
            format!("{what}, p50 of {}", took.count),
            "ms",
            vec![took.p50_us / 1e3],
        );
        found.told("its p99", "ms", vec![took.p99_us / 1e3]);
    }
    found.told(
        "connections that dripped until the end",
        "",
        vec![super::count(open.done)],
    );
    found.told(
        "connections that the node ended meanwhile",
        "",
        vec![super::count(open.refused)],
    );
    let load = |name, to: SocketAddr| Load {
        name,
        at_most: None,
        asks: false,
        begin: Box::new(move || begin(to)),
    };
    let sink = Sink::new()?;
    let mut loads = [
        load("500 that drip", address),
        load("500 that drip elsewhere", sink.address),
    ];
    beside::in_turns(&place, &mut data, stage.sizes.rounds, &mut loads, found)
}

/// Those who ask for a page and for the control meanwhile.
fn others(place: &Place, looks: usize) -> Result<(Latency, Latency), BenchError> {
    let mut browser = browser(&place.door)?;
    let (mut page, mut control) = (Latency::default(), Latency::default());
    let mut due = Instant::now();
    for _ in 0..looks {
        for (path, into) in [(PAGE, &mut page), (CONTROL, &mut control)] {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due = due.max(Instant::now()) + LOOK_EVERY;
            into.record(super::nanos(browser.get(path)?.took));
        }
    }
    Ok((page, control))
}

/// Opens all connections, and lets them drip until told to end: how many there were at the
/// end, and how many the node ended.
fn begin(address: SocketAddr) -> Result<Background, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("a runtime"))?;
    let mut all = Vec::new();
    runtime.block_on(async {
        for number in 0..CONNECTIONS {
            all.push(Drip::open(number, address).await?);
        }
        Ok::<_, BenchError>(())
    })?;
    let mut background = Background::new();
    background.spawn(move |stop| runtime.block_on(drip(all, address, stop)));
    Ok(background)
}

/// Takes connections and reads from them, until it is dropped.
struct Sink {
    address: SocketAddr,
    _reading: Background,
}

impl Sink {
    fn new() -> Result<Self, BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BenchError::io("a runtime"))?;
        let listening = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listening = listening.map_err(BenchError::io("a listener"))?;
        let address = listening
            .local_addr()
            .map_err(BenchError::io("a listener"))?;
        let mut reading = Background::new();
        reading.spawn(move |stop| {
            runtime.block_on(read_all(&listening, stop));
            Ok(Count::default())
        });
        Ok(Self {
            address,
            _reading: reading,
        })
    }
}

async fn read_all(listening: &TcpListener, stop: &AtomicBool) {
    // Dropped with the connections that are still there.
    let mut reading = JoinSet::new();
    let mut look = tokio::time::interval(BYTE_EVERY);
    while !stop.load(Ordering::Relaxed) {
        tokio::select! {
            _ = look.tick() => {}
            Ok((mut stream, _)) = listening.accept() => {
                reading.spawn(async move {
                    // One that fails has ended, too.
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                });
            }
        }
        while reading.try_join_next().is_some() {}
    }
}

struct Drip {
    number: usize,
    stream: TcpStream,
    sent: usize,
}

impl Drip {
    async fn open(number: usize, address: SocketAddr) -> Result<Self, BenchError> {
        let last = u8::try_from(2 + number % ADDRESSES).unwrap_or(2);
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        let connected = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(from)?;
            socket.connect(address).await
        };
        Ok(Self {
            number,
            stream: connected
                .await
                .map_err(BenchError::io("a slow connection"))?,
            sent: 0,
        })
    }

    /// The next byte; an error when the node has ended the connection.
    async fn drip(&mut self) -> std::io::Result<()> {
        let text = if self.number.is_multiple_of(2) {
            HEAD
        } else {
            HANDSHAKE
        };
        let byte = text
            .get(self.sent)
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        self.sent += 1;
        self.stream.write_all(&[*byte]).await
    }
}

async fn drip(
    mut all: Vec<Drip>,
    address: SocketAddr,
    stop: &AtomicBool,
) -> Result<Count, BenchError> {
    let mut ended = 0;
    // A part of them at a time, so that they do not come as one.
    let parts = 20;
    let mut tick = tokio::time::interval(BYTE_EVERY / parts);
    for part in (0..parts as usize).cycle() {
        tick.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for one in all.iter_mut().skip(part).step_by(parts as usize) {
            if one.drip().await.is_err() {
                ended += 1;
                *one = Drip::open(one.number, address).await?;
            }
        }
    }
    Ok(Count {
        done: all.len() as u64,
        refused: ended,
    })
}
