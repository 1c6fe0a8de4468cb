//! `pinion queue`: messages in (`put`), out (`take`), settled (`settle`), looked
//! at (`look`), dead (`dead`), page by page (`pages`), and the queue itself
//! (`shape`).

mod dead;
mod look;
mod message;
mod pages;
mod put;
mod settle;
mod shape;
mod take;

use pinion_client::{PartitionId, Partitions};

use crate::connect::ConnectArgs;
use crate::failure::Failure;
use crate::output::Printer;
use crate::value;

/// Puts, takes and settles messages.
#[derive(Clone, Debug, clap::Args)]
pub struct QueueArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// One JSON object per line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Put messages; they are stored when this ends with exit code 0
    Put(put::PutArgs),
    /// Print messages; exit code 1 when there was none
    Take(take::TakeArgs),
    /// Print messages as they become ready, and acknowledge each when it is printed
    Consume(take::ConsumeArgs),
    /// Work is done: the messages never come again
    Ack(settle::AckArgs),
    /// Work failed: the attempt counts, and the messages come again or become dead letters
    Nack(settle::NackArgs),
    /// Work goes on: the messages stay reserved for longer
    Extend(settle::ExtendArgs),
    /// Work was not begun: the messages are ready again, and no attempt counts
    Release(settle::ReleaseArgs),
    /// Look at messages without reserving them
    Peek(look::PeekArgs),
    /// Look at dead letters, make them ready again, or forget them
    Dlq(dead::DlqArgs),
    /// Counts of each partition and consumer group
    Info(look::InfoArgs),
    /// Why nothing, or not everything, is being delivered
    Why(look::WhyArgs),
    /// Make and forget consumer groups
    Group(shape::GroupArgs),
    /// Make a queue; one that is there already and alike is fine
    Create(shape::CreateArgs),
}

/// What every verb works with.
struct Context {
    printer: Printer,
    json: bool,
}

/// The queue, and whose view of it.
#[derive(Clone, Debug, clap::Args)]
struct Target {
    /// The queue, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    queue: String,
    /// Consumer group; each sees every message once [default: the default group]
    #[arg(long, value_name = "G", default_value = "", hide_default_value = true)]
    group: String,
    /// Only this partition [default: all of them]
    #[arg(long, value_name = "P")]
    partition: Option<u16>,
}

impl Target {
    fn partitions(&self) -> Partitions {
        self.partition
            .map_or(Partitions::All, |p| Partitions::One(PartitionId(p)))
    }

    /// The numbers of those meant, of a queue with `shards`.
    fn each(&self, shards: u16) -> impl Iterator<Item = PartitionId> + use<> {
        let range = self.partition.map_or(0..shards, |p| p..p.saturating_add(1));
        range.map(PartitionId)
    }
}

pub(crate) async fn run(args: &QueueArgs) -> Result<(), Failure> {
    let mut context = Context {
        printer: Printer::default(),
        json: args.json,
    };
    let verb = &args.verb;
    // Before the connection: a file that is not there needs none.
    let source = match verb {
        Verb::Put(put) => Some(put.source()?),
        _ => None,
    };
    let client = args.connect.client().await?;
    let result = match verb {
        Verb::Create(create) => create.run(&mut context, &client).await,
        verb => match client.queue(verb.queue()).await {
            Err(error) => Err(error.into()),
            Ok(queue) => match verb {
                Verb::Put(put) => {
                    let source = source.expect("read above");
                    put.run(&mut context, &queue, source).await
                }
                Verb::Take(take) => take.run(&mut context, &queue).await,
                Verb::Consume(consume) => consume.run(&mut context, &queue).await,
                Verb::Ack(ack) => ack.run(&mut context, &queue).await,
                Verb::Nack(nack) => nack.run(&mut context, &queue).await,
                Verb::Extend(extend) => extend.run(&mut context, &queue).await,
                Verb::Release(release) => release.run(&mut context, &queue).await,
                Verb::Peek(peek) => peek.run(&mut context, &queue).await,
                Verb::Dlq(dlq) => dlq.run(&mut context, &queue).await,
                Verb::Info(info) => info.run(&mut context, &queue).await,
                Verb::Why(why) => why.run(&mut context, &queue).await,
                Verb::Group(group) => group.run(&mut context, &queue).await,
                Verb::Create(_) => unreachable!("handled above"),
            },
        },
    };
    // What was found before a failure is printed too.
    context.printer.flush().await?;
    client.close().await;
    result
}

impl Verb {
    fn queue(&self) -> &str {
        match self {
            Self::Put(args) => args.queue(),
            Self::Take(args) => args.queue(),
            Self::Consume(args) => args.queue(),
            Self::Ack(args) => args.queue(),
            Self::Nack(args) => args.queue(),
            Self::Extend(args) => args.queue(),
            Self::Release(args) => args.queue(),
            Self::Peek(args) => args.queue(),
            Self::Dlq(args) => args.queue(),
            Self::Info(args) => args.queue(),
            Self::Why(args) => args.queue(),
            Self::Group(args) => args.queue(),
            Self::Create(args) => args.queue(),
        }
    }
}
