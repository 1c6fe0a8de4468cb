//! Which brokers live, in the memory of whoever leads.
//!
//! Every broker says so from time to time. A leader that has missed so many of these words in
//! a row proposes that the broker is down. It begins by believing all: what the leader before
//! heard, it did not.

use core::time::Duration;
use std::collections::BTreeMap;

use pinion_metadata::settings::Settings;
use pinion_metadata::{Metadata, ObjectKey};
use pinion_types::Monotonic;

use crate::limits::{BEATS_LATE, BEATS_LOOK};

/// A broker that was missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) broker: Box<str>,
    pub(crate) incarnation: u64,
}

/// What a leader heard, and when it looks next.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    /// Since when this node leads and listens.
    since: Option<Monotonic>,
    /// When each broker was last heard, and in which life. Only of brokers that there are.
    heard: BTreeMap<Box<str>, (u64, Monotonic)>,
    look_at: Option<Monotonic>,
    /// When this node says that it lives itself, while another leads.
    speak_at: Option<Monotonic>,
}

/// How long a broker may be silent.
fn patience(settings: &Settings) -> Duration {
    between(settings) * u32::from(settings.missed)
}

/// Between two words of a broker.
pub(crate) fn between(settings: &Settings) -> Duration {
    Duration::from_millis(settings.heartbeat_ms.into())
}

impl Beats {
    /// Whether this node leads, and knows the metadata, is known anew.
    pub(crate) fn set_leads(&mut self, now: Monotonic, leads: bool) {
        if leads != self.since.is_some() {
            self.heard.clear();
            self.since = leads.then_some(now);
            self.look_at = self.since;
        }
    }

    /// Somebody else leads, or nobody: whoever does hears of this node at once.
    pub(crate) fn set_leader(&mut self, now: Monotonic, elsewhere: bool) {
        self.speak_at = elsewhere.then_some(now);
    }

    /// Whether this node is to say now that it lives.
    pub(crate) fn speaks(&mut self, now: Monotonic, settings: &Settings) -> bool {
        let due = self.speak_at.is_some_and(|at| at <= now);
        if due {
            self.speak_at = Some(now + between(settings));
        }
        due
    }

    /// The broker, which there is, lives.
    pub(crate) fn heard(&mut self, now: Monotonic, broker: &str, incarnation: u64) {
        if self.since.is_some() {
            self.heard.insert(broker.into(), (incarnation, now));
        }
    }

    /// How long ago each broker was last heard; nothing while another node leads.
    pub(crate) fn ages(&self, now: Monotonic) -> impl Iterator<Item = (&str, Duration)> {
        let heard = self.heard.iter();
        heard.map(move |(name, (_, at))| (&**name, now.since(*at)))
    }

    /// The broker is another than before, or the settings are: it is looked at anew.
    pub(crate) fn changed(&mut self, now: Monotonic, machine: &Metadata, key: &ObjectKey) {
        if *key == ObjectKey::Settings {
            // Words come as often as it was said before, for a while yet.
            self.speak_at = self.speak_at.map(|_| now);
            self.since = self.since.map(|_| now);
        }
        if self.since.is_none() {
            return;
        }
        if let ObjectKey::Broker(name) = key {
            match machine.get(key).and_then(|object| object.broker()) {
                // It has just said that it is there.
                Some(broker) if broker.down.is_none() => {
                    let known = self.heard.get(name).map(|(incarnation, _)| *incarnation);
                    if known != Some(broker.incarnation) {
                        self.heard(now, name, broker.incarnation);
                    }
                }
                _ => {
                    self.heard.remove(name);
                }
            }
        }
        self.look_at = Some(now);
    }

