//! Records that say what they are, and what must be true of a partition that
//! holds them, whatever happened to the node in between.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)] // shared by several test programs

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};

use pinion_client::{FetchOptions, Offset, PartitionId, Stream};
use pinion_types::{Outcome, ProducerId, Refusal, ResourceKind, Sequence};
use pinion_wire::message::{Ack, Durability, Handle, Open, Publish, QueuePut, Spec};
use pinion_wire::{Reply, Request};

use super::Raw;

/// SplitMix64: as many numbers as one likes from one seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a record is: number `seq` of its source, at `place` of an atomic batch
/// of `whole`. Its payload follows from that and from nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ident {
    pub source: u64,
    pub seq: u64,
    pub place: u16,
    pub whole: u16,
}

const IDENT_BYTES: usize = 20;

impl Ident {
    /// The records of a batch.
    pub fn batch(source: u64, seq: u64, whole: u16) -> impl Iterator<Item = Self> {
        (0..whole).map(move |place| Self {
            source,
            seq: seq + u64::from(place),
            place,
            whole,
        })
    }

    pub fn hash(&self) -> u64 {
        mix(self.source ^ mix(self.seq))
    }

    pub fn payload(&self) -> Vec<u8> {
        let mut random = Random(self.hash());
        // Mostly small, some beyond a block of the disk.
        let filler = match random.below(32) {
            0 => random.below(9_000),
            _ => random.below(500),
        };
        let filler = usize::try_from(filler).unwrap();
        let mut out = Vec::with_capacity(IDENT_BYTES + filler + 8);
        out.extend_from_slice(&self.source.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.place.to_le_bytes());
        out.extend_from_slice(&self.whole.to_le_bytes());
        let end = out.len() + filler;
        while out.len() < end {
            out.extend_from_slice(&random.next().to_le_bytes());
        }
        out.truncate(end);
        out
    }

    /// What a payload is. Panics when it is not, to the last byte, what its
    /// first bytes say it is.
    pub fn of(payload: &[u8], place: impl Fn() -> String) -> Self {
        assert!(payload.len() >= IDENT_BYTES, "{}: cut short", place());
        let u64_at = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
        let u16_at = |at: usize| u16::from_le_bytes(payload[at..at + 2].try_into().unwrap());
        let ident = Self {
            source: u64_at(0),
            seq: u64_at(8),
            place: u16_at(16),
            whole: u16_at(18),
        };
        assert!(
            ident.payload() == payload,
            "{}: the bytes are not those of {ident:?}",
            place()
        );
        ident
    }
}

/// A batch of a producer.
#[derive(Clone, Copy, Debug)]
struct Sent {
    seq: u64,
    count: u16,
    /// The place it was acknowledged at.
    at: Option<u64>,
    /// Where it must turn out to be when it is sent again.
    known: Known,
    on_the_way: bool,
}

/// Whether a batch that was not acknowledged was stored all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    At(u64),
    Nowhere,
    Perhaps,
}

/// Where acknowledged places are reported and looked up.
pub trait Places {
    /// The batch is stored at `at`, and its ack says so.
    fn acked(&mut self, source: u64, seq: u64, count: u16, at: u64);
    /// It is about to be sent for the first time.
    fn tried(&mut self, source: u64, seq: u64, count: u16);
    /// Where a batch is, of those that were there after the restart.
    fn stored_at(&self, source: u64, seq: u64, count: u16) -> Known;
    /// No more for now.
    fn is_full(&self) -> bool;
}

/// A producer that lives through crashes: after a restart it sends again what
/// was not acknowledged, under the same numbers.
#[derive(Debug)]
pub struct Producer {
    kind: ResourceKind,
    name: &'static str,
    partition: PartitionId,
    source: u64,
    next: u64,
    /// In order, not acknowledged.
    pending: VecDeque<Sent>,
    /// The newest acknowledged ones, fewer than a partition remembers.
    acked: VecDeque<Sent>,
    pub acked_records: u64,
    pub repeats: u64,
    pub unacked_found: u64,
}

/// Batches a producer has on the way at once.
const WINDOW: usize = 6;
/// Acknowledged batches a producer may repeat. A queue remembers the last 16 of
/// a producer, the window of what was stored and not acknowledged among them.
const REPEATABLE: usize = 16 - WINDOW;

