//! `pinion admin apply`: files say what there shall be, and the node makes it so, all or none.

mod kinds;
mod object;
mod yaml;

use std::path::{Path, PathBuf};

use hyper::Method;
use serde_json::{Value, json};

use super::node::read;
use super::view::said;
use super::{BASE, Context};
use crate::failure::Failure;
use crate::http::{Ask, HttpError};
use crate::human;
use crate::output::escape;

/// Largest file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most objects of one request; more could not be done all or none.
const OBJECTS_MAX: usize = 256;

/// What is to be made so.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// File with YAML documents; - is standard input; repeatable
    #[arg(
        short = 'f',
        long = "file",
        value_name = "FILE",
        required = true,
        num_args = 1..
    )]
    files: Vec<PathBuf>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
}

impl ApplyArgs {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let (mut objects, mut places) = (Vec::new(), Vec::new());
        for file in &self.files {
            let bytes = read(file, FILE_BYTES_MAX)?;
            for (object, place) in objects_of(file, &bytes, &context.tenant)? {
                objects.push(object);
                places.push(place);
            }
        }
        if objects.is_empty() {
            return Err(Failure::Usage("the files declare nothing".to_owned()));
        }
        if objects.len() > OBJECTS_MAX {
            return Err(Failure::Usage(format!(
                "{} objects, at most {OBJECTS_MAX} are done all or none: apply them in parts",
                objects.len()
            )));
        }
        let ask = Ask::new(Method::POST, &[BASE, "apply"])
            .query("dry_run", self.dry_run.then_some(true))
            .body(json!({"objects": objects}));
        let answered = if self.dry_run {
            context.http.ask(&ask).await.map_err(Failure::Http)
        } else {
            context.write(&ask).await
        };
        let answer = answered.map_err(|failure| placed(failure, &places))?;
        if context.json {
            context.printer.json(&answer.body);
            return Ok(());
        }
        let Some(results) = answer.body["results"].as_array() else {
            return Err(HttpError::Without {
                server: context.http.server().to_owned(),
                key: "results",
            }
            .into());
        };
        let lines: Vec<_> = results.iter().flat_map(lines).collect();
        for line in lines {
            context.printer.line(line);
        }
        let summary = summary(results, self.dry_run);
        context.printer.line(summary);
        Ok(())
    }
}

/// A refusal of one object, with where it is declared.
fn placed(failure: Failure, places: &[String]) -> Failure {
    let Failure::Http(HttpError::Refused(mut refused)) = failure else {
        return failure;
    };
    let at = refused.details.get("at").and_then(Value::as_u64);
    let place = at.and_then(|at| places.get(usize::try_from(at).ok()?));
    if let (Some(place), Value::Object(details)) = (place, &mut refused.details) {
        details.remove("at");
        refused.message = format!("{place}: {}", refused.message);
    }
    Failure::Http(HttpError::Refused(refused))
}

/// The objects of a file, and where each of them is.
fn objects_of(file: &Path, bytes: &[u8], tenant: &str) -> Result<Vec<(Value, String)>, Failure> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
    let documents = yaml::documents(text).map_err(|(line, what)| fault(file, text, line, &what))?;
    let some = documents
        .iter()
        .filter(|document| document.node != yaml::Node::Null);
    some.map(|document| {
        object::object(document, tenant)
            .map(|object| (object, place(file, text, document.line)))
            .map_err(|wrong| fault(file, text, wrong.line, &wrong.what))
    })
    .collect()
}

/// `shop.yaml:12: document 2: …`
fn fault(file: &Path, text: &str, line: u64, what: &str) -> Failure {
    Failure::Usage(format!(
        "{}: {}",
        place(file, text, line),
        escape(what.as_bytes())
    ))
}

/// `shop.yaml:12: document 2`
fn place(file: &Path, text: &str, line: u64) -> String {
    let upto = usize::try_from(line).unwrap_or(usize::MAX);
    let lines: Vec<&str> = text.lines().take(upto).collect();
    let begins = |line: &&&str| **line == "---" || line.starts_with("--- ");
    // The mark before the first document ends none.
    let content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let first = lines.iter().position(content);
    let marks = lines.iter().filter(begins).count();
    let leading = first.is_some_and(|at| begins(&&lines[at]));
    let document = marks + usize::from(!leading);
    format!("{}:{line}: document {document}", file.display())
}

/// What becomes of one object: `+` it is made, `~` it is changed, `=` it is so already.
fn lines(result: &Value) -> Vec<String> {
    let action = result["action"].as_str().unwrap_or("?");
    let mark = match action {
        "created" => '+',
        "updated" => '~',
        "unchanged" => '=',
        _ => '?',
    };
    let key = escape(result["key"].as_str().unwrap_or("?").as_bytes());
    let mut lines = vec![format!("{mark} {key}")];
    for change in result["diff"].as_array().into_iter().flatten() {
        let field = change["field"].as_str().unwrap_or("?");
        let name = field.rsplit('.').next().unwrap_or(field);
        let clean = escape(field.as_bytes());
        lines.push(match (&change["from"], &change["to"]) {
            (Value::Null, to) => format!("    + {clean}: {}", said(name, to)),
            (from, Value::Null) => format!("    - {clean}: {}", said(name, from)),
            (from, to) => format!("    ~ {clean}: {} -> {}", said(name, from), said(name, to)),
        });
    }
    lines
}

/// `2 created, 1 updated, 3 unchanged`
fn summary(results: &[Value], dry_run: bool) -> String {
    let of = |action: &str| {
        let same = results.iter().filter(|result| result["action"] == action);
        same.count()
    };
    let made = if dry_run { "would be " } else { "" };
    format!(
        "{}: {} {made}created, {} updated, {} unchanged",
        human::count(results.len() as u64, "object"),
        of("created"),
        of("updated"),
        of("unchanged")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_file_line_and_document() {
        let text = "# shop\n---\napiVersion: pinion.io/v1\nkind: Tenant\nmetadata: {name: a}\n---\napiVersion: pinion.io/v1\nkind: Tenant\nmetadata: {name: a/b}\n";
        let failure = objects_of(Path::new("shop.yaml"), text.as_bytes(), "default");
        assert_eq!(
            failure.expect_err("a name").to_string(),
            "shop.yaml:9: document 2: metadata.name: one name, without `/`"
        );
        let text = "kind: Tenant\n---\na: [\n";
        let failure = objects_of(Path::new("x"), text.as_bytes(), "default").expect_err("broken");
        let said = failure.to_string();
        assert!(
            said.starts_with("x:") && said.contains(": document 2: "),
            "{said}"
        );
        let failure = objects_of(Path::new("x"), b"a: 1", "default").expect_err("unknown");
        assert!(
            failure
                .to_string()
                .starts_with("x:1: document 1: unknown field `a`")
        );
    }

    #[test]
    fn empty_documents_declare_nothing() {
        for text in ["", "---\n", "# nothing\n", "---\n---\n# still\n"] {
            let objects = objects_of(Path::new("x"), text.as_bytes(), "default").expect(text);
            assert!(objects.is_empty(), "{text}");
        }
    }

    #[test]
    fn changes_are_shown_with_their_units() {
        let result = json!({"key": "stream/a/b/c", "action": "updated", "diff": [
            {"field": "spec.retention_ms", "from": 0, "to": 604_800_000_u64},
            {"field": "description", "from": null, "to": "x"},
        ]});
        assert_eq!(
            lines(&result),
            [
                "~ stream/a/b/c",
                "    ~ spec.retention_ms: no limit -> 7d",
                "    + description: x",
            ]
        );
    }
}
