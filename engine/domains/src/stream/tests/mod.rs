//! Stories about one partition.
#![allow(clippy::unwrap_used)]

mod appending;
mod cold;
mod durable;
mod reading;
mod restart;
mod subscribing;

use pinion_types::block::{BlockHeader, Record, records};
use pinion_types::{ErrorCode, FactId, Monotonic, Offset, ProducerId, Refusal, Sequence, WallMs};

use super::*;

const PLENTY: u32 = 1 << 20;

/// Encodes records whose values are the words of `words`.
fn batch(words: &str) -> (u32, Vec<u8>) {
    let mut out = Vec::new();
    let mut count = 0;
    for word in words.split_whitespace() {
        let record = Record {
            key: b"",
            headers: b"",
            value: word.as_bytes(),
        };
        record.encode(&mut out).unwrap();
        count += 1;
    }
    (count, out)
}

/// Every record of whole blocks, as `offset:value`.
fn decode(mut bytes: &[u8]) -> Vec<(u64, String)> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (header, body, rest) = BlockHeader::split(bytes).unwrap();
        pinion_types::block::check_records(body, header.record_count).unwrap();
        for (i, record) in records(body).enumerate() {
            let value = String::from_utf8(record.unwrap().value.to_vec()).unwrap();
            out.push((header.first_offset.0 + i as u64, value));
        }
        bytes = rest;
    }
    out
}

/// A partition and the words of a test.
struct Story {
    p: Partition,
    now: Monotonic,
    wall: WallMs,
}

fn story() -> Story {
    with(PartitionConfig::default())
}

fn with(config: PartitionConfig) -> Story {
    Story {
        p: Partition::new(config),
        now: Monotonic::ZERO,
        wall: WallMs(1000),
    }
}

fn ring_of(records: u32) -> Story {
    with(PartitionConfig {
        ring_records_max: records,
        ..PartitionConfig::default()
    })
}

impl Story {
    fn try_append(&mut self, words: &str) -> Result<Appended, AppendError> {
        self.append_as(words, None, None)
    }

    fn append_as(
        &mut self,
        words: &str,
        producer: Option<(u64, u64)>,
        expected: Option<u64>,
    ) -> Result<Appended, AppendError> {
        let (record_count, records) = batch(words);
        self.p.append(
            self.now,
            self.wall,
            &Append {
                producer: producer.map(|(id, s)| (ProducerId(id), Sequence(s))),
                expected_offset: expected.map(Offset),
                record_count,
                records: &records,
            },
        )
    }

    /// One turn with one append.
    fn append(&mut self, words: &str) -> u64 {
        let appended = self.try_append(words).unwrap();
        self.p.seal();
        appended.first_offset.0
    }

    /// One turn per record.
    fn append_each(&mut self, range: core::ops::Range<u64>) {
        for i in range {
            assert_eq!(self.append(&format!("r{i}")), i);
        }
    }

    fn subscribe(&mut self, key: u64, options: SubscribeOptions) -> Subscribed {
        self.p.subscribe(SubKey(key), options).unwrap()
    }

    fn credit(&mut self, key: u64, records: u32) {
        assert!(self.p.credit(SubKey(key), records, PLENTY));
    }

    /// What comes out until nothing more does, in words.
    fn drain(&mut self) -> String {
        let mut out = Vec::new();
        while let Some((key, delivery)) = self.p.poll_delivery() {
            out.push(match delivery {
                Delivery::Records { bytes, records, .. } => {
                    let got = decode(&bytes);
                    assert_eq!(got.len(), records as usize);
                    let words: Vec<String> = got.iter().map(|(o, v)| format!("{o}:{v}")).collect();
                    format!("{}[{}]", key.0, words.join(" "))
                }
                Delivery::Lag(lag) => format!(
                    "{}<{:?} {}..{} {}>",
                    key.0, lag.reason, lag.from, lag.to, lag.count
                ),
                Delivery::End { code, next } => format!("{}END({code:?} {next})", key.0),
            });
        }
        out.join(" ")
    }

    fn fetch(&mut self, from: u64, max_records: u32, max_bytes: u32) -> (Fetched, String) {
        let mut out = Vec::new();
        let result = self
            .p
            .fetch(Offset(from), max_records, max_bytes, None, &mut out);
        let FetchResult::Done(fetched) = result else {
            panic!("{result:?}");
        };
        let words: Vec<String> = decode(&out)
            .into_iter()
            .map(|(o, v)| format!("{o}:{v}"))
            .collect();
        assert_eq!(fetched.records as usize, words.len());
        (fetched, words.join(" "))
    }
}

fn from(start: Start) -> SubscribeOptions {
    SubscribeOptions {
        start,
        overflow: None,
        backlog_max: 0,
        credit_records: PLENTY,
        credit_bytes: PLENTY,
        window_bytes: PLENTY,
        filter: None,
    }
}

fn slow(overflow: Overflow, backlog_max: u32, credit_records: u32) -> SubscribeOptions {
    SubscribeOptions {
        overflow: Some(overflow),
        backlog_max,
        credit_records,
        ..from(Start::Latest)
    }
}

#[derive(Debug)]
struct StartsWith(&'static str);

impl RecordFilter for StartsWith {
    fn matches(&self, record: &Record<'_>) -> bool {
        record.value.starts_with(self.0.as_bytes())
    }
}
