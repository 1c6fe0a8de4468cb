//! Subscribers: from anywhere, of everything or by a filter, patient or with any
//! policy for those that are too slow.

use pinion_simkit::SimRng;
use pinion_types::{ErrorCode, FactId, Offset, SubscriptionId, WallMs};
use pinion_wire::message::{
    Credit, End, Lag, LagReason, Overflow, Reply, Request, Start, Subscribe, Unsubscribe,
};

use super::super::client::{Client, Got, Shown};
use super::super::truth::{StreamTruth, Truth, Wish};
use super::{Place, Time, value_in};
use crate::{Violation, promise};

/// Credit in records of a subscriber that takes what comes, and of one that is
/// meant to be too slow.
const CREDIT: u32 = 20;
const CREDIT_SLOW: u32 = 3;
/// One act in so many, a subscriber that begins anywhere begins anew.
const MOVES_EVERY: u64 = 12;
/// Bytes of credit that are more than anybody uses up.
const BYTES_ENOUGH: u32 = 16 << 20;

/// Where a subscriber wants to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Begin {
    #[default]
    Earliest,
    Latest,
    /// Anywhere, also where nothing is.
    Somewhere,
    /// About now, or at a time that a record is known to have.
    Since(Option<u64>),
}

/// What it asked for, and what was known then.
#[derive(Clone, Copy, Debug)]
struct Asked {
    number: u32,
    start: Start,
    /// The partition ended there at least.
    end: u64,
}

/// What has to come before another record does, for a subscriber that was too
/// slow when it gave credit again.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// `drop_oldest`: nothing below this.
    NotBelow(u64),
    /// `drop_newest`: a notice before anything from here on.
    LagBefore(u64),
    /// `disconnect`: the end.
    End,
}

/// Follows a partition. What it does not want, or is too slow for, it need not
/// get; everything else comes in order, without a gap, and once.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    begin: Begin,
    wish: Wish,
    overflow: Option<Overflow>,
    backlog_max: u32,
    /// Gives so much credit, once.
    credit: Option<u32>,
    /// Life of the partition that it subscribed in, see [`StreamTruth::life`].
    life: u64,
    /// First offset that it has not seen or been told of.
    next: Option<u64>,
    subscription: Option<u32>,
    used: u32,
    window: Option<usize>,
    asked: Option<Asked>,
    /// Where the partition began at least when it subscribed.
    floor: u64,
    /// Since it subscribed: records of credit given, and used.
    granted: u64,
    delivered: u64,
    /// The time it began from, until the first record came, and where the
    /// partition ended then.
    since: Option<(u64, u64)>,
    /// It began at the end, so that every record after it counts as waiting.
    live: bool,
    must: Option<Must>,
}

impl Subscriber {
    /// One that never skips, from the beginning on; maybe with a slow transport.
    pub(crate) fn new(rng: &mut SimRng) -> Self {
        Self {
            window: rng.one_in(3).then(|| rng.index(2_000)),
            ..Self::default()
        }
    }

    /// One that begins anywhere, wants anything, and may be too slow.
    pub(crate) fn choosy(rng: &mut SimRng) -> Self {
        let slow = rng.one_in(2);
        let begins = [
            Begin::Earliest,
            Begin::Latest,
            Begin::Somewhere,
            Begin::Since(None),
        ];
        let policies = [
            Overflow::Block,
            Overflow::DropOldest,
            Overflow::DropOldest,
            Overflow::DropNewest,
            Overflow::DropNewest,
            Overflow::Disconnect,
        ];
        Self {
            begin: if slow {
                Begin::Latest
            } else {
                *rng.pick(&begins)
            },
            wish: if rng.coin() {
                Wish::All
            } else {
                *rng.pick(&Wish::SOME)
            },
            overflow: slow.then(|| *rng.pick(&policies)),
            backlog_max: *rng.pick(&[1, 3, 10, 40]),
            window: rng.one_in(4).then(|| rng.index(2_000)),
            ..Self::default()
        }
    }

    /// One that reads slowly, and for which everybody waits.
    pub(crate) fn blocking(rng: &mut SimRng) -> Self {
        Self {
            overflow: Some(Overflow::Block),
            wish: Wish::All,
            begin: Begin::Latest,
            ..Self::choosy(rng)
        }
    }

