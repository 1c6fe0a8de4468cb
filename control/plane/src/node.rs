//! What a node says of itself.

use pinion_metadata::broker::{BrokerFacts, Capacity, Label};

use crate::names::PeerName;

/// A node, as its configuration and its process have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name, which is its broker's.
    pub name: PeerName,
    /// Where clients reach it: `host:port`.
    pub address: Box<str>,
    /// For placing copies apart; may be empty.
    pub region: Box<str>,
    /// Part of the region; may be empty.
    pub zone: Box<str>,
    /// For people and their tools, in the order of names, each name once.
    pub labels: Box<[Label]>,
    /// What it can take.
    pub capacity: Capacity,
    /// The life of its process, drawn at random at its start; not 0.
    pub incarnation: u64,
}

impl NodeFacts {
    /// As the metadata has them.
    #[must_use]
    pub fn broker_facts(&self) -> BrokerFacts {
        BrokerFacts {
            address: self.address.clone(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            labels: self.labels.clone(),
            capacity: self.capacity,
        }
    }
}

/// The cluster that a node belongs to, as its configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its name, for people and certificates.
    pub name: Box<str>,
    /// The nodes that begin the cluster, and where each is reached by the others:
    /// `host:port`. The same on all of them, in any order; a node that is not among them
    /// joins them.
    pub initial: Vec<(PeerName, Box<str>)>,
    /// This node follows and never votes, if it joins.
    pub observer: bool,
}

impl ClusterConfig {
    /// Where the others reach the node of this name, as far as the list says.
    #[must_use]
    pub fn address(&self, name: &PeerName) -> Option<&str> {
        let mut initial = self.initial.iter();
        let (_, address) = initial.find(|(of, _)| of == name)?;
        Some(address)
    }
}
