//! What members say to each other, as `docs/peer-protocol.md` says: frames, and the
//! Raft messages in them.
//!
//! Members know each other by certificate, and still nothing is believed: a length
//! is compared with its limit and with what is there before anything is taken, and a
//! message that raft-rs would not expect from a peer is refused here.

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};

use crate::format::{EntryBody, FormatError, MemberId, NUMBER_MAX, Reader, count};
use crate::limits::{CHUNK_BYTES, PEER_BODY_MAX, PEER_CONTEXT_MAX};
use crate::storage::{body, entry};

/// Bytes before a frame's body.
pub const FRAME_HEAD: usize = 12;
/// The one version of the protocol.
const VERSION: u16 = 1;
/// Kind of a frame: Raft messages.
const KIND_RAFT: u16 = 2;
/// Kind of a frame: a snapshot is offered.
const KIND_OFFER: u16 = 3;
/// Kind of a frame: a part of one.
const KIND_CHUNK: u16 = 4;
/// Kind of a frame: how far one came.
const KIND_ACK: u16 = 5;

const MESSAGE_HEAD: usize = 88;

/// The types of Raft messages that go between members, and their numbers. What is
/// missing is either local to a member or goes another way: proposals by whoever
/// holds the machine, snapshots in chunks.
const TYPES: [(u8, MessageType); 11] = [
    (3, MessageType::MsgAppend),
    (4, MessageType::MsgAppendResponse),
    (5, MessageType::MsgRequestVote),
    (6, MessageType::MsgRequestVoteResponse),
    (8, MessageType::MsgHeartbeat),
    (9, MessageType::MsgHeartbeatResponse),
    (14, MessageType::MsgTimeoutNow),
    (15, MessageType::MsgReadIndex),
    (16, MessageType::MsgReadIndexResp),
    (17, MessageType::MsgRequestPreVote),
    (18, MessageType::MsgRequestPreVoteResponse),
];

/// Why a frame is refused. Whoever sent it is not a member of this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It is not whole.
    #[error("{found} bytes of {needed}")]
    Short {
        /// Bytes that it must have.
        needed: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// It is too long.
    #[error("a body of {found} bytes, above {limit}")]
    TooLong {
        /// The most.
        limit: usize,
        /// Bytes that it says.
        found: usize,
    },
    /// Another version of the protocol.
    #[error("version {found}; this release speaks {VERSION}")]
    Version {
        /// Its version.
        found: u16,
    },
    /// No kind of frame.
    #[error("frame of kind {found}")]
    Kind {
        /// Its kind.
        found: u16,
    },
    /// Its bytes are not those that were sent.
    #[error("wrong checksum")]
    Checksum,
    /// Its body is not what this release writes.
    #[error("{0}")]
    Body(#[from] FormatError),
    /// A Raft message of a type that no member sends.
    #[error("message of type {found}")]
    Type {
        /// Its type.
        found: u8,
    },
}

/// Something from one member to another: the content of one frame.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerMessage {
    /// Raft messages, in order.
    Raft(Vec<RaftMessage>),
    /// A snapshot is offered.
    Offer(Offer),
    /// A part of it.
    Chunk(Chunk),
    /// How far it came.
    Ack(ChunkAck),
}

/// A snapshot is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Names the transfer; grows with each of a member's life.
    pub transfer: u64,
    /// The term in which its sender leads.
    pub term: u64,
    /// Its bytes.
    pub total: u64,
    /// CRC-32C of all of them.
    pub crc: u32,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which transfer.
    pub transfer: u64,
    /// Where the part begins.
    pub offset: u64,
    /// The part: at least one byte, at most [`CHUNK_BYTES`].
    pub bytes: Bytes,
}

/// How far a snapshot came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkAck {
    /// Which transfer.
    pub transfer: u64,
    /// Everything before it is there.
    pub offset: u64,
    /// What becomes of it.
    pub verdict: ChunkVerdict,
}

