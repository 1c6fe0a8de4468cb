//! Curves as SVG: latency by percentile, and latency by throughput.
//!
//! Pure functions from named curves to the text of one file. The file needs
//! nothing else: no script, no font, no library. It follows the reader's
//! light or dark scheme, scales with its frame, tells curves apart by colour
//! *and* dash, and says every curve's figures in its `<title>`. Start reading
//! with [`percentiles`] and [`by_load`].

use std::fmt::Write;

use pinion_cli::bench::latency::Latency;

/// Curves of one chart. More would need further colours and dashes that can
/// still be told apart, and a legend that covers what it explains.
pub const CURVES_MAX: usize = 6;

/// Points of one curve. A run's distribution has a few hundred; more makes the
/// file larger than what a screen can show.
pub const POINTS_MAX: usize = 2048;

/// Most nines of a percentile: 99.9999 %. A run has too few requests for more.
const NINES_MAX: f64 = 6.0;

/// Fewest nines the axis spans, however short the curves are: 99 %.
const NINES_MIN: f64 = 2.0;

// The frame in units of the drawing, not of the screen.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 564.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 916.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 476.0;

/// Why there is no chart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlotError {
    /// No curve has a point that the axes can show.
    #[error("there is nothing to plot")]
    Empty,
    /// More than [`CURVES_MAX`] curves.
    #[error("{given} curves are more than the {CURVES_MAX} that can be told apart")]
    Curves {
        /// How many there were.
        given: usize,
    },
    /// More than [`POINTS_MAX`] points in a curve.
    #[error("{given} points in one curve are more than {POINTS_MAX}")]
    Points {
        /// How many there were.
        given: usize,
    },
}

/// Latencies of one subject by percentile.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Who.
    pub name: String,
    /// `(quantile, microseconds)`, both rising; quantiles from 0 to below 1.
    pub points: Vec<(f64, f64)>,
    /// The longest, microseconds.
    pub max_us: f64,
}

impl Distribution {
    /// Of what `latency` has counted.
    #[must_use]
    pub fn of(name: &str, latency: &Latency) -> Self {
        let mut text = Vec::new();
        latency
            .write_hgrm(&mut text)
            .expect("writing to memory does not fail");
        let mut points = Vec::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let mut words = line.split_ascii_whitespace().map(str::parse::<f64>);
            // The last row, of quantile 1, has no place on the axis.
            if let (Some(Ok(us)), Some(Ok(quantile))) = (words.next(), words.next())
                && quantile < 1.0
            {
                points.push((quantile, us));
            }
        }
        Self {
            name: name.to_owned(),
            points,
            max_us: latency.summary().max_us,
        }
    }

    /// Microseconds at the first point at or above `quantile`, else the longest.
    #[must_use]
    pub fn at(&self, quantile: f64) -> f64 {
        self.points
            .iter()
            .find(|(at, _)| *at >= quantile)
            .map_or(self.max_us, |&(_, us)| us)
    }
}

/// What one subject did at one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadPoint {
    /// Answers per second.
    pub rate: f64,
    /// Median, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
}

/// Latencies of one subject by throughput.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadCurve {
    /// Who.
    pub name: String,
    /// In the order in which the rate was raised. Beyond its peak a server
    /// answers less than it is asked, and the curve turns back.
    pub points: Vec<LoadPoint>,
}

/// Latency against percentile, each nine as wide as the one before it; both
/// axes are logarithmic.
///
/// # Errors
/// [`PlotError`]; points that a logarithm does not have are left out.
pub fn percentiles(title: &str, distributions: &[Distribution]) -> Result<String, PlotError> {
    let curves: Vec<Curve> = distributions
        .iter()
        .map(|distribution| Curve {
            label: distribution.name.clone(),
            told: format!(
                "{}: p50 {}, p99 {}, p99.9 {}, longest {}",
                distribution.name,
                duration(distribution.at(0.5)),
                duration(distribution.at(0.99)),
                duration(distribution.at(0.999)),
                duration(distribution.max_us),
            ),
            points: distribution
                .points
                .iter()
                .map(|&(quantile, us)| (-(1.0 - quantile).log10(), us))
                .filter(|&(nines, _)| nines <= NINES_MAX)
                .collect(),
            marked: false,
        })
        .collect();
    let longest = furthest(&curves, |&(nines, _)| nines).max(NINES_MIN);
    chart(title, "percentile", &nines_axis(longest), curves)
}

