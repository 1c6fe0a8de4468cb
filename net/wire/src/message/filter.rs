//! Which records a subscription or fetch wants.
//!
//! A filter is an AND of terms; a term compares the values of one header with
//! one or more values. It is walked on every record, so it stays encoded: its
//! terms lie beside each other, and the walk allocates nothing.

use core::fmt;

use pinion_types::block::Record;
use pinion_types::limits::{FILTER_TERMS_MAX, HEADER_NAME_BYTES_MAX};

use crate::codec::{Reader, Writer, wire_enum};
use crate::error::{DecodeError, EncodeError};

/// Longest encoded filter. A subscription keeps its filter, and every record is
/// compared with it: higher lets one subscription cost more memory and time.
pub const FILTER_BYTES_MAX: usize = 4096;

wire_enum! {
    /// How a term compares.
    pub enum FilterOp {
        /// A header of the name has the value.
        Eq = 1,
        /// No header of the name has the value.
        Ne = 2,
        /// A header of the name begins with the value.
        Prefix = 3,
        /// A header of the name has one of the values.
        AnyOf = 4,
    }
}

/// A checked filter, still encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Filter<'a> {
    encoded: &'a [u8],
}

/// The filter that wants every record.
const EVERYTHING: &[u8] = &[0];

impl Default for Filter<'_> {
    fn default() -> Self {
        Self::everything()
    }
}

impl<'a> Filter<'a> {
    /// Wants every record.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            encoded: EVERYTHING,
        }
    }

    /// Checks encoded bytes, which must hold nothing else.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(encoded: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(encoded);
        let filter = reader.filter("filter")?;
        reader.end()?;
        Ok(filter)
    }

    /// The bytes as a frame carries them.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.encoded
    }

    /// Whether every record is wanted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.encoded.len() <= EVERYTHING.len()
    }

    /// The terms in order.
    #[must_use]
    pub fn terms(&self) -> Terms<'a> {
        let mut reader = Reader::new(self.encoded);
        let left = reader.fixed("term_count").unwrap_or(0);
        Terms { left, reader }
    }

    /// Whether the record is wanted: every term holds.
    #[must_use]
    pub fn matches(&self, record: &Record<'_>) -> bool {
        self.is_empty() || self.terms().all(|term| term.holds(record))
    }
}

impl fmt::Debug for Filter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.terms()).finish()
    }
}

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term<'a> {
    /// How to compare.
    pub op: FilterOp,
    /// The header's name.
    pub name: &'a [u8],
    /// One, or with [`FilterOp::AnyOf`] one to 255.
    pub values: Values<'a>,
}

impl<'a> Term<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let op = reader.fixed("op")?;
        let name_len: u8 = reader.within("header_name", 1, HEADER_NAME_BYTES_MAX as u64)?;
        let name = reader.bytes("header_name", usize::from(name_len))?;
        let max = match op {
            FilterOp::AnyOf => u64::from(u8::MAX),
            FilterOp::Eq | FilterOp::Ne | FilterOp::Prefix => 1,
        };
        let left = reader.within("value_count", 1, max)?;
        let values = Values {
            left,
            reader: *reader,
        };
        for _ in 0..left {
            read_value(reader)?;
        }
        Ok(Self { op, name, values })
    }

    /// Whether it holds for the record. A header may occur several times: a
    /// term but [`FilterOp::Ne`] holds when it holds for one of them.
    #[must_use]
    pub fn holds(&self, record: &Record<'_>) -> bool {
        let mut found = record
            .headers()
            .filter(|(name, _)| *name == self.name)
            .map(|(_, value)| value);
        let mut values = self.values;
        match self.op {
            FilterOp::Prefix => values
                .next()
                .is_some_and(|wanted| found.any(|value| value.starts_with(wanted))),
            FilterOp::Eq | FilterOp::AnyOf => {
                found.any(|value| self.values.into_iter().any(|wanted| value == wanted))
            }
            FilterOp::Ne => values
                .next()
                .is_some_and(|wanted| found.all(|value| value != wanted)),
        }
    }
}

/// Walks the terms of a filter.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    left: u8,
    reader: Reader<'a>,
}

impl<'a> Iterator for Terms<'a> {
    type Item = Term<'a>;

    fn next(&mut self) -> Option<Term<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(Term::read(&mut self.reader).expect("a filter is checked when it is made"))
    }
}

/// Walks the values of a term.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    left: u8,
    reader: Reader<'a>,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        Some(read_value(&mut self.reader).expect("a filter is checked when it is made"))
    }
}

impl PartialEq for Values<'_> {
    fn eq(&self, other: &Self) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for Values<'_> {}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

fn read_value<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len: u16 = reader.within("filter_value", 0, HEADER_NAME_BYTES_MAX as u64)?;
    reader.bytes("filter_value", usize::from(len))
}

