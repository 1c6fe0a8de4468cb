//! Reservations: tokens, attempts, and what ends them.

use super::*;

#[test]
fn a_reservation_that_runs_out_counts_as_an_attempt_without_anyone_asking() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let first = w.take(1, 1);
    w.pass(9_900);
    assert_eq!(w.counts("").in_flight, 1);
    w.pass(100);
    assert_eq!(w.counts("").delayed, 1, "it backs off");
    w.pass(100);
    let second = w.take(2, 1);
    assert_eq!(second[0].attempt, 2);
    assert_eq!(second[0].last_error.as_deref(), Some(LAPSED));
    assert_eq!(w.ack(&tokens(&first)), [TokenResult::Expired]);
    assert_eq!(w.ack(&tokens(&second)), [TokenResult::Done]);
    assert_eq!(w.ack(&tokens(&first)), [TokenResult::Expired]);
}

#[test]
fn a_lapse_on_its_way_to_the_log_keeps_its_message() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let taken = w.take(1, 1);
    w.pass_quietly(10_000);
    assert_eq!(w.take(2, 1), []);
    let mut results = Vec::new();
    w.q.ack(w.now(), w.wall(), &tokens(&taken), &mut results)
        .unwrap();
    assert_eq!(results, [TokenResult::Expired]);
    w.flush();
    w.pass(100);
    assert_eq!(w.take(2, 1)[0].attempt, 2);
}

#[test]
fn a_nack_says_when_and_why_it_comes_again() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let first = w.take(1, 1);
    assert_eq!(
        w.nack(&tokens(&first), Some(700), "disk"),
        [TokenResult::Done]
    );
    w.pass(600);
    assert_eq!(w.take(1, 1), []);
    w.pass(100);
    let second = w.take(1, 1);
    assert_eq!(second[0].attempt, 2);
    assert_eq!(second[0].last_error.as_deref(), Some(&b"disk"[..]));
}

#[test]
fn a_repeat_has_the_first_result_for_five_minutes_and_another_verdict_is_refused() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    let taken = w.take(1, 2);
    let (a, b) = (taken[0].token, taken[1].token);
    assert_eq!(w.ack(&[a]), [TokenResult::Done]);
    assert_eq!(w.nack(&[b], Some(0), ""), [TokenResult::Done]);
    assert_eq!(w.nack(&[b], Some(0), ""), [TokenResult::Done]);
    assert_eq!(w.ack(&[b]), [TokenResult::Invalid]);
    assert_eq!(w.nack(&[a], None, ""), [TokenResult::Invalid]);
    assert_eq!(w.extend(&[a], 1000), [TokenResult::Invalid]);
    w.pass(299_000);
    assert_eq!(w.ack(&[a]), [TokenResult::Done]);
    w.pass(2_000);
    assert_ne!(w.ack(&[a]), [TokenResult::Done]);
}

#[test]
fn a_token_of_nothing_is_invalid() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    let taken = w.take(1, 2);
    let mut bytes = taken[0].token.to_bytes();
    for at in 0..16 {
        bytes[at] ^= 1;
        assert_eq!(w.ack(&[Token::from_bytes(bytes)]), [TokenResult::Invalid]);
        bytes[at] ^= 1;
    }
    assert_eq!(w.counts("").in_flight, 2);
}

#[test]
fn an_extended_reservation_lasts_and_a_shortened_one_does_not() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    let taken = w.take(1, 2);
    w.pass(9_000);
    assert_eq!(w.extend(&[taken[0].token], 20_000), [TokenResult::Done]);
    assert_eq!(w.extend(&[taken[1].token], 1), [TokenResult::Done]);
    w.pass(1);
    assert_eq!(w.counts("").in_flight, 1);
    w.pass(15_000);
    assert_eq!(w.ack(&[taken[0].token]), [TokenResult::Done]);
    assert_eq!(w.extend(&[taken[1].token], 1000), [TokenResult::Expired]);
}

#[test]
fn what_is_released_is_ready_at_once_in_its_old_place_and_not_charged() {
    let mut w = World::new(config());
    w.put(&["a", "b", "c"]);
    let taken = w.take(1, 2);
    assert_eq!(w.release(&tokens(&taken)), [TokenResult::Done; 2]);
    let again = w.take(2, 10);
    assert_eq!(values(&again), ["a", "b", "c"]);
    assert!(again.iter().all(|one| one.attempt == 1));
    assert_eq!(w.ack(&tokens(&taken)), [TokenResult::Expired; 2]);
}

#[test]
fn a_session_that_ends_gives_everything_back_uncharged() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    let taken = w.take(1, 1);
    let other = w.take(2, 1);
    w.q.session_ended(w.now(), w.wall(), session(1));
    let again = w.take(3, 10);
    assert_eq!(values(&again), ["a"]);
    assert_eq!(again[0].attempt, 1);
    assert_eq!(w.ack(&tokens(&taken)), [TokenResult::Expired]);
    assert_eq!(w.ack(&tokens(&other)), [TokenResult::Done]);
    assert_eq!(w.counts("").consumers, 2);
}

#[test]
fn failures_back_off_twice_as_long_each_time_with_jitter_below() {
    let mut w = World::new(QueueConfig {
        max_attempts: 100,
        ..config()
    });
    w.put(&["a"]);
    for attempt in 1..=8_u32 {
        let taken = w.take(1, 1);
        assert_eq!(u32::from(taken[0].attempt), attempt);
        w.nack(&tokens(&taken), None, "");
        let most = (100_u32 << (attempt - 1)).min(1000);
        w.pass(u64::from(most / 2) - 10);
        assert_eq!(w.take(1, 1), [], "attempt {attempt} came back too soon");
        w.pass(u64::from(most / 2) + 10);
    }
}

#[test]
fn losing_a_hundred_consumers_is_no_storm_and_new_messages_are_not_held_up() {
    let mut w = World::new(QueueConfig {
        redelivery_per_sec: 100,
        redelivery_burst: 10,
        lease_ms: 60_000,
        ..config()
    });
    for _ in 0..10 {
        w.put(&["old"; 100]);
    }
    for who in 0..100 {
        assert_eq!(w.take(who, 10).len(), 10);
    }
    for who in 0..100 {
        w.q.session_ended(w.now(), w.wall(), session(who));
    }
    w.put(&["new"; 50]);
    let burst = values(&w.take(200, 1000));
    assert_eq!(burst.iter().filter(|v| *v == "old").count(), 10);
    assert_eq!(burst.iter().filter(|v| *v == "new").count(), 50);
    w.pass(998);
    let second = w.take(200, 1000).len();
    assert!(
        (10..=12).contains(&second),
        "the bucket holds its burst: {second}"
    );
    let mut rest = 0;
    for _ in 0..120 {
        w.pass(98);
        rest += w.take(201, 1000).len();
    }
    assert_eq!(rest + second + 10, 1000, "all of them in ten seconds");
}

#[test]
fn new_messages_take_turns_with_whatever_comes_back() {
    let mut w = World::new(config());
    w.put(&["1", "2", "3", "4"]);
    assert_eq!(w.take(1, 4).len(), 4);
    w.put(&["new", "newer"]);
    w.q.session_ended(w.now(), w.wall(), session(1));
    let order = values(&w.take(2, 10));
    assert_eq!(order, ["1", "new", "2", "newer", "3", "4"]);
}
