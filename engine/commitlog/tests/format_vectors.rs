//! The golden bytes of `vectors/`, derived from `docs/storage-format.md` by a
//! script that shares nothing with the engine: written and read as they say.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use pinion_commitlog::format::{
    Chain, CheckpointHeader, CheckpointTrailer, CheckpointWriter, Directory, FooterWriter,
    FormatError, GroupVerdict, GroupWriter, IndexEntry, RecordFlags, SegmentHeader, SegmentKey,
    SegmentRef, Summary, check_group, decode_entries, decode_footer, decode_trailer,
};
use pinion_commitlog::{BLOCK, BlockBuf, LogId, Lsn, RecordHead};
use pinion_types::{PartitionId, ResourceId, WallMs};
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

/// The bytes of a vector: each line is bytes, a space, and what they are;
/// `00*440` is a byte and how often.
fn bytes_of(vector: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in vector["hex"].as_array().unwrap() {
        let (hex, _) = line.as_str().unwrap().split_once(' ').unwrap();
        match hex.split_once('*') {
            Some((byte, count)) => {
                let byte = unhex(byte)[0];
                bytes.resize(bytes.len() + count.parse::<usize>().unwrap(), byte);
            }
            None => bytes.extend(unhex(hex)),
        }
    }
    bytes
}

fn number(of: &Value, field: &str) -> u64 {
    of[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field}: {of}"))
}

fn chain(of: &Value) -> Chain {
    Chain {
        sequence: number(of, "sequence"),
        lsn: Lsn(number(of, "first_lsn")),
        previous_crc: number(of, "previous_crc") as u32,
    }
}

fn segment_key(of: &Value) -> SegmentKey {
    SegmentKey {
        number: number(of, "segment"),
        salt: number(of, "salt"),
    }
}

/// Where they part is easier to read than two whole blocks.
fn same_bytes(name: &Value, found: &[u8], expected: &[u8]) {
    let part = found.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(part, None, "{name}: the first other byte");
    assert_eq!(found.len(), expected.len(), "{name}");
}

#[test]
fn vectors_hold_for_segment_headers() {
    for vector in vectors("segments") {
        let (bytes, fields) = (bytes_of(&vector), &vector["fields"]);
        let header = SegmentHeader {
            store: unhex(fields["store"].as_str().unwrap()).try_into().unwrap(),
            log: LogId(number(fields, "log") as u16),
            number: number(fields, "number"),
            salt: number(fields, "salt"),
            chain: chain(fields),
            segment_bytes: number(fields, "segment_bytes"),
            created: WallMs(number(fields, "created")),
        };
        same_bytes(&vector["name"], &header.encode(), &bytes);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
    }
}

fn head_of(record: &Value) -> (RecordHead, RecordFlags, Vec<u8>, Vec<u8>) {
    let head = RecordHead {
        resource: ResourceId(number(record, "resource")),
        partition: PartitionId(number(record, "partition") as u16),
        kind: number(record, "kind") as u8,
        first: number(record, "first"),
        count: number(record, "count") as u32,
        epoch: number(record, "epoch") as u32,
        timestamp: WallMs(number(record, "timestamp")),
    };
    let flags = RecordFlags {
        carried: record["carried"].as_bool().unwrap(),
        retained: record["retained"].as_bool().unwrap(),
    };
    let [ext, body] = ["ext", "body"].map(|part| unhex(record[part].as_str().unwrap()));
    (head, flags, ext, body)
}

#[test]
fn vectors_hold_for_groups_and_records() {
    for vector in vectors("groups") {
        let (bytes, fields) = (bytes_of(&vector), &vector["fields"]);
        let records = fields["records"].as_array().unwrap();
        let (key, offset) = (segment_key(fields), number(fields, "offset") as u32);

        let mut group = GroupWriter::begin(BlockBuf::zeroed(0), key, offset, chain(fields));
        for record in records {
            let (head, flags, ext, body) = head_of(record);
            // In parts, which are joined.
            let (a, b) = body.split_at(body.len() / 3);
            let pushed = group.push(&head, flags, &[&ext], &[a, b]).unwrap();
            assert_eq!(pushed.lsn, Lsn(number(record, "lsn")));
        }
        let written = group.finish();
        same_bytes(&vector["name"], written.buffer.as_slice(), &bytes);

        let GroupVerdict::Whole(group) = check_group(key, offset, &bytes) else {
            panic!("{}: {:?}", vector["name"], check_group(key, offset, &bytes));
        };
        assert_eq!(group.header, written.header);
        assert_eq!(u64::from(group.header.crc), number(fields, "crc"));
        for (field, found) in [
            ("zero_sectors", group.header.zero_sectors),
            ("light_sectors", group.header.light_sectors),
        ] {
            assert_eq!(u64::from(found), number(fields, field), "{field}");
        }
        assert_eq!(group.records().len(), records.len());
        for (found, record) in group.records().zip(records) {
            let (head, flags, ext, body) = head_of(record);
            assert_eq!((found.head, found.flags), (head, flags));
            assert_eq!((found.ext, found.body), (&ext[..], &body[..]));
            assert_eq!(found.lsn, Lsn(number(record, "lsn")));
        }
    }
}

