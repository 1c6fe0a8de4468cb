//! Frames out of a stream of bytes that arrives in chunks of any size.

use pinion_types::block::FRAME_HEADER_BYTES;
use pinion_wire::DecodeError;
use pinion_wire::frame::{self, FrameHeader, Split};

/// Puts frames back together. A frame that arrives whole inside one chunk is
/// shown where it lies; only one that crosses chunks is copied, into a buffer
/// that is kept and never holds more than one frame.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    carry: Vec<u8>,
}

impl Assembler {
    /// Takes the next bytes of the stream and shows every frame they complete.
    pub(super) fn feed(
        &mut self,
        mut chunk: &[u8],
        mut visit: impl FnMut(FrameHeader, &[u8]),
    ) -> Result<(), DecodeError> {
        if !self.carry.is_empty() {
            chunk = self.complete(chunk, &mut visit)?;
        }
        while !chunk.is_empty() {
            match frame::split(chunk)? {
                Split::Frame {
                    header,
                    body,
                    consumed,
                } => {
                    visit(header, body);
                    chunk = &chunk[consumed..];
                }
                Split::NeedMore(_) => {
                    self.carry.extend_from_slice(chunk);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether the stream could end here without cutting a frame.
    pub(super) const fn is_between_frames(&self) -> bool {
        self.carry.is_empty()
    }

    /// Completes the frame begun in `carry`; gives back what follows it.
    fn complete<'c>(
        &mut self,
        mut chunk: &'c [u8],
        visit: &mut impl FnMut(FrameHeader, &[u8]),
    ) -> Result<&'c [u8], DecodeError> {
        chunk = self.take_until(FRAME_HEADER_BYTES, chunk);
        // Refuses a length over the limit before anything is reserved for it.
        if let (Split::NeedMore(_), Some(length)) =
            (frame::split(&self.carry)?, self.carry.first_chunk::<4>())
            && self.carry.len() >= FRAME_HEADER_BYTES
        {
            let body = u32::from_le_bytes(*length) as usize;
            chunk = self.take_until(FRAME_HEADER_BYTES + body, chunk);
        }
        if let Split::Frame { header, body, .. } = frame::split(&self.carry)? {
            visit(header, body);
            self.carry.clear();
        }
        Ok(chunk)
    }

    fn take_until<'c>(&mut self, total: usize, chunk: &'c [u8]) -> &'c [u8] {
        let missing = total.saturating_sub(self.carry.len());
        let (head, rest) = chunk.split_at(missing.min(chunk.len()));
        self.carry.extend_from_slice(head);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_wire::message::{Ping, Reply};

    fn pongs(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (correlation, payload) in (1..).zip(payloads) {
            Reply::Pong(Ping { payload })
                .encode(correlation, &mut out)
                .expect("small");
        }
        out
    }

    #[test]
    fn every_way_to_cut_a_stream_gives_the_same_frames() {
        let bytes = pongs(&[b"", b"a", b"twelve bytes", &[7; 300]]);
        for size in 1..=bytes.len() {
            let mut assembler = Assembler::default();
            let mut seen = Vec::new();
            for chunk in bytes.chunks(size) {
                assembler
                    .feed(chunk, |header, body| {
                        seen.push((header.correlation, body.to_vec()));
                    })
                    .expect("well formed");
            }
            let lengths: Vec<_> = seen.iter().map(|(c, body)| (*c, body.len())).collect();
            assert_eq!(lengths, [(1, 0), (2, 1), (3, 12), (4, 300)], "in {size}s");
            assert!(assembler.is_between_frames());
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        for size in [1, 5, 12] {
            let mut assembler = Assembler::default();
            let mut header = pongs(&[b""]);
            header[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
            let refused = header
                .chunks(size)
                .any(|chunk| assembler.feed(chunk, |_, _| {}).is_err());
            assert!(refused, "in {size}s");
            assert!(assembler.carry.capacity() < 1024);
        }
    }
}
