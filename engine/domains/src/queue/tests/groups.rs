//! Consumer groups.

use super::*;

#[test]
fn each_group_sees_every_message_and_the_last_one_done_removes_it() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let one = w.take_in("one", 1, 10);
    let two = w.take_in("two", 1, 10);
    assert_eq!(
        (values(&one), values(&two)),
        (vec!["a".into()], vec!["a".into()])
    );
    w.ack(&tokens(&one));
    assert_eq!(w.releases(), 0);
    assert_eq!(w.counts("one").bytes, 0);
    assert!(w.counts("two").bytes > 0);
    w.ack(&tokens(&two));
    assert_eq!(w.releases(), 1);
    w.put(&["b"]);
    assert_eq!(w.take_in("one", 1, 10).len(), 1);
    assert_eq!(w.take_in("two", 1, 10).len(), 1);
}

#[test]
fn a_group_delivers_only_when_its_creation_is_durable() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let take = Take {
        session: session(1),
        waiter: WaiterId(1),
        group: b"g",
        max: 1,
        max_bytes: 100,
        wait_ms: 0,
        lease_ms: 0,
    };
    let mut out = Vec::new();
    let outcome = w.q.take(w.now(), w.wall(), &take, &mut out).unwrap();
    assert_eq!(outcome, TakeOutcome::Waiting);
    w.append();
    assert_eq!(w.why("g"), Why::Creating);
    assert_eq!(w.poll(), None);
    w.commit();
    let (delivery, taken) = w.poll().unwrap();
    assert_eq!(delivery, Delivery::Taken(WaiterId(1)));
    assert_eq!(values(&taken), ["a"]);
}

#[test]
fn failures_in_one_group_are_nothing_to_another() {
    let mut w = World::new(QueueConfig {
        max_attempts: 1,
        ..config()
    });
    w.put(&["a"]);
    let one = w.take_in("one", 1, 1);
    w.nack(&tokens(&one), None, "no");
    assert_eq!(w.dead("one").len(), 1);
    let two = w.take_in("two", 1, 1);
    assert_eq!(two[0].attempt, 1);
    assert_eq!(two[0].last_error, None);
}

#[test]
fn a_deleted_group_is_done_with_everything_and_its_number_is_free() {
    let mut w = World::new(config());
    w.put(&["a", "b", "c"]);
    w.q.create_group(w.wall(), b"kept").unwrap();
    w.q.create_group(w.wall(), b"gone").unwrap();
    w.flush();
    let kept = w.take_in("kept", 1, 2);
    w.ack(&tokens(&kept));
    let held = w.take_in("gone", 2, 1);
    assert_eq!(w.take_in("gone", 3, 5).len(), 2);
    let late = w.wait("gone", 3, 5, 10_000);
    let deleted = w.q.delete_group(w.wall(), b"gone").unwrap();
    // Asked for again, it waits for the same; gone it is when the log has it.
    assert_eq!(w.q.delete_group(w.wall(), b"gone"), Ok(deleted));
    w.flush();
    assert_eq!(
        w.q.delete_group(w.wall(), b"gone"),
        Err(QueueError::UnknownGroup)
    );
    assert_eq!(
        w.poll(),
        Some((Delivery::Nothing(late, Gone::GroupDeleted), vec![]))
    );
    assert_eq!(w.ack(&tokens(&held)), [TokenResult::Expired]);
    // What the other group had done goes now, the rest stays for it.
    assert_eq!(w.q.queue_counts().messages, 1);
    assert_eq!(values(&w.take_in("kept", 1, 10)), ["c"]);
    // The next group of that number starts afresh.
    let fresh = w.take_in("fresh", 1, 10);
    assert_eq!(values(&fresh), ["c"]);
    let names: Vec<&[u8]> = w.q.group_names().collect();
    assert_eq!(names, [&b"kept"[..], b"fresh"]);
}

