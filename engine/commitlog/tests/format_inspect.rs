//! What people are told of a log's files: everything when they are sound, and
//! each fault by file and byte when they are not.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;

use pinion_commitlog::format::{
    Chain, CheckpointHeader, CheckpointWriter, FooterWriter, FormatError, GroupWriter, RecordFlags,
    SECTOR, SegmentHeader, SegmentRef, Summary,
};
use pinion_commitlog::inspect::{Fault, Finding, Severity, VerifyReport, dump, list, verify};
use pinion_commitlog::{
    BLOCK, BlockBuf, CONTROL, DiskError, FileId, Files, LogId, Lsn, RecordHead, SEGMENT_REMOVED,
};
use pinion_types::{PartitionId, ResourceId, WallMs};

const LOG: LogId = LogId(2);
const STORE: [u8; 16] = *b"the test's store";
const SEGMENT_BYTES: usize = 64 * BLOCK;

/// Files in memory; one may refuse to be read.
#[derive(Clone, Default)]
struct Memory {
    files: BTreeMap<FileId, Vec<u8>>,
    foreign: Vec<String>,
    unreadable: Option<FileId>,
}

impl Files for Memory {
    fn list(&mut self, log: LogId) -> Result<(Vec<(FileId, u64)>, Vec<String>), DiskError> {
        assert_eq!(log, LOG);
        // In another order than by number.
        let files = self.files.iter().rev();
        let named = files.map(|(file, bytes)| (*file, bytes.len() as u64));
        Ok((named.collect(), self.foreign.clone()))
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        if self.unreadable == Some(file) {
            return Err(DiskError::Io { errno: 5 });
        }
        let bytes = &self.files[&file];
        let from = (offset as usize).min(bytes.len());
        // A disk may give less than asked.
        let len = into.len().min(bytes.len() - from).min(3 * BLOCK);
        into[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }
}

fn segment_file(number: u64) -> FileId {
    FileId::Segment { log: LOG, number }
}

fn checkpoint_file(number: u64) -> FileId {
    FileId::Checkpoint { log: LOG, number }
}

/// Writes segments as a log does.
struct Build {
    disk: Memory,
    chain: Chain,
    header: SegmentHeader,
    bytes: Vec<u8>,
    at: u32,
    groups: u32,
    records: u32,
}

impl Build {
    fn new() -> Self {
        let mut build = Self {
            disk: Memory::default(),
            chain: Chain::START,
            header: SegmentHeader {
                store: STORE,
                log: LOG,
                number: 0,
                salt: 0,
                chain: Chain::START,
                segment_bytes: SEGMENT_BYTES as u64,
                created: WallMs(7),
            },
            bytes: Vec::new(),
            at: 0,
            groups: 0,
            records: 0,
        };
        build.open();
        build
    }

    fn open(&mut self) {
        self.header.number += 1;
        self.header.salt = 1000 + self.header.number;
        self.header.chain = self.chain;
        self.bytes = self.header.encode().to_vec();
        self.bytes.resize(SEGMENT_BYTES, 0);
        (self.at, self.groups, self.records) = (BLOCK as u32, 0, 0);
    }

    /// A group of these records; gives the byte where it lies.
    fn group(&mut self, records: &[(RecordHead, &[u8])]) -> u64 {
        let at = self.at;
        let buffer = BlockBuf::zeroed(0);
        let mut group = GroupWriter::begin(buffer, self.header.key(), at, self.chain);
        for (head, body) in records {
            let flags = RecordFlags::default();
            group.push(head, flags, &[b"ext"], &[body]).unwrap();
        }
        let group = group.finish();
        let end = group.header.end();
        self.bytes[at as usize..end as usize].copy_from_slice(group.buffer.as_slice());
        self.at = end;
        self.groups += 1;
        self.records += records.len() as u32;
        self.chain = group.header.next();
        at.into()
    }

