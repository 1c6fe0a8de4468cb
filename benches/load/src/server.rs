//! Starting and stopping what is measured: each server is its own process,
//! bound to one processor, on a free loopback port, and ends with us.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinion_cli::bench::machine::{Watch, bound_to};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::bare::Service;
use crate::echo::Waiting;

/// Longest life of an echo server, whatever happens to us.
pub const LIFE_MAX: Duration = Duration::from_secs(300);

/// Longest wait for a server to accept its first connection.
const START_MAX: Duration = Duration::from_secs(20);

/// Pause between two looks whether a server has started.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a server is looked at to see whether it rests, and how often at most.
const SETTLE_LOOK: Duration = Duration::from_millis(100);
const SETTLE_LOOKS_MAX: usize = 30;

/// Share of a processor up to which a server rests. The kernel counts in steps of
/// 10 ms: one step is a tenth of a look.
const RESTING_SHARE: f64 = 0.11;

/// A certificate for `localhost` and 127.0.0.1, made for one suite run.
#[derive(Clone)]
pub struct Certificate {
    pem: String,
    key_pem: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Certificate {
    /// A fresh self-signed certificate (ECDSA P-256).
    ///
    /// # Errors
    /// Never on a machine with randomness.
    pub fn new() -> io::Result<Self> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        Ok(Self {
            pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            der: made.cert.der().clone(),
            key_der: made.signing_key.serialize_der(),
        })
    }

    /// Its chain: itself.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der.clone()]
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }

    /// The root a client must trust: itself.
    #[must_use]
    pub fn root(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    /// A client configuration that trusts it: TLS 1.3, AES-128-GCM, as a node.
    ///
    /// # Errors
    /// rustls refuses the certificate.
    pub fn client_config(&self) -> io::Result<Arc<rustls::ClientConfig>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root()).map_err(io::Error::other)?;
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites = vec![rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// Writes `cert.pem` and `key.pem` into `dir`.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        fs::write(dir.join("cert.pem"), &self.pem)?;
        fs::write(dir.join("key.pem"), &self.key_pem)
    }

    /// Reads back what [`write`](Self::write) wrote, for the echo process.
    ///
    /// # Errors
    /// The files are missing or not PEM.
    pub fn read(dir: &Path) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let chain =
            CertificateDer::from_pem_file(dir.join("cert.pem")).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).map_err(io::Error::other)?;
        Ok((vec![chain], key))
    }
}

/// A server process. Dropping it ends it.
pub struct Server {
    child: Child,
    guard: Option<Child>,
    /// Its standard error: a file, since nobody reads while it runs.
    messages: File,
    address: SocketAddr,
}

impl Server {
    /// Starts `command` bound to `cpu`.
    fn start(command: &mut Command, cpu: usize, port: u16) -> io::Result<Self> {
        Self::start_on(command, &[cpu], port)
    }

    /// Starts `command` bound to `cpus`. If we die without dropping it, a guard
    /// process notices the closed pipe and ends it.
    fn start_on(command: &mut Command, cpus: &[usize], port: u16) -> io::Result<Self> {
        let messages = tempfile::tempfile()?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages.try_clone()?);
        let child = bound_to(cpus, || command.spawn())?;
        let mut server = Self {
            child,
            guard: None,
            messages,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        };
        let guard = Command::new(std::env::current_exe()?)
            .args(["guard", &server.pid().to_string()])
            .stdin(Stdio::piped())
            .spawn()?;
        server.guard = Some(guard);
        Ok(server)
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks it to end (SIGTERM) and waits; gives the time it took.
    ///
    /// # Errors
    /// It is still there after `patience`, or ended otherwise than by exit
    /// code 0. It is gone in either case.
    pub fn stop(mut self, patience: Duration) -> io::Result<Duration> {
        let asked = Instant::now();
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .ok_or(io::ErrorKind::NotFound)?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                let took = asked.elapsed();
                return if status.success() {
                    Ok(took)
                } else {
                    Err(self.failed(&format!("asked to end: {status}")))
                };
            }
            if asked.elapsed() > patience {
                return Err(self.failed(&format!("did not end in {patience:?}")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Fails with what it wrote when it has ended.
    ///
    /// # Errors
    /// It has.
    pub fn check_alive(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!(
                "ended: {status}: {}",
                self.said().trim()
            ))),
        }
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        let _ = self.messages.rewind();
        let _ = (&self.messages).take(4096).read_to_string(&mut text);
        text
    }

    /// Ends it at once with what it wrote to standard error, for the message.
    fn failed(mut self, what: &str) -> io::Error {
        let _ = self.child.kill();
        io::Error::other(format!("{what}: {}", self.said().trim()))
    }

