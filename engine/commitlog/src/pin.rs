//! Pins: which bytes of which files are the log as of its last durable record,
//! kept while somebody copies them.
//!
//! What is pinned is what a crash at that moment would have left at the least: no
//! byte of it is ever written again, so a copy made at leisure is a log that
//! [`recover`](crate::recover()) opens like any other, cut at one record. While the
//! pin holds, none of these files is removed; the log appends, seals and makes
//! checkpoints as before. A pin ends by itself before it can harm the log.

use pinion_types::Monotonic;

use crate::disk::{DiskError, FileId};
use crate::log::{Log, Phase};
use crate::segments::{FileState, Removal};
use crate::{LogId, Lsn};

/// How long and how much a pin may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinLimits {
    /// When it ends in any case.
    pub until: Monotonic,
    /// Bytes of files that would have been removed and are still there because of
    /// the pin. Beyond it the pin ends.
    pub held_bytes_max: u64,
}

/// A file of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedFile {
    /// Which.
    pub file: FileId,
    /// Bytes from its beginning that belong to the copy; `None`: all that it has,
    /// which does not change any more.
    pub len: Option<u64>,
}

/// A log as of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Which log.
    pub log: LogId,
    /// The last record in it: the last that was durable.
    pub upto: Lsn,
    /// Everything that a copy needs, oldest first, checkpoints behind segments.
    pub files: Vec<PinnedFile>,
}

/// Why a log is not pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinRefused {
    /// Somebody copies it already.
    #[error("the log is being copied already")]
    Pinned,
    /// It is being ended.
    #[error("the log is being ended")]
    Sealed,
}

/// A pin that holds.
#[derive(Debug)]
pub(crate) struct Pin {
    /// Ascending.
    segments: Vec<u64>,
    checkpoints: Vec<u64>,
    pub(crate) limits: PinLimits,
}

impl Pin {
    pub(crate) fn has_segment(&self, number: u64) -> bool {
        self.segments.binary_search(&number).is_ok()
    }

    pub(crate) fn has_checkpoint(&self, number: u64) -> bool {
        self.checkpoints.contains(&number)
    }
}

impl Log {
    /// Pins the log as of its last durable record, until [`Log::unpin`] or one of
    /// `limits`. It also ends when the disk is full and it holds anything, because that
    /// room is needed then, and with [`Log::seal`]. Whoever copies notices by a file that is gone:
    /// numbers are never used again, so a file that is there is the right one.
    ///
    /// # Errors
    /// [`PinRefused`]; nothing is held.
    pub fn pin(&mut self, limits: PinLimits) -> Result<Pinned, PinRefused> {
        if self.pin.is_some() {
            return Err(PinRefused::Pinned);
        }
        if matches!(self.phase, Phase::Sealing | Phase::Sealed) {
            return Err(PinRefused::Sealed);
        }
        let log = self.config.log;
        let mut files = Vec::new();
        let mut segments = Vec::new();
        for segment in self.segments.iter() {
            // One whose removal is durable is explained by the record that says so.
            // Until that is committed the copy does not have the record.
            let is_there = segment.file >= FileState::Open
                && matches!(segment.removal, Removal::No | Removal::Announced);
            if !is_there {
                continue;
            }
            let number = segment.key.number;
            segments.push(number);
            let len = match segment.file {
                FileState::Closed => segment.file_bytes,
                // Behind it lie groups that are not durable, zeros, or a footer that
                // is being written and can be made again.
                _ => segment.durable.into(),
            };
            files.push(PinnedFile {
                file: FileId::Segment { log, number },
                len: Some(len),
            });
        }
        let checkpoints: Vec<u64> = self.checkpoints.durable.iter().map(|(at, _)| *at).collect();
        files.extend(checkpoints.iter().map(|&number| PinnedFile {
            file: FileId::Checkpoint { log, number },
            len: None,
        }));
        self.pin = Some(Pin {
            segments,
            checkpoints,
            limits,
        });
        Ok(Pinned {
            log,
            upto: self.committed,
            files,
        })
    }

    /// Nobody copies it any more: what waited for that is removed. Without a pin
    /// nothing happens.
    pub fn unpin(&mut self) {
        if self.pin.take().is_some() && self.phase != Phase::Failed {
            self.remove_old_checkpoints();
            self.pump_files();
        }
    }

    /// Whether a pin holds.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }

    /// The time of a pin may be over.
    pub(crate) fn pin_timeout(&mut self, now: Monotonic) {
        if self.pin.as_ref().is_some_and(|pin| pin.limits.until <= now) {
            self.unpin();
        }
    }

    /// Ends a pin that holds more than it may, or anything on a full disk.
    pub(crate) fn limit_pin(&mut self) {
        let Some(pin) = &self.pin else {
            return;
        };
        let held = self.files.due.iter().filter_map(|&number| {
            let segment = self.segments.get(number)?;
            pin.has_segment(number).then_some(segment.file_bytes)
        });
        let held: u64 = held.sum();
        let is_full = self.files.refused == Some(DiskError::Full);
        if held > pin.limits.held_bytes_max || (held > 0 && is_full) {
            self.pin = None;
            self.remove_old_checkpoints();
        }
    }
}
