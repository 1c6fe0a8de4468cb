//! `/api/v1`: what runs, for people and tools. Each domain has its file, and one that comes
//! later adds its own.
//!
//! Every answer says of which node it is, when its numbers were taken, and which of its
//! fields outlive a restart.

pub(crate) mod caches;
pub(crate) mod cluster;
pub(crate) mod queues;
pub(crate) mod sessions;
pub(crate) mod stats;
pub(crate) mod streams;

use axum::http::StatusCode;

use serde::Serialize;
use utoipa::ToSchema;

use crate::Api;
use crate::call::{Call, Reply, bad_parameter, json};
use crate::error::Failure;
use crate::limits::FILTER_BYTES_MAX;
use crate::views::{Address, At, Listed, Paging, Pick, Visible, Wanted};

/// What the numbers of an answer are worth.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Stand {
    /// The node that answers; the numbers are its own.
    node: String,
    /// When they were taken.
    #[schema(value_type = String, format = DateTime)]
    as_of: At,
    /// Fields that outlive a restart; of a resource that is not durable none do.
    #[schema(value_type = Vec<String>)]
    durable_fields: &'static [&'static str],
    /// Fields that end with a connection or a restart.
    #[schema(value_type = Vec<String>)]
    live_fields: &'static [&'static str],
}

impl Stand {
    fn of(
        api: &Api,
        as_of: At,
        durable: &'static [&'static str],
        live: &'static [&'static str],
    ) -> Self {
        Self {
            node: api.node.to_string(),
            as_of,
            durable_fields: durable,
            live_fields: live,
        }
    }
}

/// Which rows of a list an answer has.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct Part {
    /// How many there are altogether.
    total: u64,
    /// Most rows of this answer.
    limit: u64,
    /// Rows before the first one.
    offset: u64,
}

impl Part {
    fn of<R>(listed: &Listed<R>, paging: Paging) -> Self {
        Self::new(listed.total, paging)
    }

    fn new(total: usize, paging: Paging) -> Self {
        let Paging { limit, offset } = paging;
        Self {
            total: total as u64,
            limit: limit as u64,
            offset: offset as u64,
        }
    }
}

/// Tenants.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Realms {
    realms: Vec<RealmRow>,
    #[serde(flatten)]
    part: Part,
}

/// A tenant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RealmRow {
    realm: String,
}

/// Namespaces of a tenant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Areas {
    realm: String,
    areas: Vec<AreaRow>,
    #[serde(flatten)]
    part: Part,
}

/// A namespace.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AreaRow {
    area: String,
}

impl Call {
    /// The resource of the path.
    fn address(&self) -> Address {
        Address::new(self.part("t"), self.part("ns"), self.part("r"))
    }

    /// The number of a partition.
    fn family(&self) -> Result<Option<u16>, Failure> {
        let Some(number) = self.number_param("family")? else {
            return Ok(None);
        };
        let family = u16::try_from(number);
        let family = family.map_err(|_| bad_parameter("family", "there is no such partition"))?;
        Ok(Some(family))
    }

    /// The same where it must be said.
    fn this_family(&self) -> Result<u16, Failure> {
        let family = self.family()?;
        family.ok_or_else(|| bad_parameter("family", "the number of a partition is expected"))
    }

    /// A part of names.
    fn search(&self, name: &'static str) -> Result<Option<&str>, Failure> {
        let text = self.param(name).filter(|text| !text.is_empty());
        if text.is_some_and(|text| text.len() > FILTER_BYTES_MAX) {
            let most = format!("at most {FILTER_BYTES_MAX} bytes are expected");
            return Err(bad_parameter(name, &most));
        }
        Ok(text)
    }

    /// Which rows of a flat list.
    fn wanted<N>(&self) -> Result<Wanted<'_, N>, Failure> {
        Ok(Wanted {
            pick: Pick {
                realm: self.param("realm"),
                area: None,
                search: self.search("q")?,
            },
            paging: self.paging()?,
            order: None,
        })
    }

    /// Which rows of the list of the path's namespace, which there must be.
    async fn wanted_here<N>(&self) -> Result<Wanted<'_, N>, Failure> {
        let (realm, area) = (self.part("t"), self.part("ns"));
        let all = Visible::of_tenant(&self.api, &self.who, realm).await?;
        if !all.catalog.namespaces(realm).any(|name| name == area) {
            return Err(Failure::not_found());
        }
        Ok(Wanted {
            pick: Pick {
                realm: Some(realm),
                area: Some(area),
                search: self.search("q")?,
            },
            paging: self.paging()?,
            order: None,
        })
    }
}

/// Tenants that somebody may see: the same for every domain, as any may have resources.
pub(crate) async fn realms(call: Call) -> Reply {
    let paging = call.paging()?;
    let all = Visible::of(&call.api, &call.who).await?;
    let found: Vec<&str> = all.catalog.tenants(&all.reach).collect();
    let row = |realm: &&str| RealmRow {
        realm: (*realm).to_owned(),
    };
    let answer = Realms {
        realms: paging.cut(&found).iter().map(row).collect(),
        part: Part::new(found.len(), paging),
    };
    json(StatusCode::OK, &answer)
}

/// Namespaces of a tenant.
pub(crate) async fn areas(call: Call) -> Reply {
    let paging = call.paging()?;
    let realm = call.part("t");
    let all = Visible::of_tenant(&call.api, &call.who, realm).await?;
    let found: Vec<&str> = all.catalog.namespaces(realm).collect();
    let row = |area: &&str| AreaRow {
        area: (*area).to_owned(),
    };
    let answer = Areas {
        realm: realm.to_owned(),
        areas: paging.cut(&found).iter().map(row).collect(),
        part: Part::new(found.len(), paging),
    };
    json(StatusCode::OK, &answer)
}
