//! What was found, as it is printed and published.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest time that is told; what takes longer is given up before.
const TOOK_MAX: Duration = Duration::from_secs(120);

/// Everything of one question.
pub(super) struct Section {
    pub(super) title: &'static str,
    /// How it was measured, and what the figures leave out.
    pub(super) note: &'static str,
    pub(super) rows: Vec<Row>,
}

impl Section {
    pub(super) const fn new(title: &'static str, note: &'static str) -> Self {
        Self {
            title,
            note,
            rows: Vec::new(),
        }
    }

    /// Times, for orientation.
    pub(super) fn times(&mut self, what: &str, took: &Histogram<u64>) {
        self.rows.push(Row::told(what, spread(took)));
    }

    /// Times, whose `quantile` is to be at most `most`.
    pub(super) fn bounded(
        &mut self,
        what: &str,
        took: &Histogram<u64>,
        (quantile, most): (f64, Duration),
    ) {
        let found = took.value_at_quantile(quantile);
        let held = !took.is_empty() && u128::from(found) <= most.as_micros();
        let name = match quantile {
            1.0 => "max".to_owned(),
            part => format!("p{:.0}", part * 100.0),
        };
        self.rows.push(Row {
            what: what.to_owned(),
            found: spread(took),
            wanted: format!("{name} ≤ {} ms", most.as_millis()),
            held: Some(held),
        });
    }

    /// How often the 99th percentile of some times goes into that of others. Of nothing there
    /// is none, and no bound is held.
    pub(super) fn p99_over(
        &mut self,
        what: &str,
        (took, before): (&Histogram<u64>, &Histogram<u64>),
        wanted: Wanted,
    ) {
        let p99 = |of: &Histogram<u64>| match of.is_empty() {
            true => f64::NAN,
            false => of.value_at_quantile(0.99) as f64,
        };
        self.figure(what, p99(took) / p99(before), "×", wanted);
    }

    /// A figure with its unit.
    pub(super) fn figure(&mut self, what: &str, found: f64, unit: &str, wanted: Wanted) {
        let (wanted, held) = match wanted {
            Wanted::Nothing => (String::new(), None),
            Wanted::AtMost(most) => (format!("≤ {most} {unit}"), Some(found <= most)),
            Wanted::AtLeast(least) => (format!("≥ {least} {unit}"), Some(found >= least)),
        };
        self.rows.push(Row {
            what: what.to_owned(),
            found: format!("{found:.2} {unit}"),
            wanted,
            held,
        });
    }
}

/// The bound of a figure.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Nothing,
    AtMost(f64),
    AtLeast(f64),
}

/// One line.
pub(super) struct Row {
    what: String,
    found: String,
    wanted: String,
    held: Option<bool>,
}

impl Row {
    fn told(what: &str, found: String) -> Self {
        Self {
            what: what.to_owned(),
            found,
            wanted: String::new(),
            held: None,
        }
    }
}

/// Of microseconds up to [`TOOK_MAX`]. One that grows by itself does not when what is
/// too long is taken for its longest.
pub(super) fn histogram() -> Histogram<u64> {
    let most = u64::try_from(TOOK_MAX.as_micros()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1, most, 3).expect("three digits")
}

pub(super) fn record(into: &mut Histogram<u64>, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    into.saturating_record(micros);
}

#[allow(clippy::cast_precision_loss)] // microseconds of a measurement
pub(super) fn spread(found: &Histogram<u64>) -> String {
    if found.is_empty() {
        return "nothing".to_owned();
    }
    let ms = |micros: u64| micros as f64 / 1000.0;
    format!(
        "p50 {:.3}, p99 {:.3}, max {:.3} ms ({})",
        ms(found.value_at_quantile(0.5)),
        ms(found.value_at_quantile(0.99)),
        ms(found.max()),
        found.len()
    )
}

/// For people who wait for it.
pub(super) fn plain(section: &Section) -> String {
    let mut out = format!("{}\n", section.title);
    for row in &section.rows {
        let verdict = match row.held {
            None => String::new(),
            Some(true) => format!("   wanted {}: held", row.wanted),
            Some(false) => format!("   wanted {}: MISSED", row.wanted),
        };
        let _ = writeln!(out, "  {}: {}{verdict}", row.what, row.found);
    }
    out
}

/// For `docs/benchmarks.md`.
pub(super) fn markdown(sections: &[Section]) -> String {
    let mut out = String::new();
    for section in sections {
        let _ = writeln!(
            out,
            "\n### {}\n\n{}\n\n| what | found | wanted | |\n|---|---|---|---|",
            section.title, section.note
        );
        for row in &section.rows {
            let held = match row.held {
                None => "",
                Some(true) => "held",
                Some(false) => "**missed**",
            };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {held} |",
                row.what, row.found, row.wanted
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Section, Wanted, histogram, markdown, record};

    #[test]
    fn what_took_seconds_is_told_as_seconds() {
        let mut found = histogram();
        record(&mut found, Duration::from_micros(100));
        record(&mut found, Duration::from_secs(5));
        assert!(found.max() >= 5_000_000, "{}", found.max());
    }

    #[test]
    fn a_bound_is_held_or_missed_and_nothing_found_holds_none() {
        let mut section = Section::new("Title", "Note.");
        let mut took = histogram();
        let bound = (0.99, Duration::from_millis(50));
        section.bounded("nothing", &took, bound);
        record(&mut took, Duration::from_millis(20));
        section.bounded("quick", &took, bound);
        record(&mut took, Duration::from_millis(80));
        section.bounded("slow", &took, bound);
        section.figure("rate", 1_999.0, "/s", Wanted::AtLeast(2_000.0));
        section.figure("size", 64.0, "MiB", Wanted::AtMost(64.0));
        section.figure("all", 3.0, "s", Wanted::Nothing);
        let mut longer = histogram();
        for _ in 0..200 {
            record(&mut longer, Duration::from_millis(87));
        }
        let most = Wanted::AtMost(1.1);
        section.p99_over("1.09", (&longer, &took), most);
        record(&mut longer, Duration::from_millis(96));
        record(&mut longer, Duration::from_millis(96));
        record(&mut longer, Duration::from_millis(96));
        section.p99_over("1.2", (&longer, &took), most);
        section.p99_over("nothing", (&longer, &histogram()), most);
        section.p99_over("nothing", (&histogram(), &longer), most);
        section.p99_over("beside", (&longer, &took), Wanted::Nothing);
        let held: Vec<_> = section.rows.iter().map(|row| row.held).collect();
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(held, [no, yes, no, no, yes, None, yes, no, no, no, None]);
        let text = markdown(&[section]);
        assert!(
            text.contains("| size | 64.00 MiB | ≤ 64 MiB | held |"),
            "{text}"
        );
        assert!(
            text.contains("| 1.2 | 1.20 × | ≤ 1.1 × | **missed** |"),
            "{text}"
        );
    }
}
