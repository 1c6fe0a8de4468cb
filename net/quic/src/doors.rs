//! Two doors in one port: who must show a certificate, and whose signature counts,
//! depends on the application protocol (RFC 7301) that the handshake settles on.
//!
//! Peers ([`ALPN_PEER`]) show a certificate of the cluster and see one; clients
//! ([`ALPN`]) may show one of theirs where the operator named who signs those. The two
//! sets of roots never meet: which one is asked is settled by the first message, before
//! a certificate is asked for. Without doors nobody is asked for anything.
//!
//! rustls asks a verifier without saying what was agreed on. So every handshake has a
//! configuration of its own, made of shared parts, whose resolver (which sees the first
//! message) tells its verifier and its session store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{SignatureVerificationAlgorithm, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
    StoresServerSessions, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ConfigBuilder, DigitallySignedStruct, DistinguishedName, Error,
    PeerMisbehaved, RootCertStore, SignatureScheme, WantsVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::tls::{self, ALPN, ALPN_PEER, DoorError};

/// Who may come in by certificate. Shared by all cores of a node.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    peers: Option<PeerDoor>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

#[derive(Debug, Clone)]
struct PeerDoor {
    verifier: Arc<dyn ClientCertVerifier>,
    /// What this node shows to peers; clients see that of the configuration.
    shown: Arc<CertifiedKey>,
}

impl Doors {
    /// Lets in peers whose certificate leads to `roots`, and shows them `cert_chain`
    /// (leaf first) with its `key`. Who a peer is, is in its certificate
    /// ([`Endpoint::peer_certificates`](crate::Endpoint::peer_certificates)): that it is
    /// one of the expected is for the caller to see.
    ///
    /// # Errors
    /// There is no root, or chain and key do not fit. Nothing is changed.
    pub fn with_peers(
        mut self,
        roots: RootCertStore,
        cert_chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, DoorError> {
        let shown = CertifiedKey::from_der(cert_chain, key, &tls::provider())?;
        self.peers = Some(PeerDoor {
            verifier: verifier(roots)?,
            shown: Arc::new(shown),
        });
        Ok(self)
    }

    /// Lets clients show a certificate that leads to `roots`. One that shows none comes
    /// in as before; one that shows another is turned away.
    ///
    /// # Errors
    /// There is no root. Nothing is changed.
    pub fn with_clients(mut self, roots: RootCertStore) -> Result<Self, DoorError> {
        self.clients = Some(verifier(roots)?);
        Ok(self)
    }

    /// A configuration for one handshake; what it does not decide is as in `base`.
    pub(crate) fn configure(
        self: &Arc<Self>,
        base: &rustls::ServerConfig,
    ) -> Arc<rustls::ServerConfig> {
        let visit = Arc::new(Visit {
            doors: Arc::clone(self),
            resolver: Arc::clone(&base.cert_resolver),
            sessions: Arc::clone(&base.session_storage),
            protocol: OnceLock::new(),
            has_shown: AtomicBool::new(false),
        });
        let mut config = BUILDER
            .clone()
            .with_client_cert_verifier(Arc::clone(&visit) as _)
            .with_cert_resolver(Arc::clone(&visit) as _);
        config.session_storage = visit;
        config.alpn_protocols = self.protocols().map(<[u8]>::to_vec).collect();
        config.ignore_client_order = base.ignore_client_order;
        config.send_tls13_tickets = base.send_tls13_tickets;
        config.max_early_data_size = base.max_early_data_size;
        Arc::new(config)
    }

    /// In this order the server chooses.
    fn protocols(&self) -> impl Iterator<Item = &'static [u8]> + Clone {
        let peer = self.peers.is_some().then_some(ALPN_PEER);
        std::iter::once(ALPN).chain(peer)
    }
}

/// What every handshake's configuration begins from.
static BUILDER: LazyLock<ConfigBuilder<rustls::ServerConfig, WantsVerifier>> =
    LazyLock::new(|| {
        rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider speaks TLS 1.3")
    });

/// Signatures that count in a certificate that somebody shows us: ECDSA and Ed25519.
/// Whoever asks is not known yet, and an RSA key of 8192 bits is work for nothing.
static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let wanted = [
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ED25519,
    ];
    let ring = ring::default_provider().signature_verification_algorithms;
    let mapping: Vec<_> = ring
        .mapping
        .iter()
        .filter(|(scheme, _)| wanted.contains(scheme))
        .copied()
        .collect();
    let all: Vec<&dyn SignatureVerificationAlgorithm> = mapping
        .iter()
        .flat_map(|(_, algorithms)| algorithms.iter().copied())
        .collect();
    // Once in a process: rustls wants them to live as long as it does.
    WebPkiSupportedAlgorithms {
        all: all.leak(),
        mapping: mapping.leak(),
    }
});

fn verifier(roots: RootCertStore) -> Result<Arc<dyn ClientCertVerifier>, DoorError> {
    let mut provider = rustls::crypto::CryptoProvider::clone(&tls::provider());
    provider.signature_verification_algorithms = *ALGORITHMS;
    let built = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.into()).build();
    Ok(built?)
}

