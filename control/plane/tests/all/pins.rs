//! A backup of what a node knows: the metadata at one version, its rows, and a group that
//! goes on behind both.

use core::time::Duration;

use pinion_commitlog::{PinLimits, PinRefused};
use pinion_metadata::Metadata;
use pinion_plane::{AuditResult, AuditRow, PlaneConfig, PlanePinned};
use pinion_raft_group::{Found, Group, Output, Role};
use pinion_simkit::SimDisk;
use pinion_types::Monotonic;

use crate::audit::all_rows;
use crate::cluster::Cluster;
use crate::support::{
    Disks, NAMES, Node, ONE, START, config, create_namespace, create_tenant, describe_tenant, disk,
    facts,
};

const NO_LIMITS: PinLimits = PinLimits {
    until: Monotonic(u64::MAX),
    held_bytes_max: u64::MAX,
};

/// What a restore makes of a backup: the audit log as it was pinned, and a new log of the
/// group.
fn restored(pinned: &PlanePinned, audit: &SimDisk) -> Disks {
    let mut copy = disk(3);
    for file in &pinned.audit.as_ref().unwrap().files {
        let bytes = audit.bytes(file.file).unwrap();
        let len = file
            .len
            .map_or(bytes.len(), |len| usize::try_from(len).unwrap());
        copy.put(file.file, &bytes[..len]);
    }
    let mut group_disk = disk(4);
    let opened = Group::open(config().group, &mut group_disk, START).unwrap();
    assert_eq!(opened.found, Found::Empty);
    let mut group = opened.group;
    let machine = pinned.source.encode().into();
    let place = (pinned.index, pinned.term);
    group.restore(pinned.member, pinned.cluster, place, machine);
    let mut now = Monotonic::ZERO;
    let mut sealing = false;
    loop {
        while let Some(request) = group.poll_disk() {
            group_disk.submit(now, request);
        }
        let ended = |output| matches!(output, Output::Sealed);
        if std::iter::from_fn(|| group.poll_output()).any(ended) {
            return Disks {
                group: group_disk,
                audit: copy,
            };
        }
        if let Some(due) = group_disk.next_deadline() {
            now = now.max(due);
            while let Some(done) = group_disk.poll_done(now) {
                group.handle_disk_done(now, done);
            }
        } else {
            assert!(!sealing, "nothing is left to do, and it is not sealed");
            sealing = true;
            group.seal(now);
        }
    }
}

/// A node with some commands behind it, and some under way.
fn busy(config: PlaneConfig) -> Node {
    let mut node = Node::alone(config, disk(1));
    for tenant in ["a", "b", "c"] {
        node.done(create_tenant(tenant));
        node.done(create_namespace(tenant, "n"));
    }
    node
}

fn pin(node: &mut Node) {
    node.start_turn();
    assert!(node.plane.pin(NO_LIMITS));
    node.turn();
}

fn operations(rows: &[(u64, AuditRow)]) -> Vec<(u64, &str)> {
    let told = rows.iter().map(|(_, row)| (row.index, &*row.operation));
    told.collect()
}

#[test]
fn a_restored_group_of_one_goes_on_where_the_backup_was_taken() {
    let mut node = busy(config());
    pin(&mut node);
    node.rest();
    let pinned = node.pinned.take().unwrap();
    let version = node.plane.status().version;
    assert_eq!((pinned.version, pinned.member), (version, ONE));
    let hash = node.plane.metadata().map(Metadata::state_hash);
    let before = all_rows(&mut node);
    // What comes later is in neither.
    node.done(create_tenant("later"));

    let disks = restored(&pinned, &node.audit_disk);
    let mut again = Node::open(config(), disks).unwrap();
    assert!(matches!(again.found, Found::Member { id, cluster, .. }
        if id == ONE && cluster == pinned.cluster));
    assert_eq!(again.plane.metadata().map(Metadata::state_hash), hash);
    again.rest();
    assert!(again.ready);
    assert_eq!(again.plane.status().group.voters, [ONE]);
    assert!(again.plane.status().group.term > pinned.term);
    again.done(describe_tenant("a", "restored"));
    let rows = all_rows(&mut again);
    assert_eq!(operations(&rows[..before.len()]), operations(&before));
    let gaps = rows
        .iter()
        .filter(|(_, row)| matches!(row.result, AuditResult::Gap { .. }));
    assert_eq!(gaps.count(), 0, "{rows:#?}");
    let last = rows.last().unwrap();
    assert_eq!(
        last.1.operation,
        "update_tenant".into(),
        "and new ones have theirs"
    );
    // And once more, as any node.
    let mut again = again.again(config());
    again.rest();
    assert!(again.ready);
}

#[test]
fn the_rows_of_what_is_in_a_backup_are_in_it_too_however_slow_their_disk_is() {
    let mut node = busy(config());
    node.audit_held = true;
    let id = node.write(create_tenant("late"));
    // The group's own disk works.
    for _ in 0..20 {
        node.step();
    }
    assert!(node.answer(id).is_some());
    pin(&mut node);
    for _ in 0..20 {
        node.step();
    }
    assert!(node.pinned.is_none(), "its row is not durable");
    node.release();
    node.rest();
    let pinned = node.pinned.take().unwrap();
    // The place it goes on from is behind everything that has rows.
    let last = all_rows(&mut node).last().unwrap().1.index;
    assert!(pinned.index >= last);
    let mut again = Node::open(config(), restored(&pinned, &node.audit_disk)).unwrap();
    again.rest();
    let rows = all_rows(&mut again);
    assert!(
        rows.iter()
            .any(|(_, row)| row.target == "tenant/late".into()),
        "{rows:#?}"
    );
}

#[test]
fn a_second_backup_takes_the_place_of_the_first_and_a_sealed_plane_gives_none() {
    let mut node = busy(config());
    pin(&mut node);
    node.rest();
    assert!(node.pinned.take().unwrap().audit.is_ok());
    pin(&mut node);
    node.rest();
    let second = node.pinned.take().unwrap().audit;
    assert!(second.as_ref().is_ok() && second != Err(PinRefused::Pinned));
    node.plane.unpin();
    node.plane.seal();
    node.start_turn();
    assert!(!node.plane.pin(NO_LIMITS));
}

#[test]
fn a_follower_of_three_is_restored_as_the_only_member() {
    let mut cluster = Cluster::new(5);
    let leader = cluster.elect();
    cluster.pass(Duration::from_secs(1));
    let id = cluster.nodes[leader].write(create_tenant("a"));
    cluster.answer(leader, id);
    cluster.pass(Duration::from_secs(1));
    let at = (leader + 1) % 3;
    pin(&mut cluster.nodes[at]);
    cluster.pass(Duration::from_secs(1));
    let pinned = cluster.nodes[at].pinned.take().unwrap();
    let disks = restored(&pinned, &cluster.nodes[at].audit_disk);
    let mut config = config();
    config.node = facts(NAMES[at]);
    config.node.incarnation = 9;
    let mut again = Node::open(config, disks).unwrap();
    again.rest();
    assert!(again.ready && again.role == Role::Leader);
    assert_eq!(again.plane.status().group.voters, [pinned.member]);
    assert_eq!(
        again.plane.metadata().unwrap().members().count(),
        3,
        "as it was"
    );
    again.done(describe_tenant("a", "alone"));
}
