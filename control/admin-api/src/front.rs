//! The way from handlers to the plane: asks in a bounded channel, answers by one-shots.
//!
//! Handlers hold a [`PlaneHandle`]; whoever owns the plane holds the one [`Front`] and
//! lets it take part in every turn. Nothing here waits for the plane on the plane's
//! thread: a handler that is gone costs an answer nobody reads, and one that reads
//! slowly holds back only its own watch.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pinion_metadata::{Command, Expect, MetaVersion, Metadata};
use pinion_plane::{
    Answer, AuditEverywhere, AuditQuery, Caller, Consistency, Denied, PeerName, Plane, PlaneError,
    PlaneLogs, PlaneOutput, PlaneStatus, Query, Request, RequestId, WatchError, WatchId, Watched,
    Write,
};
use pinion_raft_group::TransferError;
use pinion_types::Monotonic;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::limits::{ASKS_MAX, ASKS_PER_TURN, WATCH_AHEAD};

/// Set in every request id of a [`Front`], and in none of the owner's own.
const OURS: u64 = 1 << 63;

type Look = Box<dyn FnOnce(Option<&Metadata>) + Send>;

/// What a handler wants of the plane.
enum Ask {
    Write {
        caller: Caller,
        expect: Expect,
        command: Box<Command>,
        wait: Duration,
        answer: oneshot::Sender<Answer>,
    },
    Read {
        query: Query,
        consistency: Consistency,
        wait: Duration,
        answer: oneshot::Sender<Answer>,
    },
    Audit {
        query: AuditQuery,
        wait: Duration,
        answer: oneshot::Sender<Answer>,
    },
    AuditEverywhere {
        wanted: Box<AuditEverywhere>,
        wait: Duration,
        answer: oneshot::Sender<Answer>,
    },
    Record {
        row: Denied,
        wait: Duration,
        answer: oneshot::Sender<Answer>,
    },
    Denied(Denied, oneshot::Sender<Result<(), PlaneError>>),
    Watch {
        cluster: Option<[u8; 16]>,
        from: MetaVersion,
        answer: oneshot::Sender<Result<WatchStream, WatchError>>,
    },
    Status(oneshot::Sender<PlaneStatus>),
    Logs(oneshot::Sender<PlaneLogs>),
    Transfer(PeerName, oneshot::Sender<Result<(), TransferError>>),
    Beat(PeerName, u64, oneshot::Sender<Result<(), PlaneError>>),
    Look(Look),
}

/// What handlers hold. Cheap to clone; usable from any thread.
///
/// When the plane's owner is gone everything answers as a node that is not ready.
#[derive(Clone, Debug)]
pub struct PlaneHandle {
    asks: mpsc::Sender<Ask>,
}

/// The half of whoever owns the plane. Its request ids have the top bit set, so the
/// owner's own must not.
#[derive(Debug)]
pub struct Front {
    asks: mpsc::Receiver<Ask>,
    /// An ask that [`Front::ready`] met.
    next: Option<Ask>,
    last: u64,
    answers: BTreeMap<u64, oneshot::Sender<Answer>>,
    watches: BTreeMap<WatchId, mpsc::Sender<Result<Arc<Watched>, WatchError>>>,
    stirred: Arc<Stirred>,
}

/// A plane's two ends, not connected to any plane yet.
#[must_use]
pub fn front() -> (PlaneHandle, Front) {
    let (sender, asks) = mpsc::channel(ASKS_MAX);
    let front = Front {
        asks,
        next: None,
        last: 0,
        answers: BTreeMap::new(),
        watches: BTreeMap::new(),
        stirred: Arc::default(),
    };
    (PlaneHandle { asks: sender }, front)
}

impl PlaneHandle {
    /// Asks for a change. The answer comes within `wait` of the turn that takes it.
    pub async fn write(
        &self,
        caller: Caller,
        expect: Expect,
        command: Command,
        wait: Duration,
    ) -> Answer {
        let command = Box::new(command);
        let ask = |answer| Ask::Write {
            caller,
            expect,
            command,
            wait,
            answer,
        };
        // The owner went away with it: it may have been proposed.
        self.answer(ask, PlaneError::Unknown).await
    }

    /// Reads. The answer comes within `wait` of the turn that takes it.
    pub async fn read(&self, query: Query, consistency: Consistency, wait: Duration) -> Answer {
        let ask = |answer| Ask::Read {
            query,
            consistency,
            wait,
            answer,
        };
        self.answer(ask, PlaneError::NotReady).await
    }

