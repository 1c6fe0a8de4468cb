//! Real cores with a real disk: wake-ups, turns, the end of a core.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use pinion_commitlog::{
    BLOCK, Background, BlockBuf, DiskDone, DiskError, DiskOutput, DiskRequest, FileId, LogId, OpId,
};
use pinion_reactor::{
    BytesMut, ControlEnd, CoreConfig, CoreError, CoreHandle, CoreStats, DatagramMeta, DiskConfig,
    GroupOptions, Io, Phase, PortId, Pump, SpinPolicy, Stall, bind_group, mesh, run_core,
};
use tempfile::TempDir;

/// Far beyond what a loaded machine needs; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const MIB: u64 = 1 << 20;

#[derive(Debug)]
enum Mail {
    Ask(DiskRequest),
    Answered(OpId, Result<Option<BlockBuf>, DiskError>),
    Stats,
    Counted(Box<CoreStats>, u64),
    /// Answer nothing for this long, in the next answer's place.
    HoldAtNextAnswer(Duration),
    Stalled(Stall),
    Panic,
    Stop,
}

/// Passes requests on to the disk and answers back.
struct Log {
    control: PortId,
    requests: VecDeque<DiskRequest>,
    outbox: VecDeque<Mail>,
    hold: Option<Duration>,
    stats: bool,
    /// At the end of the next turn, when the disk has what it was asked for.
    panic: bool,
    stop: bool,
}

impl Pump for Log {
    type Mail = Mail;

    fn handle_datagram(&mut self, _now: Instant, _meta: DatagramMeta, _data: BytesMut) {}

    fn handle_mail(&mut self, _now: Instant, _from: PortId, mail: Mail) {
        match mail {
            Mail::Ask(request) => self.requests.push_back(request),
            Mail::Stats => self.stats = true,
            Mail::HoldAtNextAnswer(time) => self.hold = Some(time),
            Mail::Panic => self.panic = true,
            Mail::Stop => self.stop = true,
            other => panic!("{other:?} is for the control thread"),
        }
    }

