//! Random histories of a durable partition: the log commits when it likes,
//! reads come back late, out of order, trimmed meanwhile or damaged, memory is
//! taken away, and the node crashes. A `Vec` of everything ever appended says
//! what readers must see.

use super::super::fake_log::FakeLog;
use super::*;
use pinion_types::FixedMap;

const HISTORIES: u64 = 4000;
const STEPS: u64 = 150;

struct Reader {
    /// Everything before has been delivered, announced or passed over.
    expected: u64,
    overflow: Overflow,
    backlog_max: u64,
    filtered: bool,
    not_before: u64,
    records_left: i64,
    bytes_left: i64,
    window_left: i64,
    in_transport: VecDeque<bytes::Bytes>,
}

#[derive(Default)]
struct Counts {
    cold_reads: u64,
    lags: u64,
    fenced: u64,
    crashes: u64,
    restored: u64,
    delivered: u64,
    skipped_by_time: u64,
    cold_fetches: u64,
}

struct Node {
    seed: u64,
    rng: Rng,
    config: PartitionConfig,
    p: Partition,
    log: FakeLog,
    /// What each offset holds and when it was taken.
    written: Vec<(Vec<u8>, u64)>,
    now: u64,
    wall: u64,
    readers: BTreeMap<u64, Reader>,
    next_key: u64,
    reads: Vec<ColdRead>,
    /// Reads the disk failed, by place.
    failed: BTreeMap<u64, u8>,
    /// State and how many records it covers.
    snapshot: Option<(Vec<u8>, usize)>,
    producers: FixedMap<u64, u64>,
    cursors: BTreeMap<Vec<u8>, u64>,
    counts: Counts,
}

