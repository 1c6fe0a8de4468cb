//! Every way a small history can lie in the log, in memory and in between,
//! read from every place with every credit.

use super::super::fake_log::FakeLog;
use super::*;

/// Records of each block; a group of two blocks among them.
const BLOCKS: [u64; 5] = [1, 3, 2, 1, 2];

struct Case {
    p: Partition,
    log: FakeLog,
    end: u64,
}

fn value(offset: u64) -> Vec<u8> {
    format!("v{offset}").into_bytes()
}

fn append(p: &mut Partition, records: core::ops::Range<u64>) {
    let values: Vec<Vec<u8>> = records.clone().map(value).collect();
    let appended = p.append(
        Monotonic::ZERO,
        WallMs(1000 + records.start),
        &Append {
            producer: None,
            expected_offset: None,
            record_count: u32::try_from(values.len()).unwrap(),
            records: &World::encode(&values),
        },
    );
    assert_eq!(appended.unwrap().first_offset.0, records.start);
}

/// `evicted` blocks are in the log only; one chunk per turn of `per_turn`
/// blocks; the last `uncommitted` blocks await the disk.
fn build(evicted: usize, per_turn: usize, uncommitted: usize) -> Case {
    let mut p = Partition::new(PartitionConfig {
        durable: true,
        ..PartitionConfig::default()
    });
    let (mut log, mut at) = (FakeLog::default(), 0);
    let mut seen = 0;
    for (i, count) in BLOCKS.into_iter().enumerate() {
        append(&mut p, at..at + count);
        at += count;
        log.take(&mut p);
        if i + 1 == evicted {
            log.flush(&mut p);
            p.evict_committed(0);
        }
        if (i + 1) % per_turn == 0 {
            p.seal();
        }
    }
    p.seal();
    let commit = (BLOCKS.len() - uncommitted).saturating_sub(log.committed);
    log.commit(&mut p, commit);
    p.seal();
    for count in BLOCKS.iter().take(log.committed) {
        seen += count;
    }
    assert_eq!(p.end().0, seen);
    Case { p, log, end: at }
}

fn collect(got: &mut Vec<u64>, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (header, body, after) = BlockHeader::split(rest).unwrap();
        for (i, record) in records(body).enumerate() {
            let offset = header.first_offset.0 + i as u64;
            assert_eq!(record.unwrap().value, value(offset));
            got.push(offset);
        }
        rest = after;
    }
}

/// Reads everything from `start` on with `credit` records at a time; the log
/// answers `blocks_max` blocks at a time.
fn replay(case: &mut Case, start: u64, credit: u32, blocks_max: usize) -> Vec<u64> {
    let options = SubscribeOptions {
        start: Start::Offset(Offset(start)),
        overflow: Some(Overflow::Block),
        backlog_max: 0,
        credit_records: credit,
        credit_bytes: 1 << 20,
        window_bytes: 1 << 20,
        filter: None,
    };
    case.p.subscribe(SubKey(1), options).unwrap();
    let (mut got, mut quiet) = (Vec::new(), 0);
    while quiet < 3 {
        quiet += 1;
        while let Some((_, delivery)) = case.p.poll_delivery() {
            let Delivery::Records { bytes, .. } = delivery else {
                panic!("{delivery:?}");
            };
            collect(&mut got, &bytes);
            case.p.window(SubKey(1), bytes.len() as u64);
            quiet = 0;
        }
        while let Some(read) = case.p.poll_read() {
            let first = case.p.first_available().0;
            let answer = case
                .log
                .read(read.from.0, first, read.max_bytes, blocks_max);
            case.p.handle_read(Monotonic::ZERO, read.from, answer);
            quiet = 0;
        }
        case.p.credit(SubKey(1), credit, 1 << 20);
        if quiet == 2 && case.log.committed < case.log.records.len() {
            // The live tail goes on while it reads.
            case.log.commit(&mut case.p, 1);
            case.p.seal();
            quiet = 0;
        }
    }
    got
}

fn page(case: &mut Case, start: u64, max_records: u32, blocks_max: usize) -> Vec<u64> {
    case.log.flush(&mut case.p);
    let (mut next, mut got) = (start, Vec::new());
    while next < case.end {
        let mut out = Vec::new();
        let result = case
            .p
            .fetch(Offset(next), max_records, 1 << 20, None, &mut out);
        match result {
            FetchResult::Done(fetched) => {
                collect(&mut got, &out);
                assert!(fetched.next.0 > next, "progress");
                next = fetched.next.0;
            }
            FetchResult::Cold => {
                let read = case.p.poll_read().expect("what is cold is asked for");
                let answer = case.log.read(read.from.0, 0, read.max_bytes, blocks_max);
                case.p.handle_read(Monotonic::ZERO, read.from, answer);
            }
            FetchResult::Fenced { at } => panic!("nothing is damaged at {at}"),
        }
    }
    got
}

#[test]
fn at_every_seam_nothing_is_missing_or_twice() {
    let mut cases = 0;
    let end: u64 = BLOCKS.iter().sum();
    for evicted in 0..=BLOCKS.len() {
        for per_turn in 1..=3 {
            for uncommitted in 0..=BLOCKS.len() - evicted {
                let seen: u64 = BLOCKS[..BLOCKS.len() - uncommitted].iter().sum();
                for start in 0..=seen {
                    for credit in [1, 2, 100] {
                        for blocks_max in [1, 2, 100] {
                            let what = (evicted, per_turn, uncommitted, start, credit, blocks_max);
                            let expected: Vec<u64> = (start..end).collect();
                            let mut case = build(evicted, per_turn, uncommitted);
                            let got = replay(&mut case, start, credit, blocks_max);
                            assert_eq!(got, expected, "subscribed {what:?}");
                            let mut case = build(evicted, per_turn, uncommitted);
                            let got = page(&mut case, start, credit, blocks_max);
                            assert_eq!(got, expected, "fetched {what:?}");
                            cases += 2;
                        }
                    }
                }
            }
        }
    }
    println!("{cases} seams");
    assert!(cases > 4000, "{cases}");
}

/// The ring lets go, at every step, what a reader is about to read.
#[test]
fn eviction_under_a_reader_is_no_gap() {
    let end: u64 = BLOCKS.iter().sum();
    for evict_at in 0..12 {
        for start in 0..end {
            let mut case = build(0, 1, 0);
            let options = SubscribeOptions {
                start: Start::Offset(Offset(start)),
                overflow: Some(Overflow::Disconnect),
                backlog_max: 0,
                credit_records: 1,
                credit_bytes: 1 << 20,
                window_bytes: 1 << 20,
                filter: None,
            };
            case.p.subscribe(SubKey(1), options).unwrap();
            let mut got = Vec::new();
            for step in 0..24 {
                if step == evict_at {
                    case.p.evict_committed(0);
                    assert_eq!(case.p.bytes(), 0);
                }
                while let Some((_, delivery)) = case.p.poll_delivery() {
                    let Delivery::Records { bytes, .. } = delivery else {
                        panic!("{delivery:?}");
                    };
                    collect(&mut got, &bytes);
                }
                case.log.answer(Monotonic::ZERO, &mut case.p);
                case.p.credit(SubKey(1), u32::from(step % 2 == 0), 0);
            }
            let expected: Vec<u64> = (start..end).collect();
            assert_eq!(got, expected, "evicted at step {evict_at}, from {start}");
        }
    }
}
