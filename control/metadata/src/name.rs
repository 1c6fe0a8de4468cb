//! The grammar of names and texts. Names of resources are those of
//! [`pinion_types::ResourceName`]; every other name is one segment of them.

use pinion_types::name::SEGMENT_BYTES_MAX;
use pinion_types::{NameError, ResourceName};

use crate::error::{MetaError, NameOf};

/// One segment: `[A-Za-z0-9._-]{1,63}`, not `.` or `..`.
pub(crate) fn segment(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::EmptySegment);
    }
    if text == "." || text == ".." {
        return Err(NameError::DotSegment);
    }
    if text.len() > SEGMENT_BYTES_MAX {
        return Err(NameError::SegmentTooLong { len: text.len() });
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match text.bytes().position(|byte| !allowed(byte)) {
        Some(position) => Err(NameError::BadByte {
            byte: text.as_bytes()[position],
            position,
        }),
        None => Ok(()),
    }
}

/// A segment without upper case: it appears in DNS names and URLs, where case
/// is lost.
pub(crate) fn lower_segment(text: &str) -> Result<(), NameError> {
    segment(text)?;
    match text.bytes().position(|byte| byte.is_ascii_uppercase()) {
        Some(position) => Err(NameError::BadByte {
            byte: text.as_bytes()[position],
            position,
        }),
        None => Ok(()),
    }
}

/// A tenant's name.
pub(crate) fn tenant(name: &str) -> Result<(), MetaError> {
    lower_segment(name).map_err(|why| MetaError::BadName {
        what: NameOf::Tenant,
        why,
    })
}

/// A namespace's name.
pub(crate) fn namespace(name: &str) -> Result<(), MetaError> {
    segment(name).map_err(|why| MetaError::BadName {
        what: NameOf::Namespace,
        why,
    })
}

/// A broker's name.
pub(crate) fn broker(name: &str) -> Result<(), MetaError> {
    lower_segment(name).map_err(|why| MetaError::BadName {
        what: NameOf::Broker,
        why,
    })
}

/// A role's name.
pub(crate) fn role(name: &str) -> Result<(), MetaError> {
    segment(name).map_err(|why| MetaError::BadName {
        what: NameOf::Role,
        why,
    })
}

/// A resource's namespace and name.
pub(crate) fn resource(namespace: &str, name: &str) -> Result<(), MetaError> {
    match ResourceName::new(namespace, name) {
        Ok(_) => Ok(()),
        Err(why) => Err(MetaError::BadName {
            what: NameOf::Resource,
            why,
        }),
    }
}

/// An address of the web: `https` or `http`, a host, and no user, fragment, space
/// or control character.
pub(crate) fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or(text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return false;
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let plain = rest
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    !host.is_empty() && !host.contains('@') && plain
}

/// A number from `min` to `max`.
pub(crate) fn range(field: &'static str, actual: u64, min: u64, max: u64) -> Result<(), MetaError> {
    if actual < min || actual > max {
        return Err(MetaError::BadSpec {
            field,
            actual,
            min,
            max,
        });
    }
    Ok(())
}

/// A text for people: at most `max` bytes, no control characters, which would
/// reach terminals and log lines.
pub(crate) fn text(field: &'static str, text: &str, max: usize) -> Result<(), MetaError> {
    text_of(field, text, 0, max)
}

/// A text of at least `min` bytes.
pub(crate) fn text_of(
    field: &'static str,
    text: &str,
    min: usize,
    max: usize,
) -> Result<(), MetaError> {
    range(field, text.len() as u64, min as u64, max as u64)?;
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((position, _)) => Err(MetaError::BadText { field, position }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Otherwise a namespace could be made that no address can name.
        #[test]
        fn a_segment_is_what_an_address_takes_as_namespace(text in "[a-zA-Z0-9._/ ä-]{0,70}") {
            let address = ResourceName::new(&text, "x").map(|_| ());
            prop_assert_eq!(segment(&text), address);
        }
    }

    #[test]
    fn an_address_of_the_web_has_a_host_and_no_user() {
        for url in [
            "https://a",
            "http://127.0.0.1:80/x?y=z",
            "https://a.b/c%20d/",
        ] {
            assert!(is_url(url), "{url}");
        }
        for url in [
            "",
            "a",
            "ftp://a",
            "HTTPS://a",
            "https://",
            "https:///x",
            "https://?x",
            "https://u@a/",
            "https://a/#x",
            "https://a b",
            "https://ä",
            "https://a\n",
        ] {
            assert!(!is_url(url), "{url}");
        }
    }

    #[test]
    fn upper_case_is_refused_where_case_is_lost() {
        assert_eq!(segment("Orders"), Ok(()));
        assert_eq!(
            lower_segment("orDers"),
            Err(NameError::BadByte {
                byte: b'D',
                position: 2
            })
        );
    }

    #[test]
    fn control_characters_are_refused_in_texts() {
        assert_eq!(text("t", "grüße", 7), Ok(()));
        for (bad, position) in [("a\nb", 1), ("\u{85}", 0), ("ä\u{7f}", 2)] {
            assert_eq!(
                text("t", bad, 100),
                Err(MetaError::BadText {
                    field: "t",
                    position
                })
            );
        }
    }
}
