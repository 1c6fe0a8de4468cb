//! What must be true of a queue, whatever happened to the node: kept beside it
//! as messages are put, taken and settled.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)] // shared by several test programs

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use pinion_client::{Message, MessageState, PeekOptions, Queue, RequestError};
use pinion_types::Outcome;

use super::load::{Ident, Known, Places};

/// Failed deliveries after which a message is a dead letter.
pub const ATTEMPTS_MAX: u16 = 3;

/// Unfinished messages above which producers wait.
const OPEN_MAX: usize = 300;

/// A statement whose answer may have been lost with the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    No,
    /// Sent; nobody knows whether it was heard.
    Maybe,
    Yes,
}

/// One message.
#[derive(Clone, Copy, Debug)]
struct Job {
    /// Partition and number.
    at: Option<(u16, u64)>,
    put: Said,
    done: Said,
    /// Failed deliveries that are known, and those that may be.
    failed: u16,
    maybe_failed: u16,
    /// Nobody else may have it before.
    held_until: Option<Instant>,
    delivered: u32,
}

/// What became of a message, as its consumer wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ack,
    Nack,
    Release,
    /// Says nothing until its time, which is short, is over.
    Lapse,
    /// Says nothing until the node is gone.
    Hold,
}

/// Every message of one queue.
#[derive(Debug, Default)]
pub struct Jobs {
    jobs: HashMap<Ident, Job>,
    ids: BTreeMap<(u16, u64), Ident>,
    /// Of each producer's source.
    partition_of: HashMap<u64, u16>,
    /// Takes with a short lease that are not answered, by partition: what they
    /// were given may lapse before anybody here sees it.
    unanswered: HashMap<u16, u16>,
    /// Messages of which the last look showed the number and not the record.
    nameless: usize,
    pub put: u64,
    pub delivered: u64,
    pub redelivered: u64,
    pub acked: u64,
    unfinished: usize,
}

impl Jobs {
    /// Says that `source` puts into `partition`.
    pub fn producer(&mut self, source: u64, partition: u16) {
        self.partition_of.insert(source, partition);
    }

    /// Somebody says where a message is; with it all of its batch, whose
    /// numbers follow each other.
    fn learn(&mut self, ident: Ident, at: (u16, u64), from: &str) {
        let first = (at.0, at.1 - u64::from(ident.place));
        for (id, ident) in (first.1..).zip(batch_of(&ident)) {
            self.learn_one(ident, (first.0, id), from);
        }
    }

    fn learn_one(&mut self, ident: Ident, at: (u16, u64), from: &str) {
        let job = self
            .jobs
            .get_mut(&ident)
            .unwrap_or_else(|| panic!("{ident:?} was never put, says {from}"));
        assert_eq!(
            *job.at.get_or_insert(at),
            at,
            "{ident:?} has another number than it had, says {from}"
        );
        let known = self.ids.entry(at).or_insert(ident);
        assert_eq!(*known, ident, "two messages at {at:?}, says {from}");
    }

    /// A consumer asks for a short lease.
    pub fn asks_briefly(&mut self, partition: u16) {
        *self.unanswered.entry(partition).or_default() += 1;
    }

    /// And was answered.
    pub fn answered_briefly(&mut self, partition: u16) {
        *self.unanswered.entry(partition).or_default() -= 1;
    }

