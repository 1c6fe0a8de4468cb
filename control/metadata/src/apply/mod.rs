//! What each command does, one file per family.

mod resources;
mod tenants;

use crate::command::Command;
use crate::draft::Draft;
use crate::error::MetaError;
use crate::object::ObjectKey;

/// What the one who asked is told, besides that it was done.
pub(crate) enum Made {
    /// Nothing more.
    Nothing,
    /// The object under this key.
    Object(ObjectKey),
}

/// Does `command` in `draft`. Whoever gets an error drops the draft.
pub(crate) fn run(draft: &mut Draft<'_>, command: &Command) -> Result<Made, MetaError> {
    match command {
        Command::CreateTenant(command) => tenants::create(draft, command),
        Command::UpdateTenant(command) => tenants::update(draft, command),
        Command::CreateNamespace(command) => tenants::create_namespace(draft, command),
        Command::UpdateNamespace(command) => tenants::update_namespace(draft, command),
        Command::Declare(command) => resources::declare(draft, command),
        Command::UpdateResource(command) => resources::update(draft, command),
        Command::Noop => Ok(Made::Nothing),
    }
}

/// Refused when the cluster would have more of something than it can.
fn below(what: &'static str, count: u64, limit: u64) -> Result<(), MetaError> {
    if count > limit {
        return Err(MetaError::LimitReached { what, limit });
    }
    Ok(())
}
