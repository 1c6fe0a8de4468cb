//! Batches of one partition that are sent and not yet settled.
//!
//! A plain state machine: it decides what a reply means for a batch and for the
//! batches behind it. Replies are given to it in the order the batches were sent.
//!
//! When a batch must be sent again, nothing new is sent until every reply that is
//! still out has come (the *round* ends); then everything unsettled is sent again
//! in order. An idempotent producer's sequences stay dense through this: a batch
//! that is given up before it was stored gives its sequence to the next; one that
//! may have been stored makes the producer take a fresh id, because nobody knows
//! which sequence the partition expects.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pinion_types::{ErrorCode, Outcome, ProducerId, Refusal, Sequence};

use crate::error::{RequestError, UnknownCause};
use crate::request::{Class, retry_wait};
use crate::resource::AttemptError;
use crate::ticket::PublishAck;

/// What came back for a batch that was sent, or was to be.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Stored.
    Stored(PublishAck),
    /// Not stored, or so the node says.
    Failed(RequestError),
    /// Perhaps stored.
    Lost(UnknownCause),
}

/// One batch in the window.
#[derive(Debug)]
pub(crate) struct Entry<B> {
    pub(crate) batch: B,
    records: u32,
    sequence: u64,
    sent: bool,
    /// An earlier attempt ended without an answer.
    maybe_stored: bool,
    attempts: u32,
    /// When it was pushed, and how long it may take from then on.
    since: Instant,
    within: Duration,
    /// Why it was not stored so far.
    last: Option<RequestError>,
}

impl<B> Entry<B> {
    fn is_late(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.within
    }
}

/// A batch that is settled, and how.
pub(crate) type Settled<B> = (B, Result<PublishAck, RequestError>);

/// The window of one partition.
#[derive(Debug)]
pub(crate) struct Window<B> {
    entries: VecDeque<Entry<B>>,
    limit: usize,
    /// `None`: not idempotent.
    producer: Option<ProducerId>,
    next_sequence: u64,
    recovering: bool,
    /// The producer needs a fresh id.
    rekey: bool,
    /// Sequences from here on are free again.
    renumber_from: Option<u64>,
    wait: Duration,
    /// The next round counts against the retry budget.
    costs: bool,
}

/// What begins when every reply is in.
#[derive(Debug)]
pub(crate) struct Round<B> {
    /// Batches that are not sent again.
    pub(crate) settled: Vec<Settled<B>>,
    /// How long to wait before sending.
    pub(crate) wait: Duration,
}

impl<B> Window<B> {
    pub(crate) const fn new(limit: usize, producer: Option<ProducerId>) -> Self {
        Self {
            entries: VecDeque::new(),
            limit,
            producer,
            next_sequence: 0,
            recovering: false,
            rekey: false,
            renumber_from: None,
            wait: Duration::ZERO,
            costs: false,
        }
    }

    /// Whether the next round counts against the retry budget: the node refused
    /// or did not answer. After a lost connection it does not, because a round
    /// sends no more than was on the way, and reconnecting has its own pace.
    pub(crate) const fn costs(&self) -> bool {
        self.costs
    }

    /// Whether a batch has run out of time.
    pub(crate) fn has_late(&self, now: Instant) -> bool {
        self.entries.iter().any(|entry| entry.is_late(now))
    }

