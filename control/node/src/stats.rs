//! What a core counts. Plain integers owned by the core; copied out on request.

/// Counters of one core since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreStats {
    /// Connections that said HELLO with a good token.
    pub sessions: u64,
    /// Connections refused for their token.
    pub unauthenticated: u64,
    /// Requests looked at.
    pub requests: u64,
    /// Requests answered with an error.
    pub refused: u64,
    /// Requests that had to go to another core: the client aimed wrong.
    pub wrong_shard: u64,
    /// Records taken by the stream partitions of this core; repeats are not counted.
    pub published: u64,
    /// Messages taken by the queue partitions of this core; repeats are not counted.
    pub enqueued: u64,
    /// Messages handed to consumers, redeliveries included.
    pub taken: u64,
    /// Bytes handed to the transport for subscriptions.
    pub delivered_bytes: u64,
    /// Connections closed for breaking the protocol.
    pub protocol_errors: u64,
    /// Mails that had to wait because another core's box was full.
    pub mail_waits: u64,
    /// Logs that take nothing more because a write failed.
    pub logs_failed: u64,
    /// Partitions' data found damaged while it was read.
    pub damage_found: u64,
}

impl CoreStats {
    /// Adds another core's counts.
    pub fn add(&mut self, other: &Self) {
        // Taken apart so that a new counter cannot be forgotten here.
        let Self {
            sessions,
            unauthenticated,
            requests,
            refused,
            wrong_shard,
            published,
            enqueued,
            taken,
            delivered_bytes,
            protocol_errors,
            mail_waits,
            logs_failed,
            damage_found,
        } = other;
        self.sessions += sessions;
        self.unauthenticated += unauthenticated;
        self.requests += requests;
        self.refused += refused;
        self.wrong_shard += wrong_shard;
        self.published += published;
        self.enqueued += enqueued;
        self.taken += taken;
        self.delivered_bytes += delivered_bytes;
        self.protocol_errors += protocol_errors;
        self.mail_waits += mail_waits;
        self.logs_failed += logs_failed;
        self.damage_found += damage_found;
    }
}
