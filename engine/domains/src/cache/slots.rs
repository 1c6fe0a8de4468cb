//! Where entries live: fixed-size chunks of slots, so that growing never copies
//! what is there, and chunks that empty are given back.

use pinion_types::wheel::{TimerLink, TimerRows};

/// Slots of a chunk as a power of two. Larger chunks waste more when entries are
/// few and are pinned longer by a single survivor; smaller ones need more of them.
const CHUNK_BITS: u32 = 8;
pub(super) const CHUNK_SLOTS: usize = 1 << CHUNK_BITS;
const SLOT_IN_CHUNK: u32 = (1 << CHUNK_BITS) - 1;
/// Heap bytes of a chunk.
pub(super) const CHUNK_BYTES: u64 = (CHUNK_SLOTS * size_of::<Entry>()) as u64;
/// Heap bytes of a chunk's place in the lists about chunks, their doubling included.
const CHUNK_META_BYTES: u64 =
    2 * (size_of::<Option<Box<[Entry]>>>() + size_of::<ChunkMeta>() + 2 * size_of::<u32>()) as u64;

pub(super) const NIL: u32 = u32::MAX;

/// Which FIFO an entry is in, or that its slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    Small,
    Main,
}

/// What became of an entry whose deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Current until its deadline.
    Current,
    /// Current, and to be kept as stale after it.
    CurrentKeep,
    /// Expired and announced; only `stale_ok` readers see it.
    Stale,
}

/// One entry: 64 bytes here, and one allocation for key and value together.
#[derive(Debug)]
pub(super) struct Entry {
    /// The key, then the value.
    pub(super) blob: Box<[u8]>,
    pub(super) version: u64,
    pub(super) hash: u64,
    pub(super) timer: TimerLink,
    /// Neighbour towards the head of its FIFO.
    pub(super) prev: u32,
    /// Neighbour towards the tail of its FIFO; the next free slot if free.
    pub(super) next: u32,
    pub(super) key_len: u16,
    /// Accesses since it was inserted or last considered, 0..=3.
    pub(super) freq: u8,
    pub(super) place: Place,
    pub(super) life: Life,
}

// One entry, one cache line.
const _: () = assert!(size_of::<Entry>() == 64);

impl Entry {
    fn free() -> Self {
        Self {
            blob: Box::default(),
            version: 0,
            hash: 0,
            timer: TimerLink::IDLE,
            prev: NIL,
            next: NIL,
            key_len: 0,
            freq: 0,
            place: Place::Free,
            life: Life::Current,
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.blob[..usize::from(self.key_len)]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.blob[usize::from(self.key_len)..]
    }

    pub(super) fn value_mut(&mut self) -> &mut [u8] {
        &mut self.blob[usize::from(self.key_len)..]
    }

    /// What the entry weighs in its FIFO: its slot and its allocation.
    pub(super) fn weight(&self) -> u64 {
        size_of::<Self>() as u64 + allocation_bytes(self.blob.len())
    }
}

/// Heap bytes an allocation of `len` bytes takes: the size classes of the
/// allocator are whole words up to 64 bytes, then four per doubling.
pub(super) const fn allocation_bytes(len: usize) -> u64 {
    if len <= 64 {
        return (len as u64).next_multiple_of(8);
    }
    let step = 1 << ((len - 1).ilog2() - 2);
    (len as u64).next_multiple_of(step)
}

#[derive(Clone, Copy, Debug)]
struct ChunkMeta {
    used: u16,
    free: u32,
    /// Whether it stands in `roomy`.
    listed: bool,
}

/// The slots of a partition. A slot keeps its number while its key lives.
#[derive(Debug)]
pub(super) struct Slots {
    chunks: Vec<Option<Box<[Entry]>>>,
    meta: Vec<ChunkMeta>,
    /// Chunks that may have free slots; ones that turn out full or gone are skipped.
    roomy: Vec<u32>,
    /// Chunk numbers without memory.
    vacant: Vec<u32>,
    /// The one empty chunk that is kept, so that a cache that hovers around a
    /// chunk's edge does not allocate it again and again.
    spare: Option<u32>,
    len: u32,
    blob_bytes: u64,
    live_chunks: u64,
}

impl TimerRows for Slots {
    fn timer(&mut self, index: u32) -> &mut TimerLink {
        &mut self.get_mut(index).timer
    }
}

impl Slots {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            meta: Vec::new(),
            roomy: Vec::new(),
            vacant: Vec::new(),
            spare: None,
            len: 0,
            blob_bytes: 0,
            live_chunks: 0,
        }
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// Heap bytes of everything here.
    pub(super) const fn bytes(&self) -> u64 {
        self.blob_bytes
            + self.live_chunks * CHUNK_BYTES
            + self.chunks.len() as u64 * CHUNK_META_BYTES
    }

