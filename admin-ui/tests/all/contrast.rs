//! Every pair of colours that meets on a page can be told apart (WCAG 2.2, 1.4.3 and
//! 1.4.11), in light and in dark.

use std::collections::{BTreeMap, BTreeSet};

use pinion_admin_ui::assets::asset;

/// Text 4.5 to 1; shapes, borders of controls and focus 3 to 1.
const TEXT: f64 = 4.5;
const SHAPE: f64 = 3.0;

/// Every surface that text of the page itself comes to lie on.
const SURFACES: &[&str] = &[
    "bg",
    "surface",
    "sunken",
    "accent-soft",
    "ok-soft",
    "warn-soft",
    "bad-soft",
];
const PANELS: &[&str] = &["surface", "sunken"];

/// Which colour is used for what, on which surfaces. A colour of the style sheet that is
/// not here fails the test.
const PAIRS: &[(&str, f64, &[&str])] = &[
    ("text", TEXT, SURFACES),
    ("muted", TEXT, SURFACES),
    ("accent", TEXT, SURFACES),
    ("on-accent", TEXT, &["accent-fill"]),
    ("on-bad", TEXT, &["bad-fill"]),
    ("ok", TEXT, &["bg", "surface", "sunken", "ok-soft"]),
    ("warn", TEXT, &["bg", "surface", "sunken", "warn-soft"]),
    ("bad", TEXT, &["bg", "surface", "sunken", "bad-soft"]),
    ("edge", SHAPE, &["bg", "surface", "sunken"]),
    ("accent-fill", SHAPE, &["bg", "surface"]),
    ("bad-fill", SHAPE, &["bg", "surface"]),
    ("s1", SHAPE, PANELS),
    ("s2", SHAPE, PANELS),
    ("s3", SHAPE, PANELS),
    ("s4", SHAPE, PANELS),
    ("s5", SHAPE, PANELS),
    ("s6", SHAPE, PANELS),
];

/// Rules between things, areas under a line that is drawn itself, and the empty part of a
/// bar: nothing is known by them alone.
const DECORATION: [&str; 4] = ["line", "sunken", "accent-soft", "surface"];

fn css() -> &'static str {
    asset("/assets/pinion.css").unwrap().body
}

/// Light and dark of each token.
fn tokens() -> BTreeMap<&'static str, (u32, u32)> {
    css()
        .lines()
        .filter_map(|line| {
            let (name, value) = line
                .trim()
                .strip_prefix("--")?
                .split_once(": light-dark(#")?;
            let (light, dark) = value.strip_suffix(");")?.split_once(", #")?;
            Some((
                name,
                (
                    u32::from_str_radix(light, 16).ok()?,
                    u32::from_str_radix(dark, 16).ok()?,
                ),
            ))
        })
        .collect()
}

/// WCAG 2.2, relative luminance.
fn luminance(colour: u32) -> f64 {
    let channel = |shift: u32| {
        let value = f64::from(colour >> shift & 0xff) / 255.0;
        if value <= 0.040_45 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0)
}

fn contrast(one: u32, other: u32) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn every_pair_of_colours_can_be_told_apart() {
    let tokens = tokens();
    assert!(tokens.len() > 20, "the style sheet was not read");
    let mut weak = Vec::new();
    for (colour, least, surfaces) in PAIRS {
        for surface in *surfaces {
            let (front, back) = (tokens[colour], tokens[surface]);
            for (mode, ratio) in [
                ("light", contrast(front.0, back.0)),
                ("dark", contrast(front.1, back.1)),
            ] {
                if ratio < *least {
                    weak.push(format!(
                        "{mode}: {colour} on {surface} is {ratio:.2}, needs {least}"
                    ));
                }
            }
        }
    }
    assert!(weak.is_empty(), "{}", weak.join("\n"));
}

#[test]
fn every_colour_in_use_has_its_pairs_and_none_is_written_by_hand() {
    let tokens = tokens();
    let known: BTreeSet<&str> = PAIRS
        .iter()
        .map(|(colour, ..)| *colour)
        .chain(DECORATION)
        .collect();
    let surfaces: BTreeSet<&str> = PAIRS
        .iter()
        .flat_map(|(_, _, surfaces)| surfaces.iter().copied())
        .collect();
    let mut missing = BTreeSet::new();
    for line in css()
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
    {
        for declaration in line.split(['{', '}', ';']) {
            let Some((property, value)) = declaration.trim().split_once(':') else {
                continue;
            };
            assert!(
                !value.contains('#') && !value.contains("rgb("),
                "{declaration}"
            );
            for name in value
                .split("var(--")
                .skip(1)
                .filter_map(|rest| rest.split(')').next())
            {
                if !tokens.contains_key(name) {
                    continue;
                }
                let fine = match property {
                    "background" => known.contains(name) || surfaces.contains(name),
                    _ => known.contains(name),
                };
                if !fine {
                    missing.insert(format!("{property}: {name}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// A rule that sets text and its surface at once must be among the pairs.
#[test]
fn text_and_surface_of_one_rule_are_a_pair() {
    let named = |body: &str, property: &str| -> Option<String> {
        body.split(';').find_map(|declaration| {
            let (key, value) = declaration.trim().split_once(':')?;
            (key == property).then(|| {
                value
                    .trim()
                    .strip_prefix("var(--")?
                    .strip_suffix(')')
                    .map(str::to_owned)
            })?
        })
    };
    let mut seen = 0;
    for rule in css().split('}') {
        let Some((_, body)) = rule.rsplit_once('{') else {
            continue;
        };
        let (Some(front), Some(back)) = (named(body, "color"), named(body, "background")) else {
            continue;
        };
        seen += 1;
        assert!(
            PAIRS
                .iter()
                .any(|(colour, least, surfaces)| *colour == front
                    && *least >= TEXT
                    && surfaces.contains(&back.as_str())),
            "{front} on {back}"
        );
    }
    assert!(seen > 5, "the style sheet was not read");
}

#[test]
fn the_ratio_is_that_of_the_standard() {
    assert!((contrast(0x00_0000, 0xff_ffff) - 21.0).abs() < 1e-9);
    assert!((contrast(0x77_7777, 0xff_ffff) - 4.478).abs() < 0.001);
}

#[test]
fn motion_is_only_for_those_who_want_it() {
    let calm = css()
        .split("@media (prefers-reduced-motion: no-preference)")
        .next()
        .unwrap();
    for word in ["transition", "animation", "scroll-behavior: smooth"] {
        assert!(!calm.contains(word), "{word}");
    }
    assert!(css().contains(":focus-visible"));
}
