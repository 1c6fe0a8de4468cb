//! `pinion admin token`: what an identity provider's token is exchanged for, and its end.

use std::path::PathBuf;

use hyper::Method;
use serde_json::Value;

use super::draft::Draft;
use super::{Context, node};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::http::{Ask, Bearer, HttpError};
use crate::value;

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Get a token of the tenant for one of an identity provider; it is printed and nothing else
    Exchange {
        /// File with the identity provider's token; - is standard input
        #[arg(value_name = "FILE")]
        upstream: PathBuf,
        /// Only this action, like `stream.publish`; repeatable
        #[arg(long = "request", value_name = "ACTION")]
        requested: Vec<String>,
        /// Only on this, like `namespace:acme/pay`; repeatable
        #[arg(long = "resource", value_name = "OBJECT")]
        resources: Vec<String>,
    },
    /// End a token, or all tokens that somebody has, before its time
    ///
    /// API keys are no tokens: `pinion admin key list` shows which speak for somebody, and
    /// `pinion admin key revoke` ends one.
    #[command(group(clap::ArgGroup::new("which").required(true).args(["jti", "subject"])))]
    Revoke {
        /// Number of the token, its `jti`
        #[arg(long, value_name = "HEX", requires = "expires")]
        jti: Option<String>,
        /// When that token would have ended, its `exp`, like 2026-01-02T03:04:05Z
        #[arg(long, value_name = "TIME", value_parser = value::moment, requires = "jti")]
        expires: Option<String>,
        /// Whose tokens, like `p:ana`; a group, a role or a workload has none
        #[arg(long, value_name = "SUBJECT")]
        subject: Option<String>,
        /// Only those issued before then [default: now]
        #[arg(long, value_name = "TIME", value_parser = value::ago, requires = "subject")]
        issued_before: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Verb {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Exchange {
                upstream,
                requested,
                resources,
            } => {
                let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
                let mut draft = Draft::default();
                draft
                    .set("requested", some(requested))
                    .set("resources", some(resources));
                let ask = Ask::post(&context.in_tenant(&["token", "exchange"]), draft.value())
                    .bearer(Bearer::Other(node::secret(upstream)?));
                let answer = context.http.ask(&ask).await?;
                if context.json {
                    context.printer.json(&answer.body);
                    return Ok(());
                }
                match answer.body.get("access_token").and_then(Value::as_str) {
                    Some(token) => context
                        .printer
                        .line(crate::output::escape(token.as_bytes())),
                    None => {
                        return Err(HttpError::Without {
                            server: context.http.server().to_owned(),
                            key: "access_token",
                        }
                        .into());
                    }
                }
                Ok(())
            }
            Self::Revoke {
                jti,
                expires,
                subject,
                issued_before,
                yes,
            } => {
                let what = match (jti, subject) {
                    (Some(jti), _) => format!("token {jti}"),
                    (None, Some(subject)) => format!("tokens of {subject}"),
                    (None, None) => unreachable!("one of them is required"),
                };
                confirm(&format!("End {what}?"), *yes)?;
                let mut draft = Draft::default();
                draft
                    .set("jti", jti.as_deref())
                    .set("expires", expires.as_deref())
                    .set("subject", subject.as_deref())
                    .set("issued_before", issued_before.as_deref());
                let path = context.in_tenant(&["tokens", "revoke"]);
                let ask = Ask::new(Method::POST, &path).body(draft.value());
                context.change(&ask, &what, "revoked").await?;
                if let (Some(subject), false) = (subject, context.json) {
                    context.printer.line(format_args!(
                        "  note: API keys that speak for {subject} count on: `pinion admin key list` \
                         has them, `pinion admin key revoke ID` ends one"
                    ));
                }
                Ok(())
            }
        }
    }
}
