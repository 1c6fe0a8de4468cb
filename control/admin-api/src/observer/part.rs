//! What is known of partitions: of all of them, of those of one kind, or only of those that
//! somebody named.
//!
//! Whoever shows a page of a long list need not wait until the cores have told of everything:
//! what a page costs is what is on it.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use pinion_node::views::{PARTITIONS_PER_PAGE, PartitionKey, Question, View};
use pinion_types::{CoreId, PartitionId, ResourceId, ResourceKind, WallMs};
use tokio::task::JoinSet;

use super::{Snapshot, gather_core};
use crate::cores::{NodeError, NodeHandle};
use crate::limits::{PARTITIONS_NAMED_MAX, QUESTION_WAIT};
use crate::seen::{Gathering, Parts, ResourceLoad, Seen};
use crate::wall;

// What is deleted is looked at in all its partitions.
const _: () = assert!(pinion_types::limits::SHARDS_MAX as usize <= PARTITIONS_NAMED_MAX);

/// A resource, and how many partitions it has.
pub type Named = (ResourceId, u16);

/// Partitions as they are, and as they were before. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// When they were gathered.
    pub taken_at: WallMs,
    seen: &'a Seen,
    before: Option<(&'a Seen, Duration)>,
}

impl<'a> Told<'a> {
    /// Those of a resource.
    #[must_use]
    pub fn partitions(self, resource: ResourceId) -> Parts<'a> {
        self.seen.partitions(resource)
    }

    /// The same before, and how much time lies between; `None` when nobody looked before.
    #[must_use]
    pub fn before(self, resource: ResourceId) -> Option<(Parts<'a>, Duration)> {
        let (seen, span) = self.before?;
        Some((seen.partitions(resource), span))
    }

    /// The sums of a resource; `None` when no partition of it is open.
    #[must_use]
    pub fn load(self, resource: ResourceId) -> Option<ResourceLoad> {
        self.seen.load(resource)
    }
}

impl Snapshot {
    /// What it has of partitions.
    #[must_use]
    pub fn told(&self) -> Told<'_> {
        let before = self.before.as_deref().zip(self.since_before());
        Told {
            taken_at: self.taken_at,
            seen: &self.seen,
            before: before.map(|(before, span)| (&*before.seen, span)),
        }
    }
}

/// What was found for somebody who named what they look at.
#[derive(Clone, Debug)]
pub enum Sight {
    /// There was, or had to be, something of everything.
    Whole(Arc<Snapshot>),
    /// Only what they named, or what is of their kind.
    Part(Part),
}

impl Sight {
    /// What it has of the partitions that were named.
    #[must_use]
    pub fn told(&self) -> Told<'_> {
        match self {
            Self::Whole(snapshot) => snapshot.told(),
            Self::Part(part) => part.told(),
        }
    }
}

/// Some partitions, of all cores that have any of them.
#[derive(Clone, Debug)]
pub struct Part {
    taken_at: WallMs,
    seen: Seen,
    /// The last time that everything was gathered, and how long before.
    before: Option<(Arc<Snapshot>, Duration)>,
}

impl Part {
    /// What it has.
    #[must_use]
    pub fn told(&self) -> Told<'_> {
        let before = self.before.as_ref();
        Told {
            taken_at: self.taken_at,
            seen: &self.seen,
            before: before.map(|(before, span)| (&*before.seen, *span)),
        }
    }

    /// All partitions of these resources, which are no more than [`PARTITIONS_NAMED_MAX`].
    /// No core is asked when there are none. Beside it why a core did not answer, if one did
    /// not: what that has is missing here.
    pub(super) async fn of_named(
        cores: &NodeHandle,
        of: &[Named],
        before: Option<Arc<Snapshot>>,
    ) -> (Self, Result<(), NodeError>) {
        let keys: Arc<[PartitionKey]> = of
            .iter()
            .flat_map(|(id, shards)| (0..*shards).map(|shard| (*id, PartitionId(shard))))
            .collect();
        debug_assert!(keys.len() <= PARTITIONS_NAMED_MAX, "{}", keys.len());
        Self::gather(cores, &Wanted::Named(keys), before).await
    }

    /// All partitions of this kind; otherwise as [`Part::of_named`].
    pub(super) async fn of_kind(
        cores: &NodeHandle,
        kind: ResourceKind,
        before: Option<Arc<Snapshot>>,
    ) -> (Self, Result<(), NodeError>) {
        Self::gather(cores, &Wanted::Kind(kind), before).await
    }

    async fn gather(
        cores: &NodeHandle,
        wanted: &Wanted,
        before: Option<Arc<Snapshot>>,
    ) -> (Self, Result<(), NodeError>) {
        let begun = Instant::now();
        let count = if wanted.is_nothing() {
            0
        } else {
            cores.cores()
        };
        let mut asked = JoinSet::new();
        for core in (0..count).map(CoreId) {
            let (cores, wanted) = (cores.clone(), wanted.clone());
            asked.spawn(async move { of_core(&cores, core, &wanted).await });
        }
        let (mut found, mut all) = (Gathering::default(), Ok(()));
        while let Some(answered) = asked.join_next().await {
            match answered.map_err(|_| NodeError::Gone).flatten() {
                Ok(of_core) => found.join(of_core),
                Err(error) => all = Err(error),
            }
        }
        let since = |before: Arc<Snapshot>| {
            let span = begun.saturating_duration_since(before.begun);
            (before, span)
        };
        let part = Self {
            taken_at: wall(),
            seen: found.finish(),
            before: before.map(since),
        };
        (part, all)
    }
}

/// Whether so many may be named at once.
pub(super) fn are_few(of: &[Named]) -> bool {
    let partitions = of.iter().map(|(_, shards)| usize::from(*shards));
    partitions.sum::<usize>() <= PARTITIONS_NAMED_MAX
}

/// What is asked of every core.
#[derive(Clone, Debug)]
enum Wanted {
    Named(Arc<[PartitionKey]>),
    Kind(ResourceKind),
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::Named(keys) if keys.is_empty())
    }
}

/// What one core has of it.
async fn of_core(
    cores: &NodeHandle,
    core: CoreId,
    wanted: &Wanted,
) -> Result<Gathering, NodeError> {
    match wanted {
        Wanted::Named(keys) => named_of_core(cores, core, keys).await,
        Wanted::Kind(kind) => {
            let (_, found) = gather_core(cores, core, Some(*kind)).await?;
            Ok(found)
        }
    }
}

async fn named_of_core(
    cores: &NodeHandle,
    core: CoreId,
    keys: &[PartitionKey],
) -> Result<Gathering, NodeError> {
    let (mut found, mut left) = (Gathering::default(), keys);
    while !left.is_empty() {
        let some = left.len().min(PARTITIONS_PER_PAGE);
        let question = Question::PartitionsOf {
            keys: left[..some].into(),
        };
        let View::Partitions(page) = cores.ask(core, question, QUESTION_WAIT).await? else {
            return Err(NodeError::Gone);
        };
        // It may end before the last one, and never before the first.
        let looked = page.next.map_or(some, |last| last as usize + 1);
        left = &left[looked.min(some)..];
        found.take(page);
    }
    Ok(found)
}
