//! What a core wants done to the world.

use bytes::Bytes;
use pinion_commitlog::DiskRequest;
use pinion_session::{CloseCode, DeliveryState, Phase};
use pinion_types::{CoreId, ErrorCode, Refusal, SubscriptionId};
use pinion_wire::message::Reply;

use crate::core::{Core, answer};
use crate::mail::{ControlMail, CoreMail};

/// One thing to do. After a write, tell the core what was taken with
/// [`Core::handle_written`] before polling again.
#[derive(Debug)]
pub enum Output<'a> {
    /// Send reply bytes on a request stream.
    Write {
        /// The connection.
        conn: u64,
        /// The stream.
        stream: u64,
        /// As many of these as the transport takes.
        bytes: &'a [u8],
    },
    /// Send shared chunks on a subscription's stream.
    WriteChunks {
        /// The connection.
        conn: u64,
        /// The stream.
        stream: u64,
        /// As many of these as the transport takes; it empties what it took.
        chunks: &'a mut [Bytes],
    },
    /// Open a unidirectional stream and answer with [`Core::handle_opened`].
    OpenUni {
        /// The connection.
        conn: u64,
        /// For this subscription.
        subscription: SubscriptionId,
    },
    /// Nothing follows on this stream.
    Finish {
        /// The connection.
        conn: u64,
        /// The stream.
        stream: u64,
    },
    /// Read on: the stream was [`Feed::Paused`](crate::Feed::Paused).
    Resume {
        /// The connection.
        conn: u64,
        /// The stream.
        stream: u64,
    },
    /// Close the connection. The core has forgotten it already.
    Close {
        /// The connection.
        conn: u64,
        /// Why.
        code: CloseCode,
    },
    /// Post to another core; give it back with [`Core::mail_refused`] when its box is full.
    Mail {
        /// The core.
        to: CoreId,
        /// The mail.
        mail: CoreMail,
    },
    /// Post to the control thread.
    Control(ControlMail),
    /// Do this on the disk and tell [`Core::handle_disk_done`] when it is over.
    Disk(DiskRequest),
}

/// What a write was for.
enum Pick {
    Stream { index: usize },
    Subscription { id: SubscriptionId, stream: u64 },
}