impl Node {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            rng.next();
        }
        let config = PartitionConfig {
            ring_bytes: 400 + rng.below(8000),
            ring_records_max: 3 + rng.small(80),
            durable: true,
            max_record_bytes: 1000,
            producers_max: 2,
            sessions_max: 2,
            subscribers_max: 6,
            default_overflow: Overflow::Block,
            ..PartitionConfig::default()
        };
        Self {
            seed,
            rng,
            config,
            p: Partition::new(config),
            log: FakeLog::default(),
            written: Vec::new(),
            now: 0,
            wall: 1000,
            readers: BTreeMap::new(),
            next_key: 0,
            reads: Vec::new(),
            failed: BTreeMap::new(),
            snapshot: None,
            producers: FixedMap::default(),
            cursors: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_millis(self.now)
    }

    fn values(&mut self) -> Vec<Vec<u8>> {
        let count = 1 + self.rng.below(6);
        (0..count)
            .map(|_| {
                let mut value = vec![if self.rng.one_in(3) { b'x' } else { b'y' }];
                let len = self.rng.below(if self.rng.0.is_multiple_of(20) {
                    900
                } else {
                    40
                });
                value.extend((0..len).map(|_| b'a' + u8::try_from(self.rng.below(26)).unwrap()));
                value
            })
            .collect()
    }

    fn accept(&mut self, first: Offset, values: Vec<Vec<u8>>) {
        assert_eq!(first.0, self.written.len() as u64, "seed {}", self.seed);
        let time = self.written.last().map_or(0, |w| w.1).max(self.wall);
        self.written.extend(values.into_iter().map(|v| (v, time)));
    }

    fn append(&mut self) {
        let values = self.values();
        let producer = self.rng.one_in(3).then(|| {
            let id = self.rng.below(2);
            (id, self.producers.get(&id).copied().unwrap_or(0))
        });
        let append = Append {
            producer: producer.map(|(id, s)| (ProducerId(id), Sequence(s))),
            expected_offset: None,
            record_count: u32::try_from(values.len()).unwrap(),
            records: &World::encode(&values),
        };
        let (now, wall) = (self.monotonic(), WallMs(self.wall));
        let appended = self.p.append(now, wall, &append).unwrap();
        assert!(!appended.duplicate, "seed {}", self.seed);
        let again = append.producer.map(|_| self.p.append(now, wall, &append));
        if let Some(again) = again {
            let again = again.unwrap();
            assert_eq!(
                (again.duplicate, again.first_offset),
                (true, appended.first_offset)
            );
        }
        if let Some((id, sequence)) = producer {
            self.producers.insert(id, sequence + values.len() as u64);
        }
        self.accept(appended.first_offset, values);
    }

    fn session(&mut self) {
        let (now, wall) = (self.monotonic(), WallMs(self.wall));
        let id = self.p.begin(now, 1, false).unwrap();
        let mut all = Vec::new();
        for _ in 0..1 + self.rng.below(40) {
            let values = vec![vec![
                b'y';
                1 + usize::try_from(self.rng.below(900)).unwrap()
            ]];
            let records = World::encode(&values);
            self.p.stage(now, 1, id, 1, &records).unwrap();
            all.extend(values);
        }
        let done = self.p.commit(now, wall, 1, id, None).unwrap();
        self.accept(done.first_offset, all);
    }

    fn commit(&mut self) {
        self.log.take(&mut self.p);
        let count = match self.rng.below(4) {
            0 => usize::MAX,
            n => usize::try_from(n).unwrap(),
        };
        let before = self.log.committed;
        self.log.commit(&mut self.p, count);
        for record in &self.log.records[before..self.log.committed] {
            if record.head.kind == crate::op::kind::STREAM_CURSOR {
                match record.head.first {
                    u64::MAX => self.cursors.remove(&record.ext),
                    offset => self.cursors.insert(record.ext.clone(), offset),
                };
            }
        }
        self.p.seal();
        let shown: Vec<(Vec<u8>, u64)> = self
            .p
            .cursors()
            .map(|(name, offset)| (name.to_vec(), offset.0))
            .collect();
        assert!(
            shown.iter().map(|c| (&c.0, &c.1)).eq(self.cursors.iter()),
            "seed {}: cursors show what is committed",
            self.seed
        );
        assert_eq!(self.p.end(), self.p.committed_end());
    }

    /// What a read with a time must begin with.
    fn first_of_time(&self, time: u64) -> u64 {
        let (first, end) = (self.p.first_available().0, self.p.end().0);
        (first..end)
            .find(|o| self.written[usize::try_from(*o).unwrap()].1 >= time)
            .unwrap_or(end)
    }

    fn subscribe(&mut self) {
        self.p.seal();
        let (first, end) = (self.p.first_available().0, self.p.end().0);
        let mut asked_time = None;
        let start = match self.rng.below(6) {
            0 => Start::Earliest,
            1 => Start::Latest,
            2 | 3 => Start::Offset(Offset(self.rng.below(end + 1))),
            n => {
                let time = match self.written.len() as u64 {
                    0 => 900,
                    len => {
                        let at = usize::try_from(self.rng.below(len)).unwrap();
                        self.written[at].1 + self.rng.below(2)
                    }
                };
                let target = self.first_of_time(time);
                asked_time = Some((time, target));
                if n == 4 {
                    Start::Time(WallMs(time))
                } else {
                    // The log's index knows to the nearest entry.
                    let hint = Offset(self.rng.below(target + 1));
                    let time = WallMs(time);
                    Start::TimeFrom { time, hint }
                }
            }
        };
        let overflow = [
            Overflow::Block,
            Overflow::DropOldest,
            Overflow::DropNewest,
            Overflow::Disconnect,
        ][usize::try_from(self.rng.below(4)).unwrap()];
        let backlog_max = if self.rng.one_in(2) {
            0
        } else {
            1 + self.rng.small(20)
        };
        let filtered = self.rng.one_in(4);
        let options = SubscribeOptions {
            start,
            overflow: Some(overflow),
            backlog_max,
            credit_records: self.rng.small(8),
            credit_bytes: self.rng.small(600),
            window_bytes: 1 + self.rng.small(600),
            filter: filtered.then(|| -> Box<dyn RecordFilter> { Box::new(StartsWithX) }),
        };
        let mut reader = Reader {
            expected: match start {
                Start::Offset(offset) => offset.0,
                Start::Earliest => first,
                _ => end,
            },
            overflow,
            backlog_max: match backlog_max {
                0 => u64::MAX,
                n => u64::from(n),
            },
            filtered,
            not_before: 0,
            records_left: i64::from(options.credit_records),
            bytes_left: i64::from(options.credit_bytes),
            window_left: i64::from(options.window_bytes),
            in_transport: VecDeque::new(),
        };
        let key = self.next_key;
        match self.p.subscribe(SubKey(key), options) {
            Ok(subscribed) => {
                assert_eq!(subscribed.end.0, end, "seed {}", self.seed);
                if let Some((time, target)) = asked_time {
                    // It may look at earlier ones, and passes over them.
                    let next = subscribed.next.0;
                    assert!(first <= next && next <= target, "seed {}", self.seed);
                    reader.expected = next;
                    reader.not_before = if next < end { time } else { 0 };
                }
                self.readers.insert(key, reader);
                self.next_key += 1;
            }
            Err(error) => assert_eq!(error, SubscribeError::TooMany { limit: 6 }),
        }
    }

    fn grant(&mut self) {
        for (key, reader) in &mut self.readers {
            let (r, b) = (self.rng.small(12), self.rng.small(700));
            assert!(self.p.credit(SubKey(*key), r, b));
            reader.records_left += i64::from(r);
            reader.bytes_left += i64::from(b);
            while let Some(bytes) = reader.in_transport.pop_front() {
                assert!(self.p.window(SubKey(*key), bytes.len() as u64));
                reader.window_left += i64::try_from(bytes.len()).unwrap();
            }
        }
    }

    fn turn(&mut self) {
        self.p.seal();
        let mut polls = self.rng.below(8);
        while polls > 0 {
            let Some((key, delivery)) = self.p.poll_delivery() else {
                break;
            };
            polls -= 1;
            self.check(key.0, delivery);
        }
        while let Some(read) = self.p.poll_read() {
            self.counts.cold_reads += 1;
            let first = self.p.first_available();
            assert!(read.from >= first, "seed {}: trimmed", self.seed);
            self.reads.push(read);
        }
        assert!(self.reads.len() <= COLD_READS_MAX, "seed {}", self.seed);
    }

    fn is_wanted(&self, reader: &Reader, offset: u64) -> bool {
        let (value, time) = &self.written[usize::try_from(offset).unwrap()];
        (!reader.filtered || value[0] == b'x') && *time >= reader.not_before
    }

    fn check(&mut self, key: u64, delivery: Delivery) {
        let seed = self.seed;
        let mut reader = self.readers.remove(&key).expect("a living subscription");
        let (first, end) = (self.p.first_available().0, self.p.committed_end().0);
        match delivery {
            Delivery::Records {
                bytes,
                records: count,
                next,
            } => {
                assert!(
                    reader.records_left > 0 && reader.bytes_left > 0 && reader.window_left > 0,
                    "seed {seed}"
                );
                self.check_blocks(&mut reader, &bytes, end);
                self.pass(&mut reader, next.0);
                reader.records_left -= i64::from(count);
                assert!(reader.records_left >= 0, "seed {seed}");
                let len = i64::try_from(bytes.len()).unwrap();
                reader.bytes_left -= len;
                reader.window_left -= len;
                reader.in_transport.push_back(bytes);
                self.counts.delivered += u64::from(count);
            }
            Delivery::Lag(lag) => {
                self.counts.lags += 1;
                let (from, to) = (lag.from.0, lag.to.0);
                assert!(from < to && to <= end, "seed {seed}");
                self.pass(&mut reader, from);
                match lag.reason {
                    // The start's own lag names what was oldest then.
                    LagReason::RingOverran => assert!(to <= first, "seed {seed}: {to} {first}"),
                    LagReason::DropOldest => {
                        assert_eq!(reader.overflow, Overflow::DropOldest, "seed {seed}");
                        assert!(end - from > reader.backlog_max, "seed {seed}");
                    }
                    LagReason::DropNewest => {
                        assert_eq!(reader.overflow, Overflow::DropNewest, "seed {seed}");
                    }
                }
                reader.expected = to;
            }
            Delivery::End { code, next } => {
                match code {
                    ErrorCode::SlowSubscriber => {
                        assert_eq!(reader.overflow, Overflow::Disconnect, "seed {seed}");
                    }
                    ErrorCode::PartitionFenced => {
                        self.counts.fenced += 1;
                        assert!(self.is_damaged(next.0), "seed {seed}: {next} is whole");
                        self.pass(&mut reader, next.0);
                    }
                    other => panic!("seed {seed}: {other:?}"),
                }
                return;
            }
        }
        self.readers.insert(key, reader);
    }

    fn is_damaged(&self, offset: u64) -> bool {
        if self.failed.get(&offset).is_some_and(|n| *n >= COLD_TRIES) {
            return true;
        }
        self.log.damaged.iter().any(|i| {
            let head = &self.log.records[*i].head;
            head.first <= offset && offset < head.first + u64::from(head.count)
        })
    }

    /// Nothing wanted lies between where the reader was and `next`.
    fn pass(&self, reader: &mut Reader, next: u64) {
        assert!(next >= reader.expected, "seed {}", self.seed);
        for offset in reader.expected..next {
            assert!(
                !self.is_wanted(reader, offset),
                "seed {}: lost {offset}",
                self.seed
            );
        }
        reader.expected = next;
    }

    fn check_blocks(&mut self, reader: &mut Reader, bytes: &[u8], end: u64) {
        let seed = self.seed;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (header, body, after) = BlockHeader::split(rest).unwrap();
            for (offset, record) in (header.first_offset.0..).zip(records(body)) {
                assert!(offset >= reader.expected, "seed {seed}: {offset} twice");
                assert!(offset < end, "seed {seed}: {offset} is not committed");
                self.counts.skipped_by_time += u64::from(
                    reader.not_before > 0 && offset > reader.expected && !reader.filtered,
                );
                self.pass(reader, offset);
                let (value, time) = &self.written[usize::try_from(offset).unwrap()];
                assert_eq!(record.unwrap().value, value, "seed {seed}: {offset}");
                assert_eq!(header.timestamp.0, *time, "seed {seed}: {offset}");
                assert!(self.is_wanted(reader, offset), "seed {seed}: {offset}");
                reader.expected = offset + 1;
            }
            rest = after;
        }
    }

    /// Any outstanding read is answered, truly or with an error.
    fn answer(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        let i = usize::try_from(self.rng.below(self.reads.len() as u64)).unwrap();
        let read = self.reads.swap_remove(i);
        let first = self.p.first_available().0;
        let blocks = 1 + usize::try_from(self.rng.below(6)).unwrap();
        let max_bytes = read.max_bytes.min(200 + self.rng.small(4000));
        let answer = if self.rng.one_in(12) {
            *self.failed.entry(read.from.0).or_default() += 1;
            Err(ColdError::Failed)
        } else {
            // The log's idea of the first may be older than the partition's.
            let first = if self.rng.one_in(2) { 0 } else { first };
            self.log.read(read.from.0, first, max_bytes, blocks)
        };
        let now = self.monotonic();
        self.p.handle_read(now, read.from, answer);
        if self.rng.one_in(10) {
            // An answer nobody waits for changes nothing.
            self.p.handle_read(now, read.from, Err(ColdError::Damaged));
        }
    }

    fn fetch(&mut self) {
        let seed = self.seed;
        let (first, end) = (self.p.first_available().0, self.p.end().0);
        let from = self.rng.below(end + 2);
        let mut out = Vec::new();
        match self
            .p
            .fetch(Offset(from), self.rng.small(20), 900, None, &mut out)
        {
            FetchResult::Done(fetched) => {
                assert_eq!((fetched.end.0, fetched.first_available.0), (end, first));
                let mut reader = Reader {
                    expected: from.max(first),
                    overflow: Overflow::Block,
                    backlog_max: 0,
                    filtered: false,
                    not_before: 0,
                    records_left: 0,
                    bytes_left: 0,
                    window_left: 0,
                    in_transport: VecDeque::new(),
                };
                self.check_blocks(&mut reader, &out, end);
                if !out.is_empty() {
                    assert_eq!(reader.expected, fetched.next.0, "seed {seed}");
                }
            }
            FetchResult::Cold => {
                self.counts.cold_fetches += 1;
                assert!(out.is_empty(), "seed {seed}");
            }
            FetchResult::Fenced { at } => assert!(self.is_damaged(at.0), "seed {seed}"),
        }
    }

    /// Two ways to the same state: as it lives, and from the log.
    fn check_fold(&mut self) {
        self.log.take(&mut self.p);
        let mut live = Vec::new();
        self.p.snapshot(&mut live);
        let state = self.snapshot.as_ref().map(|(s, n)| (&s[..], *n));
        let upto = self.log.records.len();
        let replayed = self.log.recover(self.config, state, upto);
        let mut folded = Vec::new();
        replayed.snapshot(&mut folded);
        assert_eq!(live, folded, "seed {}: replay equals live", self.seed);
        if self.rng.one_in(2) {
            self.snapshot = Some((live, upto));
        }
    }

    /// What was not committed may be there or not, groups as a whole.
    fn crash(&mut self) {
        self.counts.crashes += 1;
        self.log.take(&mut self.p);
        let mut kept = self.log.committed;
        kept +=
            usize::try_from(self.rng.below((self.log.records.len() - kept) as u64 + 1)).unwrap();
        while kept > 0 && self.log.records[kept - 1].more {
            kept -= 1;
        }
        assert!(kept >= self.log.committed);
        // A checkpoint is written once all it covers is committed.
        if self.snapshot.as_ref().is_some_and(|s| s.1 > kept) {
            self.snapshot = None;
        }
        let state = self.snapshot.as_ref().map(|(s, n)| (&s[..], *n));
        self.counts.restored += u64::from(state.is_some());
        let recovered = self.log.recover(self.config, state, kept);
        let committed = self.p.committed_end();
        self.p = recovered;
        self.log.records.truncate(kept);
        self.log.committed = kept;
        assert!(self.p.committed_end() >= committed, "seed {}", self.seed);
        self.written
            .truncate(usize::try_from(self.p.committed_end().0).unwrap());
        self.cursors = self.p.cursors().map(|(n, o)| (n.to_vec(), o.0)).collect();
        self.readers.clear();
        self.reads.clear();
        // Sequences of what was lost are sent again.
        self.producers.clear();
        for record in &self.log.records {
            if record.ext.len() == 16 && record.head.kind == crate::op::kind::STREAM_BLOCK {
                let id = u64::from_le_bytes(record.ext[..8].try_into().unwrap());
                let sequence = u64::from_le_bytes(record.ext[8..].try_into().unwrap());
                self.producers
                    .insert(id, sequence + u64::from(record.head.count));
            }
        }
    }

    fn cursor(&mut self) {
        let name = [b"a", b"b", b"c"][usize::try_from(self.rng.below(3)).unwrap()];
        if self.rng.one_in(4) {
            let known = self.p.cursor_delete(name, WallMs(self.wall)).is_ok();
            assert!(known || self.p.cursor(name).is_none());
        } else {
            let offset = Offset(self.rng.below(self.p.committed_end().0 + 1));
            self.p
                .cursor_commit(name, offset, WallMs(self.wall))
                .unwrap();
        }
    }

    fn damage(&mut self) {
        let committed = self.log.committed as u64;
        if committed > 0 && self.rng.one_in(12) {
            let at = usize::try_from(self.rng.below(committed)).unwrap();
            self.log.damaged.insert(at);
        }
    }

    fn step(&mut self) {
        match self.rng.below(24) {
            0..=5 => self.append(),
            6..=8 => self.commit(),
            9..=12 => self.turn(),
            13 | 14 => self.grant(),
            15 | 16 => self.answer(),
            17 => self.subscribe(),
            18 => {
                let target = self.rng.below(2) * self.rng.below(3000);
                self.p.evict_committed(target);
            }
            19 => {
                let end = self.p.committed_end().0;
                let first = self.p.first_available().0;
                if self.rng.one_in(4) && end > first {
                    let to = first + 1 + self.rng.below(end - first);
                    assert!(self.p.trim(Offset(to), WallMs(self.wall)));
                    assert_eq!(self.p.first_available().0, to);
                }
                if self.rng.one_in(3) {
                    self.session();
                }
            }
            20 => self.fetch(),
            21 => {
                self.cursor();
                self.damage();
            }
            22 => {
                self.now += self.rng.below(800);
                self.wall = (self.wall + self.rng.below(12)).saturating_sub(self.rng.below(5));
                self.p.handle_timeout(self.monotonic());
                let due = self.p.next_deadline();
                assert!(due.is_none_or(|due| due > self.monotonic()), "timers fire");
            }
            _ if self.rng.one_in(4) => self.crash(),
            _ => self.check_fold(),
        }
        let most = COLD_CHUNKS_MAX as u64 * 4;
        assert!(self.p.memory() < self.p.ring().memory_max() + (most << 14));
    }

    /// With plenty of credit and a log that answers, everyone reaches the end
    /// or is told why not.
    fn finish(&mut self) {
        self.commit();
        self.log.flush(&mut self.p);
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(rounds < 10_000, "seed {}: no end", self.seed);
            for (key, reader) in &mut self.readers {
                assert!(self.p.credit(SubKey(*key), 1000, 100_000));
                assert!(self.p.window(SubKey(*key), 100_000));
                reader.records_left += 1000;
                reader.bytes_left += 100_000;
                reader.window_left += 100_000;
                reader.in_transport.clear();
            }
            let mut quiet = true;
            while let Some((key, delivery)) = self.p.poll_delivery() {
                quiet = false;
                self.check(key.0, delivery);
            }
            while let Some(read) = self.p.poll_read() {
                self.reads.push(read);
            }
            while let Some(read) = self.reads.pop() {
                quiet = false;
                let first = self.p.first_available().0;
                let answer = self.log.read(read.from.0, first, 500, 3);
                let now = self.monotonic();
                self.p.handle_read(now, read.from, answer);
            }
            if quiet {
                break;
            }
        }
        let end = self.p.committed_end().0;
        assert_eq!(end, self.written.len() as u64, "seed {}", self.seed);
        for (key, mut reader) in core::mem::take(&mut self.readers) {
            let cursor = self.p.unsubscribe(SubKey(key)).unwrap();
            assert_eq!(cursor.0, end, "seed {}: {key} is left behind", self.seed);
            self.pass(&mut reader, cursor.0);
        }
    }
}

