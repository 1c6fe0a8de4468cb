//! `pinion stream cursor`: where readers called by a name go on.

use pinion_client::{Client, ErrorCode, FactId, Offset, PartitionId, RequestError, Stream};
use serde::Serialize;

use super::Context;
use crate::failure::Failure;
use crate::human::{Align, Table};
use crate::output::escape;
use crate::publish::durability;
use crate::value;

/// Which cursors.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CursorArgs {
    #[command(subcommand)]
    verb: CursorVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum CursorVerb {
    /// Every cursor, where it stands and how far that is behind
    List {
        /// The stream, NAMESPACE/NAME
        #[arg(value_name = "NS/NAME", value_parser = value::resource)]
        stream: String,
        /// Only this partition
        #[arg(long, value_name = "P")]
        partition: Option<u16>,
    },
    /// Where one stands; exit code 1 when there is none of the name
    Get(Named),
    /// Move one, or make it
    Set {
        #[command(flatten)]
        named: Named,
        /// earliest, latest, or the next offset to be read
        #[arg(long, value_name = "WHERE", value_parser = place)]
        to: Place,
    },
    /// Forget one; exit code 1 when there is none of the name
    Delete(Named),
}

#[derive(Clone, Debug, clap::Args)]
struct Named {
    /// The stream, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    stream: String,
    /// The cursor's name
    #[arg(value_name = "CURSOR")]
    cursor: String,
    /// Only this partition [default: all of them]
    #[arg(long, value_name = "P")]
    partition: Option<u16>,
}

/// Where to put a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Earliest,
    Latest,
    Offset(u64),
}

fn place(text: &str) -> Result<Place, String> {
    match (text, text.parse()) {
        ("earliest", _) => Ok(Place::Earliest),
        ("latest", _) => Ok(Place::Latest),
        (_, Ok(offset)) => Ok(Place::Offset(offset)),
        _ => Err("expected earliest, latest or an offset".to_owned()),
    }
}

const TABLE: Table = Table(&[
    ("CURSOR", 20, Align::Left),
    ("PARTITION", 9, Align::Right),
    ("OFFSET", 12, Align::Right),
    ("BEHIND", 12, Align::Right),
]);

#[derive(Serialize)]
struct Row<'a> {
    cursor: &'a str,
    partition: u16,
    /// The next offset to be read.
    offset: u64,
    /// Records up to the end.
    behind: u64,
    /// Of those, records that retention has removed.
    lost: u64,
}

impl CursorArgs {
    pub(super) async fn run(&self, context: &mut Context, client: &Client) -> Result<(), Failure> {
        match &self.verb {
            CursorVerb::List { stream, partition } => {
                let stream = client.stream(stream).await?;
                list(context, &stream, *partition).await
            }
            CursorVerb::Get(named) => named.get(context, client).await,
            CursorVerb::Set { named, to } => named.set(context, client, *to).await,
            CursorVerb::Delete(named) => named.delete(context, client).await,
        }
    }
}

fn partitions(stream: &Stream, only: Option<u16>) -> impl Iterator<Item = PartitionId> {
    let range = only.map_or(0..stream.shards(), |p| p..p.saturating_add(1));
    range.map(PartitionId)
}

async fn list(context: &mut Context, stream: &Stream, only: Option<u16>) -> Result<(), Failure> {
    head(context);
    for partition in partitions(stream, only) {
        for (name, offset) in stream.cursors(partition).await? {
            print(context, stream, partition, &name, offset).await?;
        }
    }
    Ok(())
}

fn head(context: &mut Context) {
    if !context.json {
        context.printer.line(TABLE.head());
    }
}

async fn print(
    context: &mut Context,
    stream: &Stream,
    partition: PartitionId,
    name: &str,
    offset: Offset,
) -> Result<(), Failure> {
    let status = stream.info(partition).await?;
    let row = Row {
        cursor: name,
        partition: partition.0,
        offset: offset.0,
        behind: status.end.0.saturating_sub(offset.0),
        lost: status.first_available.0.saturating_sub(offset.0),
    };
    if context.json {
        context.printer.json(&row);
        return Ok(());
    }
    let mut line = TABLE.row(&[
        escape(name.as_bytes()),
        row.partition.to_string(),
        row.offset.to_string(),
        row.behind.to_string(),
    ]);
    if row.lost > 0 {
        line.push_str(&format!("  {} of them are gone (retention)", row.lost));
    }
    context.printer.line(line);
    Ok(())
}

