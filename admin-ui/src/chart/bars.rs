//! How much of a whole.

use std::fmt::Write;

use super::{at, id_of, index, opened, real};
use crate::format;
use crate::model::Share;

/// How busy a core was, one bar for each interval, oldest first.
#[must_use]
pub fn busy(key: &str, title: &str, history_permille: &[u16]) -> String {
    const VIEW: (u32, u32) = (120, 20);
    let bars = &history_permille[history_permille.len().saturating_sub(60)..];
    let most = bars.iter().copied().max().unwrap_or(0);
    let description = match bars.last() {
        Some(now) => format!(
            "Now {}, at most {}.",
            format::percent(u64::from(*now)),
            format::percent(u64::from(most))
        ),
        None => "Nothing was measured yet.".to_owned(),
    };
    let mut svg = opened("busy", key, VIEW, title, &description);
    let mut path = String::new();
    for (number, permille) in bars.iter().enumerate() {
        // The newest bar is at the right end, however few there are.
        let x = 120.0 - 2.0 * index(bars.len() - number) + 1.0;
        let height = f64::from((*permille).min(1000)) * 20.0 / 1000.0;
        let _ = write!(path, "M{} 20v-{}", at(x), at(height.max(0.4)));
    }
    let _ = write!(
        svg,
        "<path class=\"limit\" d=\"M0 2H120\"/><path class=\"bars\" data-live-d=\"{}b\" d=\"{path}\"/></svg>",
        id_of(key)
    );
    svg
}

/// Classes of a cell that shows what is used of a quota: a bar under the number, in
/// twentieths, because the policy of the pages has no room for a width of its own. Its
/// colour says when it is nearly full; the numbers in the cell say it, too.
#[must_use]
pub fn used(used: u64, quota: u64) -> String {
    let permille = u128::from(used) * 1000 / u128::from(quota.max(1));
    let level = match permille {
        950.. => " bad",
        800..950 => " warn",
        _ => "",
    };
    // Anything at all is seen.
    let twentieths = permille.div_ceil(50).min(20);
    format!("u u{twentieths}{level}")
}

/// Parts of a whole, end to end, in the order given; what is left of `whole` stays empty.
/// Parts that are together more than the whole are drawn as shares of their sum.
#[must_use]
pub fn stacked(key: &str, title: &str, parts: &[Share], whole: u64) -> String {
    const WIDTH: f64 = 600.0;
    let sum = parts.iter().map(|part| real(part.amount)).sum::<f64>();
    let whole = real(whole).max(sum).max(1.0);
    let words: Vec<String> = parts
        .iter()
        .map(|part| {
            let permille = real(part.amount) * 1000.0 / whole;
            format!("{} {permille:.0} of 1,000", part.name)
        })
        .collect();
    let mut svg = opened(
        "stack",
        key,
        (600, 14),
        title,
        &format!("{}.", words.join("; ")),
    );
    svg.push_str("<path class=\"whole\" d=\"M0 7H600\"/>");
    let id = id_of(key);
    let mut x = 0.0;
    for (number, part) in parts.iter().enumerate() {
        let width = real(part.amount) / whole * WIDTH;
        // A gap between two parts tells them apart without colour.
        let drawn = if width > 3.0 { width - 1.5 } else { width };
        let _ = write!(
            svg,
            "<path class=\"part s{}\" data-live-d=\"{id}{number}\" d=\"M{} 7h{}\"/>",
            number % super::CURVES_MAX + 1,
            at(x),
            at(drawn)
        );
        x += width;
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bar_is_at_the_right_end_and_none_leaves_the_strip() {
        let svg = busy("k", "t", &[500, 2000]);
        assert!(svg.contains("d=\"M117 20v-10M119 20v-20\""), "{svg}");
        assert_eq!(busy("k", "t", &[1; 100]).matches("v-").count(), 60);
    }

    #[test]
    fn parts_lie_end_to_end_and_never_leave_the_whole() {
        let share = |amount| Share {
            name: "p".into(),
            amount,
            kind: None,
        };
        let svg = stacked("k", "t", &[share(25), share(25)], 100);
        assert!(
            svg.contains("d=\"M0 7h148.5\"") && svg.contains("d=\"M150 7h148.5\""),
            "{svg}"
        );
        let more = stacked("k", "t", &[share(300)], 100);
        assert!(more.contains("d=\"M0 7h598.5\""), "{more}");
        assert!(!stacked("k", "t", &[share(0)], 0).contains("NaN"));
    }

    #[test]
    fn a_quota_says_when_it_is_nearly_full() {
        assert_eq!(used(1200, 1000), "u u20 bad");
        assert_eq!(used(u64::MAX, 0), "u u20 bad");
        assert_eq!(used(800, 1000), "u u16 warn");
        assert_eq!(used(1, 1000), "u u1");
        assert_eq!(used(0, 1000), "u u0");
    }
}
