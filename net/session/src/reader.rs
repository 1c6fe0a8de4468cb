//! Bytes of a request stream, cut into frames.

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_types::block::FRAME_HEADER_BYTES;
use pinion_wire::DecodeError;
use pinion_wire::frame::{self, FrameHeader, Split};

/// Capacity the reassembly buffer may keep between frames.
const KEEP_BYTES: usize = 16 * 1024;

/// From here on a frame's buffer grows fourfold, not twofold, up to what the frame
/// announces: a large frame is moved twice while it arrives instead of five
/// times. What a peer makes the node reserve is at most four times what it sent.
const LARGE_BYTES: usize = 64 * 1024;

/// One frame, borrowed from the reader.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Opcode, flags and correlation id.
    pub header: FrameHeader,
    /// The bytes after the header.
    pub body: &'a [u8],
}

/// Cuts frames out of chunks. A frame that lies whole in a chunk is not
/// copied; one that spans chunks is gathered first, growing with what has
/// really arrived and never with what a length field announces.
#[derive(Debug, Default)]
pub struct FrameReader {
    chunk: Bytes,
    used: usize,
    /// Chunks behind `chunk`, while requests wait unread.
    later: VecDeque<Bytes>,
    /// Bytes of `later`.
    later_len: usize,
    partial: Vec<u8>,
    /// `partial` holds a frame that was handed out; drop it before going on.
    handed_out: bool,
}

