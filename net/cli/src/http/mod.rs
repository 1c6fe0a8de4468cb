//! HTTPS to a node's administration: one connection, one request at a time.
//!
//! A write carries a number of its own (`X-Request-Id`), and the node does what has one
//! number once. So whatever fails on the way is asked again under the same number, within
//! the time the user gave: until the answer is there, or it is clear that there will be none.

mod ask;
mod error;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderName,
    HeaderValue, IF_MATCH, RETRY_AFTER, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;

pub(crate) use ask::{Ask, Bearer, Secret};
pub(crate) use error::{HttpError, Refused};

/// Longest wait for one connection, TLS included; a node answers in milliseconds.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Largest answer that is kept in memory; a page of 1,000 rows is far below it.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Largest body of an error that is looked at.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// How often one request is tried. More rides out a longer change of leader; the
/// user's `--timeout` ends it in any case.
const TRIES_MAX: u32 = 8;
/// First pause before a request is asked again; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest such pause, unless the node asks for a longer one.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Longest silence of a stream of events. A node says something every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);

const VERSION: HeaderName = HeaderName::from_static("x-pinion-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A good answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What the object's `ETag` says: the version of the change.
    pub(crate) version: Option<u64>,
    /// `Null` when there was no body.
    pub(crate) body: Value,
}

/// Where the node is and how to trust it.
pub(crate) struct Node {
    /// `HOST:PORT`, for people and for the `Host` header.
    pub(crate) server: String,
    /// Without it, cleartext, and only to this machine.
    pub(crate) tls: Option<Tls>,
    pub(crate) token: Option<Secret>,
}

/// Whom to trust.
pub(crate) struct Tls {
    pub(crate) config: Arc<rustls::ClientConfig>,
    /// Name the certificate must carry.
    pub(crate) name: rustls::pki_types::ServerName<'static>,
    /// That name, if the user said it.
    pub(crate) said: Option<rustls::pki_types::ServerName<'static>>,
}

/// A client of one node.
pub(crate) struct Http {
    node: Node,
    /// How long one request may take, repeats included.
    total: Duration,
    /// The number of the next write, if the user chose it.
    chosen: Option<u128>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Http {
    pub(crate) fn new(node: Node, total: Duration, chosen: Option<u128>) -> Self {
        Self {
            node,
            total,
            chosen,
            connection: None,
        }
    }

    /// The same client for another node; a name that was said for this one counts there, too.
    pub(crate) fn at(
        &self,
        server: String,
        name: rustls::pki_types::ServerName<'static>,
        total: Duration,
    ) -> Self {
        let tls = self.node.tls.as_ref().map(|tls| Tls {
            config: Arc::clone(&tls.config),
            name: tls.said.clone().unwrap_or(name),
            said: tls.said.clone(),
        });
        let node = Node {
            server,
            tls,
            token: self.node.token.clone(),
        };
        Self::new(node, total, None)
    }

    /// Where it goes to.
    pub(crate) fn server(&self) -> &str {
        &self.node.server
    }

    /// Asks until there is an answer, a refusal that stays, or no time left.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<Answer, HttpError> {
        let deadline = Instant::now() + self.total;
        let id = self.number(ask);
        let response = self.respond(ask, id.as_deref(), deadline).await?;
        let version = version_of(response.headers());
        let status = response.status();
        let read = timeout_at(deadline, collect(response.into_body(), ANSWER_BYTES_MAX)).await;
        let body = match read {
            Ok(Ok(body)) => body,
            Ok(Err(Broken::Long)) => {
                self.connection = None;
                return Err(HttpError::TooLarge {
                    limit: ANSWER_BYTES_MAX,
                });
            }
            Ok(Err(Broken::Lost(why))) => {
                self.connection = None;
                return Err(self.lost(why, id));
            }
            Err(_) => {
                self.connection = None;
                return Err(self.timed_out(id));
            }
        };
        if body.is_empty() {
            return Ok(Answer {
                version,
                body: Value::Null,
            });
        }
        match serde_json::from_slice(&body) {
            Ok(body) => Ok(Answer { version, body }),
            Err(_) => Err(HttpError::NotJson {
                server: self.node.server.clone(),
                status: status.as_u16(),
            }),
        }
    }

