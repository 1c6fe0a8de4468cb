//! What the machine says, by way of whoever owns the process: the kernel room is not for
//! this crate.

use core::fmt;
use std::sync::Arc;

/// Facts of the machine under a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Bytes free for the node where its data lies, and bytes in all; `None` where that
    /// cannot be told.
    pub space: Option<(u64, u64)>,
    /// Periods in which the kernel held the process's group back because its CPU quota was
    /// used up; `None` outside of such a group.
    pub throttled: Option<u64>,
}

/// How they are asked for. Called on a thread that may wait, at most once a second.
#[derive(Clone)]
pub struct Host(Arc<dyn Fn() -> HostFacts + Send + Sync>);

impl Host {
    /// Asked with this.
    pub fn new(look: impl Fn() -> HostFacts + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    pub(crate) fn look(&self) -> HostFacts {
        (self.0)()
    }
}

impl Default for Host {
    /// Nothing is known.
    fn default() -> Self {
        Self::new(HostFacts::default)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}
