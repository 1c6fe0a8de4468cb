//! The golden frames of `vectors/`, derived from `docs/peer-protocol.md` by a script
//! that shares nothing with the code.

use pinion_raft_group::format::FormatError;
use pinion_raft_group::{FRAME_HEAD, PeerError, PeerMessage};
use serde_json::Value;

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes_of(vector: &Value) -> Vec<u8> {
    let lines = vector["hex"].as_array().unwrap().iter();
    let hex: String = lines
        .map(|line| line.as_str().unwrap().split_once(' ').unwrap().0)
        .collect();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn frame_vectors_hold() {
    let frames = vectors("frames");
    for vector in &frames {
        let (name, bytes) = (&vector["name"], bytes_of(vector));
        let head = bytes.first_chunk::<FRAME_HEAD>().unwrap();
        assert_eq!(PeerMessage::frame_len(head), Ok(bytes.len()), "{name}");
        let message = PeerMessage::decode(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        if let PeerMessage::Raft(messages) = &message {
            assert_eq!(messages.len() as u64, vector["messages"].as_u64().unwrap());
        }
        let mut again = vec![1, 2, 3];
        message.encode(&mut again);
        assert_eq!(again[3..], bytes, "{name}");
    }
    let refused = vectors("refused_frames");
    for vector in &refused {
        let name = &vector["name"];
        let error = PeerMessage::decode(&bytes_of(vector))
            .map(drop)
            .unwrap_err();
        let found = match error {
            PeerError::Short { .. } => "short",
            PeerError::TooLong { .. } => "long",
            PeerError::Version { found: 2 } => "version",
            PeerError::Version { .. } => "another version",
            PeerError::Kind { .. } => "kind",
            PeerError::Checksum => "checksum",
            PeerError::Type { .. } => "type",
            PeerError::Body(FormatError::Short { .. }) => "body short",
            PeerError::Body(FormatError::Long { .. }) => "body long",
            PeerError::Body(FormatError::Field { name }) => name,
            PeerError::Body(FormatError::Version { .. }) => "body version",
        };
        assert_eq!(found, vector["error"].as_str().unwrap(), "{name}");
    }
    println!("vectors: {}", frames.len() + refused.len());
}
