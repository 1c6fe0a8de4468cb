//! The simulated disk does what a real one may do, and nothing else.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use core::time::Duration;

use pinion_commitlog::{
    BLOCK, Background, BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, Files,
    LogId, OpId,
};
use pinion_simkit::disk::SECTOR;
use pinion_simkit::{CrashMode, Fault, FaultPlan, SimDisk, SimDiskConfig, SimRng};
use pinion_types::Monotonic;

const FILE: FileId = FileId::Segment {
    log: LogId(0),
    number: 1,
};
const END: Monotonic = Monotonic(u64::MAX);
const SECTORS: usize = BLOCK / SECTOR;

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(SimDiskConfig::default(), SimRng::new(seed))
}

fn create(op: u64, blocks: u64) -> DiskRequest {
    let len = blocks * BLOCK as u64;
    DiskRequest::Create {
        op: OpId(op),
        file: FILE,
        len,
        background: Background::Written,
    }
}

fn write(op: u64, block: u64, fill: u8) -> DiskRequest {
    let mut data = BlockBuf::zeroed(BLOCK);
    data.as_mut_slice().fill(fill);
    DiskRequest::Write {
        op: OpId(op),
        file: FILE,
        offset: block * BLOCK as u64,
        data,
    }
}

fn read(op: u64, block: u64) -> DiskRequest {
    let offset = block * BLOCK as u64;
    DiskRequest::Read {
        op: OpId(op),
        file: FILE,
        offset,
        len: u32::try_from(BLOCK).unwrap(),
    }
}

/// Submits and waits.
fn run(disk: &mut SimDisk, request: DiskRequest) -> Result<DiskOutput, DiskError> {
    disk.submit(Monotonic::ZERO, request);
    let DiskDone { result, .. } = disk.poll_done(END).unwrap();
    result
}

