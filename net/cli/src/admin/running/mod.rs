//! `pinion admin stats`, `streams`, `queues`, `caches`, `inflight`, `dlq`, `sessions` and what
//! else is asked of what runs: the routes of `/api/v1`. What is declared is asked with
//! `stream`, `queue` and `cache`.

pub(super) mod cluster;
pub(super) mod letters;
pub(super) mod resources;
pub(super) mod sessions;

use pinion_types::ResourceName;
use serde_json::Value;

use super::Context;
use super::view::View;
use crate::failure::Failure;
use crate::http::{Ask, HttpError, Secret};

/// Where the routes are.
const API: [&str; 2] = ["api", "v1"];

/// Rows that are asked for at a time; the most the node gives.
const PAGE_ROWS: u64 = 1_000;

/// A path of `/api/v1`.
fn path<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    API.iter().chain(rest).copied().collect()
}

/// That something is meant: the user said so before.
fn sure(ask: Ask) -> Ask {
    ask.header("x-confirm", Secret("true".to_owned()))
}

impl Context {
    /// The tenant, if somebody named one.
    fn realm(&self) -> Option<&str> {
        self.tenant_given.then_some(&*self.tenant)
    }

    /// The path of a resource of the tenant, and what follows it.
    fn resource_path<'a>(
        &'a self,
        domain: &'a str,
        name: &'a ResourceName,
        rest: &[&'a str],
    ) -> Vec<&'a str> {
        let mut all = path(&[domain, "realms", &self.tenant, "areas", name.namespace()]);
        all.extend(["resources", name.name()]);
        all.extend(rest);
        all
    }

    /// Prints rows of a list that has `limit` and `offset`, until its end or `limit`.
    async fn rows(
        &mut self,
        ask: &Ask,
        (key, view): (&'static str, View),
        limit: Option<u64>,
    ) -> Result<(), Failure> {
        let (mut printed, limit) = (0, limit.unwrap_or(u64::MAX));
        while printed < limit {
            let ask = ask
                .clone()
                .query("limit", Some(PAGE_ROWS.min(limit - printed)))
                .query("offset", Some(printed));
            let mut body = self.http.ask(&ask).await?.body;
            let Some(Value::Array(rows)) = body.get_mut(key).map(Value::take) else {
                let server = self.http.server().to_owned();
                return Err(HttpError::Without { server, key }.into());
            };
            for row in &rows {
                if self.json {
                    self.printer.json(row);
                } else {
                    if printed == 0 {
                        self.printer.line(view.head());
                    }
                    self.printer.line(view.row(row));
                }
                printed += 1;
            }
            let total = body.get("total").and_then(Value::as_u64).unwrap_or(0);
            // A page without rows is the last, whatever there is said to be.
            if rows.is_empty() || printed >= total {
                break;
            }
            // What is printed of a page can be read before the next one is asked for.
            self.printer.flush().await?;
        }
        if printed == 0 && !self.json {
            self.printer.line("none");
        }
        Ok(())
    }
}
