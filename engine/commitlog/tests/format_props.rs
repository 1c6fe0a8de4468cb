//! What holds for every group: it reads back, no flipped bit passes, and what a
//! crash leaves of it is told apart from damage.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use pinion_commitlog::format::{
    Chain, Finished, FormatError, GROUP_BYTES_MAX, GroupDamage, GroupVerdict, GroupWriter,
    RECORD_BYTES_MAX, RecordFlags, SECTOR, SegmentHeader, SegmentKey, check_group, decode_record,
};
use pinion_commitlog::{BLOCK, BlockBuf, Location, LogId, Lsn, RecordHead};
use pinion_types::{PartitionId, ResourceId, WallMs};
use proptest::prelude::*;

const KEY: SegmentKey = SegmentKey {
    number: 3,
    salt: 0x5eed_5eed_5eed_5eed,
};
const OFFSET: u32 = 5 * BLOCK as u32;
const CHAIN: Chain = Chain {
    sequence: 12,
    lsn: Lsn(700),
    previous_crc: 0xdead_beef,
};

#[derive(Clone, Debug)]
struct Spec {
    head: RecordHead,
    flags: RecordFlags,
    ext: Vec<u8>,
    body: Vec<u8>,
}

fn head(resource: u64) -> RecordHead {
    RecordHead {
        resource: ResourceId(resource),
        partition: PartitionId(1),
        kind: 1,
        first: 0,
        count: 1,
        epoch: 0,
        timestamp: WallMs(1),
    }
}

fn write(specs: &[Spec], buffer: BlockBuf) -> (Finished, Vec<Location>) {
    let mut group = GroupWriter::begin(buffer, KEY, OFFSET, CHAIN);
    let mut locations = Vec::new();
    for spec in specs {
        let most = group.extent_with(1, spec.ext.len() + spec.body.len());
        let pushed = group.push(&spec.head, spec.flags, &[&spec.ext], &[&spec.body]);
        locations.push(pushed.unwrap().location);
        assert!(group.extent() <= most, "{} of {most}", group.extent());
    }
    (group.finish(), locations)
}

/// A group of one record with this body.
fn group_of(body: &[u8]) -> Vec<u8> {
    let spec = Spec {
        head: head(9),
        flags: RecordFlags::default(),
        ext: Vec::new(),
        body: body.to_vec(),
    };
    let (group, _) = write(&[spec], BlockBuf::zeroed(0));
    group.buffer.as_slice().to_vec()
}

fn check(bytes: &[u8]) -> GroupVerdict<'_> {
    check_group(KEY, OFFSET, bytes)
}

fn damage(bytes: &[u8]) -> GroupDamage {
    match check(bytes) {
        GroupVerdict::Damaged { damage, .. } => damage,
        other => panic!("{other:?}"),
    }
}

