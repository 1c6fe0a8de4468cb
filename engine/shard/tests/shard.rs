//! Who hangs on a core's partitions, and what is left of them when they go.

#![allow(clippy::unwrap_used)]

use pinion_domains::cache::{Condition, WatchOptions};
use pinion_domains::stream::{
    Append, Delivery, PartitionConfig, Start, SubscribeError, SubscribeOptions,
};
use pinion_shard::{
    LateAnswer, Origin, PartitionSpec, Shard, ShardConfig, ShardOutput, Slot, Subscriber,
};
use pinion_types::block::Record;
use pinion_types::{
    CoreId, ErrorCode, Monotonic, Offset, PartitionId, ResourceId, SessionId, SubscriptionId,
    WallMs,
};

const NOW: Monotonic = Monotonic::from_millis(5);
const WALL: WallMs = WallMs(1_700_000_000_000);

fn session(token: u64) -> SessionId {
    SessionId {
        core: CoreId(0),
        token,
    }
}

fn subscriber(token: u64, subscription: u32) -> Subscriber {
    Subscriber {
        session: session(token),
        subscription: SubscriptionId(subscription),
        number: token * 1000 + u64::from(subscription),
    }
}

fn origin(token: u64, correlation: u32) -> Origin {
    Origin {
        session: session(token),
        stream: 0,
        correlation,
    }
}

fn open(shard: &mut Shard) -> Option<Slot> {
    let spec = || PartitionSpec::Stream(PartitionConfig::default());
    shard.open_partition(ResourceId(1), PartitionId(0), None, NOW, WALL, spec)
}

fn shard() -> (Shard, Slot, Slot) {
    let mut shard = Shard::new(ShardConfig {
        seed: [1, 2],
        tail_bytes_max: 1 << 20,
    });
    let stream = open(&mut shard).unwrap();
    let cache = shard
        .open_cache(ResourceId(2), PartitionId(0), 1 << 20, WALL)
        .unwrap();
    (shard, stream, cache)
}

fn options(start: Start) -> SubscribeOptions {
    SubscribeOptions {
        start,
        overflow: None,
        backlog_max: 0,
        credit_records: 100,
        credit_bytes: 1 << 20,
        window_bytes: 1 << 20,
        filter: None,
    }
}

fn append(shard: &mut Shard, slot: Slot, value: &[u8]) {
    let mut records = Vec::new();
    let record = Record {
        key: b"",
        headers: b"",
        value,
    };
    record.encode(&mut records).unwrap();
    let append = Append {
        producer: None,
        expected_offset: None,
        record_count: 1,
        records: &records,
    };
    shard.stream(slot).append(NOW, WALL, &append).unwrap();
}

fn turn(shard: &mut Shard) -> Vec<ShardOutput> {
    shard.end_turn(NOW);
    std::iter::from_fn(|| shard.poll_output(NOW, WALL)).collect()
}

fn lease(shard: &mut Shard, slot: Slot, who: Origin, key: &[u8]) -> bool {
    shard
        .get_or_lease(NOW, slot, who, key, 1000, 1000, false, |_| {})
        .unwrap()
}

#[test]
fn the_same_partition_is_the_same_slot() {
    let (mut shard, stream, cache) = shard();
    assert_eq!(shard.partitions(), 2);
    let again = open(&mut shard);
    assert_eq!(again, Some(stream));
    let again = shard.open_cache(ResourceId(2), PartitionId(0), 1 << 20, WALL);
    assert_eq!(again, Some(cache));
}

#[test]
fn deliveries_name_whose_they_are() {
    let (mut shard, stream, _) = shard();
    for (token, id) in [(1, 7), (2, 7), (2, 8)] {
        shard
            .subscribe(stream, subscriber(token, id), options(Start::Latest))
            .unwrap();
    }
    append(&mut shard, stream, b"x");
    let mut to: Vec<u64> = turn(&mut shard)
        .iter()
        .map(|output| match output {
            ShardOutput::Delivery {
                to,
                delivery: Delivery::Records { records: 1, .. },
            } => to.number,
            other => panic!("{other:?}"),
        })
        .collect();
    to.sort_unstable();
    assert_eq!(to, [1007, 2007, 2008]);
    assert!(turn(&mut shard).is_empty() && !shard.has_work());
}

#[test]
fn a_refused_subscription_leaves_its_id_free() {
    let (mut shard, stream, _) = shard();
    let beyond = options(Start::Offset(Offset(9)));
    let refused = shard.subscribe(stream, subscriber(1, 7), beyond);
    assert!(matches!(refused, Err(SubscribeError::BeyondEnd { .. })));
    assert_eq!(shard.unsubscribe(session(1), SubscriptionId(7)), None);
    shard
        .subscribe(stream, subscriber(1, 7), options(Start::Latest))
        .unwrap();
    let (to, next) = shard.unsubscribe(session(1), SubscriptionId(7)).unwrap();
    assert_eq!((to, next), (subscriber(1, 7), Offset(0)));
}

