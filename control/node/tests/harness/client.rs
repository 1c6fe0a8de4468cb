//! The client's end of a connection, with the transport's flow control.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pinion_session::CloseCode;
use pinion_types::block::Record;
use pinion_types::{ErrorCode, Refusal, SubscriptionId};
use pinion_wire::frame::{Split, split};
use pinion_wire::message::{Delivery, End, EventKind, Lag, Reply, Token};

/// A reply as it came.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) opcode: u8,
    pub(crate) correlation: u32,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{} {:?}", self.correlation, self.reply())
    }
}

impl Answer {
    pub(crate) fn reply(&self) -> Reply<'_> {
        Reply::decode(self.opcode, &self.body).expect("the node sends good replies")
    }

    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self.reply() {
            Reply::Error(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    #[track_caller]
    pub(crate) fn refusal(&self) -> Refusal {
        match self.reply() {
            Reply::Error(refusal) => refusal,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

/// Something on a delivery stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Record {
        offset: u64,
        value: Vec<u8>,
    },
    Message {
        id: u64,
        token: Token,
        attempt: u16,
        value: Vec<u8>,
    },
    Lag(Lag),
    Event {
        kind: EventKind,
        version: u64,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    },
    End(End),
    Fin,
}

#[derive(Debug, Default)]
pub(crate) struct RequestStream {
    pub(crate) input: VecDeque<Bytes>,
    pub(crate) paused: bool,
    pub(crate) fin: bool,
    pub(crate) fin_told: bool,
    /// Bytes the client takes before it is asked again; `None` is without end.
    window: Option<usize>,
    output: Vec<u8>,
    pub(crate) server_finished: bool,
}

#[derive(Debug, Default)]
struct DeliveryStream {
    window: Option<usize>,
    bytes: Vec<u8>,
    head: Option<SubscriptionId>,
    got: VecDeque<Got>,
}

/// A client and its transport.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) core: usize,
    pub(crate) conn: u64,
    pub(crate) closed: Option<CloseCode>,
    /// The client has closed.
    pub(crate) gone: bool,
    pub(crate) streams: BTreeMap<u64, RequestStream>,
    deliveries: BTreeMap<u64, DeliveryStream>,
    replies: Vec<Answer>,
    next_correlation: u32,
    next_bidi: u64,
    next_uni: u64,
    /// Delivery streams the client still allows.
    pub(crate) uni_left: usize,
    /// Window of streams that open from now on.
    pub(crate) window_new: Option<usize>,
    /// Finished streams to acknowledge.
    pub(crate) acks: usize,
    /// Acknowledgements are held back.
    pub(crate) acks_held: bool,
    held: usize,
}

impl Client {
    pub(crate) fn new(core: usize, conn: u64) -> Self {
        Self {
            core,
            conn,
            closed: None,
            gone: false,
            streams: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            replies: Vec::new(),
            next_correlation: 1,
            next_bidi: 0,
            next_uni: 3,
            uni_left: 2000,
            window_new: None,
            acks: 0,
            acks_held: false,
            held: 0,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.gone || self.closed.is_some()
    }

    pub(crate) fn new_stream(&mut self) -> u64 {
        let stream = self.next_bidi;
        self.next_bidi += 4;
        self.streams.insert(stream, RequestStream::default());
        stream
    }

    pub(crate) fn first_stream(&self) -> u64 {
        *self.streams.keys().next().expect("a stream is open")
    }

    pub(crate) fn new_correlation(&mut self) -> u32 {
        self.next_correlation += 1;
        self.next_correlation
    }

    pub(crate) fn send(&mut self, stream: u64, chunk: Bytes) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.input.push_back(chunk);
        }
    }

    pub(crate) fn fin(&mut self, stream: u64) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.fin = true;
        }
    }

    pub(crate) fn has_input(&self) -> bool {
        !self.is_over()
            && (self.acks > 0
                || self
                    .streams
                    .values()
                    .any(|s| !s.paused && (!s.input.is_empty() || (s.fin && !s.fin_told))))
    }

    pub(crate) fn paused(&mut self, stream: u64, paused: bool) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.paused = paused;
        }
    }

    /// From now on the client takes so many bytes of a stream and no more.
    pub(crate) fn limit(&mut self, stream: u64, window: usize) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.window = Some(window);
        } else if let Some(state) = self.deliveries.get_mut(&stream) {
            state.window = Some(window);
        }
    }

    /// More bytes; true when the transport had said that it takes none.
    pub(crate) fn allow(&mut self, stream: u64, bytes: usize) -> bool {
        let window = match self.streams.get_mut(&stream) {
            Some(state) => &mut state.window,
            None => match self.deliveries.get_mut(&stream) {
                Some(state) => &mut state.window,
                None => return false,
            },
        };
        let Some(left) = window else { return false };
        let was_shut = *left == 0;
        *left = left.saturating_add(bytes);
        was_shut
    }

    pub(crate) fn forget_stream(&mut self, stream: u64) {
        self.streams.remove(&stream);
        self.deliveries.remove(&stream);
    }

    pub(crate) fn take_reply_bytes(&mut self, stream: u64, bytes: &[u8]) -> Option<usize> {
        let state = self.streams.get_mut(&stream)?;
        let taken = state
            .window
            .map_or(bytes.len(), |window| window.min(bytes.len()));
        if let Some(window) = &mut state.window {
            *window -= taken;
        }
        state.output.extend_from_slice(&bytes[..taken]);
        loop {
            let consumed = match split(&state.output).expect("the node sends frames") {
                Split::NeedMore(_) => break,
                Split::Frame {
                    header,
                    body,
                    consumed,
                } => {
                    self.replies.push(Answer {
                        opcode: header.opcode,
                        correlation: header.correlation,
                        body: body.to_vec(),
                    });
                    consumed
                }
            };
            state.output.drain(..consumed);
        }
        Some(taken)
    }

    pub(crate) fn take_chunks(&mut self, stream: u64, chunks: &mut [Bytes]) -> Option<usize> {
        let state = self.deliveries.get_mut(&stream)?;
        let mut taken = 0;
        for chunk in chunks {
            let take = state
                .window
                .map_or(chunk.len(), |window| window.min(chunk.len()));
            if let Some(window) = &mut state.window {
                *window -= take;
            }
            state.bytes.extend_from_slice(&chunk.split_to(take));
            taken += take;
        }
        state.parse();
        Some(taken)
    }

    pub(crate) fn open_uni(&mut self) -> Option<u64> {
        self.uni_left = self.uni_left.checked_sub(1)?;
        let stream = self.next_uni;
        self.next_uni += 4;
        let state = DeliveryStream {
            window: self.window_new,
            ..DeliveryStream::default()
        };
        self.deliveries.insert(stream, state);
        Some(stream)
    }

    pub(crate) fn finished_by_server(&mut self, stream: u64) {
        if let Some(state) = self.streams.get_mut(&stream) {
            assert!(state.output.is_empty(), "finished inside a frame");
            assert!(!state.server_finished, "finished twice");
            state.server_finished = true;
        } else if let Some(state) = self.deliveries.get_mut(&stream) {
            assert!(state.bytes.is_empty(), "finished inside a frame");
            state.got.push_back(Got::Fin);
        } else {
            return;
        }
        if self.acks_held {
            self.held += 1;
        } else {
            self.acks += 1;
        }
    }

    pub(crate) fn release_acks(&mut self) {
        self.acks_held = false;
        self.acks += core::mem::take(&mut self.held);
    }

    /// The delivery stream of a subscription, the latest if there were several.
    pub(crate) fn delivery_stream(&self, subscription: u32) -> Option<u64> {
        self.deliveries
            .iter()
            .rev()
            .find(|(_, s)| s.head == Some(SubscriptionId(subscription)))
            .map(|(id, _)| *id)
    }

    pub(crate) fn delivery_stream_ids(&self) -> Vec<u64> {
        self.deliveries.keys().copied().collect()
    }

    /// Delivery streams open now, counted with those that ended.
    pub(crate) fn delivery_streams(&self) -> usize {
        self.deliveries.len()
    }

    pub(crate) fn got(&mut self, subscription: SubscriptionId) -> Vec<Got> {
        self.deliveries
            .values_mut()
            .filter(|s| s.head == Some(subscription))
            .flat_map(|s| s.got.drain(..))
            .collect()
    }

    pub(crate) fn take(&mut self, correlation: u32) -> Option<Answer> {
        let at = self
            .replies
            .iter()
            .position(|a| a.correlation == correlation)?;
        let answer = self.replies.remove(at);
        assert!(
            self.replies.iter().all(|a| a.correlation != correlation),
            "two answers to {correlation}"
        );
        Some(answer)
    }

    /// Every reply not taken yet.
    pub(crate) fn replies(&mut self) -> Vec<Answer> {
        core::mem::take(&mut self.replies)
    }
}

