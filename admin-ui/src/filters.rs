//! What templates can do: write numbers, make links, draw charts. No template builds HTML
//! or an address from text by itself.
// What a template calls is given its arguments by value.
#![allow(clippy::needless_pass_by_value)]

use std::fmt::Write;

use minijinja::value::{Kwargs, ViaDeserialize};
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::chart::{self, Line};
use crate::escape::{escaped, percent_encoded};
use crate::format::{self, Measure, Utc};
use crate::links::{actions, query_string};
use crate::model::{Curve, Operation, Quantity, Series, Share};

pub(crate) fn register(env: &mut Environment<'static>) {
    env.add_filter("count", |number: Option<u64>| {
        shown(number.map(format::count))
    });
    env.add_filter("bytes", |number: Option<u64>| {
        shown(number.map(format::bytes))
    });
    env.add_filter("bytes_text", |number: u64| {
        format::bytes(number).to_string()
    });
    env.add_filter("micros", |number: Option<u64>| {
        shown(number.map(format::micros))
    });
    env.add_filter("span", |number: Option<u64>| {
        shown(number.map(format::span))
    });
    env.add_filter("span_text", |millis: u64| format::span(millis).to_string());
    env.add_filter("percent", |number: Option<u64>| {
        shown(number.map(format::percent))
    });
    env.add_filter("per_s", |rate: Option<f64>| {
        shown(rate.map(format::per_second))
    });
    env.add_filter("bytes_per_s", |rate: Option<f64>| {
        shown(rate.map(format::bytes_per_second))
    });
    env.add_filter("quantity", |quantity: ViaDeserialize<Quantity>| {
        written(&quantity.0)
    });
    env.add_filter("time", |unix_ms: Option<u64>| {
        unix_ms.map_or_else(dash, |unix_ms| {
            let at = Utc::from_unix_ms(unix_ms);
            time(at, &format!("{} {}", at.date(), at.clock()))
        })
    });
    env.add_filter("clock", |unix_ms: u64| {
        let at = Utc::from_unix_ms(unix_ms);
        time(at, &at.clock())
    });
    env.add_filter("path", path);
    env.add_filter("encoded", |text: &str| percent_encoded(text));
    env.add_filter("id", chart::id_of);
    env.add_filter("verb", |word: &str| Ok::<_, Error>(operation(word)?.verb()));
    env.add_filter("is_destructive", |word: &str| {
        Ok::<_, Error>(operation(word)?.is_destructive())
    });
    env.add_function("query", query);
    env.add_function("confirm_href", confirm_href);
    env.add_function("used", chart::used);
    env.add_function("spark", spark);
    env.add_function("lines", lines);
    env.add_function("series_rows", series_rows);
    env.add_function(
        "busy",
        |key: &str, title: &str, history: ViaDeserialize<Vec<u16>>| {
            Value::from_safe_string(chart::busy(key, title, &history.0))
        },
    );
    env.add_function(
        "stacked",
        |key: &str, title: &str, parts: ViaDeserialize<Vec<Share>>, whole: u64| {
            Value::from_safe_string(chart::stacked(key, title, &parts.0, whole))
        },
    );
    env.add_function(
        "percentiles",
        |key: &str, title: &str, curves: ViaDeserialize<Vec<Curve>>| {
            Value::from_safe_string(chart::percentiles(key, title, &curves.0))
        },
    );
}

/// A number with its unit apart, so that columns align both.
fn measure(measure: &Measure) -> Value {
    let mut html = escaped(&measure.number);
    if !measure.unit.is_empty() {
        // A string takes whatever is written to it.
        let _ = write!(html, " <i>{}</i>", measure.unit);
    }
    Value::from_safe_string(html)
}

fn shown(known: Option<Measure>) -> Value {
    known.map_or_else(dash, |known| measure(&known))
}

fn dash() -> Value {
    Value::from("–")
}

fn time(at: Utc, text: &str) -> Value {
    Value::from_safe_string(format!("<time datetime=\"{}\">{text}</time>", at.rfc3339()))
}

