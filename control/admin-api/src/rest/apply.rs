//! `/v1/apply`: objects as they are to be, made so by one batch, all or none.
//!
//! What an object does not say stays as it is, or is what new ones get. What is so
//! already is left alone, so that the same request twice changes something once.

use axum::http::StatusCode;
use pinion_metadata::command::{BatchItem, Declare, IfExists};
use pinion_metadata::limits::BATCH_COMMANDS_MAX;
use pinion_metadata::{
    Action, Body, Command, Expect, MetaCode, MetaError, Metadata, Object, ObjectKey, PolicyObject,
};
use pinion_plane::{PlaneError, Query};
use pinion_types::ResourceKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::resources::{manage, seats};
use super::{policy_object, version_of};
use crate::access::Who;
use crate::call::{Call, Reply, from_value, json as answer};
use crate::error::Failure;
use crate::model::{
    Broker, BrokerRegister, Namespace, NamespaceCreate, NamespacePatch, Resource, SpecDefaults,
    SpecInput, Tenant, TenantCreate, TenantPatch,
};

/// The version of what is declared.
const API_VERSION: &str = "pinion.io/v1";

/// How often it is decided anew when somebody else changes an object meanwhile.
const DECIDED_MAX: usize = 3;

/// What there shall be.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplyRequest {
    objects: Vec<Wanted>,
}

/// One object.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    metadata: Named,
    #[serde(default)]
    spec: Map<String, Value>,
}

/// What it is called.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    name: String,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
}

/// What becomes of one object.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Became {
    key: String,
    /// `created`, `updated` or `unchanged`.
    action: &'static str,
    /// What is another than before.
    diff: Vec<Difference>,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Difference {
    field: String,
    from: Value,
    to: Value,
}

/// What became of all.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ApplyResult {
    /// Version of the metadata that it left, or that it was decided on.
    version: u64,
    dry_run: bool,
    /// In the order of the request.
    results: Vec<Became>,
}

/// An object that was looked at.
struct Decided {
    result: Became,
    command: Option<BatchItem>,
}

pub(crate) async fn apply(call: Call) -> Reply {
    let request: ApplyRequest = call.body()?;
    let count = request.objects.len();
    if count == 0 || count > BATCH_COMMANDS_MAX {
        return Err(Failure::from(MetaError::BadBatch {
            limit: BATCH_COMMANDS_MAX,
        }));
    }
    let mut objects = Vec::with_capacity(count);
    for (at, wanted) in request.objects.into_iter().enumerate() {
        let key = wanted.key().map_err(|failure| failure.with("at", at))?;
        objects.push((at, key, wanted));
    }
    // Tenants before namespaces before what is in them: the order of their keys.
    objects.sort_by_key(|(_, key, _)| rank(key));
    let dry_run = call.flag("dry_run")?;
    // Decided on a state that holds everything that was answered before.
    call.read(Query::Get(ObjectKey::Settings)).await?;
    let mut tried = 1;
    loop {
        let (version, mut decided) = decide(&call, &objects).await?;
        let places: Vec<usize> = decided
            .iter()
            .filter(|(_, one)| one.command.is_some())
            .map(|(at, _)| *at)
            .collect();
        let commands: Box<[BatchItem]> = decided
            .iter_mut()
            .filter_map(|(_, one)| one.command.take())
            .collect();
        let version = if dry_run || commands.is_empty() {
            version
        } else {
            match call.try_write(Expect::Any, Command::Batch(commands)).await {
                Ok(written) => written.version.0,
                Err(error) if moved(&error) && tried < DECIDED_MAX => {
                    tried += 1;
                    continue;
                }
                Err(error) => return Err(placed(call.refused(error), &places)),
            }
        };
        decided.sort_by_key(|(at, _)| *at);
        let results = decided.into_iter().map(|(_, one)| one.result);
        let body = ApplyResult {
            version,
            dry_run,
            results: results.collect(),
        };
        return answer(StatusCode::OK, &body);
    }
}

