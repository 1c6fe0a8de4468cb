//! `pinion cache set`, `del`, `touch` and `incr`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pinion_client::{Cache, Condition, RequestError, SetOptions, Version};
use pinion_types::limits::CACHE_VALUE_BYTES_MAX;
use serde::Serialize;

use super::Context;
use crate::failure::Failure;
use crate::output::escape;
use crate::value;

#[derive(Serialize)]
struct Stored<'a> {
    key: &'a str,
    version: u64,
}

fn print_stored(context: &mut Context, key: &str, version: Version) {
    let version = version.0;
    if context.json {
        context.printer.json(&Stored { key, version });
    } else {
        context.printer.line(format_args!("version {version}"));
    }
}

/// What to set.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SetArgs {
    /// The cache, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    pub(super) cache: String,
    /// The key
    key: String,
    /// The value; `-` is all of standard input
    #[arg(
        allow_hyphen_values = true,
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    value: Option<String>,
    /// All of this file is the value; `-` is standard input
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    /// Time to live, like 250ms, 90s or 1h30m [default: no end]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    ttl: Option<Duration>,
    /// Only when the key has no value
    #[arg(long)]
    if_absent: bool,
    /// Only when the key has this version
    #[arg(long, value_name = "VERSION", conflicts_with = "if_absent")]
    if_version: Option<u64>,
}

impl SetArgs {
    pub(super) fn read_value(&self) -> Result<Vec<u8>, Failure> {
        match (self.value.as_deref(), self.file.as_deref()) {
            (Some(value), _) if value != "-" => Ok(value.as_bytes().to_vec()),
            (_, Some(path)) if path != Path::new("-") => {
                let doing = || format!("read {}", path.display());
                let file = File::open(path).map_err(|error| Failure::io(doing(), error))?;
                read_all(file, doing())
            }
            _ => read_all(io::stdin(), "read standard input".to_owned()),
        }
    }

    pub(super) async fn run(
        &self,
        context: &mut Context,
        cache: &Cache,
        value: Vec<u8>,
    ) -> Result<(), Failure> {
        let condition = match (self.if_absent, self.if_version) {
            (true, _) => Condition::Absent,
            (false, Some(version)) => Condition::Version(Version(version)),
            (false, None) => Condition::Always,
        };
        let options = SetOptions {
            ttl: self.ttl,
            condition,
        };
        let version = cache.set_with(&self.key, value, options).await?;
        print_stored(context, &self.key, version);
        Ok(())
    }
}

/// At most one byte more than a value may have is read.
fn read_all(input: impl Read, doing: String) -> Result<Vec<u8>, Failure> {
    let limit = CACHE_VALUE_BYTES_MAX as usize;
    let mut value = Vec::new();
    input
        .take(limit as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| Failure::io(doing, error))?;
    if value.len() > limit {
        return Err(Failure::Request(RequestError::TooLarge {
            what: "the value",
            len: value.len(),
            limit,
        }));
    }
    Ok(value)
}

/// What to delete.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DelArgs {
    /// The cache, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    pub(super) cache: String,
    /// Keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// Only what has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
}

#[derive(Serialize)]
struct Deleted<'a> {
    key: &'a str,
    existed: bool,
}

impl DelArgs {
    pub(super) async fn run(&self, context: &mut Context, cache: &Cache) -> Result<(), Failure> {
        for key in &self.keys {
            let existed = match self.if_version {
                Some(version) => cache.delete_version(key, Version(version)).await?,
                None => cache.delete(key).await?,
            };
            if context.json {
                context.printer.json(&Deleted { key, existed });
            } else {
                let done = if existed { "deleted" } else { "was not there" };
                let key = escape(key.as_bytes());
                context.printer.line(format_args!("{key}\t{done}"));
            }
        }
        Ok(())
    }
}

/// What to touch.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TouchArgs {
    /// The cache, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    pub(super) cache: String,
    /// The key
    key: String,
    /// Time to live from now, like 250ms, 90s or 1h30m
    #[arg(long, value_name = "TIME", value_parser = value::duration, required_unless_present = "forever")]
    ttl: Option<Duration>,
    /// No end to its life
    #[arg(long, conflicts_with = "ttl")]
    forever: bool,
}

impl TouchArgs {
    pub(super) async fn run(&self, context: &mut Context, cache: &Cache) -> Result<(), Failure> {
        let version = cache.touch(&self.key, self.ttl).await?;
        print_stored(context, &self.key, version);
        Ok(())
    }
}

/// What to add.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct IncrArgs {
    /// The cache, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    pub(super) cache: String,
    /// The key
    key: String,
    /// What to add; may be negative
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_hyphen_values = true
    )]
    by: i64,
    /// Where an absent counter begins, before anything is added
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    initial: i64,
    /// Time to live of a counter that begins here [default: no end]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    ttl: Option<Duration>,
}

#[derive(Serialize)]
struct Counter<'a> {
    key: &'a str,
    value: i64,
}

impl IncrArgs {
    pub(super) async fn run(&self, context: &mut Context, cache: &Cache) -> Result<(), Failure> {
        let key = &self.key;
        let value = cache.incr(key, self.by, self.initial, self.ttl).await?;
        if context.json {
            context.printer.json(&Counter { key, value });
        } else {
            context.printer.line(value);
        }
        Ok(())
    }
}
