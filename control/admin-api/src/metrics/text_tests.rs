//! What is written is read back by a parser of the tests' own, that is as strict as the
//! formats are; and the catalogue is what the documents, alerts and dashboards say.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::catalogue::CATALOGUE;
use super::family::{Def, Families, Family, Kind, Sizes, Unit, Value};
use super::text::{Format, render};

/// Name, labels in their order, and what it says.
type Line = (String, Vec<(String, String)>, f64);

/// A family as it was read.
#[derive(Debug, Default)]
struct Read {
    kind: String,
    unit: String,
    help: String,
    /// By name of the series and labels, in their order.
    series: Vec<Line>,
}

/// Reads either format.
fn parse(text: &str, format: Format) -> BTreeMap<String, Read> {
    assert!(text.ends_with('\n'), "the last line has an end");
    let mut families: BTreeMap<String, Read> = BTreeMap::new();
    let mut current = String::new();
    let mut ended = false;
    for line in text.lines() {
        assert!(!ended, "after EOF: {line}");
        if line == "# EOF" {
            ended = true;
            continue;
        }
        if let Some(rest) = line.strip_prefix("# ") {
            let (what, rest) = rest.split_once(' ').unwrap();
            let (name, value) = rest.split_once(' ').unwrap();
            assert!(is_name(name), "{line}");
            if current != name {
                assert!(!families.contains_key(name), "{name} is there twice");
                current = name.to_owned();
                families.insert(current.clone(), Read::default());
            }
            let family = families.get_mut(name).unwrap();
            assert!(family.series.is_empty(), "{line} comes before the series");
            match what {
                "HELP" => family.help = unescape(value),
                "TYPE" => family.kind = value.to_owned(),
                "UNIT" => family.unit = value.to_owned(),
                what => panic!("{what}"),
            }
            continue;
        }
        let (name, labels, value) = series(line);
        let family = families.get_mut(&current).unwrap();
        let suffixes: &[&str] = match (family.kind.as_str(), format) {
            ("counter", Format::OpenMetrics) => &["_total"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let rest = name.strip_prefix(current.as_str());
        assert!(
            rest.is_some_and(|rest| suffixes.contains(&rest)),
            "{line} in {current}"
        );
        family.series.push((name, labels, value));
    }
    assert_eq!(ended, format == Format::OpenMetrics);
    families
}

fn is_name(name: &str) -> bool {
    let first = |char: char| char.is_ascii_alphabetic() || char == '_';
    name.starts_with(first)
        && name
            .chars()
            .all(|char| first(char) || char.is_ascii_digit())
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => out.push(match chars.next().unwrap() {
                'n' => '\n',
                char @ ('\\' | '"') => char,
                char => panic!("\\{char}"),
            }),
            char => out.push(char),
        }
    }
    out
}

/// One line of a series.
fn series(line: &str) -> (String, Vec<(String, String)>, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let name = line[..end].to_owned();
    assert!(is_name(&name), "{line}");
    let mut labels = Vec::new();
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label), "{line}");
            let mut escaped = false;
            let close = after.char_indices().find(|(_, char)| {
                let closes = *char == '"' && !escaped;
                escaped = *char == '\\' && !escaped;
                closes
            });
            let (close, _) = close.unwrap();
            labels.push((label.to_owned(), unescape(&after[..close])));
            rest = &after[close + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap();
    }
    let value = rest.strip_prefix(' ').unwrap();
    assert!(!value.contains(' '), "no time stamps: {line}");
    let value = match value {
        "+Inf" => f64::INFINITY,
        value => value.parse().unwrap(),
    };
    (name, labels, value)
}

/// Every family of the catalogue with something in it, some of it nasty.
fn all() -> Vec<Family> {
    let mut families = Families::default();
    for def in CATALOGUE {
        for nasty in ["plain", "q\"uo\\te\nline", "<script>", "ünï", ""] {
            let labels: Vec<&str> = def.labels.iter().map(|_| nasty).collect();
            match def.kind {
                Kind::Histogram => {
                    let bounds = [0.001, 0.1, 1.0].into_iter();
                    families.put(def, &labels, Sizes::new(bounds, &[3, 0, 2, 7], 8.25));
                }
                Kind::Counter => families.put(def, &labels, 12_345_678_901_234_u64),
                Kind::Gauge => families.put(def, &labels, 0.5),
            }
            if def.labels.is_empty() {
                break;
            }
        }
    }
    families.into_vec()
}

#[test]
fn both_formats_are_read_back_as_they_were_meant() {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let families = all();
        let read = parse(&render(&families, format), format);
        assert_eq!(read.len(), CATALOGUE.len());
        for family in &families {
            let def = family.def;
            let name = match format {
                Format::Prometheus => def.name,
                Format::OpenMetrics => def.stem(),
            };
            let read = &read[name];
            assert_eq!(read.kind, def.kind.text(), "{name}");
            assert_eq!(read.unit, def.unit.text(), "{name}");
            assert_eq!(read.help, def.help, "{name}");
            same_series(family, read);
        }
    }
}

