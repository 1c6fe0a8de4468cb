//! What a core counts. Plain integers owned by the core; copied out on request.

use pinion_types::ErrorCode;
use pinion_wire::opcode::REQUESTS;

/// More than any request's opcode.
pub const OPCODES: usize = 64;

/// More than any code of a refusal.
pub const CODES: usize = 128;

const _: () = {
    let mut at = 0;
    while at < REQUESTS.len() {
        assert!((REQUESTS[at].opcode as usize) < OPCODES);
        at += 1;
    }
    let mut at = 0;
    while at < ErrorCode::ALL.len() {
        assert!((ErrorCode::ALL[at] as usize) < CODES);
        at += 1;
    }
};

/// What connections of one core asked and what they were refused, since it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Requests that could be read, by opcode.
    pub requests: [u64; OPCODES],
    /// Answers with an error, by [`ErrorCode`]; a request that was run on another core is
    /// counted on the core of its connection.
    pub refusals: [u64; CODES],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            requests: [0; OPCODES],
            refusals: [0; CODES],
        }
    }
}

impl Tally {
    /// Requests by the name of their opcode, those that came.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let count = |at: usize| self.requests[at];
        REQUESTS
            .iter()
            .map(move |entry| (entry.name, count(usize::from(entry.opcode))))
            .filter(|(_, count)| *count > 0)
    }

    /// Refusals by code, those that were given.
    pub fn by_code(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        (0_u16..)
            .zip(self.refusals.iter().copied())
            .filter(|(_, count)| *count > 0)
    }

    /// Adds another core's counts.
    pub fn add(&mut self, other: &Self) {
        let Self { requests, refusals } = other;
        for (mine, more) in self.requests.iter_mut().zip(requests) {
            *mine += more;
        }
        for (mine, more) in self.refusals.iter_mut().zip(refusals) {
            *mine += more;
        }
    }
}

/// Counters of one core since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreStats {
    /// Connections that said HELLO with a good token.
    pub sessions: u64,
    /// Connections refused for their token.
    pub unauthenticated: u64,
    /// Tokens whose signature was checked, each in a HELLO.
    pub signatures: u64,
    /// Times that the rights of a connection were found again, because a new access table
    /// has something else of its tenant.
    pub judged: u64,
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
    /// Records of stream partitions of this core handed to subscriptions.
    pub delivered: u64,
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
            signatures,
            judged,
            requests,
            refused,
            wrong_shard,
            published,
            enqueued,
            taken,
            delivered,
            delivered_bytes,
            protocol_errors,
            mail_waits,
            logs_failed,
            damage_found,
        } = other;
        self.sessions += sessions;
        self.unauthenticated += unauthenticated;
        self.signatures += signatures;
        self.judged += judged;
        self.requests += requests;
        self.refused += refused;
        self.wrong_shard += wrong_shard;
        self.published += published;
        self.enqueued += enqueued;
        self.taken += taken;
        self.delivered += delivered;
        self.delivered_bytes += delivered_bytes;
        self.protocol_errors += protocol_errors;
        self.mail_waits += mail_waits;
        self.logs_failed += logs_failed;
        self.damage_found += damage_found;
    }
}
