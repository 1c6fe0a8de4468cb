//! Every non-delivery has a reason, and a group that stands still is noticed.

use super::*;

#[test]
fn each_reason_is_named_with_its_facts() {
    let mut w = World::new(QueueConfig {
        consumer_in_flight: 1,
        ordered_by_key: true,
        ..config()
    });
    w.q.create_group(w.wall(), b"").unwrap();
    w.flush();
    assert_eq!(w.why(""), Why::Empty { dead: 0 });
    w.q.set_read_only(true);
    assert_eq!(w.why(""), Why::ReadOnly);
    w.q.set_read_only(false);
    assert_eq!(
        w.q.why(w.now(), w.wall(), b"nobody"),
        Err(QueueError::UnknownGroup)
    );
    w.put_later(&["late"], 5000, 0);
    assert_eq!(
        w.why(""),
        Why::Delayed {
            messages: 1,
            until: Some(Monotonic::from_millis(5000)),
        }
    );
    w.put_records(&[("k", "1"), ("k", "2")], 0, 0);
    assert_eq!(w.why(""), Why::NoConsumers { ready: 2 });
    let one = w.take(1, 1);
    assert_eq!(w.why(""), Why::NoConsumers { ready: 1 });
    assert_eq!(w.take(2, 1), []);
    assert_eq!(
        w.why(""),
        Why::KeyBlocked {
            messages: 1,
            by: one[0].id
        }
    );
    w.put(&["3"]);
    w.wait("", 1, 1, 20_000);
    assert_eq!(w.poll(), None);
    w.pass(398);
    assert_eq!(
        w.why(""),
        Why::ConsumerFull {
            limit: 1,
            oldest: Holder {
                session: session(1),
                push: None,
                message: one[0].id,
                for_ms: 400,
            },
        }
    );
    w.nack(&tokens(&one), Some(3000), "");
    let (_, three) = w.poll().unwrap();
    assert_eq!(values(&three), ["3"]);
    w.ack(&tokens(&three));
    assert_eq!(
        w.why(""),
        Why::KeyBlocked {
            messages: 1,
            by: one[0].id
        }
    );
}

#[test]
fn all_in_flight_and_backoff_are_told_apart() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let taken = w.take(1, 1);
    w.pass(998);
    assert_eq!(
        w.why(""),
        Why::AllInFlight {
            messages: 1,
            oldest: Some(Holder {
                session: session(1),
                push: None,
                message: 0,
                for_ms: 1000,
            }),
        }
    );
    w.nack(&tokens(&taken), Some(500), "");
    assert_eq!(
        w.why(""),
        Why::Backoff {
            messages: 1,
            until: Some(Monotonic::from_millis(1500)),
        }
    );
}

#[test]
fn who_has_a_message_is_known_while_they_do() {
    let mut w = World::new(config());
    w.put(&["a", "b", "c"]);
    let one = w.take(1, 1);
    let two = w.take_in("other", 2, 2);
    let of = |w: &World, group: &str| {
        let ids = [0, 1, 2, 9];
        ids.map(|id| {
            w.q.holder(group.as_bytes(), id)
                .map(|session| session.token)
        })
    };
    assert_eq!(of(&w, ""), [Some(1), None, None, None]);
    assert_eq!(of(&w, "other"), [Some(2), Some(2), None, None]);
    assert_eq!(of(&w, "nobody"), [None; 4]);
    w.nack(&tokens(&one), Some(3000), "");
    w.ack(&tokens(&two[..1]));
    assert_eq!(of(&w, ""), [None; 4]);
    assert_eq!(of(&w, "other"), [None, Some(2), None, None]);
}

#[test]
fn a_limited_rate_is_named_and_over_at_its_time() {
    let mut w = World::new(QueueConfig {
        redelivery_per_sec: 1,
        redelivery_burst: 1,
        ..config()
    });
    w.put(&["a", "b"]);
    w.take(1, 2);
    w.q.session_ended(w.now(), w.wall(), session(1));
    assert_eq!(w.take(2, 2).len(), 1);
    let waiter = w.wait("", 2, 1, 10_000);
    assert_eq!(w.poll(), None);
    let until = Monotonic::from_millis(1000);
    assert_eq!(w.why(""), Why::RateLimited { until });
    w.pass(900);
    assert_eq!(w.poll(), None);
    w.pass(98);
    assert_eq!(w.poll().unwrap().0, Delivery::Taken(waiter));
}

