//! One connection: its request stream, its deliveries, what waits to be written.

use std::collections::HashMap;

use pinion_quic::{CloseReason, ConnId, Endpoint, ReadOutcome, StreamId, WriteOutcome};
use pinion_types::{Refusal, SubscriptionId};
use pinion_wire::message::{Ack, Delivery, Hello, Reply, Request, Welcome};

use super::frames::Assembler;
use super::{LinkId, Received, SubmitError};

/// Encoded requests one connection may hold before the transport takes them.
/// Larger lets a caller run further ahead of a slow server; smaller makes a
/// bulk publisher wait sooner. One frame may go over it.
pub const OUT_BYTES_MAX: usize = 1 << 20;

/// Chunks taken from one stream before another has its turn.
const CHUNKS_PER_READ: usize = 256;

/// Correlation of HELLO; requests start after it.
const HELLO_CORRELATION: u32 = 0;

/// Application close code "protocol error".
pub(super) const CLOSE_PROTOCOL: u32 = 1;

/// How far a connection has come.
#[derive(Clone, Debug)]
pub enum LinkState {
    /// The QUIC and TLS handshake runs.
    Connecting,
    /// HELLO is out.
    Greeting,
    /// WELCOME arrived; requests may be submitted.
    Ready(Welcome),
    /// The server refused the HELLO.
    Refused(Refusal),
    /// The connection is over.
    Closed(CloseReason),
}

pub(super) struct Link {
    conn: ConnId,
    pub(super) state: LinkState,
    hello: Vec<u8>,
    request_stream: Option<StreamId>,
    replies: Assembler,
    deliveries: HashMap<StreamId, DeliveryStream>,
    out: Vec<u8>,
    written: usize,
    blocked: bool,
    pub(super) dirty: bool,
    next_correlation: u32,
    in_flight: u32,
}

#[derive(Default)]
struct DeliveryStream {
    frames: Assembler,
    subscription: Option<SubscriptionId>,
}