    /// Whether another batch may come in.
    pub(crate) fn has_room(&self) -> bool {
        !self.recovering && self.entries.len() < self.limit
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether replies must come in before anything is sent.
    pub(crate) const fn is_recovering(&self) -> bool {
        self.recovering
    }

    /// Takes the next batch, of `records` records, to be settled `within` that
    /// time from `now` on.
    pub(crate) fn push(&mut self, batch: B, records: u32, now: Instant, within: Duration) {
        assert!(self.has_room(), "the caller asks for room first");
        self.entries.push_back(Entry {
            batch,
            records,
            sequence: self.next_sequence,
            sent: false,
            maybe_stored: false,
            attempts: 0,
            since: now,
            within,
            last: None,
        });
        self.next_sequence += u64::from(records);
    }

    /// The first batch that is to be sent.
    pub(crate) fn unsent(&self) -> Option<usize> {
        self.entries.iter().position(|entry| !entry.sent)
    }

    /// The batch whose reply is awaited next.
    pub(crate) fn awaited(&self) -> Option<usize> {
        self.entries.iter().position(|entry| entry.sent)
    }

    pub(crate) fn entry(&self, index: usize) -> &Entry<B> {
        &self.entries[index]
    }

    pub(crate) fn batch_mut(&mut self, index: usize) -> &mut B {
        &mut self.entries[index].batch
    }

    /// Producer and first sequence to send a batch with.
    pub(crate) fn producer(&self, index: usize) -> Option<(ProducerId, Sequence)> {
        let sequence = Sequence(self.entries[index].sequence);
        self.producer.map(|producer| (producer, sequence))
    }

    /// Another attempt begins. True when it is not the first.
    pub(crate) fn attempt(&mut self, index: usize) -> bool {
        let entry = &mut self.entries[index];
        entry.attempts = entry.attempts.saturating_add(1);
        entry.attempts > 1
    }

    /// The batch is queued to the connection.
    pub(crate) fn mark_sent(&mut self, index: usize) {
        self.entries[index].sent = true;
    }

    /// The answer for one batch. Gives the batch back when that settles it.
    /// `random` is uniform in `0.0..1.0`.
    pub(crate) fn answer(
        &mut self,
        index: usize,
        answer: Answer,
        random: f64,
    ) -> Option<Settled<B>> {
        self.entries[index].sent = false;
        let error = match answer {
            Answer::Stored(ack) => return Some((self.remove(index), Ok(ack))),
            Answer::Failed(RequestError::OutcomeUnknown(cause)) | Answer::Lost(cause) => {
                return self.lost(index, cause);
            }
            Answer::Failed(error) => error,
        };
        if self.producer.is_some() {
            match error.code() {
                Some(ErrorCode::SequenceGap) if self.recovering || index > 0 => {
                    // Something before it was not stored; it goes after that.
                    self.again(Duration::ZERO);
                    return None;
                }
                Some(ErrorCode::SequenceGap) => return self.forgotten(index),
                Some(ErrorCode::SequenceTooOld) => {
                    self.rekey = true;
                    self.again(Duration::ZERO);
                    if self.entries[index].maybe_stored {
                        let cause = UnknownCause::ProducerForgotten;
                        return self.give_up(index, RequestError::OutcomeUnknown(cause));
                    }
                    return None;
                }
                _ => {}
            }
        }
        let attempt = AttemptError::NotAdmitted(error.clone());
        if let Some(wait) = retry_wait(&attempt, Class::Write, random) {
            self.costs |= matches!(error, RequestError::Refused(_));
            self.entries[index].last = Some(error);
            self.again(wait);
            return None;
        }
        self.give_up(index, error)
    }

    /// Call it when recovering and nothing is awaited: gives what is out of time,
    /// puts the sequences in order and lets sending go on. The wait is due first.
    pub(crate) fn begin_round(&mut self, now: Instant, fresh: ProducerId) -> Round<B> {
        assert!(
            self.awaited().is_none(),
            "a round begins when all replies are in"
        );
        let mut settled = Vec::new();
        let mut index = 0;
        while index < self.entries.len() {
            let entry = &mut self.entries[index];
            if !entry.is_late(now) {
                index += 1;
                continue;
            }
            let error = match entry.last.take() {
                _ if entry.maybe_stored => RequestError::OutcomeUnknown(UnknownCause::NoReply),
                Some(last) => last,
                None => RequestError::TimedOut {
                    after: entry.within,
                },
            };
            settled.extend(self.give_up(index, error));
        }
        if self.rekey {
            index = 0;
            while index < self.entries.len() {
                if self.entries[index].maybe_stored {
                    // Under another id the partition could not know a repeat.
                    let cause = UnknownCause::ProducerForgotten;
                    settled.push((self.remove(index), Err(RequestError::OutcomeUnknown(cause))));
                } else {
                    index += 1;
                }
            }
            self.producer = Some(fresh);
            self.number(0, 0);
        } else if let Some(from) = self.renumber_from {
            self.number(from, from);
        }
        self.rekey = false;
        self.renumber_from = None;
        self.recovering = false;
        self.costs = false;
        Round {
            settled,
            wait: std::mem::take(&mut self.wait),
        }
    }

    /// Everything, when the publisher ends without an answer.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (B, bool)> + '_ {
        self.entries
            .drain(..)
            .map(|entry| (entry.batch, entry.sent || entry.maybe_stored))
    }

    fn lost(&mut self, index: usize, cause: UnknownCause) -> Option<Settled<B>> {
        if self.producer.is_none() {
            let error = RequestError::OutcomeUnknown(cause);
            return Some((self.remove(index), Err(error)));
        }
        // The partition recognises a repeat by its sequence.
        self.entries[index].maybe_stored = true;
        self.costs |= cause != UnknownCause::ConnectionLost;
        self.again(Duration::ZERO);
        None
    }