    /// Waits until `ready` says yes; an early end of the process is an error.
    fn await_ready(mut self, what: &str, mut ready: impl FnMut(&Self) -> bool) -> io::Result<Self> {
        let started = Instant::now();
        loop {
            if ready(&self) {
                self.settle();
                return Ok(self);
            }
            if self.child.try_wait()?.is_some() {
                return Err(self.failed(&format!("{what} ended at once")));
            }
            if started.elapsed() > START_MAX {
                return Err(self.failed(&format!("{what} did not start in {START_MAX:?}")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until it has done what it does at its start, such as writing the
    /// files it will append to: a figure is of a server that runs. One that never
    /// rests is taken as it is.
    fn settle(&self) {
        for _ in 0..SETTLE_LOOKS_MAX {
            let watch = Watch::start(&[self.pid()]);
            std::thread::sleep(SETTLE_LOOK);
            let used: f64 = watch.process_cpu_seconds().iter().sum();
            if used <= SETTLE_LOOK.as_secs_f64() * RESTING_SHARE {
                return;
            }
        }
    }

    fn accepts_tcp(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The guard first: it must not see the process gone and its number reused.
        if let Some(guard) = &mut self.guard {
            let _ = guard.kill();
            let _ = guard.wait();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the guard process does: waits until its standard input ends, then ends
/// the process it was told of.
///
/// # Errors
/// Standard input cannot be read.
pub fn guard(pid: u32) -> io::Result<()> {
    let mut byte = [0];
    while io::stdin().read(&mut byte)? > 0 {}
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // Already gone is as good.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    Ok(())
}

/// A port that was free for both UDP and TCP a moment ago.
///
/// # Errors
/// None is to be had.
pub fn free_port() -> io::Result<u16> {
    for _ in 0..64 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = udp.local_addr()?.port();
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Control (a), as its own process.
///
/// # Errors
/// The process cannot be started.
pub fn udp_echo(cpu: usize, waiting: Waiting) -> io::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    let mode = match waiting {
        Waiting::Block => "udp-block",
        Waiting::Spin => "udp-spin",
    };
    command.args(["echo", mode, &port.to_string()]);
    Server::start(&mut command, cpu, port)
}

/// Control (b), as its own process; `dir` holds its certificate.
///
/// # Errors
/// The process cannot be started.
pub fn quinn_echo(cpu: usize, dir: &Path) -> io::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["echo", "quinn", &port.to_string()]).arg(dir);
    Server::start(&mut command, cpu, port)
}

/// Controls (e) and (f), as their own process; `dir` holds their certificate.
///
/// # Errors
/// The process does not start.
pub fn bare(cpu: usize, dir: &Path, service: Service) -> io::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    let mode = match service {
        Service::Echo => "bare",
        Service::Sink { .. } => "bare-sink",
    };
    command.args(["echo", mode, &port.to_string()]).arg(dir);
    command.args(["--cpu", &cpu.to_string()]);
    if let Service::Sink { message } = service {
        command.args(["--message", &message.to_string()]);
    }
    Server::start(&mut command, cpu, port)?
        .await_ready("the bare server", |server| takes_udp(server.address))
}

/// Whether a loopback port is bound: the kernel refuses a datagram at once where
/// it is not. Binding the port ourselves to see would take it from its server.
pub(crate) fn takes_udp(address: SocketAddr) -> bool {
    let probe = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        socket.send(&[0])?;
        socket.recv(&mut [0])
    };
    !probe().is_err_and(|error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Control (c): Redis without persistence, plain or with TLS only.
///
/// # Errors
/// It is not installed (`apt-get install redis-server`) or does not start.
pub fn redis(cpu: usize, tls_dir: Option<&Path>) -> io::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    match tls_dir {
        None => {
            command.args(["--port", &port.to_string()]);
        }
        Some(dir) => {
            command
                .args(["--port", "0", "--tls-port", &port.to_string()])
                .args(["--tls-auth-clients", "no", "--tls-protocols", "TLSv1.3"])
                .args(["--tls-ciphersuites", "TLS_AES_128_GCM_SHA256"])
                .arg("--tls-cert-file")
                .arg(dir.join("cert.pem"))
                .arg("--tls-key-file")
                .arg(dir.join("key.pem"))
                .arg("--tls-ca-cert-file")
                .arg(dir.join("cert.pem"));
        }
    }
    Server::start(&mut command, cpu, port)
        .map_err(|error| missing("redis-server", &error))?
        .await_ready("redis-server", Server::accepts_tcp)
}

/// memcached with one working thread, as everything here has one processor.
///
/// # Errors
/// It is not installed (`apt-get install memcached`) or does not start.
pub fn memcached(cpu: usize) -> io::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new("memcached");
    command
        .args(["-l", "127.0.0.1", "-U", "0", "-t", "1"])
        .args(["-p", &port.to_string()])
        // It does not run as root; to anybody else this says nothing.
        .args(["-u", "nobody"]);
    Server::start(&mut command, cpu, port)
        .map_err(|error| missing("memcached", &error))?
        .await_ready("memcached", Server::accepts_tcp)
}

/// Control (d): NATS core, plain.
///
/// # Errors
/// It is not installed (`apt-get install nats-server`) or does not start.
pub fn nats(cpu: usize) -> io::Result<Server> {
    nats_with(cpu, |_| {})
}

/// The same with JetStream, its files below `dir`, synchronised when it likes
/// to: every two minutes.
///
/// # Errors
/// As [`nats`].
pub fn jetstream(cpu: usize, dir: &Path) -> io::Result<Server> {
    nats_with(cpu, |command| {
        command.args(["-js", "-sd"]).arg(dir);
    })
}

/// beanstalkd, in memory or with its log in `binlog` and `fsync` before every
/// answer that changed something.
///
/// # Errors
/// It is not installed (`apt-get install beanstalkd`) or does not start.
pub fn beanstalkd(cpu: usize, binlog: Option<&Path>) -> io::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new("beanstalkd");
    command.args(["-l", "127.0.0.1", "-p", &port.to_string()]);
    if let Some(dir) = binlog {
        command.args(["-f", "0", "-b"]).arg(dir);
    }
    Server::start(&mut command, cpu, port)
        .map_err(|error| missing("beanstalkd", &error))?
        .await_ready("beanstalkd", Server::accepts_tcp)
}

fn nats_with(cpu: usize, options: impl FnOnce(&mut Command)) -> io::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new("nats-server");
    command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    options(&mut command);
    Server::start(&mut command, cpu, port)
        .map_err(|error| missing("nats-server", &error))?
        .await_ready("nats-server", Server::accepts_tcp)
}

fn missing(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{name}: {error}; apt-get install {name}"),
    )
}

/// The node under test.
#[derive(Clone, Debug)]
pub struct Node {
    /// The `pinion` binary.
    pub binary: PathBuf,
    /// Further arguments of `pinion serve`.
    pub arguments: Vec<String>,
}

impl Node {
    /// Starts `pinion serve --dev` with its data core and its control core on
    /// `cpu`, its data under `dir`.
    ///
    /// # Errors
    /// The binary is missing or the node does not start.
    pub fn start(&self, cpu: usize, dir: &Path) -> io::Result<Server> {
        self.start_on(cpu, cpu, dir)
    }

