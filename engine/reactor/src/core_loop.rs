//! The loop of a data core.
//!
//! One thread, pinned; one glommio executor on it; one task, which turns the
//! pump. A turn is: receive, mail, completions of the disk, drive, and then what
//! the pump asked the disk for goes to the kernel. While turns do something they
//! follow each other; now and then the executor gets a real pass through its
//! rings, because a task that merely yields keeps glommio from submitting and
//! reaping until its preempt timer fires. The disk does not wait for that: its
//! ring is looked at every turn. When a turn does nothing the core
//! spins for a while that adapts to the load, longer while a disk request is
//! under way, and then parks:
//!
//! 1. arm the deadline, take due completions (gate closed);
//! 2. announce the sleep to the mesh, look at the mailboxes once more;
//! 3. open the gates of both rings, look for completions once more;
//! 4. read the eventfd through glommio. Datagrams, deadlines, room in the send
//!    buffer, the disk and mail all write to that one eventfd.
//!
//! While work keeps coming within a millisecond, a core does not park but naps
//! (`nap.rs`), one system call instead of a dozen, and parks in between as often
//! as glommio is due a pass through its rings.
//!
//! A core that waits in `io_uring` may be shown as "iowait" by system tools. It
//! is idle: the CPU is free for others.
#![allow(unsafe_code)] // glommio takes a foreign descriptor only by `FromRawFd`.

use std::any::Any;
use std::future::poll_fn;
use std::io;
use std::net::UdpSocket;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use glommio::io::BufferedFile;
use glommio::{LocalExecutorBuilder, Placement};
use quinn_udp::UdpSocketState;
use rustix::event::{EventfdFlags, eventfd};

use crate::disk::{Disk, DiskConfig};
use crate::mesh::MeshEnd;
use crate::nap::{NAP_MAX, Nap};
use crate::pump::{CoreStats, Io, Phase, Pump, Stall};
use crate::ring::WaitRing;
use crate::rx::Receiver;
use crate::spin::{AdaptiveSpin, SpinPolicy};
use crate::tx::{Sender, SocketWire};

/// Datagrams of one turn before the other phases get theirs.
///
/// More amortises a turn better under a flood, less lets mail and timers in
/// sooner: at 1 µs a datagram this is a quarter of a millisecond.
const DATAGRAMS_PER_TURN_MAX: usize = 256;

/// Bytes of one turn's datagrams, for the same reason where they are large. More keeps
/// the answers of a turn waiting while requests are read that will wait in turn, and a
/// core that cannot keep up then answers no more but later; half as much costs bulk a tenth.
const DATAGRAM_BYTES_PER_TURN_MAX: usize = 512 << 10;

/// Mails of one turn, shared equally by the peers.
const MAILS_PER_TURN_MAX: usize = 256;

/// Longest sleep while a mail waits for room in a peer's mailbox; nothing wakes
/// a sender when there is room.
const MAIL_RETRY: Duration = Duration::from_micros(100);

/// Sleep granted to a pump whose deadline has passed and which yet did nothing:
/// a fault of the pump must not become a core at 100 %.
const OVERDUE_RETRY: Duration = Duration::from_millis(1);

/// glommio's preempt timer, out of the way.
///
/// `LocalExecutor::run` of glommio 0.9 arms it, and then `run_task_queues` runs
/// nothing while the latency ring holds a completion. When the timer fires
/// between the two (a host that takes the CPU away for that long is enough), the
/// executor takes "ran nothing" for "nothing to run" and sleeps: the timer's
/// completion has no waiter, so it does not count as a wake-up. A task that was
/// ready stays so for ever. Any short timer meets this sooner or later; no
/// public setting turns it off, so it is a day. The other completions of that
/// ring (a deadline of glommio's, a wake-up from another thread) make a task
/// ready when they are taken, and then the executor does not sleep.
///
/// What the timer is for, glommio's own completions behind tasks that never
/// rest, is done by [`CoreConfig::reactor_pass_every`].
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 60 * 60);

/// The default of [`CoreConfig::yield_every`]: a quarter of the tick that a
/// write would wait for otherwise.
const YIELD_EVERY: Duration = Duration::from_millis(1);

