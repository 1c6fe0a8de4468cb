//! How to reach a node, and every number that bounds the client.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pinion_types::limits::{IN_FLIGHT_MAX, TOKEN_BYTES_MAX};

use crate::token::{Shown, TokenSource};

/// Where a node started with `--dev` listens.
pub const DEV_SERVER: &str = "127.0.0.1:8080";
/// Where a node started with `--dev` leaves its certificate and tokens,
/// relative to the directory it was started in.
pub const DEV_DIR: &str = "pinion-data/dev";

/// Why a configuration cannot be used. Tokens never appear in it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address is not `HOST:PORT`.
    #[error("{server:?} is not HOST:PORT")]
    Server {
        /// What was given.
        server: String,
    },
    /// No certificate authority was given.
    #[error(
        "no CA certificate: pass --ca FILE or set PINION_CA (a node started with --dev writes {DEV_DIR}/ca.pem)"
    )]
    NoCa,
    /// The PEM text holds no usable certificate.
    #[error("the CA certificate cannot be used: {reason}")]
    Ca {
        /// What is wrong with it.
        reason: String,
    },
    /// The client's own certificate or its key cannot be used, or one is there without the
    /// other.
    #[error("the client's certificate cannot be used: {reason}")]
    Certificate {
        /// What is wrong with them.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The token is over its limit.
    #[error("the token has {len} bytes, the most is {TOKEN_BYTES_MAX}")]
    TokenTooLong {
        /// Its length.
        len: usize,
    },
    /// The server name for TLS is neither a host name nor an address.
    #[error("{name:?} is not a server name")]
    ServerName {
        /// What was given.
        name: String,
    },
}

/// Exponential backoff with full jitter between attempts to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// Upper bound of the first wait. Lower reconnects sooner after a blip and
    /// hits a restarting node harder.
    pub first: Duration,
    /// Upper bound of every wait. Lower notices a returning node sooner.
    pub max: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(20),
            max: Duration::from_secs(5),
        }
    }
}

/// How much retrying may add to the load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudgetConfig {
    /// Retries allowed per first attempt, 0.1 = at most 10 % more requests.
    /// Higher rides out more refusals and deepens an overload.
    pub ratio: f64,
    /// Retries an idle client may spend at once.
    pub burst: u32,
    /// Retries per second that are always allowed, so that a client with little
    /// traffic can still retry.
    pub per_second: f64,
}

impl Default for RetryBudgetConfig {
    fn default() -> Self {
        Self {
            ratio: 0.1,
            burst: 32,
            per_second: 2.0,
        }
    }
}

/// When to stop trying a node that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failed attempts in a row that open the breaker.
    pub failures: u32,
    /// How long it stays open before one attempt is let through.
    pub cooldown: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            cooldown: Duration::from_secs(1),
        }
    }
}

/// Everything a [`Client`](crate::Client) needs to know.
///
/// ```
/// use std::time::Duration;
/// use pinion_client::ClientConfig;
///
/// let config = ClientConfig::new("127.0.0.1:8080")
///     .token("s3cret")
///     .name("invoices")
///     .request_timeout(Duration::from_secs(2));
/// assert_eq!(config.server(), "127.0.0.1:8080");
/// // Tokens never reach a log line.
/// assert!(!format!("{config:?}").contains("s3cret"));
/// ```
#[derive(Clone)]
pub struct ClientConfig {
    server: String,
    server_name: Option<String>,
    ca_pem: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Secret)>,
    token: Option<Secret>,
    token_source: Option<Arc<dyn TokenSource>>,
    name: String,
    /// See [`ClientConfig::request_timeout`].
    pub(crate) request_timeout: Duration,
    /// See [`ClientConfig::connect_timeout`].
    pub(crate) connect_timeout: Duration,
    /// See [`ClientConfig::max_in_flight`].
    pub(crate) max_in_flight: u32,
    /// See [`ClientConfig::backoff`].
    pub(crate) backoff: BackoffConfig,
    /// See [`ClientConfig::retry_budget`].
    pub(crate) retry_budget: RetryBudgetConfig,
    /// See [`ClientConfig::breaker`].
    pub(crate) breaker: BreakerConfig,
}

/// Files that the command line names: authority, token, certificate and its key.
type Files<'a> = (
    Option<&'a Path>,
    Option<&'a Path>,
    Option<(&'a Path, &'a Path)>,
);

