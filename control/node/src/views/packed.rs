//! A page of partitions as it travels from the core that tells of them, and as it is kept.
//!
//! Of most partitions of a large node most numbers are 0 or small, and all of them are told
//! again every second that somebody looks. Packed, one is a few dozen bytes and not a few
//! hundred. Of the time in which a core told of 100,000 unpacked, a third went into memory that
//! was written for the first time. It never leaves the process: it has no version, and what
//! does not read as it was written is a bug.
//!
//! A partition is a byte for what is one of few, then one bit for each of its numbers that
//! tells whether it is other than 0, then those numbers; bits and numbers as LEB128, least
//! significant first.

use core::iter;

use pinion_commitlog::LogId;
use pinion_domains::cache::CacheStats;
use pinion_domains::queue::{GroupCounters, GroupCounts, QueueCounts};
use pinion_types::{CoreId, Offset, PartitionId, ResourceId, ResourceKind, WallMs};

use super::{
    PARTITIONS_PER_PAGE, PartitionDetail, PartitionFacts, QueueFacts, Standing, StreamFacts,
};

/// About what one takes, for a page that is begun.
const BYTES_EACH: usize = 32;

/// Some partitions of one core.
#[derive(Clone, Debug)]
pub struct PartitionPage {
    core: CoreId,
    packed: Vec<u8>,
    len: usize,
    /// Where it ended; `None` when nothing follows.
    pub next: Option<u32>,
}

impl PartitionPage {
    /// Of nothing yet, and about so many partitions later.
    #[must_use]
    pub fn new(core: CoreId, partitions: usize) -> Self {
        Self {
            core,
            packed: Vec::with_capacity(partitions.min(PARTITIONS_PER_PAGE) * BYTES_EACH),
            len: 0,
            next: None,
        }
    }

    /// One more.
    ///
    /// # Panics
    /// It is of another core.
    pub fn push(&mut self, facts: &PartitionFacts) {
        // Taken apart, here and below, so that a new one cannot be forgotten.
        let PartitionFacts {
            core,
            resource,
            partition,
            log,
            standing,
            fenced,
            read_only,
            bytes,
            durable_bytes,
            detail,
        } = facts;
        assert_eq!(*core, self.core, "a page is of one core");
        let few = kind_bits(detail.kind())
            | standing_bits(*standing) << STANDING
            | u8::from(*fenced) << FENCED
            | u8::from(*read_only) << READ_ONLY;
        let head: [u64; HEAD] = [
            resource.0,
            partition.0.into(),
            log.map_or(0, |log| u64::from(log.0) + 1),
            *bytes,
            *durable_bytes,
        ];
        self.packed.push(few);
        match detail {
            PartitionDetail::Stream(stream) => put(&mut self.packed, head, of_stream(stream)),
            PartitionDetail::Queue(queue) => put(&mut self.packed, head, of_queue(queue)),
            PartitionDetail::Cache(cache) => put(&mut self.packed, head, of_cache(cache)),
        }
        self.len += 1;
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One after the other, each with where it is.
    pub fn iter(&self) -> impl Iterator<Item = (u32, PartitionFacts)> + '_ {
        let mut at = 0;
        iter::from_fn(move || {
            (at < self.packed.len()).then(|| {
                let place = u32::try_from(at).expect("a page is far below 4 GiB");
                (place, self.read(&mut at))
            })
        })
    }

    /// The one that [`PartitionPage::iter`] said is there.
    ///
    /// # Panics
    /// It said so of another page, or never.
    #[must_use]
    pub fn at(&self, place: u32) -> PartitionFacts {
        self.read(&mut (place as usize))
    }

