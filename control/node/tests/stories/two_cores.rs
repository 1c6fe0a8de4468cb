//! A connection on one core, what it is about on another.

use bytes::Bytes;
use pinion_node::Output;
use pinion_types::{ErrorCode, ResourceKind};
use pinion_wire::message::{AppendBegin, CacheGet, Reply, Request};
use pinion_wire::opcode::{self, REQUESTS};

use super::{
    OPEN_SUB, Scene, done, fetch, lease, publish, published, set, subscribe, unsubscribe, values,
};
use crate::harness::{ADMIN, Answer, Got, Setup, World, batch};

/// What a reply says, without what may differ between two runs: the number an
/// append session got.
fn told(answer: &Answer) -> String {
    match answer.reply() {
        Reply::AppendBegun(_) => "begun".to_owned(),
        Reply::Published(p) => format!("{:?}+{} {}", p.first_offset, p.record_count, p.duplicate),
        Reply::Enqueued(e) => format!("{}+{} {}", e.first_id, e.message_count, e.duplicate),
        Reply::Taken(t) => format!("{:?}", t.messages.iter().map(|m| m.id).collect::<Vec<_>>()),
        Reply::CacheStored(_) => "stored".to_owned(),
        Reply::Opened(o) => format!("{:?} {:?}", o.handle, o.spec),
        Reply::StreamStatus(s) => {
            format!("{:?} {:?} {}", s.first_available, s.end, s.subscriptions)
        }
        Reply::CachePage(page) => format!("{} {}", page.cursor, page.items.len()),
        Reply::CacheStatus(s) => format!("{} {}", s.entries, s.hits),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_wrong_core_gives_the_same_answer_and_counts_it() {
    for entry in REQUESTS {
        if matches!(entry.opcode, opcode::HELLO | opcode::CREDIT) {
            continue;
        }
        let mut answers = Vec::new();
        for far in [false, true] {
            let mut w = World::two();
            let scene = Scene::new(&mut w, 0, ADMIN, far);
            let before = w.stats().wrong_shard;
            let stream = w.clients[scene.id].first_stream();
            w.send_bytes(scene.id, stream, &scene.sample(entry.opcode, 5000));
            w.settle();
            let answer = w.answer(scene.id, 5000).unwrap();
            assert_eq!(answer.code(), None, "{} far {far}", entry.name);
            assert!(entry.replies.contains(&answer.opcode), "{}", entry.name);
            if let Reply::Published(p) = answer.reply() {
                assert_eq!(p.partition.0, scene.partition, "{} far {far}", entry.name);
            }
            let about_a_place = !matches!(entry.opcode, opcode::PING | opcode::OPEN);
            let wrong = w.stats().wrong_shard - before;
            assert_eq!(wrong, u64::from(far && about_a_place), "{}", entry.name);
            answers.push(told(&answer));
        }
        // Offsets and versions of partitions 0 and 1 grow alike.
        assert_eq!(answers[0], answers[1], "{}", entry.name);
    }
}

#[test]
fn a_client_that_aims_well_is_never_forwarded() {
    let mut w = World::two();
    Scene::new(&mut w, 0, ADMIN, false);
    Scene::new(&mut w, 1, ADMIN, false);
    assert_eq!(w.stats().wrong_shard, 0);
}

#[test]
fn a_connection_that_ends_leaves_nothing_on_the_other_core() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    let begin = Request::AppendBegin(AppendBegin {
        handle: scene.stream,
        partition: pinion_types::PartitionId(scene.partition),
        exclusive: true,
    });
    done(&mut w, scene.id, &begin);
    let key = (0..)
        .map(|i| format!("fresh{i}").into_bytes())
        .find(|k| {
            pinion_types::route::partition_of(k, 2)
                == pinion_types::route::partition_of(&scene.key, 2)
        })
        .unwrap();
    done(
        &mut w,
        scene.id,
        &Request::CacheLease(lease(scene.cache, &key, 0)),
    );
    let other = w.client(1, ADMIN);
    w.open(other, ResourceKind::Stream, "s");
    w.open(other, ResourceKind::Cache, "c");
    w.assert_refused(other, &begin, ErrorCode::SessionActive);
    w.assert_refused(
        other,
        &Request::CacheLease(lease(scene.cache, &key, 0)),
        ErrorCode::TimedOut,
    );
    w.disconnect(scene.id);
    w.settle();
    done(&mut w, other, &begin);
    let answer = done(
        &mut w,
        other,
        &Request::CacheLease(lease(scene.cache, &key, 0)),
    );
    assert_eq!(answer.opcode, opcode::CACHE_LEASED);
    let info = Request::StreamInfo(pinion_wire::message::StreamInfo {
        handle: scene.stream,
        partition: pinion_types::PartitionId(scene.partition),
    });
    let answer = done(&mut w, other, &info);
    assert!(matches!(answer.reply(), Reply::StreamStatus(s) if s.subscriptions == 0));
}

#[test]
fn a_request_that_was_under_way_when_its_connection_ended_leaves_nothing() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    let other = w.client(1, ADMIN);
    w.open(other, ResourceKind::Stream, "s");
    w.mute = Some(0);
    let sub = subscribe(scene.stream, scene.partition, 55);
    w.send(scene.id, &Request::Subscribe(sub));
    w.core_turn(0);
    w.disconnect(scene.id);
    w.core_turn(0);
    w.mute = None;
    w.settle();
    let info = Request::StreamInfo(pinion_wire::message::StreamInfo {
        handle: scene.stream,
        partition: pinion_types::PartitionId(scene.partition),
    });
    let answer = done(&mut w, other, &info);
    assert!(matches!(answer.reply(), Reply::StreamStatus(s) if s.subscriptions == 0));
}

