//! The first page: is it well, and what asks for somebody.

use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{Issue, Kind, Level, Overview, StatusBand};
use pinion_metadata::broker::BrokerStatus;

use crate::error::Failure;
use crate::ui::context::{PageContext, Shown};

pub(super) async fn page(context: &PageContext) -> Result<Shown, Failure> {
    let issues = match context.access.tenant() {
        None => issues(context).await,
        // What is wrong with the cluster is said to who sees it.
        Some(_) => Vec::new(),
    };
    let level = issues.iter().map(|issue| issue.level).max();
    let headline = match issues.len() {
        0 => "All is well".to_owned(),
        1 => "One thing asks for somebody".to_owned(),
        count => format!("{count} things ask for somebody"),
    };
    let known = context.look(|metadata| metadata.brokers().count()).await;
    let detail = match known {
        Ok(1) => "One broker is registered.".to_owned(),
        Ok(count) => format!("{count} brokers are registered."),
        Err(_) => "Nothing of the cluster is known yet.".to_owned(),
    };
    Ok(Overview {
        status: StatusBand {
            level: level.unwrap_or(Level::Ok),
            headline,
            detail,
            fresh: context.fresh(Kind::Live),
        },
        issues,
        tiles: Vec::new(),
        tiles_fresh: context.fresh(Kind::Live),
        cores: Vec::new(),
        cores_fresh: context.fresh(Kind::Live),
        cores_step_ms: 1_000,
        domains: Vec::new(),
        domains_fresh: context.fresh(Kind::Mixed),
    }
    .into())
}

/// What asks for somebody, worst first.
pub(super) async fn issues(context: &PageContext) -> Vec<Issue> {
    let mut all = Vec::new();
    match context.api.plane.status().await {
        Ok(status) if status.leader.is_none() => all.push(Issue {
            level: Level::Bad,
            title: "The group has no leader".to_owned(),
            detail: "Data is served; the metadata cannot be changed.".to_owned(),
            advice: "See which members are not heard of, and start them.".to_owned(),
            place: Place::Raft,
            since_ms: 0,
        }),
        Ok(_) => {}
        Err(error) => all.push(Issue {
            level: Level::Bad,
            title: "The control plane does not answer".to_owned(),
            detail: error.to_string(),
            advice: "See the log of this node.".to_owned(),
            place: Place::About,
            since_ms: 0,
        }),
    }
    let now = context.now;
    let brokers = context.look(move |metadata| {
        let brokers = metadata.brokers();
        let unwell = brokers.filter_map(|(name, broker)| match broker.status() {
            BrokerStatus::Down => {
                let since = broker.down.map_or(0, |since| now.0.saturating_sub(since.0));
                Some((name.to_owned(), Level::Bad, since))
            }
            BrokerStatus::Draining => Some((name.to_owned(), Level::Info, 0)),
            BrokerStatus::Active => None,
        });
        unwell.collect::<Vec<_>>()
    });
    for (name, level, since_ms) in brokers.await.unwrap_or_default() {
        let (title, detail, advice) = if level == Level::Bad {
            (
                format!("Broker {name} is down"),
                "What it leads is served by nobody.",
                "Start it, or remove it when nothing is on it.",
            )
        } else {
            (
                format!("Broker {name} is draining"),
                "Nothing new is placed on it.",
                "Nothing is to be done while its shards become fewer.",
            )
        };
        all.push(Issue {
            level,
            title,
            detail: detail.to_owned(),
            advice: advice.to_owned(),
            place: Place::Placement,
            since_ms,
        });
    }
    all.sort_by_key(|issue| core::cmp::Reverse(issue.level));
    all
}
