//! One spelling of a path before it is routed.
//!
//! Whatever is below `/api/v1` is also below `/api/v1/admin` and `/admin`. Only here is
//! that known: behind it there is one path, one route and one answer.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// Where routes of the domains are.
pub(crate) const BASE: &str = "/api/v1/";

/// Other spellings of it. The longer one first, as the shorter one is none of its beginnings.
const OTHERS: [&str; 2] = ["/api/v1/admin/", "/admin/"];

/// Brings the path of a request into the one spelling that is routed.
///
/// Bytes are compared as they came: what is percent-encoded, or has a slash too many, is
/// another path, and there is no route for it. Nothing is taken off twice.
pub(crate) fn canonical(uri: &mut Uri) {
    let Some(asked) = uri.path_and_query() else {
        return;
    };
    let rest = OTHERS
        .iter()
        .find_map(|other| asked.as_str().strip_prefix(other));
    let Some(rest) = rest else {
        return;
    };
    let Ok(path) = format!("{BASE}{rest}").parse::<PathAndQuery>() else {
        return;
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    if let Ok(canonical) = Uri::from_parts(parts) {
        *uri = canonical;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let mut uri: Uri = text.parse().expect("a path");
        canonical(&mut uri);
        uri.to_string()
    }

    #[test]
    fn three_spellings_are_one_path() {
        for text in ["/api/v1/stats", "/api/v1/admin/stats", "/admin/stats"] {
            assert_eq!(of(text), "/api/v1/stats");
        }
        assert_eq!(of("/admin/sessions?limit=1"), "/api/v1/sessions?limit=1");
        assert_eq!(
            of("https://host:1/admin/stats?realm=a"),
            "https://host:1/api/v1/stats?realm=a"
        );
    }

    #[test]
    fn nothing_else_is_changed() {
        for text in [
            "/",
            "/admin",
            "/administrator/stats",
            "/%61dmin/stats",
            "/admin%2Fstats",
            "//admin/stats",
            "/v1/admin/stats",
            "/ui/admin/stats",
            "/api/v1/administer",
        ] {
            assert_eq!(of(text), text);
        }
    }

    #[test]
    fn it_is_taken_off_once() {
        assert_eq!(of("/admin/admin/stats"), "/api/v1/admin/stats");
        assert_eq!(of("/api/v1/admin/admin/stats"), "/api/v1/admin/stats");
        // An empty part is kept, and matches nothing.
        assert_eq!(of("/admin//stats"), "/api/v1//stats");
    }
}
