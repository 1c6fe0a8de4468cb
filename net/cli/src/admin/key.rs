//! `pinion admin key`: keys for machines; `pinion admin keys`: what signs the tenant's tokens.

use hyper::Method;
use serde_json::Value;

use super::Context;
use super::draft::Draft;
use super::list::{ListArgs, Rows};
use super::view::{Form, View};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::http::{Ask, HttpError};
use crate::human::{Align, Table};
use crate::output::escape;
use crate::value;

const API_KEYS: View = View {
    table: Table(&[
        ("ID", 8, Align::Right),
        ("PREFIX", 8, Align::Left),
        ("SUBJECT", 24, Align::Left),
        ("EXPIRES", 24, Align::Left),
        ("NAME", 0, Align::Left),
    ]),
    cells: &[
        ("/id", Form::Plain),
        ("/prefix", Form::Plain),
        ("/subject", Form::Plain),
        ("/expires", Form::Plain),
        ("/name", Form::Plain),
    ],
};

const SIGNING_KEYS: View = View {
    table: Table(&[
        ("KID", 32, Align::Left),
        ("ALG", 5, Align::Left),
        ("PUBLIC KEY", 0, Align::Left),
    ]),
    cells: &[
        ("/kid", Form::Plain),
        ("/alg", Form::Plain),
        ("/x", Form::Plain),
    ],
};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// The API keys of the tenant, without what is secret in them
    List(ListArgs),
    /// Make an API key; it is printed once and kept nowhere
    Create {
        /// For people
        #[arg(value_name = "NAME")]
        name: String,
        /// For whom it speaks, like `p:invoices`
        #[arg(long, value_name = "SUBJECT")]
        subject: String,
        /// When it ends, like 2027-01-01T00:00:00Z [default: when it is revoked]
        #[arg(long, value_name = "TIME", value_parser = value::moment)]
        expires: Option<String>,
    },
    /// End an API key at once
    Revoke {
        /// Number in the first column of `list`
        #[arg(value_name = "ID")]
        id: u64,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum SigningVerb {
    /// Sign with the next key from now on; tokens of before stay good for their time
    Rotate,
    /// The public halves: present, next and previous key
    Show,
}

impl Verb {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let mut rows = Rows::new(API_KEYS, list.limit);
                let ask = Ask::get(&context.in_tenant(&["api-keys"]));
                rows.follow(context, &ask, "api_keys", list, |_| ()).await?;
                rows.end(context);
                Ok(())
            }
            Self::Create {
                name,
                subject,
                expires,
            } => {
                let mut draft = Draft::default();
                draft
                    .set("name", Some(name.as_str()))
                    .set("subject", Some(subject.as_str()))
                    .set("expires", expires.as_deref());
                // Once: a key whose answer is lost cannot be had again under its number.
                let ask = Ask::post(&context.in_tenant(&["api-keys"]), draft.value()).once();
                let answer = context.http.ask(&ask).await?;
                if context.json {
                    context.printer.json(&answer.body);
                    return Ok(());
                }
                let Some(key) = answer.body.get("key").and_then(Value::as_str) else {
                    return Err(HttpError::Without {
                        server: context.http.server().to_owned(),
                        key: "key",
                    }
                    .into());
                };
                context.printer.line(escape(key.as_bytes()));
                Ok(())
            }
            Self::Revoke { id, yes } => {
                let what = format!("API key {id}");
                confirm(&format!("End {what} at once?"), *yes)?;
                let id = id.to_string();
                let ask = Ask::new(Method::DELETE, &context.in_tenant(&["api-keys", &id]));
                context.change(&ask, &what, "revoked").await?;
                Ok(())
            }
        }
    }
}

impl SigningVerb {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Rotate => {
                let ask = Ask::new(Method::POST, &context.in_tenant(&["keys", "rotate"]));
                let what = format!("keys of {}", context.tenant);
                context.change(&ask, &what, "rotated").await?;
                Ok(())
            }
            Self::Show => {
                let ask = Ask::get(&context.in_tenant(&[".well-known", "jwks.json"]));
                let answer = context.http.ask(&ask).await?;
                if context.json {
                    context.printer.json(&answer.body);
                    return Ok(());
                }
                let keys = answer.body.get("keys").and_then(Value::as_array);
                context.printer.line(SIGNING_KEYS.head());
                for key in keys.into_iter().flatten() {
                    context.printer.line(SIGNING_KEYS.row(key));
                }
                Ok(())
            }
        }
    }
}
