//! How long requests take, by percentile.

use pinion_admin_ui::model::{Kind, Latency as Page};
use pinion_node::facts::Latency;
use pinion_node::{SAMPLE_EVERY, TimedOp};

use super::resources::fresh;
use crate::error::Failure;
use crate::limits::HISTORY_SAMPLES;
use crate::observer::History;
use crate::ui::context::{PageContext, Shown};
use crate::ui::data::lately;
use crate::ui::data::latency::{EXACT, curve, row};
use crate::views::At;

/// Curves that are drawn; the table has the others.
const CURVES_MAX: usize = 6;

/// Seconds to choose from; the last is as long as samples are kept.
const WINDOWS_S: [usize; 3] = [10, 60, HISTORY_SAMPLES - 1];

/// The one that is shown where none is chosen.
const WINDOW_S: usize = WINDOWS_S[1];

/// `/ui/latency`
pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    context.sees_cluster()?;
    let asked: Option<usize> = context.param("window_ms").parse().ok();
    let mut windows = WINDOWS_S.into_iter();
    let seconds = windows
        .find(|one| asked == Some(one * 1_000))
        .unwrap_or(WINDOW_S);
    let history = context.api.observer.history();
    let mut all = measured(&history, seconds);
    // Those that were measured most are the ones people ask about.
    all.sort_by_key(|(_, latency)| core::cmp::Reverse(latency.count));
    let curves = all.iter().take(CURVES_MAX);
    let newest = history.cores.iter().filter_map(|samples| samples.back());
    let taken = newest.map(|sample| sample.at).max().unwrap_or(context.now);
    Ok(Page {
        measured: format!(
            "Of about one request in {SAMPLE_EVERY}: from the turn of the core that read it to \
             the end of the turn that gave its answer to the socket. Of each write of a log: \
             until it was durable. What waits in the kernel before, and the network, are not \
             in it."
        ),
        exact: EXACT.to_owned(),
        window_ms: seconds as u64 * 1_000,
        windows_ms: WINDOWS_S.map(|one| one as u64 * 1_000).to_vec(),
        curves: curves.map(|(name, latency)| curve(name, latency)).collect(),
        rows: all
            .iter()
            .filter_map(|(name, latency)| row(name, latency))
            .collect(),
        fresh: fresh(context, Kind::Live, At(taken)),
    }
    .into())
}

/// What was measured on all cores together in the last seconds, with its name.
fn measured(history: &History, seconds: usize) -> Vec<(&'static str, Latency)> {
    let cores = &history.cores;
    let mut all = vec![(
        "Write of a log",
        lately::measured(cores, seconds, |one| {
            one.pump.disk.as_ref().map(|disk| &disk.write)
        }),
    )];
    for op in TimedOp::ALL {
        let latency = lately::measured(cores, seconds, |one| Some(&one.pump.requests[op.index()]));
        all.push((name(op), latency));
    }
    all.retain(|(_, latency)| latency.count > 0);
    all
}

const fn name(op: TimedOp) -> &'static str {
    match op {
        TimedOp::Other => "Other requests",
        TimedOp::Publish => "Publish",
        TimedOp::Fetch => "Fetch",
        TimedOp::QueuePut => "Queue: put",
        TimedOp::QueueTake => "Queue: take",
        TimedOp::QueueSettle => "Queue: settle",
        TimedOp::CacheRead => "Cache: read",
        TimedOp::CacheWrite => "Cache: write",
    }
}
