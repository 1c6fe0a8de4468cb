//! `pinion queue create` and `group`, and what a queue is in words.

use pinion_client::{Client, Queue, QueueRules, QueueSpec};
use serde::Serialize;

use super::Context;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::stream::record_bytes;
use crate::{human, value};

/// What the queue shall be like.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// The queue, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    queue: String,
    /// In memory only: a restart empties it [default: on disk]
    #[arg(long)]
    ephemeral: bool,
    /// How many partitions; order is kept within each [default: one for each data core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    partitions: Option<u16>,
    /// How long a message is reserved when a take does not say, like 30s
    #[arg(long, value_name = "TIME", value_parser = value::lease)]
    lease: Option<std::time::Duration>,
    /// Failed deliveries after which a message becomes a dead letter
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_attempts: Option<u16>,
    /// Later messages of a key wait while one of it is not finished
    #[arg(long)]
    ordered_by_key: bool,
    /// Life of a message that is put without one
    #[arg(long, value_name = "TIME", value_parser = value::message_time)]
    ttl: Option<std::time::Duration>,
    /// Drop and count messages whose life is over, instead of making them dead letters
    #[arg(long)]
    drop_expired: bool,
    /// Reserved messages of a group in one partition at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_in_flight: Option<u32>,
    /// Reserved messages of a consumer in one partition at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    consumer_in_flight: Option<u32>,
    /// First pause before a failed message is given again
    #[arg(long, value_name = "TIME", value_parser = value::ms_u32)]
    backoff_min: Option<u32>,
    /// Longest pause before a failed message is given again
    #[arg(long, value_name = "TIME", value_parser = value::ms_u32)]
    backoff_max: Option<u32>,
    /// Failed messages that a group is given again in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    redeliveries: Option<u32>,
    /// Messages of a partition before a put is refused
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_messages: Option<u32>,
    /// Bytes of messages of a partition before a put is refused, like 1GiB
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    max_bytes: Option<u64>,
    /// Bytes of messages of a partition that are kept in memory
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    memory_bytes: Option<u64>,
    /// Largest message, like 64KiB
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    max_record_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Created<'a> {
    queue: &'a str,
    durable: bool,
    partitions: u16,
    lease_ms: u32,
    max_attempts: u16,
    ordered_by_key: bool,
    ttl_ms: u64,
    drop_expired: bool,
    max_in_flight: u32,
    consumer_in_flight: u32,
    backoff_min_ms: u32,
    backoff_max_ms: u32,
    redeliveries_per_s: u32,
    max_messages: u32,
    max_bytes: u64,
    memory_bytes: u64,
}

impl CreateArgs {
    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    pub(super) async fn run(&self, context: &mut Context, client: &Client) -> Result<(), Failure> {
        let spec = self.spec(client.data_cores())?;
        let queue = client.open_queue_with(&self.queue, spec).await?;
        let spec = queue.spec();
        if context.json {
            let rules = spec.queue;
            context.printer.json(&Created {
                queue: &self.queue,
                durable: spec.durability > 0,
                partitions: spec.shards,
                lease_ms: rules.visibility_ms,
                max_attempts: rules.max_attempts,
                ordered_by_key: rules.ordered_by_key,
                ttl_ms: spec.retention_ms,
                drop_expired: rules.drop_expired,
                max_in_flight: rules.max_in_flight,
                consumer_in_flight: rules.consumer_in_flight,
                backoff_min_ms: rules.backoff_min_ms,
                backoff_max_ms: rules.backoff_max_ms,
                redeliveries_per_s: rules.redeliveries_per_s,
                max_messages: rules.messages_max,
                max_bytes: spec.retention_bytes,
                memory_bytes: spec.ring_bytes,
            });
        } else {
            let line = format!("{}: {}", self.queue, words(&spec));
            context.printer.line(line);
        }
        Ok(())
    }

