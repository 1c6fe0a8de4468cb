//! `pinion admin audit`: who did what, when, and what came of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::list::{ListArgs, Rows};
use super::view::{Form, View};
use super::{BASE, Context};
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};
use crate::value;

const ROWS: View = View {
    table: Table(&[
        ("TIME", 24, Align::Left),
        ("PRINCIPAL", 24, Align::Left),
        ("ACTION", 20, Align::Left),
        ("RESULT", 8, Align::Left),
        ("CODE", 14, Align::Left),
        ("VERSION", 10, Align::Right),
        ("TARGET", 0, Align::Left),
    ]),
    cells: &[
        ("/at", Form::Plain),
        ("/principal", Form::Plain),
        ("/action", Form::Plain),
        ("/result", Form::Plain),
        ("/code", Form::Plain),
        ("/version", Form::Plain),
        ("/target", Form::Plain),
    ],
};

/// Of all nodes.
const ALL_ROWS: View = View {
    table: Table(&[
        ("TIME", 24, Align::Left),
        ("NODE", 12, Align::Left),
        ("PRINCIPAL", 24, Align::Left),
        ("ACTION", 20, Align::Left),
        ("RESULT", 8, Align::Left),
        ("CODE", 14, Align::Left),
        ("VERSION", 10, Align::Right),
        ("TARGET", 0, Align::Left),
    ]),
    cells: &[
        ("/at", Form::Plain),
        ("/node", Form::Plain),
        ("/principal", Form::Plain),
        ("/action", Form::Plain),
        ("/result", Form::Plain),
        ("/code", Form::Plain),
        ("/version", Form::Plain),
        ("/target", Form::Plain),
    ],
};

/// Which rows. Those of the tenant of --tenant, if one is named; otherwise of all, for operators.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AuditArgs {
    /// Only what this one did, like `p:ana`
    #[arg(long, value_name = "SUBJECT")]
    principal: Option<String>,
    /// Only this, like `create_tenant`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// From then on: a time like 2026-01-02T03:04:05Z, or how long ago, like 15m
    #[arg(long, value_name = "WHEN", value_parser = value::ago)]
    from: Option<String>,
    /// Before then
    #[arg(long, value_name = "WHEN", value_parser = value::ago)]
    to: Option<String>,
    /// End after so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Of all nodes together, by time; what a node that does not answer alone has is missing,
    /// and standard error says so
    #[arg(long)]
    all_nodes: bool,
}

impl AuditArgs {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let ask = Ask::get(&[BASE, "audit"])
            .query("tenant", context.tenant_given.then_some(&context.tenant))
            .query("principal", self.principal.as_deref())
            .query("action", self.action.as_deref())
            .query("from", self.from.as_deref())
            .query("to", self.to.as_deref())
            .query("node", self.all_nodes.then_some("all"));
        let view = if self.all_nodes { ALL_ROWS } else { ROWS };
        let mut rows = Rows::new(view, self.limit).pages_by("limit");
        // By name: each page says it of each that did not answer.
        let mut silent = BTreeMap::new();
        let hear = |page: &Value| {
            let nodes = page.get("silent").and_then(Value::as_array);
            for node in nodes.into_iter().flatten() {
                let text = |key| node.get(key).and_then(Value::as_str).unwrap_or("?");
                silent.insert(text("node").to_owned(), text("code").to_owned());
            }
        };
        let all = ListArgs::default();
        rows.follow_beside(context, &ask, "rows", &all, |_| (), hear)
            .await?;
        rows.end(context);
        // Rows alone go to standard output: a list that is not whole looks like one that is.
        for (node, code) in silent {
            eprintln!("node {node} did not tell its rows ({code}): what only it has is missing");
        }
        Ok(())
    }
}