    fn seal(&mut self) {
        let mut footer = FooterWriter::new();
        footer.partition(&Summary {
            resource: ResourceId(1),
            partition: PartitionId(0),
            first: 0,
            end: 0,
            first_timestamp: 0,
            last_timestamp: 0,
            bytes: 0,
            records: self.records,
            retained: 0,
            index_first: 0,
            index_count: 0,
            index_crc: 0,
            carried: false,
        });
        let footer = footer.finish(self.header.key(), self.at, self.chain, self.groups);
        self.bytes.truncate(self.at as usize);
        self.bytes.extend_from_slice(footer.as_slice());
        self.keep();
        self.open();
    }

    fn keep(&mut self) {
        let file = segment_file(self.header.number);
        self.disk.files.insert(file, self.bytes.clone());
    }

    fn checkpoint(&mut self, number: u64, segments: &[u64]) {
        let header = CheckpointHeader {
            store: STORE,
            log: LOG,
            number,
            salt: 5,
            created: WallMs(8),
        };
        let segments: Vec<_> = segments
            .iter()
            .map(|number| SegmentRef {
                number: *number,
                salt: 1000 + number,
                first_lsn: 1,
            })
            .collect();
        let mut writer = CheckpointWriter::new(header);
        for partition in 0..3 {
            let name = (ResourceId(4), PartitionId(partition));
            writer.add(name, 1, Lsn(2), &[0x55; 5000]).unwrap();
        }
        let mut bytes = Vec::new();
        for (at, piece) in writer.finish(Lsn(3), &segments).unwrap() {
            assert_eq!(at, bytes.len() as u64);
            bytes.extend_from_slice(piece.as_slice());
        }
        self.disk.files.insert(checkpoint_file(number), bytes);
    }
}

fn head(resource: u64) -> RecordHead {
    RecordHead {
        resource: ResourceId(resource),
        partition: PartitionId(0),
        kind: 1,
        first: 0,
        count: 1,
        epoch: 0,
        timestamp: WallMs(1),
    }
}

fn removed(segment: u64) -> RecordHead {
    RecordHead {
        resource: CONTROL,
        kind: SEGMENT_REMOVED,
        first: segment,
        count: 0,
        ..head(0)
    }
}

/// Two sealed segments and one in use; the places of the first one's groups.
fn three_segments() -> (Build, [u64; 3]) {
    let mut build = Build::new();
    let large = vec![0xab; 10_000];
    let places = [
        build.group(&[(head(1), b"a"), (head(2), b"b")]),
        build.group(&[(head(3), &large)]),
        build.group(&[(head(4), b"d"), (head(5), b"e"), (head(6), b"f")]),
    ];
    build.seal();
    build.group(&[(head(7), b"g")]);
    build.seal();
    build.group(&[(head(8), b"h")]);
    build.keep();
    (build, places)
}

fn verified(disk: &mut Memory) -> (VerifyReport, Vec<Finding>) {
    let mut found = Vec::new();
    let report = verify(disk, LOG, Some(STORE), &mut |finding| found.push(finding)).unwrap();
    (report, found)
}

/// The only fault of the log, and where.
fn only_fault(disk: &mut Memory) -> (FileId, u64, Fault) {
    let (report, found) = verified(disk);
    let [finding] = &found[..] else {
        panic!("{found:#?}");
    };
    let counts = (report.notes, report.derived, report.losses);
    let expected = match finding.fault.severity() {
        Severity::Note => (1, 0, 0),
        Severity::Derived => (0, 1, 0),
        Severity::Loss => (0, 0, 1),
    };
    assert_eq!(counts, expected, "{finding:?}");
    (finding.file, finding.offset, finding.fault)
}

fn flip(disk: &mut Memory, file: FileId, at: u64) {
    disk.files.get_mut(&file).unwrap()[at as usize] ^= 0x04;
}

/// Bodies and faults in the order of the dump.
fn dumped(disk: &mut Memory, from: u64) -> String {
    let mut text = String::new();
    for item in dump(disk, LOG, Lsn(from)).unwrap() {
        match item {
            Ok(record) => {
                assert_eq!(record.ext, b"ext");
                assert_eq!(record.location.len as usize, 64 + 3 + record.body.len());
                text.push(record.body[0] as char);
            }
            Err(finding) => text.push_str(&format!("<{:?}>", finding.fault.severity())),
        }
    }
    text
}

#[test]
fn a_sound_log_is_listed_verified_and_dumped() {
    let (mut build, places) = three_segments();
    build.checkpoint(9, &[1, 2, 3]);
    let mut disk = build.disk;
    disk.foreign.push("notes.txt".to_owned());

    let info = list(&mut disk, LOG).unwrap();
    let facts: Vec<_> = info
        .segments
        .iter()
        .map(|segment| {
            assert_eq!(segment.header.unwrap().store, STORE);
            let sealed = segment.footer.is_ok();
            (sealed, segment.groups, segment.records, segment.last_lsn.0)
        })
        .collect();
    assert_eq!(facts, [(true, 3, 6, 6), (true, 1, 1, 7), (false, 1, 1, 8)]);
    assert_eq!(info.segments[2].end, 2 * BLOCK as u64);
    assert_eq!(info.checkpoints[0].trailer.unwrap().entries, 3);
    assert_eq!(info.foreign, ["notes.txt"]);

    let (report, found) = verified(&mut disk);
    assert_eq!(found, []);
    assert_eq!((report.segments, report.groups, report.records), (3, 5, 8));
    assert_eq!((report.checkpoints, report.states), (1, 3));
    let bytes: usize = disk.files.values().map(Vec::len).sum();
    assert_eq!(report.bytes, bytes as u64);

    assert_eq!(dumped(&mut disk, 0), "ab\u{ab}defgh");
    assert_eq!(dumped(&mut disk, 5), "efgh");
    assert_eq!(dumped(&mut disk, 8), "h");
    assert_eq!(dumped(&mut disk, 9), "");
    let first = dump(&mut disk, LOG, Lsn(1)).unwrap().next().unwrap();
    let first = first.unwrap();
    assert_eq!(u64::from(first.location.offset), places[0] + 64);
    assert_eq!((first.lsn, first.group), (Lsn(1), 1));
}

#[test]
fn a_harmed_body_is_named_with_its_partition_and_the_rest_is_read() {
    let (build, places) = three_segments();
    let mut disk = build.disk;
    let at = places[2] + 64 + 64 + 3; // The body "d".
    flip(&mut disk, segment_file(1), at);

    let (report, found) = verified(&mut disk);
    assert_eq!((report.groups, report.records, report.losses), (5, 7, 1));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].file, segment_file(1));
    let named = vec![(ResourceId(4), PartitionId(0))];
    assert_eq!(found[0].partitions, Some(named));
    assert!((places[2]..places[2] + BLOCK as u64).contains(&found[0].offset));
    assert!(matches!(found[0].fault, Fault::Damaged(_)));
    assert_eq!(dumped(&mut disk, 0), "ab\u{ab}<Loss>efgh");
}

