//! Fields: the only place that reads or writes their bytes.

use core::str;

use pinion_types::block::{BlockError, Record, records};
use pinion_types::limits::{CACHE_VALUE_BYTES_MAX, KEY_BYTES_MAX, RECORD_BYTES_MAX};
use pinion_types::{
    Epoch, ErrorCode, Offset, PartitionId, ProducerId, ResourceId, ResourceKind, Sequence,
    SubscriptionId, Version, WallMs,
};

use crate::error::{DecodeError, EncodeError};
use crate::message::Handle;

/// Walks a body field by field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What has not been read.
    pub(crate) const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// Refuses bytes after the last field.
    pub(crate) const fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing {
                bytes: self.rest.len(),
            })
        }
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        len: usize,
    ) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn fixed<T: Fixed>(&mut self, field: &'static str) -> Result<T, DecodeError> {
        T::read(self, field)
    }

    /// A number within `min..=max`.
    pub(crate) fn within<T: Fixed + Copy + Into<u64>>(
        &mut self,
        field: &'static str,
        min: u64,
        max: u64,
    ) -> Result<T, DecodeError> {
        let number: T = self.fixed(field)?;
        let actual = number.into();
        if actual < min || actual > max {
            return Err(DecodeError::OutOfRange {
                field,
                actual,
                min,
                max,
            });
        }
        Ok(number)
    }

    /// `u8` 0 or 1, and the field when 1.
    pub(crate) fn optional<T: Fixed>(
        &mut self,
        field: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        if self.fixed(field)? {
            self.fixed(field).map(Some)
        } else {
            Ok(None)
        }
    }

    /// As [`Reader::optional`], the number within `min..=max`.
    pub(crate) fn maybe_within<T: Fixed + Into<u64>>(
        &mut self,
        field: &'static str,
        min: u64,
        max: u64,
    ) -> Result<Option<T>, DecodeError> {
        if self.fixed(field)? {
            self.within(field, min, max).map(Some)
        } else {
            Ok(None)
        }
    }

    /// `u16` length, then the key.
    pub(crate) fn key(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len: u16 = self.fixed(field)?;
        if len > KEY_BYTES_MAX {
            return Err(DecodeError::ValueTooLarge {
                field,
                len: u64::from(len),
                limit: u64::from(KEY_BYTES_MAX),
            });
        }
        self.bytes(field, usize::from(len))
    }

    /// `u16` length, at most `max`, then the bytes.
    pub(crate) fn bytes16(
        &mut self,
        field: &'static str,
        max: u16,
    ) -> Result<&'a [u8], DecodeError> {
        let len: u16 = self.within(field, 0, u64::from(max))?;
        self.bytes(field, usize::from(len))
    }

    /// `u32` length, then a cache value.
    pub(crate) fn value32(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len: u32 = self.fixed(field)?;
        check_value(field, u64::from(len))?;
        self.bytes(field, len as usize)
    }

    /// `u8` length, then UTF-8.
    pub(crate) fn text8(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let len: u8 = self.fixed(field)?;
        let bytes = self.bytes(field, usize::from(len))?;
        str::from_utf8(bytes).map_err(|_| DecodeError::NotText { field })
    }

    /// As [`Reader::text8`], and not empty.
    pub(crate) fn name8(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        match self.text8(field)? {
            "" => Err(DecodeError::OutOfRange {
                field,
                actual: 0,
                min: 1,
                max: u64::from(u8::MAX),
            }),
            name => Ok(name),
        }
    }

    /// One record with its length field, as in a block. Its headers are not walked.
    pub(crate) fn record(&mut self, field: &'static str) -> Result<Record<'a>, DecodeError> {
        let mut walk = records(self.rest);
        match walk.next() {
            Some(Ok(record)) => {
                self.rest = walk.rest();
                Ok(record)
            }
            None | Some(Err(BlockError::Truncated)) => Err(DecodeError::Truncated { field }),
            Some(Err(BlockError::TooLarge { len, limit })) => {
                Err(DecodeError::ValueTooLarge { field, len, limit })
            }
            Some(Err(BlockError::Inconsistent | BlockError::Count { .. })) => {
                Err(DecodeError::Inconsistent { field })
            }
        }
    }

    /// `u8` 0, or 1 and then one record.
    pub(crate) fn maybe_record(
        &mut self,
        field: &'static str,
    ) -> Result<Option<Record<'a>>, DecodeError> {
        if self.fixed(field)? {
            self.record(field).map(Some)
        } else {
            Ok(None)
        }
    }

    /// All that is left of the body.
    pub(crate) fn rest(&mut self, _field: &'static str) -> Result<&'a [u8], DecodeError> {
        Ok(core::mem::take(&mut self.rest))
    }

    /// All that is left of the body, at most `max` bytes.
    pub(crate) fn rest_within(
        &mut self,
        field: &'static str,
        max: u32,
    ) -> Result<&'a [u8], DecodeError> {
        let len = self.rest.len() as u64;
        if len > u64::from(max) {
            return Err(DecodeError::ValueTooLarge {
                field,
                len,
                limit: u64::from(max),
            });
        }
        self.rest(field)
    }
}

