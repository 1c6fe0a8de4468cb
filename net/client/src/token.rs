//! Tokens that end: where the next one comes from, and when it is asked for.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pinion_types::limits::TOKEN_BYTES_MAX;
use tokio::sync::{Mutex, watch};

use crate::config::{ConfigError, Secret};
use crate::error::ConnectError;

/// How much of a token's life passes before the next one is asked for: two of this many
/// thirds. Later leaves less time for a source that fails at first.
const THIRDS_OF_LIFE: u32 = 2;

/// Shortest time between two questions to a source, so that one whose tokens live for no
/// time is not asked without a pause.
const RENEW_WAIT_MIN: Duration = Duration::from_millis(100);

/// A token, and how long it counts from now on.
#[derive(Clone)]
pub struct FreshToken {
    token: Vec<u8>,
    life: Option<Duration>,
}

impl FreshToken {
    /// One that counts until somebody takes it away.
    #[must_use]
    pub fn new(token: impl AsRef<[u8]>) -> Self {
        Self {
            token: token.as_ref().to_vec(),
            life: None,
        }
    }

    /// How long it counts: the next one is asked for when two thirds of that are over.
    #[must_use]
    pub const fn for_time(mut self, life: Duration) -> Self {
        self.life = Some(life);
        self
    }
}

impl fmt::Debug for FreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreshToken")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

/// Why a source has no token now. It is asked again when somebody connects, or a little
/// later.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// What a source gives, when it has it.
pub type TokenFuture<'a> =
    Pin<Box<dyn Future<Output = Result<FreshToken, TokenError>> + Send + 'a>>;

/// Where a client gets its tokens: an identity provider, a file that somebody else renews.
///
/// It is asked by one task at a time: before the first connection, before the token that
/// there is ends, and when the node takes that no more. Time spent in it counts as time of
/// connecting ([`ClientConfig::connect_timeout`](crate::ClientConfig::connect_timeout)).
/// A function that gives a future of a [`FreshToken`] is one.
pub trait TokenSource: Send + Sync + 'static {
    /// The next token.
    fn fetch(&self) -> TokenFuture<'_>;
}

impl<F, T> TokenSource for F
where
    F: Fn() -> T + Send + Sync + 'static,
    T: Future<Output = Result<FreshToken, TokenError>> + Send + 'static,
{
    fn fetch(&self) -> TokenFuture<'_> {
        Box::pin(self())
    }
}

/// The token that a client shows, and its source.
pub(crate) struct Tokens {
    source: Arc<dyn TokenSource>,
    kept: Mutex<Option<Kept>>,
    fetched: AtomicU64,
    /// When the next one is wanted.
    due: watch::Sender<Option<Instant>>,
}

/// A token that a client shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) token: Secret,
    /// Counts the tokens of this client; 0 of one that has no source.
    pub(crate) number: u64,
    pub(crate) ends_at: Option<Instant>,
}

struct Kept {
    shown: Shown,
    renew_at: Option<Instant>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

fn is_before(now: Instant, at: Option<Instant>) -> bool {
    at.is_none_or(|at| now < at)
}

impl Tokens {
    pub(crate) fn new(source: Arc<dyn TokenSource>) -> Self {
        Self {
            source,
            kept: Mutex::new(None),
            fetched: AtomicU64::new(0),
            due: watch::Sender::new(None),
        }
    }

    /// When the next token is wanted, as that changes.
    pub(crate) fn due(&self) -> watch::Receiver<Option<Instant>> {
        self.due.subscribe()
    }

    /// The token to show now. One that is about to end is shown when there is no other.
    pub(crate) async fn get(&self) -> Result<Shown, ConnectError> {
        let mut kept = self.kept.lock().await;
        let now = Instant::now();
        if let Some(known) = &*kept
            && is_before(now, known.renew_at)
        {
            return Ok(known.shown.clone());
        }
        match self.source.fetch().await {
            Ok(fresh) => {
                let len = fresh.token.len();
                if len > usize::from(TOKEN_BYTES_MAX) {
                    return Err(ConfigError::TokenTooLong { len }.into());
                }
                let from = Instant::now();
                let renew = |life: Duration| from + (life * THIRDS_OF_LIFE / 3).max(RENEW_WAIT_MIN);
                let renew_at = fresh.life.map(renew);
                let shown = Shown {
                    token: Secret(fresh.token),
                    number: self.fetched.fetch_add(1, Ordering::Relaxed) + 1,
                    ends_at: fresh.life.map(|life| from + life),
                };
                *kept = Some(Kept {
                    shown: shown.clone(),
                    renew_at,
                });
                self.due.send_replace(renew_at);
                Ok(shown)
            }
            Err(error) => {
                let known = kept.as_ref().map(|one| &one.shown);
                let known = known.filter(|one| is_before(now, one.ends_at));
                known.cloned().ok_or_else(|| ConnectError::Token {
                    reason: error.to_string(),
                })
            }
        }
    }

    /// The number of a token that need not be renewed yet.
    pub(crate) async fn renewed(&self) -> Result<u64, ConnectError> {
        let number = self.get().await?.number;
        let kept = self.kept.lock().await;
        let now = Instant::now();
        let is_fresh = kept
            .as_ref()
            .is_some_and(|one| is_before(now, one.renew_at));
        match is_fresh {
            true => Ok(number),
            false => Err(ConnectError::Token {
                reason: "its source gave no other".to_owned(),
            }),
        }
    }

    /// The node does not take this one.
    pub(crate) async fn forget(&self, token: &[u8]) {
        let mut kept = self.kept.lock().await;
        kept.take_if(|one| one.shown.token.0 == token);
    }
}
