//! One query of the audit logs of all nodes: who is asked, and how what they say becomes
//! one list by time.
//!
//! A command has a row on every node. The list has those of the node that is asked, and of
//! every other node what only that one knows: what it refused before it became a command,
//! which rows it lacks, and the address that a command came to it from, which is put into
//! the row that the list has already. So nothing is in it twice, and a node that does not
//! answer costs what only it had.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use pinion_types::{Monotonic, WallMs};

use super::ask::Said;
use super::row::{AuditResult, AuditRow};
use super::search::{AuditPage, AuditQuery};
use crate::limits::AUDIT_PAGE_MAX;
use crate::names::PeerName;
use crate::request::RequestId;

/// Which rows of all nodes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEverywhere {
    /// Which rows; `first`, `before` and `own` are not looked at.
    pub query: AuditQuery,
    /// Where to go on at each node: [`AuditPages::next`] of the page before. One that is not
    /// there begins with its first row.
    pub from: BTreeMap<PeerName, u64>,
}

/// Some rows of all nodes, by time: of one node they are in the order in which it wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPages {
    /// Each with the node whose row it is, and its number there.
    pub rows: Vec<(PeerName, u64, AuditRow)>,
    /// Where to go on, if there may be more. A page may be short, or empty, and not the last.
    pub next: Option<BTreeMap<PeerName, u64>>,
    /// Nodes of which this page has nothing. The next page asks them for the same again.
    pub silent: Vec<(PeerName, AuditSilence)>,
}

/// Why a page has nothing of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditSilence {
    /// There is no connection to it.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// It answers as many queries as it may.
    Busy,
    /// It cannot read its rows.
    Unreadable,
}

/// One node's part.
#[derive(Debug)]
enum Part {
    /// It was asked under this number.
    Asked(u64),
    Silent(AuditSilence),
    Said {
        rows: Vec<(u64, AuditRow)>,
        at: u64,
        more: bool,
    },
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Gather {
    pub(crate) id: RequestId,
    me: PeerName,
    limit: usize,
    /// Where each node was asked to begin.
    from: BTreeMap<PeerName, u64>,
    parts: BTreeMap<PeerName, Part>,
    /// This node's own.
    page: Option<AuditPage>,
    /// When the others are waited for no longer.
    pub(crate) until: Monotonic,
}

impl Gather {
    pub(crate) fn new(
        (id, me): (RequestId, PeerName),
        wanted: AuditEverywhere,
        until: Monotonic,
    ) -> Self {
        Self {
            id,
            me,
            limit: wanted.query.limit.clamp(1, AUDIT_PAGE_MAX),
            from: wanted.from,
            parts: BTreeMap::new(),
            page: None,
            until,
        }
    }

    /// `peer` is asked, under this number.
    pub(crate) fn ask(&mut self, peer: &PeerName, number: u64) {
        self.parts.insert(peer.clone(), Part::Asked(number));
    }

    /// What this node has.
    pub(crate) fn found(&mut self, page: AuditPage) {
        self.page = Some(page);
    }

    /// Whether this node's own part is there.
    pub(crate) fn is_found(&self) -> bool {
        self.page.is_some()
    }

    /// Whether `peer` was asked under this number, and is waited for.
    pub(crate) fn waits(&self, peer: &PeerName, number: u64) -> bool {
        matches!(self.parts.get(peer), Some(Part::Asked(asked)) if *asked == number)
    }

    /// What `peer` says.
    pub(crate) fn said(&mut self, peer: &PeerName, said: Said) {
        let part = match said {
            Said::Rows { rows, at, more } => Part::Said { rows, at, more },
            Said::Busy => Part::Silent(AuditSilence::Busy),
            Said::Unreadable => Part::Silent(AuditSilence::Unreadable),
        };
        self.parts.insert(peer.clone(), part);
    }

    /// What was asked of `peer` may not have come there.
    pub(crate) fn lost(&mut self, peer: &PeerName) {
        if let Some(part @ Part::Asked(_)) = self.parts.get_mut(peer) {
            *part = Part::Silent(AuditSilence::Unreachable);
        }
    }

