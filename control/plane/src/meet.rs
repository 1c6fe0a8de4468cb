//! What nodes say to each other beside Raft and commands, as `docs/peer-protocol.md` says:
//! whether a cluster is there, that one wants to be in it, and that a broker lives.

use bytes::Bytes;
use pinion_metadata::limits::{ADDRESS_BYTES_MAX, OBSERVERS_MAX, VOTERS_MAX};
use pinion_raft_group::MemberId;
use pinion_raft_group::format::FormatError;

use crate::limits::REGISTRATION_BYTES_MAX;
use crate::names::PeerName;

const MEET_HEAD: usize = 48;
const JOIN_HEAD: usize = 24;
const ANSWER_HEAD: usize = 32;
const BEAT_HEAD: usize = 8;

/// Nodes that an answer to a join names at most: as many as there may be.
pub(crate) const GUIDES_MAX: usize = 71;
const _: () = assert!(GUIDES_MAX as u64 == VOTERS_MAX + OBSERVERS_MAX);

/// What a node is, for those who want to begin a cluster with it or to join it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meet {
    /// The other is to say the same of itself.
    pub asks: bool,
    /// What the node is.
    pub state: MeetState,
    /// Hash of the nodes that begin the cluster, as the speaker's configuration lists them.
    pub list: u64,
    /// The speaker's data directory.
    pub store: [u8; 16],
    /// Where it is reached: `host:port`.
    pub address: Box<str>,
}

/// See [`Meet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeetState {
    /// It is nobody yet.
    Fresh,
    /// It is a member.
    Member {
        /// Of which cluster.
        cluster: [u8; 16],
        /// The node that hears it took part in that cluster already, as far as the speaker
        /// knows.
        known: bool,
    },
}

/// A node that is nobody wants to be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// It is never to vote.
    pub observer: bool,
    /// Its data directory.
    pub store: [u8; 16],
    /// Where the others reach it.
    pub address: Box<str>,
    /// An envelope that registers its broker, for a cluster that does not know it; at most
    /// [`REGISTRATION_BYTES_MAX`] bytes.
    pub registration: Bytes,
}

/// What becomes of a [`Join`], as far as it is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinAnswer {
    /// What.
    pub verdict: JoinVerdict,
    /// The members and where each is: whom to ask, and whom to listen to. At most 71.
    pub members: Box<[(PeerName, Box<str>)]>,
}

/// See [`JoinAnswer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinVerdict {
    /// It is a member from now on.
    Welcome {
        /// Its number.
        member: MemberId,
        /// Of which cluster.
        cluster: [u8; 16],
    },
    /// Another node is to be asked.
    NotLeader,
    /// It is under way: ask again.
    Later,
    /// The node of that name lives, as far as the leader knows: two cannot have one name.
    Alive,
}

/// A broker lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Which: the sender's own, or one that spoke to it.
    pub broker: PeerName,
    /// The life of its process.
    pub incarnation: u64,
}

fn field<T>(name: &'static str) -> Result<T, FormatError> {
    Err(FormatError::Field { name })
}

/// The first `N` bytes of `rest`, which go.
fn take<const N: usize>(rest: &mut &[u8], name: &'static str) -> Result<[u8; N], FormatError> {
    match rest.split_first_chunk::<N>() {
        Some((first, after)) => {
            *rest = after;
            Ok(*first)
        }
        None => field(name),
    }
}

fn take_zero<const N: usize>(rest: &mut &[u8]) -> Result<(), FormatError> {
    match take::<N>(rest, "length")? {
        zero if zero == [0; N] => Ok(()),
        _ => field("zero"),
    }
}

fn take_bool(rest: &mut &[u8], name: &'static str) -> Result<bool, FormatError> {
    match take(rest, "length")? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => field(name),
    }
}

fn take_text<'b>(
    rest: &mut &'b [u8],
    len: usize,
    max: usize,
    name: &'static str,
) -> Result<&'b str, FormatError> {
    if len == 0 || len > max || len > rest.len() {
        return field(name);
    }
    let (text, after) = rest.split_at(len);
    *rest = after;
    match core::str::from_utf8(text) {
        Ok(text) => Ok(text),
        Err(_) => field(name),
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    let len = u16::try_from(len).expect("addresses are bounded");
    out.extend(len.to_le_bytes());
}

fn name_of(text: &str) -> Result<PeerName, FormatError> {
    match PeerName::new(text) {
        Ok(name) => Ok(name),
        Err(_) => field("name"),
    }
}

