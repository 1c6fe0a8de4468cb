//! Reading a range of a stream once, from memory or, later, from the disk.

use pinion_domains::stream::{FetchResult, RecordFilter};
use pinion_shard::Slot;
use pinion_types::{ErrorCode, FactId, FixedMap, Offset, Refusal};
use pinion_wire::message::{Fetch, FilterBuf, Reply};
use pinion_wire::reply::FetchedBuilder;

use crate::core::{Core, answer};
use crate::execute::{Executed, WireFilter};
use crate::mail::Origin;

/// Fetches of one core that may wait for the disk. More lets a crowd of cold
/// readers hold more memory; fewer refuses it sooner.
const FETCHES_WAITING_MAX: usize = 4096;

/// A fetch that waits for the disk.
#[derive(Debug)]
pub(crate) struct WaitingFetch {
    origin: Origin,
    from: Offset,
    max_records: u32,
    max_bytes: u32,
    filter: Option<WireFilter>,
}

/// Every fetch of this core that waits for the disk, by partition.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    waiting: FixedMap<Slot, Vec<WaitingFetch>>,
    count: usize,
}

impl Fetches {
    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

impl Core {
    pub(crate) fn fetch(
        &mut self,
        origin: Origin,
        slot: Slot,
        fetch: &Fetch<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let filter = (!fetch.filter.is_empty()).then(|| WireFilter(FilterBuf::from(fetch.filter)));
        let fetch = WaitingFetch {
            origin,
            from: fetch.from,
            max_records: fetch.max_records,
            max_bytes: fetch.max_bytes,
            filter,
        };
        if self.try_fetch(slot, &fetch, out)? {
            return Ok(Executed::Replied);
        }
        if self.fetches.count >= FETCHES_WAITING_MAX {
            return Err(
                Refusal::new(ErrorCode::Busy).with(FactId::Limit, FETCHES_WAITING_MAX as u64)
            );
        }
        self.fetches.count += 1;
        self.fetches.waiting.entry(slot).or_default().push(fetch);
        Ok(Executed::Deferred)
    }

    /// Answers a fetch, if what it wants is in memory. Otherwise the partition
    /// has noted what it lacks.
    fn try_fetch(
        &mut self,
        slot: Slot,
        fetch: &WaitingFetch,
        out: &mut Vec<u8>,
    ) -> Result<bool, Refusal> {
        let filter = fetch
            .filter
            .as_ref()
            .map(|filter| filter as &dyn RecordFilter);
        let start = out.len();
        let mut reply = FetchedBuilder::new(out, fetch.origin.correlation);
        let room = u32::try_from(reply.room()).expect("a frame fits u32");
        let result = self.shard.stream(slot).fetch(
            fetch.from,
            fetch.max_records,
            fetch.max_bytes.min(room),
            filter,
            reply.blocks(),
        );
        match result {
            FetchResult::Done(fetched) => {
                reply
                    .finish(fetched.next, fetched.end, fetched.first_available)
                    .expect("the fetch was bounded by the room");
                Ok(true)
            }
            FetchResult::Cold => {
                drop(reply);
                out.truncate(start);
                Ok(false)
            }
            FetchResult::Fenced { at } => {
                Err(Refusal::new(ErrorCode::PartitionFenced).with(FactId::Actual, at.0))
            }
        }
    }

    /// A read came back: who waited for it tries again.
    pub(crate) fn retry_fetches(&mut self, slot: Slot) {
        let Some(waiting) = self.fetches.waiting.remove(&slot) else {
            return;
        };
        let mut frame = Vec::new();
        for fetch in waiting {
            frame.clear();
            match self.try_fetch(slot, &fetch, &mut frame) {
                Ok(true) => {}
                Ok(false) => {
                    self.fetches.waiting.entry(slot).or_default().push(fetch);
                    continue;
                }
                Err(refusal) => {
                    frame.clear();
                    answer(&mut frame, fetch.origin.correlation, &Reply::Error(refusal));
                }
            }
            self.fetches.count -= 1;
            self.answer_late(fetch.origin, &frame);
        }
    }

    /// The partition is gone: who waits for a read of it waits for nothing.
    pub(crate) fn refuse_fetches(&mut self, slot: Slot, code: ErrorCode) {
        let waiting = self.fetches.waiting.remove(&slot).unwrap_or_default();
        self.fetches.count -= waiting.len();
        for fetch in waiting {
            self.reply_late(fetch.origin, &Reply::Error(code.into()));
        }
    }

    /// A whole frame for a request that was deferred.
    pub(crate) fn answer_late(&mut self, origin: Origin, frame: &[u8]) {
        if origin.session.core == self.config.core {
            self.handle_late_reply(origin, frame, true);
        } else {
            self.send_reply(origin, frame.to_vec(), true);
        }
    }
}
