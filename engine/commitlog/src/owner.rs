//! What the owner of a log asks and tells beside appending: what is alive,
//! where time and size lead, what to read, and the clean end.

use pinion_types::{Offset, PartitionId, ResourceId, WallMs};

use crate::config::{LogConfig, ReadRefused};
use crate::events::{LogState, LogStats};
use crate::log::{Log, Phase};
use crate::segments::FileState;
use crate::{Location, Lsn};

impl Log {
    /// The last record appended.
    #[must_use]
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// The last durable record: everything up to it may be acknowledged.
    #[must_use]
    pub fn committed(&self) -> Lsn {
        self.committed
    }

    /// The settings it runs with.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// What it did and holds.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        LogStats {
            segments: self.segments.len(),
            disk_bytes: self
                .segments
                .iter()
                .filter(|segment| segment.file >= FileState::Made)
                .map(|segment| segment.file_bytes)
                .sum(),
            pending_bytes: self.pending_bytes,
            reads_pending: self.reads.pending(),
            partitions: self.partitions.len(),
            state: self.state(),
            ..self.stats
        }
    }

    /// Whether it takes records.
    #[must_use]
    pub const fn state(&self) -> LogState {
        match self.phase {
            Phase::Failed => LogState::Failed,
            Phase::Sealing | Phase::Sealed => LogState::Sealed,
            Phase::Running if self.files.read_only => LogState::ReadOnly,
            Phase::Running => LogState::Running,
        }
    }

    /// After a restart: the body at `at` is needed. What is not named between
    /// recovery and [`Log::ready`] counts as released.
    pub fn retain(&mut self, at: Location) {
        self.segments.retain(at);
    }

    /// After a restart: everything needed was named. Before it, nothing is
    /// removed or rewritten.
    pub fn ready(&mut self) {
        self.told = true;
        self.segments.emptied = true;
    }

    /// The body at `at` is not needed any more.
    pub fn release(&mut self, at: Location) {
        self.segments.release(at);
    }

    /// Records of the partition below `first` are not needed any more.
    pub fn release_stream(&mut self, resource: ResourceId, partition: PartitionId, first: Offset) {
        self.partitions
            .release(&mut self.segments, (resource, partition), first.0);
    }

    /// The partition is deleted: none of its records that live by offset is
    /// needed any more. Retained bodies are released one by one.
    pub fn forget(&mut self, resource: ResourceId, partition: PartitionId) {
        self.partitions
            .forget(&mut self.segments, (resource, partition));
    }

    /// An offset at or before the partition's first record of `time` or later,
    /// at the granularity of the index; `None` when there is no such record.
    #[must_use]
    pub fn seek_time(
        &self,
        resource: ResourceId,
        partition: PartitionId,
        time: WallMs,
    ) -> Option<Offset> {
        self.partitions
            .seek_time(&self.segments, (resource, partition), time)
            .map(Offset)
    }

    /// Where the partition's first offset may move when records older than
    /// `before` go, at the granularity of the index.
    #[must_use]
    pub fn expired(
        &self,
        resource: ResourceId,
        partition: PartitionId,
        before: WallMs,
    ) -> Option<Offset> {
        self.partitions
            .expired(&self.segments, (resource, partition), before)
            .map(Offset)
    }

    /// Bytes of the partition's records that are not released, headers included.
    #[must_use]
    pub fn stream_bytes(&self, resource: ResourceId, partition: PartitionId) -> u64 {
        self.partitions.bytes(&self.segments, (resource, partition))
    }

    /// Where the partition's first offset must move so that at most `max_bytes`
    /// stay; inside a sealed segment the place is estimated. `None` when they do.
    #[must_use]
    pub fn over_size(
        &self,
        resource: ResourceId,
        partition: PartitionId,
        max_bytes: u64,
    ) -> Option<Offset> {
        self.partitions
            .over_size(&self.segments, (resource, partition), max_bytes)
            .map(Offset)
    }

    /// Takes no more records, writes what there is, seals the active segment,
    /// and says [`LogEvent::Sealed`](crate::LogEvent::Sealed) when all of it is durable.
    pub fn seal(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        // A file that waits for a copy would keep the end from coming.
        self.unpin();
        self.phase = Phase::Sealing;
        self.compaction.stop();
        self.stop_collecting();
        self.pump(true);
        self.finish_seal();
    }

    /// Takes a read, see [`LogEvent::StreamRead`](crate::LogEvent::StreamRead): whole records of the
    /// partition from the one that holds `from` on, about `max_bytes`.
    ///
    /// # Errors
    /// It is not taken and will not be answered.
    pub fn read_stream(
        &mut self,
        token: u64,
        resource: ResourceId,
        partition: PartitionId,
        from: Offset,
        max_bytes: u32,
    ) -> Result<(), ReadRefused> {
        self.queue_stream_read(token, (resource, partition), from.0, max_bytes)
    }

    /// Takes a read, see [`LogEvent::RecordRead`](crate::LogEvent::RecordRead).
    ///
    /// # Errors
    /// It is not taken and will not be answered.
    pub fn read_record(&mut self, token: u64, at: Location) -> Result<(), ReadRefused> {
        self.queue_record_read(token, at)
    }
}
