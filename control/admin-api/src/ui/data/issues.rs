//! What asks for somebody: which facts are worth an issue, in which order they are told,
//! and what a person is to do about each.
//!
//! Pure. Whoever gathers facts asks the `of_*` functions, which hold the thresholds, has
//! [`Since`] say for how long each thing has been so, and [`told`] make of that the list
//! that somebody sees.

use std::collections::BTreeMap;

use pinion_admin_ui::format::{bytes, count, per_second, percent, span};
use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{Address, Issue, Level};

/// Issues that the overview shows; the rest is counted in a last one. More would be a wall
/// that nobody reads, and a page above its 50,000 bytes.
pub(crate) const ISSUES_MAX: usize = 24;

/// Issues of one sort that are told one by one. A disk that fails fences every partition
/// of a log at once: ten of them say what a thousand would.
pub(crate) const ISSUES_OF_SORT_MAX: usize = 6;

/// Findings whose beginning is remembered. Those above it begin anew with each look.
pub(crate) const REMEMBERED_MAX: usize = 4_096;

/// How long a queue that got a dead letter counts as one that gets them, milliseconds.
pub(crate) const GROWING_MS: u64 = 5 * 60_000;

/// Busy time above which a core is short of time, in thousandths. What arrives together
/// then waits: at 90 % a queue of random arrivals is ten times as long as at 50 %.
pub(crate) const BUSY_PERMILLE: u64 = 900;

/// Seconds in a row that a core must be so busy. One busy second is work.
pub(crate) const BUSY_SECONDS: usize = 10;

/// Time without an answer after which a core is told of: it was asked every second.
pub(crate) const SILENT_MS: u64 = 3_000;

/// The same, after which nothing it owns can be thought to be served.
pub(crate) const SILENT_BAD_MS: u64 = 10_000;

/// Long turns of one core within a minute that are told of. A checkpoint or a page fault
/// now and then makes one.
pub(crate) const STALLS_MINUTE: u64 = 5;

/// Age of the oldest message that is to be taken, from which a queue is told of.
pub(crate) const OLDEST_MS: u64 = 60_000;

/// The same, from which it is worse.
pub(crate) const OLDEST_BAD_MS: u64 = 900_000;

/// Records that a reader has not been sent, from which it is slow, where it is also
/// [`LAG_SECONDS`] behind.
pub(crate) const LAG_RECORDS: u64 = 10_000;

/// How many seconds of what comes in a slow reader has not been sent. A stream with a
/// million records a second has readers ten thousand behind that are as quick as can be.
pub(crate) const LAG_SECONDS: f64 = 10.0;

/// Time before the end of a certificate at which somebody should renew it, milliseconds.
pub(crate) const CERTIFICATE_MS: u64 = 14 * DAY_MS;

/// The same, when it cannot wait.
pub(crate) const CERTIFICATE_BAD_MS: u64 = 2 * DAY_MS;

/// Share of the disk in use that is told of, in thousandths.
pub(crate) const DISK_PERMILLE: u64 = 850;

/// The same, when it cannot wait: a full disk makes a node read-only.
pub(crate) const DISK_BAD_PERMILLE: u64 = 950;

/// Entries that a member of the group lacks from which it is behind.
pub(crate) const MEMBER_LAG: u64 = 10_000;

/// Requests a second that a quota refuses, from which it is told of.
pub(crate) const THROTTLED_PER_S: f64 = 1.0;

const DAY_MS: u64 = 86_400_000;

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

// ------------------------------------------------------------------------ thresholds

/// A core that was heard of `age_ms` ago.
pub(crate) fn of_silence(core: u16, age_ms: Option<u64>) -> Option<Finding> {
    let silent = age_ms.is_none_or(|age| age >= SILENT_MS);
    silent.then_some(Finding::CoreSilent {
        core,
        for_ms: age_ms,
    })
}

/// A core with these busy times, one a second, oldest first.
pub(crate) fn of_busy(core: u16, permille: &[u16]) -> Option<Finding> {
    let last = permille.get(permille.len().checked_sub(BUSY_SECONDS)?..)?;
    let busy = last.iter().all(|one| u64::from(*one) >= BUSY_PERMILLE);
    let sum: u64 = last.iter().map(|one| u64::from(*one)).sum();
    busy.then_some(Finding::CoreBusy {
        core,
        permille: sum / BUSY_SECONDS as u64,
    })
}

