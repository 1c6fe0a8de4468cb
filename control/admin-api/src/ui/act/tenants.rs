//! Deleting what has other things in it.

use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{Fact, Kind, Quantity};
use pinion_metadata::{MetaError, MetaVersion, Metadata, Object, ObjectKey, Usage};

use super::{Plan, Planned, fact, force, force_input};
use crate::call::Wanted;
use crate::error::Failure;
use crate::routes::Verb;
use crate::ui::context::PageContext;
use crate::ui::form::Fields;
use crate::ui::session::Asked;

/// What there is to say of something that is to be deleted.
struct Found {
    version: MetaVersion,
    usage: Usage,
    grace_ms: u64,
}

/// Something that is there and alive.
pub(super) fn alive<'m>(metadata: &'m Metadata, key: &ObjectKey) -> Option<&'m Object> {
    let object = metadata.get(key)?;
    object.meta.deleting.is_none().then_some(&**object)
}

async fn found(
    context: &PageContext,
    key: &ObjectKey,
    usage: impl FnOnce(&Metadata) -> Usage + Send + 'static,
) -> Result<Found, Failure> {
    let looked = key.clone();
    let found = context.look(move |metadata| {
        let object = alive(metadata, &looked)?;
        Some(Found {
            version: object.meta.version,
            usage: usage(metadata),
            grace_ms: metadata.settings().grace_ms,
        })
    });
    found.await?.ok_or_else(Failure::not_found)
}

/// What will happen to something that is deleted.
pub(super) fn consequences(what: &str, grace_ms: u64) -> Vec<String> {
    let hours = grace_ms / 3_600_000;
    let grace = match (hours, grace_ms) {
        (_, 0) => "at once".to_owned(),
        (0, ms) => format!("{} s after it was deleted", ms / 1_000),
        (1..48, _) => format!("{hours} h after it was deleted"),
        _ => format!("{} days after it was deleted", hours / 24),
    };
    vec![
        format!("{what} takes nothing more, and whoever uses it is told that it is gone."),
        format!("Its data goes {grace}; until then it can be taken back."),
    ]
}

pub(super) async fn delete(context: &PageContext, asked: &Asked, filled: &Fields) -> Planned {
    let tenant = asked.target.clone();
    if !context.access.sees(&tenant) {
        return Err(Failure::hidden().into());
    }
    let key = ObjectKey::tenant(&tenant);
    let name = tenant.clone();
    let found = found(context, &key, move |metadata| metadata.tenant_usage(&name)).await?;
    let usage = &found.usage;
    Ok(Plan {
        preview: vec![
            fact("Namespaces", Quantity::Count(usage.namespaces)),
            fact(
                "Streams, queues and caches",
                Quantity::Count(usage.resources),
            ),
            fact("Storage promised", Quantity::Bytes(usage.storage_bytes)),
            fact("Policies", Quantity::Count(usage.policies)),
            fact("API keys", Quantity::Count(usage.api_keys)),
        ],
        kind: Kind::Durable,
        consequences: consequences("The tenant with everything in it", found.grace_ms),
        inputs: vec![force_input("something in it")],
        back: Place::Tenants,
        version: Some(found.version),
        row: ("delete", key.to_string()),
        route: (Verb::Delete, "/v1/tenants/{t}"),
        wanted: Wanted {
            parts: vec![("t", tenant.clone())],
            query: force(filled)?,
            expect: Some(found.version),
            body: None,
        },
        steps: None,
        done: format!("Tenant {tenant} is deleted; until its grace is over it can be taken back."),
    })
}

