//! Commands against a real HTTP server that checks what it is asked and answers as it is told.

mod applied;
mod cluster;
mod declared;
mod rights;
mod way;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::AdminArgs;
use crate::output::Printer;

/// The token that every command shows.
const TOKEN: &str = "pinion_t0ken";

#[derive(Parser)]
#[command(name = "pinion")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Admin(AdminArgs),
}

/// What was asked.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    /// Path and query.
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Value>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(one, _)| one == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} was sent twice");
        value
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    /// The connection is closed before the answer.
    lost: bool,
}

#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    asked: Vec<Asked>,
}

/// A server on loopback that gives the replies in their order.
struct Server {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Server {
    async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let script = Arc::new(Mutex::new(Script {
            replies: replies.into(),
            asked: Vec::new(),
        }));
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { serve(TokioIo::new(tcp), shared).await });
            }
        });
        Self { address, script }
    }

    fn asked(&self) -> Vec<Asked> {
        self.script.lock().expect("no panic").asked.clone()
    }
}

/// Answers one connection until its script or its peer ends.
async fn serve<T>(io: TokioIo<T>, script: Arc<Mutex<Script>>)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let service = service_fn(|request: Request<Incoming>| {
        let script = Arc::clone(&script);
        async move {
            let asked = read(request).await;
            let mut script = script.lock().expect("no panic");
            script.asked.push(asked);
            let reply = script.replies.pop_front().unwrap_or_else(|| Reply {
                status: 418,
                body: r#"{"code":"unexpected","message":"the script is over"}"#.to_owned(),
                ..Reply::default()
            });
            if reply.lost {
                return Err("lost");
            }
            let mut response = Response::builder().status(reply.status);
            for (name, value) in &reply.headers {
                response = response.header(*name, value);
            }
            Ok(response
                .body(Full::new(Bytes::from(reply.body)))
                .expect("a good reply"))
        }
    });
    drop(http1::Builder::new().serve_connection(io, service).await);
}

async fn read(request: Request<Incoming>) -> Asked {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_else(|_: hyper::Error| Bytes::new());
    Asked {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| {
                let value = value.to_str().expect("visible");
                (name.to_string(), value.to_owned())
            })
            .collect(),
        body: (!body.is_empty()).then(|| serde_json::from_slice(&body).expect("JSON")),
    }
}

/// Runs `pinion admin …` against `server`; gives what it printed and, if it failed, why.
async fn run(server: &Server, line: &str) -> (String, Option<String>) {
    let words = words(line);
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("token");
    std::fs::write(&token, format!("{TOKEN}\n")).expect("written");
    let address = server.address.to_string();
    let more = [
        "--cleartext",
        "--server",
        &address,
        "--token",
        token.to_str().expect("UTF-8"),
    ];
    let all = words.iter().map(String::as_str).chain(more);
    let Command::Admin(args) = match Cli::try_parse_from(all) {
        Ok(cli) => cli.command,
        Err(error) => return (String::new(), Some(error.to_string())),
    };
    let mut printer = Printer::kept();
    let result = super::execute(&args, &mut printer).await;
    (printer.text(), result.err().map(|error| error.to_string()))
}

/// A line as a shell takes it apart: single quotes keep blanks together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// A story of one command: `$` is the command, `>` what the node is asked, `<` what it answers
/// (status, `@version` if there is one, body), `!` how the command fails; the rest is what is
/// printed.
async fn check(story: &str) {
    let mut line = String::new();
    let mut expected: Vec<(String, String, Option<Value>)> = Vec::new();
    let mut replies = Vec::new();
    let mut printed = String::new();
    let mut fails = None;
    let trimmed = story
        .lines()
        .map(str::trim_end)
        .filter(|l| !l.trim().is_empty());
    let lines: Vec<&str> = trimmed.collect();
    let indent = lines
        .iter()
        .map(|l| l.len() - l.trim_start().len())
        .min()
        .unwrap_or(0);
    for text in lines {
        let text = &text[indent..];
        match text.split_once(' ') {
            Some(("$", command)) => line = command.to_owned(),
            Some(("!", failure)) => fails = Some(failure.to_owned()),
            Some((">", request)) => {
                let mut parts = request.splitn(3, ' ');
                let method = parts.next().expect("a method").to_owned();
                let target = parts.next().expect("a target").to_owned();
                let body = parts.next().map(json);
                expected.push((method, target, body));
            }
            Some(("<", reply)) => replies.push(reply_of(reply)),
            _ => {
                printed.push_str(text);
                printed.push('\n');
            }
        }
    }
    let server = Server::start(replies).await;
    let (out, failure) = run(&server, &line).await;
    let asked = server.asked();
    let got: Vec<_> = asked
        .iter()
        .map(|one| (one.method.clone(), one.target.clone(), one.body.clone()))
        .collect();
    assert_eq!(got, expected, "{line}: what was asked; it said {failure:?}");
    assert_eq!(failure, fails, "{line}: how it ended");
    assert_eq!(out, printed, "{line}: what was printed\n{out}");
    for one in &asked {
        let write = one.method != "GET";
        assert_eq!(
            one.header("host"),
            Some(server.address.to_string().as_str())
        );
        let id = one.header("x-request-id");
        assert_eq!(id.is_some(), write, "{line}: a number for each write");
        assert!(id.is_none_or(|id| id.len() == 32), "{line}: {id:?}");
        let kind = one.body.as_ref().map(|_| "application/json");
        assert_eq!(one.header("content-type"), kind, "{line}");
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn reply_of(text: &str) -> Reply {
    let (status, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut reply = Reply {
        status: status.parse().expect("a status"),
        body: rest.to_owned(),
        ..Reply::default()
    };
    if let Some(tagged) = rest.strip_prefix('@') {
        let (version, body) = tagged.split_once(' ').unwrap_or((tagged, ""));
        reply.headers.push(("etag", format!("\"{version}\"")));
        reply.body = body.to_owned();
    }
    reply
}
