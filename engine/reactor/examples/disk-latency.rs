//! What a durable write of 4 KiB takes, by the ways a core could do it. Behind
//! `docs/decisions/0010-disk-ring.md`.
//!
//! `cargo run --release --example disk-latency -- <directory> [writes]`
//!
//! Each way writes block after block of a file full of zeros. "idle" has a
//! silent socket, "busy" one that another thread sends to without pause. The
//! loops look like a core's: receive what is there, look for completions.
#![allow(clippy::unwrap_used)]

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};
use hdrhistogram::Histogram;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use pinion_commitlog::{
    BLOCK, Background, BlockBuf, DiskDone, DiskOutput, DiskRequest, FileId, LogId, OpId,
};
use pinion_reactor::{
    BytesMut, CoreConfig, DatagramMeta, DiskConfig, GroupOptions, Io, PortId, Pump, SpinPolicy,
    Stall, bind_group, mesh, run_core,
};

const WRITES: u64 = 3000;

/// Blocks of the file; more writes begin anew.
const BLOCKS: u64 = 1024;

const WRITE: u64 = 1;
const READABLE: u64 = 2;

struct Way {
    name: &'static str,
    /// The poll of the socket is in the ring of the writes.
    shared: bool,
    /// Sleep in a read of the eventfd instead of looking.
    parked: bool,
    /// Offer the CPU to others after every look.
    yields: bool,
    /// CPU of the ring's workers; `None` leaves them to the scheduler.
    workers: Option<usize>,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("a directory on the disk to measure"));
    let writes = args.next().map_or(WRITES, |count| count.parse().unwrap());
    let path = dir.join("disk-latency.tmp");
    let zeros = BlockBuf::zeroed(usize::try_from(BLOCKS).unwrap() * BLOCK);
    let file = File::create(&path).unwrap();
    file.write_all_at(zeros.as_slice(), 0).unwrap();
    file.sync_all().unwrap();
    println!("{writes} writes of 4 KiB      p50     p99   p99.9     max µs   enters/write");
    for busy in [false, true] {
        let load = if busy { "busy" } else { "idle" };
        let noise = Noise::start(busy);
        for way in [
            Way::new("own ring"),
            Way {
                shared: true,
                ..Way::new("shared ring")
            },
            Way {
                yields: true,
                ..Way::new("own ring, yielding")
            },
            Way {
                parked: true,
                ..Way::new("own ring, parked")
            },
            Way {
                workers: Some(0),
                ..Way::new("own ring, workers pinned")
            },
        ] {
            let (times, enters) = ring(&path, &noise.socket, &way, writes).unwrap();
            report(load, way.name, &times, Some(enters));
        }
        for (name, yield_every) in [
            ("a core", Duration::from_millis(1)),
            ("a core that never yields", Duration::MAX),
        ] {
            let times = core(&dir, busy, yield_every, writes);
            report(load, name, &times, None);
        }
        if !busy {
            report(
                load,
                "glommio DmaFile + fdatasync",
                &glommio(&path, writes),
                None,
            );
        }
    }
    std::fs::remove_file(&path).unwrap();
}

impl Way {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            shared: false,
            parked: false,
            yields: false,
            workers: None,
        }
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap()
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).unwrap()
}

fn report(load: &str, name: &str, times: &Histogram<u64>, enters: Option<f64>) {
    let micros = |quantile| times.value_at_quantile(quantile) / 1000;
    println!(
        "{load} {name:<28} {:>7} {:>7} {:>7} {:>7}   {}",
        micros(0.5),
        micros(0.99),
        micros(0.999),
        times.max() / 1000,
        enters.map_or(String::new(), |enters| format!("{enters:.2}")),
    );
}

fn ring(
    path: &Path,
    socket: &UdpSocket,
    way: &Way,
    writes: u64,
) -> io::Result<(Histogram<u64>, f64)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(64)?;
    let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty())?;
    ring.submitter().register_eventfd(bell.as_raw_fd())?;
    if !way.parked {
        ring.completion().disable_eventfd();
    }
    let everywhere = rustix::thread::sched_getaffinity(None)?;
    if let Some(cpu) = way.workers {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
        // SAFETY: a set of CPUs is plain bits.
        let mask: libc::cpu_set_t = unsafe { std::mem::transmute(set) };
        ring.submitter().register_iowq_aff(&mask)?;
    }
    if way.shared {
        let poll = opcode::PollAdd::new(Fd(socket.as_raw_fd()), 1)
            .multi(true)
            .build()
            .user_data(READABLE);
        // SAFETY: no pointers; the socket outlives the ring.
        unsafe { ring.submission().push(&poll) }.unwrap();
    }
    let data = BlockBuf::zeroed(BLOCK);
    let mut datagram = [0; 2048];
    let mut times = histogram();
    let mut enters = 0_u32;
    for write in 0..writes {
        let start = Instant::now();
        let entry = opcode::Write::new(Fd(file.as_raw_fd()), data.as_slice().as_ptr(), 4096)
            .offset(write % BLOCKS * BLOCK as u64)
            .rw_flags(libc::RWF_DSYNC)
            .build()
            .user_data(WRITE);
        // SAFETY: the file and the data outlive the loop below, which waits for
        // the completion.
        unsafe { ring.submission().push(&entry) }.unwrap();
        ring.submit()?;
        enters += 1;
        let mut written = false;
        while !written {
            if way.parked {
                rustix::io::read(&bell, &mut [0; 8])?;
            }
            while socket.recv(&mut datagram).is_ok() {}
            if way.yields {
                thread::yield_now();
            }
            if ring.submission().taskrun() {
                ring.submit()?;
                enters += 1;
            }
            for completion in ring.completion() {
                if completion.user_data() == WRITE {
                    assert_eq!(completion.result(), 4096);
                    written = true;
                }
            }
        }
        times.record(nanos(start)).unwrap();
        // A little later than a turn, as groups are.
        let until = Instant::now() + Duration::from_micros(20);
        while Instant::now() < until {
            while socket.recv(&mut datagram).is_ok() {}
        }
    }
    rustix::thread::sched_setaffinity(None, &everywhere)?;
    #[allow(clippy::cast_precision_loss)]
    Ok((times, f64::from(enters) / writes as f64))
}

