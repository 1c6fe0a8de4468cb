//! What identity providers publish, fetched from them.
//!
//! Which document, when, and what follows from it is decided by
//! [`pinion_auth::exchange::Exchange`]; here are the sockets. [`Fetcher`] gets one document,
//! [`Exchanges`] is what a request handler asks, and [`Driver`] runs behind it.

mod driver;
mod fetch;
mod roots;
mod tally;

pub use driver::{ASKS_MAX, CODES_MAX, Driver, Exchanges, exchanges};
pub use fetch::{CONNECT_WAIT, Fetcher, LOOKUPS_MAX};
pub use roots::{PLATFORM_BUNDLES, RootsError, roots};
pub(crate) use tally::Tally;
