//! `pinion log inspect`.

use pinion_cli::human::{self, Align, Table};
use pinion_commitlog::FileId;
use pinion_commitlog::inspect::{self, CheckpointInfo, Fault, LogInfo, SegmentInfo, Severity};
use serde::Serialize;

use super::{Failure, Out, Sound};
use crate::data_dir::{View, log_name, path_of};

const SEGMENTS: Table = Table(&[
    ("SEGMENT", 8, Align::Right),
    ("BYTES", 11, Align::Right),
    ("GROUPS", 8, Align::Right),
    ("RECORDS", 10, Align::Right),
    ("FIRST LSN", 12, Align::Right),
    ("LAST LSN", 12, Align::Right),
    ("PARTITIONS", 10, Align::Right),
    ("INDEX", 7, Align::Right),
    ("CREATED", 24, Align::Left),
    ("STATE", 0, Align::Left),
]);

const CHECKPOINTS: Table = Table(&[
    ("CHECKPOINT", 10, Align::Right),
    ("BYTES", 11, Align::Right),
    ("STATES", 8, Align::Right),
    ("SEGMENTS", 8, Align::Right),
    ("REPLAY FROM", 12, Align::Right),
    ("CREATED", 24, Align::Left),
    ("STATE", 0, Align::Left),
]);

/// What a cell holds that nobody knows.
const UNKNOWN: &str = "-";

#[derive(Serialize)]
struct SegmentLine<'a> {
    event: &'static str,
    log: u16,
    segment: u64,
    file: String,
    bytes: u64,
    end: u64,
    groups: u64,
    records: u64,
    first_lsn: Option<u64>,
    last_lsn: u64,
    /// Partitions in the footer's summaries.
    partitions: Option<u32>,
    /// Entries of the footer's index.
    index: Option<u32>,
    created_ms: Option<u64>,
    sealed: bool,
    state: &'a str,
}

#[derive(Serialize)]
struct CheckpointLine<'a> {
    event: &'static str,
    log: u16,
    checkpoint: u64,
    file: String,
    bytes: u64,
    states: Option<u32>,
    segments: Option<u32>,
    replay_from: Option<u64>,
    created_ms: Option<u64>,
    complete: bool,
    state: &'a str,
}

#[derive(Serialize)]
struct ForeignLine<'a> {
    event: &'static str,
    log: u16,
    name: &'a str,
}

pub(super) fn run(view: &mut View, out: &mut Out) -> Result<Sound, Failure> {
    let mut sound = Sound::Yes;
    for log in view.logs.clone() {
        let info = inspect::list(&mut view.files, log)
            .map_err(|source| Failure::List { log: log.0, source })?;
        if !out.json {
            out.line("")?;
            out.line(summary(&log_name(log), &info))?;
            out.line(SEGMENTS.head())?;
        }
        for (at, segment) in info.segments.iter().enumerate() {
            let is_last = at + 1 == info.segments.len();
            if matches!(&segment.header, Err(fault) if fault.severity() == Severity::Loss) {
                sound = Sound::No;
            }
            print_segment(out, segment, is_last)?;
        }
        if !out.json && !info.checkpoints.is_empty() {
            out.line(CHECKPOINTS.head())?;
        }
        for checkpoint in &info.checkpoints {
            print_checkpoint(out, checkpoint)?;
        }
        for name in &info.foreign {
            if out.json {
                out.json(&ForeignLine {
                    event: "foreign",
                    log: log.0,
                    name,
                })?;
            } else {
                out.line(format_args!("{name} is not a file of a log; left alone"))?;
            }
        }
    }
    Ok(sound)
}

/// One line about a log.
pub(crate) fn summary(name: &str, info: &LogInfo) -> String {
    let segments = &info.segments;
    let files = segments.iter().map(|segment| segment.file_bytes);
    let states = info
        .checkpoints
        .iter()
        .map(|checkpoint| checkpoint.file_bytes);
    let bytes: u64 = files.chain(states).sum();
    let records: u64 = segments.iter().map(|segment| segment.records).sum();
    let last = segments.iter().map(|segment| segment.last_lsn.0).max();
    format!(
        "{name}: {}, {}, {}; {} up to LSN {}",
        human::count(segments.len() as u64, "segment"),
        human::count(info.checkpoints.len() as u64, "checkpoint"),
        human::bytes(bytes),
        human::count(records, "record"),
        last.unwrap_or(0)
    )
}

