//! From a path to its page, or to what is done there.

use axum::http::StatusCode;
use pinion_admin_ui::links::{ROUTES, actions};

use super::pages::{Handler, handler};
use crate::call::percent_decode;
use crate::error::Failure;

/// Longest path with its query, in bytes: it stands in the page, in its forms and links.
pub(crate) const PATH_BYTES_MAX: usize = 2_048;

/// A page, and what the path says that it is about.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// As [`ROUTES`] has both.
    pub(crate) name: &'static str,
    pub(crate) route: &'static str,
    pub(crate) handler: Handler,
    pub(crate) parts: Vec<(&'static str, String)>,
}

/// What is asked of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The form of the login, and what is sent from it.
    Login,
    /// To an identity provider, and back from there.
    Oidc,
    /// The end of a session.
    Logout,
    /// Light or dark.
    Theme,
    /// What an action would do.
    Confirm,
    /// It is done.
    Perform,
    /// What changes on a page.
    Live,
    /// Style, script and pictures.
    File,
    /// Whatever else: a page, or nothing.
    Page,
}

/// Paths that are no pages, with their methods; HEAD is answered where GET is, but on the
/// way to a provider. With [`ROUTES`] it is all that the dashboard answers: what is not here
/// is looked for among the pages. A path is known by what is before its part in braces.
const WAYS: [(&str, &[&str], Way); 9] = [
    (actions::LOGIN, &["GET", "POST"], Way::Login),
    (LOGIN_OIDC, &["GET"], Way::Oidc),
    (actions::LOGIN_OIDC_CALLBACK, &["GET"], Way::Oidc),
    (actions::LOGOUT, &["POST"], Way::Logout),
    (actions::THEME, &["POST"], Way::Theme),
    (actions::CONFIRM, &["GET"], Way::Confirm),
    (actions::PERFORM, &["POST"], Way::Perform),
    (actions::LIVE, &["GET"], Way::Live),
    ("/assets/{*file}", &["GET"], Way::File),
];

/// [`actions::LOGIN_OIDC`] with the id of a provider.
const LOGIN_OIDC: &str = "/ui/login/oidc/{id}";

/// Where a path leads to, and whether something is sent there.
pub(crate) fn way(path: &str) -> (Way, bool) {
    let is_of = |template: &str| match template.split_once('{') {
        // What only begins like that leads to nothing there, and not to the login.
        Some((beginning, _)) => path.starts_with(beginning.trim_end_matches('/')),
        None => path == template,
    };
    let found = WAYS.iter().find(|(template, ..)| is_of(template));
    found.map_or((Way::Page, false), |(_, methods, way)| {
        (*way, **methods == ["POST"])
    })
}

/// Every method and path of the dashboard, as templates; `{*name}` is the rest of a path.
pub fn dashboard_paths() -> impl Iterator<Item = (&'static str, &'static str)> {
    let ways = WAYS.iter();
    let ways = ways.flat_map(|(path, methods, _)| methods.iter().map(|method| (*method, *path)));
    ways.chain(ROUTES.iter().map(|(_, path)| ("GET", *path)))
}

/// The page of a path.
pub(crate) fn find(path: &str) -> Result<Found, Failure> {
    for (name, route) in ROUTES {
        if let Some(parts) = matched(path, route)? {
            let handler = handler(name).ok_or_else(unknown)?;
            return Ok(Found {
                name,
                route,
                handler,
                parts,
            });
        }
    }
    Err(unknown())
}

pub(crate) fn unknown() -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "unknown_path",
        "There is no such page.",
    )
}

