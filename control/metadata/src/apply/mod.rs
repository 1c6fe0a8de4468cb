//! What each command does, one file per family.

mod brokers;
mod deletion;
mod identity;
mod import;
mod members;
mod plans;
mod rbac;
mod resources;
mod settings;
mod tenants;

use crate::command::{BatchItem, Command, Expect};
use crate::draft::Draft;
use crate::error::MetaError;
use crate::ids::RowId;
use crate::object::ObjectKey;

/// What the one who asked is told, besides that it was done.
pub(crate) enum Made {
    /// Nothing more.
    Nothing,
    /// The object under this key.
    Object(ObjectKey),
    /// Policies or groupings.
    Rows(Box<[RowId]>),
}

/// Does `command` in `draft`. Whoever gets an error drops the draft.
pub(crate) fn run(draft: &mut Draft<'_>, command: &Command) -> Result<Made, MetaError> {
    command.check_batch()?;
    match command {
        Command::CreateTenant(command) => tenants::create(draft, command),
        Command::UpdateTenant(command) => tenants::update(draft, command),
        Command::CreateNamespace(command) => tenants::create_namespace(draft, command),
        Command::UpdateNamespace(command) => tenants::update_namespace(draft, command),
        Command::Declare(command) => resources::declare(draft, command),
        Command::UpdateResource(command) => resources::update(draft, command),
        Command::Import(command) => import::import(draft, command),
        Command::Rebalance(command) => plans::rebalance(draft, command),
        Command::CancelPlan(key) => plans::cancel(draft, key),
        Command::TransferLeadership(command) => plans::transfer(draft, command),
        Command::Delete(command) => deletion::delete(draft, command),
        Command::Undelete(key) => deletion::undelete(draft, key),
        Command::Purge(key) => deletion::purge(draft, key),
        Command::ConfirmPurged(command) => deletion::confirm(draft, command),
        Command::ForgetTombstone(resource) => deletion::forget(draft, *resource),
        Command::RegisterBroker(command) => brokers::register(draft, command),
        Command::SetDraining(command) => brokers::set_draining(draft, command),
        Command::BrokerDown(command) => brokers::down(draft, command),
        Command::RemoveBroker(name) => brokers::remove(draft, name),
        Command::AddMember(command) => members::add(draft, command),
        Command::ReplaceMember(command) => members::replace(draft, command),
        Command::SetMemberRole(command) => members::set_role(draft, command),
        Command::RemoveMember(number) => members::remove(draft, *number),
        Command::AddPolicies(command) => rbac::add_policies(draft, command),
        Command::DeletePolicies(command) => rbac::delete_policies(draft, command),
        Command::AddGroupings(command) => rbac::add_groupings(draft, command),
        Command::DeleteGroupings(command) => rbac::delete_groupings(draft, command),
        Command::PutIssuer(command) => identity::put_issuer(draft, command),
        Command::CreateApiKey(command) => identity::create_api_key(draft, command),
        Command::Remove(key) => identity::remove(draft, key),
        Command::CreateKeys(command) => identity::create_keys(draft, command),
        Command::RotateKeys(command) => identity::rotate_keys(draft, command),
        Command::Revoke(command) => identity::revoke(draft, command),
        Command::InitializeTenant(command) => identity::initialize(draft, command),
        Command::UpdateSettings(command) => settings::update(draft, command),
        Command::Batch(items) => batch(draft, items),
        Command::Noop => Ok(Made::Nothing),
    }
}

/// Refused when the target of `command` is not as expected.
pub(crate) fn check_expect(
    draft: &Draft<'_>,
    expected: Expect,
    command: &Command,
) -> Result<(), MetaError> {
    let target = command.target();
    let object = target.as_ref().and_then(|key| draft.get(key));
    let found = object.map(|object| object.meta.version);
    let met = match expected {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::Version(version) => found == Some(version),
    };
    if met {
        Ok(())
    } else {
        Err(MetaError::VersionConflict { expected, found })
    }
}

fn batch(draft: &mut Draft<'_>, items: &[BatchItem]) -> Result<Made, MetaError> {
    for (at, item) in items.iter().enumerate() {
        let done = check_expect(draft, item.expect, &item.command)
            .and_then(|()| run(draft, &item.command));
        if let Err(error) = done {
            let error = Box::new(error);
            return Err(MetaError::Batch { at, error });
        }
    }
    Ok(Made::Nothing)
}

/// Refused when the cluster would have more of something than it can.
fn below(what: &'static str, count: u64, limit: u64) -> Result<(), MetaError> {
    if count > limit {
        return Err(MetaError::LimitReached { what, limit });
    }
    Ok(())
}