fn data(result: Result<DiskOutput, DiskError>) -> Vec<u8> {
    match result {
        Ok(DiskOutput::Data(data)) => data.as_slice().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// A disk with a file of four blocks.
fn with_file(seed: u64) -> SimDisk {
    let mut disk = disk(seed);
    assert!(matches!(run(&mut disk, create(1, 4)), Ok(DiskOutput::Done)));
    disk
}

#[test]
fn a_finished_write_survives_every_crash() {
    for mode in CrashMode::ALL {
        let mut disk = with_file(1);
        run(&mut disk, write(2, 1, 7)).unwrap();
        disk.crash(mode, &mut SimRng::new(5));
        let bytes = disk.bytes(FILE).unwrap();
        assert_eq!(bytes.len(), 4 * BLOCK);
        for (block, fill) in [(0, 0), (1, 7), (2, 0)] {
            let part = &bytes[block * BLOCK..][..BLOCK];
            assert!(part.iter().all(|b| *b == fill), "{mode:?}");
        }
    }
}

/// Sectors of block 1 that a crash in the middle of a write left.
fn sectors_left(mode: CrashMode, seed: u64) -> Vec<bool> {
    let mut disk = with_file(1);
    disk.submit(Monotonic::ZERO, write(2, 1, 7));
    disk.crash(mode, &mut SimRng::new(seed));
    assert!(disk.poll_done(END).is_none(), "nobody is left to be told");
    let bytes = disk.bytes(FILE).unwrap();
    let sectors = bytes[BLOCK..2 * BLOCK].chunks(SECTOR);
    sectors
        .map(|sector| {
            assert!(sector.iter().all(|b| *b == sector[0]), "a torn sector");
            sector[0] == 7
        })
        .collect()
}

#[test]
fn of_a_write_in_flight_a_crash_keeps_what_its_mode_says() {
    let kept = |mode| -> BTreeSet<Vec<bool>> { (0..200).map(|s| sectors_left(mode, s)).collect() };
    assert_eq!(
        kept(CrashMode::Clean),
        BTreeSet::from([vec![true; SECTORS]])
    );
    assert_eq!(
        kept(CrashMode::DropUnsynced),
        BTreeSet::from([vec![false; SECTORS]])
    );
    let prefix = |n: usize| (0..SECTORS).map(|i| i < n).collect::<Vec<_>>();
    let prefixes: BTreeSet<_> = (0..=SECTORS).map(prefix).collect();
    assert_eq!(kept(CrashMode::Prefix), prefixes);
    for sectors in 0..=8 {
        let left = sectors_left(CrashMode::Sectors(sectors), 3);
        assert_eq!(left, prefix(sectors as usize));
    }
    let subsets = kept(CrashMode::RandomSubset);
    assert!(subsets.len() > 100, "{}", subsets.len());
    assert!(subsets.iter().any(|s| !prefixes.contains(s)));
}

#[test]
fn a_file_whose_creation_was_cut_is_absent_empty_or_shorter_and_zero() {
    let mut lengths = BTreeSet::new();
    for seed in 0..200 {
        let mut disk = disk(1);
        disk.submit(Monotonic::ZERO, create(1, 4));
        disk.crash(CrashMode::RandomSubset, &mut SimRng::new(seed));
        let bytes = disk.bytes(FILE);
        assert!(bytes.iter().flatten().all(|b| *b == 0));
        lengths.insert(bytes.map(|bytes| bytes.len() / BLOCK));
    }
    let expected = [None, Some(0), Some(1), Some(2), Some(3), Some(4)];
    assert_eq!(lengths, BTreeSet::from(expected));
}

#[test]
fn a_removal_or_truncation_in_flight_happens_or_does_not() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..40 {
        for request in [
            DiskRequest::Remove {
                op: OpId(2),
                file: FILE,
            },
            DiskRequest::Truncate {
                op: OpId(2),
                file: FILE,
                len: BLOCK as u64,
            },
        ] {
            let mut disk = with_file(1);
            disk.submit(Monotonic::ZERO, request);
            disk.crash(CrashMode::RandomSubset, &mut SimRng::new(seed));
            outcomes.insert(disk.files().next().map(|(_, len)| len / BLOCK as u64));
        }
    }
    assert_eq!(outcomes, BTreeSet::from([None, Some(1), Some(4)]));
}

#[test]
fn completions_come_in_any_order_after_a_delay_and_alike_for_one_seed() {
    let order = |seed| -> Vec<u64> {
        let mut disk = with_file(seed);
        let now = Monotonic::from_millis(1);
        (0..4).for_each(|n| disk.submit(now, write(10 + n, n, 1)));
        assert!(disk.poll_done(now).is_none(), "nothing is done at once");
        assert!(disk.next_deadline().unwrap() > now);
        let mut order = Vec::new();
        while let Some(at) = disk.next_deadline() {
            order.push(disk.poll_done(at).unwrap().op.0);
        }
        order
    };
    let orders: BTreeSet<_> = (0..100).map(order).collect();
    assert_eq!(orders.len(), 24, "every order of four");
    assert_eq!(order(3), order(3));
}

#[test]
fn a_failed_write_may_be_seen_until_the_crash_and_be_gone_after_it() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let mut disk = with_file(seed);
        let error = DiskError::Io { errno: 5 };
        disk.set_faults(FaultPlan::once(2, Fault::Fails(error)));
        assert_eq!(run(&mut disk, write(2, 1, 7)).unwrap_err(), error);
        let seen = data(run(&mut disk, read(3, 1))) == vec![7; BLOCK];
        disk.crash(CrashMode::Clean, &mut SimRng::new(seed));
        let after = disk.bytes(FILE).unwrap();
        let sectors = after[BLOCK..2 * BLOCK].iter().filter(|b| **b == 7).count() / SECTOR;
        outcomes.insert((seen, sectors > SECTORS / 2));
    }
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
}

