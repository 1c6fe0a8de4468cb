//! Resources as the metadata has them, in order, for lists with `limit` and `offset`.
//!
//! A list of any length takes one look at the version of the metadata; what is in it is
//! gathered page by page, by one request for all that wait, and kept until something
//! changes. So neither the control plane nor a data core works longer for a longer list.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pinion_metadata::limits::PAGE_MAX;
use pinion_metadata::{
    Body, Filter, ListQuery, MetaVersion, Metadata, Object, ObjectKey, ObjectKind, TenantNumber,
};
use pinion_types::ResourceKind;
use tokio::sync::Mutex;

use crate::PlaneHandle;
use crate::access::Reach;
use crate::error::Failure;

/// What gathering may take of the control thread: one part in so many. While the metadata
/// changes all the time a list may be older by as many times what gathering it takes, and
/// never by more than [`AGE_MAX`].
const SHARE: u32 = 20;

/// Oldest list that is given out although the metadata has changed since.
const AGE_MAX: Duration = Duration::from_secs(1);

/// Every resource that there is, those that are deleted and not purged included.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Of the metadata, when gathering began.
    pub(crate) version: MetaVersion,
    tenants: Vec<(Box<str>, TenantNumber)>,
    /// Tenant and name.
    namespaces: Vec<(Box<str>, Box<str>)>,
    /// By kind, in the order of tenant, namespace and name.
    resources: [Vec<Arc<Object>>; 3],
}

/// Which resources of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pick<'a> {
    /// Of this tenant only.
    pub(crate) realm: Option<&'a str>,
    /// In this namespace of it only.
    pub(crate) area: Option<&'a str>,
    /// With this in `NAMESPACE/NAME`.
    pub(crate) search: Option<&'a str>,
}

const fn place(kind: ResourceKind) -> usize {
    match kind {
        ResourceKind::Stream => 0,
        ResourceKind::Queue => 1,
        ResourceKind::Cache => 2,
    }
}

/// Tenant, namespace and name of a resource; empty of anything else.
pub(crate) fn address(object: &Object) -> (&str, &str, &str) {
    match &object.meta.key {
        ObjectKey::Resource {
            tenant,
            namespace,
            name,
            ..
        } => (tenant, namespace, name),
        _ => ("", "", ""),
    }
}

impl Catalog {
    /// Tenants within reach, in order.
    pub(crate) fn tenants<'a>(&'a self, reach: &'a Reach) -> impl Iterator<Item = &'a str> {
        let all = self.tenants.iter().map(|(name, _)| &**name);
        all.filter(|name| reach.covers(name))
    }

    /// What the tenant of this number is called.
    pub(crate) fn tenant(&self, number: TenantNumber) -> Option<&str> {
        let mut all = self.tenants.iter();
        let found = all.find(|(_, of)| *of == number)?;
        Some(&found.0)
    }

    /// Namespaces of a tenant, in order.
    pub(crate) fn namespaces<'a>(&'a self, tenant: &'a str) -> impl Iterator<Item = &'a str> {
        let from = self.namespaces.partition_point(|(of, _)| **of < *tenant);
        let own = self.namespaces[from..].iter();
        own.take_while(move |(of, _)| **of == *tenant)
            .map(|(_, name)| &**name)
    }

    /// Resources of a kind, in order. Without a search it costs no more for more of them.
    pub(crate) fn of(&self, kind: ResourceKind, reach: &Reach, pick: Pick<'_>) -> Picked<'_> {
        let realm = pick.realm.or(reach.tenant());
        if realm.is_some_and(|realm| !reach.covers(realm)) {
            return Picked::default();
        }
        let all = &self.resources[place(kind)][..];
        let all = match realm {
            None => all,
            Some(realm) => equal(all, |object| address(object).0.cmp(realm)),
        };
        let all = match (realm, pick.area) {
            (Some(_), Some(area)) => equal(all, |object| address(object).1.cmp(area)),
            _ => all,
        };
        let Some(search) = pick.search.filter(|search| !search.is_empty()) else {
            return Picked {
                slice: all,
                found: None,
            };
        };
        let has = |object: &&Arc<Object>| {
            let (_, namespace, name) = address(object);
            namespace.contains(search)
                || name.contains(search)
                // Across the slash only if the search has one.
                || (search.contains('/') && format!("{namespace}/{name}").contains(search))
        };
        Picked {
            slice: all,
            found: Some(all.iter().filter(has).collect()),
        }
    }
}

#[cfg(test)]
impl Catalog {
    /// Of one tenant with these streams, which are in order.
    pub(crate) fn of_test(tenant: &str, streams: Vec<Arc<Object>>) -> Self {
        Self {
            version: MetaVersion(1),
            tenants: vec![(tenant.into(), TenantNumber(2))],
            namespaces: Vec::new(),
            resources: [streams, Vec::new(), Vec::new()],
        }
    }
}

/// The part of a slice in order that compares as equal.
fn equal<T>(all: &[T], order: impl Fn(&T) -> core::cmp::Ordering) -> &[T] {
    let from = all.partition_point(|one| order(one).is_lt());
    let to = all.partition_point(|one| order(one).is_le());
    &all[from..to]
}

/// What was picked.
#[derive(Debug, Default)]
pub(crate) struct Picked<'a> {
    slice: &'a [Arc<Object>],
    found: Option<Vec<&'a Arc<Object>>>,
}

