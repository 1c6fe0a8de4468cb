//! What went wrong, what to do about it, and the exit code that says so.

use std::io;
use std::process::ExitCode;

use tokio_rustls::rustls;

use crate::http::{HttpError, Refused};
use pinion_client::{ConfigError, ConnectError, ErrorCode, RequestError, SubscribeError};

/// Refused or failed.
const EXIT_FAILED: u8 = 1;
/// Called wrongly.
const EXIT_USAGE: u8 = 2;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The options, or the files and variables they name, cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No connection.
    #[error(transparent)]
    Connect(ConnectError),
    /// The node, or the SDK on its behalf, said no.
    #[error(transparent)]
    Request(RequestError),
    /// A subscription or watch ended.
    #[error(transparent)]
    Subscribe(SubscribeError),
    /// A request over HTTPS.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A record of the input was not published.
    #[error("record {number}: {source}; {done} before it are stored")]
    Record {
        /// Counted from 1.
        number: u64,
        /// Acknowledged records.
        done: u64,
        source: RequestError,
    },
    /// A message of the input was not put.
    #[error("message {number}: {source}; {stored} others are in the queue")]
    Message {
        /// Counted from 1.
        number: u64,
        /// Acknowledged messages.
        stored: u64,
        source: RequestError,
    },
    /// Tokens or messages that were not settled; each was named before.
    #[error("{failed} of {of} were not settled")]
    Unsettled {
        failed: usize,
        of: usize,
        code: Option<ErrorCode>,
    },
    /// An option that is missing, or contradicts what is there.
    #[error("{0}")]
    Usage(String),
    /// A line does not fit a record.
    #[error("line {line} is longer than {limit} bytes, the most a record holds")]
    LineTooLong { line: u64, limit: usize },
    /// A system call on a file or a standard stream.
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },
    /// What was asked for is not there.
    #[error("no value for key {0}")]
    Absent(String),
    /// Something ended before it was complete.
    #[error("{0}")]
    Incomplete(String),
    /// Whoever read our output has left, as `head` does. No error.
    #[error("the output was closed")]
    OutputClosed,
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Config(error) => Self::Config(error),
            error => Self::Connect(error),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NotConnected(error) => error.into(),
            error => Self::Request(error),
        }
    }
}

impl From<SubscribeError> for Failure {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Request(error) => error.into(),
            error @ SubscribeError::Ended { .. } => Self::Subscribe(error),
        }
    }
}

impl Failure {
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            source,
        }
    }

    /// Prints the failure and the way out.
    pub(crate) fn report(&self) -> ExitCode {
        if matches!(self, Self::OutputClosed) {
            return ExitCode::SUCCESS;
        }
        eprintln!("error: {self}");
        if let Some(hint) = self.hint() {
            eprintln!("  hint: {hint}");
        }
        ExitCode::from(self.exit_code())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::LineTooLong { .. } | Self::Usage(_) => EXIT_USAGE,
            Self::Request(error) if is_usage(error) => EXIT_USAGE,
            Self::Record { source, .. } | Self::Message { source, .. } if is_usage(source) => {
                EXIT_USAGE
            }
            _ => EXIT_FAILED,
        }
    }

    /// What to do, where the message does not say it already.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Config(ConfigError::NoCa) => Some(
                "run this where the node was started with `pinion serve --dev`, or copy ca.pem from DIR/tls of the node's data directory and name it with --ca",
            ),
            Self::Config(ConfigError::Server { .. }) => {
                Some("pass --server HOST:PORT or set PINION_SERVER, for example 127.0.0.1:8080")
            }
            Self::Connect(error) => connect_hint(error),
            Self::Request(error) => code_hint(error.code()?),
            Self::Http(error) => http_hint(error),
            Self::Unsettled { code, .. } => code_hint((*code)?),
            Self::Record { source, .. } | Self::Message { source, .. } => match source {
                RequestError::NotConnected(error) => connect_hint(error),
                error => code_hint(error.code()?),
            },
            Self::Subscribe(SubscribeError::Ended { refusal, .. }) => code_hint(refusal.code),
            Self::LineTooLong { .. } => Some("--whole publishes a file as one record"),
            _ => None,
        }
    }
}

