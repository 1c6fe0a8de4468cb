//! The partition: what each request does, and how room is made and time passes.

use core::time::Duration;

use pinion_types::limits::{CACHE_VALUE_BYTES_MAX, KEY_BYTES_MAX, LEASE_WAIT_MS_MAX};
use pinion_types::wheel::Wheel;
use pinion_types::{Monotonic, SessionId, Version};
use siphasher::sip::SipHasher13;

use super::config::{BUDGET_BYTES_MAX, BUDGET_BYTES_MIN, CacheConfig, CacheError, LEASE_MS_MAX};
use super::eviction::{EVICTION_STEPS_MAX, S3Fifo, Victim};
use super::index::Index;
use super::lease::{Flights, WaiterId, Wake};
use super::slots::{CHUNK_BYTES, Life, NIL, Place, Slots, allocation_bytes};
use super::watch::{Change, EventKind, WatchEvent, WatchId, WatchOptions, Watches};

/// Entries one [`CachePartition::handle_timeout`] moves or reclaims while it keeps
/// up: about 0.2 ms when none of them is in a CPU cache. More reclaims a burst in
/// fewer turns, fewer lets requests in between sooner.
pub const EXPIRY_BUDGET_MIN: u32 = 512;
/// The same for a partition that is behind: about 2 ms, the longest pause that
/// expiry causes.
pub const EXPIRY_BUDGET_MAX: u32 = 4096;
/// The budget doubles with each of these the partition is behind.
const EXPIRY_LAG_STEP: Duration = Duration::from_millis(128);

/// Entries one request may evict: about 4 ms. More lets a large value in at once
/// where entries are tiny, fewer shortens the worst call. At 8192 the largest value
/// makes its room in one call unless key and value are below 128 bytes on average.
pub const EVICTIONS_MAX: u32 = 8192;

/// Slots one page of a scan looks at, whatever the caller asks: about 0.4 ms when
/// none of them is in a CPU cache.
pub const SCAN_WORK_MAX: u32 = 4096;

/// Keys that [`CachePartition::fetch_ahead`] looks at. More overlap more waits
/// for memory, up to what a processor has outstanding (some dozens of lines).
pub const FETCH_AHEAD_MAX: usize = 16;
/// Lines of one entry's bytes read ahead; from there on the processor's own
/// prefetching has seen the pattern.
const FETCH_AHEAD_LINES: usize = 3;
const CACHE_LINE_BYTES: usize = 64;

/// When a set takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// If the key is not there.
    Absent,
    /// If the entry has this version.
    Version(Version),
    /// If the caller still holds this fill lease on the key.
    Lease(u64),
}

/// A current entry, borrowed from the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// For compare-and-set.
    pub version: Version,
    /// Remaining time to live in milliseconds, rounded up; 0 = it has none (or is stale).
    pub ttl_ms: u64,
    /// The bytes that were set.
    pub value: &'a [u8],
}

/// What a delete found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Whether there was a current entry.
    pub existed: bool,
    /// The version of the deletion; the partition's latest if nothing was there.
    pub version: Version,
}

/// Answer of [`CachePartition::get_or_lease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome<'a> {
    /// The current value.
    Value(Entry<'a>),
    /// The value that expired last, while somebody else fills the key.
    Stale(Entry<'a>),
    /// The caller fills the key: set it with `Condition::Lease(token)`.
    Lease {
        /// Proof of the lease.
        token: u64,
        /// How long it is held, in milliseconds.
        lease_ms: u32,
    },
    /// [`CachePartition::poll_wakeup`] will answer under the waiter's id, once.
    Waiting,
}

/// What a waiting caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakeup<'a> {
    /// The key was set.
    Value(Entry<'a>),
    /// The filler lost its lease; the caller fills the key now.
    Lease {
        /// Proof of the lease.
        token: u64,
        /// How long it is held, in milliseconds.
        lease_ms: u32,
    },
    /// The time the caller gave is over.
    TimedOut,
    /// The key was set, and was gone again before this was collected.
    Miss,
}

/// Counters and sizes. Counters count since the partition was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Entries in memory; expired ones not yet reclaimed and stale ones included.
    pub entries: u64,
    /// What counts against the budget now.
    pub bytes: u64,
    /// The budget in force.
    pub budget: u64,
    /// Reads that found a current entry.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Entries that made room.
    pub evictions: u64,
    /// Entries whose time to live ended.
    pub expirations: u64,
    /// Keys being filled under a lease.
    pub leases: u32,
    /// Callers waiting for a filler.
    pub waiting: u32,
    /// Watches.
    pub watches: u32,
    /// Bytes of events that wait for watches.
    pub watch_bytes: u64,
    /// Changes since it was opened.
    pub changes: u64,
}