/// What was delivered for the first use of an id must not reach its second use.
#[test]
fn an_id_used_again_hears_nothing_of_its_former_life() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    let (id, handle) = (scene.id, scene.stream);
    let near = 1 - scene.partition;
    done(
        &mut w,
        id,
        &Request::Subscribe(subscribe(handle, scene.partition, 1)),
    );
    published(&mut w, id, handle, near, &[b"near"]);
    w.got(id, 1);
    let writer = w.client(1, ADMIN);
    w.open(writer, ResourceKind::Stream, "s");
    // Deliveries for the first use wait in core 1's lane …
    w.mute = Some(1);
    published(&mut w, writer, handle, scene.partition, &[b"late"]);
    let stream = w.clients[id].delivery_stream(1).unwrap();
    w.lose(id, stream);
    done(&mut w, id, &Request::Subscribe(subscribe(handle, near, 1)));
    // … and arrive when the id stands for something else.
    w.mute = None;
    w.settle();
    assert_eq!(values(&w.got(id, 1)), [b"near"]);
    published(&mut w, id, handle, near, &[b"more"]);
    assert_eq!(values(&w.got(id, 1)), [b"more"]);
}

/// Bytes that wait for a delivery stream the client does not read.
fn waiting(w: &mut World, id: usize, stream: u64) -> usize {
    let (core, conn) = (w.clients[id].core, w.clients[id].conn);
    let core = &mut w.cores[core];
    core.start_turn(w.now, w.wall);
    core.handle_writable(conn, stream);
    let waiting = match core.poll_output() {
        Some(Output::WriteChunks { chunks, .. }) => chunks.iter().map(Bytes::len).sum(),
        other => panic!("{other:?}"),
    };
    core.handle_written(conn, stream, 0, true);
    waiting
}

const WINDOW: usize = 256 << 10;

#[test]
fn a_far_subscriber_that_stops_reading_holds_its_window_and_no_more() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let (id, handle, partition) = (scene.id, scene.stream, scene.partition);
        w.clients[id].window_new = Some(1000);
        done(
            &mut w,
            id,
            &Request::Subscribe(subscribe(handle, partition, 1)),
        );
        let writer = w.client(0, ADMIN);
        w.open(writer, ResourceKind::Stream, "s");
        let value = vec![7; 10_000];
        for _ in 0..200 {
            published(&mut w, writer, handle, partition, &[&value]);
        }
        // Everyone else has everything.
        assert_eq!(w.got(id, OPEN_SUB).len(), 202);
        // 1000 bytes were taken and the window is full: about the window and
        // one block wait, not the 2 MB that were published.
        let sent = w.stats().delivered_bytes;
        let stream = w.clients[id].delivery_stream(1).unwrap();
        let waiting = waiting(&mut w, id, stream);
        assert!(
            waiting > WINDOW / 2 && waiting <= WINDOW + 64 * 1024 + 20_000,
            "{waiting}"
        );
        assert_eq!(w.stats().delivered_bytes, sent);
        // It reads on and gets everything, in order, window after window.
        w.allow(id, stream, 1 << 30);
        w.settle();
        let got = w.got(id, 1);
        assert_eq!(got.len(), 202, "far {far}");
        assert!(
            got.iter()
                .zip(0..)
                .all(|(g, i)| matches!(g, Got::Record { offset, .. } if *offset == i))
        );
    }
}

/// A window that leaked would stop the stream; one that grew would let more
/// than a window wait.
#[test]
fn a_window_neither_leaks_nor_grows() {
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
        let value = vec![7; 50_000];
        let mut seen = 2;
        w.got(id, 1);
        for round in 0..40 {
            w.clients[id].limit(stream, round * 977);
            for _ in 0..10 {
                published(&mut w, id, handle, partition, &[&value]);
            }
            // The whole window arrives in the end, cut as the rounds cut it.
            for _ in 0..600 {
                w.allow(id, stream, 1013);
                w.settle();
            }
            w.allow(id, stream, 10 << 20);
            w.settle();
            let credit = Request::Credit(pinion_wire::message::Credit {
                subscription: pinion_types::SubscriptionId(1),
                records: 10,
                bytes: 1 << 20,
            });
            w.send(id, &credit);
            let got = w.got(id, 1);
            for got in &got {
                let Got::Record { offset, .. } = got else {
                    panic!("{got:?}")
                };
                assert_eq!(*offset, seen, "round {round}");
                seen += 1;
            }
        }
        assert_eq!(seen, 402);
        // After all that it is as wide as at first: no more, and no less.
        w.clients[id].limit(stream, 0);
        for _ in 0..20 {
            published(&mut w, id, handle, partition, &[&value]);
        }
        let waiting = waiting(&mut w, id, stream);
        assert!((WINDOW..=WINDOW + 50_100).contains(&waiting), "{waiting}");
    }
}

