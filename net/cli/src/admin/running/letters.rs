//! Messages of a queue that somebody has, and those that nobody could finish.

use hyper::Method;
use pinion_types::ResourceName;
use serde_json::Value;

use super::super::Context;
use super::super::view::{Form, View};
use super::{path, sure};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};

const IN_FLIGHT: View = View {
    table: Table(&[
        ("TENANT", 14, Align::Left),
        ("NAMESPACE", 14, Align::Left),
        ("QUEUE", 20, Align::Left),
        ("PARTITION", 9, Align::Right),
        ("MESSAGE", 12, Align::Right),
        ("GROUP", 10, Align::Left),
        ("FAILED", 6, Align::Right),
        ("RESERVED UNTIL", 24, Align::Left),
    ]),
    cells: &[
        ("/realm", Form::Plain),
        ("/area", Form::Plain),
        ("/resource", Form::Plain),
        ("/family", Form::Plain),
        ("/message_id", Form::Plain),
        ("/group", Form::Plain),
        ("/attempts", Form::Plain),
        ("/expires_at", Form::Plain),
    ],
};

const LETTERS: View = View {
    table: Table(&[
        ("PARTITION", 9, Align::Right),
        ("MESSAGE", 12, Align::Right),
        ("GROUP", 10, Align::Left),
        ("DIED", 24, Align::Left),
        ("FAILED", 6, Align::Right),
        ("REASON", 13, Align::Left),
        ("LAST ERROR", 0, Align::Left),
    ]),
    cells: &[
        ("/family", Form::Plain),
        ("/message_id", Form::Plain),
        ("/group", Form::Plain),
        ("/dead_lettered_at", Form::Plain),
        ("/attempts", Form::Plain),
        ("/reason", Form::Plain),
        ("/last_error", Form::Plain),
    ],
};

/// Messages that somebody has reserved.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct InFlight {
    /// Of this queue only
    #[arg(long, value_name = "NS/NAME", value_parser = ResourceName::parse)]
    resource: Option<ResourceName>,
    /// End after so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

impl InFlight {
    pub(in super::super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let ask = match &self.resource {
            Some(name) => Ask::get(&context.resource_path("queue", name, &["inflight"])),
            None => Ask::get(&path(&["queue", "inflight"])).query("realm", context.realm()),
        };
        context
            .rows(&ask, ("inflight", IN_FLIGHT), self.limit)
            .await
    }
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(in super::super) enum Verb {
    /// Dead letters of a queue, and what was said of them
    List {
        /// The queue, NAMESPACE/NAME
        #[arg(value_name = "NS/NAME", value_parser = ResourceName::parse)]
        queue: ResourceName,
        /// Of this partition only
        #[arg(long, value_name = "PARTITION")]
        family: Option<u16>,
        #[command(flatten)]
        select: Select,
        /// End after so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Make a dead letter ready again, its failures forgotten
    Replay(One),
    /// Delete a dead letter
    Delete {
        #[command(flatten)]
        one: One,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Make all dead letters of a partition that match ready again
    Redrive {
        #[command(flatten)]
        all: All,
        /// So many in a second [default: all at once]
        #[arg(long, value_name = "N")]
        rate: Option<u32>,
    },
    /// Delete all dead letters of a partition that match
    Purge(All),
}

/// Which dead letters.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct Select {
    /// Of this consumer group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Whose last error begins so
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

/// One dead letter.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct One {
    /// The queue, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = ResourceName::parse)]
    queue: ResourceName,
    /// Its number, as `list` says it
    #[arg(value_name = "MESSAGE")]
    message: u64,
    /// The partition it is in
    #[arg(long, value_name = "PARTITION")]
    family: u16,
    /// The consumer group for which it is dead
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
}

/// All dead letters of a partition that match.
#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct All {
    /// The queue, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = ResourceName::parse)]
    queue: ResourceName,
    /// The partition
    #[arg(long, value_name = "PARTITION")]
    family: u16,
    #[command(flatten)]
    select: Select,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Select {
    fn say(&self, ask: Ask) -> Ask {
        ask.query("group", self.group.as_deref())
            .query("error", self.error.as_deref())
    }
}

impl One {
    fn ask(&self, context: &Context, method: Method, rest: &[&str]) -> Ask {
        let message = self.message.to_string();
        let mut all = vec!["dead-letters", message.as_str()];
        all.extend(rest);
        Ask::new(method, &context.resource_path("queue", &self.queue, &all))
            .query("family", Some(self.family))
            .query("group", self.group.as_deref())
    }

    fn what(&self) -> String {
        format!(
            "dead letter {} of {}#{}",
            self.message, self.queue, self.family
        )
    }
}

impl All {
    fn ask(&self, context: &Context, method: Method, rest: &[&str]) -> Ask {
        let mut all = vec!["dead-letters"];
        all.extend(rest);
        let ask = Ask::new(method, &context.resource_path("queue", &self.queue, &all));
        sure(self.select.say(ask.query("family", Some(self.family))))
    }

    fn what(&self) -> String {
        format!("dead letters of {}#{}", self.queue, self.family)
    }
}

impl Verb {
    pub(in super::super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List {
                queue,
                family,
                select,
                limit,
            } => {
                let of = context.resource_path("queue", queue, &["dead-letters"]);
                let ask = select.say(Ask::get(&of).query("family", *family));
                context.rows(&ask, ("messages", LETTERS), *limit).await
            }
            Self::Replay(one) => {
                let ask = one.ask(context, Method::POST, &["replay"]);
                context.change(&ask, &one.what(), "ready again").await?;
                Ok(())
            }
            Self::Delete { one, yes } => {
                confirm(&format!("Delete {} for good?", one.what()), *yes)?;
                let ask = one.ask(context, Method::DELETE, &[]);
                context.change(&ask, &one.what(), "deleted").await?;
                Ok(())
            }
            Self::Redrive { all, rate } => {
                confirm(&format!("Make {} ready again?", all.what()), all.yes)?;
                let ask = all.ask(context, Method::POST, &["replay"]);
                let ask = ask.query("rate", *rate);
                moved(context, &ask, &all.what(), "become ready again").await
            }
            Self::Purge(all) => {
                confirm(&format!("Delete {} for good?", all.what()), all.yes)?;
                let ask = all.ask(context, Method::DELETE, &[]);
                moved(context, &ask, &all.what(), "are deleted").await
            }
        }
    }
}

async fn moved(context: &mut Context, ask: &Ask, what: &str, done: &str) -> Result<(), Failure> {
    let answer = context.http.ask(ask).await?;
    if context.json {
        context.printer.json(&answer.body);
    } else {
        let count = answer.body.get("messages").and_then(Value::as_u64);
        let count = count.unwrap_or(0);
        context.printer.line(format_args!("{what}: {count} {done}"));
    }
    Ok(())
}
