//! Looking into a queue without taking from it: pages of messages and dead
//! letters, counts, and why nothing is delivered.

use pinion_domains::queue::{
    self, Body, DeadAction, DeadFilter, GroupCounts, Holder, PAGE_MAX, Standing, Why,
};
use pinion_types::{Monotonic, Refusal, WallMs};
use pinion_wire::message::{
    DeadItem, DeadReason, DeadSelect, GroupItem, MessageState, Moved, PeekItem, QueueDeadList,
    QueueDeadPurge, QueueDeadReplay, QueuePeek, Reason, Reply, Request, WhyReason,
};
use pinion_wire::reply::{DeadPageBuilder, QueuePageBuilder, QueueStatusBuilder, ReasonsBuilder};

use crate::core::{Core, answer};
use crate::execute::{Executed, Target};
use crate::mail::Origin;
use crate::queue_looks::Bodies;

/// Pages of the partition one peek looks at when few messages have the state
/// it asks for; then it answers what it has and where to go on.
const PEEK_PAGES_MAX: usize = 4;

/// What an op about one id asks of the log.
const ID_OP_BYTES: usize = 32;

/// What a redrive asks of the log to say what it is to do, at most.
const REDRIVE_OP_BYTES: usize = 320;

impl Core {
    /// As [`Core::execute_queue`], for what changes little or nothing.
    pub(crate) fn execute_queue_view(
        &mut self,
        origin: Origin,
        target: Target,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Result<Executed, Refusal>> {
        Some(match request {
            Request::QueuePeek(_) | Request::QueueDeadList(_) => {
                self.look(origin, target, request, out)
            }
            Request::QueueDeadReplay(replay) => self.queue_dead_replay(origin, target, replay, out),
            Request::QueueDeadPurge(purge) => self.queue_dead_purge(origin, target, purge, out),
            Request::QueueInfo(_) => {
                self.queue_info(origin, target, out);
                Ok(Executed::Replied)
            }
            Request::QueueWhy(why) => self.queue_why(origin, target, why.group, out),
            _ => return None,
        })
    }

    pub(crate) fn queue_peek(
        &mut self,
        origin: Origin,
        target: Target,
        peek: &QueuePeek<'_>,
        bodies: &mut Bodies,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let (now, wall) = (self.now, self.wall);
        let queue = self.shard.queue(target.slot);
        let mut page = QueuePageBuilder::new(out, origin.correlation);
        let (mut found, mut bytes, mut from) = (0, 0_u64, peek.from);
        let mut next = 0;
        let mut looked = Vec::new();
        'pages: for _ in 0..PEEK_PAGES_MAX {
            looked.clear();
            let more = queue.peek(peek.group.as_bytes(), from, PAGE_MAX, &mut looked)?;
            for one in &looked {
                let Some(state) = state_of(one.standing) else {
                    continue;
                };
                if !peek.states.contains(state) {
                    continue;
                }
                let len = u64::from(body_len(&one.body));
                let full = found == peek.max_items
                    || (peek.bodies && found > 0 && bytes + len > u64::from(peek.max_bytes))
                    || (peek.bodies && !bodies.want(&one.body));
                let item = PeekItem {
                    id: one.id,
                    state,
                    attempts: one.attempts,
                    enqueued: one.enqueued,
                    due: one.due.map_or(WallMs(0), |due| wall_of(due, now, wall)),
                    expires: one.expires.map_or(WallMs(0), |at| wall_of(at, now, wall)),
                    last_error: text(one.last_error.as_deref()),
                    record_bytes: body_len(&one.body),
                    record: peek.bodies.then(|| bodies.record(&one.body)).flatten(),
                };
                if full || !page.push(item) {
                    next = one.id;
                    break 'pages;
                }
                found += 1;
                bytes += len;
            }
            match more {
                Some(id) => (from, next) = (id, id),
                None => {
                    next = 0;
                    break;
                }
            }
        }
        page.finish(next);
        Ok(())
    }

    pub(crate) fn queue_dead_list(
        &mut self,
        origin: Origin,
        target: Target,
        list: &QueueDeadList<'_>,
        bodies: &mut Bodies,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let queue = self.shard.queue(target.slot);
        let max = usize::try_from(list.max_items).unwrap_or(PAGE_MAX);
        let mut letters = Vec::new();
        let more = queue.dead_letters(
            list.group.as_bytes(),
            list.from,
            max,
            &filter(&list.select),
            &mut letters,
        )?;
        let mut page = DeadPageBuilder::new(out, origin.correlation);
        let (mut found, mut bytes) = (0, 0_u64);
        let mut next = more.unwrap_or(0);
        for letter in &letters {
            let len = u64::from(body_len(&letter.body));
            let full = list.bodies
                && ((found > 0 && bytes + len > u64::from(list.max_bytes))
                    || !bodies.want(&letter.body));
            let item = DeadItem {
                id: letter.id,
                reason: to_wire(letter.reason),
                attempts: letter.attempts,
                enqueued: letter.enqueued,
                died: letter.died,
                last_error: text(letter.last_error.as_deref()),
                record_bytes: body_len(&letter.body),
                record: list.bodies.then(|| bodies.record(&letter.body)).flatten(),
            };
            if full || !page.push(item) {
                next = letter.id;
                break;
            }
            found += 1;
            bytes += len;
        }
        page.finish(next);
        Ok(())
    }

