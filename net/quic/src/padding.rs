//! Padding is dropped before quinn-proto looks at a packet.
//!
//! quinn-proto reads PADDING byte by byte, each as a frame of its own: 4 ns that
//! every client's first datagrams cost hundreds of times (RFC 9000 §14.1 wants
//! them 1,200 bytes long) and every path MTU probe thousands of times. That was
//! more than a quarter of what a new connection cost a node
//! (`docs/decisions/0013-handshakes.md`).
//!
//! PADDING has no meaning but its length (RFC 9000 §19.1), and what counts bytes
//! counts datagrams, so a packet without it is the same packet. The one exception,
//! a client's first, is made where its keys are (`crypto.rs`).
//! Zeros are not always PADDING, though: a STREAM frame without a length reaches
//! to the end of its packet. So the frames in front are stepped over, and only
//! what follows the last of them is dropped. At the first frame that is not
//! understood here the packet is left as it is, for quinn-proto to judge.

use bytes::BytesMut;

/// Shortest run of zeros at the end that is worth a look. Lower looks at more
/// packets of data that happen to end in zeros, higher leaves more PADDING.
const RUN_MIN: usize = 16;

/// Zeros are counted in blocks of this many bytes, which the compiler compares
/// in vector registers.
const BLOCK: usize = 64;

/// Drops PADDING at the end of a decrypted packet's payload, all but one byte
/// when there is nothing else: a payload is never empty (RFC 9000 §12.4).
///
/// What is left moves to memory of its own size, because quinn-proto judges by
/// the payload's length how much memory a slice of it holds on to.
pub(crate) fn trim(payload: &mut BytesMut) {
    let Some(end) = padding_start(payload) else {
        return;
    };
    *payload = BytesMut::from(&payload[..end.max(1)]);
}

/// Where the frames end and PADDING begins, if there is enough of it.
fn padding_start(payload: &[u8]) -> Option<usize> {
    let last = payload.last_chunk::<RUN_MIN>()?;
    if u128::from_ne_bytes(*last) != 0 {
        return None;
    }
    let zeros_from = zeros_start(payload);
    let mut frames = Frames(payload);
    loop {
        let at = payload.len() - frames.0.len();
        if at >= zeros_from {
            return (payload.len() - at >= RUN_MIN).then_some(at);
        }
        frames.step()?;
    }
}

/// Where the zeros at the end of `bytes` begin, or a little later.
fn zeros_start(bytes: &[u8]) -> usize {
    let mut end = bytes.len();
    while let Some(block) = bytes[..end].last_chunk::<BLOCK>()
        && block.iter().fold(0, |any, byte| any | byte) == 0
    {
        end -= BLOCK;
    }
    bytes[..end]
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// Frames not yet stepped over.
struct Frames<'a>(&'a [u8]);