impl Meet {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (state, known, cluster) = match self.state {
            MeetState::Fresh => (0, false, [0; 16]),
            MeetState::Member { cluster, known } => (1, known, cluster),
        };
        out.extend([u8::from(self.asks), state, u8::from(known), 0]);
        put_len(out, self.address.len());
        out.extend([0; 2]);
        out.extend(self.list.to_le_bytes());
        out.extend(self.store);
        out.extend(cluster);
        out.extend(self.address.as_bytes());
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, FormatError> {
        if body.len() < MEET_HEAD {
            return field("length");
        }
        let mut rest = body;
        let asks = take_bool(&mut rest, "asks")?;
        let [state, known] = take(&mut rest, "length")?;
        take_zero::<1>(&mut rest)?;
        let len = u16::from_le_bytes(take(&mut rest, "length")?);
        take_zero::<2>(&mut rest)?;
        let list = u64::from_le_bytes(take(&mut rest, "length")?);
        let store = take(&mut rest, "length")?;
        let cluster: [u8; 16] = take(&mut rest, "length")?;
        let state = match (state, known, cluster) {
            (0, 0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) => MeetState::Fresh,
            (1, 0 | 1, cluster) => MeetState::Member {
                cluster,
                known: known == 1,
            },
            _ => return field("state"),
        };
        let address = take_text(&mut rest, len.into(), ADDRESS_BYTES_MAX, "address")?.into();
        if !rest.is_empty() {
            return field("length");
        }
        Ok(Self {
            asks,
            state,
            list,
            store,
            address,
        })
    }
}

impl Join {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let len = self.registration.len();
        assert!(
            len <= REGISTRATION_BYTES_MAX,
            "a registration of {len} bytes"
        );
        out.extend([u8::from(self.observer), 0, 0, 0]);
        put_len(out, self.address.len());
        out.extend([0; 2]);
        out.extend(self.store);
        out.extend(self.address.as_bytes());
        out.extend(&self.registration);
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, FormatError> {
        if body.len() < JOIN_HEAD {
            return field("length");
        }
        let mut rest = body;
        let observer = take_bool(&mut rest, "observer")?;
        take_zero::<3>(&mut rest)?;
        let len = u16::from_le_bytes(take(&mut rest, "length")?);
        take_zero::<2>(&mut rest)?;
        let store = take(&mut rest, "length")?;
        let address = take_text(&mut rest, len.into(), ADDRESS_BYTES_MAX, "address")?.into();
        if rest.is_empty() || rest.len() > REGISTRATION_BYTES_MAX {
            return field("registration");
        }
        Ok(Self {
            observer,
            store,
            address,
            registration: Bytes::copy_from_slice(rest),
        })
    }
}

impl JoinAnswer {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (verdict, member, cluster) = match self.verdict {
            JoinVerdict::Welcome { member, cluster } => (1, member.0, cluster),
            JoinVerdict::NotLeader => (2, 0, [0; 16]),
            JoinVerdict::Later => (3, 0, [0; 16]),
            JoinVerdict::Alive => (4, 0, [0; 16]),
        };
        assert!(
            self.members.len() <= GUIDES_MAX,
            "{} members",
            self.members.len()
        );
        out.extend([verdict, 0]);
        put_len(out, self.members.len());
        out.extend([0; 4]);
        out.extend(member.to_le_bytes());
        out.extend(cluster);
        for (name, address) in &self.members {
            put_len(out, name.as_str().len());
            put_len(out, address.len());
            out.extend(name.as_str().as_bytes());
            out.extend(address.as_bytes());
        }
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, FormatError> {
        if body.len() < ANSWER_HEAD {
            return field("length");
        }
        let mut rest = body;
        let [verdict] = take(&mut rest, "length")?;
        take_zero::<1>(&mut rest)?;
        let count = usize::from(u16::from_le_bytes(take(&mut rest, "length")?));
        take_zero::<4>(&mut rest)?;
        let member = u64::from_le_bytes(take(&mut rest, "length")?);
        let cluster = take(&mut rest, "length")?;
        let verdict = match (verdict, member, cluster) {
            (1, 1.., cluster) => JoinVerdict::Welcome {
                member: MemberId(member),
                cluster,
            },
            (2..=4, 0, cluster) if cluster == [0; 16] => match verdict {
                2 => JoinVerdict::NotLeader,
                3 => JoinVerdict::Later,
                _ => JoinVerdict::Alive,
            },
            _ => return field("verdict"),
        };
        if count > GUIDES_MAX {
            return field("members");
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let name = u16::from_le_bytes(take(&mut rest, "members")?);
            let address = u16::from_le_bytes(take(&mut rest, "members")?);
            let name = name_of(take_text(&mut rest, name.into(), usize::MAX, "name")?)?;
            let address = take_text(&mut rest, address.into(), ADDRESS_BYTES_MAX, "address")?;
            members.push((name, address.into()));
        }
        if !rest.is_empty() {
            return field("length");
        }
        let members = members.into();
        Ok(Self { verdict, members })
    }
}

impl Beat {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.incarnation.to_le_bytes());
        out.extend(self.broker.as_str().as_bytes());
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, FormatError> {
        if body.len() < BEAT_HEAD {
            return field("length");
        }
        let mut rest = body;
        let incarnation = u64::from_le_bytes(take(&mut rest, "length")?);
        let len = rest.len();
        Ok(Self {
            broker: name_of(take_text(&mut rest, len, usize::MAX, "name")?)?,
            incarnation,
        })
    }
}
