//! Style sheet, script and picture.

use std::io::Write;
use std::sync::OnceLock;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use pinion_admin_ui::assets::{ASSETS, Asset, asset};

use super::{Frame, Visit, places};
use crate::access::Who;
use crate::error::Failure;

/// The file of a path. A browser keeps it and asks each time whether it is still the one:
/// a new release is then seen at once.
///
/// Files are packed for who takes gzip. Pages are not: beside what somebody else may choose
/// the words of, like a search, they hold the token of the session, and the length of what is
/// packed would tell of it.
pub(super) fn file(frame: &Frame, head: &Parts, visit: &Visit) -> Result<Response, Failure> {
    // Those who are logged in were counted with their page.
    if frame.logged(visit, false).is_err() {
        frame.api.rate_nobody(&Who::nobody(visit.remote))?;
    }
    let file = asset(head.uri.path()).ok_or_else(places::unknown)?;
    let packed = takes_gzip(head).then(|| packed(file)).flatten();
    let mut tag = file.etag();
    if packed.is_some() {
        // Other bytes have another tag (RFC 9110 §8.8.3.3).
        tag.insert_str(tag.len() - 1, "-gz");
    }
    let same = head
        .headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        // Weak comparison (RFC 9110 §13.1.2).
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == tag || one == "*");
    let mut response = Response::new(Body::empty());
    if same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = packed.map_or_else(|| Body::from(file.body), |b| b.clone().into());
    }
    let headers = response.headers_mut();
    if !same {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
        if packed.is_some() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

/// The file packed by gzip, made once; nothing where that would make it no smaller.
fn packed(file: &Asset) -> Option<&'static Bytes> {
    static PACKED: OnceLock<[Option<Bytes>; ASSETS.len()]> = OnceLock::new();
    let at = ASSETS.iter().position(|one| one.path == file.path)?;
    let all = PACKED.get_or_init(|| {
        ASSETS.each_ref().map(|one| {
            let mut packer = GzEncoder::new(Vec::new(), Compression::best());
            packer.write_all(one.body.as_bytes()).ok()?;
            let packed = packer.finish().ok()?;
            (packed.len() < one.body.len()).then(|| packed.into())
        })
    });
    all[at].as_ref()
}

/// Whether who asks takes gzip (RFC 9110 §12.5.3): it is named, and not with a weight of
/// nought. What is meant by `*` alone is not guessed.
fn takes_gzip(head: &Parts) -> bool {
    let values = head.headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse() == Ok(0.0_f32))
        });
        named && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_admin_ui::assets::FILES_BYTES_MAX;

    fn asked(encodings: &[&str]) -> bool {
        let mut request = axum::http::Request::new(());
        for one in encodings {
            let value = HeaderValue::from_str(one).expect("a header");
            request.headers_mut().append(ACCEPT_ENCODING, value);
        }
        takes_gzip(&request.into_parts().0)
    }

    #[test]
    fn gzip_is_for_who_names_it() {
        for takes in [
            &["gzip"][..],
            &["br, GZIP;q=0.5"],
            &["deflate", "gzip ; q=1"],
        ] {
            assert!(asked(takes), "{takes:?}");
        }
        for not in [
            &[][..],
            &["br"],
            &["gzip;q=0"],
            &["gzip; Q=0.000"],
            &["*"],
            &["x-gzip"],
        ] {
            assert!(!asked(not), "{not:?}");
        }
    }

    #[test]
    fn packed_files_are_smaller_and_the_same_inside() {
        use std::io::Read;
        let mut all = 0;
        for file in &ASSETS {
            let packed = packed(file).expect("each of them shrinks");
            let mut text = String::new();
            let mut reader = flate2::read::GzDecoder::new(&packed[..]);
            reader.read_to_string(&mut text).expect("gzip");
            assert_eq!(text, file.body);
            println!(
                "{:>6} of {:>6} bytes  {}",
                packed.len(),
                file.body.len(),
                file.path
            );
            all += packed.len();
        }
        assert!(all <= FILES_BYTES_MAX, "{all} bytes");
    }
}
