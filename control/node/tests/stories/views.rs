//! Somebody looks into the cores, and does there what the node may do.

use std::collections::BTreeSet;
use std::time::Duration;

use pinion_node::views::{
    PARTITIONS_PER_PAGE, PARTITIONS_PER_TURN, Page, PartitionFacts, QUESTIONS_WAITING_MAX,
    Question, SESSIONS_PER_PAGE, SessionFacts, SubscriptionFacts, View,
};
use pinion_session::CloseCode;
use pinion_types::{
    CoreId, ErrorCode, PartitionId, ResourceId, ResourceKind, SessionId, SubscriptionId, WallMs,
};
use pinion_wire::frame::{Split, split};
use pinion_wire::message::{
    CacheGet, DeadSelect, Handle, IdList, Ping, QueueDeadReplay, QueueNack, QueuePut, QueueSpec,
    QueueSubscribe, QueueTake, Reply, Request, Spec, StreamInfo, TokenList,
};
use pinion_wire::opcode::{self, REQUESTS};

use super::queues::{ack, declare, put, spec, take_in};
use super::{OPEN_SUB, Scene, done, published, set, subscribe, watch};
use crate::harness::{ADMIN, Answer, Got, READER, World};

const STREAM: ResourceKind = ResourceKind::Stream;
const QUEUE: ResourceKind = ResourceKind::Queue;
const CACHE: ResourceKind = ResourceKind::Cache;

/// Every page of something, and how many there were.
fn pages<T>(
    w: &mut World,
    core: usize,
    question: impl Fn(Option<u32>) -> Question,
    page: impl Fn(View) -> Page<T>,
) -> (Vec<T>, usize) {
    let (mut all, mut after, mut count) = (Vec::new(), None, 0);
    loop {
        let found = page(w.ask(core, question(after)));
        count += 1;
        all.extend(found.items);
        if found.next.is_none() {
            return (all, count);
        }
        assert!(found.next > after, "it goes on");
        after = found.next;
    }
}

fn partitions(w: &mut World, core: usize) -> (Vec<PartitionFacts>, usize) {
    partitions_of(w, core, None)
}

fn partitions_of(
    w: &mut World,
    core: usize,
    kind: Option<ResourceKind>,
) -> (Vec<PartitionFacts>, usize) {
    let page = |view| match view {
        View::Partitions(page) => Page {
            items: page.iter().map(|(_, facts)| facts).collect(),
            next: page.next,
        },
        other => panic!("{other:?}"),
    };
    pages(w, core, |after| Question::Partitions { after, kind }, page)
}

fn sessions(w: &mut World, core: usize) -> (Vec<SessionFacts>, usize) {
    let page = |view| match view {
        View::Sessions(page) => page,
        other => panic!("{other:?}"),
    };
    pages(w, core, |after| Question::Sessions { after }, page)
}

fn subscriptions(
    w: &mut World,
    core: usize,
    resource: Option<ResourceId>,
) -> Vec<SubscriptionFacts> {
    let question = |after| Question::Subscriptions { after, resource };
    let page = |view| match view {
        View::Subscriptions(page) => page,
        other => panic!("{other:?}"),
    };
    pages(w, core, question, page).0
}

fn of(all: &[PartitionFacts], resource: ResourceId) -> &PartitionFacts {
    all.iter().find(|one| one.resource == resource).unwrap()
}

fn request(w: &mut World, core: usize, resource: ResourceId, partition: u16, frame: &[u8]) -> View {
    let question = Question::Request {
        resource,
        partition: PartitionId(partition),
        frame: frame.into(),
    };
    w.ask(core, question)
}

fn answer(view: View) -> Answer {
    let View::Reply(frame) = view else {
        panic!("{view:?}")
    };
    let Ok(Split::Frame {
        header,
        body,
        consumed,
    }) = split(&frame)
    else {
        panic!("no frame")
    };
    assert_eq!(consumed, frame.len());
    Answer {
        opcode: header.opcode,
        correlation: header.correlation,
        body: body.to_vec(),
    }
}

