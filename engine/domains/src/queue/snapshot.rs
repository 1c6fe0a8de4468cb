//! The partition as bytes, and back: a checkpoint bounds how much of the log
//! is replayed.
//!
//! A snapshot is the fold of everything *committed* when it was taken (the
//! owner labels it with the log position of the last op committed to the
//! partition). It holds no bodies, only where they are in the log. All
//! integers little-endian:
//!
//! ```text
//! "PQS2", u64 next id
//! u8 groups × { u8 number, u8 n, n bytes name }
//! u32 producers × { u64 id, u64 next sequence,
//!                   u8 puts × { u64 sequence, u32 count, u64 first id } }
//! u32 acks × u64 token tag                        the oldest first
//! u32 puts × { u64 first id, u32 count, u64 timestamp, u64 delay_ms,
//!              u64 ttl_ms, u64 segment, u32 offset, u32 len, u32 body bytes }
//! u32 messages × { u64 id, u32 put, u32 position, u32 len, u64 key hash,
//!                  u64 done groups, u8 delayed }  in their order of readiness
//! u32 entries × { u32 message, u8 group, u16 attempts, u8 reason (0 = alive),
//!                 u8 replayed, u64 since, u64 delay_ms, u8 n, n bytes error }
//! u8 redrives × { u8 group, a redrive as in `ops.rs` }            not yet done
//! ```
//!
//! Reservations are not in it: what was in flight is ready after a restart,
//! its attempts as they were.

use bytes::Bytes;
use pinion_commitlog::{Location, RecordHead};
use pinion_types::block;
use pinion_types::{Monotonic, WallMs};
use siphasher::sip::SipHasher13;

use super::apply::remaining_ms;
use super::config::{GROUPS_MAX, QueueConfig};
use super::group::Life;
use super::messages::{DeadReason, Entry, Message, NEVER, Residency, State, Trouble};
use super::ops::{self, PutExt, Read, ReplayError};
use super::partition::{PutEffect, QueuePartition, Verdict, after_ms};
use super::pool::{NIL, Row, Timer};
use super::producers::Producers;
use super::redrive::RedriveState;

const MAGIC: &[u8; 4] = b"PQS2";

/// The bytes are not a snapshot of a queue, or contradict themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot of a queue is malformed at byte {at}")]
pub struct SnapshotError {
    /// Where reading stopped.
    pub at: usize,
}

fn count(len: usize) -> [u8; 4] {
    u32::try_from(len)
        .expect("tables are bounded below 2^32")
        .to_le_bytes()
}

