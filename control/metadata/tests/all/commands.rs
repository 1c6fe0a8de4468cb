//! What each command does, and what it refuses.

use pinion_metadata::command::{CreateTenant, UpdateTenant};
use pinion_metadata::tenant::{DEFAULT_TENANT_NUMBER, Encryption, NamespaceQuotas, TenantQuotas};
use pinion_metadata::{
    Body, ChangeKind, Command, Envelope, Expect, MetaCode, MetaError, MetaVersion, Object,
    ObjectKey, TenantNumber,
};
use pinion_types::WallMs;

use crate::support::{
    FREE, OPEN, Replica, create_namespace, create_tenant, envelope, object, update_namespace,
    update_tenant,
};

fn number(object: &Object) -> TenantNumber {
    match &object.body {
        Body::Tenant(tenant) => tenant.number,
        _ => panic!("{}", object.meta.key),
    }
}

#[test]
fn the_tenant_default_is_there_from_the_start() {
    let replica = Replica::new();
    let default = replica.get(&ObjectKey::tenant("default"));
    assert_eq!(number(default), DEFAULT_TENANT_NUMBER);
    assert_eq!(replica.state.version(), MetaVersion(0));
    replica.state.check().unwrap();
}

#[test]
fn a_tenant_is_made_changed_and_keeps_its_number() {
    let mut replica = Replica::new();
    let made = replica.done(create_tenant("acme", FREE));
    assert_eq!(made.version, MetaVersion(1));
    assert_eq!(made.changes[0].kind, ChangeKind::Create);
    assert_eq!(number(object(&made)), TenantNumber(2));
    assert_eq!(object(&made).meta.created, WallMs(1_000));

    let mut change = envelope(Command::UpdateTenant(UpdateTenant {
        description: Some("makes anvils".into()),
        ..update_tenant("acme")
    }));
    change.stamp = WallMs(2_000);
    let changed = replica.apply(&change);
    let meta = &object(&changed).meta;
    assert_eq!(changed.changes[0].kind, ChangeKind::Update);
    assert_eq!((meta.created, meta.updated), (WallMs(1_000), WallMs(2_000)));
    assert_eq!((meta.version, meta.generation), (MetaVersion(2), 2));
    assert_eq!(number(object(&changed)), TenantNumber(2));

    let other = replica.done(create_tenant("other", FREE));
    assert_eq!(number(object(&other)), TenantNumber(3));
}

#[test]
fn a_change_to_what_is_there_already_is_no_change() {
    let mut replica = Replica::new();
    replica.done(create_tenant("acme", FREE));
    let same = replica.done(Command::UpdateTenant(UpdateTenant {
        description: Some("".into()),
        ..update_tenant("acme")
    }));
    assert!(same.changes.is_empty());
    assert_eq!(same.version, MetaVersion(1));
    assert_eq!(object(&same).meta.generation, 1);
}

#[test]
fn an_encryption_key_is_set_and_taken_away() {
    let mut replica = Replica::new();
    replica.done(create_tenant("acme", FREE));
    let key = |key_id: &str| Encryption {
        key_id: key_id.into(),
        rotation_period_ms: 1,
    };
    let set = |encryption| {
        Command::UpdateTenant(UpdateTenant {
            encryption: Some(encryption),
            ..update_tenant("acme")
        })
    };
    let of = |object: &Object| match &object.body {
        Body::Tenant(tenant) => tenant.encryption.clone(),
        _ => None,
    };
    let with = replica.done(set(Some(key("k1"))));
    assert_eq!(of(object(&with)), Some(key("k1")));
    replica.refused(set(Some(key(""))), MetaCode::BadSpec);
    replica.refused(set(Some(key("a\u{1b}b"))), MetaCode::BadText);
    let without = replica.done(set(None));
    assert_eq!(of(object(&without)), None);
}

#[test]
fn names_and_texts_are_checked() {
    let mut replica = Replica::new();
    for name in ["", ".", "..", "Acme", "a/b", "a b", "ä", &"x".repeat(64)] {
        replica.refused(create_tenant(name, FREE), MetaCode::BadName);
        let update = Command::UpdateTenant(update_tenant(name));
        replica.refused(update, MetaCode::BadName);
        replica.refused(create_namespace(name, "n", OPEN), MetaCode::BadName);
        if name != "Acme" {
            replica.refused(create_namespace("default", name, OPEN), MetaCode::BadName);
            let update = Command::UpdateNamespace(update_namespace("default", name));
            replica.refused(update, MetaCode::BadName);
        }
    }
    replica.done(create_namespace("default", "Acme", OPEN));
    let tenant = |display: &str, description: &str| {
        Command::CreateTenant(CreateTenant {
            name: "acme".into(),
            display_name: display.into(),
            description: description.into(),
            quotas: FREE,
            encryption: None,
        })
    };
    replica.refused(tenant(&"x".repeat(257), ""), MetaCode::BadSpec);
    replica.refused(tenant("", &"x".repeat(1025)), MetaCode::BadSpec);
    replica.refused(tenant("", "a\tb"), MetaCode::BadText);
    replica.done(tenant(&"x".repeat(256), &"x".repeat(1024)));
}