fn partition_of(of: &Value) -> (Summary, Vec<IndexEntry>) {
    let summary = Summary {
        resource: ResourceId(number(of, "resource")),
        partition: PartitionId(number(of, "partition") as u16),
        first: number(of, "first"),
        end: number(of, "end"),
        first_timestamp: number(of, "first_timestamp"),
        last_timestamp: number(of, "last_timestamp"),
        bytes: number(of, "bytes"),
        records: number(of, "records") as u32,
        retained: number(of, "retained") as u32,
        index_first: 0,
        index_count: 0,
        index_crc: 0,
        carried: of["carried"].as_bool().unwrap(),
    };
    let entries = of["entries"].as_array().unwrap().iter().map(|entry| {
        let at = |field: usize| entry[field].as_u64().unwrap();
        IndexEntry {
            first: at(0),
            timestamp: at(1),
            block: at(2) as u32,
            blocks: at(3) as u32,
        }
    });
    (summary, entries.collect())
}

#[test]
fn vectors_hold_for_footers() {
    for vector in vectors("footers") {
        let (bytes, fields) = (bytes_of(&vector), &vector["fields"]);
        let (key, offset) = (segment_key(fields), number(fields, "offset") as u32);
        let partitions: Vec<_> = fields["partitions"].as_array().unwrap().iter().collect();

        let mut footer = FooterWriter::new();
        for partition in &partitions {
            let (summary, entries) = partition_of(partition);
            entries.iter().for_each(|entry| footer.entry(entry));
            footer.partition(&summary);
        }
        let groups = number(fields, "groups") as u32;
        let written = footer.finish(key, offset, chain(fields), groups);
        same_bytes(&vector["name"], written.as_slice(), &bytes);

        let file_len = u64::from(offset) + bytes.len() as u64;
        let facts = decode_trailer(key, file_len, &bytes[bytes.len() - BLOCK..]).unwrap();
        assert_eq!((facts.next, facts.groups), (chain(fields), groups));
        let footer = decode_footer(key, &facts, &bytes).unwrap();
        assert_eq!(footer.summaries().len(), partitions.len());
        for (found, partition) in footer.summaries().zip(partitions) {
            let (summary, entries) = partition_of(partition);
            let plain = Summary {
                index_first: 0,
                index_count: 0,
                index_crc: 0,
                ..found
            };
            assert_eq!(plain, summary);
            assert!(footer.entries(&found).eq(entries.iter().copied()));
            assert!(
                footer
                    .find(found.resource, found.partition)
                    .any(|one| one == found)
            );

            let at = facts.entries_at(found.index_first, found.index_count);
            let (from, to) = (at.start - u64::from(offset), at.end - u64::from(offset));
            let alone = &bytes[from as usize..to as usize];
            assert!(decode_entries(found.index_crc, alone).unwrap().eq(entries));
        }
        assert_eq!(footer.find(ResourceId(4), PartitionId(3)).len(), 0);
    }
}

