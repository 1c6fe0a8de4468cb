//! What is not opened: logs that say what cannot be. Each is written by hand, with
//! one thing wrong, and opens without it.

use crate::support::{CLUSTER, Node, ONE, config, disk};
use pinion_commitlog::{DiskDone, FileId, Log, LogConfig, LogEvent, RecordHead, RecordIn, recover};
use pinion_raft_group::format::{
    EntryBody, HardBody, KIND_ENTRY, KIND_HARD, RESOURCE, STATE_SNAPSHOT, STATE_TAIL,
    SnapshotState, TailState,
};
use pinion_raft_group::{Found, OpenError, RAFT_LOG};
use pinion_simkit::SimDisk;
use pinion_types::{Monotonic, PartitionId, ResourceId, WallMs};

/// What a log written by hand holds.
#[derive(Clone)]
struct Content {
    snapshot: Option<SnapshotState<'static>>,
    tail: Option<TailState<'static>>,
    records: Vec<(RecordHead, Vec<u8>)>,
}

fn body(term: u64) -> EntryBody<'static> {
    EntryBody {
        term,
        proposal: None,
        members: false,
        data: &[],
    }
}

fn head(kind: u8, first: u64, epoch: u32) -> RecordHead {
    RecordHead {
        resource: RESOURCE,
        partition: PartitionId(0),
        kind,
        first,
        count: 0,
        epoch,
        timestamp: WallMs(0),
    }
}

fn entry(index: u64, term: u32) -> (RecordHead, Vec<u8>) {
    let body = body(term.into()).head().to_vec();
    (head(KIND_ENTRY, index, term), body)
}

/// What was promised when the entries from 12 on were written.
fn hard(term: u32, vote: u64, commit: u64) -> (RecordHead, Vec<u8>) {
    hard_after(term, vote, commit, (11, 2))
}

fn hard_after(term: u32, vote: u64, commit: u64, after: (u64, u64)) -> (RecordHead, Vec<u8>) {
    let hard = HardBody {
        term: term.into(),
        vote,
        commit,
    };
    (head(KIND_HARD, commit, term), hard.encode(after).to_vec())
}

impl Content {
    /// A log that opens: a snapshot of entry 10, a tail of 8 to 11, and 12 and 13.
    fn sound() -> Self {
        let snapshot = SnapshotState {
            cluster: CLUSTER,
            member: ONE,
            index: 10,
            term: 2,
            voters: vec![1],
            learners: Vec::new(),
            machine: &[],
        };
        let tail = TailState {
            before: (7, 1),
            hard: HardBody {
                term: 2,
                vote: 1,
                commit: 10,
            },
            entries: vec![body(1), body(2), body(2), body(2)],
        };
        Self {
            snapshot: Some(snapshot),
            tail: Some(tail),
            records: vec![entry(12, 3), entry(13, 3), hard(3, 1, 11)],
        }
    }

    fn write(&self, seed: u64) -> SimDisk {
        let mut disk = disk(seed);
        let log_config = LogConfig {
            log: RAFT_LOG,
            store: config().store,
            segment_bytes: config().segment_bytes,
            ..LogConfig::default()
        };
        let mut log = recover(&mut disk, log_config, &mut |_| {}).unwrap().log;
        log.ready();
        let mut now = Monotonic::ZERO;
        if self.snapshot.is_some() || self.tail.is_some() {
            let as_of = log.appended();
            log.checkpoint_begin();
            for ((partition, domain), state) in [
                (
                    STATE_SNAPSHOT,
                    self.snapshot.as_ref().map(SnapshotState::encode),
                ),
                (STATE_TAIL, self.tail.as_ref().map(TailState::encode)),
            ] {
                if let Some(state) = state {
                    log.checkpoint_add(RESOURCE, partition, domain, as_of, &state);
                }
            }
            log.checkpoint_end();
            assert!(
                settle(&mut log, &mut disk, &mut now),
                "the checkpoint is done"
            );
        }
        for (head, body) in &self.records {
            let body = [&body[..]];
            let record = RecordIn {
                head: *head,
                ext: &[],
                body: &body,
                retain: false,
            };
            log.append(now, &[record]);
        }
        settle(&mut log, &mut disk, &mut now);
        assert_eq!(log.committed(), log.appended());
        disk
    }

    fn open(&self) -> Result<Node, OpenError> {
        Node::open(config(), self.write(1))
    }
}

/// Until the disk has nothing to do; whether a checkpoint was done.
fn settle(log: &mut Log, disk: &mut SimDisk, now: &mut Monotonic) -> bool {
    let mut checkpoint = false;
    loop {
        log.end_turn(*now);
        while let Some(request) = log.poll_request() {
            disk.submit(*now, request);
        }
        while let Some(event) = log.poll_event() {
            checkpoint |= matches!(event, LogEvent::CheckpointDone);
        }
        let Some(due) = disk.next_deadline() else {
            return checkpoint;
        };
        *now = (*now).max(due);
        let done: DiskDone = disk.poll_done(*now).unwrap();
        log.handle_done(*now, done);
    }
}

fn refused(change: impl FnOnce(&mut Content)) -> OpenError {
    let mut content = Content::sound();
    change(&mut content);
    content.open().map(|node| node.found).unwrap_err()
}

