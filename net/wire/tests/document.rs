//! `docs/wire-protocol.md` says what the code does: its tables of errors,
//! opcodes, fields and limits are held against the code.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use pinion_types::ErrorCode;
use pinion_types::Refusal;
use pinion_wire::opcode;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document() -> String {
    fs::read_to_string(root().join("docs/wire-protocol.md")).unwrap()
}

/// Rows of the table that follows a comment beginning with `mark`, head left out.
fn table(mark: &str) -> Vec<Vec<String>> {
    let text = document();
    let (_, after) = text.split_once(&format!("<!-- {mark}:")).unwrap();
    after
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

#[test]
fn the_error_table_is_the_table_of_the_code() {
    let expected: Vec<Vec<String>> = ErrorCode::ALL
        .iter()
        .map(|code| {
            vec![
                (*code as u16).to_string(),
                format!("{code:?}"),
                format!("{:?}", code.retry()),
                Refusal::new(*code).retry_after_ms.to_string(),
                code.advice().to_owned(),
            ]
        })
        .collect();
    let mut found = table("errors");
    for row in &mut found {
        // Which facts come along is not in the code's table.
        row.remove(4);
    }
    assert_eq!(found, expected);
}

#[test]
fn the_request_table_is_the_table_of_the_code() {
    let name_of = |reply: &u8| {
        let found = opcode::REPLIES.iter().find(|(opcode, _)| opcode == reply);
        found.unwrap().1
    };
    let expected: Vec<Vec<String>> = opcode::REQUESTS
        .iter()
        .map(|entry| {
            let replies: Vec<_> = entry.replies.iter().map(name_of).collect();
            let replies = if replies.is_empty() {
                "-".to_owned()
            } else {
                replies.join(", ")
            };
            vec![
                format!("{:#04x}", entry.opcode),
                entry.name.to_owned(),
                replies,
                if entry.idempotent { "yes" } else { "no" }.to_owned(),
                format!("{:?}", entry.needs),
            ]
        })
        .collect();
    assert_eq!(table("requests"), expected);
}

#[test]
fn the_reply_and_delivery_tables_are_those_of_the_code() {
    for (mark, code) in [
        ("replies", opcode::REPLIES),
        ("deliveries", opcode::DELIVERIES),
    ] {
        let expected: Vec<Vec<String>> = code
            .iter()
            .map(|(opcode, name)| vec![format!("{opcode:#04x}"), (*name).to_owned()])
            .collect();
        assert_eq!(table(mark), expected, "{mark}");
    }
}

#[test]
fn every_message_has_a_section_of_its_own() {
    let text = document();
    let requests = opcode::REQUESTS.iter().map(|e| (e.opcode, e.name));
    let others = opcode::REPLIES.iter().chain(opcode::DELIVERIES).copied();
    for (opcode, name) in requests.chain(others) {
        let heading = format!("\n### {name} {opcode:#04x}\n");
        assert_eq!(text.matches(&heading).count(), 1, "{heading}");
    }
}

/// Types and names of the table under a message's heading.
fn fields_of(text: &str, message: &str) -> Vec<(String, String)> {
    let (_, after) = text.split_once(&format!("\n### {message} 0x")).unwrap();
    let section = after.split("\n##").next().unwrap();
    // Tables after the first describe parts that other messages share.
    let table = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    table
        .skip(2)
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let kind = cells.next().unwrap().to_owned();
            (kind, cells.next().unwrap().to_owned())
        })
        .collect()
}

