//! The single line where authorisation happens; [`table`] has every request.

mod table;

use std::sync::Arc;

use pinion_node::access::Permissions;
use pinion_node::mail::CoreMail;
use pinion_session::CloseCode;
use pinion_types::{ErrorCode, FactId, PartitionId, ResourceKind};
use pinion_wire::message::{CacheIncr, GroupAction, Open, Overflow, QueueGroup, Reply, Request};

use super::{OPEN_SUB, Scene, done, lease, published, set, subscribe};
use crate::harness::{ADMIN, Got, NOBODY, READER, STRANGER, Setup, WRITER, World, table_of};

fn grant(w: &mut World, token: &'static [u8], permissions: Permissions) {
    let table = Arc::new(table_of(&[(token, 1, permissions)]));
    w.tell(|| CoreMail::Access(Arc::clone(&table)));
    w.settle();
}

#[test]
fn declaring_needs_admin() {
    let mut w = World::one();
    for (token, code) in [
        (NOBODY, Some(ErrorCode::Forbidden)),
        (READER, Some(ErrorCode::Forbidden)),
        (WRITER, Some(ErrorCode::Forbidden)),
        (ADMIN, None),
    ] {
        let id = w.client(0, token);
        let spec = Some(World::spec(1));
        let answer = w.try_open(id, ResourceKind::Cache, "declared", spec);
        assert_eq!(answer.code(), code);
    }
}

#[test]
fn cache_values_are_told_to_readers_alone() {
    for far in [false, true] {
        for (permissions, code) in [
            (Permissions::PUT, Some(ErrorCode::Forbidden)),
            (Permissions::WRITE, Some(ErrorCode::Forbidden)),
            (Permissions::READ, Some(ErrorCode::Forbidden)),
            (Permissions::READ.and(Permissions::PUT), None),
        ] {
            let mut w = World::two();
            let scene = Scene::new(&mut w, 0, ADMIN, far);
            let (id, cache, key) = (scene.id, scene.cache, &scene.key[..]);
            grant(&mut w, ADMIN, permissions);
            // The key is there, and adding nothing would tell its 8 bytes.
            let incr = CacheIncr {
                handle: cache,
                delta: 0,
                initial: 0,
                ttl_ms: 0,
                key,
            };
            for request in [
                Request::CacheLease(lease(cache, key, 10)),
                Request::CacheIncr(incr),
            ] {
                let answer = w.call(id, &request);
                assert_eq!(
                    answer.code(),
                    code,
                    "{request:?} {permissions:?}: {answer:?}"
                );
            }
            // Whoever may write still does, unread.
            let answer = w.call(id, &Request::CacheSet(set(cache, key, b"new")));
            let writes = permissions != Permissions::READ;
            assert_eq!(answer.code().is_none(), writes, "{permissions:?}");
        }
    }
}

#[test]
fn forgetting_a_group_is_administration() {
    for (permissions, expected) in [
        (Permissions::CONSUME, ErrorCode::Forbidden),
        (Permissions::WRITE, ErrorCode::Forbidden),
        (Permissions::ADMIN, ErrorCode::UnknownGroup),
    ] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, false);
        let ask = |action| {
            Request::QueueGroup(QueueGroup {
                handle: scene.queue,
                partition: PartitionId(0),
                action,
                group: "billing",
            })
        };
        done(&mut w, scene.id, &ask(GroupAction::CreateEarliest));
        grant(&mut w, ADMIN, permissions);
        let first = w.call(scene.id, &ask(GroupAction::Delete));
        assert_eq!(first.code().is_none(), permissions == Permissions::ADMIN);
        // Once it is gone it is unknown; before that it is not said whether there is one.
        w.assert_refused(scene.id, &ask(GroupAction::Delete), expected);
        if permissions != Permissions::ADMIN {
            done(&mut w, scene.id, &ask(GroupAction::CreateLatest));
        }
    }
}

#[test]
fn opening_finds_creates_and_conflicts() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let first = w.declare(id, ResourceKind::Stream, "s", 2);
    assert_eq!(
        w.open(id, ResourceKind::Stream, "s"),
        first,
        "the same handle"
    );
    assert_eq!(w.declare(id, ResourceKind::Stream, "s", 2), first);
    let other = World::spec(3);
    let answer = w.try_open(id, ResourceKind::Stream, "s", Some(other));
    assert_eq!(answer.code(), Some(ErrorCode::SpecConflict));
    let mut other = World::spec(2);
    other.overflow = Overflow::Block;
    let answer = w.try_open(id, ResourceKind::Stream, "s", Some(other));
    assert_eq!(answer.code(), Some(ErrorCode::SpecConflict));
    // On first use, with the node's defaults.
    let answer = w.try_open(id, ResourceKind::Cache, "new", None);
    assert!(matches!(answer.reply(), Reply::Opened(o) if o.spec.shards == 1));
    for name in ["", "a//b", "..", "a b", "/a"] {
        let answer = w.try_open(id, ResourceKind::Stream, name, None);
        assert_eq!(answer.code(), Some(ErrorCode::BadName), "{name:?}");
    }
}

