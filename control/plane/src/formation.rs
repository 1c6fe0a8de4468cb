//! How a cluster begins, and how a node that is nobody comes into one that is there.
//!
//! The nodes that the configuration lists ask each other. A node begins the cluster only
//! while every one of them says that it is nobody either, or that it began just that
//! cluster; which one it is follows from their names and data directories, so that all come
//! to the same without a vote. A directory that is new makes another cluster of it: who
//! lost its disk finds others that are members of one that it cannot have begun, and joins
//! them under a new number.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use pinion_types::Monotonic;
use xxhash_rust::xxh64::xxh64;

use crate::limits::{MEET_EVERY, MEET_FRESH};
use crate::meet::{GUIDES_MAX, Meet, MeetState};
use crate::names::PeerName;
use crate::node::ClusterConfig;

/// What a node that is nobody does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask another what it is.
    Ask(PeerName),
    /// Ask another to be a member.
    Join(PeerName),
    /// Begin the cluster of this identity with the nodes of the list, which have these data
    /// directories.
    Begin {
        cluster: [u8; 16],
        stores: Vec<[u8; 16]>,
    },
}

/// What another node said of itself, and when.
#[derive(Clone, Copy, Debug)]
struct Word {
    at: Monotonic,
    state: MeetState,
    store: [u8; 16],
    /// It lists the same nodes.
    agrees: bool,
}

/// A node that is nobody.
#[derive(Debug)]
pub(crate) struct Formation {
    me: PeerName,
    store: [u8; 16],
    /// The nodes that begin the cluster, by name.
    list: Vec<(PeerName, Box<str>)>,
    words: BTreeMap<PeerName, Word>,
    /// Members that another one named, and where they are.
    guides: BTreeMap<PeerName, Box<str>>,
    /// Nodes that list others, of which people were told.
    told: BTreeSet<PeerName>,
    ask_at: Monotonic,
}

/// The identity of a cluster that these nodes begin: another for every set of names and data
/// directories. Directories are random numbers, so no two clusters have the same.
pub(crate) fn cluster_of<'f>(founders: impl Iterator<Item = (&'f str, [u8; 16])>) -> [u8; 16] {
    let mut all = Vec::new();
    for (name, store) in founders {
        all.extend(name.as_bytes());
        all.push(0);
        all.extend(store);
    }
    let mut cluster = [0; 16];
    let (low, high) = cluster.split_at_mut(8);
    low.copy_from_slice(&xxh64(&all, 0).to_le_bytes());
    high.copy_from_slice(&xxh64(&all, 1).to_le_bytes());
    cluster
}

/// The nodes of a list by name, and a hash of them that does not depend on their order.
pub(crate) fn in_order(initial: &[(PeerName, Box<str>)]) -> (Vec<(PeerName, Box<str>)>, u64) {
    let mut list = initial.to_vec();
    list.sort();
    let mut all = Vec::new();
    for (name, address) in &list {
        all.extend(name.as_str().as_bytes());
        all.push(0);
        all.extend(address.as_bytes());
        all.push(0);
    }
    (list, xxh64(&all, 0))
}

impl Formation {
    pub(crate) fn new(me: PeerName, store: [u8; 16], cluster: &ClusterConfig) -> Self {
        let (list, _) = in_order(&cluster.initial);
        Self {
            me,
            store,
            list,
            words: BTreeMap::new(),
            guides: BTreeMap::new(),
            told: BTreeSet::new(),
            ask_at: Monotonic::ZERO,
        }
    }

    /// Another node says what it is; whether people are to be told that it lists other nodes
    /// than this one. `list` is the hash of this one's.
    pub(crate) fn handle_meet(
        &mut self,
        now: Monotonic,
        from: &PeerName,
        meet: &Meet,
        list: u64,
    ) -> bool {
        let listed = self.list.iter().any(|(name, _)| name == from);
        if !listed && !self.guides.contains_key(from) {
            return false;
        }
        let agrees = meet.list == list;
        let word = Word {
            at: now,
            state: meet.state,
            store: meet.store,
            agrees,
        };
        self.words.insert(from.clone(), word);
        // A member's list may be an old one: it is used no more.
        listed && !agrees && meet.state == MeetState::Fresh && self.told.insert(from.clone())
    }

