//! The vectors of `vectors/*.json`, derived by `vectors/derive.py` from `docs/identity.md`:
//! what should be taken is taken and says what it should, and everything else is refused for
//! the reason it should be.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use pinion_auth::api_key::{API_KEY_BYTES, ApiKey, ApiKeyDigest};
use pinion_auth::exchange::{ANSWER_WAIT, WAITING_MAX, WAITING_PER_PROVIDER_MAX};
use pinion_auth::jose::{
    Algorithm, Algorithms, HEADER_BYTES_MAX, Jws, KID_BYTES_MAX, SIGNATURE_BYTES_MAX,
    UPSTREAM_BYTES_MAX,
};
use pinion_auth::jwk::{
    KeyRefusal, KeySet, KeySetError, RSA_BITS_MIN, RSA_BYTES_MAX, SET_BYTES_MAX, SET_KEYS_MAX,
};
use pinion_auth::jwks_cache::{
    BACK_OFF_MAX, BACK_OFF_MIN, DISCOVERY_FRESH, FETCH_WAIT, FETCHES_MAX, FRESH, PROVIDERS_MAX,
    REFRESH_MIN, STALE_MAX,
};
use pinion_auth::keyring::{Keyring, RETIRED_KEPT_MS, StoredKey};
use pinion_auth::provider::{DISCOVERY_BYTES_MAX, Host, URL_BYTES_MAX, Url, discovered};
use pinion_auth::seal::{MasterKey, SEALED_BYTES, SealError, Sealed};
use pinion_auth::sign::{IssueError, SigningKey};
use pinion_auth::spiffe::SPIFFE_BYTES_MAX;
use pinion_auth::token::{
    Claims, Jti, Kid, LIFE_S_DEFAULT, LIFE_S_MAX, PERMISSIONS_MAX, Realm, SKEW_MS, Shown,
    TOKEN_BYTES_MAX, TOKEN_SUBJECT_BYTES_MAX,
};
use pinion_auth::upstream::{self, GROUPS_MAX, IssuerRules, SUBJECT_BYTES_MAX, Upstream};
use pinion_auth::{AuthError, TenantId};
use pinion_types::WallMs;
use serde_json::Value;

pub(crate) fn load(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(file);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn rows(of: &Value) -> &Vec<Value> {
    of.as_array().unwrap()
}

pub(crate) fn text(of: &Value) -> &str {
    of.as_str().unwrap()
}

/// The name of an enum's variant.
fn variant(of: impl Debug) -> String {
    let all = format!("{of:?}");
    let name = all.split([' ', '(', '{']).next().unwrap();
    name.to_owned()
}

fn unhex<const N: usize>(of: &Value) -> [u8; N] {
    let digits = text(of).as_bytes();
    assert_eq!(digits.len(), 2 * N);
    std::array::from_fn(|i| {
        let pair = std::str::from_utf8(&digits[2 * i..2 * i + 2]).unwrap();
        u8::from_str_radix(pair, 16).unwrap()
    })
}

/// The issuer of `upstream.json`: its rules and keys.
struct Issuer {
    name: String,
    audiences: Box<[Box<str>]>,
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
            issuer: self.name.as_str().into(),
            audiences: self.audiences.clone(),
            algorithms,
            subject_claim: "sub".into(),
            groups_claim: Some("groups".into()),
            clock_skew_s: self.skew,
        };
        upstream::check(Jws::parse(token)?, &rules, None, &self.keys, wall)
    }
}

fn every_algorithm() -> Algorithms {
    Algorithm::ALL.into_iter().collect()
}

#[test]
fn vectors_hold() {
    let seen = upstream_tokens()
        + key_sets()
        + own_tokens()
        + sealed_keys()
        + key_rings()
        + api_keys()
        + providers();
    println!("vectors: {seen}");
}

fn upstream_tokens() -> usize {
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
    seen
}

fn key_sets() -> usize {
    let mut seen = 0;
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
    seen
}

/// The cluster and key of `tokens.json`.
struct Ours {
    realm: Realm,
    key: SigningKey,
}

