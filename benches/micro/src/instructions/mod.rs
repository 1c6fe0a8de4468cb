//! Instructions per operation of the pure rooms, counted and compared.
//!
//! Time on a shared machine differs by tens of percent from run to run; the
//! number of instructions a fixed amount of work takes does not. So a change
//! that makes a hot path longer is noticed here, whatever else the machine does.
//!
//! Each [`Path`] prepares its room and then runs a fixed number of operations
//! inside [`counted_region`]. Under valgrind's callgrind only what happens
//! within that function is counted; [`callgrind`] starts it, [`baseline`] keeps
//! what was accepted, [`compare()`] judges. Nothing here measures time, touches a
//! disk or a socket, and nothing of the product depends on it.
//!
//! Start reading at [`PATHS`].

pub mod baseline;
pub mod callgrind;
mod compare;
mod rooms;

use core::hint::black_box;

pub use compare::{Count, Row, TOLERANCE_PERCENT, Verdict, compare};
pub use rooms::{CALIBRATION, PATHS};

/// One way through a room.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Its name in the baseline: the room, a colon, what is done.
    pub name: &'static str,
    /// Prepares, then runs the operations inside [`counted_region`]; gives how
    /// many. The same work each time.
    pub run: fn() -> u64,
}

/// The path of that name.
#[must_use]
pub fn path_named(name: &str) -> Option<&'static Path> {
    PATHS
        .iter()
        .chain(&CALIBRATION)
        .find(|path| path.name == name)
}

/// Runs `work`; what happens in here is counted. Callgrind finds it by its name,
/// see [`callgrind::REGION`], so it is never inlined. May be called several
/// times: the counts add up.
#[inline(never)]
pub fn counted_region(work: &mut dyn FnMut()) {
    work();
    // Something left to do, or the call above would be a jump and this function
    // over before it.
    black_box(work);
}

/// Runs `operation` so many times inside [`counted_region`].
fn repeat(operations: u64, mut operation: impl FnMut()) -> u64 {
    counted_region(&mut || {
        for _ in 0..operations {
            operation();
        }
    });
    operations
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_path_does_what_it_says() {
        // Each asserts what came out of its room; here without a counter.
        for path in PATHS.iter().chain(&CALIBRATION) {
            assert!((path.run)() > 0, "{} did nothing", path.name);
        }
    }

    #[test]
    fn every_path_has_a_name_of_its_own_that_the_baseline_can_hold() {
        let mut names = BTreeSet::new();
        for path in PATHS.iter().chain(&CALIBRATION) {
            assert!(names.insert(path.name), "{} is there twice", path.name);
            assert!(!path.name.contains(';'), "{}", path.name);
            assert_eq!(path_named(path.name).map(|p| p.name), Some(path.name));
        }
        assert!(path_named("no such path").is_none());
    }
}
