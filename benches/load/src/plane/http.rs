//! A client of the admin API that does nothing between the socket and the clock: HTTP/1.1,
//! one request after the other on a connection (RFC 9112).

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PlaneError;
use super::nodes::Node;

/// Longest wait for an answer: a node gives up a request before.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// One connection.
pub(super) struct Http {
    stream: TcpStream,
    read: Vec<u8>,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
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

/// How long the body of an answer is.
#[derive(Clone, Copy)]
enum Length {
    Bytes(usize),
    /// RFC 9112 §7.1.
    Chunked,
}

/// Status, body, and length of a head that is whole.
fn head(read: &[u8]) -> Option<(u16, Length, usize)> {
    let len = find(read, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..len]).ok()?.to_ascii_lowercase();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let length = match field("transfer-encoding:") {
        Some(_) => Length::Chunked,
        None => Length::Bytes(field("content-length:").map_or(Some(0), |len| len.parse().ok())?),
    };
    Some((status, length, len))
}

/// A whole answer at the beginning, and its length.
fn whole(read: &[u8]) -> Option<(Answer, usize)> {
    let (status, length, head) = head(read)?;
    let rest = &read[head..];
    let (body, len) = match length {
        Length::Bytes(len) => (rest.get(..len)?.to_vec(), len),
        Length::Chunked => chunks(rest)?,
    };
    Some((Answer { status, body }, head + len))
}

/// All chunks of a body that is whole, and the bytes that they took.
fn chunks(read: &[u8]) -> Option<(Vec<u8>, usize)> {
    // A body that is long is looked at again and again as it comes: only its end says
    // whether it is worth it.
    if !read.ends_with(b"\r\n0\r\n\r\n") && !read.starts_with(b"0\r\n\r\n") {
        return None;
    }
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = find(&read[at..], b"\r\n")?;
        let size = std::str::from_utf8(&read[at..at + line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        at += line + 2;
        body.extend_from_slice(read.get(at..at + size)?);
        at += size + 2;
        if size == 0 {
            return (at <= read.len()).then_some((body, at));
        }
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1";
        let (found, len) = whole(answer).expect("whole");
        assert_eq!((found.status, &found.body[..]), (200, &b"hello"[..]));
        assert_eq!(&answer[len..], b"HTTP/1.1");
        assert!(whole(&answer[..len - 1]).is_none());
        assert!(whole(b"HTTP/1.1 200 OK\r\n").is_none());
    }

    #[test]
    fn chunks_are_put_together() {
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
        let (found, len) = whole(answer).expect("whole");
        assert_eq!(found.body, b"hello!");
        assert_eq!(len, answer.len());
        assert!(whole(&answer[..answer.len() - 5]).is_none());
    }
}
