//! The end of a node: nothing promised is lost, and it does end.

use pinion_node::mail::CoreMail;
use pinion_session::CloseCode;
use pinion_types::{ErrorCode, Offset};
use pinion_wire::message::Request;

use super::{OPEN_SUB, Scene, done, lease, publish};
use crate::harness::{ADMIN, Got, World, batch};

fn drain(w: &mut World) {
    w.tell(|| CoreMail::Drain);
}

#[test]
fn waits_are_answered_subscriptions_ended_and_then_the_connection_closed() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let id = scene.id;
        w.got(id, OPEN_SUB);
        let ask = lease(scene.cache, b"filled by nobody", 10_000);
        done(&mut w, id, &Request::CacheLease(ask));
        let waits = w.send(id, &Request::CacheLease(ask));
        done(
            &mut w,
            id,
            &Request::CacheWatch(super::watch(scene.cache, 0, 1)),
        );
        done(
            &mut w,
            id,
            &Request::CacheWatch(super::watch(scene.cache, 1, 2)),
        );
        w.clients[id].acks_held = true;
        drain(&mut w);
        w.settle();
        let answer = w.answer(id, waits).unwrap();
        assert_eq!(answer.code(), Some(ErrorCode::Draining));
        let got = w.got(id, OPEN_SUB);
        let [Got::End(end), Got::Fin] = &got[..] else {
            panic!("{got:?}")
        };
        assert_eq!(
            (end.error(), end.next),
            (Some(ErrorCode::Draining), Offset(2))
        );
        for watch in [1, 2] {
            assert!(matches!(w.got(id, watch)[..], [Got::End(_), Got::Fin]));
        }
        // The client does not have it all yet: a close would cut it off.
        assert_eq!(w.closed(id), None);
        assert!(!w.cores[0].is_drained());
        w.clients[id].release_acks();
        w.settle();
        assert_eq!(w.closed(id), Some(CloseCode::Draining));
        assert!(w.cores.iter().all(pinion_node::Core::is_drained));
    }
}

#[test]
fn streams_finished_before_the_drain_do_not_pay_for_those_after() {
    let mut w = World::one();
    let scene = Scene::new(&mut w, 0, ADMIN, false);
    let id = scene.id;
    let extra = w.open_stream(id, false);
    w.clients[id].acks_held = true;
    w.finish(id, extra);
    w.settle();
    // Acknowledged late: it must not stand for the END that follows.
    w.clients[id].release_acks();
    w.clients[id].acks_held = true;
    drain(&mut w);
    w.settle();
    assert_eq!(w.closed(id), None, "END is not acknowledged");
    w.clients[id].release_acks();
    w.settle();
    assert_eq!(w.closed(id), Some(CloseCode::Draining));
}

#[test]
fn new_requests_and_connections_are_told() {
    let mut w = World::one();
    let scene = Scene::new(&mut w, 0, ADMIN, false);
    let quiet = w.connect(0);
    w.settle();
    w.clients[scene.id].acks_held = true;
    drain(&mut w);
    let records = batch(&[b"x"]);
    let request = Request::Publish(publish(scene.stream, scene.partition, &records));
    // In the same turn as the drain.
    let asked = w.send(scene.id, &request);
    w.settle();
    let answer = w.answer(scene.id, asked);
    assert_eq!(answer.and_then(|a| a.code()), Some(ErrorCode::Draining));
    assert_eq!(w.closed(quiet), Some(CloseCode::Draining));
    let late = w.connect(0);
    w.settle();
    assert_eq!(w.closed(late), Some(CloseCode::Draining));
}

#[test]
fn a_request_on_its_way_to_a_core_that_drains_is_answered() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    w.got(scene.id, OPEN_SUB);
    w.mute = Some(0);
    let records = batch(&[b"x"]);
    let request = Request::Publish(publish(scene.stream, scene.partition, &records));
    let asked = w.send(scene.id, &request);
    let sub = Request::Subscribe(super::subscribe(scene.stream, scene.partition, 1));
    let subscribed = w.send(scene.id, &sub);
    w.core_turn(0);
    drain(&mut w);
    w.settle();
    // It has no connection, but somebody may still ask it.
    assert!(!w.cores[1].is_drained());
    w.mute = None;
    w.settle();
    for correlation in [asked, subscribed] {
        let answer = w.answer(scene.id, correlation).unwrap();
        assert_eq!(answer.code(), Some(ErrorCode::Draining));
    }
    assert_eq!(w.closed(scene.id), Some(CloseCode::Draining));
    assert!(w.cores.iter().all(pinion_node::Core::is_drained));
}

#[test]
fn who_does_not_read_is_closed_when_the_time_is_over() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, false);
    let id = scene.id;
    let stream = w.clients[id].delivery_stream(OPEN_SUB).unwrap();
    w.clients[id].limit(stream, 0);
    drain(&mut w);
    w.settle();
    assert_eq!(w.closed(id), None);
    w.cores[0].drain_overdue();
    w.settle();
    assert_eq!(w.closed(id), Some(CloseCode::Draining));
    assert!(w.cores[0].is_drained());
}

#[test]
fn a_core_without_its_peers_leaves_when_the_time_is_over() {
    let mut w = World::two();
    w.mute = Some(1);
    drain(&mut w);
    w.settle();
    assert!(!w.cores[0].is_drained());
    w.cores[0].drain_overdue();
    assert!(w.cores[0].is_drained());
}

#[test]
fn a_stream_stopped_after_its_end_does_not_hold_up_the_drain() {
    let mut w = World::one();
    let scene = Scene::new(&mut w, 0, ADMIN, false);
    let id = scene.id;
    w.clients[id].acks_held = true;
    let stream = w.clients[id].delivery_stream(OPEN_SUB).unwrap();
    drain(&mut w);
    w.settle();
    // Two streams were finished; one is stopped, the other acknowledged.
    w.lose(id, stream);
    w.clients[id].acks = 1;
    w.settle();
    assert_eq!(w.closed(id), Some(CloseCode::Draining));
}

#[test]
fn half_a_request_does_not_hold_up_the_drain_and_is_given_back() {
    let mut w = World::one();
    let scene = Scene::new(&mut w, 0, ADMIN, false);
    let stream = w.clients[scene.id].first_stream();
    let frame = scene.sample(pinion_wire::opcode::PUBLISH, 5);
    w.send_bytes(scene.id, stream, &frame[..20]);
    w.settle();
    assert_eq!(w.cores[0].held_bytes(), 20);
    drain(&mut w);
    w.settle();
    assert_eq!(w.closed(scene.id), Some(CloseCode::Draining));
    assert_eq!(w.cores[0].held_bytes(), 0);
}