/// Whether somebody else changed an object since it was looked at.
fn moved(error: &PlaneError) -> bool {
    let PlaneError::Meta(MetaError::Batch { error, .. }) = error else {
        return false;
    };
    error.code() == MetaCode::VersionConflict
}

/// A refusal of a command of the batch, told as the object of the request.
fn placed(failure: Failure, places: &[usize]) -> Failure {
    let at = failure.details.get("at").and_then(Value::as_u64);
    let at = at.and_then(|at| places.get(usize::try_from(at).ok()?));
    match at {
        Some(at) => failure.with("at", *at),
        None => failure,
    }
}

fn rank(key: &ObjectKey) -> u8 {
    match key {
        ObjectKey::Tenant(_) => 0,
        ObjectKey::Namespace { .. } => 1,
        ObjectKey::Broker(_) => 2,
        _ => 3,
    }
}

async fn decide(
    call: &Call,
    objects: &[(usize, ObjectKey, Wanted)],
) -> Result<(u64, Vec<(usize, Decided)>), Failure> {
    let (who, defaults) = (call.who.clone(), call.api.defaults.clone());
    let objects = objects.to_vec();
    let decided = call.look(move |metadata| {
        let decide = |(at, key, wanted): &(usize, ObjectKey, Wanted)| {
            let decided = wanted.decide(&who, metadata, &defaults, key);
            let decided = decided.map_err(|failure| failure.with("at", *at))?;
            Ok::<_, Failure>((*at, decided))
        };
        let all = objects.iter().map(decide).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, Failure>((metadata.version().0, all))
    });
    decided.await?
}

impl Wanted {
    /// What it is called in the metadata.
    fn key(&self) -> Result<ObjectKey, Failure> {
        if self.api_version != API_VERSION {
            return Err(Failure::bad(
                "bad_body",
                format!("apiVersion: {API_VERSION} is expected"),
            ));
        }
        let Named {
            name,
            tenant,
            namespace,
        } = &self.metadata;
        let within = |part: &Option<String>, what: &str| {
            let missing = || Failure::bad("bad_body", format!("metadata.{what} is missing"));
            part.clone().ok_or_else(missing)
        };
        let none = |part: &Option<String>, what: &str| match part {
            None => Ok(()),
            Some(_) => Err(Failure::bad(
                "bad_body",
                format!("a {} has no metadata.{what}", self.kind),
            )),
        };
        if let Some(kind) = resource_kind(&self.kind) {
            let tenant = within(tenant, "tenant")?;
            let namespace = within(namespace, "namespace")?;
            return Ok(ObjectKey::resource(kind, &tenant, &namespace, name));
        }
        none(namespace, "namespace")?;
        if self.kind == "Namespace" {
            return Ok(ObjectKey::namespace(&within(tenant, "tenant")?, name));
        }
        none(tenant, "tenant")?;
        match self.kind.as_str() {
            "Tenant" => Ok(ObjectKey::tenant(name)),
            "Broker" => Ok(ObjectKey::broker(name)),
            "ShardPlacement" => Err(Failure::bad(
                "unsupported_kind",
                "a ShardPlacement is read only: shards are moved by plans",
            )),
            // What is only remembered looks like what is done:
            // docs/decisions/0019-no-bridges-yet.md.
            "Bridge" => Err(Failure::bad(
                "unsupported_kind",
                "no release of Pinion carries out bridges yet",
            )),
            kind => Err(
                Failure::bad("unsupported_kind", format!("there is no kind {kind} here"))
                    .with("kind", kind),
            ),
        }
    }

