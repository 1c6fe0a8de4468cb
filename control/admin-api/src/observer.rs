//! What the data cores of this node are like, gathered for everybody who asks.
//!
//! However many ask, the cores are asked once in [`SNAPSHOT_EVERY`], by one gathering at
//! a time and page by page; as long as people look, a little before that. Besides that a sampler asks each core how it is, once in
//! [`SAMPLE_EVERY`], so that whoever looks sees what was, too.

mod grown;
mod pages;
mod part;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use pinion_commitlog::LogState;
use pinion_node::facts::{CoreFacts, LogFacts, PumpFacts};
use pinion_node::stats::CoreStats;
use pinion_node::views::{Question, View};
use pinion_types::{CoreId, ResourceId, ResourceKind, WallMs};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::cores::{NodeError, NodeHandle};
use crate::limits::{
    HISTORY_SAMPLES, LOOKED_LATELY, QUESTION_WAIT, RESOURCES_TOLD_MAX, SAMPLE_EVERY, SNAPSHOT_ANEW,
    SNAPSHOT_EVERY,
};
use crate::metrics::thread_cpu;
use crate::seen::{Gathering, Parts, Seen};
use crate::wall;
use grown::Grown;
pub(crate) use grown::Totals;
use pages::Pages;
pub use part::{Named, Part, Sight, Told};

/// Everything that the cores said, at about one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When the gathering ended.
    pub taken_at: WallMs,
    /// How long it took: as far apart the moments of its parts may be.
    pub took: Duration,
    /// Cores that answered, in order.
    pub cores: Arc<[CoreFacts]>,
    /// Cores that did not: what they own is missing here.
    pub missing: Arc<[CoreId]>,
    /// The open partitions of each resource. What nobody has used since the start is not
    /// open.
    pub seen: Arc<Seen>,
    /// The one before, without its own before: what counters grew by between the two, in
    /// [`Snapshot::since_before`].
    pub before: Option<Arc<Snapshot>>,
    /// What was counted, that of missing cores and deleted resources included.
    grown: Grown,
    /// When the gathering began.
    begun: Instant,
    /// See [`Snapshot::active`].
    active: OnceLock<Arc<[ResourceId]>>,
}

impl Snapshot {
    /// Of these partitions, for tests of what is made from it.
    #[cfg(test)]
    pub(crate) fn of_test(partitions: &[pinion_node::views::PartitionFacts]) -> Self {
        let mut page = pinion_node::views::PartitionPage::new(CoreId(0), partitions.len());
        partitions.iter().for_each(|one| page.push(one));
        let mut gathering = Gathering::default();
        gathering.take(page);
        let seen = gathering.finish();
        Self {
            taken_at: WallMs(1_000),
            took: Duration::ZERO,
            cores: Arc::default(),
            missing: Arc::default(),
            grown: Self::grown_of_test(&seen.kinds().map(|(_, sum)| sum)),
            seen: Arc::new(seen),
            before: None,
            begun: Instant::now(),
            active: OnceLock::new(),
        }
    }

    /// The [`RESOURCES_TOLD_MAX`] resources that do the most, the most active first. They
    /// are looked for when somebody first asks: most pages do not.
    #[must_use]
    pub fn active(&self) -> &[ResourceId] {
        self.active.get_or_init(|| {
            let earlier = self.before.as_ref().map(|before| &*before.seen);
            self.seen.most_active(earlier, RESOURCES_TOLD_MAX).into()
        })
    }

    /// How much time lies between this one and the one before.
    #[must_use]
    pub fn since_before(&self) -> Option<Duration> {
        let before = self.before.as_ref()?;
        Some(self.begun.saturating_duration_since(before.begun))
    }

    /// What a counter grew by in a second since the one before; `None` without one.
    /// A counter that is lower now was begun anew.
    #[must_use]
    pub fn per_second(&self, now: u64, before: u64) -> Option<f64> {
        let seconds = self.since_before()?.as_secs_f64();
        let grown = now.saturating_sub(before) as f64;
        (seconds > 0.0).then(|| grown / seconds)
    }

    /// The partitions of a resource.
    #[must_use]
    pub fn partitions(&self, resource: ResourceId) -> Parts<'_> {
        self.seen.partitions(resource)
    }
}

