//! What is done to policies, roles, identity providers and keys.

use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{Fact, Kind, Quantity};
use pinion_auth::token::Kid;
use pinion_metadata::identity::{ApiKey, Issuer};
use pinion_metadata::limits::POLICIES_PER_TENANT_MAX;
use pinion_metadata::{
    Body, Filter, ListQuery, MetaVersion, Metadata, Object, ObjectKey, ObjectKind, RowId,
};
use serde_json::json;

use super::{Plan, Planned, code, fact};
use crate::call::Wanted;
use crate::error::Failure;
use crate::routes::Verb;
use crate::ui::context::PageContext;
use crate::ui::session::Asked;

/// Every row of a kind in a tenant, page by page.
pub(in crate::ui) fn rows_of(
    metadata: &Metadata,
    kind: ObjectKind,
    tenant: &str,
) -> Vec<std::sync::Arc<Object>> {
    let mut query = ListQuery {
        kind,
        under: Some(ObjectKey::tenant(tenant)),
        filter: Filter::All,
        deleted: true,
        limit: pinion_metadata::limits::PAGE_MAX,
        after: None,
    };
    let mut all = Vec::new();
    loop {
        let page = metadata.list(&query);
        all.extend(page.items);
        query.after = page.next;
        // A tenant has no more rows than this of any kind.
        if query.after.is_none() || all.len() as u64 >= POLICIES_PER_TENANT_MAX {
            return all;
        }
    }
}

