//! Dead letters.

use super::*;

fn kill(w: &mut World, values: &[&str]) -> Vec<u64> {
    w.put(values);
    let mut ids = Vec::new();
    for _ in values {
        let one = w.take(1, 1);
        let error = format!("error of {}", value(&one[0].record));
        w.nack(&tokens(&one), None, &error);
        ids.push(one[0].id);
    }
    ids
}

fn one_attempt() -> QueueConfig {
    QueueConfig {
        max_attempts: 1,
        ..config()
    }
}

#[test]
fn a_message_that_failed_often_enough_is_a_dead_letter_with_its_story() {
    let mut w = World::new(QueueConfig {
        max_attempts: 3,
        ..config()
    });
    w.put(&["a"]);
    for _ in 0..2 {
        let taken = w.take(1, 1);
        w.nack(&tokens(&taken), Some(0), "first");
    }
    let taken = w.take(1, 1);
    assert_eq!(taken[0].attempt, 3);
    w.pass(500);
    w.nack(&tokens(&taken), Some(0), "last");
    assert_eq!(w.take(1, 1), []);
    let dead = w.dead("");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason, DeadReason::Failed);
    assert_eq!(dead[0].attempts, 3);
    assert_eq!(dead[0].last_error.as_deref(), Some(&b"last"[..]));
    assert_eq!(dead[0].enqueued, WallMs(1_000_000_000));
    assert_eq!(dead[0].died, w.wall());
    assert!(matches!(&dead[0].body, Body::Here(body) if value(body) == "a"));
    assert_eq!(w.why(""), Why::Empty { dead: 1 });
    assert_eq!(w.releases(), 0, "a dead letter keeps its body");
}

#[test]
fn lapses_kill_too_and_only_the_message_that_failed_is_charged() {
    let mut w = World::new(one_attempt());
    w.put(&["bad", "good"]);
    let taken = w.take(1, 2);
    w.extend(&[taken[1].token], 60_000);
    w.pass(10_000);
    let dead = w.dead("");
    assert_eq!((dead.len(), dead[0].id), (1, 0));
    assert_eq!(dead[0].reason, DeadReason::LeaseExpired);
    assert_eq!(dead[0].last_error.as_deref(), Some(LAPSED));
    assert_eq!(w.ack(&[taken[1].token]), [TokenResult::Done]);
}

#[test]
fn a_replayed_letter_starts_anew_and_a_purged_one_is_gone() {
    let mut w = World::new(one_attempt());
    let ids = kill(&mut w, &["a", "b"]);
    assert_eq!(
        w.settle_dead(DeadAction::Replay, &[ids[0], 77]),
        [true, false]
    );
    assert_eq!(w.settle_dead(DeadAction::Purge, &[ids[1]]), [true]);
    assert_eq!(w.dead(""), []);
    let taken = w.take(1, 10);
    assert_eq!((values(&taken), taken[0].attempt), (vec!["a".into()], 1));
    w.ack(&tokens(&taken));
    assert_eq!(w.q.queue_counts().messages, 0);
}

#[test]
fn a_redrive_moves_what_its_filter_names_at_its_pace() {
    let mut w = World::new(one_attempt());
    kill(&mut w, &["a", "b", "a", "c", "a", "a", "a"]);
    let filter = DeadFilter {
        error_prefix: b"error of a".to_vec(),
        ..DeadFilter::default()
    };
    let (now, wall) = (w.now(), w.wall());
    w.q.redrive(now, wall, b"", filter, DeadAction::Replay, 2)
        .unwrap();
    w.flush();
    assert_eq!(w.take(1, 10).len(), 1);
    w.pass(500);
    w.pass(500);
    assert_eq!(w.take(1, 10).len(), 2);
    for _ in 0..4 {
        w.pass(500);
    }
    assert_eq!(w.take(1, 10).len(), 2);
    let status = w.q.redrive_status(b"").unwrap().unwrap();
    assert_eq!((status.moved, status.done), (5, true));
    assert_eq!(w.dead("").len(), 2);
}

#[test]
fn a_fast_redrive_purges_everything() {
    let mut w = World::new(one_attempt());
    kill(&mut w, &["a", "b", "c"]);
    let all = DeadFilter::default();
    let (now, wall) = (w.now(), w.wall());
    w.q.redrive(now, wall, b"", all, DeadAction::Purge, 0)
        .unwrap();
    w.flush();
    assert_eq!(w.q.queue_counts().messages, 0);
    assert_eq!(w.releases(), 1);
}

