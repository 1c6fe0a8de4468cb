//! The way from the route of backups to whoever can make one: the owner of the node.
//!
//! A handler asks by [`BackupHandle`] and gets the length of an archive and its bytes as
//! they are made. What an archive is, this crate does not know.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Asks that wait for the owner's next turn. One backup is made at a time, so more than
/// a few are only to be told so.
const ASKS_MAX: usize = 8;

/// What a handler wants.
#[derive(Debug)]
pub struct BackupAsk {
    /// Keys and tokens of the node are to be in it.
    pub secrets: bool,
    /// Where the answer goes. Dropped, it is [`BackupRefused::NotReady`].
    pub answer: oneshot::Sender<Result<BackupStream, BackupRefused>>,
}

/// A backup that has begun.
#[derive(Debug)]
pub struct BackupStream {
    /// Bytes of the archive, known before the first of them.
    pub bytes: u64,
    /// What a file of it may be called.
    pub name: String,
    /// The archive. It ends early when the backup failed; dropped, the backup is given up.
    pub pieces: mpsc::Receiver<Bytes>,
}

/// Why there is no backup. Nothing is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupRefused {
    /// One is being made.
    Busy,
    /// The node has not caught up, or ends.
    NotReady,
    /// Something of what belongs to it cannot be had, in words.
    Failed(String),
}

/// What handlers hold. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BackupHandle {
    asks: mpsc::Sender<BackupAsk>,
}

/// The owner's half.
#[derive(Debug)]
pub struct BackupFront {
    asks: mpsc::Receiver<BackupAsk>,
}

/// Both halves.
#[must_use]
pub fn backup_front() -> (BackupHandle, BackupFront) {
    let (sender, asks) = mpsc::channel(ASKS_MAX);
    (BackupHandle { asks: sender }, BackupFront { asks })
}

impl BackupHandle {
    /// Begins a backup.
    ///
    /// # Errors
    /// [`BackupRefused`].
    pub async fn begin(&self, secrets: bool) -> Result<BackupStream, BackupRefused> {
        let (answer, answered) = oneshot::channel();
        let ask = BackupAsk { secrets, answer };
        match self.asks.try_send(ask) {
            Ok(()) => answered.await.unwrap_or(Err(BackupRefused::NotReady)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(BackupRefused::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(BackupRefused::NotReady),
        }
    }
}

impl BackupFront {
    /// The next ask; never, when nobody can ask any more. Cancel safe.
    pub async fn asked(&mut self) -> BackupAsk {
        match self.asks.recv().await {
            Some(ask) => ask,
            None => core::future::pending().await,
        }
    }
}
