//! `/v1/tenants/{t}/namespaces`

use axum::http::StatusCode;
use pinion_metadata::{Action, Body, Command, Object, ObjectKey, ObjectKind};

use super::{other_kind, page, version_of};
use crate::access::namespace;
use crate::call::{Call, Reply, Written, tagged};
use crate::error::Failure;
use crate::model::{Namespace, NamespaceCreate, NamespacePatch};

fn key(call: &Call) -> ObjectKey {
    ObjectKey::namespace(call.part("t"), call.part("ns"))
}

pub(crate) async fn list(call: Call) -> Reply {
    let tenant = ObjectKey::tenant(call.part("t"));
    let kinds = [ObjectKind::Namespace];
    let listed = call.list(&kinds, Some(tenant), |object| call.sees(object));
    let listed = listed.await?;
    let rows = listed.items.iter();
    let rows: Vec<Namespace> = rows.filter_map(|object| Namespace::of(object)).collect();
    page("namespaces", listed.read, rows, listed.next.as_ref())
}

pub(crate) async fn create(call: Call) -> Reply {
    let wanted: NamespaceCreate = call.body()?;
    let tenant = call.part("t");
    call.who
        .check(Action::NsManage, &namespace(tenant, &wanted.name))?;
    let command = Command::CreateNamespace(wanted.command(tenant));
    let written = call.write(call.expect(), command).await?;
    show(StatusCode::CREATED, &written)
}

pub(crate) async fn get(call: Call) -> Reply {
    let (read, object) = call.get(key(&call)).await?;
    let namespace = Namespace::of(&object).ok_or_else(other_kind)?;
    Ok(read.mark(tagged(StatusCode::OK, version_of(&object), &namespace)?))
}

pub(crate) async fn update(call: Call) -> Reply {
    let patch: NamespacePatch = call.body()?;
    let over = |object: &Object| match &object.body {
        Body::Namespace(is) => {
            let command = patch.clone().over(call.part("t"), call.part("ns"), is);
            Ok(Command::UpdateNamespace(command))
        }
        _ => Err(other_kind()),
    };
    let written = call.change(key(&call), over).await?;
    show(StatusCode::OK, &written)
}

pub(crate) async fn delete(call: Call) -> Reply {
    let written = call.delete(key(&call)).await?;
    show(StatusCode::ACCEPTED, &written)
}

pub(crate) async fn undelete(call: Call) -> Reply {
    let command = Command::Undelete(key(&call));
    let written = call.write(call.expect(), command).await?;
    show(StatusCode::OK, &written)
}

fn show(status: StatusCode, written: &Written) -> Reply {
    let object = written.object()?;
    let namespace = Namespace::of(object).ok_or_else(Failure::not_found)?;
    Ok(written.mark(tagged(status, version_of(object), &namespace)?))
}
