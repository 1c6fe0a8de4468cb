//! How often somebody may ask: a token bucket for each, of which there are only so many.

use core::time::Duration;
use std::collections::HashMap;

use pinion_types::Monotonic;

use crate::limits::RATED_MAX;

/// Requests in one second, and how many may come at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// 0 is as many as come.
    pub per_second: u32,
    /// At least 1.
    pub burst: u32,
}

/// A bucket, told as when it will be full again: that is all there is to know of it.
#[derive(Debug)]
struct Bucket {
    full_at: Monotonic,
    /// The last request was refused.
    refused: bool,
}

/// The buckets of one rate.
#[derive(Debug)]
pub(crate) struct Rates {
    rate: Rate,
    buckets: HashMap<Box<str>, Bucket>,
    /// For everybody for whom there is no room.
    rest: Bucket,
}

/// Why not, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOften {
    /// When there is something in the bucket again.
    pub(crate) retry: Duration,
    /// The request before was not refused: said once for a row of them.
    pub(crate) first: bool,
}

impl Rates {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: HashMap::new(),
            rest: Bucket::full(),
        }
    }

    /// Somebody asks.
    pub(crate) fn take(&mut self, who: &str, now: Monotonic) -> Result<(), TooOften> {
        if self.rate.per_second == 0 {
            return Ok(());
        }
        if self.buckets.len() >= RATED_MAX && !self.buckets.contains_key(who) {
            // A full bucket says no more than none.
            self.buckets.retain(|_, bucket| bucket.full_at > now);
        }
        let bucket = if self.buckets.contains_key(who) || self.buckets.len() < RATED_MAX {
            self.buckets.entry(who.into()).or_insert_with(Bucket::full)
        } else {
            &mut self.rest
        };
        bucket.take(self.rate, now)
    }
}

impl Bucket {
    fn full() -> Self {
        Self {
            full_at: Monotonic::ZERO,
            refused: false,
        }
    }

    fn take(&mut self, rate: Rate, now: Monotonic) -> Result<(), TooOften> {
        let each = Duration::from_secs(1) / rate.per_second;
        // What is missing now, and what may be missing before the one that is asked for.
        let missing = self.full_at.since(now);
        let most = each * (rate.burst.max(1) - 1);
        if missing > most {
            let first = !core::mem::replace(&mut self.refused, true);
            let retry = missing - most;
            return Err(TooOften { retry, first });
        }
        self.refused = false;
        self.full_at = self.full_at.max(now) + each;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
    };

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_millis(ms)
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut rates = Rates::new(RATE);
        let mut asks = |ms| rates.take("ana", at(ms));
        assert_eq!(
            (asks(1000), asks(1000), asks(1000)),
            (Ok(()), Ok(()), Ok(()))
        );
        let refused = |ms, first| {
            Err(TooOften {
                retry: Duration::from_millis(ms),
                first,
            })
        };
        assert_eq!(asks(1000), refused(100, true));
        assert_eq!(asks(1050), refused(50, false), "one row for many");
        assert_eq!(asks(1100), Ok(()));
        assert_eq!(asks(1100), refused(100, true), "another row");
        assert_eq!(
            (asks(5000), asks(5000), asks(5000)),
            (Ok(()), Ok(()), Ok(()))
        );
        assert!(asks(5000).is_err(), "a pause saves up no more than a burst");
        assert_eq!(rates.take("bo", at(5000)), Ok(()), "to each their own");
    }

    #[test]
    fn those_beyond_the_limit_share_one_and_idle_ones_make_room() {
        let mut rates = Rates::new(RATE);
        for who in 0..RATED_MAX {
            rates
                .take(&who.to_string(), at(0))
                .unwrap_or_else(|_| panic!("{who}"));
        }
        for who in ["a", "b", "c"] {
            assert_eq!(rates.take(who, at(0)), Ok(()));
        }
        assert!(rates.take("d", at(0)).is_err());
        assert_eq!(rates.buckets.len(), RATED_MAX);
        assert_eq!(rates.take("d", at(1000)), Ok(()));
        assert_eq!(rates.buckets.len(), 1, "the others were full again");
    }

    #[test]
    fn without_a_rate_nobody_is_counted() {
        let mut rates = Rates::new(Rate {
            per_second: 0,
            burst: 1,
        });
        for _ in 0..100 {
            assert_eq!(rates.take("ana", at(0)), Ok(()));
        }
        assert!(rates.buckets.is_empty());
    }
}
