//! Credentials of the cluster on data connections: let in, over, revoked.

use std::sync::Arc;
use std::time::Duration;

use pinion_auth::compile::{TableBuilder, TenantFacts};
use pinion_auth::keyring::{Keyring, StoredKey};
use pinion_auth::policies::Policies;
use pinion_auth::seal::MasterKey;
use pinion_auth::spiffe::SpiffeId;
use pinion_auth::token::{Claims, Jti, Realm, SKEW_MS};
use pinion_metadata::{ActionPattern, PolicyObject, Subject};
use pinion_node::access::TenantId;
use pinion_node::mail::CoreMail;
use pinion_node::{EXPIRY_LOOK_MAX, LEAVE_WAIT, SIGNATURES_PER_TURN_MAX};
use pinion_session::CloseCode;
use pinion_types::{ErrorCode, PartitionId, ResourceKind, WallMs};
use pinion_wire::message::{Handle, Hello, MAGIC, QueueTake, Reply, Request};

use super::queues::{put, take_in};
use super::{done, published, subscribe};
use crate::harness::{ADMIN, Got, Id, World, batch, table};

const WORKLOAD: &str = "spiffe://cluster.local/ns/shop/sa/orders";

/// How long a token of these stories lives.
const LIFE: Duration = Duration::from_secs(900);

/// Tenant 1, as the metadata has it.
struct Tenant {
    master: MasterKey,
    revoked: Vec<Jti>,
}

impl Tenant {
    fn new() -> Self {
        Self {
            master: MasterKey::new(&[0; 32]),
            revoked: Vec::new(),
        }
    }

    fn key(&self, number: u8) -> StoredKey {
        StoredKey::fresh(&self.master, TenantId(1), &[number; 32], [number; 12])
    }

    /// A token that may publish and subscribe, put and consume.
    fn token(&self, issued: WallMs, number: u8) -> String {
        let claims = Claims {
            subject: "p:ana".into(),
            tenant: "t1".into(),
            issued: WallMs(issued.0 / 1000 * 1000),
            expires: WallMs(issued.0 / 1000 * 1000 + 1000 * LIFE.as_secs()),
            jti: Jti([number; 16]),
            permissions: [
                "stream.publish:stream:t1/*".into(),
                "stream.subscribe:stream:t1/*".into(),
                "queue.consume:queue:t1/*".into(),
            ]
            .into(),
        };
        let key = self.key(1).open(&self.master, TenantId(1)).unwrap();
        key.issue(&Realm::of(&[1; 16]), &claims).unwrap()
    }

    /// What the cores are told now: the tokens of the configuration, and these.
    fn tell(&self, w: &mut World) {
        let domains = vec![("cluster.local".into(), "t1".into())];
        let mut builder = TableBuilder::new(Realm::of(&[1; 16]), domains);
        let mut policies = Policies::new("t1");
        policies.allow(
            &Subject::parse(WORKLOAD).unwrap(),
            ActionPattern::parse("stream.subscribe").unwrap(),
            &PolicyObject::parse("stream:t1/*").unwrap(),
        );
        let facts = TenantFacts {
            id: TenantId(1),
            name: "t1".into(),
            keys: Some(Keyring {
                current: self.key(1),
                next: self.key(2),
                previous: None,
            }),
            api_keys: Vec::new(),
            revoked_tokens: self.revoked.clone(),
            revoked_subjects: Vec::new(),
            policies,
        };
        builder.handle_tenant(facts).unwrap();
        let credentials = builder.poll_table().expect("a table");
        let access = Arc::new(table().with_credentials(credentials));
        w.tell(|| CoreMail::Access(Arc::clone(&access)));
        w.settle();
    }
}

/// A stream and a queue that the configuration's administrator has declared.
fn declared(w: &mut World) -> (Id, Handle) {
    let admin = w.client(0, ADMIN);
    let stream = w.declare(admin, ResourceKind::Stream, "s", 2);
    w.declare(admin, ResourceKind::Queue, "q", 1);
    (admin, stream)
}

fn hello(token: &str) -> Request<'_> {
    Request::Hello(Hello {
        magic: MAGIC,
        version_min: 1,
        version_max: 1,
        capabilities: 0,
        token: token.as_bytes(),
        client_name: "test",
    })
}

