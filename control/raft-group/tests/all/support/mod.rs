//! A member on a disk that fails on purpose, and a machine that is a list; in
//! `cluster`, several of them and what lies between them.

#![allow(dead_code)] // Each test uses its part.

pub(crate) mod cluster;

use core::time::Duration;

use bytes::Bytes;
use pinion_raft_group::{
    ChangeError, Found, Group, GroupConfig, MemberChange, MemberId, Notice, OpenError, Output,
    PeerMessage, ProposalId, ProposeError, ReadId, Role,
};
use pinion_simkit::{CrashMode, SimDisk, SimDiskConfig, SimRng};
use pinion_types::{Monotonic, WallMs};

pub(crate) const CLUSTER: [u8; 16] = *b"a test's cluster";
pub(crate) const ONE: MemberId = MemberId(1);

pub(crate) fn config() -> GroupConfig {
    GroupConfig {
        store: [7; 16],
        seed: 1,
        segment_bytes: 2 << 20,
        ..GroupConfig::default()
    }
}

/// What a member's owner has: commands in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine(pub(crate) Vec<(u64, Vec<u8>)>);

impl Machine {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, data) in &self.0 {
            out.extend(index.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            out.extend(data);
        }
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Self {
        let mut found = Vec::new();
        while let Some((index, rest)) = bytes.split_first_chunk() {
            let (len, rest) = rest.split_first_chunk().unwrap();
            let len = usize::try_from(u64::from_le_bytes(*len)).unwrap();
            found.push((u64::from_le_bytes(*index), rest[..len].to_vec()));
            bytes = &rest[len..];
        }
        Self(found)
    }
}

/// One member with its disk and its machine.
pub(crate) struct Node {
    pub(crate) id: MemberId,
    pub(crate) group: Group,
    pub(crate) disk: SimDisk,
    pub(crate) now: Monotonic,
    pub(crate) machine: Machine,
    pub(crate) found: Found,
    pub(crate) role: Role,
    pub(crate) leader: Option<MemberId>,
    /// Terms in which it led.
    pub(crate) led: Vec<u64>,
    /// Own proposals that were applied here, those that came to nothing, and those that
    /// nobody knew of.
    pub(crate) done: Vec<u64>,
    pub(crate) dropped: Vec<u64>,
    pub(crate) uncertain: Vec<u64>,
    /// Terms of what was applied in this life, by index.
    pub(crate) terms: Vec<(u64, u64)>,
    /// Answered reads with what was asked for, and reads that were given up.
    pub(crate) reads: Vec<(u64, u64)>,
    pub(crate) failed_reads: Vec<u64>,
    /// Memberships as they were told: index, voters, learners.
    pub(crate) members: Vec<(u64, Vec<u64>, Vec<u64>)>,
    /// Snapshots that came from a leader.
    pub(crate) restored: usize,
    /// What it wants to say to others.
    pub(crate) sent: Vec<(MemberId, PeerMessage)>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) sealed: bool,
    /// Snapshots that were asked for.
    pub(crate) snapshots: Vec<u64>,
    /// Asked for, and not answered because the owner is told not to.
    pub(crate) hold_snapshots: bool,
    next: u64,
}

pub(crate) fn disk(seed: u64) -> SimDisk {
    SimDisk::new(SimDiskConfig::default(), SimRng::new(seed))
}

impl Node {
    pub(crate) fn open(config: GroupConfig, disk: SimDisk) -> Result<Self, OpenError> {
        Self::open_as(ONE, 0, config, disk)
    }

    /// `life` makes the numbers of proposals different from those of other lives.
    pub(crate) fn open_as(
        id: MemberId,
        life: u64,
        config: GroupConfig,
        mut disk: SimDisk,
    ) -> Result<Self, OpenError> {
        let opened = Group::open(config, &mut disk, WallMs(1_700_000_000_000))?;
        let machine = opened
            .snapshot
            .map_or_else(Machine::default, |(_, bytes)| Machine::decode(&bytes));
        Ok(Self {
            id,
            group: opened.group,
            disk,
            now: Monotonic::ZERO,
            machine,
            found: opened.found,
            role: Role::Follower,
            leader: None,
            led: Vec::new(),
            done: Vec::new(),
            dropped: Vec::new(),
            uncertain: Vec::new(),
            terms: Vec::new(),
            reads: Vec::new(),
            failed_reads: Vec::new(),
            members: Vec::new(),
            restored: 0,
            sent: Vec::new(),
            notices: Vec::new(),
            sealed: false,
            snapshots: Vec::new(),
            hold_snapshots: false,
            next: life << 32,
        })
    }

