//! What every target checks: whatever decodes is walked to its end and encodes
//! to the bytes it came from; whatever does not is a typed error that can itself
//! be sent.

#![allow(dead_code)] // Each target uses its part.

use pinion_types::block::{Record, check_records, records};
use pinion_wire::frame::{self, Split};
use pinion_wire::message::{Fetch, Filter, FilterBuf, Subscribe};
use pinion_wire::{DecodeError, Delivery, Reply, Request};

const CORRELATION: u32 = 0x0bad_cafe;

/// The body in `out`, which must be one whole frame.
fn body_of(out: &[u8]) -> (u8, &[u8]) {
    match frame::split(out) {
        Ok(Split::Frame {
            header,
            body,
            consumed,
        }) => {
            assert_eq!(consumed, out.len());
            (header.opcode, body)
        }
        other => panic!("encoded {other:?}"),
    }
}

fn refused(error: DecodeError) {
    let refusal = error.refusal();
    assert_eq!(refusal.code, error.code());
    let mut out = Vec::new();
    Reply::Error(refusal)
        .encode(CORRELATION, &mut out)
        .expect("every refusal can be sent");
    let (opcode, body) = body_of(&out);
    assert_eq!(Reply::decode(opcode, body), Ok(Reply::Error(refusal)));
}

pub fn request(opcode: u8, body: &[u8]) {
    let request = match Request::decode(opcode, body) {
        Ok(request) => request,
        Err(error) => return refused(error),
    };
    let mut out = Vec::new();
    request
        .encode(CORRELATION, &mut out)
        .expect("what decodes can be encoded");
    assert_eq!(body_of(&out), (opcode, body), "one encoding");
    assert!(pinion_wire::opcode::lookup(opcode).is_some());
    let _ = (request.needs(), request.is_idempotent());
    let _ = format!("{request:?}");
    match request {
        Request::Publish(publish) => {
            let _ = check_records(publish.records, publish.record_count);
        }
        Request::Subscribe(Subscribe { filter, .. }) | Request::Fetch(Fetch { filter, .. }) => {
            compare(filter, body);
        }
        _ => {}
    }
}

/// A filter gives the same answer from its own bytes, for any headers.
fn compare(filter: Filter<'_>, headers: &[u8]) {
    let kept = FilterBuf::from(filter);
    for start in 0..headers.len().min(64) {
        let record = Record {
            key: b"",
            headers: &headers[start..],
            value: b"",
        };
        assert_eq!(filter.matches(&record), kept.matches(&record));
    }
    assert_eq!(Filter::parse(filter.as_bytes()), Ok(filter));
}

pub fn reply(opcode: u8, body: &[u8]) {
    let reply = match Reply::decode(opcode, body) {
        Ok(reply) => reply,
        Err(error) => return refused(error),
    };
    let mut out = Vec::new();
    reply
        .encode(CORRELATION, &mut out)
        .expect("what decodes can be encoded");
    assert_eq!(body_of(&out), (opcode, body), "one encoding");
    let _ = format!("{reply:?}");
    if let Reply::Fetched(fetched) = reply {
        for block in fetched.blocks().flatten() {
            records(block.1).for_each(drop);
        }
    }
}

pub fn delivery(opcode: u8, body: &[u8]) {
    let delivery = match Delivery::decode(opcode, body) {
        Ok(delivery) => delivery,
        Err(error) => return refused(error),
    };
    let mut out = Vec::new();
    delivery
        .encode(&mut out)
        .expect("what decodes can be encoded");
    assert_eq!(body_of(&out), (opcode, body), "one encoding");
    let _ = format!("{delivery:?}");
    if let Delivery::Records(header, encoded) = delivery {
        let _ = check_records(encoded, header.record_count);
    }
}

/// A stream gives the same frames, and ends the same way, however it is cut.
pub fn stream(bytes: &[u8]) {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        match frame::split(rest) {
            Err(error) => {
                assert!(error.is_fatal());
                return refused(error);
            }
            Ok(Split::NeedMore(missing)) => {
                assert!(missing > 0);
                return;
            }
            Ok(Split::Frame {
                header,
                body,
                consumed,
            }) => {
                let early = &rest[..consumed - 1];
                assert!(matches!(frame::split(early), Ok(Split::NeedMore(_))));
                assert_eq!(rest[..12], header.encode());
                request(header.opcode, body);
                reply(header.opcode, body);
                delivery(header.opcode, body);
                at += consumed;
            }
        }
    }
}
