//! Charts as SVG, drawn here: no script, no inline style. Colours and weights come from
//! the style sheet by class. Each has a title and a description for those who do not see
//! it, and stands beside a table with the same numbers.

mod bars;
mod lines;
mod percentile;

pub use bars::{busy, stacked, used};
pub use lines::{Line, lines, sparkline};
pub use percentile::percentiles;

use std::fmt::Write;

use crate::escape::escaped;

/// Curves drawn in one chart: as many as there are colours and dashes to tell them by.
pub const CURVES_MAX: usize = 6;

/// Points drawn of one series; of a longer one the newest.
pub const POINTS_MAX: usize = 360;

/// The opening tag of a chart with what is read aloud of it. `key` is unique on its page.
fn opened(class: &str, key: &str, view: (u32, u32), title: &str, description: &str) -> String {
    let id = id_of(key);
    let (width, height) = view;
    let stretch = if class == "chart" {
        ""
    } else {
        " preserveAspectRatio=\"none\""
    };
    format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\"{stretch} role=\"img\" \
         aria-labelledby=\"{id}t {id}d\"><title id=\"{id}t\">{}</title><desc id=\"{id}d\" data-live=\"{id}d\">{}</desc>",
        escaped(title),
        escaped(description)
    )
}

/// What may be an `id` and be named in a list of ids: letters, digits, `-`, `_`. Whatever
/// else is in a key becomes its number, so that two keys never meet.
pub(crate) fn id_of(key: &str) -> String {
    let mut id = String::with_capacity(key.len() + 1);
    id.push('c');
    for letter in key.chars() {
        if letter.is_ascii_alphanumeric() || letter == '-' {
            id.push(letter);
        } else {
            // A string takes whatever is written to it.
            let _ = write!(id, "_{:x}_", u32::from(letter));
        }
    }
    id
}

/// A coordinate, to a tenth.
fn at(coordinate: f64) -> String {
    let text = format!("{coordinate:.1}");
    match text.strip_suffix(".0") {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// The least of 1, 2, 2.5, 5 times a power of ten that is not below; 1 for nothing at all.
fn nice_ceiling(most: f64) -> f64 {
    if most.is_nan() || most <= 0.0 || most.is_infinite() {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        // What `powf` rounds away must not cost a whole step.
        .find(|ceiling| *ceiling >= most * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// For coordinates: every number that a chart has is far below 2^52.
#[allow(clippy::cast_precision_loss)]
fn real(number: u64) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss)]
fn index(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_one_two_two_and_a_half_or_five() {
        for (most, ceiling) in [
            (0.0, 1.0),
            (0.03, 0.05),
            (1.0, 1.0),
            (1.01, 2.0),
            (24.8, 25.0),
            (499.0, 500.0),
            (1000.0, 1000.0),
            (f64::NAN, 1.0),
        ] {
            assert!((nice_ceiling(most) - ceiling).abs() < 1e-9, "{most}");
        }
    }

    #[test]
    fn ids_of_different_keys_differ_and_hold_nothing_else() {
        assert_eq!(id_of("a-b"), "ca-b");
        assert_ne!(id_of("a b"), id_of("a_b"));
        assert!(!id_of("<x y=\"'\">").contains(['<', '"', ' ', '\'', '>']));
    }
}
