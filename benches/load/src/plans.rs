//! The lines of the suite: who is asked what, and what is promised of it.

use crate::table::{Bound, Figure};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Pinion,
    UdpSpin,
    UdpBlock,
    Quinn,
    BareEcho,
    BareSink,
    CryptoFloor,
    RedisPlain,
    RedisTls,
    Memcached,
    Nats,
}

impl Subject {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pinion => "Pinion",
            Self::UdpSpin => "UDP echo, both spin",
            Self::UdpBlock => "UDP echo, both block",
            Self::Quinn => "quinn on tokio echo",
            Self::BareEcho => "bare QUIC echo",
            Self::BareSink => "bare QUIC sink",
            Self::CryptoFloor => "signature and key exchange",
            Self::RedisPlain => "Redis plaintext",
            Self::RedisTls => "Redis TLS",
            Self::Memcached => "memcached plaintext",
            Self::Nats => "NATS plaintext",
        }
    }
}

/// What is asked of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Ping {
        depth: u32,
    },
    Cache {
        connections: usize,
        depth: u32,
        get_share: f64,
    },
    /// GET on a schedule, at the same rate for all.
    CachePaced {
        connections: usize,
        rate: f64,
    },
    /// GET on a schedule at half of the most that can be asked on one, found just before.
    CacheHalfPeak {
        connections: usize,
    },
    Bulk,
    Handshakes,
    Paced {
        rate: f64,
    },
    Fanout {
        subscribers: usize,
        shared: bool,
    },
}

pub(crate) struct Plan {
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    pub(crate) subjects: &'static [Subject],
    pub(crate) promises: &'static [(Subject, Figure, Bound)],
}

pub(crate) const VALUE_BYTES: usize = 100;

/// Bytes of a PING and of the echoes beside it.
pub(crate) const PING_BYTES: usize = 64;

/// Bytes of a bulk record, and how many make a publish: a batch of 256 KiB, well
/// below the largest frame.
pub(crate) const BULK_RECORD_BYTES: usize = 16 << 10;
pub(crate) const BULK_RECORDS: u32 = 16;

/// Bulk publishes in flight: the 2 MiB that flow control gives a stream.
pub(crate) const BULK_DEPTH: u32 = 8;

/// GETs a second of the line about equal load: about half of what the slowest of
/// its subjects, Redis with TLS, answers when each request comes by itself. At four
/// times as many it answers half of them, and the generator, which then sends a
/// packet for each, never rests either: that would be a figure of the generator.
const EQUAL_RATE: f64 = 100_000.0;

pub(crate) const KEYS: usize = 10_000;

const CACHE_SUBJECTS: &[Subject] = &[Subject::Pinion, Subject::RedisPlain, Subject::RedisTls];
const CACHE_PROMISES: &[(Subject, Figure, Bound)] = &[
    (Subject::RedisPlain, Figure::Rate, Bound::AtLeast(1.0)),
    (Subject::RedisPlain, Figure::RatePerCore, Bound::None),
    (Subject::RedisTls, Figure::Rate, Bound::AtLeast(1.0)),
];
const CACHE_WIDE_SUBJECTS: &[Subject] = &[
    Subject::Pinion,
    Subject::RedisPlain,
    Subject::RedisTls,
    Subject::Memcached,
];
const CACHE_WIDE_PROMISES: &[(Subject, Figure, Bound)] = &[
    (Subject::RedisPlain, Figure::Rate, Bound::AtLeast(1.3)),
    (Subject::RedisPlain, Figure::RatePerCore, Bound::None),
    (Subject::RedisTls, Figure::Rate, Bound::AtLeast(2.0)),
    (Subject::Memcached, Figure::Rate, Bound::None),
];
const FANOUT_PROMISES: &[(Subject, Figure, Bound)] = &[
    (Subject::Nats, Figure::Rate, Bound::AtLeast(1.5)),
    (Subject::Nats, Figure::RatePerCore, Bound::AtLeast(1.0)),
];
const PUBSUB_SUBJECTS: &[Subject] = &[Subject::Pinion, Subject::Nats];

const fn cache(connections: usize, depth: u32, get_share: f64) -> Work {
    Work::Cache {
        connections,
        depth,
        get_share,
    }
}

