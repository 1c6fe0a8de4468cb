//! The same questions asked through the SDK on tokio, as an application would:
//! what its comfort costs beside the native client.
//!
//! One task per request in flight, all on one current-thread runtime. The SDK
//! keeps one connection per data core, so connections cannot be chosen.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinion_client::{
    Ack, Cache, Client, ClientConfig, CoreId, Event, PartitionId, Partitions, PublisherOptions,
    Record, StartFrom, SubscribeOptions,
};

use super::latency::Latency;
use super::machine::thread_cpu;
use super::measure::{BenchError, Generator, Run, Span};
use super::pubsub::RECORD_BYTES_MIN;
use super::rpc::{Ask, CacheLoad, Random, key, threshold};

/// How long deliveries may follow the last publish.
const TAIL_MAX: Duration = Duration::from_secs(2);

/// Most records in flight to the subscriber before the publisher skips a turn.
const BATCH_RECORDS_MAX: u32 = 256;

fn failed(what: &'static str) -> impl FnOnce(&dyn std::error::Error) -> BenchError {
    move |error| BenchError::Options(format!("{what}: {error}"))
}

fn block_on<T>(work: impl Future<Output = Result<T, BenchError>>) -> Result<T, BenchError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("starting tokio"))?
        .block_on(work)
}

/// Keeps `depth` requests in flight.
///
/// # Errors
/// The node refuses, or does not answer.
pub fn closed(config: ClientConfig, ask: &Ask, depth: u32, span: Span) -> Result<Run, BenchError> {
    block_on(async {
        let client = connect(config).await?;
        let question = Question::new(client.clone(), ask).await?;
        let question = Arc::new(question);
        let started = Instant::now();
        let cpu_before = thread_cpu();
        let mut tasks = tokio::task::JoinSet::new();
        for seed in 0..u64::from(depth.max(1)) {
            tasks.spawn(ask_on(Arc::clone(&question), seed + 1, started, span));
        }
        let mut latency = Latency::default();
        while let Some(ended) = tasks.join_next().await {
            let asked = ended.map_err(|e| failed("a task of the generator")(&e))?;
            latency.add(&asked?);
        }
        let wall = started.elapsed().as_secs_f64();
        let cpu_share = thread_cpu().saturating_sub(cpu_before).as_secs_f64() / wall.max(1e-9);
        client.close().await;
        Ok(run(latency, span.measured, 0, cpu_share))
    })
}

/// Publishes `rate` records a second to one subscriber; latency counts from
/// the intended send time.
///
/// # Errors
/// The node refuses, or does not answer.
pub fn paced(
    config: ClientConfig,
    stream: &str,
    size: usize,
    rate: f64,
    acked: bool,
    span: Span,
) -> Result<Run, BenchError> {
    block_on(async {
        let client = connect(config).await?;
        let stream = client
            .stream(&format!("bench/{stream}"))
            .await
            .map_err(|e| failed("OPEN")(&e))?;
        let mut subscription = stream
            .subscribe(SubscribeOptions {
                partitions: Partitions::One(PartitionId(0)),
                start: StartFrom::Latest,
                ..SubscribeOptions::default()
            })
            .await
            .map_err(|e| failed("SUBSCRIBE")(&e))?;
        let publisher = stream.publisher(PublisherOptions {
            ack: if acked { Ack::Leader } else { Ack::None },
            batch_records: BATCH_RECORDS_MAX,
            ..PublisherOptions::default()
        });
        // A key keeps every record on the partition that is subscribed.
        let key = (0..)
            .map(key)
            .find(|key| stream.partition_of(key) == PartitionId(0))
            .unwrap_or_default();
        let started = Instant::now();
        let cpu_before = thread_cpu();
        let warm = nanos(span.warmup);
        let end = warm + nanos(span.measured);
        let publishing = async {
            let mut slip = Latency::default();
            let mut sent = 0_u64;
            loop {
                let intended = intended(sent, rate);
                if intended >= end {
                    return Ok::<_, BenchError>((slip, sent));
                }
                while nanos(started.elapsed()) < intended {
                    // A timer of tokio is a millisecond wide: far too coarse here.
                    tokio::task::yield_now().await;
                }
                if intended >= warm {
                    slip.record(nanos(started.elapsed()) - intended);
                }
                let mut value = vec![0x5a; size.max(RECORD_BYTES_MIN)];
                value[..RECORD_BYTES_MIN].copy_from_slice(&intended.to_le_bytes());
                publisher
                    .publish(Record::new(value).key(key.clone()))
                    .await
                    .map_err(|e| failed("PUBLISH")(&e))?;
                sent += 1;
            }
        };
        let receiving = async {
            let mut latency = Latency::default();
            let mut lost = 0;
            let last = expected(rate, end);
            let mut received = 0_u64;
            while received + lost < last {
                match subscription.next().await {
                    Some(Ok(Event::Record(record))) => {
                        received += 1;
                        let stamp = record.value.first_chunk::<RECORD_BYTES_MIN>();
                        let stamp = stamp.map_or(0, |stamp| u64::from_le_bytes(*stamp));
                        if stamp >= warm {
                            latency.record(nanos(started.elapsed()).saturating_sub(stamp));
                        }
                    }
                    Some(Ok(Event::Lag { count, .. })) => lost += count,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(failed("deliveries")(&error)),
                    None => return Err(BenchError::Closed { peer: "the node" }),
                }
            }
            Ok((latency, lost))
        };
        let both = async { tokio::try_join!(publishing, receiving) };
        let limit = span.warmup + span.measured + TAIL_MAX;
        let ((slip, _), (latency, lost)) =
            tokio::time::timeout(limit, both)
                .await
                .map_err(|_| BenchError::Silence {
                    waited: TAIL_MAX,
                    in_flight: 1,
                })??;
        let wall = started.elapsed().as_secs_f64();
        let cpu_share = thread_cpu().saturating_sub(cpu_before).as_secs_f64() / wall.max(1e-9);
        let mut run = run(latency, span.measured, lost, cpu_share);
        let slip = slip.summary();
        run.generator.slip_p50_us = slip.p50_us;
        run.generator.slip_p99_us = slip.p99_us;
        run.generator.slip_max_us = slip.max_us;
        client.close().await;
        Ok(run)
    })
}