    /// A member named the members of its cluster.
    pub(crate) fn handle_guides(&mut self, members: &[(PeerName, Box<str>)]) {
        for (name, address) in members.iter().filter(|(name, _)| *name != self.me) {
            if self.guides.len() < GUIDES_MAX || self.guides.contains_key(name) {
                self.guides.insert(name.clone(), address.clone());
            }
        }
    }

    /// Everybody whom this node asks, and where each is.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (PeerName, Box<str>)> {
        let listed = self.list.iter().filter(|(name, _)| *name != self.me);
        let guides = self.guides.iter();
        let guides = guides.map(|(name, address)| (name.clone(), address.clone()));
        listed.cloned().chain(guides)
    }

    /// What to do now.
    pub(crate) fn turn(&mut self, now: Monotonic) -> Vec<Step> {
        let recent = |word: &Word| now.since(word.at) <= MEET_FRESH;
        if let Some((cluster, stores)) = self.begins(&recent) {
            return vec![Step::Begin { cluster, stores }];
        }
        if now < self.ask_at {
            return Vec::new();
        }
        self.ask_at = now + MEET_EVERY;
        let peers: BTreeSet<PeerName> = self.peers().map(|(name, _)| name).collect();
        let (cluster, _) = self.identity();
        let joins = |name: &PeerName| {
            let word = self.words.get(name).filter(|word| recent(word))?;
            match word.state {
                // It waits for this node to begin the same.
                MeetState::Member {
                    cluster: of,
                    known: false,
                } if cluster == Some(of) => None,
                MeetState::Member { .. } => Some(Step::Join(name.clone())),
                MeetState::Fresh => None,
            }
        };
        let joins: Vec<Step> = peers.iter().filter_map(joins).collect();
        peers.into_iter().map(Step::Ask).chain(joins).collect()
    }

    /// The cluster that the nodes of the list would begin, and their directories, as far as
    /// each said which it has.
    fn identity(&self) -> (Option<[u8; 16]>, Vec<[u8; 16]>) {
        let store = |name: &PeerName| match self.words.get(name) {
            _ if *name == self.me => Some(self.store),
            word => word.map(|word| word.store),
        };
        let stores: Option<Vec<_>> = self.list.iter().map(|(name, _)| store(name)).collect();
        let Some(stores) = stores.filter(|_| self.is_listed()) else {
            return (None, Vec::new());
        };
        let names = self.list.iter().map(|(name, _)| name.as_str());
        let cluster = cluster_of(names.zip(stores.iter().copied()));
        (Some(cluster), stores)
    }

    fn is_listed(&self) -> bool {
        self.list.iter().any(|(name, _)| *name == self.me)
    }

    fn begins(&self, recent: &dyn Fn(&Word) -> bool) -> Option<([u8; 16], Vec<[u8; 16]>)> {
        let (cluster, stores) = self.identity();
        let cluster = cluster?;
        let would = |name: &PeerName| {
            let word = self.words.get(name).filter(|word| recent(word));
            word.is_some_and(|word| match word.state {
                MeetState::Fresh => word.agrees,
                MeetState::Member { cluster: of, known } => of == cluster && !known,
            })
        };
        let mut others = self.list.iter().filter(|(name, _)| *name != self.me);
        others
            .all(|(name, _)| would(name))
            .then_some((cluster, stores))
    }

    pub(crate) fn next_deadline(&self) -> Monotonic {
        self.ask_at
    }
}

