//! Which brokers live: who does not say so is down, and comes back by saying who it is.

use core::time::Duration;

use crate::cluster::Cluster;
use crate::support::{NAMES, create_tenant, facts, name};
use pinion_metadata::broker::BrokerStatus;
use pinion_metadata::command::{RegisterBroker, UpdateSettings};
use pinion_metadata::{Command, MetaCode, ObjectKey};
use pinion_plane::{Answer, PeerName, PlaneError};
use pinion_raft_group::Role;
use pinion_simkit::CrashMode;

/// What the tests set: a word each second, and three to be missed.
const PATIENCE: Duration = Duration::from_secs(3);

fn formed(seed: u64) -> (Cluster, usize) {
    let mut cluster = Cluster::forming(seed, 3);
    cluster.until(Duration::from_secs(20), |cluster| {
        cluster.agrees() && cluster.leader().is_some()
    });
    let leader = cluster.leader().unwrap();
    let id = cluster.nodes[leader].write(Command::UpdateSettings(UpdateSettings {
        heartbeat_ms: Some(1_000),
        missed: Some(3),
        grace_ms: None,
        token_life_s: None,
    }));
    assert!(matches!(cluster.answer(leader, id), Answer::Written { .. }));
    (cluster, leader)
}

/// As a node has it.
fn status(cluster: &Cluster, at: usize, broker: &str) -> Option<(u64, BrokerStatus)> {
    let machine = cluster.nodes[at].plane.metadata()?;
    let broker = machine.get(&ObjectKey::broker(broker))?.broker()?;
    Some((broker.incarnation, broker.status()))
}

fn is(cluster: &Cluster, at: usize, broker: usize, wanted: BrokerStatus) -> bool {
    status(cluster, at, NAMES[broker]).is_some_and(|(_, status)| status == wanted)
}

#[test]
fn a_node_that_is_silent_is_down_and_one_that_comes_back_registers() {
    let (mut cluster, leader) = formed(1);
    let gone = (leader + 1) % 3;
    cluster.pass(4 * PATIENCE);
    for at in 0..3 {
        assert!(is(&cluster, leader, at, BrokerStatus::Active), "all live");
    }
    let (incarnation, _) = status(&cluster, leader, NAMES[gone]).unwrap();
    cluster.crash(gone, CrashMode::DropUnsynced);
    cluster.pass(PATIENCE - Duration::from_secs(1));
    assert!(is(&cluster, leader, gone, BrokerStatus::Active), "not yet");
    cluster.pass(Duration::from_secs(2));
    assert!(is(&cluster, leader, gone, BrokerStatus::Down));
    cluster.start(gone);
    let back = move |cluster: &Cluster| is(cluster, leader, gone, BrokerStatus::Active);
    cluster.until(PATIENCE, back);
    let (life, _) = status(&cluster, leader, NAMES[gone]).unwrap();
    assert_ne!(life, incarnation);
    cluster.pass(4 * PATIENCE);
    assert!(
        is(&cluster, leader, gone, BrokerStatus::Active),
        "it goes on to say so"
    );
}

#[test]
fn a_leader_that_is_silent_is_down_and_the_new_one_gives_the_others_their_time() {
    let (mut cluster, leader) = formed(2);
    cluster.pass(PATIENCE);
    let version = cluster.nodes[leader].metadata().version();
    cluster.crash(leader, CrashMode::DropUnsynced);
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    cluster.until(PATIENCE, |cluster| cluster.leader().is_some());
    let next = cluster.leader().unwrap();
    cluster.pass(PATIENCE - Duration::from_secs(1));
    assert_eq!(
        cluster.nodes[next].metadata().version(),
        version,
        "nobody is missed yet"
    );
    cluster.pass(Duration::from_secs(3));
    assert!(is(&cluster, next, leader, BrokerStatus::Down));
    for at in others {
        assert!(is(&cluster, next, at, BrokerStatus::Active));
    }
}

#[test]
fn a_broker_that_is_no_node_speaks_to_any_and_the_leader_hears() {
    let (mut cluster, leader) = formed(3);
    let asked = (leader + 1) % 3;
    let outside = PeerName::new("outside").unwrap();
    let beat = |cluster: &mut Cluster, incarnation| {
        cluster.nodes[asked]
            .plane
            .handle_beat(&outside, incarnation)
    };
    let code = |result: Result<(), PlaneError>| match result {
        Err(PlaneError::Meta(error)) => error.code(),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(beat(&mut cluster, 9)), MetaCode::NotFound);
    let register = Command::RegisterBroker(RegisterBroker {
        name: "outside".into(),
        facts: facts("outside").broker_facts(),
        incarnation: 9,
        gone: None,
    });
    let id = cluster.nodes[asked].write(register.clone());
    assert!(matches!(cluster.answer(asked, id), Answer::Written { .. }));
    for _ in 0..10 {
        cluster.pass(Duration::from_secs(1));
        assert_eq!(beat(&mut cluster, 9), Ok(()));
        cluster.turn(asked);
    }
    let active = Some((9, BrokerStatus::Active));
    assert_eq!(status(&cluster, leader, "outside"), active);
    assert_eq!(code(beat(&mut cluster, 8)), MetaCode::OtherIncarnation);
    cluster.pass(PATIENCE + Duration::from_secs(2));
    assert_eq!(
        status(&cluster, leader, "outside"),
        Some((9, BrokerStatus::Down))
    );
    assert_eq!(code(beat(&mut cluster, 9)), MetaCode::BrokerUnavailable);
    let id = cluster.nodes[asked].write(register);
    assert!(matches!(cluster.answer(asked, id), Answer::Written { .. }));
    assert_eq!(beat(&mut cluster, 9), Ok(()));
}

#[test]
fn a_node_that_nobody_leads_says_so() {
    let (mut cluster, leader) = formed(4);
    let alone = (leader + 1) % 3;
    for at in 0..3 {
        cluster.cut.extend([(alone, at), (at, alone)]);
    }
    cluster.pass(PATIENCE);
    assert_ne!(cluster.nodes[alone].role, Role::Leader);
    let own = name(alone);
    let (incarnation, _) = status(&cluster, alone, own.as_str()).unwrap();
    let said = cluster.nodes[alone].plane.handle_beat(&own, incarnation);
    assert!(matches!(said, Err(PlaneError::NoLeader { .. })), "{said:?}");
    // Cut off for as long as that it is down, and registers when it is not any more.
    cluster.pass(PATIENCE);
    assert!(is(&cluster, leader, alone, BrokerStatus::Down));
    cluster.cut.clear();
    cluster.until(2 * PATIENCE, move |cluster| {
        is(cluster, leader, alone, BrokerStatus::Active)
    });
    let id = cluster.nodes[alone].write(create_tenant("a"));
    assert!(matches!(cluster.answer(alone, id), Answer::Written { .. }));
}
