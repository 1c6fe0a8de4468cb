//! What a person asks: how much is there, what is it, and why is nothing
//! delivered?

use bytes::Bytes;
use pinion_commitlog::Location;
use pinion_types::{Monotonic, SessionId, WallMs};

use super::config::{PAGE_MAX, QueueError};
use super::demand::PushId;
use super::group::{GroupCounters, Life};
use super::messages::{NEVER, State};
use super::partition::QueuePartition;
use super::pool::NIL;
use super::serve::{SCAN_MAX, is_replayed};

/// Rows looked at for the earliest time in an answer.
const LOOK_MAX: usize = 65_536;

/// The bytes of a message, or where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Its record.
    Here(Bytes),
    /// Its record is `len` bytes at `pos` of the body of the log record at `at`.
    InLog {
        /// The put's record in the log.
        at: Location,
        /// Where in its body.
        pos: u32,
        /// How many bytes.
        len: u32,
    },
}

/// Who has had a message for the longest time, of those a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose it is.
    pub session: SessionId,
    /// The subscription it went to, if it was one.
    pub push: Option<PushId>,
    /// The message.
    pub message: u64,
    /// For how long, milliseconds.
    pub for_ms: u64,
}

/// Where a message stands in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// May be delivered.
    Ready,
    /// Waits for a delay or a backoff.
    Delayed,
    /// Reserved, or on its way out of being so.
    InFlight,
    /// Waits for an earlier message of its key.
    Blocked,
    /// A dead letter.
    Dead,
    /// The group is done with it; another is not.
    Done,
}

/// A message looked at without taking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// Message id.
    pub id: u64,
    /// Where it stands in the group.
    pub standing: Standing,
    /// Attempts that failed.
    pub attempts: u16,
    /// When it was put.
    pub enqueued: WallMs,
    /// When it is ready, or its reservation ends; `None` where that is up to
    /// somebody else.
    pub due: Option<Monotonic>,
    /// When its time to live is over; `None` for what has none or is dead.
    pub expires: Option<Monotonic>,
    /// Text of the last failure.
    pub last_error: Option<Bytes>,
    /// Key, headers and value.
    pub body: Body,
}

/// How much of what a group has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// May be delivered.
    pub ready: u64,
    /// Wait for a delay or a backoff.
    pub delayed: u64,
    /// Reserved, or on their way to the log.
    pub in_flight: u64,
    /// Wait for an earlier message of their key.
    pub blocked: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of all of these.
    pub bytes: u64,
    /// The group is done with every message below this id.
    pub done_below: u64,
    /// Since when the oldest ready message waits: when it was put, and the delay it was put
    /// with later. What is dead, delayed, blocked or in flight is not ready, however old it
    /// is; one that came back counts from its put, for it is not processed since. Of what
    /// came back it is the one put first, of what nobody has had yet the one ready first, as
    /// they are handed out. `None` without a ready one.
    pub oldest: Option<WallMs>,
    /// Waiting takes and subscriptions.
    pub demands: u32,
    /// Sessions and subscriptions that took something.
    pub consumers: u32,
    /// What happened since the partition was opened.
    pub counters: GroupCounters,
}

impl GroupCounts {
    fn add(&mut self, other: &Self) {
        // Taken apart so that a new one cannot be forgotten here.
        let Self {
            ready,
            delayed,
            in_flight,
            blocked,
            dead,
            bytes,
            done_below,
            oldest,
            demands,
            consumers,
            counters,
        } = other;
        self.ready += ready;
        self.delayed += delayed;
        self.in_flight += in_flight;
        self.blocked += blocked;
        self.dead += dead;
        self.bytes += bytes;
        self.done_below = self.done_below.min(*done_below);
        self.oldest = match (self.oldest, *oldest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.demands += demands;
        self.consumers += consumers;
        self.counters.add(counters);
    }
}

/// How much the whole partition has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages not gone.
    pub messages: u64,
    /// Of these, waiting for the delay of their put.
    pub delayed: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Bytes of bodies in memory.
    pub resident: u64,
    /// Dead letters of all groups.
    pub dead: u64,
    /// Puts not yet committed.
    pub pending: u64,
    /// Messages that expired without any group.
    pub dropped: u64,
    /// Id of the next message.
    pub next_id: u64,
    /// Groups.
    pub groups: u64,
}

