//! What must be true of a control plane, whatever happened to it: one history of changes
//! for everybody, and what clients were told is in it at the right place.
//!
//! Versions give the order of everything, so that a history is checked as it comes: an
//! operation saw, or made, a version behind everything that anybody knew when it began.

use std::collections::BTreeMap;
use std::sync::Arc;

use pinion_metadata::{
    Body, Change, ChangeKind, Command, Expect, MetaCode, MetaError, MetaVersion, Metadata, Object,
    ObjectKey,
};
use pinion_raft_group::{Claim, MemberId, RaftMessage, Status};
use pinion_types::WallMs;

use super::PlaneCounts;
use crate::{Violation, promise};

/// What stands in a description, so that it says who wrote it.
pub(super) fn mark(number: u128) -> Box<str> {
    format!("w{number}").into()
}

fn description(object: &Object) -> Option<&str> {
    match &object.body {
        Body::Tenant(tenant) => Some(&tenant.description),
        _ => None,
    }
}

/// The write that an object says it is of. Of a batch one object says so.
fn marked(object: &Object) -> Option<u128> {
    description(object)?.strip_prefix('w')?.parse().ok()
}

/// What is known of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was asked for, and nobody said what became of it.
    Open,
    /// It was answered as done.
    Done(MetaVersion),
    /// It was answered as refused, and nothing of it was under way.
    Refused,
}

/// One write of a client, however often it asked.
#[derive(Clone, Debug)]
pub(super) struct WriteAsked {
    pub(super) number: u128,
    pub(super) expect: Expect,
    pub(super) command: Command,
    /// The newest version that anybody knew when it was first asked for.
    pub(super) floor: u64,
}

/// What was seen of one object, by version.
#[derive(Clone, Debug, Default)]
struct Track(Vec<(u64, Option<Arc<Object>>)>);

impl Track {
    /// The object after `version`.
    fn at(&self, version: u64) -> Option<&Arc<Object>> {
        let after = self.0.partition_point(|(at, _)| *at <= version);
        self.0[..after].last()?.1.as_ref()
    }

    /// What it was after any of the versions from `from` to `to`.
    fn between(&self, from: u64, to: u64) -> impl Iterator<Item = Option<&Arc<Object>>> {
        let changed = self
            .0
            .iter()
            .filter(move |(at, _)| (from + 1..=to).contains(at))
            .map(|(_, object)| object.as_ref());
        core::iter::once(self.at(from)).chain(changed)
    }
}

/// Everything that anybody was ever shown.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) counts: PlaneCounts,
    cluster: Option<[u8; 16]>,
    /// Change of version n at n - 1.
    history: Vec<Change>,
    objects: BTreeMap<ObjectKey, Track>,
    /// Hash of the metadata after an entry.
    hashes: BTreeMap<u64, u64>,
    /// Who led in a term.
    leaders: BTreeMap<u64, usize>,
    /// For whom a member said that it is in a term.
    votes: BTreeMap<(MemberId, u64), MemberId>,
    /// In which of its lives a member asked so.
    questions: BTreeMap<Box<[u8]>, u64>,
    writes: BTreeMap<u128, (WriteAsked, Fate)>,
    /// The version at which a write is first seen to be done.
    seen: BTreeMap<u128, u64>,
    /// The latest that any clock ever showed.
    latest: WallMs,
}

impl Truth {
    /// The cluster, when somebody has begun it.
    pub(super) fn cluster(&self) -> Option<[u8; 16]> {
        self.cluster
    }

    /// A replica is opened, begun or sent: there is one cluster, and all that it has there was.
    pub(super) fn begins(&mut self, who: usize, machine: &Metadata) -> Result<(), Violation> {
        let cluster = *self.cluster.get_or_insert(machine.cluster());
        promise!(
            cluster == machine.cluster(),
            "member {who} is of a second cluster, {:x?} beside {cluster:x?}",
            machine.cluster()
        );
        if self.objects.is_empty() {
            promise!(
                machine.version() == MetaVersion(0),
                "member {who} begins with {}",
                machine.version()
            );
            for object in machine.objects() {
                let track = self.objects.entry(object.meta.key.clone()).or_default();
                track.0.push((0, Some(object.clone())));
            }
        }
        self.snapshot(who, machine)
    }

