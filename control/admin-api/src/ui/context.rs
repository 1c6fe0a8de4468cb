//! What a page is made with: who looks, at what, and where its numbers come from.

use std::sync::Arc;

use pinion_admin_ui::model::{Fresh, Kind, Page, Shell, Sort};
use pinion_admin_ui::{RenderError, Ui};
use pinion_metadata::{Action, Metadata, PolicyObject};
use pinion_plane::PlaneError;
use pinion_types::WallMs;

use super::form::Fields;
use crate::Api;
use crate::access::Who;
use crate::error::Failure;
use crate::routes::{Verb, routes};

/// What somebody sees of the dashboard: all of it, or what is of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// `None` sees everything.
    tenant: Option<Box<str>>,
    may_write: bool,
}

impl Access {
    /// By `admin:read` and `admin:write`, on the cluster or on the tenant whose credential
    /// was shown; `None` for whoever has neither.
    pub(crate) fn of(who: &Who) -> Option<Self> {
        if who.sees_all() {
            return Some(Self {
                tenant: None,
                may_write: who.may(Action::AdminWrite, &PolicyObject::Cluster),
            });
        }
        let tenant = who.tenant.clone()?;
        let object = PolicyObject::Tenant(tenant.clone());
        let may_write = who.may(Action::AdminWrite, &object);
        (may_write || who.may(Action::AdminRead, &object)).then_some(Self {
            tenant: Some(tenant),
            may_write,
        })
    }

    /// Whose things are seen; `None` is everybody's.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Whether what is of this tenant is seen.
    pub(crate) fn sees(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|of| of == tenant)
    }

    /// Whether forms are shown. What may be done is decided when it is asked for.
    pub(crate) fn may_write(&self) -> bool {
        self.may_write
    }
}

/// One look at one page.
#[derive(Clone, Debug)]
pub(crate) struct PageContext {
    pub(crate) api: Arc<Api>,
    pub(crate) who: Who,
    pub(crate) access: Access,
    /// Of the path, decoded; see [`pinion_admin_ui::links::ROUTES`].
    pub(crate) parts: Vec<(&'static str, String)>,
    pub(crate) query: Fields,
    /// When it was asked for.
    pub(crate) now: WallMs,
}

impl PageContext {
    /// A part of the path; nothing where the route has none of that name.
    pub(crate) fn part(&self, name: &str) -> &str {
        let found = self.parts.iter().find(|(key, _)| *key == name);
        found.map_or("", |(_, value)| value)
    }

    /// A parameter of the query, or nothing. Those that a page does not know are passed
    /// over, as in every page.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.query.get(name)
    }

    /// The tenant of the path; of somebody else's, nobody is told that it is there.
    pub(crate) fn tenant(&self) -> Result<&str, Failure> {
        let tenant = self.part("tenant");
        if self.access.sees(tenant) {
            Ok(tenant)
        } else {
            Err(Failure::hidden())
        }
    }

    /// Refuses unless everything is seen.
    pub(crate) fn sees_cluster(&self) -> Result<(), Failure> {
        match self.access.tenant() {
            None => Ok(()),
            Some(_) => Err(Failure::forbidden(
                Action::AdminRead.text(),
                &PolicyObject::Cluster,
            )),
        }
    }

    /// Refuses unless a route would answer whoever looks, about this tenant: what it shows is
    /// shown here to nobody else.
    pub(crate) fn may_ask(&self, asks: (Verb, &str), tenant: &str) -> Result<(), Failure> {
        let found = routes().find(|route| (route.method, route.path) == asks);
        let route = found.ok_or(PlaneError::Failed)?;
        let part = |name: &str| if name == "t" { tenant } else { "" };
        self.who.check_need(route.need, part)
    }

    /// The tenant that a list is about: the one that is chosen, or the only one that is
    /// seen; `None` is all.
    pub(crate) fn chosen_tenant(&self) -> Option<&str> {
        let chosen = Some(self.param("tenant")).filter(|chosen| !chosen.is_empty());
        self.access.tenant().or(chosen)
    }

    /// How a list is to be ordered; by `usual` where the query names no column of these.
    pub(crate) fn sort(&self, columns: &[&str], usual: &str) -> Sort {
        let asked = self.param("sort");
        let known = columns.iter().find(|column| **column == asked);
        Sort {
            by: known.map_or(usual, |column| column).to_owned(),
            descending: known.is_some() && self.param("dir") == "desc",
        }
    }

    /// Looks at the metadata as this node has it.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Metadata) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let looked = self.api.plane.look(look).await?;
        looked.ok_or_else(|| PlaneError::NotReady.into())
    }

    /// What numbers are worth that were taken for this page.
    pub(crate) fn fresh(&self, kind: Kind) -> Fresh {
        self.fresh_of(kind, self.now)
    }

    /// What numbers are worth that were taken before.
    pub(crate) fn fresh_of(&self, kind: Kind, taken: WallMs) -> Fresh {
        Fresh {
            kind,
            as_of_unix_ms: taken.0,
            age_ms: self.now.0.saturating_sub(taken.0),
        }
    }
}

type Render = Box<dyn FnOnce(&Ui, &Shell) -> Result<String, RenderError> + Send>;

/// A page that is filled, whichever it is.
pub(crate) struct Shown {
    render: Render,
    /// Whether its numbers change while somebody looks.
    pub(crate) live: bool,
}

impl<P: Page + Send + 'static> From<P> for Shown {
    fn from(page: P) -> Self {
        Self {
            render: Box::new(move |ui, shell| ui.render(shell, &page)),
            live: P::LIVE,
        }
    }
}

impl Shown {
    /// The page as HTML.
    pub(crate) fn render(self, ui: &Ui, shell: &Shell) -> Result<String, RenderError> {
        (self.render)(ui, shell)
    }
}
