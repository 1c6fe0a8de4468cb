//! Holds what is there after a kill against what was acknowledged before and
//! after it. Pure: no node, no clock.
//!
//! Of the stream: each acknowledged record is at its place with its bytes, and
//! no record is stored twice, however often it was sent; its cursor stands where
//! it was acknowledged to, or beyond. Of the queue: each
//! message is finished once, none comes again after its acknowledgement, and
//! each that does come again has a cause: a nack, a reservation that ran out,
//! or the kill. The kill explains nothing but what it can have cut off.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use pinion_types::route::partition_of;

use super::check::{Given, Place, Saw};

/// One reading of the whole stream.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) name: &'static str,
    pub(super) saw: Vec<Saw>,
}

/// A message, as the queue numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MessageId {
    pub(super) partition: u16,
    pub(super) id: u64,
}

/// A message handed to a worker.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) message: MessageId,
    /// What its row header said; `None` when that was no number.
    pub(super) row: Option<usize>,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    /// 1 for the first, as the node counts.
    pub(super) attempt: u16,
    /// It came over a connection made after the kill.
    pub(super) after_kill: bool,
}

/// What a worker asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Ack,
    Nack,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The node said that it is finished.
    Acked,
    /// The node said that it comes again.
    Nacked,
    /// Nothing was said, on purpose; its reservation runs out.
    Left,
    /// What was `asked` was not answered, or not with a yes.
    Failed { asked: Asked, error: String },
}

/// What happened, in the order in which the workers learned of it.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The n-th of these is delivery n.
    Delivered(Delivery),
    Settled {
        delivery: usize,
        fate: Fate,
    },
    Killed,
}

/// Everything there is to check.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// Partitions of the stream.
    pub(super) shards: u16,
    pub(super) given: Vec<Given>,
    /// By row; the error when a record was not acknowledged as on disk.
    pub(super) places: Vec<Result<Place, String>>,
    /// The end of each partition, as the node says.
    pub(super) ends: Vec<u64>,
    pub(super) readings: Vec<Reading>,
    /// By partition: where a cursor was acknowledged to stand before the kill,
    /// and where it stood after it, before it was moved again.
    pub(super) cursors: Vec<(Option<u64>, Option<u64>)>,
    /// By row; the error when a put was not acknowledged as on disk.
    pub(super) messages: Vec<Result<MessageId, String>>,
    pub(super) steps: Vec<Step>,
    /// Messages and dead letters the queue still has.
    pub(super) left: u64,
    pub(super) dead: u64,
    /// What ended before its time: a subscription, a consumer, the whole run.
    pub(super) troubles: Vec<String>,
}

/// One way in which what is there is not what was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the text below says what each means")]
pub(super) enum Breach {
    Trouble {
        what: String,
    },
    NotAcknowledged {
        row: usize,
        error: String,
    },
    WrongPartition {
        row: usize,
        place: Place,
    },
    OnePlaceForTwo {
        row: usize,
        other: usize,
        place: Place,
    },
    Lost {
        reading: &'static str,
        row: usize,
        place: Place,
    },
    Moved {
        reading: &'static str,
        row: usize,
        acked: Place,
        place: Place,
    },
    StoredTwice {
        reading: &'static str,
        row: usize,
        first: Place,
        second: Place,
    },
    Altered {
        reading: &'static str,
        row: usize,
        place: Place,
    },
    NotOurs {
        reading: &'static str,
        place: Place,
    },
    CameTwice {
        reading: &'static str,
        place: Place,
    },
    Gap {
        reading: &'static str,
        partition: u16,
        from: u64,
        to: u64,
    },
    Unexpected {
        reading: &'static str,
        what: String,
    },
    Cursor {
        partition: u16,
        acked: u64,
        found: Option<u64>,
    },
    NotPut {
        row: usize,
        error: String,
    },
    OneMessageForTwo {
        row: usize,
        other: usize,
        message: MessageId,
    },
    PutTwice {
        row: usize,
        acked: MessageId,
        message: MessageId,
    },
    WorkNotOurs {
        message: MessageId,
    },
    WorkAltered {
        row: usize,
        message: MessageId,
    },
    CameAfterAck {
        message: MessageId,
    },
    NoCause {
        message: MessageId,
    },
    NotSettled {
        message: MessageId,
        error: String,
    },
    Attempt {
        message: MessageId,
        attempt: u16,
        least: u16,
        most: u16,
    },
    FinishedTwice {
        message: MessageId,
    },
    Unfinished {
        row: usize,
        message: MessageId,
    },
    LeftOver {
        left: u64,
        dead: u64,
    },
}