    /// The newest version that anybody was shown.
    pub(super) fn newest(&self) -> u64 {
        self.history.len() as u64
    }

    pub(super) fn clock_shows(&mut self, wall: WallMs) {
        self.latest = self.latest.max(wall);
    }

    /// The object after a version.
    pub(super) fn object(&self, key: &ObjectKey, version: u64) -> Option<&Arc<Object>> {
        self.objects.get(key)?.at(version)
    }

    // ------------------------------------------------------------------ replicas

    /// A replica shows a change.
    pub(super) fn change(&mut self, who: usize, change: &Change) -> Result<(), Violation> {
        let version = change.version.0;
        self.counts.changes += 1;
        if version <= self.newest() {
            let known = &self.history[place(version)];
            promise!(
                known == change,
                "version {version} is {change:?} on member {who} and {known:?} elsewhere"
            );
            return Ok(());
        }
        promise!(
            version == self.newest() + 1,
            "member {who} shows version {version} after {}",
            self.newest()
        );
        self.first_seen(change)?;
        let track = self.objects.entry(change.key.clone()).or_default();
        track.0.push((version, change.object.clone()));
        self.history.push(change.clone());
        Ok(())
    }

    /// A change that nobody showed before.
    fn first_seen(&mut self, change: &Change) -> Result<(), Violation> {
        let version = change.version.0;
        let before = self.object(&change.key, version).cloned();
        let (had, has) = (before.is_some(), change.object.is_some());
        let right = match change.kind {
            ChangeKind::Create => !had && has,
            ChangeKind::Update => had && has,
            ChangeKind::Delete => had && !has,
        };
        promise!(right, "{change:?} follows {before:?}");
        if let Some(object) = &change.object {
            promise!(
                object.meta.version == change.version && object.meta.key == change.key,
                "{change:?} holds another version or object"
            );
        } else if matches!(change.key, ObjectKey::Member(_)) {
            self.counts.replaced += 1;
        } else {
            self.counts.purged += 1;
            let deleting = before.as_ref().and_then(|object| object.meta.deleting);
            promise!(
                deleting.is_some_and(|deleting| deleting.purge_at <= self.latest),
                "{} is purged by a clock that nobody has: {deleting:?}, and the latest is {:?}",
                change.key,
                self.latest
            );
        }
        let body = change.object.as_ref().map(|object| &object.body);
        match body {
            Some(Body::Member(_)) if change.kind == ChangeKind::Create => self.counts.joined += 1,
            Some(Body::Broker(broker)) if broker.down.is_some() => self.counts.down += 1,
            Some(Body::Broker(_)) => self.counts.registered += 1,
            _ => {}
        }
        let number = change.object.as_deref().and_then(marked);
        if let Some(number) = number
            && before.as_deref().and_then(marked) != Some(number)
        {
            let first = *self.seen.entry(number).or_insert(version);
            promise!(
                first == version,
                "write {number} is done at version {first} and again at {version}"
            );
            let Some((asked, fate)) = self.writes.get(&number) else {
                return Err(Violation::new(format!(
                    "write {number} is done and was never asked for"
                )));
            };
            promise!(
                *fate != Fate::Refused,
                "write {number} was refused and is done at version {version}"
            );
            promise!(
                version > asked.floor,
                "write {number} is done at version {version}, and began after {}",
                asked.floor
            );
            allowed(asked, &change.key, before.as_deref())?;
        } else if let Some(before) = &before
            && let Some(object) = &change.object
        {
            promise!(
                before.body != object.body || before.meta.deleting != object.meta.deleting,
                "version {version} changes nothing of {}",
                change.key
            );
        }
        Ok(())
    }

