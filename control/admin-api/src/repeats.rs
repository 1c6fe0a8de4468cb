//! Rows of the audit log about what somebody repeats: the first at once, the others together.
//!
//! To be refused costs nothing, and the log has room for so many rows: with one for each
//! refusal, whoever has no right at all could push out the rows of everybody else. So the
//! first of a kind has its row before it is answered, and those that follow within
//! [`REPEATS_EVERY`] are counted and have one together. Of those who do so at a time only so
//! many are told apart; the others share a row. What is counted and not written yet is lost
//! with the process, its first row is not.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use pinion_plane::{Caller, Denied, PlaneError};
use pinion_types::Monotonic;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Api;
use crate::access::Who;
use crate::limits::{
    PLANE_WAIT, REPEATS_EVERY, REPEATS_KNOWN_MAX, REPEATS_LET_IN_MAX, REPEATS_STRANGERS_MAX,
};

/// In the place of a principal: those who are not told apart. No principal is so called.
const OTHERS: &str = "others";

/// What is gathered. Each has room of its own: whoever shows nothing takes none from those
/// who are known, nor do refusals from those who were let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Somebody who showed nothing that counts was refused; they are told apart by address.
    Stranger,
    /// Somebody who is known was refused.
    Known,
    /// Somebody got a token or a session, or gave one back.
    LetIn,
}

impl Kind {
    /// How a refusal is gathered.
    pub(crate) fn of_refused(who: &Who) -> Self {
        if who.principal.is_empty() {
            Self::Stranger
        } else {
            Self::Known
        }
    }

    /// How many are told apart.
    const fn limit(self) -> usize {
        match self {
            Self::Stranger => REPEATS_STRANGERS_MAX,
            Self::Known => REPEATS_KNOWN_MAX,
            Self::LetIn => REPEATS_LET_IN_MAX,
        }
    }
}

/// Who does what; none is all those for whom there is no room.
type Key = Option<(Box<str>, Box<str>)>;

/// What somebody did since their last row.
#[derive(Debug)]
struct Since {
    /// The last of it.
    last: Denied,
    /// How often.
    count: u64,
    /// When it becomes a row.
    due: Monotonic,
    /// Its last row is in the log. Until it is, who is let in again has to wait for a row of
    /// their own: nobody gets anything for which there may be none.
    written: bool,
}

/// A row that is to be written, and what it is about: for when it cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) row: Denied,
    place: (Kind, Key),
    /// What of it is counted; 0 of one that is written for somebody who waits.
    count: u64,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    tables: [BTreeMap<Key, Since>; 3],
}

impl Repeats {
    /// Somebody did something. The row that is to be written before they are answered, if it
    /// is the first, or nobody knows whether the first is in the log.
    pub(crate) fn take(
        &mut self,
        now: Monotonic,
        kind: Kind,
        (who, what): (&str, &str),
        mut row: Denied,
    ) -> Option<Row> {
        let table = &mut self.tables[kind as usize];
        let mut key: Key = Some((who.into(), what.into()));
        if !table.contains_key(&key) {
            let apart = table.len() - usize::from(table.contains_key(&None));
            if apart >= kind.limit() {
                key = None;
                row = of_others(row);
            }
        }
        let begun = table.contains_key(&key);
        let since = table.entry(key.clone()).or_insert_with(|| Since {
            last: row.clone(),
            count: 0,
            due: now + REPEATS_EVERY,
            written: false,
        });
        since.last = row.clone();
        // Of those who are refused at the same time only one waits for a row: it may be any
        // number of them.
        if begun && (since.written || kind != Kind::LetIn) {
            since.count += 1;
            return None;
        }
        Some(Row {
            row,
            place: (kind, key),
            count: 0,
        })
    }

    /// The row is in the log.
    pub(crate) fn written(&mut self, row: &Row) {
        let (kind, key) = &row.place;
        if let Some(since) = self.tables[*kind as usize].get_mut(key) {
            since.written = true;
        }
    }