/// Why messages came more than once, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Causes {
    pub(super) nack: u64,
    pub(super) expiry: u64,
    pub(super) kill: u64,
    /// Messages that never came again though the answer to their ack was lost:
    /// the ack was on the disk.
    pub(super) answers_lost: u64,
}

/// Every breach; none is success.
pub(super) fn audit(evidence: &Evidence) -> (Vec<Breach>, Causes) {
    let mut found: Vec<Breach> = evidence
        .troubles
        .iter()
        .map(|what| Breach::Trouble { what: what.clone() })
        .collect();
    audit_places(evidence, &mut found);
    for reading in &evidence.readings {
        audit_reading(evidence, reading, &mut found);
    }
    for (partition, (acked, after)) in (0..).zip(&evidence.cursors) {
        // A commit whose answer was lost may have moved it on.
        if let Some(acked) = *acked
            && after.is_none_or(|after| after < acked)
        {
            let found_at = *after;
            found.push(Breach::Cursor {
                partition,
                acked,
                found: found_at,
            });
        }
    }
    let causes = audit_work(evidence, &mut found);
    (found, causes)
}

/// Acknowledgements name the key's partition, and no place twice.
fn audit_places(evidence: &Evidence, found: &mut Vec<Breach>) {
    let mut taken: BTreeMap<Place, usize> = BTreeMap::new();
    for (row, (given, place)) in evidence.given.iter().zip(&evidence.places).enumerate() {
        let place = match place {
            Ok(place) => *place,
            Err(error) => {
                let error = error.clone();
                found.push(Breach::NotAcknowledged { row, error });
                continue;
            }
        };
        if place.partition != partition_of(&given.key, evidence.shards).0 {
            found.push(Breach::WrongPartition { row, place });
        }
        if let Some(other) = taken.insert(place, row) {
            found.push(Breach::OnePlaceForTwo { row, other, place });
        }
    }
}

/// What is read is what was acknowledged, once each, and nothing else.
fn audit_reading(evidence: &Evidence, reading: &Reading, found: &mut Vec<Breach>) {
    let name = reading.name;
    let mut next = vec![0_u64; usize::from(evidence.shards)];
    let mut places: BTreeMap<usize, Place> = BTreeMap::new();
    for saw in &reading.saw {
        let (place, row, key, value) = match saw {
            Saw::Record {
                place,
                row,
                key,
                value,
            } => (*place, *row, key, value),
            other => {
                let what = format!("{other:?}");
                found.push(Breach::Unexpected {
                    reading: name,
                    what,
                });
                continue;
            }
        };
        let ours = row.and_then(|row| Some((row, evidence.given.get(row)?)));
        let (Some((row, given)), Some(next)) = (ours, next.get_mut(usize::from(place.partition)))
        else {
            found.push(Breach::NotOurs {
                reading: name,
                place,
            });
            continue;
        };
        if place.offset < *next {
            found.push(Breach::CameTwice {
                reading: name,
                place,
            });
            continue;
        }
        if place.offset > *next {
            found.push(Breach::Gap {
                reading: name,
                partition: place.partition,
                from: *next,
                to: place.offset,
            });
        }
        *next = place.offset + 1;
        if *key != given.key || *value != given.value {
            found.push(Breach::Altered {
                reading: name,
                row,
                place,
            });
        }
        if let Some(first) = places.get(&row) {
            found.push(Breach::StoredTwice {
                reading: name,
                row,
                first: *first,
                second: place,
            });
            continue;
        }
        places.insert(row, place);
        if let Some(Ok(acked)) = evidence.places.get(row)
            && *acked != place
        {
            found.push(Breach::Moved {
                reading: name,
                row,
                acked: *acked,
                place,
            });
        }
    }
    for (row, place) in evidence.places.iter().enumerate() {
        if let Ok(place) = *place
            && !places.contains_key(&row)
        {
            found.push(Breach::Lost {
                reading: name,
                row,
                place,
            });
        }
    }
    for (partition, (from, to)) in (0..).zip(next.into_iter().zip(&evidence.ends)) {
        if from != *to {
            found.push(Breach::Gap {
                reading: name,
                partition,
                from,
                to: *to,
            });
        }
    }
}

/// A delivery and what became of it.
struct Told<'a> {
    delivery: &'a Delivery,
    fate: Option<&'a Fate>,
    /// The kill came before the fate was known.
    in_flight_at_kill: bool,
}

