//! The OpenAPI document, made from the table of routes and the bodies that they name.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::error::codes::CODES;
use crate::error::{ErrorBody, PROBLEM};
use crate::limits::{FILTER_BYTES_MAX, PAGE_DEFAULT, RESOURCES_TOLD_MAX};
use crate::model::{
    Broker, BrokerRegister, MovePlan, Namespace, NamespaceCreate, NamespacePatch, ObjectView,
    Placement, RebalanceRequest, Resource, ResourceCreate, ResourcePatch, Tenant, TenantCreate,
    TenantPatch, TransferRequest,
};
use crate::rest::api_keys::{ApiKey, ApiKeyCreate, ApiKeyMade};
use crate::rest::apply::{ApplyRequest, ApplyResult};
use crate::rest::audit::AuditList;
use crate::rest::backup::BackupRequest;
use crate::rest::domains;
use crate::rest::health::{HealthAnswer, HealthReport};
use crate::rest::issuers::{Issuer, IssuerInput};
use crate::rest::keys::KeyNames;
use crate::rest::probes::{Health, Probe, Ready, Startup};
use crate::rest::raft::{LeaderTransfer, Raft};
use crate::rest::rbac::{
    Grouping, GroupingsAdd, GroupingsAdded, PoliciesAdd, PoliciesAdded, Policy, RowIds,
};
use crate::rest::system::SystemInfo;
use crate::rest::tokens::{ExchangeRequest, ExchangeResponse, RevokeRequest};
use crate::routes::{METRICS, Need, Route, routes};

/// The document (OpenAPI 3.1).
pub(crate) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for route in routes() {
            let operations = paths.entry(route.path).or_default();
            operations.insert(route.method.text().to_lowercase(), operation(route));
        }
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Pinion admin API",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "What administrators ask a node. See docs/admin-api.md.",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "paths": paths,
            // What `type` and `title` of refusals say, word by word.
            "x-pinion-errors": CODES.iter().copied().collect::<BTreeMap<_, _>>(),
            "components": {
                "schemas": schemas(),
                "securitySchemes": {
                    "bearer": { "type": "http", "scheme": "bearer" },
                },
            },
        })
    })
}

// ------------------------------------------------------------------------ schemas