#[track_caller]
fn refused(view: View) -> ErrorCode {
    match view {
        View::Refused(refusal) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_core_tells_who_has_messages() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let queue = declare(&mut w, id, spec(QueueSpec::UNSET));
    put(&mut w, id, queue, &[b"a", b"b"]);
    let taken = take_in(&mut w, id, queue, "", 1);
    let resource = w.resource(QUEUE, "q").id;
    let holders = |w: &mut World, resource, partition| {
        let question = Question::Holders {
            of: (resource, PartitionId(partition)),
            group: "".into(),
            ids: [0, 1, 2].into(),
        };
        match w.ask(0, question) {
            View::Holders(holders) => holders,
            other => panic!("{other:?}"),
        }
    };
    let session = sessions(&mut w, 0).0[0].session;
    let has = SessionId {
        core: CoreId(0),
        token: session,
    };
    assert_eq!(holders(&mut w, resource, 0), [Some(has), None, None]);
    ack(&mut w, id, queue, &[taken[0].2]);
    assert_eq!(holders(&mut w, resource, 0), [None; 3]);
    assert_eq!(holders(&mut w, resource, 1), [None; 3], "none is opened");
    assert_eq!(holders(&mut w, ResourceId(999), 0), [None; 3]);
    assert_eq!(partitions(&mut w, 0).0.len(), 1);
}

#[test]
fn what_purged_partitions_counted_is_told_by_their_core() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let queue = declare(&mut w, id, spec(QueueSpec::UNSET));
    put(&mut w, id, queue, &[b"a", b"b"]);
    let taken = take_in(&mut w, id, queue, "", 2);
    ack(&mut w, id, queue, &[taken[0].2]);
    let cache = w.declare(id, CACHE, "c", 1);
    for key in [&b"k"[..], b"none"] {
        let handle = cache;
        done(&mut w, id, &Request::CacheGet(CacheGet { handle, key }));
    }
    let counted = |w: &mut World| {
        let View::Core(facts) = w.ask(0, Question::Core) else {
            panic!("a core tells of itself")
        };
        let retired = facts.retired;
        let (mut queues, mut misses) = (retired.queues, retired.misses);
        for facts in &partitions(w, 0).0 {
            if let Some(queue) = facts.queue() {
                queues.add(&queue.groups.counters);
            }
            misses += facts.cache().map_or(0, |cache| cache.misses);
        }
        (queues.delivered, queues.acked, misses)
    };
    assert_eq!(counted(&mut w), (2, 1, 2));
    for (kind, name) in [(QUEUE, "q"), (CACHE, "c")] {
        let resource = w.resource(kind, name);
        w.delete(resource.id);
        assert_eq!(counted(&mut w), (2, 1, 2), "it may be taken back");
        w.purge(resource.id);
        w.settle();
        assert_eq!(counted(&mut w), (2, 1, 2));
    }
    assert!(partitions(&mut w, 0).0.is_empty());
}

