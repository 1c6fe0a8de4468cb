//! Connections that are being opened, many at once.

use pinion_cli::bench::measure::BenchError;
use pinion_client::native::{LinkId, LinkState, NativeClient, NativeError};

/// How some connections of one client are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// The node has greeted them.
    pub(crate) ready: usize,
    /// They are under way.
    pub(crate) pending: usize,
    /// They came to nothing, or have ended.
    pub(crate) gone: usize,
}

/// Counts `links` and forgets those that are gone.
///
/// # Errors
/// The node refused one: the next try would be refused as well.
pub(crate) fn census(client: &NativeClient, links: &mut Vec<LinkId>) -> Result<Census, BenchError> {
    let mut census = Census::default();
    let mut refused = None;
    links.retain(|&link| match client.state(link) {
        Some(LinkState::Ready(_)) => {
            census.ready += 1;
            true
        }
        Some(LinkState::Connecting | LinkState::Greeting) => {
            census.pending += 1;
            true
        }
        Some(LinkState::Refused(refusal)) => {
            refused = Some(*refusal);
            false
        }
        Some(LinkState::Closed(_)) | None => {
            census.gone += 1;
            false
        }
    });
    match refused {
        Some(refusal) => Err(NativeError::Refused(refusal).into()),
        None => Ok(census),
    }
}
