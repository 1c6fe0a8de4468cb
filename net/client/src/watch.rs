//! Watching a cache.

use bytes::Bytes;
use pinion_types::{Offset, PartitionId, Version};
use pinion_wire::Delivery;
use pinion_wire::message::{EventKind, LagReason};
use tokio::sync::mpsc;

use std::collections::VecDeque;

use crate::cache::Cache;
use crate::codec;
use crate::delivery::{Item, Source};
use crate::error::{RequestError, SubscribeError};
use crate::subscriber::open_drivers;

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// The key, or with `prefix` what keys begin with.
    pub key: Bytes,
    /// Watch every key that begins with `key`, in all partitions.
    pub prefix: bool,
    /// Send values, not only that there was a change.
    pub with_values: bool,
    /// Changes that may be on the way per partition.
    pub credit_records: u32,
    /// Bytes that may be on the way per partition.
    pub credit_bytes: u32,
}

impl WatchOptions {
    /// Watches one key.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            prefix: false,
            with_values: true,
            credit_records: 1024,
            credit_bytes: 1 << 20,
        }
    }

    /// Watches every key that begins with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self {
            prefix: true,
            ..Self::key(prefix)
        }
    }
}

/// What a watch gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// A key changed.
    Change {
        /// Its partition.
        partition: PartitionId,
        /// What happened.
        kind: EventKind,
        /// Version of the change.
        version: Version,
        /// The key.
        key: Bytes,
        /// `None` when it was not asked for or there is none.
        value: Option<Bytes>,
    },
    /// Changes were skipped: read what matters again.
    Lag {
        /// Where.
        partition: PartitionId,
        /// First version skipped.
        from: Version,
        /// First version not skipped.
        to: Version,
        /// How many; 0 is unknown.
        count: u64,
        /// Why.
        reason: LagReason,
    },
    /// The connection was lost and the watch stands again. Changes in between
    /// were not seen: read what matters again.
    Reconnected {
        /// Which partition.
        partition: PartitionId,
    },
}

/// A watch on a cache. It survives lost connections; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    items: mpsc::Receiver<Item>,
    ready: VecDeque<WatchEvent>,
    ended: bool,
}

impl Watch {
    pub(crate) async fn open(cache: &Cache, options: WatchOptions) -> Result<Self, RequestError> {
        let partitions: Vec<PartitionId> = if options.prefix {
            (0..cache.shards()).map(PartitionId).collect()
        } else {
            vec![cache.partition_of(&options.key)]
        };
        let source = Source::Changes {
            key: options.key,
            prefix: options.prefix,
            with_values: options.with_values,
        };
        let sources = partitions
            .into_iter()
            .map(|partition| (partition, source.clone()))
            .collect();
        let credit = (options.credit_records, options.credit_bytes);
        let items = open_drivers(&cache.node, &cache.resource, sources, credit).await?;
        Ok(Self {
            items,
            ready: VecDeque::new(),
            ended: false,
        })
    }

    /// The next event; `None` after an error, which is the last thing given.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, SubscribeError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            match self.items.recv().await? {
                Item::Changes(partition, frame, credit) => {
                    let Ok(Delivery::Events(events)) = codec::delivery(&frame) else {
                        continue;
                    };
                    for event in events.iter() {
                        self.ready.push_back(WatchEvent::Change {
                            partition,
                            kind: event.kind,
                            version: event.version,
                            key: codec::share(&frame, event.key),
                            value: event.value.map(|value| codec::share(&frame, value)),
                        });
                    }
                    credit.consumed(u32::from(events.len()), frame.bytes.len());
                }
                Item::Lag(partition, lag) => {
                    let version = |offset: Offset| Version(offset.0);
                    self.ready.push_back(WatchEvent::Lag {
                        partition,
                        from: version(lag.from),
                        to: version(lag.to),
                        count: lag.count,
                        reason: lag.reason,
                    });
                }
                Item::Reconnected(partition, _) => {
                    self.ready.push_back(WatchEvent::Reconnected { partition });
                }
                Item::Failed(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                // Only subscriptions to streams and consumers have these.
                Item::Block(..) | Item::Reset(..) | Item::Messages(..) => {}
            }
        }
    }
}
