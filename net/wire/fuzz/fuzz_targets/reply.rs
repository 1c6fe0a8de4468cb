//! The first byte is the opcode, the rest the body of a reply.

#![no_main]

#[path = "../harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((opcode, body)) = data.split_first() {
        harness::reply(*opcode, body);
    }
});
