//! Waiting takes and subscriptions.

use super::*;

fn subscribe(w: &mut World, push: u64, records: u32) {
    subscribe_for(w, push, records, 0);
}

fn subscribe_for(w: &mut World, push: u64, records: u32, in_flight_max: u32) {
    let subscribe = Subscribe {
        session: session(push),
        push: PushId(push),
        group: b"",
        lease_ms: 0,
        in_flight_max,
        credit_records: records,
        credit_bytes: 1 << 20,
        window_bytes: 1 << 20,
    };
    let (now, wall) = (w.now(), w.wall());
    w.q.subscribe(now, wall, &subscribe).unwrap();
    w.flush();
}

#[test]
fn waiting_takes_are_served_in_order_when_something_comes() {
    let mut w = World::new(config());
    let first = w.wait("", 1, 2, 10_000);
    let second = w.wait("", 2, 2, 10_000);
    assert_eq!(w.poll(), None);
    w.put(&["a", "b", "c"]);
    assert!(w.q.has_work());
    let (delivery, taken) = w.poll().unwrap();
    assert_eq!(delivery, Delivery::Taken(first));
    assert_eq!(values(&taken), ["a", "b"]);
    let (delivery, taken) = w.poll().unwrap();
    assert_eq!(delivery, Delivery::Taken(second));
    assert_eq!(values(&taken), ["c"]);
    assert_eq!(w.poll(), None);
    assert!(!w.q.has_work());
}

#[test]
fn a_waiter_is_told_that_nothing_came_and_a_cancelled_one_is_told_nothing() {
    let mut w = World::new(config());
    let patient = w.wait("", 1, 1, 1000);
    let gone = w.wait("", 1, 1, 1000);
    assert!(w.q.cancel(gone));
    w.pass(900);
    assert_eq!(w.poll(), None);
    w.pass(100);
    assert_eq!(
        w.poll(),
        Some((Delivery::Nothing(patient, Gone::TimedOut), vec![]))
    );
    assert_eq!(w.poll(), None);
    assert!(!w.q.cancel(patient));
}

#[test]
fn waiters_of_a_session_that_ends_take_nothing() {
    let mut w = World::new(config());
    w.wait("", 1, 1, 10_000);
    let other = w.wait("", 2, 1, 10_000);
    w.q.session_ended(w.now(), w.wall(), session(1));
    w.put(&["a"]);
    assert_eq!(w.poll().unwrap().0, Delivery::Taken(other));
}

#[test]
fn a_subscription_never_gets_more_than_its_credit() {
    let mut w = World::new(config());
    w.put(&["a", "b", "c", "d", "e"]);
    subscribe(&mut w, 1, 2);
    let (delivery, taken) = w.poll().unwrap();
    assert_eq!(delivery, Delivery::Pushed(PushId(1)));
    assert_eq!(values(&taken), ["a", "b"]);
    assert_eq!(w.poll(), None);
    assert_eq!(w.why(""), Why::NoCredit { subscriptions: 1 });
    assert!(w.q.credit(PushId(1), 2, 0));
    assert_eq!(w.poll().unwrap().1.len(), 2);
    assert_eq!(w.poll(), None);
    assert!(!w.q.credit(PushId(9), 1, 1));
}

#[test]
fn a_full_transport_holds_deliveries_back() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    let wanted = Subscribe {
        session: session(1),
        push: PushId(1),
        group: b"",
        lease_ms: 0,
        in_flight_max: 0,
        credit_records: 10,
        credit_bytes: 1 << 20,
        window_bytes: 1,
    };
    let (now, wall) = (w.now(), w.wall());
    w.q.subscribe(now, wall, &wanted).unwrap();
    w.flush();
    assert_eq!(w.poll().unwrap().1.len(), 1, "one message of any size");
    assert_eq!(w.poll(), None);
    assert!(w.q.window(PushId(1), 100));
    assert_eq!(w.poll().unwrap().1.len(), 1);
}

