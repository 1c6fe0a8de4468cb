//! Requests that are not answered yet, and when each has to be.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pinion_metadata::Envelope;
use pinion_raft_group::ReadId;
use pinion_types::Monotonic;

use crate::request::{PlaneError, Query, RequestId};

/// How far a request is.
#[derive(Debug)]
pub(crate) enum State {
    /// A write that waits for somebody to lead, and the bytes that it will have.
    Waiting(Box<Waiting>, usize),
    /// A write in the group's log, by the number of its proposal, and who asked for it.
    Proposed(u64, Option<SocketAddr>),
    /// A read that waits for the group to say how new it must be.
    Asked(ReadId, Query),
    /// A row of the audit log that is not durable yet.
    Recording,
    /// A query of the audit log.
    Searching,
    /// A query of the audit logs of all nodes.
    Gathering,
}

/// A command that is not proposed yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) envelope: Envelope,
    pub(crate) remote: Option<SocketAddr>,
}

impl State {
    /// What to answer when nothing better will be known.
    pub(crate) fn given_up(&self, why: PlaneError) -> PlaneError {
        match self {
            Self::Proposed(..) => PlaneError::Unknown,
            Self::Waiting(..)
            | Self::Asked(..)
            | Self::Recording
            | Self::Searching
            | Self::Gathering => why,
        }
    }
}

#[derive(Debug)]
struct Pending {
    deadline: Monotonic,
    state: State,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    by_id: BTreeMap<RequestId, Pending>,
    deadlines: BTreeSet<(Monotonic, RequestId)>,
    /// Writes in [`State::Waiting`], in the order in which they came.
    waiting: VecDeque<RequestId>,
    waiting_bytes: usize,
}

impl Requests {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Bytes of the commands that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(crate) fn contains(&self, id: RequestId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Takes a new request.
    pub(crate) fn insert(&mut self, id: RequestId, deadline: Monotonic, state: State) {
        if let State::Waiting(_, bytes) = &state {
            self.waiting_bytes += bytes;
            self.waiting.push_back(id);
        }
        self.deadlines.insert((deadline, id));
        self.by_id.insert(id, Pending { deadline, state });
    }

    /// The write that waits longest was not taken after all.
    pub(crate) fn put_back(&mut self, id: RequestId, deadline: Monotonic, state: State) {
        self.insert(id, deadline, state);
        self.waiting.rotate_right(1);
    }

    /// The request is answered, or goes on in another state; its deadline, too.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<(Monotonic, State)> {
        let Pending { deadline, state } = self.by_id.remove(&id)?;
        self.deadlines.remove(&(deadline, id));
        if let State::Waiting(_, bytes) = &state {
            self.waiting_bytes -= bytes;
            // The oldest, nearly always: writes leave in the order in which they came,
            // and deadlines are about equally far.
            if let Some(at) = self.waiting.iter().position(|waiting| *waiting == id) {
                self.waiting.remove(at);
            }
        }
        Some((deadline, state))
    }

    /// The request is answered by `at` if it is not before.
    pub(crate) fn hurry(&mut self, id: RequestId, at: Monotonic) {
        if let Some(pending) = self.by_id.get_mut(&id)
            && at < pending.deadline
        {
            self.deadlines.remove(&(pending.deadline, id));
            self.deadlines.insert((at, id));
            pending.deadline = at;
        }
    }

    /// The address that a proposed write came from.
    pub(crate) fn remote(&self, id: RequestId) -> Option<SocketAddr> {
        match &self.by_id.get(&id)?.state {
            State::Proposed(_, remote) => *remote,
            State::Waiting(..)
            | State::Asked(..)
            | State::Recording
            | State::Searching
            | State::Gathering => None,
        }
    }

    /// The write that waits longest.
    pub(crate) fn first_waiting(&self) -> Option<RequestId> {
        self.waiting.front().copied()
    }

    /// A request whose deadline is over.
    pub(crate) fn expired(&self, now: Monotonic) -> Option<RequestId> {
        let (deadline, id) = self.deadlines.first()?;
        (*deadline <= now).then_some(*id)
    }

    /// Any request.
    pub(crate) fn first(&self) -> Option<RequestId> {
        self.by_id.keys().next().copied()
    }

    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }
}
