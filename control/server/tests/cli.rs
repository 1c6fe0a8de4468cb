//! The commands a newcomer types, against a node as a newcomer starts it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest anything here may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// `pinion serve` in a directory of its own, in which commands run too.
struct Node {
    dir: TempDir,
    address: String,
    child: Child,
    /// What it says on standard error after it listens.
    lines: Receiver<String>,
}

impl Node {
    fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pinion.toml"), CONFIG).unwrap();
        let mut child = pinion(dir.path())
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = read_lines(child.stderr.take().unwrap());
        let mut seen = Vec::new();
        let address = loop {
            let line = lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("it never listened: {seen:?}"));
            if let Some(rest) = line.trim().strip_prefix("listening") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
            seen.push(line);
        };
        Self {
            dir,
            address,
            child,
            lines,
        }
    }

    fn dev() -> Self {
        Self::start(&["--dev"])
    }

    /// A command in the node's directory with no flag but the address, which
    /// is not the default one here.
    fn command(&self, line: &str) -> Command {
        let mut command = pinion(self.dir.path());
        command
            .args(line.split(' '))
            .env("PINION_SERVER", &self.address);
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs a command that must do what it is asked; gives standard output.
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
        stdout(&output)
    }

    fn feed(&self, line: &str, input: &[u8]) -> Output {
        let mut child = self
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Written beside reading: a command that answers as it reads would wait
        // for us while we wait for it.
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        output
    }

    /// SIGTERM; gives the exit code, what was said, and how long it took.
    fn stop(mut self) -> (Option<i32>, String, Duration) {
        let asked = Instant::now();
        terminate(&self.child);
        let code = self.child.wait().unwrap().code();
        let took = asked.elapsed();
        (code, self.lines.iter().collect::<Vec<_>>().join("\n"), took)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, deaf to whatever the tests' environment says.
fn pinion(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PINION_")) {
        command.env_remove(name);
    }
    command
}

fn read_lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// One stream for whoever shows the token `secret`.
const CONFIG: &str = r#"
[[token]]
name = "writer"
sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
grants = [{ permissions = ["read", "write"], namespace = "payments" }]

[[resource]]
kind = "stream"
name = "payments/orders"

[[resource]]
kind = "stream"
name = "payments/small"
shards = 1
bytes = 65536
"#;

#[test]
fn what_was_published_is_read_back_with_no_further_flags() {
    let node = Node::dev();
    let published = node.run("pub payments/orders hello --key ana");
    assert_eq!(published.status.code(), Some(0), "{}", stderr(&published));
    assert!(stderr(&published).contains("published to payments/orders partition"));
    assert_eq!(
        node.ok("sub payments/orders --from earliest --count 1"),
        "hello\n"
    );

    let published = node.feed("pub payments/orders --key ana --file -", b"one\n\ntwo");
    assert_eq!(published.status.code(), Some(0), "{}", stderr(&published));
    assert!(stderr(&published).contains("published 3 records"));
    assert_eq!(
        node.ok("sub payments/orders --from earliest --count 4"),
        "hello\none\n\ntwo\n"
    );
    assert_eq!(
        node.ok("sub payments/orders --from 1h --count 4"),
        "hello\none\n\ntwo\n"
    );
}

#[test]
fn programs_get_json() {
    let node = Node::dev();
    fs::write(node.dir.path().join("bytes"), b"\xff\n").unwrap();
    let stored = node.ok("pub payments/orders --file bytes --whole --key k --header a=b --json");
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["offset"], 0);
    assert_eq!(stored["durability"], "memory");

    let record = node.ok("sub payments/orders --from earliest --count 1 --json");
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["event"], "record");
    assert_eq!(record["partition"], stored["partition"]);
    assert_eq!(record["key"], "k");
    assert_eq!(record["headers"][0][1], "b");
    assert_eq!(record["value"]["hex"], "ff0a");

    let info = node.ok("stream info payments/orders --json");
    let ends: u64 = info
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|row| row["end"].as_u64().unwrap())
        .sum();
    assert_eq!((info.lines().count(), ends), (4, 1));
}

