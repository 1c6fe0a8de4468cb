//! One question to one core: where a partition is, what it is asked, and what its answer
//! means over HTTP.

use core::time::Duration;

use axum::http::StatusCode;
use pinion_metadata::{Body, BrokerNumber, Metadata, ObjectKey};
use pinion_node::views::{Question, View};
use pinion_types::{CoreId, ErrorCode, FactId, PartitionId, Refusal, ResourceId, ResourceKind};
use pinion_wire::frame::{Split, split};
use pinion_wire::message::{Reply, Request};

use super::Address;
use super::catalog::look;
use crate::Api;
use crate::cores::NodeError;
use crate::error::Failure;
use crate::limits::QUESTION_WAIT;

/// Where one partition is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) id: ResourceId,
    pub(crate) partition: PartitionId,
    pub(crate) core: CoreId,
}

/// A whole frame that a core answered, and no refusal.
#[derive(Debug)]
pub(crate) struct Answered(Vec<u8>);

impl Answered {
    /// What it says.
    pub(crate) fn reply(&self) -> Result<Reply<'_>, Failure> {
        decode(&self.0).ok_or_else(strange)
    }
}

/// The core and this release do not understand each other: a bug.
pub(crate) fn strange() -> Failure {
    Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "failed",
        "a data core gave an answer that is none",
    )
}

fn decode(frame: &[u8]) -> Option<Reply<'_>> {
    match split(frame) {
        Ok(Split::Frame { header, body, .. }) => Reply::decode(header.opcode, body).ok(),
        _ => None,
    }
}

/// Where partitions of a resource are served, in their order.
///
/// # Errors
/// 404 when there is no such resource; 421 when another node serves it.
pub(crate) async fn seats(
    api: &Api,
    kind: ResourceKind,
    address: &Address,
) -> Result<Vec<Seat>, Failure> {
    let key = address.key(kind);
    let node = api.node.clone();
    let found = look(&api.plane, move |metadata| {
        let Body::Resource(resource) = &metadata.get(&key)?.body else {
            return None;
        };
        let ObjectKey::Resource {
            kind,
            tenant,
            namespace,
            name,
        } = &key
        else {
            return None;
        };
        let placed = ObjectKey::placement(*kind, tenant, namespace, name);
        let Body::Placement(placement) = &metadata.get(&placed)?.body else {
            return None;
        };
        let seat = |seat: &pinion_metadata::resource::Seat| {
            let name = broker_name(metadata, seat.leader);
            (*name == *node)
                .then_some(seat.log)
                .ok_or_else(|| Box::<str>::from(name))
        };
        let seats = placement.shards.iter().map(|shard| seat(&shard.seat));
        Some((resource.id, seats.collect::<Result<Vec<u16>, _>>()))
    });
    let (id, logs) = found.await?.ok_or_else(Failure::not_found)?;
    let logs = logs.map_err(|broker| elsewhere(&broker))?;
    let seat = |(log, partition): (u16, u16)| {
        Some(Seat {
            id,
            partition: PartitionId(partition),
            core: api.observer.cores().owner(log)?,
        })
    };
    let seats: Option<Vec<Seat>> = logs.into_iter().zip(0..).map(seat).collect();
    seats.ok_or_else(|| failure(NodeError::Gone))
}

/// Where one partition is served.
///
/// # Errors
/// As [`seats`], and 404 when there is no such partition.
pub(crate) async fn seat(
    api: &Api,
    kind: ResourceKind,
    address: &Address,
    partition: u16,
) -> Result<Seat, Failure> {
    let seats = seats(api, kind, address).await?;
    let found = seats.get(usize::from(partition));
    found.copied().ok_or_else(Failure::not_found)
}

/// What a broker is called; empty of one that there is not any more.
pub(crate) fn broker_name(metadata: &Metadata, number: BrokerNumber) -> &str {
    let broker = metadata.broker(number);
    broker.map_or("", |object| match &object.meta.key {
        ObjectKey::Broker(name) => name,
        _ => "",
    })
}

/// The node that is asked has no say in it (RFC 9110 §15.5.20).
pub(crate) fn elsewhere(broker: &str) -> Failure {
    Failure::new(
        StatusCode::MISDIRECTED_REQUEST,
        "elsewhere",
        "another node serves this: ask that one",
    )
    .with("broker", broker)
}

