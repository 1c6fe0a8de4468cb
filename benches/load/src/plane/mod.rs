//! What a cluster's control plane does on this machine: how long a change takes beside a
//! bare write to the same disk, how many there are in a second, what a dead leader costs,
//! and how soon everybody knows. Against nodes that `scripts/cluster` keeps.
//!
//! [`run`] measures a cluster that is there already, and [`figures`] everything that is
//! promised, against clusters of its own. Each question is a file that says how it is
//! measured and what its bound is.

mod commits;
mod disk;
mod failover;
mod http;
mod large;
mod nodes;
mod report;
mod steps;
mod tokens;
mod visible;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pinion_cli::bench::machine::{MachineFacts, OTHERS_SHARE_MAX, disturbance_now};

use crate::turns::{self, Marks};
use nodes::Cluster;
use report::{Section, markdown, plain};

/// What is measured of a cluster that runs.
#[derive(Clone, Debug, clap::Args)]
pub struct PlaneArgs {
    /// The cluster's directory, as `scripts/cluster` made it
    #[arg(long, default_value = "target/cluster")]
    dir: PathBuf,
    /// Changes one after the other, each beside bare writes
    #[arg(long, default_value_t = 1000)]
    commits: u32,
    /// Seconds of 64 clients
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often the leader is killed
    #[arg(long, default_value_t = 50)]
    kills: u32,
}

/// What everything that is promised is measured with.
#[derive(Clone, Debug, clap::Args)]
pub struct FiguresArgs {
    /// A directory on a disk, for the clusters
    #[arg(long, default_value = "target/figures")]
    dir: PathBuf,
    /// The node's binary
    #[arg(long, default_value = "target/release/pinion")]
    bin: PathBuf,
    /// The program that shows tokens to a core: `token-hello` of benches/micro
    #[arg(long, default_value = "target/release/token-hello")]
    token_hello: PathBuf,
    /// A tenth of everything: to see that everything works
    #[arg(long)]
    quick: bool,
    /// Write the tables between the marks of this Markdown file
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/benchmarks.md")]
    publish: Option<PathBuf>,
    /// Measure and publish although the machine is busy
    #[arg(long)]
    force: bool,
}

/// Where the tables go.
const MARKS: Marks = Marks {
    begin: "<!-- suite-control:begin -->",
    end: "<!-- suite-control:end -->",
};

/// What nodes say while they are measured: who leads, for `scripts/cluster`.
const LOG: &str = "warn,pinion::control=info";

/// Share of the machine that others may use is looked at for so long.
const LOOK: Duration = Duration::from_secs(2);

/// How much of everything.
struct Sizes {
    /// Changes whose steps are looked at.
    steps: u32,
    /// Changes one after the other.
    commits: u32,
    /// Seconds of many clients.
    seconds: u64,
    kills: u32,
    stops: u32,
    /// Changes that every core is to know.
    changes: u32,
    streams: usize,
    brokers: usize,
    watchers: usize,
    /// Changes that watchers are told of.
    followed: usize,
}

const WHOLE: Sizes = Sizes {
    steps: 1_000,
    commits: 2_000,
    seconds: 10,
    kills: 50,
    stops: 5,
    changes: 200,
    streams: 20_000,
    brokers: 200,
    watchers: 200,
    followed: 100,
};

const QUICK: Sizes = Sizes {
    steps: 100,
    commits: 100,
    seconds: 2,
    kills: 2,
    stops: 1,
    changes: 20,
    streams: 2_000,
    brokers: 20,
    watchers: 20,
    followed: 10,
};

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// There is no cluster, or its files cannot be read.
    #[error("{path}: {source}; start a cluster with: scripts/cluster up 3")]
    Cluster {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A node or the disk did not do what it must.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The script failed.
    #[error("scripts/cluster {what}: {said}")]
    Script {
        /// What it was to do.
        what: String,
        /// On standard error.
        said: String,
    },
    /// A node refused a request.
    #[error("a node answered {status}: {body}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What it said.
        body: String,
    },
    /// A node answered something else than was asked.
    #[error("a node answered {body}")]
    Unreadable {
        /// What it said.
        body: String,
    },
    /// Nobody decides any more, or a node does not come back.
    #[error("the cluster is not whole after {0:?}")]
    Leaderless(Duration),
    /// Watchers were not told of a change.
    #[error("{told} of {watchers} watchers were told of a change")]
    Untold {
        /// How many were.
        told: usize,
        /// Of how many.
        watchers: usize,
    },
    /// The data path of a node failed that should have stayed as it was.
    #[error("a data connection: {0}")]
    Publish(String),
    /// Others use the machine.
    #[error(
        "other processes use {share:.0} % of the machine, more than {most:.0} %: wait, or pass --force"
    )]
    Busy {
        /// How much they use, in percent.
        share: f64,
        /// How much they may.
        most: f64,
    },
}