#[test]
fn what_was_skipped_is_said_beside_the_records_or_among_them() {
    let node = Node::start(&["--dev", "--config", "pinion.toml"]);
    let lines: String = (0..5_000).map(|i| format!("record {i:0>50}\n")).collect();
    let published = node.feed("pub payments/small --json", lines.as_bytes());
    assert_eq!(published.status.code(), Some(0), "{}", stderr(&published));
    assert_eq!(stdout(&published).lines().count(), 5_000);

    // The ring holds far less than all of them.
    let read = node.run("sub payments/small --from 0 --wait 300ms");
    let (records, said) = (stdout(&read), stderr(&read));
    let kept = records.lines().count();
    assert!(kept > 0 && kept < 2_000, "{kept}");
    assert_eq!(records.lines().last(), lines.lines().last());
    let skipped = format!("lag: partition 0 offsets 0 to {} skipped", 4_999 - kept);
    assert!(said.contains(&skipped), "{skipped:?} is missing: {said}");

    let json = node.ok("sub payments/small --from 0 --wait 300ms --json");
    let first = json.lines().next().unwrap();
    let notice: serde_json::Value = serde_json::from_str(first).unwrap();
    assert_eq!(notice["event"], "lag");
    assert_eq!(notice["to"].as_u64(), Some(5_000 - kept as u64), "{notice}");
    assert_eq!(json.lines().count(), kept + 1);

    let beyond = node.run("sub payments/small --from 9999");
    assert_eq!(beyond.status.code(), Some(1));
    assert!(
        stderr(&beyond).contains("beyond the end"),
        "{}",
        stderr(&beyond)
    );
}

#[test]
fn a_subscription_gives_only_what_was_asked_for() {
    let node = Node::dev();
    for (value, kind) in [("calm", "wind"), ("wet", "rain"), ("gale", "wind")] {
        node.ok(&format!(
            "pub weather/now {value} --key k --header kind={kind}"
        ));
    }
    assert_eq!(
        node.ok("sub weather/now --from earliest --where kind=wind --count 2"),
        "calm\ngale\n"
    );
    let rest = node.run("sub weather/now --from earliest --count 9 --wait 300ms");
    assert_eq!(rest.status.code(), Some(1));
    assert_eq!(stdout(&rest), "calm\nwet\ngale\n");
    assert!(
        stderr(&rest).contains("3 of 9 records"),
        "{}",
        stderr(&rest)
    );
}

#[test]
fn the_cache_is_set_and_read_with_no_further_flags() {
    let node = Node::dev();
    assert!(
        node.ok("cache set payments/rates EUR 1.08")
            .starts_with("version ")
    );
    assert_eq!(node.ok("cache get payments/rates EUR"), "1.08\n");
    node.ok("cache set payments/rates USD 1 --ttl 10m");
    assert_eq!(
        node.ok("cache get payments/rates USD EUR"),
        "USD\t1\nEUR\t1.08\n"
    );
    let entry = node.ok("cache get payments/rates USD --json");
    let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
    let ttl = entry["ttl_ms"].as_u64().unwrap();
    assert!(ttl > 0 && ttl <= 600_000, "{entry}");

    let again = node.run("cache set payments/rates EUR 2 --if-absent");
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
    assert!(
        stderr(&again).contains("the key exists"),
        "{}",
        stderr(&again)
    );
    let absent = node.run("cache get payments/rates GBP");
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("no value for key GBP"));

    assert_eq!(node.ok("cache incr payments/rates hits --by 3"), "3\n");
    assert_eq!(node.ok("cache incr payments/rates hits --by -1"), "2\n");
    let mut keys: Vec<String> = node
        .ok("cache scan payments/rates --keys-only")
        .lines()
        .map(str::to_owned)
        .collect();
    keys.sort();
    assert_eq!(keys, ["EUR", "USD", "hits"]);
    assert_eq!(node.ok("cache del payments/rates EUR"), "EUR\tdeleted\n");
    assert_eq!(
        node.ok("cache del payments/rates EUR"),
        "EUR\twas not there\n"
    );
}

#[test]
fn a_watch_shows_changes_as_they_happen() {
    let node = Node::dev();
    let mut watch = node
        .command("cache watch payments/rates --prefix E --count 2")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = read_lines(watch.stderr.take().unwrap());
    assert_eq!(
        said.recv_timeout(PATIENCE).unwrap(),
        "watching payments/rates"
    );
    node.ok("cache set payments/rates EUR 1.08");
    node.ok("cache set payments/rates USD 1");
    node.ok("cache del payments/rates EUR");
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "set\tEUR\t1.08\ndeleted\tEUR\t\n");
}