impl Producer {
    pub fn new(kind: ResourceKind, name: &'static str, partition: u16, source: u64) -> Self {
        Self {
            kind,
            name,
            partition: PartitionId(partition),
            source,
            next: 0,
            pending: VecDeque::new(),
            acked: VecDeque::new(),
            acked_records: 0,
            repeats: 0,
            unacked_found: 0,
        }
    }

    /// Publishes until it is dropped, until `batches` more are acknowledged, or
    /// until the node is read-only; nothing is on its way then.
    pub async fn run(
        &mut self,
        raw: &mut Raw,
        places: &RefCell<impl Places>,
        random: &mut Random,
        batches: u64,
    ) -> Result<(), Refusal> {
        let handle = open(raw, self.kind, self.name, None).await;
        for sent in &mut self.pending {
            sent.on_the_way = false;
            sent.known = places.borrow().stored_at(self.source, sent.seq, sent.count);
        }
        if let Some(index) = random.below(REPEATABLE as u64 + 1).checked_sub(1)
            && let Some(sent) = self.acked.get(usize::try_from(index).unwrap()).copied()
        {
            self.repeat(raw, handle, sent).await?;
        }
        let mut left = batches;
        let mut refused = None;
        loop {
            if let Some(refusal) = refused {
                if !self.pending.iter().any(|sent| sent.on_the_way) {
                    return Err(refusal);
                }
                let _ = self.take_reply(raw, places).await;
                continue;
            }
            while left > 0
                && self.pending.len() < WINDOW
                && (self.pending.is_empty() || !places.borrow().is_full())
            {
                let count = match random.below(6) {
                    0 => 1 + u16::try_from(random.below(16)).unwrap(),
                    _ => 1,
                };
                self.pending.push_back(Sent {
                    seq: self.next,
                    count,
                    at: None,
                    known: Known::Nowhere,
                    on_the_way: false,
                });
                places.borrow_mut().tried(self.source, self.next, count);
                self.next += u64::from(count);
                left -= 1;
            }
            if self.pending.is_empty() {
                return Ok(());
            }
            for index in 0..self.pending.len() {
                if !self.pending[index].on_the_way {
                    self.pending[index].on_the_way = true;
                    let sent = self.pending[index];
                    self.send(raw, handle, &sent).await;
                }
            }
            refused = self.take_reply(raw, places).await.err();
        }
    }

    async fn repeat(&mut self, raw: &mut Raw, handle: Handle, sent: Sent) -> Result<(), Refusal> {
        self.send(raw, handle, &sent).await;
        let (seq, answer) = reply(raw).await;
        assert_eq!(seq, low(sent.seq));
        let (at, duplicate) = answer?;
        assert_eq!(
            (Some(at), duplicate),
            (sent.at, true),
            "{}/{}: a repeat of {sent:?} got another answer than the first",
            self.name,
            self.partition
        );
        self.repeats += 1;
        Ok(())
    }

    async fn send(&self, raw: &mut Raw, handle: Handle, sent: &Sent) {
        let mut records = Vec::new();
        for ident in Ident::batch(self.source, sent.seq, sent.count) {
            pinion_types::block::Record {
                key: &[],
                headers: &[],
                value: &ident.payload(),
            }
            .encode(&mut records)
            .unwrap();
        }
        let producer = Some((ProducerId(self.source), Sequence(sent.seq)));
        let (partition, record_count) = (self.partition, u32::from(sent.count));
        let request = match self.kind {
            ResourceKind::Queue => Request::QueuePut(QueuePut {
                handle,
                partition,
                producer,
                delay_ms: 0,
                ttl_ms: 0,
                record_count,
                records: &records,
            }),
            _ => Request::Publish(Publish {
                handle,
                partition,
                ack: Ack::Leader,
                producer,
                expected_offset: None,
                record_count,
                records: &records,
            }),
        };
        raw.request(low(sent.seq), &request).await;
    }