/// Why a group is given nothing at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing is wrong: there are messages and takers, and it goes on.
    Delivering,
    /// There is nothing; of what there was, `dead` are dead letters.
    Empty {
        /// Dead letters.
        dead: u64,
    },
    /// All there is was put with a delay.
    Delayed {
        /// How many.
        messages: u64,
        /// The first of those looked at is due then.
        until: Option<Monotonic>,
    },
    /// All there is failed before and waits to be tried again.
    Backoff {
        /// How many.
        messages: u64,
        /// The first of those looked at is due then.
        until: Option<Monotonic>,
    },
    /// All there is, consumers have.
    AllInFlight {
        /// How many.
        messages: u64,
        /// Who has the oldest; `None` when all are on their way to the log.
        oldest: Option<Holder>,
    },
    /// `max_in_flight` of the group is reached.
    GroupFull {
        /// The bound.
        limit: u32,
        /// Who has the oldest; `None` when all are on their way to the log.
        oldest: Option<Holder>,
    },
    /// Everyone who wants messages has as many in flight as a consumer may;
    /// this one the oldest.
    ConsumerFull {
        /// Its bound: what it asked for, or the queue's for each.
        limit: u32,
        /// The consumer, and its oldest message.
        oldest: Holder,
    },
    /// Only redeliveries are left, and they come at a limited rate.
    RateLimited {
        /// The next may go then.
        until: Monotonic,
    },
    /// All that is left waits for an earlier message of its key.
    KeyBlocked {
        /// How many.
        messages: u64,
        /// One of the messages they wait for.
        by: u64,
    },
    /// There are messages and nobody wants any.
    NoConsumers {
        /// How many.
        ready: u64,
    },
    /// The subscriptions have no credit or their transports are full.
    NoCredit {
        /// How many subscriptions.
        subscriptions: u32,
    },
    /// The next message's body is being read from the log.
    Loading,
    /// The group is being created.
    Creating,
    /// There is nothing, and the disk is full: puts are refused.
    ReadOnly,
    /// Data is damaged or a write has failed.
    Fenced,
}

impl QueuePartition {
    /// Why a group is given nothing at this moment. O(consumers) and, for the
    /// earliest time, up to 65,536 rows.
    ///
    /// # Errors
    /// [`QueueError::UnknownGroup`].
    pub fn why(&mut self, now: Monotonic, wall: WallMs, name: &[u8]) -> Result<Why, QueueError> {
        self.see(now, wall);
        let Some(group) = self.find_group(name) else {
            if !self.is_unused_default(name) {
                return Err(QueueError::UnknownGroup);
            }
            return Ok(match self.unused_counts() {
                _ if self.fenced => Why::Fenced,
                counts if counts.ready > 0 => Why::NoConsumers {
                    ready: counts.ready,
                },
                counts if counts.delayed > 0 => self.why_delayed(counts.delayed),
                _ if self.read_only => Why::ReadOnly,
                _ => Why::Empty { dead: 0 },
            });
        };
        let row = self.t.group(group);
        if self.fenced {
            return Ok(Why::Fenced);
        }
        match row.life {
            Life::Creating => return Ok(Why::Creating),
            Life::Closing => return Err(QueueError::UnknownGroup),
            Life::Open => {}
        }
        let (demands, held) = (row.demands, row.in_flight + row.settling);
        let (hungry, loading, next) = (
            !row.hungry.is_empty(),
            row.loading,
            row.bucket
                .next(self.config.redelivery_per_sec, self.config.redelivery_burst),
        );
        let (failed, returned) = (row.delayed, row.returned.len() as u64);
        let counts = self.counts(group);
        if counts.ready == 0 {
            return Ok(self.why_nothing_ready(group, &counts, failed));
        }
        if held >= self.config.max_in_flight {
            return Ok(Why::GroupFull {
                limit: self.config.max_in_flight,
                oldest: self.oldest_held(group, |_| true).map(|(_, oldest)| oldest),
            });
        }
        if demands == 0 {
            return Ok(Why::NoConsumers {
                ready: counts.ready,
            });
        }
        if !hungry {
            let blocked = self.oldest_held(group, |consumer| {
                !self.consumers[consumer].blocked.is_empty()
            });
            return Ok(match blocked {
                Some((consumer, oldest)) => Why::ConsumerFull {
                    limit: self.may_hold(consumer),
                    oldest,
                },
                None => Why::NoCredit {
                    subscriptions: demands,
                },
            });
        }
        if returned == counts.ready && next > self.clock {
            return Ok(Why::RateLimited { until: next });
        }
        Ok(if loading {
            Why::Loading
        } else {
            Why::Delivering
        })
    }