    /// The brokers that are missed, at most `limit`, but for `me`, whose word nobody needs.
    pub(crate) fn missed(
        &mut self,
        now: Monotonic,
        machine: &Metadata,
        me: &str,
        limit: usize,
    ) -> Vec<Missed> {
        let (Some(since), Some(look_at)) = (self.since, self.look_at) else {
            return Vec::new();
        };
        if now < look_at {
            return Vec::new();
        }
        // This node stood still, and their words with it.
        let since = if now.since(look_at) > BEATS_LATE {
            self.since = Some(now);
            now
        } else {
            since
        };
        let patience = patience(&machine.settings());
        let mut missed = Vec::new();
        let mut next: Option<Monotonic> = None;
        for (name, broker) in machine.brokers() {
            if broker.down.is_some() || name == me {
                continue;
            }
            let heard = match self.heard.get(name) {
                Some((incarnation, at)) if *incarnation == broker.incarnation => *at,
                _ => since,
            };
            let until = heard.max(since) + patience;
            if until > now {
                next = Some(next.map_or(until, |next| next.min(until)));
            } else if missed.len() < limit {
                missed.push(Missed {
                    broker: name.into(),
                    incarnation: broker.incarnation,
                });
            }
        }
        // What is proposed now may come to nothing.
        let again = (!missed.is_empty()).then(|| now + BEATS_LOOK);
        self.look_at = next.into_iter().chain(again).min();
        missed
    }

    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.look_at.into_iter().chain(self.speak_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_metadata::Founder;
    use pinion_metadata::broker::{BrokerFacts, Capacity};

    fn at(ms: u64) -> Monotonic {
        Monotonic(ms * 1_000_000)
    }

    fn machine() -> Metadata {
        let founder = |(name, incarnation): (&str, Option<u64>)| Founder {
            name: name.into(),
            facts: BrokerFacts {
                address: "x:1".into(),
                region: Box::default(),
                zone: Box::default(),
                labels: Box::default(),
                capacity: Capacity {
                    max_shards: 1,
                    max_connections: 1,
                    cores: 1,
                    logs: 1,
                    memory_per_core: 1,
                },
            },
            incarnation,
            address: "x:1".into(),
            store: [0; 16],
        };
        let founders = [("me", Some(1)), ("a", Some(7)), ("b", Some(8)), ("c", None)].map(founder);
        Metadata::founded([0; 16], &founders).expect("founders")
    }

    fn names(missed: &[Missed]) -> Vec<&str> {
        missed.iter().map(|one| &*one.broker).collect()
    }

    #[test]
    fn who_is_silent_for_three_words_is_missed_and_who_leads_anew_gives_all_their_time() {
        let machine = machine();
        let mut beats = Beats::default();
        beats.set_leads(at(0), true);
        assert!(beats.missed(at(0), &machine, "me", 9).is_empty());
        assert_eq!(
            beats.next_deadline(),
            Some(at(15_000)),
            "all have that long"
        );
        beats.heard(at(10_000), "a", 7);
        // Of another life: it says nothing of this one.
        beats.heard(at(10_000), "b", 9);
        let ages: Vec<_> = beats.ages(at(12_500)).collect();
        let age = Duration::from_millis(2_500);
        assert_eq!(ages, [("a", age), ("b", age)]);
        let missed = beats.missed(at(15_000), &machine, "me", 9);
        assert_eq!(names(&missed), ["b"]);
        assert_eq!(missed[0].incarnation, 8);
        assert_eq!(beats.next_deadline(), Some(at(15_000) + BEATS_LOOK));
        beats.set_leads(at(20_000), false);
        assert_eq!(beats.ages(at(20_000)).count(), 0, "another knows");
        beats.set_leads(at(21_000), true);
        assert!(beats.missed(at(21_000), &machine, "me", 9).is_empty());
        assert_eq!(beats.next_deadline(), Some(at(36_000)));
    }

    #[test]
    fn time_in_which_the_leader_stood_still_does_not_count() {
        let machine = machine();
        let mut beats = Beats::default();
        beats.set_leads(at(0), true);
        beats.missed(at(0), &machine, "me", 9);
        let late = at(15_000) + BEATS_LATE + Duration::from_millis(1);
        assert!(beats.missed(late, &machine, "me", 9).is_empty());
        let end = late + Duration::from_secs(15);
        assert_eq!(
            names(&beats.missed(end, &machine, "me", 1)),
            ["a"],
            "as many as asked for"
        );
    }

    #[test]
    fn a_broker_that_comes_later_has_its_time_from_then() {
        let machine = machine();
        let mut beats = Beats::default();
        beats.set_leads(at(0), true);
        for ms in [0, 5_000, 10_000, 14_000] {
            beats.changed(at(ms), &machine, &ObjectKey::broker("a"));
            beats.missed(at(ms), &machine, "me", 9);
        }
        assert_eq!(
            names(&beats.missed(at(15_000), &machine, "me", 9)),
            ["a", "b"]
        );
        beats.heard.clear();
        beats.changed(at(15_500), &machine, &ObjectKey::broker("a"));
        assert_eq!(names(&beats.missed(at(15_500), &machine, "me", 9)), ["b"]);
    }

    #[test]
    fn when_words_are_to_come_more_often_nobody_is_missed_for_it() {
        let machine = machine();
        let mut leader = Beats::default();
        leader.set_leads(at(0), true);
        leader.changed(at(14_000), &machine, &ObjectKey::Settings);
        assert!(leader.missed(at(14_000), &machine, "me", 9).is_empty());
        assert_eq!(leader.next_deadline(), Some(at(29_000)));
        let mut follower = Beats::default();
        follower.set_leader(at(0), true);
        assert!(follower.speaks(at(0), &machine.settings()));
        follower.changed(at(1), &machine, &ObjectKey::Settings);
        assert!(follower.speaks(at(1), &machine.settings()));
    }

    #[test]
    fn a_follower_speaks_at_once_and_then_from_time_to_time() {
        let settings = Settings::default();
        let mut beats = Beats::default();
        assert!(!beats.speaks(at(0), &settings), "nobody leads");
        beats.set_leader(at(1), true);
        assert!(beats.speaks(at(1), &settings));
        assert!(!beats.speaks(at(2), &settings));
        assert_eq!(beats.next_deadline(), Some(at(5_001)));
        assert!(beats.speaks(at(5_001), &settings));
        beats.set_leader(at(5_002), false);
        assert_eq!(beats.next_deadline(), None);
    }
}
