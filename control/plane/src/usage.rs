//! What tenants use on each node, so that a quota of a tenant holds over all of them.
//!
//! Every node says to every other what is used on it, and adds up what the others said. The
//! group decides nothing of this: it changes many times a second, nobody needs all nodes to
//! know the same, and it must not stop when nobody leads. What a node said last counts until
//! it says something else, is down by the metadata, or has begun a new life. What tenants
//! keep there counts as long as there is a broker of its name: it is still on its disk.

use std::collections::{BTreeMap, BTreeSet};

use pinion_metadata::broker::Broker;
use pinion_metadata::{BrokerNumber, Metadata, TenantNumber};
use pinion_raft_group::format::FormatError;
use pinion_raft_group::limits::PEER_BODY_MAX;
use pinion_types::Monotonic;

use crate::limits::{USE_EVERY, USE_PARTS_MAX, USE_REPEAT, USE_ROWS_MAX};
use crate::names::PeerName;

/// What a tenant uses on one node, or on all others together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UseRow {
    /// Whose.
    pub tenant: TenantNumber,
    /// Of which of its namespaces alone; empty: of all together.
    pub namespace: Box<str>,
    /// Records that were to be published within the node's last interval, let in or not.
    pub asked: u64,
    /// Connections now; 0 of a namespace.
    pub connections: u64,
    /// Bytes that durable resources keep; 0 of a namespace.
    pub stored: u64,
}

/// A part of what is used on a node. Parts are counted from 0; when all of them are there they
/// stand for everything that the node said before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The same in all parts; another each time.
    pub round: u64,
    /// Which part, less than [`USE_PARTS_MAX`].
    pub part: u16,
    /// No other follows.
    pub last: bool,
    /// At most [`USE_ROWS_MAX`], by tenant and namespace, each once.
    pub rows: Box<[UseRow]>,
}

/// Bytes of a [`Usage`] before its rows.
const USAGE_HEAD: usize = 16;
/// Bytes of a row before its namespace.
const ROW_HEAD: usize = 33;

/// What a node knows of what is used.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    own: Vec<UseRow>,
    /// The others have not heard of the newest of that.
    is_new: bool,
    /// When they may be told, and when they are told again. Nothing is said before something
    /// was used.
    say_at: Monotonic,
    repeat_at: Option<Monotonic>,
    round: u64,
    heard: BTreeMap<PeerName, Heard>,
    /// What was told of the others.
    told: (u64, Vec<UseRow>),
    /// It may be otherwise since.
    is_stale: bool,
    /// When what was heard since is added up.
    add_up_at: Option<Monotonic>,
}

/// What one other node said.
#[derive(Debug, Default)]
struct Heard {
    /// The life in which it did.
    incarnation: u64,
    rows: Vec<UseRow>,
    coming: Coming,
}

/// A round that is not whole yet.
#[derive(Debug, Default)]
struct Coming {
    round: u64,
    parts: BTreeMap<u16, Box<[UseRow]>>,
    last: Option<u16>,
}

impl UseRow {
    fn key(&self) -> (TenantNumber, &str) {
        (self.tenant, &self.namespace)
    }

    fn is_nothing(&self) -> bool {
        (self.asked, self.connections, self.stored) == (0, 0, 0)
    }

    fn add(&mut self, other: &Self) {
        self.asked = self.asked.saturating_add(other.asked);
        self.connections = self.connections.saturating_add(other.connections);
        self.stored = self.stored.saturating_add(other.stored);
    }
}

impl Uses {
    /// This is what is used on this node now; what is not there is not used.
    pub(crate) fn set(&mut self, mut rows: Vec<UseRow>) {
        rows.retain(|row| !row.is_nothing());
        rows.sort_unstable_by(|one, other| one.key().cmp(&other.key()));
        rows.dedup_by(|one, before| one.key() == before.key());
        rows.truncate(USE_ROWS_MAX * usize::from(USE_PARTS_MAX));
        if rows != self.own {
            self.own = rows;
            self.is_new = true;
        }
    }

