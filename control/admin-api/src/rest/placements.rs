//! `/v1/placements`

use pinion_metadata::{ObjectKey, ObjectKind};
use pinion_types::ResourceKind;

use super::{page, policy_object};
use crate::call::{Call, Reply};
use crate::error::Failure;
use crate::model::Placement;

const KINDS: [ResourceKind; 3] = [
    ResourceKind::Stream,
    ResourceKind::Cache,
    ResourceKind::Queue,
];

/// One kind after the other: a page that has room goes on with the next.
pub(crate) async fn list(call: Call) -> Reply {
    let kinds = kinds(&call)?;
    let under = under(&call)?;
    let after = call.page_token()?;
    // Where the page goes on.
    let first = match &after {
        None => 0,
        Some(ObjectKey::Placement { kind, .. }) => {
            let at = kinds.iter().position(|one| one == kind);
            at.ok_or_else(|| Failure::bad("bad_parameter", "page_token: of another list"))?
        }
        Some(_) => {
            return Err(Failure::bad("bad_parameter", "page_token: of another list"));
        }
    };
    let mut at = first;
    let listed = loop {
        let listed = call
            .list(ObjectKind::Placement(kinds[at]), under.clone())
            .await?;
        // An empty page of a kind that is not the last says nothing.
        if !listed.items.is_empty() || at + 1 == kinds.len() {
            break listed;
        }
        at += 1;
    };
    let last = listed.items.last().map(|object| object.meta.key.clone());
    // The last row of a kind is where the next kind's page begins.
    let next = listed
        .next
        .or_else(|| last.filter(|_| at + 1 < kinds.len()));
    let mut seen = listed.items;
    seen.retain(|object| call.who.sees(&policy_object(&object.meta.key)));
    let rows = call
        .look(move |metadata| {
            let rows = seen.iter();
            let rows = rows.filter_map(|object| Placement::of(metadata, object));
            rows.collect::<Vec<Placement>>()
        })
        .await?;
    page("placements", listed.read, rows, next.as_ref())
}

fn kinds(call: &Call) -> Result<Vec<ResourceKind>, Failure> {
    let Some(word) = call.param("kind") else {
        return Ok(KINDS.to_vec());
    };
    let found = KINDS.into_iter().find(|kind| kind.scheme() == word);
    found
        .map(|kind| vec![kind])
        .ok_or_else(|| Failure::bad("bad_parameter", "kind: stream, queue or cache is expected"))
}

fn under(call: &Call) -> Result<Option<ObjectKey>, Failure> {
    match (call.param("tenant"), call.param("namespace")) {
        (Some(tenant), Some(namespace)) => Ok(Some(ObjectKey::namespace(tenant, namespace))),
        (Some(tenant), None) => Ok(Some(ObjectKey::tenant(tenant))),
        (None, Some(_)) => Err(Failure::bad(
            "bad_parameter",
            "namespace: its tenant is expected, too",
        )),
        // Somebody of a tenant is shown that one's.
        (None, None) => Ok(call.who.tenant.as_deref().map(ObjectKey::tenant)),
    }
}
