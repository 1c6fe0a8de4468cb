//! What is done to brokers and members.

use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{Kind, Quantity};
use pinion_metadata::broker::BrokerStatus;
use pinion_metadata::{Body, ObjectKey};
use serde_json::json;

use super::{Plan, Planned, code, fact};
use crate::call::Wanted;
use crate::error::Failure;
use crate::routes::Verb;
use crate::ui::context::PageContext;
use crate::ui::session::Asked;

/// Takes a broker out of use, or into use again.
pub(super) async fn drain(context: &PageContext, asked: &Asked, draining: bool) -> Planned {
    context.sees_cluster()?;
    let key = ObjectKey::broker(&asked.target);
    let looked = key.clone();
    let found = context.look(move |metadata| {
        let object = metadata.get(&looked)?;
        let Body::Broker(broker) = &object.body else {
            return None;
        };
        let usage = metadata.broker_usage(broker.number);
        Some((object.meta.version, broker.clone(), usage))
    });
    let (version, broker, usage) = found.await?.ok_or_else(Failure::not_found)?;
    let state = match broker.status() {
        BrokerStatus::Active => "active",
        BrokerStatus::Draining => "draining",
        BrokerStatus::Down => "down",
    };
    let (path, consequences, done) = if draining {
        (
            "/v1/brokers/{b}/drain",
            vec![
                "No new shard is placed on it.".to_owned(),
                "What is on it is served until it is moved; nothing is moved by itself.".to_owned(),
            ],
            format!("Broker {} is draining.", asked.target),
        )
    } else {
        (
            "/v1/brokers/{b}/activate",
            vec!["New shards are placed on it again.".to_owned()],
            format!("Broker {} is in use again.", asked.target),
        )
    };
    Ok(Plan {
        preview: vec![
            fact("State", Quantity::Text(state.to_owned())),
            fact("Address", code(&broker.facts.address)),
            fact("Shards it leads", Quantity::Count(usage.leads)),
            fact("Copies it has", Quantity::Count(usage.copies)),
            fact("Shards on their way to it", Quantity::Count(usage.arriving)),
        ],
        kind: Kind::Durable,
        consequences,
        inputs: Vec::new(),
        back: Place::Placement,
        version: Some(version),
        row: ("set_draining", key.to_string()),
        route: (Verb::Post, path),
        wanted: Wanted {
            parts: vec![("b", asked.target.clone())],
            query: Vec::new(),
            expect: Some(version),
            body: None,
        },
        steps: None,
        done,
    })
}

/// Lets another member lead the group.
pub(super) async fn transfer(context: &PageContext, asked: &Asked) -> Planned {
    context.sees_cluster()?;
    let status = context.api.plane.status().await.map_err(Failure::from)?;
    let name = asked.target.as_str();
    let is_this = *name == *context.api.node;
    let peer = status.peers.iter().find(|peer| {
        let named = peer.name.as_ref();
        named.is_some_and(|named| named.to_string() == name)
    });
    let mut preview = vec![fact(
        "Leads now",
        status.leader.as_ref().map_or(Quantity::Unknown, code),
    )];
    if let Some(peer) = peer {
        preview.push(fact("Entries it lacks", Quantity::Count(peer.lag)));
        let heard = if peer.active { "yes" } else { "no" };
        preview.push(fact("Heard of lately", Quantity::Text(heard.to_owned())));
    } else if is_this {
        preview.push(fact("This node", Quantity::Text("yes".to_owned())));
    }
    Ok(Plan {
        preview,
        kind: Kind::Live,
        consequences: vec![
            "For as long as an election takes, changes of the metadata wait.".to_owned(),
            "Data goes on as before.".to_owned(),
            "Only the node that leads can give the lead away: ask there.".to_owned(),
        ],
        inputs: Vec::new(),
        back: Place::Raft,
        version: None,
        row: ("transfer_leader", format!("node/{name}")),
        route: (Verb::Post, "/v1/raft/transfer-leadership"),
        wanted: Wanted {
            body: Some(json!({ "to": name })),
            ..Wanted::default()
        },
        steps: None,
        done: format!("{name} was told to lead."),
    })
}
