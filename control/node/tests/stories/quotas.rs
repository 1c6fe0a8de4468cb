//! Quotas of tenants and namespaces, where requests come in.

use std::time::Duration;

use pinion_node::access::TenantId;
use pinion_node::quota::REPORT_EVERY;
use pinion_node::quota_shares::Allowance;
use pinion_session::CloseCode;
use pinion_types::{ErrorCode, FactId, PartitionId, ResourceKind, RetryClass};
use pinion_wire::message::{AppendBegin, AppendStage, Handle, Open, QueuePut, Reply, Request};

use super::{done, published, set};
use crate::harness::{ADMIN, Id, STRANGER, World, batch};

/// What the tenant of these stories may use.
fn allow(w: &mut World, allowance: Allowance) {
    w.quotas.handle_allowance(TenantId(1), allowance);
    w.settle();
}

fn of_rate(publish_rate: u64) -> Allowance {
    Allowance {
        publish_rate,
        ..Allowance::default()
    }
}

/// Publishes single records until one is refused; gives how many were taken, and
/// how long the refusal said to wait.
fn publish_all(w: &mut World, id: Id, handle: Handle) -> (u64, Duration) {
    let records = batch(&[b"one"]);
    for taken in 0..100_000 {
        let answer = w.call(id, &Request::Publish(super::publish(handle, 0, &records)));
        match answer.code() {
            None => {}
            Some(ErrorCode::QuotaExceeded) => {
                let refusal = answer.refusal();
                assert_eq!(refusal.retry, RetryClass::RetryAfter);
                assert!(refusal.retry_after_ms > 0);
                return (
                    taken,
                    Duration::from_millis(u64::from(refusal.retry_after_ms)),
                );
            }
            Some(_) => panic!("{answer:?}"),
        }
    }
    panic!("no end");
}

#[test]
fn a_rate_is_held_to_and_goes_where_it_is_asked_for() {
    let mut w = World::two();
    let ids = [w.client(0, ADMIN), w.client(1, ADMIN)];
    let handles = ids.map(|id| w.declare(id, ResourceKind::Stream, "s", 1));
    let stranger = w.client(0, STRANGER);
    let theirs = w.declare(stranger, ResourceKind::Stream, "s", 1);
    // A handle that is open already is metered, too; so is one that is opened later.
    allow(&mut w, of_rate(100));
    for (id, handle) in ids.iter().zip(handles) {
        let (taken, _) = publish_all(&mut w, *id, handle);
        assert_eq!(taken, 50, "an even share of a second");
    }
    for _ in 0..200 {
        published(&mut w, stranger, theirs, 0, &[b"free"]);
    }
    let records = batch(&[b"one"]);
    let publish = Request::Publish(super::publish(handles[0], 0, &records));
    let refusal = w.refused(ids[0], &publish);
    assert_eq!(refusal.fact(FactId::Limit), Some(100));
    // Whoever comes is let in as soon as anything is there, and pays afterwards.
    w.advance(Duration::from_millis(1));
    let (taken, wait) = publish_all(&mut w, ids[0], handles[0]);
    assert_eq!(
        (taken, wait),
        (1, Duration::from_millis(20)),
        "a fiftieth of a second"
    );
    w.advance(wait);
    done(&mut w, ids[0], &publish);

    // Only one asks from now on: after two reports nearly all of the rate is its.
    let mut taken = 0;
    for round in 0..12 {
        w.advance(REPORT_EVERY);
        let (more, _) = publish_all(&mut w, ids[0], handles[0]);
        if round >= 4 {
            taken += more;
        }
    }
    assert!((190..=210).contains(&taken), "{taken} in two seconds");
}

#[test]
fn who_asks_for_little_is_not_crowded_out() {
    let mut w = World::two();
    let ids = [w.client(0, ADMIN), w.client(1, ADMIN)];
    let handles = ids.map(|id| w.declare(id, ResourceKind::Stream, "s", 1));
    allow(&mut w, of_rate(1000));
    for _ in 0..40 {
        // One asks for all it can get, the other for a tenth.
        publish_all(&mut w, ids[0], handles[0]);
        for _ in 0..25 {
            published(&mut w, ids[1], handles[1], 0, &[b"one"]);
        }
        w.advance(REPORT_EVERY);
    }
}

#[test]
fn what_publishes_is_metered_and_nothing_else() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let stream = w.declare(id, ResourceKind::Stream, "s", 1);
    let queue = w.declare(id, ResourceKind::Queue, "q", 1);
    let cache = w.declare(id, ResourceKind::Cache, "c", 1);
    let begin = Request::AppendBegin(AppendBegin {
        handle: stream,
        partition: PartitionId(0),
        exclusive: false,
    });
    let begun = done(&mut w, id, &begin);
    let Reply::AppendBegun(begun) = begun.reply() else {
        panic!("{begun:?}")
    };
    let allowance = Allowance {
        namespaces: vec![("n".into(), 1)],
        ..Allowance::default()
    };
    allow(&mut w, allowance);
    publish_all(&mut w, id, stream);
    let records = batch(&[b"one"]);
    let put = Request::QueuePut(QueuePut {
        handle: queue,
        partition: PartitionId(0),
        producer: None,
        delay_ms: 0,
        ttl_ms: 0,
        record_count: 1,
        records: &records,
    });
    w.assert_refused(id, &put, ErrorCode::QuotaExceeded);
    let stage = Request::AppendStage(AppendStage {
        session: begun.session,
        record_count: 1,
        records: &records,
    });
    w.assert_refused(id, &stage, ErrorCode::QuotaExceeded);
    done(&mut w, id, &Request::CacheSet(set(cache, b"k", b"v")));
    done(
        &mut w,
        id,
        &Request::Fetch(super::fetch(stream, 0, 0, 1024)),
    );
    // Another namespace has no quota.
    let open = Open {
        kind: ResourceKind::Stream,
        namespace: "m",
        name: "s",
        spec: None,
    };
    let opened = done(&mut w, id, &Request::Open(open));
    let Reply::Opened(opened) = opened.reply() else {
        panic!("{opened:?}")
    };
    for _ in 0..10 {
        published(&mut w, id, opened.handle, 0, &[b"free"]);
    }
    // And no quota is no limit again.
    allow(&mut w, Allowance::default());
    for _ in 0..10 {
        published(&mut w, id, stream, 0, &[b"free"]);
    }
}

