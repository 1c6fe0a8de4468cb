//! Resources at work that are to be otherwise, and such as are declared over data of
//! before.

use std::sync::Arc;

use pinion_types::{Epoch, PartitionId};

use crate::core::Core;
use crate::mail::ControlMail;
use crate::map::Resource;

impl Core {
    /// A resource has another specification. Everything that is open goes by it from
    /// here on: partitions, and the handles of connections.
    pub(crate) fn handle_changed(&mut self, epoch: Epoch, resource: &Arc<Resource>) {
        if !self.map.change(epoch, Arc::clone(resource)) {
            return;
        }
        for connection in self.connections.iter_mut().flatten() {
            for handle in &mut connection.handles {
                if handle.resource.id == resource.id {
                    handle.resource = Arc::clone(resource);
                }
            }
        }
        // A cache's partitions go by what a handle says.
        if let Some(spec) = Self::partition_spec(resource) {
            let (id, shards) = (resource.id, resource.spec.shards);
            self.shard.change_resource(id, shards, &spec);
        }
    }

    /// Tells people when a resource is declared whose number a log knows already: its
    /// partitions would mix two lives.
    pub(crate) fn note_barred(&mut self, resource: &Arc<Resource>) {
        let core = self.config.core;
        let mine = (0..resource.spec.shards).map(PartitionId);
        let mine = mine.filter(|partition| resource.owner(*partition) == Some(core));
        let barred = mine.filter(|partition| self.shard.is_barred(resource.id, *partition));
        let partitions = u16::try_from(barred.count()).expect("at most its shards");
        if partitions > 0 && self.barred.insert(resource.id) {
            self.control.push_back(ControlMail::Barred {
                core,
                resource: Arc::clone(resource),
                partitions,
            });
        }
    }
}
