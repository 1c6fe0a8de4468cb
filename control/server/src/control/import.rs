//! What an earlier release declared in a log of its own, as commands of the
//! metadata.

use pinion_metadata::command::{Import, Imported};
use pinion_metadata::limits::IMPORTED_MAX;
use pinion_metadata::{BrokerNumber, TenantNumber};
use pinion_node::declared::Declared;
use pinion_node::map::Directory;
use pinion_types::{Refusal, ResourceId};

use super::convert;

/// Bytes of one command, reckoned generously: it fits into an entry of the log.
const PIECE_BYTES: usize = 256 << 10;

/// Bytes of a resource in a command, without its name and its logs.
const RESOURCE_BYTES: usize = 256;

/// The pieces, in order. `declared` is in any; `directory` completes what an
/// earlier release had no word for.
///
/// # Errors
/// A specification that this release cannot serve.
pub(super) fn pieces(
    mut declared: Vec<Declared>,
    broker: BrokerNumber,
    directory: &Directory,
) -> Result<Vec<Import>, Refusal> {
    declared.sort_by_key(|one| one.id);
    declared.dedup_by_key(|one| one.id);
    let next = declared.last().map_or(1, |last| last.id.0 + 1);
    let mut pieces = Vec::new();
    let (mut from, mut bytes) = (ResourceId(0), 0);
    let mut resources = Vec::new();
    for one in declared {
        let more = RESOURCE_BYTES + 2 * one.logs.len() + one.name.name().len();
        if resources.len() == IMPORTED_MAX || (bytes + more > PIECE_BYTES && bytes > 0) {
            let upto = one.id;
            let resources = std::mem::take(&mut resources).into();
            pieces.push(Import {
                broker,
                from,
                upto,
                next: ResourceId(next),
                resources,
            });
            (from, bytes) = (upto, 0);
        }
        bytes += more;
        let spec = directory.complete(one.kind, one.spec)?;
        resources.push(Imported {
            id: one.id,
            tenant: TenantNumber(one.tenant.0),
            kind: one.kind,
            namespace: one.name.namespace().into(),
            name: one.name.name().into(),
            spec: convert::to_metadata(one.kind, &spec),
            logs: one.logs.iter().map(|log| log.0).collect(),
        });
    }
    if !resources.is_empty() {
        pieces.push(Import {
            broker,
            from,
            upto: ResourceId(next),
            next: ResourceId(next),
            resources: resources.into(),
        });
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pinion_commitlog::LogId;
    use pinion_node::access::TenantId;
    use pinion_node::map::{EMPTY_SPEC, SpecDefaults};
    use pinion_types::{ResourceKind, ResourceName};
    use pinion_wire::message::Spec;

    use super::*;

    #[test]
    fn pieces_follow_each_other_and_leave_nothing_out() {
        let directory = Directory::new(1, u64::MAX, SpecDefaults::default());
        let shards = 1000;
        // Numbers have gaps: a declaration that could not be written down had one.
        let declared = |at: u64| Declared {
            id: ResourceId(3 * at + 2),
            tenant: TenantId(1),
            kind: ResourceKind::Stream,
            name: ResourceName::parse(&format!("n/s{at}")).unwrap(),
            spec: Spec {
                shards,
                durability: 1,
                ..EMPTY_SPEC
            },
            logs: vec![LogId(0); usize::from(shards)].into(),
        };
        let all: Vec<Declared> = (0..500).rev().map(declared).collect();
        let pieces = pieces(all, BrokerNumber(1), &directory).unwrap();
        assert!(pieces.len() > 3, "{}", pieces.len());
        let (mut from, mut seen) = (ResourceId(0), Vec::new());
        for piece in &pieces {
            assert_eq!((piece.from, piece.next), (from, ResourceId(1500)));
            let inside = |one: &Imported| one.id >= piece.from && one.id < piece.upto;
            assert!(piece.resources.iter().all(inside));
            seen.extend(piece.resources.iter().map(|one| one.id.0));
            from = piece.upto;
        }
        assert_eq!(from, ResourceId(1500));
        assert!(seen.into_iter().eq((0..500).map(|at| 3 * at + 2)));
    }
}
