//! The vectors of `vectors/*.json`, each derived from `docs/wire-protocol.md`:
//! they decode to what they say, encode to the same bytes, and no damage to
//! them does more than a typed error.
//!
//! A line of `hex` is bytes, a space, and the name of the field they are.

#![allow(clippy::unwrap_used)]

mod render;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pinion_types::ErrorCode;
use pinion_types::limits::FRAME_BYTES_MAX;
use pinion_wire::frame::{self, Split};
use pinion_wire::message::{
    CacheEvents, CacheStoredMany, CacheValues, CoreList, CursorItems, DeadItems, Fetch, Filter,
    FilterBuf, FilterOp, GroupItems, IdList, ItemList, KeyList, PageItems, PeekItems,
    QueueMessageList, Reasons, SettledList, Subscribe, TokenList,
};
use pinion_wire::opcode;
use pinion_wire::{DecodeError, Delivery, FrameHeader, Reply, Request};
use serde_json::Value;

/// Which of the three conversations a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Request,
    Reply,
    Delivery,
}

struct Vector {
    name: String,
    kind: Kind,
    /// Bytes and name of each field.
    fields: Vec<(Vec<u8>, String)>,
    json: Value,
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        self.fields.iter().flat_map(|(b, _)| b.clone()).collect()
    }
}

fn load(file: &str, kind: Option<Kind>) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(file);
    let text = fs::read_to_string(&path).unwrap();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    all.into_iter()
        .map(|json| Vector {
            name: json["name"].as_str().unwrap().to_owned(),
            kind: kind.unwrap_or_else(|| match json["kind"].as_str().unwrap() {
                "request" => Kind::Request,
                "reply" => Kind::Reply,
                "delivery" => Kind::Delivery,
                other => panic!("kind {other}"),
            }),
            fields: json["hex"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| {
                    let (hex, name) = line.as_str().unwrap().split_once(' ').unwrap();
                    (unhex(hex), name.to_owned())
                })
                .collect(),
            json,
        })
        .collect()
}

/// Those that decode.
fn good() -> Vec<Vector> {
    let mut all = load("requests.json", Some(Kind::Request));
    all.extend(load("replies.json", Some(Kind::Reply)));
    all.extend(load("errors.json", Some(Kind::Reply)));
    all.extend(load("deliveries.json", Some(Kind::Delivery)));
    all
}

/// Those that are refused.
fn refused() -> Vec<Vector> {
    load("refused.json", None)
}

fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.is_ascii() && hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// Decodes a whole frame and encodes it again.
fn read(kind: Kind, header: FrameHeader, body: &[u8]) -> Result<(Value, Vec<u8>), DecodeError> {
    let mut again = Vec::new();
    let value = match kind {
        Kind::Request => {
            let request = Request::decode(header.opcode, body)?;
            request.encode(header.correlation, &mut again).unwrap();
            render::request(&request, header.correlation)
        }
        Kind::Reply => {
            let reply = Reply::decode(header.opcode, body)?;
            reply.encode(header.correlation, &mut again).unwrap();
            render::reply(&reply, header.correlation)
        }
        Kind::Delivery => {
            let delivery = Delivery::decode(header.opcode, body)?;
            delivery.encode(&mut again).unwrap();
            // The decoder sees the body alone; a delivery's correlation is 0.
            again[8..12].copy_from_slice(&header.correlation.to_le_bytes());
            render::delivery(&delivery, header.correlation)
        }
    };
    Ok((value, again))
}

/// Reads whatever `bytes` are: whole frames, each of which encodes to its own
/// bytes, then an error or an unfinished frame. Gives how many frames there were.
fn survive(kind: Kind, bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut frames = 0;
    while !rest.is_empty() {
        match frame::split(rest) {
            Err(error) => {
                assert!(error.is_fatal(), "{error}");
                break;
            }
            Ok(Split::NeedMore(missing)) => {
                assert!(missing > 0 && missing <= FRAME_BYTES_MAX as usize);
                break;
            }
            Ok(Split::Frame {
                header,
                body,
                consumed,
            }) => {
                match read(kind, header, body) {
                    Ok((_, again)) => assert_eq!(again, &rest[..consumed], "one encoding"),
                    Err(error) => {
                        let refusal = error.refusal();
                        assert_eq!(refusal.code, error.code());
                        let mut out = Vec::new();
                        Reply::Error(refusal).encode(1, &mut out).unwrap();
                    }
                }
                frames += 1;
                rest = &rest[consumed..];
            }
        }
    }
    frames
}

