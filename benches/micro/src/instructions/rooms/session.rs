//! One connection's conversation: from chunks of a stream to frames, and
//! replies into the buffer the transport takes them from.

use core::hint::black_box;

use bytes::Bytes;
use pinion_session::{Admission, Session};
use pinion_types::{PartitionId, Version};
use pinion_wire::message::{Ack, CacheGet, Handle, Publish};
use pinion_wire::{Request, reply};

use super::{KEY, OPERATIONS, VALUE, batch, repeat};

const STREAM: u64 = 0;

fn session() -> Session {
    let mut session = Session::default();
    assert!(session.open_stream(STREAM, false), "the first stream");
    session
}

/// Takes every whole frame and answers it; the transport takes the replies.
/// Reader and replies are out of the session meanwhile, as the core does it.
fn answer_all(session: &mut Session, chunk: Bytes) -> u64 {
    let state = session.stream(STREAM).expect("it is open");
    state.reader.push(chunk);
    let mut reader = core::mem::take(&mut state.reader);
    let mut replies = core::mem::take(&mut state.replies);
    let mut answered = 0;
    while let Some(frame) = reader.next_frame().expect("well formed") {
        let request = Request::decode(frame.header.opcode, frame.body).expect("well formed");
        black_box(&request);
        let correlation = frame.header.correlation;
        assert!(session.in_flight.admit(correlation) == Admission::Admitted);
        reply::cache_value(replies.tail(), correlation, Version(9), 0, false, |out| {
            out.extend_from_slice(black_box(&VALUE));
        })
        .expect("a small value");
        answered += 1;
    }
    let taken = black_box(replies.pending()).len();
    replies.consume(taken);
    let state = session.stream(STREAM).expect("it is open");
    state.reader = reader;
    state.replies = replies;
    answered
}

pub(super) fn requests_in_one_chunk() -> u64 {
    const PER_CHUNK: u32 = 16;
    let mut chunk = Vec::new();
    for correlation in 0..PER_CHUNK {
        let get = Request::CacheGet(CacheGet {
            handle: Handle(8),
            key: KEY,
        });
        get.encode(correlation, &mut chunk).expect("small");
    }
    let chunk = Bytes::from(chunk);
    let mut session = session();
    assert_eq!(
        answer_all(&mut session, chunk.clone()),
        u64::from(PER_CHUNK)
    );
    let mut answered = 0;
    repeat(OPERATIONS, || {
        answered += answer_all(&mut session, chunk.clone());
    });
    assert_eq!(answered, OPERATIONS * u64::from(PER_CHUNK));
    answered
}

/// The frame is gathered, because no chunk holds all of it.
pub(super) fn request_in_two_chunks() -> u64 {
    let records = batch(1);
    let publish = Request::Publish(Publish {
        handle: Handle(8),
        partition: PartitionId(0),
        ack: Ack::Leader,
        producer: None,
        expected_offset: None,
        record_count: 1,
        records: &records,
    });
    let mut frame = Vec::new();
    publish.encode(7, &mut frame).expect("small");
    let front = Bytes::from(frame);
    let (front, back) = (
        front.slice(..front.len() / 2),
        front.slice(front.len() / 2..),
    );
    let mut session = session();
    let mut answered = 0;
    let mut operation = || {
        let early = answer_all(&mut session, front.clone());
        assert!(early == 0, "half a frame is none");
        answered += answer_all(&mut session, back.clone());
    };
    operation();
    repeat(OPERATIONS, operation);
    assert_eq!(answered, OPERATIONS + 1);
    OPERATIONS
}
