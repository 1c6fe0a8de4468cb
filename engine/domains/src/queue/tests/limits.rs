//! Everything has an end, and says so.

use super::*;

fn put(w: &mut World, values: &[&str]) -> Result<PutDone, QueueError> {
    let records: Vec<(&str, &str)> = values.iter().map(|value| ("", *value)).collect();
    let put = Put {
        count: u32::try_from(values.len()).unwrap(),
        records: encode(&records),
        delay_ms: 0,
        ttl_ms: 0,
        producer: None,
    };
    w.q.put(w.now(), w.wall(), put)
}

#[test]
fn a_full_queue_refuses_and_takes_again_when_there_is_room() {
    let mut w = World::new(QueueConfig {
        messages_max: 3,
        ..config()
    });
    assert!(put(&mut w, &["a", "b"]).is_ok());
    let full = Err(QueueError::Full {
        bound: Bound::Messages,
        limit: 3,
    });
    // What is on its way counts.
    assert_eq!(put(&mut w, &["c", "d"]), full);
    w.flush();
    assert_eq!(put(&mut w, &["c", "d"]), full);
    assert!(put(&mut w, &["c"]).is_ok());
    w.flush();
    let taken = w.take(1, 2);
    w.ack(&tokens(&taken));
    assert!(put(&mut w, &["d", "e"]).is_ok());
}

#[test]
fn bytes_and_dead_letters_are_bounded_too() {
    let mut w = World::new(QueueConfig {
        bytes_max: 40,
        dead_max: 1,
        max_attempts: 1,
        ..config()
    });
    assert!(put(&mut w, &["0123456789"]).is_ok());
    assert!(put(&mut w, &["0123456789"]).is_ok());
    assert!(matches!(
        put(&mut w, &["0123456789"]),
        Err(QueueError::Full {
            bound: Bound::Bytes,
            limit: 40
        })
    ));
    w.flush();
    let taken = w.take(1, 2);
    w.ack(&[taken[0].token]);
    w.nack(&[taken[1].token], None, "");
    assert!(matches!(
        put(&mut w, &["x"]),
        Err(QueueError::Full {
            bound: Bound::Dead,
            limit: 1
        })
    ));
    w.settle_dead(DeadAction::Purge, &[1]);
    assert!(put(&mut w, &["x"]).is_ok());
}

#[test]
fn tables_are_bounded() {
    let mut w = World::new(QueueConfig {
        groups_max: 1,
        consumers_max: 2,
        waiters_max: 1,
        ..config()
    });
    w.wait("", 1, 1, 30_000);
    let take = |who, group: &'static [u8], waiter| Take {
        session: session(who),
        waiter: WaiterId(waiter),
        group,
        max: 1,
        max_bytes: 1,
        wait_ms: 1,
        lease_ms: 0,
    };
    let mut out = Vec::new();
    let (now, wall) = (w.now(), w.wall());
    let mut refused = |take| w.q.take(now, wall, &take, &mut out).unwrap_err();
    let too_many = |bound, limit| QueueError::TooMany { bound, limit };
    assert_eq!(refused(take(1, b"", 1)), QueueError::DuplicateId);
    assert_eq!(refused(take(1, b"other", 2)), too_many(Bound::Groups, 1));
    assert_eq!(refused(take(2, b"", 3)), too_many(Bound::Waiters, 1));
    assert_eq!(refused(take(3, b"", 4)), too_many(Bound::Consumers, 2));
    let long = Take {
        wait_ms: WAIT_MS_MAX + 1,
        ..take(1, b"", 5)
    };
    assert!(matches!(refused(long), QueueError::OutOfRange { .. }));
}

#[test]
fn a_malformed_batch_changes_nothing() {
    let mut w = World::new(QueueConfig {
        max_record_bytes: 20,
        ..config()
    });
    let mut bad = Put {
        count: 2,
        records: encode(&[("", "a")]),
        delay_ms: 0,
        ttl_ms: 0,
        producer: None,
    };
    let (now, wall) = (w.now(), w.wall());
    assert!(matches!(
        w.q.put(now, wall, bad.clone()),
        Err(QueueError::Malformed(_))
    ));
    bad.count = 1;
    bad.delay_ms = TIME_MS_MAX + 1;
    assert!(matches!(
        w.q.put(now, wall, bad),
        Err(QueueError::OutOfRange { .. })
    ));
    assert!(put(&mut w, &["exactly16 bytes."]).is_ok());
    assert!(matches!(
        put(&mut w, &["exactly 17 bytes."]),
        Err(QueueError::RecordTooLarge { len: 21, limit: 20 })
    ));
    assert_eq!(w.q.queue_counts().pending, 1);
}

#[test]
fn a_call_takes_no_more_tokens_than_it_may() {
    let mut w = World::new(config());
    let tokens = vec![Token::from_bytes([0; 16]); BATCH_MAX + 1];
    let mut results = Vec::new();
    assert!(matches!(
        w.q.ack(w.now(), w.wall(), &tokens, &mut results),
        Err(QueueError::OutOfRange { .. })
    ));
    assert!(results.is_empty());
}

#[test]
fn a_take_by_bytes_gives_one_message_of_any_size() {
    let mut w = World::new(config());
    w.put(&["large enough", "b"]);
    let take = Take {
        session: session(1),
        waiter: WaiterId(99),
        group: b"",
        max: 10,
        max_bytes: 1,
        wait_ms: 0,
        lease_ms: 0,
    };
    w.q.create_group(w.wall(), b"").unwrap();
    w.flush();
    let mut out = Vec::new();
    w.q.take(w.now(), w.wall(), &take, &mut out).unwrap();
    assert_eq!(out.len(), 1);
}

#[test]
fn policies_change_while_the_queue_works() {
    let mut w = World::new(QueueConfig {
        consumer_in_flight: 1,
        ..config()
    });
    w.put(&["a", "b"]);
    let taken = w.take(1, 2);
    assert_eq!(taken.len(), 1);
    w.wait("", 1, 2, 10_000);
    assert_eq!(w.poll(), None);
    w.q.set_config(QueueConfig {
        consumer_in_flight: 2,
        max_attempts: 1,
        ..config()
    });
    assert_eq!(values(&w.poll().unwrap().1), ["b"]);
    w.nack(&tokens(&taken), None, "");
    assert_eq!(w.dead("").len(), 1);
}
