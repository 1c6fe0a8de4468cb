//! A consumer whose group is its own: it makes it, works, deletes it, and makes it
//! again.

use pinion_simkit::SimRng;
use pinion_types::{ErrorCode, Outcome};
use pinion_wire::message::{DeadSelect, GroupAction, QueueDeadList, QueueGroup, Reply, Request};

use super::super::client::Client;
use super::super::truth::{Birth, GroupName, PlayerId, Truth};
use super::{Place, Time, Worker};
use crate::{Violation, promise};

/// Name of its group.
pub(crate) const TENANT: GroupName = "red";

#[derive(Debug)]
enum Ask {
    /// How it was asked for.
    Make(Birth),
    /// Made, if it is not there, to be certain that it is.
    Settle,
    Delete,
    /// Whether it is really not there.
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody knows whether it is there. One that is being made or deleted is
    /// unknown to who deletes it, so that the answer says nothing of what a crash
    /// leaves.
    Unknown,
    Absent,
    /// It is there and nothing is known of it.
    Found,
    Present,
}

/// Makes and deletes one group.
#[derive(Debug)]
pub(crate) struct Tenant {
    worker: Worker,
    state: State,
    asked: Option<(u32, Ask)>,
    /// Takes that were waiting when the group was deleted: they are answered, too.
    takes: Vec<u32>,
    /// At the end it leaves the group as it is.
    stays: bool,
}

impl Tenant {
    pub(crate) fn new(rng: &mut SimRng) -> Self {
        Self {
            worker: Worker::taking(rng, TENANT),
            state: State::Absent,
            asked: None,
            takes: Vec::new(),
            stays: rng.coin(),
        }
    }

    /// Its connection is gone: what it asked has happened or has not.
    pub(super) fn lost(&mut self, me: PlayerId, key: (usize, u16), truth: &mut Truth) {
        if let Some((_, Ask::Make(_) | Ask::Settle | Ask::Delete)) = self.asked.take() {
            self.state = State::Unknown;
        }
        self.worker.lost();
        self.takes.clear();
        truth.queue(key).consumer_gone(me);
    }

    /// Whether the group is as it leaves it.
    pub(super) fn is_done(&self) -> bool {
        let left = match self.state {
            State::Unknown | State::Found => false,
            State::Absent => true,
            State::Present => self.stays,
        };
        left && self.asked.is_none() && self.takes.is_empty()
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
        if self.asked.is_some() || !self.takes.is_empty() {
            return;
        }
        let queue = truth.queue(place.key);
        match self.state {
            State::Unknown => {
                let asked = change(client, place, GroupAction::CreateEarliest);
                self.asked = Some((asked, Ask::Settle));
            }
            State::Found => self.delete(client, place),
            State::Absent if more && rng.one_in(4) => {
                let latest = rng.coin();
                let action = if latest {
                    GroupAction::CreateLatest
                } else {
                    GroupAction::CreateEarliest
                };
                let birth = queue.making(latest);
                let asked = change(client, place, action);
                self.asked = Some((asked, Ask::Make(birth)));
            }
            State::Absent if more => {
                let asked = client.send(&Request::QueueDeadList(QueueDeadList {
                    handle: place.handle,
                    partition: place.partition,
                    from: 0,
                    max_items: 1,
                    max_bytes: 1 << 10,
                    bodies: false,
                    select: DeadSelect::default(),
                    group: TENANT,
                }));
                self.asked = Some((asked, Ask::Probe));
            }
            State::Absent => {}
            State::Present if rng.one_in(30) || !(more || self.stays) => {
                queue.unmaking(TENANT);
                self.takes = self.worker.forget();
                self.delete(client, place);
            }
            State::Present => self.worker.act(client, rng, time, place, more, truth),
        }
    }

    fn delete(&mut self, client: &mut Client, place: Place) {
        let asked = change(client, place, GroupAction::Delete);
        self.asked = Some((asked, Ask::Delete));
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        time: Time,
        key: (usize, u16),
        me: PlayerId,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        if self.takes.contains(&number) {
            self.takes.retain(|take| *take != number);
            return Ok(());
        }
        let Some((_, ask)) = self.asked.take_if(|(asked, _)| *asked == number) else {
            return self.worker.answered(number, reply, time, key, me, truth);
        };
        let refusal = match reply {
            Reply::Error(refusal) => Some(refusal),
            _ => None,
        };
        let unknown = refusal.is_some_and(|refusal| refusal.code == ErrorCode::UnknownGroup);
        match ask {
            Ask::Make(birth) => match refusal {
                None => {
                    self.state = State::Present;
                    truth.counts.groups_made += 1;
                    truth.queue(key).made(TENANT, birth);
                }
                Some(refusal) if refusal.outcome == Outcome::NotAdmitted => {}
                Some(_) => self.state = State::Unknown,
            },
            Ask::Settle => {
                if refusal.is_none() {
                    self.state = State::Found;
                }
            }
            Ask::Delete => {
                promise!(
                    !unknown,
                    "a group that was made is not known when it is deleted"
                );
                truth.counts.groups_deleted += u64::from(refusal.is_none());
                self.state = if refusal.is_none() {
                    State::Absent
                } else {
                    State::Unknown
                };
            }
            Ask::Probe => promise!(
                refusal.is_some(),
                "a group that was deleted answers: {reply:?}"
            ),
        }
        Ok(())
    }
}

fn change(client: &mut Client, place: Place, action: GroupAction) -> u32 {
    client.send(&Request::QueueGroup(QueueGroup {
        handle: place.handle,
        partition: place.partition,
        action,
        group: TENANT,
    }))
}
