//! What a tenant is divided into.

use std::sync::Arc;

use pinion_admin_ui::model::{Kind, NamespaceRow, Namespaces};
use pinion_metadata::{Body, Metadata, Object, ObjectKey, ObjectKind};

use super::list::{listing, order, part, search};
use super::tenants::{state, usage};
use crate::error::Failure;
use crate::ui::act::rows_of;
use crate::ui::context::{PageContext, Shown};

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let tenant = context.tenant()?.to_owned();
    let sort = context.sort(&["name"], "name");
    let (looked, wanted) = (tenant.clone(), search(context).to_owned());
    let found = context.look(move |metadata| {
        let tenant = metadata.get(&ObjectKey::tenant(&looked))?;
        let mut rows = rows_of(metadata, ObjectKind::Namespace, &looked);
        rows.retain(|object| name(object).contains(&*wanted));
        Some((rows, tenant.meta.deleting.is_some()))
    });
    let (mut found, deleted) = found.await?.ok_or_else(Failure::not_found)?;
    order(&mut found, &sort, |a, b| name(a).cmp(name(b)));
    let (found, pages) = part(context, found);
    let of = tenant.clone();
    let rows = context.look(move |metadata| {
        let rows = found.iter().filter_map(|object| row(metadata, &of, object));
        rows.collect::<Vec<_>>()
    });
    Ok(Namespaces {
        list: listing(context, sort, pages),
        rows: rows.await?,
        fresh: context.fresh(Kind::Mixed),
        tenant,
        deleted,
    }
    .into())
}

fn name(object: &Arc<Object>) -> &str {
    match &object.meta.key {
        ObjectKey::Namespace { name, .. } => name,
        _ => "",
    }
}

fn row(metadata: &Metadata, tenant: &str, object: &Arc<Object>) -> Option<NamespaceRow> {
    let Body::Namespace(namespace) = &object.body else {
        return None;
    };
    let name = name(object);
    let used = metadata.namespace_usage(tenant, name);
    Some(NamespaceRow {
        name: name.to_owned(),
        description: namespace.description.to_string(),
        state: state(&object.meta),
        resources: usage(Some(used.resources), namespace.quotas.max_streams),
        publish_per_s: usage(None, namespace.quotas.max_publish_rate),
        generation: object.meta.generation,
        deleted: object.meta.deleting.is_some(),
    })
}
