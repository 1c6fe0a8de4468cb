//! The audit can fail, in every way it is meant to.
#![allow(clippy::unwrap_used)]

use super::*;

const SHARDS: u16 = 2;
const ROWS: usize = 12;
/// Rows whose message came again: it failed, its time ran out, it was in
/// flight at the kill, its acknowledgement was.
const FAILED: usize = 1;
const EXPIRED: usize = 2;
const CUT_OFF: usize = 3;
const UNANSWERED: usize = 4;

fn message(row: usize) -> MessageId {
    MessageId {
        partition: 0,
        id: row as u64,
    }
}

fn given() -> Vec<Given> {
    (0..ROWS)
        .map(|row| Given {
            key: format!("key-{}", row % 5).into(),
            value: format!("value-{row}").into(),
        })
        .collect()
}

/// Writes steps down.
#[derive(Default)]
struct Story {
    steps: Vec<Step>,
    deliveries: usize,
    killed: bool,
}

impl Story {
    fn deliver(&mut self, row: usize, attempt: u16) -> usize {
        let given = &given()[row];
        self.steps.push(Step::Delivered(Delivery {
            message: message(row),
            row: Some(row),
            key: given.key.clone(),
            value: given.value.clone(),
            attempt,
            after_kill: self.killed,
        }));
        self.deliveries += 1;
        self.deliveries - 1
    }

    fn settle(&mut self, delivery: usize, fate: Fate) {
        self.steps.push(Step::Settled { delivery, fate });
    }

    fn all(&mut self, row: usize, attempt: u16, fate: Fate) {
        let delivery = self.deliver(row, attempt);
        self.settle(delivery, fate);
    }

    fn kill(&mut self) {
        self.steps.push(Step::Killed);
        self.killed = true;
    }
}

fn no_answer(asked: Asked) -> Fate {
    let error = "no answer".to_owned();
    Fate::Failed { asked, error }
}

/// A run in which everything went well, with one message for each cause.
fn good() -> Evidence {
    let given = given();
    let mut ends = vec![0; usize::from(SHARDS)];
    let places: Vec<Place> = given
        .iter()
        .map(|given| {
            let partition = partition_of(&given.key, SHARDS).0;
            let end = &mut ends[usize::from(partition)];
            *end += 1;
            let offset = *end - 1;
            Place { partition, offset }
        })
        .collect();
    assert!(ends.iter().all(|end| *end > 1), "both are used: {ends:?}");
    let saw: Vec<Saw> = (0..ROWS).map(|row| seen(places[row], row)).collect();
    let mut story = Story::default();
    story.all(0, 1, Fate::Acked);
    story.all(FAILED, 1, Fate::Nacked);
    story.all(EXPIRED, 1, Fate::Left);
    story.all(EXPIRED, 2, Fate::Acked);
    let cut_off = story.deliver(CUT_OFF, 1);
    let unanswered = story.deliver(UNANSWERED, 1);
    story.kill();
    story.settle(cut_off, no_answer(Asked::Ack));
    story.settle(unanswered, no_answer(Asked::Ack));
    story.all(FAILED, 2, Fate::Acked);
    story.all(CUT_OFF, 1, Fate::Acked);
    for row in UNANSWERED + 1..ROWS {
        story.all(row, 1, Fate::Acked);
    }
    Evidence {
        shards: SHARDS,
        given,
        places: places.into_iter().map(Ok).collect(),
        ends,
        readings: ["live", "reread"]
            .map(|name| Reading {
                name,
                saw: saw.clone(),
            })
            .into(),
        // The second was moved on by a commit whose answer was lost.
        cursors: vec![(Some(1), Some(1)), (Some(1), Some(2))],
        messages: (0..ROWS).map(|row| Ok(message(row))).collect(),
        steps: story.steps,
        left: 0,
        dead: 0,
        troubles: Vec::new(),
    }
}

fn seen(place: Place, row: usize) -> Saw {
    let given = &given()[row];
    Saw::Record {
        place,
        row: Some(row),
        key: given.key.clone(),
        value: given.value.clone(),
    }
}

/// Spoils a good run and checks that a breach says so.
fn spoiled(spoil: impl FnOnce(&mut Evidence), expected: impl Fn(&Breach) -> bool) {
    let mut evidence = good();
    spoil(&mut evidence);
    let (found, _) = audit(&evidence);
    assert!(found.iter().any(expected), "{found:?}");
}

