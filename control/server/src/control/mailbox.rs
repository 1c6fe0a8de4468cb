//! The control thread's mailbox, waited for by the runtime.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use pinion_reactor::ControlEnd;
use tokio::io::unix::AsyncFd;

use crate::pump::Mail;

/// A mailbox and the descriptor that rings when something falls into it.
pub(super) struct Mailbox {
    pub(super) end: ControlEnd<Mail>,
    bell: AsyncFd<OwnedFd>,
}

impl Mailbox {
    /// Within a runtime, which waits for the bell.
    pub(super) fn new(end: ControlEnd<Mail>) -> io::Result<Self> {
        let bell = end.as_fd().try_clone_to_owned()?;
        #[expect(
            deprecated,
            reason = "sound for an owned descriptor, which nobody else can close; \
                      what takes its place is unsafe to call"
        )]
        let bell = AsyncFd::with_interest(bell, tokio::io::Interest::READABLE)?;
        Ok(Self { end, bell })
    }

    /// Announces the sleep: who mails rings from now on. False when there is mail
    /// already. [`Mailbox::finish_wait`] follows in both cases.
    pub(super) fn prepare_wait(&self) -> bool {
        self.end.prepare_wait()
    }

    /// Until somebody rings. Cancel safe.
    pub(super) async fn rung(&self) {
        match self.bell.readable().await {
            // The descriptor itself is emptied by `finish_wait`.
            Ok(mut ready) => ready.clear_ready(),
            // Only a runtime that shuts down says so: the other wakers of the
            // loop are what it goes by then.
            Err(_) => std::future::pending().await,
        }
    }

    pub(super) fn finish_wait(&self) {
        self.end.finish_wait();
    }
}
