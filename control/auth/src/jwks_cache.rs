//! The keys of identity providers: fetched when they are asked for, kept while they are
//! fresh, and used a while longer when the provider does not answer.
//!
//! The machine says what to fetch ([`JwksCache::poll_fetch`]) and takes what came of it;
//! somebody else has the sockets.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pinion_types::Monotonic;

use crate::address::NotPublic;
use crate::jwk::{KeySet, KeySetError, SET_BYTES_MAX};
use crate::provider::{self, DISCOVERY_BYTES_MAX, Discovered, Endpoints, Provider, Source, Url};

/// How long keys are used without asking again. A key that its provider withdraws is
/// believed for at most that long, as long as the provider answers.
pub const FRESH: Duration = Duration::from_secs(5 * 60);

/// How long keys are used when their provider does not answer: an outage of it that is
/// shorter ends nobody's work.
pub const STALE_MAX: Duration = Duration::from_secs(3600);

/// Least time between two fetches for the sake of a key that is not in the set. Anybody can
/// invent the name of a key, and must not have us ask the provider each time.
pub const REFRESH_MIN: Duration = Duration::from_secs(10);

/// How long a discovery document is believed.
pub const DISCOVERY_FRESH: Duration = Duration::from_secs(3600);

/// Wait after the first failure; each further one doubles it.
pub const BACK_OFF_MIN: Duration = Duration::from_secs(1);

/// Longest wait after a failure.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(5 * 60);

/// How long one fetch may take, from its start to its last byte.
pub const FETCH_WAIT: Duration = Duration::from_secs(5);

/// Most fetches at a time, over all providers; one per provider.
pub const FETCHES_MAX: usize = 8;

/// Most providers whose keys are kept. The one not asked for the longest makes room for the
/// next; its keys are fetched again when they are needed. A set takes a few KiB, and never
/// more than 100.
pub const PROVIDERS_MAX: usize = 1024;

/// Number of one fetch; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FetchId(u64);

/// One document that is to be fetched with GET, without following a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// For [`JwksCache::handle_fetched`].
    pub id: FetchId,
    /// Where it is. Each address of its host is checked ([`crate::address::check`]), and the
    /// connection goes to one that passed.
    pub url: Url,
    /// What may be read of it. More is [`FetchFailure::TooLarge`].
    pub bytes_max: usize,
    /// When it is given up. What comes later is not looked at.
    pub deadline: Monotonic,
}

/// Why a document, or what should be in it, was not had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchFailure {
    /// The host's name has no address.
    #[error("the name of the host does not resolve")]
    Name,
    /// Its address is none that is asked.
    #[error("{0}")]
    Address(NotPublic),
    /// Nobody answers there.
    #[error("no connection")]
    Connect,
    /// TLS failed: most often the certificate is not that of the host, or of nobody we trust.
    #[error("TLS failed")]
    Tls,
    /// What came back is not HTTP.
    #[error("the answer is not HTTP")]
    Http,
    /// It is said to be elsewhere. Whoever can redirect us could have us ask anybody.
    #[error("a redirect, and none is followed")]
    Redirect,
    /// Another status than 200.
    #[error("status {status}")]
    Status {
        /// Which.
        status: u16,
    },
    /// Longer than it may be.
    #[error("longer than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: usize,
    },
    /// It took longer than [`FETCH_WAIT`], or than whoever asked can wait.
    #[error("it took too long")]
    Timeout,
    /// The document is of no use.
    #[error("the document: {what}")]
    Document {
        /// The rule that it breaks.
        what: &'static str,
    },
    /// The key set is of no use.
    #[error("the key set: {0}")]
    KeySet(#[from] KeySetError),
    /// The discovery document is of another issuer.
    #[error("the document is another issuer's")]
    OtherIssuer,
    /// More providers are asked at the moment than there is room for.
    #[error("too many providers are being asked")]
    Busy,
}

/// What there is for a token.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Keys to check it with.
    Ready(Arc<KeySet>),
    /// They are being fetched: ask again when [`JwksCache::poll_settled`] names the provider.
    Wait,
    /// There are none, and it is too early to ask again.
    Unavailable {
        /// When to come back.
        retry: Duration,
        /// What went wrong last.
        why: FetchFailure,
    },
}

