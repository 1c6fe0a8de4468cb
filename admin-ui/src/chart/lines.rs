//! What a number was over time.

use std::fmt::Write;

use super::{CURVES_MAX, POINTS_MAX, at, id_of, index, nice_ceiling, opened};
use crate::escape::escaped;
use crate::format;

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// Its points, oldest first; `None` where nothing was measured.
    pub points: Vec<Option<f64>>,
}

/// A small line without axes, for a tile. `now` is what the last point is, in words.
#[must_use]
pub fn sparkline(key: &str, title: &str, points: &[Option<f64>], now: &str) -> String {
    const VIEW: (u32, u32) = (120, 32);
    let points = newest(points);
    let most = most_of(points.iter());
    let description = if points.is_empty() {
        "Nothing was measured yet.".to_owned()
    } else {
        format!("Now {now}. {} points.", points.len())
    };
    let scale = Scale {
        left: 0.0,
        top: 2.0,
        width: 120.0,
        height: 29.0,
        most,
    };
    let mut svg = opened("spark", key, VIEW, title, &description);
    let id = id_of(key);
    let _ = write!(
        svg,
        "<path class=\"area\" data-live-d=\"{id}a\" d=\"{}\"/><path class=\"line\" \
         data-live-d=\"{id}l\" d=\"{}\"/></svg>",
        scale.area(points),
        scale.line(points)
    );
    svg
}

/// Lines over time with axes. `unit` writes a number of the vertical axis.
#[must_use]
pub fn lines(
    key: &str,
    title: &str,
    lines: &[Line],
    step_ms: u64,
    unit: fn(f64) -> format::Measure,
) -> String {
    const VIEW: (u32, u32) = (640, 190);
    let shown = &lines[..lines.len().min(CURVES_MAX)];
    let ceiling = nice_ceiling(most_of(shown.iter().flat_map(|line| newest(&line.points))));
    let scale = Scale {
        left: 64.0,
        top: 10.0,
        width: 568.0,
        height: 150.0,
        most: ceiling,
    };
    let longest = shown
        .iter()
        .map(|line| newest(&line.points).len())
        .max()
        .unwrap_or(0);
    let parts: Vec<String> = shown
        .iter()
        .map(|line| match line.points.iter().rev().flatten().next() {
            Some(last) => format!("{}: now {}", line.name, unit(*last)),
            None => format!("{}: not measured", line.name),
        })
        .collect();
    let mut svg = opened("chart", key, VIEW, title, &format!("{}.", parts.join("; ")));
    let id = id_of(key);
    for (number, quarter) in [0.0, 0.5, 1.0].into_iter().enumerate() {
        let y = scale.top + scale.height * (1.0 - quarter);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M64 {y}H632\"/><text class=\"tick end\" data-live=\"{id}y{number}\" x=\"58\" y=\"{}\">{}</text>",
            y + 4.0,
            escaped(&unit(ceiling * quarter).short().to_string()),
            y = at(y)
        );
    }
    let past = format::span(step_ms.saturating_mul(longest.saturating_sub(1) as u64));
    let _ = write!(
        svg,
        "<text class=\"tick\" data-live=\"{id}x\" x=\"64\" y=\"182\">{past} before</text>\
         <text class=\"tick end\" x=\"632\" y=\"182\">as of</text>"
    );
    for (number, line) in shown.iter().enumerate() {
        let _ = write!(
            svg,
            "<path class=\"line s{n}\" data-live-d=\"{id}{n}\" d=\"{}\"/>",
            scale.line(newest(&line.points)),
            n = number + 1
        );
    }
    svg.push_str("</svg>");
    svg
}

fn newest(points: &[Option<f64>]) -> &[Option<f64>] {
    &points[points.len().saturating_sub(POINTS_MAX)..]
}

fn most_of<'a>(points: impl Iterator<Item = &'a Option<f64>>) -> f64 {
    points
        .flatten()
        .copied()
        .filter(|point| point.is_finite())
        .fold(0.0, f64::max)
}

/// Where a point of a series comes to lie.
struct Scale {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    most: f64,
}

impl Scale {
    fn x(&self, number: usize, of: usize) -> f64 {
        self.left + self.width * index(number) / index(of.saturating_sub(1).max(1))
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.most > 0.0 && value.is_finite() {
            (value / self.most).clamp(0.0, 1.0)
        } else {
            0.0
        };
        self.top + self.height * (1.0 - share)
    }

    /// The line, broken where nothing was measured; a point between two breaks is a dot.
    fn line(&self, points: &[Option<f64>]) -> String {
        let mut path = String::new();
        let mut start = 0;
        for piece in points.split(Option::is_none) {
            for (number, value) in piece.iter().enumerate() {
                let letter = if number == 0 { 'M' } else { 'L' };
                let x = at(self.x(start + number, points.len()));
                let _ = write!(path, "{letter}{x} {}", at(self.y(value.unwrap_or(0.0))));
            }
            if piece.len() == 1 {
                path.push_str("h0");
            }
            start += piece.len() + 1;
        }
        path
    }

    /// What is below each unbroken piece of the line.
    fn area(&self, points: &[Option<f64>]) -> String {
        let floor = at(self.top + self.height);
        let mut path = String::new();
        let mut start = 0;
        for piece in points.split(Option::is_none) {
            if piece.len() > 1 {
                let x = |number| at(self.x(number, points.len()));
                let _ = write!(path, "M{} {floor}", x(start));
                for (number, value) in piece.iter().enumerate() {
                    let y = at(self.y(value.unwrap_or(0.0)));
                    let _ = write!(path, "L{} {y}", x(start + number));
                }
                let _ = write!(path, "V{floor}Z");
            }
            start += piece.len() + 1;
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_broken_where_nothing_was_measured() {
        let svg = sparkline(
            "k",
            "t",
            &[Some(0.0), Some(4.0), None, Some(2.0), None],
            "2",
        );
        assert!(
            svg.contains("class=\"line\" data-live-d=\"ckl\" d=\"M0 31L30 2M90 16.5h0\""),
            "{svg}"
        );
        assert!(
            svg.contains("class=\"area\" data-live-d=\"cka\" d=\"M0 31L0 31L30 2V31Z\""),
            "{svg}"
        );
    }

    #[test]
    fn nothing_measured_is_said_so() {
        assert!(sparkline("k", "t", &[], "–").contains("Nothing was measured yet."));
    }

    #[test]
    fn long_series_are_drawn_from_their_newest_points() {
        let points = vec![Some(1.0); POINTS_MAX * 3];
        assert_eq!(newest(&points).len(), POINTS_MAX);
    }

    #[test]
    fn names_of_lines_are_text() {
        let line = Line {
            name: "<script>".into(),
            points: vec![Some(1.0)],
        };
        let svg = lines("k", "\"><b>", &[line], 1000, format::per_second);
        assert!(!svg.contains("<script>") && !svg.contains("<b>"), "{svg}");
    }
}
