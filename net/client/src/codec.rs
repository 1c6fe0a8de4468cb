//! The edge to `pinion-wire`: frames in, borrowed messages out.

use bytes::Bytes;
use pinion_types::SubscriptionId;
use pinion_types::block::FRAME_HEADER_BYTES;
use pinion_wire::{Delivery, Reply, Request};

use crate::error::{ProtocolError, RequestError};
use crate::frames::Frame;

/// A request as a frame, its correlation id still 0.
///
/// # Errors
/// A field is over its limit; nothing is to be sent.
pub(crate) fn encode(request: &Request<'_>) -> Result<Vec<u8>, RequestError> {
    let body = match request {
        Request::Publish(publish) => publish.records.len(),
        Request::AppendStage(stage) => stage.records.len(),
        Request::QueuePut(put) => put.records.len(),
        Request::CacheSet(set) => set.value.len() + set.key.len(),
        Request::Ping(ping) => ping.payload.len(),
        _ => 64,
    };
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + body + 64);
    request.encode(0, &mut out)?;
    Ok(out)
}

/// Puts the correlation id into an encoded frame.
pub(crate) fn set_correlation(frame: &mut [u8], correlation: u32) {
    frame[8..FRAME_HEADER_BYTES].copy_from_slice(&correlation.to_le_bytes());
}

/// The reply in a frame.
pub(crate) fn reply(frame: &Frame) -> Result<Reply<'_>, ProtocolError> {
    Reply::decode(frame.opcode, body(frame)).map_err(|_| ProtocolError::Malformed {
        opcode: frame.opcode,
    })
}

/// The delivery in a frame.
pub(crate) fn delivery(frame: &Frame) -> Result<Delivery<'_>, ProtocolError> {
    Delivery::decode(frame.opcode, body(frame)).map_err(|_| ProtocolError::Malformed {
        opcode: frame.opcode,
    })
}

/// The first frame of a delivery stream.
pub(crate) fn head(frame: &Frame) -> Result<SubscriptionId, ProtocolError> {
    match delivery(frame)? {
        Delivery::Head(subscription) => Ok(subscription),
        _ => Err(ProtocolError::Unexpected {
            opcode: frame.opcode,
        }),
    }
}

/// A part of a frame that outlives the borrow, sharing its bytes.
pub(crate) fn share(frame: &Frame, part: &[u8]) -> Bytes {
    frame.bytes.slice_ref(part)
}

/// A reply that does not answer the request.
pub(crate) const fn unexpected(frame: &Frame) -> RequestError {
    RequestError::Protocol(ProtocolError::Unexpected {
        opcode: frame.opcode,
    })
}

/// A reply whose fields contradict each other.
pub(crate) const fn malformed(frame: &Frame) -> RequestError {
    RequestError::Protocol(ProtocolError::Malformed {
        opcode: frame.opcode,
    })
}

fn body(frame: &Frame) -> &[u8] {
    &frame.bytes[FRAME_HEADER_BYTES..]
}