    fn why_nothing_ready(&self, group: u8, counts: &GroupCounts, failed: u32) -> Why {
        let row = self.t.group(group);
        if counts.blocked > 0 {
            let by = self
                .t
                .entries
                .rows()
                .iter()
                .find(|e| e.group == group && e.owns_key && e.state != State::Free);
            return Why::KeyBlocked {
                messages: counts.blocked,
                by: by.map_or(0, |e| self.t.messages[e.message].id),
            };
        }
        if row.in_flight + row.settling > 0 {
            return Why::AllInFlight {
                messages: counts.in_flight,
                oldest: self.oldest_held(group, |_| true).map(|(_, oldest)| oldest),
            };
        }
        if failed > 0 {
            let rows = self.t.entries.rows().iter().take(LOOK_MAX);
            return Why::Backoff {
                messages: u64::from(failed),
                until: rows
                    .filter(|e| e.group == group && e.state == State::Delayed)
                    .map(|e| e.timer.deadline())
                    .min(),
            };
        }
        if counts.delayed > 0 {
            return self.why_delayed(counts.delayed);
        }
        if self.read_only {
            return Why::ReadOnly;
        }
        Why::Empty { dead: counts.dead }
    }

    fn why_delayed(&self, messages: u64) -> Why {
        let rows = self.t.messages.rows().iter().take(LOOK_MAX);
        Why::Delayed {
            messages,
            until: rows
                .filter(|m| m.len > 0 && m.delayed)
                .map(|m| self.t.records[m.record].due)
                .min(),
        }
    }

    /// Who of the group has had a message for the longest time: the consumer's
    /// row, and what there is to say.
    fn oldest_held(&self, group: u8, of: impl Fn(u32) -> bool) -> Option<(u32, Holder)> {
        self.names
            .consumers
            .iter()
            .filter(|(key, consumer)| key.group == group && of(**consumer))
            .filter_map(|(key, consumer)| {
                let head = self.consumers[*consumer].reservations.head;
                (head != NIL).then(|| (self.t.entries[head].at, key, *consumer, head))
            })
            .min_by_key(|(at, key, ..)| (*at, key.session))
            .map(|(at, key, consumer, entry)| {
                let ms = self.clock.since(at).as_millis();
                let oldest = Holder {
                    session: key.session,
                    push: key.push,
                    message: self.id_of(entry),
                    for_ms: u64::try_from(ms).unwrap_or(u64::MAX),
                };
                (consumer, oldest)
            })
    }

    /// How much a group has.
    ///
    /// # Errors
    /// [`QueueError::UnknownGroup`].
    pub fn group_counts(&mut self, name: &[u8]) -> Result<GroupCounts, QueueError> {
        if self.is_unused_default(name) {
            return Ok(self.unused_counts());
        }
        let group = self.open_group(name)?;
        Ok(self.counts(group))
    }

    /// How much all open groups have together: a message that two of them have counts
    /// twice. `done_below` and `oldest` are the lowest there are; `counters` are those of
    /// [`QueuePartition::counters`].
    /// While nobody has used any group, the default one has everything.
    pub fn all_counts(&mut self) -> GroupCounts {
        let mut all: Option<GroupCounts> = None;
        for group in self.group_bits() {
            if self.t.group(group).life != Life::Open {
                continue;
            }
            let counts = self.counts(group);
            match &mut all {
                Some(all) => all.add(&counts),
                None => all = Some(counts),
            }
        }
        let mut all = all.unwrap_or_else(|| self.unused_counts());
        all.counters = self.counters();
        all
    }

    /// What all groups have counted, those that were deleted included: it only grows.
    #[must_use]
    pub fn counters(&self) -> GroupCounters {
        let mut all = self.gone;
        for group in self.t.groups.iter().flatten() {
            all.add(&group.counters);
        }
        all
    }

