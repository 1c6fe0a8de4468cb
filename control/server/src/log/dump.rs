//! `pinion log dump`.

use pinion_cli::human::{self, Align, Table};
use pinion_commitlog::inspect::{self, DumpedRecord, Finding, Severity};
use pinion_commitlog::{CONTROL, LogId, Lsn, SEGMENT_REMOVED};
use pinion_domains::op::kind;
use pinion_domains::queue::ops;
use pinion_plane::AUDIT_LOG;
use pinion_raft_group::RAFT_LOG;
use pinion_raft_group::format::{KIND_ENTRY, KIND_HARD};
use pinion_types::{PartitionId, ResourceId};
use serde::Serialize;

use super::{Failure, Out, Sound, place};
use crate::data_dir::{View, is_control, path_of};
use crate::identity::hex;
use crate::meta::{KIND_DECLARED, META_LOG};
use crate::names::Names;

/// A row of the audit log (`docs/audit-format.md`).
const KIND_ROW: u8 = 220;

/// Which records.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DumpArgs {
    /// Begin with this record
    #[arg(
        long,
        value_name = "LSN",
        default_value_t = 0,
        hide_default_value = true
    )]
    from: u64,
    /// End after so many of each log
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only of this resource
    #[arg(long, value_name = "NS/NAME")]
    resource: Option<String>,
    /// Only of this partition
    #[arg(long, value_name = "P")]
    partition: Option<u16>,
    /// With extension and body, as hexadecimal digits
    #[arg(long)]
    bytes: bool,
}

const TABLE: Table = Table(&[
    ("LOG", 5, Align::Right),
    ("LSN", 10, Align::Right),
    ("GROUP", 8, Align::Right),
    ("SEGMENT:BYTE", 16, Align::Right),
    ("RESOURCE", 20, Align::Left),
    ("P", 4, Align::Right),
    ("KIND", 18, Align::Left),
    ("FIRST", 10, Align::Right),
    ("COUNT", 6, Align::Right),
    ("TIME", 24, Align::Left),
    ("EXT", 5, Align::Right),
    ("BODY", 8, Align::Right),
    ("FLAGS", 0, Align::Left),
]);

#[derive(Serialize)]
struct RecordLine<'a> {
    event: &'static str,
    log: u16,
    lsn: u64,
    group: u64,
    segment: u64,
    offset: u32,
    bytes: u32,
    resource: &'a str,
    resource_id: u64,
    partition: u16,
    kind: &'a str,
    first: u64,
    count: u32,
    epoch: u32,
    timestamp_ms: u64,
    carried: bool,
    retained: bool,
    ext_bytes: usize,
    body_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    ext: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

#[derive(Serialize)]
struct FindingLine {
    event: &'static str,
    log: u16,
    file: String,
    offset: u64,
    bytes: u64,
    what: String,
}

impl DumpArgs {
    pub(super) fn run(&self, view: &mut View, out: &mut Out) -> Result<Sound, Failure> {
        let only = match &self.resource {
            None => None,
            Some(name) => match view.names.called(name) {
                ids if ids.is_empty() => return Err(Failure::NoResource(name.clone())),
                ids => Some(ids),
            },
        };
        let mut sound = Sound::Yes;
        if !out.json {
            out.line(TABLE.head())?;
        }
        for log in view.logs.clone() {
            let records = inspect::dump(&mut view.files, log, Lsn(self.from))
                .map_err(|source| Failure::List { log: log.0, source })?;
            let mut left = self.limit.unwrap_or(u64::MAX);
            for record in records {
                if left == 0 {
                    break;
                }
                match record {
                    Ok(record) if self.wants(log, &record, only.as_deref()) => {
                        left -= 1;
                        self.print(out, &view.names, log, &record)?;
                    }
                    Ok(_) => {}
                    Err(finding) => {
                        if finding.fault.severity() == Severity::Loss {
                            sound = Sound::No;
                        }
                        report(out, &finding)?;
                    }
                }
            }
        }
        Ok(sound)
    }

    fn wants(&self, log: LogId, record: &DumpedRecord, only: Option<&[ResourceId]>) -> bool {
        let head = &record.head;
        // The control plane's logs have no resources: their numbers there are their own.
        only.is_none_or(|only| !is_control(log) && only.contains(&head.resource))
            && self
                .partition
                .is_none_or(|only| PartitionId(only) == head.partition)
    }