fn glommio(path: &Path, writes: u64) -> Histogram<u64> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 << 10)
        .make()
        .unwrap();
    executor.run(async {
        let file = glommio::io::OpenOptions::new()
            .write(true)
            .dma_open(path)
            .await
            .unwrap();
        let mut times = histogram();
        for write in 0..writes {
            let start = Instant::now();
            let data = file.alloc_dma_buffer(BLOCK);
            let offset = write % BLOCKS * BLOCK as u64;
            file.write_at(data, offset).await.unwrap();
            file.fdatasync().await.unwrap();
            times.record(nanos(start)).unwrap();
        }
        file.close().await.unwrap();
        times
    })
}

/// Writes one block after the other and counts what it hears.
struct Log {
    left: u64,
    writes: u64,
    data: Option<BlockBuf>,
    finished: bool,
    times: SyncSender<Histogram<u64>>,
}

const FILE: FileId = FileId::Segment {
    log: LogId(0),
    number: 1,
};

impl Pump for Log {
    type Mail = ();

    fn handle_datagram(&mut self, _now: Instant, _meta: DatagramMeta, _data: BytesMut) {}

    fn handle_mail(&mut self, _now: Instant, _from: PortId, _mail: ()) {}

    fn handle_disk(&mut self, _now: Instant, done: DiskDone) {
        self.data = match done.result.unwrap() {
            DiskOutput::Written(data) => Some(data),
            _ => Some(BlockBuf::zeroed(BLOCK)),
        };
    }

    fn drive(&mut self, _now: Instant, io: &mut Io<'_, ()>) -> bool {
        let op = OpId(self.left);
        if self.left == self.writes + 1 {
            let len = BLOCKS * BLOCK as u64;
            io.disk(DiskRequest::Create {
                op,
                file: FILE,
                len,
                background: Background::Written,
            });
        } else if let Some(data) = self.data.take() {
            if self.left == 0 {
                self.finished = true;
                self.times.send(io.disk_latency().unwrap().clone()).unwrap();
                return true;
            }
            io.disk(DiskRequest::Write {
                op,
                file: FILE,
                offset: self.left % BLOCKS * BLOCK as u64,
                data,
            });
        } else {
            return false;
        }
        self.left = self.left.saturating_sub(1);
        true
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn finished(&self) -> bool {
        self.finished
    }

    fn handle_stall(&mut self, _stall: Stall) {}
}

/// A real core.
fn core(dir: &Path, busy: bool, yield_every: Duration, writes: u64) -> Histogram<u64> {
    let dir = &dir.join("disk-latency.dir");
    // Left by a measurement that was broken off.
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir(dir).unwrap();
    let options = GroupOptions::default();
    let group = bind_group("127.0.0.1:0".parse().unwrap(), 1, None, options).unwrap();
    let noise = Noise::to(group.local_addr, busy);
    let (mut ends, _control) = mesh(1, 16).unwrap();
    let (times, measured) = sync_channel(1);
    let config = CoreConfig {
        yield_every,
        spin: SpinPolicy::DEDICATED,
        disk: Some(DiskConfig {
            dir: dir.to_owned(),
        }),
        ..CoreConfig::new(0)
    };
    let core = run_core(
        config,
        group.socket(0).unwrap(),
        ends.remove(0),
        move || Log {
            left: writes + 1,
            writes,
            data: None,
            finished: false,
            times,
        },
    );
    let times = measured.recv().unwrap();
    core.unwrap().join().unwrap();
    drop(noise);
    std::fs::remove_dir_all(dir).unwrap();
    times
}

/// A socket, and a thread that may send to it.
struct Noise {
    socket: UdpSocket,
    stop: Arc<AtomicBool>,
    sender: Option<thread::JoinHandle<()>>,
}

impl Noise {
    fn start(busy: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let to = socket.local_addr().unwrap();
        let mut noise = Self::to(to, busy);
        noise.socket = socket;
        noise
    }

    /// For a socket elsewhere.
    fn to(to: SocketAddr, busy: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = busy.then(|| {
            thread::spawn(move || {
                let from = UdpSocket::bind("127.0.0.1:0").unwrap();
                while !stopped.load(Ordering::Relaxed) {
                    let _ = from.send_to(&[0; 1200], to);
                }
            })
        });
        Self {
            socket,
            stop,
            sender,
        }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            sender.join().unwrap();
        }
    }
}
