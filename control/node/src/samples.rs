//! Which requests are timed.
//!
//! A look at the clock for each request would cost more than some requests do, so one of
//! [`SAMPLE_EVERY`] is timed, at uneven distances: a client that asks in rounds has every
//! request of its round timed now and then.

use pinion_types::Monotonic;
use pinion_wire::message::Request;

/// Requests of which one is timed, on average. Fewer make rare ones show sooner and cost
/// the others more.
pub const SAMPLE_EVERY: u64 = 64;

/// Timed requests whose time nobody has taken yet; those beyond are not told. A turn
/// answers far fewer.
const DONE_MAX: usize = 1024;

/// Kinds of requests that are told apart by how long they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TimedOp {
    /// PING, OPEN, SUBSCRIBE and everything else that is not below.
    Other = 1,
    /// Records appended to a stream, by PUBLISH or in a session.
    Publish = 2,
    /// Records read by FETCH.
    Fetch = 3,
    /// Messages put into a queue.
    QueuePut = 4,
    /// Messages reserved, where the client does not wait for some to come.
    QueueTake = 5,
    /// ACK, NACK, EXTEND and RELEASE.
    QueueSettle = 6,
    /// Keys of a cache read.
    CacheRead = 7,
    /// Keys of a cache written, deleted or leased, where the client does not wait.
    CacheWrite = 8,
}

impl TimedOp {
    /// All of them; [`TimedOp::index`] is the place here.
    pub const ALL: [Self; 8] = [
        Self::Other,
        Self::Publish,
        Self::Fetch,
        Self::QueuePut,
        Self::QueueTake,
        Self::QueueSettle,
        Self::CacheRead,
        Self::CacheWrite,
    ];

    /// Its place in [`TimedOp::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize - 1
    }

    /// As metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Publish => "publish",
            Self::Fetch => "fetch",
            Self::QueuePut => "queue_put",
            Self::QueueTake => "queue_take",
            Self::QueueSettle => "queue_settle",
            Self::CacheRead => "cache_read",
            Self::CacheWrite => "cache_write",
        }
    }

    /// What a request is timed as; `None` of one that waits because it asked for that.
    fn of(request: &Request<'_>) -> Option<Self> {
        Some(match request {
            Request::Publish(_) | Request::AppendStage(_) | Request::AppendCommit(_) => {
                Self::Publish
            }
            Request::Fetch(_) => Self::Fetch,
            Request::QueuePut(_) => Self::QueuePut,
            Request::QueueTake(take) if take.wait_ms > 0 => return None,
            Request::QueueTake(_) => Self::QueueTake,
            Request::QueueAck(_)
            | Request::QueueNack(_)
            | Request::QueueExtend(_)
            | Request::QueueRelease(_) => Self::QueueSettle,
            Request::CacheGet(_) | Request::CacheGetMany(_) | Request::CacheScan(_) => {
                Self::CacheRead
            }
            Request::CacheLease(lease) if lease.wait_ms > 0 => return None,
            Request::CacheSet(_)
            | Request::CacheSetMany(_)
            | Request::CacheDelete(_)
            | Request::CacheTouch(_)
            | Request::CacheIncr(_)
            | Request::CacheLease(_) => Self::CacheWrite,
            _ => Self::Other,
        })
    }
}

/// A request that was timed and is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What it was.
    pub op: TimedOp,
    /// When it came in.
    pub since: Monotonic,
}

/// A timed request under way, in one word: its kind above the nanoseconds of its coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) u64);

/// 36 years of nanoseconds.
const TIME_BITS: u32 = 60;

impl Mark {
    /// Of a request that is not timed.
    pub(crate) const NONE: Self = Self(0);

    fn new(sample: Sample) -> Self {
        let time = sample.since.0 & ((1 << TIME_BITS) - 1);
        Self((sample.op as u64) << TIME_BITS | time)
    }

    fn sample(self) -> Option<Sample> {
        let number = (self.0 >> TIME_BITS) as usize;
        let op = *TimedOp::ALL.get(number.checked_sub(1)?)?;
        let since = Monotonic(self.0 & ((1 << TIME_BITS) - 1));
        Some(Sample { op, since })
    }
}

/// The timed requests of one core.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// The request that is timed next, counted from the core's first.
    pub(crate) next: u64,
    /// When that which is read in this turn came in.
    pub(crate) arrived: Monotonic,
    chance: u64,
    done: Vec<Sample>,
}

impl Samples {
    /// Times this one, which is the core's `number`th.
    #[cold]
    pub(crate) fn begin(&mut self, number: u64, request: &Request<'_>) -> Mark {
        // Knuth's generator of MMIX: how even the distances are spread decides nothing.
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.next = number + 1 + (self.chance >> 33) % (2 * SAMPLE_EVERY - 1);
        let since = self.arrived;
        TimedOp::of(request).map_or(Mark::NONE, |op| Mark::new(Sample { op, since }))
    }

    /// The answer of a request is there.
    pub(crate) fn end(&mut self, mark: Mark) {
        if mark != Mark::NONE {
            self.ended(mark);
        }
    }

    #[cold]
    fn ended(&mut self, mark: Mark) {
        if self.done.len() < DONE_MAX {
            self.done.extend(mark.sample());
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Sample> {
        self.done.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_wire::message::Ping;

    #[test]
    fn one_of_many_is_timed_at_uneven_distances() {
        let mut samples = Samples::default();
        let request = Request::Ping(Ping { payload: b"" });
        let mut at = Vec::new();
        for number in 1..=64_000 {
            if number >= samples.next {
                assert_ne!(samples.begin(number, &request), Mark::NONE);
                at.push(number);
            }
        }
        assert_eq!(at[0], 1, "the first one, so that something is told soon");
        assert!((900..1100).contains(&at.len()), "{}", at.len());
        let distances: std::collections::BTreeSet<u64> =
            at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(distances.len() > 100, "{distances:?}");
    }

    #[test]
    fn a_mark_keeps_what_and_when() {
        for op in TimedOp::ALL {
            let since = Monotonic(1_234_567_890_123);
            let sample = Sample { op, since };
            assert_eq!(Mark::new(sample).sample(), Some(sample));
            assert_eq!(TimedOp::ALL[op.index()], op);
        }
        assert_eq!(Mark::NONE.sample(), None);
    }

    #[test]
    fn what_nobody_takes_has_an_end() {
        let mut samples = Samples::default();
        let request = Request::Ping(Ping { payload: b"" });
        for number in 0..2 * DONE_MAX as u64 {
            let mark = samples.begin(number, &request);
            samples.end(mark);
        }
        assert_eq!(std::iter::from_fn(|| samples.poll()).count(), DONE_MAX);
    }
}
