//! `pinion log verify`, and what to say and do about a finding.

use std::cell::RefCell;
use std::path::Path;

use pinion_cli::human;
use pinion_cli::progress::Progress;
use pinion_commitlog::format::FormatError;
use pinion_commitlog::inspect::{self, Fault, Finding, Severity, VerifyReport};
use pinion_commitlog::{DiskError, FileId, LogId};
use pinion_plane::AUDIT_LOG;
use pinion_raft_group::RAFT_LOG;
use pinion_types::{PartitionId, ResourceId};
use serde::Serialize;

use super::list::number_of;
use super::{Failure, Out, Sound};
use crate::data_dir::{View, Watched, is_control, log_name, path_of};
use crate::identity::hex;
use crate::meta::META_LOG;
use crate::names::Names;

/// Partitions named in one line; more are counted.
const NAMED_MAX: usize = 6;

#[derive(Serialize)]
struct FindingLine {
    event: &'static str,
    log: u16,
    file: String,
    number: u64,
    offset: u64,
    bytes: u64,
    severity: &'static str,
    what: String,
    /// `None`: any of the log may be harmed.
    partitions: Option<Vec<PartitionLine>>,
    fix: String,
}

#[derive(Serialize)]
struct PartitionLine {
    resource: String,
    id: u64,
    partition: u16,
}

#[derive(Serialize)]
struct LogLine {
    event: &'static str,
    log: u16,
    segments: u64,
    groups: u64,
    records: u64,
    checkpoints: u64,
    states: u64,
    bytes: u64,
    notes: u64,
    derived: u64,
    losses: u64,
}

pub(super) fn run(view: &mut View, out: &mut Out) -> Result<Sound, Failure> {
    let store = view.store();
    let total = view.bytes();
    // The bar moves while files are read and stands aside while findings are
    // printed; both happen inside one call.
    let progress = RefCell::new(Progress::of_bytes(Some(total)));
    let mut read = 0;
    let mut all = VerifyReport::default();
    for log in view.logs.clone() {
        let mut advance = |bytes| {
            read += bytes;
            progress.borrow_mut().set(read);
        };
        let mut files = Watched {
            files: &mut view.files,
            progress: &mut advance,
        };
        let mut printed = Ok(());
        let mut found = |finding: Finding| {
            if printed.is_ok() {
                progress.borrow().suspend(|| {
                    printed = print(out, &view.dir, &view.names, &finding);
                });
            }
        };
        let report = inspect::verify(&mut files, log, store, &mut found)
            .map_err(|source| Failure::List { log: log.0, source })?;
        printed?;
        add(&mut all, &report);
        let mut concluded = Ok(());
        progress
            .borrow()
            .suspend(|| concluded = conclude(out, log, &report));
        concluded?;
    }
    drop(progress);
    if !out.json {
        let read = human::bytes(all.bytes);
        out.line(match (all.losses, view.logs.len()) {
            (_, 0) => "no logs: nothing durable was ever declared here".to_owned(),
            (0, _) => format!("sound: {read} verified"),
            (losses, _) => format!(
                "DAMAGED: {} of {read}; restore what is named above, then verify again",
                human::count(losses, "place")
            ),
        })?;
    }
    Ok(if all.losses > 0 {
        Sound::No
    } else {
        Sound::Yes
    })
}

fn add(all: &mut VerifyReport, one: &VerifyReport) {
    all.bytes += one.bytes;
    all.losses += one.losses;
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Derived => "derived",
        Severity::Loss => "loss",
    }
}

fn print(out: &mut Out, dir: &Path, names: &Names, finding: &Finding) -> Result<(), Failure> {
    let severity = finding.fault.severity();
    if out.json {
        let (number, log) = number_of(finding.file);
        out.json(&FindingLine {
            event: "finding",
            log,
            file: path_of(finding.file),
            number,
            offset: finding.offset,
            bytes: finding.len,
            severity: word(severity),
            what: finding.fault.to_string(),
            // Of the control plane's logs these are no partitions of a resource.
            partitions: harmed_of(finding).map(|harmed| {
                let line = |(id, partition): &(ResourceId, PartitionId)| PartitionLine {
                    resource: names.resource(*id),
                    id: id.0,
                    partition: partition.0,
                };
                harmed.iter().map(line).collect()
            }),
            fix: fix(&finding.fault, dir, finding.file),
        })?;
        return out.flush();
    }
    let word = match severity {
        Severity::Loss => "LOSS",
        Severity::Derived => "derived",
        Severity::Note => "note",
    };
    out.line(format_args!("{word:<8}{}", place(finding)))?;
    out.line(format_args!("        {}", finding.fault))?;
    if let Some(closed) = closed(finding, names) {
        out.line(format_args!("        {closed}"))?;
    }
    let fix = fix(&finding.fault, dir, finding.file);
    out.line(format_args!("        fix: {fix}"))?;
    // Whoever waits for a long run sees at once what it found.
    out.flush()
}

/// The file and the bytes.
pub(crate) fn place(finding: &Finding) -> String {
    let mut place = format!("{} byte {}", path_of(finding.file), finding.offset);
    if finding.len > 0 {
        place.push_str(&format!(" ({} bytes)", finding.len));
    }
    place
}

/// The partitions it is known to concern; `None`: any of the log.
fn harmed_of(finding: &Finding) -> Option<&Vec<(ResourceId, PartitionId)>> {
    let partitions = finding.partitions.as_ref();
    partitions.filter(|_| !is_control(finding.file.log()))
}

