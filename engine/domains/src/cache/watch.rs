//! Watches: who is told about which change, in the order of versions.
//!
//! Each watch has a bounded queue of events. An event is encoded once with its
//! value and at most once without, and shared by every watch it matches. When a
//! queue is full its oldest events are dropped, and the watch is told how many
//! and which versions before its next event.
//!
//! ```text
//! event   0  u8   kind          1 set, 2 deleted, 3 expired, 4 evicted
//!         1  u64  version
//!         9  u16  key_length
//!        11  …    key
//!         …  u32  value_length  0xffff_ffff = no value sent
//!         …  …    value
//! ```
//! Little-endian; this is one item of a `CACHE_EVENTS` frame.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use hashbrown::HashTable;
use pinion_types::Version;
use pinion_types::limits::{CREDIT_BYTES_MAX, CREDIT_RECORDS_MAX};
use siphasher::sip::SipHasher13;
use slab::Slab;

use super::config::{CacheConfig, CacheError};

/// Names a watch; chosen by the owner of the partition, unique within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// Bytes of an encoded event beside key and value.
pub const EVENT_HEADER_BYTES: usize = 15;
/// The value length of an event without its value.
pub const NO_VALUE: u32 = u32::MAX;
/// What a lag notice takes from the window; a notice on the wire is no longer.
pub const LAG_WINDOW_BYTES: u32 = 64;
/// Events one watch gets before another has its turn. More fill frames better,
/// fewer let a quiet watch go first sooner.
const BURST: u32 = 64;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// It has a new value.
    Set = 1,
    /// Somebody deleted it.
    Deleted = 2,
    /// Its time to live ended.
    Expired = 3,
    /// It made room.
    Evicted = 4,
}

/// What to watch, and how much may be sent.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions<'a> {
    /// The key, or the first bytes of keys; an empty prefix is every key.
    pub key: &'a [u8],
    /// Whether `key` is a prefix.
    pub prefix: bool,
    /// Whether events carry values.
    pub with_values: bool,
    /// Events the subscriber will take.
    pub credit_records: u32,
    /// Bytes the subscriber will take; one event may overdraw it.
    pub credit_bytes: u32,
    /// Bytes the transport will take; one event may overdraw it.
    pub window_bytes: u32,
}

/// Events a watch will never see: those that matched it in `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLag {
    /// Version of the first dropped event.
    pub from: Version,
    /// One past the version of the last.
    pub to: Version,
    /// How many were dropped; exact.
    pub count: u64,
}

/// What a watch is told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// One change, encoded as the module says.
    Change {
        /// What happened.
        kind: EventKind,
        /// The version the change made.
        version: Version,
        /// Shared with every watch that gets the same form.
        encoded: Bytes,
    },
    /// Loss, before the next change. Costs no credit.
    Lag(WatchLag),
}

impl WatchEvent {
    /// What it took from the window; the caller gives this back with
    /// [`super::CachePartition::watch_window`] once the transport has taken it.
    #[must_use]
    pub fn window_bytes(&self) -> u32 {
        match self {
            Self::Change { encoded, .. } => {
                u32::try_from(encoded.len()).expect("an event fits a frame")
            }
            Self::Lag(_) => LAG_WINDOW_BYTES,
        }
    }
}

#[derive(Debug)]
struct Queued {
    kind: EventKind,
    version: u64,
    encoded: Bytes,
}

#[derive(Debug)]
struct Watch {
    id: WatchId,
    target: usize,
    with_values: bool,
    credit_records: u32,
    credit_bytes: i64,
    window_bytes: i64,
    queue: VecDeque<Queued>,
    queued_bytes: u64,
    lag: Option<WatchLag>,
    listed: bool,
    burst: u32,
}

impl Watch {
    fn deliverable(&self) -> bool {
        (self.lag.is_some() || !self.queue.is_empty())
            && self.credit_records > 0
            && self.credit_bytes > 0
            && self.window_bytes > 0
    }

    fn drop_oldest(&mut self) -> u64 {
        let Some(oldest) = self.queue.pop_front() else {
            return 0;
        };
        let bytes = oldest.encoded.len() as u64;
        self.queued_bytes -= bytes;
        self.skip(oldest.version);
        bytes
    }

    fn skip(&mut self, version: u64) {
        let lag = self.lag.get_or_insert(WatchLag {
            from: Version(version),
            to: Version(version),
            count: 0,
        });
        lag.to = Version(version + 1);
        lag.count += 1;
    }
}

/// One key or prefix, with everyone who watches it.
#[derive(Debug)]
struct Target {
    key: Box<[u8]>,
    prefix: bool,
    hash: u64,
    watches: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Watches {
    watches_max: u32,
    buffer_bytes: u64,
    buffer_records: usize,
    total_bytes_max: u64,
    hasher: SipHasher13,
    watches: Slab<Watch>,
    targets: Slab<Target>,
    by_id: HashTable<usize>,
    exact: HashTable<usize>,
    prefixes: Vec<usize>,
    ready: VecDeque<usize>,
    total_bytes: u64,
}

/// A change before it is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub(super) kind: EventKind,
    pub(super) hash: u64,
    pub(super) version: u64,
    pub(super) key: &'a [u8],
    pub(super) value: Option<&'a [u8]>,
}

