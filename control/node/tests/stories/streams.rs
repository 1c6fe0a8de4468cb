//! Streams through one core: publish, subscribe, fetch, append sessions, early data.

use pinion_types::SubscriptionId;
use pinion_types::block::{Record, encode_header};
use pinion_types::{ErrorCode, FactId, Offset, PartitionId, ProducerId, ResourceKind, Sequence};
use pinion_wire::message::{
    Ack, AppendBegin, AppendCommit, AppendRollback, AppendStage, Credit, FilterBuf, LagReason,
    Overflow, Reply, Request, Start,
};
use pinion_wire::opcode::{self, REQUESTS};

use super::{Scene, done, fetch, publish, published, subscribe, unsubscribe, values};
use crate::harness::{ADMIN, Got, World, batch};

fn credit(subscription: u32, records: u32, bytes: u32) -> Request<'static> {
    Request::Credit(Credit {
        subscription: SubscriptionId(subscription),
        records,
        bytes,
    })
}

#[test]
fn what_is_published_arrives_in_order_and_once() {
    let mut w = World::one();
    let (writer, reader) = (w.client(0, ADMIN), w.client(0, ADMIN));
    let out = w.declare(writer, ResourceKind::Stream, "s", 1);
    let handle = w.open(reader, ResourceKind::Stream, "s");
    published(&mut w, writer, out, 0, &[b"a", b"b"]);
    done(&mut w, reader, &Request::Subscribe(subscribe(handle, 0, 5)));
    published(&mut w, writer, out, 0, &[b"c"]);
    published(&mut w, writer, out, 0, &[b"d", b"e"]);
    let got = w.got(reader, 5);
    let expected: Vec<Got> = [b"a", b"b", b"c", b"d", b"e"]
        .iter()
        .zip(0..)
        .map(|(value, offset)| Got::Record {
            offset,
            value: value.to_vec(),
        })
        .collect();
    assert_eq!(got, expected);
    assert_eq!(w.stats().published, 5);
    assert_eq!(w.stats().wrong_shard, 0);
}

#[test]
fn the_stream_of_a_subscription_opens_before_there_is_anything_to_say() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let mut latest = subscribe(scene.stream, scene.partition, 1);
        latest.start = Start::Latest;
        done(&mut w, scene.id, &Request::Subscribe(latest));
        assert!(w.clients[scene.id].delivery_stream(1).is_some());
    }
}

#[test]
fn a_fetch_reads_what_is_there_and_no_more() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = w.declare(id, ResourceKind::Stream, "s", 1);
    published(&mut w, id, handle, 0, &[b"a", b"b", b"c"]);
    for (from, next, count) in [(0, 3, 3), (2, 3, 1), (3, 3, 0)] {
        let answer = done(&mut w, id, &Request::Fetch(fetch(handle, 0, from, 10_000)));
        let Reply::Fetched(fetched) = answer.reply() else {
            panic!("{answer:?}")
        };
        let records: u32 = fetched.blocks().map(|b| b.unwrap().0.record_count).sum();
        assert_eq!((fetched.next.0, fetched.end.0, records), (next, 3, count));
    }
}

#[test]
fn credit_is_never_exceeded_and_more_lets_more_through() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = w.declare(id, ResourceKind::Stream, "s", 1);
    let mut narrow = subscribe(handle, 0, 1);
    narrow.credit_records = 3;
    done(&mut w, id, &Request::Subscribe(narrow));
    published(&mut w, id, handle, 0, &[&b"a"[..]; 10]);
    assert_eq!(w.got(id, 1).len(), 3);
    let before = w.clients[id].replies().len();
    w.send(id, &credit(1, 2, 0));
    w.settle();
    assert_eq!(w.got(id, 1).len(), 2);
    // For one that is not known it is ignored; never is it answered.
    w.send(id, &credit(99, 2, 0));
    w.settle();
    assert_eq!(w.clients[id].replies().len(), before);
}