#[test]
fn durable_histories_agree_with_the_model() {
    let mut sum = Counts::default();
    for seed in 1..=HISTORIES {
        let mut node = Node::new(seed);
        for _ in 0..STEPS {
            node.step();
        }
        node.finish();
        let one = node.counts;
        sum.cold_reads += one.cold_reads;
        sum.lags += one.lags;
        sum.fenced += one.fenced;
        sum.crashes += one.crashes;
        sum.restored += one.restored;
        sum.delivered += one.delivered;
        sum.skipped_by_time += one.skipped_by_time;
        sum.cold_fetches += one.cold_fetches;
    }
    let Counts {
        cold_reads,
        lags,
        fenced,
        crashes,
        restored,
        delivered,
        skipped_by_time,
        cold_fetches,
    } = sum;
    println!(
        "{HISTORIES} histories: {delivered} delivered, {cold_reads} cold reads, {cold_fetches} cold \
         fetches, {lags} lags, {fenced} fenced, {crashes} crashes ({restored} from a state), \
         {skipped_by_time} skips by time"
    );
    // The histories reach what they are meant to test.
    for reached in [
        cold_reads,
        lags,
        fenced,
        crashes,
        restored,
        delivered,
        skipped_by_time,
        cold_fetches,
    ] {
        assert!(reached > 200, "{reached}");
    }
}
