//! The wire protocol is spoken over QUIC, on the UDP port of the same number. Who speaks it
//! over TCP is told so in its own words.

use pinion_types::block::FRAME_HEADER_BYTES;
use pinion_types::{ErrorCode, Refusal};
use pinion_wire::FrameHeader;
use pinion_wire::message::{MAGIC, Reply};
use pinion_wire::opcode;

/// As much of a connection as tells a HELLO, which every conversation begins with.
pub(crate) const BEGIN_BYTES: usize = FRAME_HEADER_BYTES + MAGIC.len();

/// What to answer to a connection that begins so, if it is with a HELLO: nothing that is TLS
/// or HTTP has its header. What there is of the body is looked at, too.
pub(crate) fn refuse(begin: &[u8]) -> Option<Vec<u8>> {
    let (header, body) = begin.split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let header = FrameHeader::decode(header).ok()?;
    let seen = body.len().min(MAGIC.len());
    if header.opcode != opcode::HELLO || body[..seen] != MAGIC[..seen] {
        return None;
    }
    let mut frame = Vec::new();
    let refusal = Refusal::new(ErrorCode::Unsupported);
    let encoded = Reply::Error(refusal).encode(header.correlation, &mut frame);
    encoded.ok().map(|()| frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_wire::message::{Hello, Request};

    fn hello(token: &[u8]) -> Vec<u8> {
        let hello = Hello {
            magic: MAGIC,
            version_min: 1,
            version_max: 1,
            capabilities: 0,
            token,
            client_name: "test",
        };
        let mut frame = Vec::new();
        let encoded = Request::Hello(hello).encode(0x0102_0304, &mut frame);
        encoded.expect("a short token fits");
        frame
    }

    #[test]
    fn a_hello_is_known_however_long_it_is_and_nothing_else_is() {
        // Some of them begin as TLS or HTTP do.
        let mut firsts = Vec::new();
        for len in 0..600 {
            let frame = hello(&vec![b'x'; len]);
            firsts.push(frame[0]);
            for begin in [FRAME_HEADER_BYTES, BEGIN_BYTES] {
                let answer = refuse(&frame[..begin]).expect("it is one");
                let (header, body) = answer.split_at(FRAME_HEADER_BYTES);
                let header = FrameHeader::decode(header.first_chunk().expect("whole"));
                let header = header.expect("a frame");
                assert_eq!(header.correlation, 0x0102_0304);
                let reply = Reply::decode(header.opcode, body);
                let Ok(Reply::Error(refusal)) = reply else {
                    panic!("{reply:?}")
                };
                assert_eq!(refusal.code, ErrorCode::Unsupported);
            }
        }
        assert!(firsts.contains(&0x16) && firsts.contains(&b'G'));
        let whole = hello(b"token");
        for cut in 0..FRAME_HEADER_BYTES {
            assert_eq!(refuse(&whole[..cut]), None);
        }
        let other = |at: usize, byte| {
            let mut begin = whole[..BEGIN_BYTES].to_vec();
            begin[at] = byte;
            refuse(&begin)
        };
        assert!(other(0, 0x16).is_some());
        for (at, byte) in [
            (3, 1),
            (4, opcode::PING),
            (5, 1),
            (6, 1),
            (7, 1),
            (15, b'2'),
        ] {
            assert_eq!(other(at, byte), None, "{byte} at {at}");
        }
        for begin in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcde",
        ] {
            assert_eq!(refuse(begin), None);
        }
    }
}
