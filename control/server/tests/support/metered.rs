//! Publishing against a rate: one record at a time, and after each refusal the wait that it
//! asks for.

#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)] // shared by several test programs

use std::time::{Duration, Instant};

use pinion_client::ErrorCode;
use pinion_types::{FactId, Outcome, PartitionId, ResourceKind, RetryClass};
use pinion_wire::message::{Ack, Handle, Publish, Spec};
use pinion_wire::{Reply, Request};

use super::Raw;
use super::load::open;
use super::process::Node;

/// Longest that a refusal may ask to wait: longer than a second's worth of a rate no bucket
/// is ever in debt after single records, and a share is never less than a record a second.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Somebody who publishes at one node as much as it lets in.
pub struct Metered {
    raw: Raw,
    handle: Handle,
    record: Vec<u8>,
    rate: u64,
    sent: u32,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    pub let_in: u64,
    pub refused: u64,
}

impl Metered {
    /// Publishes to a stream in memory, of which `node` has the only partition. Its tenant
    /// may publish `rate` records a second.
    pub async fn new(node: &Node, stream: &'static str, rate: u64) -> Self {
        let endpoint = super::endpoint_of(&node.ca());
        let mut raw = Raw::connect(&endpoint, node.address).await;
        raw.hello(&node.token()).await;
        let spec = Some(Spec::ephemeral(1));
        let handle = open(&mut raw, ResourceKind::Stream, stream, spec).await;
        let mut record = Vec::new();
        let one = pinion_types::block::Record {
            key: &[],
            headers: &[],
            value: b"one",
        };
        one.encode(&mut record).unwrap();
        Self {
            raw,
            handle,
            record,
            rate,
            sent: 0,
        }
    }

    /// Publishes one record: let in, or how long to wait.
    async fn publish(&mut self) -> Result<(), Duration> {
        self.sent += 1;
        let request = Request::Publish(Publish {
            handle: self.handle,
            partition: PartitionId(0),
            ack: Ack::Leader,
            producer: None,
            expected_offset: None,
            record_count: 1,
            records: &self.record,
        });
        self.raw.request(self.sent, &request).await;
        let (sent, rate) = (self.sent, self.rate);
        self.raw
            .reply(|correlation, reply| {
                assert_eq!(correlation, sent);
                let refusal = match reply {
                    Reply::Published(_) => return Ok(()),
                    Reply::Error(refusal) => refusal,
                    other => panic!("unexpected {other:?}"),
                };
                let wait = Duration::from_millis(refusal.retry_after_ms.into());
                assert_eq!(refusal.code, ErrorCode::QuotaExceeded, "{refusal}");
                assert_eq!(refusal.retry, RetryClass::RetryAfter);
                assert_eq!(refusal.outcome, Outcome::NotAdmitted);
                assert_eq!(refusal.fact(FactId::Limit), Some(rate));
                assert!(!wait.is_zero() && wait <= WAIT_MAX, "{wait:?}");
                Err(wait)
            })
            .await
    }

    /// Until it is refused: what was saved up is used.
    pub async fn use_up(&mut self) {
        while self.publish().await.is_ok() {}
    }

    /// For so long, and never before the wait is over that a refusal asked for.
    pub async fn publish_for(&mut self, time: Duration) -> Told {
        let began = Instant::now();
        let mut told = Told::default();
        while began.elapsed() < time {
            match self.publish().await {
                Ok(()) => told.let_in += 1,
                Err(wait) => {
                    told.refused += 1;
                    tokio::time::sleep(wait).await;
                }
            }
        }
        told
    }
}
