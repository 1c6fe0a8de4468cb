//! `pinion admin tenant`.

use hyper::Method;
use serde_json::Value;

use super::draft::Draft;
use super::list::{ListArgs, Rows};
use super::view::{Form, View};
use super::{BASE, Context, DeleteArgs, Guard, units};
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};
use crate::value;

const TENANTS: View = View {
    table: Table(&[
        ("NAME", 20, Align::Left),
        ("STATE", 8, Align::Left),
        ("STREAMS MAX", 11, Align::Right),
        ("RATE MAX", 10, Align::Right),
        ("STORAGE MAX", 11, Align::Right),
        ("VERSION", 10, Align::Right),
        ("DISPLAY NAME", 0, Align::Left),
    ]),
    cells: &[
        ("/name", Form::Plain),
        ("/state", Form::Plain),
        ("/quotas/max_streams", Form::Limit),
        ("/quotas/max_publish_rate", Form::Limit),
        ("/quotas/max_storage_bytes", Form::Bytes),
        ("/version", Form::Plain),
        ("/display_name", Form::Plain),
    ],
};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// The tenants that you may see
    List {
        #[command(flatten)]
        list: ListArgs,
        /// Also those that are deleted and can be undeleted
        #[arg(long)]
        deleted: bool,
    },
    /// What a tenant is and may use
    Get(Name),
    /// Make a tenant
    Create {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        shape: Shape,
    },
    /// Change what a tenant is or may use; what is not named stays
    Update {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        shape: Shape,
        #[command(flatten)]
        guard: Guard,
    },
    /// Delete a tenant; until its grace is over it can be undeleted
    Delete {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        delete: DeleteArgs,
    },
    /// Take a tenant back, and what was deleted with it
    Undelete(Name),
}

/// Which tenant.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Name {
    /// The tenant
    #[arg(value_name = "NAME", value_parser = value::segment)]
    name: String,
}

/// What a tenant is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Shape {
    /// Its name in tables
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Most namespaces, or none
    #[arg(long, value_name = "N", value_parser = units::count, help_heading = "Quotas")]
    max_namespaces: Option<u64>,
    /// Most streams, queues and caches together, or none
    #[arg(long, value_name = "N", value_parser = units::count, help_heading = "Quotas")]
    max_streams: Option<u64>,
    /// Most records published in a second, or none
    #[arg(long, value_name = "N", value_parser = units::count, help_heading = "Quotas")]
    max_publish_rate: Option<u64>,
    /// Most bytes on disk, like 1TB, or none
    #[arg(long, value_name = "BYTES", value_parser = units::bytes, help_heading = "Quotas")]
    max_storage: Option<u64>,
    /// Most connections at a time, or none
    #[arg(long, value_name = "N", value_parser = units::count, help_heading = "Quotas")]
    max_connections: Option<u64>,
    /// Most memory of its caches, like 8GiB, or none
    #[arg(long, value_name = "BYTES", value_parser = units::bytes, help_heading = "Quotas")]
    max_cache_memory: Option<u64>,
    /// Most policies and groupings, or none
    #[arg(long, value_name = "N", value_parser = units::count, help_heading = "Quotas")]
    max_policies: Option<u64>,
    /// Name of the key that its data is to be encrypted with
    #[arg(long, value_name = "NAME", help_heading = "Encryption")]
    key_id: Option<String>,
    /// How often that key is replaced, like 90d, or none
    #[arg(long, value_name = "TIME", value_parser = units::time, help_heading = "Encryption")]
    key_rotation: Option<u64>,
    /// Its data is not to be encrypted any more
    #[arg(long, conflicts_with_all = ["key_id", "key_rotation"], help_heading = "Encryption")]
    no_key: bool,
}

impl Shape {
    fn draft(&self) -> Draft {
        let mut draft = Draft::default();
        draft
            .set("display_name", self.display_name.as_deref())
            .set("description", self.description.as_deref())
            .set("quotas.max_namespaces", self.max_namespaces)
            .set("quotas.max_streams", self.max_streams)
            .set("quotas.max_publish_rate", self.max_publish_rate)
            .set("quotas.max_storage_bytes", self.max_storage)
            .set("quotas.max_connections", self.max_connections)
            .set("quotas.max_cache_memory_bytes", self.max_cache_memory)
            .set("quotas.max_policies", self.max_policies)
            .set("encryption.key_id", self.key_id.as_deref())
            .set("encryption.rotation_period_ms", self.key_rotation)
            .set("encryption", self.no_key.then_some(Value::Null));
        draft
    }
}

impl Verb {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List { list, deleted } => {
                let mut rows = Rows::new(TENANTS, list.limit);
                let ask = Ask::get(&[BASE, "tenants"]).query("deleted", deleted.then_some(true));
                rows.follow(context, &ask, "tenants", list, |_| ()).await?;
                rows.end(context);
                Ok(())
            }
            Self::Get(Name { name }) => context.show(&Ask::get(&[BASE, "tenants", name])).await,
            Self::Create { name, shape } => {
                let mut draft = shape.draft();
                draft.set("name", Some(name.name.as_str()));
                let ask = Ask::post(&[BASE, "tenants"], draft.value());
                context.change(&ask, &name.what(), "created").await?;
                Ok(())
            }
            Self::Update { name, shape, guard } => {
                let ask = Ask::new(Method::PATCH, &[BASE, "tenants", &name.name])
                    .body(shape.draft().patch()?)
                    .if_version(guard.if_version);
                context.change(&ask, &name.what(), "updated").await?;
                Ok(())
            }
            Self::Delete { name, delete } => {
                let ask = delete.ask(&[BASE, "tenants", &name.name], &name.what())?;
                context.change(&ask, &name.what(), "deleted").await?;
                Ok(())
            }
            Self::Undelete(name) => {
                let ask = Ask::new(Method::POST, &[BASE, "tenants", &name.name, "undelete"]);
                context.change(&ask, &name.what(), "undeleted").await?;
                Ok(())
            }
        }
    }
}

impl Name {
    fn what(&self) -> String {
        format!("tenant {}", self.name)
    }
}
