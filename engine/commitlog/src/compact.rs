//! Rewrites what is alive in mostly dead segments forward, so that they can go.
//!
//! The log reads a segment from its first record to its last and appends what
//! is alive once more, marked as carried. Only when the copies are durable do
//! readers learn of them, and only then is the old segment without anything
//! alive. A byte budget keeps it out of the way of what clients append.

use core::time::Duration;

use pinion_types::{FixedMap, Monotonic};

use crate::Lsn;
use crate::config::COMPACT_READ_BYTES;
use crate::disk::{BlockBuf, DiskError, DiskOutput, DiskRequest, FileId, UNIT};
use crate::events::{Damage, DamageKind, DamagedPartitions};
use crate::format::RecordView;
use crate::index::{Key, Place};
use crate::log::{Log, Phase, Work};
use crate::walk::{Step, Walk};

/// Pause between two looks for a segment worth rewriting.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Partitions told of their copies in one turn. More makes a longer turn.
const MOVES_PER_TURN: usize = 512;

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// Going through the victim.
    Walking {
        walk: Walk,
        end: u32,
        need: u32,
        reading: bool,
    },
    /// The copies are being written.
    Draining,
    /// Readers learn of them.
    Moving(Vec<(Key, Vec<Place>)>),
}

/// The rewriting of one segment at a time.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    stage: Stage,
    victim: u64,
    last: Lsn,
    copies: FixedMap<Key, Vec<Place>>,
    look_at: Monotonic,
    /// Bytes that may be copied now; below zero it pauses.
    budget: i64,
    filled_at: Monotonic,
    pub(crate) resume_at: Option<Monotonic>,
}

impl Compaction {
    /// The segment being rewritten.
    pub(crate) fn victim(&self) -> Option<u64> {
        (!matches!(self.stage, Stage::Idle)).then_some(self.victim)
    }

    /// Gives it up; what was copied is dead weight until its segment goes.
    pub(crate) fn stop(&mut self) {
        self.stage = Stage::Idle;
        self.copies.clear();
        self.resume_at = None;
    }
}

impl Log {
    pub(crate) fn compact(&mut self, now: Monotonic) {
        let rate = self.config.compact_bytes_per_sec;
        if rate == 0 || !self.told || self.phase != Phase::Running {
            return;
        }
        match &mut self.compaction.stage {
            Stage::Idle => self.choose_victim(now),
            Stage::Walking { reading: true, .. } => {}
            Stage::Walking { .. } => self.read_victim(now, rate),
            Stage::Draining => {
                if self.committed() >= self.compaction.last {
                    let copies = self.compaction.copies.drain().collect();
                    self.compaction.stage = Stage::Moving(copies);
                    self.compact(now);
                }
            }
            Stage::Moving(copies) => {
                let rest = copies.len().saturating_sub(MOVES_PER_TURN);
                let moved = copies.split_off(rest);
                let done = copies.is_empty();
                for (key, places) in moved {
                    let from = self.compaction.victim;
                    self.partitions
                        .moved(&mut self.segments, key, from, &places);
                }
                if done {
                    self.compaction.stage = Stage::Idle;
                    self.segments.emptied = true;
                    self.compaction.look_at = now;
                } else {
                    self.compaction.resume_at = Some(now);
                }
            }
        }
    }

    fn choose_victim(&mut self, now: Monotonic) {
        // Copies take room that a full disk does not have.
        if now < self.compaction.look_at || self.files.refused.is_some() {
            return;
        }
        self.compaction.look_at = now + LOOK_EVERY;
        let Some(floor) = self.checkpoints.floor() else {
            return;
        };
        let victim = self
            .segments
            .iter()
            .filter(|segment| segment.worth_compacting(floor) && segment.live_bytes() > 0)
            .min_by_key(|segment| {
                let share = segment.live_bytes() * 1000 / u64::from(segment.end);
                (share, segment.key.number)
            });
        let Some(segment) = victim else {
            return;
        };
        self.compaction.victim = segment.key.number;
        self.compaction.last = Lsn(0);
        self.compaction.stage = Stage::Walking {
            walk: Walk::new(segment.key, UNIT),
            end: segment.end,
            need: UNIT,
            reading: false,
        };
        self.compaction.filled_at = now;
        self.compaction.budget = 0;
        self.compact(now);
    }

    fn read_victim(&mut self, now: Monotonic, rate: u64) {
        let passed = now.since(self.compaction.filled_at).as_micros();
        let earned = i64::try_from(passed.saturating_mul(rate.into()) / 1_000_000);
        if let Ok(earned @ 1..) = earned {
            // At most a tenth of a second's worth in one go.
            let most = i64::try_from(rate / 10).unwrap_or(i64::MAX);
            self.compaction.budget = self.compaction.budget.saturating_add(earned).min(most);
            self.compaction.filled_at = now;
        }
        if self.compaction.budget < 0 {
            let micros = self
                .compaction
                .budget
                .unsigned_abs()
                .saturating_mul(1_000_000)
                / rate;
            self.compaction.resume_at = Some(now + Duration::from_micros(micros + 1));
            return;
        }
        // What clients append goes first.
        if self.pending_bytes > self.config.backlog_bytes_max / 4 {
            return;
        }
        let Stage::Walking {
            walk,
            end,
            need,
            reading,
        } = &mut self.compaction.stage
        else {
            return;
        };
        *reading = true;
        let offset = walk.resume();
        let needed = (walk.position() - offset).saturating_add(*need);
        let len = COMPACT_READ_BYTES.max(needed).next_multiple_of(UNIT);
        let len = len.min(*end - offset);
        let number = self.compaction.victim;
        let op = self.op(Work::Compact);
        let file = FileId::Segment {
            log: self.config.log,
            number,
        };
        self.request(DiskRequest::Read {
            op,
            file,
            offset: offset.into(),
            len,
        });
    }