/// Takes one message, or waits for it for half a minute.
fn waiting_take(handle: Handle) -> Request<'static> {
    Request::QueueTake(QueueTake {
        handle,
        partition: PartitionId(0),
        max_messages: 1,
        max_bytes: 1 << 20,
        wait_ms: 30_000,
        lease_ms: 0,
        group: "",
    })
}

#[track_caller]
fn ended(got: &[Got], code: ErrorCode) {
    let [Got::End(end), Got::Fin] = got else {
        panic!("{got:?}")
    };
    assert_eq!(end.error(), Some(code));
}

#[test]
fn a_token_is_let_in_and_its_connection_ends_with_it() {
    for core in 0..2 {
        let mut w = World::two();
        let (admin, stream) = declared(&mut w);
        let tenant = Tenant::new();
        let token = tenant.token(w.wall, 7);
        let early = w.connect(core);
        let refused = w.hello(early, token.as_bytes());
        assert_eq!(refused.code(), Some(ErrorCode::Unauthenticated));
        tenant.tell(&mut w);

        let ana = w.client(core, token.as_bytes());
        let opened = w.open(ana, ResourceKind::Stream, "s");
        published(&mut w, ana, opened, 0, &[b"one"]);
        for partition in 0..2 {
            let subscribe = subscribe(opened, partition, u32::from(partition));
            done(&mut w, ana, &Request::Subscribe(subscribe));
        }
        assert_eq!(w.got(ana, 0).len(), 1);
        let cache = w.try_open(ana, ResourceKind::Cache, "c", None);
        assert_eq!(cache.code(), Some(ErrorCode::Forbidden), "not in the token");

        let over = LIFE + Duration::from_millis(SKEW_MS);
        w.advance(over - Duration::from_secs(1));
        published(&mut w, admin, stream, 0, &[b"two"]);
        assert_eq!(w.got(ana, 0).len(), 1, "it counts until it is over");
        w.clients[ana].acks_held = true;
        w.advance(Duration::from_secs(1));
        assert_eq!(
            w.closed(ana),
            None,
            "it may read how its subscriptions ended"
        );
        for subscription in 0..2 {
            ended(&w.got(ana, subscription), ErrorCode::Unauthenticated);
        }
        w.clients[ana].release_acks();
        w.settle();
        assert_eq!(w.closed(ana), Some(CloseCode::Unauthenticated));
        assert_eq!(w.closed(admin), None);
        let again = w.connect(core);
        let refused = w.hello(again, token.as_bytes());
        assert_eq!(refused.code(), Some(ErrorCode::Unauthenticated));
    }
}

#[test]
fn a_token_is_verified_once_for_a_connection() {
    let mut w = World::two();
    declared(&mut w);
    let tenant = Tenant::new();
    tenant.tell(&mut w);
    let token = tenant.token(w.wall, 7);
    let ana = w.client(0, token.as_bytes());
    assert_eq!(w.stats().signatures, 1);
    let opened = w.open(ana, ResourceKind::Stream, "s");
    for _ in 0..100 {
        published(&mut w, ana, opened, 0, &[b"one"]);
        // Whoever asks the other core is known there, too.
        published(&mut w, ana, opened, 1, &[b"two"]);
    }
    // Neither does a new table, nor the look whether the token still counts.
    tenant.tell(&mut w);
    w.advance(EXPIRY_LOOK_MAX);
    published(&mut w, ana, opened, 0, &[b"three"]);
    assert_eq!(w.stats().signatures, 1);
    w.client(1, token.as_bytes());
    assert_eq!(w.stats().signatures, 2, "another connection shows it anew");
}

#[test]
fn a_wall_clock_that_is_set_forward_is_noticed() {
    let mut w = World::one();
    let tenant = Tenant::new();
    let token = tenant.token(w.wall, 7);
    tenant.tell(&mut w);
    let ana = w.client(0, token.as_bytes());
    w.wall.0 += 2 * 1000 * LIFE.as_secs();
    w.advance(EXPIRY_LOOK_MAX);
    assert_eq!(w.closed(ana), Some(CloseCode::Unauthenticated));
}

