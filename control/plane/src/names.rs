//! Who is who: nodes are told apart by name everywhere but in the group, where each
//! life of a data directory is a member with a number of its own.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use pinion_metadata::{KeyError, Metadata, ObjectKey};
use pinion_raft_group::MemberId;

use crate::limits::NAMES_HEARD_MAX;

/// The name of a node, which is that of its broker: one segment in lower case. Cheap to
/// clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(Arc<str>);

impl PeerName {
    /// Checks the grammar.
    ///
    /// # Errors
    /// It is no name of a broker.
    pub fn new(name: &str) -> Result<Self, KeyError> {
        match format!("broker/{name}").parse()? {
            ObjectKey::Broker(found) if *found == *name => Ok(Self(name.into())),
            _ => Err(KeyError::Parts),
        }
    }

    /// The bare name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Whom to keep connected to: names, and `host:port`.
pub(crate) type PeerList = Arc<[(PeerName, Box<str>)]>;

#[derive(Clone, Debug)]
struct Known {
    name: PeerName,
    /// `None` of one that said itself who it is: this node has not read of it yet.
    address: Option<Box<str>>,
}

/// The members by number, as this node knows them.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    me: PeerName,
    of: BTreeMap<MemberId, Known>,
    /// Members with lower numbers that are not here are gone for good.
    next: MemberId,
}

impl Names {
    pub(crate) fn new(me: PeerName) -> Self {
        Self {
            me,
            of: BTreeMap::new(),
            next: MemberId(0),
        }
    }

    /// The metadata, or who takes part in the group, is another. Who still takes part
    /// keeps its name when the metadata has dropped it: its vote may be needed for it to go.
    pub(crate) fn update(&mut self, machine: &Metadata, conf: &[MemberId]) {
        let mut of: BTreeMap<MemberId, Known> = BTreeMap::new();
        for (number, member) in machine.members() {
            let broker = machine.broker(member.broker);
            let Some(ObjectKey::Broker(name)) = broker.map(|broker| &broker.meta.key) else {
                continue;
            };
            let known = Known {
                name: PeerName((**name).into()),
                address: Some(member.address.clone()),
            };
            of.insert(MemberId(number.0), known);
        }
        self.next = MemberId(machine.next_member().0);
        for (id, known) in core::mem::take(&mut self.of) {
            if conf.contains(&id) || id >= self.next {
                of.entry(id).or_insert(known);
            }
        }
        self.of = of;
    }

    /// The member for which `from` may speak when it says that it is `claimed`; `None`:
    /// it is not listened to. A number of which nothing is known here yet is believed:
    /// the certificate says that the name is one of the cluster, and this node may be
    /// behind.
    pub(crate) fn speaker(
        &mut self,
        from: &PeerName,
        claimed: MemberId,
        conf: &[MemberId],
    ) -> Option<MemberId> {
        if let Some(known) = self.of.get(&claimed) {
            return (known.name == *from).then_some(claimed);
        }
        let gone = claimed < self.next && !conf.contains(&claimed);
        if gone || *from == self.me {
            return None;
        }
        let heard = self.of.values().filter(|known| known.address.is_none());
        if heard.count() >= NAMES_HEARD_MAX {
            return None;
        }
        let known = Known {
            name: from.clone(),
            address: None,
        };
        self.of.insert(claimed, known);
        Some(claimed)
    }

    /// The newest member of a name.
    pub(crate) fn member(&self, name: &PeerName) -> Option<MemberId> {
        let mut newest = self.of.iter().rev();
        let (id, _) = newest.find(|(_, known)| known.name == *name)?;
        Some(*id)
    }

    /// Every member of a name: one whose disk was lost may still take part beside the one
    /// that takes its place.
    pub(crate) fn members<'n>(
        &'n self,
        name: &'n PeerName,
    ) -> impl Iterator<Item = MemberId> + use<'n> {
        let of = self.of.iter().filter(move |(_, known)| known.name == *name);
        of.map(|(id, _)| *id)
    }

    /// The name of a member.
    pub(crate) fn name(&self, member: MemberId) -> Option<&PeerName> {
        self.of.get(&member).map(|known| &known.name)
    }

    /// Every other node and where it is, by name.
    pub(crate) fn peers(&self) -> BTreeMap<PeerName, Box<str>> {
        let mut peers = BTreeMap::new();
        // Of two members of one name the newer says where it is.
        for known in self.of.values() {
            if let Some(address) = known.address.as_ref().filter(|_| known.name != self.me) {
                peers.insert(known.name.clone(), address.clone());
            }
        }
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_a_broker() {
        assert_eq!(PeerName::new("node-1").expect("a name").as_str(), "node-1");
        for bad in ["", "Node", "a/b", "..", "a b"] {
            assert!(PeerName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_speaks_for_its_members_and_for_those_that_nobody_knows_yet() {
        let [ana, bo, me] = ["ana", "bo", "me"].map(|name| PeerName::new(name).expect("a name"));
        let mut names = Names::new(me.clone());
        let machine = Metadata::genesis([0; 16]);
        names.update(&machine, &[]);
        let nine = MemberId(9);
        assert_eq!(names.speaker(&ana, nine, &[]), Some(nine));
        assert_eq!(names.speaker(&bo, nine, &[]), None, "it is ana's");
        assert_eq!(names.speaker(&me, MemberId(8), &[]), None, "not one's own");
        names.update(&machine, &[]);
        assert_eq!(names.name(nine), Some(&ana), "this node is behind");
        assert_eq!(names.peers().len(), 0, "nobody said where it is");
        for id in 0..NAMES_HEARD_MAX as u64 {
            names.speaker(&bo, MemberId(100 + id), &[]);
        }
        assert_eq!(names.speaker(&bo, MemberId(99), &[]), None, "enough");
    }
}
