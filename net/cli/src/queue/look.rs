//! `pinion queue peek`, `info` and `why`.

use std::time::{SystemTime, UNIX_EPOCH};

use pinion_client::{
    GroupCounts, MessageState, PartitionId, PeekOptions, PeekedMessage, Queue, Reason, States,
    WhyReason,
};
use serde::Serialize;

use super::pages::print_pages;
use super::shape::words;
use super::{Context, Target};
use crate::failure::Failure;
use crate::human::{self, Align, Table};
use crate::output::{JsonBytes, escape};

/// Characters of a value in a table.
const PREVIEW: usize = 48;

/// What to look at.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PeekArgs {
    #[command(flatten)]
    target: Target,
    /// Only messages in this state; repeatable, or separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    state: Vec<StateArg>,
    /// End after so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// No values
    #[arg(long)]
    no_values: bool,
}

/// What a message is to the group.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StateArg {
    /// The next take may have it
    Ready,
    /// It waits for its delay, its backoff or an earlier message of its key
    Delayed,
    /// A consumer has it
    InFlight,
    /// It is a dead letter
    Dead,
}

impl StateArg {
    const fn given(self) -> States {
        match self {
            Self::Ready => States::READY,
            Self::Delayed => States::DELAYED,
            Self::InFlight => States::IN_FLIGHT,
            Self::Dead => States::DEAD,
        }
    }
}

const fn state(state: MessageState) -> &'static str {
    match state {
        MessageState::Ready => "ready",
        MessageState::Delayed => "delayed",
        MessageState::InFlight => "in-flight",
        MessageState::Dead => "dead",
    }
}

const PEEK: Table = Table(&[
    ("PARTITION", 9, Align::Right),
    ("ID", 10, Align::Right),
    ("STATE", 9, Align::Left),
    ("FAILED", 6, Align::Right),
    ("AGE", 7, Align::Right),
    ("DUE IN", 7, Align::Right),
    ("BYTES", 8, Align::Right),
    ("VALUE", 0, Align::Left),
]);

#[derive(Serialize)]
struct Peeked<'a> {
    partition: u16,
    id: u64,
    state: &'static str,
    /// Failed deliveries.
    attempts: u16,
    enqueued_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_error: &'a str,
    bytes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<JsonBytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<JsonBytes<'a>>,
}

impl PeekArgs {
    pub(super) fn queue(&self) -> &str {
        &self.target.queue
    }

    pub(super) async fn run(&self, context: &mut Context, queue: &Queue) -> Result<(), Failure> {
        let states = self.state.iter().map(|state| state.given());
        let peek = queue.peek(PeekOptions {
            group: self.target.group.clone(),
            partitions: self.target.partitions(),
            states: states.reduce(States::and).unwrap_or(States::ALL),
            bodies: !self.no_values,
            ..PeekOptions::default()
        });
        if !context.json {
            context.printer.line(PEEK.head());
        }
        let now = now_ms();
        let print =
            |context: &mut Context, message: &PeekedMessage| self.print(context, message, now);
        print_pages(context, peek, self.limit, print).await
    }

    fn print(&self, context: &mut Context, message: &PeekedMessage, now: u64) {
        let record = message.record.as_ref();
        if context.json {
            context.printer.json(&Peeked {
                partition: message.partition.0,
                id: message.id,
                state: state(message.state),
                attempts: message.attempts,
                enqueued_ms: message.enqueued_ms,
                due_ms: message.due_ms,
                expires_ms: message.expires_ms,
                last_error: &message.last_error,
                bytes: message.record_bytes,
                key: record
                    .filter(|record| !record.key.is_empty())
                    .map(|record| JsonBytes(&record.key)),
                value: record.map(|record| JsonBytes(&record.value)),
            });
            return;
        }
        let value = match record {
            Some(record) => preview(&record.value),
            None if self.no_values => String::new(),
            None => "(on disk)".to_owned(),
        };
        let line = PEEK.row(&[
            message.partition.to_string(),
            message.id.to_string(),
            state(message.state).to_owned(),
            message.attempts.to_string(),
            human::span(now.saturating_sub(message.enqueued_ms)),
            message.due_ms.map_or_else(
                || "-".to_owned(),
                |due| human::span(due.saturating_sub(now)),
            ),
            message.record_bytes.to_string(),
            value,
        ]);
        context.printer.line(line);
    }
}

