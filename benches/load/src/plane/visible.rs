//! How soon every data core of every node goes by what was decided.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pinion_client::native::{NativeClient, NativeConfig, NativeError, Received};
use serde_json::json;

use super::PlaneError;
use super::http::Http;
use super::nodes::{Cluster, Node};
use super::report::{Section, histogram, record};

/// Until all of them do, for 99 of 100 changes.
const VISIBLE_MAX: Duration = Duration::from_millis(50);

/// Longest until a core does before it counts as never.
const NEVER: Duration = Duration::from_secs(5);

/// Until a new key lets in, a connection may be refused.
const KNOWN_MAX: Duration = Duration::from_secs(5);

/// One connection to a data core, from a thread of its own, which sleeps until something
/// comes: a key to connect with goes in, when the node has ended the connection comes out.
struct Visitor {
    keys: Sender<String>,
    came: Receiver<Result<(), NativeError>>,
    ended: Receiver<Result<Instant, NativeError>>,
    thread: Option<JoinHandle<()>>,
}

impl Visitor {
    fn start(node: &Node) -> Result<Self, PlaneError> {
        let address: SocketAddr = node.address.parse().map_err(|_| PlaneError::Io {
            what: "a node's address",
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        let ca = node.ca.clone();
        let (keys, asked) = channel::<String>();
        let (arrived, came) = channel();
        let (left, ended) = channel();
        let thread = thread::spawn(move || {
            while let Ok(key) = asked.recv() {
                let config = NativeConfig::new(address, "localhost", &ca, key.as_bytes());
                match enter(&config) {
                    Err(error) => {
                        let _ = arrived.send(Err(error));
                    }
                    Ok(client) => {
                        let _ = arrived.send(Ok(()));
                        let _ = left.send(stay(client));
                    }
                }
            }
        });
        Ok(Self {
            keys,
            came,
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.keys = channel().0;
        if let Some(thread) = self.thread.take() {
            // What it found it has said.
            let _ = thread.join();
        }
    }
}

fn enter(config: &NativeConfig) -> Result<NativeClient, NativeError> {
    let began = Instant::now();
    loop {
        let mut client = NativeClient::new(config.clone())?;
        match client.connect(None, NEVER) {
            Ok(_) => return Ok(client),
            Err(error) if began.elapsed() > KNOWN_MAX => return Err(error),
            Err(NativeError::Refused(_) | NativeError::Closed(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Until the node ends the connection.
fn stay(mut client: NativeClient) -> Result<Instant, NativeError> {
    let began = Instant::now();
    loop {
        client.wait(NEVER)?;
        let now = Instant::now();
        let mut closed = None;
        client.poll(now, |received| {
            if let Received::Closed { .. } = received {
                closed = Some(Instant::now());
            }
        })?;
        client.flush(now)?;
        if let Some(at) = closed {
            return Ok(at);
        }
        if began.elapsed() > 2 * NEVER {
            return Err(NativeError::TimedOut(NEVER));
        }
    }
}

/// API keys are deleted one after the other, each while a connection to every core has it.
pub(super) async fn play(cluster: &Cluster, changes: u32) -> Result<Section, PlaneError> {
    let mut section = Section::new(
        "From a decision to every data core",
        "An API key is deleted through the leader while one connection to every data core of every node (one each here) \
         shows it. A core that knows of it ends the connection, and the client sleeps until that comes: nobody asks again and \
         again, so the resolution is that of a datagram on loopback, some tens of microseconds. The time counts from the answer of \
         the deletion to the end of the last connection; one that ended before the answer counts as 0.",
    );
    let leader = cluster.leader().await?;
    let mut http = Http::connect(&leader).await?;
    let visitors: Result<Vec<Visitor>, PlaneError> =
        cluster.nodes.iter().map(Visitor::start).collect();
    let visitors = visitors?;
    let (mut all, mut each) = (histogram(), histogram());
    for number in 0..changes {
        let body =
            json!({"name": format!("bench-{number}"), "subject": format!("p:bench-{number}")});
        let path = "/v1/tenants/default/api-keys";
        let made = http.ask(&leader, "POST", path, &body.to_string()).await?;
        let made = made.json()?;
        let (Some(key), Some(id)) = (made["key"].as_str(), made["id"].as_u64()) else {
            return Err(PlaneError::Unreadable {
                body: made.to_string(),
            });
        };
        for visitor in &visitors {
            // A thread that is gone says so below.
            let _ = visitor.keys.send(key.to_owned());
        }
        for visitor in &visitors {
            heard(&visitor.came)?;
        }
        let answer = http
            .ask(&leader, "DELETE", &format!("{path}/{id}"), "")
            .await?;
        let answered = Instant::now();
        answer.good()?;
        let mut last = Duration::ZERO;
        for visitor in &visitors {
            let took = heard(&visitor.ended)?.saturating_duration_since(answered);
            record(&mut each, took);
            last = last.max(took);
        }
        record(&mut all, last);
    }
    section.times("each core", &each);
    section.bounded("the last of them", &all, (0.99, VISIBLE_MAX));
    Ok(section)
}

fn heard<T>(from: &Receiver<Result<T, NativeError>>) -> Result<T, PlaneError> {
    let said = from.recv_timeout(3 * NEVER);
    let said = said.map_err(|_| PlaneError::Publish("a connection said nothing".to_owned()))?;
    said.map_err(|error| PlaneError::Publish(error.to_string()))
}
