//! Exchanges of tokens whose issuer's keys are elsewhere: what is fetched, when, how often,
//! and what becomes of the tokens meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pinion_auth::AuthError;
use pinion_auth::exchange::{
    ANSWER_WAIT, Exchange, ExchangeId, Issuer, WAITING_MAX, WAITING_PER_PROVIDER_MAX,
};
use pinion_auth::jose::{Algorithm, Algorithms};
use pinion_auth::jwk::{KeySetError, SET_BYTES_MAX};
use pinion_auth::jwks_cache::{
    BACK_OFF_MAX, BACK_OFF_MIN, DISCOVERY_FRESH, FETCH_WAIT, FETCHES_MAX, FRESH, Fetch,
    FetchFailure, PROVIDERS_MAX, REFRESH_MIN, STALE_MAX,
};
use pinion_auth::provider::{DISCOVERY_BYTES_MAX, Source, Url};
use pinion_auth::upstream::{IssuerRules, Upstream};
use pinion_types::{Monotonic, WallMs};
use serde_json::{Value, json};

use crate::vectors::{load, rows, text};

const ISSUER: &str = "https://id.example/a";
const DISCOVERY: &str = "https://id.example/a/.well-known/openid-configuration";
const KEYS: &str = "https://keys.example/a?v=1";
const SECOND: Duration = Duration::from_secs(1);

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn rules(issuer: &str, algorithms: &[Algorithm]) -> IssuerRules {
    IssuerRules {
        issuer: issuer.into(),
        audiences: ["pinion".into()].into(),
        algorithms: algorithms.iter().copied().collect::<Algorithms>(),
        subject_claim: "sub".into(),
        groups_claim: None,
        clock_skew_s: 60,
    }
}

fn discovered() -> Arc<Issuer> {
    let source = Source::Discovery(url(DISCOVERY));
    Arc::new(Issuer::new(rules(ISSUER, &Algorithm::ALL), source))
}

/// The issuer of the vectors, with its keys at a URL of their own.
fn direct(number: usize) -> Arc<Issuer> {
    let source = Source::Keys(url(&format!("https://keys.example/{number}")));
    Arc::new(Issuer::new(rules(ISSUER, &Algorithm::ALL), source))
}

/// A node, and what identity providers publish.
struct World {
    exchange: Exchange,
    now: Monotonic,
    tokens: u64,
    file: Value,
}

type Answer = Result<Upstream, AuthError>;

impl World {
    fn new() -> Self {
        Self {
            exchange: Exchange::default(),
            now: Monotonic::from_millis(77),
            tokens: 0,
            file: load("upstream.json"),
        }
    }

    /// The token that is signed with an algorithm.
    fn token(&self, algorithm: Algorithm) -> Vec<u8> {
        let name = format!("signed with {}", algorithm.text());
        let mut good = rows(&self.file["good"]).iter();
        let case = good.find(|case| text(&case["name"]) == name).unwrap();
        text(&case["token"]).as_bytes().to_vec()
    }

    /// The vectors' own time: what is tested here passes on the other clock.
    fn wall(&self) -> WallMs {
        WallMs(rows(&self.file["good"])[0]["wall_ms"].as_u64().unwrap())
    }

    /// The issuer's key set, without the keys of some types.
    fn set(&self, without: &[&str]) -> Vec<u8> {
        let mut set = self.file["keys"].clone();
        let keys = set["keys"].as_array_mut().unwrap();
        keys.retain(|key| !without.contains(&text(&key["kty"])));
        set.to_string().into_bytes()
    }

    fn document(&self) -> Vec<u8> {
        json!({ "issuer": ISSUER, "jwks_uri": KEYS, "claims_supported": [] })
            .to_string()
            .into_bytes()
    }

    /// Shows a token; the answer, if there is one already.
    fn show(&mut self, algorithm: Algorithm, issuer: &Arc<Issuer>) -> Option<Answer> {
        let token = self.token(algorithm);
        self.show_bytes(&token, std::slice::from_ref(issuer))
    }

