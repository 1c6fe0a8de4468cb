//! Revocation and new grants act on live connections, a few a turn.
//!
//! A new access table is in force at once: a connection that was not judged by it is
//! judged before a request of it is looked at and before anything is delivered to it, see
//! [`Core::judge_if_behind`]. Everybody else, who may be silent for long, is come to in
//! rounds. A round compares what the tables hold of each tenant that is connected, and
//! goes to the connections of those alone of whom it is another thing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use pinion_session::CloseCode;
use pinion_types::{ErrorCode, FixedMap, ResourceId, SessionId};

use crate::access::{AccessTable, Basis, Part};
use crate::core::Core;

/// What is looked at in one turn for a new access table: a tenant compared, a connection
/// come to, a handle or a subscription judged, each one. A connection is judged whole, so
/// the last of a turn may go beyond by its handles and subscriptions. A judgement takes
/// half a microsecond or two: higher is done with a table sooner, lower keeps turns short
/// meanwhile.
pub const JUDGED_PER_TURN_MAX: usize = 256;

/// What a core remembers for this.
#[derive(Debug, Default)]
pub(crate) struct Judging {
    /// How many tables came: the number of the newest.
    newest: u64,
    /// Whoever is connected, by what says what they may do.
    crowds: BTreeMap<Part, Crowd>,
    /// Goes over the crowds to compare.
    compared: Round<Part>,
    /// Crowds whose round is going, each once.
    changed: VecDeque<Part>,
}

/// Connections that go by the same part of a table.
#[derive(Debug)]
struct Crowd {
    /// What the part held when the last round over the members began, or they did. Each
    /// of them was judged by this or by something newer, or the round will come to it.
    basis: Option<Basis>,
    /// Somebody was judged by another thing than `basis`: the next comparison begins a
    /// round even if the part is what it was.
    mixed: bool,
    members: BTreeSet<u64>,
    round: Round<u64>,
}

/// What is to be done next.
enum Step {
    /// A tenant was compared.
    Compared,
    /// Judge this connection.
    Judge(u64),
}

impl Judging {
    /// The number of the newest table.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether somebody may not be judged by the newest table yet.
    pub(crate) fn is_going(&self) -> bool {
        self.compared.going || !self.changed.is_empty()
    }

    fn join(&mut self, part: Part, conn: u64, basis: Option<&Basis>) {
        let crowd = self.crowds.entry(part).or_insert_with(|| Crowd {
            basis: basis.cloned(),
            mixed: false,
            members: BTreeSet::new(),
            round: Round::default(),
        });
        crowd.members.insert(conn);
        crowd.mixed |= crowd.basis.as_ref() != basis;
    }

    /// A member was judged by this.
    fn judged(&mut self, part: Part, basis: Option<&Basis>) {
        if let Some(crowd) = self.crowds.get_mut(&part) {
            crowd.mixed |= crowd.basis.as_ref() != basis;
        }
    }

    /// The connection is gone.
    pub(crate) fn leave(&mut self, part: Part, conn: u64) {
        if let Some(crowd) = self.crowds.get_mut(&part) {
            crowd.members.remove(&conn);
            if crowd.members.is_empty() {
                self.crowds.remove(&part);
            }
        }
    }

    /// Crowds that changed come first: their rounds end, whatever comes meanwhile.
    fn next_step(&mut self, table: &AccessTable) -> Option<Step> {
        while let Some(part) = self.changed.front() {
            if let Some(crowd) = self.crowds.get_mut(part)
                && let Some(conn) = crowd.round.next(|from| next_of(&crowd.members, from))
            {
                return Some(Step::Judge(conn));
            }
            self.changed.pop_front();
        }
        let crowds = &self.crowds;
        let part = self.compared.next(|from| {
            let mut rest = crowds.range((from, Bound::Unbounded));
            rest.next().map(|(part, _)| *part)
        })?;
        let crowd = self.crowds.get_mut(&part).expect("found just now");
        let basis = table.basis(part);
        if core::mem::take(&mut crowd.mixed) || crowd.basis != basis {
            crowd.basis = basis;
            crowd.round.begin();
            self.changed.push_back(part);
        }
        Some(Step::Compared)
    }
}

fn next_of(members: &BTreeSet<u64>, from: Bound<u64>) -> Option<u64> {
    members.range((from, Bound::Unbounded)).next().copied()
}

/// Goes over everything of an ordered set once, over many turns, while things come and go.
/// Begun again before it is through it goes on from where it is: so nobody is left out,
/// however often it is begun.
#[derive(Debug)]
struct Round<K> {
    /// What it gave last.
    last: Option<K>,
    /// What it had given last when it was begun: the end, after a turn around.
    until: Option<K>,
    turned: bool,
    going: bool,
}

impl<K> Default for Round<K> {
    fn default() -> Self {
        Self {
            last: None,
            until: None,
            turned: false,
            going: false,
        }
    }
}

impl<K: Copy + Ord> Round<K> {
    fn begin(&mut self) {
        self.until = self.last;
        self.turned = false;
        self.going = true;
    }

    /// The next one. `after` gives the first within a bound.
    fn next(&mut self, after: impl Fn(Bound<K>) -> Option<K>) -> Option<K> {
        if !self.going {
            return None;
        }
        let mut found = after(self.last.map_or(Bound::Unbounded, Bound::Excluded));
        if found.is_none() && !self.turned {
            self.turned = true;
            found = after(Bound::Unbounded);
        }
        if self.turned {
            found = found.filter(|one| self.until.is_some_and(|until| *one <= until));
        }
        self.going = found.is_some();
        self.last = found.or(self.last);
        found
    }
}

