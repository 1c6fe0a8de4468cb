//! What a node shows to the others of its cluster, and how it knows them: a certificate
//! whose one URI is `spiffe://pinion/{cluster}/node/{node}` (X.509-SVID §2), signed by
//! the cluster's authority.

use std::sync::Arc;

use pinion_auth::spiffe::{SpiffeError, SpiffeId};
use pinion_plane::PeerName;
use pinion_quic::tls::{self, DoorError, TlsError};
use pinion_quic::{ClientConfig, Doors, EndpointError, transport};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

/// Who vouches for nodes, whoever runs them: the cluster is in the path.
const TRUST_DOMAIN: &str = "pinion";

/// The id in the certificate of a node.
pub(crate) fn node_id(cluster: &str, node: &str) -> Result<SpiffeId, SpiffeError> {
    SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}/{cluster}/node/{node}"))
}

/// The node of `cluster` whose certificate this is.
pub(crate) fn node_of(cluster: &str, certificate: &CertificateDer<'_>) -> Option<PeerName> {
    let id = SpiffeId::of_certificate(certificate).ok()?;
    let mut path = id.path().split('/');
    let fits = id.trust_domain() == TRUST_DOMAIN
        && path.next() == Some("")
        && path.next() == Some(cluster)
        && path.next() == Some("node");
    let name = path.next().filter(|_| fits && path.next().is_none())?;
    PeerName::new(name).ok()
}

/// Why a node cannot take part in its cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// One of the files is no PEM, or holds nothing, or key and certificate do not fit.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// As above.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// As above.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The certificate is somebody else's.
    #[error(
        "the certificate is not that of node {node} of cluster {cluster}; it has to say {expected}"
    )]
    OtherNode {
        node: PeerName,
        cluster: Arc<str>,
        expected: String,
    },
    /// Its authority is not the cluster's, or it does not count now.
    #[error("the certificate does not count in this cluster: {0}")]
    Refused(rustls::Error),
    /// The cluster's name has no place in a certificate.
    #[error("the name of the cluster has no place in a certificate: {0}")]
    Cluster(#[from] SpiffeError),
}

/// A node's certificate, key, and the authority of its cluster.
pub(crate) struct Credentials {
    cluster: Arc<str>,
    node: PeerName,
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// From PEM text: the authority, the chain (leaf first) and its key. Everything is
    /// tried here, so that a node with the wrong files says so when it starts.
    pub(crate) fn from_pem(
        cluster: &str,
        node: PeerName,
        authority: &[u8],
        chain: &[u8],
        key: &[u8],
    ) -> Result<Self, CredentialsError> {
        let roots = tls::roots(authority)?;
        let chain = tls::certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::from)?;
        let expected = node_id(cluster, node.as_str())?;
        let cluster: Arc<str> = cluster.into();
        let own = chain.first().and_then(|leaf| node_of(&cluster, leaf));
        if own.as_ref() != Some(&node) {
            return Err(CredentialsError::OtherNode {
                node,
                cluster,
                expected: expected.to_string(),
            });
        }
        tls::check_peer_chain(&roots, &chain, UnixTime::now())
            .map_err(CredentialsError::Refused)?;
        let credentials = Self {
            cluster,
            node,
            roots,
            chain,
            key,
        };
        credentials.doors()?;
        credentials.client(&credentials.node, transport::MTU_ETHERNET)?;
        Ok(credentials)
    }

    pub(crate) fn cluster(&self) -> &Arc<str> {
        &self.cluster
    }

    /// This node.
    pub(crate) fn node(&self) -> &PeerName {
        &self.node
    }

    /// The door of a server endpoint for the other nodes.
    pub(crate) fn doors(&self) -> Result<Doors, DoorError> {
        Doors::default().with_peers(self.roots.clone(), self.chain.clone(), self.key.clone_key())
    }

    /// How to reach one of the others.
    pub(super) fn client(
        &self,
        peer: &PeerName,
        mtu_max: u16,
    ) -> Result<ClientConfig, CredentialsError> {
        let (cluster, peer) = (Arc::clone(&self.cluster), peer.clone());
        let is_expected = Arc::new(move |leaf: &CertificateDer<'_>| {
            node_of(&cluster, leaf).as_ref() == Some(&peer)
        });
        let tls = tls::peer_client_config(
            self.roots.clone(),
            self.chain.clone(),
            self.key.clone_key(),
            is_expected,
        )?;
        let transport = Arc::new(transport::peer(mtu_max));
        Ok(ClientConfig::new(tls)?
            .with_mtu_max(mtu_max)
            .with_transport(transport))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
