//! Every request of everybody: what each is answered.
//!
//! The table is written by hand from `docs/wire-protocol.md` §5 and shares nothing with the
//! row that decides. A request without a row fails, as does a row without a request.

use std::collections::BTreeMap;

use pinion_node::access::Permissions;
use pinion_types::ErrorCode;
use pinion_wire::opcode::{self, REQUESTS};

use super::grant;
use crate::harness::{ADMIN, STRANGER, World};
use crate::stories::Scene;

/// Columns: who may do nothing, read, put, consume, administer, everything; then another
/// tenant's principal, who may do everything there, about what the first has opened; then
/// who said no HELLO. `y` is let in, `-` is refused.
const TABLE: &[(&str, &str)] = &[
    // An echo, and what is about a subscription of one's own: another's is none. CREDIT is
    // never answered.
    ("PING", "yyyyyyy-"),
    ("CREDIT", "yyyyyyy-"),
    ("UNSUBSCRIBE", "yyyyyy--"),
    // A name is each tenant's own, and looked up for who may do something with it.
    ("OPEN", "-yyyyyy-"),
    // Streams: reading, and keeping the place where one reads.
    ("SUBSCRIBE", "-y---y--"),
    ("FETCH", "-y---y--"),
    ("STREAM_INFO", "-y---y--"),
    ("CURSOR_COMMIT", "-y---y--"),
    ("CURSOR_GET", "-y---y--"),
    ("CURSOR_LIST", "-y---y--"),
    ("CURSOR_DELETE", "-y---y--"),
    // Streams: adding to them.
    ("PUBLISH", "--y--y--"),
    ("APPEND_BEGIN", "--y--y--"),
    ("APPEND_STAGE", "--y--y--"),
    ("APPEND_COMMIT", "--y--y--"),
    ("APPEND_ROLLBACK", "--y--y--"),
    // Caches.
    ("CACHE_GET", "-y---y--"),
    ("CACHE_GET_MANY", "-y---y--"),
    ("CACHE_SCAN", "-y---y--"),
    ("CACHE_WATCH", "-y---y--"),
    ("CACHE_INFO", "-y---y--"),
    ("CACHE_SET", "--y--y--"),
    ("CACHE_DELETE", "--y--y--"),
    ("CACHE_TOUCH", "--y--y--"),
    ("CACHE_SET_MANY", "--y--y--"),
    // Who fills a key writes it, and who need not is told the value; a sum tells what was
    // there. One of both grants is not enough: `cache_values_are_told_to_readers_alone`.
    ("CACHE_INCR", "-----y--"),
    ("CACHE_LEASE", "-----y--"),
    // Queues: looking takes nothing away, working does.
    ("QUEUE_PEEK", "-y---y--"),
    ("QUEUE_DEAD_LIST", "-y---y--"),
    ("QUEUE_INFO", "-y---y--"),
    ("QUEUE_WHY", "-y---y--"),
    ("QUEUE_PUT", "--y--y--"),
    ("QUEUE_TAKE", "---y-y--"),
    ("QUEUE_ACK", "---y-y--"),
    ("QUEUE_NACK", "---y-y--"),
    ("QUEUE_EXTEND", "---y-y--"),
    ("QUEUE_RELEASE", "---y-y--"),
    ("QUEUE_SUBSCRIBE", "---y-y--"),
    // Making one; `forgetting_a_group_is_administration` has the other.
    ("QUEUE_GROUP", "---y-y--"),
    ("QUEUE_DEAD_REPLAY", "----yy--"),
    ("QUEUE_DEAD_PURGE", "----yy--"),
];

/// The first columns.
const GRANTS: [Permissions; 6] = [
    Permissions::NONE,
    Permissions::READ,
    Permissions::PUT,
    Permissions::CONSUME,
    Permissions::ADMIN,
    Permissions::ALL,
];
const TENANT: usize = GRANTS.len();
const NO_HELLO: usize = TENANT + 1;

/// Every request and its row. HELLO is the credential itself: `handshake.rs` has it.
fn rows() -> Vec<(&'static opcode::Entry, &'static [u8])> {
    let mut table: BTreeMap<&str, &str> = TABLE.iter().copied().collect();
    assert_eq!(table.len(), TABLE.len(), "each request once");
    let asked = REQUESTS
        .iter()
        .filter(|entry| entry.opcode != opcode::HELLO);
    let rows = asked.map(|entry| {
        let row = table.remove(entry.name);
        let row = row.unwrap_or_else(|| panic!("{} has no row in the table", entry.name));
        assert_eq!(row.len(), NO_HELLO + 1, "{}", entry.name);
        (entry, row.as_bytes())
    });
    let rows = rows.collect();
    assert!(table.is_empty(), "rows without a request: {table:?}");
    rows
}

#[test]
fn every_request_is_allowed_by_its_grant_and_by_nothing_else() {
    let mut asked = 0;
    for far in [false, true] {
        for (entry, row) in rows() {
            for (permissions, expected) in GRANTS.iter().zip(row) {
                asked += 1;
                let mut w = World::two();
                let scene = Scene::new(&mut w, 0, ADMIN, far);
                grant(&mut w, ADMIN, *permissions);
                let stream = w.clients[scene.id].first_stream();
                w.send_bytes(scene.id, stream, &scene.sample(entry.opcode, 7777));
                w.settle();
                let answer = w.answer(scene.id, 7777);
                let code = answer.as_ref().and_then(|answer| answer.code());
                assert_eq!(
                    code == Some(ErrorCode::Forbidden),
                    *expected == b'-',
                    "{} with {permissions:?}, far {far}: {answer:?}",
                    entry.name
                );
                assert_eq!(w.closed(scene.id), None);
            }
        }
    }
    println!("authorisation matrix: {asked} rows of opcodes and grants");
}

#[test]
fn no_request_reaches_what_another_tenant_opened() {
    let mut asked = 0;
    for far in [false, true] {
        for (entry, row) in rows() {
            asked += 1;
            let mut w = World::two();
            let scene = Scene::new(&mut w, 0, ADMIN, far);
            let stranger = w.client(0, STRANGER);
            let stream = w.clients[stranger].first_stream();
            w.send_bytes(stranger, stream, &scene.sample(entry.opcode, 7777));
            w.settle();
            let answer = w.answer(stranger, 7777);
            let refused = answer.as_ref().and_then(|answer| answer.code()).is_some();
            assert_eq!(
                refused,
                row[TENANT] == b'-',
                "{}, far {far}: {answer:?}",
                entry.name
            );
        }
    }
    println!("authorisation matrix: {asked} rows of opcodes and tenants");
}

#[test]
fn who_said_no_hello_is_answered_nothing() {
    let mut asked = 0;
    for (entry, row) in rows() {
        asked += 1;
        let mut w = World::two();
        let scene = Scene::new(&mut w, 0, ADMIN, false);
        let nobody = w.connect(0);
        let stream = w.clients[nobody].first_stream();
        w.send_bytes(nobody, stream, &scene.sample(entry.opcode, 7777));
        w.settle();
        let answer = w.answer(nobody, 7777);
        let done = answer
            .as_ref()
            .is_some_and(|answer| answer.code().is_none());
        let let_in = done || w.closed(nobody).is_none();
        assert_eq!(let_in, row[NO_HELLO] == b'y', "{}: {answer:?}", entry.name);
    }
    println!("authorisation matrix: {asked} rows of opcodes without a credential");
}
