//! Opening a log: which files are there, what in them is true, what a crash cut
//! short, what is damaged; then every state and record in order.
//!
//! Nothing is changed on the disk by looking. What has to be done about it (a
//! torn tail cut, footers written anew, leftovers removed) comes out of the
//! [`Log`] as requests, in an order that a further crash does not disturb.
//! [`scan`](crate::scan) has the walk through one segment.

use std::collections::{BTreeMap, BTreeSet};

use pinion_types::{FixedMap, PartitionId, ResourceId};

use crate::checkpoint::Checkpoints;
use crate::config::{LogConfig, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::disk::{BLOCK, FileId, Files};
use crate::events::{Damage, DamageKind, DamagedPartitions, RecoverError, RecoveryReport};
use crate::files::{FilesState, Salts};
use crate::format::{
    Chain, CheckpointHeader, CheckpointTrailer, Directory, FormatError, SegmentHeader, StateEntry,
};
use crate::index::Key;
use crate::log::Log;
use crate::scan::Scan;
use crate::segments::{FileState, Segment};
use crate::{Location, LogId, Lsn, RecordHead};

/// Numbers left out behind a damaged end whose last record is not known, so that
/// none is used twice. Larger than any number of records in a segment's tail.
const NUMBERS_LEFT_OUT: u64 = 1 << 32;

/// Something the owner folds, in order: states first, then records.
#[derive(Debug)]
pub enum Replay<'a> {
    /// What a partition was when the checkpoint was made.
    State {
        /// Whose.
        resource: ResourceId,
        /// Which partition of it.
        partition: PartitionId,
        /// As the owner gave it.
        domain: u8,
        /// The last record in it.
        as_of: Lsn,
        /// As the owner gave it.
        state: &'a [u8],
    },
    /// A record after that.
    Record {
        /// Its number.
        lsn: Lsn,
        /// Where it lies.
        at: Location,
        /// What it says of itself.
        head: RecordHead,
        /// A copy of an older record: its body moved, its effect happened
        /// before.
        carried: bool,
        /// The domain's extension.
        ext: &'a [u8],
        /// The body.
        body: &'a [u8],
    },
    /// Records are lost here: what follows of the partitions concerned does not
    /// continue what came before.
    Damage(&'a Damage),
}

/// An open log and what was found.
#[derive(Debug)]
pub struct Recovered {
    /// Ready to append; see [`Log::ready`].
    pub log: Log,
    /// What was found.
    pub report: RecoveryReport,
}

/// Opens a log. Everything of it that a restart needs is read and verified,
/// and visited in order.
///
/// # Errors
/// The log cannot be opened; nothing was changed. Damage is no error: it is
/// visited and reported, and the rest of the log is served.
pub fn recover(
    files: &mut dyn Files,
    config: LogConfig,
    visit: &mut dyn FnMut(Replay<'_>),
) -> Result<Recovered, RecoverError> {
    let bytes = config.segment_bytes;
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes)
        || !bytes.is_multiple_of(BLOCK as u64)
    {
        let (min, max) = (SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        return Err(RecoverError::Config {
            segment_bytes: bytes,
            min,
            max,
        });
    }
    let (found, foreign) = files
        .list(config.log)
        .map_err(|error| RecoverError::Disk { file: None, error })?;
    let mut report = RecoveryReport {
        foreign,
        ..RecoveryReport::default()
    };
    let mut segment_files = BTreeMap::new();
    let mut checkpoint_files = BTreeMap::new();
    for (file, len) in found {
        match file {
            FileId::Segment { number, .. } => segment_files.insert(number, len),
            FileId::Checkpoint { number, .. } => checkpoint_files.insert(number, len),
        };
    }

    let (checkpoints, base) = read_checkpoints(files, &config, &checkpoint_files, &mut report)?;
    let mut heads = read_headers(files, &config, &segment_files)?;
    let unborn = heads.unborn.clone();

    // Segments below the newest one that the checkpoint names are its own or
    // were removed before it.
    let mut doomed = Vec::new();
    let mut expected = BTreeSet::new();
    let replay_from = base
        .as_ref()
        .map_or(Lsn(1), |base| base.trailer.replay_from);
    let listed = base
        .as_ref()
        .map_or(&[][..], |base| &base.directory.segments);
    let newest_listed = listed.last().map_or(0, |segment| segment.number);
    if base.is_some() {
        for segment in listed {
            expected.insert(segment.number);
        }
        heads.known.retain(|&number, _| {
            let stays = number > newest_listed || expected.contains(&number);
            if !stays {
                doomed.push(number);
            }
            stays
        });
    } else if let Some(Head::Sound(first)) = heads.known.values().next()
        && first.chain.lsn > Lsn(1)
    {
        return Err(RecoverError::HistoryMissing {
            needed: Lsn(1),
            found: first.chain.lsn,
        });
    }
    let newest = heads.known.keys().next_back().copied().unwrap_or(0);
    expected.extend(newest_listed + 1..=newest);

    // States first.
    let mut as_of: FixedMap<Key, Lsn> = FixedMap::default();
    if let Some(base) = &base {
        report.checkpoint = Some(base.header.number);
        each_state(files, &config, base, &mut |entry, state| {
            let (resource, partition) = entry.name();
            as_of.insert((resource, partition), Lsn(entry.as_of));
            visit(Replay::State {
                resource,
                partition,
                domain: entry.domain,
                as_of: Lsn(entry.as_of),
                state,
            });
        })?;
    }

    // The last record that was durable when the checkpoint was written: a state may
    // be of a later one than replay begins with.
    let newest_state = as_of.values().copied().max().unwrap_or(Lsn(0));
    let known = newest_state.max(Lsn(replay_from.0 - 1));

    // Then the records, segment by segment.
    let mut scan = Scan::new(files, config.log, report, replay_from, as_of, visit);
    let numbers: Vec<u64> = expected.iter().copied().collect();
    for (at, &number) in numbers.iter().enumerate() {
        let follower = numbers.get(at + 1).filter(|&&next| next == number + 1);
        let limit = follower.and_then(|next| match heads.known.get(next) {
            Some(Head::Sound(header)) => Some(header.chain),
            _ => None,
        });
        let last = at + 1 == numbers.len();
        if at > 0 && numbers[at - 1] + 1 != number {
            // What lay between was removed before the checkpoint was made.
            scan.gap();
        }
        match heads.known.get(&number) {
            Some(Head::Sound(header)) => {
                let salt = listed.iter().find(|segment| segment.number == number);
                if salt.is_some_and(|listed| listed.salt != header.salt) {
                    // Another file under its name.
                    scan.damage(whole(number, DamageKind::Header));
                }
                let len = segment_files[&number];
                scan.segment(header, len, limit, last)?;
            }
            Some(Head::Lost) => scan.headless(whole(number, DamageKind::Header)),
            // Whether it was removed is known when every record was read.
            None => scan.missing(number),
        }
    }
    let (mut found, next_chain) = scan.finish();
    doomed.extend(
        found
            .removed
            .iter()
            .filter(|number| segment_files.contains_key(number)),
    );

    for &number in &found.removed {
        found.segments.remove(number);
        found.to_seal.retain(|&sealed| sealed != number);
    }
    found.partitions.settle(&mut found.segments);

    let mut next = next_chain.unwrap_or(Chain::START);
    if found.end_unknown {
        next.sequence += NUMBERS_LEFT_OUT;
        next.lsn.0 += NUMBERS_LEFT_OUT;
    }
    if next.lsn <= known {
        // The checkpoint was written when these records were durable. Their numbers
        // must not be used again: a state that has them in it would stand for the
        // new ones, too, and the next start would pass over those.
        let damage = whole(newest.max(1), DamageKind::Shortened);
        visit_damage(&mut found.report, damage, found.visit);
        next.sequence += NUMBERS_LEFT_OUT;
        next.lsn = Lsn(known.0 + 1 + NUMBERS_LEFT_OUT);
    }

    let cursor = newest.max(newest_listed) + 1;
    let mut state = FilesState::new(Salts::new(config.seed));
    state.leftovers = unborn
        .iter()
        .copied()
        .filter(|&number| number >= cursor)
        .collect();
    state.cutting = found.cut;
    state.to_seal = found.to_seal.into();
    state.due = doomed
        .into_iter()
        .filter(|&number| number < cursor)
        .collect();
    let mut segments = found.segments;
    let salt = state.salts.next();
    let key = crate::format::SegmentKey {
        number: cursor,
        salt,
    };
    segments.push(Segment::new(key, next, config.segment_bytes));

    let mut report = found.report;
    report.segments = segments
        .iter()
        .filter(|segment| segment.file >= FileState::Open)
        .count();
    report.bytes = segment_files.values().sum();
    let mut log = Log::assemble(
        config,
        segments,
        found.partitions,
        next,
        cursor,
        state,
        checkpoints,
    );
    log.remove_old_checkpoints();
    Ok(Recovered { log, report })
}

fn whole(segment: u64, kind: DamageKind) -> Damage {
    Damage {
        segment,
        offset: 0,
        len: 0,
        kind,
        partitions: DamagedPartitions::All,
    }
}

pub(crate) fn visit_damage(
    report: &mut RecoveryReport,
    damage: Damage,
    visit: &mut dyn FnMut(Replay<'_>),
) {
    visit(Replay::Damage(&damage));
    report.damage.push(damage);
}

// ------------------------------------------------------------ segment headers

/// Bytes of a file that was never used read at once. Larger saves calls at a
/// start, smaller memory.
const UNUSED_READ_BYTES: usize = 256 << 10;

enum Head {
    Sound(SegmentHeader),
    /// The header cannot be read, and something may have been behind it.
    Lost,
}

struct Heads {
    known: BTreeMap<u64, Head>,
    /// The newest files, made and never used.
    unborn: Vec<u64>,
}

fn read_headers(
    files: &mut dyn Files,
    config: &LogConfig,
    found: &BTreeMap<u64, u64>,
) -> Result<Heads, RecoverError> {
    let mut heads = Heads {
        known: BTreeMap::new(),
        unborn: Vec::new(),
    };
    let mut block = vec![0; BLOCK];
    for (&number, &len) in found.iter().rev() {
        let file = FileId::Segment {
            log: config.log,
            number,
        };
        let short = read(files, file, 0, &mut block)? < BLOCK;
        let head = match SegmentHeader::decode(if short { &[] } else { &block }) {
            Ok(header) => {
                check_owner(config, file, header.store, header.log, header.number)?;
                Head::Sound(header)
            }
            Err(FormatError::Version { found, known, .. }) => {
                return Err(RecoverError::FutureVersion { file, found, known });
            }
            // Groups are written after the header is durable: without one, and
            // without a group, it was made and never used.
            Err(_) if heads.known.is_empty() && is_unused(files, file, len)? => {
                heads.unborn.push(number);
                continue;
            }
            Err(_) => Head::Lost,
        };
        heads.known.insert(number, head);
    }
    Ok(heads)
}

fn check_owner(
    config: &LogConfig,
    file: FileId,
    store: [u8; 16],
    log: LogId,
    number: u64,
) -> Result<(), RecoverError> {
    if store != config.store {
        return Err(RecoverError::ForeignStore { file, found: store });
    }
    let named = match file {
        FileId::Segment { number, .. } | FileId::Checkpoint { number, .. } => number,
    };
    if log != config.log || number != named {
        return Err(RecoverError::Misplaced {
            file,
            log: log.0,
            number,
        });
    }
    Ok(())
}

/// Whether a segment without a header has nothing behind it, one flipped bit
/// excepted. All of it is looked at: a disk that forgot its first writes and kept
/// later ones must not pass for one that was never asked.
fn is_unused(files: &mut dyn Files, file: FileId, len: u64) -> Result<bool, RecoverError> {
    let mut part = vec![0; UNUSED_READ_BYTES];
    let zero = vec![0; UNUSED_READ_BYTES];
    let (mut at, mut bits) = (BLOCK as u64, 0);
    while at < len && bits < 2 {
        let read = read(files, file, at, &mut part)?;
        if read == 0 {
            break;
        }
        // Nearly always all of it is zero, and comparing is faster than counting.
        if part[..read] != zero[..read] {
            let ones = part[..read].iter().map(|byte| byte.count_ones());
            bits += ones.sum::<u32>();
        }
        at += read as u64;
    }
    Ok(bits < 2)
}

pub(crate) fn read(
    files: &mut dyn Files,
    file: FileId,
    offset: u64,
    into: &mut [u8],
) -> Result<usize, RecoverError> {
    files
        .read(file, offset, into)
        .map_err(|error| RecoverError::Disk {
            file: Some(file),
            error,
        })
}

// ---------------------------------------------------------------- checkpoints

/// A checkpoint that can be used.
struct Base {
    header: CheckpointHeader,
    trailer: CheckpointTrailer,
    directory: Directory,
}

enum Unusable {
    /// It was being written when the machine stopped.
    Unfinished,
    /// It was complete.
    Damaged(FormatError),
}

fn read_checkpoints(
    files: &mut dyn Files,
    config: &LogConfig,
    found: &BTreeMap<u64, u64>,
    report: &mut RecoveryReport,
) -> Result<(Checkpoints, Option<Base>), RecoverError> {
    let mut checkpoints = Checkpoints::default();
    checkpoints.next_number = found.keys().next_back().map_or(1, |newest| newest + 1);
    let mut newest: Option<Base> = None;
    for (&number, &len) in found.iter().rev() {
        if checkpoints.durable.len() == 2 {
            checkpoints.old.push_back(number);
            continue;
        }
        match read_checkpoint(files, config, number, len)? {
            Ok(base) => {
                checkpoints
                    .durable
                    .push_front((number, base.trailer.replay_from));
                newest.get_or_insert(base);
            }
            Err(Unusable::Unfinished) => checkpoints.old.push_back(number),
            // It stays for people to look at until two newer ones are there.
            Err(Unusable::Damaged(error)) => report.checkpoints_damaged.push((number, error)),
        }
    }
    Ok((checkpoints, newest))
}

fn read_checkpoint(
    files: &mut dyn Files,
    config: &LogConfig,
    number: u64,
    len: u64,
) -> Result<Result<Base, Unusable>, RecoverError> {
    let file = FileId::Checkpoint {
        log: config.log,
        number,
    };
    if len < 3 * BLOCK as u64 || !len.is_multiple_of(BLOCK as u64) {
        return Ok(Err(Unusable::Unfinished));
    }
    let mut block = vec![0; BLOCK];
    read(files, file, 0, &mut block)?;
    let header = match CheckpointHeader::decode(&block) {
        Ok(header) => header,
        Err(FormatError::Version { found, known, .. }) => {
            return Err(RecoverError::FutureVersion { file, found, known });
        }
        Err(FormatError::Blank { .. }) => return Ok(Err(Unusable::Unfinished)),
        Err(error) => return Ok(Err(Unusable::Damaged(error))),
    };
    check_owner(config, file, header.store, header.log, header.number)?;
    read(files, file, len - BLOCK as u64, &mut block)?;
    let trailer = match CheckpointTrailer::decode(&header, len, &block) {
        Ok(trailer) => trailer,
        // Other content ends the file: the trailer was not written.
        Err(FormatError::Blank { .. } | FormatError::Magic { .. }) => {
            return Ok(Err(Unusable::Unfinished));
        }
        Err(error) => return Ok(Err(Unusable::Damaged(error))),
    };
    let range = trailer.directory();
    let bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut directory = vec![0; bytes];
    let got = read(files, file, range.start, &mut directory)?;
    let directory = match Directory::decode(&trailer, &directory[..got]) {
        Ok(directory) => directory,
        Err(error) => return Ok(Err(Unusable::Damaged(error))),
    };
    let base = Base {
        header,
        trailer,
        directory,
    };
    // Every state is verified before the first one is used.
    let mut harm = None;
    each_state(files, config, &base, &mut |entry, state| {
        if let Err(error) = entry.check(&base.header, state) {
            harm.get_or_insert(error);
        }
    })?;
    Ok(match harm {
        None => Ok(base),
        Some(error) => Err(Unusable::Damaged(error)),
    })
}

/// Bytes of a checkpoint read at once.
const STATES_AT_ONCE: usize = 1 << 20;

fn each_state(
    files: &mut dyn Files,
    config: &LogConfig,
    base: &Base,
    visit: &mut dyn FnMut(&StateEntry, &[u8]),
) -> Result<(), RecoverError> {
    let file = FileId::Checkpoint {
        log: config.log,
        number: base.header.number,
    };
    let mut window = Vec::new();
    let mut window_at = 0;
    for entry in &base.directory.entries {
        let len = entry.len as usize;
        let inside = entry.at >= window_at
            && entry.at + u64::from(entry.len) <= window_at + window.len() as u64;
        if !inside {
            // The states end before the directory.
            let left = base.trailer.directory_at.saturating_sub(entry.at);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            window = vec![0; len.max(STATES_AT_ONCE).min(left)];
            window_at = entry.at;
            let got = read(files, file, window_at, &mut window)?;
            window.truncate(got);
        }
        let start = usize::try_from(entry.at - window_at).unwrap_or(usize::MAX);
        let state = window
            .get(start..start.saturating_add(len))
            .unwrap_or_default();
        visit(entry, state);
    }
    Ok(())
}
