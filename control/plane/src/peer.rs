//! What planes say to each other beside Raft, as `docs/peer-protocol.md` says: a command
//! that came to a node which does not lead, and the word that it was not taken.
//!
//! What becomes of a command that was taken nobody needs to say: every node applies it,
//! and the one that was asked finds its own number on it.

use bytes::Bytes;
use pinion_metadata::limits::COMMAND_BYTES_MAX;
use pinion_raft_group::format::FormatError;
use pinion_raft_group::limits::PEER_BODY_MAX;
use pinion_raft_group::{FRAME_HEAD, PeerError, PeerMessage};

use crate::audit::{AuditAsk, AuditSaid};
use crate::meet::{Beat, Join, JoinAnswer, Meet};
use crate::request::PlaneError;
use crate::usage::Usage;

const VERSION: u16 = 1;
const KIND_FORWARD: u16 = 6;
const KIND_RETURNED: u16 = 7;
const KIND_MEET: u16 = 8;
const KIND_JOIN: u16 = 9;
const KIND_JOIN_ANSWER: u16 = 10;
const KIND_BEAT: u16 = 11;
const KIND_USAGE: u16 = 12;
const KIND_AUDIT_ASK: u16 = 13;
const KIND_AUDIT_SAID: u16 = 14;

/// Bytes of a frame of kind 7 behind its head.
const RETURNED_BYTES: usize = 24;

/// Something from one node to another: the content of one frame.
#[derive(Clone, Debug, PartialEq)]
pub enum PlaneMessage {
    /// Between the groups.
    Raft(PeerMessage),
    /// A command for whoever leads.
    Forward(Forward),
    /// A command was not taken.
    Returned(Returned),
    /// What the sender is.
    Meet(Meet),
    /// The sender wants to be a member.
    Join(Join),
    /// What becomes of that.
    JoinAnswer(JoinAnswer),
    /// A broker lives.
    Beat(Beat),
    /// What tenants use on the sender.
    Usage(Usage),
    /// The sender wants rows of the hearer's audit log.
    AuditAsk(AuditAsk),
    /// Some of them.
    AuditSaid(AuditSaid),
}

/// A command for whoever leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The sender's number of the proposal.
    pub number: u64,
    /// The envelope, but for its stamp.
    pub envelope: Bytes,
}

/// A command is not in the group's log, and will not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// As in [`Forward::number`].
    pub number: u64,
    /// Why.
    pub why: Why,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The node does not lead, or does no more.
    NotLeader,
    /// As much as may wait is waiting.
    Busy {
        /// The limit that was met.
        limit: u64,
    },
    /// Its disk is full.
    ReadOnly,
    /// Its audit log takes no rows.
    AuditUnavailable,
    /// It could not read the command.
    Malformed,
}

impl Why {
    /// How a leader's own refusal is told to the node that was asked.
    pub(crate) fn from_refusal(error: &PlaneError) -> Self {
        match error {
            PlaneError::Busy { limit } => Self::Busy { limit: *limit },
            PlaneError::ReadOnly => Self::ReadOnly,
            PlaneError::AuditUnavailable => Self::AuditUnavailable,
            PlaneError::Malformed(_) | PlaneError::Meta(_) => Self::Malformed,
            _ => Self::NotLeader,
        }
    }

    /// What the node that was asked answers.
    pub(crate) fn refusal(self) -> PlaneError {
        match self {
            Self::NotLeader => PlaneError::NO_LEADER,
            Self::Busy { limit } => PlaneError::Busy { limit },
            Self::ReadOnly => PlaneError::ReadOnly,
            Self::AuditUnavailable => PlaneError::AuditUnavailable,
            Self::Malformed => {
                let what = "the command";
                PlaneError::Malformed(pinion_metadata::FormatError::Archive { what })
            }
        }
    }
}