#[test]
fn who_is_revoked_asks_for_nothing_more_and_waits_for_nothing_more() {
    for core in 0..2 {
        let mut w = World::two();
        let (admin, _) = declared(&mut w);
        let mut tenant = Tenant::new();
        tenant.tell(&mut w);
        let token = tenant.token(w.wall, 7);
        let ana = w.client(core, token.as_bytes());
        let stays = tenant.token(w.wall, 8);
        let stays = w.client(core, stays.as_bytes());
        let opened = w.open(ana, ResourceKind::Stream, "s");
        let queue = w.open(ana, ResourceKind::Queue, "q");
        done(&mut w, ana, &Request::Subscribe(subscribe(opened, 0, 1)));
        let waits = w.send(ana, &waiting_take(queue));
        w.settle();

        tenant.revoked.push(Jti([7; 16]));
        w.clients[ana].acks_held = true;
        tenant.tell(&mut w);
        ended(&w.got(ana, 1), ErrorCode::Unauthenticated);
        assert_eq!(w.closed(stays), None);
        let queued = w.open(admin, ResourceKind::Queue, "q");
        put(&mut w, admin, queued, &[b"secret"]);
        let taken = take_in(&mut w, admin, queued, "", 1);
        assert_eq!(taken.len(), 1, "nobody who is revoked has it");
        // It does not read, or says that it did not.
        w.advance(LEAVE_WAIT);
        assert!(w.answer(ana, waits).is_none());
        assert_eq!(w.closed(ana), Some(CloseCode::Unauthenticated));
        assert_eq!(w.closed(stays), None);
    }
}

#[test]
fn a_workload_is_let_in_by_its_certificate_alone() {
    let mut w = World::one();
    declared(&mut w);
    Tenant::new().tell(&mut w);
    let nobody = w.connect(0);
    assert_eq!(
        w.hello(nobody, b"").code(),
        Some(ErrorCode::Unauthenticated)
    );
    let id = w.connect(0);
    let conn = w.clients[id].conn;
    w.cores[0].handle_identity(conn, SpiffeId::parse(WORKLOAD).unwrap());
    let welcome = w.hello(id, b"");
    assert!(matches!(welcome.reply(), Reply::Welcome(_)), "{welcome:?}");
    let opened = w.open(id, ResourceKind::Stream, "s");
    done(&mut w, id, &Request::Subscribe(subscribe(opened, 0, 1)));
    let records = batch(&[b"no"]);
    let publish = super::publish(opened, 0, &records);
    w.assert_refused(id, &Request::Publish(publish), ErrorCode::Forbidden);
    // A token of the configuration speaks for itself, whatever the certificate says.
    let admin = w.connect(0);
    let conn = w.clients[admin].conn;
    w.cores[0].handle_identity(conn, SpiffeId::parse(WORKLOAD).unwrap());
    w.hello(admin, ADMIN);
    w.declare(admin, ResourceKind::Stream, "t", 1);
}

#[test]
fn a_crowd_with_tokens_is_let_in_a_few_a_turn() {
    let mut w = World::one();
    let tenant = Tenant::new();
    tenant.tell(&mut w);
    let most = usize::try_from(SIGNATURES_PER_TURN_MAX).unwrap();
    let token = tenant.token(w.wall, 7);
    let crowd: Vec<Id> = (0..3 * most).map(|_| w.connect(0)).collect();
    let asked: Vec<u32> = crowd.iter().map(|id| w.send(*id, &hello(&token))).collect();
    let mut welcomed = 0;
    for turn in 1..=3 {
        w.core_turn(0);
        for (id, asked) in crowd.iter().zip(&asked) {
            if let Some(answer) = w.answer(*id, *asked) {
                assert!(matches!(answer.reply(), Reply::Welcome(_)), "{answer:?}");
                welcomed += 1;
            }
        }
        assert!(welcomed <= turn * most, "{welcomed} after {turn} turns");
        assert_eq!(w.cores[0].has_work(), welcomed < crowd.len(), "{welcomed}");
    }
    w.settle();
    for (id, asked) in crowd.iter().zip(&asked) {
        welcomed += usize::from(w.answer(*id, *asked).is_some());
    }
    assert_eq!(welcomed, crowd.len());
}

#[test]
fn a_connection_that_went_is_not_looked_at_again() {
    let mut w = World::one();
    let tenant = Tenant::new();
    tenant.tell(&mut w);
    let token = tenant.token(w.wall, 7);
    let ana = w.client(0, token.as_bytes());
    w.advance(pinion_node::HELLO_WAIT);
    assert!(w.cores[0].next_deadline().is_some());
    w.disconnect(ana);
    w.settle();
    assert_eq!(w.cores[0].next_deadline(), None);
}
