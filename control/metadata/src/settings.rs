//! What holds for the whole cluster and may be changed while it runs. Only who
//! proposes reads it: a command says what follows from it, so that replicas never
//! differ over a default.

use crate::error::MetaError;
use crate::limits::{
    GRACE_MS_MAX, HEARTBEAT_MS_MAX, HEARTBEAT_MS_MIN, MISSED_MAX, TOKEN_LIFE_S_MAX,
    TOKEN_LIFE_S_MIN,
};
use crate::name;

/// The settings of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Milliseconds between two beats of a broker; [`HEARTBEAT_MS_MIN`] to
    /// [`HEARTBEAT_MS_MAX`].
    pub heartbeat_ms: u32,
    /// Beats in a row after whose absence a broker is down; 1 to [`MISSED_MAX`].
    pub missed: u16,
    /// Milliseconds from a deletion to its purge where the request does not say;
    /// 1 to [`GRACE_MS_MAX`].
    pub grace_ms: u64,
    /// Seconds that a token lives; [`TOKEN_LIFE_S_MIN`] to [`TOKEN_LIFE_S_MAX`].
    pub token_life_s: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 5_000,
            missed: 3,
            grace_ms: 7 * 24 * 3600 * 1000,
            token_life_s: 900,
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), MetaError> {
        for (field, actual, min, max) in [
            (
                "heartbeat_ms",
                self.heartbeat_ms.into(),
                HEARTBEAT_MS_MIN.into(),
                HEARTBEAT_MS_MAX.into(),
            ),
            ("missed", self.missed.into(), 1, MISSED_MAX.into()),
            ("grace_ms", self.grace_ms, 1, GRACE_MS_MAX),
            (
                "token_life_s",
                self.token_life_s.into(),
                TOKEN_LIFE_S_MIN.into(),
                TOKEN_LIFE_S_MAX.into(),
            ),
        ] {
            name::range(field, actual, min, max)?;
        }
        Ok(())
    }
}
