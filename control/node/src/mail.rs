//! What cores and the control thread say to each other. Every box that holds
//! these is bounded; nothing else is shared.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use pinion_commitlog::{Damage, DiskError, LogId};
use pinion_types::{
    CoreId, Epoch, ErrorCode, PartitionId, Refusal, ResourceId, ResourceKind, ResourceName,
    SessionId, SubscriptionId,
};
use pinion_wire::message::Spec;

pub use pinion_shard::{Origin, Subscriber};

use crate::access::{AccessTable, TenantId};
use crate::map::Resource;
use crate::pins::{PinOrder, PinnedLogs};
use crate::quota::{CoreReport, QuotaTable};
use crate::stats::CoreStats;
use crate::views::{Question, View};

/// From a data core, or the control thread, to a data core.
#[derive(Debug)]
pub enum CoreMail {
    /// Run a request here: this core owns the partition. It was authorised
    /// where its connection lives.
    Request {
        /// Whom to answer.
        origin: Origin,
        /// What it is about.
        resource: Arc<Resource>,
        /// Where in it.
        partition: PartitionId,
        /// Number the connection gave the append session or subscription that
        /// the request begins or uses; 0 without one.
        number: u64,
        /// The request's opcode.
        opcode: u8,
        /// Its body, owned because it leaves the connection's buffers.
        body: Box<[u8]>,
    },
    /// The answer to [`CoreMail::Request`]: a whole frame.
    Reply {
        /// Whom it is for.
        origin: Origin,
        /// The encoded reply; nothing when the request succeeded in silence.
        frame: Vec<u8>,
        /// The correlation id is in flight. A publish that asks for no answer
        /// is not, and yet its refusal is told.
        awaited: bool,
    },
    /// Bytes for a subscription's stream; shared, never copied.
    Deliver {
        /// Whose.
        to: Subscriber,
        /// What it is.
        piece: Piece,
        /// The bytes.
        chunk: Bytes,
        /// What it took from the subscription's window.
        charge: u32,
    },
    /// The client granted credit.
    Credit {
        /// The connection.
        session: SessionId,
        /// The subscription on it.
        subscription: SubscriptionId,
        /// Records granted.
        records: u32,
        /// Bytes granted.
        bytes: u32,
    },
    /// The transport took delivered bytes.
    Window {
        /// The connection.
        session: SessionId,
        /// The subscription on it.
        subscription: SubscriptionId,
        /// Bytes taken.
        bytes: u32,
    },
    /// The connection's core ends a subscription. With a code the client is
    /// told by END; without one it has stopped reading the stream.
    Unsubscribe {
        /// The connection.
        session: SessionId,
        /// The subscription on it.
        subscription: SubscriptionId,
        /// What END says.
        code: Option<ErrorCode>,
    },
    /// The connection is gone: drop what it had here. Sent after every request
    /// of the connection on the same lane, so none can follow it.
    SessionGone {
        /// The connection.
        session: SessionId,
    },
    /// A resource exists.
    Declared {
        /// Epoch of the map that has it.
        epoch: Epoch,
        /// What it is.
        resource: Arc<Resource>,
    },
    /// A resource has another specification, with as many partitions in the same places.
    /// What is under way goes by the one of before.
    Changed {
        /// Version of the change, at least that of the mails before.
        epoch: Epoch,
        /// What it is now.
        resource: Arc<Resource>,
    },
    /// A resource is deleted, and that may be taken back: its name is free for nobody,
    /// it serves nobody, its data stays as it is. At a start between
    /// [`CoreMail::Declared`] and the opening of the logs.
    Closed {
        /// Version of the change, at least that of the mails before.
        epoch: Epoch,
        /// Which.
        resource: ResourceId,
    },
    /// The deletion was taken back.
    Reopened {
        /// Version of the change, at least that of the mails before.
        epoch: Epoch,
        /// What it is.
        resource: Arc<Resource>,
    },
    /// A resource and its data are gone for good, because somebody asked for that by
    /// name; never because it is not known. Answered with [`ControlMail::Purged`];
    /// again when it is sent again. At a start after the logs are open.
    Purge {
        /// Version of the change, at least that of the mails before.
        epoch: Epoch,
        /// Which; the core need not know it.
        resource: ResourceId,
    },
    /// The answer to [`ControlMail::Declare`].
    DeclareDone {
        /// Whom it is for.
        origin: Origin,
        /// The resource, or why there is none.
        result: Result<Arc<Resource>, Refusal>,
    },
    /// A new access table is in force.
    Access(Arc<AccessTable>),
    /// Quotas, or this core's share of them, have changed.
    Quotas(Arc<QuotaTable>),
    /// The node is to be backed up: hold the logs still. Answered with
    /// [`ControlMail::Pinned`].
    Pin(PinOrder),
    /// The backup of this number is over.
    Unpin {
        /// Which.
        backup: u64,
    },
    /// Take no more work, flush, close.
    Drain,
    /// A core that drains has sent its last request: what it was owed here is
    /// behind this in nobody's lane.
    NoMoreRequests,
    /// Somebody looks into the core. Answered with [`ControlMail::View`], once.
    Question {
        /// Given back with the answer.
        id: u64,
        /// What is asked.
        question: Box<Question>,
    },
}