    /// The same with its data core on `data` and its control core on `control`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on(&self, data: usize, control: usize, dir: &Path) -> io::Result<Server> {
        let token = dir.join("dev/client.token");
        self.launch_on(data, control, dir)?
            .await_ready("pinion serve", |server| {
                // The token is written before the socket takes packets; a bound port
                // cannot be bound again.
                token.exists() && UdpSocket::bind(server.address).is_err()
            })
    }

    /// The same without waiting until it is ready.
    ///
    /// # Errors
    /// The binary is missing.
    pub fn launch(&self, cpu: usize, dir: &Path) -> io::Result<Server> {
        self.launch_on(cpu, cpu, dir)
    }

    fn launch_on(&self, data: usize, control: usize, dir: &Path) -> io::Result<Server> {
        let port = free_port()?;
        let (data_core, control_core) = (data.to_string(), control.to_string());
        let mut command = Command::new(&self.binary);
        command
            .args(["serve", "--dev", "--listen", &format!("127.0.0.1:{port}")])
            .args(["--data-cores", &data_core, "--control-core", &control_core])
            // Nothing else runs on this CPU; a control thread on it only waits.
            .args(["--placement", "dedicated"])
            .arg("--data-dir")
            .arg(dir)
            .args(&self.arguments);
        Server::start_on(&mut command, &[data, control], port).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{}: {error}; cargo build --release", self.binary.display()),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound_both_ways() {
        let port = free_port().expect("a port is free");
        UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("UDP");
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("TCP");
    }

    #[test]
    fn a_port_takes_datagrams_once_it_is_bound() {
        let port = free_port().expect("a port is free");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert!(!takes_udp(address));
        let bound = UdpSocket::bind(address).expect("it was free");
        assert!(takes_udp(address));
        drop(bound);
        assert!(!takes_udp(address));
    }

    #[test]
    fn a_certificate_survives_its_files() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let certificate = Certificate::new().expect("rcgen works");
        certificate.write(dir.path()).expect("written");
        let (chain, key) = Certificate::read(dir.path()).expect("read");
        assert_eq!(chain, certificate.chain());
        assert_eq!(key.secret_der(), certificate.key().secret_der());
        certificate.client_config().expect("rustls takes it");
    }
}
