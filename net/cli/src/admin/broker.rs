//! `pinion admin broker`.

use hyper::Method;
use serde_json::Value;

use super::draft::Draft;
use super::list::{ListArgs, Rows};
use super::view::{Form, View};
use super::{BASE, Context, units};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};
use crate::value;

const BROKERS: View = View {
    table: Table(&[
        ("NAME", 20, Align::Left),
        ("STATUS", 8, Align::Left),
        ("ADDRESS", 24, Align::Left),
        ("REGION", 10, Align::Left),
        ("ZONE", 10, Align::Left),
        ("LEADS", 6, Align::Right),
        ("COPIES", 6, Align::Right),
        ("MAX", 6, Align::Right),
        ("VERSION", 10, Align::Right),
    ]),
    cells: &[
        ("/name", Form::Plain),
        ("/status", Form::Plain),
        ("/address", Form::Plain),
        ("/region", Form::Plain),
        ("/zone", Form::Plain),
        ("/load/shards_led", Form::Plain),
        ("/load/shard_copies", Form::Plain),
        ("/capacity/max_shards", Form::Plain),
        ("/version", Form::Plain),
    ],
};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// The brokers that have registered, and whether they beat
    List(ListArgs),
    /// What a broker says of itself
    Get(Name),
    /// Register a broker that does not do so itself
    Register {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        facts: Facts,
    },
    /// Place nothing more on a broker; it goes on serving what it has
    Drain(Name),
    /// Place things on a broker again
    Activate(Name),
    /// Forget a broker that is drained or down and has nothing
    Remove {
        #[command(flatten)]
        name: Name,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which broker.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Name {
    /// The broker
    #[arg(value_name = "NAME", value_parser = value::segment)]
    name: String,
}

/// What a broker says of itself.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Facts {
    /// Where clients reach it
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// For placing copies apart
    #[arg(long, value_name = "TEXT")]
    region: Option<String>,
    /// Part of the region
    #[arg(long, value_name = "TEXT")]
    zone: Option<String>,
    /// A word on it; repeatable
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = value::pair)]
    labels: Vec<(String, String)>,
    /// Shards that it may lead or have copies of
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_shards: u32,
    /// Connections at a time
    #[arg(long, value_name = "N")]
    max_connections: u32,
    /// Data cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    cores: Option<u16>,
    /// Logs that durable shards are spread over
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    logs: Option<u16>,
    /// Memory of one data core, like 1GiB
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    memory_per_core: Option<u64>,
    /// Which life of its process this is; another one takes over from one that is down [default: the one it has]
    #[arg(long, value_name = "N")]
    incarnation: Option<u64>,
}

impl Facts {
    fn draft(&self) -> Draft {
        let labels: serde_json::Map<String, Value> = self
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let mut draft = Draft::default();
        draft
            .set("address", Some(self.address.as_str()))
            .set("region", self.region.as_deref())
            .set("zone", self.zone.as_deref())
            .set("labels", (!labels.is_empty()).then_some(labels))
            .set("capacity.max_shards", Some(self.max_shards))
            .set("capacity.max_connections", Some(self.max_connections))
            .set("capacity.cores", self.cores)
            .set("capacity.logs", self.logs)
            .set("capacity.memory_per_core", self.memory_per_core)
            // As text: not every reader of JSON has 64 bits.
            .set("incarnation", self.incarnation.map(|life| life.to_string()));
        draft
    }
}

impl Verb {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let told = |name: &Name, verb| Ask::new(Method::POST, &[BASE, "brokers", &name.name, verb]);
        let (ask, name, done) = match self {
            Self::List(list) => {
                let mut rows = Rows::new(BROKERS, list.limit);
                let ask = Ask::get(&[BASE, "brokers"]);
                rows.follow(context, &ask, "brokers", list, |_| ()).await?;
                rows.end(context);
                return Ok(());
            }
            Self::Get(Name { name }) => {
                return context.show(&Ask::get(&[BASE, "brokers", name])).await;
            }
            Self::Register { name, facts } => {
                let mut draft = facts.draft();
                draft.set("name", Some(name.name.as_str()));
                let ask = Ask::post(&[BASE, "brokers"], draft.value());
                (ask, name, "registered")
            }
            Self::Drain(name) => (told(name, "drain"), name, "draining"),
            Self::Activate(name) => (told(name, "activate"), name, "active"),
            Self::Remove { name, yes } => {
                confirm(&format!("Forget broker {} for good?", name.name), *yes)?;
                let ask = Ask::new(Method::DELETE, &[BASE, "brokers", &name.name]);
                (ask, name, "removed")
            }
        };
        let what = format!("broker {}", name.name);
        context.change(&ask, &what, done).await?;
        Ok(())
    }
}
