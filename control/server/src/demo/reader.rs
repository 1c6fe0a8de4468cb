//! One subscriber: writes down everything it sees.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use pinion_client::{Event, Subscription};
use tokio::sync::{mpsc, watch};

use super::check::{Place, Saw};

/// Records taken at once.
const BATCH: usize = 64;
/// How long nothing may come, once everything is published, before a subscriber
/// gives up and leaves it to the checker to say what is missing.
const QUIET_MAX: Duration = Duration::from_secs(10);
/// Longest latency that is told apart: one minute, in ns.
const LATENCY_MAX: u64 = 60_000_000_000;
/// The header with the row number.
pub(super) const ROW_HEADER: &str = "row";

/// When each row is meant to be published. Latency counts from there, so that a
/// publisher that falls behind hides nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) rate: u32,
}

impl Schedule {
    pub(super) fn due(self, row: usize) -> Instant {
        // Multiplied before divided, so that the rate does not drift.
        let nanos = row as u128 * 1_000_000_000 / u128::from(self.rate);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// How a subscriber behaves.
pub(super) struct Reader {
    pub(super) schedule: Schedule,
    /// The end of each partition, known once everything is acknowledged.
    pub(super) ends: watch::Receiver<Option<Vec<u64>>>,
    /// Records a second it takes while publishing goes on; `None` is no bound.
    pub(super) pace: Option<f64>,
    /// Stops, as if killed, after so many records.
    pub(super) killed_after: Option<usize>,
    /// Where each record goes on to.
    pub(super) forward: Option<mpsc::Sender<(Bytes, Bytes)>>,
}

/// What a subscriber wrote down.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) saw: Vec<Saw>,
    /// From the intended time of publishing, in ns.
    pub(super) latency: Histogram<u64>,
}

impl Reader {
    pub(super) async fn run(mut self, mut subscription: Subscription, rows: usize) -> Seen {
        let mut seen = Seen {
            saw: Vec::with_capacity(rows),
            latency: Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("constant bounds"),
        };
        let mut next: Vec<u64> = Vec::new();
        let mut records = 0;
        while !self.is_done(&next) {
            let published = self.ends.borrow().is_some();
            let events = tokio::select! {
                events = subscription.next_batch(BATCH) => events,
                changed = self.ends.changed() => match changed {
                    Ok(()) => continue,
                    // The demo itself has failed.
                    Err(_) => break,
                },
                () = quiet(published) => break,
            };
            let now = Instant::now();
            let events = match events {
                Some(Ok(events)) => events,
                Some(Err(error)) => {
                    seen.saw.push(Saw::Other(error.to_string()));
                    break;
                }
                None => break,
            };
            let taken = events.len();
            for event in events {
                if self.killed_after.is_some_and(|most| records >= most) {
                    return seen;
                }
                let saw = describe(&event);
                let position = match &saw {
                    Saw::Record { place, row, .. } => {
                        records += 1;
                        if let Some(row) = *row {
                            let due = self.schedule.due(row);
                            let latency = now.saturating_duration_since(due).as_nanos();
                            let latency = u64::try_from(latency).unwrap_or(LATENCY_MAX);
                            seen.latency.saturating_record(latency.max(1));
                        }
                        Some((place.partition, place.offset + 1))
                    }
                    Saw::Lag { partition, to, .. } => Some((*partition, *to)),
                    Saw::Other(_) => None,
                };
                if let Some((partition, position)) = position {
                    let partition = usize::from(partition);
                    if next.len() <= partition {
                        next.resize(partition + 1, 0);
                    }
                    next[partition] = next[partition].max(position);
                }
                seen.saw.push(saw);
                if let (Event::Record(record), Some(forward)) = (event, &self.forward) {
                    // It fails when the keeper has given up, which says why itself.
                    let _ = forward.send((record.key, record.value)).await;
                }
            }
            self.rest(taken).await;
        }
        seen
    }

    fn is_done(&self, next: &[u64]) -> bool {
        let ends = self.ends.borrow();
        ends.as_ref().is_some_and(|ends| {
            let position = |partition: usize| next.get(partition).copied().unwrap_or(0);
            ends.iter().enumerate().all(|(p, end)| position(p) >= *end)
        })
    }

    /// What makes a slow subscriber slow; it hurries when all is published.
    async fn rest(&mut self, taken: usize) {
        let Some(pace) = self.pace else { return };
        if self.ends.borrow().is_some() {
            return;
        }
        #[allow(clippy::cast_precision_loss)] // at most BATCH
        let rest = Duration::from_secs_f64(taken as f64 / pace);
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _ = self.ends.changed() => {}
        }
    }
}

/// Ends after [`QUIET_MAX`], counted only once everything is published.
async fn quiet(published: bool) {
    if !published {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(QUIET_MAX).await;
}

pub(super) fn describe(event: &Event) -> Saw {
    match event {
        Event::Record(record) => Saw::Record {
            place: Place {
                partition: record.partition.0,
                offset: record.offset.0,
            },
            row: row_of(record.header(ROW_HEADER)),
            key: record.key.clone(),
            value: record.value.clone(),
        },
        Event::Lag {
            partition,
            from,
            to,
            count,
            ..
        } => Saw::Lag {
            partition: partition.0,
            from: from.0,
            to: to.0,
            count: *count,
        },
        other => Saw::Other(format!("{other:?}")),
    }
}

/// The number in a row header.
pub(super) fn row_of(header: Option<&[u8]>) -> Option<usize> {
    std::str::from_utf8(header?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_does_not_drift() {
        let start = Instant::now();
        let schedule = Schedule { start, rate: 3 };
        assert_eq!(schedule.due(0), start);
        assert_eq!(schedule.due(3_000), start + Duration::from_secs(1_000));
    }
}
