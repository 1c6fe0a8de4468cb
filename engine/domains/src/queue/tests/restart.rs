//! What a crash leaves.

use super::*;

#[test]
fn what_a_start_reads_back_is_not_counted_again() {
    let mut w = World::new(QueueConfig {
        max_attempts: 1,
        ..config()
    });
    w.put(&["a"]);
    let taken = w.take(1, 1);
    w.nack(&tokens(&taken), None, "");
    assert_eq!(w.counts("").counters.dead, 1);
    w.crash(0, 0, None);
    let counts = w.counts("");
    assert_eq!((counts.dead, counts.counters.dead), (1, 0));
}

#[test]
fn what_was_in_flight_is_ready_again_with_its_attempts_as_they_were() {
    let mut w = World::new(config());
    w.put(&["a", "b", "c"]);
    let taken = w.take(1, 2);
    w.nack(&[taken[0].token], Some(0), "once");
    let again = w.take(1, 1);
    assert_eq!(again[0].attempt, 2);
    w.ack(&[taken[1].token]);
    w.crash(100, 0, None);
    let after = w.take(1, 10);
    assert_eq!(values(&after), ["a", "c"]);
    assert_eq!((after[0].attempt, after[1].attempt), (2, 1));
    assert_eq!(after[0].last_error.as_deref(), Some(&b"once"[..]));
    assert_eq!(
        w.ack(&[again[0].token]),
        [TokenResult::Invalid],
        "a token of an earlier life"
    );
    assert_eq!(
        w.ack(&[taken[1].token]),
        [TokenResult::Done],
        "but what was acked is known"
    );
}

#[test]
fn an_ack_that_was_not_durable_did_not_happen() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let taken = w.take(1, 1);
    let mut results = Vec::new();
    w.q.ack(w.now(), w.wall(), &tokens(&taken), &mut results)
        .unwrap();
    w.append();
    w.crash(0, 0, None);
    assert_eq!(values(&w.take(1, 1)), ["a"]);
}

#[test]
fn delays_and_backoffs_go_on_where_they_were_whatever_the_clock_did() {
    // Down for a second; the clock as it was, back an hour, forward an hour.
    for (clock, waits) in [(0, 4000), (-3_600_000, 5000), (3_600_000, 0)] {
        let mut w = World::new(config());
        w.q.create_group(w.wall(), b"").unwrap();
        w.put_later(&["late"], 5000, 0);
        w.put(&["failed"]);
        let taken = w.take(1, 1);
        w.nack(&tokens(&taken), Some(5000), "");
        w.crash(1000, clock, None);
        if waits > 0 {
            w.pass(waits - 50);
            assert_eq!(w.take(1, 10), [], "clock {clock}: early");
        }
        w.pass(52);
        let mut after = values(&w.take(1, 10));
        after.sort();
        assert_eq!(after, ["failed", "late"], "clock {clock}: late or lost");
    }
}

#[test]
fn a_time_to_live_goes_on_too_and_a_clock_set_back_ends_none_early() {
    for (clock, lives) in [(0, 4000), (-3_600_000, 5000)] {
        let mut w = World::new(config());
        w.q.create_group(w.wall(), b"").unwrap();
        w.put_later(&["a"], 0, 5000);
        w.crash(1000, clock, None);
        w.pass(lives - 50);
        assert_eq!(w.dead("").len(), 0, "clock {clock}");
        w.pass(52);
        assert_eq!(w.dead("").len(), 1, "clock {clock}");
    }
}

#[test]
fn a_snapshot_and_what_came_after_is_the_whole_log() {
    let mut w = World::new(QueueConfig {
        max_attempts: 2,
        ..config()
    });
    w.put(&["a", "b", "c", "d"]);
    w.put_later(&["late"], 60_000, 90_000);
    let taken = w.take_in("g", 1, 4);
    w.ack(&[taken[0].token]);
    w.nack(&[taken[1].token], Some(0), "first");
    let other = w.take_in("h", 1, 2);
    w.ack(&tokens(&other));
    let mut bytes = Vec::new();
    w.q.snapshot(&mut bytes);
    let from = w.committed;
    let again = w.take_in("g", 1, 1);
    w.nack(&tokens(&again), None, "second");
    w.put(&["e"]);
    assert_eq!(w.dead("g").len(), 1);
    let all = digest(&w.replayed(None));
    assert_eq!(digest(&w.replayed(Some((&bytes, from)))), all);
    assert_eq!(digest(&w.q), all);
    w.crash(0, 0, Some((&bytes, from)));
    assert_eq!(digest(&w.q), all);
    assert_eq!(values(&w.take_in("g", 1, 10)), ["c", "d", "e"]);
    assert_eq!(w.dead("g")[0].attempts, 2);
    assert_eq!(w.ack(&[taken[0].token]), [TokenResult::Done]);
}

