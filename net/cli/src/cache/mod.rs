//! `pinion cache`: one file for reading, writing, scanning and watching each.

mod read;
mod scan;
mod watch;
mod write;

use crate::connect::ConnectArgs;
use crate::failure::Failure;
use crate::output::Printer;

/// Reads and writes a cache.
#[derive(Clone, Debug, clap::Args)]
pub struct CacheArgs {
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
    /// Print the values of keys; exit code 1 when one has none
    Get(read::GetArgs),
    /// Set a key
    Set(write::SetArgs),
    /// Delete keys
    Del(write::DelArgs),
    /// Give a key another time to live
    Touch(write::TouchArgs),
    /// Add to a counter and print the sum; needs read and write
    Incr(write::IncrArgs),
    /// List keys and values, in no particular order
    Scan(scan::ScanArgs),
    /// Print changes as they happen
    Watch(watch::WatchArgs),
    /// Sizes and counts of each partition
    Info(read::InfoArgs),
}

/// What every verb works with.
struct Context {
    printer: Printer,
    json: bool,
}

pub(crate) async fn run(args: &CacheArgs) -> Result<(), Failure> {
    let mut context = Context {
        printer: Printer::default(),
        json: args.json,
    };
    let verb = &args.verb;
    if let Verb::Watch(watch) = verb {
        return watch.run(&mut context, &args.connect).await;
    }
    // Before the connection: a file that is not there needs none.
    let value = match verb {
        Verb::Set(set) => Some(set.read_value()?),
        _ => None,
    };
    let client = args.connect.client().await?;
    let cache = client.cache(verb.cache()).await?;
    let result = match verb {
        Verb::Get(get) => get.run(&mut context, &cache).await,
        Verb::Set(set) => {
            let value = value.expect("read above");
            set.run(&mut context, &cache, value).await
        }
        Verb::Del(del) => del.run(&mut context, &cache).await,
        Verb::Touch(touch) => touch.run(&mut context, &cache).await,
        Verb::Incr(incr) => incr.run(&mut context, &cache).await,
        Verb::Scan(scan) => scan.run(&mut context, &cache).await,
        Verb::Info(info) => info.run(&mut context, &cache).await,
        Verb::Watch(_) => unreachable!("handled above"),
    };
    // What was found before a failure is printed too.
    context.printer.flush().await?;
    client.close().await;
    result
}

impl Verb {
    fn cache(&self) -> &str {
        match self {
            Self::Get(args) => &args.cache,
            Self::Set(args) => &args.cache,
            Self::Del(args) => &args.cache,
            Self::Touch(args) => &args.cache,
            Self::Incr(args) => &args.cache,
            Self::Scan(args) => &args.cache,
            Self::Watch(args) => &args.cache,
            Self::Info(args) => &args.cache,
        }
    }
}