    /// Begins to read an answer of any length; the connection is its own from then on.
    pub(crate) async fn open(&mut self, ask: &Ask) -> Result<Stream, HttpError> {
        let deadline = Instant::now() + self.total;
        let response = self.respond(ask, None, deadline).await?;
        let len = response.headers().get(CONTENT_LENGTH);
        Ok(Stream {
            server: self.node.server.clone(),
            len: len.and_then(|len| len.to_str().ok()?.parse().ok()),
            body: response.into_body(),
            _connection: self.connection.take(),
        })
    }

    /// Of a write, the number under which it is done once.
    fn number(&mut self, ask: &Ask) -> Option<String> {
        ask.is_write().then(|| {
            let id = self.chosen.take().unwrap_or_else(rand::random);
            // 0 is "no number" to a node.
            format!("{:032x}", id.max(1))
        })
    }

    /// The head of a good answer.
    async fn respond(
        &mut self,
        ask: &Ask,
        id: Option<&str>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut pause = PAUSE_MIN;
        let mut sent_before = false;
        for left in (0..TRIES_MAX).rev() {
            let error = match timeout_at(deadline, self.once(ask, id)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.connection = None;
                    return Err(self.timed_out(id.map(str::to_owned)));
                }
            };
            let lost = matches!(error, HttpError::Lost { .. });
            let wait = match &error {
                HttpError::Lost { .. } if ask.repeatable => pause,
                // Whoever was there a moment ago may be about to come back.
                HttpError::Connect { .. } if sent_before => pause,
                HttpError::Refused(refused) if matches!(refused.status, 429 | 503) => {
                    refused.retry_after.unwrap_or(pause).max(pause)
                }
                _ => return Err(error),
            };
            sent_before |= lost;
            if left == 0 || Instant::now() + wait >= deadline {
                return Err(match error {
                    // The write that was lost before may have been done.
                    HttpError::Connect { source, .. } if sent_before => {
                        self.lost(source.to_string(), id.map(str::to_owned))
                    }
                    error => error,
                });
            }
            sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        unreachable!("the last try returns")
    }