/// What one request may still spend on making room.
struct Effort {
    evictions: u32,
    steps: u32,
}

impl Effort {
    const fn new() -> Self {
        Self {
            evictions: EVICTIONS_MAX,
            steps: EVICTION_STEPS_MAX,
        }
    }
}

/// One partition of a cache. Owned by one data core.
#[derive(Debug)]
pub struct CachePartition {
    budget: u64,
    /// Largest key and value together that fits when all else is gone.
    blob_bytes_max: u64,
    stale_keep: Duration,
    hasher: SipHasher13,
    slots: Slots,
    index: Index,
    fifo: S3Fifo,
    wheel: Wheel,
    flights: Flights,
    watches: Watches,
    /// The version of the first change since it was opened, and of the next one.
    first_version: u64,
    next_version: u64,
    hits: u64,
    misses: u64,
    evictions: u64,
    expirations: u64,
}

impl CachePartition {
    /// An empty partition. Allocates its index segments' heads and the eviction's
    /// ghost table (a thirty-second of the budget, untouched until it evicts).
    #[must_use]
    pub fn new(config: &CacheConfig) -> Self {
        let budget = config
            .budget_bytes
            .clamp(BUDGET_BYTES_MIN, BUDGET_BYTES_MAX);
        let hasher = SipHasher13::new_with_keys(config.seed[0], config.seed[1]);
        let index = Index::new(budget);
        let fifo = S3Fifo::new(budget);
        // The chunk of the last entry and the spare one stay, with their places in
        // the lists about chunks at the most chunks the budget ever held.
        let lists = budget / CHUNK_BYTES * 128;
        let fixed = index.bytes_min() + fifo.bytes() + 2 * CHUNK_BYTES + lists;
        assert!(
            fixed < budget,
            "fixed structures ({fixed} bytes) exceed the budget {budget}"
        );
        Self {
            budget,
            blob_bytes_max: budget - fixed,
            stale_keep: Duration::from_millis(u64::from(config.stale_keep_ms)),
            slots: Slots::new(),
            index,
            fifo,
            wheel: Wheel::new(),
            flights: Flights::new(config.leases_max, config.waiters_max, hasher),
            watches: Watches::new(config, hasher),
            hasher,
            first_version: config.first_version.0.max(1),
            next_version: config.first_version.0.max(1),
            hits: 0,
            misses: 0,
            evictions: 0,
            expirations: 0,
        }
    }