#[test]
fn a_harmed_group_header_is_passed_over_to_the_next_group() {
    let (build, places) = three_segments();
    let mut disk = build.disk;
    flip(&mut disk, segment_file(1), places[1] + 8);
    let (file, offset, fault) = only_fault(&mut disk);
    assert_eq!((file, offset), (segment_file(1), places[1]));
    assert!(matches!(fault, Fault::Damaged(_)), "{fault}");
    assert_eq!(dumped(&mut disk, 0), "ab<Loss>defgh");
}

#[test]
fn a_group_that_was_zeroed_between_others_is_missing_and_at_the_end_the_log_is_shorter() {
    let (build, places) = three_segments();
    let sound = build.disk;

    let mut disk = sound.clone();
    let bytes = disk.files.get_mut(&segment_file(1)).unwrap();
    bytes[places[1] as usize..places[2] as usize].fill(0);
    let next = places[2];
    let expected = (segment_file(1), places[1], Fault::Missing { next });
    assert_eq!(only_fault(&mut disk), expected);

    let mut disk = sound;
    let bytes = disk.files.get_mut(&segment_file(1)).unwrap();
    bytes[places[2] as usize..places[2] as usize + BLOCK].fill(0);
    let missing = BLOCK as u64;
    let expected = (segment_file(1), places[2], Fault::Shortened { missing });
    assert_eq!(only_fault(&mut disk), expected);
}

