//! `pinion doctor`: what this machine allows, and how to give what it lacks.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pinion_reactor::cpu;
use pinion_reactor::probe::{self, EXIT_UNSUPPORTED, Finding, Severity};
use serde::Serialize;

/// What to look at.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Directory whose disk is looked at
    #[arg(long, value_name = "DIR", default_value = "pinion-data")]
    data_dir: PathBuf,
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
    let findings = probe::doctor(&args.data_dir, cores);
    let mut out = String::new();
    for finding in &findings {
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
        _ => exit_code(&findings),
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

fn exit_code(findings: &[Finding]) -> ExitCode {
    if findings.iter().any(Finding::is_fatal) {
        ExitCode::from(EXIT_UNSUPPORTED)
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
        assert_eq!(exit_code(&warned), ExitCode::SUCCESS);
        let unfit = [finding(Severity::Fatal, None)];
        assert_eq!(exit_code(&unfit), ExitCode::from(78));
    }
}
