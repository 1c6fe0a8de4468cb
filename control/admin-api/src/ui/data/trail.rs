//! The recent past of single resources, for charts on their pages.
//!
//! The cores are sampled as a whole; of single resources nobody keeps a past until somebody
//! looks at one. From then on its page remembers what it showed, second by second, for as
//! long as it is looked at now and then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use pinion_admin_ui::model::Series;
use pinion_types::WallMs;

/// Resources with a past. The one that was looked at longest ago makes room; a page of each
/// takes about 2 KiB.
pub(crate) const TRAILS_MAX: usize = 256;

/// Seconds of it that are kept and shown.
pub(crate) const SECONDS: u64 = 60;

/// Two rates of a resource at each second that somebody looked.
#[derive(Debug, Default)]
struct Trail {
    /// Seconds since 1970, ascending, and the rates.
    points: VecDeque<(u64, [f64; 2])>,
}

/// All of them. One for each node.
#[derive(Debug, Default)]
pub(crate) struct Trails(Mutex<BTreeMap<u64, Trail>>);

impl Trails {
    /// Remembers the rates of a resource as they were at a moment, and gives back their
    /// past up to it.
    pub(crate) fn add(&self, resource: u64, at: WallMs, rates: [f64; 2]) -> [Series; 2] {
        let second = at.0 / 1_000;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= TRAILS_MAX && !all.contains_key(&resource) {
            let oldest = all.iter().min_by_key(|(_, trail)| trail.last());
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                all.remove(&oldest);
            }
        }
        let trail = all.entry(resource).or_default();
        trail.add(second, rates);
        trail.series()
    }
}

impl Trail {
    fn last(&self) -> u64 {
        self.points.back().map_or(0, |(second, _)| *second)
    }

    fn add(&mut self, second: u64, rates: [f64; 2]) {
        // A clock that was set back begins anew.
        if second < self.last() {
            self.points.clear();
        }
        if self.points.back().is_some_and(|(last, _)| *last == second) {
            self.points.pop_back();
        }
        self.points.push_back((second, rates));
        let oldest = second.saturating_sub(SECONDS - 1);
        while self
            .points
            .front()
            .is_some_and(|(first, _)| *first < oldest)
        {
            self.points.pop_front();
        }
    }

    /// From the first second that is kept to the last; nothing where nobody looked.
    fn series(&self) -> [Series; 2] {
        let first = self.points.front().map_or(0, |(second, _)| *second);
        let mut points: [Vec<Option<f64>>; 2] = Default::default();
        for (second, rates) in &self.points {
            for (of, rate) in points.iter_mut().zip(rates) {
                while (of.len() as u64) < second - first {
                    of.push(None);
                }
                of.push(Some(*rate).filter(|rate| rate.is_finite()));
            }
        }
        points.map(|points| Series {
            step_ms: 1_000,
            points,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(series: &[Series; 2]) -> Vec<Option<u64>> {
        let whole = |rate: &Option<f64>| rate.map(|rate| rate.to_bits());
        series[0].points.iter().map(whole).collect()
    }

    fn bits(rates: &[Option<f64>]) -> Vec<Option<u64>> {
        rates.iter().map(|rate| rate.map(f64::to_bits)).collect()
    }

    fn at(second: u64) -> WallMs {
        WallMs(second * 1_000 + 7)
    }

    #[test]
    fn a_past_has_a_gap_where_nobody_looked() {
        let trails = Trails::default();
        trails.add(1, at(10), [1.0, 2.0]);
        trails.add(1, at(10), [1.5, 2.0]);
        let series = trails.add(1, at(13), [4.0, f64::NAN]);
        assert_eq!(points(&series), bits(&[Some(1.5), None, None, Some(4.0)]));
        assert_eq!(series[1].points, [Some(2.0), None, None, None]);
    }

    #[test]
    fn a_past_ends() {
        let trails = Trails::default();
        for second in 0..100 {
            trails.add(1, at(second), [0.0, 0.0]);
        }
        let series = trails.add(1, at(100), [0.0, 0.0]);
        assert_eq!(series[0].points.len() as u64, SECONDS);
        let series = trails.add(1, at(1_000), [7.0, 0.0]);
        assert_eq!(points(&series), bits(&[Some(7.0)]), "all else is too old");
        let series = trails.add(1, at(5), [8.0, 0.0]);
        assert_eq!(
            points(&series),
            bits(&[Some(8.0)]),
            "the clock was set back"
        );
    }

    #[test]
    fn what_was_looked_at_longest_ago_makes_room() {
        let trails = Trails::default();
        for resource in 0..TRAILS_MAX as u64 {
            trails.add(resource, at(resource), [1.0, 1.0]);
        }
        trails.add(0, at(400), [1.0, 1.0]);
        trails.add(9_999, at(400), [1.0, 1.0]);
        let all = trails.0.lock().expect("nobody panicked");
        assert_eq!(all.len(), TRAILS_MAX);
        assert!(all.contains_key(&0) && !all.contains_key(&1) && all.contains_key(&9_999));
    }
}