impl CoreMail {
    /// What it holds of memory, roughly, in bytes.
    fn weight(&self) -> usize {
        let payload = match self {
            Self::Request { body, .. } => body.len(),
            Self::Reply { frame, .. } => frame.len(),
            Self::Deliver { chunk, .. } => chunk.len(),
            _ => 0,
        };
        size_of::<Self>() + payload
    }
}

/// What goes to a subscription's stream at once: all of it or nothing, so that what follows is
/// a frame of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Whole frames.
    Frames,
    /// An event of a watch, which the cache encoded once for all watches: the head of its
    /// frame goes before it.
    Event,
    /// END: nothing follows.
    End,
}

/// From a data core to the control thread.
#[derive(Debug)]
pub enum ControlMail {
    /// Find or create a resource.
    Declare {
        /// Whom the answer is for.
        origin: Origin,
        /// Whose resource.
        tenant: TenantId,
        /// Stream or cache.
        kind: ResourceKind,
        /// Its address.
        name: ResourceName,
        /// Its specification, if the client gave one.
        spec: Option<Spec>,
        /// Who asks, as the audit log names them.
        who: Box<str>,
        /// From where; filled in by the pump.
        remote: Option<SocketAddr>,
    },
    /// Something happened to a log that people must know.
    Storage {
        /// The log.
        log: LogId,
        /// What.
        notice: StorageNotice,
    },
    /// A resource is declared, and a log of this core holds records of before under its
    /// number. They are not mixed with new ones: those partitions stay closed until the
    /// node has been started again.
    Barred {
        /// Which core.
        core: CoreId,
        /// The resource.
        resource: Arc<Resource>,
        /// How many of its partitions.
        partitions: u16,
    },
    /// What tenants with quotas use here, at most every
    /// [`REPORT_EVERY`](crate::quota::REPORT_EVERY).
    Report(Box<CoreReport>),
    /// Nothing of a resource is left on this core, and that holds over a restart.
    Purged {
        /// Which core.
        core: CoreId,
        /// The resource.
        resource: ResourceId,
    },
    /// The answer to [`CoreMail::Question`].
    View {
        /// Which core.
        core: CoreId,
        /// The question's.
        id: u64,
        /// What there is.
        view: Box<View>,
    },
    /// Answers [`CoreMail::Pin`].
    Pinned {
        /// Which core.
        core: CoreId,
        /// As in the order.
        backup: u64,
        /// Every log of the core.
        logs: PinnedLogs,
    },
    /// The core has closed its last connection after a drain.
    Drained {
        /// Which core.
        core: CoreId,
        /// What it counted.
        stats: Box<CoreStats>,
    },
}

/// What happened to a log.
#[derive(Clone, Debug)]
pub enum StorageNotice {
    /// A write failed. The log's partitions are closed until the node has been
    /// started again.
    Failed(DiskError),
    /// The disk is full (true), or has room again.
    ReadOnly(bool),
    /// Committed data is damaged. The partitions it belongs to are closed.
    Damaged(Damage),
}

/// Bytes of mails for one core above which requests for it are refused with
/// `Busy`, and its requests here too. Higher lets a core that is behind cost
/// more memory; lower refuses bursts that it would have caught up with.
/// Deliveries are not refused: their windows bound them.
pub(crate) const LANE_BYTES_HIGH: usize = 32 << 20;

/// Mails on their way to other cores, one lane each: a core that is behind
/// holds up nobody's mail but its own.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Box<[Lane]>,
    waiting: usize,
    next: usize,
}