    /// A group of one, from nothing, that leads.
    pub(crate) fn alone(config: GroupConfig, disk: SimDisk) -> Self {
        let mut node = Self::open(config, disk).unwrap();
        assert_eq!(node.found, Found::Empty);
        node.group.bootstrap(ONE, CLUSTER, &[ONE], Bytes::new());
        node.rest();
        assert_eq!(node.role, Role::Leader);
        node
    }

    /// The same after it was started again.
    pub(crate) fn again(self, config: GroupConfig) -> Self {
        Self::open(config, self.disk).unwrap()
    }

    pub(crate) fn propose(&mut self, data: &[u8]) -> Result<u64, ProposeError> {
        let number = self.next + 1;
        let id = ProposalId {
            member: self.id,
            number,
        };
        self.group.propose(id, Bytes::copy_from_slice(data))?;
        self.next = number;
        Ok(number)
    }

    pub(crate) fn propose_essential(&mut self, data: &[u8]) -> Result<u64, ProposeError> {
        let number = self.next + 1;
        let id = ProposalId {
            member: self.id,
            number,
        };
        self.group
            .propose_essential(id, Bytes::copy_from_slice(data))?;
        self.next = number;
        Ok(number)
    }

    pub(crate) fn change(&mut self, change: MemberChange) -> Result<u64, ChangeError> {
        let number = self.next + 1;
        let id = ProposalId {
            member: self.id,
            number,
        };
        self.group.propose_members(id, change)?;
        self.next = number;
        Ok(number)
    }

    pub(crate) fn read(&mut self, number: u64) {
        self.group.read(self.now, ReadId(number)).unwrap();
    }

    /// Ends a turn: requests go to the disk, outputs to the machine.
    pub(crate) fn turn(&mut self) {
        self.group.end_turn(self.now);
        while let Some(output) = self.group.poll_output() {
            self.take(output);
        }
        // An answer to an output may have given the disk something to do, too.
        while let Some(request) = self.group.poll_disk() {
            self.disk.submit(self.now, request);
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Send { to, message } => self.sent.push((to, message)),
            Output::Apply {
                index,
                term,
                id,
                data,
            } => {
                let last = self.machine.0.last().map_or(0, |(index, _)| *index);
                assert!(index > last, "{index} is applied after {last}");
                self.machine.0.push((index, data.to_vec()));
                self.terms.push((index, term));
                if id.member == self.id {
                    self.done.push(id.number);
                }
            }
            Output::MembersChanged {
                index,
                id,
                voters,
                learners,
            } => {
                let ids = |of: Vec<MemberId>| of.iter().map(|id| id.0).collect();
                self.members.push((index, ids(voters), ids(learners)));
                if id.member == self.id {
                    self.done.push(id.number);
                }
            }
            Output::Restore { machine, .. } => {
                self.machine = Machine::decode(&machine);
                self.terms.clear();
                self.restored += 1;
            }
            Output::Dropped { id } => self.dropped.push(id.number),
            Output::Read { id, index } => {
                assert!(index <= self.group.status().applied, "it is not there yet");
                self.reads.push((id.0, index));
            }
            Output::ReadFailed { id } => self.failed_reads.push(id.0),
            Output::Uncertain { id } => self.uncertain.push(id.number),
            Output::Role { role, leader, term } => {
                (self.role, self.leader) = (role, leader);
                if role == Role::Leader {
                    self.led.push(term);
                }
            }
            Output::WantSnapshot { index } => {
                self.snapshots.push(index);
                if !self.hold_snapshots {
                    let machine = self.machine.encode().into();
                    self.group.snapshot_ready(index, machine);
                }
            }
            Output::Notice(notice) => self.notices.push(notice),
            Output::Sealed => self.sealed = true,
        }
    }

    /// One step: the next thing that the disk does; false when it has nothing to do.
    pub(crate) fn step(&mut self) -> bool {
        self.turn();
        let Some(due) = self.disk.next_deadline() else {
            return false;
        };
        self.now = self.now.max(due);
        let done = self.disk.poll_done(self.now).unwrap();
        self.group.handle_disk_done(self.now, done);
        true
    }

    /// Until the disk has nothing to do.
    pub(crate) fn rest(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 100_000, "it never comes to rest");
        }
        self.turn();
    }

    /// Lets time pass, with every deadline on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.group.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.group.handle_timeout(self.now);
            self.rest();
        }
        self.now = end;
    }

    pub(crate) fn crash(&mut self, mode: CrashMode, rng: &mut SimRng) {
        self.disk.crash(mode, rng);
    }

    /// What was applied, without the places.
    pub(crate) fn applied(&self) -> Vec<&[u8]> {
        self.machine.0.iter().map(|(_, data)| &data[..]).collect()
    }
}
