//! What a leader does of its own accord: the commands that are due, and the keys that
//! others make for it.

use core::time::Duration;

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
        let mut due = machine.due(clock.peek(machine.last_stamp()), DUTIES_AT_ONCE);
        if let Ok(wall) = clock.certain(now) {
            due.extend(machine.spent(wall, DUTIES_AT_ONCE - due.len()));
        }
        due
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
        if self.under_way > 0 {
            return None;
        }
        let look = |wait_ms| now + Duration::from_millis(wait_ms).min(DUTY_LOOK);
        // Stamps are what counts; they stand still while the wall clock is behind.
        let due = machine.next_due().map(|due| {
            let come = due <= clock.peek(machine.last_stamp());
            look(if come { 0 } else { due.0 - clock.wall().0 })
        });
        let spent = machine.next_spent().map(|spent| match clock.certain(now) {
            Ok(wall) => look(spent.0.saturating_sub(wall.0)),
            Err(again) => again.min(now + DUTY_LOOK),
        });
        let first = due.into_iter().chain(spent).min()?;
        Some(first.max(self.not_before))
    }
}