    async fn take_reply(
        &mut self,
        raw: &mut Raw,
        places: &RefCell<impl Places>,
    ) -> Result<(), Refusal> {
        let (seq, answer) = reply(raw).await;
        let index = self
            .pending
            .iter()
            .position(|sent| low(sent.seq) == seq)
            .expect("an answer to what was asked");
        let (at, duplicate) = match answer {
            Ok(answer) => answer,
            Err(refusal) => {
                // What follows a batch that was refused has no place either.
                assert_eq!(
                    refusal.outcome,
                    Outcome::NotAdmitted,
                    "a healthy disk leaves no doubt: {refusal:?}"
                );
                self.pending[index].on_the_way = false;
                if refusal.code == pinion_client::ErrorCode::ReadOnly {
                    return Err(refusal);
                }
                return Ok(());
            }
        };
        let mut sent = self.pending.remove(index).expect("found above");
        let (right, found) = match sent.known {
            Known::At(known) => (duplicate && at == known, true),
            Known::Nowhere => (!duplicate, false),
            Known::Perhaps => (true, duplicate),
        };
        assert!(
            right,
            "{}/{}: {sent:?} of {:x} is at {at}, duplicate: {duplicate}",
            self.name, self.partition, self.source
        );
        self.unacked_found += u64::from(found);
        sent.at = Some(at);
        self.acked_records += u64::from(sent.count);
        places
            .borrow_mut()
            .acked(self.source, sent.seq, sent.count, at);
        self.acked.push_front(sent);
        self.acked.truncate(REPEATABLE);
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation, reason = "numbers stay far below")]
const fn low(seq: u64) -> u32 {
    seq as u32
}

/// The answer to a put or publish: its number, and where or why not.
async fn reply(raw: &mut Raw) -> (u32, Result<(u64, bool), Refusal>) {
    raw.reply(|correlation, reply| {
        let answer = match reply {
            Reply::Published(published) => {
                assert_eq!(published.durability, Durability::Disk);
                Ok((published.first_offset.0, published.duplicate))
            }
            Reply::Enqueued(enqueued) => {
                assert_eq!(enqueued.durability, Durability::Disk);
                Ok((enqueued.first_id, enqueued.duplicate))
            }
            Reply::Error(refusal) => Err(*refusal),
            other => panic!("unexpected {other:?}"),
        };
        (correlation, answer)
    })
    .await
}

/// Opens a resource on a bare connection.
pub async fn open(
    raw: &mut Raw,
    kind: ResourceKind,
    name: &'static str,
    spec: Option<Spec>,
) -> Handle {
    let (namespace, name) = name.split_once('/').unwrap();
    let open = Request::Open(Open {
        kind,
        namespace,
        name,
        spec,
    });
    raw.request(u32::MAX, &open).await;
    raw.reply(|_, reply| match reply {
        Reply::Opened(opened) => opened.handle,
        other => panic!("not opened: {other:?}"),
    })
    .await
}

/// What is known of a partition: everything that was acknowledged, or that any
/// reader was ever shown.
#[derive(Debug)]
pub struct Shadow {
    name: String,
    partition: PartitionId,
    /// By offset.
    known: Vec<Option<Ident>>,
    /// Everything below was read back, in order.
    checked: u64,
    /// What follows in a source: its next number, and the jump it is of.
    next_of: HashMap<u64, (u64, u32)>,
    /// Places where retention had overtaken the check.
    jumps: u32,
    /// Batches found by their first record.
    starts: HashMap<(u64, u64), u64>,
    /// The oldest offset there was at the last look.
    first: u64,
    /// Sources whose records were taken back.
    rolled_back: HashSet<u64>,
    /// Retention takes the oldest away.
    trims: bool,
}

impl Places for Shadow {
    fn acked(&mut self, source: u64, seq: u64, count: u16, at: u64) {
        for (offset, ident) in (at..).zip(Ident::batch(source, seq, count)) {
            self.learn(offset, ident, "an ack");
        }
    }

    fn tried(&mut self, _: u64, _: u64, _: u16) {}

    fn stored_at(&self, source: u64, seq: u64, _: u16) -> Known {
        let start = self.starts.get(&(source, seq));
        start.map_or(Known::Nowhere, |offset| Known::At(*offset))
    }

    fn is_full(&self) -> bool {
        false
    }
}

impl Shadow {
    pub fn new(name: &str, partition: u16, trims: bool) -> Self {
        Self {
            name: name.to_owned(),
            partition: PartitionId(partition),
            known: Vec::new(),
            checked: 0,
            first: 0,
            next_of: HashMap::new(),
            jumps: 0,
            starts: HashMap::new(),
            rolled_back: HashSet::new(),
            trims,
        }
    }

