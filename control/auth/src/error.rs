//! Why a credential was refused.

use core::time::Duration;

use pinion_types::WallMs;

use crate::jwks_cache::FetchFailure;

/// Why a credential proves nobody. Nothing was changed by looking at it.
///
/// The text is for logs. What a client is told is decided where it is answered: to the
/// holder of a guess, *why* it was wrong is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Nothing was shown.
    #[error("no credential")]
    Missing,
    /// It does not have the form that was asked for; `what` says which rule it breaks.
    #[error("malformed: {what}")]
    Malformed {
        /// The rule, in words.
        what: &'static str,
    },
    /// It is longer than `limit` bytes. Nothing of it was read.
    #[error("longer than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: usize,
    },
    /// No key of that name, or none by which it can be checked.
    #[error("signed by a key that is not known")]
    UnknownKey,
    /// Its algorithm is not one that the issuer is pinned to, or not one of its key's.
    #[error("the algorithm is not allowed for this issuer or key")]
    WrongAlgorithm,
    /// The signature is not that key's over these bytes.
    #[error("the signature does not fit")]
    BadSignature,
    /// It was valid until `at`.
    #[error("expired at {} ms", at.0)]
    Expired {
        /// As the credential says, without the skew that was allowed.
        at: WallMs,
    },
    /// It is not valid before `from`.
    #[error("not valid before {} ms", from.0)]
    NotYet {
        /// As the credential says, without the skew that was allowed.
        from: WallMs,
    },
    /// Issued by somebody else.
    #[error("issued by somebody else")]
    WrongIssuer,
    /// Issued for somebody else.
    #[error("issued for another audience")]
    WrongAudience,
    /// Made for another login than this one.
    #[error("made for another login")]
    WrongNonce,
    /// Signed with the key of a tenant other than the one it names.
    #[error("issued for another tenant")]
    WrongTenant,
    /// Taken back before its end.
    #[error("revoked")]
    Revoked,
    /// The keys that would check it cannot be had now. Nothing was found wrong with it:
    /// come back in `retry`.
    #[error("the issuer's keys are not available: {why}")]
    IssuerUnavailable {
        /// When it is of use to ask again.
        retry: Duration,
        /// What went wrong last.
        why: FetchFailure,
    },
}
