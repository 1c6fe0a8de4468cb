//! The checker can fail, in every way it is meant to.
#![allow(clippy::unwrap_used)]

use super::*;

const SHARDS: u16 = 2;
const ROWS: usize = 60;
const TTL: Duration = Duration::from_secs(60);

/// A run in which everything went well: 60 rows of 5 keys, one subscriber that
/// saw all, one that was made to skip some in the middle.
fn good() -> Evidence {
    let given: Vec<Given> = (0..ROWS)
        .map(|row| Given {
            key: format!("key-{}", row % 5).into(),
            value: format!("value-{row}").into(),
        })
        .collect();
    let mut ends = [0; SHARDS as usize];
    let places: Vec<Place> = given
        .iter()
        .map(|given| {
            let partition = partition_of(&given.key, SHARDS).0;
            let end = &mut ends[usize::from(partition)];
            *end += 1;
            Place {
                partition,
                offset: *end - 1,
            }
        })
        .collect();
    assert!(
        ends.iter().all(|end| *end > 10),
        "both partitions are used: {ends:?}"
    );
    let all: Vec<Saw> = (0..ROWS).map(|row| record(&given, &places, row)).collect();
    let mut some = all.clone();
    for partition in 0..SHARDS {
        let skipped = |saw: &Saw| matches!(saw, Saw::Record { place, .. } if place.partition == partition && (3..7).contains(&place.offset));
        let at = some.iter().position(skipped).unwrap();
        some.retain(|saw| !skipped(saw));
        let (from, to, count) = (3, 7, 4);
        some.insert(
            at,
            Saw::Lag {
                partition,
                from,
                to,
                count,
            },
        );
    }
    let mut cache = CacheSeen {
        ttl: TTL,
        ..CacheSeen::default()
    };
    for given in &given {
        let value = given.value.clone();
        let ttl = Some(TTL / 2);
        cache.held.insert(given.key.clone(), Held { value, ttl });
        cache.scanned.insert(given.key.clone());
        cache.expired.insert(given.key.clone());
    }
    Evidence {
        shards: SHARDS,
        places: places.into_iter().map(Ok).collect(),
        given,
        subscribers: vec![
            Subscriber {
                name: "fast",
                slow: false,
                saw: all,
            },
            Subscriber {
                name: "slow",
                slow: true,
                saw: some,
            },
        ],
        cache,
        node_published: ROWS as u64,
        node_failures: Vec::new(),
    }
}

fn record(given: &[Given], places: &[Place], row: usize) -> Saw {
    Saw::Record {
        place: places[row],
        row: Some(row),
        key: given[row].key.clone(),
        value: given[row].value.clone(),
    }
}

/// Spoils a good run and checks that a difference says so.
fn spoiled(spoil: impl FnOnce(&mut Evidence), expected: impl Fn(&Difference) -> bool) {
    let mut evidence = good();
    spoil(&mut evidence);
    let found = check(&evidence);
    assert!(found.iter().any(expected), "{found:?}");
}

fn fast(evidence: &mut Evidence) -> &mut Vec<Saw> {
    &mut evidence.subscribers[0].saw
}

fn slow(evidence: &mut Evidence) -> &mut Vec<Saw> {
    &mut evidence.subscribers[1].saw
}

#[test]
fn a_good_run_has_no_difference() {
    assert_eq!(check(&good()), []);
}

#[test]
fn a_killed_subscriber_misses_the_tail() {
    spoiled(
        |evidence| fast(evidence).truncate(ROWS / 2),
        |d| {
            matches!(
                d,
                Difference::MissingTail {
                    subscriber: "fast",
                    ..
                }
            )
        },
    );
    spoiled(
        |evidence| fast(evidence).clear(),
        |d| matches!(d, Difference::Count { records: 0, .. }),
    );
}

#[test]
fn the_last_record_alone_is_missed_too() {
    spoiled(
        |evidence| drop(fast(evidence).pop()),
        |d| matches!(d, Difference::MissingTail { from, to, .. } if to - from == 1),
    );
}

