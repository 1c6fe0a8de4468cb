//! Reads of the metadata.

use pinion_raft_group::{ReadError, ReadId};
use pinion_types::Monotonic;

use super::{Plane, Reader, Ready};
use crate::pending::State;
use crate::request::{Answer, Consistency, PlaneError, Query, QueryValue, RequestId};

impl Plane {
    /// A read that sees everything decided before it: when it can be answered, this node
    /// has caught up with what was decided before it was opened.
    pub(super) fn ask_ready(&mut self) -> bool {
        if self.ready != Ready::No {
            return false;
        }
        let id = self.next_read();
        if self.group.read(self.now, id).is_err() {
            return false;
        }
        self.reads.insert(id, Reader::Ready);
        self.ready = Ready::Asked;
        true
    }

    pub(super) fn take_read(
        &mut self,
        id: RequestId,
        query: Query,
        consistency: Consistency,
        deadline: Monotonic,
    ) -> Result<(), PlaneError> {
        if consistency == Consistency::Stale && !self.halted {
            let answer = self.read(&query, true);
            self.answer(id, answer);
            return Ok(());
        }
        self.takes(deadline)?;
        let read = self.next_read();
        match self.group.read(self.now, read) {
            Ok(()) => {
                self.reads.insert(read, Reader::Request(id));
                let state = State::Asked(read, query);
                self.requests.insert(id, deadline, state);
                Ok(())
            }
            Err(ReadError::NotReady) => Err(PlaneError::NotReady),
            Err(ReadError::Busy { limit }) => {
                let limit = limit as u64;
                Err(PlaneError::Busy { limit })
            }
        }
    }

    fn next_read(&mut self) -> ReadId {
        self.last_read += 1;
        ReadId(self.last_read)
    }

    pub(super) fn answer_read(&mut self, id: RequestId) {
        if let Some((_, State::Asked(_, query))) = self.requests.remove(id) {
            let answer = self.read(&query, false);
            self.answer(id, answer);
        }
    }

    fn read(&self, query: &Query, stale: bool) -> Answer {
        let Some(machine) = &self.machine else {
            return Answer::Refused(PlaneError::NotReady);
        };
        let value = match query {
            Query::Get(key) => QueryValue::Object(machine.get(key).cloned()),
            Query::List(list) => QueryValue::Page(machine.list(list)),
            Query::Snapshot => QueryValue::Snapshot(machine.snapshot()),
        };
        Answer::Read {
            version: machine.version(),
            stale,
            value,
        }
    }
}
