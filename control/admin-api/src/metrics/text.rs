//! Families as text: the format of Prometheus, version 0.0.4, and OpenMetrics 1.0.

use core::fmt::Write as _;

use super::family::{Family, Kind, Sample, Sizes, Unit, Value};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Its media type.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a client that says `Accept` gets: OpenMetrics if it takes that at least as
    /// gladly as text, and otherwise text, also where it takes neither, as every client
    /// reads that.
    pub(crate) fn accepted(accept: &str) -> Self {
        let (mut open, mut plain) = (0_u32, 0_u32);
        for one in accept.split(',') {
            let mut parts = one.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut known) = (1000, true);
            for part in parts {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = quality(value.trim()),
                    // 0.0.1 differs in nothing that is written here.
                    "version" if media == "application/openmetrics-text" => {
                        known = matches!(value.trim(), "1.0.0" | "0.0.1");
                    }
                    _ => {}
                }
            }
            let mark = match media.as_str() {
                "application/openmetrics-text" if known => &mut open,
                "text/plain" | "text/*" | "*/*" => &mut plain,
                _ => continue,
            };
            *mark = (*mark).max(weight);
        }
        if open > 0 && open >= plain {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

/// A weight in thousandths (RFC 9110 §12.4.2); what is none is no wish.
fn quality(text: &str) -> u32 {
    let value: f32 = text.parse().unwrap_or(0.0);
    if !(0.0..=1.0).contains(&value) {
        return 0;
    }
    // At most 1000.
    #[expect(clippy::cast_possible_truncation, reason = "0 to 1000")]
    let thousandths = (value * 1000.0) as u32;
    thousandths
}

/// All of it, as it goes over the wire.
pub(crate) fn render(families: &[Family], format: Format) -> String {
    // As much as the most that a node of a few cores tells.
    let mut out = String::with_capacity(256 << 10);
    for family in families {
        head(&mut out, family, format);
        for sample in &family.samples {
            series(&mut out, family, sample);
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn head(out: &mut String, family: &Family, format: Format) {
    let def = family.def;
    let name = match format {
        Format::Prometheus => def.name,
        Format::OpenMetrics => def.stem(),
    };
    out.push_str("# HELP ");
    out.push_str(name);
    out.push(' ');
    for char in def.help.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            // Prometheus would show the backslash.
            '"' if format == Format::OpenMetrics => out.push_str("\\\""),
            char => out.push(char),
        }
    }
    line(out, format_args!("\n# TYPE {name} {}\n", def.kind.text()));
    if def.unit != Unit::None {
        line(out, format_args!("# UNIT {name} {}\n", def.unit.text()));
    }
}

fn series(out: &mut String, family: &Family, sample: &Sample) {
    let def = family.def;
    match &sample.value {
        Value::Sizes(sizes) => histogram(out, family, sample, sizes),
        Value::Count(count) => {
            named(out, def.name, "", family, sample, None);
            line(out, format_args!(" {count}\n"));
        }
        Value::Number(value) => {
            named(out, def.name, "", family, sample, None);
            out.push(' ');
            number(out, *value);
            out.push('\n');
        }
    }
}

fn histogram(out: &mut String, family: &Family, sample: &Sample, sizes: &Sizes) {
    let name = family.def.name;
    debug_assert_eq!(family.def.kind, Kind::Histogram, "{name}");
    for (bound, count) in &sizes.buckets {
        named(out, name, "_bucket", family, sample, Some(*bound));
        line(out, format_args!(" {count}\n"));
    }
    named(out, name, "_bucket", family, sample, Some(f64::INFINITY));
    line(out, format_args!(" {}\n", sizes.count));
    named(out, name, "_sum", family, sample, None);
    out.push(' ');
    number(out, sizes.sum);
    out.push('\n');
    named(out, name, "_count", family, sample, None);
    line(out, format_args!(" {}\n", sizes.count));
}

/// The name of a series with its labels.
fn named(
    out: &mut String,
    name: &str,
    suffix: &str,
    family: &Family,
    sample: &Sample,
    bound: Option<f64>,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut open = '{';
    for (label, value) in family.def.labels.iter().zip(&sample.labels) {
        out.push(open);
        open = ',';
        out.push_str(label);
        out.push_str("=\"");
        escape(out, value);
        out.push('"');
    }
    if let Some(bound) = bound {
        out.push(open);
        open = ',';
        out.push_str("le=\"");
        number(out, bound);
        out.push('"');
    }
    if open == ',' {
        out.push('}');
    }
}

fn escape(out: &mut String, value: &str) {
    for char in value.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            char => out.push(char),
        }
    }
}

