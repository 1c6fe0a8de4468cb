//! Addresses of resources and their grammar.

use core::fmt;

/// Longest segment in bytes.
pub const SEGMENT_BYTES_MAX: usize = 63;
/// Most segments of a name.
pub const SEGMENTS_MAX: usize = 8;
/// Longest namespace and name together, with the separators.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// What a resource is; part of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ResourceKind {
    /// An ordered log with fan-out.
    Stream = 1,
    /// Key to latest value with TTL.
    Cache = 2,
    /// Messages shared by consumers who acknowledge them.
    Queue = 3,
}

impl ResourceKind {
    /// The kind behind a wire byte, if there is one.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Stream),
            2 => Some(Self::Cache),
            3 => Some(Self::Queue),
            _ => None,
        }
    }

    /// The word of the address scheme: `stream://…`.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Cache => "cache",
            Self::Queue => "queue",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())
    }
}

/// A checked `(namespace, name)` inside a tenant. `name` is one or more
/// segments joined by `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName {
    namespace: String,
    name: String,
}

/// Why an address was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A segment is empty.
    #[error("a segment is empty")]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error("a segment is '.' or '..'")]
    DotSegment,
    /// A segment is longer than [`SEGMENT_BYTES_MAX`].
    #[error("a segment has {len} bytes, the most is {SEGMENT_BYTES_MAX}")]
    SegmentTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A byte outside `[A-Za-z0-9._-]`.
    #[error("byte 0x{byte:02x} at {position} is not one of A-Z a-z 0-9 . _ -")]
    BadByte {
        /// The byte.
        byte: u8,
        /// Where it stands in the text.
        position: usize,
    },
    /// More than [`SEGMENTS_MAX`] segments.
    #[error("{count} segments, the most is {SEGMENTS_MAX}")]
    TooManySegments {
        /// How many there were.
        count: usize,
    },
    /// Longer than [`ADDRESS_BYTES_MAX`] in all.
    #[error("{len} bytes in all, the most is {ADDRESS_BYTES_MAX}")]
    TooLong {
        /// Namespace, separator and name in bytes.
        len: usize,
    },
    /// No `/` between namespace and name.
    #[error("expected NAMESPACE/NAME")]
    NoNamespace,
}

impl ResourceName {
    /// Checks both parts.
    ///
    /// # Errors
    /// [`NameError`] names the first fault; nothing is kept.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        let len = namespace.len() + 1 + name.len();
        if len > ADDRESS_BYTES_MAX {
            return Err(NameError::TooLong { len });
        }
        check_segment(namespace, 0)?;
        let count = name.split('/').count();
        if count > SEGMENTS_MAX {
            return Err(NameError::TooManySegments { count });
        }
        let mut position = 0;
        for segment in name.split('/') {
            check_segment(segment, position)?;
            position += segment.len() + 1;
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Reads `NAMESPACE/NAME`, as people type it.
    ///
    /// # Errors
    /// As [`ResourceName::new`], and [`NameError::NoNamespace`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (namespace, name) = text.split_once('/').ok_or(NameError::NoNamespace)?;
        Self::new(namespace, name)
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name, segments joined by `/`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

fn check_segment(segment: &str, start: usize) -> Result<(), NameError> {
    if segment.is_empty() {
        return Err(NameError::EmptySegment);
    }
    if segment == "." || segment == ".." {
        return Err(NameError::DotSegment);
    }
    if segment.len() > SEGMENT_BYTES_MAX {
        return Err(NameError::SegmentTooLong { len: segment.len() });
    }
    for (i, byte) in segment.bytes().enumerate() {
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
            return Err(NameError::BadByte {
                byte,
                position: start + i,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: NameError) {
        assert_eq!(ResourceName::parse(text), Err(expected), "{text}");
    }

    #[test]
    fn names_of_one_to_eight_segments_are_taken() {
        for text in [
            "a/b",
            "payments/eu/orders",
            "n/1/2/3/4/5/6/7/8",
            "A.b_c-9/..a",
        ] {
            let name = ResourceName::parse(text).expect(text);
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn faults_are_named() {
        refused("lonely", NameError::NoNamespace);
        refused("/b", NameError::EmptySegment);
        refused("a/", NameError::EmptySegment);
        refused("a/b//c", NameError::EmptySegment);
        refused("a/..", NameError::DotSegment);
        refused("a/b/./c", NameError::DotSegment);
        refused(
            "a/b c",
            NameError::BadByte {
                byte: b' ',
                position: 1,
            },
        );
        refused(
            "a/1/2/3/4/5/6/7/8/9",
            NameError::TooManySegments { count: 9 },
        );
        refused(
            &format!("a/{}", "x".repeat(64)),
            NameError::SegmentTooLong { len: 64 },
        );
        let long = vec!["x".repeat(63); 4].join("/");
        refused(&format!("a/{long}"), NameError::TooLong { len: 257 });
    }
}
