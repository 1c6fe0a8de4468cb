//! Queues as their consumers and their people see them.

use core::time::Duration;

use pinion_commitlog::DiskError;
use pinion_simkit::{CrashMode, Fault, FaultPlan};
use pinion_types::{ErrorCode, PartitionId, ResourceKind, SubscriptionId, WallMs};
use pinion_wire::message::{
    DeadItem, DeadReason, DeadSelect, GroupAction, GroupItem, Handle, IdList, MessageState,
    PeekItem, QueueAck, QueueDeadList, QueueDeadReplay, QueueGroup, QueueInfo, QueueNack,
    QueuePeek, QueuePut, QueueSpec, QueueSubscribe, QueueTake, QueueWhy, Reason, Reply, Request,
    Spec, States, Token, TokenList, WhyReason,
};

use super::done;
use crate::harness::{ADMIN, Answer, Got, Id, Setup, World, batch};

const FIRST: PartitionId = PartitionId(0);

/// A durable queue of one partition with so much memory for bodies that none
/// but the last few stay in it.
pub(super) fn spec(queue: QueueSpec) -> Spec {
    Spec {
        ring_bytes: 64 << 10,
        queue,
        ..World::durable()
    }
}

pub(super) fn declare(w: &mut World, id: Id, spec: Spec) -> Handle {
    let answer = w.try_open(id, ResourceKind::Queue, "q", Some(spec));
    match answer.reply() {
        Reply::Opened(opened) => opened.handle,
        other => panic!("{other:?}"),
    }
}

/// What is left after a crash: a connection, and the queue.
fn reborn(w: &mut World) -> (Id, Handle) {
    w.crash(CrashMode::DropUnsynced);
    let id = w.client(0, ADMIN);
    let handle = w.open(id, ResourceKind::Queue, "q");
    (id, handle)
}

pub(super) fn put(w: &mut World, id: Id, handle: Handle, values: &[&[u8]]) {
    put_later(w, id, handle, values, 0, 0);
}

fn put_later(w: &mut World, id: Id, handle: Handle, values: &[&[u8]], delay_ms: u64, ttl_ms: u64) {
    let records = batch(values);
    let put = QueuePut {
        handle,
        partition: FIRST,
        producer: None,
        delay_ms,
        ttl_ms,
        record_count: u32::try_from(values.len()).unwrap(),
        records: &records,
    };
    done(w, id, &Request::QueuePut(put));
}

/// `(id, attempt, token)` of what a take gets at once.
pub(super) fn take_in(
    w: &mut World,
    id: Id,
    handle: Handle,
    group: &str,
    max: u32,
) -> Vec<(u64, u16, Token)> {
    let take = QueueTake {
        handle,
        partition: FIRST,
        max_messages: max,
        max_bytes: 1 << 20,
        wait_ms: 0,
        lease_ms: 0,
        group,
    };
    let answer = done(w, id, &Request::QueueTake(take));
    let Reply::Taken(taken) = answer.reply() else {
        panic!("{answer:?}")
    };
    let messages = taken.messages.iter();
    messages.map(|m| (m.id, m.attempt, m.token)).collect()
}

fn take(w: &mut World, id: Id, handle: Handle, max: u32) -> Vec<(u64, u16, Token)> {
    take_in(w, id, handle, "", max)
}

fn ids(taken: &[(u64, u16, Token)]) -> Vec<u64> {
    taken.iter().map(|one| one.0).collect()
}

pub(super) fn ack(w: &mut World, id: Id, handle: Handle, tokens: &[Token]) {
    let mut scratch = Vec::new();
    let tokens = TokenList::build(&mut scratch, tokens.iter().copied()).unwrap();
    let ack = QueueAck {
        handle,
        partition: FIRST,
        group: "",
        tokens,
    };
    let answer = done(w, id, &Request::QueueAck(ack));
    let Reply::Settled(settled) = answer.reply() else {
        panic!("{answer:?}")
    };
    assert!(settled.results.iter().all(|code| code.is_none()));
}

fn nack(w: &mut World, id: Id, handle: Handle, token: Token, error: &str) {
    let mut scratch = Vec::new();
    let tokens = TokenList::build(&mut scratch, [token]).unwrap();
    let nack = QueueNack {
        handle,
        partition: FIRST,
        delay_ms: None,
        error,
        group: "",
        tokens,
    };
    done(w, id, &Request::QueueNack(nack));
}