    /// One try.
    async fn once(&mut self, ask: &Ask, id: Option<&str>) -> Result<Response<Incoming>, HttpError> {
        let request = self.request(ask, id)?;
        let kept = match self.connection.take() {
            Some(mut kept) => kept.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let lost = |error: &hyper::Error| HttpError::Lost {
            server: self.node.server.clone(),
            why: error.to_string(),
            request: id.map(str::to_owned),
        };
        let response = match connection.send_request(request).await {
            Ok(response) => response,
            Err(error) => return Err(lost(&error)),
        };
        self.connection = Some(connection);
        if response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        match collect(body, ERROR_BYTES_MAX).await {
            Ok(body) => Err(self.refused(head.status, &head.headers, &body)),
            Err(_) => {
                self.connection = None;
                Err(self.refused(head.status, &head.headers, b""))
            }
        }
    }

    fn request(&self, ask: &Ask, id: Option<&str>) -> Result<Request<Full<Bytes>>, HttpError> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(&ask.target)
            .header(HOST, &self.node.server)
            .header(USER_AGENT, "pinion-cli")
            .header(
                ACCEPT,
                "application/json, application/problem+json, text/event-stream",
            );
        let token = match &ask.bearer {
            Bearer::Own => self.node.token.as_ref(),
            Bearer::Other(token) => Some(token),
            Bearer::Nobody => None,
        };
        if let Some(Secret(token)) = token {
            request = request.header(AUTHORIZATION, sensitive(&format!("Bearer {token}"))?);
        }
        for (name, Secret(value)) in &ask.headers {
            request = request.header(name, sensitive(value)?);
        }
        if let Some(id) = id {
            request = request.header(REQUEST_ID, id);
        }
        if let Some(version) = ask.if_match {
            request = request.header(IF_MATCH, format!("\"{version}\""));
        }
        let body = match &ask.body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Full::new(body)).map_err(|_| {
            // The path is encoded and the numbers are digits: only HOST:PORT is as typed.
            HttpError::Resolve {
                server: self.node.server.clone(),
                source: io::Error::new(io::ErrorKind::InvalidInput, "not HOST:PORT"),
            }
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let server = || self.node.server.clone();
        let connecting = async {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&self.node.server)
                .await
                .map_err(|source| HttpError::Resolve {
                    server: server(),
                    source,
                })?
                .collect();
            if self.node.tls.is_none()
                && let Some(address) = addresses.iter().find(|one| !one.ip().is_loopback())
            {
                return Err(HttpError::NotLoopback {
                    server: server(),
                    address: *address,
                });
            }
            let tcp =
                TcpStream::connect(&addresses[..])
                    .await
                    .map_err(|source| HttpError::Connect {
                        server: server(),
                        source,
                    })?;
            // One small request at a time: waiting for more bytes only costs time.
            drop(tcp.set_nodelay(true));
            match &self.node.tls {
                None => self.handshake(TokioIo::new(tcp)).await,
                Some(tls) => {
                    let secured = TlsConnector::from(Arc::clone(&tls.config))
                        .connect(tls.name.clone(), tcp)
                        .await
                        .map_err(|source| HttpError::Tls {
                            server: server(),
                            source,
                        })?;
                    self.handshake(TokioIo::new(secured)).await
                }
            }
        };
        match timeout(CONNECT_WAIT, connecting).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::Connect {
                server: server(),
                source: io::ErrorKind::TimedOut.into(),
            }),
        }
    }

    async fn handshake<T>(&self, io: TokioIo<T>) -> Result<SendRequest<Full<Bytes>>, HttpError>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(io)
            .await
            .map_err(|error| self.lost(error.to_string(), None))?;
        // It ends with its sender; what goes wrong with it is told to the request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> HttpError {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| match &body[name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let retry_after = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        HttpError::Refused(Box::new(Refused {
            status: status.as_u16(),
            code: text("code"),
            message: text("message"),
            details: body["details"].clone(),
            request: text("request_id"),
            retry_after,
        }))
    }

    fn lost(&self, why: String, request: Option<String>) -> HttpError {
        HttpError::Lost {
            server: self.node.server.clone(),
            why,
            request,
        }
    }

    fn timed_out(&self, request: Option<String>) -> HttpError {
        HttpError::TimedOut {
            server: self.node.server.clone(),
            after: self.total,
            request,
        }
    }
}

/// A header that is not to be logged.
fn sensitive(text: &str) -> Result<HeaderValue, HttpError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| HttpError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Of the object, where the answer is one; otherwise of the metadata.
fn version_of(headers: &HeaderMap) -> Option<u64> {
    let found = headers.get(ETAG).or_else(|| headers.get(VERSION))?;
    let text = found.to_str().ok()?;
    text.trim_start_matches("W/").trim_matches('"').parse().ok()
}

/// Why a body could not be read.
enum Broken {
    Lost(String),
    Long,
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Broken::Lost(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            if data.len() > limit - bytes.len() {
                return Err(Broken::Long);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// An answer of any length, as it comes.
pub(crate) struct Stream {
    server: String,
    /// Bytes of all of it, if that is known.
    len: Option<u64>,
    body: Incoming,
    _connection: Option<SendRequest<Full<Bytes>>>,
}

impl Stream {
    /// How long it will be, if the node has said so.
    pub(crate) fn len(&self) -> Option<u64> {
        self.len
    }

    /// The next bytes; `None` at the end. An answer that stays silent for too long is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        let lost = |why: String| HttpError::Lost {
            server: self.server.clone(),
            why,
            request: None,
        };
        loop {
            match timeout(SILENCE_MAX, self.body.frame()).await {
                Err(_) => return Err(lost("nothing came any more".to_owned())),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(lost(error.to_string())),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_strong_and_weak_tags() {
        let of = |text: &'static str| {
            version_of(&HeaderMap::from_iter([(
                ETAG,
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(of("\"42\""), Some(42));
        assert_eq!(of("W/\"42\""), Some(42));
        assert_eq!(of("abc"), None);
        let bare = HeaderMap::from_iter([(VERSION, HeaderValue::from_static("43"))]);
        assert_eq!(version_of(&bare), Some(43));
    }
}
