//! Amounts as people write them in options and files.
//!
//! `none` and `0` say that there is no limit; the node knows them as 0.

use crate::value;

/// Units of bytes, the longer names first.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// A number of something: digits, with `_` between them as one likes.
pub(super) fn count(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(0);
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let framed = text.starts_with('_') || text.ends_with('_');
    let number = (digits && !framed).then(|| text.replace('_', "").parse().ok());
    number
        .flatten()
        .ok_or_else(|| "expected a number, or none".to_owned())
}

/// `65536`, `512KiB`, `100GB`: units of 1,024 have an `i`, units of 1,000 have none.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(0);
    }
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
        .unwrap_or((text, 1));
    count(number.trim_end())
        .ok()
        .filter(|_| !number.contains("none"))
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| "expected a number of bytes like 65536, 512KiB or 100GB, or none".to_owned())
}

/// Milliseconds of `250ms`, `90s`, `1h30m`, `7d`.
pub(super) fn time(text: &str) -> Result<u64, String> {
    if text == "none" || text == "0" {
        return Ok(0);
    }
    let time = value::duration(text)
        .map_err(|_| "expected a time like 250ms, 90s, 1h30m or 7d, or none".to_owned())?;
    let ms = u64::try_from(time.as_millis()).map_err(|error| error.to_string())?;
    Ok(ms.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_of_1024_with_an_i_and_of_1000_without() {
        assert_eq!(bytes("100GB"), Ok(100_000_000_000));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        assert_eq!(bytes("1 TB"), Ok(1_000_000_000_000));
        assert_eq!(bytes("7B"), Ok(7));
        assert_eq!(bytes("65_536"), Ok(65_536));
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("none"), Ok(0));
        for wrong in [
            "",
            "GB",
            "1.5GB",
            "-1",
            "1gb",
            "99999999TiB",
            "_1",
            "noneGB",
            "1G",
        ] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_has_a_unit_or_is_none() {
        assert_eq!(time("7d"), Ok(7 * 86_400_000));
        assert_eq!(time("none"), Ok(0));
        assert_eq!(time("1us"), Ok(1), "0 would mean no limit");
        for wrong in ["", "7", "-1s", "soon"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_number_is_digits() {
        assert_eq!(count("1_000"), Ok(1_000));
        for wrong in ["", "_", "1_", "1e3", "-1", "18446744073709551616"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