#[test]
fn boxes_of_one_lose_nothing_and_keep_the_order() {
    let mut w = World::new(Setup {
        cores: 2,
        box_capacity: 1,
        seed: 9,
        ..Setup::default()
    });
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    w.got(scene.id, OPEN_SUB);
    let mut asked = Vec::new();
    for i in 0..300_u32 {
        let value = i.to_le_bytes();
        let records = batch(&[&value]);
        let request = publish(scene.stream, scene.partition, &records);
        asked.push(w.send(scene.id, &Request::Publish(request)));
    }
    w.settle();
    for (i, correlation) in asked.into_iter().enumerate() {
        let answer = w.answer(scene.id, correlation).unwrap();
        let offset = match answer.reply() {
            Reply::Published(p) => p.first_offset.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(offset, 2 + i as u64);
    }
    let got = values(&w.got(scene.id, OPEN_SUB));
    let expected: Vec<_> = (0..300_u32).map(|i| i.to_le_bytes().to_vec()).collect();
    assert_eq!(got, expected);
    assert!(w.stats().mail_waits > 0);
}

#[test]
fn a_core_whose_mail_waits_does_not_rest() {
    let mut w = World::new(Setup {
        cores: 2,
        box_capacity: 1,
        ..Setup::default()
    });
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    for sub in 1..=3 {
        w.send(
            scene.id,
            &Request::Subscribe(subscribe(scene.stream, scene.partition, sub)),
        );
    }
    w.core_turn(0);
    // Nobody tells core 0 when core 1's box has room again.
    assert!(w.cores[0].has_work());
    w.settle();
    assert!(!w.cores[0].has_work());
}

#[test]
fn a_core_that_is_far_behind_is_not_buried() {
    let mut w = World::new(Setup {
        cores: 2,
        box_capacity: 1,
        ..Setup::default()
    });
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    // Core 1 works off requests, but core 0 takes none of its mail: replies of
    // a megabyte each must not pile up without end.
    let big = vec![1; 1 << 20];
    let fill = Request::CacheSet(set(scene.cache, &scene.key, &big));
    done(&mut w, scene.id, &fill);
    w.mute = Some(1);
    let mut asked = Vec::new();
    for _ in 0..200 {
        let get = CacheGet {
            handle: scene.cache,
            key: &scene.key,
        };
        asked.push(w.send(scene.id, &Request::CacheGet(get)));
    }
    w.settle();
    w.mute = None;
    w.settle();
    let mut busy = 0;
    for correlation in asked {
        let answer = w.answer(scene.id, correlation).unwrap();
        busy += usize::from(answer.code() == Some(ErrorCode::Busy));
    }
    assert!((160..170).contains(&busy), "32 MiB of 200 wait: {busy}");
}

#[test]
fn credit_and_unsubscribe_cross_cores() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    let mut narrow = subscribe(scene.stream, scene.partition, 1);
    narrow.credit_records = 1;
    done(&mut w, scene.id, &Request::Subscribe(narrow));
    assert_eq!(w.got(scene.id, 1).len(), 1);
    let credit = Request::Credit(pinion_wire::message::Credit {
        subscription: pinion_types::SubscriptionId(1),
        records: 1,
        bytes: 0,
    });
    w.send(scene.id, &credit);
    w.settle();
    assert_eq!(w.got(scene.id, 1).len(), 1);
    let answer = done(&mut w, scene.id, &unsubscribe(1));
    assert_eq!(answer.opcode, opcode::DONE);
    assert!(matches!(w.got(scene.id, 1)[..], [Got::End(_), Got::Fin]));
    let beyond = subscribe(scene.stream, scene.partition, 2);
    let beyond = pinion_wire::message::Subscribe {
        start: pinion_wire::message::Start::Offset(pinion_types::Offset(99)),
        ..beyond
    };
    w.assert_refused(
        scene.id,
        &Request::Subscribe(beyond),
        ErrorCode::BadArgument,
    );
    // A refused subscription leaves its id free and no stream behind.
    let streams = w.clients[scene.id].delivery_streams();
    done(
        &mut w,
        scene.id,
        &Request::Subscribe(subscribe(scene.stream, scene.partition, 2)),
    );
    assert_eq!(w.clients[scene.id].delivery_streams(), streams + 1);
    done(
        &mut w,
        scene.id,
        &Request::Fetch(fetch(scene.stream, scene.partition, 0, 100)),
    );
}
