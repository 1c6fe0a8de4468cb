//! `pinion admin raft`: the members of the control plane. Nodes join by themselves, as their
//! configuration says; nobody is added from here.

use hyper::Method;
use serde_json::json;

use super::{BASE, Context};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::http::Ask;
use crate::value;

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Who leads, who votes, and how far each has come, as the asked node sees it
    Status,
    /// Let another member lead
    Transfer {
        /// The broker that is to lead
        #[arg(value_name = "BROKER", value_parser = value::segment)]
        to: String,
    },
    /// Take a member out of the group, for good
    Remove {
        /// Its number, as `status` says it
        #[arg(value_name = "MEMBER")]
        member: u64,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Verb {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let (ask, what, done) = match self {
            Self::Status => return context.show(&Ask::get(&[BASE, "raft"])).await,
            Self::Transfer { to } => (
                Ask::post(&[BASE, "raft", "transfer-leadership"], json!({"to": to})),
                format!("leadership of {to}"),
                "asked for",
            ),
            Self::Remove { member, yes } => {
                let what = format!("member {member}");
                confirm(&format!("Take {what} out of the group?"), *yes)?;
                let member = member.to_string();
                let ask = Ask::new(Method::DELETE, &[BASE, "raft", "members", &member]);
                (ask, what, "removed")
            }
        };
        context.change(&ask, &what, done).await?;
        Ok(())
    }
}
