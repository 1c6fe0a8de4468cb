//! Whom a policy speaks of.

use core::fmt;

use pinion_types::NameError;

use crate::name;

/// Longest subject of a person, a service or a group, after its prefix, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 256;

/// Longest SPIFFE id in bytes.
pub const SPIFFE_BYTES_MAX: usize = 512;

/// Whom a policy or grouping speaks of; checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Box<str>);

/// What a subject is, with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectOf<'a> {
    /// `p:…`: a person or a service.
    Principal(&'a str),
    /// `g:…`: a group that the identity provider speaks of.
    Group(&'a str),
    /// `role:…`: a role of the tenant.
    Role(&'a str),
    /// `spiffe://…`: a workload, by its certificate.
    Workload(&'a str),
}

/// Why a text is no subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It begins with none of the prefixes.
    #[error("a subject begins with p: g: role: or spiffe://")]
    Prefix,
    /// Nothing after the prefix, or too much.
    #[error("{len} bytes, allowed are 1 to {max}")]
    Length {
        /// How many there are.
        len: usize,
        /// How many there may be.
        max: usize,
    },
    /// White space or a control character.
    #[error("white space or a control character at byte {position}")]
    NotVisible {
        /// Where.
        position: usize,
    },
    /// A role's name breaks the grammar.
    #[error("the role's name: {0}")]
    Role(NameError),
}

impl Subject {
    /// Checks a text.
    ///
    /// # Errors
    /// [`SubjectError`], the first fault.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        match of(text).ok_or(SubjectError::Prefix)? {
            SubjectOf::Principal(name) | SubjectOf::Group(name) => {
                visible(name, 0, SUBJECT_BYTES_MAX)?;
            }
            SubjectOf::Role(name) => name::segment(name).map_err(SubjectError::Role)?,
            SubjectOf::Workload(id) => visible(id, "spiffe://".len(), SPIFFE_BYTES_MAX)?,
        }
        Ok(Self(text.into()))
    }

    /// The role of this name, which follows the grammar.
    pub(crate) fn role(name: &str) -> Self {
        Self(format!("role:{name}").into())
    }

    /// What it is.
    #[must_use]
    pub fn of(&self) -> SubjectOf<'_> {
        of(&self.0).expect("it was checked")
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn of(text: &str) -> Option<SubjectOf<'_>> {
    if let Some(name) = text.strip_prefix("p:") {
        Some(SubjectOf::Principal(name))
    } else if let Some(name) = text.strip_prefix("g:") {
        Some(SubjectOf::Group(name))
    } else if let Some(name) = text.strip_prefix("role:") {
        Some(SubjectOf::Role(name))
    } else if text.starts_with("spiffe://") {
        Some(SubjectOf::Workload(text))
    } else {
        None
    }
}

/// More than `min` and at most `max` bytes, none of which hides.
fn visible(text: &str, min: usize, max: usize) -> Result<(), SubjectError> {
    let len = text.len();
    if len <= min || len > max {
        return Err(SubjectError::Length { len, max });
    }
    let hidden = |c: char| c.is_control() || c.is_whitespace();
    match text.char_indices().find(|(_, c)| hidden(*c)) {
        Some((position, _)) => Err(SubjectError::NotVisible { position }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_what_their_prefixes_say() {
        let parse =
            |text: &str| Subject::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            parse("p:alice@example.com").of(),
            SubjectOf::Principal("alice@example.com")
        );
        assert_eq!(parse("g:Büro").of(), SubjectOf::Group("Büro"));
        assert_eq!(parse("role:admin").of(), SubjectOf::Role("admin"));
        let workload = "spiffe://cluster.local/ns/a/sa/b";
        assert_eq!(parse(workload).of(), SubjectOf::Workload(workload));
        assert_eq!(parse(workload).to_string(), workload);
        assert_eq!(parse("p:x").as_str(), "p:x");
    }

    #[test]
    fn what_is_no_subject_is_refused() {
        let refused = |text: &str, error| assert_eq!(Subject::parse(text), Err(error), "{text}");
        for text in ["", "alice", "P:alice", "spiffe:/x"] {
            refused(text, SubjectError::Prefix);
        }
        refused("p:", SubjectError::Length { len: 0, max: 256 });
        refused(
            &format!("g:{}", "x".repeat(257)),
            SubjectError::Length { len: 257, max: 256 },
        );
        refused("spiffe://", SubjectError::Length { len: 9, max: 512 });
        refused("p:a b", SubjectError::NotVisible { position: 1 });
        refused("p:a\u{7f}", SubjectError::NotVisible { position: 1 });
        refused("g:\u{2003}", SubjectError::NotVisible { position: 0 });
        refused(
            "role:a/b",
            SubjectError::Role(NameError::BadByte {
                byte: b'/',
                position: 1,
            }),
        );
        refused("role:", SubjectError::Role(NameError::EmptySegment));
    }
}