    pub const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The end as far as anybody was told.
    pub fn end(&self) -> u64 {
        self.known.len() as u64
    }

    /// Nobody may ever see a record of `source`.
    pub fn rolled_back(&mut self, source: u64) {
        self.rolled_back.insert(source);
    }

    pub const fn trims(&self) -> bool {
        self.trims
    }

    /// Whether retention took anything away.
    pub const fn trimmed(&self) -> bool {
        self.first > 0
    }

    /// Up to where everything was read back.
    pub const fn checked(&self) -> u64 {
        self.checked
    }

    /// Somebody says what is at an offset.
    pub fn learn(&mut self, offset: u64, ident: Ident, from: &str) {
        assert!(
            !self.rolled_back.contains(&ident.source),
            "{}/{}: offset {offset} was rolled back, yet {from} has it",
            self.name,
            self.partition
        );
        let index = usize::try_from(offset).unwrap();
        if self.known.len() <= index {
            self.known.resize(index + 1, None);
        }
        let known = self.known[index].get_or_insert(ident);
        assert_eq!(
            *known, ident,
            "{}/{}: offset {offset} is another record than it was, says {from}",
            self.name, self.partition
        );
    }

    /// A batch is whole, its source's numbers follow each other, and no record
    /// is there twice.
    fn follows(&mut self, offset: u64, ident: Ident, before: Option<Ident>) {
        let place = format!("{}/{} offset {offset}", self.name, self.partition);
        if let Some(before) = before {
            if before.place + 1 < before.whole {
                let (place_of, seq) = (before.place + 1, before.seq + 1);
                let next = Ident {
                    place: place_of,
                    seq,
                    ..before
                };
                assert_eq!(ident, next, "{place}: a batch is there in part");
            } else {
                assert_eq!(ident.place, 0, "{place}: {ident:?} begins in the middle");
            }
        }
        if ident.place == 0 {
            self.starts.insert((ident.source, ident.seq), offset);
        }
        let jumps = self.jumps;
        let next = self.next_of.entry(ident.source).or_insert((0, 0));
        if next.1 == jumps {
            assert_eq!(ident.seq, next.0, "{place}: {ident:?} is out of order");
        } else {
            assert!(ident.seq >= next.0, "{place}: {ident:?} is there twice");
        }
        *next = (ident.seq + 1, jumps);
    }

    /// Reads back what was not yet, and some of what was; `deep` reads all of
    /// it. Gives the number of records read.
    pub async fn read_back(&mut self, stream: &Stream, deep: bool) -> u64 {
        let status = stream.info(self.partition).await.unwrap();
        let place = format!("{}/{}", self.name, self.partition);
        let (first, end) = (status.first_available.0, status.end.0);
        assert!(
            end >= self.end(),
            "{place} ends at {end}, but {} was acknowledged or shown",
            self.end()
        );
        assert!(self.trims || first == 0, "{place} begins at {first}");
        assert!(first >= self.first, "{place} has what was taken away");
        self.first = first;
        let overlap = if deep { self.checked } else { 100 };
        let mut next = self.checked.saturating_sub(overlap).max(first);
        if first > self.checked {
            self.checked = first;
            self.jumps += 1;
        }
        let (mut before, mut count) = (None, 0);
        while next < end {
            let options = FetchOptions {
                from: Offset(next),
                ..FetchOptions::default()
            };
            let page = stream.fetch(self.partition, options).await.unwrap();
            if page.first_available.0 > next {
                assert!(self.trims, "{place}: {next} is gone");
                next = page.first_available.0;
                before = None;
                if next > self.checked {
                    self.checked = next;
                    self.jumps += 1;
                }
            }
            assert!(!page.records.is_empty(), "{place}: nothing at {next}");
            for record in &page.records {
                assert_eq!(record.offset.0, next, "{place} has a hole");
                let ident = Ident::of(&record.value, || format!("{place} offset {next}"));
                self.learn(next, ident, "a fetch");
                if next == self.checked {
                    self.follows(next, ident, before);
                    self.checked += 1;
                }
                before = Some(ident);
                next += 1;
                count += 1;
            }
        }
        if let Some(last) = before {
            assert_eq!(last.place + 1, last.whole, "{place} ends in {last:?}");
        }
        count
    }
}
