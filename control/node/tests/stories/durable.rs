//! What survives: durable streams and queues through crashes of the node.

use pinion_simkit::CrashMode;
use pinion_types::{ErrorCode, Offset, PartitionId, ProducerId, ResourceKind, Sequence};
use pinion_wire::message::{
    CursorCommit, CursorGet, Durability, Handle, QueueAck, QueueNack, QueuePut, QueueSubscribe,
    QueueTake, Reply, Request, Token, TokenList,
};

use super::{done, fetch, publish, subscribe};
use crate::harness::{ADMIN, Answer, Got, Id, Setup, World, batch};

fn stream(w: &mut World, id: Id) -> Handle {
    let answer = w.try_open(id, ResourceKind::Stream, "d", Some(World::durable()));
    match answer.reply() {
        Reply::Opened(opened) => opened.handle,
        other => panic!("{other:?}"),
    }
}

fn queue(w: &mut World, id: Id) -> Handle {
    let answer = w.try_open(id, ResourceKind::Queue, "q", Some(World::durable()));
    match answer.reply() {
        Reply::Opened(opened) => opened.handle,
        other => panic!("{other:?}"),
    }
}

fn put<'a>(handle: Handle, records: &'a [u8], count: u32) -> Request<'a> {
    Request::QueuePut(QueuePut {
        handle,
        partition: PartitionId(0),
        producer: None,
        delay_ms: 0,
        ttl_ms: 0,
        record_count: count,
        records,
    })
}

fn take(handle: Handle, max: u32, wait_ms: u32) -> Request<'static> {
    Request::QueueTake(QueueTake {
        handle,
        partition: PartitionId(0),
        max_messages: max,
        max_bytes: 1 << 20,
        wait_ms,
        lease_ms: 0,
        group: "",
    })
}

/// `(id, attempt, value, token)` of every message in a TAKEN.
fn taken(answer: &Answer) -> Vec<(u64, u16, Vec<u8>, Token)> {
    let Reply::Taken(messages) = answer.reply() else {
        panic!("{answer:?}")
    };
    messages
        .messages
        .iter()
        .map(|m| (m.id, m.attempt, m.record.value.to_vec(), m.token))
        .collect()
}

fn ack(w: &mut World, id: Id, handle: Handle, token: Token) -> Vec<Option<ErrorCode>> {
    let mut scratch = Vec::new();
    let tokens = TokenList::build(&mut scratch, [token]).unwrap();
    let answer = w.call(
        id,
        &Request::QueueAck(QueueAck {
            handle,
            partition: PartitionId(0),
            group: "",
            tokens,
        }),
    );
    match answer.reply() {
        Reply::Settled(settled) => settled.results.iter().collect(),
        other => panic!("{other:?}"),
    }
}