    fn show_bytes(&mut self, token: &[u8], issuers: &[Arc<Issuer>]) -> Option<Answer> {
        self.tokens += 1;
        let id = ExchangeId(self.tokens);
        let wall = self.wall();
        self.exchange
            .handle_token(self.now, wall, id, token, issuers, None);
        let (answered, answer) = self.exchange.poll_answer()?;
        assert_eq!(answered, id);
        Some(answer)
    }

    fn fetch(&mut self) -> Option<Fetch> {
        self.exchange.poll_fetch(self.now)
    }

    fn fetched(&mut self, fetch: &Fetch, what: Result<&[u8], FetchFailure>) -> VecDeque<Answer> {
        let wall = self.wall();
        self.exchange.handle_fetched(self.now, wall, fetch.id, what);
        self.answers()
    }

    /// The one fetch that there is to make, of that URL, and what comes of it.
    fn serve(&mut self, from: &str, what: Result<&[u8], FetchFailure>) -> VecDeque<Answer> {
        let fetch = self.fetch().expect("something to fetch");
        assert_eq!(fetch.url.text(), from);
        assert_eq!(self.fetch(), None, "one fetch for one provider");
        self.fetched(&fetch, what)
    }

    fn wait(&mut self, how_long: Duration) -> VecDeque<Answer> {
        self.now = self.now + how_long;
        let wall = self.wall();
        self.exchange.handle_timeout(self.now, wall);
        self.answers()
    }

    fn answers(&mut self) -> VecDeque<Answer> {
        std::iter::from_fn(|| self.exchange.poll_answer())
            .map(|(_, answer)| answer)
            .collect()
    }

    /// A world that has all keys of the issuer, from its discovery document.
    fn with_keys(issuer: &Arc<Issuer>, set: impl Fn(&Self) -> Vec<u8>) -> Self {
        let mut world = Self::new();
        assert!(world.show(Algorithm::Rs256, issuer).is_none());
        let (document, set) = (world.document(), set(&world));
        assert!(world.serve(DISCOVERY, Ok(&document)).is_empty());
        let answers = world.serve(KEYS, Ok(&set));
        assert!(matches!(Vec::from(answers)[..], [Ok(_)]));
        world
    }
}

#[track_caller]
fn unavailable(answer: Option<Answer>, retry: Duration, why: FetchFailure) {
    let refused = answer.expect("an answer").expect_err("no keys");
    assert_eq!(refused, AuthError::IssuerUnavailable { retry, why });
}

#[test]
fn the_first_token_brings_the_keys_and_the_others_need_nothing() {
    let mut world = World::new();
    let issuer = discovered();
    assert!(world.show(Algorithm::Rs256, &issuer).is_none());
    assert!(world.show(Algorithm::Es256, &issuer).is_none());

    let fetch = world.fetch().unwrap();
    assert_eq!(fetch.url, url(DISCOVERY));
    assert_eq!(fetch.bytes_max, DISCOVERY_BYTES_MAX);
    assert_eq!(fetch.deadline, world.now + FETCH_WAIT);
    assert_eq!(world.exchange.next_deadline(), Some(fetch.deadline));
    assert_eq!(world.fetch(), None);
    let document = world.document();
    assert!(world.fetched(&fetch, Ok(&document)).is_empty());

    world.now = world.now + SECOND;
    let fetch = world.fetch().unwrap();
    assert_eq!(
        (fetch.url.clone(), fetch.bytes_max),
        (url(KEYS), SET_BYTES_MAX)
    );
    assert_eq!(fetch.deadline, world.now + FETCH_WAIT);
    let set = world.set(&[]);
    let answers = world.fetched(&fetch, Ok(&set));
    assert_eq!(answers.len(), 2);
    for answer in answers {
        assert_eq!(&*answer.unwrap().subject, "ana");
    }

    assert_eq!(world.exchange.next_deadline(), None);
    assert!(world.show(Algorithm::EdDsa, &issuer).unwrap().is_ok());
    assert_eq!(world.fetch(), None);
}