/// The schemas of all bodies, by name.
fn schemas() -> BTreeMap<String, Value> {
    let mut all = Schemas::default();
    all.answer::<ErrorBody>();
    all.answer::<Probe>();
    all.answer::<Ready>();
    all.answer::<Startup>();
    all.answer::<Health>();
    all.answer::<Tenant>();
    all.answer::<Namespace>();
    all.answer::<Resource>();
    all.answer::<Placement>();
    all.answer::<MovePlan>();
    all.answer::<Broker>();
    all.answer::<AuditList>();
    all.answer::<Raft>();
    all.answer::<SystemInfo>();
    all.answer::<ApplyResult>();
    all.answer::<ObjectView>();
    all.request::<TenantCreate>();
    all.request::<TenantPatch>();
    all.request::<NamespaceCreate>();
    all.request::<NamespacePatch>();
    all.request::<ResourceCreate>();
    all.request::<ResourcePatch>();
    all.request::<RebalanceRequest>();
    all.request::<TransferRequest>();
    all.request::<BrokerRegister>();
    all.request::<ApplyRequest>();
    all.request::<LeaderTransfer>();
    all.request::<BackupRequest>();
    all.answer::<HealthAnswer>();
    all.request::<HealthReport>();
    all.answer::<ExchangeResponse>();
    all.answer::<KeyNames>();
    all.answer::<Issuer>();
    all.answer::<Policy>();
    all.answer::<PoliciesAdded>();
    all.answer::<Grouping>();
    all.answer::<GroupingsAdded>();
    all.answer::<ApiKey>();
    all.answer::<ApiKeyMade>();
    all.request::<ExchangeRequest>();
    all.request::<RevokeRequest>();
    all.request::<IssuerInput>();
    all.request::<PoliciesAdd>();
    all.request::<GroupingsAdd>();
    all.request::<RowIds>();
    all.request::<ApiKeyCreate>();
    all.answer::<domains::stats::GlobalStatsAnswer>();
    all.answer::<domains::stats::StreamStatsAnswer>();
    all.answer::<domains::stats::QueueStatsAnswer>();
    all.answer::<domains::stats::CacheStatsAnswer>();
    all.answer::<domains::cluster::TopologyAnswer>();
    all.answer::<domains::cluster::Storage>();
    all.answer::<domains::cluster::Troubles>();
    all.answer::<domains::cluster::SearchResults>();
    all.answer::<domains::sessions::Sessions>();
    all.answer::<domains::sessions::SessionEnded>();
    all.answer::<domains::Realms>();
    all.answer::<domains::Areas>();
    all.answer::<domains::streams::Streams>();
    all.answer::<domains::streams::StreamResources>();
    all.answer::<domains::streams::StreamDetail>();
    all.answer::<domains::streams::StreamReaders>();
    all.answer::<domains::streams::StreamCursors>();
    all.answer::<domains::queues::Queues>();
    all.answer::<domains::queues::QueueResources>();
    all.answer::<domains::queues::QueueDetail>();
    all.answer::<domains::queues::QueueGroups>();
    all.answer::<domains::queues::QueueReasons>();
    all.answer::<domains::queues::QueueInFlight>();
    all.answer::<domains::queues::QueueDeadLetters>();
    all.answer::<domains::queues::LettersMoved>();
    all.answer::<domains::caches::Caches>();
    all.answer::<domains::caches::CacheResources>();
    all.answer::<domains::caches::CacheDetail>();
    for (list, rows, row) in [
        ("TenantList", "tenants", "Tenant"),
        ("NamespaceList", "namespaces", "Namespace"),
        ("StreamList", "streams", "Resource"),
        ("QueueList", "queues", "Resource"),
        ("CacheList", "caches", "Resource"),
        ("PlacementList", "placements", "Placement"),
        ("BrokerList", "brokers", "Broker"),
        ("IssuerList", "idp_issuers", "Issuer"),
        ("PolicyList", "policies", "Policy"),
        ("GroupingList", "groupings", "Grouping"),
        ("ApiKeyList", "api_keys", "ApiKey"),
    ] {
        all.0.insert(list.into(), list_schema(rows, row));
    }
    all.0.insert(
        "Snapshot".into(),
        json!({
            "type": "object",
            "description": "Everything, at one version.",
            "required": ["cluster_id", "version", "objects"],
            "properties": {
                "cluster_id": { "type": "string" },
                "version": { "type": "integer", "minimum": 0 },
                "objects": { "type": "array", "items": reference("ObjectView") },
            },
        }),
    );
    all.0.insert(
        "JwkSet".into(),
        json!({
            "type": "object",
            "description": "Public keys (RFC 7517, RFC 8037).",
            "required": ["keys"],
            "properties": {
                "keys": { "type": "array", "items": {
                    "type": "object",
                    "required": ["kty", "kid", "alg", "use", "crv", "x"],
                    "properties": {
                        "kty": { "type": "string", "enum": ["OKP"] },
                        "kid": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
                        "alg": { "type": "string", "enum": ["EdDSA"] },
                        "use": { "type": "string", "enum": ["sig"] },
                        "crv": { "type": "string", "enum": ["Ed25519"] },
                        "x": { "type": "string" },
                    },
                } },
            },
        }),
    );
    all.0.insert(
        "OpenApi".into(),
        json!({ "type": "object", "description": "An OpenAPI document." }),
    );
    all.0
}

/// Fields of requests for which null stands: it takes something away, or is nothing.
const NULLABLE: [&str; 4] = ["encryption", "discovery_url", "jwks_url", "groups_claim"];

#[derive(Default)]
struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    fn answer<T: ToSchema>(&mut self) {
        for (name, schema) in Self::of::<T>() {
            let before = self.0.get(&name);
            debug_assert!(
                before.is_none_or(|before| *before == schema),
                "two schemas are called {name}"
            );
            self.0.insert(name, schema);
        }
    }

    /// Where a field of a request may be left out, null does not stand for that, unless
    /// it takes something away.
    fn request<T: ToSchema>(&mut self) {
        for (name, mut schema) in Self::of::<T>() {
            if let Some(Value::Object(fields)) = schema.get_mut("properties") {
                for (field, schema) in fields {
                    if !NULLABLE.contains(&field.as_str()) {
                        not_null(schema);
                    }
                }
            }
            self.0.entry(name).or_insert(schema);
        }
    }

    fn of<T: ToSchema>() -> Vec<(String, Value)> {
        let mut all = Vec::new();
        T::schemas(&mut all);
        all.push((T::name().into_owned(), T::schema()));
        let value = |(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default());
        all.into_iter().map(value).collect()
    }
}

