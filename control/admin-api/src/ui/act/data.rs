//! What is done to dead letters and to connections.

use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{Address, Fact, Kind, Operation, Quantity};
use pinion_metadata::Action;
use pinion_types::ResourceKind;

use super::steps::{Step, Steps};
use super::{Plan, Planned, Unplanned, code, fact, input};
use crate::call::Wanted;
use crate::error::Failure;
use crate::limits::ROWS_MAX;
use crate::routes::Verb;
use crate::ui::context::PageContext;
use crate::ui::data::text::{VALUE_BYTES, shown, shown_text};
use crate::ui::form::Fields;
use crate::ui::pages::kept;
use crate::ui::session::Asked;
use crate::views::act::{self as deeds, Letters};
use crate::views::queues::{self, DeadLetterRow, Messages};
use crate::views::sessions::{self, SessionId};
use crate::views::{self, Paging};

const REPLAY: &str = "/api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/dead-letters/{id}/replay";
const DELETE: &str = "/api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/dead-letters/{id}";
const REDRIVE: &str = "/api/v1/queue/realms/{t}/areas/{ns}/resources/{r}/dead-letters/replay";
const CLOSE: &str = "/api/v1/sessions/{s}/close";

/// Most letters that a redrive may give back in a second: what a person writes beyond that
/// is a slip.
const RATE_MAX: u32 = 1_000_000;

/// The queue `namespace/name` of a tenant.
fn queue(context: &PageContext, asked: &Asked, text: &str) -> Result<Address, Failure> {
    if !context.access.sees(&asked.tenant) {
        return Err(Failure::hidden());
    }
    let (namespace, name) = text.split_once('/').ok_or_else(Failure::not_found)?;
    Ok(Address {
        tenant: asked.tenant.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn viewed(queue: &Address) -> views::Address {
    views::Address::new(&queue.tenant, &queue.namespace, &queue.name)
}

fn parts(queue: &Address) -> Vec<(&'static str, String)> {
    vec![
        ("t", queue.tenant.clone()),
        ("ns", queue.namespace.clone()),
        ("r", queue.name.clone()),
    ]
}

/// A dead letter as the list names it: `PARTITION/ID`, and `@GROUP` of one that is not the
/// default group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Letter<'a> {
    family: u16,
    id: u64,
    group: &'a str,
}

impl<'a> Letter<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (family, rest) = text.split_once('/')?;
        let (id, group) = rest.split_once('@').unwrap_or((rest, ""));
        Some(Self {
            family: family.parse().ok()?,
            id: id.parse().ok()?,
            group,
        })
    }
}

/// Gives one dead letter back to its queue, or removes it.
pub(super) async fn letter(context: &PageContext, asked: &Asked) -> Planned {
    let queue = queue(context, asked, asked.more("queue"))?;
    let letter = Letter::parse(&asked.target).ok_or_else(Failure::not_found)?;
    let kept = kept(context, ResourceKind::Queue, &queue).await?;
    let found = find(context, &queue, letter).await?;
    let purge = asked.operation == Operation::PurgeDeadLetter;
    let mut wanted = parts(&queue);
    wanted.push(("id", letter.id.to_string()));
    let query = [
        ("family", letter.family.to_string()),
        ("group", letter.group.to_owned()),
    ];
    let target = deeds::letter_target(&viewed(&queue), (letter.family, letter.group, letter.id));
    let row = deeds::said(&target, true);
    let (route, operation, then, done) = if purge {
        (
            (Verb::Delete, DELETE),
            "queue.delete_letter",
            vec![
                "The message is gone for good.".to_owned(),
                "Other groups keep theirs.".to_owned(),
            ],
            "is gone",
        )
    } else {
        (
            (Verb::Post, REPLAY),
            "queue.replay",
            vec![
                "The message is ready again, its attempts forgotten.".to_owned(),
                "The next consumer that asks is given it.".to_owned(),
            ],
            "is ready again",
        )
    };
    Ok(Plan {
        preview: found.as_ref().map(preview).unwrap_or_default(),
        kind: kept,
        consequences: then,
        inputs: Vec::new(),
        back: Place::DeadLetters(queue.clone()),
        version: None,
        row: (operation, row),
        route,
        wanted: Wanted {
            parts: wanted,
            query: query
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
            ..Wanted::default()
        },
        steps: None,
        done: format!("Dead letter {} {done}.", asked.target),
    })
}

