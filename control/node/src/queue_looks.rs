//! Looking at messages whose records are on the disk only.
//!
//! A page of a peek or of dead letters is put together as if every record were
//! in memory, and what is not is read from the log the way cold streams are.
//! When all of it is there the page is put together again, and answered.
//! Nothing stays in the queue's memory for having been looked at.

use bytes::Bytes;
use pinion_commitlog::{Location, ReadError};
use pinion_domains::queue::Body;
use pinion_types::block::{Record, records};
use pinion_types::{ErrorCode, FactId, FixedMap, FixedSet, Refusal};
use pinion_wire::frame::{Split, split};
use pinion_wire::message::{Reply, Request};

use crate::core::{Core, answer};
use crate::execute::{Executed, Target};
use crate::mail::Origin;

/// Pages of one core that may wait for the disk. Each holds up to
/// [`LOOK_BYTES_MAX`] and one record: more lets more people look at once and
/// takes more memory from what the core is for.
const LOOKS_WAITING_MAX: usize = 32;

/// Bytes of log records read for one page, a single larger one excepted. A page
/// that would need more ends early. Larger pages need fewer requests.
const LOOK_BYTES_MAX: u64 = 2 << 20;

/// Times a page is put together and lacks something. The log may move records
/// while they are read; a page that met that so often is answered without them.
const LOOK_ROUNDS_MAX: u8 = 3;

/// How soon somebody should ask again when the disk could not read.
const DISK_RETRY_MS: u32 = 1000;

/// What one page needs from the log.
#[derive(Debug)]
pub(crate) struct Bodies {
    here: FixedMap<Location, Bytes>,
    /// Records this page needs, there or not, and their bytes.
    needed: FixedSet<Location>,
    bytes: u64,
    missing: Vec<Location>,
    rounds_left: u8,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            here: FixedMap::default(),
            needed: FixedSet::default(),
            bytes: 0,
            missing: Vec::new(),
            rounds_left: LOOK_ROUNDS_MAX,
        }
    }
}

impl Bodies {
    /// Before the page is put together again.
    fn begin(&mut self) {
        self.needed.clear();
        self.bytes = 0;
        self.missing.clear();
        self.rounds_left -= 1;
    }

    /// The page needs a body. False, with nothing noted, when that is more than
    /// one page may ask of the log: it ends before.
    pub(crate) fn want(&mut self, body: &Body) -> bool {
        let Body::InLog { at, .. } = body else {
            return true;
        };
        if self.needed.contains(at) {
            return true;
        }
        let bytes = self.bytes + u64::from(at.len);
        if !self.needed.is_empty() && bytes > LOOK_BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.needed.insert(*at);
        if !self.here.contains_key(at) && self.rounds_left > 0 {
            self.missing.push(*at);
        }
        true
    }

    /// The record of a body, unless it is on the disk and was not read.
    pub(crate) fn record<'a>(&'a self, body: &'a Body) -> Option<Record<'a>> {
        let bytes = match body {
            Body::Here(bytes) => bytes,
            Body::InLog { at, pos, len } => {
                let put = self.here.get(at)?;
                let pos = *pos as usize;
                put.get(pos..pos + *len as usize)?
            }
        };
        records(bytes).next()?.ok()
    }
}

/// A page that waits for the disk.
#[derive(Debug)]
struct Look {
    origin: Origin,
    target: Target,
    /// The request as it came, in a frame of its own.
    request: Vec<u8>,
    bodies: Bodies,
    /// Reads on their way.
    awaited: usize,
    failed: Option<Refusal>,
}

/// Every page of this core that waits for the disk.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    waiting: FixedMap<u64, Look>,
    last: u64,
}

impl Looks {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Core {
    /// Answers a peek or a list of dead letters, at once or after the disk.
    pub(crate) fn look(
        &mut self,
        origin: Origin,
        target: Target,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let start = out.len();
        let mut bodies = Bodies::default();
        self.page(origin, target, request, &mut bodies, out)?;
        if bodies.missing.is_empty() {
            return Ok(Executed::Replied);
        }
        out.truncate(start);
        if self.looks.waiting.len() >= LOOKS_WAITING_MAX {
            return Err(Refusal::new(ErrorCode::Busy).with(FactId::Limit, LOOKS_WAITING_MAX as u64));
        }
        let mut frame = Vec::new();
        request
            .encode(origin.correlation, &mut frame)
            .expect("it was decoded from a frame");
        let look = Look {
            origin,
            target,
            request: frame,
            bodies,
            awaited: 0,
            failed: None,
        };
        self.read_missing(look)?;
        Ok(Executed::Deferred)
    }

    fn page(
        &mut self,
        origin: Origin,
        target: Target,
        request: &Request<'_>,
        bodies: &mut Bodies,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        match request {
            Request::QueuePeek(peek) => self.queue_peek(origin, target, peek, bodies, out),
            Request::QueueDeadList(list) => self.queue_dead_list(origin, target, list, bodies, out),
            _ => unreachable!("only these two are pages of messages"),
        }
    }

    /// Asks the log for what a page lacks.
    fn read_missing(&mut self, mut look: Look) -> Result<(), Refusal> {
        self.looks.last += 1;
        let id = self.looks.last;
        let Bodies { here, needed, .. } = &mut look.bodies;
        // What was moved since is another record of this round.
        here.retain(|place, _| needed.contains(place));
        for place in core::mem::take(&mut look.bodies.missing) {
            if !self.shard.look(look.target.slot, place, id) {
                // What was asked for already is answered to nobody.
                return Err(ErrorCode::Busy.into());
            }
            look.awaited += 1;
        }
        self.looks.waiting.insert(id, look);
        Ok(())
    }

    /// The log has read a record for a page.
    pub(crate) fn looked(&mut self, id: u64, place: Location, body: Result<Bytes, ReadError>) {
        let Some(look) = self.looks.waiting.get_mut(&id) else {
            return;
        };
        look.awaited -= 1;
        match body {
            Ok(body) => {
                look.bodies.here.insert(place, body);
            }
            // It was moved or released meanwhile: the next round sees which.
            Err(ReadError::Trimmed { .. }) => {}
            Err(ReadError::Damaged { .. }) => {
                look.failed = Some(ErrorCode::PartitionFenced.into());
            }
            Err(ReadError::Disk(_)) => {
                look.failed = Some(Refusal::new(ErrorCode::Busy).after_ms(DISK_RETRY_MS));
            }
        }
        if look.awaited > 0 {
            return;
        }
        let look = self.looks.waiting.remove(&id).expect("found just now");
        self.look_again(look);
    }

    fn look_again(&mut self, mut look: Look) {
        let origin = look.origin;
        let mut out = Vec::new();
        let result = match look.failed.take() {
            Some(refusal) => Err(refusal),
            None => {
                let Look {
                    target,
                    request,
                    bodies,
                    ..
                } = &mut look;
                let Ok(Split::Frame { header, body, .. }) = split(request) else {
                    unreachable!("it is a whole frame")
                };
                let request = Request::decode(header.opcode, body).expect("decoded before");
                bodies.begin();
                self.page(origin, *target, &request, bodies, &mut out)
            }
        };
        let result = result.and_then(|()| {
            if look.bodies.missing.is_empty() {
                return Ok(true);
            }
            self.read_missing(look).map(|()| false)
        });
        match result {
            Ok(true) => {}
            Ok(false) => return,
            Err(refusal) => {
                out.clear();
                answer(&mut out, origin.correlation, &Reply::Error(refusal));
            }
        }
        self.answer_late(origin, &out);
    }
}