/// The default of [`CoreConfig::heartbeat`].
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Shortest heartbeat. glommio takes a sleep of (nearly) no length as over at
/// once, and a task that sleeps so never yields.
const HEARTBEAT_MIN: Duration = Duration::from_millis(1);

/// glommio's registered I/O memory. It is locked memory; with 64 KiB an
/// executor fits in a limit of 512 KiB, with the default of 10 MiB registration
/// fails for a plain user and glommio goes on without.
pub(crate) const IO_MEMORY_BYTES: usize = 64 << 10;

/// Depth of each of glommio's three rings. They carry a sleep, a wake-up and
/// little else; deeper needs more kernel memory.
const RING_DEPTH: usize = 64;

/// At most one stall in this time is logged; all are counted.
const STALL_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How to run one data core.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Which data core this is, from 0; names the thread.
    pub index: usize,
    /// CPU to pin to; `None` leaves the thread to the scheduler.
    pub cpu: Option<usize>,
    /// How long to look for work before sleeping.
    pub spin: SpinPolicy,
    /// Whether to use segmentation offload for sending where the kernel has it.
    pub gso: bool,
    /// How often glommio gets a pass through its rings under load. Longer costs
    /// less (a pass is about ten system calls and holds a datagram up for some
    /// 7 µs) and delays only what waits inside glommio: the heartbeat. The disk
    /// has a ring of its own.
    pub reactor_pass_every: Duration,
    /// How often a busy core offers its CPU to the kernel while the disk has
    /// something to do; a core that only looks for work does so at every look.
    ///
    /// A durable write is finished by a thread of the kernel, often on the very
    /// CPU that asked. With no other CPU free it waits there for the next tick,
    /// 4 ms, unless the core lets it run. Longer lets commits wait as much
    /// longer; shorter costs 0.3 µs each time, and where a third party computes
    /// on the same CPU it gets a time slice of some 3 ms each time: 250 µs suit
    /// a CPU of the core's own. `docs/decisions/0010-disk-ring.md`.
    pub yield_every: Duration,
    /// A turn longer than this is a stall.
    pub stall_after: Duration,
    /// How often the executor is woken for nothing but to look again; `None`
    /// for never. It bounds what a wake-up lost inside glommio can cost. Waking
    /// costs about 10 µs, so four times a second are nothing; never is for
    /// tests, where a lost wake-up shall show.
    pub heartbeat: Option<Duration>,
    /// Where the logs of this core lie; `None` for a core without logs.
    pub disk: Option<DiskConfig>,
}

impl CoreConfig {
    /// The defaults for data core `index`, not pinned, on a shared CPU.
    #[must_use]
    pub fn new(index: usize) -> Self {
        Self {
            index,
            cpu: None,
            spin: SpinPolicy::SHARED,
            gso: true,
            reactor_pass_every: Duration::from_micros(50),
            yield_every: YIELD_EVERY,
            stall_after: Duration::from_millis(5),
            heartbeat: Some(HEARTBEAT),
            disk: None,
        }
    }
}