#[test]
fn credit_is_never_answered_whatever_its_correlation() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let cache = w.declare(id, ResourceKind::Cache, "c", 1);
    let lease = super::lease(cache, b"k", 1000);
    done(&mut w, id, &Request::CacheLease(lease));
    let waiting = w.send(id, &Request::CacheLease(lease));
    let stream = w.clients[id].first_stream();
    w.send_as(id, stream, waiting, &credit(1, 1, 1));
    w.settle();
    assert_eq!(w.clients[id].replies(), []);
    let early = w.open_stream(id, true);
    w.send_as(id, early, 1, &credit(1, 1, 1));
    w.settle();
    assert_eq!(w.clients[id].replies(), []);
}

#[test]
fn loss_is_told_before_what_follows_it() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = w.declare(id, ResourceKind::Stream, "s", 1);
    let mut slow = subscribe(handle, 0, 1);
    slow.start = Start::Latest;
    slow.overflow = Some(Overflow::DropOldest);
    (slow.backlog_max, slow.credit_records) = (2, 1);
    done(&mut w, id, &Request::Subscribe(slow));
    for value in [b"a", b"b", b"c", b"d", b"e"] {
        published(&mut w, id, handle, 0, &[value]);
    }
    w.send(id, &credit(1, 10, 0));
    w.settle();
    let got = w.got(id, 1);
    assert_eq!(values(&got), [b"a", b"d", b"e"]);
    let Got::Lag(lag) = &got[1] else {
        panic!("{got:?}")
    };
    assert_eq!((lag.reason, lag.count), (LagReason::DropOldest, 2));
}

#[test]
fn who_is_too_slow_for_its_policy_is_ended_with_where_to_resume() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = w.declare(id, ResourceKind::Stream, "s", 1);
    let mut slow = subscribe(handle, 0, 1);
    slow.start = Start::Latest;
    slow.overflow = Some(Overflow::Disconnect);
    (slow.backlog_max, slow.credit_records) = (1, 1);
    done(&mut w, id, &Request::Subscribe(slow));
    for value in [b"a", b"b", b"c", b"d"] {
        published(&mut w, id, handle, 0, &[value]);
    }
    let got = w.got(id, 1);
    let [Got::Record { .. }, Got::End(end), Got::Fin] = &got[..] else {
        panic!("{got:?}")
    };
    assert_eq!(end.error(), Some(ErrorCode::SlowSubscriber));
    assert_eq!(end.next, Offset(1));
    // The id is free again.
    done(&mut w, id, &Request::Subscribe(subscribe(handle, 0, 1)));
    assert_eq!(values(&w.got(id, 1)).len(), 4);
}

#[test]
fn only_what_matches_the_filter_arrives() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = w.declare(id, ResourceKind::Stream, "s", 1);
    let mut filter = FilterBuf::new();
    filter.equals(b"kind", b"b").unwrap();
    let mut some = subscribe(handle, 0, 1);
    some.filter = filter.as_filter();
    done(&mut w, id, &Request::Subscribe(some));
    let mut records = Vec::new();
    for kind in [b"a", b"b", b"c", b"b"] {
        let mut headers = Vec::new();
        encode_header(&mut headers, b"kind", kind).unwrap();
        let record = Record {
            key: b"",
            headers: &headers,
            value: kind,
        };
        record.encode(&mut records).unwrap();
    }
    done(&mut w, id, &Request::Publish(publish(handle, 0, &records)));
    let got = w.got(id, 1);
    assert_eq!(values(&got), [b"b", b"b"]);
    let mut read = fetch(handle, 0, 0, 10_000);
    read.filter = filter.as_filter();
    let answer = done(&mut w, id, &Request::Fetch(read));
    let Reply::Fetched(fetched) = answer.reply() else {
        panic!("{answer:?}")
    };
    let records: u32 = fetched.blocks().map(|b| b.unwrap().0.record_count).sum();
    assert_eq!((records, fetched.next.0), (2, 4));
}

#[test]
fn unsubscribing_ends_the_stream_once_and_frees_the_id() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let (id, handle, partition) = (scene.id, scene.stream, scene.partition);
        done(
            &mut w,
            id,
            &Request::Subscribe(subscribe(handle, partition, 1)),
        );
        done(&mut w, id, &unsubscribe(1));
        let got = w.got(id, 1);
        let [_, _, Got::End(end), Got::Fin] = &got[..] else {
            panic!("{got:?}")
        };
        assert_eq!((end.code, end.next), (0, Offset(2)));
        w.assert_refused(id, &unsubscribe(1), ErrorCode::UnknownSubscription);
        published(&mut w, id, handle, partition, &[b"x"]);
        assert_eq!(w.got(id, 1), []);
        done(
            &mut w,
            id,
            &Request::Subscribe(subscribe(handle, partition, 1)),
        );
        assert_eq!(w.got(id, 1).len(), 3);
    }
}

