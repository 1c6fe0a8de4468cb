//! A stream, cache or queue as the client knows it: its name, shape and handles.

use std::sync::{Arc, PoisonError, RwLock};

use pinion_types::{CoreId, ErrorCode, PartitionId, Refusal, ResourceKind, ResourceName};
use pinion_wire::message::{Handle, Open, Spec};
use pinion_wire::{Reply, Request};

use crate::codec;
use crate::error::{LinkDown, RequestError};
use crate::link::{Lane, Link};

/// Where the partitions are.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// The core of each partition; as many as there are partitions.
    pub(crate) cores: Arc<[CoreId]>,
    pub(crate) spec: Spec,
}

/// Shared by everyone who opened the same name.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) id: u64,
    pub(crate) kind: ResourceKind,
    pub(crate) name: ResourceName,
    /// Sent with every OPEN when the client declares the resource, so that a
    /// node that restarted empty gives it the same shape.
    pub(crate) declared: Option<Spec>,
    shape: RwLock<Option<Shape>>,
}

/// Why one attempt failed, and whether the node may have acted.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// Nothing was sent, or the node said so.
    NotAdmitted(RequestError),
    /// Sent, and the connection was lost before the reply.
    Unanswered(LinkDown),
}

impl From<RequestError> for AttemptError {
    fn from(error: RequestError) -> Self {
        Self::NotAdmitted(error)
    }
}

impl Resource {
    pub(crate) const fn new(
        id: u64,
        kind: ResourceKind,
        name: ResourceName,
        declared: Option<Spec>,
    ) -> Self {
        Self {
            id,
            kind,
            name,
            declared,
            shape: RwLock::new(None),
        }
    }

    /// The shape as last seen; `None` before the first OPEN.
    pub(crate) fn shape(&self) -> Option<Shape> {
        self.shape
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The core of a partition.
    ///
    /// # Errors
    /// The partition does not exist.
    pub(crate) fn core_of(&self, partition: PartitionId) -> Result<CoreId, RequestError> {
        let shape = self.shape.read().unwrap_or_else(PoisonError::into_inner);
        let cores = shape.as_ref().map_or(&[][..], |shape| &shape.cores);
        cores.get(usize::from(partition.0)).copied().ok_or_else(|| {
            RequestError::Refused(
                Refusal::new(ErrorCode::WrongPartition)
                    .with(pinion_types::FactId::Limit, cores.len() as u64),
            )
        })
    }

    /// Takes a redirect into account.
    pub(crate) fn moved(&self, partition: PartitionId, core: CoreId) {
        let mut shape = self.shape.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = shape.as_mut() {
            let mut cores = shape.cores.to_vec();
            if let Some(place) = cores.get_mut(usize::from(partition.0)) {
                *place = core;
                shape.cores = cores.into();
            }
        }
    }

    /// The handle on `link`, opening it once per connection. Concurrent callers
    /// share one OPEN; if the one that sends it is dropped, the next takes over.
    pub(crate) async fn open_on(&self, link: &Link) -> Result<Handle, AttemptError> {
        let cell = link.handle_cell(self.id);
        cell.get_or_try_init(|| self.open(link)).await.copied()
    }

    async fn open(&self, link: &Link) -> Result<Handle, AttemptError> {
        let request = Request::Open(Open {
            kind: self.kind,
            namespace: self.name.namespace(),
            name: self.name.name(),
            spec: self.declared,
        });
        let mut pending = link
            .call(Lane::Requests, codec::encode(&request)?)
            .await
            .map_err(|down| AttemptError::NotAdmitted(not_sent(&down)))?;
        // OPEN changes nothing that a second one would not find as it left it.
        let frame = pending
            .reply()
            .await
            .map_err(|down| AttemptError::NotAdmitted(not_sent(&down)))?;
        let opened = match codec::reply(&frame).map_err(RequestError::from)? {
            Reply::Opened(opened) => opened,
            Reply::Error(refusal) => return Err(RequestError::from_refusal(refusal).into()),
            _ => return Err(codec::unexpected(&frame).into()),
        };
        let cores: Arc<[CoreId]> = opened.cores.iter().map(CoreId).collect();
        if cores.is_empty() || cores.len() != usize::from(opened.spec.shards) {
            return Err(codec::malformed(&frame).into());
        }
        self.adopt(Shape {
            cores,
            spec: opened.spec,
        })?;
        Ok(opened.handle)
    }

    /// Keys are mapped by the number of partitions, so it must not change
    /// under those who hold the resource.
    fn adopt(&self, shape: Shape) -> Result<(), RequestError> {
        let mut known = self.shape.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref()
            && known.cores.len() != shape.cores.len()
        {
            return Err(RequestError::ShapeChanged {
                before: known.spec.shards,
                now: shape.spec.shards,
            });
        }
        *known = Some(shape);
        Ok(())
    }
}

/// The error for a connection that went away before anything was asked of it.
pub(crate) fn not_sent(down: &LinkDown) -> RequestError {
    use crate::error::ConnectError;
    match down {
        LinkDown::Closed => RequestError::Closed,
        LinkDown::Protocol(error) => RequestError::Protocol(*error),
        LinkDown::Lost(reason) => RequestError::NotConnected(ConnectError::Handshake {
            server: "the node".to_owned(),
            reason: reason.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resource(cores: &[u16]) -> Resource {
        let name = ResourceName::parse("n/s").unwrap();
        let resource = Resource::new(1, ResourceKind::Stream, name, None);
        resource.adopt(shape(cores)).unwrap();
        resource
    }

    fn shape(cores: &[u16]) -> Shape {
        let shards = u16::try_from(cores.len()).unwrap();
        Shape {
            cores: cores.iter().copied().map(CoreId).collect(),
            spec: Spec::ephemeral(shards),
        }
    }

    #[test]
    fn partitions_are_found_on_their_cores_and_follow_redirects() {
        let resource = resource(&[0, 1, 0]);
        assert_eq!(resource.core_of(PartitionId(1)).unwrap(), CoreId(1));
        resource.moved(PartitionId(1), CoreId(2));
        assert_eq!(resource.core_of(PartitionId(1)).unwrap(), CoreId(2));
        assert_eq!(resource.core_of(PartitionId(0)).unwrap(), CoreId(0));
        let error = resource.core_of(PartitionId(3)).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::WrongPartition));
    }

    #[test]
    fn another_number_of_partitions_is_an_error_and_another_placement_is_not() {
        let resource = resource(&[0, 1]);
        resource.adopt(shape(&[1, 1])).unwrap();
        assert_eq!(resource.core_of(PartitionId(0)).unwrap(), CoreId(1));
        assert!(matches!(
            resource.adopt(shape(&[0])),
            Err(RequestError::ShapeChanged { before: 2, now: 1 })
        ));
    }
}
