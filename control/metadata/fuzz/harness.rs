//! What every target checks: no bytes make a decoder panic; whatever decodes
//! means the same after it was written again; whatever was restored or applied
//! leaves a state without contradictions.
//!
//! A checksum stops almost every input at the door, so each input is also read
//! with its header made right: then what is refused is refused for what it says.

#![allow(dead_code)] // Each target uses its part.

use std::sync::LazyLock;

use pinion_metadata::{Envelope, HEADER_BYTES, MetaError, Metadata};

/// Inputs are cut here: what is beyond says nothing new.
const BYTES_MAX: usize = 64 << 10;

/// A state with a tenant, namespaces and remembered requests in it: the golden
/// snapshot that has everything.
static STATE: LazyLock<Metadata> = LazyLock::new(|| {
    let bytes = include_bytes!("corpus/snapshot/everything");
    Metadata::restore(bytes).expect("it is a golden one")
});

/// The bytes with a header that is right but for `meta`, which is a snapshot's
/// version and stays.
fn sealed(magic: &[u8; 4], bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes[..bytes.len().min(BYTES_MAX)].to_vec();
    bytes.resize(bytes.len().max(HEADER_BYTES), 0);
    let (header, archive) = bytes.split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(magic);
    header[4..8].copy_from_slice(&[1, 0, 0, 0]);
    header[8..16].copy_from_slice(&(archive.len() as u64).to_le_bytes());
    header[24..28].copy_from_slice(&crc32c::crc32c(archive).to_le_bytes());
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub fn command(bytes: &[u8]) {
    one_command(bytes);
    let mut bytes = bytes.to_vec();
    if let Some(meta) = bytes.get_mut(16..24) {
        meta.fill(0);
    }
    one_command(&sealed(b"PMC1", &bytes));
}

fn one_command(bytes: &[u8]) {
    let envelope = match Envelope::decode(bytes) {
        Ok(envelope) => envelope,
        Err(error) => return drop(error.to_string()),
    };
    match envelope.encode() {
        Ok(again) => assert_eq!(Envelope::decode(&again).as_ref(), Ok(&envelope)),
        Err(error) => assert!(matches!(error, MetaError::TooLarge { .. }), "{error}"),
    }
    let mut state = STATE.clone();
    let index = state.applied_index() + 1;
    let applied = state.apply(index, &envelope);
    state.check().expect("a command breaks nothing");
    if let Err(error) = applied.result {
        drop(error.to_string());
        assert_eq!(state.version(), STATE.version());
    }
    same_again(&state);
}

pub fn snapshot(bytes: &[u8]) {
    one_snapshot(bytes);
    one_snapshot(&sealed(b"PMS1", bytes));
}

fn one_snapshot(bytes: &[u8]) {
    match Metadata::restore(bytes) {
        Ok(state) => same_again(&state),
        Err(error) => drop(error.to_string()),
    }
}

fn same_again(state: &Metadata) {
    let bytes = state.snapshot().encode();
    let restored = Metadata::restore(&bytes).expect("it was checked");
    assert_eq!(restored.state_hash(), state.state_hash());
    assert_eq!(restored.snapshot().encode(), bytes, "one encoding");
}
