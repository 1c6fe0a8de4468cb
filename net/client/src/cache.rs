//! A cache: key to latest value.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pinion_types::limits::{CACHE_MULTI_MAX, FRAME_BYTES_MAX, LEASE_WAIT_MS_MAX};
use pinion_types::route::partition_of;
use pinion_types::{ErrorCode, PartitionId, Version};
use pinion_wire::message::{
    CacheDelete, CacheGet, CacheGetMany, CacheIncr, CacheInfo, CacheLease, CacheScan, CacheSet,
    CacheSetMany, CacheStatus, CacheTouch, Condition, ItemList, KeyList, SetItem,
};
use pinion_wire::message::{Handle, Spec};
use pinion_wire::{Reply, Request};

use crate::codec;
use crate::error::RequestError;
use crate::frames::Frame;
use crate::node::Node;
use crate::request::Class;
use crate::resource::Resource;
use crate::watch::{Watch, WatchOptions};

/// A value as the cache has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// The value, sharing the bytes it came in.
    pub value: Bytes,
    /// For [`SetOptions::condition`].
    pub version: Version,
    /// What remains of its life; `None` is no end.
    pub ttl: Option<Duration>,
    /// Expired, and given only because stale values were accepted.
    pub stale: bool,
}

/// How to [`set`](Cache::set_with).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetOptions {
    /// Time to live, counted in whole milliseconds; `None` is no end.
    pub ttl: Option<Duration>,
    /// When to write at all.
    pub condition: Condition,
}

impl Default for SetOptions {
    fn default() -> Self {
        Self {
            ttl: None,
            condition: Condition::Always,
        }
    }
}

/// One entry to [`set_many`](Cache::set_many).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheItem {
    /// At most 1,024 bytes.
    pub key: Bytes,
    /// At most 1 MiB.
    pub value: Bytes,
    /// Time to live; `None` is no end.
    pub ttl: Option<Duration>,
}

/// What a [`get_or_lease`](Cache::get_or_lease) gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// There is a value.
    Value(CacheEntry),
    /// There is none, and this caller is the one to set it, with
    /// [`Condition::Lease`], before the time is over.
    Fill {
        /// For [`Condition::Lease`].
        lease: u64,
        /// How long it is held.
        held_for: Duration,
    },
}

/// How to [`get_or_lease`](Cache::get_or_lease).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Longest wait for another caller who fills, at most 30 s.
    pub wait: Duration,
    /// How long this caller may take to fill.
    pub lease: Duration,
    /// An expired value will do while another fills.
    pub stale_ok: bool,
}

impl Default for LeaseOptions {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(5),
            lease: Duration::from_secs(5),
            stale_ok: false,
        }
    }
}

/// One key of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedEntry {
    /// The key.
    pub key: Bytes,
    /// Empty when only keys were asked for.
    pub value: Bytes,
    /// For [`SetOptions::condition`].
    pub version: Version,
    /// What remains of its life; `None` is no end.
    pub ttl: Option<Duration>,
}

/// A cache on the node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) node: Arc<Node>,
    pub(crate) resource: Arc<Resource>,
    spec: Spec,
}

impl Cache {
    pub(crate) const fn new(node: Arc<Node>, resource: Arc<Resource>, spec: Spec) -> Self {
        Self {
            node,
            resource,
            spec,
        }
    }

