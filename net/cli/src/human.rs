//! Tables, times and lengths as people read them.

use std::fmt::Write as _;

/// To which side of its column a cell goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A heading, the least width of the column, and its side.
pub type Column = (&'static str, usize, Align);

/// Lines of cells below headings. It keeps no rows, so that a list of any
/// length comes out as it is read; a cell wider than its column pushes the rest
/// of its own line only.
#[derive(Clone, Copy, Debug)]
pub struct Table(pub &'static [Column]);

impl Table {
    /// The line of headings.
    #[must_use]
    pub fn head(&self) -> String {
        self.line(self.0.iter().map(|(heading, ..)| *heading))
    }

    /// One row. Cells beyond the last column are a bug of the caller and left
    /// out.
    #[must_use]
    pub fn row<S: AsRef<str>>(&self, cells: &[S]) -> String {
        debug_assert_eq!(cells.len(), self.0.len(), "a cell for each column");
        self.line(cells.iter().map(AsRef::as_ref))
    }

    fn line<'c>(&self, cells: impl Iterator<Item = &'c str>) -> String {
        let mut line = String::new();
        for ((heading, width, align), cell) in self.0.iter().zip(cells) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let width = heading.len().max(*width);
            let written = match align {
                Align::Left => write!(line, "{cell:<width$}"),
                Align::Right => write!(line, "{cell:>width$}"),
            };
            written.expect("writing to a String cannot fail");
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Milliseconds since the Unix epoch as a time in UTC; the number itself when it
/// is beyond the calendar.
#[must_use]
pub fn time(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| ms.to_string(), |time| format!("{time:.3}"))
}

/// A length of time in its two largest units: `4m12s`, `3d2h`, `250ms`.
#[must_use]
pub fn span(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (24 * 3600 * 1000, "d"),
        (3600 * 1000, "h"),
        (60 * 1000, "m"),
        (1000, "s"),
    ];
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let mut text = String::new();
    let mut rest = ms;
    let largest = UNITS.iter().position(|(unit, _)| ms >= *unit);
    for (unit, letter) in UNITS.iter().skip(largest.unwrap_or(3)).take(2) {
        let count = rest / unit;
        rest %= unit;
        if count > 0 {
            write!(text, "{count}{letter}").expect("writing to a String cannot fail");
        }
    }
    text
}

/// Bytes in the largest binary unit of which there is at least one: `64 MiB`,
/// `1.5 GiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in UNITS {
        let whole = count >> shift;
        if whole > 0 {
            let tenths = ((count >> (shift - 10)) & 1023) * 10 / 1024;
            return match tenths {
                0 => format!("{whole} {unit}"),
                _ => format!("{whole}.{tenths} {unit}"),
            };
        }
    }
    format!("{count} B")
}

/// `1 message`, `2 messages`: a number and what is counted.
#[must_use]
pub fn count(number: u64, one: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {one}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table(&[("ID", 4, Align::Right), ("STATE", 8, Align::Left)]);

    #[test]
    fn cells_stand_below_their_headings_and_lines_end_where_words_end() {
        assert_eq!(TABLE.head(), "  ID  STATE");
        assert_eq!(TABLE.row(&["7", "ready"]), "   7  ready");
        assert_eq!(TABLE.row(&["123456", "dead"]), "123456  dead");
    }

    #[test]
    fn times_are_in_utc_and_lengths_have_two_units() {
        assert_eq!(time(1_500), "1970-01-01T00:00:01.500Z");
        assert_eq!(time(u64::MAX), u64::MAX.to_string());
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (252_000, "4m12s"),
            (3_600_000, "1h"),
            (3_605_000, "1h"),
            (266_400_000, "3d2h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn bytes_have_a_unit_and_what_is_counted_has_its_plural() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(64 << 20), "64 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
        assert_eq!(count(1, "message"), "1 message");
        assert_eq!(count(0, "message"), "0 messages");
    }
}
