//! A node among the others: how it begins, and what the metadata says of its broker.

use crate::support::{CLUSTER, NAMES, Node, config, disk, facts, founder, name};
use pinion_metadata::broker::BrokerStatus;
use pinion_metadata::command::BrokerDown;
use pinion_metadata::member::MemberRole;
use pinion_metadata::{BrokerNumber, Command, MemberNumber, MetaVersion, ObjectKey};
use pinion_plane::PlaneConfig;
use pinion_raft_group::{Found, Role};

fn life(incarnation: u64) -> PlaneConfig {
    let mut config = config();
    config.node.incarnation = incarnation;
    config.group.seed = incarnation;
    config
}

fn broker(node: &Node) -> (u64, BrokerStatus) {
    let object = node.metadata().get(&ObjectKey::broker(NAMES[0])).unwrap();
    let broker = object.broker().unwrap();
    assert_eq!(broker.number, BrokerNumber(1));
    (broker.incarnation, broker.status())
}

#[test]
fn a_node_alone_begins_a_cluster_of_its_own_and_is_registered_from_the_beginning() {
    let mut node = Node::open(life(7), disk(1)).unwrap();
    assert_eq!(node.found, Found::Empty);
    assert_eq!(node.plane.broker(), None);
    node.rest();
    assert!(node.ready && node.role == Role::Leader);
    assert_eq!(broker(&node), (7, BrokerStatus::Active));
    assert_eq!(
        node.metadata().version(),
        MetaVersion(0),
        "nothing was asked"
    );
    assert_eq!(node.plane.broker(), Some(BrokerNumber(1)));
    let members: Vec<_> = node.metadata().members().collect();
    let [(MemberNumber(1), member)] = members[..] else {
        panic!("{members:?}");
    };
    assert_eq!(member.role, MemberRole::Voter);
    assert_eq!(&*member.address, "n1:7420");
    assert_eq!(member.store, [7; 16]);
    assert!(node.peers.is_empty(), "there is nobody else");
    node.metadata().check().unwrap();
    let cluster = node.metadata().cluster();
    let mut other = life(7);
    other.group.store = [8; 16];
    let mut other = Node::open(other, disk(2)).unwrap();
    other.rest();
    assert_ne!(other.metadata().cluster(), cluster, "another directory");
}

#[test]
fn a_node_in_a_new_life_registers_before_it_is_ready() {
    let mut node = Node::alone(life(1), disk(3)).again(life(8));
    assert_eq!(broker(&node), (1, BrokerStatus::Active));
    node.turn();
    assert!(!node.ready);
    while !node.ready {
        assert_eq!(broker(&node).0, 1, "it is ready when it is registered");
        assert!(node.step());
    }
    assert_eq!(broker(&node), (8, BrokerStatus::Active));
    node.rest();
    assert_eq!(node.metadata().version(), MetaVersion(1));
    let mut moved = life(8);
    moved.node.zone = "b".into();
    let mut node = node.again(moved);
    node.rest();
    let object = node.metadata().get(&ObjectKey::broker(NAMES[0])).unwrap();
    assert_eq!(&*object.broker().unwrap().facts.zone, "b");
}

#[test]
fn a_node_that_was_said_to_be_down_registers_again() {
    let mut node = Node::alone(config(), disk(4));
    node.done(Command::BrokerDown(BrokerDown {
        name: NAMES[0].into(),
        incarnation: 1,
    }));
    node.rest();
    assert_eq!(broker(&node), (1, BrokerStatus::Active));
    assert_eq!(node.metadata().version(), MetaVersion(2));
}

#[test]
fn a_node_is_told_whom_to_keep_connected_to() {
    let mut node = Node::open(config(), disk(5)).unwrap();
    node.plane
        .bootstrap(CLUSTER, &[0, 1, 2].map(|at| founder(NAMES[at])));
    node.turn();
    let others = ["n2", "n3"].map(|name| (name.to_owned(), format!("{name}:7420")));
    assert_eq!(node.peers, others);
    let status = node.plane.status();
    assert_eq!(status.node, name(0));
    assert_eq!(status.leader, None);
    assert_eq!(facts("n1").broker_facts(), founder("n1").facts);
}