#[test]
fn partitions_say_what_they_have_and_what_they_did() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let stream = w.declare(id, STREAM, "s", 1);
    published(&mut w, id, stream, 0, &[b"one", b"two", b"three"]);
    let sub = subscribe(stream, 0, 1);
    done(&mut w, id, &Request::Subscribe(sub));
    assert_eq!(w.got(id, 1).len(), 3);
    let queue = declare(&mut w, id, spec(QueueSpec::UNSET));
    let put_at = w.wall;
    put(&mut w, id, queue, &[b"a", b"b", b"c"]);
    let taken = take_in(&mut w, id, queue, "", 2);
    ack(&mut w, id, queue, &[taken[0].2]);
    let cache = w.declare(id, CACHE, "c", 1);
    done(&mut w, id, &Request::CacheSet(set(cache, b"k", b"value")));
    for key in [&b"k"[..], b"none"] {
        let handle = cache;
        done(&mut w, id, &Request::CacheGet(CacheGet { handle, key }));
    }
    done(&mut w, id, &Request::CacheWatch(watch(cache, 0, 2)));
    w.advance(Duration::from_secs(7));

    let (all, pages) = partitions(&mut w, 0);
    assert_eq!((all.len(), pages), (3, 1));
    for kind in [STREAM, QUEUE, CACHE] {
        let (some, pages) = partitions_of(&mut w, 0, Some(kind));
        let kinds: Vec<_> = some.iter().map(|one| one.detail.kind()).collect();
        assert_eq!((&kinds[..], pages), (&[kind][..], 1));
    }
    let one = of(&all, w.resource(STREAM, "s").id);
    let facts = one.stream().unwrap();
    assert_eq!((facts.first.0, facts.end.0), (0, 3));
    assert_eq!((facts.records_in, facts.records_out), (3, 3));
    assert_eq!((one.records(), one.subscriptions()), (3, 1));
    assert!(facts.bytes_out > 0 && one.bytes > 0);
    assert_eq!((one.durable_bytes, one.log), (0, None));
    let one = of(&all, w.resource(QUEUE, "q").id);
    let facts = one.queue().unwrap();
    assert_eq!((facts.messages_in, facts.counts.messages), (3, 2));
    assert_eq!((facts.groups.ready, facts.groups.in_flight), (1, 1));
    let counted = facts.groups.counters;
    assert_eq!((counted.delivered, counted.acked), (2, 1));
    assert_eq!(facts.groups.oldest, Some(WallMs(put_at.0)));
    assert!(one.durable_bytes > 0 && one.log.is_some());
    let one = of(&all, w.resource(CACHE, "c").id);
    let facts = one.cache().unwrap();
    assert_eq!((facts.hits, facts.misses, facts.entries), (1, 1, 1));
    assert_eq!(one.subscriptions(), 1);

    // The sums over groups, and nothing of what was before this life.
    let named = Request::QueueTake(QueueTake {
        handle: queue,
        partition: PartitionId(0),
        max_messages: 1,
        max_bytes: 1 << 20,
        wait_ms: 0,
        lease_ms: 0,
        group: "second",
    });
    done(&mut w, id, &named);
    let (all, _) = partitions(&mut w, 0);
    let groups = of(&all, w.resource(QUEUE, "q").id).queue().unwrap().groups;
    assert_eq!(groups.counters.delivered, 3);
    assert_eq!(groups.in_flight, 2);
    w.crash(pinion_simkit::CrashMode::DropUnsynced);
    let (all, _) = partitions(&mut w, 0);
    let facts = of(&all, w.resource(QUEUE, "q").id).queue().unwrap();
    assert_eq!((facts.messages_in, facts.groups.counters.delivered), (0, 0));
    assert_eq!(facts.counts.messages, 2);
}

#[test]
fn a_turn_makes_a_part_of_a_page_and_all_pages_are_all_there_is() {
    let mut w = World::two();
    let id = w.client(0, ADMIN);
    let shards = 512;
    let mut opened = 0;
    for name in ["a", "b", "c", "d", "e"] {
        // As small as may be, so that so many fit.
        let small = Spec {
            ring_bytes: 64 << 10,
            ..World::spec(shards)
        };
        w.try_open(id, STREAM, name, Some(small));
        let handle = w.open(id, STREAM, name);
        for partition in 0..shards {
            w.send(id, &Request::StreamInfo(info(handle, partition)));
            opened += 1;
        }
        w.settle();
    }
    let mut seen = BTreeSet::new();
    for core in 0..2 {
        let (all, pages) = partitions(&mut w, core);
        assert!(all.len() > PARTITIONS_PER_PAGE);
        assert_eq!(pages, all.len().div_ceil(PARTITIONS_PER_PAGE));
        for one in &all {
            assert_eq!(usize::from(one.core.0), core);
            assert!(seen.insert((one.resource, one.partition)), "{one:?}");
        }
        let first = w.ask(
            core,
            Question::Partitions {
                after: None,
                kind: None,
            },
        );
        let View::Partitions(page) = first else {
            panic!("{first:?}")
        };
        assert_eq!(page.len(), PARTITIONS_PER_PAGE);
        let View::Core(facts) = w.ask(core, Question::Core) else {
            panic!("no facts")
        };
        assert_eq!(facts.core, CoreId(u16::try_from(core).unwrap()));
        assert_eq!(facts.partitions, all.len() as u64);
        assert_eq!((facts.resources, facts.logs.len()), (5, 1));
    }
    assert_eq!(seen.len(), opened);

    // However many ask, a turn answers one of them.
    let asked: Vec<u64> = (0..5)
        .map(|_| {
            w.question(
                0,
                Question::Partitions {
                    after: None,
                    kind: None,
                },
            )
        })
        .collect();
    let mut most = 0;
    while w.views.len() < asked.len() {
        let before = w.views.len();
        w.turn();
        most = most.max(w.views.len() - before);
    }
    assert_eq!(most, 1);
    let order: Vec<u64> = w.views.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(order, asked);

    // And it makes a part of a page, whoever waits for it.
    w.views.clear();
    let page = w.question(
        0,
        Question::Partitions {
            after: None,
            kind: None,
        },
    );
    let other = w.question(0, Question::Core);
    let mut turns = 0;
    while w.views.len() < 2 {
        w.turn();
        turns += 1;
    }
    assert!(turns > PARTITIONS_PER_PAGE / PARTITIONS_PER_TURN, "{turns}");
    let order: Vec<u64> = w.views.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(order, [page, other]);
}

