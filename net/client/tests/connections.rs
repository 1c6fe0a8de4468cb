//! Connections, routing, retries and what a caller learns when things break.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Fake, Rule, TOKEN, soon};
use pinion_client::{
    BackoffConfig, BreakerConfig, Client, ClientConfig, ConnectError, CoreId, ErrorCode,
    FreshToken, Outcome, PartitionId, Partitions, RequestError, RetryBudgetConfig, TakeOptions,
    TokenError, WatchEvent, WatchOptions,
};
use pinion_wire::opcode;

#[tokio::test]
async fn each_core_gets_one_connection_and_it_lands_there() {
    let fake = Fake::with_cores(8);
    let client = fake.client().await;
    for _ in 0..3 {
        for core in 0..8 {
            soon(client.ping(CoreId(core))).await.unwrap();
        }
    }
    let mut landed = fake.node().landed.clone();
    landed.sort_unstable();
    assert_eq!(landed, [0, 1, 2, 3, 4, 5, 6, 7]);
    let stats = client.stats();
    assert_eq!((stats.connections, stats.wrong_shard), (8, 0));
}

#[tokio::test]
async fn a_connection_on_the_wrong_core_is_counted_and_used() {
    let fake = Fake::lying();
    let client = fake.client().await;
    soon(client.ping(CoreId(1))).await.unwrap();
    soon(client.ping(CoreId(1))).await.unwrap();
    assert_eq!(client.stats().wrong_shard, 1);
    assert_eq!(client.stats().connections, 2);
}

#[tokio::test]
async fn a_wrong_token_is_refused_with_advice_and_never_shown() {
    let fake = Fake::start();
    let config = fake.config().token("not-the-token");
    let error = soon(Client::connect(config)).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(matches!(&error, ConnectError::Refused(r) if r.code == ErrorCode::Unauthenticated));
    assert!(
        text.contains("--token") && !text.contains("not-the-token"),
        "{text}"
    );
    assert!(!error.is_transient());
}

/// A client that gets `token-1`, `token-2`, … for so long each, and how many it got.
fn renewing(fake: &Fake, life: Duration) -> (ClientConfig, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let config = fake.config().token_source(move || {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        let token = FreshToken::new(format!("token-{number}")).for_time(life);
        async move { Ok::<_, TokenError>(token) }
    });
    (config, asked)
}

#[tokio::test]
async fn a_token_is_renewed_in_time_and_what_is_under_way_is_answered_once() {
    let fake = Fake::start();
    fake.node().tokens = (1..100).map(|number| format!("token-{number}")).collect();
    // A third of its life is left for what is under way when it is renewed.
    let (config, asked) = renewing(&fake, Duration::from_secs(3));
    let client = soon(Client::connect(config)).await.unwrap();
    let queue = soon(client.queue("demo/jobs")).await.unwrap();
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move {
            let take = TakeOptions {
                partitions: Partitions::One(PartitionId(0)),
                wait: Duration::from_secs(15),
                ..TakeOptions::default()
            };
            queue.take(take).await
        }
    });
    // Requests go on meanwhile, and the one that waits does so still.
    soon(async {
        client.ping(CoreId(0)).await.unwrap();
        let before = fake.node().landed.len();
        while asked.load(Ordering::Relaxed) < 2 || fake.node().landed.len() == before {
            client.ping(CoreId(0)).await.unwrap();
        }
    })
    .await;
    assert!(!waiting.is_finished());
    // A message without a key may go to any partition.
    let put = pinion_client::PutOptions::default();
    soon(async {
        while !waiting.is_finished() {
            let record = pinion_client::Record::new("work");
            queue.put(record, put).await.unwrap();
        }
    })
    .await;
    let taken = soon(waiting).await.unwrap().unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(
        fake.requests(opcode::QUEUE_TAKE),
        1,
        "it was not sent again"
    );
}