    /// The question of that number did not leave.
    pub(crate) fn unsent(&mut self, number: u64) {
        for part in self.parts.values_mut() {
            if matches!(part, Part::Asked(asked) if *asked == number) {
                *part = Part::Silent(AuditSilence::Unreachable);
            }
        }
    }

    /// The others are waited for no longer.
    pub(crate) fn give_up(&mut self) {
        for part in self.parts.values_mut() {
            if matches!(part, Part::Asked(_)) {
                *part = Part::Silent(AuditSilence::TimedOut);
            }
        }
    }

    /// Whether nobody is waited for.
    pub(crate) fn is_whole(&self) -> bool {
        let waits = |part: &Part| matches!(part, Part::Asked(_));
        self.page.is_some() && !self.parts.values().any(waits)
    }

    /// The list, as far as every node's part of it is known.
    ///
    /// # Panics
    /// When somebody is still waited for.
    pub(crate) fn pages(self) -> AuditPages {
        let page = self.page.expect("it is whole");
        let mut silent = Vec::new();
        let mut next = self.from;
        let own = Lane::new(self.me, page.rows, (page.at, page.next.is_some()), true);
        let mut lanes = vec![own];
        for (name, part) in self.parts {
            match part {
                Part::Asked(number) => panic!("question {number} of {name} is not answered"),
                Part::Silent(why) => silent.push((name, why)),
                Part::Said { rows, at, more } => {
                    lanes.push(Lane::new(name, rows, (at, more), false));
                }
            }
        }
        let (rows, more) = merge(&mut lanes, self.limit);
        for lane in lanes {
            let (name, at) = lane.place();
            next.insert(name, at);
        }
        AuditPages {
            rows,
            next: more.then_some(next),
            silent,
        }
    }
}

/// Rows of one node on their way into the list.
struct Lane {
    name: PeerName,
    rows: std::iter::Peekable<std::vec::IntoIter<(u64, AuditRow)>>,
    /// When the next row is listed: not before those that its node wrote before, although
    /// its clock may have been set back meanwhile.
    due: WallMs,
    /// Up to when it is known what this node has; `None`: for good.
    known: Option<WallMs>,
    /// The row behind those that are here.
    at: u64,
    is_own: bool,
    /// Addresses of commands, by their place in the group's log.
    addresses: BTreeMap<u64, SocketAddr>,
}

/// A command's row, which every node has.
fn is_command(row: &AuditRow) -> bool {
    row.index != 0 && !matches!(row.result, AuditResult::Gap { .. })
}

impl Lane {
    fn new(
        name: PeerName,
        rows: Vec<(u64, AuditRow)>,
        (at, more): (u64, bool),
        is_own: bool,
    ) -> Self {
        // Without rows nothing is known of any time: others wait for the next page.
        let last = rows.iter().map(|(_, row)| row.at).max();
        let known = more.then(|| last.unwrap_or(WallMs(0)));
        let commands = rows.iter().filter(|(_, row)| is_command(row));
        let addresses = commands.filter_map(|(_, row)| Some((row.index, row.remote?)));
        Self {
            name,
            due: WallMs(0),
            known,
            at,
            is_own,
            addresses: addresses.collect(),
            rows: rows.into_iter().peekable(),
        }
    }

    /// When its next row is listed.
    fn due(&mut self) -> Option<WallMs> {
        let (_, row) = self.rows.peek()?;
        Some(self.due.max(row.at))
    }

    /// Passes over commands, which are listed from the node that is asked: those up to the
    /// one at `listed`. Whether another is next, which stays here with its address until it
    /// is listed.
    fn waits(&mut self, listed: u64) -> bool {
        if self.is_own {
            return false;
        }
        let is_listed = |(_, row): &(u64, AuditRow)| is_command(row) && row.index <= listed;
        while let Some((_, row)) = self.rows.next_if(is_listed) {
            self.due = self.due.max(row.at);
        }
        self.rows.peek().is_some_and(|(_, row)| is_command(row))
    }

    fn take(&mut self) -> Option<(u64, AuditRow)> {
        let taken = self.rows.next()?;
        self.due = self.due.max(taken.1.at);
        Some(taken)
    }

