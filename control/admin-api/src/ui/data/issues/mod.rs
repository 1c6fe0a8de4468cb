//! What asks for somebody: which facts are worth an issue, in which order they are told,
//! and what a person is to do about each.
//!
//! Pure. Whoever gathers facts asks the `of_*` functions, which hold the [`thresholds`], has
//! [`Since`] say for how long each thing has been so, and [`told`] make of that the list
//! that somebody sees, in the sentences of [`words`].

#[cfg(test)]
mod tests;
mod thresholds;
mod words;

use std::collections::BTreeMap;

use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{Address, Issue, Level};
use thresholds::{CERTIFICATE_BAD_MS, DISK_BAD_PERMILLE, OLDEST_BAD_MS, SILENT_BAD_MS};
pub(crate) use thresholds::{
    LAG_RECORDS, OLDEST_MS, of_busy, of_certificate, of_dead, of_disk, of_lag, of_member,
    of_oldest, of_silence, of_stalls, of_throttling,
};

/// Issues that the overview shows; the rest is counted in a last one. More would be a wall
/// that nobody reads, and a page above its 50,000 bytes.
pub(crate) const ISSUES_MAX: usize = 24;

/// Issues of one sort that are told one by one. A disk that fails fences every partition
/// of a log at once: ten of them say what a thousand would.
pub(crate) const ISSUES_OF_SORT_MAX: usize = 6;

/// Findings whose beginning is remembered. Those above it begin anew with each look.
pub(crate) const REMEMBERED_MAX: usize = 4_096;

/// Something that asks for somebody, with the facts that a sentence about it needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finding {
    /// A core does not answer.
    CoreSilent {
        /// Which.
        core: u16,
        /// Since when, milliseconds; `None` if it never did.
        for_ms: Option<u64>,
    },
    /// A write to a log failed: its partitions are closed until the next start.
    LogFailed {
        /// The log.
        log: u16,
    },
    /// The disk of a log is full.
    ReadOnly {
        /// The log.
        log: u16,
    },
    /// Partitions of a resource are closed because their data is damaged.
    Fenced {
        /// What it is.
        what: What,
        /// Which.
        address: Address,
        /// How many of its partitions.
        partitions: u32,
        /// The first of them.
        first: u32,
    },
    /// The control plane of this node does not answer.
    PlaneSilent,
    /// Nobody leads the group.
    NoLeader,
    /// A member of the group is not heard of.
    MemberSilent {
        /// Its name, or its number.
        name: String,
    },
    /// A member of the group lacks much.
    MemberBehind {
        /// Its name, or its number.
        name: String,
        /// Entries it lacks.
        entries: u64,
    },
    /// A broker is down.
    BrokerDown {
        /// Its name.
        name: String,
    },
    /// A broker is being emptied.
    BrokerDraining {
        /// Its name.
        name: String,
    },
    /// The disk fills.
    DiskFilling {
        /// In use, thousandths.
        used_permille: u64,
        /// What is left.
        free_bytes: u64,
    },
    /// The node's certificate ends.
    CertificateEnds {
        /// Time left, milliseconds; 0 when it is over.
        in_ms: u64,
    },
    /// Partitions were declared over data of before, which nobody opened yet.
    OldData {
        /// The core that they are on.
        core: u16,
        /// How many.
        partitions: u64,
    },
    /// A queue has dead letters.
    DeadLetters {
        /// Which.
        address: Address,
        /// How many.
        dead: u64,
        /// Some came lately.
        growing: bool,
    },
    /// Messages of a queue wait long.
    Oldest {
        /// Which.
        address: Address,
        /// Age of the oldest, milliseconds.
        oldest_ms: u64,
        /// Messages to be taken.
        ready: u64,
    },
    /// Readers of a stream do not keep up.
    SlowReader {
        /// Which stream.
        address: Address,
        /// Records that the slowest has not been sent.
        lag_records: u64,
    },
    /// A core is short of time.
    CoreBusy {
        /// Which.
        core: u16,
        /// Busy time of the last seconds, thousandths.
        permille: u64,
    },
    /// Turns of a core take long.
    Stalls {
        /// Which.
        core: u16,
        /// How many in the last minute.
        stalls: u64,
    },
    /// Quotas refuse requests.
    Throttled {
        /// How many a second.
        per_s: f64,
    },
    /// More of one sort than are told one by one.
    More {
        /// How bad they are.
        level: Level,
        /// Of what.
        sort: &'static str,
        /// How many more.
        more: usize,
        /// Where they are.
        place: Place,
    },
}

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A stream.
    Stream,
    /// A queue.
    Queue,
    /// A cache.
    Cache,
}

