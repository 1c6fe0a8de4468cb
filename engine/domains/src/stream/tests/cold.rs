//! Reading what memory let go.

use super::super::fake_log::FakeLog;
use super::durable::{durable, durable_with, write_each};
use super::*;

/// `words`, one block each, in the log only.
fn cold(words: &str) -> (Story, FakeLog) {
    let (mut s, mut log) = durable();
    write_each(&mut s, &mut log, words);
    s.p.evict_committed(0);
    (s, log)
}

fn try_fetch(s: &mut Story, from: u64) -> FetchResult {
    s.p.fetch(Offset(from), 9, PLENTY, None, &mut Vec::new())
}

#[test]
fn a_fetch_of_a_cold_place_is_answered_after_one_read() {
    let (mut s, log) = cold("a b c");
    assert_eq!(s.p.memory(), 0);
    assert_eq!(try_fetch(&mut s, 1), FetchResult::Cold);
    let read = s.p.poll_read().unwrap();
    assert_eq!(
        (read.from, read.max_bytes),
        (Offset(1), COLD_READ_BYTES_FIRST)
    );
    assert_eq!(s.p.poll_read(), None, "asked once");
    assert_eq!(try_fetch(&mut s, 1), FetchResult::Cold, "still waiting");
    assert_eq!(s.p.poll_read(), None, "still asked once");
    s.p.handle_read(s.now, read.from, log.read(1, 0, read.max_bytes, 9));
    assert_eq!(s.fetch(1, 9, PLENTY).1, "1:b 2:c");
    assert_eq!(try_fetch(&mut s, 0), FetchResult::Cold, "before the chunk");
}

#[test]
fn a_subscriber_goes_from_the_log_to_memory_and_on_to_the_tail() {
    let (mut s, mut log) = cold("a b c");
    write_each(&mut s, &mut log, "d e");
    s.subscribe(1, from(Start::Earliest));
    assert_eq!(s.drain(), "");
    assert_eq!(log.answer(s.now, &mut s.p), 1);
    assert_eq!(s.drain(), "1[0:a 1:b 2:c 3:d 4:e]");
    write_each(&mut s, &mut log, "f");
    assert_eq!(s.drain(), "1[5:f]");
    assert_eq!(s.p.poll_read(), None, "the tail needs no read");
}

#[test]
fn many_readers_of_one_place_cost_one_read() {
    let (mut s, log) = cold("a b c d e f g h");
    // How far a read reaches is known after the first.
    s.subscribe(1, from(Start::Earliest));
    s.drain();
    log.answer(s.now, &mut s.p);
    s.drain();
    s.p.evict_committed(0);
    for key in 10..110 {
        s.subscribe(key, from(Start::Offset(Offset((key - 10) % 4))));
    }
    assert_eq!(s.drain(), "");
    assert_eq!(log.answer(s.now, &mut s.p), 1);
    let mut seen = 0;
    while let Some((_, delivery)) = s.p.poll_delivery() {
        assert!(matches!(delivery, Delivery::Records { .. }));
        seen += 1;
    }
    assert_eq!(seen, 100);
}

#[test]
fn a_replay_reads_ahead_of_its_reader() {
    let big = "v".repeat(30_000);
    let (mut s, log) = cold(&[&big[..]; 20].join(" "));
    s.subscribe(1, from(Start::Earliest));
    s.drain();
    let first = s.p.poll_read().unwrap();
    let answer = log.read(0, 0, first.max_bytes, 9);
    let end = answer.as_ref().unwrap().end;
    s.p.handle_read(s.now, first.from, answer);
    assert_eq!(s.p.poll_read(), None, "nobody has read on yet");
    assert!(s.p.poll_delivery().is_some());
    let ahead = s.p.poll_read().unwrap();
    assert_eq!((ahead.from, ahead.max_bytes), (end, COLD_READ_BYTES));
    assert!(s.p.has_work(), "while it still has some of the first");
}

