//! What arrives: datagrams for connections that exist, and attempts to begin new ones.

use std::time::Instant;

use quinn_proto::{ConnectionEvent, ConnectionHandle, Incoming, Transmit};

use crate::admission::{Attempt, Refusal, Verdict};
use crate::connection::Amplification;
use crate::endpoint::{Endpoint, RESPONSES_MAX, meta_of, slot_of};

impl Endpoint {
    /// Hands a datagram to its connection.
    pub(crate) fn deliver(
        &mut self,
        handle: ConnectionHandle,
        event: ConnectionEvent,
        len: usize,
        handshake_packet: bool,
    ) {
        let slot = slot_of(handle);
        let Some(conn) = self.slots[handle.0].conn.as_deref_mut() else {
            return;
        };
        if let Some(amplification) = &mut conn.amplification {
            amplification.received(len);
            // Only someone who received our Initial can send Handshake packets
            // (RFC 9000 §8.1). Forging one merely hands over to quinn-proto's own
            // limit, which checks it cryptographically.
            if handshake_packet {
                conn.amplification = None;
            }
        }
        let handshaking = conn.inner.is_handshaking();
        conn.inner.handle_event(event);
        self.touch(slot);
        if handshaking {
            // At once, not lazily: whether a stream is early depends on the state of
            // the handshake when it opened.
            self.pump(slot);
        }
    }

    pub(crate) fn admit(
        &mut self,
        now: Instant,
        incoming: Incoming,
        len: usize,
        scratch: &mut Vec<u8>,
    ) {
        let proven = incoming.remote_address_validated();
        let verdict = self.admission.judge(
            now,
            Attempt {
                ip: incoming.remote_address().ip(),
                proven,
                connections: self.stats.connections,
                handshakes: self.stats.handshakes,
            },
        );
        scratch.clear();
        match verdict {
            Verdict::Accept => match self.inner.accept(incoming, now, scratch, None) {
                Ok((handle, connection)) => {
                    self.stats.accepted += 1;
                    let mut amplification = (!proven).then(Amplification::default);
                    if let Some(amplification) = &mut amplification {
                        amplification.received(len);
                    }
                    let slot = self.insert(handle, connection, amplification, None);
                    let deadline = now + self.admission.limits().handshake_timeout;
                    if let Some(conn) = self.slots[slot as usize].conn.as_deref_mut() {
                        conn.handshake_deadline = Some(deadline);
                    }
                    self.pump(slot);
                    self.update_timer(slot);
                }
                Err(error) => {
                    self.stats.handshakes_failed += 1;
                    if let Some(transmit) = error.response {
                        self.respond(&transmit, scratch);
                    }
                }
            },
            Verdict::Retry => match self.inner.retry(incoming, scratch) {
                Ok(transmit) => {
                    self.stats.retries_sent += 1;
                    self.respond(&transmit, scratch);
                }
                // Only a proven address cannot be sent a Retry, and such never is.
                Err(error) => self.inner.ignore(error.into_incoming()),
            },
            Verdict::Refuse(refusal) => {
                match refusal {
                    Refusal::Draining => self.stats.refused_draining += 1,
                    Refusal::Full => self.stats.refused_full += 1,
                    Refusal::Prefix => self.stats.refused_prefix += 1,
                }
                let transmit = self.inner.refuse(incoming, scratch);
                self.respond(&transmit, scratch);
            }
            Verdict::Ignore => {
                self.stats.ignored_handshakes += 1;
                self.inner.ignore(incoming);
            }
        }
    }

    pub(crate) fn respond(&mut self, transmit: &Transmit, bytes: &[u8]) {
        if self.responses.len() >= RESPONSES_MAX {
            self.stats.responses_dropped += 1;
            return;
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(&bytes[..transmit.size]);
        self.responses.push_back((meta_of(transmit), copy));
    }
}