impl DeliveryStream {
    fn parse(&mut self) {
        loop {
            let consumed = match split(&self.bytes).expect("the node sends frames") {
                Split::NeedMore(_) => return,
                Split::Frame {
                    header,
                    body,
                    consumed,
                } => {
                    assert_eq!(header.correlation, 0);
                    let delivery = Delivery::decode(header.opcode, body).expect("well formed");
                    match delivery {
                        Delivery::Head(subscription) => {
                            assert_eq!(self.head, None, "two heads");
                            self.head = Some(subscription);
                        }
                        _ if self.head.is_none() => panic!("{delivery:?} before the head"),
                        Delivery::Records(header, records) => {
                            let mut count = 0;
                            let offsets = header.first_offset.0..;
                            let records = pinion_types::block::records(records);
                            for (offset, record) in offsets.zip(records) {
                                let value = record.expect("well formed").value.to_vec();
                                self.got.push_back(Got::Record { offset, value });
                                count += 1;
                            }
                            assert_eq!(count, header.record_count);
                        }
                        Delivery::Lag(lag) => self.got.push_back(Got::Lag(lag)),
                        Delivery::Events(events) => {
                            for event in events.iter() {
                                self.got.push_back(Got::Event {
                                    kind: event.kind,
                                    version: event.version.0,
                                    key: event.key.to_vec(),
                                    value: event.value.map(<[u8]>::to_vec),
                                });
                            }
                        }
                        Delivery::Messages(messages) => {
                            for message in messages.messages.iter() {
                                self.got.push_back(Got::Message {
                                    id: message.id,
                                    token: message.token,
                                    attempt: message.attempt,
                                    value: message.record.value.to_vec(),
                                });
                            }
                        }
                        Delivery::End(end) => self.got.push_back(Got::End(end)),
                    }
                    consumed
                }
            };
            self.bytes.drain(..consumed);
        }
    }
}

/// Records without keys, encoded one after the other.
pub(crate) fn batch(values: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        let record = Record {
            key: b"",
            headers: b"",
            value,
        };
        record.encode(&mut out).expect("small");
    }
    out
}
