//! What a durable partition does beside an ephemeral one.
//!
//! Three offsets divide it: `first` ≤ `committed` ≤ `appended`. Readers see
//! `first..committed`; appends continue at `appended`, and what lies between
//! awaits the disk in the ring. The ring begins somewhere at or below
//! `committed`; what lies before it is in the log only.
//!
//! Every change queues one op (an append session one per block, as one atomic
//! group). The owner polls it, appends it to the log, and calls
//! [`Partition::commit_next`] when it is durable; ops are committed in the
//! order they were polled. The records of the log, each with its kind:
//!
//! ```text
//! STREAM_BLOCK   first, count, timestamp as in the block
//!                ext: producer u64, sequence of the first record u64; or empty
//!                body: one block, see pinion_types::block
//! STREAM_TRIM    first: the new first offset
//! STREAM_CURSOR  first: where it stands, u64::MAX = it is gone
//!                ext: its name, 1 to 255 bytes
//! ```
//! All little-endian.

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_commitlog::RecordHead;
use pinion_types::block::BlockHeader;
use pinion_types::{Monotonic, Offset, ProducerId, Sequence, WallMs};

use super::cold::{Cold, ColdError, ColdRead, StreamChunk};
use super::cursors::{CURSOR_GONE, CURSOR_NAME_BYTES_MAX, CURSORS_MAX, Cursors};
use super::error::{AppendError, CursorError, ReplayError};
use super::partition::Partition;
use super::ring::{Place, Ring};
use super::source::Source;
use crate::op::{Op, kind};

/// Least that may await the disk in one partition, however small its ring.
/// Smaller makes a publisher to a small ring wait for more flushes; the most
/// is the ring's size.
pub const UNCOMMITTED_BYTES_MIN: u64 = 4 << 20;

/// An op as [`Partition::poll_single`] lends it. Its fields are those of [`Op`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpRef<'a> {
    /// What it means; one of [`kind`].
    pub kind: u8,
    /// First offset it is about, or 0.
    pub first: u64,
    /// Records in `body`.
    pub count: u32,
    /// Wall time at which the partition decided it.
    pub timestamp: WallMs,
    /// Producer and sequence, or a cursor's name.
    pub ext: &'a [u8],
    /// The block, or nothing.
    pub body: &'a [u8],
    /// It frees space.
    pub essential: bool,
}

#[derive(Debug)]
pub(crate) enum Effect {
    Block {
        count: u32,
        /// Of the whole block.
        bytes: u32,
        producer: Option<(ProducerId, Sequence)>,
        /// The next one belongs to the same atomic group.
        more: bool,
    },
    Trim {
        first: u64,
        timestamp: WallMs,
    },
    Cursor {
        name: Box<[u8]>,
        /// `None` = it goes.
        offset: Option<u64>,
        timestamp: WallMs,
    },
}

/// The part of a partition that an ephemeral one does not have.
#[derive(Debug)]
pub(crate) struct Durable {
    /// Oldest offset to be read.
    pub(crate) first: u64,
    /// `first` as far as the log has it.
    pub(crate) first_committed: u64,
    pub(crate) committed: u64,
    /// As `committed`, but it moves within an atomic group.
    landed: u64,
    /// Changes not yet committed, oldest first.
    pub(crate) pending: VecDeque<Effect>,
    /// How many of them have been polled.
    pub(crate) polled: usize,
    /// The last one polled was one of a group and not its last.
    in_group: bool,
    /// The first block not yet polled.
    next_block: Place,
    ext: [u8; 16],
    uncommitted_bytes: u64,
    uncommitted_bytes_max: u64,
    pub(crate) cursors: Cursors,
    pub(crate) cold: Cold,
    pub(crate) fenced: bool,
    /// Records were missing in the replay. Damage that is still in the log is
    /// found again at each start; this may not be.
    pub(crate) gap: bool,
}

impl Durable {
    pub(crate) fn new(ring_bytes: u64) -> Self {
        Self {
            first: 0,
            first_committed: 0,
            committed: 0,
            landed: 0,
            pending: VecDeque::new(),
            polled: 0,
            in_group: false,
            next_block: Place::start_of(0),
            ext: [0; 16],
            uncommitted_bytes: 0,
            uncommitted_bytes_max: ring_bytes.max(UNCOMMITTED_BYTES_MIN),
            cursors: Cursors::new(),
            cold: Cold::new(),
            fenced: false,
            gap: false,
        }
    }