#[test]
fn a_principal_is_checked_like_any_text() {
    let mut replica = Replica::new();
    let by = |principal: &str| Envelope {
        principal: principal.into(),
        ..envelope(Command::Noop)
    };
    for (principal, code) in [
        ("p:\n", MetaCode::BadText),
        (&*"p".repeat(257), MetaCode::BadSpec),
    ] {
        let error = replica.apply(&by(principal)).result.unwrap_err();
        assert_eq!(error.code(), code);
    }
    assert!(replica.apply(&by(&"p".repeat(256))).result.is_ok());
}

#[test]
fn what_exists_is_not_made_again_and_what_does_not_is_not_changed() {
    let mut replica = Replica::new();
    replica.refused(create_tenant("default", FREE), MetaCode::Exists);
    replica.refused(
        Command::UpdateTenant(update_tenant("acme")),
        MetaCode::NotFound,
    );
    replica.refused(create_namespace("acme", "n", OPEN), MetaCode::NotFound);
    replica.refused(
        Command::UpdateNamespace(update_namespace("default", "n")),
        MetaCode::NotFound,
    );
    replica.done(create_namespace("default", "n", OPEN));
    replica.refused(create_namespace("default", "n", OPEN), MetaCode::Exists);
}

#[test]
fn a_tenant_has_no_more_namespaces_than_its_quota() {
    let mut replica = Replica::new();
    let two = TenantQuotas {
        max_namespaces: 2,
        ..FREE
    };
    replica.done(create_tenant("acme", two));
    replica.done(create_namespace("acme", "a", OPEN));
    replica.done(create_namespace("acme", "b", OPEN));
    let over = replica.apply(&envelope(create_namespace("acme", "c", OPEN)));
    let Err(MetaError::QuotaExceeded { limit, used, .. }) = over.result else {
        panic!("{over:?}");
    };
    assert_eq!((limit, used), (2, 2));
    // Another tenant's count for nothing here.
    replica.done(create_namespace("default", "c", OPEN));

    let quota = |max_namespaces| {
        Command::UpdateTenant(UpdateTenant {
            quotas: Some(TenantQuotas {
                max_namespaces,
                ..FREE
            }),
            ..update_tenant("acme")
        })
    };
    replica.refused(quota(1), MetaCode::QuotaBelowUse);
    replica.done(quota(3));
    replica.done(create_namespace("acme", "c", OPEN));
    replica.done(quota(0));
    replica.done(create_namespace("acme", "d", OPEN));
}

#[test]
fn a_namespace_gets_no_more_than_its_tenant() {
    let mut replica = Replica::new();
    let tenant = TenantQuotas {
        max_streams: 10,
        max_publish_rate: 100,
        ..FREE
    };
    let quotas = |max_streams, max_publish_rate| NamespaceQuotas {
        max_streams,
        max_publish_rate,
    };
    replica.done(create_tenant("acme", tenant));
    for above in [quotas(11, 0), quotas(0, 101)] {
        let command = create_namespace("acme", "a", above);
        replica.refused(command, MetaCode::QuotaAboveParent);
    }
    replica.done(create_namespace("acme", "a", quotas(10, 100)));
    let mut update = update_namespace("acme", "a");
    update.quotas = Some(quotas(10, 101));
    let update = Command::UpdateNamespace(update);
    replica.refused(update, MetaCode::QuotaAboveParent);

    // The other way round: the tenant does not fall below what it gave.
    let lower = Command::UpdateTenant(UpdateTenant {
        quotas: Some(TenantQuotas {
            max_streams: 9,
            ..tenant
        }),
        ..update_tenant("acme")
    });
    replica.refused(lower.clone(), MetaCode::QuotaAboveParent);
    let mut update = update_namespace("acme", "a");
    update.quotas = Some(quotas(9, 0));
    replica.done(Command::UpdateNamespace(update));
    replica.done(lower);
}