/// What becomes of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkVerdict {
    /// Go on.
    Taken,
    /// It is not wanted.
    Refused,
    /// All of it is there, and is what it should be.
    Done,
    /// All of it is there, and is not what it should be.
    Corrupt,
}

impl ChunkVerdict {
    const ALL: [Self; 4] = [Self::Taken, Self::Refused, Self::Done, Self::Corrupt];
}

/// One message of the Raft protocol. What is in it is between the groups.
#[derive(Clone, Debug, PartialEq)]
pub struct RaftMessage(pub(crate) Message);

/// What a member binds itself to by saying it: for whoever compares what it says in one of
/// its lives with what it says in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// In this term it is for that member, itself or another (Raft §5.2).
    Vote {
        /// The term.
        term: u64,
        /// For whom.
        whom: MemberId,
    },
    /// It asks when it may be read, in words that no other question has.
    Question(&'a [u8]),
}

impl RaftMessage {
    /// Who says it.
    #[must_use]
    pub const fn sender(&self) -> MemberId {
        MemberId(self.0.from)
    }

    /// What its sender binds itself to, if to anything.
    #[must_use]
    pub fn claim(&self) -> Option<Claim<'_>> {
        let Self(message) = self;
        let vote = |whom| Claim::Vote {
            term: message.term,
            whom: MemberId(whom),
        };
        match message.get_msg_type() {
            MessageType::MsgRequestVote => Some(vote(message.from)),
            MessageType::MsgRequestVoteResponse if !message.reject => Some(vote(message.to)),
            MessageType::MsgReadIndex => {
                let question = message.entries.first()?;
                Some(Claim::Question(&question.data))
            }
            _ => None,
        }
    }
}

impl PeerMessage {
    /// Who its sender says it is; a part of a snapshot, and what answers one, does not say.
    #[must_use]
    pub fn sender(&self) -> Option<MemberId> {
        match self {
            Self::Raft(messages) => messages.first().map(|first| MemberId(first.0.from)),
            Self::Offer(_) | Self::Chunk(_) | Self::Ack(_) => None,
        }
    }

