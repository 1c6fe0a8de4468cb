//! `/v1/placements`

use pinion_metadata::{ObjectKey, ObjectKind};
use pinion_types::ResourceKind;

use super::page;
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
    let kinds = kinds[first..].iter();
    let kinds: Vec<_> = kinds.map(|kind| ObjectKind::Placement(*kind)).collect();
    let listed = call.list(&kinds, under, |object| call.sees(object));
    let listed = listed.await?;
    let seen = listed.items;
    let rows = call
        .look(move |metadata| {
            let rows = seen.iter();
            let rows = rows.filter_map(|object| Placement::of(metadata, object));
            rows.collect::<Vec<Placement>>()
        })
        .await?;
    page("placements", listed.read, rows, listed.next.as_ref())
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

/// What the list is of; `None` is everything, for who sees everything.
fn under(call: &Call) -> Result<Option<ObjectKey>, Failure> {
    // Below a tenant without a name would be the whole cluster.
    let param = |name| call.param(name).filter(|value| !value.is_empty());
    match (param("tenant"), param("namespace")) {
        (Some(tenant), Some(namespace)) => Ok(Some(ObjectKey::namespace(tenant, namespace))),
        (Some(tenant), None) => Ok(Some(ObjectKey::tenant(tenant))),
        (None, Some(_)) => Err(Failure::bad(
            "bad_parameter",
            "namespace: its tenant is expected, too",
        )),
        (None, None) => match call.who.tenant.as_deref() {
            // Somebody of a tenant is shown that one's.
            Some(own) => Ok(Some(ObjectKey::tenant(own))),
            None if call.who.sees_all() => Ok(None),
            // Somebody of none finds nothing, as below a tenant that there is not.
            None => Ok(Some(ObjectKey::tenant(""))),
        },
    }
}