    /// The partition expects an earlier sequence than the first unsettled one:
    /// it does not know this producer (any more).
    fn forgotten(&mut self, index: usize) -> Option<Settled<B>> {
        self.rekey = true;
        self.again(Duration::ZERO);
        if !self.entries[index].maybe_stored {
            return None;
        }
        let cause = UnknownCause::ProducerForgotten;
        Some((self.remove(index), Err(RequestError::OutcomeUnknown(cause))))
    }

    /// A batch that will not be sent again.
    fn give_up(&mut self, index: usize, error: RequestError) -> Option<Settled<B>> {
        let entry = &self.entries[index];
        let (sequence, maybe_stored) = (entry.sequence, entry.maybe_stored);
        if self.producer.is_some() {
            self.recovering = true;
            if maybe_stored {
                self.rekey = true;
            } else {
                let from = self.renumber_from.unwrap_or(sequence);
                self.renumber_from = Some(from.min(sequence));
                // It was never stored, so nothing behind it can have been.
                for later in self.entries.range_mut(index..) {
                    later.maybe_stored = false;
                }
            }
        }
        let error = match error {
            RequestError::Refused(refusal) if maybe_stored => {
                RequestError::OutcomeUnknown(UnknownCause::Node(refusal))
            }
            error if maybe_stored && error.outcome() != Outcome::Unknown => {
                RequestError::OutcomeUnknown(UnknownCause::ConnectionLost)
            }
            error => error,
        };
        Some((self.remove(index), Err(error)))
    }

    fn again(&mut self, wait: Duration) {
        self.recovering = true;
        self.wait = self.wait.max(wait);
    }

    /// Gives dense sequences from `first` on to the entries that have `above` or more.
    fn number(&mut self, above: u64, first: u64) {
        let mut next = first;
        for entry in &mut self.entries {
            if self.rekey || entry.sequence >= above {
                entry.sequence = next;
                next += u64::from(entry.records);
            }
        }
        self.next_sequence = next;
    }

    fn remove(&mut self, index: usize) -> B {
        self.entries
            .remove(index)
            .expect("an index of this window")
            .batch
    }
}

