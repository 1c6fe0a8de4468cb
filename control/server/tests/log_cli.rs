//! What is durable, from the command line: queues, cursors, and the logs of a
//! data directory, whole and damaged.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Longest anything here may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// The smallest segments, so that a few megabytes are several; declared
/// resources, because the client's token may not declare any.
const CONFIG: &str = r#"
[storage]
segment_bytes = 4194304

[[resource]]
kind = "stream"
name = "pay/orders"
shards = 1
durable = true

[[resource]]
kind = "stream"
name = "pay/quiet"
shards = 1
durable = true

[[resource]]
kind = "queue"
name = "jobs/mail"
shards = 1
queue = { max_attempts = 1 }
"#;

/// The binary in a directory, deaf to whatever the tests' environment says.
fn pinion(dir: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinion"));
    command
        .current_dir(dir)
        .args(line.split(' '))
        .stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PINION_")) {
        command.env_remove(name);
    }
    command
}

fn run(dir: &Path, line: &str) -> Output {
    pinion(dir, line).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code, standard output, standard error.
fn told(output: &Output) -> (Option<i32>, String, String) {
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn rows(json: &str) -> Vec<Value> {
    json.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// `pinion serve --dev` on a data directory that outlives it.
struct Node<'d> {
    dir: &'d Path,
    address: String,
    child: Child,
}

impl<'d> Node<'d> {
    fn start(dir: &'d Path) -> Self {
        fs::write(dir.join("pinion.toml"), CONFIG).unwrap();
        let mut child = pinion(dir, "serve --dev --listen 127.0.0.1:0 --config pinion.toml")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
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
        // Whatever it says later is read, so that it never waits for us.
        thread::spawn(move || lines.iter().for_each(drop));
        Self {
            dir,
            address,
            child,
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = pinion(self.dir, line);
        command.env("PINION_SERVER", &self.address);
        command
    }

    fn run(&self, line: &str) -> (Option<i32>, String, String) {
        told(&self.command(line).output().unwrap())
    }

    /// Runs what must succeed; gives standard output.
    fn ok(&self, line: &str) -> String {
        let (code, out, err) = self.run(line);
        assert_eq!(code, Some(0), "{line}: {err}");
        out
    }

    fn feed(&self, line: &str, input: &str) -> String {
        let mut child = self
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
        let (code, out, err) = told(&child.wait_with_output().unwrap());
        writer.join().unwrap().unwrap();
        assert_eq!(code, Some(0), "{line}: {err}");
        out
    }

    /// SIGTERM, so that it seals its logs.
    fn stop(mut self) {
        signal(&self.child, rustix::process::Signal::TERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A data directory of a node that stopped: some megabytes of one stream, a
/// record of another, a message.
fn stopped() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let lines: String = (0..7_000).map(|i| format!("order {i:0>1000}\n")).collect();
    node.feed("pub pay/orders --file -", &lines);
    node.ok("pub pay/quiet hush");
    node.ok("queue put jobs/mail hello");
    node.stop();
    dir
}

/// Where `pinion log dump` says the `nth` record of a kind of a resource is:
/// its file, and a byte in the middle of its body.
fn body_of(dir: &Path, resource: &str, kind: &str, nth: usize) -> (String, PathBuf, u64) {
    let (code, out, err) = told(&run(dir, &format!("log dump --json --resource {resource}")));
    assert_eq!(code, Some(0), "{err}");
    let record = rows(&out)
        .into_iter()
        .filter(|row| row["kind"] == kind)
        .nth(nth)
        .unwrap();
    let number = |field: &str| record[field].as_u64().unwrap();
    let file = format!("log-{:04}/{:020}.segment", number("log"), number("segment"));
    let body = number("offset") + number("bytes") - number("body_bytes") / 2;
    let path = dir.join("pinion-data").join(&file);
    (file, path, body)
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

// ------------------------------------------------------------------- the logs

#[test]
fn a_sound_log_is_listed_verified_and_dumped() {
    let dir = stopped();
    let dir = dir.path();

    let (code, out, err) = told(&run(dir, "log inspect"));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for word in [
        "store ",
        "log 0: ",
        "SEGMENT",
        "sealed",
        "log 65534 (metadata)",
        "log 65533 (audit)",
    ] {
        assert!(out.contains(word), "{word:?} is missing in {out}");
    }
    assert!(!out.contains("has it open"), "{out}");
    let json = rows(&text(&run(dir, "log inspect --json --log 0").stdout));
    assert_eq!(json[0]["event"], "store");
    let segments: Vec<&Value> = json
        .iter()
        .filter(|row| row["event"] == "segment")
        .collect();
    assert!(segments.len() > 1, "{json:#?}");
    // Records are counted through, from one segment to the next.
    let mut next = 1;
    for segment in &segments {
        if segment["records"] != 0 {
            assert_eq!(segment["first_lsn"], next, "{segment}");
            next = segment["last_lsn"].as_u64().unwrap() + 1;
        }
    }

    let (code, out, _) = told(&run(dir, "log verify"));
    assert_eq!(code, Some(0), "{out}");
    assert!(out.lines().last().unwrap().starts_with("sound: "), "{out}");

    let (code, out, _) = told(&run(dir, "log dump --resource jobs/mail"));
    assert_eq!(code, Some(0));
    assert!(
        out.contains("queue_put") && !out.contains("stream_block"),
        "{out}"
    );
    let blocks = rows(&text(
        &run(dir, "log dump --json --resource pay/orders").stdout,
    ));
    let records: u64 = blocks.iter().filter_map(|row| row["count"].as_u64()).sum();
    assert_eq!(records, 7_000, "every record is in one block");
    let first = "log dump --json --resource pay/quiet --limit 1 --bytes";
    let record = &rows(&text(&run(dir, first).stdout))[0];
    let hush: String = b"hush".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(
        record["body"].as_str().unwrap().ends_with(&hush),
        "{record}"
    );
    for (log, kinds) in [
        (65534, &["raft_entry", "raft_promise"][..]),
        (65533, &["audit_row"]),
    ] {
        let (code, out, _) = told(&run(dir, &format!("log dump --log {log}")));
        assert_eq!(code, Some(0));
        for kind in kinds {
            assert!(out.contains(kind), "{kind} is missing in {out}");
        }
        assert!(
            !out.contains("pay/"),
            "numbers there are no resources: {out}"
        );
    }
    let nobody = run(dir, "log dump --resource pay/nothing");
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn a_flipped_bit_is_named_by_log_segment_and_byte_with_who_is_harmed_and_what_to_do() {
    let dir = stopped();
    let dir = dir.path();
    let (file, path, at) = body_of(dir, "pay/orders", "stream_block", 3);
    flip(&path, at);

    let (code, out, err) = told(&run(dir, "log verify --json"));
    assert_eq!(code, Some(1), "{out}{err}");
    let findings: Vec<Value> = rows(&out)
        .into_iter()
        .filter(|row| row["event"] == "finding" && row["severity"] != "note")
        .collect();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let finding = &findings[0];
    assert_eq!(finding["severity"], "loss");
    assert_eq!(finding["file"], file.as_str());
    let from = finding["offset"].as_u64().unwrap();
    let len = finding["bytes"].as_u64().unwrap();
    assert!((from..from + len).contains(&at), "{at} in {finding}");
    let harmed: Vec<&str> = finding["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["resource"].as_str().unwrap())
        .collect();
    assert_eq!(harmed, ["pay/orders"], "nobody else's");

    let (code, out, _) = told(&run(dir, "log verify"));
    assert_eq!(code, Some(1));
    for words in [
        format!("LOSS    {file} byte {from} ("),
        "closes pay/orders partition 0".to_owned(),
        format!("restore pinion-data/{file} from a backup"),
        "DAMAGED: 1 place of ".to_owned(),
    ] {
        assert!(out.contains(&words), "{words:?} is missing in {out}");
    }

    // The rest is still to be had, and what is not is said.
    let (code, out, err) = told(&run(dir, "log dump --json"));
    assert_eq!(code, Some(1));
    assert!(out.contains("\"resource\":\"pay/quiet\""), "{out}");
    assert!(out.contains("\"event\":\"finding\""), "{err}");

    // Put back as it was, it holds again.
    flip(&path, at);
    assert_eq!(run(dir, "log verify").status.code(), Some(0));
}

#[test]
fn the_doctor_names_damage_when_it_reads_everything() {
    let dir = stopped();
    let dir = dir.path();
    let (file, path, at) = body_of(dir, "pay/orders", "stream_block", 0);
    flip(&path, at);
    let unfit = |findings: &[Value]| {
        let ours =
            |row: &Value| ["log", "store", "in use"].contains(&row["check"].as_str().unwrap());
        findings
            .iter()
            .any(|row| row["severity"] == "fatal" && !ours(row))
    };

    let quick = run(dir, "doctor --json");
    let findings = rows(&text(&quick.stdout));
    let of = |check: &str| {
        let found = findings.iter().find(|row| row["check"] == check);
        found.unwrap_or_else(|| panic!("no {check}: {findings:#?}"))
    };
    assert_eq!(of("in use")["found"], "no node has the directory open");
    assert!(of("store")["found"].as_str().unwrap().contains("format 1"));
    assert!(of("log")["found"].as_str().unwrap().contains("--deep"));
    for check in [
        "data directory",
        "file system",
        "direct i/o",
        "disk latency",
        "disk space",
    ] {
        of(check);
    }
    let expected = if unfit(&findings) { 78 } else { 0 };
    assert_eq!(
        quick.status.code(),
        Some(expected),
        "headers and footers hold"
    );

    let deep = run(dir, "doctor --json --deep");
    let findings = rows(&text(&deep.stdout));
    let damaged: Vec<&Value> = findings
        .iter()
        .filter(|row| row["check"] == "log" && row["severity"] == "fatal")
        .collect();
    assert_eq!(damaged.len(), 1, "{findings:#?}");
    let found = damaged[0]["found"].as_str().unwrap();
    assert!(found.starts_with(&format!("{file} byte ")), "{found}");
    assert!(found.ends_with("closes pay/orders partition 0"), "{found}");
    assert!(damaged[0]["fix"].as_str().unwrap().contains("backup"));
    let expected = if unfit(&findings) { 78 } else { 1 };
    assert_eq!(deep.status.code(), Some(expected));
}

#[test]
fn a_lost_footer_is_made_anew_and_a_vanished_or_foreign_file_is_a_loss_or_left_alone() {
    let dir = stopped();
    let dir = dir.path();
    let log = dir.join("pinion-data/log-0000");
    let first = log.join("00000000000000000001.segment");
    let whole = fs::read(&first).unwrap();

    fs::write(log.join("notes.txt"), "mine").unwrap();
    let (code, out, _) = told(&run(dir, "log inspect"));
    assert_eq!(code, Some(0));
    assert!(
        out.contains("notes.txt is not a file of a log; left alone"),
        "{out}"
    );

    // The last block of a sealed segment is its footer's trailer.
    flip(&first, whole.len() as u64 - 4096 + 20);
    let (code, out, _) = told(&run(dir, "log verify"));
    assert_eq!(code, Some(0), "nothing is lost: {out}");
    assert!(
        out.contains("derived log-0000/00000000000000000001.segment"),
        "{out}"
    );
    assert!(out.contains("the next start makes it anew"), "{out}");

    fs::write(&first, []).unwrap();
    let (code, out, _) = told(&run(dir, "log verify"));
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("LOSS    log-0000/00000000000000000001.segment"),
        "{out}"
    );
    fs::write(&first, &whole).unwrap();

    let second = log.join("00000000000000000002.segment");
    fs::rename(&second, dir.join("moved away")).unwrap();
    let (code, out, _) = told(&run(dir, "log verify --log 0"));
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("LOSS    log-0000/00000000000000000002.segment"),
        "{out}"
    );
    assert!(out.contains("the file vanished"), "{out}");
    assert!(out.contains("closes every partition of the log: "), "{out}");
}

#[test]
fn a_directory_of_another_kind_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (code, _, err) = told(&run(dir, "log verify --data-dir nowhere"));
    assert_eq!(code, Some(1));
    assert!(
        err.contains("nowhere is not there") && err.contains("--data-dir"),
        "{err}"
    );

    fs::create_dir(dir.join("empty")).unwrap();
    let (code, out, _) = told(&run(dir, "log verify --data-dir empty"));
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("no logs"), "{out}");
    assert!(
        fs::read_dir(dir.join("empty")).unwrap().next().is_none(),
        "only read"
    );

    // Logs without the file that says whose they are.
    fs::create_dir_all(dir.join("nameless/log-0000")).unwrap();
    let (code, out, _) = told(&run(dir, "log verify --data-dir nameless"));
    assert_eq!(code, Some(1));
    assert!(out.contains("holds logs but no pinion.store"), "{out}");
    let (code, _, err) = told(&run(dir, "log inspect --data-dir nameless --log 7"));
    assert_eq!(code, Some(1));
    assert!(err.contains("has no log 7; it has 0"), "{err}");
}

#[test]
fn a_running_node_is_said_to_have_the_directory_open_and_is_not_disturbed() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.ok("pub pay/quiet hush");
    let (code, out, _) = told(&run(dir.path(), "log verify"));
    assert_eq!(code, Some(0), "{out}");
    let holder = format!("process {} has it open", node.child.id());
    assert!(out.contains(&holder), "{out}");
    let doctor = text(&run(dir.path(), "doctor").stdout);
    assert!(
        doctor.contains(&format!("by process {}", node.child.id())),
        "{doctor}"
    );
    node.ok("pub pay/quiet again");
    node.stop();
}

#[test]
fn shells_complete_these_commands_too() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&run(dir.path(), &format!("completions {shell}")).stdout);
        for word in [
            "queue", "dlq", "cursor", "inspect", "verify", "dump", "deep",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

// ----------------------------------------------------------- queues, by command

#[test]
fn work_is_put_looked_at_taken_and_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let stored = rows(&node.feed("queue put jobs/mail --json", "one\ntwo\nthree\n"));
    assert_eq!(stored.len(), 3);
    assert_eq!(stored[2]["id"], 2);
    assert_eq!(stored[0]["durability"], "disk");
    assert!(node.ok("queue why jobs/mail").contains("3 messages"));

    // What is neither acknowledged nor held goes back.
    let (code, out, err) = node.run("queue take jobs/mail");
    assert_eq!((code, out.as_str()), (Some(0), "one\n"));
    assert!(err.contains("given back"), "{err}");
    assert_eq!(node.ok("queue take jobs/mail --max 2 --ack"), "one\ntwo\n");
    let peeked = rows(&node.ok("queue peek jobs/mail --json"));
    assert_eq!(peeked.len(), 1, "{peeked:?}");
    assert_eq!(peeked[0]["state"], "ready");
    assert_eq!(peeked[0]["value"], "three");

    assert_eq!(
        node.ok("queue consume jobs/mail --count 1 --wait 10s"),
        "three\n"
    );
    let (code, out, err) = node.run("queue take jobs/mail");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("pinion queue why jobs/mail"), "{err}");
    assert!(
        node.ok("queue why jobs/mail")
            .contains("there is no message")
    );
}

#[test]
fn a_held_message_is_settled_by_its_token_from_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.feed("queue put jobs/mail", "a\nb\n");
    let mut holder = node
        .command("queue take jobs/mail --hold --max 2")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let mut token = || {
        let line = lines.next().unwrap().unwrap();
        line.split('\t').next().unwrap().to_owned()
    };
    let (a, b) = (token(), token());
    let acked = node.ok(&format!("queue ack jobs/mail {a}"));
    assert_eq!(acked, format!("{a}\tacked\n"));
    assert!(
        node.ok(&format!("queue extend jobs/mail {b} --lease 1m"))
            .contains("extended")
    );
    assert!(
        node.ok(&format!("queue nack jobs/mail {b} --error boom"))
            .contains("nacked")
    );
    // All are settled, so there is nothing left to hold.
    assert_eq!(holder.wait().unwrap().code(), Some(0));

    let (code, out, err) = node.run(&format!("queue release jobs/mail {b}"));
    assert_eq!(code, Some(1));
    assert!(out.starts_with(&b), "{out}");
    assert!(
        err.contains("1 of 1 were not settled") && err.contains("hint"),
        "{err}"
    );

    // One attempt is all it had.
    let dead = rows(&node.ok("queue dlq list jobs/mail --json"));
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0]["reason"], "failed");
    assert_eq!(dead[0]["last_error"], "boom");
    assert_eq!(
        rows(&node.ok("queue dlq list jobs/mail --error-prefix x --json")).len(),
        0
    );
    // What is made of them is not for who takes messages.
    let admin = "--token pinion-data/dev/admin.token";
    let (code, _, err) = node.run("queue dlq replay jobs/mail --id 0:1");
    assert_eq!(code, Some(1));
    assert!(
        err.contains("dead letters") && err.contains("needs admin"),
        "{err}"
    );
    assert!(
        node.ok(&format!("queue dlq replay jobs/mail --id 0:1 {admin}"))
            .starts_with("1 dead letter")
    );
    assert_eq!(node.ok("queue take jobs/mail --ack"), "b\n");
}