#[test]
fn vectors_hold_for_checkpoints() {
    for vector in vectors("checkpoints") {
        let (bytes, fields) = (bytes_of(&vector), &vector["fields"]);
        let header = CheckpointHeader {
            store: unhex(fields["store"].as_str().unwrap()).try_into().unwrap(),
            log: LogId(number(fields, "log") as u16),
            number: number(fields, "number"),
            salt: number(fields, "salt"),
            created: WallMs(number(fields, "created")),
        };
        let states = fields["states"].as_array().unwrap();
        let segments = fields["segments"].as_array().unwrap().iter();
        let segments: Vec<_> = segments
            .map(|segment| SegmentRef {
                number: number(segment, "number"),
                salt: number(segment, "salt"),
                first_lsn: number(segment, "first_lsn"),
            })
            .collect();
        let replay_from = Lsn(number(fields, "replay_from"));

        let mut writer = CheckpointWriter::new(header);
        let mut written = Vec::new();
        let mut append = |(at, piece): (u64, BlockBuf)| {
            assert_eq!(at, written.len() as u64);
            written.extend_from_slice(piece.as_slice());
        };
        for state in states {
            let name = (
                ResourceId(number(state, "resource")),
                PartitionId(number(state, "partition") as u16),
            );
            let content = unhex(state["state"].as_str().unwrap());
            let as_of = Lsn(number(state, "as_of"));
            writer
                .add(name, number(state, "domain") as u8, as_of, &content)
                .unwrap();
            writer.poll_write(BLOCK).into_iter().for_each(&mut append);
        }
        let pieces = writer.finish(replay_from, &segments).unwrap();
        pieces.into_iter().for_each(&mut append);
        same_bytes(&vector["name"], &written, &bytes);

        let (header, trailer, directory) = read_checkpoint(&bytes).unwrap();
        assert_eq!(trailer.replay_from, replay_from);
        assert_eq!(header.number, number(fields, "number"));
        assert_eq!(directory.segments, segments);
        for (entry, state) in directory.entries.iter().zip(states) {
            let at = entry.at as usize;
            assert_eq!(
                bytes[at..at + entry.len as usize],
                unhex(state["state"].as_str().unwrap())
            );
            assert_eq!(entry.as_of, number(state, "as_of"));
            assert_eq!(u64::from(entry.domain), number(state, "domain"));
        }
    }
}

/// All of a checkpoint, as recovery reads it.
fn read_checkpoint(
    bytes: &[u8],
) -> Result<(CheckpointHeader, CheckpointTrailer, Directory), FormatError> {
    let header = CheckpointHeader::decode(bytes)?;
    let last = &bytes[bytes.len() - BLOCK..];
    let trailer = CheckpointTrailer::decode(&header, bytes.len() as u64, last)?;
    let at = trailer.directory();
    let directory = Directory::decode(&trailer, &bytes[at.start as usize..at.end as usize])?;
    for entry in &directory.entries {
        let at = entry.at as usize;
        entry.check(&header, &bytes[at..at + entry.len as usize])?;
    }
    Ok((header, trailer, directory))
}

/// The name of an enum's variant.
fn variant(of: &impl core::fmt::Debug) -> String {
    let text = format!("{of:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

#[test]
fn vectors_that_must_be_refused_are_and_say_why() {
    for vector in vectors("refused") {
        let (bytes, name) = (bytes_of(&vector), &vector["name"]);
        let mut verdict = Value::Null;
        let error = match vector["decode"].as_str().unwrap() {
            "segment" => SegmentHeader::decode(&bytes).err(),
            "group" => {
                let key = segment_key(&vector);
                let found = check_group(key, number(&vector, "offset") as u32, &bytes);
                verdict = variant(&found).into();
                match found {
                    GroupVerdict::Damaged { damage, .. } => Some(damage.error),
                    _ => None,
                }
            }
            "footer" => {
                let (key, offset) = (segment_key(&vector), number(&vector, "offset"));
                let last = &bytes[bytes.len() - BLOCK..];
                decode_trailer(key, offset + bytes.len() as u64, last)
                    .and_then(|facts| decode_footer(key, &facts, &bytes).map(drop))
                    .err()
            }
            "checkpoint" => read_checkpoint(&bytes).err(),
            other => panic!("{other}"),
        };
        assert_eq!(verdict, vector["verdict"], "{name}");
        let error = error.map_or(Value::Null, |error| variant(&error).into());
        assert_eq!(error, vector["error"], "{name}");
    }
}

#[test]
fn the_example_in_the_document_is_a_vector() {
    let path = format!(
        "{}/../../docs/storage-format.md",
        env!("CARGO_MANIFEST_DIR")
    );
    let document = std::fs::read_to_string(path).unwrap();
    let (_, example) = document.rsplit_once("```text\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let mut bytes = Vec::new();
    for line in example.lines().filter(|line| !line.is_empty()) {
        let (hex, _) = line.split_once("  ").unwrap();
        bytes.extend(unhex(&hex.replace(' ', "")));
    }
    bytes.resize(BLOCK, 0);
    let vector = &vectors("groups")[1];
    same_bytes(&vector["name"], &bytes, &bytes_of(vector));
}

#[test]
fn vectors_are_counted() {
    let files = ["segments", "groups", "footers", "checkpoints", "refused"];
    let count: usize = files.iter().map(|file| vectors(file).len()).sum();
    assert!(count >= 50, "{count}");
    println!("vectors: {count}");
}
