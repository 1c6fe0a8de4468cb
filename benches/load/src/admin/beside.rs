//! The data plane alone and with something beside it, in turns, and what the difference is.
//!
//! A ratio is formed within a round. The control is the data plane alone over itself, one
//! round later: what the machine does to such a ratio when nothing is beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use pinion_cli::bench::latency::Latency;
use pinion_cli::bench::machine::{OTHERS_SHARE_MAX, Watch};
use pinion_cli::bench::measure::{BenchError, Span};

use super::Found;
use super::data::{DataClient, Met, RATE};
use super::node_side::Told;
use super::place::Place;

/// Threads that do something until they are told to end.
pub(super) struct Background {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Count, BenchError>>>,
}

/// What they did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Requests that were answered with what was asked for, or other things done.
    pub(super) done: u64,
    /// Requests that were refused: too many.
    pub(super) refused: u64,
}

impl Background {
    pub(super) fn new() -> Self {
        Self {
            stop: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// Has a thread do `what`, which looks at the flag often.
    pub(super) fn spawn(
        &mut self,
        what: impl FnOnce(&AtomicBool) -> Result<Count, BenchError> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.threads.push(thread::spawn(move || what(&stop)));
    }

    /// Ends them, and gives what all did together.
    ///
    /// # Errors
    /// What the first of them answers that failed.
    pub(super) fn end(mut self) -> Result<Count, BenchError> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Count::default();
        for thread in self.threads.drain(..) {
            let count = thread.join();
            let count =
                count.map_err(|_| BenchError::Options("a thread panicked".to_owned()))??;
            all.done += count.done;
            all.refused += count.refused;
        }
        Ok(all)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Something else has failed already.
            let _ = thread.join();
        }
    }
}

/// Something that is done beside the data plane.
pub(super) struct Load<'a> {
    pub(super) name: &'static str,
    /// Most the p99 may be over that alone.
    pub(super) at_most: Option<f64>,
    /// Whether it asks the node something that can be counted.
    pub(super) asks: bool,
    pub(super) begin: Box<dyn FnMut() -> Result<Background, BenchError> + 'a>,
}

/// One round of one of them.
struct Round {
    met: Met,
    count: Count,
    seconds: f64,
}

/// How many rounds, and how long each part of one is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    pub(super) count: usize,
    pub(super) span: Span,
}