    /// Reads rows of this node's audit log, within `wait` of the turn that takes it.
    pub async fn audit(&self, query: AuditQuery, wait: Duration) -> Answer {
        let ask = |answer| Ask::Audit {
            query,
            wait,
            answer,
        };
        self.answer(ask, PlaneError::NotReady).await
    }

    /// Reads rows of the audit logs of all nodes, within `wait` of the turn that takes it.
    pub async fn audit_everywhere(&self, wanted: AuditEverywhere, wait: Duration) -> Answer {
        let wanted = Box::new(wanted);
        let ask = |answer| Ask::AuditEverywhere {
            wanted,
            wait,
            answer,
        };
        self.answer(ask, PlaneError::NotReady).await
    }

    async fn answer(
        &self,
        ask: impl FnOnce(oneshot::Sender<Answer>) -> Ask,
        lost: PlaneError,
    ) -> Answer {
        match self.ask(ask, lost).await {
            Ok(answer) => answer,
            Err(error) => Answer::Refused(error),
        }
    }

    /// Writes a row about something that is no command, and waits until it is durable, for
    /// at most `wait` of the turn that takes it: what is done after that is never without it.
    ///
    /// # Errors
    /// It is not, or not yet: [`PlaneError::AuditUnavailable`], [`PlaneError::TimedOut`],
    /// [`PlaneError::Busy`] or [`PlaneError::NotReady`]. What it tells of is not to be done.
    pub async fn record(&self, row: Denied, wait: Duration) -> Result<(), PlaneError> {
        let ask = |answer| Ask::Record { row, wait, answer };
        match self.answer(ask, PlaneError::NotReady).await {
            Answer::Recorded => Ok(()),
            Answer::Refused(error) => Err(error),
            _ => Err(PlaneError::Failed),
        }
    }

    /// Writes a row for a refusal that the plane would not hear of otherwise, and does not
    /// wait for the disk: nothing was done that a crash could leave behind without it.
    ///
    /// # Errors
    /// It could not be written: [`PlaneError::AuditUnavailable`], [`PlaneError::Busy`]
    /// or [`PlaneError::NotReady`]. Whoever was to be refused is refused for that.
    pub async fn denied(&self, denied: Denied) -> Result<(), PlaneError> {
        let ask = |answer| Ask::Denied(denied, answer);
        self.ask(ask, PlaneError::NotReady).await?
    }

    /// Follows the changes from version `from` on. `cluster` is where that version was
    /// read, if it is known.
    ///
    /// # Errors
    /// [`WatchError`]; a plane that takes nothing now is [`WatchError::NotReady`].
    pub async fn watch(
        &self,
        cluster: Option<[u8; 16]>,
        from: MetaVersion,
    ) -> Result<WatchStream, WatchError> {
        let ask = |answer| Ask::Watch {
            cluster,
            from,
            answer,
        };
        match self.ask(ask, PlaneError::NotReady).await {
            Ok(stream) => stream,
            Err(_) => Err(WatchError::NotReady),
        }
    }

    /// How the plane is.
    ///
    /// # Errors
    /// [`PlaneError::Busy`], or [`PlaneError::NotReady`] when its owner is gone.
    pub async fn status(&self) -> Result<PlaneStatus, PlaneError> {
        self.ask(Ask::Status, PlaneError::NotReady).await
    }

    /// What its logs have and did.
    ///
    /// # Errors
    /// As [`PlaneHandle::status`].
    pub async fn logs(&self) -> Result<PlaneLogs, PlaneError> {
        self.ask(Ask::Logs, PlaneError::NotReady).await
    }

    /// Gives the lead to another member, from this node, which has it. Done when that one
    /// has been told; [`PlaneHandle::status`] says what came of it.
    ///
    /// # Errors
    /// [`PlaneError::Busy`], or [`PlaneError::NotReady`] when the plane's owner is gone;
    /// within, why the lead stays where it is.
    pub async fn transfer(&self, to: PeerName) -> Result<Result<(), TransferError>, PlaneError> {
        let ask = |answer| Ask::Transfer(to, answer);
        self.ask(ask, PlaneError::NotReady).await
    }

    /// A broker that is no node of the control plane says that it lives: [`Plane::handle_beat`].
    ///
    /// # Errors
    /// As there; and [`PlaneError::Busy`], or [`PlaneError::NotReady`] when the plane's owner
    /// is gone.
    pub async fn beat(&self, broker: PeerName, incarnation: u64) -> Result<(), PlaneError> {
        let ask = |answer| Ask::Beat(broker, incarnation, answer);
        self.ask(ask, PlaneError::NotReady).await?
    }

