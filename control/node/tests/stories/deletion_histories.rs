//! Random histories of resources that are deleted, taken back, purged, and lost from
//! the metadata, with crashes in between: what was acknowledged of those that are
//! there is there, and nothing of a purged one ever comes back.

use std::sync::Arc;
use std::time::Duration;

use pinion_node::map::Resource;
use pinion_simkit::CrashMode;
use pinion_types::{CoreId, ErrorCode, PartitionId, ResourceKind};
use pinion_wire::message::{Handle, Open, QueuePut, QueueTake, Reply, Request};

use super::{fetch, publish};
use crate::harness::{ADMIN, Answer, Id, Rng, Setup, World, batch};

const SEEDS: u64 = 15;
const STEPS: usize = 60;
/// Steps that a disk which takes its time needs for a few requests.
const WAIT_STEPS: usize = 12;

/// How a resource stands in the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Served,
    Deleted,
    /// The metadata has lost it; the node has since been started.
    Lost,
    /// Asked for; not every core has said that it is done.
    Purging,
    Purged,
}

#[derive(Debug)]
struct Known {
    resource: Arc<Resource>,
    kind: ResourceKind,
    name: &'static str,
    standing: Standing,
    /// What was sent, and whether it was acknowledged.
    sent: Vec<(Vec<u8>, bool)>,
}

struct History {
    w: World,
    rng: Rng,
    client: Id,
    all: Vec<Known>,
    /// How many of the reports of purges were looked at.
    reports: usize,
}

