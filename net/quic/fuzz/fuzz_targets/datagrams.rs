//! Anything at all arrives at a server endpoint. `cargo fuzz run datagrams` from
//! `net/quic`, or a plain build with sanitizer-coverage flags. The same harness runs
//! bounded under `cargo test` (`tests/malformed.rs`).
#![no_main]

#[path = "../harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    let reached = harness::run(script);
    std::hint::black_box(reached.stream_bytes);
});
