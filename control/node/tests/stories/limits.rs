//! Every table of a connection has an end, and reaching it harms nobody else.

use pinion_node::REPLY_BYTES_LATE_MAX;
use pinion_session::{CloseCode, REPLY_BYTES_HIGH};
use pinion_types::limits::{FRAME_BYTES_MAX, HANDLES_MAX, IN_FLIGHT_MAX, SUBSCRIPTIONS_MAX};
use pinion_types::{ErrorCode, FactId, ResourceKind};
use pinion_wire::message::{CacheGet, Ping, Request};

use super::{Scene, done, lease, published, set, subscribe};
use crate::harness::{ADMIN, Got, World};

#[test]
fn the_seventeenth_request_stream_ends_the_connection() {
    let mut w = World::one();
    let (id, other) = (w.client(0, ADMIN), w.client(0, ADMIN));
    for _ in 0..15 {
        w.open_stream(id, false);
    }
    w.settle();
    assert_eq!(w.closed(id), None);
    w.open_stream(id, false);
    w.settle();
    assert_eq!(
        (w.closed(id), w.closed(other)),
        (Some(CloseCode::Limit), None)
    );
}

#[test]
fn a_stream_the_client_should_not_open_ends_the_connection() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let conn = w.clients[id].conn;
    w.cores[0].handle_stream_opened(conn, 2, false, false);
    w.settle();
    assert_eq!(w.closed(id), Some(CloseCode::Protocol));
}

#[test]
fn streams_that_ended_make_room_for_others() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    for i in 0..100 {
        let stream = w.open_stream(id, false);
        w.send_on(id, stream, &Request::Ping(Ping { payload: b"x" }));
        if i % 2 == 0 {
            w.finish(id, stream);
        } else {
            w.settle();
            w.lose(id, stream);
        }
        w.settle();
    }
    assert_eq!(w.closed(id), None);
}

#[test]
fn the_1025th_subscription_and_a_second_of_an_id_are_refused() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let sub = |id| Request::Subscribe(subscribe(scene.stream, scene.partition, id));
        w.assert_refused(scene.id, &sub(super::OPEN_SUB), ErrorCode::BadArgument);
        for i in 1..SUBSCRIPTIONS_MAX {
            done(&mut w, scene.id, &sub(10_000 + i));
        }
        let refusal = w.refused(scene.id, &sub(1));
        assert_eq!(refusal.code, ErrorCode::LimitReached);
        assert_eq!(refusal.fact(FactId::Limit), Some(1024));
        done(&mut w, scene.id, &super::unsubscribe(10_001));
        done(&mut w, scene.id, &sub(1));
    }
}

#[test]
fn the_4097th_handle_is_refused() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let mut small = World::spec(1);
    small.ring_bytes = 128 << 10;
    for i in 0..HANDLES_MAX {
        let answer = w.try_open(id, ResourceKind::Stream, &format!("s{i}"), Some(small));
        assert_eq!(answer.code(), None, "{i}");
    }
    let answer = w.try_open(id, ResourceKind::Stream, "more", Some(small));
    assert_eq!(answer.code(), Some(ErrorCode::LimitReached));
    w.open(id, ResourceKind::Stream, "s7");
}

#[test]
fn a_correlation_in_flight_is_refused_and_so_is_one_more_than_may_wait() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let stream = w.clients[scene.id].first_stream();
        let key = (0..)
            .map(|i| format!("w{i}").into_bytes())
            .find(|k| {
                pinion_types::route::partition_of(k, 2)
                    == pinion_types::route::partition_of(&scene.key, 2)
            })
            .unwrap();
        let ask = Request::CacheLease(lease(scene.cache, &key, 30_000));
        done(&mut w, scene.id, &ask);
        for i in 0..IN_FLIGHT_MAX {
            w.send_as(scene.id, stream, 100_000 + i, &ask);
        }
        w.settle();
        assert_eq!(w.clients[scene.id].replies(), []);
        w.send_as(
            scene.id,
            stream,
            100_000,
            &Request::Ping(Ping { payload: b"" }),
        );
        w.settle();
        let answer = w.answer(scene.id, 100_000).unwrap();
        assert_eq!(answer.code(), Some(ErrorCode::DuplicateRequest));
        w.assert_refused(scene.id, &ask, ErrorCode::LimitReached);
        // The value they wait for is a megabyte: it cannot wait 4096 times.
        let big = vec![1; 1 << 20];
        w.clients[scene.id].limit(stream, 0);
        let other = w.client(0, ADMIN);
        w.open(other, ResourceKind::Stream, "s");
        w.open(other, ResourceKind::Cache, "c");
        done(
            &mut w,
            other,
            &Request::CacheSet(set(scene.cache, &key, &big)),
        );
        let bound = REPLY_BYTES_LATE_MAX + (1 << 20) + IN_FLIGHT_MAX as usize * 64;
        assert!(w.offered_max <= bound, "{}", w.offered_max);
        w.allow(scene.id, stream, usize::MAX / 2);
        w.settle();
        let answers = w.clients[scene.id].replies();
        assert_eq!(answers.len(), IN_FLIGHT_MAX as usize, "none is lost");
        let busy = answers.iter().filter(|a| a.code() == Some(ErrorCode::Busy));
        assert!(busy.count() > 4000);
    }
}