#[test]
fn a_torn_tail_is_a_note_and_a_torn_group_before_others_is_a_loss() {
    let mut build = Build::new();
    build.group(&[(head(1), b"a")]);
    let torn = build.group(&[(head(2), &[7; 2000])]) as usize;
    build.bytes[torn + SECTOR..torn + 2 * SECTOR].fill(0);
    build.keep();
    let fault = Fault::Torn { missing: 1 };
    let expected = (segment_file(1), torn as u64, fault);
    assert_eq!(only_fault(&mut build.disk), expected);
    assert_eq!(dumped(&mut build.disk, 0), "a<Note>");

    let next = build.group(&[(head(3), b"c")]);
    build.keep();
    let expected = (segment_file(1), torn as u64, Fault::Missing { next });
    assert_eq!(only_fault(&mut build.disk), expected);
}

#[test]
fn a_footer_that_does_not_hold_costs_nothing_but_itself() {
    let (build, _) = three_segments();
    let sound = build.disk;
    let file = segment_file(1);
    let len = sound.files[&file].len() as u64;
    // Its trailer, and its summaries.
    for at in [len - BLOCK as u64 + 20, len - 2 * BLOCK as u64 + 520] {
        let mut disk = sound.clone();
        flip(&mut disk, file, at);
        let (found, _, fault) = only_fault(&mut disk);
        assert_eq!(found, file);
        assert!(matches!(fault, Fault::Footer(_)), "{fault}");
        assert_eq!(dumped(&mut disk, 0), "ab\u{ab}defgh");
    }
}

#[test]
fn headers_that_do_not_hold_foreign_stores_and_renamed_files_are_named() {
    let (build, _) = three_segments();
    let sound = build.disk;

    let mut disk = sound.clone();
    flip(&mut disk, segment_file(2), 33);
    let (file, _, fault) = only_fault(&mut disk);
    assert_eq!(file, segment_file(2));
    assert!(matches!(fault, Fault::Header(_)), "{fault}");

    let mut disk = sound.clone();
    let (one, two) = (segment_file(1), segment_file(2));
    let (a, b) = (disk.files[&one].clone(), disk.files[&two].clone());
    disk.files.extend([(one, b), (two, a)]);
    let (_, found) = verified(&mut disk);
    let faults: Vec<_> = found.iter().map(|finding| finding.fault).collect();
    let misplaced = |number| Fault::Misplaced { log: 2, number };
    assert_eq!(faults, [misplaced(2), misplaced(1)]);

    let mut disk = sound;
    let mut found = Vec::new();
    verify(&mut disk, LOG, Some([9; 16]), &mut |finding| {
        found.push(finding.fault);
    })
    .unwrap();
    assert_eq!(found, [Fault::ForeignStore { found: STORE }; 3]);
}

#[test]
fn a_missing_segment_is_noticed_unless_a_record_says_that_it_was_removed() {
    let (mut build, _) = three_segments();
    let without = |build: &Build| {
        let mut disk = build.disk.clone();
        disk.files.remove(&segment_file(2));
        disk
    };
    let vanished = (segment_file(2), 0, Fault::Vanished);
    assert_eq!(only_fault(&mut without(&build)), vanished);

    // The oldest ones too, when a checkpoint has seen them.
    let mut disk = build.disk.clone();
    disk.files.remove(&segment_file(1));
    assert_eq!(verified(&mut disk).1, []);
    let mut seen = build.clone_with_checkpoint(&[1, 2, 3]);
    seen.files.remove(&segment_file(1));
    let first = (segment_file(1), 0, Fault::Vanished);
    assert_eq!(only_fault(&mut seen), first);

    // A checkpoint that was made after the removal explains it as well.
    let mut disk = build.clone_with_checkpoint(&[1, 3]);
    disk.files.remove(&segment_file(2));
    assert_eq!(verified(&mut disk).1, []);

    build.group(&[(removed(2), b"")]);
    build.keep();
    assert_eq!(verified(&mut without(&build)).1, []);
}

