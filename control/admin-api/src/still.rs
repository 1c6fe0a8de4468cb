//! Whether whoever began a long answer still may have it: what was shown at its beginning may
//! end, be taken away, or be worth less meanwhile.

use core::future::pending;
use core::time::Duration;
use std::sync::Arc;

use axum::http::HeaderMap;
use pinion_auth::access::AccessTable;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::Api;
use crate::call::Peer;
use crate::error::Failure;
use crate::routes::{Route, routes};

/// How often it is asked, besides at each change of the table of credentials: one that is
/// over by time ends within that. Shorter checks more signatures for nothing.
const CREDENTIAL_CHECK: Duration = Duration::from_secs(5);

/// Asks again and again on behalf of one answer.
#[derive(Debug)]
pub(crate) struct Still {
    api: Arc<Api>,
    route: Option<&'static Route>,
    headers: HeaderMap,
    peer: Peer,
    table: watch::Receiver<Arc<AccessTable>>,
    again: Instant,
}

impl Still {
    /// Whoever showed `headers` was let in by the route that is also the call `rpc`, and has
    /// an object without parts in its path.
    pub(crate) fn new(api: &Arc<Api>, rpc: &str, headers: HeaderMap, peer: Peer) -> Self {
        Self {
            api: api.clone(),
            route: routes().find(|route| route.rpc == Some(rpc)),
            headers,
            peer,
            table: api.table(),
            again: Instant::now() + CREDENTIAL_CHECK,
        }
    }

    /// Returns when they may no more, and why. Cancel safe.
    pub(crate) async fn over(&mut self) -> Failure {
        loop {
            tokio::select! {
                changed = self.table.changed() => if changed.is_err() {
                    // Nobody makes tables any more: the node ends, and the answer with it.
                    return pending().await;
                },
                () = sleep_until(self.again) => self.again = Instant::now() + CREDENTIAL_CHECK,
            }
            if let Err(failure) = self.check() {
                return failure;
            }
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let who = self.api.admit(&self.headers, &self.peer)?;
        let Some(route) = self.route else {
            return Ok(());
        };
        who.check_need(route.need, |_| "")
    }
}