    /// How many partitions there are.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.spec.shards
    }

    /// The specification in force.
    #[must_use]
    pub const fn spec(&self) -> Spec {
        self.spec
    }

    /// The partition of a key.
    #[must_use]
    pub fn partition_of(&self, key: &[u8]) -> PartitionId {
        partition_of(key, self.spec.shards)
    }

    /// The value of a key, if there is one that has not expired.
    ///
    /// # Errors
    /// As every request; repeating it is safe.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<CacheEntry>, RequestError> {
        let key = key.as_ref();
        let build = |handle| Request::CacheGet(CacheGet { handle, key });
        self.keyed(key, Class::Read, build, |frame, reply| match reply {
            Reply::CacheValue(found) => Some(Some(CacheEntry {
                value: codec::share(frame, found.value),
                version: found.version,
                ttl: ttl(found.ttl_ms),
                stale: found.stale,
            })),
            Reply::CacheMiss => Some(None),
            _ => None,
        })
        .await
    }

    /// Sets a key without an end to its life.
    ///
    /// # Errors
    /// As [`set_with`](Self::set_with).
    pub async fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Version, RequestError> {
        self.set_with(key, value, SetOptions::default()).await
    }

    /// Sets a key. Gives its version, which grows with every write.
    ///
    /// # Errors
    /// `VersionConflict`, `KeyExists` and `LeaseLost` name the condition that
    /// did not hold. When the outcome is unknown, read the key.
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<Version, RequestError> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let ttl_ms = ttl_ms(options.ttl);
        let build = |handle| {
            Request::CacheSet(CacheSet {
                handle,
                condition: options.condition,
                ttl_ms,
                key,
                value,
            })
        };
        self.keyed(key, Class::Write, build, stored).await
    }

    /// Deletes a key. Gives whether it was there.
    ///
    /// # Errors
    /// When the outcome is unknown, read the key.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, RequestError> {
        self.delete_if(key.as_ref(), Condition::Always).await
    }

    /// Deletes a key that has this version.
    ///
    /// # Errors
    /// `VersionConflict` names the version found.
    pub async fn delete_version(
        &self,
        key: impl AsRef<[u8]>,
        version: Version,
    ) -> Result<bool, RequestError> {
        self.delete_if(key.as_ref(), Condition::Version(version))
            .await
    }

    async fn delete_if(&self, key: &[u8], condition: Condition) -> Result<bool, RequestError> {
        let build = |handle| {
            Request::CacheDelete(CacheDelete {
                handle,
                condition,
                key,
            })
        };
        self.keyed(key, Class::Write, build, |_, reply| match reply {
            Reply::CacheDeleted(deleted) => Some(deleted.existed),
            _ => None,
        })
        .await
    }

    /// Gives a key another time to live; `None` is no end.
    ///
    /// # Errors
    /// `KeyAbsent` when there is nothing to touch.
    pub async fn touch(
        &self,
        key: impl AsRef<[u8]>,
        ttl: Option<Duration>,
    ) -> Result<Version, RequestError> {
        let key = key.as_ref();
        let ttl_ms = ttl_ms(ttl);
        let build = |handle| {
            Request::CacheTouch(CacheTouch {
                handle,
                ttl_ms,
                key,
            })
        };
        self.keyed(key, Class::Write, build, stored).await
    }

    /// Adds to a counter; an absent one begins at `initial`, with `ttl`.
    /// Gives its value, which tells what was there: it needs the grants to read and to write.
    ///
    /// # Errors
    /// `NotACounter` when the value is not 8 bytes; `CounterOverflow`.
    pub async fn incr(
        &self,
        key: impl AsRef<[u8]>,
        delta: i64,
        initial: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, RequestError> {
        let key = key.as_ref();
        let ttl_ms = ttl_ms(ttl);
        let build = |handle| {
            Request::CacheIncr(CacheIncr {
                handle,
                delta,
                initial,
                ttl_ms,
                key,
            })
        };
        self.keyed(key, Class::Write, build, |_, reply| match reply {
            Reply::CacheCounter(counter) => Some(counter.value),
            _ => None,
        })
        .await
    }

    /// Reads many keys, each partition in as few requests as its answers fit.
    /// Gives the entries in the order of the keys.
    ///
    /// # Errors
    /// As every request; repeating it is safe.
    pub async fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
    ) -> Result<Vec<Option<CacheEntry>>, RequestError> {
        let mut found = vec![None; keys.len()];
        for (partition, mut indexes) in self.by_partition(keys.iter().map(AsRef::as_ref)) {
            while !indexes.is_empty() {
                let asked = &indexes[..indexes.len().min(usize::from(CACHE_MULTI_MAX))];
                let answered = self.get_some(partition, keys, asked).await?;
                if answered.is_empty() {
                    // The limits let one value fit a frame.
                    return Err(RequestError::Protocol(
                        crate::error::ProtocolError::Malformed { opcode: 0xa5 },
                    ));
                }
                let count = answered.len();
                for (index, entry) in asked.iter().zip(answered) {
                    found[*index] = entry;
                }
                indexes.drain(..count);
            }
        }
        Ok(found)
    }

    async fn get_some<K: AsRef<[u8]>>(
        &self,
        partition: PartitionId,
        keys: &[K],
        asked: &[usize],
    ) -> Result<Vec<Option<CacheEntry>>, RequestError> {
        let mut scratch = Vec::new();
        let list = KeyList::build(&mut scratch, asked.iter().map(|i| keys[*i].as_ref()))?;
        let build = |handle| {
            Request::CacheGetMany(CacheGetMany {
                handle,
                partition,
                keys: list,
            })
        };
        self.node
            .request(
                &self.resource,
                partition,
                Class::Read,
                build,
                |frame, reply| {
                    let Reply::CacheValues(values) = reply else {
                        return None;
                    };
                    if usize::from(values.len()) > asked.len() {
                        return None;
                    }
                    let entry = |value: pinion_wire::message::CachedValue<'_>| CacheEntry {
                        value: codec::share(frame, value.value),
                        version: value.version,
                        ttl: ttl(value.ttl_ms),
                        stale: false,
                    };
                    Some(values.iter().map(|value| value.map(entry)).collect())
                },
            )
            .await
    }

    /// Sets many keys, each on its own. Gives for each its version, or why it
    /// was not stored.
    ///
    /// # Errors
    /// A request failed as a whole; requests before it have done their part.
    pub async fn set_many(
        &self,
        items: &[CacheItem],
    ) -> Result<Vec<Result<Version, ErrorCode>>, RequestError> {
        let mut results = vec![Err(ErrorCode::Busy); items.len()];
        for (partition, indexes) in self.by_partition(items.iter().map(|item| &item.key[..])) {
            let mut rest = &indexes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(fitting(items, rest));
                let stored = self.set_some(partition, items, now).await?;
                for (index, result) in now.iter().zip(stored) {
                    results[*index] = result;
                }
                rest = later;
            }
        }
        Ok(results)
    }

    async fn set_some(
        &self,
        partition: PartitionId,
        items: &[CacheItem],
        indexes: &[usize],
    ) -> Result<Vec<Result<Version, ErrorCode>>, RequestError> {
        let mut scratch = Vec::new();
        let given = indexes.iter().map(|index| {
            let item = &items[*index];
            SetItem {
                ttl_ms: ttl_ms(item.ttl),
                key: &item.key,
                value: &item.value,
            }
        });
        let list = ItemList::build(&mut scratch, given)?;
        let build = |handle| {
            Request::CacheSetMany(CacheSetMany {
                handle,
                partition,
                items: list,
            })
        };
        self.node
            .request(
                &self.resource,
                partition,
                Class::Write,
                build,
                |_, reply| match reply {
                    Reply::CacheStoredMany(stored)
                        if usize::from(stored.len()) == indexes.len() =>
                    {
                        let one = |item: pinion_wire::message::StoredItem| {
                            item.error.map_or(Ok(item.version), Err)
                        };
                        Some(stored.iter().map(one).collect())
                    }
                    _ => None,
                },
            )
            .await
    }

    /// Walks the keys that begin with `prefix`, in no particular order. A key
    /// that is there throughout is given at least once.
    #[must_use]
    pub fn scan(&self, prefix: impl Into<Bytes>) -> Scan {
        Scan {
            cache: self.clone(),
            prefix: prefix.into(),
            keys_only: false,
            page_items: 512,
            partition: 0,
            cursor: 0,
        }
    }

    /// The value of a key; or the task to set it, given to one caller at a
    /// time; or a wait for that caller. Needs the grants to read and to write.
    ///
    /// # Errors
    /// `TimedOut` when another caller did not fill within the wait. A lost
    /// connection may leave a lease that nobody fills; it ends by its time.
    pub async fn get_or_lease(
        &self,
        key: impl AsRef<[u8]>,
        options: LeaseOptions,
    ) -> Result<Leased, RequestError> {
        let key = key.as_ref();
        let wait_ms = millis_u32(options.wait).min(LEASE_WAIT_MS_MAX);
        let lease_ms = millis_u32(options.lease).max(1);
        let build = |handle| {
            Request::CacheLease(CacheLease {
                handle,
                wait_ms,
                lease_ms,
                stale_ok: options.stale_ok,
                key,
            })
        };
        // The node may take all of the wait before it answers.
        let after = self.node.config.request_timeout + Duration::from_millis(u64::from(wait_ms));
        let partition = self.partition_of(key);
        self.node
            .request_within(
                after,
                &self.resource,
                partition,
                Class::Write,
                build,
                |frame, reply| match reply {
                    Reply::CacheValue(found) => Some(Leased::Value(CacheEntry {
                        value: codec::share(frame, found.value),
                        version: found.version,
                        ttl: ttl(found.ttl_ms),
                        stale: found.stale,
                    })),
                    Reply::CacheLeased(leased) => Some(Leased::Fill {
                        lease: leased.lease,
                        held_for: Duration::from_millis(u64::from(leased.lease_ms)),
                    }),
                    _ => None,
                },
            )
            .await
    }

    /// Changes of a key or prefix, in order of version within each partition.
    ///
    /// # Errors
    /// The node refused, or could not be reached in the time of a request.
    pub async fn watch(&self, options: WatchOptions) -> Result<Watch, RequestError> {
        Watch::open(self, options).await
    }

    /// Sizes and counts of a partition.
    ///
    /// # Errors
    /// As every request; repeating it is safe.
    pub async fn info(&self, partition: PartitionId) -> Result<CacheStatus, RequestError> {
        let build = |handle| Request::CacheInfo(CacheInfo { handle, partition });
        self.node
            .request(
                &self.resource,
                partition,
                Class::Read,
                build,
                |_, reply| match reply {
                    Reply::CacheStatus(status) => Some(status),
                    _ => None,
                },
            )
            .await
    }

    async fn keyed<'a, T>(
        &self,
        key: &[u8],
        class: Class,
        build: impl Fn(Handle) -> Request<'a>,
        read: impl Fn(&Frame, Reply<'_>) -> Option<T>,
    ) -> Result<T, RequestError> {
        let partition = self.partition_of(key);
        self.node
            .request(&self.resource, partition, class, build, read)
            .await
    }

    /// Indexes of the keys by partition, each in the order given.
    fn by_partition<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Vec<(PartitionId, Vec<usize>)> {
        let mut groups = vec![Vec::new(); usize::from(self.spec.shards)];
        for (index, key) in keys.enumerate() {
            groups[usize::from(self.partition_of(key).0)].push(index);
        }
        let numbered = (0..self.spec.shards).map(PartitionId).zip(groups);
        numbered.filter(|(_, group)| !group.is_empty()).collect()
    }
}