#[test]
fn partitions_asked_for_by_name_are_those_that_are_open_here() {
    let mut w = World::two();
    let id = w.client(0, ADMIN);
    let shards = 1024;
    let small = Spec {
        ring_bytes: 64 << 10,
        ..World::spec(shards)
    };
    w.try_open(id, STREAM, "a", Some(small));
    let handle = w.open(id, STREAM, "a");
    // The first, and every second of the others.
    for partition in (0..shards).filter(|one| *one == 0 || one % 2 == 1) {
        w.send(id, &Request::StreamInfo(info(handle, partition)));
    }
    w.settle();
    let resource = w.resource(STREAM, "a").id;
    let by_name = |w: &mut World, core: usize, keys: &[(ResourceId, u16)]| {
        let key = |(id, partition): &(ResourceId, u16)| (*id, PartitionId(*partition));
        let keys = keys.iter().map(key).collect();
        let View::Partitions(page) = w.ask(core, Question::PartitionsOf { keys }) else {
            panic!("no page")
        };
        let found: Vec<u16> = page.iter().map(|(_, facts)| facts.partition.0).collect();
        (found, page.next)
    };

    let mut open = BTreeSet::new();
    for core in 0..2 {
        let own: Vec<u16> = partitions(&mut w, core)
            .0
            .iter()
            .map(|facts| facts.partition.0)
            .collect();
        // From the last to the first, half of what may be asked at once: in that order.
        let keys: Vec<_> = (0..512).rev().map(|one| (resource, one)).collect();
        let wanted: Vec<u16> = (0..512).rev().filter(|one| own.contains(one)).collect();
        assert!(!wanted.is_empty());
        assert_eq!(by_name(&mut w, core, &keys), (wanted, None));
        // More than that is not looked for, and where it goes on is said.
        let keys: Vec<_> = (0..shards).map(|one| (resource, one)).collect();
        let last = u32::try_from(PARTITIONS_PER_PAGE).unwrap() - 1;
        let (found, next) = by_name(&mut w, core, &keys);
        assert_eq!(next, Some(last));
        assert!(
            found
                .iter()
                .all(|one| usize::from(*one) < PARTITIONS_PER_PAGE)
        );
        let (rest, next) = by_name(&mut w, core, &keys[PARTITIONS_PER_PAGE..]);
        assert_eq!((found.len() + rest.len(), next), (own.len(), None));
        open.extend(found.into_iter().chain(rest));
        assert_eq!(by_name(&mut w, core, &[]), (vec![], None));
        assert_eq!(
            by_name(&mut w, core, &[(ResourceId(99), 0)]),
            (vec![], None)
        );
    }
    assert_eq!(open.len(), 513, "what nobody has used is not open");

    // As anything else it takes its turns.
    let keys = (0..512).map(|one| (resource, PartitionId(one))).collect();
    w.views.clear();
    w.question(0, Question::PartitionsOf { keys });
    let mut turns = 0;
    while w.views.is_empty() {
        w.turn();
        turns += 1;
    }
    assert!(
        turns >= PARTITIONS_PER_PAGE / PARTITIONS_PER_TURN,
        "{turns}"
    );
}

const fn info(handle: Handle, partition: u16) -> StreamInfo {
    StreamInfo {
        handle,
        partition: PartitionId(partition),
    }
}

