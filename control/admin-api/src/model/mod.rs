//! What bodies look like: requests are read strictly, answers are made from objects of
//! the metadata. Names of fields are those of the metadata.

mod broker;
mod event;
mod plan;
mod resource;
mod tenant;

use jiff::Timestamp;
use pinion_metadata::Meta;
use pinion_types::WallMs;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

pub(crate) use broker::{Broker, BrokerRegister};
pub(crate) use event::{Event, ObjectView};
pub(crate) use plan::{Move, MovePlan, Placement, RebalanceRequest, TransferRequest};
pub use resource::SpecDefaults;
pub(crate) use resource::{Resource, ResourceCreate, ResourcePatch, SpecInput};
pub(crate) use tenant::{
    Namespace, NamespaceCreate, NamespacePatch, Tenant, TenantCreate, TenantPatch,
};

/// Reads a field that is there: `null` is no value of it, unless its type says so.
/// Where it is not there its default, `None`, is taken.
pub(crate) fn given<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(from).map(Some)
}

/// What every object shows of its life.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Life {
    /// `active` or `deleting`.
    pub(crate) state: &'static str,
    /// When and how it was deleted, while it can be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deleting: Option<Deleting>,
    /// RFC 3339.
    pub(crate) created: String,
    /// RFC 3339.
    pub(crate) updated: String,
    /// The version that its last change made.
    pub(crate) version: u64,
    /// How often what it is was changed, from 1.
    pub(crate) generation: u64,
}

/// A deletion that can be taken back.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Deleting {
    /// RFC 3339.
    pub(crate) since: String,
    /// RFC 3339; it may be gone from then on.
    pub(crate) purge_at: String,
    /// In spite of what was in it.
    pub(crate) forced: bool,
}

impl From<&Meta> for Life {
    fn from(meta: &Meta) -> Self {
        let deleting = meta.deleting.as_ref();
        Self {
            state: if deleting.is_some() {
                "deleting"
            } else {
                "active"
            },
            deleting: deleting.map(|deleting| Deleting {
                since: time(deleting.since),
                purge_at: time(deleting.purge_at),
                forced: deleting.forced,
            }),
            created: time(meta.created),
            updated: time(meta.updated),
            version: meta.version.0,
            generation: meta.generation,
        }
    }
}

/// A time as RFC 3339 in UTC; the latest that there is for what is beyond it.
pub(crate) fn time(at: WallMs) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    at.to_string()
}

/// The milliseconds of an RFC 3339 time; of one before all clocks none, as nothing is older.
pub(crate) fn parse_time(text: &str) -> Option<WallMs> {
    let at: Timestamp = text.parse().ok()?;
    Some(WallMs(u64::try_from(at.as_millisecond()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let at = WallMs(1_700_000_000_123);
        assert_eq!(time(at), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse_time(&time(at)), Some(at));
        assert_eq!(parse_time("2023-11-14T23:13:20.123+01:00"), Some(at));
        assert_eq!(parse_time("yesterday"), None);
        let before = parse_time("1960-01-01T00:00:00Z");
        assert_eq!(before, Some(WallMs(0)), "before all clocks");
        assert!(!time(WallMs(u64::MAX)).is_empty());
    }
}