    fn decide(
        &self,
        who: &Who,
        metadata: &Metadata,
        defaults: &SpecDefaults,
        key: &ObjectKey,
    ) -> Result<Decided, Failure> {
        let is = metadata.get(key).map(|object| &**object);
        // Before anything is said of what there is.
        self.check(who, key, is)?;
        if let Some(object) = is
            && object.meta.deleting.is_some()
        {
            return Err(MetaError::Deleting(key.clone()).into());
        }
        let before = is.map(before).unwrap_or_default();
        let diff = match is {
            Some(_) => differences("spec", &before, &Value::Object(self.spec.clone())),
            None => Vec::new(),
        };
        let action = match is {
            None => "created",
            Some(_) if diff.is_empty() => "unchanged",
            Some(_) => "updated",
        };
        // What is unchanged must be understood all the same.
        let command = self.command(metadata, defaults, key, is, before)?;
        let expect = is.map_or(Expect::Absent, |object| Expect::Version(version_of(object)));
        Ok(Decided {
            result: Became {
                key: key.to_string(),
                action,
                diff,
            },
            command: (action != "unchanged").then_some(BatchItem { expect, command }),
        })
    }

    /// Refuses unless who asks may make it so, as the routes of its kind do.
    fn check(&self, who: &Who, key: &ObjectKey, is: Option<&Object>) -> Result<(), Failure> {
        let operator = || who.check(Action::AdminWrite, &PolicyObject::Cluster);
        let object = policy_object(key);
        match key {
            ObjectKey::Tenant(_) => {
                who.check(Action::TenantManage, &object)?;
                if is.is_none() || self.spec.contains_key("quotas") {
                    operator()?;
                }
                Ok(())
            }
            ObjectKey::Namespace { .. } => who.check(Action::NsManage, &object),
            ObjectKey::Resource { kind, .. } => who.check(manage(*kind), &object),
            _ => operator(),
        }
    }

    fn command(
        &self,
        metadata: &Metadata,
        defaults: &SpecDefaults,
        key: &ObjectKey,
        is: Option<&Object>,
        before: Value,
    ) -> Result<Command, Failure> {
        let command = match (key, is.map(|object| &object.body)) {
            (ObjectKey::Tenant(name), Some(Body::Tenant(is))) => {
                Command::UpdateTenant(self.spec::<TenantPatch>()?.over(name, is))
            }
            (ObjectKey::Tenant(_), _) => {
                Command::CreateTenant(self.named::<TenantCreate>()?.into())
            }
            (ObjectKey::Namespace { tenant, name }, Some(Body::Namespace(is))) => {
                Command::UpdateNamespace(self.spec::<NamespacePatch>()?.over(tenant, name, is))
            }
            (ObjectKey::Namespace { tenant, .. }, _) => {
                Command::CreateNamespace(self.named::<NamespaceCreate>()?.command(tenant))
            }
            (
                ObjectKey::Resource {
                    kind,
                    tenant,
                    namespace,
                    name,
                },
                Some(Body::Resource(is)),
            ) => {
                let path = (&**tenant, &**namespace, &**name);
                let spec: SpecInput = self.spec()?;
                Command::UpdateResource(spec.over(*kind, path, &is.spec)?)
            }
            (
                ObjectKey::Resource {
                    kind,
                    tenant,
                    namespace,
                    name,
                },
                _,
            ) => {
                let spec = self.spec::<SpecInput>()?.complete(*kind, defaults)?;
                let (seats, _) = seats(metadata, &spec, None)?;
                Command::Declare(Declare {
                    kind: *kind,
                    tenant: tenant.clone(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                    spec,
                    seats,
                    pinned: None,
                    create_namespace: false,
                    if_exists: IfExists::Refuse,
                })
            }
            _ => {
                let incarnation = match is.map(|object| &object.body) {
                    Some(Body::Broker(broker)) => Some(broker.incarnation),
                    _ => None,
                };
                self.broker(before, incarnation)?
            }
        };
        Ok(command)
    }

    /// A broker says all of its facts at a time: what is not told is as it was.
    fn broker(&self, before: Value, incarnation: Option<u64>) -> Result<Command, Failure> {
        let mut facts = match before {
            Value::Object(facts) => facts,
            _ => Map::new(),
        };
        for (field, value) in &self.spec {
            match (field.as_str(), facts.get_mut(field), value) {
                ("capacity", Some(Value::Object(is)), Value::Object(more)) => {
                    is.extend(more.clone());
                }
                _ => {
                    facts.insert(field.clone(), value.clone());
                }
            }
        }
        if facts.contains_key("incarnation") || facts.contains_key("name") {
            return Err(Failure::bad("unknown_field", "spec has no such field"));
        }
        facts.insert("name".into(), self.metadata.name.clone().into());
        let broker: BrokerRegister = from_value(Value::Object(facts))?;
        let command = broker.command(incarnation);
        let command = command.ok_or_else(|| Failure::bad("bad_spec", "a wrong incarnation"))?;
        Ok(Command::RegisterBroker(command))
    }

    fn spec<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        from_value(Value::Object(self.spec.clone()))
    }