/// Asks a core.
///
/// # Errors
/// 503: it has too much to do, is gone, or has not answered in time.
pub(crate) async fn question(api: &Api, core: CoreId, question: Question) -> Result<View, Failure> {
    match api
        .observer
        .cores()
        .ask(core, question, QUESTION_WAIT)
        .await
    {
        Ok(View::Refused(why)) => Err(refused(&why)),
        Ok(view) => Ok(view),
        Err(error) => Err(failure(error)),
    }
}

/// Has a partition run a request as the node's own. Who asks may.
///
/// # Errors
/// As [`question`], and what the partition refuses.
pub(crate) async fn request(
    api: &Api,
    seat: Seat,
    request: &Request<'_>,
) -> Result<Answered, Failure> {
    let mut frame = Vec::new();
    request
        .encode(1, &mut frame)
        .map_err(|error| Failure::bad("bad_parameter", error.to_string()))?;
    let asked = Question::Request {
        resource: seat.id,
        partition: seat.partition,
        frame: frame.into(),
    };
    let View::Reply(frame) = question(api, seat.core, asked).await? else {
        return Err(strange());
    };
    match decode(&frame) {
        Some(Reply::Error(why)) => Err(refused(&why)),
        Some(_) => Ok(Answered(frame)),
        None => Err(strange()),
    }
}

fn unavailable(code: &'static str, message: String, retry: Option<Duration>) -> Failure {
    Failure {
        retry,
        ..Failure::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }
}

fn failure(error: NodeError) -> Failure {
    let code = match error {
        NodeError::Busy { .. } => "busy",
        NodeError::Gone => "not_ready",
        NodeError::Late => "timed_out",
    };
    unavailable(code, error.to_string(), Some(Duration::from_secs(1)))
}

/// What the refusal of a core is over HTTP.
fn refused(why: &Refusal) -> Failure {
    let message = why.code.advice().to_owned();
    let status = match why.code {
        ErrorCode::NotFound
        | ErrorCode::WrongPartition
        | ErrorCode::UnknownGroup
        | ErrorCode::UnknownMessage
        | ErrorCode::CursorUnknown => return Failure::not_found(),
        ErrorCode::BadArgument => {
            return Failure::bad("bad_parameter", message);
        }
        ErrorCode::ResourceClosed => StatusCode::CONFLICT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let code = match why.code {
        ErrorCode::ResourceClosed => "deleting",
        ErrorCode::ReadOnly => "read_only",
        ErrorCode::PartitionFenced => "partition_fenced",
        ErrorCode::DurabilityFailed => "outcome_unknown",
        ErrorCode::Busy | ErrorCode::Backlogged | ErrorCode::LogBacklogged => "busy",
        ErrorCode::Draining => "not_ready",
        _ => "failed",
    };
    let retry = (why.retry_after_ms > 0).then(|| Duration::from_millis(why.retry_after_ms.into()));
    let mut failure = Failure {
        retry,
        ..Failure::new(status, code, message)
    };
    if let Some(limit) = why.fact(FactId::Limit) {
        failure = failure.with("limit", limit);
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_says_so_and_what_is_not_there_is_not_found() {
        let of = |code: ErrorCode| {
            let failure = refused(&code.into());
            (failure.status.as_u16(), failure.code, failure.retry)
        };
        let at = |ms| Some(Duration::from_millis(ms));
        assert_eq!(of(ErrorCode::Busy), (503, "busy".into(), at(5)));
        assert_eq!(
            of(ErrorCode::ReadOnly),
            (503, "read_only".into(), at(1_000))
        );
        assert_eq!(of(ErrorCode::UnknownGroup), (404, "not_found".into(), None));
        assert_eq!(of(ErrorCode::BadArgument).0, 400);
        assert_eq!(of(ErrorCode::ResourceClosed).0, 409);
        assert_eq!(
            of(ErrorCode::PartitionFenced),
            (503, "partition_fenced".into(), None)
        );
        // No code is answered as if the client were to be blamed for what is the node's.
        for code in ErrorCode::ALL {
            assert!([400, 404, 409, 503].contains(&of(*code).0), "{code:?}");
        }
    }
}