    /// The row could not be written: what it tells of is told with the next one.
    pub(crate) fn put_back(&mut self, row: Row) {
        let Row { place, count, .. } = row;
        let table = &mut self.tables[place.0 as usize];
        let Some(since) = table.get_mut(&place.1) else {
            return;
        };
        since.count += count;
        since.written = false;
        // Of a first one nobody is told anything: it was answered as what it is, and the
        // next is the first again.
        if since.count == 0 {
            table.remove(&place.1);
        }
    }

    /// The rows whose time has come. Who did nothing more is forgotten.
    pub(crate) fn due(&mut self, now: Monotonic) -> Vec<Row> {
        self.rows(|since| since.due <= now, now + REPEATS_EVERY)
    }

    /// The rows of everything that is counted, due or not.
    pub(crate) fn end(&mut self) -> Vec<Row> {
        self.rows(|_| true, Monotonic::ZERO)
    }

    fn rows(&mut self, is_due: impl Fn(&Since) -> bool, again: Monotonic) -> Vec<Row> {
        let mut rows = Vec::new();
        for kind in [Kind::Stranger, Kind::Known, Kind::LetIn] {
            let table = &mut self.tables[kind as usize];
            table.retain(|_, since| since.count > 0 || !is_due(since));
            for (key, since) in table {
                if is_due(since) {
                    let count = core::mem::take(&mut since.count);
                    since.due = again;
                    rows.push(Row {
                        row: repeated(since.last.clone(), count),
                        place: (kind, key.clone()),
                        count,
                    });
                }
            }
        }
        rows
    }

    /// When the next rows are due.
    pub(crate) fn next_due(&self) -> Option<Monotonic> {
        let all = self.tables.iter().flat_map(BTreeMap::values);
        all.map(|since| since.due).min()
    }
}

/// The row of the last of several says how many there were, before all that may be cut.
fn repeated(mut row: Denied, count: u64) -> Denied {
    let target = format!("repeated={count} {}", row.target);
    row.target = target.trim_end().into();
    row
}

/// A row that is not about one of them.
fn of_others(row: Denied) -> Denied {
    Denied {
        caller: Caller {
            principal: OTHERS.into(),
            request: 0,
            remote: None,
        },
        tenant: Box::default(),
        ..row
    }
}

impl Api {
    /// Writes the row of a refusal, or counts it: see the head of this file.
    ///
    /// # Errors
    /// It could not be written; whoever was to be refused is refused for that.
    pub(crate) async fn refused(&self, who: &Who, row: Denied) -> Result<(), PlaneError> {
        let what = row.status.to_string();
        self.gather_refused(who, &what, row).await
    }

    /// The same of a login, apart from whatever else they were refused: who looks for logins
    /// that failed looks for rows of that name.
    ///
    /// # Errors
    /// As of [`Api::refused`].
    pub(crate) async fn turned_away(&self, who: &Who, row: Denied) -> Result<(), PlaneError> {
        let what = format!("{} {}", row.operation, row.status);
        self.gather_refused(who, &what, row).await
    }

    async fn gather_refused(&self, who: &Who, what: &str, row: Denied) -> Result<(), PlaneError> {
        let kind = Kind::of_refused(who);
        let Some(first) = self.repeats_take(kind, (&who.bucket(), what), row) else {
            return Ok(());
        };
        let written = self.plane.denied(first.row.clone()).await;
        self.repeats_written(first, written)
    }

