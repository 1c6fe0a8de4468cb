//! `pinion cache get` and `info`.

use std::time::Duration;

use pinion_client::{Cache, CacheEntry, PartitionId};
use serde::Serialize;

use super::Context;
use crate::failure::Failure;
use crate::output::{JsonBytes, Style, escape};
use crate::value;

/// Which keys.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct GetArgs {
    /// The cache, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    pub(super) cache: String,
    /// Keys; with several, each line is key, tab, value
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// Values as they are, unescaped
    #[arg(long)]
    raw: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    key: &'a str,
    value: JsonBytes<'a>,
    version: u64,
    ttl_ms: Option<u64>,
}

impl GetArgs {
    pub(super) async fn run(&self, context: &mut Context, cache: &Cache) -> Result<(), Failure> {
        let entries = match &self.keys[..] {
            [key] => vec![cache.get(key).await?],
            keys => cache.get_many(keys).await?,
        };
        let mut absent = None;
        for (key, entry) in self.keys.iter().zip(&entries) {
            match entry {
                Some(entry) => self.print(context, key, entry),
                None => absent = absent.or(Some(key)),
            }
        }
        absent.map_or(Ok(()), |key| Err(Failure::Absent(escape(key.as_bytes()))))
    }

    fn print(&self, context: &mut Context, key: &str, entry: &CacheEntry) {
        let style = Style::of(context.json, self.raw);
        if style == Style::Json {
            context.printer.json(&Found {
                key,
                value: JsonBytes(&entry.value),
                version: entry.version.0,
                ttl_ms: ttl_ms(entry.ttl),
            });
        } else if self.keys.len() == 1 || self.raw {
            context.printer.value(style, &entry.value);
        } else {
            let (key, value) = (escape(key.as_bytes()), escape(&entry.value));
            context.printer.line(format_args!("{key}\t{value}"));
        }
    }
}

/// What remains of a life, for JSON.
pub(super) fn ttl_ms(ttl: Option<Duration>) -> Option<u64> {
    ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}

/// Which cache.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct InfoArgs {
    /// The cache, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    pub(super) cache: String,
}

#[derive(Serialize)]
struct Partition {
    partition: u16,
    entries: u64,
    bytes: u64,
    budget: u64,
    hits: u64,
    misses: u64,
    evictions: u64,
    expirations: u64,
}

impl InfoArgs {
    pub(super) async fn run(&self, context: &mut Context, cache: &Cache) -> Result<(), Failure> {
        if !context.json {
            context.printer.line(
                "PARTITION     ENTRIES         BYTES        BUDGET          HITS        MISSES   EVICTIONS     EXPIRED",
            );
        }
        for partition in 0..cache.shards() {
            let status = cache.info(PartitionId(partition)).await?;
            if context.json {
                context.printer.json(&Partition {
                    partition,
                    entries: status.entries,
                    bytes: status.bytes,
                    budget: status.budget,
                    hits: status.hits,
                    misses: status.misses,
                    evictions: status.evictions,
                    expirations: status.expirations,
                });
            } else {
                context.printer.line(format_args!(
                    "{partition:>9}  {:>10}  {:>12}  {:>12}  {:>12}  {:>12}  {:>10}  {:>10}",
                    status.entries,
                    status.bytes,
                    status.budget,
                    status.hits,
                    status.misses,
                    status.evictions,
                    status.expirations
                ));
            }
        }
        Ok(())
    }
}