    fn read(&self, at: &mut usize) -> PartitionFacts {
        let few = self.packed[*at];
        *at += 1;
        let mut numbers = Numbers {
            packed: &self.packed,
            at: *at,
            are: 0,
        };
        numbers.are = numbers.leb();
        let [resource, partition, log, bytes, durable_bytes] = numbers.take::<HEAD>();
        let detail = match few & KIND_MASK {
            STREAM => PartitionDetail::Stream(stream_of(numbers.take())),
            QUEUE => PartitionDetail::Queue(queue_of(numbers.take())),
            _ => PartitionDetail::Cache(cache_of(numbers.take())),
        };
        *at = numbers.at;
        PartitionFacts {
            core: self.core,
            resource: ResourceId(resource),
            partition: PartitionId(narrow(partition)),
            log: log.checked_sub(1).map(|log| LogId(narrow(log))),
            standing: standing_of(few >> STANDING & STANDING_MASK),
            fenced: few >> FENCED & 1 == 1,
            read_only: few >> READ_ONLY & 1 == 1,
            bytes,
            durable_bytes,
            detail,
        }
    }
}

// The byte of what is one of few.
const KIND_MASK: u8 = 0b11;
const STREAM: u8 = 0;
const QUEUE: u8 = 1;
const CACHE: u8 = 2;
const STANDING: u8 = 2;
const STANDING_MASK: u8 = 0b11;
const FENCED: u8 = 4;
const READ_ONLY: u8 = 5;

// Numbers of each.
const HEAD: usize = 5;
const OF_STREAM: usize = 10;
const OF_QUEUE: usize = 28;
const OF_CACHE: usize = 12;

const fn kind_bits(kind: ResourceKind) -> u8 {
    match kind {
        ResourceKind::Stream => STREAM,
        ResourceKind::Queue => QUEUE,
        ResourceKind::Cache => CACHE,
    }
}

const fn standing_bits(standing: Standing) -> u8 {
    match standing {
        Standing::Served => 0,
        Standing::Closed => 1,
        Standing::Unknown => 2,
        Standing::Purged => 3,
    }
}

const fn standing_of(bits: u8) -> Standing {
    match bits {
        0 => Standing::Served,
        1 => Standing::Closed,
        2 => Standing::Unknown,
        _ => Standing::Purged,
    }
}

fn put<const N: usize>(out: &mut Vec<u8>, head: [u64; HEAD], detail: [u64; N]) {
    const { assert!(HEAD + N <= 64, "a bit for each") };
    let all = || head.iter().chain(&detail);
    let are = all()
        .rev()
        .fold(0, |are, number| are << 1 | u64::from(*number != 0));
    leb(out, are);
    for number in all().filter(|number| **number != 0) {
        leb(out, *number);
    }
}

fn leb(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(low(number) | 0x80);
        number >>= 7;
    }
    out.push(low(number));
}

/// Its lowest seven bits.
fn low(number: u64) -> u8 {
    u8::try_from(number & 0x7F).expect("seven bits")
}

/// The numbers of one partition, in order.
struct Numbers<'a> {
    packed: &'a [u8],
    at: usize,
    /// Of those to come, the next one's bit lowest: whether it is other than 0.
    are: u64,
}

impl Numbers<'_> {
    fn take<const N: usize>(&mut self) -> [u64; N] {
        let mut numbers = [0; N];
        let mut are = self.are & ((1 << N) - 1);
        self.are >>= N;
        // From one that is other than 0 to the next: few are.
        while are != 0 {
            numbers[are.trailing_zeros() as usize] = self.leb();
            are &= are - 1;
        }
        numbers
    }

    fn leb(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.packed[self.at];
            self.at += 1;
            number |= u64::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }
}

/// What was no wider when it was put there.
fn narrow<T: TryFrom<u64>>(number: u64) -> T {
    T::try_from(number).ok().expect("read as it was written")
}

fn of_stream(facts: &StreamFacts) -> [u64; OF_STREAM] {
    let StreamFacts {
        first,
        end,
        appended_end,
        records_in,
        records_out,
        bytes_out,
        subscriptions,
        lag_max,
        append_sessions,
        producers,
    } = *facts;
    [
        first.0,
        end.0,
        appended_end.0,
        records_in,
        records_out,
        bytes_out,
        subscriptions.into(),
        lag_max,
        append_sessions.into(),
        producers.into(),
    ]
}

fn stream_of(numbers: [u64; OF_STREAM]) -> StreamFacts {
    let [
        first,
        end,
        appended_end,
        records_in,
        records_out,
        bytes_out,
        subscriptions,
        lag_max,
        append_sessions,
        producers,
    ] = numbers;
    StreamFacts {
        first: Offset(first),
        end: Offset(end),
        appended_end: Offset(appended_end),
        records_in,
        records_out,
        bytes_out,
        subscriptions: narrow(subscriptions),
        lag_max,
        append_sessions: narrow(append_sessions),
        producers: narrow(producers),
    }
}