#[test]
fn a_session_takes_all_it_had_with_it_and_nothing_of_others() {
    let (mut shard, stream, cache) = shard();
    for token in [1, 2] {
        shard
            .subscribe(stream, subscriber(token, 7), options(Start::Latest))
            .unwrap();
    }
    let watch = WatchOptions {
        key: b"",
        prefix: true,
        with_values: false,
        credit_records: 10,
        credit_bytes: 1000,
        window_bytes: 1000,
    };
    shard.watch(cache, subscriber(1, 8), &watch).unwrap();
    shard
        .append_begin(NOW, stream, session(1), 5, true)
        .unwrap();
    assert!(!lease(&mut shard, cache, origin(1, 1), b"k"), "it holds");
    assert!(
        !lease(&mut shard, cache, origin(1, 2), b"other"),
        "it holds"
    );
    assert!(lease(&mut shard, cache, origin(2, 3), b"k"), "it waits");
    assert!(lease(&mut shard, cache, origin(1, 4), b"k"), "it waits");
    assert!(
        shard
            .append_begin(NOW, stream, session(2), 5, true)
            .is_err()
    );

    shard.end_session(NOW, WALL, session(1));
    append(&mut shard, stream, b"x");
    let outputs = turn(&mut shard);
    assert_eq!(outputs.len(), 2, "{outputs:?}");
    assert!(outputs.iter().any(|output| matches!(output,
        ShardOutput::Delivery { to, .. } if *to == subscriber(2, 7))));
    assert!(
        outputs.iter().any(|output| matches!(output,
        ShardOutput::Wakeup { origin: o, answer: LateAnswer::Lease { .. } } if *o == origin(2, 3)))
    );
    shard
        .append_begin(NOW, stream, session(2), 5, true)
        .unwrap();
    assert_eq!(shard.append_session(session(1), 5), None);
    // What arrives late for it re-creates nothing.
    shard.credit(session(1), SubscriptionId(7), 5, 5);
    shard.window(session(1), SubscriptionId(7), 5);
    shard.end_session(NOW, WALL, session(1));
    assert!(turn(&mut shard).is_empty());
}

#[test]
fn whoever_waits_is_answered_when_the_key_is_set() {
    let (mut shard, _, cache) = shard();
    assert!(!lease(&mut shard, cache, origin(1, 1), b"k"));
    assert!(lease(&mut shard, cache, origin(2, 2), b"k"));
    assert!(turn(&mut shard).is_empty());
    let set = shard
        .cache(cache)
        .set(NOW, b"k", b"v", 0, Condition::Always);
    set.unwrap();
    let outputs = turn(&mut shard);
    assert!(matches!(&outputs[..], [ShardOutput::Wakeup { origin: o,
        answer: LateAnswer::Value { value, .. } }] if *o == origin(2, 2) && **value == *b"v"));
}

#[test]
fn timers_of_partitions_come_up_once_and_in_time() {
    let (mut shard, stream, cache) = shard();
    assert!(!lease(&mut shard, cache, origin(1, 1), b"k"));
    assert!(lease(&mut shard, cache, origin(2, 2), b"k"));
    shard
        .append_begin(NOW, stream, session(1), 5, false)
        .unwrap();
    turn(&mut shard);
    let first = shard.next_deadline().expect("a lease and a wait are timed");
    assert!(first <= Monotonic::from_millis(1010));
    let mut fired = Vec::new();
    let mut last = Monotonic::ZERO;
    while let Some(at) = shard.next_deadline() {
        assert!(at > last, "time stands still at {at:?}");
        last = at;
        shard.handle_timeout(at, WALL);
        shard.end_turn(at);
        while let Some(output) = shard.poll_output(at, WALL) {
            fired.push(output);
        }
    }
    // The lease and the wait end together: either answer is right, one is due.
    assert_eq!(fired.len(), 1, "{fired:?}");
    assert!(matches!(fired[0], ShardOutput::Wakeup { origin: o, .. } if o == origin(2, 2)));
    assert!(shard.stream(stream).sessions() == 0, "idle for too long");
}

#[test]
fn a_drain_ends_everything_that_waits_once() {
    let (mut shard, stream, cache) = shard();
    append(&mut shard, stream, b"x");
    let sub = options(Start::Latest);
    shard.subscribe(stream, subscriber(1, 7), sub).unwrap();
    let watch = WatchOptions {
        key: b"k",
        prefix: false,
        with_values: false,
        credit_records: 10,
        credit_bytes: 1000,
        window_bytes: 1000,
    };
    shard.watch(cache, subscriber(1, 8), &watch).unwrap();
    assert!(!lease(&mut shard, cache, origin(1, 1), b"k"));
    assert!(lease(&mut shard, cache, origin(2, 2), b"k"));
    turn(&mut shard);
    shard.drain();
    shard.drain();
    let outputs = turn(&mut shard);
    assert_eq!(outputs.len(), 3, "{outputs:?}");
    let ended = outputs.iter().filter(|output| {
        matches!(output, ShardOutput::Delivery { delivery: Delivery::End { code, .. }, .. }
            if *code == ErrorCode::Draining)
    });
    assert_eq!(ended.count(), 2);
    assert!(outputs.iter().any(|output| matches!(output,
        ShardOutput::Ended { origin: o, code: ErrorCode::Draining } if *o == origin(2, 2))));
    assert_eq!(shard.unsubscribe(session(1), SubscriptionId(7)), None);
    assert_eq!(shard.unsubscribe(session(1), SubscriptionId(8)), None);
}
