//! The pump around [`Exchange`]: tokens in from handlers, documents from the network, answers
//! back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pinion_auth::AuthError;
use pinion_auth::exchange::{Exchange, ExchangeId, Issuer};
use pinion_auth::jwks_cache::{Fetch, FetchFailure, FetchId};
use pinion_auth::upstream::Upstream;
use pinion_types::{Monotonic, WallMs};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fetch::Fetcher;

/// Most tokens that the driver has not looked at yet. It never waits for anybody, so more
/// than a burst is never there.
pub const ASKS_MAX: usize = 256;

/// What a token that finds no room is told to wait.
const RETRY: core::time::Duration = core::time::Duration::from_secs(1);

/// Asks whom a token of an identity provider speaks of. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exchanges {
    asks: mpsc::Sender<Ask>,
}

#[derive(Debug)]
struct Ask {
    token: Box<[u8]>,
    issuers: Box<[Arc<Issuer>]>,
    answer: oneshot::Sender<Result<Upstream, AuthError>>,
}

/// The other half: a future that does the work of all [`Exchanges`] and ends with the last
/// of them.
#[derive(Debug)]
pub struct Driver {
    asks: mpsc::Receiver<Ask>,
    exchange: Exchange,
    fetcher: Fetcher,
    fetches: JoinSet<(FetchId, Result<Vec<u8>, FetchFailure>)>,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Upstream, AuthError>>>,
    last: u64,
    start: Instant,
}

/// Both halves. The driver runs as a task of a runtime with a network and timers.
#[must_use]
pub fn exchanges(fetcher: Fetcher) -> (Exchanges, Driver) {
    let (sender, asks) = mpsc::channel(ASKS_MAX);
    let driver = Driver {
        asks,
        exchange: Exchange::default(),
        fetcher,
        fetches: JoinSet::new(),
        waiting: BTreeMap::new(),
        last: 0,
        start: Instant::now(),
    };
    (Exchanges { asks: sender }, driver)
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
        let busy = AuthError::IssuerUnavailable {
            retry: RETRY,
            why: FetchFailure::Busy,
        };
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            token: token.into(),
            issuers: issuers.into(),
            answer,
        };
        self.asks.try_send(ask).map_err(|_| busy)?;
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
        self.waiting.insert(self.last, ask.answer);
        let (now, wall, id) = (self.now(), wall(), ExchangeId(self.last));
        self.exchange
            .handle_token(now, wall, id, &ask.token, &ask.issuers);
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