fn not_null(schema: &mut Value) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema["type"] = only;
        }
    }
    if let Some(Value::Array(all)) = schema.get_mut("oneOf") {
        all.retain(|one| one["type"] != "null");
    }
    // What is left out is then no null either.
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|name, value| name != "default" || !value.is_null());
    }
}

fn list_schema(rows: &str, row: &str) -> Value {
    json!({
        "type": "object",
        "required": [rows, "next_page_token", "version"],
        "properties": {
            rows: { "type": "array", "items": reference(row) },
            "next_page_token": {
                "type": ["string", "null"],
                "description": "Where the next page begins, if there is more.",
            },
            "version": {
                "type": "integer",
                "minimum": 0,
                "description": "Of the state that this is a part of.",
            },
        },
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

// --------------------------------------------------------------------- operations

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.about,
        "tags": [tag(route)],
        "parameters": parameters(route),
        "responses": responses(route),
        "security": match route.need {
            Need::Public => json!([]),
            _ => json!([{ "bearer": [] }]),
        },
        "x-pinion-need": need(route.need),
    });
    if !route.command.is_empty() {
        operation["x-pinion-command"] = format!("pinion admin {}", route.command).into();
    }
    if let Some(rpc) = route.rpc {
        operation["x-pinion-rpc"] = rpc.into();
    }
    if let Some(body) = route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(body) } },
        });
    }
    operation
}

/// The method and the fixed parts of the path; of one object, in the singular.
fn operation_id(route: &Route) -> String {
    let mut words = vec![route.method.text().to_lowercase()];
    for part in route
        .path
        .split('/')
        .filter(|part| !part.is_empty() && *part != "v1")
    {
        if part.starts_with('{') {
            if let Some(last) = words.last_mut() {
                *last = match last.strip_suffix("es").filter(|stem| stem.ends_with("ch")) {
                    Some(stem) => stem.to_owned(),
                    None => last.strip_suffix('s').unwrap_or(last).to_owned(),
                };
            }
        } else {
            words.push(part.replace(['-', '.'], "_"));
        }
    }
    words.join("_")
}

fn tag(route: &Route) -> &'static str {
    let known = [
        ("/api/v1/", "admin"),
        ("/streams", "streams"),
        ("/queues", "queues"),
        ("/caches", "caches"),
        ("/namespaces", "namespaces"),
        ("/tenants", "tenants"),
        ("/brokers", "brokers"),
        ("/placements", "placements"),
        ("/metadata", "metadata"),
        ("/apply", "apply"),
        ("/audit", "audit"),
        ("/backup", "system"),
        ("/raft", "raft"),
    ];
    let found = known.iter().find(|(part, _)| route.path.contains(part));
    found.map_or("system", |(_, tag)| tag)
}

