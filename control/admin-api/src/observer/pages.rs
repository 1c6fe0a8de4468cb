//! The partitions of one core, page by page, with the next pages asked for before the one
//! before is there.
//!
//! Where a page will end is guessed: at as many places as it may have. One that ends before
//! that, because what is in it takes longer to look at, makes the guesses behind it wrong: the
//! core has worked for nothing on them, so from then on nothing is guessed.

use std::collections::VecDeque;

use pinion_node::views::{PARTITIONS_PER_PAGE, PartitionPage, Question, View};
use pinion_types::{CoreId, ResourceKind};
use tokio::task::JoinHandle;

use crate::cores::{NodeError, NodeHandle};
use crate::limits::QUESTION_WAIT;

/// Pages that one core is asked for at once. With fewer the core waits for the next question
/// after each; with more it does nothing sooner.
const ASKED: usize = 3;

type Asked = JoinHandle<Result<PartitionPage, NodeError>>;

/// What is asked of one core.
pub(super) struct Pages<'a> {
    cores: &'a NodeHandle,
    core: CoreId,
    /// What is asked for; of all kinds when it is none.
    kind: Option<ResourceKind>,
    /// How far is guessed: to the last place that the core had when this began, until a guess
    /// was wrong.
    places: u64,
    /// In order, each with its first place.
    asked: VecDeque<(u64, Asked)>,
    /// First place of the page to be asked for next.
    next: u64,
    ended: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn of(
        cores: &'a NodeHandle,
        core: CoreId,
        kind: Option<ResourceKind>,
        places: u64,
    ) -> Self {
        Self {
            cores,
            core,
            kind,
            places,
            asked: VecDeque::with_capacity(ASKED),
            next: 0,
            ended: false,
        }
    }

    /// The next page; `None` when there is no more. What it asks for leaves when the caller
    /// waits for something.
    ///
    /// # Errors
    /// [`NodeError`]; what was told before that is a part of all.
    pub(super) async fn next(&mut self) -> Result<Option<PartitionPage>, NodeError> {
        if self.ended {
            return Ok(None);
        }
        self.ask();
        let Some((first, asked)) = self.asked.front_mut() else {
            return Ok(None);
        };
        let page = asked.await.map_err(|_| NodeError::Gone)??;
        let guessed = after(*first);
        self.asked.pop_front();
        match page.next.map(|last| u64::from(last) + 1) {
            None => {
                self.ended = true;
                self.forget();
            }
            Some(next) => {
                if next != guessed {
                    self.forget();
                    self.next = next;
                    self.places = 0;
                }
                self.ask();
            }
        }
        Ok(Some(page))
    }

    /// One, whatever is there, and the others as far as there are places.
    fn ask(&mut self) {
        while self.asked.is_empty() || self.asked.len() < ASKED && self.next < self.places {
            let (cores, core, kind) = (self.cores.clone(), self.core, self.kind);
            let first = self.next;
            let asked = tokio::spawn(async move { ask(&cores, core, kind, first).await });
            self.asked.push_back((first, asked));
            self.next = after(first);
        }
    }

    fn forget(&mut self) {
        for (_, asked) in self.asked.drain(..) {
            asked.abort();
        }
    }
}

impl Drop for Pages<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The first place of the page after one, if that has as many as it may.
const fn after(first: u64) -> u64 {
    first + PARTITIONS_PER_PAGE as u64
}

async fn ask(
    cores: &NodeHandle,
    core: CoreId,
    kind: Option<ResourceKind>,
    first: u64,
) -> Result<PartitionPage, NodeError> {
    let before = first.checked_sub(1).map(u32::try_from);
    let after = before.transpose().map_err(|_| NodeError::Gone)?;
    let question = Question::Partitions { after, kind };
    match cores.ask(core, question, QUESTION_WAIT).await? {
        View::Partitions(page) => Ok(page),
        _ => Err(NodeError::Gone),
    }
}