fn written(quantity: &Quantity) -> Value {
    match quantity {
        Quantity::Text(text) => Value::from(text.as_str()),
        Quantity::Code(text) => Value::from_safe_string(format!("<code>{}</code>", escaped(text))),
        Quantity::UnixMs(unix_ms) => {
            let at = Utc::from_unix_ms(*unix_ms);
            time(at, &format!("{} {}", at.date(), at.clock()))
        }
        Quantity::Unknown => dash(),
        _ => measure(&measured(quantity)),
    }
}

/// Of what is a number; a dash of what is not.
fn measured(quantity: &Quantity) -> Measure {
    match quantity {
        Quantity::Count(number) => format::count(*number),
        Quantity::Bytes(number) => format::bytes(*number),
        Quantity::PerSecond(rate) => format::per_second(*rate),
        Quantity::BytesPerSecond(rate) => format::bytes_per_second(*rate),
        Quantity::Micros(number) => format::micros(*number),
        Quantity::OverMicros(number) => format::over_micros(*number),
        Quantity::SpanMs(number) => format::span(*number),
        Quantity::Permille(number) => format::percent(*number),
        Quantity::Text(_) | Quantity::Code(_) | Quantity::UnixMs(_) | Quantity::Unknown => {
            format::per_second(f64::NAN)
        }
    }
}

fn operation(word: &str) -> Result<Operation, Error> {
    Operation::of_word(word).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("no operation is called {word}"),
        )
    })
}

/// Path of a resource's page: `streams`, `queues`, `caches`, `in-flight`, `dead-letters`.
fn path(address: &Value, kind: &str) -> Result<String, Error> {
    let part = |name: &str| -> Result<String, Error> {
        let value = address.get_attr(name)?;
        let text = value.as_str().unwrap_or_default();
        let segments: Vec<String> = if name == "name" {
            text.split('/').map(percent_encoded).collect()
        } else {
            vec![percent_encoded(text)]
        };
        Ok(segments.join("/"))
    };
    Ok(format!(
        "/ui/{kind}/{}/{}/{}",
        part("tenant")?,
        part("namespace")?,
        part("name")?
    ))
}

/// `?…` of a list as it was asked for, with changes; a page token is only in it when it is
/// among them, because another order or filter begins at the first page.
fn query(list: &Value, extra: &Value, changes: Kwargs) -> Result<String, Error> {
    let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
    let sort = list.get_attr("sort")?;
    let by = text(sort.get_attr("by")?);
    let dir = match (by.is_empty(), sort.get_attr("descending")?.is_true()) {
        (true, _) => "",
        (false, true) => "desc",
        (false, false) => "asc",
    };
    let mut pairs = vec![
        ("q".to_owned(), text(list.get_attr("search")?)),
        ("tenant".to_owned(), text(list.get_attr("tenant")?)),
        ("sort".to_owned(), by),
        ("dir".to_owned(), dir.to_owned()),
    ];
    if !extra.is_undefined() && !extra.is_none() {
        for name in extra.try_iter()? {
            let value = extra.get_item(&name)?;
            pairs.push((text(name), text(value)));
        }
    }
    for name in changes.args() {
        let value: String = changes.get(name)?;
        match pairs.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => pairs.push((name.to_owned(), value)),
        }
    }
    changes.assert_all_used()?;
    Ok(query_string(
        pairs.iter().map(|(name, value)| (&**name, &**value)),
    ))
}

/// Link to the page before an action.
fn confirm_href(word: &str, target: &str, more: Kwargs) -> Result<String, Error> {
    let mut pairs = vec![
        ("operation".to_owned(), operation(word)?.word().to_owned()),
        ("target".to_owned(), target.to_owned()),
    ];
    for name in more.args() {
        pairs.push((name.to_owned(), more.get::<Value>(name)?.to_string()));
    }
    more.assert_all_used()?;
    let query = query_string(pairs.iter().map(|(name, value)| (&**name, &**value)));
    Ok(format!("{}{query}", actions::CONFIRM))
}

fn spark(
    key: &str,
    title: &str,
    series: ViaDeserialize<Series>,
    now: ViaDeserialize<Quantity>,
) -> Value {
    let now = measured(&now.0).to_string();
    Value::from_safe_string(chart::sparkline(key, title, &series.0.points, &now))
}