#[test]
fn more_questions_than_may_wait_are_refused_and_no_answer_is_lost() {
    let mut w = World::one();
    let asked: Vec<u64> = (0..=QUESTIONS_WAITING_MAX)
        .map(|_| w.question(0, Question::Core))
        .collect();
    w.settle();
    let (mut good, mut busy) = (0, 0);
    for id in asked {
        match w.view(id).expect("answered") {
            View::Core(_) => good += 1,
            View::Refused(refusal) if refusal.code == ErrorCode::Busy => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((good, busy), (QUESTIONS_WAITING_MAX, 1));
    assert!(matches!(w.ask(0, Question::Core), View::Core(_)));
}

#[test]
fn sessions_say_who_they_are_and_what_they_do() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, true);
    let silent = w.connect(0);
    w.advance(Duration::from_millis(1500));
    let reader = w.client(0, READER);
    done(&mut w, reader, &Request::Ping(Ping { payload: b"" }));
    done(&mut w, reader, &Request::Ping(Ping { payload: b"" }));

    let (all, _) = sessions(&mut w, 0);
    let find = |w: &World, id: usize| {
        let conn = w.clients[id].conn;
        all.iter().find(|one| one.session == conn).unwrap()
    };
    assert_eq!(all.len(), 3);
    let one = find(&w, scene.id);
    assert_eq!(
        (&*one.principal, one.tenant.map(|t| t.0)),
        ("admin", Some(1))
    );
    assert_eq!((one.subscriptions, one.append_sessions), (1, 1));
    assert_eq!((one.handles, one.in_flight), (4, 0));
    assert_eq!((one.connected_ms, one.idle_ms), (1500, 1500));
    assert!(one.sent > one.received, "and what was delivered: {one:?}");
    let one = find(&w, reader);
    assert_eq!((&*one.principal, one.idle_ms), ("reader", 0));
    assert_eq!((one.received, one.sent), (3, 3), "HELLO and two PINGs");
    let one = find(&w, silent);
    assert_eq!((&*one.principal, one.tenant), ("", None));

    // The partition's core knows the subscription, wherever its connection lives.
    let stream = w.resource(STREAM, "s").id;
    let there = subscriptions(&mut w, 1, Some(stream));
    let [one] = &there[..] else {
        panic!("{there:?}")
    };
    assert_eq!(one.to.session.core, CoreId(0));
    assert_eq!(one.to.subscription, SubscriptionId(OPEN_SUB));
    assert_eq!((one.next.map(|next| next.0), one.behind), (Some(2), 0));
    assert_eq!(one.partition, PartitionId(scene.partition));
    assert!(subscriptions(&mut w, 1, Some(ResourceId(99))).is_empty());
    assert_eq!(subscriptions(&mut w, 1, None).len(), 1);
    assert!(subscriptions(&mut w, 0, None).is_empty());

    for _ in 0..SESSIONS_PER_PAGE {
        w.connect(0);
    }
    let (all, pages) = sessions(&mut w, 0);
    assert_eq!((all.len(), pages), (SESSIONS_PER_PAGE + 3, 2));
}

#[test]
fn an_administrator_ends_a_session_and_the_client_is_told() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let id = scene.id;
        let conn = w.clients[id].conn;
        w.got(id, OPEN_SUB);
        let close = |session| Question::CloseSession { session };
        assert!(matches!(w.ask(1, close(conn)), View::Done(false)));
        assert!(matches!(w.ask(0, close(conn + 7)), View::Done(false)));
        w.clients[id].acks_held = true;
        assert!(matches!(w.ask(0, close(conn)), View::Done(true)));
        let got = w.got(id, OPEN_SUB);
        let [Got::End(end), Got::Fin] = &got[..] else {
            panic!("{got:?}")
        };
        assert_eq!(end.error(), Some(ErrorCode::EndedByOperator));
        assert_eq!(end.next.0, 2, "where to go on");
        let (all, _) = sessions(&mut w, 0);
        assert!(all[0].leaving, "{all:?}");
        // Once more is as good as once.
        assert!(matches!(w.ask(0, close(conn)), View::Done(true)));
        w.advance(pinion_node::LEAVE_WAIT);
        assert_eq!(w.closed(id), Some(CloseCode::Administrator));
        assert!(matches!(w.ask(0, close(conn)), View::Done(false)));
        for core in 0..2 {
            assert!(subscriptions(&mut w, core, None).is_empty());
        }
    }
    // One that never said who it is has nothing to lose.
    let mut w = World::one();
    let id = w.connect(0);
    let session = w.clients[id].conn;
    w.ask(0, Question::CloseSession { session });
    assert_eq!(w.closed(id), Some(CloseCode::Administrator));
}

