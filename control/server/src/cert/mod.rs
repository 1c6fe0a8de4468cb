//! `pinion cert`: the certificates by which nodes of a cluster know each other, and by
//! which clients may say who they are.

pub(crate) mod authority;
mod life;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use pinion_auth::spiffe::{SpiffeError, SpiffeId};
use pinion_plane::PeerName;
use pinion_quic::tls;
use rustls_pki_types::UnixTime;
use serde::Serialize;

use crate::peers::node_id;
use crate::serve::{EXIT_FAILED, EXIT_USAGE};
use authority::{Authority, Pair, Signs};

/// Longest life: longer than any machine, and dates stay four digits.
const DAYS_MAX: u32 = 36_500;

/// When the first certificate of a chain ends, in RFC 3339; `None` where that cannot be read.
pub(crate) fn until(chain_pem: &str) -> Option<String> {
    let chain = tls::certificates(chain_pem.as_bytes()).ok()?;
    life::until(chain.first()?)
}

/// What is wanted.
#[derive(clap::Args)]
pub(crate) struct CertArgs {
    /// Where the files are
    #[arg(long, global = true, default_value = "pki", value_name = "DIR")]
    dir: PathBuf,
    /// Name of the cluster, as in `[cluster] name`
    #[arg(long, global = true, default_value = "pinion", value_name = "NAME")]
    cluster: String,
    /// Print one JSON object for each file instead of words
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Make an authority that signs for the nodes of a cluster (or for clients)
    Ca {
        /// It signs for clients: ca and client-ca never stand for each other
        #[arg(long)]
        clients: bool,
        /// Days until it ends
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
        days: u32,
    },
    /// Make the certificate of a node
    Node {
        /// Name of the node, as in `[cluster] node`
        name: String,
        /// A DNS name or address at which clients reach it; may be repeated [default: localhost, 127.0.0.1, ::1]
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Days until it ends
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
        days: u32,
    },
    /// Make the certificate of a client
    Client {
        /// Name of the files
        name: String,
        /// Who it is, as policies name it: spiffe://DOMAIN/PATH
        #[arg(long, value_name = "URI")]
        id: String,
        /// Days until it ends
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
        days: u32,
    },
    /// Say whose certificates there are, and until when they count
    List,
}

/// Why nothing was made. What was there is as it was.
#[derive(Debug, thiserror::Error)]
enum CertError {
    #[error("{path} is there already; remove it first, or choose another --dir")]
    Exists { path: PathBuf },
    #[error("cannot {verb} {path}: {source}")]
    File {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("there is no authority in {dir}; make one with `pinion cert ca{flag} --dir {dir}`")]
    NoAuthority { dir: String, flag: &'static str },
    #[error(
        "{path} did not sign it: it is the authority of another cluster than {cluster}, or has ended ({reason})"
    )]
    OtherAuthority {
        path: PathBuf,
        cluster: String,
        reason: rustls::Error,
    },
    #[error("{name:?} is no name of a node: lower case letters, digits, '-', '_' and '.' are")]
    Node { name: String },
    #[error("{name:?} is no name of a file here: letters, digits, '-', '_' and '.' are")]
    FileName { name: String },
    #[error("{id:?} is nobody: {source}")]
    Id { id: String, source: SpiffeError },
    #[error(
        "{name:?} cannot be the name of the cluster: one segment of letters, digits, '-', '_' and '.'"
    )]
    Cluster { name: String },
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{path} holds no certificate: {source}")]
    Unreadable {
        path: PathBuf,
        source: tls::TlsError,
    },
}

impl CertError {
    fn exit(&self) -> u8 {
        match self {
            Self::Node { .. } | Self::FileName { .. } | Self::Id { .. } | Self::Cluster { .. } => {
                EXIT_USAGE
            }
            _ => EXIT_FAILED,
        }
    }
}