#[test]
fn a_condition_on_the_target_is_met_or_nothing_happens() {
    let mut replica = Replica::new();
    let with = |expect, command| Envelope {
        expect,
        ..envelope(command)
    };
    let update = |text: &str| {
        Command::UpdateTenant(UpdateTenant {
            description: Some(text.into()),
            ..update_tenant("acme")
        })
    };
    let made = replica.apply(&with(Expect::Absent, create_tenant("acme", FREE)));
    let at = object(&made).meta.version;
    assert!(
        replica
            .apply(&with(Expect::Version(at), update("1")))
            .result
            .is_ok()
    );
    let late = replica.apply(&with(Expect::Version(at), update("2")));
    assert_eq!(
        late.result,
        Err(MetaError::VersionConflict {
            expected: Expect::Version(at),
            found: Some(MetaVersion(at.0 + 1)),
        })
    );
    let absent = replica.apply(&with(Expect::Absent, update("3")));
    assert_eq!(absent.result.unwrap_err().code(), MetaCode::VersionConflict);
    let gone = with(
        Expect::Version(at),
        Command::UpdateTenant(update_tenant("gone")),
    );
    let gone = replica.apply(&gone);
    assert_eq!(gone.result.unwrap_err().code(), MetaCode::VersionConflict);
}

#[test]
fn a_repeated_request_is_done_once() {
    let mut replica = Replica::new();
    let first = Envelope {
        request: 7,
        ..envelope(create_tenant("acme", FREE))
    };
    let made = replica.apply(&first);
    replica.done(create_tenant("other", FREE));
    replica.restart();
    let again = replica.apply(&first);
    assert!(again.duplicate && again.changes.is_empty());
    assert_eq!(again.version, made.version);
    assert_eq!(object(&again), object(&made));

    // The same number from someone else is another request.
    let stranger = Envelope {
        principal: "p:bo".into(),
        ..first.clone()
    };
    let error = replica.apply(&stranger).result.unwrap_err();
    assert_eq!(error.code(), MetaCode::Exists);
    // And 0 is no number.
    let unnamed = Envelope {
        request: 0,
        ..first
    };
    assert!(!replica.apply(&unnamed).duplicate);
    assert!(!replica.apply(&unnamed).duplicate);
}

#[test]
fn a_refused_request_is_decided_anew_when_it_is_repeated() {
    let mut replica = Replica::new();
    let early = Envelope {
        request: 7,
        ..envelope(create_namespace("acme", "n", OPEN))
    };
    assert!(replica.apply(&early).result.is_err());
    replica.done(create_tenant("acme", FREE));
    let late = replica.apply(&early);
    assert!(late.result.is_ok() && !late.duplicate);
}

#[test]
fn the_oldest_requests_are_forgotten() {
    let mut replica = Replica::new();
    let numbered = |request| Envelope {
        request,
        ..envelope(Command::Noop)
    };
    let kept = pinion_metadata::limits::DUPLICATES_KEPT as u128;
    let mut index = 0;
    let mut apply = |request| {
        index += 1;
        replica.state.apply(index, &numbered(request)).duplicate
    };
    for request in 1..=kept {
        assert!(!apply(request));
    }
    assert!(apply(1), "as many as are kept");
    assert!(!apply(kept + 1));
    assert!(!apply(1), "it made room for a later one");
    assert!(apply(3));
    replica.state.check().unwrap();
    replica.restart();
}

#[test]
fn time_does_not_go_back() {
    let mut replica = Replica::new();
    let at = |stamp, command| Envelope {
        stamp: WallMs(stamp),
        ..envelope(command)
    };
    replica.apply(&at(5_000, Command::Noop));
    let made = replica.apply(&at(4_000, create_tenant("acme", FREE)));
    assert_eq!(object(&made).meta.created, WallMs(5_000));
    assert_eq!(replica.state.last_stamp(), WallMs(5_000));
}

#[test]
fn refusals_say_what_was_wrong() {
    let mut replica = Replica::new();
    let refusal = |replica: &mut Replica, command| {
        let error = replica.apply(&envelope(command)).result.unwrap_err();
        error.to_string()
    };
    assert_eq!(
        refusal(&mut replica, create_namespace("acme", "n", OPEN)),
        "there is no tenant/acme"
    );
    assert_eq!(
        refusal(&mut replica, create_tenant("a b", FREE)),
        "the name of the tenant: byte 0x20 at 1 is not one of A-Z a-z 0-9 . _ -"
    );
}
