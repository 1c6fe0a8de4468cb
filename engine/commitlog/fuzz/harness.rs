//! What every target checks: no bytes make a decoder panic or allocate beyond
//! them; whatever decodes encodes to the bytes it came from; what was changed
//! does not pass.
//!
//! A checksum stops almost every input at the door, so each input is also read
//! with its checksums made right: then what is refused is refused for what it
//! says.

#![allow(dead_code)] // Each target uses its part.

use std::collections::BTreeMap;

use pinion_commitlog::format::{
    CheckpointHeader, CheckpointTrailer, Directory, FormatError, GROUP_HEADER, GROUP_TAIL, Group,
    GroupHeader, GroupVerdict, GroupWriter, RECORD_HEADER, RecordHeader, SECTOR, SegmentHeader,
    SegmentKey, Structure, check_group, decode_entries, decode_footer, decode_record,
    decode_trailer, salted_crc,
};
use pinion_commitlog::inspect::{dump, list, verify};
use pinion_commitlog::{BLOCK, BlockBuf, DiskError, FileId, Files, LogId, Lsn};

const KEY: SegmentKey = SegmentKey {
    number: 7,
    salt: 0x1122_3344_5566_7788,
};
/// Where the committed groups and records lie.
const OFFSET: u32 = 8192;
/// Inputs are cut here: what is beyond says nothing new.
const BYTES_MAX: usize = 64 << 10;

/// The bytes in whole blocks, at least one.
fn blocks(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes[..bytes.len().min(BYTES_MAX)].to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK).max(BLOCK), 0);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

/// Makes a sealed sector's magic, version, flags and checksum right.
fn seal(sector: &mut [u8], magic: &[u8; 8], salt: Option<u64>) {
    put(sector, 0, magic);
    put(sector, 8, &1u32.to_le_bytes());
    put(sector, 12, &0u32.to_le_bytes());
    let covered = &sector[..SECTOR - 4];
    let crc = match salt {
        Some(salt) => salted_crc(salt, &[covered]),
        None => crc32c::crc32c(covered),
    };
    put(sector, SECTOR - 4, &crc.to_le_bytes());
}

// ------------------------------------------------------------ segment header

pub fn segment_header(bytes: &[u8]) {
    one_segment_header(bytes);
    let mut bytes = blocks(bytes);
    seal(&mut bytes, b"PINIONSG", None);
    one_segment_header(&bytes);
}

fn one_segment_header(bytes: &[u8]) {
    match SegmentHeader::decode(bytes) {
        Ok(header) => assert_eq!(header.encode()[..], bytes[..BLOCK], "one encoding"),
        Err(error) => drop(error.to_string()),
    }
}

// -------------------------------------------------------------------- record

pub fn record(bytes: &[u8]) {
    one_record(bytes);
    let mut bytes = bytes[..bytes.len().min(BYTES_MAX)].to_vec();
    seal_record(&mut bytes, OFFSET + 64, KEY);
    one_record(&bytes);
}

/// Makes the checksums of the record at the start right; gives its length.
fn seal_record(bytes: &mut [u8], position: u32, key: SegmentKey) -> Option<usize> {
    let len = u32_at(bytes.get(..4)?, 0);
    let body = bytes.get(RECORD_HEADER..len)?;
    let crc = crc32c::crc32c(body);
    put(bytes, 56, &crc.to_le_bytes());
    let (number, position) = (key.number.to_le_bytes(), position.to_le_bytes());
    let crc = salted_crc(key.salt, &[&number, &position, &bytes[..60]]);
    put(bytes, 60, &crc.to_le_bytes());
    Some(len)
}

fn one_record(bytes: &[u8]) {
    let position = OFFSET + 64;
    match decode_record(KEY, position, bytes) {
        Ok(record) => {
            let header = RecordHeader::decode(bytes, KEY, position).expect("just decoded");
            assert_eq!(header.encode(KEY, position)[..], bytes[..RECORD_HEADER]);
            let len = record.location(7).len as usize;
            assert_eq!(len, header.len as usize);
            assert_eq!(bytes[len - record.body.len()..len], *record.body);
        }
        Err(error) => drop(error.to_string()),
    }
}

