//! What the owner of a log does: it appends, acknowledges, trims, and has
//! checkpoints taken.

use bytes::Bytes;
use pinion_commitlog::{AdmitError, Lsn, RECORD_OVERHEAD, RecordHead, RecordIn};
use pinion_types::{PartitionId, ResourceId};

use super::super::model::{self, QUEUE_ACK, QUEUE_PUT, Rec, STREAM_BLOCK, STREAM_TRIM};
use super::{BACKLOG_SLACK, Effect, World, is_stream};
use crate::{Violation, promise};

impl World {
    /// Something the owner does.
    pub(crate) fn act(&mut self) -> Result<(), Violation> {
        self.acts += 1;
        let every = self.habits.checkpoint_every;
        if every > 0 && self.acts.is_multiple_of(every) {
            self.checkpoint_wanted = true;
        }
        self.checkpoint_some()?;
        let (add, done) = if self.habits.shrink {
            (8, 40)
        } else {
            (55, 70)
        };
        match self.rng.below(100) {
            n if n < add => {
                let records = if self.rng.one_in(6) {
                    self.rng.between(2, 5)
                } else {
                    1
                };
                self.append_some(records)
            }
            n if n < done => self.acknowledge_some(),
            n if n < done + 6 => self.trim_some(),
            n if n < done + 16 => self.read_some(),
            _ => Ok(()),
        }
    }

    /// Appends records to partitions of the seed's choosing, as one batch.
    pub(crate) fn append_some(&mut self, count: u64) -> Result<(), Violation> {
        let mut batch = Vec::new();
        for _ in 0..count {
            let all = self.habits.streams + self.habits.queues;
            let resource = ResourceId(1 + self.rng.below(all));
            let partition = PartitionId(u16::try_from(self.rng.below(2)).expect("below 2"));
            let (kind, records) = if is_stream(resource, &self.habits) {
                (STREAM_BLOCK, self.rng.between(1, 20))
            } else {
                (QUEUE_PUT, 1)
            };
            let ext_len = if self.habits.uniform {
                0
            } else {
                self.rng.index(24)
            };
            let mut ext = vec![0; ext_len];
            self.rng.fill(&mut ext);
            let head = RecordHead {
                resource,
                partition,
                kind,
                first: 0,
                count: u32::try_from(records).expect("at most 20"),
                epoch: 0,
                timestamp: self.clock.wall(),
            };
            let mut body = self.body();
            if kind == STREAM_BLOCK && body.is_empty() {
                // Offsets without a byte are nothing that a domain appends.
                body = Bytes::from_static(b"\0");
            }
            batch.push((head, Bytes::from(ext), body));
        }
        self.append(batch, false)
    }

    /// Bytes of many shapes: none, all zero, zero in places, noise, and bytes
    /// that were taken from the log's own files.
    fn body(&mut self) -> Bytes {
        let max = self.habits.body_max;
        let len = match self.rng.below(10) {
            0 => 0,
            1..=5 => self.rng.index(max / 16 + 1),
            6..=8 => self.rng.index(max / 2 + 1),
            _ => self.rng.index(max + 1),
        };
        let len = if self.habits.uniform { max } else { len };
        let mut body = vec![0; len];
        match self.rng.below(8) {
            0 => {}
            1 => {
                for chunk in body.chunks_mut(700) {
                    if self.rng.coin() {
                        self.rng.fill(chunk);
                    }
                }
            }
            // What a hostile client sends: blocks that look like the log's own.
            2 => {
                let files: Vec<_> = self.disk.files().collect();
                if !files.is_empty() && len > 0 {
                    let (file, _) = *self.rng.pick(&files);
                    let bytes = self.disk.bytes(file).unwrap_or_default();
                    let blocks = bytes.len() / 4096;
                    let from = 4096 * self.rng.index(blocks.max(1));
                    let part = &bytes[from.min(bytes.len())..];
                    let take = part.len().min(len);
                    body[..take].copy_from_slice(&part[..take]);
                }
            }
            _ => self.rng.fill(&mut body),
        }
        body.into()
    }

    fn acknowledge_some(&mut self) -> Result<(), Violation> {
        // Only what is committed was ever delivered to anybody.
        let mut ready = Vec::new();
        for (key, state) in &self.owner.0 {
            let end = self.committed.0.get(key).map_or(0, |c| c.end);
            ready.extend(state.live.range(..end).map(|(id, _)| (*key, *id)));
        }
        if ready.is_empty() {
            return Ok(());
        }
        // Mostly the oldest, so that whole segments become dead.
        let chosen = if self.rng.one_in(4) {
            self.rng.index(ready.len())
        } else {
            0
        };
        let ((resource, partition), id) = ready[chosen];
        let head = RecordHead {
            resource,
            partition,
            kind: QUEUE_ACK,
            first: id,
            count: 0,
            epoch: 0,
            timestamp: self.clock.wall(),
        };
        self.append(vec![(head, Bytes::new(), Bytes::new())], true)
    }

    fn trim_some(&mut self) -> Result<(), Violation> {
        let mut wide = Vec::new();
        for (key, state) in &self.committed.0 {
            let first = self.owner.0.get(key).map_or(0, |o| o.first);
            if is_stream(key.0, &self.habits) && state.end > first {
                wide.push((*key, first, state.end));
            }
        }
        if wide.is_empty() {
            return Ok(());
        }
        let ((resource, partition), first, end) = *self.rng.pick(&wide);
        let head = RecordHead {
            resource,
            partition,
            kind: STREAM_TRIM,
            first: self.rng.between(first, end),
            count: 0,
            epoch: 0,
            timestamp: self.clock.wall(),
        };
        self.append(vec![(head, Bytes::new(), Bytes::new())], true)
    }

