//! One partition of a stream.

use pinion_types::block::{self, BLOCK_HEADER_BYTES, FRAME_HEADER_BYTES};
use pinion_types::limits::{
    CREDIT_BYTES_MAX, CREDIT_RECORDS_MAX, FRAME_BYTES_MAX, RECORD_BYTES_MAX,
};
use pinion_types::{ErrorCode, Monotonic, Offset, ProducerId, Sequence, WallMs};

use super::durable::{Durable, UNCOMMITTED_BYTES_MIN, source};
use super::error::{AppendError, SessionError, SubscribeError};
use super::producers::{Producers, Verdict};
use super::read::{self, FetchResult};
use super::ring::{CHUNK_OVERHEAD_BYTES, Ring};
use super::sessions::Sessions;
use super::subscribers::{
    Delivery, SubKey, SubPosition, SubscribeOptions, Subscribed, Subscribers,
};
use super::{Overflow, RecordFilter};

/// Most bytes of records in one append: its block must fit a delivery frame.
pub const BATCH_BYTES_MAX: usize =
    FRAME_BYTES_MAX as usize - (BLOCK_HEADER_BYTES - FRAME_HEADER_BYTES);

// One record of the largest size must fit a batch.
const _: () = assert!(RECORD_BYTES_MAX as usize + 4 <= BATCH_BYTES_MAX);

/// What bounds a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Bytes the ring may hold, bookkeeping included. A single block larger
    /// than this is still kept, alone.
    pub ring_bytes: u64,
    /// Records the ring may hold; a single larger block is kept alone.
    pub ring_records_max: u32,
    /// Records older than this go, also before a `block` subscriber has seen
    /// them; `None` = the ring's size alone decides. For a durable partition
    /// the owner asks its log what is as old, and calls [`Partition::trim`].
    pub retention_ms: Option<u64>,
    /// Bytes of log a durable partition may keep; its owner trims it. `None` =
    /// without end. An ephemeral one has its ring.
    pub retention_bytes: Option<u64>,
    /// It has a log: changes are ops, readers see what is committed, and what
    /// the ring lets go can still be read.
    pub durable: bool,
    /// Longest record taken, its length field excluded; at most
    /// [`RECORD_BYTES_MAX`].
    pub max_record_bytes: u32,
    /// Idempotent producers remembered; more costs up to 2 KiB each, fewer
    /// makes idle producers start anew.
    pub producers_max: u32,
    /// Append sessions at once; each may stage 10 MiB.
    pub sessions_max: u32,
    /// Subscribers at once.
    pub subscribers_max: u32,
    /// Policy of subscribers that name none.
    pub default_overflow: Overflow,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        Self {
            ring_bytes: 16 << 20,
            ring_records_max: 1 << 20,
            retention_ms: None,
            retention_bytes: None,
            durable: false,
            max_record_bytes: RECORD_BYTES_MAX,
            producers_max: 1024,
            sessions_max: 16,
            subscribers_max: 16_384,
            default_overflow: Overflow::DropOldest,
        }
    }
}

/// One publish.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// Of an idempotent producer: who, and the sequence of the first record.
    pub producer: Option<(ProducerId, Sequence)>,
    /// Append only if this is the end.
    pub expected_offset: Option<Offset>,
    /// Records in `records`.
    pub record_count: u32,
    /// Encoded as [`pinion_types::block`] lays records out. Checked here.
    pub records: &'a [u8],
}

/// An append is in memory. In a durable partition it may be acknowledged once
/// [`Partition::committed_end`] has reached the end of it, also when it is a
/// repeat: the first one may still await the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Its records, at consecutive offsets.
    pub record_count: u32,
    /// Wall time in its blocks. `WallMs(0)` for a repeat, whose time is not
    /// remembered.
    pub timestamp: WallMs,
    /// It repeats an earlier append and was not stored again. The offset is
    /// the earlier one's; the ring may have let the records go since.
    pub duplicate: bool,
}

/// What an append session has staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedTotals {
    /// Records.
    pub records: u32,
    /// Bytes of encoded records.
    pub bytes: u64,
}