    /// A replica is opened, or given a snapshot: what it has is what there was.
    pub(super) fn snapshot(&mut self, who: usize, machine: &Metadata) -> Result<(), Violation> {
        let version = machine.version().0;
        promise!(
            version <= self.newest(),
            "member {who} begins with version {version}, and nobody knows more than {}",
            self.newest()
        );
        let mut there = 0;
        for (key, track) in &self.objects {
            let (has, had) = (machine.get(key), track.at(version));
            there += usize::from(had.is_some());
            promise!(
                has == had,
                "member {who} has {has:?} at version {version}, and it is {had:?}"
            );
        }
        promise!(
            machine.objects().count() == there,
            "member {who} has something that was never made"
        );
        Ok(())
    }

    /// A replica at rest after a turn.
    pub(super) fn replica(&mut self, who: usize, machine: &Metadata) -> Result<(), Violation> {
        let (index, hash) = (machine.applied_index(), machine.state_hash());
        let known = *self.hashes.entry(index).or_insert(hash);
        self.counts.hashes += 1;
        promise!(
            known == hash,
            "after entry {index} member {who} has {hash:016x}, another had {known:016x}"
        );
        Ok(())
    }

    /// Somebody leads.
    pub(super) fn leads(&mut self, who: usize, term: u64) -> Result<(), Violation> {
        let leader = *self.leaders.entry(term).or_insert(who);
        promise!(
            leader == who,
            "term {term} is led by members {leader} and {who}"
        );
        Ok(())
    }

    /// A member says something that binds it, in its life `life`. Long before an answer to a
    /// past life's question is taken for another's, or two lead one term, it can be seen here.
    pub(super) fn says(&mut self, life: u64, message: &RaftMessage) -> Result<(), Violation> {
        match message.claim() {
            None => {}
            Some(Claim::Vote { term, whom }) => {
                let who = message.sender();
                let before = *self.votes.entry((who, term)).or_insert(whom);
                promise!(
                    before == whom,
                    "{who:?} is for {before:?} and for {whom:?} in term {term}"
                );
            }
            Some(Claim::Question(words)) => {
                let asked = *self.questions.entry(words.into()).or_insert(life);
                promise!(
                    asked == life,
                    "a question of life {asked} is asked again in life {life}: {words:x?}"
                );
            }
        }
        Ok(())
    }

    /// A member is opened with what its disk has of `group`.
    pub(super) fn remembers(&self, group: &Status) -> Result<(), Violation> {
        let (Some(who), (term, vote)) = (group.id, group.vote) else {
            return Ok(());
        };
        let said = self.votes.get(&(who, term)).copied();
        promise!(
            said.is_none() || said == vote,
            "{who:?} was for {said:?} in term {term}, and its disk says {vote:?}"
        );
        Ok(())
    }

    pub(super) fn terms_led(&self) -> u64 {
        self.leaders.len() as u64
    }

    // ------------------------------------------------------------------- clients

    /// A client is about to ask for a write, perhaps once more.
    pub(super) fn asks(&mut self, asked: WriteAsked) {
        let number = asked.number;
        self.writes.entry(number).or_insert((asked, Fate::Open));
    }