/// What it takes, in the words of policies.
fn need(need: Need) -> String {
    match need {
        Need::Public => "nothing".into(),
        Need::Credential => "any credential".into(),
        Need::Inside(of) => format!("any right in {of:?}"),
        Need::On(action, of) => format!("{action} on {of:?}"),
        Need::Somewhere(action, of) => format!("{action} on {of:?}, or in it"),
        Need::Reach(action) => format!("{action} on the cluster, or on one's tenant"),
        Need::EachObject => "what each object takes".into(),
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut all = Vec::new();
    for part in route.path.split('/') {
        let name = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'));
        if let Some(name) = name {
            all.push(path_parameter(name));
        }
    }
    for name in route.query {
        let mut parameter = json!({ "name": name, "in": "query", "schema": query_schema(name) });
        let demanded = match *name {
            "from_version" => true,
            "family" => route.is_write(),
            "q" => route.path.ends_with("/search"),
            _ => false,
        };
        if demanded {
            parameter["required"] = true.into();
        }
        all.push(parameter);
    }
    if route.confirm {
        all.push(json!({
            "name": "X-Confirm",
            "in": "header",
            "required": true,
            "description": "That it is meant.",
            "schema": { "type": "string", "enum": ["true"] },
        }));
    }
    // What is asked of the data cores has no version, and is done again when it is repeated.
    let commands = route.path.starts_with("/v1/");
    if route.is_write() {
        all.push(json!({
            "name": "X-Request-Id",
            "in": "header",
            "description": if commands {
                "A repeat under the same id is done once."
            } else {
                "It is in the rows of the audit log."
            },
            "schema": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
        }));
    }
    if route.is_write() && commands {
        all.push(json!({
            "name": "If-Match",
            "in": "header",
            "description": "The ETag of an answer: done only if nothing changed since.",
            "schema": { "type": "string", "pattern": "^(\\*|\"[0-9]{1,18}\")$" },
        }));
    }
    if route.others.contains(&428) {
        all.push(json!({
            "name": "X-Confirm",
            "in": "header",
            "required": true,
            "description": "That it is meant.",
            "schema": { "type": "string", "enum": ["true"] },
        }));
    }
    all
}

fn path_parameter(name: &str) -> Value {
    let (about, schema) = match name {
        "t" => ("The tenant.", json!({ "type": "string", "minLength": 1 })),
        "ns" => (
            "The namespace.",
            json!({ "type": "string", "minLength": 1 }),
        ),
        "r" => (
            "The resource; a / in its name is %2F.",
            json!({ "type": "string", "minLength": 1 }),
        ),
        "b" => ("The broker.", json!({ "type": "string", "minLength": 1 })),
        "n" => (
            "The number of a shard.",
            json!({ "type": "integer", "minimum": 0, "maximum": 65_535 }),
        ),
        "m" => (
            "The number of a member.",
            json!({ "type": "integer", "format": "int64", "minimum": 0 }),
        ),
        "iss" => (
            "The issuer, percent-encoded.",
            json!({ "type": "string", "minLength": 1 }),
        ),
        "s" => (
            "The session: the number of its core and its number there.",
            json!({ "type": "string", "pattern": "^[0-9]{1,5}\\.[0-9]{1,20}$" }),
        ),
        "id" => (
            "The number of a row, a message or a subscription.",
            json!({ "type": "integer", "format": "int64", "minimum": 0 }),
        ),
        _ => ("", json!({ "type": "string", "minLength": 1 })),
    };
    json!({ "name": name, "in": "path", "required": true, "description": about, "schema": schema })
}

fn query_schema(name: &str) -> Value {
    match name {
        "page_size" => json!({
            "type": "integer", "minimum": 1, "maximum": 1_000, "default": PAGE_DEFAULT,
        }),
        "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 1_000 }),
        "offset" => json!({ "type": "integer", "minimum": 0, "default": 0 }),
        "family" => json!({ "type": "integer", "minimum": 0, "maximum": 65_535 }),
        "rate" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        "deleted" | "force" | "dry_run" => json!({ "type": "boolean" }),
        "resources" => json!({ "type": "integer", "minimum": 0, "default": RESOURCES_TOLD_MAX }),
        "grace_ms" | "from_version" => {
            json!({ "type": "integer", "format": "int64", "minimum": 0 })
        }
        "consistency" => json!({ "type": "string", "enum": ["linearizable", "stale"] }),
        "node" => json!({ "type": "string", "enum": ["all"] }),
        "q" => json!({ "type": "string", "maxLength": FILTER_BYTES_MAX }),
        "filter" => json!({ "type": "string", "maxLength": FILTER_BYTES_MAX }),
        "kind" => json!({ "type": "string", "enum": ["stream", "queue", "cache"] }),
        "cluster_id" => json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        "from" | "to" => json!({ "type": "string", "format": "date-time" }),
        _ => json!({ "type": "string" }),
    }
}

fn responses(route: &Route) -> Map<String, Value> {
    let of_json = |schema| json!({ "application/json": { "schema": schema } });
    let problem = || json!({ PROBLEM: { "schema": reference("Error") } });
    let one = |status: u16| {
        let (about, content) = match (status, route.answer) {
            (202, None) | (204, _) => ("Done.", None),
            (200..300, Some(answer)) => ("Done.", Some(of_json(reference(answer)))),
            (200..300, None) => ("Done.", Some(plain(route))),
            (503, Some(answer)) if route.is_probe() => (
                "It is not.",
                Some(json!({
                    "application/json": { "schema": reference(answer) },
                    PROBLEM: { "schema": reference("Error") },
                })),
            ),
            _ => (refusal(status), Some(problem())),
        };
        let mut response = json!({ "description": about });
        if let Some(content) = content {
            response["content"] = content;
        }
        (status.to_string(), response)
    };
    route.statuses().into_iter().map(one).collect()
}

/// What an answer is that is no JSON.
fn plain(route: &Route) -> Value {
    let text = json!({ "schema": { "type": "string" } });
    if route.path.ends_with("/watch") {
        // Of each event, as those who read such a document take it.
        let word =
            json!({ "type": "string", "enum": ["change", "resnapshot_required", "refused"] });
        let event = json!({
            "type": "object",
            "required": ["event", "data"],
            "properties": {
                "event": word,
                "id": { "type": "string", "description": "The version of a change." },
                "data": { "type": "string", "description": "JSON." },
            },
        });
        json!({ "text/event-stream": { "schema": event } })
    } else if route.path == METRICS {
        json!({ "text/plain": text, "application/openmetrics-text": text })
    } else if route.path.ends_with("/backup") {
        json!({ "application/x-tar": text })
    } else {
        json!({ "text/html": text })
    }
}

const fn refusal(status: u16) -> &'static str {
    match status {
        400 => "The request is against the grammar, or out of range.",
        401 => "No credential that counts.",
        403 => "It takes a right that the caller does not have.",
        404 => "There is no such object, or none that the caller may know of.",
        408 => "The body took too long.",
        409 => "It conflicts with what is.",
        412 => "It is not safe now, or If-Match failed.",
        421 => "Another node serves it; which one is in the details.",
        413 => "The body is too large.",
        415 => "The body is not JSON.",
        428 => "X-Confirm: true is missing.",
        429 => "Too many requests, or a quota.",
        _ => "The node cannot do it now.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every `$ref` of a value.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(to) if name == "$ref" => {
                            found.insert(to.clone());
                        }
                        value => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_told_with_its_statuses_and_schemas() {
        let document = document();
        let mut ids = BTreeSet::new();
        for route in routes() {
            let operation = &document["paths"][route.path][route.method.text().to_lowercase()];
            assert!(
                operation.is_object(),
                "{} {}",
                route.method.text(),
                route.path
            );
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            assert!(ids.insert(id.clone()), "{id} twice");
            let told: Vec<u16> = operation["responses"]
                .as_object()
                .expect("responses")
                .keys()
                .map(|status| status.parse().expect("a status"))
                .collect();
            assert_eq!(told, route.statuses(), "{id}");
            for status in told.iter().filter(|status| **status >= 400) {
                let content = &operation["responses"][status.to_string()]["content"];
                let schema = &content[PROBLEM]["schema"];
                assert_eq!(*schema, reference("Error"), "{id} {status}");
                let kinds = content.as_object().expect("content").len();
                let probe = usize::from(*status == 503 && route.is_probe());
                assert_eq!(kinds, 1 + probe, "{id} {status}");
            }
            assert_eq!(
                operation["requestBody"].is_object(),
                route.body.is_some(),
                "{id}"
            );
            assert!(!route.about.is_empty(), "{id}");
        }
        let mut found = BTreeSet::new();
        references(document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for to in found {
            let at = to.strip_prefix('#').expect("within the document");
            assert!(document.pointer(at).is_some_and(Value::is_object), "{to}");
        }
    }

    #[test]
    fn requests_are_told_as_strictly_as_they_are_read() {
        let schemas = &document()["components"]["schemas"];
        for name in [
            "TenantCreate",
            "TenantPatch",
            "ResourceCreate",
            "SpecInput",
            "BrokerRegister",
        ] {
            assert_eq!(schemas[name]["additionalProperties"], false, "{name}");
        }
        let narrowed = &schemas["ExchangeRequest"]["properties"]["requested"];
        assert_eq!(narrowed["type"], "array");
        assert_eq!(narrowed.get("default"), None, "{narrowed:#}");
        let patch = &schemas["TenantPatch"]["properties"];
        assert_eq!(patch["description"]["type"], "string");
        let nullable = |one: &Value| one["type"] == "null";
        let has_null = |field: &str| {
            patch[field]["oneOf"]
                .as_array()
                .is_some_and(|all| all.iter().any(nullable))
        };
        assert!(has_null("encryption"), "{patch:#}");
        assert!(!has_null("quotas"), "{patch:#}");
    }
}
