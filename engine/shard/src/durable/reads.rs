//! What partitions read back from their logs, and what happens when a read is
//! the first to meet damage.

use pinion_commitlog::{Damage, DamageKind, DamagedPartitions, Location, ReadError, RecordBytes};
use pinion_domains::queue::{LoadError, LoadToken};
use pinion_domains::stream::{ColdError, StreamChunk};
use pinion_types::{Monotonic, Offset, WallMs};

use crate::output::ShardOutput;
use crate::shard::{Kind, Shard, Slot, Standing};

#[derive(Clone, Copy, Debug)]
pub(super) enum ReadFor {
    Stream {
        slot: Slot,
        from: Offset,
    },
    Load {
        slot: Slot,
        token: LoadToken,
    },
    Look {
        slot: Slot,
        place: Location,
        look: u64,
    },
}

impl Shard {
    /// Asks the log for what the partition lacks.
    pub(crate) fn take_reads(&mut self, now: Monotonic, slot: Slot) {
        let owned = &mut self.partitions[slot.index()];
        let Some(at) = owned.log.and_then(|id| self.logs.index(id)) else {
            return;
        };
        let log = &mut self.logs.slots[at].log;
        let (resource, partition) = owned.key;
        match &mut owned.kind {
            Kind::Stream(stream) => {
                while let Some(read) = stream.poll_read() {
                    let from = read.from;
                    let token = self.logs.reads.insert(ReadFor::Stream { slot, from }) as u64;
                    if log
                        .read_stream(token, resource, partition, from, read.max_bytes)
                        .is_err()
                    {
                        // As many reads wait as may: this one counts as failed
                        // and is tried again.
                        self.logs
                            .reads
                            .remove(usize::try_from(token).expect("a slab index"));
                        stream.handle_read(now, from, Err(ColdError::Failed));
                        break;
                    }
                }
            }
            Kind::Queue(queue) => {
                while let Some((load, place)) = queue.poll_load() {
                    let token = self.logs.reads.insert(ReadFor::Load { slot, token: load }) as u64;
                    if log.read_record(token, place).is_err() {
                        self.logs
                            .reads
                            .remove(usize::try_from(token).expect("a slab index"));
                        queue.handle_loaded(load, Err(LoadError::Retry));
                        break;
                    }
                }
                while let Some(place) = queue.poll_release() {
                    log.release(place);
                }
            }
            Kind::Cache(_) => {}
        }
    }

    pub(super) fn stream_read(
        &mut self,
        now: Monotonic,
        token: u64,
        result: Result<pinion_commitlog::StreamChunk, ReadError>,
    ) {
        let token = usize::try_from(token).expect("a slab index");
        let Some(ReadFor::Stream { slot, from }) = self.logs.reads.try_remove(token) else {
            return;
        };
        if self.partitions[slot.index()].standing == Standing::Purged {
            // What was asked for is gone; who waits learns it.
            self.ready.push_back(ShardOutput::ReadReturned { slot });
            return;
        }
        if let Err(ReadError::Damaged { segment, offset }) = result {
            self.read_met_damage(slot, segment, offset);
        }
        let result = match result {
            Ok(chunk) => Ok(StreamChunk {
                bytes: chunk.bytes,
                first: chunk.first,
                end: chunk.end,
            }),
            Err(ReadError::Trimmed { first }) => Err(ColdError::Trimmed { first }),
            Err(ReadError::Damaged { .. }) => Err(ColdError::Damaged),
            Err(ReadError::Disk(_)) => Err(ColdError::Failed),
        };
        self.stream(slot).handle_read(now, from, result);
        self.ready.push_back(ShardOutput::ReadReturned { slot });
    }

    /// The log has read one record for a queue.
    pub(super) fn record_read(&mut self, token: u64, result: Result<RecordBytes, ReadError>) {
        let token = usize::try_from(token).expect("a slab index");
        let read = self.logs.reads.try_remove(token);
        let Some(ReadFor::Load { slot, .. } | ReadFor::Look { slot, .. }) = read else {
            return;
        };
        self.touch(slot);
        if let Err(ReadError::Damaged { segment, offset }) = result {
            self.read_met_damage(slot, segment, offset);
        }
        let token = match read {
            Some(ReadFor::Load { token, .. }) => token,
            Some(ReadFor::Look { place, look, .. }) => {
                let body = result.map(|record| record.body);
                self.ready
                    .push_back(ShardOutput::Looked { look, place, body });
                return;
            }
            _ => return,
        };
        let owned = &mut self.partitions[slot.index()];
        if owned.standing == Standing::Purged {
            return;
        }
        if let Kind::Queue(queue) = &mut owned.kind {
            let body = result
                .map(|record| record.body)
                .map_err(|error| match error {
                    // It was moved while it was asked for.
                    ReadError::Trimmed { .. } => LoadError::Retry,
                    ReadError::Damaged { .. } | ReadError::Disk(_) => LoadError::Damaged,
                });
            queue.handle_loaded(token, body);
        }
    }

    /// Reads the body of a record for somebody who looks at a queue, beside
    /// what the queue itself loads; [`ShardOutput::Looked`] has it. False when as
    /// many reads wait as may.
    pub fn look(&mut self, slot: Slot, place: Location, look: u64) -> bool {
        let log = self.partitions[slot.index()].log;
        let Some(at) = log.and_then(|id| self.logs.index(id)) else {
            return false;
        };
        let read = ReadFor::Look { slot, place, look };
        let token = self.logs.reads.insert(read);
        let asked = self.logs.slots[at].log.read_record(token as u64, place);
        if asked.is_err() {
            self.logs.reads.remove(token);
        }
        asked.is_ok()
    }

    /// A start reads no old segment, so a read may be the first to come to
    /// damage there. What is lost is the partition's, whoever finds it.
    fn read_met_damage(&mut self, slot: Slot, segment: u64, offset: u64) {
        let owned = &self.partitions[slot.index()];
        let (key, Some(log)) = (owned.key, owned.log) else {
            return;
        };
        if owned.fenced {
            return;
        }
        self.fence(slot);
        let damage = Damage {
            segment,
            offset,
            len: 0,
            kind: DamageKind::Group,
            partitions: DamagedPartitions::Some(vec![key]),
        };
        self.ready.push_back(ShardOutput::Damaged { log, damage });
    }

    /// Where in a durable stream to begin looking for records of `time`.
    pub(crate) fn seek_time(&self, slot: Slot, time: WallMs) -> Option<Offset> {
        let owned = &self.partitions[slot.index()];
        let at = owned.log.and_then(|id| self.logs.index(id))?;
        let (resource, partition) = owned.key;
        self.logs.slots[at].log.seek_time(resource, partition, time)
    }
}
