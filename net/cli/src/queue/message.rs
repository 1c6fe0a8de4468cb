//! A reserved message on standard output, and tokens as people pass them on.

use std::fmt;

use pinion_client::{Message, PartitionId, Token};
use serde::Serialize;

use super::Context;
use crate::human;
use crate::output::{JsonBytes, Style, escape};

/// A token with the partition it is of: `3:` and 32 hexadecimal digits. The
/// partition may be left out where it is said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenArg {
    pub(super) partition: Option<PartitionId>,
    pub(super) token: Token,
}

impl TokenArg {
    pub(super) const fn of(message: &Message) -> Self {
        Self {
            partition: Some(message.partition),
            token: message.token(),
        }
    }
}

impl fmt::Display for TokenArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(partition) = self.partition {
            write!(f, "{partition}:")?;
        }
        write!(f, "{}", self.token)
    }
}

/// Reads what [`TokenArg`] prints.
pub(super) fn token(text: &str) -> Result<TokenArg, String> {
    let wrong = || "expected a token as `take --hold` prints it, PARTITION:32 digits".to_owned();
    let (partition, digits) = match text.split_once(':') {
        Some((partition, digits)) => {
            let partition = partition.parse().map_err(|_| wrong())?;
            (Some(PartitionId(partition)), digits)
        }
        None => (None, text),
    };
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let token = u128::from_str_radix(digits, 16).map_err(|_| wrong())?;
    Ok(TokenArg {
        partition,
        // Printed in the order of its bytes.
        token: Token(token.to_be_bytes()),
    })
}

#[derive(Serialize)]
struct JsonMessage<'a> {
    partition: u16,
    id: u64,
    token: String,
    attempt: u16,
    enqueued_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'a str>,
    key: Option<JsonBytes<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(JsonBytes<'a>, JsonBytes<'a>)>,
    value: JsonBytes<'a>,
}

/// How messages are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) style: Style,
    /// Token, attempt, time and key before each value.
    pub(super) long: bool,
}

impl Look {
    pub(super) fn print(self, context: &mut Context, message: &Message) {
        let printer = &mut context.printer;
        if self.style == Style::Json {
            printer.json(&JsonMessage {
                partition: message.partition.0,
                id: message.id,
                token: TokenArg::of(message).to_string(),
                attempt: message.attempt,
                enqueued_ms: message.enqueued_ms,
                last_error: message.last_error.as_deref(),
                key: (!message.key.is_empty()).then_some(JsonBytes(&message.key)),
                headers: message
                    .headers()
                    .map(|(name, value)| (JsonBytes(name), JsonBytes(value)))
                    .collect(),
                value: JsonBytes(&message.value),
            });
        } else if self.long {
            printer.line(format_args!(
                "{}\t{}\tattempt {}\t{}\t{}\t{}",
                TokenArg::of(message),
                message.id,
                message.attempt,
                human::time(message.enqueued_ms),
                escape(&message.key),
                escape(&message.value)
            ));
        } else {
            printer.value(self.style, &message.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_printed() {
        let text = "3:000102030405060708090a0b0c0d0eff";
        let read = token(text).expect("a token");
        assert_eq!(read.partition, Some(PartitionId(3)));
        assert_eq!(read.token.0[..3], [0, 1, 2]);
        assert_eq!(read.token.0[15], 0xff);
        assert_eq!(read.to_string(), text);
        let bare = token(&text[2..]).expect("a token");
        assert_eq!((bare.partition, bare.token), (None, read.token));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for wrong in [
            "",
            "3:",
            "x:000102030405060708090a0b0c0d0e0f",
            "3:000102030405060708090a0b0c0d0e0",
            "3:+00102030405060708090a0b0c0d0e0f",
        ] {
            assert!(token(wrong).is_err(), "{wrong}");
        }
    }
}
