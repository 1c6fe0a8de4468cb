//! Append sessions: staged, then committed at once or never.

use pinion_simkit::SimRng;
use pinion_types::{ErrorCode, FactId, Offset, Outcome};
use pinion_wire::message::{
    AppendBegin, AppendCommit, AppendRollback, AppendStage, Reply, Request,
};

use super::super::client::Client;
use super::super::truth::{PlayerId, Truth, value_of};
use super::{Place, Time, len_of, reached, record_of};
use crate::{Violation, promise};

/// Records staged in one session, at most.
const STAGED_MAX: u64 = 60;
/// How long a session may do nothing, less what a request may be on its way:
/// one that is refused as unknown earlier was lost.
const IDLE_SURE: u64 = 26_000_000_000;
/// Values of a session are a producer's of their own; this is where they begin.
const PRODUCERS_FROM: u64 = 10_000;

#[derive(Clone, Copy, Debug)]
enum Ask {
    Begin,
    Stage(u64),
    /// With the offset that the first record was to get.
    Commit(Option<u64>),
    Rollback,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    session: u64,
    /// Records that the node has said it holds.
    staged: u64,
    /// When the last request that it answered was sent.
    used: u64,
}

/// Begins one session after the other.
#[derive(Debug)]
pub(crate) struct Appender {
    id: u64,
    /// Number of the session, so that no two have the same values.
    number: u64,
    exclusive: bool,
    body_max: usize,
    open: Option<Open>,
    /// What was asked, its number, and when.
    asked: Option<(u32, Ask, u64)>,
}

impl Appender {
    pub(crate) fn new(id: PlayerId, exclusive: bool, body_max: usize) -> Self {
        Self {
            id: id as u64,
            number: 0,
            exclusive,
            body_max,
            open: None,
            asked: None,
        }
    }

    /// The producer whose values the session at work has.
    fn producer(&self) -> u64 {
        PRODUCERS_FROM * (self.number + 1) + self.id
    }

    /// Its connection is gone, and with it everything that was staged; what was
    /// being committed is there or not, but whole.
    pub(super) fn lost(&mut self, key: (usize, u16), me: PlayerId, truth: &mut Truth) {
        if self.open.take().is_some() {
            truth.counts.rolled_back += 1;
        }
        self.asked = None;
        truth.stream(key).exclusive_used(me, None);
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        time: Time,
        place: Place,
        more: bool,
        truth: &mut Truth,
    ) {
        if self.asked.is_some() {
            return;
        }
        let now = time.world;
        let Some(open) = self.open else {
            if more && rng.coin() {
                let begin = AppendBegin {
                    handle: place.handle,
                    partition: place.partition,
                    exclusive: self.exclusive,
                };
                self.number += 1;
                let asked = client.send(&Request::AppendBegin(begin));
                self.asked = Some((asked, Ask::Begin, now));
            }
            return;
        };
        let session = open.session;
        let (ask, asked) = match rng.below(12) {
            0..=5 if more && open.staged < STAGED_MAX => {
                let count = rng.between(1, 12);
                let mut records = Vec::new();
                for number in open.staged..open.staged + count {
                    let value = value_of(self.producer(), number);
                    record_of(value, None, len_of(value, self.body_max), &mut records);
                }
                let stage = AppendStage {
                    session,
                    record_count: u32::try_from(count).expect("small"),
                    records: &records,
                };
                (Ask::Stage(count), client.send(&Request::AppendStage(stage)))
            }
            6..=9 if open.staged > 0 => {
                let stream = truth.stream(place.key);
                for number in 0..open.staged {
                    let value = value_of(self.producer(), number);
                    let len = len_of(value, self.body_max) as u64;
                    stream.tried(value, time.wall.0, len);
                }
                stream.committing(self.producer(), open.staged);
                stream.exclusive_used(place.player, None);
                let expected = rng.one_in(6).then(|| stream.end());
                let commit = AppendCommit {
                    session,
                    expected_offset: expected.map(Offset),
                };
                let asked = client.send(&Request::AppendCommit(commit));
                (Ask::Commit(expected), asked)
            }
            10 => {
                truth.stream(place.key).exclusive_used(place.player, None);
                let asked = client.send(&Request::AppendRollback(AppendRollback { session }));
                (Ask::Rollback, asked)
            }
            // Leaves it alone: it may run out.
            _ => return,
        };
        self.asked = Some((asked, ask, now));
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        now: u64,
        (key, me): ((usize, u16), PlayerId),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let Some((_, ask, sent)) = self.asked.take_if(|(asked, ..)| *asked == number) else {
            return Err(Violation::new(format!("{reply:?} to nothing")));
        };
        let producer = self.producer();
        match (ask, self.open, reply) {
            (Ask::Begin, _, Reply::AppendBegun(begun)) => {
                self.open = Some(Open {
                    session: begun.session,
                    staged: 0,
                    used: sent,
                });
                if self.exclusive {
                    truth.stream(key).granted(me, sent, now)?;
                }
            }
            (Ask::Stage(count), Some(open), Reply::AppendStaged(staged)) => {
                let all = open.staged + count;
                promise!(
                    u64::from(staged.records) == all,
                    "a session holds {} records, {all} were staged",
                    staged.records
                );
                self.open = Some(Open {
                    staged: all,
                    used: sent,
                    ..open
                });
                truth.stream(key).exclusive_used(me, Some(sent));
            }
            (Ask::Commit(expected), Some(open), Reply::Published(published)) => {
                reached(published.durability, truth.stream(key).is_in_memory())?;
                let first = published.first_offset.0;
                promise!(
                    u64::from(published.record_count) == open.staged,
                    "{} records were committed of {}",
                    published.record_count,
                    open.staged
                );
                promise!(
                    expected.is_none_or(|expected| expected == first),
                    "committed at {first} on condition of {expected:?}"
                );
                for number in 0..open.staged {
                    let value = value_of(producer, number);
                    truth.stream(key).known(first + number, value)?;
                }
                truth.counts.sessions += 1;
                self.open = None;
            }
            (Ask::Rollback, _, Reply::Done) => {
                truth.counts.rolled_back += 1;
                self.open = None;
            }
            (_, open, Reply::Error(refusal)) => {
                if let (Ask::Commit(expected), Some(open)) = (ask, open) {
                    if refusal.outcome == Outcome::NotAdmitted {
                        truth.stream(key).not_committed(producer, open.staged)?;
                    } else {
                        self.open = None;
                    }
                    let conflict = refusal.code == ErrorCode::OffsetConflict;
                    let actual = refusal.fact(FactId::Actual);
                    promise!(
                        !conflict || expected.is_some() && actual != expected,
                        "a commit on condition of {expected:?} was refused for {actual:?}"
                    );
                }
                if refusal.code == ErrorCode::SessionUnknown {
                    let open = self.open.take();
                    promise!(
                        open.is_none_or(|open| open.used + IDLE_SURE <= now),
                        "a session in use is unknown: {open:?} at {now}"
                    );
                    truth.counts.rolled_back += 1;
                }
            }
            (ask, open, reply) => {
                return Err(Violation::new(format!("{reply:?} to {ask:?} of {open:?}")));
            }
        }
        Ok(())
    }
}
