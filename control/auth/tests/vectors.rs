//! The vectors of `vectors/*.json`, derived by `vectors/derive.py` from `docs/identity.md`:
//! what should be taken is taken and says what it should, and everything else is refused for
//! the reason it should be.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use pinion_auth::AuthError;
use pinion_auth::jose::{Algorithm, Algorithms, Jws, UPSTREAM_BYTES_MAX};
use pinion_auth::jwk::{KeySet, KeySetError, SET_BYTES_MAX};
use pinion_auth::upstream::{self, IssuerRules, Upstream};
use pinion_types::WallMs;
use serde_json::Value;

fn load(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(file);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn rows(of: &Value) -> &Vec<Value> {
    of.as_array().unwrap()
}

fn text(of: &Value) -> &str {
    of.as_str().unwrap()
}

/// The name of an enum's variant.
fn variant(of: impl Debug) -> String {
    let all = format!("{of:?}");
    let name = all.split([' ', '(', '{']).next().unwrap();
    name.to_owned()
}

/// The issuer of `upstream.json`: its rules and keys.
struct Issuer {
    name: String,
    audiences: Vec<Box<str>>,
    skew: u16,
    keys: KeySet,
}

impl Issuer {
    fn load(file: &Value) -> Self {
        let rules = &file["rules"];
        Self {
            name: text(&rules["issuer"]).to_owned(),
            audiences: rows(&rules["audiences"])
                .iter()
                .map(|one| text(one).into())
                .collect(),
            skew: u16::try_from(rules["clock_skew_s"].as_u64().unwrap()).unwrap(),
            keys: KeySet::parse(file["keys"].to_string().as_bytes()).unwrap(),
        }
    }

    fn check(
        &self,
        token: &[u8],
        wall: WallMs,
        algorithms: Algorithms,
    ) -> Result<Upstream, AuthError> {
        let rules = IssuerRules {
            issuer: &self.name,
            audiences: &self.audiences,
            algorithms,
            subject_claim: "sub",
            groups_claim: Some("groups"),
            clock_skew_s: self.skew,
        };
        upstream::check(Jws::parse(token)?, &rules, &self.keys, wall)
    }
}

fn every_algorithm() -> Algorithms {
    Algorithm::ALL.into_iter().collect()
}

#[test]
fn vectors_hold() {
    let mut seen = 0;
    let file = load("upstream.json");
    let issuer = Issuer::load(&file);
    for case in rows(&file["good"]).iter().chain(rows(&file["bad"])) {
        let wall = WallMs(case["wall_ms"].as_u64().unwrap());
        let found = issuer.check(text(&case["token"]).as_bytes(), wall, every_algorithm());
        let name = text(&case["name"]);
        if let Some(why) = case["refused"].as_str() {
            let found = found.expect_err(name);
            assert_eq!(variant(found), why, "{name}: {found}");
        } else {
            let expected = Upstream {
                subject: text(&case["subject"]).into(),
                groups: rows(&case["groups"])
                    .iter()
                    .map(|g| text(g).into())
                    .collect(),
                expires: WallMs(case["expires_ms"].as_u64().unwrap()),
            };
            assert_eq!(found, Ok(expected), "{name}");
        }
        seen += 1;
    }

    let file = load("key_sets.json");
    for case in rows(&file["used"]) {
        let set = KeySet::parse(text(&case["set"]).as_bytes()).unwrap();
        let expected = usize::try_from(case["keys"].as_u64().unwrap()).unwrap();
        assert_eq!(set.len(), expected, "{}", case["name"]);
        assert_eq!(set.is_empty(), expected == 0);
        seen += 1;
    }
    for case in rows(&file["left_out"]) {
        let set = KeySet::parse(text(&case["set"]).as_bytes()).unwrap();
        assert!(set.is_empty(), "{}", case["name"]);
        for (_, why) in set.refused() {
            assert_eq!(variant(why), text(&case["why"]), "{}: {why}", case["name"]);
        }
        assert!(set.refused().count() > 0);
        seen += 1;
    }
    for case in rows(&file["refused"]) {
        let why = KeySet::parse(text(&case["set"]).as_bytes()).unwrap_err();
        assert_eq!(variant(why), text(&case["why"]), "{}", case["name"]);
        seen += 1;
    }
    println!("vectors: {seen}");
}

/// The first vector of that name.
fn good(file: &Value, name: &str) -> (Vec<u8>, WallMs) {
    let case = rows(&file["good"]).iter().find(|c| c["name"] == name);
    let case = case.unwrap();
    (
        text(&case["token"]).as_bytes().to_vec(),
        WallMs(case["wall_ms"].as_u64().unwrap()),
    )
}

#[test]
fn an_issuer_is_held_to_its_algorithms() {
    let file = load("upstream.json");
    let issuer = Issuer::load(&file);
    for used in Algorithm::ALL {
        let (token, wall) = good(&file, &format!("signed with {}", used.text()));
        let others = Algorithm::ALL.into_iter().filter(|one| *one != used);
        assert_eq!(
            issuer.check(&token, wall, others.collect()),
            Err(AuthError::WrongAlgorithm)
        );
        assert!(
            issuer
                .check(&token, wall, [used].into_iter().collect())
                .is_ok()
        );
    }
}

#[test]
fn no_token_survives_a_changed_or_missing_byte() {
    let file = load("upstream.json");
    let issuer = Issuer::load(&file);
    for name in [
        "signed with RS256",
        "signed with ES256",
        "signed with EdDSA",
    ] {
        let (token, wall) = good(&file, name);
        for end in 0..token.len() {
            assert!(
                issuer
                    .check(&token[..end], wall, every_algorithm())
                    .is_err(),
                "{name} cut at {end}"
            );
        }
        for place in 0..token.len() {
            let mut changed = token.clone();
            changed[place] ^= 1;
            assert!(
                issuer.check(&changed, wall, every_algorithm()).is_err(),
                "{name} with byte {place} changed"
            );
        }
    }
}

#[test]
fn what_is_too_long_is_not_read() {
    let long = vec![b'.'; UPSTREAM_BYTES_MAX + 1];
    assert_eq!(
        Jws::parse(&long).unwrap_err(),
        AuthError::TooLarge {
            limit: UPSTREAM_BYTES_MAX
        }
    );
    assert!(matches!(
        Jws::parse(&long[1..]).unwrap_err(),
        AuthError::Malformed { .. }
    ));
    let long = vec![b' '; SET_BYTES_MAX + 1];
    assert_eq!(KeySet::parse(&long).unwrap_err(), KeySetError::TooLarge);
    assert_eq!(
        KeySet::parse(&long[1..]).unwrap_err(),
        KeySetError::Malformed
    );
}

#[test]
fn what_a_token_claims_is_told_before_it_is_believed() {
    let file = load("upstream.json");
    let (token, _) = good(&file, "signed with RS256");
    // Even of one whose signature is nonsense.
    let end = token.iter().rposition(|&byte| byte == b'.').unwrap();
    let token = [&token[..=end], b"AAAA"].concat();
    let jws = Jws::parse(&token).unwrap();
    assert_eq!(&*jws.claimed_issuer().unwrap(), "https://id.example/a");
    assert_eq!(jws.claimed_kid(), Some("rsa"));
}