    /// What all others are to be told now.
    pub(crate) fn poll(&mut self, now: Monotonic) -> Vec<Usage> {
        let due = (self.is_new && self.say_at <= now) || self.repeat_at.is_some_and(|at| at <= now);
        if !due {
            return Vec::new();
        }
        self.is_new = false;
        self.say_at = now + USE_EVERY;
        self.repeat_at = Some(now + USE_REPEAT);
        self.round = self.round.wrapping_add(1);
        let parts: Vec<&[UseRow]> = match &self.own[..] {
            [] => vec![&[]],
            rows => rows.chunks(USE_ROWS_MAX).collect(),
        };
        let last = parts.len() - 1;
        let part = |(at, rows): (usize, &[UseRow])| Usage {
            round: self.round,
            part: u16::try_from(at).expect("bounded by USE_PARTS_MAX"),
            last: at == last,
            rows: rows.into(),
        };
        parts.into_iter().enumerate().map(part).collect()
    }

    /// Another node, which there is by the metadata, says what is used there.
    pub(crate) fn hear(&mut self, now: Monotonic, from: &PeerName, incarnation: u64, usage: Usage) {
        let heard = self.heard.entry(from.clone()).or_default();
        let Usage {
            round,
            part,
            last,
            rows,
        } = usage;
        let coming = &mut heard.coming;
        if coming.round != round {
            // What is missing of the one before was lost.
            *coming = Coming {
                round,
                ..Coming::default()
            };
        }
        coming.parts.insert(part, rows);
        if last {
            coming.last = Some(part);
        }
        if coming.last.map(|last| usize::from(last) + 1) != Some(coming.parts.len()) {
            return;
        }
        let parts = core::mem::take(&mut coming.parts).into_values();
        let all: Vec<UseRow> = parts.flat_map(<[UseRow]>::into_vec).collect();
        coming.last = None;
        if heard.rows != all || heard.incarnation != incarnation {
            (heard.rows, heard.incarnation) = (all, incarnation);
            self.add_up_at.get_or_insert(now + USE_EVERY);
        }
    }

    /// Which nodes there are, or which of them live, may be otherwise.
    pub(crate) fn brokers_changed(&mut self) {
        self.is_stale = true;
        // One that is new has heard nothing yet.
        self.is_new |= !self.own.is_empty();
    }

    /// There is nobody to tell.
    pub(crate) fn keep(&mut self) {
        (self.is_new, self.repeat_at) = (false, None);
    }

    /// Data cores of the other nodes that live and what is used there, when it is not what
    /// was told last. By tenant and namespace.
    pub(crate) fn elsewhere(
        &mut self,
        now: Monotonic,
        machine: &Metadata,
        me: &str,
    ) -> Option<(u64, Vec<UseRow>)> {
        let due = self.add_up_at.take_if(|at| *at <= now).is_some();
        if !core::mem::take(&mut self.is_stale) && !due {
            return None;
        }
        // A broker from outside has cores that divide nothing of ours.
        let members = machine.members().map(|(_, member)| member.broker);
        let members: BTreeSet<BrokerNumber> = members.collect();
        let nodes = machine.brokers();
        let is_node =
            |(name, broker): &(&str, &Broker)| *name != me && members.contains(&broker.number);
        let nodes: BTreeMap<&str, &Broker> = nodes.filter(is_node).collect();
        self.heard
            .retain(|name, _| nodes.contains_key(name.as_str()));
        let live = nodes.values().filter(|broker| broker.down.is_none());
        let cores: u64 = live
            .map(|broker| u64::from(broker.facts.capacity.cores))
            .sum();
        let mut sum: BTreeMap<(TenantNumber, Box<str>), UseRow> = BTreeMap::new();
        for (name, heard) in &self.heard {
            let node = nodes[name.as_str()];
            let lives = node.down.is_none() && node.incarnation == heard.incarnation;
            for row in &heard.rows {
                let mut row = row.clone();
                if !lives {
                    (row.asked, row.connections) = (0, 0);
                }
                if !row.is_nothing() {
                    let key = (row.tenant, row.namespace.clone());
                    sum.entry(key)
                        .and_modify(|known| known.add(&row))
                        .or_insert(row);
                }
            }
        }
        let told = (cores, sum.into_values().collect());
        if self.told == told {
            return None;
        }
        self.told = told.clone();
        Some(told)
    }