/// What is asked, as a route has it.
type Asks = (Verb, &'static str);

const ADD_POLICY: Asks = (Verb::Post, "/v1/tenants/{t}/rbac/policies");
const REMOVE_POLICY: Asks = (Verb::Delete, "/v1/tenants/{t}/rbac/policies/{id}");
const REMOVE_GROUPING: Asks = (Verb::Delete, "/v1/tenants/{t}/rbac/groupings/{id}");
const REMOVE_PROVIDER: Asks = (Verb::Delete, "/v1/tenants/{t}/idp-issuers/{iss}");
const ROTATE: Asks = (Verb::Post, "/v1/tenants/{t}/keys/rotate");
const REVOKE: Asks = (Verb::Delete, "/v1/tenants/{t}/api-keys/{id}");

/// Refuses before anything is looked for: whoever may not ask must not learn what there is.
fn may(context: &PageContext, tenant: &str, asks: Asks) -> Result<(), Failure> {
    if context.access.sees(tenant) {
        context.may_ask(asks, tenant)
    } else {
        Err(Failure::hidden())
    }
}

fn rule(subject: &str, action: &str, object: &str) -> Vec<Fact> {
    vec![
        fact("Who", code(subject)),
        fact("May", code(action)),
        fact("On", code(object)),
    ]
}

pub(super) async fn add_policy(context: &PageContext, asked: &Asked) -> Planned {
    may(context, &asked.tenant, ADD_POLICY)?;
    let (subject, action, object) = (&*asked.target, asked.more("action"), asked.more("object"));
    Ok(Plan {
        preview: rule(subject, action, object),
        kind: Kind::Durable,
        consequences: vec![
            "From the next moment on they may do this, on every node.".to_owned(),
            "Nobody can give more than they have themselves.".to_owned(),
        ],
        inputs: Vec::new(),
        back: Place::Access(asked.tenant.clone()),
        version: None,
        row: ("add_policies", ObjectKey::tenant(&asked.tenant).to_string()),
        route: ADD_POLICY,
        wanted: Wanted {
            parts: vec![("t", asked.tenant.clone())],
            body: Some(json!({ "policies": [
                { "subject": subject, "action": action, "object": object },
            ] })),
            ..Wanted::default()
        },
        steps: None,
        done: format!("{subject} may {action} on {object}."),
    })
}

/// The row whose body is as asked for.
async fn row(
    context: &PageContext,
    kind: ObjectKind,
    tenant: &str,
    is: impl Fn(&Body) -> bool + Send + 'static,
) -> Result<(RowId, MetaVersion, Body), Failure> {
    let name = tenant.to_owned();
    let found = context.look(move |metadata| {
        let rows = rows_of(metadata, kind, &name);
        let row = rows.into_iter().find(|object| is(&object.body))?;
        match &row.meta.key {
            ObjectKey::Policy { id, .. }
            | ObjectKey::Grouping { id, .. }
            | ObjectKey::ApiKey { id, .. } => Some((*id, row.meta.version, row.body.clone())),
            _ => None,
        }
    });
    found.await?.ok_or_else(Failure::not_found)
}

pub(super) async fn remove_policy(context: &PageContext, asked: &Asked) -> Planned {
    may(context, &asked.tenant, REMOVE_POLICY)?;
    let (subject, action, object) = (&*asked.target, asked.more("action"), asked.more("object"));
    let wanted = [subject, action, object].map(ToOwned::to_owned);
    let is = move |body: &Body| match body {
        Body::Policy(of) => {
            let texts = [
                of.subject.to_string(),
                of.action.to_string(),
                of.object.to_string(),
            ];
            texts == wanted
        }
        _ => false,
    };
    let (id, version, _) = row(context, ObjectKind::Policy, &asked.tenant, is).await?;
    Ok(Plan {
        preview: rule(subject, action, object),
        kind: Kind::Durable,
        consequences: vec![
            "They may do this no more, unless another policy or a role of theirs allows it."
                .to_owned(),
            "Connections that are open are held to it at once.".to_owned(),
        ],
        inputs: Vec::new(),
        back: Place::Access(asked.tenant.clone()),
        version: Some(version),
        row: (
            "delete_policies",
            ObjectKey::tenant(&asked.tenant).to_string(),
        ),
        route: REMOVE_POLICY,
        wanted: Wanted {
            parts: vec![("t", asked.tenant.clone()), ("id", id.0.to_string())],
            ..Wanted::default()
        },
        steps: None,
        done: format!("The policy of {subject} is removed."),
    })
}

pub(super) async fn remove_grouping(context: &PageContext, asked: &Asked) -> Planned {
    may(context, &asked.tenant, REMOVE_GROUPING)?;
    let (member, role) = (&*asked.target, asked.more("role"));
    let wanted = (member.to_owned(), role.to_owned());
    let is = move |body: &Body| match body {
        Body::Grouping(of) => of.member.to_string() == wanted.0 && *of.role == *wanted.1,
        _ => false,
    };
    let (id, version, _) = row(context, ObjectKind::Grouping, &asked.tenant, is).await?;
    Ok(Plan {
        preview: vec![fact("Who", code(member)), fact("Has the role", code(role))],
        kind: Kind::Durable,
        consequences: vec!["What only the role allows them they may do no more.".to_owned()],
        inputs: Vec::new(),
        back: Place::Access(asked.tenant.clone()),
        version: Some(version),
        row: (
            "delete_groupings",
            ObjectKey::tenant(&asked.tenant).to_string(),
        ),
        route: REMOVE_GROUPING,
        wanted: Wanted {
            parts: vec![("t", asked.tenant.clone()), ("id", id.0.to_string())],
            ..Wanted::default()
        },
        steps: None,
        done: format!("{member} has the role {role} no more."),
    })
}

pub(super) async fn remove_provider(context: &PageContext, asked: &Asked) -> Planned {
    may(context, &asked.tenant, REMOVE_PROVIDER)?;
    let key = ObjectKey::issuer(&asked.tenant, &asked.target);
    let looked = key.clone();
    let found = context.look(move |metadata| {
        let object = metadata.get(&looked)?;
        match &object.body {
            Body::Issuer(rules) => Some((object.meta.version, rules.clone())),
            _ => None,
        }
    });
    let (version, rules): (MetaVersion, Issuer) = found.await?.ok_or_else(Failure::not_found)?;
    Ok(Plan {
        preview: vec![
            fact("Audiences", code(&rules.audiences.join(", "))),
            fact("Keys from", code(rules.keys.url())),
        ],
        kind: Kind::Durable,
        consequences: vec![
            "Tokens of this provider are exchanged for none of ours any more.".to_owned(),
            "Tokens that were given for them count until they are over.".to_owned(),
        ],
        inputs: Vec::new(),
        back: Place::Providers(asked.tenant.clone()),
        version: Some(version),
        row: ("remove", key.to_string()),
        route: REMOVE_PROVIDER,
        wanted: Wanted {
            parts: vec![("t", asked.tenant.clone()), ("iss", asked.target.clone())],
            expect: Some(version),
            ..Wanted::default()
        },
        steps: None,
        done: format!("{} is believed no more.", asked.target),
    })
}

pub(super) async fn rotate(context: &PageContext, asked: &Asked) -> Planned {
    let tenant = &*asked.target;
    may(context, tenant, ROTATE)?;
    let key = ObjectKey::signing_keys(tenant);
    let looked = key.clone();
    let found = context.look(move |metadata| {
        let object = metadata.get(&looked)?;
        match &object.body {
            Body::SigningKeys(keys) => Some((object.meta.version, keys.clone())),
            _ => None,
        }
    });
    let (version, keys) = found.await?.ok_or_else(Failure::not_found)?;
    let kid = |public: &[u8; 32]| code(&Kid::of(public));
    let mut preview = vec![
        fact("Signs now", kid(&keys.current.public)),
        fact("Signs then", kid(&keys.next.public)),
        fact("Rotated last", Quantity::UnixMs(keys.rotated.0)),
    ];
    if let Some(previous) = &keys.previous {
        preview.push(fact("Is believed no more", kid(&previous.key.public)));
    }
    Ok(Plan {
        preview,
        kind: Kind::Durable,
        consequences: vec![
            "The next key signs from now on; another is made and published to be the next."
                .to_owned(),
            "Tokens of the key that signs now count until they are over.".to_owned(),
            "Tokens of the one before it, if there is one, count no more.".to_owned(),
        ],
        inputs: Vec::new(),
        back: Place::Keys(tenant.to_owned()),
        version: Some(version),
        row: ("rotate_keys", key.to_string()),
        route: ROTATE,
        wanted: Wanted {
            parts: vec![("t", tenant.to_owned())],
            expect: Some(version),
            ..Wanted::default()
        },
        steps: None,
        done: format!("The next signing key of {tenant} signs from now on."),
    })
}

pub(super) async fn revoke(context: &PageContext, asked: &Asked) -> Planned {
    may(context, &asked.tenant, REVOKE)?;
    let (name, prefix) = (asked.target.clone(), asked.more("prefix").to_owned());
    let is = move |body: &Body| match body {
        Body::ApiKey(key) => *key.name == *name && prefix_text(key) == prefix,
        _ => false,
    };
    let (id, version, body) = row(context, ObjectKind::ApiKey, &asked.tenant, is).await?;
    let Body::ApiKey(key) = body else {
        return Err(Failure::not_found().into());
    };
    let target = ObjectKey::api_key(&asked.tenant, id);
    Ok(Plan {
        preview: vec![
            fact("Begins with", code(&prefix_text(&key))),
            fact("Speaks for", code(&key.subject)),
            fact(
                "Ends",
                match key.expires {
                    Some(at) => Quantity::UnixMs(at.0),
                    None => Quantity::Text("never".to_owned()),
                },
            ),
        ],
        kind: Kind::Durable,
        consequences: vec![
            "The key opens nothing any more, on every node, at once.".to_owned(),
            "Connections that were made with it end.".to_owned(),
        ],
        inputs: Vec::new(),
        back: Place::Keys(asked.tenant.clone()),
        version: Some(version),
        row: ("remove", target.to_string()),
        route: REVOKE,
        wanted: Wanted {
            parts: vec![("t", asked.tenant.clone()), ("id", id.0.to_string())],
            expect: Some(version),
            ..Wanted::default()
        },
        steps: None,
        done: format!("The key {} counts no more.", asked.target),
    })
}

/// The digits that keys are told apart by.
pub(in crate::ui) fn prefix_text(key: &ApiKey) -> String {
    String::from_utf8_lossy(&key.prefix).into_owned()
}
