//! Holds what was seen against what was given. Pure: no node, no clock.
//!
//! It trusts nothing it can derive: partitions come from the key, places from
//! the acknowledgements, order from the row number each record carries, and a
//! subscriber's records and lag notices must join without a seam.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use pinion_types::route::partition_of;

/// A record as it was meant to be published; its row is its place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// Where the node said it stored a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) partition: u16,
    pub(super) offset: u64,
}

/// One thing a subscriber saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Saw {
    Record {
        place: Place,
        /// What its row header said; `None` when that was no number.
        row: Option<usize>,
        key: Bytes,
        value: Bytes,
    },
    /// Offsets `from..to` were announced as skipped, `count` records.
    Lag {
        partition: u16,
        from: u64,
        to: u64,
        count: u64,
    },
    /// Anything that must not happen in a quiet run.
    Other(String),
}

/// Everything one subscriber saw, in its order.
#[derive(Clone, Debug)]
pub(super) struct Subscriber {
    pub(super) name: &'static str,
    /// Slow on purpose: it must be made to skip, and be told so.
    pub(super) slow: bool,
    pub(super) saw: Vec<Saw>,
}

/// A value in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) value: Bytes,
    pub(super) ttl: Option<Duration>,
}

/// What the cache was seen to hold.
#[derive(Clone, Debug, Default)]
pub(super) struct CacheSeen {
    /// By reading every key that was ever given.
    pub(super) held: BTreeMap<Bytes, Held>,
    /// Keys found by walking the whole cache.
    pub(super) scanned: BTreeSet<Bytes>,
    /// The time to live every value was set with.
    pub(super) ttl: Duration,
    /// Keys whose end was announced after they got a short life.
    pub(super) expired: BTreeSet<Bytes>,
    /// Keys that could still be read after that.
    pub(super) left: BTreeSet<Bytes>,
}

/// Everything there is to check.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    pub(super) shards: u16,
    pub(super) given: Vec<Given>,
    /// By row; the error when a record was not acknowledged.
    pub(super) places: Vec<Result<Place, String>>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) cache: CacheSeen,
    /// Records the node counted as published.
    pub(super) node_published: u64,
    /// What the node said went wrong at its end.
    pub(super) node_failures: Vec<String>,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    NotAcknowledged {
        row: usize,
        error: String,
    },
    WrongPartition {
        row: usize,
        partition: u16,
        expected: u16,
    },
    WrongOffset {
        row: usize,
        place: Place,
        expected: u64,
    },
    NodeCount {
        counted: u64,
        expected: u64,
    },
    Node {
        failure: String,
    },
    Count {
        subscriber: &'static str,
        records: u64,
        announced: u64,
        expected: u64,
    },
    Duplicate {
        subscriber: &'static str,
        place: Place,
    },
    OutOfOrder {
        subscriber: &'static str,
        place: Place,
        expected: u64,
    },
    Gap {
        subscriber: &'static str,
        partition: u16,
        from: u64,
        to: u64,
    },
    MissingTail {
        subscriber: &'static str,
        partition: u16,
        from: u64,
        to: u64,
    },
    NeverPublished {
        subscriber: &'static str,
        place: Place,
    },
    WrongRecord {
        subscriber: &'static str,
        place: Place,
        row: usize,
        part: &'static str,
    },
    KeyOrder {
        subscriber: &'static str,
        key: Bytes,
        row: usize,
        after: usize,
    },
    WrongLag {
        subscriber: &'static str,
        partition: u16,
        from: u64,
        to: u64,
        count: u64,
        expected_from: u64,
    },
    UnwantedLag {
        subscriber: &'static str,
        partition: u16,
        from: u64,
        to: u64,
    },
    NeverLagged {
        subscriber: &'static str,
    },
    Unexpected {
        subscriber: &'static str,
        what: String,
    },
    CacheAbsent {
        key: Bytes,
        row: usize,
    },
    CacheValue {
        key: Bytes,
        row: usize,
    },
    CacheTtl {
        key: Bytes,
        ttl: Option<Duration>,
    },
    CacheScan {
        key: Bytes,
        missing: bool,
    },
    NotExpired {
        key: Bytes,
    },
    StillThere {
        key: Bytes,
    },
}

/// Every difference between what was given and what was seen; empty is success.
pub(super) fn check(evidence: &Evidence) -> Vec<Difference> {
    let mut found = Vec::new();
    let log = check_places(evidence, &mut found);
    for subscriber in &evidence.subscribers {
        check_subscriber(evidence, &log, subscriber, &mut found);
    }
    check_cache(evidence, &mut found);
    let expected = evidence.given.len() as u64;
    if evidence.node_published != expected {
        found.push(Difference::NodeCount {
            counted: evidence.node_published,
            expected,
        });
    }
    found.extend(
        evidence
            .node_failures
            .iter()
            .map(|failure| Difference::Node {
                failure: failure.clone(),
            }),
    );
    found
}