    /// With the name among its fields, as bodies of routes have it.
    fn named<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let mut fields = self.spec.clone();
        if fields
            .insert("name".into(), self.metadata.name.clone().into())
            .is_some()
        {
            return Err(Failure::bad("unknown_field", "the name is in metadata"));
        }
        from_value(Value::Object(fields))
    }
}

fn resource_kind(word: &str) -> Option<ResourceKind> {
    match word {
        "Stream" => Some(ResourceKind::Stream),
        "Queue" => Some(ResourceKind::Queue),
        "Cache" => Some(ResourceKind::Cache),
        _ => None,
    }
}

/// What can be declared of an object, as it is.
fn before(object: &Object) -> Value {
    let (view, fields): (_, &[&str]) = match &object.body {
        Body::Tenant(_) => (
            serde_json::to_value(Tenant::of(object)),
            &["display_name", "description", "quotas", "encryption"],
        ),
        Body::Namespace(_) => (
            serde_json::to_value(Namespace::of(object)),
            &["description", "quotas"],
        ),
        Body::Broker(_) => (
            serde_json::to_value(Broker::of(object, None)),
            &["address", "region", "zone", "labels", "capacity"],
        ),
        _ => {
            let view = serde_json::to_value(Resource::of(object)).unwrap_or_default();
            return view.get("spec").cloned().unwrap_or_default();
        }
    };
    let view = view.unwrap_or_default();
    let field = |name: &&str| Some(((*name).to_owned(), view.get(*name)?.clone()));
    Value::Object(fields.iter().filter_map(field).collect())
}

/// The fields of `to` that are not so in `from`.
fn differences(path: &str, from: &Value, to: &Value) -> Vec<Difference> {
    match (from, to) {
        // Labels are told all together.
        (Value::Object(_) | Value::Null, Value::Object(fields)) if !path.ends_with(".labels") => {
            let below = |(name, to): (&String, &Value)| {
                let from = from.get(name).unwrap_or(&Value::Null);
                differences(&format!("{path}.{name}"), from, to)
            };
            fields.iter().flat_map(below).collect()
        }
        _ if from == to => Vec::new(),
        _ => vec![Difference {
            field: path.to_owned(),
            from: from.clone(),
            to: to.clone(),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_told_and_is_not_so_differs() {
        let from = json!({ "a": 1, "b": { "c": 2, "d": 3 }, "labels": { "x": "1" } });
        let to = json!({ "a": 1, "b": { "c": 5 }, "e": { "f": 6 }, "labels": {} });
        let found = differences("spec", &from, &to);
        let fields: Vec<&str> = found.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, ["spec.b.c", "spec.e.f", "spec.labels"]);
        assert_eq!((&found[0].from, &found[0].to), (&json!(2), &json!(5)));
        assert_eq!(found[1].from, Value::Null);
    }
}
