//! Values of options: names, durations, headers, places to start from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pinion_client::{Offset, StartFrom};
use pinion_types::limits::{QUEUE_LEASE_MS_MAX, QUEUE_TIME_MS_MAX};
use pinion_types::{NameError, ResourceName};

use crate::human;

/// Where `sub` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Earliest,
    Latest,
    Offset(u64),
    /// Milliseconds since the Unix epoch.
    Time(u64),
    /// So long before now.
    Ago(Duration),
}

impl From {
    pub(crate) fn at(self, now: SystemTime) -> StartFrom {
        match self {
            Self::Earliest => StartFrom::Earliest,
            Self::Latest => StartFrom::Latest,
            Self::Offset(offset) => StartFrom::Offset(Offset(offset)),
            Self::Time(ms) => StartFrom::Time(ms),
            Self::Ago(ago) => {
                let then = now.duration_since(UNIX_EPOCH).unwrap_or_default();
                let ms = then.saturating_sub(ago).as_millis();
                StartFrom::Time(u64::try_from(ms).unwrap_or(u64::MAX))
            }
        }
    }
}

/// `earliest`, `latest`, an offset, a time like `2026-01-02T03:04:05Z`, or how
/// long ago, like `15m` or `-15m`.
pub(crate) fn from(text: &str) -> Result<From, String> {
    match text {
        "earliest" => return Ok(From::Earliest),
        "latest" => return Ok(From::Latest),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        return Ok(From::Offset(offset));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return u64::try_from(time.as_millisecond())
            .map(From::Time)
            .map_err(|_| "that is before 1970".to_owned());
    }
    let ago = text.strip_prefix('-').unwrap_or(text);
    duration(ago).map(From::Ago).map_err(|_| {
        "expected earliest, latest, an offset, a time like 2026-01-02T03:04:05Z, or how long ago, like 15m"
            .to_owned()
    })
}

/// A time of the past as RFC 3339: written so, or how long ago, like `15m`. Longer ago than
/// 1970 is 1970: nothing was before.
pub(crate) fn ago(text: &str) -> Result<String, String> {
    moment_from(text, |now, time| {
        (now - time).max(jiff::Timestamp::UNIX_EPOCH)
    })
}

/// A time to come as RFC 3339: written so, or in how long, like `7d`.
pub(crate) fn moment(text: &str) -> Result<String, String> {
    moment_from(text, |now, time| now + time)
}

fn moment_from(
    text: &str,
    from_now: impl Fn(jiff::Timestamp, Duration) -> jiff::Timestamp,
) -> Result<String, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.to_string());
    }
    // Longer would leave the calendar.
    const SPAN_MAX: Duration = Duration::from_secs(1000 * 365 * 86_400);
    match duration(text) {
        Ok(time) if time <= SPAN_MAX => Ok(from_now(jiff::Timestamp::now(), time).to_string()),
        _ => {
            Err("expected a time like 2026-01-02T03:04:05Z, or a length like 15m or 7d".to_owned())
        }
    }
}

/// `250ms`, `90s`, `1h30m`, `7d`. A day has 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::Span>()
        .and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a time above zero like 250ms, 90s, 1h30m or 7d".to_owned())
}

/// A [`duration`] in whole milliseconds, at least one and at most `max`.
fn milliseconds(text: &str, max: u64) -> Result<u64, String> {
    let ms = u64::try_from(duration(text)?.as_millis()).unwrap_or(u64::MAX);
    if ms > max {
        return Err(format!("at most {}", human::span(max)));
    }
    Ok(ms.max(1))
}

/// How long a message waits or lives.
pub(crate) fn message_time(text: &str) -> Result<Duration, String> {
    milliseconds(text, QUEUE_TIME_MS_MAX).map(Duration::from_millis)
}

/// How long a message is reserved.
pub(crate) fn lease(text: &str) -> Result<Duration, String> {
    milliseconds(text, u64::from(QUEUE_LEASE_MS_MAX)).map(Duration::from_millis)
}

/// A time that travels as a `u32` of milliseconds.
pub(crate) fn ms_u32(text: &str) -> Result<u32, String> {
    let ms = milliseconds(text, u64::from(u32::MAX))?;
    u32::try_from(ms).map_err(|error| error.to_string())
}

