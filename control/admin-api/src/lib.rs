//! The administrators' way into the control plane: HTTP in, requests of the plane out.
//!
//! Everything here runs on tokio, on the control thread, and only carries: what is
//! decided is decided by [`pinion_plane::Plane`], what somebody may do by
//! `pinion_auth`. It keeps no state of its own but connections and rates, and never
//! touches a data core.
//!
//! Start reading at [`front()`]: how handlers reach the plane of the thread they run on.

#![forbid(unsafe_code)]

mod front;
pub mod limits;

pub use front::{Front, PlaneHandle, WatchStream, front};
