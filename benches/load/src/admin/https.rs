//! An administrator's client that does nothing between the socket and the clock: HTTP/1.1
//! over TLS 1.3, one request after the other on one connection that stays (RFC 9112).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinion_cli::bench::measure::BenchError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::place::Door;
use crate::answer::{Answer, whole};

/// Longest wait for an answer: a node gives up a request before.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Bytes that are read at once: more than a record of TLS has.
const READ_BYTES: usize = 32 << 10;

/// Longest that a connection is used again after it was last: a node ends one that has been
/// silent for ten seconds.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// One connection, which is made anew where it was silent for too long.
pub(super) struct Https {
    stream: StreamOwned<ClientConnection, TcpStream>,
    door: Door,
    last: Instant,
    host: String,
    /// Fields that every request has, each with its line's end.
    fields: String,
    read: Vec<u8>,
    buffer: Vec<u8>,
}

/// What a request was answered, and how long that took.
pub(super) struct Asked {
    pub(super) answer: Answer,
    /// Bytes of the answer, with its head, before TLS.
    pub(super) bytes: usize,
    pub(super) took: Duration,
}

impl Asked {
    /// How long the node says that it worked on the answer.
    pub(super) fn server(&self) -> Option<Duration> {
        let head = self.answer.head.to_ascii_lowercase();
        let at = head.find("\r\nserver-timing: page;dur=")?;
        let (_, ms) = head[at..].split_once('=')?;
        let ms: f64 = ms.split("\r\n").next()?.parse().ok()?;
        Duration::try_from_secs_f64(ms / 1e3).ok()
    }
}

impl Https {
    /// Connects as nobody.
    ///
    /// # Errors
    /// The node is not there, or is not who its certificate should say.
    pub(super) fn connect(door: &Door) -> Result<Self, BenchError> {
        Ok(Self {
            stream: stream(door)?,
            door: door.clone(),
            last: Instant::now(),
            host: door.address.to_string(),
            fields: String::new(),
            read: Vec::new(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// The same, showing a token or an API key.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(super) fn showing(door: &Door, bearer: &str) -> Result<Self, BenchError> {
        let mut made = Self::connect(door)?;
        made.fields = format!("Authorization: Bearer {bearer}\r\n");
        Ok(made)
    }

    /// Adds a line to every request from here on.
    pub(super) fn say(&mut self, name: &str, value: &str) {
        self.fields.push_str(&format!("{name}: {value}\r\n"));
    }

    /// Asks, and takes the whole answer, whatever it says.
    ///
    /// # Errors
    /// The connection fails, or nothing comes for [`ANSWER_MAX`].
    pub(super) fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Body<'_>,
    ) -> Result<Asked, BenchError> {
        let (kind, body) = match body {
            Body::None => (String::new(), ""),
            Body::Json(text) => (content("application/json", text), text),
            Body::Form(text) => (content("application/x-www-form-urlencoded", text), text),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{}{kind}\r\n{body}",
            self.host, self.fields,
        );
        if self.last.elapsed() > SILENT_MAX {
            self.stream = stream(&self.door)?;
            self.read.clear();
        }
        let began = Instant::now();
        let sent = self.stream.write_all(request.as_bytes());
        sent.and_then(|()| self.stream.flush())
            .map_err(io("asking the node"))?;
        loop {
            if let Some((answer, bytes)) = whole(&self.read) {
                let took = began.elapsed();
                self.last = Instant::now();
                self.read.drain(..bytes);
                return Ok(Asked {
                    answer,
                    bytes,
                    took,
                });
            }
            match self
                .stream
                .read(&mut self.buffer)
                .map_err(io("hearing the node"))?
            {
                0 => return Err(BenchError::Closed { peer: "the node" }),
                len => self.read.extend_from_slice(&self.buffer[..len]),
            }
        }
    }

    /// Asks for something that there must be.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), or it is refused.
    pub(super) fn get(&mut self, path: &str) -> Result<Asked, BenchError> {
        good(path, self.ask("GET", path, Body::None)?)
    }

    /// The same, as JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get), or it is not JSON.
    pub(super) fn json(&mut self, path: &str) -> Result<Value, BenchError> {
        parse(path, &self.get(path)?)
    }

    /// Has something done.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub(super) fn post(&mut self, path: &str, body: &Value) -> Result<Value, BenchError> {
        let asked = self.ask("POST", path, Body::Json(&body.to_string()))?;
        parse(path, &good(path, asked)?)
    }
}

/// A connection whose handshake is done.
fn stream(door: &Door) -> Result<StreamOwned<ClientConnection, TcpStream>, BenchError> {
    let mut stream = TcpStream::connect(door.address).map_err(io("connecting"))?;
    stream.set_nodelay(true).map_err(io("a socket"))?;
    let longest = Some(ANSWER_MAX);
    stream.set_read_timeout(longest).map_err(io("a socket"))?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(trusting(&door.ca)?, name)
        .map_err(|error| io("TLS")(std::io::Error::other(error)))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).map_err(io("a handshake"))?;
    }
    Ok(StreamOwned::new(tls, stream))
}

/// What goes with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    None,
    Json(&'a str),
    Form(&'a str),
}

fn content(kind: &str, text: &str) -> String {
    format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", text.len())
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> BenchError {
    BenchError::io(what)
}

fn good(path: &str, asked: Asked) -> Result<Asked, BenchError> {
    match asked.answer.status {
        200..=299 => Ok(asked),
        status => {
            let text = String::from_utf8_lossy(&asked.answer.body);
            let text: String = text.chars().take(300).collect();
            Err(BenchError::Options(format!(
                "the node answered {status} to {path}: {text}"
            )))
        }
    }
}

fn parse(path: &str, asked: &Asked) -> Result<Value, BenchError> {
    serde_json::from_slice(&asked.answer.body)
        .map_err(|error| BenchError::Options(format!("the node's answer to {path}: {error}")))
}

fn trusting(ca: &[u8]) -> Result<Arc<ClientConfig>, BenchError> {
    let refused = |error: String| BenchError::Options(format!("the node's authority: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refused(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