fn values_of(w: &mut World, id: Id, handle: Handle) -> Vec<Vec<u8>> {
    let answer = done(w, id, &Request::Fetch(fetch(handle, 0, 0, 1 << 20)));
    let Reply::Fetched(fetched) = answer.reply() else {
        panic!("{answer:?}")
    };
    fetched
        .blocks()
        .flat_map(|block| {
            let (_, records) = block.unwrap();
            pinion_types::block::records(records)
                .map(|record| record.unwrap().value.to_vec())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn what_was_acknowledged_is_there_after_every_kind_of_crash() {
    for mode in CrashMode::ALL {
        let mut w = World::one();
        let id = w.client(0, ADMIN);
        let handle = stream(&mut w, id);
        for value in [b"a", b"b", b"c"] {
            let records = batch(&[value]);
            let answer = done(&mut w, id, &Request::Publish(publish(handle, 0, &records)));
            let Reply::Published(published) = answer.reply() else {
                panic!("{answer:?}")
            };
            assert_eq!(published.durability, Durability::Disk);
        }
        w.crash(mode);
        let id = w.client(0, ADMIN);
        let handle = w.open(id, ResourceKind::Stream, "d");
        assert_eq!(
            values_of(&mut w, id, handle),
            [b"a", b"b", b"c"],
            "{mode:?}"
        );
        let records = batch(&[b"d"]);
        let answer = done(&mut w, id, &Request::Publish(publish(handle, 0, &records)));
        let Reply::Published(published) = answer.reply() else {
            panic!("{answer:?}")
        };
        assert_eq!(
            published.first_offset,
            Offset(3),
            "offsets are never reused"
        );
    }
}

#[test]
fn nothing_is_acknowledged_or_read_before_the_disk_has_it() {
    let mut w = World::new(Setup {
        disk_latency: core::time::Duration::from_millis(10),
        ..Setup::default()
    });
    let id = w.client(0, ADMIN);
    let handle = stream(&mut w, id);
    // The segment is made meanwhile.
    w.advance(core::time::Duration::from_secs(1));
    let records = batch(&[b"a"]);
    let mut slow = 0;
    for _ in 0..20 {
        let correlation = w.send(id, &Request::Publish(publish(handle, 0, &records)));
        w.settle();
        if w.answer(id, correlation).is_none() {
            slow += 1;
            let before = values_of(&mut w, id, handle).len();
            let mut answered = false;
            // The first write makes the segment and its header, too.
            for _ in 0..10 {
                w.advance(core::time::Duration::from_millis(10));
                answered = answered || w.answer(id, correlation).is_some();
            }
            assert!(answered, "the disk has it");
            assert_eq!(values_of(&mut w, id, handle).len(), before + 1);
        }
    }
    assert!(slow > 0, "a disk that takes time holds answers back");
}

#[test]
fn a_producer_that_repeats_itself_after_a_crash_gets_its_first_offsets() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = stream(&mut w, id);
    let records = batch(&[b"x", b"y"]);
    let mut request = publish(handle, 0, &records);
    request.record_count = 2;
    request.producer = Some((ProducerId(9), Sequence(0)));
    done(&mut w, id, &Request::Publish(request));
    w.crash(CrashMode::DropUnsynced);
    let id = w.client(0, ADMIN);
    request.handle = w.open(id, ResourceKind::Stream, "d");
    let answer = done(&mut w, id, &Request::Publish(request));
    let Reply::Published(published) = answer.reply() else {
        panic!("{answer:?}")
    };
    assert!(published.duplicate);
    assert_eq!(published.first_offset, Offset(0));
    assert_eq!(values_of(&mut w, id, request.handle).len(), 2);
}

#[test]
fn a_subscriber_replays_from_the_disk_and_goes_on_live_without_a_seam() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = stream(&mut w, id);
    for i in 0..200_u32 {
        let value = i.to_le_bytes();
        let records = batch(&[&value]);
        done(&mut w, id, &Request::Publish(publish(handle, 0, &records)));
    }
    w.crash(CrashMode::RandomSubset);
    let id = w.client(0, ADMIN);
    let handle = w.open(id, ResourceKind::Stream, "d");
    let mut replay = subscribe(handle, 0, 1);
    replay.credit_records = 1 << 20;
    replay.credit_bytes = 16 << 20;
    done(&mut w, id, &Request::Subscribe(replay));
    for i in 200..300_u32 {
        let value = i.to_le_bytes();
        let records = batch(&[&value]);
        done(&mut w, id, &Request::Publish(publish(handle, 0, &records)));
    }
    let offsets: Vec<u64> = w
        .got(id, 1)
        .iter()
        .map(|got| match got {
            Got::Record { offset, value } => {
                assert_eq!(value[..], u32::try_from(*offset).unwrap().to_le_bytes());
                *offset
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(offsets, (0..300).collect::<Vec<_>>());
}

#[test]
fn a_cursor_stands_where_it_was_committed() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = stream(&mut w, id);
    let records = batch(&[b"a", b"b"]);
    let mut request = publish(handle, 0, &records);
    request.record_count = 2;
    done(&mut w, id, &Request::Publish(request));
    let commit = CursorCommit {
        handle,
        partition: PartitionId(0),
        offset: Offset(1),
        name: "reader",
    };
    done(&mut w, id, &Request::CursorCommit(commit));
    w.crash(CrashMode::DropUnsynced);
    let id = w.client(0, ADMIN);
    let handle = w.open(id, ResourceKind::Stream, "d");
    let get = |name| {
        Request::CursorGet(CursorGet {
            handle,
            partition: PartitionId(0),
            name,
        })
    };
    let answer = done(&mut w, id, &get("reader"));
    let Reply::Cursor(cursor) = answer.reply() else {
        panic!("{answer:?}")
    };
    assert_eq!(cursor.offset, Offset(1));
    w.assert_refused(id, &get("nobody"), ErrorCode::CursorUnknown);
}

#[test]
fn work_that_was_not_finished_comes_again_after_a_crash_and_finished_work_does_not() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = queue(&mut w, id);
    let records = batch(&[b"one", b"two", b"three"]);
    done(&mut w, id, &put(handle, &records, 3));
    let answer = done(&mut w, id, &take(handle, 2, 0));
    let got = taken(&answer);
    assert_eq!(got.len(), 2, "{got:?}");
    assert_eq!(ack(&mut w, id, handle, got[0].3), [None]);
    w.crash(CrashMode::DropUnsynced);
    let id = w.client(0, ADMIN);
    let handle = w.open(id, ResourceKind::Queue, "q");
    let answer = done(&mut w, id, &take(handle, 10, 0));
    let again: Vec<_> = taken(&answer)
        .into_iter()
        .map(|(id, attempt, value, _)| (id, attempt, value))
        .collect();
    assert_eq!(
        again,
        [(1, 1, b"two".to_vec()), (2, 1, b"three".to_vec())],
        "no attempt counts that the crash cut short"
    );
    // A token of the life before is worth nothing.
    assert_eq!(
        ack(&mut w, id, handle, got[1].3),
        [Some(ErrorCode::InvalidToken)]
    );
}

#[test]
fn a_take_waits_and_a_subscription_is_pushed_to() {
    let mut w = World::one();
    let (producer, consumer) = (w.client(0, ADMIN), w.client(0, ADMIN));
    let out = queue(&mut w, producer);
    let handle = w.open(consumer, ResourceKind::Queue, "q");
    let correlation = w.send(consumer, &take(handle, 1, 10_000));
    w.settle();
    assert!(w.answer(consumer, correlation).is_none(), "it waits");
    let records = batch(&[b"one"]);
    done(&mut w, producer, &put(out, &records, 1));
    let answer = w.answer(consumer, correlation).expect("it has come");
    let got = taken(&answer);
    assert_eq!((got.len(), &got[0].2[..]), (1, &b"one"[..]));

    let push = QueueSubscribe {
        handle,
        partition: PartitionId(0),
        subscription: pinion_types::SubscriptionId(4),
        lease_ms: 0,
        in_flight_max: 0,
        credit_records: 2,
        credit_bytes: 1 << 20,
        group: "",
    };
    done(&mut w, consumer, &Request::QueueSubscribe(push));
    let records = batch(&[b"two", b"three", b"four"]);
    done(&mut w, producer, &put(out, &records, 3));
    let pushed = w.got(consumer, 4);
    assert_eq!(pushed.len(), 2, "as many as credit: {pushed:?}");
    let Got::Message { token, .. } = pushed[0] else {
        panic!("{pushed:?}")
    };
    let mut scratch = Vec::new();
    let tokens = TokenList::build(&mut scratch, [token]).unwrap();
    let nack = QueueNack {
        handle,
        partition: PartitionId(0),
        delay_ms: Some(0),
        error: "no luck",
        group: "",
        tokens,
    };
    done(&mut w, consumer, &Request::QueueNack(nack));
    let credit = pinion_wire::message::Credit {
        subscription: pinion_types::SubscriptionId(4),
        records: 10,
        bytes: 0,
    };
    w.send(consumer, &Request::Credit(credit));
    w.advance(core::time::Duration::from_millis(10));
    let mut attempts: Vec<u16> = w
        .got(consumer, 4)
        .iter()
        .map(|got| match got {
            Got::Message { attempt, .. } => *attempt,
            other => panic!("{other:?}"),
        })
        .collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2], "the failed one and the fresh one");
}