impl FrameReader {
    /// Whether everything pushed so far was looked at.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.used == self.chunk.len() && self.later.is_empty()
    }

    /// Bytes held back until a frame is whole.
    #[must_use]
    pub fn partial_len(&self) -> usize {
        if self.handed_out {
            0
        } else {
            self.partial.len()
        }
    }

    /// All bytes held: of a frame that is not whole and of frames not looked
    /// at yet. Whoever pushes without reading keeps an eye on it.
    #[must_use]
    pub fn held_len(&self) -> usize {
        self.partial_len() + (self.chunk.len() - self.used) + self.later_len
    }

    /// The next bytes of the stream, behind those not looked at yet.
    pub fn push(&mut self, chunk: Bytes) {
        if self.wants_input() {
            self.chunk = chunk;
            self.used = 0;
        } else {
            self.later_len += chunk.len();
            self.later.push_back(chunk);
        }
    }

    /// The whole frames that [`next_frame`](Self::next_frame) will give without
    /// gathering them first, as far as they are well formed. Takes nothing.
    pub fn ahead(&self) -> impl Iterator<Item = Frame<'_>> {
        let gathering = !self.partial.is_empty() && !self.handed_out;
        let mut rest = if gathering {
            &[][..]
        } else {
            &self.chunk[self.used..]
        };
        core::iter::from_fn(move || match frame::split(rest) {
            Ok(Split::Frame {
                header,
                body,
                consumed,
            }) => {
                rest = &rest[consumed..];
                Some(Frame { header, body })
            }
            _ => None,
        })
    }

    /// The next whole frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// The stream is not a sequence of frames; nothing after it can be trusted.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, DecodeError> {
        if self.handed_out {
            self.handed_out = false;
            self.partial.clear();
            if self.partial.capacity() > KEEP_BYTES {
                self.partial = Vec::new();
            }
        }
        while self.partial.is_empty() {
            let rest = &self.chunk[self.used..];
            match frame::split(rest)? {
                Split::Frame {
                    header, consumed, ..
                } => {
                    let start = self.used + FRAME_HEADER_BYTES;
                    self.used += consumed;
                    let body = &self.chunk[start..self.used];
                    return Ok(Some(Frame { header, body }));
                }
                Split::NeedMore(_) => {
                    self.partial.extend_from_slice(rest);
                    if !self.advance() {
                        return Ok(None);
                    }
                }
            }
        }
        loop {
            let available = &self.chunk[self.used..];
            let missing = match frame::split(&self.partial)? {
                Split::NeedMore(missing) => missing,
                Split::Frame { .. } => break,
            };
            let take = missing.min(available.len());
            if take == 0 {
                if !self.advance() {
                    return Ok(None);
                }
                continue;
            }
            let (len, room) = (self.partial.len(), self.partial.capacity());
            if len >= LARGE_BYTES && len + take > room {
                self.partial.reserve_exact(missing.min(3 * len));
            }
            self.partial.extend_from_slice(&available[..take]);
            self.used += take;
        }
        self.handed_out = true;
        match frame::split(&self.partial)? {
            Split::Frame { header, body, .. } => Ok(Some(Frame { header, body })),
            Split::NeedMore(_) => unreachable!("the loop above ended on a whole frame"),
        }
    }

    /// The next frame, if the chunk simply holds all of it. `None` says nothing:
    /// ask [`next_frame`](Self::next_frame).
    // Inlined, and apart from `next_frame`, so that header and body stay in
    // registers: in a result that another function writes at other times they go
    // through memory, written in pieces and read back wider, which stalls for longer
    // than the rest of a small frame takes.
    #[inline]
    pub fn whole_frame(&mut self) -> Option<Frame<'_>> {
        if self.handed_out || !self.partial.is_empty() {
            return None;
        }
        let Ok(Split::Frame {
            header, consumed, ..
        }) = frame::split(&self.chunk[self.used..])
        else {
            return None;
        };
        let start = self.used + FRAME_HEADER_BYTES;
        self.used += consumed;
        let body = &self.chunk[start..self.used];
        Some(Frame { header, body })
    }

    /// Lets go of the used chunk, which pins the datagram it came in, and turns
    /// to the next. `false` when there is none.
    fn advance(&mut self) -> bool {
        self.used = 0;
        match self.later.pop_front() {
            Some(next) => {
                self.later_len -= next.len();
                self.chunk = next;
                true
            }
            None => {
                self.chunk = Bytes::new();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_wire::message::{Ping, Request};

    fn pings(sizes: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            let payload = vec![u8::try_from(i).expect("few"); *size];
            Request::Ping(Ping { payload: &payload })
                .encode(u32::try_from(i).expect("few"), &mut out)
                .expect("small");
        }
        out
    }

    #[track_caller]
    fn lengths_read(bytes: &[u8], chunk: usize) -> Vec<usize> {
        let mut reader = FrameReader::default();
        let mut seen = Vec::new();
        for part in bytes.chunks(chunk) {
            reader.push(Bytes::copy_from_slice(part));
            while let Some(frame) = reader.next_frame().expect("well formed") {
                assert_eq!(frame.header.correlation as usize, seen.len());
                assert!(frame.body.iter().all(|b| usize::from(*b) == seen.len()));
                seen.push(frame.body.len());
            }
            assert!(reader.wants_input());
        }
        assert_eq!(reader.partial_len(), 0);
        seen
    }

    #[test]
    fn whole_frames_are_taken_from_the_chunk_and_the_others_are_left() {
        let bytes = pings(&[3, 5, 8]);
        let (front, back) = bytes.split_at(bytes.len() - 1);
        let mut reader = FrameReader::default();
        reader.push(Bytes::copy_from_slice(front));
        for wanted in 0..2 {
            let frame = reader.whole_frame().expect("it lies in the chunk");
            assert_eq!(frame.header.correlation, wanted);
        }
        assert!(reader.whole_frame().is_none());
        assert!(matches!(reader.next_frame(), Ok(None)));
        reader.push(Bytes::copy_from_slice(back));
        assert!(reader.whole_frame().is_none(), "it spans two chunks");
        let frame = reader.next_frame().expect("well formed").expect("whole");
        assert_eq!((frame.header.correlation, frame.body), (2, &[2; 8][..]));
        reader.push(Bytes::from(pings(&[1])));
        assert!(
            reader.whole_frame().is_none(),
            "not while one is handed out"
        );
        let frame = reader.next_frame().expect("well formed").expect("whole");
        assert_eq!((frame.header.correlation, frame.body), (0, &[0; 1][..]));
        assert!(reader.wants_input());
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let sizes = [0, 1, 700, 3, 40_000, 0, 5];
        let bytes = pings(&sizes);
        for chunk in [1, 2, 11, 12, 13, 100, 1452, bytes.len()] {
            assert_eq!(lengths_read(&bytes, chunk), sizes, "chunks of {chunk}");
        }
    }

    #[test]
    fn chunks_pushed_before_the_last_was_read_wait_in_order() {
        let sizes = [3, 0, 2000, 7, 1];
        let bytes = pings(&sizes);
        for chunk in [1, 5, 13, 500, 4000] {
            let mut reader = FrameReader::default();
            for part in bytes.chunks(chunk) {
                reader.push(Bytes::copy_from_slice(part));
            }
            assert_eq!(reader.held_len(), bytes.len());
            for (i, size) in sizes.iter().enumerate() {
                let frame = reader.next_frame().expect("well formed").expect("whole");
                assert_eq!(frame.header.correlation as usize, i);
                assert_eq!(frame.body.len(), *size, "chunks of {chunk}");
            }
            assert!(reader.next_frame().expect("well formed").is_none());
            assert_eq!((reader.held_len(), reader.wants_input()), (0, true));
        }
    }

    #[test]
    fn what_is_ahead_is_what_comes_next_and_stays() {
        let bytes = pings(&[3, 0, 900, 7]);
        let cut = bytes.len() - 5;
        let mut reader = FrameReader::default();
        assert_eq!(reader.ahead().count(), 0);
        reader.push(Bytes::copy_from_slice(&bytes[..cut]));
        for left in (0..3).rev() {
            let ahead: Vec<_> = reader.ahead().map(|frame| frame.header).collect();
            assert_eq!(ahead.len(), left + 1, "the last is not whole");
            let frame = reader.next_frame().expect("well formed").expect("whole");
            assert_eq!(frame.header, ahead[0]);
        }
        assert!(reader.next_frame().expect("well formed").is_none());
        reader.push(Bytes::copy_from_slice(&bytes[cut..]));
        assert_eq!(reader.ahead().count(), 0, "it is gathered");
        let frame = reader.next_frame().expect("well formed").expect("whole");
        assert_eq!(frame.body.len(), 7);

        // The rest of a frame of zeros looks like frames of no length.
        let zeros = pings(&[100]);
        let mut reader = FrameReader::default();
        reader.push(Bytes::copy_from_slice(&zeros[..40]));
        assert!(reader.next_frame().expect("well formed").is_none());
        reader.push(Bytes::copy_from_slice(&zeros[40..]));
        assert_eq!(reader.ahead().count(), 0, "it is gathered");
    }

    #[test]
    fn a_length_field_allocates_nothing_by_itself() {
        let mut bytes = pings(&[0]);
        bytes[0..4].copy_from_slice(&1_000_000_u32.to_le_bytes());
        let mut reader = FrameReader::default();
        reader.push(Bytes::from(bytes));
        assert!(reader.next_frame().expect("not yet wrong").is_none());
        assert_eq!(reader.partial_len(), 12);
        assert!(reader.partial.capacity() < 1024);
    }

    #[test]
    fn a_large_frame_moves_rarely_and_reserves_little_beyond_what_arrived() {
        let bytes = pings(&[900_000]);
        let mut reader = FrameReader::default();
        let mut capacities = Vec::new();
        for (i, part) in bytes.chunks(4000).enumerate() {
            reader.push(Bytes::copy_from_slice(part));
            if reader.next_frame().expect("well formed").is_none() {
                let capacity = reader.partial.capacity();
                assert!(capacity <= 4 * (i + 1) * 4000, "{capacity}");
                assert!(capacity <= bytes.len(), "no more than announced");
                capacities.push(capacity);
            }
        }
        capacities.retain(|capacity| *capacity > 2 * LARGE_BYTES);
        capacities.dedup();
        assert!(capacities.len() <= 2, "{capacities:?}");
    }

    #[test]
    fn a_length_over_the_limit_ends_the_stream_at_once() {
        let mut bytes = pings(&[0]);
        bytes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut reader = FrameReader::default();
        reader.push(Bytes::from(bytes));
        assert!(reader.next_frame().is_err());
    }
}