#[test]
fn nothing_is_forgotten_unasked_and_a_group_sees_every_message_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let admin = "--token pinion-data/dev/admin.token";
    node.ok("queue put jobs/mail hello");
    node.ok("queue group create jobs/mail audit");
    assert_eq!(node.ok("queue take jobs/mail --ack"), "hello\n");
    assert_eq!(
        node.ok("queue take jobs/mail --group audit --ack"),
        "hello\n"
    );
    for line in [
        "queue dlq purge jobs/mail",
        "queue group delete jobs/mail audit",
    ] {
        let (code, _, err) = node.run(line);
        assert_eq!(code, Some(2), "{line}");
        assert!(err.contains("--yes"), "{err}");
    }
    assert_eq!(
        node.ok(&format!("queue dlq purge jobs/mail --yes {admin}")),
        "0 dead letters forgotten\n"
    );
    assert_eq!(
        node.ok(&format!("queue group delete jobs/mail audit --yes {admin}")),
        "audit\tdeleted\n"
    );
    let (code, _, err) = node.run("queue take jobs/mail --group nobody");
    assert!(code == Some(1), "{err}");
}

// ------------------------------------------------------------ streams, by name

#[test]
fn a_named_place_survives_the_reader_and_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.feed("pub pay/orders --file -", "1\n2\n3\n4\n5\n");
    assert_eq!(
        node.ok("sub pay/orders --cursor billing --count 2"),
        "1\n2\n"
    );
    node.stop();

    let node = Node::start(dir.path());
    assert_eq!(
        node.ok("sub pay/orders --cursor billing --count 2"),
        "3\n4\n"
    );
    let cursors = rows(&node.ok("stream cursor list pay/orders --json"));
    assert_eq!(cursors.len(), 1, "{cursors:?}");
    assert_eq!(cursors[0]["cursor"], "billing");
    assert_eq!(
        (&cursors[0]["offset"], &cursors[0]["behind"]),
        (&4.into(), &1.into())
    );

    node.ok("stream cursor set pay/orders billing --to 1");
    assert_eq!(node.ok("sub pay/orders --cursor billing --count 1"), "2\n");
    let (code, _, err) = node.run("stream cursor set pay/orders billing --to 99");
    assert_eq!(code, Some(1));
    assert!(err.contains("beyond the end of partition 0, 5"), "{err}");
    node.ok("stream cursor delete pay/orders billing");
    let (code, _, err) = node.run("stream cursor get pay/orders billing");
    assert_eq!(code, Some(1));
    assert!(err.contains("no cursor billing"), "{err}");

    // By time, on both sides of the restart.
    assert_eq!(
        node.ok("sub pay/orders --from -10m --count 5"),
        "1\n2\n3\n4\n5\n"
    );
}

#[test]
fn a_durable_stream_is_made_with_its_retention_and_the_right_token_only() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let create = "stream create pay/kept --durable --retention 7d --retention-bytes 1GiB";
    let (code, _, err) = node.run(create);
    assert_eq!(code, Some(1));
    assert!(err.contains("admin.token"), "{err}");
    let admin = "--token pinion-data/dev/admin.token";
    let made = node.ok(&format!("{create} {admin} --json"));
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["durable"], true);
    assert_eq!(made["retention_ms"], 604_800_000);
    assert_eq!(made["retention_bytes"], 1 << 30);
    // The same again is fine, another is not.
    node.ok(&format!("{create} {admin}"));
    let (code, _, err) = node.run(&format!("stream create pay/kept {admin}"));
    assert_eq!(code, Some(1));
    assert!(err.contains("cannot be changed"), "{err}");
    assert!(
        node.ok("stream info pay/kept")
            .contains("durable, 4 partitions, keeps records 7d")
    );

    let made = node.ok(&format!(
        "queue create jobs/new --lease 5s --max-attempts 3 {admin} --json"
    ));
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(
        (&made["durable"], &made["lease_ms"]),
        (&true.into(), &5000.into())
    );
    assert_eq!(made["max_attempts"], 3);
}
