//! What whoever runs the process asks: does it live, is it ready, has it started, is all
//! well. None of it asks a data core or waits for one; it goes by what was heard lately.

use core::time::Duration;

use axum::http::StatusCode;
use pinion_plane::PlaneStatus;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Api;
use crate::call::{Call, Reply, json};
use crate::limits::STUCK_AFTER;

/// Whether the process lives.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Probe {
    /// `ok`, or `stuck` when a data core does not answer or has ended.
    status: &'static str,
}

/// Whether it takes requests.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready` or `not_ready`
    status: &'static str,
    checks: Checks,
}

/// What that takes: each `ok` or `not_ready`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Checks {
    /// No log has failed.
    storage: &'static str,
    /// All data cores answer.
    domains_initialized: &'static str,
    /// The node has caught up with what was decided before it was started.
    control_plane: &'static str,
}

/// Whether it has started.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Startup {
    /// `started` or `starting`
    status: &'static str,
    /// How long that took, since the node began to serve administrators; null until then.
    startup_time_seconds: Option<f64>,
}

/// How it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `healthy` or `degraded`
    status: &'static str,
    /// Of the release.
    version: &'static str,
    uptime_seconds: u64,
    /// What is wrong: `core_stuck`, `log_failed`, `disk_full`, `no_leader`, `not_ready`.
    problems: Vec<&'static str>,
}

/// What probes go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Each data core answered lately.
    pub(crate) cores: bool,
    /// Each data core has answered since the node began.
    pub(crate) heard: bool,
    /// No log has failed.
    pub(crate) storage: bool,
    /// Some log takes only what frees space.
    pub(crate) full: bool,
    /// The plane has caught up.
    pub(crate) plane: bool,
    /// Somebody leads.
    pub(crate) led: bool,
}

impl Standing {
    /// Whether the node takes requests.
    pub(crate) fn is_ready(&self) -> bool {
        self.cores && self.heard && self.storage && self.plane
    }

    fn problems(&self) -> Vec<&'static str> {
        let all = [
            (!self.cores, "core_stuck"),
            (!self.storage, "log_failed"),
            (self.full, "disk_full"),
            (!self.led, "no_leader"),
            (!self.plane, "not_ready"),
        ];
        let those = all.into_iter().filter(|(is, _)| *is);
        those.map(|(_, name)| name).collect()
    }
}

/// How the node is, with what its plane says, if it does.
pub(crate) fn look(api: &Api, plane: Option<&PlaneStatus>) -> Standing {
    let history = api.observer.history();
    let last = || history.cores.iter().map(|samples| samples.back());
    Standing {
        cores: !is_stuck(&api.observer.silent()),
        heard: last().all(|last| last.is_some()),
        storage: last().flatten().all(|last| last.stats.logs_failed == 0),
        full: last().flatten().any(|last| last.logs_read_only > 0),
        plane: plane.is_some_and(|status| status.ready),
        led: plane.is_some_and(|status| status.group.leader.is_some()),
    }
}

fn is_stuck(silent: &[Duration]) -> bool {
    silent.iter().any(|silent| *silent > STUCK_AFTER)
}

fn status(good: bool) -> StatusCode {
    if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

const fn check(good: bool) -> &'static str {
    if good { "ok" } else { "not_ready" }
}

/// That this is answered says that the control thread turns; the cores are asked by
/// the sampler.
pub(crate) async fn live(call: Call) -> Reply {
    let good = !is_stuck(&call.api.observer.silent());
    let body = Probe {
        status: if good { "ok" } else { "stuck" },
    };
    json(status(good), &body)
}

pub(crate) async fn ready(call: Call) -> Reply {
    let plane = call.api.plane.status().await.ok();
    let standing = look(&call.api, plane.as_ref());
    let good = standing.is_ready();
    let body = Ready {
        status: if good { "ready" } else { "not_ready" },
        checks: Checks {
            storage: check(standing.storage),
            domains_initialized: check(standing.cores && standing.heard),
            control_plane: check(standing.plane),
        },
    };
    json(status(good), &body)
}

/// Once started, always started: what happens later is for the other probes.
pub(crate) async fn startup(call: Call) -> Reply {
    let took = call.api.started.get();
    let body = Startup {
        status: if took.is_some() {
            "started"
        } else {
            "starting"
        },
        startup_time_seconds: took.map(Duration::as_secs_f64),
    };
    json(status(took.is_some()), &body)
}

pub(crate) async fn health(call: Call) -> Reply {
    let plane = call.api.plane.status().await.ok();
    let problems = look(&call.api, plane.as_ref()).problems();
    let good = problems.is_empty();
    let body = Health {
        status: if good { "healthy" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: call.api.uptime().as_secs(),
        problems,
    };
    json(status(good), &body)
}

/// Notes when the node was ready for the first time. Ends then, or with `stopping`.
pub(crate) async fn await_start(api: &Api) {
    let mut stopping = api.stopping.clone();
    let mut look_again = tokio::time::interval(START_LOOK_EVERY);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = look_again.tick() => {}
        }
        let plane = api.plane.status().await.ok();
        if look(api, plane.as_ref()).is_ready() {
            // Set once, here alone.
            let _ = api.started.set(api.uptime());
            return;
        }
    }
}

/// How often a node that starts is looked at: as exact as its time is told.
const START_LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Standing = Standing {
        cores: true,
        heard: true,
        storage: true,
        full: false,
        plane: true,
        led: true,
    };

    #[test]
    fn a_core_is_stuck_when_it_was_silent_for_too_long() {
        let ms = Duration::from_millis(1);
        assert!(!is_stuck(&[STUCK_AFTER, Duration::ZERO]));
        assert!(is_stuck(&[Duration::ZERO, STUCK_AFTER + ms]));
        assert!(!is_stuck(&[]), "a node without cores is for tests");
    }

    #[test]
    fn who_cannot_serve_is_not_ready_and_who_serves_less_is_degraded() {
        assert!(WELL.is_ready() && WELL.problems().is_empty());
        let full = Standing { full: true, ..WELL };
        assert!(full.is_ready(), "what frees space is taken, and reads are");
        assert_eq!(full.problems(), ["disk_full"]);
        let alone = Standing { led: false, ..WELL };
        assert!(alone.is_ready(), "data cores need no leader");
        assert_eq!(alone.problems(), ["no_leader"]);
        for (broken, problem) in [
            (
                Standing {
                    cores: false,
                    ..WELL
                },
                "core_stuck",
            ),
            (
                Standing {
                    storage: false,
                    ..WELL
                },
                "log_failed",
            ),
            (
                Standing {
                    plane: false,
                    ..WELL
                },
                "not_ready",
            ),
        ] {
            assert!(!broken.is_ready(), "{problem}");
            assert_eq!(broken.problems(), [problem]);
        }
        assert!(
            !Standing {
                heard: false,
                ..WELL
            }
            .is_ready()
        );
    }
}
