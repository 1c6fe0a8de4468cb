//! `pinion cache watch`.

use std::num::NonZeroU64;
use std::pin::pin;
use std::time::Duration;

use pinion_client::{EventKind, WatchEvent, WatchOptions};
use serde::Serialize;

use super::Context;
use crate::connect::ConnectArgs;
use crate::failure::Failure;
use crate::output::{JsonBytes, escape};
use crate::subscribe::{interrupted, lag_reason, quiet};
use crate::value;

/// What to watch.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// The cache, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    pub(super) cache: String,
    /// The key; without it and --prefix, every key
    key: Option<String>,
    /// Every key that begins so
    #[arg(long, value_name = "P", conflicts_with = "key")]
    prefix: Option<String>,
    /// Only which key changed, not to what
    #[arg(long)]
    no_values: bool,
    /// End after so many changes
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// End when nothing changed for so long; with --count that is a failure
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    wait: Option<Duration>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Change {
        partition: u16,
        kind: &'static str,
        version: u64,
        key: JsonBytes<'a>,
        value: Option<JsonBytes<'a>>,
    },
    Lag {
        partition: u16,
        from: u64,
        to: u64,
        count: u64,
        reason: &'static str,
    },
    Reconnected {
        partition: u16,
    },
}

impl WatchArgs {
    pub(super) async fn run(
        &self,
        context: &mut Context,
        connect: &ConnectArgs,
    ) -> Result<(), Failure> {
        let mut interrupt = pin!(interrupted());
        let work = self.watch(context, connect);
        tokio::select! {
            result = work => result,
            () = &mut interrupt => Ok(()),
        }
    }

    async fn watch(&self, context: &mut Context, connect: &ConnectArgs) -> Result<(), Failure> {
        let client = connect.client().await?;
        let cache = client.cache(&self.cache).await?;
        let mut options = match (&self.key, &self.prefix) {
            (Some(key), _) => WatchOptions::key(key.clone()),
            (None, prefix) => WatchOptions::prefix(prefix.clone().unwrap_or_default()),
        };
        options.with_values = !self.no_values;
        let mut watch = cache.watch(options).await?;
        // For scripts: from here on no change is missed.
        eprintln!("watching {}", self.cache);
        let mut seen = 0;
        while self.count.is_none_or(|count| seen < count.get()) {
            let event = tokio::select! {
                event = watch.next() => event,
                () = quiet(self.wait) => return self.ended_quietly(seen),
            };
            let Some(event) = event else { break };
            let event = event?;
            seen += u64::from(matches!(event, WatchEvent::Change { .. }));
            print(context, &event);
            context.printer.flush().await?;
        }
        client.close().await;
        Ok(())
    }

    fn ended_quietly(&self, seen: u64) -> Result<(), Failure> {
        let Some(count) = self.count else {
            return Ok(());
        };
        Err(Failure::Incomplete(format!(
            "{seen} of {count} changes came, then nothing for {:?}",
            self.wait.unwrap_or_default()
        )))
    }
}

fn print(context: &mut Context, event: &WatchEvent) {
    let line = match event {
        WatchEvent::Change {
            partition,
            kind,
            version,
            key,
            value,
        } => Line::Change {
            partition: partition.0,
            kind: word(*kind),
            version: version.0,
            key: JsonBytes(key),
            value: value.as_ref().map(|value| JsonBytes(value)),
        },
        WatchEvent::Lag {
            partition,
            from,
            to,
            count,
            reason,
        } => Line::Lag {
            partition: partition.0,
            from: from.0,
            to: to.0,
            count: *count,
            reason: lag_reason(*reason),
        },
        WatchEvent::Reconnected { partition } => Line::Reconnected {
            partition: partition.0,
        },
        other => {
            eprintln!("{other:?}");
            return;
        }
    };
    if context.json {
        context.printer.json(&line);
        return;
    }
    match line {
        Line::Change {
            kind, key, value, ..
        } => {
            let value = value.map_or_else(String::new, |value| escape(value.0));
            let key = escape(key.0);
            context.printer.line(format_args!("{kind}\t{key}\t{value}"));
        }
        Line::Lag {
            partition,
            from,
            to,
            count,
            reason,
        } => eprintln!(
            "lag: partition {partition} versions {from} to {} skipped, {count} changes ({reason}); read what matters again",
            to.saturating_sub(1)
        ),
        Line::Reconnected { partition } => {
            eprintln!("reconnected: partition {partition}; read what matters again");
        }
    }
}

const fn word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Set => "set",
        EventKind::Deleted => "deleted",
        EventKind::Expired => "expired",
        EventKind::Evicted => "evicted",
    }
}
