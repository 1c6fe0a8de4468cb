//! Dead letters: listed, made ready again, forgotten.

use pinion_simkit::SimRng;
use pinion_wire::message::{
    DeadReason, DeadSelect, IdList, QueueDeadList, QueueDeadPurge, QueueDeadReplay, Reply, Request,
};

use super::super::client::Client;
use super::super::truth::{GroupName, Truth};
use super::{Place, Time, disk};
use crate::{Violation, promise};

/// Letters replayed or purged by one request.
const MOVED_MAX: usize = 200;

/// What it does with the letters it has listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Lists them once.
    Lists,
    /// Lists them again and again, and replays or purges some.
    Tidies,
    /// Purges all of them.
    Purges,
}

#[derive(Debug)]
enum Ask {
    List,
    Replay(Vec<u64>),
    Purge(Vec<u64>),
}

/// Keeps the dead letters of one group.
#[derive(Debug)]
pub(crate) struct Undertaker {
    group: GroupName,
    manner: Manner,
    asked: Option<(u32, Ask)>,
    from: u64,
    /// Of the pages so far.
    found: Vec<u64>,
    /// All pages are there.
    listed: bool,
    pub(crate) done: bool,
}

impl Undertaker {
    pub(crate) fn new(group: GroupName, manner: Manner) -> Self {
        Self {
            group,
            manner,
            asked: None,
            from: 0,
            found: Vec::new(),
            listed: false,
            done: false,
        }
    }

    /// Its connection is gone; what it asked may still happen.
    pub(super) fn lost(&mut self) {
        self.asked = None;
        self.start();
    }

    fn start(&mut self) {
        self.from = 0;
        self.found.clear();
        self.listed = false;
    }

    /// Letters of the last whole list.
    pub(crate) fn listed(&self) -> u64 {
        self.found.len() as u64
    }

    pub(super) fn is_done(&self) -> bool {
        self.done || self.manner == Manner::Tidies
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        place: Place,
        more: bool,
        truth: &mut Truth,
    ) {
        let idle = self.manner == Manner::Tidies && !more;
        if self.done || idle || self.asked.is_some() {
            return;
        }
        let (handle, partition) = (place.handle, place.partition);
        if !self.listed {
            let list = QueueDeadList {
                handle,
                partition,
                from: self.from,
                max_items: 16,
                max_bytes: 1 << 16,
                bodies: false,
                select: DeadSelect::default(),
                group: self.group,
            };
            let asked = client.send(&Request::QueueDeadList(list));
            self.asked = Some((asked, Ask::List));
            return;
        }
        let mut chosen = core::mem::take(&mut self.found);
        self.start();
        if self.manner == Manner::Tidies {
            chosen.retain(|_| rng.coin());
        }
        chosen.truncate(MOVED_MAX);
        if chosen.is_empty() {
            self.done = self.manner == Manner::Purges;
            return;
        }
        let mut scratch = Vec::new();
        let ids = IdList::build(&mut scratch, chosen.iter().copied()).expect("few ids");
        let queue = truth.queue(place.key);
        let select = DeadSelect::default();
        let group = self.group;
        self.asked = Some(if self.manner == Manner::Tidies && rng.one_in(3) {
            chosen.iter().for_each(|id| queue.replaying(group, *id));
            let replay = QueueDeadReplay {
                handle,
                partition,
                rate_per_s: 0,
                select,
                group,
                ids,
            };
            let asked = client.send(&Request::QueueDeadReplay(replay));
            (asked, Ask::Replay(chosen))
        } else {
            chosen.iter().for_each(|id| queue.purging(group, *id));
            let purge = QueueDeadPurge {
                handle,
                partition,
                select,
                group,
                ids,
            };
            let asked = client.send(&Request::QueueDeadPurge(purge));
            (asked, Ask::Purge(chosen))
        });
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        time: Time,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let Some((_, ask)) = self.asked.take_if(|(asked, _)| *asked == number) else {
            return Err(Violation::new(format!("{reply:?} to nothing")));
        };
        match (ask, reply) {
            (Ask::List, Reply::DeadPage(page)) => {
                for item in page.items.iter() {
                    truth.counts.dead += 1;
                    let expired = item.reason == DeadReason::Expired;
                    let now = (time.world, time.jumps);
                    truth
                        .queue(key)
                        .dead(self.group, item.id, expired, item.attempts, now)?;
                    self.found.push(item.id);
                }
                self.from = page.next;
                self.listed = page.next == 0;
                self.done = self.listed && self.manner == Manner::Lists;
            }
            (Ask::Replay(ids), Reply::Moved(moved)) => {
                disk(moved.durability)?;
                truth.counts.redriven += moved.messages;
                promise!(
                    moved.messages <= ids.len() as u64,
                    "{} letters of {} replayed",
                    moved.messages,
                    ids.len()
                );
            }
            (Ask::Purge(ids), Reply::Moved(moved)) => {
                disk(moved.durability)?;
                truth.counts.redriven += moved.messages;
                if moved.messages == ids.len() as u64 {
                    let queue = truth.queue(key);
                    ids.iter().for_each(|id| queue.purged(self.group, *id));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
