//! What cores and the control thread say to each other. Every box that holds
//! these is bounded; nothing else is shared.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use pinion_types::{CoreId, Epoch, Refusal, ResourceKind, ResourceName, SessionId, SubscriptionId};
use pinion_wire::message::Spec;

pub use pinion_shard::Origin;

use crate::access::{AccessTable, TenantId};
use crate::map::Resource;
use crate::stats::CoreStats;

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
        /// Number the connection gave an append session, when it begins one or uses one.
        append: u64,
        /// The request's opcode.
        opcode: u8,
        /// Its body, owned because it leaves the connection's buffers.
        body: Box<[u8]>,
    },
    /// The answer to [`CoreMail::Request`]: a whole frame.
    Reply {
        /// Whom it is for.
        origin: Origin,
        /// The encoded reply.
        frame: Vec<u8>,
    },
    /// Bytes for a subscription's stream; shared, never copied.
    Deliver {
        /// The connection.
        session: SessionId,
        /// The subscription on it.
        subscription: SubscriptionId,
        /// Whole frames.
        chunk: Bytes,
        /// What it took from the subscription's window.
        charge: u32,
        /// Nothing follows.
        end: bool,
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
    /// The client stopped reading the subscription's stream; no answer is due.
    Unsubscribe {
        /// The connection.
        session: SessionId,
        /// The subscription on it.
        subscription: SubscriptionId,
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
    /// The answer to [`ControlMail::Declare`].
    DeclareDone {
        /// Whom it is for.
        origin: Origin,
        /// The resource, or why there is none.
        result: Result<Arc<Resource>, Refusal>,
    },
    /// A new access table is in force.
    Access(Arc<AccessTable>),
    /// Take no more work, flush, close.
    Drain,
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
    },
    /// The core has closed its last connection after a drain.
    Drained {
        /// Which core.
        core: CoreId,
        /// What it counted.
        stats: Box<CoreStats>,
    },
}

/// Mails on their way to other cores, one lane each: a core that is behind
/// holds up nobody's mail but its own.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Box<[VecDeque<CoreMail>]>,
    /// Lanes whose box was full in this turn.
    full: Box<[bool]>,
    waiting: usize,
    next: usize,
}

impl Lanes {
    pub(crate) fn new(data_cores: u16) -> Self {
        Self {
            lanes: (0..data_cores).map(|_| VecDeque::new()).collect(),
            full: vec![false; usize::from(data_cores)].into(),
            waiting: 0,
            next: 0,
        }
    }

    /// Mails not yet taken.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    pub(crate) fn push(&mut self, to: CoreId, mail: CoreMail) {
        self.lanes[usize::from(to.0)].push_back(mail);
        self.waiting += 1;
    }

    /// The box of `to` was full: the mail stays first in its lane, which rests
    /// until the next turn.
    pub(crate) fn refused(&mut self, to: CoreId, mail: CoreMail) {
        self.lanes[usize::from(to.0)].push_front(mail);
        self.full[usize::from(to.0)] = true;
        self.waiting += 1;
    }

    pub(crate) fn start_turn(&mut self) {
        self.full.fill(false);
    }

    pub(crate) fn pop(&mut self) -> Option<(CoreId, CoreMail)> {
        if self.waiting == 0 {
            return None;
        }
        for _ in 0..self.lanes.len() {
            let lane = self.next;
            if !self.full[lane]
                && let Some(mail) = self.lanes[lane].pop_front()
            {
                self.waiting -= 1;
                let to = u16::try_from(lane).expect("one lane per data core");
                return Some((CoreId(to), mail));
            }
            self.next = (lane + 1) % self.lanes.len();
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
            if to == CoreId(1) && !lanes.full[1] {
                lanes.refused(to, mail);
            } else {
                assert_eq!(to, CoreId(2));
                seen.push(mail);
            }
        }
        assert_eq!((seen.len(), lanes.len()), (3, 3));
        lanes.start_turn();
        let mut bytes = Vec::new();
        while let Some((to, mail)) = lanes.pop() {
            assert_eq!(to, CoreId(1));
            if let CoreMail::Window { bytes: b, .. } = mail {
                bytes.push(b);
            }
        }
        assert_eq!(bytes, [0, 1, 2]);
    }
}