impl Frames<'_> {
    /// Steps over one frame (RFC 9000 §19, and the two of the ACK frequency
    /// extension). `None` for a frame that is not known, is not whole, or has no
    /// end of its own.
    fn step(&mut self) -> Option<()> {
        match self.varint()? {
            // PING, HANDSHAKE_DONE, IMMEDIATE_ACK
            0x01 | 0x1e | 0x1f => Some(()),
            // ACK: largest, delay, count of further ranges, first range, ranges
            kind @ (0x02 | 0x03) => {
                self.varints(2)?;
                let ranges = self.varint()?;
                self.varint()?;
                self.varints(ranges.checked_mul(2)?)?;
                self.varints(if kind == 0x03 { 3 } else { 0 })
            }
            // CRYPTO: offset, length, data
            0x06 => {
                self.varint()?;
                self.counted()
            }
            // NEW_TOKEN: length, token
            0x07 => self.counted(),
            // STREAM with a length: id, offset if there is one, length, data
            kind @ (0x0a | 0x0b | 0x0e | 0x0f) => {
                self.varints(if kind & 0x04 == 0 { 1 } else { 2 })?;
                self.counted()
            }
            // MAX_DATA, MAX_STREAMS, DATA_BLOCKED, STREAMS_BLOCKED, RETIRE_CONNECTION_ID
            0x10 | 0x12..=0x14 | 0x16 | 0x17 | 0x19 => self.varints(1),
            // STOP_SENDING, MAX_STREAM_DATA, STREAM_DATA_BLOCKED
            0x05 | 0x11 | 0x15 => self.varints(2),
            // NEW_CONNECTION_ID: sequence, retire prior to, id, token
            0x18 => {
                self.varints(2)?;
                let length = usize::from(*self.0.first()?);
                self.skip(1 + length + 16)
            }
            // PATH_CHALLENGE, PATH_RESPONSE
            0x1a | 0x1b => self.skip(8),
            // ACK_FREQUENCY
            0xaf => self.varints(4),
            _ => None,
        }
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    fn counted(&mut self) -> Option<()> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.skip(length)
    }

    /// Each takes a byte at least, so a count from the network cannot keep this
    /// busy for longer than the packet is long.
    fn varints(&mut self, count: u64) -> Option<()> {
        for _ in 0..count {
            let first = *self.0.first()?;
            self.skip(1 << (first >> 6))?;
        }
        Some(())
    }

    /// RFC 9000 §16.
    fn varint(&mut self) -> Option<u64> {
        let first = *self.0.first()?;
        let length = 1 << (first >> 6);
        let rest = self.0.get(1..length)?;
        let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| {
            value << 8 | u64::from(*byte)
        });
        self.0 = &self.0[length..];
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trimmed(payload: &[u8]) -> Vec<u8> {
        let mut payload = BytesMut::from(payload);
        trim(&mut payload);
        payload.to_vec()
    }

    fn padded(frames: &[u8], zeros: usize) -> Vec<u8> {
        [frames, &vec![0; zeros]].concat()
    }

    /// Frames by hand, in the order of their types; the last byte of each that
    /// has contents is zero, to be mistaken for PADDING.
    const FRAMES: &[&[u8]] = &[
        &[0x01],
        &[0x02, 0x09, 0x00, 0x01, 0x00, 0x02, 0x00],
        &[0x03, 0x40, 0x80, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00],
        &[0x05, 0x04, 0x00],
        &[0x06, 0x00, 0x03, 0x01, 0x00, 0x00],
        &[0x07, 0x02, 0x01, 0x00],
        &[0x0a, 0x04, 0x02, 0x07, 0x00],
        &[0x0b, 0x04, 0x01, 0x00],
        &[0x0e, 0x04, 0x40, 0x40, 0x01, 0x00],
        &[0x0f, 0x04, 0x01, 0x40, 0x02, 0x05, 0x00],
        &[0x10, 0x80, 0x01, 0x00, 0x00],
        &[0x11, 0x04, 0x00],
        &[0x12, 0x00],
        &[0x13, 0x00],
        &[0x14, 0x00],
        &[0x15, 0x04, 0x00],
        &[0x16, 0x00],
        &[0x17, 0x00],
        &[
            0x18, 1, 0, 4, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        &[0x19, 0x00],
        &[0x1a, 1, 2, 3, 4, 5, 6, 7, 0],
        &[0x1b, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x1e],
        &[0x1f],
        &[0x40, 0xaf, 0, 1, 0x43, 0xe8, 0],
    ];

    #[test]
    fn padding_behind_each_frame_goes_and_the_frame_stays_whole() {
        for frame in FRAMES {
            for zeros in [RUN_MIN, 100, 1200, 8952] {
                assert_eq!(trimmed(&padded(frame, zeros)), *frame, "{zeros}");
            }
        }
    }

    #[test]
    fn padding_alone_leaves_one_byte() {
        assert_eq!(trimmed(&[0; 1200]), [0]);
        assert_eq!(trimmed(&[0; RUN_MIN - 1]), [0; RUN_MIN - 1], "too little");
    }

    #[test]
    fn zeros_that_may_be_data_stay() {
        // STREAM without a length, with and without an offset, and a DATAGRAM.
        for open in [&[0x08, 0x04][..], &[0x0d, 0x04, 0x01], &[0x30]] {
            let payload = padded(open, 500);
            assert_eq!(trimmed(&payload), payload);
        }
        // A length that reaches into the zeros, to their end, and beyond it.
        let (inside, whole, beyond) = (
            [0x06, 0, 0x41, 0],
            [0x06, 0, 0x41, 0xf4],
            [0x06, 0, 0x42, 0],
        );
        assert_eq!(trimmed(&padded(&inside, 500)), padded(&inside, 256));
        assert_eq!(trimmed(&padded(&whole, 500)), padded(&whole, 500));
        assert_eq!(trimmed(&padded(&beyond, 500)), padded(&beyond, 500));
        // An unknown frame, PADDING in front of one, a count without end.
        for odd in [
            &[0x21, 1][..],
            &[0, 1],
            &[0x02, 0, 0, 0xff, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert_eq!(trimmed(&padded(odd, 500)), padded(odd, 500));
        }
    }

    proptest! {
        #[test]
        fn any_frames_stay_and_only_their_padding_goes(
            picks in proptest::collection::vec(0..FRAMES.len(), 0..12),
            zeros in 0_usize..2000,
        ) {
            let frames = picks.iter().map(|pick| FRAMES[*pick]).collect::<Vec<_>>().concat();
            let left = trimmed(&padded(&frames, zeros));
            if zeros < RUN_MIN {
                prop_assert_eq!(left, padded(&frames, zeros));
            } else if frames.is_empty() {
                prop_assert_eq!(left, vec![0]);
            } else {
                prop_assert_eq!(left, frames);
            }
        }

        #[test]
        fn anything_loses_nothing_but_zeros_at_its_end(
            bytes in proptest::collection::vec(any::<u8>(), 1..300),
            zeros in 0_usize..300,
        ) {
            let payload = padded(&bytes, zeros);
            let left = trimmed(&payload);
            prop_assert!(!left.is_empty());
            prop_assert!(payload.starts_with(&left));
            prop_assert!(payload[left.len()..].iter().all(|byte| *byte == 0));
        }
    }
}
