//! `pinion sub`: records as they come, and what was skipped.

use std::collections::BTreeMap;
use std::future::pending;
use std::num::NonZeroU64;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use pinion_client::{
    Cursor, ErrorCode, Event, FactId, FilterBuf, LagReason, Offset, PartitionId, Partitions,
    Received, RequestError, StartFrom, SubscribeOptions, Subscription,
};
use serde::Serialize;
use tokio::time::Instant;

use crate::connect::ConnectArgs;
use crate::failure::Failure;
use crate::output::{JsonBytes, Printer, Style, escape};
use crate::{human, value};

/// How often a cursor is committed while records come. Rarer repeats more of
/// them after a crash, more often is a write each time.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Records printed at once. More writes less often; one batch is in memory.
const BATCH: u64 = 1024;

/// What to read.
#[derive(Clone, Debug, clap::Args)]
pub struct SubArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// The stream, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = value::resource)]
    stream: String,
    /// earliest, latest, an offset, a time like 2026-01-02T03:04:05Z, or how long ago, like -15m [default: latest; with --cursor earliest]
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true, value_parser = value::from)]
    from: Option<value::From>,
    /// Begin where this cursor stands (at --from where it has no place yet) and move it along with what is printed
    #[arg(long, value_name = "NAME")]
    cursor: Option<String>,
    /// End after so many records
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// End when nothing came for so long; with --count that is a failure
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    wait: Option<Duration>,
    /// Only this partition
    #[arg(long, value_name = "P")]
    partition: Option<u16>,
    /// Only records with this header; repeatable, all must match
    #[arg(long = "where", value_name = "NAME=VALUE", value_parser = value::pair)]
    filter: Vec<(String, String)>,
    /// Partition, offset, time and key before each value
    #[arg(long)]
    long: bool,
    /// Values as they are, unescaped
    #[arg(long, conflicts_with_all = ["json", "long"])]
    raw: bool,
    /// One JSON object per line, notices included
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &SubArgs) -> Result<(), Failure> {
    let mut interrupt = pin!(interrupted());
    let opening = async {
        let client = args.connect.client().await?;
        let stream = client.stream(&args.stream).await?;
        let cursor = args.cursor.as_ref().map(|name| stream.cursor(name));
        let cursor = cursor.transpose()?;
        let subscription = stream.subscribe(args.options()?).await;
        let subscription = subscription.map_err(|error| args.refused(error))?;
        Ok::<_, Failure>((client, subscription, cursor))
    };
    let (client, mut subscription, cursor) = tokio::select! {
        opened = opening => opened?,
        () = &mut interrupt => return Ok(()),
    };
    let mut printer = Printer::default();
    let mut place = Place::new(cursor);
    let result = tokio::select! {
        result = print(args, &mut subscription, &mut printer, &mut place) => result,
        () = &mut interrupt => Ok(()),
    };
    // What was printed is done with, however it ended.
    let committed = place.commit().await;
    client.close().await;
    result.and(committed)
}

/// How far was printed, and how far the node knows.
struct Place {
    /// `None`: nobody keeps a place.
    cursor: Option<Cursor>,
    /// The next offset of each partition whose change the node does not know.
    ahead: BTreeMap<PartitionId, Offset>,
    next_commit: Instant,
}

impl Place {
    fn new(cursor: Option<Cursor>) -> Self {
        Self {
            cursor,
            ahead: BTreeMap::new(),
            next_commit: Instant::now() + COMMIT_EVERY,
        }
    }

    /// What was written to standard output.
    fn printed(&mut self, moved: BTreeMap<PartitionId, Offset>) {
        if self.cursor.is_some() {
            self.ahead.extend(moved);
        }
    }

    /// When to commit next; `None` while there is nothing to commit.
    fn due(&self) -> Option<Instant> {
        (!self.ahead.is_empty()).then_some(self.next_commit)
    }

    /// Tells the node. Cancelled, what was not told is told the next time.
    async fn commit(&mut self) -> Result<(), Failure> {
        let Some(cursor) = &self.cursor else {
            return Ok(());
        };
        while let Some((partition, offset)) = self.ahead.first_key_value() {
            cursor.commit(*partition, *offset).await?;
            self.ahead.pop_first();
        }
        self.next_commit = Instant::now() + COMMIT_EVERY;
        Ok(())
    }
}