#[test]
fn nothing_is_fetched_for_a_token_that_would_be_refused_anyway() {
    let mut world = World::new();
    let pinned = Source::Discovery(url(DISCOVERY));
    let pinned = Arc::new(Issuer::new(rules(ISSUER, &[Algorithm::EdDsa]), pinned));
    let other = Source::Discovery(url(DISCOVERY));
    let other = Issuer::new(rules("https://id.example/b", &Algorithm::ALL), other);
    let token = world.token(Algorithm::Rs256);
    for (token, issuers, why) in [
        (&token[..], vec![pinned], AuthError::WrongAlgorithm),
        (&token, vec![Arc::new(other)], AuthError::WrongIssuer),
        (&token, vec![], AuthError::WrongIssuer),
        (
            b"eyJhbGciOiJub25lIn0.e30.",
            vec![discovered()],
            AuthError::WrongAlgorithm,
        ),
    ] {
        assert_eq!(world.show_bytes(token, &issuers), Some(Err(why)));
    }
    let garbage = world.show_bytes(b"garbage", &[discovered()]).unwrap();
    assert!(matches!(garbage, Err(AuthError::Malformed { .. })));
    assert_eq!(world.fetch(), None);
    assert_eq!(world.exchange.next_deadline(), None);
}

#[test]
fn an_unknown_key_has_the_set_fetched_again_but_seldom() {
    let issuer = discovered();
    let mut world = World::with_keys(&issuer, |world| world.set(&["EC"]));
    let unknown = Some(Err(AuthError::UnknownKey));
    // The set has just come: it would be the same.
    world.wait(REFRESH_MIN - Duration::from_nanos(1));
    assert_eq!(world.show(Algorithm::Es256, &issuer), unknown);
    assert_eq!(world.fetch(), None);

    world.wait(Duration::from_nanos(1));
    assert!(world.show(Algorithm::Es256, &issuer).is_none());
    // Whoever has a key of the set does not wait for it.
    assert!(world.show(Algorithm::Rs256, &issuer).unwrap().is_ok());
    let set = world.set(&["EC"]);
    assert_eq!(
        world.serve(KEYS, Ok(&set)),
        [Err(AuthError::UnknownKey)],
        "the document that says where the keys are is still believed"
    );
    assert_eq!(world.show(Algorithm::Es256, &issuer), unknown);
    assert_eq!(world.fetch(), None);

    // The provider has a new key now.
    world.wait(REFRESH_MIN);
    assert!(world.show(Algorithm::Es256, &issuer).is_none());
    let set = world.set(&[]);
    let answers = world.serve(KEYS, Ok(&set));
    assert!(matches!(Vec::from(answers)[..], [Ok(_)]));
}

#[test]
fn a_key_that_is_published_but_not_usable_does_not_have_the_set_fetched_again() {
    let issuer = discovered();
    let mut world = World::with_keys(&issuer, |world| {
        let mut set: Value = serde_json::from_slice(&world.set(&[])).unwrap();
        for key in set["keys"].as_array_mut().unwrap() {
            if key["kty"] == "EC" {
                key["use"] = json!("enc");
            }
        }
        set.to_string().into_bytes()
    });
    world.wait(REFRESH_MIN);
    assert_eq!(
        world.show(Algorithm::Es256, &issuer),
        Some(Err(AuthError::UnknownKey))
    );
    assert_eq!(world.fetch(), None);
}

#[test]
fn a_provider_that_withdraws_a_key_is_believed_once_the_set_is_no_longer_fresh() {
    let issuer = discovered();
    let mut world = World::with_keys(&issuer, |world| world.set(&[]));
    world.wait(FRESH - Duration::from_nanos(1));
    assert!(world.show(Algorithm::Es256, &issuer).unwrap().is_ok());
    assert_eq!(world.fetch(), None);
    world.wait(Duration::from_nanos(1));
    assert!(world.show(Algorithm::Es256, &issuer).is_none());
    let set = world.set(&["EC"]);
    assert_eq!(world.serve(KEYS, Ok(&set)), [Err(AuthError::UnknownKey)]);
}