    fn queue_dead_replay(
        &mut self,
        origin: Origin,
        target: Target,
        replay: &QueueDeadReplay<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let ids: Vec<u64> = replay.ids.iter().collect();
        let (select, rate) = (filter(&replay.select), replay.rate_per_s);
        let group = replay.group.as_bytes();
        self.dead_move(
            origin,
            target,
            group,
            &ids,
            select,
            DeadAction::Replay,
            rate,
            out,
        )
    }

    fn queue_dead_purge(
        &mut self,
        origin: Origin,
        target: Target,
        purge: &QueueDeadPurge<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let ids: Vec<u64> = purge.ids.iter().collect();
        let select = filter(&purge.select);
        let group = purge.group.as_bytes();
        self.dead_move(
            origin,
            target,
            group,
            &ids,
            select,
            DeadAction::Purge,
            0,
            out,
        )
    }

    #[allow(clippy::too_many_arguments)] // one request's fields, passed on as they are
    fn dead_move(
        &mut self,
        origin: Origin,
        target: Target,
        group: &[u8],
        ids: &[u64],
        select: DeadFilter,
        action: DeadAction,
        rate_per_s: u32,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        self.shard.admit(
            target.slot,
            ids.len() * ID_OP_BYTES + REDRIVE_OP_BYTES,
            true,
        )?;
        let (now, wall) = (self.now, self.wall);
        let queue = self.shard.queue(target.slot);
        let messages = if ids.is_empty() {
            // All that match: counted now, moved over turns.
            let mut matching = 0;
            let mut from = 0;
            loop {
                let mut page = Vec::new();
                let more = queue.dead_letters(group, from, PAGE_MAX, &select, &mut page)?;
                matching += page.len() as u64;
                match more {
                    Some(id) => from = id,
                    None => break,
                }
            }
            queue.redrive(now, wall, group, select, action, rate_per_s)?;
            matching
        } else {
            let mut results = Vec::new();
            queue.dead_settle(now, wall, group, action, ids, &mut results)?;
            results.iter().filter(|found| **found).count() as u64
        };
        let reply = Reply::Moved(Moved {
            messages,
            durability: self.durability(target.slot),
        });
        answer(out, origin.correlation, &reply);
        Ok(self.when_durable(target))
    }

    fn queue_info(&mut self, origin: Origin, target: Target, out: &mut Vec<u8>) {
        let epoch = self.map.epoch();
        let wall = self.wall;
        let queue = self.shard.queue(target.slot);
        let all = queue.queue_counts();
        let mut status = QueueStatusBuilder::new(
            out,
            origin.correlation,
            all.next_id,
            all.messages,
            all.bytes,
            all.resident,
            epoch,
        );
        let names: Vec<Vec<u8>> = queue.group_names().map(<[u8]>::to_vec).collect();
        for name in names {
            let Ok(counts) = queue.group_counts(&name) else {
                // Being made at this moment.
                continue;
            };
            if !status.push(group_item(text(Some(&name)), &counts, wall)) {
                break;
            }
        }
        status.finish();
    }

    fn queue_why(
        &mut self,
        origin: Origin,
        target: Target,
        group: &str,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        let (now, wall) = (self.now, self.wall);
        let read_only = self.shard.admit(target.slot, 1, false).is_err();
        let queue = self.shard.queue(target.slot);
        queue.set_read_only(read_only);
        let why = queue.why(now, wall, group.as_bytes())?;
        let mut reasons = ReasonsBuilder::new(out, origin.correlation);
        if let Some(reason) = reason(why, now, wall) {
            let fits = reasons.push(reason);
            assert!(fits, "one reason always fits");
        }
        reasons.finish();
        Ok(Executed::Replied)
    }
}

