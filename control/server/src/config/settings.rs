//! What is one for the whole cluster and a node may say: `[heartbeat]`, and a key of
//! `[deletion]` and of `[auth]`. It is that of the node that started last and says something.

use pinion_metadata::command::UpdateSettings;
use pinion_metadata::limits::{
    HEARTBEAT_MS_MAX, HEARTBEAT_MS_MIN, MISSED_MAX, TOKEN_LIFE_S_MAX, TOKEN_LIFE_S_MIN,
};
use pinion_metadata::settings::Settings;
use serde::{Deserialize, Serialize};

use super::{Auth, Config, ConfigError};

/// When a node that is silent is down.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Heartbeat {
    /// Milliseconds between two words of a node to the one that leads.
    pub(crate) interval_ms: Option<u32>,
    /// Words in a row after whose absence it is down.
    pub(crate) missed: Option<u16>,
}

impl Heartbeat {
    pub(super) fn check(self) -> Result<(), ConfigError> {
        if let Some(interval) = self.interval_ms
            && !(HEARTBEAT_MS_MIN..=HEARTBEAT_MS_MAX).contains(&interval)
        {
            return Err(ConfigError::Value {
                key: "heartbeat.interval_ms",
                value: interval.to_string(),
                expected: "milliseconds from 100 to 60000",
            });
        }
        if let Some(missed) = self.missed
            && !(1..=MISSED_MAX).contains(&missed)
        {
            return Err(ConfigError::Value {
                key: "heartbeat.missed",
                value: missed.to_string(),
                expected: "a number from 1 to 100",
            });
        }
        Ok(())
    }
}

impl Auth {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.token_life_s {
            Some(life) if !(TOKEN_LIFE_S_MIN..=TOKEN_LIFE_S_MAX).contains(&life) => {
                Err(ConfigError::Value {
                    key: "auth.token_life_s",
                    value: life.to_string(),
                    expected: "seconds from 60 to 3600",
                })
            }
            _ => Ok(()),
        }
    }
}

impl Config {
    /// What it says of the settings of the cluster.
    pub(crate) fn settings(&self) -> UpdateSettings {
        UpdateSettings {
            heartbeat_ms: self.heartbeat.interval_ms,
            missed: self.heartbeat.missed,
            grace_ms: self.deletion.grace_ms,
            token_life_s: self.auth.token_life_s,
        }
    }
}

/// What of that is not so yet, if anything is not.
pub(crate) fn missing(said: UpdateSettings, now: &Settings) -> Option<UpdateSettings> {
    let missing = UpdateSettings {
        heartbeat_ms: said.heartbeat_ms.filter(|said| *said != now.heartbeat_ms),
        missed: said.missed.filter(|said| *said != now.missed),
        grace_ms: said.grace_ms.filter(|said| *said != now.grace_ms),
        token_life_s: said.token_life_s.filter(|said| *said != now.token_life_s),
    };
    let nothing = missing.heartbeat_ms.is_none()
        && missing.missed.is_none()
        && missing.grace_ms.is_none()
        && missing.token_life_s.is_none();
    (!nothing).then_some(missing)
}

// What the messages above say.
const _: () = assert!(HEARTBEAT_MS_MIN == 100 && HEARTBEAT_MS_MAX == 60_000);
const _: () = assert!(MISSED_MAX == 100);
const _: () = assert!(TOKEN_LIFE_S_MIN == 60 && TOKEN_LIFE_S_MAX == 3_600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Deletion;

    fn said(interval_ms: u32, missed: u16, token_life_s: u32) -> Config {
        Config {
            heartbeat: Heartbeat {
                interval_ms: Some(interval_ms),
                missed: Some(missed),
            },
            auth: Auth {
                token_life_s: Some(token_life_s),
                ..Auth::default()
            },
            ..Config::default()
        }
    }

    #[test]
    fn what_no_cluster_could_keep_to_is_refused() {
        Config::default().check().expect("nothing said");
        for good in [said(100, 1, 60), said(60_000, 100, 3_600)] {
            good.check().expect("good");
        }
        for (wrong, word) in [
            (said(99, 3, 900), "heartbeat.interval_ms = '99'"),
            (said(60_001, 3, 900), "heartbeat.interval_ms = '60001'"),
            (said(5_000, 0, 900), "heartbeat.missed = '0'"),
            (said(5_000, 101, 900), "heartbeat.missed = '101'"),
            (said(5_000, 3, 59), "auth.token_life_s = '59'"),
            (said(5_000, 3, 3_601), "auth.token_life_s = '3601'"),
        ] {
            let refused = wrong.check().expect_err("nonsense").to_string();
            assert!(refused.contains(word), "{refused}");
        }
    }

    #[test]
    fn what_is_said_and_is_not_so_is_asked_for_and_nothing_else() {
        let now = Settings::default();
        assert_eq!(missing(Config::default().settings(), &now), None);
        let same = said(now.heartbeat_ms, now.missed, now.token_life_s);
        assert_eq!(missing(same.settings(), &now), None);
        let mut other = said(1_000, 7, 60);
        other.deletion = Deletion {
            grace_ms: Some(now.grace_ms),
        };
        let asked = UpdateSettings {
            heartbeat_ms: Some(1_000),
            missed: Some(7),
            grace_ms: None,
            token_life_s: Some(60),
        };
        assert_eq!(missing(other.settings(), &now), Some(asked));
        let mut grace = Config::default();
        grace.deletion.grace_ms = Some(1);
        let asked = missing(grace.settings(), &now).and_then(|asked| asked.grace_ms);
        assert_eq!(asked, Some(1));
    }
}
