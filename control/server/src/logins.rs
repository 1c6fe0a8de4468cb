//! Whom people log in to the dashboard with, from `[dashboard]`.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use pinion_admin_api::{LOGIN_NAME_BYTES_MAX, LOGINS_MAX, OidcLogin, redirect_at};
use pinion_auth::login::{Client, ClientError};
use pinion_auth::provider::{Host, Url, UrlError};

use crate::config::{Config, Oidc};

/// Why nobody can log in as it is configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginsError {
    #[error(
        "[[dashboard.oidc]] needs dashboard.public_url: where browsers reach this node, such as https://pinion.example:8080"
    )]
    NoPublicUrl,
    #[error(
        "dashboard.public_url = '{text}': {source}; it has a scheme, a host and perhaps a port, and no path"
    )]
    PublicUrl { text: String, source: UrlError },
    #[error(
        "dashboard.public_url = '{0}': expected https:// but on loopback, or whoever is in between has the sessions"
    )]
    Cleartext(String),
    #[error("[[dashboard.oidc]]: at most {LOGINS_MAX}")]
    TooMany,
    #[error(
        "dashboard.oidc.id = '{0}': expected 1 to {LOGIN_NAME_BYTES_MAX} of a-z, 0-9 and -, each id once and none 'callback'"
    )]
    Id(String),
    #[error("dashboard.oidc {id}: {what}")]
    Value { id: String, what: &'static str },
    #[error("dashboard.oidc {id}: {source}")]
    Client { id: String, source: ClientError },
    #[error("cannot read {path}: {source}; see dashboard.oidc.client_secret_file")]
    Secret { path: PathBuf, source: io::Error },
}

/// Reads the files that `[dashboard]` names.
pub(crate) fn load(config: &Config) -> Result<Box<[OidcLogin]>, LoginsError> {
    let dashboard = &config.dashboard;
    let redirect = match &dashboard.public_url {
        Some(text) => Some(redirect(text)?),
        None => None,
    };
    if dashboard.oidc.is_empty() {
        return Ok(Box::default());
    }
    let redirect = redirect.ok_or(LoginsError::NoPublicUrl)?;
    if dashboard.oidc.len() > LOGINS_MAX {
        return Err(LoginsError::TooMany);
    }
    let each = dashboard.oidc.iter().enumerate().map(|(at, one)| {
        let before = &dashboard.oidc[..at];
        if !OidcLogin::is_id(&one.id) || before.iter().any(|other| other.id == one.id) {
            return Err(LoginsError::Id(one.id.clone()));
        }
        login(one, redirect.clone())
    });
    each.collect()
}

fn redirect(text: &str) -> Result<Url, LoginsError> {
    let redirect = redirect_at(text).map_err(|source| LoginsError::PublicUrl {
        text: text.to_owned(),
        source,
    })?;
    let local = match redirect.host() {
        Host::Name(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Address(address) => IpAddr::is_loopback(address),
    };
    if redirect.secure() || local {
        Ok(redirect)
    } else {
        Err(LoginsError::Cleartext(text.to_owned()))
    }
}

fn login(one: &Oidc, redirect: Url) -> Result<OidcLogin, LoginsError> {
    let wrong = |what| LoginsError::Value {
        id: one.id.clone(),
        what,
    };
    let label = one.label.as_ref().unwrap_or(&one.id);
    if !(1..=LOGIN_NAME_BYTES_MAX).contains(&label.len()) {
        return Err(wrong("label has 1 to 64 bytes"));
    }
    if one.tenant.is_empty() || one.issuer.is_empty() {
        return Err(wrong("tenant and issuer are not empty"));
    }
    let secret = match &one.client_secret_file {
        Some(path) => {
            let read = fs::read_to_string(path).map_err(|source| LoginsError::Secret {
                path: path.clone(),
                source,
            });
            Some(read?)
        }
        None => None,
    };
    let secret = secret.as_deref().map(str::trim_end);
    let client = Client::new(&one.client_id, secret, &one.scopes, redirect);
    let client = client.map_err(|source| LoginsError::Client {
        id: one.id.clone(),
        source,
    })?;
    Ok(OidcLogin {
        id: one.id.as_str().into(),
        label: label.as_str().into(),
        tenant: one.tenant.as_str().into(),
        issuer: one.issuer.as_str().into(),
        client,
    })
}

// What a message above says.
const _: () = assert!(LOGIN_NAME_BYTES_MAX == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dashboard;

    fn corp() -> Oidc {
        Oidc {
            id: "corp".into(),
            label: None,
            tenant: "acme".into(),
            issuer: "https://idp.example".into(),
            client_id: "pinion".into(),
            client_secret_file: None,
            scopes: vec!["openid".into()],
        }
    }

    fn with(public: Option<&str>, oidc: Vec<Oidc>) -> Result<Box<[OidcLogin]>, LoginsError> {
        load(&Config {
            dashboard: Dashboard {
                public_url: public.map(str::to_owned),
                oidc,
            },
            ..Config::default()
        })
    }

    #[test]
    fn a_provider_is_told_where_the_dashboard_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        fs::write(&path, "a secret\n").expect("written");
        let known = Oidc {
            label: Some("Corp".into()),
            client_secret_file: Some(path),
            ..corp()
        };
        let other = Oidc {
            id: "other".into(),
            ..corp()
        };
        let public = Some("https://pinion.example:8080");
        let made = with(public, vec![known, other]).expect("right");
        let labels: Vec<&str> = made.iter().map(|one| &*one.label).collect();
        assert_eq!(labels, ["Corp", "other"]);
        let redirect = redirect_at("https://pinion.example:8080").expect("a host");
        let expected = Client::new("pinion", Some("a secret"), &["openid"], redirect);
        assert_eq!(Ok(&made[0].client), expected.as_ref());
        assert!(with(None, Vec::new()).expect("nothing").is_empty());
        for local in [
            "http://127.0.0.1:8080",
            "http://localhost:1/",
            "http://[::1]:1",
        ] {
            assert!(with(Some(local), vec![corp()]).is_ok(), "{local}");
        }
    }

    #[test]
    fn what_would_let_nobody_in_is_named() {
        let public = Some("https://pinion.example");
        let many = (0..=LOGINS_MAX).map(|at| Oidc {
            id: format!("a{at}"),
            ..corp()
        });
        let missing = Oidc {
            client_secret_file: Some("/nowhere/secret".into()),
            ..corp()
        };
        let change = |change: fn(&mut Oidc)| {
            let mut one = corp();
            change(&mut one);
            vec![one]
        };
        for (public, oidc, said) in [
            (None, vec![corp()], "needs dashboard.public_url"),
            (Some("https://a/b"), vec![], "no path"),
            (Some("http://pinion.example"), vec![], "expected https://"),
            (public, vec![corp(), corp()], "each id once"),
            (public, change(|one| one.id = "callback".into()), "callback"),
            (
                public,
                change(|one| one.label = Some(String::new())),
                "label",
            ),
            (public, change(|one| one.tenant.clear()), "tenant"),
            (public, change(|one| one.client_id.clear()), "client's id"),
            (public, change(|one| one.scopes.clear()), "openid"),
            (public, vec![missing], "client_secret_file"),
            (public, many.collect(), "at most 16"),
        ] {
            let error = with(public, oidc).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