#[test]
fn a_dead_letter_whose_replay_was_not_durable_is_still_dead() {
    let mut w = World::new(QueueConfig {
        max_attempts: 1,
        ..config()
    });
    w.put(&["a"]);
    let taken = w.take(1, 1);
    w.nack(&tokens(&taken), None, "");
    let mut results = Vec::new();
    let (now, wall) = (w.now(), w.wall());
    w.q.dead_settle(now, wall, b"", DeadAction::Replay, &[0], &mut results)
        .unwrap();
    let mut bytes = Vec::new();
    w.q.snapshot(&mut bytes);
    w.crash(0, 0, Some((&bytes, w.committed)));
    assert_eq!(w.dead("").len(), 1);
    assert_eq!(w.take(1, 1), []);
}

#[test]
fn a_carried_record_tells_where_a_body_is_now() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    let mut moved = w.log[0].clone();
    let old = moved.at;
    moved.at.segment = 77;
    moved.carried = true;
    let at = moved.at;
    w.retained.insert(at, moved.body.clone());
    // A carried record of something long gone is nothing.
    let mut gone = moved.clone();
    gone.head.first = 1000;
    gone.at.segment = 78;
    w.log.push(moved);
    w.log.push(gone);
    w.committed += 2;
    w.crash(0, 0, None);
    let live: Vec<Location> = w.q.live_locations().collect();
    assert_eq!(live, [at]);
    assert_ne!(at, old);
    assert_eq!(values(&w.take(1, 10)), ["a", "b"]);
}

#[test]
fn a_log_that_is_not_this_queues_is_refused() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let put = w.log[0].clone();
    let mut q = w.replayed(None);
    let refused = |q: &mut QueuePartition, kind, ext: &[u8], body: &[u8]| {
        let head = RecordHead { kind, ..put.head };
        q.replay(&head, false, put.at, ext, body).unwrap_err()
    };
    assert_eq!(
        refused(&mut q, ops::PUT, &put.ext, &put.body),
        ReplayError::OutOfOrder {
            first: 0,
            expected: 1
        }
    );
    assert_eq!(
        refused(&mut q, ops::PUT, &[], &put.body),
        ReplayError::Malformed(ops::PUT)
    );
    assert_eq!(
        refused(&mut q, ops::PUT, &put.ext, b"x"),
        ReplayError::Body { first: 0 }
    );
    assert_eq!(refused(&mut q, 1, &[], b""), ReplayError::UnknownKind(1));
    assert_eq!(
        refused(&mut q, ops::ACK, &[5], b""),
        ReplayError::NoGroup(5)
    );
    assert_eq!(
        refused(&mut q, ops::ACK, &[], b""),
        ReplayError::Malformed(ops::ACK)
    );
    assert_eq!(
        refused(&mut q, ops::GROUP_DELETE, &[1], b""),
        ReplayError::NoGroup(1)
    );
}

#[test]
fn every_truncated_or_flipped_snapshot_is_refused_or_harmless() {
    let mut w = World::new(QueueConfig {
        max_attempts: 1,
        ..config()
    });
    w.put(&["a", "b", "c"]);
    let taken = w.take(1, 2);
    w.nack(&[taken[0].token], None, "error");
    w.ack(&[taken[1].token]);
    let mut bytes = Vec::new();
    w.q.snapshot(&mut bytes);
    for len in 0..bytes.len() {
        assert!(QueuePartition::restore(config(), &bytes[..len]).is_err());
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            // Its checksum is the log's affair; it must only never panic.
            if let Ok(mut q) = QueuePartition::restore(config(), &bytes) {
                q.ready(Monotonic::ZERO, WallMs(1));
            }
            bytes[at] ^= 1 << bit;
        }
    }
}

#[test]
fn an_idle_queue_costs_little() {
    let mut w = World::new(config());
    assert!(
        size_of::<QueuePartition>() < 2048,
        "{}",
        size_of::<QueuePartition>()
    );
    w.put(&["a"]);
    assert!(w.q.wheel.is_none(), "no timer, no wheel");
    assert_eq!(w.q.next_deadline(), None);
}

#[test]
fn an_ack_before_the_restart_is_remembered_from_the_restart_on() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let taken = w.take(1, 1);
    w.ack(&tokens(&taken));
    let mut q = w.replayed(None);
    // The node's clock stands far beyond five minutes when this one is opened.
    let now = Monotonic::from_millis(3_600_000);
    q.ready(now, w.wall());
    let mut results = Vec::new();
    q.ack(now, w.wall(), &tokens(&taken), &mut results).unwrap();
    assert_eq!(results, [TokenResult::Done]);
}
