//! Put, take, acknowledge.

use super::*;

#[test]
fn messages_come_in_order_once_and_go_with_their_ack() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    w.put(&["c"]);
    let first = w.take(1, 2);
    assert_eq!(values(&first), ["a", "b"]);
    assert_eq!(first[0].attempt, 1);
    assert_eq!(first[0].last_error, None);
    assert_eq!(first[0].enqueued, WallMs(1_000_000_000));
    let second = w.take(2, 10);
    assert_eq!(values(&second), ["c"]);
    assert_eq!(w.take(1, 10), []);
    assert_eq!(w.ack(&tokens(&first)), [TokenResult::Done; 2]);
    assert_eq!(w.releases(), 1);
    assert_eq!(w.ack(&tokens(&second)), [TokenResult::Done]);
    assert_eq!(w.releases(), 1);
    let counts = w.q.queue_counts();
    assert_eq!((counts.messages, counts.bytes, counts.resident), (0, 0, 0));
    assert_eq!(w.counts("").done_below, 3);
}

#[test]
fn a_put_is_seen_only_when_it_is_durable() {
    let mut w = World::new(config());
    w.put(&["a"]);
    w.q.create_group(w.wall(), b"").unwrap();
    w.flush();
    let put = Put {
        count: 1,
        records: encode(&[("", "b")]),
        delay_ms: 0,
        ttl_ms: 0,
        producer: None,
    };
    let done = w.q.put(w.now(), w.wall(), put).unwrap();
    w.append();
    assert!(w.q.committed() < done.done_at);
    assert_eq!(values(&w.take(1, 10)), ["a"]);
    w.commit();
    assert_eq!(w.q.committed(), done.done_at);
    assert_eq!(values(&w.take(1, 10)), ["b"]);
}

#[test]
fn an_ack_on_its_way_to_the_log_keeps_its_message_though_its_time_runs_out() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let taken = w.take(1, 1);
    let mut results = Vec::new();
    let done =
        w.q.ack(w.now(), w.wall(), &tokens(&taken), &mut results)
            .unwrap();
    w.pass_quietly(60_000);
    assert_eq!(w.take(2, 1), [], "nobody else may have it");
    assert!(w.q.committed() < done);
    // A repeat before the log has answered is no other ack.
    w.q.ack(w.now(), w.wall(), &tokens(&taken), &mut results)
        .unwrap();
    assert_eq!(results, [TokenResult::Done; 2]);
    w.flush();
    assert!(w.q.committed() >= done);
    assert_eq!(w.q.queue_counts().messages, 0);
    assert_eq!(w.log.len(), 3, "a put, a group, one ack");
}

#[test]
fn a_delayed_message_is_ready_after_its_delay_and_not_before() {
    let mut w = World::new(config());
    w.put_later(&["late"], 1000, 0);
    w.put(&["now"]);
    assert_eq!(values(&w.take(1, 10)), ["now"]);
    w.pass(900);
    assert_eq!(w.take(1, 10), []);
    assert_eq!(w.counts("").delayed, 1);
    w.pass(100);
    assert_eq!(values(&w.take(1, 10)), ["late"]);
}

#[test]
fn one_stuck_message_holds_back_no_other() {
    let mut w = World::new(config());
    let all: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    for one in &all {
        w.put(&[one]);
    }
    let stuck = w.take(1, 1);
    for _ in 0..99 {
        let one = w.take(2, 1);
        w.ack(&tokens(&one));
    }
    let counts = w.counts("");
    assert_eq!((counts.in_flight, counts.done_below), (1, 0));
    w.ack(&tokens(&stuck));
    assert_eq!(w.counts("").done_below, 100);
}

#[test]
fn acks_of_one_turn_are_one_op() {
    let mut w = World::new(config());
    w.put(&["a", "b", "c"]);
    let taken = w.take(1, 3);
    let before = w.log.len();
    let mut results = Vec::new();
    for one in &taken {
        w.q.ack(w.now(), w.wall(), &[one.token], &mut results)
            .unwrap();
    }
    w.flush();
    assert_eq!(w.log.len(), before + 1);
    assert_eq!(w.q.queue_counts().messages, 0);
}