    pub(crate) fn compact_read_done(
        &mut self,
        now: Monotonic,
        result: Result<DiskOutput, DiskError>,
    ) {
        let Stage::Walking {
            walk, end, reading, ..
        } = &mut self.compaction.stage
        else {
            // It was given up.
            return;
        };
        *reading = false;
        let (mut walk, end) = (*walk, *end);
        let Ok(DiskOutput::Data(data)) = result else {
            // It may be readable another time; nothing was lost by trying.
            self.give_up(now);
            return;
        };
        self.stats.read_bytes += data.len() as u64;
        match self.carry(&mut walk, end, &data) {
            Ok(Some(need)) => {
                self.compaction.stage = Stage::Walking {
                    walk,
                    end,
                    need,
                    reading: false,
                };
            }
            Ok(None) => self.compaction.stage = Stage::Draining,
            Err(damage) => {
                self.report_damage(damage);
                self.give_up(now);
            }
        }
    }

    fn give_up(&mut self, now: Monotonic) {
        let copies: Vec<(Key, Vec<Place>)> = self.compaction.copies.drain().collect();
        for (key, places) in copies {
            for place in places {
                let used = self
                    .partitions
                    .get(key)
                    .is_some_and(|partition| partition.places.as_slice().contains(&place));
                if !used {
                    self.segments.set_run_live(place, 0);
                }
            }
        }
        self.compaction.stop();
        self.compaction.look_at = now + 10 * LOOK_EVERY;
    }

    /// Copies what is alive in `data`. Gives how many bytes the walk needs to go
    /// on, `None` at the segment's end.
    fn carry(&mut self, walk: &mut Walk, end: u32, data: &BlockBuf) -> Result<Option<u32>, Damage> {
        let (start, victim) = (walk.resume(), walk.key.number);
        let damage = |offset: u32, len: u32, partitions| Damage {
            segment: victim,
            offset: offset.into(),
            len: len.into(),
            kind: DamageKind::Group,
            partitions,
        };
        loop {
            let position = walk.position();
            if position >= end {
                return Ok(None);
            }
            match walk.step(start, data.as_slice()) {
                Step::Record(record) => self.carry_record(victim, &record),
                Step::DamagedBody(position, header) => {
                    let key = (header.head.resource, header.head.partition);
                    let stays = self.is_alive(
                        victim,
                        position,
                        header.flags.retained,
                        key,
                        header.head.first,
                        header.head.count,
                    );
                    if stays {
                        let partitions = DamagedPartitions::Some(vec![key]);
                        return Err(damage(position, header.len, partitions));
                    }
                }
                Step::More(need) => {
                    let have = u64::from(start) + data.len() as u64;
                    if u64::from(walk.position()) + u64::from(need) <= have || data.is_empty() {
                        return Err(damage(position, 0, DamagedPartitions::All));
                    }
                    return Ok(Some(need));
                }
                Step::Damaged => return Err(damage(position, 0, DamagedPartitions::All)),
            }
        }
    }

    fn is_alive(
        &self,
        segment: u64,
        position: u32,
        retained: bool,
        key: Key,
        first: u64,
        count: u32,
    ) -> bool {
        if retained {
            return self
                .segments
                .get(segment)
                .is_some_and(|segment| segment.retained.has(position));
        }
        let end = first.saturating_add(count.into());
        self.partitions.get(key).is_some_and(|partition| {
            count > 0
                && end > partition.first
                && partition.places.as_slice().iter().any(|&place| {
                    u64::from(place.segment) == segment
                        && self
                            .segments
                            .run(place)
                            .is_some_and(|run| run.first <= first && end <= run.end)
                })
        })
    }

    fn carry_record(&mut self, victim: u64, record: &RecordView<'_>) {
        let head = &record.head;
        let key = (head.resource, head.partition);
        let retained = record.flags.retained;
        if !self.is_alive(
            victim,
            record.position,
            retained,
            key,
            head.first,
            head.count,
        ) {
            return;
        }
        let from = record.location(victim);
        let (lsn, place) =
            self.append_carried(head, retained.then_some(from), record.ext, record.body);
        self.compaction.last = lsn;
        self.compaction.budget -= i64::from(from.len);
        if let Some(place) = place {
            let copies = self.compaction.copies.entry(key).or_default();
            if !copies.contains(&place) {
                copies.push(place);
            }
        }
    }
}
