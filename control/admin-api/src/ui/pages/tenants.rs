//! Whose resources are kept apart.

use pinion_admin_ui::model::{Kind, Level, ROWS_MAX, State, TenantRow, Tenants, Usage};
use pinion_metadata::limits::{PAGE_MAX, TENANTS_MAX};
use pinion_metadata::{Body, Filter, ListQuery, Meta, Metadata, ObjectKey, ObjectKind};
use pinion_types::WallMs;

use super::deletion::purge_in_ms;
use super::list::{listing, order, part, search};
use crate::error::Failure;
use crate::ui::context::{PageContext, Shown};
use crate::ui::data::whole;
use crate::views::{Gathered, tenants as views};

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let sort = context.sort(&["name"], "name");
    let names = names(context).await?;
    let mut names: Vec<Box<str>> = names
        .into_iter()
        .filter(|name| context.access.sees(name))
        .collect();
    order(&mut names, &sort, Ord::cmp);
    let (names, pages) = part(context, names);
    debug_assert!(names.len() <= ROWS_MAX);
    let now = context.now;
    let rows = context.look(move |metadata| {
        let rows = names.iter().filter_map(|name| row(metadata, name, now));
        rows.collect::<Vec<_>>()
    });
    let mut rows = rows.await?;
    let all = Gathered::of(&context.api, &context.who).await?;
    // Those of a core that does not answer nobody can count.
    let connections = views::connections(&context.api, &all).await.ok();
    for row in &mut rows {
        row.publish_per_s.used = Some(whole(views::published_per_second(&all, &row.name, None)));
        row.connections.used = connections
            .as_ref()
            .map(|counted| counted.get(&row.name).copied().unwrap_or(0));
    }
    Ok(Tenants {
        list: listing(context, sort, pages),
        rows,
        fresh: context.fresh(Kind::Mixed),
    }
    .into())
}

/// Names that the search finds, those of deleted tenants too.
async fn names(context: &PageContext) -> Result<Vec<Box<str>>, Failure> {
    let filter = match search(context) {
        "" => Filter::All,
        part => Filter::Contains(part.into()),
    };
    context
        .look(move |metadata| {
            let mut query = ListQuery {
                kind: ObjectKind::Tenant,
                under: None,
                filter,
                deleted: true,
                limit: PAGE_MAX,
                after: None,
            };
            let mut all = Vec::new();
            loop {
                let page = metadata.list(&query);
                let names = page.items.iter();
                all.extend(names.filter_map(|object| match &object.meta.key {
                    ObjectKey::Tenant(name) => Some(name.clone()),
                    _ => None,
                }));
                query.after = page.next;
                if query.after.is_none() || all.len() as u64 >= TENANTS_MAX {
                    return all;
                }
            }
        })
        .await
}

fn row(metadata: &Metadata, name: &str, now: WallMs) -> Option<TenantRow> {
    let object = metadata.get(&ObjectKey::tenant(name))?;
    let Body::Tenant(tenant) = &object.body else {
        return None;
    };
    // Beside each quota stands what counts for it, also when it is deleted.
    let (used, kept) = (metadata.tenant_usage(name), metadata.tenant_kept(name));
    let quotas = &tenant.quotas;
    let description = match &*tenant.description {
        "" => &tenant.display_name,
        _ => &tenant.description,
    };
    Some(TenantRow {
        name: name.to_owned(),
        description: description.to_string(),
        state: state(&object.meta),
        purge_in_ms: object.meta.deleting.map(|one| purge_in_ms(now, one)),
        namespaces: used.namespaces,
        resources: usage(Some(kept.resources), quotas.max_streams),
        storage_bytes: usage(Some(kept.storage_bytes), quotas.max_storage_bytes),
        connections: usage(None, quotas.max_connections),
        publish_per_s: usage(None, quotas.max_publish_rate),
        cache_bytes: usage(Some(kept.cache_bytes), quotas.max_cache_memory_bytes),
    })
}

/// What is used of a quota; one of 0 is none.
pub(super) fn usage(used: Option<u64>, quota: u64) -> Usage {
    Usage {
        used,
        quota: (quota != 0).then_some(quota),
    }
}

/// How something is that can be deleted and taken back.
pub(super) fn state(meta: &Meta) -> State {
    let (level, text) = match &meta.deleting {
        None => (Level::Ok, "active"),
        Some(_) => (Level::Warn, "deleted"),
    };
    State {
        level,
        text: text.to_owned(),
    }
}
