//! New access tables on many connections: who is judged again, when, and what of that a
//! request can tell.

use std::sync::Arc;

use pinion_auth::compile::{TableBuilder, TenantFacts};
use pinion_auth::policies::Policies;
use pinion_auth::spiffe::SpiffeId;
use pinion_auth::token::Realm;
use pinion_metadata::{ActionPattern, PolicyObject, Subject};
use pinion_node::JUDGED_PER_TURN_MAX;
use pinion_node::access::{AccessTable, Permissions, TenantId};
use pinion_node::mail::CoreMail;
use pinion_session::CloseCode;
use pinion_types::{ErrorCode, Offset, PartitionId, ResourceKind};
use pinion_wire::message::{Handle, Hello, MAGIC, QueuePut, QueueTake, Reply, Request};

use super::queues::{self, put, take_in};
use super::{done, key_in, publish, published, set, subscribe, watch};
use crate::harness::{ADMIN, Got, Id, READER, WRITER, World, batch, table, table_of};

/// A cluster of tenants 1 and 2, whose workloads `spiffe://t1/a` and `spiffe://t2/a` come
/// with a certificate.
struct Cluster {
    builder: TableBuilder,
    table: Arc<AccessTable>,
}

impl Cluster {
    fn new() -> Self {
        let domains = ["t1", "t2"].map(|name| (name.into(), name.into()));
        let mut cluster = Self {
            builder: TableBuilder::new(Realm::of(&[1; 16]), domains.into()),
            table: Arc::new(table()),
        };
        cluster.allow(1, &["stream.subscribe"]);
        cluster.allow(2, &["stream.subscribe"]);
        cluster
    }

    /// What the workload of a tenant may do with its resources from now on.
    fn allow(&mut self, tenant: u64, actions: &[&str]) {
        let name = format!("t{tenant}");
        let mut policies = Policies::new(&name);
        for action in actions {
            let (kind, _) = action.split_once('.').unwrap();
            policies.allow(
                &Subject::parse(&format!("spiffe://{name}/a")).unwrap(),
                ActionPattern::parse(action).unwrap(),
                &PolicyObject::parse(&format!("{kind}:{name}/*")).unwrap(),
            );
        }
        let facts = TenantFacts {
            id: TenantId(tenant),
            name: name.into(),
            keys: None,
            api_keys: Vec::new(),
            revoked_tokens: Vec::new(),
            revoked_subjects: Vec::new(),
            policies,
        };
        self.builder.handle_tenant(facts).unwrap();
    }

    /// The cores are told, and have not had a turn yet.
    fn tell(&mut self, w: &mut World) {
        let before = Arc::clone(&self.table);
        let credentials = self.builder.poll_table();
        let credentials = credentials.or_else(|| before.credentials().cloned());
        let table = table().with_credentials(credentials.expect("there was one"));
        self.table = Arc::new(table.sharing(&before));
        let table = &self.table;
        w.tell(|| CoreMail::Access(Arc::clone(table)));
    }
}

fn hello(token: &[u8]) -> Request<'_> {
    Request::Hello(Hello {
        magic: MAGIC,
        version_min: 1,
        version_max: 1,
        capabilities: 0,
        token,
        client_name: "test",
    })
}

/// Connections of a tenant's workload.
fn workloads(w: &mut World, tenant: u64, count: usize) -> Vec<Id> {
    let id = SpiffeId::parse(&format!("spiffe://t{tenant}/a")).unwrap();
    let crowd: Vec<Id> = (0..count).map(|_| w.connect(0)).collect();
    for one in &crowd {
        let conn = w.clients[*one].conn;
        w.cores[0].handle_identity(conn, id.clone());
    }
    let asked: Vec<u32> = crowd.iter().map(|id| w.send(*id, &hello(b""))).collect();
    w.settle();
    for (id, asked) in crowd.iter().zip(asked) {
        let answer = w.answer(*id, asked).unwrap();
        assert!(matches!(answer.reply(), Reply::Welcome(_)), "{answer:?}");
    }
    crowd
}

/// What the control thread has said is in the cores' boxes, and no core has had a turn.
fn posted(w: &mut World) {
    assert!(w.control_turn());
}

