//! The client protocol's frames: bytes to borrowed views and back.
//!
//! Decoding never allocates: a message is a view of the frame's body, and every
//! length is checked before the bytes behind it are looked at. What decodes is
//! canonical: encoding it again gives the same bytes. Encoding appends to one
//! `Vec<u8>` and leaves it unchanged on error.
//!
//! This crate reads no clock, opens no socket, keeps no state between frames and
//! decides nothing about a request. The layouts are in `docs/wire-protocol.md`;
//! the vectors in `vectors/` are derived from that document.
//!
//! Start with [`frame::split`], then [`Request::decode`], [`Reply`] and
//! [`Delivery`]; a server on its hot path answers with [`reply`].
//!
//! ```
//! use pinion_wire::message::{CacheGet, Handle, Request};
//! use pinion_wire::frame::{self, Split};
//!
//! let get = Request::CacheGet(CacheGet { handle: Handle(8), key: b"user:1" });
//! let mut out = Vec::new();
//! get.encode(24, &mut out)?;
//!
//! let Split::Frame { header, body, consumed } = frame::split(&out)? else {
//!     panic!("the frame is whole");
//! };
//! assert_eq!((header.correlation, consumed), (24, out.len()));
//! assert_eq!(Request::decode(header.opcode, body)?, get);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod codec;
pub mod error;
pub mod frame;
pub mod message;
pub mod opcode;
pub mod reply;

pub use error::{DecodeError, EncodeError};
pub use frame::{FrameHeader, Split};
pub use message::{Delivery, Reply, Request};