#[test]
fn a_stopped_delivery_stream_ends_its_subscription_without_a_word() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let (id, handle, partition) = (scene.id, scene.stream, scene.partition);
        done(
            &mut w,
            id,
            &Request::Subscribe(subscribe(handle, partition, 1)),
        );
        let stream = w.clients[id].delivery_stream(1).unwrap();
        w.lose(id, stream);
        w.settle();
        w.assert_refused(id, &unsubscribe(1), ErrorCode::UnknownSubscription);
        done(
            &mut w,
            id,
            &Request::Subscribe(subscribe(handle, partition, 1)),
        );
        assert_eq!(w.got(id, 1).len(), 2);
    }
}

#[test]
fn a_repeat_of_a_producer_is_not_stored_twice() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = w.declare(id, ResourceKind::Stream, "s", 1);
    let records = batch(&[b"a", b"b"]);
    let mut first = publish(handle, 0, &records);
    first.producer = Some((ProducerId(9), Sequence(0)));
    for duplicate in [false, true] {
        let answer = done(&mut w, id, &Request::Publish(first));
        assert!(matches!(answer.reply(), Reply::Published(p)
            if p.duplicate == duplicate && p.first_offset == Offset(0)));
    }
    first.producer = Some((ProducerId(9), Sequence(5)));
    let refusal = w.refused(id, &Request::Publish(first));
    assert_eq!(refusal.code, ErrorCode::SequenceGap);
    assert_eq!(refusal.fact(FactId::Expected), Some(2));
    assert_eq!(w.stats().published, 2);
}

#[test]
fn a_publish_without_ack_is_silent_unless_it_is_refused() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        w.got(scene.id, super::OPEN_SUB);
        let records = batch(&[b"x"]);
        let mut silent = publish(scene.stream, scene.partition, &records);
        silent.ack = Ack::None;
        let stream = w.clients[scene.id].first_stream();
        // It awaits no reply, so its correlation id is free at once.
        for _ in 0..5000 {
            w.send_as(scene.id, stream, 0, &Request::Publish(silent));
        }
        w.settle();
        assert_eq!(w.clients[scene.id].replies(), []);
        assert_eq!(w.got(scene.id, super::OPEN_SUB).len(), 5000);
        silent.expected_offset = Some(Offset(1));
        w.send_as(scene.id, stream, 0, &Request::Publish(silent));
        w.finish(scene.id, stream);
        w.settle();
        let replies = w.clients[scene.id].replies();
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0].code(), Some(ErrorCode::OffsetConflict));
        assert!(w.clients[scene.id].streams[&stream].server_finished);
    }
}

fn begin(w: &mut World, scene: &Scene, exclusive: bool) -> Result<u64, ErrorCode> {
    let begin = Request::AppendBegin(AppendBegin {
        handle: scene.stream,
        partition: PartitionId(scene.partition),
        exclusive,
    });
    let answer = w.call(scene.id, &begin);
    match answer.reply() {
        Reply::AppendBegun(begun) => Ok(begun.session),
        Reply::Error(refusal) => Err(refusal.code),
        other => panic!("{other:?}"),
    }
}

fn stage<'a>(session: u64, records: &'a [u8]) -> Request<'a> {
    Request::AppendStage(AppendStage {
        session,
        record_count: 1,
        records,
    })
}

fn commit(session: u64, expected: Option<u64>) -> Request<'static> {
    Request::AppendCommit(AppendCommit {
        session,
        expected_offset: expected.map(Offset),
    })
}