fn of_queue(facts: &QueueFacts) -> [u64; OF_QUEUE] {
    let QueueFacts {
        counts,
        groups,
        messages_in,
    } = *facts;
    let QueueCounts {
        messages,
        delayed,
        bytes,
        resident,
        dead,
        pending,
        dropped,
        next_id,
        groups: groups_count,
    } = counts;
    let GroupCounts {
        ready,
        delayed: groups_delayed,
        in_flight,
        blocked,
        dead: groups_dead,
        bytes: groups_bytes,
        done_below,
        oldest,
        demands,
        consumers,
        counters,
    } = groups;
    let GroupCounters {
        delivered,
        redelivered,
        acked,
        nacked,
        lapsed,
        dead: died,
        dropped: groups_dropped,
        stuck,
    } = counters;
    [
        messages,
        delayed,
        bytes,
        resident,
        dead,
        pending,
        dropped,
        next_id,
        groups_count,
        ready,
        groups_delayed,
        in_flight,
        blocked,
        groups_dead,
        groups_bytes,
        done_below,
        oldest.map_or(0, |at| at.0.saturating_add(1)),
        demands.into(),
        consumers.into(),
        delivered,
        redelivered,
        acked,
        nacked,
        lapsed,
        died,
        groups_dropped,
        stuck,
        messages_in,
    ]
}

fn queue_of(numbers: [u64; OF_QUEUE]) -> QueueFacts {
    let [
        messages,
        delayed,
        bytes,
        resident,
        dead,
        pending,
        dropped,
        next_id,
        groups_count,
        ready,
        groups_delayed,
        in_flight,
        blocked,
        groups_dead,
        groups_bytes,
        done_below,
        oldest,
        demands,
        consumers,
        delivered,
        redelivered,
        acked,
        nacked,
        lapsed,
        died,
        groups_dropped,
        stuck,
        messages_in,
    ] = numbers;
    QueueFacts {
        counts: QueueCounts {
            messages,
            delayed,
            bytes,
            resident,
            dead,
            pending,
            dropped,
            next_id,
            groups: groups_count,
        },
        groups: GroupCounts {
            ready,
            delayed: groups_delayed,
            in_flight,
            blocked,
            dead: groups_dead,
            bytes: groups_bytes,
            done_below,
            oldest: oldest.checked_sub(1).map(WallMs),
            demands: narrow(demands),
            consumers: narrow(consumers),
            counters: GroupCounters {
                delivered,
                redelivered,
                acked,
                nacked,
                lapsed,
                dead: died,
                dropped: groups_dropped,
                stuck,
            },
        },
        messages_in,
    }
}

fn of_cache(facts: &CacheStats) -> [u64; OF_CACHE] {
    let CacheStats {
        entries,
        bytes,
        budget,
        hits,
        misses,
        evictions,
        expirations,
        leases,
        waiting,
        watches,
        watch_bytes,
        changes,
    } = *facts;
    [
        entries,
        bytes,
        budget,
        hits,
        misses,
        evictions,
        expirations,
        leases.into(),
        waiting.into(),
        watches.into(),
        watch_bytes,
        changes,
    ]
}

