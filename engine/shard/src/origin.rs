//! Whom to answer.

use pinion_types::SessionId;

/// Where a reply must go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The connection.
    pub session: SessionId,
    /// The request stream on it.
    pub stream: u64,
    /// The request on that.
    pub correlation: u32,
}
