//! Bytes of a request stream, cut into frames.

use bytes::Bytes;
use pinion_types::block::FRAME_HEADER_BYTES;
use pinion_wire::DecodeError;
use pinion_wire::frame::{self, FrameHeader, Split};

/// Capacity the reassembly buffer may keep between frames.
const KEEP_BYTES: usize = 16 * 1024;

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
    partial: Vec<u8>,
    /// `partial` holds a frame that was handed out; drop it before going on.
    handed_out: bool,
}

impl FrameReader {
    /// Whether the last chunk is used up, so that [`FrameReader::push`] may follow.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.used == self.chunk.len()
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

    /// The next bytes of the stream.
    ///
    /// # Panics
    /// When the last chunk is not used up: its bytes would be lost.
    pub fn push(&mut self, chunk: Bytes) {
        assert!(self.wants_input(), "the last chunk is not used up");
        self.chunk = chunk;
        self.used = 0;
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
        if self.partial.is_empty() {
            return self.from_chunk();
        }
        loop {
            let available = &self.chunk[self.used..];
            let missing = match frame::split(&self.partial)? {
                Split::NeedMore(missing) => missing,
                Split::Frame { .. } => break,
            };
            let take = missing.min(available.len());
            if take == 0 {
                self.drop_chunk();
                return Ok(None);
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

    fn from_chunk(&mut self) -> Result<Option<Frame<'_>>, DecodeError> {
        let rest = &self.chunk[self.used..];
        let (header, consumed) = match frame::split(rest)? {
            Split::Frame {
                header, consumed, ..
            } => (header, consumed),
            Split::NeedMore(_) => {
                self.partial.extend_from_slice(rest);
                self.drop_chunk();
                return Ok(None);
            }
        };
        let start = self.used + FRAME_HEADER_BYTES;
        self.used += consumed;
        let body = &self.chunk[start..self.used];
        Ok(Some(Frame { header, body }))
    }

    /// Lets go of the chunk: it pins the datagram it came in.
    fn drop_chunk(&mut self) {
        self.chunk = Bytes::new();
        self.used = 0;
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
    fn frames_are_found_however_the_bytes_are_cut() {
        let sizes = [0, 1, 700, 3, 40_000, 0, 5];
        let bytes = pings(&sizes);
        for chunk in [1, 2, 11, 12, 13, 100, 1452, bytes.len()] {
            assert_eq!(lengths_read(&bytes, chunk), sizes, "chunks of {chunk}");
        }
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
    fn a_length_over_the_limit_ends_the_stream_at_once() {
        let mut bytes = pings(&[0]);
        bytes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut reader = FrameReader::default();
        reader.push(Bytes::from(bytes));
        assert!(reader.next_frame().is_err());
    }
}
