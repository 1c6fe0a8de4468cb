//! The server under test: where it is, how to trust it, how to open resources.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pinion_client::ClientConfig;
use pinion_client::native::{LinkId, NativeClient, NativeConfig};
use pinion_types::block::Record;
use pinion_types::{ErrorCode, ResourceKind};
use pinion_wire::message::{Handle, Open, Reply, Request, Spec};

use super::measure::BenchError;

/// Longest wait for a connection or one set-up request.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Everything a benchmark opens is in here.
pub const NAMESPACE: &str = "bench";

/// Where `pinion serve --dev` leaves what clients need.
const DEV_DIR: &str = "pinion-data/dev";

/// `count` records of the same `value`, without key or headers, as a request
/// carries them.
///
/// # Errors
/// The value is longer than a record's may be.
pub fn records_of(count: u32, value: &[u8]) -> Result<Vec<u8>, BenchError> {
    let record = Record {
        key: b"",
        headers: b"",
        value,
    };
    let mut records = Vec::new();
    for _ in 0..count {
        record.encode(&mut records).map_err(|error| {
            BenchError::Options(format!("records of {} bytes: {error}", value.len()))
        })?;
    }
    Ok(records)
}

/// Options every client command has.
#[derive(Clone, Debug, clap::Args)]
pub struct TargetArgs {
    /// Node to measure, HOST:PORT
    #[arg(long, env = "PINION_SERVER", default_value = "127.0.0.1:8080")]
    pub server: String,
    /// Roots that sign the node's certificate, PEM [default: pinion-data/dev/ca.pem]
    #[arg(long, env = "PINION_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Bearer token [default: pinion-data/dev/client.token]
    #[arg(long, env = "PINION_TOKEN", value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// Name the certificate must carry [default: HOST, or localhost on loopback]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
}

impl TargetArgs {
    /// The same for the SDK.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub fn sdk_config(&self) -> Result<ClientConfig, BenchError> {
        let ca = read("--ca", self.ca.as_deref(), "ca.pem")?;
        let token = read("--token", self.token.as_deref(), "client.token")?;
        let config = ClientConfig::new(self.server.clone())
            .ca_pem(ca)
            .token(token.trim_ascii())
            .name("pinion bench")
            .max_in_flight(4096);
        Ok(match &self.server_name {
            Some(name) => config.server_name(name.clone()),
            None => config,
        })
    }

    /// Reads the files and resolves the address.
    ///
    /// # Errors
    /// [`BenchError::Options`] says which file or name and what to do.
    pub fn config(&self) -> Result<NativeConfig, BenchError> {
        let address = self.address()?;
        let name = self.server_name.clone().unwrap_or_else(|| {
            if address.ip().is_loopback() {
                "localhost".to_owned()
            } else {
                self.server
                    .rsplit_once(':')
                    .map_or(self.server.as_str(), |(host, _)| host)
                    .trim_matches(['[', ']'])
                    .to_owned()
            }
        });
        let ca = read("--ca", self.ca.as_deref(), "ca.pem")?;
        let token = read("--token", self.token.as_deref(), "client.token")?;
        Ok(NativeConfig::new(address, &name, &ca, &token).client_name("pinion bench"))
    }

    fn address(&self) -> Result<SocketAddr, BenchError> {
        self.server
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| {
                BenchError::Options(format!(
                    "{:?} is not an address: pass --server HOST:PORT or set PINION_SERVER",
                    self.server
                ))
            })
    }
}

fn read(option: &str, given: Option<&Path>, dev_name: &str) -> Result<Vec<u8>, BenchError> {
    let path = given.map_or_else(|| Path::new(DEV_DIR).join(dev_name), Path::to_path_buf);
    fs::read(&path).map_err(|error| {
        BenchError::Options(format!(
            "{}: {error}; pass {option} FILE (a node started with --dev writes DIR/dev/{dev_name})",
            path.display()
        ))
    })
}

/// A resource as one connection sees it.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its handle on that connection.
    pub handle: Handle,
    /// The data core of each partition.
    pub cores: Vec<u16>,
}

impl Opened {
    /// How many partitions it has.
    #[must_use]
    pub fn shards(&self) -> u16 {
        u16::try_from(self.cores.len()).unwrap_or(u16::MAX).max(1)
    }
}

