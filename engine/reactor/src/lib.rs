//! The kernel room: everything of Pinion that touches a socket, a ring, an
//! eventfd, a CPU mask or a resource limit, and the only crate with `unsafe`.
//!
//! What it does: it decides which CPUs a node may use ([`cpu`]), says whether
//! this machine can run one ([`probe`]), opens the UDP sockets of a node as one
//! steered group ([`bind_group`]), joins the cores by bounded mailboxes
//! ([`mesh()`]), and turns one [`Pump`] per data core ([`run_core`]): receive,
//! hand on, drain mail, take what the disk has done, drive, and park when there
//! is nothing to do. It owns the data directory: who may use it and whose it is
//! ([`store`]), and how a log's files are found at start ([`FileStore`]).
//!
//! What it never does: it does not know QUIC, frames, users or records. It
//! decides nothing about the payload; a datagram goes in as bytes and comes out
//! as bytes, and so does a block of a log. No other crate knows glommio, `io_uring` or a file descriptor, so
//! replacing any of them is this room's work alone.
//!
//! Start reading at [`Pump`], then `core_loop.rs` for the order of a turn and
//! the park, then `mesh.rs` for the wake-up between cores, and `disk/mod.rs` for
//! the way of a write.
#![deny(unsafe_code)]

mod bulk;
mod core_loop;
pub mod cpu;
mod disk;
mod files;
mod mesh;
mod nap;
pub mod placement;
pub mod probe;
mod pump;
mod ring;
mod rx;
mod space;
mod spin;
mod steering;
pub mod store;
mod tx;
mod udp;

pub use bulk::BulkFile;
pub use bytes::BytesMut;
pub use core_loop::{CoreConfig, CoreError, CoreHandle, run_core};
pub use disk::{DiskConfig, takes_direct};
pub use files::FileStore;
pub use hdrhistogram::Histogram;
pub use mesh::{ControlEnd, Full, MAILBOX_CAPACITY_DEFAULT, MeshEnd, PortId, mesh};
pub use placement::{Placement, PlacementError, PlacementMode};
pub use pump::{CoreStats, DatagramMeta, Io, Phase, Pump, SendOutcome, Stall, Transmit};
pub use space::statfs_free;
pub use spin::SpinPolicy;
pub use steering::Steering;
pub use udp::{BindError, BufferReport, GroupOptions, SOCKET_BUFFER_BYTES, UdpGroup, bind_group};
