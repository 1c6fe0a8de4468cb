//! Who may do what in a tenant.

use std::sync::Arc;

use pinion_admin_ui::model::{self, GroupingRow, Kind, PolicyRow};
use pinion_metadata::{Action, Body, Object, ObjectKey, ObjectKind};

use super::list::{listing, order, part, search};
use crate::error::Failure;
use crate::ui::act::rows_of;
use crate::ui::context::{PageContext, Shown};

/// Roles that are shown. Whoever has more asks for them by the API.
const GROUPINGS_SHOWN: usize = 100;

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let tenant = context.tenant()?.to_owned();
    let sort = context.sort(&["subject", "action", "object"], "subject");
    let (looked, wanted) = (tenant.clone(), search(context).to_owned());
    let found = context.look(move |metadata| {
        metadata.get(&ObjectKey::tenant(&looked))?;
        let groupings = rows_of(metadata, ObjectKind::Grouping, &looked);
        Some((rows_of(metadata, ObjectKind::Policy, &looked), groupings))
    });
    let (policies, groupings) = found.await?.ok_or_else(Failure::not_found)?;
    let policies = policies.iter().filter_map(policy);
    let mut policies: Vec<PolicyRow> = policies
        .filter(|row| row.subject.contains(&*wanted) || row.object.contains(&*wanted))
        .collect();
    order(&mut policies, &sort, |a, b| match &*sort.by {
        "action" => a.action.cmp(&b.action),
        "object" => a.object.cmp(&b.object),
        _ => a.subject.cmp(&b.subject),
    });
    let (policies, pages) = part(context, policies);
    let mut groupings: Vec<GroupingRow> = groupings.iter().filter_map(grouping).collect();
    groupings.sort_by(|a, b| (&a.subject, &a.role).cmp(&(&b.subject, &b.role)));
    groupings.retain(|row| row.subject.contains(&*wanted) || row.role.contains(&*wanted));
    groupings.truncate(GROUPINGS_SHOWN);
    Ok(model::Access {
        tenant,
        list: listing(context, sort, pages),
        policies,
        groupings,
        actions: Action::ALL
            .iter()
            .map(|action| action.text().to_owned())
            .collect(),
        fresh: context.fresh(Kind::Durable),
    }
    .into())
}

fn policy(object: &Arc<Object>) -> Option<PolicyRow> {
    let Body::Policy(policy) = &object.body else {
        return None;
    };
    Some(PolicyRow {
        subject: policy.subject.to_string(),
        action: policy.action.to_string(),
        object: policy.object.to_string(),
        made_unix_ms: object.meta.created.0,
    })
}

fn grouping(object: &Arc<Object>) -> Option<GroupingRow> {
    let Body::Grouping(grouping) = &object.body else {
        return None;
    };
    Some(GroupingRow {
        subject: grouping.member.to_string(),
        role: grouping.role.to_string(),
        made_unix_ms: object.meta.created.0,
    })
}
