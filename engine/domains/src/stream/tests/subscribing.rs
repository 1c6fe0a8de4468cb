//! Starts, credit, policies, filters, turns.

use super::*;

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
fn after_a_cut_block_the_next_ones_are_shared_again() {
    let mut s = story();
    s.subscribe(1, slow(Overflow::DropOldest, 0, 1));
    s.try_append("a b").unwrap();
    s.append("c d");
    s.subscribe(2, from(Start::Offset(Offset(2))));
    assert_eq!(s.drain(), "1[0:a] 2[2:c 3:d]");
    s.subscribe(3, from(Start::Earliest));
    s.credit(1, 9);
    let mut ends = Vec::new();
    while let Some((_, Delivery::Records { bytes, next, .. })) = s.p.poll_delivery() {
        if next == Offset(4) {
            ends.push(bytes.as_ptr_range().end);
        }
    }
    assert_eq!(ends.len(), 2);
    assert_eq!(ends[0], ends[1], "the second block is not copied");
}