/// The document lists the fields of a message in the order in which its first
/// vector has them.
#[test]
fn the_vectors_have_the_fields_of_the_document_in_its_order() {
    let text = document();
    for file in ["requests.json", "replies.json", "deliveries.json"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("vectors")
            .join(file);
        let vectors: Vec<Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        for vector in vectors {
            let message = vector["fields"]["message"].as_str().unwrap();
            let names: Vec<String> = vector["hex"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line.as_str().unwrap().split_once(' ').unwrap().1.to_owned())
                .collect();
            let mut at = 5;
            for (kind, field) in fields_of(&text, message) {
                let fixed = matches!(kind.as_str(), "u8" | "u16" | "u32" | "u64" | "i64" | "bool");
                let optional = ["producer", "sequence", "expected_offset"].contains(&&*field);
                if !fixed || field.ends_with("count") && field != "record_count" {
                    continue;
                }
                let found = names[at..].iter().position(|name| {
                    let first = name.split(' ').next().unwrap();
                    first == field
                });
                match found {
                    Some(position) => at += position + 1,
                    None => assert!(optional, "{message}: {field} is not in {names:?}"),
                }
            }
        }
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    use pinion_types::limits;
    let text = document();
    let (_, after) = text.split_once("## 15. Limits").unwrap();
    let numbers: Vec<(String, u64)> = after
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| What"))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let digits: String = cells[1]
                .chars()
                .take_while(|c| c.is_ascii_digit() || *c == ' ')
                .filter(char::is_ascii_digit)
                .collect();
            (cells[0].to_owned(), digits.parse().unwrap())
        })
        .collect();
    let expected: Vec<(&str, u64)> = vec![
        ("body of a frame", limits::FRAME_BYTES_MAX.into()),
        ("request streams", limits::REQUEST_STREAMS_MAX.into()),
        ("requests awaiting a reply", limits::IN_FLIGHT_MAX.into()),
        (
            "subscriptions and watches of a connection",
            limits::SUBSCRIPTIONS_MAX.into(),
        ),
        ("handles of a connection", limits::HANDLES_MAX.into()),
        ("token", limits::TOKEN_BYTES_MAX.into()),
        ("records of a batch", limits::BATCH_RECORDS_MAX.into()),
        (
            "record without its length field",
            limits::RECORD_BYTES_MAX.into(),
        ),
        ("record key, cache key", limits::KEY_BYTES_MAX.into()),
        ("headers of a record", limits::HEADERS_MAX as u64),
        ("cache value", limits::CACHE_VALUE_BYTES_MAX.into()),
        (
            "keys of a multi-get, items of a multi-set",
            limits::CACHE_MULTI_MAX.into(),
        ),
        ("items of a scan page", limits::SCAN_ITEMS_MAX.into()),
        ("partitions of a resource", limits::SHARDS_MAX.into()),
        ("terms of a filter", limits::FILTER_TERMS_MAX as u64),
        (
            "bytes of a filter",
            pinion_wire::message::FILTER_BYTES_MAX as u64,
        ),
        ("wait of a get-or-lease", limits::LEASE_WAIT_MS_MAX.into()),
        ("cursors of a partition", limits::CURSORS_MAX.into()),
        ("name of a cursor or group", limits::GROUP_BYTES_MAX.into()),
        ("groups of a queue", limits::QUEUE_GROUPS_MAX.into()),
        ("messages of a take", limits::QUEUE_TAKE_MAX.into()),
        (
            "tokens or ids of a request",
            limits::QUEUE_TOKENS_MAX.into(),
        ),
        ("messages of a page", limits::QUEUE_PAGE_MAX.into()),
        ("wait of a take", limits::QUEUE_WAIT_MS_MAX.into()),
        (
            "reservation of a message",
            limits::QUEUE_LEASE_MS_MAX.into(),
        ),
        (
            "delay or time to live of a message",
            limits::QUEUE_TIME_MS_MAX,
        ),
        ("error text of a nack", limits::QUEUE_ERROR_BYTES_MAX.into()),
        (
            "records staged by an append session",
            limits::STAGED_RECORDS_MAX.into(),
        ),
        (
            "bytes staged by an append session",
            limits::STAGED_BYTES_MAX.into(),
        ),
    ];
    let found: Vec<(&str, u64)> = numbers.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_examples_of_the_document_are_right() {
    let text = document();
    // Section 3: the hash.
    assert_eq!(pinion_types::route::partition_of(b"a", 4).0, 3);
    assert!(text.contains("with 4 shards the key `a` is in partition 3"));
    // Section 12: the steering arithmetic, as the document writes it.
    let core = |word: u32| {
        let mixed = (word ^ 0x0102_0304).wrapping_mul(0x9e37_79b1);
        ((mixed >> 16) * 4) >> 16
    };
    assert_eq!((core(0), core(0xdead_beef)), (3, 2));
    assert!(text.contains(
        "begins `00 00 00 00` is\non core 3 and one that begins `de ad be ef` on core 2"
    ));
}
