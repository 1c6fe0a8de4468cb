//! Pieces that many pages share.

use serde::{Deserialize, Serialize};

use crate::links::Place;

/// What a resource is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// Whose it is.
    pub tenant: String,
    /// Where in the tenant.
    pub namespace: String,
    /// Segments joined by `/`.
    pub name: String,
}

/// Whether a number survives a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Read from what a crash leaves.
    Durable,
    /// In the memory of a process: gone with a connection or a restart.
    Live,
    /// Some are the one and some the other; their columns or rows say which.
    Mixed,
}

impl Kind {
    /// Of what is in a resource: it survives where the resource is durable.
    #[must_use]
    pub const fn kept(durable: bool) -> Self {
        if durable { Self::Durable } else { Self::Live }
    }
}

/// What the numbers of one panel are worth.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Fresh {
    /// Whether they survive.
    pub kind: Kind,
    /// When they were taken, milliseconds since 1970.
    pub as_of_unix_ms: u64,
    /// How long ago that was when the page was filled, milliseconds.
    pub age_ms: u64,
}

/// How good or bad something is. Shown by a shape and a word besides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Info,
    /// Nobody can say.
    Unknown,
    /// Somebody should look.
    Warn,
    /// Somebody must act.
    Bad,
}

/// A word about something, with how good or bad it is.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// How good or bad.
    pub level: Level,
    /// One or two words.
    pub text: String,
}

/// What is known of a deletion that can be taken back.
#[derive(Clone, Debug, Serialize)]
pub struct Deletion {
    /// When, by whom, and when what was deleted goes for good.
    pub facts: Vec<Fact>,
    /// What it is in and that is deleted as well: that has to be taken back first.
    pub within: Option<Within>,
}

/// Something that has other things in it.
#[derive(Clone, Debug, Serialize)]
pub struct Within {
    /// What it is called.
    pub name: String,
    /// Where it is taken back.
    pub place: Place,
}

/// One value in the form it is shown in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "unit", content = "value", rename_all = "snake_case")]
pub enum Quantity {
    /// Words.
    Text(String),
    /// Names, code, identifiers: in the face of fixed width.
    Code(String),
    /// How many.
    Count(u64),
    /// In memory or on a disk.
    Bytes(u64),
    /// Things a second.
    PerSecond(f64),
    /// Bytes a second.
    BytesPerSecond(f64),
    /// Latency, microseconds.
    Micros(u64),
    /// Longer than so many microseconds; how much longer is not known.
    OverMicros(u64),
    /// Duration, milliseconds.
    SpanMs(u64),
    /// Share in thousandths.
    Permille(u64),
    /// Wall-clock time, milliseconds since 1970.
    UnixMs(u64),
    /// Nobody has measured it.
    Unknown,
}

/// What the points of a series are in, also where the newest of them is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// How many.
    Count,
    /// In memory or on a disk.
    Bytes,
    /// Things a second.
    PerSecond,
    /// Bytes a second.
    BytesPerSecond,
    /// Latency, microseconds.
    Micros,
}

/// A value and what it is.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// The value.
    pub value: Quantity,
    /// Whether it survives a restart, where its panel holds both sorts.
    pub kind: Option<Kind>,
}

/// How a list is ordered.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sort {
    /// Word of the column, as the query has it; empty for the order of the list itself.
    pub by: String,
    /// Largest first.
    pub descending: bool,
}

/// Which part of a list is shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pages {
    /// Number of the first row shown, from 1; 0 when there is none.
    pub from: u64,
    /// Number of the last row shown.
    pub to: u64,
    /// How many there are, where somebody counts them.
    pub total: Option<u64>,
    /// Token of the page before, if there is one; empty is the first page.
    pub previous: Option<String>,
    /// Token of the page after, if there is one.
    pub next: Option<String>,
}

/// How a list was asked for. Everything in it comes back in the query of its links.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Listing {
    /// What names must contain; query `q`.
    pub search: String,
    /// Tenant chosen, or empty for all; query `tenant`.
    pub tenant: String,
    /// Tenants to choose from; with fewer than two there is no choice.
    pub tenants: Vec<String>,
    /// Order; query `sort` and `dir` (`asc`, `desc`).
    pub sort: Sort,
    /// Which part; query `page`.
    pub pages: Pages,
}

/// What a number was at even intervals, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Series {
    /// Between two points, milliseconds.
    pub step_ms: u64,
    /// The points; `None` where nothing was measured.
    pub points: Vec<Option<f64>>,
}

/// One part of a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Share {
    /// What it is.
    pub name: String,
    /// How much of it, in the unit of the chart.
    pub amount: u64,
    /// Whether it survives a restart, where its panel holds both sorts.
    pub kind: Option<Kind>,
}
