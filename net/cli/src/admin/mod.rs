//! `pinion admin`: everything the control plane can be asked and told, over HTTPS.
//!
//! Each command is one request of `/v1`, or of `/api/v1` where it is about what runs (lists are one per page), so what the node refuses is
//! what the command says. Bodies are JSON; declarative files are YAML and read in `apply`.
//!
//! Start reading at [`Verb`], then `resource.rs` for a command and `../http.rs` for what happens
//! on the way.

mod apply;
mod audit;
mod bootstrap;
mod broker;
mod draft;
mod events;
mod idp;
mod key;
mod list;
mod namespace;
pub(crate) mod node;
mod raft;
mod rbac;
mod resource;
mod running;
mod shard;
mod snapshot;
mod tenant;
#[cfg(test)]
mod tests;
mod token;
mod units;
mod view;
mod wait;
mod watch;

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use crate::failure::Failure;
use crate::http::{Answer, Ask, Http};
use crate::output::Printer;
use crate::value;

/// Where the routes are.
const BASE: &str = "v1";
/// The tenant that every cluster has from the start.
const DEFAULT_TENANT: &str = "default";

/// Asks and tells the control plane.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminArgs {
    #[command(flatten)]
    node: node::NodeArgs,
    /// The tenant that names are of [default: default]
    #[arg(long, global = true, env = "PINION_TENANT", value_name = "TENANT", value_parser = value::segment)]
    tenant: Option<String>,
    /// The node's answer, one JSON object per line
    #[arg(long, global = true)]
    json: bool,
    /// After a change, wait until every broker that is up has seen it [without a time: 30s]
    #[arg(long, global = true, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = value::duration)]
    wait: Option<Duration>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Tenants: who shares nothing with anybody else
    #[command(subcommand)]
    Tenant(tenant::Verb),
    /// Namespaces of a tenant
    #[command(subcommand, visible_alias = "ns")]
    Namespace(namespace::Verb),
    /// Streams as they are declared, and where they are
    #[command(subcommand)]
    Stream(resource::stream::Verb),
    /// Queues as they are declared, and where they are
    #[command(subcommand)]
    Queue(resource::queue::Verb),
    /// Caches as they are declared, and where they are
    #[command(subcommand)]
    Cache(resource::cache::Verb),
    /// Brokers: who serves, who drains, who is down
    #[command(subcommand)]
    Broker(broker::Verb),
    /// Shards: which brokers have what, and where it is to go
    #[command(subcommand)]
    Shard(shard::Verb),
    /// Rights: who may do what
    #[command(subcommand)]
    Rbac(rbac::Verb),
    /// Identity providers whose tokens count
    #[command(subcommand)]
    Idp(idp::Verb),
    /// Tokens of the tenant: get one, end one
    #[command(subcommand)]
    Token(token::Verb),
    /// API keys, for machines that have no identity provider
    #[command(subcommand)]
    Key(key::Verb),
    /// What signs the tokens of the tenant
    #[command(subcommand)]
    Keys(key::SigningVerb),
    /// Who did what, when, and what came of it
    Audit(audit::AuditArgs),
    /// The members of the control plane
    #[command(subcommand)]
    Raft(raft::Verb),
    /// Print every change from now on, or from a version on
    Watch(watch::WatchArgs),
    /// Everything that the cluster knows, at one version, as JSON
    Snapshot,
    /// Make what is declared in files so
    Apply(apply::ApplyArgs),
    /// Version, cluster and features of the asked node
    System,
    /// The asked node in numbers: connections, messages, what each domain has
    Stats(running::cluster::Stats),
    /// Streams as they run: records, readers, how fast
    Streams(running::resources::Streams),
    /// Queues as they run: what waits, what is in flight, what died, and why
    Queues(running::resources::Queues),
    /// Caches as they run: keys, memory, hits
    Caches(running::resources::Caches),
    /// Messages that somebody has reserved
    Inflight(running::letters::InFlight),
    /// Dead letters: look at them, make them ready again, delete them
    #[command(subcommand)]
    Dlq(running::letters::Verb),
    /// Who is connected to the asked node; end a connection
    #[command(subcommand)]
    Sessions(running::sessions::Verb),
    /// Cores, brokers and who leads
    Topology,
    /// Logs of the asked node and the space they take
    Storage,
    /// What is wrong, worst first, and what to do about it
    Troubleshoot,
    /// Where something is by a part of its name
    Search(running::cluster::Search),
    /// Make the first administrators of a tenant, once, at a node's bootstrap listener
    Bootstrap(bootstrap::BootstrapArgs),
}

/// What every verb works with.
struct Context {
    http: Http,
    printer: Printer,
    json: bool,
    /// The one of `--tenant`.
    tenant: String,
    /// Somebody named it.
    tenant_given: bool,
    /// How long a change is waited for on every broker.
    wait: Option<Duration>,
}

pub(crate) async fn run(args: &AdminArgs) -> Result<(), Failure> {
    execute(args, &mut Printer::default()).await
}