/// How somebody logs in with a provider.
#[derive(Clone, Debug)]
pub enum Way {
    /// Like this.
    Ready(Endpoints),
    /// Its document is being fetched: ask again when [`JwksCache::poll_settled`] names the
    /// provider.
    Wait,
    /// Nobody does, for now.
    Unavailable {
        /// When to come back.
        retry: Duration,
        /// What went wrong last.
        why: FetchFailure,
    },
}

/// What is known of one provider.
#[derive(Debug, Default)]
struct Entry {
    /// Its keys, and when they came.
    keys: Option<(Arc<KeySet>, Monotonic)>,
    /// What its discovery document says, and when it said so.
    discovered: Option<(Discovered, Monotonic)>,
    /// A fetch for it is queued or under way.
    fetching: bool,
    failed: Option<Failed>,
    /// Grows with each use of any entry.
    used: u64,
}

/// The last fetch failed.
#[derive(Clone, Copy, Debug)]
struct Failed {
    /// How often in a row.
    times: u32,
    /// When it may be tried again.
    retry_at: Monotonic,
    why: FetchFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Document {
    Discovery,
    Keys,
}

#[derive(Debug)]
struct InFlight {
    provider: Arc<Provider>,
    document: Document,
    url: Url,
    deadline: Monotonic,
}

/// The keys of all providers that were asked for lately. Owned by the control core.
#[derive(Debug, Default)]
pub struct JwksCache {
    entries: BTreeMap<Arc<Provider>, Entry>,
    /// Providers with something to fetch, in the order in which it became so.
    queue: VecDeque<Arc<Provider>>,
    in_flight: BTreeMap<FetchId, InFlight>,
    settled: VecDeque<Arc<Provider>>,
    fetches: u64,
    uses: u64,
}

impl JwksCache {
    /// The keys for a token of that provider that names the key `kid`.
    pub fn want(&mut self, now: Monotonic, provider: &Arc<Provider>, kid: Option<&str>) -> Keys {
        if !self.entries.contains_key(provider) && !self.make_room() {
            return Keys::Unavailable {
                retry: BACK_OFF_MIN,
                why: FetchFailure::Busy,
            };
        }
        let entry = self.entries.entry(Arc::clone(provider)).or_default();
        self.uses += 1;
        entry.used = self.uses;
        let mut known = None;
        if let Some((keys, since)) = &entry.keys {
            let age = now.since(*since);
            let named = kid.is_none_or(|kid| keys.names(kid));
            if age < if named { FRESH } else { REFRESH_MIN } {
                return Keys::Ready(Arc::clone(keys));
            }
            known = (named && age < STALE_MAX).then(|| Arc::clone(keys));
        }
        if entry.fetching {
            return Keys::Wait;
        }
        match (entry.failed, known) {
            (Some(failed), Some(keys)) if now < failed.retry_at => Keys::Ready(keys),
            (Some(failed), None) if now < failed.retry_at => Keys::Unavailable {
                retry: failed.retry_at.since(now),
                why: failed.why,
            },
            _ => {
                entry.fetching = true;
                self.queue.push_back(Arc::clone(provider));
                Keys::Wait
            }
        }
    }

    /// How somebody logs in with that provider. Its keys are fetched anew where its document
    /// is: the token that comes of the login needs them.
    pub fn want_way(&mut self, now: Monotonic, provider: &Arc<Provider>) -> Way {
        let unavailable = |retry, why| Way::Unavailable { retry, why };
        if let Source::Keys(_) = provider.source {
            let what = "none is configured, and a login needs one: discovery_url, not jwks_url";
            return unavailable(BACK_OFF_MAX, FetchFailure::Document { what });
        }
        if !self.entries.contains_key(provider) && !self.make_room() {
            return unavailable(BACK_OFF_MIN, FetchFailure::Busy);
        }
        let entry = self.entries.entry(Arc::clone(provider)).or_default();
        self.uses += 1;
        entry.used = self.uses;
        if let Some((discovered, since)) = &entry.discovered
            && now.since(*since) < DISCOVERY_FRESH
        {
            return match &discovered.login {
                Ok(endpoints) => Way::Ready(endpoints.clone()),
                Err(what) => unavailable(BACK_OFF_MAX, FetchFailure::Document { what }),
            };
        }
        if entry.fetching {
            return Way::Wait;
        }
        match entry.failed {
            Some(failed) if now < failed.retry_at => {
                unavailable(failed.retry_at.since(now), failed.why)
            }
            _ => {
                entry.fetching = true;
                self.queue.push_back(Arc::clone(provider));
                Way::Wait
            }
        }
    }