fn reread(evidence: &mut Evidence) -> &mut Vec<Saw> {
    &mut evidence.readings[1].saw
}

/// The n-th delivery of a row.
fn delivery(evidence: &mut Evidence, row: usize, n: usize) -> &mut Delivery {
    let deliveries = evidence.steps.iter_mut().filter_map(|step| match step {
        Step::Delivered(delivery) if delivery.row == Some(row) => Some(delivery),
        _ => None,
    });
    deliveries.into_iter().nth(n).unwrap()
}

/// What became of a row's n-th delivery.
fn fate(evidence: &mut Evidence, row: usize, n: usize) -> &mut Fate {
    let rows = evidence.steps.iter().filter_map(|step| match step {
        Step::Delivered(delivery) => Some(delivery.row),
        _ => None,
    });
    let number = rows
        .enumerate()
        .filter(|(_, one)| *one == Some(row))
        .nth(n)
        .unwrap()
        .0;
    let fates = evidence.steps.iter_mut().filter_map(|step| match step {
        Step::Settled { delivery, fate } if *delivery == number => Some(fate),
        _ => None,
    });
    fates.into_iter().next().unwrap()
}

/// The row comes once more at the end, and what becomes of it.
fn again(evidence: &mut Evidence, row: usize, attempt: u16, fate: Option<Fate>) {
    let number = evidence
        .steps
        .iter()
        .filter(|step| matches!(step, Step::Delivered(_)))
        .count();
    let mut more = Delivery {
        attempt,
        after_kill: true,
        ..delivery(evidence, row, 0).clone()
    };
    more.message = message(row);
    evidence.steps.push(Step::Delivered(more));
    evidence.steps.extend(fate.map(|fate| Step::Settled {
        delivery: number,
        fate,
    }));
}

#[test]
fn a_good_run_has_no_breach_and_its_causes_are_counted() {
    let (found, causes) = audit(&good());
    assert_eq!(found, []);
    let expected = Causes {
        nack: 1,
        expiry: 1,
        kill: 1,
        answers_lost: 1,
    };
    assert_eq!(causes, expected);
}

#[test]
fn an_acknowledged_record_that_is_not_there_is_lost() {
    for index in [0, ROWS / 2, ROWS - 1] {
        spoiled(
            |evidence| drop(reread(evidence).remove(index)),
            |b| matches!(b, Breach::Lost { reading: "reread", row, .. } if *row == index),
        );
        spoiled(
            |evidence| drop(evidence.readings[0].saw.remove(index)),
            |b| matches!(b, Breach::Lost { reading: "live", row, .. } if *row == index),
        );
    }
    // Also when the node itself says that there is no more.
    spoiled(
        |evidence| {
            reread(evidence).clear();
            evidence.ends = vec![0; usize::from(SHARDS)];
        },
        |b| matches!(b, Breach::Lost { row: 0, .. }),
    );
}

#[test]
fn a_gap_is_found_in_the_middle_and_at_the_end() {
    for index in [0, ROWS - 1] {
        spoiled(
            |evidence| drop(reread(evidence).remove(index)),
            |b| matches!(b, Breach::Gap { from, to, .. } if to - from == 1),
        );
    }
    // Records nobody published that the node says it has.
    spoiled(
        |evidence| evidence.ends[0] += 1,
        |b| matches!(b, Breach::Gap { partition: 0, .. }),
    );
}

#[test]
fn a_record_that_was_stored_twice_is_found() {
    spoiled(
        |evidence| {
            let Ok(first) = evidence.places[7].clone() else {
                panic!("acknowledged");
            };
            let end = &mut evidence.ends[usize::from(first.partition)];
            let second = Place {
                offset: *end,
                ..first
            };
            *end += 1;
            reread(evidence).push(seen(second, 7));
        },
        |b| matches!(b, Breach::StoredTwice { row: 7, .. }),
    );
}