#[test]
fn who_is_of_a_tenant_that_did_not_change_is_not_judged_again() {
    let mut w = World::one();
    let mut cluster = Cluster::new();
    cluster.tell(&mut w);
    w.settle();
    let admin = w.client(0, ADMIN);
    let stream = w.declare(admin, ResourceKind::Stream, "s", 1);
    let ours = workloads(&mut w, 1, 30);
    let theirs = workloads(&mut w, 2, 20);
    let opened = w.open(ours[3], ResourceKind::Stream, "s");
    let before = w.stats().judged;

    // Nothing changed, or what is said again is what was said before.
    cluster.tell(&mut w);
    w.settle();
    cluster.allow(2, &["stream.subscribe"]);
    cluster.tell(&mut w);
    w.settle();
    assert_eq!(w.stats().judged, before);

    cluster.allow(2, &["stream.publish"]);
    cluster.tell(&mut w);
    w.settle();
    assert_eq!(w.stats().judged, before + theirs.len() as u64);
    // Neither are they judged when they ask for something.
    done(
        &mut w,
        ours[3],
        &Request::Subscribe(subscribe(opened, 0, 1)),
    );
    published(&mut w, admin, stream, 0, &[b"one"]);
    assert_eq!(w.got(ours[3], 1).len(), 1);
    assert_eq!(w.stats().judged, before + theirs.len() as u64);

    cluster.allow(1, &["stream.publish"]);
    cluster.tell(&mut w);
    w.settle();
    let both = (ours.len() + theirs.len()) as u64;
    assert_eq!(w.stats().judged, before + both);
    let [Got::End(end), Got::Fin] = &w.got(ours[3], 1)[..] else {
        panic!("its right is gone")
    };
    assert_eq!(end.error(), Some(ErrorCode::Forbidden));
    published(&mut w, ours[3], opened, 0, &[b"two"]);
}

#[test]
fn ten_thousand_connections_are_judged_a_few_a_turn() {
    const CROWD: usize = 10_000;
    let mut w = World::one();
    let mut cluster = Cluster::new();
    cluster.tell(&mut w);
    w.settle();
    workloads(&mut w, 1, CROWD);
    let begin = w.stats().judged;
    cluster.allow(1, &["stream.publish"]);
    cluster.tell(&mut w);
    posted(&mut w);
    let (mut turns, mut judged) = (0, begin);
    while w.stats().judged < begin + CROWD as u64 {
        w.core_turn(0);
        turns += 1;
        let now = w.stats().judged;
        let most = JUDGED_PER_TURN_MAX as u64;
        assert!(now - judged <= most, "{} in turn {turns}", now - judged);
        assert!(now > judged, "turn {turns} did nothing");
        judged = now;
        // Whoever drives the core does not wait for something else to happen.
        assert!(w.cores[0].has_work() || judged == begin + CROWD as u64);
    }
    assert!(turns >= CROWD / JUDGED_PER_TURN_MAX, "{turns} turns");
    w.settle();
    assert!(!w.cores[0].has_work());
    assert_eq!(w.stats().judged, begin + CROWD as u64, "each once");
}

/// More than one turn judges, so that the last of them is not come to in the first.
const CROWD: usize = 2 * JUDGED_PER_TURN_MAX;

#[test]
fn who_was_not_come_to_yet_asks_and_is_given_by_the_newest_table() {
    let mut w = World::one();
    let mut cluster = Cluster::new();
    cluster.tell(&mut w);
    w.settle();
    let admin = w.client(0, ADMIN);
    let stream = w.declare(admin, ResourceKind::Stream, "s", 1);
    cluster.allow(1, &["stream.publish", "stream.subscribe"]);
    cluster.tell(&mut w);
    w.settle();
    let crowd = workloads(&mut w, 1, CROWD);
    let (asks, reads) = (crowd[CROWD - 1], crowd[CROWD - 2]);
    let handles = [asks, reads].map(|id| w.open(id, ResourceKind::Stream, "s"));
    done(
        &mut w,
        reads,
        &Request::Subscribe(subscribe(handles[1], 0, 1)),
    );
    published(&mut w, asks, handles[0], 0, &[b"one"]);
    assert_eq!(w.got(reads, 1).len(), 1);

    let begin = w.stats().judged;
    cluster.allow(1, &[]);
    cluster.tell(&mut w);
    posted(&mut w);
    let records = batch(&[b"two"]);
    let refused = w.send(asks, &Request::Publish(publish(handles[0], 0, &records)));
    let taken = w.send(admin, &Request::Publish(publish(stream, 0, &records)));
    w.core_turn(0);
    let judged = w.stats().judged - begin;
    assert!(judged < CROWD as u64, "{judged} in one turn");
    let answer = w.answer(asks, refused).expect("answered in its turn");
    assert_eq!(answer.code(), Some(ErrorCode::Forbidden));
    assert!(w.answer(admin, taken).unwrap().code().is_none());
    w.settle();
    revoked(&w.got(reads, 1));
    // Each was judged once, early or in its round.
    assert_eq!(w.stats().judged - begin, CROWD as u64);
}

/// Nothing came any more, and END says that who had it goes on from what it has: what the
/// partition gave last did not go out.
fn revoked(got: &[Got]) {
    let [Got::End(end), Got::Fin] = got else {
        panic!("{got:?}")
    };
    assert_eq!(end.error(), Some(ErrorCode::Forbidden));
    assert_eq!(end.next, Offset::ZERO);
}

