//! The Raft group that decides what the cluster knows: raft-rs behind inputs
//! and outputs, on a commit log.
//!
//! [`Group`] is one member of it. Commands are bytes to it: it puts them in an
//! order, makes them durable, and gives them back one by one to whoever holds the
//! machine. It never touches a file, a clock, a socket or a thread, and draws no
//! randomness: time and completions of the disk come in by `handle_*`, what is to
//! be done comes out by `poll_*`.
//!
//! Start reading at [`Group`], then [`Output`]. What is on the disk is in
//! [`mod@format`] and in `docs/raft-format.md`; what members say to each other is in
//! [`PeerMessage`] and in `docs/peer-protocol.md`.

#![forbid(unsafe_code)]

mod config;
mod error;
pub mod format;
mod group;
mod health;
pub mod limits;
mod member;
mod open;
mod output;
mod peer;
mod reads;
mod recent;
mod storage;
mod transfer;
mod wal;

pub use config::{GroupConfig, RAFT_LOG};
pub use error::{ChangeError, OpenError, ProposeError, ReadError, TransferError};
pub use format::{MemberChange, MemberId, ProposalId};
pub use group::Group;
pub use open::{Found, Opened};
pub use output::{Notice, Output, PeerStatus, Role, Status};
pub use peer::{
    Chunk, ChunkAck, ChunkVerdict, Claim, FRAME_HEAD, Offer, PeerError, PeerMessage, RaftMessage,
};
pub use reads::ReadId;
pub use recent::Recent;
