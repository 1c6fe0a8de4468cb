//! Where the node's administration is, how to trust it, and who we are.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pinion_client::{ConfigError, DEV_DIR, DEV_SERVER};
use pinion_quic::tls;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::failure::Failure;
use crate::http::{Http, Node, Secret, Tls};
use crate::value;

/// The protocol that is spoken over TLS (RFC 7301).
const ALPN: &[u8] = b"http/1.1";
/// Longest file that is taken for a token; those of identity providers have groups in them.
pub(super) const TOKEN_FILE_BYTES_MAX: u64 = 16 << 10;
/// Longest file of authorities.
const CA_FILE_BYTES_MAX: u64 = 1 << 20;

/// Options of every `admin` command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// The node, HOST:PORT; administration is TCP on the same port [default: 127.0.0.1:8080]
    #[arg(
        long,
        global = true,
        env = "PINION_SERVER",
        value_name = "HOST:PORT",
        help_heading = "Node"
    )]
    pub(super) server: Option<String>,
    /// Certificate authority to trust, PEM [default: pinion-data/dev/ca.pem]
    #[arg(
        long,
        global = true,
        env = "PINION_CA",
        value_name = "FILE",
        help_heading = "Node"
    )]
    pub(super) ca: Option<PathBuf>,
    /// File with the bearer token or API key [default: pinion-data/dev/admin.token]
    #[arg(
        long,
        global = true,
        env = "PINION_TOKEN",
        value_name = "FILE",
        help_heading = "Node"
    )]
    pub(super) token: Option<PathBuf>,
    /// Certificate that says who we are, PEM, in place of a token
    #[arg(
        long,
        global = true,
        env = "PINION_CLIENT_CERT",
        value_name = "FILE",
        requires = "client_key",
        help_heading = "Node"
    )]
    pub(super) client_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(
        long,
        global = true,
        env = "PINION_CLIENT_KEY",
        value_name = "FILE",
        requires = "client_cert",
        help_heading = "Node"
    )]
    pub(super) client_key: Option<PathBuf>,
    /// Name the node's certificate must carry [default: the host of --server]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Node")]
    pub(super) server_name: Option<String>,
    /// No TLS; only for a node on this machine that allows it
    #[arg(long, global = true, help_heading = "Node")]
    pub(super) cleartext: bool,
    /// Longest time for one request, its repeats included
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = value::duration, help_heading = "Node")]
    pub(super) timeout: Duration,
    /// Number of the change, 32 hexadecimal digits: the same number is done once [default: chosen by chance]
    #[arg(long, global = true, value_name = "HEX", value_parser = request_id, help_heading = "Node")]
    pub(super) request_id: Option<u128>,
}

fn request_id(text: &str) -> Result<u128, String> {
    let right = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok();
    number
        .filter(|number| right && *number > 0)
        .ok_or_else(|| "expected 32 hexadecimal digits, not all 0".to_owned())
}

impl NodeArgs {
    /// Reads the files; connects to nobody yet.
    pub(crate) fn http(&self) -> Result<Http, Failure> {
        self.http_from(Path::new(DEV_DIR))
    }

    fn http_from(&self, dev: &Path) -> Result<Http, Failure> {
        let given = self.server.as_deref().filter(|server| !server.is_empty());
        let server = given.unwrap_or(DEV_SERVER).to_owned();
        let host = host_of(&server)?;
        let there = |given: &Option<PathBuf>, name: &str| {
            given
                .clone()
                .filter(|path| !path.as_os_str().is_empty())
                .or_else(|| Some(dev.join(name)).filter(|path| path.exists()))
        };
        // A token would count instead of the certificate: only one that was named does.
        let token = match &self.client_cert {
            Some(_) => self.token.clone(),
            None => there(&self.token, "admin.token"),
        };
        let token = match token {
            None => None,
            Some(path) => Some(secret(&path)?),
        };
        let tls = if self.cleartext {
            None
        } else {
            let Some(path) = there(&self.ca, "ca.pem") else {
                return Err(ConfigError::NoCa.into());
            };
            let pem = read(&path, CA_FILE_BYTES_MAX)?;
            let config = self.tls(&pem)?;
            Some(trust(config, host, self.server_name.clone())?)
        };
        let node = Node { server, tls, token };
        Ok(Http::new(node, self.timeout, self.request_id))
    }

    /// Trusts those in `roots`, and shows the certificate that was named.
    fn tls(&self, roots: &[u8]) -> Result<Arc<rustls::ClientConfig>, Failure> {
        let trusting = tls::client_config_pem(roots).map_err(|error| ConfigError::Ca {
            reason: error.to_string(),
        })?;
        let (Some(chain), Some(key)) = (&self.client_cert, &self.client_key) else {
            return Ok(trusting);
        };
        let (chain, key) = (
            read(chain, CA_FILE_BYTES_MAX)?,
            read(key, CA_FILE_BYTES_MAX)?,
        );
        let showing = tls::client_config_pem_with_certificate(roots, &chain, &key);
        let wrong = |error: tls::TlsError| ConfigError::Certificate {
            reason: error.to_string(),
        };
        Ok(showing.map_err(wrong)?)
    }
}

/// A client of another broker, with the trust and the token of `http`.
pub(super) fn at(http: &Http, server: &str, time: Duration) -> Result<Http, Failure> {
    let host = host_of(server)?;
    Ok(http.at(server.to_owned(), server_name(host)?, time))
}

fn server_name(name: String) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(name.clone()).map_err(|_| ConfigError::ServerName { name }.into())
}

/// The host of `HOST:PORT`, without the brackets of an IPv6 address.
fn host_of(server: &str) -> Result<String, Failure> {
    let wrong = || {
        Failure::Config(ConfigError::Server {
            server: server.to_owned(),
        })
    };
    let (host, port) = server.rsplit_once(':').ok_or_else(wrong)?;
    let _: u16 = port.parse().map_err(|_| wrong())?;
    match host.strip_prefix('[') {
        Some(rest) => {
            let bare = rest.strip_suffix(']').ok_or_else(wrong)?;
            let address: Ipv6Addr = bare.parse().map_err(|_| wrong())?;
            Ok(address.to_string())
        }
        // Without brackets an IPv6 address would lose its last part to the port.
        None if host.is_empty() || host.contains(':') => Err(wrong()),
        None => Ok(host.to_owned()),
    }
}

fn trust(
    mut config: Arc<rustls::ClientConfig>,
    host: String,
    said: Option<String>,
) -> Result<Tls, Failure> {
    let ours = Arc::make_mut(&mut config);
    ours.alpn_protocols = vec![ALPN.to_vec()];
    // Early data can be replayed by whoever sees it (RFC 8446 §8).
    ours.enable_early_data = false;
    let said = said.map(server_name).transpose()?;
    let name = match &said {
        Some(name) => name.clone(),
        None => server_name(host)?,
    };
    Ok(Tls { config, name, said })
}

/// A token, without the white space around it.
pub(super) fn secret(path: &Path) -> Result<Secret, Failure> {
    let bytes = read(path, TOKEN_FILE_BYTES_MAX)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Secret(text.trim().to_owned())),
        Err(_) => Err(Failure::Usage(format!(
            "{} is not a token: it is not text",
            path.display()
        ))),
    }
}

/// A file, or standard input for `-`, of at most `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let failed = |source| {
        Failure::Config(ConfigError::File {
            path: path.to_owned(),
            source: Arc::new(source),
        })
    };
    let input: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    let mut bytes = Vec::new();
    input
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Failure::Usage(format!(
            "{} has more than {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}
