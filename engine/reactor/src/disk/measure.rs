//! How long a durable write takes on this machine, for the doctor.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pinion_commitlog::{BLOCK, BlockBuf};
use rustix::event::{EventfdFlags, eventfd};

use super::probe::with_probe_file;
use super::ring::{Action, DiskRing, Gain};

/// A disk that needs longer for the writes is judged by those it has done.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nanoseconds of up to `writes` durable writes of one block each, over zeros in
/// a file of `dir`, one after the other, as a log makes them. `direct` as
/// [`takes_direct`](super::takes_direct) said.
///
/// # Errors
/// When a file or a ring cannot be made, or a write fails.
pub(crate) fn write_latency(dir: &Path, direct: bool, writes: u16) -> io::Result<Histogram<u64>> {
    let flags = if direct { libc::O_DIRECT } else { 0 };
    with_probe_file(dir, flags, |file| {
        let zeros = BlockBuf::zeroed(usize::from(writes) * BLOCK);
        file.write_all_at(zeros.as_slice(), 0)?;
        file.sync_all()?;
        let file = Rc::new(file.try_clone()?.into());
        // Nobody listens to it: the ring is waited for.
        let bell = eventfd(0, EventfdFlags::CLOEXEC)?;
        let mut ring = DiskRing::new(bell.as_fd())?;
        let mut data = BlockBuf::zeroed(BLOCK);
        let mut times = Histogram::new(2).expect("two digits are a valid precision");
        let begin = Instant::now();
        for write in 0..writes {
            let start = Instant::now();
            let action = Action::Write {
                file: Rc::clone(&file),
                offset: u64::from(write) * BLOCK as u64,
                data,
                from: 0,
            };
            ring.start(0, action);
            let finished = loop {
                ring.wait()?;
                if let Some(finished) = ring.take() {
                    break finished;
                }
            };
            match (finished.result, finished.action) {
                (Ok(Gain::Count(BLOCK)), Action::Write { data: back, .. }) => data = back,
                (Err(errno), _) => return Err(io::Error::from_raw_os_error(errno)),
                _ => return Err(io::ErrorKind::WriteZero.into()),
            }
            let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            // It grows as needed and takes any number.
            let _ = times.record(nanos);
            if begin.elapsed() > PATIENCE {
                break;
            }
        }
        Ok(times)
    })
}
