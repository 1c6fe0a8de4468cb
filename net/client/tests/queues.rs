//! Putting, taking and settling messages, and what happens when the node, or
//! whoever works on them, goes away.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::Duration;

use common::queue::State;
use common::{Fake, Rule, soon};
use pinion_client::{
    ConsumeOptions, Consumer, DeadReason, DeadSelection, ErrorCode, Message, MessageState, Outcome,
    PartitionId, Partitions, PeekOptions, PutOptions, Queue, Record, States, TakeOptions,
    WhyReason,
};
use pinion_wire::opcode;

/// A key of partition 3 (`docs/wire-protocol.md` §3).
const KEY: &str = "a";
const PLACE: PartitionId = PartitionId(3);

fn text(message: &Message) -> String {
    String::from_utf8(message.value.to_vec()).unwrap()
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(text).collect()
}

fn plain() -> PutOptions {
    PutOptions::default()
}

fn up_to(max: u32) -> TakeOptions {
    TakeOptions {
        max,
        ..Default::default()
    }
}

fn in_flight(state: State) -> bool {
    matches!(state, State::InFlight { .. })
}

async fn opened(fake: &Fake) -> Queue {
    let client = fake.client().await;
    soon(client.queue("mail/out")).await.unwrap()
}

async fn put(queue: &Queue, values: &[&str]) {
    let records: Vec<_> = values
        .iter()
        .map(|v| Record::new(v.to_string()).key(KEY))
        .collect();
    for ack in soon(queue.put_batch(&records, plain())).await {
        ack.unwrap();
    }
}

async fn next(consumer: &mut Consumer) -> Message {
    soon(consumer.next()).await.unwrap().unwrap()
}

/// Waits until the client knows that the reservation is over.
async fn lost(message: &Message) {
    soon(async {
        while message.is_held() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn messages_are_taken_in_order_and_acked_once() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    put(&queue, &["1", "2", "3"]).await;
    let taken = soon(queue.take(up_to(2))).await.unwrap();
    assert_eq!(texts(&taken), ["1", "2"]);
    assert_eq!((taken[0].id, taken[0].attempt), (0, 1));
    assert_eq!(taken[1].key, KEY);
    soon(taken[0].ack()).await.unwrap();
    assert!(!taken[0].is_held() && taken[1].is_held());
    assert_eq!(fake.queued(|s| s == State::Done), ["1"]);
    // Sent again, an ack is answered as it was.
    soon(taken[0].ack()).await.unwrap();
    let error = soon(taken[0].extend(Duration::from_secs(1))).await;
    assert_eq!(error.unwrap_err().code(), Some(ErrorCode::InvalidToken));
}

#[tokio::test]
async fn a_batch_goes_to_the_partitions_of_its_keys_and_a_bad_record_alone_is_refused() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let mut records: Vec<_> = (0..100)
        .map(|i| Record::new("v").key(format!("{i}")))
        .collect();
    records[50] = Record::new(vec![0; 2 << 20]);
    let acks = soon(queue.put_batch(&records, plain())).await;
    let mut next = [0; 4];
    for (i, ack) in acks.iter().enumerate() {
        if i == 50 {
            assert_eq!(ack.as_ref().unwrap_err().outcome(), Outcome::NotAdmitted);
            continue;
        }
        let ack = ack.as_ref().unwrap();
        let id = &mut next[usize::from(ack.partition.0)];
        assert_eq!(ack.partition, queue.partition_of(format!("{i}").as_bytes()));
        assert_eq!((ack.id, ack.duplicate), (*id, false));
        *id += 1;
    }
    assert!(next.iter().all(|count| *count > 10), "{next:?}");
    assert_eq!(fake.requests(opcode::QUEUE_PUT), 4);
}

#[tokio::test]
async fn a_delay_travels_with_the_message() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let options = PutOptions {
        delay: Duration::from_secs(5),
        ..plain()
    };
    soon(queue.put(Record::new("later").key(KEY), options))
        .await
        .unwrap();
    assert_eq!(fake.node().queues[3].messages[0].delay_ms, Some(5000));
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_unknown_and_a_producers_is_stored_once() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    fake.rule(opcode::QUEUE_PUT, Rule::DoAndHangUp, 1);
    let error = soon(queue.put(Record::new("plain").key(KEY), plain()))
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);

    let producer = queue.producer();
    fake.rule(opcode::QUEUE_PUT, Rule::DoAndHangUp, 1);
    let ack = soon(producer.put(Record::new("once").key(KEY), plain()))
        .await
        .unwrap();
    assert!(ack.duplicate);
    let ack = soon(producer.put(Record::new("next").key(KEY), plain()))
        .await
        .unwrap();
    assert!(!ack.duplicate);
    assert_eq!(fake.queued(|_| true), ["plain", "once", "next"]);
}