/// The caller wrote something no node would take.
const fn is_usage(error: &RequestError) -> bool {
    matches!(
        error,
        RequestError::BadName(_)
            | RequestError::TooLarge { .. }
            | RequestError::BadArgument { .. }
            | RequestError::Encode(_)
    )
}

fn connect_hint(error: &ConnectError) -> Option<&'static str> {
    match error {
        ConnectError::TimedOut { .. } | ConnectError::CircuitOpen { .. } => Some(
            "start a node with `pinion serve --dev`, or name another with --server HOST:PORT; it listens on UDP",
        ),
        ConnectError::Resolve { .. } => Some("check --server HOST:PORT (or PINION_SERVER)"),
        // TLS alerts and local verification failures alike (RFC 9001 §4.8).
        ConnectError::Handshake { .. } if !error.is_transient() => Some(
            "the certificate is not one --ca signs, or names another host: copy ca.pem again from the node's data directory (dev/ or tls/), or pass --server-name",
        ),
        ConnectError::Handshake { .. } => {
            Some("is that a Pinion node? Try again, and look at its standard error")
        }
        ConnectError::Refused(refusal) => code_hint(refusal.code),
        _ => None,
    }
}

fn http_hint(error: &HttpError) -> Option<&'static str> {
    match error {
        HttpError::Resolve { .. } => Some("check --server HOST:PORT (or PINION_SERVER)"),
        HttpError::Connect { .. } => Some(
            "start a node with `pinion serve --dev`, or name another with --server HOST:PORT; its administration listens on TCP, on the port of its data",
        ),
        HttpError::Tls { source, .. } => {
            Some(match source.get_ref().and_then(|e| e.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(_)) => {
                    "the certificate is not one --ca signs, or names another host: copy ca.pem again from the node's data directory (dev/ or tls/), or pass --server-name"
                }
                _ => "is that a Pinion node? Try again, and look at its standard error",
            })
        }
        HttpError::NotLoopback { .. } => Some("leave --cleartext out"),
        HttpError::TimedOut { .. } => Some(
            "--timeout gives it more time; `pinion admin raft status` says whether the cluster has a leader",
        ),
        HttpError::Refused(refused) => refused_hint(refused),
        _ => None,
    }
}

/// What to do about a refusal: by its word first, by its status otherwise.
fn refused_hint(refused: &Refused) -> Option<&'static str> {
    match (refused.code.as_str(), refused.status) {
        ("has_subscribers" | "has_data" | "not_empty", _) => {
            Some("--force deletes it all the same; it can be undeleted until its grace is over")
        }
        ("grace_required", _) => Some("nothing is deleted for good without --force"),
        ("version_conflict", _) => Some(
            "somebody changed it: look with `get`, and say the version it has now with --if-version",
        ),
        ("exists", _) => Some("`get` shows the one that is there; `update` changes it"),
        ("spec_conflict", _) => {
            Some("`get` shows the one that is there; `update` changes what can be changed")
        }
        ("deleting", _) => {
            Some("`undelete` takes it back; its name is free again when its grace is over")
        }
        ("parent_deleting", _) => {
            Some("undelete its tenant or namespace: what went with that comes back with it")
        }
        ("quota_exceeded", _) => {
            Some("an operator can raise the quota with `pinion admin tenant update`")
        }
        ("no_master_key", _) => {
            Some("give the nodes a master key: `[auth] master_key_file` in their configuration")
        }
        ("outside_scope", _) => {
            Some("you can grant only what you may do yourself: ask somebody whose rights cover it")
        }
        ("still_active", _) => Some("`pinion admin broker drain` first"),
        ("still_leading", _) => Some(
            "`pinion admin shard list --broker NAME` shows what it has; `shard rebalance` moves it",
        ),
        ("resnapshot_required", _) => {
            Some("take a new `pinion admin snapshot` and watch from its version")
        }
        (_, 401) => Some(
            "show a token with --token FILE: with `serve --dev` it is pinion-data/dev/admin.token; otherwise ask the node's operator, or `pinion admin token exchange` one of your identity provider",
        ),
        (_, 403) => Some(
            "your rights do not cover it: `pinion admin rbac policy list` shows who has which; operators have `admin:read` and `admin:write`",
        ),
        (_, 404) => {
            Some("what you may not see is not found either: check the name, --tenant and --token")
        }
        (_, 503) => Some(
            "`pinion admin raft status` says whether the cluster has a leader; a change goes through when most of its members are up",
        ),
        _ => None,
    }
}

