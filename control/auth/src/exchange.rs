//! From the token of an identity provider to whom it vouches for, when its keys may have to
//! be fetched first.
//!
//! [`Exchange::handle_token`] begins, [`Exchange::poll_answer`] ends, once for each; between
//! them lie at most two documents ([`crate::jwks_cache`]) and [`ANSWER_WAIT`].

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use pinion_types::{Monotonic, WallMs};

use crate::error::AuthError;
use crate::jose::Jws;
use crate::jwks_cache::{Fetch, FetchFailure, FetchId, JwksCache, Keys};
use crate::provider::{Provider, Source};
use crate::upstream::{self, IssuerRules, Upstream};

/// Most tokens that wait for keys; with [`crate::jose::UPSTREAM_BYTES_MAX`] they take 16 MiB.
/// More are told to come back.
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
}

/// Number of one exchange, chosen by whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeId(pub u64);

/// A token that waits for the keys of its issuer.
#[derive(Debug)]
struct Waiting {
    id: ExchangeId,
    token: Box<[u8]>,
    issuer: Arc<Issuer>,
    deadline: Monotonic,
}

/// All exchanges of a node. Owned by the control core.
#[derive(Debug, Default)]
pub struct Exchange {
    cache: JwksCache,
    /// In the order in which they came, and so in that of their deadlines.
    waiting: VecDeque<Waiting>,
    answers: VecDeque<(ExchangeId, Result<Upstream, AuthError>)>,
}

impl Exchange {
    /// Takes a token that was shown to a tenant with those issuers.
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
    ) {
        match self.begin(now, wall, token, issuers) {
            Ok(Begun::Known(upstream)) => self.answers.push_back((id, Ok(upstream))),
            Ok(Begun::Waits(issuer)) => self.waiting.push_back(Waiting {
                id,
                token: token.into(),
                issuer,
                deadline: now + ANSWER_WAIT,
            }),
            Err(why) => self.answers.push_back((id, Err(why))),
        }
    }

    fn begin(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        token: &[u8],
        issuers: &[Arc<Issuer>],
    ) -> Result<Begun, AuthError> {
        let token = Jws::parse(token)?;
        let name = token.claimed_issuer()?;
        let issuer = issuers.iter().find(|one| one.rules.issuer == name);
        let issuer = issuer.ok_or(AuthError::WrongIssuer)?;
        if !issuer.rules.algorithms.contain(token.algorithm()) {
            return Err(AuthError::WrongAlgorithm);
        }
        if let Some(known) = check(&mut self.cache, now, wall, token, issuer)? {
            return Ok(Begun::Known(known));
        }
        let same = |one: &&Waiting| one.issuer.provider == issuer.provider;
        if self.waiting.len() >= WAITING_MAX
            || self.waiting.iter().filter(same).count() >= WAITING_PER_PROVIDER_MAX
        {
            return Err(AuthError::IssuerUnavailable {
                retry: RETRY_WAIT,
                why: FetchFailure::Busy,
            });
        }
        Ok(Begun::Waits(Arc::clone(issuer)))
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
            self.answers.push_back((late.id, Err(why)));
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
                let token = Jws::parse(&one.token);
                let answer = token
                    .and_then(|token| check(&mut self.cache, now, wall, token, &one.issuer))
                    .transpose();
                match answer {
                    Some(answer) => self.answers.push_back((one.id, answer)),
                    None => self.waiting.push_back(one),
                }
            }
        }
    }

    /// The next answer.
    pub fn poll_answer(&mut self) -> Option<(ExchangeId, Result<Upstream, AuthError>)> {
        self.answers.pop_front()
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
) -> Result<Option<Upstream>, AuthError> {
    match cache.want(now, &issuer.provider, token.claimed_kid()) {
        Keys::Ready(keys) => upstream::check(token, &issuer.rules, &keys, wall).map(Some),
        Keys::Wait => Ok(None),
        Keys::Unavailable { retry, why } => Err(AuthError::IssuerUnavailable { retry, why }),
    }
}
