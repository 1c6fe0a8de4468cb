//! A log for tests: the records in a `Vec`, committed when the test says so.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use bytes::Bytes;
use pinion_commitlog::RecordHead;
use pinion_types::{Offset, PartitionId, ResourceId};

use super::*;
use crate::op::kind;

#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) head: RecordHead,
    pub(crate) ext: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// The next one is of the same atomic group.
    pub(crate) more: bool,
}

impl Written {
    fn end(&self) -> u64 {
        self.head.first + u64::from(self.head.count)
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakeLog {
    pub(crate) records: Vec<Written>,
    pub(crate) committed: usize,
    /// Records whose checksum fails.
    pub(crate) damaged: BTreeSet<usize>,
}

fn head(kind: u8, first: u64, count: u32, timestamp: pinion_types::WallMs) -> RecordHead {
    RecordHead {
        resource: ResourceId(1),
        partition: PartitionId(0),
        kind,
        first,
        count,
        epoch: 0,
        timestamp,
    }
}

impl FakeLog {
    /// Appends every op there is, lent or owned alike.
    pub(crate) fn take(&mut self, p: &mut Partition) {
        let mut grouped = false;
        loop {
            // Both ways of polling must tell the same story.
            if self.records.len().is_multiple_of(2)
                && let Some(op) = p.poll_single()
            {
                self.records.push(Written {
                    head: head(op.kind, op.first, op.count, op.timestamp),
                    ext: op.ext.to_vec(),
                    body: op.body.to_vec(),
                    more: false,
                });
                continue;
            }
            let Some(op) = p.poll_op() else { break };
            assert!(!op.retain, "a stream's records are released by offset");
            grouped = op.more;
            self.records.push(Written {
                head: head(op.kind, op.first, op.count, op.timestamp),
                ext: op.ext,
                body: op.body.to_vec(),
                more: op.more,
            });
        }
        assert!(!grouped, "a group is queued whole");
    }

    /// Commits up to `count` records more, and what their groups need.
    pub(crate) fn commit(&mut self, p: &mut Partition, count: usize) {
        let mut left = count;
        while self.committed < self.records.len() && (left > 0 || self.in_group()) {
            p.commit_next();
            self.committed += 1;
            left = left.saturating_sub(1);
        }
    }

    fn in_group(&self) -> bool {
        self.committed > 0 && self.records[self.committed - 1].more
    }

    /// Takes and commits everything and ends the turn.
    pub(crate) fn flush(&mut self, p: &mut Partition) {
        self.take(p);
        self.commit(p, usize::MAX);
        p.seal();
    }

    /// What the log says to a read: blocks from the one with `from` on, up to
    /// `max_bytes` or `blocks_max`, at least one.
    pub(crate) fn read(
        &self,
        from: u64,
        first: u64,
        max_bytes: u32,
        blocks_max: usize,
    ) -> Result<StreamChunk, ColdError> {
        if from < first {
            return Err(ColdError::Trimmed {
                first: Offset(first),
            });
        }
        let mut bytes = Vec::new();
        let mut span: Option<(u64, u64)> = None;
        let blocks = self.records[..self.committed]
            .iter()
            .enumerate()
            .filter(|(_, r)| r.head.kind == kind::STREAM_BLOCK && r.end() > from);
        for (i, record) in blocks.take(blocks_max) {
            if self.damaged.contains(&i) {
                break;
            }
            if span.is_some() && bytes.len() + record.body.len() > max_bytes as usize {
                break;
            }
            bytes.extend_from_slice(&record.body);
            span = Some((span.map_or(record.head.first, |s| s.0), record.end()));
        }
        let (first, end) = span.ok_or(ColdError::Damaged)?;
        Ok(StreamChunk {
            bytes: Bytes::from(bytes),
            first: Offset(first),
            end: Offset(end),
        })
    }

    /// Answers every read the partition wants, until it wants none.
    pub(crate) fn answer(&self, now: pinion_types::Monotonic, p: &mut Partition) -> usize {
        let mut reads = 0;
        while let Some(read) = p.poll_read() {
            reads += 1;
            let first = p.first_available().0;
            let answer = self.read(read.from.0, first, read.max_bytes, usize::MAX);
            p.handle_read(now, read.from, answer);
        }
        reads
    }

    /// What a restart makes of the first `upto` records, from a state as of
    /// the first `state.1`.
    pub(crate) fn recover(
        &self,
        config: PartitionConfig,
        state: Option<(&[u8], usize)>,
        upto: usize,
    ) -> Partition {
        let mut p = Partition::new(config);
        let mut from = 0;
        if let Some((state, as_of)) = state {
            p.restore(state).unwrap();
            from = as_of;
        }
        for record in &self.records[from..upto] {
            p.replay(&record.head, false, &record.ext, &record.body)
                .unwrap();
        }
        p
    }
}
