//! What a backup costs the data plane while it is made, how fast it is, and whether what
//! was acknowledged before it is there after it was restored.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pinion_cli::bench::measure::BenchError;

use super::beside::{self, Background, Count, Load};
use super::data::{DataClient, RATE};
use super::{Found, Stage};
use crate::server::{Node, Server};
use crate::started::{Filled, STOP_MAX};
use crate::turns::SERVER_CPU;

pub(super) const NOTE: &str = "Publishes are to a durable stream here, and answered when the disk has them. A backup is `pinion backup` as an operator calls it, \
     at the rate that a node has where nothing else is said (128 MiB a second, so that others keep the disk); it goes on while the round does. \
     The bytes a second are those of an archive over the whole time of the command that made it, with the load beside it. \
     What a restored node must have is all that had been acknowledged before its backup began; record for record that is \
     `control/server/tests/backup.rs`.";

/// Longest time that a command may take.
const PATIENCE: Duration = Duration::from_secs(120);

const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(super) fn play(stage: &Stage<'_>, found: &mut Found) -> Result<(), BenchError> {
    let place = stage.start()?;
    let mut filled = Filled::default();
    filled.fill(
        &place.server,
        place.dir(),
        stage.sizes.backup_bytes,
        PATIENCE,
    )?;
    let mut data = DataClient::new(place.config()?, true)?;
    let archive = stage.dir().join("figures.backup");
    let caller = Caller {
        bin: stage.bin(),
        address: place.door.address.to_string(),
        dir: place.dir().to_owned(),
    };
    let mut loads = [Load {
        name: "a backup",
        at_most: None,
        asks: false,
        begin: Box::new(|| {
            let mut background = Background::new();
            let (caller, archive) = (caller.clone(), archive.clone());
            background.spawn(move |stop| {
                let mut count = Count::default();
                while !stop.load(Ordering::Relaxed) {
                    caller.back_up(&archive)?;
                    count.done += 1;
                }
                Ok(count)
            });
            Ok(background)
        }),
    }];
    beside::in_turns(
        &place,
        &mut data,
        stage.sizes.long_rounds,
        &mut loads,
        found,
    )?;
    drop(loads);
    // One more, whose beginning is known.
    let before = data.acked();
    let mut background = Background::new();
    let (making, file) = (caller.clone(), archive.clone());
    background.spawn(move |_| {
        let took = making.back_up(&file)?;
        Ok(Count {
            done: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            refused: 0,
        })
    });
    data.run(RATE, stage.sizes.long_rounds.span)?;
    let took = Duration::from_micros(background.end()?.done);
    let bytes = std::fs::metadata(&archive)
        .map_err(BenchError::io("the archive"))?
        .len();
    let mb = super::count(bytes) / 1e6;
    found.told("an archive", "MB", vec![mb]);
    found.told("made under load", "MB/s", vec![mb / took.as_secs_f64()]);
    drop(place);
    let dir = tempfile::tempdir_in(stage.dir()).map_err(BenchError::io("a directory"))?;
    let restored = dir.path().join("restored");
    let began = Instant::now();
    caller.restore(&archive, &restored)?;
    let took = began.elapsed().as_secs_f64();
    found.told("restored", "MB/s", vec![mb / took]);
    let node = stage.node();
    check(node, &restored, &filled, before)?;
    found.told(
        "records that had been acknowledged before it, and are there",
        "",
        vec![super::count(filled.records + before)],
    );
    std::fs::remove_file(&archive).map_err(BenchError::io("the archive"))
}

/// Starts a node on what was restored, and counts.
fn check(node: &Node, dir: &Path, filled: &Filled, acked: u64) -> Result<(), BenchError> {
    let server: Server = node
        .start(SERVER_CPU, dir)
        .map_err(BenchError::io("starting the restored node"))?;
    filled.check(&server, dir)?;
    let config = crate::suite::admin_config(&server, dir)?;
    let there = super::data::stored(config)?;
    if there < acked {
        return Err(BenchError::Options(format!(
            "{acked} records had been acknowledged before the backup, {there} are there after it"
        )));
    }
    server
        .stop(STOP_MAX)
        .map_err(BenchError::io("stopping the node"))?;
    Ok(())
}

/// Who calls commands.
#[derive(Clone, Debug)]
struct Caller {
    bin: PathBuf,
    address: String,
    dir: PathBuf,
}

impl Caller {
    /// How long the command took.
    fn back_up(&self, archive: &Path) -> Result<Duration, BenchError> {
        let _ = std::fs::remove_file(archive);
        let dev = self.dir.join("dev");
        let mut command = Command::new(&self.bin);
        command.arg("backup").arg("--out").arg(archive);
        command.args(["--server", &self.address]);
        command.arg("--ca").arg(dev.join("ca.pem"));
        command.arg("--token").arg(dev.join("admin.token"));
        finish("pinion backup", &mut command)
    }

    fn restore(&self, archive: &Path, dir: &Path) -> Result<Duration, BenchError> {
        let mut command = Command::new(&self.bin);
        command
            .arg("restore")
            .arg(archive)
            .arg("--data-dir")
            .arg(dir);
        finish("pinion restore", &mut command)
    }
}

/// Runs a command to its end, or ends it.
fn finish(what: &'static str, command: &mut Command) -> Result<Duration, BenchError> {
    let began = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(BenchError::io(what))?;
    loop {
        if let Some(status) = child.try_wait().map_err(BenchError::io(what))? {
            let took = began.elapsed();
            if status.success() {
                return Ok(took);
            }
            let mut said = String::new();
            if let Some(mut pipe) = child.stderr.take() {
                let _ = std::io::Read::read_to_string(&mut pipe, &mut said);
            }
            return Err(BenchError::Options(format!(
                "{what}: {status}: {}",
                said.trim()
            )));
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Err(BenchError::Options(format!(
                "{what}: not done in {PATIENCE:?}"
            )));
        }
        sleep(LOOK_EVERY);
    }
}
