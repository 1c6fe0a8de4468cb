//! Cookies (RFC 6265bis): the session, the logins that are under way, and light or dark.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use pinion_admin_ui::model::Theme;

/// What a cookie is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// The number of the session.
    Session,
    /// What the token of a login form is made from.
    Login,
    /// The number of the login that an identity provider is asked for.
    Oidc,
    /// `light` or `dark`.
    Theme,
}

impl Cookie {
    /// Over TLS the prefix makes a browser keep to `Secure`, `Path=/` and this one host,
    /// whatever somebody between or beside it sets (RFC 6265bis §4.1.3.2).
    const fn name(self, tls: bool) -> &'static str {
        match (self, tls) {
            (Self::Session, true) => "__Host-pinion",
            (Self::Session, false) => "pinion",
            (Self::Login, true) => "__Host-pinion-login",
            (Self::Login, false) => "pinion-login",
            (Self::Oidc, true) => "__Host-pinion-oidc",
            (Self::Oidc, false) => "pinion-oidc",
            (Self::Theme, true) => "__Host-pinion-theme",
            (Self::Theme, false) => "pinion-theme",
        }
    }

    /// How long a browser keeps it, in seconds; `None` is until it is closed.
    const fn kept_s(self) -> Option<u32> {
        match self {
            Self::Session => None,
            Self::Login | Self::Oidc => Some(600),
            Self::Theme => Some(365 * 24 * 3600),
        }
    }

    /// Whose pages make a browser send it. From an identity provider a browser comes back by
    /// a link of somebody else, with `Lax` cookies alone; it opens nothing by itself.
    const fn site(self) -> &'static str {
        match self {
            Self::Oidc => "Lax",
            Self::Session | Self::Login | Self::Theme => "Strict",
        }
    }

    /// Its value in a request; of two of one name that is nobody's.
    pub(crate) fn of(self, headers: &HeaderMap, tls: bool) -> Option<&str> {
        let name = self.name(tls);
        let lines = headers.get_all(COOKIE).iter();
        let pairs = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let mut found = pairs.filter(|(other, _)| *other == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// `Set-Cookie` with a value, which has no character that means something there.
    pub(crate) fn set(self, tls: bool, value: &str) -> String {
        let kept = self
            .kept_s()
            .map_or(String::new(), |seconds| format!("; Max-Age={seconds}"));
        self.line(tls, value, &kept)
    }

    /// `Set-Cookie` that takes it away.
    pub(crate) fn forget(self, tls: bool) -> String {
        self.line(tls, "", "; Max-Age=0")
    }

    fn line(self, tls: bool, value: &str, kept: &str) -> String {
        let secure = if tls { "; Secure" } else { "" };
        let site = self.site();
        format!(
            "{}={value}; Path=/; HttpOnly; SameSite={site}{secure}{kept}",
            self.name(tls)
        )
    }
}

/// What the cookie says of light and dark.
pub(crate) fn theme(headers: &HeaderMap, tls: bool) -> Theme {
    match Cookie::Theme.of(headers, tls) {
        Some("light") => Theme::Light,
        Some("dark") => Theme::Dark,
        _ => Theme::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        headers
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_and_only_where_it_is_alone() {
        let session = |lines: &[&'static str], tls| {
            let headers = headers(lines);
            Cookie::Session.of(&headers, tls).map(str::to_owned)
        };
        let found = Some("abc".to_owned());
        assert_eq!(session(&["a=b; __Host-pinion=abc"], true), found);
        assert_eq!(session(&["a=b", "__Host-pinion=abc;c=d"], true), found);
        assert_eq!(session(&["pinion=abc"], true), None, "of no secure origin");
        assert_eq!(session(&["__Host-pinion=abc"], false), None);
        assert_eq!(session(&["pinion=abc; pinion=d"], false), None);
        assert_eq!(session(&["pinion-theme=dark"], false), None);
        assert_eq!(theme(&headers(&["pinion-theme=dark"]), false), Theme::Dark);
        assert_eq!(theme(&headers(&["pinion-theme=x"]), false), Theme::Auto);
    }

    #[test]
    fn the_session_is_for_this_host_over_tls_and_for_no_script() {
        assert_eq!(
            Cookie::Session.set(true, "x"),
            "__Host-pinion=x; Path=/; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(
            Cookie::Session.set(false, "x"),
            "pinion=x; Path=/; HttpOnly; SameSite=Strict"
        );
        assert!(Cookie::Session.forget(true).ends_with("; Max-Age=0"));
        assert_eq!(
            Cookie::Oidc.set(true, "x"),
            "__Host-pinion-oidc=x; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=600"
        );
    }
}
