//! What is kept: objects under keys, all in one order and under one sequence of
//! versions.

use core::fmt;
use core::str::FromStr;

use pinion_types::{NameError, WallMs};

use crate::ids::MetaVersion;
use crate::name;
use crate::tenant::{Namespace, Tenant};

/// What an object is called. The derived order (kind, then part by part) is the
/// order of lists, of snapshots, and of the versions that one command gives out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// `tenant/{t}`
    Tenant(Box<str>),
    /// `namespace/{t}/{ns}`
    Namespace {
        /// Whose it is.
        tenant: Box<str>,
        /// Its name.
        name: Box<str>,
    },
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The first part is no kind of object.
    #[error("the first part names no kind of object")]
    Kind,
    /// Too few or too many parts for the kind.
    #[error("the key has too few or too many parts")]
    Parts,
    /// A part breaks the grammar.
    #[error("a part breaks the grammar: {0}")]
    Name(#[from] NameError),
}

impl ObjectKey {
    /// The key of a tenant.
    #[must_use]
    pub fn tenant(name: &str) -> Self {
        Self::Tenant(name.into())
    }

    /// The key of a namespace.
    #[must_use]
    pub fn namespace(tenant: &str, name: &str) -> Self {
        Self::Namespace {
            tenant: tenant.into(),
            name: name.into(),
        }
    }

    /// The object this one lives in; it exists as long as this one does.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::Tenant(_) => None,
            Self::Namespace { tenant, .. } => Some(Self::Tenant(tenant.clone())),
        }
    }

    /// Whether every part follows its grammar.
    pub(crate) fn check(&self) -> Result<(), NameError> {
        match self {
            Self::Tenant(tenant) => name::lower_segment(tenant),
            Self::Namespace { tenant, name } => {
                name::lower_segment(tenant)?;
                name::segment(name)
            }
        }
    }
}

/// `kind/part/part`, which [`ObjectKey::from_str`] reads again.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(tenant) => write!(f, "tenant/{tenant}"),
            Self::Namespace { tenant, name } => write!(f, "namespace/{tenant}/{name}"),
        }
    }
}

impl FromStr for ObjectKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (kind, rest) = text.split_once('/').ok_or(KeyError::Parts)?;
        let key = match kind {
            "tenant" => Self::Tenant(rest.into()),
            "namespace" => {
                let (tenant, name) = rest.split_once('/').ok_or(KeyError::Parts)?;
                Self::namespace(tenant, name)
            }
            _ => return Err(KeyError::Kind),
        };
        key.check()?;
        Ok(key)
    }
}

/// What every object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is called.
    pub key: ObjectKey,
    /// When it was made, by the stamp of that command.
    pub created: WallMs,
    /// When it was last changed.
    pub updated: WallMs,
    /// Version of the metadata that its last change made; no other object has it.
    pub version: MetaVersion,
    /// 1 when it was made, and one more with each change of what was asked for.
    pub generation: u64,
}

/// What is kept under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What every object has.
    pub meta: Meta,
    /// What this one is.
    pub body: Body,
}

/// What an object is; the variant is the one of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Under [`ObjectKey::Tenant`].
    Tenant(Tenant),
    /// Under [`ObjectKey::Namespace`].
    Namespace(Namespace),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_their_texts() {
        for key in [
            ObjectKey::tenant("acme"),
            ObjectKey::namespace("acme", "Pay.ments_1-2"),
        ] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let parse = ObjectKey::from_str;
        assert_eq!(parse("tenant"), Err(KeyError::Parts));
        assert_eq!(parse("namespace/acme"), Err(KeyError::Parts));
        assert_eq!(parse("realm/acme"), Err(KeyError::Kind));
        assert_eq!(parse("tenant/"), Err(NameError::EmptySegment.into()));
        let upper = NameError::BadByte {
            byte: b'A',
            position: 0,
        };
        assert_eq!(parse("tenant/Acme"), Err(upper.into()));
        assert_eq!(
            parse("namespace/acme/.."),
            Err(NameError::DotSegment.into())
        );
        let slash = NameError::BadByte {
            byte: b'/',
            position: 1,
        };
        assert_eq!(parse("namespace/acme/a/b"), Err(slash.into()));
    }
}