// --------------------------------------------------------------------- group

pub fn group(bytes: &[u8]) {
    // As it is, for any place.
    drop(check_group(KEY, OFFSET, bytes));
    let Some((plan, content)) = bytes.split_at_checked(8) else {
        return;
    };
    let mut sealed = blocks(content);
    seal_group(&mut sealed, OFFSET, KEY);
    if let GroupVerdict::Whole(group) = check_group(KEY, OFFSET, &sealed) {
        one_group(&group, &sealed);
    }
    spoiled_group(plan, content);
}

/// Makes what identifies a group and all of its checksums right, as far as its
/// lengths make sense.
fn seal_group(bytes: &mut [u8], offset: u32, key: SegmentKey) {
    put(bytes, 0, b"PGRP");
    let (len, records) = (u32_at(bytes, 4).min(bytes.len()), u32_at(bytes, 8));
    let (mut at, mut crcs) = (GROUP_HEADER, 0);
    for _ in 0..records {
        let Some(rest) = bytes.get_mut(at..len) else {
            break;
        };
        let Some(record) = seal_record(rest, offset + at as u32, key) else {
            break;
        };
        crcs = crc32c::crc32c_append(crcs, &rest[60..64]);
        at += record.next_multiple_of(8);
    }
    if let Some(tail) = len.checked_sub(GROUP_TAIL.len()).filter(|tail| *tail >= at) {
        put(bytes, tail, &GROUP_TAIL);
    }
    put(bytes, 20, &offset.to_le_bytes());
    put(bytes, 24, &key.number.to_le_bytes());
    put(bytes, 52, &crcs.to_le_bytes());
    put(bytes, 56, &0u32.to_le_bytes());
    let crc = salted_crc(key.salt, &[&bytes[..60]]);
    put(bytes, 60, &crc.to_le_bytes());
}

/// A group that holds is written again to the same bytes.
fn one_group(group: &Group<'_>, bytes: &[u8]) {
    let header = group.header;
    let mut writer = GroupWriter::begin(BlockBuf::zeroed(0), KEY, OFFSET, header.chain);
    for record in group.records() {
        let pushed = writer
            .push(&record.head, record.flags, &[record.ext], &[record.body])
            .expect("it was in a group before");
        assert_eq!(pushed.lsn, record.lsn);
        assert_eq!(pushed.location, record.location(KEY.number));
    }
    let mut again = writer.finish();
    assert_eq!(again.header.extent(), header.extent());
    // What it says of its sectors is used only when it does not hold; the
    // checksum of the header covers it.
    let same = (again.header.zero_sectors, again.header.light_sectors)
        == (header.zero_sectors, header.light_sectors);
    let from = if same { 0 } else { GROUP_HEADER };
    let extent = header.extent() as usize;
    assert_eq!(again.buffer.as_mut_slice()[from..], bytes[from..extent]);
}

/// A group of ours with lost sectors or a flipped bit is never whole, and a
/// flipped bit is never a torn tail.
fn spoiled_group(plan: &[u8], content: &[u8]) {
    let head = pinion_commitlog::RecordHead {
        resource: pinion_types::ResourceId(3),
        partition: pinion_types::PartitionId(1),
        kind: 1,
        first: 0,
        count: 1,
        epoch: 0,
        timestamp: pinion_types::WallMs(0),
    };
    let chain = pinion_commitlog::format::Chain::START;
    let mut writer = GroupWriter::begin(BlockBuf::zeroed(0), KEY, OFFSET, chain);
    let content = &content[..content.len().min(16 << 10)];
    for body in content.chunks(usize::from(plan[0]) * 32 + 1).take(64) {
        writer
            .push(&head, Default::default(), &[], &[body])
            .expect("it is small");
    }
    if writer.records() == 0 {
        return;
    }
    let mut group = writer.finish();
    let bytes = group.buffer.as_mut_slice();
    let place = usize::from(plan[2]) << 8 | usize::from(plan[3]);
    if plan[1] & 1 == 0 {
        let bit = place % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verdict = check_group(KEY, OFFSET, bytes);
        assert!(
            matches!(verdict, GroupVerdict::Damaged { .. }),
            "{verdict:?}"
        );
        return;
    }
    let (mut changed, mut heavy) = (false, false);
    for (at, sector) in bytes.chunks_mut(SECTOR).enumerate() {
        if place >> (at % 16) & 1 == 1 {
            let bits: u32 = sector.iter().map(|byte| byte.count_ones()).sum();
            changed |= bits > 0;
            heavy |= bits > 1;
            sector.fill(0);
        }
    }
    match check_group(KEY, OFFSET, bytes) {
        GroupVerdict::Whole(_) => assert!(!changed),
        GroupVerdict::Empty => assert!(place & 1 == 1),
        GroupVerdict::Torn { .. } => assert!(heavy),
        GroupVerdict::Damaged { .. } => assert!(changed && !heavy),
        verdict => panic!("{verdict:?}"),
    }
}

