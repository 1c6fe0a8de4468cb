//! This core's logs, held still while the node is backed up.

use std::time::Duration;

use pinion_commitlog::{PinLimits, PinRefused, Pinned};

use crate::core::Core;
use crate::mail::ControlMail;

/// Which backup, and how much its pins may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinOrder {
    /// Names the backup; what is told of an older one counts for nothing.
    pub backup: u64,
    /// How long the pins hold at most.
    pub hold: Duration,
    /// Bytes of files per log that wait because of them, at most.
    pub held_bytes_max: u64,
}

/// The logs of one core, or why they are not pinned.
pub type PinnedLogs = Result<Vec<Pinned>, PinRefused>;

impl Core {
    /// Pins the logs as of what is durable now, and says which files that is.
    pub(crate) fn pin(&mut self, order: PinOrder) {
        // One that nobody ended: its backup is over, or this would not be asked.
        if self.pinned_for.is_some_and(|before| before != order.backup) {
            self.shard.unpin_logs();
        }
        let limits = PinLimits {
            until: self.now + order.hold,
            held_bytes_max: order.held_bytes_max,
        };
        let logs = self.shard.pin_logs(limits);
        if logs.is_ok() {
            self.pinned_for = Some(order.backup);
        }
        self.control.push_back(ControlMail::Pinned {
            core: self.config.core,
            backup: order.backup,
            logs,
        });
    }

    /// The backup is over.
    pub(crate) fn unpin(&mut self, backup: u64) {
        if self.pinned_for == Some(backup) {
            self.pinned_for = None;
            self.shard.unpin_logs();
        }
    }
}
