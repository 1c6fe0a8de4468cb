//! What can be declared: kinds, their fields, and what the node calls them.

/// Where something of a kind has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Cluster,
    Tenant,
    Namespace,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text as it is.
    Text,
    /// A number, of which `none` is 0.
    Count,
    /// `64KiB`, `100GB`, a number of bytes, or `none`.
    Bytes,
    /// `7d`, or `none`.
    Time,
    Bool,
    /// One of these words.
    Word(&'static [Word]),
    /// Names and texts.
    Labels,
}

/// A word of files, and the node's for it.
pub(super) type Word = (&'static str, &'static str);

/// A field: where it is in `spec` of a file, where in `spec` of the node, what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) file: &'static str,
    pub(super) node: &'static str,
    pub(super) form: Form,
}

/// A kind of object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) word: &'static str,
    pub(super) scope: Scope,
    pub(super) fields: &'static [&'static [Field]],
}

const fn field(file: &'static str, node: &'static str, form: Form) -> Field {
    Field { file, node, form }
}

/// A field that both call the same.
const fn same(name: &'static str, form: Form) -> Field {
    field(name, name, form)
}

const DURABILITY: Form = Form::Word(&[("durable", "durable"), ("ephemeral", "ephemeral")]);
const ACK: Form = Form::Word(&[
    ("leader", "leader"),
    // As the concept documents call it.
    ("leader_only", "leader"),
    ("quorum", "quorum"),
]);
const OVERFLOW: Form = Form::Word(&[
    ("block", "block"),
    ("drop_oldest", "drop_oldest"),
    ("drop_newest", "drop_newest"),
    ("disconnect", "disconnect"),
]);

const TENANT: &[Field] = &[
    same("display_name", Form::Text),
    same("description", Form::Text),
    same("quotas.max_namespaces", Form::Count),
    same("quotas.max_streams", Form::Count),
    same("quotas.max_publish_rate", Form::Count),
    field(
        "quotas.max_storage",
        "quotas.max_storage_bytes",
        Form::Bytes,
    ),
    same("quotas.max_connections", Form::Count),
    field(
        "quotas.max_cache_memory",
        "quotas.max_cache_memory_bytes",
        Form::Bytes,
    ),
    same("quotas.max_policies", Form::Count),
    same("encryption.key_id", Form::Text),
    field(
        "encryption.rotation_period",
        "encryption.rotation_period_ms",
        Form::Time,
    ),
];

const NAMESPACE: &[Field] = &[
    same("description", Form::Text),
    same("quotas.max_streams", Form::Count),
    same("quotas.max_publish_rate", Form::Count),
];

/// What every resource has.
const RESOURCE: &[Field] = &[
    same("shards", Form::Count),
    same("replication_factor", Form::Count),
    same("max_record_bytes", Form::Bytes),
    same("ring_bytes", Form::Bytes),
];

/// What has records that are kept.
const KEPT: &[Field] = &[
    same("durability", DURABILITY),
    same("ack_policy", ACK),
    field("retention.time", "retention_ms", Form::Time),
    field("retention.size", "retention_bytes", Form::Bytes),
];

const STREAM: &[Field] = &[same("overflow", OVERFLOW)];

const QUEUE: &[Field] = &[
    field("lease", "queue.visibility_ms", Form::Time),
    field("max_attempts", "queue.max_attempts", Form::Count),
    field("ordered_by_key", "queue.ordered_by_key", Form::Bool),
    field("drop_expired", "queue.drop_expired", Form::Bool),
    field("max_in_flight", "queue.max_in_flight", Form::Count),
    field(
        "consumer_in_flight",
        "queue.consumer_in_flight",
        Form::Count,
    ),
    field("backoff.min", "queue.backoff_min_ms", Form::Time),
    field("backoff.max", "queue.backoff_max_ms", Form::Time),
    field("max_messages", "queue.messages_max", Form::Count),
    field(
        "redeliveries_per_s",
        "queue.redeliveries_per_s",
        Form::Count,
    ),
];

const BROKER: &[Field] = &[
    same("address", Form::Text),
    same("region", Form::Text),
    same("zone", Form::Text),
    // As the concept documents call it.
    field("availability_zone", "zone", Form::Text),
    same("labels", Form::Labels),
    same("capacity.max_shards", Form::Count),
    same("capacity.max_connections", Form::Count),
    same("capacity.cores", Form::Count),
    same("capacity.logs", Form::Count),
    same("capacity.memory_per_core", Form::Bytes),
];

/// Every kind that can be applied.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        word: "Tenant",
        scope: Scope::Cluster,
        fields: &[TENANT],
    },
    Kind {
        word: "Namespace",
        scope: Scope::Tenant,
        fields: &[NAMESPACE],
    },
    Kind {
        word: "Stream",
        scope: Scope::Namespace,
        fields: &[RESOURCE, KEPT, STREAM],
    },
    Kind {
        word: "Queue",
        scope: Scope::Namespace,
        fields: &[RESOURCE, KEPT, QUEUE],
    },
    Kind {
        word: "Cache",
        scope: Scope::Namespace,
        fields: &[RESOURCE],
    },
    Kind {
        word: "Broker",
        scope: Scope::Cluster,
        fields: &[BROKER],
    },
];

/// Kinds that are known and cannot be applied, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[
    (
        "ShardPlacement",
        "a placement is read only: `pinion admin shard rebalance` and `transfer` change it",
    ),
    ("Bridge", "no release of Pinion carries out bridges yet"),
];

impl Kind {
    /// The kind of this word.
    pub(super) fn of(word: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.word == word)
    }

    /// Its fields, as files call them.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().flat_map(|part| part.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_a_part_of_another() {
        for kind in KINDS {
            for one in kind.all() {
                for other in kind.all() {
                    let below = format!("{}.", one.file);
                    assert!(!other.file.starts_with(&below), "{}", other.file);
                    let twice = one.file == other.file && !std::ptr::eq(one, other);
                    assert!(!twice, "{}", one.file);
                }
            }
        }
    }
}