fn inconsistent(change: impl FnOnce(&mut Content)) -> (&'static str, u64, u64) {
    match refused(change) {
        OpenError::Inconsistent { what, value, limit } => (what, value, limit),
        error => panic!("{error}"),
    }
}

#[test]
fn a_log_without_faults_opens_and_goes_on() {
    let mut node = Content::sound().open().unwrap();
    let status = node.group.status();
    assert_eq!((status.first, status.last, status.snapshot), (8, 13, 10));
    assert!(matches!(node.found, Found::Member { commit: 11, .. }));
    node.rest();
    let status = node.group.status();
    // The entry with which it begins to lead, in a new term.
    assert_eq!((status.commit, status.applied, status.term), (14, 14, 4));
}

#[test]
fn an_entry_replaces_every_later_one() {
    let mut content = Content::sound();
    content.records.extend([entry(12, 4), hard(4, 0, 11)]);
    let node = content.open().unwrap();
    assert_eq!(node.group.status().last, 12);
}

#[test]
fn entries_with_a_gap_are_refused() {
    let error = refused(|content| content.records[1] = entry(14, 3));
    assert!(
        matches!(
            error,
            OpenError::Gap {
                expected: 13,
                found: 14
            }
        ),
        "{error}"
    );
}

#[test]
fn what_continues_another_history_is_refused() {
    for (after, has) in [
        ((11, 1), 2),
        ((11, 3), 2),
        ((7, 2), 1),
        ((6, 1), 0),
        ((20, 3), 0),
    ] {
        let error = refused(|content| content.records[2] = hard_after(3, 1, 11, after));
        let (index, term) = after;
        assert!(
            matches!(error, OpenError::AnotherHistory { index: i, term: t, has: h }
                if (i, t, h) == (index, term, has)),
            "{after:?}: {error}"
        );
    }
}

#[test]
fn an_entry_before_everything_in_memory_is_refused() {
    let found = inconsistent(|content| content.records[0] = entry(7, 3));
    assert_eq!(found, ("an entry's index", 7, 7));
}

#[test]
fn what_contradicts_itself_is_refused() {
    assert_eq!(
        inconsistent(|content| content.records[2] = hard(3, 1, 14)),
        ("the commit", 14, 13)
    );
    assert_eq!(
        inconsistent(|content| content.records[2] = hard(2, 1, 11)),
        ("the last entry's term", 3, 2)
    );
    assert_eq!(
        inconsistent(|content| content.records[1] = entry(13, 2)),
        ("an earlier entry's term", 3, 2)
    );
    assert_eq!(
        inconsistent(|content| content.snapshot.as_mut().unwrap().index = 6),
        ("the first entry", 7, 6)
    );
    assert_eq!(
        inconsistent(|content| content.snapshot.as_mut().unwrap().index = 20),
        ("the snapshot", 20, 13)
    );
    assert_eq!(
        inconsistent(|content| content.snapshot.as_mut().unwrap().term = 3),
        ("the snapshot's term", 3, 2)
    );
    assert_eq!(
        inconsistent(|content| content.snapshot.as_mut().unwrap().term = 1),
        ("the term of its entry", 2, 1)
    );
    // The same where the snapshot's entry is no longer in memory.
    let before = |content: &mut Content, term| {
        let snapshot = content.snapshot.as_mut().unwrap();
        (snapshot.index, snapshot.term) = (7, term);
    };
    assert_eq!(
        inconsistent(|content| before(content, 2)),
        ("the snapshot's term", 2, 1)
    );
    let mut sound = Content::sound();
    before(&mut sound, 1);
    assert!(sound.open().is_ok());
}

#[test]
fn records_without_a_checkpoint_are_nobodys() {
    for half in 0..3 {
        let error = refused(|content| {
            if half != 1 {
                content.snapshot = None;
            }
            if half != 2 {
                content.tail = None;
            }
        });
        assert!(matches!(error, OpenError::NoCheckpoint), "{error}");
    }
}

#[test]
fn records_that_are_not_the_groups_are_refused() {
    type Change = fn(&mut (RecordHead, Vec<u8>));
    let field = "cannot be so";
    let changes: [(Change, &str); 6] = [
        (|record| record.0.kind = 212, "has kind 212"),
        (|record| record.0.resource = ResourceId(2), field),
        (|record| record.0.partition = PartitionId(1), field),
        (|record| record.0.epoch += 1, field),
        (|record| record.0.first += 1, field),
        (|record| record.1[0] = 2, "version 2"),
    ];
    for (change, part) in changes {
        let error = refused(|content| change(&mut content.records[2])).to_string();
        assert!(error.starts_with("record 3 "), "{error}");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_damaged_log_is_not_opened() {
    let mut disk = Content::sound().write(2);
    let file = FileId::Segment {
        log: RAFT_LOG,
        number: 1,
    };
    // A bit of the first group's first record.
    disk.flip(file, (4096 + 100) * 8);
    let error = Node::open(config(), disk).map(|node| node.found);
    assert!(matches!(error, Err(OpenError::Damaged(_))), "{error:?}");
}

#[test]
fn a_log_of_another_directory_is_not_opened() {
    let disk = Content::sound().write(3);
    let mut config = config();
    config.store = [8; 16];
    let error = Node::open(config, disk).map(|node| node.found);
    assert!(matches!(error, Err(OpenError::Log(_))), "{error:?}");
}
