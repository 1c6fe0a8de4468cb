//! What the two ends agree on before anything else.

use pinion_types::{ErrorCode, FactId, Refusal};
use pinion_wire::message::Hello;

/// Oldest protocol version this server speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest protocol version this server speaks.
pub const VERSION_MAX: u16 = 1;
/// Capability bits this server knows. A bit outside is refused, never ignored:
/// a client that believes in a feature must not be told yes by silence.
pub const CAPABILITIES: u64 = 0;

/// First bytes of every HELLO body.
const MAGIC: [u8; 4] = *b"PNN1";

/// What both ends will speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The highest version both know.
    pub version: u16,
    /// Capability bits in force.
    pub capabilities: u64,
}

/// Finds what both ends know.
///
/// # Errors
/// `Malformed` for another magic, `UnsupportedVersion` with `Min` and `Max`,
/// `UnknownBits` with the bits that are not known.
pub fn negotiate(hello: &Hello<'_>) -> Result<Negotiated, Refusal> {
    if hello.magic != MAGIC {
        return Err(Refusal::new(ErrorCode::Malformed));
    }
    let version = hello.version_max.min(VERSION_MAX);
    if version < hello.version_min.max(VERSION_MIN) {
        return Err(Refusal::new(ErrorCode::UnsupportedVersion)
            .with(FactId::Min, u64::from(VERSION_MIN))
            .with(FactId::Max, u64::from(VERSION_MAX)));
    }
    let unknown = hello.capabilities & !CAPABILITIES;
    if unknown != 0 {
        return Err(Refusal::new(ErrorCode::UnknownBits).with(FactId::Actual, unknown));
    }
    Ok(Negotiated {
        version,
        capabilities: hello.capabilities,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version_min: u16, version_max: u16, capabilities: u64) -> Hello<'static> {
        Hello {
            magic: MAGIC,
            version_min,
            version_max,
            capabilities,
            token: b"t",
            client_name: "test",
        }
    }

    #[test]
    fn the_highest_common_version_is_taken() {
        let agreed = negotiate(&hello(1, 9, 0)).expect("1 is common");
        assert_eq!(agreed.version, VERSION_MAX);
    }

    #[test]
    fn what_is_not_common_is_refused_with_what_would_be() {
        let refusal = negotiate(&hello(2, 9, 0)).expect_err("2 is unknown here");
        assert_eq!(refusal.code, ErrorCode::UnsupportedVersion);
        assert_eq!(refusal.fact(FactId::Max), Some(1));
        let refusal = negotiate(&hello(1, 0, 0)).expect_err("empty range");
        assert_eq!(refusal.code, ErrorCode::UnsupportedVersion);
        let refusal = negotiate(&hello(1, 1, 0b101)).expect_err("unknown bits");
        assert_eq!(refusal.fact(FactId::Actual), Some(0b101));
        let mut other = hello(1, 1, 0);
        other.magic = *b"HTTP";
        assert_eq!(
            negotiate(&other).expect_err("other protocol").code,
            ErrorCode::Malformed
        );
    }
}