impl Core {
    /// The next thing to do, or `None` when all is done for now.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        // The disk is slowest: it starts first.
        if let Some(request) = self.shard.poll_disk() {
            return Some(Output::Disk(request));
        }
        if let Some((to, mail)) = self.mails.pop() {
            return Some(Output::Mail { to, mail });
        }
        if !self.control_full
            && let Some(mail) = self.control.pop_front()
        {
            return Some(Output::Control(mail));
        }
        if let Some((conn, code)) = self.closes.pop_front() {
            return Some(Output::Close { conn, code });
        }
        while let Some(&conn) = self.dirty.front() {
            let Some(pick) = self.pick(conn) else {
                self.dirty.pop_front();
                if let Some(connection) = self.connection(conn) {
                    connection.queued = false;
                }
                if let Some((conn, code)) = self.closes.pop_front() {
                    return Some(Output::Close { conn, code });
                }
                continue;
            };
            return Some(match pick {
                Picked::Write(Pick::Stream { index }) => {
                    let connection = self.connection(conn).expect("picked just now");
                    let (stream, state) = connection
                        .session
                        .stream_at(index)
                        .expect("picked just now");
                    Output::Write {
                        conn,
                        stream,
                        bytes: state.replies.pending(),
                    }
                }
                Picked::Write(Pick::Subscription { id, stream }) => {
                    let connection = self.connection(conn).expect("picked just now");
                    let queue = connection.session.deliveries(id).expect("picked just now");
                    Output::WriteChunks {
                        conn,
                        stream,
                        chunks: queue.chunks(),
                    }
                }
                Picked::Open(subscription) => Output::OpenUni { conn, subscription },
                Picked::Finish(stream) => Output::Finish { conn, stream },
                Picked::Resume(stream) => Output::Resume { conn, stream },
            });
        }
        None
    }

    /// The transport took `taken` bytes of the last write to `stream`;
    /// `blocked` when it takes no more until it says so.
    pub fn handle_written(&mut self, conn: u64, stream: u64, taken: usize, blocked: bool) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if let Some(&id) = connection.delivery_streams.get(&stream) {
            let Some(queue) = connection.session.deliveries(id) else {
                return;
            };
            let freed = queue.consume(taken);
            let subscription = connection
                .subscriptions
                .get_mut(&id)
                .expect("its deliveries are known");
            subscription.blocked = blocked;
            let owner = subscription.core;
            if !blocked {
                connection.mark_ready(id);
            }
            let session = connection.id;
            self.stats.delivered_bytes += taken as u64;
            self.give_window(session, id, owner, freed);
        } else if let Some(state) = connection.session.stream(stream) {
            state.replies.consume(taken);
            state.blocked = blocked;
        }
    }

    /// The transport opened a stream for a subscription, or cannot yet: then
    /// it says so with [`Core::handle_streams_available`].
    pub fn handle_opened(&mut self, conn: u64, subscription: SubscriptionId, stream: Option<u64>) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        match stream {
            Some(stream) => {
                if let Some(queue) = connection.session.deliveries(subscription) {
                    queue.opened(stream);
                    connection.delivery_streams.insert(stream, subscription);
                    connection.mark_ready(subscription);
                }
            }
            None => {
                if let Some(waiting) = connection.subscriptions.get_mut(&subscription) {
                    // Until then more deliveries do not ask again.
                    waiting.blocked = true;
                    connection.unopened.push(subscription);
                }
            }
        }
    }

    /// The client allows more streams.
    pub fn handle_streams_available(&mut self, conn: u64) {
        if let Some(connection) = self.connection(conn) {
            for id in core::mem::take(&mut connection.unopened) {
                if let Some(subscription) = connection.subscriptions.get_mut(&id) {
                    subscription.blocked = false;
                }
                connection.mark_ready(id);
            }
            self.touch(conn);
        }
    }

    /// A stream that was blocked takes bytes again.
    pub fn handle_writable(&mut self, conn: u64, stream: u64) {
        let Some(connection) = self.connection(conn) else {
            return;
        };
        if let Some(&id) = connection.delivery_streams.get(&stream) {
            if let Some(subscription) = connection.subscriptions.get_mut(&id) {
                subscription.blocked = false;
            }
            connection.mark_ready(id);
        } else if let Some(state) = connection.session.stream(stream) {
            state.blocked = false;
        }
        self.touch(conn);
    }

    /// The client has everything that was sent on a finished stream.
    pub fn handle_stream_acknowledged(&mut self, conn: u64) {
        if let Some(connection) = self.connection(conn) {
            connection.unacknowledged = connection.unacknowledged.saturating_sub(1);
            if connection.leaving.is_some() {
                self.touch(conn);
            }
        }
    }

    /// The first thing `conn` can do now. `None` when it can do nothing.
    fn pick(&mut self, conn: u64) -> Option<Picked> {
        let connection = self.connection(conn)?;
        let draining = connection.leaving.is_some();
        let hello_waits = connection.hello_waits;
        let closing = matches!(connection.session.phase, Phase::Closing(_));
        for index in 0..connection.session.streams() {
            let (stream, state) = connection.session.stream_at(index).expect("in range");
            if !state.replies.is_empty() {
                if !state.blocked {
                    return Some(Picked::Write(Pick::Stream { index }));
                }
            } else if closing {
                // The close says the rest.
            } else if state.paused && !draining && !hello_waits {
                state.paused = false;
                return Some(Picked::Resume(stream));
            } else if state.finished && !draining && state.reader.partial_len() > 0 {
                // The rest of the frame will never come.
                let refusal = Refusal::new(ErrorCode::Malformed);
                answer(state.replies.tail(), 0, &Reply::Error(refusal));
                self.count_refused(ErrorCode::Malformed);
                self.break_off(conn);
                return self.pick(conn);
            } else if (state.finished || draining) && state.owed == 0 {
                let held = state.reader.held_len();
                connection.session.close_stream(stream);
                connection.unacknowledged += 1;
                self.held_bytes -= held;
                return Some(Picked::Finish(stream));
            }
        }
        if let Phase::Closing(code) = connection.session.phase {
            // The close may overtake the last reply; its code says the same.
            self.forget(conn);
            self.closes.push_back((conn, code));
            return None;
        }
        let connection = self.connection(conn)?;
        while let Some(id) = connection.ready.pop() {
            let Some(subscription) = connection.subscriptions.get_mut(&id) else {
                continue;
            };
            subscription.queued = false;
            let Some(queue) = connection.session.deliveries(id) else {
                continue;
            };
            match queue.state() {
                DeliveryState::Opening if queue.is_finished() => {
                    connection.session.drop_subscription(id);
                    connection.subscriptions.remove(&id);
                }
                DeliveryState::Opening => return Some(Picked::Open(id)),
                DeliveryState::Open { stream } if queue.is_finished() => {
                    connection.session.drop_subscription(id);
                    connection.subscriptions.remove(&id);
                    connection.delivery_streams.remove(&stream);
                    connection.unacknowledged += 1;
                    return Some(Picked::Finish(stream));
                }
                DeliveryState::Open { stream } if queue.pending() > 0 => {
                    return Some(Picked::Write(Pick::Subscription { id, stream }));
                }
                DeliveryState::Open { .. } => {}
            }
        }
        if let Some(code) = connection.drained() {
            self.forget(conn);
            self.closes.push_back((conn, code));
        }
        None
    }
}

enum Picked {
    Write(Pick),
    Open(SubscriptionId),
    Finish(u64),
    Resume(u64),
}
