//! `pinion admin namespace`.

use hyper::Method;

use super::draft::Draft;
use super::list::{ListArgs, Rows};
use super::view::{Form, View};
use super::{Context, DeleteArgs, Guard, units};
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};
use crate::value;

const NAMESPACES: View = View {
    table: Table(&[
        ("NAME", 20, Align::Left),
        ("STATE", 8, Align::Left),
        ("STREAMS MAX", 11, Align::Right),
        ("RATE MAX", 10, Align::Right),
        ("VERSION", 10, Align::Right),
        ("DESCRIPTION", 0, Align::Left),
    ]),
    cells: &[
        ("/name", Form::Plain),
        ("/state", Form::Plain),
        ("/quotas/max_streams", Form::Limit),
        ("/quotas/max_publish_rate", Form::Limit),
        ("/version", Form::Plain),
        ("/description", Form::Plain),
    ],
};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// The namespaces of the tenant that you may see
    List {
        #[command(flatten)]
        list: ListArgs,
        /// Also those that are deleted and can be undeleted
        #[arg(long)]
        deleted: bool,
    },
    /// What a namespace is and may use
    Get(Name),
    /// Make a namespace
    Create {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        shape: Shape,
    },
    /// Change what a namespace is or may use; what is not named stays
    Update {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        shape: Shape,
        #[command(flatten)]
        guard: Guard,
    },
    /// Delete a namespace; until its grace is over it can be undeleted
    Delete {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        delete: DeleteArgs,
    },
    /// Take a namespace back, and what was deleted with it
    Undelete(Name),
}

/// Which namespace.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Name {
    /// The namespace
    #[arg(value_name = "NAME", value_parser = value::segment)]
    name: String,
}

/// What a namespace is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Shape {
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Most streams, queues and caches together, or none
    #[arg(long, value_name = "N", value_parser = units::count, help_heading = "Quotas")]
    max_streams: Option<u64>,
    /// Most records published in a second, or none
    #[arg(long, value_name = "N", value_parser = units::count, help_heading = "Quotas")]
    max_publish_rate: Option<u64>,
}

impl Shape {
    fn draft(&self) -> Draft {
        let mut draft = Draft::default();
        draft
            .set("description", self.description.as_deref())
            .set("quotas.max_streams", self.max_streams)
            .set("quotas.max_publish_rate", self.max_publish_rate);
        draft
    }
}

impl Verb {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List { list, deleted } => {
                let mut rows = Rows::new(NAMESPACES, list.limit);
                let ask = Ask::get(&context.in_tenant(&["namespaces"]))
                    .query("deleted", deleted.then_some(true));
                rows.follow(context, &ask, "namespaces", list, |_| ())
                    .await?;
                rows.end(context);
                Ok(())
            }
            Self::Get(Name { name }) => {
                let ask = Ask::get(&context.in_tenant(&["namespaces", name]));
                context.show(&ask).await
            }
            Self::Create { name, shape } => {
                let mut draft = shape.draft();
                draft.set("name", Some(name.name.as_str()));
                let ask = Ask::post(&context.in_tenant(&["namespaces"]), draft.value());
                let what = name.what(context);
                context.change(&ask, &what, "created").await?;
                Ok(())
            }
            Self::Update { name, shape, guard } => {
                let path = context.in_tenant(&["namespaces", &name.name]);
                let ask = Ask::new(Method::PATCH, &path)
                    .body(shape.draft().patch()?)
                    .if_version(guard.if_version);
                let what = name.what(context);
                context.change(&ask, &what, "updated").await?;
                Ok(())
            }
            Self::Delete { name, delete } => {
                let what = name.what(context);
                let ask = delete.ask(&context.in_tenant(&["namespaces", &name.name]), &what)?;
                context.change(&ask, &what, "deleted").await?;
                Ok(())
            }
            Self::Undelete(name) => {
                let path = context.in_tenant(&["namespaces", &name.name, "undelete"]);
                let ask = Ask::new(Method::POST, &path);
                let what = name.what(context);
                context.change(&ask, &what, "undeleted").await?;
                Ok(())
            }
        }
    }
}

impl Name {
    fn what(&self, context: &Context) -> String {
        format!("namespace {}/{}", context.tenant, self.name)
    }
}
