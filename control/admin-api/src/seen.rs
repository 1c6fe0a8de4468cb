//! The partitions that the data cores of this node told of, by resource.
//!
//! A large node has tens of thousands of them, and they are gathered anew every second that
//! somebody looks. So they stay as they came, packed in the pages of the cores: [`Gathering`]
//! goes over each page once, when it comes, and keeps of every partition what is asked of all
//! of them. What only one resource is asked is read again then.

use pinion_node::views::{PartitionDetail, PartitionFacts, PartitionPage};
use pinion_types::{PartitionId, ResourceId, ResourceKind};

use crate::metrics::{KINDS, Sum, traffic};

/// What is known of one resource on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceLoad {
    /// Subscriptions and watches that are open, and takes that wait.
    pub subscribers: u32,
    /// Bytes that it has, in memory or on disk.
    pub bytes: u64,
    /// Bytes of them that a restart would keep.
    pub durable_bytes: u64,
    /// Records, messages or entries that it has.
    pub records: u64,
}

impl ResourceLoad {
    fn of(facts: &PartitionFacts) -> Self {
        let bytes = match &facts.detail {
            PartitionDetail::Queue(queue) => queue.counts.bytes,
            PartitionDetail::Stream(_) | PartitionDetail::Cache(_) => facts.bytes,
        };
        Self {
            subscribers: facts.subscriptions(),
            // A durable stream has its newest records in both places.
            bytes: bytes.max(facts.durable_bytes),
            durable_bytes: facts.durable_bytes,
            records: facts.records(),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            subscribers: self.subscribers.saturating_add(other.subscribers),
            bytes: self.bytes + other.bytes,
            durable_bytes: self.durable_bytes + other.durable_bytes,
            records: self.records + other.records,
        }
    }
}

/// All of them, at about one moment. What nobody has used since the start is not open, and
/// not here.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pages: Vec<PartitionPage>,
    /// Where the partitions are: those of a resource side by side, in order.
    places: Vec<Place>,
    /// In order, and the same place in both: a search goes over numbers alone, which lie
    /// closer together than what is found.
    ids: Vec<ResourceId>,
    resources: Vec<Resource>,
    /// By kind, in the order of [`KINDS`]: how many resources, and the sum of them.
    kinds: [(u64, Sum); KINDS.len()],
}

/// What may be told of a resource beside its numbers. Of many resources few have one, and only
/// those are gone over by who looks for what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A partition is closed.
    Fenced,
    /// A partition takes only what frees space.
    ReadOnly,
    /// There are dead letters.
    Dead,
    /// There are messages that could be handed out.
    Ready,
    /// A reader has not been given everything.
    Behind,
}

impl Sign {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The bits of those that a partition has.
    fn bits(facts: &PartitionFacts) -> u8 {
        let (stream, queue) = (facts.stream(), facts.queue());
        let groups = queue.map(|queue| &queue.groups);
        let has = [
            (Self::Fenced, facts.fenced),
            (Self::ReadOnly, facts.read_only),
            (Self::Dead, groups.is_some_and(|groups| groups.dead > 0)),
            (Self::Ready, groups.is_some_and(|groups| groups.ready > 0)),
            (
                Self::Behind,
                stream.is_some_and(|stream| stream.lag_max > 0),
            ),
        ];
        let has = has.into_iter().filter(|(_, has)| *has);
        has.fold(0, |bits, (sign, _)| bits | sign.bit())
    }
}

/// Where a partition is.
#[derive(Clone, Copy, Debug)]
struct Place {
    page: u32,
    /// In the page.
    at: u32,
}

#[derive(Clone, Copy, Debug)]
struct Resource {
    /// The first of its places; they end where the next one's begin.
    first: u32,
    /// Of any of its partitions.
    signs: u8,
    moved: u64,
}

/// The partitions of one resource, in order. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    pages: &'a [PartitionPage],
    places: &'a [Place],
}

