//! The data directory: whose it is, who has it open, and whether its logs hold.

use std::cell::RefCell;
use std::path::Path;

use pinion_cli::human;
use pinion_cli::progress::Progress;
use pinion_commitlog::LogId;
use pinion_commitlog::inspect::Severity as LogSeverity;
use pinion_commitlog::inspect::{self, Fault, Finding as LogFinding, LogInfo};
use pinion_reactor::probe::{Finding, Severity};

use crate::data_dir::{Holder, View, ViewError, Watched, log_name};
use crate::identity::hex;
use crate::log::{closed, fix, place, sentence};
use crate::names::Names;

/// Faults of one log that are told one by one; `pinion log verify` tells all.
const FAULTS_MAX: usize = 10;

/// Everything about `dir`, which need not be there yet.
pub(super) fn check(dir: &Path, deep: bool) -> Vec<Finding> {
    let mut view = match View::open(dir, None) {
        Ok(view) => view,
        Err(ViewError::Absent(_)) => {
            let found = format!("{} is not there yet: nothing to verify", dir.display());
            return vec![ok("store", found)];
        }
        Err(error) => {
            let fix = "give this user the right to read it, or name another with --data-dir";
            return vec![fatal("store", error.to_string(), fix)];
        }
    };
    let mut findings = vec![holder(&view.holder), identity(&view)];
    if view.logs.is_empty() {
        findings.push(ok("logs", "none: nothing durable was ever declared here"));
        return findings;
    }
    let store = view.store();
    let total = if deep { view.bytes() } else { 0 };
    let progress = RefCell::new(Progress::of_bytes(deep.then_some(total)));
    let mut read = 0;
    for log in view.logs.clone() {
        let mut advance = |bytes| {
            read += bytes;
            progress.borrow_mut().set(read);
        };
        let mut files = Watched {
            files: &mut view.files,
            progress: &mut advance,
        };
        let mut faults = Vec::new();
        let listed = if deep {
            let mut found = |finding| faults.push(finding);
            inspect::verify(&mut files, log, store, &mut found).map(|report| sentence(log, &report))
        } else {
            inspect::list(&mut files, log).map(|info| {
                faults = of_headers_and_footers(&info);
                let summary = summary(log, &info);
                format!("{summary}; headers and footers looked at, --deep reads everything")
            })
        };
        match listed {
            Ok(summary) => findings.extend(judge(dir, &view.names, summary, &faults)),
            Err(error) => findings.push(fatal(
                "log",
                format!("{} cannot be listed: {error}", log_name(log)),
                "see `dmesg`, and the rights of its folder",
            )),
        }
    }
    findings
}

fn ok(check: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        check,
        severity: Severity::Ok,
        found: found.into(),
        fix: None,
    }
}

fn fatal(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        severity: Severity::Fatal,
        fix: Some(fix.into()),
        ..ok(check, found)
    }
}

fn holder(holder: &Holder) -> Finding {
    const CHECK: &str = "in use";
    match holder {
        Holder::Nobody => ok(CHECK, "no node has the directory open"),
        Holder::Process(Some(pid)) => ok(CHECK, format!("by process {pid}")),
        Holder::Process(None) => ok(CHECK, "by a process that has not said its number"),
        Holder::Unknown(error) => Finding {
            severity: Severity::Warn,
            fix: Some("look as the user the node runs as".to_owned()),
            ..ok(CHECK, format!("not told: {error}"))
        },
    }
}

fn identity(view: &View) -> Finding {
    const CHECK: &str = "store";
    match &view.identity {
        Ok(Some(identity)) => ok(
            CHECK,
            format!(
                "{}, format {}, made {}",
                hex(&identity.uuid),
                identity.format,
                human::time(identity.created_wall_ms)
            ),
        ),
        Ok(None) => ok(CHECK, "none yet: the first start makes it"),
        Err(error) => fatal(
            CHECK,
            error.to_string(),
            "a node does not start on it: restore pinion.store from a backup, or use the release that wrote it",
        ),
    }
}

fn summary(log: LogId, info: &LogInfo) -> String {
    crate::log::summary(&log_name(log), info)
}