#[test]
fn the_dead_are_listed_by_page() {
    let mut w = World::new(one_attempt());
    let ids = kill(&mut w, &["a", "b", "c", "d", "e"]);
    let all = DeadFilter::default();
    let (mut from, mut seen) = (Some(0), Vec::new());
    while let Some(at) = from {
        let mut page = Vec::new();
        from = w.q.dead_letters(b"", at, 2, &all, &mut page).unwrap();
        assert!(page.len() <= 2);
        seen.extend(page.iter().map(|letter| letter.id));
    }
    assert_eq!(seen, ids);
}

#[test]
fn what_expires_is_a_dead_letter_unless_that_is_not_wanted() {
    for dead_letter_expired in [true, false] {
        let mut w = World::new(QueueConfig {
            dead_letter_expired,
            ..config()
        });
        w.put_later(&["a", "b"], 0, 1000);
        w.put_later(&["c"], 0, 0);
        let held = w.take(1, 1);
        w.pass(999);
        assert_eq!(values(&w.take(1, 10)), ["c"], "b is past its time");
        assert_eq!(w.dead("").len(), usize::from(dead_letter_expired));
        if dead_letter_expired {
            assert_eq!(w.dead("")[0].reason, DeadReason::Expired);
        } else {
            assert_eq!(w.counts("").counters.dropped, 1);
        }
        // Who has it may still finish it.
        assert_eq!(w.ack(&tokens(&held)), [TokenResult::Done]);
    }
}

#[test]
fn what_expires_in_flight_dies_when_it_comes_back() {
    let mut w = World::new(config());
    w.put_later(&["a"], 0, 1000);
    let held = w.take(1, 1);
    w.pass(2000);
    w.nack(&tokens(&held), Some(0), "no");
    assert_eq!(w.take(1, 1), []);
    w.flush();
    assert_eq!(w.dead("")[0].reason, DeadReason::Expired);
    assert_eq!(w.dead("")[0].last_error.as_deref(), Some(&b"no"[..]));
    // Replayed by hand, it is not expired a second time.
    w.settle_dead(DeadAction::Replay, &[0]);
    w.pass(5000);
    assert_eq!(values(&w.take(1, 1)), ["a"]);
}

#[test]
fn a_delayed_message_may_expire_before_it_is_ready() {
    let mut w = World::new(config());
    w.q.create_group(w.wall(), b"").unwrap();
    w.put_later(&["a"], 5000, 1000);
    w.pass(1000);
    assert_eq!(w.dead("").len(), 1);
    w.pass(5000);
    assert_eq!(w.take(1, 1), []);
    w.settle_dead(DeadAction::Purge, &[0]);
    assert_eq!(w.q.queue_counts().messages, 0);
}

#[test]
fn what_expires_without_any_group_is_found_in_the_default_one() {
    let mut w = World::new(config());
    w.put_later(&["a"], 0, 1000);
    w.pass(1000);
    w.pass(1000);
    assert_eq!(w.dead("").len(), 1);
    let mut w = World::new(QueueConfig {
        dead_letter_expired: false,
        ..config()
    });
    w.put_later(&["a"], 0, 1000);
    w.pass(1000);
    let counts = w.q.queue_counts();
    assert_eq!((counts.messages, counts.dropped, counts.groups), (0, 1, 0));
    assert_eq!(w.releases(), 1);
}

#[test]
fn what_comes_back_after_its_time_dies_without_anyone_asking_for_it() {
    let mut w = World::new(config());
    w.put_later(&["a"], 0, 1000);
    let held = w.take(1, 1);
    w.pass(2000);
    assert_eq!(w.release(&tokens(&held)), [TokenResult::Done]);
    assert_eq!(w.dead("").len(), 0);
    w.pass(1000);
    assert_eq!(w.dead("").len(), 1);
}

#[test]
fn a_replayed_letter_is_still_so_after_a_restart_from_a_snapshot() {
    let mut w = World::new(config());
    w.q.create_group(w.wall(), b"").unwrap();
    w.put_later(&["a"], 0, 1000);
    w.pass(1000);
    assert_eq!(w.settle_dead(DeadAction::Replay, &[0]), [true]);
    let mut bytes = Vec::new();
    w.q.snapshot(&mut bytes);
    w.crash(0, 0, Some((&bytes, w.committed)));
    w.pass(2000);
    assert_eq!(values(&w.take(1, 1)), ["a"]);
}

