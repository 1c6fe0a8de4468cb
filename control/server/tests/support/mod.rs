//! A real node as a child process, and raw connections to it.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)] // shared by several test programs

pub mod forge;
pub mod load;
pub mod metered;
pub mod mount;
pub mod process;
pub mod work;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use pinion_client::ClientConfig;
use pinion_wire::message::{Hello, MAGIC, Request, Welcome};
use pinion_wire::{Reply, Split, frame};
use quinn::crypto::rustls::QuicClientConfig;

/// Longest anything in these tests may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `pinion serve`.
pub struct Server {
    pub address: SocketAddr,
    pub dir: tempfile::TempDir,
    child: Child,
    lines: Receiver<String>,
}

impl Server {
    /// Starts `pinion serve --dev` on a free port with these flags more.
    pub fn dev(flags: &[&str]) -> Self {
        let mut all = vec!["--dev"];
        all.extend_from_slice(flags);
        Self::start(&all, "")
    }

    /// Starts `pinion serve` on a free port; `config` becomes its file.
    pub fn start(flags: &[&str], config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pinion.toml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pinion"))
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .args(flags)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                eprintln!("node: {line}");
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut seen = Vec::new();
        let address = loop {
            let line = lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("the node did not start: {seen:?}"));
            if let Some(rest) = line.trim().strip_prefix("listening") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
            seen.push(line);
        };
        Self {
            address,
            dir,
            child,
            lines,
        }
    }

    pub fn dev_dir(&self) -> PathBuf {
        self.dir.path().join("data/dev")
    }

    pub fn ca(&self) -> Vec<u8> {
        let dev = self.dev_dir().join("ca.pem");
        let own = self.dir.path().join("data/tls/ca.pem");
        std::fs::read(if dev.exists() { dev } else { own }).unwrap()
    }

    pub fn token(&self) -> String {
        read_trimmed(&self.dev_dir().join("client.token"))
    }

    pub fn admin_token(&self) -> String {
        read_trimmed(&self.dev_dir().join("admin.token"))
    }

    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::new(self.address.to_string())
            .ca_pem(self.ca())
            .token(self.admin_token())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }

    /// SIGTERM, then the exit code and what the node said at its end.
    pub fn stop(mut self) -> (i32, String) {
        let killed = Command::new("kill")
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(killed.success());
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        // To the end of what it said, however long that takes to be read.
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            said.push_str(&line);
            said.push('\n');
        }
        (status.code().unwrap_or(-1), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_trimmed(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// A client of the bare protocol, for what the SDK would never do.
pub struct Raw {
    pub connection: quinn::Connection,
    pub send: quinn::SendStream,
    pub recv: quinn::RecvStream,
    buffer: Vec<u8>,
}

/// A quinn client that trusts the node.
pub fn endpoint(server: &Server) -> quinn::Endpoint {
    endpoint_of(&server.ca())
}

/// The same for whoever has this authority's certificate.
pub fn endpoint_of(ca: &[u8]) -> quinn::Endpoint {
    let mut roots = rustls::RootCertStore::empty();
    for cert in pinion_quic::tls::certificates(ca).unwrap() {
        roots.add(cert).unwrap();
    }
    let tls = pinion_quic::tls::client_config(roots).unwrap();
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

impl Raw {
    /// Connects and opens one request stream; says nothing yet.
    pub async fn connect(endpoint: &quinn::Endpoint, server: SocketAddr) -> Self {
        let connection = endpoint
            .connect(server, "localhost")
            .unwrap()
            .await
            .unwrap();
        Self::over(connection).await
    }

    /// The same over a connection that stands.
    pub async fn over(connection: quinn::Connection) -> Self {
        let (send, recv) = connection.open_bi().await.unwrap();
        Self {
            connection,
            send,
            recv,
            buffer: Vec::new(),
        }
    }

    /// Says HELLO with `token` and expects WELCOME.
    pub async fn hello(&mut self, token: &str) -> Welcome {
        self.request(
            1,
            &Request::Hello(Hello {
                magic: MAGIC,
                version_min: 1,
                version_max: 1,
                capabilities: 0,
                token: token.as_bytes(),
                client_name: "raw",
            }),
        )
        .await;
        self.reply(|_, reply| match reply {
            Reply::Welcome(welcome) => *welcome,
            other => panic!("no welcome: {other:?}"),
        })
        .await
    }

    pub async fn request(&mut self, correlation: u32, request: &Request<'_>) {
        let mut out = Vec::new();
        request.encode(correlation, &mut out).unwrap();
        self.send.write_all(&out).await.unwrap();
    }

    /// The next reply, looked at by `see`.
    pub async fn reply<T>(&mut self, see: impl FnOnce(u32, &Reply<'_>) -> T) -> T {
        loop {
            if let Split::Frame {
                header,
                body,
                consumed,
            } = frame::split(&self.buffer).unwrap()
            {
                let reply = Reply::decode(header.opcode, body).unwrap();
                let seen = see(header.correlation, &reply);
                self.buffer.drain(..consumed);
                return seen;
            }
            let chunk = self
                .recv
                .read_chunk(usize::MAX, true)
                .await
                .unwrap()
                .expect("the stream goes on");
            self.buffer.extend_from_slice(&chunk.bytes);
        }
    }
}

/// Runs a test's future with a bound on its time.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("hung") })
}

/// Output of a finished command as text.
pub fn text(mut pipe: impl Read) -> String {
    let mut out = String::new();
    pipe.read_to_string(&mut out).unwrap();
    out
}
