//! Numbers of the node, how the cluster is put together, what is wrong, and where things are.

use super::super::Context;
use super::super::view::{Form, View};
use super::path;
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};

const FOUND: View = View {
    table: Table(&[
        ("KIND", 9, Align::Left),
        ("TENANT", 14, Align::Left),
        ("NAMESPACE", 14, Align::Left),
        ("NAME", 0, Align::Left),
    ]),
    cells: &[
        ("/kind", Form::Plain),
        ("/realm", Form::Plain),
        ("/area", Form::Plain),
        ("/resource", Form::Plain),
    ],
};

/// A domain.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Domain {
    Stream,
    Queue,
    Cache,
}

/// The node and all domains in numbers.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct Stats {
    /// This domain, and more of it; of the tenant of --tenant, if one is named
    #[arg(long, value_enum, value_name = "DOMAIN")]
    domain: Option<Domain>,
}

/// What has a text in its name.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct Search {
    /// A part of the name; NAMESPACE/NAME across the slash
    text: String,
    /// End after so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

impl Stats {
    pub(in super::super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let domain = match self.domain {
            None => return context.show(&Ask::get(&path(&["stats"]))).await,
            Some(Domain::Stream) => "stream",
            Some(Domain::Queue) => "queue",
            Some(Domain::Cache) => "cache",
        };
        let ask = Ask::get(&path(&[domain, "stats"])).query("realm", context.realm());
        context.show(&ask).await
    }
}

impl Search {
    pub(in super::super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let ask = Ask::get(&path(&["search"]))
            .query("q", Some(&self.text))
            .query("realm", context.realm());
        context.rows(&ask, ("results", FOUND), self.limit).await
    }
}

/// How the cluster is put together, as the asked node knows it.
pub(in super::super) async fn topology(context: &mut Context) -> Result<(), Failure> {
    context.show(&Ask::get(&path(&["topology"]))).await
}

/// Logs of the asked node.
pub(in super::super) async fn storage(context: &mut Context) -> Result<(), Failure> {
    context.show(&Ask::get(&path(&["storage"]))).await
}

/// What is wrong, worst first.
pub(in super::super) async fn troubleshoot(context: &mut Context) -> Result<(), Failure> {
    let ask = Ask::get(&path(&["troubleshooting"])).query("realm", context.realm());
    context.show(&ask).await
}