/// Latency against throughput, a curve for the median and one for the 99th
/// percentile of every subject; the axis of latency is logarithmic.
///
/// # Errors
/// [`PlotError`]; points that a logarithm does not have are left out.
pub fn by_load(title: &str, subjects: &[LoadCurve]) -> Result<String, PlotError> {
    let figure = |subject: &LoadCurve, name: &str, of: fn(&LoadPoint) -> f64| {
        let told: Vec<String> = subject
            .points
            .iter()
            .map(|point| format!("{} at {} /s", duration(of(point)), count(point.rate)))
            .collect();
        Curve {
            label: format!("{}, {name}", subject.name),
            told: format!("{}, {name}: {}", subject.name, told.join(", ")),
            points: subject.points.iter().map(|p| (p.rate, of(p))).collect(),
            marked: true,
        }
    };
    let curves: Vec<Curve> = subjects
        .iter()
        .flat_map(|subject| {
            [
                figure(subject, "p50", |point| point.p50_us),
                figure(subject, "p99", |point| point.p99_us),
            ]
        })
        .collect();
    let highest = furthest(&curves, |&(rate, _)| rate);
    chart(title, "per second", &linear_axis(highest), curves)
}

/// A curve in the units of the axes.
struct Curve {
    label: String,
    /// What its `<title>` says.
    told: String,
    points: Vec<(f64, f64)>,
    /// Whether each point gets a dot: few of them, each measured by itself.
    marked: bool,
}

/// Values and where they stand between the two ends of an axis, 0 to 1.
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let scale = |v: f64| if self.logarithmic { v.log10() } else { v };
        (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
    }
}

fn furthest(curves: &[Curve], of: impl Fn(&(f64, f64)) -> f64) -> f64 {
    curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(&of))
        .filter(|value| value.is_finite())
        .fold(0.0, f64::max)
}

/// `high` nines wide, with a tick at each whole one and at 50 %.
fn nines_axis(high: f64) -> Axis {
    let names = [
        "0 %",
        "90 %",
        "99 %",
        "99.9 %",
        "99.99 %",
        "99.999 %",
        "99.9999 %",
    ];
    let mut ticks = vec![(0.5_f64.log10().abs(), "50 %".to_owned())];
    let mut nines = 0.0;
    for name in names {
        // 99.9 % is not exactly three nines in binary.
        if nines <= high + 1e-9 {
            ticks.push((nines, name.to_owned()));
        }
        nines += 1.0;
    }
    Axis {
        low: 0.0,
        high,
        logarithmic: false,
        ticks,
    }
}

/// From 0 to the next round value above `high`, in at most ten steps.
fn linear_axis(high: f64) -> Axis {
    // Nothing but points at zero still need an axis.
    let high = if high > 0.0 { high } else { 1.0 };
    let step = round_up(high / 8.0);
    let mut ticks = Vec::new();
    let mut value = 0.0;
    while value < high + step {
        ticks.push((value, count(value)));
        value += step;
    }
    Axis {
        low: 0.0,
        high: value - step,
        logarithmic: false,
        ticks,
    }
}

/// From the round value below `low` to the one above `high`, ticks at 1, 2 and
/// 5 of each decade, or at 1 alone where there are many decades.
fn log_axis(low: f64, high: f64) -> Axis {
    let bottom = round_down(low);
    let mut top = round_up(high);
    if top <= bottom {
        top = round_up(bottom * 1.5);
    }
    let dense = (top / bottom).log10() < 3.01;
    let mut ticks = Vec::new();
    let mut value = bottom;
    // Half a step of slack, since steps of 1-2-5 are products of rounded numbers.
    while value <= top * 1.25 {
        if dense || leading(value) == 1 || value <= bottom * 1.25 {
            ticks.push((value, duration(value)));
        }
        value = round_up(value * 1.5);
    }
    Axis {
        low: bottom,
        high: top,
        logarithmic: true,
        ticks,
    }
}

