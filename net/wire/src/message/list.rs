//! Lists that stay encoded: checked once when they are decoded, then walked
//! item by item without allocating.

use pinion_types::limits::{CACHE_MULTI_MAX, CACHE_VALUE_BYTES_MAX, SCAN_ITEMS_MAX, SHARDS_MAX};
use pinion_types::{ErrorCode, Version};

use crate::codec::{Reader, Writer, read_code, wire_enum};
use crate::error::{DecodeError, EncodeError};

/// Most events of one EVENTS frame.
pub(crate) const EVENTS_MAX: u16 = u16::MAX;

/// Most items of one page; the limit of a scan as a count field holds it.
pub(crate) const PAGE_ITEMS_MAX: u16 = {
    assert!(SCAN_ITEMS_MAX <= u16::MAX as u32);
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let max = SCAN_ITEMS_MAX as u16;
    max
};

macro_rules! list {
    (
        $(#[$doc:meta])*
        $name:ident, $iter:ident, item = $item:ty, given = $given:ty, field = $field:literal,
        max = $max:expr, read = $read:path, write = $write:path
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name<'a> {
            count: u16,
            encoded: &'a [u8],
        }

        impl<'a> $name<'a> {
            /// How many items.
            #[must_use]
            pub const fn len(&self) -> u16 {
                self.count
            }

            /// Whether there is no item.
            #[must_use]
            pub const fn is_empty(&self) -> bool {
                self.count == 0
            }

            /// The items in order.
            #[must_use]
            pub const fn iter(&self) -> $iter<'a> {
                $iter {
                    left: self.count,
                    reader: $crate::codec::Reader::new(self.encoded),
                }
            }

            /// Encodes `items` into `scratch`, whose content is dropped, and
            /// gives the list as a message carries it.
            ///
            /// # Errors
            /// Too many items, or one over its limit; nothing is built.
            #[allow(
                unused_lifetimes,
                clippy::extra_unused_lifetimes,
                reason = "lists of numbers borrow nothing"
            )]
            pub fn build<'i>(
                scratch: &'a mut Vec<u8>,
                items: impl IntoIterator<Item = $given>,
            ) -> Result<Self, $crate::error::EncodeError> {
                scratch.clear();
                let mut count = 0;
                for item in items {
                    if count == $max {
                        return Err($crate::error::EncodeError::TooLarge {
                            field: $field,
                            len: u64::from($max) + 1,
                            limit: u64::from($max),
                        });
                    }
                    count += 1;
                    $write(&mut $crate::codec::Writer { out: scratch }, item)?;
                    // Many large items must not fill the memory before the
                    // frame is found to be too long.
                    if scratch.len() > pinion_types::limits::FRAME_BYTES_MAX as usize {
                        return Err($crate::error::EncodeError::FrameTooLarge {
                            len: scratch.len() as u64,
                            limit: u64::from(pinion_types::limits::FRAME_BYTES_MAX),
                        });
                    }
                }
                Ok(Self {
                    count,
                    encoded: scratch,
                })
            }

            pub(crate) fn read(reader: &mut $crate::codec::Reader<'a>) -> Result<Self, $crate::error::DecodeError> {
                let count: u16 = reader.within(concat!($field, "_count"), 0, u64::from($max))?;
                let start = reader.remaining();
                for _ in 0..count {
                    $read(reader)?;
                }
                let encoded = &start[..start.len() - reader.remaining().len()];
                Ok(Self { count, encoded })
            }

            pub(crate) fn write(&self, writer: &mut $crate::codec::Writer<'_>) -> Result<(), $crate::error::EncodeError> {
                writer.put(self.count);
                writer.out.extend_from_slice(self.encoded);
                Ok(())
            }
        }

        impl<'a> IntoIterator for $name<'a> {
            type Item = $item;
            type IntoIter = $iter<'a>;

            fn into_iter(self) -> $iter<'a> {
                self.iter()
            }
        }

        impl core::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }

        #[doc = concat!("Walks a [`", stringify!($name), "`].")]
        #[derive(Clone, Debug)]
        pub struct $iter<'a> {
            left: u16,
            reader: $crate::codec::Reader<'a>,
        }

        impl<'a> Iterator for $iter<'a> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                self.left = self.left.checked_sub(1)?;
                Some($read(&mut self.reader).expect("a list is checked when it is made"))
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                (usize::from(self.left), Some(usize::from(self.left)))
            }
        }

        impl ExactSizeIterator for $iter<'_> {}
    };
}

