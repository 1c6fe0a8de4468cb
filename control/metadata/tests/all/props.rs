//! Any sequence of commands, beside a model that knows nothing of drafts, counts
//! or archives.

use std::collections::BTreeMap;

use pinion_metadata::command::UpdateTenant;
use pinion_metadata::tenant::{NamespaceQuotas, TenantQuotas};
use pinion_metadata::{Command, Envelope, Expect, MetaCode, MetaVersion};
use pinion_types::WallMs;
use proptest::prelude::*;

use crate::support::{
    FREE, OPEN, Replica, create_namespace, create_tenant, envelope, update_namespace, update_tenant,
};

/// What is known of tenants and namespaces, as maps of numbers.
#[derive(Default)]
struct Model {
    /// Most namespaces and most streams of each tenant; last change.
    tenants: BTreeMap<String, (u64, u64, u64)>,
    /// Most streams of each namespace; last change.
    namespaces: BTreeMap<(String, String), (u64, u64)>,
    version: u64,
    requests: BTreeMap<u128, u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Tenant(String, u64, u64),
    Quotas(String, u64, u64),
    Namespace(String, String, u64),
    NamespaceQuotas(String, String, u64),
}

impl Step {
    fn command(&self) -> Command {
        let quotas = |max_namespaces, max_streams| TenantQuotas {
            max_namespaces,
            max_streams,
            ..FREE
        };
        let of_namespace = |max_streams| NamespaceQuotas {
            max_streams,
            ..OPEN
        };
        match self {
            Self::Tenant(name, most, streams) => create_tenant(name, quotas(*most, *streams)),
            Self::Quotas(name, most, streams) => Command::UpdateTenant(UpdateTenant {
                quotas: Some(quotas(*most, *streams)),
                ..update_tenant(name)
            }),
            Self::Namespace(tenant, name, streams) => {
                create_namespace(tenant, name, of_namespace(*streams))
            }
            Self::NamespaceQuotas(tenant, name, streams) => {
                let mut update = update_namespace(tenant, name);
                update.quotas = Some(of_namespace(*streams));
                Command::UpdateNamespace(update)
            }
        }
    }
}

impl Model {
    fn found(&self, step: &Step) -> Option<u64> {
        match step {
            Step::Tenant(name, ..) | Step::Quotas(name, ..) => {
                self.tenants.get(name).map(|tenant| tenant.2)
            }
            Step::Namespace(tenant, name, _) | Step::NamespaceQuotas(tenant, name, _) => {
                let key = (tenant.clone(), name.clone());
                self.namespaces.get(&key).map(|namespace| namespace.1)
            }
        }
    }

    /// Most streams of each namespace of a tenant.
    fn of(&self, tenant: &str) -> Vec<u64> {
        let namespaces = self.namespaces.iter();
        let of_tenant = namespaces.filter(|(key, _)| key.0 == tenant);
        of_tenant.map(|(_, namespace)| namespace.0).collect()
    }

    /// The first thing that stands against a step.
    fn against(&self, step: &Step, expect: Expect) -> Option<MetaCode> {
        let found = self.found(step);
        let met = match expect {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Version(version) => found == Some(version.0),
        };
        let above = |own: u64, of: u64| of != 0 && own > of;
        match step {
            _ if !met => Some(MetaCode::VersionConflict),
            Step::Tenant(..) => found.map(|_| MetaCode::Exists),
            Step::Quotas(name, most, streams) => {
                if found.is_none() {
                    Some(MetaCode::NotFound)
                } else if above(self.of(name).len() as u64, *most) {
                    Some(MetaCode::QuotaBelowUse)
                } else {
                    self.of(name)
                        .into_iter()
                        .any(|own| above(own, *streams))
                        .then_some(MetaCode::QuotaAboveParent)
                }
            }
            Step::Namespace(tenant, _, streams) => match self.tenants.get(tenant) {
                None => Some(MetaCode::NotFound),
                Some(quotas) if above(*streams, quotas.1) => Some(MetaCode::QuotaAboveParent),
                Some(_) if found.is_some() => Some(MetaCode::Exists),
                Some(quotas) => above(self.of(tenant).len() as u64 + 1, quotas.0)
                    .then_some(MetaCode::QuotaExceeded),
            },
            Step::NamespaceQuotas(tenant, _, streams) => match self.tenants.get(tenant) {
                _ if found.is_none() => Some(MetaCode::NotFound),
                Some(quotas) if above(*streams, quotas.1) => Some(MetaCode::QuotaAboveParent),
                _ => None,
            },
        }
    }