/// Where a partition goes on after this event, if it says.
const fn moved_to(event: &Event) -> Option<(PartitionId, Offset)> {
    match event {
        Event::Record(record) => Some((record.partition, record.offset.plus(1))),
        Event::Lag { partition, to, .. } => Some((*partition, *to)),
        _ => None,
    }
}

async fn print(
    args: &SubArgs,
    subscription: &mut Subscription,
    printer: &mut Printer,
    place: &mut Place,
) -> Result<(), Failure> {
    let style = Style::of(args.json, args.raw);
    let mut left = args.count.map_or(u64::MAX, NonZeroU64::get);
    while left > 0 {
        let most = usize::try_from(left.min(BATCH)).expect("bounded by BATCH");
        let quiet = args.wait.map(|wait| Instant::now() + wait);
        let events = loop {
            tokio::select! {
                events = subscription.next_batch(most) => break events,
                () = until(quiet) => return args.ended_quietly(left),
                () = until(place.due()) => place.commit().await?,
            }
        };
        let Some(events) = events else { return Ok(()) };
        let mut moved = BTreeMap::new();
        for event in events? {
            moved.extend(moved_to(&event));
            match event {
                Event::Record(record) => {
                    left -= 1;
                    print_record(args, style, &record, printer);
                }
                notice => print_notice(style, &notice, printer),
            }
        }
        printer.flush().await?;
        place.printed(moved);
    }
    Ok(())
}

fn print_record(args: &SubArgs, style: Style, record: &Received, printer: &mut Printer) {
    if style == Style::Json {
        printer.json(&JsonRecord {
            event: "record",
            partition: record.partition.0,
            offset: record.offset.0,
            timestamp_ms: record.timestamp_ms,
            key: (!record.key.is_empty()).then_some(JsonBytes(&record.key)),
            headers: record
                .headers()
                .map(|(name, value)| (JsonBytes(name), JsonBytes(value)))
                .collect(),
            value: JsonBytes(&record.value),
        });
    } else if args.long {
        printer.line(format_args!(
            "{}:{}\t{}\t{}\t{}",
            record.partition,
            record.offset,
            human::time(record.timestamp_ms),
            escape(&record.key),
            escape(&record.value)
        ));
    } else {
        printer.value(style, &record.value);
    }
}

/// Notices are part of the answer for programs and beside it for people.
fn print_notice(style: Style, event: &Event, printer: &mut Printer) {
    let notice = Notice::of(event);
    if style == Style::Json {
        printer.json(&notice);
    } else {
        eprintln!("{notice}");
    }
}

#[derive(Serialize)]
struct JsonRecord<'a> {
    event: &'static str,
    partition: u16,
    offset: u64,
    timestamp_ms: u64,
    key: Option<JsonBytes<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(JsonBytes<'a>, JsonBytes<'a>)>,
    value: JsonBytes<'a>,
}

/// What is not a record.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Notice {
    Lag {
        partition: u16,
        from: u64,
        to: u64,
        count: u64,
        reason: &'static str,
    },
    Reconnected {
        partition: u16,
        resumed: bool,
    },
    Reset {
        partition: u16,
        expected: u64,
    },
    Other {
        what: String,
    },
}

impl Notice {
    fn of(event: &Event) -> Self {
        match *event {
            Event::Lag {
                partition,
                from,
                to,
                count,
                reason,
            } => Self::Lag {
                partition: partition.0,
                from: from.0,
                to: to.0,
                count,
                reason: lag_reason(reason),
            },
            Event::Reconnected { partition, resumed } => Self::Reconnected {
                partition: partition.0,
                resumed,
            },
            Event::Reset {
                partition,
                expected,
            } => Self::Reset {
                partition: partition.0,
                expected: expected.0,
            },
            ref other => Self::Other {
                what: format!("{other:?}"),
            },
        }
    }
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lag {
                partition,
                from,
                to,
                count,
                reason,
            } => write!(
                f,
                "lag: partition {partition} offsets {from} to {} skipped, {count} records ({reason})",
                to.saturating_sub(1)
            ),
            Self::Reconnected { partition, .. } => {
                write!(f, "reconnected: partition {partition}")
            }
            Self::Reset {
                partition,
                expected,
            } => write!(
                f,
                "reset: the node restarted; partition {partition} begins anew (the next offset was {expected})"
            ),
            Self::Other { what } => f.write_str(what),
        }
    }
}