/// What `base` is, for clients who may show a certificate that leads to `roots`.
pub(crate) fn by_tcp(
    base: &rustls::ServerConfig,
    roots: RootCertStore,
) -> Result<rustls::ServerConfig, DoorError> {
    let clients = Visit {
        doors: Arc::new(Doors::default().with_clients(roots)?),
        resolver: Arc::clone(&base.cert_resolver),
        sessions: Arc::new(NoServerSessionStorage {}),
        protocol: OnceLock::new(),
        has_shown: AtomicBool::new(false),
    };
    let mut config = BUILDER
        .clone()
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::clone(&base.cert_resolver));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols.clone_from(&base.alpn_protocols);
    config.ignore_client_order = base.ignore_client_order;
    Ok(config)
}

/// One handshake.
#[derive(Debug)]
struct Visit {
    doors: Arc<Doors>,
    resolver: Arc<dyn ResolvesServerCert>,
    sessions: Arc<dyn StoresServerSessions>,
    /// What will be agreed on; set by the first message.
    protocol: OnceLock<&'static [u8]>,
    /// A certificate was shown, and was good.
    has_shown: AtomicBool,
}

impl Visit {
    /// The peers' door, when this is a peer.
    fn peers(&self) -> Option<&PeerDoor> {
        let peer = self.protocol.get().is_some_and(|one| *one == ALPN_PEER);
        self.doors.peers.as_ref().filter(|_| peer)
    }

    /// Who judges a certificate here, when one may be shown.
    fn verifier(&self) -> Option<&dyn ClientCertVerifier> {
        match (self.peers(), &self.doors.clients) {
            (Some(door), _) => Some(&*door.verifier),
            (None, clients) => clients.as_deref(),
        }
    }

    fn asked(&self) -> Result<&dyn ClientCertVerifier, Error> {
        // rustls refuses a certificate that it did not ask for by itself.
        let unasked = Error::PeerMisbehaved(PeerMisbehaved::UnsolicitedCertExtension);
        self.verifier().ok_or(unasked)
    }
}

impl ResolvesServerCert for Visit {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // As rustls will choose (RFC 7301 §3.2): the first of ours that is offered. When
        // none is, rustls ends the handshake after this.
        let offered: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
        let chosen = self.doors.protocols().find(|one| offered.contains(one));
        if let Some(chosen) = chosen {
            // A second first message (RFC 8446 §4.1.2) offers what the first one did.
            let first = *self.protocol.get_or_init(|| chosen);
            if first != chosen {
                return None;
            }
        }
        match self.peers() {
            Some(door) => Some(Arc::clone(&door.shown)),
            None => self.resolver.resolve(hello),
        }
    }
}

impl ClientCertVerifier for Visit {
    fn offer_client_auth(&self) -> bool {
        self.verifier().is_some()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.peers().is_some()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier()
            .map_or(&[], |verifier| verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .asked()?
            .verify_client_cert(end_entity, intermediates, now)?;
        self.has_shown.store(true, Ordering::Relaxed);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.asked()?
            .verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.asked()?
            .verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier()
            .map_or_else(Vec::new, |verifier| verifier.supported_verify_schemes())
    }
}

/// A session that is resumed brings the certificate of its first handshake, which nobody
/// looks at again: neither whether it has run out since, nor at which door it was shown.
/// So whoever shows one is always looked at anew.
impl StoresServerSessions for Visit {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.can_cache() && self.sessions.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let client = self.peers().is_none();
        client.then(|| self.sessions.get(key)).flatten()
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let client = self.peers().is_none();
        client.then(|| self.sessions.take(key)).flatten()
    }

    fn can_cache(&self) -> bool {
        let shown = self.has_shown.load(Ordering::Relaxed);
        self.peers().is_none() && !shown && self.sessions.can_cache()
    }
}

/// Whether a peer's certificate, whose chain and dates were checked, is that of whom the
/// caller means to reach.
pub type IsExpected = Arc<dyn Fn(&CertificateDer<'_>) -> bool + Send + Sync>;

/// Judges what a peer shows when it is dialled: the chain leads to the cluster's roots,
/// and `is_expected` knows the leaf. Addresses and DNS names say nothing about a node.
pub(crate) struct PeerVerifier {
    pub(crate) roots: RootCertStore,
    pub(crate) is_expected: IsExpected,
}

impl std::fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerVerifier").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_leaf(&self.roots, end_entity, intermediates, now)?;
        if (self.is_expected)(end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // QUIC has TLS 1.3 only (RFC 9001 §4.2).
        Err(PeerMisbehaved::UnsolicitedCertExtension.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &ALGORITHMS)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

fn check_leaf(
    roots: &RootCertStore,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(leaf)?;
    let algorithms = ALGORITHMS.all;
    let check = rustls::client::verify_server_cert_signed_by_trust_anchor;
    check(&parsed, roots, intermediates, now, algorithms)
}

pub(crate) fn check_server(
    roots: &RootCertStore,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let (leaf, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    check_leaf(roots, leaf, rest, now)
}

pub(crate) fn check_client(
    roots: &RootCertStore,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let (leaf, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    let unknown = |_| Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let verifier = verifier(roots.clone()).map_err(unknown)?;
    verifier.verify_client_cert(leaf, rest, now)?;
    Ok(())
}
