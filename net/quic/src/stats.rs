//! What one endpoint counted.

/// Counters since the endpoint was made, and gauges (marked). Plain numbers of one
/// core; whoever shows them adds cores up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Gauge: connections in any state, closing ones included.
    pub connections: usize,
    /// Gauge: of those, handshakes under way.
    pub handshakes: usize,
    /// Connection attempts accepted.
    pub accepted: u64,
    /// Retry packets sent to unproven addresses.
    pub retries_sent: u64,
    /// Attempts refused because the endpoint drains.
    pub refused_draining: u64,
    /// Attempts refused at `connections_max`.
    pub refused_full: u64,
    /// Proven attempts refused because their prefix used up its allowance.
    pub refused_prefix: u64,
    /// Attempts left unanswered at `handshakes_max`.
    pub ignored_handshakes: u64,
    /// Handshakes that failed: bad packets, TLS errors, idle peers.
    pub handshakes_failed: u64,
    /// Handshakes given up at `handshake_timeout`.
    pub handshakes_timed_out: u64,
    /// Version negotiations, stateless resets and early refusals answered.
    pub stateless_responses: u64,
    /// Answers dropped because too many waited, see [`RESPONSES_MAX`](crate::RESPONSES_MAX).
    pub responses_dropped: u64,
    /// Times a connection waited because its unproven address had no budget left.
    pub amplification_holds: u64,
    /// Streams opened by early data.
    pub streams_early: u64,
    /// Datagrams handed in.
    pub datagrams_received: u64,
    /// Of those, nobody's: malformed, unknown or too late.
    pub datagrams_dropped: u64,
    /// Of those, with a connection id of another core: steering failed or a peer
    /// moved. Forward such datagrams to their [`owner`](crate::Endpoint::owner) instead.
    pub strays: u64,
}
