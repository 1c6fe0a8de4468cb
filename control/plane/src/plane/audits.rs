//! Rows of the audit log about what is no command, and queries of it: of this node, of all
//! nodes, and of other nodes to this one.

use pinion_types::Monotonic;

use super::Plane;
use crate::audit::{
    AuditAsk, AuditAsker, AuditEverywhere, AuditPage, AuditQuery, AuditResult, AuditRow, AuditSaid,
    Gather, Kept, Said,
};
use crate::limits::{AUDIT_GATHERS_MAX, AUDIT_NODE_WAIT, AUDIT_QUERIES_MAX, REQUESTS_MAX};
use crate::names::PeerName;
use crate::peer::PlaneMessage;
use crate::pending::State;
use crate::request::{Answer, Denied, PlaneError, RequestId};

impl Plane {
    /// Something was refused before it became a request of this plane: it has a row all
    /// the same. Whether there is room for it; if not, whoever asked is to be refused for
    /// that. It is on its way to the disk with the turn, and nobody waits for it: of a
    /// refusal nothing is done that a crash could leave behind. Who does something instead
    /// asks for [`Request::Record`](crate::Request::Record).
    ///
    /// # Errors
    /// [`PlaneError::AuditUnavailable`].
    pub fn handle_denied(&mut self, denied: Denied) -> Result<(), PlaneError> {
        let row = AuditRow {
            at: self.clock.wall(),
            index: 0,
            version: self.version(),
            request: denied.caller.request,
            origin: self.nodes.origin(),
            remote: denied.caller.remote,
            result: AuditResult::Denied(denied.status),
            principal: denied.caller.principal,
            tenant: denied.tenant,
            operation: denied.operation,
            target: denied.target,
        };
        if self.audit.denied(self.now, &row) {
            return Ok(());
        }
        Err(PlaneError::AuditUnavailable)
    }

    /// Also of a node that is nobody, or whose group has failed: the log is the node's own.
    pub(super) fn take_record(
        &mut self,
        id: RequestId,
        row: Denied,
        deadline: Monotonic,
    ) -> Result<(), PlaneError> {
        if deadline <= self.now {
            return Err(PlaneError::TimedOut);
        }
        if self.requests.len() >= REQUESTS_MAX {
            let limit = REQUESTS_MAX as u64;
            return Err(PlaneError::Busy { limit });
        }
        self.handle_denied(row)?;
        self.records.push_back((self.audit.appended(), id));
        self.requests.insert(id, deadline, State::Recording);
        Ok(())
    }

    /// Answers whose rows are durable by now, or never will be.
    pub(super) fn answer_recorded(&mut self) {
        while let Some((rows, id)) = self.records.front().copied() {
            let answer = match self.audit.kept(rows) {
                Kept::Waiting => return,
                Kept::Durable => Answer::Recorded,
                Kept::Lost => Answer::Refused(PlaneError::AuditUnavailable),
            };
            self.records.pop_front();
            self.answer(id, answer);
        }
    }

    pub(super) fn take_search(
        &mut self,
        id: RequestId,
        query: AuditQuery,
        deadline: Monotonic,
    ) -> Result<(), PlaneError> {
        self.takes(deadline)?;
        self.search(AuditAsker::Request(id), query)?;
        self.requests.insert(id, deadline, State::Searching);
        Ok(())
    }

    /// Rows of all nodes: every other one is asked for what only it has.
    pub(super) fn take_everywhere(
        &mut self,
        id: RequestId,
        wanted: AuditEverywhere,
        deadline: Monotonic,
    ) -> Result<(), PlaneError> {
        self.takes(deadline)?;
        if self.gathers.len() >= AUDIT_GATHERS_MAX {
            let limit = AUDIT_GATHERS_MAX as u64;
            return Err(PlaneError::Busy { limit });
        }
        let me = self.nodes.facts.name.clone();
        let from = |name: &PeerName| wanted.from.get(name).copied().unwrap_or(0);
        let query = |first, own| AuditQuery {
            first,
            own,
            before: None,
            ..wanted.query.clone()
        };
        self.search(AuditAsker::Everywhere(id), query(from(&me), false))?;
        let peers: Vec<PeerName> = self.nodes.names.peers().into_keys().collect();
        let asks: Vec<(PeerName, AuditQuery)> = peers
            .into_iter()
            .map(|peer| (peer.clone(), query(from(&peer), true)))
            .collect();
        let until = deadline.min(self.now + AUDIT_NODE_WAIT);
        let mut gather = Gather::new((id, me), wanted, until);
        for (peer, query) in asks {
            self.last_ask = self.last_ask.wrapping_add(1);
            let number = self.last_ask;
            gather.ask(&peer, number);
            self.tell(peer, PlaneMessage::AuditAsk(AuditAsk { number, query }));
        }
        self.gathers.push(gather);
        self.requests.insert(id, deadline, State::Gathering);
        Ok(())
    }

