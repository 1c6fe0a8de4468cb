//! What a resource was declared to be, as names and values.

use pinion_admin_ui::model::{Fact, Quantity};
use pinion_metadata::resource::{AckPolicy, QueueSpec, ResourceSpec};
use pinion_metadata::{Body, Object};
use pinion_types::ResourceKind;

pub(super) fn fact(name: &str, value: Quantity) -> Fact {
    Fact {
        name: name.to_owned(),
        value,
        kind: None,
    }
}

fn words(text: &str) -> Quantity {
    Quantity::Text(text.to_owned())
}

/// A bound; nought is none.
fn bound(number: u64, of: impl FnOnce(u64) -> Quantity) -> Quantity {
    if number == 0 {
        words("no bound")
    } else {
        of(number)
    }
}

/// All that was declared of a resource.
pub(crate) fn facts(kind: ResourceKind, object: &Object) -> Vec<Fact> {
    let Body::Resource(resource) = &object.body else {
        return Vec::new();
    };
    let mut facts = of_spec(kind, &resource.spec);
    facts.push(fact("Made", Quantity::UnixMs(object.meta.created.0)));
    facts.push(fact("Changed", Quantity::UnixMs(object.meta.updated.0)));
    facts
}

fn of_spec(kind: ResourceKind, spec: &ResourceSpec) -> Vec<Fact> {
    let mut facts = vec![fact("Partitions", Quantity::Count(spec.shards.into()))];
    let kept = match (kind, spec.durable) {
        (ResourceKind::Cache, _) => "until evicted, in memory",
        (_, true) => "on disk",
        (_, false) => "in memory",
    };
    facts.push(fact("Kept", words(kept)));
    match kind {
        ResourceKind::Stream => {
            let memory = if spec.durable {
                "Newest in memory, a partition"
            } else {
                "Ring, a partition"
            };
            facts.push(fact("Kept for", bound(spec.retention_ms, Quantity::SpanMs)));
            facts.push(fact(
                "Kept at most, a partition",
                bound(spec.retention_bytes, Quantity::Bytes),
            ));
            facts.push(fact(memory, Quantity::Bytes(spec.ring_bytes)));
            facts.push(fact(
                "When a reader is slow",
                words(overflow(spec.overflow)),
            ));
        }
        ResourceKind::Queue => {
            facts.push(fact(
                "Held at most, a partition",
                bound(spec.retention_bytes, Quantity::Bytes),
            ));
            facts.push(fact(
                "In memory, a partition",
                Quantity::Bytes(spec.ring_bytes),
            ));
        }
        ResourceKind::Cache => {
            let whole = spec.ring_bytes.saturating_mul(spec.shards.into());
            facts.push(fact("Budget", Quantity::Bytes(whole)));
        }
    }
    let largest = if kind == ResourceKind::Cache {
        "Largest value"
    } else {
        "Largest record"
    };
    facts.push(fact(largest, Quantity::Bytes(spec.max_record_bytes.into())));
    if let Some(queue) = &spec.queue {
        facts.extend(of_queue(queue));
    }
    if kind != ResourceKind::Cache {
        facts.push(fact(
            "Copies",
            Quantity::Count(spec.replication_factor.into()),
        ));
        let ack = match spec.ack {
            AckPolicy::Leader => "the leader has it",
            AckPolicy::Quorum => "a majority of the copies have it",
        };
        facts.push(fact("Acknowledged when", words(ack)));
    }
    facts
}

fn of_queue(queue: &QueueSpec) -> [Fact; 10] {
    let answer = |yes| words(if yes { "yes" } else { "no" });
    [
        fact("Lease", Quantity::SpanMs(queue.visibility_ms.into())),
        fact("Attempts", Quantity::Count(queue.max_attempts.into())),
        fact(
            "First pause after a failure",
            Quantity::SpanMs(queue.backoff_min_ms.into()),
        ),
        fact(
            "Longest pause",
            Quantity::SpanMs(queue.backoff_max_ms.into()),
        ),
        fact("Order by key", answer(queue.ordered_by_key)),
        fact(
            "Past its time to live",
            words(if queue.drop_expired {
                "dropped"
            } else {
                "a dead letter"
            }),
        ),
        fact(
            "In flight, a group",
            Quantity::Count(queue.max_in_flight.into()),
        ),
        fact(
            "In flight, a consumer",
            Quantity::Count(queue.consumer_in_flight.into()),
        ),
        fact(
            "Messages, a partition",
            Quantity::Count(queue.messages_max.into()),
        ),
        fact(
            "Given again at most",
            Quantity::PerSecond(queue.redeliveries_per_s.into()),
        ),
    ]
}

/// What is done for a reader that does not keep up, by the number that the wire has.
pub(crate) const fn overflow(number: u8) -> &'static str {
    match number {
        1 => "it waits",
        3 => "newest are dropped",
        4 => "it is disconnected",
        _ => "oldest are dropped",
    }
}