#[test]
fn a_group_whose_making_is_not_durable_yet_can_be_deleted() {
    let mut w = World::new(config());
    w.q.create_group(w.wall(), b"kept").unwrap();
    w.flush();
    w.q.create_group(w.wall(), b"lost").unwrap();
    w.q.delete_group(w.wall(), b"lost").unwrap();
    w.flush();
    let names: Vec<&[u8]> = w.q.group_names().collect();
    assert_eq!(names, [&b"kept"[..]]);
    w.put(&["a"]);
    let taken = w.take_in("kept", 1, 1);
    w.ack(&tokens(&taken));
    assert_eq!(w.q.queue_counts().messages, 0, "held for nobody");
}

#[test]
fn the_last_group_takes_everything_with_it() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    w.take_in("g", 1, 1);
    w.q.delete_group(w.wall(), b"g").unwrap();
    w.flush();
    assert_eq!(w.q.queue_counts().messages, 0);
    assert_eq!(w.releases(), 1);
    w.put(&["c"]);
    assert_eq!(values(&w.take_in("g", 1, 10)), ["c"]);
}

#[test]
fn a_group_and_a_consumer_have_no_more_in_flight_than_they_may() {
    let mut w = World::new(QueueConfig {
        max_in_flight: 3,
        consumer_in_flight: 2,
        ..config()
    });
    w.put(&["a", "b", "c", "d", "e"]);
    let one = w.take(1, 10);
    assert_eq!(one.len(), 2);
    assert_eq!(w.take(1, 10), []);
    let two = w.take(2, 10);
    assert_eq!(two.len(), 1, "the group's bound comes first");
    assert!(matches!(w.why(""), Why::GroupFull { limit: 3, .. }));
    let waiter = w.wait("", 1, 10, 10_000);
    w.ack(&tokens(&two));
    assert_eq!(w.poll(), None, "its consumer has two");
    w.ack(&[one[0].token]);
    let (delivery, taken) = w.poll().unwrap();
    assert_eq!(delivery, Delivery::Taken(waiter));
    assert_eq!(values(&taken), ["d"]);
}

#[test]
fn an_ack_on_its_way_counts_against_the_group_until_it_is_durable() {
    let mut w = World::new(QueueConfig {
        max_in_flight: 1,
        ..config()
    });
    w.put(&["a", "b"]);
    let taken = w.take(1, 1);
    let waiter = w.wait("", 2, 1, 10_000);
    let mut results = Vec::new();
    let (now, wall) = (w.now(), w.wall());
    w.q.ack(now, wall, &tokens(&taken), &mut results).unwrap();
    assert_eq!(w.poll(), None);
    w.flush();
    assert_eq!(w.poll().unwrap().0, Delivery::Taken(waiter));
}

#[test]
fn a_group_that_begins_with_the_latest_sees_what_is_put_after_it() {
    for restart in [false, true] {
        let mut w = World::new(config());
        w.q.create_group(w.wall(), b"all").unwrap();
        w.put(&["old", "older"]);
        w.put_later(&["old and late"], 1000, 0);
        w.q.create_group_latest(w.wall(), b"new").unwrap();
        w.flush();
        w.put(&["fresh"]);
        if restart {
            w.crash(0, 0, None);
        }
        let counts = w.counts("new");
        assert_eq!((counts.ready, counts.delayed, counts.done_below), (1, 0, 3));
        w.pass(2000);
        let mut new = values(&w.take_in("new", 1, 10));
        assert_eq!(new, ["fresh"]);
        // Making it again changes nothing.
        w.put(&["fresher"]);
        w.q.create_group_latest(w.wall(), b"new").unwrap();
        w.flush();
        new = values(&w.take_in("new", 1, 10));
        assert_eq!(new, ["fresher"]);
        let mut all = values(&w.take_in("all", 1, 10));
        all.sort();
        assert_eq!(all, ["fresh", "fresher", "old", "old and late", "older"]);
    }
}

#[test]
fn a_put_on_its_way_when_the_group_is_made_is_before_it() {
    let mut w = World::new(config());
    w.q.create_group(w.wall(), b"all").unwrap();
    let put = |w: &mut World, value| {
        let put = Put {
            count: 1,
            records: encode(&[("", value)]),
            delay_ms: 0,
            ttl_ms: 0,
            producer: None,
        };
        w.q.put(w.now(), w.wall(), put).unwrap();
    };
    put(&mut w, "before");
    w.q.create_group_latest(w.wall(), b"new").unwrap();
    put(&mut w, "after");
    w.flush();
    assert_eq!(values(&w.take_in("new", 1, 10)), ["after"]);
}