#[test]
fn subscriptions_of_a_group_take_turns() {
    let mut w = World::new(config());
    subscribe(&mut w, 1, 1000);
    subscribe(&mut w, 2, 1000);
    let (mut one, mut two) = (0, 0);
    for _ in 0..10 {
        w.put(&["a"]);
        match w.poll().unwrap().0 {
            Delivery::Pushed(PushId(1)) => one += 1,
            Delivery::Pushed(PushId(2)) => two += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((one, two), (5, 5));
}

#[test]
fn an_ended_subscription_may_still_finish_what_it_has() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    subscribe(&mut w, 1, 1);
    let taken = w.poll().unwrap().1;
    assert!(w.q.unsubscribe(PushId(1)));
    assert!(!w.q.unsubscribe(PushId(1)));
    assert_eq!(w.counts("").consumers, 1);
    assert_eq!(w.ack(&tokens(&taken)), [TokenResult::Done]);
    assert_eq!(w.counts("").consumers, 0, "nothing is left of it");
    // Its name is free.
    subscribe(&mut w, 1, 1);
    assert_eq!(values(&w.poll().unwrap().1), ["b"]);
}

#[test]
fn a_fence_ends_every_waiter_and_subscription_and_refuses_the_rest() {
    let mut w = World::new(config());
    let waiter = w.wait("", 1, 1, 10_000);
    subscribe(&mut w, 2, 1);
    w.q.fence();
    let mut ends = vec![w.poll().unwrap().0, w.poll().unwrap().0];
    ends.sort_by_key(|end| format!("{end:?}"));
    assert_eq!(
        ends,
        [
            Delivery::End(PushId(2), pinion_types::ErrorCode::PartitionFenced),
            Delivery::Nothing(waiter, Gone::Fenced),
        ]
    );
    let mut results = Vec::new();
    assert_eq!(
        w.q.ack(w.now(), w.wall(), &[], &mut results),
        Err(QueueError::Fenced)
    );
    assert_eq!(w.why(""), Why::Fenced);
}

#[test]
fn a_partition_that_goes_away_says_so_to_everyone_and_keeps_its_messages() {
    let mut w = World::new(config());
    let waiter = w.wait("", 1, 1, 10_000);
    subscribe(&mut w, 2, 1);
    let code = pinion_types::ErrorCode::Draining;
    w.q.end_subscriptions(code);
    w.put(&["a"]);
    let mut ends = vec![w.poll().unwrap().0, w.poll().unwrap().0];
    ends.sort_by_key(|end| format!("{end:?}"));
    assert_eq!(
        ends,
        [
            Delivery::End(PushId(2), code),
            Delivery::Nothing(waiter, Gone::Closed),
        ]
    );
    assert_eq!(w.poll(), None);
    assert_eq!(values(&w.take(3, 1)), ["a"]);
}

#[test]
fn a_subscription_has_no_more_in_flight_than_it_asked_for_or_the_queue_allows() {
    for (asked, queues, bound) in [(2, 100, 2), (0, 3, 3), (50, 3, 3)] {
        let mut w = World::new(QueueConfig {
            consumer_in_flight: queues,
            ..config()
        });
        w.put(&["a", "b", "c", "d", "e"]);
        subscribe_for(&mut w, 7, 100, asked);
        let (_, first) = w.poll().unwrap();
        assert_eq!(first.len(), bound, "asked {asked}");
        assert_eq!(w.poll(), None);
        w.pass(98);
        assert_eq!(
            w.why(""),
            Why::ConsumerFull {
                limit: u32::try_from(bound).unwrap(),
                oldest: Holder {
                    session: session(7),
                    push: Some(PushId(7)),
                    message: 0,
                    for_ms: 100,
                },
            }
        );
        // One is done, one more comes.
        w.ack(&[first[0].token]);
        let (_, next) = w.poll().unwrap();
        assert_eq!(next.len(), 1);
        assert_eq!(w.poll(), None);
    }
}