#[test]
fn a_record_with_other_bytes_or_at_another_place_is_found() {
    let flip = |bytes: &mut Bytes| {
        let mut copy = bytes.to_vec();
        copy[0] ^= 1;
        *bytes = copy.into();
    };
    for which in 0..2 {
        spoiled(
            |evidence| {
                let Saw::Record { key, value, .. } = &mut reread(evidence)[5] else {
                    panic!("a record");
                };
                flip(if which == 0 { key } else { value });
            },
            |b| matches!(b, Breach::Altered { row: 5, .. }),
        );
    }
    // Rows 0 and 5 have one key, and so one partition.
    spoiled(
        |evidence| evidence.places.swap(0, 5),
        |b| matches!(b, Breach::Moved { row: 5, .. }),
    );
    for nobodys in [None, Some(ROWS)] {
        spoiled(
            |evidence| {
                let Saw::Record { row, .. } = &mut reread(evidence)[5] else {
                    panic!("a record");
                };
                *row = nobodys;
            },
            |b| matches!(b, Breach::NotOurs { .. }),
        );
    }
}

#[test]
fn a_record_that_is_read_twice_and_a_word_about_a_skip_are_found() {
    spoiled(
        |evidence| {
            let twice = reread(evidence)[3].clone();
            reread(evidence).push(twice);
        },
        |b| {
            matches!(
                b,
                Breach::CameTwice {
                    reading: "reread",
                    ..
                }
            )
        },
    );
    spoiled(
        |evidence| reread(evidence).push(Saw::Other("reset".to_owned())),
        |b| matches!(b, Breach::Unexpected { .. }),
    );
    let (partition, from, to, count) = (0, 0, 1, 1);
    spoiled(
        |evidence| {
            reread(evidence).push(Saw::Lag {
                partition,
                from,
                to,
                count,
            });
        },
        |b| matches!(b, Breach::Unexpected { .. }),
    );
}

#[test]
fn a_cursor_that_went_back_or_away_is_found() {
    for lost in [None, Some(0)] {
        spoiled(
            |evidence| evidence.cursors[1].1 = lost,
            |b| matches!(b, Breach::Cursor { partition: 1, acked: 1, found } if *found == lost),
        );
    }
    let mut evidence = good();
    evidence.cursors[0] = (None, None);
    assert_eq!(audit(&evidence).0, []);
}

#[test]
fn acknowledgements_are_held_against_keys_and_each_other() {
    spoiled(
        |evidence| evidence.places[7] = Err("refused".to_owned()),
        |b| matches!(b, Breach::NotAcknowledged { row: 7, .. }),
    );
    spoiled(
        |evidence| evidence.messages[7] = Err("refused".to_owned()),
        |b| matches!(b, Breach::NotPut { row: 7, .. }),
    );
    spoiled(
        |evidence| {
            let Ok(place) = &mut evidence.places[7] else {
                panic!("acknowledged");
            };
            place.partition = 1 - place.partition;
        },
        |b| matches!(b, Breach::WrongPartition { row: 7, .. }),
    );
    spoiled(
        |evidence| evidence.places[5] = evidence.places[0].clone(),
        |b| {
            matches!(
                b,
                Breach::OnePlaceForTwo {
                    row: 5,
                    other: 0,
                    ..
                }
            )
        },
    );
    spoiled(
        |evidence| evidence.messages[5] = evidence.messages[0].clone(),
        |b| {
            matches!(
                b,
                Breach::OneMessageForTwo {
                    row: 5,
                    other: 0,
                    ..
                }
            )
        },
    );
}

#[test]
fn a_message_that_comes_after_its_acknowledgement_is_found_on_either_side_of_the_kill() {
    for row in [0, EXPIRED, FAILED, ROWS - 1] {
        spoiled(
            |evidence| again(evidence, row, 1, None),
            |b| matches!(b, Breach::CameAfterAck { message: m } if *m == message(row)),
        );
    }
    spoiled(
        |evidence| again(evidence, 0, 1, Some(Fate::Acked)),
        |b| matches!(b, Breach::FinishedTwice { message: m } if *m == message(0)),
    );
}

#[test]
fn a_message_that_comes_again_needs_a_cause() {
    // Nothing was said of it, and it came again over the same connection.
    spoiled(
        |evidence| {
            *fate(evidence, EXPIRED, 0) = no_answer(Asked::Ack);
        },
        |b| matches!(b, Breach::NoCause { message: m } if *m == message(EXPIRED)),
    );
    // The kill explains what was reserved before it only.
    spoiled(
        |evidence| delivery(evidence, CUT_OFF, 0).after_kill = true,
        |b| matches!(b, Breach::NoCause { message: m } if *m == message(CUT_OFF)),
    );
    spoiled(
        |evidence| delivery(evidence, CUT_OFF, 1).after_kill = false,
        |b| matches!(b, Breach::NoCause { message: m } if *m == message(CUT_OFF)),
    );
}