/// One partition: a bounded ring of blocks, its producers, its append
/// sessions and its subscribers. Owned by one core for its whole life.
///
/// A turn: any number of requests, then one [`Partition::seal`], then
/// [`Partition::poll_delivery`] until it gives `None`. For a durable one, also:
/// [`Partition::poll_op`] after requests, [`Partition::commit_next`] and
/// [`Partition::handle_read`] before the seal, [`Partition::poll_read`] after
/// the deliveries.
#[derive(Debug)]
pub struct Partition {
    config: PartitionConfig,
    pub(crate) ring: Ring,
    pub(crate) producers: Producers,
    sessions: Sessions,
    pub(crate) subscribers: Subscribers,
    /// Visible end the subscribers have been told of.
    pub(crate) announced: u64,
    pub(crate) durable: Option<Box<Durable>>,
}

impl Partition {
    /// An empty partition. Allocates when the first record comes.
    #[must_use]
    pub fn new(config: PartitionConfig) -> Self {
        // A commit must fit half the ring, so that it never evicts itself, and
        // half of what may await the disk.
        let (staged_bytes, staged_records) = if config.durable {
            (config.ring_bytes.max(UNCOMMITTED_BYTES_MIN), u32::MAX)
        } else {
            (config.ring_bytes, config.ring_records_max)
        };
        Self {
            config,
            ring: Ring::new(config.ring_bytes, config.ring_records_max),
            producers: Producers::new(config.producers_max),
            sessions: Sessions::new(config.sessions_max, staged_bytes / 2, staged_records / 2),
            subscribers: Subscribers::new(config.subscribers_max),
            announced: 0,
            durable: config
                .durable
                .then(|| Box::new(Durable::new(config.ring_bytes))),
        }
    }

    /// What bounds it.
    #[must_use]
    pub const fn config(&self) -> &PartitionConfig {
        &self.config
    }

    /// Changes what it takes and how long it keeps it, while it is at work: the retention,
    /// the longest record and the policy of subscribers that name none. What says how much
    /// memory it has, and `durable`, stay. What is in it stays, too, until it is too old.
    pub fn set_config(&mut self, config: &PartitionConfig) {
        self.config = PartitionConfig {
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            max_record_bytes: config.max_record_bytes,
            default_overflow: config.default_overflow,
            ..self.config
        };
    }

    /// Appends a batch as one block. The acknowledgement is good at once, of a
    /// durable partition when it is committed (see [`Appended`]); readers see
    /// the records after [`Partition::seal`].
    ///
    /// Checked in this order: the shape of the batch, the producer's sequence
    /// (so that a repeat is recognised whatever else has changed), the
    /// expected offset, and last whether the ring has room without overtaking
    /// a `block` subscriber, or whether too much awaits the disk already.
    /// Should one turn append more than the ring holds,
    /// the oldest of it goes as any old record does.
    ///
    /// # Errors
    /// [`AppendError`]; nothing has changed.
    pub fn append(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        append: &Append<'_>,
    ) -> Result<Appended, AppendError> {
        let count = append.record_count;
        self.check_open()?;
        self.check_batch(count, append.records)?;
        if let Some((id, sequence)) = append.producer
            && let Verdict::Repeat(first_offset) = self.producers.check(id, sequence, count)?
        {
            return Ok(Appended {
                first_offset,
                record_count: count,
                timestamp: WallMs(0),
                duplicate: true,
            });
        }
        self.check_offset(append.expected_offset)?;
        let len = BLOCK_HEADER_BYTES + append.records.len();
        self.make_room(len, u64::from(count))?;
        let first_offset = Offset(self.ring.end());
        self.ring.push(now, wall, count, append.records);
        if let Some(durable) = self.durable.as_deref_mut() {
            durable.queue_block(count, len, append.producer, false);
        }
        if let Some((id, sequence)) = append.producer {
            self.producers.record(id, sequence, count, first_offset);
        }
        Ok(Appended {
            first_offset,
            record_count: count,
            timestamp: self.ring.last_timestamp(),
            duplicate: false,
        })
    }