    /// What was told last.
    pub(crate) fn told(&self) -> (u64, &[UseRow]) {
        (self.told.0, &self.told.1)
    }

    /// When there is something to say or to add up.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        let say = self.is_new.then_some(self.say_at);
        let all = [say, self.repeat_at, self.add_up_at];
        all.into_iter().flatten().min()
    }
}

fn field<T>(name: &'static str) -> Result<T, FormatError> {
    Err(FormatError::Field { name })
}

/// The number in the first eight bytes of `rest`, which go.
fn number(rest: &mut &[u8]) -> Result<u64, FormatError> {
    let Some((first, after)) = rest.split_first_chunk() else {
        return field("length");
    };
    *rest = after;
    Ok(u64::from_le_bytes(*first))
}

impl Usage {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let rows = self.rows.len();
        assert!(rows <= USE_ROWS_MAX, "{rows} rows");
        assert!(self.part < USE_PARTS_MAX, "part {}", self.part);
        out.extend(self.round.to_le_bytes());
        out.extend(self.part.to_le_bytes());
        out.extend([u8::from(self.last), 0]);
        out.extend(u32::try_from(rows).expect("bounded above").to_le_bytes());
        for row in &self.rows {
            for number in [row.tenant.0, row.asked, row.connections, row.stored] {
                out.extend(number.to_le_bytes());
            }
            let len = u8::try_from(row.namespace.len());
            out.push(len.expect("a namespace has at most 255 bytes"));
            out.extend(row.namespace.as_bytes());
        }
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, FormatError> {
        let Some((head, mut rest)) = body.split_first_chunk::<USAGE_HEAD>() else {
            return field("length");
        };
        let [a, b, c, d, e, f, g, h, p0, p1, last, zero, r0, r1, r2, r3] = *head;
        let part = u16::from_le_bytes([p0, p1]);
        let rows = u32::from_le_bytes([r0, r1, r2, r3]);
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        if part >= USE_PARTS_MAX {
            return field("part");
        }
        if last > 1 {
            return field("last");
        }
        if zero != 0 {
            return field("zero");
        }
        if rows > USE_ROWS_MAX || rows * ROW_HEAD > rest.len() {
            return field("rows");
        }
        let mut all: Vec<UseRow> = Vec::with_capacity(rows);
        for _ in 0..rows {
            let row = take_row(&mut rest)?;
            if all.last().is_some_and(|before| before.key() >= row.key()) {
                return field("order");
            }
            all.push(row);
        }
        if !rest.is_empty() {
            return field("length");
        }
        Ok(Self {
            round: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            part,
            last: last == 1,
            rows: all.into(),
        })
    }
}

fn take_row(rest: &mut &[u8]) -> Result<UseRow, FormatError> {
    let tenant = TenantNumber(number(rest)?);
    let [asked, connections, stored] = [number(rest)?, number(rest)?, number(rest)?];
    let Some((&len, after)) = rest.split_first() else {
        return field("length");
    };
    let Some((namespace, after)) = after.split_at_checked(len.into()) else {
        return field("length");
    };
    let Ok(namespace) = core::str::from_utf8(namespace) else {
        return field("namespace");
    };
    if !namespace.is_empty() && (connections, stored) != (0, 0) {
        return field("namespace");
    }
    *rest = after;
    Ok(UseRow {
        tenant,
        namespace: namespace.into(),
        asked,
        connections,
        stored,
    })
}

// What changes is said before it would be repeated.
const _: () = assert!(USE_EVERY.as_nanos() < USE_REPEAT.as_nanos());
// The longest part fits a frame.
const _: () = assert!(USAGE_HEAD + USE_ROWS_MAX * (ROW_HEAD + 255) <= PEER_BODY_MAX);