/// What a segment is, for people and for programs alike.
fn state_of_segment(segment: &SegmentInfo, is_last: bool) -> String {
    match (&segment.header, &segment.footer) {
        (Err(Fault::Unused), _) => "unused".to_owned(),
        (Err(fault), _) => fault.to_string(),
        (Ok(_), Ok(_)) => "sealed".to_owned(),
        (Ok(_), Err(_)) if is_last => "open".to_owned(),
        (Ok(_), Err(error)) => format!("no usable footer: {error}"),
    }
}

fn print_segment(out: &mut Out, segment: &SegmentInfo, is_last: bool) -> Result<(), Failure> {
    let (number, log) = number_of(segment.file);
    let state = state_of_segment(segment, is_last);
    let header = segment.header.as_ref().ok();
    let footer = segment.footer.as_ref().ok();
    let first_lsn = header.map(|header| header.chain.lsn.0);
    let created = header.map(|header| header.created.0);
    if out.json {
        return out.json(&SegmentLine {
            event: "segment",
            log,
            segment: number,
            file: path_of(segment.file),
            bytes: segment.file_bytes,
            end: segment.end,
            groups: segment.groups,
            records: segment.records,
            first_lsn,
            last_lsn: segment.last_lsn.0,
            partitions: footer.map(|footer| footer.summaries),
            index: footer.map(|footer| footer.entries),
            created_ms: created,
            sealed: footer.is_some(),
            state: &state,
        });
    }
    let cell = |number: Option<u64>| number.map_or(UNKNOWN.to_owned(), |n| n.to_string());
    // The number of a record before the first is no record's.
    let has_records = header.is_some() && segment.records > 0;
    out.line(SEGMENTS.row(&[
        number.to_string(),
        segment.file_bytes.to_string(),
        segment.groups.to_string(),
        segment.records.to_string(),
        cell(first_lsn.filter(|_| has_records)),
        cell(Some(segment.last_lsn.0).filter(|_| has_records)),
        cell(footer.map(|footer| footer.summaries.into())),
        cell(footer.map(|footer| footer.entries.into())),
        created.map_or(UNKNOWN.to_owned(), human::time),
        state,
    ]))
}

fn print_checkpoint(out: &mut Out, checkpoint: &CheckpointInfo) -> Result<(), Failure> {
    let (number, log) = number_of(checkpoint.file);
    let trailer = checkpoint.trailer.as_ref().ok();
    let state = match &checkpoint.trailer {
        Ok(_) => "complete".to_owned(),
        Err(fault) => fault.to_string(),
    };
    let created = checkpoint
        .header
        .as_ref()
        .ok()
        .map(|header| header.created.0);
    if out.json {
        return out.json(&CheckpointLine {
            event: "checkpoint",
            log,
            checkpoint: number,
            file: path_of(checkpoint.file),
            bytes: checkpoint.file_bytes,
            states: trailer.map(|trailer| trailer.entries),
            segments: trailer.map(|trailer| trailer.segments),
            replay_from: trailer.map(|trailer| trailer.replay_from.0),
            created_ms: created,
            complete: trailer.is_some(),
            state: &state,
        });
    }
    let cell = |number: Option<u64>| number.map_or(UNKNOWN.to_owned(), |n| n.to_string());
    out.line(CHECKPOINTS.row(&[
        number.to_string(),
        checkpoint.file_bytes.to_string(),
        cell(trailer.map(|trailer| trailer.entries.into())),
        cell(trailer.map(|trailer| trailer.segments.into())),
        cell(trailer.map(|trailer| trailer.replay_from.0)),
        created.map_or(UNKNOWN.to_owned(), human::time),
        state,
    ]))
}

/// Number and log of a file.
pub(super) const fn number_of(file: FileId) -> (u64, u16) {
    match file {
        FileId::Segment { log, number } | FileId::Checkpoint { log, number } => (number, log.0),
    }
}
