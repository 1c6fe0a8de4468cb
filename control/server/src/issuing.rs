//! What the node issues credentials with: the master key, the way to identity providers, and
//! the listener of tenants' first days.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pinion_admin_api::idp::{self, Driver, Fetcher, RootsError};
use pinion_admin_api::{Bootstrap, Identity};
use pinion_auth::access::TokenDigest;
use pinion_auth::address::{Range, RangeError};
use pinion_auth::seal::{MasterKey, NotAMasterKey};
use rustls::RootCertStore;

use crate::config::{Auth, Config};
use crate::identity::{self, IdentityError};

/// Least bytes of the secret of the first day: what a generator of passwords makes.
const SECRET_BYTES_MIN: usize = 16;

/// Addresses that `--dev` asks besides public ones.
const DEV_ADDRESSES: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// The variable that holds the master key itself. It is no key of the configuration: what
/// shows that shows no secret.
pub(crate) const MASTER_KEY_VARIABLE: &str = "PINION_AUTH__MASTER_KEY";

/// Why nothing can be issued as it is configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuingError {
    #[error("cannot read {path}: {source}; see {key}")]
    File {
        key: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{path}: {source}; see auth.master_key_file")]
    Master {
        path: PathBuf,
        source: NotAMasterKey,
    },
    #[error("{MASTER_KEY_VARIABLE}: {0}")]
    Variable(NotAMasterKey),
    #[error(
        "there is a master key in {MASTER_KEY_VARIABLE} and one in auth.master_key_file: give one of them"
    )]
    TwoMasters,
    #[error("auth.idp_ca: {0}")]
    Roots(RootsError),
    #[error("auth.allow_addresses, '{text}': {source}")]
    Range { text: String, source: RangeError },
    #[error(
        "{path} has fewer than {SECRET_BYTES_MIN} bytes: put a longer secret into auth.bootstrap_token_file"
    )]
    ShortSecret { path: PathBuf },
    #[error(
        "auth.bootstrap_listen and auth.bootstrap_token_file go together: give both or neither"
    )]
    HalfBootstrap,
    #[error("TCP {address} for auth.bootstrap_listen: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
}

/// What a node issues with; the driver runs beside the control plane.
#[derive(Debug)]
pub(crate) struct Issuing {
    pub(crate) identity: Identity,
    pub(crate) driver: Driver,
    pub(crate) bootstrap: Option<Bootstrap>,
}

/// Reads the files that `[auth]` names, and binds the listener of first days.
pub(crate) fn load(config: &Config) -> Result<Issuing, IssuingError> {
    load_with(config, env::var_os(MASTER_KEY_VARIABLE))
}

/// The same with what [`MASTER_KEY_VARIABLE`] holds.
fn load_with(config: &Config, master_key: Option<OsString>) -> Result<Issuing, IssuingError> {
    let Auth {
        idp_ca,
        allow_addresses,
        allow_http,
        ..
    } = &config.auth;
    let roots = match idp::roots(idp_ca.as_deref()) {
        Ok(roots) => roots,
        // Whoever configured nothing may need nothing: then no provider is believed.
        Err(error @ RootsError::NoBundle) if idp_ca.is_none() => {
            tracing::debug!(%error, "no identity provider can be asked over TLS");
            RootCertStore::empty()
        }
        Err(error) => return Err(IssuingError::Roots(error)),
    };
    let dev = DEV_ADDRESSES.iter().filter(|_| config.dev).copied();
    let texts = allow_addresses.iter().map(String::as_str).chain(dev);
    let ranges = texts.map(|text| {
        Range::parse(text).map_err(|source| IssuingError::Range {
            text: text.to_owned(),
            source,
        })
    });
    let ranges = ranges.collect::<Result<Vec<_>, _>>()?;
    let (exchanges, driver) = idp::exchanges(Fetcher::new(roots, ranges));
    Ok(Issuing {
        identity: Identity {
            exchanges: Some(exchanges),
            master: master(config, master_key)?.map(Arc::new),
            cleartext_issuers: *allow_http || config.dev,
        },
        driver,
        bootstrap: bootstrap(&config.auth)?,
    })
}

/// The key that seals keys: the operator's, of a variable or a file, or with `--dev` the
/// node's own.
fn master(config: &Config, variable: Option<OsString>) -> Result<Option<MasterKey>, IssuingError> {
    let (path, text) = match (variable, &config.auth.master_key_file) {
        // Which of them counted would be found out when keys do not open any more.
        (Some(_), Some(_)) => return Err(IssuingError::TwoMasters),
        (Some(text), None) => {
            let master = MasterKey::parse(text.as_encoded_bytes());
            return master.map(Some).map_err(IssuingError::Variable);
        }
        (None, Some(path)) => (path.clone(), read("auth.master_key_file", path)?),
        (None, None) if config.dev => identity::dev_master(config)?,
        (None, None) => return Ok(None),
    };
    let master = MasterKey::parse(text.as_bytes());
    let master = master.map_err(|source| IssuingError::Master { path, source })?;
    Ok(Some(master))
}

