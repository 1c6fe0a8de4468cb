//! Counters of one client.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a client has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Connections that stand now.
    pub connections: u64,
    /// Connections made in all.
    pub connects: u64,
    /// Connections made again after one was lost.
    pub reconnects: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Connections that landed on another core than aimed for. They work, at
    /// the price of a hop inside the node.
    pub wrong_shard: u64,
    /// Requests started, batches of records included.
    pub requests: u64,
    /// Attempts beyond the first of each request.
    pub retries: u64,
    /// Retries not made because the budget was spent.
    pub retries_denied: u64,
    /// Requests that ended without a reply in time.
    pub timeouts: u64,
    /// Frames sent.
    pub frames_sent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Records the node acknowledged.
    pub records_acked: u64,
    /// Records received by subscriptions.
    pub records_received: u64,
    /// Lag notices received.
    pub lags: u64,
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// The live counters behind [`ClientStats`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> ClientStats {
                ClientStats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters!(
    connections,
    connects,
    reconnects,
    connect_failures,
    wrong_shard,
    requests,
    retries,
    retries_denied,
    timeouts,
    frames_sent,
    frames_received,
    records_acked,
    records_received,
    lags,
);

/// Adds to one counter. Counters guard nothing, so no ordering is asked for.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
