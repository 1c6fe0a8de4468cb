//! A client's end of one connection: frames over in-memory streams, with the
//! transport's flow control. What it says and makes of answers is its player's.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pinion_session::CloseCode;
use pinion_types::block::BlockHeader;
use pinion_types::{Refusal, SubscriptionId};
use pinion_wire::frame::{Split, split};
use pinion_wire::message::{Delivery, End, Lag, Reply, Request, Token};

use crate::{Violation, promise};

/// A reply as it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) opcode: u8,
    pub(crate) correlation: u32,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn reply(&self) -> Result<Reply<'_>, Violation> {
        Reply::decode(self.opcode, &self.body)
            .map_err(|error| Violation::new(format!("a reply that cannot be read: {error:?}")))
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self.reply() {
            Ok(Reply::Error(refusal)) => Some(refusal),
            _ => None,
        }
    }
}

/// A message of a queue as it was delivered.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) token: Token,
    pub(crate) attempt: u16,
    pub(crate) lease_ms: u32,
    pub(crate) value: Vec<u8>,
}

/// A record of a stream as somebody was given it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) offset: u64,
    /// When its block was taken, in milliseconds of the wall clock.
    pub(crate) stamp: u64,
    pub(crate) headers: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Something on a delivery stream.
#[derive(Clone, Debug)]
pub(crate) enum Got {
    Record(Shown),
    Message(Message),
    Lag(Lag),
    End(End),
    Fin,
}

/// The records of a block, which says how many there are.
pub(crate) fn records_in(header: &BlockHeader, records: &[u8]) -> Result<Vec<Shown>, Violation> {
    let offsets = header.first_offset.0..;
    let mut all = Vec::new();
    for (offset, record) in offsets.zip(pinion_types::block::records(records)) {
        let record = record.map_err(|e| Violation::new(format!("not a record: {e:?}")))?;
        all.push(Shown {
            offset,
            stamp: header.timestamp.0,
            headers: record.headers.to_vec(),
            value: record.value.to_vec(),
        });
    }
    promise!(
        all.len() == header.record_count as usize,
        "{} records, it said {}",
        all.len(),
        header.record_count
    );
    Ok(all)
}

/// The client's request stream: one is enough, requests of many connections
/// are what interleaves.
#[derive(Debug, Default)]
pub(crate) struct RequestStream {
    pub(crate) input: VecDeque<Bytes>,
    pub(crate) paused: bool,
    output: Vec<u8>,
}

#[derive(Debug, Default)]
struct DeliveryStream {
    head: Option<SubscriptionId>,
    bytes: Vec<u8>,
    window: Option<usize>,
}

/// Number of the request stream of every connection.
pub(crate) const REQUESTS: u64 = 0;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) core: usize,
    pub(crate) conn: u64,
    pub(crate) closed: Option<CloseCode>,
    pub(crate) requests: RequestStream,
    deliveries: BTreeMap<u64, DeliveryStream>,
    replies: VecDeque<Answer>,
    got: VecDeque<(SubscriptionId, Got)>,
    next_correlation: u32,
    next_uni: u64,
    /// Bytes it takes of each delivery stream before it must be asked again.
    pub(crate) window: Option<usize>,
    /// Finished streams to acknowledge.
    pub(crate) acks: usize,
}

impl Client {
    pub(crate) fn new(core: usize, conn: u64) -> Self {
        Self {
            core,
            conn,
            closed: None,
            requests: RequestStream::default(),
            deliveries: BTreeMap::new(),
            replies: VecDeque::new(),
            got: VecDeque::new(),
            next_correlation: 1,
            next_uni: 3,
            window: None,
            acks: 0,
        }
    }

    /// Says something; gives the number its answer will have.
    pub(crate) fn send(&mut self, request: &Request<'_>) -> u32 {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        let mut bytes = Vec::new();
        request
            .encode(correlation, &mut bytes)
            .expect("players ask within the limits");
        self.requests.input.push_back(bytes.into());
        correlation
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        self.replies.pop_front()
    }

    /// The next thing that a subscription was given.
    pub(crate) fn delivery(&mut self) -> Option<(SubscriptionId, Got)> {
        self.got.pop_front()
    }

