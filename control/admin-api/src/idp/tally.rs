//! How exchanges with each identity provider went on this node, for whoever looks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pinion_types::WallMs;

/// Providers of tenants that are counted; of those beyond nothing is said. A node that meets
/// so many has more than a page shows of any one tenant.
pub(crate) const PROVIDERS_COUNTED_MAX: usize = 4_096;

/// How exchanges with one provider went since the node was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exchanged {
    /// Tokens given.
    pub(crate) given: u64,
    /// Exchanges refused.
    pub(crate) refused: u64,
    /// When and why the last one was refused.
    pub(crate) last_refusal: Option<(WallMs, Box<str>)>,
}

/// By tenant and issuer.
type ByProvider = BTreeMap<(Box<str>, Box<str>), Exchanged>;

/// How exchanges with all of them went.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<ByProvider>);

impl Tally {
    /// One more exchange. Only of an issuer that the tenant has: what strangers name must
    /// not take the room.
    pub(crate) fn add(&self, tenant: &str, issuer: &str, refused: Option<(WallMs, &str)>) {
        let mut all = self.lock();
        let key = (tenant.into(), issuer.into());
        if all.len() >= PROVIDERS_COUNTED_MAX && !all.contains_key(&key) {
            return;
        }
        let counted = all.entry(key).or_default();
        match refused {
            None => counted.given += 1,
            Some((at, why)) => {
                counted.refused += 1;
                counted.last_refusal = Some((at, why.into()));
            }
        }
    }

    /// How it went with one; `None` where nobody can say.
    pub(crate) fn of(&self, tenant: &str, issuer: &str) -> Option<Exchanged> {
        let all = self.lock();
        let counted = all.get(&(tenant.into(), issuer.into())).cloned();
        counted.or_else(|| (all.len() < PROVIDERS_COUNTED_MAX).then(Exchanged::default))
    }

    /// Nothing in here panics half way.
    fn lock(&self) -> MutexGuard<'_, ByProvider> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_of_each_tenant_has_its_own_numbers_up_to_a_bound() {
        let tally = Tally::default();
        tally.add("acme", "idp", None);
        tally.add("acme", "idp", Some((WallMs(7), "wrong_issuer")));
        tally.add("other", "idp", None);
        let acme = tally.of("acme", "idp").expect("it is counted");
        assert_eq!((acme.given, acme.refused), (1, 1));
        assert_eq!(acme.last_refusal, Some((WallMs(7), "wrong_issuer".into())));
        assert_eq!(tally.of("other", "idp").map(|one| one.given), Some(1));
        assert_eq!(tally.of("acme", "new"), Some(Exchanged::default()));
        for number in 0..PROVIDERS_COUNTED_MAX {
            tally.add("many", &number.to_string(), None);
        }
        tally.add("acme", "new", None);
        assert_eq!(tally.of("acme", "new"), None, "nobody can say");
        tally.add("acme", "idp", None);
        assert_eq!(tally.of("acme", "idp").map(|one| one.given), Some(2));
    }
}