/// How a core was at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was taken.
    pub at: WallMs,
    /// What the core had counted.
    pub stats: CoreStats,
    /// Connections.
    pub connections: u64,
    /// Bytes received and not worked off.
    pub held_bytes: u64,
    /// Open partitions.
    pub partitions: u64,
    /// Subscriptions and watches.
    pub subscriptions: u64,
    /// Mails for other cores that waited.
    pub mails_waiting: u64,
    /// Logs that took only what frees space.
    pub logs_read_only: usize,
    /// What the pump had counted.
    pub pump: Arc<PumpFacts>,
}

impl Sample {
    fn of(facts: CoreFacts, at: WallMs) -> Self {
        let is_full = |log: &&LogFacts| log.stats.state == LogState::ReadOnly;
        Self {
            at,
            stats: facts.stats,
            connections: facts.connections,
            held_bytes: facts.held_bytes,
            partitions: facts.partitions,
            subscriptions: facts.subscriptions,
            mails_waiting: facts.mails_waiting,
            logs_read_only: facts.logs.iter().filter(is_full).count(),
            pump: Arc::new(facts.pump),
        }
    }
}

/// The last [`HISTORY_SAMPLES`] samples of each core, the oldest first; a core that did
/// not answer has none of that moment.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By core.
    pub cores: Vec<VecDeque<Sample>>,
    /// Of the control core, which is the one that samples; none where that is not known.
    pub control: VecDeque<ControlSample>,
}

/// How long the control core had worked at one moment.
#[derive(Clone, Copy, Debug)]
pub struct ControlSample {
    /// When it was taken.
    pub at: Instant,
    /// Processor time since its thread was started.
    pub busy: Duration,
}

/// One per node. Shared by every request.
#[derive(Debug)]
pub struct Observer {
    cores: NodeHandle,
    /// Held by whoever gathers: the others find what it found.
    gathering: tokio::sync::Mutex<()>,
    kept: Mutex<Kept>,
    /// When somebody last looked, and that somebody does.
    looked_at: Mutex<Option<Instant>>,
    looks: Notify,
    history: Mutex<Arc<History>>,
    /// When each core last answered the sampler.
    heard: Mutex<Box<[Instant]>>,
}

#[derive(Debug, Default)]
struct Kept {
    last: Option<Arc<Snapshot>>,
    /// What the next ones are compared with, when it is long enough ago.
    base: Option<Arc<Snapshot>>,
    /// Somebody decided by something newer than what was gathered before this.
    outdated: Option<Instant>,
}

impl Observer {
    /// Of the cores behind `cores`; nothing is asked before somebody asks, or
    /// [`Observer::sample`] runs.
    #[must_use]
    pub fn new(cores: NodeHandle) -> Self {
        let history = History {
            cores: vec![VecDeque::new(); usize::from(cores.cores())],
            control: VecDeque::new(),
        };
        let heard = vec![Instant::now(); usize::from(cores.cores())];
        Self {
            cores,
            gathering: tokio::sync::Mutex::default(),
            kept: Mutex::default(),
            looked_at: Mutex::default(),
            looks: Notify::new(),
            history: Mutex::new(Arc::new(history)),
            heard: Mutex::new(heard.into()),
        }
    }

    /// The data cores, to be asked something else.
    #[must_use]
    pub fn cores(&self) -> &NodeHandle {
        &self.cores
    }

    /// At most [`SNAPSHOT_EVERY`] old, for somebody who may look again soon.
    pub async fn look(&self) -> Arc<Snapshot> {
        self.looked();
        self.snapshot().await
    }

    /// The same for somebody who shows these resources alone. The first to look does not wait
    /// until the cores have told of everything; that is gathered meanwhile.
    pub async fn look_at(&self, of: &[Named]) -> Sight {
        let (last, oldest) = (self.last(), self.oldest());
        if !last.as_ref().is_some_and(|one| is_young(one, oldest)) && part::are_few(of) {
            let (part, all) = Part::of_named(&self.cores, of, last).await;
            // Where many ask for different things at once, they get the same.
            if !matches!(all, Err(NodeError::Busy { .. })) {
                self.looked();
                return Sight::Part(part);
            }
        }
        Sight::Whole(self.look().await)
    }