    /// A consumer got `message`, having asked at `asked` for `lease`. `None` if
    /// the lease was over before it was seen, and nothing is known by it.
    pub fn delivered(
        &mut self,
        message: &Message,
        asked: Instant,
        lease: Duration,
    ) -> Option<Ident> {
        let at = (message.partition.0, message.id);
        let ident = Ident::of(&message.value, || format!("message {at:?}"));
        self.learn(ident, at, "a delivery");
        let now = Instant::now();
        let unanswered = self.unanswered.get(&at.0).copied().unwrap_or(0);
        let job = self.jobs.get_mut(&ident).expect("learned above");
        if asked + lease <= now {
            // Perhaps somebody else has had it meanwhile.
            job.put = Said::Yes;
            job.maybe_failed += 1;
            return None;
        }
        assert_ne!(job.done, Said::Yes, "{ident:?} came again after its ack");
        assert!(
            job.held_until.is_none_or(|until| until <= now),
            "{ident:?} is with two consumers: {job:?}"
        );
        let attempts = 1 + job.failed..=1 + job.failed + job.maybe_failed + unanswered;
        assert!(
            attempts.contains(&message.attempt) && job.failed < ATTEMPTS_MAX,
            "{ident:?} has attempt {}: {job:?}",
            message.attempt
        );
        // Who can give it away has it.
        job.put = Said::Yes;
        job.failed = message.attempt - 1;
        job.maybe_failed = 0;
        job.held_until = Some(asked + lease);
        job.delivered += 1;
        self.delivered += 1;
        self.redelivered += u64::from(job.delivered > 1);
        Some(ident)
    }

    /// A consumer is about to say this. Gives which delivery it is about.
    pub fn says(&mut self, ident: Ident, verdict: Verdict) -> u32 {
        let job = self.jobs.get_mut(&ident).expect("it was delivered");
        match verdict {
            Verdict::Ack => job.done = Said::Maybe,
            Verdict::Nack => {
                job.maybe_failed += 1;
                job.held_until = None;
            }
            Verdict::Release => job.held_until = None,
            // Its lease runs out and counts, if the node lives that long.
            Verdict::Lapse => job.maybe_failed += 1,
            Verdict::Hold => {}
        }
        job.delivered
    }

    /// And was answered this.
    pub fn heard(
        &mut self,
        ident: Ident,
        (verdict, delivery): (Verdict, u32),
        answer: &Result<(), RequestError>,
    ) {
        let job = self.jobs.get_mut(&ident).expect("it was delivered");
        // What was delivered since has told how many attempts there were.
        let is_newest = job.delivered == delivery;
        match (verdict, answer) {
            (Verdict::Ack, Ok(())) => {
                job.done = Said::Yes;
                job.held_until = None;
                self.acked += 1;
                self.unfinished = self.unfinished.saturating_sub(1);
            }
            (Verdict::Ack, Err(error)) if error.outcome() == Outcome::NotAdmitted => {
                job.done = Said::No;
            }
            (Verdict::Nack, Ok(())) if is_newest => {
                job.maybe_failed -= 1;
                job.failed += 1;
                if job.failed == ATTEMPTS_MAX {
                    self.unfinished = self.unfinished.saturating_sub(1);
                }
            }
            (Verdict::Nack, Err(error)) if error.outcome() == Outcome::NotAdmitted && is_newest => {
                job.maybe_failed -= 1;
            }
            _ => {}
        }
    }

