//! Named cursors, and subscriptions that begin at one.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Fake, soon};
use pinion_client::{
    Event, Offset, PartitionId, PublisherOptions, Record, StartFrom, SubscribeOptions,
};

/// A key of partition 3 (`docs/wire-protocol.md` §3).
const KEY: &str = "a";
const PLACE: PartitionId = PartitionId(3);

#[tokio::test]
async fn a_cursor_is_kept_by_its_name_until_it_is_deleted() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let cursor = stream.cursor("billing").unwrap();
    assert_eq!(soon(cursor.get(PLACE)).await.unwrap(), None);
    soon(cursor.commit(PLACE, Offset(7))).await.unwrap();
    soon(cursor.commit(PLACE, Offset(5))).await.unwrap();
    assert_eq!(soon(cursor.get(PLACE)).await.unwrap(), Some(Offset(5)));
    assert_eq!(soon(cursor.get(PartitionId(0))).await.unwrap(), None);
    assert!(soon(cursor.delete(PLACE)).await.unwrap());
    assert!(!soon(cursor.delete(PLACE)).await.unwrap());
    assert!(stream.cursor("").is_err() && stream.cursor("n".repeat(256)).is_err());
}

#[tokio::test]
async fn all_cursors_are_listed_however_many_pages_they_take() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    for (i, name) in ["e", "b", "d", "a", "c"].into_iter().enumerate() {
        let cursor = stream.cursor(name).unwrap();
        soon(cursor.commit(PLACE, Offset(i as u64))).await.unwrap();
    }
    let all = soon(stream.cursors(PLACE)).await.unwrap();
    let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(all[0].1, Offset(3));
    assert!(
        soon(stream.cursors(PartitionId(0)))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_subscription_goes_on_where_its_cursor_stands() {
    let fake = Fake::start();
    let stream = fake.client().await.stream("demo/flights").await.unwrap();
    let publisher = stream.publisher(PublisherOptions::default());
    for i in 0..5 {
        let record = Record::new(format!("{i}")).key(KEY);
        drop(soon(publisher.publish(record)).await.unwrap());
    }
    soon(publisher.flush()).await.unwrap();
    let cursor = stream.cursor("billing").unwrap();
    soon(cursor.commit(PLACE, Offset(3))).await.unwrap();
    let options = SubscribeOptions {
        start: StartFrom::Earliest,
        cursor: Some("billing".into()),
        ..Default::default()
    };
    let mut subscription = soon(stream.subscribe(options)).await.unwrap();
    match soon(subscription.next()).await.unwrap().unwrap() {
        Event::Record(record) => {
            assert_eq!((record.offset, &record.value[..]), (Offset(3), &b"3"[..]));
        }
        other => panic!("{other:?}"),
    }
}
