#![allow(clippy::unwrap_used)] // a test may

use super::*;

const G: GroupName = "";
const SECOND: u64 = 1_000_000_000;

fn given(player: PlayerId, until: u64, attempt: u16) -> Reservation {
    Reservation {
        player,
        until,
        attempt,
    }
}

fn at(now: u64) -> Moment {
    Moment {
        since: now,
        now,
        jumps: 0,
    }
}

fn queue_of(put: PutTruth) -> QueueTruth {
    let rules = QueueRules {
        max_attempts: 3,
        ..QueueRules::default()
    };
    let mut queue = QueueTruth::with(rules, &[G]);
    queue.tried(7, put);
    queue.put(0, 7, 0).unwrap();
    queue
}

fn queue() -> QueueTruth {
    queue_of(PutTruth::default())
}

#[test]
fn a_message_in_two_hands_or_after_its_ack_is_noticed() {
    let mut queue = queue();
    queue
        .delivered(G, (0, 7), at(10), given(1, 100, 1))
        .unwrap();
    assert!(
        queue
            .delivered(G, (0, 7), at(50), given(2, 200, 1))
            .is_err()
    );
    let mut queue = self::queue();
    queue
        .delivered(G, (0, 7), at(10), given(1, 100, 1))
        .unwrap();
    queue
        .delivered(G, (0, 7), at(100), given(2, 200, 2))
        .unwrap();
    queue.ack_sent(G, 0, 2);
    queue.ack_done(G, 0, 0);
    assert!(
        queue
            .delivered(G, (0, 7), at(300), given(1, 400, 2))
            .is_err()
    );
    assert!(queue.dead(G, 0, false, 3, (300, 0)).is_err());
}

#[test]
fn attempts_count_what_failed_and_nothing_else() {
    let mut queue = queue();
    queue
        .delivered(G, (0, 7), at(10), given(1, 100, 1))
        .unwrap();
    queue.nack_sent(G, 0, 1);
    queue.nack_done(G, 0, 1);
    assert!(
        queue
            .delivered(G, (0, 7), at(20), given(1, 100, 1))
            .is_err()
    );
    let mut queue = self::queue();
    assert!(
        queue
            .delivered(G, (0, 7), at(20), given(1, 100, 2))
            .is_err()
    );
    assert!(
        queue.dead(G, 0, false, 3, (20, 0)).is_err(),
        "nobody had it"
    );
}

#[test]
fn a_message_that_is_nowhere_is_noticed_by_the_group_that_lacks_it() {
    let mut queue = QueueTruth::with(QueueRules::default(), &["a", "b"]);
    queue.group_is_open("a");
    queue.group_is_open("b");
    queue.tried(7, PutTruth::default());
    queue.put(0, 7, 0).unwrap();
    queue.ack_done("a", 0, 0);
    let noticed = queue.all_accounted_for(0, 0).unwrap_err();
    assert!(noticed.what.contains("\"b\""), "{noticed}");
    queue.ack_done("b", 0, 0);
    queue.all_accounted_for(0, 0).unwrap();
}

#[test]
fn a_group_that_came_later_need_not_see_what_another_was_done_with() {
    let mut queue = QueueTruth::with(QueueRules::default(), &["a", "b"]);
    queue.tried(7, PutTruth::default());
    queue.put(0, 7, 0).unwrap();
    assert!(queue.all_accounted_for(0, 0).is_err());
    queue.ack_done("a", 0, 0);
    queue.all_accounted_for(0, 0).unwrap();
}

#[test]
fn a_message_before_its_delay_or_after_its_time_is_noticed() {
    let put = PutTruth {
        delay: SECOND,
        ttl: 2 * SECOND,
        ..PutTruth::default()
    };
    for (time, fine) in [(SECOND / 2, false), (SECOND, true), (3 * SECOND, false)] {
        let mut queue = queue_of(put);
        let result = queue.delivered(G, (0, 7), at(time), given(1, time, 1));
        assert_eq!(result.is_ok(), fine, "{time}");
    }
    let mut queue = queue_of(put);
    assert!(queue.dead(G, 0, true, 0, (SECOND, 0)).is_err(), "too early");
    queue.dead(G, 0, true, 0, (2 * SECOND, 0)).unwrap();
}

