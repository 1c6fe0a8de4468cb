//! The first page: is it well, what asks for somebody, how busy is it.

use serde::Serialize;

use super::{Fresh, Level, Quantity, Series, Unit, page};
use crate::links::Place;

/// The state of everything in one line.
#[derive(Clone, Debug, Serialize)]
pub struct StatusBand {
    /// The worst there is.
    pub level: Level,
    /// In a few words.
    pub headline: String,
    /// In a sentence.
    pub detail: String,
    /// What it is worth.
    pub fresh: Fresh,
}

/// Something that asks for somebody.
#[derive(Clone, Debug, Serialize)]
pub struct Issue {
    /// How bad.
    pub level: Level,
    /// What is wrong.
    pub title: String,
    /// Where, and how much.
    pub detail: String,
    /// What to do about it.
    pub advice: String,
    /// Page to do it on.
    pub place: Place,
    /// How long it has been so, milliseconds.
    pub since_ms: u64,
}

/// A number large enough to be seen from across the room, with its recent past.
#[derive(Clone, Debug, Serialize)]
pub struct Tile {
    /// Tells it from the other tiles.
    pub key: String,
    /// What it is.
    pub label: String,
    /// How much now.
    pub value: Quantity,
    /// How much lately; no points is no line.
    pub series: Series,
    /// What that is in.
    pub unit: Unit,
    /// A word on what else matters about it.
    pub note: String,
}

/// How busy one core is.
#[derive(Clone, Debug, Serialize)]
pub struct CoreBusy {
    /// Number of the core; the control core has the last.
    pub core: u16,
    /// Whether it is the control core.
    pub control: bool,
    /// Time it worked, in thousandths of the last second; time it spun is not work.
    pub busy_permille: Option<u64>,
    /// The same at even intervals, oldest first.
    pub history_permille: Vec<u16>,
    /// Connections it has; the control core has none of the data plane.
    pub connections: Option<u64>,
    /// Requests a second.
    pub requests_per_s: Option<f64>,
    /// Turns over 5 ms in the last minute; the control core has no turns.
    pub stalls: Option<u64>,
    /// Mails that wait for it.
    pub mailbox_depth: u64,
}

/// What one domain does in its resources that are kept in the same way.
#[derive(Clone, Debug, Serialize)]
pub struct DomainRow {
    /// Which.
    pub domain: String,
    /// Whether they survive a crash.
    pub durable: bool,
    /// Page of its resources.
    pub place: Place,
    /// Resources there are.
    pub resources: u64,
    /// Records, messages or entries in all of them (durable, when they are).
    pub items: u64,
    /// What they take (durable, when they are).
    pub size_bytes: u64,
    /// Requests in, a second.
    pub in_per_s: f64,
    /// Deliveries out, a second.
    pub out_per_s: f64,
}

/// The first page.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// The state of everything.
    pub status: StatusBand,
    /// Worst first.
    pub issues: Vec<Issue>,
    /// Whether who looks sees the node itself; of it nothing is shown to others.
    pub whole: bool,
    /// The numbers people look for.
    pub tiles: Vec<Tile>,
    /// What the tiles are worth.
    pub tiles_fresh: Fresh,
    /// By core.
    pub cores: Vec<CoreBusy>,
    /// What the busy times are worth.
    pub cores_fresh: Fresh,
    /// Between two points of the cores' past, milliseconds.
    pub cores_step_ms: u64,
    /// By domain, and by how its resources are kept.
    pub domains: Vec<DomainRow>,
    /// What they are worth.
    pub domains_fresh: Fresh,
}

page!(Overview, "overview.html", "overview", live: true, |_page| "Overview");
