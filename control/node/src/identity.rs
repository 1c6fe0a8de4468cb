//! Who a connection is: what it shows at HELLO, and how long that counts.
//!
//! After HELLO a request costs nothing for this: what the connection may do with
//! a resource lies in its handle. A credential is asked of the table again when a
//! new table comes, see `judging`, and when its time is over.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pinion_auth::compile::Credentials;
use pinion_auth::token::Shown;
use pinion_session::{CloseCode, Phase};
use pinion_types::{CoreId, ErrorCode, Monotonic, Refusal, SubscriptionId};

use crate::core::{Core, left_for};
use crate::mail::CoreMail;

/// Signatures of tokens a core checks in one turn; further HELLOs wait for the
/// next. Each takes the core away from everybody else for as long as it lasts:
/// higher lets in a crowd sooner, lower keeps turns short while it comes.
pub const SIGNATURES_PER_TURN_MAX: u32 = 8;

/// Longest time until a credential that ends by the wall clock is looked at again.
/// Somebody may set that clock: longer notices it later, shorter wakes idle cores.
pub const EXPIRY_LOOK_MAX: Duration = Duration::from_secs(60);

/// How long a connection whose credential is over has to read how its
/// subscriptions ended before it is closed. It may ask for nothing meanwhile.
pub const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// What a core remembers for this.
#[derive(Debug)]
pub(crate) struct Identities {
    /// When which connection is looked at again; each connection at most once.
    due: BTreeSet<(Monotonic, u64)>,
    /// Signatures that may still be checked in this turn.
    signatures_left: u32,
    /// Connections whose HELLO came when there were none left; each once.
    hellos: VecDeque<u64>,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            due: BTreeSet::new(),
            signatures_left: SIGNATURES_PER_TURN_MAX,
            hellos: VecDeque::new(),
        }
    }
}

impl Identities {
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.due.first().map(|(due, _)| *due)
    }
}

impl Core {
    /// Takes what a HELLO shows. The connection is ready when it is good.
    pub(crate) fn authenticate(&mut self, conn: u64, bearer: &[u8]) -> Result<(), Refusal> {
        if Shown::recognise(bearer) {
            let left = &mut self.identities.signatures_left;
            *left = left.saturating_sub(1);
            self.stats.signatures += 1;
        }
        let (table, wall) = (Arc::clone(&self.access), self.wall);
        let connection = self.connection(conn).expect("the caller found it");
        let shown = Credentials {
            bearer,
            workload: connection.workload.as_deref(),
        };
        // Why it is not taken is for those who look after the node: to a guesser
        // every answer is the same.
        let caller = table
            .admit(wall, shown)
            .map_err(|_| ErrorCode::Unauthenticated)?;
        let (now, core, tenant) = (self.now, self.config.core, caller.tenant());
        self.quotas.connect(now, core, tenant)?;
        let connection = self.connection(conn).expect("the caller found it");
        connection.caller = Some(caller);
        connection.session.phase = Phase::Ready;
        self.join_part(conn);
        self.look_when_over(conn);
        Ok(())
    }

    /// Whether the stream's next frame has to wait for the next turn: it would be
    /// a HELLO, and as many signatures were checked as may.
    pub(crate) fn hello_must_wait(&mut self, conn: u64, stream: u64) -> bool {
        if self.identities.signatures_left > 0 {
            return false;
        }
        let Some(connection) = self.connection(conn) else {
            return false;
        };
        if connection.session.phase != Phase::AwaitingHello {
            return false;
        }
        let Some(state) = connection.session.stream(stream) else {
            return false;
        };
        state.paused = true;
        if !core::mem::replace(&mut connection.hello_waits, true) {
            self.identities.hellos.push_back(conn);
        }
        true
    }

    /// A turn begins: HELLOs that wait are looked at when their streams go on.
    pub(crate) fn start_hellos(&mut self) {
        self.identities.signatures_left = SIGNATURES_PER_TURN_MAX;
        for _ in 0..SIGNATURES_PER_TURN_MAX {
            let Some(conn) = self.identities.hellos.pop_front() else {
                return;
            };
            if let Some(connection) = self.connection(conn) {
                connection.hello_waits = false;
                self.touch(conn);
            }
        }
    }

    /// Whether a HELLO waits for another turn.
    pub(crate) fn hellos_wait(&self) -> bool {
        !self.identities.hellos.is_empty()
    }

    /// Looks at connections whose time has come.
    pub(crate) fn judge_due(&mut self) {
        while let Some(&(due, conn)) = self.identities.due.first() {
            if due > self.now {
                break;
            }
            self.identities.due.pop_first();
            let (table, wall) = (Arc::clone(&self.access), self.wall);
            let Some(connection) = self.connection(conn) else {
                continue;
            };
            connection.look = None;
            if let Some(code) = connection.leaving {
                // It had its time to read the rest.
                self.close(conn, code);
                continue;
            }
            let Some(caller) = &mut connection.caller else {
                continue;
            };
            match table.still_valid(wall, caller) {
                Ok(()) => self.look_when_over(conn),
                Err(_) => self.leave(conn, CloseCode::Unauthenticated),
            }
        }
    }

    /// The connection is looked at again when its credential is over.
    pub(crate) fn look_when_over(&mut self, conn: u64) {
        let (now, wall) = (self.now, self.wall);
        let access = Arc::clone(&self.access);
        let Some(connection) = self.connection(conn) else {
            return;
        };
        let over = connection.caller.as_ref().and_then(|c| access.over_at(c));
        let due = over.map(|over| {
            let left = Duration::from_millis(over.0.saturating_sub(wall.0));
            now + left.min(EXPIRY_LOOK_MAX)
        });
        self.look_at(conn, due);
    }

    /// The one time at which the connection is looked at again.
    fn look_at(&mut self, conn: u64, due: Option<Monotonic>) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        let before = core::mem::replace(&mut connection.look, due);
        if let Some(before) = before {
            self.identities.due.remove(&(before, conn));
        }
        if let Some(due) = due {
            self.identities.due.insert((due, conn));
        }
    }

    /// The connection is gone, and with it the look at it.
    pub(crate) fn forget_look(&mut self, conn: u64, look: Option<Monotonic>) {
        if let Some(due) = look {
            self.identities.due.remove(&(due, conn));
        }
    }

    /// The connection is to end, because its credential is over or an administrator
    /// wants it. It may ask for nothing more, what it waits for ends here and elsewhere,
    /// its subscriptions say END; then it is closed with `code`.
    pub(crate) fn leave(&mut self, conn: u64, code: CloseCode) {
        let (now, wall) = (self.now, self.wall);
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if connection.session.phase != Phase::Ready {
            return;
        }
        connection.leaving = Some(code);
        let session = connection.id;
        let elsewhere = connection.went_elsewhere;
        let ids: Vec<SubscriptionId> = connection.subscriptions.keys().copied().collect();
        for id in ids {
            match code {
                CloseCode::Unauthenticated => self.revoke_subscription(conn, id, left_for(code)),
                _ => self.withdraw_subscription(conn, id, left_for(code)),
            }
        }
        // A take that waits must not get messages now; an append session has
        // nobody who may commit it.
        self.shard.end_session(now, wall, session);
        if elsewhere && !self.is_draining() {
            for core in 0..self.config.data_cores {
                if core != self.config.core.0 {
                    self.post(CoreId(core), CoreMail::SessionGone { session });
                }
            }
        }
        self.look_at(conn, Some(now + LEAVE_WAIT));
        self.touch(conn);
    }
}