    fn take(&mut self, step: &Step) {
        let next = self.version + 1;
        match step.clone() {
            Step::Tenant(name, most, streams) | Step::Quotas(name, most, streams) => {
                let old = self.tenants.get(&name).map(|old| (old.0, old.1));
                if old != Some((most, streams)) {
                    self.tenants.insert(name, (most, streams, next));
                    self.version = next;
                }
            }
            Step::Namespace(tenant, name, streams)
            | Step::NamespaceQuotas(tenant, name, streams) => {
                let old = self.namespaces.get(&(tenant.clone(), name.clone()));
                if old.map(|old| old.0) != Some(streams) {
                    self.namespaces.insert((tenant, name), (streams, next));
                    self.version = next;
                }
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let tenant = || prop_oneof!["default", "a", "a-", "b"].prop_map(String::from);
    let name = || prop_oneof!["a", "B", "c"].prop_map(String::from);
    prop_oneof![
        (tenant(), 0..3_u64, 0..3_u64).prop_map(|(t, n, s)| Step::Tenant(t, n, s)),
        (tenant(), 0..4_u64, 0..3_u64).prop_map(|(t, n, s)| Step::Quotas(t, n, s)),
        (tenant(), name(), 0..3_u64).prop_map(|(t, n, s)| Step::Namespace(t, n, s)),
        (tenant(), name(), 0..3_u64).prop_map(|(t, n, s)| Step::NamespaceQuotas(t, n, s)),
    ]
}

fn expects() -> impl Strategy<Value = Expect> {
    prop_oneof![
        8 => Just(Expect::Any),
        1 => Just(Expect::Absent),
        2 => (0..6_u64).prop_map(|version| Expect::Version(MetaVersion(version))),
    ]
}

proptest! {
    #[test]
    fn commands_do_what_a_model_without_tricks_does(
        script in prop::collection::vec((steps(), expects(), 0..12_u128, any::<bool>()), 1..40)
    ) {
        let mut replica = Replica::new();
        let mut other = Replica::new();
        let mut model = Model::default();
        model.tenants.insert("default".into(), (0, 0, 0));
        for (at, (step, expect, request, restart)) in script.into_iter().enumerate() {
            let entry = Envelope {
                stamp: WallMs(at as u64),
                request,
                expect,
                ..envelope(step.command())
            };
            let applied = replica.apply(&entry);
            other.apply(&entry);
            if let Some(version) = model.requests.get(&request) {
                prop_assert!(applied.duplicate);
                prop_assert_eq!(applied.version.0, *version);
            } else {
                let against = model.against(&step, expect);
                let found = applied.result.as_ref().err().map(|error| error.code());
                prop_assert_eq!(found, against, "{:?}", step);
                if against.is_none() {
                    model.take(&step);
                    if request != 0 {
                        model.requests.insert(request, model.version);
                    }
                }
            }
            prop_assert_eq!(replica.state.version().0, model.version);
            // A replica that starts again in between goes on like one that did not.
            if restart {
                replica.restart();
            }
            prop_assert_eq!(replica.state.state_hash(), other.state.state_hash());
        }
        let objects = model.tenants.len() + model.namespaces.len();
        prop_assert_eq!(replica.state.objects().count(), objects);
    }
}
