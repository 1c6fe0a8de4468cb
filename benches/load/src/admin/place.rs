//! The node that administrators ask: its data core has one processor, its control thread
//! the other, which it shares with whoever asks.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use pinion_cli::bench::measure::BenchError;
use pinion_client::native::NativeConfig;
use serde_json::json;
use tempfile::TempDir;

use super::https::Https;
use crate::server::{Node, Server};
use crate::suite::admin_config;
use crate::turns::{GENERATOR_CPU, SERVER_CPU};

/// The tenant that the node has from the start, and where everything is put.
pub(super) const TENANT: &str = "default";

/// Where administrators come in.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// PEM of who signed the node's certificate.
    pub(super) ca: Vec<u8>,
    /// The operator's token.
    pub(super) token: String,
}

/// A node of one section. Dropping it ends it.
pub(super) struct Place {
    // Dropped in this order: the node ends before its directory goes.
    pub(super) server: Server,
    pub(super) door: Door,
    dir: TempDir,
}

impl Place {
    /// Starts a node below `on`, which is on a disk.
    ///
    /// # Errors
    /// The node does not start.
    pub(super) fn start(node: &Node, on: &Path) -> Result<Self, BenchError> {
        let dir = tempfile::tempdir_in(on).map_err(BenchError::io("a directory for the node"))?;
        let server = node
            .start_on(SERVER_CPU, GENERATOR_CPU, dir.path())
            .map_err(BenchError::io("starting the node"))?;
        let read = |name: &str| {
            let path = dir.path().join("dev").join(name);
            fs::read(path).map_err(BenchError::io("reading the node's files"))
        };
        let token = String::from_utf8_lossy(&read("admin.token")?)
            .trim()
            .to_owned();
        let door = Door {
            address: server.address(),
            ca: read("ca.pem")?,
            token,
        };
        Ok(Self { server, door, dir })
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How a client of the data plane reaches it, who may declare things.
    ///
    /// # Errors
    /// The node has not written its files.
    pub(super) fn config(&self) -> Result<NativeConfig, BenchError> {
        admin_config(&self.server, self.dir.path())
    }

    /// Somebody who may do everything.
    ///
    /// # Errors
    /// The node does not let them in.
    pub(super) fn operator(&self) -> Result<Https, BenchError> {
        Https::showing(&self.door, &self.door.token)
    }

    /// API keys of `count` principals who may look at [`TENANT`].
    ///
    /// # Errors
    /// The node refuses.
    pub(super) fn lookers(&self, count: usize) -> Result<Vec<String>, BenchError> {
        let mut operator = self.operator()?;
        let base = format!("/v1/tenants/{TENANT}");
        let mut keys = Vec::new();
        for number in 0..count {
            let subject = format!("p:looker-{number}");
            let policies = json!({"policies": [{
                "subject": subject,
                "action": "admin:read",
                "object": format!("tenant:{TENANT}"),
            }]});
            operator.post(&format!("{base}/rbac/policies"), &policies)?;
            let key = json!({"name": format!("looker-{number}"), "subject": subject});
            let made = operator.post(&format!("{base}/api-keys"), &key)?;
            let Some(key) = made["key"].as_str() else {
                return Err(BenchError::Options(format!("an API key: {made}")));
            };
            keys.push(key.to_owned());
        }
        Ok(keys)
    }
}