impl<'a> Reader<'a> {
    pub(super) fn filter(&mut self, field: &'static str) -> Result<Filter<'a>, DecodeError> {
        let start = self.remaining();
        let count: u8 = self.within("term_count", 0, FILTER_TERMS_MAX as u64)?;
        for _ in 0..count {
            Term::read(self)?;
        }
        let encoded = &start[..start.len() - self.remaining().len()];
        if encoded.len() > FILTER_BYTES_MAX {
            return Err(DecodeError::OutOfRange {
                field,
                actual: encoded.len() as u64,
                min: 1,
                max: FILTER_BYTES_MAX as u64,
            });
        }
        Ok(Filter { encoded })
    }
}

impl Writer<'_> {
    pub(super) fn filter(
        &mut self,
        _field: &'static str,
        filter: Filter<'_>,
    ) -> Result<(), EncodeError> {
        self.out.extend_from_slice(filter.encoded);
        Ok(())
    }
}

/// A filter that owns its bytes: what a client builds and a subscription keeps.
#[derive(Clone, PartialEq, Eq)]
pub struct FilterBuf(Vec<u8>);

impl Default for FilterBuf {
    fn default() -> Self {
        Self(EVERYTHING.to_vec())
    }
}

impl From<Filter<'_>> for FilterBuf {
    fn from(filter: Filter<'_>) -> Self {
        Self(filter.encoded.to_vec())
    }
}

impl fmt::Debug for FilterBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_filter().fmt(f)
    }
}

impl FilterBuf {
    /// Wants every record until terms are added.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The filter.
    #[must_use]
    pub fn as_filter(&self) -> Filter<'_> {
        Filter { encoded: &self.0 }
    }

    /// Whether the record is wanted.
    #[must_use]
    pub fn matches(&self, record: &Record<'_>) -> bool {
        self.as_filter().matches(record)
    }

    /// Adds: a header `name` has `value`.
    ///
    /// # Errors
    /// As [`FilterBuf::any_of`].
    pub fn equals(&mut self, name: &[u8], value: &[u8]) -> Result<&mut Self, EncodeError> {
        self.push(FilterOp::Eq, name, &[value])
    }

    /// Adds: no header `name` has `value`.
    ///
    /// # Errors
    /// As [`FilterBuf::any_of`].
    pub fn not_equals(&mut self, name: &[u8], value: &[u8]) -> Result<&mut Self, EncodeError> {
        self.push(FilterOp::Ne, name, &[value])
    }

    /// Adds: a header `name` begins with `value`.
    ///
    /// # Errors
    /// As [`FilterBuf::any_of`].
    pub fn starts_with(&mut self, name: &[u8], value: &[u8]) -> Result<&mut Self, EncodeError> {
        self.push(FilterOp::Prefix, name, &[value])
    }

    /// Adds: a header `name` has one of `values`.
    ///
    /// # Errors
    /// Too many terms or values, an empty name, or a name, value or filter that
    /// is too long. The filter is unchanged.
    pub fn any_of(&mut self, name: &[u8], values: &[&[u8]]) -> Result<&mut Self, EncodeError> {
        self.push(FilterOp::AnyOf, name, values)
    }

    fn push(
        &mut self,
        op: FilterOp,
        name: &[u8],
        values: &[&[u8]],
    ) -> Result<&mut Self, EncodeError> {
        let before = self.0.len();
        match self.append(op, name, values) {
            Ok(()) => {
                self.0[0] += 1;
                Ok(self)
            }
            Err(error) => {
                self.0.truncate(before);
                Err(error)
            }
        }
    }

    fn append(&mut self, op: FilterOp, name: &[u8], values: &[&[u8]]) -> Result<(), EncodeError> {
        fits(
            "term_count",
            usize::from(self.0[0]) + 1,
            1,
            FILTER_TERMS_MAX,
        )?;
        fits("header_name", name.len(), 1, HEADER_NAME_BYTES_MAX)?;
        fits("value_count", values.len(), 1, usize::from(u8::MAX))?;
        let mut writer = Writer { out: &mut self.0 };
        writer.put(op);
        writer.put(u8::try_from(name.len()).expect("at most HEADER_NAME_BYTES_MAX"));
        writer.out.extend_from_slice(name);
        writer.put(u8::try_from(values.len()).expect("at most u8::MAX"));
        for value in values {
            fits("filter_value", value.len(), 0, HEADER_NAME_BYTES_MAX)?;
            writer.put(u16::try_from(value.len()).expect("at most HEADER_NAME_BYTES_MAX"));
            writer.out.extend_from_slice(value);
        }
        fits("filter", self.0.len(), 1, FILTER_BYTES_MAX)
    }
}

