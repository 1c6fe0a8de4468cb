//! What `docs/operations.md` says of the configuration, held against what is read.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use serde_json::Value;

use super::Config;

const PAGE: &str = include_str!("../../../../docs/operations.md");

/// The part of the page from one heading to the next.
fn section(heading: &str) -> &'static str {
    let begin = PAGE.find(&format!("\n## {heading}\n")).unwrap() + 1;
    let end = PAGE[begin..].find("\n## ").unwrap();
    &PAGE[begin..begin + end]
}

/// Every key that a configuration can have: with a table in it that is not there by
/// default, as the page gives it.
pub(super) fn keys() -> BTreeSet<String> {
    let page = section("Cluster");
    let begin = page.find("```toml\n").unwrap() + 8;
    let end = page[begin..].find("```").unwrap();
    let figment = Figment::from(Serialized::defaults(Config::default()));
    let config: Config = figment
        .merge(Toml::string(&page[begin..begin + end]))
        .extract()
        .unwrap();
    let mut keys = BTreeSet::new();
    leaves("", &serde_json::to_value(config).unwrap(), &mut keys);
    keys
}

fn leaves(at: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if at.is_empty() { "" } else { "." };
                leaves(&format!("{at}{dot}{name}"), value, found);
            }
        }
        _ => {
            found.insert(at.to_owned());
        }
    }
}

/// The keys in the first column of the tables of a section.
fn told(heading: &str) -> BTreeSet<String> {
    let rows = section(heading)
        .lines()
        .filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split(" |").next());
    let names = cells.flat_map(|cell| cell.split('`').step_by(2));
    names
        .map(|name| name.trim_matches(['[', ']']).to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_key_is_documented_and_no_other() {
    let mut told = &told("Configuration") | &told("Cluster");
    // The heading of the other table.
    assert!(told.remove("cluster"));
    let keys = keys();
    let missing: Vec<_> = keys.difference(&told).collect();
    assert!(
        missing.is_empty(),
        "docs/operations.md does not tell of {missing:?}"
    );
    let gone: Vec<_> = told.difference(&keys).collect();
    assert!(gone.is_empty(), "docs/operations.md tells of {gone:?}");
}
