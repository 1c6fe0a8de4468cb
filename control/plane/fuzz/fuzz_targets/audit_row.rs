//! Rows of the audit log, one after the other: no bytes make the decoder panic, and
//! whatever decodes encodes to the bytes it came from.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion_plane::AuditRow;

fuzz_target!(|data: &[u8]| {
    let mut left = data;
    while !left.is_empty() {
        match AuditRow::decode(left) {
            Ok((row, rest)) => {
                let read = &left[..left.len() - rest.len()];
                assert!(!read.is_empty(), "a row of no bytes would be read for ever");
                let mut again = Vec::new();
                row.encode(&mut again);
                assert_eq!(again, read);
                left = rest;
            }
            Err(error) => {
                drop(error.to_string());
                return;
            }
        }
    }
});
