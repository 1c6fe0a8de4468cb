//! How numbers are written: one place for every page.
//!
//! Rates are SI (1 kB/s is 1,000 bytes a second), memory and disk are binary (1 KiB is
//! 1,024 bytes), counts are exact. A number that is not finite or below nothing is a dash:
//! it was not measured.

use std::fmt;

/// A number as it is shown, apart from its unit so that a column can align both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Digits, with a point and commas where they belong.
    pub number: String,
    /// Unit, or empty for a count.
    pub unit: &'static str,
}

impl Measure {
    fn new(number: impl Into<String>, unit: &'static str) -> Self {
        Self {
            number: number.into(),
            unit,
        }
    }

    fn unknown() -> Self {
        Self::new("–", "")
    }
}

impl Measure {
    /// Without noughts that say nothing: for the ticks of an axis.
    #[must_use]
    pub fn short(mut self) -> Self {
        if self.number.contains('.') {
            let end = self
                .number
                .trim_end_matches('0')
                .trim_end_matches('.')
                .len();
            self.number.truncate(end);
        }
        self
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.number)?;
        if !self.unit.is_empty() {
            write!(f, " {}", self.unit)?;
        }
        Ok(())
    }
}

/// Exact, with a comma at each thousand.
#[must_use]
pub fn count(number: u64) -> Measure {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    Measure::new(grouped, "")
}

/// A number that is not a count: three digits after the point, or as many as it takes to say
/// the first three of a small one.
#[must_use]
pub fn decimal(number: f64) -> Measure {
    if !number.is_finite() {
        return Measure::unknown();
    }
    let size = number.abs();
    let decimals = if size == 0.0 || size >= 0.1 {
        3
    } else if size < 1e-9 {
        12
    } else {
        // From 0.1 down each nought after the point asks for one more place.
        let mut decimals = 3;
        let mut bound = 0.1;
        while size < bound {
            decimals += 1;
            bound /= 10.0;
        }
        decimals
    };
    let text = format!("{size:.decimals$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole
        .parse()
        .map_or_else(|_| whole.to_owned(), |whole| count(whole).number);
    let part = part.trim_end_matches('0');
    let point = if part.is_empty() { "" } else { "." };
    let sign = if number < 0.0 { "-" } else { "" };
    Measure::new(format!("{sign}{whole}{point}{part}"), "")
}

/// Bytes in memory or on a disk, in powers of 1,024.
#[must_use]
pub fn bytes(bytes: u64) -> Measure {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return Measure::new(bytes.to_string(), UNITS[0]);
    }
    scaled(lossy(bytes), 1024.0, &UNITS)
}

/// Things a second, in powers of 1,000.
#[must_use]
pub fn per_second(rate: f64) -> Measure {
    scaled(rate, 1000.0, &["/s", "k/s", "M/s", "G/s", "T/s"])
}

