//! Who is connected.

use pinion_admin_ui::model::{Kind, ROWS_MAX, SessionRow, Sessions};

use super::list::{listing, order, search};
use super::resources::{fresh, pages, tenants};
use crate::error::Failure;
use crate::ui::context::{PageContext, Shown};
use crate::views::Paging;
use crate::views::sessions;

/// Columns that the list can be sorted by; the first is its own order, by core and number.
const COLUMNS: [&str; 7] = [
    "session",
    "who",
    "core",
    "connected",
    "idle",
    "received",
    "sent",
];

/// Connections that are put in order. A node with more shows the first of them by number,
/// and finds the others by what is searched for.
const SORTED_MAX: usize = 20_000;

/// `/ui/sessions`
pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let sort = context.sort(&COLUMNS, "session");
    let skip: usize = context.param("page").parse().unwrap_or(0);
    let own_order = sort.by == "session" && !sort.descending;
    let paging = if own_order {
        Paging {
            limit: ROWS_MAX,
            offset: skip,
        }
    } else {
        Paging {
            limit: SORTED_MAX,
            offset: 0,
        }
    };
    let search = Some(search(context)).filter(|text| !text.is_empty());
    let which = (context.chosen_tenant(), search);
    let mut listed = sessions::list(&context.api, &context.who, which, paging).await?;
    if !own_order {
        order(&mut listed.rows, &sort, |a, b| match &*sort.by {
            "who" => a.principal.cmp(&b.principal),
            "core" => a.core.cmp(&b.core),
            // The longer it is, the earlier it began.
            "connected" => b.connected_at.cmp(&a.connected_at),
            "idle" => a.idle_seconds.cmp(&b.idle_seconds),
            "received" => a.messages_received.cmp(&b.messages_received),
            "sent" => a.messages_sent.cmp(&b.messages_sent),
            _ => a.session_id.cmp(&b.session_id),
        });
        listed.rows = listed.rows.into_iter().skip(skip).take(ROWS_MAX).collect();
    }
    let total = if own_order {
        listed.total
    } else {
        listed.total.min(SORTED_MAX)
    };
    let pages = pages(skip, listed.rows.len(), total);
    let as_of = listed.as_of;
    let row = |one: sessions::SessionRow| SessionRow {
        session: one.session_id.to_string(),
        principal: match &*one.principal {
            "" => "not known yet".to_owned(),
            _ => one.principal,
        },
        tenant: one.realm.unwrap_or_default(),
        remote: one.remote_addr.unwrap_or_else(|| "–".to_owned()),
        transport: one.transport.to_owned(),
        core: one.core,
        connected_ms: as_of.0.0.saturating_sub(one.connected_at.0.0),
        idle_ms: one.idle_seconds.saturating_mul(1_000),
        received: one.messages_received,
        sent: one.messages_sent,
        in_flight: one.in_flight.into(),
        subscriptions: one.subscriptions.into(),
    };
    let mut list = listing(context, sort, pages);
    list.tenant = context.chosen_tenant().unwrap_or_default().to_owned();
    list.tenants = tenants(context).await?;
    Ok(Sessions {
        list,
        rows: listed.rows.into_iter().map(row).collect(),
        fresh: fresh(context, Kind::Live, as_of),
    }
    .into())
}
