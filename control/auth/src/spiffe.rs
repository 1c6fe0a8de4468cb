//! Workloads that prove who they are by a certificate: SPIFFE ids, such as those of
//! Kubernetes ServiceAccounts (`spiffe://cluster.local/ns/shop/sa/orders`).
//!
//! Who signed a certificate, and whether it counts now, is checked by whoever speaks TLS;
//! here is what it says.

use core::fmt;

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Longest id. The standard demands that 2048 bytes are *supported* by those who hand them
/// out; a subject of a policy has 512.
pub const SPIFFE_BYTES_MAX: usize = 512;

/// Longest trust domain (SPIFFE-ID §2.1).
const TRUST_DOMAIN_BYTES_MAX: usize = 255;

const SCHEME: &str = "spiffe://";

/// The id of a workload, in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: Box<str>,
    /// Where the path begins.
    path: usize,
}

/// Why there is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// The bytes are not an X.509 certificate of version 3.
    #[error("not a certificate")]
    Certificate,
    /// An X.509-SVID has exactly one URI among its names (X.509-SVID §2): with two, who it is
    /// would depend on the reader.
    #[error("{found} URIs in the certificate; one is expected")]
    Names {
        /// How many there are.
        found: usize,
    },
    /// Longer than [`SPIFFE_BYTES_MAX`].
    #[error("an id of {found} bytes; at most {SPIFFE_BYTES_MAX} are taken")]
    TooLong {
        /// How long it is.
        found: usize,
    },
    /// Not `spiffe://`, in lower case.
    #[error("an id begins with spiffe://")]
    Scheme,
    /// 1 to 255 of `a-z 0-9 . - _` are expected: no port, no user, no upper case.
    #[error("the trust domain is empty, too long, or holds what has no place there")]
    TrustDomain,
    /// Segments of `a-z A-Z 0-9 . - _` are expected, none of them empty, `.` or `..`. An id
    /// without a path is that of the trust domain, which is nobody who works.
    #[error("the path is missing, or a segment is empty, dots, or holds what has no place there")]
    Path,
}

impl SpiffeId {
    /// Reads an id (SPIFFE-ID §2).
    ///
    /// # Errors
    /// See [`SpiffeError`].
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > SPIFFE_BYTES_MAX {
            return Err(SpiffeError::TooLong { found: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
        let domain = rest.split('/').next().unwrap_or(rest);
        let in_domain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if !(1..=TRUST_DOMAIN_BYTES_MAX).contains(&domain.len()) || !domain.bytes().all(in_domain) {
            return Err(SpiffeError::TrustDomain);
        }
        let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let segment = |one: &str| !matches!(one, "" | "." | "..") && one.bytes().all(in_path);
        let path = rest[domain.len()..].strip_prefix('/');
        if !path.is_some_and(|path| path.split('/').all(segment)) {
            return Err(SpiffeError::Path);
        }
        Ok(Self {
            text: text.into(),
            path: SCHEME.len() + domain.len(),
        })
    }

    /// The id in a certificate whose chain was checked.
    ///
    /// # Errors
    /// See [`SpiffeError`].
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, SpiffeError> {
        let certificate =
            EndEntityCert::try_from(certificate).map_err(|_| SpiffeError::Certificate)?;
        let mut names = certificate.valid_uri_names();
        match (names.next(), names.count()) {
            (Some(only), 0) => Self::parse(only),
            (first, more) => Err(SpiffeError::Names {
                found: usize::from(first.is_some()) + more,
            }),
        }
    }

    /// As it is written: a subject of policies.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Who vouches for it.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.path]
    }

    /// Which of that domain's workloads it is; begins with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path..]
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