/// A refusal as an answer.
impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(RequestError::from_refusal(refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_types::{Offset, PartitionId};
    use pinion_wire::message::Durability;

    const FRESH: ProducerId = ProducerId(2);

    struct Story {
        window: Window<&'static str>,
        start: Instant,
    }

    impl Story {
        /// A window in which each name is a batch of ten records, all sent.
        fn sent(producer: Option<u64>, names: &[&'static str]) -> Self {
            let start = Instant::now();
            let mut window = Window::new(8, producer.map(ProducerId));
            for &name in names {
                window.push(name, 10, start, Duration::from_secs(9));
            }
            let mut story = Self { window, start };
            story.send();
            story
        }

        fn send(&mut self) {
            while let Some(index) = self.window.unsent() {
                self.window.mark_sent(index);
            }
        }

        /// What the reply to the first awaited batch does.
        fn answer(&mut self, answer: impl Into<Answer>) -> String {
            let index = self.window.awaited().expect("a batch is awaited");
            let settled = self.window.answer(index, answer.into(), 0.0);
            settled.map_or("kept".to_owned(), told)
        }

        fn round(&mut self, after_secs: u64) -> Vec<String> {
            let now = self.start + Duration::from_secs(after_secs);
            let round = self.window.begin_round(now, FRESH);
            round.settled.into_iter().map(told).collect()
        }

        /// Producer, sequence and name of everything in the window.
        fn numbered(&self) -> Vec<(u64, u64, &'static str)> {
            (0..self.window.entries.len())
                .map(|i| {
                    let (producer, sequence) = self.window.producer(i).expect("idempotent");
                    (producer.0, sequence.0, self.window.entry(i).batch)
                })
                .collect()
        }
    }

    fn told((name, result): Settled<&'static str>) -> String {
        match result {
            Ok(_) => format!("{name} stored"),
            Err(error) => format!("{name} {:?}", error.outcome()),
        }
    }

    fn stored() -> Answer {
        Answer::Stored(PublishAck {
            partition: PartitionId(0),
            offset: Offset(0),
            durability: Durability::Memory,
            duplicate: false,
        })
    }

    fn lost() -> Answer {
        Answer::Lost(UnknownCause::ConnectionLost)
    }

    fn code(code: ErrorCode) -> Refusal {
        Refusal::new(code)
    }

    #[test]
    fn after_a_lost_connection_batches_go_again_under_the_same_sequences() {
        let mut story = Story::sent(Some(1), &["a", "b"]);
        assert_eq!(
            [story.answer(lost()), story.answer(lost())],
            ["kept", "kept"]
        );
        assert!(story.window.is_recovering() && !story.window.has_room());
        assert!(!story.window.costs());
        assert!(story.round(0).is_empty());
        assert_eq!(story.numbered(), [(1, 0, "a"), (1, 10, "b")]);
        story.send();
        assert_eq!(
            [story.answer(stored()), story.answer(stored())],
            ["a stored", "b stored"]
        );
    }

    #[test]
    fn a_busy_head_holds_the_batches_behind_it_and_order_is_kept() {
        let mut story = Story::sent(Some(1), &["a", "b"]);
        assert_eq!(story.answer(code(ErrorCode::Busy)), "kept");
        assert_eq!(story.answer(code(ErrorCode::SequenceGap)), "kept");
        assert!(story.window.costs());
        assert!(story.round(0).is_empty());
        assert_eq!(story.numbered(), [(1, 0, "a"), (1, 10, "b")]);
    }

    #[test]
    fn a_refused_batch_gives_its_sequence_to_the_next() {
        let mut story = Story::sent(Some(1), &["a", "b", "c"]);
        assert_eq!(story.answer(stored()), "a stored");
        assert_eq!(
            story.answer(code(ErrorCode::RecordTooLarge)),
            "b NotAdmitted"
        );
        assert_eq!(story.answer(code(ErrorCode::SequenceGap)), "kept");
        assert!(story.round(0).is_empty());
        assert_eq!(story.numbered(), [(1, 10, "c")]);
        story
            .window
            .push("d", 10, story.start, Duration::from_secs(9));
        assert_eq!(story.numbered()[1], (1, 20, "d"));
    }

    #[test]
    fn a_restarted_node_leaves_sent_batches_unknown_and_takes_new_ones_under_a_new_id() {
        let mut story = Story::sent(Some(1), &["a", "b", "c"]);
        assert_eq!(story.answer(stored()), "a stored");
        assert_eq!(
            [story.answer(lost()), story.answer(lost())],
            ["kept", "kept"]
        );
        assert!(story.round(0).is_empty());
        story
            .window
            .push("d", 10, story.start, Duration::from_secs(9));
        story.send();
        let gap = || code(ErrorCode::SequenceGap);
        assert_eq!(story.answer(gap()), "b Unknown");
        assert_eq!([story.answer(gap()), story.answer(gap())], ["kept", "kept"]);
        assert_eq!(story.round(0), ["c Unknown"]);
        assert_eq!(story.numbered(), [(2, 0, "d")]);
    }

    #[test]
    fn a_node_that_forgot_the_producer_takes_a_batch_never_sent_before() {
        let mut story = Story::sent(Some(1), &["a"]);
        assert_eq!(story.answer(stored()), "a stored");
        story
            .window
            .push("b", 10, story.start, Duration::from_secs(9));
        story.send();
        assert_eq!(story.answer(code(ErrorCode::SequenceGap)), "kept");
        assert!(story.round(0).is_empty());
        assert_eq!(story.numbered(), [(2, 0, "b")]);
    }

    #[test]
    fn out_of_time_a_batch_that_may_be_stored_is_unknown_and_taints_the_id() {
        let mut story = Story::sent(Some(1), &["a"]);
        assert_eq!(story.answer(lost()), "kept");
        assert_eq!(story.round(10), ["a Unknown"]);
        story
            .window
            .push("b", 10, story.start, Duration::from_secs(99));
        assert_eq!(story.numbered(), [(2, 0, "b")]);
    }

    #[test]
    fn out_of_time_a_batch_never_admitted_is_not_admitted_and_keeps_the_id() {
        let mut story = Story::sent(Some(1), &["a"]);
        assert_eq!(story.answer(code(ErrorCode::Busy)), "kept");
        assert_eq!(story.round(10), ["a NotAdmitted"]);
        story
            .window
            .push("b", 10, story.start, Duration::from_secs(99));
        assert_eq!(story.numbered(), [(1, 0, "b")]);
    }

    #[test]
    fn a_final_refusal_of_a_batch_that_may_be_stored_is_unknown() {
        let mut story = Story::sent(Some(1), &["a"]);
        story.answer(lost());
        story.round(0);
        story.send();
        assert_eq!(story.answer(code(ErrorCode::Forbidden)), "a Unknown");
    }

    #[test]
    fn without_sequences_a_lost_batch_is_never_sent_again() {
        let mut story = Story::sent(None, &["a", "b"]);
        assert_eq!(story.answer(lost()), "a Unknown");
        assert_eq!(story.answer(code(ErrorCode::Busy)), "kept");
        assert!(story.round(0).is_empty());
        assert_eq!(story.window.unsent(), Some(0));
    }
}