fn code_hint(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::Unauthenticated => Some(
            "get a token from the node's operator: `pinion token --name NAME` prints one, and the [[token]] lines that make the node accept it",
        ),
        ErrorCode::Forbidden => Some(
            "the operator can add permissions (read, write, admin) to `grants` of your [[token]] in the node's configuration; adding to a counter needs read and write; making a resource, replaying and purging dead letters, and forgetting a group needs admin, which with `serve --dev` is --token pinion-data/dev/admin.token",
        ),
        ErrorCode::Draining => Some("the node is about to stop; try again when it is back"),
        ErrorCode::Backlogged => {
            Some("a subscriber with overflow `block` holds the stream; see `pinion stream info`")
        }
        ErrorCode::SpecConflict => Some(
            "`pinion stream info` and `pinion queue info` say what it is; a specification cannot be changed",
        ),
        ErrorCode::DurabilityFailed => Some(
            "look whether it is there before you send it again; `pinion doctor --data-dir DIR` on the node says what is wrong",
        ),
        ErrorCode::ReadOnly => {
            Some("free space on the node's disk: it goes on by itself within a second")
        }
        ErrorCode::PartitionFenced => Some(
            "`pinion log verify --data-dir DIR` on the node names the file, the byte and the way out",
        ),
        ErrorCode::InvalidToken | ErrorCode::TokenExpired => Some(
            "a token is good while its message is reserved: until it is settled, its lease is over, or the connection that took it is closed; take the message again",
        ),
        ErrorCode::QueueFull => Some(
            "its consumers do not keep up, or dead letters fill it: see `pinion queue info` and `pinion queue why`",
        ),
        ErrorCode::UnknownGroup => Some(
            "`pinion queue info` lists the groups there are; `pinion queue group create` makes one",
        ),
        ErrorCode::CursorUnknown => Some("`pinion stream cursor list` shows the ones there are"),
        ErrorCode::QuotaExceeded => Some(
            "send less, or have the quotas of the tenant or namespace raised: `pinion admin tenant get` and `pinion admin namespace get` show them",
        ),
        ErrorCode::EndedByOperator => {
            Some("begin again if it is still wanted; the audit log of the node says who ended it")
        }
        ErrorCode::ResourceClosed => Some(
            "`pinion admin stream undelete`, or the same for a queue or cache, takes its deletion back as long as its data is there",
        ),
        ErrorCode::SlowSubscriber => Some("resume with --from and the offset named above"),
        ErrorCode::NotACounter => {
            Some("`incr` needs a value that `incr` made; delete the key to begin anew")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pinion_client::Refusal;

    use super::*;

    #[test]
    fn a_missing_token_is_a_failure_that_says_how_to_get_one() {
        let refused = ConnectError::Refused(Refusal::new(ErrorCode::Unauthenticated));
        let failure = Failure::from(RequestError::NotConnected(refused));
        assert_eq!(failure.exit_code(), EXIT_FAILED);
        assert!(failure.to_string().contains("--token FILE"));
        assert!(
            failure
                .hint()
                .is_some_and(|hint| hint.contains("pinion token"))
        );
    }

    #[test]
    fn a_node_that_does_not_answer_is_a_failure_that_says_how_to_start_one() {
        let failure = Failure::from(ConnectError::TimedOut {
            server: "h:1".to_owned(),
            after: std::time::Duration::from_secs(5),
        });
        assert_eq!(failure.exit_code(), EXIT_FAILED);
        assert!(
            failure
                .hint()
                .is_some_and(|hint| hint.contains("serve --dev"))
        );
    }

    #[test]
    fn a_missing_authority_is_wrong_usage_that_says_where_it_is() {
        let failure = Failure::from(ConnectError::Config(ConfigError::NoCa));
        assert_eq!(failure.exit_code(), EXIT_USAGE);
        assert!(failure.hint().is_some_and(|hint| hint.contains("ca.pem")));
    }
}
