//! What lies between nodes: it delays, loses, repeats and reorders, and is cut.
//!
//! It carries anything and knows nothing of it. Nodes are numbers; a wire goes from
//! one to another and is not the one back. What is sent on a wire arrives in order, as
//! on a connection, but for what the weather makes late.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use pinion_types::Monotonic;

use crate::SimRng;

/// How the wires are. What is said of one in so many is chance; 0 is never.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Shortest time on a wire.
    pub delay_min: Duration,
    /// Longest time on a wire of what is not late.
    pub delay_max: Duration,
    /// Longest time on a wire of what is late.
    pub late_max: Duration,
    /// One in so many is lost.
    pub lose: u64,
    /// One in so many arrives twice.
    pub repeat: u64,
    /// One in so many is late: what was sent after it overtakes it.
    pub late: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_micros(100),
            delay_max: Duration::from_micros(400),
            late_max: Duration::from_millis(400),
            lose: 0,
            repeat: 0,
            late: 0,
        }
    }
}

/// What became of what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimNetStats {
    /// Sent.
    pub sent: u64,
    /// Arrived, repeats included.
    pub arrived: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Sent twice by chance.
    pub repeated: u64,
    /// Made late by chance.
    pub late: u64,
    /// Lost because the wire was cut, or its end was gone.
    pub cut: u64,
    /// Lost with a connection.
    pub reset: u64,
}

/// A wire, from one node to another.
type Wire = (usize, usize);

#[derive(Clone, Debug)]
struct Parcel<T> {
    wire: Wire,
    what: T,
}

/// The wires between some nodes.
#[derive(Clone, Debug)]
pub struct SimNet<T> {
    rng: SimRng,
    weather: Weather,
    /// By when it arrives, and of those of one moment in the order of sending.
    under_way: BTreeMap<(Monotonic, u64), Parcel<T>>,
    parcels: u64,
    /// When the last thing in order arrives.
    last: BTreeMap<Wire, Monotonic>,
    cut: BTreeSet<Wire>,
    /// Wires that are cut in every other time so long, since when.
    flapping: BTreeMap<Wire, (Monotonic, Duration)>,
    gone: BTreeSet<usize>,
    stats: SimNetStats,
}

impl<T: Clone> SimNet<T> {
    /// Wires in fair weather.
    #[must_use]
    pub fn new(rng: SimRng) -> Self {
        Self {
            rng,
            weather: Weather::default(),
            under_way: BTreeMap::new(),
            parcels: 0,
            last: BTreeMap::new(),
            cut: BTreeSet::new(),
            flapping: BTreeMap::new(),
            gone: BTreeSet::new(),
            stats: SimNetStats::default(),
        }
    }

    /// How the wires are from now on; what is under way arrives as it would have.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Sends something.
    pub fn send(&mut self, now: Monotonic, from: usize, to: usize, what: T) {
        let repeated = self.rng.one_in(self.weather.repeat);
        self.send_so(now, (from, to), what, repeated);
    }

    /// Sends something that may be lost or late, and does not arrive twice: what says
    /// itself only once, on a connection that gives nothing twice.
    pub fn send_once(&mut self, now: Monotonic, from: usize, to: usize, what: T) {
        self.send_so(now, (from, to), what, false);
    }

    fn send_so(&mut self, now: Monotonic, wire: Wire, what: T, repeated: bool) {
        let (from, to) = wire;
        self.stats.sent += 1;
        // Drawn whatever becomes of it, so that a cut moves nothing on other wires.
        let lost = self.rng.one_in(self.weather.lose);
        if self.is_cut(now, from, to) {
            self.stats.cut += 1;
            return;
        }
        if lost {
            self.stats.lost += 1;
            return;
        }
        if repeated {
            self.stats.repeated += 1;
            let what = what.clone();
            self.put(now, wire, what);
        }
        self.put(now, wire, what);
    }

