//! Why there is no good answer, in words.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::output::escape;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The name has no address.
    #[error("cannot find {server}: {source}")]
    Resolve { server: String, source: io::Error },
    /// Nobody listens there.
    #[error("cannot connect to {server} over TCP: {source}")]
    Connect { server: String, source: io::Error },
    /// No TLS with whoever listens.
    #[error("no TLS with {server}: {source}")]
    Tls { server: String, source: io::Error },
    /// A token is not sent over a network for everybody to read.
    #[error("{server} is {address}: without TLS only a node on this machine is spoken to")]
    NotLoopback { server: String, address: SocketAddr },
    /// The time is over.
    #[error("no answer from {server} within {}{}", crate::human::span(millis(*after)), unknown(request))]
    TimedOut {
        server: String,
        after: Duration,
        /// Of a write, its number.
        request: Option<String>,
    },
    /// The connection ended before the answer was complete.
    #[error("the connection to {server} was lost: {why}{}", unknown(request))]
    Lost {
        server: String,
        why: String,
        /// Of a write, its number.
        request: Option<String>,
    },
    /// More bytes than any answer has.
    #[error("the answer has more than {limit} bytes")]
    TooLarge { limit: usize },
    /// What came is not what a node answers.
    #[error("{server} answered {status}, and not in JSON: is that a Pinion node?")]
    NotJson { server: String, status: u16 },
    /// An answer without what it is for.
    #[error("{server} answered without {key}: it is of another release")]
    Without { server: String, key: &'static str },
    /// A token that no header can carry.
    #[error("the token holds bytes that no HTTP header can carry")]
    Token,
    /// The node said no.
    #[error("{0}")]
    Refused(Box<Refused>),
}

fn unknown(request: &Option<String>) -> String {
    request.as_ref().map_or_else(String::new, |id| {
        format!("; whether it was done is not known: the same command with --request-id {id} does it once")
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A refusal in the words of the node.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// Its stable word, like `not_found`; empty when the answer had none.
    pub(crate) code: String,
    /// For people; never to be parsed.
    pub(crate) message: String,
    /// The facts.
    pub(crate) details: Value,
    /// Under which number it is in the node's log.
    pub(crate) request: String,
    /// When to come back.
    pub(crate) retry_after: Option<Duration>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let clean = |text: &str| escape(text.as_bytes());
        match (self.message.as_str(), self.code.as_str()) {
            ("", "") => write!(f, "the node answered {}", self.status)?,
            ("", code) => write!(f, "refused: {}", clean(code))?,
            (message, "") => write!(f, "{}", clean(message))?,
            (message, code) => write!(f, "{} ({})", clean(message), clean(code))?,
        }
        if let Value::Object(details) = &self.details {
            for (name, value) in details {
                let value = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                if !self.message.contains(&value) {
                    write!(f, "; {} {}", clean(name), clean(&value))?;
                }
            }
        }
        if self.status == 503 && !self.request.is_empty() {
            write!(f, "; request {}", clean(&self.request))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_cannot_write_to_the_terminal() {
        let refused = Refused {
            status: 409,
            code: "exists\u{1b}[2J".to_owned(),
            message: "it is\nthere".to_owned(),
            details: serde_json::json!({"key": "tenant/\u{7}", "version": 3}),
            request: String::new(),
            retry_after: None,
        };
        assert_eq!(
            refused.to_string(),
            "it is\\nthere (exists\\x1b[2J); key tenant/\\x07; version 3"
        );
    }
}
