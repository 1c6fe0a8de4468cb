//! Reads of a log, each compared with what the model has when it arrives.

use pinion_commitlog::{Location, ReadError, ReadRefused, RecordBytes, StreamChunk};
use pinion_types::Offset;

use super::super::model::Key;
use super::{ReadOutcome, SETTLE_STEPS_MAX, Wanted, World, is_stream, unwatched};
use crate::{Violation, promise};

impl World {
    /// Reads something that is committed; its content is compared on arrival.
    pub(super) fn read_some(&mut self) -> Result<(), Violation> {
        let keys: Vec<Key> = self.committed.0.keys().copied().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let key = *self.rng.pick(&keys);
        let committed = &self.committed.0[&key];
        let owner = &self.owner.0[&key];
        if is_stream(key.0, &self.habits) {
            let (first, end) = (owner.first, committed.end);
            if first > 0 && self.rng.one_in(6) {
                let from = self.rng.below(first);
                self.read_stream(key, from, 1 << 12)?;
            } else if first < end {
                let from = self.rng.between(first, end - 1);
                let max_bytes = 1 << self.rng.between(8, 20);
                self.read_stream(key, from, max_bytes)?;
            }
        } else {
            let ready: Vec<_> = owner.live.range(..committed.end).collect();
            if !ready.is_empty() {
                let (id, at) = **self.rng.pick(&ready.iter().collect::<Vec<_>>());
                let (id, at) = (*id, *at);
                self.read_message(key, id, at)?;
            }
        }
        Ok(())
    }

    /// Asks for a read; `None` when too many wait.
    fn read_stream(
        &mut self,
        key: Key,
        from: u64,
        max_bytes: u32,
    ) -> Result<Option<u64>, Violation> {
        let token = self.next_token;
        let from_offset = Offset(from);
        let read = self
            .log
            .read_stream(token, key.0, key.1, from_offset, max_bytes);
        if !taken(read)? {
            return Ok(None);
        }
        self.next_token += 1;
        let first = self.committed.0.get(&key).map_or(0, |state| state.first);
        let gone = from < first;
        self.reads.insert(token, Wanted::Stream { key, from, gone });
        Ok(Some(token))
    }

    fn read_message(&mut self, key: Key, id: u64, at: Location) -> Result<Option<u64>, Violation> {
        let token = self.next_token;
        if !taken(self.log.read_record(token, at))? {
            return Ok(None);
        }
        self.next_token += 1;
        self.reads.insert(token, Wanted::Message { key, id });
        Ok(Some(token))
    }

    pub(super) fn stream_arrived(
        &mut self,
        token: u64,
        result: Result<StreamChunk, ReadError>,
    ) -> Result<(), Violation> {
        let Some(Wanted::Stream { key, from, gone }) = self.reads.remove(&token) else {
            return Err(Violation::new(format!("a read nobody asked: {token}")));
        };
        let first_kept = self.owner.0.get(&key).map_or(0, |o| o.first);
        let chunk = match result {
            Ok(chunk) => chunk,
            Err(error) => {
                let trimmed = matches!(error, ReadError::Trimmed { .. }) && from < first_kept;
                self.refused(token, error, trimmed, format_args!("{key:?} from {from}"))?;
                return Ok(());
            }
        };
        self.stats.reads += 1;
        if gone {
            // Of a stream without a record left the log knows nothing.
            promise!(
                chunk.bytes.is_empty(),
                "{key:?} was trimmed and is read from {from}"
            );
            self.finished.push((token, ReadOutcome::Until(from)));
            return Ok(());
        }
        let (first, end) = (chunk.first.0, chunk.end.0);
        let committed = self.committed.0.get(&key).map_or(0, |c| c.end);
        // What was trimmed while the read was on its way may be left out.
        let begins = first <= from || (from < first_kept && first <= first_kept);
        promise!(
            begins && from < end && end <= committed,
            "{key:?} read from {from} gave {first}..{end} of {committed}"
        );
        let (mut at, mut bytes) = (first, &chunk.bytes[..]);
        while at < end {
            let Some(record) = self.model.block(key, at) else {
                return Err(Violation::new(format!("{key:?} has no {at}")));
            };
            promise!(record.head.first == at, "{key:?}: {at} is inside a block");
            let matches = bytes.get(..record.body.len()) == Some(&record.body[..]);
            promise!(matches, "{key:?} at {at} is not what was written");
            bytes = &bytes[record.body.len()..];
            at += u64::from(record.head.count);
        }
        promise!(
            at == end && bytes.is_empty(),
            "{key:?}: a chunk says it ends at {end}, it ends at {at} with {} bytes over",
            bytes.len()
        );
        self.finished.push((token, ReadOutcome::Until(end)));
        Ok(())
    }

