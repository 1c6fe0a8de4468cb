//! One connection to one data core.
//!
//! Two request streams: small requests never wait behind bulk publishes. Each
//! has one writer task, which writes everything that is queued at once, and one
//! reader task, which hands replies to whoever waits. One more task takes the
//! delivery streams the node opens and hands each to its subscription.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pinion_types::{ErrorCode, Refusal};
use pinion_wire::message::{Handle, Hello, MAGIC, Welcome};
use pinion_wire::{Reply, Request};
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::codec;
use crate::error::{ConnectError, LinkDown, ProtocolError};
use crate::frames::{Frame, FrameBuffer};
use crate::in_flight::InFlight;
use crate::outbox::Outbox;
use crate::stats::{Counters, add};
use crate::token::Shown;

/// Which request stream a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Requests that are small and awaited.
    Requests = 0,
    /// Batches of records.
    Bulk = 1,
}

/// The version of the protocol this client speaks.
const PROTOCOL_VERSION: u16 = 1;

/// Most bytes taken from a stream at once.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// How long the first frame of a delivery stream may take.
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// Close codes of the protocol (`docs/wire-protocol.md` §1).
const CLOSE_OK: VarInt = VarInt::from_u32(0);
const CLOSE_PROTOCOL: u32 = 1;
const CLOSE_UNAUTHENTICATED: u32 = 2;
const CLOSE_DRAINING: u32 = 3;
const CLOSE_LIMIT: u32 = 4;

/// The stream of one subscription, head already read.
#[derive(Debug)]
pub(crate) struct DeliveryStream {
    recv: RecvStream,
    frames: FrameBuffer,
}

impl DeliveryStream {
    /// The next frame; `None` at the end of the stream. Cancel-safe.
    pub(crate) async fn next_frame(&mut self) -> Result<Option<Frame>, LinkDown> {
        next_frame(&mut self.recv, &mut self.frames).await
    }

    /// Tells the node to send no more.
    pub(crate) fn stop(&mut self) {
        // An error here means that the stream is already over.
        let _ = self.recv.stop(CLOSE_OK);
    }
}

#[derive(Debug)]
struct Waiter {
    reply: oneshot::Sender<Result<Frame, LinkDown>>,
    /// Given back when the reply comes, not when the caller stops waiting: the
    /// node counts the request until then.
    _permit: OwnedSemaphorePermit,
}

/// A request that was queued.
#[derive(Debug)]
pub(crate) struct Pending(oneshot::Receiver<Result<Frame, LinkDown>>);

impl Pending {
    /// The reply. Dropping the future leaves the request in flight.
    pub(crate) async fn reply(&mut self) -> Result<Frame, LinkDown> {
        (&mut self.0).await.unwrap_or(Err(LinkDown::Closed))
    }
}

/// A connection whose WELCOME has come.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) welcome: Welcome,
    /// The token that it was made with.
    pub(crate) token: Shown,
    connection: quinn::Connection,
    endpoint: quinn::Endpoint,
    lanes: [Outbox; 2],
    in_flight: Mutex<InFlight<Waiter>>,
    permits: Arc<Semaphore>,
    permits_max: u32,
    deliveries: Mutex<HashMap<u32, oneshot::Sender<DeliveryStream>>>,
    next_subscription: AtomicU32,
    /// By [`Resource::id`](crate::resource::Resource). As many as the client has resources.
    handles: Mutex<HashMap<u64, Arc<OnceCell<Handle>>>>,
    down: OnceLock<LinkDown>,
    /// Nothing more is sent; the node finishes its side too.
    finishing: AtomicBool,
    writers: Mutex<Vec<JoinHandle<()>>>,
    stats: Arc<Counters>,
}

