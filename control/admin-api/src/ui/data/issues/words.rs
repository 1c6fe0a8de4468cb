//! What people read of an issue, and where they are sent.

use pinion_admin_ui::format::{bytes, count, per_second, percent, span};
use pinion_admin_ui::links::Place;
use pinion_admin_ui::model::{Address, Issue};

use super::Finding;
use super::thresholds::{BUSY_SECONDS, GROWING_MS, OLDEST_MS};

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
    pub(super) fn issue(&self) -> Issue {
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

    pub(super) fn place(&self) -> Place {
        match self {
            Self::Fenced { what, address, .. } => what.place(address),
            Self::DeadLetters { address, .. } => Place::DeadLetters(address.clone()),
            Self::Oldest { address, .. } => Place::Queue(address.clone()),
            Self::SlowReader { address, .. } => Place::Stream(address.clone()),
            Self::More { place, .. } => place.clone(),
            _ => self.list(),
        }
    }

    pub(super) fn words(&self) -> (String, String, &'static str) {
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
