//! `pinion backup`: everything that a running node has, into a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use crate::admin::node::NodeArgs;
use crate::failure::Failure;
use crate::http::{Ask, Secret, Stream};
use crate::human;
use crate::output::Printer;
use crate::progress::Progress;

/// What is put behind the name of a file that is not complete.
const UNFINISHED: &str = ".part";

/// Copies a node.
#[derive(Clone, Debug, clap::Args)]
pub struct BackupArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Where to, a file that does not exist; it is a tar
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// With the node's TLS key, its tokens and the master key: who has the file is the node
    #[arg(long)]
    with_secrets: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Done<'a> {
    file: &'a Path,
    bytes: u64,
    seconds: f64,
    secrets: bool,
}

pub(crate) async fn run(args: &BackupArgs) -> Result<(), Failure> {
    let out = &args.out;
    if out.symlink_metadata().is_ok() {
        let exists = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(Failure::io(format!("write {}", out.display()), exists));
    }
    let begun = Instant::now();
    let mut http = args.node.http()?;
    // Once: what was lost on the way may be under way still.
    let ask = Ask::post(&["v1", "backup"], json!({ "secrets": args.with_secrets }))
        .header("x-confirm", Secret("true".to_owned()))
        .once();
    let mut stream = http.open(&ask).await?;
    let mut part = out.clone().into_os_string();
    part.push(UNFINISHED);
    let part = PathBuf::from(part);
    let bytes = match receive(&mut stream, &part, out).await {
        Ok(bytes) => bytes,
        Err(failure) => {
            // What is there of it can be of no use.
            drop(fs::remove_file(&part));
            return Err(failure);
        }
    };
    let done = Done {
        file: out,
        bytes,
        seconds: begun.elapsed().as_secs_f64(),
        secrets: args.with_secrets,
    };
    let mut printer = Printer::default();
    if args.json {
        printer.json(&done);
    } else {
        printer.line(format_args!(
            "{}: {} in {:.1} s{}",
            out.display(),
            human::bytes(bytes),
            done.seconds,
            if args.with_secrets {
                "; it holds the node's keys"
            } else {
                ""
            }
        ));
    }
    printer.flush().await
}

/// Writes what comes beside `out`, and gives it its name when all of it is on the disk.
async fn receive(stream: &mut Stream, part: &Path, out: &Path) -> Result<u64, Failure> {
    let failed = |path: &Path| {
        let what = format!("write {}", path.display());
        move |source| Failure::io(what, source)
    };
    // It holds everybody's data.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .map_err(failed(part))?;
    let expected = stream.len();
    let mut progress = Progress::of_bytes(expected);
    let mut bytes = 0;
    while let Some(piece) = stream.next().await? {
        file.write_all(&piece).map_err(failed(part))?;
        bytes += piece.len() as u64;
        progress.set(bytes);
    }
    if expected != Some(bytes) {
        return Err(Failure::Incomplete(format!(
            "the backup ended after {}: the node gave it up, and its log says why",
            human::bytes(bytes)
        )));
    }
    // Content before name before folder.
    file.sync_all().map_err(failed(part))?;
    fs::rename(part, out).map_err(failed(out))?;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed(out))?;
    Ok(bytes)
}
