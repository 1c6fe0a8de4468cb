//! From request bytes through session, access check, shard and domain to reply
//! or delivery bytes.

use pinion_types::ResourceKind;

use super::{VALUE, repeat};
use crate::node::{Node, cached_gets, published_records};

const CONN: u64 = 1;

pub(super) fn get() -> u64 {
    const PER_TURN: u32 = 16;
    const TURNS: u64 = 100;
    let mut node = Node::new();
    node.connect(CONN, ResourceKind::Cache);
    let gets = cached_gets(&mut node, CONN, PER_TURN, &VALUE);
    for _ in 0..10 {
        node.turn(CONN, &gets);
    }
    let before = node.replied;
    let operations = repeat(TURNS, || node.turn(CONN, &gets)) * u64::from(PER_TURN);
    let replied = (node.replied - before) as u64;
    assert!(replied > operations * VALUE.len() as u64, "every GET hit");
    operations
}

pub(super) fn publish_and_deliver() -> u64 {
    const SUBSCRIBERS: u32 = 4;
    const PER_TURN: u32 = 10;
    const TURNS: u64 = 50;
    let mut node = Node::new();
    node.connect(CONN, ResourceKind::Stream);
    let turn = published_records(&mut node, CONN, SUBSCRIBERS, PER_TURN, &VALUE);
    for _ in 0..10 {
        node.turn(CONN, &turn);
    }
    let before = node.delivered;
    let published = repeat(TURNS, || node.turn(CONN, &turn)) * u64::from(PER_TURN);
    let delivered = (node.delivered - before) as u64;
    assert!(
        delivered > published * u64::from(SUBSCRIBERS) * VALUE.len() as u64,
        "every record went to everyone"
    );
    published
}
