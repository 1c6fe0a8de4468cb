//! `pinion queue dlq`: dead letters.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use pinion_client::{DeadLetter, DeadReason, DeadSelection, PartitionId, Partitions, Queue};
use serde::Serialize;

use super::look::{now_ms, preview};
use super::pages::print_pages;
use super::{Context, Target};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::human::{self, Align, Table};
use crate::output::{JsonBytes, escape};

/// Looks at dead letters and moves them.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    verb: DlqVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum DlqVerb {
    /// List dead letters: why, when, and the last error
    List {
        #[command(flatten)]
        which: Which,
        /// End after so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// No values
        #[arg(long)]
        no_values: bool,
    },
    /// Make dead letters ready again, their attempts forgotten; needs admin
    Replay {
        #[command(flatten)]
        some: Chosen,
        /// At most so many of each partition in a second [default: as fast as it goes]
        #[arg(long, value_name = "N")]
        rate: Option<NonZeroU32>,
    },
    /// Forget dead letters for good; needs admin
    Purge {
        #[command(flatten)]
        some: Chosen,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters.
#[derive(Clone, Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    target: Target,
    /// Only those that died of this
    #[arg(long, value_enum)]
    reason: Option<ReasonArg>,
    /// Only those whose last error begins so
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    error_prefix: String,
}

/// Which dead letters, or these.
#[derive(Clone, Debug, clap::Args)]
struct Chosen {
    #[command(flatten)]
    which: Which,
    /// Only this one, as `dlq list` prints it; repeatable
    #[arg(long = "id", value_name = "P:ID", value_parser = id)]
    ids: Vec<Id>,
}

/// A message of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    partition: Option<u16>,
    id: u64,
}

fn id(text: &str) -> Result<Id, String> {
    let wrong = |_| "expected a message as `dlq list` prints it, PARTITION:ID".to_owned();
    let (partition, number) = match text.split_once(':') {
        Some((partition, id)) => (Some(partition.parse().map_err(wrong)?), id),
        None => (None, text),
    };
    Ok(Id {
        partition,
        id: number.parse().map_err(wrong)?,
    })
}

/// Why a message is a dead letter.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ReasonArg {
    /// Its last attempt was answered with a nack
    Failed,
    /// The reservation of its last attempt ran out
    LeaseExpired,
    /// Its life was over before anybody had it
    Expired,
}

impl ReasonArg {
    const fn given(self) -> DeadReason {
        match self {
            Self::Failed => DeadReason::Failed,
            Self::LeaseExpired => DeadReason::LeaseExpired,
            Self::Expired => DeadReason::Expired,
        }
    }
}

const fn reason(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::Failed => "failed",
        DeadReason::LeaseExpired => "lease-expired",
        DeadReason::Expired => "expired",
    }
}

const TABLE: Table = Table(&[
    ("P:ID", 10, Align::Right),
    ("REASON", 13, Align::Left),
    ("FAILED", 6, Align::Right),
    ("DEAD FOR", 8, Align::Right),
    ("BYTES", 8, Align::Right),
    ("LAST ERROR", 24, Align::Left),
    ("VALUE", 0, Align::Left),
]);

#[derive(Serialize)]
struct Letter<'a> {
    partition: u16,
    id: u64,
    reason: &'static str,
    /// Failed deliveries.
    attempts: u16,
    enqueued_ms: u64,
    died_ms: u64,
    last_error: &'a str,
    bytes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<JsonBytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<JsonBytes<'a>>,
}

#[derive(Serialize)]
struct Moved {
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purged: Option<u64>,
}

impl DlqArgs {
    pub(super) fn queue(&self) -> &str {
        match &self.verb {
            DlqVerb::List { which, .. } => &which.target.queue,
            DlqVerb::Replay { some, .. } | DlqVerb::Purge { some, .. } => &some.which.target.queue,
        }
    }

    pub(super) async fn run(&self, context: &mut Context, queue: &Queue) -> Result<(), Failure> {
        match &self.verb {
            DlqVerb::List {
                which,
                limit,
                no_values,
            } => list(context, queue, which, *limit, !no_values).await,
            DlqVerb::Replay { some, rate } => {
                let rate = rate.map_or(0, NonZeroU32::get);
                let mut moved = 0;
                for selection in some.selections(queue.shards())? {
                    moved += queue.replay_dead(&selection, rate).await?;
                }
                if context.json {
                    context.printer.json(&Moved {
                        replayed: Some(moved),
                        purged: None,
                    });
                } else {
                    let letters = human::count(moved, "dead letter");
                    let pace = pace(moved, rate);
                    context
                        .printer
                        .line(format_args!("{letters} ready again{pace}"));
                }
                Ok(())
            }
            DlqVerb::Purge { some, yes } => {
                let selections = some.selections(queue.shards())?;
                confirm(&some.question(), *yes)?;
                let mut moved = 0;
                for selection in selections {
                    moved += queue.purge_dead(&selection).await?;
                }
                if context.json {
                    context.printer.json(&Moved {
                        replayed: None,
                        purged: Some(moved),
                    });
                } else {
                    let letters = human::count(moved, "dead letter");
                    context.printer.line(format_args!("{letters} forgotten"));
                }
                Ok(())
            }
        }
    }
}

/// With a rate the node goes on after the answer.
fn pace(moved: u64, rate: u32) -> String {
    if rate == 0 || moved <= u64::from(rate) {
        return String::new();
    }
    let seconds = moved / u64::from(rate);
    let span = human::span(seconds.saturating_mul(1000));
    format!(", or will be within {span}: {rate} of each partition a second")
}