fn why(w: &mut World, id: Id, handle: Handle) -> Option<Reason> {
    let why = QueueWhy {
        handle,
        partition: FIRST,
        group: "",
    };
    let answer = done(w, id, &Request::QueueWhy(why));
    let Reply::QueueReasons(reasons) = answer.reply() else {
        panic!("{answer:?}")
    };
    reasons.iter().next()
}

/// From where to where there are messages for the group, and what comes.
pub(super) fn subscribe(
    w: &mut World,
    id: Id,
    handle: Handle,
    number: u32,
    in_flight_max: u32,
) -> ((u64, u64), Vec<Got>) {
    let push = QueueSubscribe {
        handle,
        partition: FIRST,
        subscription: SubscriptionId(number),
        lease_ms: 60_000,
        in_flight_max,
        credit_records: 1000,
        credit_bytes: 1 << 20,
        group: "",
    };
    let answer = done(w, id, &Request::QueueSubscribe(push));
    let Reply::Subscribed(subscribed) = answer.reply() else {
        panic!("{answer:?}")
    };
    let place = (subscribed.next.0, subscribed.end.0);
    (place, w.got(id, number))
}

fn tokens_of(got: &[Got]) -> Vec<Token> {
    got.iter()
        .map(|got| match got {
            Got::Message { token, .. } => *token,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn group(w: &mut World, id: Id, handle: Handle, action: GroupAction, group: &str) {
    let request = QueueGroup {
        handle,
        partition: FIRST,
        action,
        group,
    };
    done(w, id, &Request::QueueGroup(request));
}

pub(super) fn peek_request(handle: Handle) -> Request<'static> {
    Request::QueuePeek(QueuePeek {
        handle,
        partition: FIRST,
        from: 0,
        max_items: 100,
        max_bytes: 1 << 20,
        states: States::ALL,
        bodies: true,
        group: "",
    })
}

fn dead_request<'a>(handle: Handle, select: DeadSelect<'a>) -> Request<'a> {
    Request::QueueDeadList(QueueDeadList {
        handle,
        partition: FIRST,
        from: 0,
        max_items: 100,
        max_bytes: 1 << 20,
        bodies: true,
        select,
        group: "",
    })
}

fn dead<R>(
    w: &mut World,
    id: Id,
    handle: Handle,
    select: DeadSelect<'_>,
    of: impl Fn(DeadItem<'_>) -> R,
) -> Vec<R> {
    let answer = done(w, id, &dead_request(handle, select));
    let Reply::DeadPage(page) = answer.reply() else {
        panic!("{answer:?}")
    };
    page.items.iter().map(of).collect()
}

fn peeked<R>(answer: &Answer, of: impl Fn(PeekItem<'_>) -> R) -> (u64, Vec<R>) {
    let Reply::QueuePage(page) = answer.reply() else {
        panic!("{answer:?}")
    };
    (page.next, page.items.iter().map(of).collect())
}

fn value_of(item: &PeekItem<'_>) -> Option<Vec<u8>> {
    item.record.map(|record| record.value.to_vec())
}

#[test]
fn a_subscription_holds_as_many_as_it_asked_for_and_why_names_it() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = declare(&mut w, id, spec(QueueSpec::UNSET));
    let five: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
    put(&mut w, id, handle, &five);
    let (place, got) = subscribe(&mut w, id, handle, 4, 2);
    assert_eq!(place, (0, 5));
    assert_eq!(got.len(), 2, "{got:?}");
    w.advance(Duration::from_secs(4));
    let reason = why(&mut w, id, handle).expect("three are held back");
    assert_eq!(
        (reason.reason, reason.limit),
        (WhyReason::ConsumerInFlight, 2)
    );
    assert!(reason.consumer > 0, "{reason:?}");
    assert_eq!((reason.message, reason.age_ms), (0, 4000));
    // Settling one makes room for one.
    ack(&mut w, id, handle, &tokens_of(&got)[..1]);
    assert_eq!(w.got(id, 4).len(), 1);
    let reason = why(&mut w, id, handle).expect("two are held back");
    assert_eq!((reason.message, reason.age_ms), (1, 4000));
    // Another consumer has its own.
    let (place, others) = subscribe(&mut w, id, handle, 5, 0);
    assert_eq!((place, others.len()), ((1, 5), 2));
    assert_eq!(
        why(&mut w, id, handle).map(|r| r.reason),
        Some(WhyReason::AllInFlight)
    );
}

#[test]
fn a_group_holds_no_more_than_it_may_whoever_asks() {
    let mut w = World::one();
    let (id, other) = (w.client(0, ADMIN), w.client(0, ADMIN));
    let queue = QueueSpec {
        max_in_flight: 3,
        ..QueueSpec::UNSET
    };
    let handle = declare(&mut w, id, spec(queue));
    let theirs = w.open(other, ResourceKind::Queue, "q");
    let five: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
    put(&mut w, id, handle, &five);
    let first = take(&mut w, other, theirs, 1);
    w.advance(Duration::from_secs(2));
    let (_, got) = subscribe(&mut w, id, handle, 4, 0);
    assert_eq!(got.len(), 2, "the group's bound comes first: {got:?}");
    let reason = why(&mut w, id, handle).expect("two are held back");
    assert_eq!((reason.reason, reason.limit), (WhyReason::GroupInFlight, 3));
    assert_eq!((reason.message, reason.age_ms), (0, 2000));
    ack(&mut w, other, theirs, &[first[0].2]);
    assert_eq!(w.got(id, 4).len(), 1);
}

#[test]
fn a_group_that_begins_with_the_latest_does_so_after_a_crash_too() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = declare(&mut w, id, spec(QueueSpec::UNSET));
    put(&mut w, id, handle, &[b"old", b"older"]);
    group(&mut w, id, handle, GroupAction::CreateLatest, "late");
    put(&mut w, id, handle, &[b"new"]);
    let (id, handle) = reborn(&mut w);
    assert_eq!(ids(&take_in(&mut w, id, handle, "late", 10)), [2]);
    // What nobody had a view of is the default group's.
    assert_eq!(ids(&take(&mut w, id, handle, 10)), [0, 1, 2]);
}