/// The power of ten at or below `value`.
fn decade(value: f64) -> f64 {
    10_f64.powf((value.log10() + 1e-9).floor())
}

/// 1, 2 or 5 times a power of ten, at or above `value`.
fn round_up(value: f64) -> f64 {
    let ten = decade(value);
    let times = value / ten;
    // What is a rounding error above a round value is that value.
    let slack = 1.0 + 1e-6;
    let round = [1.0, 2.0, 5.0].into_iter().find(|&r| times <= r * slack);
    ten * round.unwrap_or(10.0)
}

/// 1, 2 or 5 times a power of ten, at or below `value`.
fn round_down(value: f64) -> f64 {
    let ten = decade(value);
    let times = value / ten * (1.0 + 1e-6);
    let round = [5.0, 2.0, 1.0].into_iter().find(|&r| times >= r);
    ten * round.unwrap_or(1.0)
}

/// First digit of a round value.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "1 to 10"
)]
fn leading(value: f64) -> u8 {
    (value / decade(value)).round() as u8
}

/// Microseconds in the unit that people would say.
fn duration(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", digits(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", digits(us / 1e3)),
        us => format!("{} µs", digits(us)),
    }
}

/// A number of things: 1.2 M, 340 k, 57.
fn count(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", digits(v / 1e6)),
        v if v >= 1e3 => format!("{} k", digits(v / 1e3)),
        v => digits(v),
    }
}

/// Three significant digits, without zeros that say nothing.
fn digits(value: f64) -> String {
    let text = match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// What is drawn on, what is written, the grid, and the curves.
///
/// The curves have the colours of Okabe and Ito (2008), told apart with any
/// common colour blindness, made darker or lighter until each has a contrast of
/// at least 3 : 1 against its paper (WCAG 2.2, 1.4.11).
struct Scheme {
    paper: &'static str,
    ink: &'static str,
    rule: &'static str,
    curves: [&'static str; CURVES_MAX],
}

const LIGHT: Scheme = Scheme {
    paper: "#ffffff",
    ink: "#1f2328",
    rule: "#d8dee4",
    curves: [
        "#0072b2", "#d55e00", "#00805d", "#a8518a", "#8a6100", "#1f2328",
    ],
};

const DARK: Scheme = Scheme {
    paper: "#0d1117",
    ink: "#e6edf3",
    rule: "#30363d",
    curves: [
        "#56b4e9", "#f58a3c", "#2fc79a", "#e39cc6", "#e6b93d", "#e6edf3",
    ],
};

/// Sizes are in units of the drawing: text scales with it.
const SHAPES: &str = "\
text{font-family:system-ui,sans-serif;font-size:15px}\
.head{font-size:19px;font-weight:600}\
.curve{fill:none;stroke-width:2.5;stroke-linejoin:round}";

impl Scheme {
    /// Plain rules of classes, since not every viewer knows CSS variables.
    fn rules(&self) -> String {
        let mut out = format!(
            ".paper{{fill:{}}}text{{fill:{}}}.rule{{stroke:{}}}",
            self.paper, self.ink, self.rule
        );
        for (index, colour) in self.curves.iter().enumerate() {
            let _ = write!(
                out,
                ".c{index}{{stroke:{colour}}}.d{index}{{fill:{colour}}}"
            );
        }
        out
    }
}

/// Dashes of the six curves, so that they differ without colour too.
const DASHES: [&str; CURVES_MAX] = ["none", "9 4", "2 4", "12 4 2 4", "18 6", "5 2"];

fn chart(title: &str, x_name: &str, x: &Axis, mut curves: Vec<Curve>) -> Result<String, PlotError> {
    for curve in &mut curves {
        curve
            .points
            .retain(|&(at, us)| at.is_finite() && us.is_finite() && us > 0.0);
        if curve.points.len() > POINTS_MAX {
            let given = curve.points.len();
            return Err(PlotError::Points { given });
        }
    }
    curves.retain(|curve| !curve.points.is_empty());
    if curves.len() > CURVES_MAX {
        let given = curves.len();
        return Err(PlotError::Curves { given });
    }
    let latencies = || curves.iter().flat_map(|c| c.points.iter().map(|p| p.1));
    let low = latencies().reduce(f64::min).ok_or(PlotError::Empty)?;
    let high = latencies().reduce(f64::max).ok_or(PlotError::Empty)?;
    let y = log_axis(low, high);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>{}</title>\n\
         <style>{}@media (prefers-color-scheme:dark){{{}}}{SHAPES}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" class=\"paper\"/>\n\
         <text class=\"head\" x=\"{LEFT}\" y=\"34\">{}</text>\n",
        escaped(title),
        LIGHT.rules(),
        DARK.rules(),
        escaped(title)
    );
    axes(&mut out, x_name, x, &y);
    for (index, curve) in curves.iter().enumerate() {
        draw(&mut out, index, curve, x, &y);
    }
    legend(&mut out, &curves);
    out.push_str("</svg>\n");
    Ok(out)
}

fn axes(out: &mut String, x_name: &str, x: &Axis, y: &Axis) {
    for (value, name) in &x.ticks {
        let at = across(x, *value);
        line(
            out,
            &format!(
                "<line class=\"rule\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
                BOTTOM + 22.0
            ),
        );
    }
    for (value, name) in &y.ticks {
        let at = down(y, *value);
        line(
            out,
            &format!(
                "<line class=\"rule\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                LEFT - 8.0,
                at + 5.0
            ),
        );
    }
    line(
        out,
        &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{x_name}</text>",
            RIGHT - 8.0,
            BOTTOM - 8.0
        ),
    );
}