    /// The server writes on the request stream.
    pub(crate) fn take_reply_bytes(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let output = &mut self.requests.output;
        output.extend_from_slice(bytes);
        let mut done = 0;
        loop {
            let frame = split(&output[done..])
                .map_err(|error| Violation::new(format!("not a frame: {error:?}")))?;
            match frame {
                Split::NeedMore(_) => break,
                Split::Frame {
                    header,
                    body,
                    consumed,
                } => {
                    self.replies.push_back(Answer {
                        opcode: header.opcode,
                        correlation: header.correlation,
                        body: body.to_vec(),
                    });
                    done += consumed;
                }
            }
        }
        output.drain(..done);
        Ok(bytes.len())
    }

    /// The server writes on a delivery stream; gives what the client takes.
    pub(crate) fn take_chunks(
        &mut self,
        stream: u64,
        chunks: &mut [Bytes],
    ) -> Result<Option<usize>, Violation> {
        let Some(state) = self.deliveries.get_mut(&stream) else {
            return Ok(None);
        };
        let mut taken = 0;
        for chunk in chunks {
            let take = state.window.map_or(chunk.len(), |w| w.min(chunk.len()));
            if let Some(window) = &mut state.window {
                *window -= take;
            }
            state.bytes.extend_from_slice(&chunk.split_to(take));
            taken += take;
        }
        let mut bytes = core::mem::take(&mut state.bytes);
        let mut done = 0;
        while let Split::Frame {
            header,
            body,
            consumed,
        } = split(&bytes[done..])
            .map_err(|error| Violation::new(format!("not a frame: {error:?}")))?
        {
            let delivery = Delivery::decode(header.opcode, body)
                .map_err(|error| Violation::new(format!("not a delivery: {error:?}")))?;
            self.delivered(stream, &delivery)?;
            done += consumed;
        }
        bytes.drain(..done);
        if let Some(state) = self.deliveries.get_mut(&stream) {
            state.bytes = bytes;
        }
        Ok(Some(taken))
    }

    fn delivered(&mut self, stream: u64, delivery: &Delivery<'_>) -> Result<(), Violation> {
        let state = self.deliveries.get_mut(&stream).expect("the caller has it");
        let mut push = |got| match state.head {
            Some(head) => {
                self.got.push_back((head, got));
                Ok(())
            }
            None => Err(Violation::new("a delivery before its head".to_owned())),
        };
        match delivery {
            Delivery::Head(subscription) => {
                if state.head.replace(*subscription).is_some() {
                    return Err(Violation::new("a stream with two heads".to_owned()));
                }
            }
            Delivery::Records(header, records) => {
                for shown in records_in(header, records)? {
                    push(Got::Record(shown))?;
                }
            }
            Delivery::Messages(messages) => {
                for message in messages.messages.iter() {
                    push(Got::Message(Message {
                        id: message.id,
                        token: message.token,
                        attempt: message.attempt,
                        lease_ms: messages.lease_ms,
                        value: message.record.value.to_vec(),
                    }))?;
                }
            }
            Delivery::Lag(lag) => push(Got::Lag(*lag))?,
            Delivery::End(end) => push(Got::End(*end))?,
            Delivery::Events(_) => {
                return Err(Violation::new("an event that nobody watches".to_owned()));
            }
        }
        Ok(())
    }

    /// The server opens a delivery stream.
    pub(crate) fn open_uni(&mut self) -> Option<u64> {
        let stream = self.next_uni;
        self.next_uni += 4;
        let state = DeliveryStream {
            window: self.window,
            ..DeliveryStream::default()
        };
        self.deliveries.insert(stream, state);
        Some(stream)
    }

    /// The server finished a stream.
    pub(crate) fn finished(&mut self, stream: u64) {
        if let Some(state) = self.deliveries.remove(&stream) {
            if let Some(head) = state.head {
                self.got.push_back((head, Got::Fin));
            }
            self.acks += 1;
        } else if stream == REQUESTS {
            self.acks += 1;
        }
    }

    /// Takes so many bytes more of every delivery stream; gives those on which
    /// the transport had said that nothing more is taken.
    pub(crate) fn allow(&mut self, bytes: usize) -> Vec<u64> {
        let mut open = Vec::new();
        for (stream, state) in &mut self.deliveries {
            if let Some(window) = &mut state.window {
                if *window == 0 {
                    open.push(*stream);
                }
                *window += bytes;
            }
        }
        open
    }
}