impl<'a> Parts<'a> {
    /// Whether none of them is open.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = PartitionFacts> + use<'a> {
        let Self { pages, places } = *self;
        let places = places.iter();
        places.map(move |place| pages[place.page as usize].at(place.at))
    }
}

impl Seen {
    /// The partitions of a resource.
    #[must_use]
    pub fn partitions(&self, resource: ResourceId) -> Parts<'_> {
        let found = self.ids.binary_search(&resource).ok();
        found.map_or_else(|| self.parts(self.ids.len()), |at| self.parts(at))
    }

    /// Of the resource at a place in [`Seen::ids`]; none past the last.
    fn parts(&self, at: usize) -> Parts<'_> {
        let first = |at: usize| {
            let one = self.resources.get(at);
            one.map_or(self.places.len(), |one| one.first as usize)
        };
        Parts {
            pages: &self.pages,
            places: &self.places[first(at)..first(at + 1)],
        }
    }

    /// The sums of a resource; `None` when no partition of it is open.
    #[must_use]
    pub fn load(&self, resource: ResourceId) -> Option<ResourceLoad> {
        let parts = self.partitions(resource).iter();
        parts
            .map(|facts| ResourceLoad::of(&facts))
            .reduce(ResourceLoad::and)
    }

    /// Resources that have any of these signs, with their partitions, in order.
    pub(crate) fn with(&self, any: &[Sign]) -> impl Iterator<Item = (ResourceId, Parts<'_>)> {
        let any = any.iter().fold(0, |bits, sign| bits | sign.bit());
        let all = self.ids.iter().zip(&self.resources).enumerate();
        let some = all.filter(move |(_, (_, one))| one.signs & any != 0);
        some.map(|(at, (id, _))| (*id, self.parts(at)))
    }

    /// How many resources have an open partition.
    #[must_use]
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether no resource has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// How many resources of each kind there are, and what they are together.
    pub(crate) fn kinds(&self) -> &[(u64, Sum); KINDS.len()] {
        &self.kinds
    }

    /// At most `max` resources, those first that moved the most records since `before`, and
    /// of those at rest the ones that ever did; which is which holds still.
    pub(crate) fn most_active(&self, before: Option<&Self>, max: usize) -> Vec<ResourceId> {
        let mut earlier = before
            .into_iter()
            .flat_map(|before| before.ids.iter().zip(&before.resources))
            .peekable();
        let mut moved_before = |id: ResourceId| {
            while earlier.next_if(|(one, _)| **one < id).is_some() {}
            let same = earlier.next_if(|(one, _)| **one == id);
            same.map_or(0, |(_, one)| one.moved)
        };
        let all = self.ids.iter().zip(&self.resources);
        let mut active: Vec<(u64, u64, ResourceId)> = all
            .map(|(id, one)| {
                let grown = one.moved.saturating_sub(moved_before(*id));
                // Most first, and the lower number among equals.
                (u64::MAX - grown, u64::MAX - one.moved, *id)
            })
            .collect();
        if max > 0 && active.len() > max {
            active.select_nth_unstable(max - 1);
        }
        active.truncate(max);
        active.sort_unstable();
        active.into_iter().map(|(_, _, id)| id).collect()
    }
}

/// Pages, as they come.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    pages: Vec<PartitionPage>,
    found: Vec<Found>,
    sums: [Sum; KINDS.len()],
}

/// What is kept of every partition beside its page. There are as many as partitions, and they
/// are sorted: it is no larger than half a line of a processor's cache.
#[derive(Debug)]
struct Found {
    resource: ResourceId,
    moved: u64,
    at: Place,
    partition: PartitionId,
    /// Place in [`KINDS`].
    kind: u8,
    /// See [`Sign`].
    signs: u8,
}

const _: () = assert!(size_of::<Found>() <= 32);

impl Gathering {
    /// Of about so many partitions.
    pub(crate) fn of(partitions: usize) -> Self {
        Self {
            found: Vec::with_capacity(partitions),
            ..Self::default()
        }
    }

