//! `pinion log`: what is in a data directory's logs, whether all of it holds,
//! and every record. It only reads, also while a node runs.

mod dump;
mod list;
mod verify;

use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use pinion_commitlog::DiskError;
use serde::Serialize;

use crate::data_dir::{View, ViewError};
use crate::identity::hex;
use crate::serve::EXIT_FAILED;

pub(crate) use list::summary;
pub(crate) use verify::{closed, fix, place, sentence};

/// Looks at the logs of a data directory.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// The node's data directory
    #[arg(long, global = true, value_name = "DIR", default_value = "pinion-data")]
    data_dir: PathBuf,
    /// Only this log [default: all of them]
    #[arg(long, global = true, value_name = "N")]
    log: Option<u16>,
    /// One JSON object per line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// Segments and checkpoints: sizes, record numbers, state
    Inspect,
    /// Read every byte and name what does not hold by file and byte; exit code 1 when data is lost
    Verify,
    /// Print every record
    Dump(dump::DumpArgs),
}

/// Why a command did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("log {log} cannot be listed: {source}")]
    List { log: u16, source: DiskError },
    #[error("no resource is called {0}; `pinion log inspect` works without names")]
    NoResource(String),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Standard output for people or for programs.
struct Out {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
}

impl Out {
    fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(Failure::Output)
    }

    fn json(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(object).expect("plain data");
        self.line(line)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }
}

/// Whether what was looked at is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sound {
    Yes,
    No,
}

pub(crate) fn run(args: &LogArgs) -> ExitCode {
    let mut out = Out {
        out: BufWriter::new(io::stdout().lock()),
        json: args.json,
    };
    let result = look(args, &mut out).and_then(|sound| out.flush().map(|()| sound));
    match result {
        Ok(Sound::Yes) => ExitCode::SUCCESS,
        Ok(Sound::No) => ExitCode::from(EXIT_FAILED),
        // Whoever read our output has left, as `head` does.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // What was found before is printed too.
            let _ = out.flush();
            eprintln!("error: {failure}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn look(args: &LogArgs, out: &mut Out) -> Result<Sound, Failure> {
    let mut view = View::open(&args.data_dir, args.log)?;
    let identity = introduce(&view, out, matches!(args.verb, Verb::Dump(_)))?;
    let sound = match &args.verb {
        Verb::Inspect => list::run(&mut view, out)?,
        Verb::Verify => verify::run(&mut view, out)?,
        Verb::Dump(dump) => dump.run(&mut view, out)?,
    };
    Ok(if identity == Sound::No {
        identity
    } else {
        sound
    })
}

#[derive(Serialize)]
struct StoreLine {
    event: &'static str,
    dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
}

/// Says whose directory it is, and who has it open. A dump is records only:
/// then it goes to standard error.
fn introduce(view: &View, out: &mut Out, aside: bool) -> Result<Sound, Failure> {
    let identity = view.identity.as_ref();
    let remark = view.holder.remark();
    if out.json && !aside {
        let known = identity.ok().and_then(Option::as_ref);
        out.json(&StoreLine {
            event: "store",
            dir: view.dir.display().to_string(),
            store: known.map(|identity| hex(&identity.uuid)),
            format: known.map(|identity| identity.format),
            created_ms: known.map(|identity| identity.created_wall_ms),
            error: identity.err().map(ToString::to_string),
            remark,
        })?;
    } else {
        let mut lines = vec![match identity {
            Ok(Some(identity)) => format!(
                "{}: store {}, format {}, made {}",
                view.dir.display(),
                hex(&identity.uuid),
                identity.format,
                pinion_cli::human::time(identity.created_wall_ms)
            ),
            Ok(None) => format!("{}: no store yet", view.dir.display()),
            Err(error) => format!("LOSS  {error}"),
        }];
        lines.extend(remark.map(|remark| format!("note: {remark}")));
        for line in lines {
            if aside {
                eprintln!("{line}");
            } else {
                out.line(line)?;
            }
        }
    }
    Ok(if identity.is_err() {
        Sound::No
    } else {
        Sound::Yes
    })
}
