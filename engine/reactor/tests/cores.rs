//! Real cores on real sockets: echo, mail between cores, steering, deadlines,
//! stalls, panics, and what an idle core costs.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, VecDeque};
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use pinion_reactor::{
    BytesMut, ControlEnd, CoreConfig, CoreError, CoreHandle, CoreStats, DatagramMeta, Full,
    GroupOptions, Io, MeshEnd, Phase, PortId, Pump, SendOutcome, SpinPolicy, Stall, Steering,
    Transmit, UdpGroup, bind_group, mesh, run_core,
};

/// Far beyond what a loaded machine needs; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const KEYS: Steering = Steering {
    k0: 0x5eed_0001,
    k1: 0x9e37_79b9,
};

#[derive(Debug)]
enum Mail {
    /// Visit these ports in order, then report to the control thread.
    Hop(VecDeque<PortId>),
    /// The trip is over.
    Arrived,
    /// What the core counted.
    Report(Box<CoreStats>),
    AskReport,
    Stall(Stall),
    TimerFired(Duration),
    /// Fire a timer after this long.
    Timer(Duration),
    /// Hold the core for this long.
    Hold(Duration),
    Panic,
    Stop,
}

/// Answers each datagram with its core's number and the payload.
struct Echo {
    port: PortId,
    control: PortId,
    replies: VecDeque<(DatagramMeta, Vec<u8>)>,
    outbox: VecDeque<(PortId, Mail)>,
    timer: Option<(Instant, Instant)>,
    hold: Option<Duration>,
    stop: bool,
    turns: Option<Sender<()>>,
}

impl Echo {
    fn new(port: PortId, control: PortId) -> Self {
        Self {
            port,
            control,
            replies: VecDeque::new(),
            outbox: VecDeque::new(),
            timer: None,
            hold: None,
            stop: false,
            turns: None,
        }
    }
}

impl Pump for Echo {
    type Mail = Mail;

    fn handle_datagram(&mut self, _now: Instant, meta: DatagramMeta, data: BytesMut) {
        let mut reply = vec![u8::try_from(self.port.0).unwrap()];
        reply.extend_from_slice(&data);
        self.replies.push_back((meta, reply));
    }

    fn handle_mail(&mut self, now: Instant, _from: PortId, mail: Mail) {
        match mail {
            Mail::Hop(mut route) => {
                let next = route.pop_front();
                self.outbox.push_back(match next {
                    Some(port) => (port, Mail::Hop(route)),
                    None => (self.control, Mail::Arrived),
                });
            }
            Mail::AskReport => self.outbox.push_back((self.control, Mail::AskReport)),
            Mail::Timer(after) => self.timer = Some((now, now + after)),
            Mail::Hold(time) => self.hold = Some(time),
            Mail::Panic => panic!("as told"),
            Mail::Stop => self.stop = true,
            other => panic!("{other:?} is for the control thread"),
        }
    }

    fn drive(&mut self, now: Instant, io: &mut Io<'_, Mail>) -> bool {
        if let Some(turns) = &self.turns {
            let _ = turns.send(());
        }
        let mut worked = false;
        if let Some((armed, due)) = self.timer
            && due <= now
        {
            self.timer = None;
            self.outbox
                .push_back((self.control, Mail::TimerFired(now - armed)));
        }
        if let Some(time) = self.hold.take() {
            let until = Instant::now() + time;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            worked = true;
        }
        while let Some((meta, reply)) = self.replies.front() {
            let transmit = Transmit {
                destination: meta.remote,
                source_ip: meta.local_ip,
                ecn: None,
                contents: reply,
                segment_size: None,
            };
            match io.send(&transmit) {
                SendOutcome::WouldBlock => break,
                SendOutcome::Sent => {}
                SendOutcome::Failed(kind) => panic!("loopback refused a datagram: {kind}"),
            }
            self.replies.pop_front();
            worked = true;
        }
        while let Some((to, mail)) = self.outbox.pop_front() {
            let mail = match mail {
                Mail::AskReport => Mail::Report(Box::new(io.stats())),
                other => other,
            };
            if let Err(Full(mail)) = io.try_mail(to, mail) {
                self.outbox.push_front((to, mail));
                break;
            }
            worked = true;
        }
        worked
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.timer.map(|(_, due)| due)
    }

