//! Everything the endpoint draws at random, derived from seeds the caller gives,
//! and the clock it needs for tokens, driven by the caller's `now`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use quinn_proto::TimeSource;
use ring::{hkdf, hmac};

/// A 32-byte key for one purpose: `HMAC-SHA256(seed, label)`. Different labels
/// give unrelated keys, so no two uses of one seed ever share randomness.
pub(crate) fn derive(seed: &[u8; 32], label: &str) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), label.as_bytes());
    let mut key = [0; 32];
    key.copy_from_slice(tag.as_ref());
    key
}

/// Key behind stateless reset tokens (RFC 9000 §10.3.2).
pub(crate) fn reset_key(secret: &[u8; 32]) -> Arc<hmac::Key> {
    Arc::new(hmac::Key::new(
        hmac::HMAC_SHA256,
        &derive(secret, "pinion quic stateless reset"),
    ))
}

/// Key behind Retry and NEW_TOKEN tokens (RFC 9000 §8.1).
pub(crate) fn token_key(secret: &[u8; 32]) -> Arc<hkdf::Prk> {
    let key = derive(secret, "pinion quic address tokens");
    Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&key))
}

/// Two instants that are the same moment: the node's monotonic clock and the
/// calendar. Token lifetimes are calendar time, everything else is monotonic.
#[derive(Debug, Clone, Copy)]
pub struct ClockAnchor {
    /// A moment on the monotonic clock, not later than the first `now`.
    pub monotonic: Instant,
    /// The same moment on the calendar.
    pub wall: SystemTime,
}

/// Calendar time as quinn-proto asks for it, moved only by [`TokenClock::advance`].
///
/// An atomic because quinn-proto wants `Sync`; one core alone writes and reads it.
#[derive(Debug)]
pub(crate) struct TokenClock {
    anchor: ClockAnchor,
    elapsed_ns: AtomicU64,
}

impl TokenClock {
    pub(crate) fn new(anchor: ClockAnchor) -> Self {
        Self {
            anchor,
            elapsed_ns: AtomicU64::new(0),
        }
    }

    /// Moves the clock to `now`. Called with every input, costs one store.
    pub(crate) fn advance(&self, now: Instant) {
        let elapsed = now
            .saturating_duration_since(self.anchor.monotonic)
            .as_nanos();
        // 2^64 ns is 584 years.
        self.elapsed_ns.store(
            u64::try_from(elapsed).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

impl TimeSource for TokenClock {
    fn now(&self) -> SystemTime {
        self.anchor.wall + Duration::from_nanos(self.elapsed_ns.load(Ordering::Relaxed))
    }
}
