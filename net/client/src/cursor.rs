//! Named cursors of a stream, kept by the node.

use std::sync::Arc;

use pinion_types::limits::{CURSORS_MAX, GROUP_BYTES_MAX};
use pinion_types::{ErrorCode, Offset, PartitionId};
use pinion_wire::message::{CursorCommit, CursorDelete, CursorGet, CursorList, Durability};
use pinion_wire::{Reply, Request};

use crate::error::RequestError;
use crate::node::Node;
use crate::request::Class;
use crate::resource::Resource;

/// How far somebody called by a name has read each partition of a stream. It
/// survives what the stream survives. Cheap to clone.
///
/// ```no_run
/// use pinion_client::{Client, ClientConfig, Event, StartFrom, SubscribeOptions};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(ClientConfig::from_env_or_dev()?).await?;
/// let stream = client.stream("payments/orders").await?;
/// let cursor = stream.cursor("billing")?;
/// let mut subscription = stream
///     .subscribe(SubscribeOptions {
///         start: StartFrom::Earliest,
///         cursor: Some("billing".into()),
///         ..Default::default()
///     })
///     .await?;
/// while let Some(event) = subscription.next().await {
///     if let Event::Record(record) = event? {
///         // … work on it, then say where to go on.
///         cursor.commit(record.partition, record.offset.plus(1)).await?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Cursor {
    node: Arc<Node>,
    resource: Arc<Resource>,
    name: Arc<str>,
}

impl Cursor {
    pub(crate) fn new(
        node: Arc<Node>,
        resource: Arc<Resource>,
        name: String,
    ) -> Result<Self, RequestError> {
        if name.is_empty() {
            return Err(RequestError::BadArgument {
                what: "a cursor has a name",
            });
        }
        if name.len() > usize::from(GROUP_BYTES_MAX) {
            return Err(RequestError::TooLarge {
                what: "the cursor's name",
                len: name.len(),
                limit: usize::from(GROUP_BYTES_MAX),
            });
        }
        Ok(Self {
            node,
            resource,
            name: name.into(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says that everything before `offset` is done with. It may go back. Gives
    /// what the cursor survives now.
    ///
    /// # Errors
    /// `BadArgument` beyond the end of the partition. When the outcome is
    /// unknown, committing again is safe.
    pub async fn commit(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Durability, RequestError> {
        let build = |handle| {
            Request::CursorCommit(CursorCommit {
                handle,
                partition,
                offset,
                name: &self.name,
            })
        };
        let read = |_: &_, reply: Reply<'_>| match reply {
            Reply::Cursor(cursor) => Some(cursor.durability),
            _ => None,
        };
        self.node
            .request(&self.resource, partition, Class::Write, build, read)
            .await
    }

    /// The next offset to be read, `None` when nothing was committed.
    ///
    /// # Errors
    /// As every request; repeating it is safe.
    pub async fn get(&self, partition: PartitionId) -> Result<Option<Offset>, RequestError> {
        let build = |handle| {
            Request::CursorGet(CursorGet {
                handle,
                partition,
                name: &self.name,
            })
        };
        let read = |_: &_, reply: Reply<'_>| match reply {
            Reply::Cursor(cursor) => Some(Some(cursor.offset)),
            _ => None,
        };
        let found = self
            .node
            .request(&self.resource, partition, Class::Read, build, read)
            .await;
        match found {
            Err(error) if error.code() == Some(ErrorCode::CursorUnknown) => Ok(None),
            found => found,
        }
    }

    /// Forgets it in one partition. Gives whether it was there.
    ///
    /// # Errors
    /// When the outcome is unknown, deleting again is safe.
    pub async fn delete(&self, partition: PartitionId) -> Result<bool, RequestError> {
        let build = |handle| {
            Request::CursorDelete(CursorDelete {
                handle,
                partition,
                name: &self.name,
            })
        };
        let read = |_: &_, reply: Reply<'_>| matches!(reply, Reply::Done).then_some(true);
        let deleted = self
            .node
            .request(&self.resource, partition, Class::Write, build, read)
            .await;
        match deleted {
            Err(error) if error.code() == Some(ErrorCode::CursorUnknown) => Ok(false),
            deleted => deleted,
        }
    }
}

/// Every cursor of a partition, page by page.
pub(crate) async fn list(
    node: &Node,
    resource: &Resource,
    partition: PartitionId,
) -> Result<Vec<(String, Offset)>, RequestError> {
    let mut all: Vec<(String, Offset)> = Vec::new();
    loop {
        let after = all.last().map_or("", |(name, _)| name.as_str());
        let build = |handle| {
            Request::CursorList(CursorList {
                handle,
                partition,
                max_items: CURSORS_MAX,
                after,
            })
        };
        let read = |_: &_, reply: Reply<'_>| match reply {
            Reply::CursorPage(page) => {
                let items = page.items.iter();
                let page_of: Vec<_> = items.map(|i| (i.name.to_owned(), i.offset)).collect();
                Some((page.more, page_of))
            }
            _ => None,
        };
        let (more, page) = node
            .request(resource, partition, Class::Read, build, read)
            .await?;
        // A page that does not lead on would be asked for without end.
        let leads_on = page.last().is_some_and(|(name, _)| name.as_str() > after);
        all.extend(page);
        if !more || !leads_on {
            return Ok(all);
        }
    }
}