    fn put(&mut self, now: Monotonic, wire: Wire, what: T) {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let late = self.rng.one_in(self.weather.late);
        let most = if late {
            self.weather.late_max
        } else {
            self.weather.delay_max
        };
        let least = nanos(self.weather.delay_min);
        let takes = self.rng.between(least, nanos(most).max(least));
        let mut due = now + Duration::from_nanos(takes);
        if late {
            self.stats.late += 1;
        } else {
            let last = self.last.entry(wire).or_insert(due);
            due = due.max(*last);
            *last = due;
        }
        self.parcels += 1;
        let parcel = Parcel { wire, what };
        self.under_way.insert((due, self.parcels), parcel);
    }

    /// When the next thing arrives.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.under_way.keys().next().map(|(due, _)| *due)
    }

    /// The next thing that has arrived: from whom, for whom, what. What comes to the end
    /// of a wire that is cut by then is lost.
    pub fn poll(&mut self, now: Monotonic) -> Option<(usize, usize, T)> {
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= now
        {
            let ((due, _), Parcel { wire, what }) = first.remove_entry();
            let (from, to) = wire;
            // It arrives when it is due, however late that is looked at.
            if self.is_cut(due, from, to) {
                self.stats.cut += 1;
                continue;
            }
            self.stats.arrived += 1;
            return Some((from, to, what));
        }
        None
    }

    /// Whether what is sent or arrives at `now` is lost for sure.
    #[must_use]
    pub fn is_cut(&self, now: Monotonic, from: usize, to: usize) -> bool {
        let wire = (from, to);
        let flaps = self.flapping.get(&wire).is_some_and(|(since, period)| {
            let turns = now.since(*since).as_nanos() / period.as_nanos().max(1);
            turns.is_multiple_of(2)
        });
        flaps || self.cut.contains(&wire) || self.gone.contains(&to)
    }

    /// Cuts one wire.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// One wire is cut now, whole after `period`, cut again after another, and so on.
    pub fn flap(&mut self, now: Monotonic, from: usize, to: usize, period: Duration) {
        self.flapping.insert((from, to), (now, period));
    }

    /// Cuts every wire between `side` and the others of `nodes`, in both directions.
    pub fn part(&mut self, side: &[usize], nodes: usize) {
        for a in 0..nodes {
            for b in 0..nodes {
                if side.contains(&a) != side.contains(&b) {
                    self.cut(a, b);
                }
            }
        }
    }

    /// Every wire is whole, but those to nodes that are gone.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.flapping.clear();
    }

    /// The connection of two nodes breaks: what is under way between them is lost.
    pub fn reset(&mut self, a: usize, b: usize) {
        let before = self.under_way.len();
        self.under_way
            .retain(|_, parcel| parcel.wire != (a, b) && parcel.wire != (b, a));
        self.stats.reset += (before - self.under_way.len()) as u64;
        self.last.remove(&(a, b));
        self.last.remove(&(b, a));
    }

    /// A node is gone: nothing reaches it, now or later, until it returns. What it sent
    /// is under way all the same.
    pub fn leave(&mut self, node: usize) {
        self.gone.insert(node);
        let before = self.under_way.len();
        self.under_way.retain(|_, parcel| parcel.wire.1 != node);
        self.stats.cut += (before - self.under_way.len()) as u64;
    }

    /// It is there again.
    pub fn join(&mut self, node: usize) {
        self.gone.remove(&node);
    }

    /// How much is under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// What became of what was sent.
    #[must_use]
    pub fn stats(&self) -> SimNetStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net() -> SimNet<u32> {
        SimNet::new(SimRng::new(1))
    }

    /// What arrives until nothing is under way.
    fn arrived(net: &mut SimNet<u32>) -> Vec<u32> {
        let mut all = Vec::new();
        while let Some(due) = net.next_deadline() {
            while let Some((_, _, what)) = net.poll(due) {
                all.push(what);
            }
        }
        all
    }

    #[test]
    fn in_fair_weather_everything_arrives_once_and_in_order() {
        let mut net = net();
        for n in 0..100 {
            net.send(Monotonic(u64::from(n)), 0, 1, n);
        }
        assert_eq!(net.poll(Monotonic(50_000)), None, "it takes its time");
        assert_eq!(net.len(), 100);
        assert_eq!(arrived(&mut net), (0..100).collect::<Vec<_>>());
        assert!(net.is_empty());
    }

    #[test]
    fn bad_weather_loses_repeats_and_reorders_and_says_how_often() {
        let mut net = net();
        net.set_weather(Weather {
            lose: 10,
            repeat: 10,
            late: 10,
            ..Weather::default()
        });
        for n in 0..1_000 {
            net.send(Monotonic(u64::from(n) * 1_000), 0, 1, n);
        }
        let stats = net.stats();
        assert!(stats.lost > 50 && stats.repeated > 50 && stats.late > 50);
        let all = arrived(&mut net);
        assert_eq!(all.len() as u64, 1_000 - stats.lost + stats.repeated);
        assert!(!all.is_sorted(), "some were overtaken");
        assert_eq!(net.stats().arrived, all.len() as u64);
        let repeated = net.stats().repeated;
        for n in 0..1_000 {
            net.send_once(Monotonic(0), 0, 1, n);
        }
        assert_eq!(net.stats().repeated, repeated, "not what is sent once");
    }

    #[test]
    fn a_wire_is_cut_one_way_and_the_other_is_whole() {
        let mut net = net();
        net.cut(0, 1);
        net.send(Monotonic(0), 0, 1, 1);
        net.send(Monotonic(0), 1, 0, 2);
        assert_eq!(arrived(&mut net), [2]);
        net.heal();
        net.send(Monotonic(0), 0, 1, 3);
        // What is under way when the wire is cut does not arrive.
        net.cut(0, 1);
        assert!(arrived(&mut net).is_empty());
        assert_eq!(net.stats().cut, 2);
    }

    #[test]
    fn sides_do_not_hear_each_other_and_hear_their_own() {
        let mut net = net();
        net.part(&[0, 1], 4);
        for (from, to, what) in [(0, 1, 1), (1, 2, 2), (3, 0, 3), (3, 2, 4)] {
            net.send(Monotonic(0), from, to, what);
        }
        let mut all = arrived(&mut net);
        all.sort_unstable();
        assert_eq!(all, [1, 4]);
    }

    #[test]
    fn a_flapping_wire_is_cut_every_other_time() {
        let mut net = net();
        let period = Duration::from_millis(10);
        net.flap(Monotonic::from_millis(100), 0, 1, period);
        for (at, cut) in [(100, true), (109, true), (110, false), (120, true)] {
            assert_eq!(net.is_cut(Monotonic::from_millis(at), 0, 1), cut, "{at}");
        }
        net.heal();
        assert!(!net.is_cut(Monotonic::from_millis(100), 0, 1));
    }

    #[test]
    fn a_connection_that_breaks_takes_with_it_what_is_under_way() {
        let mut net = net();
        for (from, to, what) in [(0, 1, 1), (1, 0, 2), (0, 2, 3)] {
            net.send(Monotonic(0), from, to, what);
        }
        net.reset(1, 0);
        net.send(Monotonic(0), 0, 1, 4);
        let mut all = arrived(&mut net);
        all.sort_unstable();
        assert_eq!(all, [3, 4]);
        assert_eq!(net.stats().reset, 2);
    }

    #[test]
    fn nothing_reaches_a_node_that_is_gone_and_what_it_sent_arrives() {
        let mut net = net();
        net.send(Monotonic(0), 0, 1, 1);
        net.send(Monotonic(0), 1, 0, 2);
        net.leave(1);
        net.send(Monotonic(0), 0, 1, 3);
        net.join(1);
        net.send(Monotonic(0), 0, 1, 4);
        let mut all = arrived(&mut net);
        all.sort_unstable();
        assert_eq!(all, [2, 4]);
    }
}