/// A walk over the keys of a cache, page by page.
#[derive(Clone, Debug)]
pub struct Scan {
    cache: Cache,
    prefix: Bytes,
    keys_only: bool,
    page_items: u32,
    partition: u16,
    cursor: u64,
}

impl Scan {
    /// Leaves the values empty.
    #[must_use]
    pub const fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Most entries of one page, 1 to 4,096; 512 unless set.
    #[must_use]
    pub fn page_items(mut self, items: u32) -> Self {
        self.page_items = items.clamp(1, pinion_types::limits::SCAN_ITEMS_MAX);
        self
    }

    /// The next page, `None` at the end. A page may be empty before the end.
    /// Dropped while waiting, the page comes again.
    ///
    /// # Errors
    /// As every request; calling again repeats the page.
    pub async fn next_page(&mut self) -> Result<Option<Vec<ScannedEntry>>, RequestError> {
        if self.partition >= self.cache.spec.shards {
            return Ok(None);
        }
        let partition = PartitionId(self.partition);
        let build = |handle| {
            Request::CacheScan(CacheScan {
                handle,
                partition,
                cursor: self.cursor,
                max_items: self.page_items,
                max_bytes: FRAME_BYTES_MAX / 2,
                keys_only: self.keys_only,
                prefix: &self.prefix,
            })
        };
        let node = &self.cache.node;
        let (cursor, entries) = node
            .request(
                &self.cache.resource,
                partition,
                Class::Read,
                build,
                |frame, reply| {
                    let Reply::CachePage(page) = reply else {
                        return None;
                    };
                    let entry = |item: pinion_wire::message::PageItem<'_>| ScannedEntry {
                        key: codec::share(frame, item.key),
                        value: codec::share(frame, item.value),
                        version: item.version,
                        ttl: ttl(item.ttl_ms),
                    };
                    Some((
                        page.cursor,
                        page.items.iter().map(entry).collect::<Vec<_>>(),
                    ))
                },
            )
            .await?;
        self.cursor = cursor;
        if cursor == 0 {
            self.partition += 1;
        }
        Ok(Some(entries))
    }
}