pub(super) use list;

list! {
    /// Cache keys.
    KeyList, KeyListIter, item = &'a [u8], given = &'i [u8], field = "keys",
    max = CACHE_MULTI_MAX, read = read_key, write = write_key
}

list! {
    /// Entries to set.
    ItemList, ItemListIter, item = SetItem<'a>, given = SetItem<'i>, field = "items",
    max = CACHE_MULTI_MAX, read = SetItem::read, write = SetItem::write
}

list! {
    /// The data core of each partition.
    CoreList, CoreListIter, item = u16, given = u16, field = "cores",
    max = SHARDS_MAX, read = read_core, write = write_core
}

list! {
    /// What was found for each key asked for, in that order; keys after the
    /// last were not looked at because the frame is full.
    CacheValues, CacheValuesIter, item = Option<CachedValue<'a>>,
    given = Option<CachedValue<'i>>, field = "answered",
    max = CACHE_MULTI_MAX, read = CachedValue::read, write = CachedValue::write
}

list! {
    /// What became of each item to set, in that order.
    CacheStoredMany, CacheStoredManyIter, item = StoredItem, given = StoredItem,
    field = "stored", max = CACHE_MULTI_MAX, read = StoredItem::read, write = StoredItem::write
}

list! {
    /// The items of a page.
    PageItems, PageItemsIter, item = PageItem<'a>, given = PageItem<'i>, field = "items",
    max = PAGE_ITEMS_MAX, read = PageItem::read, write = PageItem::write
}

list! {
    /// Changes of a cache, by version.
    CacheEvents, CacheEventsIter, item = CacheEvent<'a>, given = CacheEvent<'i>,
    field = "events", max = EVENTS_MAX, read = CacheEvent::read, write = CacheEvent::write
}

/// One page of a scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachePage<'a> {
    /// For the next page; 0 after the last.
    pub cursor: u64,
    /// What the page holds.
    pub items: PageItems<'a>,
}

impl<'a> CachePage<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            cursor: reader.fixed("cursor")?,
            items: PageItems::read(reader)?,
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.put(self.cursor);
        self.items.write(writer)
    }
}

/// One entry to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetItem<'a> {
    /// Time to live in milliseconds; 0 is none.
    pub ttl_ms: u64,
    /// At most `KEY_BYTES_MAX`.
    pub key: &'a [u8],
    /// At most `CACHE_VALUE_BYTES_MAX`.
    pub value: &'a [u8],
}

impl<'a> SetItem<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            ttl_ms: reader.fixed("ttl_ms")?,
            key: reader.key("key")?,
            value: reader.value32("value")?,
        })
    }

    fn write(writer: &mut Writer<'_>, item: Self) -> Result<(), EncodeError> {
        writer.put(item.ttl_ms);
        writer.key("key", item.key)?;
        writer.value32("value", item.value)
    }
}

/// One value of a multi-get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedValue<'a> {
    /// For compare-and-set.
    pub version: Version,
    /// What remains of its life in milliseconds; 0 is no end.
    pub ttl_ms: u64,
    /// At most `CACHE_VALUE_BYTES_MAX`.
    pub value: &'a [u8],
}

impl<'a> CachedValue<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, DecodeError> {
        if !reader.fixed("present")? {
            return Ok(None);
        }
        Ok(Some(Self {
            version: reader.fixed("version")?,
            ttl_ms: reader.fixed("ttl_ms")?,
            value: reader.value32("value")?,
        }))
    }

    pub(crate) fn write(writer: &mut Writer<'_>, value: Option<Self>) -> Result<(), EncodeError> {
        writer.put(value.is_some());
        let Some(value) = value else {
            return Ok(());
        };
        writer.put(value.version);
        writer.put(value.ttl_ms);
        writer.value32("value", value.value)
    }
}

/// What became of one item of a multi-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredItem {
    /// Why it was not stored; `None` is stored.
    pub error: Option<ErrorCode>,
    /// Of the entry now; 0 when it was not stored.
    pub version: Version,
}

