//! Where the time of a change goes: what the three nodes say of every step, put on one line
//! of time. They share a clock, because they share a machine.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use pinion_commitlog::LogId;

use super::PlaneError;
use super::http::Http;
use super::nodes::Cluster;
use super::report::Section;

/// What nodes are to say for [`split`].
pub(super) const LOG: &str = "warn,pinion::control=info,pinion::steps=trace";

/// The log of the group of every node: `RAFT_LOG` of `control/raft-group`.
const GROUP_LOG: LogId = LogId(u16::MAX - 1);

/// One thing that a node said. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Handlers gave the plane something.
    Asked,
    /// A request was answered to its handler.
    Answered,
    /// Something was given to the way to another node.
    Sent { to: String },
    /// Something of another node reached the plane.
    Heard { from: String },
    /// The group's log was written: how long the request waited for its thread, what the
    /// disk took, and how long until the plane knew.
    Disk { waited: i64, took: i64, back: i64 },
}

type Said = Vec<(i64, Step)>;

/// One change, step by step, in microseconds.
type Split = BTreeMap<&'static str, i64>;

/// Steps as they are told, in the order of a change.
const PARTS: [(&str, &str); 15] = [
    ("whole", "the whole change, as its client sees it"),
    ("in", "client → HTTP → the leader's plane"),
    (
        "own given",
        "leader: until its write is given to the disk's thread",
    ),
    ("own waited", "leader: until the thread has it"),
    ("own took", "leader: write + fdatasync"),
    ("own back", "leader: until the plane knows"),
    (
        "there",
        "the entry on its way to the quicker follower's plane",
    ),
    ("peer given", "follower: until its write is given"),
    ("peer waited", "follower: until the thread has it"),
    ("peer took", "follower: write + fdatasync"),
    ("peer back", "follower: until the plane knows"),
    ("again", "its word on its way to the leader's plane"),
    (
        "later",
        "own write after the follower's word (negative: before)",
    ),
    (
        "out",
        "leader: from the second of both until the handler has its answer",
    ),
    ("home", "handler → HTTP → client"),
];