#[test]
fn a_group_that_stands_still_is_told_once_until_it_moves() {
    let mut w = World::new(QueueConfig {
        consumer_in_flight: 1,
        lease_ms: 3_600_000,
        stuck_after_ms: 1000,
        ..config()
    });
    w.put(&["a", "b"]);
    let taken = w.take(1, 1);
    w.wait("", 1, 1, 30_000);
    assert_eq!(w.poll(), None);
    w.pass(900);
    assert_eq!(w.q.poll_stuck(w.now(), w.wall()), None);
    w.pass(200);
    let (group, why) = w.q.poll_stuck(w.now(), w.wall()).unwrap();
    assert_eq!(group, b"");
    assert!(matches!(why, Why::ConsumerFull { .. }), "{why:?}");
    w.pass(5000);
    assert_eq!(w.q.poll_stuck(w.now(), w.wall()), None, "told once");
    w.ack(&tokens(&taken));
    assert!(w.poll().is_some());
    w.put(&["c"]);
    w.wait("", 1, 1, 30_000);
    assert_eq!(w.poll(), None);
    w.pass(1100);
    w.pass(1100);
    assert!(
        w.q.poll_stuck(w.now(), w.wall()).is_some(),
        "it moved since"
    );
    assert_eq!(w.counts("").counters.stuck, 2);
}

#[test]
fn peek_takes_nothing_and_says_where_each_stands() {
    let mut w = World::new(QueueConfig {
        max_attempts: 1,
        ..config()
    });
    w.put(&["dead", "held", "ready"]);
    w.put_later(&["late"], 1000, 0);
    let taken = w.take(1, 2);
    w.nack(&[taken[0].token], None, "x");
    let mut all = Vec::new();
    assert_eq!(w.q.peek(b"", 0, 3, &mut all), Ok(Some(3)));
    assert_eq!(w.q.peek(b"", 3, 3, &mut all), Ok(None));
    let standings: Vec<Standing> = all.iter().map(|one| one.standing).collect();
    assert_eq!(
        standings,
        [
            Standing::Dead,
            Standing::InFlight,
            Standing::Ready,
            Standing::Delayed
        ]
    );
    assert!(matches!(&all[3].body, Body::Here(body) if value(body) == "late"));
    assert_eq!(values(&w.take(1, 10)), ["ready"]);
}

#[test]
fn peek_says_when_each_is_due_and_when_its_time_to_live_is_over() {
    let mut w = World::new(config());
    w.put_later(&["held", "failed"], 0, 60_000);
    w.put(&["for ever"]);
    w.put_later(&["late"], 5000, 7000);
    let taken = w.take(1, 2);
    w.nack(&[taken[1].token], Some(3000), "no");
    let mut all = Vec::new();
    w.q.peek(b"", 0, 10, &mut all).unwrap();
    let times: Vec<_> = all.iter().map(|one| (one.due, one.expires)).collect();
    let ms = Monotonic::from_millis;
    assert_eq!(
        times,
        [
            (Some(ms(10_000)), Some(ms(60_000))),
            (Some(ms(3000)), Some(ms(60_000))),
            (None, None),
            (Some(ms(5000)), Some(ms(7000))),
        ]
    );
    w.pass(7000);
    all.clear();
    w.q.peek(b"", 3, 1, &mut all).unwrap();
    let late = &all[0];
    assert_eq!(
        (late.standing, late.due, late.expires),
        (Standing::Dead, None, None)
    );
}

/// Milliseconds after the beginning since when the oldest ready message of a group waits.
fn oldest(w: &mut World, group: &str) -> Option<u64> {
    let begun = w.wall_base;
    w.counts(group).oldest.map(|at| at.0 - begun)
}

