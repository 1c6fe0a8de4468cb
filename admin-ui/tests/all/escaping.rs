//! Whatever somebody writes into a name, a record or a label, it stays text.

use serde_json::Value;

use crate::fixtures::{self, PAYLOAD, Set};
use crate::html::Document;
use pinion_admin_ui::Ui;
use pinion_admin_ui::model::Operation;

/// Words of enums, which nobody can choose.
const OURS: [&str; 23] = [
    "durable",
    "live",
    "mixed",
    "ok",
    "info",
    "warn",
    "bad",
    "unknown",
    "auto",
    "light",
    "dark",
    "text",
    "code",
    "count",
    "bytes",
    "per_second",
    "micros",
    "over_micros",
    "span_ms",
    "permille",
    "unix_ms",
    "wrong_word",
    "provider_refused",
];

/// Paths of the model that hold a word without the payload.
fn harmless(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(word) => {
            let ours = OURS.contains(&word.as_str()) || Operation::of_word(word).is_some();
            // Places are addresses already, and encoded; their own tests hold that.
            let place = word.starts_with('/') && !word.contains(['"', '<', '\'']);
            if !word.contains(PAYLOAD) && !ours && !place {
                found.push(format!("{path} = {word:?}"));
            }
        }
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(at, one)| harmless(&format!("{path}[{at}]"), one, found)),
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, one)| harmless(&format!("{path}.{name}"), one, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn every_word_of_every_hostile_model_is_hostile() {
    let ui = Ui::new().unwrap();
    let mut found = Vec::new();
    for page in fixtures::all(&ui, Set::Hostile) {
        harmless(&page.name, &page.model, &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn hostile_words_stay_text_on_every_page() {
    let ui = Ui::new().unwrap();
    for page in fixtures::all(&ui, Set::Hostile) {
        let name = &page.name;
        for raw in [
            "<script>alert",
            "<img src=x",
            "\u{202e}",
            "-->",
            "{{7*7}}&lt;",
            "href=\"javascript",
        ] {
            assert!(!page.html.contains(raw), "{name} has {raw:?}");
        }
        assert!(
            page.html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
            "{name} shows nothing hostile"
        );
        let document = Document::read(&page.html).unwrap_or_else(|error| panic!("{name}: {error}"));
        let scripts = document.named("script").count();
        assert_eq!(
            scripts,
            usize::from(page.live),
            "{name} has scripts of others"
        );
        for element in &document.elements {
            for (key, value) in &element.attributes {
                assert!(!key.starts_with("on"), "{name}: <{} {key}>", element.name);
                if matches!(key.as_str(), "href" | "src" | "action" | "data-live-url") {
                    assert!(
                        value.starts_with(['/', '?', '#']) && !value.starts_with("//"),
                        "{name}: {key}={value:?}"
                    );
                    assert!(
                        value
                            .bytes()
                            .all(|byte| byte.is_ascii_graphic() && !b"<>\"'`{}\\".contains(&byte)),
                        "{name}: {key}={value:?}"
                    );
                }
                if key == "id" || key == "class" {
                    assert!(!value.contains(['<', '"', '\'']), "{name}: {key}={value:?}");
                }
            }
        }
    }
}
