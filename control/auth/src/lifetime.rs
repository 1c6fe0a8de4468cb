//! When a credential counts.

use pinion_types::WallMs;

use crate::error::AuthError;

/// From when to when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// The first moment, if one is given. One from the future is not yet valid: it would
    /// outlive a revocation by time.
    pub(crate) from: Option<WallMs>,
    /// The first moment at which it is over (RFC 7519 §4.1.4).
    pub(crate) expires: WallMs,
}

impl Lifetime {
    /// Whether it counts at `wall`, on a clock that may be off by `skew_ms` either way.
    pub(crate) fn check(&self, wall: WallMs, skew_ms: u64) -> Result<(), AuthError> {
        if wall.0 >= self.expires.0.saturating_add(skew_ms) {
            return Err(AuthError::Expired { at: self.expires });
        }
        match self.from {
            Some(from) if wall.0.saturating_add(skew_ms) < from.0 => {
                Err(AuthError::NotYet { from })
            }
            _ => Ok(()),
        }
    }
}