/// The lines of the promise, in its order.
pub(crate) const PLANS: &[Plan] = &[
    Plan {
        title: "Request and reply 64 B, one in flight",
        work: Work::Ping { depth: 1 },
        subjects: &[
            Subject::Pinion,
            Subject::UdpSpin,
            Subject::UdpBlock,
            Subject::Quinn,
            Subject::BareEcho,
        ],
        promises: &[
            (Subject::UdpSpin, Figure::P50, Bound::AtMost(2.0)),
            (Subject::UdpSpin, Figure::P99, Bound::AtMost(3.0)),
            (Subject::Quinn, Figure::P50, Bound::AtMost(0.5)),
            (Subject::BareEcho, Figure::P50, Bound::None),
        ],
    },
    Plan {
        title: "Request and reply 64 B, 64 in flight on one connection",
        work: Work::Ping { depth: 64 },
        subjects: &[Subject::Pinion, Subject::BareEcho],
        promises: &[
            (Subject::BareEcho, Figure::Rate, Bound::AtLeast(0.9)),
            (Subject::BareEcho, Figure::RatePerCore, Bound::None),
        ],
    },
    Plan {
        title: "Cache GET 100 B, one in flight",
        work: cache(1, 1, 1.0),
        subjects: &[
            Subject::Pinion,
            Subject::UdpSpin,
            Subject::UdpBlock,
            Subject::Quinn,
            Subject::RedisPlain,
        ],
        promises: &[
            (Subject::UdpSpin, Figure::P50, Bound::AtMost(2.5)),
            (Subject::RedisPlain, Figure::P50, Bound::AtMost(1.0)),
            (Subject::Quinn, Figure::P50, Bound::AtMost(0.5)),
        ],
    },
    Plan {
        title: "Cache GET 100 B, 64 in flight on one connection",
        work: cache(1, 64, 1.0),
        subjects: CACHE_SUBJECTS,
        promises: CACHE_PROMISES,
    },
    Plan {
        title: "Cache SET 100 B, 64 in flight on one connection",
        work: cache(1, 64, 0.0),
        subjects: CACHE_SUBJECTS,
        promises: CACHE_PROMISES,
    },
    Plan {
        title: "Cache GET 100 B, 32 connections with 16 in flight each",
        work: cache(32, 16, 1.0),
        subjects: CACHE_WIDE_SUBJECTS,
        promises: CACHE_WIDE_PROMISES,
    },
    Plan {
        title: "Cache SET 100 B, 32 connections with 16 in flight each",
        work: cache(32, 16, 0.0),
        subjects: CACHE_WIDE_SUBJECTS,
        promises: CACHE_WIDE_PROMISES,
    },
    Plan {
        title: "Cache GET 100 B, 100,000 a second over 32 connections",
        work: Work::CachePaced {
            connections: 32,
            rate: EQUAL_RATE,
        },
        subjects: CACHE_SUBJECTS,
        promises: &[
            (Subject::RedisPlain, Figure::P99, Bound::AtMost(1.0)),
            (Subject::RedisTls, Figure::P99, Bound::AtMost(1.0)),
        ],
    },
    Plan {
        title: "Cache GET 100 B at half of the peak on a schedule, 32 connections",
        work: Work::CacheHalfPeak { connections: 32 },
        subjects: &[Subject::Pinion, Subject::RedisPlain],
        promises: &[
            (Subject::Pinion, Figure::Tail, Bound::AtMostItself(10.0)),
            (Subject::RedisPlain, Figure::Tail, Bound::None),
        ],
    },
    Plan {
        title: "Publish to delivery, 100 B, 10,000 a second, one subscriber",
        work: Work::Paced { rate: 10_000.0 },
        subjects: PUBSUB_SUBJECTS,
        promises: &[
            (Subject::Nats, Figure::P50, Bound::AtMost(0.6)),
            (Subject::Nats, Figure::P99, Bound::AtMost(0.5)),
        ],
    },
    Plan {
        title: "Publish to delivery, 100 B, as many as one subscriber takes",
        work: Work::Fanout {
            subscribers: 1,
            shared: false,
        },
        subjects: PUBSUB_SUBJECTS,
        promises: FANOUT_PROMISES,
    },
    Plan {
        title: "Fan-out 1:10, 100 B, a connection for every subscriber",
        work: Work::Fanout {
            subscribers: 10,
            shared: false,
        },
        subjects: PUBSUB_SUBJECTS,
        promises: FANOUT_PROMISES,
    },
    Plan {
        title: "Fan-out 1:100, 100 B, a connection for every subscriber",
        work: Work::Fanout {
            subscribers: 100,
            shared: false,
        },
        subjects: PUBSUB_SUBJECTS,
        promises: FANOUT_PROMISES,
    },
    Plan {
        title: "Fan-out 1:100, 100 B, all subscriptions on one connection",
        work: Work::Fanout {
            subscribers: 100,
            shared: true,
        },
        subjects: PUBSUB_SUBJECTS,
        promises: &[
            (Subject::Nats, Figure::Rate, Bound::None),
            (Subject::Nats, Figure::RatePerCore, Bound::None),
        ],
    },
    Plan {
        title: "Bulk: records of 16 KiB on one connection",
        work: Work::Bulk,
        subjects: &[Subject::Pinion, Subject::BareSink],
        promises: &[
            (Subject::BareSink, Figure::BytesRate, Bound::AtLeast(0.8)),
            (Subject::BareSink, Figure::RatePerCore, Bound::None),
        ],
    },
    Plan {
        title: "New connections, 64 handshakes under way",
        work: Work::Handshakes,
        subjects: &[Subject::Pinion, Subject::CryptoFloor],
        promises: &[
            (
                Subject::CryptoFloor,
                Figure::RatePerCore,
                Bound::AtLeast(0.7),
            ),
            (Subject::CryptoFloor, Figure::Rate, Bound::None),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_names_a_subject_of_its_line_and_the_node_comes_first() {
        for plan in PLANS {
            assert_eq!(
                plan.subjects.first(),
                Some(&Subject::Pinion),
                "{}",
                plan.title
            );
            for (against, ..) in plan.promises {
                assert!(plan.subjects.contains(against), "{}", plan.title);
            }
        }
    }
}
