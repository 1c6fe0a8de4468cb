//! API keys: for machines that have no identity provider.
//!
//! A key holds 256 random bits, so a fast hash of it is as good as a slow one, and a lookup
//! by that hash says nothing about how much of a guess was right.

use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::hex;

/// How each API key begins.
const BEGINNING: &str = "pinion_key_";

/// Length of an API key.
pub const API_KEY_BYTES: usize = BEGINNING.len() + 8 + 1 + 64;

/// SHA-256 of an API key's text. The key itself is shown once and never kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiKeyDigest(pub [u8; 32]);

impl fmt::Debug for ApiKeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyDigest(..)")
    }
}

/// What is kept of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Eight hexadecimal digits that people tell keys apart by, in lists and logs.
    pub prefix: [u8; 8],
    /// What it is looked up by.
    pub digest: ApiKeyDigest,
}

impl ApiKey {
    /// Makes a key of random bytes drawn by the caller: what is kept, and the text to show.
    #[must_use]
    pub fn mint(prefix: [u8; 4], secret: &[u8; 32]) -> (Self, String) {
        let text = format!(
            "{BEGINNING}{}_{}",
            hex::encode(&prefix),
            hex::encode(secret)
        );
        let key = Self::parse(text.as_bytes()).expect("a key that was just made has its form");
        (key, text)
    }

    /// Whether these bytes can only be meant as an API key.
    #[must_use]
    pub fn recognise(bytes: &[u8]) -> bool {
        bytes.starts_with(BEGINNING.as_bytes())
    }

    /// Reads a key that somebody showed; `None` when it does not have the form.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let rest = text.strip_prefix(BEGINNING.as_bytes())?;
        let (prefix, rest) = rest.split_first_chunk::<8>()?;
        hex::decode::<4>(prefix)?;
        hex::decode::<32>(rest.strip_prefix(b"_")?)?;
        Some(Self {
            prefix: *prefix,
            digest: ApiKeyDigest(Sha256::digest(text).into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_once_and_recognised_by_its_digest() {
        let (key, text) = ApiKey::mint([0xde, 0xad, 0, 1], &[0x5a; 32]);
        assert_eq!(text.len(), API_KEY_BYTES);
        assert_eq!(&text[..20], "pinion_key_dead0001_");
        assert_eq!(ApiKey::parse(text.as_bytes()), Some(key));
        assert_eq!(&key.prefix, b"dead0001");
        assert!(ApiKey::recognise(text.as_bytes()));
        assert!(!format!("{key:?}").contains("5a5a"));

        let (other, _) = ApiKey::mint([0xde, 0xad, 0, 1], &[0x5b; 32]);
        assert_ne!(other.digest, key.digest);
        let (other, _) = ApiKey::mint([0xde, 0xad, 0, 2], &[0x5a; 32]);
        assert_ne!(other.digest, key.digest);
    }

    #[test]
    fn a_key_has_one_spelling() {
        let (_, text) = ApiKey::mint([1, 2, 3, 4], &[0xab; 32]);
        let text = text.as_bytes();
        for end in 0..text.len() {
            assert_eq!(ApiKey::parse(&text[..end]), None);
        }
        for wrong in [
            text.to_ascii_uppercase(),
            [text, b"\n"].concat(),
            [b" ", text].concat(),
            [&text[..19], b"-", &text[20..]].concat(),
            [&text[..20], &[b'g'; 64]].concat(),
            [&text[..11], b"0000000g", &text[19..]].concat(),
        ] {
            assert_eq!(ApiKey::parse(&wrong), None);
        }
    }
}