#[test]
fn an_administrator_ends_a_subscription_and_the_session_goes_on() {
    for far in [false, true] {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, far);
        let id = scene.id;
        w.got(id, OPEN_SUB);
        let session = w.clients[id].conn;
        let end = |subscription| Question::EndSubscription {
            session,
            subscription: SubscriptionId(subscription),
        };
        assert!(matches!(w.ask(0, end(4)), View::Done(false)));
        assert!(matches!(w.ask(0, end(OPEN_SUB)), View::Done(true)));
        let got = w.got(id, OPEN_SUB);
        let [Got::End(ended), Got::Fin] = &got[..] else {
            panic!("{got:?}")
        };
        assert_eq!(ended.error(), Some(ErrorCode::EndedByOperator));
        assert_eq!(ended.next.0, 2);
        assert!(matches!(w.ask(0, end(OPEN_SUB)), View::Done(false)));
        let again = subscribe(scene.stream, scene.partition, OPEN_SUB);
        done(&mut w, id, &Request::Subscribe(again));
        // Of a queue, too: what it holds is for others then.
        let queue = scene.queue;
        let push = Request::QueueSubscribe(QueueSubscribe {
            handle: queue,
            partition: scene.cached(),
            subscription: SubscriptionId(3),
            lease_ms: 0,
            in_flight_max: 0,
            credit_records: 10,
            credit_bytes: 1 << 20,
            group: "",
        });
        done(&mut w, id, &push);
        assert!(matches!(w.ask(0, end(3)), View::Done(true)));
        let got = w.got(id, 3);
        assert!(
            matches!(&got[..], [.., Got::End(end), Got::Fin] if end.error() == Some(ErrorCode::EndedByOperator)),
            "{got:?}"
        );
    }
}

