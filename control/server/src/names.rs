//! Which resources a data directory has, for people: read from the metadata's log
//! without a plane, also while a node writes it.

use std::collections::BTreeMap;

use pinion_commitlog::{Files, LogConfig, LogId, Lsn, Replay, inspect};
use pinion_metadata::{Body, Envelope, Metadata};
use pinion_node::declared::Declared;
use pinion_raft_group::RAFT_LOG;
use pinion_raft_group::format::{
    EntryBody, KIND_ENTRY, STATE_SNAPSHOT, STATE_TAIL, SnapshotState, TailState,
};
use pinion_types::{PartitionId, ResourceId};

use crate::meta::{KIND_DECLARED, META_LOG};

/// What is told of a resource.
#[derive(Debug)]
struct Named {
    name: String,
    durable: bool,
    /// The log of each partition.
    logs: Vec<LogId>,
}

/// Which resources there are.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<ResourceId, Named>);

impl Names {
    /// What can be read of them. A name that cannot be is a number then.
    pub(crate) fn read(files: &mut dyn Files, store: Option<[u8; 16]>) -> Self {
        let mut names = Self::default();
        names.add_declarations(files);
        if let Some(store) = store
            && let Some(metadata) = metadata(files, store)
        {
            names.add_metadata(&metadata);
        }
        names
    }

    /// Of an earlier release.
    fn add_declarations(&mut self, files: &mut dyn Files) {
        let Ok(records) = inspect::dump(files, META_LOG, Lsn(0)) else {
            return;
        };
        for record in records.flatten() {
            if record.head.kind == KIND_DECLARED
                && let Ok(declared) = Declared::decode(&record.body)
            {
                let named = Named {
                    name: declared.name.to_string(),
                    durable: declared.spec.durability > 0,
                    logs: declared.logs.into(),
                };
                self.0.insert(declared.id, named);
            }
        }
    }

    fn add_metadata(&mut self, metadata: &Metadata) {
        for object in metadata.objects() {
            let Body::Placement(placement) = &object.body else {
                continue;
            };
            let of = object.meta.key.parent();
            let of = of.and_then(|key| metadata.get(&key));
            let Some(Body::Resource(resource)) = of.map(|object| &object.body) else {
                continue;
            };
            let pinion_metadata::ObjectKey::Placement {
                namespace, name, ..
            } = &object.meta.key
            else {
                continue;
            };
            let seats = placement.shards.iter().map(|shard| LogId(shard.seat.log));
            let named = Named {
                name: format!("{namespace}/{name}"),
                durable: resource.spec.durable,
                logs: seats.collect(),
            };
            self.0.insert(resource.id, named);
        }
    }

    /// The name of a resource, or its number.
    pub(crate) fn resource(&self, id: ResourceId) -> String {
        match self.0.get(&id) {
            Some(named) => named.name.clone(),
            None => format!("resource {}", id.0),
        }
    }

    /// One partition in words.
    pub(crate) fn partition(&self, id: ResourceId, partition: PartitionId) -> String {
        format!("{} partition {partition}", self.resource(id))
    }

    /// Every durable partition whose records are in `log`.
    pub(crate) fn of_log(&self, log: LogId) -> Vec<(ResourceId, PartitionId)> {
        let durable = self.0.iter().filter(|(_, one)| one.durable);
        durable
            .flat_map(|(id, one)| {
                let partitions = (0..).map(PartitionId).zip(&one.logs);
                partitions.filter_map(move |(p, its)| (*its == log).then_some((*id, p)))
            })
            .collect()
    }

    /// Those called `name`; several tenants may have one of it.
    pub(crate) fn called(&self, name: &str) -> Vec<ResourceId> {
        let called = self.0.iter().filter(|(_, one)| one.name == name);
        called.map(|(id, _)| *id).collect()
    }
}

/// The metadata as its log has it, with what may not be decided yet: names of it
/// harm nobody.
fn metadata(files: &mut dyn Files, store: [u8; 16]) -> Option<Metadata> {
    let config = LogConfig {
        log: RAFT_LOG,
        store,
        ..LogConfig::default()
    };
    let mut machine = None;
    let mut entries: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let recovered = pinion_commitlog::recover(files, config, &mut |replay| match replay {
        Replay::State {
            partition,
            domain,
            state,
            ..
        } if (partition, domain) == STATE_SNAPSHOT => {
            let state = SnapshotState::decode(state).ok();
            machine = state.and_then(|state| Metadata::restore(state.machine).ok());
        }
        Replay::State {
            partition,
            domain,
            state,
            ..
        } if (partition, domain) == STATE_TAIL => {
            let tail = TailState::decode(state).ok();
            for (index, entry) in (1..).zip(tail.iter().flat_map(|tail| &tail.entries)) {
                let before = tail.as_ref().map_or(0, |tail| tail.before.0);
                entries.insert(before + index, command(entry));
            }
        }
        Replay::Record { head, body, .. } if head.kind == KIND_ENTRY => {
            if let Ok(entry) = EntryBody::decode(body) {
                // What follows an entry that is written anew is of another history.
                entries.split_off(&head.first);
                entries.insert(head.first, command(&entry));
            }
        }
        _ => {}
    });
    recovered.ok()?;
    let mut machine: Metadata = machine?;
    for (index, command) in entries {
        if index > machine.applied_index()
            && !command.is_empty()
            && let Ok(envelope) = Envelope::decode(&command)
        {
            machine.apply(index, &envelope);
        }
    }
    Some(machine)
}

/// The command of an entry; empty of one that has none.
fn command(entry: &EntryBody<'_>) -> Vec<u8> {
    if entry.members {
        Vec::new()
    } else {
        entry.data.to_vec()
    }
}
