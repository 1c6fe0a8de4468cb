//! Instructions per operation of the pure rooms, beside what was accepted.
//!
//! `instructions` exits 1 when a path takes over 5 % more instructions than the
//! baseline says, or is missing on one side; 2 when it was asked wrongly; 3 when
//! nothing can be counted on this machine. `docs/benchmarks-micro.md` says what
//! the numbers mean and when to accept others.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use pinion_micro::instructions::baseline::{Baseline, BaselineError, Tools, accepted_lines};
use pinion_micro::instructions::callgrind::{self, CountError, OPERATIONS};
use pinion_micro::instructions::{Count, PATHS, Row, Verdict, compare, path_named};

/// The folder with the baseline, in the source tree that this was built from.
const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

/// Counts instructions per operation and compares them with the baseline.
#[derive(Debug, Parser)]
struct Args {
    /// Makes what is counted now the baseline and writes the reason beside it.
    #[arg(long, value_name = "REASON", conflicts_with = "only")]
    accept: Option<String>,
    /// Only paths whose name has this in it.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The names of the paths, without counting.
    #[arg(long)]
    list: bool,
    /// Runs one path as it is run under valgrind, and says how many operations it did.
    #[arg(long, value_name = "PATH", hide = true)]
    run: Option<String>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Count(#[from] CountError),
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("benches/micro/baseline.csv: {0}")]
    Baseline(#[from] BaselineError),
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(name) = &args.run {
        let Some(path) = path_named(name) else {
            eprintln!("no path is called `{name}`; --list names them");
            return ExitCode::from(2);
        };
        println!("{OPERATIONS}{}", (path.run)());
        return ExitCode::SUCCESS;
    }
    if args.list {
        PATHS.iter().for_each(|path| println!("{}", path.name));
        return ExitCode::SUCCESS;
    }
    if cfg!(debug_assertions) {
        eprintln!("only counts of an optimised build compare: cargo run --profile quick …");
        return ExitCode::from(2);
    }
    let wrong = match (&args.accept, &args.only) {
        (Some(reason), _) if reason.trim().is_empty() => Some("a reason has words"),
        (_, Some(text)) if PATHS.iter().all(|path| !path.name.contains(text.as_str())) => {
            Some("no path has that in its name; --list names them")
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        eprintln!("{wrong}");
        return ExitCode::from(2);
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

/// Whether nothing has to be accepted.
fn run(args: &Args) -> Result<bool, Error> {
    let here = tools();
    let file = Path::new(FOLDER).join("baseline.csv");
    let mut baseline = match fs::read_to_string(&file) {
        Ok(text) => Baseline::parse(&text)?,
        Err(source) if source.kind() == io::ErrorKind::NotFound => Baseline {
            tools: here.clone(),
            counts: Vec::new(),
        },
        Err(source) => return Err(Error::File { path: file, source }),
    };
    let wanted = |name: &str| args.only.as_ref().is_none_or(|text| name.contains(text));
    baseline.counts.retain(|count| wanted(&count.name));

    let counts = count(wanted)?;
    let rows = compare(&baseline, &counts);
    print(&rows);
    let mut same_tools = true;
    for (what, here, there) in here.differences(&baseline.tools) {
        same_tools = false;
        println!("\nanother {what}: {here}, the baseline's is {there}");
    }
    if !same_tools {
        println!("so a longer path is only shown, and fails nothing");
    }

    if let Some(reason) = &args.accept {
        let taken = Baseline {
            tools: here,
            counts,
        };
        accept(&file, &taken, &rows, reason)?;
        return Ok(true);
    }
    let failing = rows.iter().filter(|row| row.verdict.fails(same_tools));
    let failing = failing.count();
    if failing > 0 {
        println!(
            "\n{failing} to be made right, or accepted in writing:\n  \
             cargo run --profile quick -p pinion-micro --bin instructions -- --accept \"why\""
        );
    }
    Ok(failing == 0)
}

/// Counts every wanted path, one process each.
fn count(wanted: impl Fn(&str) -> bool) -> Result<Vec<Count>, Error> {
    let valgrind = callgrind::find_valgrind(std::env::var_os("PATH").as_deref())?;
    let program = std::env::current_exe().map_err(|source| Error::File {
        path: PathBuf::from("this program"),
        source,
    })?;
    let mut counts = Vec::with_capacity(PATHS.len());
    for path in PATHS.iter().filter(|path| wanted(path.name)) {
        counts.push(Count {
            name: path.name.to_owned(),
            instructions: callgrind::count(&valgrind, &program, path.name)?,
        });
    }
    Ok(counts)
}

fn print(rows: &[Row]) {
    let number = |count: Option<f64>| count.map_or("-".to_owned(), |n| format!("{n:.1}"));
    println!(
        "{:<44} {:>10} {:>10} {:>9}",
        "instructions per operation", "baseline", "now", "change"
    );
    for row in rows {
        // Added to zero, a change too small to print loses its sign.
        let change = row.change_percent().map_or("-".to_owned(), |percent| {
            format!("{:+.1} %", (percent * 10.0).round() / 10.0 + 0.0)
        });
        let (old, new) = (number(row.old), number(row.new));
        let line = format!(
            "{:<44} {old:>10} {new:>10} {change:>9}  {}",
            row.name, row.verdict
        );
        println!("{}", line.trim_end());
    }
}

/// Rewrites the baseline; the reason first, so that no baseline is without one.
fn accept(file: &Path, taken: &Baseline, rows: &[Row], reason: &str) -> Result<(), Error> {
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let lines = accepted_lines(&today, rows, reason);
    let list = Path::new(FOLDER).join("ACCEPTED.md");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    let mut text = fs::read_to_string(&list).map_err(failed(&list))?;
    text.push_str(&lines);
    fs::write(&list, text).map_err(failed(&list))?;
    fs::write(file, taken.render()).map_err(failed(file))?;
    let changed = rows.iter().filter(|row| row.verdict != Verdict::Same);
    println!(
        "\naccepted; {} beyond the tolerance, {} lines in benches/micro/ACCEPTED.md",
        changed.count(),
        lines.lines().count()
    );
    Ok(())
}

/// What this program was built with and runs on.
fn tools() -> Tools {
    Tools {
        compiler: env!("MICRO_RUSTC").to_owned(),
        machine: machine(),
        libc: libc(),
    }
}

/// The architecture, and the extensions by which `memcpy` and the checksums
/// choose their code. Valgrind has none beyond AVX2.
fn machine() -> String {
    #[allow(unused_mut)] // only one architecture has extensions to add
    let mut machine = std::env::consts::ARCH.to_owned();
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
    ] {
        if there {
            machine.push(' ');
            machine.push_str(name);
        }
    }
    machine
}

fn libc() -> String {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = output.ok().filter(|output| output.status.success());
    said.map_or("unknown".to_owned(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}
