//! Sending: one call per train where the kernel can cut it, one per datagram
//! where it cannot.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn_udp::{EcnCodepoint, UdpSocketState};

use crate::pump::{CoreStats, SendOutcome, Transmit};

/// Most datagrams the kernel cuts out of one send (`UDP_MAX_SEGMENTS` of the
/// older kernels; newer ones take 128).
const SEGMENTS_MAX: usize = 64;

/// Longest UDP payload over IPv4, and so the longest train.
const TRAIN_BYTES_MAX: usize = 65_507;

/// The system call behind [`Sender`], so that tests can refuse it.
pub(crate) trait Wire {
    fn try_send(&self, transmit: &quinn_udp::Transmit<'_>) -> io::Result<()>;
    fn segments_max(&self) -> usize;
}

/// The core's socket.
#[derive(Debug)]
pub(crate) struct SocketWire {
    socket: Arc<UdpSocket>,
    state: Arc<UdpSocketState>,
}

impl SocketWire {
    pub(crate) fn new(socket: Arc<UdpSocket>, state: Arc<UdpSocketState>) -> Self {
        Self { socket, state }
    }

    pub(crate) fn receive_drops(&self) -> Option<u32> {
        crate::udp::receive_drops(&self.socket)
    }
}

impl Wire for SocketWire {
    fn try_send(&self, transmit: &quinn_udp::Transmit<'_>) -> io::Result<()> {
        self.state.try_send((&*self.socket).into(), transmit)
    }

    fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }
}

/// A train of which the kernel took only the first `sent` bytes.
#[derive(Debug, PartialEq, Eq)]
struct Unfinished {
    destination: SocketAddr,
    len: usize,
    sent: usize,
}

#[derive(Debug)]
pub(crate) struct Sender<W> {
    wire: W,
    /// False once a train was refused as such, or when configured off.
    offload: bool,
    unfinished: Option<Unfinished>,
    sent: u64,
    blocked: u64,
    failed: u64,
    split: u64,
}

impl<W: Wire> Sender<W> {
    pub(crate) fn new(wire: W, offload: bool) -> Self {
        Self {
            wire,
            offload,
            unfinished: None,
            sent: 0,
            blocked: 0,
            failed: 0,
            split: 0,
        }
    }

    pub(crate) fn wire(&self) -> &W {
        &self.wire
    }

    pub(crate) fn segments_max(&self) -> usize {
        if self.offload {
            self.wire.segments_max().clamp(1, SEGMENTS_MAX)
        } else {
            1
        }
    }

    pub(crate) fn merge_into(&self, stats: CoreStats) -> CoreStats {
        CoreStats {
            transmits_sent: self.sent,
            transmits_blocked: self.blocked,
            transmits_failed: self.failed,
            trains_split: self.split,
            ..stats
        }
    }

    pub(crate) fn send(&mut self, transmit: &Transmit<'_>) -> SendOutcome {
        // A single datagram must never carry UDP_SEGMENT: some drivers then drop
        // it, and a Retry lost that way means no handshake completes (R18).
        let segment = transmit
            .segment_size
            .filter(|size| (1..transmit.contents.len()).contains(size));
        let outcome = match segment {
            None => self.send_one(transmit, transmit.contents, None),
            Some(size) => self.send_train(transmit, size),
        };
        match outcome {
            SendOutcome::Sent => self.sent += 1,
            SendOutcome::WouldBlock => self.blocked += 1,
            SendOutcome::Failed(_) => self.failed += 1,
        }
        outcome
    }

    fn send_train(&mut self, transmit: &Transmit<'_>, size: usize) -> SendOutcome {
        let count = transmit.contents.len().div_ceil(size);
        let fits = count <= self.segments_max() && transmit.contents.len() <= TRAIN_BYTES_MAX;
        if !fits || self.unfinished.is_some() {
            return self.send_split(transmit, size);
        }
        match self
            .wire
            .try_send(&to_quinn(transmit, transmit.contents, Some(size)))
        {
            Ok(()) => SendOutcome::Sent,
            // The network device promised to cut and does not (EIO), or the
            // kernel cannot on this route (EINVAL). The datagrams are fine.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) => {
                tracing::warn!(%error, destination = %transmit.destination, "segmentation offload refused; off from now on");
                self.offload = false;
                self.send_split(transmit, size)
            }
            Err(error) => outcome_of(&error),
        }
    }

    /// One datagram at a time. When the buffer fills up in the middle, the next
    /// offer of the same train goes on where this one stopped.
    fn send_split(&mut self, transmit: &Transmit<'_>, size: usize) -> SendOutcome {
        let start = match self.unfinished.take() {
            Some(left)
                if left.destination == transmit.destination
                    && left.len == transmit.contents.len() =>
            {
                left.sent
            }
            _ => {
                self.split += 1;
                0
            }
        };
        let mut outcome = SendOutcome::Sent;
        let mut sent = start;
        for datagram in transmit.contents[start..].chunks(size) {
            match self.send_one(transmit, datagram, None) {
                SendOutcome::Sent => {}
                SendOutcome::WouldBlock => {
                    let len = transmit.contents.len();
                    self.unfinished = Some(Unfinished {
                        destination: transmit.destination,
                        len,
                        sent,
                    });
                    return SendOutcome::WouldBlock;
                }
                // A refused datagram is a lost one; the rest may still pass.
                refused @ SendOutcome::Failed(_) => outcome = refused,
            }
            sent += datagram.len();
        }
        outcome
    }

    fn send_one(
        &self,
        transmit: &Transmit<'_>,
        datagram: &[u8],
        segment: Option<usize>,
    ) -> SendOutcome {
        match self.wire.try_send(&to_quinn(transmit, datagram, segment)) {
            Ok(()) => SendOutcome::Sent,
            Err(error) => outcome_of(&error),
        }
    }
}

