//! The entry point.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pinion_types::{CoreId, ResourceKind};
use pinion_wire::message::Ping;
use pinion_wire::message::Spec;
use pinion_wire::{Reply, Request};

use crate::cache::Cache;
use crate::codec;
use crate::config::ClientConfig;
use crate::error::{ConnectError, RequestError};
use crate::link::Lane;
use crate::node::{Node, keep_token};
use crate::queue::Queue;
use crate::request::Class;
use crate::request::retry_wait;
use crate::resource::{AttemptError, Resource, Shape, not_sent};
use crate::stats::ClientStats;
use crate::stream::Stream;

/// A client of one node. Cheap to clone; clones share connections and budgets.
///
/// It keeps one connection per data core it needs, made when first needed.
/// Everything in this crate is cancel-safe: dropping a future leaves the
/// connection consistent. It must be used within a tokio runtime.
///
/// ```no_run
/// use pinion_client::{Client, ClientConfig, PublisherOptions, Record};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(ClientConfig::from_env_or_dev()?).await?;
/// let stream = client.stream("demo/flights").await?;
/// let publisher = stream.publisher(PublisherOptions::default());
/// let ticket = publisher.publish(Record::new("took off").key("AA1")).await?;
/// println!("stored at {}", ticket.await?.offset);
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    node: Arc<Node>,
}

impl Client {
    /// Connects to the node and checks the token. One attempt per address.
    ///
    /// # Errors
    /// [`ConnectError::is_transient`] tells whether trying again may help.
    pub async fn connect(config: ClientConfig) -> Result<Self, ConnectError> {
        let node = Arc::new(Node::new(config)?);
        node.connect().await?;
        keep_token(&node);
        Ok(Self { node })
    }

    /// Opens a stream, `NAMESPACE/NAME`. A node that creates on first use
    /// creates it with its defaults.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`, `WrongKind` from the node, or no connection.
    pub async fn stream(&self, name: &str) -> Result<Stream, RequestError> {
        let (resource, shape) = self.open(ResourceKind::Stream, name, None).await?;
        Ok(Stream::new(Arc::clone(&self.node), resource, shape.spec))
    }

    /// Declares a stream and opens it. Declaring what is there already is fine.
    ///
    /// # Errors
    /// `SpecConflict` when it is there with another specification; `Forbidden`
    /// without a grant to declare.
    pub async fn open_stream_with(&self, name: &str, spec: Spec) -> Result<Stream, RequestError> {
        let (resource, shape) = self.open(ResourceKind::Stream, name, Some(spec)).await?;
        Ok(Stream::new(Arc::clone(&self.node), resource, shape.spec))
    }

    /// Opens a cache, `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub async fn cache(&self, name: &str) -> Result<Cache, RequestError> {
        let (resource, shape) = self.open(ResourceKind::Cache, name, None).await?;
        Ok(Cache::new(Arc::clone(&self.node), resource, shape.spec))
    }

    /// Declares a cache and opens it.
    ///
    /// # Errors
    /// As [`open_stream_with`](Self::open_stream_with).
    pub async fn open_cache_with(&self, name: &str, spec: Spec) -> Result<Cache, RequestError> {
        let (resource, shape) = self.open(ResourceKind::Cache, name, Some(spec)).await?;
        Ok(Cache::new(Arc::clone(&self.node), resource, shape.spec))
    }

    /// Opens a queue, `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub async fn queue(&self, name: &str) -> Result<Queue, RequestError> {
        let (resource, shape) = self.open(ResourceKind::Queue, name, None).await?;
        Ok(Queue::new(Arc::clone(&self.node), resource, shape.spec))
    }

    /// Declares a queue and opens it.
    ///
    /// # Errors
    /// As [`open_stream_with`](Self::open_stream_with).
    pub async fn open_queue_with(&self, name: &str, spec: Spec) -> Result<Queue, RequestError> {
        let (resource, shape) = self.open(ResourceKind::Queue, name, Some(spec)).await?;
        Ok(Queue::new(Arc::clone(&self.node), resource, shape.spec))
    }

    /// How long a PING to this core takes, there and back.
    ///
    /// # Errors
    /// No connection, or no answer in the time of a request.
    pub async fn ping(&self, core: CoreId) -> Result<Duration, RequestError> {
        let after = self.node.config.request_timeout;
        let exchange = async {
            let link = self.node.link(core).await?;
            self.node.budget_deposit();
            let frame = codec::encode(&Request::Ping(Ping {
                payload: b"pinion ping",
            }))?;
            let start = Instant::now();
            let call = link.call(Lane::Requests, frame).await;
            let mut pending = call.map_err(|down| not_sent(&down))?;
            let frame = pending.reply().await.map_err(|down| not_sent(&down))?;
            match codec::reply(&frame)? {
                Reply::Pong(_) => Ok(start.elapsed()),
                Reply::Error(refusal) => Err(RequestError::from_refusal(refusal)),
                _ => Err(codec::unexpected(&frame)),
            }
        };
        tokio::time::timeout(after, exchange)
            .await
            .unwrap_or(Err(RequestError::TimedOut { after }))
    }

    /// How many data cores the node has; [`ping`](Self::ping) takes those below.
    #[must_use]
    pub fn data_cores(&self) -> u16 {
        self.node.data_cores()
    }

    /// What this client has done so far.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.node.stats.snapshot()
    }

    /// Sends what is queued and closes every connection, in at most a few
    /// seconds. Flush publishers first: what they still hold is given up and
    /// their tickets say so. Everything fails with `Closed` from then on.
    pub async fn close(&self) {
        self.node.close().await;
    }

    async fn open(
        &self,
        kind: ResourceKind,
        name: &str,
        declared: Option<Spec>,
    ) -> Result<(Arc<Resource>, Shape), RequestError> {
        let resource = self.node.resource(kind, name, declared)?;
        let after = self.node.config.request_timeout;
        self.node.budget_deposit();
        let attempts = async {
            loop {
                let error = match self.open_once(&resource).await {
                    Ok(shape) => return Ok(shape),
                    Err(error) => error,
                };
                let wait = retry_wait(&error, Class::Read, self.node.random());
                let error = match error {
                    AttemptError::NotAdmitted(error) => error,
                    AttemptError::Unanswered(down) => not_sent(&down),
                };
                match wait {
                    Some(wait) if self.node.budget_withdraw() => tokio::time::sleep(wait).await,
                    _ => return Err(error),
                }
            }
        };
        let result = tokio::time::timeout(after, attempts)
            .await
            .unwrap_or(Err(RequestError::TimedOut { after }));
        match result {
            Ok(shape) => Ok((resource, shape)),
            Err(error) => {
                self.node.forget_resource(&resource);
                Err(error)
            }
        }
    }

    async fn open_once(&self, resource: &Resource) -> Result<Shape, AttemptError> {
        let link = self.node.any_link().await.map_err(RequestError::from)?;
        resource.open_on(&link).await?;
        let shape = resource.shape().expect("OPEN on this connection set it");
        Ok(shape)
    }
}