#[test]
fn a_reader_faster_than_the_disk_reads_on_in_large_pieces() {
    let (mut s, log) = cold("a b c d e f");
    s.subscribe(1, from(Start::Earliest));
    s.drain();
    let first = s.p.poll_read().unwrap();
    assert_eq!(first.max_bytes, COLD_READ_BYTES_FIRST);
    s.p.handle_read(s.now, first.from, log.read(0, 0, PLENTY, 2));
    assert_eq!(s.drain(), "1[0:a 1:b]", "all of the chunk at once");
    let next = s.p.poll_read().unwrap();
    assert_eq!((next.from, next.max_bytes), (Offset(2), COLD_READ_BYTES));
    assert_eq!(s.p.poll_read(), None, "asked once");
}

#[test]
fn answers_may_come_late_and_in_any_order() {
    let (mut s, log) = cold("a b c d e f");
    s.subscribe(1, from(Start::Offset(Offset(0))));
    s.subscribe(2, from(Start::Offset(Offset(3))));
    s.subscribe(3, from(Start::Offset(Offset(5))));
    s.drain();
    let (one, two) = (s.p.poll_read().unwrap(), s.p.poll_read().unwrap());
    assert_eq!((one.from, two.from), (Offset(0), Offset(3)));
    assert_eq!(s.p.poll_read(), None, "{COLD_READS_MAX} at once");
    s.p.handle_read(s.now, two.from, log.read(3, 0, PLENTY, 1));
    assert_eq!(s.drain(), "2[3:d]");
    s.p.handle_read(s.now, Offset(4), log.read(4, 0, PLENTY, 1));
    assert_eq!(s.drain(), "", "nobody asked for that");
    s.p.handle_read(s.now, one.from, log.read(0, 0, PLENTY, 2));
    assert_eq!(s.drain(), "1[0:a 1:b]");
    while log.answer(s.now, &mut s.p) > 0 {}
    let rest = s.drain();
    for part in ["1[2:c 3:d 4:e 5:f]", "2[4:e 5:f]", "3[5:f]"] {
        assert!(rest.contains(part), "{rest}");
    }
}

#[test]
fn records_trimmed_while_they_are_read_are_announced() {
    let (mut s, log) = cold("a b c d");
    s.subscribe(1, from(Start::Earliest));
    s.drain();
    let read = s.p.poll_read().unwrap();
    let answer = log.read(0, 0, PLENTY, 9);
    assert!(s.p.trim(Offset(2), s.wall));
    assert_eq!(s.drain(), "1<RingOverran 0..2 2>");
    s.p.handle_read(s.now, read.from, answer);
    assert_eq!(s.drain(), "1[2:c 3:d]", "never a trimmed record");
}

#[test]
fn a_log_that_trimmed_first_moves_the_start() {
    let (mut s, log) = cold("a b c d");
    s.subscribe(1, from(Start::Earliest));
    s.drain();
    let read = s.p.poll_read().unwrap();
    s.p.handle_read(s.now, read.from, log.read(0, 3, PLENTY, 9));
    assert_eq!(s.drain(), "1<RingOverran 0..3 3>");
    assert_eq!(s.p.first_available(), Offset(3));
    log.answer(s.now, &mut s.p);
    assert_eq!(s.drain(), "1[3:d]");
}