impl Watches {
    pub(super) fn new(config: &CacheConfig, hasher: SipHasher13) -> Self {
        Self {
            watches_max: config.watchers_max,
            buffer_bytes: u64::from(config.watch_buffer_bytes),
            buffer_records: config.watch_buffer_records.max(1) as usize,
            total_bytes_max: config.watch_total_bytes,
            hasher,
            watches: Slab::new(),
            targets: Slab::new(),
            by_id: HashTable::new(),
            exact: HashTable::new(),
            prefixes: Vec::new(),
            ready: VecDeque::new(),
            total_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.watches.len()).expect("bounded by watchers_max")
    }

    pub(super) const fn queued_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(super) fn open(
        &mut self,
        id: WatchId,
        hash: u64,
        options: &WatchOptions<'_>,
    ) -> Result<(), CacheError> {
        if self.watches.len() >= self.watches_max as usize {
            return Err(CacheError::TooManyWatches {
                limit: self.watches_max,
            });
        }
        if self.find(id).is_some() {
            return Err(CacheError::DuplicateId);
        }
        let target = self.target(hash, options);
        let at = self.watches.insert(Watch {
            id,
            target,
            with_values: options.with_values,
            credit_records: options.credit_records.min(CREDIT_RECORDS_MAX),
            credit_bytes: i64::from(options.credit_bytes.min(CREDIT_BYTES_MAX)),
            window_bytes: i64::from(options.window_bytes),
            queue: VecDeque::new(),
            queued_bytes: 0,
            lag: None,
            listed: false,
            burst: 0,
        });
        self.targets[target].watches.push(at);
        let (hasher, watches) = (&self.hasher, &self.watches);
        self.by_id
            .insert_unique(id_hash(hasher, id), at, |&w| id_hash(hasher, watches[w].id));
        Ok(())
    }

    /// O(watches): it may stand anywhere in the lists it is in. Gives the first
    /// version that was not delivered, if one waits.
    pub(super) fn close(&mut self, id: WatchId) -> Option<Option<u64>> {
        let at = self.find(id)?;
        self.by_id
            .find_entry(id_hash(&self.hasher, id), |&w| w == at)
            .expect("just found")
            .remove();
        let watch = self.watches.remove(at);
        self.total_bytes -= watch.queued_bytes;
        self.ready.retain(|&w| w != at);
        let target = &mut self.targets[watch.target];
        target.watches.retain(|&w| w != at);
        if target.watches.is_empty() {
            let target = self.targets.remove(watch.target);
            if target.prefix {
                self.prefixes.retain(|&t| t != watch.target);
            } else {
                self.exact
                    .find_entry(target.hash, |&t| t == watch.target)
                    .expect("an exact target is indexed")
                    .remove();
            }
        }
        let queued = watch.queue.front().map(|event| event.version);
        Some(watch.lag.map(|lag| lag.from.0).or(queued))
    }

    pub(super) fn credit(&mut self, id: WatchId, records: u32, bytes: u32) -> bool {
        self.adjust(id, |watch| {
            let records = watch.credit_records.saturating_add(records);
            watch.credit_records = records.min(CREDIT_RECORDS_MAX);
            let bytes = watch.credit_bytes.saturating_add(i64::from(bytes));
            watch.credit_bytes = bytes.min(i64::from(CREDIT_BYTES_MAX));
        })
    }

    pub(super) fn window(&mut self, id: WatchId, bytes: u32) -> bool {
        self.adjust(id, |watch| {
            watch.window_bytes = watch.window_bytes.saturating_add(i64::from(bytes));
        })
    }

    /// Queues a change for every watch it matches. O(distinct prefixes watched +
    /// watches matched); when somebody matches, two allocations
    /// (the bytes, and their count of owners) for each of the two forms in use.
    pub(super) fn publish(&mut self, change: Change<'_>) {
        if self.watches.is_empty() {
            return;
        }
        let mut forms = [None, None];
        let exact = self
            .exact
            .find(change.hash, |&t| *self.targets[t].key == *change.key)
            .copied();
        if let Some(target) = exact {
            self.publish_to(target, change, &mut forms);
        }
        for i in 0..self.prefixes.len() {
            let target = self.prefixes[i];
            if change.key.starts_with(&self.targets[target].key) {
                self.publish_to(target, change, &mut forms);
            }
        }
    }