/// Which partitions nobody reads or writes because of it.
pub(crate) fn closed(finding: &Finding, names: &Names) -> Option<String> {
    if finding.fault.severity() != Severity::Loss {
        return None;
    }
    let log = finding.file.log();
    match log {
        RAFT_LOG => return Some("a node does not start without its metadata".to_owned()),
        AUDIT_LOG => return Some("rows of the audit log are lost".to_owned()),
        META_LOG => {
            let when = "needed once, where its resources are not in the metadata yet";
            return Some(when.to_owned());
        }
        _ => {}
    }
    let everyone;
    let (harmed, verb) = match &finding.partitions {
        Some(harmed) if harmed.is_empty() => return None,
        Some(harmed) => (harmed, "closes"),
        None => {
            everyone = names.of_log(log);
            (&everyone, "closes every partition of the log:")
        }
    };
    let named: Vec<String> = harmed
        .iter()
        .take(NAMED_MAX)
        .map(|(id, partition)| names.partition(*id, *partition))
        .collect();
    let mut closed = format!("{verb} {}", named.join(", "));
    if harmed.len() > NAMED_MAX {
        closed.push_str(&format!(" and {} more", harmed.len() - NAMED_MAX));
    }
    Some(closed)
}

/// What to do about it.
pub(crate) fn fix(fault: &Fault, dir: &Path, file: FileId) -> String {
    let path = dir.join(path_of(file));
    let path = path.display();
    match fault {
        _ if fault.severity() == Severity::Note => {
            "nothing: the next start clears it away".to_owned()
        }
        _ if fault.severity() == Severity::Derived => {
            "nothing: the next start makes it anew from the records".to_owned()
        }
        Fault::Header(FormatError::Version { .. })
        | Fault::Damaged(FormatError::Version { .. }) => {
            "use the release that wrote it, or a later one".to_owned()
        }
        Fault::ForeignStore { found } => format!(
            "it belongs into the directory of store {}; restore this store's own {path} from a backup",
            hex(found)
        ),
        Fault::Misplaced { log, number } => {
            let own = match file {
                FileId::Segment { .. } => FileId::Segment {
                    log: LogId(*log),
                    number: *number,
                },
                FileId::Checkpoint { .. } => FileId::Checkpoint {
                    log: LogId(*log),
                    number: *number,
                },
            };
            format!(
                "it is {}: stop the node and put it back there; restore {path} from a backup if it was overwritten",
                path_of(own)
            )
        }
        Fault::Unreadable(DiskError::Io { .. }) => format!(
            "the disk does not give it, `dmesg` says why: stop the node and restore {path} from a backup, onto another disk if this one fails"
        ),
        _ => format!(
            "stop the node, restore {path} from a backup and verify again; without one its partitions stay closed, all others work"
        ),
    }
}

fn conclude(out: &mut Out, log: LogId, report: &VerifyReport) -> Result<(), Failure> {
    if out.json {
        out.json(&LogLine {
            event: "log",
            log: log.0,
            segments: report.segments,
            groups: report.groups,
            records: report.records,
            checkpoints: report.checkpoints,
            states: report.states,
            bytes: report.bytes,
            notes: report.notes,
            derived: report.derived,
            losses: report.losses,
        })?;
    } else {
        out.line(sentence(log, report))?;
    }
    out.flush()
}

/// What was read of a log, and how much of it does not hold.
pub(crate) fn sentence(log: LogId, report: &VerifyReport) -> String {
    let mut text = format!(
        "{}: {}, {}, {} and {} with {} hold",
        log_name(log),
        human::count(report.segments, "segment"),
        human::count(report.groups, "group"),
        human::count(report.records, "record"),
        human::count(report.checkpoints, "checkpoint"),
        human::count(report.states, "state"),
    );
    for (count, what) in [
        (report.losses, "place damaged"),
        (report.derived, "to be made anew"),
        (report.notes, "for the next start to clear away"),
    ] {
        if count > 0 {
            text.push_str(&format!("; {count} {what}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId::Segment {
        log: LogId(3),
        number: 7,
    };

    fn fix_of(fault: Fault) -> String {
        fix(&fault, Path::new("/data"), FILE)
    }

    #[test]
    fn what_to_do_depends_on_what_happened() {
        let backup = "restore /data/log-0003/00000000000000000007.segment from a backup";
        assert!(fix_of(Fault::Vanished).contains(backup));
        assert!(fix_of(Fault::Unreadable(DiskError::Io { errno: 5 })).contains("dmesg"));
        let elsewhere = fix_of(Fault::Misplaced { log: 1, number: 2 });
        assert!(elsewhere.contains("it is log-0001/00000000000000000002.segment"));
        let foreign = fix_of(Fault::ForeignStore { found: [0xab; 16] });
        assert!(foreign.contains(&"ab".repeat(16)), "{foreign}");
        assert!(foreign.contains("restore this store's own /data/log-0003/"));
        assert!(fix_of(Fault::Torn { missing: 1 }).starts_with("nothing"));
        assert!(fix_of(Fault::Unfinished).starts_with("nothing"));
    }

    #[test]
    fn a_finding_names_its_file_and_its_bytes() {
        let mut finding = Finding {
            file: FILE,
            offset: 8192,
            len: 0,
            fault: Fault::Vanished,
            partitions: Some(Vec::new()),
        };
        assert_eq!(
            place(&finding),
            "log-0003/00000000000000000007.segment byte 8192"
        );
        finding.len = 512;
        assert!(place(&finding).ends_with("byte 8192 (512 bytes)"));
        assert_eq!(
            closed(&finding, &Names::default()),
            None,
            "nobody is harmed"
        );
    }
}