#[test]
fn the_reason_of_a_dead_letter_is_exact_and_survives_a_crash() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let queue = QueueSpec {
        max_attempts: 1,
        visibility_ms: 1000,
        ..QueueSpec::UNSET
    };
    let handle = declare(&mut w, id, spec(queue));
    put(&mut w, id, handle, &[b"nacked", b"lapsed"]);
    put_later(&mut w, id, handle, &[b"expired"], 0, 500);
    let taken = take(&mut w, id, handle, 2);
    // What a consumer says does not make it something else.
    nack(&mut w, id, handle, taken[0].2, "lease expired");
    for _ in 0..4 {
        w.advance(Duration::from_millis(500));
    }
    let check = |w: &mut World, id, handle| {
        for (reason, letter) in [
            (DeadReason::Failed, 0),
            (DeadReason::LeaseExpired, 1),
            (DeadReason::Expired, 2),
        ] {
            let select = DeadSelect {
                reason: Some(reason),
                error_prefix: "",
            };
            let found = dead(w, id, handle, select, |one| (one.id, one.reason));
            assert_eq!(found, [(letter, reason)]);
        }
        let select = DeadSelect {
            reason: Some(DeadReason::LeaseExpired),
            error_prefix: "no such",
        };
        let none = dead(w, id, handle, select, |one| one.id);
        assert!(none.is_empty(), "both must fit: {none:?}");
    };
    check(&mut w, id, handle);
    let (id, handle) = reborn(&mut w);
    check(&mut w, id, handle);
}

#[test]
fn a_paced_replay_goes_on_after_a_crash_where_it_was() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let queue = QueueSpec {
        max_attempts: 1,
        ..QueueSpec::UNSET
    };
    let handle = declare(&mut w, id, spec(queue));
    let six: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];
    put(&mut w, id, handle, &six);
    for (id_of, _, token) in take(&mut w, id, handle, 6) {
        let error = if id_of == 4 { "other" } else { "timeout" };
        nack(&mut w, id, handle, token, error);
    }
    let mut scratch = Vec::new();
    let replay = QueueDeadReplay {
        handle,
        partition: FIRST,
        rate_per_s: 1,
        select: DeadSelect {
            reason: Some(DeadReason::Failed),
            error_prefix: "time",
        },
        group: "",
        ids: IdList::build(&mut scratch, []).unwrap(),
    };
    let answer = done(&mut w, id, &Request::QueueDeadReplay(replay));
    let Reply::Moved(moved) = answer.reply() else {
        panic!("{answer:?}")
    };
    assert_eq!(moved.messages, 5);
    // The first comes at once, and fails for good again.
    let first = take(&mut w, id, handle, 6);
    assert_eq!(ids(&first), [0]);
    nack(&mut w, id, handle, first[0].2, "timeout");
    w.advance(Duration::from_millis(1100));
    let second = take(&mut w, id, handle, 6);
    assert_eq!(ids(&second), [1]);
    ack(&mut w, id, handle, &[second[0].2]);
    let (id, handle) = reborn(&mut w);
    let mut came = Vec::new();
    for _ in 0..50 {
        w.advance(Duration::from_millis(100));
        came.extend(ids(&take(&mut w, id, handle, 6)));
    }
    assert_eq!(came, [2, 3, 5], "each once, and none that does not fit");
    let left = dead(&mut w, id, handle, DeadSelect::default(), |one| one.id);
    assert_eq!(left, [0, 4]);
}

