//! What somebody else wrote, made harmless inside HTML.
//!
//! Five characters have a meaning in HTML and are written as references; `/` is not among
//! them, because nothing of ours puts a value outside of quotes. Characters that are not
//! seen but change how others are read (controls, reversals of direction) are shown by
//! their number: a name must not look like another.

use std::fmt::{self, Write};

/// Writes `text` so that it is text, in an element or in a quoted attribute.
///
/// # Errors
///
/// Those of `out`.
pub fn write_escaped(out: &mut dyn Write, text: &str) -> fmt::Result {
    let mut plain = 0;
    for (at, letter) in text.char_indices() {
        let reference = match letter {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\'' => "&#39;",
            '\n' | '\t' => continue,
            _ if is_unseen(letter) => {
                out.write_str(&text[plain..at])?;
                write!(out, "\\u{{{:x}}}", u32::from(letter))?;
                plain = at + letter.len_utf8();
                continue;
            }
            _ => continue,
        };
        out.write_str(&text[plain..at])?;
        out.write_str(reference)?;
        plain = at + letter.len_utf8();
    }
    out.write_str(&text[plain..])
}

/// `text` so that it is text, in an element or in a quoted attribute.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    // A string takes whatever is written to it.
    let _ = write_escaped(&mut out, text);
    out
}

/// Controls (Unicode `Cc`), marks and overrides of direction (UAX #9 §2), characters
/// without width or without ink, line separators, tags, and the byte order mark.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{180e}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
        )
}

/// Percent-encodes one segment of a path or one part of a query (RFC 3986 §2.3:
/// everything but unreserved characters).
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_html_reads_becomes_text() {
        assert_eq!(
            escaped(r#"<a href="x" onclick='y'>&amp;</a>/"#),
            "&lt;a href=&quot;x&quot; onclick=&#39;y&#39;&gt;&amp;amp;&lt;/a&gt;/"
        );
        assert_eq!(escaped("plain größe 日本"), "plain größe 日本");
    }

    #[test]
    fn what_is_not_seen_is_shown_by_its_number() {
        assert_eq!(
            escaped("a\u{202e}b\0c\u{200b}"),
            "a\\u{202e}b\\u{0}c\\u{200b}"
        );
        assert_eq!(escaped("two\nlines\tand"), "two\nlines\tand");
    }

    #[test]
    fn no_character_becomes_html_or_stays_unseen() {
        let ours = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        for letter in '\0'..=char::MAX {
            let text = escaped(letter.encode_utf8(&mut [0; 4]));
            assert!(!text.contains(['<', '>', '"', '\'']), "{letter:?}");
            assert!(
                !text.contains('&') || ours.contains(&text.as_str()),
                "{letter:?}"
            );
            let control = |one: char| one.is_control() && one != '\n' && one != '\t';
            assert!(!text.contains(control), "{letter:?}");
        }
    }

    #[test]
    fn only_unreserved_characters_stand_for_themselves_in_a_link() {
        assert_eq!(percent_encoded("a-b.c_d~9"), "a-b.c_d~9");
        assert_eq!(
            percent_encoded("a/b?c=ü#'\""),
            "a%2Fb%3Fc%3D%C3%BC%23%27%22"
        );
    }
}
