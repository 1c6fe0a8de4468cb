//! What the pump knows and the core does not, put into the answers that pass by.

use pinion_node::views::{PumpFacts, View};
use pinion_quic::ConnId;

use super::NodePump;

impl NodePump {
    /// Completes an answer before it is posted; once more when its box was full.
    pub(super) fn complete(&self, view: &mut View) {
        match view {
            View::Core(facts) => facts.pump = self.facts(),
            View::Sessions(page) => {
                for session in &mut page.items {
                    session.remote = self.quic.remote(ConnId::from_u64(session.session));
                }
            }
            _ => {}
        }
    }

    fn facts(&self) -> PumpFacts {
        PumpFacts {
            stalls: self.stalls,
            strays_waiting: self.strays.len() as u64,
            strays_dropped: self.strays_dropped,
        }
    }
}
