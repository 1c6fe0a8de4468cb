//! Keeps messages reserved while they are worked on, and gives back those the
//! application never got.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pinion_types::limits::QUEUE_TOKENS_MAX;
use pinion_types::{ErrorCode, PartitionId};
use pinion_wire::message::{QueueMessages, Token};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::{Message, Queue, Settle};
use crate::frames::Frame;

/// A reservation is extended when this part of it has passed: two more
/// attempts fit before it is over.
const EXTEND_AFTER: u32 = 3;

/// Shortest time between two extensions of one message, however short its
/// reservation and however often the node fails to answer.
const EXTEND_PAUSE_MIN: Duration = Duration::from_millis(20);

/// Shared by who takes or consumes, and by every message they were given. It
/// lives as long as one of them.
#[derive(Debug)]
pub(crate) struct Keeper {
    queue: Queue,
    group: Arc<str>,
    /// Longest a message is kept reserved from when it came; zero is never
    /// beyond its first reservation.
    keep: Duration,
    /// As many as are reserved, which the queue bounds.
    held: Mutex<HashMap<Token, Held>>,
    /// To the task that talks to the node. At most one entry for each message.
    returns: mpsc::UnboundedSender<(PartitionId, Token)>,
    /// There is a first message to keep.
    first: Arc<Notify>,
}

#[derive(Debug)]
struct Held {
    partition: PartitionId,
    lease_ms: u32,
    /// When to extend it next.
    next: Instant,
    /// When to stop.
    until: Instant,
    lost: Arc<AtomicBool>,
}

/// Whether the code says that a reservation is no more.
pub(super) const fn is_over(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::InvalidToken | ErrorCode::TokenExpired)
}

impl Keeper {
    /// Starts its task on the current runtime.
    pub(super) fn start(queue: Queue, group: &str, keep: Duration) -> Arc<Self> {
        let (returns, returned) = mpsc::unbounded_channel();
        let first = Arc::new(Notify::new());
        let keeper = Arc::new(Self {
            queue: queue.clone(),
            group: group.into(),
            keep,
            held: Mutex::default(),
            returns,
            first: Arc::clone(&first),
        });
        let group = Arc::clone(&keeper.group);
        tokio::spawn(run(Arc::downgrade(&keeper), queue, group, returned, first));
        keeper
    }

    pub(super) const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The consumer group.
    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// The messages of a frame, kept reserved from now on. `gone` is set when
    /// their connection is lost.
    pub(crate) fn unpack(
        self: &Arc<Self>,
        partition: PartitionId,
        frame: &Frame,
        messages: QueueMessages<'_>,
        gone: &Arc<AtomicBool>,
    ) -> Vec<Message> {
        let now = Instant::now();
        let unpack = |message| {
            let lost = Arc::<AtomicBool>::default();
            let kept = Arc::clone(&lost);
            let message = Message::unpack(self, partition, frame, &message, lost, gone);
            if !self.keep.is_zero() {
                let held = Held {
                    partition,
                    lease_ms: messages.lease_ms,
                    next: now + pause(messages.lease_ms),
                    until: now + self.keep,
                    lost: kept,
                };
                let mut all = self.lock();
                all.insert(message.token(), held);
                if all.len() == 1 {
                    self.first.notify_one();
                }
            }
            message
        };
        messages.messages.iter().map(unpack).collect()
    }

    /// Keeps it no longer.
    pub(super) fn let_go(&self, token: Token) {
        self.lock().remove(&token);
    }

    /// Has it released: the application never saw it.
    pub(super) fn give_back(&self, partition: PartitionId, token: Token) {
        // An error means that the runtime is gone, and soon the connection.
        let _ = self.returns.send((partition, token));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_due(&self) -> Option<Instant> {
        self.lock().values().map(|held| held.next).min()
    }

    /// What to extend now, by partition and length; each is due again later.
    fn due(&self, now: Instant) -> HashMap<(PartitionId, u32), Vec<Token>> {
        let mut due: HashMap<_, Vec<Token>> = HashMap::new();
        self.lock().retain(|token, held| {
            if held.until <= now {
                return false;
            }
            // Those that are nearly due go along, so that messages that came
            // one by one are extended together.
            if held.next <= now + pause(held.lease_ms) / 2 {
                held.next = now + pause(held.lease_ms);
                due.entry((held.partition, held.lease_ms))
                    .or_default()
                    .push(*token);
            }
            true
        });
        due
    }

    fn over(&self, token: Token) {
        if let Some(held) = self.lock().remove(&token) {
            held.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Extends what is due, each partition on its own: one whose core does not
    /// answer must not cost the others their reservations.
    fn extend(self: &Arc<Self>, now: Instant) {
        for ((partition, lease_ms), tokens) in self.due(now) {
            let keeper = Arc::clone(self);
            tokio::spawn(async move {
                let how = Settle::Extend { lease_ms };
                let settled = keeper.queue.settle(partition, &keeper.group, &tokens, how);
                // A reservation that could not be extended is tried again when
                // it is due the next time, and that is before it is over.
                for (token, result) in tokens.iter().zip(settled.await.unwrap_or_default()) {
                    if result.is_err_and(is_over) {
                        keeper.over(*token);
                    }
                }
            });
        }
    }
}

/// How long after it was made or extended a reservation is extended.
fn pause(lease_ms: u32) -> Duration {
    (Duration::from_millis(u64::from(lease_ms)) / EXTEND_AFTER).max(EXTEND_PAUSE_MIN)
}

/// Extends and gives back until nobody has a message or may get one.
async fn run(
    keeper: Weak<Keeper>,
    queue: Queue,
    group: Arc<str>,
    mut returned: mpsc::UnboundedReceiver<(PartitionId, Token)>,
    first: Arc<Notify>,
) {
    loop {
        let due = keeper.upgrade().and_then(|keeper| keeper.next_due());
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            got = returned.recv() => match got {
                Some(one) => release(&queue, &group, one, &mut returned).await,
                // The keeper is gone, and with it all messages.
                None => return,
            },
            () = timer => {
                if let Some(keeper) = keeper.upgrade() {
                    keeper.extend(Instant::now());
                }
            }
            () = first.notified() => {}
        }
    }
}

/// Releases one message and those that were given back with it.
async fn release(
    queue: &Queue,
    group: &str,
    first: (PartitionId, Token),
    more: &mut mpsc::UnboundedReceiver<(PartitionId, Token)>,
) {
    let mut by_partition: HashMap<PartitionId, Vec<Token>> = HashMap::new();
    let mut next = Some(first);
    for _ in 0..QUEUE_TOKENS_MAX {
        let Some((partition, token)) = next else {
            break;
        };
        by_partition.entry(partition).or_default().push(token);
        next = more.try_recv().ok();
    }
    if let Some((partition, token)) = next {
        by_partition.entry(partition).or_default().push(token);
    }
    for (partition, tokens) in by_partition {
        // When it fails, the reservations end by their time or with the connection.
        let _ = queue
            .settle(partition, group, &tokens, Settle::Release)
            .await;
    }
}