impl QueuePartition {
    /// Appends the state as of the last committed op to `out`.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.committed_id.to_le_bytes());
        let mask = self.group_mask;
        out.push(u8::try_from(mask.count_ones()).expect("at most 64"));
        for group in self.group_bits() {
            let name = &self.t.group(group).name;
            out.push(group);
            out.push(u8::try_from(name.len()).expect("at most GROUP_NAME_BYTES_MAX"));
            out.extend_from_slice(name);
        }
        self.producers.encode(self.committed_id, out);
        let acks = self.done_acks.iter();
        out.extend_from_slice(&count(acks.len()));
        for tag in acks {
            out.extend_from_slice(&tag.to_le_bytes());
        }
        let records = self.snapshot_records(out);
        self.snapshot_messages(&records, out);
        let at = out.len();
        out.push(0);
        for group in self.group_bits() {
            if let Some(redrive) = &self.t.group(group).redrive_kept {
                out[at] += 1;
                out.push(group);
                redrive.encode(out);
            }
        }
    }

    /// Gives the place of each record row among those written.
    fn snapshot_records(&self, out: &mut Vec<u8>) -> Vec<u32> {
        let rows = self.t.records.rows();
        let mut places = vec![NIL; rows.len()];
        let (mut written, at) = (0_u32, out.len());
        out.extend_from_slice(&[0; 4]);
        for (row, place) in rows.iter().zip(&mut places) {
            let Some(location) = row.location.filter(|_| row.live > 0) else {
                continue;
            };
            *place = written;
            written += 1;
            out.extend_from_slice(&row.first.to_le_bytes());
            out.extend_from_slice(&row.count.to_le_bytes());
            out.extend_from_slice(&row.timestamp.0.to_le_bytes());
            out.extend_from_slice(&row.delay_ms.to_le_bytes());
            out.extend_from_slice(&row.ttl_ms.to_le_bytes());
            out.extend_from_slice(&location.segment.to_le_bytes());
            out.extend_from_slice(&location.offset.to_le_bytes());
            out.extend_from_slice(&location.len.to_le_bytes());
            out.extend_from_slice(&row.body_len.to_le_bytes());
        }
        out[at..at + 4].copy_from_slice(&written.to_le_bytes());
        places
    }

    fn snapshot_messages(&self, records: &[u32], out: &mut Vec<u8>) {
        out.extend_from_slice(&count(self.t.messages.len() as usize));
        let mut entries = Vec::new();
        let mut kept = 0_u32;
        let mut place = 0_u32;
        let mut write = |row: &Message| {
            out.extend_from_slice(&row.id.to_le_bytes());
            out.extend_from_slice(&records[row.record as usize].to_le_bytes());
            out.extend_from_slice(&row.pos.to_le_bytes());
            out.extend_from_slice(&row.len.to_le_bytes());
            out.extend_from_slice(&row.key.to_le_bytes());
            out.extend_from_slice(&row.done.to_le_bytes());
            out.push(u8::from(row.delayed));
            let mut entry = row.entry;
            while entry != NIL {
                let at = &self.t.entries[entry];
                kept += u32::from(encode_entry(at, place, &mut entries));
                entry = at.sibling;
            }
            place += 1;
        };
        let mut message = self.ready.head;
        while message != NIL {
            let row = &self.t.messages[message];
            write(row);
            message = row.next();
        }
        for row in self.t.messages.rows() {
            if row.len > 0 && row.delayed {
                write(row);
            }
        }
        out.extend_from_slice(&kept.to_le_bytes());
        out.extend_from_slice(&entries);
    }

    /// A partition as a snapshot has it, into which what came after will be
    /// replayed.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn restore(config: QueueConfig, snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let mut queue = Self::unopened(config);
        let mut read = Read(snapshot);
        let whole = queue.decode(&mut read).and_then(|()| read.end(()));
        whole.ok_or(SnapshotError {
            at: snapshot.len() - read.0.len(),
        })?;
        Ok(queue)
    }

    fn decode(&mut self, read: &mut Read<'_>) -> Option<()> {
        if read.bytes(4)? != MAGIC {
            return None;
        }
        self.committed_id = read.u64()?;
        self.next_id = self.committed_id;
        for _ in 0..read.u8()? {
            let (group, len) = (read.u8()?, read.u8()?);
            let name = read.bytes(usize::from(len))?;
            if usize::from(group) >= GROUPS_MAX || self.group_mask & (1 << group) != 0 {
                return None;
            }
            self.place_group(group, name, Life::Open);
            self.group_mask |= 1 << group;
        }
        self.producers = Producers::decode(read)?;
        for _ in 0..read.u32()? {
            let tag = read.u64()?;
            self.done_acks
                .insert(Monotonic::ZERO, tag, self.config.done_acks_max);
        }
        let puts = read.u32()?;
        for _ in 0..puts {
            self.decode_put(read)?;
        }
        let messages = read.u32()?;
        let mut ids = Vec::new();
        for _ in 0..messages {
            ids.push(self.decode_message(read, puts)?);
        }
        for _ in 0..read.u32()? {
            self.decode_entry(read, &ids)?;
        }
        for _ in 0..read.u8()? {
            let group = read.u8()?;
            if usize::from(group) >= GROUPS_MAX || self.group_mask & (1 << group) == 0 {
                return None;
            }
            let state = RedriveState::decode(read).filter(|state| !state.done)?;
            self.t.group_mut(group).redrive_kept = Some(Box::new(state));
        }
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0].0 == pair[1].0)
            || ids.last().is_some_and(|(id, _)| *id >= self.committed_id)
        {
            return None;
        }
        for (id, row) in ids {
            self.index.push(id, row);
        }
        let all_live = |row: &super::messages::PutRecord| row.live > 0;
        self.t.records.rows().iter().all(all_live).then_some(())
    }

    fn decode_put(&mut self, read: &mut Read<'_>) -> Option<()> {
        let record = self.t.records.alloc();
        let row = &mut self.t.records[record];
        row.first = read.u64()?;
        row.count = read.u32()?;
        row.timestamp = WallMs(read.u64()?);
        row.delay_ms = read.u64()?;
        row.ttl_ms = read.u64()?;
        let at = Location {
            segment: read.u64()?,
            offset: read.u32()?,
            len: read.u32()?,
        };
        row.location = Some(at);
        row.body_len = read.u32()?;
        row.residency = Residency::Absent;
        self.bodies.places.insert(at, record);
        Some(())
    }

    fn decode_message(&mut self, read: &mut Read<'_>, puts: u32) -> Option<(u64, u32)> {
        let message = Message {
            id: read.u64()?,
            record: read.u32()?,
            pos: read.u32()?,
            len: read.u32()?,
            key: read.u64()?,
            done: read.u64()?,
            delayed: match read.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            ..Message::vacant()
        };
        if message.record >= puts || message.done & !self.group_mask != 0 || message.len == 0 {
            return None;
        }
        let row = &mut self.t.records[message.record];
        let inside = message.id.checked_sub(row.first)? < u64::from(row.count)
            && u64::from(message.pos) + u64::from(message.len) <= u64::from(row.body_len);
        if !inside {
            return None;
        }
        row.live += 1;
        let (id, len, done) = (message.id, u64::from(message.len), message.done);
        let row = self.t.messages.alloc();
        let delayed = message.delayed;
        self.t.messages[row] = message;
        self.bytes += len;
        if delayed {
            self.delayed += 1;
        } else {
            self.ready.push_back(&mut self.t.messages, row);
        }
        for group in super::partition::bits(done) {
            self.touch(row, group);
            let group = self.t.group_mut(group);
            group.done += 1;
            group.done_bytes += len;
        }
        Some((id, row))
    }

    fn decode_entry(&mut self, read: &mut Read<'_>, ids: &[(u64, u32)]) -> Option<()> {
        let message = ids.get(read.u32()? as usize)?.1;
        let (group, attempts) = (read.u8()?, read.u16()?);
        let dead = match read.u8()? {
            0 => None,
            reason => Some(DeadReason::from_u8(reason)?),
        };
        let replayed = read.u8()? == 1;
        let (since, delay_ms) = (WallMs(read.u64()?), read.u64()?);
        let len = read.u8()?;
        let error = read.bytes(usize::from(len))?;
        let known = usize::from(group) < GROUPS_MAX
            && self.group_mask & (1 << group) != 0
            && self.t.messages[message].touched & (1 << group) == 0;
        if !known {
            return None;
        }
        let entry = self.new_entry(message, group);
        let row = &mut self.t.entries[entry];
        row.attempts = attempts;
        *row.trouble_mut() = Trouble {
            error: (!error.is_empty()).then(|| Bytes::copy_from_slice(error)),
            since,
            delay_ms,
            dead,
            replayed,
        };
        if dead.is_some() {
            self.bury(entry);
        }
        Some(())
    }

    /// Folds one record of the log into the partition. `at` is where it lies.
    /// A record that the log has moved (`carried`) tells only where the bodies
    /// of a put are now.
    ///
    /// # Errors
    /// [`ReplayError`]; the partition must be fenced.
    pub fn replay(
        &mut self,
        head: &RecordHead,
        carried: bool,
        at: Location,
        ext: &[u8],
        body: &[u8],
    ) -> Result<(), ReplayError> {
        let malformed = ReplayError::Malformed(head.kind);
        match head.kind {
            ops::PUT if carried => {
                self.replay_moved(head, at);
                Ok(())
            }
            _ if carried => Ok(()),
            ops::PUT => self.replay_put(head, at, ext, body),
            ops::ACK
            | ops::NACK
            | ops::LAPSE
            | ops::DEAD
            | ops::DROP
            | ops::REPLAY
            | ops::PURGE => {
                let (op, items) = ops::decode(head.kind, ext).ok_or(malformed)?;
                if op.group == ops::ALL_GROUPS {
                    for item in items {
                        self.apply_drop(item.id);
                    }
                    return Ok(());
                }
                if self.group_mask & (1 << op.group) == 0 {
                    return Err(ReplayError::NoGroup(op.group));
                }
                let verdict = Verdict {
                    kind: op.kind,
                    group: op.group,
                    reason: op.reason,
                    error: Bytes::copy_from_slice(op.error),
                    timestamp: head.timestamp,
                };
                for item in items {
                    if op.kind == ops::ACK {
                        let max = self.config.done_acks_max;
                        self.done_acks.insert(Monotonic::ZERO, item.tag, max);
                    }
                    // One that every group is done with is gone.
                    if let Some(message) = self.index.find(&self.t.messages, item.id) {
                        self.apply(&verdict, message, item, Monotonic::ZERO);
                    }
                }
                Ok(())
            }
            ops::GROUP_CREATE | ops::GROUP_LATEST => {
                let (group, name) = ext.split_first().ok_or(malformed)?;
                let (from, name) = match head.kind {
                    ops::GROUP_LATEST => {
                        let (from, name) = name.split_first_chunk().ok_or(malformed)?;
                        (Some(u64::from_le_bytes(*from)), name)
                    }
                    _ => (None, name),
                };
                if usize::from(*group) >= GROUPS_MAX || self.group_mask & (1 << *group) != 0 {
                    return Err(malformed);
                }
                self.place_group(*group, name, Life::Creating);
                self.apply_group_create(*group, from);
                Ok(())
            }
            ops::REDRIVE => {
                let mut read = Read(ext);
                let group = read.u8().ok_or(malformed)?;
                let state = RedriveState::decode(&mut read).and_then(|state| read.end(state));
                let state = state.ok_or(malformed)?;
                if usize::from(group) >= GROUPS_MAX || self.group_mask & (1 << group) == 0 {
                    return Err(ReplayError::NoGroup(group));
                }
                self.apply_redrive(group, Box::new(state));
                Ok(())
            }
            ops::GROUP_DELETE => {
                let [group] = ext else {
                    return Err(malformed);
                };
                if usize::from(*group) >= GROUPS_MAX || self.group_mask & (1 << *group) == 0 {
                    return Err(ReplayError::NoGroup(*group));
                }
                self.apply_group_delete(*group);
                Ok(())
            }
            kind => Err(ReplayError::UnknownKind(kind)),
        }
    }

    fn replay_moved(&mut self, head: &RecordHead, at: Location) {
        let end = head.first + u64::from(head.count);
        let message = self.index.from(&self.t.messages, head.first).next();
        let Some(message) = message.filter(|m| self.t.messages[*m].id < end) else {
            return;
        };
        let record = self.t.messages[message].record;
        if let Some(old) = self.t.records[record].location.replace(at) {
            self.bodies.places.remove(&old);
        }
        self.bodies.places.insert(at, record);
    }

    fn replay_put(
        &mut self,
        head: &RecordHead,
        at: Location,
        ext: &[u8],
        body: &[u8],
    ) -> Result<(), ReplayError> {
        let first = head.first;
        let put = PutExt::decode(ext).ok_or(ReplayError::Malformed(ops::PUT))?;
        block::check_records(body, head.count).map_err(|_| ReplayError::Body { first })?;
        if first < self.committed_id {
            return Err(ReplayError::OutOfOrder {
                first,
                expected: self.committed_id,
            });
        }
        if let Some((producer, sequence)) = put.producer {
            let max = self.config.producers_max;
            self.producers
                .record(producer, sequence, head.count, first, u64::MAX, max);
        }
        self.apply_put(PutEffect {
            first,
            count: head.count,
            timestamp: head.timestamp,
            delay_ms: put.delay_ms,
            ttl_ms: put.ttl_ms,
            due: Monotonic::ZERO,
            expires: NEVER,
            producer: put.producer,
            location: Some(at),
            body: Bytes::copy_from_slice(body),
        });
        Ok(())
    }

    /// The log has been replayed: timers start, keys get their turns, and the
    /// partition is at work.
    ///
    /// What was to be delayed or to expire at a wall time is so after the rest
    /// of that time by `wall`. A clock that was set back while the node was
    /// down makes that rest the whole delay at most; nothing is lost or early.
    pub fn ready(&mut self, now: Monotonic, wall: WallMs) {
        assert!(!self.started, "a partition is opened once");
        self.see(now, wall);
        self.started = true;
        // The log is told what lives, not what went before it was opened.
        self.bodies.forget_releases();
        // A new secret in each life: tokens of an earlier one are not genuine.
        let seed = self.config.seed;
        self.secret = SipHasher13::new_with_keys(seed, wall.0.rotate_left(32) ^ now.0);
        self.rng = seed ^ self.committed_id;
        self.done_acks.renew(now);
        for group in self.groups() {
            self.t.group_mut(group).progress = now;
            self.watch_progress(group);
        }
        for record in 0..u32::try_from(self.t.records.rows().len()).expect("bounded") {
            let row = &mut self.t.records[record];
            if row.live == 0 {
                continue;
            }
            let since = row.timestamp;
            row.due = after_ms(now, remaining_ms(since, row.delay_ms, wall));
            if row.ttl_ms > 0 {
                row.expires = after_ms(now, remaining_ms(since, row.ttl_ms, wall));
            }
        }
        let live: Vec<u32> = self.index.from(&self.t.messages, 0).collect();
        for message in live {
            self.start_message(message, now, wall);
        }
        // All messages were looked at, so this walk is paid for; later ones are short.
        for group in self.groups() {
            self.pass_touched(group, u32::MAX);
        }
        self.resume_redrives();
    }

    fn start_message(&mut self, message: u32, now: Monotonic, wall: WallMs) {
        let row = &self.t.messages[message];
        let put = &self.t.records[row.record];
        let timer = if row.delayed {
            put.due.min(put.expires)
        } else {
            put.expires
        };
        let mut entry = row.entry;
        self.arm(Timer::Message(message), timer);
        while entry != NIL {
            let row = &self.t.entries[entry];
            let sibling = row.sibling;
            if row.state == State::Restored && self.claim_key(entry) {
                let row = &self.t.entries[entry];
                let trouble = row.trouble.as_deref();
                let left = trouble.map_or(0, |t| remaining_ms(t.since, t.delay_ms, wall));
                if left > 0 {
                    self.make_delayed(entry, after_ms(now, left));
                } else if row.attempts > 0 {
                    self.make_returned(entry);
                } else {
                    self.make_ready(entry);
                }
            }
            entry = sibling;
        }
    }
}

/// Writes what of an entry must survive; false if nothing must.
fn encode_entry(row: &Entry, message: u32, out: &mut Vec<u8>) -> bool {
    // What is reserved or on its way to the log is as it was before that.
    let Some(trouble) = &row.trouble else {
        return false;
    };
    let error = trouble.error.as_deref().unwrap_or_default();
    out.extend_from_slice(&message.to_le_bytes());
    out.push(row.group);
    out.extend_from_slice(&row.attempts.to_le_bytes());
    out.push(trouble.dead.map_or(0, |reason| reason as u8));
    out.push(u8::from(trouble.replayed));
    out.extend_from_slice(&trouble.since.0.to_le_bytes());
    out.extend_from_slice(&trouble.delay_ms.to_le_bytes());
    out.push(u8::try_from(error.len()).expect("checked against ERROR_BYTES_MAX"));
    out.extend_from_slice(error);
    true
}
