//! One peer's conversation, as far as it needs no knowledge of what a request
//! means: bytes to frames, HELLO before everything, replies waiting for room,
//! deliveries waiting for room, and who is still owed a reply.
//!
//! Owned by the data core the connection lives on. It never blocks, reads no
//! clock and knows no socket: bytes come in by [`FrameReader::push`] and leave
//! from [`ReplyBuffer`] and [`DeliveryQueue`] at the speed the transport takes
//! them. Start reading at [`Session`].

#![forbid(unsafe_code)]

mod delivery;
mod hello;
mod in_flight;
mod reader;
mod reply;
mod session;

pub use delivery::{DeliveryQueue, DeliveryState};
pub use hello::{CAPABILITIES, Negotiated, VERSION_MAX, VERSION_MIN, negotiate};
pub use in_flight::{Admission, InFlight};
pub use reader::{Frame, FrameReader};
pub use reply::{REPLY_BYTES_HIGH, ReplyBuffer};
pub use session::{CloseCode, Phase, RequestStream, Session};