/// Opens `bench/NAME` on one connection.
///
/// # Errors
/// The node refuses, or does not answer.
pub fn open(
    client: &mut NativeClient,
    link: LinkId,
    kind: ResourceKind,
    name: &str,
) -> Result<Opened, BenchError> {
    open_as(client, link, kind, name, None)
}

/// The same, declared with `spec`.
///
/// # Errors
/// The node refuses, or does not answer.
pub fn open_as(
    client: &mut NativeClient,
    link: LinkId,
    kind: ResourceKind,
    name: &str,
    spec: Option<Spec>,
) -> Result<Opened, BenchError> {
    let request = Request::Open(Open {
        kind,
        namespace: NAMESPACE,
        name,
        spec,
    });
    let reply = client.call(link, &request, PATIENCE, |_| {})?;
    match reply.decode() {
        Ok(Reply::Opened(opened)) => Ok(Opened {
            handle: opened.handle,
            cores: opened.cores.iter().collect(),
        }),
        Ok(Reply::Error(refusal)) if spec.is_some() && refusal.code == ErrorCode::Forbidden => {
            Err(BenchError::Options(format!(
                "this token may not declare {NAMESPACE}/{name}; pass --token with an administrator's \
                 (a node started with --dev writes DIR/dev/admin.token)"
            )))
        }
        other => Err(unexpected("OPEN", &other)),
    }
}

/// Connects and opens `bench/NAME`, on the core that owns its first partition.
///
/// # Errors
/// The node refuses, or does not answer.
pub fn connect_to_owner(
    client: &mut NativeClient,
    kind: ResourceKind,
    name: &str,
    spec: Option<Spec>,
) -> Result<(LinkId, Opened), BenchError> {
    let link = client.connect(None, PATIENCE)?;
    let opened = open_as(client, link, kind, name, spec)?;
    let core = opened.cores.first().copied().unwrap_or(0);
    if client.welcome(link).is_none_or(|w| w.core == core) {
        return Ok((link, opened));
    }
    client.close(link);
    let link = client.connect(Some(core), PATIENCE)?;
    let opened = open_as(client, link, kind, name, spec)?;
    Ok((link, opened))
}

/// One partition of a stream or queue, everything else as the node likes it.
#[must_use]
pub const fn one_partition(durable: bool) -> Spec {
    if durable {
        Spec::durable(1)
    } else {
        Spec::ephemeral(1)
    }
}

/// An answer that does not fit its question.
pub fn unexpected(question: &'static str, answer: &impl std::fmt::Debug) -> BenchError {
    let mut answer = format!("{answer:?}");
    answer.truncate(200);
    BenchError::Unexpected {
        peer: "the node",
        question,
        answer,
    }
}

/// Connects `count` connections, spread over the data cores: connection `i`
/// aims at core `i mod cores`.
///
/// # Errors
/// The node refuses, or does not answer.
pub fn connect_spread(client: &mut NativeClient, count: usize) -> Result<Vec<LinkId>, BenchError> {
    let first = client.connect(None, PATIENCE)?;
    let (landed, cores) = client.welcome(first).map_or((0, 1), |w| {
        (usize::from(w.core), usize::from(w.data_cores.max(1)))
    });
    let mut links = vec![first];
    for index in 1..count {
        let core = u16::try_from((landed + index) % cores).unwrap_or(0);
        links.push(client.connect(Some(core), PATIENCE)?);
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(server: &str) -> TargetArgs {
        TargetArgs {
            server: server.to_owned(),
            ca: Some("/nonexistent/ca.pem".into()),
            token: None,
            server_name: None,
        }
    }

    #[test]
    fn a_missing_file_is_named_with_the_option_that_sets_it() {
        let error = target("127.0.0.1:1").config().expect_err("no such file");
        let text = error.to_string();
        assert!(text.contains("/nonexistent/ca.pem"), "{text}");
        assert!(text.contains("--ca FILE"), "{text}");
    }

    #[test]
    fn a_server_without_port_is_refused_with_a_hint() {
        let text = target("127.0.0.1")
            .config()
            .expect_err("no port")
            .to_string();
        assert!(text.contains("--server HOST:PORT"), "{text}");
    }
}
