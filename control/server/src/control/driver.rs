//! The plane with what it needs of the world: its disk, its clocks, and a thread
//! for snapshots.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pinion_commitlog::{DiskRequest, LogId};
use pinion_plane::{PeerName, Plane, PlaneNotice, PlaneOutput};
use pinion_types::Monotonic;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::disk::{Disk, Finished};
use super::network::Network;
use crate::wall_now;

/// The target of what is told of every step of a change on its way: `PINION_LOG` shows it
/// with `pinion::steps=trace`. `plane-bench` reads it.
pub(super) const STEPS: &str = "pinion::steps";

/// Something that the plane waits for.
pub(super) enum Happened {
    Disk(Finished),
    /// A snapshot, and of which entry.
    Encoded(u64, Vec<u8>),
    /// Its time has come.
    Due,
    /// Something of the other nodes.
    Network,
}

/// A plane at work. A turn is [`Driver::begin`], what is asked of
/// [`Driver::plane`], and [`Driver::finish`].
pub(super) struct Driver {
    pub(super) plane: Plane,
    disk: Disk,
    /// The other nodes, when there is a cluster.
    network: Option<Network>,
    started: Instant,
    /// At most one snapshot is under way.
    encoded: UnboundedReceiver<(u64, Vec<u8>)>,
    encoder: UnboundedSender<(u64, Vec<u8>)>,
    /// There is no room for the audit log.
    audit_full: bool,
    /// What the disk is to do next.
    to_write: Vec<(LogId, DiskRequest)>,
}

impl Driver {
    pub(super) fn new(plane: Plane, disk: Disk, network: Option<Network>) -> Self {
        let (encoder, encoded) = unbounded_channel();
        Self {
            plane,
            disk,
            network,
            started: Instant::now(),
            encoded,
            encoder,
            audit_full: false,
            to_write: Vec::new(),
        }
    }

