//! What is said of a queue.

use super::shape::{Ack, Kept, Size, Spread, durability};
use super::{Kind, Said};
use crate::admin::draft::Draft;
use crate::admin::view::{Form, View};
use crate::human::{Align, Table};
use crate::value;

pub(in crate::admin) type Verb = super::Verb<Queue>;

/// What can be said at any time.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::admin) struct Queue {
    #[command(flatten)]
    kept: Kept,
    #[command(flatten)]
    size: Size,
    /// How long a message is reserved when a take does not say, like 30s
    #[arg(long, value_name = "TIME", value_parser = value::ms_u32)]
    lease: Option<u32>,
    /// Failed deliveries after which a message becomes a dead letter
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_attempts: Option<u16>,
    /// Drop a message whose time is over; otherwise it becomes a dead letter
    #[arg(long, value_name = "YES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    drop_expired: Option<bool>,
    /// Reserved messages of one group at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_in_flight: Option<u32>,
    /// Reserved messages of one consumer at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    consumer_in_flight: Option<u32>,
    /// First pause before a failed message is given out again
    #[arg(long, value_name = "TIME", value_parser = value::ms_u32)]
    backoff_min: Option<u32>,
    /// Longest such pause
    #[arg(long, value_name = "TIME", value_parser = value::ms_u32)]
    backoff_max: Option<u32>,
    /// Messages of one partition before a put is refused
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_messages: Option<u32>,
    /// Failed messages that a group is given again in one second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    redeliveries: Option<u32>,
}

/// What can be said at first only.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::admin) struct New {
    /// In memory only: a restart of the broker loses what is in it
    #[arg(long)]
    ephemeral: bool,
    /// Later messages of a key wait while one of it is not finished
    #[arg(long)]
    ordered_by_key: bool,
    #[command(flatten)]
    spread: Spread,
    #[command(flatten)]
    ack: Ack,
}

impl Said for New {
    fn say(&self, draft: &mut Draft) {
        draft
            .set("spec.durability", Some(durability(!self.ephemeral)))
            .set(
                "spec.queue.ordered_by_key",
                self.ordered_by_key.then_some(true),
            );
        self.spread.say(draft);
        self.ack.say(draft);
    }
}

impl Kind for Queue {
    type New = New;

    const WORD: &'static str = "queue";
    const PLURAL: &'static str = "queues";
    const VIEW: View = View {
        table: Table(&[
            ("NAMESPACE", 14, Align::Left),
            ("NAME", 20, Align::Left),
            ("STATE", 8, Align::Left),
            ("DURABILITY", 10, Align::Left),
            ("PARTITIONS", 10, Align::Right),
            ("LEASE", 6, Align::Right),
            ("ATTEMPTS", 8, Align::Right),
            ("VERSION", 10, Align::Right),
        ]),
        cells: &[
            ("/namespace", Form::Plain),
            ("/name", Form::Plain),
            ("/state", Form::Plain),
            ("/spec/durability", Form::Plain),
            ("/spec/shards", Form::Plain),
            ("/spec/queue/visibility_ms", Form::Span),
            ("/spec/queue/max_attempts", Form::Plain),
            ("/version", Form::Plain),
        ],
    };

    fn say(&self, draft: &mut Draft) {
        self.kept.say(draft);
        self.size.say(draft);
        draft
            .set("spec.queue.visibility_ms", self.lease)
            .set("spec.queue.max_attempts", self.max_attempts)
            .set("spec.queue.drop_expired", self.drop_expired)
            .set("spec.queue.max_in_flight", self.max_in_flight)
            .set("spec.queue.consumer_in_flight", self.consumer_in_flight)
            .set("spec.queue.backoff_min_ms", self.backoff_min)
            .set("spec.queue.backoff_max_ms", self.backoff_max)
            .set("spec.queue.messages_max", self.max_messages)
            .set("spec.queue.redeliveries_per_s", self.redeliveries);
    }
}