#[test]
fn damage_ends_who_comes_to_it_and_is_never_skipped() {
    let (mut s, mut log) = cold("a b c d");
    log.damaged.insert(2);
    s.subscribe(1, from(Start::Earliest));
    s.subscribe(2, from(Start::Offset(Offset(3))));
    let mut said = s.drain();
    while log.answer(s.now, &mut s.p) > 0 {
        said += &s.drain();
        said += " ";
    }
    for part in ["1[0:a 1:b]", "1END(PartitionFenced 2)", "2[3:d]"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(try_fetch(&mut s, 2), FetchResult::Fenced { at: Offset(2) });
    assert_eq!(s.fetch(0, 9, PLENTY).1, "0:a 1:b");
}

#[test]
fn blocks_that_are_not_the_ones_asked_for_are_damage() {
    let (mut s, log) = cold("a b c d");
    let whole = log.read(0, 0, PLENTY, 9).unwrap();
    let wrong = [
        StreamChunk {
            bytes: whole.bytes.slice(41..),
            first: Offset(1),
            ..whole.clone()
        },
        StreamChunk {
            end: Offset(5),
            ..whole.clone()
        },
        StreamChunk {
            bytes: whole.bytes.slice(..40),
            ..whole
        },
    ];
    for (i, chunk) in wrong.into_iter().enumerate() {
        let mut s2 = with(*s.p.config());
        s2.p = log.recover(*s.p.config(), None, log.records.len());
        s2.subscribe(1, from(Start::Earliest));
        s2.drain();
        let read = s2.p.poll_read().unwrap();
        s2.p.handle_read(s2.now, read.from, Ok(chunk));
        assert_eq!(s2.drain(), "1END(PartitionFenced 0)", "case {i}");
    }
    s.subscribe(1, from(Start::Earliest));
    s.drain();
    log.answer(s.now, &mut s.p);
    assert_eq!(s.drain(), "1[0:a 1:b 2:c 3:d]");
}

#[test]
fn a_failing_disk_is_tried_a_few_times_and_forgiven_later() {
    let (mut s, log) = cold("a b");
    s.subscribe(1, from(Start::Earliest));
    let nothing = StreamChunk {
        bytes: bytes::Bytes::new(),
        first: Offset(0),
        end: Offset(0),
    };
    let answers = [Err(ColdError::Failed), Ok(nothing), Err(ColdError::Failed)];
    assert_eq!(answers.len(), usize::from(COLD_TRIES));
    for answer in answers {
        assert_eq!(s.drain(), "");
        let read = s.p.poll_read().unwrap();
        s.p.handle_read(s.now, read.from, answer);
    }
    assert_eq!(s.drain(), "1END(PartitionFenced 0)");
    assert_eq!(try_fetch(&mut s, 0), FetchResult::Fenced { at: Offset(0) });
    let due = s.p.next_deadline().unwrap();
    s.p.handle_timeout(due);
    assert_eq!(try_fetch(&mut s, 0), FetchResult::Cold);
    log.answer(s.now, &mut s.p);
    assert_eq!(s.fetch(0, 9, PLENTY).1, "0:a 1:b");
}

#[test]
fn a_read_that_succeeds_forgets_earlier_failures() {
    let (mut s, log) = cold("a b");
    s.subscribe(1, slow(Overflow::Block, 0, 0));
    for _ in 0..2 {
        assert_eq!(try_fetch(&mut s, 0), FetchResult::Cold);
        for _ in 1..COLD_TRIES {
            let read = s.p.poll_read().unwrap();
            s.p.handle_read(s.now, read.from, Err(ColdError::Failed));
            assert_eq!(try_fetch(&mut s, 0), FetchResult::Cold);
        }
        log.answer(s.now, &mut s.p);
        assert_eq!(s.fetch(0, 9, PLENTY).1, "0:a 1:b");
        s.p.evict_committed(0);
    }
}

#[test]
fn what_was_trimmed_is_not_asked_for_any_more() {
    let (mut s, log) = cold("a b c d");
    assert_eq!(try_fetch(&mut s, 0), FetchResult::Cold);
    log.answer(s.now, &mut s.p);
    assert!(s.p.memory() > 0);
    s.p.trim(Offset(4), s.wall);
    assert_eq!(s.p.memory(), 0, "nor kept");
    let (mut s, _) = cold("a b c d");
    assert_eq!(try_fetch(&mut s, 0), FetchResult::Cold);
    s.p.trim(Offset(1), s.wall);
    assert_eq!(s.p.poll_read(), None);
}

#[test]
fn what_was_read_back_is_let_go_when_nobody_reads_it() {
    let (mut s, log) = cold("a b c");
    s.subscribe(1, from(Start::Earliest));
    s.drain();
    log.answer(s.now, &mut s.p);
    s.drain();
    assert!(s.p.memory() > 0);
    let mut ticks = 0;
    while let Some(due) = s.p.next_deadline() {
        s.p.handle_timeout(due);
        ticks += 1;
        assert!(ticks < 4, "a timer that never ends");
    }
    assert_eq!(s.p.memory(), 0);
    assert!(ticks >= 2, "a chunk just used is kept for a while");
}

#[test]
fn chunks_kept_and_pinned_are_bounded() {
    let big = "v".repeat(40_000);
    let (mut s, log) = cold(&[&big[..]; 60].join(" "));
    let mut held = Vec::new();
    let mut copied = 0;
    for key in 0..60 {
        s.subscribe(key, from(Start::Offset(Offset(key))));
        while s.p.poll_delivery().is_some() {}
        while let Some(read) = s.p.poll_read() {
            let answer = log.read(read.from.0, 0, read.max_bytes, 1);
            let chunk = answer.as_ref().unwrap().bytes.as_ptr();
            s.p.handle_read(s.now, read.from, answer);
            while let Some((_, delivery)) = s.p.poll_delivery() {
                if let Delivery::Records { bytes, .. } = delivery {
                    copied += usize::from(bytes.as_ptr() != chunk);
                    held.push(bytes);
                }
            }
            s.p.unsubscribe(SubKey(key));
        }
        assert!(s.p.memory() <= 12 * 41_000, "{}", s.p.memory());
    }
    assert!(held.len() >= 50 && copied > 30, "{} {copied}", held.len());
    drop(held);
    for _ in 0..3 {
        if let Some(due) = s.p.next_deadline() {
            s.p.handle_timeout(due);
        }
    }
    assert_eq!((s.p.memory(), s.p.next_deadline()), (0, None));
}

#[test]
fn a_time_is_found_in_the_log_and_in_memory() {
    for evict_after in 0..5 {
        let (mut s, mut log) = durable();
        for (i, (wall, word)) in [
            (1000, "a"),
            (2000, "b"),
            (2000, "c"),
            (3000, "d"),
            (5000, "e"),
        ]
        .into_iter()
        .enumerate()
        {
            if i == evict_after {
                s.p.evict_committed(0);
            }
            s.wall = WallMs(wall);
            write_each(&mut s, &mut log, word);
        }
        if evict_after == 0 {
            s.p.evict_committed(0);
        }
        for (time, expected) in [
            (0, "0:a 1:b 2:c 3:d 4:e"),
            (1000, "0:a 1:b 2:c 3:d 4:e"),
            (1001, "1:b 2:c 3:d 4:e"),
            (2001, "3:d 4:e"),
            (4000, "4:e"),
            (5000, "4:e"),
            (5001, ""),
        ] {
            for hint in 0..=1 {
                let time = WallMs(time);
                let hint = Offset(hint.min(u64::from(time.0 > 1000)));
                for start in [Start::Time(time), Start::TimeFrom { time, hint }] {
                    s.subscribe(1, from(start));
                    let mut got = s.drain();
                    while log.answer(s.now, &mut s.p) > 0 {
                        got += &s.drain();
                    }
                    let got = got.replace("1[", "").replace(']', " ");
                    let got: Vec<&str> = got.split_whitespace().collect();
                    assert_eq!(got.join(" "), expected, "{start:?}, {evict_after}");
                    s.p.unsubscribe(SubKey(1));
                }
            }
        }
    }
}

#[test]
fn credit_that_ends_inside_a_cold_block_goes_on_there() {
    let (mut s, mut log) = durable();
    s.try_append("a b c").unwrap();
    log.flush(&mut s.p);
    s.p.evict_committed(0);
    s.subscribe(1, slow(Overflow::Block, 0, 0));
    s.p.unsubscribe(SubKey(1));
    let options = SubscribeOptions {
        credit_records: 2,
        ..from(Start::Earliest)
    };
    s.subscribe(1, options);
    s.drain();
    log.answer(s.now, &mut s.p);
    assert_eq!(s.drain(), "1[0:a 1:b]");
    s.p.evict_committed(0);
    s.credit(1, 5);
    assert_eq!(s.drain(), "");
    log.answer(s.now, &mut s.p);
    assert_eq!(s.drain(), "1[2:c]");
}

#[test]
fn a_blocking_subscriber_holds_up_no_durable_append() {
    let (mut s, mut log) = durable_with(PartitionConfig {
        ring_bytes: 1000,
        ring_records_max: 3,
        ..PartitionConfig::default()
    });
    s.subscribe(1, slow(Overflow::Block, 0, 1));
    for i in 0..20 {
        write_each(&mut s, &mut log, &format!("r{i}"));
    }
    assert_eq!(s.drain(), "");
    s.credit(1, 100);
    let mut got = s.drain();
    while log.answer(s.now, &mut s.p) > 0 {
        got += &s.drain();
    }
    let all: Vec<String> = (0..20).map(|i| format!("{i}:r{i}")).collect();
    let got = got.replace("1[", " ").replace(']', " ");
    assert_eq!(got.split_whitespace().collect::<Vec<_>>(), all);
}