// -------------------------------------------------------------------- footer

pub fn footer(bytes: &[u8]) {
    let mut bytes = blocks(bytes);
    bytes.resize(bytes.len().max(2 * BLOCK), 0);
    one_footer(&bytes);
    let trailer = bytes.len() - BLOCK;
    let body = crc32c::crc32c(&bytes[SECTOR..trailer]);
    put(&mut bytes, 16, &KEY.number.to_le_bytes());
    put(&mut bytes, 44, &(1u32 << 30).to_le_bytes());
    put(&mut bytes, 64, &body.to_le_bytes());
    seal(&mut bytes[..SECTOR], b"PINIONFH", Some(KEY.salt));
    bytes.copy_within(..SECTOR, trailer);
    bytes[trailer + SECTOR..].fill(0);
    seal(&mut bytes[trailer..], b"PINIONFT", Some(KEY.salt));
    one_footer(&bytes);
}

fn one_footer(bytes: &[u8]) {
    let (body, last) = bytes.split_at(bytes.len() - BLOCK);
    let offset = u32_at(body, 44) as u64;
    let facts = match decode_trailer(KEY, offset + bytes.len() as u64, last) {
        Ok(facts) => facts,
        Err(error) => return drop(error.to_string()),
    };
    let Ok(footer) = decode_footer(KEY, &facts, bytes) else {
        return;
    };
    for summary in footer.summaries() {
        let found = footer.find(summary.resource, summary.partition);
        assert!(found.clone().any(|found| found == summary));
        let entries = footer.entries(&summary);
        assert_eq!(entries.len(), summary.index_count as usize);
        let at = facts.entries_at(summary.index_first, summary.index_count);
        let alone = &bytes[(at.start - offset) as usize..(at.end - offset) as usize];
        if let Ok(again) = decode_entries(summary.index_crc, alone) {
            assert!(again.eq(entries));
        }
    }
}

// ---------------------------------------------------------------- checkpoint

pub fn checkpoint(bytes: &[u8]) {
    let mut bytes = blocks(bytes);
    bytes.resize(bytes.len().max(3 * BLOCK), 0);
    let _ = one_checkpoint(&bytes);

    seal(&mut bytes[..SECTOR], b"PINIONCK", None);
    bytes[SECTOR..BLOCK].fill(0);
    bytes[58..SECTOR - 4].fill(0);
    seal(&mut bytes[..SECTOR], b"PINIONCK", None);
    let salt = u64::from_le_bytes(bytes[32..40].try_into().expect("eight bytes"));
    let (number, end) = (bytes[40..48].to_vec(), bytes.len() as u64);
    let last = bytes.len() - BLOCK;
    let at = u32_at(&bytes, last + 32).clamp(BLOCK, last);
    let len = last - at;
    let crc = crc32c::crc32c(&bytes[at..last]);
    let trailer = &mut bytes[last..];
    trailer[64..].fill(0);
    put(trailer, 16, &number);
    put(trailer, 32, &(at as u64).to_le_bytes());
    put(trailer, 40, &(len as u32).to_le_bytes());
    put(trailer, 44, &crc.to_le_bytes());
    put(trailer, 56, &end.to_le_bytes());
    seal(trailer, b"PINIONCT", Some(salt));
    match one_checkpoint(&bytes) {
        Ok(()) => {}
        Err(error) => {
            let text = error.to_string();
            let sealed = [Structure::CheckpointHeader, Structure::CheckpointTrailer]
                .iter()
                .any(|what| text.starts_with(&what.to_string()));
            assert!(!sealed, "header and trailer were made right: {text}");
        }
    }
}