/// The letter, if it is among those that a look finds; of a partition with more than those
/// whether it is there is seen when it is asked for.
async fn find(
    context: &PageContext,
    queue: &Address,
    letter: Letter<'_>,
) -> Result<Option<DeadLetterRow>, Failure> {
    let which = Messages {
        family: Some(letter.family),
        group: Some(letter.group),
        bodies: true,
        paging: Paging {
            limit: ROWS_MAX,
            offset: 0,
        },
        ..Messages::default()
    };
    let address = viewed(queue);
    let listed = queues::dead_letters(&context.api, &context.who, &address, which).await?;
    let all = listed.rows.len() < ROWS_MAX;
    let mut rows = listed.rows.into_iter();
    match rows.find(|one| one.message_id == letter.id) {
        None if all => Err(Failure::not_found()),
        found => Ok(found),
    }
}

fn preview(letter: &DeadLetterRow) -> Vec<Fact> {
    let mut facts = vec![
        fact("Dead since", Quantity::UnixMs(letter.dead_lettered_at.0.0)),
        fact("Put", Quantity::UnixMs(letter.enqueued_at.0.0)),
        fact("Attempts", Quantity::Count(letter.attempts.into())),
        fact("Reason", code(letter.reason)),
        fact("Size", Quantity::Bytes(letter.size_bytes)),
    ];
    if !letter.last_error.is_empty() {
        let said = shown_text(&letter.last_error, VALUE_BYTES);
        facts.push(fact("Last error", Quantity::Text(said)));
    }
    if let Some(value) = &letter.value {
        facts.push(fact("Begins with", code(&shown(value, VALUE_BYTES))));
    }
    facts
}

/// What is written for every partition, and for every group.
const EVERY: &str = "*";

/// Gives the dead letters back that match, at a rate: of every partition and group that has
/// any, or of those that were filled in.
pub(super) async fn redrive(context: &PageContext, asked: &Asked, filled: &Fields) -> Planned {
    let queue = queue(context, asked, &asked.target)?;
    let address = viewed(&queue);
    let kept = kept(context, ResourceKind::Queue, &queue).await?;
    let family: Option<u16> = match filled.get("family").trim() {
        "" | EVERY => None,
        text => Some(text.parse().map_err(|_| Unplanned::BadInput)?),
    };
    // A group whose name is empty is the default one, which somebody may have written.
    let written = filled.iter().find(|(name, _)| *name == "group");
    let group = written.map_or(EVERY, |(_, group)| group.trim());
    let rate: u32 = number(filled, "rate", 0)?;
    if rate > RATE_MAX {
        return Err(Unplanned::BadInput);
    }
    let error = asked.more("q");
    let mut dead = queues::dead(&context.api, &context.who, &address).await?;
    let all = dead.iter().map(|one| one.messages).sum();
    dead.retain(|one| {
        family.is_none_or(|family| family == one.family) && (group == EVERY || group == one.group)
    });
    let chosen = dead.iter().map(|one| one.messages).sum();
    let mut preview = vec![
        fact("Dead letters of the queue", Quantity::Count(all)),
        fact("Of what is chosen", Quantity::Count(chosen)),
    ];
    if !error.is_empty() {
        preview.push(fact("Error begins with", Quantity::Text(error.to_owned())));
    }
    let of = (&address, error, rate);
    let steps = Steps::new(dead.iter().map(|one| step(&queue, of, one)).collect());
    let mut consequences = vec![
        "Dead letters that match are ready again, their attempts forgotten.".to_owned(),
        "It goes on by itself until all of them are; it cannot be stopped.".to_owned(),
    ];
    consequences.extend(steps.bounded());
    let family = family.map_or_else(|| EVERY.to_owned(), |family| family.to_string());
    Ok(Plan {
        preview,
        kind: kept,
        consequences,
        inputs: vec![
            input("family", "Partition", &family, "* is every one"),
            input(
                "group",
                "Group",
                group,
                "* is every one, nothing is the default group",
            ),
            input(
                "rate",
                "Messages a second",
                &rate.to_string(),
                "of each partition and group; 0 is all at once",
            ),
        ],
        back: Place::DeadLetters(queue.clone()),
        version: None,
        row: ("queue.redrive", String::new()),
        route: (Verb::Post, REDRIVE),
        wanted: Wanted {
            parts: parts(&queue),
            ..Wanted::default()
        },
        steps: Some(steps),
        done: String::new(),
    })
}

