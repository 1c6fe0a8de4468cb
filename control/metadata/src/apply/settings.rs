//! Settings of the cluster.

use super::Made;
use crate::command::UpdateSettings;
use crate::draft::Draft;
use crate::error::MetaError;
use crate::object::{Body, ObjectKey};

pub(super) fn update(draft: &mut Draft<'_>, command: &UpdateSettings) -> Result<Made, MetaError> {
    let key = ObjectKey::Settings;
    let old = match draft.get(&key).map(|object| &object.body) {
        Some(Body::Settings(settings)) => Some(*settings),
        _ => None,
    };
    let mut settings = old.unwrap_or_default();
    settings.heartbeat_ms = command.heartbeat_ms.unwrap_or(settings.heartbeat_ms);
    settings.missed = command.missed.unwrap_or(settings.missed);
    settings.grace_ms = command.grace_ms.unwrap_or(settings.grace_ms);
    settings.token_life_s = command.token_life_s.unwrap_or(settings.token_life_s);
    settings.check()?;
    match old {
        Some(_) => draft.update(&key, Body::Settings(settings))?,
        None => draft.create(key.clone(), Body::Settings(settings))?,
    }
    Ok(Made::Object(key))
}
