//! What a restart makes of the log.

use super::super::fake_log::{FakeLog, Written};
use super::durable::{durable, write_each};
use super::*;
use crate::op::kind;

fn restarted(s: &Story, log: &FakeLog, upto: usize) -> Story {
    Story {
        p: log.recover(*s.p.config(), None, upto),
        now: s.now,
        wall: s.wall,
    }
}

fn state_of(p: &Partition) -> Vec<u8> {
    let mut state = Vec::new();
    p.snapshot(&mut state);
    state
}

#[test]
fn offsets_times_and_records_survive() {
    let (mut s, mut log) = durable();
    s.wall = WallMs(5000);
    write_each(&mut s, &mut log, "a b c");
    let mut s = restarted(&s, &log, 3);
    assert_eq!((s.p.end(), s.p.first_available()), (Offset(3), Offset(0)));
    // The clock was set back while it was down.
    s.wall = WallMs(10);
    let appended = s.try_append("d").unwrap();
    assert_eq!(appended.first_offset, Offset(3));
    assert_eq!(appended.timestamp, WallMs(5000), "time never goes back");
    log.flush(&mut s.p);
    s.subscribe(1, from(Start::Earliest));
    s.drain();
    log.answer(s.now, &mut s.p);
    assert_eq!(s.drain(), "1[0:a 1:b 2:c 3:d]");
}

#[test]
fn a_repeat_is_recognised_after_a_restart() {
    let (mut s, mut log) = durable();
    s.append_as("a b", Some((7, 0)), None).unwrap();
    log.flush(&mut s.p);
    let state = state_of(&s.p);
    s.append_as("c", Some((7, 2)), None).unwrap();
    log.flush(&mut s.p);
    for state in [None, Some((&state[..], 1))] {
        let mut s = Story {
            p: log.recover(*s.p.config(), state, 2),
            ..with(*s.p.config())
        };
        let again = s.append_as("a b", Some((7, 0)), None).unwrap();
        assert_eq!((again.duplicate, again.first_offset), (true, Offset(0)));
        let again = s.append_as("c", Some((7, 2)), None).unwrap();
        assert_eq!((again.duplicate, again.first_offset), (true, Offset(2)));
        assert!(!s.append_as("d", Some((7, 3)), None).unwrap().duplicate);
    }
}

#[test]
fn what_a_crash_took_may_be_sent_again() {
    let (mut s, mut log) = durable();
    s.append_as("a", Some((7, 0)), None).unwrap();
    log.flush(&mut s.p);
    s.append_as("b", Some((7, 1)), None).unwrap();
    log.take(&mut s.p);
    let mut s = restarted(&s, &log, 1);
    let sent = s.append_as("b", Some((7, 1)), None).unwrap();
    assert_eq!((sent.duplicate, sent.first_offset), (false, Offset(1)));
}

#[test]
fn a_session_survives_whole_or_not_at_all() {
    let (mut s, mut log) = durable();
    write_each(&mut s, &mut log, "a");
    let session = s.p.begin(s.now, 5, false).unwrap();
    let (count, records) = batch(&"v".repeat(20_000));
    for _ in 0..3 {
        s.p.stage(s.now, 5, session, count, &records).unwrap();
    }
    s.p.commit(s.now, s.wall, 5, session, None).unwrap();
    log.take(&mut s.p);
    assert!(log.records[1].more && log.records[2].more && !log.records[3].more);
    assert_eq!(restarted(&s, &log, 1).p.end(), Offset(1));
    assert_eq!(restarted(&s, &log, 4).p.end(), Offset(4));
}

#[test]
fn trims_and_cursors_survive_and_so_does_their_end() {
    let (mut s, mut log) = durable();
    write_each(&mut s, &mut log, "a b c");
    s.p.cursor_commit(b"ana", Offset(1), s.wall).unwrap();
    s.p.cursor_commit(b"bo", Offset(2), s.wall).unwrap();
    s.p.trim(Offset(2), s.wall);
    s.p.cursor_delete(b"ana", s.wall).unwrap_or(());
    log.flush(&mut s.p);
    let state = state_of(&s.p);
    let n = log.records.len();
    for p in [
        log.recover(*s.p.config(), None, n),
        log.recover(*s.p.config(), Some((&state, n)), n),
    ] {
        assert_eq!((p.first_available(), p.end()), (Offset(2), Offset(3)));
        assert_eq!(p.committed_first(), Offset(2));
        let cursors: Vec<_> = p.cursors().collect();
        assert_eq!(cursors, [(&b"bo"[..], Offset(2))]);
    }
}

#[test]
fn a_state_covers_what_was_polled_and_is_not_yet_committed() {
    let (mut s, mut log) = durable();
    s.append_as("a b", Some((7, 0)), None).unwrap();
    s.p.cursor_commit(b"me", Offset(0), s.wall).unwrap();
    log.take(&mut s.p);
    let state = state_of(&s.p);
    let mut p = log.recover(*s.p.config(), Some((&state, 2)), 2);
    assert_eq!((p.end(), p.cursor(b"me")), (Offset(2), Some(Offset(0))));
    assert_eq!(state_of(&p), state);
    assert_eq!(p.poll_op(), None);
}

#[test]
#[should_panic(expected = "1 ops unpolled")]
fn a_state_ahead_of_the_log_is_never_taken() {
    let (mut s, _) = durable();
    s.try_append("a").unwrap();
    state_of(&s.p);
}