    /// The next thing to tell a watch. Amortised O(1).
    pub(super) fn pop(&mut self) -> Option<(WatchId, WatchEvent)> {
        loop {
            let at = *self.ready.front()?;
            let watch = &mut self.watches[at];
            if !watch.deliverable() || watch.burst >= BURST {
                self.ready.pop_front();
                watch.burst = 0;
                watch.listed = watch.deliverable();
                if watch.listed {
                    self.ready.push_back(at);
                }
                continue;
            }
            watch.burst += 1;
            if let Some(lag) = watch.lag.take() {
                watch.window_bytes -= i64::from(LAG_WINDOW_BYTES);
                return Some((watch.id, WatchEvent::Lag(lag)));
            }
            let event = watch.queue.pop_front().expect("deliverable without a lag");
            let bytes = event.encoded.len() as u64;
            watch.queued_bytes -= bytes;
            self.total_bytes -= bytes;
            let cost = i64::try_from(bytes).expect("an event fits a frame");
            watch.credit_records -= 1;
            watch.credit_bytes -= cost;
            watch.window_bytes -= cost;
            let change = WatchEvent::Change {
                kind: event.kind,
                version: Version(event.version),
                encoded: event.encoded,
            };
            return Some((watch.id, change));
        }
    }

    fn publish_to(&mut self, target: usize, change: Change<'_>, forms: &mut [Option<Bytes>; 2]) {
        for &at in &self.targets[target].watches {
            let watch = &mut self.watches[at];
            let value = change.value.filter(|_| watch.with_values);
            let form = &mut forms[usize::from(value.is_some())];
            // Encoded once per form, shared by every watch after.
            let encoded = form.get_or_insert_with(|| encode(change, value)).clone();
            let bytes = encoded.len() as u64;
            while !watch.queue.is_empty()
                && (watch.queued_bytes + bytes > self.buffer_bytes
                    || watch.queue.len() >= self.buffer_records
                    || self.total_bytes + bytes > self.total_bytes_max)
            {
                self.total_bytes -= watch.drop_oldest();
            }
            if bytes > self.buffer_bytes || self.total_bytes + bytes > self.total_bytes_max {
                watch.skip(change.version);
            } else {
                watch.queued_bytes += bytes;
                self.total_bytes += bytes;
                watch.queue.push_back(Queued {
                    kind: change.kind,
                    version: change.version,
                    encoded,
                });
            }
            if !watch.listed && watch.deliverable() {
                watch.listed = true;
                self.ready.push_back(at);
            }
        }
    }

    fn adjust(&mut self, id: WatchId, change: impl FnOnce(&mut Watch)) -> bool {
        let Some(at) = self.find(id) else {
            return false;
        };
        let watch = &mut self.watches[at];
        change(watch);
        if !watch.listed && watch.deliverable() {
            watch.listed = true;
            self.ready.push_back(at);
        }
        true
    }

    fn target(&mut self, hash: u64, options: &WatchOptions<'_>) -> usize {
        let targets = &self.targets;
        let known = if options.prefix {
            let is_it = |t: &&usize| *targets[**t].key == *options.key;
            self.prefixes.iter().find(is_it)
        } else {
            self.exact.find(hash, |&t| *targets[t].key == *options.key)
        };
        if let Some(&target) = known {
            return target;
        }
        let target = self.targets.insert(Target {
            key: options.key.into(),
            prefix: options.prefix,
            hash,
            watches: Vec::new(),
        });
        if options.prefix {
            self.prefixes.push(target);
        } else {
            let targets = &self.targets;
            self.exact.insert_unique(hash, target, |&t| targets[t].hash);
        }
        target
    }

    fn find(&self, id: WatchId) -> Option<usize> {
        self.by_id
            .find(id_hash(&self.hasher, id), |&w| self.watches[w].id == id)
            .copied()
    }
}

fn id_hash(hasher: &SipHasher13, id: WatchId) -> u64 {
    hasher.hash(&id.0.to_le_bytes())
}

fn encode(change: Change<'_>, value: Option<&[u8]>) -> Bytes {
    let len = EVENT_HEADER_BYTES + change.key.len() + value.map_or(0, <[u8]>::len);
    let mut out = BytesMut::with_capacity(len);
    out.put_u8(change.kind as u8);
    out.put_u64_le(change.version);
    out.put_u16_le(u16::try_from(change.key.len()).expect("key length was checked"));
    out.put_slice(change.key);
    match value {
        None => out.put_u32_le(NO_VALUE),
        Some(value) => {
            out.put_u32_le(u32::try_from(value.len()).expect("value length was checked"));
            out.put_slice(value);
        }
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_documented_bytes() {
        // Derived by hand from the layout in the module's head.
        let change = Change {
            kind: EventKind::Set,
            hash: 0,
            version: 0x0102,
            key: b"ab",
            value: Some(b"xyz"),
        };
        let with = [
            1, 2, 1, 0, 0, 0, 0, 0, 0, 2, 0, b'a', b'b', 3, 0, 0, 0, b'x', b'y', b'z',
        ];
        assert_eq!(encode(change, change.value), &with[..]);
        let without = [
            1, 2, 1, 0, 0, 0, 0, 0, 0, 2, 0, b'a', b'b', 255, 255, 255, 255,
        ];
        assert_eq!(encode(change, None), &without[..]);
        assert_eq!(with.len(), EVENT_HEADER_BYTES + 5);
    }
}