    /// The plane's clock.
    pub(super) fn now(&self) -> Monotonic {
        let nanos = self.started.elapsed().as_nanos();
        Monotonic(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Whether the audit log waits for room.
    pub(super) fn is_audit_full(&self) -> bool {
        self.audit_full
    }

    /// Waits for the next thing. Cancel safe.
    pub(super) async fn happened(&mut self) -> Happened {
        let due = self.plane.next_deadline();
        let due = due.map(|at| self.started + Duration::from_nanos(at.0));
        let (disk, encoded) = (&mut self.disk, &mut self.encoded);
        let network = self.network.as_mut();
        tokio::select! {
            done = disk.done() => Happened::Disk(done),
            Some((index, bytes)) = encoded.recv() => Happened::Encoded(index, bytes),
            () = until(due) => Happened::Due,
            () = ready(network) => Happened::Network,
        }
    }

    /// Begins a turn with what has happened.
    pub(super) fn begin(&mut self, happened: Option<Happened>) {
        let now = self.now();
        self.plane.start_turn(now, wall_now());
        match happened {
            Some(Happened::Disk(finished)) => self.take_done(finished),
            Some(Happened::Encoded(index, bytes)) => self.plane.handle_encoded(index, bytes),
            Some(Happened::Due | Happened::Network) | None => {}
        }
        while let Some(finished) = self.disk.try_done() {
            self.take_done(finished);
        }
        if let Some(network) = &mut self.network {
            network.begin(&mut self.plane);
        }
        if self.plane.next_deadline().is_some_and(|at| at <= now) {
            self.plane.handle_timeout();
        }
    }

    fn take_done(&mut self, finished: Finished) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        tracing::trace!(
            target: STEPS,
            log = finished.log.0,
            waited = micros(finished.waited),
            took = micros(finished.took),
            back = micros(finished.at.elapsed()),
            "disk"
        );
        self.plane.handle_disk_done(finished.log, finished.done);
    }

    /// A frame of another node that came through the door of a core. Within a turn.
    pub(super) fn take_frame(&mut self, from: &PeerName, frame: &Bytes) {
        tracing::trace!(target: STEPS, %from, "heard");
        if let Some(network) = &mut self.network {
            network.take_frame(&mut self.plane, from, frame);
        }
    }

    /// Whether there are no other nodes.
    pub(super) fn is_alone(&self) -> bool {
        self.network.is_none()
    }

    /// The cores take over the node's sockets.
    pub(super) fn leave_lobby(&mut self) {
        if let Some(network) = &mut self.network {
            network.leave_lobby();
        }
    }

    /// The others are told that the node ends.
    pub(super) fn hang_up(&mut self) {
        if let Some(network) = &mut self.network {
            network.close();
        }
    }

    /// Ends it: `outputs` gets what is for others; what is for other nodes and for the disk
    /// waits for [`Driver::flush`].
    pub(super) fn finish(&mut self, outputs: &mut VecDeque<PlaneOutput>) {
        self.plane.end_turn();
        loop {
            while let Some(output) = self.plane.poll_output() {
                match output {
                    PlaneOutput::Encode { index, source } => {
                        let encoder = self.encoder.clone();
                        tokio::task::spawn_blocking(move || {
                            // Nobody waits for it any more when the node ends.
                            let _ = encoder.send((index, source.encode()));
                        });
                    }
                    PlaneOutput::Notice(notice) => self.say(&notice),
                    PlaneOutput::Send { to, message } => {
                        tracing::trace!(target: STEPS, %to, "sent");
                        if let Some(network) = &mut self.network
                            && !network.send(&to, &message)
                        {
                            self.plane.handle_unsent(&message);
                        }
                    }
                    PlaneOutput::Peers(peers) => {
                        if let Some(network) = &mut self.network {
                            network.set(&peers);
                        }
                    }
                    PlaneOutput::Role { role, leader, term } => {
                        let leader = leader.as_ref().map_or("nobody", PeerName::as_str);
                        tracing::info!(leader, ?role, term, "who leads");
                    }
                    output => outputs.push_back(output),
                }
            }
            let Some(request) = self.plane.poll_disk() else {
                break;
            };
            self.to_write.push(request);
        }
    }

    /// Whether [`Driver::flush`] begins something that takes its time.
    pub(super) fn has_writes(&self) -> bool {
        !self.to_write.is_empty()
    }

    /// What the last turn said leaves: to the other nodes first, because an entry is on its
    /// way to them and back for longer than it is on its way to the disk.
    pub(super) fn flush(&mut self) {
        if let Some(network) = &mut self.network {
            network.finish();
        }
        for (log, request) in self.to_write.drain(..) {
            self.disk.submit(log, request);
        }
    }

    fn say(&mut self, notice: &PlaneNotice) {
        match notice {
            PlaneNotice::Group(notice) => say_group(notice),
            PlaneNotice::ClockBehind { by_ms } => tracing::warn!(
                by_ms,
                "the wall clock is behind the times in the metadata: they stand still until it has caught up"
            ),
            PlaneNotice::AuditFailed(error) => tracing::error!(
                %error,
                "the audit log takes no more: nothing is changed any more. \
                 Check the disk and start the node again"
            ),
            PlaneNotice::AuditFull(full) => {
                self.audit_full = *full;
                if *full {
                    tracing::warn!(
                        "no space for the audit log: nothing is changed but what takes away; \
                         trying again each second"
                    );
                } else {
                    tracing::info!("the audit log has room again");
                }
            }
            PlaneNotice::AuditDamaged(damage) => {
                tracing::error!(%damage, "rows of the audit log cannot be read");
            }
            PlaneNotice::NotRegistered(error) => {
                tracing::warn!(%error, "this node could not be registered; trying again");
            }
            PlaneNotice::OtherList(node) => tracing::warn!(
                %node,
                "lists other nodes in cluster.initial: the cluster begins when all list the same"
            ),
            PlaneNotice::NameInUse => tracing::warn!(
                "a node of this name lives in the cluster; give this one another cluster.node, \
                 or wait until that one is down"
            ),
            PlaneNotice::JoinRefused(error) => {
                tracing::warn!(%error, "a node that wants to join is refused");
            }
            PlaneNotice::TooManyMembers { limit } => tracing::warn!(
                limit,
                "a member cannot take part: the group has as many as it may"
            ),
            PlaneNotice::Halted(halt) => tracing::error!(
                %halt,
                "the control plane of this node has stopped; what exists is served"
            ),
        }
    }
}

fn say_group(notice: &pinion_raft_group::Notice) {
    use pinion_raft_group::Notice;
    match notice {
        Notice::Failed(error) => tracing::error!(
            %error,
            "the log of the metadata takes no more: a write failed. What exists is served. \
             Check the disk and start the node again"
        ),
        Notice::ReadOnly(true) => {
            tracing::warn!(
                "no space for the log of the metadata: nothing is changed but what takes away; \
                 trying again each second"
            );
        }
        notice => tracing::info!(?notice, "the metadata's group"),
    }
}

async fn ready(network: Option<&mut Network>) {
    match network {
        Some(network) => network.ready().await,
        None => std::future::pending().await,
    }
}

/// At `due`; never without one. Cancel safe.
pub(super) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
