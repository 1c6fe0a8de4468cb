//! TLS configurations: version 1.3 only, the ring provider, one application
//! protocol, AES-128-GCM first.
//!
//! AES-128-GCM leads because with AES instructions it is the cheapest suite ring
//! has, because QUIC's Initial packets need it anyway (RFC 9001 §5.2), and because
//! a measured comparison with AES-256 showed no difference that would buy back a
//! longer key schedule. The server insists on its own order.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::ServerSessionMemoryCache;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::doors::{self, IsExpected, PeerVerifier};

/// The one application protocol of a data-plane connection (RFC 7301).
pub const ALPN: &[u8] = b"pinion/1";

/// The application protocol between the nodes of a cluster. Only a node with a door for
/// peers ([`Doors::with_peers`](crate::Doors::with_peers)) speaks it.
pub const ALPN_PEER: &[u8] = b"pinion-peer/1";

/// Sessions a server remembers for resumption. Each is a few hundred bytes and
/// is forgotten when used; a client whose session was pushed out does a full handshake.
pub const SESSIONS_MAX: usize = 16 * 1024;

/// Session tickets sent after each full handshake. One would leave a client that
/// opens a connection per core with one cheap handshake; each costs a packet's tail.
pub const TICKETS_SENT: usize = 2;

/// Why a TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text holds no certificate.
    #[error("no certificate found in the PEM text")]
    NoCertificate,
    /// The PEM text could not be read.
    #[error("PEM text is malformed: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// rustls refused the key, the certificate, or their combination.
    #[error("TLS configuration refused: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Why a door could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// There is nobody whose signature would count.
    #[error("roots refused: {0}")]
    Roots(#[from] rustls::server::VerifierBuilderError),
    /// rustls refused the key, the certificate, or their combination.
    #[error("certificate refused: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Server configuration from a certificate chain, leaf first, and its key, all DER.
///
/// Share one between all cores of a node: then a session begun on one core resumes
/// on another, and its ticket still counts once. Early data is accepted only with
/// such single-use sessions (RFC 8446 §8.1), and the endpoint marks every stream it
/// opens, see [`Event::StreamOpened`](crate::Event::StreamOpened).
pub fn server_config(
    cert_chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(cert_chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.ignore_client_order = true;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    config.send_tls13_tickets = TICKETS_SENT;
    // QUIC knows only 0 and all ones here (RFC 9001 §4.6.1).
    config.max_early_data_size = u32::MAX;
    Ok(Arc::new(config))
}

/// The same node for connections by TCP whose clients may show a certificate that leads to
/// `roots`; one that shows another is turned away. No session is resumed: it would bring the
/// certificate of its first handshake, which nobody looks at again.
///
/// # Errors
/// There is no root.
pub fn with_client_roots(
    config: &rustls::ServerConfig,
    roots: RootCertStore,
) -> Result<rustls::ServerConfig, DoorError> {
    doors::by_tcp(config, roots)
}

/// Client configuration that trusts `roots`. Keeps session tickets in memory, so
/// use one configuration for all connections to a node.
pub fn client_config(roots: RootCertStore) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = true;
    Ok(Arc::new(config))
}

/// [`client_config`] that shows a certificate, leaf first, when the server asks for one.
pub fn client_config_with_certificate(
    roots: RootCertStore,
    cert_chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(cert_chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = true;
    Ok(Arc::new(config))
}

/// Configuration to reach another node of the cluster: shows `cert_chain`, and goes on
/// only with who shows a certificate that leads to `roots` and that `is_expected` knows.
/// The server name of the connection is not looked at. Every handshake is a full one.
pub fn peer_client_config(
    roots: RootCertStore,
    cert_chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    is_expected: IsExpected,
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let verifier = PeerVerifier { roots, is_expected };
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(cert_chain, key)?;
    config.alpn_protocols = vec![ALPN_PEER.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Whether a node's certificate (leaf first) counts at `now` for whoever knows `roots`:
/// what a dialler will find, without dialling.
pub fn check_peer_chain(
    roots: &RootCertStore,
    cert_chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), rustls::Error> {
    doors::check_server(roots, cert_chain, now)
}

/// Whether a client's certificate (leaf first) counts at `now` for a node that knows
/// `roots`.
pub fn check_client_chain(
    roots: &RootCertStore,
    cert_chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), rustls::Error> {
    doors::check_client(roots, cert_chain, now)
}

/// [`server_config`] from PEM text.
pub fn server_config_pem(
    cert_chain: &[u8],
    key: &[u8],
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    server_config(
        certificates(cert_chain)?,
        PrivateKeyDer::from_pem_slice(key)?,
    )
}

/// [`client_config`] that trusts every certificate in the PEM text.
pub fn client_config_pem(roots: &[u8]) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    client_config(self::roots(roots)?)
}

/// [`client_config_with_certificate`] from PEM text.
pub fn client_config_pem_with_certificate(
    roots: &[u8],
    cert_chain: &[u8],
    key: &[u8],
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let key = PrivateKeyDer::from_pem_slice(key)?;
    client_config_with_certificate(self::roots(roots)?, certificates(cert_chain)?, key)
}

/// Everybody in the PEM text as somebody whose signature counts; at least one.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate)?;
    }
    Ok(store)
}

/// Every certificate in PEM text, in order; at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        Err(TlsError::NoCertificate)
    } else {
        Ok(found)
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}