    /// A write is answered as done.
    pub(super) fn done(
        &mut self,
        number: u128,
        version: MetaVersion,
        repeat: bool,
    ) -> Result<(), Violation> {
        let newest = self.newest();
        self.counts.writes += 1;
        self.counts.repeats += u64::from(repeat);
        let Some((asked, fate)) = self.writes.get_mut(&number) else {
            return Ok(());
        };
        promise!(
            version.0 > asked.floor && version.0 <= newest,
            "write {number} is done at {version}, began after {} and ended at {newest}",
            asked.floor
        );
        promise!(
            *fate == Fate::Open || (*fate == Fate::Done(version) && repeat),
            "write {number} is done at {version} (repeat: {repeat}) and was {fate:?}"
        );
        *fate = Fate::Done(version);
        let change = &self.history[place(version.0)];
        let (asked, _) = &self.writes[&number];
        match &asked.command {
            Command::CreateTenant(_) | Command::UpdateTenant(_) | Command::Batch(_) => {
                let seen = self.seen.get(&number).copied();
                let first = version.0 + 1 - commands(&asked.command);
                promise!(
                    seen.is_some_and(|seen| (first..=version.0).contains(&seen)),
                    "write {number} is done at {version}, and is seen at {seen:?}"
                );
                // All of a batch or nothing, with nothing between.
                let prefix = mark(number);
                for part in first..=version.0 {
                    let of = self.history[place(part)].object.as_deref();
                    let text = of.and_then(description).unwrap_or_default();
                    promise!(
                        text.starts_with(&*prefix),
                        "write {number} made versions {first} to {version}, and {part} says {text}"
                    );
                }
            }
            Command::Delete(_) | Command::Undelete(_) => {
                let deleted = change.object.as_ref().map(|o| o.meta.deleting.is_some());
                let wanted = matches!(asked.command, Command::Delete(_));
                promise!(
                    Some(&change.key) == asked.command.target().as_ref() && deleted == Some(wanted),
                    "write {number} ({:?}) is done at {version}, which is {change:?}",
                    asked.command
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// A client gave a write up, and every attempt was answered with: it did not happen.
    pub(super) fn not_done(&mut self, number: u128) -> Result<(), Violation> {
        let seen = self.seen.get(&number);
        promise!(
            seen.is_none(),
            "write {number} did not happen by every answer, and is done at version {seen:?}"
        );
        if let Some((_, fate)) = self.writes.get_mut(&number) {
            *fate = Fate::Refused;
        }
        Ok(())
    }

    /// A write is refused by the metadata. `certain` when no other attempt of it may be
    /// under way.
    pub(super) fn refused(
        &mut self,
        number: u128,
        error: &MetaError,
        certain: bool,
    ) -> Result<(), Violation> {
        self.counts.refused += 1;
        let newest = self.newest();
        let Some((asked, fate)) = self.writes.get_mut(&number) else {
            return Ok(());
        };
        promise!(
            !matches!(fate, Fate::Done(_)),
            "write {number} is refused ({error}) and was {fate:?}"
        );
        if certain {
            *fate = Fate::Refused;
            let seen = self.seen.get(&number);
            promise!(
                seen.is_none(),
                "write {number} is refused ({error}) and done at version {seen:?}"
            );
        }
        let (asked, floor) = (asked.clone(), asked.floor);
        // Of a batch one command is named; nothing else stands against it.
        let (of, code) = match error {
            MetaError::Batch { at, error } => (*at, error.code()),
            error => (0, error.code()),
        };
        let target = targets(&asked).into_iter().nth(of);
        let right = target.is_some_and(|(key, wanted)| {
            let nothing = Track::default();
            let track = self.objects.get(&key).unwrap_or(&nothing);
            track
                .between(floor, newest)
                .any(|object| explains(code, wanted, object.map(|one| &**one)))
        });
        promise!(
            right,
            "write {number} ({asked:?}) is refused with `{error}`, which was true at no version from {floor} to {newest}"
        );
        Ok(())
    }

    /// An object was read.
    pub(super) fn read(
        &mut self,
        key: &ObjectKey,
        version: MetaVersion,
        object: Option<&Arc<Object>>,
        floor: Option<u64>,
    ) -> Result<(), Violation> {
        let newest = self.newest();
        promise!(
            version.0 <= newest,
            "{version} is read, and {newest} is the newest"
        );
        match floor {
            Some(floor) => {
                self.counts.reads += 1;
                promise!(
                    version.0 >= floor,
                    "a linearizable read of {key} sees {version}; {floor} was known when it began"
                );
            }
            None => {
                self.counts.stale += 1;
                self.counts.behind += u64::from(version.0 < newest);
            }
        }
        let had = self.object(key, version.0);
        promise!(
            object == had,
            "{key} is read as {object:?} at {version}, and is {had:?}"
        );
        Ok(())
    }

    /// A watcher at `at` is given a change.
    pub(super) fn watched(&mut self, at: u64, change: &Change) -> Result<(), Violation> {
        let version = change.version.0;
        self.counts.watched += 1;
        promise!(
            version == at + 1,
            "a watcher at {at} is given version {version}"
        );
        promise!(
            version <= self.newest() && self.history[place(version)] == *change,
            "a watcher is given {change:?}, which did not happen"
        );
        Ok(())
    }

    /// Writes of which nobody said what became of them, and that were done.
    pub(super) fn unknown_done(&self) -> u64 {
        let open = self
            .writes
            .iter()
            .filter(|(_, (_, fate))| *fate == Fate::Open);
        open.filter(|(number, _)| self.seen.contains_key(number))
            .count() as u64
    }

    /// Nothing happens any more: what was answered as done is there.
    pub(super) fn ends(&self) -> Result<(), Violation> {
        for (number, (_, fate)) in &self.writes {
            if let Fate::Done(version) = fate {
                promise!(
                    version.0 <= self.newest(),
                    "write {number} was done at {version}, which is gone"
                );
            }
        }
        Ok(())
    }
}

fn place(version: u64) -> usize {
    usize::try_from(version - 1).unwrap_or(usize::MAX)
}

/// Objects that a command changes.
fn commands(command: &Command) -> u64 {
    match command {
        Command::Batch(items) => items.len() as u64,
        _ => 1,
    }
}

/// What a write is about, and what each must be like.
fn targets(asked: &WriteAsked) -> Vec<(ObjectKey, (Expect, &'static str))> {
    let one = |command: &Command, expect| {
        let verb = match command {
            Command::CreateTenant(_) => "create",
            Command::Undelete(_) => "undelete",
            _ => "change",
        };
        command.target().map(|key| (key, (expect, verb)))
    };
    match &asked.command {
        Command::Batch(items) => items
            .iter()
            .filter_map(|item| one(&item.command, item.expect))
            .collect(),
        command => one(command, asked.expect).into_iter().collect(),
    }
}

/// Whether a refusal is right of an object that is like this.
fn explains(code: MetaCode, (expect, verb): (Expect, &str), object: Option<&Object>) -> bool {
    let deleting = object.is_some_and(|object| object.meta.deleting.is_some());
    let version = object.map(|object| object.meta.version);
    match code {
        MetaCode::NotFound => object.is_none(),
        MetaCode::Exists => verb == "create" && object.is_some(),
        MetaCode::Deleting => deleting,
        MetaCode::NotDeleting => verb == "undelete" && object.is_some() && !deleting,
        MetaCode::VersionConflict => match expect {
            Expect::Any => false,
            Expect::Absent => object.is_some(),
            Expect::Version(wanted) => version != Some(wanted),
        },
        _ => false,
    }
}

/// Whether a write could be done to an object that was like this.
fn allowed(asked: &WriteAsked, key: &ObjectKey, before: Option<&Object>) -> Result<(), Violation> {
    let number = asked.number;
    let targets = targets(asked);
    let Some((_, (expect, verb))) = targets.iter().find(|(of, _)| of == key) else {
        return Err(Violation::new(format!(
            "write {number} changes {key}, which it is not about"
        )));
    };
    let right = match expect {
        Expect::Any => true,
        Expect::Absent => before.is_none(),
        Expect::Version(wanted) => before.is_some_and(|object| object.meta.version == *wanted),
    };
    let there = before.is_some_and(|object| object.meta.deleting.is_none());
    promise!(
        right && (*verb == "create") == before.is_none() && (*verb == "create" || there),
        "write {number} ({verb}, {expect:?}) is done to {before:?}"
    );
    Ok(())
}
