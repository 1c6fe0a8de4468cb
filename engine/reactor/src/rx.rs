//! Receiving: many datagrams a system call, no allocation a datagram.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::sync::Arc;

use bytes::BytesMut;
use quinn_udp::{RecvMeta, UdpSocketState};

use crate::pump::DatagramMeta;

/// Buffers offered to the kernel in one call.
///
/// More saves system calls when many peers send single datagrams; each costs
/// [`SLOT_BYTES`] of address space (pages are touched only as datagrams fill
/// them), and all of them together bound the work of one call.
const SLOTS: usize = 16;

/// One buffer holds the longest train the kernel joins (GRO), and so also the
/// longest datagram.
const SLOT_BYTES: usize = 64 * 1024;

/// Fewest buffers offered. With one, a lone datagram costs the kernel one look
/// at the socket; with more it looks again for each, and finds nothing.
const SLOTS_MIN: usize = 1;

/// Memory from which datagrams are cut.
///
/// Larger makes the reuse check rarer; a datagram that is kept for long (an
/// out-of-order piece of a stream) keeps its whole block alive, so it must not
/// be much larger than a full train.
const BLOCK_BYTES: usize = 64 * 1024;

/// Blocks that are kept for reuse.
///
/// More tolerate more datagrams in use at the moment of reuse before a new
/// block is allocated.
const BLOCKS: usize = 4;

const _: () = assert!(SLOT_BYTES <= BLOCK_BYTES, "a datagram must fit in a block");
const _: () = assert!(SLOTS <= quinn_udp::BATCH_SIZE);

/// What one [`Receiver::receive`] did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) datagrams: usize,
    pub(crate) bytes: usize,
    pub(crate) errors: usize,
}

pub(crate) struct Receiver {
    socket: Arc<UdpSocket>,
    state: Arc<UdpSocketState>,
    buffers: Box<[u8]>,
    metas: [RecvMeta; SLOTS],
    arena: Arena,
    /// Buffers to offer next time: twice what was offered when all were filled,
    /// else what the last call filled.
    slots: usize,
    /// Bytes of a filled buffer in the last call, in the mean.
    filled_bytes: usize,
}

impl Receiver {
    pub(crate) fn new(socket: Arc<UdpSocket>, state: Arc<UdpSocketState>) -> Self {
        Self {
            socket,
            state,
            // Zeroed memory comes from the kernel untouched: an idle core does
            // not hold a mebibyte of it.
            buffers: vec![0; SLOTS * SLOT_BYTES].into_boxed_slice(),
            metas: [RecvMeta::default(); SLOTS],
            arena: Arena::new(),
            slots: SLOTS_MIN,
            filled_bytes: 0,
        }
    }

    /// Hands on what the socket holds, until it is empty, or `limit` datagrams or
    /// `bytes_max` bytes are reached. The last call may exceed the limits by what it
    /// brought: at most 16 trains of 64. It is offered no more buffers than trains
    /// like those before would need.
    pub(crate) fn receive(
        &mut self,
        limit: usize,
        bytes_max: usize,
        mut take: impl FnMut(DatagramMeta, BytesMut),
    ) -> Received {
        let mut received = Received::default();
        while received.datagrams < limit && received.bytes < bytes_max {
            let mut chunks = self.buffers.chunks_exact_mut(SLOT_BYTES);
            let mut slices: [IoSliceMut<'_>; SLOTS] = std::array::from_fn(|_| {
                IoSliceMut::new(chunks.next().expect("one chunk per slot"))
            });
            let room = (bytes_max - received.bytes) / self.filled_bytes.max(1);
            let offered = self.slots.min(room.max(SLOTS_MIN));
            let filled = match self.state.recv(
                (&*self.socket).into(),
                &mut slices[..offered],
                &mut self.metas[..offered],
            ) {
                Ok(filled) => filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.slots = SLOTS_MIN;
                    break;
                }
                Err(error) => {
                    // An error of an earlier send shows up here, once. It says
                    // nothing about what waits behind it; the next turn looks.
                    tracing::debug!(%error, "receive failed");
                    received.errors += 1;
                    break;
                }
            };
            let bytes: usize = self.metas[..filled].iter().map(|meta| meta.len).sum();
            self.filled_bytes = bytes / filled.max(1);
            received.bytes += bytes;
            for (meta, buffer) in self
                .metas
                .iter()
                .zip(self.buffers.chunks_exact(SLOT_BYTES))
                .take(filled)
            {
                let datagram_meta = DatagramMeta {
                    remote: meta.addr,
                    local_ip: meta.dst_ip,
                    ecn: meta.ecn.map(|ecn| ecn as u8),
                };
                // A zero stride belongs to an empty datagram: no chunk, nothing
                // to hand on, and QUIC has no use for it.
                for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    take(datagram_meta, self.arena.copy(datagram));
                    received.datagrams += 1;
                }
            }
            if filled < offered {
                self.slots = filled.max(SLOTS_MIN);
                // The kernel had no more at that moment.
                break;
            }
            self.slots = (offered * 2).min(SLOTS);
            if offered == SLOTS_MIN {
                // Most likely the only one: it is served before the next look,
                // which is the next turn's, with more buffers.
                break;
            }
        }
        received
    }
}

/// Cuts datagrams off a few blocks of memory and takes the blocks back when all
/// their datagrams are dropped.
///
/// The datagram is copied once, out of the kernel-facing buffer: handing that
/// buffer on instead would spend 64 KiB for every 100-byte datagram. In the
/// steady state, where datagrams are dropped within a few turns, a block is
/// cut up, its pieces are dropped, and it is cut up again: no allocation. When
/// every block is still in use, one is given up to its pieces (freed with the
/// last of them) and replaced: one allocation per 64 KiB of payload.
struct Arena {
    blocks: [BytesMut; BLOCKS],
    current: usize,
}