    fn finished(&self) -> bool {
        self.stop
    }

    fn handle_stall(&mut self, stall: Stall) {
        self.outbox.push_back((self.control, Mail::Stall(stall)));
    }
}

/// The next mail to the control thread that is not about a stall: on a loaded
/// machine any turn may be one.
fn hear(control: &mut ControlEnd<Mail>) -> Mail {
    loop {
        let (_, mail) = control.recv_timeout(PATIENCE).expect("the node is silent");
        if !matches!(mail, Mail::Stall(_)) {
            return mail;
        }
    }
}

struct Node {
    group: UdpGroup,
    control: ControlEnd<Mail>,
    cores: Vec<CoreHandle>,
}

fn start(count: usize, spin: SpinPolicy, options: GroupOptions) -> Node {
    start_with(count, options, &|index| CoreConfig {
        spin,
        ..CoreConfig::new(index)
    })
}

fn start_with(count: usize, options: GroupOptions, config: &dyn Fn(usize) -> CoreConfig) -> Node {
    let group = bind_group("127.0.0.1:0".parse().unwrap(), count, Some(&KEYS), options).unwrap();
    let (ends, control) = mesh(count, 64).unwrap();
    let cores = ends
        .into_iter()
        .enumerate()
        .map(|(index, end)| start_configured(config(index), &group, end, |echo| echo));
    Node {
        cores: cores.collect(),
        group,
        control,
    }
}

fn start_core(
    index: usize,
    group: &UdpGroup,
    end: MeshEnd<Mail>,
    spin: SpinPolicy,
    adjust: impl FnOnce(Echo) -> Echo + Send + 'static,
) -> CoreHandle {
    let config = CoreConfig {
        spin,
        ..CoreConfig::new(index)
    };
    start_configured(config, group, end, adjust)
}

fn start_configured(
    config: CoreConfig,
    group: &UdpGroup,
    end: MeshEnd<Mail>,
    adjust: impl FnOnce(Echo) -> Echo + Send + 'static,
) -> CoreHandle {
    let index = config.index;
    let (port, control) = (end.port(), end.control_port());
    let make = move || adjust(Echo::new(port, control));
    run_core(config, group.socket(index).unwrap(), end, make).unwrap()
}

impl Node {
    fn tell(&mut self, core: u16, mail: Mail) {
        self.control.try_send(PortId(core), mail).unwrap();
    }

    fn hear(&mut self) -> Mail {
        hear(&mut self.control)
    }

    fn stop(mut self) {
        for core in 0..self.cores.len() {
            self.tell(u16::try_from(core).unwrap(), Mail::Stop);
        }
        for core in self.cores {
            core.join().unwrap();
        }
    }
}

fn client(node: &Node) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(node.group.local_addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // The answers to a burst must find room here while nobody reads yet.
    let socket = SockRef::from(&client);
    socket.set_recv_buffer_size(4 << 20).unwrap();
    client
}

/// Sends `payload` and returns the core that answered and what it said.
fn ask(client: &UdpSocket, payload: &[u8]) -> (u8, Vec<u8>) {
    client.send(payload).unwrap();
    let mut buffer = [0; 2048];
    let len = client.recv(&mut buffer).expect("an answer");
    (buffer[0], buffer[1..len].to_vec())
}

/// A short-header packet whose connection id starts with `word`.
fn short_header(word: u32) -> Vec<u8> {
    let mut payload = vec![0x40];
    payload.extend_from_slice(&word.to_be_bytes());
    payload
}

#[test]
fn a_plain_client_gets_its_datagrams_back_whether_the_core_spins_or_parks() {
    for spin in [SpinPolicy::OFF, SpinPolicy::DEDICATED] {
        let node = start(1, spin, GroupOptions::default());
        let client = client(&node);
        for i in 0..2000_u32 {
            let payload = i.to_le_bytes();
            assert_eq!(ask(&client, &payload), (0, payload.to_vec()));
        }
        node.stop();
    }
}