    /// Adds the frame to `out`.
    ///
    /// # Panics
    /// When its body is longer than [`PEER_BODY_MAX`]; a group makes none such.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + FRAME_HEAD, 0);
        let kind = self.encode_body(out);
        let body = start + FRAME_HEAD;
        let len = out.len() - body;
        assert!(len <= PEER_BODY_MAX, "a frame of {len} bytes");
        let crc = crc32c::crc32c(&out[body..]);
        let head = &mut out[start..body];
        head[..4].copy_from_slice(&count(len));
        head[4..6].copy_from_slice(&VERSION.to_le_bytes());
        head[6..8].copy_from_slice(&kind.to_le_bytes());
        head[8..].copy_from_slice(&crc.to_le_bytes());
    }

    fn encode_body(&self, out: &mut Vec<u8>) -> u16 {
        match self {
            Self::Raft(messages) => {
                for message in messages {
                    message.encode(out);
                }
                KIND_RAFT
            }
            Self::Offer(offer) => {
                for field in [offer.transfer, offer.term, offer.total] {
                    out.extend(field.to_le_bytes());
                }
                out.extend(offer.crc.to_le_bytes());
                out.extend([0; 4]);
                KIND_OFFER
            }
            Self::Chunk(chunk) => {
                out.extend(chunk.transfer.to_le_bytes());
                out.extend(chunk.offset.to_le_bytes());
                out.extend(&chunk.bytes);
                KIND_CHUNK
            }
            Self::Ack(ack) => {
                out.extend(ack.transfer.to_le_bytes());
                out.extend(ack.offset.to_le_bytes());
                let verdict = ChunkVerdict::ALL.iter().position(|of| *of == ack.verdict);
                out.extend((verdict.unwrap_or_default() as u64).to_le_bytes());
                KIND_ACK
            }
        }
    }

    /// How long the frame is whose first [`FRAME_HEAD`] bytes these are, for whoever
    /// cuts a stream into frames.
    ///
    /// # Errors
    /// It is none of this release, or longer than the limit; nothing after it in the
    /// stream can be read.
    pub fn frame_len(head: &[u8; FRAME_HEAD]) -> Result<usize, PeerError> {
        let [a, b, c, d, version @ .., _, _, _, _, _, _] = head;
        let len = u32::from_le_bytes([*a, *b, *c, *d]);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let found = u16::from_le_bytes(*version);
        if found != VERSION {
            return Err(PeerError::Version { found });
        }
        if len > PEER_BODY_MAX {
            let limit = PEER_BODY_MAX;
            return Err(PeerError::TooLong { limit, found: len });
        }
        Ok(FRAME_HEAD + len)
    }

    /// Reads one whole frame.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(frame: &[u8]) -> Result<Self, PeerError> {
        let found = frame.len();
        let Some((head, body)) = frame.split_first_chunk() else {
            let needed = FRAME_HEAD;
            return Err(PeerError::Short { needed, found });
        };
        let needed = Self::frame_len(head)?;
        if found != needed {
            return Err(PeerError::Short { needed, found });
        }
        let [.., kind_low, kind_high, a, b, c, d] = *head;
        if crc32c::crc32c(body) != u32::from_le_bytes([a, b, c, d]) {
            return Err(PeerError::Checksum);
        }
        let mut reader = Reader::new(body);
        let field = |name| PeerError::Body(FormatError::Field { name });
        match u16::from_le_bytes([kind_low, kind_high]) {
            KIND_RAFT => {
                let mut messages = Vec::new();
                while !reader.is_empty() {
                    messages.push(RaftMessage::decode(&mut reader)?);
                }
                Ok(Self::Raft(messages))
            }
            KIND_OFFER => {
                let offer = Offer {
                    transfer: reader.number()?,
                    term: reader.number()?,
                    total: reader.number()?,
                    crc: u32::from_le_bytes(reader.take()?),
                };
                reader.zero::<4>()?;
                reader.end(body)?;
                if offer.term == 0 || offer.term > NUMBER_MAX {
                    return Err(field("term"));
                }
                Ok(Self::Offer(offer))
            }
            KIND_CHUNK => {
                let (transfer, offset) = (reader.number()?, reader.number()?);
                let bytes = reader.rest();
                if bytes.is_empty() || bytes.len() > CHUNK_BYTES {
                    return Err(field("chunk"));
                }
                Ok(Self::Chunk(Chunk {
                    transfer,
                    offset,
                    bytes: Bytes::copy_from_slice(bytes),
                }))
            }
            KIND_ACK => {
                let (transfer, offset) = (reader.number()?, reader.number()?);
                let verdict = usize::try_from(reader.number()?).unwrap_or(usize::MAX);
                reader.end(body)?;
                let Some(&verdict) = ChunkVerdict::ALL.get(verdict) else {
                    return Err(field("verdict"));
                };
                Ok(Self::Ack(ChunkAck {
                    transfer,
                    offset,
                    verdict,
                }))
            }
            found => Err(PeerError::Kind { found }),
        }
    }
}

