//! `/v1/tenants`

use axum::http::StatusCode;
use pinion_metadata::{Action, Body, Command, Object, ObjectKey, ObjectKind, PolicyObject};
use pinion_plane::{Query, QueryValue};

use super::{other_kind, page, version_of};
use crate::call::{Call, Reply, Written, tagged};
use crate::error::Failure;
use crate::model::{Tenant, TenantCreate, TenantPatch};

pub(crate) async fn list(call: Call) -> Reply {
    if call.who.sees_all() {
        let listed = call.list(&[ObjectKind::Tenant], None, |_| true).await?;
        let rows = listed.items.iter();
        let rows: Vec<Tenant> = rows.filter_map(|object| Tenant::of(object)).collect();
        return page("tenants", listed.read, rows, listed.next.as_ref());
    }
    // Everybody else is somebody of one tenant, or of none.
    let tenant = call.who.tenant.clone().unwrap_or_default();
    let (read, value) = call.read(Query::Get(ObjectKey::Tenant(tenant))).await?;
    let found = match value {
        QueryValue::Object(Some(object)) => Tenant::of(&object),
        _ => None,
    };
    page("tenants", read, Vec::from_iter(found), None)
}

pub(crate) async fn create(call: Call) -> Reply {
    let tenant: TenantCreate = call.body()?;
    let command = Command::CreateTenant(tenant.into());
    let written = call.write(call.expect(), command).await?;
    show(StatusCode::CREATED, &written)
}

pub(crate) async fn get(call: Call) -> Reply {
    let (read, object) = call.get(ObjectKey::tenant(call.part("t"))).await?;
    let tenant = Tenant::of(&object).ok_or_else(other_kind)?;
    Ok(read.mark(tagged(StatusCode::OK, version_of(&object), &tenant)?))
}

pub(crate) async fn update(call: Call) -> Reply {
    let patch: TenantPatch = call.body()?;
    if patch.changes_quotas() {
        call.who.check(Action::AdminWrite, &PolicyObject::Cluster)?;
    }
    let name = call.part("t").to_owned();
    let key = ObjectKey::tenant(&name);
    let over = |object: &Object| match &object.body {
        Body::Tenant(is) => Ok(Command::UpdateTenant(patch.clone().over(&name, is))),
        _ => Err(other_kind()),
    };
    let written = call.change(key, over).await?;
    show(StatusCode::OK, &written)
}

pub(crate) async fn delete(call: Call) -> Reply {
    let written = call.delete(ObjectKey::tenant(call.part("t"))).await?;
    show(StatusCode::ACCEPTED, &written)
}

pub(crate) async fn undelete(call: Call) -> Reply {
    let command = Command::Undelete(ObjectKey::tenant(call.part("t")));
    let written = call.write(call.expect(), command).await?;
    show(StatusCode::OK, &written)
}

fn show(status: StatusCode, written: &Written) -> Reply {
    let object = written.object()?;
    let tenant = Tenant::of(object).ok_or_else(Failure::not_found)?;
    Ok(written.mark(tagged(status, version_of(object), &tenant)?))
}
