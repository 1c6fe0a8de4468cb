//! What a simulated world is made of: numbers from a seed, a clock that moves
//! when it is told to, an agenda of things to come, a trace with a running
//! hash, a disk that fails on purpose, and wires that do.
//!
//! Nothing here reads a real clock, a real file or the system's randomness, so
//! the same seed gives the same world, bit for bit. Nothing here knows what the
//! engine should do, either: the oracles live with the worlds, in
//! `benches/simulator`. Start reading at [`disk`].

#![forbid(unsafe_code)]

pub mod agenda;
pub mod clock;
pub mod disk;
pub mod net;
pub mod rng;
pub mod trace;

pub use agenda::Agenda;
pub use clock::SimClock;
pub use disk::{CrashMode, Fault, FaultPlan, SimDisk, SimDiskConfig};
pub use net::{SimNet, Weather};
pub use rng::SimRng;
pub use trace::Trace;
