//! The bodies and states of the group's log: no bytes make a decoder panic, and
//! whatever decodes encodes to the bytes it came from.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion_raft_group::format::{EntryBody, HardBody, SnapshotState, TailState};

fuzz_target!(|data: &[u8]| {
    match EntryBody::decode(data) {
        Ok(body) => assert_eq!([&body.head()[..], body.data].concat(), data),
        Err(error) => drop(error.to_string()),
    }
    match HardBody::decode(data) {
        Ok((body, after)) => assert_eq!(body.encode(after)[..], *data),
        Err(error) => drop(error.to_string()),
    }
    match SnapshotState::decode(data) {
        Ok(state) => assert_eq!(state.encode(), data),
        Err(error) => drop(error.to_string()),
    }
    match TailState::decode(data) {
        Ok(state) => assert_eq!(state.encode(), data),
        Err(error) => drop(error.to_string()),
    }
});