#[tokio::test]
async fn a_put_that_was_given_up_does_not_swallow_the_next_one() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let producer = queue.producer();
    fake.rule(opcode::QUEUE_PUT, Rule::DoAndSaySoNever, 1);
    let given_up = producer.clone();
    let task = tokio::spawn(async move {
        given_up
            .put(Record::new("given up").key(KEY), plain())
            .await
    });
    fake.until(|queues| !queues[3].messages.is_empty()).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let ack = soon(producer.put(Record::new("after").key(KEY), plain()))
        .await
        .unwrap();
    assert!(!ack.duplicate);
    assert_eq!(fake.queued(|_| true), ["given up", "after"]);
}

#[tokio::test]
async fn a_producer_goes_on_with_a_node_that_forgot_it() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let producer = queue.producer();
    for _ in 0..2 {
        soon(producer.put(Record::new("before").key(KEY), plain()))
            .await
            .unwrap();
    }
    fake.restart();
    let ack = soon(producer.put(Record::new("after").key(KEY), plain()))
        .await
        .unwrap();
    assert_eq!((ack.id, ack.duplicate), (0, false));
}

#[tokio::test]
async fn an_ack_whose_answer_was_lost_is_sent_again_and_known_to_be_done() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    put(&queue, &["work"]).await;
    let taken = soon(queue.take(up_to(1))).await.unwrap();
    fake.rule(opcode::QUEUE_ACK, Rule::DoAndHangUp, 1);
    soon(taken[0].ack()).await.unwrap();
    assert_eq!(fake.queued(|s| s == State::Done), ["work"]);
    assert_eq!(fake.requests(opcode::QUEUE_ACK), 2);
}

#[tokio::test]
async fn an_ack_that_was_not_done_before_the_connection_broke_is_known_to_have_failed() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    put(&queue, &["work"]).await;
    let taken = soon(queue.take(up_to(1))).await.unwrap();
    fake.rule(opcode::QUEUE_ACK, Rule::HangUp, 1);
    // The reservation went with the connection, so the repeat finds none.
    let error = soon(taken[0].ack()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidToken));
    assert!(!taken[0].is_held());
    assert_eq!(fake.queued(|s| s == State::Ready), ["work"]);
}

#[tokio::test]
async fn a_nack_tells_the_next_one_why_and_counts_an_attempt_and_a_release_does_not() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    put(&queue, &["work"]).await;
    let taken = soon(queue.take(up_to(1))).await.unwrap();
    soon(taken[0].release()).await.unwrap();
    let taken = soon(queue.take(up_to(1))).await.unwrap();
    assert_eq!((taken[0].attempt, &taken[0].last_error), (1, &None));
    let delay = Some(Duration::from_millis(1500));
    soon(taken[0].nack(delay, "smtp: 451")).await.unwrap();
    assert_eq!(fake.node().queues[3].messages[0].delay_ms, Some(1500));
    let taken = soon(queue.take(up_to(1))).await.unwrap();
    assert_eq!(taken[0].attempt, 2);
    assert_eq!(taken[0].last_error.as_deref(), Some("smtp: 451"));
}

#[tokio::test]
async fn many_are_settled_together_and_each_says_what_became_of_it() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let records: Vec<_> = (0..40)
        .map(|i| Record::new(format!("{i}")).key(format!("{i}")))
        .collect();
    soon(queue.put_batch(&records, plain())).await;
    let mut taken = Vec::new();
    for partition in 0..4 {
        let options = TakeOptions {
            partitions: Partitions::One(PartitionId(partition)),
            ..up_to(100)
        };
        taken.extend(soon(queue.take(options)).await.unwrap());
    }
    assert_eq!(taken.len(), 40);
    soon(taken[7].release()).await.unwrap();
    let results = soon(queue.ack(&taken)).await;
    for (i, result) in results.iter().enumerate() {
        let code = result.as_ref().err().and_then(|error| error.code());
        assert_eq!(code, (i == 7).then_some(ErrorCode::InvalidToken));
    }
    assert_eq!(
        fake.requests(opcode::QUEUE_ACK),
        4,
        "one for each partition"
    );
    assert_eq!(fake.queued(|s| s == State::Done).len(), 39);
}

