//! Where the node is, how to trust it, and who we are.

use std::path::PathBuf;

use pinion_client::{Client, ClientConfig};

use crate::failure::Failure;

/// Options of every client command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// The node, HOST:PORT [default: 127.0.0.1:8080]
    #[arg(
        long,
        global = true,
        env = "PINION_SERVER",
        value_name = "HOST:PORT",
        help_heading = "Node"
    )]
    pub(crate) server: Option<String>,
    /// Certificate authority to trust, PEM [default: pinion-data/dev/ca.pem]
    #[arg(
        long,
        global = true,
        env = "PINION_CA",
        value_name = "FILE",
        help_heading = "Node"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// File with the bearer token [default: pinion-data/dev/client.token]
    #[arg(
        long,
        global = true,
        env = "PINION_TOKEN",
        value_name = "FILE",
        help_heading = "Node"
    )]
    pub(crate) token: Option<PathBuf>,
    /// Certificate that says who we are, PEM, in place of a token
    #[arg(
        long,
        global = true,
        env = "PINION_CLIENT_CERT",
        value_name = "FILE",
        requires = "client_key",
        help_heading = "Node"
    )]
    pub(crate) client_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(
        long,
        global = true,
        env = "PINION_CLIENT_KEY",
        value_name = "FILE",
        requires = "client_cert",
        help_heading = "Node"
    )]
    pub(crate) client_key: Option<PathBuf>,
    /// Name the node's certificate must carry [default: the host of --server]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Node")]
    pub(crate) server_name: Option<String>,
}

impl ConnectArgs {
    /// Reads the files and connects.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let mut config = ClientConfig::from_parts(
            self.server.as_deref(),
            self.ca.as_deref(),
            self.token.as_deref(),
            self.client_cert.as_deref().zip(self.client_key.as_deref()),
        )?
        .name("pinion-cli");
        if let Some(name) = &self.server_name {
            config = config.server_name(name);
        }
        Ok(Client::connect(config).await?)
    }
}
