//! `pinion admin stream`, `queue` and `cache`: what is declared, and where it is.
//!
//! The kinds differ in what can be said of them when they are made and changed, and in
//! nothing else; [`Kind`] is that difference.

pub(super) mod cache;
pub(super) mod queue;
mod shape;
pub(super) mod stream;

use std::fmt::Debug;

use hyper::Method;
use pinion_types::ResourceName;
use serde_json::Value;

use super::draft::Draft;
use super::list::{ListArgs, Rows};
use super::view::View;
use super::{Context, DeleteArgs, Guard};
use crate::failure::Failure;
use crate::http::Ask;
use crate::value;

/// What one kind of resource has that others have not.
pub(super) trait Kind: clap::Args + Clone + Debug {
    /// What can be said when it is made, and never again.
    type New: clap::Args + Clone + Debug + Said;

    /// In messages.
    const WORD: &'static str;
    /// In paths, and the key of its lists.
    const PLURAL: &'static str;
    /// Its list.
    const VIEW: View;

    /// What can be said then and later.
    fn say(&self, draft: &mut Draft);
}

/// Options that become fields.
pub(super) trait Said {
    fn say(&self, draft: &mut Draft);
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Verb<K: Kind> {
    /// What is declared in a namespace, or in all of them
    List {
        /// Only of this namespace
        #[arg(value_name = "NS", value_parser = value::segment)]
        namespace: Option<String>,
        #[command(flatten)]
        list: ListArgs,
        /// Also those that are deleted and can be undeleted
        #[arg(long)]
        deleted: bool,
    },
    /// What is declared, and which brokers have it
    Get(Name),
    /// Declare one; its namespace must be there
    Create {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        new: K::New,
        #[command(flatten)]
        shape: K,
    },
    /// Change what can be changed; what is not named stays
    Update {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        shape: K,
        #[command(flatten)]
        guard: Guard,
    },
    /// Delete one; until its grace is over it can be undeleted, with its data
    Delete {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        delete: DeleteArgs,
    },
    /// Take one back that was deleted, with its data
    Undelete(Name),
}

/// Which one.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Name {
    /// Which, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = ResourceName::parse)]
    name: ResourceName,
}

impl Name {
    fn path<'a, K: Kind>(&'a self, context: &'a Context, more: &[&'a str]) -> Vec<&'a str> {
        let namespace = self.name.namespace();
        let mut path = context.in_tenant(&["namespaces", namespace, K::PLURAL, self.name.name()]);
        path.extend_from_slice(more);
        path
    }

    fn what<K: Kind>(&self) -> String {
        format!("{} {}", K::WORD, self.name)
    }
}

impl<K: Kind> Verb<K> {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List {
                namespace,
                list,
                deleted,
            } => list_of::<K>(context, namespace.as_deref(), list, *deleted).await,
            Self::Get(name) => {
                let ask = Ask::get(&name.path::<K>(context, &[]));
                context.show(&ask).await
            }
            Self::Create { name, new, shape } => {
                let mut draft = Draft::default();
                draft.set("name", Some(name.name.name()));
                draft.set("spec", Some(Value::Object(serde_json::Map::new())));
                new.say(&mut draft);
                shape.say(&mut draft);
                let path = context.in_tenant(&["namespaces", name.name.namespace(), K::PLURAL]);
                let ask = Ask::post(&path, draft.value());
                context.change(&ask, &name.what::<K>(), "created").await?;
                Ok(())
            }
            Self::Update { name, shape, guard } => {
                let mut draft = Draft::default();
                shape.say(&mut draft);
                let ask = Ask::new(Method::PATCH, &name.path::<K>(context, &[]))
                    .body(draft.patch()?)
                    .if_version(guard.if_version);
                context.change(&ask, &name.what::<K>(), "updated").await?;
                Ok(())
            }
            Self::Delete { name, delete } => {
                let what = name.what::<K>();
                let ask = delete.ask(&name.path::<K>(context, &[]), &what)?;
                context.change(&ask, &what, "deleted").await?;
                Ok(())
            }
            Self::Undelete(name) => {
                let ask = Ask::new(Method::POST, &name.path::<K>(context, &["undelete"]));
                context.change(&ask, &name.what::<K>(), "undeleted").await?;
                Ok(())
            }
        }
    }
}

/// The rows of one namespace, or of each in turn.
async fn list_of<K: Kind>(
    context: &mut Context,
    namespace: Option<&str>,
    list: &ListArgs,
    deleted: bool,
) -> Result<(), Failure> {
    let mut rows = Rows::new(K::VIEW, list.limit);
    let namespaces = match namespace {
        Some(namespace) => vec![namespace.to_owned()],
        None => namespaces(context, list.stale).await?,
    };
    for namespace in namespaces {
        let ask = Ask::get(&context.in_tenant(&["namespaces", &namespace, K::PLURAL]))
            .query("deleted", deleted.then_some(true));
        rows.follow(context, &ask, K::PLURAL, list, |row| {
            // The namespace is in the path; a row that is read alone says it too.
            if let Value::Object(row) = row {
                row.entry("namespace")
                    .or_insert_with(|| namespace.clone().into());
            }
        })
        .await?;
        if rows.is_full() {
            break;
        }
    }
    rows.end(context);
    Ok(())
}

/// The names of all namespaces of the tenant.
async fn namespaces(context: &mut Context, stale: bool) -> Result<Vec<String>, Failure> {
    let ask = Ask::get(&context.in_tenant(&["namespaces"]));
    let args = ListArgs {
        stale,
        ..ListArgs::default()
    };
    let mut names = Vec::new();
    let mut pages = super::list::Pages::new(ask, "namespaces", &args);
    while let Some(page) = pages.next(&mut context.http, u64::MAX).await? {
        for row in page {
            if let Some(name) = row["name"].as_str() {
                names.push(name.to_owned());
            }
        }
    }
    Ok(names)
}
