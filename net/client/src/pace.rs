//! When to try again: jittered backoff, a retry budget and a circuit breaker.
//!
//! All three are plain state machines: time and randomness come in as arguments.

use std::time::{Duration, Instant};

use crate::config::{BackoffConfig, BreakerConfig, RetryBudgetConfig};

/// Exponential backoff with full jitter: a wait is uniform between zero and a
/// bound that doubles, so that clients that lost a node together do not return
/// together (M. Brooker, "Exponential Backoff And Jitter", 2015).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    config: BackoffConfig,
    bound: Duration,
}

impl Backoff {
    pub(crate) const fn new(config: BackoffConfig) -> Self {
        Self {
            config,
            bound: config.first,
        }
    }

    /// The next wait; `random` is uniform in `0.0..1.0`.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let wait = self.bound.mul_f64(random.clamp(0.0, 1.0));
        self.bound = (self.bound * 2).min(self.config.max);
        wait
    }

    /// Back to the first bound, after a success.
    pub(crate) const fn reset(&mut self) {
        self.bound = self.config.first;
    }
}

/// Token bucket that keeps retries a small share of requests, so that a node
/// that refuses work is not given more of it.
#[derive(Clone, Debug)]
pub(crate) struct RetryBudget {
    config: RetryBudgetConfig,
    tokens: f64,
    refilled: Instant,
}

impl RetryBudget {
    pub(crate) fn new(config: RetryBudgetConfig, now: Instant) -> Self {
        Self {
            config,
            tokens: f64::from(config.burst),
            refilled: now,
        }
    }

    /// A first attempt was made.
    pub(crate) fn deposit(&mut self) {
        self.tokens = (self.tokens + self.config.ratio).min(f64::from(self.config.burst));
    }

    /// Takes a token for one retry; false when the budget is spent.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens =
            (self.tokens + passed * self.config.per_second).min(f64::from(self.config.burst));
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// Stops attempts to reach a node after repeated failures; after a cooldown one
/// attempt is let through, and its success closes the breaker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    failures: u32,
    closed_at: Option<Instant>,
}

impl Breaker {
    pub(crate) const fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            failures: 0,
            closed_at: None,
        }
    }

    /// Whether an attempt may start now.
    ///
    /// # Errors
    /// How long to wait. When the cooldown is over, the first caller is let
    /// through and the others wait for one more.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.closed_at {
            Some(until) if now < until => Err(until - now),
            Some(_) => {
                self.closed_at = Some(now + self.config.cooldown);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// An attempt succeeded.
    pub(crate) const fn succeeded(&mut self) {
        self.failures = 0;
        self.closed_at = None;
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.config.failures {
            self.closed_at = Some(now + self.config.cooldown);
        }
    }

    /// Failures in a row.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_bound_and_are_spread_by_chance() {
        let mut backoff = Backoff::new(BackoffConfig {
            first: 10 * MS,
            max: 35 * MS,
        });
        assert_eq!(backoff.next(1.0), 10 * MS);
        assert_eq!(backoff.next(0.5), 10 * MS);
        assert_eq!(backoff.next(1.0), 35 * MS);
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        backoff.reset();
        assert_eq!(backoff.next(1.0), 10 * MS);
    }

    #[test]
    fn retries_stay_a_tenth_of_the_requests() {
        let start = Instant::now();
        let config = RetryBudgetConfig {
            ratio: 0.1,
            burst: 10,
            per_second: 0.0,
        };
        let mut budget = RetryBudget::new(config, start);
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.deposit();
            retries += u32::from(budget.withdraw(start));
        }
        assert!((1000..=1010).contains(&retries), "{retries}");
    }

    #[test]
    fn an_idle_client_earns_retries_with_time() {
        let start = Instant::now();
        let config = RetryBudgetConfig {
            ratio: 0.0,
            burst: 2,
            per_second: 1.0,
        };
        let mut budget = RetryBudget::new(config, start);
        assert!(budget.withdraw(start) && budget.withdraw(start));
        assert!(!budget.withdraw(start));
        assert!(budget.withdraw(start + Duration::from_secs(1)));
        // The bucket does not grow beyond its burst.
        let later = start + Duration::from_secs(100);
        assert!(budget.withdraw(later) && budget.withdraw(later) && !budget.withdraw(later));
    }

    #[test]
    fn the_breaker_opens_lets_one_through_and_closes_on_success() {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerConfig {
            failures: 2,
            cooldown: 100 * MS,
        });
        breaker.failed(start);
        assert_eq!(breaker.admit(start), Ok(()));
        breaker.failed(start);
        assert_eq!(breaker.admit(start + 40 * MS), Err(60 * MS));
        let later = start + 100 * MS;
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.admit(later), Err(100 * MS), "only one probe");
        breaker.succeeded();
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.failures(), 0);
    }
}