/// What headers and footers tell without the records between them.
fn of_headers_and_footers(info: &LogInfo) -> Vec<LogFinding> {
    let finding = |file, fault| LogFinding {
        file,
        offset: 0,
        len: 0,
        fault,
        partitions: None,
    };
    let mut faults = Vec::new();
    for (at, segment) in info.segments.iter().enumerate() {
        let is_last = info.segments[at + 1..]
            .iter()
            .all(|later| matches!(later.header, Err(Fault::Unused)));
        match (&segment.header, &segment.footer) {
            (Err(fault), _) => faults.push(finding(segment.file, *fault)),
            (Ok(_), Err(error)) if !is_last => {
                faults.push(finding(segment.file, Fault::Footer(*error)));
            }
            (Ok(_), _) => {}
        }
    }
    for checkpoint in &info.checkpoints {
        if let Err(fault) = &checkpoint.trailer {
            faults.push(finding(checkpoint.file, *fault));
        }
    }
    faults
}

/// A line about the log, and one for each fault that is more than a note.
fn judge(dir: &Path, names: &Names, summary: String, faults: &[LogFinding]) -> Vec<Finding> {
    const CHECK: &str = "log";
    let mut findings = vec![ok(CHECK, summary)];
    let bad: Vec<&LogFinding> = faults
        .iter()
        .filter(|fault| fault.fault.severity() > LogSeverity::Note)
        .collect();
    for fault in bad.iter().take(FAULTS_MAX) {
        let mut found = format!("{}: {}", place(fault), fault.fault);
        if let Some(closed) = closed(fault, names) {
            found.push_str(&format!("; {closed}"));
        }
        findings.push(Finding {
            severity: match fault.fault.severity() {
                LogSeverity::Loss => Severity::Fatal,
                _ => Severity::Warn,
            },
            ..fatal(CHECK, found, fix(&fault.fault, dir, fault.file))
        });
    }
    if bad.len() > FAULTS_MAX {
        let more = bad.len() - FAULTS_MAX;
        let worst = bad[FAULTS_MAX..].iter().map(|fault| fault.fault.severity());
        findings.push(Finding {
            severity: match worst.max() {
                Some(LogSeverity::Loss) => Severity::Fatal,
                _ => Severity::Warn,
            },
            ..fatal(
                CHECK,
                format!("{more} more faults"),
                format!(
                    "`pinion log verify --data-dir {}` names them all",
                    dir.display()
                ),
            )
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use pinion_commitlog::FileId;

    use super::*;

    fn fault(fault: Fault) -> LogFinding {
        LogFinding {
            file: FileId::Segment {
                log: LogId(1),
                number: 4,
            },
            offset: 4096,
            len: 0,
            fault,
            partitions: Some(Vec::new()),
        }
    }

    fn judged(faults: &[LogFinding]) -> Vec<Finding> {
        judge(
            Path::new("d"),
            &Names::default(),
            "log 1".to_owned(),
            faults,
        )
    }

    #[test]
    fn lost_data_is_named_by_segment_and_byte_and_what_a_crash_leaves_is_not() {
        let findings = judged(&[
            fault(Fault::Torn { missing: 3 }),
            fault(Fault::Missing { next: 8192 }),
        ]);
        assert_eq!(findings.len(), 2);
        assert!(findings[1].is_fatal());
        let found = &findings[1].found;
        assert!(
            found
                .starts_with("log-0001/00000000000000000004.segment byte 4096: a group is missing"),
            "{found}"
        );
    }

    #[test]
    fn many_faults_are_counted_and_stay_as_bad_as_they_are() {
        let many: Vec<_> = (0..30).map(|_| fault(Fault::Vanished)).collect();
        let findings = judged(&many);
        assert_eq!(findings.len(), 2 + FAULTS_MAX);
        let last = findings.last().expect("not empty");
        assert!(last.is_fatal() && last.found == "20 more faults");
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_fine() {
        let findings = check(Path::new("no-such-directory"), true);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].severity, Severity::Ok);
    }
}