/// Bodies as they are, and as nobody hopes: all zero, nearly zero, long runs.
fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        (0..6000usize).prop_map(|len| vec![0; len]),
        (1..6000usize, any::<usize>(), 0..8u8).prop_map(|(len, at, bit)| {
            let mut body = vec![0; len];
            body[at % len] = 1 << bit;
            body
        }),
        (0..6000usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let ext = proptest::collection::vec(any::<u8>(), 0..40);
    let facts = any::<(u64, u16, u8, u64, u32, u32, u64, bool, bool)>();
    (facts, ext, body()).prop_map(|(f, ext, body)| Spec {
        head: RecordHead {
            resource: ResourceId(f.0),
            partition: PartitionId(f.1),
            kind: f.2,
            first: f.3,
            count: f.4,
            epoch: f.5,
            timestamp: WallMs(f.6),
        },
        flags: RecordFlags {
            carried: f.7,
            retained: f.8,
        },
        ext,
        body,
    })
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    proptest::collection::vec(spec(), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn what_is_written_is_read_from_a_new_and_from_a_used_buffer(specs in specs()) {
        let mut used = BlockBuf::zeroed(2 * BLOCK);
        used.as_mut_slice().fill(0xff);
        let (group, locations) = write(&specs, BlockBuf::zeroed(0));
        let (again, _) = write(&specs, used);
        let bytes = group.buffer.as_slice();
        prop_assert!(bytes == again.buffer.as_slice());

        let GroupVerdict::Whole(found) = check(bytes) else {
            panic!("{:?}", check(bytes));
        };
        prop_assert_eq!(found.header, group.header);
        prop_assert_eq!(found.header.follows(&CHAIN), Ok(()));
        prop_assert_eq!(found.header.extent() as usize, bytes.len());
        prop_assert_eq!(found.header.next().lsn.0, CHAIN.lsn.0 + specs.len() as u64);
        prop_assert_eq!(found.records().len(), specs.len());
        for ((record, spec), at) in found.records().zip(&specs).zip(locations) {
            prop_assert_eq!(record.head, spec.head);
            prop_assert_eq!(record.flags, spec.flags);
            prop_assert_eq!(record.ext, &spec.ext[..]);
            prop_assert_eq!(record.body, &spec.body[..]);
            prop_assert_eq!(record.location(KEY.number), at);
            let from = (at.offset - OFFSET) as usize;
            let alone = decode_record(KEY, at.offset, &bytes[from..from + at.len as usize]);
            prop_assert_eq!(alone, Ok(record));
        }
    }

    #[test]
    fn a_group_is_whole_nowhere_else(specs in specs(), block in 1..1000u32, number: u64, salt: u64) {
        let (group, _) = write(&specs, BlockBuf::zeroed(0));
        let bytes = group.buffer.as_slice();
        let elsewhere = OFFSET ^ (block * BLOCK as u32);
        for (key, offset) in [
            (KEY, elsewhere),
            (SegmentKey { number, ..KEY }, OFFSET),
            (SegmentKey { salt, ..KEY }, OFFSET),
        ] {
            let verdict = check_group(key, offset, bytes);
            prop_assert!(matches!(verdict, GroupVerdict::Damaged { .. }), "{:?}", verdict);
        }
    }

    #[test]
    fn a_flipped_bit_is_found_and_never_called_torn(specs in specs(), places: [usize; 64]) {
        let (group, _) = write(&specs, BlockBuf::zeroed(0));
        let mut bytes = group.buffer.as_slice().to_vec();
        for place in places {
            flip_is_damage(&mut bytes, place % (group.buffer.len() * 8));
        }
    }

    #[test]
    fn lost_sectors_are_told_from_damage(specs in specs(), subsets: [u64; 16]) {
        let (group, _) = write(&specs, BlockBuf::zeroed(0));
        for subset in subsets {
            subset_is_classified(group.buffer.as_slice(), |sector| subset >> (sector % 64) & 1 == 1);
        }
    }
}

fn flip_is_damage(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
    let verdict = check(bytes);
    assert!(
        matches!(verdict, GroupVerdict::Damaged { .. }),
        "bit {bit}: {verdict:?}"
    );
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Keeps the sectors that `kept` says, and compares the verdict with what the
/// sectors were.
fn subset_is_classified(whole: &[u8], kept: impl Fn(usize) -> bool) {
    let (mut left, mut heavy_lost, mut light_lost) = (whole.to_vec(), 0, 0);
    for (at, sector) in left.chunks_mut(SECTOR).enumerate() {
        if kept(at) {
            continue;
        }
        match sector.iter().map(|byte| byte.count_ones()).sum() {
            0 => {}
            1 => light_lost += 1,
            _ => heavy_lost += 1,
        }
        sector.fill(0);
    }
    let verdict = check(&left);
    match &verdict {
        GroupVerdict::Empty => assert!(!kept(0)),
        GroupVerdict::Whole(_) => assert_eq!((heavy_lost, light_lost), (0, 0)),
        GroupVerdict::Torn { missing, .. } => {
            assert!(kept(0) && heavy_lost > 0);
            assert_eq!(*missing, heavy_lost + light_lost);
        }
        // The one case that nobody can tell from a flipped bit, and then it is
        // called what loses nothing.
        GroupVerdict::Damaged { .. } => assert!(heavy_lost == 0 && light_lost > 0, "{verdict:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_bit_of_a_group_counts() {
    let specs = [3, 4].map(|resource| Spec {
        head: head(resource),
        flags: RecordFlags::default(),
        ext: b"extension".to_vec(),
        body: vec![0xa5; 700],
    });
    let (group, _) = write(&specs, BlockBuf::zeroed(0));
    let mut bytes = group.buffer.as_slice().to_vec();
    for bit in 0..bytes.len() * 8 {
        flip_is_damage(&mut bytes, bit);
    }
}

#[test]
fn every_subset_of_a_small_groups_sectors_is_classified() {
    let mut sparse = vec![0; 3300];
    sparse[700] = 0xff; // A heavy sector between zero ones,
    sparse[2500] = 0x10; // and one with a single bit.
    let dense: Vec<u8> = (0..7800).map(|i| (i % 255) as u8 + 1).collect();
    for body in [&sparse[..], &dense, b"", &[0; 2000]] {
        let whole = group_of(body);
        let sectors = whole.len() / SECTOR;
        assert!(sectors <= 16, "{sectors}");
        for subset in 0..1u32 << sectors {
            subset_is_classified(&whole, |sector| subset >> sector & 1 == 1);
        }
    }
}

#[test]
fn a_flipped_bit_of_a_segments_header_is_damage_and_not_another_kind_of_file() {
    let header = SegmentHeader {
        store: [7; 16],
        log: LogId(1),
        number: 2,
        salt: 3,
        chain: CHAIN,
        segment_bytes: 1 << 20,
        created: WallMs(4),
    };
    let mut block = header.encode();
    for bit in 0..BLOCK * 8 {
        block[bit / 8] ^= 1 << (bit % 8);
        let error = SegmentHeader::decode(&block).unwrap_err();
        match error {
            FormatError::Checksum { .. } => assert!(bit < SECTOR * 8),
            FormatError::NotZero { .. } => assert!(bit >= SECTOR * 8),
            other => panic!("bit {bit}: {other}"),
        }
        block[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(SegmentHeader::decode(&block), Ok(header));
}

#[test]
fn the_only_bit_of_a_sector_that_flips_is_damage_and_not_a_torn_tail() {
    let mut body = vec![0; 3000];
    body[1500] = 1;
    let mut bytes = group_of(&body);
    bytes[128 + 1500] = 0;
    assert_eq!(damage(&bytes).records.unwrap().len(), 1);
}

#[test]
fn a_flipped_bit_in_the_background_is_still_the_end_of_the_log() {
    let mut background = vec![0; BLOCK];
    for bit in 0..SECTOR * 8 {
        background[bit / 8] = 1 << (bit % 8);
        assert!(matches!(check(&background), GroupVerdict::Empty));
        background[bit / 8] = 0;
    }
}

#[test]
fn damage_names_whose_records_are_harmed_and_leaves_the_others_readable() {
    let specs = [1, 2, 3].map(|resource| Spec {
        head: head(resource),
        flags: RecordFlags::default(),
        ext: Vec::new(),
        body: vec![resource as u8; 100],
    });
    let (group, locations) = write(&specs, BlockBuf::zeroed(0));
    let mut bytes = group.buffer.as_slice().to_vec();
    bytes[(locations[1].offset - OFFSET) as usize + 64 + 50] ^= 0x20;

    let GroupVerdict::Damaged { damage, group } = check(&bytes) else {
        panic!("{:?}", check(&bytes));
    };
    let harmed = damage.records.unwrap();
    assert_eq!(harmed.len(), 1);
    assert_eq!(harmed[0].resource, ResourceId(2));
    assert_eq!(harmed[0].lsn, Lsn(701));
    assert_eq!(harmed[0].position, locations[1].offset);
    assert_eq!(damage.header.unwrap().next().lsn, Lsn(703));
    let sound: Vec<_> = group
        .unwrap()
        .records()
        .filter(|record| harmed.iter().all(|harmed| harmed.lsn != record.lsn))
        .map(|record| record.body[0])
        .collect();
    assert_eq!(sound, [1, 3]);
}

#[test]
fn harmed_headers_leave_open_whose_records_are_lost() {
    let mut bytes = group_of(b"body");
    bytes[64 + 8] ^= 1; // The resource of the record.
    let harm = damage(&bytes);
    assert_eq!((harm.records, harm.at), (None, OFFSET + 64));
    assert!(harm.header.is_some());

    let mut bytes = group_of(b"body");
    bytes[0] ^= 1;
    assert_eq!(damage(&bytes).header, None);
}

#[test]
fn harmed_padding_harms_no_record() {
    let mut bytes = group_of(b"body");
    *bytes.last_mut().unwrap() = 0x80;
    assert_eq!(damage(&bytes).records, Some(Vec::new()));
}

#[test]
fn a_body_that_looks_like_a_group_is_none() {
    // A client that has read another segment writes one of its groups, to the
    // byte, where a block of this segment will start.
    let foreign = SegmentKey { salt: 1, ..KEY };
    let next = OFFSET + BLOCK as u32;
    let mut group = GroupWriter::begin(BlockBuf::zeroed(0), foreign, next, CHAIN);
    group
        .push(&head(1), RecordFlags::default(), &[], &[b"forged"])
        .unwrap();
    let forged = group.finish();
    let mut body = vec![1; BLOCK - 128];
    body.extend_from_slice(forged.buffer.as_slice());
    let bytes = group_of(&body);
    assert_eq!(bytes[BLOCK..2 * BLOCK], *forged.buffer.as_slice());
    assert!(matches!(
        check_group(foreign, next, &bytes[BLOCK..]),
        GroupVerdict::Whole(_)
    ));
    assert!(matches!(
        check_group(KEY, next, &bytes[BLOCK..]),
        GroupVerdict::Damaged { .. }
    ));
}

#[test]
fn the_links_to_the_group_before_are_compared() {
    let bytes = group_of(b"body");
    let GroupVerdict::Whole(group) = check(&bytes) else {
        panic!("{:?}", check(&bytes));
    };
    assert_eq!(group.header.follows(&CHAIN), Ok(()));
    for other in [
        Chain {
            sequence: 13,
            ..CHAIN
        },
        Chain {
            lsn: Lsn(699),
            ..CHAIN
        },
        Chain {
            previous_crc: 0,
            ..CHAIN
        },
    ] {
        assert!(group.header.follows(&other).is_err(), "{other:?}");
    }
}

#[test]
fn what_is_too_long_is_refused_and_the_group_stays_as_it_was() {
    let mut group = GroupWriter::begin(BlockBuf::zeroed(0), KEY, OFFSET, CHAIN);
    let flags = RecordFlags::default();
    group.push(&head(1), flags, &[], &[b"first"]).unwrap();
    let part = vec![7; 1 << 20];
    let parts = vec![&part[..]; RECORD_BYTES_MAX >> 20];
    assert!(group.push(&head(1), flags, &[], &parts).is_ok());
    assert!(group.extent() <= GROUP_BYTES_MAX);
    let before = (group.records(), group.extent());
    assert!(group.push(&head(1), flags, &[], &parts).is_err());
    assert!(
        group
            .push(&head(1), flags, &[&part[..65_536]], &[])
            .is_err()
    );
    assert_eq!((group.records(), group.extent()), before);
    let written = group.finish();
    assert!(matches!(
        check(written.buffer.as_slice()),
        GroupVerdict::Whole(_)
    ));
}
