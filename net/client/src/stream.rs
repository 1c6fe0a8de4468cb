//! A stream: publish, subscribe, read.

use std::sync::Arc;

use pinion_types::{Offset, PartitionId};
use pinion_wire::message::{
    AppendBegin, AppendCommit, AppendRollback, AppendStage, Fetch, FilterBuf, StreamInfo,
    StreamStatus,
};
use pinion_wire::message::{Handle, Spec};
use pinion_wire::{Reply, Request};

use crate::codec;
use crate::cursor::{self, Cursor};
use crate::error::{RequestError, UnknownCause};
use crate::link::{Lane, Link};
use crate::node::Node;
use crate::publisher::{Publisher, PublisherOptions};
use crate::record::{BlockWalk, Received, Record};
use crate::request::Class;
use crate::resource::{AttemptError, Resource, not_sent};
use crate::subscriber::{SubscribeOptions, Subscription};
use crate::ticket::PublishAck;

/// What to [`fetch`](Stream::fetch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// First offset wanted.
    pub from: Offset,
    /// Most records.
    pub max_records: u32,
    /// Most bytes; one record comes however large it is, when there is one.
    pub max_bytes: u32,
    /// What is given at all.
    pub filter: FilterBuf,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            from: Offset::ZERO,
            max_records: 1024,
            max_bytes: 512 << 10,
            filter: FilterBuf::default(),
        }
    }
}

/// A part of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPage {
    /// The records, oldest first.
    pub records: Vec<Received>,
    /// Where to continue.
    pub next: Offset,
    /// The partition's end: the offset the next record will get.
    pub end: Offset,
    /// The oldest offset there is. Above the offset asked for, records between
    /// are gone.
    pub first_available: Offset,
}

/// A stream on the node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stream {
    node: Arc<Node>,
    resource: Arc<Resource>,
    spec: Spec,
}

impl Stream {
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

    /// The partition of records with this key.
    #[must_use]
    pub fn partition_of(&self, key: &[u8]) -> PartitionId {
        pinion_types::route::partition_of(key, self.spec.shards)
    }

    /// A publisher with its own batches and buffer.
    #[must_use]
    pub fn publisher(&self, options: PublisherOptions) -> Publisher {
        let resource = Arc::clone(&self.resource);
        Publisher::new(Arc::clone(&self.node), resource, self.spec.shards, options)
    }

    /// Subscribes. Returns when the node has answered for every partition, so
    /// that with [`StartFrom::Latest`](crate::StartFrom) nothing published
    /// afterwards is missed.
    ///
    /// # Errors
    /// The node refused, or could not be reached in the time of a request.
    pub async fn subscribe(&self, options: SubscribeOptions) -> Result<Subscription, RequestError> {
        Subscription::open(&self.node, &self.resource, self.spec.shards, options).await
    }

    /// Ends and sizes of a partition.
    ///
    /// # Errors
    /// As every request; repeating it is safe.
    pub async fn info(&self, partition: PartitionId) -> Result<StreamStatus, RequestError> {
        let build = |handle| Request::StreamInfo(StreamInfo { handle, partition });
        self.node
            .request(
                &self.resource,
                partition,
                Class::Read,
                build,
                |_, reply| match reply {
                    Reply::StreamStatus(status) => Some(status),
                    _ => None,
                },
            )
            .await
    }

    /// Reads a range once. Reading past the end is an empty success.
    ///
    /// # Errors
    /// As every request; repeating it is safe.
    pub async fn fetch(
        &self,
        partition: PartitionId,
        options: FetchOptions,
    ) -> Result<FetchedPage, RequestError> {
        let build = |handle| {
            Request::Fetch(Fetch {
                handle,
                partition,
                from: options.from,
                max_records: options.max_records,
                max_bytes: options.max_bytes,
                filter: options.filter.as_filter(),
            })
        };
        self.node
            .request(
                &self.resource,
                partition,
                Class::Read,
                build,
                |frame, reply| {
                    let Reply::Fetched(fetched) = reply else {
                        return None;
                    };
                    let mut records = Vec::new();
                    for block in fetched.blocks() {
                        let (header, body) = block.ok()?;
                        let walk = BlockWalk::new(partition, &header, codec::share(frame, body));
                        for record in walk {
                            records.push(record.ok()?);
                        }
                    }
                    Some(FetchedPage {
                        records,
                        next: fetched.next,
                        end: fetched.end,
                        first_available: fetched.first_available,
                    })
                },
            )
            .await
    }

    /// A named cursor of this stream: how far somebody has read each partition,
    /// kept by the node. Nothing is asked of the node yet.
    ///
    /// # Errors
    /// A name that is empty or longer than 255 bytes.
    pub fn cursor(&self, name: impl Into<String>) -> Result<Cursor, RequestError> {
        Cursor::new(
            Arc::clone(&self.node),
            Arc::clone(&self.resource),
            name.into(),
        )
    }

