//! What is published or put: an argument, a file or standard input, whole or by
//! its lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read};
use std::path::Path;
use std::thread;

use pinion_client::{Bytes, RequestError};
use pinion_types::limits::RECORD_BYTES_MAX;
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Longest line or file that is taken for one record. Key and headers share the
/// node's limit with it; the node's own check says so when they are too much.
const INPUT_BYTES_MAX: usize = RECORD_BYTES_MAX as usize;
/// Lines read ahead of who sends them. More hides a slow disk; each may be 1 MiB.
const LINES_AHEAD: usize = 64;

/// What the user gave.
pub(crate) enum Source {
    /// One value.
    One(Bytes),
    /// One per line.
    Lines {
        input: Box<dyn Read + Send>,
        /// Bytes in all, where the source knows.
        bytes: Option<u64>,
    },
}

impl Source {
    /// From the argument, else from the file; `-` and nothing at all are
    /// standard input.
    pub(crate) fn of(
        value: Option<&str>,
        file: Option<&Path>,
        whole: bool,
    ) -> Result<Self, Failure> {
        match (value, file) {
            (Some(value), _) if value != "-" => {
                return Ok(Self::One(Bytes::copy_from_slice(value.as_bytes())));
            }
            (_, Some(path)) if path != Path::new("-") => {
                let doing = || format!("read {}", path.display());
                let file = File::open(path).map_err(|error| Failure::io(doing(), error))?;
                let bytes = file.metadata().ok().map(|meta| meta.len());
                return Self::read(Box::new(file), bytes, whole, doing());
            }
            (None, None) if io::stdin().is_terminal() && !whole => {
                eprintln!("one per line; end with Ctrl-D");
            }
            _ => {}
        }
        let doing = "read standard input".to_owned();
        Self::read(Box::new(io::stdin()), None, whole, doing)
    }

    fn read(
        mut input: Box<dyn Read + Send>,
        bytes: Option<u64>,
        whole: bool,
        doing: String,
    ) -> Result<Self, Failure> {
        if !whole {
            return Ok(Self::Lines { input, bytes });
        }
        let mut value = Vec::new();
        let limit = INPUT_BYTES_MAX as u64 + 1;
        input
            .by_ref()
            .take(limit)
            .read_to_end(&mut value)
            .map_err(|error| Failure::io(doing, error))?;
        if value.len() > INPUT_BYTES_MAX {
            return Err(Failure::Request(RequestError::TooLarge {
                what: "the input, as one record,",
                len: value.len(),
                limit: INPUT_BYTES_MAX,
            }));
        }
        Ok(Self::One(value.into()))
    }
}

/// Reads lines on a thread of its own, because a read of standard input cannot
/// be given up. The channel's bound holds it back.
pub(crate) fn read_lines(input: Box<dyn Read + Send>) -> mpsc::Receiver<Result<Bytes, Failure>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    thread::spawn(move || {
        let mut reader = BufReader::with_capacity(64 << 10, input);
        let mut number = 0;
        loop {
            number += 1;
            let line = match next_line(&mut reader, number) {
                Ok(Some(line)) => Ok(line),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            let last = line.is_err();
            if sender.blocking_send(line).is_err() || last {
                return;
            }
        }
    });
    receiver
}

fn next_line(reader: &mut impl BufRead, number: u64) -> Result<Option<Bytes>, Failure> {
    let mut line = Vec::new();
    reader
        .by_ref()
        .take(INPUT_BYTES_MAX as u64 + 1)
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::io("read the input", error))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > INPUT_BYTES_MAX {
        return Err(Failure::LineTooLong {
            line: number,
            limit: INPUT_BYTES_MAX,
        });
    }
    Ok(Some(line.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Result<Bytes, Failure>> {
        let mut reader = input;
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader, lines.len() as u64 + 1).transpose() {
            let failed = line.is_err();
            lines.push(line);
            if failed {
                break;
            }
        }
        lines
    }

    #[test]
    fn every_line_is_a_record_also_an_empty_one_and_one_without_an_end() {
        let got: Vec<Bytes> = lines(b"one\n\n\xff\r\nlast")
            .into_iter()
            .map(|line| line.expect("short"))
            .collect();
        assert_eq!(got, [&b"one"[..], b"", b"\xff\r", b"last"]);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_line_over_the_limit_is_named_and_not_held_in_memory() {
        let mut input = vec![b'x'; INPUT_BYTES_MAX];
        input.push(b'\n');
        assert!(lines(&input).iter().all(Result::is_ok));
        input.insert(0, b'x');
        input.splice(0..0, *b"first\n");
        let got = lines(&input);
        assert!(matches!(got[1], Err(Failure::LineTooLong { line: 2, .. })));
    }
}
