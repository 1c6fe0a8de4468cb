//! The nodes of a cluster that `scripts/cluster` keeps, and what is done to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::PlaneError;
use super::http::Http;

/// Longest a cluster may be without a leader, or a node not part of it, before the
/// measurement is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions who leads. What is timed does not wait for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Longest a node may take to say how it is: one that was stopped says nothing.
const STATUS_MAX: Duration = Duration::from_millis(500);

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) ca: Vec<u8>,
    pub(super) token: String,
}

impl Node {
    fn read(dir: &Path, file: &Path) -> Result<Option<Self>, PlaneError> {
        let cluster = |path: &Path| {
            let path = path.to_owned();
            move |source| PlaneError::Cluster { path, source }
        };
        let name = file.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_suffix(".toml")) else {
            return Ok(None);
        };
        let text = fs::read_to_string(file).map_err(cluster(file))?;
        let listen = text.lines().find_map(|line| line.strip_prefix("listen = "));
        let dev = dir.join(name).join("dev");
        let (ca, token) = (dev.join("ca.pem"), dev.join("admin.token"));
        let secret = fs::read_to_string(&token).map_err(cluster(&token))?;
        Ok(Some(Self {
            name: name.to_owned(),
            address: listen.unwrap_or_default().trim_matches('"').to_owned(),
            ca: fs::read(&ca).map_err(cluster(&ca))?,
            token: secret.trim().to_owned(),
        }))
    }

    /// Who it says it is: `/v1/raft`.
    pub(super) async fn raft(&self) -> Result<Value, PlaneError> {
        let mut http = Http::connect(self).await?;
        http.ask(self, "GET", "/v1/raft", "").await?.json()
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Cluster {
    dir: PathBuf,
    pub(super) nodes: Vec<Node>,
    /// Whether it was begun here, and so ends here.
    is_own: bool,
}

impl Cluster {
    /// One that runs.
    pub(super) fn find(dir: &Path) -> Result<Self, PlaneError> {
        let cluster = |source| PlaneError::Cluster {
            path: dir.to_owned(),
            source,
        };
        let mut nodes = Vec::new();
        for entry in fs::read_dir(dir).map_err(cluster)? {
            nodes.extend(Node::read(dir, &entry.map_err(cluster)?.path())?);
        }
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        if nodes.is_empty() {
            return Err(cluster(std::io::ErrorKind::NotFound.into()));
        }
        Ok(Self {
            dir: dir.to_owned(),
            nodes,
            is_own: false,
        })
    }

    /// A new one of three nodes of the program `bin`, which tell what `log` says.
    pub(super) async fn begin(dir: &Path, bin: &Path, log: &str) -> Result<Self, PlaneError> {
        let (log, bin) = (("PINION_CLUSTER_LOG", log.as_ref()), bin.as_os_str());
        let env = [log, ("PINION_CLUSTER_BIN", bin)];
        script(dir, &["up", "3"], &env)?;
        let mut cluster = Self::find(dir)?;
        cluster.is_own = true;
        cluster.await_whole().await?;
        Ok(cluster)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// All but `node`.
    pub(super) fn others(&self, node: &Node) -> Vec<Node> {
        let others = self.nodes.iter().filter(|other| other.name != node.name);
        others.cloned().collect()
    }

    /// The one that leads.
    pub(super) async fn leader(&self) -> Result<Node, PlaneError> {
        let until = Instant::now() + PATIENCE;
        loop {
            // One that is cut off may believe in itself for a while: the newest counts.
            let mut best: Option<(u64, &Node)> = None;
            for node in &self.nodes {
                if let Ok(Ok(status)) = timeout(STATUS_MAX, node.raft()).await
                    && status["role"] == "leader"
                {
                    let term = status["term"].as_u64().unwrap_or_default();
                    if best.is_none_or(|(before, _)| before < term) {
                        best = Some((term, node));
                    }
                }
            }
            if let Some((_, node)) = best {
                return Ok(node.clone());
            }
            give_up(until)?;
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until all others vote and have what the leader has.
    pub(super) async fn await_whole(&self) -> Result<(), PlaneError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await?;
            if let Ok(Ok(status)) = timeout(STATUS_MAX, leader.raft()).await
                && is_whole(&status, self.nodes.len())
            {
                return Ok(());
            }
            give_up(until)?;
            sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn pid(&self, node: &Node) -> Result<u32, PlaneError> {
        let path = self.dir.join(format!("{}.pid", node.name));
        let text = fs::read_to_string(&path).map_err(PlaneError::io("a node's process id"))?;
        text.trim().parse().map_err(|_| PlaneError::Io {
            what: "a node's process id",
            source: std::io::ErrorKind::InvalidData.into(),
        })
    }

    /// `KILL`, `TERM`, `STOP` or `CONT`.
    pub(super) fn signal(&self, node: &Node, signal: &str) -> Result<(), PlaneError> {
        let pid = self.pid(node)?.to_string();
        let mut kill = Command::new("kill");
        let sent = kill.args([&format!("-{signal}"), &pid]).status();
        sent.map_err(PlaneError::io("kill"))?;
        Ok(())
    }

    /// Waits until the process of `node` is gone.
    pub(super) async fn await_end(&self, node: &Node) -> Result<(), PlaneError> {
        let until = Instant::now() + PATIENCE;
        let proc = format!("/proc/{}", self.pid(node)?);
        while Path::new(&proc).exists() {
            give_up(until)?;
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts a node that does not run, and waits until it serves.
    pub(super) fn start(&self, node: &Node) -> Result<(), PlaneError> {
        script(&self.dir, &["start", &node.name], &[])
    }

    /// Kills a node, forgets what it had and starts it again, until it serves.
    pub(super) fn wipe(&self, node: &Node) -> Result<(), PlaneError> {
        script(&self.dir, &["wipe", &node.name], &[])
    }

    /// Resident bytes of a node.
    pub(super) fn resident(&self, node: &Node) -> Result<u64, PlaneError> {
        let path = format!("/proc/{}/status", self.pid(node)?);
        let text = fs::read_to_string(path).map_err(PlaneError::io("a node's memory"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(kib.unwrap_or_default() * 1024)
    }

    /// What a node said since its life began.
    pub(super) fn said(&self, node: &Node) -> Result<String, PlaneError> {
        let path = self.dir.join(format!("{}.log", node.name));
        fs::read_to_string(path).map_err(PlaneError::io("what a node said"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What it leaves ends with this process all the same.
        if self.is_own {
            let _ = script(&self.dir, &["down"], &[]);
        }
    }
}

/// Whether all of `count` nodes vote and are at the end of the log.
fn is_whole(status: &Value, count: usize) -> bool {
    let Some(peers) = status["peers"].as_array() else {
        return false;
    };
    let good = |peer: &&Value| peer["voter"] == true && peer["active"] == true && peer["lag"] == 0;
    status["role"] == "leader"
        && peers.len() == count - 1
        && peers.iter().filter(good).count() == count - 1
}

fn give_up(until: Instant) -> Result<(), PlaneError> {
    if Instant::now() > until {
        return Err(PlaneError::Leaderless(PATIENCE));
    }
    Ok(())
}

fn script(dir: &Path, args: &[&str], env: &[(&str, &std::ffi::OsStr)]) -> Result<(), PlaneError> {
    let mut command = Command::new("scripts/cluster");
    command.args(args).env("PINION_CLUSTER_DIR", dir);
    let done = command.envs(env.iter().copied()).output();
    let done = done.map_err(PlaneError::io("scripts/cluster"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(PlaneError::Script {
        what: args.join(" "),
        said: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_whole;

    #[test]
    fn a_cluster_is_whole_when_all_vote_and_have_everything() {
        let peer = |voter: bool, lag: u64| json!({"voter": voter, "active": true, "lag": lag});
        let status = |peers: Vec<serde_json::Value>| json!({"role": "leader", "peers": peers});
        assert!(is_whole(&status(vec![peer(true, 0), peer(true, 0)]), 3));
        assert!(!is_whole(&status(vec![peer(true, 0), peer(true, 1)]), 3));
        assert!(!is_whole(&status(vec![peer(true, 0), peer(false, 0)]), 3));
        assert!(!is_whole(&status(vec![peer(true, 0)]), 3));
        assert!(!is_whole(&json!({"role": "follower", "peers": []}), 1));
    }
}