const _: () = assert!(MEET_FRESH.as_millis() > 2 * MEET_EVERY.as_millis());
const _: () = assert!(MEET_EVERY.as_millis() >= Duration::from_millis(100).as_millis());

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: u64 = 7;

    fn name(text: &str) -> PeerName {
        PeerName::new(text).expect("a name")
    }

    fn node(me: &str, store: u8) -> Formation {
        let initial = ["c", "a", "b"].map(|of| (name(of), format!("{of}:1").into()));
        let cluster = ClusterConfig {
            name: "x".into(),
            initial: initial.into(),
            observer: false,
        };
        Formation::new(name(me), [store; 16], &cluster)
    }

    fn word(state: MeetState, store: u8) -> Meet {
        Meet {
            asks: false,
            state,
            list: LIST,
            store: [store; 16],
            address: "x:1".into(),
        }
    }

    fn at(ms: u64) -> Monotonic {
        Monotonic(ms * 1_000_000)
    }

    fn begun(steps: &[Step]) -> Option<[u8; 16]> {
        steps.iter().find_map(|step| match step {
            Step::Begin { cluster, .. } => Some(*cluster),
            Step::Ask(_) | Step::Join(_) => None,
        })
    }

    #[test]
    fn all_begin_the_same_cluster_when_all_are_nobody() {
        let mut clusters = BTreeSet::new();
        for (me, store) in [("a", 1), ("b", 2), ("c", 3)] {
            let mut node = node(me, store);
            assert_eq!(node.turn(at(0)).len(), 2, "it asks both others");
            for (other, store) in [("a", 1), ("b", 2), ("c", 3)] {
                if other != me {
                    assert_eq!(begun(&node.turn(at(5))), None, "not all have spoken");
                    let meet = word(MeetState::Fresh, store);
                    assert!(!node.handle_meet(at(5), &name(other), &meet, LIST));
                }
            }
            clusters.insert(begun(&node.turn(at(6))).expect("all have spoken"));
        }
        assert_eq!(clusters.len(), 1, "{clusters:?}");
    }

    #[test]
    fn words_that_are_old_or_of_another_list_do_not_count() {
        let mut node = node("a", 1);
        node.handle_meet(at(0), &name("b"), &word(MeetState::Fresh, 2), LIST);
        let late = at(0) + MEET_FRESH + Duration::from_millis(1);
        node.handle_meet(late, &name("c"), &word(MeetState::Fresh, 3), LIST);
        assert_eq!(begun(&node.turn(late)), None, "b spoke long ago");
        let mut other = word(MeetState::Fresh, 2);
        other.list = LIST + 1;
        assert!(
            node.handle_meet(late, &name("b"), &other, LIST),
            "people hear of it"
        );
        assert!(!node.handle_meet(late, &name("b"), &other, LIST), "once");
        assert_eq!(begun(&node.turn(late)), None);
        node.handle_meet(late, &name("b"), &word(MeetState::Fresh, 2), LIST);
        assert!(begun(&node.turn(late)).is_some());
    }

    #[test]
    fn who_was_counted_when_the_cluster_began_begins_it_later_and_a_new_disk_joins() {
        let cluster = cluster_of([("a", [1; 16]), ("b", [2; 16]), ("c", [3; 16])].into_iter());
        let member = |known| MeetState::Member { cluster, known };
        let hear = |node: &mut Formation, known| {
            node.handle_meet(at(0), &name("b"), &word(member(known), 2), LIST);
            node.handle_meet(at(0), &name("c"), &word(MeetState::Fresh, 3), LIST);
            node.turn(at(0))
        };
        // It stopped before its first checkpoint was durable.
        assert_eq!(begun(&hear(&mut node("a", 1), false)), Some(cluster));
        // Its log is gone, and its directory is the one that took part.
        let steps = hear(&mut node("a", 1), true);
        assert_eq!(begun(&steps), None);
        assert!(steps.contains(&Step::Join(name("b"))), "{steps:?}");
        // Its disk is another.
        let steps = hear(&mut node("a", 9), false);
        assert_eq!(begun(&steps), None);
        assert!(steps.contains(&Step::Join(name("b"))), "{steps:?}");
    }

    #[test]
    fn a_node_that_is_not_listed_never_begins_anything() {
        let mut node = node("d", 4);
        for (other, store) in [("a", 1), ("b", 2), ("c", 3)] {
            node.handle_meet(at(0), &name(other), &word(MeetState::Fresh, store), LIST);
        }
        assert!(
            node.turn(at(0))
                .iter()
                .all(|step| matches!(step, Step::Ask(_)))
        );
        let member = MeetState::Member {
            cluster: [5; 16],
            known: false,
        };
        node.handle_meet(at(2_000), &name("b"), &word(member, 2), LIST);
        assert!(node.turn(at(2_000)).contains(&Step::Join(name("b"))));
        // A member that is not listed, either, is asked when another named it.
        let stranger = name("e");
        node.handle_meet(at(2_000), &stranger, &word(member, 5), LIST);
        node.handle_guides(&[(stranger.clone(), "e:1".into())]);
        assert!(node.turn(at(4_000)).contains(&Step::Ask(stranger)));
    }
}
