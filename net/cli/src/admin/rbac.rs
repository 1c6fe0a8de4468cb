//! `pinion admin rbac`: who may do what (policies), and who belongs to whom (groupings).

use hyper::Method;
use serde_json::json;

use super::Context;
use super::list::{ListArgs, Rows};
use super::view::{Form, View};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};

const POLICIES: View = View {
    table: Table(&[
        ("ID", 8, Align::Right),
        ("SUBJECT", 28, Align::Left),
        ("ACTION", 20, Align::Left),
        ("OBJECT", 0, Align::Left),
    ]),
    cells: &[
        ("/id", Form::Plain),
        ("/subject", Form::Plain),
        ("/action", Form::Plain),
        ("/object", Form::Plain),
    ],
};

const GROUPINGS: View = View {
    table: Table(&[
        ("ID", 8, Align::Right),
        ("MEMBER", 28, Align::Left),
        ("ROLE", 0, Align::Left),
    ]),
    cells: &[
        ("/id", Form::Plain),
        ("/member", Form::Plain),
        ("/role", Form::Plain),
    ],
};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Who may do what on what
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Who has which role
    #[command(subcommand)]
    Grouping(GroupingVerb),
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum PolicyVerb {
    /// The policies of the tenant
    List(ListArgs),
    /// Let somebody do something: `policy add p:ana stream.publish stream:default/pay/*`
    Add {
        /// `p:NAME`, `g:GROUP`, `role:NAME` or `spiffe://…`
        #[arg(value_name = "SUBJECT")]
        subject: String,
        /// Like `stream.publish`, `queue.*` or `tenant.manage`
        #[arg(value_name = "ACTION")]
        action: String,
        /// Like `tenant:acme`, `namespace:acme/pay`, `stream:acme/pay/*`
        #[arg(value_name = "OBJECT")]
        object: String,
    },
    /// Take back what policies allow
    Remove(Ids),
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum GroupingVerb {
    /// The groupings of the tenant
    List(ListArgs),
    /// Give somebody a role: `grouping add g:billing reader`
    Add {
        /// `p:NAME`, `g:GROUP`, `role:NAME` or `spiffe://…`
        #[arg(value_name = "MEMBER")]
        member: String,
        /// Name of the role
        #[arg(value_name = "ROLE")]
        role: String,
    },
    /// Take roles back
    Remove(Ids),
}

/// Which rows.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Ids {
    /// Number in the first column of `list`; repeatable
    #[arg(value_name = "ID", required = true)]
    ids: Vec<u64>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Verb {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Policy(PolicyVerb::List(list)) => rows(context, "policies", POLICIES, list).await,
            Self::Policy(PolicyVerb::Add {
                subject,
                action,
                object,
            }) => {
                let row = json!({"subject": subject, "action": action, "object": object});
                let ask = Ask::post(
                    &context.in_tenant(&["rbac", "policies"]),
                    json!({"policies": [row]}),
                );
                let what = format!("{subject} may {action} on {object}");
                context.change(&ask, &what, "added").await?;
                Ok(())
            }
            Self::Policy(PolicyVerb::Remove(ids)) => {
                remove(context, "policies", "policy", ids).await
            }
            Self::Grouping(GroupingVerb::List(list)) => {
                rows(context, "groupings", GROUPINGS, list).await
            }
            Self::Grouping(GroupingVerb::Add { member, role }) => {
                // As a subject it is written with its word.
                let role = role.strip_prefix("role:").unwrap_or(role);
                let row = json!({"member": member, "role": role});
                let ask = Ask::post(
                    &context.in_tenant(&["rbac", "groupings"]),
                    json!({"groupings": [row]}),
                );
                let what = format!("{member} has role {role}");
                context.change(&ask, &what, "added").await?;
                Ok(())
            }
            Self::Grouping(GroupingVerb::Remove(ids)) => {
                remove(context, "groupings", "grouping", ids).await
            }
        }
    }
}

async fn rows(
    context: &mut Context,
    key: &'static str,
    view: View,
    list: &ListArgs,
) -> Result<(), Failure> {
    let mut rows = Rows::new(view, list.limit);
    let ask = Ask::get(&context.in_tenant(&["rbac", key]));
    rows.follow(context, &ask, key, list, |_| ()).await?;
    rows.end(context);
    Ok(())
}

async fn remove(context: &mut Context, key: &str, word: &str, ids: &Ids) -> Result<(), Failure> {
    let named: Vec<String> = ids.ids.iter().map(u64::to_string).collect();
    let what = format!("{word} {}", named.join(", "));
    confirm(&format!("Remove {what}?"), ids.yes)?;
    // All or none of them.
    let ask =
        Ask::new(Method::DELETE, &context.in_tenant(&["rbac", key])).body(json!({"ids": ids.ids}));
    context.change(&ask, &what, "removed").await?;
    Ok(())
}