impl<'a> Picked<'a> {
    pub(crate) fn len(&self) -> usize {
        self.found.as_ref().map_or(self.slice.len(), Vec::len)
    }

    pub(crate) fn get(&self, at: usize) -> Option<&'a Arc<Object>> {
        match &self.found {
            Some(found) => found.get(at).copied(),
            None => self.slice.get(at),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a Arc<Object>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

/// Where the catalog is kept.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Option<Kept>>);

#[derive(Clone, Debug)]
struct Kept {
    catalog: Arc<Catalog>,
    taken: Instant,
    took: Duration,
}

impl Kept {
    /// Whether it is given out although something has changed.
    fn is_young(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.taken);
        age < AGE_MAX.min(self.took * SHARE)
    }
}

impl Shelf {
    /// The catalog as it is, or was just now. Whoever asks meanwhile waits for the same.
    pub(crate) async fn catalog(&self, plane: &PlaneHandle) -> Result<Arc<Catalog>, Failure> {
        let mut shelf = self.0.lock().await;
        let version = look(plane, |metadata| metadata.version()).await?;
        let now = Instant::now();
        if let Some(kept) = &*shelf
            && (kept.catalog.version == version || kept.is_young(now))
        {
            return Ok(kept.catalog.clone());
        }
        let catalog = Arc::new(gather(plane, version).await?);
        *shelf = Some(Kept {
            catalog: catalog.clone(),
            taken: now,
            took: now.elapsed(),
        });
        Ok(catalog)
    }
}

/// Looks at the metadata as this node has it.
pub(crate) async fn look<T: Send + 'static>(
    plane: &PlaneHandle,
    look: impl FnOnce(&Metadata) -> T + Send + 'static,
) -> Result<T, Failure> {
    let looked = plane.look(look).await?;
    looked.ok_or_else(|| pinion_plane::PlaneError::NotReady.into())
}

async fn gather(plane: &PlaneHandle, version: MetaVersion) -> Result<Catalog, Failure> {
    let mut catalog = Catalog {
        version,
        ..Catalog::default()
    };
    for object in list(plane, ObjectKind::Tenant).await? {
        if let (ObjectKey::Tenant(name), Body::Tenant(tenant)) = (&object.meta.key, &object.body) {
            catalog.tenants.push((name.clone(), tenant.number));
        }
    }
    for object in list(plane, ObjectKind::Namespace).await? {
        if let ObjectKey::Namespace { tenant, name } = &object.meta.key {
            catalog.namespaces.push((tenant.clone(), name.clone()));
        }
    }
    for kind in [
        ResourceKind::Stream,
        ResourceKind::Queue,
        ResourceKind::Cache,
    ] {
        catalog.resources[place(kind)] = list(plane, ObjectKind::Resource(kind)).await?;
    }
    Ok(catalog)
}

