//! What clients see when the disk fails, fills up, or moves to another machine.

use core::time::Duration;

use pinion_commitlog::DiskError;
use pinion_node::mail::StorageNotice;
use pinion_simkit::{CrashMode, Fault, FaultPlan};
use pinion_types::{ErrorCode, PartitionId, ResourceKind};
use pinion_wire::message::{
    Handle, QueueAck, QueuePut, QueueTake, Reply, Request, Spec, TokenList,
};

use super::{done, fetch, publish};
use crate::harness::{ADMIN, Answer, Id, Setup, World, batch};

fn declare(w: &mut World, id: Id, kind: ResourceKind, name: &str, shards: u16) -> Handle {
    let spec = Spec {
        durability: 1,
        ..World::spec(shards)
    };
    let answer = w.try_open(id, kind, name, Some(spec));
    match answer.reply() {
        Reply::Opened(opened) => opened.handle,
        other => panic!("{other:?}"),
    }
}

fn put<'a>(handle: Handle, partition: u16, records: &'a [u8]) -> Request<'a> {
    Request::QueuePut(QueuePut {
        handle,
        partition: PartitionId(partition),
        producer: None,
        delay_ms: 0,
        ttl_ms: 0,
        record_count: 1,
        records,
    })
}

fn take(handle: Handle, partition: u16) -> Request<'static> {
    Request::QueueTake(QueueTake {
        handle,
        partition: PartitionId(partition),
        max_messages: 10,
        max_bytes: 1 << 20,
        wait_ms: 0,
        lease_ms: 0,
        group: "",
    })
}

fn records_of(w: &mut World, id: Id, handle: Handle, partition: u16) -> u64 {
    let (mut from, mut count) = (0, 0);
    loop {
        let request = Request::Fetch(fetch(handle, partition, from, 1 << 20));
        let answer = done(w, id, &request);
        let Reply::Fetched(fetched) = answer.reply() else {
            panic!("{answer:?}")
        };
        let records: u64 = fetched
            .blocks()
            .map(|block| u64::from(block.unwrap().0.record_count))
            .sum();
        if records == 0 {
            return count;
        }
        count += records;
        from = fetched.next.0;
    }
}

fn refusal_of(answer: &Answer) -> Option<ErrorCode> {
    answer.code()
}

#[test]
fn a_write_that_failed_is_never_acknowledged_and_closes_what_it_belongs_to() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let handle = declare(&mut w, id, ResourceKind::Stream, "d", 1);
    let records = batch(&[b"kept"]);
    for _ in 0..3 {
        done(&mut w, id, &Request::Publish(publish(handle, 0, &records)));
    }
    let next = w.disks[0].stats().submitted + 1;
    let fails = Fault::Fails(DiskError::Io { errno: 5 });
    w.disks[0].set_faults(FaultPlan::once(next, fails));
    let answer = w.call(id, &Request::Publish(publish(handle, 0, &records)));
    assert_eq!(refusal_of(&answer), Some(ErrorCode::DurabilityFailed));
    // The disk is well again, and yet nothing is taken: nobody knows what the
    // failed write left behind.
    let again = w.call(id, &Request::Publish(publish(handle, 0, &records)));
    assert_eq!(refusal_of(&again), Some(ErrorCode::PartitionFenced));
    assert_eq!(
        records_of(&mut w, id, handle, 0),
        3,
        "what is committed is read"
    );
    assert!(
        w.notices
            .iter()
            .any(|(_, notice)| matches!(notice, StorageNotice::Failed(_))),
        "people are told"
    );
    w.crash(CrashMode::DropUnsynced);
    let id = w.client(0, ADMIN);
    let handle = w.open(id, ResourceKind::Stream, "d");
    let there = records_of(&mut w, id, handle, 0);
    assert!((3..=4).contains(&there), "{there}");
    done(&mut w, id, &Request::Publish(publish(handle, 0, &records)));
    assert_eq!(records_of(&mut w, id, handle, 0), there + 1);
}