/// The word for it, in notices of streams and caches.
pub(crate) const fn lag_reason(reason: LagReason) -> &'static str {
    match reason {
        LagReason::Retention => "retention",
        LagReason::DropOldest => "drop_oldest",
        LagReason::DropNewest => "drop_newest",
        LagReason::WatchBuffer => "watch_buffer",
    }
}

impl SubArgs {
    fn options(&self) -> Result<SubscribeOptions, Failure> {
        let mut filter = FilterBuf::default();
        for (name, value) in &self.filter {
            filter
                .equals(name.as_bytes(), value.as_bytes())
                .map_err(|error| Failure::Request(error.into()))?;
        }
        // Who keeps a place wants what came while it was away, from the first
        // time on.
        let start = match (self.from, &self.cursor) {
            (Some(from), _) => from.at(SystemTime::now()),
            (None, Some(_)) => StartFrom::Earliest,
            (None, None) => StartFrom::Latest,
        };
        Ok(SubscribeOptions {
            partitions: self
                .partition
                .map_or(Partitions::All, |p| Partitions::One(PartitionId(p))),
            start,
            cursor: self.cursor.clone(),
            filter,
            ..SubscribeOptions::default()
        })
    }

    /// An offset that does not exist yet is the likeliest wrong argument, and
    /// the node's own words for it fit every field.
    fn refused(&self, error: RequestError) -> Failure {
        match (&error, self.from) {
            (RequestError::Refused(refusal), Some(value::From::Offset(offset)))
                if refusal.code == ErrorCode::BadArgument =>
            {
                let end = refusal.fact(FactId::Limit).unwrap_or_default();
                Failure::Incomplete(format!(
                    "offset {offset} is beyond the end of a partition, {end}; see `pinion stream info {}`, or name one with --partition",
                    self.stream
                ))
            }
            _ => error.into(),
        }
    }

    fn ended_quietly(&self, left: u64) -> Result<(), Failure> {
        let Some(count) = self.count else {
            return Ok(());
        };
        Err(Failure::Incomplete(format!(
            "{} of {count} records came, then nothing for {:?}",
            count.get() - left,
            self.wait.unwrap_or_default()
        )))
    }
}

/// Ends after `wait`, or never.
pub(crate) async fn quiet(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => pending().await,
    }
}

/// Ends then, or never.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => pending().await,
    }
}

/// Ends at SIGINT or SIGTERM, after which what was printed is complete.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_notice_says_what_was_skipped_to_people_and_to_programs() {
        let notice = Notice::of(&Event::Lag {
            partition: PartitionId(2),
            from: Offset(5),
            to: Offset(9),
            count: 4,
            reason: LagReason::DropOldest,
        });
        assert_eq!(
            notice.to_string(),
            "lag: partition 2 offsets 5 to 8 skipped, 4 records (drop_oldest)"
        );
        assert_eq!(
            serde_json::to_string(&notice).expect("plain data"),
            r#"{"event":"lag","partition":2,"from":5,"to":9,"count":4,"reason":"drop_oldest"}"#
        );
    }

    #[test]
    fn a_place_moves_past_records_and_past_what_was_skipped() {
        let partition = PartitionId(1);
        let lag = Event::Lag {
            partition,
            from: Offset(5),
            to: Offset(9),
            count: 4,
            reason: LagReason::Retention,
        };
        assert_eq!(moved_to(&lag), Some((partition, Offset(9))));
        let reset = Event::Reset {
            partition,
            expected: Offset(5),
        };
        assert_eq!(moved_to(&reset), None);
    }

    #[test]
    fn without_a_cursor_there_is_nothing_to_commit() {
        let mut place = Place::new(None);
        place.printed(BTreeMap::from([(PartitionId(0), Offset(1))]));
        assert_eq!(place.due(), None);
    }
}
