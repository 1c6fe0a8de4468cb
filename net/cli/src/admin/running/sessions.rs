//! Who is connected to the asked node.

use hyper::Method;

use super::super::Context;
use super::super::view::{Form, View};
use super::{path, sure};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};

const SESSIONS: View = View {
    table: Table(&[
        ("SESSION", 10, Align::Left),
        ("TENANT", 14, Align::Left),
        ("PRINCIPAL", 20, Align::Left),
        ("REMOTE", 21, Align::Left),
        ("IDLE S", 6, Align::Right),
        ("RECEIVED", 10, Align::Right),
        ("SENT", 10, Align::Right),
        ("SUBSCRIPTIONS", 13, Align::Right),
    ]),
    cells: &[
        ("/session_id", Form::Plain),
        ("/realm", Form::Plain),
        ("/principal", Form::Plain),
        ("/remote_addr", Form::Plain),
        ("/idle_seconds", Form::Plain),
        ("/messages_received", Form::Plain),
        ("/messages_sent", Form::Plain),
        ("/subscriptions", Form::Plain),
    ],
};

#[derive(Clone, Debug, clap::Subcommand)]
pub(in super::super) enum Verb {
    /// Connections; of the tenant of --tenant, if one is named
    List {
        /// Only whose principal or address has this in it
        #[arg(long, value_name = "TEXT")]
        filter: Option<String>,
        /// End after so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// End a connection; its client hears that an administrator did
    Close {
        /// As `list` says it, CORE.NUMBER
        session: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// End a subscription or watch of a connection
    EndSubscription {
        /// As `sessions list` says it, CORE.NUMBER
        session: String,
        /// Its number, as `streams --readers` says it
        subscription: u32,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Verb {
    pub(in super::super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let (ask, what, done) = match self {
            Self::List { filter, limit } => {
                let ask = Ask::get(&path(&["sessions"]))
                    .query("realm", context.realm())
                    .query("q", filter.as_deref());
                return context.rows(&ask, ("sessions", SESSIONS), *limit).await;
            }
            Self::Close { session, yes } => {
                let what = format!("session {session}");
                confirm(&format!("Close {what}?"), *yes)?;
                let of = path(&["sessions", session, "close"]);
                (Ask::new(Method::POST, &of), what, "closed")
            }
            Self::EndSubscription {
                session,
                subscription,
                yes,
            } => {
                let what = format!("subscription {subscription} of session {session}");
                confirm(&format!("End {what}?"), *yes)?;
                let number = subscription.to_string();
                let of = path(&["sessions", session, "subscriptions", &number, "end"]);
                (Ask::new(Method::POST, &of), what, "ended")
            }
        };
        context.change(&sure(ask), &what, done).await?;
        Ok(())
    }
}
