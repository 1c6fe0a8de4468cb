//! What lists of streams, queues and caches share, and the pages about one of them.

use pinion_admin_ui::model::{self, Fresh, Kind, Level, Listing, Pages, ROWS_MAX, Sort, State};
use pinion_metadata::{Action, Body, ObjectKey};
use pinion_types::ResourceKind;

use super::list::{listing, search};
use crate::error::Failure;
use crate::ui::context::PageContext;
use crate::views::{
    Address, At, Condition, Listed, Named, Order, Paging, Pick, RowDeleting, Wanted,
};

/// Tenants to choose from in a list. With more of them a name is quicker searched than
/// found among so many, and the choice would be most of the page.
const TENANTS_SHOWN_MAX: usize = 100;

/// How a list of resources is asked for.
pub(super) struct Asked<'c> {
    context: &'c PageContext,
    pub(super) sort: Sort,
    /// Rows before the page.
    skip: usize,
}

impl<'c> Asked<'c> {
    /// By the query, of a list that can be sorted by `columns`, the first of which is its
    /// own order.
    pub(super) fn of(context: &'c PageContext, columns: &[&str]) -> Self {
        Self {
            context,
            sort: context.sort(columns, columns.first().copied().unwrap_or_default()),
            skip: context.param("page").parse().unwrap_or(0),
        }
    }

    /// Whether it is the list's own order from its end.
    pub(super) fn is_reversed(&self) -> bool {
        self.sort.by == "name" && self.sort.descending
    }

    fn pick(&self) -> Pick<'c> {
        Pick {
            realm: self.context.chosen_tenant(),
            area: None,
            search: Some(search(self.context)).filter(|text| !text.is_empty()),
        }
    }

    /// No row, only how many there are.
    pub(super) fn count<N>(&self) -> Wanted<'c, N> {
        Wanted {
            pick: self.pick(),
            paging: Paging {
                limit: 0,
                offset: 0,
            },
            order: None,
        }
    }

    /// The rows of the page, of `total` if the order is reversed. By `key` where the list is
    /// sorted by what only it has.
    pub(super) fn wanted<N>(&self, key: Option<fn(&N) -> f64>, total: usize) -> Wanted<'c, N> {
        let paging = if self.is_reversed() {
            let left = total.saturating_sub(self.skip);
            let limit = left.min(ROWS_MAX);
            Paging {
                limit,
                offset: left - limit,
            }
        } else {
            Paging {
                limit: ROWS_MAX,
                offset: self.skip,
            }
        };
        let descending = self.sort.descending;
        Wanted {
            pick: self.pick(),
            paging,
            order: key.map(|key| Order { key, descending }),
        }
    }

    /// What came, in the order it is shown in, and how it was asked for.
    pub(super) async fn shown<R>(
        &self,
        mut listed: Listed<R>,
    ) -> Result<(Vec<R>, Listing), Failure> {
        if self.is_reversed() {
            listed.rows.reverse();
        }
        let pages = pages(self.skip, listed.rows.len(), listed.total);
        let mut list = listing(self.context, self.sort.clone(), pages);
        list.tenant = self.context.chosen_tenant().unwrap_or_default().to_owned();
        list.tenants = tenants(self.context).await?;
        Ok((listed.rows, list))
    }
}

/// The part of a list: so many rows after `skip`, of `total`.
pub(super) fn pages(skip: usize, shown: usize, total: usize) -> Pages {
    let end = skip.saturating_add(shown);
    let token = |first: usize| match first {
        0 => String::new(),
        first => first.to_string(),
    };
    Pages {
        from: if shown == 0 { 0 } else { skip as u64 + 1 },
        to: if shown == 0 { 0 } else { end as u64 },
        total: Some(total as u64),
        previous: (skip > 0).then(|| token(skip.saturating_sub(ROWS_MAX))),
        next: (shown > 0 && end < total).then(|| token(end)),
    }
}