#[tokio::test]
async fn a_take_waits_for_what_is_put_in_any_partition() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let waits = TakeOptions {
        wait: Duration::from_secs(30),
        group: "audit".into(),
        ..up_to(10)
    };
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.take(waits).await }
    });
    fake.until(|queues| queues.iter().all(|queue| queue.last_group == "audit"))
        .await;
    put(&queue, &["work"]).await;
    let taken = soon(waiting).await.unwrap().unwrap();
    assert_eq!(texts(&taken), ["work"]);
    assert_eq!((taken[0].partition, taken[0].group()), (PLACE, "audit"));

    let nothing = soon(queue.take(up_to(1))).await.unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn what_a_take_that_was_given_up_brings_is_released() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let waits = TakeOptions {
        wait: Duration::from_secs(30),
        partitions: Partitions::One(PLACE),
        ..up_to(10)
    };
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.take(waits).await }
    });
    soon(async {
        while fake.requests(opcode::QUEUE_TAKE) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    put(&queue, &["work"]).await;
    fake.until(|queues| queues[3].released == 1).await;
    let taken = soon(queue.take(up_to(1))).await.unwrap();
    assert_eq!((text(&taken[0]), taken[0].attempt), ("work".into(), 1));
}

#[tokio::test]
async fn a_consumer_gets_everything_in_order_within_its_credit() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let options = ConsumeOptions {
        credit_records: 5,
        credit_bytes: 300,
        partitions: Partitions::One(PLACE),
        ..Default::default()
    };
    let mut consumer = soon(queue.consume(options)).await.unwrap();
    let values: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    put(
        &queue,
        &values.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    let mut got = Vec::new();
    while got.len() < 100 {
        let batch = soon(consumer.next_batch(7)).await.unwrap().unwrap();
        assert!(batch.len() <= 7);
        for result in soon(queue.ack(&batch)).await {
            result.unwrap();
        }
        got.extend(texts(&batch));
    }
    assert_eq!(got, values);
    assert_eq!(fake.queued(|s| s == State::Done).len(), 100);
}

#[tokio::test]
async fn a_consumer_that_does_not_read_is_not_sent_more_than_its_credit() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let options = ConsumeOptions {
        credit_records: 4,
        ..Default::default()
    };
    let mut consumer = soon(queue.consume(options)).await.unwrap();
    put(&queue, &["1", "2", "3", "4", "5", "6", "7", "8", "9"]).await;
    let four = |queues: &[common::queue::FakeQueue]| {
        queues[3]
            .messages
            .iter()
            .filter(|m| in_flight(m.state))
            .count()
            == 4
    };
    fake.until(four).await;
    // An answer that came after shows that nothing else was on its way.
    soon(queue.info(PLACE)).await.unwrap();
    assert!(four(&fake.node().queues));
    assert_eq!(text(&next(&mut consumer).await), "1");
}

#[tokio::test]
async fn what_is_worked_on_is_kept_reserved_and_what_is_dropped_is_not() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let mut consumer = soon(queue.consume(ConsumeOptions::default()))
        .await
        .unwrap();
    put(&queue, &["worked on", "forgotten"]).await;
    let worked_on = next(&mut consumer).await;
    drop(next(&mut consumer).await);
    fake.until(|queues| queues[3].messages[0].extended >= 1)
        .await;
    let forgotten = fake.node().queues[3].messages[1].extended;
    fake.until(|queues| queues[3].messages[0].extended >= 5)
        .await;
    assert!(worked_on.is_held());
    assert!(fake.node().queues[3].messages[1].extended <= forgotten + 1);
    // The reservation runs out while nobody looks: the next extension tells.
    fake.expire();
    lost(&worked_on).await;
    let error = soon(worked_on.ack()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TokenExpired));
}

#[tokio::test]
async fn what_is_settled_is_extended_no_more() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let mut consumer = soon(queue.consume(ConsumeOptions::default()))
        .await
        .unwrap();
    put(&queue, &["done", "going on"]).await;
    let done = next(&mut consumer).await;
    let going_on = next(&mut consumer).await;
    soon(done.ack()).await.unwrap();
    let extended = fake.node().queues[3].messages[0].extended;
    fake.until(|queues| queues[3].messages[1].extended >= 2)
        .await;
    let before = fake.requests(opcode::QUEUE_EXTEND);
    drop(going_on);
    // Both tokens would have travelled in one frame; with neither there is none.
    soon(queue.info(PLACE)).await.unwrap();
    assert!(fake.requests(opcode::QUEUE_EXTEND) <= before + 1);
    assert_eq!(fake.node().queues[3].messages[0].extended, extended);
}

