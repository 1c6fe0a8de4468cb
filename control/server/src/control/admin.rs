//! The administrators' door beside the data cores'.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use pinion_admin_api::idp::Driver;
use pinion_admin_api::{ApiConfig, PlaneHandle, serve};
use pinion_node::access::AccessTable;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// The door, while the node takes requests.
pub(super) struct Admin {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
    /// Asks identity providers.
    asking: JoinHandle<()>,
}

impl Admin {
    /// Within the control thread's runtime.
    pub(super) fn start(
        (config, driver): (ApiConfig, Driver),
        plane: PlaneHandle,
        access: watch::Receiver<Arc<AccessTable>>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            // Dropped is stopped, too.
            let _ = stopped.await;
        };
        Self {
            stop: Some(stop),
            task: tokio::spawn(serve(config, plane, access, stopped)),
            asking: tokio::spawn(driver.run()),
        }
    }

    /// Takes nothing new, and ends what is under way.
    pub(super) fn stop(&mut self) {
        drop(self.stop.take());
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
        self.asking.abort();
    }
}

/// The port that the data cores have, for TCP.
///
/// # Errors
/// Somebody else has it.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
