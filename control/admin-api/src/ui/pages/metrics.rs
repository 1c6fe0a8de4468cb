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
    let found: Vec<Found<'_>> = families
        .iter()
        .filter_map(|family| Found::of(family, &wanted))
        .collect();
    let total = found.len();
    let skip: usize = context.param("page").parse().unwrap_or(0);
    let most = if total == 1 { SERIES_MAX } else { SERIES_SHOWN };
    // There are thousands of series, of which a page shows a few.
    let shown = found.iter().skip(skip).take(FAMILIES_MAX);
    let found: Vec<MetricFamily> = shown.map(|one| one.shown(most)).collect();
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

/// A family that is searched for, or some of whose series are: what is found by its name is
/// shown with all of them.
struct Found<'a> {
    family: &'a Family,
    series: Vec<&'a Sample>,
}

impl<'a> Found<'a> {
    fn of(family: &'a Family, wanted: &str) -> Option<Self> {
        let def = family.def;
        let by_name = def.name.contains(wanted);
        let is_wanted = |sample: &&Sample| {
            by_name || labels(def.labels, sample).any(|label| label.contains(wanted))
        };
        let series: Vec<&Sample> = family.samples.iter().filter(is_wanted).collect();
        (by_name || !series.is_empty()).then_some(Self { family, series })
    }

    fn shown(&self, most: usize) -> MetricFamily {
        let def = self.family.def;
        let rows = self.series.iter().take(most);
        MetricFamily {
            name: def.name.to_owned(),
            sort: def.kind.text().to_owned(),
            unit: def.unit.text().to_owned(),
            help: def.help.to_owned(),
            series: self.series.len() as u64,
            rows: rows.map(|sample| row(def.labels, sample)).collect(),
        }
    }
}

fn labels(names: &[&str], sample: &Sample) -> impl Iterator<Item = String> {
    let labels = names.iter().zip(&sample.labels);
    labels.map(|(name, value)| format!("{name}=\"{value}\""))
}

fn row(names: &[&str], sample: &Sample) -> MetricRow {
    MetricRow {
        labels: labels(names, sample).collect(),
        value: match &sample.value {
            Value::Count(number) => count(*number).to_string(),
            Value::Number(number) => decimal(*number).to_string(),
            Value::Sizes(sizes) => {
                format!("{} in all, sum {}", count(sizes.count), decimal(sizes.sum))
            }
        },
    }
}