    /// One of what `wish` wants, from the beginning on, with credit for so many
    /// records and no more: the others must cost none.
    pub(crate) fn exactly(wish: Wish, credit: u32) -> Self {
        Self {
            wish,
            credit: Some(credit),
            ..Self::default()
        }
    }

    /// One from the first record of that time or later.
    pub(crate) fn since(time: u64) -> Self {
        Self {
            begin: Begin::Since(Some(time)),
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
        self.must = None;
    }

    /// The next offset it waits for.
    pub(crate) fn reached(&self) -> u64 {
        self.next.unwrap_or(0)
    }

    fn is_slow(&self) -> bool {
        self.overflow.is_some()
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        time: Time,
        place: Place,
        truth: &mut Truth,
    ) {
        let stream = truth.stream(place.key);
        let Some(subscription) = self.subscription else {
            self.subscribe(client, rng, time, place, stream);
            return;
        };
        let moves = matches!(self.begin, Begin::Somewhere | Begin::Since(None));
        if moves && rng.one_in(MOVES_EVERY) {
            // What is still on its way for the old one is for nobody.
            let subscription = SubscriptionId(subscription);
            client.send(&Request::Unsubscribe(Unsubscribe { subscription }));
            self.lost();
            self.next = None;
            return;
        }
        if self.credit.is_some() || (self.is_slow() && !rng.one_in(3)) {
            return;
        }
        let records = if self.is_slow() {
            rng.below(u64::from(2 * CREDIT_SLOW))
        } else {
            rng.below(30)
        };
        let bytes = if self.is_slow() {
            BYTES_ENOUGH
        } else {
            1 << 14
        };
        client.send(&Request::Credit(Credit {
            subscription: SubscriptionId(subscription),
            records: u32::try_from(records).expect("small"),
            bytes,
        }));
        if records > 0 && self.granted == self.delivered {
            self.take_up_again(stream.end());
        }
        self.granted += records;
    }

    fn subscribe(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        time: Time,
        place: Place,
        stream: &StreamTruth,
    ) {
        if self.is_slow() || self.life != stream.life() {
            // Only at the end is it certain that what comes counts as waiting.
            self.next = None;
        }
        self.life = stream.life();
        let end = stream.end();
        let start = match (self.next, self.begin) {
            (Some(next), _) => Start::Offset(Offset(next)),
            (None, Begin::Earliest) => Start::Earliest,
            (None, Begin::Latest) => Start::Latest,
            (None, Begin::Somewhere) => Start::Offset(Offset(rng.below(end + 6))),
            (None, Begin::Since(Some(at))) => Start::Time(WallMs(at)),
            (None, Begin::Since(None)) => {
                let back = rng.below(4_000);
                let known = stream.some_time(rng.index(1 << 20));
                let at = match known {
                    Some(known) if rng.coin() => known + rng.below(2),
                    _ => time.wall.0.saturating_sub(back) + rng.below(50),
                };
                Start::Time(WallMs(at))
            }
        };
        let (credit_records, credit_bytes) = match self.credit {
            Some(credit) => (credit, BYTES_ENOUGH),
            None if self.is_slow() => (CREDIT_SLOW, BYTES_ENOUGH),
            None => (CREDIT, 1 << 16),
        };
        self.used += 1;
        self.subscription = Some(self.used);
        self.floor = stream.first();
        (self.granted, self.delivered) = (u64::from(credit_records), 0);
        self.must = None;
        self.live = start == Start::Latest;
        self.since = match start {
            Start::Time(at) => Some((at.0, u64::MAX)),
            _ => None,
        };
        let filter = self.wish.filter();
        let number = client.send(&Request::Subscribe(Subscribe {
            handle: place.handle,
            partition: place.partition,
            subscription: SubscriptionId(self.used),
            start,
            overflow: self.overflow,
            backlog_max: if self.is_slow() { self.backlog_max } else { 0 },
            credit_records,
            credit_bytes,
            filter: filter.as_filter(),
        }));
        self.asked = Some(Asked { number, start, end });
    }

    /// It had used up its credit, and gives more now that the partition ends at
    /// `end` or further: what of it waited too long is for its policy to say.
    fn take_up_again(&mut self, end: u64) {
        let backlog = u64::from(self.backlog_max);
        let Some(next) = self.next.filter(|_| self.live && self.wish == Wish::All) else {
            return;
        };
        if end <= next + backlog || self.must.is_some() {
            return;
        }
        self.must = match self.overflow {
            Some(Overflow::DropOldest) => Some(Must::NotBelow(end - backlog)),
            Some(Overflow::DropNewest) => Some(Must::LagBefore(next + backlog)),
            Some(Overflow::Disconnect) => Some(Must::End),
            Some(Overflow::Block) | None => None,
        };
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let Some(asked) = self.asked.take_if(|asked| asked.number == number) else {
            return Ok(());
        };
        match reply {
            Reply::Error(refusal) => {
                self.subscription = None;
                if let (ErrorCode::BadArgument, Start::Offset(from)) = (refusal.code, asked.start) {
                    let limit = refusal.fact(FactId::Limit);
                    promise!(
                        limit.is_some_and(|end| asked.end <= end && end < from.0),
                        "a start at {from:?} is refused for {refusal:?}, the end is {} at least",
                        asked.end
                    );
                    truth.counts.beyond += 1;
                }
                Ok(())
            }
            Reply::Subscribed(subscribed) => {
                let (next, end) = (subscribed.next.0, subscribed.end.0);
                self.begun(asked, next, end, truth.stream(key))
            }
            _ => Ok(()),
        }
    }

    /// The subscription stands; `next` is said to be considered first.
    fn begun(
        &mut self,
        asked: Asked,
        next: u64,
        end: u64,
        stream: &mut StreamTruth,
    ) -> Result<(), Violation> {
        stream.told_end(end)?;
        promise!(
            asked.end <= end && self.floor <= next && next <= end,
            "subscribed from {next} to {end}; it was {} to {} at least",
            self.floor,
            asked.end
        );
        match asked.start {
            Start::Earliest => {
                stream.begins_at(next)?;
                self.next.get_or_insert(next);
            }
            Start::Latest => {
                promise!(next == end, "from the end {end} on is not from {next} on");
                self.next.get_or_insert(next);
            }
            Start::Offset(from) => {
                promise!(next >= from.0, "from {from:?} on is not from {next} on");
                if next > from.0 {
                    stream.begins_at(next)?;
                }
                // What is gone of it is announced.
                self.next.get_or_insert(from.0);
            }
            Start::Time(_) => {
                if let Some((_, then)) = &mut self.since {
                    *then = end;
                }
            }
        }
        Ok(())
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
            Got::Record(shown) => self.record(shown, key, truth),
            Got::Lag(lag) => self.lagged(lag, key, truth),
            Got::End(end) => self.ended(end, key, truth),
            Got::Fin => {
                self.subscription = None;
                Ok(())
            }
            Got::Message(_) => Err(Violation::new("a message of a stream".to_owned())),
        }
    }

