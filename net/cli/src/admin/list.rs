//! Lists: page after page, until the end or `--limit`.

use serde_json::Value;

use super::Context;
use super::view::View;
use crate::failure::Failure;
use crate::http::{Ask, Http, HttpError};

/// Rows that are asked for at a time; the most the node gives.
const PAGE_ROWS: u64 = 1000;

/// Which rows.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ListArgs {
    /// Only names with this in them; `name^=PREFIX` only names that begin so
    #[arg(long, value_name = "TEXT")]
    pub(super) filter: Option<String>,
    /// End after so many
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
    /// What the asked node has now, also while the cluster has no leader
    #[arg(long)]
    pub(super) stale: bool,
}

/// What is printed of a list, across the requests that it takes.
pub(super) struct Rows {
    view: View,
    left: u64,
    headed: bool,
    /// Parameter that says how many rows a page has.
    size: &'static str,
}

impl Rows {
    pub(super) fn new(view: View, limit: Option<u64>) -> Self {
        Self {
            view,
            left: limit.unwrap_or(u64::MAX),
            headed: false,
            size: "page_size",
        }
    }

    /// The node calls the rows of a page otherwise.
    pub(super) fn pages_by(self, size: &'static str) -> Self {
        Self { size, ..self }
    }

    /// Whether no more rows are wanted.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    fn print(&mut self, context: &mut Context, row: &Value) {
        if context.json {
            context.printer.json(row);
        } else {
            if !self.headed {
                context.printer.line(self.view.head());
            }
            context.printer.line(self.view.row(row));
        }
        self.headed = true;
        self.left -= 1;
    }

    /// Prints every row of the list `key` at `ask`, page after page. `adorn` may add to a row
    /// what the request knows.
    pub(super) async fn follow(
        &mut self,
        context: &mut Context,
        ask: &Ask,
        key: &'static str,
        args: &ListArgs,
        adorn: impl Fn(&mut Value),
    ) -> Result<(), Failure> {
        self.follow_beside(context, ask, key, args, adorn, |_| ())
            .await
    }

    /// The same; `beside` sees what each page has beside its rows.
    pub(super) async fn follow_beside(
        &mut self,
        context: &mut Context,
        ask: &Ask,
        key: &'static str,
        args: &ListArgs,
        adorn: impl Fn(&mut Value),
        mut beside: impl FnMut(&Value),
    ) -> Result<(), Failure> {
        let mut pages = Pages::new(ask.clone(), key, args);
        pages.size = self.size;
        while !self.is_full()
            && let Some(page) = pages.next(&mut context.http, self.left).await?
        {
            beside(&pages.beside);
            for mut row in page {
                if self.is_full() {
                    break;
                }
                adorn(&mut row);
                self.print(context, &row);
            }
            // What is printed of a page can be read before the next one is asked for.
            context.printer.flush().await?;
        }
        Ok(())
    }

    /// Says that there was nothing, if so.
    pub(super) fn end(self, context: &mut Context) {
        if !self.headed && !context.json {
            context.printer.line("none");
        }
    }
}

/// A walk over a list of the node.
pub(super) struct Pages {
    ask: Ask,
    key: &'static str,
    token: Option<String>,
    over: bool,
    size: &'static str,
    /// What the last page had beside its rows.
    beside: Value,
}

impl Pages {
    pub(super) fn new(ask: Ask, key: &'static str, args: &ListArgs) -> Self {
        let ask = ask
            .query("filter", args.filter.as_deref())
            .query("consistency", args.stale.then_some("stale"));
        Self {
            ask,
            key,
            token: None,
            over: false,
            size: "page_size",
            beside: Value::Null,
        }
    }

    /// The next page, of `most` rows if the node has as many; `None` at the end.
    pub(super) async fn next(
        &mut self,
        http: &mut Http,
        most: u64,
    ) -> Result<Option<Vec<Value>>, Failure> {
        if self.over {
            return Ok(None);
        }
        let ask = self
            .ask
            .clone()
            .query(self.size, Some(most.min(PAGE_ROWS)))
            .query("page_token", self.token.as_deref());
        let mut body = http.ask(&ask).await?.body;
        let Some(Value::Array(rows)) = body.get_mut(self.key).map(Value::take) else {
            return Err(HttpError::Without {
                server: http.server().to_owned(),
                key: self.key,
            }
            .into());
        };
        let next = body.get("next_page_token").and_then(Value::as_str);
        let next = next.filter(|next| !next.is_empty()).map(str::to_owned);
        // A token that stays would be a walk without an end.
        self.over = next.is_none() || next == self.token;
        self.token = next;
        self.beside = body;
        Ok(Some(rows))
    }
}