fn draw(out: &mut String, index: usize, curve: &Curve, x: &Axis, y: &Axis) {
    let places: Vec<(f64, f64)> = curve
        .points
        .iter()
        .map(|&(at, us)| (across(x, at), down(y, us)))
        .collect();
    let points: Vec<String> = places
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    line(
        out,
        &format!(
            "<g><title>{}</title><polyline {} points=\"{}\"/>",
            escaped(&curve.told),
            stroke(index),
            points.join(" ")
        ),
    );
    if curve.marked {
        for (x, y) in places {
            line(
                out,
                &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" class=\"d{index}\"/>"),
            );
        }
    }
    line(out, "</g>");
}

/// Below the axis, in rows: no curve ever runs through it.
fn legend(out: &mut String, curves: &[Curve]) {
    let width = (RIGHT - LEFT) / 3.0;
    let (mut x, mut y) = (LEFT, BOTTOM + 52.0);
    for (index, curve) in curves.iter().enumerate() {
        if index == CURVES_MAX / 2 {
            (x, y) = (LEFT, y + 24.0);
        }
        line(
            out,
            &format!(
                "<line {} x1=\"{x}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>\
                 <text x=\"{}\" y=\"{y}\">{}</text>",
                stroke(index),
                x + 46.0,
                y - 5.0,
                y - 5.0,
                x + 54.0,
                escaped(&curve.label)
            ),
        );
        x += width;
    }
}

fn stroke(index: usize) -> String {
    format!(
        "class=\"curve c{index}\" stroke-dasharray=\"{}\"",
        DASHES[index]
    )
}

fn across(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.place(value) * (RIGHT - LEFT)
}

fn down(axis: &Axis, value: f64) -> f64 {
    BOTTOM - axis.place(value) * (BOTTOM - TOP)
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{text}");
}