/// Changes of one client, and where their time went. The cluster says [`LOG`].
pub(super) async fn split(cluster: &Cluster, changes: u32) -> Result<Section, PlaneError> {
    let mut section = Section::new(
        "Where the time of a change goes",
        "Medians over changes of one client, from what the nodes say of each step (`PINION_LOG=pinion::steps=trace`), which \
         costs some microseconds a step itself. The leader's own write and the way over a follower run side by side, so \
         the steps do not add up to the whole.",
    );
    let leader = cluster.leader().await?;
    let mut http = Http::connect(&leader).await?;
    let mut asked = Vec::new();
    for number in 0..u64::from(changes) {
        let began = now();
        leader.change(&mut http, 1, number).await?;
        asked.push((began, now()));
    }
    let own = read(&cluster.said(&leader)?);
    let mut others = Vec::new();
    for node in cluster.others(&leader) {
        others.push((node.name.clone(), read(&cluster.said(&node)?)));
    }
    let splits: Vec<Split> = asked
        .into_iter()
        .filter_map(|times| follow(times, &leader.name, &own, &others))
        .collect();
    for (key, what) in PARTS {
        let mut all: Vec<i64> = splits
            .iter()
            .filter_map(|split| split.get(key))
            .copied()
            .collect();
        all.sort_unstable();
        let Some(median) = all.get(all.len() / 2) else {
            continue;
        };
        #[allow(clippy::cast_precision_loss)] // microseconds of a measurement
        section.figure(what, *median as f64, "µs", super::report::Wanted::Nothing);
    }
    Ok(section)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

/// The steps of one change; none when one of them is missing.
fn follow(
    (began, ended): (i64, i64),
    leader: &str,
    own: &Said,
    others: &[(String, Said)],
) -> Option<Split> {
    let (own_disk, [own_waited, own_took, own_back]) = disk_after(own, began)?;
    let given = own_disk - own_waited - own_took - own_back;
    let asked = last(own, began, given, |step| *step == Step::Asked)?;
    let mut best: Option<(i64, Split)> = None;
    for (name, said) in others {
        let Some((heard, split)) = over(asked, (leader, own), (name, said)) else {
            continue;
        };
        if best.as_ref().is_none_or(|(before, _)| heard < *before) {
            best = Some((heard, split));
        }
    }
    let (heard, mut split) = best?;
    let decided = heard.max(own_disk);
    let answered = first(own, decided, |step| *step == Step::Answered)?;
    if answered > ended {
        return None;
    }
    split.extend([
        ("whole", ended - began),
        ("in", asked - began),
        ("own given", given - asked),
        ("own waited", own_waited),
        ("own took", own_took),
        ("own back", own_back),
        ("later", own_disk - heard),
        ("out", answered - decided),
        ("home", ended - answered),
    ]);
    Some(split)
}

/// The way over one follower, and when the leader heard its word.
fn over(
    asked: i64,
    (leader, own): (&str, &Said),
    (name, said): (&str, &Said),
) -> Option<(i64, Split)> {
    let sent = first(
        own,
        asked,
        |step| matches!(step, Step::Sent { to } if to == name),
    )?;
    let got = first(
        said,
        sent,
        |step| matches!(step, Step::Heard { from } if from == leader),
    )?;
    let (disk, [waited, took, back]) = disk_after(said, got)?;
    let given = disk - waited - took - back;
    let word = first(
        said,
        disk,
        |step| matches!(step, Step::Sent { to } if to == leader),
    )?;
    let heard = first(
        own,
        word,
        |step| matches!(step, Step::Heard { from } if from == name),
    )?;
    let split = [
        ("there", got - asked),
        ("peer given", given - got),
        ("peer waited", waited),
        ("peer took", took),
        ("peer back", back),
        ("again", heard - disk),
    ];
    Some((heard, split.into()))
}

fn first(said: &Said, from: i64, wanted: impl Fn(&Step) -> bool) -> Option<i64> {
    let begin = said.partition_point(|(at, _)| *at < from);
    let mut rest = said[begin..].iter();
    rest.find(|(_, step)| wanted(step)).map(|(at, _)| *at)
}

fn last(said: &Said, from: i64, to: i64, wanted: impl Fn(&Step) -> bool) -> Option<i64> {
    let (begin, end) = (
        said.partition_point(|(at, _)| *at < from),
        said.partition_point(|(at, _)| *at <= to),
    );
    let mut between = said.get(begin..end)?.iter().rev();
    between.find(|(_, step)| wanted(step)).map(|(at, _)| *at)
}

/// The first write that was given to the disk's thread at or after `from`.
fn disk_after(said: &Said, from: i64) -> Option<(i64, [i64; 3])> {
    let begin = said.partition_point(|(at, _)| *at < from);
    said[begin..].iter().find_map(|(at, step)| match step {
        // The clocks of durations and of lines are not one: a step aside is none before.
        Step::Disk { waited, took, back } if at - waited - took - back >= from - 20 => {
            Some((*at, [*waited, *took, *back]))
        }
        _ => None,
    })
}

fn read(text: &str) -> Said {
    text.lines().filter_map(parse).collect()
}

/// A line such as `2026-01-31T12:00:00.000001Z TRACE pinion::steps: sent to=n2`.
fn parse(line: &str) -> Option<(i64, Step)> {
    let (head, rest) = line.split_once(" pinion::steps: ")?;
    let at = micros(head.split(' ').next()?)?;
    let mut words = rest.split(' ');
    let kind = words.next()?;
    let fields: BTreeMap<&str, &str> = words.filter_map(|word| word.split_once('=')).collect();
    let number = |name: &str| fields.get(name)?.parse::<i64>().ok();
    let step = match kind {
        "asked" => Step::Asked,
        "answered" => Step::Answered,
        "sent" => Step::Sent {
            to: (*fields.get("to")?).to_owned(),
        },
        "heard" => Step::Heard {
            from: (*fields.get("from")?).to_owned(),
        },
        "disk" if number("log")? == i64::from(GROUP_LOG.0) => Step::Disk {
            waited: number("waited")?,
            took: number("took")?,
            back: number("back")?,
        },
        _ => return None,
    };
    Some((at, step))
}

/// RFC 3339 with microseconds, in UTC.
fn micros(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.')?;
    let mut clock = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let fraction: i64 = (fraction.len() == 6).then(|| fraction.parse().ok())??;
    // Days from 1970 in the Gregorian calendar; a year begins in March here.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + fraction)
}

#[cfg(test)]
mod tests {
    use super::{follow, micros, read};

    #[test]
    fn times_are_read() {
        assert_eq!(micros("1970-01-01T00:00:00.000001Z"), Some(1));
        assert_eq!(
            micros("2024-02-29T12:00:00.500000Z"),
            Some(1_709_208_000_500_000)
        );
        assert_eq!(micros("2024-02-29T12:00:00Z"), None);
    }

    #[test]
    fn a_change_is_followed_over_the_quicker_node() {
        let said = |lines: &[(u32, &str)]| {
            let lines = lines.iter().map(|(at, what)| {
                format!("1970-01-01T00:00:00.{at:06}Z TRACE pinion::steps: {what}\n")
            });
            read(&lines.collect::<String>())
        };
        let own = said(&[
            (50, "asked count=1"),
            (60, "sent to=n2"),
            (61, "sent to=n3"),
            (300, "disk log=65534 waited=20 took=200 back=10"),
            (310, "disk log=65533 waited=20 took=200 back=10"),
            (400, "heard from=n3"),
            (410, "answered"),
            (450, "heard from=n2"),
        ]);
        let peer = |at: u32| {
            said(&[
                (at, "heard from=n1"),
                (at + 230, "disk log=65534 waited=10 took=190 back=20"),
                (at + 240, "sent to=n1"),
            ])
        };
        let others = [("n2".to_owned(), peer(180)), ("n3".to_owned(), peer(120))];
        let split = follow((10, 500), "n1", &own, &others).expect("nothing is missing");
        let part = |name: &str| split[name];
        assert_eq!((part("whole"), part("in"), part("home")), (490, 40, 90));
        assert_eq!((part("own given"), part("own took")), (20, 200));
        assert_eq!((part("there"), part("peer given")), (70, 10));
        assert_eq!((part("again"), part("later"), part("out")), (50, -100, 10));
        assert_eq!(follow((10, 405), "n1", &own, &others), None);
    }
}