fn number(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let start = out.len();
        line(out, format_args!("{value}"));
        // A bound that is a whole number has a point in OpenMetrics.
        if !out[start..].contains('.') {
            out.push_str(".0");
        }
    }
}

fn line(out: &mut String, what: core::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::super::family::{Def, Families};
    use super::*;

    const JOBS: Def = Def {
        name: "jobs_total",
        kind: Kind::Counter,
        unit: Unit::None,
        labels: &["who"],
        help: "Jobs \\ \"done\"",
    };
    const SIZE: Def = Def {
        name: "size_bytes",
        kind: Kind::Histogram,
        unit: Unit::Bytes,
        labels: &[],
        help: "Sizes",
    };

    fn families() -> Vec<Family> {
        static JOBS: Def = self::JOBS;
        static SIZE: Def = self::SIZE;
        let mut all = Families::default();
        all.put(&JOBS, &["a\"b\\c\nd"], 3_u64);
        let bounds = [1.0, 2.5].into_iter();
        all.put(&SIZE, &[], Sizes::new(bounds, &[2, 1, 4], 30.5));
        all.put(&JOBS, &["e"], 0.25);
        all.into_vec()
    }

    #[test]
    fn prometheus_reads_it_as_it_stands() {
        let expected = "\
# HELP jobs_total Jobs \\\\ \"done\"
# TYPE jobs_total counter
jobs_total{who=\"a\\\"b\\\\c\\nd\"} 3
jobs_total{who=\"e\"} 0.25
# HELP size_bytes Sizes
# TYPE size_bytes histogram
# UNIT size_bytes bytes
size_bytes_bucket{le=\"1.0\"} 2
size_bytes_bucket{le=\"2.5\"} 3
size_bytes_bucket{le=\"+Inf\"} 7
size_bytes_sum 30.5
size_bytes_count 7
";
        assert_eq!(render(&families(), Format::Prometheus), expected);
    }

    #[test]
    fn openmetrics_names_counters_by_their_stem_and_ends() {
        let text = render(&families(), Format::OpenMetrics);
        assert!(text.starts_with(
            "# HELP jobs Jobs \\\\ \\\"done\\\"\n# TYPE jobs counter\njobs_total{who="
        ));
        assert!(text.contains("# UNIT size_bytes bytes\n"));
        assert!(text.ends_with("size_bytes_count 7\n# EOF\n"));
    }

    #[test]
    fn a_client_gets_what_it_takes_most_gladly() {
        let of = Format::accepted;
        let (text, open) = (Format::Prometheus, Format::OpenMetrics);
        assert_eq!(of(""), text);
        assert_eq!(of("*/*"), text);
        assert_eq!(of("application/openmetrics-text"), open);
        // What Prometheus sends.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                          version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(of(prometheus), open);
        assert_eq!(
            of("application/openmetrics-text;q=0.3, text/plain;q=0.5"),
            text
        );
        assert_eq!(of("application/openmetrics-text;q=0"), text);
        assert_eq!(of("application/openmetrics-text;version=2.0.0"), text);
        assert_eq!(of("Application/OpenMetrics-Text; Q=0.2"), open);
        assert_eq!(of("text/html;q=2,,;;="), text);
    }

    #[test]
    fn numbers_are_written_for_both() {
        let of = |value| {
            let mut out = String::new();
            number(&mut out, value);
            out
        };
        assert_eq!(of(0.00001), "0.00001");
        assert_eq!(of(10.0), "10.0");
        assert_eq!(of(f64::INFINITY), "+Inf");
        assert_eq!(of(f64::NEG_INFINITY), "-Inf");
        assert_eq!(of(f64::NAN), "NaN");
    }
}
