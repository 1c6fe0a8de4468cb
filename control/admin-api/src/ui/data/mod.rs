//! From facts of the node to what pages show: pure, and each with its limits.

pub(crate) mod issues;
pub(crate) mod lately;
pub(crate) mod latency;
pub(crate) mod spec;
pub(crate) mod text;
pub(crate) mod trail;
pub(crate) mod why;

/// A count as something to sort or to draw by.
#[expect(clippy::cast_precision_loss, reason = "it is shown, not reckoned with")]
pub(crate) fn count(number: u64) -> f64 {
    number as f64
}

/// A rate as a whole number of things a second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is below nought or has no end becomes the nearest there is"
)]
pub(crate) fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

/// A part of one in thousandths.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it lies between 0 and 1000"
)]
pub(crate) fn permille(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * 1_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_thousandths_and_never_more_than_all() {
        assert_eq!(permille(0.9999), 999);
        assert_eq!(
            (permille(1.5), permille(-0.1), permille(f64::NAN)),
            (1_000, 0, 0)
        );
    }
}