impl Ours {
    fn load(file: &Value) -> Self {
        let ours = Self {
            realm: Realm::of(&unhex(&file["cluster"])),
            key: SigningKey::from_seed(&unhex(&file["seed"])),
        };
        assert_eq!(ours.key.public(), unhex(&file["public"]));
        assert_eq!(ours.key.kid(), Kid(unhex(&file["kid"])));
        ours
    }

    fn check(&self, token: &[u8], wall: WallMs) -> Result<Claims, AuthError> {
        let shown = Shown::parse(token)?;
        assert_eq!(shown.kid(), self.key.kid());
        shown.verify(&self.key.public(), &self.realm, wall)
    }
}

fn claims(of: &Value) -> Claims {
    let seconds = |name: &str| WallMs(of[name].as_u64().unwrap() * 1000);
    Claims {
        subject: text(&of["sub"]).into(),
        tenant: text(&of["tid"]).into(),
        issued: seconds("iat"),
        expires: seconds("exp"),
        jti: Jti(unhex(&of["jti"])),
        permissions: rows(&of["perms"]).iter().map(|p| text(p).into()).collect(),
    }
}

fn own_tokens() -> usize {
    let mut seen = 0;
    let file = load("tokens.json");
    let ours = Ours::load(&file);
    for case in rows(&file["good"]).iter().chain(rows(&file["bad"])) {
        let token = text(&case["token"]);
        let wall = WallMs(case["wall_ms"].as_u64().unwrap());
        let name = text(&case["name"]);
        let found = ours.check(token.as_bytes(), wall);
        if let Some(why) = case["refused"].as_str() {
            let found = found.expect_err(name);
            assert_eq!(variant(found), why, "{name}: {found}");
        } else {
            let expected = claims(&case["claims"]);
            assert!(Shown::recognise(token.as_bytes()));
            assert_eq!(
                ours.key.issue(&ours.realm, &expected),
                Ok(token.to_owned()),
                "{name}"
            );
            assert_eq!(found, Ok(expected), "{name}");
        }
        seen += 1;
    }
    seen
}

fn sealed_keys() -> usize {
    let file = load("sealed.json");
    for case in rows(&file) {
        let master = MasterKey::new(&unhex(&case["master"]));
        let tenant = TenantId(case["tenant"].as_u64().unwrap());
        let (kid, seed) = (Kid(unhex(&case["kid"])), unhex(&case["seed"]));
        let sealed = master.seal(tenant, kid, &seed, unhex(&case["nonce"]));
        let fields = rows(&case["hex"]).iter();
        let digits: String = fields.map(|f| text(f).split(' ').next().unwrap()).collect();
        assert_eq!(*sealed.bytes(), unhex(&digits.into()), "{}", case["name"]);
        assert_eq!(master.open(tenant, kid, &sealed), Ok(seed));
    }
    rows(&file).len()
}

fn key_rings() -> usize {
    let file = load("key_ring.json");
    let master = MasterKey::new(&[7; 32]);
    let key = |name: &str, nonce| {
        StoredKey::fresh(&master, TenantId(1), &unhex(&file[name]), [nonce; 12])
    };
    let until = WallMs(1000);
    let ring = Keyring {
        current: key("current", 1),
        next: key("next", 2),
        previous: Some((key("previous", 3), until)),
    };
    let before = ring.key_set(WallMs(until.0 - 1));
    assert_eq!(before, text(&file["with_previous"]));
    assert_eq!(ring.key_set(until), text(&file["without_previous"]));
    // What we publish is what we would take from anybody.
    let set = KeySet::parse(before.as_bytes()).unwrap();
    assert_eq!(set.len(), 3);
    let kid = ring.current.kid().to_string();
    assert!(set.find(Some(&kid), Algorithm::EdDsa).is_ok());
    2
}

fn api_keys() -> usize {
    let file = load("api_keys.json");
    for case in rows(&file) {
        let (key, shown) = ApiKey::mint(unhex(&case["prefix"]), &unhex(&case["secret"]));
        assert_eq!(shown, text(&case["text"]));
        assert_eq!(key.prefix, text(&case["prefix"]).as_bytes());
        assert_eq!(key.digest, ApiKeyDigest(unhex(&case["digest"])));
        assert_eq!(ApiKey::parse(shown.as_bytes()), Some(key));
    }
    rows(&file).len()
}