    /// Looks at the metadata as this node has it, on the plane's thread: for what is
    /// checked again when it is proposed, such as where shards could go. `None` while
    /// the node has none. `look` does no more than some lookups: everybody waits for it.
    ///
    /// # Errors
    /// [`PlaneError::Busy`], or [`PlaneError::NotReady`] when its owner is gone.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Metadata) -> T + Send + 'static,
    ) -> Result<Option<T>, PlaneError> {
        let ask = |answer: oneshot::Sender<Option<T>>| {
            Ask::Look(Box::new(move |machine| {
                // Nobody may be left to hear it.
                let _ = answer.send(machine.map(look));
            }))
        };
        self.ask(ask, PlaneError::NotReady).await
    }

    /// Asks and waits; `lost` is what it means when the owner goes away meanwhile.
    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
        lost: PlaneError,
    ) -> Result<T, PlaneError> {
        let (sender, answer) = oneshot::channel();
        self.asks
            .try_send(ask(sender))
            .map_err(|error| match error {
                TrySendError::Full(_) => PlaneError::Busy {
                    limit: ASKS_MAX as u64,
                },
                TrySendError::Closed(_) => PlaneError::NotReady,
            })?;
        answer.await.map_err(|_| lost)
    }
}

impl Front {
    /// Waits until a handler wants something: [`Front::feed`] has something to do. It
    /// may be dropped at any time and asked again.
    pub async fn ready(&mut self) {
        if self.next.is_some() || !self.stirred.is_empty() {
            return;
        }
        let stirred = self.stirred.clone();
        tokio::select! {
            // Handlers that are all gone want nothing any more.
            Some(ask) = self.asks.recv() => self.next = Some(ask),
            () = stirred.bell.notified() => {}
        }
    }

    /// Gives the plane what handlers want, as much as one turn takes: between its
    /// `start_turn` and its `end_turn`. How many things that was.
    pub fn feed(&mut self, plane: &mut Plane, now: Monotonic) -> usize {
        for (id, stir) in self.stirred.take() {
            if stir.ended {
                self.watches.remove(&id);
                plane.unwatch(id);
            } else {
                plane.watch_credit(id, stir.taken);
            }
        }
        for taken in 0..ASKS_PER_TURN {
            let ask = self.next.take().or_else(|| self.asks.try_recv().ok());
            let Some(ask) = ask else {
                return taken;
            };
            self.take(plane, now, ask);
        }
        ASKS_PER_TURN
    }

    // Whoever asked may be gone: an answer that nobody hears is dropped everywhere.
    fn take(&mut self, plane: &mut Plane, now: Monotonic, ask: Ask) {
        match ask {
            Ask::Write {
                caller,
                expect,
                command,
                wait,
                answer,
            } => {
                let write = Write {
                    caller,
                    expect,
                    command: *command,
                    deadline: now + wait,
                };
                self.request(plane, Request::Write(write), answer);
            }
            Ask::Read {
                query,
                consistency,
                wait,
                answer,
            } => {
                let deadline = now + wait;
                let read = Request::Read {
                    query,
                    consistency,
                    deadline,
                };
                self.request(plane, read, answer);
            }
            Ask::Audit {
                query,
                wait,
                answer,
            } => {
                let deadline = now + wait;
                self.request(plane, Request::Audit { query, deadline }, answer);
            }
            Ask::AuditEverywhere {
                wanted,
                wait,
                answer,
            } => {
                let deadline = now + wait;
                let everywhere = Request::AuditEverywhere { wanted, deadline };
                self.request(plane, everywhere, answer);
            }
            Ask::Record { row, wait, answer } => {
                let deadline = now + wait;
                self.request(plane, Request::Record { row, deadline }, answer);
            }
            Ask::Denied(denied, answer) => {
                let _ = answer.send(plane.handle_denied(denied));
            }
            Ask::Watch {
                cluster,
                from,
                answer,
            } => {
                let watch = plane.watch(cluster, from);
                let _ = answer.send(watch.map(|id| self.watch(plane, id)));
            }
            Ask::Status(answer) => {
                let _ = answer.send(plane.status());
            }
            Ask::Logs(answer) => {
                let _ = answer.send(plane.logs());
            }
            Ask::Transfer(to, answer) => {
                let _ = answer.send(plane.transfer(&to));
            }
            Ask::Beat(broker, incarnation, answer) => {
                let _ = answer.send(plane.handle_beat(&broker, incarnation));
            }
            Ask::Look(look) => look(plane.metadata()),
        }
    }

