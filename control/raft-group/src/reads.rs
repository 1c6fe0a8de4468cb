//! Reads that see everything decided before they were asked.
//!
//! raft-rs answers a question with an index once a majority confirmed who leads
//! (Raft thesis §6.4); applied up to there, the machine may be read. But it drops
//! questions without a word: when nobody leads, when the leader has decided nothing
//! in its term, when the leader changes. So they are asked again here. Reads that
//! wait share one question.

use std::collections::VecDeque;

use pinion_types::Monotonic;

use crate::MemberId;
use crate::limits::{READ_RETRY, READ_ROUNDS_MAX, READ_TIMEOUT, READS_MAX};
use crate::output::Output;

/// Names a read until it is answered; chosen by the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

#[derive(Clone, Copy)]
struct Read {
    id: ReadId,
    until: Monotonic,
}

/// What raft-rs carries with a question and its answer: different for every question
/// of every life of every member.
type Question = [u8; 24];

/// One question, and who waits for its answer.
struct Round {
    number: u64,
    retry_at: Monotonic,
    reads: Vec<Read>,
}

/// See the head of this file.
pub(crate) struct Reads {
    /// Who asks, and in which of its lives. An answer that was on its way while the
    /// member was started again must not be taken for the answer to a later question.
    asker: (MemberId, u64),
    /// Not asked, or to be asked again.
    waiting: Vec<Read>,
    asked: VecDeque<Round>,
    /// Answered; they wait until so much is applied.
    answered: VecDeque<(u64, Vec<Read>)>,
    rounds: u64,
    count: usize,
}

impl Reads {
    /// `life` is another number each time the member is started.
    pub(crate) fn new(member: MemberId, life: u64) -> Self {
        Self {
            asker: (member, life),
            waiting: Vec::new(),
            asked: VecDeque::new(),
            answered: VecDeque::new(),
            rounds: 0,
            count: 0,
        }
    }

    /// Takes a read; false when as many as may wait are waiting.
    pub(crate) fn take(&mut self, now: Monotonic, id: ReadId) -> bool {
        if self.count >= READS_MAX {
            return false;
        }
        self.count += 1;
        let until = now + READ_TIMEOUT;
        self.waiting.push(Read { id, until });
        true
    }

    /// The next question to ask, when there is one.
    pub(crate) fn next_question(&mut self, now: Monotonic) -> Option<Question> {
        if self.waiting.is_empty() || self.asked.len() >= READ_ROUNDS_MAX {
            return None;
        }
        self.rounds += 1;
        self.asked.push_back(Round {
            number: self.rounds,
            retry_at: now + READ_RETRY,
            reads: core::mem::take(&mut self.waiting),
        });
        Some(self.question(self.rounds))
    }

    /// A question is answered. One that was given up meanwhile is not ours any more.
    pub(crate) fn handle_answer(&mut self, question: &[u8], index: u64) {
        let mut asked = self.asked.iter();
        let at = asked.position(|round| self.question(round.number) == question);
        if let Some(round) = at.and_then(|at| self.asked.remove(at)) {
            self.answered.push_back((index, round.reads));
        }
    }

    fn question(&self, number: u64) -> Question {
        let (MemberId(member), life) = self.asker;
        let mut question = [0; 24];
        for (part, of) in question.chunks_exact_mut(8).zip([member, life, number]) {
            part.copy_from_slice(&of.to_le_bytes());
        }
        question
    }

    /// Everything up to `applied` is in the machine.
    pub(crate) fn handle_applied(&mut self, applied: u64, out: &mut VecDeque<Output>) {
        let mut at = 0;
        while let Some((index, _)) = self.answered.get(at) {
            if *index > applied {
                at += 1;
                continue;
            }
            let (index, reads) = self.answered.remove(at).expect("it was just there");
            self.count -= reads.len();
            for read in reads {
                out.push_back(Output::Read { id: read.id, index });
            }
        }
    }

    /// Who leads has changed: what was asked is forgotten there.
    pub(crate) fn ask_again(&mut self) {
        for round in self.asked.drain(..) {
            self.waiting.extend(round.reads);
        }
    }

    /// The time has come to ask again, or to give up.
    pub(crate) fn handle_timeout(&mut self, now: Monotonic, out: &mut VecDeque<Output>) {
        while self
            .asked
            .front()
            .is_some_and(|round| round.retry_at <= now)
        {
            if let Some(round) = self.asked.pop_front() {
                self.waiting.extend(round.reads);
            }
        }
        let answered = self.answered.iter_mut().map(|(_, reads)| reads);
        for reads in core::iter::once(&mut self.waiting).chain(answered) {
            reads.retain(|read| {
                let stays = read.until > now;
                if !stays {
                    self.count -= 1;
                    out.push_back(Output::ReadFailed { id: read.id });
                }
                stays
            });
        }
        self.answered.retain(|(_, reads)| !reads.is_empty());
    }

    /// Nothing will be answered any more.
    pub(crate) fn fail(&mut self, out: &mut VecDeque<Output>) {
        self.ask_again();
        for (_, reads) in self.answered.drain(..) {
            self.waiting.extend(reads);
        }
        self.count = 0;
        for read in self.waiting.drain(..) {
            out.push_back(Output::ReadFailed { id: read.id });
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        // Each list is in the order of asking, or nearly: one that is not is given up
        // at most a retry later.
        let answered = self.answered.front().and_then(|(_, reads)| reads.first());
        let given_up = [self.waiting.first(), answered];
        let given_up = given_up.into_iter().flatten().map(|read| read.until);
        let again = self.asked.front().map(|round| round.retry_at);
        given_up.chain(again).min()
    }
}

// A question is asked again some times before its reads are given up.
const _: () = assert!(READ_RETRY.as_millis() * 4 < READ_TIMEOUT.as_millis());