    /// The oldest message a group is not done with, or the next put's first. A
    /// group that is not there yet has everything before it.
    pub fn oldest_undone(&mut self, name: &[u8]) -> u64 {
        match self.open_group(name) {
            Ok(group) => self.counts(group).done_below,
            Err(_) => self.unused_counts().done_below,
        }
    }

    /// Of the default group as long as nobody has used it: it has everything.
    fn unused_counts(&self) -> GroupCounts {
        let undone = self.index.from(&self.t.messages, 0).next();
        let head = self.ready.head;
        let row = self.find_group(b"").map(|group| self.t.group(group));
        GroupCounts {
            ready: u64::from(self.ready.len),
            delayed: u64::from(self.delayed),
            bytes: self.bytes,
            done_below: undone.map_or(self.committed_id, |m| self.t.messages[m].id),
            oldest: (head != NIL).then(|| self.waits_since(head)),
            demands: row.map_or(0, |row| row.demands),
            consumers: row.map_or(0, |row| row.consumers),
            ..GroupCounts::default()
        }
    }

    pub(super) fn counts(&mut self, group: u8) -> GroupCounts {
        // Ids only become done, so where the last answer ended the next begins.
        let bit = 1_u64 << group;
        let prefix = self.t.group(group).prefix;
        let undone = self
            .index
            .from(&self.t.messages, prefix)
            .find(|m| self.t.messages[*m].done & bit == 0);
        let done_below = undone.map_or(self.committed_id, |m| self.t.messages[m].id);
        self.t.group_mut(group).prefix = done_below;
        let oldest = self.oldest_ready(group);
        let row = self.t.group(group);
        GroupCounts {
            ready: u64::from(self.ready.len - row.touched)
                + row.front.len() as u64
                + row.returned.len() as u64,
            delayed: u64::from(self.delayed - row.touched_delayed) + u64::from(row.delayed),
            in_flight: u64::from(row.in_flight) + u64::from(row.settling),
            blocked: u64::from(row.parked),
            dead: row.dead.len() as u64,
            bytes: self.bytes - row.done_bytes,
            done_below,
            oldest,
            demands: row.demands,
            consumers: row.consumers,
            counters: row.counters,
        }
    }

    /// Of the three orders in which a group is given messages, the first of each.
    fn oldest_ready(&mut self, group: u8) -> Option<WallMs> {
        let fresh = self.pass_touched(group, SCAN_MAX);
        let row = self.t.group(group);
        let again = [&row.front, &row.returned].map(|order| {
            let (_, entry) = order.first_key_value()?;
            Some(self.t.entries[*entry].message)
        });
        let heads = again.into_iter().chain([fresh]).flatten();
        heads.map(|message| self.waits_since(message)).min()
    }

    /// The first message of the ready order that the group has not touched. The group moves
    /// past those before it, as it does when it is served, so none is looked at twice. With
    /// more than `most` of them `None`, and the next call goes on: they are there only when
    /// messages expired or were purged in a group that takes none.
    pub(super) fn pass_touched(&mut self, group: u8, most: u32) -> Option<u32> {
        let row = self.t.group(group);
        if row.touched == self.ready.len {
            return None;
        }
        let mut after = row.after;
        let mut found = None;
        for _ in 0..most {
            let message = match after {
                NIL => self.ready.head,
                after => self.t.messages[after].link.next,
            };
            if message == NIL {
                break;
            }
            if self.t.messages[message].touched & (1 << group) == 0 {
                found = Some(message);
                break;
            }
            after = message;
        }
        self.t.group_mut(group).after = after;
        found
    }

    /// When a message could first be handed out.
    fn waits_since(&self, message: u32) -> WallMs {
        let put = &self.t.records[self.t.messages[message].record];
        WallMs(put.timestamp.0.saturating_add(put.delay_ms))
    }

    /// Reads what its counts will read, and no more, so that it is in the processor's cache
    /// then. What is read has no meaning; whoever throws it away must not let the compiler
    /// know.
    #[must_use]
    pub fn fetch_ahead(&self) -> u64 {
        let undone = self.index.from(&self.t.messages, 0).next();
        let undone = undone.map_or(0, |m| self.t.messages[m].id);
        let head = self.ready.head;
        let since = if head == NIL {
            0
        } else {
            self.waits_since(head).0
        };
        undone
            ^ since
            ^ self.group_mask
            ^ self.bytes
            ^ self.bodies.resident
            ^ u64::from(self.ready.len)
    }

