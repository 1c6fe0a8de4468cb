//! Brokers come, drain, fail, come back and go.

use pinion_metadata::broker::{Broker, BrokerFacts, BrokerStatus, Capacity, Label};
use pinion_metadata::command::{BatchItem, BrokerDown, Declare, RegisterBroker, SetDraining};
use pinion_metadata::limits::{BROKERS_MAX, LABELS_MAX};
use pinion_metadata::{
    Body, BrokerNumber, Command, Expect, MetaCode, MetaError, Object, ObjectKey, ObjectKind,
};
use pinion_types::{ResourceId, ResourceKind, WallMs};

use crate::support::{
    OPEN, Replica, create_namespace, declare, delete, envelope, facts, object, register, seat,
};

const STREAM: ResourceKind = ResourceKind::Stream;

fn broker(object: &Object) -> &Broker {
    match &object.body {
        Body::Broker(broker) => broker,
        other => panic!("{other:?}"),
    }
}

fn of<'a>(replica: &'a Replica, name: &str) -> &'a Broker {
    broker(replica.get(&ObjectKey::broker(name)))
}

fn again(name: &str, incarnation: u64, gone: Option<u64>) -> Command {
    Command::RegisterBroker(RegisterBroker {
        name: name.into(),
        facts: facts("eu", "a"),
        incarnation,
        gone,
    })
}

fn drain(name: &str, draining: bool) -> Command {
    Command::SetDraining(SetDraining {
        name: name.into(),
        draining,
    })
}

fn missed(name: &str, incarnation: u64) -> Command {
    Command::BrokerDown(BrokerDown {
        name: name.into(),
        incarnation,
    })
}

#[test]
fn a_broker_keeps_its_number_in_every_life() {
    let mut replica = Replica::new();
    let made = replica.done(register("a", 10));
    assert_eq!(broker(object(&made)).number, BrokerNumber(1));
    assert_eq!(broker(object(&made)).status(), BrokerStatus::Active);
    replica.done(register("b", 20));
    let same = replica.done(register("a", 10));
    assert!(same.changes.is_empty(), "it only says so again");

    let mut later = envelope(again("a", 11, Some(10)));
    later.stamp = WallMs(2_000);
    assert!(replica.apply(&later).result.is_ok());
    let now = of(&replica, "a");
    assert_eq!(now.number, BrokerNumber(1));
    assert_eq!((now.incarnation, now.registered), (11, WallMs(2_000)));
    assert_eq!(&*now.facts.zone, "a", "it says something else now");
    let found = replica.state.broker(BrokerNumber(1)).unwrap();
    assert_eq!(found.meta.key, ObjectKey::broker("a"));
    assert_eq!(replica.state.broker(BrokerNumber(3)), None);
    replica.restart();
    assert!(replica.state.broker(BrokerNumber(2)).is_some());
}

#[test]
fn a_second_process_of_a_name_waits_for_the_end_of_the_first() {
    let mut replica = Replica::new();
    replica.done(register("a", 10));
    let alive = MetaError::BrokerAlive { incarnation: 10 };
    for gone in [None, Some(9), Some(11)] {
        let applied = replica.apply(&envelope(again("a", 11, gone)));
        assert_eq!(applied.result, Err(alive.clone()), "{gone:?}");
    }
    replica.done(missed("a", 10));
    replica.done(again("a", 11, None));
    assert_eq!(of(&replica, "a").down, None);
}

#[test]
fn only_the_life_that_was_missed_is_down() {
    let mut replica = Replica::new();
    replica.done(register("a", 10));
    replica.refused(missed("a", 9), MetaCode::OtherIncarnation);
    replica.done(missed("a", 10));
    assert_eq!(of(&replica, "a").status(), BrokerStatus::Down);
    let since = of(&replica, "a").down;
    let mut later = envelope(missed("a", 10));
    later.stamp = WallMs(9_000);
    assert!(replica.apply(&later).changes.is_empty(), "it was before");
    assert_eq!(of(&replica, "a").down, since);
    // It was only slow: the same life says that it is there.
    replica.done(register("a", 10));
    assert_eq!(of(&replica, "a").status(), BrokerStatus::Active);
    replica.refused(missed("b", 1), MetaCode::NotFound);
}