/// The beginning of a value, fit for one line.
pub(super) fn preview(value: &[u8]) -> String {
    // No character takes more than four bytes, escapes take more than one.
    let begin = &value[..value.len().min(PREVIEW * 4)];
    let text = escape(begin);
    match text.char_indices().nth(PREVIEW) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None if begin.len() < value.len() => format!("{text}…"),
        None => text,
    }
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// Whose counts.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct InfoArgs {
    /// The queue, NAMESPACE/NAME
    #[arg(value_name = "NS/NAME", value_parser = crate::value::resource)]
    queue: String,
}

const INFO: Table = Table(&[
    ("PARTITION", 9, Align::Right),
    ("GROUP", 10, Align::Left),
    ("READY", 8, Align::Right),
    ("DELAYED", 8, Align::Right),
    ("IN-FLIGHT", 9, Align::Right),
    ("DEAD", 6, Align::Right),
    ("OLDEST", 7, Align::Right),
    ("CONSUMERS", 9, Align::Right),
    ("WAITING", 7, Align::Right),
    ("BYTES", 10, Align::Right),
]);

#[derive(Serialize)]
struct PartitionInfo<'a> {
    partition: u16,
    durable: bool,
    next_id: u64,
    messages: u64,
    bytes: u64,
    resident_bytes: u64,
    groups: Vec<GroupInfo<'a>>,
}

#[derive(Serialize)]
struct GroupInfo<'a> {
    group: &'a str,
    ready: u64,
    delayed: u64,
    in_flight: u64,
    dead: u64,
    bytes: u64,
    oldest_age_ms: u64,
    consumers: u32,
    waiting: u32,
}

impl InfoArgs {
    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    pub(super) async fn run(&self, context: &mut Context, queue: &Queue) -> Result<(), Failure> {
        let printer = &mut context.printer;
        if !context.json {
            printer.line(format_args!("{}: {}", self.queue, words(&queue.spec())));
            printer.line(INFO.head());
        }
        for partition in (0..queue.shards()).map(PartitionId) {
            let counts = queue.info(partition).await?;
            if context.json {
                printer.json(&PartitionInfo {
                    partition: partition.0,
                    durable: queue.spec().durability > 0,
                    next_id: counts.next_id,
                    messages: counts.messages,
                    bytes: counts.bytes,
                    resident_bytes: counts.resident_bytes,
                    groups: counts.groups.iter().map(group_info).collect(),
                });
                continue;
            }
            for group in &counts.groups {
                let oldest = match group.oldest_age_ms {
                    0 => "-".to_owned(),
                    age => human::span(age),
                };
                printer.line(INFO.row(&[
                    partition.to_string(),
                    group_name(&group.name),
                    group.ready.to_string(),
                    group.delayed.to_string(),
                    group.in_flight.to_string(),
                    group.dead.to_string(),
                    oldest,
                    group.consumers.to_string(),
                    group.waiting.to_string(),
                    group.bytes.to_string(),
                ]));
            }
        }
        Ok(())
    }
}

fn group_info(group: &GroupCounts) -> GroupInfo<'_> {
    GroupInfo {
        group: &group.name,
        ready: group.ready,
        delayed: group.delayed,
        in_flight: group.in_flight,
        dead: group.dead,
        bytes: group.bytes,
        oldest_age_ms: group.oldest_age_ms,
        consumers: group.consumers,
        waiting: group.waiting,
    }
}

/// The default group has no name.
fn group_name(name: &str) -> String {
    match name {
        "" => "(default)".to_owned(),
        name => escape(name.as_bytes()),
    }
}

/// Whose silence.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WhyArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Serialize)]
struct Why {
    partition: u16,
    reason: &'static str,
    messages: u64,
    limit: u64,
    until_ms: u64,
    consumer: u64,
    message: u64,
    age_ms: u64,
}

impl WhyArgs {
    pub(super) fn queue(&self) -> &str {
        &self.target.queue
    }

    pub(super) async fn run(&self, context: &mut Context, queue: &Queue) -> Result<(), Failure> {
        let printer = &mut context.printer;
        for partition in self.target.each(queue.shards()) {
            let reasons = queue.why(partition, &self.target.group).await?;
            if reasons.is_empty() && !context.json {
                printer.line(format_args!("partition {partition}: nothing is held back"));
            }
            for reason in reasons {
                if context.json {
                    printer.json(&Why {
                        partition: partition.0,
                        reason: word(reason.reason),
                        messages: reason.messages,
                        limit: reason.limit,
                        until_ms: reason.until.0,
                        consumer: reason.consumer,
                        message: reason.message,
                        age_ms: reason.age_ms,
                    });
                } else {
                    let sentence = sentence(&reason, now_ms());
                    printer.line(format_args!("partition {partition}: {sentence}"));
                }
            }
        }
        Ok(())
    }
}