    /// One more page of a core.
    pub(crate) fn take(&mut self, page: PartitionPage) {
        let number = narrow(self.pages.len());
        for (at, facts) in page.iter() {
            let kind = place_of(facts.detail.kind());
            self.sums[usize::from(kind)].take(&facts);
            let (received, sent) = traffic(&facts);
            self.found.push(Found {
                resource: facts.resource,
                moved: received + sent,
                at: Place { page: number, at },
                partition: facts.partition,
                kind,
                signs: Sign::bits(&facts),
            });
        }
        self.pages.push(page);
    }

    /// Of all so far, by kind.
    pub(crate) const fn sums(&self) -> &[Sum; KINDS.len()] {
        &self.sums
    }

    /// What was gathered of another core.
    pub(crate) fn join(&mut self, other: Self) {
        if self.pages.is_empty() {
            *self = other;
            return;
        }
        let Self { pages, found, sums } = other;
        let first = narrow(self.pages.len());
        self.pages.extend(pages);
        self.found.extend(found.into_iter().map(|mut one| {
            one.at.page += first;
            one
        }));
        for (sum, other) in self.sums.iter_mut().zip(&sums) {
            sum.add(other);
        }
    }

    /// There are no more.
    pub(crate) fn finish(mut self) -> Seen {
        self.found
            .sort_unstable_by_key(|one| (one.resource, one.partition));
        let mut seen = Seen {
            pages: self.pages,
            places: Vec::with_capacity(self.found.len()),
            ids: Vec::with_capacity(self.found.len()),
            resources: Vec::with_capacity(self.found.len()),
            kinds: self.sums.map(|sum| (0, sum)),
        };
        for one in self.found {
            match seen.resources.last_mut() {
                Some(last) if seen.ids.last() == Some(&one.resource) => {
                    last.moved += one.moved;
                    last.signs |= one.signs;
                }
                _ => {
                    seen.kinds[usize::from(one.kind)].0 += 1;
                    seen.ids.push(one.resource);
                    seen.resources.push(Resource {
                        first: narrow(seen.places.len()),
                        signs: one.signs,
                        moved: one.moved,
                    });
                }
            }
            seen.places.push(one.at);
        }
        seen
    }
}

/// Cores have no more than `u32::MAX` places for partitions: their answers count in it.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("partitions are counted in 32 bits")
}

fn place_of(kind: ResourceKind) -> u8 {
    let at = KINDS.iter().position(|one| *one == kind);
    let at = at.and_then(|at| u8::try_from(at).ok());
    at.expect("every kind is one of them")
}

#[cfg(test)]
mod tests {
    use pinion_node::views::{QueueFacts, Standing, StreamFacts};
    use pinion_types::{CoreId, Offset};

    use super::*;

    fn stream(resource: u64, partition: u16, records: u64) -> PartitionFacts {
        PartitionFacts {
            core: CoreId(0),
            resource: ResourceId(resource),
            partition: PartitionId(partition),
            log: None,
            standing: Standing::Served,
            fenced: false,
            read_only: false,
            bytes: 10 * records,
            durable_bytes: 0,
            detail: PartitionDetail::Stream(StreamFacts {
                first: Offset(0),
                end: Offset(records),
                appended_end: Offset(records),
                records_in: records,
                records_out: 0,
                bytes_out: 0,
                subscriptions: 1,
                lag_max: 0,
                append_sessions: 0,
                producers: 0,
            }),
        }
    }

    fn page(all: impl IntoIterator<Item = PartitionFacts>) -> PartitionPage {
        let mut page = PartitionPage::new(CoreId(0), 0);
        all.into_iter().for_each(|one| page.push(&one));
        page
    }

    fn seen(all: impl IntoIterator<Item = PartitionFacts>) -> Seen {
        let mut gathering = Gathering::default();
        gathering.take(page(all));
        gathering.finish()
    }

