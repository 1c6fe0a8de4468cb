//! Streams, queues and caches as they run.

use pinion_types::ResourceName;

use super::super::Context;
use super::super::view::{Form, View};
use super::path;
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};

const STREAMS: View = View {
    table: Table(&[
        ("TENANT", 14, Align::Left),
        ("NAMESPACE", 14, Align::Left),
        ("STREAM", 20, Align::Left),
        ("STATE", 9, Align::Left),
        ("WATERMARK", 12, Align::Right),
        ("SIZE", 10, Align::Right),
        ("READERS", 7, Align::Right),
        ("IN/S", 8, Align::Right),
        ("OUT/S", 8, Align::Right),
    ]),
    cells: &[
        ("/realm", Form::Plain),
        ("/area", Form::Plain),
        ("/resource", Form::Plain),
        ("/state", Form::Plain),
        ("/watermark", Form::Plain),
        ("/size_bytes", Form::Bytes),
        ("/subscriptions", Form::Plain),
        ("/in_per_second", Form::Rate),
        ("/out_per_second", Form::Rate),
    ],
};

const QUEUES: View = View {
    table: Table(&[
        ("TENANT", 14, Align::Left),
        ("NAMESPACE", 14, Align::Left),
        ("QUEUE", 20, Align::Left),
        ("STATE", 9, Align::Left),
        ("READY", 8, Align::Right),
        ("DELAYED", 8, Align::Right),
        ("IN FLIGHT", 9, Align::Right),
        ("DEAD", 6, Align::Right),
        ("OLDEST S", 8, Align::Right),
        ("PUT/S", 8, Align::Right),
        ("ACK/S", 8, Align::Right),
    ]),
    cells: &[
        ("/realm", Form::Plain),
        ("/area", Form::Plain),
        ("/resource", Form::Plain),
        ("/state", Form::Plain),
        ("/messages_ready", Form::Plain),
        ("/messages_delayed", Form::Plain),
        ("/messages_inflight", Form::Plain),
        ("/messages_dead_lettered", Form::Plain),
        ("/oldest_message_age_seconds", Form::Plain),
        ("/enqueues_per_second", Form::Rate),
        ("/completes_per_second", Form::Rate),
    ],
};

const CACHES: View = View {
    table: Table(&[
        ("TENANT", 14, Align::Left),
        ("NAMESPACE", 14, Align::Left),
        ("CACHE", 20, Align::Left),
        ("STATE", 9, Align::Left),
        ("KEYS", 10, Align::Right),
        ("USED", 10, Align::Right),
        ("BUDGET", 10, Align::Right),
        ("GET/S", 8, Align::Right),
        ("EVICTED/S", 9, Align::Right),
    ]),
    cells: &[
        ("/realm", Form::Plain),
        ("/area", Form::Plain),
        ("/resource", Form::Plain),
        ("/state", Form::Plain),
        ("/keys_total", Form::Plain),
        ("/used_bytes", Form::Bytes),
        ("/budget_bytes", Form::Bytes),
        ("/gets_per_second", Form::Rate),
        ("/evictions_per_second", Form::Rate),
    ],
};

const READERS: View = View {
    table: Table(&[
        ("SESSION", 10, Align::Left),
        ("SUBSCRIPTION", 12, Align::Right),
        ("PARTITION", 9, Align::Right),
        ("OFFSET", 12, Align::Right),
        ("BEHIND", 10, Align::Right),
        ("CREDIT", 10, Align::Right),
    ]),
    cells: &[
        ("/session_id", Form::Plain),
        ("/subscription", Form::Plain),
        ("/partition", Form::Plain),
        ("/offset", Form::Plain),
        ("/lag_records", Form::Plain),
        ("/credit_records", Form::Plain),
    ],
};

const CURSORS: View = View {
    table: Table(&[
        ("PARTITION", 9, Align::Right),
        ("OFFSET", 12, Align::Right),
        ("NAME", 0, Align::Left),
    ]),
    cells: &[
        ("/partition", Form::Plain),
        ("/offset", Form::Plain),
        ("/name", Form::Plain),
    ],
};

/// Which rows of a list.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct Which {
    /// Only names with this in them
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// End after so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Streams with their numbers. Those of the tenant of --tenant, if one is named; otherwise of
/// all that you may see.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct Streams {
    #[command(flatten)]
    which: Which,
    /// All about this one
    #[arg(long, value_name = "NS/NAME", value_parser = ResourceName::parse)]
    resource: Option<ResourceName>,
    /// Who reads it, slowest first
    #[arg(long, requires = "resource")]
    readers: bool,
    /// Places in it that are kept for readers
    #[arg(long, requires = "resource", conflicts_with = "readers")]
    cursors: bool,
}

/// Queues with their numbers. Those of the tenant of --tenant, if one is named; otherwise of
/// all that you may see.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct Queues {
    #[command(flatten)]
    which: Which,
    /// All about this one
    #[arg(long, value_name = "NS/NAME", value_parser = ResourceName::parse)]
    resource: Option<ResourceName>,
    /// Of this partition only
    #[arg(long, value_name = "PARTITION")]
    family: Option<u16>,
    /// Its consumer groups
    #[arg(long, requires = "resource")]
    groups: bool,
    /// Why it gives nothing to whom
    #[arg(long, requires = "resource", conflicts_with = "groups")]
    why: bool,
}

/// Caches with their numbers. Those of the tenant of --tenant, if one is named; otherwise of
/// all that you may see.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct Caches {
    #[command(flatten)]
    which: Which,
    /// All about this one
    #[arg(long, value_name = "NS/NAME", value_parser = ResourceName::parse)]
    resource: Option<ResourceName>,
}

impl Which {
    async fn list(
        &self,
        context: &mut Context,
        ask: Ask,
        what: (&'static str, View),
    ) -> Result<(), Failure> {
        let ask = ask
            .query("realm", context.realm())
            .query("q", self.filter.as_deref());
        context.rows(&ask, what, self.limit).await
    }
}

impl Streams {
    pub(in super::super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let Some(name) = &self.resource else {
            let ask = Ask::get(&path(&["stream", "streams"]));
            return self.which.list(context, ask, ("streams", STREAMS)).await;
        };
        let of = |rest| Ask::get(&context.resource_path("stream", name, rest));
        if self.readers {
            let ask = of(&["subscriptions"]);
            let what = ("subscriptions", READERS);
            return context.rows(&ask, what, self.which.limit).await;
        }
        if self.cursors {
            let ask = of(&["cursors"]);
            return context
                .rows(&ask, ("cursors", CURSORS), self.which.limit)
                .await;
        }
        let ask = of(&[]);
        context.show(&ask).await
    }
}

impl Queues {
    pub(in super::super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let Some(name) = &self.resource else {
            let ask = Ask::get(&path(&["queue", "queues"])).query("family", self.family);
            return self.which.list(context, ask, ("queues", QUEUES)).await;
        };
        let rest: &[&str] = match (self.groups, self.why) {
            (true, _) => &["groups"],
            (_, true) => &["why"],
            _ => &[],
        };
        let ask = Ask::get(&context.resource_path("queue", name, rest));
        context.show(&ask.query("family", self.family)).await
    }
}

impl Caches {
    pub(in super::super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let Some(name) = &self.resource else {
            let ask = Ask::get(&path(&["cache", "caches"]));
            return self.which.list(context, ask, ("caches", CACHES)).await;
        };
        let ask = Ask::get(&context.resource_path("cache", name, &[]));
        context.show(&ask).await
    }
}
