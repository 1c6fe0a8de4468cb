//! What a scrape of `/metrics` gets, by name.

use pinion_admin_ui::format::{count, decimal};
use pinion_admin_ui::model::{Kind, MetricFamily, MetricRow, Metrics, Sort};

use super::list::{listing, search};
use super::resources::{fresh, pages};
use crate::error::Failure;
use crate::limits::RESOURCES_TOLD_MAX;
use crate::metrics::{self, Family, Sample, Value};
use crate::ui::context::{PageContext, Shown};
use crate::views::At;

/// Families of one page. A page of all of them would be twice what a page may weigh.
const FAMILIES_MAX: usize = 40;

/// Series that are shown of a family. Searched for by its name it is alone on its page, and
/// shows [`SERIES_MAX`].
const SERIES_SHOWN: usize = 5;

/// Series that are shown of a family that is alone.
const SERIES_MAX: usize = 100;

/// `/ui/metrics`
pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    context.sees_cluster()?;
    let families = metrics::gather(&context.api, RESOURCES_TOLD_MAX).await;
    let wanted = search(context).to_ascii_lowercase();
    let mut found: Vec<MetricFamily> = families
        .iter()
        .filter_map(|family| of_family(family, &wanted))
        .collect();
    let total = found.len();
    let skip: usize = context.param("page").parse().unwrap_or(0);
    let most = if total == 1 { SERIES_MAX } else { SERIES_SHOWN };
    found = found.into_iter().skip(skip).take(FAMILIES_MAX).collect();
    for family in &mut found {
        family.rows.truncate(most);
    }
    let mut pages = pages(skip, found.len(), total);
    // Its parts are smaller than those of lists of rows.
    pages.previous = pages
        .previous
        .map(|_| match skip.saturating_sub(FAMILIES_MAX) {
            0 => String::new(),
            skip => skip.to_string(),
        });
    let taken = context.api.observer.look().await.taken_at;
    Ok(Metrics {
        list: listing(context, Sort::default(), pages),
        families: found,
        fresh: fresh(context, Kind::Live, At(taken)),
    }
    .into())
}

/// The family, if it or some of its series are searched for: what is found by its name is
/// shown with all of them.
fn of_family(family: &Family, wanted: &str) -> Option<MetricFamily> {
    let def = family.def;
    let by_name = def.name.contains(wanted);
    let rows = family.samples.iter().map(|sample| row(def.labels, sample));
    let rows: Vec<MetricRow> = rows
        .filter(|row| by_name || row.labels.iter().any(|label| label.contains(wanted)))
        .collect();
    if rows.is_empty() && !(by_name && family.samples.is_empty()) {
        return None;
    }
    Some(MetricFamily {
        name: def.name.to_owned(),
        sort: def.kind.text().to_owned(),
        unit: def.unit.text().to_owned(),
        help: def.help.to_owned(),
        series: rows.len() as u64,
        rows,
    })
}

fn row(names: &[&str], sample: &Sample) -> MetricRow {
    let labels = names.iter().zip(&sample.labels);
    MetricRow {
        labels: labels
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect(),
        value: match &sample.value {
            Value::Count(number) => count(*number).to_string(),
            Value::Number(number) => decimal(*number).to_string(),
            Value::Sizes(sizes) => {
                format!("{} in all, sum {}", count(sizes.count), decimal(sizes.sum))
            }
        },
    }
}
