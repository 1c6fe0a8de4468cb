//! Publishing and subscribing, and what happens to both when the node goes away.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::Duration;

use common::{Fake, Rule, soon};
use pinion_client::{
    Ack, ErrorCode, Event, Offset, Outcome, PartitionId, Partitions, PublisherOptions, Received,
    Record, RequestError, StartFrom, SubscribeError, SubscribeOptions, Subscription,
    TryPublishError, UnknownCause,
};
use pinion_wire::opcode;

fn earliest() -> SubscribeOptions {
    SubscribeOptions {
        start: StartFrom::Earliest,
        ..Default::default()
    }
}

fn one(partition: u16) -> SubscribeOptions {
    SubscribeOptions {
        partitions: Partitions::One(PartitionId(partition)),
        ..earliest()
    }
}

/// A key of partition 3 (`docs/wire-protocol.md` §3).
const KEY: &str = "a";

async fn records(subscription: &mut Subscription, count: usize) -> Vec<Received> {
    let mut got = Vec::new();
    while got.len() < count {
        match soon(subscription.next()).await.unwrap().unwrap() {
            Event::Record(record) => got.push(record),
            other => panic!("{other:?}"),
        }
    }
    got
}

#[tokio::test]
async fn what_is_published_is_delivered_in_order_of_each_key_within_its_credit() {
    let fake = Fake::start();
    let client = fake.client().await;
    let stream = soon(client.stream("demo/flights")).await.unwrap();
    let options = SubscribeOptions {
        credit_records: 10,
        credit_bytes: 700,
        ..earliest()
    };
    let mut subscription = soon(stream.subscribe(options)).await.unwrap();
    let publisher = stream.publisher(PublisherOptions {
        batch_records: 7,
        ..Default::default()
    });
    for i in 0..1000_u32 {
        let record = Record::new(format!("{i}")).key(format!("key-{}", i % 13));
        drop(soon(publisher.publish(record)).await.unwrap());
    }
    soon(publisher.flush()).await.unwrap();
    let got = records(&mut subscription, 1000).await;
    for key in 0..13_u32 {
        let of_key = |r: &&Received| r.key == format!("key-{key}");
        let values: Vec<u32> = got
            .iter()
            .filter(of_key)
            .map(|r| std::str::from_utf8(&r.value).unwrap().parse().unwrap())
            .collect();
        let sent: Vec<u32> = (0..1000).filter(|i| i % 13 == key).collect();
        assert_eq!(values, sent);
    }
    for partition in 0..stream.shards() {
        let of = got.iter().filter(|r| r.partition.0 == partition);
        assert!(of.enumerate().all(|(i, r)| r.offset.0 == i as u64));
    }
    assert!(!fake.node().overdrawn);
    assert_eq!(client.stats().records_acked, 1000);
}

#[tokio::test]
async fn tickets_name_the_place_of_each_record() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions {
        linger: Duration::from_secs(3600),
        batch_records: 3,
        ..Default::default()
    });
    let mut tickets = Vec::new();
    for i in 0..3 {
        let record = Record::new(format!("{i}")).key(KEY);
        tickets.push(soon(publisher.publish(record)).await.unwrap());
    }
    for (i, ticket) in tickets.into_iter().enumerate() {
        let ack = soon(ticket).await.unwrap();
        assert_eq!(
            (ack.partition, ack.offset),
            (PartitionId(3), Offset(i as u64))
        );
    }
    assert_eq!(fake.requests(opcode::PUBLISH), 1, "one batch for all three");
}

#[tokio::test]
async fn a_batch_whose_ack_was_lost_is_stored_once() {
    let fake = Fake::start();
    let client = fake.client().await;
    let stream = soon(client.stream("demo/flights")).await.unwrap();
    let publisher = stream.publisher(PublisherOptions::default());
    fake.rule(opcode::PUBLISH, Rule::DoAndHangUp, 1);
    let ticket = soon(publisher.publish(Record::new("x").key(KEY)))
        .await
        .unwrap();
    let ack = soon(ticket).await.unwrap();
    assert!(ack.duplicate);
    assert_eq!(fake.stored()[3], ["x"]);
    assert_eq!(fake.requests(opcode::PUBLISH), 2);
    assert_eq!(client.stats().retries, 1);
}

