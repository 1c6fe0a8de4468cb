//! A core that panics: whoever waits for it hears of it, and the others go on.

use pinion_node::mail::CoreMail;
use pinion_types::{ErrorCode, FactId, Outcome, PartitionId, ResourceKind, RetryClass};
use pinion_wire::message::{AppendBegin, Reply, Request};

use super::{OPEN_SUB, Scene, done, fetch, publish, published, subscribe};
use crate::harness::{ADMIN, Got, Setup, World, batch};

/// Connected to one core, about partitions of the other.
fn far() -> (World, Scene) {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    w.got(scene.id, OPEN_SUB);
    (w, scene)
}

#[test]
fn who_waits_for_it_is_told_at_once_that_nobody_knows() {
    let (mut w, scene) = far();
    let records = batch(&[b"x"]);
    let asked = [
        Request::Publish(publish(scene.stream, scene.partition, &records)),
        Request::Fetch(fetch(scene.stream, scene.partition, 0, 1_000)),
        Request::Subscribe(subscribe(scene.stream, scene.partition, 77)),
    ];
    let asked = asked.map(|request| w.send(scene.id, &request));
    // They are in the core's mailbox, or in its hands.
    w.core_turn(0);
    w.panic(1);
    w.settle();
    for correlation in asked {
        let refusal = w.answer(scene.id, correlation).expect("answered").refusal();
        assert_eq!(refusal.code, ErrorCode::CoreLost);
        assert_eq!(refusal.outcome, Outcome::Unknown);
        assert_eq!(refusal.retry, RetryClass::OutcomeUnknown);
        assert_eq!(refusal.fact(FactId::Core), Some(1));
    }
    // The ids are free again, also that of the subscription.
    let again = Request::Subscribe(subscribe(scene.stream, scene.partition, 77));
    w.assert_refused(scene.id, &again, ErrorCode::CoreLost);
    assert!(w.got(scene.id, 77).is_empty());
}

#[test]
fn what_it_answered_before_it_panicked_arrives() {
    let (mut w, scene) = far();
    let records = batch(&[b"x"]);
    let publish = Request::Publish(publish(scene.stream, scene.partition, &records));
    let asked = w.send(scene.id, &publish);
    w.core_turn(0);
    // It runs the request, and its answer lies in the other's box.
    w.core_turn(1);
    w.panic(1);
    w.settle();
    let answer = w.answer(scene.id, asked).expect("answered");
    assert!(matches!(answer.reply(), Reply::Published(_)), "{answer:?}");
}

#[test]
fn what_is_asked_of_it_later_was_not_done_and_the_other_core_goes_on() {
    let (mut w, scene) = far();
    let own = (0..2).find(|p| *p != scene.partition).unwrap();
    w.panic(1);
    w.settle();
    let records = batch(&[b"x"]);
    let publish = Request::Publish(publish(scene.stream, scene.partition, &records));
    let refusal = w.refused(scene.id, &publish);
    assert_eq!(refusal.code, ErrorCode::CoreLost);
    assert_eq!(refusal.outcome, Outcome::NotAdmitted);
    assert_eq!(refusal.retry, RetryClass::RetryAfter);
    assert!(refusal.retry_after_ms > 0);
    published(&mut w, scene.id, scene.stream, own, &[b"y"]);
    // Somebody who comes now is served as well as that goes.
    let other = w.client(0, ADMIN);
    let handle = w.open(other, ResourceKind::Stream, "s");
    published(&mut w, other, handle, own, &[b"z"]);
}

#[test]
fn its_subscriptions_end_and_say_why() {
    let (mut w, scene) = far();
    w.panic(1);
    w.settle();
    let got = w.got(scene.id, OPEN_SUB);
    let [Got::End(end), Got::Fin] = &got[..] else {
        panic!("{got:?}");
    };
    assert_eq!(end.error(), Some(ErrorCode::CoreLost));
}

#[test]
fn what_its_clients_held_on_other_cores_is_free() {
    let mut w = World::two();
    let id = w.client(1, ADMIN);
    let stream = w.declare(id, ResourceKind::Stream, "s", 2);
    let near = (0..2).find(|p| w.owner(1, ResourceKind::Stream, "s", *p) == 0);
    let begin = Request::AppendBegin(AppendBegin {
        handle: stream,
        partition: PartitionId(near.unwrap()),
        exclusive: true,
    });
    done(&mut w, id, &begin);
    let other = w.client(0, ADMIN);
    assert_eq!(w.open(other, ResourceKind::Stream, "s"), stream);
    w.assert_refused(other, &begin, ErrorCode::SessionActive);
    w.panic(1);
    w.settle();
    done(&mut w, other, &begin);
}

#[test]
fn full_boxes_of_a_core_that_is_gone_keep_nobody_awake_and_no_drain_waits_for_it() {
    let mut w = World::new(Setup {
        cores: 3,
        box_capacity: 2,
        ..Setup::default()
    });
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    let gone = w.owner(1, ResourceKind::Stream, "s", scene.partition);
    let fetch = Request::Fetch(fetch(scene.stream, scene.partition, 0, 1_000));
    let asked: Vec<u32> = (0..20).map(|_| w.send(scene.id, &fetch)).collect();
    w.core_turn(0);
    assert!(w.cores[0].has_work(), "most of them wait for room");
    w.panic(gone);
    // It comes to rest.
    w.settle();
    for correlation in asked {
        let answer = w.answer(scene.id, correlation).expect("answered");
        assert_eq!(answer.code(), Some(ErrorCode::CoreLost));
    }
    w.tell(|| CoreMail::Drain);
    w.settle();
    for core in (0..3).filter(|core| *core != gone) {
        assert!(w.cores[core].is_drained(), "core {core}");
    }
}
