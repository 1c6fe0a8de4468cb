//! Snapshots of a member: asked for, written, sent to those that are too far behind,
//! and taken from a leader.

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_types::Monotonic;
use raft::eraftpb::{ConfState, Message, MessageType, Snapshot as RaftSnapshot};
use raft::{Ready, SnapshotStatus};

use super::{Installing, Member, Snapshot};
use crate::config::GroupConfig;
use crate::format::{HardBody, MemberId, SnapshotState};
use crate::limits::SNAPSHOT_BYTES_MAX;
use crate::output::{Notice, Output, Role};
use crate::peer::{ChunkVerdict, PeerMessage};
use crate::storage::{SnapshotMeta, sorted};
use crate::transfer::{End, Taken};
use crate::wal::Wal;

impl Member {
    pub(super) fn want_snapshot(&mut self, config: &GroupConfig, out: &mut VecDeque<Output>) {
        let due = match self.snapshot {
            Snapshot::Due => true,
            Snapshot::Durable => {
                self.raw.store().take_wanted()
                    || self.applied - self.asked >= config.snapshot_every_entries
                    || self.asked_bytes >= config.snapshot_every_bytes
            }
            _ => false,
        };
        if !due || self.applied == self.raw.store().snapshot.index {
            return;
        }
        let raft = &self.raw.raft;
        let term = raft.raft_log.term(self.applied);
        self.snapshot = Snapshot::Wanted(SnapshotMeta {
            index: self.applied,
            term: term.expect("what was just applied is in memory"),
            conf: raft.prs().conf().to_conf_state(),
        });
        (self.asked, self.asked_bytes) = (self.applied, 0);
        out.push_back(Output::WantSnapshot {
            index: self.applied,
        });
    }

    /// The machine as it was at `index`; ignored when it was not asked for.
    pub(crate) fn snapshot_ready(
        &mut self,
        index: u64,
        machine: Bytes,
        config: &GroupConfig,
        wal: &mut Wal,
        out: &mut VecDeque<Output>,
    ) {
        let meta = match &self.snapshot {
            Snapshot::Wanted(meta) if meta.index == index => meta.clone(),
            _ => return,
        };
        if machine.len() > SNAPSHOT_BYTES_MAX {
            // The log takes it for one that was never begun; it is asked for again
            // after as many entries more.
            out.push_back(Output::Notice(Notice::SnapshotTooLarge {
                bytes: machine.len(),
                limit: SNAPSHOT_BYTES_MAX,
            }));
            self.snapshot = Snapshot::Durable;
            return;
        }
        let memory = self.raw.store();
        let covered = memory.covered(index, (config.tail_entries, config.tail_bytes));
        let whose = (self.cluster, self.id);
        wal.checkpoint(whose, &meta, &machine, memory, covered);
        self.snapshot = Snapshot::Writing(meta, machine);
    }

    pub(super) fn write_checkpoint(&mut self, wal: &mut Wal) {
        let memory = self.raw.store();
        let whose = (self.cluster, self.id);
        wal.checkpoint(whose, &memory.snapshot, &self.machine, memory, 0);
    }

    /// The checkpoint is durable.
    pub(crate) fn checkpoint_done(&mut self, config: &GroupConfig, out: &mut VecDeque<Output>) {
        let done = core::mem::replace(&mut self.snapshot, Snapshot::Durable);
        if let Snapshot::Installing(installed) = done {
            self.raw.on_persist_ready(installed.ready);
            self.raw.advance_apply_to(self.applied);
            self.durable_term = installed.term;
            self.send(installed.messages, out);
            self.reads.handle_applied(self.applied, out);
        } else if let Snapshot::Writing(meta, machine) = done {
            self.machine = machine;
            let memory = self.raw.mut_store();
            let covered = memory.covered(meta.index, (config.tail_entries, config.tail_bytes));
            memory.compact(meta, covered);
        }
    }

    /// The last checkpoint came to nothing, and the log can take another one.
    pub(crate) fn checkpoint_failed(&mut self, wal: &mut Wal) {
        match self.snapshot {
            Snapshot::Writing(..) => self.snapshot = Snapshot::Due,
            Snapshot::Birth | Snapshot::Installing(_) => self.write_checkpoint(wal),
            Snapshot::Durable | Snapshot::Due | Snapshot::Wanted(_) => {}
        }
    }

    // --------------------------------------------------- snapshots between members

    /// raft-rs has sent a snapshot: it goes in chunks, with the machine.
    pub(super) fn begin_transfers(&mut self, now: Monotonic, out: &mut VecDeque<Output>) {
        let to_send = core::mem::take(&mut self.to_send);
        if self.told.0 != Role::Leader {
            return;
        }
        for (to, term) in to_send {
            let meta = &self.raw.store().snapshot;
            let state = SnapshotState {
                cluster: self.cluster,
                member: self.id,
                index: meta.index,
                term: meta.term,
                voters: sorted(&meta.conf.voters),
                learners: sorted(&meta.conf.learners),
                machine: &self.machine,
            };
            let encode = || state.encode().into();
            let message = self.outgoing.begin(now, to, (term, meta.index), encode);
            out.push_back(Output::Send { to, message });
        }
    }