#[test]
fn keys_outlive_a_short_outage_of_their_provider_and_not_a_long_one() {
    let issuer = discovered();
    let mut world = World::with_keys(&issuer, |world| world.set(&["EC"]));
    let came = world.now;
    world.wait(FRESH);
    assert!(world.show(Algorithm::Rs256, &issuer).is_none());
    let down = FetchFailure::Status { status: 503 };
    let answers = world.serve(KEYS, Err(down));
    assert!(
        matches!(Vec::from(answers)[..], [Ok(_)]),
        "known all the same"
    );
    // Until it may be tried again nobody waits, and nothing is asked.
    assert!(world.show(Algorithm::Rs256, &issuer).unwrap().is_ok());
    // Of a key that might be new nothing can be said.
    unavailable(world.show(Algorithm::Es256, &issuer), BACK_OFF_MIN, down);
    assert_eq!(world.fetch(), None);

    world.wait(STALE_MAX - FRESH - Duration::from_nanos(1));
    assert_eq!(world.now.since(came) + Duration::from_nanos(1), STALE_MAX);
    assert!(world.show(Algorithm::Rs256, &issuer).is_none());
    // Where the keys are is asked again too: perhaps they have moved.
    let answers = world.serve(DISCOVERY, Err(down));
    assert!(matches!(Vec::from(answers)[..], [Ok(_)]));
    world.wait(Duration::from_nanos(1));
    let retry = 2 * BACK_OFF_MIN - Duration::from_nanos(1);
    unavailable(world.show(Algorithm::Rs256, &issuer), retry, down);
}

#[test]
fn each_failure_doubles_the_wait_and_a_success_forgets_them() {
    let mut world = World::new();
    let issuer = direct(0);
    let at = "https://keys.example/0";
    let mut expected = BACK_OFF_MIN;
    for _ in 0..12 {
        assert!(world.show(Algorithm::Rs256, &issuer).is_none());
        let answers = world.serve(at, Err(FetchFailure::Connect));
        unavailable(answers.into_iter().next(), expected, FetchFailure::Connect);
        world.wait(expected - Duration::from_millis(1));
        unavailable(
            world.show(Algorithm::Rs256, &issuer),
            Duration::from_millis(1),
            FetchFailure::Connect,
        );
        assert_eq!(world.fetch(), None);
        world.wait(Duration::from_millis(1));
        expected = (2 * expected).min(BACK_OFF_MAX);
    }
    assert_eq!(expected, BACK_OFF_MAX);
    assert!(world.show(Algorithm::Rs256, &issuer).is_none());
    let set = world.set(&[]);
    assert!(world.serve(at, Ok(&set))[0].is_ok());
    world.wait(STALE_MAX);
    assert!(world.show(Algorithm::Rs256, &issuer).is_none());
    let answers = world.serve(at, Err(FetchFailure::Tls));
    unavailable(answers.into_iter().next(), BACK_OFF_MIN, FetchFailure::Tls);
}

#[test]
fn whatever_goes_wrong_is_said() {
    let long = vec![b' '; SET_BYTES_MAX + 1];
    let of_another = json!({ "issuer": "https://id.example/b", "jwks_uri": KEYS }).to_string();
    let downgrade = json!({ "issuer": ISSUER, "jwks_uri": "http://id.example/k" }).to_string();
    let document = World::new().document();
    let text = |what| FetchFailure::Document { what };
    let malformed = FetchFailure::KeySet(KeySetError::Malformed);
    for (discovery, keys, why) in [
        (Err(FetchFailure::Redirect), None, FetchFailure::Redirect),
        (
            Ok(&b"<html>"[..]),
            None,
            text("not a JSON object with unique members"),
        ),
        (Ok(of_another.as_bytes()), None, FetchFailure::OtherIssuer),
        (
            Ok(downgrade.as_bytes()),
            None,
            text("jwks_uri leads from https to http"),
        ),
        (
            Ok(&document),
            Some(Err(FetchFailure::Name)),
            FetchFailure::Name,
        ),
        (Ok(&document), Some(Ok(&b"{}"[..])), malformed),
        (
            Ok(&document),
            Some(Ok(&long)),
            FetchFailure::KeySet(KeySetError::TooLarge),
        ),
    ] {
        let mut world = World::new();
        assert!(world.show(Algorithm::Rs256, &discovered()).is_none());
        let mut answers = world.serve(DISCOVERY, discovery);
        if let Some(keys) = keys {
            assert!(answers.is_empty());
            answers = world.serve(KEYS, keys);
        }
        unavailable(answers.pop_front(), BACK_OFF_MIN, why);
    }
}

