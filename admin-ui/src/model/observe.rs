//! What was asked, what was measured.

use serde::{Deserialize, Serialize};

use super::{Fresh, Listing, Quantity, State, page};

/// One row of the audit log.
#[derive(Clone, Debug, Serialize)]
pub struct AuditRow {
    /// Its number on this node.
    pub row: u64,
    /// When, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Who.
    pub principal: String,
    /// Where from; empty when that is not known any more.
    pub remote: String,
    /// Tenant it is about; empty for none.
    pub tenant: String,
    /// What was asked.
    pub operation: String,
    /// Of what.
    pub target: String,
    /// What became of it.
    pub result: State,
    /// Version of the metadata afterwards.
    pub version: u64,
}

/// Who asked for what. Queries: `principal`, `operation`, `result`, `from`, `to`.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// How the list was asked for; `search` is about the target.
    pub list: Listing,
    /// Principal asked for.
    pub principal: String,
    /// Operation asked for.
    pub operation: String,
    /// Result asked for; empty for each.
    pub result: String,
    /// Results to choose from.
    pub results: Vec<String>,
    /// From this day on, as it was written.
    pub from: String,
    /// Until this day, as it was written.
    pub to: String,
    /// What was wrong with what was asked for; empty for nothing.
    pub problem: String,
    /// The rows, newest first.
    pub rows: Vec<AuditRow>,
    /// What they are worth.
    pub fresh: Fresh,
}

page!(Audit, "audit.html", "audit", live: false, |_page| "Audit log");

/// One series of a metric.
#[derive(Clone, Debug, Serialize)]
pub struct MetricRow {
    /// Labels as `name="value"`.
    pub labels: Vec<String>,
    /// As the scrape has it.
    pub value: String,
}

/// One metric.
#[derive(Clone, Debug, Serialize)]
pub struct MetricFamily {
    /// What it is called.
    pub name: String,
    /// `counter`, `gauge`, `histogram`.
    pub sort: String,
    /// Unit; empty for none.
    pub unit: String,
    /// What it says.
    pub help: String,
    /// How many series it has.
    pub series: u64,
    /// Those that are shown.
    pub rows: Vec<MetricRow>,
}

/// Metrics by name.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// How they were asked for; `search` is about names and labels.
    pub list: Listing,
    /// The metrics.
    pub families: Vec<MetricFamily>,
    /// What they are worth.
    pub fresh: Fresh,
}

page!(Metrics, "metrics.html", "metrics", live: false, |_page| "Metrics");

/// One point of a percentile curve.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Share of what was measured that is at most this slow, in millionths; a million is
    /// the slowest of all.
    pub at_millionths: u32,
    /// Latency, microseconds.
    pub latency_us: u64,
}

/// Latency over percentile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// What was measured.
    pub name: String,
    /// From the fastest to the slowest.
    pub points: Vec<CurvePoint>,
    /// The slowest took longer than the last point says; how much longer is not known.
    pub is_over: bool,
}

/// One kind of request in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyRow {
    /// What was measured.
    pub name: String,
    /// How many.
    pub samples: u64,
    /// Half of them took at most that.
    pub p50: Quantity,
    /// 9 of 10.
    pub p90: Quantity,
    /// 99 of 100.
    pub p99: Quantity,
    /// 999 of 1,000.
    pub p999: Quantity,
    /// The slowest.
    pub max: Quantity,
}

/// Latencies by percentile.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// From where to where, in a sentence: what the numbers include and what they do not.
    pub measured: String,
    /// How exact they are, in a sentence.
    pub exact: String,
    /// How long was measured, milliseconds.
    pub window_ms: u64,
    /// Windows to choose from, milliseconds; query `window_ms`.
    pub windows_ms: Vec<u64>,
    /// Curves; at most 6 are drawn.
    pub curves: Vec<Curve>,
    /// The same in numbers.
    pub rows: Vec<LatencyRow>,
    /// What they are worth.
    pub fresh: Fresh,
}

page!(Latency, "latency.html", "latency", live: false, |_page| "Latency");