fn stored(_: &Frame, reply: Reply<'_>) -> Option<Version> {
    match reply {
        Reply::CacheStored(stored) => Some(stored.version),
        _ => None,
    }
}

/// How many of the first items fit one frame; at least one.
fn fitting(items: &[CacheItem], indexes: &[usize]) -> usize {
    let mut bytes = 64;
    let mut count = 0;
    for index in indexes.iter().take(usize::from(CACHE_MULTI_MAX)) {
        let item = &items[*index];
        bytes += 14 + item.key.len() + item.value.len();
        if bytes > FRAME_BYTES_MAX as usize {
            break;
        }
        count += 1;
    }
    count.max(1)
}

fn ttl(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

/// A life of less than a millisecond is one millisecond: 0 would be forever.
fn ttl_ms(ttl: Option<Duration>) -> u64 {
    ttl.map_or(0, |ttl| {
        u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
    })
}

fn millis_u32(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiny_life_is_not_forever() {
        assert_eq!(ttl_ms(None), 0);
        assert_eq!(ttl_ms(Some(Duration::from_micros(3))), 1);
        assert_eq!(ttl_ms(Some(Duration::from_secs(2))), 2000);
        assert_eq!(ttl(0), None);
    }

    #[test]
    fn items_are_packed_into_frames() {
        let item = |len| CacheItem {
            key: Bytes::from_static(b"k"),
            value: vec![0; len].into(),
            ttl: None,
        };
        let items = vec![item(1 << 20), item(100), item(1 << 20), item(1), item(1)];
        assert_eq!(fitting(&items, &[0, 1, 2, 3]), 2);
        assert_eq!(fitting(&items, &[2, 0]), 1);
        let many = vec![item(0); 3000];
        let indexes: Vec<usize> = (0..3000).collect();
        assert_eq!(fitting(&many, &indexes), 1024);
    }
}