    fn record(
        &mut self,
        shown: &Shown,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let (offset, value) = (shown.offset, value_in(&shown.value)?);
        let stream = truth.stream(key);
        stream.shown(shown, value)?;
        promise!(
            self.wish.wants(value),
            "offset {offset} was delivered, and {:?} does not want it",
            self.wish
        );
        if let Some((since, then)) = self.since.take() {
            promise!(
                shown.stamp >= since || offset >= then,
                "offset {offset} is of {}, from {since} on was asked for",
                shown.stamp
            );
            if self.wish == Wish::All {
                stream.all_older(since, 0..offset);
            }
            truth.counts.since += 1;
        } else if let Some(next) = self.next {
            let exact = self.wish == Wish::All;
            promise!(
                offset == next || (!exact && offset > next),
                "offset {offset} was delivered, {next} is next"
            );
            stream.unwanted(self.wish, next..offset)?;
        } else {
            // From the oldest there was when it was answered.
            promise!(
                offset >= self.floor,
                "offset {offset} was delivered, the oldest is {}",
                self.floor
            );
        }
        let fine = match self.must {
            Some(Must::NotBelow(least)) => {
                self.must = None;
                offset >= least
            }
            Some(Must::LagBefore(ceiling)) => offset < ceiling,
            Some(Must::End) => false,
            None => true,
        };
        promise!(
            fine,
            "offset {offset} was delivered to one that was too slow: {:?}, {} may wait, {:?}",
            self.overflow,
            self.backlog_max,
            self.must
        );
        self.delivered += 1;
        promise!(
            self.delivered <= self.granted,
            "{} records came, for {} there was credit",
            self.delivered,
            self.granted
        );
        truth.counts.delivered += 1;
        truth.counts.filtered += u64::from(self.wish != Wish::All);
        self.next = Some(offset + 1);
        Ok(())
    }

