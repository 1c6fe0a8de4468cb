//! A disk in memory that can stop at any moment, and a log on it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    unreachable_pub
)]

use std::collections::{BTreeMap, VecDeque};

use pinion_commitlog::*;
use pinion_types::{Monotonic, Offset, PartitionId, ResourceId, WallMs};

pub const SECTOR: usize = 512;
pub const SEGMENT: u64 = 1 << 20;

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// What becomes of requests that were not done when the machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing of them.
    Nothing,
    /// All of them.
    Everything,
    /// The first so many sectors of each write.
    Prefix(usize),
    /// Any sectors.
    Random(u64),
}

#[derive(Clone, Default)]
pub struct MemDisk {
    /// Durable content.
    pub files: BTreeMap<FileId, Vec<u8>>,
    pub pending: VecDeque<Box<Pending>>,
    /// Requests done so far.
    pub done: u64,
    pub writes: u64,
    /// Most removals asked for at a time.
    pub removing_most: usize,
    /// How files were made, in order.
    pub made: Vec<(FileId, Background)>,
    /// Creating fails while set.
    pub full: bool,
    /// The next write of a segment's records fails with this.
    pub fail_write: Option<DiskError>,
}

#[derive(Debug)]
pub struct Pending(pub DiskRequest);

impl Clone for Pending {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            DiskRequest::Create {
                op,
                file,
                len,
                background,
            } => DiskRequest::Create {
                op: *op,
                file: *file,
                len: *len,
                background: *background,
            },
            DiskRequest::Write {
                op,
                file,
                offset,
                data,
            } => DiskRequest::Write {
                op: *op,
                file: *file,
                offset: *offset,
                data: data.clone(),
            },
            DiskRequest::Read {
                op,
                file,
                offset,
                len,
            } => DiskRequest::Read {
                op: *op,
                file: *file,
                offset: *offset,
                len: *len,
            },
            DiskRequest::Truncate { op, file, len } => DiskRequest::Truncate {
                op: *op,
                file: *file,
                len: *len,
            },
            DiskRequest::Remove { op, file } => DiskRequest::Remove {
                op: *op,
                file: *file,
            },
        })
    }
}

impl MemDisk {
    pub fn submit(&mut self, request: DiskRequest) {
        self.pending.push_back(Box::new(Pending(request)));
        let removals = self.pending.iter().filter(|pending| {
            let Pending(request) = &***pending;
            matches!(request, DiskRequest::Remove { .. })
        });
        let removing = removals.count();
        self.removing_most = self.removing_most.max(removing);
    }

    /// Does the oldest request.
    pub fn complete(&mut self) -> Option<DiskDone> {
        self.complete_at(0)
    }

    pub fn complete_at(&mut self, at: usize) -> Option<DiskDone> {
        let request = self.pending.remove(at)?.0;
        self.done += 1;
        let (op, file) = request.target();
        let result = self.execute(request);
        Some(DiskDone { op, file, result })
    }

    fn execute(&mut self, request: DiskRequest) -> Result<DiskOutput, DiskError> {
        match request {
            DiskRequest::Create {
                file,
                len,
                background,
                ..
            } => {
                if self.files.contains_key(&file) {
                    return Err(DiskError::Exists);
                }
                self.made.push((file, background));
                if self.full {
                    // It got as far as it could.
                    self.files.insert(file, vec![0; BLOCK]);
                    return Err(DiskError::Full);
                }
                self.files.insert(file, vec![0; len as usize]);
                Ok(DiskOutput::Done)
            }
            DiskRequest::Write {
                file, offset, data, ..
            } => {
                assert!(offset.is_multiple_of(BLOCK as u64) && !data.is_empty());
                let content = self.files.get_mut(&file).ok_or(DiskError::Missing)?;
                if let Some(error) = self.fail_write.take() {
                    return Err(error);
                }
                let offset = offset as usize;
                if matches!(file, FileId::Segment { .. }) && offset + data.len() <= content.len() {
                    let old = &content[offset..offset + data.len()];
                    assert!(
                        old.iter().all(|byte| *byte == 0),
                        "{file:?} is written twice"
                    );
                }
                if content.len() < offset + data.len() {
                    content.resize(offset + data.len(), 0);
                }
                content[offset..offset + data.len()].copy_from_slice(data.as_slice());
                self.writes += 1;
                Ok(DiskOutput::Written(data))
            }
            DiskRequest::Read {
                file, offset, len, ..
            } => {
                let content = self.files.get(&file).ok_or(DiskError::Missing)?;
                let start = (offset as usize).min(content.len());
                let end = (start + len as usize).min(content.len()) / BLOCK * BLOCK;
                let end = end.max(start);
                let mut data = BlockBuf::zeroed(end - start);
                data.as_mut_slice().copy_from_slice(&content[start..end]);
                Ok(DiskOutput::Data(data))
            }
            DiskRequest::Truncate { file, len, .. } => {
                let content = self.files.get_mut(&file).ok_or(DiskError::Missing)?;
                assert!(
                    content.len() as u64 >= len,
                    "a truncation never grows {file:?}"
                );
                content.truncate(len as usize);
                Ok(DiskOutput::Done)
            }
            DiskRequest::Remove { file, .. } => {
                self.files.remove(&file);
                Ok(DiskOutput::Done)
            }
        }
    }

