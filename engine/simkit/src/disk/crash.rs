//! What a crash leaves of the requests that were not done.

use std::sync::Arc;

use pinion_commitlog::{BLOCK, FileId};

use super::image::{Image, SECTOR};
use super::{Job, Pending, SimDisk};
use crate::SimRng;

/// How much of what was in flight reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// All of it: the process was killed, the disk was not.
    Clean,
    /// None of it.
    DropUnsynced,
    /// Requests in order up to one of them; of that one, its first sectors.
    Prefix,
    /// Any sectors of any request.
    RandomSubset,
    /// Of every write its first so many sectors; everything else in flight whole.
    Sectors(u32),
}

impl CrashMode {
    /// The four modes of an enumeration.
    pub const ALL: [Self; 4] = [
        Self::Clean,
        Self::DropUnsynced,
        Self::Prefix,
        Self::RandomSubset,
    ];
}

/// Which sectors of a write are on the disk.
enum Kept {
    All,
    None,
    First(usize),
    Any,
}

impl SimDisk {
    /// Power is lost. Requests in flight are never answered; of each the disk
    /// keeps what `mode` and `rng` say, and what was not durable is gone.
    ///
    /// Names of files are durable with the request that made or removed them:
    /// a creation in flight leaves nothing, or a file that is shorter or empty.
    pub fn crash(&mut self, mode: CrashMode, rng: &mut SimRng) {
        let mut pending: Vec<Pending> = self.agenda.drain().collect();
        pending.sort_by_key(|p| p.number);
        // Of an ordered prefix, the request in which it ends.
        let cut = rng.index(pending.len() + 1);
        for (index, request) in pending.into_iter().enumerate() {
            let kept = match mode {
                CrashMode::Clean => Kept::All,
                CrashMode::DropUnsynced => Kept::None,
                CrashMode::Prefix if index < cut => Kept::All,
                CrashMode::Prefix if index == cut => Kept::First(request.some_sectors(rng)),
                CrashMode::Prefix => Kept::None,
                CrashMode::RandomSubset => Kept::Any,
                CrashMode::Sectors(sectors) => match request.job {
                    Job::Write { .. } => {
                        Kept::First(usize::try_from(sectors).unwrap_or(usize::MAX))
                    }
                    _ => Kept::All,
                },
            };
            self.leave(request.file, &request.job, &kept, rng);
        }
        for file in self.files.values_mut() {
            file.live.clone_from(&file.durable);
            file.prior.clear();
        }
        self.files.retain(|_, file| file.durable.is_some());
    }

    /// What is durable of a request that nobody will hear of.
    fn leave(&mut self, file: FileId, job: &Job, kept: &Kept, rng: &mut SimRng) {
        let happens = match kept {
            Kept::All => true,
            Kept::None => false,
            Kept::First(_) | Kept::Any => rng.coin(),
        };
        let state = self.files.entry(file).or_default();
        match job {
            Job::Read { .. } => {}
            Job::Create { len } => {
                if state.durable.is_some() || matches!(kept, Kept::None) {
                    return;
                }
                let blocks = len / BLOCK as u64;
                let left = match kept {
                    Kept::All => Some(*len),
                    // The name without a byte, or the first blocks.
                    _ if happens => Some(rng.between(0, blocks) * BLOCK as u64),
                    _ => rng.coin().then_some(0),
                };
                state.durable = left.map(Image::zeroed);
            }
            Job::Write { offset, data } => {
                if let Some(durable) = &mut state.durable {
                    keep_sectors(durable, *offset, data.as_slice(), kept, rng);
                }
            }
            Job::Truncate { len } => {
                if let Some(durable) = &mut state.durable
                    && happens
                    && *len < durable.len()
                {
                    durable.set_len(*len);
                }
            }
            Job::Remove => {
                if happens {
                    state.durable = None;
                }
            }
        }
    }

    /// What a failed request left: any part of it durable, and all or nothing
    /// of it to be seen until the next crash.
    pub(super) fn leave_of_failed(&mut self, request: &Pending) {
        let mut rng = self.rng.fork(request.number);
        self.leave(request.file, &request.job, &Kept::Any, &mut rng);
        let state = self.files.entry(request.file).or_default();
        match &request.job {
            Job::Write { offset, data } if rng.coin() => {
                if let Some(live) = &mut state.live {
                    live.write(*offset, data.as_slice());
                }
            }
            Job::Read { .. } => {}
            _ => state.live.clone_from(&state.durable),
        }
    }
}

fn keep_sectors(image: &mut Image, offset: u64, data: &[u8], kept: &Kept, rng: &mut SimRng) {
    // A write that grows the file: its new length may be durable without its
    // bytes, never its bytes without the length that holds them.
    let old_len = image.len();
    let end = offset + data.len() as u64;
    if end > old_len && matches!(kept, Kept::Any) && rng.coin() {
        image.set_len(end);
    }
    for (index, sector) in data.chunks(SECTOR).enumerate() {
        let keep = match kept {
            Kept::All => true,
            Kept::None => false,
            Kept::First(sectors) => index < *sectors,
            Kept::Any => rng.coin(),
        };
        if keep {
            image.write(offset + (index * SECTOR) as u64, sector);
        }
    }
    // Lengths on disk are whole blocks here as they are in requests.
    if image.len() > old_len {
        image.set_len(image.len().next_multiple_of(BLOCK as u64));
    }
}

impl Pending {
    /// Some of its sectors: none, all, or any number between.
    fn some_sectors(&self, rng: &mut SimRng) -> usize {
        match &self.job {
            Job::Write { data, .. } => rng.index(data.len() / SECTOR + 1),
            _ => rng.index(2),
        }
    }
}

/// A buffer shared with the copies of a disk that were taken while its write
/// was in flight; copied only if there are such.
pub(super) fn unshare<T: Clone>(shared: Arc<T>) -> T {
    Arc::unwrap_or_clone(shared)
}
