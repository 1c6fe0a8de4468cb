//! Tenants with people in them, who may each do something else.

use pinion_admin_api::PlaneHandle;
use pinion_auth::api_key;
use pinion_metadata::command::{AddPolicies, CreateApiKey, CreateKeys};
use pinion_metadata::identity::{ApiKey, NewKeys, StoredKey};
use pinion_metadata::{ActionPattern, Command, Expect, MetaVersion, Policy, PolicyObject, Subject};
use pinion_plane::Answer;
use serde_json::json;

use crate::front::ana;
use crate::host::PATIENCE;
use crate::http::Client;
use crate::stories::broker;

/// Somebody of a tenant, by what they may do.
pub(crate) struct Role {
    pub(crate) name: &'static str,
    tenant: &'static str,
    action: &'static str,
    object: &'static str,
}

/// Somebody who has that one right.
pub(crate) const fn role(
    name: &'static str,
    tenant: &'static str,
    action: &'static str,
    object: &'static str,
) -> Role {
    Role {
        name,
        tenant,
        action,
        object,
    }
}

pub(crate) const ROLES: &[Role] = &[
    role("other tenant", "other", "*", "tenant:other"),
    role(
        "subscriber",
        "acme",
        "stream.subscribe",
        "stream:acme/pay/orders",
    ),
    role("viewer", "acme", "rbac.view", "tenant:acme"),
    role("streams", "acme", "stream.manage", "stream:acme/pay/*"),
    role("queues", "acme", "queue.manage", "queue:acme/pay/*"),
    role("caches", "acme", "cache.manage", "cache:acme/pay/*"),
    role("namespace", "acme", "ns.manage", "namespace:acme/pay"),
    role("tenant", "acme", "tenant.manage", "tenant:acme"),
    role("reader", "acme", "admin:read", "tenant:acme"),
    role("everything", "acme", "*", "tenant:acme"),
];

async fn done(plane: &PlaneHandle, command: Command) -> MetaVersion {
    match plane.write(ana(), Expect::Any, command, PATIENCE).await {
        Answer::Written { version, .. } => version,
        answer => panic!("{answer:?}"),
    }
}

/// A key for somebody who may do this.
pub(crate) async fn key(plane: &PlaneHandle, number: u8, role: &Role) -> String {
    let subject = Subject::parse(&format!("p:{}", role.name.replace(' ', "-"))).unwrap();
    done(
        plane,
        Command::AddPolicies(AddPolicies {
            tenant: role.tenant.into(),
            scope: Box::new([PolicyObject::Cluster]),
            policies: Box::new([Policy {
                subject: subject.clone(),
                action: ActionPattern::parse(role.action).unwrap(),
                object: PolicyObject::parse(role.object).unwrap(),
            }]),
        }),
    )
    .await;
    let (kept, text) = api_key::ApiKey::mint([number; 4], &[number; 32]);
    let key = ApiKey {
        name: role.name.into(),
        prefix: kept.prefix,
        digest: kept.digest.0,
        subject,
        expires: None,
    };
    let create = CreateApiKey {
        tenant: role.tenant.into(),
        scope: Box::new([PolicyObject::Cluster]),
        key,
    };
    done(plane, Command::CreateApiKey(create)).await;
    text
}

/// Two tenants with a namespace, and in that of the first a stream, a queue and a cache.
pub(crate) async fn furnish(ops: &Client) {
    broker(ops, "one").await;
    for tenant in ["acme", "other"] {
        ops.post("/v1/tenants", json!({ "name": tenant }))
            .await
            .is(201);
        let namespaces = format!("/v1/tenants/{tenant}/namespaces");
        ops.post(&namespaces, json!({ "name": "pay" }))
            .await
            .is(201);
    }
    for (kind, name) in [
        ("streams", "orders"),
        ("streams", "refunds"),
        ("queues", "jobs"),
        ("caches", "hot"),
    ] {
        let path = format!("/v1/tenants/acme/namespaces/pay/{kind}");
        // On the node that is asked: it says what stands against deleting them.
        let body = json!({ "name": name, "placement": { "pinned": "n1" } });
        ops.post(&path, body).await.is(201);
    }
}

/// The issuer of [`believe`], as a part of a path.
pub(crate) const ISSUER_PART: &str = "https%3A%2F%2Fidp.example";

/// The first tenant believes an identity provider, and has keys that nobody can open.
pub(crate) async fn believe(ops: &Client, plane: &PlaneHandle) {
    let issuer = json!({ "issuer": "https://idp.example", "audiences": ["a"] });
    let issuers = "/v1/tenants/acme/idp-issuers";
    ops.post(issuers, issuer).await.is(201);
    let key = |number| StoredKey {
        public: [number; 32],
        sealed: [0; 68],
    };
    let create = CreateKeys {
        tenant: "acme".into(),
        keys: NewKeys {
            current: key(1),
            next: key(2),
            rotate_every_ms: 0,
        },
    };
    done(plane, Command::CreateKeys(create)).await;
}