fn outcome_of(error: &io::Error) -> SendOutcome {
    match error.kind() {
        io::ErrorKind::WouldBlock => SendOutcome::WouldBlock,
        kind => SendOutcome::Failed(kind),
    }
}

fn to_quinn<'a>(
    transmit: &Transmit<'_>,
    contents: &'a [u8],
    segment_size: Option<usize>,
) -> quinn_udp::Transmit<'a> {
    quinn_udp::Transmit {
        destination: transmit.destination,
        ecn: transmit.ecn.and_then(EcnCodepoint::from_bits),
        contents,
        segment_size,
        src_ip: transmit.source_ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A kernel that records what it was given: (bytes, segment size).
    #[derive(Default)]
    struct FakeWire {
        calls: RefCell<Vec<(Vec<u8>, Option<usize>)>>,
        refuse_trains_with: Option<i32>,
        /// Sends left before the buffer is full; `None` is endless.
        room: Cell<Option<usize>>,
    }

    impl Wire for FakeWire {
        fn try_send(&self, transmit: &quinn_udp::Transmit<'_>) -> io::Result<()> {
            if self.room.get() == Some(0) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if let (Some(_), Some(errno)) = (transmit.segment_size, self.refuse_trains_with) {
                return Err(io::Error::from_raw_os_error(errno));
            }
            self.room.set(self.room.get().map(|room| room - 1));
            self.calls
                .borrow_mut()
                .push((transmit.contents.to_vec(), transmit.segment_size));
            Ok(())
        }

        fn segments_max(&self) -> usize {
            64
        }
    }

    fn train(contents: &[u8], segment_size: Option<usize>) -> Transmit<'_> {
        Transmit {
            destination: "127.0.0.1:9".parse().expect("literal"),
            source_ip: None,
            ecn: None,
            contents,
            segment_size,
        }
    }

    fn sender(wire: FakeWire) -> Sender<FakeWire> {
        Sender::new(wire, true)
    }

    fn calls(sender: &Sender<FakeWire>) -> Vec<(Vec<u8>, Option<usize>)> {
        sender.wire.calls.borrow().clone()
    }

    #[test]
    fn a_train_goes_out_in_one_call() {
        let mut sender = sender(FakeWire::default());
        assert_eq!(sender.send(&train(b"aabbc", Some(2))), SendOutcome::Sent);
        assert_eq!(calls(&sender), [(b"aabbc".to_vec(), Some(2))]);
    }

    #[test]
    fn a_single_datagram_never_carries_a_segment_size() {
        let mut sender = sender(FakeWire::default());
        for size in [None, Some(0), Some(3), Some(100)] {
            assert_eq!(sender.send(&train(b"abc", size)), SendOutcome::Sent);
        }
        assert!(
            calls(&sender)
                .iter()
                .all(|(bytes, size)| bytes == b"abc" && size.is_none())
        );
    }

    #[test]
    fn a_refused_train_is_resent_split_at_once_and_offload_stays_off() {
        for errno in [libc::EIO, libc::EINVAL] {
            let mut sender = sender(FakeWire {
                refuse_trains_with: Some(errno),
                ..FakeWire::default()
            });
            assert_eq!(sender.segments_max(), 64);
            assert_eq!(sender.send(&train(b"aabbc", Some(2))), SendOutcome::Sent);
            let split = [
                (b"aa".to_vec(), None),
                (b"bb".to_vec(), None),
                (b"c".to_vec(), None),
            ];
            assert_eq!(calls(&sender), split, "errno {errno}");
            assert_eq!(sender.segments_max(), 1);
            assert_eq!(sender.send(&train(b"ddee", Some(2))), SendOutcome::Sent);
            assert_eq!(
                calls(&sender).len(),
                5,
                "the next train is split without asking"
            );
        }
    }

    #[test]
    fn an_error_that_is_not_about_offload_leaves_offload_on() {
        let mut sender = sender(FakeWire {
            refuse_trains_with: Some(libc::EPERM),
            ..FakeWire::default()
        });
        assert_eq!(
            sender.send(&train(b"aabb", Some(2))),
            SendOutcome::Failed(io::ErrorKind::PermissionDenied)
        );
        assert_eq!(sender.segments_max(), 64);
    }

    #[test]
    fn a_split_train_goes_on_where_the_full_buffer_stopped_it() {
        let mut sender = Sender::new(
            FakeWire {
                room: Cell::new(Some(2)),
                ..FakeWire::default()
            },
            false,
        );
        assert_eq!(
            sender.send(&train(b"aabbc", Some(2))),
            SendOutcome::WouldBlock
        );
        sender.wire.room.set(None);
        assert_eq!(sender.send(&train(b"aabbc", Some(2))), SendOutcome::Sent);
        let bytes: Vec<_> = calls(&sender).into_iter().map(|(bytes, _)| bytes).collect();
        assert_eq!(
            bytes,
            [b"aa".to_vec(), b"bb".to_vec(), b"c".to_vec()],
            "nothing twice, nothing missing"
        );
    }

    #[test]
    fn a_train_the_kernel_cannot_take_whole_is_split_without_turning_offload_off() {
        let mut sender = sender(FakeWire::default());
        let long = vec![7_u8; 9000 * 8];
        assert_eq!(sender.send(&train(&long, Some(9000))), SendOutcome::Sent);
        assert_eq!(calls(&sender).len(), 8);
        assert_eq!(sender.segments_max(), 64);
    }
}