impl What {
    const fn word(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Queue => "queue",
            Self::Cache => "cache",
        }
    }

    fn place(self, address: &Address) -> Place {
        match self {
            Self::Stream => Place::Stream(address.clone()),
            Self::Queue => Place::Queue(address.clone()),
            Self::Cache => Place::Cache(address.clone()),
        }
    }

    const fn list(self) -> Place {
        match self {
            Self::Stream => Place::Streams,
            Self::Queue => Place::Queues,
            Self::Cache => Place::Caches,
        }
    }
}

// --------------------------------------------------------------------------- ranking

impl Finding {
    fn level(&self) -> Level {
        match self {
            Self::CoreSilent { for_ms, .. } => match for_ms {
                Some(age) if *age < SILENT_BAD_MS => Level::Warn,
                _ => Level::Bad,
            },
            Self::LogFailed { .. }
            | Self::ReadOnly { .. }
            | Self::Fenced { .. }
            | Self::PlaneSilent
            | Self::NoLeader
            | Self::BrokerDown { .. } => Level::Bad,
            Self::DiskFilling { used_permille, .. } if *used_permille >= DISK_BAD_PERMILLE => {
                Level::Bad
            }
            Self::CertificateEnds { in_ms } if *in_ms <= CERTIFICATE_BAD_MS => Level::Bad,
            Self::Oldest { oldest_ms, .. } if *oldest_ms >= OLDEST_BAD_MS => Level::Bad,
            Self::DeadLetters { growing: false, .. }
            | Self::BrokerDraining { .. }
            | Self::Throttled { .. } => Level::Info,
            Self::More { level, .. } => *level,
            _ => Level::Warn,
        }
    }

    /// Among those of one level: what is the cause of others comes before them.
    const fn rank(&self) -> u8 {
        match self {
            Self::CoreSilent { .. } => 0,
            Self::LogFailed { .. } => 1,
            Self::ReadOnly { .. } => 2,
            Self::PlaneSilent => 3,
            Self::NoLeader => 4,
            Self::BrokerDown { .. } => 5,
            Self::Fenced { .. } => 6,
            Self::DiskFilling { .. } => 7,
            Self::CertificateEnds { .. } => 8,
            Self::MemberSilent { .. } => 9,
            Self::MemberBehind { .. } => 10,
            Self::OldData { .. } => 11,
            Self::CoreBusy { .. } => 12,
            Self::Stalls { .. } => 13,
            Self::Oldest { .. } => 14,
            Self::DeadLetters { .. } => 15,
            Self::SlowReader { .. } => 16,
            Self::Throttled { .. } => 17,
            Self::BrokerDraining { .. } => 18,
            Self::More { .. } => 19,
        }
    }

    /// How much of it there is: the most comes first among those of one rank.
    const fn amount(&self) -> u64 {
        match self {
            Self::Fenced { partitions, .. } => *partitions as u64,
            Self::MemberBehind { entries, .. } => *entries,
            Self::DeadLetters { dead, .. } => *dead,
            Self::OldData { partitions, .. } => *partitions,
            Self::Oldest { oldest_ms, .. } => *oldest_ms,
            Self::SlowReader { lag_records, .. } => *lag_records,
            Self::CoreBusy { permille, .. } => *permille,
            Self::Stalls { stalls, .. } => *stalls,
            _ => 0,
        }
    }

