//! From the structs of this crate to the plain ones of the format and back.

use pinion_types::{ResourceId, ResourceKind, WallMs};

use super::FormatError;
use crate::action::ActionPattern;
use crate::command::{Expect, IfExists};
use crate::identity::{Algorithm, Revoked};
use crate::ids::{BrokerNumber, MemberNumber, MetaVersion, RowId, TenantNumber};
use crate::member::MemberRole;
use crate::object::{KeyError, ObjectKey};
use crate::policy::PolicyObject;
use crate::resource::{AckPolicy, MoveStatus, Strategy};
use crate::subject::Subject;

/// What is stored as a `P`.
pub(super) trait Mirror<P>: Sized {
    fn store(&self) -> P;
    fn load(plain: P) -> Result<Self, FormatError>;
}

/// Defines a plain struct and both directions, field by field: a field that is
/// missing on either side does not compile.
macro_rules! mirror {
    ($(#[$doc:meta])* $name:ident of $domain:ty { $($field:ident: $plain:ty,)* }) => {
        $(#[$doc])*
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub(crate) struct $name {
            $(pub(crate) $field: $plain,)*
        }

        impl $crate::format::mirror::Mirror<$name> for $domain {
            fn store(&self) -> $name {
                $name { $($field: $crate::format::mirror::Mirror::store(&self.$field),)* }
            }

            fn load(plain: $name) -> Result<Self, $crate::format::FormatError> {
                Ok(Self { $($field: $crate::format::mirror::Mirror::load(plain.$field)?,)* })
            }
        }
    };
}
pub(super) use mirror;

macro_rules! as_number {
    ($($domain:ty => $plain:ty, $store:expr, $load:expr;)*) => {
        $(impl Mirror<$plain> for $domain {
            fn store(&self) -> $plain {
                let store: fn(&$domain) -> $plain = $store;
                store(self)
            }

            fn load(plain: $plain) -> Result<Self, FormatError> {
                let load: fn($plain) -> $domain = $load;
                Ok(load(plain))
            }
        })*
    };
}

as_number! {
    bool => bool, |b| *b, |b| b;
    u8 => u8, |n| *n, |n| n;
    u16 => u16, |n| *n, |n| n;
    u32 => u32, |n| *n, |n| n;
    u64 => u64, |n| *n, |n| n;
    ResourceId => u64, |n| n.0, ResourceId;
    u128 => [u8; 16], |n| n.to_le_bytes(), u128::from_le_bytes;
    WallMs => u64, |n| n.0, WallMs;
    MetaVersion => u64, |n| n.0, MetaVersion;
    TenantNumber => u64, |n| n.0, TenantNumber;
    RowId => u64, |n| n.0, RowId;
    MemberNumber => u64, |n| n.0, MemberNumber;
    BrokerNumber => u32, |n| n.0, BrokerNumber;
}

impl<const N: usize> Mirror<[u8; N]> for [u8; N] {
    fn store(&self) -> [u8; N] {
        *self
    }

    fn load(plain: [u8; N]) -> Result<Self, FormatError> {
        Ok(plain)
    }
}

impl Mirror<Vec<u8>> for Box<str> {
    fn store(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn load(plain: Vec<u8>) -> Result<Self, FormatError> {
        let text = String::from_utf8(plain).map_err(|_| FormatError::Text)?;
        Ok(text.into())
    }
}

/// What has a text that it is read from again.
macro_rules! as_text {
    ($($domain:ty, $load:expr;)*) => {
        $(impl Mirror<Vec<u8>> for $domain {
            fn store(&self) -> Vec<u8> {
                self.to_string().into_bytes()
            }

            fn load(plain: Vec<u8>) -> Result<Self, FormatError> {
                let load: fn(&str) -> Result<$domain, FormatError> = $load;
                let text = String::from_utf8(plain).map_err(|_| FormatError::Text)?;
                load(&text)
            }
        })*
    };
}

as_text! {
    ObjectKey, |text| Ok(text.parse()?);
    Subject, |text| Ok(Subject::parse(text)?);
    ActionPattern, |text| ActionPattern::parse(text).ok_or(FormatError::Action);
    PolicyObject, |text| Ok(PolicyObject::parse(text)?);
    Revoked, |text| Ok(text.parse().map_err(KeyError::from)?);
}

/// A byte of which only some are known.
macro_rules! as_byte {
    ($($domain:ty = $field:literal, $load:expr;)*) => {
        $(impl Mirror<u8> for $domain {
            fn store(&self) -> u8 {
                *self as u8
            }

            fn load(plain: u8) -> Result<Self, FormatError> {
                let load: fn(u8) -> Option<$domain> = $load;
                let (field, value) = ($field, plain.into());
                load(plain).ok_or(FormatError::Field { field, value })
            }
        })*
    };
}

as_byte! {
    ResourceKind = "kind", ResourceKind::from_u8;
    Algorithm = "algorithm", Algorithm::from_u8;
    AckPolicy = "ack", |byte| match byte {
        0 => Some(AckPolicy::Leader),
        1 => Some(AckPolicy::Quorum),
        _ => None,
    };
    MoveStatus = "status", |byte| match byte {
        0 => Some(MoveStatus::Pending),
        1 => Some(MoveStatus::Cancelled),
        _ => None,
    };
    Strategy = "strategy", |byte| match byte {
        0 => Some(Strategy::Balanced),
        1 => Some(Strategy::MinimizeMovement),
        2 => Some(Strategy::LocalityAware),
        _ => None,
    };
    MemberRole = "role", |byte| match byte {
        1 => Some(MemberRole::Joining),
        2 => Some(MemberRole::Voter),
        3 => Some(MemberRole::Observer),
        _ => None,
    };
    IfExists = "if_exists", |byte| match byte {
        0 => Some(IfExists::Same),
        1 => Some(IfExists::Refuse),
        _ => None,
    };
}

/// 0 nothing, 1 absent, version + 2: one number, because there are never so
/// many versions.
impl Mirror<u64> for Expect {
    fn store(&self) -> u64 {
        match self {
            Self::Any => 0,
            Self::Absent => 1,
            Self::Version(version) => version.0.saturating_add(2),
        }
    }

    fn load(plain: u64) -> Result<Self, FormatError> {
        Ok(match plain {
            0 => Self::Any,
            1 => Self::Absent,
            version => Self::Version(MetaVersion(version - 2)),
        })
    }
}

impl<P, T: Mirror<P>> Mirror<Option<P>> for Option<T> {
    fn store(&self) -> Option<P> {
        self.as_ref().map(Mirror::store)
    }

    fn load(plain: Option<P>) -> Result<Self, FormatError> {
        plain.map(Mirror::load).transpose()
    }
}

impl<P, T: Mirror<P>> Mirror<Vec<P>> for Box<[T]> {
    fn store(&self) -> Vec<P> {
        self.iter().map(Mirror::store).collect()
    }

    fn load(plain: Vec<P>) -> Result<Self, FormatError> {
        plain.into_iter().map(Mirror::load).collect()
    }
}