    /// The disk after the machine stopped now.
    pub fn crash(&self, crash: Crash) -> MemDisk {
        let mut disk = MemDisk {
            files: self.files.clone(),
            full: self.full,
            ..MemDisk::default()
        };
        let mut rng = Rng(if let Crash::Random(seed) = crash {
            seed
        } else {
            0
        });
        for pending in &self.pending {
            let pending = (**pending).clone().0;
            let all = match crash {
                Crash::Nothing => continue,
                Crash::Everything => true,
                _ => false,
            };
            if all {
                let _ = disk.execute(pending);
                continue;
            }
            match pending {
                DiskRequest::Create { file, len, .. } => {
                    let len = match crash {
                        Crash::Prefix(sectors) => (sectors * SECTOR) as u64,
                        _ => rng.below(len / SECTOR as u64 + 2) * SECTOR as u64,
                    }
                    .min(len);
                    if rng.below(4) > 0 {
                        disk.files
                            .entry(file)
                            .or_insert_with(|| vec![0; len as usize]);
                    }
                }
                DiskRequest::Write {
                    file, offset, data, ..
                } => {
                    let Some(content) = disk.files.get_mut(&file) else {
                        continue;
                    };
                    let sectors = data.len() / SECTOR;
                    for sector in 0..sectors {
                        let there = match crash {
                            Crash::Prefix(prefix) => sector < prefix,
                            _ => rng.below(2) == 0,
                        };
                        let at = offset as usize + sector * SECTOR;
                        if there {
                            if content.len() < at + SECTOR {
                                content.resize(at + SECTOR, 0);
                            }
                            content[at..at + SECTOR].copy_from_slice(
                                &data.as_slice()[sector * SECTOR..(sector + 1) * SECTOR],
                            );
                        }
                    }
                }
                DiskRequest::Truncate { .. } | DiskRequest::Remove { .. } => {
                    if rng.below(2) == 0 {
                        let _ = disk.execute(pending);
                    }
                }
                DiskRequest::Read { .. } => {}
            }
        }
        disk.done = 0;
        disk
    }
}

impl Files for MemDisk {
    fn list(&mut self, log: LogId) -> Result<(Vec<(FileId, u64)>, Vec<String>), DiskError> {
        let files = self
            .files
            .iter()
            .filter(|(file, _)| file.log() == log)
            .map(|(file, content)| (*file, content.len() as u64))
            .collect();
        Ok((files, Vec::new()))
    }

    fn read(&mut self, file: FileId, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let content = self.files.get(&file).ok_or(DiskError::Missing)?;
        let start = (offset as usize).min(content.len());
        let end = (start + into.len()).min(content.len());
        into[..end - start].copy_from_slice(&content[start..end]);
        Ok(end - start)
    }
}

/// A record as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub lsn: u64,
    pub resource: u64,
    pub first: u64,
    pub count: u32,
    pub carried: bool,
    pub ext: Vec<u8>,
    pub body: Vec<u8>,
    pub at: Location,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visited {
    pub states: Vec<(u64, u64, Vec<u8>)>,
    pub records: Vec<Seen>,
    pub damage: Vec<Damage>,
}

pub fn config() -> LogConfig {
    LogConfig {
        store: [7; 16],
        segment_bytes: SEGMENT,
        group_bytes_max: 64 << 10,
        backlog_bytes_max: 4 << 20,
        checkpoint_every_bytes: 1 << 40,
        reserve_bytes: 128 << 10,
        seed: 99,
        started: WallMs(1_700_000_000_000),
        ..LogConfig::default()
    }
}

pub fn open(disk: &mut MemDisk) -> Result<(Recovered, Visited), RecoverError> {
    open_with(disk, config())
}

pub fn open_with(
    disk: &mut MemDisk,
    config: LogConfig,
) -> Result<(Recovered, Visited), RecoverError> {
    let mut visited = Visited::default();
    let recovered = recover(disk, config, &mut |replay| match replay {
        Replay::State {
            resource,
            as_of,
            state,
            ..
        } => {
            visited.states.push((resource.0, as_of.0, state.to_vec()));
        }
        Replay::Record {
            lsn,
            at,
            head,
            carried,
            ext,
            body,
        } => visited.records.push(Seen {
            lsn: lsn.0,
            resource: head.resource.0,
            first: head.first,
            count: head.count,
            carried,
            ext: ext.to_vec(),
            body: body.to_vec(),
            at,
        }),
        Replay::Damage(damage) => visited.damage.push(damage.clone()),
    })?;
    assert_eq!(visited.damage, recovered.report.damage);
    Ok((recovered, visited))
}