async fn connect(config: ClientConfig) -> Result<Client, BenchError> {
    Client::connect(config)
        .await
        .map_err(|e| failed("connecting")(&e))
}

enum Question {
    Ping {
        client: Client,
        cores: u16,
    },
    Cache {
        cache: Cache,
        keys: Vec<Vec<u8>>,
        value: Vec<u8>,
        get_below: u64,
    },
}

impl Question {
    async fn new(client: Client, ask: &Ask) -> Result<Self, BenchError> {
        match ask {
            Ask::Ping { .. } => Ok(Self::Ping {
                cores: client.data_cores().max(1),
                client,
            }),
            Ask::Cache(load) => Self::cache(&client, load).await,
        }
    }

    async fn cache(client: &Client, load: &CacheLoad) -> Result<Self, BenchError> {
        let cache = client
            .cache("bench/cache")
            .await
            .map_err(|e| failed("OPEN")(&e))?;
        let value = vec![0x5a; load.value_bytes];
        let keys: Vec<_> = (0..load.keys.max(1)).map(key).collect();
        for key in &keys {
            cache
                .set(key.clone(), value.clone())
                .await
                .map_err(|e| failed("SET")(&e))?;
        }
        Ok(Self::Cache {
            cache,
            keys,
            value,
            get_below: threshold(load.get_share),
        })
    }

    async fn ask(&self, random: &mut Random) -> Result<(), BenchError> {
        match self {
            Self::Ping { client, cores } => {
                let core = random.below(usize::from(*cores));
                let core = CoreId(u16::try_from(core).unwrap_or(0));
                client.ping(core).await.map_err(|e| failed("PING")(&e))?;
            }
            Self::Cache {
                cache,
                keys,
                value,
                get_below,
            } => {
                let key = &keys[random.below(keys.len())];
                if random.next() <= *get_below {
                    let hit = cache.get(key).await.map_err(|e| failed("GET")(&e))?;
                    if hit.is_none() {
                        return Err(BenchError::Options("GET: a stored key is gone".to_owned()));
                    }
                } else {
                    cache
                        .set(key.clone(), value.clone())
                        .await
                        .map_err(|e| failed("SET")(&e))?;
                }
            }
        }
        Ok(())
    }
}

async fn ask_on(
    question: Arc<Question>,
    seed: u64,
    started: Instant,
    span: Span,
) -> Result<Latency, BenchError> {
    let mut random = Random::new(seed);
    let mut latency = Latency::default();
    let end = started + span.warmup + span.measured;
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(latency);
        }
        question.ask(&mut random).await?;
        let now = Instant::now();
        // What is answered within the span counts, so that the rate is right.
        if now >= started + span.warmup && now <= end {
            latency.record(nanos(now - sent));
        }
    }
}

fn run(latency: Latency, elapsed: Duration, lost: u64, cpu_share: f64) -> Run {
    Run {
        completed: latency.summary().count,
        elapsed,
        latency,
        lost,
        generator: Generator {
            cpu_share,
            // It sleeps when there is nothing to do, so its processor time is its work.
            busy_share: cpu_share,
            ..Generator::default()
        },
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "nanoseconds of one run are far below 2^53"
)]
fn intended(sent: u64, rate: f64) -> u64 {
    (sent as f64 * 1e9 / rate.max(1e-3)) as u64
}

/// How many intended times lie before `end`.
fn expected(rate: f64, end: u64) -> u64 {
    let (mut low, mut high) = (0, u64::from(u32::MAX));
    while low < high {
        let middle = low + (high - low) / 2;
        if intended(middle, rate) < end {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_records_are_awaited_as_are_sent_before_the_end() {
        assert_eq!(expected(10_000.0, 1_000_000_000), 10_000);
        assert_eq!(expected(3.0, 1_000_000_000), 3);
        assert_eq!(expected(3.0, 1), 1);
        assert_eq!(expected(3.0, 0), 0);
    }
}
