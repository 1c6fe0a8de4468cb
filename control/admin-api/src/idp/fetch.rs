//! One document of an identity provider, or what it answers to a form.
//!
//! The connection goes to an address that was checked, never to what a name resolves to a
//! second time; nothing leads elsewhere, nothing is longer than it may be, and nothing takes
//! longer than its deadline.

use core::net::SocketAddr;
use core::pin::pin;
use core::time::Duration;
use std::io;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pinion_auth::address::{self, Range};
use pinion_auth::jwks_cache::{FETCHES_MAX, FetchFailure};
use pinion_auth::login::TokenRequest;
use pinion_auth::provider::{Host, Url};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// Most names that are being resolved. The resolver of the system cannot be interrupted: one
/// that hangs keeps its thread after its fetch was given up, and there are not many of those.
pub const LOOKUPS_MAX: usize = 2 * FETCHES_MAX;

/// Longest wait for one address of several to answer, so that there is time for the next.
pub const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Most header fields of an answer, and most bytes of them.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// What all fetches of a node have in common. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fetcher {
    tls: TlsConnectorOf,
    allowed: Arc<[Range]>,
    lookups: Arc<Semaphore>,
}

#[derive(Clone)]
struct TlsConnectorOf(TlsConnector);

impl core::fmt::Debug for TlsConnectorOf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl Fetcher {
    /// Providers are who `roots` vouch for. Besides public addresses those of `allowed` are
    /// asked (`[auth] allow_addresses`).
    ///
    /// # Panics
    /// Never: the protocol versions of the provider are its own.
    #[must_use]
    pub fn new(roots: RootCertStore, allowed: impl Into<Arc<[Range]>>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has suites for the versions that are on by default");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            tls: TlsConnectorOf(TlsConnector::from(Arc::new(config))),
            allowed: allowed.into(),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }

    /// The body of the document at `url`, of at most `bytes_max` bytes, by `deadline`.
    ///
    /// # Errors
    /// See [`FetchFailure`]; never `Document`, `KeySet` or `OtherIssuer`, which are about
    /// what is in it.
    pub async fn fetch(
        &self,
        url: &Url,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, FetchFailure> {
        self.ask(url, None, bytes_max, deadline).await
    }

    /// What is answered at `url` to a form, as [`Fetcher::fetch`] says of a document.
    ///
    /// # Errors
    /// As [`Fetcher::fetch`].
    pub async fn post(
        &self,
        url: &Url,
        form: TokenRequest,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, FetchFailure> {
        self.ask(url, Some(form), bytes_max, deadline).await
    }

    async fn ask(
        &self,
        url: &Url,
        form: Option<TokenRequest>,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, FetchFailure> {
        let request = request(url, form)?;
        let whole = async {
            let socket = self.connect(url).await?;
            if !url.secure() {
                return answer(socket, request, bytes_max).await;
            }
            let name = match url.host() {
                Host::Name(name) => {
                    ServerName::try_from(name.to_string()).map_err(|_| FetchFailure::Tls)?
                }
                Host::Address(address) => ServerName::IpAddress((*address).into()),
            };
            let secure = self.tls.0.connect(name, socket).await;
            answer(secure.map_err(|_| FetchFailure::Tls)?, request, bytes_max).await
        };
        let late = tokio::time::timeout_at(deadline, whole).await;
        late.unwrap_or(Err(FetchFailure::Timeout))
    }

    /// A connection to one of the host's addresses that may be asked.
    async fn connect(&self, url: &Url) -> Result<TcpStream, FetchFailure> {
        let mut refused = None;
        let mut tried = false;
        for address in self.resolve(url).await?.into_iter().take(ADDRESSES_MAX) {
            if let Err(why) = address::check(address.ip(), &self.allowed) {
                refused = refused.or(Some(FetchFailure::Address(why)));
                continue;
            }
            tried = true;
            let connect = TcpStream::connect(address);
            if let Ok(Ok(socket)) = tokio::time::timeout(CONNECT_WAIT, connect).await {
                return Ok(socket);
            }
        }
        Err(match refused {
            _ if tried => FetchFailure::Connect,
            Some(why) => why,
            None => FetchFailure::Name,
        })
    }

    async fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, FetchFailure> {
        let name = match url.host() {
            Host::Address(address) => return Ok(vec![SocketAddr::new(*address, url.port())]),
            Host::Name(name) => name.clone(),
        };
        let permit = Arc::clone(&self.lookups).try_acquire_owned();
        let permit = permit.map_err(|_| FetchFailure::Busy)?;
        let port = url.port();
        let lookup = tokio::task::spawn_blocking(move || -> io::Result<Vec<SocketAddr>> {
            let found = (&*name, port).to_socket_addrs()?.collect();
            drop(permit);
            Ok(found)
        });
        let found = lookup.await.map_err(|_| FetchFailure::Name)?;
        found.map_err(|_| FetchFailure::Name)
    }
}

/// GET, or POST of a form.
fn request(url: &Url, form: Option<TokenRequest>) -> Result<Request<Full<Bytes>>, FetchFailure> {
    let head = Request::builder()
        .uri(url.target())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "pinion")
        .header(CONNECTION, "close");
    let request = match form {
        None => head.body(Full::default()),
        Some(TokenRequest {
            body,
            authorization,
        }) => {
            let mut head = head
                .method(Method::POST)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            if let Some(text) = authorization {
                let value = HeaderValue::try_from(&*text).map_err(|_| NOT_HTTP)?;
                head = head.header(AUTHORIZATION, value);
            }
            head.body(Full::from(body))
        }
    };
    request.map_err(|_| NOT_HTTP)
}

const NOT_HTTP: FetchFailure = FetchFailure::Http;

/// Asks on a connection of its own.
async fn answer<S>(
    socket: S,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<Vec<u8>, FetchFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|_| NOT_HTTP)?;
    let mut asking = pin!(async {
        let answer = sender.send_request(request).await.map_err(|_| NOT_HTTP)?;
        read(answer, bytes_max).await
    });
    tokio::select! {
        biased;
        done = &mut asking => done,
        // It ends before its answer is read when all of that has arrived.
        _ = connection => asking.await,
    }
}

async fn read(answer: Response<Incoming>, limit: usize) -> Result<Vec<u8>, FetchFailure> {
    match answer.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => return Err(FetchFailure::Redirect),
        status => {
            return Err(FetchFailure::Status {
                status: status.as_u16(),
            });
        }
    }
    let too_large = FetchFailure::TooLarge { limit };
    let announced = answer.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit as u64) {
        return Err(too_large);
    }
    let mut body = answer.into_body();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| FetchFailure::Http)?;
        let Some(bytes) = frame.data_ref() else {
            continue;
        };
        if whole.len() + bytes.len() > limit {
            return Err(too_large);
        }
        whole.extend_from_slice(bytes);
    }
    Ok(whole)
}