    /// Where the next page goes on.
    fn place(mut self) -> (PeerName, u64) {
        let at = self.rows.peek().map_or(self.at, |(number, _)| *number);
        (self.name, at)
    }
}

/// At most `limit` rows by time, and whether there may be more.
fn merge(lanes: &mut [Lane], limit: usize) -> (Vec<(PeerName, u64, AuditRow)>, bool) {
    let known = lanes.iter().filter_map(|lane| lane.known).min();
    let mut addresses = BTreeMap::new();
    for lane in lanes.iter_mut() {
        addresses.append(&mut lane.addresses);
    }
    let mut rows = Vec::new();
    // The last command that is listed; none is to come when the own rows are over.
    let mut listed = 0;
    loop {
        let own = lanes.iter_mut().find(|lane| lane.is_own);
        let (is_left, is_over) = own.map_or((false, true), |lane| {
            let is_left = lane.due().is_some();
            (is_left, !is_left && lane.known.is_none())
        });
        if is_over {
            listed = u64::MAX;
        }
        let mut waiting = None;
        let mut next = None;
        for (at, lane) in lanes.iter_mut().enumerate() {
            if lane.waits(listed) {
                waiting = Some(at);
            } else if let Some(due) = lane.due() {
                next = next.into_iter().chain([(due, at)]).min();
            }
        }
        let is_known = |due| known.is_none_or(|known| due <= known);
        let next = next.filter(|(due, _)| rows.len() < limit && is_known(*due));
        let lane = match (next, waiting) {
            (Some((_, at)), _) => &mut lanes[at],
            // Nothing else goes on: it is not waited for, so that each page is another.
            (None, Some(at)) if rows.is_empty() && is_left => {
                lanes[at].take();
                continue;
            }
            (None, _) => {
                let left = lanes.iter_mut().any(|lane| lane.due().is_some());
                return (rows, left || known.is_some());
            }
        };
        let Some((number, mut row)) = lane.take() else {
            continue;
        };
        if is_command(&row) {
            listed = row.index;
            row.remote = row.remote.or_else(|| addresses.get(&row.index).copied());
        }
        rows.push((lane.name.clone(), number, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_metadata::{BrokerNumber, MetaVersion};

    fn row(at: u64, index: u64, remote: Option<u16>) -> AuditRow {
        AuditRow {
            at: WallMs(at),
            index,
            version: MetaVersion(0),
            request: 0,
            origin: BrokerNumber(1),
            remote: remote.map(|port| SocketAddr::from(([192, 0, 2, 1], port))),
            result: match index {
                0 => AuditResult::Denied(401),
                _ => AuditResult::Done,
            },
            principal: "".into(),
            tenant: "".into(),
            operation: "".into(),
            target: "".into(),
        }
    }

    /// Rows of one node from the given number on, `(at, index, port)` each.
    fn lane(name: &str, first: u64, rows: &[(u64, u64, Option<u16>)], more: bool) -> Lane {
        let numbered = rows.iter().zip(first..);
        let rows: Vec<(u64, AuditRow)> = numbered
            .map(|((at, index, port), number)| (number, row(*at, *index, *port)))
            .collect();
        let at = first + rows.len() as u64;
        let name_of = PeerName::new(name).expect("a name");
        Lane::new(name_of, rows, (at, more), name == "me")
    }

    /// `name:number@time`, with the port of an address behind it; whether there is more;
    /// where each node goes on.
    fn merged(mut lanes: Vec<Lane>, limit: usize) -> (Vec<String>, bool, Vec<u64>) {
        let (rows, more) = merge(&mut lanes, limit);
        let text = |(name, number, row): &(PeerName, u64, AuditRow)| {
            let port = row.remote.map(|remote| format!(" {}", remote.port()));
            format!("{name}:{number}@{}{}", row.at.0, port.unwrap_or_default())
        };
        let places = lanes.into_iter().map(|lane| lane.place().1).collect();
        (rows.iter().map(text).collect(), more, places)
    }

    #[test]
    fn a_command_is_listed_once_with_the_address_of_the_node_that_was_asked() {
        let lanes = vec![
            lane(
                "me",
                5,
                &[(10, 1, None), (20, 2, Some(9)), (20, 2, Some(9))],
                false,
            ),
            lane(
                "a",
                0,
                &[(5, 0, Some(3)), (10, 1, Some(7)), (30, 0, None)],
                false,
            ),
        ];
        let (rows, more, places) = merged(lanes, 10);
        assert_eq!(
            rows,
            ["a:0@5 3", "me:5@10 7", "me:6@20 9", "me:7@20 9", "a:2@30"]
        );
        assert_eq!((more, &places[..]), (false, &[8, 3][..]));
    }

    #[test]
    fn nothing_is_listed_before_it_is_known_what_came_earlier_elsewhere() {
        let lanes = vec![
            lane("me", 0, &[(10, 1, None), (40, 2, None)], false),
            lane("a", 0, &[(5, 0, None), (20, 0, None)], true),
        ];
        let (rows, more, places) = merged(lanes, 10);
        assert_eq!(rows, ["a:0@5", "me:0@10", "a:1@20"]);
        assert_eq!((more, &places[..]), (true, &[1, 2][..]));
        // Of one that has looked through much and found nothing, nothing is known yet.
        let lanes = vec![
            lane("me", 0, &[(10, 1, None)], false),
            lane("a", 900, &[], true),
        ];
        let (rows, more, places) = merged(lanes, 10);
        assert_eq!((rows.len(), more, &places[..]), (0, true, &[0, 900][..]));
    }

    #[test]
    fn a_page_ends_at_its_limit_and_the_next_begins_there() {
        let of_a = [(1, 0, None), (2, 7, Some(1)), (3, 0, None), (9, 8, Some(1))];
        let lanes = vec![
            lane("me", 0, &[(2, 7, None), (4, 0, None)], false),
            lane("a", 0, &of_a, false),
        ];
        let (rows, more, places) = merged(lanes, 3);
        assert_eq!(rows, ["a:0@1", "me:0@2 1", "a:2@3"]);
        assert_eq!((more, &places[..]), (true, &[1, 3][..]));
        // What is left of the other is listed already: that is no more.
        let lanes = vec![
            lane("me", 1, &[(4, 0, None)], false),
            lane("a", 3, &of_a[3..], false),
        ];
        let (rows, more, _) = merged(lanes, 1);
        assert_eq!((&rows[..], more), (&["me:1@4".to_owned()][..], false));
    }

    #[test]
    fn an_address_stays_with_its_node_until_its_command_is_listed() {
        // The own clock is ahead of the stamps, and the page ends before the command.
        let of_a = [(10, 7, Some(1)), (11, 0, None)];
        let own = [(50, 0, None), (10, 7, None)];
        let lanes = vec![lane("me", 0, &own, false), lane("a", 0, &of_a, false)];
        let (rows, more, places) = merged(lanes, 1);
        assert_eq!(rows, ["me:0@50"]);
        assert_eq!((more, &places[..]), (true, &[1, 0][..]));
        let lanes = vec![lane("me", 1, &own[1..], false), lane("a", 0, &of_a, false)];
        let (rows, more, _) = merged(lanes, 2);
        assert_eq!(rows, ["me:1@10 1", "a:1@11"]);
        assert!(!more);
        // What a knows ends before the own clock: the walk goes on all the same.
        let lanes = vec![lane("me", 0, &own, false), lane("a", 0, &of_a, true)];
        let (rows, more, places) = merged(lanes, 9);
        assert_eq!(
            (&rows[..], more, &places[..]),
            (&["a:1@11".to_owned()][..], true, &[0, 2][..])
        );
    }

    #[test]
    fn a_clock_that_went_back_leaves_the_order_of_its_node() {
        let lanes = vec![
            lane("me", 0, &[(10, 0, None), (12, 0, None)], false),
            lane("a", 0, &[(11, 0, None), (3, 0, None)], false),
        ];
        let (rows, _, _) = merged(lanes, 10);
        assert_eq!(rows, ["me:0@10", "a:0@11", "a:1@3", "me:1@12"]);
    }
}