#[test]
fn a_corrupted_record_is_named() {
    let flip = |bytes: &mut Bytes| {
        let mut copy = bytes.to_vec();
        copy[0] ^= 1;
        *bytes = copy.into();
    };
    for (wanted, which) in [("value", 0), ("key", 1), ("row number", 2)] {
        spoiled(
            |evidence| {
                let Saw::Record {
                    row, key, value, ..
                } = &mut fast(evidence)[17]
                else {
                    panic!("a record");
                };
                match which {
                    0 => flip(value),
                    1 => flip(key),
                    _ => *row = None,
                }
            },
            |d| matches!(d, Difference::WrongRecord { row: 17, part, .. } if *part == wanted),
        );
    }
}

#[test]
fn two_records_of_a_key_in_the_wrong_order_are_found_by_row_and_by_offset() {
    // Rows 20 and 25 have one key.
    spoiled(
        |evidence| fast(evidence).swap(20, 25),
        |d| {
            matches!(
                d,
                Difference::KeyOrder {
                    row: 20,
                    after: 25,
                    ..
                }
            )
        },
    );
    spoiled(
        |evidence| fast(evidence).swap(20, 25),
        |d| matches!(d, Difference::OutOfOrder { .. }),
    );
    // Also when the node stored them so, and the offsets look right.
    spoiled(
        |evidence| {
            let saw = fast(evidence);
            let (Saw::Record { place: a, .. }, Saw::Record { place: b, .. }) =
                (saw[20].clone(), saw[25].clone())
            else {
                panic!("records");
            };
            saw.swap(20, 25);
            for (at, correct) in [(20, a), (25, b)] {
                let Saw::Record { place, .. } = &mut saw[at] else {
                    panic!("a record");
                };
                *place = correct;
            }
        },
        |d| {
            matches!(
                d,
                Difference::KeyOrder {
                    row: 20,
                    after: 25,
                    ..
                }
            )
        },
    );
}

#[test]
fn a_record_that_comes_twice_is_a_duplicate() {
    spoiled(
        |evidence| {
            let again = fast(evidence)[30].clone();
            fast(evidence).insert(31, again);
        },
        |d| {
            matches!(
                d,
                Difference::Duplicate {
                    subscriber: "fast",
                    ..
                }
            )
        },
    );
    spoiled(
        |evidence| {
            let again = fast(evidence)[30].clone();
            fast(evidence).push(again);
        },
        |d| {
            matches!(
                d,
                Difference::Duplicate {
                    subscriber: "fast",
                    ..
                }
            )
        },
    );
}

#[test]
fn a_gap_without_notice_is_found_also_in_a_subscriber_that_may_lag() {
    spoiled(
        |evidence| drop(fast(evidence).remove(10)),
        |d| {
            matches!(
                d,
                Difference::Gap {
                    subscriber: "fast",
                    ..
                }
            )
        },
    );
    spoiled(
        |evidence| slow(evidence).retain(|saw| !matches!(saw, Saw::Lag { partition: 1, .. })),
        |d| {
            matches!(
                d,
                Difference::Gap {
                    subscriber: "slow",
                    partition: 1,
                    from: 3,
                    to: 7
                }
            )
        },
    );
}

#[test]
fn a_lag_notice_that_says_too_little_or_too_much_is_wrong() {
    for (spoil_from, spoil_to, spoil_count) in [(0, 1, 0), (1, 0, 0), (0, 0, 1)] {
        spoiled(
            |evidence| {
                for saw in slow(evidence) {
                    if let Saw::Lag {
                        from, to, count, ..
                    } = saw
                    {
                        *from += spoil_from;
                        *to += spoil_to;
                        *count += spoil_count;
                    }
                }
            },
            |d| matches!(d, Difference::WrongLag { .. }),
        );
    }
}

#[test]
fn a_fast_subscriber_must_not_skip_and_a_slow_one_must() {
    spoiled(
        |evidence| evidence.subscribers[1].slow = false,
        |d| {
            matches!(
                d,
                Difference::UnwantedLag {
                    subscriber: "slow",
                    ..
                }
            )
        },
    );
    spoiled(
        |evidence| evidence.subscribers[0].slow = true,
        |d| matches!(d, Difference::NeverLagged { subscriber: "fast" }),
    );
}

