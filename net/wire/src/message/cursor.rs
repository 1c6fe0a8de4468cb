//! Named durable cursors of a stream's partition: how far somebody has read.

use pinion_types::limits::CURSORS_MAX;
use pinion_types::{Offset, PartitionId};

use super::list::list;
use super::{Durability, Handle};
use crate::codec::{Reader, Writer, message};
use crate::error::{DecodeError, EncodeError};

message! {
    /// Sets a cursor, and makes it when there is none of that name.
    pub struct CursorCommit<'a> {
        /// The stream.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// The next offset to be read.
        pub offset: Offset => fixed,
        /// 1 to 255 bytes.
        pub name: &'a str => name8,
    }
}

message! {
    /// Asks for a cursor.
    pub struct CursorGet<'a> {
        /// The stream.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// 1 to 255 bytes.
        pub name: &'a str => name8,
    }
}

message! {
    /// One page of a partition's cursors, by name.
    pub struct CursorList<'a> {
        /// The stream.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// Most items, 1 to `CURSORS_MAX`.
        pub max_items: u32 => within(1, u64::from(CURSORS_MAX)),
        /// Only names after this one; empty to begin.
        pub after: &'a str => text8,
    }
}

message! {
    /// Forgets a cursor.
    pub struct CursorDelete<'a> {
        /// The stream.
        pub handle: Handle => fixed,
        /// The partition.
        pub partition: PartitionId => fixed,
        /// 1 to 255 bytes.
        pub name: &'a str => name8,
    }
}

message! {
    /// A cursor's place.
    pub struct Cursor {
        /// The next offset to be read.
        pub offset: Offset => fixed,
        /// What it survives.
        pub durability: Durability => fixed,
    }
}

/// Most cursors of one page; the limit of a partition as a count field holds it.
pub(crate) const CURSOR_ITEMS_MAX: u16 = {
    assert!(CURSORS_MAX <= u16::MAX as u32);
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let max = CURSORS_MAX as u16;
    max
};

list! {
    /// Cursors of a page, ascending by name.
    CursorItems, CursorItemsIter, item = CursorItem<'a>, given = CursorItem<'i>,
    field = "cursors", max = CURSOR_ITEMS_MAX, read = CursorItem::read, write = CursorItem::write
}

message! {
    /// One page of cursors.
    pub struct CursorPage<'a> {
        /// There are names after the last one here.
        pub more: bool => fixed,
        /// What the page holds.
        pub items: CursorItems<'a> => cursor_items,
    }
}

/// One cursor of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorItem<'a> {
    /// 1 to 255 bytes.
    pub name: &'a str,
    /// The next offset to be read.
    pub offset: Offset,
}

impl<'a> CursorItem<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            offset: reader.fixed("offset")?,
            name: reader.name8("name")?,
        })
    }

    pub(crate) fn write(writer: &mut Writer<'_>, item: Self) -> Result<(), EncodeError> {
        writer.put(item.offset);
        writer.name8("name", item.name)
    }
}

impl<'a> Reader<'a> {
    fn cursor_items(&mut self, _field: &'static str) -> Result<CursorItems<'a>, DecodeError> {
        CursorItems::read(self)
    }
}

impl Writer<'_> {
    fn cursor_items(
        &mut self,
        _field: &'static str,
        items: CursorItems<'_>,
    ) -> Result<(), EncodeError> {
        items.write(self)
    }
}