fn providers() -> usize {
    let file = load("providers.json");
    for case in rows(&file["urls"]) {
        let url = Url::parse(text(&case["text"])).unwrap();
        assert_eq!(url.text(), text(&case["text"]));
        assert_eq!(url.secure(), case["secure"].as_bool().unwrap(), "{url}");
        assert_eq!(u64::from(url.port()), case["port"].as_u64().unwrap());
        assert_eq!(url.authority(), text(&case["authority"]));
        assert_eq!(url.target(), text(&case["target"]));
        let host = text(&case["host"]);
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let expected = match address.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(host.into()),
        };
        assert_eq!(*url.host(), expected);
    }
    for case in rows(&file["bad_urls"]) {
        let found = Url::parse(text(&case["text"])).expect_err(text(&case["text"]));
        assert_eq!(variant(found), text(&case["why"]), "{}", case["text"]);
    }
    for case in rows(&file["documents"]) {
        let from = Url::parse(text(&case["from"])).unwrap();
        let document = text(&case["document"]).as_bytes();
        let found = discovered(document, text(&file["issuer"]), &from);
        if let Some(why) = case["why"].as_str() {
            let found = found.expect_err(text(&case["name"]));
            assert_eq!(variant(found), why, "{}: {found}", case["name"]);
        } else {
            assert_eq!(found.unwrap().keys.text(), text(&file["keys"]));
        }
    }
    ["urls", "bad_urls", "documents"]
        .iter()
        .map(|list| rows(&file[*list]).len())
        .sum()
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
        neighbours_are_refused(name, &token, |changed| {
            issuer.check(changed, wall, every_algorithm()).is_err()
        });
    }
    let file = load("tokens.json");
    let ours = Ours::load(&file);
    let (token, wall) = good(&file, "as it is issued");
    neighbours_are_refused("ours", &token, |changed| match Shown::parse(changed) {
        // Whose key it is is asked before anything else.
        Ok(shown) if shown.kid() != ours.key.kid() => true,
        _ => ours.check(changed, wall).is_err(),
    });
}

fn neighbours_are_refused(name: &str, token: &[u8], refused: impl Fn(&[u8]) -> bool) {
    assert!(!refused(token));
    for end in 0..token.len() {
        assert!(refused(&token[..end]), "{name} cut at {end}");
    }
    for place in 0..token.len() {
        for bit in 0..8 {
            let mut changed = token.to_vec();
            changed[place] ^= 1 << bit;
            assert!(
                refused(&changed),
                "{name} with bit {bit} of {place} changed"
            );
        }
    }
}

#[test]
fn what_is_too_long_is_not_read() {
    let long = vec![b'a'; UPSTREAM_BYTES_MAX + 1];
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
    let ours = Ours::load(&load("tokens.json"));
    let long = [
        text(&load("tokens.json")["good"][0]["token"]).as_bytes(),
        &[b'A'; 4096],
    ]
    .concat();
    assert_eq!(
        ours.check(&long, WallMs(0)).unwrap_err(),
        AuthError::TooLarge {
            limit: TOKEN_BYTES_MAX
        }
    );
    let long = vec![b' '; SET_BYTES_MAX + 1];
    assert_eq!(KeySet::parse(&long).unwrap_err(), KeySetError::TooLarge);
    assert_eq!(
        KeySet::parse(&long[1..]).unwrap_err(),
        KeySetError::Malformed
    );
}

