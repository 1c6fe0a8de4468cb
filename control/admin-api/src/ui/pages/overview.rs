//! The first page: is it well, what asks for somebody, how busy is it.

use pinion_admin_ui::format;
use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{
    CoreBusy, DomainRow, Issue, Kind, Level, Overview, Quantity, Series, StatusBand, Tile, Unit,
};
use pinion_node::TimedOp;
use pinion_node::facts::{CoreFacts, Latency, Within};
use pinion_types::ResourceKind;

use super::resources::fresh;
use crate::error::Failure;
use crate::observer::{History, Sample, Snapshot};
use crate::ui::context::{PageContext, Shown};
use crate::ui::data::latency::{micros, quantity};
use crate::ui::data::{issues, lately};
use crate::views::{At, stats};

/// `/`
pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let api = &context.api;
    let whole = context.access.tenant().is_none();
    let snapshot = api.observer.look().await;
    let (issues, asking) = told(context).await;
    let at = At(snapshot.taken_at);
    let history = api.observer.history();
    Ok(Overview {
        status: status(context, &snapshot, &issues, asking),
        issues,
        whole,
        tiles: if whole {
            tiles(&snapshot, &history)
        } else {
            Vec::new()
        },
        tiles_fresh: fresh(context, Kind::Live, at),
        cores: if whole {
            cores(&snapshot, &history)
        } else {
            Vec::new()
        },
        cores_fresh: fresh(context, Kind::Live, at),
        cores_step_ms: 1_000,
        // Without a control plane nobody knows what there is, and the issues say so.
        domains: domains(context).await.unwrap_or_default(),
        domains_fresh: fresh(context, Kind::Mixed, at),
    }
    .into())
}

/// What asks for somebody, as far as who looks may know, and how much there is in all.
async fn told(context: &PageContext) -> (Vec<Issue>, usize) {
    let seen = context.api.board.seen(&context.api).await;
    let access = &context.access;
    let own = seen.iter().filter(|(finding, _)| match access.tenant() {
        None => true,
        Some(_) => finding.tenant().is_some_and(|tenant| access.sees(tenant)),
    });
    issues::told(own, context.now.0)
}

/// How many issues ask for somebody, for the navigation.
pub(super) async fn asking(context: &PageContext) -> u64 {
    told(context).await.1 as u64
}

fn status(
    context: &PageContext,
    snapshot: &Snapshot,
    issues: &[Issue],
    asking: usize,
) -> StatusBand {
    let worst = issues.iter().map(|issue| issue.level).max();
    let level = worst.unwrap_or(Level::Ok);
    let headline = match (level, asking) {
        (Level::Ok, _) => "All is well".to_owned(),
        (Level::Info, _) => "All is well, with something to know".to_owned(),
        (Level::Bad, 1) => "Something is broken".to_owned(),
        (_, 1) => "One thing asks for somebody".to_owned(),
        (_, count) => format!("{count} things ask for somebody"),
    };
    let answered = snapshot.cores.len();
    let all = answered + snapshot.missing.len();
    let node = &context.api.node;
    let detail = if context.access.tenant().is_some() {
        format!("This is what node {node} knows of your tenant.")
    } else if !snapshot.missing.is_empty() {
        format!("Node {node}: {answered} of {all} data cores answer.")
    } else if all == 1 {
        format!("Node {node} runs; its data core answers.")
    } else {
        format!("Node {node} runs; all of its {all} data cores answer.")
    };
    StatusBand {
        level,
        headline,
        detail,
        fresh: fresh(context, Kind::Live, At(snapshot.taken_at)),
    }
}

// ------------------------------------------------------------------------------- tiles

/// Seconds that latencies of tiles are of.
const MINUTE: usize = 60;

