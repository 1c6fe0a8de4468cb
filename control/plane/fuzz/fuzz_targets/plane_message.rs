//! One frame between nodes, as it is and with its length and checksum made right: no
//! bytes make the decoder panic, and whatever decodes encodes to the bytes it came from.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion_plane::PlaneMessage;

/// Bytes of a frame's head: length, version, kind, checksum (docs/peer-protocol.md §1).
const HEAD: usize = 12;

fuzz_target!(|data: &[u8]| {
    one(data);
    let Some(body) = data.get(HEAD..) else {
        return;
    };
    let mut frame = data.to_vec();
    frame[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    frame[4..6].copy_from_slice(&1u16.to_le_bytes());
    frame[8..12].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    one(&frame);
});

fn one(frame: &[u8]) {
    match PlaneMessage::decode(frame) {
        Ok(message) => {
            let mut again = Vec::new();
            message.encode(&mut again);
            assert_eq!(again, frame);
        }
        Err(error) => drop(error.to_string()),
    }
}
