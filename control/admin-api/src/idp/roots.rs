//! Who vouches for identity providers.

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};

/// Where distributions keep the authorities that they trust, the first that exists counts:
/// Debian and Alpine, Red Hat before and after 7, SUSE, and the place that OpenSSL asks for.
pub const PLATFORM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there is nobody to vouch.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{path} is not PEM: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// A file has no certificate that can be used.
    #[error("there is no certificate of an authority in {path}")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// None of [`PLATFORM_BUNDLES`] exists.
    #[error("this system has no bundle of authorities in any usual place")]
    NoBundle,
}

/// The authorities of `file`, or else those that the platform trusts.
///
/// Of the operator's file every certificate must be usable: one that is left out would be
/// missed on the day it is needed. Of the platform's bundle those that are.
///
/// # Errors
/// See [`RootsError`].
pub fn roots(file: Option<&Path>) -> Result<RootCertStore, RootsError> {
    let platform = || PLATFORM_BUNDLES.iter().map(Path::new).find(|p| p.exists());
    let path = file.or_else(platform).ok_or(RootsError::NoBundle)?;
    let text = std::fs::read(path).map_err(|source| RootsError::File {
        path: path.into(),
        source,
    })?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|source| RootsError::Pem {
        path: path.into(),
        source,
    })?;
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(certificates);
    if store.is_empty() || (file.is_some() && unusable > 0) {
        return Err(RootsError::Empty { path: path.into() });
    }
    Ok(store)
}