fn one_checkpoint(bytes: &[u8]) -> Result<(), FormatError> {
    let header = CheckpointHeader::decode(bytes)?;
    assert_eq!(header.encode()[..], bytes[..BLOCK], "one encoding");
    let last = &bytes[bytes.len() - BLOCK..];
    let trailer = CheckpointTrailer::decode(&header, bytes.len() as u64, last)?;
    let at = trailer.directory();
    let directory = Directory::decode(&trailer, &bytes[at.start as usize..at.end as usize])?;
    for entry in &directory.entries {
        let at = entry.at as usize;
        let _ = entry.check(&header, &bytes[at..at + entry.len as usize]);
    }
    Ok(())
}

// ------------------------------------------------------------- files of a log

/// A segment, and what follows the first 0xfe 0xfe as a checkpoint.
pub fn log_files(bytes: &[u8]) {
    let split = bytes.windows(2).position(|pair| pair == [0xfe, 0xfe]);
    let (segment, checkpoint) = bytes.split_at(split.unwrap_or(bytes.len()));
    let log = LogId(3);
    let mut segment = segment[..segment.len().min(BYTES_MAX)].to_vec();
    for sealed in [false, true] {
        if sealed {
            segment = blocks(&segment);
            seal_segment(&mut segment);
        }
        let mut files = Memory(BTreeMap::from([
            (FileId::Segment { log, number: 7 }, segment.clone()),
            (FileId::Checkpoint { log, number: 1 }, checkpoint.to_vec()),
        ]));
        let mut found = 0;
        let report = verify(&mut files, log, None, &mut |finding| {
            drop(finding.fault.to_string());
            found += 1;
        })
        .expect("it can be listed");
        assert_eq!(report.notes + report.derived + report.losses, found);
        let info = list(&mut files, log).expect("it can be listed");
        assert_eq!(info.segments.len(), 1);
        let records = dump(&mut files, log, Lsn(0)).expect("it can be listed");
        let records = records.filter(Result::is_ok).count() as u64;
        assert_eq!(records, report.records);
    }
}

/// Makes the header and the groups right where they make any sense.
fn seal_segment(bytes: &mut [u8]) {
    put(bytes, 40, &7u64.to_le_bytes());
    put(bytes, 84, &3u16.to_le_bytes());
    bytes[86..SECTOR - 4].fill(0);
    bytes[SECTOR..BLOCK].fill(0);
    seal(&mut bytes[..SECTOR], b"PINIONSG", None);
    let Ok(header) = SegmentHeader::decode(bytes) else {
        return;
    };
    let mut at = BLOCK;
    while at < bytes.len() {
        let offset = at as u32;
        // Every other magic is left as it is, so that gaps and damage occur.
        if bytes[at..].starts_with(b"PG") {
            seal_group(&mut bytes[at..], offset, header.key());
        }
        at = match GroupHeader::decode(&bytes[at..], header.key(), offset) {
            Ok(group) => group.end() as usize,
            Err(_) => at + BLOCK,
        };
    }
}

struct Memory(BTreeMap<FileId, Vec<u8>>);

impl Files for Memory {
    fn list(&mut self, _: LogId) -> Result<(Vec<(FileId, u64)>, Vec<String>), DiskError> {
        let files = self
            .0
            .iter()
            .map(|(file, bytes)| (*file, bytes.len() as u64));
        Ok((files.collect(), Vec::new()))
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let bytes = self.0.get(&file).ok_or(DiskError::Missing)?;
        let from = (offset as usize).min(bytes.len());
        let len = into.len().min(bytes.len() - from);
        into[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }
}
