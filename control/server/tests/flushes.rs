//! Acknowledgements against what the disk did, as the kernel counts it: a node
//! cannot have made durable more than the writes and flushes can have covered.
//!
//! Where root may mount one, the data is on a block device of its own, whose
//! counters nobody else moves; elsewhere they are those of a shared disk, which
//! can only make the node look better, and the bytes its process wrote, which
//! are its own in any case.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::VecDeque;
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use pinion_types::{PartitionId, ResourceKind};
use pinion_wire::message::{Ack, Durability, Publish, Spec};
use pinion_wire::{Reply, Request};
use support::Raw;
use support::load::open;
use support::mount::Mount;
use support::process::{Home, Node};

const STREAM: &str = "flushes/stream";
/// Publishes per measurement.
const PUBLISHES: u64 = 1_000;
/// Bytes of one record.
const RECORD_BYTES: usize = 256;
/// Least that a disk writes at a time.
const BLOCK: u64 = 4096;

/// A segment so large that the next one is not made while publishes are
/// counted: its zeros are written, too.
const CONFIG: &str = "
data_cores = [0]
[storage]
segment_bytes = 134217728
";

/// What the kernel counted.
#[derive(Clone, Copy, Debug)]
struct Counters {
    /// Writes the device has done.
    writes: u64,
    /// Flushes of its cache it has done.
    flushes: u64,
    /// Bytes this process caused to be written.
    bytes: u64,
}

impl Counters {
    fn since(self, before: Self) -> Self {
        Self {
            writes: self.writes - before.writes,
            flushes: self.flushes - before.flushes,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// Where to count.
struct Disk {
    /// `/sys/block/…`, `None` where there is no such device.
    device: Option<String>,
    /// Without a cache that must be flushed, or with writes that go through it,
    /// no flush is needed.
    needs_flush: bool,
    is_ours: bool,
}

impl Disk {
    fn of(mount: Option<&Mount>, dir: &Path) -> Self {
        let device = match mount {
            Some(mount) => mount.device.clone(),
            None => shared_device(dir),
        };
        let queue = |name: &str| {
            let device = device.as_ref()?;
            std::fs::read_to_string(format!("/sys/block/{device}/queue/{name}")).ok()
        };
        let write_back = queue("write_cache").is_some_and(|text| text.trim() == "write back");
        let through = queue("fua").is_some_and(|text| text.trim() == "1");
        Self {
            needs_flush: write_back && !through,
            is_ours: mount.is_some(),
            device,
        }
    }

    fn read(&self, node: &Node) -> Counters {
        // Documentation/block/stat.rst: writes are the 5th, flushes the 16th.
        let (mut writes, mut flushes) = (u64::MAX / 2, u64::MAX / 2);
        if let Some(device) = &self.device {
            let text = std::fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
            let fields: Vec<u64> = text
                .split_whitespace()
                .map(|f| f.parse().unwrap())
                .collect();
            (writes, flushes) = (fields[4], fields[15]);
        }
        let io = std::fs::read_to_string(format!("/proc/{}/io", node.pid())).unwrap();
        let bytes = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "))
            .unwrap();
        Counters {
            writes,
            flushes,
            bytes: bytes.parse().unwrap(),
        }
    }
}

/// The whole disk below a directory.
fn shared_device(dir: &Path) -> Option<String> {
    let dev = std::fs::metadata(dir).unwrap().st_dev();
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    // …/block/vda or …/block/vda/vda1
    let mut names = link.iter().map(|part| part.to_string_lossy().into_owned());
    names.by_ref().find(|name| name == "block")?;
    names.next()
}

/// Publishes one record per request, `in_flight` of them at a time.
async fn publish(raw: &mut Raw, in_flight: usize, publishes: u64) {
    let handle = open(raw, ResourceKind::Stream, STREAM, Some(Spec::durable(1))).await;
    let mut records = Vec::new();
    pinion_types::block::Record {
        key: &[],
        headers: &[],
        value: &[7; RECORD_BYTES],
    }
    .encode(&mut records)
    .unwrap();
    let mut waiting = VecDeque::new();
    let mut sent = 0;
    loop {
        while sent < publishes && waiting.len() < in_flight {
            let request = Request::Publish(Publish {
                handle,
                partition: PartitionId(0),
                ack: Ack::Leader,
                producer: None,
                expected_offset: None,
                record_count: 1,
                records: &records,
            });
            let correlation = u32::try_from(sent).unwrap();
            raw.request(correlation, &request).await;
            waiting.push_back(correlation);
            sent += 1;
        }
        if waiting.is_empty() {
            return;
        }
        let answered = raw
            .reply(|correlation, reply| match reply {
                Reply::Published(published) => {
                    assert_eq!(published.durability, Durability::Disk);
                    correlation
                }
                other => panic!("unexpected {other:?}"),
            })
            .await;
        assert_eq!(waiting.pop_front(), Some(answered), "acks come in order");
    }
}

fn measure(disk: &Disk, node: &Node, in_flight: usize) -> Counters {
    support::run(async {
        let endpoint = support::endpoint_of(&node.ca());
        let mut raw = Raw::connect(&endpoint, node.address).await;
        raw.hello(&node.token()).await;
        // Opens the stream and whatever else happens once.
        publish(&mut raw, in_flight, 10).await;
        let before = disk.read(node);
        publish(&mut raw, in_flight, PUBLISHES).await;
        disk.read(node).since(before)
    })
}

#[test]
fn acks_never_outnumber_what_the_disk_can_have_covered() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = dir.path().join("image");
    let mount = Mount::ext4(&dir.path().join("disk"), &image, 512);
    let mount = match mount {
        Ok(mount) => Some(mount),
        Err(reason) => {
            println!("no device of our own ({reason}): counting on the shared one");
            None
        }
    };
    let mut home = Home::new(dir.path(), CONFIG, &[]);
    if let Some(mount) = &mount {
        home = home.in_mount(mount, "data");
    }
    let node = home.start(&[]);
    let disk = Disk::of(mount.as_ref(), dir.path());

    let single = measure(&disk, &node, 1);
    println!("{PUBLISHES} acks, 1 in flight: {single:?}");
    // Each was answered before the next was asked for: none shares a write.
    assert!(single.bytes >= PUBLISHES * BLOCK, "{single:?}");
    assert!(
        single.bytes < 2 * PUBLISHES * BLOCK,
        "zeros of a new file hide the rest: {single:?}"
    );
    assert!(single.writes >= PUBLISHES, "{single:?}");
    if disk.needs_flush {
        assert!(single.flushes >= PUBLISHES, "{single:?}");
    }

    let many = measure(&disk, &node, 256);
    println!("{PUBLISHES} acks, 256 in flight: {many:?}");
    // Durable all the same, and one flush for many.
    assert!(many.bytes >= PUBLISHES * RECORD_BYTES as u64, "{many:?}");
    assert!(many.bytes <= PUBLISHES * BLOCK / 4, "{many:?}");
    if disk.is_ours {
        assert!(many.writes <= PUBLISHES / 4, "{many:?}");
        assert!(many.flushes <= PUBLISHES / 4, "{many:?}");
        assert!(!disk.needs_flush || many.flushes > 0, "{many:?}");
    }
    assert_eq!(node.stop().code, 0);
}