fn bootstrap(auth: &Auth) -> Result<Option<Bootstrap>, IssuingError> {
    let (address, path) = match (auth.bootstrap_listen, &auth.bootstrap_token_file) {
        (Some(address), Some(path)) => (address, path),
        (None, None) => return Ok(None),
        _ => return Err(IssuingError::HalfBootstrap),
    };
    let secret = read("auth.bootstrap_token_file", path)?;
    let secret = secret.trim_end();
    if secret.len() < SECRET_BYTES_MIN {
        return Err(IssuingError::ShortSecret { path: path.clone() });
    }
    let listener = TcpListener::bind(address);
    let listener = listener.map_err(|source| IssuingError::Listen { address, source })?;
    Ok(Some(Bootstrap {
        listener,
        secret: TokenDigest::of(secret.as_bytes()),
    }))
}

fn read(key: &'static str, path: &Path) -> Result<String, IssuingError> {
    fs::read_to_string(path).map_err(|source| IssuingError::File {
        key,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Auth;

    fn with(dir: &Path, dev: bool, auth: Auth) -> Result<Issuing, IssuingError> {
        with_variable(dir, dev, auth, None)
    }

    fn with_variable(
        dir: &Path,
        dev: bool,
        auth: Auth,
        variable: Option<&str>,
    ) -> Result<Issuing, IssuingError> {
        let config = Config {
            dev,
            data_dir: dir.to_owned(),
            auth,
            ..Config::default()
        };
        load_with(&config, variable.map(OsString::from))
    }

    #[test]
    fn a_master_key_is_in_a_file_or_in_a_variable_and_not_in_both() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = "0123456789abcdef".repeat(4);
        let path = dir.path().join("master.key");
        fs::write(&path, format!("{key}\n")).expect("written");
        let in_file = || Auth {
            master_key_file: Some(path.clone()),
            ..Auth::default()
        };
        let id = |issuing: Issuing| issuing.identity.master.map(|master| master.id());
        let file = id(with(dir.path(), false, in_file()).expect("a file"));
        for dev in [false, true] {
            let variable = with_variable(dir.path(), dev, Auth::default(), Some(&key));
            assert_eq!(id(variable.expect("a variable")), file);
        }
        assert!(file.is_some());
        let refused = |auth, variable: &str| {
            let refused = with_variable(dir.path(), false, auth, Some(variable));
            refused.expect_err("refused").to_string()
        };
        let both = refused(in_file(), &key);
        for word in [MASTER_KEY_VARIABLE, "auth.master_key_file"] {
            assert!(both.contains(word), "{both}");
        }
        for wrong in ["", "abc", &key[1..], &key.to_uppercase()] {
            let said = refused(Auth::default(), wrong);
            assert!(said.starts_with(MASTER_KEY_VARIABLE), "{said}");
            assert!(wrong.len() < 4 || !said.contains(wrong), "{said}");
        }
    }

    #[test]
    fn a_node_for_development_has_a_master_key_that_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let id = |issuing: &Issuing| issuing.identity.master.as_ref().map(|master| master.id());
        let first = with(dir.path(), true, Auth::default()).expect("made");
        let again = with(dir.path(), true, Auth::default()).expect("read");
        assert!(id(&first).is_some());
        assert_eq!(id(&first), id(&again));
        assert!(first.identity.cleartext_issuers && first.bootstrap.is_none());
        let real = with(dir.path(), false, Auth::default()).expect("without keys");
        assert!(id(&real).is_none() && !real.identity.cleartext_issuers);
    }

    #[test]
    fn what_is_configured_wrong_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).expect("written");
            Some(path)
        };
        let refused = |auth: Auth| {
            with(dir.path(), false, auth)
                .expect_err("refused")
                .to_string()
        };
        let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        for (auth, said) in [
            (
                Auth {
                    master_key_file: file("short", "abc\n"),
                    ..Auth::default()
                },
                "auth.master_key_file",
            ),
            (
                Auth {
                    master_key_file: Some(dir.path().join("none")),
                    ..Auth::default()
                },
                "cannot read",
            ),
            (
                Auth {
                    idp_ca: file("empty.pem", ""),
                    ..Auth::default()
                },
                "auth.idp_ca",
            ),
            (
                Auth {
                    allow_addresses: vec!["10.0.0.1/8".into()],
                    ..Auth::default()
                },
                "the range begins at 10.0.0.0",
            ),
            (
                Auth {
                    bootstrap_listen: any,
                    ..Auth::default()
                },
                "go together",
            ),
            (
                Auth {
                    bootstrap_listen: any,
                    bootstrap_token_file: file("guessable", "secret\n"),
                    ..Auth::default()
                },
                "fewer than 16 bytes",
            ),
        ] {
            let error = refused(auth);
            assert!(error.contains(said), "{error}");
        }
        let right = Auth {
            master_key_file: file("master", &format!("{}\n", "5a".repeat(32))),
            bootstrap_listen: any,
            bootstrap_token_file: file("secret", "correct horse battery\n"),
            ..Auth::default()
        };
        let issuing = with(dir.path(), false, right).expect("right");
        let bootstrap = issuing.bootstrap.expect("a listener");
        assert_eq!(bootstrap.secret, TokenDigest::of(b"correct horse battery"));
    }
}