#[tokio::test]
async fn connections_cut_again_and_again_lose_and_double_nothing() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions {
        batch_records: 4,
        ..Default::default()
    });
    let mut tickets = Vec::new();
    for i in 0..400_u32 {
        let record = Record::new(format!("{i}")).key(KEY);
        tickets.push(soon(publisher.publish(record)).await.unwrap());
        if i % 100 == 50 {
            fake.rule(opcode::PUBLISH, Rule::DoAndHangUp, 1);
        }
        if i % 100 == 75 {
            fake.cut();
        }
    }
    for ticket in tickets {
        soon(ticket).await.unwrap();
    }
    let sent: Vec<String> = (0..400).map(|i| format!("{i}")).collect();
    assert_eq!(fake.stored()[3], sent);
}

#[tokio::test]
async fn without_sequences_a_lost_ack_is_an_unknown_outcome() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions {
        idempotent: false,
        ..Default::default()
    });
    fake.rule(opcode::PUBLISH, Rule::DoAndHangUp, 1);
    let ticket = soon(publisher.publish(Record::new("x").key(KEY)))
        .await
        .unwrap();
    let error = soon(ticket).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(fake.stored()[3], ["x"]);
}

#[tokio::test]
async fn a_busy_partition_does_not_reorder_a_key() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions {
        batch_records: 1,
        ..Default::default()
    });
    fake.rule(opcode::PUBLISH, Rule::Refuse(ErrorCode::Busy), 2);
    for i in 0..20 {
        let record = Record::new(format!("{i}")).key(KEY);
        drop(soon(publisher.publish(record)).await.unwrap());
    }
    soon(publisher.flush()).await.unwrap();
    let sent: Vec<String> = (0..20).map(|i| format!("{i}")).collect();
    assert_eq!(fake.stored()[3], sent);
}

#[tokio::test]
async fn after_a_restart_of_the_node_the_fate_of_what_was_on_the_way_is_not_guessed() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions::default());
    let record = |text: &'static str| Record::new(text).key(KEY);
    soon(soon(publisher.publish(record("acked"))).await.unwrap())
        .await
        .unwrap();
    fake.rule(opcode::PUBLISH, Rule::DoAndSaySoNever, 1);
    let on_the_way = soon(publisher.publish(record("on the way"))).await.unwrap();
    soon(async {
        while fake.requests(opcode::PUBLISH) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    fake.restart();
    let error = soon(on_the_way).await.unwrap_err();
    let forgotten = RequestError::OutcomeUnknown(UnknownCause::ProducerForgotten);
    assert_eq!(error.to_string(), forgotten.to_string());
    let after = soon(publisher.publish(record("after"))).await.unwrap();
    assert_eq!(soon(after).await.unwrap().offset, Offset(0));
    assert_eq!(fake.stored()[3], ["after"]);
}

#[tokio::test]
async fn a_full_buffer_makes_publishers_wait_and_hands_the_record_back_to_who_will_not() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions {
        buffer_bytes: 0,
        ..Default::default()
    });
    fake.rule(opcode::PUBLISH, Rule::DoAndSaySoNever, 1000);
    let big = || Record::new(vec![0; 900_000]).key(KEY);
    let first = [big(), big()].map(|record| publisher.try_publish(record).unwrap());
    assert!(matches!(
        publisher.try_publish(big()),
        Err(TryPublishError::Full(_))
    ));
    let mut waiting = std::pin::pin!(publisher.publish(big()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    fake.node().rules.clear();
    // The batch that was never answered is sent again on the next connection.
    fake.cut();
    drop(soon(waiting).await.unwrap());
    for ticket in first {
        soon(ticket).await.unwrap();
    }
}

#[tokio::test]
async fn who_asks_for_no_ack_is_not_told_one() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions {
        ack: Ack::None,
        ..Default::default()
    });
    let ticket = soon(publisher.publish(Record::new("x").key(KEY)))
        .await
        .unwrap();
    let error = soon(ticket).await.unwrap_err();
    assert!(matches!(
        error,
        RequestError::OutcomeUnknown(UnknownCause::NotAsked)
    ));
    soon(publisher.flush()).await.unwrap();
    let mut subscription = soon(stream.subscribe(one(3))).await.unwrap();
    assert_eq!(records(&mut subscription, 1).await[0].value, "x");
}

#[tokio::test]
async fn a_dropped_publisher_sends_what_it_took() {
    let fake = Fake::start();
    let client = fake.client().await;
    let stream = soon(client.stream("demo/flights")).await.unwrap();
    let publisher = stream.publisher(PublisherOptions {
        linger: Duration::from_secs(3600),
        ..Default::default()
    });
    let ticket = soon(publisher.publish(Record::new("x").key(KEY)))
        .await
        .unwrap();
    drop(publisher);
    soon(ticket).await.unwrap();
}

