//! A document as the object that the node is asked to make so.

use pinion_types::ResourceName;
use serde_json::{Map, Value, json};

use super::kinds::{Field, Form, KINDS, Kind, REFUSED, Scope};
use super::yaml::{At, Key, Node};
use crate::admin::draft::put;
use crate::admin::units;
use crate::value;

/// What files must say of themselves.
const API_VERSION: &str = "pinion.io/v1";

/// What is wrong, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: u64,
    pub(super) what: String,
}

fn wrong<T>(line: u64, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong {
        line,
        what: what.into(),
    })
}

/// The object of a document. `tenant` is where names are that do not say it.
pub(super) fn object(document: &At, tenant: &str) -> Result<Value, Wrong> {
    let Node::Map(fields) = &document.node else {
        let what = format!("a document is a mapping, not {}", document.node.word());
        return wrong(document.line, what);
    };
    let mut parts = Parts::default();
    for (key, value) in fields {
        let place = match key.name.as_str() {
            "apiVersion" => &mut parts.version,
            "kind" => &mut parts.kind,
            "metadata" => &mut parts.metadata,
            "spec" => &mut parts.spec,
            name => {
                let what = format!(
                    "unknown field `{name}`; a document has apiVersion, kind, metadata and spec"
                );
                return wrong(key.line, what);
            }
        };
        *place = Some(value);
    }
    let needed = |part: Option<&'_ At>, name: &str| match part {
        Some(at) => Ok(at.clone()),
        None => wrong(document.line, format!("`{name}` is missing")),
    };
    let version = needed(parts.version, "apiVersion")?;
    if version.node != Node::Text(API_VERSION.to_owned()) {
        return wrong(version.line, format!("apiVersion is not {API_VERSION}"));
    }
    let kind = kind(&needed(parts.kind, "kind")?)?;
    let metadata = metadata(kind, &needed(parts.metadata, "metadata")?, tenant)?;
    let mut spec = Map::new();
    match parts.spec.map(|at| (at, &at.node)) {
        None | Some((_, Node::Null)) => {}
        Some((at, _)) => walk(kind, at, "", &mut spec)?,
    }
    Ok(json!({
        "apiVersion": API_VERSION,
        "kind": kind.word,
        "metadata": metadata,
        "spec": spec,
    }))
}

#[derive(Default)]
struct Parts<'a> {
    version: Option<&'a At>,
    kind: Option<&'a At>,
    metadata: Option<&'a At>,
    spec: Option<&'a At>,
}

fn kind(at: &At) -> Result<&'static Kind, Wrong> {
    let word = text(at, "kind")?;
    if let Some(kind) = Kind::of(&word) {
        return Ok(kind);
    }
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == word) {
        return wrong(at.line, format!("{word} cannot be applied: {why}"));
    }
    let known: Vec<_> = KINDS.iter().map(|kind| kind.word).collect();
    let what = format!("unknown kind `{word}`; there are {}", known.join(", "));
    wrong(at.line, what)
}

/// The names, checked, all that the kind needs and no others.
fn metadata(kind: &Kind, at: &At, tenant: &str) -> Result<Value, Wrong> {
    let Node::Map(fields) = &at.node else {
        return wrong(
            at.line,
            format!("metadata is a mapping, not {}", at.node.word()),
        );
    };
    let allowed: &[&str] = match kind.scope {
        Scope::Cluster => &["name"],
        Scope::Tenant => &["name", "tenant"],
        Scope::Namespace => &["name", "namespace", "tenant"],
    };
    let mut names = Map::new();
    for (key, value) in fields {
        if !allowed.contains(&key.name.as_str()) {
            return wrong(
                key.line,
                format!(
                    "unknown field `metadata.{}`; a {} has {}",
                    key.name,
                    kind.word,
                    allowed.join(", ")
                ),
            );
        }
        let name = text(value, &format!("metadata.{}", key.name))?;
        let checked = if key.name == "name" && kind.scope == Scope::Namespace {
            // With the namespace beside it, which is checked by itself.
            ResourceName::new("x", &name)
                .map(|_| ())
                .map_err(|error| error.to_string())
        } else {
            value::segment(&name).map(|_| ())
        };
        if let Err(why) = checked {
            return wrong(value.line, format!("metadata.{}: {why}", key.name));
        }
        names.insert(key.name.clone(), name.into());
    }
    if kind.scope != Scope::Cluster {
        names.entry("tenant").or_insert_with(|| Value::from(tenant));
    }
    for name in allowed {
        if !names.contains_key(*name) {
            return wrong(at.line, format!("`metadata.{name}` is missing"));
        }
    }
    Ok(Value::Object(names))
}