#[tokio::test]
async fn a_consumer_without_keeping_extends_nothing() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let options = ConsumeOptions {
        keep: Duration::ZERO,
        credit_records: 1,
        ..Default::default()
    };
    let mut left_alone = soon(queue.consume(options)).await.unwrap();
    put(&queue, &["left alone"]).await;
    let _message = next(&mut left_alone).await;
    let other = Queue::clone(&queue);
    let mut kept = soon(other.consume(ConsumeOptions::default()))
        .await
        .unwrap();
    put(&queue, &["x", "kept"]).await;
    // The first has credit for one of them only.
    let of_kept = next(&mut kept).await;
    let id = usize::try_from(of_kept.id).unwrap();
    fake.until(|queues| queues[3].messages[id].extended >= 3)
        .await;
    assert_eq!(fake.node().queues[3].messages[0].extended, 0);
}

#[tokio::test]
async fn a_consumer_that_is_dropped_gives_back_what_nobody_took_from_it() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let options = ConsumeOptions {
        partitions: Partitions::One(PLACE),
        ..Default::default()
    };
    let mut consumer = soon(queue.consume(options)).await.unwrap();
    put(&queue, &["taken", "2", "3", "4", "5", "6"]).await;
    let taken = next(&mut consumer).await;
    fake.until(|queues| queues[3].messages.iter().all(|m| in_flight(m.state)))
        .await;
    drop(consumer);
    fake.until(|queues| {
        queues[3].messages[1..]
            .iter()
            .all(|m| m.state == State::Ready)
    })
    .await;
    assert!(
        fake.node().queues[3]
            .messages
            .iter()
            .all(|m| m.attempts == 0)
    );
    soon(taken.ack()).await.unwrap();
    assert_eq!(fake.queued(|s| s == State::Done), ["taken"]);
    assert_eq!(fake.node().unsubscribed, 1);
}

#[tokio::test]
async fn a_consumer_outlives_its_connection_and_what_it_had_comes_again() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    let mut consumer = soon(queue.consume(ConsumeOptions::default()))
        .await
        .unwrap();
    put(&queue, &["1", "2"]).await;
    let first = next(&mut consumer).await;
    fake.until(|queues| queues[3].messages.iter().all(|m| in_flight(m.state)))
        .await;
    fake.cut();
    lost(&first).await;
    // What waited here went with the connection: it is not given twice.
    let again = next(&mut consumer).await;
    assert_eq!((text(&again), again.id, again.attempt), ("1".into(), 0, 1));
    assert!(!first.is_held() && again.is_held());
    assert_eq!(text(&next(&mut consumer).await), "2");
    soon(again.ack()).await.unwrap();
    let error = soon(first.ack()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidToken));
}

#[tokio::test]
async fn dead_letters_are_listed_page_by_page_replayed_and_purged() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    put(&queue, &["0", "1", "2", "3", "4"]).await;
    for _ in 0..3 {
        let taken = soon(queue.take(up_to(5))).await.unwrap();
        let (even, odd): (Vec<_>, Vec<_>) = taken.into_iter().partition(|m| m.id % 2 == 0);
        soon(queue.nack(&even, None, "smtp: 451")).await;
        soon(queue.nack(&odd, None, "disk full")).await;
    }
    let mut walk = queue.dead_letters(DeadSelection::default(), true);
    let mut all = Vec::new();
    while let Some(page) = soon(walk.next_page()).await.unwrap() {
        assert!(page.len() <= 2);
        all.extend(page);
    }
    assert_eq!(all.len(), 5);
    assert_eq!(
        (all[1].id, all[1].reason, all[1].attempts),
        (1, DeadReason::Failed, 3)
    );
    assert_eq!(all[1].last_error, "disk full");
    assert_eq!(all[4].record.as_ref().unwrap().value, "4");

    let full = DeadSelection {
        error_prefix: "disk".into(),
        ..Default::default()
    };
    assert_eq!(soon(queue.replay_dead(&full, 10)).await.unwrap(), 2);
    assert_eq!(fake.node().queues[3].last_rate, 10);
    let taken = soon(queue.take(up_to(5))).await.unwrap();
    assert_eq!(
        (texts(&taken), taken[0].attempt),
        (vec!["1".into(), "3".into()], 1)
    );

    let named = DeadSelection {
        partitions: Partitions::One(PLACE),
        ids: vec![0, 1, 4],
        ..Default::default()
    };
    assert_eq!(
        soon(queue.purge_dead(&named)).await.unwrap(),
        2,
        "1 is none any more"
    );
    assert_eq!(fake.queued(|s| s == State::Dead), ["2"]);
    let anywhere = DeadSelection {
        partitions: Partitions::All,
        ..named
    };
    assert!(soon(queue.purge_dead(&anywhere)).await.is_err());
}

