//! What is asked.

use hyper::Method;
use hyper::header::HeaderName;
use serde_json::Value;

/// Whose token a request shows.
#[derive(Clone, Debug, Default)]
pub(crate) enum Bearer {
    /// The one the command was started with.
    #[default]
    Own,
    /// Another, like one of an identity provider.
    Other(Secret),
    /// None.
    Nobody,
}

/// Text that is never printed.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(super) method: Method,
    /// With the query.
    pub(super) target: String,
    pub(super) body: Option<Value>,
    pub(super) if_match: Option<u64>,
    pub(super) bearer: Bearer,
    pub(super) headers: Vec<(HeaderName, Secret)>,
    /// Asking twice is asking once.
    pub(super) repeatable: bool,
}

impl Ask {
    pub(crate) fn new(method: Method, segments: &[&str]) -> Self {
        let mut target = String::new();
        for segment in segments {
            target.push('/');
            encode(&mut target, segment);
        }
        Self {
            method,
            target,
            body: None,
            if_match: None,
            bearer: Bearer::Own,
            headers: Vec::new(),
            repeatable: true,
        }
    }

    pub(crate) fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    pub(crate) fn post(segments: &[&str], body: Value) -> Self {
        Self {
            body: Some(body),
            ..Self::new(Method::POST, segments)
        }
    }

    /// Adds a parameter to the query, if there is a value.
    pub(crate) fn query(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.target
                .push(if self.target.contains('?') { '&' } else { '?' });
            encode(&mut self.target, name);
            self.target.push('=');
            encode(&mut self.target, &value.to_string());
        }
        self
    }

    /// With this body.
    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Only while the object is at this version.
    pub(crate) fn if_version(mut self, version: Option<u64>) -> Self {
        self.if_match = version;
        self
    }

    /// With somebody else's token.
    pub(crate) fn bearer(mut self, bearer: Bearer) -> Self {
        self.bearer = bearer;
        self
    }

    /// With a header of its own.
    pub(crate) fn header(mut self, name: &'static str, value: Secret) -> Self {
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    /// Asked once only: its answer holds something that is said once.
    pub(crate) fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    pub(super) fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

/// Percent-encodes everything but what is never reserved (RFC 3986 §2.3), `/` included:
/// a name with segments stays one segment of the path.
fn encode(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_whatever_is_in_it() {
        let ask = Ask::get(&["v1", "streams", "eu/orders", "ä %?#"]).query("filter", Some("a&b=c"));
        assert_eq!(
            ask.target,
            "/v1/streams/eu%2Forders/%C3%A4%20%25%3F%23?filter=a%26b%3Dc"
        );
        let ask = ask.query("page_token", None::<&str>).query("n", Some(3));
        assert!(ask.target.ends_with("?filter=a%26b%3Dc&n=3"));
    }

    #[test]
    fn tokens_are_in_no_debug_form() {
        let ask = Ask::get(&["v1"]).bearer(Bearer::Other(Secret("s3cret".to_owned())));
        assert!(!format!("{ask:?}").contains("s3cret"));
    }
}