    /// The current entry of `key`. Allocates nothing.
    pub fn get(&mut self, now: Monotonic, key: &[u8]) -> Option<Entry<'_>> {
        let hash = self.hasher.hash(key);
        let Some(slot) = self.find_current(now, hash, key) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        S3Fifo::touch(&mut self.slots, slot);
        Some(self.view(now, slot))
    }

    /// Brings what lookups of these keys will read into the processor's cache: at
    /// most [`FETCH_AHEAD_MAX`] of them, the rest are left. Changes nothing and
    /// answers nothing.
    ///
    /// A lookup reads a table, an entry and its bytes, each found by the one
    /// before, so a cache that is larger than the processor's waits for memory
    /// twice or three times a request. For many keys at once the processor waits
    /// for all of them together.
    pub fn fetch_ahead(&self, keys: &[&[u8]]) {
        let mut slots = [None; FETCH_AHEAD_MAX];
        for (slot, key) in slots.iter_mut().zip(keys) {
            *slot = self.index.guess(self.hasher.hash(key));
        }
        let mut blobs = [&[][..]; FETCH_AHEAD_MAX];
        for (blob, slot) in blobs.iter_mut().zip(slots) {
            if let Some(slot) = slot {
                *blob = &self.slots.get(slot).blob;
            }
        }
        // Reading is what brings it here, so the compiler must not know better.
        let mut sum = 0_u8;
        for blob in blobs {
            for line in blob.chunks(CACHE_LINE_BYTES).take(FETCH_AHEAD_LINES) {
                sum ^= line[0];
            }
        }
        core::hint::black_box(sum);
    }

    /// Sets `key` to `value` for `ttl_ms` milliseconds (0 = until it is evicted).
    /// A set replaces the former time to live, fills the key for those who wait,
    /// and ends another caller's lease on it.
    ///
    /// Two allocations at most beside rare growth: none if the length stays.
    /// Evicts at most [`EVICTIONS_MAX`] entries, with [`EVICTION_STEPS_MAX`] moves
    /// among all of them.
    ///
    /// # Errors
    /// The key keeps its entry; others may have been evicted. Checked in this
    /// order: sizes, then the condition.
    pub fn set(
        &mut self,
        now: Monotonic,
        key: &[u8],
        value: &[u8],
        ttl_ms: u64,
        condition: Condition,
    ) -> Result<Version, CacheError> {
        self.check_sizes(key, value.len())?;
        let hash = self.hasher.hash(key);
        let current = self.find_current(now, hash, key);
        match condition {
            Condition::Always => {}
            Condition::Absent => {
                if let Some(slot) = current {
                    let version = Version(self.slots.get(slot).version);
                    return Err(CacheError::KeyExists { version });
                }
            }
            Condition::Version(expected) => self.check_version(current, expected)?,
            Condition::Lease(token) => {
                if !self.flights.holds(now, hash, key, token) {
                    return Err(CacheError::LeaseLost);
                }
            }
        }
        self.store(now, hash, key, value, ttl_ms, current)
    }

    /// Removes `key`, and ends the lease on it: what its holder computes may be
    /// out of date, so the next waiter is given a fresh lease. `condition` is
    /// `Always` or `Version`. Bounded work, no allocation without watches.
    ///
    /// # Errors
    /// [`CacheError::VersionConflict`], [`CacheError::BadCondition`]; nothing changed.
    pub fn delete(
        &mut self,
        now: Monotonic,
        key: &[u8],
        condition: Condition,
    ) -> Result<Deleted, CacheError> {
        let hash = self.hasher.hash(key);
        let current = self.find_current(now, hash, key);
        match condition {
            Condition::Always => {}
            Condition::Version(expected) => self.check_version(current, expected)?,
            Condition::Absent | Condition::Lease(_) => return Err(CacheError::BadCondition),
        }
        self.flights.void(now, hash, key);
        if let Some(slot) = current {
            self.remove(slot, Some(EventKind::Deleted));
        } else if let Some(slot) = self.find(hash, key) {
            self.retire(slot);
        }
        Ok(Deleted {
            existed: current.is_some(),
            version: Version(self.next_version - 1),
        })
    }

    /// Gives a current entry another time to live (0 = none). Its value and
    /// version stay, so watches hear nothing.
    ///
    /// # Errors
    /// [`CacheError::KeyAbsent`].
    pub fn touch(
        &mut self,
        now: Monotonic,
        key: &[u8],
        ttl_ms: u64,
    ) -> Result<Version, CacheError> {
        let hash = self.hasher.hash(key);
        let slot = self
            .find_current(now, hash, key)
            .ok_or(CacheError::KeyAbsent)?;
        S3Fifo::touch(&mut self.slots, slot);
        self.arm(now, slot, ttl_ms);
        Ok(Version(self.slots.get(slot).version))
    }

    /// Adds `delta` to a counter: 8 bytes, an `i64` in little-endian. An absent key
    /// counts as `initial` and is created with `ttl_ms`; an existing one keeps its
    /// time to live.
    ///
    /// # Errors
    /// [`CacheError::NotACounter`], [`CacheError::CounterOverflow`], or those of a
    /// set; nothing changed.
    pub fn incr(
        &mut self,
        now: Monotonic,
        key: &[u8],
        delta: i64,
        initial: i64,
        ttl_ms: u64,
    ) -> Result<(i64, Version), CacheError> {
        self.check_sizes(key, size_of::<i64>())?;
        let hash = self.hasher.hash(key);
        let Some(slot) = self.find_current(now, hash, key) else {
            let sum = initial
                .checked_add(delta)
                .ok_or(CacheError::CounterOverflow)?;
            let version = self.store(now, hash, key, &sum.to_le_bytes(), ttl_ms, None)?;
            return Ok((sum, version));
        };
        let entry = self.slots.get(slot);
        let counter: [u8; 8] = entry
            .value()
            .try_into()
            .map_err(|_| CacheError::NotACounter)?;
        let sum = i64::from_le_bytes(counter)
            .checked_add(delta)
            .ok_or(CacheError::CounterOverflow)?;
        let version = self.bump();
        let entry = self.slots.get_mut(slot);
        entry.value_mut().copy_from_slice(&sum.to_le_bytes());
        entry.version = version;
        S3Fifo::touch(&mut self.slots, slot);
        self.announce(slot, EventKind::Set, version);
        Ok((sum, Version(version)))
    }

    /// One page of the current entries whose key starts with `prefix`. `cursor` is
    /// 0 at first, then what the page before returned; 0 is returned at the end.
    /// `visit` gives false for an entry it does not take: the page ends there and
    /// the next one starts with it.
    ///
    /// Entries come in the order of their slots, and a key keeps its slot while it
    /// stays current, also when it is set again. So over a whole scan a key that
    /// is current from the first page to the last is given **exactly once**;
    /// one that was created, or removed and set again, in between is given once,
    /// twice or not at all. Looks at no more than `max_work` slots, at least 1 and
    /// at most [`SCAN_WORK_MAX`]: a page may be empty without being the last.
    /// A scan is no access in the eyes of the eviction.
    pub fn scan(
        &self,
        now: Monotonic,
        prefix: &[u8],
        cursor: u64,
        max_items: u32,
        max_work: u32,
        mut visit: impl FnMut(&[u8], Entry<'_>) -> bool,
    ) -> u64 {
        let mut work = max_work.clamp(1, SCAN_WORK_MAX);
        let mut items = 0;
        // The cursor is the next slot to look at, plus one.
        let Ok(mut slot) = u32::try_from(cursor.saturating_sub(1)) else {
            return 0;
        };
        loop {
            if work == 0 || items >= max_items {
                let more = slot < self.slots.end();
                return if more { u64::from(slot) + 1 } else { 0 };
            }
            let Some(at) = self.slots.next_used(slot, &mut work) else {
                return 0;
            };
            slot = at;
            if self.slots.is_used(at) {
                let key = self.slots.get(at).key();
                if self.is_current(now, at) && key.starts_with(prefix) {
                    if !visit(key, self.view(now, at)) {
                        return u64::from(at) + 1;
                    }
                    items += 1;
                }
                slot += 1;
            }
        }
    }

    /// The value of `key`, or the right to fill it, or a place among those who wait
    /// for the one who does: exactly one caller fills.
    ///
    /// With `stale_ok`, while another caller fills the key, the value that expired
    /// last is given instead of waiting, if it is kept: it is for
    /// [`CacheConfig::stale_keep_ms`], evictable like any other, once a `stale_ok`
    /// caller has read it while it was current, and in any case until it is
    /// reclaimed. `wait_ms` is cut to [`LEASE_WAIT_MS_MAX`], `lease_ms` to
    /// `1..=`[`LEASE_MS_MAX`]. `owner` is the session whose end ends the claim.
    ///
    /// # Errors
    /// [`CacheError::Filling`] when `wait_ms` is 0 and another caller fills;
    /// [`CacheError::TooManyLeases`], [`CacheError::TooManyWaiters`],
    /// [`CacheError::DuplicateId`], or a key of wrong size. Nothing changed.
    #[allow(clippy::too_many_arguments)] // Fields of one request; a struct would only rename them.
    pub fn get_or_lease(
        &mut self,
        now: Monotonic,
        owner: SessionId,
        waiter: WaiterId,
        key: &[u8],
        wait_ms: u32,
        lease_ms: u32,
        stale_ok: bool,
    ) -> Result<LeaseOutcome<'_>, CacheError> {
        self.check_sizes(key, 0)?;
        let hash = self.hasher.hash(key);
        let found = self.find(hash, key);
        if let Some(slot) = found.filter(|&slot| self.is_current(now, slot)) {
            self.hits += 1;
            S3Fifo::touch(&mut self.slots, slot);
            if stale_ok && !self.stale_keep.is_zero() {
                self.slots.get_mut(slot).life = Life::CurrentKeep;
            }
            return Ok(LeaseOutcome::Value(self.view(now, slot)));
        }
        self.misses += 1;
        let lease_ms = lease_ms.clamp(1, LEASE_MS_MAX);
        let Some(flight) = self.flights.find(hash, key) else {
            let token = self.flights.lease(now, hash, key, owner, lease_ms)?;
            return Ok(LeaseOutcome::Lease { token, lease_ms });
        };
        if let Some(slot) = found.filter(|_| stale_ok) {
            return Ok(LeaseOutcome::Stale(self.view(now, slot)));
        }
        let wait_ms = wait_ms.min(LEASE_WAIT_MS_MAX);
        if wait_ms == 0 {
            return Err(CacheError::Filling);
        }
        self.flights
            .wait(now, flight, waiter, owner, wait_ms, lease_ms)?;
        Ok(LeaseOutcome::Waiting)
    }

    /// The next answer for a caller that waited. Drain it after every batch of
    /// calls; until then it takes a waiter's place. O(1) amortised.
    pub fn poll_wakeup(&mut self, now: Monotonic) -> Option<(WaiterId, Wakeup<'_>)> {
        let (waiter, wake) = self.flights.pop()?;
        let wakeup = match wake {
            Wake::TimedOut => Wakeup::TimedOut,
            Wake::Leased { token, lease_ms } => Wakeup::Lease { token, lease_ms },
            Wake::Filled { hash, flight } => {
                match self.find_current(now, hash, self.flights.key(flight)) {
                    Some(slot) => Wakeup::Value(self.view(now, slot)),
                    None => Wakeup::Miss,
                }
            }
        };
        Some((waiter, wakeup))
    }

    /// Forgets a waiting caller; a lease it was given and has not collected passes
    /// on. False if it does not wait. O(1).
    pub fn cancel_waiter(&mut self, now: Monotonic, waiter: WaiterId) -> bool {
        self.flights.cancel(now, waiter)
    }

    /// A session ended: its waits are forgotten and its leases pass on.
    /// O(its leases and waits).
    pub fn abort_owner(&mut self, now: Monotonic, owner: SessionId) {
        self.flights.abort_owner(now, owner);
    }

    /// Starts a watch; gives the first version it will consider.
    ///
    /// # Errors
    /// [`CacheError::TooManyWatches`], [`CacheError::DuplicateId`], or a key of
    /// wrong size (a prefix may be empty).
    pub fn watch(
        &mut self,
        watch: WatchId,
        options: &WatchOptions<'_>,
    ) -> Result<Version, CacheError> {
        if !options.prefix || !options.key.is_empty() {
            self.check_sizes(options.key, 0)?;
        }
        let hash = self.hasher.hash(options.key);
        self.watches.open(watch, hash, options)?;
        Ok(Version(self.next_version))
    }

    /// Adds to what the subscriber will take. False for an unknown watch.
    pub fn watch_credit(&mut self, watch: WatchId, records: u32, bytes: u32) -> bool {
        self.watches.credit(watch, records, bytes)
    }

    /// Gives back [`WatchEvent::window_bytes`] the transport has taken.
    pub fn watch_window(&mut self, watch: WatchId, bytes: u32) -> bool {
        self.watches.window(watch, bytes)
    }

    /// Ends a watch; gives the first version it was not told about. `None` for an
    /// unknown watch. O(watches).
    pub fn unwatch(&mut self, watch: WatchId) -> Option<Version> {
        let pending = self.watches.close(watch)?;
        Some(Version(pending.unwrap_or(self.next_version)))
    }

    /// The next event for a watch with credit and window, in the order of versions
    /// within each watch. Drain it after every batch of calls.
    pub fn poll_event(&mut self) -> Option<(WatchId, WatchEvent)> {
        self.watches.pop()
    }

    /// Reclaims what expired, ends leases and waits. Between
    /// [`EXPIRY_BUDGET_MIN`] and [`EXPIRY_BUDGET_MAX`] entries a call, growing with
    /// the backlog; [`CachePartition::next_deadline`] lies in the past while any is left.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        let first = self.wheel.next_deadline().unwrap_or(now);
        let steps = now.since(first).as_nanos() / EXPIRY_LAG_STEP.as_nanos();
        let doublings = u32::try_from(steps.min(16)).expect("at most 16");
        let mut budget = (EXPIRY_BUDGET_MIN << doublings).min(EXPIRY_BUDGET_MAX);
        while let Some(slot) = self.wheel.pop_due(&mut self.slots, now, &mut budget) {
            self.expire(slot);
        }
        self.flights.handle_timeout(now);
    }

    /// When to call [`CachePartition::handle_timeout`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let waits = self.flights.next_deadline();
        match (self.wheel.next_deadline(), waits) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Counters and sizes. O(1).
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            entries: u64::from(self.slots.len()),
            bytes: self.bytes(),
            budget: self.budget,
            hits: self.hits,
            misses: self.misses,
            evictions: self.evictions,
            expirations: self.expirations,
            leases: self.flights.leases(),
            waiting: self.flights.waiting(),
            watches: self.watches.len(),
            watch_bytes: self.watches.queued_bytes(),
            changes: self.next_version - self.first_version,
        }
    }

    fn bytes(&self) -> u64 {
        self.slots.bytes() + self.index.bytes() + self.fifo.bytes()
    }

    fn check_sizes(&self, key: &[u8], value: usize) -> Result<(), CacheError> {
        if key.is_empty() {
            return Err(CacheError::KeyEmpty);
        }
        if key.len() > usize::from(KEY_BYTES_MAX) {
            let len = key.len() as u64;
            return Err(CacheError::KeyTooLong { len });
        }
        let len = value as u64;
        let fits = allocation_bytes(key.len() + value) <= self.blob_bytes_max;
        if len > u64::from(CACHE_VALUE_BYTES_MAX) || !fits {
            // Four fifths: the next size class may be a quarter larger.
            let room = self.blob_bytes_max / 5 * 4 - key.len() as u64;
            let limit = room.min(u64::from(CACHE_VALUE_BYTES_MAX));
            return Err(CacheError::ValueTooLarge { len, limit });
        }
        Ok(())
    }

    fn check_version(&self, current: Option<u32>, expected: Version) -> Result<(), CacheError> {
        let actual = Version(current.map_or(0, |slot| self.slots.get(slot).version));
        if current.is_none() || actual != expected {
            return Err(CacheError::VersionConflict { actual });
        }
        Ok(())
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.index.find(hash, |slot| {
            let entry = self.slots.get(slot);
            entry.hash == hash && entry.key() == key
        })
    }

    fn find_current(&self, now: Monotonic, hash: u64, key: &[u8]) -> Option<u32> {
        self.find(hash, key)
            .filter(|&slot| self.is_current(now, slot))
    }

    fn is_current(&self, now: Monotonic, slot: u32) -> bool {
        let entry = self.slots.get(slot);
        entry.life != Life::Stale && now < entry.timer.deadline()
    }

    fn view(&self, now: Monotonic, slot: u32) -> Entry<'_> {
        let entry = self.slots.get(slot);
        let deadline = entry.timer.deadline();
        let ttl_ms = if entry.life == Life::Stale || deadline.0 == u64::MAX {
            0
        } else {
            deadline.0.saturating_sub(now.0).div_ceil(1_000_000)
        };
        Entry {
            version: Version(entry.version),
            ttl_ms,
            value: entry.value(),
        }
    }

    /// Stores what passed its condition. `current` is the key's slot, if it is current.
    fn store(
        &mut self,
        now: Monotonic,
        hash: u64,
        key: &[u8],
        value: &[u8],
        ttl_ms: u64,
        current: Option<u32>,
    ) -> Result<Version, CacheError> {
        let slot = match current {
            Some(slot) => {
                self.overwrite(now, slot, key, value)?;
                slot
            }
            None => self.create(now, hash, key, value)?,
        };
        let version = self.bump();
        self.slots.get_mut(slot).version = version;
        self.arm(now, slot, ttl_ms);
        self.announce(slot, EventKind::Set, version);
        self.flights.fill(hash, key);
        Ok(Version(version))
    }

    fn overwrite(
        &mut self,
        now: Monotonic,
        slot: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), CacheError> {
        let entry = self.slots.get(slot);
        let (weight, old) = (entry.weight(), allocation_bytes(entry.blob.len()));
        let new = allocation_bytes(key.len() + value.len());
        let mut effort = Effort::new();
        while self.bytes() - old + new > self.budget {
            self.evict(now, slot, value.len(), &mut effort)?;
        }
        self.slots.replace(slot, key, value);
        self.fifo.reweigh(&self.slots, slot, weight);
        S3Fifo::touch(&mut self.slots, slot);
        self.slots.get_mut(slot).life = Life::Current;
        Ok(())
    }

    fn create(
        &mut self,
        now: Monotonic,
        hash: u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<u32, CacheError> {
        if let Some(slot) = self.find(hash, key) {
            self.retire(slot);
        }
        let blob = allocation_bytes(key.len() + value.len());
        let mut effort = Effort::new();
        while self.bytes() + blob + self.slots.growth_bytes() + self.index.growth_bytes(hash)
            > self.budget
        {
            self.evict(now, NIL, value.len(), &mut effort)?;
        }
        let slot = self.slots.insert(hash, 0, key, value);
        self.index.insert(hash, slot, &self.slots);
        self.fifo.insert(&mut self.slots, slot);
        debug_assert!(self.bytes() <= self.budget, "the budget is hard");
        Ok(slot)
    }

    /// Makes room by one entry other than `pinned`.
    fn evict(
        &mut self,
        now: Monotonic,
        pinned: u32,
        len: usize,
        effort: &mut Effort,
    ) -> Result<(), CacheError> {
        let Some(left) = effort.evictions.checked_sub(1) else {
            return Err(CacheError::MakingRoom);
        };
        effort.evictions = left;
        let Some(Victim(slot)) = self.fifo.choose(&mut self.slots, pinned, &mut effort.steps)
        else {
            return Err(CacheError::ValueTooLarge {
                len: len as u64,
                limit: self.budget - self.bytes().min(self.budget),
            });
        };
        if self.is_current(now, slot) {
            self.evictions += 1;
            self.remove(slot, Some(EventKind::Evicted));
        } else {
            self.retire(slot);
        }
        Ok(())
    }

    /// The deadline of an entry has come, or the end of its time as stale.
    fn expire(&mut self, slot: u32) {
        if self.slots.get(slot).life != Life::CurrentKeep {
            self.retire(slot);
            return;
        }
        let version = self.bump();
        self.expirations += 1;
        self.announce(slot, EventKind::Expired, version);
        let entry = self.slots.get_mut(slot);
        entry.life = Life::Stale;
        let until = entry.timer.deadline() + self.stale_keep;
        self.wheel.insert(&mut self.slots, slot, until);
    }

    /// Removes an entry that is not current any more.
    fn retire(&mut self, slot: u32) {
        if self.slots.get(slot).life == Life::Stale {
            self.remove(slot, None);
        } else {
            self.expirations += 1;
            self.remove(slot, Some(EventKind::Expired));
        }
    }

    fn remove(&mut self, slot: u32, event: Option<EventKind>) {
        assert!(
            self.slots.get(slot).place != Place::Free,
            "slot {slot} is free"
        );
        if let Some(kind) = event {
            let version = self.bump();
            self.announce(slot, kind, version);
        }
        let hash = self.slots.get(slot).hash;
        self.wheel.cancel(&mut self.slots, slot);
        self.fifo.remove(&mut self.slots, slot);
        self.index.remove(hash, slot, &self.slots);
        self.slots.remove(slot);
    }

    fn announce(&mut self, slot: u32, kind: EventKind, version: u64) {
        let entry = self.slots.get(slot);
        self.watches.publish(Change {
            kind,
            hash: entry.hash,
            version,
            key: entry.key(),
            value: (kind == EventKind::Set).then(|| entry.value()),
        });
    }

    fn arm(&mut self, now: Monotonic, slot: u32, ttl_ms: u64) {
        self.wheel.cancel(&mut self.slots, slot);
        if ttl_ms == 0 {
            return;
        }
        let deadline = now + Duration::from_millis(ttl_ms);
        // The end of time is not reached; it also marks an entry without deadline.
        if deadline.0 < u64::MAX {
            self.wheel.insert(&mut self.slots, slot, deadline);
        }
    }

    fn bump(&mut self) -> u64 {
        let version = self.next_version;
        self.next_version += 1;
        version
    }
}
