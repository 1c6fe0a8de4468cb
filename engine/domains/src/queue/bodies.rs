//! Where the bodies of puts are: in memory while they fit, in the log always
//! (durable queues), loaded again shortly before a consumer wants them.
//!
//! A body is *pinned* from being loaded until it is served, so that loading
//! always leads to a delivery. When memory is short, bodies that were served
//! go first, the longest there first; a new one that still does not fit is not
//! kept, because what was put last is wanted last.

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_commitlog::Location;
use pinion_types::FixedMap;
use pinion_types::block;

use super::messages::Residency;
use super::partition::QueuePartition;
use super::pool::{List, NIL};

/// Loads of one partition at once. More hides a slower disk and takes more of
/// the log's bounded reads from other partitions.
pub const LOADS_MAX: u32 = 4;
/// Messages looked at ahead of a consumer for bodies to load.
const READ_AHEAD_MESSAGES: u32 = 256;

/// Names a load; a late answer for a body that went meanwhile is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoadToken {
    record: u32,
    generation: u32,
}

/// Why a body could not be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The log cannot read now; it is asked again.
    Retry,
    /// The body is damaged or the disk failed: the partition is fenced.
    Damaged,
}

#[derive(Debug)]
pub(super) struct Bodies {
    pub(super) resident: u64,
    /// Bytes wanted, being loaded, or loaded and not served.
    pinned: u64,
    ahead: List,
    served: List,
    wanted: List,
    loading: u32,
    pub(super) places: FixedMap<Location, u32>,
    releases: VecDeque<Location>,
    /// Messages dropped while there was no group.
    pub(super) dropped: u64,
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self {
            resident: 0,
            pinned: 0,
            ahead: List::EMPTY,
            served: List::EMPTY,
            wanted: List::EMPTY,
            loading: 0,
            places: FixedMap::default(),
            releases: VecDeque::new(),
            dropped: 0,
        }
    }
}

impl Bodies {
    pub(super) fn forget_releases(&mut self) {
        self.releases.clear();
    }
}

impl QueuePartition {
    /// A body to be read from the log; answer with
    /// [`QueuePartition::handle_loaded`]. At most [`LOADS_MAX`] at once.
    pub fn poll_load(&mut self) -> Option<(LoadToken, Location)> {
        if self.bodies.loading >= LOADS_MAX {
            return None;
        }
        let record = self.bodies.wanted.pop_front(&mut self.t.records)?;
        self.bodies.loading += 1;
        let row = &mut self.t.records[record];
        row.residency = Residency::Loading;
        let token = LoadToken {
            record,
            generation: row.generation,
        };
        let at = row.location.expect("only bodies in the log are absent");
        Some((token, at))
    }

    /// The answer to a load: the body of the record.
    pub fn handle_loaded(&mut self, token: LoadToken, result: Result<Bytes, LoadError>) {
        self.bodies.loading = self.bodies.loading.saturating_sub(1);
        let Some(row) = self.t.records.get(token.record) else {
            return;
        };
        if row.generation != token.generation || row.residency != Residency::Loading {
            return;
        }
        let whole = |body: &Bytes| {
            body.len() == row.body_len as usize && block::check_records(body, row.count).is_ok()
        };
        match result {
            Ok(body) if whole(&body) => {
                let len = u64::from(row.body_len);
                self.make_room(len);
                self.bodies.resident += len;
                let row = &mut self.t.records[token.record];
                row.body = Some(body);
                row.residency = Residency::Pinned;
                self.kick_all();
            }
            Err(LoadError::Retry) => {
                self.t.records[token.record].residency = Residency::Wanted;
                self.bodies
                    .wanted
                    .push_back(&mut self.t.records, token.record);
            }
            Ok(_) | Err(LoadError::Damaged) => self.fence(),
        }
    }

    /// A retained record of the log that is wanted no more.
    pub fn poll_release(&mut self) -> Option<Location> {
        self.bodies.releases.pop_front()
    }

    /// The log has moved a retained record.
    pub fn relocated(&mut self, from: Location, to: Location) {
        match self.bodies.places.remove(&from) {
            Some(record) => {
                self.t.records[record].location = Some(to);
                self.bodies.places.insert(to, record);
            }
            // It was released while it was being moved.
            None => self.bodies.releases.push_back(to),
        }
    }

