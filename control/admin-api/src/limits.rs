//! Every number that bounds the admin API. Settings cannot raise them.

/// Things that handlers ask of the plane and that it has not looked at yet. Beyond it
/// they are told to come back, so that a flood costs a bounded amount of memory and
/// no more than a turn's delay.
pub const ASKS_MAX: usize = 1_024;

/// Asks taken in one turn of the plane. More makes turns longer, and with them the
/// pause between two heartbeats of a leader; fewer makes more turns of one flood.
pub const ASKS_PER_TURN: usize = 256;

/// Changes on their way to one watcher. Larger lets one that reads slowly hold more of
/// them; smaller makes one that reads fast wait for the plane's next turn more often.
pub const WATCH_AHEAD: u32 = 128;

// A watcher cannot be given more credit than the plane gives.
const _: () = assert!(WATCH_AHEAD <= pinion_plane::limits::WATCH_CREDIT_MAX);
// What was asked must fit what may be unanswered.
const _: () = assert!(ASKS_MAX <= pinion_plane::limits::REQUESTS_MAX);