impl RaftMessage {
    /// Bytes that it takes in a frame.
    pub(crate) fn len(&self) -> usize {
        let message = &self.0;
        let entries = message.entries.iter();
        let entries: usize = entries.map(|entry| 4 + 32 + body(entry).data.len()).sum();
        MESSAGE_HEAD + message.context.len() + entries
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let message = &self.0;
        let number = TYPES
            .iter()
            .find(|(_, of)| *of == message.get_msg_type())
            .map(|(number, _)| *number)
            .expect("raft-rs sends no other type to a peer");
        // The context of a read travels as an entry in raft-rs, as a context here.
        let (context, entries): (&[u8], &[Entry]) = match &*message.entries {
            [read, ..] if is_read(message.get_msg_type()) => (&read.data, &[]),
            entries => (&message.context, entries),
        };
        // Where an entry stands is not written: it follows the one before.
        for (entry, index) in entries.iter().zip(message.index + 1..) {
            let of = entry.index;
            assert!(of == index, "entry {of} in the place of {index}");
        }
        out.extend([number, message.reject.into(), 0, 0]);
        out.extend(count(entries.len()));
        for field in [
            message.from,
            message.to,
            message.term,
            message.log_term,
            message.index,
            message.commit,
            message.commit_term,
            message.reject_hint,
            message.request_snapshot,
        ] {
            out.extend(field.to_le_bytes());
        }
        out.extend(count(context.len()));
        out.extend([0; 4]);
        out.extend(context);
        for entry in entries {
            let body = body(entry);
            let head = body.head();
            out.extend(count(head.len() + body.data.len()));
            out.extend(head);
            out.extend(body.data);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, PeerError> {
        let field = |name| PeerError::Body(FormatError::Field { name });
        let [number, reject] = reader.take()?;
        let kind = TYPES.iter().find(|(of, _)| *of == number);
        let Some(&(_, kind)) = kind else {
            return Err(PeerError::Type { found: number });
        };
        if reject > 1 {
            return Err(field("reject"));
        }
        reader.zero::<2>()?;
        let entries = reader.count()?;
        let mut message = Message {
            from: reader.number()?,
            to: reader.number()?,
            term: reader.number()?,
            log_term: reader.number()?,
            index: reader.number()?,
            commit: reader.number()?,
            commit_term: reader.number()?,
            reject_hint: reader.number()?,
            request_snapshot: reader.number()?,
            reject: reject == 1,
            ..Message::default()
        };
        message.set_msg_type(kind);
        if message.from == 0 || message.to == 0 || message.from == message.to {
            return Err(field("from"));
        }
        // A term of 0 marks what comes from the member itself, and a question to read
        // is asked in no term.
        if (message.term == 0) != (kind == MessageType::MsgReadIndex) {
            return Err(field("term"));
        }
        for (name, number) in [
            ("term", message.term),
            ("log term", message.log_term),
            ("index", message.index),
            ("commit", message.commit),
            ("reject hint", message.reject_hint),
        ] {
            if number > NUMBER_MAX {
                return Err(field(name));
            }
        }
        if message.request_snapshot != 0 {
            return Err(field("request snapshot"));
        }
        let context = reader.count()?;
        reader.zero::<4>()?;
        if context > PEER_CONTEXT_MAX {
            return Err(field("context"));
        }
        let context = reader.bytes(context)?.to_vec();
        if entries > 0 && kind != MessageType::MsgAppend {
            return Err(field("entries"));
        }
        if is_read(kind) {
            let read = Entry {
                data: context.into(),
                ..Entry::default()
            };
            message.entries = vec![read].into();
        } else {
            message.context = context.into();
            message.entries = decode_entries(reader, entries, &message)?.into();
        }
        Ok(Self(message))
    }
}

fn decode_entries(
    reader: &mut Reader<'_>,
    entries: usize,
    message: &Message,
) -> Result<Vec<Entry>, PeerError> {
    // Nothing is reserved for a count that nothing backs.
    let mut found = Vec::new();
    let mut term = message.log_term;
    for at in 0..entries {
        let len = reader.count()?;
        let body = EntryBody::decode(reader.bytes(len)?)?;
        // Terms never fall along a log, and none is above its leader's (Raft §5.3).
        if body.term < term || body.term > message.term {
            return Err(FormatError::Field {
                name: "entry's term",
            }
            .into());
        }
        term = body.term;
        found.push(entry(message.index + 1 + at as u64, &body));
    }
    Ok(found)
}

fn is_read(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp
    )
}

/// Messages as frames: at most [`PEER_BODY_MAX`] bytes each, in their order.
///
/// raft-rs bounds messages by the bytes of their entries, and counts none of what is
/// around them; one that is too long is cut where the next entry would be too much.
pub(crate) fn frames(messages: impl IntoIterator<Item = Message>) -> Vec<Vec<RaftMessage>> {
    let mut frames: Vec<Vec<RaftMessage>> = Vec::new();
    let mut room = 0;
    for message in messages {
        for part in split(message) {
            let part = RaftMessage(part);
            let len = part.len();
            match frames.last_mut() {
                Some(frame) if len <= room => {
                    room -= len;
                    frame.push(part);
                }
                _ => {
                    room = PEER_BODY_MAX.saturating_sub(len);
                    frames.push(vec![part]);
                }
            }
        }
    }
    frames
}

/// The same appends, each within a frame.
fn split(mut message: Message) -> Vec<Message> {
    let mut parts = Vec::new();
    loop {
        let mut len = MESSAGE_HEAD + message.context.len();
        let fits = message.entries.iter().take_while(|entry| {
            len += 4 + 32 + body(entry).data.len();
            len <= PEER_BODY_MAX
        });
        let fits = fits.count().max(1);
        if message.entries.len() <= fits {
            parts.push(message);
            return parts;
        }
        let mut entries: Vec<Entry> = message.take_entries().into();
        let rest = entries.split_off(fits);
        let last = entries.last().expect("one at least fits");
        let mut next = message.clone();
        (next.index, next.log_term) = (last.index, last.term);
        next.entries = rest.into();
        message.entries = entries.into();
        parts.push(message);
        message = next;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{MemberId, ProposalId};

    fn append(entries: usize, bytes: usize) -> Message {
        let data = vec![7; bytes];
        let body = EntryBody {
            term: 3,
            proposal: Some(ProposalId {
                member: MemberId(1),
                number: 1,
            }),
            members: false,
            data: &data,
        };
        let entries: Vec<Entry> = (11..).take(entries).map(|at| entry(at, &body)).collect();
        let mut message = Message {
            from: 1,
            to: 2,
            term: 3,
            index: 10,
            log_term: 2,
            entries: entries.into(),
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgAppend);
        message
    }

    #[test]
    fn what_is_too_long_for_a_frame_goes_in_several_that_follow_each_other() {
        let frames = frames([append(1, 10), append(7, 400_000), append(2, 10)]);
        let lens: Vec<usize> = frames
            .iter()
            .map(|frame| frame.iter().map(|message| message.0.entries.len()).sum())
            .collect();
        assert_eq!(lens, [1 + 2, 2, 2, 1 + 2]);
        for (at, frame) in frames.into_iter().enumerate() {
            let message = PeerMessage::Raft(frame);
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(PeerMessage::decode(&bytes), Ok(message.clone()));
            let PeerMessage::Raft(messages) = message else {
                panic!("they are Raft messages");
            };
            let first = &messages[0].0;
            let before = (first.index, first.log_term);
            let expected = [(10, 2), (12, 3), (14, 3), (16, 3)];
            assert!(at == 0 || before == expected[at], "{before:?}");
        }
    }

    #[test]
    #[should_panic(expected = "entry 11 in the place of 12")]
    fn entries_that_do_not_follow_their_message_are_never_sent() {
        let mut message = append(1, 10);
        message.index = 11;
        PeerMessage::Raft(vec![RaftMessage(message)]).encode(&mut Vec::new());
    }

    #[test]
    fn a_single_entry_of_any_length_fits_a_frame() {
        let frames = frames([append(1, crate::limits::COMMAND_BYTES_MAX)]);
        let mut bytes = Vec::new();
        PeerMessage::Raft(frames.into_iter().next().unwrap()).encode(&mut bytes);
        assert!(bytes.len() <= FRAME_HEAD + PEER_BODY_MAX);
    }
}