/// The dead letters of one group in one partition.
fn step(
    queue: &Address,
    (address, error, rate): (&views::Address, &str, u32),
    dead: &queues::Dead,
) -> Step {
    let which = Letters {
        group: &dead.group,
        error_prefix: error,
    };
    let target = deeds::redrive_target(address, (dead.family, which, rate));
    let query = [
        ("family", dead.family.to_string()),
        ("group", dead.group.clone()),
        ("error", error.to_owned()),
        ("rate", rate.to_string()),
    ];
    let mut about = format!("partition {}", dead.family);
    if !dead.group.is_empty() {
        about.push_str(&format!(", group {}", dead.group));
    }
    Step {
        target: deeds::said(&target, true),
        about,
        wanted: Wanted {
            parts: parts(queue),
            query: query
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
            ..Wanted::default()
        },
    }
}

/// A number that somebody filled in; as it is where they did not.
fn number<T: core::str::FromStr>(filled: &Fields, name: &str, usual: T) -> Result<T, Unplanned> {
    match filled.get(name).trim() {
        "" => Ok(usual),
        text => text.parse().map_err(|_| Unplanned::BadInput),
    }
}

/// Ends a connection.
pub(super) async fn close(context: &PageContext, asked: &Asked) -> Planned {
    let id = SessionId::parse(&asked.target).ok_or_else(Failure::not_found)?;
    let reach = context.who.reach(Action::AdminRead)?;
    let (session, _) = sessions::one(&context.api, &reach, id).await?;
    let tenant = session.realm.unwrap_or_else(|| "–".to_owned());
    let target = deeds::session_target(id, &session.principal);
    let remote = session.remote_addr.unwrap_or_else(|| "–".to_owned());
    Ok(Plan {
        preview: vec![
            fact("Who", Quantity::Text(session.principal)),
            fact("Tenant", Quantity::Text(tenant)),
            fact("From", code(&remote)),
            fact("Connected", Quantity::UnixMs(session.connected_at.0.0)),
            fact(
                "Requests in flight",
                Quantity::Count(session.in_flight.into()),
            ),
            fact(
                "Subscriptions",
                Quantity::Count(session.subscriptions.into()),
            ),
        ],
        kind: Kind::Live,
        consequences: vec![
            "Its subscriptions are told END, then the connection is closed.".to_owned(),
            "What it has reserved goes back to its queues.".to_owned(),
            "Its credential stays good: the client may come back.".to_owned(),
        ],
        inputs: Vec::new(),
        back: Place::Sessions,
        version: None,
        row: ("session.close", deeds::said(&target, true)),
        route: (Verb::Post, CLOSE),
        wanted: Wanted {
            parts: vec![("s", id.to_string())],
            ..Wanted::default()
        },
        steps: None,
        done: format!("Session {id} is closed."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_named_as_the_list_names_it() {
        let plain = Letter {
            family: 3,
            id: 48_213,
            group: "",
        };
        assert_eq!(Letter::parse("3/48213"), Some(plain));
        let of_group = Letter {
            group: "archive@eu",
            ..plain
        };
        assert_eq!(Letter::parse("3/48213@archive@eu"), Some(of_group));
        for wrong in ["", "3", "3/", "/4", "x/4", "70000/4", "3/-1"] {
            assert_eq!(Letter::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_action_has_its_route() {
        for (method, path) in [
            (Verb::Post, REPLAY),
            (Verb::Delete, DELETE),
            (Verb::Post, REDRIVE),
            (Verb::Post, CLOSE),
        ] {
            let mut routes = crate::routes::routes();
            assert!(
                routes.any(|route| route.method == method && route.path == path),
                "{path}"
            );
        }
    }
}