    /// Ends a turn's appends and commits: what they stored becomes one chunk,
    /// and what is committed (of an ephemeral partition, everything) visible
    /// to readers and on its way to subscribers. Costs nothing when there was
    /// nothing.
    pub fn seal(&mut self) {
        self.ring.close();
        let end = self.end().0;
        if end != self.announced {
            self.announced = end;
            self.subscribers.on_data(end);
        }
    }

    /// Appends to `out` whole blocks with records from `from` on, at most
    /// `max_records` and `max_bytes`, one record of any size always allowed.
    /// Blocks are cut where a bound or the filter says so. Reading at or past
    /// the end is an empty success; below the oldest it begins with the oldest.
    ///
    /// Looks at no more than [`super::FETCH_SCAN_BYTES_MAX`] and a chunk; a
    /// selective filter may get nothing but a `next` further on. What is in
    /// the log only is asked for with [`Partition::poll_read`].
    pub fn fetch(
        &mut self,
        from: Offset,
        max_records: u32,
        max_bytes: u32,
        filter: Option<&dyn RecordFilter>,
        out: &mut Vec<u8>,
    ) -> FetchResult {
        let mut source = source(&self.ring, self.durable.as_deref_mut());
        read::fetch(&mut source, from, max_records, max_bytes, filter, out)
    }

    /// Oldest offset that can be read, in memory or in the log; the end when
    /// nothing can.
    #[must_use]
    pub fn first_available(&self) -> Offset {
        Offset(match &self.durable {
            None => self.ring.first(),
            Some(durable) => durable.first,
        })
    }

    /// Reads what facts about it are made of, and no more, so that it is in the processor's
    /// cache then. What is read has no meaning; whoever throws it away must not let the
    /// compiler know.
    #[must_use]
    pub fn fetch_ahead(&self) -> u64 {
        self.first_available().0 ^ self.end().0 ^ self.bytes() ^ self.subscriptions() as u64
    }

    /// One past the last visible record.
    #[must_use]
    pub fn end(&self) -> Offset {
        let end = self.ring.visible_end();
        Offset(match &self.durable {
            None => end,
            Some(durable) => durable.committed.min(end),
        })
    }