fn fits(field: &'static str, len: usize, min: usize, max: usize) -> Result<(), EncodeError> {
    if len < min || len > max {
        return Err(EncodeError::OutOfRange {
            field,
            actual: len as u64,
            min: min as u64,
            max: max as u64,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use pinion_types::block::encode_header;

    use super::*;

    /// Whether a record with these headers is wanted.
    fn wants(filter: &FilterBuf, headers: &[(&str, &str)]) -> bool {
        let mut encoded = Vec::new();
        for (name, value) in headers {
            encode_header(&mut encoded, name.as_bytes(), value.as_bytes()).unwrap();
        }
        filter.matches(&Record {
            key: b"",
            headers: &encoded,
            value: b"",
        })
    }

    fn filter(build: impl FnOnce(&mut FilterBuf)) -> FilterBuf {
        let mut filter = FilterBuf::new();
        build(&mut filter);
        assert_eq!(
            Filter::parse(&filter.0),
            Ok(filter.as_filter()),
            "what is built is well-formed"
        );
        filter
    }

    #[test]
    fn no_term_wants_every_record() {
        let all = FilterBuf::new();
        assert!(all.as_filter().is_empty());
        assert!(wants(&all, &[]));
        assert!(wants(&all, &[("type", "a")]));
    }

    #[test]
    fn each_comparison_holds_for_what_it_says() {
        let eq = filter(|f| {
            f.equals(b"type", b"a").unwrap();
        });
        assert!(wants(&eq, &[("type", "a")]));
        assert!(!wants(&eq, &[("type", "ab")]));
        assert!(!wants(&eq, &[("kind", "a")]));
        assert!(!wants(&eq, &[]));

        let ne = filter(|f| {
            f.not_equals(b"type", b"a").unwrap();
        });
        assert!(!wants(&ne, &[("type", "a")]));
        assert!(wants(&ne, &[("type", "b")]));
        assert!(wants(&ne, &[]), "an absent header is not equal");

        let prefix = filter(|f| {
            f.starts_with(b"type", b"ab").unwrap();
        });
        assert!(wants(&prefix, &[("type", "abc")]));
        assert!(wants(&prefix, &[("type", "ab")]));
        assert!(!wants(&prefix, &[("type", "a")]));

        let any = filter(|f| {
            f.any_of(b"type", &[b"a", b"c"]).unwrap();
        });
        assert!(wants(&any, &[("type", "a")]));
        assert!(wants(&any, &[("type", "c")]));
        assert!(!wants(&any, &[("type", "b")]));
    }

    #[test]
    fn every_term_must_hold_and_any_repeat_of_a_header_counts() {
        let both = filter(|f| {
            f.equals(b"a", b"1")
                .unwrap()
                .starts_with(b"b", b"x")
                .unwrap();
        });
        assert!(wants(&both, &[("a", "1"), ("b", "xy")]));
        assert!(!wants(&both, &[("a", "1")]));
        assert!(!wants(&both, &[("b", "xy")]));
        let eq = filter(|f| {
            f.equals(b"a", b"2").unwrap();
        });
        assert!(wants(&eq, &[("a", "1"), ("a", "2")]));
        let ne = filter(|f| {
            f.not_equals(b"a", b"2").unwrap();
        });
        assert!(!wants(&ne, &[("a", "1"), ("a", "2")]));
    }

    #[test]
    fn a_filter_stays_within_its_limits_and_unchanged_when_refused() {
        let mut filter = FilterBuf::new();
        assert!(filter.equals(b"", b"x").is_err());
        assert!(filter.equals(&[b'n'; 256], b"x").is_err());
        assert!(filter.equals(b"n", &[b'v'; 256]).is_err());
        assert!(filter.any_of(b"n", &[]).is_err());
        let long = [b'v'; 255];
        assert!(filter.any_of(b"n", &[&long[..]; 16]).is_err(), "over 4096");
        assert_eq!(filter, FilterBuf::new());
        for _ in 0..FILTER_TERMS_MAX {
            filter.equals(b"n", b"v").unwrap();
        }
        assert!(filter.equals(b"n", b"v").is_err());
        assert_eq!(filter.as_filter().terms().count(), FILTER_TERMS_MAX);
    }

    #[test]
    fn what_is_not_a_filter_is_refused() {
        for (bytes, why) in [
            (&b""[..], "no count"),
            (&[17], "too many terms"),
            (&[1, 5, 1, b'n', 1, 0, 0], "unknown comparison"),
            (&[1, 1, 0, 1, 0, 0], "empty name"),
            (&[1, 1, 1, b'n', 0], "no value"),
            (&[1, 1, 1, b'n', 2, 0, 0, 0, 0], "two values to eq"),
            (&[1, 4, 1, b'n', 1, 0, 1], "value over 255"),
            (&[0, 0], "bytes after the last term"),
        ] {
            assert!(Filter::parse(bytes).is_err(), "{why}");
        }
    }
}
