//! Settings: defaults until somebody says otherwise.

use pinion_metadata::command::UpdateSettings;
use pinion_metadata::settings::Settings;
use pinion_metadata::{Body, Command, MetaCode};

use crate::support::{Replica, object};

const NOTHING: UpdateSettings = UpdateSettings {
    heartbeat_ms: None,
    missed: None,
    grace_ms: None,
    token_life_s: None,
};

#[test]
fn settings_are_the_defaults_until_one_is_changed() {
    let mut replica = Replica::new();
    assert_eq!(replica.state.settings(), Settings::default());
    let longer = UpdateSettings {
        grace_ms: Some(1),
        ..NOTHING
    };
    let changed = replica.done(Command::UpdateSettings(longer));
    let expected = Settings {
        grace_ms: 1,
        ..Settings::default()
    };
    assert_eq!(object(&changed).body, Body::Settings(expected));
    assert_eq!(replica.state.settings(), expected);
    replica.restart();
    let sooner = UpdateSettings {
        heartbeat_ms: Some(100),
        missed: Some(100),
        token_life_s: Some(60),
        ..NOTHING
    };
    replica.done(Command::UpdateSettings(sooner));
    let expected = Settings {
        heartbeat_ms: 100,
        missed: 100,
        token_life_s: 60,
        ..expected
    };
    assert_eq!(replica.state.settings(), expected);
    let same = replica.done(Command::UpdateSettings(NOTHING));
    assert!(same.changes.is_empty());
}

#[test]
fn settings_have_their_ranges() {
    let mut replica = Replica::new();
    for update in [
        UpdateSettings {
            heartbeat_ms: Some(99),
            ..NOTHING
        },
        UpdateSettings {
            heartbeat_ms: Some(60_001),
            ..NOTHING
        },
        UpdateSettings {
            missed: Some(0),
            ..NOTHING
        },
        UpdateSettings {
            missed: Some(101),
            ..NOTHING
        },
        UpdateSettings {
            grace_ms: Some(0),
            ..NOTHING
        },
        UpdateSettings {
            grace_ms: Some(u64::MAX),
            ..NOTHING
        },
        UpdateSettings {
            token_life_s: Some(59),
            ..NOTHING
        },
        UpdateSettings {
            token_life_s: Some(3_601),
            ..NOTHING
        },
    ] {
        replica.refused(Command::UpdateSettings(update), MetaCode::BadSpec);
    }
}