/// Bytes that are never printed.
#[derive(Clone, Default)]
pub(crate) struct Secret(pub(crate) Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("server", &self.server)
            .field("server_name", &self.server_name)
            .field("ca_pem_bytes", &self.ca_pem.as_ref().map(Vec::len))
            .field(
                "certificate_bytes",
                &self.certificate.as_ref().map(|(pem, _)| pem.len()),
            )
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("token_source", &self.token_source.is_some())
            .field("name", &self.name)
            .field("request_timeout", &self.request_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_in_flight", &self.max_in_flight)
            .field("backoff", &self.backoff)
            .field("retry_budget", &self.retry_budget)
            .field("breaker", &self.breaker)
            .finish()
    }
}

impl ClientConfig {
    /// A configuration for the node at `server`, `HOST:PORT`.
    #[must_use]
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            server_name: None,
            ca_pem: None,
            certificate: None,
            token: None,
            token_source: None,
            name: "pinion-client".to_owned(),
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            max_in_flight: 1024,
            backoff: BackoffConfig::default(),
            retry_budget: RetryBudgetConfig::default(),
            breaker: BreakerConfig::default(),
        }
    }

    /// What client commands use when they are given no flags: `PINION_SERVER`,
    /// `PINION_CA`, `PINION_TOKEN`, `PINION_CLIENT_CERT` and `PINION_CLIENT_KEY` (all but
    /// the first name files), and what is missing from what a node started with `--dev` in
    /// this directory left in [`DEV_DIR`]; whoever has a certificate is left no token. Without that directory and without `PINION_CA`, the CA
    /// stays unset and [`Client::connect`](crate::Client::connect) says how to get one.
    ///
    /// # Errors
    /// [`ConfigError::File`] when a file that is named or there cannot be read.
    pub fn from_env_or_dev() -> Result<Self, ConfigError> {
        Self::from_parts(None, None, None, None)
    }

    /// [`from_env_or_dev`](Self::from_env_or_dev) with what the command line
    /// gave (`--server`, `--ca FILE`, `--token FILE`, and the pair of `--client-cert FILE`
    /// and `--client-key FILE`) before everything else.
    ///
    /// # Errors
    /// [`ConfigError::File`] when a file that is named or there cannot be read.
    pub fn from_parts(
        server: Option<&str>,
        ca: Option<&Path>,
        token: Option<&Path>,
        certificate: Option<(&Path, &Path)>,
    ) -> Result<Self, ConfigError> {
        let files = (ca, token, certificate);
        Self::resolve(server, files, Path::new(DEV_DIR), |name| {
            std::env::var(name).ok().filter(|value| !value.is_empty())
        })
    }

    fn resolve(
        server: Option<&str>,
        (ca, token, certificate): Files<'_>,
        dev: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let server = server
            .map(str::to_owned)
            .or_else(|| env("PINION_SERVER"))
            .unwrap_or_else(|| DEV_SERVER.to_owned());
        let file = |flag: Option<&Path>, variable: &str, dev_name: &str| {
            flag.map(Path::to_owned)
                .or_else(|| env(variable).map(PathBuf::from))
                .or_else(|| Some(dev.join(dev_name)).filter(|path| path.exists()))
        };
        let mut config = Self::new(server);
        if let Some(path) = file(ca, "PINION_CA", "ca.pem") {
            config = config.ca_pem(read(&path)?);
        }
        let named = |variable: &str| env(variable).map(PathBuf::from);
        let pair = match certificate {
            Some((chain, key)) => (Some(chain.to_owned()), Some(key.to_owned())),
            None => (named("PINION_CLIENT_CERT"), named("PINION_CLIENT_KEY")),
        };
        match pair {
            (None, None) => {}
            (Some(chain), Some(key)) => config = config.certificate_pem(read(&chain)?, read(&key)?),
            _ => {
                let reason = "PINION_CLIENT_CERT and PINION_CLIENT_KEY go together".to_owned();
                return Err(ConfigError::Certificate { reason });
            }
        }
        // A token would count instead of the certificate: only one that was named does.
        let token = match &config.certificate {
            Some(_) => token.map(Path::to_owned).or_else(|| named("PINION_TOKEN")),
            None => file(token, "PINION_TOKEN", "client.token"),
        };
        if let Some(path) = token {
            let token = read(&path)?;
            config = config.token(token.trim_ascii());
        }
        Ok(config)
    }

    /// Certificates of the authorities to trust, PEM.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ca_pem = Some(pem.as_ref().to_vec());
        self
    }

    /// The certificate that says who this client is, leaf first, and its key, PEM: what a
    /// node that knows its authority takes in place of a token. With a token as well, the
    /// token counts. The key is kept out of every `Debug` and log line.
    #[must_use]
    pub fn certificate_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let key = Secret(key.as_ref().to_vec());
        self.certificate = Some((chain.as_ref().to_vec(), key));
        self
    }

    /// The bearer token; the node derives tenant and grants from it. Kept out
    /// of every `Debug` and log line.
    #[must_use]
    pub fn token(mut self, token: impl AsRef<[u8]>) -> Self {
        self.token = Some(Secret(token.as_ref().to_vec()));
        self
    }

    /// Where tokens come from, in place of [`token`](Self::token): for those that end. The
    /// next one is asked for when two thirds of a token's life are over; connections that were
    /// made with the one before are replaced, one after the other, and what is under way on
    /// them is answered first.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pinion_client::{ClientConfig, FreshToken, TokenError};
    ///
    /// let config = ClientConfig::new("127.0.0.1:8080").token_source(|| async {
    ///     let text = std::fs::read_to_string("/run/secrets/pinion.token")?;
    ///     Ok::<_, TokenError>(FreshToken::new(text.trim()).for_time(Duration::from_secs(900)))
    /// });
    /// # let _ = config;
    /// ```
    #[must_use]
    pub fn token_source(mut self, source: impl TokenSource) -> Self {
        self.token_source = Some(Arc::new(source));
        self
    }

    /// What the node's logs call this client; cut to 255 bytes.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        let mut end = self.name.len().min(255);
        while !self.name.is_char_boundary(end) {
            end -= 1;
        }
        self.name.truncate(end);
        self
    }

    /// The name the node's certificate must carry. Default: the host of the
    /// server address.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// How long a request may take in all, retries included. Default 10 s.
    #[must_use]
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long one attempt to connect may take. Default 5 s.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Requests of one connection that may await a reply at once; more wait
    /// their turn. Between 1 and [`IN_FLIGHT_MAX`], default 1024. It bounds the
    /// memory of replies: higher lets more of them be on the way.
    #[must_use]
    pub fn max_in_flight(mut self, requests: u32) -> Self {
        self.max_in_flight = requests.clamp(1, IN_FLIGHT_MAX);
        self
    }

    /// Waits between attempts to connect.
    #[must_use]
    pub const fn backoff(mut self, backoff: BackoffConfig) -> Self {
        self.backoff = backoff;
        self
    }

    /// How much retrying may add to the load.
    #[must_use]
    pub const fn retry_budget(mut self, budget: RetryBudgetConfig) -> Self {
        self.retry_budget = budget;
        self
    }

    /// When to stop trying a node that does not answer.
    #[must_use]
    pub const fn breaker(mut self, breaker: BreakerConfig) -> Self {
        self.breaker = breaker;
        self
    }

    /// The node's address as given.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether a CA certificate was given or found.
    #[must_use]
    pub const fn has_ca(&self) -> bool {
        self.ca_pem.is_some()
    }

    /// Whether a token was given or found.
    #[must_use]
    pub const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub(crate) fn client_name(&self) -> &str {
        &self.name
    }

    pub(crate) fn source(&self) -> Option<&Arc<dyn TokenSource>> {
        self.token_source.as_ref()
    }

    /// The token that was given, as it is shown.
    pub(crate) fn shown(&self) -> Shown {
        Shown {
            token: self.token.clone().unwrap_or_default(),
            ..Shown::default()
        }
    }

    pub(crate) fn token_bytes(&self) -> Result<&[u8], ConfigError> {
        let token = self.token.as_ref().map_or(&[][..], |secret| &secret.0);
        if token.len() > usize::from(TOKEN_BYTES_MAX) {
            return Err(ConfigError::TokenTooLong { len: token.len() });
        }
        Ok(token)
    }

    /// The certificate and its key, PEM.
    pub(crate) fn certificate(&self) -> Option<(&[u8], &[u8])> {
        let pair = self.certificate.as_ref();
        pair.map(|(chain, key)| (&chain[..], &key.0[..]))
    }

    pub(crate) fn ca_bytes(&self) -> Result<&[u8], ConfigError> {
        self.ca_pem.as_deref().ok_or(ConfigError::NoCa)
    }

    /// The name to ask TLS for.
    pub(crate) fn tls_name(&self) -> Result<String, ConfigError> {
        if let Some(name) = &self.server_name {
            return Ok(name.clone());
        }
        let bad = || ConfigError::Server {
            server: self.server.clone(),
        };
        let (host, port) = self.server.rsplit_once(':').ok_or_else(bad)?;
        port.parse::<u16>().map_err(|_| bad())?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Ok("localhost".to_owned());
        }
        Ok(host.to_owned())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source: Arc::new(source),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NO_FILES: Files<'static> = (None, None, None);

    #[test]
    fn flags_come_before_the_environment_and_that_before_the_dev_directory() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("ca.pem", "dev-ca"),
            ("client.token", " dev-token\n"),
            ("t", "flag"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let none = |_: &str| None;
        let dev = ClientConfig::resolve(None, NO_FILES, dir.path(), none).unwrap();
        assert_eq!(dev.server(), DEV_SERVER);
        assert_eq!(dev.ca_bytes().unwrap(), b"dev-ca");
        assert_eq!(dev.token_bytes().unwrap(), b"dev-token");

        let env = |name: &str| (name == "PINION_SERVER").then(|| "h:1".to_owned());
        let token = dir.path().join("t");
        let both =
            ClientConfig::resolve(None, (None, Some(&token), None), dir.path(), env).unwrap();
        assert_eq!(
            (both.server(), both.token_bytes().unwrap()),
            ("h:1", &b"flag"[..])
        );
        let flag = ClientConfig::resolve(Some("f:2"), NO_FILES, dir.path(), env).unwrap();
        assert_eq!(flag.server(), "f:2");
    }

    #[test]
    fn whoever_has_a_certificate_is_left_no_token_that_was_not_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for name in ["client.token", "c.pem", "c.key", "t"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let both = |name: &str| match name {
            "PINION_CLIENT_CERT" => Some(path("c.pem")),
            "PINION_CLIENT_KEY" => Some(path("c.key")),
            _ => None,
        };
        let config = ClientConfig::resolve(None, NO_FILES, dir.path(), both).unwrap();
        assert_eq!(config.certificate(), Some((&b"c.pem"[..], &b"c.key"[..])));
        assert!(!config.has_token(), "that of --dev is not taken");
        assert!(!format!("{config:?}").contains("c.key"));
        let token = dir.path().join("t");
        let named =
            ClientConfig::resolve(None, (None, Some(&token), None), dir.path(), both).unwrap();
        assert_eq!(named.token_bytes().unwrap(), b"t");
        let half = |name: &str| both(name).filter(|_| name != "PINION_CLIENT_KEY");
        let refused = ClientConfig::resolve(None, NO_FILES, dir.path(), half);
        assert!(matches!(refused, Err(ConfigError::Certificate { .. })));
    }

    #[test]
    fn without_any_ca_the_error_says_where_to_get_one() {
        let dir = tempfile::tempdir().unwrap();
        let config = ClientConfig::resolve(None, NO_FILES, dir.path(), |_| None).unwrap();
        let error = config.ca_bytes().unwrap_err().to_string();
        assert!(
            error.contains("PINION_CA") && error.contains("--dev"),
            "{error}"
        );
    }

    #[test]
    fn a_named_file_that_is_missing_is_an_error() {
        let missing = Path::new("/nonexistent/ca.pem");
        let result =
            ClientConfig::resolve(None, (Some(missing), None, None), Path::new("/x"), |_| None);
        assert!(matches!(result, Err(ConfigError::File { .. })));
    }

    #[test]
    fn the_tls_name_is_the_host_unless_given() {
        for (server, name) in [
            ("a.example:1", "a.example"),
            ("[::1]:80", "::1"),
            (":9", "localhost"),
        ] {
            assert_eq!(ClientConfig::new(server).tls_name().unwrap(), name);
        }
        assert_eq!(
            ClientConfig::new("x:1")
                .server_name("y")
                .tls_name()
                .unwrap(),
            "y"
        );
        assert!(ClientConfig::new("no-port").tls_name().is_err());
        assert!(ClientConfig::new("port:70000").tls_name().is_err());
    }

    #[test]
    fn a_long_client_name_is_cut_between_characters() {
        let config = ClientConfig::new("x:1").name("é".repeat(200));
        assert_eq!(config.client_name().len(), 254);
    }

    #[test]
    fn a_token_over_the_limit_is_refused_without_being_shown() {
        let error = ClientConfig::new("x:1")
            .token(vec![b'z'; 5000])
            .token_bytes()
            .unwrap_err();
        assert!(matches!(error, ConfigError::TokenTooLong { len: 5000 }));
    }
}
