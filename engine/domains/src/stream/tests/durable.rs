//! Commit, cursors, trim, fence.

use super::super::fake_log::FakeLog;
use super::*;
use crate::op::kind;

pub(super) fn durable() -> (Story, FakeLog) {
    durable_with(PartitionConfig::default())
}

pub(super) fn durable_with(config: PartitionConfig) -> (Story, FakeLog) {
    let config = PartitionConfig {
        durable: true,
        default_overflow: Overflow::Block,
        ..config
    };
    (with(config), FakeLog::default())
}

/// One committed turn per word.
pub(super) fn write_each(s: &mut Story, log: &mut FakeLog, words: &str) {
    for word in words.split_whitespace() {
        s.try_append(word).unwrap();
        log.flush(&mut s.p);
    }
}

#[test]
fn nobody_sees_what_is_not_committed() {
    let (mut s, mut log) = durable();
    s.subscribe(1, from(Start::Latest));
    let appended = s.try_append("a b").unwrap();
    s.p.seal();
    log.take(&mut s.p);
    assert_eq!((s.drain(), s.p.end()), (String::new(), Offset(0)));
    assert_eq!(s.fetch(0, 9, PLENTY).1, "");
    assert_eq!(s.subscribe(2, from(Start::Latest)).next, Offset(0));
    assert_eq!(
        s.p.subscribe(SubKey(3), from(Start::Offset(Offset(1)))),
        Err(SubscribeError::BeyondEnd {
            start: Offset(1),
            end: Offset(0)
        })
    );
    assert_eq!(
        (s.p.committed_end(), s.p.appended_end()),
        (Offset(0), Offset(2))
    );

    log.commit(&mut s.p, 1);
    s.p.seal();
    assert_eq!(s.p.committed_end(), appended.first_offset.plus(2));
    assert_eq!(s.drain(), "1[0:a 1:b] 2[0:a 1:b]");
    assert_eq!(s.fetch(0, 9, PLENTY).1, "0:a 1:b");
}

#[test]
fn appends_are_acknowledged_in_their_order_one_commit_each() {
    let (mut s, mut log) = durable();
    let ends: Vec<u64> = ["a b", "c", "d e f"]
        .iter()
        .map(|words| {
            let appended = s.try_append(words).unwrap();
            appended.first_offset.0 + u64::from(appended.record_count)
        })
        .collect();
    log.take(&mut s.p);
    for end in ends {
        assert!(s.p.committed_end() < Offset(end), "not acknowledged early");
        s.p.commit_next();
        assert_eq!(s.p.committed_end(), Offset(end));
    }
}

#[test]
#[should_panic(expected = "committed before it was polled")]
fn nothing_is_committed_that_was_not_written() {
    let (mut s, _) = durable();
    s.try_append("a").unwrap();
    s.p.commit_next();
}

