//! What waits to be written to one request stream.

use std::sync::{Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// Bytes of requests that may wait for one stream. Larger lets a burst run
/// further ahead of the network; smaller makes callers wait sooner. It must hold
/// the largest frame, or that frame could never be sent.
pub(crate) const OUTBOX_BYTES_MAX: u32 = 4 << 20;

const _: () = assert!(OUTBOX_BYTES_MAX > 2 * pinion_types::limits::FRAME_BYTES_MAX);

/// Frames up to this size are copied together into one buffer; larger ones are
/// handed to QUIC as they are.
const COPY_BYTES_MAX: usize = 8 << 10;

/// A bounded queue of frames whose reader takes everything that is there at
/// once, so that many small requests leave in one write.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
    space: Semaphore,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: Vec<Bytes>,
    tail: BytesMut,
    /// Permits of [`Outbox::space`] that the queued bytes hold.
    accounted: usize,
    finishing: bool,
}

/// What the writer took.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) chunks: Vec<Bytes>,
    /// To be given back with [`Outbox::written`].
    pub(crate) accounted: usize,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue::default()),
            wake: Notify::new(),
            space: Semaphore::new(OUTBOX_BYTES_MAX as usize),
        }
    }

    /// Waits for space for `len` bytes; `None` when the outbox is closed.
    /// Dropping the permit gives the space back.
    pub(crate) async fn reserve(&self, len: usize) -> Option<SemaphorePermit<'_>> {
        let len = u32::try_from(len).expect("a frame is far below OUTBOX_BYTES_MAX");
        self.space.acquire_many(len).await.ok()
    }

    /// Queues a frame for which space is reserved.
    pub(crate) fn push(&self, frame: Vec<u8>, space: SemaphorePermit<'_>) {
        let accounted = space.num_permits();
        space.forget();
        self.append(frame, accounted);
    }

    /// Queues a frame that nobody can wait for: credit or unsubscribe. There
    /// are at most three such frames per subscription (credit comes back by
    /// halves, and a half is sent only after the node has granted from the one
    /// before), so subscriptions bound them.
    pub(crate) fn push_control(&self, frame: Vec<u8>) {
        self.append(frame, 0);
    }

    fn append(&self, frame: Vec<u8>, accounted: usize) {
        let mut queue = self.lock();
        queue.accounted += accounted;
        if frame.len() <= COPY_BYTES_MAX {
            queue.tail.extend_from_slice(&frame);
        } else {
            if !queue.tail.is_empty() {
                let tail = queue.tail.split().freeze();
                queue.chunks.push(tail);
            }
            queue.chunks.push(Bytes::from(frame));
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// Waits for something to write; `None` after [`finish`](Self::finish) once
    /// everything was taken.
    pub(crate) async fn take(&self) -> Option<Taken> {
        loop {
            {
                let mut queue = self.lock();
                if !queue.tail.is_empty() {
                    let tail = queue.tail.split().freeze();
                    queue.chunks.push(tail);
                }
                if !queue.chunks.is_empty() {
                    return Some(Taken {
                        chunks: std::mem::take(&mut queue.chunks),
                        accounted: std::mem::take(&mut queue.accounted),
                    });
                }
                if queue.finishing {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    /// The bytes of a [`Taken`] have left.
    pub(crate) fn written(&self, accounted: usize) {
        self.space.add_permits(accounted);
    }

    /// Lets the writer end after what is queued.
    pub(crate) fn finish(&self) {
        self.lock().finishing = true;
        self.wake.notify_one();
    }

    /// The connection is lost: nobody waits for space any more.
    pub(crate) fn close(&self) {
        self.space.close();
        self.finish();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn small_frames_leave_together_and_order_is_kept() {
        let outbox = Outbox::new();
        for frame in [vec![1; 10], vec![2; 20], vec![3; 9000], vec![4; 5]] {
            let space = ready(outbox.reserve(frame.len())).unwrap().unwrap();
            outbox.push(frame, space);
        }
        let taken = ready(outbox.take()).unwrap().unwrap();
        let lens: Vec<usize> = taken.chunks.iter().map(Bytes::len).collect();
        assert_eq!(lens, [30, 9000, 5]);
        assert_eq!(taken.accounted, 9035);
        assert!(
            ready(outbox.take()).is_none(),
            "nothing more: the writer waits"
        );
    }

    #[test]
    fn a_full_outbox_makes_callers_wait_until_bytes_have_left() {
        let outbox = Outbox::new();
        let all = OUTBOX_BYTES_MAX as usize;
        let space = ready(outbox.reserve(all)).unwrap().unwrap();
        outbox.push(vec![0; all], space);
        assert!(ready(outbox.reserve(1)).is_none());
        outbox.push_control(vec![9]);
        let taken = ready(outbox.take()).unwrap().unwrap();
        assert!(
            ready(outbox.reserve(1)).is_none(),
            "taken is not yet written"
        );
        outbox.written(taken.accounted);
        assert!(ready(outbox.reserve(all)).is_some());
    }

    #[test]
    fn a_dropped_reservation_takes_no_space() {
        let outbox = Outbox::new();
        drop(ready(outbox.reserve(OUTBOX_BYTES_MAX as usize)).unwrap());
        assert!(ready(outbox.reserve(OUTBOX_BYTES_MAX as usize)).is_some());
    }

    #[test]
    fn finish_lets_what_is_queued_go_first_and_close_frees_waiters() {
        let outbox = Outbox::new();
        outbox.push_control(vec![1]);
        outbox.finish();
        assert!(ready(outbox.take()).unwrap().is_some());
        assert!(ready(outbox.take()).unwrap().is_none());
        outbox.close();
        assert!(ready(outbox.reserve(1)).unwrap().is_none());
    }
}
