//! `[deletion]` and `[audit]`: for how long what is over is kept.

use std::time::Duration;

use pinion_metadata::limits::GRACE_MS_MAX;
use pinion_plane::AuditConfig;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::control::boot::AUDIT_SEGMENT_BYTES;

/// Longest that rows are kept: what a wall clock that is wrong by years does not reach.
const KEEP_DAYS_MAX: u32 = 3_650;

/// Rows are removed by whole segments, and one of them is being written.
const KEEP_BYTES_MIN: u64 = 4 * AUDIT_SEGMENT_BYTES;

/// As much as the smallest disk that anybody would give a node.
const KEEP_BYTES_MAX: u64 = 1 << 40;

/// What is deleted.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Deletion {
    /// Milliseconds from a deletion to its purge where the request does not say. It is one
    /// for the whole cluster: that of the node that started last and says something.
    pub(crate) grace_ms: Option<u64>,
}

/// The audit log of this node.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Audit {
    /// Days that a row is kept.
    pub(crate) keep_days: u32,
    /// Bytes of rows that are kept; the oldest go first.
    pub(crate) keep_bytes: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            keep_days: 90,
            keep_bytes: 256 << 20,
        }
    }
}

impl Deletion {
    pub(super) fn check(self) -> Result<(), ConfigError> {
        match self.grace_ms {
            Some(grace) if !(1..=GRACE_MS_MAX).contains(&grace) => Err(ConfigError::Value {
                key: "deletion.grace_ms",
                value: grace.to_string(),
                expected: "milliseconds from 1 to 315360000000 (ten years)",
            }),
            _ => Ok(()),
        }
    }
}

impl Audit {
    pub(super) fn check(self) -> Result<(), ConfigError> {
        if !(1..=KEEP_DAYS_MAX).contains(&self.keep_days) {
            return Err(ConfigError::Value {
                key: "audit.keep_days",
                value: self.keep_days.to_string(),
                expected: "days from 1 to 3650",
            });
        }
        if !(KEEP_BYTES_MIN..=KEEP_BYTES_MAX).contains(&self.keep_bytes) {
            return Err(ConfigError::Value {
                key: "audit.keep_bytes",
                value: self.keep_bytes.to_string(),
                expected: "bytes from 4194304 (4 MiB) to 1099511627776 (1 TiB)",
            });
        }
        Ok(())
    }

    /// As the plane takes it.
    pub(crate) fn plane(self) -> AuditConfig {
        AuditConfig {
            segment_bytes: AUDIT_SEGMENT_BYTES,
            keep: Duration::from_secs(u64::from(self.keep_days) * 24 * 3600),
            keep_bytes: self.keep_bytes,
            ..AuditConfig::default()
        }
    }
}

// What the messages above say.
const _: () = assert!(GRACE_MS_MAX == 315_360_000_000);
const _: () = assert!(KEEP_BYTES_MIN == 4_194_304 && KEEP_BYTES_MAX == 1_099_511_627_776);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_keep_nothing_or_for_ever_is_refused() {
        Audit::default().check().expect("good");
        let days = |keep_days| Audit {
            keep_days,
            ..Audit::default()
        };
        let bytes = |keep_bytes| Audit {
            keep_bytes,
            ..Audit::default()
        };
        for (wrong, word) in [
            (days(0), "audit.keep_days = '0'"),
            (days(3_651), "audit.keep_days = '3651'"),
            (bytes(KEEP_BYTES_MIN - 1), "audit.keep_bytes = '4194303'"),
            (bytes(KEEP_BYTES_MAX + 1), "audit.keep_bytes"),
        ] {
            let said = wrong.check().expect_err("nonsense").to_string();
            assert!(said.contains(word), "{said}");
        }
        let grace = |grace_ms| Deletion { grace_ms }.check();
        assert!(grace(None).is_ok() && grace(Some(1)).is_ok());
        assert!(grace(Some(0)).is_err() && grace(Some(GRACE_MS_MAX + 1)).is_err());
    }

    #[test]
    fn the_plane_keeps_what_was_said() {
        let audit = Audit {
            keep_days: 2,
            keep_bytes: 8 << 20,
        };
        let plane = audit.plane();
        assert_eq!(plane.keep, Duration::from_secs(172_800));
        assert_eq!(plane.keep_bytes, 8 << 20);
    }
}
