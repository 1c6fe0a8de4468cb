//! Brokers come, drain, fail, come back and go.

use super::deletion::nobody_waits_for;
use super::{Made, below};
use crate::broker::{Broker, BrokerStatus};
use crate::command::{BrokerDown, RegisterBroker, SetDraining};
use crate::draft::Draft;
use crate::error::MetaError;
use crate::ids::BrokerNumber;
use crate::limits::{BROKER_NUMBERS_MAX, BROKERS_MAX};
use crate::name;
use crate::object::{Body, ObjectKey};
use crate::usage::Scope;

fn broker<'a>(draft: &'a Draft<'_>, key: &ObjectKey) -> Result<&'a Broker, MetaError> {
    match &draft.existing(key)?.body {
        Body::Broker(broker) => Ok(broker),
        _ => Err(MetaError::NotFound(key.clone())),
    }
}

/// A broker says that it is there: for the first time, again after a pause, or
/// in a new life of its process.
pub(super) fn register(draft: &mut Draft<'_>, command: &RegisterBroker) -> Result<Made, MetaError> {
    name::broker(&command.name)?;
    command.facts.check()?;
    let key = ObjectKey::broker(&command.name);
    let incarnation = command.incarnation;
    if draft.get(&key).is_some() {
        let mut broker = broker(draft, &key)?.clone();
        let replaceable = broker.down.is_some() || command.gone == Some(broker.incarnation);
        if broker.incarnation != incarnation {
            // Two processes of one name: the second must not take the first's shards.
            if !replaceable {
                return Err(MetaError::BrokerAlive {
                    incarnation: broker.incarnation,
                });
            }
            broker.incarnation = incarnation;
            broker.registered = draft.stamp();
        }
        broker.facts = command.facts.clone();
        broker.down = None;
        draft.update(&key, Body::Broker(broker))?;
        return Ok(Made::Object(key));
    }
    let number = draft.counters.broker;
    below("broker numbers", number.0.into(), BROKER_NUMBERS_MAX)?;
    let broker = Broker {
        number,
        facts: command.facts.clone(),
        incarnation,
        registered: draft.stamp(),
        draining: false,
        down: None,
    };
    draft.create(key.clone(), Body::Broker(broker))?;
    draft.counters.broker = BrokerNumber(number.0 + 1);
    below("brokers", draft.usage(&Scope::Cluster).brokers, BROKERS_MAX)?;
    Ok(Made::Object(key))
}

/// An operator wants nothing more on a broker, or wants it back.
pub(super) fn set_draining(
    draft: &mut Draft<'_>,
    command: &SetDraining,
) -> Result<Made, MetaError> {
    name::broker(&command.name)?;
    let key = ObjectKey::broker(&command.name);
    let mut broker = broker(draft, &key)?.clone();
    broker.draining = command.draining;
    draft.update(&key, Body::Broker(broker))?;
    Ok(Made::Object(key))
}

/// The leader has missed a broker's beats.
pub(super) fn down(draft: &mut Draft<'_>, command: &BrokerDown) -> Result<Made, MetaError> {
    name::broker(&command.name)?;
    let key = ObjectKey::broker(&command.name);
    let mut broker = broker(draft, &key)?.clone();
    // It was another life that was missed: this one has just begun.
    if broker.incarnation != command.incarnation {
        return Err(MetaError::OtherIncarnation {
            incarnation: broker.incarnation,
        });
    }
    broker.down = broker.down.or(Some(draft.stamp()));
    draft.update(&key, Body::Broker(broker))?;
    Ok(Made::Object(key))
}

/// A broker is gone for good. Its number is never used again.
pub(super) fn remove(draft: &mut Draft<'_>, name: &str) -> Result<Made, MetaError> {
    name::broker(name)?;
    let key = ObjectKey::broker(name);
    let broker = broker(draft, &key)?;
    if broker.status() == BrokerStatus::Active {
        return Err(MetaError::StillActive(key));
    }
    let number = broker.number;
    let used = draft.usage(&Scope::Broker(number));
    if used.leads != 0 || used.copies != 0 || used.arriving != 0 {
        return Err(MetaError::StillLeading {
            leads: used.leads,
            copies: used.copies,
            arriving: used.arriving,
        });
    }
    if used.members != 0 {
        return Err(MetaError::StillMember(key));
    }
    if used.tombstones != 0 {
        nobody_waits_for(draft, number)?;
    }
    draft.remove(&key)?;
    Ok(Made::Nothing)
}