    /// The same for somebody who must know of all resources of a kind, such as who orders
    /// them by a number. The others are gathered meanwhile.
    pub async fn look_at_all(&self, kind: ResourceKind) -> Sight {
        let (last, oldest) = (self.last(), self.oldest());
        if !last.as_ref().is_some_and(|one| is_young(one, oldest))
            // Who finds somebody gathering gets what that finds: the cores are asked once,
            // however many look.
            && let Ok(gathering) = self.gathering.try_lock()
        {
            let (part, all) = Part::of_kind(&self.cores, kind, last).await;
            drop(gathering);
            if !matches!(all, Err(NodeError::Busy { .. })) {
                self.looked();
                return Sight::Part(part);
            }
        }
        Sight::Whole(self.look().await)
    }

    fn looked(&self) {
        *lock(&self.looked_at) = Some(Instant::now());
        self.looks.notify_one();
    }

    /// Gathers before what there is becomes too old, as long as somebody looks and until it
    /// is told to stop.
    pub async fn refresh(&self, mut stopping: watch::Receiver<bool>) {
        let stopped = async move {
            // A sender that is gone is a stop, too.
            let _ = stopping.wait_for(|stop| *stop).await.is_ok();
        };
        let refreshed = async {
            loop {
                self.looks.notified().await;
                while self.looked_lately() {
                    let due = self.snapshot().await.begun + SNAPSHOT_ANEW;
                    tokio::time::sleep_until(due.into()).await;
                    if self.looked_lately() {
                        self.begun_after(Some(due)).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stopped => {}
            () = refreshed => {}
        }
    }

    fn looked_lately(&self) -> bool {
        let looked_at = *lock(&self.looked_at);
        looked_at.is_some_and(|at| at.elapsed() < LOOKED_LATELY)
    }

    /// At most [`SNAPSHOT_EVERY`] old.
    pub async fn snapshot(&self) -> Arc<Snapshot> {
        self.begun_after(self.oldest()).await
    }

    /// When what is told may have been begun; `None`: however long ago.
    fn oldest(&self) -> Option<Instant> {
        let outdated = lock(&self.kept).outdated;
        outdated.max(Instant::now().checked_sub(SNAPSHOT_EVERY))
    }

    /// One resource, and nothing of it from before this was called. Nor is anybody told what
    /// is from before, later: what was decided by is what is seen.
    ///
    /// # Errors
    /// A core does not answer.
    pub async fn fresh(&self, of: Named) -> Result<Part, NodeError> {
        lock(&self.kept).outdated = Some(Instant::now());
        let (part, all) = Part::of_named(&self.cores, &[of], None).await;
        all.map(|()| part)
    }

    /// `None`: however old.
    async fn begun_after(&self, oldest: Option<Instant>) -> Arc<Snapshot> {
        let good = |one: &Arc<Snapshot>| is_young(one, oldest);
        if let Some(last) = self.last().filter(good) {
            return last;
        }
        let _gathering = self.gathering.lock().await;
        // Somebody else has gathered it meanwhile.
        if let Some(last) = self.last().filter(good) {
            return last;
        }
        let mut taken = self.gather(self.last()).await;
        let mut kept = lock(&self.kept);
        // Rates want some time between the two, however often is gathered.
        let far = |one: &Arc<Snapshot>| {
            taken.begun.saturating_duration_since(one.begun) >= SNAPSHOT_EVERY / 2
        };
        let base = kept.base.clone();
        let moves = base.as_ref().is_none_or(far);
        taken.before = match base {
            Some(base) if moves => Some(Arc::new(Snapshot {
                before: None,
                ..(*base).clone()
            })),
            _ => kept.last.as_ref().and_then(|last| last.before.clone()),
        };
        let taken = Arc::new(taken);
        if moves {
            kept.base = Some(taken.clone());
        }
        let over = kept.last.replace(taken.clone());
        drop(kept);
        // A large one takes a while to go, and nobody need wait for that.
        if over.is_some() {
            tokio::task::spawn_blocking(move || drop(over));
        }
        taken
    }

    fn last(&self) -> Option<Arc<Snapshot>> {
        lock(&self.kept).last.clone()
    }

    /// Everything, after `last`.
    async fn gather(&self, last: Option<Arc<Snapshot>>) -> Snapshot {
        let begun = Instant::now();
        let mut asked = JoinSet::new();
        for core in (0..self.cores.cores()).map(CoreId) {
            let cores = self.cores.clone();
            asked.spawn(async move { (core, gather_core(&cores, core, None).await) });
        }
        let (mut cores, mut missing) = (Vec::new(), Vec::new());
        let (mut partitions, mut totals) = (Gathering::default(), Vec::new());
        while let Some(gathered) = asked.join_next().await {
            let Ok((core, gathered)) = gathered else {
                continue;
            };
            match gathered {
                Ok((facts, of_core)) => {
                    totals.push((core, Totals::of(of_core.sums(), &facts.retired)));
                    cores.push(facts);
                    partitions.join(of_core);
                }
                Err(_) => missing.push(core),
            }
        }
        cores.sort_unstable_by_key(|facts| facts.core);
        missing.sort_unstable();
        Snapshot {
            taken_at: wall(),
            took: begun.elapsed(),
            grown: Grown::after(last.as_deref(), &totals, &missing),
            cores: cores.into(),
            missing: missing.into(),
            seen: Arc::new(partitions.finish()),
            before: None,
            begun,
            active: OnceLock::new(),
        }
    }

    /// How the cores were lately.
    #[must_use]
    pub fn history(&self) -> Arc<History> {
        lock(&self.history).clone()
    }

    /// For how long each core has not answered; since this was made, if it never did.
    #[must_use]
    pub fn silent(&self) -> Vec<Duration> {
        let heard = lock(&self.heard);
        heard.iter().map(Instant::elapsed).collect()
    }

    /// Asks each core how it is, until it is told to stop. Runs on the control core, whose
    /// time it takes down as well.
    pub async fn sample(&self, mut stopping: watch::Receiver<bool>) {
        let mut due = tokio::time::interval(SAMPLE_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopped = async move {
            // A sender that is gone is a stop, too.
            let _ = stopping.wait_for(|stop| *stop).await.is_ok();
        };
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => return,
                _ = due.tick() => self.sample_once().await,
            }
        }
    }

    async fn sample_once(&self) {
        let mut asked = JoinSet::new();
        for core in (0..self.cores.cores()).map(CoreId) {
            let cores = self.cores.clone();
            asked.spawn(async move { core_facts(&cores, core).await });
        }
        let mut samples = Vec::new();
        while let Some(answered) = asked.join_next().await {
            if let Ok(Ok(facts)) = answered {
                let core = facts.core;
                samples.push((core, Sample::of(facts, wall())));
            }
        }
        {
            let mut heard = lock(&self.heard);
            for (core, _) in &samples {
                heard[usize::from(core.0)] = Instant::now();
            }
        }
        let mut history = lock(&self.history);
        // Whoever looks at the old one keeps it.
        let history = Arc::make_mut(&mut history);
        for (core, sample) in samples {
            keep(&mut history.cores[usize::from(core.0)], sample);
        }
        if let Some(busy) = thread_cpu() {
            let at = Instant::now();
            keep(&mut history.control, ControlSample { at, busy });
        }
    }
}

/// Whether it was begun at that moment or later; `None`: any.
fn is_young(snapshot: &Snapshot, oldest: Option<Instant>) -> bool {
    oldest.is_none_or(|oldest| snapshot.begun >= oldest)
}

/// The newest samples, and no more of them than [`HISTORY_SAMPLES`].
fn keep<T>(of: &mut VecDeque<T>, sample: T) {
    if of.len() >= HISTORY_SAMPLES {
        of.pop_front();
    }
    of.push_back(sample);
}

async fn core_facts(cores: &NodeHandle, core: CoreId) -> Result<CoreFacts, NodeError> {
    match cores.ask(core, Question::Core, QUESTION_WAIT).await? {
        View::Core(facts) => Ok(*facts),
        _ => Err(NodeError::Gone),
    }
}

/// How a core is, and its partitions page by page: of one kind, or of all.
async fn gather_core(
    cores: &NodeHandle,
    core: CoreId,
    kind: Option<ResourceKind>,
) -> Result<(CoreFacts, Gathering), NodeError> {
    let facts = core_facts(cores, core).await?;
    let mut partitions = Gathering::of(usize::try_from(facts.partitions).unwrap_or(0));
    let mut pages = Pages::of(cores, core, kind, facts.partitions);
    while let Some(page) = pages.next().await? {
        // What was asked meanwhile leaves before this is gone over, and the core is at it.
        tokio::task::yield_now().await;
        partitions.take(page);
    }
    Ok((facts, partitions))
}

/// Nothing in here panics half way.
fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