fn cache_of(numbers: [u64; OF_CACHE]) -> CacheStats {
    let [
        entries,
        bytes,
        budget,
        hits,
        misses,
        evictions,
        expirations,
        leases,
        waiting,
        watches,
        watch_bytes,
        changes,
    ] = numbers;
    CacheStats {
        entries,
        bytes,
        budget,
        hits,
        misses,
        evictions,
        expirations,
        leases: narrow(leases),
        waiting: narrow(waiting),
        watches: narrow(watches),
        watch_bytes,
        changes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that differ in every place, each as large as fits everywhere.
    fn distinct<const N: usize>(from: u64) -> [u64; N] {
        core::array::from_fn(|at| from + at as u64)
    }

    fn partition(resource: u64, detail: PartitionDetail) -> PartitionFacts {
        PartitionFacts {
            core: CoreId(3),
            resource: ResourceId(resource),
            partition: PartitionId(u16::MAX),
            log: Some(LogId(u16::MAX)),
            standing: Standing::Closed,
            fenced: true,
            read_only: false,
            bytes: u64::MAX,
            durable_bytes: 1 << 40,
            detail,
        }
    }

    fn told(page: &PartitionPage) -> Vec<String> {
        page.iter().map(|(_, facts)| format!("{facts:?}")).collect()
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let idle = PartitionFacts {
            log: None,
            partition: PartitionId(0),
            standing: Standing::Served,
            fenced: false,
            read_only: true,
            bytes: 0,
            durable_bytes: 0,
            ..partition(0, PartitionDetail::Queue(QueueFacts::default()))
        };
        let mut all = vec![
            partition(1, PartitionDetail::Stream(stream_of(distinct(126)))),
            partition(u64::MAX, PartitionDetail::Queue(queue_of(distinct(1)))),
            idle,
            partition(
                2,
                PartitionDetail::Queue(queue_of(distinct(u64::from(u32::MAX) - 100))),
            ),
            partition(3, PartitionDetail::Cache(cache_of(distinct(16_380)))),
        ];
        for standing in [Standing::Unknown, Standing::Purged] {
            all.push(PartitionFacts {
                standing,
                log: Some(LogId(0)),
                ..partition(4, PartitionDetail::Cache(CacheStats::default()))
            });
        }
        let mut page = PartitionPage::new(CoreId(3), PARTITIONS_PER_PAGE);
        all.iter().for_each(|facts| page.push(facts));

        let wanted: Vec<String> = all.iter().map(|facts| format!("{facts:?}")).collect();
        assert_eq!(told(&page), wanted);
        assert_eq!((page.len(), page.is_empty()), (all.len(), false));
        for (place, facts) in page.iter().collect::<Vec<_>>().into_iter().rev() {
            assert_eq!(format!("{:?}", page.at(place)), format!("{facts:?}"));
        }
        assert_eq!(
            told(&PartitionPage::new(CoreId(0), 0)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_number_has_its_own_place() {
        // `distinct` starts at 1: no two numbers are the same, so one that was read into
        // another's place shows when it is written again.
        assert_eq!(of_stream(&stream_of(distinct(1))), distinct(1));
        assert_eq!(of_queue(&queue_of(distinct(1))), distinct(1));
        assert_eq!(of_cache(&cache_of(distinct(1))), distinct(1));
        let stream = stream_of(distinct(1));
        assert_eq!(
            (stream.first.0, stream.lag_max, stream.producers),
            (1, 8, 10)
        );
        let queue = queue_of(distinct(1));
        assert_eq!((queue.counts.next_id, queue.groups.done_below), (8, 16));
        assert_eq!(
            (queue.groups.oldest, queue.messages_in),
            (Some(WallMs(16)), 28)
        );
        let cache = cache_of(distinct(1));
        assert_eq!((cache.budget, cache.watches, cache.changes), (3, 10, 12));
    }

    #[test]
    fn a_partition_at_rest_takes_little() {
        let mut page = PartitionPage::new(CoreId(3), PARTITIONS_PER_PAGE);
        let empty = page.packed.capacity();
        for number in 0..PARTITIONS_PER_PAGE as u64 {
            let mut queue = [0; OF_QUEUE];
            // One message of 100 bytes that nobody took.
            for (at, value) in [
                (0, 1),
                (2, 100),
                (3, 100),
                (7, 2),
                (9, 1),
                (14, 100),
                (27, 1),
            ] {
                queue[at] = value;
            }
            queue[16] = 1_800_000_000_000;
            page.push(&PartitionFacts {
                standing: Standing::Served,
                fenced: false,
                bytes: 100,
                durable_bytes: 100,
                partition: PartitionId(0),
                log: Some(LogId(0)),
                ..partition(50_000 + number, PartitionDetail::Queue(queue_of(queue)))
            });
        }
        assert_eq!(page.packed.capacity(), empty, "{} bytes", page.packed.len());
    }
}