pub fn head(resource: u64, first: u64, count: u32) -> RecordHead {
    RecordHead {
        resource: ResourceId(resource),
        partition: PartitionId(0),
        kind: 1,
        first,
        count,
        epoch: 0,
        timestamp: WallMs(1000 + first),
    }
}

/// A log on a disk.
pub struct World {
    pub log: Log,
    pub disk: MemDisk,
    pub events: Vec<LogEvent>,
    pub now: Monotonic,
}

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: LogConfig) -> Self {
        let mut disk = MemDisk::default();
        let (recovered, _) = open_with(&mut disk, config).unwrap();
        let mut world = Self::from(recovered, disk);
        world.settle();
        world
    }

    pub fn from(recovered: Recovered, disk: MemDisk) -> Self {
        let mut world = Self {
            log: recovered.log,
            disk,
            events: Vec::new(),
            now: Monotonic::ZERO,
        };
        world.log.ready();
        world
    }

    /// Hands requests over and takes events, without doing anything.
    pub fn collect(&mut self) {
        while let Some(request) = self.log.poll_request() {
            self.disk.submit(request);
        }
        while let Some(event) = self.log.poll_event() {
            self.events.push(event);
        }
    }

    /// Does one request; whether there was one.
    pub fn step(&mut self) -> bool {
        self.collect();
        let Some(done) = self.disk.complete() else {
            return false;
        };
        self.log.handle_done(self.now, done);
        self.collect();
        true
    }

    /// Until nothing is left to do.
    pub fn settle(&mut self) {
        self.log.end_turn(self.now);
        while self.step() {}
    }

    /// Lets time pass, in steps small enough for every deadline.
    pub fn pass(&mut self, ms: u64) {
        let end = Monotonic(self.now.0 + ms * 1_000_000);
        while let Some(at) = self.log.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.log.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    pub fn append(&mut self, resource: u64, first: u64, count: u32, body: &[u8]) -> Appended {
        let now = self.now;
        self.log.append(
            now,
            &[RecordIn {
                head: head(resource, first, count),
                ext: &[],
                body: &[body],
                retain: false,
            }],
        )
    }

    pub fn retain(&mut self, resource: u64, first: u64, body: &[u8]) -> Location {
        let now = self.now;
        self.log
            .append(
                now,
                &[RecordIn {
                    head: head(resource, first, 1),
                    ext: &[b"x"],
                    body: &[body],
                    retain: true,
                }],
            )
            .first_location
    }

    pub fn checkpoint(&mut self, states: &[(u64, &[u8])]) {
        self.log.checkpoint_begin();
        for (resource, state) in states {
            let as_of = self.log.appended();
            self.log
                .checkpoint_add(ResourceId(*resource), PartitionId(0), 1, as_of, state);
        }
        self.log.checkpoint_end();
        self.settle();
    }

    /// The answer to a read of a stream, once the disk is done.
    pub fn read(&mut self, resource: u64, from: u64, max: u32) -> Result<StreamChunk, ReadError> {
        self.events.clear();
        self.log
            .read_stream(1, ResourceId(resource), PartitionId(0), Offset(from), max)
            .unwrap();
        self.settle();
        self.events
            .drain(..)
            .find_map(|event| match event {
                LogEvent::StreamRead { token: 1, result } => Some(result),
                _ => None,
            })
            .unwrap()
    }

    pub fn read_at(&mut self, at: Location) -> Result<RecordBytes, ReadError> {
        self.events.clear();
        self.log.read_record(2, at).unwrap();
        self.settle();
        self.events
            .drain(..)
            .find_map(|event| match event {
                LogEvent::RecordRead { token: 2, result } => Some(result),
                _ => None,
            })
            .unwrap()
    }

    /// Everything of a stream from `from` on, checked to be without gaps.
    pub fn read_all(&mut self, resource: u64, from: u64, max: u32) -> Vec<u8> {
        let (mut at, mut bytes) = (from, Vec::new());
        loop {
            let chunk = self.read(resource, at, max).unwrap();
            if chunk.bytes.is_empty() {
                return bytes;
            }
            assert_eq!(chunk.first.0, at);
            bytes.extend_from_slice(&chunk.bytes);
            at = chunk.end.0;
        }
    }

    pub fn committed(&self) -> Vec<u64> {
        self.events
            .iter()
            .filter_map(|event| match event {
                LogEvent::Committed { lsn } => Some(lsn.0),
                _ => None,
            })
            .collect()
    }

    pub fn crash(&self, crash: Crash) -> (World, Visited, RecoveryReport) {
        let mut disk = self.disk.crash(crash);
        let (recovered, visited) = open_with(&mut disk, self.log.config().clone()).unwrap();
        let report = recovered.report.clone();
        let mut world = Self::from(recovered, disk);
        world.now = self.now;
        (world, visited, report)
    }
}

/// A body that says which record it is.
pub fn body(resource: u64, first: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng(resource.wrapping_mul(1_000_003).wrapping_add(first));
    (0..len).map(|_| rng.next() as u8).collect()
}
