//! What a node of a cluster needs that one alone does not: its certificate, doors for
//! the others, and the way to them.

use std::fs;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pinion_plane::{ClusterConfig, PeerName};
use pinion_quic::tls::DoorError;
use pinion_quic::{Doors, Endpoint};

use crate::config::{Cluster, ConfigError};
use crate::control::network::Network;
use crate::peers::{Credentials, CredentialsError, Lobby, PeerDoor, Peers};

/// Why a node cannot take part in its cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot read {path}: {source}; see [cluster], and `pinion cert`")]
    File { path: PathBuf, source: io::Error },
    #[error("{cert}: {source}")]
    Credentials {
        cert: PathBuf,
        source: CredentialsError,
    },
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error("a socket to the other nodes: {0}")]
    Socket(io::Error),
}

/// A node's place in its cluster.
pub(crate) struct Place {
    credentials: Arc<Credentials>,
    pub(crate) config: ClusterConfig,
    /// Where the others and clients reach it; `None`: where it listens.
    pub(crate) address: Option<Box<str>>,
}

impl Place {
    /// Reads the files and tries what is in them.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub(crate) fn load(cluster: &Cluster) -> Result<Self, ClusterError> {
        let (node, config) = (cluster.node()?, cluster.plane()?);
        let (ca, cert, key) = (
            read(&cluster.ca)?,
            read(&cluster.cert)?,
            read(&cluster.key)?,
        );
        let listed = config.address(&node).map(Box::from);
        let credentials = Credentials::from_pem(&cluster.name, node, &ca, &cert, &key);
        let credentials = credentials.map_err(|source| ClusterError::Credentials {
            cert: cluster.cert.clone(),
            source,
        })?;
        Ok(Self {
            credentials: Arc::new(credentials),
            config,
            address: cluster.advertise.as_deref().map(Box::from).or(listed),
        })
    }

    pub(crate) fn node(&self) -> &PeerName {
        self.credentials.node()
    }

    /// For the endpoints of the cores.
    pub(crate) fn doors(&self) -> Result<Doors, ClusterError> {
        Ok(self.credentials.doors()?)
    }

    /// For the pump of one core.
    pub(crate) fn door(&self) -> PeerDoor {
        let cluster = Arc::clone(self.credentials.cluster());
        PeerDoor::new(cluster, self.node().clone())
    }

    /// The way to the others and, as long as there are no cores, from them: at
    /// `sockets`, by `quic`, an endpoint of the first core. Within a runtime.
    pub(crate) fn network(
        &self,
        from: IpAddr,
        mtu_max: u16,
        seed: [u8; 32],
        (quic, sockets): (Endpoint, Vec<UdpSocket>),
    ) -> Result<Network, ClusterError> {
        let credentials = Arc::clone(&self.credentials);
        let peers = Peers::bind(credentials, from, mtu_max, seed);
        let lobby = Lobby::new(quic, self.door(), sockets);
        Ok(Network::new(
            peers.map_err(ClusterError::Socket)?,
            lobby.map_err(ClusterError::Socket)?,
        ))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClusterError> {
    fs::read(path).map_err(|source| ClusterError::File {
        path: path.to_owned(),
        source,
    })
}
