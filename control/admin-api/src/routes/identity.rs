//! Routes of identity: who is believed, what they may, and what they show.

use super::{Need, Route, TENANT, Verb, get, list, told, write};
use crate::limits::PUBLIC_BODY_BYTES_MAX;
use crate::rest::{api_keys, issuers, keys, rbac, tokens};
use pinion_metadata::Action;

/// Who manages a tenant manages who is believed in it.
const MANAGES: Need = Need::On(Action::TenantManage, TENANT);

// Rows are held against how far a caller's own right reaches.
const SEES_RULES: Need = Need::Somewhere(Action::RbacView, TENANT);
const MAKES_POLICIES: Need = Need::Somewhere(Action::RbacPolicyManage, TENANT);
const GIVES_ROLES: Need = Need::Somewhere(Action::RbacAssignmentManage, TENANT);

/// A grouping has no object: who sees the rules of all of the tenant sees it.
const SEES_ROLES: Need = Need::On(Action::RbacView, TENANT);

const fn delete(path: &'static str, need: Need, handler: super::Handler) -> Route {
    write(Verb::Delete, path, need, 204, handler)
}

pub(super) const IDENTITY: &[Route] = &[
    told(
        Route {
            body: Some("ExchangeRequest"),
            body_max: PUBLIC_BODY_BYTES_MAX,
            answer: Some("ExchangeResponse"),
            others: &[401, 403, 404, 409],
            ..write(
                Verb::Post,
                "/v1/tenants/{t}/token/exchange",
                Need::Public,
                200,
                |call| Box::pin(tokens::exchange(call)),
            )
        },
        "token exchange",
        "For the token of an identity provider, one of ours",
    ),
    told(
        Route {
            query: &[],
            others: &[404],
            ..get(
                "/v1/tenants/{t}/.well-known/jwks.json",
                Need::Public,
                "JwkSet",
                |call| Box::pin(keys::key_set(call)),
            )
        },
        "keys show",
        "What tokens of a tenant are checked with",
    ),
    told(
        Route {
            answer: Some("KeyNames"),
            ..write(
                Verb::Post,
                "/v1/tenants/{t}/keys/rotate",
                MANAGES,
                200,
                |call| Box::pin(keys::rotate(call)),
            )
        },
        "keys rotate",
        "The next key of a tenant signs from now on",
    ),
    told(
        Route {
            body: Some("RevokeRequest"),
            ..write(
                Verb::Post,
                "/v1/tenants/{t}/tokens/revoke",
                MANAGES,
                204,
                |call| Box::pin(tokens::revoke(call)),
            )
        },
        "token revoke",
        "A token, or all tokens that somebody has, count no more; API keys count on",
    ),
    told(
        list(
            "/v1/tenants/{t}/idp-issuers",
            MANAGES,
            "IssuerList",
            |call| Box::pin(issuers::list(call)),
        ),
        "idp list",
        "Identity providers that a tenant believes",
    ),
    told(
        Route {
            body: Some("IssuerInput"),
            answer: Some("Issuer"),
            ..write(
                Verb::Post,
                "/v1/tenants/{t}/idp-issuers",
                MANAGES,
                201,
                |call| Box::pin(issuers::put(call)),
            )
        },
        "idp put",
        "Believe an identity provider, or believe it otherwise",
    ),
    told(
        get(
            "/v1/tenants/{t}/idp-issuers/{iss}",
            MANAGES,
            "Issuer",
            |call| Box::pin(issuers::get(call)),
        ),
        "idp get",
        "One identity provider",
    ),
    told(
        delete("/v1/tenants/{t}/idp-issuers/{iss}", MANAGES, |call| {
            Box::pin(issuers::delete(call))
        }),
        "idp delete",
        "Believe an identity provider no more",
    ),
    told(
        list(
            "/v1/tenants/{t}/rbac/policies",
            SEES_RULES,
            "PolicyList",
            |call| Box::pin(rbac::policies(call)),
        ),
        "rbac policy list",
        "Policies, as far as the caller may see them",
    ),
    told(
        Route {
            body: Some("PoliciesAdd"),
            answer: Some("PoliciesAdded"),
            ..write(
                Verb::Post,
                "/v1/tenants/{t}/rbac/policies",
                MAKES_POLICIES,
                201,
                |call| Box::pin(rbac::add_policies(call)),
            )
        },
        "rbac policy add",
        "Allow subjects something, inside of what the caller may grant",
    ),
    told(
        Route {
            body: Some("RowIds"),
            ..delete("/v1/tenants/{t}/rbac/policies", MAKES_POLICIES, |call| {
                Box::pin(rbac::delete_policies(call))
            })
        },
        "rbac policy remove",
        "Take policies away, all or none",
    ),
    told(
        delete(
            "/v1/tenants/{t}/rbac/policies/{id}",
            MAKES_POLICIES,
            |call| Box::pin(rbac::delete_policy(call)),
        ),
        "rbac policy remove",
        "Take one policy away",
    ),
    told(
        list(
            "/v1/tenants/{t}/rbac/groupings",
            SEES_ROLES,
            "GroupingList",
            |call| Box::pin(rbac::groupings(call)),
        ),
        "rbac grouping list",
        "Who has which role",
    ),
    told(
        Route {
            body: Some("GroupingsAdd"),
            answer: Some("GroupingsAdded"),
            ..write(
                Verb::Post,
                "/v1/tenants/{t}/rbac/groupings",
                GIVES_ROLES,
                201,
                |call| Box::pin(rbac::add_groupings(call)),
            )
        },
        "rbac grouping add",
        "Give subjects roles, inside of what the caller may grant",
    ),
    told(
        Route {
            body: Some("RowIds"),
            ..delete("/v1/tenants/{t}/rbac/groupings", GIVES_ROLES, |call| {
                Box::pin(rbac::delete_groupings(call))
            })
        },
        "rbac grouping remove",
        "Take roles away, all or none",
    ),
    told(
        delete("/v1/tenants/{t}/rbac/groupings/{id}", GIVES_ROLES, |call| {
            Box::pin(rbac::delete_grouping(call))
        }),
        "rbac grouping remove",
        "Take one role away",
    ),
    told(
        list("/v1/tenants/{t}/api-keys", MANAGES, "ApiKeyList", |call| {
            Box::pin(api_keys::list(call))
        }),
        "key list",
        "API keys of a tenant, without themselves",
    ),
    told(
        Route {
            body: Some("ApiKeyCreate"),
            answer: Some("ApiKeyMade"),
            ..write(
                Verb::Post,
                "/v1/tenants/{t}/api-keys",
                MANAGES,
                201,
                |call| Box::pin(api_keys::create(call)),
            )
        },
        "key create",
        "Make an API key, which is shown once",
    ),
    told(
        delete("/v1/tenants/{t}/api-keys/{id}", MANAGES, |call| {
            Box::pin(api_keys::delete(call))
        }),
        "key revoke",
        "An API key counts no more",
    ),
];