    /// Bytes the ring holds, counted as `ring_bytes` counts them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ring.bytes()
    }

    /// Heap kept for blocks: whole segments, also those only a transport
    /// still needs, and what was read back from the log. Stays below about 2.5 times `ring_bytes` and a few
    /// segments, whatever readers do: past that, deliveries are copied.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let cold = self.durable.as_ref().map_or(0, |d| d.cold.memory());
        self.ring.memory() + cold
    }

    /// Subscriptions at this moment.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.subscribers.len()
    }

    /// Where a subscription stands; `None` when it is not known.
    #[must_use]
    pub fn position(&self, key: SubKey) -> Option<SubPosition> {
        self.subscribers.position(key)
    }

    /// Records up to the end that the subscription furthest behind has not been given; 0
    /// without any. Looks at all of them.
    #[must_use]
    pub fn lag_max(&self) -> u64 {
        let next = self.subscribers.furthest_behind();
        next.map_or(0, |next| self.end().0.saturating_sub(next.0))
    }

    /// Append sessions at this moment.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Idempotent producers remembered at this moment.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.producers.len()
    }

    /// Adds a subscription. Ends the turn's appends first, so that `Latest`
    /// means after everything acknowledged so far.
    ///
    /// # Errors
    /// [`SubscribeError`]; nothing has changed.
    pub fn subscribe(
        &mut self,
        key: SubKey,
        options: SubscribeOptions,
    ) -> Result<Subscribed, SubscribeError> {
        self.seal();
        let default = self.config.default_overflow;
        let source = source(&self.ring, self.durable.as_deref_mut());
        self.subscribers.subscribe(&source, key, options, default)
    }

    /// Grants a subscription more; what would exceed [`CREDIT_RECORDS_MAX`] or
    /// [`CREDIT_BYTES_MAX`] is cut off. False when the key is not known, as
    /// after its end.
    pub fn credit(&mut self, key: SubKey, records: u32, bytes: u32) -> bool {
        let source = source(&self.ring, self.durable.as_deref_mut());
        self.subscribers.allow(&source, key, |r, b, _| {
            *r = (*r + u64::from(records)).min(u64::from(CREDIT_RECORDS_MAX));
            *b = (*b + i64::from(bytes)).min(i64::from(CREDIT_BYTES_MAX));
        })
    }

    /// The transport gives back `bytes` of what it was handed. False when the
    /// key is not known.
    pub fn window(&mut self, key: SubKey, bytes: u64) -> bool {
        let source = source(&self.ring, self.durable.as_deref_mut());
        self.subscribers.allow(&source, key, |_, _, window| {
            *window = window.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        })
    }

    /// Removes a subscription and gives its cursor, the place to resume at.
    /// Nothing more is delivered for the key.
    pub fn unsubscribe(&mut self, key: SubKey) -> Option<Offset> {
        self.subscribers.unsubscribe(key)
    }

    /// Ends every subscription with `code`, for a partition that goes away;
    /// the ends come out of [`Partition::poll_delivery`].
    pub fn end_subscriptions(&mut self, code: ErrorCode) {
        self.subscribers.end_all(code);
    }

    /// The next thing for anyone, in turns among those that are ready.
    ///
    /// `None` says nothing is ready, or that filters have looked at
    /// [`super::FILTER_SCAN_BYTES_MAX`]: with [`Partition::has_work`] there is
    /// more in the next turn. A caller may stop earlier; nothing is lost.
    pub fn poll_delivery(&mut self) -> Option<(SubKey, Delivery)> {
        let mut source = source(&self.ring, self.durable.as_deref_mut());
        self.subscribers.poll(&mut source)
    }

    /// Whether [`Partition::poll_delivery`] has more to give now.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.subscribers.has_ready()
    }

    /// Opens an append session for `owner`. While an exclusive one is open no
    /// other exclusive one is; plain appends and other sessions go on.
    ///
    /// # Errors
    /// [`SessionError::Active`], [`SessionError::TooMany`].
    pub fn begin(
        &mut self,
        now: Monotonic,
        owner: u64,
        exclusive: bool,
    ) -> Result<u64, SessionError> {
        self.sessions.begin(now, owner, exclusive)
    }

    /// Sets records aside in a session. A commit has to fit half the ring, so
    /// a small ring lowers the limits of staging.
    ///
    /// # Errors
    /// [`SessionError`]; the session is as before.
    pub fn stage(
        &mut self,
        now: Monotonic,
        owner: u64,
        session: u64,
        record_count: u32,
        records: &[u8],
    ) -> Result<StagedTotals, SessionError> {
        self.sessions.check(owner, session)?;
        self.check_batch(record_count, records)?;
        let (records, bytes) = self
            .sessions
            .stage(now, owner, session, record_count, records)?;
        Ok(StagedTotals { records, bytes })
    }

    /// Bytes a commit of the session would append; 0 when it is not known.
    pub fn staged_bytes(&mut self, now: Monotonic, owner: u64, session: u64) -> usize {
        self.sessions
            .staged(now, owner, session)
            .map_or(0, |staged| {
                let lens = staged.blocks().map(|(_, bytes)| bytes.len());
                lens.map(|len| len + BLOCK_HEADER_BYTES).sum()
            })
    }

    /// Appends all a session has staged at consecutive offsets and makes it
    /// visible at once, of a durable partition when all of it is committed;
    /// the session is over. Nothing staged is a success with no records.
    ///
    /// # Errors
    /// [`SessionError`]; nothing has changed and the session goes on, to be
    /// committed again or rolled back.
    pub fn commit(
        &mut self,
        now: Monotonic,
        wall: WallMs,
        owner: u64,
        session: u64,
        expected_offset: Option<Offset>,
    ) -> Result<Appended, SessionError> {
        self.check_open()?;
        let staged = self.sessions.staged(now, owner, session)?;
        // As if every block began a chunk, so that room made once is enough.
        let (mut len, mut records) = (0, 0);
        for (count, bytes) in staged.blocks() {
            len += BLOCK_HEADER_BYTES + bytes.len() + CHUNK_OVERHEAD_BYTES;
            records += u64::from(count);
        }
        self.check_offset(expected_offset)?;
        if records > 0 {
            self.make_room(len, records)?;
        }
        let first_offset = Offset(self.ring.end());
        let staged = self.sessions.staged(now, owner, session)?;
        let record_count = staged.records;
        let mut left = record_count;
        for (count, bytes) in staged.blocks() {
            self.ring.push(now, wall, count, bytes);
            left -= count;
            if let Some(durable) = self.durable.as_deref_mut() {
                durable.queue_block(count, BLOCK_HEADER_BYTES + bytes.len(), None, left > 0);
            }
        }
        self.sessions.remove(owner, session)?;
        // No turn's end in between: a fetch must see all of it or nothing.
        self.seal();
        Ok(Appended {
            first_offset,
            record_count,
            timestamp: self.ring.last_timestamp(),
            duplicate: false,
        })
    }

    /// Drops what a session has staged; it is over.
    ///
    /// # Errors
    /// [`SessionError::Unknown`].
    pub fn rollback(&mut self, owner: u64, session: u64) -> Result<(), SessionError> {
        self.sessions.remove(owner, session)
    }

    /// Aborts every append session of an owner that has gone.
    pub fn abort_owner(&mut self, owner: u64) {
        self.sessions.abort_owner(owner);
    }

    /// Lets go what retention says and aborts append sessions idle for
    /// [`super::SESSION_IDLE`]. Of a durable partition, lets go what was read
    /// back from the log and is not read any more.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        self.sessions.expire(now);
        if let Some(durable) = self.durable.as_deref_mut() {
            durable.cold.handle_timeout(now);
        } else if let Some(age_ms) = self.config.retention_ms {
            self.seal();
            if self.ring.expire(now, age_ms) {
                self.subscribers.on_evict(self.ring.first());
            }
        }
    }

    /// When [`Partition::handle_timeout`] next has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let retention = match self.durable.as_deref() {
            Some(durable) => durable.cold.next_deadline(),
            None => self
                .config
                .retention_ms
                .and_then(|age_ms| self.ring.next_expiry(age_ms)),
        };
        [retention, self.sessions.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn check_batch(&self, count: u32, records: &[u8]) -> Result<(), AppendError> {
        if records.len() > BATCH_BYTES_MAX {
            return Err(AppendError::BatchTooLarge {
                len: records.len() as u64,
                limit: BATCH_BYTES_MAX as u64,
            });
        }
        block::check_records(records, count)?;
        let limit = self.config.max_record_bytes;
        if records.len() > limit as usize + 4 {
            // Only then can a single record be over the limit.
            for record in block::records(records) {
                let len = record?.encoded_len() - 4;
                if len > limit as usize {
                    return Err(AppendError::RecordTooLarge {
                        len: len as u64,
                        limit,
                    });
                }
            }
        }
        Ok(())
    }

    fn check_offset(&self, expected: Option<Offset>) -> Result<(), AppendError> {
        let actual = Offset(self.ring.end());
        match expected {
            Some(expected) if expected != actual => {
                Err(AppendError::OffsetConflict { expected, actual })
            }
            _ => Ok(()),
        }
    }

    /// Evicts what must go for one more block, unless a `block` subscriber
    /// still needs it. A durable partition loses nothing by it, but what
    /// awaits the disk has to stay.
    fn make_room(&mut self, len: usize, records: u64) -> Result<(), AppendError> {
        if let Some(durable) = self.durable.as_deref() {
            durable.admit(len)?;
            let upto = durable.committed;
            let eviction = self.ring.eviction_for(len, records, upto);
            self.ring.evict(eviction);
            return Ok(());
        }
        let eviction = self.ring.eviction_for(len, records, u64::MAX);
        if eviction.is_empty() {
            return Ok(());
        }
        if let Some(next) = self.subscribers.blocker(eviction.first) {
            return Err(AppendError::Backlogged { next });
        }
        self.ring.evict(eviction);
        self.subscribers.on_evict(eviction.first);
        Ok(())
    }

    #[cfg(test)]
    pub(crate) const fn ring(&self) -> &Ring {
        &self.ring
    }
}
