//! Records as applications see them.

use bytes::Bytes;
use pinion_types::block::{self, Headers};
use pinion_types::limits::{
    HEADER_NAME_BYTES_MAX, HEADERS_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, RECORD_BYTES_MAX,
};
use pinion_types::{Offset, PartitionId};

use crate::error::RequestError;

/// A record to publish.
///
/// ```
/// use pinion_client::Record;
///
/// let record = Record::new("12.5 kn")
///     .key("station-7")
///     .header("kind", "wind");
/// assert_eq!(record.key.as_deref(), Some(&b"station-7"[..]));
/// assert_eq!(record.headers.len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Records with one key go to one partition and keep their order there.
    /// At most 1,024 bytes; an empty key counts as none.
    pub key: Option<Bytes>,
    /// Names (1 to 255 bytes) and values; at most 64 of them and 8,192 bytes in all.
    pub headers: Vec<(Bytes, Bytes)>,
    /// The payload. Key, headers and value are at most 1 MiB together, less
    /// where the stream says so.
    pub value: Bytes,
}

impl Record {
    /// A record without key and headers.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self {
            key: None,
            headers: Vec::new(),
            value: value.into(),
        }
    }

    /// The same with a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The key, if it says anything.
    pub(crate) fn key_bytes(&self) -> &[u8] {
        self.key.as_deref().unwrap_or_default()
    }

    /// Bytes in a batch.
    pub(crate) fn encoded_len(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(n, v)| 3 + n.len() + v.len())
            .sum();
        block::RECORD_HEADER_BYTES + self.key_bytes().len() + headers + self.value.len()
    }

    /// Whether a node could take it.
    pub(crate) fn check(&self) -> Result<(), RequestError> {
        let within = |what, len: usize, limit: usize| {
            if len > limit {
                Err(RequestError::TooLarge { what, len, limit })
            } else {
                Ok(())
            }
        };
        within(
            "the key",
            self.key_bytes().len(),
            usize::from(KEY_BYTES_MAX),
        )?;
        if self.headers.len() > HEADERS_MAX {
            return Err(RequestError::BadArgument {
                what: "a record has at most 64 headers",
            });
        }
        let mut headers = 0;
        for (name, value) in &self.headers {
            if name.is_empty() {
                return Err(RequestError::BadArgument {
                    what: "a header name is empty",
                });
            }
            within("a header name", name.len(), HEADER_NAME_BYTES_MAX)?;
            headers += 3 + name.len() + value.len();
        }
        within("the headers", headers, usize::from(HEADERS_BYTES_MAX))?;
        within(
            "the record",
            self.encoded_len() - 4,
            RECORD_BYTES_MAX as usize,
        )
    }

    /// Appends the record to a batch. Call [`check`](Self::check) first.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            block::encode_header(&mut headers, name, value).expect("checked before");
        }
        let record = block::Record {
            key: self.key_bytes(),
            headers: &headers,
            value: &self.value,
        };
        record.encode(out).expect("checked before");
    }
}

/// A record as it was stored. All its bytes share the frame they came in;
/// copy what you keep for long.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    /// The partition it is in.
    pub partition: PartitionId,
    /// Its place there.
    pub offset: Offset,
    /// When the partition took it, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Empty means no key.
    pub key: Bytes,
    /// Encoded; read them with [`headers`](Self::headers) or [`header`](Self::header).
    pub(crate) headers: Bytes,
    /// The payload.
    pub value: Bytes,
}

impl Received {
    /// The headers as `(name, value)`, in the order they were published.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        block::Record {
            key: &[],
            headers: &self.headers,
            value: &[],
        }
        .headers()
    }

    /// The first header called `name`.
    #[must_use]
    pub fn header(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.headers()
            .find_map(|(n, value)| (n == name.as_ref()).then_some(value))
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Received")
            .field("partition", &self.partition.0)
            .field("offset", &self.offset.0)
            .field("timestamp_ms", &self.timestamp_ms)
            .field("key", &self.key)
            .field("headers", &self.headers().count())
            .field("value_bytes", &self.value.len())
            .finish()
    }
}

/// A block of records, walked one by one. Offsets are dense within it.
#[derive(Debug)]
pub(crate) struct BlockWalk {
    partition: PartitionId,
    next: Offset,
    timestamp_ms: u64,
    /// The records not yet walked.
    rest: Bytes,
}

impl BlockWalk {
    /// `records` are the bytes after the block header.
    pub(crate) const fn new(
        partition: PartitionId,
        header: &block::BlockHeader,
        records: Bytes,
    ) -> Self {
        Self {
            partition,
            next: header.first_offset,
            timestamp_ms: header.timestamp.0,
            rest: records,
        }
    }

    /// Bytes of the records not yet walked.
    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for BlockWalk {
    type Item = Result<Received, block::BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut walk = block::records(&self.rest);
        let record = match walk.next()? {
            Ok(record) => record,
            Err(error) => {
                self.rest.clear();
                return Some(Err(error));
            }
        };
        let received = Received {
            partition: self.partition,
            offset: self.next,
            timestamp_ms: self.timestamp_ms,
            key: self.rest.slice_ref(record.key),
            headers: self.rest.slice_ref(record.headers),
            value: self.rest.slice_ref(record.value),
        };
        let length = record.encoded_len();
        let _ = self.rest.split_to(length);
        self.next = self.next.plus(1);
        Some(Ok(received))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use pinion_types::WallMs;

    #[test]
    fn what_is_encoded_is_received_with_dense_offsets() {
        let records = [
            Record::new("one").key("k").header("a", "1").header("b", ""),
            Record::new(""),
        ];
        let mut bytes = Vec::new();
        for record in &records {
            record.check().unwrap();
            let before = bytes.len();
            record.encode(&mut bytes);
            assert_eq!(bytes.len() - before, record.encoded_len());
        }
        let header = block::BlockHeader {
            first_offset: Offset(40),
            timestamp: WallMs(5),
            record_count: 2,
            records_bytes: 0,
        };
        let got: Vec<Received> = BlockWalk::new(PartitionId(3), &header, bytes.into())
            .map(Result::unwrap)
            .collect();
        assert_eq!((got[0].offset, got[1].offset), (Offset(40), Offset(41)));
        assert_eq!(
            (&got[0].key[..], &got[0].value[..]),
            (&b"k"[..], &b"one"[..])
        );
        assert_eq!(got[0].header("b"), Some(&b""[..]));
        assert_eq!(got[0].header("c"), None);
        assert_eq!(got[1].headers().count(), 0);
    }

    #[test]
    fn records_no_node_would_take_are_refused_before_they_are_sent() {
        let too_large = [
            Record::new("").key(vec![0; 1025]),
            Record::new("").header(vec![b'n'; 256], ""),
            Record::new("").header("n", vec![0; 8192]),
            Record::new(vec![0; 1 << 20]),
        ];
        for record in too_large {
            assert!(matches!(record.check(), Err(RequestError::TooLarge { .. })));
        }
        let bad = [
            Record::new("").header("", "x"),
            (0..65).fold(Record::new(""), |r, _| r.header("n", "")),
        ];
        for record in bad {
            assert!(matches!(
                record.check(),
                Err(RequestError::BadArgument { .. })
            ));
        }
    }
}
