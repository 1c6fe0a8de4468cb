//! Standard output: bytes made fit for people, for programs, or left as they are.

use std::io::{self, Write as _};

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::failure::Failure;

/// How values are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// For people: what a terminal could take for a command is escaped.
    Text,
    /// The bytes as they are, and a newline.
    Raw,
    /// One object per line.
    Json,
}

impl Style {
    pub(crate) const fn of(json: bool, raw: bool) -> Self {
        match (json, raw) {
            (true, _) => Self::Json,
            (false, true) => Self::Raw,
            (false, false) => Self::Text,
        }
    }
}

/// Collects output and writes it on another thread, so that a reader who has
/// stopped reading does not stop the connection's keep-alive.
#[derive(Debug, Default)]
pub(crate) struct Printer {
    buffer: Vec<u8>,
    /// Nothing leaves: it is read from here.
    kept: bool,
}

impl Printer {
    /// A printer that keeps what it is given.
    pub(crate) fn kept() -> Self {
        Self {
            kept: true,
            ..Self::default()
        }
    }

    /// What was printed and has not left.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// A line of text.
    pub(crate) fn line(&mut self, line: impl std::fmt::Display) {
        writeln!(self.buffer, "{line}").expect("writing to a Vec cannot fail");
    }

    /// A line with one value in it.
    pub(crate) fn value(&mut self, style: Style, value: &[u8]) {
        match style {
            Style::Raw => {
                self.buffer.extend_from_slice(value);
                self.buffer.push(b'\n');
            }
            Style::Text => self.line(escape(value)),
            Style::Json => self.json(&JsonBytes(value)),
        }
    }

    /// One JSON object on a line of its own.
    pub(crate) fn json(&mut self, object: &impl Serialize) {
        serde_json::to_writer(&mut self.buffer, object).expect("plain data into a Vec");
        self.buffer.push(b'\n');
    }

    /// Bytes that wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Writes what was collected.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        if self.kept || self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.buffer);
        let written = tokio::task::spawn_blocking(move || {
            let mut out = io::stdout().lock();
            out.write_all(&bytes)?;
            out.flush()?;
            Ok(bytes)
        })
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the writing thread ended")));
        match written {
            Ok(mut bytes) => {
                bytes.clear();
                self.buffer = bytes;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
            Err(error) => Err(Failure::io("write to standard output", error)),
        }
    }
}

/// Text as it is when it is UTF-8 without control characters (a tab aside),
/// else with `\n`, `\\` and `\xNN` for what is not.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let harmless = |text: &str| !text.chars().any(|c| c.is_control() && c != '\t');
    if let Ok(text) = std::str::from_utf8(bytes)
        && harmless(text)
    {
        return text.to_owned();
    }
    let mut out = String::with_capacity(bytes.len() * 2);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push('\t'),
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => {
                    let mut utf8 = [0; 4];
                    push_hex(&mut out, c.encode_utf8(&mut utf8).as_bytes());
                }
                c => out.push(c),
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    use std::fmt::Write as _;
    for byte in bytes {
        write!(out, "\\x{byte:02x}").expect("writing to a String cannot fail");
    }
}

/// Bytes in JSON: a string when they are UTF-8, else `{"hex": "…"}`.
#[derive(Debug)]
pub(crate) struct JsonBytes<'a>(pub(crate) &'a [u8]);

impl Serialize for JsonBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        let mut hex = String::with_capacity(self.0.len() * 2);
        for byte in self.0 {
            use std::fmt::Write as _;
            write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("hex", &hex)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_and_the_rest_is_escaped() {
        assert_eq!(
            escape("grüße \\ {\"a\":1}\t.".as_bytes()),
            "grüße \\ {\"a\":1}\t."
        );
        assert_eq!(escape(b"a\\b\n"), "a\\\\b\\n");
        assert_eq!(escape(b"\xff\x00ok"), "\\xff\\x00ok");
        // Neither form of the control sequence introducer reaches a terminal.
        assert_eq!(
            escape("\u{1b}[2J\u{9b}2J".as_bytes()),
            "\\x1b[2J\\xc2\\x9b2J"
        );
    }

    #[test]
    fn json_has_text_as_a_string_and_other_bytes_as_hex() {
        let mut printer = Printer::default();
        printer.value(Style::Json, "é\n".as_bytes());
        printer.value(Style::Json, b"\x00\xff");
        assert_eq!(printer.buffer, "\"é\\n\"\n{\"hex\":\"00ff\"}\n".as_bytes());
    }

    #[test]
    fn raw_bytes_are_not_touched() {
        let mut printer = Printer::default();
        printer.value(Style::Raw, b"\xff\x1b");
        assert_eq!(printer.buffer, b"\xff\x1b\n");
    }
}
