//! What pages show, as plain data with the units in the names. Whoever serves the pages
//! fills these from coalesced snapshots; nothing here asks anybody for anything.
//!
//! Text may be anything: it is escaped where it is shown. Numbers that are not known are
//! `None` (shown as a dash), never nought.

mod access;
mod action;
mod cluster;
mod common;
mod data;
mod observe;
mod overview;
mod shell;

pub use access::{
    Access, ApiKeyRow, GroupingRow, Keys, NamespaceRow, Namespaces, PolicyRow, ProviderRow,
    Providers, SigningKeyRow, TenantRow, Tenants, Usage,
};
pub use action::{AuditPreview, Confirm, ConfirmProblem, Input, Operation};
pub use cluster::{
    BrokerRow, LogRow, MemberRow, Placement, PlacementRow, Raft, ShardPlace, Storage,
};
pub use common::{
    Address, Deletion, Fact, Fresh, Kind, Level, Listing, Pages, Quantity, Series, Share, Sort,
    State, Unit, Within,
};
pub use data::{
    Cache, CachePartitionRow, CacheRow, Caches, CursorRow, DeadLetterRow, DeadLetters, GroupRow,
    InFlight, InFlightRow, PartitionRow, Queue, QueueRow, Queues, RecordRow, SessionRow, Sessions,
    Stream, StreamRow, Streams, SubscriptionRow, WhyRow,
};
pub use observe::{
    Audit, AuditRow, Curve, CurvePoint, Latency, LatencyRow, MetricFamily, MetricRow, Metrics,
};
pub use overview::{CoreBusy, DomainRow, Issue, Overview, StatusBand, Tile};
pub use shell::{
    About, Failure, Flash, Login, LoginProblem, OidcChoice, Shell, Theme, User, Welcome,
};

use serde::Serialize;

/// Rows of one list on one page. More are shown if a model has them, but then a page grows
/// over [`PAGE_BYTES_MAX`]: whoever fills a model asks for no more than these.
pub const ROWS_MAX: usize = 80;

/// Most that a page weighs, in bytes, as it is sent. With [`FILES_BYTES_MAX`] it is 60,000,
/// which is what somebody waits for who comes for the first time.
///
/// [`FILES_BYTES_MAX`]: crate::assets::FILES_BYTES_MAX
pub const PAGE_BYTES_MAX: usize = 50_000;

/// One page: a template, and a type that has everything it shows.
pub trait Page: Serialize {
    /// Which template draws it.
    const TEMPLATE: &'static str;
    /// Which entry of the navigation it belongs to; empty for none.
    const NAV: &'static str;
    /// Whether its numbers change while somebody looks.
    const LIVE: bool;
    /// For the window and the heading.
    fn title(&self) -> String;
}

/// Says what a page is, once per model.
macro_rules! page {
    ($model:ty, $template:literal, $nav:literal, live: $live:literal, |$page:ident| $title:expr) => {
        impl crate::model::Page for $model {
            const TEMPLATE: &'static str = $template;
            const NAV: &'static str = $nav;
            const LIVE: bool = $live;
            fn title(&self) -> String {
                let $page = self;
                String::from($title)
            }
        }
    };
}
pub(crate) use page;
