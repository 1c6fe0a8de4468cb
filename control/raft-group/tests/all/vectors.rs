//! The golden bytes of `vectors/`, derived from `docs/raft-format.md` by a script
//! that shares nothing with the code: written and read as they say.

use pinion_raft_group::format::{EntryBody, FormatError, HardBody, SnapshotState, TailState};
use pinion_raft_group::{MemberId, ProposalId};
use serde_json::Value;

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn bytes_of(vector: &Value) -> Vec<u8> {
    let lines = vector["hex"].as_array().unwrap().iter();
    lines
        .flat_map(|line| unhex(line.as_str().unwrap().split_once(' ').unwrap().0))
        .collect()
}

fn number(of: &Value, field: &str) -> u64 {
    of[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field}: {of}"))
}

fn numbers(of: &Value) -> Vec<u64> {
    let numbers = of.as_array().unwrap().iter();
    numbers.map(|number| number.as_u64().unwrap()).collect()
}

fn text(of: &Value, field: &str) -> Vec<u8> {
    unhex(of[field].as_str().unwrap())
}

fn entry<'a>(of: &Value, data: &'a [u8]) -> EntryBody<'a> {
    let (member, number_of) = (number(of, "member"), number(of, "number"));
    EntryBody {
        term: number(of, "term"),
        proposal: (member != 0).then_some(ProposalId {
            member: MemberId(member),
            number: number_of,
        }),
        members: of["members"].as_bool().unwrap_or(false),
        data,
    }
}

fn hard(of: &Value) -> HardBody {
    HardBody {
        term: number(of, "term"),
        vote: number(of, "vote"),
        commit: number(of, "commit"),
    }
}

#[test]
fn vectors_hold() {
    let bodies = vectors("bodies");
    for vector in &bodies {
        let (name, fields, bytes) = (&vector["name"], &vector["fields"], bytes_of(vector));
        match vector["kind"].as_str().unwrap() {
            "entry" => {
                let data = text(fields, "command");
                let body = entry(fields, &data);
                assert_eq!([&body.head()[..], body.data].concat(), bytes, "{name}");
                assert_eq!(EntryBody::decode(&bytes), Ok(body), "{name}");
            }
            "hard" => {
                let body = hard(fields);
                let after = numbers(&fields["after"]);
                let after = (after[0], after[1]);
                assert_eq!(body.encode(after)[..], bytes, "{name}");
                assert_eq!(HardBody::decode(&bytes), Ok((body, after)), "{name}");
            }
            "snapshot" => {
                let machine = text(fields, "machine");
                let state = SnapshotState {
                    cluster: text(fields, "cluster").try_into().unwrap(),
                    member: MemberId(number(fields, "member")),
                    index: number(fields, "index"),
                    term: number(fields, "term"),
                    voters: numbers(&fields["voters"]),
                    learners: numbers(&fields["learners"]),
                    machine: &machine,
                };
                assert_eq!(state.encode(), bytes, "{name}");
                assert_eq!(SnapshotState::decode(&bytes), Ok(state), "{name}");
            }
            "tail" => {
                let before = numbers(&fields["before"]);
                let entries = fields["entries"].as_array().unwrap();
                let data: Vec<Vec<u8>> = entries.iter().map(|e| text(e, "command")).collect();
                let entries = entries.iter().zip(&data);
                let state = TailState {
                    before: (before[0], before[1]),
                    hard: hard(fields),
                    entries: entries.map(|(of, data)| entry(of, data)).collect(),
                };
                assert_eq!(state.encode(), bytes, "{name}");
                assert_eq!(TailState::decode(&bytes), Ok(state), "{name}");
            }
            kind => panic!("{name}: kind {kind}"),
        }
    }
    let refused = vectors("refused");
    for vector in &refused {
        let (name, bytes) = (&vector["name"], bytes_of(vector));
        let error = match vector["kind"].as_str().unwrap() {
            "entry" => EntryBody::decode(&bytes).map(drop),
            "hard" => HardBody::decode(&bytes).map(drop),
            "snapshot" => SnapshotState::decode(&bytes).map(drop),
            "tail" => TailState::decode(&bytes).map(drop),
            kind => panic!("{name}: kind {kind}"),
        };
        let found = match error.unwrap_err() {
            FormatError::Short { .. } => "short",
            FormatError::Long { .. } => "long",
            FormatError::Version { found: 2 } => "version",
            FormatError::Version { .. } => "another version",
            FormatError::Field { name } => name,
        };
        assert_eq!(found, vector["error"].as_str().unwrap(), "{name}");
    }
    println!("vectors: {}", bodies.len() + refused.len());
}
