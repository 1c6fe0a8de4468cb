//! Identity providers that people log in to the dashboard with.
//!
//! One is an issuer of a tenant, which says how its tokens are checked and what its people
//! may, and what it knows this node by. Which of them may open the dashboard of a node is for
//! whoever runs the node to say, and so in its configuration.

use pinion_admin_ui::links::actions;
use pinion_auth::login::Client;
use pinion_auth::provider::{Url, UrlError};

/// Most of them: a row of buttons.
pub const LOGINS_MAX: usize = 16;

/// Longest id and longest label, in bytes.
pub const LOGIN_NAME_BYTES_MAX: usize = 64;

/// A provider to log in with.
#[derive(Clone, Debug)]
pub struct OidcLogin {
    /// It stands in the path: 1 to [`LOGIN_NAME_BYTES_MAX`] of `a-z 0-9 -`, and not
    /// `callback`, which is where browsers come back to.
    pub id: Box<str>,
    /// What people call it; 1 to [`LOGIN_NAME_BYTES_MAX`] bytes.
    pub label: Box<str>,
    /// Whose issuer it is.
    pub tenant: Box<str>,
    /// Its `iss`, as the tenant has it.
    pub issuer: Box<str>,
    /// What it knows this node by.
    pub client: Client,
}

impl OidcLogin {
    /// Whether a text can be an id.
    #[must_use]
    pub fn is_id(text: &str) -> bool {
        let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let path = format!("{}/{text}", actions::LOGIN_OIDC);
        (1..=LOGIN_NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(plain)
            && path != actions::LOGIN_OIDC_CALLBACK
    }
}

/// Where browsers come back to at a node that they reach at `public`: a scheme, a host and
/// perhaps a port, and no path, as cookies of the dashboard are those of a whole host. It is
/// what the provider is told, and no header of a request has a say in it.
///
/// # Errors
/// See [`UrlError`].
pub fn redirect_at(public: &str) -> Result<Url, UrlError> {
    let public = public.strip_suffix('/').unwrap_or(public);
    let root = Url::parse(&format!("{public}/"))?;
    if root.target() != "/" {
        return Err(UrlError::Path);
    }
    Url::parse(&format!("{public}{}", actions::LOGIN_OIDC_CALLBACK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_comes_back_to_the_host_that_was_configured() {
        let redirect = redirect_at("https://pinion.example:7420/").expect("a host");
        let whole = "https://pinion.example:7420/ui/login/oidc/callback";
        assert_eq!(redirect.text(), whole);
        assert_eq!(redirect_at("https://pinion.example:7420"), Ok(redirect));
        for wrong in [
            "https://pinion.example/admin",
            "https://pinion.example//",
            "https://pinion.example/?a",
            "pinion.example",
            "https://me@pinion.example",
            "",
        ] {
            assert!(redirect_at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_id_stands_in_a_path_and_is_not_the_way_back() {
        assert!(OidcLogin::is_id("corp-2"));
        let long = "x".repeat(LOGIN_NAME_BYTES_MAX + 1);
        for wrong in ["", "Corp", "a/b", "a.b", "callback", "ä", &long] {
            assert!(!OidcLogin::is_id(wrong), "{wrong}");
        }
    }
}