/// A core with so many long turns in the last minute.
pub(crate) fn of_stalls(core: u16, stalls: u64) -> Option<Finding> {
    (stalls >= STALLS_MINUTE).then_some(Finding::Stalls { core, stalls })
}

/// A disk.
pub(crate) fn of_disk(size_bytes: u64, free_bytes: u64) -> Option<Finding> {
    let used = size_bytes.saturating_sub(free_bytes);
    let used_permille = permille_of(used, size_bytes)?;
    (used_permille >= DISK_PERMILLE).then_some(Finding::DiskFilling {
        used_permille,
        free_bytes,
    })
}

/// A certificate that ends at a time.
pub(crate) fn of_certificate(ends_unix_ms: u64, now_unix_ms: u64) -> Option<Finding> {
    let in_ms = ends_unix_ms.saturating_sub(now_unix_ms);
    (in_ms <= CERTIFICATE_MS).then_some(Finding::CertificateEnds { in_ms })
}

/// A queue with so many dead letters, that got the last of them so long ago, if anybody saw
/// it.
pub(crate) fn of_dead(address: &Address, dead: u64, last_ms: Option<u64>) -> Option<Finding> {
    (dead > 0).then(|| Finding::DeadLetters {
        address: address.clone(),
        dead,
        growing: last_ms.is_some_and(|last| last < GROWING_MS),
    })
}

/// A queue whose oldest message to be taken has that age.
pub(crate) fn of_oldest(address: &Address, oldest_ms: u64, ready: u64) -> Option<Finding> {
    (ready > 0 && oldest_ms >= OLDEST_MS).then(|| Finding::Oldest {
        address: address.clone(),
        oldest_ms,
        ready,
    })
}

/// A stream whose slowest reader lacks so many records, of so many that come a second.
pub(crate) fn of_lag(address: &Address, lag_records: u64, in_per_s: f64) -> Option<Finding> {
    #[expect(clippy::cast_precision_loss, reason = "a threshold, not an account")]
    let behind = lag_records as f64 >= in_per_s * LAG_SECONDS;
    (lag_records >= LAG_RECORDS && behind).then(|| Finding::SlowReader {
        address: address.clone(),
        lag_records,
    })
}

/// A member of the group, as the leader knows it.
pub(crate) fn of_member(name: &str, active: bool, lag_entries: u64) -> Option<Finding> {
    let name = name.to_owned();
    if !active {
        return Some(Finding::MemberSilent { name });
    }
    (lag_entries >= MEMBER_LAG).then_some(Finding::MemberBehind {
        name,
        entries: lag_entries,
    })
}

/// Quotas that refuse so many requests a second.
pub(crate) fn of_throttling(per_s: f64) -> Option<Finding> {
    (per_s >= THROTTLED_PER_S).then_some(Finding::Throttled { per_s })
}

