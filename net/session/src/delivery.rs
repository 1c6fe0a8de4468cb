//! Deliveries of one subscription that the transport has not taken yet.

use std::collections::VecDeque;

use bytes::Bytes;

/// Where the subscription's unidirectional stream is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// The transport has not given a stream yet.
    Opening,
    /// Deliveries flow on this stream.
    Open {
        /// The transport's stream id.
        stream: u64,
    },
}

/// Chunks in order, shared with every other subscriber of the same records.
///
/// Bounded by the window the partition was given: what a chunk took from the
/// window (its charge) is given back once the transport has taken all of it.
/// Notices carry no charge; a partition sends one only between records.
#[derive(Debug)]
pub struct DeliveryQueue {
    chunks: VecDeque<Bytes>,
    /// Charge of each chunk.
    charges: VecDeque<u32>,
    pending: usize,
    state: DeliveryState,
    /// No more will be queued; finish the stream once it is empty.
    ended: bool,
}

impl Default for DeliveryQueue {
    fn default() -> Self {
        Self {
            chunks: VecDeque::new(),
            charges: VecDeque::new(),
            pending: 0,
            state: DeliveryState::Opening,
            ended: false,
        }
    }
}

impl DeliveryQueue {
    /// Queues a chunk behind the others; ignored after [`DeliveryQueue::end`].
    pub fn push(&mut self, chunk: Bytes, charge: u32) {
        if !self.ended && !chunk.is_empty() {
            self.pending += chunk.len();
            self.chunks.push_back(chunk);
            self.charges.push_back(charge);
        }
    }

    /// Nothing follows what is queued now.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The transport gave the stream.
    pub fn opened(&mut self, stream: u64) {
        self.state = DeliveryState::Open { stream };
    }

    /// Where the stream is in its life.
    #[must_use]
    pub fn state(&self) -> DeliveryState {
        self.state
    }

    /// What the transport may take, front first. It may split and empty the
    /// chunks; tell [`DeliveryQueue::consume`] afterwards.
    pub fn chunks(&mut self) -> &mut [Bytes] {
        self.chunks.make_contiguous()
    }

    /// The transport took `count` bytes out of [`DeliveryQueue::chunks`]. Gives
    /// the charge of the chunks that are gone, to be given back as window.
    ///
    /// # Panics
    /// When it claims more than was queued.
    pub fn consume(&mut self, count: usize) -> u32 {
        assert!(count <= self.pending, "took {count} of {}", self.pending);
        self.pending -= count;
        let mut freed = 0;
        while self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
            freed += self.charges.pop_front().expect("one for each chunk");
        }
        debug_assert_eq!(
            self.pending,
            self.chunks.iter().map(Bytes::len).sum::<usize>(),
            "the transport advances the chunks it takes"
        );
        freed
    }

    /// Drops what is queued, for a stream the peer has stopped.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.charges.clear();
        self.pending = 0;
    }

    /// Bytes queued.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Whether the stream has nothing left to say and can be finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.ended && self.pending == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_leave_in_order_and_in_parts() {
        let mut queue = DeliveryQueue::default();
        queue.push(Bytes::from_static(b"abc"), 3);
        queue.push(Bytes::from_static(b"de"), 2);
        // The transport takes four bytes: one chunk and half of the next.
        let chunks = queue.chunks();
        chunks[0] = Bytes::new();
        let _ = chunks[1].split_to(1);
        assert_eq!(queue.consume(4), 3, "only what is gone is given back");
        assert_eq!(queue.pending(), 1);
        assert_eq!(queue.chunks(), [Bytes::from_static(b"e")]);
    }

    #[test]
    fn nothing_is_queued_after_the_end() {
        let mut queue = DeliveryQueue::default();
        queue.push(Bytes::from_static(b"last"), 4);
        queue.end();
        queue.push(Bytes::from_static(b"late"), 4);
        assert_eq!(queue.pending(), 4);
        assert!(!queue.is_finished());
        queue.clear();
        assert!(queue.is_finished());
    }
}