impl PlaneMessage {
    /// Adds the frame to `out`.
    ///
    /// # Panics
    /// As [`PeerMessage::encode`]; when an envelope is longer than
    /// [`COMMAND_BYTES_MAX`], which none is.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        let kind = match self {
            Self::Raft(message) => return message.encode(out),
            Self::Forward(_) => KIND_FORWARD,
            Self::Returned(_) => KIND_RETURNED,
            Self::Meet(_) => KIND_MEET,
            Self::Join(_) => KIND_JOIN,
            Self::JoinAnswer(_) => KIND_JOIN_ANSWER,
            Self::Beat(_) => KIND_BEAT,
            Self::Usage(_) => KIND_USAGE,
            Self::AuditAsk(_) => KIND_AUDIT_ASK,
            Self::AuditSaid(_) => KIND_AUDIT_SAID,
        };
        out.resize(begin + FRAME_HEAD, 0);
        match self {
            Self::Raft(_) => {}
            Self::Meet(meet) => meet.encode(out),
            Self::Join(join) => join.encode(out),
            Self::JoinAnswer(answer) => answer.encode(out),
            Self::Beat(beat) => beat.encode(out),
            Self::Usage(usage) => usage.encode(out),
            Self::AuditAsk(ask) => ask.encode(out),
            Self::AuditSaid(said) => said.encode(out),
            Self::Forward(Forward { number, envelope }) => {
                let len = envelope.len();
                assert!(len <= COMMAND_BYTES_MAX, "an envelope of {len} bytes");
                out.extend(number.to_le_bytes());
                out.extend(envelope);
            }
            Self::Returned(Returned { number, why }) => {
                let (code, limit) = match *why {
                    Why::NotLeader => (1, 0),
                    Why::Busy { limit } => (2, limit),
                    Why::ReadOnly => (3, 0),
                    Why::AuditUnavailable => (4, 0),
                    Why::Malformed => (5, 0),
                };
                out.extend(number.to_le_bytes());
                out.extend(u64::to_le_bytes(code));
                out.extend(u64::to_le_bytes(limit));
            }
        }
        let (head, body) = out[begin..].split_at_mut(FRAME_HEAD);
        let len = u32::try_from(body.len()).expect("bounded by COMMAND_BYTES_MAX");
        head[..4].copy_from_slice(&len.to_le_bytes());
        head[4..6].copy_from_slice(&VERSION.to_le_bytes());
        head[6..8].copy_from_slice(&kind.to_le_bytes());
        head[8..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }

    /// Reads one whole frame, as [`PeerMessage::frame_len`] cut it.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(frame: &[u8]) -> Result<Self, PeerError> {
        let found = frame.len();
        let Some((head, body)) = frame.split_first_chunk::<FRAME_HEAD>() else {
            let needed = FRAME_HEAD;
            return Err(PeerError::Short { needed, found });
        };
        let kind = u16::from_le_bytes([head[6], head[7]]);
        if !(KIND_FORWARD..=KIND_AUDIT_SAID).contains(&kind) {
            return PeerMessage::decode(frame).map(Self::Raft);
        }
        let needed = PeerMessage::frame_len(head)?;
        if found != needed {
            return Err(PeerError::Short { needed, found });
        }
        let [.., a, b, c, d] = *head;
        if crc32c::crc32c(body) != u32::from_le_bytes([a, b, c, d]) {
            return Err(PeerError::Checksum);
        }
        match kind {
            KIND_MEET => return Ok(Self::Meet(Meet::decode(body)?)),
            KIND_JOIN => return Ok(Self::Join(Join::decode(body)?)),
            KIND_JOIN_ANSWER => return Ok(Self::JoinAnswer(JoinAnswer::decode(body)?)),
            KIND_BEAT => return Ok(Self::Beat(Beat::decode(body)?)),
            KIND_USAGE => return Ok(Self::Usage(Usage::decode(body)?)),
            KIND_AUDIT_ASK => return Ok(Self::AuditAsk(AuditAsk::decode(body)?)),
            KIND_AUDIT_SAID => return Ok(Self::AuditSaid(AuditSaid::decode(body)?)),
            _ => {}
        }
        let field = |name| Err(PeerError::Body(FormatError::Field { name }));
        let Some((number, rest)) = body.split_first_chunk() else {
            return field("number");
        };
        let number = u64::from_le_bytes(*number);
        if kind == KIND_FORWARD {
            if rest.is_empty() || rest.len() > COMMAND_BYTES_MAX {
                return field("envelope");
            }
            let envelope = Bytes::copy_from_slice(rest);
            return Ok(Self::Forward(Forward { number, envelope }));
        }
        let Ok(rest) = <&[u8; RETURNED_BYTES - 8]>::try_from(rest) else {
            return field("length");
        };
        let [code, limit] = [0, 8].map(|at| {
            let bytes = rest[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        });
        let why = match (code, limit) {
            (1, 0) => Why::NotLeader,
            (2, limit) => Why::Busy { limit },
            (3, 0) => Why::ReadOnly,
            (4, 0) => Why::AuditUnavailable,
            (5, 0) => Why::Malformed,
            _ => return field("reason"),
        };
        Ok(Self::Returned(Returned { number, why }))
    }
}

// The largest envelope fits a frame.
const _: () = assert!(COMMAND_BYTES_MAX + 8 <= PEER_BODY_MAX);