impl Core {
    /// A new access table is in force.
    pub(crate) fn handle_access(&mut self, table: Arc<AccessTable>) {
        self.access = table;
        self.judging.newest += 1;
        self.judging.compared.begin();
    }

    /// Goes on with the rounds, as far as one turn may.
    pub(crate) fn judge_some(&mut self) {
        let mut left = JUDGED_PER_TURN_MAX;
        while left > 0 {
            let Some(step) = self.judging.next_step(&self.access) else {
                return;
            };
            let judged = match step {
                Step::Compared => 0,
                Step::Judge(conn) if self.is_behind(conn) => self.judge(conn),
                Step::Judge(_) => 0,
            };
            left = left.saturating_sub(1 + judged);
        }
    }

    /// The connection was let in by the newest table.
    pub(crate) fn join_part(&mut self, conn: u64) {
        let (newest, access) = (self.judging.newest, Arc::clone(&self.access));
        let connection = self.connection(conn).expect("the caller found it");
        let caller = connection.caller.as_ref().expect("let in just now");
        let part = caller.part();
        let basis = access.basis(part);
        connection.judged = newest;
        connection.basis.clone_from(&basis);
        self.judging.join(part, conn, basis.as_ref());
    }

    fn is_behind(&mut self, conn: u64) -> bool {
        let newest = self.judging.newest;
        self.connection(conn)
            .is_some_and(|connection| connection.judged != newest)
    }

    /// Judges the connection by the newest table if it was not yet. To be called before
    /// anything is done by its rights: where requests are read and where something is
    /// delivered. One comparison, because that is all it is between two tables.
    #[inline]
    pub(crate) fn judge_if_behind(&mut self, conn: u64) {
        if self.is_behind(conn) {
            self.judge(conn);
        }
    }

    /// Whether a connection of this core is to have nothing more of what it waits for, by
    /// the newest table. What it had taken of a queue went back.
    pub(crate) fn has_left(&mut self, session: SessionId) -> bool {
        if session.core != self.config.core {
            return false;
        }
        self.judge_if_behind(session.token);
        let connection = self.connection(session.token);
        let leaving = connection.and_then(|connection| connection.leaving);
        // One that leaves because the node drains is given what it is owed.
        leaving.is_some_and(|code| code != CloseCode::Draining)
    }

    /// Finds the rights of a connection by the newest table: it loses its connection when
    /// it is nobody any more, and the subscriptions that it has no right to. Gives how much
    /// was judged.
    #[cold]
    fn judge(&mut self, conn: u64) -> usize {
        let (newest, wall) = (self.judging.newest, self.wall);
        let access = Arc::clone(&self.access);
        let Some(connection) = self.connection(conn) else {
            return 0;
        };
        connection.judged = newest;
        let Some(caller) = &mut connection.caller else {
            return 0;
        };
        if connection.leaving.is_some() {
            return 0;
        }
        let part = caller.part();
        let basis = access.basis(part);
        if basis.is_some() && basis == connection.basis {
            return 0;
        }
        connection.basis.clone_from(&basis);
        if access.still_valid(wall, caller).is_err() {
            self.judging.judged(part, basis.as_ref());
            self.stats.judged += 1;
            self.leave(conn, CloseCode::Unauthenticated);
            return 1;
        }
        let mut found = FixedMap::<ResourceId, _>::default();
        for handle in connection.handles.iter_mut().filter(|one| !one.closed) {
            let resource = &handle.resource;
            handle.permissions = access.allowed(caller, resource.kind, &resource.name);
            found.insert(resource.id, handle.permissions);
        }
        let mut withdrawn = Vec::new();
        for (id, subscription) in &connection.subscriptions {
            let resource = &subscription.resource;
            let permissions = found
                .entry(resource.id)
                .or_insert_with(|| access.allowed(caller, resource.kind, &resource.name));
            if !permissions.allow(subscription.needs) {
                withdrawn.push(*id);
            }
        }
        let judged = connection.handles.len() + connection.subscriptions.len();
        self.judging.judged(part, basis.as_ref());
        self.stats.judged += 1;
        self.look_when_over(conn);
        for id in withdrawn {
            self.revoke_subscription(conn, id, ErrorCode::Forbidden);
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(round: &mut Round<u64>, of: &BTreeSet<u64>) -> Vec<u64> {
        core::iter::from_fn(|| round.next(|from| next_of(of, from))).collect()
    }

    #[test]
    fn a_round_gives_each_once_and_begun_again_it_goes_on_from_where_it_is() {
        let mut of: BTreeSet<u64> = (1..=5).collect();
        let mut round = Round::default();
        assert!(rest(&mut round, &of).is_empty(), "not begun");
        for _ in 0..2 {
            round.begin();
            assert_eq!(rest(&mut round, &of), [1, 2, 3, 4, 5]);
        }
        round.begin();
        for one in [1, 2, 3] {
            assert_eq!(round.next(|from| next_of(&of, from)), Some(one));
        }
        round.begin();
        assert_eq!(rest(&mut round, &of), [4, 5, 1, 2, 3]);
        round.begin();
        assert_eq!(round.next(|from| next_of(&of, from)), Some(4));
        of.remove(&4);
        of.remove(&5);
        of.insert(6);
        assert_eq!(rest(&mut round, &of), [6, 1, 2, 3]);
    }

    #[test]
    fn whoever_is_last_is_come_to_although_a_round_is_begun_ever_again() {
        let of: BTreeSet<u64> = (0..100).collect();
        let mut round = Round::default();
        let mut seen = BTreeSet::new();
        for _ in 0..10 {
            round.begin();
            seen.extend((0..10).filter_map(|_| round.next(|from| next_of(&of, from))));
        }
        assert_eq!(seen, of);
    }
}
