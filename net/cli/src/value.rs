//! Values of options: names, durations, headers, places to start from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pinion_client::{Offset, StartFrom};
use pinion_types::{NameError, ResourceName};

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
/// long ago, like `15m`.
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
    duration(text).map(From::Ago).map_err(|_| {
        "expected earliest, latest, an offset, a time like 2026-01-02T03:04:05Z, or how long ago, like 15m"
            .to_owned()
    })
}

/// `90s`, `1h30m`, `250ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a time above zero like 250ms, 90s or 1h30m".to_owned())
}

/// `NAMESPACE/NAME`, checked before anything is sent.
pub(crate) fn resource(text: &str) -> Result<String, NameError> {
    ResourceName::parse(text).map(|_| text.to_owned())
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
        assert!(from("1969-01-01T00:00:00Z").is_err());
        assert!(from("-3").is_err());
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
        for wrong in ["0s", "-1s", "10", "soon", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_may_have_an_empty_value_and_no_empty_name() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("=b").is_err() && pair("ab").is_err());
    }
}