fn check_value(field: &'static str, len: u64) -> Result<(), DecodeError> {
    let limit = u64::from(CACHE_VALUE_BYTES_MAX);
    if len > limit {
        return Err(DecodeError::ValueTooLarge { field, len, limit });
    }
    Ok(())
}

/// Appends fields to a body.
pub(crate) struct Writer<'o> {
    pub(crate) out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    pub(crate) fn put<T: Fixed>(&mut self, value: T) {
        value.write(self.out);
    }

    pub(crate) fn fixed<T: Fixed>(
        &mut self,
        _field: &'static str,
        value: T,
    ) -> Result<(), EncodeError> {
        self.put(value);
        Ok(())
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        _field: &'static str,
        value: [u8; N],
    ) -> Result<(), EncodeError> {
        self.out.extend_from_slice(&value);
        Ok(())
    }

    pub(crate) fn within<T: Fixed + Copy + Into<u64>>(
        &mut self,
        field: &'static str,
        value: T,
        min: u64,
        max: u64,
    ) -> Result<(), EncodeError> {
        let actual = value.into();
        if actual < min || actual > max {
            return Err(EncodeError::OutOfRange {
                field,
                actual,
                min,
                max,
            });
        }
        self.put(value);
        Ok(())
    }

    pub(crate) fn optional<T: Fixed>(
        &mut self,
        _field: &'static str,
        value: Option<T>,
    ) -> Result<(), EncodeError> {
        self.put(value.is_some());
        if let Some(value) = value {
            self.put(value);
        }
        Ok(())
    }

    pub(crate) fn maybe_within<T: Fixed + Into<u64>>(
        &mut self,
        field: &'static str,
        value: Option<T>,
        min: u64,
        max: u64,
    ) -> Result<(), EncodeError> {
        self.put(value.is_some());
        match value {
            Some(value) => self.within(field, value, min, max),
            None => Ok(()),
        }
    }

    pub(crate) fn name8(&mut self, field: &'static str, name: &str) -> Result<(), EncodeError> {
        if name.is_empty() {
            return Err(EncodeError::OutOfRange {
                field,
                actual: 0,
                min: 1,
                max: u64::from(u8::MAX),
            });
        }
        self.text8(field, name)
    }

    pub(crate) fn record(
        &mut self,
        field: &'static str,
        record: Record<'_>,
    ) -> Result<(), EncodeError> {
        record.encode(self.out).map_err(|_| EncodeError::TooLarge {
            field,
            len: record.encoded_len() as u64,
            limit: u64::from(RECORD_BYTES_MAX),
        })
    }

    pub(crate) fn maybe_record(
        &mut self,
        field: &'static str,
        record: Option<Record<'_>>,
    ) -> Result<(), EncodeError> {
        self.put(record.is_some());
        record.map_or(Ok(()), |record| self.record(field, record))
    }

    pub(crate) fn key(&mut self, field: &'static str, key: &[u8]) -> Result<(), EncodeError> {
        self.bytes16(field, key, KEY_BYTES_MAX)
    }

    pub(crate) fn bytes16(
        &mut self,
        field: &'static str,
        bytes: &[u8],
        max: u16,
    ) -> Result<(), EncodeError> {
        let too_large = EncodeError::TooLarge {
            field,
            len: bytes.len() as u64,
            limit: u64::from(max),
        };
        let len = u16::try_from(bytes.len()).map_err(|_| too_large)?;
        if len > max {
            return Err(too_large);
        }
        self.put(len);
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn value32(&mut self, field: &'static str, value: &[u8]) -> Result<(), EncodeError> {
        let too_large = EncodeError::TooLarge {
            field,
            len: value.len() as u64,
            limit: u64::from(CACHE_VALUE_BYTES_MAX),
        };
        let len = u32::try_from(value.len()).map_err(|_| too_large)?;
        if len > CACHE_VALUE_BYTES_MAX {
            return Err(too_large);
        }
        self.put(len);
        self.out.extend_from_slice(value);
        Ok(())
    }

    pub(crate) fn text8(&mut self, field: &'static str, text: &str) -> Result<(), EncodeError> {
        let len = u8::try_from(text.len()).map_err(|_| EncodeError::TooLarge {
            field,
            len: text.len() as u64,
            limit: u64::from(u8::MAX),
        })?;
        self.put(len);
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    pub(crate) fn rest(&mut self, _field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn rest_within(
        &mut self,
        field: &'static str,
        bytes: &[u8],
        max: u32,
    ) -> Result<(), EncodeError> {
        let len = bytes.len() as u64;
        if len > u64::from(max) {
            return Err(EncodeError::TooLarge {
                field,
                len,
                limit: u64::from(max),
            });
        }
        self.rest(field, bytes)
    }
}

/// A field whose length is always the same, or told by its first byte.
pub(crate) trait Fixed: Copy {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Fixed for $number {
            #[inline]
            fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
                reader.array(field).map(Self::from_le_bytes)
            }

            #[inline]
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, i64);

macro_rules! newtypes {
    ($($name:ident),*) => {$(
        impl Fixed for $name {
            #[inline]
            fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
                reader.fixed(field).map(Self)
            }

            #[inline]
            fn write(&self, out: &mut Vec<u8>) {
                self.0.write(out);
            }
        }
    )*};
}

newtypes!(
    Handle,
    PartitionId,
    ResourceId,
    Offset,
    ProducerId,
    Sequence,
    Epoch,
    Version,
    SubscriptionId,
    WallMs
);

impl Fixed for bool {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        reader.within::<u8>(field, 0, 1).map(|byte| byte == 1)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Fixed for ResourceKind {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let byte: u8 = reader.fixed(field)?;
        Self::from_u8(byte).ok_or(DecodeError::OutOfRange {
            field,
            actual: u64::from(byte),
            min: 1,
            max: 3,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

/// A code field where 0 means that nothing went wrong.
pub(crate) fn read_code(
    reader: &mut Reader<'_>,
    field: &'static str,
) -> Result<Option<ErrorCode>, DecodeError> {
    let number: u16 = reader.fixed(field)?;
    match ErrorCode::from_u16(number) {
        None if number != 0 => Err(DecodeError::OutOfRange {
            field,
            actual: u64::from(number),
            min: 0,
            max: ErrorCode::ALL.last().map_or(0, |code| *code as u64),
        }),
        code => Ok(code),
    }
}

/// An enum of one byte, its values contiguous.
macro_rules! wire_enum {
    (
        $(#[$doc:meta])*
        pub enum $name:ident {
            $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $number,)+
        }

        impl $name {
            /// Every value, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value behind a wire byte, if there is one.
            #[must_use]
            pub const fn from_u8(byte: u8) -> Option<Self> {
                match byte {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl crate::codec::Fixed for $name {
            fn read(
                reader: &mut crate::codec::Reader<'_>,
                field: &'static str,
            ) -> Result<Self, crate::error::DecodeError> {
                let byte: u8 = reader.fixed(field)?;
                Self::from_u8(byte).ok_or(crate::error::DecodeError::OutOfRange {
                    field,
                    actual: u64::from(byte),
                    min: Self::ALL[0] as u64,
                    max: Self::ALL[Self::ALL.len() - 1] as u64,
                })
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.push(*self as u8);
            }
        }
    };
}

/// A message: each field with how its bytes are read and written. The order of
/// the fields is the order of the bytes.
macro_rules! message {
    (
        $(#[$doc:meta])*
        pub struct $name:ident $(<$life:lifetime>)? {
            $($(#[$field_doc:meta])* pub $field:ident: $ty:ty => $codec:ident $(($($arg:expr),*))?,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        crate::codec::message!(@impl $name [$($life)?] {
            $($field => $codec [$($($arg),*)?],)*
        });
    };
    (@impl $name:ident [] { $($field:ident => $codec:ident [$($arg:expr),*],)* }) => {
        impl $name {
            pub(crate) fn read(
                reader: &mut crate::codec::Reader<'_>,
            ) -> Result<Self, crate::error::DecodeError> {
                Ok(Self { $($field: reader.$codec(stringify!($field) $(, $arg)*)?,)* })
            }
        }
        crate::codec::message!(@write [$name] { $($field => $codec [$($arg),*],)* });
    };
    (@impl $name:ident [$life:lifetime] { $($field:ident => $codec:ident [$($arg:expr),*],)* }) => {
        impl<$life> $name<$life> {
            pub(crate) fn read(
                reader: &mut crate::codec::Reader<$life>,
            ) -> Result<Self, crate::error::DecodeError> {
                Ok(Self { $($field: reader.$codec(stringify!($field) $(, $arg)*)?,)* })
            }
        }
        crate::codec::message!(@write [$name<'_>] { $($field => $codec [$($arg),*],)* });
    };
    (@write [$($name:tt)*] { $($field:ident => $codec:ident [$($arg:expr),*],)* }) => {
        impl $($name)* {
            pub(crate) fn write(
                &self,
                writer: &mut crate::codec::Writer<'_>,
            ) -> Result<(), crate::error::EncodeError> {
                $(writer.$codec(stringify!($field), self.$field $(, $arg)*)?;)*
                Ok(())
            }
        }
    };
}

pub(crate) use {message, wire_enum};