#[test]
fn a_name_that_no_token_can_have_is_not_kept() {
    let long = "k".repeat(KID_BYTES_MAX + 1);
    let set = format!(r#"{{"keys":[{{"kty":"RSA","kid":"{long}"}}]}}"#);
    let set = KeySet::parse(set.as_bytes()).unwrap();
    let refused: Vec<_> = set.refused().collect();
    assert_eq!(refused, [(None, KeyRefusal::Member { member: "kid" })]);
    assert!(!set.names(&long));
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

#[test]
fn a_token_that_nobody_could_show_is_not_issued() {
    let file = load("tokens.json");
    let ours = Ours::load(&file);
    let claims = |permissions: Vec<String>, life_ms: u64| Claims {
        issued: WallMs(1_000_000),
        expires: WallMs(1_000_000 + life_ms),
        permissions: permissions.into_iter().map(Into::into).collect(),
        ..claims(&file["good"][0]["claims"])
    };
    let issue = |claims| ours.key.issue(&ours.realm, &claims);
    let many = vec!["a:b".to_owned(); PERMISSIONS_MAX];
    assert!(issue(claims(many.clone(), 900_000)).is_ok());
    let permissions = PERMISSIONS_MAX + 1;
    assert_eq!(
        issue(claims([many, vec![String::new()]].concat(), 900_000)),
        Err(IssueError::TooManyPermissions { permissions })
    );
    for life in [0, 999, 3_601_000] {
        assert_eq!(issue(claims(Vec::new(), life)), Err(IssueError::Lifetime));
    }
    // The longest that is issued is taken; one more byte is not issued.
    let mut longest = 0;
    for bytes in 2000..4000 {
        match issue(claims(vec!["p".repeat(bytes)], 900_000)) {
            Ok(token) => {
                assert!(ours.check(token.as_bytes(), WallMs(1_000_000)).is_ok());
                longest = token.len();
            }
            Err(IssueError::TooLarge { bytes }) => {
                assert!(bytes > TOKEN_BYTES_MAX);
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(
        (TOKEN_BYTES_MAX - 2..=TOKEN_BYTES_MAX).contains(&longest),
        "{longest}"
    );
}

#[test]
fn a_sealed_key_opens_for_its_own_tenant_key_and_master_alone() {
    let master = MasterKey::new(&[1; 32]);
    let (tenant, kid, seed) = (TenantId(7), Kid([3; 16]), [9; 32]);
    let sealed = master.seal(tenant, kid, &seed, [5; 12]);
    assert_eq!(master.open(tenant, kid, &sealed), Ok(seed));
    assert_eq!(
        master.open(TenantId(8), kid, &sealed),
        Err(SealError::Damaged)
    );
    assert_eq!(
        master.open(tenant, Kid([4; 16]), &sealed),
        Err(SealError::Damaged)
    );
    let other = MasterKey::new(&[2; 32]);
    assert_eq!(
        other.open(tenant, kid, &sealed),
        Err(SealError::OtherMaster {
            sealed: master.id(),
            ours: other.id(),
        })
    );
    for place in 0..sealed.bytes().len() {
        for bit in 0..8 {
            let mut changed = *sealed.bytes();
            changed[place] ^= 1 << bit;
            let opened = master.open(tenant, kid, &Sealed::new(changed));
            let why = variant(opened.unwrap_err());
            let expected = match place {
                0..4 => "Version",
                4..8 => "OtherMaster",
                _ => "Damaged",
            };
            assert_eq!(why, expected, "bit {bit} of {place}");
        }
    }
}

#[test]
fn a_master_key_is_read_from_its_one_spelling_and_never_printed() {
    let digits = "00".repeat(31) + "5a";
    for text in [digits.clone(), format!("{digits}\n")] {
        let master = MasterKey::parse(text.as_bytes()).unwrap();
        assert_eq!(
            master.id(),
            MasterKey::new(&unhex(&digits.clone().into())).id()
        );
        assert!(!format!("{master:?}").contains("5a"), "{master:?}");
    }
    for text in [
        String::new(),
        digits[1..].to_owned(),
        digits.to_uppercase(),
        format!("{digits}\n\n"),
        format!("{digits}\r\n"),
        format!(" {digits}"),
        format!("0x{digits}"),
    ] {
        assert!(MasterKey::parse(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn a_stored_key_signs_and_one_whose_halves_do_not_match_is_damaged() {
    let file = load("tokens.json");
    let ours = Ours::load(&file);
    let master = MasterKey::new(&[1; 32]);
    let tenant = TenantId(1);
    let stored = StoredKey::fresh(&master, tenant, &unhex(&file["seed"]), [0; 12]);
    let said = claims(&file["good"][0]["claims"]);
    let token = stored
        .open(&master, tenant)
        .unwrap()
        .issue(&ours.realm, &said)
        .unwrap();
    assert_eq!(token, text(&file["good"][0]["token"]));

    let public = SigningKey::from_seed(&[8; 32]).public();
    let sealed = master.seal(tenant, Kid::of(&public), &[9; 32], [1; 12]);
    let crossed = StoredKey { public, sealed };
    assert_eq!(
        crossed.open(&master, tenant).unwrap_err(),
        SealError::Damaged
    );
}

#[test]
fn the_document_names_every_algorithm_reason_and_limit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = fs::read_to_string(root.join("docs/identity.md")).unwrap();
    let mut words: Vec<String> = Algorithm::ALL.map(|one| one.text().to_owned()).into();
    for (file, list, member) in [
        ("upstream.json", "bad", "refused"),
        ("tokens.json", "bad", "refused"),
        ("key_sets.json", "left_out", "why"),
    ] {
        words.extend(
            rows(&load(file)[list])
                .iter()
                .map(|case| text(&case[member]).into()),
        );
    }
    words.extend([
        format!("at most {} bytes", thousands(UPSTREAM_BYTES_MAX)),
        format!("at most {HEADER_BYTES_MAX} bytes, one JSON object"),
        format!("text of at most {KID_BYTES_MAX} bytes"),
        format!("the signature at most {SIGNATURE_BYTES_MAX} bytes"),
        format!("text of 1 to {SUBJECT_BYTES_MAX} bytes"),
        format!("a list of at most {GROUPS_MAX}"),
        format!("{} bytes and {SET_KEYS_MAX} keys", thousands(SET_BYTES_MAX)),
        format!("{RSA_BITS_MIN} to {} bits", RSA_BYTES_MAX * 8),
        format!("At most {} bytes", thousands(TOKEN_BYTES_MAX)),
        format!("1 to {TOKEN_SUBJECT_BYTES_MAX} bytes"),
        format!("from 1 to {} apart, {LIFE_S_DEFAULT} if", thousands(3600)),
        format!("at most {PERMISSIONS_MAX} texts"),
        format!("a skew of {} s", SKEW_MS / 1000),
        format!("at rest, {SEALED_BYTES} bytes"),
        format!("{API_KEY_BYTES} bytes of text"),
        format!("text of at most {SPIFFE_BYTES_MAX} bytes, `spiffe://`"),
        format!("at most {} bytes, of `https`", thousands(URL_BYTES_MAX)),
        format!("at most {} bytes and", thousands(DISCOVERY_BYTES_MAX)),
    ]);
    for (limit, said) in [
        (FRESH, "for 5 minutes"),
        (STALE_MAX, "up to 1 hour"),
        (REFRESH_MIN, "every 10 s"),
        (DISCOVERY_FRESH, "believed for 1 hour"),
        (BACK_OFF_MIN, "after 1 s"),
        (BACK_OFF_MAX, "up to 5 minutes"),
        (FETCH_WAIT, "takes 5 s"),
        (ANSWER_WAIT, "waits 8 s"),
    ] {
        let number = said.split(' ').rev().nth(1).unwrap();
        let unit = match said.split(' ').next_back().unwrap() {
            "s" => 1,
            "minutes" => 60,
            _ => 3600,
        };
        assert_eq!(limit.as_secs(), number.parse::<u64>().unwrap() * unit);
        words.push(said.to_owned());
    }
    words.extend([
        format!(
            "at most {FETCHES_MAX} fetches run at a time, {} tokens wait, and the keys of {} are kept",
            thousands(WAITING_MAX),
            thousands(PROVIDERS_MAX)
        ),
        format!("and {WAITING_PER_PROVIDER_MAX} tokens wait"),
    ]);
    for list in ["bad_urls", "documents"] {
        let file = load("providers.json");
        let reasons = rows(&file[list])
            .iter()
            .filter_map(|case| case["why"].as_str());
        words.extend(
            reasons
                .filter(|why| *why != "Document" && *why != "TooLong")
                .map(str::to_owned),
        );
    }
    assert_eq!((LIFE_S_MAX, RETIRED_KEPT_MS), (3600, 3_630_000));
    for word in words {
        assert!(document.contains(&word), "docs/identity.md lacks '{word}'");
    }
}

/// With a comma between thousands, as people write it.
fn thousands(number: usize) -> String {
    match (number / 1000, number % 1000) {
        (0, small) => small.to_string(),
        (large, small) => format!("{large},{small:03}"),
    }
}
