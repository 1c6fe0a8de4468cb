//! The queue partition alone. Its changes are taken and committed at once, as
//! for a queue in memory; a durable one encodes them first.

use core::hint::black_box;

use bytes::Bytes;
use pinion_commitlog::Location;
use pinion_domains::queue::{
    Put, QueueConfig, QueuePartition, Take, TakeOutcome, TokenResult, WaiterId,
};
use pinion_types::{CoreId, SessionId};

use super::{NOW, OPERATIONS, WALL, batch, repeat};

struct Queue {
    partition: QueuePartition,
    message: Bytes,
    /// Where in the log the next message would lie.
    offset: u32,
}

impl Queue {
    fn new(durable: bool) -> Self {
        let config = QueueConfig {
            durable,
            seed: 7,
            ..QueueConfig::default()
        };
        let mut queue = Self {
            partition: QueuePartition::new(config, NOW, WALL),
            message: batch(1).into(),
            offset: 4096,
        };
        queue
            .partition
            .create_group(WALL, b"")
            .expect("the first group");
        queue.settle();
        queue
    }

    /// Every change is durable at once.
    fn settle(&mut self) {
        while let Some(op) = self.partition.poll_op() {
            if op.retain {
                self.offset += 256;
                self.partition.op_appended(Location {
                    segment: 1,
                    offset: self.offset,
                    len: 256,
                });
            }
            black_box(&op);
            self.partition.commit_next();
        }
    }

    fn put(&mut self) {
        let put = Put {
            count: 1,
            records: self.message.clone(),
            delay_ms: 0,
            ttl_ms: 0,
            producer: None,
        };
        self.partition.put(NOW, WALL, put).expect("there is room");
        self.settle();
    }
}

fn put(durable: bool) -> u64 {
    let mut queue = Queue::new(durable);
    queue.put();
    repeat(OPERATIONS, || queue.put())
}

fn take_and_ack(durable: bool) -> u64 {
    let mut queue = Queue::new(durable);
    for _ in 0..=OPERATIONS {
        queue.put();
    }
    let session = SessionId {
        core: CoreId(0),
        token: 1,
    };
    let (mut taken, mut results, mut waiter) = (Vec::new(), Vec::new(), 0);
    let mut operation = || {
        waiter += 1;
        let take = Take {
            session,
            waiter: WaiterId(waiter),
            group: b"",
            max: 1,
            max_bytes: 1 << 20,
            wait_ms: 0,
            lease_ms: 0,
        };
        let outcome = queue.partition.take(NOW, WALL, &take, &mut taken);
        assert!(outcome == Ok(TakeOutcome::Taken), "{outcome:?}");
        let message = taken.pop().expect("one was taken");
        queue
            .partition
            .ack(NOW, WALL, &[message.token], &mut results)
            .expect("one token");
        assert!(results.pop() == Some(TokenResult::Done));
        queue.settle();
    };
    operation();
    repeat(OPERATIONS, operation)
}

pub(super) fn put_in_memory() -> u64 {
    put(false)
}

pub(super) fn put_durable() -> u64 {
    put(true)
}

pub(super) fn take_and_ack_in_memory() -> u64 {
    take_and_ack(false)
}

pub(super) fn take_and_ack_durable() -> u64 {
    take_and_ack(true)
}
