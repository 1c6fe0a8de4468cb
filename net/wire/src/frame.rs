//! The 12 bytes before every body.

use pinion_types::block::FRAME_HEADER_BYTES;
use pinion_types::limits::FRAME_BYTES_MAX;

use crate::error::{DecodeError, EncodeError};

/// Header flags this version knows: none.
pub const FLAGS_KNOWN: u8 = 0;

/// The checked header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the body, at most [`FRAME_BYTES_MAX`].
    pub length: u32,
    /// Which message the body is; see [`crate::opcode`].
    pub opcode: u8,
    /// Only bits of [`FLAGS_KNOWN`].
    pub flags: u8,
    /// Chosen by the client; a reply repeats its request's. 0 on deliveries.
    pub correlation: u32,
}

/// What the front of a byte stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// At least so many more bytes must arrive before there is news.
    NeedMore(usize),
    /// One whole frame.
    Frame {
        /// Its header.
        header: FrameHeader,
        /// The `header.length` bytes after it.
        body: &'a [u8],
        /// Bytes the frame takes, header included; the next one starts there.
        consumed: usize,
    },
}

/// Looks for one frame at the front of `bytes`. The header is judged as soon as
/// it is there, so a bad frame is refused before its body is waited for.
///
/// # Errors
/// [`DecodeError::FrameTooLarge`], [`DecodeError::HeaderNotZero`],
/// [`DecodeError::UnknownFlags`]: all fatal, the stream cannot be read on.
#[inline]
pub fn split(bytes: &[u8]) -> Result<Split<'_>, DecodeError> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(Split::NeedMore(FRAME_HEADER_BYTES - bytes.len()));
    };
    let header = FrameHeader::decode(head)?;
    let length = header.length as usize;
    match rest.get(..length) {
        Some(body) => Ok(Split::Frame {
            header,
            body,
            consumed: FRAME_HEADER_BYTES + length,
        }),
        None => Ok(Split::NeedMore(length - rest.len())),
    }
}

impl FrameHeader {
    /// Reads and judges the 12 bytes.
    ///
    /// # Errors
    /// As [`split`].
    #[inline]
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, DecodeError> {
        let [l0, l1, l2, l3, opcode, flags, z0, z1, c0, c1, c2, c3] = *bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > FRAME_BYTES_MAX {
            return Err(DecodeError::FrameTooLarge {
                length,
                limit: FRAME_BYTES_MAX,
            });
        }
        let zero = u16::from_le_bytes([z0, z1]);
        if zero != 0 {
            return Err(DecodeError::HeaderNotZero { value: zero });
        }
        let unknown = flags & !FLAGS_KNOWN;
        if unknown != 0 {
            return Err(DecodeError::UnknownFlags { bits: unknown });
        }
        Ok(Self {
            length,
            opcode,
            flags,
            correlation: u32::from_le_bytes([c0, c1, c2, c3]),
        })
    }

    /// The 12 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        out[0..4].copy_from_slice(&self.length.to_le_bytes());
        out[4] = self.opcode;
        out[5] = self.flags;
        out[8..12].copy_from_slice(&self.correlation.to_le_bytes());
        out
    }
}

/// A frame whose length is not known yet: the header stands in `out`, the body
/// is being appended behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenFrame {
    start: usize,
}

impl OpenFrame {
    pub(crate) fn begin(out: &mut Vec<u8>, opcode: u8, correlation: u32) -> Self {
        let start = out.len();
        let header = FrameHeader {
            length: 0,
            opcode,
            flags: 0,
            correlation,
        };
        out.extend_from_slice(&header.encode());
        Self { start }
    }

    /// Where the body begins in `out`.
    pub(crate) const fn body_start(self) -> usize {
        self.start + FRAME_HEADER_BYTES
    }

    /// Takes the unfinished frame out again.
    pub(crate) fn abandon(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }

    /// Writes the length, or takes the frame out when it became too long.
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let len = out.len() - self.body_start();
        match u32::try_from(len) {
            Ok(length) if length <= FRAME_BYTES_MAX => {
                out[self.start..self.start + 4].copy_from_slice(&length.to_le_bytes());
                Ok(())
            }
            _ => {
                self.abandon(out);
                Err(EncodeError::FrameTooLarge {
                    len: len as u64,
                    limit: u64::from(FRAME_BYTES_MAX),
                })
            }
        }
    }
}

/// Appends one frame; `write` appends the body. On error `out` is as before.
pub(crate) fn append(
    out: &mut Vec<u8>,
    opcode: u8,
    correlation: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let frame = OpenFrame::begin(out, opcode, correlation);
    match write(out) {
        Ok(()) => frame.finish(out),
        Err(error) => {
            frame.abandon(out);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(length: u32) -> FrameHeader {
        FrameHeader {
            length,
            opcode: 0x02,
            flags: 0,
            correlation: 9,
        }
    }

    #[test]
    fn a_frame_is_found_once_all_of_it_is_there() {
        let mut bytes = head(3).encode().to_vec();
        bytes.extend_from_slice(b"abcX");
        for have in 0..12 {
            assert_eq!(split(&bytes[..have]), Ok(Split::NeedMore(12 - have)));
        }
        for have in 12..15 {
            assert_eq!(split(&bytes[..have]), Ok(Split::NeedMore(15 - have)));
        }
        assert_eq!(
            split(&bytes),
            Ok(Split::Frame {
                header: head(3),
                body: b"abc",
                consumed: 15
            })
        );
    }

    #[test]
    fn a_bad_header_is_refused_before_its_body_arrives() {
        let longest = head(FRAME_BYTES_MAX).encode();
        assert_eq!(
            split(&longest),
            Ok(Split::NeedMore(FRAME_BYTES_MAX as usize))
        );
        for length in [FRAME_BYTES_MAX + 1, u32::MAX] {
            let error = split(&head(length).encode()).expect_err("too long");
            assert_eq!(
                error,
                DecodeError::FrameTooLarge {
                    length,
                    limit: FRAME_BYTES_MAX
                }
            );
            assert!(error.is_fatal());
        }
        for at in [6, 7] {
            let mut bytes = head(0).encode();
            bytes[at] = 1;
            assert!(matches!(
                split(&bytes),
                Err(DecodeError::HeaderNotZero { .. })
            ));
        }
        for bit in 0..8 {
            let mut bytes = head(0).encode();
            bytes[5] = 1 << bit;
            assert_eq!(
                split(&bytes),
                Err(DecodeError::UnknownFlags { bits: 1 << bit })
            );
        }
    }

    #[test]
    fn a_frame_that_grew_too_long_leaves_no_trace() {
        let mut out = b"before".to_vec();
        let body = vec![0; FRAME_BYTES_MAX as usize + 1];
        let full = append(&mut out, 2, 1, |out| {
            out.extend_from_slice(&body);
            Ok(())
        });
        assert!(matches!(full, Err(EncodeError::FrameTooLarge { .. })));
        assert_eq!(out, b"before");
        let fits = append(&mut out, 2, 1, |out| {
            out.extend_from_slice(&body[1..]);
            Ok(())
        });
        assert_eq!(fits, Ok(()));
    }
}
