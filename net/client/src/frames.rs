//! Bytes of a QUIC stream back into frames.

use bytes::{Buf, Bytes, BytesMut};
use pinion_types::block::FRAME_HEADER_BYTES;
use pinion_wire::{DecodeError, FrameHeader};

use crate::error::ProtocolError;

/// One whole frame, header included. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) correlation: u32,
    pub(crate) bytes: Bytes,
}

/// Reassembles frames from chunks as they arrive.
///
/// A frame that lies in one chunk is handed out without copying. What is kept
/// is at most one frame and one chunk; the length is checked before anything is
/// allocated for it.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    /// The start of a frame whose rest has not arrived.
    partial: BytesMut,
    /// The chunk being cut.
    chunk: Bytes,
    /// Longest frame after its header.
    limit: u32,
}

impl FrameBuffer {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            partial: BytesMut::new(),
            chunk: Bytes::new(),
            limit,
        }
    }

    /// Takes the next chunk of the stream. Call it only after
    /// [`next_frame`](Self::next_frame) gave `None`.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        assert!(self.chunk.is_empty(), "the chunk before must be cut first");
        self.chunk = chunk;
    }

    /// The next whole frame, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// The bytes are not frames; nothing after them can be read.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        if self.partial.is_empty() {
            let Some(total) = self.frame_len(&self.chunk)? else {
                return self.keep_rest();
            };
            if self.chunk.len() >= total {
                let bytes = self.chunk.split_to(total);
                return Ok(Some(frame(bytes)));
            }
            self.partial.reserve(total);
            return self.keep_rest();
        }
        if self.partial.len() < FRAME_HEADER_BYTES {
            self.fill(FRAME_HEADER_BYTES);
        }
        let Some(total) = self.frame_len(&self.partial)? else {
            return Ok(None);
        };
        self.fill(total);
        if self.partial.len() < total {
            return Ok(None);
        }
        Ok(Some(frame(self.partial.split().freeze())))
    }

    /// Whether the stream may end here.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.partial.is_empty() && self.chunk.is_empty()
    }

    fn keep_rest(&mut self) -> Result<Option<Frame>, ProtocolError> {
        let rest = std::mem::take(&mut self.chunk);
        self.partial.extend_from_slice(&rest);
        Ok(None)
    }

    fn fill(&mut self, target: usize) {
        let missing = target.saturating_sub(self.partial.len());
        let take = missing.min(self.chunk.len());
        self.partial.reserve(missing);
        self.partial.extend_from_slice(&self.chunk[..take]);
        self.chunk.advance(take);
    }

    fn frame_len(&self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some(head) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = FrameHeader::decode(head).map_err(|error| match error {
            DecodeError::FrameTooLarge { length, limit } => {
                ProtocolError::FrameTooLarge { length, limit }
            }
            _ => ProtocolError::Malformed { opcode: head[4] },
        })?;
        if header.length > self.limit {
            return Err(ProtocolError::FrameTooLarge {
                length: header.length,
                limit: self.limit,
            });
        }
        Ok(Some(FRAME_HEADER_BYTES + header.length as usize))
    }
}

fn frame(bytes: Bytes) -> Frame {
    let correlation = bytes[8..12].try_into().expect("a frame has its header");
    Frame {
        opcode: bytes[4],
        correlation: u32::from_le_bytes(correlation),
        bytes,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn encoded(opcode: u8, correlation: u32, body: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        out.extend_from_slice(&[opcode, 0, 0, 0]);
        out.extend_from_slice(&correlation.to_le_bytes());
        out.extend_from_slice(body);
        out
    }

    fn drain(buffer: &mut FrameBuffer, out: &mut Vec<(u8, u32, usize)>) {
        while let Some(frame) = buffer.next_frame().unwrap() {
            out.push((frame.opcode, frame.correlation, frame.bytes.len()));
        }
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_are_cut() {
        let mut wire = encoded(0x81, 7, b"");
        wire.extend(encoded(0x82, 8, b"abc"));
        wire.extend(encoded(0xff, 9, &[1; 40]));
        let whole = [(0x81, 7, 12), (0x82, 8, 15), (0xff, 9, 52)];
        for step in 1..=wire.len() {
            let mut buffer = FrameBuffer::new(64);
            let mut got = Vec::new();
            for chunk in wire.chunks(step) {
                buffer.push(Bytes::copy_from_slice(chunk));
                drain(&mut buffer, &mut got);
            }
            assert_eq!(got, whole, "chunks of {step}");
            assert!(buffer.is_at_boundary());
        }
    }

    #[test]
    fn a_frame_within_one_chunk_is_not_copied() {
        let chunk = Bytes::from(encoded(0x82, 1, b"payload"));
        let address = chunk.as_ptr();
        let mut buffer = FrameBuffer::new(64);
        buffer.push(chunk);
        assert_eq!(
            buffer.next_frame().unwrap().unwrap().bytes.as_ptr(),
            address
        );
    }

    #[test]
    fn a_length_over_the_limit_is_refused_from_the_header_alone() {
        for step in [1, 12] {
            let mut buffer = FrameBuffer::new(64);
            let wire = encoded(0x81, 1, &[0; 65]);
            let error = wire[..12].chunks(step).find_map(|chunk| {
                buffer.push(Bytes::copy_from_slice(chunk));
                buffer.next_frame().err()
            });
            assert_eq!(
                error,
                Some(ProtocolError::FrameTooLarge {
                    length: 65,
                    limit: 64
                })
            );
        }
    }

    #[test]
    fn unknown_flags_are_refused_and_a_torn_end_is_seen() {
        let mut wire = encoded(0x81, 1, b"");
        wire[5] = 1;
        let mut buffer = FrameBuffer::new(64);
        buffer.push(Bytes::from(wire));
        assert!(buffer.next_frame().is_err());

        let mut buffer = FrameBuffer::new(64);
        buffer.push(Bytes::copy_from_slice(&encoded(0x81, 1, b"xy")[..13]));
        assert_eq!(buffer.next_frame(), Ok(None));
        assert!(!buffer.is_at_boundary());
    }
}