    fn spec(&self, data_cores: u16) -> Result<QueueSpec, Failure> {
        let partitions = self.partitions.unwrap_or(data_cores.max(1));
        let base = if self.ephemeral {
            QueueSpec::ephemeral(partitions)
        } else {
            QueueSpec::durable(partitions)
        };
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let lease = self.lease.map_or(0, ms);
        Ok(QueueSpec {
            max_record_bytes: record_bytes(self.max_record_bytes)?,
            ring_bytes: self.memory_bytes.unwrap_or(0),
            retention_ms: self.ttl.map_or(0, ms),
            retention_bytes: self.max_bytes.unwrap_or(0),
            queue: QueueRules {
                visibility_ms: u32::try_from(lease).expect("checked when it was read"),
                max_attempts: self.max_attempts.unwrap_or(0),
                ordered_by_key: self.ordered_by_key,
                drop_expired: self.drop_expired,
                max_in_flight: self.max_in_flight.unwrap_or(0),
                consumer_in_flight: self.consumer_in_flight.unwrap_or(0),
                backoff_min_ms: self.backoff_min.unwrap_or(0),
                backoff_max_ms: self.backoff_max.unwrap_or(0),
                messages_max: self.max_messages.unwrap_or(0),
                redeliveries_per_s: self.redeliveries.unwrap_or(0),
            },
            ..base
        })
    }
}

/// One line for people.
pub(super) fn words(spec: &QueueSpec) -> String {
    let rules = &spec.queue;
    let mut words = vec![
        if spec.durability > 0 {
            "durable"
        } else {
            "in memory"
        }
        .to_owned(),
        human::count(spec.shards.into(), "partition"),
        format!("reserved for {}", human::span(rules.visibility_ms.into())),
        format!(
            "dead after {}",
            human::count(rules.max_attempts.into(), "attempt")
        ),
    ];
    if rules.ordered_by_key {
        words.push("ordered by key".to_owned());
    }
    if spec.retention_ms > 0 {
        let end = if rules.drop_expired {
            "dropped"
        } else {
            "dead"
        };
        words.push(format!(
            "{end} when older than {}",
            human::span(spec.retention_ms)
        ));
    }
    words.push(format!(
        "at most {} or {} a partition",
        human::count(rules.messages_max.into(), "message"),
        human::bytes(spec.retention_bytes)
    ));
    words.join(", ")
}

/// Makes and forgets groups.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct GroupArgs {
    #[command(subcommand)]
    verb: GroupVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum GroupVerb {
    /// Make a group; one that is there already stays as it is
    Create {
        /// The queue, NAMESPACE/NAME
        #[arg(value_name = "NS/NAME", value_parser = value::resource)]
        queue: String,
        /// The group's name
        #[arg(value_name = "GROUP")]
        group: String,
        /// earliest: every message the queue still holds; latest: those put from now on
        #[arg(long, value_enum, default_value = "earliest")]
        from: FromArg,
    },
    /// Forget a group and all it knows, dead letters included; needs admin
    Delete {
        /// The queue, NAMESPACE/NAME
        #[arg(value_name = "NS/NAME", value_parser = value::resource)]
        queue: String,
        /// The group's name
        #[arg(value_name = "GROUP")]
        group: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// What a new group sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FromArg {
    Earliest,
    Latest,
}

#[derive(Serialize)]
struct Changed<'a> {
    queue: &'a str,
    group: &'a str,
    change: &'static str,
}

impl GroupArgs {
    pub(super) fn queue(&self) -> &str {
        match &self.verb {
            GroupVerb::Create { queue, .. } | GroupVerb::Delete { queue, .. } => queue,
        }
    }

    pub(super) async fn run(&self, context: &mut Context, handle: &Queue) -> Result<(), Failure> {
        let (queue, group, change) = match &self.verb {
            GroupVerb::Create { queue, group, from } => {
                let from_now = *from == FromArg::Latest;
                handle.create_group(group, from_now).await?;
                (queue, group, "created")
            }
            GroupVerb::Delete { queue, group, yes } => {
                let question =
                    format!("Forget group {group} of {queue} and what it has not finished?");
                confirm(&question, *yes)?;
                handle.delete_group(group).await?;
                (queue, group, "deleted")
            }
        };
        if context.json {
            context.printer.json(&Changed {
                queue,
                group,
                change,
            });
        } else {
            let group = crate::output::escape(group.as_bytes());
            context.printer.line(format_args!("{group}\t{change}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_in_words_says_what_it_survives_and_when_a_message_dies() {
        let spec = QueueSpec {
            retention_ms: 86_400_000,
            retention_bytes: 1 << 30,
            queue: QueueRules {
                visibility_ms: 30_000,
                max_attempts: 5,
                ordered_by_key: true,
                messages_max: 1_000_000,
                ..QueueRules::UNSET
            },
            ..QueueSpec::durable(2)
        };
        assert_eq!(
            words(&spec),
            "durable, 2 partitions, reserved for 30s, dead after 5 attempts, ordered by key, dead when older than 1d, at most 1000000 messages or 1 GiB a partition"
        );
    }
}