#[test]
fn without_creation_on_first_use_a_name_nobody_declared_is_not_found() {
    let mut w = World::new(Setup {
        create_on_first_use: false,
        ..Setup::default()
    });
    let id = w.client(0, ADMIN);
    let answer = w.try_open(id, ResourceKind::Stream, "s", None);
    assert_eq!(answer.code(), Some(ErrorCode::NotFound));
    w.declare(id, ResourceKind::Stream, "s", 1);
    w.open(id, ResourceKind::Stream, "s");
}

#[test]
fn tenants_do_not_see_each_other() {
    let mut w = World::one();
    let (ours, theirs) = (w.client(0, ADMIN), w.client(0, STRANGER));
    let a = w.open(ours, ResourceKind::Stream, "s");
    let b = w.open(theirs, ResourceKind::Stream, "s");
    published(&mut w, ours, a, 0, &[b"secret"]);
    done(&mut w, theirs, &Request::Subscribe(subscribe(b, 0, 1)));
    assert_eq!(w.got(theirs, 1), []);
}

#[test]
fn a_revoked_token_loses_its_connection_and_others_keep_theirs() {
    let mut w = World::two();
    let (admin, reader) = (w.client(0, ADMIN), w.client(1, READER));
    grant(&mut w, ADMIN, Permissions::ALL);
    assert_eq!(w.closed(reader), Some(CloseCode::Unauthenticated));
    assert_eq!(w.closed(admin), None);
    let again = w.connect(0);
    let answer = w.hello(again, READER);
    assert_eq!(answer.code(), Some(ErrorCode::Unauthenticated));
}

#[test]
fn a_token_that_changes_its_tenant_loses_its_connection() {
    let mut w = World::one();
    let admin = w.client(0, ADMIN);
    let table = Arc::new(table_of(&[(ADMIN, 2, Permissions::ALL)]));
    w.tell(|| CoreMail::Access(Arc::clone(&table)));
    w.settle();
    assert_eq!(w.closed(admin), Some(CloseCode::Unauthenticated));
}

#[test]
fn new_grants_act_on_open_handles_and_subscriptions() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let (id, stream, partition) = (scene.id, scene.stream, scene.partition);
        assert_eq!(w.got(id, OPEN_SUB).len(), 2);
        grant(&mut w, ADMIN, Permissions::WRITE);
        let got = w.got(id, OPEN_SUB);
        let [Got::End(end), Got::Fin] = &got[..] else {
            panic!("{got:?}")
        };
        assert_eq!(end.error(), Some(ErrorCode::Forbidden));
        assert_eq!(end.next.0, 0, "it has two");
        published(&mut w, id, stream, partition, &[b"three"]);
        assert_eq!(w.got(id, OPEN_SUB), []);
        let again = Request::Subscribe(subscribe(stream, partition, OPEN_SUB));
        w.assert_refused(id, &again, ErrorCode::Forbidden);
        grant(&mut w, ADMIN, Permissions::ALL);
        done(&mut w, id, &again);
        assert_eq!(w.got(id, OPEN_SUB).len(), 3);
    }
}

#[test]
fn a_grant_that_goes_while_the_resource_is_made_leaves_no_handle() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    w.control_mute = true;
    let open = Open {
        kind: ResourceKind::Stream,
        namespace: "n",
        name: "s",
        spec: None,
    };
    let asked = w.send(id, &Request::Open(open));
    w.settle();
    grant(&mut w, ADMIN, Permissions::NONE);
    w.control_mute = false;
    w.settle();
    let answer = w.answer(id, asked).unwrap();
    assert_eq!(answer.code(), Some(ErrorCode::Forbidden));
}

#[test]
fn what_is_not_there_is_named() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, false);
    let (id, stream, cache) = (scene.id, scene.stream, scene.cache);
    let request = Request::Subscribe(subscribe(pinion_wire::message::Handle(77), 0, 1));
    w.assert_refused(id, &request, ErrorCode::BadHandle);
    let request = Request::Subscribe(subscribe(cache, 0, 1));
    w.assert_refused(id, &request, ErrorCode::WrongKind);
    let refusal = w.refused(id, &Request::Subscribe(subscribe(stream, 2, 1)));
    assert_eq!(refusal.code, ErrorCode::WrongPartition);
    assert_eq!(refusal.fact(FactId::Limit), Some(2));
}