/// Acknowledgements must name the key's partition and dense offsets in the
/// order of publishing. Gives the row at each offset of each partition.
fn check_places(evidence: &Evidence, found: &mut Vec<Difference>) -> Vec<Vec<usize>> {
    let mut log = vec![Vec::new(); usize::from(evidence.shards)];
    for (row, (given, place)) in evidence.given.iter().zip(&evidence.places).enumerate() {
        let place = match place {
            Ok(place) => *place,
            Err(error) => {
                let error = error.clone();
                found.push(Difference::NotAcknowledged { row, error });
                continue;
            }
        };
        let expected = partition_of(&given.key, evidence.shards).0;
        if place.partition != expected {
            found.push(Difference::WrongPartition {
                row,
                partition: place.partition,
                expected,
            });
            continue;
        }
        let partition = &mut log[usize::from(expected)];
        let expected = partition.len() as u64;
        if place.offset != expected {
            found.push(Difference::WrongOffset {
                row,
                place,
                expected,
            });
        }
        partition.push(row);
    }
    log
}

fn check_subscriber(
    evidence: &Evidence,
    log: &[Vec<usize>],
    subscriber: &Subscriber,
    found: &mut Vec<Difference>,
) {
    let name = subscriber.name;
    // Per partition: the offset that must come next, and what came.
    let mut next = vec![0_u64; log.len()];
    let mut came: Vec<Vec<bool>> = log.iter().map(|rows| vec![false; rows.len()]).collect();
    let mut last_row_of_key: BTreeMap<&Bytes, usize> = BTreeMap::new();
    let (mut records, mut announced, mut lags) = (0_u64, 0_u64, 0_u64);
    for saw in &subscriber.saw {
        match saw {
            Saw::Record {
                place,
                row,
                key,
                value,
            } => {
                records += 1;
                if let Some(row) = *row {
                    // Independent of offsets: the row number travels in the record.
                    if let Some(after) = last_row_of_key.insert(key, row)
                        && after >= row
                    {
                        let key = key.clone();
                        found.push(Difference::KeyOrder {
                            subscriber: name,
                            key,
                            row,
                            after,
                        });
                    }
                }
                let partition = usize::from(place.partition);
                let index = usize::try_from(place.offset).unwrap_or(usize::MAX);
                let Some(&meant) = log.get(partition).and_then(|rows| rows.get(index)) else {
                    found.push(Difference::NeverPublished {
                        subscriber: name,
                        place: *place,
                    });
                    continue;
                };
                let expected = next[partition];
                if came[partition][index] {
                    found.push(Difference::Duplicate {
                        subscriber: name,
                        place: *place,
                    });
                } else if place.offset < expected {
                    found.push(Difference::OutOfOrder {
                        subscriber: name,
                        place: *place,
                        expected,
                    });
                } else if place.offset > expected {
                    found.push(Difference::Gap {
                        subscriber: name,
                        partition: place.partition,
                        from: expected,
                        to: place.offset,
                    });
                }
                came[partition][index] = true;
                next[partition] = expected.max(place.offset + 1);
                let given = &evidence.given[meant];
                for (part, same) in [
                    ("key", *key == given.key),
                    ("value", *value == given.value),
                    ("row number", *row == Some(meant)),
                ] {
                    if !same {
                        found.push(Difference::WrongRecord {
                            subscriber: name,
                            place: *place,
                            row: meant,
                            part,
                        });
                    }
                }
            }
            Saw::Lag {
                partition,
                from,
                to,
                count,
            } => {
                lags += 1;
                announced += count;
                let (partition, from, to, count) = (*partition, *from, *to, *count);
                if !subscriber.slow {
                    found.push(Difference::UnwantedLag {
                        subscriber: name,
                        partition,
                        from,
                        to,
                    });
                }
                let next = next.get_mut(usize::from(partition));
                let expected_from = next.as_ref().map_or(u64::MAX, |next| **next);
                if from != expected_from || to <= from || count != to - from {
                    found.push(Difference::WrongLag {
                        subscriber: name,
                        partition,
                        from,
                        to,
                        count,
                        expected_from,
                    });
                }
                if let Some(next) = next {
                    *next = to.max(*next);
                }
            }
            Saw::Other(what) => found.push(Difference::Unexpected {
                subscriber: name,
                what: what.clone(),
            }),
        }
    }
    for (partition, rows) in log.iter().enumerate() {
        let (from, to) = (next[partition], rows.len() as u64);
        if from != to {
            found.push(Difference::MissingTail {
                subscriber: name,
                partition: u16::try_from(partition).expect("shards are a u16"),
                from,
                to,
            });
        }
    }
    let expected = evidence.given.len() as u64;
    if records + announced != expected {
        found.push(Difference::Count {
            subscriber: name,
            records,
            announced,
            expected,
        });
    }
    if subscriber.slow && lags == 0 {
        found.push(Difference::NeverLagged { subscriber: name });
    }
}

