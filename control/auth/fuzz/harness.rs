//! What every target checks: rubbish is a typed error, and what is taken keeps to the limits
//! and says the same of its neighbours.

#![allow(dead_code)] // Each target uses its part.

use std::sync::{Arc, LazyLock};

use pinion_auth::api_key::ApiKey;
use pinion_auth::compile::{
    ApiKeyFacts, CredentialTable, Credentials, Proof, TableBuilder, TenantFacts,
};
use pinion_auth::jose::{Algorithm, Jws, KID_BYTES_MAX};
use pinion_auth::jwk::{KeySet, SET_KEYS_MAX};
use pinion_auth::keyring::{Keyring, StoredKey};
use pinion_auth::policies::Policies;
use pinion_auth::provider::{self, DISCOVERY_BYTES_MAX, URL_BYTES_MAX, Url};
use pinion_auth::seal::{MasterKey, SealError, Sealed};
use pinion_auth::sign::SigningKey;
use pinion_auth::token::{Kid, Realm, Shown};
use pinion_auth::upstream::{self, GROUPS_MAX, IssuerRules, SUBJECT_BYTES_MAX, Upstream};
use pinion_auth::{AuthError, TenantId};
use pinion_types::WallMs;

/// Keys of RFC 7515 and RFC 8037, so that the seeds of the corpus are signed by one of them.
static KEYS: LazyLock<KeySet> =
    LazyLock::new(|| KeySet::parse(include_bytes!("corpus/jwks/issuer")).expect("a JWK set"));

fn check(token: &[u8]) -> Result<Upstream, AuthError> {
    let rules = IssuerRules {
        issuer: "https://id.example/a".into(),
        audiences: ["pinion".into()].into(),
        algorithms: Algorithm::ALL.into_iter().collect(),
        subject_claim: "sub".into(),
        groups_claim: Some("groups".into()),
        clock_skew_s: 60,
    };
    upstream::check(Jws::parse(token)?, &rules, None, &KEYS, WallMs(1_800_000_000_000))
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

/// A discovery document, and a URL, whichever it is.
pub fn discovery(data: &[u8]) {
    let from = Url::parse("https://id.example/a/.well-known/openid-configuration");
    if let Ok(found) = provider::discovered(data, "https://id.example/a", &from.expect("a URL")) {
        assert!(data.len() <= DISCOVERY_BYTES_MAX);
        assert!(found.keys.secure(), "https leads to https");
        if let Ok(login) = found.login {
            assert!(login.authorization.secure() && login.token.secure());
        }
    }
    let Some(url) = core::str::from_utf8(data)
        .ok()
        .and_then(|text| Url::parse(text).ok())
    else {
        return;
    };
    assert!(url.text().len() <= URL_BYTES_MAX && url.port() != 0);
    // It is asked for with these two lines of HTTP/1.1: nothing in them ends one early.
    for part in [url.authority(), url.target()] {
        assert!(part.bytes().all(|byte| byte.is_ascii_graphic()), "{part:?}");
    }
    let start = if url.secure() { "https://" } else { "http://" };
    let again = [start, url.authority(), url.target()].concat();
    assert_eq!(again.as_bytes(), data);
}

/// The key of RFC 8037, which signed the seeds of the corpus, and their cluster.
static OURS: LazyLock<(SigningKey, Realm)> = LazyLock::new(|| {
    let seed = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
        0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
        0x7f, 0x60,
    ];
    let cluster = std::array::from_fn(|i| u8::try_from(i).expect("sixteen"));
    (SigningKey::from_seed(&seed), Realm::of(&cluster))
});

pub fn token(data: &[u8]) {
    let Ok(shown) = Shown::parse(data) else {
        return;
    };
    let (key, realm) = &*OURS;
    let Ok(claims) = shown.verify(&key.public(), realm, WallMs(1_800_000_000_000)) else {
        return;
    };
    // The name of the key is under the signature, so it is the one it was checked with.
    assert_eq!(shown.kid(), key.kid());
    let again = key
        .issue(realm, &claims)
        .expect("what is taken can be issued");
    assert_eq!(again.as_bytes(), data, "one spelling");
}

pub fn sealed(data: &[u8]) {
    let Ok(bytes) = data.try_into() else {
        return;
    };
    let sealed = Sealed::new(bytes);
    assert_eq!(sealed.bytes(), data, "one spelling");
    let master = MasterKey::new(&std::array::from_fn(|i| u8::try_from(i).expect("32")));
    let (tenant, kid) = (TenantId(1), OURS.0.kid());
    match master.open(tenant, kid, &sealed) {
        Ok(seed) => {
            let nonce = data[8..20].try_into().expect("twelve bytes");
            assert_eq!(master.seal(tenant, kid, &seed, nonce), sealed);
            assert!(master.open(TenantId(2), kid, &sealed).is_err());
            assert!(master.open(tenant, Kid([0; 16]), &sealed).is_err());
        }
        Err(why) => assert!(matches!(
            why,
            SealError::Version { .. } | SealError::OtherMaster { .. } | SealError::Damaged
        )),
    }
}

/// A tenant that signs with the key of the corpus and has one API key.
static TABLE: LazyLock<Arc<CredentialTable>> = LazyLock::new(|| {
    let (id, master) = (TenantId(1), MasterKey::new(&[0; 32]));
    let stored = |key: &SigningKey| StoredKey {
        public: key.public(),
        sealed: master.seal(id, key.kid(), &[0; 32], [0; 12]),
    };
    let mut builder = TableBuilder::new(OURS.1.clone(), Vec::new());
    let facts = TenantFacts {
        id,
        name: "t1".into(),
        keys: Some(Keyring {
            current: stored(&OURS.0),
            next: stored(&SigningKey::from_seed(&[1; 32])),
            previous: None,
        }),
        api_keys: vec![ApiKeyFacts {
            digest: ApiKey::mint([0; 4], &[0; 32]).0.digest,
            subject: "p:robot".into(),
            expires: None,
        }],
        revoked_tokens: Vec::new(),
        revoked_subjects: Vec::new(),
        policies: Policies::new("t1"),
    };
    builder.handle_tenant(facts).expect("one key");
    builder.poll_table().expect("a table")
});

pub fn bearer(data: &[u8]) {
    let wall = WallMs(1_800_000_000_000);
    let shown = Credentials {
        bearer: data,
        workload: None,
    };
    let Ok(mut known) = TABLE.admit(wall, shown) else {
        return;
    };
    assert_eq!(known.tenant, TenantId(1));
    assert_eq!(TABLE.still_valid(wall, &mut known), Ok(()));
    if let Some(over) = TABLE.over_at(&known) {
        assert!(TABLE.still_valid(over, &mut known).is_err());
    }
    match known.proof {
        Proof::ApiKey(_) => assert_eq!(data, ApiKey::mint([0; 4], &[0; 32]).1.as_bytes()),
        Proof::Token(_) => token(data),
        Proof::Workload(_) => panic!("there was no certificate"),
    }
}