    fn handle_disk(&mut self, _now: Instant, done: DiskDone) {
        if let Some(time) = self.hold.take() {
            let until = Instant::now() + time;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        let data = done.result.map(|output| match output {
            DiskOutput::Data(data) => Some(data),
            DiskOutput::Written(_) | DiskOutput::Done => None,
        });
        self.outbox.push_back(Mail::Answered(done.op, data));
    }

    fn drive(&mut self, _now: Instant, io: &mut Io<'_, Mail>) -> bool {
        assert!(!(self.panic && self.requests.is_empty()), "as told");
        let worked = !self.requests.is_empty() || !self.outbox.is_empty() || self.stats;
        for request in self.requests.drain(..) {
            io.disk(request);
        }
        if std::mem::take(&mut self.stats) {
            let latency = io.disk_latency().unwrap();
            let counted = Mail::Counted(Box::new(io.stats()), latency.len());
            self.outbox.push_back(counted);
        }
        while let Some(mail) = self.outbox.pop_front() {
            io.try_mail(self.control, mail).unwrap();
        }
        worked
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn finished(&self) -> bool {
        self.stop
    }

    fn handle_stall(&mut self, stall: Stall) {
        self.outbox.push_back(Mail::Stalled(stall));
    }
}

struct Node {
    control: ControlEnd<Mail>,
    core: CoreHandle,
    place: TempDir,
    asked: u64,
}

fn run(dir: &Path, spin: SpinPolicy) -> io::Result<(ControlEnd<Mail>, CoreHandle)> {
    let options = GroupOptions::default();
    let group = bind_group("127.0.0.1:0".parse().unwrap(), 1, None, options).unwrap();
    let (mut ends, control) = mesh(1, 4096).unwrap();
    let config = CoreConfig {
        spin,
        // A lost wake-up shall stand still.
        heartbeat: None,
        disk: Some(DiskConfig {
            dir: dir.to_owned(),
        }),
        // What the disk does must not wait for it.
        reactor_pass_every: PATIENCE,
        ..CoreConfig::new(0)
    };
    let end = ends.remove(0);
    let to = end.control_port();
    let core = run_core(config, group.socket(0).unwrap(), end, move || Log {
        control: to,
        requests: VecDeque::new(),
        outbox: VecDeque::new(),
        hold: None,
        stats: false,
        panic: false,
        stop: false,
    })?;
    Ok((control, core))
}

fn start(spin: SpinPolicy) -> Node {
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let (control, core) = run(place.path(), spin).unwrap();
    Node {
        control,
        core,
        place,
        asked: 0,
    }
}

fn segment(number: u64) -> FileId {
    let log = LogId(0);
    FileId::Segment { log, number }
}

fn filled(len: usize, with: u8) -> BlockBuf {
    let mut data = BlockBuf::zeroed(len);
    data.as_mut_slice().fill(with);
    data
}

impl Node {
    fn op(&mut self) -> OpId {
        self.asked += 1;
        OpId(self.asked)
    }

    fn tell(&mut self, mail: Mail) {
        self.control.try_send(PortId(0), mail).unwrap();
    }

    fn create(&mut self, file: FileId, len: u64) {
        let op = self.op();
        self.tell(Mail::Ask(DiskRequest::Create {
            op,
            file,
            len,
            background: Background::Written,
        }));
    }

    fn write(&mut self, file: FileId, offset: u64, data: BlockBuf) {
        let op = self.op();
        self.tell(Mail::Ask(DiskRequest::Write {
            op,
            file,
            offset,
            data,
        }));
    }

    fn read(&mut self, file: FileId, offset: u64, len: u32) {
        let op = self.op();
        self.tell(Mail::Ask(DiskRequest::Read {
            op,
            file,
            offset,
            len,
        }));
    }

    /// The next mail that is not about a stall: on a loaded machine any turn may
    /// be one.
    fn hear(&mut self) -> Mail {
        loop {
            let mail = self.control.recv_timeout(PATIENCE);
            let (_, mail) = mail.expect("the core is silent: a lost wake-up");
            if !matches!(mail, Mail::Stalled(_)) {
                return mail;
            }
        }
    }

    fn answer(&mut self) -> (OpId, Option<BlockBuf>) {
        match self.hear() {
            Mail::Answered(op, result) => (op, result.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn stats(&mut self) -> (CoreStats, u64) {
        self.tell(Mail::Stats);
        match self.hear() {
            Mail::Counted(stats, latencies) => (*stats, latencies),
            other => panic!("{other:?}"),
        }
    }

    fn stop(mut self) -> TempDir {
        self.tell(Mail::Stop);
        self.core.join().unwrap();
        self.place
    }
}

/// Pauses of no length up to `longest`, in an order that is always the same.
fn gaps(longest: Duration) -> impl FnMut() {
    let mut state = 0x9e37_79b9_u32;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let until = Instant::now() + longest * (state % 1024) / 1024;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn no_wake_up_is_lost_when_writes_finish_as_the_core_falls_asleep() {
    const WRITES: u64 = 2000;
    const TOLD_MAX: u64 = 5;
    for (budget, parks_min) in [(0, WRITES), (50, WRITES / 10)] {
        let mut node = start(SpinPolicy::up_to(Duration::from_micros(budget)));
        node.create(segment(1), 4 * MIB);
        node.answer();
        let mut pause = gaps(Duration::from_micros(100));
        // A machine that does something else meanwhile lets the core sleep less often, and then
        // the story has to be told again until it slept often enough.
        let mut parks = 0;
        for told in 1..=TOLD_MAX {
            for turn in 0..WRITES {
                let offset = turn % 1024 * BLOCK as u64;
                node.write(segment(1), offset, filled(BLOCK, 1));
                assert_eq!(node.answer().0, OpId(node.asked));
                pause();
            }
            let (stats, latencies) = node.stats();
            assert_eq!(
                (stats.disk_writes, latencies),
                (told * WRITES, told * WRITES)
            );
            assert_eq!(stats.disk_written_bytes, told * WRITES * BLOCK as u64);
            assert!(stats.disk_write_time >= stats.disk_write_time_max);
            assert!(stats.disk_write_time_max > Duration::ZERO);
            assert_eq!(stats.disk_errors, 0);
            parks = stats.parks;
            if parks >= parks_min {
                break;
            }
        }
        assert!(parks >= parks_min, "{parks} parks");
        node.stop();
    }
}

#[test]
fn reads_writes_and_a_new_file_go_on_beside_each_other() {
    let mut node = start(SpinPolicy::SHARED);
    let (old, new) = (segment(1), segment(2));
    node.create(old, 4 * MIB);
    node.answer();
    for block in 0..64 {
        let with = u8::try_from(block).unwrap();
        node.write(old, block * BLOCK as u64, filled(BLOCK, with));
    }
    for _ in 0..64 {
        node.answer();
    }
    node.create(new, 32 * MIB);
    let create = OpId(node.asked);
    let first_read = node.asked + 1;
    for block in 0..64 {
        node.read(old, block * BLOCK as u64, 4096);
    }
    let mut created = false;
    let mut reads = 0;
    let mut writes_before = 0;
    node.write(old, 2 * MIB, filled(BLOCK, 1));
    let mut write = OpId(node.asked);
    while !created || reads < 64 {
        let (op, data) = node.answer();
        created |= op == create;
        if op == write {
            writes_before += u32::from(!created);
            node.write(old, 2 * MIB, filled(BLOCK, 1));
            write = OpId(node.asked);
        }
        if let Some(data) = data {
            let block = u8::try_from(op.0 - first_read).unwrap();
            assert_eq!(data.as_slice(), [block; BLOCK]);
            reads += 1;
        }
    }
    // One after the other, while thirty-two pieces of zeros went before them.
    assert!(writes_before >= 4, "{writes_before} writes");
    assert_eq!(node.answer().0, write);
    let place = node.stop();
    let made = fs::metadata(place.path().join(new.path())).unwrap();
    assert_eq!(made.len(), 32 * MIB);
}

#[test]
fn a_turn_that_takes_long_over_an_answer_is_a_stall_of_the_disk_phase() {
    let mut node = start(SpinPolicy::OFF);
    node.tell(Mail::HoldAtNextAnswer(Duration::from_millis(50)));
    node.create(segment(1), 0);
    loop {
        match node.control.recv_timeout(PATIENCE).expect("silent").1 {
            Mail::Stalled(stall) if stall.phase == Phase::Disk => {
                assert!(stall.phase_duration >= Duration::from_millis(50));
                break;
            }
            Mail::Stalled(_) | Mail::Answered(..) => {}
            other => panic!("{other:?}"),
        }
    }
    node.stop();
}

#[test]
fn a_core_that_panics_waits_for_the_writes_in_flight() {
    let mut node = start(SpinPolicy::SHARED);
    let len = MIB;
    for number in 1..=8 {
        node.create(segment(number), len);
    }
    for _ in 0..8 {
        node.answer();
    }
    for number in 1..=8 {
        let data = filled(usize::try_from(len).unwrap(), 7);
        node.write(segment(number), 0, data);
    }
    node.tell(Mail::Panic);
    let Node { core, place, .. } = node;
    let error = core.join().unwrap_err();
    assert!(matches!(error, CoreError::Panicked { .. }), "{error}");
    for number in 1..=8 {
        let path = place.path().join(segment(number).path());
        let found = fs::read(path).unwrap();
        // Written as a whole, or not begun.
        let whole = found.iter().all(|byte| *byte == found[0]);
        assert!(whole, "segment {number} is half written");
    }
}

#[test]
fn a_core_stops_in_the_middle_of_making_a_file() {
    let mut node = start(SpinPolicy::SHARED);
    node.create(segment(1), 512 * MIB);
    let place = node.stop();
    let made = fs::metadata(place.path().join(segment(1).path()));
    let len = made.map_or(0, |made| made.len());
    assert!(len < 512 * MIB, "it was not waited for");
}

#[test]
fn a_data_directory_that_is_not_there_refuses_the_start() {
    let gone = env::temp_dir().join("no-such-directory");
    let error = run(&gone, SpinPolicy::OFF).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains("opening the data directory"), "{text}");
}
