//! The most that can be asked on a schedule: what "half of the peak" is half of.
//!
//! A closed loop is no measure for it. With many requests in flight they travel
//! together, one packet for dozens of them, and the rate it reaches is many times
//! of what either side can carry when each request leaves at a time of its own. On
//! a schedule beyond that both sides still answer all: they fall behind, so requests
//! gather, so they travel together again, at a latency that is all queue. Such a
//! rate is answered, but nobody would run a server there. So a rate counts only if
//! the generator rests now and then while it asks it.

use std::time::Duration;

use pinion_cli::bench::measure::{BenchError, Driver, Span, open_loop};
use serde::Serialize;

/// The first rate that is tried, per second: a machine of two processors has it.
const FIRST_RATE: f64 = 20_000.0;

/// From one rate to the next, while only one end is known.
const STEP: f64 = 1.5;

/// Where the lowest rate that was too much is at most so many times the highest
/// that was not, the search ends.
const CLOSE_ENOUGH: f64 = 1.12;

/// Rates that are tried. Fourteen reach from a hundred a second to almost four million.
const RATES_MAX: u32 = 14;

/// Least share of what was asked that is answered by the end of a probe, so that no
/// backlog is left over: what is answered later makes the probe longer.
const ANSWERED_MIN: f64 = 0.99;

/// Most of the time in which the generator may have had work. Beyond it requests
/// wait for the generator, and their latency says nothing about a server.
const BUSY_MAX: f64 = 0.9;

/// One probe. Longer probes make the suite longer: a search has about ten, and one
/// that fails is made again, since the kernel may have taken the processor for a moment.
const PROBE: Span = Span {
    warmup: Duration::from_millis(100),
    measured: Duration::from_millis(300),
};

/// What a higher rate was too much for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LimitedBy {
    /// It did not answer everything, and the generator had time to ask.
    Server,
    /// It had no time to rest, whether or not the server answered: the server may
    /// have more.
    Generator,
    /// The search itself: everything it tried was answered.
    Search,
}

/// The most that can be asked on a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// Requests per second.
    pub rate: f64,
    /// Why it is not higher.
    pub limit: LimitedBy,
}

/// What came of asking at one rate; none when it is no more than can be asked.
type Verdict = Option<LimitedBy>;

/// Looks for the highest rate that is not too much. Decides only; who asks is
/// [`find`].
#[derive(Debug, Default)]
struct Search {
    held: Option<f64>,
    too_much: Option<(f64, LimitedBy)>,
    tried: u32,
}

impl Search {
    /// The rate to try next; none when the search is over.
    fn next(&self) -> Option<f64> {
        if self.tried == RATES_MAX {
            return None;
        }
        match (self.held, self.too_much) {
            (None, None) => Some(FIRST_RATE),
            (Some(held), None) => Some(held * STEP),
            (None, Some((too_much, _))) => Some(too_much / STEP),
            (Some(held), Some((too_much, _))) => {
                (too_much / held > CLOSE_ENOUGH).then(|| (too_much * held).sqrt())
            }
        }
    }

    fn tell(&mut self, rate: f64, verdict: Verdict) {
        self.tried += 1;
        match verdict {
            None => self.held = Some(rate),
            Some(limit) => self.too_much = Some((rate, limit)),
        }
    }

    fn found(&self) -> Option<Peak> {
        let limit = self.too_much.map_or(LimitedBy::Search, |(_, limit)| limit);
        self.held.map(|rate| Peak { rate, limit })
    }
}

fn judge(asked: f64, answered: f64, generator_busy: f64) -> Verdict {
    if generator_busy > BUSY_MAX {
        Some(LimitedBy::Generator)
    } else if answered < asked * ANSWERED_MIN {
        Some(LimitedBy::Server)
    } else {
        None
    }
}

/// Finds the most that can be asked of `driver` on a schedule. Takes about ten
/// probes of 0.4 seconds, at most twice [`RATES_MAX`] and two seconds more for each
/// that is far too much.
///
/// # Errors
/// What the driver answers; silence when nothing at all is answered at the lowest rate.
pub(crate) fn find<D: Driver>(driver: &mut D) -> Result<Peak, BenchError> {
    find_by(|rate| match open_loop(driver, rate, PROBE) {
        Ok(run) => Ok(judge(rate, run.rate(), run.generator.busy_share)),
        Err(BenchError::Silence { .. }) => Ok(Some(LimitedBy::Server)),
        Err(error) => Err(error),
    })
}

fn find_by(mut probe: impl FnMut(f64) -> Result<Verdict, BenchError>) -> Result<Peak, BenchError> {
    let mut search = Search::default();
    while let Some(rate) = search.next() {
        let mut verdict = probe(rate)?;
        if verdict.is_some() {
            verdict = probe(rate)?;
        }
        search.tell(rate, verdict);
    }
    search.found().ok_or_else(|| {
        BenchError::Options("no rate was answered: there is no peak to be halved".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Too much above `most`, for `limit`.
    fn search(most: f64, limit: LimitedBy) -> (Result<Peak, BenchError>, u32) {
        let probes = Cell::new(0);
        let found = find_by(|rate| {
            probes.set(probes.get() + 1);
            Ok((rate > most).then_some(limit))
        });
        (found, probes.get())
    }

    #[test]
    fn the_peak_is_found_within_a_tenth_above_and_below_the_first_rate() {
        for most in [700.0, 15_000.0, 20_000.0, 137_000.0, 900_000.0] {
            for limit in [LimitedBy::Server, LimitedBy::Generator] {
                let (found, probes) = search(most, limit);
                let peak = found.expect("a peak");
                assert!(peak.rate <= most, "{peak:?} of {most}");
                assert!(peak.rate > most / CLOSE_ENOUGH, "{peak:?} of {most}");
                assert_eq!(peak.limit, limit);
                assert!(probes <= 2 * RATES_MAX, "{probes} for {most}");
            }
        }
    }

    #[test]
    fn a_search_without_an_end_says_that_it_ended_itself() {
        let (found, probes) = search(f64::INFINITY, LimitedBy::Server);
        assert_eq!(found.expect("a peak").limit, LimitedBy::Search);
        assert_eq!(probes, RATES_MAX);
        let (found, probes) = search(0.0, LimitedBy::Server);
        assert!(found.is_err());
        assert_eq!(probes, 2 * RATES_MAX);
    }

    #[test]
    fn one_disturbed_probe_decides_nothing() {
        let mut count = 0;
        let found = find_by(|rate| {
            count += 1;
            // Every other probe of a rate fails.
            Ok((rate > 100_000.0 || count % 3 == 1).then_some(LimitedBy::Generator))
        });
        assert!(found.expect("a peak").rate > 100_000.0 / CLOSE_ENOUGH);
    }

    #[test]
    fn who_had_no_time_is_the_limit_and_a_backlog_is_too_much() {
        assert_eq!(judge(100.0, 99.5, 0.5), None);
        assert_eq!(judge(100.0, 98.5, 0.5), Some(LimitedBy::Server));
        assert_eq!(judge(100.0, 100.0, 0.95), Some(LimitedBy::Generator));
        // Who fell behind cannot be told; the server is not blamed for it.
        assert_eq!(judge(100.0, 50.0, 1.0), Some(LimitedBy::Generator));
    }
}
