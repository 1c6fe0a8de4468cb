//! The Rust SDK of Pinion: streams, caches and queues over QUIC, on tokio.
//!
//! * [`Client`] keeps one connection per data core it needs and sends each
//!   request to the core that owns the data. Start there.
//! * [`Publisher`] batches records, waits when its buffer is full, and sends a
//!   batch again after a lost connection without storing it twice.
//! * [`Subscription`] gives records in order, says what was skipped, and goes on
//!   at the next offset after a lost connection.
//! * [`Cache`] reads and writes keys, many at once, by page, or under a lease.
//! * [`Queue`] puts messages, takes or [consumes](Queue::consume) them, and says
//!   what became of each; [`Message`] is one to work on.
//! * [`Cursor`] keeps on the node how far somebody has read a stream.
//! * [`native`] is for those who live by the 99.9th percentile: one thread that
//!   spins, no runtime.
//!
//! # What it promises
//!
//! Every error says what became of the request ([`RequestError::outcome`]): done,
//! not admitted, or unknown. Only what is safe is tried again: reads, requests
//! that were not admitted, and batches that carry a sequence. Retries stay within
//! a budget ([`RetryBudgetConfig`]), attempts to connect back off with jitter, and
//! a node that does not answer is left alone for a while ([`BreakerConfig`]).
//!
//! A token that ends is renewed before it does, by a [`TokenSource`]: new connections take the
//! place of those that stand, and what is under way on these is answered first.
//!
//! Every call is cancel-safe, and nothing queues without bound: requests in
//! flight, bytes to be written, records to be acknowledged and deliveries to be
//! read each have a limit, and whoever would exceed it waits.
//!
//! # What it never does
//!
//! It never prints a token, never sends 0-RTT data (which may be replayed), never
//! reorders records of one key while `idempotent` is on, and never hides that
//! records were skipped or that a node restarted.
//!
//! # Example
//!
//! ```no_run
//! use pinion_client::{Client, ClientConfig, Event, StartFrom, SubscribeOptions};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(ClientConfig::from_env_or_dev()?).await?;
//! let stream = client.stream("demo/flights").await?;
//! let options = SubscribeOptions { start: StartFrom::Earliest, ..Default::default() };
//! let mut subscription = stream.subscribe(options).await?;
//! while let Some(event) = subscription.next().await {
//!     match event? {
//!         Event::Record(record) => println!("{}: {:?}", record.offset, record.value),
//!         Event::Lag { count, .. } => eprintln!("{count} records were skipped"),
//!         other => eprintln!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod batching;
mod cache;
mod client;
mod codec;
mod config;
mod credit;
mod cursor;
mod delivery;
mod error;
mod frames;
mod in_flight;
mod link;
pub mod native;
mod node;
mod outbox;
mod pace;
mod publisher;
mod queue;
mod record;
mod request;
mod resource;
mod stats;
mod stream;
mod subscriber;
mod ticket;
mod token;
mod watch;
mod window;

pub use bytes::Bytes;
pub use cache::{
    Cache, CacheEntry, CacheItem, LeaseOptions, Leased, Scan, ScannedEntry, SetOptions,
};
pub use client::Client;
pub use config::{
    BackoffConfig, BreakerConfig, ClientConfig, ConfigError, DEV_DIR, DEV_SERVER, RetryBudgetConfig,
};
pub use cursor::Cursor;
pub use error::{ConnectError, ProtocolError, RequestError, SubscribeError, UnknownCause};
pub use pinion_types::{
    CoreId, Epoch, ErrorCode, FactId, NameError, Offset, Outcome, PartitionId, Refusal, RetryClass,
    Version,
};
pub use pinion_wire::message::QueueSpec as QueueRules;
pub use pinion_wire::message::Spec as StreamSpec;
pub use pinion_wire::message::Spec as CacheSpec;
pub use pinion_wire::message::Spec as QueueSpec;
pub use pinion_wire::message::{
    Ack, CacheStatus, Condition, DeadReason, Durability, EventKind, FilterBuf, LagReason,
    MessageState, Overflow, Reason, States, StreamStatus, Token, WhyReason,
};
pub use publisher::{BATCH_BYTES_MAX, Publisher, PublisherOptions, TryPublishError};
pub use queue::{
    ConsumeOptions, Consumer, DeadLetter, DeadLetters, DeadSelection, GroupCounts, Message, Peek,
    PeekOptions, PeekedMessage, PutAck, PutOptions, Queue, QueueCounts, QueueProducer, TakeOptions,
};
pub use record::{Received, Record};
pub use stats::ClientStats;
pub use stream::{AppendSession, FetchOptions, FetchedPage, Stream};
pub use subscriber::{Event, Partitions, StartFrom, SubscribeOptions, Subscription};
pub use ticket::{PublishAck, PublishTicket};
pub use token::{FreshToken, TokenError, TokenFuture, TokenSource};
pub use watch::{Watch, WatchEvent, WatchOptions};