#[test]
fn carried_records_say_nothing_new() {
    let (mut s, mut log) = durable();
    write_each(&mut s, &mut log, "a b");
    s.p.cursor_commit(b"me", Offset(1), s.wall).unwrap();
    log.flush(&mut s.p);
    s.p.cursor_commit(b"me", Offset(2), s.wall).unwrap();
    log.flush(&mut s.p);
    let mut p = log.recover(*s.p.config(), None, log.records.len());
    let before = state_of(&p);
    for r in &log.records {
        p.replay(&r.head, true, &r.ext, &r.body).unwrap();
    }
    assert_eq!(state_of(&p), before);
}

#[test]
fn a_hole_in_the_log_fences_and_no_offset_is_used_twice() {
    let (mut s, mut log) = durable();
    write_each(&mut s, &mut log, "a b c d");
    log.records.remove(1);
    log.committed -= 1;
    let mut s = restarted(&s, &log, 3);
    assert!(s.p.is_fenced());
    assert_eq!(s.p.end(), Offset(4));
    assert_eq!(s.try_append("e"), Err(AppendError::Fenced));
    s.subscribe(1, from(Start::Earliest));
    let mut said = s.drain();
    while log.answer(s.now, &mut s.p) > 0 {
        said += &s.drain();
    }
    assert_eq!(said, "1END(PartitionFenced 0)", "its blocks are not dense");
    let mut again = with(*s.p.config());
    again.p.restore(&state_of(&s.p)).unwrap();
    assert!(again.p.is_fenced(), "a checkpoint does not hide it");
}

#[test]
fn records_of_another_world_are_refused() {
    let (mut s, mut log) = durable();
    write_each(&mut s, &mut log, "a b");
    let good = log.records[1].clone();
    let refuse = |edit: &dyn Fn(&mut Written)| {
        let mut p = log.recover(*s.p.config(), None, 1);
        let before = state_of(&p);
        let mut bad = good.clone();
        edit(&mut bad);
        let refused = p.replay(&bad.head, false, &bad.ext, &bad.body).unwrap_err();
        assert_eq!(state_of(&p), before, "{refused}");
        refused
    };
    let malformed = |first| ReplayError::Malformed { first };
    assert_eq!(refuse(&|r| r.head.kind = 9), ReplayError::Kind { kind: 9 });
    assert_eq!(refuse(&|r| r.head.first = 5), malformed(5));
    assert_eq!(refuse(&|r| r.head.count = 2), malformed(1));
    assert_eq!(refuse(&|r| r.ext = vec![0; 15]), malformed(1));
    assert_eq!(refuse(&|r| r.body.push(0)), malformed(1));
    assert_eq!(refuse(&|r| r.body.truncate(20)), malformed(1));
    assert_eq!(
        refuse(&|r| (r.head.kind, r.ext) = (kind::STREAM_CURSOR, Vec::new())),
        malformed(1)
    );
    let mut p = log.recover(*s.p.config(), None, 2);
    assert_eq!(
        p.replay(&good.head, false, &good.ext, &good.body),
        Err(ReplayError::Overlap { first: 1, end: 2 })
    );
}

#[test]
fn a_state_that_is_none_is_refused() {
    let (mut s, mut log) = durable();
    s.append_as("a b", Some((7, 0)), None).unwrap();
    log.flush(&mut s.p);
    s.p.cursor_commit(b"me", Offset(1), s.wall).unwrap();
    log.flush(&mut s.p);
    let state = state_of(&s.p);
    let config = *s.p.config();
    for cut in 0..state.len() {
        let mut p = Partition::new(config);
        assert!(p.restore(&state[..cut]).is_err(), "cut at {cut}");
    }
    let mut other = state.clone();
    other[0] = 2;
    assert_eq!(
        Partition::new(config).restore(&other),
        Err(RestoreError::Version { version: 2 })
    );
    // Any flipped bit is refused or is another sound state; none is a panic.
    for bit in 0..state.len() * 8 {
        let mut flipped = state.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut p = Partition::new(config);
        if p.restore(&flipped).is_ok() {
            assert!(p.first_available() <= p.end());
        }
    }
}

#[test]
fn a_state_has_the_documented_bytes() {
    let (mut s, mut log) = durable();
    s.wall = WallMs(0x0102);
    s.append_as("a b", Some((7, 0)), None).unwrap();
    log.flush(&mut s.p);
    s.p.cursor_commit(b"me", Offset(1), s.wall).unwrap();
    log.flush(&mut s.p);
    let state = state_of(&s.p);
    let mut p = Partition::new(*s.p.config());
    p.restore(&state).unwrap();
    assert_eq!(state_of(&p), state);
    assert_eq!(state, GOLDEN);
}

/// Version 1 as `snapshot.rs` describes it, derived from the archive format of
/// rkyv 0.8: what a struct points to stands before it, a pointer is the signed
/// distance from itself.
#[rustfmt::skip]
const GOLDEN: &[u8] = &[
    1, // version
    // batch: sequence 0, 2 records (padded), offset 0
    0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    // producer: id 7, batches 32 bytes back, one of them
    7, 0, 0, 0, 0, 0, 0, 0, 224, 255, 255, 255, 1, 0, 0, 0,
    // a cursor's name (padded), and the cursor: name 8 bytes back, 2 long, offset 1
    b'm', b'e', 0, 0, 0, 0, 0, 0, 248, 255, 255, 255, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    // first 0, end 2, last timestamp 0x102, no gap (padded)
    0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    // producers 68 bytes back, one; cursors 52 bytes back, one; padding
    188, 255, 255, 255, 1, 0, 0, 0, 204, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0,
];