    fn print(
        &self,
        out: &mut Out,
        names: &Names,
        log: LogId,
        record: &DumpedRecord,
    ) -> Result<(), Failure> {
        let head = &record.head;
        let resource = if head.resource == CONTROL || is_control(log) {
            UNOWNED.to_owned()
        } else {
            names.resource(head.resource)
        };
        let kind = kind_name(log, head.resource, head.kind);
        if out.json {
            return out.json(&RecordLine {
                event: "record",
                log: log.0,
                lsn: record.lsn.0,
                group: record.group,
                segment: record.location.segment,
                offset: record.location.offset,
                bytes: record.location.len,
                resource: &resource,
                resource_id: head.resource.0,
                partition: head.partition.0,
                kind: &kind,
                first: head.first,
                count: head.count,
                epoch: head.epoch,
                timestamp_ms: head.timestamp.0,
                carried: record.flags.carried,
                retained: record.flags.retained,
                ext_bytes: record.ext.len(),
                body_bytes: record.body.len(),
                ext: self.bytes.then(|| hex(&record.ext)),
                body: self.bytes.then(|| hex(&record.body)),
            });
        }
        let flags = match (record.flags.carried, record.flags.retained) {
            (true, true) => "carried, retained",
            (true, false) => "carried",
            (false, true) => "retained",
            (false, false) => "",
        };
        out.line(TABLE.row(&[
            log.0.to_string(),
            record.lsn.0.to_string(),
            record.group.to_string(),
            format!("{}:{}", record.location.segment, record.location.offset),
            resource,
            head.partition.to_string(),
            kind,
            head.first.to_string(),
            head.count.to_string(),
            human::time(head.timestamp.0),
            record.ext.len().to_string(),
            record.body.len().to_string(),
            flags.to_owned(),
        ]))?;
        if self.bytes {
            for (name, bytes) in [("ext", &record.ext), ("body", &record.body)] {
                if !bytes.is_empty() {
                    out.line(format_args!("      {name:<4}  {}", hex(bytes)))?;
                }
            }
        }
        Ok(())
    }
}

/// The resource of records that are the log's own.
const UNOWNED: &str = "-";

/// What a record means to its domain, in a word.
fn kind_name(log: LogId, resource: ResourceId, number: u8) -> String {
    let name = match (resource == CONTROL, number) {
        (false, KIND_DECLARED) if log == META_LOG => "declared",
        (false, KIND_ENTRY) if log == RAFT_LOG => "raft_entry",
        (false, KIND_HARD) if log == RAFT_LOG => "raft_promise",
        (false, KIND_ROW) if log == AUDIT_LOG => "audit_row",
        (true, SEGMENT_REMOVED) => "segment_removed",
        (true, _) => "",
        (false, kind::STREAM_BLOCK) => "stream_block",
        (false, kind::STREAM_TRIM) => "stream_trim",
        (false, kind::STREAM_CURSOR) => "stream_cursor",
        (false, kind::RESOURCE_PURGED) => "resource_purged",
        (false, ops::PUT) => "queue_put",
        (false, ops::ACK) => "queue_ack",
        (false, ops::NACK) => "queue_nack",
        (false, ops::LAPSE) => "queue_lapse",
        (false, ops::DEAD) => "queue_dead",
        (false, ops::DROP) => "queue_drop",
        (false, ops::REPLAY) => "queue_replay",
        (false, ops::PURGE) => "queue_purge",
        (false, ops::GROUP_CREATE) => "queue_group_create",
        (false, ops::GROUP_DELETE) => "queue_group_delete",
        (false, ops::GROUP_LATEST) => "queue_group_latest",
        (false, ops::REDRIVE) => "queue_redrive",
        (false, _) => "",
    };
    if name.is_empty() {
        format!("kind {number}")
    } else {
        name.to_owned()
    }
}

/// What could not be read, where it would have stood.
fn report(out: &mut Out, finding: &Finding) -> Result<(), Failure> {
    if out.json {
        return out.json(&FindingLine {
            event: "finding",
            log: finding.file.log().0,
            file: path_of(finding.file),
            offset: finding.offset,
            bytes: finding.len,
            what: finding.fault.to_string(),
        });
    }
    out.flush()?;
    eprintln!("{}: {}", place(finding), finding.fault);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_the_word_of_its_domain_and_an_unknown_one_its_number() {
        let (log, stream) = (LogId(0), ResourceId(5));
        assert_eq!(kind_name(log, stream, kind::STREAM_BLOCK), "stream_block");
        assert_eq!(
            kind_name(log, stream, ops::GROUP_DELETE),
            "queue_group_delete"
        );
        assert_eq!(kind_name(log, CONTROL, SEGMENT_REMOVED), "segment_removed");
        assert_eq!(kind_name(META_LOG, stream, KIND_DECLARED), "declared");
        assert_eq!(kind_name(RAFT_LOG, stream, KIND_ENTRY), "raft_entry");
        assert_eq!(kind_name(log, stream, KIND_ENTRY), "kind 210");
        assert_eq!(kind_name(log, stream, KIND_DECLARED), "kind 200");
        assert_eq!(kind_name(log, stream, 99), "kind 99");
    }
}