/// Why a core ended before its pump was finished.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The pump panicked. Its state is lost; the other cores run on.
    #[error("data core {index} panicked: {message}")]
    Panicked {
        /// Which core.
        index: usize,
        /// What the panic said.
        message: String,
    },
    /// The kernel refused something the loop cannot do without.
    #[error("data core {index}: {step}: {source}")]
    Io {
        /// Which core.
        index: usize,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A running data core.
#[derive(Debug)]
pub struct CoreHandle {
    index: usize,
    thread: JoinHandle<Result<(), CoreError>>,
}

impl CoreHandle {
    /// Which data core this is.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// True when the core has ended and [`join`](Self::join) will not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the pump is finished.
    ///
    /// # Errors
    /// [`CoreError`] when it ended otherwise.
    pub fn join(self) -> Result<(), CoreError> {
        let index = self.index;
        self.thread
            .join()
            .unwrap_or_else(|panic| Err(panicked(index, &*panic)))
    }
}

/// Starts a pinned thread that runs the pump which `make` constructs on it.
///
/// Returns when the core's executor and rings stand, before `make` is called.
/// The core ends when [`Pump::finished`] says so; `socket` is closed then,
/// unless another handle of it is kept ([`UdpGroup`](crate::UdpGroup)). However
/// it ends, what the disk has begun is waited for; the answers are dropped, and
/// of a request of several steps the rest is not done.
///
/// # Errors
/// When the thread cannot be pinned, its rings cannot be made or the data
/// directory cannot be written. The probes
/// ([`crate::probe`]) explain such failures better: run them first.
pub fn run_core<P: Pump>(
    config: CoreConfig,
    socket: UdpSocket,
    mesh: MeshEnd<P::Mail>,
    make: impl FnOnce() -> P + Send + 'static,
) -> io::Result<CoreHandle> {
    let index = config.index;
    let (ready, started) = sync_channel(1);
    let thread = thread::Builder::new()
        .name(format!("pinion-core-{index}"))
        .spawn(move || {
            let run = AssertUnwindSafe(|| run_thread(config, socket, mesh, make, ready));
            catch_unwind(run).unwrap_or_else(|panic| Err(panicked(index, &*panic)))
        })?;
    if started.recv().is_ok() {
        return Ok(CoreHandle { index, thread });
    }
    // The thread dropped its end without a word: it has failed.
    match (CoreHandle { index, thread }).join() {
        Err(CoreError::Io { step, source, .. }) => {
            Err(io::Error::new(source.kind(), format!("{step}: {source}")))
        }
        Err(error) => Err(io::Error::other(error.to_string())),
        Ok(()) => Err(io::Error::other("the core ended before it started")),
    }
}

fn panicked(index: usize, panic: &(dyn Any + Send)) -> CoreError {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    tracing::error!(core = index, %message, "data core panicked");
    CoreError::Panicked { index, message }
}

fn run_thread<P: Pump>(
    config: CoreConfig,
    socket: UdpSocket,
    mesh: MeshEnd<P::Mail>,
    make: impl FnOnce() -> P,
    ready: SyncSender<()>,
) -> Result<(), CoreError> {
    let index = config.index;
    let at = |step| {
        move |source| CoreError::Io {
            index,
            step,
            source,
        }
    };
    if let Some(cpu) = config.cpu {
        crate::cpu::pin_current_thread(cpu).map_err(at("pinning the thread"))?;
    }
    // Naps last tens of microseconds; by default the kernel lets a sleep end 50 µs
    // late. A kernel without the setting only makes naps longer.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    // Pinned already, and by our own reading of the machine: glommio's asks
    // /sys for a topology which containers may not show. Its helper thread for
    // blocking calls inherits the pin.
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("pinion")
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(io::Error::from)
        .map_err(at("making the executor"))?;
    executor.run(async move {
        let heartbeat = config.heartbeat.map(|every| {
            glommio::spawn_local(async move {
                loop {
                    glommio::timer::sleep(every.max(HEARTBEAT_MIN)).await;
                }
            })
        });
        let mut core = Core::new(&config, socket, mesh).map_err(at("making the core's rings"))?;
        if let Some(disk) = &config.disk {
            let opened = Disk::open(disk, core.mesh.eventfd());
            core.disk = Some(opened.map_err(at("opening the data directory"))?);
        }
        // Nobody to tell is no reason to stop.
        let _ = ready.send(());
        let made = catch_unwind(AssertUnwindSafe(make));
        let mut pump = made.map_err(|panic| panicked(index, &*panic))?;
        let ended = contained(index, core.run(&mut pump)).await;
        // Dropping the pump runs its code, too.
        let dropped = catch_unwind(AssertUnwindSafe(move || drop(pump)));
        if let Some(heartbeat) = heartbeat {
            heartbeat.cancel().await;
        }
        ended.and(dropped.map_err(|panic| panicked(index, &*panic)))
    })
}

struct Core<M> {
    config: CoreConfig,
    receiver: Receiver,
    sender: Sender<SocketWire>,
    mesh: MeshEnd<M>,
    wait: WaitRing,
    nap: Nap,
    /// On the same bell as `wait`. Dropping it waits for what is in flight.
    disk: Option<Disk>,
    /// glommio's handle of the mesh's eventfd.
    bell: BufferedFile,
    /// An eventfd of the core's own, written and read to make glommio pass
    /// through its rings.
    pass: OwnedFd,
    pass_file: BufferedFile,
    spin: AdaptiveSpin,
    /// For waits that began while the disk had something to do.
    disk_spin: AdaptiveSpin,
    stats: CoreStats,
    stall_logged: Option<Instant>,
    /// A send met a full socket buffer in the last turn.
    blocked: bool,
    /// A mail met a full mailbox in the last turn.
    mail_refused: bool,
    /// The pump had nothing to do, and until this time only something new changes
    /// that: turns that bring nothing do not drive it.
    resting_until: Option<Instant>,
}

/// Least time a core has found nothing before it thinks of a nap, so that under
/// load nobody asks what wait is usual; and the least nap that is worth a system call.
const NAP_AFTER: Duration = Duration::from_micros(5);

/// How long a pump without a deadline may rest.
const REST_MAX: Duration = Duration::from_millis(10);

/// What a turn did.
struct Turn {
    worked: bool,
    /// When it ended.
    end: Instant,
    /// The time `drive` was told.
    driven_at: Instant,
}

impl<M: Send + 'static> Core<M> {
    fn new(config: &CoreConfig, socket: UdpSocket, mesh: MeshEnd<M>) -> io::Result<Self> {
        let state = Arc::new(UdpSocketState::new((&socket).into())?);
        let socket = Arc::new(socket);
        let wait = WaitRing::new(socket.as_fd(), mesh.eventfd())?;
        let nap = Nap::new(socket.as_fd())?;
        // Blocking, as the ring's read of it must wait in the kernel.
        let pass = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self {
            config: config.clone(),
            receiver: Receiver::new(Arc::clone(&socket), Arc::clone(&state)),
            sender: Sender::new(SocketWire::new(socket, state), config.gso),
            wait,
            nap,
            disk: None,
            bell: glommio_file(mesh.eventfd().try_clone_to_owned()?),
            mesh,
            pass_file: glommio_file(pass.try_clone()?),
            pass,
            spin: AdaptiveSpin::new(config.spin),
            disk_spin: AdaptiveSpin::new(config.spin.for_disk()),
            stats: CoreStats::default(),
            stall_logged: None,
            blocked: false,
            mail_refused: false,
            resting_until: None,
        })
    }

    async fn run<P: Pump<Mail = M>>(&mut self, pump: &mut P) -> Result<(), CoreError> {
        let index = self.config.index;
        let at = |step| {
            move |source| CoreError::Io {
                index,
                step,
                source,
            }
        };
        let mut now = Instant::now();
        let mut last_work = now;
        let mut last_pass = now;
        let mut last_yield = now;
        let mut parked = false;
        // Since when nothing came, without the nap.
        let mut looking_since = now;
        let mut idle = false;
        let mut napped = false;
        // While nothing came, the disk had something to do.
        let mut disk_awaited = false;
        loop {
            let start = now;
            let turn = self.turn(pump, now).map_err(at("submitting to the disk"))?;
            if pump.finished() {
                return Ok(());
            }
            // Turns follow each other, so the end of one is the start of the
            // next: a look at the clock is a twentieth of an idle turn.
            now = turn.end;
            if turn.worked {
                let waited = start - last_work;
                if disk_awaited {
                    if parked {
                        self.disk_spin.observe(waited);
                    }
                } else {
                    if idle {
                        self.spin.note(waited);
                    }
                    if parked {
                        self.spin.observe(waited);
                    }
                }
                (idle, napped, parked) = (false, false, false);
                disk_awaited = false;
                last_work = turn.end;
                looking_since = turn.end;
            } else {
                idle = true;
            }
            let disk_is_busy = self.disk.as_ref().is_some_and(Disk::is_busy);
            disk_awaited |= disk_is_busy && !turn.worked;
            let budget = if disk_is_busy {
                self.disk_spin.budget().max(self.spin.budget())
            } else {
                self.spin.budget()
            };
            if turn.worked || turn.end - looking_since < budget {
                let yield_due = !turn.worked || now - last_yield >= self.config.yield_every;
                if yield_due && disk_is_busy {
                    thread::yield_now();
                    now = Instant::now();
                    last_yield = now;
                }
                if turn.end - last_pass >= self.config.reactor_pass_every {
                    self.reactor_pass()
                        .await
                        .map_err(at("passing through the rings"))?;
                    now = Instant::now();
                    last_pass = now;
                }
                if idle && !napped && turn.end - last_work >= NAP_AFTER {
                    napped = true;
                    if self.nap_first(last_work, now).map_err(at("napping"))? {
                        now = Instant::now();
                        looking_since = now;
                    }
                }
                continue;
            }
            let deadline = pump.next_deadline();
            let spin = if disk_awaited {
                &self.disk_spin
            } else {
                &self.spin
            };
            let nap = spin.is_lively()
                && turn.end - last_work < NAP_MAX
                && turn.end - last_pass < self.config.reactor_pass_every;
            let slept = self
                .park(deadline, &turn, nap)
                .await
                .map_err(at("parking"))?;
            now = Instant::now();
            if slept {
                parked = true;
                if !nap {
                    last_pass = now;
                }
            }
        }
    }

    fn turn<P: Pump<Mail = M>>(&mut self, pump: &mut P, start: Instant) -> io::Result<Turn> {
        self.blocked = false;
        self.mail_refused = false;
        let received = self.receiver.receive(
            DATAGRAMS_PER_TURN_MAX,
            DATAGRAM_BYTES_PER_TURN_MAX,
            |meta, data| pump.handle_datagram(start, meta, data),
        );
        // The clock is read only after a phase that did something: an idle spin
        // reads it once a turn.
        let after_receive = if received.datagrams > 0 {
            Instant::now()
        } else {
            start
        };
        let mails = self.mesh.drain(MAILS_PER_TURN_MAX, |from, mail| {
            pump.handle_mail(after_receive, from, mail);
        });
        let mut ended = false;
        while let Some(port) = self.mesh.take_ended() {
            ended = true;
            pump.handle_ended(after_receive, port);
        }
        let after_mail = if mails > 0 {
            Instant::now()
        } else {
            after_receive
        };
        let steps = match &mut self.disk {
            Some(disk) => disk.poll(after_mail, |done| pump.handle_disk(after_mail, done))?,
            None => 0,
        };
        let after_disk = if steps > 0 {
            Instant::now()
        } else {
            after_mail
        };
        let received_any = received.datagrams > 0 || received.errors > 0;
        let news = received_any || mails > 0 || ended || steps > 0;
        let resting = !news && self.resting_until.is_some_and(|until| after_disk < until);
        let driven = !resting && self.drive(pump, after_disk);
        if let Some(disk) = &mut self.disk {
            disk.submit()?;
        }
        let end = Instant::now();
        let worked = driven || news;
        if worked {
            self.stats.turns_busy += 1;
            self.stats.busy += end - start;
            self.stats.datagrams_received += received.datagrams as u64;
            self.stats.receive_errors += received.errors as u64;
            self.stats.mails_received += mails as u64;
        }
        if end - start > self.config.stall_after {
            let phases = [
                (Phase::Receive, after_receive - start),
                (Phase::Mail, after_mail - after_receive),
                (Phase::Disk, after_disk - after_mail),
                (Phase::Drive, end - after_disk),
            ];
            let stall = self.stall(end, end - start, phases);
            pump.handle_stall(stall);
        }
        Ok(Turn {
            worked,
            end,
            driven_at: after_disk,
        })
    }

    /// Drives the pump, and learns for how long it needs not to be driven again.
    fn drive<P: Pump<Mail = M>>(&mut self, pump: &mut P, now: Instant) -> bool {
        let mut io = Io {
            disk: self.disk.as_mut().map(|disk| (disk, now)),
            sender: &mut self.sender,
            mesh: &mut self.mesh,
            stats: &self.stats,
            blocked: &mut self.blocked,
            mail_refused: &mut self.mail_refused,
        };
        let driven = pump.drive(now, &mut io);
        let rests = !driven && !self.blocked && !self.mail_refused;
        self.resting_until = rests.then(|| pump.next_deadline().unwrap_or(now + REST_MAX));
        driven
    }

    #[cold]
    fn stall(&mut self, now: Instant, duration: Duration, phases: [(Phase, Duration); 4]) -> Stall {
        let (phase, phase_duration) = phases
            .into_iter()
            .max_by_key(|(_, took)| *took)
            .expect("four phases");
        self.stats.stalls += 1;
        if self
            .stall_logged
            .is_none_or(|last| now - last >= STALL_LOG_INTERVAL)
        {
            self.stall_logged = Some(now);
            let (core, stalls) = (self.config.index, self.stats.stalls);
            tracing::warn!(
                core,
                ?duration,
                ?phase,
                ?phase_duration,
                stalls,
                "a turn took too long"
            );
        }
        Stall {
            duration,
            phase,
            phase_duration,
        }
    }

    /// One real pass of glommio through its rings: the write makes the read
    /// ready, and awaiting the read makes glommio submit and reap.
    async fn reactor_pass(&mut self) -> io::Result<()> {
        rustix::io::write(&self.pass, &1_u64.to_ne_bytes())?;
        self.pass_file.read_at(0, 8).await?;
        Ok(())
    }

    /// Sleeps until there is something to do, or not for long if `nap`. False when
    /// there already was something.
    async fn park(
        &mut self,
        deadline: Option<Instant>,
        turn: &Turn,
        nap: bool,
    ) -> io::Result<bool> {
        let deadline = match deadline {
            Some(due) if due <= turn.driven_at => Some(turn.end + OVERDUE_RETRY),
            Some(due) if due <= turn.end => return Ok(false),
            other => other,
        };
        let retry = self.mail_refused.then(|| turn.end + MAIL_RETRY);
        let deadline = deadline.into_iter().chain(retry).min();
        if nap {
            return self.take_nap(deadline, turn.end);
        }
        if self.wait.prepare(deadline, self.blocked)? {
            return Ok(false);
        }
        if let Some(disk) = &mut self.disk
            && disk.prepare()?
        {
            return Ok(false);
        }
        let may_sleep = self.mesh.prepare_sleep()
            && self.mesh.knows_ended()
            && self.wait.open_gate()
            && self.disk.as_mut().is_none_or(Disk::open_gate);
        if may_sleep {
            self.stats.parks += 1;
            self.bell.read_at(0, 8).await?;
        }
        self.wait.close_gate();
        if let Some(disk) = &mut self.disk {
            disk.close_gate();
        }
        self.mesh.rise();
        Ok(may_sleep)
    }

    /// Sleeps through the first half of a wait of the usual length that began at
    /// `since`. False when that is not worth it, or not allowed: a pump that does
    /// not rest is driven every turn, and what the disk is doing is over soon.
    fn nap_first(&mut self, since: Instant, now: Instant) -> io::Result<bool> {
        let Some(deadline) = self.resting_until else {
            return Ok(false);
        };
        let until = deadline.min(since + self.spin.nap());
        if until < now + NAP_AFTER || self.disk.as_ref().is_some_and(Disk::is_busy) {
            return Ok(false);
        }
        self.take_nap(Some(until), now)
    }

    /// The short way of [`Self::park`]. The gate of the wait ring stays closed.
    fn take_nap(&mut self, deadline: Option<Instant>, now: Instant) -> io::Result<bool> {
        if let Some(disk) = &mut self.disk
            && disk.prepare()?
        {
            return Ok(false);
        }
        let may_sleep = self.mesh.prepare_sleep()
            && self.mesh.knows_ended()
            && self.disk.as_mut().is_none_or(Disk::open_gate);
        if may_sleep {
            self.stats.parks += 1;
            self.stats.naps += 1;
            let longest = deadline.map_or(NAP_MAX, |due| due.saturating_duration_since(now));
            self.nap.sleep(self.mesh.eventfd(), longest, self.blocked)?;
        }
        if let Some(disk) = &mut self.disk {
            disk.close_gate();
        }
        self.mesh.rise();
        Ok(may_sleep)
    }
}

/// Runs `future` to its end or to its panic. A panic leaves the pump in a state
/// nobody knows; it is not used again, only dropped.
async fn contained(
    index: usize,
    future: impl Future<Output = Result<(), CoreError>>,
) -> Result<(), CoreError> {
    let mut future = pin!(future);
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(index, &*panic))))
    })
    .await
}

/// Gives an eventfd to glommio to read.
fn glommio_file(fd: OwnedFd) -> BufferedFile {
    // SAFETY: the descriptor is open and owned, and `into_raw_fd` gives the
    // ownership up to the file, which closes it once.
    unsafe { BufferedFile::from_raw_fd(fd.into_raw_fd()) }
}
