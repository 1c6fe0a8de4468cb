//! Replies of one request stream that the transport has not taken yet.

/// Unsent reply bytes above which a stream's further requests wait unread.
/// Higher lets a client that does not read hold more memory; lower makes large
/// pages of replies wait for round trips. A single reply may exceed it by one frame.
pub const REPLY_BYTES_HIGH: usize = 256 * 1024;

/// Capacity an empty buffer may keep. Idle connections pay this much at most.
const KEEP_BYTES: usize = 16 * 1024;

/// Append at the end, send from the front.
#[derive(Debug, Default)]
pub struct ReplyBuffer {
    bytes: Vec<u8>,
    sent: usize,
}

impl ReplyBuffer {
    /// The buffer replies are encoded into. Only append to it.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What waits to be sent.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Whether the client must read before more of its requests are looked at.
    #[must_use]
    pub fn is_high(&self) -> bool {
        self.bytes.len() - self.sent >= REPLY_BYTES_HIGH
    }

    /// The transport took `count` bytes.
    ///
    /// # Panics
    /// When it claims to have taken more than was pending.
    pub fn consume(&mut self, count: usize) {
        self.sent += count;
        assert!(
            self.sent <= self.bytes.len(),
            "took {} of {} bytes",
            self.sent,
            self.bytes.len()
        );
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
            if self.bytes.capacity() > KEEP_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.sent >= REPLY_BYTES_HIGH {
            // Bounds the buffer: without this a stream that never quite drains
            // would keep everything it ever sent.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_the_rest_keeps_its_order() {
        let mut buffer = ReplyBuffer::default();
        buffer.tail().extend_from_slice(b"abcdef");
        buffer.consume(2);
        assert_eq!(buffer.pending(), b"cdef");
        buffer.tail().extend_from_slice(b"gh");
        buffer.consume(6);
        assert!(buffer.is_empty());
        assert_eq!(buffer.pending(), b"");
    }

    #[test]
    fn a_stream_that_never_drains_does_not_keep_what_it_sent() {
        let mut buffer = ReplyBuffer::default();
        for _ in 0..64 {
            buffer.tail().extend_from_slice(&[7; REPLY_BYTES_HIGH]);
            buffer.consume(REPLY_BYTES_HIGH - 1);
        }
        assert!(buffer.bytes.capacity() <= 4 * REPLY_BYTES_HIGH);
        assert_eq!(buffer.pending().len(), 64);
    }

    #[test]
    fn an_empty_buffer_gives_its_memory_back() {
        let mut buffer = ReplyBuffer::default();
        buffer.tail().extend_from_slice(&[0; 1 << 20]);
        assert!(buffer.is_high());
        buffer.consume(1 << 20);
        assert!(buffer.bytes.capacity() <= KEEP_BYTES);
    }
}