/// All of a kind, a page at a time: whoever else asks the plane comes between.
async fn list(plane: &PlaneHandle, kind: ObjectKind) -> Result<Vec<Arc<Object>>, Failure> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let query = ListQuery {
            kind,
            under: None,
            filter: Filter::All,
            deleted: true,
            limit: PAGE_MAX,
            after: after.take(),
        };
        let page = look(plane, move |metadata| metadata.list(&query)).await?;
        all.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use pinion_metadata::Meta;
    use pinion_metadata::settings::Settings;
    use pinion_types::WallMs;

    use super::*;

    fn stream(tenant: &str, namespace: &str, name: &str) -> Arc<Object> {
        Arc::new(Object {
            meta: Meta {
                key: ObjectKey::resource(ResourceKind::Stream, tenant, namespace, name),
                created: WallMs(0),
                updated: WallMs(0),
                version: MetaVersion(1),
                generation: 1,
                deleting: None,
            },
            // Nobody looks at it here.
            body: Body::Settings(Settings::default()),
        })
    }

    fn catalog() -> Catalog {
        let streams = vec![
            stream("acme", "billing", "eu/orders"),
            stream("acme", "pay", "eu/orders"),
            stream("acme", "pay", "refunds"),
            stream("acme-2", "pay", "orders"),
            stream("zoo", "pay", "orders"),
        ];
        Catalog {
            version: MetaVersion(1),
            tenants: vec![
                ("acme".into(), TenantNumber(2)),
                ("acme-2".into(), TenantNumber(3)),
                ("zoo".into(), TenantNumber(4)),
            ],
            namespaces: vec![
                ("acme".into(), "billing".into()),
                ("acme".into(), "pay".into()),
                ("zoo".into(), "pay".into()),
            ],
            resources: [streams, Vec::new(), Vec::new()],
        }
    }

    fn picked(reach: &Reach, pick: Pick<'_>) -> Vec<String> {
        let catalog = catalog();
        let picked = catalog.of(ResourceKind::Stream, reach, pick);
        let text = |object: &Arc<Object>| {
            let (tenant, namespace, name) = address(object);
            format!("{tenant}/{namespace}/{name}")
        };
        assert_eq!(picked.iter().count(), picked.len());
        picked.iter().map(text).collect()
    }

    #[test]
    fn a_pick_is_what_is_in_reach_and_asked_for() {
        let all = Pick::default();
        assert_eq!(picked(&Reach::All, all).len(), 5);
        let own = Reach::Tenant("acme".into());
        assert_eq!(
            picked(&own, all),
            [
                "acme/billing/eu/orders",
                "acme/pay/eu/orders",
                "acme/pay/refunds"
            ]
        );
        let of = |realm| Pick {
            realm: Some(realm),
            ..all
        };
        assert_eq!(picked(&Reach::All, of("zoo")), ["zoo/pay/orders"]);
        assert!(picked(&own, of("zoo")).is_empty(), "another's is not there");
        assert!(picked(&Reach::All, of("nobody")).is_empty());
        let area = Pick {
            area: Some("pay"),
            ..of("acme")
        };
        assert_eq!(
            picked(&Reach::All, area),
            ["acme/pay/eu/orders", "acme/pay/refunds"]
        );
    }

    #[test]
    fn a_search_looks_at_names_and_across_their_slash_when_it_has_one() {
        let search = |text| {
            let pick = Pick {
                search: Some(text),
                ..Pick::default()
            };
            picked(&Reach::All, pick)
        };
        assert_eq!(search("refund"), ["acme/pay/refunds"]);
        assert_eq!(search("y/ref"), ["acme/pay/refunds"]);
        assert_eq!(search("billing"), ["acme/billing/eu/orders"]);
        assert_eq!(search("").len(), 5);
        assert!(
            search("acme").is_empty(),
            "a tenant is asked for by its name"
        );
    }

    #[test]
    fn tenants_and_namespaces_are_in_order_and_within_reach() {
        let catalog = catalog();
        let all: Vec<&str> = catalog.tenants(&Reach::All).collect();
        assert_eq!(all, ["acme", "acme-2", "zoo"]);
        let own = Reach::Tenant("acme".into());
        assert_eq!(catalog.tenants(&own).collect::<Vec<_>>(), ["acme"]);
        assert_eq!(catalog.tenant(TenantNumber(3)), Some("acme-2"));
        assert_eq!(catalog.tenant(TenantNumber(9)), None);
        let of = |tenant: &'static str| catalog.namespaces(tenant).collect::<Vec<_>>();
        assert_eq!(of("acme"), ["billing", "pay"]);
        assert!(of("acme-2").is_empty());
    }

    #[test]
    fn what_was_gathered_slowly_is_kept_for_longer_and_never_too_long() {
        let begun = Instant::now();
        let kept = |took| Kept {
            catalog: Arc::default(),
            taken: begun,
            took,
        };
        let quick = kept(Duration::from_millis(1));
        assert!(quick.is_young(begun + Duration::from_millis(19)));
        assert!(!quick.is_young(begun + Duration::from_millis(21)));
        let slow = kept(Duration::from_secs(1));
        assert!(slow.is_young(begun + Duration::from_millis(999)));
        assert!(!slow.is_young(begun + Duration::from_millis(1_001)));
    }
}
