//! Who is with an identity provider at the moment: a bounded table, decided without a clock or
//! a socket.
//!
//! What a browser holds is a random number; here is its digest alone. A login is taken out
//! when its browser comes back with the right state, so that nothing comes back twice.

use core::time::Duration;
use std::collections::HashMap;

use pinion_auth::provider::Endpoints;
use pinion_types::Monotonic;

use super::session::{Full, SessionDigest};

/// Logins at a time. Each has some kilobytes, most of them where its provider is.
pub(crate) const DEPARTED_MAX: usize = 1_024;

/// Logins of one address; a further one ends the oldest of that address. Many people may
/// share one, and one must not have all the room.
pub(crate) const DEPARTED_PER_ADDRESS_MAX: usize = 256;

/// How long somebody may take to log in at a provider, also in
/// [`super::cookie::Cookie::Oidc`].
pub(crate) const AWAY_MAX: Duration = Duration::from_secs(600);

/// One login that is under way.
#[derive(Debug)]
pub(crate) struct Departed {
    /// Which of the providers, by its place in the configuration.
    pub(crate) provider: usize,
    /// Whom the browser was sent to, and whom its code goes to: no document that is fetched
    /// later has a say in that.
    pub(crate) endpoints: Endpoints,
    /// RFC 7636 §4.1.
    pub(crate) verifier: String,
    /// What the token must have.
    pub(crate) nonce: String,
    /// Where to go afterwards.
    pub(crate) next: String,
    /// The session that the browser had. Its cookie does not come back with the browser.
    pub(crate) session: Option<SessionDigest>,
    /// Whose it is counted as.
    pub(crate) address: String,
    pub(crate) begun: Monotonic,
}

impl Departed {
    fn is_over(&self, now: Monotonic) -> bool {
        now.since(self.begun) >= AWAY_MAX
    }
}

/// The logins of one node that are under way.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    all: HashMap<SessionDigest, Departed>,
}

impl Departures {
    /// Somebody goes.
    pub(crate) fn begin(
        &mut self,
        now: Monotonic,
        digest: SessionDigest,
        departed: Departed,
    ) -> Result<(), Full> {
        self.all.retain(|_, one| !one.is_over(now));
        let of_same = |(_, one): &(_, &Departed)| one.address == departed.address;
        if self.all.iter().filter(of_same).count() >= DEPARTED_PER_ADDRESS_MAX {
            let oldest = self.all.iter().filter(of_same);
            let oldest = oldest.min_by_key(|(_, one)| one.begun);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.all.remove(&oldest);
            }
        }
        if self.all.len() >= DEPARTED_MAX {
            return Err(Full);
        }
        self.all.insert(digest, departed);
        Ok(())
    }

    /// Somebody is back, once.
    pub(crate) fn take(&mut self, now: Monotonic, digest: &SessionDigest) -> Option<Departed> {
        let departed = self.all.remove(digest)?;
        (!departed.is_over(now)).then_some(departed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_auth::provider::Url;

    fn digest(number: usize) -> SessionDigest {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        SessionDigest::of(&id)
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::ZERO + Duration::from_secs(seconds)
    }

    fn departed(address: usize, begun: Monotonic) -> Departed {
        let url = Url::parse("https://id.example/").expect("a URL");
        Departed {
            provider: 0,
            endpoints: Endpoints {
                authorization: url.clone(),
                token: url,
                names_itself: false,
            },
            verifier: "v".into(),
            nonce: "n".into(),
            next: "/".into(),
            session: None,
            address: address.to_string(),
            begun,
        }
    }

    #[test]
    fn a_login_comes_back_once_and_soon() {
        let mut all = Departures::default();
        for number in [1, 2] {
            let begun = all.begin(at(0), digest(number), departed(1, at(0)));
            assert_eq!(begun, Ok(()));
        }
        assert!(all.take(at(599), &digest(1)).is_some());
        assert!(all.take(at(599), &digest(1)).is_none(), "a replay");
        assert!(all.take(at(600), &digest(2)).is_none(), "too late");
        assert!(all.take(at(0), &digest(3)).is_none(), "nobody left");
    }

    #[test]
    fn logins_are_bounded_for_each_address_and_in_all() {
        let mut all = Departures::default();
        for number in 0..DEPARTED_PER_ADDRESS_MAX {
            let now = at(u64::from(number > 0));
            let begun = all.begin(now, digest(number), departed(1, now));
            assert_eq!(begun, Ok(()));
        }
        let begun = all.begin(at(2), digest(9_999), departed(1, at(2)));
        assert_eq!(begun, Ok(()), "the oldest made room");
        assert!(all.take(at(2), &digest(0)).is_none());
        assert!(all.take(at(2), &digest(1)).is_some());
        let mut all = Departures::default();
        for number in 0..DEPARTED_MAX {
            let begun = all.begin(at(0), digest(number), departed(number / 100, at(0)));
            assert_eq!(begun, Ok(()));
        }
        let full = all.begin(at(1), digest(9_999), departed(500, at(1)));
        assert_eq!(full, Err(Full));
        let later = all.begin(at(600), digest(9_999), departed(500, at(600)));
        assert_eq!(later, Ok(()), "those that are over make room");
    }
}