/// Takes the fields below `prefix` over into `spec`.
fn walk(kind: &Kind, at: &At, prefix: &str, spec: &mut Map<String, Value>) -> Result<(), Wrong> {
    let Node::Map(fields) = &at.node else {
        let name = if prefix.is_empty() { "spec" } else { prefix };
        return wrong(
            at.line,
            format!("{name} is a mapping, not {}", at.node.word()),
        );
    };
    for (key, value) in fields {
        let path = if prefix.is_empty() {
            key.name.clone()
        } else {
            format!("{prefix}.{}", key.name)
        };
        match kind.all().find(|field| field.file == path) {
            Some(field) => {
                let holds = convert(field, value)?;
                if pointer(spec, field.node) {
                    return wrong(key.line, format!("`{path}` is said twice"));
                }
                put(spec, field.node, holds);
            }
            None if kind.all().any(|field| is_below(field, &path)) => {
                walk(kind, value, &path, spec)?;
            }
            None => return unknown(kind, key, &path, prefix),
        }
    }
    Ok(())
}

fn is_below(field: &Field, path: &str) -> bool {
    let rest = field.file.strip_prefix(path);
    rest.is_some_and(|rest| rest.starts_with('.'))
}

fn pointer(spec: &Map<String, Value>, path: &str) -> bool {
    let mut parts = path.split('.');
    let first = parts.next().and_then(|part| spec.get(part));
    parts
        .try_fold(first, |at, part| at.map(|at| at.get(part)))
        .flatten()
        .is_some()
}

fn unknown(kind: &Kind, key: &Key, path: &str, prefix: &str) -> Result<(), Wrong> {
    let mut known: Vec<&str> = kind
        .all()
        .filter_map(|field| {
            let rest = match prefix {
                "" => field.file,
                _ => field.file.strip_prefix(prefix)?.strip_prefix('.')?,
            };
            rest.split('.').next()
        })
        .collect();
    known.dedup();
    let what = format!(
        "unknown field `spec.{path}`; a {} has {}",
        kind.word,
        known.join(", ")
    );
    wrong(key.line, what)
}

fn convert(field: &Field, at: &At) -> Result<Value, Wrong> {
    let name = field.file;
    let expected = |what: &str| {
        let but = match &at.node {
            Node::Other(text) => text.clone(),
            Node::Number(number) => number.to_string(),
            other => other.word().to_owned(),
        };
        wrong(at.line, format!("`{name}`: expected {what}, not {but}"))
    };
    let amount = |text: &str, parse: fn(&str) -> Result<u64, String>| match parse(text) {
        Ok(amount) => Ok(Value::from(amount)),
        Err(why) => wrong(at.line, format!("`{name}`: {why}, not {text:?}")),
    };
    match (field.form, &at.node) {
        (Form::Text, Node::Text(text)) => Ok(text.as_str().into()),
        (Form::Text, Node::Number(_) | Node::Bool(_) | Node::Other(_)) => {
            expected("text: put it in quotes")
        }
        (Form::Text, _) => expected("text"),
        (Form::Count | Form::Bytes, Node::Number(number)) => Ok((*number).into()),
        (Form::Count, Node::Text(text)) => amount(text, units::count),
        (Form::Count, _) => expected("a number, or none"),
        (Form::Bytes, Node::Text(text)) => amount(text, units::bytes),
        (Form::Bytes, _) => expected("bytes like 64KiB or 100GB, or none"),
        (Form::Time, Node::Number(0)) => Ok(0.into()),
        (Form::Time, Node::Text(text)) => amount(text, units::time),
        (Form::Time, _) => expected("a time with its unit, like 7d, or none"),
        (Form::Bool, Node::Bool(value)) => Ok((*value).into()),
        (Form::Bool, _) => expected("true or false"),
        (Form::Word(words), Node::Text(text)) => {
            match words.iter().find(|(file, _)| file == text) {
                Some((_, node)) => Ok((*node).into()),
                None => expected(&one_of(words)),
            }
        }
        (Form::Word(words), _) => expected(&one_of(words)),
        (Form::Labels, Node::Map(labels)) => {
            let mut all = Map::new();
            for (key, value) in labels {
                let path = format!("{name}.{}", key.name);
                all.insert(key.name.clone(), text(value, &path)?.into());
            }
            Ok(Value::Object(all))
        }
        (Form::Labels, _) => expected("names and texts"),
    }
}