fn audit_work(evidence: &Evidence, found: &mut Vec<Breach>) -> Causes {
    let mut causes = Causes::default();
    let told = tell(evidence);
    let mut rows: BTreeMap<MessageId, usize> = BTreeMap::new();
    for (row, message) in evidence.messages.iter().enumerate() {
        match message {
            Ok(message) => {
                let message = *message;
                if let Some(other) = rows.insert(message, row) {
                    found.push(Breach::OneMessageForTwo {
                        row,
                        other,
                        message,
                    });
                }
                if !told.contains_key(&message) {
                    found.push(Breach::Unfinished { row, message });
                }
            }
            Err(error) => {
                let error = error.clone();
                found.push(Breach::NotPut { row, error });
            }
        }
    }
    for (message, story) in &told {
        for part in story {
            audit_content(evidence, part.delivery, found);
        }
        audit_story(*message, story, rows.get(message), &mut causes, found);
    }
    if (evidence.left, evidence.dead) != (0, 0) {
        let (left, dead) = (evidence.left, evidence.dead);
        found.push(Breach::LeftOver { left, dead });
    }
    causes
}

/// Every message's deliveries, in their order.
fn tell(evidence: &Evidence) -> BTreeMap<MessageId, Vec<Told<'_>>> {
    let mut fates: BTreeMap<usize, (&Fate, bool)> = BTreeMap::new();
    let mut killed = false;
    for step in &evidence.steps {
        match step {
            Step::Settled { delivery, fate } => {
                fates.insert(*delivery, (fate, killed));
            }
            Step::Killed => killed = true,
            Step::Delivered(_) => {}
        }
    }
    let deliveries = evidence.steps.iter().filter_map(|step| match step {
        Step::Delivered(delivery) => Some(delivery),
        _ => None,
    });
    let mut told: BTreeMap<MessageId, Vec<Told<'_>>> = BTreeMap::new();
    for (number, delivery) in deliveries.enumerate() {
        let fate = fates.get(&number);
        told.entry(delivery.message).or_default().push(Told {
            delivery,
            fate: fate.map(|(fate, _)| *fate),
            in_flight_at_kill: !delivery.after_kill && fate.map_or(killed, |(_, killed)| *killed),
        });
    }
    told
}

fn audit_content(evidence: &Evidence, delivery: &Delivery, found: &mut Vec<Breach>) {
    let message = delivery.message;
    let ours = delivery.row.and_then(|row| {
        let given = evidence.given.get(row)?;
        Some((row, given, evidence.messages.get(row)?))
    });
    let Some((row, given, put)) = ours else {
        found.push(Breach::WorkNotOurs { message });
        return;
    };
    if delivery.key != given.key || delivery.value != given.value {
        found.push(Breach::WorkAltered { row, message });
    }
    if let Ok(acked) = put
        && *acked != message
    {
        found.push(Breach::PutTwice {
            row,
            acked: *acked,
            message,
        });
    }
}