/// As text of an XML element.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // XML 1.0, 2.2: no other character below a space may stand in a document.
            c if c < ' ' && !matches!(c, '\t' | '\n' | '\r') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(name: &str, points: &[(f64, f64)]) -> Distribution {
        Distribution {
            name: name.to_owned(),
            points: points.to_vec(),
            max_us: points.last().map_or(0.0, |&(_, us)| us),
        }
    }

    #[test]
    fn rounds_of_a_run_become_one_rising_curve() {
        let mut latency = Latency::default();
        for us in 1..=1000_u64 {
            latency.record(us * 1000);
        }
        let ours = Distribution::of("ours", &latency);
        assert!(ours.points.len() > 20, "{}", ours.points.len());
        assert!(ours.points.len() <= POINTS_MAX);
        assert!(ours.points.is_sorted(), "{:?}", ours.points);
        assert!(ours.points.iter().all(|&(quantile, _)| quantile < 1.0));
        assert!((ours.at(0.5) - 500.0).abs() < 30.0, "{}", ours.at(0.5));
        assert!((ours.at(1.0) - 1000.0).abs() < 1.5, "{}", ours.at(1.0));
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let one = distribution("one", &[(0.0, 1.0), (0.9, 2.0)]);
        assert_eq!(percentiles("none", &[]), Err(PlotError::Empty));
        let nothing = distribution("nothing", &[(0.5, 0.0), (0.9, f64::NAN)]);
        assert_eq!(percentiles("zeros", &[nothing]), Err(PlotError::Empty));
        let many = vec![one; CURVES_MAX + 1];
        assert_eq!(
            percentiles("many", &many),
            Err(PlotError::Curves { given: 7 })
        );
        assert!(percentiles("most", &many[1..]).is_ok());
        let long = distribution("long", &vec![(0.5, 1.0); POINTS_MAX + 1]);
        assert_eq!(
            percentiles("long", &[long]),
            Err(PlotError::Points { given: 2049 })
        );
    }

    #[test]
    fn a_name_cannot_break_out_of_the_text_it_stands_in() {
        let name = "</text><script>alert(1)</script>&\u{1}";
        let svg = percentiles(name, &[distribution(name, &[(0.0, 1.0), (0.9, 2.0)])]);
        let svg = svg.expect("one curve");
        assert!(!svg.contains("<script"), "{svg}");
        assert!(svg.contains("&lt;/text&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;\u{fffd}"));
    }

    #[test]
    fn a_latency_axis_holds_its_values_between_round_ends() {
        for (low, high, ends) in [
            (12.0, 430.0, (10.0, 500.0)),
            (10.0, 10.0, (10.0, 20.0)),
            (0.7, 0.8, (0.5, 1.0)),
            (99.0, 2_000_100.0, (50.0, 5_000_000.0)),
        ] {
            let axis = log_axis(low, high);
            let (bottom, top) = ends;
            assert!((axis.low / bottom - 1.0).abs() < 1e-6, "{}", axis.low);
            assert!((axis.high / top - 1.0).abs() < 1e-6, "{}", axis.high);
            assert!(axis.place(low) >= -1e-9 && axis.place(high) <= 1.0 + 1e-9);
            assert!((2..=10).contains(&axis.ticks.len()), "{}", axis.ticks.len());
        }
    }

    #[test]
    fn a_throughput_axis_begins_at_nothing_and_ends_above_the_highest() {
        for high in [0.0, 7.0, 1e6, 1_050_000.0, 9.9e6] {
            let axis = linear_axis(high);
            assert!(axis.place(0.0).abs() < 1e-9 && axis.place(high) <= 1.0 + 1e-9);
            assert!((2..=10).contains(&axis.ticks.len()), "{}", axis.ticks.len());
        }
    }

    #[test]
    fn figures_are_said_as_people_say_them() {
        assert_eq!(duration(0.25), "0.25 µs");
        assert_eq!(duration(12.0), "12 µs");
        assert_eq!(duration(1234.0), "1.23 ms");
        assert_eq!(duration(2e6), "2 s");
        assert_eq!(count(1_240_000.0), "1.24 M");
        assert_eq!(count(100.0), "100");
    }

    /// Relative luminance by WCAG 2.2.
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let byte = u8::from_str_radix(&colour[at..at + 2], 16).expect("two hex digits");
            let share = f64::from(byte) / 255.0;
            if share <= 0.040_45 {
                share / 12.92
            } else {
                ((share + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    #[test]
    fn curves_stand_out_from_their_paper_and_text_can_be_read() {
        for scheme in [LIGHT, DARK] {
            let contrast = |colour: &str| {
                let (a, b) = (luminance(colour), luminance(scheme.paper));
                (a.max(b) + 0.05) / (a.min(b) + 0.05)
            };
            for colour in scheme.curves {
                assert!(contrast(colour) >= 3.0, "{colour}: {}", contrast(colour));
            }
            assert!(contrast(scheme.ink) >= 7.0);
        }
        let mut dashes = DASHES.to_vec();
        dashes.sort_unstable();
        dashes.dedup();
        assert_eq!(dashes.len(), CURVES_MAX, "each dash is its own");
    }
}