#[test]
fn a_broker_that_drains_does_so_until_it_is_told_otherwise() {
    let mut replica = Replica::new();
    replica.done(register("a", 10));
    replica.done(drain("a", true));
    assert_eq!(of(&replica, "a").status(), BrokerStatus::Draining);
    replica.done(missed("a", 10));
    assert_eq!(of(&replica, "a").status(), BrokerStatus::Down);
    replica.done(again("a", 11, None));
    assert_eq!(of(&replica, "a").status(), BrokerStatus::Draining);
    assert!(replica.done(drain("a", true)).changes.is_empty());
    replica.done(drain("a", false));
    assert_eq!(of(&replica, "a").status(), BrokerStatus::Active);
}

#[test]
fn nothing_is_declared_where_nobody_serves() {
    let mut replica = Replica::new();
    replica.done(register("a", 10));
    replica.done(register("b", 20));
    replica.done(create_namespace("default", "n", OPEN));
    let on = |leader, replicas: &[u32]| {
        let mut command = Declare {
            seats: Box::new([seat(leader, replicas, 0)]),
            ..declare(STREAM, "default", "n", "x")
        };
        command.spec.replication_factor = 3;
        Command::Declare(command)
    };
    replica.refused(on(3, &[]), MetaCode::BrokerUnavailable);
    replica.refused(on(1, &[3]), MetaCode::BrokerUnavailable);
    replica.done(missed("b", 20));
    replica.refused(on(2, &[]), MetaCode::BrokerUnavailable);
    let down = replica.apply(&envelope(on(1, &[2])));
    let unavailable = MetaError::BrokerUnavailable(BrokerNumber(2));
    assert_eq!(down.result, Err(unavailable));
    replica.done(drain("a", true));
    replica.done(on(1, &[]));

    // A broker of the same batch is there.
    let item = |command| BatchItem {
        expect: Expect::Any,
        command,
    };
    let mut second = declare(STREAM, "default", "n", "y");
    second.seats = Box::new([seat(3, &[], 0)]);
    let second = Command::Declare(second);
    let batch = [item(register("c", 30)), item(second)];
    replica.done(Command::Batch(Box::new(batch)));
    // And one that the batch took away is not.
    let gone = [
        item(drain("d", true)),
        item(Command::RemoveBroker("d".into())),
        item(Command::Declare(Declare {
            name: "z".into(),
            seats: Box::new([seat(4, &[], 0)]),
            ..declare(STREAM, "default", "n", "z")
        })),
    ];
    replica.done(register("d", 40));
    let gone = replica.apply(&envelope(Command::Batch(Box::new(gone))));
    let Err(MetaError::Batch { at: 2, error }) = gone.result else {
        panic!("{gone:?}");
    };
    assert_eq!(error.code(), MetaCode::BrokerUnavailable);
}