    fn request(&mut self, plane: &mut Plane, request: Request, answer: oneshot::Sender<Answer>) {
        self.last += 1;
        self.answers.insert(self.last, answer);
        plane.handle_request(RequestId(OURS | self.last), request);
    }

    fn watch(&mut self, plane: &mut Plane, id: WatchId) -> WatchStream {
        // One more than the credit, for how it ends.
        let (sender, changes) = mpsc::channel(WATCH_AHEAD as usize + 1);
        self.watches.insert(id, sender);
        plane.watch_credit(id, WATCH_AHEAD);
        WatchStream {
            id,
            changes,
            taken: 0,
            stirred: self.stirred.clone(),
        }
    }

    /// Takes an output that answers a handler; any other is given back.
    pub fn handle_output(&mut self, plane: &mut Plane, output: PlaneOutput) -> Option<PlaneOutput> {
        match output {
            PlaneOutput::Answer { id, answer } if id.0 & OURS != 0 => {
                if let Some(waiting) = self.answers.remove(&(id.0 & !OURS)) {
                    let _ = waiting.send(answer);
                }
                None
            }
            PlaneOutput::WatchReady { id } if self.watches.contains_key(&id) => {
                self.push(plane, id);
                None
            }
            other => Some(other),
        }
    }

    /// Everything that a watcher has credit for goes to it.
    fn push(&mut self, plane: &mut Plane, id: WatchId) {
        let Some(watch) = self.watches.get(&id) else {
            return;
        };
        loop {
            match plane.poll_watch(id, WATCH_AHEAD as usize) {
                Ok(changes) if changes.is_empty() => return,
                // It fits: credit is given when there is room. Where nobody listens any
                // more the watch's end is on its way here.
                Ok(changes) => changes.into_iter().for_each(|change| {
                    let _ = watch.try_send(Ok(change));
                }),
                Err(error) => {
                    let _ = watch.try_send(Err(error));
                    self.watches.remove(&id);
                    return;
                }
            }
        }
    }
}

/// The changes of the metadata, one after the other. Dropping it ends the watch.
#[derive(Debug)]
pub struct WatchStream {
    id: WatchId,
    changes: mpsc::Receiver<Result<Arc<Watched>, WatchError>>,
    /// Changes taken since credit was last given back for them.
    taken: u32,
    stirred: Arc<Stirred>,
}

impl WatchStream {
    /// The next change; versions are dense. After an error there is nothing more, and
    /// after the plane's owner is gone there is nothing at all. It may be dropped at
    /// any time and asked again.
    pub async fn next(&mut self) -> Option<Result<Arc<Watched>, WatchError>> {
        let next = self.changes.recv().await?;
        self.taken += 1;
        // Half of it at once: neither a turn for every change, nor a pause between two.
        if self.taken >= WATCH_AHEAD / 2 {
            self.stirred
                .taken(self.id, core::mem::take(&mut self.taken));
        }
        Some(next)
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.stirred.ended(self.id);
    }
}

/// What watchers did since the plane last looked: at most one entry for each.
#[derive(Debug, Default)]
struct Stirred {
    watches: Mutex<BTreeMap<WatchId, Stir>>,
    bell: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stir {
    taken: u32,
    ended: bool,
}

impl Stirred {
    fn taken(&self, id: WatchId, changes: u32) {
        self.with(|watches| watches.entry(id).or_default().taken += changes);
        self.bell.notify_one();
    }

    fn ended(&self, id: WatchId) {
        self.with(|watches| watches.entry(id).or_default().ended = true);
        self.bell.notify_one();
    }

    fn take(&self) -> BTreeMap<WatchId, Stir> {
        self.with(core::mem::take)
    }

    fn is_empty(&self) -> bool {
        self.with(|watches| watches.is_empty())
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<WatchId, Stir>) -> T) -> T {
        // Nothing in here panics half way.
        act(&mut self.watches.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl core::fmt::Debug for Ask {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Write { .. } => "Write",
            Self::Read { .. } => "Read",
            Self::Audit { .. } => "Audit",
            Self::AuditEverywhere { .. } => "AuditEverywhere",
            Self::Record { .. } => "Record",
            Self::Denied(..) => "Denied",
            Self::Watch { .. } => "Watch",
            Self::Status(_) => "Status",
            Self::Logs(_) => "Logs",
            Self::Transfer(..) => "Transfer",
            Self::Beat(..) => "Beat",
            Self::Look(_) => "Look",
        })
    }
}