    /// Whether there is room for one provider more, after the one that was not asked for the
    /// longest has made it.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < PROVIDERS_MAX {
            return true;
        }
        let idle = self.entries.iter().filter(|(_, entry)| !entry.fetching);
        let oldest = idle.min_by_key(|(_, entry)| entry.used);
        let Some(oldest) = oldest.map(|(provider, _)| Arc::clone(provider)) else {
            return false;
        };
        self.entries.remove(&oldest);
        true
    }

    /// The next document to fetch.
    pub fn poll_fetch(&mut self, now: Monotonic) -> Option<Fetch> {
        if self.in_flight.len() == FETCHES_MAX {
            return None;
        }
        let provider = self.queue.pop_front()?;
        let entry = self.entries.get(&provider).expect("it is being fetched");
        let discovered = entry.discovered.as_ref();
        let discovered = discovered.filter(|(_, since)| now.since(*since) < DISCOVERY_FRESH);
        let (document, url) = match (&provider.source, discovered) {
            (Source::Keys(url), _)
            | (Source::Discovery(_), Some((Discovered { keys: url, .. }, _))) => {
                (Document::Keys, url.clone())
            }
            (Source::Discovery(url), None) => (Document::Discovery, url.clone()),
        };
        self.fetches += 1;
        let fetch = Fetch {
            id: FetchId(self.fetches),
            url: url.clone(),
            bytes_max: match document {
                Document::Discovery => DISCOVERY_BYTES_MAX,
                Document::Keys => SET_BYTES_MAX,
            },
            deadline: now + FETCH_WAIT,
        };
        let in_flight = InFlight {
            provider,
            document,
            url,
            deadline: fetch.deadline,
        };
        self.in_flight.insert(fetch.id, in_flight);
        Some(fetch)
    }

    /// Takes the body of a document, or why there is none. What was given up is not looked at.
    pub fn handle_fetched(
        &mut self,
        now: Monotonic,
        id: FetchId,
        fetched: Result<&[u8], FetchFailure>,
    ) {
        let Some(done) = self.in_flight.remove(&id) else {
            return;
        };
        let entry = self.entries.get_mut(&done.provider);
        let entry = entry.expect("what is being fetched is not forgotten");
        let taken = fetched.and_then(|body| {
            match done.document {
                Document::Discovery => {
                    let said = provider::discovered(body, &done.provider.issuer, &done.url)?;
                    entry.discovered = Some((said, now));
                }
                Document::Keys => {
                    entry.keys = Some((Arc::new(KeySet::parse(body)?), now));
                    entry.failed = None;
                }
            }
            Ok(())
        });
        if let Err(why) = taken {
            // Perhaps its keys have moved: then the document says where.
            entry.discovered = None;
            let times = entry
                .failed
                .map_or(1, |failed| failed.times.saturating_add(1));
            entry.failed = Some(Failed {
                times,
                retry_at: now + back_off(times),
                why,
            });
        } else if done.document == Document::Discovery {
            // Before all others: it has waited its turn.
            self.queue.push_front(done.provider);
            return;
        }
        entry.fetching = false;
        self.settled.push_back(done.provider);
    }

    /// Gives up what took too long.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        let late = self.in_flight.iter().filter(|(_, one)| one.deadline <= now);
        let late: Vec<FetchId> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.handle_fetched(now, id, Err(FetchFailure::Timeout));
        }
    }

    /// A provider whose keys came, or did not: whoever waits for them asks again.
    pub fn poll_settled(&mut self) -> Option<Arc<Provider>> {
        self.settled.pop_front()
    }

    /// When [`JwksCache::handle_timeout`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.in_flight.values().map(|one| one.deadline).min()
    }
}

/// The wait after so many failures in a row.
fn back_off(times: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(times.saturating_sub(1));
    BACK_OFF_MIN.saturating_mul(doubled).min(BACK_OFF_MAX)
}