/// A part of a whole, in thousandths; `None` of nothing.
pub(crate) fn permille_of(part: u64, whole: u64) -> Option<u64> {
    let permille = (u128::from(part) * 1000).checked_div(u128::from(whole))?;
    u64::try_from(permille).ok()
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

// ----------------------------------------------------------------------------- words

impl Finding {
    /// Whose it is, where it is one tenant's: of anything else nobody is told who does not
    /// see the cluster.
    pub(crate) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Fenced { address, .. }
            | Self::DeadLetters { address, .. }
            | Self::Oldest { address, .. }
            | Self::SlowReader { address, .. } => Some(&address.tenant),
            _ => None,
        }
    }

    /// As people read it. Titles have no number that changes from one look to the next:
    /// an issue is known again by its title.
    fn issue(&self) -> Issue {
        let place = self.place();
        let (title, detail, advice) = self.words();
        let since_ms = match self {
            Self::CoreSilent { for_ms, .. } => for_ms.unwrap_or(0),
            Self::Oldest { oldest_ms, .. } => oldest_ms.saturating_sub(OLDEST_MS),
            _ => 0,
        };
        Issue {
            level: self.level(),
            title,
            detail,
            advice: advice.to_owned(),
            place,
            since_ms,
        }
    }

    fn place(&self) -> Place {
        match self {
            Self::Fenced { what, address, .. } => what.place(address),
            Self::DeadLetters { address, .. } => Place::DeadLetters(address.clone()),
            Self::Oldest { address, .. } => Place::Queue(address.clone()),
            Self::SlowReader { address, .. } => Place::Stream(address.clone()),
            Self::More { place, .. } => place.clone(),
            _ => self.list(),
        }
    }

    fn words(&self) -> (String, String, &'static str) {
        match self {
            Self::CoreSilent { core, for_ms } => (
                format!("Core {core} does not answer"),
                for_ms.map_or_else(
                    || "It has not answered since the node was started.".to_owned(),
                    |age| format!("Its last answer is {} old; it is asked every second.", span(age)),
                ),
                "What it owns is not served. Look at the log of the node for a long turn or a lost thread; a restart brings it back.",
            ),
            Self::LogFailed { log } => (
                format!("Log {log} takes nothing more"),
                "A write to it failed, so nothing that was written since is promised.".to_owned(),
                "Look at the disk and at the log of the node, then restart the node: it reads back what is safe.",
            ),
            Self::ReadOnly { log } => (
                format!("The disk of log {log} is full"),
                "Publishes and puts to durable resources are refused; reading goes on.".to_owned(),
                "Free space or shorten what is kept. Writing goes on by itself.",
            ),
            Self::Fenced {
                what,
                address,
                partitions,
                first,
            } => (
                format!("{} has closed partitions", called(address)),
                if *partitions == 1 {
                    format!("Partition {first} of this {} is closed: its data is damaged, or a write of it failed.", what.word())
                } else {
                    format!("{} partitions of this {} are closed, the first is {first}: data is damaged, or a write failed.", count(u64::from(*partitions)), what.word())
                },
                "Nothing was skipped. Look at the log of the node, and check the files with: pinion log verify.",
            ),
            Self::PlaneSilent => (
                "The control plane does not answer".to_owned(),
                "Nothing can be declared or changed here. Data is served.".to_owned(),
                "Look at the log of the node.",
            ),
            Self::NoLeader => (
                "The control plane has no leader".to_owned(),
                "Nothing can be declared or changed until a majority of its members agree on one. Data is served on.".to_owned(),
                "See which members are not heard of, and start them.",
            ),
            Self::MemberSilent { name } => (
                format!("Member {name} is not heard of"),
                "The group goes on while a majority of its members do.".to_owned(),
                "Look at the log of that node, and at the network between.",
            ),
            Self::MemberBehind { name, entries } => (
                format!("Member {name} is behind"),
                format!("It lacks {} entries of the leader's log.", count(*entries)),
                "Nothing is to be done while the number falls; otherwise look at its disk.",
            ),
            Self::BrokerDown { name } => (
                format!("Broker {name} is down"),
                "It has sent no heartbeat. What it leads is not served.".to_owned(),
                "Start it again, or drain it so that others take its shards.",
            ),
            Self::BrokerDraining { name } => (
                format!("Broker {name} is draining"),
                "Nothing new is placed on it.".to_owned(),
                "Nothing is to be done while its shards become fewer.",
            ),
            Self::DiskFilling {
                used_permille,
                free_bytes,
            } => (
                "The disk fills".to_owned(),
                format!("{} is in use, {} is left.", percent(*used_permille), bytes(*free_bytes)),
                "Shorten what streams keep, or add room. On a full disk durable writes are refused.",
            ),
            Self::CertificateEnds { in_ms: 0 } => (
                "The certificate of the node has ended".to_owned(),
                "Clients that check it refuse this node.".to_owned(),
                "Put a new one in its place and restart the node.",
            ),
            Self::CertificateEnds { in_ms } => (
                "The certificate of the node ends soon".to_owned(),
                format!("It is good for another {}.", span(*in_ms)),
                "Put a new one in its place and restart the node.",
            ),
            Self::OldData { core, partitions } => (
                format!("Core {core} has data of before"),
                format!("{} partitions were declared over data that was there already. It was left alone and is not open.", count(*partitions)),
                "The next start of the node opens it. Until then these partitions are closed.",
            ),
            Self::DeadLetters { address, dead, growing } => (
                format!("Dead letters in {}", called(address)),
                if *growing {
                    format!("{} messages used up their attempts or their time, the last of them less than {} ago.", count(*dead), span(GROWING_MS))
                } else {
                    format!("{} messages used up their attempts or their time.", count(*dead))
                },
                "Look at the errors, then replay or purge them.",
            ),
            Self::Oldest {
                address,
                oldest_ms,
                ready,
            } => (
                format!("Messages wait in {}", called(address)),
                format!("The oldest is {} old; {} are to be taken.", span(*oldest_ms), count(*ready)),
                "Its page says why nothing is delivered.",
            ),
            Self::SlowReader {
                address,
                lag_records,
            } => (
                format!("A reader of {} is slow", called(address)),
                format!("It has {} records yet to be sent.", count(*lag_records)),
                "Its page names the readers, slowest first. One that stays behind what is kept loses records.",
            ),
            Self::CoreBusy { core, permille } => (
                format!("Core {core} is busy"),
                format!("It worked {} of the last {BUSY_SECONDS} seconds.", percent(*permille)),
                "Requests wait for their turn. More data cores, or partitions on other cores, make room.",
            ),
            Self::Stalls { core, stalls } => (
                format!("Core {core} has long turns"),
                format!("{} turns took more than 5 ms in the last minute.", count(*stalls)),
                "Everybody on that core waited so long. Look at what else runs on its CPU, and at the log of the node.",
            ),
            Self::Throttled { per_s } => (
                "Quotas refuse requests".to_owned(),
                format!("{} are refused.", per_second(*per_s)),
                "Raise the quota of the tenant, or leave it: clients were told when to try again.",
            ),
            Self::More { sort, more, .. } => (
                format!("More {sort}"),
                format!("{} more like these.", count(*more as u64)),
                "They are on the page of all of them.",
            ),
        }
    }
}