fn group_item<'a>(name: &'a str, counts: &GroupCounts, wall: WallMs) -> GroupItem<'a> {
    GroupItem {
        name,
        // What waits for its key's turn is no more ready than what waits for
        // its time; WHY tells them apart.
        ready: counts.ready,
        delayed: counts.delayed + counts.blocked,
        in_flight: counts.in_flight,
        dead: counts.dead,
        bytes: counts.bytes,
        oldest_age_ms: counts
            .oldest
            .map_or(0, |oldest| wall.0.saturating_sub(oldest.0)),
        consumers: counts.consumers,
        waiting: counts.demands,
    }
}

/// `None` for a message the group is done with.
const fn state_of(standing: Standing) -> Option<MessageState> {
    Some(match standing {
        Standing::Ready => MessageState::Ready,
        Standing::Delayed | Standing::Blocked => MessageState::Delayed,
        Standing::InFlight => MessageState::InFlight,
        Standing::Dead => MessageState::Dead,
        Standing::Done => return None,
    })
}

fn body_len(body: &Body) -> u32 {
    match body {
        Body::Here(bytes) => u32::try_from(bytes.len()).expect("a record fits u32"),
        Body::InLog { len, .. } => *len,
    }
}

fn text(bytes: Option<&[u8]>) -> &str {
    bytes
        .and_then(|bytes| core::str::from_utf8(bytes).ok())
        .unwrap_or_default()
}

const fn to_wire(reason: queue::DeadReason) -> DeadReason {
    match reason {
        queue::DeadReason::Failed => DeadReason::Failed,
        queue::DeadReason::LeaseExpired => DeadReason::LeaseExpired,
        queue::DeadReason::Expired => DeadReason::Expired,
    }
}

const fn from_wire(reason: DeadReason) -> queue::DeadReason {
    match reason {
        DeadReason::Failed => queue::DeadReason::Failed,
        DeadReason::LeaseExpired => queue::DeadReason::LeaseExpired,
        DeadReason::Expired => queue::DeadReason::Expired,
    }
}

fn filter(select: &DeadSelect<'_>) -> DeadFilter {
    DeadFilter {
        reason: select.reason.map(from_wire),
        error_prefix: select.error_prefix.as_bytes().to_vec(),
        ..DeadFilter::default()
    }
}

/// The wall time at which something is due, as far as the clocks go on as they do.
fn wall_of(due: Monotonic, now: Monotonic, wall: WallMs) -> WallMs {
    let left = u64::try_from(due.since(now).as_millis()).unwrap_or(u64::MAX);
    WallMs(wall.0.saturating_add(left))
}

/// `None` when nothing is kept back.
fn reason(why: Why, now: Monotonic, wall: WallMs) -> Option<Reason> {
    let at = |due: Monotonic| wall_of(due, now, wall);
    let held = |fact: &mut Reason, oldest: Holder| {
        fact.consumer = oldest.session.token;
        fact.message = oldest.message;
        fact.age_ms = oldest.for_ms;
    };
    let mut fact = Reason::new(WhyReason::Empty);
    match why {
        Why::Delivering | Why::Creating => return None,
        Why::Empty { .. } => {}
        Why::Delayed { messages, until } => {
            fact.reason = WhyReason::Delayed;
            fact.messages = messages;
            fact.until = until.map_or(WallMs(0), at);
        }
        Why::Backoff { messages, until } => {
            fact.reason = WhyReason::Backoff;
            fact.messages = messages;
            fact.until = until.map_or(WallMs(0), at);
        }
        Why::AllInFlight { messages, oldest } => {
            fact.reason = WhyReason::AllInFlight;
            fact.messages = messages;
            oldest.into_iter().for_each(|one| held(&mut fact, one));
        }
        Why::GroupFull { limit, oldest } => {
            fact.reason = WhyReason::GroupInFlight;
            fact.limit = u64::from(limit);
            oldest.into_iter().for_each(|one| held(&mut fact, one));
        }
        Why::ConsumerFull { limit, oldest } => {
            fact.reason = WhyReason::ConsumerInFlight;
            fact.limit = u64::from(limit);
            held(&mut fact, oldest);
        }
        Why::RateLimited { until } => {
            fact.reason = WhyReason::RateLimited;
            fact.until = at(until);
        }
        Why::KeyBlocked { messages, by } => {
            fact.reason = WhyReason::KeyBlocked;
            fact.messages = messages;
            fact.message = by;
        }
        Why::NoConsumers { ready } => {
            fact.reason = WhyReason::NoConsumers;
            fact.messages = ready;
        }
        Why::NoCredit { subscriptions } => {
            fact.reason = WhyReason::NoCredit;
            fact.consumer = u64::from(subscriptions);
        }
        Why::Loading => fact.reason = WhyReason::Loading,
        Why::ReadOnly => fact.reason = WhyReason::ReadOnly,
        Why::Fenced => fact.reason = WhyReason::Fenced,
    }
    Some(fact)
}
