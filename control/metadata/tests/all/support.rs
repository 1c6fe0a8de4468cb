//! A state and the next entry of its log.

use pinion_metadata::command::{CreateNamespace, CreateTenant, UpdateNamespace, UpdateTenant};
use pinion_metadata::tenant::{NamespaceQuotas, TenantQuotas};
use pinion_metadata::{
    Applied, BrokerNumber, Command, Envelope, Expect, MetaCode, Metadata, Object, ObjectKey,
    Outcome,
};
use pinion_types::WallMs;

pub(crate) const CLUSTER: [u8; 16] = *b"cluster-16-bytes";

/// An envelope without conditions.
pub(crate) fn envelope(command: Command) -> Envelope {
    Envelope {
        stamp: WallMs(1_000),
        request: 0,
        principal: "p:ana".into(),
        origin: BrokerNumber(0),
        expect: Expect::Any,
        command,
    }
}

/// A state that is checked after every command, and restored from its snapshot.
pub(crate) struct Replica {
    pub(crate) state: Metadata,
}

impl Replica {
    pub(crate) fn new() -> Self {
        Self {
            state: Metadata::genesis(CLUSTER),
        }
    }

    /// Applies the next entry as it comes out of a log.
    pub(crate) fn apply(&mut self, envelope: &Envelope) -> Applied {
        let before = self.state.version();
        let entry = Envelope::decode(&envelope.encode().unwrap()).unwrap();
        assert_eq!(entry, *envelope, "one meaning before and after the log");
        let applied = self.state.apply(self.state.applied_index() + 1, &entry);
        self.state.check().unwrap();
        let versions = applied.changes.iter().map(|change| change.version.0);
        let dense = before.0 + 1..=before.0 + applied.changes.len() as u64;
        assert!(versions.eq(dense), "versions are dense");
        let last = before.0 + applied.changes.len() as u64;
        assert_eq!(self.state.version().0, last, "changes alone make versions");
        for change in &*applied.changes {
            let now = self.state.get(&change.object.meta.key);
            assert_eq!(now, Some(&change.object));
            assert_eq!(change.object.meta.version, change.version);
        }
        if applied.result.is_err() {
            assert!(applied.changes.is_empty(), "refused, and nothing changed");
        }
        applied
    }

    /// Takes the place of this replica by one restored from its snapshot.
    pub(crate) fn restart(&mut self) {
        let restored = Metadata::restore(&self.state.snapshot().encode()).unwrap();
        assert_eq!(restored.state_hash(), self.state.state_hash());
        assert_eq!(restored.snapshot().encode(), self.state.snapshot().encode());
        self.state = restored;
    }

    #[track_caller]
    pub(crate) fn done(&mut self, command: Command) -> Applied {
        let applied = self.apply(&envelope(command));
        assert!(applied.result.is_ok(), "{:?}", applied.result);
        applied
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, command: Command, code: MetaCode) {
        let applied = self.apply(&envelope(command));
        match applied.result {
            Err(error) => assert_eq!(error.code(), code, "{error}"),
            Ok(outcome) => panic!("{outcome:?}"),
        }
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> &Object {
        self.state.get(key).unwrap()
    }
}

/// The object that an envelope was about.
#[track_caller]
pub(crate) fn object(applied: &Applied) -> &Object {
    match &applied.result {
        Ok(Outcome::Object(object)) => object,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn create_tenant(name: &str, quotas: TenantQuotas) -> Command {
    Command::CreateTenant(CreateTenant {
        name: name.into(),
        display_name: "".into(),
        description: "".into(),
        quotas,
        encryption: None,
    })
}

pub(crate) fn update_tenant(name: &str) -> UpdateTenant {
    UpdateTenant {
        name: name.into(),
        display_name: None,
        description: None,
        quotas: None,
        encryption: None,
    }
}

pub(crate) fn create_namespace(tenant: &str, name: &str, quotas: NamespaceQuotas) -> Command {
    Command::CreateNamespace(CreateNamespace {
        tenant: tenant.into(),
        name: name.into(),
        description: "".into(),
        quotas,
    })
}

pub(crate) fn update_namespace(tenant: &str, name: &str) -> UpdateNamespace {
    UpdateNamespace {
        tenant: tenant.into(),
        name: name.into(),
        description: None,
        quotas: None,
    }
}

/// No quotas at all.
pub(crate) const FREE: TenantQuotas = TenantQuotas {
    max_namespaces: 0,
    max_streams: 0,
    max_publish_rate: 0,
    max_storage_bytes: 0,
    max_connections: 0,
    max_cache_memory_bytes: 0,
    max_policies: 0,
};

/// No quotas at all.
pub(crate) const OPEN: NamespaceQuotas = NamespaceQuotas {
    max_streams: 0,
    max_publish_rate: 0,
};
