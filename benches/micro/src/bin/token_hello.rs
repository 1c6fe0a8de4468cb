//! How long a data core is taken up by one HELLO with a token of the cluster.
//!
//! `token-hello [--json]`: a core in memory and one connection after the other, each with a
//! token of its own that was not seen before, in turns with connections that show a token of the
//! configuration, which is looked up and not verified. Exits 1 when the middle one of the
//! first takes longer than [`TIME_MAX`].

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinion_auth::compile::{TableBuilder, TenantFacts};
use pinion_auth::keyring::{Keyring, StoredKey};
use pinion_auth::policies::Policies;
use pinion_auth::seal::MasterKey;
use pinion_auth::token::{Claims, Jti, Realm};
use pinion_micro::node::{Node, PLAIN_TOKEN};
use pinion_node::access::TenantId;
use pinion_types::WallMs;

/// Connections of each kind. So many lie in the core at the end.
const CONNECTIONS: u64 = 4_000;
const TENANT: TenantId = TenantId(1);
const CLUSTER: [u8; 16] = [1; 16];

/// Longer takes the core away from everybody else for as long.
const TIME_MAX: Duration = Duration::from_micros(100);

fn main() -> ExitCode {
    let json = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--json") => true,
        Some(_) => {
            eprintln!("usage: token-hello [--json]");
            return ExitCode::from(2);
        }
    };
    let master = MasterKey::new(&[0; 32]);
    let key = |number: u8| StoredKey::fresh(&master, TENANT, &[number; 32], [number; 12]);
    let facts = TenantFacts {
        id: TENANT,
        name: "t1".into(),
        keys: Some(Keyring {
            current: key(1),
            next: key(2),
            previous: None,
        }),
        api_keys: Vec::new(),
        revoked_tokens: Vec::new(),
        revoked_subjects: Vec::new(),
        policies: Policies::new("t1"),
    };
    let realm = Realm::of(&CLUSTER);
    let mut builder = TableBuilder::new(realm.clone(), Vec::new());
    let taken = builder.handle_tenant(facts);
    let (Ok(()), Some(table)) = (taken, builder.poll_table()) else {
        eprintln!("the tenant does not become a table");
        return ExitCode::FAILURE;
    };
    let Ok(signer) = key(1).open(&master, TENANT) else {
        eprintln!("the key does not open");
        return ExitCode::FAILURE;
    };
    let mut node = Node::new();
    node.let_in(Arc::clone(&table));
    let (mut shown, mut plain) = (Vec::new(), Vec::new());
    for number in 0..CONNECTIONS {
        let mut jti = [0; 16];
        jti[..8].copy_from_slice(&number.to_le_bytes());
        let claims = Claims {
            subject: "p:ana".into(),
            tenant: "t1".into(),
            issued: WallMs(0),
            expires: WallMs(900_000),
            jti: Jti(jti),
            permissions: ["stream.publish:stream:t1/*".into()].into(),
        };
        let Ok(token) = signer.issue(&realm, &claims) else {
            eprintln!("no token is issued");
            return ExitCode::FAILURE;
        };
        for (conn, token, took) in [
            (2 * number + 1, token.as_bytes(), &mut shown),
            (2 * number + 2, PLAIN_TOKEN, &mut plain),
        ] {
            node.arrive(conn);
            let hello = Node::hello(token);
            let began = Instant::now();
            node.turn(conn, &hello);
            took.push(began.elapsed());
        }
    }
    let stats = node.stats();
    if (stats.sessions, stats.signatures) != (2 * CONNECTIONS, CONNECTIONS) {
        eprintln!("not everybody was let in as they should: {stats:?}");
        return ExitCode::FAILURE;
    }
    let at = |all: &mut Vec<Duration>, share: usize| {
        all.sort_unstable();
        all[(all.len() - 1) * share / 100]
    };
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let (p50, p99) = (at(&mut shown, 50), at(&mut shown, 99));
    let without = at(&mut plain, 50);
    if json {
        println!(
            "{{\"row\": \"hello with a token\", \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"plain_p50_us\": {:.1}}}",
            us(p50),
            us(p99),
            us(without)
        );
    } else {
        println!("HELLO with a token of the cluster, {CONNECTIONS} connections");
        println!("  p50 {:.1} µs, p99 {:.1} µs", us(p50), us(p99));
        println!(
            "  with a token of the configuration: p50 {:.1} µs",
            us(without)
        );
    }
    if p50 > TIME_MAX {
        eprintln!("longer than {TIME_MAX:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
