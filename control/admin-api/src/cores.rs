//! The way from handlers to the data cores of this node: questions in a bounded
//! channel, answers by one-shots.
//!
//! Handlers hold a [`NodeHandle`]; whoever owns the lanes to the cores holds the one
//! [`NodeFront`]. A core that is slow or gone costs those who ask it, and nobody else.

use core::time::Duration;
use std::collections::BTreeMap;

use pinion_node::mail::CoreMail;
use pinion_node::views::{QUESTIONS_WAITING_MAX, Question, View};
use pinion_types::CoreId;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::limits::QUESTIONS_MAX;

/// Why a question has no answer. What it asked to be done may have been done, unless it
/// is [`NodeError::Busy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// As much is asked as may be.
    #[error("{limit} questions wait already")]
    Busy {
        /// How many.
        limit: u64,
    },
    /// There is no such core, or it has ended.
    #[error("the core is not there")]
    Gone,
    /// No answer came within the time given.
    #[error("the core has not answered in time")]
    Late,
}

struct Asked {
    core: CoreId,
    question: Box<Question>,
    answer: oneshot::Sender<Result<View, NodeError>>,
}

/// What handlers hold. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    asks: mpsc::Sender<Asked>,
    cores: u16,
}

/// The half of whoever owns the lanes to the cores.
#[derive(Debug)]
pub struct NodeFront {
    asks: mpsc::Receiver<Asked>,
    /// A question that [`NodeFront::ready`] met.
    next: Option<Asked>,
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Of these, by core.
    counts: Box<[usize]>,
}

#[derive(Debug)]
struct Waiting {
    core: CoreId,
    answer: oneshot::Sender<Result<View, NodeError>>,
}

/// The two ends of a node with `cores` data cores.
#[must_use]
pub fn node_front(cores: u16) -> (NodeHandle, NodeFront) {
    let (sender, asks) = mpsc::channel(QUESTIONS_MAX);
    let front = NodeFront {
        asks,
        next: None,
        last: 0,
        waiting: BTreeMap::new(),
        counts: vec![0; usize::from(cores)].into(),
    };
    let handle = NodeHandle {
        asks: sender,
        cores,
    };
    (handle, front)
}

impl NodeHandle {
    /// How many data cores this node has: 0 where none can be asked.
    #[must_use]
    pub fn cores(&self) -> u16 {
        self.cores
    }

    /// The core that owns partitions of a log; `None` where no core can be asked.
    #[must_use]
    pub fn owner(&self, log: u16) -> Option<CoreId> {
        log.checked_rem(self.cores).map(CoreId)
    }

    /// Asks a core and waits for as long as `wait`.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn ask(
        &self,
        core: CoreId,
        question: Question,
        wait: Duration,
    ) -> Result<View, NodeError> {
        if core.0 >= self.cores {
            return Err(NodeError::Gone);
        }
        let (sender, answer) = oneshot::channel();
        let asked = Asked {
            core,
            question: Box::new(question),
            answer: sender,
        };
        self.asks.try_send(asked).map_err(|error| match error {
            TrySendError::Full(_) => NodeError::Busy {
                limit: QUESTIONS_MAX as u64,
            },
            TrySendError::Closed(_) => NodeError::Gone,
        })?;
        match tokio::time::timeout(wait, answer).await {
            Ok(answered) => answered.map_err(|_| NodeError::Gone)?,
            Err(_) => Err(NodeError::Late),
        }
    }
}

impl NodeFront {
    /// Waits until somebody asks: [`NodeFront::feed`] has something to do. It may be
    /// dropped at any time and asked again.
    pub async fn ready(&mut self) {
        if self.next.is_some() {
            return;
        }
        match self.asks.recv().await {
            Some(asked) => self.next = Some(asked),
            // Handlers that are all gone want nothing any more.
            None => core::future::pending().await,
        }
    }

    /// Hands over what was asked, to be put into the core's lane. `tell` says whether the
    /// core is there.
    pub fn feed(&mut self, mut tell: impl FnMut(CoreId, CoreMail) -> bool) {
        for _ in 0..QUESTIONS_MAX {
            let asked = self.next.take().or_else(|| self.asks.try_recv().ok());
            let Some(Asked {
                core,
                question,
                answer,
            }) = asked
            else {
                return;
            };
            let count = &mut self.counts[usize::from(core.0)];
            // Who does not wait any more need not be answered. What is under way is
            // answered whoever waits, so that a core never has more of it than it may.
            if answer.is_closed() {
                continue;
            }
            if *count >= QUESTIONS_WAITING_MAX {
                let limit = QUESTIONS_WAITING_MAX as u64;
                let _ = answer.send(Err(NodeError::Busy { limit }));
                continue;
            }
            self.last += 1;
            let id = self.last;
            if tell(core, CoreMail::Question { id, question }) {
                *count += 1;
                self.waiting.insert(id, Waiting { core, answer });
            } else {
                let _ = answer.send(Err(NodeError::Gone));
            }
        }
    }

    /// A core has answered.
    pub fn handle_view(&mut self, core: CoreId, id: u64, view: View) {
        if let Some(waiting) = self.waiting.remove(&id) {
            debug_assert_eq!(waiting.core, core, "question {id}");
            self.counts[usize::from(waiting.core.0)] -= 1;
            // Whoever asked may not wait any more.
            let _ = waiting.answer.send(Ok(view));
        }
    }

    /// A core has ended: what it was asked is answered by nobody.
    pub fn core_gone(&mut self, core: CoreId) {
        let waiting = self.waiting.iter();
        let gone: Vec<u64> = waiting
            .filter(|(_, one)| one.core == core)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(waiting) = self.waiting.remove(&id) {
                let _ = waiting.answer.send(Err(NodeError::Gone));
            }
        }
        if let Some(count) = self.counts.get_mut(usize::from(core.0)) {
            *count = 0;
        }
    }
}

impl core::fmt::Debug for Asked {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} asked {:?}", self.core, self.question)
    }
}