    fn append(
        &mut self,
        mut batch: Vec<(RecordHead, Bytes, Bytes)>,
        essential: bool,
    ) -> Result<(), Violation> {
        let size = |(_, ext, body): &(_, Bytes, Bytes)| ext.len() + body.len() + RECORD_OVERHEAD;
        let bytes: usize = batch.iter().map(size).sum();
        match self.log.admit(bytes, essential) {
            Ok(()) => {}
            Err(AdmitError::Backlogged { .. }) => return Ok(()),
            Err(AdmitError::ReadOnly) => {
                // A large append is refused while a small one would still fit.
                promise!(
                    self.read_only || self.disk.stats().failed > 0,
                    "refused as read-only on a disk with room"
                );
                self.stats.read_only_refusals += 1;
                return Ok(());
            }
            Err(AdmitError::Failed) => {
                promise!(
                    self.failed || self.sealing,
                    "refused as failed without having said so"
                );
                return Ok(());
            }
            Err(AdmitError::TooLarge { bytes, limit }) => {
                return Err(Violation::new(format!("{bytes} bytes exceed {limit}")));
            }
        }
        promise!(!self.failed, "a log that failed takes records");
        // What waits for the disk is bounded; copies of bodies come on top.
        let waiting = self.log.stats().pending_bytes;
        let bound = self.config.backlog_bytes_max + BACKLOG_SLACK;
        promise!(
            waiting == 0 || waiting + bytes <= bound,
            "{bytes} bytes are taken while {waiting} wait for the disk"
        );
        let mut ends = self.owner.clone();
        for (head, _, _) in &mut batch {
            let state = ends.of(head);
            if head.count > 0 {
                head.first = state.end;
                state.end += u64::from(head.count);
            }
        }
        // A body comes in parts, as a shard has header and records apart.
        let parts: Vec<_> = batch
            .iter()
            .map(|(_, ext, body)| {
                let (front, back) = body.split_at(body.len() / 3);
                ([&ext[..]], [front, back])
            })
            .collect();
        let records: Vec<RecordIn<'_>> = batch
            .iter()
            .zip(&parts)
            .map(|((head, ..), (ext, body))| RecordIn {
                head: *head,
                ext,
                body,
                retain: head.kind == QUEUE_PUT,
            })
            .collect();
        let before = self.log.appended();
        let appended = self.log.append(self.clock.now(), &records);
        let last = appended.last;
        let first = appended.first;
        promise!(
            last.0 - first.0 + 1 == batch.len() as u64,
            "{} records were given {first:?} to {last:?}",
            batch.len()
        );
        promise!(first > before, "{first:?} was given again after {before:?}");
        promise!(self.log.appended() >= last, "appended is behind {last:?}");
        let places = self.log.appended_locations().to_vec();
        promise!(places.len() == batch.len(), "a record without a place");
        for (index, (head, ext, body)) in batch.into_iter().enumerate() {
            let lsn = Lsn(first.0 + index as u64);
            let digest = model::digest(&head, &ext, &body);
            self.effect_of(lsn, &head);
            self.owner
                .of(&head)
                .apply(&head, Some(places[index]), digest)?;
            let facts = [lsn.0, head.resource.0, u64::from(head.kind), digest];
            self.trace.note(self.clock.now(), "append", &facts);
            self.stats.records += 1;
            self.model.push(Rec {
                lsn,
                at: places[index],
                head,
                ext,
                body,
                digest,
            });
        }
        if places.len() > 1 {
            self.model.batches.push((first, last));
        }
        Ok(())
    }

    fn effect_of(&mut self, lsn: Lsn, head: &RecordHead) {
        let key = (head.resource, head.partition);
        let effect = match head.kind {
            STREAM_TRIM => Effect::Trim {
                key,
                first: head.first,
            },
            QUEUE_ACK => {
                let live = self.owner.0.get(&key).map(|s| &s.live);
                match live.and_then(|live| live.get(&head.first)) {
                    Some(at) => Effect::Release(*at),
                    None => return,
                }
            }
            _ => return,
        };
        self.effects.push_back((lsn, effect));
    }

    // ---- checkpoints -------------------------------------------------------

    /// A checkpoint of all there is, at once. Nothing may be on its way.
    pub(crate) fn checkpoint_now(&mut self) -> Result<(), Violation> {
        self.checkpoint_wanted = true;
        loop {
            self.checkpoint_some()?;
            if self.checkpointing.is_empty() && !self.checkpoint_wanted {
                return Ok(());
            }
            if self.owner.0.is_empty() || self.failed {
                return Ok(());
            }
        }
    }

    /// A checkpoint is written over several turns while appends go on.
    pub(super) fn checkpoint_some(&mut self) -> Result<(), Violation> {
        if self.checkpointing.is_empty() {
            if !self.checkpoint_wanted || self.owner.0.is_empty() || self.failed {
                return Ok(());
            }
            self.checkpoint_wanted = false;
            self.log.checkpoint_begin();
            self.checkpointing = self.owner.0.keys().copied().collect();
            self.trace.note(self.clock.now(), "checkpoint", &[]);
        }
        for _ in 0..self.rng.between(1, 4) {
            let Some(key) = self.checkpointing.pop_front() else {
                break;
            };
            // Bodies may be on their way to another place: what is committed is
            // told of, so a state that names places is as of that.
            let (fold, as_of) = if is_stream(key.0, &self.habits) {
                (&self.owner, self.log.appended())
            } else {
                (&self.committed, self.log.committed())
            };
            let state = fold.0.get(&key).cloned().unwrap_or_default().encode();
            self.log.checkpoint_add(key.0, key.1, 1, as_of, &state);
        }
        if self.checkpointing.is_empty() {
            self.log.checkpoint_end();
        }
        Ok(())
    }
}