#[test]
fn peek_tells_times_and_shows_records_that_are_on_the_disk() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let queue = QueueSpec {
        max_attempts: 1,
        visibility_ms: 30_000,
        ..QueueSpec::UNSET
    };
    let handle = declare(&mut w, id, spec(queue));
    let start = w.wall.0;
    let body = |of: u8| vec![of; 40_000];
    put_later(&mut w, id, handle, &[&body(0), &body(1)], 0, 90_000);
    put(&mut w, id, handle, &[&body(2)]);
    put_later(&mut w, id, handle, &[&body(3)], 5000, 0);
    let taken = take(&mut w, id, handle, 2);
    nack(&mut w, id, handle, taken[1].2, "no");
    w.advance(Duration::from_secs(1));
    let info = done(
        &mut w,
        id,
        &Request::QueueInfo(QueueInfo {
            handle,
            partition: FIRST,
        }),
    );
    let Reply::QueueStatus(status) = info.reply() else {
        panic!("{info:?}")
    };
    assert!(status.resident_bytes < status.bytes, "some are on the disk");
    let answer = done(&mut w, id, &peek_request(handle));
    let (next, items) = peeked(&answer, |one| {
        let times = (one.due.0, one.expires.0);
        (one.id, one.state, times, value_of(&one))
    });
    assert_eq!(next, 0);
    let expires = start + 90_000;
    let in_flight = MessageState::InFlight;
    assert_eq!(
        items,
        [
            (0, in_flight, (start + 30_000, expires), Some(body(0))),
            (1, MessageState::Dead, (0, 0), Some(body(1))),
            (2, MessageState::Ready, (0, 0), Some(body(2))),
            (3, MessageState::Delayed, (start + 5000, 0), Some(body(3))),
        ]
    );
    // Dead letters, and after a restart, too.
    let (id, handle) = reborn(&mut w);
    let letters = dead(&mut w, id, handle, DeadSelect::default(), |one| {
        (one.id, one.record.map(|record| record.value.to_vec()))
    });
    assert_eq!(letters, [(1, Some(body(1)))]);
}

#[test]
fn a_page_reads_no_more_of_the_disk_than_it_may_and_leads_on_to_the_rest() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = declare(&mut w, id, spec(QueueSpec::UNSET));
    // Each put is a record of the log, of which but a little is still wanted.
    let (large, small) = (vec![7; 700_000], b"small");
    for _ in 0..6 {
        put(&mut w, id, handle, &[small, &large]);
        let taken = take(&mut w, id, handle, 2);
        ack(&mut w, id, handle, &[taken[1].2]);
    }
    let mut from = 0;
    let (mut pages, mut seen) = (0, 0);
    loop {
        let Request::QueuePeek(peek) = peek_request(handle) else {
            unreachable!()
        };
        let request = Request::QueuePeek(QueuePeek { from, ..peek });
        let answer = done(&mut w, id, &request);
        let (next, found) = peeked(&answer, |one| value_of(&one).is_some());
        assert!(found.iter().all(|there| *there), "{found:?}");
        assert!(!found.is_empty());
        (pages, seen) = (pages + 1, seen + found.len());
        if next == 0 {
            break;
        }
        from = next;
    }
    assert_eq!(seen, 6);
    assert!(pages >= 3, "{pages} pages of two records each");
}

