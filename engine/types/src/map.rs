//! Hash maps whose order is the same in every run.
//!
//! A simulation replays a node from a seed, so no map of the pure rooms may be
//! seeded by the process. Keys that a client can choose without a bound on
//! their number (cache keys) are hashed with a secret key instead; the maps
//! here hold ids of our own making or tables with a named limit per connection.

use foldhash::fast::FixedState;

/// A hash map with a fixed hasher.
pub type FixedMap<K, V> = hashbrown::HashMap<K, V, FixedState>;

/// A hash set with a fixed hasher.
pub type FixedSet<K> = hashbrown::HashSet<K, FixedState>;