    /// Something about a snapshot, from or to another member.
    pub(crate) fn handle_transfer(
        &mut self,
        now: Monotonic,
        from: MemberId,
        message: PeerMessage,
        out: &mut VecDeque<Output>,
    ) {
        if !self.takes_part() {
            return;
        }
        let ack = match message {
            PeerMessage::Raft(_) => return,
            PeerMessage::Ack(ack) => {
                let (chunks, end) = self.outgoing.handle_ack(now, from, ack);
                for message in chunks {
                    out.push_back(Output::Send { to: from, message });
                }
                let status = match end {
                    None => return,
                    Some(End::Arrived) => SnapshotStatus::Finish,
                    Some(End::Failed) => SnapshotStatus::Failure,
                };
                return self.raw.report_snapshot(from.0, status);
            }
            PeerMessage::Offer(offer) => {
                let term = self.raw.raft.term;
                self.incoming.handle_offer(from, term, offer)
            }
            PeerMessage::Chunk(chunk) => match self.incoming.handle_chunk(from, &chunk) {
                None => return,
                Some(Taken::Answer(ack)) => ack,
                Some(Taken::Whole {
                    term,
                    bytes,
                    mut ack,
                }) => {
                    if !self.take_snapshot(from, term, &bytes) {
                        self.incoming.reject();
                        ack.verdict = ChunkVerdict::Corrupt;
                    }
                    ack
                }
            },
        };
        let message = PeerMessage::Ack(ack);
        out.push_back(Output::Send { to: from, message });
    }

    /// Tells raft-rs of a snapshot that is here; false when it is none for this member.
    fn take_snapshot(&mut self, from: MemberId, term: u64, bytes: &Bytes) -> bool {
        let Ok(state) = SnapshotState::decode(bytes) else {
            return false;
        };
        let us = self.id.0;
        let knows = state.voters.contains(&us) || state.learners.contains(&us);
        if state.cluster != self.cluster || state.index == 0 || !knows {
            return false;
        }
        let (index, machine) = (state.index, bytes.slice_ref(state.machine));
        let mut snapshot = RaftSnapshot::default();
        let meta = snapshot.mut_metadata();
        (meta.index, meta.term) = (index, state.term);
        meta.set_conf_state(ConfState::from((state.voters, state.learners)));
        let mut message = Message {
            from: from.0,
            to: us,
            term,
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgSnapshot);
        message.set_snapshot(snapshot);
        // What raft-rs does not take is of an older term, or says nothing new.
        let _ = self.raw.step(message);
        let pending = self.raw.snap();
        if pending.is_some_and(|snapshot| snapshot.get_metadata().index == index) {
            self.arrived = Some((index, machine));
        }
        true
    }

    /// Takes a snapshot from the leader in place of everything. What it rests on is in
    /// the checkpoint, so nothing is appended for it.
    pub(super) fn install(&mut self, mut ready: Ready, wal: &mut Wal, out: &mut VecDeque<Output>) {
        let meta = ready.snapshot().get_metadata();
        let (index, machine) = self
            .arrived
            .take()
            .expect("raft-rs knows of no snapshot but the one that was given to it");
        assert!(index == meta.index, "{index} arrived, not {}", meta.index);
        let meta = SnapshotMeta {
            index,
            term: meta.term,
            conf: meta.get_conf_state().clone(),
        };
        let memory = self.raw.mut_store();
        if let Some(hard) = ready.hs() {
            memory.hard = hard.clone();
        }
        memory.restore(meta);
        memory.append(ready.entries());
        wal.set_written(HardBody {
            term: memory.hard.term,
            vote: memory.hard.vote,
            commit: memory.hard.commit,
        });
        self.machine = machine.clone();
        self.write_checkpoint(wal);
        self.snapshot = Snapshot::Installing(Installing {
            ready: ready.number(),
            term: self.raw.raft.term,
            messages: ready.take_persisted_messages(),
        });
        // Its owner was told that nobody knows when this member led no more.
        self.proposals.retain(|(at, _), proposal| {
            let stays = *at > index;
            if !stays {
                self.proposals_bytes -= proposal.bytes;
            }
            stays
        });
        (self.applied, self.asked, self.asked_bytes) = (index, index, 0);
        self.tell_role(out);
        let bytes = machine.len();
        out.push_back(Output::Notice(Notice::Installing { index, bytes }));
        out.push_back(Output::Restore { index, machine });
        self.raw.advance_append_async(ready);
    }
}