#[tokio::test]
async fn looking_reserves_nothing_and_says_what_each_message_is() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    put(&queue, &["0", "1", "2", "3", "4"]).await;
    let taken = soon(queue.take(up_to(2))).await.unwrap();
    let mut walk = queue.peek(PeekOptions::default());
    let mut all = Vec::new();
    while let Some(page) = soon(walk.next_page()).await.unwrap() {
        all.extend(page);
    }
    let states: Vec<_> = all.iter().map(|m| m.state).collect();
    let (reserved, ready) = (MessageState::InFlight, MessageState::Ready);
    assert_eq!(states, [reserved, reserved, ready, ready, ready]);
    assert_eq!((all[0].due_ms, all[0].expires_ms), (None, Some(9)));
    assert_eq!(all[3].record.as_ref().unwrap().value, "3");

    let mut walk = queue.peek(PeekOptions {
        states: States::READY,
        bodies: false,
        partitions: Partitions::One(PLACE),
        ..Default::default()
    });
    let page = soon(walk.next_page()).await.unwrap().unwrap();
    assert_eq!((page[0].id, page[0].record.is_none()), (2, true));

    let counts = soon(queue.info(PLACE)).await.unwrap();
    assert_eq!(
        (
            counts.next_id,
            counts.groups[0].in_flight,
            counts.groups[0].ready
        ),
        (5, 2, 3)
    );
    let reasons = soon(queue.why(PLACE, "")).await.unwrap();
    assert_eq!(
        (reasons[0].reason, reasons[0].limit),
        (WhyReason::GroupInFlight, 1)
    );
    drop(taken);
}

#[tokio::test]
async fn a_group_is_made_and_forgotten_in_every_partition() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    soon(queue.create_group("audit", true)).await.unwrap();
    soon(queue.create_group("audit", false)).await.unwrap();
    soon(queue.delete_group("audit")).await.unwrap();
    for of in &fake.node().queues {
        let actions: Vec<_> = of
            .groups
            .iter()
            .map(|(_, action)| action.as_str())
            .collect();
        assert_eq!(actions, ["CreateLatest", "CreateEarliest", "Delete"]);
    }
}

#[tokio::test]
async fn a_refusal_of_a_repeat_does_not_deny_what_the_first_may_have_done() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    put(&queue, &["work"]).await;
    let taken = soon(queue.take(up_to(1))).await.unwrap();
    fake.rule(opcode::QUEUE_ACK, Rule::DoAndHangUp, 1);
    fake.rule(
        opcode::QUEUE_ACK,
        Rule::Refuse(ErrorCode::PartitionFenced),
        1,
    );
    let error = soon(taken[0].ack()).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(fake.queued(|s| s == State::Done), ["work"]);

    // A failed write leaves it open too, and is not tried again for ever.
    fake.rule(
        opcode::QUEUE_PUT,
        Rule::Refuse(ErrorCode::DurabilityFailed),
        1,
    );
    let error = soon(queue.put(Record::new("x").key(KEY), plain())).await;
    let error = error.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(error.code(), Some(ErrorCode::DurabilityFailed));
}

#[tokio::test]
async fn a_full_queue_is_asked_again_after_its_hint() {
    let fake = Fake::start();
    let queue = opened(&fake).await;
    fake.rule(opcode::QUEUE_PUT, Rule::Refuse(ErrorCode::QueueFull), 1);
    let ack = soon(queue.put(Record::new("x").key(KEY), plain())).await;
    assert_eq!(ack.unwrap().id, 0);
    assert_eq!(fake.requests(opcode::QUEUE_PUT), 2);
}