fn tiles(snapshot: &Snapshot, history: &History) -> Vec<Tile> {
    let cores = &history.cores;
    let sum = |of: fn(&CoreFacts) -> u64| snapshot.cores.iter().map(of).sum::<u64>();
    let messages = lately::rates(cores, |one| one.stats.published + one.stats.enqueued);
    let delivered = lately::rates(cores, |one| one.stats.delivered_bytes);
    let requests = lately::rates(cores, |one| one.stats.requests);
    let refused = lately::rates(cores, |one| one.stats.refused);
    let connections = lately::gauges(cores, |one| one.connections);
    let writes = lately::rates(cores, |one| {
        one.pump.disk.as_ref().map_or(0, |disk| disk.write.count)
    });
    let rate =
        |series: &Series| lately::newest(series).map_or(Quantity::Unknown, Quantity::PerSecond);
    let refused = lately::newest(&refused).unwrap_or(0.0);
    let subscriptions = sum(|core| core.subscriptions);
    let commit = lately::measured(cores, MINUTE, |one| {
        one.pump.disk.as_ref().map(|disk| &disk.write)
    });
    let publish: fn(&Sample) -> Option<&Latency> =
        |one| Some(&one.pump.requests[TimedOp::Publish.index()]);
    let answer = lately::measured(cores, MINUTE, publish);
    let slow = lately::quantiles(cores, 0.99, publish);
    let p99 = |latency: &Latency| latency.quantile(0.99);
    let text = |latency: &Latency| match p99(latency) {
        Some(Within::AtMost(time)) => {
            format!("99 of 100 within {}", format::micros(micros(time)))
        }
        Some(Within::MoreThan(time)) => {
            format!("1 of 100 above {}", format::micros(micros(time)))
        }
        None => "none in the last minute".to_owned(),
    };
    vec![
        tile(
            "in",
            "Messages in",
            rate(&messages),
            (messages, Unit::PerSecond),
            "records and messages taken".to_owned(),
        ),
        tile(
            "out",
            "Delivered",
            lately::newest(&delivered).map_or(Quantity::Unknown, Quantity::BytesPerSecond),
            (delivered, Unit::BytesPerSecond),
            format!("to {} subscriptions", format::count(subscriptions)),
        ),
        tile(
            "requests",
            "Requests",
            rate(&requests),
            (requests, Unit::PerSecond),
            format!("{} refused", format::per_second(refused)),
        ),
        tile(
            "connections",
            "Connections",
            Quantity::Count(sum(|core| core.connections)),
            (connections, Unit::Count),
            format!(
                "{} partitions are open",
                format::count(sum(|core| core.partitions))
            ),
        ),
        tile(
            "commits",
            "Commits",
            rate(&writes),
            (writes, Unit::PerSecond),
            text(&commit),
        ),
        tile(
            "latency",
            "Publish, p99",
            p99(&answer).map_or(Quantity::Unknown, quantity),
            (slow, Unit::Micros),
            format!(
                "of {} timed in the last minute; the line goes by seconds",
                format::count(answer.count)
            ),
        ),
    ]
}

fn tile(
    key: &str,
    label: &str,
    value: Quantity,
    (series, unit): (Series, Unit),
    note: String,
) -> Tile {
    Tile {
        key: key.to_owned(),
        label: label.to_owned(),
        value,
        series,
        unit,
        note,
    }
}

// ------------------------------------------------------------------------------- cores

fn cores(snapshot: &Snapshot, history: &History) -> Vec<CoreBusy> {
    let one = |core: &CoreFacts| {
        let samples = history.cores.get(usize::from(core.core.0));
        let (busy, stalls) = samples.map_or((Vec::new(), 0), |samples| {
            (
                lately::busy_permille(samples),
                lately::stalls_of_minute(samples),
            )
        });
        let before = snapshot.before.as_deref();
        let before = before.and_then(|all| all.cores.iter().find(|one| one.core == core.core));
        let requests = before
            .and_then(|before| snapshot.per_second(core.stats.requests, before.stats.requests));
        CoreBusy {
            core: core.core.0,
            control: false,
            busy_permille: busy.last().copied().map(u64::from),
            history_permille: busy,
            connections: Some(core.connections),
            requests_per_s: requests,
            stalls: Some(stalls),
            mailbox_depth: core.mails_waiting,
        }
    };
    let data = snapshot.cores.iter().map(one);
    data.chain(control(snapshot, history)).collect()
}

/// The control core, which comes last; nothing where nobody knows how busy it is.
fn control(snapshot: &Snapshot, history: &History) -> Option<CoreBusy> {
    let busy = lately::control_permille(&history.control);
    let last = *busy.last()?;
    Some(CoreBusy {
        core: u16::try_from(history.cores.len()).unwrap_or(u16::MAX),
        control: true,
        busy_permille: Some(last.into()),
        history_permille: busy,
        connections: None,
        requests_per_s: None,
        stalls: None,
        mailbox_depth: snapshot.cores.iter().map(|core| core.control_waiting).sum(),
    })
}

// ----------------------------------------------------------------------------- domains

async fn domains(context: &PageContext) -> Result<Vec<DomainRow>, Failure> {
    let kept = stats::kept(&context.api, &context.who).await?;
    let row = |one: stats::Kept| {
        let (domain, place) = match one.kind {
            ResourceKind::Stream => ("Streams", Place::Streams),
            ResourceKind::Queue => ("Queues", Place::Queues),
            ResourceKind::Cache => ("Caches", Place::Caches),
        };
        DomainRow {
            domain: domain.to_owned(),
            durable: one.durable,
            place,
            resources: one.resources,
            items: one.items,
            size_bytes: one.bytes,
            in_per_s: one.in_per_second,
            out_per_s: one.out_per_second,
        }
    };
    Ok(kept.map(row).to_vec())
}