    /// The same of a session that somebody has, or has no more.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) async fn came(&self, row: Denied) -> Result<(), PlaneError> {
        let Some(first) = self.repeats_let_in(row) else {
            return Ok(());
        };
        let written = self.plane.denied(first.row.clone()).await;
        self.repeats_written(first, written)
    }

    /// The same of a token that somebody is to have: the first row is on the disk before
    /// they do.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) async fn given(self: &Arc<Self>, row: Denied) -> Result<(), PlaneError> {
        let api = Arc::clone(self);
        // Whoever hangs up meanwhile does not leave open whether there is a row.
        let writing = tokio::spawn(async move {
            // Who comes while a first row is written waits for that, and has none of their own.
            let Ok(_turn) = timeout(PLANE_WAIT, api.giving.lock()).await else {
                return Err(PlaneError::TimedOut);
            };
            let Some(first) = api.repeats_let_in(row) else {
                return Ok(());
            };
            let written = api.plane.record(first.row.clone(), PLANE_WAIT).await;
            api.repeats_written(first, written)
        });
        writing.await.unwrap_or(Err(PlaneError::Unknown))
    }

    fn repeats_let_in(&self, row: Denied) -> Option<Row> {
        let what = row.operation.clone();
        let who = row.caller.principal.clone();
        self.repeats_take(Kind::LetIn, (&who, &what), row)
    }

    fn repeats_take(&self, kind: Kind, of: (&str, &str), row: Denied) -> Option<Row> {
        let now = self.now();
        let first = self.repeats().take(now, kind, of, row);
        if first.is_some() {
            self.repeats_begun.notify_one();
        }
        first
    }

    fn repeats_written(&self, row: Row, written: Result<(), PlaneError>) -> Result<(), PlaneError> {
        match &written {
            Ok(()) => self.repeats().written(&row),
            Err(_) => self.repeats().put_back(row),
        }
        written
    }

    /// Writes the rows of what was counted, each when it is due, and all of them when the
    /// API stops.
    pub(crate) async fn write_repeats(&self, mut stopping: watch::Receiver<bool>) {
        let stopped = async move {
            // A sender that is gone is a stop, too.
            let _ = stopping.wait_for(|stop| *stop).await.is_ok();
        };
        tokio::pin!(stopped);
        loop {
            let due = self.repeats().next_due();
            let pause = due.map_or(Duration::MAX, |due| due.since(self.now()));
            tokio::select! {
                () = &mut stopped => break,
                // Something is due that was not.
                () = self.repeats_begun.notified() => continue,
                () = tokio::time::sleep(pause) => {}
            }
            let rows = self.repeats().due(self.now());
            self.write_rows(rows).await;
        }
        // At once: nobody waits long for who is still answered meanwhile.
        self.write_last_repeats().await;
    }

    /// Writes the rows of all that is counted.
    pub(crate) async fn write_last_repeats(&self) {
        let rows = self.repeats().end();
        self.write_rows(rows).await;
    }

    async fn write_rows(&self, rows: Vec<Row>) {
        for row in rows {
            let written = self.plane.denied(row.row.clone()).await;
            // What is not written is told with the next.
            let _ = self.repeats_written(row, written);
        }
    }

    fn repeats(&self) -> MutexGuard<'_, Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(who: &str, target: &str) -> Denied {
        Denied {
            caller: Caller {
                principal: who.into(),
                request: 7,
                remote: None,
            },
            tenant: "acme".into(),
            operation: "GET /v1/raft".into(),
            target: target.into(),
            status: 403,
        }
    }

    fn at(s: u64) -> Monotonic {
        Monotonic::from_millis(s * 1_000)
    }

    /// Asks at a second; who, what about, and how that is written.
    fn refused(repeats: &mut Repeats, s: u64, who: &str, target: &str) -> Option<String> {
        let row = row(who, target);
        let first = repeats.take(at(s), Kind::Known, (who, "403"), row);
        first.map(|first| text(&first))
    }

    fn text(row: &Row) -> String {
        format!("{} {}", row.row.caller.principal, row.row.target)
    }

    fn due(repeats: &mut Repeats, s: u64) -> Vec<String> {
        repeats.due(at(s)).iter().map(text).collect()
    }

    #[test]
    fn who_is_refused_over_and_over_has_one_row_and_then_one_with_the_count() {
        let every = REPEATS_EVERY.as_secs();
        let mut repeats = Repeats::default();
        let first = refused(&mut repeats, 1, "bo", "tenant:a");
        assert_eq!(first.as_deref(), Some("bo tenant:a"));
        for _ in 0..10_000 {
            assert_eq!(refused(&mut repeats, 2, "bo", "tenant:b"), None);
        }
        // Nobody else's is held back for that, nor another word for the same one.
        let other = refused(&mut repeats, 3, "cy", "");
        assert_eq!(other.as_deref(), Some("cy "));
        let word = repeats.take(at(3), Kind::Known, ("bo", "429"), row("bo", ""));
        assert!(word.is_some());
        assert_eq!(repeats.next_due(), Some(at(1 + every)));
        assert!(due(&mut repeats, every).is_empty());
        assert_eq!(due(&mut repeats, 1 + every), ["bo repeated=10000 tenant:b"]);
        // It goes on: one row in the time, and none when it is over.
        refused(&mut repeats, 2 + every, "bo", "");
        assert_eq!(due(&mut repeats, 1 + 2 * every), ["bo repeated=1"]);
        assert!(due(&mut repeats, 1 + 3 * every).is_empty());
        assert_eq!(repeats.next_due(), None, "all are forgotten");
        assert!(refused(&mut repeats, 1 + 3 * every, "bo", "").is_some());
    }

    #[test]
    fn those_for_whom_there_is_no_room_share_a_row_and_every_one_is_counted() {
        let many = REPEATS_KNOWN_MAX + 500;
        let mut repeats = Repeats::default();
        let firsts: Vec<String> = (0..many)
            .filter_map(|who| refused(&mut repeats, 0, &who.to_string(), "x"))
            .collect();
        assert_eq!(firsts.len(), REPEATS_KNOWN_MAX + 1);
        assert_eq!(firsts.last().map(String::as_str), Some("others x"));
        let others = due(&mut repeats, REPEATS_EVERY.as_secs());
        assert_eq!(others, ["others repeated=499 x"]);
        // Strangers, of whom there may be any number, take nobody's room but theirs.
        for who in 0..many {
            let row = row("", "");
            repeats.take(at(0), Kind::Stranger, (&who.to_string(), "401"), row);
        }
        let room = Kind::Stranger.limit() + 1;
        assert_eq!(repeats.tables[Kind::Stranger as usize].len(), room);
        let own = repeats.take(at(0), Kind::LetIn, ("ana", "login"), row("ana", ""));
        assert_eq!(own.map(|own| text(&own)).as_deref(), Some("ana "));
    }

    #[test]
    fn nobody_is_let_in_on_a_row_that_may_not_be_there() {
        let every = REPEATS_EVERY.as_secs();
        let mut repeats = Repeats::default();
        let take = |repeats: &mut Repeats| {
            repeats.take(at(0), Kind::LetIn, ("bo", "token"), row("bo", ""))
        };
        // The second comes while the first is being written; the first is not.
        let first = take(&mut repeats).expect("a row");
        let second = take(&mut repeats).expect("one of its own");
        repeats.written(&second);
        assert!(take(&mut repeats).is_none());
        repeats.put_back(first);
        let next = take(&mut repeats).expect("nobody knows");
        repeats.written(&next);
        assert!(take(&mut repeats).is_none());
        // What was counted cannot be written: from then on they wait again.
        let unwritten = repeats.due(at(every)).pop().expect("two are counted");
        assert_eq!(text(&unwritten), "bo repeated=2");
        repeats.put_back(unwritten);
        for _ in 0..2 {
            let next = take(&mut repeats).expect("a row");
            repeats.put_back(next);
        }
        let next = take(&mut repeats).expect("a row");
        repeats.written(&next);
        assert!(take(&mut repeats).is_none());
        assert_eq!(due(&mut repeats, 2 * every), ["bo repeated=3"]);
    }

    #[test]
    fn what_cannot_be_written_is_told_with_the_next_row() {
        let every = REPEATS_EVERY.as_secs();
        let mut repeats = Repeats::default();
        let denied = || row("bo", "");
        let take =
            |repeats: &mut Repeats| repeats.take(at(0), Kind::Known, ("bo", "403"), denied());
        let first = take(&mut repeats).expect("the first");
        repeats.put_back(first);
        assert!(take(&mut repeats).is_some(), "it is the first again");
        assert!(take(&mut repeats).is_none());
        let row = repeats.due(at(every)).pop().expect("one is counted");
        repeats.put_back(row);
        assert!(take(&mut repeats).is_none());
        assert_eq!(due(&mut repeats, 2 * every), ["bo repeated=2"]);
        // And what is left at the end, whenever that is.
        assert!(take(&mut repeats).is_none());
        let left: Vec<String> = repeats.end().iter().map(text).collect();
        assert_eq!(left, ["bo repeated=1"]);
    }
}
