//! Appends, producers and append sessions.

use super::*;

#[test]
fn a_repeat_is_acknowledged_and_not_stored() {
    let mut s = story();
    s.append("other");
    let first = s.append_as("a b", Some((7, 0)), None).unwrap();
    let again = s.append_as("a b", Some((7, 0)), None).unwrap();
    assert_eq!((first.duplicate, again.duplicate), (false, true));
    assert_eq!(first.first_offset, again.first_offset);
    s.p.seal();
    assert_eq!(s.p.end(), Offset(3));
}

#[test]
fn a_repeat_is_recognised_though_the_end_has_moved() {
    let mut s = story();
    s.append_as("a", Some((7, 0)), Some(0)).unwrap();
    s.append("b");
    let again = s.append_as("a", Some((7, 0)), Some(0)).unwrap();
    assert_eq!((again.duplicate, again.first_offset), (true, Offset(0)));
}

#[test]
fn an_unknown_producer_starts_at_zero() {
    let mut s = story();
    let refused = s.append_as("a", Some((7, 5)), None).unwrap_err();
    let refusal = Refusal::from(refused);
    assert_eq!(refusal.code, ErrorCode::SequenceGap);
    assert_eq!(refusal.fact(FactId::Expected), Some(0));
}

#[test]
fn a_refused_append_does_not_use_up_its_sequence() {
    let mut s = story();
    assert!(s.append_as("a", Some((7, 0)), Some(4)).is_err());
    assert_eq!(s.p.producers(), 0);
    assert!(!s.append_as("a", Some((7, 0)), Some(0)).unwrap().duplicate);
}

#[test]
fn a_conditional_append_names_the_actual_end() {
    let mut s = story();
    s.append("a b");
    let refused = s.append_as("c", None, Some(1)).unwrap_err();
    assert_eq!(
        refused,
        AppendError::OffsetConflict {
            expected: Offset(1),
            actual: Offset(2)
        }
    );
    assert!(s.append_as("c", None, Some(2)).is_ok());
}

#[test]
fn malformed_batches_store_nothing() {
    let mut s = with(PartitionConfig {
        max_record_bytes: 100,
        ..PartitionConfig::default()
    });
    let (count, good) = batch("a b");
    for (count, bytes) in [
        (count + 1, &good[..]),
        (count, &good[..good.len() - 1]),
        (0, &[][..]),
    ] {
        let append = Append {
            producer: None,
            expected_offset: None,
            record_count: count,
            records: bytes,
        };
        let refused = s.p.append(s.now, s.wall, &append).unwrap_err();
        assert_eq!(Refusal::from(refused).code, ErrorCode::BadBatch);
    }
    let fits = "v".repeat(100 - 4);
    let over = "v".repeat(100 - 3);
    assert_eq!(
        s.try_append(&format!("a {over}")),
        Err(AppendError::RecordTooLarge {
            len: 101,
            limit: 100
        })
    );
    assert!(s.try_append(&format!("a {fits}")).is_ok());
    s.p.seal();
    assert_eq!(s.p.end(), Offset(2));
}

#[test]
fn a_batch_that_fits_no_delivery_frame_is_refused() {
    let mut s = story();
    let half = "v".repeat(BATCH_BYTES_MAX / 2 - 8);
    assert!(s.try_append(&format!("{half} {half}")).is_ok());
    let refused = s.try_append(&format!("{half}v {half}")).unwrap_err();
    assert!(matches!(refused, AppendError::BatchTooLarge { .. }));
}

#[test]
fn a_commit_is_seen_whole_and_a_rollback_not_at_all() {
    let mut s = story();
    s.subscribe(1, from(Start::Latest));
    let kept = s.p.begin(s.now, 5, false).unwrap();
    let dropped = s.p.begin(s.now, 5, false).unwrap();
    for (session, words) in [(kept, "a b"), (dropped, "x"), (kept, "c")] {
        let (count, records) = batch(words);
        s.p.stage(s.now, 5, session, count, &records).unwrap();
    }
    s.p.seal();
    assert_eq!((s.drain(), s.p.end()), (String::new(), Offset(0)));
    s.p.rollback(5, dropped).unwrap();
    let done = s.p.commit(s.now, s.wall, 5, kept, None).unwrap();
    assert_eq!((done.first_offset, done.record_count), (Offset(0), 3));
    assert_eq!(s.drain(), "1[0:a 1:b 2:c]");
    assert_eq!(
        s.p.commit(s.now, s.wall, 5, kept, None),
        Err(SessionError::Unknown)
    );
}

