//! From the token of an identity provider to whom it vouches for, when its keys may have to
//! be fetched first.
//!
//! [`Exchange::handle_token`] begins, [`Exchange::poll_answer`] ends, once for each; between
//! them lie at most two documents ([`crate::jwks_cache`]) and [`ANSWER_WAIT`]. For whoever is
//! about to log in, [`Exchange::handle_way`] and [`Exchange::poll_way`] do the same with what
//! the provider says of that.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use pinion_types::{Monotonic, WallMs};

use crate::error::AuthError;
use crate::jose::Jws;
use crate::jwks_cache::{Fetch, FetchFailure, FetchId, JwksCache, Keys, Way};
use crate::provider::{Endpoints, Provider, Source};
use crate::upstream::{self, IssuerRules, LoginRules, Upstream};

/// Most who wait for a document; where all of them have a token, with [`crate::jose::UPSTREAM_BYTES_MAX`] they
/// take 16 MiB. More are told to come back.
pub const WAITING_MAX: usize = 1024;

/// Most of them that wait for one provider: one that is slow must not take all the room.
pub const WAITING_PER_PROVIDER_MAX: usize = 256;

/// Longest wait for keys: less than whoever asks has for its request, so that it is told why.
pub const ANSWER_WAIT: Duration = Duration::from_secs(8);

/// When somebody who was refused for lack of room or time may come back.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// An issuer as a tenant has it configured.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// What its tokens must be.
    rules: IssuerRules,
    provider: Arc<Provider>,
}

impl Issuer {
    /// The issuer of those rules, with its keys there.
    #[must_use]
    pub fn new(rules: IssuerRules, source: Source) -> Self {
        let provider = Arc::new(Provider {
            issuer: rules.issuer.clone(),
            source,
        });
        Self { rules, provider }
    }

    /// Its name for itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.rules.issuer
    }
}

/// Number of one exchange, chosen by whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeId(pub u64);

/// Somebody who waits for a document of an issuer.
#[derive(Debug)]
struct Waiting {
    id: ExchangeId,
    what: Awaited,
    issuer: Arc<Issuer>,
    deadline: Monotonic,
}

/// For what.
#[derive(Debug)]
enum Awaited {
    /// Keys to check a token with.
    Keys {
        token: Box<[u8]>,
        login: Option<LoginRules>,
    },
    /// How to log in.
    Way,
}

/// All exchanges of a node. Owned by the control core.
#[derive(Debug, Default)]
pub struct Exchange {
    cache: JwksCache,
    /// In the order in which they came, and so in that of their deadlines.
    waiting: VecDeque<Waiting>,
    answers: VecDeque<(ExchangeId, Result<Upstream, AuthError>)>,
    ways: VecDeque<(ExchangeId, Result<Endpoints, AuthError>)>,
}

impl Exchange {
    /// Takes a token that was shown to a tenant with those issuers; one that somebody logs in
    /// with must be what `login` says besides.
    ///
    /// Nothing is fetched for a token of another issuer, or of an algorithm that the issuer
    /// is not pinned to.
    pub fn handle_token(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        id: ExchangeId,
        token: &[u8],
        issuers: &[Arc<Issuer>],
        login: Option<LoginRules>,
    ) {
        match self.begin(now, wall, token, issuers, login.as_ref()) {
            Ok(Begun::Known(upstream)) => self.answers.push_back((id, Ok(upstream))),
            Ok(Begun::Waits(issuer)) => self.waiting.push_back(Waiting {
                id,
                what: Awaited::Keys {
                    token: token.into(),
                    login,
                },
                issuer,
                deadline: now + ANSWER_WAIT,
            }),
            Err(why) => self.answers.push_back((id, Err(why))),
        }
    }

    /// Takes the question how somebody logs in with an issuer.
    pub fn handle_way(&mut self, now: Monotonic, id: ExchangeId, issuer: &Arc<Issuer>) {
        let found = look(&mut self.cache, now, issuer);
        let found = match found {
            Ok(None) => self.room(issuer).map(|()| None),
            found => found,
        };
        match found.transpose() {
            Some(found) => self.ways.push_back((id, found)),
            None => self.waiting.push_back(Waiting {
                id,
                what: Awaited::Way,
                issuer: Arc::clone(issuer),
                deadline: now + ANSWER_WAIT,
            }),
        }
    }

    fn begin(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        token: &[u8],
        issuers: &[Arc<Issuer>],
        login: Option<&LoginRules>,
    ) -> Result<Begun, AuthError> {
        let token = Jws::parse(token)?;
        let name = token.claimed_issuer()?;
        let issuer = issuers.iter().find(|one| one.rules.issuer == name);
        let issuer = issuer.ok_or(AuthError::WrongIssuer)?;
        if !issuer.rules.algorithms.contain(token.algorithm()) {
            return Err(AuthError::WrongAlgorithm);
        }
        if let Some(known) = check(&mut self.cache, now, wall, token, issuer, login)? {
            return Ok(Begun::Known(known));
        }
        self.room(issuer)?;
        Ok(Begun::Waits(Arc::clone(issuer)))
    }

