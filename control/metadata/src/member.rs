//! Members of the group that replicates the metadata.

use crate::broker::check_address;
use crate::error::MetaError;
use crate::ids::BrokerNumber;

/// A member; its number, which is never used again, is in its key. A node that
/// comes back with an empty disk comes back as another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The broker that it is on; a broker has one at a time.
    pub broker: BrokerNumber,
    /// What it is there for.
    pub role: MemberRole,
    /// Where other members reach it: `host:port`.
    pub address: Box<str>,
    /// The data directory that it is in: a node whose directory is another one has lost
    /// what this member knew.
    pub store: [u8; 16],
}

/// What a member is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MemberRole {
    /// It is to vote as soon as it has caught up.
    Joining = 1,
    /// It votes.
    Voter = 2,
    /// It follows and never votes.
    Observer = 3,
}

impl Member {
    pub(crate) fn check(&self) -> Result<(), MetaError> {
        check_address(&self.address)
    }
}