#[test]
fn an_acknowledgement_may_fail_at_the_kill_only() {
    for row in [0, ROWS - 1] {
        spoiled(
            |evidence| *fate(evidence, row, 0) = no_answer(Asked::Ack),
            |b| matches!(b, Breach::NotSettled { message: m, .. } if *m == message(row)),
        );
        spoiled(
            |evidence| *fate(evidence, row, 0) = no_answer(Asked::Ack),
            |b| matches!(b, Breach::Unfinished { row: r, .. } if *r == row),
        );
    }
}

#[test]
fn a_message_that_never_came_or_was_never_finished_is_found() {
    spoiled(
        |evidence| {
            let last = |step: &Step| matches!(step, Step::Delivered(d) if d.row == Some(ROWS - 1));
            let at = evidence.steps.iter().position(last).unwrap();
            evidence.steps.truncate(at);
        },
        |b| matches!(b, Breach::Unfinished { row, .. } if *row == ROWS - 1),
    );
    for unfinished in [Fate::Nacked, Fate::Left, no_answer(Asked::Nack)] {
        spoiled(
            |evidence| *fate(evidence, UNANSWERED, 0) = unfinished,
            |b| {
                matches!(
                    b,
                    Breach::Unfinished {
                        row: UNANSWERED,
                        ..
                    }
                )
            },
        );
    }
    spoiled(
        |evidence| evidence.left = 1,
        |b| matches!(b, Breach::LeftOver { left: 1, dead: 0 }),
    );
    spoiled(
        |evidence| evidence.dead = 1,
        |b| matches!(b, Breach::LeftOver { left: 0, dead: 1 }),
    );
}

#[test]
fn attempts_are_counted_as_promised() {
    // A failure and an expiry count, the kill does not.
    for (row, n, wrong) in [
        (0, 0, 2),
        (FAILED, 1, 1),
        (EXPIRED, 1, 1),
        (EXPIRED, 1, 3),
        (CUT_OFF, 1, 2),
    ] {
        spoiled(
            |evidence| delivery(evidence, row, n).attempt = wrong,
            |b| matches!(b, Breach::Attempt { attempt, .. } if *attempt == wrong),
        );
    }
    // Whether an expiry or a nack came before the kill nobody can say.
    for unsure in [Fate::Left, no_answer(Asked::Nack)] {
        for attempt in [1, 2] {
            let mut evidence = good();
            *fate(&mut evidence, CUT_OFF, 0) = unsure.clone();
            delivery(&mut evidence, CUT_OFF, 1).attempt = attempt;
            assert_eq!(audit(&evidence).0, [], "{unsure:?}, attempt {attempt}");
        }
    }
}

#[test]
fn work_that_was_put_twice_or_by_nobody_or_changed_is_found() {
    spoiled(
        |evidence| {
            again(evidence, 7, 1, Some(Fate::Acked));
            let second = delivery(evidence, 7, 1);
            second.message.id += 1_000;
        },
        |b| matches!(b, Breach::PutTwice { row: 7, .. }),
    );
    spoiled(
        |evidence| delivery(evidence, 7, 0).row = None,
        |b| matches!(b, Breach::WorkNotOurs { .. }),
    );
    spoiled(
        |evidence| delivery(evidence, 7, 0).value = Bytes::from_static(b"other"),
        |b| matches!(b, Breach::WorkAltered { row: 7, .. }),
    );
}

#[test]
fn trouble_is_a_breach_and_every_breach_reads_as_a_sentence() {
    let mut evidence = good();
    evidence.troubles.push("a worker ended: so".to_owned());
    reread(&mut evidence).remove(0);
    again(&mut evidence, 0, 1, None);
    let text: Vec<String> = audit(&evidence).0.iter().map(ToString::to_string).collect();
    assert!(text.contains(&"a worker ended: so".to_owned()), "{text:?}");
    let lost = |line: &String| {
        line.starts_with("reread: row 0 was acknowledged at partition")
            && line.ends_with("and is not there")
    };
    assert!(text.iter().any(lost), "{text:?}");
    let again = "work: message 0 of partition 0 was acknowledged and came again";
    assert!(text.contains(&again.to_owned()), "{text:?}");
}