#[test]
fn vectors_hold() {
    let mut count = 0;
    for vector in good() {
        let bytes = vector.bytes();
        let Ok(Split::Frame {
            header,
            body,
            consumed,
        }) = frame::split(&bytes)
        else {
            panic!("{}: not a whole frame", vector.name);
        };
        assert_eq!(consumed, bytes.len(), "{}", vector.name);
        let (value, again) = read(vector.kind, header, body)
            .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        assert_eq!(value, vector.json["fields"], "{}", vector.name);
        assert_eq!(again, bytes, "{}", vector.name);
        count += 1;
    }
    for vector in refused() {
        let bytes = vector.bytes();
        let error = match frame::split(&bytes) {
            Err(error) => error,
            Ok(Split::NeedMore(_)) => panic!("{}: not a whole frame", vector.name),
            Ok(Split::Frame { header, body, .. }) => match read(vector.kind, header, body) {
                Err(error) => error,
                Ok((value, _)) => panic!("{}: taken as {value}", vector.name),
            },
        };
        let json = &vector.json;
        let variant = format!("{error:?}");
        let variant = variant.split([' ', '{']).next().unwrap();
        assert_eq!(variant, json["error"], "{}: {error}", vector.name);
        assert_eq!(error.code() as u16, json["code"], "{}", vector.name);
        assert_eq!(error.is_fatal(), json["fatal"], "{}", vector.name);
        count += 1;
    }
    println!("vectors: {count}");
    eprintln!("vectors: {count}");
}

#[test]
fn every_opcode_and_every_error_has_a_vector() {
    let seen: BTreeSet<(Kind, u8)> = good()
        .iter()
        .map(|vector| (vector.kind, vector.bytes()[4]))
        .collect();
    let mut wanted = BTreeSet::new();
    wanted.extend(opcode::REQUESTS.iter().map(|e| (Kind::Request, e.opcode)));
    wanted.extend(opcode::REPLIES.iter().map(|(op, _)| (Kind::Reply, *op)));
    wanted.extend(
        opcode::DELIVERIES
            .iter()
            .map(|(op, _)| (Kind::Delivery, *op)),
    );
    assert_eq!(seen, wanted);

    let errors = load("errors.json", Some(Kind::Reply));
    for code in ErrorCode::ALL {
        assert!(
            errors
                .iter()
                .any(|vector| vector.json["fields"]["code"] == *code as u16),
            "{code:?} has no vector"
        );
    }
}

/// A decoded list is encoded by copying it, so its items are encoded here.
#[test]
fn lists_built_item_by_item_have_the_bytes_of_the_vectors() {
    let mut built = BTreeSet::new();
    for vector in good() {
        let bytes = vector.bytes();
        let (opcode, body) = (bytes[4], &bytes[12..]);
        let out = &mut Vec::new();
        let same = match vector.kind {
            Kind::Request => match Request::decode(opcode, body).unwrap() {
                Request::CacheGetMany(m) => KeyList::build(out, m.keys).unwrap() == m.keys,
                Request::CacheSetMany(m) => ItemList::build(out, m.items).unwrap() == m.items,
                Request::Subscribe(Subscribe { filter, .. })
                | Request::Fetch(Fetch { filter, .. }) => rebuilt(filter).as_filter() == filter,
                Request::QueueAck(m) => TokenList::build(out, m.tokens).unwrap() == m.tokens,
                Request::QueueDeadReplay(m) => IdList::build(out, m.ids).unwrap() == m.ids,
                _ => continue,
            },
            Kind::Reply => match Reply::decode(opcode, body).unwrap() {
                Reply::Opened(m) => CoreList::build(out, m.cores).unwrap() == m.cores,
                Reply::CacheValues(m) => CacheValues::build(out, m).unwrap() == m,
                Reply::CacheStoredMany(m) => CacheStoredMany::build(out, m).unwrap() == m,
                Reply::CachePage(m) => PageItems::build(out, m.items).unwrap() == m.items,
                Reply::CursorPage(m) => CursorItems::build(out, m.items).unwrap() == m.items,
                Reply::Taken(m) => QueueMessageList::build(out, m.messages).unwrap() == m.messages,
                Reply::Settled(m) => SettledList::build(out, m.results).unwrap() == m.results,
                Reply::QueuePage(m) => PeekItems::build(out, m.items).unwrap() == m.items,
                Reply::DeadPage(m) => DeadItems::build(out, m.items).unwrap() == m.items,
                Reply::QueueStatus(m) => GroupItems::build(out, m.groups).unwrap() == m.groups,
                Reply::QueueReasons(m) => Reasons::build(out, m).unwrap() == m,
                _ => continue,
            },
            Kind::Delivery => match Delivery::decode(opcode, body).unwrap() {
                Delivery::Events(m) => CacheEvents::build(out, m).unwrap() == m,
                Delivery::Messages(m) => {
                    QueueMessageList::build(out, m.messages).unwrap() == m.messages
                }
                _ => continue,
            },
        };
        assert!(same, "{}", vector.name);
        built.insert(opcode);
    }
    assert_eq!(built.len(), 19, "every kind of list: {built:02x?}");
}

