//! Rows and objects of the node as people read them.

use serde_json::Value;

use crate::human::{self, Table};
use crate::output::escape;

/// What is in a cell.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// Text, numbers and lists of them as they are.
    Plain,
    /// A number of which 0 is no limit.
    Limit,
    /// Bytes of which 0 is no limit.
    Bytes,
    /// Milliseconds of which 0 is no limit.
    Span,
    /// How often in a second.
    Rate,
}

/// Columns, and where in a row their values are (RFC 6901).
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) table: Table,
    pub(super) cells: &'static [(&'static str, Form)],
}

impl View {
    /// The line of headings.
    pub(super) fn head(&self) -> String {
        self.table.head()
    }

    /// One row.
    pub(super) fn row(&self, row: &Value) -> String {
        let cells: Vec<String> = self
            .cells
            .iter()
            .map(|(at, form)| cell(row.pointer(at), *form))
            .collect();
        self.table.row(&cells)
    }
}

fn cell(value: Option<&Value>, form: Form) -> String {
    let none = || "-".to_owned();
    let Some(value) = value else { return none() };
    match (form, value) {
        (_, Value::Null) => none(),
        (Form::Rate, Value::Number(number)) => match number.as_f64() {
            Some(rate) => format!("{rate:.1}"),
            None => number.to_string(),
        },
        (Form::Limit | Form::Bytes | Form::Span, Value::Number(number))
            if number.as_u64() == Some(0) =>
        {
            none()
        }
        (Form::Bytes, Value::Number(number)) => match number.as_u64() {
            Some(bytes) => human::bytes(bytes),
            None => number.to_string(),
        },
        (Form::Span, Value::Number(number)) => match number.as_u64() {
            Some(ms) => human::span(ms),
            None => number.to_string(),
        },
        _ => plain(value),
    }
}

/// One line of a value.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => escape(text.as_bytes()),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => {
            let parts: Vec<String> = list.iter().map(plain).collect();
            parts.join(",")
        }
        other => escape(other.to_string().as_bytes()),
    }
}

/// What the node adds for people.
pub(super) fn notes(body: &Value) -> Vec<String> {
    let notes = body.get("notes").and_then(Value::as_array);
    let texts = notes.into_iter().flatten().filter_map(Value::as_str);
    texts.map(|text| escape(text.as_bytes())).collect()
}

/// An object, a field per line. Fields whose names say their unit are written with it.
pub(super) fn lines(object: &Value) -> Vec<String> {
    let mut out = Vec::new();
    push(&mut out, object, 0);
    out
}

fn push(out: &mut Vec<String>, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let Value::Object(fields) = value else {
        out.push(format!("{indent}{}", plain(value)));
        return;
    };
    let is_line = |value: &Value| match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(list) => !list.iter().any(Value::is_object),
        _ => true,
    };
    let width = fields
        .iter()
        .filter(|(_, value)| is_line(value))
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    for (name, value) in fields {
        let clean = escape(name.as_bytes());
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push(format!("{indent}{clean}"));
                push(out, value, depth + 1);
            }
            Value::Array(list) if !is_line(value) => {
                out.push(format!("{indent}{clean}"));
                for item in list {
                    let first = out.len();
                    push(out, item, depth + 2);
                    // The first line of an item begins with its mark.
                    if let Some(line) = out.get_mut(first) {
                        line.replace_range(indent.len() + 2..indent.len() + 3, "-");
                    }
                }
            }
            _ => {
                let text = said(name, value);
                out.push(format!("{indent}{clean:<width$}  {text}"));
            }
        }
    }
}

/// A value with the unit that its name says.
pub(super) fn said(name: &str, value: &Value) -> String {
    match (value, value.as_u64()) {
        (Value::Object(_), _) => "-".to_owned(),
        (_, Some(0)) if name.starts_with("max_") || name.starts_with("retention_") => {
            "no limit".to_owned()
        }
        (_, Some(ms)) if name.ends_with("_ms") => human::span(ms),
        (_, Some(bytes)) if name.ends_with("_bytes") => human::bytes(bytes),
        (Value::Null, _) => "-".to_owned(),
        _ => plain(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::human::Align;

    #[test]
    fn a_row_shows_what_is_there_and_a_dash_for_what_is_not() {
        let view = View {
            table: Table(&[
                ("NAME", 6, Align::Left),
                ("BYTES", 8, Align::Right),
                ("KEPT", 5, Align::Right),
            ]),
            cells: &[
                ("/name", Form::Plain),
                ("/quotas/bytes", Form::Bytes),
                ("/kept_ms", Form::Span),
            ],
        };
        let row = json!({"name": "a\u{1b}", "quotas": {"bytes": 1024}, "kept_ms": 0});
        assert_eq!(view.row(&row), "a\\x1b      1 KiB      -");
        assert_eq!(view.row(&json!({})), "-              -      -");
    }

    #[test]
    fn an_object_is_told_line_by_line_with_units() {
        let object = json!({
            "name": "orders",
            "spec": {"retention_ms": 604_800_000_u64, "ring_bytes": 1 << 20, "retention_bytes": 0},
            "labels": {},
            "replicas": ["b", "c"],
            "moves": [{"from": "a", "to": "b"}, {"from": "c", "to": "d"}],
            "plan": null,
        });
        let text = lines(&object).join("\n");
        for line in [
            "name      orders",
            "labels    -",
            "replicas  b,c",
            "plan      -",
            "spec",
            "  retention_ms     7d",
            "  ring_bytes       1 MiB",
            "  retention_bytes  no limit",
            "moves",
            "  - from  a",
            "    to    b",
            "  - from  c",
        ] {
            assert!(text.lines().any(|one| one == line), "{line:?} in\n{text}");
        }
    }
}
