//! The state with which a cluster begins: who founds it is known before the first
//! command, so that members can be told by their names from the first word on.

use pinion_types::WallMs;

use crate::broker::{Broker, BrokerFacts};
use crate::error::MetaError;
use crate::ids::{BrokerNumber, MemberNumber};
use crate::limits::VOTERS_MAX;
use crate::member::{Member, MemberRole};
use crate::name;
use crate::object::{Body, ObjectKey};
use crate::state::{Metadata, first};

/// One of the nodes that found a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its broker's name.
    pub name: Box<str>,
    /// What is known of the broker. It says itself what it is like when it registers.
    pub facts: BrokerFacts,
    /// The life that is registered with that; `None`: the broker is down until it
    /// registers.
    pub incarnation: Option<u64>,
    /// Where other members reach it: `host:port`.
    pub address: Box<str>,
    /// Its data directory.
    pub store: [u8; 16],
}

impl Metadata {
    /// The state before the first command of a cluster that `founders` begin, each of
    /// which has the same ones in the same order: besides what
    /// [`Metadata::genesis`] has, broker and member `n` are the `n`-th of them, and
    /// the members vote. All of it has version 0.
    ///
    /// # Errors
    /// A field of a founder breaks its grammar, a name is there twice, or they are
    /// none or too many.
    pub fn founded(cluster: [u8; 16], founders: &[Founder]) -> Result<Self, MetaError> {
        let genesis = Self::genesis(cluster);
        let mut objects: Vec<_> = genesis.objects().map(|one| (**one).clone()).collect();
        name::range("founders", founders.len() as u64, 1, VOTERS_MAX)?;
        let mut head = Self::first_head(cluster);
        for (at, founder) in founders.iter().enumerate() {
            name::broker(&founder.name)?;
            founder.facts.check()?;
            let key = ObjectKey::broker(&founder.name);
            if founders[..at]
                .iter()
                .any(|other| other.name == founder.name)
            {
                return Err(MetaError::Exists(key));
            }
            let number = head.counters.broker;
            let broker = Broker {
                number,
                facts: founder.facts.clone(),
                incarnation: founder.incarnation.unwrap_or(0),
                registered: WallMs(0),
                draining: false,
                down: founder.incarnation.is_none().then_some(WallMs(0)),
            };
            objects.push(first(key, Body::Broker(broker)));
            let member = Member {
                broker: number,
                role: MemberRole::Voter,
                address: founder.address.clone(),
                store: founder.store,
            };
            member.check()?;
            let key = ObjectKey::Member(head.counters.member);
            objects.push(first(key, Body::Member(member)));
            head.counters.broker = BrokerNumber(number.0 + 1);
            head.counters.member = MemberNumber(head.counters.member.0 + 1);
        }
        Ok(Self::assemble(head, objects, []))
    }
}