fn rebuilt(filter: Filter<'_>) -> FilterBuf {
    let mut again = FilterBuf::new();
    for term in filter.terms() {
        let values: Vec<_> = term.values.collect();
        match term.op {
            FilterOp::Eq => again.equals(term.name, values[0]),
            FilterOp::Ne => again.not_equals(term.name, values[0]),
            FilterOp::Prefix => again.starts_with(term.name, values[0]),
            FilterOp::AnyOf => again.any_of(term.name, &values),
        }
        .unwrap();
    }
    again
}

#[test]
fn every_flipped_byte_is_a_typed_error_or_another_frame() {
    for vector in good().into_iter().chain(refused()) {
        let bytes = vector.bytes();
        for at in 0..bytes.len() {
            for mask in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                survive(vector.kind, &damaged);
            }
        }
    }
}

#[test]
fn every_truncation_waits_for_more_or_is_a_typed_error() {
    for vector in good() {
        let bytes = vector.bytes();
        for cut in 0..bytes.len() {
            // A stream that stops: not an error yet.
            let missing = if cut < 12 { 12 } else { bytes.len() } - cut;
            assert_eq!(
                frame::split(&bytes[..cut]),
                Ok(Split::NeedMore(missing)),
                "{} cut at {cut}",
                vector.name
            );
        }
        for cut in 12..bytes.len() {
            // A frame that says it is that short.
            let mut short = bytes[..cut].to_vec();
            let length = u32::try_from(cut - 12).unwrap();
            short[..4].copy_from_slice(&length.to_le_bytes());
            assert_eq!(survive(vector.kind, &short), 1, "{}", vector.name);
        }
    }
}

#[test]
fn every_length_at_nothing_one_and_most_is_a_typed_error_or_another_frame() {
    let mut lengths = 0;
    for vector in good().into_iter().chain(refused()) {
        let bytes = vector.bytes();
        let mut at = 0;
        for (field, name) in &vector.fields {
            let size = field.len();
            if name.starts_with("length") || name.starts_with("count") {
                lengths += 1;
                let mut values = vec![vec![0; size], vec![0xff; size]];
                let mut one = vec![0; size];
                one[0] = 1;
                values.push(one);
                let mut less_than_most = vec![0xff; size];
                less_than_most[0] = 0xfe;
                values.push(less_than_most);
                let mut signed_most = vec![0xff; size];
                signed_most[size - 1] = 0x7f;
                values.push(signed_most);
                for value in values {
                    let mut damaged = bytes.clone();
                    damaged[at..at + size].copy_from_slice(&value);
                    survive(vector.kind, &damaged);
                }
            }
            at += size;
        }
    }
    assert!(lengths > 300, "{lengths} length fields were tried");
}

#[test]
fn frames_of_one_stream_are_told_apart() {
    for kind in [Kind::Request, Kind::Reply, Kind::Delivery] {
        let vectors: Vec<_> = good().into_iter().filter(|v| v.kind == kind).collect();
        let stream: Vec<u8> = vectors.iter().flat_map(Vector::bytes).collect();
        assert_eq!(survive(kind, &stream), vectors.len());
    }
}

/// Seeds of the fuzz targets: file name below `fuzz/corpus` and content. One
/// frame for each opcode, and a stream of all frames for each conversation.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    for (kind, target) in [
        (Kind::Request, "request"),
        (Kind::Reply, "reply"),
        (Kind::Delivery, "delivery"),
    ] {
        let mut stream = Vec::new();
        let mut richest = std::collections::BTreeMap::new();
        for vector in good().into_iter().filter(|vector| vector.kind == kind) {
            let bytes = vector.bytes();
            let longest: &mut Vec<u8> = richest.entry(bytes[4]).or_default();
            if bytes.len() > longest.len() {
                longest.clone_from(&bytes);
            }
        }
        for (opcode, bytes) in richest {
            let seed = [&[opcode], &bytes[12..]].concat();
            seeds.push((format!("{target}/{opcode:02x}"), seed));
            stream.extend_from_slice(&bytes);
        }
        seeds.push((format!("frame_stream/{target}"), stream));
    }
    seeds
}

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

#[test]
fn the_fuzz_targets_start_from_the_vectors() {
    for (name, seed) in seeds() {
        let found = fs::read(corpus().join(&name)).unwrap_or_default();
        assert!(
            found == seed,
            "fuzz/corpus/{name} is not its vector: run `cargo test -p pinion-wire \
             --test vectors -- --ignored write_fuzz_seeds`"
        );
    }
}

#[test]
#[ignore = "writes fuzz/corpus; run it after changing a vector"]
fn write_fuzz_seeds() {
    for (name, seed) in seeds() {
        let path = corpus().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, seed).unwrap();
    }
}