/// Lets the data plane alone and each of `loads` take turns; every other round backwards.
///
/// # Errors
/// The node, or one of the loads, failed.
pub(super) fn in_turns(
    place: &Place,
    data: &mut DataClient,
    rounds: Rounds,
    loads: &mut [Load<'_>],
    found: &mut Found,
) -> Result<(), BenchError> {
    let mut operator = place.operator()?;
    let mut alone = Vec::new();
    let mut beside: Vec<Vec<Round>> = loads.iter().map(|_| Vec::new()).collect();
    let mut told_alone = Told::default();
    let mut told: Vec<Told> = loads.iter().map(|_| Told::default()).collect();
    for round in 0..rounds.count {
        let mut order: Vec<usize> = (0..=loads.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for which in order {
            let background = match which.checked_sub(1) {
                None => Background::new(),
                Some(load) => (loads[load].begin)()?,
            };
            let before = Told::read(&mut operator)?;
            let watch = Watch::start(&[place.server.pid()]);
            let met = data.run(RATE, rounds.span)?;
            let seconds = watch.elapsed().as_secs_f64();
            let others = watch.stop().others_share;
            let after = Told::read(&mut operator)?;
            let count = background.end()?;
            found.runs += 1;
            found.disturbed += usize::from(others > OTHERS_SHARE_MAX);
            let name = which
                .checked_sub(1)
                .map_or("alone", |load| loads[load].name);
            eprintln!(
                "  {name:<28} GET p99 {:>7.1} µs  PUBLISH p99 {:>7.1} µs  left late p99 {:>6.1} µs  done {:>5}  refused {:>5}  others {:>2.0} %",
                met.get.summary().p99_us,
                met.publish.summary().p99_us,
                met.slip.summary().p99_us,
                count.done,
                count.refused,
                others * 100.0,
            );
            let one = Round {
                met,
                count,
                seconds,
            };
            match which.checked_sub(1) {
                None => {
                    told_alone.add(&after.since(&before));
                    alone.push(one);
                }
                Some(load) => {
                    told[load].add(&after.since(&before));
                    beside[load].push(one);
                }
            }
        }
    }
    tell(&alone, &told_alone, &beside, &told, loads, found);
    Ok(())
}

/// One of the two requests.
type Part = (&'static str, &'static str, fn(&Met) -> &Latency);

const PARTS: [Part; 2] = [
    ("GET", "cache_read", |met| &met.get),
    ("publish", "publish", |met| &met.publish),
];

fn tell(
    alone: &[Round],
    told_alone: &Told,
    beside: &[Vec<Round>],
    told: &[Told],
    loads: &[Load<'_>],
    found: &mut Found,
) {
    for (part, op, of) in PARTS {
        let p99 = |rounds: &[Round]| -> Vec<f64> {
            let each = rounds.iter().map(|round| of(&round.met).summary().p99_us);
            each.collect()
        };
        let before = p99(alone);
        found.told(format!("p99 of a {part} alone"), "µs", before.clone());
        found.told(
            "that p99 over the one of the round before: the control",
            "×",
            before.windows(2).map(|two| two[1] / two[0]).collect(),
        );
        for (load, with) in loads.iter().zip(beside) {
            let with = p99(with);
            let name = load.name;
            found.told(format!("p99 of a {part} beside {name}"), "µs", with.clone());
            let ratios = with.iter().zip(&before).map(|(with, alone)| with / alone);
            found.fact(
                format!("that p99 over the one alone ({name})"),
                "×",
                ratios.collect(),
                load.at_most,
            );
        }
        let node = |told: &Told| told.quantile_us(op, 0.99).into_iter().collect::<Vec<f64>>();
        found.told(
            format!("p99 of a {part} by the node's own histogram, alone"),
            "µs",
            node(told_alone),
        );
        for (load, told) in loads.iter().zip(told) {
            found.told(format!("the same beside {}", load.name), "µs", node(told));
        }
    }
    let busy = |told: &Told, rounds: &[Round]| {
        let seconds: f64 = rounds.iter().map(|round| round.seconds).sum();
        vec![told.busy_seconds / seconds.max(1e-9) * 100.0]
    };
    found.told("the data core works, alone", "%", busy(told_alone, alone));
    found.told(
        "its turns longer than 5 ms, alone",
        "",
        vec![told_alone.stalls],
    );
    for ((load, with), told) in loads.iter().zip(beside).zip(told) {
        let name = load.name;
        found.told(format!("it works, beside {name}"), "%", busy(told, with));
        found.told(
            format!("its turns longer than 5 ms, beside {name}"),
            "",
            vec![told.stalls],
        );
        if !load.asks {
            continue;
        }
        let a_second = |of: fn(&Count) -> u64| -> Vec<f64> {
            let each = with.iter();
            each.map(|round| super::count(of(&round.count)) / round.seconds)
                .collect()
        };
        found.told(format!("{name}: done"), "/s", a_second(|count| count.done));
        found.told(
            format!("{name}: refused"),
            "/s",
            a_second(|count| count.refused),
        );
    }
    let mut late = Latency::default();
    for round in alone.iter().chain(beside.iter().flatten()) {
        late.add(&round.met.slip);
    }
    found.told(
        "requests left late, p99 of all rounds",
        "µs",
        vec![late.summary().p99_us],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_did_is_added_up_and_a_failure_is_told() {
        let mut background = Background::new();
        for refused in [1, 2] {
            background.spawn(move |_| Ok(Count { done: 10, refused }));
        }
        let all = background.end().expect("both ended well");
        assert_eq!((all.done, all.refused), (20, 3));
        let mut background = Background::new();
        background.spawn(|_| Ok(Count::default()));
        background.spawn(|_| Err(BenchError::Closed { peer: "the node" }));
        assert!(background.end().is_err());
    }

    #[test]
    fn threads_go_on_until_they_are_told() {
        let mut background = Background::new();
        background.spawn(|stop| {
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                done += 1;
                thread::yield_now();
            }
            Ok(Count { done, refused: 0 })
        });
        assert!(background.end().is_ok());
    }
}
