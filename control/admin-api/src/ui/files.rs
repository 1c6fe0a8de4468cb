//! Style sheet, script and picture.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use pinion_admin_ui::assets::asset;

use super::{Frame, Visit, places};
use crate::access::Who;
use crate::error::Failure;

/// The file of a path. A browser keeps it and asks each time whether it is still the one:
/// a new release is then seen at once.
pub(super) fn file(frame: &Frame, head: &Parts, visit: &Visit) -> Result<Response, Failure> {
    // Those who are logged in were counted with their page.
    if frame.logged(visit, false).is_err() {
        frame.api.rate_nobody(&Who::nobody(visit.remote))?;
    }
    let file = asset(head.uri.path()).ok_or_else(places::unknown)?;
    let tag = file.etag();
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
        *response.body_mut() = Body::from(file.body);
    }
    let headers = response.headers_mut();
    if !same {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}
