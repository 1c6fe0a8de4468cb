//! What the pump knows and the core does not, put into the answers that pass by.

use std::time::Instant;

use pinion_node::views::View;
use pinion_quic::ConnId;
use pinion_reactor::Io;

use super::{Mail, NodePump};

impl NodePump {
    /// Completes an answer before it is posted; once more when its box was full.
    pub(super) fn complete(&self, now: Instant, io: &Io<'_, Mail>, view: &mut View) {
        match view {
            View::Core(facts) => {
                let quic = self.quic.stats();
                facts.pump = self.meters.facts(now, io, &quic, self.strays.len());
            }
            View::Sessions(page) => {
                for session in &mut page.items {
                    session.remote = self.quic.remote(ConnId::from_u64(session.session));
                }
            }
            _ => {}
        }
    }
}
