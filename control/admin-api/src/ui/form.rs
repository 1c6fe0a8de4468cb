//! What a form says (`application/x-www-form-urlencoded`), and whether it is one of ours.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};

use crate::call::{percent_decode, read_whole};
use crate::error::Failure;
use crate::limits::FORM_BYTES_MAX;

/// Fields of a form or a query. A confirm page has the most.
const FIELDS_MAX: usize = 32;

/// The fields of a form or a query, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads what is percent-encoded, with `+` for a space.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let mut all: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| percent_decode(&text.replace('+', " "));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Failure::bad(
                    "bad_form",
                    "what was sent is not percent-encoded UTF-8",
                ));
            };
            if all.iter().any(|(other, _)| *other == name) {
                return Err(Failure::bad(
                    "bad_form",
                    format!("{name} was sent more than once"),
                ));
            }
            if all.len() >= FIELDS_MAX {
                return Err(Failure::bad("bad_form", "too many fields were sent"));
            }
            all.push((name, value));
        }
        Ok(Self(all))
    }

    /// A field, or nothing.
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// The fields of a POST that a page of ours sent: its type, its size, and where it came
/// from. Whether its token is the right one is looked at by who knows which that is.
pub(crate) async fn read(head: &Parts, tls: bool, body: Body) -> Result<Fields, Failure> {
    // With its port, as an origin has it.
    let authority = head.uri.authority().map(Authority::as_str);
    same_origin(&head.headers, authority, tls)?;
    let content = head.headers.get(CONTENT_TYPE);
    let content = content.and_then(|value| value.to_str().ok());
    let content = content.unwrap_or_default().split(';').next();
    if !content
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    {
        return Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "a form is expected",
        ));
    }
    let bytes = read_whole(&head.headers, body, FORM_BYTES_MAX).await?;
    let text = core::str::from_utf8(&bytes);
    Fields::parse(text.map_err(|_| Failure::bad("bad_form", "what was sent is not UTF-8"))?)
}

/// Refuses what a page of somebody else makes a browser send. Browsers say where a POST
/// comes from in at least one of two headers that no page can set (Fetch Metadata
/// `Sec-Fetch-Site`; RFC 6454 §7); what says nothing is no browser with a form of ours.
fn same_origin(headers: &HeaderMap, authority: Option<&str>, tls: bool) -> Result<(), Failure> {
    let one = |name: &str| {
        let mut all = headers.get_all(name).iter();
        let value = all.next().map(|value| value.to_str().unwrap_or("?"));
        // Two of them are no browser's.
        all.next().map_or(value, |_| Some("?"))
    };
    let ours = match (one("sec-fetch-site"), one(ORIGIN.as_str())) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let scheme = if tls { "https://" } else { "http://" };
            let host = one(HOST.as_str()).or(authority);
            let origin = origin.strip_prefix(scheme);
            origin.is_some_and(|origin| host.is_some_and(|host| host.eq_ignore_ascii_case(origin)))
        }
        (None, None) => false,
    };
    if ours {
        Ok(())
    } else {
        Err(Failure::new(
            StatusCode::FORBIDDEN,
            "other_origin",
            "The form was not sent by a page of this node. Nothing was done.",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn fields_are_decoded_and_each_is_there_once() {
        let fields = Fields::parse("a=1&b=x+y%26%3D&c").expect("a form");
        let pairs: Vec<_> = fields.iter().collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x y&="), ("c", "")]);
        assert_eq!(fields.get("d"), "");
        for wrong in ["a=1&a=2", "a=%f", "%ff=1"] {
            assert!(Fields::parse(wrong).is_err(), "{wrong}");
        }
        let many: Vec<String> = (0..=FIELDS_MAX).map(|at| format!("f{at}=1")).collect();
        assert!(Fields::parse(&many.join("&")).is_err());
    }

    #[test]
    fn only_pages_of_this_origin_send_forms() {
        let ours = |pairs: &[(&'static str, &'static str)], tls| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
            same_origin(&headers, None, tls).is_ok()
        };
        let host = ("host", "node:7420");
        assert!(ours(&[host, ("origin", "https://node:7420")], true));
        assert!(ours(&[host, ("origin", "http://node:7420")], false));
        assert!(ours(&[("sec-fetch-site", "same-origin")], true));
        for wrong in [
            &[host][..],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://node:7420")],
            &[host, ("origin", "https://node")],
            &[host, ("origin", "https://node:7420.example")],
            &[host, ("origin", "https://other:7420")],
            &[
                host,
                ("origin", "https://node:7420"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("sec-fetch-site", "none")],
            &[
                host,
                ("origin", "https://node:7420"),
                ("origin", "https://node:7420"),
            ],
        ] {
            assert!(!ours(wrong, true), "{wrong:?}");
        }
    }
}