pub(crate) async fn execute(args: &AdminArgs, printer: &mut Printer) -> Result<(), Failure> {
    let mut context = Context {
        http: args.node.http()?,
        printer: std::mem::take(printer),
        json: args.json,
        tenant: args
            .tenant
            .clone()
            .unwrap_or_else(|| DEFAULT_TENANT.to_owned()),
        tenant_given: args.tenant.is_some(),
        wait: args.wait,
    };
    let result = args.verb.run(&mut context).await;
    // What was found before a failure is printed too.
    let flushed = context.printer.flush().await;
    *printer = context.printer;
    result.and(flushed)
}

impl Verb {
    async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Tenant(verb) => verb.run(context).await,
            Self::Namespace(verb) => verb.run(context).await,
            Self::Stream(verb) => verb.run(context).await,
            Self::Queue(verb) => verb.run(context).await,
            Self::Cache(verb) => verb.run(context).await,
            Self::Broker(verb) => verb.run(context).await,
            Self::Shard(verb) => verb.run(context).await,
            Self::Rbac(verb) => verb.run(context).await,
            Self::Idp(verb) => verb.run(context).await,
            Self::Token(verb) => verb.run(context).await,
            Self::Key(verb) => verb.run(context).await,
            Self::Keys(verb) => verb.run(context).await,
            Self::Audit(args) => args.run(context).await,
            Self::Raft(verb) => verb.run(context).await,
            Self::Watch(args) => args.run(context).await,
            Self::Snapshot => snapshot::run(context).await,
            Self::Apply(args) => args.run(context).await,
            Self::Stats(args) => args.run(context).await,
            Self::Streams(args) => args.run(context).await,
            Self::Queues(args) => args.run(context).await,
            Self::Caches(args) => args.run(context).await,
            Self::Inflight(args) => args.run(context).await,
            Self::Dlq(verb) => verb.run(context).await,
            Self::Sessions(verb) => verb.run(context).await,
            Self::Topology => running::cluster::topology(context).await,
            Self::Storage => running::cluster::storage(context).await,
            Self::Troubleshoot => running::cluster::troubleshoot(context).await,
            Self::Search(args) => args.run(context).await,
            Self::System => context.show(&Ask::get(&[BASE, "system", "info"])).await,
            Self::Bootstrap(args) => args.run(context).await,
        }
    }
}

impl Context {
    /// The path of something in the tenant.
    fn in_tenant<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let mut path = vec![BASE, "tenants", &self.tenant];
        path.extend_from_slice(rest);
        path
    }

    /// Asks, and prints the object of the answer.
    async fn show(&mut self, ask: &Ask) -> Result<(), Failure> {
        let answer = self.http.ask(ask).await?;
        if self.json {
            self.printer.json(&answer.body);
        } else {
            for line in view::lines(&answer.body) {
                self.printer.line(line);
            }
        }
        Ok(())
    }

    /// Asks for a change, and waits as long as the user wants for every broker to see it.
    async fn write(&mut self, ask: &Ask) -> Result<Answer, Failure> {
        let answer = self.http.ask(ask).await?;
        if let (Some(time), Some(version)) = (self.wait, version(&answer)) {
            wait::until_seen(self, version, time).await?;
        }
        Ok(answer)
    }

    /// Asks for a change, and says in a line that it was made: `tenant acme: created`.
    async fn change(&mut self, ask: &Ask, what: &str, done: &str) -> Result<Answer, Failure> {
        let answer = self.write(ask).await?;
        if self.json {
            if !answer.body.is_null() {
                self.printer.json(&answer.body);
            }
        } else {
            let version =
                version(&answer).map_or_else(String::new, |version| format!(", version {version}"));
            self.printer.line(format_args!("{what}: {done}{version}"));
            for note in view::notes(&answer.body) {
                self.printer.line(format_args!("  note: {note}"));
            }
        }
        Ok(answer)
    }
}

/// The version of the change that an answer tells of.
fn version(answer: &Answer) -> Option<u64> {
    answer
        .version
        .or_else(|| answer.body.get("version").and_then(Value::as_u64))
}

/// Which version a change is of, and that it is meant.
#[derive(Clone, Debug, clap::Args)]
struct Guard {
    /// Only if it is still at this version, as `get` says it
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
}

/// How something is deleted.
#[derive(Clone, Debug, clap::Args)]
struct DeleteArgs {
    #[command(flatten)]
    guard: Guard,
    /// Also if it is in use, or not empty
    #[arg(long)]
    force: bool,
    /// How long it can be undeleted, like 7d; none needs --force [default: the cluster's]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    grace: Option<u64>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl DeleteArgs {
    /// Asks the user, and gives what to ask the node.
    fn ask(&self, path: &[&str], what: &str) -> Result<Ask, Failure> {
        let end = match self.grace {
            Some(0) => " for good, with its data",
            _ => "",
        };
        crate::confirm::confirm(&format!("Delete {what}{end}?"), self.yes)?;
        Ok(Ask::new(Method::DELETE, path)
            .query("force", self.force.then_some(true))
            .query("grace_ms", self.grace)
            .if_version(self.guard.if_version))
    }
}
