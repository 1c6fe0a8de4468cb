//! What one seed chooses for its world.

use core::time::Duration;

use pinion_node::map::EMPTY_SPEC;
use pinion_simkit::SimRng;
use pinion_types::ResourceKind;
use pinion_wire::message::{QueueSpec, Spec};

use super::super::player::ResourcePlan;

/// What one seed chooses for its world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cores: u16,
    /// Logs there are; never fewer than cores.
    pub(crate) logs: u16,
    pub(crate) resources: Vec<ResourcePlan>,
    pub(crate) segment_bytes: u64,
    pub(crate) checkpoint_every_bytes: u64,
    pub(crate) body_max: usize,
    /// What durable streams of a core keep in memory.
    pub(crate) tail_bytes: u64,
    pub(crate) step_max: Duration,
}

impl Plan {
    pub(crate) fn of(rng: &mut SimRng) -> Self {
        let cores = u16::try_from(rng.between(1, 3)).expect("small");
        let shards = |rng: &mut SimRng| u16::try_from(rng.between(1, 2)).expect("small");
        let mut resources = Vec::new();
        for index in 0..rng.between(1, 2) {
            let ring = *rng.pick(&[64 << 10, 1 << 20]);
            resources.push(ResourcePlan {
                kind: ResourceKind::Stream,
                name: format!("stream-{index}"),
                spec: Spec {
                    shards: shards(rng),
                    durability: 1,
                    overflow: pinion_wire::message::Overflow::Block,
                    ring_bytes: ring,
                    ..EMPTY_SPEC
                },
            });
        }
        for index in 0..rng.between(1, 2) {
            resources.push(ResourcePlan {
                kind: ResourceKind::Queue,
                name: format!("queue-{index}"),
                spec: Spec {
                    shards: shards(rng),
                    durability: 1,
                    ring_bytes: 64 << 10,
                    queue: QueueSpec {
                        max_attempts: u16::try_from(rng.between(2, 6)).expect("small"),
                        backoff_min_ms: 10,
                        backoff_max_ms: 2_000,
                        ..QueueSpec::UNSET
                    },
                    ..EMPTY_SPEC
                },
            });
        }
        Self {
            cores,
            logs: cores + u16::from(rng.one_in(4)),
            resources,
            segment_bytes: 1 << 20,
            checkpoint_every_bytes: *rng.pick(&[256 << 10, 2 << 20]),
            body_max: *rng.pick(&[40, 400, 30_000]),
            tail_bytes: *rng.pick(&[16 << 10, 1 << 20]),
            step_max: Duration::from_micros(*rng.pick(&[50, 500, 5_000])),
        }
    }
}
