//! Server-sent events out of the bytes of a stream (WHATWG HTML §9.2).

/// Largest event; an object of the metadata is far below it.
pub(super) const EVENT_BYTES_MAX: usize = 1 << 20;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; `message` when it had none.
    pub(super) name: String,
    /// Its lines, with `\n` between them.
    pub(super) data: String,
}

/// An event is larger than [`EVENT_BYTES_MAX`], or not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EventError {
    #[error("an event has more than {EVENT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("an event is not UTF-8")]
    NotText,
}

/// What has come and is no event yet.
#[derive(Debug, Default)]
pub(super) struct Events {
    bytes: Vec<u8>,
    /// Where the next line begins in `bytes`.
    at: usize,
    name: String,
    data: String,
    has_data: bool,
}

impl Events {
    /// Takes what came next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next event that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Event>, EventError> {
        while let Some(line) = self.line()? {
            if line.is_empty() {
                let name = std::mem::take(&mut self.name);
                let mut data = std::mem::take(&mut self.data);
                if !std::mem::take(&mut self.has_data) {
                    continue;
                }
                data.pop();
                let name = if name.is_empty() {
                    "message".to_owned()
                } else {
                    name
                };
                return Ok(Some(Event { name, data }));
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.name),
                "data" => {
                    if self.data.len() + value.len() > EVENT_BYTES_MAX {
                        return Err(EventError::TooLarge);
                    }
                    self.data.push_str(value);
                    self.data.push('\n');
                    self.has_data = true;
                }
                // Comments have an empty field; `id` and `retry` are not used.
                _ => {}
            }
        }
        Ok(None)
    }

    /// The next line that is whole, without its end: CR, LF or both.
    fn line(&mut self) -> Result<Option<String>, EventError> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(end) = end else {
            return if rest.len() > EVENT_BYTES_MAX {
                Err(EventError::TooLarge)
            } else {
                Ok(None)
            };
        };
        let after = match rest.get(end..end + 2) {
            Some(b"\r\n") => end + 2,
            // The other half may still come; it would be a line of its own.
            None if rest[end] == b'\r' => return Ok(None),
            _ => end + 1,
        };
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| EventError::NotText)?;
        let line = line.to_owned();
        self.at += after;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(parts: &[&[u8]]) -> Vec<(String, String)> {
        let mut events = Events::default();
        let mut found = Vec::new();
        for part in parts {
            events.push(part);
            while let Some(event) = events.next().expect("good") {
                found.push((event.name, event.data));
            }
        }
        found
    }

    const STREAM: &[u8] = b": hello\n\nevent: change\r\ndata: {\"a\":\r\ndata:1}\r\n\r\nid: 7\ndata\n\nevent: lonely\n\ndata: \xc3\xa4\r\rdata: unfinished";

    #[test]
    fn events_are_whole_at_a_blank_line_whatever_ends_lines() {
        let pair = |name: &str, data: &str| (name.to_owned(), data.to_owned());
        assert_eq!(
            all(&[STREAM]),
            [
                pair("change", "{\"a\":\n1}"),
                pair("message", ""),
                pair("message", "ä"),
            ]
        );
    }

    #[test]
    fn what_has_no_end_is_not_kept() {
        let mut events = Events::default();
        events.push(&vec![b'x'; EVENT_BYTES_MAX + 1]);
        assert_eq!(events.next(), Err(EventError::TooLarge));
        let mut events = Events::default();
        let line = [b"data: ", &[b'x'; 1000][..], b"\n"].concat();
        for _ in 0..EVENT_BYTES_MAX / 1001 {
            events.push(&line);
            assert_eq!(events.next(), Ok(None));
        }
        events.push(&line);
        assert_eq!(events.next(), Err(EventError::TooLarge));
        let mut events = Events::default();
        events.push(b"data: \xff\n\n");
        assert_eq!(events.next(), Err(EventError::NotText));
    }

    proptest! {
        #[test]
        fn where_the_network_cuts_makes_no_difference(cuts in prop::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut parts = Vec::new();
            let mut from = 0;
            for cut in cuts {
                parts.push(&STREAM[from..cut]);
                from = cut;
            }
            parts.push(&STREAM[from..]);
            prop_assert_eq!(all(&parts), all(&[STREAM]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut events = Events::default();
            events.push(&bytes);
            while let Ok(Some(_)) = events.next() {}
        }
    }
}
