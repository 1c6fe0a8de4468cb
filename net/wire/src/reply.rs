//! Replies and deliveries written straight into the output buffer, for the hot
//! path: the value of a cache or the blocks of a ring are copied once.
//!
//! A builder puts an unfinished frame at the end of `out` and patches its length
//! in `finish`. Dropped without it, the frame is taken out again.

mod queue;

use pinion_types::limits::{CACHE_MULTI_MAX, CACHE_VALUE_BYTES_MAX, FRAME_BYTES_MAX};
use pinion_types::{Epoch, ErrorCode, Offset, Refusal, ResourceId, Version};

use crate::codec::Writer;
use crate::error::EncodeError;
use crate::frame::{self, OpenFrame};
use crate::message::{
    CacheEvent, CachedValue, EVENTS_MAX, Handle, PAGE_ITEMS_MAX, PageItem, Reply, Spec, StoredItem,
};
use crate::opcode;

pub use queue::{
    CursorPageBuilder, DeadPageBuilder, QueuePageBuilder, QueueStatusBuilder, ReasonsBuilder,
    SettledBuilder, TakenBuilder,
};

/// Appends CACHE_VALUE; `value` appends the value's bytes and nothing else.
///
/// # Errors
/// The value is over `CACHE_VALUE_BYTES_MAX`; `out` is unchanged.
pub fn cache_value(
    out: &mut Vec<u8>,
    correlation: u32,
    version: Version,
    ttl_ms: u64,
    stale: bool,
    value: impl FnOnce(&mut Vec<u8>),
) -> Result<(), EncodeError> {
    frame::append(out, opcode::CACHE_VALUE, correlation, |out| {
        let mut writer = Writer { out };
        writer.put(version);
        writer.put(ttl_ms);
        writer.put(stale);
        let start = writer.out.len();
        value(writer.out);
        let len = writer.out.len() - start;
        if len > CACHE_VALUE_BYTES_MAX as usize {
            return Err(EncodeError::TooLarge {
                field: "value",
                len: len as u64,
                limit: u64::from(CACHE_VALUE_BYTES_MAX),
            });
        }
        Ok(())
    })
}

/// Appends OPENED; `core_of` is asked for the data core of each partition.
///
/// # Errors
/// A field of `spec` out of its range; `out` is unchanged.
pub fn opened(
    out: &mut Vec<u8>,
    correlation: u32,
    handle: Handle,
    resource: ResourceId,
    epoch: Epoch,
    spec: Spec,
    mut core_of: impl FnMut(u16) -> u16,
) -> Result<(), EncodeError> {
    frame::append(out, opcode::OPENED, correlation, |out| {
        let mut writer = Writer { out };
        writer.put(handle);
        writer.put(resource);
        writer.put(epoch);
        writer.spec("spec", spec)?;
        writer.put(spec.shards);
        for partition in 0..spec.shards {
            writer.put(core_of(partition));
        }
        Ok(())
    })
}

/// Appends ERROR. It always fits.
pub fn error(out: &mut Vec<u8>, correlation: u32, refusal: &Refusal) {
    Reply::Error(*refusal)
        .encode(correlation, out)
        .expect("an ERROR has at most 36 bytes and every refusal is encodable");
}

/// A frame that ends in a counted list.
#[derive(Debug)]
struct ListFrame<'o> {
    out: &'o mut Vec<u8>,
    frame: OpenFrame,
    /// Where the count stands in `out`.
    count_at: usize,
    count: u16,
    count_max: u16,
    finished: bool,
}