    /// Everything up to `end` is as it is in the log.
    pub(crate) fn resume(&mut self, first: u64, end: u64) {
        (self.first, self.first_committed) = (first, first);
        (self.committed, self.landed) = (end, end);
    }

    /// Whether `len` more bytes may await the disk. A single large commit may
    /// when nothing else does.
    pub(crate) const fn admit(&self, len: usize) -> Result<(), AppendError> {
        let limit = self.uncommitted_bytes_max;
        if self.uncommitted_bytes > 0 && self.uncommitted_bytes + len as u64 > limit {
            return Err(AppendError::LogBacklogged { limit });
        }
        Ok(())
    }

    /// Whether the next op is one of a group and not its last.
    fn is_group_next(&self) -> bool {
        matches!(
            self.pending.get(self.polled),
            Some(Effect::Block { more: true, .. })
        )
    }

    pub(crate) fn queue_block(
        &mut self,
        count: u32,
        bytes: usize,
        producer: Option<(ProducerId, Sequence)>,
        more: bool,
    ) {
        self.uncommitted_bytes += bytes as u64;
        self.pending.push_back(Effect::Block {
            count,
            bytes: u32::try_from(bytes).expect("a block fits a frame"),
            producer,
            more,
        });
    }
}

/// What readers of a partition with this ring and log may see.
pub(crate) fn source<'a>(ring: &'a Ring, durable: Option<&'a mut Durable>) -> Source<'a> {
    match durable {
        None => Source {
            ring,
            first: ring.first(),
            end: ring.visible_end(),
            cold: None,
        },
        Some(durable) => Source {
            ring,
            first: durable.first,
            end: durable.committed.min(ring.visible_end()),
            cold: Some(&mut durable.cold),
        },
    }
}

impl Partition {
    /// The next change for the log, as an op of its own. Ops with `more` set
    /// must be appended in one atomic group with those after them. Costs one
    /// small allocation when the append named a producer, and makes each block
    /// a chunk of its own; [`Partition::poll_single`] does neither.
    ///
    /// Ephemeral partitions have none.
    pub fn poll_op(&mut self) -> Option<Op> {
        // The block's bytes can be shared only once its chunk is closed.
        self.ring.close();
        let more = self.durable.as_deref()?.is_group_next();
        let at = self.next_block();
        let op = self.lend_op()?;
        let (kind, first, count, timestamp) = (op.kind, op.first, op.count, op.timestamp);
        let (ext, essential, len) = (op.ext.to_vec(), op.essential, op.body.len());
        let body = match at.and_then(|place| Some((self.ring.chunk(place.chunk)?, place.block))) {
            Some((chunk, start)) => chunk.bytes.slice(start..start + len),
            None => Bytes::new(),
        };
        Some(Op {
            kind,
            first,
            count,
            timestamp,
            ext,
            body,
            retain: false,
            essential,
            more,
        })
    }

