//! What a tenant is divided into.

use std::sync::Arc;

use pinion_admin_ui::model::{Kind, NamespaceRow, Namespaces};
use pinion_metadata::{Body, Metadata, Object, ObjectKey, ObjectKind};
use pinion_types::WallMs;

use super::deletion::{self, purge_in_ms};
use super::list::{listing, order, part, search};
use super::tenants::{state, usage};
use crate::error::Failure;
use crate::ui::act::rows_of;
use crate::ui::context::{PageContext, Shown};
use crate::ui::data::whole;
use crate::views::Gathered;
use crate::views::tenants::published_per_second;

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let tenant = context.tenant()?.to_owned();
    let sort = context.sort(&["name"], "name");
    let (looked, wanted) = (tenant.clone(), search(context).to_owned());
    let found = context.look(move |metadata| {
        metadata.get(&ObjectKey::tenant(&looked))?;
        let mut rows = rows_of(metadata, ObjectKind::Namespace, &looked);
        rows.retain(|object| name(object).contains(&*wanted));
        Some(rows)
    });
    let mut found = found.await?.ok_or_else(Failure::not_found)?;
    order(&mut found, &sort, |a, b| name(a).cmp(name(b)));
    let (found, pages) = part(context, found);
    let (of, now) = (tenant.clone(), context.now);
    let rows = context.look(move |metadata| {
        let rows = found
            .iter()
            .filter_map(|object| row(metadata, &of, object, now));
        rows.collect::<Vec<_>>()
    });
    let mut rows = rows.await?;
    let all = Gathered::of(&context.api, &context.who).await?;
    for row in &mut rows {
        let area = Some(&*row.name);
        row.publish_per_s.used = Some(whole(published_per_second(&all, &tenant, area)));
    }
    Ok(Namespaces {
        list: listing(context, sort, pages),
        rows,
        fresh: context.fresh(Kind::Mixed),
        deletion: deletion::of(context, &tenant, ObjectKey::tenant(&tenant)).await?,
        deletion_fresh: context.fresh(Kind::Durable),
        tenant,
    }
    .into())
}

fn name(object: &Arc<Object>) -> &str {
    match &object.meta.key {
        ObjectKey::Namespace { name, .. } => name,
        _ => "",
    }
}

fn row(
    metadata: &Metadata,
    tenant: &str,
    object: &Arc<Object>,
    now: WallMs,
) -> Option<NamespaceRow> {
    let Body::Namespace(namespace) = &object.body else {
        return None;
    };
    let name = name(object);
    // Beside each quota stands what counts for it, also when it is deleted.
    let kept = metadata.namespace_kept(tenant, name);
    Some(NamespaceRow {
        name: name.to_owned(),
        description: namespace.description.to_string(),
        state: state(&object.meta),
        purge_in_ms: object.meta.deleting.map(|one| purge_in_ms(now, one)),
        resources: usage(Some(kept.resources), namespace.quotas.max_streams),
        publish_per_s: usage(None, namespace.quotas.max_publish_rate),
        generation: object.meta.generation,
    })
}