/// The first partition of a resource that the other core has.
fn far(w: &World, kind: ResourceKind, name: &str) -> u16 {
    (0..FAR)
        .find(|partition| w.owner(1, kind, name, *partition) == 1)
        .expect("the other core has one of them")
}

const FAR: u16 = 8;

#[test]
fn what_another_core_has_sent_to_who_is_not_come_to_yet_does_not_go_out() {
    let mut w = World::two();
    let mut cluster = Cluster::new();
    cluster.tell(&mut w);
    w.settle();
    let admin = w.client(1, ADMIN);
    let stream = w.declare(admin, ResourceKind::Stream, "s", FAR);
    let partition = far(&w, ResourceKind::Stream, "s");
    let crowd = workloads(&mut w, 1, CROWD);
    let reads = crowd[CROWD - 1];
    let handle = w.open(reads, ResourceKind::Stream, "s");
    done(
        &mut w,
        reads,
        &Request::Subscribe(subscribe(handle, partition, 1)),
    );
    published(&mut w, admin, stream, partition, &[b"one"]);
    assert_eq!(w.got(reads, 1).len(), 1);

    // Two are on their way when the table comes.
    let records = batch(&[b"two", b"three"]);
    w.send(
        admin,
        &Request::Publish(publish(stream, partition, &records)),
    );
    w.core_turn(1);
    cluster.allow(1, &[]);
    cluster.tell(&mut w);
    posted(&mut w);
    w.mute = Some(1);
    w.core_turn(0);
    w.mute = None;
    w.settle();
    revoked(&w.got(reads, 1));
}

#[test]
fn an_event_of_another_core_is_whole_or_not_there() {
    let mut w = World::two();
    let mut cluster = Cluster::new();
    cluster.allow(1, &["cache.read"]);
    cluster.tell(&mut w);
    w.settle();
    let admin = w.client(1, ADMIN);
    let cache = w.declare(admin, ResourceKind::Cache, "c", FAR);
    let partition = far(&w, ResourceKind::Cache, "c");
    let looks = workloads(&mut w, 1, 1)[0];
    let handle = w.open(looks, ResourceKind::Cache, "c");
    done(
        &mut w,
        looks,
        &Request::CacheWatch(watch(handle, partition, 1)),
    );
    // Between what comes of two changes the right is lost, wherever that is.
    let key = key_in(partition, FAR);
    for value in [b"one", b"two"] {
        w.send(admin, &Request::CacheSet(set(cache, &key, value)));
    }
    w.core_turn(1);
    let mut later = w.boxes[0][1].split_off(1);
    w.core_turn(0);
    cluster.allow(1, &[]);
    cluster.tell(&mut w);
    posted(&mut w);
    w.core_turn(0);
    w.boxes[0][1].append(&mut later);
    w.settle();
    let got = w.got(looks, 1);
    let (events, end) = got.split_at(got.len() - 2);
    let is_one =
        |got: &Got| matches!(got, Got::Event { value: Some(value), .. } if value == b"one");
    assert!(events.len() == 1 && events.iter().all(is_one), "{got:?}");
    revoked(end);
}

#[test]
fn what_is_reserved_for_who_loses_the_right_to_it_is_ready_again() {
    let mut w = World::one();
    let mut cluster = Cluster::new();
    cluster.allow(1, &["queue.consume"]);
    cluster.tell(&mut w);
    w.settle();
    let admin = w.client(0, ADMIN);
    let queue = w.declare(admin, ResourceKind::Queue, "q", 1);
    let crowd = workloads(&mut w, 1, CROWD);
    let takes = crowd[CROWD - 1];
    let handle = w.open(takes, ResourceKind::Queue, "q");
    queues::subscribe(&mut w, takes, handle, 1, 10);
    cluster.allow(1, &[]);
    cluster.tell(&mut w);
    posted(&mut w);
    let asked = w.send(
        admin,
        &put_request(queue, PartitionId(0), &batch(&[b"secret"])),
    );
    w.core_turn(0);
    w.settle();
    assert!(w.answer(admin, asked).unwrap().code().is_none());
    revoked(&w.got(takes, 1));
    let taken = take_in(&mut w, admin, queue, "", 1);
    assert_eq!(taken.len(), 1, "at once");
    assert_eq!(taken[0].1, 1, "nobody had tried before");
}