    /// What one more entry would add to `bytes`, its allocation aside.
    pub(super) const fn growth_bytes(&self) -> u64 {
        if self.len as u64 == self.live_chunks * CHUNK_SLOTS as u64 {
            CHUNK_BYTES + CHUNK_META_BYTES
        } else {
            0
        }
    }

    /// One past the largest slot number there has been.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.chunks.len() << CHUNK_BITS).expect("the budget bounds the slots")
    }

    /// The entry of a slot in use.
    pub(super) fn get(&self, slot: u32) -> &Entry {
        let chunk = self.chunks[(slot >> CHUNK_BITS) as usize]
            .as_ref()
            .expect("a slot in use has its chunk");
        &chunk[slot as usize % CHUNK_SLOTS]
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Entry {
        let chunk = self.chunks[(slot >> CHUNK_BITS) as usize]
            .as_mut()
            .expect("a slot in use has its chunk");
        &mut chunk[slot as usize % CHUNK_SLOTS]
    }

    pub(super) fn is_used(&self, slot: u32) -> bool {
        self.chunks[(slot >> CHUNK_BITS) as usize]
            .as_ref()
            .is_some_and(|chunk| chunk[slot as usize % CHUNK_SLOTS].place != Place::Free)
    }

    /// The first slot in use at or after `from`, or where the walk stands when
    /// `work` is spent; each place looked at costs one, a missing chunk one in all.
    pub(super) fn next_used(&self, from: u32, work: &mut u32) -> Option<u32> {
        let mut slot = from;
        let end = self.end();
        while slot < end && *work > 0 {
            *work -= 1;
            match &self.chunks[(slot >> CHUNK_BITS) as usize] {
                None => slot = ((slot >> CHUNK_BITS) + 1) << CHUNK_BITS,
                Some(chunk) => {
                    if chunk[slot as usize % CHUNK_SLOTS].place != Place::Free {
                        return Some(slot);
                    }
                    slot += 1;
                }
            }
        }
        (slot < end).then_some(slot)
    }

    /// Takes a free slot for a new entry. Two allocations at most: the blob, and
    /// a chunk when every slot is taken.
    pub(super) fn insert(&mut self, hash: u64, version: u64, key: &[u8], value: &[u8]) -> u32 {
        let chunk = self.roomy_chunk();
        let meta = &mut self.meta[chunk as usize];
        if self.spare == Some(chunk) {
            self.spare = None;
        }
        let slot = (chunk << CHUNK_BITS) | meta.free;
        meta.used += 1;
        self.len += 1;
        let blob = blob_of(key, value);
        self.blob_bytes += allocation_bytes(blob.len());
        let entry = self.get_mut(slot);
        let next_free = entry.next;
        *entry = Entry {
            blob,
            version,
            hash,
            key_len: u16::try_from(key.len()).expect("key length was checked"),
            ..Entry::free()
        };
        self.meta[chunk as usize].free = next_free;
        slot
    }

    /// Replaces the value. One allocation, none if the length stays.
    pub(super) fn replace(&mut self, slot: u32, key: &[u8], value: &[u8]) {
        let entry = self.get_mut(slot);
        if entry.value().len() == value.len() {
            entry.value_mut().copy_from_slice(value);
            return;
        }
        let old = allocation_bytes(entry.blob.len());
        // Freed before its successor is made, so that both never exist at once.
        entry.blob = Box::default();
        entry.blob = blob_of(key, value);
        let new = allocation_bytes(entry.blob.len());
        self.blob_bytes = self.blob_bytes - old + new;
    }

    /// Frees a slot. The entry must be out of index, FIFO and wheel.
    pub(super) fn remove(&mut self, slot: u32) {
        let number = slot >> CHUNK_BITS;
        let free = self.meta[number as usize].free;
        let entry = self.get_mut(slot);
        assert!(
            !entry.timer.is_armed(),
            "slot {slot} is freed with its timer armed"
        );
        let freed = allocation_bytes(entry.blob.len());
        *entry = Entry::free();
        entry.next = free;
        self.blob_bytes -= freed;
        self.len -= 1;
        let meta = &mut self.meta[number as usize];
        meta.free = slot & SLOT_IN_CHUNK;
        meta.used -= 1;
        if !meta.listed {
            meta.listed = true;
            self.roomy.push(number);
        }
        if meta.used == 0 {
            match self.spare {
                None => self.spare = Some(number),
                Some(_) => {
                    self.chunks[number as usize] = None;
                    self.meta[number as usize].free = NIL;
                    self.vacant.push(number);
                    self.live_chunks -= 1;
                }
            }
        }
    }

    fn roomy_chunk(&mut self) -> u32 {
        while let Some(&number) = self.roomy.last() {
            if self.meta[number as usize].free != NIL {
                return number;
            }
            self.meta[number as usize].listed = false;
            self.roomy.pop();
        }
        let number = self.vacant.pop().unwrap_or_else(|| {
            let number = u32::try_from(self.chunks.len()).expect("the budget bounds the chunks");
            self.chunks.push(None);
            self.meta.push(ChunkMeta {
                used: 0,
                free: NIL,
                listed: false,
            });
            number
        });
        let mut chunk: Box<[Entry]> = core::iter::repeat_with(Entry::free)
            .take(CHUNK_SLOTS)
            .collect();
        for (i, entry) in chunk.iter_mut().enumerate().take(CHUNK_SLOTS - 1) {
            entry.next = u32::try_from(i + 1).expect("a chunk is small");
        }
        self.chunks[number as usize] = Some(chunk);
        self.live_chunks += 1;
        let meta = &mut self.meta[number as usize];
        meta.free = 0;
        meta.listed = true;
        self.roomy.push(number);
        number
    }
}