    /// Compares with the queue after a restart, before anybody takes from it.
    /// What was in doubt is settled by it. Gives the number of messages found.
    pub async fn read_back(&mut self, queue: &Queue) -> u64 {
        let mut listed: HashMap<Ident, (MessageState, u16)> = HashMap::new();
        let mut pages = queue.peek(PeekOptions::default());
        self.nameless = 0;
        let mut count = 0;
        while let Some(page) = pages.next_page().await.unwrap() {
            for message in page {
                count += 1;
                let at = (message.partition.0, message.id);
                // A record that is on the disk only may be left out.
                let ident = match message.record {
                    Some(record) => {
                        let ident = Ident::of(&record.value, || format!("message {at:?}"));
                        self.learn(ident, at, "a peek");
                        ident
                    }
                    None => match self.ids.get(&at) {
                        Some(ident) => *ident,
                        None => {
                            self.nameless += 1;
                            continue;
                        }
                    },
                };
                let before = listed.insert(ident, (message.state, message.attempts));
                assert_eq!(before, None, "{ident:?} is there twice");
            }
        }
        self.unfinished = 0;
        let mut in_doubt = Vec::new();
        for (ident, job) in &mut self.jobs {
            job.held_until = None;
            let unanswered = job
                .at
                .and_then(|(partition, _)| self.unanswered.get(&partition));
            let maybe_failed = job.maybe_failed + unanswered.copied().unwrap_or(0);
            let found = listed.get(ident).copied();
            let Some((state, attempts)) = found else {
                assert!(
                    job.put != Said::Yes || job.done != Said::No,
                    "{ident:?} is gone: {job:?}"
                );
                // It was put if anybody had it.
                if job.done == Said::Maybe {
                    (job.put, job.done) = (Said::Yes, Said::Yes);
                }
                continue;
            };
            assert_ne!(job.done, Said::Yes, "{ident:?} is back after its ack");
            assert_ne!(
                state,
                MessageState::InFlight,
                "{ident:?}: nobody can have it"
            );
            assert!(
                (job.failed..=job.failed + maybe_failed).contains(&attempts),
                "{ident:?} counts {attempts} attempts: {job:?}"
            );
            assert_eq!(
                state == MessageState::Dead,
                attempts >= ATTEMPTS_MAX,
                "{ident:?}: {state:?} after {attempts} attempts"
            );
            (job.put, job.done) = (Said::Yes, Said::No);
            in_doubt.extend(batch_of(ident));
            (job.failed, job.maybe_failed) = (attempts, 0);
            self.unfinished += usize::from(state != MessageState::Dead);
        }
        self.unanswered.clear();
        // A put is there as a whole or not at all: what is not listed was done.
        for ident in in_doubt {
            let job = &self.jobs[&ident];
            assert!(
                listed.contains_key(&ident) || job.done == Said::Yes,
                "{ident:?} is missing from its batch: {job:?}"
            );
        }
        count
    }

    /// After everything that could be taken was: nothing but dead letters is left.
    pub fn finished(&self) -> u64 {
        let mut dead = 0;
        for (ident, job) in &self.jobs {
            let is_dead = job.failed >= ATTEMPTS_MAX;
            dead += u64::from(is_dead);
            assert!(
                job.put != Said::Yes || job.done == Said::Yes || is_dead,
                "{ident:?} never came: {job:?}"
            );
        }
        dead
    }

    pub fn is_done(&self, ident: &Ident) -> bool {
        self.jobs[ident].done == Said::Yes
    }
}

/// The batch that a message was put with.
fn batch_of(ident: &Ident) -> impl Iterator<Item = Ident> + use<> {
    let first = ident.seq - u64::from(ident.place);
    Ident::batch(ident.source, first, ident.whole)
}

impl Places for Jobs {
    fn acked(&mut self, source: u64, seq: u64, count: u16, at: u64) {
        let partition = self.partition_of[&source];
        for (id, ident) in (at..).zip(Ident::batch(source, seq, count)) {
            self.learn(ident, (partition, id), "an ack");
            self.jobs.get_mut(&ident).expect("learned").put = Said::Yes;
            self.put += 1;
        }
    }

    fn tried(&mut self, source: u64, seq: u64, count: u16) {
        for ident in Ident::batch(source, seq, count) {
            let job = Job {
                at: None,
                put: Said::Maybe,
                done: Said::No,
                failed: 0,
                maybe_failed: 0,
                held_until: None,
                delivered: 0,
            };
            assert!(self.jobs.insert(ident, job).is_none());
            self.unfinished += 1;
        }
    }

    fn stored_at(&self, source: u64, seq: u64, count: u16) -> Known {
        let first = Ident::batch(source, seq, count).next().expect("not empty");
        match self.jobs[&first].at {
            Some((_, id)) => Known::At(id),
            None if self.nameless == 0 => Known::Nowhere,
            None => Known::Perhaps,
        }
    }

    fn is_full(&self) -> bool {
        self.unfinished > OPEN_MAX
    }
}