#[test]
fn a_large_commit_fits_frames_and_becomes_visible_at_once() {
    let mut s = with(PartitionConfig {
        ring_bytes: 64 << 20,
        ..PartitionConfig::default()
    });
    let session = s.p.begin(s.now, 5, true).unwrap();
    let (count, records) = batch(&"v".repeat(900_000));
    for _ in 0..11 {
        s.p.stage(s.now, 5, session, count, &records).unwrap();
    }
    let refused = s.p.stage(s.now, 5, session, count, &records).unwrap_err();
    assert_eq!(Refusal::from(refused).code, ErrorCode::StagedTooLarge);
    let (count, records) = batch(&"w ".repeat(9_000));
    s.p.stage(s.now, 5, session, count, &records).unwrap();
    let (count, records) = batch(&"w ".repeat(990));
    let refused = s.p.stage(s.now, 5, session, count, &records).unwrap_err();
    assert!(matches!(
        refused,
        SessionError::TooManyRecords {
            records: 10_001,
            ..
        }
    ));

    let done = s.p.commit(s.now, s.wall, 5, session, Some(Offset(0)));
    assert_eq!(done.unwrap().record_count, 9_011);
    assert_eq!(s.p.end(), Offset(9_011), "visible without a seal");
    s.subscribe(1, from(Start::Earliest));
    let mut seen = 0;
    loop {
        match s.p.poll_delivery() {
            Some((key, Delivery::Records { bytes, records, .. })) => {
                seen += u64::from(records);
                s.p.window(key, bytes.len() as u64);
                s.p.credit(key, 0, PLENTY);
                let (header, _, _) = BlockHeader::split(&bytes).unwrap();
                assert!(header.records_bytes as usize <= BATCH_BYTES_MAX);
            }
            None => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, 9_011);
}

#[test]
fn one_exclusive_session_at_a_time() {
    let mut s = story();
    let first = s.p.begin(s.now, 1, true).unwrap();
    assert_eq!(s.p.begin(s.now, 2, true), Err(SessionError::Active));
    assert!(s.p.begin(s.now, 2, false).is_ok());
    s.p.rollback(1, first).unwrap();
    assert!(s.p.begin(s.now, 2, true).is_ok());
}

#[test]
fn a_failed_commit_leaves_the_session_to_its_owner() {
    let mut s = story();
    let session = s.p.begin(s.now, 1, true).unwrap();
    let (count, records) = batch("a");
    s.p.stage(s.now, 1, session, count, &records).unwrap();
    s.append("b");
    let refused = s.p.commit(s.now, s.wall, 1, session, Some(Offset(0)));
    assert_eq!(
        Refusal::from(refused.unwrap_err()).code,
        ErrorCode::OffsetConflict
    );
    assert_eq!(
        s.p.stage(s.now, 2, session, count, &records),
        Err(SessionError::Unknown),
        "it is not of owner 2"
    );
    let done = s.p.commit(s.now, s.wall, 1, session, Some(Offset(1)));
    assert_eq!(done.unwrap().first_offset, Offset(1));
}

#[test]
fn sessions_end_with_their_owner_or_when_idle() {
    let mut s = story();
    s.p.begin(s.now, 1, true).unwrap();
    let other = s.p.begin(s.now, 2, false).unwrap();
    s.p.abort_owner(1);
    assert_eq!(s.p.sessions(), 1);
    let deadline = s.now + SESSION_IDLE;
    assert_eq!(s.p.next_deadline(), Some(deadline));
    s.p.handle_timeout(deadline);
    assert_eq!(s.p.rollback(2, other), Err(SessionError::Unknown));
    assert_eq!((s.p.sessions(), s.p.next_deadline()), (0, None));
}

#[test]
fn limits_of_sessions_and_subscribers_are_named() {
    let mut s = with(PartitionConfig {
        sessions_max: 1,
        subscribers_max: 1,
        ..PartitionConfig::default()
    });
    s.p.begin(s.now, 1, false).unwrap();
    let refusal = Refusal::from(s.p.begin(s.now, 1, false).unwrap_err());
    assert_eq!(refusal.fact(FactId::Limit), Some(1));
    s.subscribe(1, from(Start::Latest));
    assert_eq!(
        s.p.subscribe(SubKey(1), from(Start::Latest)),
        Err(SubscribeError::KeyInUse)
    );
    assert_eq!(
        s.p.subscribe(SubKey(2), from(Start::Latest)),
        Err(SubscribeError::TooMany { limit: 1 })
    );
}
