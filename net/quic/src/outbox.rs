//! Datagrams of many connections in one call.
//!
//! A busy node answers each of many connections with one small datagram, and the
//! system call costs several times what the datagram did. Those that go to the
//! same address, one socket's connections, go out together, as segments of one
//! send (UDP GSO): the kernel asks for equal sizes, the last may be shorter.
//!
//! Only for peers that read all their connections from one socket. Where a
//! group of sockets shares a port and is steered by connection id, as a node's
//! is, all segments of a send arrive where the first one belongs.

use crate::endpoint::{GSO_SEGMENTS_MAX, TransmitMeta, UDP_PAYLOAD_MAX};

/// Largest datagram that is moved behind others. Larger ones are a connection's
/// bulk, which fills sends by itself.
const MOVED_BYTES_MAX: usize = 1500;

/// What is to be sent next. Owned by whoever sends, one for each socket.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    meta: Option<TransmitMeta>,
    /// Polled, and not to be sent together with `bytes`.
    next_bytes: Vec<u8>,
    next: Option<TransmitMeta>,
}

impl Outbox {
    /// The next send, at most `segments_max` datagrams; the same again until
    /// [`sent`](Self::sent). `poll` is
    /// [`Endpoint::poll_transmit`](crate::Endpoint::poll_transmit).
    pub fn poll(
        &mut self,
        segments_max: usize,
        mut poll: impl FnMut(&mut Vec<u8>) -> Option<TransmitMeta>,
    ) -> Option<(TransmitMeta, &[u8])> {
        if self.meta.is_none() {
            self.meta = match self.next.take() {
                Some(next) => {
                    core::mem::swap(&mut self.bytes, &mut self.next_bytes);
                    Some(next)
                }
                None => poll(&mut self.bytes),
            };
            self.gather(segments_max.min(GSO_SEGMENTS_MAX), poll);
        }
        let meta = self.meta?;
        Some((meta, &self.bytes[..meta.len]))
    }

    /// What was polled last is with the kernel, or lost.
    pub const fn sent(&mut self) {
        self.meta = None;
    }

    /// Puts what else goes to the same address behind the first.
    fn gather(
        &mut self,
        segments_max: usize,
        mut poll: impl FnMut(&mut Vec<u8>) -> Option<TransmitMeta>,
    ) {
        let Some(meta) = &mut self.meta else {
            return;
        };
        let segment = meta.segment_size.unwrap_or(meta.len);
        if segment == 0 || segment > MOVED_BYTES_MAX {
            return;
        }
        while meta.len.is_multiple_of(segment) && meta.len / segment < segments_max {
            let Some(next) = poll(&mut self.next_bytes) else {
                return;
            };
            let fits = next.segment_size.is_none()
                && next.len <= segment
                && meta.len + next.len <= UDP_PAYLOAD_MAX
                && next.destination == meta.destination
                && next.source_ip == meta.source_ip
                && next.ecn == meta.ecn;
            if !fits {
                self.next = Some(next);
                return;
            }
            self.bytes.truncate(meta.len);
            self.bytes.extend_from_slice(&self.next_bytes[..next.len]);
            meta.len += next.len;
            meta.segment_size = Some(segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// Datagrams to port `port`, each `len` bytes of its number.
    fn sends(all: &[(u16, usize)]) -> Vec<(u16, Vec<usize>)> {
        let mut waiting = all.iter().zip(0_u8..);
        let mut outbox = Outbox::default();
        let mut found = Vec::new();
        let mut expected = 0;
        loop {
            let poll = |buffer: &mut Vec<u8>| {
                buffer.clear();
                let (&(port, len), number) = waiting.next()?;
                buffer.resize(len, number);
                Some(TransmitMeta {
                    destination: SocketAddr::from(([127, 0, 0, 1], port)),
                    source_ip: None,
                    ecn: None,
                    len,
                    segment_size: None,
                })
            };
            let Some((meta, bytes)) = outbox.poll(4, poll) else {
                break;
            };
            let size = meta.segment_size.unwrap_or(meta.len);
            let mut sizes = Vec::new();
            for segment in bytes.chunks(size) {
                assert!(segment.iter().all(|byte| *byte == expected), "in order");
                expected += 1;
                sizes.push(segment.len());
            }
            found.push((meta.destination.port(), sizes));
            outbox.sent();
        }
        assert_eq!(usize::from(expected), all.len(), "each once");
        found
    }

    #[test]
    fn what_goes_to_one_address_and_is_of_one_size_goes_together() {
        assert_eq!(sends(&[]), []);
        assert_eq!(sends(&[(1, 40)]), [(1, vec![40])]);
        let same = [(1, 40), (1, 40), (1, 40)];
        assert_eq!(sends(&same), [(1, vec![40, 40, 40])]);
        let last = [(1, 40), (1, 40), (1, 39), (1, 39), (1, 40)];
        assert_eq!(
            sends(&last),
            [(1, vec![40, 40, 39]), (1, vec![39]), (1, vec![40])],
            "a shorter one is the last, a longer one the next"
        );
        let others = [(1, 40), (2, 40), (2, 40), (1, 40)];
        assert_eq!(
            sends(&others),
            [(1, vec![40]), (2, vec![40, 40]), (1, vec![40])]
        );
    }

    #[test]
    fn a_send_has_an_end_and_bulk_is_not_moved() {
        assert_eq!(
            sends(&[(1, 9); 6]),
            [(1, vec![9; 4]), (1, vec![9; 2])],
            "as many segments as were allowed"
        );
        assert_eq!(sends(&[(1, 4000); 2]), [(1, vec![4000]), (1, vec![4000])]);
    }

    #[test]
    fn what_was_not_sent_comes_again() {
        let mut outbox = Outbox::default();
        let mut left = 2_u8;
        let mut poll = |buffer: &mut Vec<u8>| {
            left = left.checked_sub(1)?;
            buffer.clear();
            buffer.resize(7, 1);
            Some(TransmitMeta {
                destination: SocketAddr::from(([127, 0, 0, 1], 9)),
                source_ip: None,
                ecn: Some(2),
                len: 7,
                segment_size: None,
            })
        };
        for _ in 0..3 {
            let (meta, bytes) = outbox.poll(64, &mut poll).expect("two wait");
            assert_eq!((meta.segment_size, bytes), (Some(7), &[1; 14][..]));
        }
        outbox.sent();
        assert!(outbox.poll(64, &mut poll).is_none());
    }
}