    /// What of its sort is said in a line that stands for many.
    const fn sort(&self) -> &'static str {
        match self {
            Self::CoreSilent { .. } => "cores do not answer",
            Self::LogFailed { .. } => "logs have failed",
            Self::ReadOnly { .. } => "logs take nothing",
            Self::PlaneSilent => "control planes do not answer",
            Self::NoLeader => "groups have no leader",
            Self::BrokerDraining { .. } => "brokers are draining",
            Self::BrokerDown { .. } => "brokers are down",
            Self::Fenced { .. } => "resources have closed partitions",
            Self::DiskFilling { .. } => "disks fill",
            Self::CertificateEnds { .. } => "certificates end",
            Self::MemberSilent { .. } => "members are not heard of",
            Self::MemberBehind { .. } => "members are behind",
            Self::OldData { .. } => "cores have data of before",
            Self::CoreBusy { .. } => "cores are busy",
            Self::Stalls { .. } => "cores have long turns",
            Self::Oldest { .. } => "queues have old messages",
            Self::DeadLetters { .. } => "queues have dead letters",
            Self::SlowReader { .. } => "streams have slow readers",
            Self::Throttled { .. } => "quotas refuse requests",
            Self::More { sort, .. } => sort,
        }
    }

    /// Where one of many is found.
    const fn list(&self) -> Place {
        match self {
            Self::LogFailed { .. }
            | Self::ReadOnly { .. }
            | Self::DiskFilling { .. }
            | Self::OldData { .. } => Place::Storage,
            Self::NoLeader | Self::MemberSilent { .. } | Self::MemberBehind { .. } => Place::Raft,
            Self::BrokerDown { .. } | Self::BrokerDraining { .. } => Place::Placement,
            Self::Fenced { what, .. } => what.list(),
            Self::Oldest { .. } | Self::DeadLetters { .. } => Place::Queues,
            Self::SlowReader { .. } => Place::Streams,
            Self::Throttled { .. } => Place::Tenants,
            Self::CertificateEnds { .. } | Self::PlaneSilent => Place::About,
            Self::CoreSilent { .. }
            | Self::CoreBusy { .. }
            | Self::Stalls { .. }
            | Self::More { .. } => Place::Overview,
        }
    }
}

/// Something that was found, and since when it has been so, milliseconds since 1970.
pub(crate) type Seen = (Finding, u64);

/// The issues that somebody sees, worst first, and how many there are in all.
pub(crate) fn told<'a>(
    seen: impl IntoIterator<Item = &'a Seen>,
    now_ms: u64,
) -> (Vec<Issue>, usize) {
    let mut seen: Vec<&Seen> = seen.into_iter().collect();
    let all = seen.len();
    seen.sort_by_key(|(one, _)| {
        let worst = core::cmp::Reverse(one.level());
        (worst, one.rank(), core::cmp::Reverse(one.amount()))
    });
    let mut told: Vec<Seen> = Vec::new();
    // How many there are of the sort that is being told.
    let mut of_sort = 0;
    let mut more = 0;
    for (one, since) in seen {
        if told.len() >= ISSUES_MAX {
            more += 1;
            continue;
        }
        let last = told.last().map(|(last, _)| (last.sort(), last.level()));
        let same = last == Some((one.sort(), one.level()));
        of_sort = if same { of_sort + 1 } else { 1 };
        if of_sort <= ISSUES_OF_SORT_MAX {
            told.push((one.clone(), *since));
        } else if let Some((Finding::More { more, .. }, first)) = told.last_mut() {
            *more += 1;
            *first = (*first).min(*since);
        } else {
            let many = Finding::More {
                level: one.level(),
                sort: one.sort(),
                more: 1,
                place: one.list(),
            };
            told.push((many, *since));
        }
    }
    if more > 0 {
        let many = Finding::More {
            level: Level::Info,
            sort: "checks ask for somebody",
            more,
            place: Place::Overview,
        };
        told.push((many, now_ms));
    }
    let issues = told.iter().map(|(one, since)| {
        let mut issue = one.issue();
        issue.since_ms = issue.since_ms.max(now_ms.saturating_sub(*since));
        issue
    });
    (issues.collect(), all)
}

/// When things were first found. They are as old as somebody has seen them without a break;
/// what was before the first look is not known.
#[derive(Debug, Default)]
pub(crate) struct Since {
    first_ms: BTreeMap<String, u64>,
}

impl Since {
    /// What was found at this look, each with when it was found first.
    pub(crate) fn look(&mut self, found: Vec<Finding>, now_ms: u64) -> Vec<Seen> {
        let before = core::mem::take(&mut self.first_ms);
        let mut seen = Vec::with_capacity(found.len());
        for one in found {
            // The place tells apart what people call the same.
            let key = format!("{} {}", one.place().path(), one.words().0);
            let first = before.get(&key).copied().unwrap_or(now_ms);
            if self.first_ms.len() < REMEMBERED_MAX {
                self.first_ms.insert(key, first);
            }
            seen.push((one, first));
        }
        seen
    }
}