    /// Whether one more may wait for that issuer.
    fn room(&self, issuer: &Issuer) -> Result<(), AuthError> {
        let same = |one: &&Waiting| one.issuer.provider == issuer.provider;
        if self.waiting.len() >= WAITING_MAX
            || self.waiting.iter().filter(same).count() >= WAITING_PER_PROVIDER_MAX
        {
            return Err(AuthError::IssuerUnavailable {
                retry: RETRY_WAIT,
                why: FetchFailure::Busy,
            });
        }
        Ok(())
    }

    /// The next document to fetch. To be asked after each input.
    pub fn poll_fetch(&mut self, now: Monotonic) -> Option<Fetch> {
        self.cache.poll_fetch(now)
    }

    /// Takes the body of a document, or why there is none.
    pub fn handle_fetched(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        id: FetchId,
        fetched: Result<&[u8], FetchFailure>,
    ) {
        self.cache.handle_fetched(now, id, fetched);
        self.settle(now, wall);
    }

    /// Gives up what took too long.
    pub fn handle_timeout(&mut self, now: Monotonic, wall: WallMs) {
        self.cache.handle_timeout(now);
        self.settle(now, wall);
        while self.waiting.front().is_some_and(|one| one.deadline <= now) {
            let late = self.waiting.pop_front().expect("there is one");
            let why = AuthError::IssuerUnavailable {
                retry: RETRY_WAIT,
                why: FetchFailure::Timeout,
            };
            match late.what {
                Awaited::Keys { .. } => self.answers.push_back((late.id, Err(why))),
                Awaited::Way => self.ways.push_back((late.id, Err(why))),
            }
        }
    }

    /// Answers those who waited for what came.
    fn settle(&mut self, now: Monotonic, wall: WallMs) {
        while let Some(provider) = self.cache.poll_settled() {
            for one in core::mem::take(&mut self.waiting) {
                if one.issuer.provider != provider {
                    self.waiting.push_back(one);
                    continue;
                }
                match &one.what {
                    Awaited::Keys { token, login } => {
                        let token = Jws::parse(token);
                        let answer = token
                            .and_then(|token| {
                                let cache = &mut self.cache;
                                check(cache, now, wall, token, &one.issuer, login.as_ref())
                            })
                            .transpose();
                        match answer {
                            Some(answer) => self.answers.push_back((one.id, answer)),
                            None => self.waiting.push_back(one),
                        }
                    }
                    Awaited::Way => match look(&mut self.cache, now, &one.issuer).transpose() {
                        Some(found) => self.ways.push_back((one.id, found)),
                        None => self.waiting.push_back(one),
                    },
                }
            }
        }
    }

    /// The next answer.
    pub fn poll_answer(&mut self) -> Option<(ExchangeId, Result<Upstream, AuthError>)> {
        self.answers.pop_front()
    }

    /// The next answer to whoever is about to log in.
    pub fn poll_way(&mut self) -> Option<(ExchangeId, Result<Endpoints, AuthError>)> {
        self.ways.pop_front()
    }

    /// When [`Exchange::handle_timeout`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let first = self.waiting.front().map(|one| one.deadline);
        first.into_iter().chain(self.cache.next_deadline()).min()
    }
}

enum Begun {
    Known(Upstream),
    Waits(Arc<Issuer>),
}

/// Checks a token if there are keys to check it with; `None` when they are on their way.
fn check(
    cache: &mut JwksCache,
    now: Monotonic,
    wall: WallMs,
    token: Jws<'_>,
    issuer: &Issuer,
    login: Option<&LoginRules>,
) -> Result<Option<Upstream>, AuthError> {
    match cache.want(now, &issuer.provider, token.claimed_kid()) {
        Keys::Ready(keys) => upstream::check(token, &issuer.rules, login, &keys, wall).map(Some),
        Keys::Wait => Ok(None),
        Keys::Unavailable { retry, why } => Err(AuthError::IssuerUnavailable { retry, why }),
    }
}

/// How somebody logs in; `None` when the document that says it is on its way.
fn look(
    cache: &mut JwksCache,
    now: Monotonic,
    issuer: &Issuer,
) -> Result<Option<Endpoints>, AuthError> {
    match cache.want_way(now, &issuer.provider) {
        Way::Ready(endpoints) => Ok(Some(endpoints)),
        Way::Wait => Ok(None),
        Way::Unavailable { retry, why } => Err(AuthError::IssuerUnavailable { retry, why }),
    }
}