/// A time that travels as a `u64` of milliseconds.
pub(crate) fn ms_u64(text: &str) -> Result<u64, String> {
    milliseconds(text, u64::MAX)
}

/// `65536`, `512KiB`, `10GiB`; above zero.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 5] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("B", 0)];
    let (number, shift) = UNITS
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
        .unwrap_or((text, 0));
    number
        .trim_end()
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| {
            "expected a number of bytes above zero like 65536, 512KiB or 10GiB".to_owned()
        })
}

/// `NAMESPACE/NAME`, checked before anything is sent.
pub(crate) fn resource(text: &str) -> Result<String, NameError> {
    ResourceName::parse(text).map(|_| text.to_owned())
}

/// A name of one segment: of a tenant, a namespace or a broker.
pub(crate) fn segment(text: &str) -> Result<String, String> {
    if text.contains('/') {
        return Err("one name, without `/`".to_owned());
    }
    ResourceName::new(text, "x")
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_where_to_begin_is_understood() {
        assert_eq!(from("earliest"), Ok(From::Earliest));
        assert_eq!(from("latest"), Ok(From::Latest));
        assert_eq!(from("42"), Ok(From::Offset(42)));
        assert_eq!(from("1970-01-01T00:00:01.5Z"), Ok(From::Time(1500)));
        assert_eq!(from("1970-01-01T01:00:00+01:00"), Ok(From::Time(0)));
        assert_eq!(from("15m"), Ok(From::Ago(Duration::from_secs(900))));
        assert_eq!(from("-10m"), Ok(From::Ago(Duration::from_secs(600))));
        assert!(from("1969-01-01T00:00:00Z").is_err());
        assert!(from("-3").is_err() && from("--3m").is_err());
    }

    #[test]
    fn how_long_ago_is_counted_back_from_now() {
        let now = UNIX_EPOCH + Duration::from_secs(100);
        let ago = |seconds| From::Ago(Duration::from_secs(seconds)).at(now);
        assert_eq!(ago(40), StartFrom::Time(60_000));
        assert_eq!(ago(200), StartFrom::Time(0));
    }

    #[test]
    fn a_duration_is_above_zero_and_has_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for wrong in ["0s", "-1s", "10", "soon", "", "1mo"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_over_what_a_queue_takes_is_refused_with_the_limit() {
        assert_eq!(lease("12h"), Ok(Duration::from_secs(12 * 3600)));
        assert_eq!(lease("13h"), Err("at most 12h".to_owned()));
        assert_eq!(
            lease("1us"),
            Ok(Duration::from_millis(1)),
            "0 is the queue's"
        );
        assert_eq!(
            message_time("3650d").map(|time| time.as_secs()),
            Ok(315_360_000)
        );
        assert!(message_time("3651d").is_err());
    }

    #[test]
    fn a_moment_is_a_time_or_a_length_from_now() {
        let of = |text: &str, parse: fn(&str) -> Result<String, String>| {
            let text = parse(text).expect(text);
            text.parse::<jiff::Timestamp>().expect(&text)
        };
        let now = jiff::Timestamp::now();
        assert_eq!(
            of("1970-01-01T01:00:00+01:00", ago),
            jiff::Timestamp::UNIX_EPOCH
        );
        assert_eq!(of("365000d", ago), jiff::Timestamp::UNIX_EPOCH);
        assert!(of("1h", ago) < now && of("1h", moment) > now);
        for wrong in ["", "tomorrow", "400000d", "-1h"] {
            assert!(ago(wrong).is_err() && moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_have_binary_units_or_none() {
        assert_eq!(bytes("65536"), Ok(65_536));
        assert_eq!(bytes("512KiB"), Ok(512 << 10));
        assert_eq!(bytes("10 GiB"), Ok(10 << 30));
        assert_eq!(bytes("7B"), Ok(7));
        for wrong in ["0", "-1", "1GB", "KiB", "1.5GiB", "99999999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_may_have_an_empty_value_and_no_empty_name() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("=b").is_err() && pair("ab").is_err());
    }
}
