//! The pump around [`Exchange`]: tokens and questions in from handlers, documents from the
//! network, answers back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pinion_auth::AuthError;
use pinion_auth::exchange::{Exchange, ExchangeId, Issuer};
use pinion_auth::jwks_cache::{FETCH_WAIT, FETCHES_MAX, Fetch, FetchFailure, FetchId};
use pinion_auth::login::{TOKEN_ANSWER_BYTES_MAX, TokenRequest};
use pinion_auth::provider::{Endpoints, Url};
use pinion_auth::upstream::{LoginRules, Upstream};
use pinion_types::{Monotonic, WallMs};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fetch::Fetcher;

/// Most tokens and questions that the driver has not looked at yet. It never waits for anybody, so more
/// than a burst is never there.
pub const ASKS_MAX: usize = 256;

/// Most codes that are being turned into tokens. Each takes a connection of its own.
pub const CODES_MAX: usize = FETCHES_MAX;

/// What a token that finds no room is told to wait.
const RETRY: core::time::Duration = core::time::Duration::from_secs(1);

/// Asks whom a token of an identity provider speaks of. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exchanges {
    asks: mpsc::Sender<Ask>,
    fetcher: Fetcher,
    codes: Arc<Semaphore>,
}

#[derive(Debug)]
enum Ask {
    /// Whom a token speaks of.
    Token {
        token: Box<[u8]>,
        issuers: Box<[Arc<Issuer>]>,
        login: Option<LoginRules>,
        answer: Answer<Upstream>,
    },
    /// How somebody logs in.
    Way {
        issuer: Arc<Issuer>,
        answer: Answer<Endpoints>,
    },
}

type Answer<T> = oneshot::Sender<Result<T, AuthError>>;

/// The other half: a future that does the work of all [`Exchanges`] and ends with the last
/// of them.
#[derive(Debug)]
pub struct Driver {
    asks: mpsc::Receiver<Ask>,
    exchange: Exchange,
    fetcher: Fetcher,
    fetches: JoinSet<(FetchId, Result<Vec<u8>, FetchFailure>)>,
    waiting: BTreeMap<u64, Answer<Upstream>>,
    leaving: BTreeMap<u64, Answer<Endpoints>>,
    last: u64,
    start: Instant,
}

/// Both halves. The driver runs as a task of a runtime with a network and timers.
#[must_use]
pub fn exchanges(fetcher: Fetcher) -> (Exchanges, Driver) {
    let (sender, asks) = mpsc::channel(ASKS_MAX);
    let exchanges = Exchanges {
        asks: sender,
        fetcher: fetcher.clone(),
        codes: Arc::new(Semaphore::new(CODES_MAX)),
    };
    let driver = Driver {
        asks,
        exchange: Exchange::default(),
        fetcher,
        fetches: JoinSet::new(),
        waiting: BTreeMap::new(),
        leaving: BTreeMap::new(),
        last: 0,
        start: Instant::now(),
    };
    (exchanges, driver)
}

impl Exchanges {
    /// Whom `token` speaks of, if one of `issuers` vouches for it. Answered within
    /// [`pinion_auth::exchange::ANSWER_WAIT`].
    ///
    /// # Errors
    /// What is wrong with the token, or with its issuer's keys.
    pub async fn upstream(
        &self,
        token: &[u8],
        issuers: &[Arc<Issuer>],
    ) -> Result<Upstream, AuthError> {
        self.checked(token, issuers, None).await
    }

    /// The same of a token that somebody logs in with.
    ///
    /// # Errors
    /// What is wrong with the token, or with its issuer's keys.
    pub async fn login(
        &self,
        token: &[u8],
        issuer: &Arc<Issuer>,
        login: LoginRules,
    ) -> Result<Upstream, AuthError> {
        let issuers = core::slice::from_ref(issuer);
        self.checked(token, issuers, Some(login)).await
    }

    async fn checked(
        &self,
        token: &[u8],
        issuers: &[Arc<Issuer>],
        login: Option<LoginRules>,
    ) -> Result<Upstream, AuthError> {
        let ask = |answer| Ask::Token {
            token: token.into(),
            issuers: issuers.into(),
            login,
            answer,
        };
        self.ask(ask).await
    }