/// Tenants to choose from; none where there are too many.
pub(super) async fn tenants(context: &PageContext) -> Result<Vec<String>, Failure> {
    let reach = context.who.reach(Action::AdminRead)?;
    let catalog = context.api.shelf.catalog(&context.api.plane).await?;
    let names = catalog.tenants(&reach).take(TENANTS_SHOWN_MAX + 1);
    let names: Vec<String> = names.map(str::to_owned).collect();
    if names.len() > TENANTS_SHOWN_MAX {
        return Ok(Vec::new());
    }
    Ok(names)
}

/// What a page about one resource is about.
pub(super) fn address(context: &PageContext) -> Address {
    let part = |name| context.part(name);
    Address::new(part("tenant"), part("namespace"), part("name"))
}

/// The same as pages write it.
pub(super) fn shown_address(context: &PageContext) -> model::Address {
    let part = |name| context.part(name).to_owned();
    model::Address {
        tenant: part("tenant"),
        namespace: part("namespace"),
        name: part("name"),
    }
}

/// The same of a row.
pub(super) fn named(named: &Named) -> model::Address {
    model::Address {
        tenant: named.realm.clone(),
        namespace: named.area.clone(),
        name: named.resource.clone(),
    }
}

/// That the one resource of a page is deleted, if it is.
pub(super) async fn deletion(
    context: &PageContext,
    kind: ResourceKind,
) -> Result<Option<model::Deletion>, Failure> {
    let part = |name| context.part(name);
    let key = ObjectKey::resource(kind, part("tenant"), part("namespace"), part("name"));
    super::deletion::of(context, part("tenant"), key).await
}

/// What is worth that is in a resource, by what the resource was declared to be.
///
/// # Errors
/// It is not there, or nobody knows.
pub(in crate::ui) async fn kept(
    context: &PageContext,
    kind: ResourceKind,
    of: &model::Address,
) -> Result<Kind, Failure> {
    let key = ObjectKey::resource(kind, &of.tenant, &of.namespace, &of.name);
    let durable = context.look(move |metadata| match &metadata.get(&key)?.body {
        Body::Resource(resource) => Some(resource.spec.durable),
        _ => None,
    });
    let durable = durable.await?.ok_or_else(Failure::not_found)?;
    Ok(Kind::kept(durable))
}

/// Time until the data of a row may go, of one that is deleted.
pub(super) fn purge_in_ms(context: &PageContext, deleting: Option<RowDeleting>) -> Option<u64> {
    deleting.map(|deleting| deleting.purge_in_ms(context.now))
}

/// How something is, in a word.
pub(super) fn state(condition: Condition) -> State {
    let (level, text) = match condition {
        Condition::Ok => (Level::Ok, "ok"),
        Condition::ReadOnly => (Level::Warn, "disk full"),
        Condition::Fenced => (Level::Bad, "closed"),
        Condition::Deleting => (Level::Warn, "deleted"),
    };
    State {
        level,
        text: text.to_owned(),
    }
}

/// What numbers are worth that were taken with a snapshot.
pub(super) fn fresh(context: &PageContext, kind: Kind, at: At) -> Fresh {
    context.fresh_of(kind, at.0)
}

/// What something is that could not be asked, for people; nothing of what could.
pub(super) fn problem<T>(of: &Result<T, Failure>) -> String {
    match of {
        Ok(_) => String::new(),
        Err(failure) => failure.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_list_lead_to_each_other() {
        let all = 2 * ROWS_MAX + 50;
        let first = pages(0, ROWS_MAX, all);
        assert_eq!((first.from, first.to), (1, ROWS_MAX as u64));
        assert_eq!(first.total, Some(all as u64));
        let token = ROWS_MAX.to_string();
        assert_eq!((first.previous, first.next.as_ref()), (None, Some(&token)));
        let second = pages(ROWS_MAX, ROWS_MAX, all);
        assert_eq!(
            second.previous.as_deref(),
            Some(""),
            "the first part has no token"
        );
        let last = pages(2 * ROWS_MAX, 50, all);
        assert_eq!((last.previous, last.next), (Some(token), None));
        let beyond = pages(9_000, 0, all);
        assert_eq!((beyond.from, beyond.to), (0, 0));
        assert!(beyond.previous.is_some() && beyond.next.is_none());
    }
}
