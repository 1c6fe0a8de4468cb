//! What an endpoint is made from.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn_proto::{BloomTokenLog, TokenLog, TokenMemoryCache, ValidationTokenConfig};

use crate::admission::Limits;
use crate::cid::{Steering, SteeringError};
use crate::crypto::{ClientCrypto, ServerCrypto};
use crate::doors::Doors;
use crate::keys::{self, ClockAnchor, TokenClock};
use crate::transport;

/// Memory of the log that makes a NEW_TOKEN token count once (two bloom filters).
/// With 100,000 returning clients in a token's life each filter has 20 bits a client:
/// fewer than one honest token in ten thousand is mistaken for a replay, and then only
/// loses its shortcut.
pub const TOKEN_LOG_BYTES: usize = 512 * 1024;

const TOKEN_LOG_HITS: u64 = 100_000;

/// Address tokens sent to each new client (RFC 9000 §8.1.3). Each is good for one
/// connection, which brings the next one; more only costs.
pub const TOKENS_SENT: u32 = 1;

/// How long a Retry token is good: the client answers at once, so this only
/// has to cover its retransmissions (RFC 9000 §8.1.3 asks for a short time).
pub const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(15);

/// Server role of an endpoint. Clone one for every core of a node.
#[derive(Clone)]
pub struct ServerConfig {
    /// Certificates and resumption, see [`tls::server_config`](crate::tls::server_config).
    pub tls: Arc<rustls::ServerConfig>,
    /// Who may come in by certificate. `None`: nobody is asked for one, and only
    /// [`tls::ALPN`](crate::tls::ALPN) is spoken.
    pub doors: Option<Arc<Doors>>,
    /// What one core takes on.
    pub limits: Limits,
    /// Largest UDP payload to try, 1200 ..= 65527; see [`transport::MTU_ETHERNET`]
    /// and [`transport::MTU_JUMBO`]. Receive buffers must hold this much.
    pub mtu_max: u16,
    /// Key behind address tokens and stateless resets, equal on every core so that
    /// a returning client's token is good wherever it lands. Persist it and clients
    /// learn at once that a restarted node forgot them (RFC 9000 §10.3).
    pub node_secret: [u8; 32],
    /// Ties the callers' monotonic `now` to the calendar, for token lifetimes.
    pub clock: ClockAnchor,
    /// Remembers used NEW_TOKEN tokens for all cores. Touched only in handshakes.
    pub token_log: Arc<dyn TokenLog>,
    /// Last word on transport parameters; [`transport::server`] unless replaced.
    pub transport: Arc<quinn_proto::TransportConfig>,
}

impl ServerConfig {
    /// Defaults for Ethernet.
    pub fn new(tls: Arc<rustls::ServerConfig>, node_secret: [u8; 32], clock: ClockAnchor) -> Self {
        Self {
            tls,
            doors: None,
            limits: Limits::default(),
            mtu_max: transport::MTU_ETHERNET,
            node_secret,
            clock,
            token_log: Arc::new(BloomTokenLog::new_expected_items(
                TOKEN_LOG_BYTES,
                TOKEN_LOG_HITS,
            )),
            transport: Arc::new(transport::server(transport::MTU_ETHERNET)),
        }
    }

    /// Tries UDP payloads up to `mtu_max`; the congestion window follows.
    #[must_use]
    pub fn with_mtu_max(mut self, mtu_max: u16) -> Self {
        self.mtu_max = mtu_max;
        self.transport = Arc::new(transport::server(mtu_max));
        self
    }

    pub(crate) fn build(
        &self,
        clock: Arc<TokenClock>,
    ) -> Result<quinn_proto::ServerConfig, EndpointError> {
        let inner = QuicServerConfig::try_from(Arc::clone(&self.tls))?;
        let doors = self.doors.as_ref();
        let crypto = ServerCrypto::new(
            inner,
            doors.map(|doors| (Arc::clone(doors), Arc::clone(&self.tls))),
        );
        let mut config =
            quinn_proto::ServerConfig::new(Arc::new(crypto), keys::token_key(&self.node_secret));
        let mut tokens = ValidationTokenConfig::default();
        tokens.log(Arc::clone(&self.token_log)).sent(TOKENS_SENT);
        config
            .transport_config(Arc::clone(&self.transport))
            .validation_token_config(tokens)
            .retry_token_lifetime(RETRY_TOKEN_LIFETIME)
            // Clients change address mid-connection; the connection id, not the
            // address, names the core (R17).
            .migration(true)
            // Attempts are judged the moment they arrive, so none is ever buffered.
            .max_incoming(1)
            .incoming_buffer_size(0)
            .incoming_buffer_size_total(0)
            .time_source(clock);
        Ok(config)
    }
}

/// Client role: how to connect. One per node and process keeps session tickets
/// and address tokens together.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) inner: quinn_proto::ClientConfig,
    pub(crate) mtu_max: u16,
}

impl ClientConfig {
    /// Defaults for Ethernet; `tls` as from [`tls::client_config`](crate::tls::client_config).
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Result<Self, EndpointError> {
        let crypto = ClientCrypto::new(QuicClientConfig::try_from(tls)?);
        let mut inner = quinn_proto::ClientConfig::new(Arc::new(crypto));
        inner
            .transport_config(Arc::new(transport::client(transport::MTU_ETHERNET)))
            .token_store(Arc::new(TokenMemoryCache::default()));
        Ok(Self {
            inner,
            mtu_max: transport::MTU_ETHERNET,
        })
    }

    /// Tries UDP payloads up to `mtu_max`; the endpoint must be made with as much.
    #[must_use]
    pub fn with_mtu_max(mut self, mtu_max: u16) -> Self {
        self.mtu_max = mtu_max;
        self.inner
            .transport_config(Arc::new(transport::client(mtu_max)));
        self
    }

    /// Replaces the transport parameters.
    #[must_use]
    pub fn with_transport(mut self, transport: Arc<quinn_proto::TransportConfig>) -> Self {
        self.inner.transport_config(transport);
        self
    }
}

/// Which core a server endpoint lives on.
#[derive(Debug, Clone, Copy)]
pub struct CorePlace {
    /// The node's steering function.
    pub steering: Steering,
    /// This endpoint's core, below `steering.cores()`.
    pub core: u16,
}

/// Why an endpoint or a configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The steering function and the core do not fit.
    #[error(transparent)]
    Steering(#[from] SteeringError),
    /// The TLS configuration lacks AES-128-GCM, which QUIC's first packets need.
    #[error("TLS configuration cannot protect Initial packets: {0}")]
    Cipher(#[from] NoInitialCipherSuite),
    /// The largest UDP payload is out of range.
    #[error("mtu_max must be 1200..=65527, got {mtu_max}")]
    Mtu {
        /// The refused size.
        mtu_max: u16,
    },
}