#[test]
fn a_repeated_put_of_an_idempotent_producer_is_stored_once_also_after_a_crash() {
    use pinion_types::{ProducerId, Sequence};
    let mut w = World::new(config());
    let put = |sequence| Put {
        count: 1,
        records: encode(&[("", "a")]),
        delay_ms: 0,
        ttl_ms: 0,
        producer: Some((ProducerId(7), Sequence(sequence))),
    };
    let first = w.q.put(w.now(), w.wall(), put(0)).unwrap();
    let again = w.q.put(w.now(), w.wall(), put(0)).unwrap();
    assert!(again.duplicate && !first.duplicate);
    assert_eq!((again.first, again.done_at), (first.first, first.done_at));
    w.flush();
    assert!(matches!(
        w.q.put(w.now(), w.wall(), put(2)),
        Err(QueueError::SequenceGap { expected: 1, .. })
    ));
    w.crash(0, 0, None);
    assert!(w.q.put(w.now(), w.wall(), put(0)).unwrap().duplicate);
    assert_eq!(w.take(1, 10).len(), 1);
}

#[test]
fn an_ephemeral_queue_works_without_a_log() {
    let mut w = World::new(QueueConfig {
        durable: false,
        ..config()
    });
    let put = Put {
        count: 1,
        records: encode(&[("", "a")]),
        delay_ms: 0,
        ttl_ms: 0,
        producer: None,
    };
    let pump = |q: &mut QueuePartition| {
        while let Some(op) = q.poll_op() {
            assert!(op.is_empty() && !op.retain);
            q.commit_next();
        }
    };
    w.q.put(w.now(), w.wall(), put).unwrap();
    w.q.create_group(w.wall(), b"").unwrap();
    pump(&mut w.q);
    let taken = w.take(1, 1);
    assert_eq!(values(&taken), ["a"]);
    let mut results = Vec::new();
    w.q.ack(w.now(), w.wall(), &tokens(&taken), &mut results)
        .unwrap();
    pump(&mut w.q);
    assert_eq!(w.q.queue_counts().messages, 0);
    assert_eq!(w.q.poll_release(), None);
}

#[test]
fn a_later_message_of_a_key_waits_for_the_earlier_one() {
    let mut w = World::new(QueueConfig {
        ordered_by_key: true,
        ..config()
    });
    w.put_records(
        &[("k", "1"), ("k", "2"), ("l", "3"), ("k", "4"), ("", "5")],
        0,
        0,
    );
    let first = w.take(1, 10);
    assert_eq!(values(&first), ["1", "3", "5"]);
    assert_eq!(w.counts("").blocked, 2);
    // A failed attempt keeps the turn.
    w.nack(&[first[0].token], Some(500), "no");
    assert_eq!(w.take(1, 10), []);
    w.pass(500);
    let again = w.take(1, 10);
    assert_eq!((values(&again), again[0].attempt), (vec!["1".into()], 2));
    w.ack(&tokens(&again));
    assert_eq!(values(&w.take(1, 10)), ["2"]);
}

#[test]
fn a_dead_letter_gives_up_the_turn_of_its_key() {
    let mut w = World::new(QueueConfig {
        ordered_by_key: true,
        max_attempts: 1,
        ..config()
    });
    w.put_records(&[("k", "1"), ("k", "2")], 0, 0);
    let first = w.take(1, 10);
    w.nack(&tokens(&first), None, "no");
    let second = w.take(1, 10);
    assert_eq!(values(&second), ["2"]);
    // Replayed, it waits its turn like any other.
    w.settle_dead(DeadAction::Replay, &[first[0].id]);
    assert_eq!(w.take(1, 10), []);
    w.ack(&tokens(&second));
    assert_eq!(values(&w.take(1, 10)), ["1"]);
}
