//! Lists: what is in them, in which order, and how they go on.

use pinion_metadata::limits::PAGE_MAX;
use pinion_metadata::{Command, Filter, ListQuery, ObjectKey, ObjectKind};
use pinion_types::ResourceKind;

use crate::support::{FREE, OPEN, Replica, create_namespace, create_tenant, declare};

const STREAM: ResourceKind = ResourceKind::Stream;

fn all(kind: ObjectKind) -> ListQuery {
    ListQuery {
        kind,
        under: None,
        filter: Filter::All,
        deleted: false,
        limit: 100,
        after: None,
    }
}

fn keys(replica: &Replica, query: &ListQuery) -> Vec<String> {
    let page = replica.state.list(query);
    assert_eq!(page.version, replica.state.version());
    page.items
        .iter()
        .map(|object| object.meta.key.to_string())
        .collect()
}

/// Tenants `a`, `a-`, `b`; in each the namespaces `n` and `n-`; in each the
/// streams `x` and `x/y`, and a cache.
fn full() -> Replica {
    let mut replica = Replica::with_brokers();
    for tenant in ["b", "a-", "a"] {
        replica.done(create_tenant(tenant, FREE));
        for namespace in ["n-", "n"] {
            replica.done(create_namespace(tenant, namespace, OPEN));
            for name in ["x/y", "x"] {
                replica.done(Command::Declare(declare(STREAM, tenant, namespace, name)));
            }
            let cache = declare(ResourceKind::Cache, tenant, namespace, "c");
            replica.done(Command::Declare(cache));
        }
    }
    replica
}

#[test]
fn a_list_has_one_kind_in_the_order_of_keys() {
    let replica = full();
    let tenants = keys(&replica, &all(ObjectKind::Tenant));
    assert_eq!(
        tenants,
        ["tenant/a", "tenant/a-", "tenant/b", "tenant/default"]
    );
    assert_eq!(keys(&replica, &all(ObjectKind::Namespace)).len(), 6);
    assert_eq!(keys(&replica, &all(ObjectKind::Resource(STREAM))).len(), 12);
    assert_eq!(
        keys(&replica, &all(ObjectKind::Resource(ResourceKind::Queue))).len(),
        0
    );
    let caches = keys(&replica, &all(ObjectKind::Placement(ResourceKind::Cache)));
    assert_eq!(caches.len(), 6);
    assert!(caches[0].starts_with("placement/cache/a/n/"));
}

#[test]
fn a_list_stays_in_its_tenant_or_namespace() {
    let replica = full();
    let under = |kind, key| ListQuery {
        under: Some(key),
        ..all(kind)
    };
    let streams = ObjectKind::Resource(STREAM);
    assert_eq!(
        keys(&replica, &under(streams, ObjectKey::namespace("a", "n"))),
        ["stream/a/n/x", "stream/a/n/x/y"]
    );
    assert_eq!(
        keys(&replica, &under(streams, ObjectKey::tenant("a"))),
        [
            "stream/a/n/x",
            "stream/a/n/x/y",
            "stream/a/n-/x",
            "stream/a/n-/x/y"
        ]
    );
    assert_eq!(
        keys(
            &replica,
            &under(ObjectKind::Namespace, ObjectKey::tenant("a-"))
        ),
        ["namespace/a-/n", "namespace/a-/n-"]
    );
    let nobody = under(streams, ObjectKey::tenant("nobody"));
    assert!(keys(&replica, &nobody).is_empty());
}

#[test]
fn a_filter_looks_at_the_name_alone() {
    let replica = full();
    let filtered = |filter| ListQuery {
        filter,
        ..all(ObjectKind::Resource(STREAM))
    };
    assert_eq!(
        keys(&replica, &filtered(Filter::Prefix("x/".into()))).len(),
        6
    );
    assert_eq!(
        keys(&replica, &filtered(Filter::Contains("y".into()))).len(),
        6
    );
    assert_eq!(
        keys(&replica, &filtered(Filter::Contains("n".into()))).len(),
        0
    );
    let default = ListQuery {
        filter: Filter::Prefix("def".into()),
        ..all(ObjectKind::Tenant)
    };
    assert_eq!(keys(&replica, &default), ["tenant/default"]);
}

/// Whatever the size of a page and the filter, pages put together are the list.
#[test]
fn pages_follow_each_other_without_gap_or_repeat() {
    let replica = full();
    for filter in [Filter::All, Filter::Contains("y".into())] {
        let whole = ListQuery {
            filter,
            ..all(ObjectKind::Resource(STREAM))
        };
        let expected = keys(&replica, &whole);
        for limit in 1..=13 {
            let mut query = ListQuery {
                limit,
                ..whole.clone()
            };
            let mut found = Vec::new();
            loop {
                let page = replica.state.list(&query);
                assert!(page.items.len() <= limit);
                found.extend(page.items.iter().map(|object| object.meta.key.to_string()));
                if page.next.is_none() {
                    break;
                }
                assert_eq!(page.items.len(), limit, "only the last page is short");
                query.after = page.next;
            }
            assert_eq!(found, expected, "{limit} at a time");
        }
    }
}

#[test]
fn a_page_has_its_bounds() {
    let mut replica = Replica::with_brokers();
    for at in 0..=PAGE_MAX {
        let command = create_namespace("default", &format!("n{at}"), OPEN);
        let index = replica.state.applied_index() + 1;
        let envelope = crate::support::envelope(command);
        replica.state.apply(index, &envelope).result.unwrap();
    }
    let of = |limit| {
        let query = ListQuery {
            limit,
            ..all(ObjectKind::Namespace)
        };
        replica.state.list(&query).items.len()
    };
    assert_eq!(of(0), 1);
    assert_eq!(of(usize::MAX), PAGE_MAX);
}

/// A key of another kind or tenant as a place to go on from gives no other list.
#[test]
fn a_page_goes_on_within_its_list() {
    let replica = full();
    let mut query = ListQuery {
        under: Some(ObjectKey::tenant("a-")),
        after: Some(ObjectKey::namespace("a", "zzz")),
        ..all(ObjectKind::Namespace)
    };
    assert_eq!(keys(&replica, &query).len(), 2, "it is before all of them");
    query.after = Some(ObjectKey::namespace("b", "n"));
    assert_eq!(keys(&replica, &query).len(), 0, "it is after all of them");
    query.after = Some(ObjectKey::tenant("zzz"));
    assert_eq!(keys(&replica, &query).len(), 2);
    query.after = Some(ObjectKey::resource(STREAM, "a", "n", "x"));
    assert_eq!(keys(&replica, &query).len(), 0);
}