#[test]
fn an_op_carries_the_block_as_readers_get_it() {
    let (mut s, _) = durable();
    s.append_as("a b", Some((7, 0)), None).unwrap();
    let op = s.p.poll_op().unwrap();
    assert_eq!((op.kind, op.first, op.count), (kind::STREAM_BLOCK, 0, 2));
    assert_eq!(
        (op.timestamp, op.more, op.essential),
        (s.wall, false, false)
    );
    assert_eq!(op.ext, [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(decode(&op.body), [(0, "a".into()), (1, "b".into())]);
    assert_eq!(s.p.poll_op(), None);

    s.append_as("c", Some((7, 2)), None).unwrap();
    s.append_as("d", None, None).unwrap();
    let lent = s.p.poll_single().unwrap();
    assert_eq!(lent.ext, [7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(decode(lent.body), [(2, "c".into())]);
    s.p.seal();
    let lent = s.p.poll_single().unwrap();
    assert_eq!(
        (lent.ext, decode(lent.body)),
        (&[][..], vec![(3, "d".into())])
    );
    assert_eq!(s.p.poll_single(), None);
}

#[test]
fn an_ephemeral_partition_writes_nothing() {
    let mut s = story();
    s.append("a");
    assert_eq!((s.p.poll_op(), s.p.poll_single()), (None, None));
    assert_eq!(s.p.committed_end(), Offset(1), "as good as it gets");
    assert_eq!(
        s.p.cursor_commit(b"me", Offset(0), s.wall),
        Err(CursorError::NotDurable)
    );
    assert!(!s.p.trim(Offset(1), s.wall));
    s.p.evict_committed(0);
    assert_eq!(
        s.p.first_available(),
        Offset(0),
        "it has nothing but memory"
    );
}

#[test]
fn a_session_is_seen_when_its_last_block_is_committed() {
    let (mut s, mut log) = durable();
    s.subscribe(1, from(Start::Latest));
    let session = s.p.begin(s.now, 5, true).unwrap();
    let (count, records) = batch(&"v".repeat(20_000));
    for _ in 0..3 {
        s.p.stage(s.now, 5, session, count, &records).unwrap();
    }
    let done = s.p.commit(s.now, s.wall, 5, session, None).unwrap();
    assert_eq!(done.record_count, 3);
    log.take(&mut s.p);
    let more: Vec<bool> = log.records.iter().map(|r| r.more).collect();
    assert_eq!(more, [true, true, false]);
    for _ in 0..2 {
        s.p.commit_next();
        s.p.seal();
        assert_eq!((s.p.end(), s.p.has_work()), (Offset(0), false));
    }
    s.p.commit_next();
    s.p.seal();
    assert_eq!(s.p.end(), Offset(3));
    assert!(s.drain().contains("2:vvv"));
}

#[test]
fn a_repeat_waits_for_the_first_one_to_be_durable() {
    let (mut s, mut log) = durable();
    s.append_as("a b", Some((7, 0)), None).unwrap();
    let again = s.append_as("a b", Some((7, 0)), None).unwrap();
    assert_eq!((again.duplicate, again.first_offset), (true, Offset(0)));
    assert!(s.p.committed_end() < Offset(2), "no acknowledgement yet");
    log.flush(&mut s.p);
    assert_eq!(log.records.len(), 1);
    assert_eq!(s.p.committed_end(), Offset(2));
}

#[test]
fn what_awaits_the_disk_is_bounded_and_never_evicted() {
    let (mut s, mut log) = durable_with(PartitionConfig {
        ring_bytes: 4096,
        ..PartitionConfig::default()
    });
    let big = "v".repeat(100_000);
    let mut taken = 0;
    let refused = loop {
        match s.try_append(&big) {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
    };
    let limit = UNCOMMITTED_BYTES_MIN;
    assert_eq!(refused, AppendError::LogBacklogged { limit });
    let refusal = Refusal::from(refused);
    assert_eq!(refusal.code, ErrorCode::LogBacklogged);
    assert!(refusal.retry_after_ms > 0);
    assert_eq!(taken, limit / 100_041);
    s.p.evict_committed(0);
    log.take(&mut s.p);
    assert_eq!(
        log.records.len() as u64,
        taken,
        "every block is still there"
    );
    log.commit(&mut s.p, 1);
    assert!(s.try_append(&big).is_ok());
    log.flush(&mut s.p);
    s.try_append("small").unwrap();
    assert!(s.p.bytes() < 200_000, "committed blocks make room");
}

#[test]
fn a_cursor_shows_its_committed_place() {
    let (mut s, mut log) = durable();
    write_each(&mut s, &mut log, "a b c");
    s.p.cursor_commit(b"me", Offset(2), s.wall).unwrap();
    assert_eq!(s.p.cursor(b"me"), None, "it awaits the disk");
    assert_eq!(s.p.cursors().count(), 0);
    log.flush(&mut s.p);
    assert_eq!(s.p.cursor(b"me"), Some(Offset(2)));
    s.p.cursor_commit(b"me", Offset(1), s.wall).unwrap();
    s.p.cursor_delete(b"me", s.wall).unwrap();
    s.p.cursor_commit(b"me", Offset(3), s.wall).unwrap();
    log.take(&mut s.p);
    log.commit(&mut s.p, 1);
    assert_eq!(s.p.cursor(b"me"), Some(Offset(1)), "it may go back");
    log.commit(&mut s.p, 1);
    assert_eq!(s.p.cursor(b"me"), None);
    log.commit(&mut s.p, 1);
    assert_eq!(s.p.cursor(b"me"), Some(Offset(3)));
    s.p.cursor_delete(b"me", s.wall).unwrap();
    log.flush(&mut s.p);
    assert_eq!(s.p.cursor_delete(b"me", s.wall), Err(CursorError::Unknown));
}

#[test]
fn cursors_have_limits_that_count_what_is_on_its_way() {
    let (mut s, mut log) = durable();
    let end = s.p.end();
    let long = [b'n'; CURSOR_NAME_BYTES_MAX + 1];
    for name in [&[][..], &long] {
        let refused = s.p.cursor_commit(name, end, s.wall).unwrap_err();
        assert_eq!(Refusal::from(refused).code, ErrorCode::BadName);
    }
    assert_eq!(
        s.p.cursor_commit(b"me", Offset(1), s.wall),
        Err(CursorError::BeyondEnd {
            offset: Offset(1),
            end
        })
    );
    for i in 0..CURSORS_MAX {
        s.p.cursor_commit(format!("c{i}").as_bytes(), end, s.wall)
            .unwrap();
    }
    let refused = s.p.cursor_commit(b"one more", end, s.wall);
    assert_eq!(refused, Err(CursorError::TooMany { limit: CURSORS_MAX }));
    s.p.cursor_commit(&long[1..], end, s.wall).unwrap_err();
    s.p.cursor_commit(b"c0", end, s.wall).unwrap();
    s.p.cursor_delete(b"c1", s.wall).unwrap();
    log.flush(&mut s.p);
    s.p.cursor_commit(b"one more", end, s.wall).unwrap();
    log.flush(&mut s.p);
    assert_eq!(s.p.cursors().count(), CURSORS_MAX);
    assert_eq!(s.p.cursors().next().unwrap().0, b"c0");
}

#[test]
fn a_trim_shows_at_once_and_names_what_it_took() {
    let (mut s, mut log) = durable();
    s.subscribe(1, slow(Overflow::Block, 0, 0));
    s.subscribe(2, slow(Overflow::Disconnect, 0, 0));
    write_each(&mut s, &mut log, "a b c d");
    s.try_append("e").unwrap();
    assert!(s.p.trim(Offset(2), WallMs(9000)));
    assert_eq!(s.p.first_available(), Offset(2));
    assert_eq!(
        s.p.committed_first(),
        Offset(0),
        "the log has to keep it yet"
    );
    s.credit(1, 9);
    assert_eq!(
        s.drain(),
        "2END(SlowSubscriber 0) 1<RingOverran 0..2 2> 1[2:c] 1[3:d]"
    );
    let (fetched, words) = s.fetch(0, 9, PLENTY);
    assert_eq!(words, "2:c 3:d");
    assert_eq!(fetched.first_available, Offset(2));
    log.flush(&mut s.p);
    assert_eq!(s.p.committed_first(), Offset(2));
    let trim = log.records.last().unwrap();
    assert_eq!((trim.head.kind, trim.head.first), (kind::STREAM_TRIM, 2));
    assert_eq!(trim.head.timestamp, WallMs(9000));
}

#[test]
fn a_trim_never_takes_what_is_not_committed_nor_goes_back() {
    let (mut s, mut log) = durable();
    write_each(&mut s, &mut log, "a b");
    s.try_append("c").unwrap();
    assert!(s.p.trim(Offset(99), s.wall));
    assert_eq!(s.p.first_available(), Offset(2));
    assert!(!s.p.trim(Offset(2), s.wall));
    assert!(!s.p.trim(Offset(1), s.wall));
    log.flush(&mut s.p);
    assert_eq!(s.fetch(0, 9, PLENTY).1, "2:c");
}

#[test]
fn a_fenced_partition_takes_nothing_and_gives_what_it_has() {
    let (mut s, mut log) = durable();
    write_each(&mut s, &mut log, "a b");
    let session = s.p.begin(s.now, 5, false).unwrap();
    let (count, records) = batch("x");
    s.p.stage(s.now, 5, session, count, &records).unwrap();
    s.append_as("c", Some((7, 0)), None).unwrap();
    s.p.fence();
    assert!(s.p.is_fenced());
    assert_eq!(s.try_append("d"), Err(AppendError::Fenced));
    assert_eq!(
        s.append_as("c", Some((7, 0)), None),
        Err(AppendError::Fenced),
        "nobody knows whether the first one was written"
    );
    assert_eq!(
        s.p.commit(s.now, s.wall, 5, session, None),
        Err(SessionError::Append(AppendError::Fenced))
    );
    assert_eq!(
        s.p.cursor_commit(b"me", Offset(0), s.wall),
        Err(CursorError::Fenced)
    );
    assert!(!s.p.trim(Offset(1), s.wall));
    assert_eq!(
        Refusal::from(AppendError::Fenced).code,
        ErrorCode::PartitionFenced
    );
    s.subscribe(1, from(Start::Earliest));
    assert_eq!(s.drain(), "1[0:a] 1[1:b]");
}
