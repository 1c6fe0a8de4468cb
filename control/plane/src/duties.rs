//! What a leader does of its own accord: the commands that are due, and the keys that
//! others make for it.

use pinion_metadata::{Duty, Metadata};
use pinion_types::Monotonic;

use crate::clock::Clock;
use crate::limits::{DUTIES_AT_ONCE, DUTY_LOOK, DUTY_RETRY};

/// Whose name is on a leader's own commands.
pub(crate) const PRINCIPAL: &str = "pinion";

/// The commands under way, and when there may be more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Duties {
    under_way: usize,
    /// After one was refused.
    not_before: Monotonic,
}

impl Duties {
    /// What to do now. Each command is to be followed by [`Duties::proposed`] or
    /// [`Duties::refused`].
    pub(crate) fn due(&self, now: Monotonic, clock: &Clock, machine: &Metadata) -> Vec<Duty> {
        if self.under_way > 0 || now < self.not_before {
            return Vec::new();
        }
        machine.due(clock.peek(machine.last_stamp()), DUTIES_AT_ONCE)
    }

    /// Whether any is on its way.
    pub(crate) fn under_way(&self) -> bool {
        self.under_way > 0
    }

    pub(crate) fn proposed(&mut self) {
        self.under_way += 1;
    }

    /// One was done, or nobody will say whether it was.
    pub(crate) fn ended(&mut self) {
        self.under_way -= 1;
    }

    /// One was refused: what is due may stay so, and is not asked for in every turn.
    pub(crate) fn refused(&mut self, now: Monotonic) {
        self.not_before = now + DUTY_RETRY;
    }

    /// The owner was asked for something that takes it a while.
    pub(crate) fn asked(&mut self, now: Monotonic) {
        self.not_before = now + DUTY_LOOK;
    }

    /// When something may be due, if nothing else happens.
    pub(crate) fn next_deadline(
        &self,
        now: Monotonic,
        clock: &Clock,
        machine: &Metadata,
    ) -> Option<Monotonic> {
        let due = machine.next_due()?;
        if self.under_way > 0 {
            return None;
        }
        // Stamps are what counts; they stand still while the wall clock is behind.
        let wait = if due <= clock.peek(machine.last_stamp()) {
            core::time::Duration::ZERO
        } else {
            core::time::Duration::from_millis(due.0 - clock.wall().0)
        };
        Some((now + wait.min(DUTY_LOOK)).max(self.not_before))
    }
}