    pub(super) fn message_arrived(
        &mut self,
        token: u64,
        result: Result<RecordBytes, ReadError>,
    ) -> Result<(), Violation> {
        let Some(Wanted::Message { key, id }) = self.reads.remove(&token) else {
            return Err(Violation::new(format!("a read nobody asked: {token}")));
        };
        let gone = |world: &Self| {
            let state = world.owner.0.get(&key);
            state.is_none_or(|state| !state.live.contains_key(&id))
        };
        match result {
            Ok(got) => {
                self.stats.reads += 1;
                let Some(record) = self.model.message(key, id) else {
                    return Err(Violation::new(format!("{key:?} has no message {id}")));
                };
                let same = got.head == record.head
                    && got.ext[..] == record.ext[..]
                    && got.body[..] == record.body[..];
                promise!(same, "message {id} of {key:?} is not what was put");
                self.finished.push((token, ReadOutcome::Message));
            }
            Err(error) => {
                let gone = gone(self);
                self.refused(token, error, gone, format_args!("message {id} of {key:?}"))?;
            }
        }
        Ok(())
    }

    fn refused(
        &mut self,
        token: u64,
        error: ReadError,
        known_gone: bool,
        what: core::fmt::Arguments<'_>,
    ) -> Result<(), Violation> {
        let allowed = match error {
            ReadError::Damaged { .. } => self.tolerance.damage || known_gone,
            ReadError::Disk(_) => self.tolerance.failure || known_gone,
            ReadError::Trimmed { .. } => known_gone,
        };
        promise!(allowed, "{what} cannot be read: {error:?}");
        self.stats.reads_refused += 1;
        self.finished.push((token, ReadOutcome::Refused(error)));
        Ok(())
    }

    /// Reads everything that is still needed and compares it. What cannot be
    /// read, when that is tolerated, is given back.
    pub(crate) fn verify_all(&mut self) -> Result<Vec<(Key, u64, ReadError)>, Violation> {
        let result = self.verify_each();
        result.map_err(|v| v.after(&self.trace))
    }

    fn verify_each(&mut self) -> Result<Vec<(Key, u64, ReadError)>, Violation> {
        let mut refused = Vec::new();
        for (key, state) in self.owner.clone().0 {
            if is_stream(key.0, &self.habits) {
                let mut from = state.first;
                let end = self.committed.0.get(&key).map_or(0, |c| c.end);
                while from < end {
                    let max = 1 << self.rng.between(10, 20);
                    let outcome = self.finish_read(|w| w.read_stream(key, from, max))?;
                    match outcome {
                        ReadOutcome::Until(next) => from = next,
                        ReadOutcome::Message => unreachable!("a stream was read"),
                        ReadOutcome::Refused(error) => {
                            // On to the next block: what is beyond must be right.
                            let block = self.model.block(key, from);
                            let next =
                                block.map_or(end, |r| r.head.first + u64::from(r.head.count));
                            refused.push((key, from, error));
                            from = next;
                        }
                    }
                }
            }
            let end = self.committed.0.get(&key).map_or(0, |c| c.end);
            for id in state.live.range(..end).map(|(id, _)| *id) {
                let outcome = self.finish_read(|w| {
                    let live = w.owner.0.get(&key).map(|state| &state.live);
                    match live.and_then(|live| live.get(&id)).copied() {
                        Some(at) => w.read_message(key, id, at),
                        None => Ok(None),
                    }
                })?;
                if let ReadOutcome::Refused(error) = outcome {
                    refused.push((key, id, error));
                }
            }
        }
        Ok(refused)
    }

    fn finish_read(
        &mut self,
        start: impl Fn(&mut Self) -> Result<Option<u64>, Violation>,
    ) -> Result<ReadOutcome, Violation> {
        let mut token = start(self)?;
        for _ in 0..SETTLE_STEPS_MAX {
            if let Some(wanted) = token
                && let Some(index) = self.finished.iter().position(|(t, _)| *t == wanted)
            {
                return Ok(self.finished.swap_remove(index).1);
            }
            let moved = self.step(&mut unwatched)?;
            if token.is_none() {
                token = start(self)?;
            }
            promise!(
                moved
                    || token.is_some_and(|t| self.reads.contains_key(&t))
                    || !self.finished.is_empty(),
                "a read is never started"
            );
        }
        Err(Violation::new("a read never ends".to_owned()))
    }
}

/// Whether a read was taken; only committed places are asked for.
fn taken(read: Result<(), ReadRefused>) -> Result<bool, Violation> {
    match read {
        Ok(()) => Ok(true),
        Err(ReadRefused::Full { .. }) => Ok(false),
        Err(ReadRefused::NotCommitted) => Err(Violation::new(
            "what is committed cannot be read: not committed".to_owned(),
        )),
    }
}