impl PlaneError {
    fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Measures a cluster that runs, and prints a line for each figure.
///
/// # Errors
/// [`PlaneError`]: nothing is left but the namespaces `bench-*`.
pub fn run(args: &PlaneArgs) -> Result<(), PlaneError> {
    runtime()?.block_on(async {
        let cluster = Cluster::find(&args.dir)?;
        commits::prepare(&cluster).await?;
        tell(&commits::latency(&cluster, args.commits).await?);
        tell(&commits::rate(&cluster, args.seconds).await?);
        for section in failover::leaders(&cluster, args.kills, 0).await? {
            tell(&section);
        }
        Ok(())
    })
}

/// Measures everything, against clusters that begin and end here.
///
/// # Errors
/// [`PlaneError`]: the clusters have ended, and nothing is published.
pub fn figures(args: &FiguresArgs) -> Result<(), PlaneError> {
    let sizes = if args.quick { QUICK } else { WHOLE };
    let machine = MachineFacts::read();
    let before = disturbance_now(LOOK);
    if before.is_too_busy() && !args.force {
        return Err(PlaneError::Busy {
            share: before.others_share * 100.0,
            most: OTHERS_SHARE_MAX * 100.0,
        });
    }
    let began = Instant::now();
    let sections = runtime()?.block_on(play(args, &sizes))?;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let text = format!(
        "Machine: {}.\n\nThree nodes on loopback and the clients share its processors; {minutes:.1} minutes in all.\n{}",
        machine.line(),
        markdown(&sections)
    );
    match &args.publish {
        Some(path) => turns::publish(path, &text, MARKS).map_err(PlaneError::io("--publish")),
        None => Ok(()),
    }
}

async fn play(args: &FiguresArgs, sizes: &Sizes) -> Result<Vec<Section>, PlaneError> {
    let mut sections = Vec::new();
    let mut found = |section: Section| {
        tell(&section);
        sections.push(section);
    };
    let dir = absolute(&args.dir)?;
    let bin = absolute(&args.bin)?;
    // Apart from all others, because what nodes say costs them time.
    let talking = Cluster::begin(&dir, &bin, steps::LOG).await?;
    commits::prepare(&talking).await?;
    let steps = steps::split(&talking, sizes.steps).await?;
    drop(talking);
    let cluster = Cluster::begin(&dir, &bin, LOG).await?;
    commits::prepare(&cluster).await?;
    found(commits::latency(&cluster, sizes.commits).await?);
    found(steps);
    found(commits::rate(&cluster, sizes.seconds).await?);
    found(visible::play(&cluster, sizes.changes).await?);
    let leaders = failover::leaders(&cluster, sizes.kills, sizes.stops).await?;
    leaders.into_iter().for_each(&mut found);
    found(failover::returns(&cluster).await?);
    drop(cluster);
    // New, so that its memory is that of what is put into it.
    let cluster = Cluster::begin(&dir, &bin, LOG).await?;
    found(large::play(&cluster, sizes).await?);
    drop(cluster);
    found(tokens::play(&args.token_hello)?);
    Ok(sections)
}

fn absolute(path: &Path) -> Result<PathBuf, PlaneError> {
    std::path::absolute(path).map_err(PlaneError::io("a path"))
}

fn tell(section: &Section) {
    println!("{}", plain(section));
}

fn runtime() -> Result<tokio::runtime::Runtime, PlaneError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PlaneError::io("a runtime"))
}