#[test]
fn a_broker_goes_when_nothing_is_on_it() {
    let mut replica = Replica::new();
    for name in ["a", "b", "c"] {
        replica.done(register(name, 1));
    }
    replica.done(create_namespace("default", "n", OPEN));
    for name in ["x", "y"] {
        let mut command = declare(STREAM, "default", "n", name);
        command.spec.replication_factor = 2;
        command.seats = Box::new([seat(2, &[1], 0)]);
        replica.done(Command::Declare(command));
    }
    let remove = |name: &str| Command::RemoveBroker(name.into());
    replica.refused(remove("c"), MetaCode::StillActive);
    replica.done(drain("c", true));
    replica.done(remove("c"));
    for name in ["a", "b"] {
        replica.done(drain(name, true));
    }
    let leads = replica.apply(&envelope(remove("b")));
    let still = |leads, copies| {
        Err(MetaError::StillLeading {
            leads,
            copies,
            arriving: 0,
        })
    };
    assert_eq!(leads.result, still(2, 0));
    let copies = replica.apply(&envelope(remove("a")));
    assert_eq!(copies.result, still(0, 2));
    assert_eq!(replica.state.broker_usage(BrokerNumber(2)).leads, 2);

    // What is deleted can come back, and so it is still there.
    for name in ["x", "y"] {
        let key = ObjectKey::resource(STREAM, "default", "n", name);
        replica.done(delete(&key, true, 0));
        replica.refused(remove("b"), MetaCode::StillLeading);
        replica.done(Command::Purge(key));
    }
    // Nobody waits for a broker that is gone.
    let pending = |replica: &Replica, id| {
        let tombstone = replica.state.get(&ObjectKey::Tombstone(ResourceId(id)));
        match tombstone.map(|object| &object.body) {
            Some(Body::Tombstone(tombstone)) => tombstone.pending.to_vec(),
            _ => Vec::new(),
        }
    };
    assert_eq!(pending(&replica, 1), [BrokerNumber(1), BrokerNumber(2)]);
    replica.done(remove("b"));
    assert_eq!(pending(&replica, 1), [BrokerNumber(1)]);
    let last = replica.done(remove("a"));
    assert_eq!(last.changes.len(), 3, "the broker and both tombstones");
    assert!(pending(&replica, 2).is_empty());
    replica.restart();
    let other = replica.done(register("a", 1));
    assert_eq!(broker(object(&other)).number, BrokerNumber(4));
}

#[test]
fn what_a_broker_says_of_itself_is_checked() {
    let mut replica = Replica::new();
    let good = || facts("", "");
    let label = |name: &str| Label {
        name: name.into(),
        value: "".into(),
    };
    let with = |capacity| BrokerFacts { capacity, ..good() };
    let capacity = good().capacity;
    for (facts, code) in [
        (
            BrokerFacts {
                address: "nowhere".into(),
                ..good()
            },
            MetaCode::BadAddress,
        ),
        (facts(&"r".repeat(65), ""), MetaCode::BadSpec),
        (facts("", "a\n"), MetaCode::BadText),
        (
            BrokerFacts {
                labels: Box::new([label("a"), label("a")]),
                ..good()
            },
            MetaCode::LabelOrder,
        ),
        (
            BrokerFacts {
                labels: Box::new([label("")]),
                ..good()
            },
            MetaCode::BadSpec,
        ),
        (
            BrokerFacts {
                labels: (0..=LABELS_MAX)
                    .map(|at| label(&format!("{at:02}")))
                    .collect(),
                ..good()
            },
            MetaCode::BadSpec,
        ),
        (
            with(Capacity {
                max_shards: 0,
                ..capacity
            }),
            MetaCode::BadSpec,
        ),
        (
            with(Capacity {
                cores: 0,
                ..capacity
            }),
            MetaCode::BadSpec,
        ),
        (
            with(Capacity {
                logs: 0,
                ..capacity
            }),
            MetaCode::BadSpec,
        ),
    ] {
        let command = RegisterBroker {
            name: "a".into(),
            facts,
            incarnation: 1,
            gone: None,
        };
        replica.refused(Command::RegisterBroker(command), code);
    }
    for name in ["", "A", "a/b"] {
        replica.refused(register(name, 1), MetaCode::BadName);
        replica.refused(Command::RemoveBroker(name.into()), MetaCode::BadName);
        replica.refused(drain(name, true), MetaCode::BadName);
        replica.refused(missed(name, 1), MetaCode::BadName);
    }
}

#[test]
fn there_are_so_many_brokers_and_no_more() {
    let mut replica = Replica::new();
    for at in 0..BROKERS_MAX {
        let index = replica.state.applied_index() + 1;
        let command = register(&format!("b{at}"), 1);
        let applied = replica.state.apply(index, &envelope(command));
        assert!(applied.result.is_ok());
    }
    replica.refused(register("more", 1), MetaCode::LimitReached);
    replica.done(register("b0", 1));
    let query = pinion_metadata::ListQuery {
        kind: ObjectKind::Broker,
        under: None,
        filter: pinion_metadata::Filter::Prefix("b10".into()),
        deleted: false,
        limit: 100,
        after: None,
    };
    assert_eq!(
        replica.state.list(&query).items.len(),
        35,
        "b10, b100 to b109, b1000 to b1023"
    );
    replica.restart();
}