/// What a connection attempt needs.
pub(crate) struct Dial<'a> {
    pub(crate) server: &'a str,
    pub(crate) address: SocketAddr,
    pub(crate) tls_name: &'a str,
    pub(crate) config: quinn::ClientConfig,
    pub(crate) token: Shown,
    pub(crate) client_name: &'a str,
    pub(crate) max_in_flight: u32,
    pub(crate) stats: Arc<Counters>,
}

impl Link {
    /// Connects and says HELLO. The caller bounds the time; dropping the future
    /// drops the attempt.
    pub(crate) async fn establish(dial: Dial<'_>) -> Result<Arc<Self>, ConnectError> {
        let socket = |e| ConnectError::Socket(Arc::new(e));
        let local: SocketAddr = if dial.address.is_ipv6() {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        };
        // A socket per connection: without BPF the kernel spreads connections
        // by address and port, and a network card that merges packets merges
        // those of one port only.
        let endpoint = quinn::Endpoint::client(local).map_err(socket)?;
        let failed = |reason| refused_or(dial.server, reason);
        let connection = endpoint
            .connect_with(dial.config, dial.address, dial.tls_name)
            .map_err(|_| crate::config::ConfigError::ServerName {
                name: dial.tls_name.to_owned(),
            })?
            .await
            .map_err(failed)?;
        let (mut send, mut recv) = connection.open_bi().await.map_err(failed)?;
        let hello = codec::encode(&Request::Hello(Hello {
            magic: MAGIC,
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            capabilities: 0,
            token: &dial.token.token.0,
            client_name: dial.client_name,
        }))
        .expect("token and name were measured when the configuration was made");
        send.write_all(&hello)
            .await
            .map_err(|e| refused_or(dial.server, write_error(e)))?;
        let mut frames = FrameBuffer::new(pinion_types::limits::FRAME_BYTES_MAX);
        let frame = match next_frame(&mut recv, &mut frames).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(ProtocolError::EndedEarly.into()),
            Err(LinkDown::Lost(reason)) => return Err(failed(reason)),
            Err(LinkDown::Protocol(error)) => return Err(error.into()),
            Err(LinkDown::Closed) => return Err(ConnectError::Closed),
        };
        let welcome = match codec::reply(&frame)? {
            Reply::Welcome(welcome) => welcome,
            Reply::Error(refusal) => return Err(ConnectError::Refused(refusal)),
            _ => {
                return Err(ProtocolError::Unexpected {
                    opcode: frame.opcode,
                }
                .into());
            }
        };
        let bulk = connection.open_bi().await.map_err(failed)?;
        let in_flight_max = welcome
            .in_flight_max
            .clamp(1, pinion_types::limits::IN_FLIGHT_MAX)
            .min(dial.max_in_flight);
        let link = Arc::new(Self {
            welcome,
            token: dial.token,
            connection,
            endpoint,
            lanes: [Outbox::new(), Outbox::new()],
            in_flight: Mutex::new(InFlight::new(in_flight_max)),
            permits: Arc::new(Semaphore::new(in_flight_max as usize)),
            permits_max: in_flight_max,
            deliveries: Mutex::default(),
            next_subscription: AtomicU32::new(1),
            handles: Mutex::default(),
            down: OnceLock::new(),
            finishing: AtomicBool::new(false),
            writers: Mutex::default(),
            stats: dial.stats,
        });
        add(&link.stats.connections, 1);
        add(&link.stats.connects, 1);
        link.start((send, recv, frames), bulk);
        Ok(link)
    }

    fn start(
        self: &Arc<Self>,
        (send, recv, frames): (SendStream, RecvStream, FrameBuffer),
        (bulk_send, bulk_recv): (SendStream, RecvStream),
    ) {
        let bulk_frames = FrameBuffer::new(self.frame_bytes_max());
        let writers = [
            tokio::spawn(write_lane(Arc::clone(self), Lane::Requests, send)),
            tokio::spawn(write_lane(Arc::clone(self), Lane::Bulk, bulk_send)),
        ];
        lock(&self.writers).extend(writers);
        tokio::spawn(read_replies(Arc::clone(self), recv, frames));
        tokio::spawn(read_replies(Arc::clone(self), bulk_recv, bulk_frames));
        tokio::spawn(accept_deliveries(Arc::clone(self)));
    }

    /// Queues a request and gives what to wait on. Cancel-safe: dropped while
    /// it waits for its turn, nothing happened; after that the reply is
    /// awaited by the table even if nobody else does.
    pub(crate) async fn call(&self, lane: Lane, mut frame: Vec<u8>) -> Result<Pending, LinkDown> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| self.reason())?;
        let outbox = &self.lanes[lane as usize];
        let space = outbox
            .reserve(frame.len())
            .await
            .ok_or_else(|| self.reason())?;
        let (reply, receiver) = oneshot::channel();
        let waiter = Waiter {
            reply,
            _permit: permit,
        };
        {
            let mut in_flight = lock(&self.in_flight);
            // Under the lock: `fail` sets `down` before it drains the table.
            if let Some(down) = self.down.get() {
                return Err(down.clone());
            }
            codec::set_correlation(&mut frame, in_flight.insert(waiter));
        }
        outbox.push(frame, space);
        add(&self.stats.frames_sent, 1);
        Ok(Pending(receiver))
    }

    /// Queues a request that has no reply, waiting for space.
    pub(crate) async fn post(&self, lane: Lane, frame: Vec<u8>) -> Result<(), LinkDown> {
        let outbox = &self.lanes[lane as usize];
        let space = outbox
            .reserve(frame.len())
            .await
            .ok_or_else(|| self.reason())?;
        outbox.push(frame, space);
        add(&self.stats.frames_sent, 1);
        Ok(())
    }

    /// Queues credit, which has no reply and never waits; see [`Outbox::push_control`].
    pub(crate) fn control(&self, frame: Vec<u8>) {
        if !self.is_down() {
            self.lanes[Lane::Requests as usize].push_control(frame);
            add(&self.stats.frames_sent, 1);
        }
    }

    /// A fresh subscription id and where its stream will be handed over.
    pub(crate) fn expect_delivery(&self) -> (u32, oneshot::Receiver<DeliveryStream>) {
        let subscription = self.next_subscription.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let mut deliveries = lock(&self.deliveries);
        // Under the lock: `fail` clears the table after it set `down`, so a
        // sender put here later would never be dropped.
        if !self.is_down() {
            deliveries.insert(subscription, sender);
        }
        (subscription, receiver)
    }

    /// No stream for this subscription is expected any more.
    pub(crate) fn forget_delivery(&self, subscription: u32) {
        lock(&self.deliveries).remove(&subscription);
    }

    /// Where the handle of one resource is kept on this connection.
    pub(crate) fn handle_cell(&self, resource: u64) -> Arc<OnceCell<Handle>> {
        Arc::clone(lock(&self.handles).entry(resource).or_default())
    }

    /// The node does not know the handle any more.
    pub(crate) fn forget_handle(&self, resource: u64) {
        lock(&self.handles).remove(&resource);
    }

    /// Longest frame the node takes and sends.
    pub(crate) fn frame_bytes_max(&self) -> u32 {
        self.welcome
            .frame_bytes_max
            .min(pinion_types::limits::FRAME_BYTES_MAX)
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.get().is_some()
    }

    /// Whether the node closed it because it shuts down.
    pub(crate) fn drained(&self) -> bool {
        matches!(self.down.get(), Some(LinkDown::Lost(reason))
            if close_code(reason) == Some(CLOSE_DRAINING))
    }

    /// Finishes what is queued, waits until the node has it, and closes. The
    /// caller bounds the time.
    pub(crate) async fn finish(&self) {
        self.finishing.store(true, Ordering::Release);
        for lane in &self.lanes {
            lane.finish();
        }
        let writers = std::mem::take(&mut *lock(&self.writers));
        for writer in writers {
            // A writer that panicked has nothing more to wait for.
            let _ = writer.await;
        }
    }

    /// Closes at once.
    pub(crate) fn close(&self) {
        self.fail(&LinkDown::Closed);
    }

    /// Another connection has taken its place. It stays while its token counts, but for a
    /// rest: what was reserved on it goes back to its queue when it ends. Then it takes no
    /// more requests, waits as long as `within` for the answers that are out, and goes;
    /// whoever waits for more then, or subscribed here, goes on elsewhere as after a loss.
    pub(crate) async fn retire(&self, within: Duration) {
        let left = self.token.ends_at.map_or(within * 2, |at| {
            at.saturating_duration_since(Instant::now())
        });
        tokio::time::sleep(left - within.min(left / 2)).await;
        let within = within.min(left / 2);
        let idle = async {
            let all = self.permits.acquire_many(self.permits_max).await;
            self.finish().await;
            all
        };
        // Out of time, or lost meanwhile: the rest is told so.
        let held = tokio::time::timeout(within, idle).await;
        self.fail(&LinkDown::Lost(ConnectionError::LocallyClosed));
        drop(held);
    }

    /// Waits until the close has reached the node. The caller bounds the time.
    pub(crate) async fn closed(&self) {
        self.endpoint.wait_idle().await;
    }

    /// Takes the connection down and tells everyone who waits on it.
    fn fail(&self, down: &LinkDown) {
        if self.down.set(down.clone()).is_err() {
            return;
        }
        self.stats.connections.fetch_sub(1, Ordering::Relaxed);
        tracing::debug!(core = self.welcome.core, reason = ?down, "connection down");
        let (code, reason) = match down {
            LinkDown::Protocol(_) => (VarInt::from_u32(CLOSE_PROTOCOL), &b"protocol error"[..]),
            LinkDown::Closed | LinkDown::Lost(_) => (CLOSE_OK, &b"client closed"[..]),
        };
        self.connection.close(code, reason);
        self.permits.close();
        for lane in &self.lanes {
            lane.close();
        }
        let waiters = lock(&self.in_flight).drain();
        for waiter in waiters {
            // An error here means that the caller no longer waits.
            let _ = waiter.reply.send(Err(down.clone()));
        }
        lock(&self.deliveries).clear();
    }

    fn reason(&self) -> LinkDown {
        self.down.get().cloned().unwrap_or(LinkDown::Closed)
    }

    fn settle(&self, frame: Frame) -> Result<(), ProtocolError> {
        add(&self.stats.frames_received, 1);
        if frame.correlation == 0 {
            // Refusals of what was sent without asking for an answer.
            tracing::debug!(opcode = frame.opcode, "an answer nobody asked for");
            return Ok(());
        }
        let waiter = lock(&self.in_flight).remove(frame.correlation);
        let waiter = waiter.ok_or(ProtocolError::UnknownCorrelation {
            correlation: frame.correlation,
        })?;
        // An error here means that the caller no longer waits.
        let _ = waiter.reply.send(Ok(frame));
        Ok(())
    }
}