/// One message from its first delivery to its end.
fn audit_story(
    message: MessageId,
    story: &[Told<'_>],
    row: Option<&usize>,
    causes: &mut Causes,
    found: &mut Vec<Breach>,
) {
    // Failed deliveries that count for certain, and those that may: the kill
    // can have cut off a nack, or an expiry, before or after the disk had it.
    let (mut certain, mut perhaps) = (0_u16, 0_u16);
    for (index, part) in story.iter().enumerate() {
        let attempt = part.delivery.attempt;
        let (least, most) = (1 + certain, 1 + certain + perhaps);
        if !(least..=most).contains(&attempt) {
            found.push(Breach::Attempt {
                message,
                attempt,
                least,
                most,
            });
        }
        if let Some(Fate::Failed { error, .. }) = part.fate
            && !part.in_flight_at_kill
        {
            let error = error.clone();
            found.push(Breach::NotSettled { message, error });
        }
        let next = story.get(index + 1);
        // The kill ends reservations made before it, and no others.
        let by_kill =
            next.is_some_and(|next| next.delivery.after_kill && !part.delivery.after_kill);
        match part.fate {
            Some(Fate::Acked) => {
                if next.is_some() {
                    found.push(Breach::CameAfterAck { message });
                }
                continue;
            }
            Some(Fate::Nacked) => certain += 1,
            Some(Fate::Left) if by_kill => perhaps += 1,
            Some(Fate::Left) => certain += 1,
            Some(Fate::Failed {
                asked: Asked::Nack, ..
            }) => perhaps += 1,
            Some(Fate::Failed { .. }) | None => {}
        }
        if next.is_none() {
            continue;
        }
        match part.fate {
            Some(Fate::Nacked) => causes.nack += 1,
            _ if by_kill => causes.kill += 1,
            Some(Fate::Left) => causes.expiry += 1,
            _ => found.push(Breach::NoCause { message }),
        }
    }
    let acked = |part: &&Told<'_>| part.fate == Some(&Fate::Acked);
    match story.iter().filter(acked).count() {
        1 => {}
        0 => {
            let unanswered = story.last().is_some_and(|last| {
                let ack = matches!(
                    last.fate,
                    Some(Fate::Failed {
                        asked: Asked::Ack,
                        ..
                    })
                );
                ack && last.in_flight_at_kill
            });
            if unanswered {
                causes.answers_lost += 1;
            } else if let Some(row) = row {
                found.push(Breach::Unfinished { row: *row, message });
            }
        }
        _ => found.push(Breach::FinishedTwice { message }),
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of partition {}", self.id, self.partition)
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trouble { what } => write!(f, "{what}"),
            Self::NotAcknowledged { row, error } => {
                write!(f, "row {row} was not acknowledged: {error}")
            }
            Self::WrongPartition { row, place } => {
                write!(
                    f,
                    "row {row} was stored at {place}, its key belongs elsewhere"
                )
            }
            Self::OnePlaceForTwo { row, other, place } => {
                write!(
                    f,
                    "rows {other} and {row} were both acknowledged at {place}"
                )
            }
            Self::Lost {
                reading,
                row,
                place,
            } => write!(
                f,
                "{reading}: row {row} was acknowledged at {place} and is not there"
            ),
            Self::Moved {
                reading,
                row,
                acked,
                place,
            } => write!(
                f,
                "{reading}: row {row} was acknowledged at {acked} and is at {place}"
            ),
            Self::StoredTwice {
                reading,
                row,
                first,
                second,
            } => write!(
                f,
                "{reading}: row {row} is stored twice: {first} and {second}"
            ),
            Self::Altered {
                reading,
                row,
                place,
            } => write!(f, "{reading}: row {row} at {place} has other bytes"),
            Self::NotOurs { reading, place } => {
                write!(f, "{reading}: {place} holds what nobody published")
            }
            Self::CameTwice { reading, place } => write!(f, "{reading}: {place} came twice"),
            Self::Gap {
                reading,
                partition,
                from,
                to,
            } => write!(
                f,
                "{reading}: partition {partition} went from offset {from} to {to}"
            ),
            Self::Cursor {
                partition,
                acked,
                found: Some(at),
            } => write!(
                f,
                "cursor: partition {partition} was acknowledged at offset {acked} and stood at {at}"
            ),
            Self::Cursor {
                partition,
                acked,
                found: None,
            } => write!(
                f,
                "cursor: partition {partition} was acknowledged at offset {acked} and was gone"
            ),
            Self::Unexpected { reading, what } => write!(f, "{reading}: {what}"),
            Self::NotPut { row, error } => write!(f, "work: row {row} was not put: {error}"),
            Self::OneMessageForTwo {
                row,
                other,
                message,
            } => write!(f, "work: rows {other} and {row} were both put as {message}"),
            Self::PutTwice {
                row,
                acked,
                message,
            } => write!(
                f,
                "work: row {row} was put as {acked} and came as {message}"
            ),
            Self::WorkNotOurs { message } => write!(f, "work: nobody put {message}"),
            Self::WorkAltered { row, message } => {
                write!(f, "work: {message} has other bytes than row {row}")
            }
            Self::CameAfterAck { message } => {
                write!(f, "work: {message} was acknowledged and came again")
            }
            Self::NoCause { message } => write!(f, "work: {message} came again without a cause"),
            Self::NotSettled { message, error } => {
                write!(f, "work: {message} could not be settled: {error}")
            }
            Self::Attempt {
                message,
                attempt,
                least,
                most,
            } => write!(
                f,
                "work: {message} came as attempt {attempt}, expected {least} to {most}"
            ),
            Self::FinishedTwice { message } => write!(f, "work: {message} was finished twice"),
            Self::Unfinished { row, message } => {
                write!(f, "work: row {row}, {message}, was never finished")
            }
            Self::LeftOver { left, dead } => {
                write!(
                    f,
                    "work: the queue has {left} messages and {dead} dead letters left"
                )
            }
        }
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