    /// How somebody logs in with an issuer. Answered within
    /// [`pinion_auth::exchange::ANSWER_WAIT`].
    ///
    /// # Errors
    /// [`AuthError::IssuerUnavailable`].
    pub async fn way(&self, issuer: &Arc<Issuer>) -> Result<Endpoints, AuthError> {
        let issuer = Arc::clone(issuer);
        self.ask(|answer| Ask::Way { issuer, answer }).await
    }

    /// What a token endpoint answers to a code, within
    /// [`pinion_auth::jwks_cache::FETCH_WAIT`].
    ///
    /// # Errors
    /// See [`FetchFailure`]; `Busy` when [`CODES_MAX`] others are asked for.
    pub async fn redeem(
        &self,
        endpoint: &Url,
        request: TokenRequest,
    ) -> Result<Vec<u8>, FetchFailure> {
        let _one = self.codes.try_acquire().map_err(|_| FetchFailure::Busy)?;
        let deadline = Instant::now() + FETCH_WAIT;
        let limit = TOKEN_ANSWER_BYTES_MAX;
        self.fetcher.post(endpoint, request, limit, deadline).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(Answer<T>) -> Ask) -> Result<T, AuthError> {
        let busy = AuthError::IssuerUnavailable {
            retry: RETRY,
            why: FetchFailure::Busy,
        };
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(ask(answer)).map_err(|_| busy)?;
        answered.await.unwrap_or(Err(busy))
    }
}

impl Driver {
    /// Runs until the last [`Exchanges`] is gone.
    pub async fn run(mut self) {
        loop {
            let due = self.exchange.next_deadline();
            let due = due.map(|due| self.start + due.since(Monotonic::ZERO));
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.take(ask),
                    None => return,
                },
                Some(done) = self.fetches.join_next() => {
                    // One that panicked is given up at its deadline.
                    if let Ok((id, fetched)) = done {
                        let fetched = fetched.as_deref().map_err(|why| *why);
                        let (now, wall) = (self.now(), wall());
                        self.exchange.handle_fetched(now, wall, id, fetched);
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or(self.start)), if due.is_some() => {
                    let (now, wall) = (self.now(), wall());
                    self.exchange.handle_timeout(now, wall);
                }
            }
            self.pump();
        }
    }

    fn take(&mut self, ask: Ask) {
        self.last += 1;
        let (now, id) = (self.now(), ExchangeId(self.last));
        match ask {
            Ask::Token {
                token,
                issuers,
                login,
                answer,
            } => {
                self.waiting.insert(id.0, answer);
                self.exchange
                    .handle_token(now, wall(), id, &token, &issuers, login);
            }
            Ask::Way { issuer, answer } => {
                self.leaving.insert(id.0, answer);
                self.exchange.handle_way(now, id, &issuer);
            }
        }
    }

    fn pump(&mut self) {
        let now = self.now();
        while let Some(fetch) = self.exchange.poll_fetch(now) {
            let (fetcher, start) = (self.fetcher.clone(), self.start);
            self.fetches.spawn(async move {
                let Fetch {
                    id,
                    url,
                    bytes_max,
                    deadline,
                } = fetch;
                let deadline = start + deadline.since(Monotonic::ZERO);
                (id, fetcher.fetch(&url, bytes_max, deadline).await)
            });
        }
        while let Some((id, answer)) = self.exchange.poll_answer() {
            if let Some(asked) = self.waiting.remove(&id.0) {
                // Whoever asked may have gone.
                let _ = asked.send(answer);
            }
        }
        while let Some((id, answer)) = self.exchange.poll_way() {
            if let Some(asked) = self.leaving.remove(&id.0) {
                let _ = asked.send(answer);
            }
        }
    }

    fn now(&self) -> Monotonic {
        Monotonic::ZERO + self.start.elapsed()
    }
}

/// The time as people read it; before 1970 it is 1970.
fn wall() -> WallMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    WallMs(u64::try_from(ms).unwrap_or(u64::MAX))
}