    fn found(parts: Parts<'_>) -> Vec<(u64, u16)> {
        let one = |facts: PartitionFacts| (facts.resource.0, facts.partition.0);
        parts.iter().map(one).collect()
    }

    #[test]
    fn partitions_of_several_cores_and_pages_meet_in_order() {
        let mut first = Gathering::default();
        first.take(page([stream(7, 2, 5), stream(3, 0, 1)]));
        first.take(page([stream(7, 0, 7)]));
        let mut second = Gathering::default();
        second.take(page([]));
        second.take(page([stream(9, 0, 2), stream(7, 1, 11)]));
        first.join(second);
        let seen = first.finish();

        assert_eq!(
            found(seen.partitions(ResourceId(7))),
            [(7, 0), (7, 1), (7, 2)]
        );
        assert_eq!(found(seen.partitions(ResourceId(9))), [(9, 0)]);
        assert!(seen.partitions(ResourceId(8)).is_empty());
        assert_eq!(seen.ids, [3, 7, 9].map(ResourceId));
        let load = seen.load(ResourceId(7));
        let wanted = ResourceLoad {
            subscribers: 3,
            bytes: 230,
            durable_bytes: 0,
            records: 23,
        };
        assert_eq!(load, Some(wanted));
        assert_eq!(seen.load(ResourceId(8)), None);
        let [(streams, sum), (0, _), (0, _)] = seen.kinds() else {
            panic!("other kinds: {:?}", seen.kinds());
        };
        assert_eq!((*streams, sum.partitions, sum.records), (3, 5, 26));
    }

    #[test]
    fn a_resource_has_the_signs_of_its_partitions() {
        let mut all = vec![
            stream(1, 0, 5),
            stream(2, 0, 5),
            stream(2, 1, 5),
            stream(3, 0, 5),
        ];
        all[1].fenced = true;
        all[2].read_only = true;
        let mut behind = stream(4, 0, 5);
        if let PartitionDetail::Stream(stream) = &mut behind.detail {
            stream.lag_max = 1;
        }
        let queue = |resource, ready, dead| {
            let mut facts = QueueFacts::default();
            (facts.groups.ready, facts.groups.dead) = (ready, dead);
            PartitionFacts {
                detail: PartitionDetail::Queue(facts),
                ..stream(resource, 0, 0)
            }
        };
        all.extend([behind, queue(5, 1, 0), queue(6, 0, 1), queue(7, 0, 0)]);
        let seen = seen(all);
        let with = |any: &[Sign]| {
            let found = seen.with(any);
            found
                .map(|(id, parts)| (id.0, parts.iter().count()))
                .collect::<Vec<_>>()
        };
        assert_eq!(with(&[Sign::Fenced]), [(2, 2)]);
        assert_eq!(with(&[Sign::ReadOnly]), [(2, 2)]);
        assert_eq!(with(&[Sign::Behind]), [(4, 1)]);
        assert_eq!(with(&[Sign::Ready]), [(5, 1)]);
        assert_eq!(with(&[Sign::Dead]), [(6, 1)]);
        assert_eq!(with(&[Sign::Dead, Sign::Fenced]), [(2, 2), (6, 1)]);
        assert_eq!(with(&[]), []);
    }

    #[test]
    fn who_moves_more_is_told_first_and_of_those_at_rest_who_ever_did() {
        let before = seen([stream(1, 0, 100), stream(2, 0, 50), stream(4, 0, 5)]);
        // 5 is new, 4 has begun anew, 1 rests.
        let now = seen([
            stream(5, 0, 3),
            stream(4, 0, 1),
            stream(2, 0, 60),
            stream(1, 0, 100),
        ]);
        let order = |max| {
            let active = now.most_active(Some(&before), max);
            active.iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(order(10), [2, 5, 1, 4]);
        assert_eq!(order(2), [2, 5]);
        assert_eq!(order(0), Vec::<u64>::new());
        let first = now.most_active(None, 2);
        assert_eq!(first, [ResourceId(1), ResourceId(2)]);
    }
}