#[test]
fn who_never_reads_replies_is_paused_and_others_go_on() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let other = w.client(0, ADMIN);
        w.open(other, ResourceKind::Stream, "s");
        let cache = w.open(other, ResourceKind::Cache, "c");
        let big = vec![1; 100_000];
        done(
            &mut w,
            other,
            &Request::CacheSet(set(cache, &scene.key, &big)),
        );
        let stream = w.clients[scene.id].first_stream();
        w.clients[scene.id].limit(stream, 0);
        let get = Request::CacheGet(CacheGet {
            handle: scene.cache,
            key: &scene.key,
        });
        let asked: Vec<_> = (0..100).map(|_| w.send(scene.id, &get)).collect();
        for _ in 0..20 {
            published(&mut w, other, scene.stream, scene.partition, &[b"x"]);
        }
        assert_eq!(
            w.got(scene.id, super::OPEN_SUB).len(),
            22,
            "its subscription goes on too"
        );
        let bound = if far {
            REPLY_BYTES_LATE_MAX
        } else {
            REPLY_BYTES_HIGH
        };
        assert!(
            w.offered_max <= bound + FRAME_BYTES_MAX as usize,
            "{}",
            w.offered_max
        );
        assert_eq!(w.clients[scene.id].streams[&stream].paused, !far);
        w.allow(scene.id, stream, usize::MAX / 2);
        w.settle();
        for correlation in asked {
            assert!(w.answer(scene.id, correlation).is_some());
        }
    }
}

/// The transport may hand over what it had read before it knew of the pause.
#[test]
fn bytes_that_arrive_during_a_pause_wait_and_are_bounded() {
    let mut w = World::one();
    let scene = Scene::new(&mut w, 0, ADMIN, false);
    let stream = w.clients[scene.id].first_stream();
    let conn = w.clients[scene.id].conn;
    w.clients[scene.id].limit(stream, 0);
    let big = vec![1; 200_000];
    for _ in 0..3 {
        w.send(scene.id, &Request::Ping(Ping { payload: &big }));
    }
    w.settle();
    assert!(w.cores[0].is_paused(conn, stream));
    for i in 0..10 {
        let mut bytes = Vec::new();
        let ping = Request::Ping(Ping { payload: &big });
        ping.encode(90_000 + i, &mut bytes).unwrap();
        w.cores[0].handle_stream_data(conn, stream, bytes.into());
    }
    assert!(w.cores[0].held_bytes() > 2_000_000);
    w.allow(scene.id, stream, usize::MAX / 2);
    w.settle();
    for i in 0..10 {
        assert!(w.answer(scene.id, 90_000 + i).is_some());
    }
    assert_eq!(w.cores[0].held_bytes(), 0);
    w.clients[scene.id].limit(stream, 0);
    for _ in 0..40 {
        let mut bytes = Vec::new();
        Request::Ping(Ping { payload: &big })
            .encode(1, &mut bytes)
            .unwrap();
        w.cores[0].handle_stream_data(conn, stream, bytes.into());
        w.settle();
        assert!(w.cores[0].held_bytes() < 5 << 20);
    }
    assert_eq!(w.closed(scene.id), Some(CloseCode::Limit));
    assert_eq!(w.cores[0].held_bytes(), 0);
}

#[test]
fn subscriptions_wait_for_the_client_to_allow_streams() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    w.clients[scene.id].uni_left = 0;
    for sub in 1..=3 {
        done(
            &mut w,
            scene.id,
            &Request::Subscribe(subscribe(scene.stream, scene.partition, sub)),
        );
    }
    for _ in 0..50 {
        published(&mut w, scene.id, scene.stream, scene.partition, &[b"x"]);
    }
    assert_eq!(w.got(scene.id, 1), []);
    assert_eq!(w.opens_refused, 3, "each asks once and then waits");
    w.allow_streams(scene.id, 2);
    w.settle();
    let open = (1..=3).filter(|sub| w.clients[scene.id].delivery_stream(*sub).is_some());
    assert_eq!(open.count(), 2);
    w.allow_streams(scene.id, 5);
    w.settle();
    for sub in 1..=3 {
        let got = w.got(scene.id, sub);
        assert_eq!(got.len(), 52);
        assert!(got.iter().all(|g| matches!(g, Got::Record { .. })));
    }
}