/// One certificate, for people and machines.
#[derive(Debug, Serialize)]
struct Line {
    certificate: PathBuf,
    /// Beside it; absent when it is elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
    /// Absent in an authority's.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

pub(crate) fn run(args: &CertArgs) -> ExitCode {
    let outcome = match &args.what {
        What::Ca { clients, days } => args.make_authority(*clients, life(*days)),
        What::Node { name, hosts, days } => args.make_node(name, hosts, life(*days)),
        What::Client { name, id, days } => args.make_client(name, id, life(*days)),
        What::List => args.list(),
    };
    match outcome {
        Ok(lines) => {
            for line in &lines {
                args.print(line);
            }
            if lines.is_empty() && !args.json {
                println!("no certificates in {}", args.dir.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pinion: {error}");
            ExitCode::from(error.exit())
        }
    }
}

fn life(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

impl CertArgs {
    fn make_authority(&self, clients: bool, life: Duration) -> Result<Vec<Line>, CertError> {
        let signs = if clients {
            Signs::Clients
        } else {
            Signs::Nodes
        };
        // A name that no certificate of a node could hold is found now, not later.
        self.node_id("node")?;
        let (_, pair) = Authority::make(signs, &self.cluster, SystemTime::now(), life)?;
        self.write(signs.stem(), &pair).map(|line| vec![line])
    }

    fn make_node(
        &self,
        name: &str,
        hosts: &[String],
        life: Duration,
    ) -> Result<Vec<Line>, CertError> {
        if PeerName::new(name).is_err() {
            let name = name.to_owned();
            return Err(CertError::Node { name });
        }
        let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let hosts = if hosts.is_empty() { &local } else { hosts };
        let id = self.node_id(name)?;
        self.make(Signs::Nodes, name, &id, hosts, life)
    }

    fn make_client(&self, name: &str, id: &str, life: Duration) -> Result<Vec<Line>, CertError> {
        let id = SpiffeId::parse(id).map_err(|source| CertError::Id {
            id: id.to_owned(),
            source,
        })?;
        self.make(Signs::Clients, name, id.text(), &[], life)
    }

    fn make(
        &self,
        signs: Signs,
        name: &str,
        id: &str,
        hosts: &[String],
        life: Duration,
    ) -> Result<Vec<Line>, CertError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_ours = name == Signs::Nodes.stem() || name == Signs::Clients.stem();
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_plain) || is_ours {
            let name = name.to_owned();
            return Err(CertError::FileName { name });
        }
        let authority = self.path(signs.stem(), "pem");
        let key = self.path(signs.stem(), "key");
        if !authority.exists() || !key.exists() {
            let flag = match signs {
                Signs::Nodes => "",
                Signs::Clients => " --clients",
            };
            let dir = self.dir.display().to_string();
            return Err(CertError::NoAuthority { dir, flag });
        }
        let signer = Authority::load(signs, &self.cluster, &read(&key)?)?;
        let pair = signer.sign(id, hosts, SystemTime::now(), life)?;
        self.check(&authority, &pair, signs)?;
        self.write(name, &pair).map(|line| vec![line])
    }

    /// That whoever knows the authority will believe the certificate.
    fn check(&self, authority: &Path, pair: &Pair, signs: Signs) -> Result<(), CertError> {
        let unreadable = |source| CertError::Unreadable {
            path: authority.to_owned(),
            source,
        };
        let roots = tls::roots(read(authority)?.as_bytes()).map_err(unreadable)?;
        let chain = tls::certificates(pair.certificate.as_bytes()).map_err(unreadable)?;
        let checked = match signs {
            Signs::Nodes => tls::check_peer_chain(&roots, &chain, UnixTime::now()),
            Signs::Clients => tls::check_client_chain(&roots, &chain, UnixTime::now()),
        };
        checked.map_err(|reason| CertError::OtherAuthority {
            path: authority.to_owned(),
            cluster: self.cluster.clone(),
            reason,
        })
    }

    fn list(&self) -> Result<Vec<Line>, CertError> {
        let failed = |source| CertError::File {
            verb: "read",
            path: self.dir.clone(),
            source,
        };
        let mut lines = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|ending| ending == "pem") {
                lines.push(self.line(&path, &read(&path)?)?);
            }
        }
        lines.sort_by(|one, other| one.certificate.cmp(&other.certificate));
        Ok(lines)
    }

    fn line(&self, path: &Path, pem: &str) -> Result<Line, CertError> {
        let found = tls::certificates(pem.as_bytes());
        let found = found.map_err(|source| CertError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let key = path.with_extension("key");
        let leaf = found.first();
        Ok(Line {
            certificate: path.to_owned(),
            key: key.exists().then_some(key),
            id: leaf
                .and_then(|leaf| SpiffeId::of_certificate(leaf).ok())
                .map(|id| id.text().to_owned()),
            until: leaf.and_then(life::until),
        })
    }

    fn print(&self, line: &Line) {
        if self.json {
            println!("{}", serde_json::to_string(line).expect("plain data"));
            return;
        }
        let key = match &line.key {
            Some(key) => format!(", key {}", key.display()),
            None => String::new(),
        };
        let id = line.id.as_deref().unwrap_or("an authority");
        let until = line.until.as_deref().unwrap_or("an unknown day");
        println!("{}: {id}, until {until}{key}", line.certificate.display());
    }

    /// Both files or none, and never over another.
    fn write(&self, stem: &str, pair: &Pair) -> Result<Line, CertError> {
        fs::create_dir_all(&self.dir).map_err(|source| CertError::File {
            verb: "create",
            path: self.dir.clone(),
            source,
        })?;
        let (certificate, key) = (self.path(stem, "pem"), self.path(stem, "key"));
        if certificate.exists() {
            return Err(CertError::Exists { path: certificate });
        }
        // The key first: a certificate without its key would be in the way.
        create(&key, &pair.key, 0o600)?;
        if let Err(error) = create(&certificate, &pair.certificate, 0o644) {
            // It is of no use alone; what cannot be removed is named at the next try.
            let _ = fs::remove_file(&key);
            return Err(error);
        }
        self.line(&certificate, &pair.certificate)
    }

    fn path(&self, stem: &str, ending: &str) -> PathBuf {
        self.dir.join(format!("{stem}.{ending}"))
    }

    fn node_id(&self, node: &str) -> Result<String, CertError> {
        let name = self.cluster.clone();
        match node_id(&self.cluster, node) {
            Ok(id) if !self.cluster.contains('/') => Ok(id.text().to_owned()),
            _ => Err(CertError::Cluster { name }),
        }
    }
}

fn read(path: &Path) -> Result<String, CertError> {
    fs::read_to_string(path).map_err(|source| CertError::File {
        verb: "read",
        path: path.to_owned(),
        source,
    })
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CertError::Exists {
            path: path.to_owned(),
        },
        _ => CertError::File {
            verb: "write",
            path: path.to_owned(),
            source,
        },
    })
}
