//! Readers of streams: one that never skips, one that reads ranges at random,
//! and one that keeps a named cursor.

use std::collections::BTreeMap;

use pinion_simkit::SimRng;
use pinion_types::{ErrorCode, Offset, SubscriptionId};
use pinion_wire::message::{
    Credit, CursorCommit, CursorGet, Fetch, Filter, Lag, LagReason, Reply, Request, Start,
    Subscribe,
};

use super::super::client::{Client, Got};
use super::super::truth::{PlayerId, Truth};
use super::{Place, disk, value_in};
use crate::{Violation, promise};

/// Reads a partition from its beginning on and never skips.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    next: Option<u64>,
    subscription: Option<u32>,
    used: u32,
    window: Option<usize>,
    asked: Option<u32>,
    /// Where the partition began at least when it subscribed.
    floor: u64,
}

/// Reads ranges at random; what was acknowledged before must be there.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Per question: from where, and between what ends the partition lay at least.
    asked: BTreeMap<u32, (u64, u64, u64)>,
}

/// Keeps a named cursor.
#[derive(Debug, Default)]
pub(crate) struct Bookmark {
    commits: BTreeMap<u32, u64>,
    gets: Vec<u32>,
}
impl Subscriber {
    pub(crate) fn new(rng: &mut SimRng) -> Self {
        Self {
            window: rng.one_in(3).then(|| rng.index(2_000)),
            ..Self::default()
        }
    }

    /// Bytes it takes of a delivery stream before it must be asked again.
    pub(super) fn window(&self) -> Option<usize> {
        self.window
    }

    /// Its connection is gone.
    pub(super) fn lost(&mut self) {
        self.subscription = None;
        self.asked = None;
    }

    /// The next offset it waits for.
    pub(crate) fn reached(&self) -> u64 {
        self.next.unwrap_or(0)
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        place: Place,
        truth: &mut Truth,
    ) {
        let Place {
            handle, partition, ..
        } = place;
        match self.subscription {
            None => {
                self.used += 1;
                self.floor = truth.stream(place.key).first();
                self.subscription = Some(self.used);
                let start = self
                    .next
                    .map_or(Start::Earliest, |next| Start::Offset(Offset(next)));
                self.asked = Some(client.send(&Request::Subscribe(Subscribe {
                    handle,
                    partition,
                    subscription: SubscriptionId(self.used),
                    start,
                    overflow: None,
                    backlog_max: 0,
                    credit_records: 20,
                    credit_bytes: 1 << 16,
                    filter: Filter::everything(),
                })));
            }
            Some(subscription) => {
                let credit = Credit {
                    subscription: SubscriptionId(subscription),
                    records: u32::try_from(rng.below(30)).expect("small"),
                    bytes: 1 << 14,
                };
                client.send(&Request::Credit(credit));
            }
        }
    }

    pub(super) fn answered(&mut self, number: u32, reply: &Reply<'_>) {
        if self.asked == Some(number) {
            self.asked = None;
            if matches!(reply, Reply::Error(_)) {
                self.subscription = None;
            }
        }
    }

    pub(super) fn delivered(
        &mut self,
        subscription: SubscriptionId,
        got: &Got,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        if self.subscription != Some(subscription.0) {
            return Ok(());
        }
        match got {
            Got::Record { offset, value } => {
                let stream = truth.stream(key);
                if self.next.is_none() {
                    // From the oldest there was when it was answered.
                    promise!(
                        *offset >= self.floor,
                        "offset {offset} was delivered, the oldest is {}",
                        self.floor
                    );
                    stream.begins_at(*offset)?;
                }
                let next = self.next.unwrap_or(*offset);
                promise!(
                    *offset == next,
                    "offset {offset} was delivered, {next} is next"
                );
                stream.known(*offset, value_in(value)?)?;
                truth.counts.delivered += 1;
                self.next = Some(offset + 1);
                Ok(())
            }
            Got::Lag(lag) => self.overtaken(lag, key, truth),
            Got::End | Got::Fin => {
                self.subscription = None;
                Ok(())
            }
            Got::Message(_) => Err(Violation::new("a message of a stream".to_owned())),
        }
    }
}