async fn list(
    context: &mut Context,
    queue: &Queue,
    which: &Which,
    limit: Option<u64>,
    values: bool,
) -> Result<(), Failure> {
    let letters = queue.dead_letters(which.selection(), values);
    if !context.json {
        context.printer.line(TABLE.head());
    }
    let now = now_ms();
    let print = |context: &mut Context, letter: &DeadLetter| print(context, letter, now, values);
    print_pages(context, letters, limit, print).await
}

fn print(context: &mut Context, letter: &DeadLetter, now: u64, values: bool) {
    let record = letter.record.as_ref();
    if context.json {
        context.printer.json(&Letter {
            partition: letter.partition.0,
            id: letter.id,
            reason: reason(letter.reason),
            attempts: letter.attempts,
            enqueued_ms: letter.enqueued_ms,
            died_ms: letter.died_ms,
            last_error: &letter.last_error,
            bytes: letter.record_bytes,
            key: record
                .filter(|record| !record.key.is_empty())
                .map(|record| JsonBytes(&record.key)),
            value: record.map(|record| JsonBytes(&record.value)),
        });
        return;
    }
    let value = match record {
        Some(record) => preview(&record.value),
        None if values => "(on disk)".to_owned(),
        None => String::new(),
    };
    let line = TABLE.row(&[
        format!("{}:{}", letter.partition, letter.id),
        reason(letter.reason).to_owned(),
        letter.attempts.to_string(),
        human::span(now.saturating_sub(letter.died_ms)),
        letter.record_bytes.to_string(),
        match letter.last_error.as_str() {
            "" => "-".to_owned(),
            error => escape(error.as_bytes()),
        },
        value,
    ]);
    context.printer.line(line);
}

impl Which {
    fn selection(&self) -> DeadSelection {
        DeadSelection {
            group: self.target.group.clone(),
            partitions: self.target.partitions(),
            reason: self.reason.map(ReasonArg::given),
            error_prefix: self.error_prefix.clone(),
            ids: Vec::new(),
        }
    }
}

impl Chosen {
    /// One for all, or one for each partition that ids name.
    fn selections(&self, shards: u16) -> Result<Vec<DeadSelection>, Failure> {
        if self.ids.is_empty() {
            return Ok(vec![self.which.selection()]);
        }
        let mut by_partition: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for Id { partition, id } in &self.ids {
            let said = self.which.target.partition;
            let only = (shards == 1).then_some(0);
            let Some(partition) = partition.or(said).or(only) else {
                return Err(Failure::Usage(format!(
                    "--id {id} does not say its partition: write P:{id}, or --partition P"
                )));
            };
            if said.is_some_and(|said| said != partition) {
                return Err(Failure::Usage(format!(
                    "--id {partition}:{id} is not of the partition that --partition names"
                )));
            }
            by_partition.entry(partition).or_default().push(*id);
        }
        let selections = by_partition
            .into_iter()
            .map(|(partition, ids)| DeadSelection {
                partitions: Partitions::One(PartitionId(partition)),
                ids,
                ..self.which.selection()
            });
        Ok(selections.collect())
    }

    fn question(&self) -> String {
        let which = &self.which;
        let what = match self.ids.len() as u64 {
            0 if which.reason.is_none() && which.error_prefix.is_empty() => {
                "all dead letters".to_owned()
            }
            0 => "the dead letters chosen".to_owned(),
            count => human::count(count, "dead letter"),
        };
        format!("Forget {what} of {} for good?", which.target.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(partition: Option<u16>, ids: &[&str]) -> Chosen {
        Chosen {
            which: Which {
                target: Target {
                    queue: "a/b".to_owned(),
                    group: String::new(),
                    partition,
                },
                reason: None,
                error_prefix: String::new(),
            },
            ids: ids.iter().map(|text| id(text).expect(text)).collect(),
        }
    }

    #[test]
    fn ids_are_asked_of_the_partition_they_are_of() {
        let all = some(None, &[]).selections(4).expect("all");
        assert_eq!((all.len(), all[0].partitions), (1, Partitions::All));
        let split = some(None, &["1:7", "0:3", "1:8"])
            .selections(4)
            .expect("named");
        let asked: Vec<_> = split
            .iter()
            .map(|one| (one.partitions, &one.ids[..]))
            .collect();
        let of = |p| Partitions::One(PartitionId(p));
        assert_eq!(asked, [(of(0), &[3][..]), (of(1), &[7, 8][..])]);
        assert_eq!(some(None, &["5"]).selections(1).expect("only one").len(), 1);
        for wrong in [some(None, &["5"]), some(Some(1), &["2:5"])] {
            assert!(matches!(wrong.selections(4), Err(Failure::Usage(_))));
        }
        assert!(id("a:b").is_err() && id("").is_err());
    }

    #[test]
    fn a_paced_replay_says_how_long_it_takes() {
        assert_eq!(pace(10, 0), "");
        assert_eq!(pace(10, 10), "");
        assert_eq!(
            pace(3000, 100),
            ", or will be within 30s: 100 of each partition a second"
        );
    }

    #[test]
    fn nothing_is_forgotten_without_being_asked_for() {
        assert_eq!(
            some(None, &[]).question(),
            "Forget all dead letters of a/b for good?"
        );
        assert_eq!(
            some(None, &["1:7"]).question(),
            "Forget 1 dead letter of a/b for good?"
        );
    }
}