fn blob_of(key: &[u8], value: &[u8]) -> Box<[u8]> {
    let mut blob = Vec::with_capacity(key.len() + value.len());
    blob.extend_from_slice(key);
    blob.extend_from_slice(value);
    blob.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_are_whole_words_then_four_per_doubling() {
        for (len, bytes) in [
            (0, 0),
            (1, 8),
            (8, 8),
            (9, 16),
            (64, 64),
            (65, 80),
            (80, 80),
        ] {
            assert_eq!(allocation_bytes(len), bytes, "{len} bytes");
        }
        for (len, bytes) in [(81, 96), (128, 128), (129, 160), (1000, 1024), (1025, 1280)] {
            assert_eq!(allocation_bytes(len), bytes, "{len} bytes");
        }
    }

    #[test]
    fn chunks_that_empty_are_given_back_but_for_one() {
        let mut slots = Slots::new();
        let taken: Vec<u32> = (0..10 * CHUNK_SLOTS as u64)
            .map(|i| slots.insert(i, i, b"k", b"v"))
            .collect();
        assert_eq!(slots.live_chunks, 10);
        assert_eq!(slots.growth_bytes(), CHUNK_BYTES + CHUNK_META_BYTES);
        for slot in taken {
            slots.remove(slot);
        }
        assert_eq!(
            (slots.len(), slots.live_chunks, slots.blob_bytes),
            (0, 1, 0)
        );
        for i in 0..3 * CHUNK_SLOTS as u64 {
            slots.insert(i, i, b"k", b"v");
        }
        assert_eq!((slots.live_chunks, slots.chunks.len()), (3, 10));
    }
}