#[test]
fn a_take_that_is_answered_while_the_node_drains_is_not_lost_to_the_table() {
    let mut w = World::two();
    let mut cluster = Cluster::new();
    cluster.allow(1, &["queue.consume"]);
    cluster.tell(&mut w);
    w.settle();
    let admin = w.client(1, ADMIN);
    let queue = w.declare(admin, ResourceKind::Queue, "q", FAR);
    let partition = PartitionId(far(&w, ResourceKind::Queue, "q"));
    let takes = workloads(&mut w, 1, 1)[0];
    let handle = w.open(takes, ResourceKind::Queue, "q");
    let take = waiting_take(handle, partition);
    let waits = w.send(takes, &take);
    w.settle();
    // Of somebody else: who takes is behind, and stays so until there is a reason to look.
    cluster.allow(2, &["stream.publish"]);
    cluster.tell(&mut w);
    w.settle();
    let records = batch(&[b"work"]);
    w.send(admin, &put_request(queue, partition, &records));
    w.core_turn(1);
    w.tell(|| CoreMail::Drain);
    posted(&mut w);
    w.mute = Some(1);
    w.core_turn(0);
    w.mute = None;
    w.settle();
    let answer = w.answer(takes, waits).expect("it was taken");
    assert!(matches!(answer.reply(), Reply::Taken(_)), "{answer:?}");
    assert_eq!(w.closed(takes), Some(CloseCode::Draining));
}

#[test]
fn what_another_core_took_for_who_has_left_is_not_sent() {
    let mut w = World::two();
    let admin = w.client(1, ADMIN);
    let queue = w.declare(admin, ResourceKind::Queue, "q", FAR);
    let partition = PartitionId(far(&w, ResourceKind::Queue, "q"));
    let gone = w.client(0, WRITER);
    let opened = w.open(gone, ResourceKind::Queue, "q");
    let waits = w.send(gone, &waiting_take(opened, partition));
    w.settle();
    let records = batch(&[b"secret"]);
    w.send(admin, &put_request(queue, partition, &records));
    w.core_turn(1);
    // It leaves while the answer is on its way, and there is another table before that comes.
    w.mute = Some(1);
    for _ in 0..2 {
        let table = Arc::new(table_of(&[(ADMIN, 1, Permissions::ALL)]));
        w.tell(|| CoreMail::Access(Arc::clone(&table)));
        posted(&mut w);
        w.core_turn(0);
    }
    w.mute = None;
    w.settle();
    assert!(w.answer(gone, waits).is_none(), "it is somebody else's");
    let taken = w.call(admin, &waiting_take(queue, partition));
    assert!(matches!(taken.reply(), Reply::Taken(_)), "{taken:?}");
    assert_eq!(w.closed(gone), Some(CloseCode::Unauthenticated));
}

#[test]
fn who_was_not_come_to_yet_and_is_nobody_any_more_takes_no_message() {
    let mut w = World::one();
    let admin = w.client(0, ADMIN);
    let queue = w.declare(admin, ResourceKind::Queue, "q", 1);
    let crowd: Vec<Id> = (0..CROWD).map(|_| w.connect(0)).collect();
    for one in &crowd {
        w.send(*one, &hello(READER));
    }
    w.settle();
    let gone = w.client(0, WRITER);
    let opened = w.open(gone, ResourceKind::Queue, "q");
    let waits = w.send(gone, &waiting_take(opened, PartitionId(0)));
    w.settle();

    let all = [(ADMIN, 1, Permissions::ALL), (READER, 1, Permissions::READ)];
    let table = Arc::new(table_of(&all));
    w.tell(|| CoreMail::Access(Arc::clone(&table)));
    posted(&mut w);
    let records = batch(&[b"secret"]);
    w.send(admin, &put_request(queue, PartitionId(0), &records));
    w.core_turn(0);
    assert!(w.answer(gone, waits).is_none());
    w.settle();
    assert!(w.answer(gone, waits).is_none(), "nor later");
    assert_eq!(w.closed(crowd[CROWD - 1]), None);
    put(&mut w, admin, queue, &[b"more"]);
    let taken = take_in(&mut w, admin, queue, "", 2);
    assert_eq!(taken.len(), 2, "nobody who is revoked has one");
    w.advance(pinion_node::LEAVE_WAIT);
    assert_eq!(w.closed(gone), Some(CloseCode::Unauthenticated));
}

/// Puts one message.
fn put_request(handle: Handle, partition: PartitionId, records: &[u8]) -> Request<'_> {
    Request::QueuePut(QueuePut {
        handle,
        partition,
        producer: None,
        delay_ms: 0,
        ttl_ms: 0,
        record_count: 1,
        records,
    })
}

/// Takes one message, or waits for it for half a minute.
fn waiting_take(handle: Handle, partition: PartitionId) -> Request<'static> {
    Request::QueueTake(QueueTake {
        handle,
        partition,
        max_messages: 1,
        max_bytes: 1 << 20,
        wait_ms: 30_000,
        lease_ms: 0,
        group: "",
    })
}
