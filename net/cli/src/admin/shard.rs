//! `pinion admin shard`: which brokers have what, and moving it.

use hyper::Method;
use pinion_types::ResourceName;
use serde_json::{Value, json};

use super::list::ListArgs;
use super::list::Pages;
use super::view::{self, Form, View};
use super::{BASE, Context};
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};
use crate::value;

const SHARDS: View = View {
    table: Table(&[
        ("RESOURCE", 36, Align::Left),
        ("SHARD", 5, Align::Right),
        ("LEADER", 14, Align::Left),
        ("REPLICAS", 20, Align::Left),
        ("EPOCH", 5, Align::Right),
    ]),
    cells: &[
        ("/resource", Form::Plain),
        ("/of/shard", Form::Plain),
        ("/of/leader", Form::Plain),
        ("/of/replicas", Form::Plain),
        ("/of/epoch", Form::Plain),
    ],
};

const MOVES: View = View {
    table: Table(&[
        ("SHARD", 5, Align::Right),
        ("FROM", 16, Align::Left),
        ("TO", 16, Align::Left),
        ("STATUS", 0, Align::Left),
    ]),
    cells: &[
        ("/shard", Form::Plain),
        ("/from", Form::Plain),
        ("/to", Form::Plain),
        ("/status", Form::Plain),
    ],
};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Which broker leads each shard, and which have copies; of the tenant of --tenant, or of all
    List {
        /// Only of this kind
        #[arg(long, value_enum)]
        kind: Option<KindArg>,
        /// Only of this namespace
        #[arg(long, value_name = "NS", value_parser = value::segment)]
        namespace: Option<String>,
        /// Only what this broker leads or has copies of
        #[arg(long, value_name = "BROKER", value_parser = value::segment)]
        broker: Option<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Plan where the shards of a resource are to go
    Rebalance {
        #[command(flatten)]
        of: Of,
        /// What is wanted
        #[arg(long, value_enum, default_value = "balanced")]
        strategy: StrategyArg,
        /// Only show the plan
        #[arg(long)]
        dry_run: bool,
        /// Give up what is pending of a plan
        #[arg(long, conflicts_with_all = ["strategy", "dry_run"])]
        cancel: bool,
    },
    /// Plan that another broker, which has a copy, leads a shard
    Transfer {
        #[command(flatten)]
        of: Of,
        /// Which shard
        #[arg(value_name = "SHARD")]
        shard: u16,
        /// The broker that is to lead it
        #[arg(long, value_name = "BROKER", value_parser = value::segment)]
        to: String,
    },
}

/// Which resource.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Of {
    /// The resource, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = ResourceName::parse)]
    name: ResourceName,
    /// What it is
    #[arg(long, value_enum, default_value = "stream")]
    kind: KindArg,
}

/// Kinds of resources.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum KindArg {
    Stream,
    Queue,
    Cache,
}

impl KindArg {
    const fn word(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Queue => "queue",
            Self::Cache => "cache",
        }
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::Stream => "streams",
            Self::Queue => "queues",
            Self::Cache => "caches",
        }
    }
}

/// What is wanted of a placement.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum StrategyArg {
    /// As if every shard were placed now; moves as many as that takes
    Balanced,
    /// Away from brokers that drain or are down, and then as little as possible
    MinimizeMovement,
    /// Balanced, but in the region where a shard is led now
    LocalityAware,
}

impl StrategyArg {
    const fn word(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::MinimizeMovement => "minimize_movement",
            Self::LocalityAware => "locality_aware",
        }
    }
}

impl Of {
    fn path<'a>(&'a self, context: &'a Context, more: &[&'a str]) -> Vec<&'a str> {
        let mut path = context.in_tenant(&[
            "namespaces",
            self.name.namespace(),
            self.kind.plural(),
            self.name.name(),
        ]);
        path.extend_from_slice(more);
        path
    }

    fn what(&self) -> String {
        format!("{} {}", self.kind.word(), self.name)
    }
}

impl Verb {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List {
                kind,
                namespace,
                broker,
                list,
            } => {
                let ask = Ask::get(&[BASE, "placements"])
                    .query("tenant", context.tenant_given.then_some(&context.tenant))
                    .query("namespace", namespace.as_ref())
                    .query("kind", kind.map(KindArg::word));
                shards(context, ask, broker.as_deref(), list).await
            }
            Self::Rebalance {
                of,
                strategy,
                dry_run,
                cancel,
            } => {
                let path = of.path(context, &["rebalance"]);
                let ask = if *cancel {
                    Ask::new(Method::DELETE, &path)
                } else {
                    Ask::post(&path, json!({"strategy": strategy.word()}))
                        .query("dry_run", dry_run.then_some(true))
                };
                plan(context, &ask, &of.what()).await
            }
            Self::Transfer { of, shard, to } => {
                let shard = shard.to_string();
                let path = of.path(context, &["shards", &shard, "transfer-leadership"]);
                let ask = Ask::post(&path, json!({"target_broker": to}));
                plan(context, &ask, &of.what()).await
            }
        }
    }
}

/// One row per shard; with `--json` one placement per line, as the node has it.
async fn shards(
    context: &mut Context,
    ask: Ask,
    broker: Option<&str>,
    list: &ListArgs,
) -> Result<(), Failure> {
    let mut left = list.limit.unwrap_or(u64::MAX);
    let mut headed = context.json;
    let mut pages = Pages::new(ask, "placements", list);
    while left > 0
        && let Some(page) = pages.next(&mut context.http, left).await?
    {
        for placement in page {
            let empty = Vec::new();
            let all = placement["shards"].as_array().unwrap_or(&empty);
            let of_broker = |shard: &Value| {
                broker.is_none_or(|name| {
                    shard["leader"] == name
                        || shard["replicas"]
                            .as_array()
                            .is_some_and(|all| all.iter().any(|one| one == name))
                })
            };
            let chosen: Vec<_> = all.iter().filter(|shard| of_broker(shard)).collect();
            if chosen.is_empty() || left == 0 {
                continue;
            }
            left -= 1;
            if context.json {
                context.printer.json(&placement);
                continue;
            }
            if !headed {
                context.printer.line(SHARDS.head());
                headed = true;
            }
            for shard in chosen {
                let row = json!({"resource": placement["resource"], "of": shard});
                context.printer.line(SHARDS.row(&row));
            }
        }
        context.printer.flush().await?;
    }
    if !headed {
        context.printer.line("none");
    }
    Ok(())
}

/// What is to move.
async fn plan(context: &mut Context, ask: &Ask, what: &str) -> Result<(), Failure> {
    let answer = context.write(ask).await?;
    if context.json {
        context.printer.json(&answer.body);
        return Ok(());
    }
    match answer.body["moves"].as_array() {
        Some(moves) if !moves.is_empty() => {
            context.printer.line(MOVES.head());
            for one in moves {
                context.printer.line(MOVES.row(one));
            }
        }
        _ => context
            .printer
            .line(format_args!("{what}: nothing is to move")),
    }
    for note in view::notes(&answer.body) {
        context.printer.line(format_args!("note: {note}"));
    }
    Ok(())
}