#[test]
fn a_burst_larger_than_a_turn_is_answered_to_the_last_datagram() {
    let node = start(1, SpinPolicy::SHARED, GroupOptions::default());
    let client = client(&node);
    for _ in 0..5 {
        (0..600_u32).for_each(|i| assert_eq!(client.send(&i.to_le_bytes()).unwrap(), 4));
        let mut buffer = [0; 16];
        let mut left: std::collections::HashSet<u32> = (0..600).collect();
        for _ in 0..600 {
            assert_eq!(client.recv(&mut buffer).expect("an answer"), 5);
            assert!(left.remove(&u32::from_le_bytes(buffer[1..5].try_into().unwrap())));
        }
    }
    node.stop();
}

#[test]
fn a_datagram_lands_on_the_core_which_its_connection_id_names() {
    let node = start(2, SpinPolicy::SHARED, GroupOptions::default());
    assert!(node.group.steered);
    let client = client(&node);
    let mut answered: HashMap<u8, usize> = HashMap::new();
    for i in 0..100_u32 {
        let word = i.wrapping_mul(0x85eb_ca6b);
        let (core, _) = ask(&client, &short_header(word));
        assert_eq!(u32::from(core), KEYS.core_of(word, 2), "word {word:#x}");
        *answered.entry(core).or_default() += 1;
    }
    assert!(answered[&0] > 20 && answered[&1] > 20, "{answered:?}");
    node.stop();
}

#[test]
fn without_steering_a_client_stays_on_one_core_whatever_it_writes() {
    let options = GroupOptions {
        attach_steering: false,
        ..GroupOptions::default()
    };
    let node = start(2, SpinPolicy::SHARED, options);
    assert!(!node.group.steered);
    let client = client(&node);
    let cores: std::collections::HashSet<u8> = (0..50_u32)
        .map(|i| ask(&client, &short_header(i.wrapping_mul(0x85eb_ca6b))).0)
        .collect();
    assert_eq!(cores.len(), 1, "the kernel hashes the addresses");
    node.stop();
}

#[test]
fn mail_travels_between_cores_that_park_after_every_turn() {
    let mut node = start(2, SpinPolicy::OFF, GroupOptions::default());
    // A lost wake-up leaves the trip standing between two sleepers.
    let route: VecDeque<PortId> = (0..5000).map(|hop| PortId((hop + 1) % 2)).collect();
    node.tell(0, Mail::Hop(route));
    assert!(matches!(node.hear(), Mail::Arrived));
    node.stop();
}

/// Gaps of up to `max`, no two in a row alike, the same in every run.
fn gaps(max: Duration) -> impl FnMut() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let gap = max.mul_f64((state >> 40) as f64 / (1_u64 << 24) as f64);
        let until = Instant::now() + gap;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn no_wake_up_is_lost_when_datagrams_and_mail_come_as_cores_fall_asleep() {
    // The gaps are as long as it takes a core to fall asleep, so the next event
    // meets every step of it. Without a heartbeat, a lost wake-up stands still.
    const ROUNDS: u32 = 4000;
    const TOLD_MAX: u32 = 5;
    for (budget, pass_us, parks_min, naps_min) in
        [(0, 50, 6000, 0), (50, 50, 500, 0), (0, 1000, 6000, 3000)]
    {
        let mut node = start_with(2, GroupOptions::default(), &|index| CoreConfig {
            spin: SpinPolicy::up_to(Duration::from_micros(budget)),
            reactor_pass_every: Duration::from_micros(pass_us),
            heartbeat: None,
            ..CoreConfig::new(index)
        });
        let client = client(&node);
        let mut pause = gaps(Duration::from_micros(60));
        let mut story = || {
            for i in 0..ROUNDS {
                let word = i.wrapping_mul(0x85eb_ca6b);
                ask(&client, &short_header(word));
                pause();
                if i % 4 == 0 {
                    // A trip of mail, and a datagram on its way at the same time.
                    client.send(&short_header(!word)).unwrap();
                    pause();
                    node.tell(0, Mail::Hop([PortId(1), PortId(0)].into()));
                    assert!(matches!(node.hear(), Mail::Arrived));
                    pause();
                    let answer = client.recv(&mut [0; 16]);
                    answer.expect("a lost wake-up");
                }
            }
            let (mut parks, mut naps) = (0, 0);
            for core in 0..2 {
                node.tell(core, Mail::AskReport);
                match node.hear() {
                    Mail::Report(stats) => {
                        parks += stats.parks;
                        naps += stats.naps;
                    }
                    other => panic!("{other:?}"),
                }
            }
            (parks, naps)
        };
        // A machine that does something else meanwhile lets cores sleep less often, and then
        // the story has to be told again until they slept often enough.
        let mut told = (0, 0);
        for _ in 0..TOLD_MAX {
            told = story();
            if told.0 >= parks_min && told.1 >= naps_min {
                break;
            }
        }
        let (parks, naps) = told;
        assert!(parks >= parks_min, "{parks} parks, budget {budget} µs");
        assert!(naps >= naps_min, "{naps} naps of {parks}");
        node.stop();
    }
}