fn called(address: &Address) -> String {
    format!("{}/{}/{}", address.tenant, address.namespace, address.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> Address {
        Address {
            tenant: "acme".into(),
            namespace: "jobs".into(),
            name: name.into(),
        }
    }

    fn issues(found: Vec<Finding>) -> (Vec<Issue>, usize) {
        told(&Since::default().look(found, 0), 0)
    }

    fn titles(found: Vec<Finding>) -> Vec<String> {
        issues(found)
            .0
            .into_iter()
            .map(|issue| issue.title)
            .collect()
    }

    #[test]
    fn the_worst_comes_first_and_a_cause_before_what_it_causes() {
        let found = vec![
            Finding::Throttled { per_s: 9.0 },
            Finding::Fenced {
                what: What::Stream,
                address: at("mail"),
                partitions: 2,
                first: 1,
            },
            Finding::CoreBusy {
                core: 0,
                permille: 950,
            },
            Finding::LogFailed { log: 1 },
        ];
        assert_eq!(
            titles(found),
            [
                "Log 1 takes nothing more",
                "acme/jobs/mail has closed partitions",
                "Core 0 is busy",
                "Quotas refuse requests",
            ]
        );
    }

    #[test]
    fn many_of_a_sort_are_told_by_some_of_them() {
        let dead = |dead| Finding::DeadLetters {
            address: at(&format!("q{dead}")),
            dead,
            growing: false,
        };
        let found: Vec<Finding> = (1..=40).map(dead).chain([Finding::NoLeader]).collect();
        let (issues, all) = issues(found);
        assert_eq!(all, 41);
        assert_eq!(issues.len(), 1 + ISSUES_OF_SORT_MAX + 1);
        assert_eq!(issues[1].title, "Dead letters in acme/jobs/q40");
        let last = issues.last().expect("eight");
        assert_eq!(last.detail, "34 more like these.");
        assert_eq!(last.place, Place::Queues);
    }

    #[test]
    fn a_list_ends() {
        let found = (0..2_000)
            .map(|core| match core % 8 {
                0 => Finding::CoreBusy {
                    core,
                    permille: 950,
                },
                1 => Finding::Stalls { core, stalls: 9 },
                2 => Finding::LogFailed { log: core },
                3 => Finding::ReadOnly { log: core },
                4 => Finding::CoreSilent { core, for_ms: None },
                5 => Finding::BrokerDown {
                    name: core.to_string(),
                },
                6 => Finding::MemberSilent {
                    name: core.to_string(),
                },
                _ => Finding::BrokerDraining {
                    name: core.to_string(),
                },
            })
            .collect();
        let (issues, all) = issues(found);
        assert_eq!((issues.len(), all), (ISSUES_MAX + 1, 2_000));
    }

    #[test]
    fn an_issue_is_as_old_as_it_was_seen_without_a_break() {
        let mut since = Since::default();
        let mut look = |found: &[Finding], now| {
            let (issues, _) = told(&since.look(found.to_vec(), now), now);
            issues.first().map(|issue| issue.since_ms)
        };
        let busy = |permille| [Finding::CoreBusy { core: 1, permille }];
        assert_eq!(look(&busy(900), 10_000), Some(0));
        assert_eq!(
            look(&busy(980), 14_000),
            Some(4_000),
            "another number is no other issue"
        );
        assert_eq!(look(&[], 15_000), None);
        assert_eq!(look(&busy(980), 16_000), Some(0));
    }

    #[test]
    fn a_tenant_is_told_of_its_own_resources_alone() {
        let own = of_dead(&at("a"), 1, None).expect("a dead letter");
        assert_eq!(own.tenant(), Some("acme"));
        for one in [Finding::NoLeader, Finding::LogFailed { log: 0 }] {
            assert_eq!(one.tenant(), None);
        }
    }

    #[test]
    fn a_core_is_busy_when_it_is_so_for_long() {
        let mut seconds = vec![300; 5];
        seconds.extend([900; BUSY_SECONDS - 1]);
        assert_eq!(of_busy(0, &seconds), None);
        seconds.push(999);
        assert_eq!(
            of_busy(0, &seconds),
            Some(Finding::CoreBusy {
                core: 0,
                permille: 909
            })
        );
        seconds.push(0);
        assert_eq!(of_busy(0, &seconds), None);
        assert_eq!(of_busy(0, &[]), None);
    }

    #[test]
    fn what_is_below_its_threshold_is_nothing() {
        let a = at("a");
        assert_eq!(of_silence(0, Some(SILENT_MS - 1)), None);
        assert_eq!(of_stalls(0, STALLS_MINUTE - 1), None);
        assert_eq!(of_disk(1_000, 151), None);
        assert_eq!(of_disk(0, 0), None);
        assert_eq!(of_certificate(CERTIFICATE_MS + 2, 1), None);
        assert_eq!(of_dead(&a, 0, Some(0)), None);
        assert_eq!(of_oldest(&a, OLDEST_MS - 1, 9), None);
        assert_eq!(of_oldest(&a, OLDEST_MS, 0), None, "nobody could take it");
        assert_eq!(of_lag(&a, LAG_RECORDS - 1, 0.0), None);
        assert_eq!(of_lag(&a, 1_000_000, 200_000.0), None, "it is 5 s behind");
        assert_eq!(of_member("b", true, MEMBER_LAG - 1), None);
        assert_eq!(of_throttling(0.9), None);
    }

    #[test]
    fn what_is_above_it_has_the_level_of_how_far() {
        let level = |found: Option<Finding>| found.map(|one| one.level());
        let a = at("a");
        assert_eq!(level(of_silence(0, Some(SILENT_MS))), Some(Level::Warn));
        assert_eq!(level(of_silence(0, Some(SILENT_BAD_MS))), Some(Level::Bad));
        assert_eq!(level(of_silence(0, None)), Some(Level::Bad));
        assert_eq!(level(of_disk(1_000, 150)), Some(Level::Warn));
        assert_eq!(level(of_disk(1_000, 50)), Some(Level::Bad));
        assert_eq!(level(of_certificate(CERTIFICATE_MS, 0)), Some(Level::Warn));
        assert_eq!(level(of_certificate(5, 9)), Some(Level::Bad));
        assert_eq!(level(of_dead(&a, 7, None)), Some(Level::Info));
        assert_eq!(level(of_dead(&a, 7, Some(GROWING_MS))), Some(Level::Info));
        assert_eq!(level(of_dead(&a, 7, Some(0))), Some(Level::Warn));
        assert_eq!(level(of_oldest(&a, OLDEST_BAD_MS, 1)), Some(Level::Bad));
        assert_eq!(level(of_lag(&a, LAG_RECORDS, 10.0)), Some(Level::Warn));
        assert_eq!(level(of_member("b", false, 0)), Some(Level::Warn));
        assert_eq!(level(of_throttling(1.0)), Some(Level::Info));
    }

    #[test]
    fn titles_stay_while_numbers_change() {
        let pairs = [
            (of_silence(1, Some(4_000)), of_silence(1, Some(5_000))),
            (of_disk(1_000, 150), of_disk(1_000, 10)),
            (of_dead(&at("a"), 1, None), of_dead(&at("a"), 9, Some(1))),
            (
                of_oldest(&at("a"), 70_000, 1),
                of_oldest(&at("a"), 80_000, 2),
            ),
            (of_lag(&at("a"), 10_000, 1.0), of_lag(&at("a"), 20_000, 1.0)),
            (of_stalls(1, 5), of_stalls(1, 6)),
        ];
        for (before, after) in pairs {
            let title = |found: Option<Finding>| found.map(|one| one.issue().title);
            assert!(before.is_some());
            assert_eq!(title(before), title(after));
        }
    }
}