#[test]
fn so_many_may_look_at_the_disk_at_once_and_no_more() {
    let mut w = World::new(Setup {
        disk_latency: Duration::from_millis(50),
        ..Setup::default()
    });
    let id = w.client(0, ADMIN);
    let handle = declare(&mut w, id, spec(QueueSpec::UNSET));
    let body = vec![1; 40_000];
    for _ in 0..4 {
        let records = batch(&[&body]);
        let put = QueuePut {
            handle,
            partition: FIRST,
            producer: None,
            delay_ms: 0,
            ttl_ms: 0,
            record_count: 1,
            records: &records,
        };
        let asked = w.send(id, &Request::QueuePut(put));
        for _ in 0..100 {
            w.advance(Duration::from_millis(50));
        }
        assert!(w.answer(id, asked).is_some());
    }
    let asked: Vec<u32> = (0..40).map(|_| w.send(id, &peek_request(handle))).collect();
    for _ in 0..100 {
        w.advance(Duration::from_millis(50));
    }
    let answers: Vec<Answer> = asked
        .into_iter()
        .map(|one| w.answer(id, one).expect("all are answered"))
        .collect();
    let busy = |one: &&Answer| one.code() == Some(ErrorCode::Busy);
    assert_eq!(answers.iter().filter(busy).count(), 8);
    for answer in answers.iter().filter(|one| one.code().is_none()) {
        let (_, found) = peeked(answer, |one| value_of(&one));
        assert_eq!(found, vec![Some(body.clone()); 4]);
    }
}

#[test]
fn the_default_group_answers_before_anybody_took_from_it() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = declare(&mut w, id, spec(QueueSpec::UNSET));
    assert_eq!(why(&mut w, id, handle), Some(Reason::new(WhyReason::Empty)));
    put(&mut w, id, handle, &[b"a", b"b"]);
    put_later(&mut w, id, handle, &[b"c"], 60_000, 0);
    w.advance(Duration::from_secs(3));
    for round in 0..2 {
        let (id, handle) = if round == 0 {
            (id, handle)
        } else {
            reborn(&mut w)
        };
        let reason = why(&mut w, id, handle).expect("nobody takes");
        assert_eq!(
            (reason.reason, reason.messages),
            (WhyReason::NoConsumers, 2)
        );
        let info = Request::QueueInfo(QueueInfo {
            handle,
            partition: FIRST,
        });
        let answer = done(&mut w, id, &info);
        let Reply::QueueStatus(status) = answer.reply() else {
            panic!("{answer:?}")
        };
        let groups: Vec<GroupItem<'_>> = status.groups.iter().collect();
        let [default] = groups[..] else {
            panic!("{groups:?}")
        };
        assert_eq!(
            (default.name, default.ready, default.delayed, default.dead),
            ("", 2, 1, 0)
        );
        assert_eq!(default.oldest_age_ms, 3000);
        let answer = done(&mut w, id, &peek_request(handle));
        let (_, items) = peeked(&answer, |one| (one.state, one.due));
        let due = WallMs(w.wall.0 + 57_000);
        let ready = (MessageState::Ready, WallMs(0));
        assert_eq!(items, [ready, ready, (MessageState::Delayed, due)]);
        let letters = dead(&mut w, id, handle, DeadSelect::default(), |one| one.id);
        assert!(letters.is_empty());
    }
}

#[test]
fn a_disk_that_does_not_read_is_asked_again_and_damage_is_never_shown() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = declare(&mut w, id, spec(QueueSpec::UNSET));
    let body = vec![9; 40_000];
    put(&mut w, id, handle, &[&body, &body]);
    let fault = |w: &mut World, fault| {
        let next = w.disks[0].stats().submitted + 1;
        w.disks[0].set_faults(FaultPlan::once(next, fault));
    };
    fault(&mut w, Fault::Fails(DiskError::Io { errno: 5 }));
    let refusal = w.refused(id, &peek_request(handle));
    assert_eq!(refusal.code, ErrorCode::Busy);
    assert!(refusal.retry_after_ms > 0, "{refusal:?}");
    let answer = done(&mut w, id, &peek_request(handle));
    let (_, found) = peeked(&answer, |one| value_of(&one));
    assert_eq!(found, vec![Some(body); 2]);
    fault(&mut w, Fault::ReadFlipped);
    w.assert_refused(id, &peek_request(handle), ErrorCode::PartitionFenced);
    assert_eq!(
        why(&mut w, id, handle).map(|r| r.reason),
        Some(WhyReason::Fenced),
        "damage is the partition's, whoever finds it"
    );
}