#[test]
fn connections_of_a_tenant_are_counted_over_cores() {
    let mut w = World::two();
    let first = w.client(0, ADMIN);
    let allowance = Allowance {
        connections: 2,
        ..Allowance::default()
    };
    allow(&mut w, allowance);
    w.advance(REPORT_EVERY);
    let second = w.client(1, ADMIN);
    w.advance(REPORT_EVERY);
    for core in 0..2 {
        let third = w.connect(core);
        let refusal = w.hello(third, ADMIN).refusal();
        assert_eq!(refusal.code, ErrorCode::QuotaExceeded);
        assert_eq!(refusal.fact(FactId::Limit), Some(2));
        assert_eq!(w.closed(third), Some(CloseCode::Limit));
        // Who has no quota is let in.
        w.client(core, STRANGER);
    }
    w.disconnect(first);
    w.advance(REPORT_EVERY);
    w.client(1, ADMIN);
    assert_eq!(w.closed(second), None);
}

#[test]
fn a_tenant_that_stores_too_much_may_free_and_not_add() {
    let mut w = World::two();
    let id = w.client(0, ADMIN);
    let kept = w.try_open(id, ResourceKind::Stream, "d", Some(World::durable()));
    let Reply::Opened(kept) = kept.reply() else {
        panic!("{kept:?}")
    };
    let kept = kept.handle;
    let memory = w.declare(id, ResourceKind::Stream, "s", 1);
    let queue = w.try_open(id, ResourceKind::Queue, "q", Some(World::durable()));
    let Reply::Opened(queue) = queue.reply() else {
        panic!("{queue:?}")
    };
    let queue = queue.handle;
    let allowance = |storage_bytes| Allowance {
        storage_bytes,
        ..Allowance::default()
    };
    allow(&mut w, allowance(10_000));
    super::queues::put(&mut w, id, queue, &[b"work"]);
    let large = [7; 8_000];
    published(&mut w, id, kept, 0, &[&large]);
    published(&mut w, id, kept, 0, &[&large]);
    w.advance(REPORT_EVERY);
    w.advance(REPORT_EVERY);
    let records = batch(&[b"more"]);
    let publish = Request::Publish(super::publish(kept, 0, &records));
    let refusal = w.refused(id, &publish);
    assert_eq!(refusal.code, ErrorCode::QuotaExceeded);
    assert_eq!(refusal.fact(FactId::Limit), Some(10_000));
    published(&mut w, id, memory, 0, &[b"not stored"]);
    let taken = super::queues::take_in(&mut w, id, queue, "", 1);
    super::queues::ack(&mut w, id, queue, &[taken[0].2]);
    allow(&mut w, allowance(20_000));
    w.advance(REPORT_EVERY);
    done(&mut w, id, &publish);
}

#[test]
fn what_a_tenant_deletes_is_stored_until_it_is_purged() {
    let mut w = World::two();
    let id = w.client(0, ADMIN);
    let open = |w: &mut World, name| match w
        .try_open(id, ResourceKind::Stream, name, Some(World::durable()))
        .reply()
    {
        Reply::Opened(opened) => opened.handle,
        other => panic!("{other:?}"),
    };
    let (first, second) = (open(&mut w, "one"), open(&mut w, "two"));
    let storage_bytes = 10_000;
    let quota = Allowance {
        storage_bytes,
        ..Allowance::default()
    };
    allow(&mut w, quota);
    let large = [7; 8_000];
    published(&mut w, id, first, 0, &[&large]);
    published(&mut w, id, first, 0, &[&large]);
    // It is full, and what is full is deleted: there is no more room for that.
    let full = w.resource(ResourceKind::Stream, "one");
    w.delete(full.id);
    w.advance(REPORT_EVERY);
    w.advance(REPORT_EVERY);
    let records = batch(&[b"more"]);
    let publish = Request::Publish(super::publish(second, 0, &records));
    let refusal = w.refused(id, &publish);
    assert_eq!(refusal.code, ErrorCode::QuotaExceeded);
    w.purge(full.id);
    w.advance(REPORT_EVERY);
    w.advance(REPORT_EVERY);
    done(&mut w, id, &publish);
}

#[test]
fn a_node_without_quotas_reports_nothing_and_wakes_for_nothing() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let stream = w.declare(id, ResourceKind::Stream, "s", 1);
    w.advance(pinion_node::HELLO_WAIT);
    let quiet = w.cores[0].next_deadline();
    published(&mut w, id, stream, 0, &[b"one"]);
    assert_eq!((w.cores[0].next_deadline(), w.reports), (quiet, 0));
    // With quotas: as long as something changes, and not for longer.
    allow(&mut w, of_rate(1000));
    published(&mut w, id, stream, 0, &[b"one"]);
    for _ in 0..4 {
        w.advance(REPORT_EVERY);
    }
    let reports = w.reports;
    assert!((2..=3).contains(&reports), "{reports}");
    assert_eq!(w.cores[0].next_deadline(), quiet);
    w.advance(REPORT_EVERY);
    assert_eq!(w.reports, reports);
}
