//! Logs held still for whoever copies them.

use pinion_commitlog::{PinLimits, PinRefused, Pinned};

use crate::shard::Shard;

impl Shard {
    /// Pins every log of this core as of its last durable record: all or none.
    ///
    /// # Errors
    /// Why the first of them is not; nothing is held that was not before.
    pub fn pin_logs(&mut self, limits: PinLimits) -> Result<Vec<Pinned>, PinRefused> {
        let mut pinned = Vec::with_capacity(self.logs.slots.len());
        for at in 0..self.logs.slots.len() {
            match self.logs.slots[at].log.pin(limits) {
                Ok(one) => pinned.push(one),
                Err(refused) => {
                    for slot in &mut self.logs.slots[..at] {
                        slot.log.unpin();
                    }
                    return Err(refused);
                }
            }
        }
        Ok(pinned)
    }

    /// Nobody copies them any more.
    pub fn unpin_logs(&mut self) {
        for slot in &mut self.logs.slots {
            slot.log.unpin();
        }
    }
}
