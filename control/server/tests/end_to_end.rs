//! The main job through every layer: a real process, real sockets, the SDK.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pinion_client::{
    Client, Event, PublisherOptions, Record, SetOptions, StartFrom, SubscribeOptions,
};
use pinion_types::PartitionId;
use support::{Server, run};

#[test]
fn what_is_published_is_delivered_in_order_per_key_and_once() {
    let server = Server::dev(&[]);
    run(async {
        let client = Client::connect(server.client_config()).await.unwrap();
        let stream = client.stream("demo/orders").await.unwrap();
        assert_eq!(stream.shards(), 4);
        let publisher = stream.publisher(PublisherOptions::default());
        const COUNT: u32 = 5_000;
        // Half before anyone listens, half after: the seam must not show.
        for i in 0..COUNT / 2 {
            drop(publisher.publish(record(i)).await.unwrap());
        }
        publisher.flush().await.unwrap();
        let mut subscription = stream
            .subscribe(SubscribeOptions {
                start: StartFrom::Earliest,
                ..SubscribeOptions::default()
            })
            .await
            .unwrap();
        for i in COUNT / 2..COUNT {
            drop(publisher.publish(record(i)).await.unwrap());
        }
        publisher.flush().await.unwrap();

        let mut last_of_key = BTreeMap::new();
        let mut next_offset: BTreeMap<PartitionId, u64> = BTreeMap::new();
        for _ in 0..COUNT {
            match subscription.next().await.unwrap().unwrap() {
                Event::Record(received) => {
                    let expected = next_offset.entry(received.partition).or_default();
                    assert_eq!(received.offset.0, *expected, "gap or duplicate");
                    *expected += 1;
                    let key = received.key.clone();
                    assert_eq!(stream.partition_of(&key), received.partition);
                    let i = u32::from_le_bytes(received.value[..4].try_into().unwrap());
                    if let Some(before) = last_of_key.insert(key, i) {
                        assert!(before < i, "order of a key");
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(next_offset.values().sum::<u64>(), u64::from(COUNT));
        assert_eq!(client.stats().wrong_shard, 0);
        client.close().await;
    });
    let (code, said) = server.stop();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("0 for another core"), "{said}");
}

fn record(i: u32) -> Record {
    let mut value = i.to_le_bytes().to_vec();
    value.resize(100, b'.');
    Record::new(value).key(format!("key-{}", i % 37))
}

const TTL: Duration = Duration::from_millis(200);

#[test]
fn the_cache_keeps_the_latest_value_until_its_time_is_over() {
    let server = Server::dev(&[]);
    run(async {
        let client = Client::connect(server.client_config()).await.unwrap();
        let cache = client.cache("demo/latest").await.unwrap();
        assert!(cache.get("k").await.unwrap().is_none());
        let first = cache.set("k", "one").await.unwrap();
        let set_at = Instant::now();
        let second = cache
            .set_with(
                "k",
                "two",
                SetOptions {
                    ttl: Some(TTL),
                    ..SetOptions::default()
                },
            )
            .await
            .unwrap();
        assert!(second > first);
        // The value is there until its time is over, and gone some time after that. How
        // soon is not this test's business: the machine may do something else for longer
        // than the value lives.
        while let Some(entry) = cache.get("k").await.unwrap() {
            assert_eq!(&entry.value[..], b"two");
            tokio::task::yield_now().await;
        }
        let lived = set_at.elapsed();
        assert!(lived >= TTL, "gone after {lived:?}");
        client.close().await;
    });
}

/// Shows R17 with two data cores, with the kernel's program and without it.
fn steering(mode: &str) {
    let server = Server::dev(&[
        "--data-cores",
        "0,1",
        "--control-core",
        "0",
        "--steering",
        mode,
    ]);
    let token = server.admin_token();
    run(async {
        // The SDK aims at both cores and lands on both.
        let client = Client::connect(server.client_config()).await.unwrap();
        assert_eq!(client.data_cores(), 2);
        let stream = client.stream("demo/both").await.unwrap();
        for partition in 0..stream.shards() {
            stream.info(PartitionId(partition)).await.unwrap();
        }
        let stats = client.stats();
        assert!(stats.connects >= 2, "{stats:?}");
        assert_eq!(stats.wrong_shard, 0, "{stats:?}");

        // A connection that changes its port again and again stays itself.
        let endpoint = support::endpoint(&server);
        let mut raw = support::Raw::connect(&endpoint, server.address).await;
        raw.hello(&token).await;
        for i in 0..1_000_u32 {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            endpoint.rebind(socket).unwrap();
            let payload = i.to_le_bytes();
            raw.request(
                100 + i,
                &pinion_wire::Request::Ping(pinion_wire::message::Ping { payload: &payload }),
            )
            .await;
            let back = raw
                .reply(|_, reply| match reply {
                    pinion_wire::Reply::Pong(pong) => pong.payload.to_vec(),
                    other => panic!("no pong: {other:?}"),
                })
                .await;
            assert_eq!(back, payload);
        }
        assert!(raw.connection.close_reason().is_none());
        // Said, or the node waits for it as long as a drain may take.
        raw.connection.close(0_u32.into(), b"done");
        endpoint.wait_idle().await;
        client.close().await;
    });
    let (code, said) = server.stop();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("0 for another core"), "{said}");
}

#[test]
fn a_thousand_port_changes_lose_nothing_when_the_kernel_steers() {
    steering("auto");
}

#[test]
fn a_thousand_port_changes_lose_nothing_when_cores_forward() {
    steering("forward");
}
