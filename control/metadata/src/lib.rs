//! What the cluster knows, as a deterministic function of commands.
//!
//! Every replica starts from [`Metadata::genesis`] and applies the same
//! [`Envelope`]s in the same order; equal inputs give equal states, equal
//! snapshots and equal hashes. Time, identifiers and keys come in commands.
//!
//! This crate reads no clock, draws no randomness, does no I/O and has no
//! opinion on who may ask: the proposer authorises, this applies. It never
//! panics on any bytes that decoded.
//!
//! Start with [`Metadata::apply`], then [`command`] for what can be asked and
//! [`object`] for what is kept. The bytes of commands and snapshots are in
//! `docs/metadata-format.md`.

#![forbid(unsafe_code)]

mod action;
mod apply;
pub mod broker;
pub mod command;
mod draft;
pub mod error;
mod format;
mod founding;
pub mod identity;
mod ids;
mod invariants;
pub mod limits;
mod list;
pub mod member;
mod name;
pub mod object;
mod place;
mod policy;
mod rbac;
mod requests;
pub mod resource;
pub mod settings;
mod state;
mod subject;
pub mod tenant;
mod usage;
mod watch;

pub use action::{Action, ActionPattern};
pub use command::{Command, Envelope, Expect};
pub use error::{MetaCode, MetaError, NameOf, Quota};
pub use format::{FormatError, HEADER_BYTES};
pub use founding::Founder;
pub use ids::{BrokerNumber, MemberNumber, MetaVersion, RowId, TenantNumber};
pub use invariants::Broken;
pub use list::{Filter, ListQuery, ObjectKind, Page};
pub use object::{Body, Deleting, KeyError, Meta, Object, ObjectKey, Tombstone};
pub use policy::{ObjectError, Part, PolicyObject, ScopeKind};
pub use rbac::{Grouping, Policy};
pub use state::{Applied, Change, ChangeKind, Duty, Metadata, Outcome, SnapshotSource};
pub use subject::{SPIFFE_BYTES_MAX, SUBJECT_BYTES_MAX, Subject, SubjectError, SubjectOf};
pub use usage::Usage;
pub use watch::{Changes, ResnapshotRequired};
