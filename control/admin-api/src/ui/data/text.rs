//! Bytes of strangers as people look at them.

/// Bytes of a value that are shown.
pub(crate) const VALUE_BYTES: usize = 256;

/// Bytes of a key, a header or an error that are shown.
pub(crate) const KEY_BYTES: usize = 64;

/// Headers of a record that are shown.
pub(crate) const HEADERS_MAX: usize = 4;

/// The beginning of some bytes: as text when they are text that can be read, otherwise in
/// hexadecimal. What was cut off is told by an ellipsis.
pub(crate) fn shown(bytes: &[u8], most: usize) -> String {
    let end = most.min(bytes.len());
    // A letter may lie across the cut: it is left out, and makes nothing binary.
    let text = match core::str::from_utf8(&bytes[..end]) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() && end < bytes.len() => {
            core::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let (mut out, shown) = match text.filter(|text| text.chars().all(is_read)) {
        Some(text) => (text.to_owned(), text.len()),
        None => {
            // Two digits and a space for each byte take three times the room.
            let bytes = &bytes[..end.min(most / 3)];
            (hexadecimal(bytes), bytes.len())
        }
    };
    if shown < bytes.len() {
        out.push('…');
    }
    out
}

/// The same of text.
pub(crate) fn shown_text(text: &str, most: usize) -> String {
    let short = cut(text, most);
    if short.len() == text.len() {
        return short.to_owned();
    }
    format!("{short}…")
}

/// The beginning of a text, of so many bytes at most.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Whether a letter is something to read; what steers a terminal or turns the direction
/// of text is not.
fn is_read(letter: char) -> bool {
    let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    matches!(letter, '\n' | '\r' | '\t') || !(letter.is_control() || turns)
}

fn hexadecimal(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_and_the_rest_is_hexadecimal() {
        assert_eq!(shown(b"{\"a\":1}\n", 64), "{\"a\":1}\n");
        assert_eq!(shown("käse".as_bytes(), 64), "käse");
        assert_eq!(shown(b"", 64), "");
        assert_eq!(shown(&[0xff, 0, 0x10], 64), "ff 00 10");
        assert_eq!(shown(b"a\x1b[31m", 64), "61 1b 5b 33 31 6d");
        assert_eq!(shown("a\u{202e}b".as_bytes(), 64), "61 e2 80 ae 62");
    }

    #[test]
    fn what_is_cut_off_is_told() {
        assert_eq!(shown(b"abcdef", 3), "abc…");
        assert_eq!(shown("abä".as_bytes(), 3), "ab…");
        assert_eq!(shown(&[0xff; 9], 6), "ff ff…");
        assert_eq!(shown("aä".as_bytes(), 3), "aä");
        // A letter that is not whole though nothing was cut off is no letter.
        assert_eq!(shown(&[b'a', 0xc3], 64), "61 c3");
        assert_eq!(shown_text("abc", 3), "abc");
        assert_eq!(shown_text("abcd", 3), "abc…");
    }
}