impl Build {
    fn clone_with_checkpoint(&mut self, segments: &[u64]) -> Memory {
        let kept = self.disk.clone();
        self.checkpoint(1, segments);
        std::mem::replace(&mut self.disk, kept)
    }
}

#[test]
fn a_segment_of_another_history_does_not_continue_the_one_before() {
    let (build, _) = three_segments();
    let mut disk = build.disk;
    // A segment 3 that was written after another group than the one that is there.
    let mut other = Build::new();
    other.group(&[(head(1), b"other")]);
    other.seal();
    other.seal();
    other.group(&[(head(1), b"history")]);
    other.keep();
    let file = segment_file(3);
    disk.files.insert(file, other.disk.files[&file].clone());
    let (found, _, fault) = only_fault(&mut disk);
    assert_eq!(found, file);
    assert!(matches!(fault, Fault::Chain(_)), "{fault}");
}

#[test]
fn prepared_segments_and_unfinished_checkpoints_are_notes() {
    let (mut build, _) = three_segments();
    build
        .disk
        .files
        .insert(segment_file(4), vec![0; SEGMENT_BYTES]);
    let expected = (segment_file(4), 0, Fault::Unused);
    assert_eq!(only_fault(&mut build.disk), expected);
    assert_eq!(dumped(&mut build.disk, 8), "h");
    build.disk.files.remove(&segment_file(4));

    build.checkpoint(1, &[1, 2, 3]);
    let file = checkpoint_file(1);
    let whole = build.disk.files[&file].clone();
    for len in [0, BLOCK, whole.len() - BLOCK] {
        build.disk.files.insert(file, whole[..len].to_vec());
        let expected = (file, 0, Fault::Unfinished);
        assert_eq!(only_fault(&mut build.disk), expected, "{len}");
    }
}

#[test]
fn an_empty_file_that_was_used_is_a_loss_and_no_prepared_segment() {
    let (mut build, _) = three_segments();
    let disk = &mut build.disk;
    let blank = |fault: Fault| matches!(fault, Fault::Header(FormatError::Blank { .. }));
    // Cut to nothing or zeroed, others continue it.
    for (bytes, number) in [(0, 1), (0, 2), (SEGMENT_BYTES, 2)] {
        let file = segment_file(number);
        let whole = disk.files.insert(file, vec![0; bytes]).unwrap();
        let (found, at, fault) = only_fault(disk);
        assert_eq!((found, at), (file, 0));
        assert!(blank(fault), "{fault}");
        let listed = list(disk, LOG).unwrap().segments;
        let at = usize::try_from(number).unwrap() - 1;
        assert!(listed[at].header.is_err_and(blank));
        assert!(dumped(disk, 0).contains("<Loss>"));
        disk.files.insert(file, whole);
    }
    // The newest has a group behind its lost header.
    disk.files.get_mut(&segment_file(3)).unwrap()[..BLOCK].fill(0);
    let (found, _, fault) = only_fault(disk);
    assert!(found == segment_file(3) && blank(fault), "{fault}");
}

#[test]
fn no_byte_of_a_checkpoint_changes_unseen() {
    let mut build = Build::new();
    build.keep();
    build.checkpoint(1, &[1]);
    let file = checkpoint_file(1);
    let mut disk = build.disk;
    for at in (0..disk.files[&file].len()).step_by(37) {
        flip(&mut disk, file, at as u64);
        let (report, found) = verified(&mut disk);
        assert_eq!(found.len(), 1, "byte {at}: {report:?}");
        flip(&mut disk, file, at as u64);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_others_are_verified() {
    let (build, _) = three_segments();
    let mut disk = build.disk;
    disk.unreadable = Some(segment_file(2));
    let error = DiskError::Io { errno: 5 };
    let expected = (segment_file(2), 0, Fault::Unreadable(error));
    assert_eq!(only_fault(&mut disk), expected);
    assert_eq!(verified(&mut disk).0.segments, 2);
}
