//! What the clients of the durable part wrote down, as it happened.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pinion_client::{Durability, Message, PublishAck, PutAck, RequestError};

use super::audit::{Asked, Delivery, Fate, MessageId, Step};
use super::check::Place;
use super::reader::{ROW_HEADER, row_of};

/// What is on the way and what is done at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    /// Records published and not yet acknowledged.
    pub(super) publishing: usize,
    /// Messages put and not yet acknowledged.
    pub(super) putting: usize,
    /// Messages taken and not yet settled.
    pub(super) working: usize,
    /// Records acknowledged.
    pub(super) stored: usize,
    /// Messages whose acknowledgement was acknowledged.
    pub(super) done: usize,
}

impl Moment {
    pub(super) const fn all_on_the_way(&self) -> bool {
        self.publishing > 0 && self.putting > 0 && self.working > 0
    }
}

/// Shared by everybody.
#[derive(Clone, Debug)]
pub(super) struct Ledger(Arc<Mutex<Pages>>);

/// What is in it. Everything is bounded by the rows and how often they fail.
#[derive(Debug)]
pub(super) struct Pages {
    places: Vec<Option<Result<Place, String>>>,
    messages: Vec<Option<Result<MessageId, String>>>,
    steps: Vec<Step>,
    troubles: Vec<String>,
    deliveries: usize,
    settled: usize,
    answered: usize,
    stored: usize,
    done: usize,
    last: Instant,
    pub(super) publishing: usize,
    pub(super) putting: usize,
    pub(super) repeats: u64,
    pub(super) reconnected: u64,
    /// By partition: the next offset of the live subscriber, and where its
    /// cursor is acknowledged to stand.
    pub(super) live: Vec<u64>,
    pub(super) cursors: Vec<Option<u64>>,
    /// The cursor is not to be moved now.
    pub(super) cursors_rest: bool,
}

impl Ledger {
    /// For so many rows and partitions of the stream.
    pub(super) fn new(rows: usize, shards: u16) -> Self {
        Self(Arc::new(Mutex::new(Pages {
            places: vec![None; rows],
            messages: vec![None; rows],
            steps: Vec::with_capacity(3 * rows),
            troubles: Vec::new(),
            deliveries: 0,
            settled: 0,
            answered: 0,
            stored: 0,
            done: 0,
            last: Instant::now(),
            publishing: 0,
            putting: 0,
            repeats: 0,
            reconnected: 0,
            live: vec![0; usize::from(shards)],
            cursors: vec![None; usize::from(shards)],
            cursors_rest: false,
        })))
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Pages) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pages {
    pub(super) fn step(&mut self, step: Step) {
        self.last = Instant::now();
        self.steps.push(step);
    }

    pub(super) fn trouble(&mut self, what: String) {
        self.troubles.push(what);
    }

    pub(super) fn published(&mut self, row: usize, ack: Result<PublishAck, RequestError>) {
        self.publishing -= 1;
        let place = ack.map_err(|error| error.to_string()).and_then(|ack| {
            self.repeats += u64::from(ack.duplicate);
            on_disk(ack.durability)?;
            Ok(Place {
                partition: ack.partition.0,
                offset: ack.offset.0,
            })
        });
        self.stored += usize::from(place.is_ok());
        self.places[row] = Some(place);
        self.answered += 1;
        self.last = Instant::now();
    }

    pub(super) fn put(&mut self, row: usize, ack: Result<PutAck, RequestError>) {
        self.putting -= 1;
        let message = ack.map_err(|error| error.to_string()).and_then(|ack| {
            self.repeats += u64::from(ack.duplicate);
            on_disk(ack.durability)?;
            Ok(MessageId {
                partition: ack.partition.0,
                id: ack.id,
            })
        });
        self.messages[row] = Some(message);
        self.answered += 1;
        self.last = Instant::now();
    }

    /// Gives the number of the delivery, and the row.
    pub(super) fn delivered(
        &mut self,
        message: &Message,
        after_kill: bool,
    ) -> (usize, Option<usize>) {
        let row = row_of(message.header(ROW_HEADER));
        self.step(Step::Delivered(Delivery {
            message: MessageId {
                partition: message.partition.0,
                id: message.id,
            },
            row,
            key: message.key.clone(),
            value: message.value.clone(),
            attempt: message.attempt,
            after_kill,
        }));
        self.deliveries += 1;
        (self.deliveries - 1, row)
    }

    pub(super) fn settled(
        &mut self,
        delivery: usize,
        asked: Asked,
        answer: Result<(), RequestError>,
    ) {
        let fate = match (asked, answer) {
            (Asked::Ack, Ok(())) => Fate::Acked,
            (Asked::Nack, Ok(())) => Fate::Nacked,
            (asked, Err(error)) => Fate::Failed {
                asked,
                error: error.to_string(),
            },
        };
        self.fate(delivery, fate);
    }

    pub(super) fn fate(&mut self, delivery: usize, fate: Fate) {
        self.settled += 1;
        self.done += usize::from(fate == Fate::Acked);
        self.step(Step::Settled { delivery, fate });
    }

    /// Rows that are surely both stored and worked on, as a number.
    pub(super) fn both(&self) -> usize {
        self.stored.min(self.done)
    }

    /// How far the row to be given out is ahead of what came of those before.
    pub(super) fn behind(&self, row: usize) -> usize {
        row.saturating_sub(self.both())
    }

    /// Everything that was published or put has its answer.
    pub(super) fn is_answered(&self) -> bool {
        self.answered == self.places.len() + self.messages.len()
    }

    /// How long nothing has happened.
    pub(super) fn quiet_for(&self) -> Duration {
        self.last.elapsed()
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            publishing: self.publishing,
            putting: self.putting,
            working: self.deliveries - self.settled,
            stored: self.stored,
            done: self.done,
        }
    }

    pub(super) fn places(&self) -> Vec<Result<Place, String>> {
        known(&self.places)
    }

    pub(super) fn messages(&self) -> Vec<Result<MessageId, String>> {
        known(&self.messages)
    }

    pub(super) fn steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    pub(super) fn troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.troubles)
    }
}

fn on_disk(durability: Durability) -> Result<(), String> {
    match durability {
        Durability::Disk => Ok(()),
        other => Err(format!("acknowledged as {other:?}, not as on disk")),
    }
}

fn known<T: Clone>(answers: &[Option<Result<T, String>>]) -> Vec<Result<T, String>> {
    let none = || Err("no answer came".to_owned());
    answers
        .iter()
        .map(|answer| answer.clone().unwrap_or_else(none))
        .collect()
}