#[test]
fn the_reason_is_how_the_last_attempt_ended_and_not_what_was_said_of_it() {
    let mut w = World::new(one_attempt());
    w.put(&["liar", "lost"]);
    let taken = w.take(1, 2);
    let said = core::str::from_utf8(LAPSED).unwrap();
    w.nack(&[taken[0].token], None, said);
    w.pass(10_000);
    let only = |w: &World, reason| {
        let filter = DeadFilter {
            reason: Some(reason),
            error_prefix: b"lease".to_vec(),
            ..DeadFilter::default()
        };
        let mut found = Vec::new();
        w.q.dead_letters(b"", 0, 10, &filter, &mut found).unwrap();
        found.iter().map(|letter| letter.id).collect::<Vec<_>>()
    };
    let mut bytes = Vec::new();
    w.q.snapshot(&mut bytes);
    // As it was, after a restart from the log, and after one from a snapshot.
    let snapshots = [None, None, Some((&bytes[..], w.committed))];
    for (round, snapshot) in snapshots.into_iter().enumerate() {
        if round > 0 {
            w.crash(0, 0, snapshot);
        }
        assert_eq!(only(&w, DeadReason::Failed), [0], "round {round}");
        assert_eq!(only(&w, DeadReason::LeaseExpired), [1], "round {round}");
        assert!(only(&w, DeadReason::Expired).is_empty(), "round {round}");
    }
}

#[test]
fn a_redrive_goes_on_after_a_restart_where_it_was() {
    for with_snapshot in [false, true] {
        let mut w = World::new(one_attempt());
        kill(&mut w, &["a", "b", "a", "a", "a"]);
        let filter = DeadFilter {
            error_prefix: b"error of a".to_vec(),
            ..DeadFilter::default()
        };
        let (now, wall) = (w.now(), w.wall());
        w.q.redrive(now, wall, b"", filter, DeadAction::Replay, 1)
            .unwrap();
        w.flush();
        // The first came again, and failed again: it is not moved twice.
        let first = w.take(1, 10);
        assert_eq!(tokens(&first).len(), 1);
        w.nack(&tokens(&first), None, "error of a, again");
        w.pass(1000);
        let second = w.take(1, 10);
        assert_eq!(second[0].id, 2);
        let mut bytes = Vec::new();
        w.q.snapshot(&mut bytes);
        let snapshot = with_snapshot.then_some((&bytes[..], w.committed));
        w.crash(5000, 0, snapshot);
        let status = w.q.redrive_status(b"").unwrap().unwrap();
        assert_eq!((status.moved, status.done), (2, false));
        let mut seen = Vec::new();
        for _ in 0..5 {
            w.pass(1000);
            seen.extend(w.take(1, 10).iter().map(|one| one.id));
        }
        assert_eq!(seen, [2, 3, 4], "the one in flight, then the rest");
        assert_eq!(w.dead("").iter().map(|l| l.id).collect::<Vec<_>>(), [0, 1]);
        let status = w.q.redrive_status(b"").unwrap().unwrap();
        assert_eq!((status.moved, status.done), (4, true));
        w.crash(0, 0, None);
        assert_eq!(
            w.q.redrive_status(b""),
            Ok(None),
            "what is done is not begun again"
        );
    }
}

#[test]
fn a_redrive_replaces_the_one_at_work_also_over_a_restart() {
    let mut w = World::new(one_attempt());
    kill(&mut w, &["a", "b", "c", "d"]);
    let (now, wall) = (w.now(), w.wall());
    let all = DeadFilter::default();
    w.q.redrive(now, wall, b"", all, DeadAction::Replay, 1)
        .unwrap();
    w.flush();
    assert_eq!(w.take(1, 10).len(), 1);
    let none = DeadFilter {
        reason: Some(DeadReason::Expired),
        ..DeadFilter::default()
    };
    let (now, wall) = (w.now(), w.wall());
    w.q.redrive(now, wall, b"", none, DeadAction::Purge, 0)
        .unwrap();
    w.flush();
    w.crash(0, 0, None);
    w.pass(10_000);
    assert_eq!(w.dead("").len(), 3, "the first one is over");
}