impl Subscriber {
    /// Retention went past it: the range that it missed is named, whole, and may
    /// be gone.
    fn overtaken(
        &mut self,
        lag: &Lag,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let (from, to) = (lag.from.0, lag.to.0);
        promise!(
            lag.reason == LagReason::Retention
                && self.next.is_none_or(|next| next == from)
                && to > from,
            "{lag:?}, and {:?} is next",
            self.next
        );
        promise!(
            lag.count == 0 || lag.count == to - from,
            "{lag:?} counts {}",
            to - from
        );
        truth.stream(key).begins_at(to)?;
        truth.counts.lagged += to - from;
        self.next = Some(to);
        Ok(())
    }
}

impl Reader {
    /// Its connection is gone.
    pub(super) fn lost(&mut self) {
        self.asked.clear();
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        place: Place,
        truth: &mut Truth,
    ) {
        if self.asked.len() > 3 {
            return;
        }
        let stream = truth.stream(place.key);
        let (first, end) = (stream.first(), stream.end());
        let low = if rng.one_in(4) { 0 } else { first };
        let from = rng.between(low, end.max(first));
        let asked = client.send(&Request::Fetch(Fetch {
            handle: place.handle,
            partition: place.partition,
            from: Offset(from),
            max_records: u32::try_from(rng.between(1, 40)).expect("small"),
            max_bytes: 1 << rng.between(6, 18),
            filter: Filter::everything(),
        }));
        self.asked.insert(asked, (from, first, end));
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let Some((from, first, known_end)) = self.asked.remove(&number) else {
            return Err(Violation::new(format!("{reply:?} to nothing")));
        };
        let Reply::Fetched(fetched) = reply else {
            return Ok(());
        };
        promise!(
            fetched.end.0 >= known_end,
            "the end is {}, somebody knew of {known_end} before",
            fetched.end.0
        );
        let stream = truth.stream(key);
        stream.told_end(fetched.end.0)?;
        let available = fetched.first_available.0;
        promise!(
            available >= first,
            "the oldest is {available}, somebody knew of {first} before"
        );
        stream.begins_at(available)?;
        let start = from.max(available);
        let mut next = start;
        for block in fetched.blocks() {
            let (header, records) =
                block.map_err(|error| Violation::new(format!("not a block: {error:?}")))?;
            let offsets = header.first_offset.0..;
            for (offset, record) in offsets.zip(pinion_types::block::records(records)) {
                let record =
                    record.map_err(|error| Violation::new(format!("not a record: {error:?}")))?;
                let stream = truth.stream(key);
                stream.known(offset, value_in(record.value)?)?;
                truth.counts.delivered += 1;
                promise!(offset == next, "fetched {offset}, {next} is next");
                next += 1;
            }
        }
        promise!(
            fetched.next.0 == next,
            "fetched up to {next}, told to go on at {}",
            fetched.next.0
        );
        promise!(
            next > start || start >= known_end,
            "nothing was fetched at {start} of {known_end}"
        );
        Ok(())
    }
}

impl Bookmark {
    /// Its connection is gone.
    pub(super) fn lost(&mut self) {
        self.commits.clear();
        self.gets.clear();
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        place: Place,
        truth: &mut Truth,
    ) {
        let Place {
            handle,
            partition,
            key,
            player,
        } = place;
        let name = format!("bookmark-{player}");
        let end = truth.stream(key).end();
        let cursor = truth.cursors.entry((key.0, key.1, player as u64));
        if rng.coin() {
            let offset = rng.below(end + 1);
            cursor.or_default().asked(offset);
            let asked = client.send(&Request::CursorCommit(CursorCommit {
                handle,
                partition,
                offset: Offset(offset),
                name: &name,
            }));
            self.commits.insert(asked, offset);
        } else if self.commits.is_empty() && self.gets.is_empty() {
            let asked = client.send(&Request::CursorGet(CursorGet {
                handle,
                partition,
                name: &name,
            }));
            self.gets.push(asked);
        }
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        me: PlayerId,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let cursor = truth.cursors.entry((key.0, key.1, me as u64)).or_default();
        if let Some(offset) = self.commits.remove(&number) {
            if let Reply::Cursor(got) = reply {
                disk(got.durability)?;
                promise!(got.offset.0 == offset, "a cursor at {}", got.offset.0);
                cursor.acked(offset);
            }
            return Ok(());
        }
        self.gets.retain(|asked| *asked != number);
        match reply {
            Reply::Cursor(got) => cursor.read(Some(got.offset.0)),
            Reply::Error(refusal) if refusal.code == ErrorCode::CursorUnknown => cursor.read(None),
            _ => Ok(()),
        }
    }
}
