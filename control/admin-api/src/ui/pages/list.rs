//! Lists: a search, a part, and what stands in the links to the next one.

use core::cmp::Ordering;

use pinion_admin_ui::model::{Listing, Pages, ROWS_MAX, Sort};

use crate::ui::context::PageContext;

/// Longest search in bytes.
const SEARCH_BYTES_MAX: usize = 256;

/// What names must contain.
pub(super) fn search(context: &PageContext) -> &str {
    let search = context.param("q");
    let mut end = search.len().min(SEARCH_BYTES_MAX);
    while !search.is_char_boundary(end) {
        end -= 1;
    }
    &search[..end]
}

/// How a list was asked for.
pub(super) fn listing(context: &PageContext, sort: Sort, pages: Pages) -> Listing {
    Listing {
        search: search(context).to_owned(),
        tenant: String::new(),
        tenants: Vec::new(),
        sort,
        pages,
    }
}

/// Puts rows in order.
pub(super) fn order<T>(rows: &mut [T], sort: &Sort, by: impl Fn(&T, &T) -> Ordering) {
    rows.sort_by(|a, b| {
        let ordering = by(a, b);
        if sort.descending {
            ordering.reverse()
        } else {
            ordering
        }
    });
}

/// The part of all rows that the query asks for; its token is the number of rows before it.
pub(super) fn part<T>(context: &PageContext, mut rows: Vec<T>) -> (Vec<T>, Pages) {
    let total = rows.len();
    let first: usize = context.param("page").parse().unwrap_or(0);
    // What is gone since leads to what is there.
    let first = if first < total { first } else { 0 };
    let end = total.min(first.saturating_add(ROWS_MAX));
    rows.truncate(end);
    rows.drain(..first);
    let token = |first: usize| match first {
        0 => String::new(),
        first => first.to_string(),
    };
    let pages = Pages {
        from: if total == 0 { 0 } else { first as u64 + 1 },
        to: end as u64,
        total: Some(total as u64),
        previous: (first > 0).then(|| token(first.saturating_sub(ROWS_MAX))),
        next: (end < total).then(|| token(end)),
    };
    (rows, pages)
}