fn wait(w: &mut World) {
    for _ in 0..WAIT_STEPS {
        w.advance(Duration::from_millis(2));
    }
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut w = World::new(Setup {
            cores: 2,
            seed,
            disk_latency: Duration::from_millis(2),
            segment_bytes: 1 << 20,
            ..Setup::default()
        });
        let client = w.client(0, ADMIN);
        let names = [
            (ResourceKind::Stream, "s0"),
            (ResourceKind::Stream, "s1"),
            (ResourceKind::Queue, "q0"),
            (ResourceKind::Queue, "q1"),
            (ResourceKind::Stream, "s2"),
        ];
        let mut all = Vec::new();
        for (kind, name) in &names[..3 + rng.below(3)] {
            let opened = w.try_open(client, *kind, name, Some(World::durable()));
            assert_eq!(opened.code(), None);
            all.push(Known {
                resource: w.resource(*kind, name),
                kind: *kind,
                name,
                standing: Standing::Served,
                sent: Vec::new(),
            });
        }
        Self {
            w,
            rng,
            client,
            all,
            reports: 0,
        }
    }

    /// Opens one; `None` when the node says that it is deleted.
    fn open(&mut self, at: usize) -> Option<Handle> {
        let (kind, name) = (self.all[at].kind, self.all[at].name);
        let open = Open {
            kind,
            namespace: "n",
            name,
            spec: None,
        };
        let answer = self.call(&Request::Open(open));
        match answer.reply() {
            Reply::Opened(opened) => Some(opened.handle),
            _ => {
                assert_eq!(answer.code(), Some(ErrorCode::ResourceClosed));
                None
            }
        }
    }

    #[track_caller]
    fn call(&mut self, request: &Request<'_>) -> Answer {
        let asked = self.w.send(self.client, request);
        for _ in 0..50 {
            wait(&mut self.w);
            if let Some(answer) = self.w.answer(self.client, asked) {
                return answer;
            }
        }
        panic!("never answered: {request:?}")
    }

    fn add(&mut self, at: usize) {
        let served = self.all[at].standing == Standing::Served;
        let Some(handle) = self.open(at) else {
            assert!(!served, "{:?}", self.all[at]);
            return;
        };
        let known = &mut self.all[at];
        let mut value = format!("{}-{}", known.name, known.sent.len()).into_bytes();
        // Now and then so much that segments and checkpoints go by.
        value.resize(
            value.len() + *[0, 0, 60_000].get(self.rng.below(3)).unwrap(),
            b' ',
        );
        let records = batch(&[&value]);
        let request = match known.kind {
            ResourceKind::Queue => Request::QueuePut(QueuePut {
                handle,
                partition: PartitionId(0),
                producer: None,
                delay_ms: 0,
                ttl_ms: 0,
                record_count: 1,
                records: &records,
            }),
            _ => Request::Publish(publish(handle, 0, &records)),
        };
        let asked = self.w.send(self.client, &request);
        if self.rng.chance(2) {
            wait(&mut self.w);
        }
        self.w.settle();
        let answer = self.w.answer(self.client, asked);
        let code = answer.as_ref().and_then(Answer::code);
        if served {
            assert_eq!(code, None);
            self.all[at].sent.push((value, answer.is_some()));
        } else {
            assert_eq!(code, Some(ErrorCode::ResourceClosed), "{:?}", self.all[at]);
        }
    }

    fn step(&mut self) {
        let at = self.rng.below(self.all.len());
        let (id, standing) = (self.all[at].resource.id, self.all[at].standing);
        match (self.rng.below(12), standing) {
            (0, Standing::Served) => {
                self.w.delete(id);
                self.all[at].standing = Standing::Deleted;
            }
            (0..=2, Standing::Deleted) => {
                // As it lies now: the number of cores may have changed.
                let resource = self.w.resource(self.all[at].kind, self.all[at].name);
                self.w.undelete(&resource);
                self.all[at].standing = Standing::Served;
            }
            (3, Standing::Deleted) | (4, Standing::Lost) => {
                self.w.purge(id);
                self.all[at].standing = Standing::Purging;
                if self.rng.chance(2) {
                    wait(&mut self.w);
                }
                self.w.settle();
            }
            (5, Standing::Served) => {
                self.w.lose_metadata(id);
                self.all[at].standing = Standing::Lost;
                self.crash();
            }
            (6, Standing::Lost) => {
                self.w.find_metadata(id);
                self.all[at].standing = Standing::Served;
                self.crash();
            }
            (7, _) => self.crash(),
            (8, _) => self.w.advance(Duration::from_secs(1)),
            _ => self.add(at),
        }
        self.hear();
    }

    /// A purge is done when every core has said so in one life of the node.
    fn hear(&mut self) {
        let new: Vec<_> = self.w.purged[self.reports..].to_vec();
        for known in self
            .all
            .iter_mut()
            .filter(|one| one.standing == Standing::Purging)
        {
            let done = |core| new.contains(&(CoreId(core), known.resource.id));
            if (0..u16::try_from(self.w.cores.len()).unwrap()).all(done) {
                known.standing = Standing::Purged;
            }
        }
    }

    fn crash(&mut self) {
        let modes = [
            CrashMode::Clean,
            CrashMode::DropUnsynced,
            CrashMode::Prefix,
            CrashMode::RandomSubset,
        ];
        let mode = modes[self.rng.below(modes.len())];
        self.hear();
        if self.rng.chance(4) {
            let cores = u16::try_from(1 + self.rng.below(3)).unwrap();
            self.w.crash_and_move(mode, cores);
        } else {
            self.w.crash(mode);
        }
        let may_be_unknown =
            |one: &&Known| matches!(one.standing, Standing::Lost | Standing::Purging);
        let unknown = self.all.iter().filter(may_be_unknown).count();
        assert!(self.w.orphans <= unknown, "{:?}", self.all);
        self.client = self.w.client(0, ADMIN);
        // Who keeps the metadata asks again for what was not confirmed.
        self.reports = self.w.purged.len();
        let again = self
            .all
            .iter()
            .filter(|one| one.standing == Standing::Purging);
        let again: Vec<_> = again.map(|one| one.resource.id).collect();
        for id in again {
            self.w.purge(id);
        }
        self.w.settle();
    }

    /// What the node has of a resource that is served.
    fn found(&mut self, at: usize, handle: Handle) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        if self.all[at].kind == ResourceKind::Queue {
            let take = Request::QueueTake(QueueTake {
                handle,
                partition: PartitionId(0),
                max_messages: 1000,
                max_bytes: 8 << 20,
                wait_ms: 0,
                lease_ms: 0,
                group: "",
            });
            loop {
                let answer = self.call(&take);
                let Reply::Taken(taken) = answer.reply() else {
                    panic!("{answer:?}")
                };
                let before = found.len();
                found.extend(taken.messages.iter().map(|one| one.record.value.to_vec()));
                if found.len() == before {
                    return found;
                }
            }
        }
        let mut from = 0;
        loop {
            let answer = self.call(&Request::Fetch(fetch(handle, 0, from, 1 << 20)));
            let Reply::Fetched(fetched) = answer.reply() else {
                panic!("{answer:?}")
            };
            for block in fetched.blocks() {
                let records = pinion_types::block::records(block.unwrap().1);
                found.extend(records.map(|record| record.unwrap().value.to_vec()));
            }
            from = fetched.next.0;
            if fetched.next >= fetched.end {
                return found;
            }
        }
    }

    fn end(mut self) {
        let purging = |one: &Known| one.standing == Standing::Purging;
        for _ in 0..50 {
            wait(&mut self.w);
            self.hear();
        }
        assert!(!self.all.iter().any(purging), "{:?}", self.all);
        for at in 0..self.all.len() {
            match self.all[at].standing {
                Standing::Deleted => {
                    let resource = self.w.resource(self.all[at].kind, self.all[at].name);
                    self.w.undelete(&resource);
                    self.all[at].standing = Standing::Served;
                }
                Standing::Lost => {
                    self.w.find_metadata(self.all[at].resource.id);
                    self.all[at].standing = Standing::Served;
                }
                // Even if the metadata had it again.
                Standing::Purged => self.w.find_metadata(self.all[at].resource.id),
                Standing::Served | Standing::Purging => {}
            }
        }
        self.crash();
        for at in 0..self.all.len() {
            let handle = self.open(at).expect("declared");
            if self.all[at].standing == Standing::Purged {
                let request = match self.all[at].kind {
                    ResourceKind::Queue => continue,
                    _ => Request::Fetch(fetch(handle, 0, 0, 1 << 20)),
                };
                let answer = self.call(&request);
                if answer.code() != Some(ErrorCode::ResourceClosed) {
                    let found = self.found(at, handle);
                    assert!(found.is_empty(), "{:?}: {found:?}", self.all[at].name);
                }
                continue;
            }
            let found = self.found(at, handle);
            let mut sent = self.all[at].sent.iter();
            for value in &found {
                // In order; what was not acknowledged may be missing, nothing else.
                let next = sent.find(|(sent, acked)| *acked || sent == value);
                let in_order = next.is_some_and(|(sent, _)| sent == value);
                assert!(in_order, "{} after a gap or twice", self.all[at].name);
            }
            let missing = |value: &Vec<u8>| !found.contains(value);
            let lost = self.all[at]
                .sent
                .iter()
                .find(|(value, acked)| *acked && missing(value));
            assert!(
                lost.is_none(),
                "{}: {:?}",
                self.all[at].name,
                lost.map(|one| one.0.len())
            );
            let strange = found
                .iter()
                .find(|value| !self.all[at].sent.iter().any(|(sent, _)| sent == *value));
            assert!(strange.is_none(), "{}", self.all[at].name);
        }
    }
}

#[test]
fn random_histories_lose_nothing_that_was_not_purged_and_bring_nothing_back() {
    let mut purged = 0;
    let mut lost = 0;
    for seed in 0..SEEDS {
        let told = Told(seed);
        let mut history = History::new(seed);
        for _ in 0..STEPS {
            history.step();
            lost += usize::from(history.w.orphans > 0);
        }
        purged += history.w.purged.len();
        history.end();
        drop(told);
    }
    assert!(
        purged > 5 && lost > 20,
        "{purged} purges, {lost} steps without"
    );
}

/// Says which seed it was.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}
