//! Fetches, retention and memory.

use super::*;

#[test]
fn time_never_goes_back_within_a_partition() {
    let mut s = story();
    s.wall = WallMs(5000);
    s.append("a");
    s.wall = WallMs(10);
    s.append("b");
    let mut out = Vec::new();
    let _ = s.p.fetch(Offset(1), 1, PLENTY, None, &mut out);
    let (header, _, _) = BlockHeader::split(&out).unwrap();
    assert_eq!(header.timestamp, WallMs(5000));
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
        let result = s.p.fetch(next, 9, PLENTY, Some(&filter), &mut out);
        let FetchResult::Done(fetched) = result else {
            panic!("{result:?}");
        };
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
            if s.p.end().0.is_multiple_of(50) {
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

#[test]
fn what_the_ring_itself_holds_is_no_pressure() {
    let mut s = with(PartitionConfig {
        ring_bytes: 64 << 10,
        retention_ms: Some(100),
        ..PartitionConfig::default()
    });
    let big = "v".repeat(900);
    for ms in 0..1000 {
        s.now = Monotonic::from_millis(ms);
        s.append(&big);
    }
    s.p.handle_timeout(Monotonic::from_millis(1045));
    assert!(s.p.bytes() > 48 << 10, "most is still there");
    assert!(!s.p.ring().under_pressure());
}