fn check_cache(evidence: &Evidence, found: &mut Vec<Difference>) {
    let cache = &evidence.cache;
    let mut latest: BTreeMap<&Bytes, usize> = BTreeMap::new();
    for (row, given) in evidence.given.iter().enumerate() {
        latest.insert(&given.key, row);
    }
    for (&key, &row) in &latest {
        let key = || key.clone();
        let Some(held) = cache.held.get(&key()) else {
            found.push(Difference::CacheAbsent { key: key(), row });
            continue;
        };
        if held.value != evidence.given[row].value {
            found.push(Difference::CacheValue { key: key(), row });
        }
        if held.ttl.is_none_or(|ttl| ttl > cache.ttl) {
            let ttl = held.ttl;
            found.push(Difference::CacheTtl { key: key(), ttl });
        }
        if !cache.scanned.contains(&key()) {
            let missing = true;
            found.push(Difference::CacheScan {
                key: key(),
                missing,
            });
        }
        if !cache.expired.contains(&key()) {
            found.push(Difference::NotExpired { key: key() });
        }
    }
    for key in cache.scanned.iter().filter(|key| !latest.contains_key(key)) {
        found.push(Difference::CacheScan {
            key: key.clone(),
            missing: false,
        });
    }
    found.extend(
        cache
            .left
            .iter()
            .map(|key| Difference::StillThere { key: key.clone() }),
    );
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} offset {}", self.partition, self.offset)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
        match self {
            Self::NotAcknowledged { row, error } => {
                write!(f, "row {row} was not acknowledged: {error}")
            }
            Self::WrongPartition {
                row,
                partition,
                expected,
            } => write!(
                f,
                "row {row} was stored in partition {partition}, its key belongs to {expected}"
            ),
            Self::WrongOffset {
                row,
                place,
                expected,
            } => {
                write!(
                    f,
                    "row {row} was stored at {place}, expected offset {expected}"
                )
            }
            Self::NodeCount { counted, expected } => {
                write!(
                    f,
                    "the node counted {counted} published records, expected {expected}"
                )
            }
            Self::Node { failure } => write!(f, "the node failed: {failure}"),
            Self::Count {
                subscriber,
                records,
                announced,
                expected,
            } => write!(
                f,
                "{subscriber}: {records} records and {announced} announced as skipped are not {expected}"
            ),
            Self::Duplicate { subscriber, place } => {
                write!(f, "{subscriber}: {place} came twice")
            }
            Self::OutOfOrder {
                subscriber,
                place,
                expected,
            } => write!(
                f,
                "{subscriber}: {place} came when offset {expected} was next"
            ),
            Self::Gap {
                subscriber,
                partition,
                from,
                to,
            } => write!(
                f,
                "{subscriber}: partition {partition} offsets {from} to {} are missing without notice",
                to - 1
            ),
            Self::MissingTail {
                subscriber,
                partition,
                from,
                to,
            } => write!(
                f,
                "{subscriber}: partition {partition} ended at offset {from} of {to}"
            ),
            Self::NeverPublished { subscriber, place } => {
                write!(f, "{subscriber}: {place} came and was never published")
            }
            Self::WrongRecord {
                subscriber,
                place,
                row,
                part,
            } => write!(
                f,
                "{subscriber}: {place} has another {part} than row {row}, which was published there"
            ),
            Self::KeyOrder {
                subscriber,
                key,
                row,
                after,
            } => write!(
                f,
                "{subscriber}: row {row} of key {} came after row {after}",
                text(key)
            ),
            Self::WrongLag {
                subscriber,
                partition,
                from,
                to,
                count,
                expected_from,
            } => write!(
                f,
                "{subscriber}: partition {partition} announced offsets {from} to {to} ({count} records) as skipped when offset {expected_from} was next"
            ),
            Self::UnwantedLag {
                subscriber,
                partition,
                from,
                to,
            } => write!(
                f,
                "{subscriber}: partition {partition} offsets {from} to {} were skipped, though it kept up",
                to.saturating_sub(1)
            ),
            Self::NeverLagged { subscriber } => write!(
                f,
                "{subscriber}: it was slow on purpose and was never told that it skipped anything"
            ),
            Self::Unexpected { subscriber, what } => write!(f, "{subscriber}: {what}"),
            Self::CacheAbsent { key, row } => write!(
                f,
                "cache: no value for {}, row {row} is its latest",
                text(key)
            ),
            Self::CacheValue { key, row } => write!(
                f,
                "cache: the value of {} is not its latest, row {row}",
                text(key)
            ),
            Self::CacheTtl { key, ttl } => {
                write!(f, "cache: {} has {ttl:?} left to live", text(key))
            }
            Self::CacheScan { key, missing: true } => {
                write!(f, "cache: a scan did not give {}", text(key))
            }
            Self::CacheScan {
                key,
                missing: false,
            } => {
                write!(f, "cache: a scan gave {}, which was never set", text(key))
            }
            Self::NotExpired { key } => {
                write!(f, "cache: the end of {} was not announced", text(key))
            }
            Self::StillThere { key } => {
                write!(
                    f,
                    "cache: {} could be read after its time was over",
                    text(key)
                )
            }
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