#[test]
fn a_full_disk_takes_what_frees_space_and_recovers_by_itself() {
    let mut w = World::new(Setup {
        segment_bytes: 4 << 20,
        ..Setup::default()
    });
    let id = w.client(0, ADMIN);
    let stream = declare(&mut w, id, ResourceKind::Stream, "d", 1);
    let queue = declare(&mut w, id, ResourceKind::Queue, "q", 1);
    let work = batch(&[b"work"]);
    done(&mut w, id, &put(queue, 0, &work));
    w.disks[0].set_capacity(9 << 20);
    let value = vec![7; 100_000];
    let records = batch(&[&value]);
    let mut stored = 0;
    let code = loop {
        let answer = w.call(id, &Request::Publish(publish(stream, 0, &records)));
        match refusal_of(&answer) {
            None => stored += 1,
            Some(code) => break code,
        }
        assert!(stored < 1000, "the disk never fills up");
    };
    assert_eq!(code, ErrorCode::ReadOnly);
    assert!(stored > 20, "the space there is was used: {stored}");
    // Work can be taken and finished, and everything can be read.
    let answer = done(&mut w, id, &take(queue, 0));
    let Reply::Taken(taken) = answer.reply() else {
        panic!("{answer:?}")
    };
    let token = taken.messages.iter().next().expect("the message").token;
    let mut scratch = Vec::new();
    let tokens = TokenList::build(&mut scratch, [token]).unwrap();
    let ack = QueueAck {
        handle: queue,
        partition: PartitionId(0),
        group: "",
        tokens,
    };
    let answer = done(&mut w, id, &Request::QueueAck(ack));
    let Reply::Settled(settled) = answer.reply() else {
        panic!("{answer:?}")
    };
    assert_eq!(settled.results.iter().collect::<Vec<_>>(), [None]);
    assert_eq!(records_of(&mut w, id, stream, 0), stored);
    w.disks[0].set_capacity(64 << 20);
    for _ in 0..4 {
        w.advance(Duration::from_millis(500));
    }
    done(&mut w, id, &Request::Publish(publish(stream, 0, &records)));
    assert_eq!(records_of(&mut w, id, stream, 0), stored + 1);
}

#[test]
fn nothing_is_lost_when_the_number_of_cores_changes() {
    for (before, after) in [(2, 1), (1, 2)] {
        let mut w = World::new(Setup {
            cores: before,
            ..Setup::default()
        });
        let id = w.client(0, ADMIN);
        let stream = declare(&mut w, id, ResourceKind::Stream, "d", 4);
        let queue = declare(&mut w, id, ResourceKind::Queue, "q", 2);
        for partition in 0..4 {
            let value = [u8::try_from(partition).unwrap()];
            let records = batch(&[&value]);
            let request = Request::Publish(publish(stream, partition, &records));
            done(&mut w, id, &request);
            done(&mut w, id, &request);
            done(&mut w, id, &put(queue, partition % 2, &records));
        }
        w.crash_and_move(CrashMode::DropUnsynced, after);
        let id = w.client(0, ADMIN);
        let stream = w.open(id, ResourceKind::Stream, "d");
        let queue = w.open(id, ResourceKind::Queue, "q");
        for partition in 0..4 {
            assert_eq!(
                records_of(&mut w, id, stream, partition),
                2,
                "{before} → {after}"
            );
        }
        for partition in 0..2 {
            let answer = done(&mut w, id, &take(queue, partition));
            let Reply::Taken(taken) = answer.reply() else {
                panic!("{answer:?}")
            };
            assert_eq!(taken.messages.len(), 2, "{before} → {after}");
        }
        // And it goes on, for what was there and for what is new.
        let records = batch(&[b"more"]);
        done(&mut w, id, &Request::Publish(publish(stream, 3, &records)));
        let fresh = declare(&mut w, id, ResourceKind::Stream, "new", 2);
        for partition in 0..2 {
            done(
                &mut w,
                id,
                &Request::Publish(publish(fresh, partition, &records)),
            );
        }
        w.crash(CrashMode::RandomSubset);
        let id = w.client(0, ADMIN);
        let stream = w.open(id, ResourceKind::Stream, "d");
        assert_eq!(records_of(&mut w, id, stream, 3), 3);
    }
}
