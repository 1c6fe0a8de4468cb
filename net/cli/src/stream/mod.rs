//! `pinion stream`: making streams, what they hold, and cursors.

mod create;
mod cursor;
mod info;

use crate::connect::ConnectArgs;
use crate::failure::Failure;
use crate::output::Printer;

pub(crate) use create::record_bytes;

/// Looks at streams.
#[derive(Clone, Debug, clap::Args)]
pub struct StreamArgs {
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
    /// Make a stream; one that is there already and alike is fine
    Create(create::CreateArgs),
    /// Ends, sizes and subscriptions of each partition
    Info(info::InfoArgs),
    /// Named places that the node keeps for readers
    Cursor(cursor::CursorArgs),
}

/// What every verb works with.
struct Context {
    printer: Printer,
    json: bool,
}

pub(crate) async fn run(args: &StreamArgs) -> Result<(), Failure> {
    let mut context = Context {
        printer: Printer::default(),
        json: args.json,
    };
    let client = args.connect.client().await?;
    let result = match &args.verb {
        Verb::Create(create) => create.run(&mut context, &client).await,
        Verb::Info(info) => info.run(&mut context, &client).await,
        Verb::Cursor(cursor) => cursor.run(&mut context, &client).await,
    };
    // What was found before a failure is printed too.
    context.printer.flush().await?;
    client.close().await;
    result
}
