//! A progress bar for work that takes a while.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Work shorter than this shows no bar.
const AFTER: Duration = Duration::from_millis(500);

/// A bar on standard error once the work has lasted a moment; none when that
/// is no terminal or nobody knows how much there is. Gone when dropped.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    total: Option<u64>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of `total` bytes.
    #[must_use]
    pub fn of_bytes(total: Option<u64>) -> Self {
        Self {
            started: Instant::now(),
            total: total.filter(|_| io::stderr().is_terminal()),
            bar: None,
        }
    }

    /// `bytes` of them are done.
    pub fn set(&mut self, bytes: u64) {
        let Some(total) = self.total else { return };
        if self.bar.is_none() && self.started.elapsed() > AFTER {
            let bar = ProgressBar::new(total);
            let style = ProgressStyle::with_template(
                "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            );
            bar.set_style(style.expect("a constant template"));
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(bytes.min(total));
        }
    }

    /// Does `print` while the bar is out of the way.
    pub fn suspend(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