#[derive(Debug, Default)]
struct Lane {
    mails: VecDeque<CoreMail>,
    bytes: usize,
    /// Its box was full in this turn.
    full: bool,
}

impl Lanes {
    pub(crate) fn new(data_cores: u16) -> Self {
        Self {
            lanes: (0..data_cores).map(|_| Lane::default()).collect(),
            waiting: 0,
            next: 0,
        }
    }

    /// Mails that wait, and their bytes, roughly.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.waiting, self.lanes.iter().map(|lane| lane.bytes).sum())
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Whether as much waits for `to` as may.
    pub(crate) fn is_high(&self, to: CoreId) -> bool {
        self.lanes[usize::from(to.0)].bytes >= LANE_BYTES_HIGH
    }

    pub(crate) fn push(&mut self, to: CoreId, mail: CoreMail) {
        let lane = &mut self.lanes[usize::from(to.0)];
        lane.bytes += mail.weight();
        lane.mails.push_back(mail);
        self.waiting += 1;
    }

    /// The box of `to` was full: the mail stays first in its lane, which rests
    /// until the next turn.
    pub(crate) fn refused(&mut self, to: CoreId, mail: CoreMail) {
        let lane = &mut self.lanes[usize::from(to.0)];
        lane.bytes += mail.weight();
        lane.mails.push_front(mail);
        lane.full = true;
        self.waiting += 1;
    }

    /// Nobody takes what waits for `to`, now or ever.
    pub(crate) fn drop_lane(&mut self, to: CoreId) {
        let lane = core::mem::take(&mut self.lanes[usize::from(to.0)]);
        self.waiting -= lane.mails.len();
    }

    pub(crate) fn start_turn(&mut self) {
        for lane in &mut self.lanes {
            lane.full = false;
        }
    }

    pub(crate) fn pop(&mut self) -> Option<(CoreId, CoreMail)> {
        if self.waiting == 0 {
            return None;
        }
        for _ in 0..self.lanes.len() {
            let index = self.next;
            let lane = &mut self.lanes[index];
            if !lane.full
                && let Some(mail) = lane.mails.pop_front()
            {
                lane.bytes -= mail.weight();
                self.waiting -= 1;
                let to = u16::try_from(index).expect("one lane per data core");
                return Some((CoreId(to), mail));
            }
            self.next = (index + 1) % self.lanes.len();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_box_holds_up_its_own_lane_only_and_keeps_the_order() {
        let mut lanes = Lanes::new(3);
        let window = |bytes| CoreMail::Window {
            session: SessionId {
                core: CoreId(0),
                token: 1,
            },
            subscription: SubscriptionId(1),
            bytes,
        };
        for bytes in 0..3 {
            lanes.push(CoreId(1), window(bytes));
            lanes.push(CoreId(2), window(10 + bytes));
        }
        let mut seen = Vec::new();
        while let Some((to, mail)) = lanes.pop() {
            if to == CoreId(1) && !lanes.lanes[1].full {
                lanes.refused(to, mail);
            } else {
                assert_eq!(to, CoreId(2));
                seen.push(mail);
            }
        }
        assert_eq!((seen.len(), lanes.waiting), (3, 3));
        lanes.start_turn();
        let mut bytes = Vec::new();
        while let Some((to, mail)) = lanes.pop() {
            assert_eq!(to, CoreId(1));
            if let CoreMail::Window { bytes: b, .. } = mail {
                bytes.push(b);
            }
        }
        assert_eq!(bytes, [0, 1, 2]);
        assert!(lanes.is_empty() && lanes.lanes.iter().all(|lane| lane.bytes == 0));
    }

    #[test]
    fn a_lane_is_high_by_its_bytes_alone() {
        let mut lanes = Lanes::new(2);
        let origin = Origin {
            session: SessionId {
                core: CoreId(1),
                token: 1,
            },
            stream: 0,
            correlation: 1,
        };
        for _ in 0..LANE_BYTES_HIGH >> 20 {
            assert!(!lanes.is_high(CoreId(1)));
            let frame = vec![0; 1 << 20];
            lanes.push(
                CoreId(1),
                CoreMail::Reply {
                    origin,
                    frame,
                    awaited: true,
                },
            );
        }
        assert!(lanes.is_high(CoreId(1)) && !lanes.is_high(CoreId(0)));
        lanes.pop();
        assert!(!lanes.is_high(CoreId(1)));
    }
}