#[tokio::test]
async fn a_token_that_the_node_takes_no_more_is_asked_for_anew() {
    let fake = Fake::start();
    fake.node().tokens = vec!["token-2".to_owned()];
    let (config, asked) = renewing(&fake, Duration::from_secs(3600));
    let client = soon(Client::connect(config)).await.unwrap();
    soon(client.ping(CoreId(1))).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    // And no more than once in an attempt.
    fake.node().tokens.clear();
    let (config, asked) = renewing(&fake, Duration::from_secs(3600));
    let refused = soon(Client::connect(config)).await.unwrap_err();
    assert!(matches!(&refused, ConnectError::Refused(r) if r.code == ErrorCode::Unauthenticated));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_source_that_fails_for_a_while_costs_nothing_while_the_token_counts() {
    let fake = Fake::start();
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let config = fake.config().token_source(move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let token = match number {
            0 => Ok(FreshToken::new(TOKEN).for_time(Duration::from_secs(1))),
            1 => Err(TokenError::from("the provider is away")),
            _ => Ok(FreshToken::new(TOKEN)),
        };
        async move { token }
    });
    let client = soon(Client::connect(config)).await.unwrap();
    soon(async {
        while asked.load(Ordering::Relaxed) < 3 {
            client.ping(CoreId(0)).await.unwrap();
        }
    })
    .await;

    let config = fake
        .config()
        .token_source(|| async { Err::<FreshToken, _>(TokenError::from("the provider is away")) });
    let error = soon(Client::connect(config)).await.unwrap_err();
    assert!(
        error.to_string().contains("the provider is away"),
        "{error}"
    );
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_for_good() {
    let (fake, other) = (Fake::start(), Fake::start());
    let config = fake.config().ca_pem(&other.ca_pem);
    let error = soon(Client::connect(config)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn nobody_listening_opens_the_breaker_after_its_failures() {
    let fake = Fake::start();
    let config = fake
        .config()
        .connect_timeout(Duration::from_millis(200))
        .backoff(BackoffConfig {
            first: Duration::from_millis(1),
            max: Duration::from_millis(1),
        })
        .breaker(BreakerConfig {
            failures: 2,
            cooldown: Duration::from_secs(3600),
        });
    let client = soon(Client::connect(config)).await.unwrap();
    fake.stop_answering().await;
    let mut open = false;
    for _ in 0..4 {
        let error = soon(client.ping(CoreId(1))).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotAdmitted);
        open |= matches!(
            error,
            RequestError::NotConnected(ConnectError::CircuitOpen { .. })
        );
    }
    assert!(open);
    assert_eq!(client.stats().connect_failures, 2);
}

#[tokio::test]
async fn a_busy_node_is_asked_again_and_answers() {
    let fake = Fake::start();
    let cache = fake.client().await.cache("demo/latest").await.unwrap();
    fake.rule(opcode::CACHE_SET, Rule::Refuse(ErrorCode::Busy), 3);
    soon(cache.set("k", "v")).await.unwrap();
    assert_eq!(fake.requests(opcode::CACHE_SET), 4);
    let entry = soon(cache.get("k")).await.unwrap().unwrap();
    assert_eq!(&entry.value[..], b"v");
}

#[tokio::test]
async fn an_overloaded_node_is_not_asked_more_than_the_budget_allows() {
    let fake = Fake::start();
    let config = fake.config().retry_budget(RetryBudgetConfig {
        ratio: 0.1,
        burst: 2,
        per_second: 0.0,
    });
    let client = soon(Client::connect(config)).await.unwrap();
    let cache = soon(client.cache("demo/latest")).await.unwrap();
    fake.rule(opcode::CACHE_GET, Rule::Refuse(ErrorCode::Busy), 1000);
    for _ in 0..40 {
        let error = soon(cache.get("k")).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::Busy));
    }
    let asked = fake.requests(opcode::CACHE_GET);
    assert!(
        (41..=40 + 2 + 4).contains(&asked),
        "{asked} requests for 40 calls"
    );
}

#[tokio::test]
async fn a_read_survives_a_lost_connection_and_a_write_says_it_does_not_know() {
    let fake = Fake::start();
    let client = fake.client().await;
    let cache = soon(client.cache("demo/latest")).await.unwrap();
    soon(cache.set("k", "v")).await.unwrap();

    fake.rule(opcode::CACHE_GET, Rule::HangUp, 1);
    assert!(soon(cache.get("k")).await.unwrap().is_some());

    fake.rule(opcode::CACHE_SET, Rule::DoAndHangUp, 1);
    let error = soon(cache.set("k", "w")).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(fake.requests(opcode::CACHE_SET), 2, "it was not sent again");
    assert_eq!(
        &soon(cache.get("k")).await.unwrap().unwrap().value[..],
        b"w"
    );
    assert_eq!(client.stats().reconnects, 2);
}