const fn word(reason: WhyReason) -> &'static str {
    match reason {
        WhyReason::Empty => "empty",
        WhyReason::Delayed => "delayed",
        WhyReason::Backoff => "backoff",
        WhyReason::GroupInFlight => "group_in_flight",
        WhyReason::ConsumerInFlight => "consumer_in_flight",
        WhyReason::RateLimited => "rate_limited",
        WhyReason::KeyBlocked => "key_blocked",
        WhyReason::NoConsumers => "no_consumers",
        WhyReason::NoCredit => "no_credit",
        WhyReason::Loading => "loading",
        WhyReason::ReadOnly => "read_only",
        WhyReason::Fenced => "fenced",
        WhyReason::AllInFlight => "all_in_flight",
    }
}

/// The reason with those of its facts that the node told: a fact that is 0 was
/// not.
fn sentence(reason: &Reason, now: u64) -> String {
    let messages = match reason.messages {
        0 => "messages".to_owned(),
        count => human::count(count, "message"),
    };
    let mut text = match reason.reason {
        WhyReason::Empty => "there is no message".to_owned(),
        WhyReason::Delayed => format!("{messages} not due yet: put with a delay"),
        WhyReason::Backoff => {
            format!("{messages} not due yet: failed, and waiting to be tried again")
        }
        WhyReason::GroupInFlight => format!(
            "the group has {} messages reserved, as many as it may (max-in-flight)",
            reason.limit
        ),
        WhyReason::ConsumerInFlight => format!(
            "a consumer has {} messages reserved, as many as it may (consumer-in-flight)",
            reason.limit
        ),
        WhyReason::RateLimited => {
            "failed messages are given again at a bounded rate (redeliveries)".to_owned()
        }
        WhyReason::KeyBlocked => format!("{messages} behind an earlier one of the same key"),
        WhyReason::NoConsumers => format!("{messages} ready, and nobody asks"),
        WhyReason::NoCredit => {
            "no consumer has credit left: they do not read what they were given".to_owned()
        }
        WhyReason::Loading => "messages are being read from the disk".to_owned(),
        WhyReason::ReadOnly => "the disk is full: free some space".to_owned(),
        WhyReason::Fenced => {
            "its data is damaged or a write failed: `pinion log verify` on the node".to_owned()
        }
        WhyReason::AllInFlight => format!("consumers have all there is, {messages}"),
    };
    if reason.until.0 > 0 {
        let left = human::span(reason.until.0.saturating_sub(now));
        text.push_str(&format!(", the next in {left}"));
    }
    if reason.message > 0 || matches!(reason.reason, WhyReason::KeyBlocked) {
        text.push_str(&format!(", message {}", reason.message));
    }
    if reason.consumer > 0 {
        text.push_str(&format!(", consumer {:x}", reason.consumer));
    }
    if reason.age_ms > 0 {
        text.push_str(&format!(", the oldest for {}", human::span(reason.age_ms)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_sentence_with_the_facts_there_are() {
        let full = Reason {
            limit: 100,
            consumer: 0x2a,
            age_ms: 240_000,
            ..Reason::new(WhyReason::ConsumerInFlight)
        };
        assert_eq!(
            sentence(&full, 0),
            "a consumer has 100 messages reserved, as many as it may (consumer-in-flight), consumer 2a, the oldest for 4m"
        );
        let mut delayed = Reason::new(WhyReason::Delayed);
        delayed.messages = 1;
        delayed.until.0 = 61_000;
        assert_eq!(
            sentence(&delayed, 1_000),
            "1 message not due yet: put with a delay, the next in 1m"
        );
        let empty = Reason::new(WhyReason::Empty);
        assert_eq!(sentence(&empty, 0), "there is no message");
        let blocked = Reason::new(WhyReason::KeyBlocked);
        assert!(
            sentence(&blocked, 0).ends_with(", message 0"),
            "ids begin at 0"
        );
    }

    #[test]
    fn a_long_value_is_cut_between_characters_and_says_so() {
        assert_eq!(preview(b"short\n"), "short\\n");
        let long = "é".repeat(500);
        assert_eq!(preview(long.as_bytes()), format!("{}…", "é".repeat(48)));
        assert_eq!(preview(&[0xff; 3]), "\\xff\\xff\\xff");
    }
}