impl<'o> ListFrame<'o> {
    /// `head` writes the fields before the count.
    fn begin(
        out: &'o mut Vec<u8>,
        opcode: u8,
        correlation: u32,
        count_max: u16,
        head: impl FnOnce(&mut Writer<'_>),
    ) -> Self {
        let frame = OpenFrame::begin(out, opcode, correlation);
        head(&mut Writer { out });
        let count_at = out.len();
        out.extend_from_slice(&[0; 2]);
        Self {
            out,
            frame,
            count_at,
            count: 0,
            count_max,
            finished: false,
        }
    }

    /// `false` and nothing written when the item does not fit.
    fn push(&mut self, write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>) -> bool {
        if self.count == self.count_max {
            return false;
        }
        let before = self.out.len();
        let written = write(&mut Writer { out: self.out });
        let body = self.out.len() - self.frame.body_start();
        if written.is_err() || body > FRAME_BYTES_MAX as usize {
            self.out.truncate(before);
            return false;
        }
        self.count += 1;
        true
    }

    fn finish(&mut self, patch: impl FnOnce(&mut [u8])) {
        let at = self.count_at;
        self.out[at..at + 2].copy_from_slice(&self.count.to_le_bytes());
        patch(&mut self.out[self.frame.body_start()..]);
        self.frame
            .finish(self.out)
            .expect("push keeps the frame within FRAME_BYTES_MAX");
        self.finished = true;
    }
}

impl Drop for ListFrame<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.frame.abandon(self.out);
        }
    }
}

/// Writes CACHE_VALUES: one push for each key asked for, in that order.
#[derive(Debug)]
pub struct CacheValuesBuilder<'o>(ListFrame<'o>);

impl<'o> CacheValuesBuilder<'o> {
    /// Begins the frame at the end of `out`.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, correlation: u32) -> Self {
        let list = ListFrame::begin(
            out,
            opcode::CACHE_VALUES,
            correlation,
            CACHE_MULTI_MAX,
            |_| {},
        );
        Self(list)
    }

    /// The key is there. `false`, with nothing written, when the frame is full
    /// or the value over its limit: finish, the client asks for the rest.
    #[must_use]
    pub fn hit(&mut self, version: Version, ttl_ms: u64, value: &[u8]) -> bool {
        let found = CachedValue {
            version,
            ttl_ms,
            value,
        };
        self.0
            .push(|writer| CachedValue::write(writer, Some(found)))
    }

    /// The key is not there. As [`CacheValuesBuilder::hit`].
    #[must_use]
    pub fn miss(&mut self) -> bool {
        self.0.push(|writer| CachedValue::write(writer, None))
    }

    /// Completes the frame; gives how many keys it answers.
    pub fn finish(mut self) -> u16 {
        self.0.finish(|_| {});
        self.0.count
    }
}

/// Writes CACHE_STORED_MANY: one push for each item, in that order.
#[derive(Debug)]
pub struct CacheStoredManyBuilder<'o>(ListFrame<'o>);

impl<'o> CacheStoredManyBuilder<'o> {
    /// Begins the frame at the end of `out`.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, correlation: u32) -> Self {
        let list = ListFrame::begin(
            out,
            opcode::CACHE_STORED_MANY,
            correlation,
            CACHE_MULTI_MAX,
            |_| {},
        );
        Self(list)
    }

    /// What became of one item. `false` after `CACHE_MULTI_MAX` of them.
    #[must_use]
    pub fn push(&mut self, result: Result<Version, ErrorCode>) -> bool {
        let item = match result {
            Ok(version) => StoredItem {
                error: None,
                version,
            },
            Err(code) => StoredItem {
                error: Some(code),
                version: Version(0),
            },
        };
        self.0.push(|writer| StoredItem::write(writer, item))
    }

    /// Completes the frame; gives how many items it answers.
    pub fn finish(mut self) -> u16 {
        self.0.finish(|_| {});
        self.0.count
    }
}

/// Writes CACHE_PAGE.
#[derive(Debug)]
pub struct CachePageBuilder<'o>(ListFrame<'o>);

impl<'o> CachePageBuilder<'o> {
    /// Begins the frame at the end of `out`.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, correlation: u32) -> Self {
        let list = ListFrame::begin(
            out,
            opcode::CACHE_PAGE,
            correlation,
            PAGE_ITEMS_MAX,
            |writer| writer.put(0_u64),
        );
        Self(list)
    }

    /// One entry. `false`, with nothing written, when the page is full or the
    /// entry over its limit: finish with a cursor that leads to it.
    #[must_use]
    pub fn push(&mut self, item: PageItem<'_>) -> bool {
        self.0.push(|writer| PageItem::write(writer, item))
    }

    /// Items so far.
    #[must_use]
    pub fn len(&self) -> u16 {
        self.0.count
    }

    /// Whether there is no item yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// Completes the frame with the cursor of the next page, 0 after the last;
    /// gives how many items it holds.
    pub fn finish(mut self, cursor: u64) -> u16 {
        self.0
            .finish(|body| body[..8].copy_from_slice(&cursor.to_le_bytes()));
        self.0.count
    }
}

