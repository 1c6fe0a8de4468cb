//! `pinion cache scan`.

use pinion_client::{Cache, ScannedEntry};
use serde::Serialize;

use super::Context;
use super::read::ttl_ms;
use crate::failure::Failure;
use crate::output::{JsonBytes, escape};
use crate::value;

/// What to list.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ScanArgs {
    /// The cache, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    pub(super) cache: String,
    /// Only keys that begin so
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// No values
    #[arg(long)]
    keys_only: bool,
    /// End after so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Serialize)]
struct Entry<'a> {
    key: JsonBytes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<JsonBytes<'a>>,
    version: u64,
    ttl_ms: Option<u64>,
}

impl ScanArgs {
    pub(super) async fn run(&self, context: &mut Context, cache: &Cache) -> Result<(), Failure> {
        let mut scan = cache.scan(self.prefix.clone());
        if self.keys_only {
            scan = scan.keys_only();
        }
        let mut left = self.limit.unwrap_or(u64::MAX);
        while let Some(page) = scan.next_page().await? {
            for entry in page {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                self.print(context, &entry);
            }
            context.printer.flush().await?;
        }
        Ok(())
    }

    fn print(&self, context: &mut Context, entry: &ScannedEntry) {
        if context.json {
            context.printer.json(&Entry {
                key: JsonBytes(&entry.key),
                value: (!self.keys_only).then_some(JsonBytes(&entry.value)),
                version: entry.version.0,
                ttl_ms: ttl_ms(entry.ttl),
            });
        } else if self.keys_only {
            context.printer.line(escape(&entry.key));
        } else {
            let (key, value) = (escape(&entry.key), escape(&entry.value));
            context.printer.line(format_args!("{key}\t{value}"));
        }
    }
}