#[test]
fn mail_wakes_a_core_while_datagrams_do_too() {
    let mut node = start(2, SpinPolicy::SHARED, GroupOptions::default());
    let client = client(&node);
    for i in 0..500_u32 {
        node.tell(0, Mail::Hop([PortId(1), PortId(0), PortId(1)].into()));
        ask(&client, &short_header(i.wrapping_mul(0x85eb_ca6b)));
        assert!(matches!(node.hear(), Mail::Arrived));
    }
    node.stop();
}

#[test]
fn a_deadline_wakes_a_parked_core_and_never_early() {
    let mut node = start(1, SpinPolicy::OFF, GroupOptions::default());
    for micros in [0, 50, 1500, 5000] {
        let after = Duration::from_micros(micros);
        node.tell(0, Mail::Timer(after));
        let Mail::TimerFired(took) = node.hear() else {
            panic!("a timer was asked for")
        };
        assert!(took >= after, "{took:?} of {after:?}");
    }
    node.stop();
}

#[test]
fn a_nearer_deadline_overtakes_a_far_one() {
    let mut node = start(1, SpinPolicy::OFF, GroupOptions::default());
    node.tell(0, Mail::Timer(PATIENCE * 10));
    node.tell(0, Mail::AskReport);
    assert!(matches!(node.hear(), Mail::Report(_)));
    node.tell(0, Mail::Timer(Duration::from_millis(2)));
    assert!(matches!(node.hear(), Mail::TimerFired(_)));
    node.stop();
}

