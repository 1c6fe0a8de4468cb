//! A client of the admin API that does nothing between the socket and the clock: HTTP/1.1,
//! one request after the other on a connection (RFC 9112).

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PlaneError;
use super::nodes::Node;
use crate::answer::{Answer, find, head, whole};

/// Longest wait for an answer: a node gives up a request before.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// One connection.
pub(super) struct Http {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Answer {
    /// The body, when it was done.
    pub(super) fn good(self) -> Result<Vec<u8>, PlaneError> {
        match self.status {
            200..=299 => Ok(self.body),
            status => Err(PlaneError::Refused {
                status,
                body: String::from_utf8_lossy(&self.body).into_owned(),
            }),
        }
    }

    /// The same as JSON.
    pub(super) fn json(self) -> Result<serde_json::Value, PlaneError> {
        let body = self.good()?;
        serde_json::from_slice(&body).map_err(|_| PlaneError::Unreadable {
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

impl Http {
    pub(super) async fn connect(node: &Node) -> Result<Self, PlaneError> {
        let connected = timeout(ANSWER_MAX, TcpStream::connect(&node.address)).await;
        let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = connected.map_err(PlaneError::io("connecting to a node"))?;
        let nodelay = stream.set_nodelay(true);
        nodelay.map_err(PlaneError::io("a socket"))?;
        let read = Vec::new();
        Ok(Self { stream, read })
    }

    /// Asks, and takes the whole answer.
    pub(super) async fn ask(
        &mut self,
        node: &Node,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<Answer, PlaneError> {
        self.send(node, method, path, body).await?;
        loop {
            if let Some((answer, len)) = whole(&self.read) {
                self.read.drain(..len);
                return Ok(answer);
            }
            self.more().await?;
        }
    }

    async fn send(
        &mut self,
        node: &Node,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(), PlaneError> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            node.address,
            node.token,
            body.len(),
        );
        let sent = self.stream.write_all(request.as_bytes()).await;
        sent.map_err(PlaneError::io("asking a node"))
    }

    async fn more(&mut self) -> Result<(), PlaneError> {
        let got = timeout(ANSWER_MAX, self.stream.read_buf(&mut self.read)).await;
        let got = got.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        match got.map_err(PlaneError::io("hearing a node"))? {
            0 => {
                let ended = std::io::ErrorKind::UnexpectedEof.into();
                Err(PlaneError::io("hearing a node")(ended))
            }
            _ => Ok(()),
        }
    }

    /// Begins to follow an answer that does not end.
    pub(super) async fn follow(mut self, node: &Node, path: &str) -> Result<Events, PlaneError> {
        self.send(node, "GET", path, "").await?;
        loop {
            if let Some((status, _, len)) = head(&self.read) {
                if status != 200 {
                    let body = String::from_utf8_lossy(&self.read[len..]).into_owned();
                    return Err(PlaneError::Refused { status, body });
                }
                self.read.drain(..len);
                return Ok(Events(self));
            }
            self.more().await?;
        }
    }
}

/// Server-sent events as they come.
pub(super) struct Events(Http);

impl Events {
    /// When `text` came.
    pub(super) async fn await_text(&mut self, text: &str) -> Result<Instant, PlaneError> {
        loop {
            let found = find(&self.0.read, text.as_bytes());
            if let Some(at) = found {
                let now = Instant::now();
                self.0.read.drain(..at + text.len());
                return Ok(now);
            }
            self.0.more().await?;
        }
    }
}