/// The peer broke the protocol on one stream.
pub(super) struct Fault(pub(super) &'static str);

impl Link {
    pub(super) fn new(conn: ConnId, token: &[u8], client_name: &str) -> Result<Self, SubmitError> {
        let mut hello = Vec::new();
        Request::Hello(Hello {
            magic: *b"PNN1",
            version_min: 1,
            version_max: 1,
            capabilities: 0,
            token,
            client_name,
        })
        .encode(HELLO_CORRELATION, &mut hello)
        .map_err(SubmitError::Encode)?;
        Ok(Self {
            conn,
            state: LinkState::Connecting,
            hello,
            request_stream: None,
            replies: Assembler::default(),
            deliveries: HashMap::new(),
            out: Vec::new(),
            written: 0,
            blocked: false,
            dirty: false,
            next_correlation: HELLO_CORRELATION + 1,
            in_flight: 0,
        })
    }

    pub(super) const fn conn(&self) -> ConnId {
        self.conn
    }

    pub(super) const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Opens the request stream and queues HELLO.
    pub(super) fn greet(&mut self, endpoint: &mut Endpoint) {
        if self.request_stream.is_some() {
            return;
        }
        // None: the server allows no stream yet; StreamsAvailable brings us back.
        if let Some(stream) = endpoint.open_bi(self.conn) {
            self.request_stream = Some(stream);
            self.out = std::mem::take(&mut self.hello);
            self.state = LinkState::Greeting;
        }
    }

    /// Encodes a request behind those that wait; gives its correlation.
    pub(super) fn submit(&mut self, request: &Request<'_>) -> Result<u32, SubmitError> {
        let LinkState::Ready(welcome) = &self.state else {
            return Err(SubmitError::NotReady);
        };
        let replies = expects_reply(request);
        if replies && self.in_flight >= welcome.in_flight_max {
            return Err(SubmitError::InFlight {
                limit: welcome.in_flight_max,
            });
        }
        if self.out.len() - self.written > OUT_BYTES_MAX {
            return Err(SubmitError::Full {
                limit: OUT_BYTES_MAX,
            });
        }
        let correlation = self.next_correlation;
        request
            .encode(correlation, &mut self.out)
            .map_err(SubmitError::Encode)?;
        self.in_flight += u32::from(replies);
        self.next_correlation = correlation.checked_add(1).unwrap_or(HELLO_CORRELATION + 1);
        Ok(correlation)
    }

    /// Hands what waits to the transport. True when it took anything.
    pub(super) fn write(&mut self, endpoint: &mut Endpoint) -> bool {
        let Some(stream) = self.request_stream else {
            return false;
        };
        if self.blocked || self.out.len() == self.written {
            return false;
        }
        let mut moved = false;
        while self.written < self.out.len() {
            match endpoint.write(self.conn, stream, &self.out[self.written..]) {
                WriteOutcome::Written(bytes) => {
                    self.written += bytes;
                    moved = true;
                }
                WriteOutcome::Blocked => {
                    self.blocked = true;
                    break;
                }
                // The connection is ending; its Closed event says why.
                WriteOutcome::Stopped(_) | WriteOutcome::Gone => {
                    self.written = self.out.len();
                }
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        } else if self.written > OUT_BYTES_MAX {
            self.out.drain(..self.written);
            self.written = 0;
        }
        moved
    }

    pub(super) const fn writable(&mut self) {
        self.blocked = false;
    }

    pub(super) fn stream_opened(&mut self, stream: StreamId) {
        self.deliveries.insert(stream, DeliveryStream::default());
    }

    pub(super) fn stream_gone(&mut self, stream: StreamId) {
        self.deliveries.remove(&stream);
    }

    /// Reads what arrived on `stream`. True: there may be more, come again.
    pub(super) fn read(
        &mut self,
        endpoint: &mut Endpoint,
        stream: StreamId,
        visit: &mut impl FnMut(Received<'_>),
    ) -> Result<bool, Fault> {
        let outcome = if self.request_stream == Some(stream) {
            self.read_replies(endpoint, stream, visit)?
        } else {
            self.read_deliveries(endpoint, stream, visit)?
        };
        match outcome {
            ReadOutcome::Chunk(_) => Ok(true),
            ReadOutcome::Blocked => Ok(false),
            ReadOutcome::Finished | ReadOutcome::Reset(_) | ReadOutcome::Gone => {
                self.stream_gone(stream);
                Ok(false)
            }
        }
    }

    fn read_replies(
        &mut self,
        endpoint: &mut Endpoint,
        stream: StreamId,
        visit: &mut impl FnMut(Received<'_>),
    ) -> Result<ReadOutcome, Fault> {
        let Self {
            conn,
            replies,
            state,
            in_flight,
            ..
        } = self;
        let mut fault = None;
        let outcome = endpoint.read_with(*conn, stream, CHUNKS_PER_READ, |chunk| {
            if fault.is_some() {
                return;
            }
            let fed = replies.feed(&chunk, |header, body| {
                if header.correlation == HELLO_CORRELATION {
                    fault = welcome(state, header.opcode, body).err();
                    return;
                }
                *in_flight = in_flight.saturating_sub(1);
                visit(Received::Reply {
                    link: LinkId(*conn),
                    correlation: header.correlation,
                    opcode: header.opcode,
                    body,
                });
            });
            if fed.is_err() {
                fault = Some(Fault("a reply is not a frame"));
            }
        });
        fault.map_or(Ok(outcome), Err)
    }

    fn read_deliveries(
        &mut self,
        endpoint: &mut Endpoint,
        stream: StreamId,
        visit: &mut impl FnMut(Received<'_>),
    ) -> Result<ReadOutcome, Fault> {
        let Some(delivery) = self.deliveries.get_mut(&stream) else {
            return Ok(ReadOutcome::Gone);
        };
        let DeliveryStream {
            frames,
            subscription,
        } = delivery;
        let conn = self.conn;
        let mut fault = None;
        let outcome = endpoint.read_with(conn, stream, CHUNKS_PER_READ, |chunk| {
            if fault.is_some() {
                return;
            }
            let fed = frames.feed(&chunk, |header, body| match *subscription {
                Some(subscription) => visit(Received::Delivery {
                    link: LinkId(conn),
                    subscription,
                    opcode: header.opcode,
                    body,
                }),
                None => match Delivery::decode(header.opcode, body) {
                    Ok(Delivery::Head(head)) => *subscription = Some(head),
                    _ => fault = Some(Fault("a delivery stream starts without its head")),
                },
            });
            if fed.is_err() {
                fault = Some(Fault("a delivery is not a frame"));
            }
        });
        if outcome == ReadOutcome::Finished && !frames.is_between_frames() {
            fault.get_or_insert(Fault("a delivery stream ends inside a frame"));
        }
        fault.map_or(Ok(outcome), Err)
    }
}

/// The answer to HELLO.
fn welcome(state: &mut LinkState, code: u8, body: &[u8]) -> Result<(), Fault> {
    match Reply::decode(code, body) {
        Ok(Reply::Welcome(welcome)) if matches!(state, LinkState::Greeting) => {
            *state = LinkState::Ready(welcome);
            Ok(())
        }
        Ok(Reply::Error(refusal)) if matches!(state, LinkState::Greeting) => {
            *state = LinkState::Refused(refusal);
            Ok(())
        }
        _ => Err(Fault("HELLO is not answered by WELCOME")),
    }
}

fn expects_reply(request: &Request<'_>) -> bool {
    match request {
        Request::Credit(_) => false,
        Request::Publish(publish) => publish.ack != Ack::None,
        _ => true,
    }
}