#[test]
fn a_fetch_that_never_ends_is_given_up_and_what_comes_later_is_not_looked_at() {
    let mut world = World::new();
    let issuer = direct(0);
    assert!(world.show(Algorithm::Rs256, &issuer).is_none());
    let late = world.fetch().unwrap();
    assert!(world.wait(FETCH_WAIT - Duration::from_nanos(1)).is_empty());
    let answers = world.wait(Duration::from_nanos(1));
    unavailable(
        answers.into_iter().next(),
        BACK_OFF_MIN,
        FetchFailure::Timeout,
    );
    let set = world.set(&[]);
    assert!(world.fetched(&late, Ok(&set)).is_empty());
    unavailable(
        world.show(Algorithm::Rs256, &issuer),
        BACK_OFF_MIN,
        FetchFailure::Timeout,
    );

    // Nor is it taken for the answer of the fetch that follows.
    world.wait(BACK_OFF_MIN);
    assert!(world.show(Algorithm::Rs256, &issuer).is_none());
    let next = world.fetch().unwrap();
    assert!(world.fetched(&late, Err(FetchFailure::Http)).is_empty());
    assert!(world.fetched(&next, Ok(&set))[0].is_ok());
    assert!(world.fetched(&next, Ok(b"{}")).is_empty());
}

#[test]
fn where_the_keys_are_is_asked_again_after_an_hour() {
    let issuer = discovered();
    for (age, first) in [
        (DISCOVERY_FRESH - Duration::from_nanos(1), KEYS),
        (DISCOVERY_FRESH, DISCOVERY),
    ] {
        let mut world = World::with_keys(&issuer, |world| world.set(&[]));
        world.wait(age);
        assert!(world.show(Algorithm::Rs256, &issuer).is_none());
        assert_eq!(world.fetch().unwrap().url.text(), first);
    }
}

#[test]
fn tenants_with_one_provider_share_its_keys_and_not_its_rules() {
    let mut world = World::new();
    let ours = direct(0);
    let source = Source::Keys(url("https://keys.example/0"));
    let mut theirs = rules(ISSUER, &Algorithm::ALL);
    theirs.audiences = ["another".into()].into();
    let theirs = Arc::new(Issuer::new(theirs, source));
    assert!(world.show(Algorithm::Rs256, &ours).is_none());
    assert!(world.show(Algorithm::Rs256, &theirs).is_none());
    let set = world.set(&[]);
    let answers = world.serve("https://keys.example/0", Ok(&set));
    assert!(answers[0].is_ok());
    assert_eq!(answers[1], Err(AuthError::WrongAudience));
}

#[test]
fn a_few_fetches_run_at_a_time_and_the_next_in_line_follows() {
    let mut world = World::new();
    let mut issuers: Vec<_> = (0..=FETCHES_MAX).map(direct).collect();
    issuers[0] = discovered();
    for issuer in &issuers {
        assert!(world.show(Algorithm::Rs256, issuer).is_none());
    }
    let fetches: Vec<_> = std::iter::from_fn(|| world.fetch()).collect();
    assert_eq!(fetches.len(), FETCHES_MAX);
    // Whoever has waited for its turn has it for both documents.
    let document = world.document();
    assert!(world.fetched(&fetches[0], Ok(&document)).is_empty());
    assert_eq!(world.fetch().unwrap().url.text(), KEYS);
    assert_eq!(world.fetch(), None);
    let set = world.set(&[]);
    assert_eq!(world.fetched(&fetches[3], Ok(&set)).len(), 1);
    let last = world.fetch().unwrap();
    assert_eq!(
        last.url.text(),
        format!("https://keys.example/{FETCHES_MAX}")
    );
    assert_eq!(world.fetch(), None);
}