impl Named {
    async fn get(&self, context: &mut Context, client: &Client) -> Result<(), Failure> {
        let stream = client.stream(&self.stream).await?;
        let cursor = stream.cursor(&self.cursor)?;
        let mut found = false;
        for partition in partitions(&stream, self.partition) {
            if let Some(offset) = cursor.get(partition).await? {
                if !found {
                    head(context);
                }
                found = true;
                print(context, &stream, partition, &self.cursor, offset).await?;
            }
        }
        if found { Ok(()) } else { Err(self.absent()) }
    }

    async fn set(&self, context: &mut Context, client: &Client, to: Place) -> Result<(), Failure> {
        let stream = client.stream(&self.stream).await?;
        let cursor = stream.cursor(&self.cursor)?;
        if matches!(to, Place::Offset(_)) && self.partition.is_none() && stream.shards() > 1 {
            return Err(Failure::Usage(format!(
                "an offset is of one partition, and {} has {}: name it with --partition",
                self.stream,
                stream.shards()
            )));
        }
        for partition in partitions(&stream, self.partition) {
            let offset = match to {
                Place::Earliest => stream.info(partition).await?.first_available,
                Place::Latest => stream.info(partition).await?.end,
                Place::Offset(offset) => Offset(offset),
            };
            let committed = cursor.commit(partition, offset).await;
            let committed = committed.map_err(|error| self.refused(error, partition, offset));
            let reached = durability(committed?);
            if context.json {
                print(context, &stream, partition, &self.cursor, offset).await?;
            } else {
                let name = escape(self.cursor.as_bytes());
                let line = format!("{name}\tpartition {partition}\tat {offset} ({reached})");
                context.printer.line(line);
            }
        }
        Ok(())
    }

    async fn delete(&self, context: &mut Context, client: &Client) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Deleted<'a> {
            cursor: &'a str,
            partition: u16,
            existed: bool,
        }
        let stream = client.stream(&self.stream).await?;
        let cursor = stream.cursor(&self.cursor)?;
        let mut found = false;
        for partition in partitions(&stream, self.partition) {
            let existed = cursor.delete(partition).await?;
            found |= existed;
            if context.json {
                context.printer.json(&Deleted {
                    cursor: &self.cursor,
                    partition: partition.0,
                    existed,
                });
            } else if existed {
                let name = escape(self.cursor.as_bytes());
                let line = format!("{name}\tpartition {partition}\tdeleted");
                context.printer.line(line);
            }
        }
        if found { Ok(()) } else { Err(self.absent()) }
    }

    /// An offset that does not exist yet is the likeliest wrong argument.
    fn refused(&self, error: RequestError, partition: PartitionId, offset: Offset) -> Failure {
        match &error {
            RequestError::Refused(refusal) if refusal.code == ErrorCode::BadArgument => {
                let end = refusal.fact(FactId::Limit).unwrap_or_default();
                Failure::Incomplete(format!(
                    "offset {offset} is beyond the end of partition {partition}, {end}; see `pinion stream info {}`",
                    self.stream
                ))
            }
            _ => error.into(),
        }
    }

    fn absent(&self) -> Failure {
        Failure::Incomplete(format!(
            "{} has no cursor {}; `pinion stream cursor list {}` shows those it has",
            self.stream,
            escape(self.cursor.as_bytes()),
            self.stream
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_to_an_end_or_an_offset_and_nowhere_else() {
        assert_eq!(place("earliest"), Ok(Place::Earliest));
        assert_eq!(place("latest"), Ok(Place::Latest));
        assert_eq!(place("17"), Ok(Place::Offset(17)));
        assert!(place("15m").is_err() && place("-1").is_err());
    }
}