#[tokio::test]
async fn a_subscription_goes_on_where_it_was_after_a_lost_connection() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions::default());
    let mut subscription = soon(stream.subscribe(one(3))).await.unwrap();
    let mut expected = 0;
    for round in 0..3 {
        for i in 0..10 {
            let record = Record::new(format!("{}", round * 10 + i)).key(KEY);
            drop(soon(publisher.publish(record)).await.unwrap());
        }
        soon(publisher.flush()).await.unwrap();
        let mut got = 0;
        while got < 10 {
            match soon(subscription.next()).await.unwrap().unwrap() {
                Event::Record(record) => {
                    assert_eq!(record.offset, Offset(expected));
                    expected += 1;
                    got += 1;
                }
                Event::Reconnected { resumed, .. } => assert!(resumed),
                other => panic!("{other:?}"),
            }
        }
        fake.cut();
    }
}

#[tokio::test]
async fn a_restarted_node_is_told_before_anything_of_it_is_delivered() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let mut subscription = soon(stream.subscribe(one(3))).await.unwrap();
    let publish = async |text: &'static str| {
        let publisher = stream.publisher(PublisherOptions::default());
        let ticket = soon(publisher.publish(Record::new(text).key(KEY)))
            .await
            .unwrap();
        soon(ticket).await.unwrap();
    };
    publish("before").await;
    assert_eq!(records(&mut subscription, 1).await[0].value, "before");
    fake.restart();
    publish("after").await;
    let partition = PartitionId(3);
    let reset = Event::Reset {
        partition,
        expected: Offset(1),
    };
    assert_eq!(soon(subscription.next()).await.unwrap().unwrap(), reset);
    let back = Event::Reconnected {
        partition,
        resumed: false,
    };
    assert_eq!(soon(subscription.next()).await.unwrap().unwrap(), back);
    let got = records(&mut subscription, 1).await;
    assert_eq!(
        (&got[0].value[..], got[0].offset),
        (&b"after"[..], Offset(0))
    );
}

#[tokio::test]
async fn an_application_that_does_not_read_stalls_its_own_subscription_alone() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let options = || SubscribeOptions {
        credit_records: 100,
        credit_bytes: 64 << 10,
        ..one(3)
    };
    let mut stuck = soon(stream.subscribe(options())).await.unwrap();
    let mut reading = soon(stream.subscribe(options())).await.unwrap();
    let publisher = stream.publisher(PublisherOptions::default());
    for _ in 0..2000 {
        let record = Record::new(vec![7; 1000]).key(KEY);
        drop(soon(publisher.publish(record)).await.unwrap());
    }
    assert_eq!(records(&mut reading, 2000).await.len(), 2000);
    // The one that waited finds everything when it reads at last.
    assert_eq!(records(&mut stuck, 2000).await[1999].offset, Offset(1999));
    assert!(!fake.node().overdrawn);
}

#[tokio::test]
async fn a_dropped_subscription_unsubscribes_on_the_node() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    drop(soon(stream.subscribe(earliest())).await.unwrap());
    soon(async {
        while fake.node().unsubscribed < u64::from(stream.shards()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_subscription_says_why_and_ends() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    fake.rule(opcode::SUBSCRIBE, Rule::Refuse(ErrorCode::Forbidden), 1);
    let error = soon(stream.subscribe(one(0))).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Forbidden));
}

#[tokio::test]
async fn who_loses_the_right_to_a_stream_is_told_what_it_has() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions::default());
    for i in 0..3 {
        let record = Record::new(format!("{i}")).key(KEY);
        drop(soon(publisher.publish(record)).await.unwrap());
    }
    soon(publisher.flush()).await.unwrap();
    let mut subscription = soon(stream.subscribe(one(3))).await.unwrap();
    assert_eq!(records(&mut subscription, 3).await.len(), 3);
    fake.revoke();
    let ended = soon(subscription.next()).await.unwrap().unwrap_err();
    let SubscribeError::Ended { refusal, next, .. } = ended else {
        panic!("{ended:?}")
    };
    assert_eq!((refusal.code, next), (ErrorCode::Forbidden, 3));
}

#[tokio::test]
async fn batches_of_events_come_without_waiting_for_more() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions::default());
    for i in 0..50 {
        let record = Record::new(format!("{i}")).key(KEY);
        drop(soon(publisher.publish(record)).await.unwrap());
    }
    soon(publisher.flush()).await.unwrap();
    let mut subscription = soon(stream.subscribe(one(3))).await.unwrap();
    let mut got = 0;
    while got < 50 {
        let batch = soon(subscription.next_batch(8)).await.unwrap().unwrap();
        assert!((1..=8).contains(&batch.len()));
        got += batch.len();
    }
    assert_eq!(got, 50);
}