    /// Every record of the log the queue still wants, for the log's restart.
    pub fn live_locations(&self) -> impl Iterator<Item = Location> + '_ {
        let rows = self.t.records.rows().iter();
        rows.filter(|r| r.live > 0).filter_map(|r| r.location)
    }

    /// Bytes of bodies in memory, those of uncommitted puts excluded.
    #[must_use]
    pub const fn resident_bytes(&self) -> u64 {
        self.bodies.resident
    }

    /// A new put's body: kept if it fits.
    pub(super) fn keep_body(&mut self, record: u32, body: Bytes) {
        let row = &self.t.records[record];
        let len = u64::from(row.body_len);
        if let Some(at) = row.location {
            self.bodies.places.insert(at, record);
            self.make_room(len);
            if self.bodies.resident + len > self.config.resident_bytes_max {
                self.t.records[record].residency = Residency::Absent;
                return;
            }
        }
        self.bodies.resident += len;
        let row = &mut self.t.records[record];
        row.body = Some(body);
        row.residency = Residency::Ahead;
        self.bodies.ahead.push_back(&mut self.t.records, record);
    }

    /// Evicts what was served, the longest there first, until `len` more fit.
    /// The body served last stays: its next message is likely wanted next.
    fn make_room(&mut self, len: u64) {
        while self.bodies.resident + len > self.config.resident_bytes_max
            && self.bodies.served.len > 1
        {
            let Some(record) = self.bodies.served.pop_front(&mut self.t.records) else {
                return;
            };
            let row = &mut self.t.records[record];
            row.residency = Residency::Absent;
            row.body = None;
            self.bodies.resident -= u64::from(row.body_len);
        }
    }

    /// Some of the body was handed to a consumer.
    pub(super) fn served(&mut self, record: u32) {
        let row = &self.t.records[record];
        if row.location.is_none() || self.bodies.served.tail == record {
            // Bodies of ephemeral queues are never evicted, in whatever order.
            return;
        }
        match row.residency {
            Residency::Served => self.bodies.served.remove(&mut self.t.records, record),
            Residency::Ahead => self.bodies.ahead.remove(&mut self.t.records, record),
            Residency::Pinned => self.bodies.pinned -= u64::from(row.body_len),
            Residency::Absent | Residency::Wanted | Residency::Loading => {
                unreachable!("a body is served only when it is there")
            }
        }
        self.t.records[record].residency = Residency::Served;
        self.bodies.served.push_back(&mut self.t.records, record);
        self.make_room(0);
    }

    /// A consumer waits for the body of `message`, and is likely to want those
    /// of the next ones.
    pub(super) fn want_body(&mut self, message: u32) {
        let record = self.t.messages[message].record;
        self.want(record);
        let mut next = if self.t.messages[message].delayed {
            NIL
        } else {
            self.t.messages[message].link.next
        };
        for _ in 0..READ_AHEAD_MESSAGES {
            if next == NIL || self.bodies.pinned >= self.config.read_ahead_bytes {
                return;
            }
            let row = &self.t.messages[next];
            let (record, after) = (row.record, row.link.next);
            self.want(record);
            next = after;
        }
    }

    fn want(&mut self, record: u32) {
        let row = &mut self.t.records[record];
        if row.residency != Residency::Absent {
            return;
        }
        row.residency = Residency::Wanted;
        self.bodies.pinned += u64::from(row.body_len);
        self.bodies.wanted.push_back(&mut self.t.records, record);
    }

    /// The last message of a put has gone.
    pub(super) fn release_record(&mut self, record: u32) {
        let row = &mut self.t.records[record];
        let len = u64::from(row.body_len);
        row.generation = row.generation.wrapping_add(1);
        let residency = core::mem::replace(&mut row.residency, Residency::Absent);
        let location = row.location.take();
        row.body = None;
        match residency {
            Residency::Absent => {}
            Residency::Wanted => {
                self.bodies.wanted.remove(&mut self.t.records, record);
                self.bodies.pinned -= len;
            }
            Residency::Loading => self.bodies.pinned -= len,
            Residency::Pinned => {
                self.bodies.pinned -= len;
                self.bodies.resident -= len;
            }
            Residency::Ahead => {
                self.bodies.ahead.remove(&mut self.t.records, record);
                self.bodies.resident -= len;
            }
            Residency::Served => {
                self.bodies.served.remove(&mut self.t.records, record);
                self.bodies.resident -= len;
            }
        }
        if let Some(at) = location {
            self.bodies.places.remove(&at);
            self.bodies.releases.push_back(at);
        }
        self.t.records.free(record);
    }
}
