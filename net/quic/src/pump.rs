//! What a connection has to tell: quinn-proto's events become the endpoint's.

use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::{ConnectionError, ConnectionHandle, Dir, EndpointEvent, StreamEvent};

use crate::endpoint::Endpoint;
use crate::event::{CloseReason, ConnId, Event};

impl Endpoint {
    /// Takes everything a connection has to tell.
    pub(crate) fn pump(&mut self, slot: u32) {
        while let Some(event) = self.slots[slot as usize]
            .conn
            .as_deref_mut()
            .and_then(|conn| conn.inner.poll())
        {
            self.translate(slot, event);
        }
        let mut answered = false;
        while let Some(conn) = self.slots[slot as usize].conn.as_deref_mut() {
            let Some(event) = conn.inner.poll_endpoint_events() else {
                break;
            };
            let drained = event.is_drained();
            if let Some(answer) = self
                .inner
                .handle_event(ConnectionHandle(slot as usize), event)
            {
                conn.inner.handle_event(answer);
                answered = true;
            }
            if drained {
                self.remove(slot);
                return;
            }
        }
        if self.slots[slot as usize]
            .conn
            .as_deref()
            .is_some_and(|conn| conn.peer_closed)
        {
            self.shed(slot);
        } else if answered {
            self.queue_transmit(slot);
        }
    }

    /// Frees the state of a connection that its peer has closed.
    ///
    /// Until three probe timeouts have passed nothing may be sent and what arrives
    /// is dropped (RFC 9000 §10.2.2), for which the connection's ids are enough.
    /// quinn-proto would keep some 20 KiB a connection so long, and answer with a
    /// close of its own, which nobody needs.
    fn shed(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        let Some(mut conn) = place.conn.take() else {
            return;
        };
        // All its timers but this one are stopped.
        place.drained_at = conn.inner.poll_timeout();
        let drained_at = place.drained_at;
        self.timers.set(slot, drained_at);
        if drained_at.is_none() {
            self.forget(slot);
        }
    }

    /// Forgets the ids of a connection whose state is gone.
    pub(crate) fn forget(&mut self, slot: u32) {
        let handle = ConnectionHandle(slot as usize);
        self.inner.handle_event(handle, EndpointEvent::drained());
        self.remove(slot);
    }

    fn translate(&mut self, slot: u32, event: quinn_proto::Event) {
        let id = self.id_of(slot);
        let Some(conn) = self.slots[slot as usize].conn.as_deref_mut() else {
            return;
        };
        match event {
            quinn_proto::Event::Connected => {
                conn.handshake_deadline = None;
                conn.amplification = None;
                if conn.handshaking {
                    conn.handshaking = false;
                    self.stats.handshakes -= 1;
                }
                if conn.announced && conn.is_server() {
                    self.events.push_back(Event::Confirmed { conn: id });
                } else {
                    self.announce(slot, false);
                }
                self.update_timer(slot);
            }
            quinn_proto::Event::ConnectionLost { reason } => {
                if conn.handshaking && conn.is_server() {
                    self.stats.handshakes_failed += 1;
                }
                conn.peer_closed = matches!(
                    reason,
                    ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_)
                );
                self.end(slot, reason.into());
            }
            quinn_proto::Event::Stream(event) if !conn.ended => {
                self.translate_stream(slot, id, &event);
            }
            // Datagrams are off, and the handshake's data is read when it is complete.
            _ => {}
        }
    }

    fn translate_stream(&mut self, slot: u32, id: ConnId, event: &StreamEvent) {
        match *event {
            StreamEvent::Opened { dir } => {
                while let Some(conn) = self.slots[slot as usize].conn.as_deref_mut() {
                    let early = conn.is_server() && conn.inner.is_handshaking();
                    let Some(stream) = conn.inner.streams().accept(dir) else {
                        break;
                    };
                    if !conn.announced {
                        self.announce(slot, early);
                    }
                    self.stats.streams_early += u64::from(early);
                    let stream = stream.into();
                    self.events.push_back(Event::StreamOpened {
                        conn: id,
                        stream,
                        bidi: dir == Dir::Bi,
                        early,
                    });
                }
            }
            StreamEvent::Readable { id: stream } => {
                let Some(conn) = self.slots[slot as usize].conn.as_deref_mut() else {
                    return;
                };
                let reset = conn.inner.recv_stream(stream).received_reset();
                let stream = stream.into();
                self.events.push_back(match reset {
                    Ok(Some(code)) => Event::StreamReset {
                        conn: id,
                        stream,
                        code: code.into_inner(),
                    },
                    _ => Event::Readable { conn: id, stream },
                });
                if matches!(reset, Ok(Some(_))) {
                    // The freed stream may have earned the peer another.
                    self.queue_transmit(slot);
                }
            }
            StreamEvent::Writable { id: stream } => {
                self.events.push_back(Event::Writable {
                    conn: id,
                    stream: stream.into(),
                });
            }
            StreamEvent::Finished { id: stream } => {
                self.events.push_back(Event::StreamFinished {
                    conn: id,
                    stream: stream.into(),
                });
            }
            StreamEvent::Stopped {
                id: stream,
                error_code,
            } => {
                let code = error_code.into_inner();
                self.events.push_back(Event::StreamStopped {
                    conn: id,
                    stream: stream.into(),
                    code,
                });
            }
            StreamEvent::Available { dir } => {
                self.events.push_back(Event::StreamsAvailable {
                    conn: id,
                    bidi: dir == Dir::Bi,
                });
            }
        }
    }

    fn announce(&mut self, slot: u32, early: bool) {
        let id = self.id_of(slot);
        let Some(conn) = self.slots[slot as usize].conn.as_deref_mut() else {
            return;
        };
        conn.announced = true;
        let alpn = conn
            .inner
            .crypto_session()
            .handshake_data()
            .and_then(|data| data.downcast::<HandshakeData>().ok())
            .and_then(|data| data.protocol)
            .unwrap_or_default();
        let remote = conn.inner.remote_address();
        self.events.push_back(Event::Connected {
            conn: id,
            remote,
            alpn: alpn.into(),
            early,
        });
    }

    /// Marks the end of a connection's usable life and tells it once.
    pub(crate) fn end(&mut self, slot: u32, reason: CloseReason) {
        let id = self.id_of(slot);
        let Some(conn) = self.slots[slot as usize].conn.as_deref_mut() else {
            return;
        };
        if std::mem::take(&mut conn.handshaking) {
            conn.handshake_deadline = None;
            self.stats.handshakes -= 1;
        }
        if !std::mem::replace(&mut conn.ended, true) && conn.announced {
            self.events.push_back(Event::Closed { conn: id, reason });
        }
    }

    /// Forgets a drained connection; its slot may be used again.
    fn remove(&mut self, slot: u32) {
        // Whatever closed it has told so already; this keeps the promise even if not.
        self.end(slot, CloseReason::Local);
        let place = &mut self.slots[slot as usize];
        place.conn = None;
        place.drained_at = None;
        place.generation = place.generation.wrapping_add(1);
        self.timers.set(slot, None);
        self.stats.connections -= 1;
    }
}
