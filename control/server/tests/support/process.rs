//! `pinion serve` on a directory that outlives it: started, killed, started again.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)] // shared by several test programs

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use pinion_client::ClientConfig;

use super::mount::Mount;

/// Longest a start, a refusal or a clean stop may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a node lives: its data directory and its configuration.
pub struct Home {
    pub data: PathBuf,
    /// The same as this process finds it.
    pub seen: PathBuf,
    config: PathBuf,
    flags: Vec<String>,
    /// Put before the command, for namespaces.
    wrap: Vec<String>,
    /// Which lines the node logs, as `PINION_LOG` says it.
    log: Option<String>,
}

/// What a node said when it ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub said: String,
}

impl Home {
    /// A home in `dir` with this configuration and these flags.
    pub fn new(dir: &Path, config: &str, flags: &[&str]) -> Self {
        let file = dir.join("pinion.toml");
        std::fs::write(&file, config).unwrap();
        Self {
            data: dir.join("data"),
            seen: dir.join("data"),
            config: file,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            wrap: Vec::new(),
            log: None,
        }
    }

    /// The same node, which logs what `PINION_LOG` would say.
    pub fn with_log(mut self, log: &str) -> Self {
        self.log = Some(log.to_owned());
        self
    }

    /// The same node with its data elsewhere.
    pub fn with_data(mut self, data: &Path) -> Self {
        data.clone_into(&mut self.data);
        data.clone_into(&mut self.seen);
        self
    }

    /// The node runs where `mount` is, with its data in `name` there.
    pub fn in_mount(mut self, mount: &Mount, name: &str) -> Self {
        self.data = mount.dir().join(name);
        self.seen = mount.seen().join(name);
        self.wrap = mount.enter();
        self
    }

    /// Starts the process and waits for nothing.
    pub fn spawn(&self, more: &[&str]) -> Process {
        let node = env!("CARGO_BIN_EXE_pinion").to_owned();
        let words: Vec<String> = self.wrap.iter().cloned().chain([node]).collect();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["serve", "--dev", "--config"])
            .arg(&self.config)
            .arg("--data-dir")
            .arg(&self.data)
            .args(&self.flags)
            .args(more);
        if !self.flags.iter().any(|flag| flag == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        // A node refuses variables it does not know, and the tests have some.
        for (name, _) in std::env::vars() {
            if name.starts_with("PINION_") {
                command.env_remove(name);
            }
        }
        if let Some(log) = &self.log {
            command.env("PINION_LOG", log);
        }
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Process {
            child,
            lines,
            said: String::new(),
        }
    }

    /// Starts a node that is expected to serve.
    pub fn start(&self, more: &[&str]) -> Node {
        match self.try_start(more) {
            Ok(node) => node,
            Err(ended) => panic!("the node did not start: {ended:?}"),
        }
    }

    /// Starts a node, which serves or says why not.
    pub fn try_start(&self, more: &[&str]) -> Result<Node, Ended> {
        let mut process = self.spawn(more);
        let began = Instant::now();
        let mut address = None;
        // The line about the data comes after the address, remarks after that.
        loop {
            let Some(line) = process.line(PATIENCE) else {
                return Err(process.ended());
            };
            if let Some(rest) = line.trim().strip_prefix("listening") {
                address = rest.split_whitespace().next().unwrap().parse().ok();
            }
            if line.contains("records read again") {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "no start: {}", process.said);
        }
        Ok(Node {
            process,
            address: address.expect("a node says where it listens"),
            dev: self.seen.join("dev"),
            started_in: began.elapsed(),
        })
    }

    /// Starts a node that must refuse; gives what it said.
    pub fn refused(&self) -> Ended {
        match self.try_start(&[]) {
            Err(ended) => ended,
            Ok(node) => panic!("the node serves what it must refuse: {}", node.kill()),
        }
    }
}

/// A `pinion serve` of which nothing is known but that it runs.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Process {
    fn line(&mut self, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => {
                self.said.push_str(&line);
                self.said.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the node hangs: {}", self.said),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; nothing of the process is left when this returns. Gives what
    /// it said.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.ended().said
    }

    fn ended(&mut self) -> Ended {
        while self.line(PATIENCE).is_some() {}
        let status: ExitStatus = self.child.wait().unwrap();
        Ended {
            code: status.code().unwrap_or(-1),
            said: std::mem::take(&mut self.said),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `pinion serve` that serves.
pub struct Node {
    process: Process,
    pub address: SocketAddr,
    /// From the start of the process until it served.
    pub started_in: Duration,
    dev: PathBuf,
}

impl Node {
    pub fn ca(&self) -> Vec<u8> {
        std::fs::read(self.dev.join("ca.pem")).unwrap()
    }

    pub fn token(&self) -> String {
        let token = std::fs::read_to_string(self.dev.join("admin.token")).unwrap();
        token.trim().to_owned()
    }

    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::new(self.address.to_string())
            .ca_pem(self.ca())
            .token(self.token())
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it said so far.
    pub fn said(&mut self) -> &str {
        while let Ok(line) = self.process.lines.try_recv() {
            self.process.said.push_str(&line);
            self.process.said.push('\n');
        }
        &self.process.said
    }

    /// SIGKILL; nothing of the process is left when this returns.
    pub fn kill(self) -> String {
        self.process.kill()
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) -> Ended {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.process.ended()
    }
}
