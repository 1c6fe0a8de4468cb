//! Another core of the node that is gone: a panic ended it, and it answers nothing any more.
//!
//! Whoever waits for its answer hears at once that nobody knows what became of the request,
//! rather than after the client's own patience; what is asked of it from then on was not
//! done, and says so. Its partitions serve again when the node is started anew.

use pinion_types::{CoreId, ErrorCode, FactId, FixedMap, Offset, Outcome, Refusal, SessionId};
use pinion_wire::message::Reply;

use crate::core::{Core, answer};
use crate::mail::{Origin, Subscriber};

/// When a client that met a core which is gone may come back: a node that has lost one is
/// watched, and is started anew sooner or later. Shorter asks more often in vain.
const LOST_RETRY_MS: u32 = 1_000;

/// Requests of a connection that wait for another core, by correlation id. Each of them is in
/// the session's table of what is in flight, whose bound is theirs.
#[derive(Debug, Default)]
pub(crate) struct Forwarded {
    waiting: FixedMap<u32, (CoreId, u64)>,
}

impl Forwarded {
    /// A request that came on `stream` waits for the answer of `owner`.
    pub(crate) fn sent(&mut self, correlation: u32, owner: CoreId, stream: u64) {
        self.waiting.insert(correlation, (owner, stream));
    }

    /// It is answered, if it was one of these.
    pub(crate) fn answered(&mut self, correlation: u32) {
        // Answers that only waited for the disk come by here, too.
        if !self.waiting.is_empty() {
            self.waiting.remove(&correlation);
        }
    }

    fn of(&self, core: CoreId, session: SessionId) -> Vec<Origin> {
        let of_it = self.waiting.iter().filter(|(_, (owner, _))| *owner == core);
        let origin = |(correlation, (_, stream)): (&u32, &(CoreId, u64))| Origin {
            session,
            stream: *stream,
            correlation: *correlation,
        };
        of_it.map(origin).collect()
    }
}

impl Core {
    /// Another core of the node has ended and is not back in this life; everything that it
    /// sent was handed over before. Requests that wait for it are answered with
    /// [`ErrorCode::CoreLost`], its subscriptions end with it, and what its own clients had
    /// here is given up. The same core again is nothing.
    ///
    /// # Panics
    /// When it is this core, or none of the node.
    pub fn handle_core_lost(&mut self, core: CoreId) {
        assert!(
            core != self.config.core && core.0 < self.config.data_cores,
            "{core:?} of {} is not another core than {:?}",
            self.config.data_cores,
            self.config.core
        );
        if self.is_lost(core) {
            return;
        }
        self.lost.push(core);
        // Nobody takes it, and a core with mail to send never rests.
        self.mails.drop_lane(core);
        if !self.is_draining() {
            // It will never say so itself, and a drain waits for it.
            self.lifecycle.peers_quiet += 1;
        }
        let sessions: Vec<SessionId> = self.connections.iter().flatten().map(|c| c.id).collect();
        for session in sessions {
            self.answer_lost(session, core);
            self.end_lost(session, core);
        }
        self.shard.end_sessions_of(self.now, self.wall, core);
    }

    /// Whether a core is gone.
    pub(crate) fn is_lost(&self, core: CoreId) -> bool {
        self.lost.contains(&core)
    }

    /// What is asked of a core that is gone: nothing happened.
    pub(crate) fn refuse_lost(core: CoreId) -> Refusal {
        let refusal = Refusal::new(ErrorCode::CoreLost).after_ms(LOST_RETRY_MS);
        let mut refusal = refusal.with(FactId::Core, u64::from(core.0));
        refusal.outcome = Outcome::NotAdmitted;
        refusal
    }

    fn answer_lost(&mut self, session: SessionId, core: CoreId) {
        let Some(connection) = self.connection(session.token) else {
            return;
        };
        let refusal = Refusal::new(ErrorCode::CoreLost).with(FactId::Core, u64::from(core.0));
        for origin in connection.forwarded.of(core, session) {
            let mut frame = Vec::new();
            answer(&mut frame, origin.correlation, &Reply::Error(refusal));
            self.handle_late_reply(origin, &frame, true);
        }
    }

    /// Those that the core had not granted yet ended with their requests.
    fn end_lost(&mut self, session: SessionId, core: CoreId) {
        let Some(connection) = self.connection(session.token) else {
            return;
        };
        let of_it = connection.subscriptions.iter();
        let of_it = of_it.filter(|(_, subscription)| subscription.core == core);
        let lost: Vec<Subscriber> = of_it
            .map(|(id, subscription)| Subscriber {
                session,
                subscription: *id,
                number: subscription.number,
            })
            .collect();
        for to in lost {
            // Where it goes on only the core knew; the client knows what it has.
            self.send_end(to, Some(ErrorCode::CoreLost), Offset(0));
        }
    }
}
