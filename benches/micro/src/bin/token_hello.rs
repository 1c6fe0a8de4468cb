//! How long a data core is taken up by one HELLO with a token of the cluster.
//!
//! `token-hello [--json]`: a core in memory and one connection after the other, each with a
//! token of its own that was not seen before: a small one, and the worst that is let in, which
//! has as many permissions as may be and is as long. In turns with them come connections that
//! show a token of the configuration, which is looked up and not verified. Exits 1 when the
//! middle one of either takes longer than [`TIME_MAX`]; with `--json` whoever reads it judges.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinion_auth::compile::{TableBuilder, TenantFacts};
use pinion_auth::keyring::{Keyring, StoredKey};
use pinion_auth::policies::Policies;
use pinion_auth::seal::MasterKey;
use pinion_auth::sign::{IssueError, SigningKey};
use pinion_auth::token::{Claims, Jti, PERMISSIONS_MAX, Realm};
use pinion_micro::node::{Node, PLAIN_TOKEN};
use pinion_node::access::TenantId;
use pinion_types::WallMs;

/// Connections of each kind. So many lie in the core at the end.
const CONNECTIONS: u64 = 4_000;
const TENANT: TenantId = TenantId(1);
const CLUSTER: [u8; 16] = [1; 16];

/// Longer takes the core away from everybody else for as long.
const TIME_MAX: Duration = Duration::from_micros(100);

/// A token that may do little.
fn small(number: u64) -> Claims {
    let mut jti = [0; 16];
    jti[..8].copy_from_slice(&number.to_le_bytes());
    Claims {
        subject: "p:ana".into(),
        tenant: "t1".into(),
        issued: WallMs(0),
        expires: WallMs(900_000),
        jti: Jti(jti),
        permissions: ["stream.publish:stream:t1/*".into()].into(),
    }
}

/// One with [`PERMISSIONS_MAX`] permissions, each on something else, whose texts have `bytes`
/// bytes more than they need to. `None` when that is longer than may be.
fn padded(signer: &SigningKey, realm: &Realm, number: u64, bytes: usize) -> Option<Claims> {
    let permission = |at: usize| {
        let more = usize::from(at < bytes % PERMISSIONS_MAX);
        let padding = "x".repeat(bytes / PERMISSIONS_MAX + more);
        format!("stream.publish:stream:t1/n/{at:02}{padding}").into()
    };
    let claims = Claims {
        permissions: (0..PERMISSIONS_MAX).map(permission).collect(),
        ..small(number)
    };
    match signer.issue(realm, &claims) {
        Err(IssueError::TooLarge { .. }) => None,
        _ => Some(claims),
    }
}

/// The most that the longest token is padded by.
fn most_padding(signer: &SigningKey, realm: &Realm) -> usize {
    let fits = |bytes: &usize| padded(signer, realm, 0, *bytes).is_some();
    (0..).take_while(fits).last().unwrap_or_default()
}

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
    let padding = most_padding(&signer, &realm);
    let (mut shown, mut worst, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut worst_bytes = 0;
    for number in 0..CONNECTIONS {
        let largest = padded(&signer, &realm, CONNECTIONS + number, padding);
        let largest = largest.and_then(|claims| signer.issue(&realm, &claims).ok());
        let token = signer.issue(&realm, &small(number));
        let (Ok(token), Some(largest)) = (token, largest) else {
            eprintln!("no token is issued");
            return ExitCode::FAILURE;
        };
        worst_bytes = largest.len();
        for (conn, token, took) in [
            (3 * number + 1, token.as_bytes(), &mut shown),
            (3 * number + 2, largest.as_bytes(), &mut worst),
            (3 * number + 3, PLAIN_TOKEN, &mut plain),
        ] {
            node.arrive(conn);
            let hello = Node::hello(token);
            let began = Instant::now();
            node.turn(conn, &hello);
            took.push(began.elapsed());
        }
    }
    let stats = node.stats();
    if (stats.sessions, stats.signatures) != (3 * CONNECTIONS, 2 * CONNECTIONS) {
        eprintln!("not everybody was let in as they should: {stats:?}");
        return ExitCode::FAILURE;
    }
    let at = |all: &mut Vec<Duration>, share: usize| {
        all.sort_unstable();
        all[(all.len() - 1) * share / 100]
    };
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let (p50, p99) = (at(&mut shown, 50), at(&mut shown, 99));
    let (worst_p50, worst_p99) = (at(&mut worst, 50), at(&mut worst, 99));
    let without = at(&mut plain, 50);
    if json {
        println!(
            "{{\"row\": \"hello with a token\", \"p50_us\": {:.1}, \"p99_us\": {:.1}, \
             \"worst_p50_us\": {:.1}, \"worst_p99_us\": {:.1}, \"worst_bytes\": {worst_bytes}, \
             \"plain_p50_us\": {:.1}}}",
            us(p50),
            us(p99),
            us(worst_p50),
            us(worst_p99),
            us(without)
        );
        return ExitCode::SUCCESS;
    }
    println!("HELLO with a token of the cluster, {CONNECTIONS} connections");
    println!("  p50 {:.1} µs, p99 {:.1} µs", us(p50), us(p99));
    println!(
        "  with {PERMISSIONS_MAX} permissions in {worst_bytes} bytes: p50 {:.1} µs, p99 {:.1} µs",
        us(worst_p50),
        us(worst_p99)
    );
    println!(
        "  with a token of the configuration: p50 {:.1} µs",
        us(without)
    );
    if p50.max(worst_p50) > TIME_MAX {
        eprintln!("longer than {TIME_MAX:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_auth::rights::Rights;
    use pinion_auth::token::{Shown, TOKEN_BYTES_MAX};

    #[test]
    fn the_worst_token_has_all_permissions_and_not_a_word_more_would_fit() {
        let master = MasterKey::new(&[0; 32]);
        let key = StoredKey::fresh(&master, TENANT, &[1; 32], [1; 12]);
        let signer = key.open(&master, TENANT).expect("its own key");
        let realm = Realm::of(&CLUSTER);
        let padding = most_padding(&signer, &realm);
        assert!(padded(&signer, &realm, 1, padding + 1).is_none());
        let claims = padded(&signer, &realm, 1, padding).expect("it fits");
        let token = signer.issue(&realm, &claims).expect("it fits");
        // Three bytes of it are four digits.
        assert!((TOKEN_BYTES_MAX - 4..=TOKEN_BYTES_MAX).contains(&token.len()));
        let shown = Shown::parse(token.as_bytes()).expect("a token");
        let verified = shown
            .verify(&signer.public(), &realm, WallMs(1))
            .expect("ours");
        assert_eq!(verified.permissions.len(), PERMISSIONS_MAX);
        let rights = Rights::parse(&verified.permissions, "t1").expect("known here");
        assert_eq!(rights.texts().len(), PERMISSIONS_MAX, "each is another");
    }
}