/// Bytes a second, in powers of 1,000.
#[must_use]
pub fn bytes_per_second(rate: f64) -> Measure {
    scaled(rate, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
}

/// A latency.
#[must_use]
pub fn micros(micros: u64) -> Measure {
    if micros < 1000 {
        return Measure::new(micros.to_string(), "µs");
    }
    scaled(lossy(micros), 1000.0, &["µs", "ms", "s", "ks"])
}

/// A latency that is longer than so many microseconds.
#[must_use]
pub fn over_micros(bound: u64) -> Measure {
    let mut measure = micros(bound);
    measure.number.insert_str(0, "> ");
    measure
}

/// How long something takes or took: two units at most.
#[must_use]
pub fn span(millis: u64) -> Measure {
    let seconds = millis / 1000;
    let two = |first: u64, one: &'static str, second: u64, other: &'static str| {
        if second == 0 {
            Measure::new(count(first).number, one)
        } else {
            Measure::new(format!("{} {one} {second}", count(first).number), other)
        }
    };
    match seconds {
        0 => Measure::new(millis.to_string(), "ms"),
        1..60 if millis.is_multiple_of(1000) => Measure::new(seconds.to_string(), "s"),
        1..60 => Measure::new(significant(lossy(millis) / 1000.0), "s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// A share, from thousandths.
#[must_use]
pub fn percent(permille: u64) -> Measure {
    let number = match permille {
        1000.. => count(permille / 10).number,
        _ => format!("{}.{}", permille / 10, permille % 10),
    };
    Measure::new(number, "%")
}

/// A wall-clock time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    year: u64,
    month: u64,
    day: u64,
    millis_of_day: u64,
}

impl Utc {
    /// From milliseconds since 1970-01-01, without leap seconds.
    #[must_use]
    pub fn from_unix_ms(unix_ms: u64) -> Self {
        const DAY_MS: u64 = 86_400_000;
        // Howard Hinnant's `civil_from_days`: years begin in March, so that the day that
        // comes and goes is the last of one.
        let days = unix_ms / DAY_MS + 719_468;
        let era = days / 146_097;
        let of_era = days % 146_097;
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            millis_of_day: unix_ms % DAY_MS,
        }
    }

    /// For machines, RFC 3339 with milliseconds.
    #[must_use]
    pub fn rfc3339(self) -> String {
        format!(
            "{}T{}.{:03}Z",
            self.date(),
            self.clock(),
            self.millis_of_day % 1000
        )
    }

    /// `2026-01-31`.
    #[must_use]
    pub fn date(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `10:30:00`.
    #[must_use]
    pub fn clock(self) -> String {
        let seconds = self.millis_of_day / 1000;
        format!(
            "{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    }
}

/// Three significant digits in the largest unit that leaves at least one before the point.
fn scaled(number: f64, step: f64, units: &'static [&'static str]) -> Measure {
    if !number.is_finite() || number < 0.0 {
        return Measure::unknown();
    }
    let mut number = number;
    let mut unit = 0;
    // What rounds to the next unit's 1 is shown in that unit: 999.6 k is 1.00 M.
    while number >= step - 0.5 && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    let digits = if unit == 0 && number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        significant(number)
    };
    Measure::new(digits, units[unit])
}

fn significant(number: f64) -> String {
    if number < 9.995 {
        format!("{number:.2}")
    } else if number < 99.95 {
        format!("{number:.1}")
    } else {
        format!("{number:.0}")
    }
}

/// Rounded to 53 bits, far below what is shown of it.
#[allow(clippy::cast_precision_loss)]
fn lossy(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cases: &[(Measure, &str)]) {
        for (measure, expected) in cases {
            assert_eq!(&measure.to_string(), expected);
        }
    }

    #[test]
    fn counts_are_exact_and_grouped() {
        check(&[
            (count(0), "0"),
            (count(999), "999"),
            (count(1000), "1,000"),
            (count(1_234_567), "1,234,567"),
            (count(u64::MAX), "18,446,744,073,709,551,615"),
        ]);
    }

    #[test]
    fn decimals_are_as_many_as_say_something() {
        check(&[
            (decimal(0.0), "0"),
            (decimal(64.855_017_088), "64.855"),
            (decimal(1_234_567.0), "1,234,567"),
            (decimal(-1.5), "-1.5"),
            (decimal(0.1), "0.1"),
            (decimal(0.012_345), "0.0123"),
            (decimal(0.000_148_6), "0.000149"),
            (decimal(4e-12), "0.000000000004"),
            (decimal(1e25), "10000000000000000905969664"),
            (decimal(f64::NAN), "–"),
            (decimal(f64::INFINITY), "–"),
        ]);
    }

    #[test]
    fn memory_is_binary_with_three_digits() {
        check(&[
            (bytes(0), "0 B"),
            (bytes(1023), "1023 B"),
            (bytes(1024), "1.00 KiB"),
            (bytes(10_240), "10.0 KiB"),
            (bytes(1_048_000), "1023 KiB"),
            (bytes(1_048_400), "1.00 MiB"),
            (bytes(52_847_392), "50.4 MiB"),
            (bytes(u64::MAX), "16.0 EiB"),
        ]);
    }

    #[test]
    fn rates_are_si_and_what_was_not_measured_is_a_dash() {
        check(&[
            (per_second(0.0), "0 /s"),
            (per_second(0.25), "0.25 /s"),
            (per_second(999.0), "999 /s"),
            (per_second(999.7), "1.00 k/s"),
            (per_second(1_234_567.0), "1.23 M/s"),
            (per_second(f64::NAN), "–"),
            (per_second(-1.0), "–"),
            (bytes_per_second(1000.0), "1.00 kB/s"),
            (bytes_per_second(9_999_000.0), "10.0 MB/s"),
            (bytes_per_second(f64::INFINITY), "–"),
        ]);
    }

    #[test]
    fn latencies_and_spans_take_the_unit_that_reads_best() {
        check(&[
            (micros(0), "0 µs"),
            (micros(999), "999 µs"),
            (micros(1530), "1.53 ms"),
            (micros(2_000_000), "2.00 s"),
            (over_micros(10_000_000), "> 10.0 s"),
            (span(0), "0 ms"),
            (span(850), "850 ms"),
            (span(1500), "1.50 s"),
            (span(48_000), "48 s"),
            (span(60_000), "1 min"),
            (span(252_000), "4 min 12 s"),
            (span(86_399_999), "23 h 59 min"),
            (span(90_000_000), "1 d 1 h"),
            (span(u64::MAX), "213,503,982,334 d 14 h"),
        ]);
    }

    #[test]
    fn ticks_lose_noughts_after_the_point_only() {
        check(&[
            (per_second(50_000.0).short(), "50 k/s"),
            (per_second(2_500.0).short(), "2.5 k/s"),
            (per_second(500.0).short(), "500 /s"),
            (count(1000).short(), "1,000"),
        ]);
    }

    #[test]
    fn shares_keep_a_tenth_below_the_whole() {
        check(&[
            (percent(0), "0.0 %"),
            (percent(7), "0.7 %"),
            (percent(999), "99.9 %"),
            (percent(1000), "100 %"),
        ]);
    }

    #[test]
    fn times_are_utc_across_leap_days_and_centuries() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_769_855_400_000, "2026-01-31T10:30:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Utc::from_unix_ms(unix_ms).rfc3339(), expected);
        }
        assert_eq!(Utc::from_unix_ms(u64::MAX).clock().len(), 8);
    }
}