#[test]
fn what_was_never_published_is_found() {
    let far = Place {
        partition: 0,
        offset: 1_000,
    };
    let nowhere = Place {
        partition: 9,
        offset: 0,
    };
    for stray in [far, nowhere] {
        spoiled(
            |evidence| {
                let (given, places) = (evidence.given.clone(), vec![stray; ROWS]);
                fast(evidence).push(record(&given, &places, ROWS - 1));
            },
            |d| matches!(d, Difference::NeverPublished { place, .. } if *place == stray),
        );
    }
}

#[test]
fn a_reset_or_a_reconnection_is_reported() {
    spoiled(
        |evidence| fast(evidence).push(Saw::Other("reset".to_owned())),
        |d| matches!(d, Difference::Unexpected { .. }),
    );
}

#[test]
fn acknowledgements_are_held_against_keys_and_order() {
    spoiled(
        |evidence| evidence.places[7] = Err("refused".to_owned()),
        |d| matches!(d, Difference::NotAcknowledged { row: 7, .. }),
    );
    spoiled(
        |evidence| {
            let Ok(place) = &mut evidence.places[7] else {
                panic!("acknowledged");
            };
            place.partition = 1 - place.partition;
        },
        |d| matches!(d, Difference::WrongPartition { row: 7, .. }),
    );
    spoiled(
        |evidence| {
            let Ok(place) = &mut evidence.places[7] else {
                panic!("acknowledged");
            };
            place.offset += 1;
        },
        |d| matches!(d, Difference::WrongOffset { row: 7, .. }),
    );
}

#[test]
fn the_nodes_own_count_and_failures_matter() {
    spoiled(
        |evidence| evidence.node_published -= 1,
        |d| matches!(d, Difference::NodeCount { .. }),
    );
    spoiled(
        |evidence| evidence.node_failures.push("core 0 panicked".to_owned()),
        |d| matches!(d, Difference::Node { .. }),
    );
}

#[test]
fn a_wrong_cache_is_found() {
    let key = || Bytes::from_static(b"key-3");
    spoiled(
        |evidence| {
            let value = evidence.given[3].value.clone();
            evidence.cache.held.get_mut(&key()).unwrap().value = value;
        },
        |d| matches!(d, Difference::CacheValue { row: 58, .. }),
    );
    spoiled(
        |evidence| drop(evidence.cache.held.remove(&key())),
        |d| matches!(d, Difference::CacheAbsent { row: 58, .. }),
    );
    for ttl in [None, Some(TTL * 2)] {
        spoiled(
            |evidence| evidence.cache.held.get_mut(&key()).unwrap().ttl = ttl,
            |d| matches!(d, Difference::CacheTtl { .. }),
        );
    }
    spoiled(
        |evidence| {
            evidence.cache.scanned.remove(&key());
        },
        |d| matches!(d, Difference::CacheScan { missing: true, .. }),
    );
    spoiled(
        |evidence| {
            evidence.cache.scanned.insert(Bytes::from_static(b"x"));
        },
        |d| matches!(d, Difference::CacheScan { missing: false, .. }),
    );
    spoiled(
        |evidence| {
            evidence.cache.expired.remove(&key());
        },
        |d| matches!(d, Difference::NotExpired { .. }),
    );
    spoiled(
        |evidence| {
            evidence.cache.left.insert(key());
        },
        |d| matches!(d, Difference::StillThere { .. }),
    );
}

#[test]
fn every_difference_reads_as_a_sentence_that_names_what_differs() {
    let mut evidence = good();
    fast(&mut evidence).truncate(40);
    let text: Vec<String> = check(&evidence).iter().map(ToString::to_string).collect();
    assert!(
        text.iter().any(|line| line.starts_with("fast: partition ")),
        "{text:?}"
    );
    assert!(text.contains(&"fast: 40 records and 0 announced as skipped are not 60".to_owned()));
}
