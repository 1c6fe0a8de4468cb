//! A turn of the shard: timers, then what was touched is sealed, asked what it
//! has to say, and settled.

use pinion_domains::stream::Delivery;
use pinion_types::{Monotonic, WallMs};

use super::{Kind, Shard, Slot, Standing};
use crate::output::{LateAnswer, ShardOutput};

impl Shard {
    /// Makes this turn's appends visible, as far as they are committed, and
    /// writes what timers changed. Deliveries follow from [`Shard::poll_output`],
    /// and [`Shard::finish_turn`] after them.
    pub fn end_turn(&mut self, now: Monotonic) {
        self.turn = self.active.len();
        for i in 0..self.turn {
            let slot = self.active[i];
            if let Kind::Stream(stream) = &mut self.partitions[slot.index()].kind {
                stream.seal();
            }
            self.take_ops(now, slot);
        }
    }

    /// The next thing for a connection, until `None` ends the turn.
    pub fn poll_output(&mut self, now: Monotonic, wall: WallMs) -> Option<ShardOutput> {
        if let Some(output) = self.ready.pop_front() {
            return Some(output);
        }
        while self.turn > 0 {
            let slot = *self.active.front().expect("`turn` counts its front part");
            if let Some(output) = self.poll_partition(now, wall, slot) {
                return Some(output);
            }
            self.turn -= 1;
            self.active.pop_front();
            self.take_ops(now, slot);
            self.take_reads(now, slot);
            self.settle(slot);
        }
        None
    }

    fn poll_partition(&mut self, now: Monotonic, wall: WallMs, slot: Slot) -> Option<ShardOutput> {
        if let Kind::Queue(_) = &self.partitions[slot.index()].kind {
            return self.poll_queue(now, wall, slot);
        }
        let owned = &mut self.partitions[slot.0 as usize];
        match &mut owned.kind {
            Kind::Stream(stream) => {
                let (key, delivery) = stream.poll_delivery()?;
                if let Delivery::Records { bytes, records, .. } = &delivery {
                    owned.out_records += u64::from(*records);
                    owned.out_bytes += bytes.len() as u64;
                }
                let key = usize::try_from(key.0).expect("a slab index");
                let to = match delivery {
                    Delivery::End { .. } => self.forget_subscriber(key),
                    Delivery::Records { .. } | Delivery::Lag(_) => self.subscribers[key].to,
                };
                Some(ShardOutput::Delivery { to, delivery })
            }
            Kind::Cache(cache) => {
                while let Some((waiter, wakeup)) = cache.poll_wakeup(now) {
                    // Gone when the connection went first.
                    if let Some(waiting) = self.waiting.remove(&waiter.0) {
                        let origin = waiting.origin;
                        let answer = LateAnswer::from(wakeup);
                        return Some(ShardOutput::Wakeup { origin, answer });
                    }
                }
                let (key, event) = cache.poll_event()?;
                let key = usize::try_from(key.0).expect("a slab index");
                let to = self.subscribers[key].to;
                Some(ShardOutput::Watch { to, event })
            }
            Kind::Queue(_) => unreachable!("asked above"),
        }
    }

    /// The partition has nothing more to say in this turn.
    fn settle(&mut self, slot: Slot) {
        self.tell_first(slot);
        self.count_tail(slot);
        let owned = &mut self.partitions[slot.0 as usize];
        let (deadline, more) = match &owned.kind {
            Kind::Stream(stream) => (stream.next_deadline(), stream.has_work()),
            Kind::Cache(cache) => (cache.next_deadline(), false),
            Kind::Queue(queue) => (queue.next_deadline(), queue.has_work()),
        };
        // Nothing changes by itself in a partition that is not served.
        let served = owned.standing == Standing::Served;
        let (deadline, more) = (deadline.filter(|_| served), more && served);
        if deadline != owned.deadline {
            if let Some(old) = owned.deadline {
                self.deadlines.remove(&(old, slot));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, slot));
            }
            owned.deadline = deadline;
        }
        owned.active = more;
        if more {
            self.active.push_back(slot);
        }
    }

    /// Keeps the tails of durable streams within their budget: what is on the
    /// disk can be read again. The longest idle go first.
    fn count_tail(&mut self, slot: Slot) {
        let owned = &mut self.partitions[slot.index()];
        let (Kind::Stream(stream), Some(_)) = (&owned.kind, owned.log) else {
            return;
        };
        let bytes = stream.memory();
        self.tail_bytes = self.tail_bytes - owned.tail_bytes + bytes;
        owned.tail_bytes = bytes;
        if !owned.in_tails && bytes > 0 {
            owned.in_tails = true;
            self.tails.push_back(slot);
        }
        let mut left = self.tails.len();
        while self.tail_bytes > self.config.tail_bytes_max && left > 0 {
            left -= 1;
            let Some(idle) = self.tails.pop_front() else {
                return;
            };
            if idle == slot {
                // In use at this moment: the next one.
                self.tails.push_back(idle);
                continue;
            }
            let owned = &mut self.partitions[idle.index()];
            let Kind::Stream(stream) = &mut owned.kind else {
                continue;
            };
            stream.evict_committed(0);
            let bytes = stream.memory();
            self.tail_bytes = self.tail_bytes - owned.tail_bytes + bytes;
            owned.tail_bytes = bytes;
            if bytes > 0 {
                self.tails.push_back(idle);
            } else {
                owned.in_tails = false;
            }
        }
    }

    /// Fires every due timer of every partition; bounded by what they allow
    /// themselves per call.
    pub fn handle_timeout(&mut self, now: Monotonic, wall: WallMs) {
        self.logs_timeout(now, wall);
        while let Some(&(due, slot)) = self.deadlines.first() {
            if due > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(later) = self.timers_wait(now, slot) {
                self.deadlines.insert((later, slot));
                self.partitions[slot.index()].deadline = Some(later);
                continue;
            }
            let owned = &mut self.partitions[slot.0 as usize];
            owned.deadline = None;
            match &mut owned.kind {
                Kind::Stream(stream) => stream.handle_timeout(now),
                Kind::Cache(cache) => cache.handle_timeout(now),
                Kind::Queue(queue) => queue.handle_timeout(now, wall),
            }
            // `end_turn` finds its next deadline.
            self.touch(slot);
        }
    }

    /// When [`Shard::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let partitions = self.deadlines.first().map(|(due, _)| *due);
        [partitions, self.logs_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether another turn would bring more although nothing new came.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.active.is_empty() || !self.ready.is_empty() || self.logs_have_work()
    }
}