impl Arena {
    fn new() -> Self {
        Self {
            blocks: std::array::from_fn(|_| BytesMut::new()),
            current: 0,
        }
    }

    fn copy(&mut self, datagram: &[u8]) -> BytesMut {
        let len = datagram.len();
        if self.spare(self.current) < len {
            self.turn_over();
        }
        let block = &mut self.blocks[self.current];
        block.extend_from_slice(datagram);
        block.split()
    }

    fn spare(&self, index: usize) -> usize {
        self.blocks[index].capacity() - self.blocks[index].len()
    }

    /// Makes the current block a whole one, reused if any can be.
    fn turn_over(&mut self) {
        for step in 0..BLOCKS {
            let at = (self.current + step) % BLOCKS;
            if self.blocks[at].try_reclaim(BLOCK_BYTES) {
                self.current = at;
                return;
            }
        }
        self.current = (self.current + 1) % BLOCKS;
        self.blocks[self.current] = BytesMut::with_capacity(BLOCK_BYTES);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn receiver() -> (Receiver, UdpSocket) {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let state = Arc::new(UdpSocketState::new((&*socket).into()).unwrap());
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(socket.local_addr().unwrap()).unwrap();
        (Receiver::new(socket, state), client)
    }

    #[test]
    fn datagrams_come_out_whole_in_order_and_with_their_sender() {
        let (mut receiver, client) = receiver();
        for i in 0..40_u8 {
            client.send(&vec![i; usize::from(i) + 1]).unwrap();
        }
        let mut seen = Vec::new();
        let received = receiver.receive(1000, usize::MAX, |meta, data| seen.push((meta, data)));
        // A call that is not filled ends the turn; the next takes the rest.
        let rest = receiver.receive(1000, usize::MAX, |meta, data| seen.push((meta, data)));
        assert_eq!(received.datagrams + rest.datagrams, 40);
        for (i, (meta, data)) in seen.iter().enumerate() {
            assert_eq!(data, &vec![u8::try_from(i).unwrap(); i + 1]);
            assert_eq!(meta.remote, client.local_addr().unwrap());
            assert_eq!(meta.local_ip, Some("127.0.0.1".parse().unwrap()));
        }
    }

    #[test]
    fn a_turn_takes_no_more_bytes_than_it_may_and_leaves_the_rest() {
        let (mut receiver, client) = receiver();
        for i in 0..40_u8 {
            client.send(&[i; 1000]).unwrap();
        }
        let (mut seen, mut most) = (Vec::new(), 0);
        loop {
            let received = receiver.receive(1000, 4000, |_, data| seen.push(data[0]));
            if received.datagrams == 0 {
                break;
            }
            assert_eq!(received.bytes, received.datagrams * 1000);
            most = most.max(received.datagrams);
        }
        assert_eq!(most, 4);
        assert_eq!(seen, (0..40).collect::<Vec<u8>>());
    }

    #[test]
    fn a_train_joined_by_the_kernel_is_handed_on_as_its_datagrams() {
        let (mut receiver, client) = receiver();
        let state = UdpSocketState::new((&client).into()).unwrap();
        let contents: Vec<u8> = (0..10_u8).flat_map(|i| vec![i; 100]).take(950).collect();
        let train = quinn_udp::Transmit {
            destination: client.peer_addr().unwrap(),
            ecn: None,
            contents: &contents,
            segment_size: Some(100),
            src_ip: None,
        };
        state.try_send((&client).into(), &train).unwrap();
        let mut lengths = Vec::new();
        receiver.receive(1000, usize::MAX, |_, data| lengths.push(data.len()));
        assert_eq!(lengths, [100, 100, 100, 100, 100, 100, 100, 100, 100, 50]);
    }

    #[test]
    fn a_turn_stops_near_its_limit_and_the_next_one_goes_on() {
        let (mut receiver, client) = receiver();
        (0..100_u8).for_each(|i| assert_eq!(client.send(&[i]).unwrap(), 1));
        let mut seen = Vec::new();
        let mut turns = 0;
        while receiver
            .receive(8, usize::MAX, |_, data| seen.push(data[0]))
            .datagrams
            > 0
        {
            turns += 1;
        }
        assert_eq!(seen, (0..100).collect::<Vec<u8>>());
        assert!(
            turns >= 5,
            "{turns} turns for 100 datagrams, 8 and at most one call's more each"
        );
    }

    #[test]
    fn a_block_is_reused_once_its_datagrams_are_dropped() {
        let mut arena = Arena::new();
        let datagram = [9_u8; 1200];
        let mut places = std::collections::HashSet::new();
        for _ in 0..100_000 {
            places.insert(arena.copy(&datagram).as_ptr() as usize / BLOCK_BYTES);
        }
        // One block spans at most two aligned ranges of its size.
        assert!(
            places.len() <= 2,
            "120 MB went through {} ranges",
            places.len()
        );
    }

    #[test]
    fn a_datagram_that_is_kept_is_not_overwritten() {
        let mut arena = Arena::new();
        let kept: Vec<_> = (0..2000_u32)
            .map(|i| {
                let kept = (i % 7 == 0).then(|| arena.copy(&i.to_le_bytes().repeat(300)));
                (0..3).for_each(|_| drop(arena.copy(&[0xff; 1200])));
                (i, kept)
            })
            .collect();
        for (i, datagram) in kept {
            assert!(datagram.is_none_or(|datagram| datagram == i.to_le_bytes().repeat(300)));
        }
    }
}