async fn write_lane(link: Arc<Link>, lane: Lane, mut send: SendStream) {
    let outbox = &link.lanes[lane as usize];
    while let Some(mut taken) = outbox.take().await {
        let result = send.write_all_chunks(&mut taken.chunks).await;
        outbox.written(taken.accounted);
        if let Err(error) = result {
            link.fail(&LinkDown::Lost(write_error(error)));
            return;
        }
    }
    // Both fail only when the connection is gone, which the readers report.
    let _ = send.finish();
    let _ = send.stopped().await;
}

async fn read_replies(link: Arc<Link>, mut recv: RecvStream, mut frames: FrameBuffer) {
    let down = loop {
        match next_frame(&mut recv, &mut frames).await {
            Ok(Some(frame)) => {
                if let Err(error) = link.settle(frame) {
                    break LinkDown::Protocol(error);
                }
            }
            // Its last reply, after we finished our side.
            Ok(None) if link.finishing.load(Ordering::Acquire) => return,
            Ok(None) => break LinkDown::Protocol(ProtocolError::EndedEarly),
            Err(down) => break down,
        }
    };
    link.fail(&down);
}

async fn accept_deliveries(link: Arc<Link>) {
    // The reply streams report the loss; here it only ends the loop.
    while let Ok(recv) = link.connection.accept_uni().await {
        // A task of its own, so that a stream whose head is late holds up no
        // other. The transport bounds how many there are.
        tokio::spawn(hand_over(Arc::clone(&link), recv));
    }
}

