//! One frame between members, as it is and with its length and checksum made right:
//! no bytes make the decoder panic, and whatever decodes encodes to the bytes it came
//! from.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion_raft_group::{FRAME_HEAD, PeerMessage};

fuzz_target!(|data: &[u8]| {
    one(data);
    let Some(body) = data.get(FRAME_HEAD..) else {
        return;
    };
    let mut frame = data.to_vec();
    frame[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    frame[4..6].copy_from_slice(&1u16.to_le_bytes());
    frame[8..12].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    one(&frame);
});

fn one(frame: &[u8]) {
    match PeerMessage::decode(frame) {
        Ok(message) => {
            let mut again = Vec::new();
            message.encode(&mut again);
            assert_eq!(again, frame);
        }
        Err(error) => drop(error.to_string()),
    }
}
