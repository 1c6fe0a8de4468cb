//! What of a request is read, each refused for one reason: its fields, its query, its body.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use pinion_metadata::{Expect, MetaVersion};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{X_CONFIRM, X_REQUEST_ID};
use crate::error::Failure;
use crate::limits::BODY_WAIT;

/// The number of a request and its text: the client's, or one that is drawn for logs
/// and stands for no repeat.
pub(crate) fn request_id(headers: &HeaderMap) -> Result<(u128, String), Failure> {
    let Some(value) = headers.get(X_REQUEST_ID) else {
        return Ok((0, random_id()));
    };
    let bad = || {
        Failure::bad(
            "bad_request_id",
            "X-Request-Id is 1 to 32 hexadecimal digits, not all of them 0, or a UUID",
        )
    };
    let text = value.to_str().map_err(|_| bad())?;
    let digits: String = match text.len() {
        36 => text.chars().filter(|char| *char != '-').collect(),
        _ => text.to_owned(),
    };
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hexadecimal || digits.is_empty() || digits.len() > 32 {
        return Err(bad());
    }
    match u128::from_str_radix(&digits, 16) {
        Ok(number) if number != 0 => Ok((number, text.to_owned())),
        _ => Err(bad()),
    }
}

pub(crate) fn random_id() -> String {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 16];
    // Without randomness it is an id that others have too, which harms nobody.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// What cannot be taken back is done for who says that they mean it.
pub(super) fn confirmed(headers: &HeaderMap) -> Result<(), Failure> {
    let mut all = headers.get_all(X_CONFIRM).iter();
    let (value, more) = (all.next(), all.next());
    match value {
        Some(value) if more.is_none() && value.as_bytes().eq_ignore_ascii_case(b"true") => Ok(()),
        _ => Err(Failure::new(
            StatusCode::PRECONDITION_REQUIRED,
            "confirmation_required",
            "this is done with X-Confirm: true, and not without",
        )),
    }
}

/// `If-Match` with the one tag of an object's version, or `*`.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Expect, Failure> {
    let bad = || Failure::bad("bad_if_match", "If-Match is the ETag of an answer, or *");
    let mut all = headers.get_all(IF_MATCH).iter();
    let Some(value) = all.next() else {
        return Ok(Expect::Any);
    };
    let text = value.to_str().map_err(|_| bad())?;
    if all.next().is_some() {
        return Err(bad());
    }
    if text == "*" {
        return Ok(Expect::Any);
    }
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let digits = inner.filter(|inner| inner.bytes().all(|byte| byte.is_ascii_digit()));
    let version = digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(bad)?;
    Ok(Expect::Version(MetaVersion(version)))
}

pub(crate) fn bad_parameter(name: &str, what: &str) -> Failure {
    Failure::bad("bad_parameter", format!("{name}: {what}")).with("parameter", name)
}

/// The parameters of a query, each known and at most once.
pub(crate) fn read_query(
    query: &str,
    known: &[&'static str],
) -> Result<Vec<(String, String)>, Failure> {
    let mut all: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| {
            let spaces = text.replace('+', " ");
            percent_decode(&spaces).ok_or_else(|| {
                Failure::bad("bad_parameter", "the query is not percent-encoded UTF-8")
            })
        };
        let (name, value) = (decode(name)?, decode(value)?);
        if !known.contains(&name.as_str()) {
            return Err(Failure::bad(
                "unknown_parameter",
                format!("there is no parameter {name} here"),
            )
            .with("parameter", name)
            .with("known", known));
        }
        if all.iter().any(|(other, _)| *other == name) {
            return Err(bad_parameter(&name, "it is there twice"));
        }
        all.push((name, value));
    }
    Ok(all)
}

/// What is percent-encoded, if it is so rightly and UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// The whole body, if it is JSON, short enough, and there in time.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Bytes, Failure> {
    let content = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let content = content
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    let content = content.trim().to_ascii_lowercase();
    if !matches!(
        content.as_str(),
        "application/json" | "application/merge-patch+json"
    ) {
        return Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the body is expected as Content-Type: application/json",
        ));
    }
    read_whole(headers, body, bytes_max).await
}

/// The whole body, whatever it is, if it is short enough and there in time.
pub(crate) async fn read_whole(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Bytes, Failure> {
    let too_large = || {
        Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("a body has at most {bytes_max} bytes"),
        )
        .with("limit", bytes_max)
    };
    let length = headers
        .get("content-length")
        .and_then(|value| value.to_str().ok());
    let length: Option<u64> = length.and_then(|text| text.parse().ok());
    if length.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large());
    }
    let whole = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(BODY_WAIT, whole).await {
        Err(_) => Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("a body comes within {} s", BODY_WAIT.as_secs()),
        )),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(_)) => Err(Failure::bad("bad_body", "the body ended before its end")),
    }
}

pub(super) fn parse_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| bad_body(&error))
}

/// The same of what is JSON already.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| bad_body(&error))
}

fn bad_body(error: &serde_json::Error) -> Failure {
    let message = error.to_string();
    let code = if message.starts_with("unknown field") {
        "unknown_field"
    } else {
        "bad_body"
    };
    Failure::bad(code, message)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn request_ids_are_hexadecimal_numbers_that_are_not_none() {
        let id = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_static(text));
            request_id(&headers).map(|(number, _)| number).ok()
        };
        assert_eq!(id("2a"), Some(42));
        assert_eq!(id("0000000000000000000000000000002A"), Some(42));
        assert_eq!(id("00000000-0000-0000-0000-00000000002a"), Some(42));
        for wrong in [
            "",
            "0",
            "-1",
            "+2a",
            "2g",
            "000000000000000000000000000000002a",
        ] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
        let (number, text) = request_id(&HeaderMap::new()).expect("none is given");
        assert_eq!((number, text.len()), (0, 32));
    }

    #[test]
    fn only_known_parameters_are_read_and_each_once() {
        let read = |query| read_query(query, &["filter", "force"]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read("filter=a%2Fb+c&force").expect("known"),
            [pair("filter", "a/b c"), pair("force", "")]
        );
        assert_eq!(read("").expect("none"), []);
        let code = |query| read(query).expect_err(query).code.into_owned();
        assert_eq!(code("filters=a"), "unknown_parameter");
        assert_eq!(code("filter=a&filter=b"), "bad_parameter");
        assert_eq!(code("filter=%2"), "bad_parameter");
        assert_eq!(code("filter=%ff"), "bad_parameter");
    }

    #[test]
    fn what_is_confirmed_says_true_once() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(X_CONFIRM, HeaderValue::from_static(value));
            }
            confirmed(&headers).map_err(|failure| failure.status.as_u16())
        };
        assert_eq!((of(&["true"]), of(&["TRUE"])), (Ok(()), Ok(())));
        for wrong in [&[][..], &[""], &["false"], &["yes"], &["true", "true"]] {
            assert_eq!(of(wrong), Err(428), "{wrong:?}");
        }
    }

    #[test]
    fn if_match_is_one_strong_tag() {
        let expect = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, HeaderValue::from_static(text));
            if_match(&headers).ok()
        };
        assert_eq!(expect("\"7\""), Some(Expect::Version(MetaVersion(7))));
        assert_eq!(expect("*"), Some(Expect::Any));
        for wrong in ["7", "W/\"7\"", "\"+7\"", "\"7\", \"8\"", "\"x\"", ""] {
            assert_eq!(expect(wrong), None, "{wrong}");
        }
    }
}