    /// How much the partition has.
    #[must_use]
    pub fn queue_counts(&self) -> QueueCounts {
        QueueCounts {
            messages: u64::from(self.t.messages.len()),
            delayed: u64::from(self.delayed),
            bytes: self.bytes,
            resident: self.bodies.resident,
            dead: u64::from(self.dead),
            pending: u64::from(self.pending_messages),
            dropped: self.bodies.dropped,
            next_id: self.next_id,
            groups: u64::from(self.group_mask.count_ones()),
        }
    }

    /// Messages a group is not done with, from id `from` on, at most `max` and
    /// [`PAGE_MAX`], appended to `out`; nothing is reserved. The id to go on
    /// from, if there may be more.
    ///
    /// # Errors
    /// [`QueueError::UnknownGroup`].
    pub fn peek(
        &self,
        name: &[u8],
        from: u64,
        max: usize,
        out: &mut Vec<Peeked>,
    ) -> Result<Option<u64>, QueueError> {
        let group = match self.is_unused_default(name) {
            true => None,
            false => Some(self.open_group(name)?),
        };
        let max = max.clamp(1, PAGE_MAX);
        let mut found = 0;
        let messages = self.index.from(&self.t.messages, from);
        for (looked, message) in messages.enumerate() {
            let row = &self.t.messages[message];
            if found == max || looked == LOOK_MAX {
                return Ok(Some(row.id));
            }
            if group.is_some_and(|group| row.done & (1 << group) != 0) {
                continue;
            }
            found += 1;
            let entry = group
                .and_then(|group| self.entry_of(message, group))
                .map(|e| &self.t.entries[e]);
            let put = &self.t.records[row.record];
            let standing = match group {
                Some(group) => self.standing_of(message, group),
                None if row.delayed => Standing::Delayed,
                None => Standing::Ready,
            };
            let due = match (standing, entry) {
                (Standing::Delayed, None) => Some(put.due),
                (Standing::Delayed, Some(entry)) => Some(entry.timer.deadline()),
                (Standing::InFlight, Some(entry)) if entry.state == State::InFlight => {
                    Some(entry.timer.deadline())
                }
                _ => None,
            };
            let lives = standing != Standing::Dead && !entry.is_some_and(is_replayed);
            out.push(Peeked {
                id: row.id,
                standing,
                attempts: entry.map_or(0, |e| e.attempts),
                enqueued: put.timestamp,
                due,
                expires: Some(put.expires).filter(|at| lives && *at < NEVER),
                last_error: entry.and_then(|e| e.error().cloned()),
                body: self.body_of(message),
            });
        }
        Ok(None)
    }

    /// Whose reservation a message is in; `None` when nobody has it, or what became of it is
    /// on its way to the log.
    #[must_use]
    pub fn holder(&self, name: &[u8], id: u64) -> Option<SessionId> {
        let group = self.find_group(name)?;
        let entry = self.entry_of(self.index.find(&self.t.messages, id)?, group)?;
        let row = &self.t.entries[entry];
        if row.state != State::InFlight {
            return None;
        }
        Some(self.consumers[row.consumer].key?.session)
    }

    fn standing_of(&self, message: u32, group: u8) -> Standing {
        let row = &self.t.messages[message];
        match self.entry_of(message, group) {
            None if row.done & (1 << group) != 0 => Standing::Done,
            None if row.delayed => Standing::Delayed,
            None => Standing::Ready,
            Some(entry) => match self.t.entries[entry].state {
                State::Front | State::Returned | State::Restored | State::Free => Standing::Ready,
                State::Delayed => Standing::Delayed,
                State::InFlight | State::Settling => Standing::InFlight,
                State::Parked => Standing::Blocked,
                State::Dead => Standing::Dead,
            },
        }
    }

    pub(super) fn body_of(&self, message: u32) -> Body {
        let row = &self.t.messages[message];
        let put = &self.t.records[row.record];
        match (&put.body, put.location) {
            (Some(body), _) => {
                let pos = row.pos as usize;
                Body::Here(body.slice(pos..pos + row.len as usize))
            }
            (None, Some(at)) => Body::InLog {
                at,
                pos: row.pos,
                len: row.len,
            },
            (None, None) => unreachable!("a body is in memory or in the log"),
        }
    }
}