    /// It missed something: the range is named, whole, and may be missing.
    fn lagged(&mut self, lag: &Lag, key: (usize, u16), truth: &mut Truth) -> Result<(), Violation> {
        let (from, to) = (lag.from.0, lag.to.0);
        let exact = self.wish == Wish::All;
        let follows = |next| next == from || (!exact && next < from);
        promise!(
            self.next.is_none_or(follows) && to > from,
            "{lag:?}, and {:?} is next",
            self.next
        );
        let counted = exact && self.since.is_none();
        promise!(
            lag.count == to - from || (!counted && lag.count == 0),
            "{lag:?} counts {}",
            to - from
        );
        let stream = truth.stream(key);
        if let Some(next) = self.next {
            stream.unwanted(self.wish, next..from)?;
        }
        let backlog = u64::from(self.backlog_max);
        // There are no more records than anybody tried to publish.
        let end_max = stream.end_max();
        let allowed = match lag.reason {
            LagReason::Retention => {
                stream.begins_at(to)?;
                // Of what it has begun to read, only its age takes anything.
                let blocks = self.overflow.is_none_or(|policy| policy == Overflow::Block);
                promise!(
                    !blocks
                        || self.delivered == 0
                        || !stream.is_in_memory()
                        || stream.retention.ms.is_some(),
                    "{lag:?} for one that blocks until it has read"
                );
                // What it was to be told of is gone with the rest.
                self.must = self
                    .must
                    .filter(|must| !matches!(must, Must::LagBefore(ceiling) if *ceiling <= to));
                true
            }
            LagReason::DropOldest => {
                if to + backlog > end_max {
                    // Not for the policy, but because retention was there first.
                    stream.begins_at(to)?;
                }
                self.overflow == Some(Overflow::DropOldest) && to <= end_max
            }
            LagReason::DropNewest => {
                let in_time = match self.must.take() {
                    Some(Must::LagBefore(ceiling)) => from <= ceiling,
                    _ => true,
                };
                in_time && self.overflow == Some(Overflow::DropNewest) && to <= end_max
            }
            LagReason::WatchBuffer => false,
        };
        promise!(
            allowed,
            "{lag:?} for {:?} of at most {backlog} records, the end is {end_max} at most",
            self.overflow
        );
        if lag.reason == LagReason::Retention {
            truth.counts.lagged += to - from;
        } else {
            truth.counts.dropped += to - from;
        }
        self.next = Some(to);
        Ok(())
    }

    /// The subscription is over; who was too slow is told where to go on.
    fn ended(&mut self, end: &End, key: (usize, u16), truth: &mut Truth) -> Result<(), Violation> {
        self.subscription = None;
        self.must = None;
        if end.error() != Some(ErrorCode::SlowSubscriber) {
            return Ok(());
        }
        let stream = truth.stream(key);
        let resume = end.next.0;
        let exact = self.wish == Wish::All;
        let slow = resume + u64::from(self.backlog_max) < stream.end_max();
        promise!(
            self.overflow == Some(Overflow::Disconnect) && (slow || stream.retention.is_any()),
            "{end:?} for {:?} of at most {} records, the end is {} at most",
            self.overflow,
            self.backlog_max,
            stream.end_max()
        );
        promise!(
            self.next
                .is_none_or(|next| next == resume || (!exact && next < resume)),
            "{end:?} says where to go on, {:?} is next",
            self.next
        );
        truth.counts.disconnected += 1;
        Ok(())
    }
}