#[test]
fn a_turn_that_takes_too_long_is_reported_with_its_phase() {
    let mut node = start(1, SpinPolicy::SHARED, GroupOptions::default());
    node.tell(0, Mail::Hold(Duration::from_millis(50)));
    // A loaded machine may cause stalls of its own; ours is the 50 ms one.
    let stall = loop {
        let (_, mail) = node.control.recv_timeout(PATIENCE).unwrap();
        match mail {
            Mail::Stall(stall) if stall.duration >= Duration::from_millis(50) => break stall,
            Mail::Stall(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(stall.phase, Phase::Drive);
    assert!(stall.phase_duration <= stall.duration);
    node.stop();
}

#[test]
fn a_panic_ends_its_core_with_its_message_and_the_others_go_on() {
    let mut node = start(2, SpinPolicy::SHARED, GroupOptions::default());
    let client = client(&node);
    node.tell(0, Mail::Panic);
    let dead = node.cores.remove(0);
    match dead.join() {
        Err(CoreError::Panicked { index: 0, message }) => assert_eq!(message, "as told"),
        other => panic!("{other:?}"),
    }
    assert!(node.control.is_gone(PortId(0)));
    // The group still holds the dead core's socket, so core 1 keeps its place.
    let word = (0_u32..)
        .map(|i| i.wrapping_mul(0x85eb_ca6b))
        .find(|word| KEYS.core_of(*word, 2) == 1);
    assert_eq!(ask(&client, &short_header(word.unwrap())).0, 1);
    node.tell(1, Mail::Stop);
    node.cores.remove(0).join().unwrap();
}

#[test]
fn a_panic_during_construction_is_contained() {
    let group = bind_group(
        "127.0.0.1:0".parse().unwrap(),
        1,
        None,
        GroupOptions::default(),
    )
    .unwrap();
    let (mut ends, _control) = mesh::<Mail>(1, 4).unwrap();
    let core = start_core(0, &group, ends.remove(0), SpinPolicy::OFF, |_| {
        panic!("no such state")
    });
    assert!(
        matches!(core.join(), Err(CoreError::Panicked { message, .. }) if message == "no such state")
    );
}

#[test]
fn a_core_that_cannot_be_pinned_is_refused_at_once() {
    let group = bind_group(
        "127.0.0.1:0".parse().unwrap(),
        1,
        None,
        GroupOptions::default(),
    )
    .unwrap();
    let (mut ends, _control) = mesh::<Mail>(1, 4).unwrap();
    let config = CoreConfig {
        cpu: Some(1000),
        ..CoreConfig::new(0)
    };
    let end = ends.remove(0);
    let (port, control) = (end.port(), end.control_port());
    let error = run_core(config, group.socket(0).unwrap(), end, move || {
        Echo::new(port, control)
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("pinning the thread: CPU 1000"),
        "{error}"
    );
}

#[test]
fn an_idle_core_takes_no_turns_at_all() {
    let group = bind_group(
        "127.0.0.1:0".parse().unwrap(),
        1,
        None,
        GroupOptions::default(),
    )
    .unwrap();
    let (mut ends, mut control) = mesh::<Mail>(1, 4).unwrap();
    let (turns, counted): (Sender<()>, Receiver<()>) = channel();
    let core = start_core(
        0,
        &group,
        ends.remove(0),
        SpinPolicy::DEDICATED,
        move |mut echo| {
            echo.turns = Some(turns);
            echo
        },
    );
    // Idle from the first turns on, until a timer 300 ms later ends it.
    control
        .try_send(PortId(0), Mail::Timer(Duration::from_millis(300)))
        .unwrap();
    assert!(matches!(hear(&mut control), Mail::TimerFired(_)));
    let count = counted.try_iter().count();
    // Some before the park, the timer's, some after: not the thousands of a spin.
    assert!(count < 100, "{count} turns");
    control.try_send(PortId(0), Mail::Stop).unwrap();
    core.join().unwrap();
}

#[test]
fn a_full_mailbox_delays_mail_and_loses_none() {
    // 200 trips through mailboxes of 4.
    let group = bind_group(
        "127.0.0.1:0".parse().unwrap(),
        2,
        None,
        GroupOptions::default(),
    )
    .unwrap();
    let (ends, mut control) = mesh::<Mail>(2, 4).unwrap();
    let cores: Vec<_> = ends
        .into_iter()
        .enumerate()
        .map(|(index, end)| start_core(index, &group, end, SpinPolicy::SHARED, |echo| echo))
        .collect();
    let (mut sent, mut arrived) = (0, 0);
    while arrived < 200 {
        if sent < 200
            && control
                .try_send(PortId(0), Mail::Hop([PortId(1), PortId(0)].into()))
                .is_ok()
        {
            sent += 1;
            continue;
        }
        assert!(matches!(hear(&mut control), Mail::Arrived));
        arrived += 1;
    }
    for core in 0..2 {
        control.try_send(PortId(core), Mail::Stop).unwrap();
    }
    cores.into_iter().for_each(|core| core.join().unwrap());
}

#[test]
fn counters_tell_what_a_core_did() {
    let mut node = start(1, SpinPolicy::SHARED, GroupOptions::default());
    let client = client(&node);
    (0..50_u8).for_each(|i| assert_eq!(ask(&client, &[i]).1, [i]));
    node.tell(0, Mail::AskReport);
    let Mail::Report(stats) = node.hear() else {
        panic!("a report was asked for")
    };
    assert_eq!(
        (
            stats.datagrams_received,
            stats.transmits_sent,
            stats.transmits_failed
        ),
        (50, 50, 0)
    );
    assert!(stats.busy > Duration::ZERO && stats.turns_busy >= 50);
    node.stop();
}

#[test]
fn many_clients_at_once_all_get_their_own_answers() {
    let node = start(2, SpinPolicy::SHARED, GroupOptions::default());
    let clients: Vec<JoinHandle<()>> = (0..4_u32)
        .map(|id| {
            let client = client(&node);
            std::thread::spawn(move || {
                for i in 0..500_u32 {
                    let mut payload = short_header(i.wrapping_mul(0x85eb_ca6b));
                    payload.extend_from_slice(&id.to_le_bytes());
                    payload.extend_from_slice(&i.to_le_bytes());
                    assert_eq!(ask(&client, &payload).1, payload);
                }
            })
        })
        .collect();
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    node.stop();
}