fn one_of(words: &[super::kinds::Word]) -> String {
    let words: Vec<_> = words.iter().map(|(file, _)| *file).collect();
    format!("one of {}", words.join(", "))
}

fn text(at: &At, name: &str) -> Result<String, Wrong> {
    match &at.node {
        Node::Text(text) => Ok(text.clone()),
        Node::Number(_) | Node::Bool(_) | Node::Other(_) => wrong(
            at.line,
            format!("`{name}`: expected text: put it in quotes"),
        ),
        other => wrong(
            at.line,
            format!("`{name}`: expected text, not {}", other.word()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::admin::apply::yaml;

    fn read(text: &str) -> Result<Value, (u64, String)> {
        let documents = yaml::documents(text)?;
        object(&documents[0], "default").map_err(|wrong| (wrong.line, wrong.what))
    }

    /// The example of the concept documents, in our words.
    const STREAM: &str = "apiVersion: pinion.io/v1
kind: Stream
metadata:
  name: eu/orders
  namespace: production
  tenant: acme-corp
spec:
  shards: 4
  retention:
    time: 7d
    size: 100GB
  durability: durable # or ephemeral
  replication_factor: 3
  ack_policy: leader_only
";

    #[test]
    fn the_documents_of_the_concept_are_understood() {
        assert_eq!(
            read(STREAM),
            Ok(json!({
                "apiVersion": "pinion.io/v1",
                "kind": "Stream",
                "metadata": {"name": "eu/orders", "namespace": "production", "tenant": "acme-corp"},
                "spec": {
                    "shards": 4,
                    "retention_ms": 604_800_000_u64,
                    "retention_bytes": 100_000_000_000_u64,
                    "durability": "durable",
                    "replication_factor": 3,
                    "ack_policy": "leader",
                },
            }))
        );
        let tenant = "apiVersion: pinion.io/v1\nkind: Tenant\nmetadata: {name: acme-corp}\nspec:\n  description: \"ACME\"\n  quotas: {max_streams: 1000, max_publish_rate: 100_000, max_storage: 1TB, max_connections: none}\n  encryption: {key_id: k1, rotation_period: 90d}\n";
        assert_eq!(
            read(tenant).expect("good")["spec"],
            json!({
                "description": "ACME",
                "quotas": {"max_streams": 1000, "max_publish_rate": 100_000, "max_storage_bytes": 1_000_000_000_000_u64, "max_connections": 0},
                "encryption": {"key_id": "k1", "rotation_period_ms": 7_776_000_000_u64},
            })
        );
        let broker = "apiVersion: pinion.io/v1\nkind: Broker\nmetadata: {name: broker-1}\nspec:\n  address: \"b:5000\"\n  availability_zone: us-west-2a\n  labels: {rack: r1}\n  capacity: {max_shards: 100, max_connections: 10000, memory_per_core: 1GiB}\n";
        assert_eq!(
            read(broker).expect("good")["spec"],
            json!({"address": "b:5000", "zone": "us-west-2a", "labels": {"rack": "r1"}, "capacity": {"max_shards": 100, "max_connections": 10_000, "memory_per_core": 1 << 30}})
        );
        let queue = "apiVersion: pinion.io/v1\nkind: Queue\nmetadata: {name: mail, namespace: jobs}\nspec: {lease: 30s, drop_expired: true, backoff: {min: 1s}}\n";
        let queue = read(queue).expect("good");
        assert_eq!(queue["metadata"]["tenant"], "default");
        assert_eq!(
            queue["spec"],
            json!({"queue": {"visibility_ms": 30_000, "drop_expired": true, "backoff_min_ms": 1000}})
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (old, new, line, why) in [
            (
                "pinion.io/v1",
                "pinion.io/v2",
                1,
                "apiVersion is not pinion.io/v1",
            ),
            (
                "kind: Stream",
                "kind: Streem",
                2,
                "unknown kind `Streem`; there are Tenant",
            ),
            ("kind: Stream", "kind: ShardPlacement", 2, "is read only"),
            ("kind: Stream", "kind: Bridge", 2, "cannot be applied"),
            (
                "kind: Stream",
                "kind: [a]",
                2,
                "`kind`: expected text, not a list",
            ),
            ("kind: Stream\n", "", 1, "`kind` is missing"),
            ("spec:", "status: {}\nspec:", 7, "unknown field `status`"),
            (
                "  namespace: production\n",
                "",
                4,
                "`metadata.namespace` is missing",
            ),
            (
                "  namespace: production",
                "  labels: {a: b}",
                5,
                "unknown field `metadata.labels`; a Stream has name, namespace, tenant",
            ),
            (
                "eu/orders",
                "eu//orders",
                4,
                "metadata.name: a segment is empty",
            ),
            ("production", "a/b", 5, "metadata.namespace: one name"),
            (
                "acme-corp",
                "12",
                6,
                "`metadata.tenant`: expected text: put it in quotes",
            ),
            (
                "shards: 4",
                "shard: 4",
                8,
                "unknown field `spec.shard`; a Stream has shards, ",
            ),
            (
                "shards: 4",
                "shards: -4",
                8,
                "`shards`: expected a number, or none, not -4",
            ),
            (
                "shards: 4",
                "shards: 1.5",
                8,
                "`shards`: expected a number, or none, not 1.5",
            ),
            ("shards: 4", "lease: 1s", 8, "unknown field `spec.lease`"),
            (
                "    time: 7d",
                "    time: 7",
                10,
                "`retention.time`: expected a time with its unit, like 7d, or none, not 7",
            ),
            (
                "    size: 100GB",
                "    size: 100G",
                11,
                "`retention.size`: expected a number of bytes like 65536, 512KiB or 100GB, or none, not \"100G\"",
            ),
            (
                "    size: 100GB",
                "    sice: 100GB",
                11,
                "unknown field `spec.retention.sice`; a Stream has time, size",
            ),
            (
                "durability: durable",
                "durability: maybe",
                12,
                "`durability`: expected one of durable, ephemeral, not text",
            ),
            (
                "durability: durable",
                "durability: yes",
                12,
                "expected one of",
            ),
        ] {
            let text = STREAM.replacen(old, new, 1);
            assert_ne!(text, STREAM, "{old}");
            let (at, what) = read(&text).expect_err(new);
            assert_eq!(at, line, "{new}: {what}");
            assert!(what.contains(why), "{new}: {what}");
        }
        let twice = "apiVersion: pinion.io/v1\nkind: Broker\nmetadata: {name: b}\nspec:\n  zone: a\n  availability_zone: b\n";
        assert_eq!(
            read(twice),
            Err((6, "`availability_zone` is said twice".to_owned()))
        );
        assert_eq!(read("- a\n").expect_err("a list").0, 1);
    }

    proptest! {
        /// Whatever is written into the file, it is read or refused with a line that it has.
        #[test]
        fn a_file_that_was_damaged_is_never_a_panic(
            at in 0..STREAM.len(),
            len in 0usize..20,
            new in "[ \\n:a-z0-9\\-\\[\\]{}'\"&*]{0,12}",
        ) {
            let end = (at + len).min(STREAM.len());
            let text = format!("{}{new}{}", &STREAM[..at], &STREAM[end..]);
            let lines = text.lines().count() as u64 + 1;
            for document in yaml::documents(&text).unwrap_or_default() {
                if let Err(wrong) = object(&document, "default") {
                    prop_assert!((1..=lines).contains(&wrong.line), "{wrong:?} of {text:?}");
                }
            }
        }
    }
}