    fn search(&mut self, asker: AuditAsker, query: AuditQuery) -> Result<(), PlaneError> {
        if self.searches >= AUDIT_QUERIES_MAX || !self.audit.search(asker, query) {
            let limit = AUDIT_QUERIES_MAX as u64;
            return Err(PlaneError::Busy { limit });
        }
        self.searches += 1;
        Ok(())
    }

    /// A query of this node's rows has ended; `None` when they cannot be read.
    pub(super) fn found(&mut self, asker: AuditAsker, page: Option<AuditPage>) {
        self.searches -= 1;
        match (asker, page) {
            (AuditAsker::Request(id), Some(page)) => self.answer(id, Answer::Audit(page)),
            (AuditAsker::Request(id), None) => self.refuse(id, PlaneError::AuditUnavailable),
            (AuditAsker::Everywhere(id), Some(page)) => {
                if let Some(gather) = self.gathers.iter_mut().find(|one| one.id == id) {
                    gather.found(page);
                }
            }
            (AuditAsker::Everywhere(id), None) => {
                self.gathers.retain(|gather| gather.id != id);
                self.refuse(id, PlaneError::AuditUnavailable);
            }
            (AuditAsker::Peer(peer, number), page) => {
                let said = page.map_or(Said::Unreadable, Said::of);
                self.tell(peer, PlaneMessage::AuditSaid(AuditSaid { number, said }));
            }
        }
    }

    /// Another node asks for rows that only this one has.
    pub(super) fn take_audit_ask(&mut self, from: &PeerName, ask: AuditAsk) {
        let AuditAsk { number, query } = ask;
        let asker = AuditAsker::Peer(from.clone(), number);
        // An answer goes where this node connects to: to the members.
        if self.closed.is_some() || !self.nodes.names.peers().contains_key(from) {
            return;
        }
        if self.search(asker, query).is_err() {
            let said = Said::Busy;
            let said = PlaneMessage::AuditSaid(AuditSaid { number, said });
            self.tell(from.clone(), said);
        }
    }

    pub(super) fn take_audit_said(&mut self, from: &PeerName, said: AuditSaid) {
        let mut gathers = self.gathers.iter_mut();
        // A late one is of a query that was answered without it.
        if let Some(gather) = gathers.find(|gather| gather.waits(from, said.number)) {
            gather.said(from, said.said);
        }
    }

    /// Answers the queries of all nodes of which every part is known, or whose time is over.
    pub(super) fn end_gathers(&mut self) {
        let now = self.now;
        for gather in &mut self.gathers {
            if gather.until <= now {
                gather.give_up();
            }
        }
        let whole = self.gathers.extract_if(.., |gather| gather.is_whole());
        for gather in whole.collect::<Vec<Gather>>() {
            let id = gather.id;
            self.answer(id, Answer::AuditEverywhere(gather.pages()));
        }
    }

    /// When the others are waited for no longer.
    pub(super) fn gathers_deadline(&self) -> Option<Monotonic> {
        let until = self.gathers.iter().map(|gather| gather.until);
        // One whose time is over waits for this node's own disk.
        until.filter(|until| *until > self.now).min()
    }

    /// What was sent to `peer` may not have come there.
    pub(super) fn lose_gathers(&mut self, peer: &PeerName) {
        for gather in &mut self.gathers {
            gather.lost(peer);
        }
    }

    /// A question did not leave.
    pub(super) fn unsent_gathers(&mut self, ask: &AuditAsk) {
        for gather in &mut self.gathers {
            gather.unsent(ask.number);
        }
    }

    /// Nobody waits for the query any more.
    pub(super) fn forget_search(&mut self, asker: &AuditAsker) {
        if let AuditAsker::Everywhere(id) = asker {
            let id = *id;
            let before = self.gathers.iter().find(|gather| gather.id == id);
            // Its own part may have ended before it.
            let is_searching = before.is_some_and(|gather| !gather.is_found());
            self.gathers.retain(|gather| gather.id != id);
            if !is_searching {
                return;
            }
        }
        self.audit.forget(asker);
        self.searches -= 1;
    }
}