async fn hand_over(link: Arc<Link>, mut recv: RecvStream) {
    let mut frames = FrameBuffer::new(link.frame_bytes_max());
    let head = tokio::time::timeout(HEAD_WAIT, next_frame(&mut recv, &mut frames)).await;
    let subscription = match head {
        Ok(Ok(Some(frame))) => match codec::head(&frame) {
            Ok(subscription) => subscription,
            Err(error) => return link.fail(&LinkDown::Protocol(error)),
        },
        Ok(Err(LinkDown::Protocol(error))) => return link.fail(&LinkDown::Protocol(error)),
        Ok(Ok(None) | Err(_)) | Err(_) => {
            let _ = recv.stop(CLOSE_OK);
            return;
        }
    };
    let receiver = lock(&link.deliveries).remove(&subscription.0);
    let stream = DeliveryStream { recv, frames };
    if let Some(Err(mut stream)) = receiver.map(|receiver| receiver.send(stream)) {
        stream.stop();
    }
}

/// The next frame of a stream; `None` at its end. Cancel-safe: a chunk is
/// either still in QUIC or in `frames`.
async fn next_frame(
    recv: &mut RecvStream,
    frames: &mut FrameBuffer,
) -> Result<Option<Frame>, LinkDown> {
    loop {
        if let Some(frame) = frames.next_frame().map_err(LinkDown::Protocol)? {
            return Ok(Some(frame));
        }
        match recv.read_chunk(CHUNK_BYTES_MAX, true).await {
            Ok(Some(chunk)) => frames.push(chunk.bytes),
            Ok(None) if frames.is_at_boundary() => return Ok(None),
            Ok(None) => return Err(LinkDown::Protocol(ProtocolError::EndedEarly)),
            Err(quinn::ReadError::ConnectionLost(reason)) => return Err(LinkDown::Lost(reason)),
            // A reset is how the node gives up one stream; no frame follows.
            Err(_) => return Err(LinkDown::Protocol(ProtocolError::EndedEarly)),
        }
    }
}

/// A close with a code of the protocol is a refusal; anything else a failure.
fn refused_or(server: &str, reason: ConnectionError) -> ConnectError {
    let code = match close_code(&reason) {
        Some(CLOSE_PROTOCOL) => ErrorCode::Malformed,
        Some(CLOSE_UNAUTHENTICATED) => ErrorCode::Unauthenticated,
        Some(CLOSE_DRAINING) => ErrorCode::Draining,
        Some(CLOSE_LIMIT) => ErrorCode::LimitReached,
        _ => {
            return ConnectError::Handshake {
                server: server.to_owned(),
                reason,
            };
        }
    };
    ConnectError::Refused(Refusal::new(code))
}

fn close_code(reason: &ConnectionError) -> Option<u32> {
    match reason {
        ConnectionError::ApplicationClosed(close) => {
            u32::try_from(close.error_code.into_inner()).ok()
        }
        _ => None,
    }
}

fn write_error(error: quinn::WriteError) -> ConnectionError {
    match error {
        quinn::WriteError::ConnectionLost(reason) => reason,
        // The node stopped a request stream, which it does only on its way out.
        _ => ConnectionError::Reset,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