fn same_series(family: &Family, read: &Read) {
    let def = family.def;
    let mut series = read.series.iter();
    for sample in &family.samples {
        let labels: Vec<_> = def
            .labels
            .iter()
            .zip(&sample.labels)
            .map(|(label, value)| ((*label).to_owned(), value.to_string()))
            .collect();
        match &sample.value {
            Value::Count(count) => {
                let (_, had, value) = series.next().unwrap();
                assert_eq!((had, *value), (&labels, *count as f64), "{}", def.name);
            }
            Value::Number(number) => {
                let (_, had, value) = series.next().unwrap();
                assert_eq!((had, value), (&labels, number), "{}", def.name);
            }
            Value::Sizes(sizes) => {
                let mut last = 0.0;
                let infinite = (f64::INFINITY, sizes.count);
                for (bound, count) in sizes.buckets.iter().chain([&infinite]) {
                    let (name, had, value) = series.next().unwrap();
                    assert!(name.ends_with("_bucket"));
                    let (le, rest) = had.split_last().unwrap();
                    assert_eq!(rest, labels);
                    assert_eq!(le.0, "le");
                    let said = match le.1.as_str() {
                        "+Inf" => f64::INFINITY,
                        text => text.parse().unwrap(),
                    };
                    assert_eq!((said, *value), (*bound, *count as f64));
                    assert!(*value >= last, "buckets are of all below");
                    last = *value;
                }
                let (name, had, value) = series.next().unwrap();
                assert!(name.ends_with("_sum") && *had == labels && *value == sizes.sum);
                let (name, had, value) = series.next().unwrap();
                assert!(name.ends_with("_count") && *had == labels && *value == last);
            }
        }
    }
    assert!(series.next().is_none(), "{}", def.name);
}

/// A file of the repository.
fn file(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let word = |char: char| !(char.is_ascii_alphanumeric() || char == '_');
    let words = text.split(word);
    let known = |name: &&str| name.starts_with("pinion_") || name.starts_with("process_");
    words.filter(known).collect()
}

fn find(name: &str) -> Option<&'static Def> {
    let by = |name: &str| CATALOGUE.iter().copied().find(|def| def.name == name);
    by(name).or_else(|| {
        let parts = ["_bucket", "_sum", "_count"];
        let stem = parts.iter().find_map(|part| name.strip_suffix(part))?;
        by(stem).filter(|def| def.kind == Kind::Histogram)
    })
}

#[test]
fn alerts_and_dashboards_ask_for_what_there_is() {
    for path in [
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts.test.yml",
        "deploy/grafana/pinion.json",
        "docs/operations/troubleshoot.md",
    ] {
        let text = file(path);
        let names = names(&text);
        assert!(!names.is_empty(), "{path} asks for something");
        for name in names {
            assert!(find(name).is_some(), "{path}: there is no {name}");
        }
    }
    // The queries, not only the text around them.
    let dashboard: serde_json::Value =
        serde_json::from_str(&file("deploy/grafana/pinion.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            assert!(!names(query).is_empty(), "{}: {query}", panel["title"]);
        }
    }
}

#[test]
fn every_alert_leads_to_what_is_to_be_done_about_it() {
    let rules = file("deploy/prometheus/alerts.yml");
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 30, "{alerts:?}");
    let page = "docs/operations/troubleshoot.md";
    let text = file(page);
    for alert in &alerts {
        let anchor = alert.to_lowercase();
        let (_, rule) = rules.split_once(&format!("- alert: {alert}\n")).unwrap();
        let rule = rule.split("- alert: ").next().unwrap();
        let leads = format!("runbook: {page}#{anchor}\n");
        assert!(rule.contains(&leads), "{alert} does not lead to its row");
        let row = format!("<a id=\"{anchor}\"></a>{alert}");
        assert!(text.contains(&row), "{page} has nothing on {alert}");
    }
    // And nothing is said of alerts that there are not.
    for anchor in text.split("<a id=\"").skip(1) {
        let (anchor, _) = anchor.split_once('"').unwrap();
        let known = alerts.iter().any(|alert| alert.to_lowercase() == anchor);
        assert!(known, "{page}: there is no alert {anchor}");
    }
    for page in ["observe", "troubleshoot", "secure", "backup", "upgrade"] {
        let index = file("docs/operations.md");
        let link = format!("(operations/{page}.md)");
        assert!(
            index.contains(&link),
            "docs/operations.md does not link {page}"
        );
    }
}

/// The tables of `docs/metrics.md`.
fn tables() -> String {
    let mut out = String::new();
    out.push_str("| Name | Type | Labels | What it says |\n|---|---|---|---|\n");
    for def in CATALOGUE {
        let labels: Vec<String> = def
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = labels.join(", ");
        let kind = def.kind.text();
        let unit = match def.unit {
            Unit::None => String::new(),
            unit => format!(", {}", unit.text()),
        };
        out.push_str(&format!(
            "| `{}` | {kind}{unit} | {labels} | {} |\n",
            def.name, def.help
        ));
    }
    out
}

#[test]
fn the_document_has_every_family() {
    let document = file("docs/metrics.md");
    let tables = tables();
    let expected: BTreeSet<&str> = tables.lines().collect();
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let rows: BTreeSet<&str> = rows.collect();
    let there = |row: &&str| row.starts_with("| `") && !expected.contains(*row);
    let gone: Vec<&str> = rows.iter().copied().filter(there).collect();
    let missing: Vec<&str> = expected
        .iter()
        .copied()
        .filter(|row| row.starts_with("| `") && !rows.contains(row))
        .collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/metrics.md lacks\n{}\nand has what is not so\n{}",
        missing.join("\n"),
        gone.join("\n")
    );
}
