//! Named cursors: how far somebody has read, kept with the stream.
//!
//! A cursor shows its committed value; moves that await the disk are counted,
//! so that the limit holds for what will be.

use std::collections::BTreeMap;

/// Cursors of one partition. More makes a checkpoint larger, by up to 300
/// bytes each.
pub const CURSORS_MAX: usize = 1024;
/// Longest name.
pub const CURSOR_NAME_BYTES_MAX: usize = 255;

/// The offset by which a record of the log says that a cursor went: no cursor
/// stands there.
pub(crate) const CURSOR_GONE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    committed: Option<u64>,
    /// Changes not yet committed.
    waiting: u32,
}

/// The named cursors of one partition. Owned by the partition's core.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    // Ordered, not hashed: names come from outside and must not collide, and
    // lists are paged.
    by_name: BTreeMap<Box<[u8]>, Cursor>,
}

impl Cursors {
    pub(crate) const fn new() -> Self {
        Self {
            by_name: BTreeMap::new(),
        }
    }

    /// Whether one more name has room.
    pub(crate) fn has_room_for(&self, name: &[u8]) -> bool {
        self.by_name.len() < CURSORS_MAX || self.by_name.contains_key(name)
    }

    /// Whether the name is in use, by what is committed or waits.
    pub(crate) fn knows(&self, name: &[u8]) -> bool {
        self.by_name.contains_key(name)
    }

    /// A change of it waits for the disk.
    pub(crate) fn begin(&mut self, name: &[u8]) {
        match self.by_name.get_mut(name) {
            Some(cursor) => cursor.waiting += 1,
            None => {
                let cursor = Cursor {
                    committed: None,
                    waiting: 1,
                };
                self.by_name.insert(name.into(), cursor);
            }
        }
    }

    /// The oldest change that waited is durable.
    pub(crate) fn commit(&mut self, name: &[u8], offset: Option<u64>) {
        let cursor = self.by_name.get_mut(name).expect("begun before committed");
        cursor.committed = offset;
        cursor.waiting -= 1;
        if offset.is_none() && cursor.waiting == 0 {
            self.by_name.remove(name);
        }
    }

    /// Sets or removes one at once, for replay and restore.
    pub(crate) fn set(&mut self, name: &[u8], offset: Option<u64>) {
        match offset {
            Some(_) => {
                self.by_name.insert(
                    name.into(),
                    Cursor {
                        committed: offset,
                        waiting: 0,
                    },
                );
            }
            None => {
                self.by_name.remove(name);
            }
        }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<u64> {
        self.by_name.get(name)?.committed
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.by_name
            .iter()
            .filter_map(|(name, cursor)| Some((&name[..], cursor.committed?)))
    }
}