/// The parts of a path, if it is one of the route. No part is empty, and the last may be
/// several segments.
fn matched(
    path: &str,
    route: &'static str,
) -> Result<Option<Vec<(&'static str, String)>>, Failure> {
    let mut parts = Vec::new();
    let mut segments = path.split('/');
    for wanted in route.split('/') {
        let Some(name) = wanted.strip_prefix('{') else {
            if segments.next() != Some(wanted) {
                return Ok(None);
            }
            continue;
        };
        let name = name.trim_end_matches('}');
        let (name, rest) = match name.strip_prefix('*') {
            Some(name) => {
                let rest: Vec<&str> = segments.by_ref().collect();
                (name, rest)
            }
            None => (name, Vec::from_iter(segments.next())),
        };
        if rest.is_empty() || rest.iter().any(|part| part.is_empty()) {
            return Ok(None);
        }
        let decoded = percent_decode(&rest.join("/"));
        let decoded = decoded
            .ok_or_else(|| Failure::bad("bad_path", "The path is not percent-encoded UTF-8."));
        parts.push((name, decoded?));
    }
    Ok(segments.next().is_none().then_some(parts))
}

/// Where to go on after a form, if that is a page of ours: a browser takes `//` and `/\`
/// for another host.
pub(crate) fn way_back(path: &str) -> &str {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    let place = path.split(['?', '#']).next().unwrap_or_default();
    let known = plain && path.len() <= PATH_BYTES_MAX && find(place).is_ok();
    if known && !path.contains(['\\', '"', '<', '>']) {
        path
    } else {
        "/"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_its_page_is_about() {
        let parts = |path, route| matched(path, route).expect("it decodes");
        let route = "/ui/streams/{tenant}/{namespace}/{*name}";
        assert_eq!(
            parts("/ui/streams/acme/pay/eu/or%20ders", route),
            Some(vec![
                ("tenant", "acme".to_owned()),
                ("namespace", "pay".to_owned()),
                ("name", "eu/or ders".to_owned()),
            ])
        );
        for other in [
            "/ui/streams",
            "/ui/streams/acme/pay",
            "/ui/streams/acme/pay/",
            "/ui/streams/acme//a",
            "/ui/queues/acme/pay/a",
        ] {
            assert_eq!(parts(other, route), None, "{other}");
        }
        assert_eq!(parts("/", "/"), Some(vec![]));
        assert_eq!(parts("/ui/raft/", "/ui/raft"), None);
        assert!(matched("/ui/tenants/%ff/keys", "/ui/tenants/{tenant}/keys").is_err());
    }

    #[test]
    fn a_path_that_is_no_page_leads_to_what_is_done_there() {
        assert_eq!(way("/ui/do"), (Way::Perform, true));
        assert_eq!(way("/ui/login"), (Way::Login, false));
        assert_eq!(way("/ui/login/oidc/corp"), (Way::Oidc, false));
        assert_eq!(way("/ui/login/oidc/callback"), (Way::Oidc, false));
        assert_eq!(way("/assets/pinion.css"), (Way::File, false));
        assert_eq!(way("/ui/login/oidcorp"), (Way::Oidc, false));
        for page in ["/", "/ui", "/ui/do/", "/ui/raft", "/ui/login/"] {
            assert_eq!(way(page), (Way::Page, false), "{page}");
        }
        assert!(LOGIN_OIDC.starts_with(actions::LOGIN_OIDC));
        // Each is there once, and none of them is a page.
        let all: Vec<_> = dashboard_paths().collect();
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{one:?} twice");
        }
        for (path, ..) in WAYS {
            assert!(find(path).is_err(), "{path} is a page");
        }
    }

    #[test]
    fn every_page_has_its_route() {
        for (name, _) in ROUTES {
            if handler(name).is_none() {
                continue;
            }
            let path = ROUTES
                .iter()
                .find(|(other, _)| *other == name)
                .map(|(_, route)| route.replace(['{', '}', '*'], ""));
            assert!(find(&path.unwrap_or_default()).is_ok(), "{name}");
        }
    }

    #[test]
    fn nothing_leads_away_from_this_node() {
        assert_eq!(way_back("/ui/tenants?q=a%20b"), "/ui/tenants?q=a%20b");
        assert_eq!(way_back("/"), "/");
        for elsewhere in [
            "",
            "//example.com",
            "/\\example.com",
            "https://example.com",
            "/ui/do",
            "/ui/login",
            "/ui/tenants\r\nset-cookie: a=b",
            "/ui/tenants?q=a b",
            "/v1/docs",
            "/ui/../v1",
        ] {
            assert_eq!(way_back(elsewhere), "/", "{elsewhere}");
        }
    }
}