#[test]
fn messages_that_nobody_has_looked_at_are_not_lost_to_a_group_that_begins_later() {
    let mut w = World::new(config());
    w.put(&["old"]);
    w.q.create_group_latest(w.wall(), b"new").unwrap();
    w.flush();
    w.crash(0, 0, None);
    assert_eq!(w.take_in("new", 1, 10), []);
    assert_eq!(values(&w.take_in("", 1, 10)), ["old"]);
    // Without any, there is nothing to keep a group for.
    let mut w = World::new(config());
    w.q.create_group_latest(w.wall(), b"new").unwrap();
    w.flush();
    let names: Vec<&[u8]> = w.q.group_names().collect();
    assert_eq!(names, [b"new"]);
}

#[test]
fn the_default_group_can_be_asked_about_before_anybody_took_from_it() {
    let mut w = World::new(config());
    assert_eq!(w.why(""), Why::Empty { dead: 0 });
    assert_eq!(w.q.group_names().collect::<Vec<_>>(), [b""]);
    w.put_later(&["late"], 1000, 0);
    assert_eq!(
        w.why(""),
        Why::Delayed {
            messages: 1,
            until: Some(Monotonic::from_millis(1000)),
        }
    );
    w.put(&["a", "b"]);
    assert_eq!(w.why(""), Why::NoConsumers { ready: 2 });
    let before = w.counts("");
    assert_eq!((before.ready, before.delayed, before.in_flight), (2, 1, 0));
    assert_eq!(before.oldest, Some(WallMs(1_000_000_000)));
    let mut peeked = Vec::new();
    w.q.peek(b"", 0, 10, &mut peeked).unwrap();
    let standings: Vec<Standing> = peeked.iter().map(|one| one.standing).collect();
    assert_eq!(
        standings,
        [Standing::Delayed, Standing::Ready, Standing::Ready]
    );
    assert_eq!(w.dead(""), []);
    assert_eq!(w.settle_dead(DeadAction::Purge, &[1]), [false]);
    assert_eq!(w.log.len(), 2, "asking writes nothing");
    // Used, it is the same group.
    let taken = w.take(1, 1);
    let after = w.counts("");
    assert_eq!((after.ready, after.delayed, after.in_flight), (1, 1, 1));
    assert_eq!(before.bytes, after.bytes);
    w.ack(&tokens(&taken));
    assert_eq!(w.counts("").ready, 1);
}

#[test]
fn what_a_deleted_group_counted_stays_counted() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    let taken = w.take_in("one", 1, 2);
    w.ack(&tokens(&taken[..1]));
    w.nack(&tokens(&taken[1..]), None, "");
    let before = w.q.all_counts().counters;
    assert_eq!((before.delivered, before.acked, before.nacked), (2, 1, 1));
    w.q.delete_group(w.wall(), b"one").unwrap();
    assert_eq!(w.q.all_counts().counters, before, "while it is deleted");
    w.flush();
    assert_eq!(w.q.all_counts().counters, before);
    w.put(&["c"]);
    w.take_in("one", 1, 1);
    assert_eq!(w.counts("one").counters.delivered, 1, "it is another group");
    assert_eq!(w.q.all_counts().counters.delivered, 3);
}

#[test]
fn another_group_made_first_takes_what_there_was_and_the_default_one_is_gone() {
    let mut w = World::new(config());
    w.put(&["a"]);
    let taken = w.take_in("other", 1, 10);
    assert_eq!(w.q.group_counts(b""), Err(QueueError::UnknownGroup));
    w.ack(&tokens(&taken));
    assert_eq!(w.q.queue_counts().messages, 0, "nothing piles up unseen");
}

#[test]
fn deleting_the_default_group_before_its_first_use_empties_the_queue() {
    let mut w = World::new(config());
    w.put(&["a", "b"]);
    w.q.delete_group(w.wall(), b"").unwrap();
    w.flush();
    assert_eq!(w.q.queue_counts().messages, 0);
    w.put(&["c"]);
    w.crash(0, 0, None);
    assert_eq!(values(&w.take(1, 10)), ["c"]);
}
