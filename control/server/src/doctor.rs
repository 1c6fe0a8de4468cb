//! `pinion doctor`: what this machine allows, how to give what it lacks, and
//! whether the data directory holds what was written.

mod data;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pinion_reactor::cpu;
use pinion_reactor::probe::{self, EXIT_UNSUPPORTED, Finding, Severity};
use serde::Serialize;

use crate::serve::EXIT_FAILED;

/// What to look at.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// The node's data directory, and the disk it is on
    #[arg(long, value_name = "DIR", default_value = "pinion-data")]
    data_dir: PathBuf,
    /// Read every byte of the logs, not only headers and footers
    #[arg(long)]
    deep: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// One finding, for programs.
#[derive(Serialize)]
struct Line<'a> {
    check: &'a str,
    severity: &'static str,
    found: &'a str,
    fix: Option<&'a str>,
}

pub(crate) fn run(args: &DoctorArgs) -> ExitCode {
    let cores = cpu::usable().map_or(1, |usable| usable.cores_max);
    let machine = probe::doctor(&args.data_dir, cores);
    let data = data::check(&args.data_dir, args.deep);
    let mut out = String::new();
    for finding in machine.iter().chain(&data) {
        if args.json {
            let line = serde_json::to_string(&line(finding)).expect("plain data");
            out.push_str(&line);
            out.push('\n');
        } else {
            out.push_str(&text(finding));
        }
    }
    match io::stdout().write_all(out.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("pinion: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => exit_code(&machine, &data),
    }
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warn => "warn",
        Severity::Fatal => "FAIL",
    }
}

/// What was found, and below it what to do where something is to be done.
fn text(finding: &Finding) -> String {
    let word = word(finding.severity);
    let mut text = format!("{word:<4}  {:<16} {}\n", finding.check, finding.found);
    if let Some(fix) = &finding.fix {
        text.push_str(&format!("      {:<16} fix: {fix}\n", ""));
    }
    text
}

fn line(finding: &Finding) -> Line<'_> {
    Line {
        check: finding.check,
        severity: match finding.severity {
            Severity::Fatal => "fatal",
            severity => word(severity),
        },
        found: &finding.found,
        fix: finding.fix.as_deref(),
    }
}

/// A machine that cannot run a node says so to supervisors; data that is lost is
/// a failure like any other.
fn exit_code(machine: &[Finding], data: &[Finding]) -> ExitCode {
    if machine.iter().any(Finding::is_fatal) {
        ExitCode::from(EXIT_UNSUPPORTED)
    } else if data.iter().any(Finding::is_fatal) {
        ExitCode::from(EXIT_FAILED)
    } else {
        ExitCode::SUCCESS
    }
}

/// Says on standard error what makes a node impossible here, if anything does
/// (R1): the exit code then.
pub(crate) fn refuse_unfit_machine(data_dir: &Path) -> Option<ExitCode> {
    let findings = probe::start_up(data_dir);
    let fatal = findings.iter().filter(|finding| finding.is_fatal());
    let mut unfit = false;
    for finding in fatal {
        unfit = true;
        eprintln!("pinion: {finding}");
    }
    unfit.then(|| ExitCode::from(EXIT_UNSUPPORTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, fix: Option<&str>) -> Finding {
        Finding {
            check: "memlock",
            severity,
            found: "64 KiB of locked memory, 512 KiB are needed".to_owned(),
            fix: fix.map(str::to_owned),
        }
    }

    #[test]
    fn a_finding_is_a_line_and_its_fix_stands_below() {
        assert_eq!(
            text(&finding(Severity::Fatal, Some("ulimit -l 1024"))),
            "FAIL  memlock          64 KiB of locked memory, 512 KiB are needed\n                       fix: ulimit -l 1024\n"
        );
        assert_eq!(text(&finding(Severity::Ok, None)).lines().count(), 1);
    }

    #[test]
    fn programs_get_the_same_facts() {
        let finding = finding(Severity::Fatal, Some("ulimit -l 1024"));
        assert_eq!(
            serde_json::to_string(&line(&finding)).expect("plain data"),
            r#"{"check":"memlock","severity":"fatal","found":"64 KiB of locked memory, 512 KiB are needed","fix":"ulimit -l 1024"}"#
        );
    }

    #[test]
    fn only_what_is_fatal_makes_a_machine_unfit() {
        let warned = [finding(Severity::Ok, None), finding(Severity::Warn, None)];
        assert_eq!(exit_code(&warned, &warned), ExitCode::SUCCESS);
        let unfit = [finding(Severity::Fatal, None)];
        assert_eq!(exit_code(&unfit, &unfit), ExitCode::from(78));
        assert_eq!(exit_code(&warned, &unfit), ExitCode::from(1));
    }
}