/// How a number of a chart is written, by the word that a template or a [`Quantity`] has
/// for it.
fn unit_of(word: &str) -> Result<fn(f64) -> Measure, Error> {
    match word {
        "per_s" | "per_second" => Ok(format::per_second),
        "bytes_per_s" | "bytes_per_second" => Ok(format::bytes_per_second),
        "percent" => Ok(|percent| {
            let mut measure = format::per_second(percent);
            measure.unit = "%";
            measure
        }),
        "count" => Ok(|number| format::count(whole(number))),
        "bytes" => Ok(|number| format::bytes(whole(number))),
        "micros" => Ok(|number| format::micros(whole(number))),
        "over_micros" => Ok(|number| format::over_micros(whole(number))),
        "span_ms" => Ok(|number| format::span(whole(number))),
        "permille" => Ok(|number| format::percent(whole(number))),
        _ => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("no unit is called {word}"),
        )),
    }
}

/// The nearest whole number that is not below nothing.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u64 {
    // A conversion of floats saturates, and makes 0 of what is not a number.
    number.round() as u64
}

fn lines(
    key: &str,
    title: &str,
    unit: &str,
    names: ViaDeserialize<Vec<String>>,
    series: ViaDeserialize<Vec<Series>>,
) -> Result<Value, Error> {
    let step_ms = series.0.first().map_or(0, |first| first.step_ms);
    let drawn: Vec<Line> = names
        .0
        .into_iter()
        .zip(series.0)
        .map(|(name, series)| Line {
            name,
            points: series.points,
        })
        .collect();
    Ok(Value::from_safe_string(chart::lines(
        key,
        title,
        &drawn,
        step_ms,
        unit_of(unit)?,
    )))
}

/// Rows of the table beside charts: at most 12, evenly apart, newest first. Each is how
/// long before the newest point it was, and a cell for each series in its unit.
fn series_rows(
    units: ViaDeserialize<Vec<String>>,
    series: ViaDeserialize<Vec<Series>>,
) -> Result<Value, Error> {
    const ROWS: usize = 12;
    // Of a minute of seconds, which is what most series are, each fifth.
    const MINUTE: usize = 60;
    let units: Vec<fn(f64) -> Measure> = units
        .0
        .iter()
        .map(|word| unit_of(word))
        .collect::<Result<_, _>>()?;
    let longest = series
        .0
        .iter()
        .map(|one| one.points.len())
        .max()
        .unwrap_or(0);
    // As many rows as there will be, and as far apart, from the first point on: a table that
    // grew would make the page stale each second of its first minute.
    let apart = longest.max(MINUTE).div_ceil(ROWS);
    let step_ms = series.0.first().map_or(0, |first| first.step_ms);
    let rows: Vec<Vec<Value>> = (0..ROWS * apart)
        .step_by(apart)
        .map(|back| {
            let before = format::span(step_ms.saturating_mul(back as u64));
            let cells = series.0.iter().zip(&units).map(|(one, unit)| {
                let point = one.points.iter().rev().nth(back).copied().flatten();
                shown(point.map(unit))
            });
            core::iter::once(measure(&before)).chain(cells).collect()
        })
        .collect();
    Ok(Value::from(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(points: usize) -> Vec<Vec<String>> {
        let series = Series {
            step_ms: 1_000,
            points: (0..points).map(|_| Some(1.0)).collect(),
        };
        let table = series_rows(
            ViaDeserialize(vec!["per_s".to_owned()]),
            ViaDeserialize(vec![series]),
        );
        let rows = table.expect("a unit that is known");
        let cells = |row: Value| row.try_iter().expect("cells").map(|cell| cell.to_string());
        let rows = rows.try_iter().expect("rows");
        rows.map(|row| cells(row).collect()).collect()
    }

    #[test]
    fn a_table_of_the_past_has_all_its_rows_from_the_first_second() {
        let labels = |points| -> Vec<String> {
            let first = |row: Vec<String>| row.into_iter().next().expect("a label");
            rows(points).into_iter().map(first).collect()
        };
        let all = labels(60);
        assert_eq!(all.len(), 12);
        for points in 1..60 {
            assert_eq!(labels(points), all, "{points} points");
        }
        let young = rows(7);
        let known = young.iter().filter(|row| !row[1].contains('–')).count();
        assert_eq!(known, 2, "now and five seconds before: {young:?}");
    }
}
