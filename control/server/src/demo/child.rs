//! A node in a process of its own, which can be killed and started again.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Longest a start may take. A node reads its whole log again, which is a few
/// megabytes here; longer only delays the report of a node that hangs.
const START_MAX: Duration = Duration::from_secs(30);
/// Lines of the node that wait to be read; what it says beyond is dropped.
const LINES_MAX: usize = 256;
/// Lines of a node that did not start that are shown.
const LAST_WORDS: usize = 5;
/// The smallest segment, so that the log has more than one.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Log after which a checkpoint is made. Less than what the demo writes before
/// the kill, so that the restart begins from one.
const CHECKPOINT_BYTES: u64 = 1 << 20;

/// Why there is no second node.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChildError {
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot run {program}: {source}")]
    Spawn { program: PathBuf, source: io::Error },
    #[error("the node did not start: {said}")]
    Ended { said: String },
    #[error("the node did not start within {START_MAX:?}")]
    Hangs,
    #[error("cannot kill the node: {0}")]
    Kill(io::Error),
    #[error("cannot remove the node's data: {0}")]
    Remove(io::Error),
}

/// Where the node lives, whichever process it is.
#[derive(Clone, Debug)]
pub(super) struct Home {
    data: PathBuf,
    config: PathBuf,
}

/// A process that serves. Dropping it kills it.
#[derive(Debug)]
pub(super) struct ChildNode {
    child: Child,
    pub(super) address: SocketAddr,
    /// What it found on the disk, in its own words.
    pub(super) found: String,
    /// From the start of the process until it served.
    pub(super) started_in: Duration,
}

impl Home {
    /// A home below `dir`. The node runs on one data core, so that one log has
    /// everything and each client one connection.
    pub(super) fn make(
        dir: &Path,
        data_cpu: Option<usize>,
        control_cpu: usize,
    ) -> Result<Self, ChildError> {
        let home = Self {
            data: dir.join("data"),
            config: dir.join("pinion.toml"),
        };
        let cores = data_cpu.map_or(String::new(), |cpu| format!("data_cores = [{cpu}]\n"));
        let text = format!(
            "{cores}control_core = {control_cpu}\nplacement = \"shared\"\n\n[admin]\nenabled = false\n\n[storage]\n\
             segment_bytes = {SEGMENT_BYTES}\ncheckpoint_every_bytes = {CHECKPOINT_BYTES}\n"
        );
        let path = home.config.clone();
        fs::write(&path, text).map_err(|source| ChildError::Write { path, source })?;
        Ok(home)
    }

    /// Where the node leaves its certificate and tokens.
    pub(super) fn credentials(&self) -> PathBuf {
        self.data.join("dev")
    }

    /// Starts the node and returns when it serves. It blocks.
    pub(super) fn start(&self, listen: SocketAddr) -> Result<ChildNode, ChildError> {
        let began = Instant::now();
        let program = env::current_exe().unwrap_or_else(|_| PathBuf::from("pinion"));
        let mut command = Command::new(&program);
        command
            .args([
                "serve",
                "--dev",
                "--listen",
                &listen.to_string(),
                "--config",
            ])
            .arg(&self.config)
            .arg("--data-dir")
            .arg(&self.data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // What is set for another node is not meant for this one.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("PINION_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .spawn()
            .map_err(|source| ChildError::Spawn { program, source })?;
        let (sender, lines) = sync_channel(LINES_MAX);
        if let Some(stderr) = child.stderr.take() {
            // It reads to the end, so that the node never waits for its reader.
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines() {
                    let Ok(line) = line else { return };
                    let _ = sender.try_send(line);
                }
            });
        }
        // From here on it is killed on every way out.
        let mut node = ChildNode {
            child,
            address: listen,
            found: String::new(),
            started_in: Duration::ZERO,
        };
        node.listen_to(&lines, began + START_MAX)?;
        node.started_in = began.elapsed();
        Ok(node)
    }

    /// Removes everything but the certificate and the tokens: a disk that lost
    /// its data.
    pub(super) fn lose_data(&self) -> Result<(), ChildError> {
        for entry in fs::read_dir(&self.data).map_err(ChildError::Remove)? {
            let path = entry.map_err(ChildError::Remove)?.path();
            if path == self.credentials() {
                continue;
            }
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(ChildError::Remove)?;
        }
        Ok(())
    }
}

impl ChildNode {
    /// Reads what a node says when it serves: its address, then its data.
    fn listen_to(&mut self, lines: &Receiver<String>, until: Instant) -> Result<(), ChildError> {
        let mut said = VecDeque::new();
        loop {
            let patience = until.saturating_duration_since(Instant::now());
            let line = match lines.recv_timeout(patience) {
                Ok(line) => line,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Err(ChildError::Hangs),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    let said = Vec::from(said).join("; ");
                    return Err(ChildError::Ended { said });
                }
            };
            if let Some(address) = fact(&line, "listening").and_then(|rest| rest.parse().ok()) {
                self.address = address;
            }
            if line.contains("records read again") {
                self.found = parenthesis(&line).to_owned();
                return Ok(());
            }
            if said.len() == LAST_WORDS {
                said.pop_front();
            }
            said.push_back(line);
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL. Nothing of the process is left when this returns.
    pub(super) fn kill(mut self) -> Result<(), ChildError> {
        self.child.kill().map_err(ChildError::Kill)?;
        self.child.wait().map_err(ChildError::Kill)?;
        Ok(())
    }
}

impl Drop for ChildNode {
    fn drop(&mut self) {
        // They fail only when the process has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first word after the name of a fact.
fn fact<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.trim().strip_prefix(name)?.split_whitespace().next()
}

/// What stands in the last parentheses of a line, or the whole line.
fn parenthesis(line: &str) -> &str {
    line.rsplit_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'))
        .map_or_else(|| line.trim(), |(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_is_read() {
        let line = "  listening   127.0.0.1:4433 (QUIC, UDP)";
        assert_eq!(fact(line, "listening"), Some("127.0.0.1:4433"));
        assert_eq!(fact("  token       --token x", "listening"), None);
        let line = "  data        /tmp/(x)/data (2 segments, 8 MiB; 3 records read again)";
        assert_eq!(parenthesis(line), "2 segments, 8 MiB; 3 records read again");
        assert_eq!(parenthesis("  nothing "), "nothing");
    }

    #[test]
    fn a_disk_that_lost_its_data_still_knows_its_clients() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let home = Home::make(dir.path(), Some(0), 0).expect("made");
        fs::create_dir_all(home.credentials()).expect("made");
        fs::create_dir_all(home.data.join("log-0000")).expect("made");
        fs::write(home.data.join("pinion.store"), "x").expect("written");
        home.lose_data().expect("removed");
        let left: Vec<_> = fs::read_dir(&home.data)
            .expect("there")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(left, ["dev"]);
    }
}
