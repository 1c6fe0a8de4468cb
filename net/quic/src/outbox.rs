//! Datagrams of many connections in one call.
//!
//! A busy node answers each of many connections with one small datagram, and the
//! system call costs several times what the datagram did. Those that go to the
//! same address, one socket's connections, go out together, as segments of one
//! send (UDP GSO): the kernel asks for equal sizes, the last may be shorter.
//! Answers of one kind still differ by a few bytes (an ACK here, a longer packet
//! number there), so some datagrams are gathered first and ordered by size. What
//! changes places belongs to different connections: the next datagram of a
//! connection comes when the others had their turn, and one that has more than
//! one sends them in one piece, which is not moved.
//!
//! Only for peers that read all their connections from one socket. Where a
//! group of sockets shares a port and is steered by connection id, as a node's
//! is, all segments of a send arrive where the first one belongs.

use core::cmp::Reverse;
use core::ops::Range;

use crate::endpoint::{GSO_SEGMENTS_MAX, TransmitMeta, UDP_PAYLOAD_MAX};

/// Largest datagram that is moved behind others. Larger ones are a connection's
/// bulk, which fills sends by itself; copying this much takes a tenth of the
/// system call that it spares.
const MOVED_BYTES_MAX: usize = 4096;

/// Datagrams looked at together. More find more of their size, fewer let the
/// first one leave sooner: each costs about a microsecond to encrypt.
const GATHERED_MAX: usize = 32;

/// What is to be sent next. Owned by whoever sends, one for each socket. Holds
/// at most `GATHERED_MAX` small datagrams and two of any size.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What is being sent, until it was.
    meta: Option<(TransmitMeta, Source)>,
    /// The first that was polled; stays here when nothing joins it.
    first: Vec<u8>,
    /// The last that was polled.
    polled: Vec<u8>,
    /// `polled` is bulk, to be sent after what was gathered before it.
    bulk: Option<TransmitMeta>,
    /// Datagrams gathered, in the order in which they were polled.
    gathered: Vec<u8>,
    /// What they are, in the order in which they are sent.
    waiting: Vec<Waiting>,
    /// How many of `waiting` were taken.
    taken: usize,
    /// Datagrams of one send that do not lie side by side in `gathered`.
    train: Vec<u8>,
}

/// One gathered datagram.
#[derive(Debug)]
struct Waiting {
    meta: TransmitMeta,
    /// Where it begins in `gathered`.
    start: usize,
}

/// Where the bytes of a send are.
#[derive(Debug, Clone)]
enum Source {
    First,
    Polled,
    Gathered(Range<usize>),
    Train,
}

/// Whether it stays where it is.
fn is_bulk(meta: &TransmitMeta) -> bool {
    meta.segment_size.is_some() || meta.len > MOVED_BYTES_MAX
}

impl Outbox {
    /// The next send, at most `segments_max` datagrams; the same again until
    /// [`sent`](Self::sent). `poll` is
    /// [`Endpoint::poll_transmit`](crate::Endpoint::poll_transmit).
    pub fn poll(
        &mut self,
        segments_max: usize,
        poll: impl FnMut(&mut Vec<u8>) -> Option<TransmitMeta>,
    ) -> Option<(TransmitMeta, &[u8])> {
        if self.meta.is_none() {
            self.meta = self.next(segments_max.clamp(1, GSO_SEGMENTS_MAX), poll);
        }
        let (meta, source) = self.meta.as_ref()?;
        let bytes = match source {
            Source::First => &self.first[..],
            Source::Polled => &self.polled[..],
            Source::Gathered(range) => &self.gathered[range.clone()],
            Source::Train => &self.train[..],
        };
        Some((*meta, &bytes[..meta.len]))
    }

    /// What was polled last is with the kernel, or lost.
    pub const fn sent(&mut self) {
        self.meta = None;
    }

    fn next(
        &mut self,
        segments_max: usize,
        mut poll: impl FnMut(&mut Vec<u8>) -> Option<TransmitMeta>,
    ) -> Option<(TransmitMeta, Source)> {
        if self.taken < self.waiting.len() {
            return Some(self.take(segments_max));
        }
        if let Some(meta) = self.bulk.take() {
            return Some((meta, Source::Polled));
        }
        let meta = poll(&mut self.first)?;
        if segments_max == 1 || is_bulk(&meta) {
            return Some((meta, Source::First));
        }
        self.waiting.clear();
        self.taken = 0;
        self.gathered.clear();
        while self.waiting.len() < GATHERED_MAX {
            let Some(next) = poll(&mut self.polled) else {
                break;
            };
            if is_bulk(&next) {
                self.bulk = Some(next);
                break;
            }
            if self.waiting.is_empty() {
                self.waiting.push(Waiting { meta, start: 0 });
                self.gathered.extend_from_slice(&self.first[..meta.len]);
            }
            let start = self.gathered.len();
            self.waiting.push(Waiting { meta: next, start });
            self.gathered.extend_from_slice(&self.polled[..next.len]);
        }
        if self.waiting.is_empty() {
            return Some((meta, Source::First));
        }
        self.waiting.sort_unstable_by_key(|waiting| {
            let meta = &waiting.meta;
            let address = (meta.destination, meta.source_ip, meta.ecn);
            (address, Reverse(meta.len), waiting.start)
        });
        Some(self.take(segments_max))
    }