#[test]
fn nobody_waits_longer_than_the_one_who_asks_can() {
    let mut world = World::new();
    // Two rounds of providers that never answer stand before the last one.
    let issuers: Vec<_> = (0..=2 * FETCHES_MAX).map(direct).collect();
    for issuer in &issuers {
        assert!(world.show(Algorithm::Rs256, issuer).is_none());
    }
    let begun = world.now;
    let (mut answers, mut turns) = (0, 0);
    while world.now.since(begun) < ANSWER_WAIT {
        turns += 1;
        assert!(turns < 10, "a deadline that is met is not due again");
        while world.fetch().is_some() {}
        let next = world.exchange.next_deadline().unwrap();
        let given_up = world.wait(next.since(world.now));
        answers += given_up.len();
        for answer in given_up {
            let Err(AuthError::IssuerUnavailable { why, .. }) = answer else {
                panic!("{answer:?}");
            };
            assert_eq!(why, FetchFailure::Timeout);
        }
    }
    assert_eq!(world.now.since(begun), ANSWER_WAIT);
    assert_eq!(answers, issuers.len());
}

#[test]
fn those_who_wait_are_bounded_for_each_provider_and_in_all() {
    let mut world = World::new();
    let busy = |answer| unavailable(answer, SECOND, FetchFailure::Busy);
    let providers = WAITING_MAX / WAITING_PER_PROVIDER_MAX;
    for number in 0..providers {
        let issuer = direct(number);
        for _ in 0..WAITING_PER_PROVIDER_MAX {
            assert!(world.show(Algorithm::EdDsa, &issuer).is_none());
        }
        busy(world.show(Algorithm::EdDsa, &issuer));
    }
    busy(world.show(Algorithm::EdDsa, &direct(providers)));
    // As soon as some are answered there is room.
    let fetch = world.fetch().unwrap();
    let set = world.set(&[]);
    let answers = world.fetched(&fetch, Ok(&set));
    assert_eq!(answers.len(), WAITING_PER_PROVIDER_MAX);
    assert!(world.show(Algorithm::EdDsa, &direct(providers)).is_none());
}

#[test]
fn the_provider_not_asked_for_the_longest_makes_room_for_the_next() {
    let mut world = World::new();
    let set = world.set(&[]);
    let issuers: Vec<_> = (0..=PROVIDERS_MAX).map(direct).collect();
    let learn = |world: &mut World, number: usize| {
        assert!(world.show(Algorithm::EdDsa, &issuers[number]).is_none());
        let fetch = world.fetch().unwrap();
        assert!(world.fetched(&fetch, Ok(&set))[0].is_ok());
    };
    // The first is on its way all the time, and so stays.
    assert!(world.show(Algorithm::EdDsa, &issuers[0]).is_none());
    let first = world.fetch().unwrap();
    for number in 1..PROVIDERS_MAX {
        learn(&mut world, number);
    }
    // Asked again, so that the third has not been for the longest.
    assert!(world.show(Algorithm::EdDsa, &issuers[1]).unwrap().is_ok());
    learn(&mut world, PROVIDERS_MAX);
    for kept in [1, 3, PROVIDERS_MAX] {
        assert!(
            world
                .show(Algorithm::EdDsa, &issuers[kept])
                .unwrap()
                .is_ok()
        );
    }
    assert!(world.fetched(&first, Ok(&set))[0].is_ok());
    learn(&mut world, 2);
}

#[test]
fn when_all_providers_are_being_asked_another_is_told_to_come_back() {
    let mut world = World::new();
    for number in 0..PROVIDERS_MAX {
        assert!(world.show(Algorithm::EdDsa, &direct(number)).is_none());
    }
    // Nobody waits any longer, but all are still in line.
    assert_eq!(world.wait(ANSWER_WAIT).len(), PROVIDERS_MAX);
    let next = direct(PROVIDERS_MAX);
    unavailable(
        world.show(Algorithm::EdDsa, &next),
        BACK_OFF_MIN,
        FetchFailure::Busy,
    );
    let fetch = world.fetch().unwrap();
    assert!(world.fetched(&fetch, Err(FetchFailure::Connect)).is_empty());
    assert!(world.show(Algorithm::EdDsa, &next).is_none());
}
