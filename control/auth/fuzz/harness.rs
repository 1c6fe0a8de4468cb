//! What every target checks: rubbish is a typed error, and what is taken keeps to the limits
//! and says the same of its neighbours.

#![allow(dead_code)] // Each target uses its part.

use std::sync::LazyLock;

use pinion_auth::AuthError;
use pinion_auth::jose::{Algorithm, Jws, KID_BYTES_MAX};
use pinion_auth::jwk::{KeySet, SET_KEYS_MAX};
use pinion_auth::upstream::{self, GROUPS_MAX, IssuerRules, SUBJECT_BYTES_MAX, Upstream};
use pinion_types::WallMs;

/// Keys of RFC 7515 and RFC 8037, so that the seeds of the corpus are signed by one of them.
static KEYS: LazyLock<KeySet> =
    LazyLock::new(|| KeySet::parse(include_bytes!("corpus/jwks/issuer")).expect("a JWK set"));

fn check(token: &[u8]) -> Result<Upstream, AuthError> {
    let rules = IssuerRules {
        issuer: "https://id.example/a",
        audiences: &["pinion".into()],
        algorithms: Algorithm::ALL.into_iter().collect(),
        subject_claim: "sub",
        groups_claim: Some("groups"),
        clock_skew_s: 60,
    };
    upstream::check(Jws::parse(token)?, &rules, &KEYS, WallMs(1_800_000_000_000))
}

pub fn jws(data: &[u8]) {
    if let Ok(jws) = Jws::parse(data) {
        let _ = jws.claimed_issuer();
        assert!(
            jws.claimed_kid()
                .is_none_or(|kid| kid.len() <= KID_BYTES_MAX)
        );
    }
    let Ok(principal) = check(data) else { return };
    assert!(principal.groups.len() <= GROUPS_MAX);
    for name in principal.groups.iter().chain([&principal.subject]) {
        assert!((1..=SUBJECT_BYTES_MAX).contains(&name.len()));
    }
    // Signed: then no neighbour of it is.
    let mut changed = data.to_vec();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert!(check(&changed).is_err(), "one encoding of a signature");
}

pub fn jwks(data: &[u8]) {
    let Ok(set) = KeySet::parse(data) else { return };
    assert!(set.len() + set.refused().count() <= SET_KEYS_MAX);
    for algorithm in Algorithm::ALL {
        for kid in [None, Some("rsa"), Some("p256"), Some("")] {
            let Ok(key) = set.find(kid, algorithm) else {
                continue;
            };
            assert!(key.fits(algorithm), "a key is used for what it is");
            // A key that is no point or no modulus is found out here, without a panic.
            assert_eq!(
                key.verify(algorithm, b"signed", &[7; 64]),
                Err(AuthError::BadSignature)
            );
        }
    }
}
