//! Latency over percentile, as HdrHistogram plots it: the horizontal axis is logarithmic
//! in what is left above a percentile, so that each further nine takes as much room as the
//! one before and the tail can be read.

use std::fmt::Write;

use super::{CURVES_MAX, at, nice_ceiling, opened, real};
use crate::escape::escaped;
use crate::format;
use crate::model::Curve;

const LEFT: f64 = 70.0;
const TOP: f64 = 12.0;
const WIDTH: f64 = 680.0;
const HEIGHT: f64 = 270.0;

/// Percentiles with a tick: share in millionths, and what it is called.
const TICKS: [(u32, &str); 7] = [
    (0, "0"),
    (500_000, "50 %"),
    (900_000, "90 %"),
    (990_000, "99 %"),
    (999_000, "99.9 %"),
    (999_900, "99.99 %"),
    (999_990, "99.999 %"),
];

/// Nines at the right end: the slowest of all is drawn there.
const NINES: f64 = 5.3;

/// The curves, at most [`CURVES_MAX`].
#[must_use]
pub fn percentiles(key: &str, title: &str, curves: &[Curve]) -> String {
    let shown = &curves[..curves.len().min(CURVES_MAX)];
    let most = shown
        .iter()
        .flat_map(|curve| &curve.points)
        .map(|point| point.latency_us)
        .max()
        .unwrap_or(0);
    let ceiling = nice_ceiling(real(most));
    let words: Vec<String> = shown
        .iter()
        .map(|curve| match curve.points.last() {
            Some(last) if curve.is_over => {
                let bound = format::micros(last.latency_us);
                format!("{}: the slowest above {bound}", curve.name)
            }
            Some(last) => format!("{}: up to {}", curve.name, format::micros(last.latency_us)),
            None => format!("{}: not measured", curve.name),
        })
        .collect();
    let mut svg = opened(
        "chart",
        key,
        (760, 320),
        title,
        &format!("{}.", words.join("; ")),
    );
    for fifth in 0_u32..=5 {
        let y = TOP + HEIGHT * (1.0 - f64::from(fifth) / 5.0);
        // Whole microseconds are exact enough for a label.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let label = format::micros((ceiling * f64::from(fifth) / 5.0).round() as u64).short();
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y}H{}\"/><text class=\"tick end\" x=\"{}\" y=\"{}\">{label}</text>",
            LEFT + WIDTH,
            LEFT - 8.0,
            at(y + 4.0),
            y = at(y)
        );
    }
    for (share, name) in TICKS {
        let x = at(x_of(share));
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{x} {TOP}V{}\"/><text class=\"tick mid\" x=\"{x}\" y=\"{}\">{}</text>",
            TOP + HEIGHT,
            TOP + HEIGHT + 20.0,
            escaped(name)
        );
    }
    for (number, curve) in shown.iter().enumerate() {
        let mut path = String::new();
        for (place, point) in curve.points.iter().enumerate() {
            let letter = if place == 0 { 'M' } else { 'L' };
            let y = TOP + HEIGHT * (1.0 - (real(point.latency_us) / ceiling).min(1.0));
            let _ = write!(path, "{letter}{} {}", at(x_of(point.at_millionths)), at(y));
        }
        let _ = write!(svg, "<path class=\"line s{}\" d=\"{path}\"/>", number + 1);
    }
    svg.push_str("</svg>");
    svg
}

/// Where a percentile lies: as many steps to the right as it has nines.
fn x_of(millionths: u32) -> f64 {
    let left = f64::from(1_000_000_u32.saturating_sub(millionths)) / 1e6;
    let nines = if left > 0.0 { -left.log10() } else { NINES };
    LEFT + WIDTH * nines.min(NINES) / NINES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CurvePoint;

    #[test]
    fn each_nine_takes_as_much_room_as_the_one_before() {
        let step = x_of(900_000) - x_of(0);
        for (before, after) in [(900_000, 990_000), (990_000, 999_000), (999_000, 999_900)] {
            assert!((x_of(after) - x_of(before) - step).abs() < 1e-6);
        }
        assert!((x_of(1_000_000) - (LEFT + WIDTH)).abs() < 1e-9);
    }

    #[test]
    fn the_slowest_is_drawn_at_its_height() {
        let point = |at_millionths, latency_us| CurvePoint {
            at_millionths,
            latency_us,
        };
        let curve = Curve {
            name: "publish".into(),
            points: vec![point(0, 0), point(1_000_000, 500)],
            is_over: false,
        };
        let svg = percentiles("k", "t", &[curve]);
        assert!(
            svg.contains("class=\"line s1\" d=\"M70 282L750 12\""),
            "{svg}"
        );
    }
}
