//! Cores that panic: the others learn of it as the mesh tells them, when they have taken
//! everything that such a core sent.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pinion_types::CoreId;

use super::World;

#[derive(Debug, Default)]
pub(super) struct Panics {
    gone: BTreeSet<usize>,
    /// Who was told of which.
    told: BTreeSet<(usize, usize)>,
}

fn id(core: usize) -> CoreId {
    CoreId(u16::try_from(core).unwrap())
}

impl World {
    /// A core believes something of itself that is not so, and panics. It takes no more
    /// turns, and its clients' connections are over.
    pub(crate) fn panic(&mut self, core: usize) {
        let state = &mut self.cores[core];
        let panics = AssertUnwindSafe(|| state.handle_core_lost(id(core)));
        assert!(
            catch_unwind(panics).is_err(),
            "it is another core than itself"
        );
        self.panics.gone.insert(core);
        for client in self.clients.iter_mut().filter(|one| one.core == core) {
            client.gone = true;
        }
    }

    pub(super) fn is_gone(&self, core: usize) -> bool {
        self.panics.gone.contains(&core)
    }

    /// As the mesh does after it handed over mails. True when there was news.
    pub(super) fn tell_of_panics(&mut self, core: usize) -> bool {
        let mut news = false;
        for gone in &self.panics.gone {
            let over = self.boxes[core][*gone].is_empty();
            if over && *gone != core && self.panics.told.insert((core, *gone)) {
                news = true;
                self.cores[core].handle_core_lost(id(*gone));
            }
        }
        news
    }
}