#[test]
fn a_key_out_of_its_order_is_noticed() {
    let fresh = || {
        let mut queue = queue();
        queue.rules.ordered_by_key = true;
        queue.tried(8, PutTruth::default());
        queue.put(1, 8, 0).unwrap();
        queue
    };
    let second = |queue: &mut QueueTruth| queue.delivered(G, (1, 8), at(60), given(2, 90, 1));
    let mut queue = fresh();
    assert!(second(&mut queue).is_err(), "the first was never given out");
    let mut queue = fresh();
    queue
        .delivered(G, (0, 7), at(10), given(1, 100, 1))
        .unwrap();
    assert!(second(&mut queue).is_err(), "the first is reserved");
    queue.nack_sent(G, 0, 1);
    second(&mut queue).unwrap();
    let mut queue = fresh();
    queue
        .delivered(G, (0, 7), at(10), given(1, 100, 1))
        .unwrap();
    queue.nack_sent(G, 0, 1);
    queue.nack_done(G, 0, 1);
    assert!(
        second(&mut queue).is_err(),
        "the first is to be tried again"
    );
    queue.dead(G, 0, false, 3, (20, 0)).unwrap_err();
    queue.ack_done(G, 0, 0);
    second(&mut queue).unwrap();
}

#[test]
fn a_dead_letter_that_was_replayed_must_come_again_and_one_purged_must_not() {
    let mut queue = queue();
    queue.delivered(G, (0, 7), at(10), given(1, 20, 1)).unwrap();
    queue.nack_sent(G, 0, 1);
    queue.nack_done(G, 0, 3);
    queue.dead(G, 0, false, 3, (30, 0)).unwrap();
    queue.all_accounted_for(40, 0).unwrap();
    assert!(queue.delivered(G, (0, 7), at(40), given(1, 50, 1)).is_err());
    queue.replaying(G, 0);
    assert!(queue.all_accounted_for(40, 0).is_err());
    queue.delivered(G, (0, 7), at(40), given(1, 50, 1)).unwrap();
    queue.purging(G, 0);
    queue.purged(G, 0);
    assert!(queue.delivered(G, (0, 7), at(60), given(1, 70, 1)).is_err());
}

#[test]
fn a_group_that_is_made_begins_where_it_was_told_to() {
    const NEW: GroupName = "new";
    let take = |queue: &mut QueueTruth| queue.delivered(NEW, (0, 7), at(10), given(1, 20, 1));
    let mut queue = queue();
    let birth = queue.making(true);
    queue.made(NEW, birth);
    assert!(take(&mut queue).is_err(), "put before it began");
    let mut queue = self::queue();
    queue.ack_done(G, 0, 0);
    let birth = queue.making(false);
    queue.made(NEW, birth);
    assert!(take(&mut queue).is_err(), "everybody was done with it");
    let mut queue = self::queue();
    let birth = queue.making(false);
    queue.made(NEW, birth);
    take(&mut queue).unwrap();
}

#[test]
fn a_group_from_the_oldest_message_on_has_what_another_has() {
    const NEW: GroupName = "new";
    let mut queue = QueueTruth::with(QueueRules::default(), &[G]);
    queue.group_is_open(G);
    queue.tried(7, PutTruth::default());
    queue.put(0, 7, 0).unwrap();
    let birth = queue.making(false);
    queue.made(NEW, birth);
    queue.ack_done(G, 0, 0);
    let noticed = queue.all_accounted_for(0, 0).unwrap_err();
    assert!(noticed.what.contains(NEW), "{noticed}");
    queue.unmaking(NEW);
    queue.all_accounted_for(0, 0).unwrap();
    assert!(!queue.has_group(NEW));
}

#[test]
fn more_in_flight_than_there_may_be_is_noticed() {
    let rules = |all, own| QueueRules {
        max_attempts: 3,
        max_in_flight: all,
        consumer_in_flight: own,
        ..QueueRules::default()
    };
    for (rules, other, fine) in [
        (rules(1, 0), 2, false),
        (rules(0, 1), 1, false),
        (rules(2, 1), 2, true),
    ] {
        let mut queue = QueueTruth::with(rules, &[G]);
        queue.tried(7, PutTruth::default());
        queue.tried(8, PutTruth::default());
        queue.delivered(G, (0, 7), at(10), given(1, 99, 1)).unwrap();
        let second = queue.delivered(G, (1, 8), at(20), given(other, 99, 1));
        assert_eq!(second.is_ok(), fine, "{rules:?}");
    }
}