    /// The next change for the log when it stands alone, lent until the next
    /// call; one of an atomic group is left to [`Partition::poll_op`]. Copies
    /// and allocates nothing.
    pub fn poll_single(&mut self) -> Option<OpRef<'_>> {
        let durable = self.durable.as_deref()?;
        if durable.in_group || durable.is_group_next() {
            return None;
        }
        self.lend_op()
    }

    /// Where the next op's block lies, if it is one.
    fn next_block(&mut self) -> Option<Place> {
        let durable = self.durable.as_deref_mut()?;
        let Effect::Block { .. } = durable.pending.get(durable.polled)? else {
            return None;
        };
        if !self.ring.holds(durable.next_block) {
            // All before was polled, committed and evicted.
            durable.next_block = Place::start_of(self.ring.front());
        }
        // Its chunk may have been closed since, right after the last block.
        while let Some(chunk) = self.ring.chunk(durable.next_block.chunk)
            && durable.next_block.block == chunk.bytes.len()
        {
            durable.next_block = durable.next_block.after();
        }
        Some(durable.next_block)
    }

    fn lend_op(&mut self) -> Option<OpRef<'_>> {
        let place = self.next_block();
        let durable = self.durable.as_deref_mut()?;
        let effect = durable.pending.get(durable.polled)?;
        durable.polled += 1;
        Some(match effect {
            Effect::Block {
                bytes,
                producer,
                more,
                ..
            } => {
                durable.in_group = *more;
                let place = place.expect("a block has its place");
                let body = &self.ring.bytes_at(place)[..*bytes as usize];
                let (header, _, _) = BlockHeader::split(body).expect("the ring holds whole blocks");
                durable.next_block.block += body.len();
                let ext = match producer {
                    Some((id, sequence)) => {
                        durable.ext[..8].copy_from_slice(&id.0.to_le_bytes());
                        durable.ext[8..].copy_from_slice(&sequence.0.to_le_bytes());
                        &durable.ext[..]
                    }
                    None => &[],
                };
                OpRef {
                    kind: kind::STREAM_BLOCK,
                    first: header.first_offset.0,
                    count: header.record_count,
                    timestamp: header.timestamp,
                    ext,
                    body,
                    essential: false,
                }
            }
            Effect::Trim { first, timestamp } => OpRef {
                kind: kind::STREAM_TRIM,
                first: *first,
                count: 0,
                timestamp: *timestamp,
                ext: &[],
                body: &[],
                essential: true,
            },
            Effect::Cursor {
                name,
                offset,
                timestamp,
            } => OpRef {
                kind: kind::STREAM_CURSOR,
                first: offset.unwrap_or(CURSOR_GONE),
                count: 0,
                timestamp: *timestamp,
                ext: name,
                body: &[],
                // It lets records go that are kept for the reader.
                essential: true,
            },
        })
    }

    /// The oldest op that was polled is durable. Readers see it after the next
    /// [`Partition::seal`], an atomic group when its last op is. O(1), the
    /// change of a cursor excepted.
    ///
    /// # Panics
    /// When none was polled: nothing may show that was never written.
    pub fn commit_next(&mut self) {
        let durable = self.durable.as_deref_mut().expect("it has a log");
        assert!(durable.polled > 0, "committed before it was polled");
        let effect = durable.pending.pop_front().expect("polled, so it is there");
        durable.polled -= 1;
        match effect {
            Effect::Block {
                count, bytes, more, ..
            } => {
                durable.landed += u64::from(count);
                durable.uncommitted_bytes -= u64::from(bytes);
                if !more {
                    durable.committed = durable.landed;
                }
            }
            Effect::Trim { first, .. } => durable.first_committed = first,
            Effect::Cursor { name, offset, .. } => durable.cursors.commit(&name, offset),
        }
    }

    /// Whether records are in the log for good: what an ephemeral partition
    /// has appended, and what a durable one has committed, up to here. An
    /// append may be acknowledged once this reaches its last record, also when
    /// it is a repeat.
    #[must_use]
    pub fn committed_end(&self) -> Offset {
        Offset(match &self.durable {
            None => self.ring.end(),
            Some(durable) => durable.committed,
        })
    }

    /// Oldest offset kept, as the log has it: what lies before it may be
    /// deleted.
    #[must_use]
    pub fn committed_first(&self) -> Offset {
        Offset(match &self.durable {
            None => self.ring.first(),
            Some(durable) => durable.first_committed,
        })
    }

    /// One past the last record appended, committed or not.
    #[must_use]
    pub fn appended_end(&self) -> Offset {
        Offset(self.ring.end())
    }

    /// Lets go everything before `first`, or as much of it as is committed.
    /// Readers see it at once, those overtaken with a lag notice; the log may
    /// delete the records once the op is committed. False when there was
    /// nothing to let go, or the partition is ephemeral or fenced.
    pub fn trim(&mut self, first: Offset, wall: WallMs) -> bool {
        let Some(durable) = self.durable.as_deref_mut() else {
            return false;
        };
        let first = first.0.min(durable.committed);
        if first <= durable.first || durable.fenced {
            return false;
        }
        let timestamp = wall.max(self.ring.last_timestamp());
        durable.pending.push_back(Effect::Trim { first, timestamp });
        self.raise_first(first);
        true
    }

    fn raise_first(&mut self, first: u64) {
        let Some(durable) = self.durable.as_deref_mut() else {
            return;
        };
        durable.first = first;
        durable.cold.drop_before(first);
        self.ring.drop_before(first);
        self.subscribers.on_evict(first);
        let end = self.end().0;
        self.subscribers.on_read(end);
    }

    /// Lets committed records go from memory until at most `target_bytes` are
    /// left; readers get them from the log. 0 gives back all there is.
    pub fn evict_committed(&mut self, target_bytes: u64) {
        self.seal();
        let Some(durable) = self.durable.as_deref_mut() else {
            return;
        };
        let cold = durable.cold.memory();
        if target_bytes > 0 && self.ring.bytes() + cold <= target_bytes {
            return;
        }
        // What was read back serves replay, the ring the live tail.
        durable.cold.clear();
        self.ring.shrink(target_bytes, durable.committed);
        if target_bytes == 0 {
            durable.pending.shrink_to_fit();
            self.subscribers.shrink();
        }
    }

    /// The next read wanted of the log. The answer goes to
    /// [`Partition::handle_read`], whenever it comes and in any order.
    pub fn poll_read(&mut self) -> Option<ColdRead> {
        self.durable.as_deref_mut()?.cold.poll()
    }

    /// The log answers a read that began at `from`. Whoever waited is ready
    /// again; a fetch that found the place cold may be tried again.
    pub fn handle_read(
        &mut self,
        now: Monotonic,
        from: Offset,
        result: Result<StreamChunk, ColdError>,
    ) {
        let Some(durable) = self.durable.as_deref_mut() else {
            return;
        };
        let trimmed = match result {
            Err(ColdError::Trimmed { first }) => first.0.min(durable.committed),
            _ => 0,
        };
        if !durable.cold.accept(now, from.0, result, durable.first) {
            return;
        }
        if trimmed > durable.first {
            self.raise_first(trimmed);
        }
        let end = self.end().0;
        self.subscribers.on_read(end);
    }

    /// Closes the partition: its data is damaged or a write of it failed.
    /// Appends, trims and cursors are refused with `PartitionFenced`; what is
    /// committed and whole can be read, and a reader that comes to what is not
    /// ends with the same code.
    pub fn fence(&mut self) {
        if let Some(durable) = self.durable.as_deref_mut() {
            durable.fenced = true;
        }
    }

    /// Whether it is closed, by [`Partition::fence`] or because records were
    /// missing in its replay.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.durable.as_ref().is_some_and(|d| d.fenced)
    }

    pub(crate) fn check_open(&self) -> Result<(), AppendError> {
        if self.is_fenced() {
            return Err(AppendError::Fenced);
        }
        Ok(())
    }

    /// Moves the cursor `name` to `offset`, creating it if need be; seen and
    /// durable when its op is committed. It may go back, and it may stand
    /// before the oldest record.
    ///
    /// # Errors
    /// [`CursorError`]; nothing has changed.
    pub fn cursor_commit(
        &mut self,
        name: &[u8],
        offset: Offset,
        wall: WallMs,
    ) -> Result<(), CursorError> {
        let durable = self.durable.as_deref_mut().ok_or(CursorError::NotDurable)?;
        if name.is_empty() || name.len() > CURSOR_NAME_BYTES_MAX {
            return Err(CursorError::BadName {
                len: name.len(),
                limit: CURSOR_NAME_BYTES_MAX,
            });
        }
        if durable.fenced {
            return Err(CursorError::Fenced);
        }
        let end = Offset(durable.committed);
        if offset > end {
            return Err(CursorError::BeyondEnd { offset, end });
        }
        if !durable.cursors.has_room_for(name) {
            return Err(CursorError::TooMany { limit: CURSORS_MAX });
        }
        durable.queue_cursor(name, Some(offset.0), wall);
        Ok(())
    }

    /// Removes the cursor `name`; seen and durable when its op is committed.
    ///
    /// # Errors
    /// [`CursorError::Unknown`], [`CursorError::NotDurable`],
    /// [`CursorError::Fenced`]; nothing has changed.
    pub fn cursor_delete(&mut self, name: &[u8], wall: WallMs) -> Result<(), CursorError> {
        let durable = self.durable.as_deref_mut().ok_or(CursorError::NotDurable)?;
        if durable.fenced {
            return Err(CursorError::Fenced);
        }
        if !durable.cursors.knows(name) {
            return Err(CursorError::Unknown);
        }
        durable.queue_cursor(name, None, wall);
        Ok(())
    }

    /// Where the cursor `name` stands, as far as it is committed.
    #[must_use]
    pub fn cursor(&self, name: &[u8]) -> Option<Offset> {
        self.durable.as_ref()?.cursors.get(name).map(Offset)
    }

    /// Every committed cursor, by name.
    pub fn cursors(&self) -> impl Iterator<Item = (&[u8], Offset)> {
        let durable = self.durable.as_deref();
        durable
            .into_iter()
            .flat_map(|d| d.cursors.iter())
            .map(|(name, offset)| (name, Offset(offset)))
    }

    /// Folds one record of the log into the partition, in the log's order.
    /// Everything replayed is committed. `carried` records were written again
    /// by the log and say nothing new.
    ///
    /// When blocks are missing before this one, the log was damaged: the
    /// partition goes on after them, so that no offset is used twice, and is
    /// fenced.
    ///
    /// # Errors
    /// [`ReplayError`]; the partition is as before.
    pub fn replay(
        &mut self,
        head: &RecordHead,
        carried: bool,
        ext: &[u8],
        body: &[u8],
    ) -> Result<(), ReplayError> {
        let first = head.first;
        let malformed = ReplayError::Malformed { first };
        let durable = self.durable.as_deref_mut().ok_or(malformed)?;
        assert!(durable.pending.is_empty(), "replay comes before requests");
        let end = self.ring.end();
        if carried && head.kind != kind::STREAM_BLOCK {
            return Ok(());
        }
        match head.kind {
            kind::STREAM_BLOCK => {
                let (block, _, rest) = BlockHeader::split(body).map_err(|_| malformed)?;
                let producer = match ext.as_chunks::<8>() {
                    (_, []) if ext.is_empty() => None,
                    ([id, sequence], []) => Some((
                        ProducerId(u64::from_le_bytes(*id)),
                        Sequence(u64::from_le_bytes(*sequence)),
                    )),
                    _ => return Err(malformed),
                };
                let whole = block.first_offset.0 == first
                    && block.record_count == head.count
                    && head.count > 0
                    && rest.is_empty();
                let next = first.checked_add(u64::from(head.count));
                let next = next.filter(|_| whole).ok_or(malformed)?;
                if next <= end && carried {
                    return Ok(());
                }
                if first < end {
                    return Err(ReplayError::Overlap { first, end });
                }
                durable.gap |= first > end;
                let timestamp = block.timestamp.max(self.ring.last_timestamp());
                self.ring.resume(next, timestamp);
                durable.resume(durable.first, next);
                if let Some((id, sequence)) = producer {
                    let offset = block.first_offset;
                    self.producers.replay(id, sequence, head.count, offset);
                }
            }
            kind::STREAM_TRIM => {
                if first > end {
                    // The blocks it let go were lost before.
                    durable.gap = true;
                    self.ring.resume(first, self.ring.last_timestamp());
                }
                durable.resume(durable.first.max(first), end.max(first));
            }
            kind::STREAM_CURSOR => {
                if ext.is_empty() || ext.len() > CURSOR_NAME_BYTES_MAX {
                    return Err(malformed);
                }
                let offset = (first != CURSOR_GONE).then_some(first);
                durable.cursors.set(ext, offset);
            }
            kind => return Err(ReplayError::Kind { kind }),
        }
        durable.fenced |= durable.gap;
        self.announced = self.ring.end();
        Ok(())
    }
}

impl Durable {
    fn queue_cursor(&mut self, name: &[u8], offset: Option<u64>, timestamp: WallMs) {
        self.cursors.begin(name);
        self.pending.push_back(Effect::Cursor {
            name: name.into(),
            offset,
            timestamp,
        });
    }
}
