//! The bytes of one file, shared between copies until one of them changes, so
//! that a whole disk is copied at every crash point for next to nothing.

use std::sync::Arc;

use pinion_commitlog::BLOCK;

/// What a disk writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;

type Page = [u8; BLOCK];

/// A file's bytes. Pages never written are zero and take no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    len: u64,
    pages: Vec<Option<Arc<Page>>>,
}

fn split(offset: u64) -> (usize, usize) {
    let page = usize::try_from(offset / BLOCK as u64).expect("a simulated file is small");
    let within = usize::try_from(offset % BLOCK as u64).expect("less than a block");
    (page, within)
}

impl Image {
    pub(super) fn zeroed(len: u64) -> Self {
        let mut image = Self::default();
        image.set_len(len);
        image
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Shortens, or extends with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        let (page, within) = split(len);
        self.pages.resize(page + usize::from(within > 0), None);
        // Bytes beyond the end must be zero if the file grows again.
        if within > 0
            && let Some(Some(last)) = self.pages.last_mut()
        {
            Arc::make_mut(last)[within..].fill(0);
        }
        self.len = len;
    }

    /// Reads up to the end of the file; gives how many bytes.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let left = self.len.saturating_sub(offset);
        let len = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
        let mut done = 0;
        while done < len {
            let (page, within) = split(offset + done as u64);
            let take = (BLOCK - within).min(len - done);
            let part = &mut into[done..done + take];
            match &self.pages[page] {
                Some(bytes) => part.copy_from_slice(&bytes[within..within + take]),
                None => part.fill(0),
            }
            done += take;
        }
        len
    }

    /// Writes, extending the file when it must.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if end > self.len {
            self.set_len(end);
        }
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = split(offset + done as u64);
            let take = (BLOCK - within).min(bytes.len() - done);
            let part = &bytes[done..done + take];
            let slot = &mut self.pages[page];
            // A page of zeros that was never written stays unwritten.
            if slot.is_some() || part.iter().any(|byte| *byte != 0) {
                let target = slot.get_or_insert_with(|| Arc::new([0; BLOCK]));
                Arc::make_mut(target)[within..within + take].copy_from_slice(part);
            }
            done += take;
        }
    }

    /// Whether every byte of the range, as far as the file goes, is zero.
    pub(super) fn is_zero(&self, offset: u64, len: usize) -> bool {
        let mut bytes = vec![0; len];
        let len = self.read(offset, &mut bytes);
        bytes[..len].iter().all(|byte| *byte == 0)
    }

    /// Turns one bit over; bit 0 is the lowest of byte 0.
    pub(super) fn flip(&mut self, bit: u64) {
        let mut byte = [0];
        self.read(bit / 8, &mut byte);
        byte[0] ^= 1 << (bit % 8);
        self.write(bit / 8, &byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(image: &Image) -> Vec<u8> {
        let mut bytes = vec![9; usize::try_from(image.len()).expect("small") + 10];
        let len = image.read(0, &mut bytes);
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn a_copy_does_not_see_what_is_written_later() {
        let mut image = Image::zeroed(3 * BLOCK as u64);
        image.write(BLOCK as u64 - 2, &[1, 2, 3, 4]);
        let copy = image.clone();
        image.write(BLOCK as u64, &[7]);
        image.flip(8 * (2 * BLOCK as u64) + 3);
        assert_eq!(all(&copy)[BLOCK - 2..BLOCK + 2], [1, 2, 3, 4]);
        assert_eq!(all(&image)[BLOCK - 2..BLOCK + 2], [1, 2, 7, 4]);
        assert_eq!((all(&image)[2 * BLOCK], all(&copy)[2 * BLOCK]), (8, 0));
    }

    #[test]
    fn a_file_cut_and_grown_again_holds_zeros_where_it_was_cut() {
        let mut image = Image::default();
        image.write(0, &[5; 6000]);
        assert_eq!(image.len(), 6000);
        image.set_len(4100);
        image.set_len(8192);
        let bytes = all(&image);
        assert!(bytes[..4100].iter().all(|b| *b == 5) && bytes[4100..].iter().all(|b| *b == 0));
        assert!(image.is_zero(4608, 9999) && !image.is_zero(4096, 512));
        let mut tail = [1; 8];
        assert_eq!(image.read(8190, &mut tail), 2, "a read ends with the file");
        assert_eq!(image.read(9000, &mut tail), 0);
    }
}