#[test]
fn a_subscriber_ends_cleanly_when_told_to() {
    let node = Node::dev();
    node.ok("pub payments/orders first --key k");
    let mut reader = node
        .command("sub payments/orders --from earliest")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    terminate(&reader);
    assert_eq!(reader.wait().unwrap().code(), Some(0));
}

#[test]
fn a_subscriber_whose_reader_leaves_ends_without_complaint() {
    let node = Node::dev();
    node.ok("pub payments/orders first --key k");
    let mut reader = node
        .command("sub payments/orders --from earliest")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(reader.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    node.ok("pub payments/orders second --key k");
    let output = reader.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

#[test]
fn without_dev_nobody_is_let_in_without_a_token_and_is_told_how_to_get_one() {
    let node = Node::start(&["--config", "pinion.toml"]);
    // The certificate alone is not enough.
    let refused = node.run("pub payments/orders hello --key k --ca pinion-data/tls/ca.pem");
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(said.contains("--token FILE"), "{said}");
    assert!(said.contains("pinion token --name NAME"), "{said}");

    fs::write(node.dir.path().join("wrong"), "guess\n").unwrap();
    let wrong = "cache get payments/rates EUR --ca pinion-data/tls/ca.pem --token wrong";
    assert_eq!(node.run(wrong).status.code(), Some(1));

    // With the token it works, and only where it was granted.
    fs::write(node.dir.path().join("token"), "secret\n").unwrap();
    let with = |line: &str| format!("{line} --ca pinion-data/tls/ca.pem --token token");
    let published = node.run(&with("pub payments/orders hello --key k"));
    assert_eq!(published.status.code(), Some(0), "{}", stderr(&published));
    assert_eq!(
        node.ok(&with("sub payments/orders --from earliest --count 1")),
        "hello\n"
    );
    let elsewhere = node.run(&with("pub salaries/all hello"));
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(
        stderr(&elsewhere).contains("grant"),
        "{}",
        stderr(&elsewhere)
    );
    let undeclared = node.run(&with("cache get payments EUR"));
    assert_eq!(
        undeclared.status.code(),
        Some(2),
        "a name needs a namespace"
    );
}

#[test]
fn a_token_from_pinion_token_is_accepted_with_the_lines_it_prints() {
    let dir = tempfile::tempdir().unwrap();
    let minted = pinion(dir.path())
        .args(["token", "--name", "ops", "--permissions", "read"])
        .output()
        .unwrap();
    let token = stdout(&minted);
    let lines: Vec<String> = stderr(&minted)
        .lines()
        .skip_while(|line| !line.starts_with("[[token]]"))
        .map(str::to_owned)
        .collect();
    let config = format!("{}\n{CONFIG}", lines.join("\n"));
    let path = dir.path().join("with-token.toml");
    fs::write(&path, config).unwrap();
    let node = Node::start(&["--config", path.to_str().unwrap()]);
    fs::write(node.dir.path().join("token"), token).unwrap();
    let info = "stream info payments/orders --ca pinion-data/tls/ca.pem --token token";
    assert!(node.ok(info).contains("PARTITION"));
    let write = "pub payments/orders x --ca pinion-data/tls/ca.pem --token token";
    assert_eq!(node.run(write).status.code(), Some(1), "it may only read");
}

#[test]
fn a_missing_certificate_authority_is_named_with_the_place_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let output = pinion(dir.path())
        .args(["cache", "get", "a/b", "k"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("--ca FILE") && said.contains("serve --dev"),
        "{said}"
    );
}

#[test]
fn sigterm_drains_within_bounded_time_while_clients_are_connected() {
    let node = Node::dev();
    node.ok("pub payments/orders first --key k");
    let mut reader = node
        .command("sub payments/orders --from earliest")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    let (code, said, took) = node.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("drained"), "{said}");
    // The drain's own bound is 10 s; the rest is for a busy machine.
    assert!(took < Duration::from_secs(30), "{took:?}");
    terminate(&reader);
    reader.wait().unwrap();
}

#[test]
fn shells_get_completions_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = pinion(dir.path())
            .args(["completions", shell])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        let script = stdout(&output);
        for word in ["serve", "demo", "doctor", "bench", "cache", "token", "cert"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn doctor_gives_a_line_per_finding_and_the_exit_code_of_the_worst() {
    let dir = tempfile::tempdir().unwrap();
    let text = pinion(dir.path()).arg("doctor").output().unwrap();
    let json = pinion(dir.path())
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    assert_eq!(text.status.code(), json.status.code());
    let findings: Vec<serde_json::Value> = stdout(&json)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(findings.len() > 5, "{findings:?}");
    let fatal = findings
        .iter()
        .any(|finding| finding["severity"] == "fatal");
    assert_eq!(json.status.code(), Some(if fatal { 78 } else { 0 }));
    for finding in &findings {
        let severity = finding["severity"].as_str().unwrap();
        assert!(["ok", "warn", "fatal"].contains(&severity), "{finding}");
        // What is not as it should be comes with a way out.
        assert_eq!(finding["fix"].is_null(), severity == "ok", "{finding}");
        let found = finding["found"].as_str().unwrap();
        assert!(
            stdout(&text).contains(finding["check"].as_str().unwrap()),
            "{found}"
        );
    }
}

/// `pinion cert` in a directory: exit code, what it printed, what it said.
fn cert(dir: &Path, line: &str) -> (Option<i32>, String, String) {
    let output = pinion(dir)
        .arg("cert")
        .args(line.split(' '))
        .output()
        .unwrap();
    (output.status.code(), stdout(&output), stderr(&output))
}

#[test]
fn certificates_are_made_for_a_cluster_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, said) = cert(dir.path(), "node n1 --cluster shop");
    assert_eq!(code, Some(1));
    assert!(said.contains("pinion cert ca --dir pki"), "{said}");

    let mut lines = Vec::new();
    for line in [
        "ca --cluster shop",
        "ca --cluster shop --clients",
        "node n1 --cluster shop --host n1.example --host 192.0.2.1 --days 10 --json",
        "client orders --cluster shop --id spiffe://cluster.local/ns/shop/sa/orders --json",
    ] {
        let (code, printed, said) = cert(dir.path(), line);
        assert_eq!((code, &*said), (Some(0), ""), "{line}");
        lines.push(printed);
    }
    let node: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
    assert_eq!(node["id"], "spiffe://pinion/shop/node/n1");
    assert_eq!(node["certificate"], "pki/n1.pem");
    assert_eq!(node["key"], "pki/n1.key");
    assert!(node["until"].as_str().unwrap().starts_with("20"), "{node}");
    for (file, mode) in [
        ("ca.key", 0o600),
        ("client-ca.key", 0o600),
        ("n1.key", 0o600),
        ("orders.key", 0o600),
        ("n1.pem", 0o644),
    ] {
        let found = fs::metadata(dir.path().join("pki").join(file)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{file}");
    }

    let (_, listed, _) = cert(dir.path(), "list");
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!(listed.len(), 4, "{listed:?}");
    assert!(listed[0].starts_with("pki/ca.pem: an authority, until 20"));
    assert!(listed[2].starts_with("pki/n1.pem: spiffe://pinion/shop/node/n1, until"));

    let before = fs::read(dir.path().join("pki/n1.key")).unwrap();
    for (line, code, words) in [
        (
            "ca --cluster shop",
            1,
            "pki/ca.key is there already|pki/ca.pem is there already",
        ),
        ("node n1 --cluster shop", 1, "pki/n1.pem is there already"),
        (
            "node n2 --cluster other",
            1,
            "the authority of another cluster than other",
        ),
        ("node N2 --cluster shop", 2, "no name of a node"),
        ("node ca --cluster shop", 2, "no name of a file here"),
        (
            "client ../x --cluster shop --id spiffe://a/b",
            2,
            "no name of a file here",
        ),
        (
            "client x --cluster shop --id orders",
            2,
            "an id begins with spiffe://",
        ),
        (
            "ca --cluster a/b --dir new",
            2,
            "cannot be the name of the cluster",
        ),
        ("list --dir nowhere", 1, "cannot read nowhere"),
    ] {
        let (found, _, said) = cert(dir.path(), line);
        assert_eq!(found, Some(code), "{line}: {said}");
        assert!(
            words.split('|').any(|words| said.contains(words)),
            "{line}: {said}"
        );
    }
    assert_eq!(fs::read(dir.path().join("pki/n1.key")).unwrap(), before);
    assert!(!dir.path().join("pki/n2.key").exists());
    assert!(!dir.path().join("new").exists());
}