#[test]
fn a_write_that_lied_is_seen_until_the_crash_and_gone_after_it() {
    let mut disk = with_file(1);
    disk.set_faults(FaultPlan::once(2, Fault::NotDurable));
    run(&mut disk, write(2, 1, 7)).unwrap();
    assert_eq!(data(run(&mut disk, read(3, 1))), vec![7; BLOCK]);
    disk.crash(CrashMode::Clean, &mut SimRng::new(1));
    assert!(disk.bytes(FILE).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn reads_go_astray_stale_and_wrong_when_the_plan_says_so() {
    let mut disk = with_file(1);
    run(&mut disk, write(2, 1, 7)).unwrap();
    run(&mut disk, write(3, 2, 8)).unwrap();
    let mut faulty = |number: u64, fault| {
        disk.set_faults(FaultPlan::once(number, fault));
        data(run(&mut disk, read(number, 1)))
    };
    assert_eq!(faulty(4, Fault::ReadElsewhere(1)), vec![8; BLOCK]);
    assert_eq!(faulty(5, Fault::ReadElsewhere(-9)), vec![0; BLOCK]);
    assert_eq!(faulty(6, Fault::ReadStale), vec![0; BLOCK]);
    let flipped = faulty(7, Fault::ReadFlipped);
    assert_eq!(flipped.iter().filter(|b| **b != 7).count(), 1);
    assert_eq!(faulty(8, Fault::NotDurable), vec![7; BLOCK], "not a write");
}

#[test]
fn a_misdirected_write_is_found_elsewhere() {
    let mut disk = with_file(1);
    disk.set_faults(FaultPlan::once(2, Fault::WrittenElsewhere(2)));
    run(&mut disk, write(2, 1, 7)).unwrap();
    let bytes = disk.bytes(FILE).unwrap();
    assert!(bytes[BLOCK..3 * BLOCK].iter().all(|b| *b == 0));
    assert!(bytes[3 * BLOCK..].iter().all(|b| *b == 7));
}

#[test]
fn a_full_disk_refuses_growth_and_only_growth() {
    let mut disk = with_file(1);
    disk.set_capacity(5 * BLOCK as u64);
    run(&mut disk, write(2, 1, 7)).unwrap();
    run(&mut disk, write(3, 4, 7)).unwrap();
    assert_eq!(run(&mut disk, write(4, 5, 7)).unwrap_err(), DiskError::Full);
    let other = FileId::Segment {
        log: LogId(0),
        number: 2,
    };
    let create = DiskRequest::Create {
        op: OpId(5),
        file: other,
        len: BLOCK as u64,
        background: Background::Written,
    };
    assert_eq!(run(&mut disk, create).unwrap_err(), DiskError::Full);
    assert_eq!(disk.used(), 5 * BLOCK as u64);
    let remove = DiskRequest::Remove {
        op: OpId(6),
        file: FILE,
    };
    run(&mut disk, remove).unwrap();
    assert_eq!(disk.used(), 0);
}

#[test]
fn missing_and_existing_files_are_told_apart() {
    let mut disk = disk(1);
    assert_eq!(run(&mut disk, read(1, 0)).unwrap_err(), DiskError::Missing);
    assert_eq!(
        run(&mut disk, write(2, 0, 1)).unwrap_err(),
        DiskError::Missing
    );
    run(&mut disk, create(3, 1)).unwrap();
    assert_eq!(run(&mut disk, create(4, 1)).unwrap_err(), DiskError::Exists);
    assert!(disk.violations().is_empty(), "{:?}", disk.violations());
}

#[test]
fn what_no_disk_may_be_asked_is_a_violation() {
    let mut disk = with_file(1);
    run(&mut disk, write(2, 1, 7)).unwrap();
    run(&mut disk, write(3, 2, 0)).unwrap();
    run(&mut disk, write(4, 2, 5)).unwrap();
    assert!(disk.violations().is_empty(), "zeros may be written over");
    run(&mut disk, write(5, 1, 8)).unwrap();
    assert_eq!(disk.violations().len(), 1, "{:?}", disk.violations());
    disk.submit(Monotonic::ZERO, write(9, 3, 1));
    disk.submit(Monotonic::ZERO, read(9, 0));
    assert_eq!(disk.violations().len(), 2, "{:?}", disk.violations());
    let odd = DiskRequest::Truncate {
        op: OpId(10),
        file: FILE,
        len: 100,
    };
    disk.submit(Monotonic::ZERO, odd);
    assert_eq!(disk.violations().len(), 3, "{:?}", disk.violations());
}

#[test]
fn a_copy_crashes_alone() {
    let mut disk = with_file(1);
    disk.submit(Monotonic::ZERO, write(2, 1, 7));
    let mut copy = disk.clone();
    copy.crash(CrashMode::DropUnsynced, &mut SimRng::new(1));
    assert!(disk.poll_done(END).unwrap().result.is_ok());
    assert_eq!(data(run(&mut disk, read(3, 1))), vec![7; BLOCK]);
    assert!(copy.bytes(FILE).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn recovery_sees_files_foreign_names_and_one_failing_read() {
    let mut disk = with_file(1);
    disk.put_foreign(LogId(0), "notes.txt");
    disk.flip(FILE, 8 * 4097 + 2);
    assert_eq!(
        disk.list(LogId(0)).unwrap(),
        (vec![(FILE, 4 * BLOCK as u64)], vec!["notes.txt".to_owned()])
    );
    assert_eq!(disk.list(LogId(1)).unwrap(), (vec![], vec![]));
    let mut bytes = [9; 3];
    assert_eq!(Files::read(&mut disk, FILE, 4096, &mut bytes), Ok(3));
    assert_eq!(bytes, [0, 4, 0]);
    disk.fail_recovery_read(1);
    assert!(Files::read(&mut disk, FILE, 0, &mut bytes).is_ok());
    assert!(Files::read(&mut disk, FILE, 0, &mut bytes).is_err());
    assert!(Files::read(&mut disk, FILE, 0, &mut bytes).is_ok());
}

#[test]
fn a_slow_request_takes_as_much_longer_as_was_said() {
    let mut disk = with_file(1);
    let by = Duration::from_secs(5);
    disk.set_faults(FaultPlan::once(2, Fault::Slow(by)));
    disk.submit(Monotonic::ZERO, write(2, 1, 7));
    assert!(disk.next_deadline().unwrap() > Monotonic::ZERO + by);
}
