//! The control thread: what is decided once for the whole node.
//!
//! It owns this node's part of the control plane and answers the data cores,
//! which never wait for it. It ends the node when a signal asks for it. Start
//! reading at [`Control::serve`]; what happens before the cores are there is in
//! [`boot`].

pub(crate) mod access;
pub(crate) mod admin;
pub(crate) mod backups;
pub(crate) mod boot;
mod convert;
mod cores;
mod declarations;
pub(crate) mod disk;
mod driver;
mod import;
mod keys;
pub(crate) mod known;
mod mailbox;
pub(crate) mod network;
mod purges;
mod quotas;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pinion_admin_api::idp;
use pinion_admin_api::{
    ApiConfig, BackupFront, Front, Identity, NodeFront, NodeHandle, PlaneHandle, front, node_front,
};
use pinion_node::mail::{ControlMail, CoreMail, StorageNotice};
use pinion_node::stats::CoreStats;
use pinion_plane::{Caller, PlaneOutput};
use pinion_reactor::{ControlEnd, CoreHandle};
use tokio::time::MissedTickBehavior;

use self::access::Access;
use self::admin::Admin;
use self::backups::{BackupConfig, Backups};
use self::boot::Booted;
use self::cores::Cores;
use self::declarations::{Declarations, Wanted};
use self::driver::{Driver, Happened, STEPS, until};
use self::known::{Known, News};
use self::mailbox::Mailbox;
use self::purges::Purges;
use self::quotas::Quotas;
use crate::pump::Mail;

/// Longest the thread waits for anything before it looks at signals and cores.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Mails handled in one turn of the plane: what they declare shares a flush. More
/// makes a crowd of declarations quicker and the first of them slower.
const MAILS_PER_TURN: usize = 1024;

/// How much longer than it may take a drain is waited for: the cores end it by themselves,
/// and say so. A core that leaves waits for the writes its disk is at, which take seconds
/// where others have filled the disk's queue.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// Longest the plane may take to end its logs cleanly. Without that the next
/// start reads a little more.
const SEAL_PATIENCE: Duration = Duration::from_secs(2);

/// How the node ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Summed over the cores that drained.
    pub(crate) stats: CoreStats,
    /// What went wrong with cores that ended otherwise.
    pub(crate) failures: Vec<String>,
}

/// The control thread's state.
pub(crate) struct Control {
    driver: Driver,
    known: Known,
    declarations: Declarations,
    purges: Purges,
    quotas: Quotas,
    access: Access,
    front: Front,
    handle: PlaneHandle,
    /// Where administrators look into the cores.
    node_front: NodeFront,
    node_handle: NodeHandle,
    /// What keys are made with.
    identity: Identity,
    cores: Cores,
    backups: Backups,
    /// Of the plane, in order.
    outputs: VecDeque<PlaneOutput>,
}

impl Control {
    /// The cores know what `booted` found.
    pub(crate) fn new(
        booted: Booted,
        identity: Identity,
        cores: Vec<CoreHandle>,
        (backups, config): (BackupFront, BackupConfig),
    ) -> Self {
        let (handle, front) = front();
        let count = u16::try_from(cores.len()).expect("bounded by DATA_CORES_MAX");
        let (node_handle, node_front) = node_front(count);
        let mut purges = Purges::default();
        for resource in &booted.inventory.purges {
            purges.begun(*resource, count);
        }
        let mut quotas = Quotas::new(count);
        if let Some(metadata) = booted.driver.plane.metadata() {
            quotas.read(Instant::now(), metadata);
        }
        let (elsewhere, used) = booted.driver.plane.elsewhere_used();
        quotas.elsewhere(Instant::now(), elsewhere, used.to_vec());
        Self {
            purges,
            quotas,
            driver: booted.driver,
            access: booted.access,
            front,
            handle,
            node_front,
            node_handle,
            identity,
            known: booted.known,
            declarations: booted.declarations,
            cores: Cores::new(cores),
            backups: Backups::new(backups, config),
            outputs: VecDeque::new(),
        }
    }

