//! Beginnings and ends: the wait for HELLO, the drain, and what becomes of a
//! connection's belongings.

use std::collections::VecDeque;
use std::time::Duration;

use pinion_session::{CloseCode, Phase};
use pinion_types::{CoreId, Monotonic};

use crate::core::{Core, slot_of};
use crate::mail::CoreMail;

/// How long a connection may take to say HELLO. Longer lets somebody without a
/// token hold a connection for longer; shorter cuts off clients behind bad links.
pub const HELLO_WAIT: Duration = Duration::from_secs(10);

/// What a core remembers for this.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    /// Connections by the time their HELLO is due; in order, because all have
    /// the same time. Those that said it leave when theirs comes up.
    silent: VecDeque<(Monotonic, u64)>,
    draining: bool,
    /// The time for draining is over.
    overdue: bool,
    /// Other cores that have sent their last request.
    pub(crate) peers_quiet: u16,
}

impl Lifecycle {
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.silent.front().map(|(due, _)| *due)
    }
}

impl Core {
    /// Takes no more requests, tells every subscription where it stands, and
    /// closes each connection once the client has what was sent.
    pub(crate) fn drain(&mut self) {
        if self.lifecycle.draining {
            return;
        }
        self.lifecycle.draining = true;
        self.shard.drain();
        for core in 0..self.config.data_cores {
            if core != self.config.core.0 {
                self.post(CoreId(core), CoreMail::NoMoreRequests);
            }
        }
        let conns: Vec<u64> = self
            .connections
            .iter()
            .flatten()
            .map(|connection| connection.id.token)
            .collect();
        for conn in conns {
            let connection = self.connection(conn).expect("listed just now");
            if connection.session.phase == Phase::Ready {
                connection.leaving.get_or_insert(CloseCode::Draining);
                self.touch(conn);
            } else {
                self.close(conn, CloseCode::Draining);
            }
        }
    }

    /// The time for draining is over: what is left is closed as it is.
    pub fn drain_overdue(&mut self) {
        self.lifecycle.overdue = true;
        let conns: Vec<u64> = self
            .connections
            .iter()
            .flatten()
            .map(|connection| connection.id.token)
            .collect();
        for conn in conns {
            self.close(conn, CloseCode::Draining);
        }
    }

    /// Whether the core may leave: a drain has begun, no connection is left, and
    /// no other core is owed an answer or will ask for one. Mails still to be
    /// posted are answers to others; after [`Core::drain_overdue`] nobody waits
    /// for them.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let sealed = self.shard.logs_sealed() && self.may_seal();
        self.lifecycle.draining && self.open == 0 && (sealed || self.lifecycle.overdue)
    }

    /// Nobody will ask for anything any more: what the logs hold is all they
    /// will hold in this life.
    pub(crate) fn may_seal(&self) -> bool {
        self.lifecycle.draining
            && self.open == 0
            && self.mails.is_empty()
            && self.lifecycle.peers_quiet >= self.config.data_cores - 1
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.lifecycle.draining
    }

    /// A connection has so long to say HELLO.
    pub(crate) fn expect_hello(&mut self, conn: u64) {
        let due = self.now + HELLO_WAIT;
        self.lifecycle.silent.push_back((due, conn));
    }

    /// Closes connections that took too long to say HELLO.
    pub(crate) fn close_silent(&mut self) {
        while let Some(&(due, conn)) = self.lifecycle.silent.front() {
            if due > self.now {
                break;
            }
            self.lifecycle.silent.pop_front();
            if let Some(connection) = self.connection(conn)
                && connection.session.phase == Phase::AwaitingHello
            {
                self.stats.unauthenticated += 1;
                self.close(conn, CloseCode::Unauthenticated);
            }
        }
    }

    /// Drops everything that lived by the connection (domains.md §0): its
    /// subscriptions, append sessions and waiting requests, here and elsewhere.
    pub(crate) fn forget(&mut self, conn: u64) {
        if self.connection(conn).is_none() {
            return;
        }
        let connection = self.connections[slot_of(conn)]
            .take()
            .expect("found just now");
        self.open -= 1;
        self.held_bytes -= connection.session.held_len();
        self.forget_look(conn, connection.look);
        if let Some(caller) = &connection.caller {
            self.judging.leave(caller.part(), conn);
            self.quotas.disconnect(self.now, caller.tenant());
        }
        let session = connection.id;
        self.shard.end_session(self.now, self.wall, session);
        // A core that drains ends everything by itself.
        if connection.went_elsewhere && !self.is_draining() {
            for core in 0..self.config.data_cores {
                if core != self.config.core.0 {
                    self.post(CoreId(core), CoreMail::SessionGone { session });
                }
            }
        }
    }
}