pub(super) async fn delete_namespace(
    context: &PageContext,
    asked: &Asked,
    filled: &Fields,
) -> Planned {
    let (tenant, name) = (asked.tenant.clone(), asked.target.clone());
    if !context.access.sees(&tenant) {
        return Err(Failure::hidden().into());
    }
    let key = ObjectKey::namespace(&tenant, &name);
    let of = (tenant.clone(), name.clone());
    let usage = move |metadata: &Metadata| metadata.namespace_usage(&of.0, &of.1);
    let found = found(context, &key, usage).await?;
    let usage = &found.usage;
    Ok(Plan {
        preview: vec![
            fact(
                "Streams, queues and caches",
                Quantity::Count(usage.resources),
            ),
            fact("Storage promised", Quantity::Bytes(usage.storage_bytes)),
        ],
        kind: Kind::Durable,
        consequences: consequences("The namespace with everything in it", found.grace_ms),
        inputs: vec![force_input("something in it")],
        back: Place::Namespaces(tenant.clone()),
        version: Some(found.version),
        row: ("delete", key.to_string()),
        route: (Verb::Delete, "/v1/tenants/{t}/namespaces/{ns}"),
        wanted: Wanted {
            parts: vec![("t", tenant), ("ns", name.clone())],
            query: force(filled)?,
            expect: Some(found.version),
            body: None,
        },
        steps: None,
        done: format!("Namespace {name} is deleted; until its grace is over it can be taken back."),
    })
}

/// What is deleted and can be taken back: its version, and what is to be said of it.
pub(super) async fn deleted(
    context: &PageContext,
    key: &ObjectKey,
) -> Result<(MetaVersion, Vec<Fact>), Failure> {
    let looked = key.clone();
    let found = context.look(move |metadata| {
        let object = metadata.get(&looked)?;
        let deleting = object.meta.deleting?;
        let parent = looked.parent().filter(|parent| {
            let parent = metadata.get(parent);
            parent.is_some_and(|parent| parent.meta.deleting.is_some())
        });
        Some((object.meta.version, deleting, parent))
    });
    let (version, deleting, parent) = found.await?.ok_or_else(Failure::not_found)?;
    if let Some(parent) = parent {
        // Told before somebody has read what it would do.
        return Err(MetaError::ParentDeleting(parent).into());
    }
    let preview = vec![
        fact("Deleted", Quantity::UnixMs(deleting.since.0)),
        fact("May be purged from", Quantity::UnixMs(deleting.purge_at.0)),
    ];
    Ok((version, preview))
}

pub(super) fn restored(what: &str) -> Vec<String> {
    vec![
        format!("The {what} is there again, with what went with it."),
        "Whoever used it may use it again; connections are not made anew by it.".to_owned(),
    ]
}

pub(super) async fn restore(context: &PageContext, asked: &Asked) -> Planned {
    let tenant = asked.target.clone();
    if !context.access.sees(&tenant) {
        return Err(Failure::hidden().into());
    }
    let key = ObjectKey::tenant(&tenant);
    let (version, preview) = deleted(context, &key).await?;
    Ok(Plan {
        preview,
        kind: Kind::Durable,
        consequences: restored("tenant"),
        inputs: Vec::new(),
        back: Place::Namespaces(tenant.clone()),
        version: Some(version),
        row: ("undelete", key.to_string()),
        route: (Verb::Post, "/v1/tenants/{t}/undelete"),
        wanted: Wanted {
            parts: vec![("t", tenant.clone())],
            expect: Some(version),
            ..Wanted::default()
        },
        steps: None,
        done: format!("Tenant {tenant} is there again."),
    })
}

pub(super) async fn restore_namespace(context: &PageContext, asked: &Asked) -> Planned {
    let (tenant, name) = (asked.tenant.clone(), asked.target.clone());
    if !context.access.sees(&tenant) {
        return Err(Failure::hidden().into());
    }
    let key = ObjectKey::namespace(&tenant, &name);
    let (version, preview) = deleted(context, &key).await?;
    Ok(Plan {
        preview,
        kind: Kind::Durable,
        consequences: restored("namespace"),
        inputs: Vec::new(),
        back: Place::Namespaces(tenant.clone()),
        version: Some(version),
        row: ("undelete", key.to_string()),
        route: (Verb::Post, "/v1/tenants/{t}/namespaces/{ns}/undelete"),
        wanted: Wanted {
            parts: vec![("t", tenant), ("ns", name.clone())],
            expect: Some(version),
            ..Wanted::default()
        },
        steps: None,
        done: format!("Namespace {name} is there again."),
    })
}