#[test]
fn only_what_is_ready_makes_a_queue_look_old() {
    let mut w = World::new(QueueConfig {
        max_attempts: 1,
        ..config()
    });
    assert_eq!(oldest(&mut w, ""), None);
    w.put(&["dies"]);
    assert_eq!(oldest(&mut w, ""), Some(0), "before anybody took, too");
    let taken = w.take(1, 1);
    assert_eq!(oldest(&mut w, ""), None, "in flight");
    w.nack(&tokens(&taken), None, "");
    assert_eq!((w.counts("").dead, oldest(&mut w, "")), (1, None));
    w.pass(998);
    w.put_later(&["later"], 5000, 0);
    assert_eq!(oldest(&mut w, ""), None, "delayed");
    w.pass(998);
    w.put(&["fresh"]);
    assert_eq!(oldest(&mut w, ""), Some(2000));
    let fresh = w.take(1, 1);
    assert_eq!(values(&fresh), ["fresh"]);
    // The delay is no time that anybody let it wait.
    w.pass(4998);
    assert_eq!(oldest(&mut w, ""), Some(6000));
    // What is given back was ready since its put.
    w.release(&tokens(&fresh));
    assert_eq!(oldest(&mut w, ""), Some(2000));
    let both = w.take(1, 2);
    assert_eq!(both.len(), 2);
    assert_eq!(oldest(&mut w, ""), None);
    assert_eq!(w.counts("").done_below, 0, "the dead letter is not done");
    // Replayed, the dead letter is to be taken again.
    assert_eq!(w.settle_dead(DeadAction::Replay, &[0]), [true]);
    assert_eq!(oldest(&mut w, ""), Some(0));
}

#[test]
fn a_message_that_backs_off_is_as_old_as_its_put_once_it_is_ready() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let taken = w.take(1, 1);
    w.nack(&tokens(&taken), Some(3000), "");
    assert_eq!(oldest(&mut w, ""), None);
    w.pass(998);
    w.put(&["b"]);
    assert_eq!(oldest(&mut w, ""), Some(1000));
    w.pass(2998);
    assert_eq!(oldest(&mut w, ""), Some(0));
}

#[test]
fn each_group_has_an_oldest_of_its_own_and_together_it_is_the_first() {
    let mut w = World::new(config());
    w.q.create_group(w.wall(), b"slow").unwrap();
    w.flush();
    w.put(&["a"]);
    w.pass(998);
    w.put(&["b"]);
    w.take_in("fast", 1, 1);
    assert_eq!(oldest(&mut w, "fast"), Some(1000));
    assert_eq!(oldest(&mut w, "slow"), Some(0));
    assert_eq!(
        w.q.all_counts().oldest,
        Some(w.wall()).map(|at| WallMs(at.0 - 1000))
    );
    w.take_in("slow", 1, 2);
    assert_eq!(w.q.all_counts().oldest, Some(w.wall()));
    w.take_in("fast", 1, 2);
    assert_eq!(w.q.all_counts().oldest, None);
}

#[test]
fn more_dead_letters_than_a_call_steps_over_hide_what_is_behind_for_a_while_only() {
    let mut w = World::new(QueueConfig {
        dead_letter_expired: true,
        ..config()
    });
    let many = SCAN_MAX as usize + 10;
    w.q.create_group(w.wall(), b"").unwrap();
    for some in vec!["x"; many].chunks(BATCH_MAX) {
        w.put_later(some, 0, 500);
    }
    w.pass(998);
    w.put(&["fresh"]);
    let counts = w.counts("");
    let told = (counts.ready, counts.dead, counts.oldest);
    assert_eq!(told, (1, many as u64, None));
    assert_eq!(oldest(&mut w, ""), Some(1000), "the next call goes on");
    // A partition that is opened has them behind it at once.
    w.crash(0, 0, None);
    let counts = w.counts("");
    assert_eq!((counts.ready, counts.dead), (1, many as u64));
    assert!(counts.oldest.is_some());
}