    /// Serves the cores until `stop` is set and they have drained, or until
    /// `drain_timeout` and a little more has passed since. With `admin`,
    /// administrators are served, too.
    pub(crate) async fn serve(
        mut self,
        end: ControlEnd<Mail>,
        admin: Option<(ApiConfig, idp::Driver)>,
        stop: &AtomicBool,
        drain_timeout: Duration,
    ) -> Ending {
        let mut mailbox = match Mailbox::new(end) {
            Ok(mailbox) => mailbox,
            Err(error) => {
                let failure = format!("the control thread cannot wait for mail: {error}");
                self.cores.failed(failure);
                return self.cores.ending();
            }
        };
        let mut admin = admin.map(|(mut config, driver)| {
            config.cores = self.node_handle.clone();
            Admin::start(
                (config, driver),
                self.handle.clone(),
                self.access.subscribe(),
            )
        });
        let mut give_up = None;
        let mut happened = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if stop.load(Ordering::Relaxed) && give_up.is_none() {
                give_up = Some(Instant::now() + drain_timeout + DRAIN_GRACE);
                self.cores.tell_everyone(|| CoreMail::Drain);
                if let Some(admin) = &mut admin {
                    admin.stop();
                }
            }
            let has_answered = self.turn(happened.take(), &mut mailbox.end);
            if has_answered && !self.driver.has_writes() {
                // What is left to be told to others is what was decided: whoever waits for
                // that on this thread goes first.
                tokio::task::yield_now().await;
            }
            self.driver.flush();
            if let Some(table) = self.access.poll(Instant::now(), &self.known) {
                self.cores
                    .tell_everyone(|| CoreMail::Access(Arc::clone(&table)));
            }
            if let Some(used) = self.quotas.poll_used() {
                self.driver.plane.handle_use(used);
            }
            if let Some(table) = self.quotas.poll(Instant::now()) {
                self.cores
                    .tell_everyone(|| CoreMail::Quotas(Arc::clone(&table)));
            }
            let (front, cores) = (&mut self.node_front, &mut self.cores);
            front.feed(|core, mail| cores.ask(core, mail));
            self.cores.post(&mut mailbox.end);
            self.cores.look(|core| self.node_front.core_gone(core));
            if self.cores.are_gone() {
                // The last thing a core does is to say what it counted, and that may have come
                // since the turn: now that all of them are gone nothing comes after it.
                while let Some((_, mail)) = mailbox.end.try_recv() {
                    self.handle_mail(mail);
                }
                break;
            }
            if give_up.is_some_and(|at| Instant::now() >= at) {
                let failure = "a core did not drain in time; leaving it";
                self.cores.failed(failure.to_owned());
                break;
            }
            let backup_due = self.backups.due();
            if mailbox.prepare_wait() {
                tokio::select! {
                    () = mailbox.rung() => {}
                    what = self.driver.happened() => happened = Some(what),
                    () = self.front.ready() => {}
                    () = self.node_front.ready() => {}
                    () = self.backups.ready() => {}
                    () = until(backup_due) => {}
                    () = until(self.access.due()) => {}
                    () = until(self.purges.due()) => {}
                    () = until(self.quotas.due()) => {}
                    _ = look.tick() => {}
                }
            } else {
                // Whatever else runs on this thread has its turn, too.
                tokio::task::yield_now().await;
            }
            mailbox.finish_wait();
        }
        self.seal().await;
        self.cores.ending()
    }

    /// One turn of the plane, with everything that there is for it, up to
    /// [`Driver::flush`]. Whether somebody got an answer.
    fn turn(&mut self, happened: Option<Happened>, end: &mut ControlEnd<Mail>) -> bool {
        self.driver.begin(happened);
        for _ in 0..MAILS_PER_TURN {
            let Some((_, mail)) = end.try_recv() else {
                break;
            };
            self.handle_mail(mail);
        }
        self.backups.turn((&mut self.driver, &mut self.cores));
        let declarations = &mut self.declarations;
        let next_id = || declarations.next_id();
        let broker = self.known.broker;
        self.purges
            .confirm(Instant::now(), broker, next_id, &mut self.driver);
        let now = self.driver.now();
        let asked = self.front.feed(&mut self.driver.plane, now);
        if asked > 0 {
            tracing::trace!(target: STEPS, count = asked, "asked");
        }
        self.driver.finish(&mut self.outputs);
        let mut has_answered = false;
        while let Some(output) = self.outputs.pop_front() {
            has_answered |= matches!(output, PlaneOutput::Answer { .. });
            self.handle_output(output);
        }
        has_answered
    }

    fn handle_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Control(ControlMail::Declare {
                origin,
                tenant,
                kind,
                name,
                spec,
                who,
                remote,
            }) => {
                let wanted = Wanted {
                    origin,
                    tenant,
                    kind,
                    name,
                    spec,
                    caller: Caller {
                        principal: who,
                        request: 0,
                        remote,
                    },
                };
                let with = (&mut self.known, &mut self.driver, &mut self.cores);
                self.declarations.ask(wanted, with);
            }
            Mail::Control(ControlMail::Storage { log, notice }) => say_storage(log.0, &notice),
            Mail::Control(ControlMail::Drained { core, stats }) => {
                tracing::debug!(%core, ?stats, "drained");
                self.cores.drained(&stats);
            }
            Mail::Control(ControlMail::Report(report)) => {
                self.quotas.report(Instant::now(), *report);
            }
            Mail::Control(ControlMail::Purged { core, resource }) => {
                tracing::debug!(%core, %resource, "purged");
                self.purges.purged(core, resource);
            }
            Mail::Control(ControlMail::Barred {
                core,
                resource,
                partitions,
            }) => {
                let (kind, name) = (resource.kind, &resource.name);
                tracing::warn!(
                    %core, ?kind, %name, partitions,
                    "a resource is declared whose number the log of a core knows from before: \
                     these partitions stay closed. Start the node again to serve what the log has"
                );
            }
            Mail::Control(ControlMail::View { core, id, view }) => {
                self.node_front.handle_view(core, id, *view);
            }
            Mail::Control(ControlMail::Pinned { core, backup, logs }) => {
                let with = (&mut self.driver, &mut self.cores);
                self.backups.core_pinned((core, backup), logs, with);
            }
            Mail::Core(mail) => unreachable!("{mail:?} is for a core"),
            Mail::Stray(_) => unreachable!("strays go to cores"),
            Mail::Peer { from, frame } => self.driver.take_frame(&from, &frame),
        }
    }

    fn handle_output(&mut self, output: PlaneOutput) {
        let is_answer = matches!(output, PlaneOutput::Answer { .. });
        let Some(output) = self.front.handle_output(&mut self.driver.plane, output) else {
            if is_answer {
                tracing::trace!(target: STEPS, "answered");
            }
            return;
        };
        match output {
            PlaneOutput::Answer { id, answer } => {
                let with = (&mut self.known, &self.driver, &mut self.cores);
                let rest = self.declarations.answered(id, answer, with);
                let now = Instant::now();
                let rest = rest.and_then(|answer| self.purges.answered(now, id, answer));
                if let Some(answer) = rest {
                    tracing::debug!(?id, ?answer, "nobody waits for it");
                }
            }
            PlaneOutput::Changes(changes) => {
                let Some(metadata) = self.driver.plane.metadata() else {
                    return;
                };
                let news = self.known.take(metadata, &changes);
                let now = Instant::now();
                self.access.take(now, metadata, &changes);
                self.quotas.take(now, &changes);
                self.spread(&news);
            }
            PlaneOutput::Replaced { .. } => {
                let Some(metadata) = self.driver.plane.metadata() else {
                    return;
                };
                let news = self.known.reread(metadata);
                let now = Instant::now();
                self.access.replaced(now, metadata);
                self.quotas.read(now, metadata);
                self.spread(&news);
            }
            PlaneOutput::Elsewhere { cores, used } => {
                self.quotas.elsewhere(Instant::now(), cores, used);
            }
            PlaneOutput::RotateKeys { tenant, version } => {
                if let Some(metadata) = self.driver.plane.metadata() {
                    keys::rotate(&self.identity, &self.handle, metadata, &tenant, version);
                }
            }
            PlaneOutput::Pinned(plane) => {
                let with = (&mut self.driver, &mut self.cores);
                self.backups.plane_pinned(plane, with);
            }
            output => tracing::debug!(?output, "the plane"),
        }
    }

    /// Tells every core what is new.
    fn spread(&mut self, news: &[News]) {
        for one in news {
            if let News::Purge(_, resource) = one {
                self.purges.begun(*resource, self.cores.count());
            }
            self.cores.tell_everyone(|| one.mail());
        }
    }

    /// Ends the plane's logs cleanly, so that the next start reads footers.
    async fn seal(&mut self) {
        let sealed = async {
            self.driver.begin(None);
            self.driver.plane.seal();
            loop {
                self.driver.finish(&mut self.outputs);
                self.driver.flush();
                let ended = |output: &PlaneOutput| matches!(output, PlaneOutput::Sealed);
                if self.outputs.drain(..).any(|output| ended(&output)) {
                    return;
                }
                let happened = self.driver.happened().await;
                self.driver.begin(Some(happened));
            }
        };
        if tokio::time::timeout(SEAL_PATIENCE, sealed).await.is_err() {
            tracing::warn!("the metadata's log was not ended cleanly; the next start reads more");
        }
        self.driver.hang_up();
    }
}

fn say_storage(log: u16, notice: &StorageNotice) {
    match notice {
        StorageNotice::Failed(error) => tracing::error!(
            log,
            %error,
            "a write failed: the log takes no more; what was not acknowledged is unknown. \
             Check the disk and start the node again"
        ),
        StorageNotice::ReadOnly(true) => tracing::warn!(
            log,
            "the disk is full: only what frees space is taken; trying again each second"
        ),
        StorageNotice::ReadOnly(false) => {
            tracing::info!(log, "the disk has room again");
        }
        StorageNotice::Damaged(damage) => tracing::error!(
            log,
            %damage,
            "committed data is damaged: its partitions are closed. \
             `pinion doctor --data-dir` names them"
        ),
    }
}