impl StoredItem {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            error: read_code(reader, "code")?,
            version: reader.fixed("version")?,
        })
    }

    pub(crate) fn write(writer: &mut Writer<'_>, item: Self) -> Result<(), EncodeError> {
        writer.put(item.error.map_or(0, |code| code as u16));
        writer.fixed("version", item.version)
    }
}

/// One entry of a scan page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageItem<'a> {
    /// For compare-and-set.
    pub version: Version,
    /// What remains of its life in milliseconds; 0 is no end.
    pub ttl_ms: u64,
    /// At most `KEY_BYTES_MAX`.
    pub key: &'a [u8],
    /// Empty when only keys were asked for.
    pub value: &'a [u8],
}

impl<'a> PageItem<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: reader.fixed("version")?,
            ttl_ms: reader.fixed("ttl_ms")?,
            key: reader.key("key")?,
            value: reader.value32("value")?,
        })
    }

    pub(crate) fn write(writer: &mut Writer<'_>, item: Self) -> Result<(), EncodeError> {
        writer.put(item.version);
        writer.put(item.ttl_ms);
        writer.key("key", item.key)?;
        writer.value32("value", item.value)
    }
}

wire_enum! {
    /// What happened to a key.
    pub enum EventKind {
        /// It has a new value.
        Set = 1,
        /// It was deleted.
        Deleted = 2,
        /// Its time was over.
        Expired = 3,
        /// It gave way to others.
        Evicted = 4,
    }
}

/// One change of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheEvent<'a> {
    /// What happened.
    pub kind: EventKind,
    /// Version of the change.
    pub version: Version,
    /// At most `KEY_BYTES_MAX`.
    pub key: &'a [u8],
    /// `None` when it was not asked for or there is none.
    pub value: Option<&'a [u8]>,
}

/// Length of a value that is not sent.
const VALUE_NOT_SENT: u32 = u32::MAX;

// No value's length may be mistaken for the mark.
const _: () = assert!(CACHE_VALUE_BYTES_MAX < VALUE_NOT_SENT);

impl<'a> CacheEvent<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind = reader.fixed("kind")?;
        let version = reader.fixed("version")?;
        let key = reader.key("key")?;
        let mut ahead = *reader;
        let value = if ahead.fixed::<u32>("value")? == VALUE_NOT_SENT {
            *reader = ahead;
            None
        } else {
            Some(reader.value32("value")?)
        };
        Ok(Self {
            kind,
            version,
            key,
            value,
        })
    }

    /// Whether the bytes are exactly one event.
    pub(crate) fn is_one(encoded: &[u8]) -> bool {
        let mut reader = Reader::new(encoded);
        CacheEvent::read(&mut reader).is_ok() && reader.end().is_ok()
    }

    pub(crate) fn write(writer: &mut Writer<'_>, event: Self) -> Result<(), EncodeError> {
        writer.put(event.kind);
        writer.put(event.version);
        writer.key("key", event.key)?;
        match event.value {
            Some(value) => writer.value32("value", value),
            None => writer.fixed("value", VALUE_NOT_SENT),
        }
    }
}

fn read_key<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    reader.key("key")
}

fn write_key(writer: &mut Writer<'_>, key: &[u8]) -> Result<(), EncodeError> {
    writer.key("key", key)
}

fn read_core(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
    reader.fixed("core")
}

fn write_core(writer: &mut Writer<'_>, core: u16) -> Result<(), EncodeError> {
    writer.fixed("core", core)
}

impl<'a> Reader<'a> {
    pub(super) fn keys(&mut self, _field: &'static str) -> Result<KeyList<'a>, DecodeError> {
        KeyList::read(self)
    }

    pub(super) fn items(&mut self, _field: &'static str) -> Result<ItemList<'a>, DecodeError> {
        ItemList::read(self)
    }
}

impl Writer<'_> {
    pub(super) fn keys(
        &mut self,
        _field: &'static str,
        keys: KeyList<'_>,
    ) -> Result<(), EncodeError> {
        keys.write(self)
    }

    pub(super) fn items(
        &mut self,
        _field: &'static str,
        items: ItemList<'_>,
    ) -> Result<(), EncodeError> {
        items.write(self)
    }
}
