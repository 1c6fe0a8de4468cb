//! What one seed chooses for its world.

use core::time::Duration;

use pinion_node::map::EMPTY_SPEC;
use pinion_simkit::SimRng;
use pinion_types::ResourceKind;
use pinion_wire::message::{QueueSpec, Spec};

use super::super::player::{
    Appender, Bookmark, Habits, Inspector, Manner, Producer, Reader, ResourcePlan, Role,
    Subscriber, Tenant, Undertaker, Worker,
};
use super::super::truth::{GroupName, QueueRules, QueueTruth, Retention, StreamTruth};

/// Names of consumer groups; the first is the default one.
const GROUPS: [GroupName; 3] = ["", "blue", "green"];

/// Ring of a stream that lives in memory, the smallest there is, and the longest of
/// its values: a world fills it more than once, and every batch fits.
const RING_BYTES: u64 = 64 << 10;
const RING_BODY_MAX: usize = 6_000;

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
                    retention_ms: *rng.pick(&[0, 0, 0, 2_000, 15_000]),
                    retention_bytes: *rng.pick(&[0, 0, 0, 8 << 10, 64 << 10]),
                    ..EMPTY_SPEC
                },
                groups: Vec::new(),
                timed: false,
                keys: 0,
                tenant: false,
            });
        }
        if rng.one_in(3) {
            resources.push(ResourcePlan {
                kind: ResourceKind::Stream,
                name: "in-memory".to_owned(),
                spec: Spec {
                    shards: 1,
                    durability: 0,
                    overflow: pinion_wire::message::Overflow::Block,
                    ring_bytes: RING_BYTES,
                    retention_ms: *rng.pick(&[0, 0, 2_000]),
                    ..EMPTY_SPEC
                },
                groups: Vec::new(),
                timed: false,
                keys: 0,
                tenant: false,
            });
        }
        for index in 0..rng.between(1, 2) {
            let groups = *rng.pick(&[1, 1, 1, 2, 3]);
            let ordered_by_key = rng.one_in(3);
            resources.push(ResourcePlan {
                kind: ResourceKind::Queue,
                name: format!("queue-{index}"),
                spec: Spec {
                    shards: shards(rng),
                    durability: 1,
                    ring_bytes: 64 << 10,
                    retention_ms: *rng.pick(&[0, 0, 0, 0, 8_000]),
                    queue: QueueSpec {
                        max_attempts: u16::try_from(rng.between(2, 6)).expect("small"),
                        max_in_flight: *rng.pick(&[0, 0, 0, 4, 10]),
                        consumer_in_flight: *rng.pick(&[0, 0, 0, 2, 5]),
                        ordered_by_key,
                        drop_expired: rng.coin(),
                        backoff_min_ms: 10,
                        backoff_max_ms: 2_000,
                        ..QueueSpec::UNSET
                    },
                    ..EMPTY_SPEC
                },
                groups: GROUPS[..groups].to_vec(),
                timed: rng.one_in(3),
                keys: if ordered_by_key { 3 } else { 0 },
                tenant: rng.one_in(3),
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

impl ResourcePlan {
    /// Whether nothing of it is written down.
    pub(super) const fn in_memory(&self) -> bool {
        self.spec.durability == 0
    }

    /// What is known of a partition before anything happens.
    pub(super) fn stream_truth(&self) -> StreamTruth {
        let limit = |limit: u64| (limit > 0).then_some(limit);
        if self.in_memory() {
            let ms = limit(self.spec.retention_ms);
            return StreamTruth::in_memory(ms, self.spec.ring_bytes);
        }
        StreamTruth::with(Retention {
            ms: limit(self.spec.retention_ms),
            bytes: limit(self.spec.retention_bytes),
        })
    }

    pub(super) fn queue_truth(&self) -> QueueTruth {
        let rules = QueueRules {
            max_attempts: self.spec.queue.max_attempts,
            ordered_by_key: self.spec.queue.ordered_by_key,
            drop_expired: self.spec.queue.drop_expired,
            max_in_flight: self.spec.queue.max_in_flight,
            consumer_in_flight: self.spec.queue.consumer_in_flight,
        };
        QueueTruth::with(rules, &self.groups)
    }

    /// Who works with one of its partitions; `id` is the first one's number.
    pub(super) fn roles(&self, rng: &mut SimRng, body_max: usize, id: usize) -> Vec<Role> {
        let mut roles: Vec<Role> = Vec::new();
        let body_max = if self.in_memory() {
            RING_BODY_MAX
        } else {
            body_max
        };
        for _ in 0..rng.between(1, 2) {
            let habits = Habits {
                puts: self.kind == ResourceKind::Queue,
                timed: self.timed,
                keys: self.keys,
                body_max,
                in_memory: self.in_memory(),
            };
            let producer = Producer::new(id + roles.len(), habits);
            roles.push(Role::Producer(producer));
        }
        if self.kind == ResourceKind::Queue {
            for group in &self.groups {
                for _ in 0..rng.between(1, 3) {
                    roles.push(Role::Worker(Worker::new(rng, group)));
                }
                // A replayed letter may take its turn again at any time.
                if !self.spec.queue.ordered_by_key && rng.coin() {
                    let tidies = Undertaker::new(group, Manner::Tidies);
                    roles.push(Role::Undertaker(tidies));
                }
            }
            if self.tenant {
                roles.push(Role::Tenant(Tenant::new(rng)));
            }
        } else {
            for _ in 0..rng.between(1, 2) {
                roles.push(Role::Subscriber(Subscriber::new(rng)));
            }
            for _ in 0..rng.below(3) {
                roles.push(Role::Subscriber(Subscriber::choosy(rng)));
            }
            roles.push(Role::Reader(Reader::default()));
            if self.in_memory() {
                roles.push(Role::Subscriber(Subscriber::blocking(rng)));
            } else {
                roles.push(Role::Bookmark(Bookmark::default()));
            }
            let exclusive = rng.coin();
            for _ in 0..rng.below(3) {
                let appender = Appender::new(id + roles.len(), exclusive, body_max);
                roles.push(Role::Appender(appender));
            }
        }
        if rng.coin() {
            roles.push(Role::Inspector(Inspector::new(self.kind)));
        }
        roles
    }
}