    /// Every cursor of a partition and the next offset to be read, by name.
    ///
    /// # Errors
    /// As every request; repeating it is safe.
    pub async fn cursors(
        &self,
        partition: PartitionId,
    ) -> Result<Vec<(String, Offset)>, RequestError> {
        cursor::list(&self.node, &self.resource, partition).await
    }

    /// Begins an append session: records staged in it become visible together.
    /// With `exclusive`, no other exclusive session of the partition may be open.
    ///
    /// # Errors
    /// As every request. When the outcome is unknown, the session, if there is
    /// one, ends by itself after 30 s.
    pub async fn begin_append(
        &self,
        partition: PartitionId,
        exclusive: bool,
    ) -> Result<AppendSession, RequestError> {
        let core = self.resource.core_of(partition)?;
        let link = self.node.link(core).await?;
        let handle = match self.resource.open_on(&link).await {
            Ok(handle) => handle,
            Err(AttemptError::NotAdmitted(error)) => return Err(error),
            Err(AttemptError::Unanswered(down)) => return Err(not_sent(&down)),
        };
        let mut session = AppendSession {
            node: Arc::clone(&self.node),
            link,
            session: 0,
        };
        session.session = session
            .ask(&begin(handle, partition, exclusive), |reply| match reply {
                Reply::AppendBegun(begun) => Some(begun.session),
                _ => None,
            })
            .await?;
        Ok(session)
    }
}

const fn begin(handle: Handle, partition: PartitionId, exclusive: bool) -> Request<'static> {
    Request::AppendBegin(AppendBegin {
        handle,
        partition,
        exclusive,
    })
}

/// Records that are staged and not yet visible. It lives and dies with one
/// connection, so none of its calls is repeated.
#[derive(Debug)]
pub struct AppendSession {
    node: Arc<Node>,
    link: Arc<Link>,
    session: u64,
}

impl AppendSession {
    /// Stages records, at most 10,000 and 10 MiB in all. Gives how many are
    /// staged now.
    ///
    /// # Errors
    /// After an unknown outcome, roll back and begin again.
    pub async fn stage(&mut self, records: &[Record]) -> Result<u32, RequestError> {
        let mut bytes = Vec::new();
        for record in records {
            record.check()?;
            record.encode(&mut bytes);
        }
        let record_count = u32::try_from(records.len()).map_err(|_| RequestError::BadArgument {
            what: "too many records in one call",
        })?;
        let request = Request::AppendStage(AppendStage {
            session: self.session,
            record_count,
            records: &bytes,
        });
        self.ask(&request, |reply| match reply {
            Reply::AppendStaged(staged) => Some(staged.records),
            _ => None,
        })
        .await
    }

    /// Makes everything staged visible at once; with `expected`, only when the
    /// partition ends there. The ack is that of the first record.
    ///
    /// # Errors
    /// When the outcome is unknown, look for the records before trying again.
    pub async fn commit(self, expected: Option<Offset>) -> Result<PublishAck, RequestError> {
        let request = Request::AppendCommit(AppendCommit {
            session: self.session,
            expected_offset: expected,
        });
        self.ask(&request, |reply| match reply {
            Reply::Published(published) => Some(PublishAck {
                partition: published.partition,
                offset: published.first_offset,
                durability: published.durability,
                duplicate: published.duplicate,
            }),
            _ => None,
        })
        .await
    }

    /// Forgets everything staged. A session that is merely dropped ends by
    /// itself after 30 s.
    ///
    /// # Errors
    /// As every request; the records stay invisible in any case.
    pub async fn rollback(self) -> Result<(), RequestError> {
        let request = Request::AppendRollback(AppendRollback {
            session: self.session,
        });
        self.ask(&request, |reply| matches!(reply, Reply::Done).then_some(()))
            .await
    }

    async fn ask<T>(
        &self,
        request: &Request<'_>,
        read: impl Fn(Reply<'_>) -> Option<T>,
    ) -> Result<T, RequestError> {
        self.node.budget_deposit();
        let frame = codec::encode(request)?;
        let exchange = async {
            let mut pending = self
                .link
                .call(Lane::Bulk, frame)
                .await
                .map_err(|down| not_sent(&down))?;
            let lost = RequestError::OutcomeUnknown(UnknownCause::ConnectionLost);
            let frame = pending.reply().await.map_err(|_| lost)?;
            match codec::reply(&frame)? {
                Reply::Error(refusal) => Err(RequestError::from_refusal(refusal)),
                reply => read(reply).ok_or_else(|| codec::unexpected(&frame)),
            }
        };
        tokio::time::timeout(self.node.config.request_timeout, exchange)
            .await
            .unwrap_or(Err(RequestError::OutcomeUnknown(UnknownCause::NoReply)))
    }
}
