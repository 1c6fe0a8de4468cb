//! `pinion admin watch`: every change, in the order of versions, none left out.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::events::{Event, EventError, Events};
use super::view::{Form, View};
use super::{BASE, Context};
use crate::failure::Failure;
use crate::http::{Ask, HttpError, Refused, Stream};
use crate::human::{Align, Table};

const CHANGES: View = View {
    table: Table(&[
        ("VERSION", 10, Align::Right),
        ("CHANGE", 6, Align::Left),
        ("KEY", 0, Align::Left),
    ]),
    cells: &[
        ("/version", Form::Plain),
        ("/type", Form::Plain),
        ("/key", Form::Plain),
    ],
};

/// Pause before a stream that was lost is opened again.
const PAUSE: Duration = Duration::from_millis(500);
/// How often in a row without a change in between.
const LOST_MAX: u32 = 20;

/// From when on, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// Changes after this version, as `snapshot` and every answer say it [default: from now on]
    #[arg(long, value_name = "VERSION")]
    from: Option<u64>,
    /// End after so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// How far one has come.
struct Place {
    /// The last version that was printed.
    version: u64,
    /// Whose versions they are.
    cluster: String,
    left: u64,
}

impl WatchArgs {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let info = Ask::get(&[BASE, "system", "info"]);
        let info = context.http.ask(&info).await?.body;
        let without = |key| HttpError::Without {
            server: context.http.server().to_owned(),
            key,
        };
        let cluster = info["cluster_id"]
            .as_str()
            .ok_or_else(|| without("cluster_id"))?;
        let version = info["version"].as_u64().ok_or_else(|| without("version"))?;
        let mut place = Place {
            version: self.from.unwrap_or(version),
            cluster: cluster.to_owned(),
            left: self.count.unwrap_or(u64::MAX),
        };
        if !context.json {
            context.printer.line(CHANGES.head());
            context.printer.flush().await?;
        }
        let mut lost = 0;
        while place.left > 0 {
            let before = place.version;
            match follow(context, &mut place).await {
                Ok(()) => {}
                // Nothing is lost with the stream: the next one begins where it ended.
                Err(Failure::Http(
                    error @ (HttpError::Lost { .. } | HttpError::Connect { .. }),
                )) => {
                    if place.version > before {
                        lost = 0;
                    }
                    lost += 1;
                    if lost > LOST_MAX {
                        return Err(error.into());
                    }
                }
                Err(failure) => return Err(failure),
            }
            if place.left > 0 {
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

/// Prints what one stream brings.
async fn follow(context: &mut Context, place: &mut Place) -> Result<(), Failure> {
    let ask = Ask::get(&[BASE, "metadata", "watch"])
        .query("from_version", Some(place.version))
        .query("cluster_id", Some(&place.cluster));
    let mut stream: Stream = context.http.open(&ask).await?;
    let mut events = Events::default();
    while let Some(bytes) = stream.next().await? {
        events.push(&bytes);
        while let Some(event) = events.next().map_err(|error| broken(&error))? {
            print(context, place, &event)?;
            if place.left == 0 {
                break;
            }
        }
        context.printer.flush().await?;
        if place.left == 0 {
            return Ok(());
        }
    }
    // The node is about to stop; another, or itself, goes on.
    Err(HttpError::Lost {
        server: context.http.server().to_owned(),
        why: "it ended the stream".to_owned(),
        request: None,
    }
    .into())
}

fn broken(error: &EventError) -> Failure {
    Failure::Incomplete(format!("what the node sends cannot be read: {error}"))
}

fn print(context: &mut Context, place: &mut Place, event: &Event) -> Result<(), Failure> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    match event.name.as_str() {
        "change" => {
            let version = data["version"].as_u64().unwrap_or_default();
            // Versions are dense: one that is left out would be a change that nobody was told of.
            if version != place.version + 1 {
                return Err(Failure::Incomplete(format!(
                    "after version {} the node sent {version}",
                    place.version
                )));
            }
            place.version = version;
            place.left -= 1;
            if context.json {
                context.printer.json(&data);
            } else {
                context.printer.line(CHANGES.row(&data));
            }
            Ok(())
        }
        "resnapshot_required" => Err(HttpError::Refused(Box::new(Refused {
            status: 410,
            code: "resnapshot_required".to_owned(),
            message: format!(
                "changes after version {} are not kept any more, or not of this cluster",
                place.version
            ),
            details: data,
            request: String::new(),
            retry_after: None,
        }))
        .into()),
        // A later release may say more.
        _ => Ok(()),
    }
}