    /// As many of those that wait as one send takes.
    fn take(&mut self, segments_max: usize) -> (TransmitMeta, Source) {
        let waiting = &self.waiting[self.taken..];
        let first = &waiting[0];
        let segment = first.meta.len;
        let (mut count, mut len, mut adjacent) = (1, segment, true);
        for next in waiting[1..].iter().take(segments_max - 1) {
            // Ordered by size: only the last of a send is shorter.
            let fits = len == count * segment
                && len + next.meta.len <= UDP_PAYLOAD_MAX
                && next.meta.destination == first.meta.destination
                && next.meta.source_ip == first.meta.source_ip
                && next.meta.ecn == first.meta.ecn;
            if !fits {
                break;
            }
            adjacent &= next.start == first.start + len;
            count += 1;
            len += next.meta.len;
        }
        let meta = TransmitMeta {
            len,
            segment_size: (count > 1).then_some(segment),
            ..first.meta
        };
        let source = if adjacent {
            Source::Gathered(first.start..first.start + len)
        } else {
            self.train.clear();
            for part in &waiting[..count] {
                let bytes = &self.gathered[part.start..part.start + part.meta.len];
                self.train.extend_from_slice(bytes);
            }
            Source::Train
        };
        self.taken += count;
        (meta, source)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn meta(port: u16, len: usize) -> TransmitMeta {
        TransmitMeta {
            destination: SocketAddr::from(([127, 0, 0, 1], port)),
            source_ip: None,
            ecn: None,
            len,
            segment_size: None,
        }
    }

    /// Datagrams to port `port`, each `len` bytes of its number; what was sent,
    /// as port and `(number, length)` of each datagram.
    fn sends(all: &[(u16, usize)]) -> Vec<(u16, Vec<(u8, usize)>)> {
        let mut waiting = all.iter().zip(0_u8..);
        let mut outbox = Outbox::default();
        let mut found = Vec::new();
        let mut seen = vec![false; all.len()];
        loop {
            let poll = |buffer: &mut Vec<u8>| {
                buffer.clear();
                let (&(port, len), number) = waiting.next()?;
                buffer.resize(len, number);
                Some(meta(port, len))
            };
            let Some((meta, bytes)) = outbox.poll(4, poll) else {
                break;
            };
            let size = meta.segment_size.unwrap_or(meta.len);
            let port = meta.destination.port();
            let mut segments = Vec::new();
            for segment in bytes.chunks(size) {
                let number = segment[0];
                assert!(segment.iter().all(|byte| *byte == number), "whole");
                assert_eq!(all[usize::from(number)], (port, segment.len()));
                let again = core::mem::replace(&mut seen[usize::from(number)], true);
                assert!(!again, "each once");
                segments.push((number, segment.len()));
            }
            found.push((port, segments));
            outbox.sent();
        }
        assert!(seen.iter().all(|seen| *seen), "none is lost");
        found
    }

    fn lengths(all: &[(u16, usize)]) -> Vec<(u16, Vec<usize>)> {
        let sizes = |(port, segments): (u16, Vec<(u8, usize)>)| {
            (port, segments.into_iter().map(|(_, len)| len).collect())
        };
        sends(all).into_iter().map(sizes).collect()
    }

    #[test]
    fn what_goes_to_one_address_goes_together_the_longer_first() {
        assert_eq!(lengths(&[]), []);
        assert_eq!(lengths(&[(1, 40)]), [(1, vec![40])]);
        assert_eq!(lengths(&[(1, 40); 3]), [(1, vec![40, 40, 40])]);
        let mixed = [(1, 39), (1, 40), (1, 41), (1, 40), (1, 39), (1, 40)];
        assert_eq!(
            lengths(&mixed),
            [(1, vec![41, 40]), (1, vec![40, 40, 39]), (1, vec![39])],
            "a shorter one ends a send"
        );
        let others = [(1, 40), (2, 40), (2, 40), (1, 40)];
        assert_eq!(lengths(&others), [(1, vec![40, 40]), (2, vec![40, 40])]);
    }

    #[test]
    fn equals_keep_their_order() {
        let all = [(1, 40), (1, 41), (1, 40), (1, 41), (1, 40)];
        let expected = [
            (1, vec![(1, 41), (3, 41), (0, 40)]),
            (1, vec![(2, 40), (4, 40)]),
        ];
        assert_eq!(sends(&all), expected);
    }

    #[test]
    fn a_send_has_an_end_and_bulk_is_neither_moved_nor_overtaken_for_long() {
        assert_eq!(
            lengths(&[(1, 9); 6]),
            [(1, vec![9; 4]), (1, vec![9; 2])],
            "as many segments as were allowed"
        );
        assert_eq!(lengths(&[(1, 5000); 2]), [(1, vec![5000]), (1, vec![5000])]);
        let around = [(1, 9), (1, 9), (1, 5000), (1, 10), (1, 9)];
        assert_eq!(
            lengths(&around),
            [(1, vec![9, 9]), (1, vec![5000]), (1, vec![10, 9])],
            "what comes after bulk is not looked at before it is sent"
        );
        let many = lengths(&[(1, 7); 2 * GATHERED_MAX + 1]);
        assert_eq!(many.len(), 2 * GATHERED_MAX / 4 + 1);
    }

    #[test]
    fn what_was_not_sent_comes_again() {
        let mut outbox = Outbox::default();
        let mut left = 3_u8;
        let mut poll = |buffer: &mut Vec<u8>| {
            left = left.checked_sub(1)?;
            buffer.clear();
            buffer.resize(7, left);
            Some(meta(9, 7))
        };
        for _ in 0..3 {
            let (meta, bytes) = outbox.poll(2, &mut poll).expect("three wait");
            assert_eq!(meta.segment_size, Some(7));
            assert_eq!(bytes, [[2; 7], [1; 7]].as_flattened());
        }
        outbox.sent();
        for _ in 0..2 {
            let (meta, bytes) = outbox.poll(2, &mut poll).expect("one is left");
            assert_eq!((meta.segment_size, bytes), (None, &[0; 7][..]));
        }
        outbox.sent();
        assert!(outbox.poll(2, &mut poll).is_none());
    }
}