#[test]
fn an_append_session_shows_all_at_its_commit_and_nothing_before() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        w.got(scene.id, super::OPEN_SUB);
        let session = begin(&mut w, &scene, true).unwrap();
        assert_eq!(begin(&mut w, &scene, true), Err(ErrorCode::SessionActive));
        for value in [b"x", b"y"] {
            let records = batch(&[value]);
            done(&mut w, scene.id, &stage(session, &records));
        }
        assert_eq!(w.got(scene.id, super::OPEN_SUB), []);
        // A refused commit leaves the session as it was.
        w.assert_refused(
            scene.id,
            &commit(session, Some(99)),
            ErrorCode::OffsetConflict,
        );
        let answer = done(&mut w, scene.id, &commit(session, Some(2)));
        let Reply::Published(p) = answer.reply() else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (p.partition.0, p.first_offset.0, p.record_count),
            (scene.partition, 2, 2)
        );
        assert_eq!(values(&w.got(scene.id, super::OPEN_SUB)), [b"x", b"y"]);
        w.assert_refused(scene.id, &commit(session, None), ErrorCode::SessionUnknown);
        let session = begin(&mut w, &scene, true).unwrap();
        let rollback = Request::AppendRollback(AppendRollback { session });
        done(&mut w, scene.id, &rollback);
        w.assert_refused(scene.id, &rollback, ErrorCode::SessionUnknown);
        begin(&mut w, &scene, true).unwrap();
    }
}

#[test]
fn an_append_session_ends_with_its_connection_or_by_itself() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        begin(&mut w, &scene, true).unwrap();
        let other = Scene {
            id: w.client(0, ADMIN),
            ..scene
        };
        w.open(other.id, ResourceKind::Stream, "s");
        assert_eq!(begin(&mut w, &other, true), Err(ErrorCode::SessionActive));
        w.disconnect(scene.id);
        w.settle();
        let session = begin(&mut w, &other, true).unwrap();
        w.advance(std::time::Duration::from_secs(40));
        w.assert_refused(other.id, &commit(session, None), ErrorCode::SessionUnknown);
        begin(&mut w, &other, true).unwrap();
    }
}

#[test]
fn sessions_that_ended_by_themselves_do_not_count_for_ever() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    for _ in 0..200 {
        let session = begin(&mut w, &scene, true).unwrap();
        w.advance(std::time::Duration::from_secs(40));
        w.assert_refused(scene.id, &commit(session, None), ErrorCode::SessionUnknown);
    }
}

#[test]
fn early_data_carries_only_what_a_replay_cannot_harm() {
    for entry in REQUESTS {
        if matches!(entry.opcode, opcode::HELLO | opcode::CREDIT) {
            continue;
        }
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, false);
        let before = w.stats().published;
        let early = w.open_stream(scene.id, true);
        w.send_bytes(scene.id, early, &scene.sample(entry.opcode, 5000));
        w.settle();
        let code = w.answer(scene.id, 5000).unwrap().code();
        let refused = code == Some(ErrorCode::TooEarly);
        assert_eq!(refused, !entry.idempotent, "{}: {code:?}", entry.name);
        assert_eq!(w.stats().published, before);
    }
    // A declaration is no replay-safe OPEN.
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let early = w.open_stream(id, true);
    let open = pinion_wire::message::Open {
        kind: ResourceKind::Stream,
        namespace: "n",
        name: "s",
        spec: Some(World::spec(1)),
    };
    let asked = w.send_on(id, early, &Request::Open(open));
    w.settle();
    let answer = w.answer(id, asked).unwrap();
    assert_eq!(answer.code(), Some(ErrorCode::TooEarly));
}

#[test]
fn a_finished_request_stream_is_finished_after_its_last_answer_only() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let cache = w.declare(id, ResourceKind::Cache, "c", 1);
    let lease = super::lease(cache, b"k", 1000);
    done(&mut w, id, &Request::CacheLease(lease));
    let (owing, free) = (w.open_stream(id, false), w.open_stream(id, false));
    let waiting = w.send_on(id, owing, &Request::CacheLease(lease));
    w.finish(id, owing);
    w.finish(id, free);
    w.settle();
    assert!(!w.clients[id].streams[&owing].server_finished);
    assert!(
        w.clients[id].streams[&free].server_finished,
        "it owes nothing"
    );
    done(
        &mut w,
        id,
        &Request::CacheSet(super::set(cache, b"k", b"v")),
    );
    assert_eq!(w.answer(id, waiting).unwrap().opcode, opcode::CACHE_VALUE);
    assert!(w.clients[id].streams[&owing].server_finished);
}
