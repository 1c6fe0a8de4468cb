//! Mail of a core: what others say to it, and what it says to them.

use pinion_types::{CoreId, ErrorCode, FactId, Refusal, SessionId, SubscriptionId};
use pinion_wire::message::Reply;
use pinion_wire::opcode;

use crate::core::{Core, REPLY_BYTES_LATE_MAX, answer};
use crate::mail::{ControlMail, CoreMail, Origin};
use crate::samples::Mark;
use crate::views::{NODE, View};

impl Core {
    /// Something from another core or the control thread.
    pub fn handle_mail(&mut self, mail: CoreMail) {
        match mail {
            CoreMail::Request {
                origin,
                resource,
                partition,
                number,
                opcode,
                body,
            } => self.execute_for_other(origin, &resource, partition, number, opcode, &body),
            CoreMail::Reply {
                origin,
                frame,
                awaited,
            } => self.handle_late_reply(origin, &frame, awaited),
            CoreMail::Deliver {
                to,
                piece,
                chunk,
                charge,
            } => self.deliver(to, piece, chunk, charge),
            CoreMail::Credit {
                session,
                subscription,
                records,
                bytes,
            } => self.shard.credit(session, subscription, records, bytes),
            CoreMail::Window {
                session,
                subscription,
                bytes,
            } => self.shard.window(session, subscription, bytes),
            CoreMail::Unsubscribe {
                session,
                subscription,
                code,
            } => {
                let ended = self.shard.unsubscribe(session, subscription);
                if let (Some((to, next)), Some(_)) = (ended, code) {
                    self.send_end(to, code, next);
                }
            }
            CoreMail::SessionGone { session } => {
                self.shard.end_session(self.now, self.wall, session);
            }
            CoreMail::Declared { epoch, resource } => {
                self.note_barred(&resource);
                self.map.insert(epoch, resource);
            }
            CoreMail::Changed { epoch, resource } => self.handle_changed(epoch, &resource),
            CoreMail::Closed { epoch, resource } => self.handle_deleted(epoch, resource),
            CoreMail::Reopened { epoch, resource } => self.handle_undeleted(epoch, resource),
            CoreMail::Purge { epoch, resource } => self.handle_purge(epoch, resource),
            CoreMail::DeclareDone { origin, result } => self.handle_declared(origin, result),
            CoreMail::Access(table) => self.handle_access(table),
            CoreMail::Quotas(table) => self.handle_quotas(table),
            CoreMail::Pin(order) => self.pin(order),
            CoreMail::Unpin { backup } => self.unpin(backup),
            CoreMail::Drain => self.drain(),
            CoreMail::NoMoreRequests => self.lifecycle.peers_quiet += 1,
            CoreMail::Question { id, question } => self.handle_question(id, question),
        }
    }

    /// A reply that was not ready when its request ran.
    pub(crate) fn handle_late_reply(&mut self, origin: Origin, frame: &[u8], awaited: bool) {
        let conn = origin.session.token;
        // Else the messages are somebody else's again.
        let is_theirs =
            frame.get(OPCODE_AT) != Some(&opcode::TAKEN) || !self.has_left(origin.session);
        let Some(connection) = self.connection(conn) else {
            return;
        };
        let mut mark = Mark::NONE;
        if awaited {
            let settled = connection.session.in_flight.settle(origin.correlation);
            debug_assert!(settled.is_some(), "answered twice: {origin:?}");
            mark = settled.map_or(Mark::NONE, Mark);
            connection.forwarded.answered(origin.correlation);
        }
        if let Some(state) = connection.session.stream(origin.stream) {
            state.owed -= 1;
            let full = state.replies.pending().len() >= REPLY_BYTES_LATE_MAX;
            let out = state.replies.tail();
            if !is_theirs {
                // What waits is not answered any more.
            } else if full && is_large_read(frame) {
                let refusal =
                    Refusal::new(ErrorCode::Busy).with(FactId::Limit, REPLY_BYTES_LATE_MAX as u64);
                answer(out, origin.correlation, &Reply::Error(refusal));
            } else {
                out.extend_from_slice(frame);
            }
        }
        let refused = refused_with(frame);
        let provisional = match awaited {
            true => connection.provisional.remove(&origin.correlation),
            false => None,
        };
        self.samples.end(mark);
        if let Some(code) = refused {
            self.count_refused_with(code);
        }
        if let Some(provisional) = provisional {
            self.settle(conn, provisional, refused);
        }
        self.touch(conn);
    }

    /// The same for a reply that still has to be encoded.
    pub(crate) fn reply_late(&mut self, origin: Origin, reply: &Reply<'_>) {
        let mut frame = Vec::new();
        answer(&mut frame, origin.correlation, reply);
        if origin.session.core == self.config.core {
            self.handle_late_reply(origin, &frame, true);
        } else {
            self.send_reply(origin, frame, true);
        }
    }

    /// A whole frame for somebody who asked from elsewhere.
    pub(crate) fn send_reply(&mut self, origin: Origin, frame: Vec<u8>, awaited: bool) {
        let to = origin.session.core;
        if to == NODE {
            self.answer_question(origin.session.token, View::Reply(frame));
            return;
        }
        self.post(
            to,
            CoreMail::Reply {
                origin,
                frame,
                awaited,
            },
        );
    }

    /// Puts a mail into the queue to another core.
    pub(crate) fn post(&mut self, to: CoreId, mail: CoreMail) {
        debug_assert_ne!(to, self.config.core, "mail to oneself");
        if !self.is_lost(to) {
            self.mails.push(to, mail);
        }
    }

    /// The box of `to` was full: the mail goes first in the next turn.
    pub fn mail_refused(&mut self, to: CoreId, mail: CoreMail) {
        self.stats.mail_waits += 1;
        if !self.is_lost(to) {
            self.mails.refused(to, mail);
        }
    }

    /// The control thread's box was full: the mail goes first in the next turn.
    pub fn control_refused(&mut self, mail: ControlMail) {
        self.stats.mail_waits += 1;
        self.control.push_front(mail);
        self.control_full = true;
    }

    /// Gives transport window back to the partition that feeds a subscription.
    pub(crate) fn give_window(
        &mut self,
        session: SessionId,
        subscription: SubscriptionId,
        owner: CoreId,
        bytes: u32,
    ) {
        if bytes == 0 {
            return;
        }
        if owner == self.config.core {
            self.shard.window(session, subscription, bytes);
        } else if !self.is_draining() {
            self.post(
                owner,
                CoreMail::Window {
                    session,
                    subscription,
                    bytes,
                },
            );
        }
    }
}

/// Where the opcode stands in a frame.
const OPCODE_AT: usize = 4;

/// Where the code stands in an ERROR.
const ERROR_CODE_AT: usize = 12;

/// The code of the refusal, if the frame is one.
fn refused_with(frame: &[u8]) -> Option<u16> {
    if frame.get(OPCODE_AT) != Some(&opcode::ERROR) {
        return None;
    }
    frame
        .get(ERROR_CODE_AT..)
        .and_then(|body| body.first_chunk())
        .map(|code| u16::from_le_bytes(*code))
}

/// A reply that can be large, to a request that changed nothing.
fn is_large_read(frame: &[u8]) -> bool {
    frame.get(OPCODE_AT).is_some_and(|opcode| {
        matches!(
            *opcode,
            opcode::FETCHED | opcode::CACHE_VALUE | opcode::CACHE_VALUES | opcode::CACHE_PAGE
        )
    })
}