#[tokio::test]
async fn without_a_reply_in_time_a_write_is_unknown_and_a_read_repeatable() {
    let fake = Fake::start();
    let config = fake.config().request_timeout(Duration::from_millis(300));
    let client = soon(Client::connect(config)).await.unwrap();
    let cache = soon(client.cache("demo/latest")).await.unwrap();
    fake.rule(opcode::CACHE_SET, Rule::DoAndSaySoNever, 1);
    fake.rule(opcode::CACHE_GET, Rule::DoAndSaySoNever, 1);
    let write = soon(cache.set("k", "v")).await.unwrap_err();
    let read = soon(cache.get("k")).await.unwrap_err();
    assert_eq!(write.outcome(), Outcome::Unknown);
    assert!(matches!(read, RequestError::TimedOut { .. }), "{read}");
    assert!(soon(cache.get("k")).await.unwrap().is_some());
    assert_eq!(client.stats().timeouts, 2);
}

#[tokio::test]
async fn dropped_calls_leave_the_connection_usable() {
    let fake = Fake::start();
    let client = fake.client().await;
    let cache = soon(client.cache("demo/latest")).await.unwrap();
    // The node grants 64 requests in flight: were one lost per dropped call,
    // this would stop long before the end.
    for round in 0..200_u32 {
        let call = cache.get("k");
        let mut call = std::pin::pin!(call);
        for _ in 0..round % 4 {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            if call.as_mut().poll(&mut context).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    assert!(soon(cache.get("k")).await.unwrap().is_none());
    assert_eq!(client.stats().connects, client.stats().connections);
}

#[tokio::test]
async fn a_value_of_a_mebibyte_travels_both_ways() {
    let fake = Fake::start();
    let cache = fake.client().await.cache("demo/latest").await.unwrap();
    let value: Vec<u8> = (0..1_048_576_u32)
        .map(|i| i.to_le_bytes()[0] ^ 0x5a)
        .collect();
    soon(cache.set("big", &value)).await.unwrap();
    let back = soon(cache.get("big")).await.unwrap().unwrap();
    assert!(back.value == value);
    let error = soon(cache.set("big", vec![0; 1_048_577]))
        .await
        .unwrap_err();
    assert!(matches!(error, RequestError::Encode(_)), "{error}");
}

#[tokio::test]
async fn many_requests_at_once_share_the_slots_the_node_grants() {
    let fake = Fake::start();
    let cache = fake.client().await.cache("demo/latest").await.unwrap();
    let calls: Vec<_> = (0..500_u32)
        .map(|i| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.set(i.to_le_bytes(), "v").await })
        })
        .collect();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    assert_eq!(fake.requests(opcode::CACHE_SET), 500);
}

#[tokio::test]
async fn a_closed_client_says_so_at_once() {
    let fake = Fake::start();
    let client = fake.client().await;
    let cache = soon(client.cache("demo/latest")).await.unwrap();
    soon(client.close()).await;
    assert!(matches!(
        soon(cache.get("k")).await,
        Err(RequestError::Closed)
    ));
    assert_eq!(client.stats().connections, 0);
}

#[tokio::test]
async fn a_watch_gives_each_change_and_says_when_some_may_be_missing() {
    let fake = Fake::start();
    let cache = fake.client().await.cache("demo/latest").await.unwrap();
    let mut watch = soon(cache.watch(WatchOptions::key("k"))).await.unwrap();
    let version = soon(cache.set("k", "one")).await.unwrap();
    match soon(watch.next()).await.unwrap().unwrap() {
        WatchEvent::Change {
            version: seen,
            value,
            ..
        } => {
            assert_eq!((seen, value.as_deref()), (version, Some(&b"one"[..])));
        }
        other => panic!("{other:?}"),
    }
    fake.cut();
    let partition = cache.partition_of(b"k");
    let reconnected = WatchEvent::Reconnected { partition };
    assert_eq!(soon(watch.next()).await.unwrap().unwrap(), reconnected);
    soon(cache.set("k", "two")).await.unwrap();
    let event = soon(watch.next()).await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Change { .. }), "{event:?}");
}

#[tokio::test]
async fn a_node_that_shuts_down_is_left_alone_for_as_long_as_it_asks() {
    let fake = Fake::start();
    let client = fake.client().await;
    soon(client.ping(CoreId(0))).await.unwrap();
    soon(client.ping(CoreId(1))).await.unwrap();
    let start = std::time::Instant::now();
    fake.drain();
    soon(async {
        while client.stats().connections > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(client.ping(CoreId(0))).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}
