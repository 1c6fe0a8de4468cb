//! Streams between nodes as bytes: which lane a message takes, the first frame of a
//! stream, and cutting what arrives into frames. `docs/peer-protocol.md`, Connections.

use bytes::{Buf, Bytes, BytesMut};
use pinion_plane::PlaneMessage;
use pinion_raft_group::{FRAME_HEAD, PeerError, PeerMessage};

/// How many streams a node sends to another on.
pub(super) const LANES: usize = 3;

/// The same, as the transport counts them.
pub(super) const STREAMS: u32 = 3;
const _: () = assert!(STREAMS as usize == LANES);

/// The version and the kind of a hello, in a frame's head.
const HELLO: [u8; 4] = [1, 0, 1, 0];

/// Bytes of a hello behind its head.
const HELLO_BYTES: u8 = 8;

/// A whole hello.
const HELLO_FRAME: usize = FRAME_HEAD + HELLO_BYTES as usize;

/// What shares a stream. Messages of one lane arrive in their order; those of another do
/// not wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Raft's own words: small, and late ones cost elections.
    Raft = 0,
    /// Snapshots.
    Bulk = 1,
    /// Everything else: commands for the leader, beats, joining.
    Requests = 2,
}

impl Lane {
    pub(super) const ALL: [Self; LANES] = [Self::Raft, Self::Bulk, Self::Requests];

    /// Where a message goes.
    pub(super) fn of(message: &PlaneMessage) -> Self {
        match message {
            PlaneMessage::Raft(PeerMessage::Raft(_)) => Self::Raft,
            PlaneMessage::Raft(_) => Self::Bulk,
            _ => Self::Requests,
        }
    }

    /// Which goes first when they share a way that is full.
    pub(super) fn priority(self) -> i32 {
        match self {
            Self::Raft => 2,
            Self::Requests => 1,
            Self::Bulk => 0,
        }
    }

    /// The first frame of its stream.
    pub(super) fn hello(self) -> Bytes {
        let body = (self as u64).to_le_bytes();
        let mut frame = Vec::with_capacity(HELLO_FRAME);
        frame.extend([HELLO_BYTES, 0, 0, 0]);
        frame.extend(HELLO);
        frame.extend(crc32c::crc32c(&body).to_le_bytes());
        frame.extend(body);
        frame.into()
    }

    fn of_hello(frame: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.hello() == frame)
    }
}

/// Why a stream cannot be read on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum StreamError {
    /// The first frame is no hello.
    #[error("a stream begins with a hello")]
    NoHello,
    /// There is a stream of that lane.
    #[error("two streams of one lane")]
    LaneTwice,
    /// No frame begins here.
    #[error(transparent)]
    Frame(#[from] PeerError),
}

/// Bytes of one stream that are no whole frame yet: at most one frame, and what came in
/// the same packet behind it.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    held: BytesMut,
    /// Known after the hello.
    lane: Option<Lane>,
}

impl Cutter {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Whose stream this is, once it said so.
    pub(super) fn lane(&self) -> Option<Lane> {
        self.lane
    }

    /// The next whole frame but the hello.
    pub(super) fn poll(&mut self) -> Result<Option<Bytes>, StreamError> {
        if self.lane.is_none() {
            // Judged as it comes: whoever says something else need not send all of it.
            let known = self.held.len().min(HELLO_FRAME);
            let begun = &self.held[..known];
            if !Lane::ALL.iter().any(|lane| lane.hello().starts_with(begun)) {
                return Err(StreamError::NoHello);
            }
            if known < HELLO_FRAME {
                return Ok(None);
            }
            self.lane = Lane::of_hello(begun);
            self.held.advance(HELLO_FRAME);
        }
        let Some(head) = self.held.first_chunk() else {
            return Ok(None);
        };
        // Compared with its limit before anything is held for it.
        let len = PeerMessage::frame_len(head)?;
        if self.held.len() < len {
            return Ok(None);
        }
        Ok(Some(self.held.split_to(len).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stream that begins with a hello of `lane` and goes on with `rest` holds,
    /// when it comes in pieces of `size`.
    fn cut(lane: Lane, rest: &[u8], size: usize) -> Result<Vec<Bytes>, StreamError> {
        let stream = [&lane.hello()[..], rest].concat();
        let (mut cutter, mut frames) = (Cutter::default(), Vec::new());
        for piece in stream.chunks(size) {
            cutter.push(piece);
            while let Some(frame) = cutter.poll()? {
                frames.push(frame);
            }
        }
        assert_eq!(cutter.lane(), Some(lane));
        Ok(frames)
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(body.len())
            .unwrap_or(0)
            .to_le_bytes()
            .to_vec();
        frame.extend([1, 0, 6, 0]);
        frame.extend(crc32c::crc32c(body).to_le_bytes());
        frame.extend(body);
        frame
    }

    #[test]
    fn a_hello_is_as_the_document_says() {
        let frame = [
            8, 0, 0, 0, 1, 0, 1, 0, 0xad, 0xcf, 0x14, 0xc5, 1, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(Lane::Bulk.hello(), &frame[..]);
    }

    #[test]
    fn frames_are_cut_whatever_the_pieces_they_come_in() {
        let frames = [frame(b"one"), frame(b""), frame(&[7; 3000])];
        let stream = frames.concat();
        for size in [1, 2, 11, 12, 13, 1200, 5000] {
            for lane in Lane::ALL {
                let found = cut(lane, &stream, size).expect("a good stream");
                assert_eq!(found, frames, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_stream_without_a_hello_or_with_a_frame_that_is_too_long_ends_at_once() {
        let mut cutter = Cutter::default();
        cutter.push(&[8, 0, 0, 0, 2]);
        assert_eq!(cutter.poll(), Err(StreamError::NoHello));

        let huge = [0xff, 0xff, 0xff, 0xff, 1, 0, 2, 0, 0, 0, 0, 0];
        let error = cut(Lane::Raft, &huge, 100).expect_err("4 GiB");
        assert!(matches!(
            error,
            StreamError::Frame(PeerError::TooLong { .. })
        ));
        let other = [0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 0, 0];
        let error = cut(Lane::Raft, &other, 100).expect_err("another version");
        assert_eq!(error, StreamError::Frame(PeerError::Version { found: 2 }));
    }
}
