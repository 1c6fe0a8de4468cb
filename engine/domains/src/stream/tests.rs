//! Stories about one partition.
#![allow(clippy::unwrap_used)]

use pinion_types::block::{BlockHeader, Record, records};
use pinion_types::{ErrorCode, FactId, Monotonic, Offset, ProducerId, Refusal, Sequence, WallMs};

use super::*;

const PLENTY: u32 = 1 << 20;

/// Encodes records whose values are the words of `words`.
pub(crate) fn batch(words: &str) -> (u32, Vec<u8>) {
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
pub(crate) fn decode(mut bytes: &[u8]) -> Vec<(u64, String)> {
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

    fn fetch(&self, from: u64, max_records: u32, max_bytes: u32) -> (Fetched, String) {
        let mut out = Vec::new();
        let fetched = self
            .p
            .fetch(Offset(from), max_records, max_bytes, None, &mut out);
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

#[test]
fn records_are_acknowledged_at_once_and_seen_after_the_seal() {
    let mut s = story();
    s.subscribe(1, from(Start::Latest));
    let first = s.try_append("a b").unwrap();
    assert_eq!((first.first_offset, first.record_count), (Offset(0), 2));
    assert_eq!(s.try_append("c").unwrap().first_offset, Offset(2));
    assert_eq!((s.drain(), s.p.end()), (String::new(), Offset(0)));
    assert_eq!(s.fetch(0, 9, PLENTY).1, "");

    s.p.seal();
    assert_eq!(s.p.end(), Offset(3));
    assert_eq!(s.drain(), "1[0:a 1:b 2:c]");
    assert_eq!(s.fetch(0, 9, PLENTY).1, "0:a 1:b 2:c");
    s.p.seal();
    assert_eq!(s.drain(), "");
}

#[test]
fn everyone_is_handed_the_same_bytes() {
    let mut s = story();
    s.subscribe(1, from(Start::Latest));
    s.subscribe(2, from(Start::Latest));
    s.append("a b");
    let mut pointers = Vec::new();
    while let Some((_, Delivery::Records { bytes, .. })) = s.p.poll_delivery() {
        pointers.push((bytes.as_ptr(), bytes.len()));
    }
    assert_eq!(pointers.len(), 2);
    assert_eq!(pointers[0], pointers[1]);
}

#[test]
fn replay_joins_the_live_tail_without_gap_or_repeat() {
    let mut s = story();
    s.append("a b");
    s.append("c");
    s.try_append("d").unwrap();
    let subscribed = s.subscribe(1, from(Start::Earliest));
    assert_eq!((subscribed.next, subscribed.end), (Offset(0), Offset(4)));
    s.append("e");
    assert_eq!(s.drain(), "1[0:a 1:b] 1[2:c] 1[3:d] 1[4:e]");
}

#[test]
fn latest_means_after_what_was_acknowledged() {
    let mut s = story();
    s.try_append("before").unwrap();
    assert_eq!(s.subscribe(1, from(Start::Latest)).next, Offset(1));
    s.append("after");
    assert_eq!(s.drain(), "1[1:after]");
}

#[test]
fn an_offset_inside_a_block_starts_there() {
    let mut s = story();
    s.append("a b c d");
    s.append("e");
    s.subscribe(1, from(Start::Offset(Offset(2))));
    assert_eq!(s.drain(), "1[2:c 3:d] 1[4:e]");
}

#[test]
fn an_offset_beyond_the_end_is_refused_and_names_the_end() {
    let mut s = story();
    s.append("a b");
    let refused = s.p.subscribe(SubKey(1), from(Start::Offset(Offset(3))));
    assert_eq!(
        refused,
        Err(SubscribeError::BeyondEnd {
            start: Offset(3),
            end: Offset(2)
        })
    );
    let refusal = Refusal::from(refused.unwrap_err());
    assert_eq!(refusal.code, ErrorCode::BadArgument);
    assert_eq!(refusal.fact(FactId::Limit), Some(2));
    assert_eq!(s.p.subscriptions(), 0);
    assert_eq!(
        s.subscribe(1, from(Start::Offset(Offset(2)))).next,
        Offset(2)
    );
}

#[test]
fn an_offset_below_the_ring_begins_with_a_lag_that_needs_no_credit() {
    let mut s = ring_of(3);
    s.append_each(0..5);
    let options = SubscribeOptions {
        credit_records: 0,
        ..from(Start::Offset(Offset(1)))
    };
    assert_eq!(s.subscribe(1, options).next, Offset(2));
    assert_eq!(s.drain(), "1<RingOverran 1..2 1>");
    s.credit(1, 1);
    assert_eq!(s.drain(), "1[2:r2]");
}

#[test]
fn a_time_starts_at_the_first_block_taken_then_or_later() {
    let mut s = story();
    for (wall, words) in [(1000, "a b"), (2000, "c"), (2000, "d"), (3000, "e")] {
        s.wall = WallMs(wall);
        s.append(words);
    }
    for (time, next) in [
        (0, 0),
        (1000, 0),
        (1001, 2),
        (2000, 2),
        (2500, 4),
        (3001, 5),
    ] {
        let subscribed = s.subscribe(time, from(Start::Time(WallMs(time))));
        assert_eq!(subscribed.next, Offset(next), "time {time}");
    }
}

#[test]
fn time_never_goes_back_within_a_partition() {
    let mut s = story();
    s.wall = WallMs(5000);
    s.append("a");
    s.wall = WallMs(10);
    s.append("b");
    let mut out = Vec::new();
    s.p.fetch(Offset(1), 1, PLENTY, None, &mut out);
    let (header, _, _) = BlockHeader::split(&out).unwrap();
    assert_eq!(header.timestamp, WallMs(5000));
}

#[test]
fn record_credit_cuts_a_block_and_is_never_exceeded() {
    let mut s = story();
    s.subscribe(1, slow(Overflow::DropOldest, 0, 2));
    s.append("a b c d e");
    s.append("f");
    assert_eq!(s.drain(), "1[0:a 1:b]");
    s.credit(1, 2);
    assert_eq!(s.drain(), "1[2:c 3:d]");
    s.credit(1, 9);
    assert_eq!(s.drain(), "1[4:e] 1[5:f]");
}

#[test]
fn byte_credit_may_be_exceeded_by_one_block_and_the_debt_is_kept() {
    let mut s = story();
    let options = SubscribeOptions {
        credit_bytes: 1,
        ..from(Start::Latest)
    };
    s.subscribe(1, options);
    s.append("aaaa bbbb"); // 32 + 2 × 12 bytes
    s.append("c");
    assert_eq!(s.drain(), "1[0:aaaa 1:bbbb]");
    assert!(s.p.credit(SubKey(1), 0, 55));
    assert_eq!(s.drain(), "", "56 - 1 bytes of debt are not yet paid off");
    assert!(s.p.credit(SubKey(1), 0, 1));
    assert_eq!(s.drain(), "1[2:c]");
}

#[test]
fn a_full_transport_stops_one_subscriber_and_no_other() {
    let mut s = story();
    let options = SubscribeOptions {
        window_bytes: 40,
        ..from(Start::Latest)
    };
    s.subscribe(1, options);
    s.subscribe(2, from(Start::Latest));
    s.append("a");
    assert_eq!(s.drain(), "1[0:a] 2[0:a]");
    s.append("b");
    assert_eq!(s.drain(), "2[1:b]");
    assert!(s.p.window(SubKey(1), 41));
    assert_eq!(s.drain(), "1[1:b]");
}

#[test]
fn block_refuses_appends_rather_than_lose_a_record() {
    let mut s = ring_of(3);
    s.subscribe(1, slow(Overflow::Block, 0, 0));
    s.append_each(0..3);
    let refused = s.try_append("r3").unwrap_err();
    assert_eq!(refused, AppendError::Backlogged { next: Offset(0) });
    assert_eq!(Refusal::from(refused).code, ErrorCode::Backlogged);
    s.credit(1, 1);
    assert_eq!(s.drain(), "1[0:r0]");
    s.append_each(3..4);
    assert!(s.try_append("r4").is_err());
    s.credit(1, 9);
    assert_eq!(s.drain(), "1[1:r1] 1[2:r2] 1[3:r3]");
    s.append_each(4..7);
    assert_eq!(s.p.unsubscribe(SubKey(1)), Some(Offset(4)));
    s.append_each(7..20);
}

#[test]
fn drop_oldest_goes_on_backlog_max_before_the_end() {
    let mut s = story();
    s.subscribe(1, slow(Overflow::DropOldest, 3, 1));
    s.append_each(0..8);
    assert_eq!(s.drain(), "1[0:r0]");
    s.credit(1, 9);
    assert_eq!(s.drain(), "1<DropOldest 1..5 4> 1[5:r5] 1[6:r6] 1[7:r7]");
}

#[test]
fn drop_oldest_without_a_maximum_keeps_what_the_ring_has() {
    let mut s = ring_of(4);
    s.subscribe(1, slow(Overflow::DropOldest, 0, 0));
    s.append_each(0..10);
    s.credit(1, 2);
    assert_eq!(s.drain(), "1<RingOverran 0..6 6> 1[6:r6] 1[7:r7]");
}

#[test]
fn drop_newest_delivers_what_it_admitted_and_then_names_the_rest() {
    let mut s = story();
    s.subscribe(1, slow(Overflow::DropNewest, 3, 0));
    s.append_each(0..8);
    s.credit(1, 2);
    assert_eq!(s.drain(), "1[0:r0] 1[1:r1]");
    s.append_each(8..10);
    s.credit(1, 1);
    assert_eq!(s.drain(), "1[2:r2] 1<DropNewest 3..10 7>");
    s.credit(1, 9);
    s.append_each(10..11);
    assert_eq!(s.drain(), "1[10:r10]");
}

#[test]
fn a_large_turn_is_no_backlog_for_a_subscriber_that_keeps_up() {
    for overflow in [
        Overflow::DropOldest,
        Overflow::DropNewest,
        Overflow::Disconnect,
    ] {
        let mut s = story();
        s.subscribe(1, slow(overflow, 2, 9));
        s.append("a b c d e");
        assert_eq!(s.drain(), "1[0:a 1:b 2:c 3:d 4:e]", "{overflow:?}");
    }
}

#[test]
fn history_being_replayed_is_no_backlog() {
    for overflow in [
        Overflow::DropOldest,
        Overflow::DropNewest,
        Overflow::Disconnect,
    ] {
        let mut s = story();
        s.append_each(0..4);
        let options = SubscribeOptions {
            start: Start::Earliest,
            ..slow(overflow, 1, 1)
        };
        s.subscribe(1, options);
        assert_eq!(s.drain(), "1[0:r0]", "{overflow:?}");
        s.credit(1, 3);
        assert_eq!(s.drain(), "1[1:r1] 1[2:r2] 1[3:r3]", "{overflow:?}");
    }
}

#[test]
fn disconnect_ends_a_subscription_that_falls_behind_its_backlog() {
    let mut s = story();
    s.subscribe(1, slow(Overflow::Disconnect, 2, 1));
    s.subscribe(2, slow(Overflow::Disconnect, 4, 0));
    s.append_each(0..1);
    assert_eq!(s.drain(), "1[0:r0]");
    s.append_each(1..3);
    assert_eq!(s.drain(), "");
    s.append_each(3..4);
    assert_eq!(s.drain(), "1END(SlowSubscriber 1)");
    assert!(!s.p.credit(SubKey(1), 1, 1), "the key is gone");
    s.append_each(4..5);
    assert_eq!(s.drain(), "2END(SlowSubscriber 0)");
    assert_eq!(s.p.subscriptions(), 0);
}

#[test]
fn disconnect_ends_a_subscription_the_ring_overtakes() {
    let mut s = ring_of(3);
    s.subscribe(1, slow(Overflow::Disconnect, 0, 0));
    s.append_each(0..3);
    assert_eq!(s.drain(), "");
    s.append_each(3..4);
    assert_eq!(s.drain(), "1END(SlowSubscriber 0)");
}

#[test]
fn a_filter_sends_matches_only_and_only_they_cost_credit() {
    let mut s = story();
    let options = SubscribeOptions {
        filter: Some(Box::new(StartsWith("x"))),
        ..slow(Overflow::DropOldest, 0, 4)
    };
    s.subscribe(1, options);
    s.append("x1 a x2 x3 b c");
    s.append("d");
    s.append("x4 x5");
    assert_eq!(s.drain(), "1[0:x1 2:x2 3:x3] 1[7:x4]");
    s.credit(1, 1);
    assert_eq!(s.drain(), "1[8:x5]");
    assert_eq!(s.p.unsubscribe(SubKey(1)), Some(Offset(9)));
}

#[test]
fn a_lag_of_a_filtered_subscription_does_not_guess_its_count() {
    let mut s = ring_of(2);
    let options = SubscribeOptions {
        filter: Some(Box::new(StartsWith("r"))),
        ..slow(Overflow::DropOldest, 0, 0)
    };
    s.subscribe(1, options);
    s.append_each(0..5);
    s.credit(1, 1);
    assert_eq!(s.drain(), "1<RingOverran 0..3 0> 1[3:r3]");
}

#[test]
fn selective_filters_yield_the_core_and_go_on_next_turn() {
    let mut s = story();
    let big = "n".repeat(1000);
    for _ in 0..3000 {
        s.append(&big);
    }
    s.append("yes");
    let options = SubscribeOptions {
        filter: Some(Box::new(StartsWith("yes"))),
        ..from(Start::Earliest)
    };
    s.subscribe(1, options);
    let mut turns = 0;
    let mut got = String::new();
    while got.is_empty() {
        got = s.drain();
        turns += 1;
        assert_eq!(got.is_empty(), s.p.has_work());
    }
    assert_eq!(got, "1[3000:yes]");
    assert!(turns > 2, "3 MB in {turns} turns");
}

#[test]
fn ready_subscribers_take_turns() {
    let mut s = story();
    let big = "n".repeat(60_000);
    for _ in 0..3 {
        s.append(&big);
    }
    s.subscribe(1, from(Start::Earliest));
    s.subscribe(2, from(Start::Earliest));
    let mut keys = Vec::new();
    while let Some((key, Delivery::Records { .. })) = s.p.poll_delivery() {
        keys.push(key.0);
    }
    assert_eq!(keys, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn a_repeat_is_acknowledged_and_not_stored() {
    let mut s = story();
    s.append("other");
    let first = s.append_as("a b", Some((7, 0)), None).unwrap();
    let again = s.append_as("a b", Some((7, 0)), None).unwrap();
    assert_eq!((first.duplicate, again.duplicate), (false, true));
    assert_eq!(first.first_offset, again.first_offset);
    s.p.seal();
    assert_eq!(s.p.end(), Offset(3));
}

#[test]
fn a_repeat_is_recognised_though_the_end_has_moved() {
    let mut s = story();
    s.append_as("a", Some((7, 0)), Some(0)).unwrap();
    s.append("b");
    let again = s.append_as("a", Some((7, 0)), Some(0)).unwrap();
    assert_eq!((again.duplicate, again.first_offset), (true, Offset(0)));
}

#[test]
fn an_unknown_producer_starts_at_zero() {
    let mut s = story();
    let refused = s.append_as("a", Some((7, 5)), None).unwrap_err();
    let refusal = Refusal::from(refused);
    assert_eq!(refusal.code, ErrorCode::SequenceGap);
    assert_eq!(refusal.fact(FactId::Expected), Some(0));
}

#[test]
fn a_refused_append_does_not_use_up_its_sequence() {
    let mut s = story();
    assert!(s.append_as("a", Some((7, 0)), Some(4)).is_err());
    assert_eq!(s.p.producers(), 0);
    assert!(!s.append_as("a", Some((7, 0)), Some(0)).unwrap().duplicate);
}

#[test]
fn a_conditional_append_names_the_actual_end() {
    let mut s = story();
    s.append("a b");
    let refused = s.append_as("c", None, Some(1)).unwrap_err();
    assert_eq!(
        refused,
        AppendError::OffsetConflict {
            expected: Offset(1),
            actual: Offset(2)
        }
    );
    assert!(s.append_as("c", None, Some(2)).is_ok());
}

#[test]
fn malformed_batches_store_nothing() {
    let mut s = with(PartitionConfig {
        max_record_bytes: 100,
        ..PartitionConfig::default()
    });
    let (count, good) = batch("a b");
    for (count, bytes) in [
        (count + 1, &good[..]),
        (count, &good[..good.len() - 1]),
        (0, &[][..]),
    ] {
        let append = Append {
            producer: None,
            expected_offset: None,
            record_count: count,
            records: bytes,
        };
        let refused = s.p.append(s.now, s.wall, &append).unwrap_err();
        assert_eq!(Refusal::from(refused).code, ErrorCode::BadBatch);
    }
    let fits = "v".repeat(100 - 4);
    let over = "v".repeat(100 - 3);
    assert_eq!(
        s.try_append(&format!("a {over}")),
        Err(AppendError::RecordTooLarge {
            len: 101,
            limit: 100
        })
    );
    assert!(s.try_append(&format!("a {fits}")).is_ok());
    s.p.seal();
    assert_eq!(s.p.end(), Offset(2));
}

#[test]
fn a_batch_that_fits_no_delivery_frame_is_refused() {
    let mut s = story();
    let half = "v".repeat(BATCH_BYTES_MAX / 2 - 8);
    assert!(s.try_append(&format!("{half} {half}")).is_ok());
    let refused = s.try_append(&format!("{half}v {half}")).unwrap_err();
    assert!(matches!(refused, AppendError::BatchTooLarge { .. }));
}

#[test]
fn fetch_reads_any_range_and_cuts_blocks() {
    let mut s = ring_of(6);
    s.append("gone gone");
    s.append("a b c");
    s.append("d");
    s.append("e f");
    let (fetched, words) = s.fetch(0, 99, PLENTY);
    assert_eq!(words, "2:a 3:b 4:c 5:d 6:e 7:f");
    assert_eq!(
        (fetched.next, fetched.end, fetched.first_available),
        (Offset(8), Offset(8), Offset(2))
    );
    assert_eq!(s.fetch(3, 3, PLENTY).1, "3:b 4:c 5:d");
    assert_eq!(s.fetch(2, 2, PLENTY).1, "2:a 3:b");
    let (fetched, words) = s.fetch(2, 99, 1);
    assert_eq!((words.as_str(), fetched.next), ("2:a", Offset(3)));
    // 32 + 9 for each single-record block.
    assert_eq!(s.fetch(4, 99, 82).1, "4:c 5:d");
    assert_eq!(s.fetch(4, 99, 81).1, "4:c");
    assert_eq!(s.fetch(2, 0, PLENTY).1, "");
}

#[test]
fn reading_past_the_end_is_an_empty_success() {
    let mut s = story();
    s.append("a");
    for from in [1, 2, u64::MAX] {
        let (fetched, words) = s.fetch(from, 9, PLENTY);
        assert_eq!((words.as_str(), fetched.next), ("", Offset(from)));
        assert_eq!(fetched.end, Offset(1));
    }
}

#[test]
fn a_filtered_fetch_goes_on_where_it_stopped_looking() {
    let mut s = story();
    let big = "n".repeat(1000);
    for _ in 0..2000 {
        s.append(&big);
    }
    s.append("a yes b yes");
    let (mut next, mut out, mut calls) = (Offset(0), Vec::new(), 0);
    loop {
        let filter = StartsWith("yes");
        let fetched = s.p.fetch(next, 9, PLENTY, Some(&filter), &mut out);
        calls += 1;
        if fetched.next == fetched.end {
            break;
        }
        assert!(fetched.next > next, "progress");
        next = fetched.next;
    }
    let offsets: Vec<u64> = decode(&out).into_iter().map(|(o, _)| o).collect();
    assert_eq!(offsets, [2001, 2003]);
    assert_eq!(calls, 2);
}

#[test]
fn a_block_larger_than_the_ring_is_kept_alone() {
    let mut s = with(PartitionConfig {
        ring_bytes: 1000,
        ..PartitionConfig::default()
    });
    s.append("small");
    let big = "v".repeat(5000);
    s.append(&big);
    assert_eq!((s.p.first_available(), s.p.end()), (Offset(1), Offset(2)));
    s.append("small");
    assert_eq!(s.fetch(0, 9, PLENTY).1, "2:small");
}

#[test]
fn a_turn_larger_than_the_ring_is_announced_as_lag() {
    let mut s = ring_of(2);
    s.subscribe(1, from(Start::Latest));
    for i in 0..5 {
        s.try_append(&format!("r{i}")).unwrap();
    }
    s.p.seal();
    // Whole chunks go, and an unfinished turn is one.
    assert_eq!(s.drain(), "1<RingOverran 0..4 4> 1[4:r4]");
}

#[test]
fn retention_lets_records_go_by_age_and_says_when() {
    let mut s = with(PartitionConfig {
        retention_ms: Some(100),
        ..PartitionConfig::default()
    });
    s.subscribe(1, slow(Overflow::Block, 0, 0));
    assert_eq!(s.p.next_deadline(), None);
    s.append("a");
    s.now = Monotonic::from_millis(50);
    s.append("b");
    assert_eq!(s.p.next_deadline(), Some(Monotonic::from_millis(100)));
    s.p.handle_timeout(Monotonic::from_millis(99));
    assert_eq!(s.p.first_available(), Offset(0));
    s.p.handle_timeout(Monotonic::from_millis(100));
    assert_eq!(s.p.first_available(), Offset(1));
    assert_eq!(s.p.next_deadline(), Some(Monotonic::from_millis(150)));
    s.credit(1, 9);
    assert_eq!(s.drain(), "1<RingOverran 0..1 1> 1[1:b]");
    s.p.handle_timeout(Monotonic::from_millis(1000));
    assert_eq!((s.p.bytes(), s.p.next_deadline()), (0, None));
    assert_eq!(s.append("c"), 2, "offsets go on");
}

#[test]
fn a_commit_is_seen_whole_and_a_rollback_not_at_all() {
    let mut s = story();
    s.subscribe(1, from(Start::Latest));
    let kept = s.p.begin(s.now, 5, false).unwrap();
    let dropped = s.p.begin(s.now, 5, false).unwrap();
    for (session, words) in [(kept, "a b"), (dropped, "x"), (kept, "c")] {
        let (count, records) = batch(words);
        s.p.stage(s.now, 5, session, count, &records).unwrap();
    }
    s.p.seal();
    assert_eq!((s.drain(), s.p.end()), (String::new(), Offset(0)));
    s.p.rollback(5, dropped).unwrap();
    let done = s.p.commit(s.now, s.wall, 5, kept, None).unwrap();
    assert_eq!((done.first_offset, done.record_count), (Offset(0), 3));
    assert_eq!(s.drain(), "1[0:a 1:b 2:c]");
    assert_eq!(
        s.p.commit(s.now, s.wall, 5, kept, None),
        Err(SessionError::Unknown)
    );
}

#[test]
fn a_large_commit_fits_frames_and_becomes_visible_at_once() {
    let mut s = with(PartitionConfig {
        ring_bytes: 64 << 20,
        ..PartitionConfig::default()
    });
    let session = s.p.begin(s.now, 5, true).unwrap();
    let (count, records) = batch(&"v".repeat(900_000));
    for _ in 0..11 {
        s.p.stage(s.now, 5, session, count, &records).unwrap();
    }
    let refused = s.p.stage(s.now, 5, session, count, &records).unwrap_err();
    assert_eq!(Refusal::from(refused).code, ErrorCode::StagedTooLarge);
    let (count, records) = batch(&"w ".repeat(9_000));
    s.p.stage(s.now, 5, session, count, &records).unwrap();
    let (count, records) = batch(&"w ".repeat(990));
    let refused = s.p.stage(s.now, 5, session, count, &records).unwrap_err();
    assert!(matches!(
        refused,
        SessionError::TooManyRecords {
            records: 10_001,
            ..
        }
    ));

    let done = s.p.commit(s.now, s.wall, 5, session, Some(Offset(0)));
    assert_eq!(done.unwrap().record_count, 9_011);
    assert_eq!(s.p.end(), Offset(9_011), "visible without a seal");
    s.subscribe(1, from(Start::Earliest));
    let mut seen = 0;
    loop {
        match s.p.poll_delivery() {
            Some((key, Delivery::Records { bytes, records, .. })) => {
                seen += u64::from(records);
                s.p.window(key, bytes.len() as u64);
                s.p.credit(key, 0, PLENTY);
                let (header, _, _) = BlockHeader::split(&bytes).unwrap();
                assert!(header.records_bytes as usize <= BATCH_BYTES_MAX);
            }
            None => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, 9_011);
}

#[test]
fn one_exclusive_session_at_a_time() {
    let mut s = story();
    let first = s.p.begin(s.now, 1, true).unwrap();
    assert_eq!(s.p.begin(s.now, 2, true), Err(SessionError::Active));
    assert!(s.p.begin(s.now, 2, false).is_ok());
    s.p.rollback(1, first).unwrap();
    assert!(s.p.begin(s.now, 2, true).is_ok());
}

#[test]
fn a_failed_commit_leaves_the_session_to_its_owner() {
    let mut s = story();
    let session = s.p.begin(s.now, 1, true).unwrap();
    let (count, records) = batch("a");
    s.p.stage(s.now, 1, session, count, &records).unwrap();
    s.append("b");
    let refused = s.p.commit(s.now, s.wall, 1, session, Some(Offset(0)));
    assert_eq!(
        Refusal::from(refused.unwrap_err()).code,
        ErrorCode::OffsetConflict
    );
    assert_eq!(
        s.p.stage(s.now, 2, session, count, &records),
        Err(SessionError::Unknown),
        "it is not of owner 2"
    );
    let done = s.p.commit(s.now, s.wall, 1, session, Some(Offset(1)));
    assert_eq!(done.unwrap().first_offset, Offset(1));
}

#[test]
fn sessions_end_with_their_owner_or_when_idle() {
    let mut s = story();
    s.p.begin(s.now, 1, true).unwrap();
    let other = s.p.begin(s.now, 2, false).unwrap();
    s.p.abort_owner(1);
    assert_eq!(s.p.sessions(), 1);
    let deadline = s.now + SESSION_IDLE;
    assert_eq!(s.p.next_deadline(), Some(deadline));
    s.p.handle_timeout(deadline);
    assert_eq!(s.p.rollback(2, other), Err(SessionError::Unknown));
    assert_eq!((s.p.sessions(), s.p.next_deadline()), (0, None));
}

#[test]
fn limits_of_sessions_and_subscribers_are_named() {
    let mut s = with(PartitionConfig {
        sessions_max: 1,
        subscribers_max: 1,
        ..PartitionConfig::default()
    });
    s.p.begin(s.now, 1, false).unwrap();
    let refusal = Refusal::from(s.p.begin(s.now, 1, false).unwrap_err());
    assert_eq!(refusal.fact(FactId::Limit), Some(1));
    s.subscribe(1, from(Start::Latest));
    assert_eq!(
        s.p.subscribe(SubKey(1), from(Start::Latest)),
        Err(SubscribeError::KeyInUse)
    );
    assert_eq!(
        s.p.subscribe(SubKey(2), from(Start::Latest)),
        Err(SubscribeError::TooMany { limit: 1 })
    );
}

#[test]
fn a_partition_that_goes_away_ends_everyone() {
    let mut s = story();
    s.subscribe(1, from(Start::Latest));
    s.subscribe(2, slow(Overflow::Block, 0, 0));
    s.append("a");
    s.p.end_subscriptions(ErrorCode::Draining);
    assert_eq!(s.drain(), "1END(Draining 0) 2END(Draining 0)");
    assert!(!s.p.has_work());
}

#[test]
fn a_stuck_transport_does_not_keep_the_ring_alive() {
    let config = PartitionConfig {
        ring_bytes: 64 << 10,
        ..PartitionConfig::default()
    };
    let mut s = with(config);
    // One small delivery now and then, never given back: each would pin a
    // segment of its own.
    s.subscribe(1, from(Start::Latest));
    let big = "v".repeat(300);
    let mut held = Vec::new();
    for _ in 0..20_000 {
        s.append(&big);
        while let Some((_, Delivery::Records { bytes, .. })) = s.p.poll_delivery() {
            if s.p.end().0 % 50 == 0 {
                held.push(bytes);
            }
            s.p.window(SubKey(1), 400);
            s.p.credit(SubKey(1), 1, 400);
        }
        assert!(s.p.memory() <= s.p.ring().memory_max(), "{}", s.p.memory());
    }
    assert_eq!(held.len(), 400);
    let pinned = s.p.memory();
    drop(held);
    for _ in 0..1000 {
        s.append(&big);
    }
    assert!(s.p.memory() < pinned, "released memory is let go");
}
