//! What tenants use on a node, the others know.

use core::time::Duration;

use crate::cluster::Cluster;
use crate::support::NAMES;
use pinion_metadata::broker::BrokerStatus;
use pinion_metadata::command::UpdateSettings;
use pinion_metadata::{Command, ObjectKey, TenantNumber};
use pinion_plane::limits::{USE_EVERY, USE_REPEAT, USE_ROWS_MAX};
use pinion_plane::{Answer, UseRow};
use pinion_simkit::CrashMode;

/// What was said, heard and added up is known everywhere by then.
const KNOWN: Duration = Duration::from_secs(1);

fn row(tenant: u64, namespace: &str, [asked, connections, stored]: [u64; 3]) -> UseRow {
    UseRow {
        tenant: TenantNumber(tenant),
        namespace: namespace.into(),
        asked,
        connections,
        stored,
    }
}

fn formed(seed: u64) -> Cluster {
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
    cluster
}

fn uses(cluster: &mut Cluster, at: usize, rows: Vec<UseRow>) {
    cluster.nodes[at].plane.handle_use(rows);
    cluster.turn(at);
}

#[track_caller]
fn elsewhere(cluster: &Cluster, at: usize, cores: u64, rows: &[UseRow]) {
    let told = cluster.nodes[at].elsewhere.as_ref().expect("told");
    assert_eq!(told.0, cores, "{}", NAMES[at]);
    assert!(told.1 == rows, "{}: {:?}…", NAMES[at], told.1.first());
}

#[test]
fn each_node_knows_what_the_others_use_together() {
    let mut cluster = formed(1);
    cluster.pass(KNOWN);
    for at in 0..3 {
        // Each has two data cores.
        elsewhere(&cluster, at, 4, &[]);
    }
    let first = vec![
        row(9, "", [1, 0, 0]),
        row(7, "pay", [30, 0, 0]),
        row(7, "", [40, 2, 100]),
        row(8, "", [0, 0, 0]),
    ];
    uses(&mut cluster, 0, first);
    uses(&mut cluster, 1, vec![row(7, "", [2, 1, 50])]);
    cluster.pass(KNOWN);
    let sum = [
        row(7, "", [42, 3, 150]),
        row(7, "pay", [30, 0, 0]),
        row(9, "", [1, 0, 0]),
    ];
    elsewhere(&cluster, 2, 4, &sum);
    elsewhere(&cluster, 0, 4, &[row(7, "", [2, 1, 50])]);
    // What is not named any more is not used any more.
    uses(&mut cluster, 0, vec![row(7, "", [0, 1, 100])]);
    cluster.pass(KNOWN);
    elsewhere(&cluster, 2, 4, &[row(7, "", [2, 2, 150])]);
    uses(&mut cluster, 0, Vec::new());
    uses(&mut cluster, 1, Vec::new());
    cluster.pass(KNOWN);
    elsewhere(&cluster, 2, 4, &[]);
}

#[test]
fn more_rows_than_a_message_has_come_in_parts_and_a_lost_one_is_made_up_for() {
    let mut cluster = formed(2);
    let rows: Vec<UseRow> = (0..3 * USE_ROWS_MAX as u64 + 1)
        .map(|tenant| row(tenant, "", [1, 0, 0]))
        .collect();
    // Frames are lost, so that rounds are not whole.
    cluster.trouble = 3;
    uses(&mut cluster, 0, rows.clone());
    cluster.pass(KNOWN);
    cluster.trouble = 0;
    cluster.pass(USE_REPEAT + KNOWN);
    for at in [1, 2] {
        elsewhere(&cluster, at, 4, &rows);
    }
}

#[test]
fn what_changes_often_is_said_now_and_then() {
    let mut cluster = formed(3);
    for asked in 0..100 {
        uses(&mut cluster, 0, vec![row(7, "", [asked, 0, 0])]);
        cluster.pass(USE_EVERY / 10);
    }
    let said = cluster.usages;
    // To two nodes, in ten times the interval.
    assert!((20..=24).contains(&said), "{said}");
}

#[test]
fn a_node_that_is_gone_uses_nothing_but_the_room_that_it_has() {
    let mut cluster = formed(4);
    let leader = cluster.leader().unwrap();
    let (gone, other) = ((leader + 1) % 3, (leader + 2) % 3);
    uses(&mut cluster, gone, vec![row(7, "", [40, 2, 100])]);
    cluster.pass(KNOWN);
    cluster.crash(gone, CrashMode::DropUnsynced);
    cluster.pass(Duration::from_secs(2));
    // Nobody knows yet that it is: its connections may stand.
    elsewhere(&cluster, other, 4, &[row(7, "", [40, 2, 100])]);
    cluster.pass(Duration::from_secs(3));
    elsewhere(&cluster, other, 2, &[row(7, "", [0, 0, 100])]);
    // It comes back, and has not said yet what is used in this life.
    cluster.start(gone);
    let key = ObjectKey::broker(NAMES[gone]);
    cluster.until(Duration::from_secs(9), move |cluster| {
        let machine = cluster.nodes[other].metadata();
        let broker = machine.get(&key).and_then(|object| object.broker());
        broker.is_some_and(|broker| broker.status() == BrokerStatus::Active)
    });
    cluster.pass(KNOWN);
    elsewhere(&cluster, other, 4, &[row(7, "", [0, 0, 100])]);
    uses(&mut cluster, gone, vec![row(7, "", [1, 1, 100])]);
    cluster.pass(KNOWN);
    elsewhere(&cluster, other, 4, &[row(7, "", [1, 1, 100])]);
}