/// Writes EVENTS, a frame of a watch's own stream.
#[derive(Debug)]
pub struct CacheEventsBuilder<'o>(ListFrame<'o>);

impl<'o> CacheEventsBuilder<'o> {
    /// Begins the frame at the end of `out`.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        let list = ListFrame::begin(out, opcode::EVENTS, 0, EVENTS_MAX, |_| {});
        Self(list)
    }

    /// One change. `false`, with nothing written, when the frame is full or the
    /// change over its limit: finish and begin another.
    #[must_use]
    pub fn push(&mut self, event: CacheEvent<'_>) -> bool {
        self.0.push(|writer| CacheEvent::write(writer, event))
    }

    /// One change that is encoded already, because many watches share it.
    /// As [`CacheEventsBuilder::push`]; the bytes are taken as they are.
    #[must_use]
    pub fn push_encoded(&mut self, event: &[u8]) -> bool {
        debug_assert!(CacheEvent::is_one(event), "not one event: {event:02x?}");
        self.0.push(|writer| {
            writer.out.extend_from_slice(event);
            Ok(())
        })
    }

    /// Events so far.
    #[must_use]
    pub fn len(&self) -> u16 {
        self.0.count
    }

    /// Whether there is no event yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// Completes the frame; gives how many events it holds.
    pub fn finish(mut self) -> u16 {
        self.0.finish(|_| {});
        self.0.count
    }
}

/// Bytes of FETCHED before its blocks.
const FETCHED_HEAD: usize = 24;

/// Writes FETCHED around blocks.
#[derive(Debug)]
pub struct FetchedBuilder<'o> {
    out: &'o mut Vec<u8>,
    frame: OpenFrame,
    finished: bool,
}

impl<'o> FetchedBuilder<'o> {
    /// Bytes of blocks that fit one frame.
    pub const BLOCKS_BYTES_MAX: usize = FRAME_BYTES_MAX as usize - FETCHED_HEAD;

    /// Begins the frame at the end of `out`.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, correlation: u32) -> Self {
        let frame = OpenFrame::begin(out, opcode::FETCHED, correlation);
        out.extend_from_slice(&[0; FETCHED_HEAD]);
        Self {
            out,
            frame,
            finished: false,
        }
    }

    /// Bytes of blocks that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        let body = self.out.len() - self.frame.body_start();
        (FRAME_BYTES_MAX as usize).saturating_sub(body)
    }

    /// Appends whole blocks. `false`, with nothing written, when they do not fit.
    #[must_use]
    pub fn push(&mut self, blocks: &[u8]) -> bool {
        let fits = blocks.len() <= self.room();
        if fits {
            self.out.extend_from_slice(blocks);
        }
        fits
    }

    /// For who writes the blocks himself: append whole ones, at most
    /// [`FetchedBuilder::room`] bytes.
    pub fn blocks(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Completes the frame.
    ///
    /// # Errors
    /// More was appended than fits; `out` is as it was before the frame.
    pub fn finish(
        mut self,
        next: Offset,
        end: Offset,
        first_available: Offset,
    ) -> Result<(), EncodeError> {
        // From here on either the frame is whole or `OpenFrame::finish` took it out.
        self.finished = true;
        let at = self.frame.body_start();
        for (i, offset) in [next, end, first_available].into_iter().enumerate() {
            let at = at + 8 * i;
            self.out[at..at + 8].copy_from_slice(&offset.0.to_le_bytes());
        }
        self.frame.finish(self.out)
    }
}

impl Drop for FetchedBuilder<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.frame.abandon(self.out);
        }
    }
}