#[test]
fn the_node_asks_what_leaves_nothing_behind_and_nothing_else() {
    for row in REQUESTS {
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, false);
        let frame = scene.sample(row.opcode, 77);
        let all = [(STREAM, "s"), (STREAM, "d"), (CACHE, "c"), (QUEUE, "q")];
        let mut good = 0;
        for (kind, name) in all {
            let id = w.resource(kind, name).id;
            for core in 0..2 {
                for partition in 0..2 {
                    match request(&mut w, core, id, partition, &frame) {
                        View::Reply(frame) => {
                            let answer = answer(View::Reply(frame));
                            assert_eq!(answer.correlation, 77);
                            let code = answer.code();
                            // What "s" and "d" are asked about is in one of them.
                            let other = [ErrorCode::CursorUnknown, ErrorCode::Unsupported];
                            let other = code.is_none_or(|code| other.contains(&code));
                            assert!(other, "{} {answer:?}", row.name);
                            good += usize::from(code.is_none());
                        }
                        View::Refused(refusal) => assert!(
                            [
                                ErrorCode::Unsupported,
                                ErrorCode::WrongKind,
                                ErrorCode::WrongPartition
                            ]
                            .contains(&refusal.code),
                            "{} {refusal:?}",
                            row.name
                        ),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        let asks = [
            opcode::FETCH,
            opcode::STREAM_INFO,
            opcode::CURSOR_COMMIT,
            opcode::CURSOR_GET,
            opcode::CURSOR_LIST,
            opcode::CURSOR_DELETE,
            opcode::CACHE_GET,
            opcode::CACHE_DELETE,
            opcode::CACHE_SCAN,
            opcode::CACHE_INFO,
            opcode::QUEUE_PEEK,
            opcode::QUEUE_DEAD_LIST,
            opcode::QUEUE_DEAD_REPLAY,
            opcode::QUEUE_DEAD_PURGE,
            opcode::QUEUE_INFO,
            opcode::QUEUE_WHY,
            opcode::QUEUE_GROUP,
        ];
        assert_eq!(good > 0, asks.contains(&row.opcode), "{} {good}", row.name);
    }
}

#[test]
fn what_waits_for_the_disk_is_answered_when_the_disk_has_it() {
    let mut w = World::new(crate::harness::Setup {
        disk_latency: Duration::from_millis(5),
        ..Default::default()
    });
    let id = w.client(0, ADMIN);
    let once = QueueSpec {
        max_attempts: 1,
        ..QueueSpec::UNSET
    };
    let queue = declare(&mut w, id, spec(once));
    // More than memory holds, so that bodies are read from the log.
    let large = vec![b'x'; 40 << 10];
    for _ in 0..8 {
        let records = crate::harness::batch(&[&large]);
        let put = Request::QueuePut(QueuePut {
            handle: queue,
            partition: PartitionId(0),
            producer: None,
            delay_ms: 0,
            ttl_ms: 0,
            record_count: 1,
            records: &records,
        });
        w.send(id, &put);
    }
    for _ in 0..20 {
        w.advance(Duration::from_millis(5));
    }
    let taken = Request::QueueTake(QueueTake {
        handle: queue,
        partition: PartitionId(0),
        max_messages: 1,
        max_bytes: 1 << 20,
        wait_ms: 1000,
        lease_ms: 0,
        group: "",
    });
    let asked = w.send(id, &taken);
    for _ in 0..10 {
        w.advance(Duration::from_millis(5));
    }
    let got = w.answer(id, asked).expect("taken");
    let Reply::Taken(got) = got.reply() else {
        panic!("{got:?}")
    };
    let token = got.messages.iter().next().unwrap().token;
    let mut scratch = Vec::new();
    let nack = Request::QueueNack(QueueNack {
        handle: queue,
        partition: PartitionId(0),
        delay_ms: None,
        error: "no",
        group: "",
        tokens: TokenList::build(&mut scratch, [token]).unwrap(),
    });
    w.send(id, &nack);
    for _ in 0..10 {
        w.advance(Duration::from_millis(5));
    }
    let resource = w.resource(QUEUE, "q").id;
    let look = |w: &mut World, request: &Request<'_>| {
        let mut frame = Vec::new();
        request.encode(5, &mut frame).unwrap();
        let question = Question::Request {
            resource,
            partition: PartitionId(0),
            frame: frame.into(),
        };
        let id = w.question(0, question);
        w.settle();
        assert!(w.view(id).is_none(), "the disk is slow: {request:?}");
        let View::Core(facts) = w.ask(0, Question::Core) else {
            panic!("others are answered meanwhile")
        };
        assert_eq!(facts.questions_waiting, 0);
        for _ in 0..20 {
            w.advance(Duration::from_millis(5));
        }
        answer(w.view(id).expect("answered"))
    };
    let found = look(&mut w, &super::queues::peek_request(queue));
    let Reply::QueuePage(page) = found.reply() else {
        panic!("{found:?}")
    };
    assert_eq!(page.items.iter().count(), 8);
    let mut scratch = Vec::new();
    let replay = Request::QueueDeadReplay(QueueDeadReplay {
        handle: queue,
        partition: PartitionId(0),
        rate_per_s: 0,
        select: DeadSelect::default(),
        group: "",
        ids: IdList::build(&mut scratch, []).unwrap(),
    });
    let moved = look(&mut w, &replay);
    assert_eq!(moved.code(), None, "{moved:?}");
    let (all, _) = partitions(&mut w, 0);
    let facts = of(&all, resource).queue().unwrap();
    assert_eq!((facts.groups.dead, facts.counts.messages), (0, 8));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let mut w = World::two();
    let scene = Scene::new(&mut w, 0, ADMIN, false);
    let stream = w.resource(STREAM, "s").id;
    let at = scene.partition;
    let frame = scene.sample(opcode::STREAM_INFO, 1);
    let ask = request(&mut w, 0, ResourceId(99), at, &frame);
    assert_eq!(refused(ask), ErrorCode::NotFound);
    let ask = request(&mut w, 0, stream, 1 - at, &frame);
    assert_eq!(refused(ask), ErrorCode::WrongPartition);
    let ask = request(&mut w, 1, stream, at, &frame);
    assert_eq!(refused(ask), ErrorCode::WrongPartition);
    for cut in 0..frame.len() {
        let ask = request(&mut w, 0, stream, at, &frame[..cut]);
        assert_eq!(refused(ask), ErrorCode::Malformed);
    }
    let two = [&frame[..], &frame].concat();
    let ask = request(&mut w, 0, stream, at, &two);
    assert_eq!(refused(ask), ErrorCode::Malformed);
    w.delete(stream);
    let ask = request(&mut w, 0, stream, at, &frame);
    assert_eq!(refused(ask), ErrorCode::NotFound);
    w.tell(|| pinion_node::mail::CoreMail::Drain);
    w.settle();
    let durable = w.resource(STREAM, "d").id;
    let ask = request(&mut w, 0, durable, at, &frame);
    assert_eq!(refused(ask), ErrorCode::Draining);
}
